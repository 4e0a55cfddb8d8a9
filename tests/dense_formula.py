"""The formula of objectives that see all items in NumPy: dense matrices, float64, and no tiles.

What a batch is of is worked out here as well, from the words of the random stream.
"""

from typing import NamedTuple

import numpy as np
from formula import (
    GROUP_SLOT,
    KEEP_RIGHT_SLOT,
    KEEP_SLOT,
    draw,
    find_window_pairs,
    keep_items,
    pick,
)  # fmt: skip
from samples import slots_of

from itembed_gpu import ListedTask, SupervisedTask, UnsupervisedTask
from itembed_gpu.objective.pairs import LISTED, NEIGHBOUR

NORMALIZED_SLOT = GROUP_SLOT + (1 << 62)
NUM_LEFT, NUM_RIGHT, NUM_ITEMSET, DIM = 14, 11, 12, 5
SEED = (5 << 32) | 2
KINDS = ["unsupervised", "supervised", "listed"]


def make_itemsets(num_label, min_length, seed):
    """Packed itemsets, with items that occur several times in one."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(min_length, 6, NUM_ITEMSET)
    offsets = np.append(0, np.cumsum(lengths))
    # The last one own never.
    return generator.integers(0, num_label - 1, offsets[-1]).astype(np.int32), offsets


def make_tables(num_right, seed=3):
    generator = np.random.default_rng(seed)
    return [
        generator.normal(0, 0.7, (num, DIM)).astype(np.float32) for num in (NUM_LEFT, num_right)
    ]


def make_task(kind, *, tables=None, **options):
    """Make a task of a few itemsets, three batches an epoch."""
    options = {"loss": "softmax", "seed": SEED, "num_threads": 1, "batch_size": 4, **options}
    if kind == "unsupervised":
        packed = make_itemsets(NUM_LEFT, 2, 1)
        return UnsupervisedTask(*packed, *(tables or make_tables(NUM_LEFT)), **options)
    tables = tables or make_tables(NUM_RIGHT)
    if kind == "supervised":
        sides = *make_itemsets(NUM_LEFT, 1, 1), *make_itemsets(NUM_RIGHT, 1, 2)
        return SupervisedTask(*sides, *tables, **options)
    generator = np.random.default_rng(4)
    sides = (generator.integers(0, num - 1, NUM_ITEMSET) for num in (NUM_LEFT, NUM_RIGHT))
    return ListedTask(*sides, *tables, **options)


def weights_of(kind):
    """Weights for a task: some negative, some 0."""
    values = np.random.default_rng(6).uniform(-0.5, 2, 100)
    values[::4] = 0
    if kind == "unsupervised":
        return {"weights": values[: len(make_itemsets(NUM_LEFT, 2, 1)[0])]}
    if kind == "listed":
        return {"values": values[:NUM_ITEMSET]}
    left, right = make_itemsets(NUM_LEFT, 1, 1)[0], make_itemsets(NUM_RIGHT, 1, 2)[0]
    return {"left_weights": values[: len(left)], "right_weights": values[: len(right)][::-1]}


# ------------------------------------------------------------------- a batch


class Queries(NamedTuple):
    """What is compared, as dense matrices with a row for each query."""

    bags: np.ndarray  # num_left: weights of the left rows that it is made of
    targets: np.ndarray  # num_right: weights of its targets
    own: np.ndarray  # num_right: whether a row is one of them, of whatever weight
    sums: np.ndarray  # num_right: how many rows each stands for in its sum; 0 is left out
    touched: np.ndarray  # right rows that take a step, whatever their gradient
    penalties: np.ndarray  # num_query: factors on the squares of the logarithms of the sums
    num_pair: int
    num_dropped: int


def unpack(batch, counts, num_left, num_right):
    """Make dense matrices of what `Batches.draw` returns."""

    def dense(sums, num_column):
        matrix = np.zeros((len(sums), num_column))
        rows = np.repeat(np.arange(len(sums)), np.diff(sums.offsets))
        np.add.at(matrix, (rows, sums.indices), sums.weights)
        return matrix

    used = np.arange(num_right) if batch.right_rows is None else batch.right_rows
    bags = dense(batch.bags, num_left)
    if batch.queries is not None:
        bags = dense(batch.queries, len(bags)) @ bags + dense(batch.own, num_left)
    targets, sums, own = np.zeros((3, counts.queries, num_right))
    targets[batch.target_queries, used[batch.target_rows]] = batch.target_weights
    own[batch.target_queries, used[batch.target_rows]] = 1
    for tile in batch.tiles:
        rows = used[tile.start : tile.stop]
        rows = rows if tile.columns is None else rows[tile.columns]
        assert (sums[:, rows] == 0).all()  # in one tile each
        sums[:, rows] = 1 if tile.bias is None else np.exp(tile.bias)
        sums[tile.masked_queries, rows[tile.masked_columns]] = 0
    penalties = np.zeros(counts.queries) if batch.penalties is None else batch.penalties
    parts = bags, targets, own > 0, sums, np.unique(used), penalties
    return Queries(*parts, counts.pairs, counts.dropped)


def expect_queries(task, epoch, batch, stream=0):
    """Work out the queries of a batch."""
    problem, pooled = task._problem, task.options.pooling == "mean"
    pairs, num_batch = problem.pairs, len(task)
    kept = kept_and_out(task, epoch, stream)
    places = [] if pooled else find_pairs(task, epoch, stream)
    num_unit = len(pairs.left_offsets) - 1 if pooled else len(places)
    order = slots_of(task.seed, stream, epoch, num_unit).astype(np.int64)
    units = order[num_unit * batch // num_batch : num_unit * (batch + 1) // num_batch]
    queries, itemsets, origins, num_pair, num_unkept = [], [], [], 0, 0
    for unit in units:
        found = of_itemset(task, unit, kept) if pooled else of_pair(task, *places[unit], kept)
        found, itemset, count, total = found
        queries += found
        itemsets += [itemset] * len(found)
        origins += [unit] * len(found)
        num_pair += count
        num_unkept += total - count
    size = (len(queries), len(problem.right))
    bags, targets = np.zeros((len(queries), len(problem.left))), np.zeros(size)
    own = np.zeros(size, dtype=bool)
    for n, (bag, wanted) in enumerate(queries):
        for row, weight in bag:
            bags[n, row] += weight
        for row, weight in wanted:
            targets[n, row] += weight
            own[n, row] = True
    sums = np.ones(size)
    touched = np.arange(size[1])
    if task.num_negative is not None:
        stands_for = draw_sum(task, epoch, stream, batch)
        touched = np.flatnonzero((stands_for > 0) | own.any(axis=0))
        sums *= stands_for
        sums[own] = 0  # and there as they are
    if task.options.reject_itemset:
        for n, itemset in enumerate(itemsets):
            sums[n, pairs.right_items[slice(*pairs.right_offsets[itemset : itemset + 2])]] = 0
    penalties = draw_penalties(task, epoch, stream, origins) * abs(targets).sum(axis=1)
    return Queries(bags, targets, own, sums, touched, penalties, num_pair, num_unkept)


def draw_penalties(task, epoch, stream, units):
    """Draw which itemsets, or pairs, are penalised, and by how much on average."""
    options = task.options
    slots = np.array(units, dtype=np.uint64) + np.uint64(NORMALIZED_SLOT)
    drawn = draw(task, epoch, stream, slots, 0) < options.normalized_share * 2.0**32
    return options.self_normalization / options.normalized_share * drawn


def draw_sum(task, epoch, stream, batch):
    """Draw what a batch is compared with, and how many rows each of them stands for."""
    count, objective = task.num_negative, task._problem.objective
    num_right = len(task._problem.right)
    numbers = range(count)
    slot = [GROUP_SLOT + batch]
    words = np.concatenate([draw(task, epoch, stream, slot, number) for number in numbers])
    times = np.bincount(pick(task, words), minlength=num_right)
    shares = np.ones(num_right)
    if objective.thresholds is not None:
        shares = np.bincount(task._problem.pairs.right_items, minlength=num_right)
        shares = shares**task.options.noise_exponent
    shares = shares / shares.sum()
    return np.divide(times, count * shares, out=np.zeros(num_right), where=times > 0)


def kept_and_out(task, epoch, stream):
    """Which occurrences are kept, of the left and the right, and which are out of their bag."""
    pairs, num_left, num_right = task._problem.pairs, *map(len, (task._tables[0], task._tables[-1]))
    first = KEEP_SLOT if task._problem.within else KEEP_RIGHT_SLOT
    left = keep_items(task, epoch, stream, pairs.left_items, num_left, KEEP_SLOT)
    right = keep_items(task, epoch, stream, pairs.right_items, num_right, first)
    slots = np.uint64(KEEP_SLOT) + np.arange(len(pairs.left_items), dtype=np.uint64)
    return left, right, draw(task, epoch, stream, slots, 1) < task.options.dropout * 2.0**32


def _weights(weights, items):
    return weights.astype(np.float64) if len(weights) else np.ones(len(items))


def find_pairs(task, epoch, stream):
    """Positions of each slot's left and right items, and its itemset."""
    pairs = task._problem.pairs
    if task._problem.source == LISTED:
        return [(n, n, -1) for n in range(len(pairs.left_items))]
    if task.options.window is not None:
        return find_window_pairs(task, epoch, stream).T.tolist()
    found = []
    for i in range(len(pairs.left_offsets) - 1):
        both = pairs.left_offsets, pairs.right_offsets
        lefts, rights = (range(*offsets[i : i + 2]) for offsets in both)
        for left in lefts:
            if task._problem.source == NEIGHBOUR:
                others = [right for right in rights if right != left]
                word = int(draw(task, epoch, stream, [left], 0)[0])
                found.append((left, others[word * len(others) >> 32], i))
            else:
                found += [(left, right, i) for right in rights]
    return found


def of_pair(task, left, right, itemset, kept):
    """Find the query of a pair: queries, its itemset, and how many there are and could be."""
    pairs, (left_kept, right_kept, _) = task._problem.pairs, kept
    if not (left_kept[left] and right_kept[right]):
        return [], itemset, 0, 1
    weight = _weights(pairs.left_weights, pairs.left_items)[left]
    weight *= _weights(pairs.right_weights, pairs.right_items)[right]
    query = [(pairs.left_items[left], 1.0)], [(pairs.right_items[right], weight)]
    return [query], itemset, 1, 1


def of_itemset(task, itemset, kept):
    """The same for an itemset."""
    pairs, targets = task._problem.pairs, task.options.targets
    left_kept, right_kept, out = kept
    both = pairs.left_offsets, pairs.right_offsets
    lefts, rights = (range(*offsets[itemset : itemset + 2]) for offsets in both)
    weights = _weights(pairs.left_weights, pairs.left_items)
    bag = [p for p in lefts if left_kept[p] and not out[p] and weights[p]]
    wanted = [p for p in rights if right_kept[p]]
    if targets == "dropped":
        wanted = [p for p in wanted if out[p]]
    of_right = _weights(pairs.right_weights, pairs.right_items)
    aims = [(pairs.right_items[p], of_right[p]) for p in wanted]
    if targets != "others":
        whole = mean(pairs.left_items, weights, bag)
        queries = [(whole, aims)] if whole and aims else []
        return queries, itemset, len(aims) if queries else 0, len(rights)
    rests = [mean(pairs.left_items, weights, [p for p in bag if p != own]) for own in wanted]
    queries = [(rest, [aim]) for rest, aim in zip(rests, aims, strict=True) if rest]
    return queries, itemset, len(queries), len(rights)


def mean(items, weights, positions):
    """Rows of a weighted mean, and their shares."""
    total = sum(abs(weights[p]) for p in positions)
    return [(items[p], weights[p] / total) for p in positions]


# ------------------------------------------------------------- loss and step


def dense_loss(left, right, queries, options):
    """The loss of a batch; tables may be complex."""
    vectors = queries.bags @ left
    if options.similarity == "cosine":
        vectors, right = _unit(vectors), _unit(right)
    logits = vectors @ right.T / options.temperature
    largest = logits.real.max(axis=1, keepdims=True)
    powers = np.exp(logits - largest)
    totals = (queries.sums * powers).sum(axis=1, keepdims=True)
    if options.reject_itemset:  # each target joins alone
        totals = totals + powers
    elif options.num_negative is not None:
        totals = totals + np.where(queries.own, powers, 0).sum(axis=1, keepdims=True)
    log_sums = np.log(totals) + largest
    loss = (queries.targets * (options.sum_scale * log_sums - logits)).sum()
    return loss + queries.penalties @ (log_sums**2)[:, 0]


def _unit(rows):
    squares = (rows * rows).sum(axis=1, keepdims=True)
    return rows / np.sqrt(np.where(abs(squares) < 1e-30, 1, squares))


def differentiate(loss, table):
    """Gradient by a complex step, which is a finite difference that nothing is subtracted in.

    Martins, Sturdza and Alonso, "The complex-step derivative approximation", 2003.
    """
    gradient = np.zeros(table.shape)
    for place in np.ndindex(table.shape):
        moved = table.astype(np.complex128)
        moved[place] += 1e-30j
        gradient[place] = loss(moved).imag / 1e-30
    return gradient


def take_step(table, state, rows, gradient, options, rate):
    """Move some rows of a table; the state is a dict."""
    for row in rows:
        g, factor = gradient[row], rate
        if options.optimizer == "adagrad":
            state["sum"][row] += np.mean(g**2)
            factor = rate / np.sqrt(state["sum"][row] + 1e-10) if state["sum"][row] else 0.0
        step = factor * g
        if options.optimizer == "adam":
            state["steps"][row] += 1
            state["mean"][row] += 0.1 * (g - state["mean"][row])
            state["square"][row] += 0.001 * (g**2 - state["square"][row])
            unbiased = state["mean"][row] / (1 - 0.9 ** state["steps"][row])
            size = np.sqrt(state["square"][row] / (1 - 0.999 ** state["steps"][row]))
            step = rate * unbiased / (size + 1e-8)
        table[row] = (table[row] - step) / (1 + abs(factor) * options.l2)


def make_state(table):
    """What optimisers keep of a table."""
    zeros = np.zeros(len(table))
    return {
        "sum": zeros,
        "steps": zeros.copy(),
        "mean": np.zeros(table.shape),
        "square": np.zeros(table.shape),
    }


def take_batch(tables, states, queries, options, rate):
    """Train a batch: the right rows, then the left ones. Return the loss before."""
    left, right = tables[0].copy(), tables[-1].copy()
    by_left = differentiate(lambda moved: dense_loss(moved, right, queries, options), left)
    by_right = differentiate(lambda moved: dense_loss(left, moved, queries, options), right)
    if options.update_right:
        take_step(tables[-1], states[-1], queries.touched, by_right, options, rate)
    if options.update_left:
        rows = np.flatnonzero(queries.bags.any(axis=0))
        take_step(tables[0], states[0], rows, by_left, options, rate)
    return dense_loss(left, right, queries, options).real

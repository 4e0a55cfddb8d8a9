"""The formula of an epoch in NumPy, and tasks to compare with it."""

import functools
import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from samples import random_itemsets, random_tables, slots_of

from itembed_gpu import SupervisedTask, UnsupervisedTask
from itembed_gpu.objective.constants import MAX_REDRAW, SPAN
from itembed_gpu.objective.rng import philox_words


def numpy_step(table, state, row, gradient, rate, decay, read=None, bound=np.inf):
    """Move one row, the learning rate of which is in its gradient already but for Adagrad."""
    step = 1.0
    if state is not None:
        state[row] += np.mean(gradient**2)
        step = rate / np.sqrt(state[row] + 1e-10) if state[row] else 0.0
    step = np.clip(step, -bound, bound)
    shrunk = 1 / (1 + abs(step) * decay)
    table[row] += step * gradient - (1 - shrunk) * (table[row] if read is None else read)


def numpy_update(
    syn_left, left, syn_right, targets, scale, *, rate=1.0, states=(None, None), corrections=None,
    l2=0.0, updated=(True, True), bag=None, positive_weight=1.0, hinge=False,
    max_step=0.0,
):  # fmt: skip
    """Expected tables and loss: rows are read a span of targets at a time, u once.

    Accumulators change in place. A bag is its rows and their shares.
    """
    tables = [syn_left.astype(np.float64)]
    tables.append(tables[0] if syn_right is syn_left else syn_right.astype(np.float64))
    u = tables[0][left].copy() if bag is None else bag[1] @ tables[0][bag[0]]
    decay = abs(scale) * l2
    delta, loss = np.zeros_like(u), 0.0
    for first in range(0, len(targets), SPAN):
        span = targets[first : first + SPAN]
        rows = tables[1][span].copy()
        labels = np.arange(first, first + len(span)) == 0
        logits = rows @ u - (0 if corrections is None else corrections[span])
        factors = np.where(labels, positive_weight, 1.0)
        wrong = np.where(labels, -logits, logits)
        loss += factors @ (np.maximum(1 + wrong, 0) if hinge else np.log1p(np.exp(wrong)))
        slopes = labels - 1 / (1 + np.exp(-logits))
        if hinge:
            slopes = np.where(wrong > -1, 2.0 * labels - 1, 0.0)
        gradients = scale * factors * slopes
        delta += gradients @ rows
        if updated[1]:
            bound = np.inf
            if max_step:
                curvature = abs(scale) * np.bincount(span).max() * max(1, positive_weight)
                bound = max_step / (curvature * (u @ u) + 1e-10)
            for target, gradient in zip(span, gradients, strict=True):
                numpy_step(tables[1], states[1], target, gradient * u, rate, decay, bound=bound)
    if updated[0] and bag is None:
        numpy_step(tables[0], states[0], left, delta, rate, decay, u)
    elif updated[0]:
        for row, share in zip(*bag, strict=True):
            numpy_step(tables[0], states[0], row, share * delta, rate, decay)
    return *tables, loss


# As in test_kernels, whose emulated kernels these are as well.
K = 5
SEED = (9 << 32) | 3
NUM_LEFT, NUM_RIGHT = 40, 30
NUM_ITEMSET = 150
KEEP_SLOT, KEEP_RIGHT_SLOT, GROUP_SLOT = 1 << 62, (1 << 62) + (1 << 61), 1 << 63


def skewed_itemsets(num_label, min_length, max_length, seed):
    """Packed itemsets in which label i occurs like 1 / (i + 1), and the last four never."""
    offsets = random_itemsets(1, NUM_ITEMSET, min_length, max_length, seed)[1]
    weights = 1 / np.arange(1, num_label - 3)
    generator = np.random.default_rng(seed)
    items = generator.choice(num_label - 4, offsets[-1], p=weights / weights.sum())
    return items.astype(np.int32), offsets


def make_task(kind, *, tables=None, **options):
    """Make a task whose itemsets have several items on each side, the same ones over and over."""
    options = {"num_negative": K, "seed": SEED, "num_threads": 1, **options}
    if kind == "unsupervised":
        tables = tables or random_tables(NUM_LEFT)
        return UnsupervisedTask(*skewed_itemsets(NUM_LEFT, 2, 5, 1), *tables, **options)
    left, right = skewed_itemsets(NUM_LEFT, 1, 3, 1), skewed_itemsets(NUM_RIGHT, 1, 3, 2)
    return SupervisedTask(*left, *right, *(tables or random_tables(NUM_LEFT, NUM_RIGHT)), **options)


class Epoch(NamedTuple):
    """Every pair of an epoch, in the order of the slots."""

    left: np.ndarray  # n: positions in the packed array; itemsets where they are pooled
    right: np.ndarray  # n: positions
    rows: np.ndarray  # n: rows of the right items
    kept: np.ndarray  # n: whether the pair is trained
    negatives: np.ndarray  # (n, k)
    trained: np.ndarray  # (n, k): whether the negative is
    left_kept: np.ndarray  # of each position
    bags: list  # n: positions of each pair's left items that are kept, where they are pooled


def draw(task, epoch, stream, slots, number):
    """Draw so-and-so-many of each slot."""
    low = 0xFFFFFFFF
    slots = np.asarray(slots, dtype=np.uint64)
    counter = (slots & low, slots >> 32, epoch, stream << 16 | number // 4)
    return np.asarray(philox_words(counter, (task.seed & low, task.seed >> 32))[number % 4])


def pick(task, words):
    """Turn words into rows of the noise, by the alias table."""
    objective, num_right = task._problem.objective, len(task._problem.syn_right)
    products = words * num_right
    rows = (products >> 32).astype(np.int64)
    if objective.thresholds is None:
        return rows
    stay = (products & 0xFFFFFFFF) < objective.thresholds[rows]
    return np.where(stay, rows, objective.aliases[rows])


def numbered(first, count):
    """Slots first ... first + count - 1, of which NumPy cannot make a range."""
    return np.uint64(first) + np.arange(count, dtype=np.uint64)


def keep_items(task, epoch, stream, items, num_label, first):
    """Which occurrences are kept: those whose word is under min(1, sqrt(t / f))."""
    threshold = task.options.subsample
    if threshold == 0:
        return np.ones(len(items), dtype=bool)
    shares = np.bincount(items, minlength=num_label)[items] / len(items)
    bounds = np.minimum(1, np.sqrt(threshold / shares)) * 2.0**32
    return draw(task, epoch, stream, numbered(first, len(items)), 0) < np.floor(bounds)


def window_pairs(length, window):
    """All pairs of an itemset, each as often as word2vec makes it in `window` epochs."""
    forward = [
        (place, place + distance)
        for distance in range(1, min(window, length - 1) + 1)
        for place in range(length - distance)
        for _ in range(window - distance + 1)
    ]
    return forward + [pair[::-1] for pair in forward]


def find_window_pairs(task, epoch, stream):
    """The same as `find_pairs`: each slot draws from its share of all pairs."""
    offsets, window = task._problem.pairs.left_offsets, task.options.window
    places = []
    for itemset, (first, end) in enumerate(itertools.pairwise(offsets)):
        units = window_pairs(int(end - first), window)
        count = math.floor(Fraction(len(units), window) + Fraction(1, 2))
        words = draw(task, epoch, stream, np.arange(len(places), len(places) + count), 0)
        for rank, word in enumerate(words):
            share = Fraction(len(units), count)
            left, right = units[math.floor((rank + Fraction(int(word), 1 << 32)) * share)]
            places.append((first + left, first + right, itemset))
    return np.array(places).T


def find_pairs(task, epoch, stream):
    """Positions of each slot's left and right items, and its itemset."""
    pairs, mean = task._problem.pairs, task.options.pooling == "mean"
    if task._problem.within:
        left = np.arange(len(pairs.left_items))
        itemsets = np.searchsorted(pairs.left_offsets, left, side="right") - 1
        if mean:
            return itemsets, left, itemsets
        if task.options.window is not None:
            return find_window_pairs(task, epoch, stream)
        first = pairs.left_offsets[itemsets]
        others = (pairs.left_offsets[itemsets + 1] - first - 1).astype(np.uint64)
        chosen = first + ((draw(task, epoch, stream, left, 0) * others) >> 32).astype(np.int64)
        return left, chosen + (chosen >= left), itemsets
    places = [
        (i if mean else left, right, i)
        for i in range(NUM_ITEMSET)
        for left in ([i] if mean else range(*pairs.left_offsets[i : i + 2]))
        for right in range(*pairs.right_offsets[i : i + 2])
    ]
    return np.array(places).T


def find_bags(task, epoch, stream, itemsets, right, left_kept):
    """Positions of the left items that are kept, of each slot whose left side is a mean."""
    pairs, window = task._problem.pairs, task.options.window
    if len(pairs.left_weights):  # what has no weight is not touched
        left_kept = left_kept & (pairs.left_weights != 0)
    bags = []
    for slot, (itemset, own) in enumerate(zip(itemsets, right, strict=True)):
        bag = np.arange(*pairs.left_offsets[itemset : itemset + 2])
        if task._problem.within:
            bag = bag[bag != own]
        if window is not None:
            reach = 1 + (int(draw(task, epoch, stream, [slot], 0)[0]) * window >> 32)
            bag = bag[abs(bag - own) <= reach]
        bags.append(bag[left_kept[bag]])
    return bags


def draw_epoch(task, epoch=0, stream=0):
    """Work out the pairs and negatives of an epoch, without the library's own routines."""
    problem, options = task._problem, task.options
    pairs, num_right = problem.pairs, len(problem.syn_right)
    left, right, itemsets = find_pairs(task, epoch, stream)
    slots, rows = np.arange(len(right)), pairs.right_items[right].astype(np.int64)
    keep = functools.partial(keep_items, task, epoch, stream)
    left_kept = keep(pairs.left_items, len(problem.syn_left), KEEP_SLOT)
    first = KEEP_SLOT if problem.within else KEEP_RIGHT_SLOT
    kept = keep(pairs.right_items, num_right, first)[right]
    bags = []
    if options.pooling == "mean":
        bags = find_bags(task, epoch, stream, itemsets, right, left_kept)
        kept = kept & [len(bag) > 0 for bag in bags]
    else:
        kept = kept & left_kept[left]

    rejects = np.zeros((len(slots), num_right), dtype=bool)
    if options.rejects:
        rejects[slots, rows] = True
    if options.reject_itemset:
        members = np.repeat(np.arange(NUM_ITEMSET), np.diff(pairs.right_offsets))
        banned = np.zeros((NUM_ITEMSET, num_right), dtype=bool)
        banned[members, pairs.right_items] = True
        rejects |= banned[itemsets]
    num_draw = -(-(task.num_negative + 1) // 4) * 4
    negatives = np.empty((len(slots), task.num_negative), dtype=np.int64)
    trained = np.ones(negatives.shape, dtype=bool)
    for n in range(1, task.num_negative + 1):
        if task.negative_sharing > 1:
            order = slots_of(task.seed, stream, epoch, len(slots)).astype(np.int64)
            group = np.empty(len(slots), dtype=np.int64)
            group[order] = slots // task.negative_sharing
            negatives[:, n - 1] = pick(
                task, draw(task, epoch, stream, numbered(GROUP_SLOT, len(slots))[group], n)
            )
            trained[:, n - 1] = ~rejects[slots, negatives[:, n - 1]]
            continue
        words = draw(task, epoch, stream, slots, n)
        chosen = pick(task, words)
        for turn in range(1, MAX_REDRAW + 1) if options.rejects else ():
            again = rejects[slots, chosen]
            words = np.where(again, draw(task, epoch, stream, slots, n + turn * num_draw), words)
            chosen = np.where(again, pick(task, words), chosen)
        if options.rejects:
            other = ((words * (num_right - 1)) >> 32).astype(np.int64)
            chosen = np.where(chosen == rows, other + (other >= rows), chosen)
        negatives[:, n - 1] = chosen
    return Epoch(left, right, rows, kept, negatives, trained, left_kept, bags)


HALF_OF_THEM = np.arange(NUM_RIGHT) % 2 * np.arange(NUM_RIGHT)


def weights_for(kind, zeros=0.1):
    """Weights of both sides, some negative, some 0."""
    generator = np.random.default_rng(8)

    def weights(items):
        values = generator.uniform(-0.5, 2, len(items))
        values[generator.random(len(items)) < zeros] = 0
        return values

    if kind == "unsupervised":
        return {"weights": weights(skewed_itemsets(NUM_LEFT, 2, 5, 1)[0])}
    return {
        "left_weights": weights(skewed_itemsets(NUM_LEFT, 1, 3, 1)[0]),
        "right_weights": weights(skewed_itemsets(NUM_RIGHT, 1, 3, 2)[0]),
    }

"""Batches of objectives that see all items: which rows are pooled, and which are predicted.

A batch is drawn on the host, from the same random stream for every device, as a few sparse
matrices. Its *queries* are vectors that are each compared with all right-hand rows: one of every
itemset, of every target where that is predicted from the others, or of every pair. A query is made
of a *bag* of left rows, and has *targets* among the right rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array
from ..compiling import inlined, kept
from ..objective.arrays import noise_shares
from ..objective.constants import ALWAYS, GROUP_SLOT, KEEP_RIGHT_SLOT, KEEP_SLOT
from ..objective.pairs import LISTED, NEIGHBOUR
from ..objective.rng import slot_block, u64
from ..objective.schedule import epoch_order, fill_slots
from .cpu.pairs import ONE, ZERO, Stream, draw_noise, find_itemset, find_pair
from .protocol import Problem

f32 = np.float32
KEPT_LEFT, KEPT_RIGHT, GROUPED = u64(KEEP_SLOT), u64(KEEP_RIGHT_SLOT), u64(GROUP_SLOT)

# What is predicted: the right items, or of one's own those that are in the bag as well, those that
# are not, and each from the others.
RIGHT, ALL, OUTSIDE, OTHERS = 0, 1, 2, 3
TARGETS = {"all": ALL, "dropped": OUTSIDE, "others": OTHERS}
# Logits of a tile, at most, and its columns, at least.
TILE_LOGITS = 1 << 25
MIN_TILE = 64
# What is left out of the sum over all items: nothing, the query's targets, or all its itemset.
NOTHING, OWN, ITEMSET = 0, 1, 2


class Sums(NamedTuple):
    """Weighted sums of rows: a sparse matrix by its rows."""

    offsets: Int64Array  # num_sum + 1
    indices: Int32Array  # of the rows that are added up
    weights: Float32Array

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Batch(NamedTuple):
    """A step's itemsets: all arrays, so that they can be brought to a device together."""

    bags: Sums  # of left rows
    # Where each item is predicted from the others: a query is its bag times a number, ...
    queries: Sums | None
    own: Sums | None  # ... and with a left row of its own taken out
    bag_queries: Sums | None  # queries of each bag
    left_rows: Int32Array  # left rows, ascending
    lefts: Sums  # of the bags' gradients, and then those of the queries that `own` is of
    right_rows: Int32Array | None  # right rows that are used, ascending; None where all are
    # From here on, a right row is a place among these.
    target_offsets: Int64Array  # num_query + 1
    target_rows: Int32Array  # those of a query are different ones
    target_weights: Float32Array
    target_queries: Int32Array  # query of each
    right_offsets: Int64Array  # by ascending right row: its targets, ...
    right_order: Int32Array  # ... as places among the targets
    tiles: tuple[Tile, ...]


class Tile(NamedTuple):
    """Some of the right rows that queries are compared with: columns of the logits."""

    start: int  # first of its rows, which are those of the columns and of targets between them
    stop: int
    columns: Int32Array | None  # which of its rows are columns, from 0 on; None for all
    bias: Float32Array | None  # what is added to their logits, as they stand for others
    targets: slice  # targets, by ascending right row, that are among its rows
    target_rows: Int32Array  # which of its rows these are
    masked_queries: Int32Array  # what is left out: of the sum of a query ...
    masked_columns: Int32Array  # ... a column


class Counts(NamedTuple):
    """What a batch is of."""

    queries: int
    pairs: int  # targets, some of which may be the same
    dropped: int  # those that were left out, for want of a bag


class Batches:
    """The batches of a problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        options = problem.options
        targets = TARGETS[options.targets] if problem.source == NEIGHBOUR else RIGHT
        self._kind = Kind(problem.source, options.pooling == "mean", targets)
        none = np.empty(0, dtype=np.uint32)
        keep = problem.objective.left_keep, problem.objective.right_keep
        thresholds = (none if side is None else side for side in keep)
        self._kept = Kept(*thresholds, u64(int(options.dropout * 2.0**32)))
        self._shares = noise_shares(problem.objective, len(problem.right))
        # What is left out of the sum: nothing, a query's targets, or all of its itemset.
        self.masks = OWN if options.num_negative is not None else NOTHING
        if options.reject_itemset:
            self.masks = ITEMSET
        # Scratch, that is left as it was found: of each row, its entries, and a place.
        self._counts = np.zeros(max(len(problem.left), len(problem.right)), dtype=np.int64)
        self._places = np.full(len(problem.right), -1, dtype=np.int64)

    @property
    def num_unit(self) -> int:
        """What an epoch's order is of: itemsets where they are pooled, else pairs."""
        problem = self._problem
        return len(problem.pairs.left_offsets) - 1 if self._kind.pooled else problem.num_slot

    def draw(
        self, stream: int, epoch: int, batch: int, start: int, stop: int
    ) -> tuple[Batch, Counts]:
        """Return the batch of this number, of positions start ... stop - 1 of an epoch's order."""
        problem = self._problem
        key = Stream(u64(problem.seed), u64(stream), u64(epoch))
        units = np.empty(stop - start, dtype=np.uint64)
        _fill_units(epoch_order(problem.seed, stream, epoch, self.num_unit), start, units)
        drawn = _draw(problem.pairs, self._kind, key, units, self._kept, self._places)
        bags = Sums(drawn.bag_offsets, drawn.bag_rows, drawn.bag_weights)
        queries = own = bag_queries = None
        entries = bags.indices, _owners(bags), bags.weights
        if self._kind.targets == OTHERS:
            queries, own, bag_queries = _others(drawn)
            places = _owners(own) + np.int32(len(bags))
            both = zip(entries, (own.indices, places, own.weights), strict=True)
            entries = tuple(map(np.concatenate, both))
        left_rows, offsets, order = _group(entries[0], self._counts)
        targets, right_offsets, right_order = _group(drawn.target_rows, self._counts)
        negatives, bias = self._draw_negatives(key, batch)
        used = None if negatives is None else np.union1d(negatives, targets)
        lengths = np.diff(drawn.target_offsets)
        made = Batch(
            bags=bags,
            queries=queries,
            own=own,
            bag_queries=bag_queries,
            left_rows=left_rows,
            lefts=Sums(offsets, entries[1][order], entries[2][order]),
            right_rows=used,
            target_offsets=drawn.target_offsets,
            target_rows=drawn.target_rows if used is None else _places(used, drawn.target_rows),
            target_weights=drawn.target_weights,
            target_queries=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            right_offsets=right_offsets,
            right_order=right_order,
            tiles=tuple(self._tiles(drawn, targets, negatives, bias, used)),
        )
        return made, Counts(len(lengths), drawn.num_pair, drawn.num_dropped)

    def _tiles(
        self, drawn: Drawn, targets: Int32Array, negatives: Any, bias: Any, used: Any
    ) -> Iterator[Tile]:
        """Cut the columns into tiles of as many logits as there is room for."""
        num_row = len(self._problem.right) if used is None else len(used)
        masked_rows, masked_queries = self._mask(drawn, negatives)
        columns = None
        if used is not None:
            # Of right rows, their places among those that are used.
            columns, targets = _places(used, negatives), _places(used, targets)
            masked_rows = _places(used, masked_rows)
        width = max(MIN_TILE, TILE_LOGITS // max(1, len(drawn.query_bags)))
        num_column = num_row if columns is None else len(columns)
        for first in range(0, num_column, width):
            last = min(first + width, num_column)
            start, stop, own = first, last, None
            if columns is not None:
                start = int(columns[first]) if first else 0
                stop = int(columns[last]) if last < num_column else num_row
                own = columns[first:last]
            here = slice(*np.searchsorted(targets, (start, stop)).tolist())
            masked = slice(*np.searchsorted(masked_rows, (start, stop)).tolist())
            out = masked_rows[masked]
            yield Tile(
                start=start,
                stop=stop,
                columns=None if own is None else own - np.int32(start),
                bias=None if bias is None else bias[first:last],
                targets=here,
                target_rows=targets[here] - np.int32(start),
                masked_queries=masked_queries[masked],
                masked_columns=out - np.int32(start) if own is None else _places(own, out),
            )

    def _draw_negatives(self, key: Stream, batch: int) -> tuple[Any, Any]:
        """Draw the rows that the sum runs over, and work out what each of them stands for.

        A row that was drawn c times of n, each time with probability q, stands for c / (n * q).
        """
        problem, count = self._problem, self._problem.options.num_negative
        if count is None:
            return None, None
        objective, num_right = problem.objective, len(problem.right)
        drawn = np.empty(count, dtype=np.int32)
        _fill_drawn(key, batch, num_right, objective.thresholds, objective.aliases, drawn)
        rows, times = np.unique(drawn, return_counts=True)
        expected = count / num_right if self._shares is None else count * self._shares[rows]
        return rows, np.log(times / expected).astype(np.float32)

    def _mask(self, drawn: Drawn, negatives: Int32Array | None) -> tuple[Int32Array, Int32Array]:
        """List what is left out of a query's sum, by row."""
        if self.masks == NOTHING:
            none = np.empty(0, dtype=np.int32)
            return none, none
        places = self._places
        if negatives is None:
            places[:] = 0
        else:
            places[negatives] = 0
        rows, queries = _list_masked(self._problem.pairs, self.masks == ITEMSET, drawn, places)
        places[:] = -1
        order = np.argsort(rows, kind="stable")
        return rows[order], queries[order]


def _places(rows: Int32Array, some: Int32Array) -> Int32Array:
    """Places of some rows among ascending ones."""
    return np.searchsorted(rows, some).astype(np.int32)


def _owners(sums: Sums) -> Int32Array:
    """The sum that each entry is of."""
    return np.repeat(np.arange(len(sums), dtype=np.int32), np.diff(sums.offsets))


def _others(drawn: Drawn) -> tuple[Sums, Sums, Sums]:
    """Return queries by their bags, the rows that are taken out of them, and bags by queries."""
    num_query = len(drawn.query_bags)
    queries = Sums(np.arange(num_query + 1), drawn.query_bags, drawn.query_weights)
    out = drawn.own_rows >= 0
    own = Sums(np.append(0, np.cumsum(out)), drawn.own_rows[out], drawn.own_weights[out])
    # Those of a bag follow each other.
    bounds = np.searchsorted(drawn.query_bags, np.arange(len(drawn.bag_offsets)))
    each = np.arange(num_query, dtype=np.int32)
    return queries, own, Sums(bounds, each, drawn.query_weights)


# --- compiled


class Kind(NamedTuple):
    """How a problem's batches are drawn."""

    source: int  # as of `Problem`
    pooled: bool
    targets: int  # RIGHT, ALL, OUTSIDE or OTHERS


class Kept(NamedTuple):
    """Which occurrences are kept: words under these are."""

    left: npt.NDArray[np.uint32]  # by row; empty where all are
    right: npt.NDArray[np.uint32]
    out: np.uint64  # those under this are left out of their bag


class Drawn(NamedTuple):
    """A batch, entry by entry."""

    bag_offsets: Int64Array
    bag_rows: Int32Array
    bag_weights: Float32Array
    query_bags: Int32Array  # bag of each query
    query_weights: Float32Array  # what its sum is multiplied by
    own_rows: Int32Array  # left row that is taken out of it, or -1
    own_weights: Float32Array  # its weight, negative
    target_offsets: Int64Array
    target_rows: Int32Array
    target_weights: Float32Array
    query_itemsets: Int64Array  # -1 of pairs that are listed
    num_pair: int
    num_dropped: int


@kept()
def _fill_units(order, start, units):
    fill_slots(order, start, len(units), units, np.empty(len(units), dtype=np.int32))


@kept()
def _fill_drawn(key, batch, num_right, thresholds, aliases, rows):
    """Draw a batch's negatives: draw n of the group of the batch's number."""
    slot = GROUPED + u64(batch)
    for n in range(len(rows)):
        if n % 4 == 0:
            words = slot_block(key.seed, key.stream, key.epoch, slot, u64(n // 4))
        rows[n] = draw_noise(words[n % 4], u64(num_right), thresholds, aliases)


@kept()
def _group(rows, counts):
    """Bring entries of a list of rows together, and leave the counts, which are 0, as they are."""
    for row in rows:
        counts[row] += 1
    num_row = 0
    for row in range(len(counts)):
        num_row += counts[row] > 0
    found = np.empty(num_row, dtype=np.int32)
    offsets = np.zeros(num_row + 1, dtype=np.int64)
    place = 0
    for row in range(len(counts)):
        if counts[row] > 0:
            found[place] = row
            offsets[place + 1] = offsets[place] + counts[row]
            counts[row] = offsets[place]
            place += 1
    order = np.empty(len(rows), dtype=np.int32)
    for entry in range(len(rows)):
        row = rows[entry]
        order[counts[row]] = entry
        counts[row] += 1
    for row in found:
        counts[row] = 0
    return found, offsets, order


@inlined
def _words(key, slot):
    """Draws of an occurrence: whether it is kept, and whether it is left out of its bag."""
    kept_word, out_word, _, _ = slot_block(key.seed, key.stream, key.epoch, slot, u64(0))
    return kept_word, out_word


@inlined
def _is_kept(keep, item, word):
    return len(keep) == 0 or keep[item] == ALWAYS or word < u64(keep[item])


@kept()
def _draw(pairs, kind, key, units, kept, places):
    """Draw the bags and targets of some itemsets, or pairs."""
    num_left, num_right = 0, 0
    for unit in units:
        u = np.int64(unit)
        num_left += pairs.left_offsets[u + 1] - pairs.left_offsets[u] if kind.pooled else 1
        num_right += pairs.right_offsets[u + 1] - pairs.right_offsets[u] if kind.pooled else 1
    most = num_right if kind.targets == OTHERS else len(units)
    bags = (
        np.zeros(len(units) + 1, dtype=np.int64),
        np.empty(num_left, dtype=np.int32),
        np.empty(num_left, dtype=np.float32),
    )
    queries = (
        np.empty(most, dtype=np.int32),
        np.ones(most, dtype=np.float32),
        np.empty(most, dtype=np.int32),
        np.zeros(most, dtype=np.float32),
        np.empty(most, dtype=np.int64),
    )
    targets = (
        np.zeros(most + 1, dtype=np.int64),
        np.empty(num_right, dtype=np.int32),
        np.empty(num_right, dtype=np.float32),
    )
    out = np.empty(num_left, dtype=np.bool_)
    num_bag, num_query, num_pair, num_dropped = 0, 0, 0, 0
    for unit in units:
        u = np.int64(unit)
        if not kind.pooled:
            done = _draw_pair(pairs, kind, key, u, kept, num_bag, bags, queries, targets)
            total = 1
        elif kind.targets == OTHERS:
            first, total = num_query, pairs.left_offsets[u + 1] - pairs.left_offsets[u]
            num_query += _draw_others(
                pairs, key, u, kept, (num_bag, num_query), bags, queries, targets
            )
            done = num_query - first
        else:
            total = pairs.right_offsets[u + 1] - pairs.right_offsets[u]
            done = _draw_bag(
                pairs, kind, key, u, kept, num_bag, bags, queries, targets, (out, places)
            )
        num_bag += done > 0
        num_pair += done
        num_dropped += total - done
        if kind.targets != OTHERS:
            num_query = num_bag
    num_entry, num_target = bags[0][num_bag], targets[0][num_query]
    return Drawn(
        bags[0][: num_bag + 1],
        bags[1][:num_entry],
        bags[2][:num_entry],
        queries[0][:num_query],
        queries[1][:num_query],
        queries[2][:num_query],
        queries[3][:num_query],
        targets[0][: num_query + 1],
        targets[1][:num_target],
        targets[2][:num_target],
        queries[4][:num_query],
        num_pair,
        num_dropped,
    )


@inlined
def _draw_pair(pairs, kind, key, slot, kept, place, bags, queries, targets):
    """Draw a pair: a bag of one left row, with one target; return how many it is."""
    word, _, _, _ = slot_block(key.seed, key.stream, key.epoch, u64(slot), u64(0))
    left, right = find_pair(pairs, kind.source, slot, word)
    item, target = pairs.left_items[left], pairs.right_items[right]
    same = kind.source == NEIGHBOUR
    left_word, _ = _words(key, KEPT_LEFT + u64(left))
    right_word, _ = _words(key, (KEPT_LEFT if same else KEPT_RIGHT) + u64(right))
    if not (_is_kept(kept.left, item, left_word) and _is_kept(kept.right, target, right_word)):
        return 0
    weight = ONE
    if len(pairs.left_weights) > 0:
        weight *= pairs.left_weights[left]
    if len(pairs.right_weights) > 0:
        weight *= pairs.right_weights[right]
    bags[1][place], bags[2][place] = item, ONE
    bags[0][place + 1] = place + 1
    queries[0][place] = place
    queries[4][place] = -1 if kind.source == LISTED else find_itemset(pairs, slot)
    targets[1][place], targets[2][place] = target, weight
    targets[0][place + 1] = place + 1
    return 1


@inlined
def _fill_bag(pairs, key, itemset, kept, start, bags, out):
    """Write an itemset's bag; return where it ends, and the sum of the sizes of its weights.

    In `out` are the occurrences that are left out of it, and may be targets.
    """
    end, total = start, ZERO
    first = pairs.left_offsets[itemset]
    for position in range(first, pairs.left_offsets[itemset + 1]):
        item = pairs.left_items[position]
        word, out_word = _words(key, KEPT_LEFT + u64(position))
        out[position - first] = out_word < kept.out
        if out_word < kept.out or not _is_kept(kept.left, item, word):
            continue
        weight = ONE
        if len(pairs.left_weights) > 0:
            weight = pairs.left_weights[position]
        if weight != ZERO:
            bags[1][end], bags[2][end] = item, weight
            total += abs(weight)
            end += 1
    return end, total


@inlined
def _draw_bag(pairs, kind, key, itemset, kept, place, bags, queries, targets, scratch):
    """Draw an itemset: its bag, and the targets of all of it; return how many these are."""
    out, places = scratch
    start, first_target = bags[0][place], targets[0][place]
    end, total = _fill_bag(pairs, key, itemset, kept, start, bags, out)
    if total == ZERO:
        return 0
    for entry in range(start, end):
        bags[2][entry] /= total
    count, next_target = 0, first_target
    begin = pairs.right_offsets[itemset]
    for position in range(begin, pairs.right_offsets[itemset + 1]):
        target = pairs.right_items[position]
        slot = (KEPT_RIGHT if kind.targets == RIGHT else KEPT_LEFT) + u64(position)
        word, _ = _words(key, slot)
        if not _is_kept(kept.right, target, word):
            continue
        if kind.targets == OUTSIDE and not out[position - begin]:
            continue
        weight = ONE
        if len(pairs.right_weights) > 0:
            weight = pairs.right_weights[position]
        count += 1
        if places[target] >= 0:  # one more of the same
            targets[2][places[target]] += weight
            continue
        places[target] = next_target
        targets[1][next_target], targets[2][next_target] = target, weight
        next_target += 1
    for entry in range(first_target, next_target):
        places[targets[1][entry]] = -1
    if count > 0:
        bags[0][place + 1], targets[0][place + 1] = end, next_target
        queries[0][place], queries[4][place] = place, itemset
    return count


@inlined
def _draw_others(pairs, key, itemset, kept, place, bags, queries, targets):
    """Draw an itemset: each item from the others; return how many queries these are."""
    bag, query = place
    first_query, start = query, bags[0][bag]
    out = np.empty(pairs.left_offsets[itemset + 1] - pairs.left_offsets[itemset], dtype=np.bool_)
    end, total = _fill_bag(pairs, key, itemset, kept, start, bags, out)
    begin = pairs.right_offsets[itemset]
    for position in range(begin, pairs.right_offsets[itemset + 1]):
        item = pairs.right_items[position]
        word, _ = _words(key, KEPT_LEFT + u64(position))
        if not _is_kept(kept.right, item, word):
            continue
        weight = ONE
        if len(pairs.right_weights) > 0:
            weight = pairs.right_weights[position]
        rest = total if out[position - begin] else total - abs(weight)
        if rest <= total * f32(1e-6):  # nothing but itself
            continue
        queries[0][query], queries[1][query] = bag, ONE / rest
        inside = not out[position - begin] and weight != ZERO
        queries[2][query] = item if inside else -1
        queries[3][query] = -weight / rest
        queries[4][query] = itemset
        targets[1][query], targets[2][query] = item, weight
        targets[0][query + 1] = query + 1
        query += 1
    if query > first_query:
        bags[0][bag + 1] = end
    return query - first_query


@kept()
def _list_masked(pairs, whole, drawn, places):
    """List the rows that are left out of each query's sum, which runs over those with a place.

    They are its targets, or all right items of its itemset.
    """
    num_masked = 0
    for query in range(len(drawn.query_itemsets)):
        itemset = drawn.query_itemsets[query]
        if whole and itemset >= 0:
            num_masked += pairs.right_offsets[itemset + 1] - pairs.right_offsets[itemset]
        else:
            num_masked += drawn.target_offsets[query + 1] - drawn.target_offsets[query]
    rows = np.empty(num_masked, dtype=np.int32)
    queries = np.empty(num_masked, dtype=np.int32)
    count = 0
    for query in range(len(drawn.query_itemsets)):
        itemset = drawn.query_itemsets[query]
        whole_one = whole and itemset >= 0
        offsets = pairs.right_offsets if whole_one else drawn.target_offsets
        items = pairs.right_items if whole_one else drawn.target_rows
        n = itemset if whole_one else query
        for entry in range(offsets[n], offsets[n + 1]):
            if places[items[entry]] >= 0:
                rows[count], queries[count] = items[entry], query
                count += 1
    return rows[:count], queries[:count]

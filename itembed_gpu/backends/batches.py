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

from ..checks import Float32Array, Int32Array, Int64Array
from ..objective.arrays import noise_shares
from ..objective.pairs import NEIGHBOUR
from ..objective.rng import u64
from ..objective.schedule import epoch_order
from .cpu.pairs import Stream
from .draws import (
    ALL,
    OTHERS,
    OUTSIDE,
    RIGHT,
    Drawn,
    Keeping,
    Kind,
    draw_entries,
    draw_penalties,
    fill_negatives,
    fill_units,
    group_rows,
    list_masked,
)
from .protocol import Problem

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
    # Of each query, the factor on the square of the logarithm of its sum; None where all are 0.
    penalties: Float32Array | None
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
    share: float  # of a weight, one over the mean of their sizes


class Batches:
    """The batches of a problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        options = problem.options
        targets = TARGETS[options.targets] if problem.source == NEIGHBOUR else RIGHT
        self._kind = Kind(problem.source, options.pooling == "mean", targets)
        none = np.empty(0, dtype=np.uint32)
        keep = problem.objective.left_keep, problem.objective.right_keep
        left, right = (none if side is None else side for side in keep)
        self._kept = Keeping(left, right, u64(int(options.dropout * 2.0**32)))
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
        self,
        stream: int,
        epoch: int,
        batch: int,
        start: int,
        stop: int,
        tile_logits: int | None = None,
    ) -> tuple[Batch, Counts]:
        """Return the batch of this number, of positions start ... stop - 1 of an epoch's order.

        Its tiles have so many logits, at most; None stands for `TILE_LOGITS`.
        """
        problem = self._problem
        key = Stream(u64(problem.seed), u64(stream), u64(epoch))
        units = np.empty(stop - start, dtype=np.uint64)
        fill_units(epoch_order(problem.seed, stream, epoch, self.num_unit), start, units)
        drawn = draw_entries(problem.pairs, self._kind, key, units, self._kept, self._places)
        bags = Sums(drawn.bag_offsets, drawn.bag_rows, drawn.bag_weights)
        queries = own = bag_queries = None
        entries: Any = bags.indices, _owners(bags), bags.weights
        if self._kind.targets == OTHERS:
            queries, own, bag_queries = _others(drawn)
            places = _owners(own) + np.int32(len(bags))
            both = zip(entries, (own.indices, places, own.weights), strict=True)
            entries = tuple(map(np.concatenate, both))
        left_rows, offsets, order = group_rows(entries[0], self._counts)
        targets, right_offsets, right_order = group_rows(drawn.target_rows, self._counts)
        negatives, bias = self._draw_negatives(key, batch)
        used, placed = None, drawn.target_rows
        if negatives is not None:
            used = _union(negatives, targets)
            placed = self._places_of(used, drawn.target_rows)
        lengths = np.diff(drawn.target_offsets)
        target_queries = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        most = TILE_LOGITS if tile_logits is None else tile_logits
        width = max(MIN_TILE, most // max(1, len(lengths)))
        made = Batch(
            bags=bags,
            queries=queries,
            own=own,
            bag_queries=bag_queries,
            left_rows=left_rows,
            lefts=Sums(offsets, entries[1][order], entries[2][order]),
            right_rows=used,
            target_offsets=drawn.target_offsets,
            target_rows=placed,
            target_weights=drawn.target_weights,
            target_queries=target_queries,
            penalties=self._draw_penalties(key, drawn, target_queries),
            right_offsets=right_offsets,
            right_order=right_order,
            tiles=tuple(self._tiles(drawn, targets, negatives, bias, used, width)),
        )
        total = float(np.abs(drawn.target_weights).sum(dtype=np.float64))
        share = drawn.num_pair / total if total else 0.0
        return made, Counts(len(lengths), drawn.num_pair, drawn.num_dropped, share)

    def _tiles(
        self, drawn: Drawn, targets: Int32Array, negatives: Any, bias: Any, used: Any, width: int
    ) -> Iterator[Tile]:
        """Cut the columns into tiles of this width."""
        num_row = len(self._problem.right) if used is None else len(used)
        masked_rows, masked_queries = self._mask(drawn, negatives)
        columns = None
        if used is not None:
            # Of right rows, their places among those that are used.
            columns, targets = _places(used, negatives), _places(used, targets)
            masked_rows = self._places_of(used, masked_rows)
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
        fill_negatives(key, batch, num_right, objective.thresholds, objective.aliases, drawn)
        rows, times = np.unique(drawn, return_counts=True)
        expected = count / num_right if self._shares is None else count * self._shares[rows]
        return rows, np.log(times / expected).astype(np.float32)

    def _draw_penalties(
        self, key: Stream, drawn: Drawn, target_queries: Int32Array
    ) -> Float32Array | None:
        """Draw which queries are penalised, and work out how much, by the size of their targets."""
        options = self._problem.options
        if not options.self_normalization:
            return None
        share = options.normalized_share
        sizes = np.bincount(target_queries, np.abs(drawn.target_weights), len(drawn.query_units))
        penalties = (options.self_normalization / share * sizes).astype(np.float32)
        draw_penalties(key, drawn.query_units, u64(int(share * 2.0**32)), penalties)
        return penalties

    def _places_of(self, rows: Int32Array, some: Int32Array) -> Int32Array:
        """Do as `_places` for many, in any order: by a table, which is left as it was found."""
        self._places[rows] = np.arange(len(rows))
        found: Int32Array = self._places[some].astype(np.int32)
        self._places[rows] = -1
        return found

    def _mask(self, drawn: Drawn, negatives: Int32Array | None) -> tuple[Int32Array, Int32Array]:
        """List what is left out of a query's sum, by row."""
        if self.masks == NOTHING:
            none = np.empty(0, dtype=np.int32)
            return none, none
        places, columns = self._places, slice(None) if negatives is None else negatives
        places[columns] = 0
        rows, queries = list_masked(self._problem.pairs, self.masks == ITEMSET, drawn, places)
        places[columns] = -1
        order = np.argsort(rows, kind="stable")
        return rows[order], queries[order]


def _places(rows: Int32Array, some: Int32Array) -> Int32Array:
    """Places of some rows among ascending ones."""
    return np.searchsorted(rows, some).astype(np.int32)


def _union(rows: Int32Array, others: Int32Array) -> Int32Array:
    """Rows of either of two ascending lists; NumPy's own takes 8 % of a step."""
    both = np.sort(np.concatenate([rows, others]), kind="stable")  # which merges them
    found: Int32Array = both[np.append(True, both[1:] != both[:-1])]
    return found


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

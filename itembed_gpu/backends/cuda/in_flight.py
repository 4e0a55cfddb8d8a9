"""How many pairs a device may have in flight, and how often its hottest rows are left out.

A device with thousands of pairs in flight computes each of them from rows that do
not yet hold the updates of the others. Adding all those updates loses nothing, but
where one row gets many of them from the same stale values, their sum overshoots:
measured on skip-gram with negative sampling, training can go wrong once the learning
rate times the number of updates of one row in flight passes about `MAX_LOAD`
(``benchmarks/staleness.py`` simulates it).

So the number of pairs in flight is limited by the size of the catalog, and rows
that are hit more often than others get a cap, a learning rate: where it is below the one in use,
an update of the row is left out with probability 1 - cap / rate, and made whole otherwise. A row
held back so still gets far more updates than a cold one, its fixed point is the same, and the
memory, which adds to one address after the other, has as many fewer of them to add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import checks
from ...objective.arrays import noise_shares
from ...objective.options import ADAGRAD, FREEZE_LEFT, FREEZE_RIGHT, GLOVE, MEAN
from ...objective.pairs import LISTED, NEIGHBOUR, WINDOW
from ...sets import set_sums
from ..protocol import Problem
from . import chips

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# Learning rate times updates in flight of one row: what the hottest may reach. A left
# row's update is the sum of those by all targets of its pair, and gets half of it.
MAX_LOAD = 1.6
MAX_LEFT_LOAD = 0.8
# What the rows of a table may reach on average.
MEAN_LOAD = 0.8
# The same where rows hold themselves back, as by Adagrad. Measured on a GPU, catalogs of 50
# to 20,000 items, rate 0.3: held-out losses within 1 % of sequential ones at 4, and up to 5 %
# above them at 20.
ADAPTIVE_MEAN_LOAD = 4.0
# And where each number of a row holds itself back, of cells of counts: with more in flight they
# learn more slowly. In a simulation of 50 items whose cells are all there, rate 0.05, J after 25
# epochs is 1.4 % above that of one cell after the other at .1, and 6.7 % at 4.
CELL_MEAN_LOAD = 0.1

# Share of the L2 cache that the rows of pairs in flight may take, where the tables do not fit:
# what is added to a row that has left it reads the row again. Measured on an H200, whose cache has
# 63 MB, in uniform catalogs (benchmarks/in_flight.md): of 5.3, 7.6, 11.4 and 15.1 MB of rows, 7.6
# was fastest with dimensions from 64 to 512, by 4 to 11 % over those beside it; with 32 it was
# 11.4, by 3 %.
CACHE_SHARE = 1 / 8

ITEMS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Geometry:
    """What a device may do at once."""

    num_tile: int  # pairs in flight, at most
    # Of each row, (num_left,) and (num_right,): above this learning rate, updates are left out, and
    # of them cap / rate is made. None where no row needs one.
    left_caps: Float32Array | None
    right_caps: Float32Array | None
    own_caps: Float32Array | None = None  # (num_itemset,), of the itemsets' own rows


def plan_geometry(
    left_hits: Float64Array,
    right_hits: Float64Array,
    learning_rate: float,
    max_tile: int,
    *,
    adaptive: bool = False,
    mean_load: float | None = None,
    own_hits: Float64Array | None = None,
) -> Geometry:
    """Choose how many pairs to train at once, and the caps of hot rows.

    Parameters
    ----------
    left_hits, right_hits : float64, num_left and num_right
        Expected number of updates of each row by one pair and its negatives,
        each counted with the weight of its pair. Where both tables are the
        same, both are the sum.
    learning_rate : float
        Highest learning rate in use, at least 0.
    max_tile : int
        Pairs that the device can hold.
    adaptive : bool, optional
        Whether rows hold themselves back, as by Adagrad: then none has a cap.
    mean_load : float, optional
        What the rows of a table may reach on average; by default MEAN_LOAD, or
        ADAPTIVE_MEAN_LOAD.
    own_hits : float64, num_itemset, optional
        The same of the itemsets' own rows, where they have any.

    Returns
    -------
    Geometry
        With W tiles, the mean row of a table has at most ``MEAN_LOAD /
        learning_rate`` of the W pairs' updates (ADAPTIVE_MEAN_LOAD); and row r, with an expected
        ``m = W * hits[r]``, has the cap ``MAX_LOAD / m``, or
        MAX_LEFT_LOAD on the left and where both tables are the same. With one
        tile there is nothing to hold back.
    """
    num_tile = max_tile
    if mean_load is None:
        mean_load = ADAPTIVE_MEAN_LOAD if adaptive else MEAN_LOAD
    for hits in (left_hits, right_hits, *(() if own_hits is None else (own_hits,))):
        load = learning_rate * float(hits.mean())
        if load * max_tile > mean_load:
            num_tile = min(num_tile, int(mean_load / load))
    num_tile = max(1, num_tile)
    if num_tile == 1 or adaptive:
        return Geometry(num_tile, None, None)
    left_caps = right_caps = _caps(left_hits, learning_rate, num_tile, MAX_LEFT_LOAD)
    if left_hits is not right_hits:
        right_caps = _caps(right_hits, learning_rate, num_tile, MAX_LOAD)
    own_caps = None
    if own_hits is not None:
        own_caps = _caps(own_hits, learning_rate, num_tile, MAX_LEFT_LOAD)
    return Geometry(num_tile, left_caps, right_caps, own_caps)


def limit_by_cache(num_tile: int, once: int, row_bytes: int, cache: int) -> int:
    """Limit the pairs in flight to those whose rows do not crowd the L2 cache.

    Parameters
    ----------
    num_tile : int
        Pairs that the device can hold.
    once : int
        As many as a block of threads on each of its multiprocessors.
    row_bytes : int
        Size of the rows of a pair.
    cache : int
        Size of the cache, as the driver reports it.

    Returns
    -------
    int
        A multiple of `once`, unless there are fewer: the multiprocessors that end last are waited
        for. The one nearest to CACHE_SHARE, as less is no better than more.
    """
    num_block = max(1, round(CACHE_SHARE * cache / (once * row_bytes)))
    return min(num_tile, num_block * once)


def _caps(
    hits: Float64Array, learning_rate: float, num_tile: int, max_load: float
) -> Float32Array | None:
    if learning_rate * num_tile * float(hits.max()) <= max_load:
        return None
    with np.errstate(divide="ignore", over="ignore"):  # a row that is never hit: no limit
        caps: Float32Array = (max_load / (num_tile * hits)).astype(np.float32)
    return caps


def expected_hits(problem: Problem) -> tuple[Float64Array, Float64Array]:
    """Count how often one pair and its negatives update each row, on average.

    Returns
    -------
    tuple of float64, num_left and num_right
        For `plan_geometry`: each update counts with the size of its pair's
        weight. A set of negatives that a group shares counts once for each of
        its pairs, as they are all in flight together. Where both tables are the
        same, so are both arrays.
    """
    objective = problem.objective
    num_right = len(problem.syn_right)
    left, right = _update_sizes(problem)
    left_hits = _hits(problem, "left", left)
    right_hits = left_hits.copy() if problem.within else _hits(problem, "right", right)
    shares = noise_shares(objective, num_right)
    negatives = float(right_hits.sum()) * problem.num_negative * problem.group
    # A positive of more weight than a negative moves both of its rows by more.
    weight = max(1.0, float(objective.settings.positive_weight or 1))
    left_hits, right_hits = left_hits * weight, right_hits * weight
    right_hits += negatives / num_right if shares is None else negatives * shares
    if objective.flags & FREEZE_LEFT:
        left_hits[:] = 0
    if objective.flags & FREEZE_RIGHT:
        right_hits[:] = 0
    if problem.same_table:
        left_hits = right_hits = left_hits + right_hits
    return left_hits, right_hits


def own_hits(problem: Problem) -> Float64Array | None:
    """Count as `expected_hits` does how often one pair updates each itemset's own row."""
    if problem.own is None:
        return None
    pairs, objective = problem.pairs, problem.objective
    sizes = _sizes(pairs.right_weights, pairs.right_items, objective.right_keep)
    if not objective.flags & ADAGRAD:  # by which a step is as large for any share
        left_sizes = _sizes(pairs.left_weights, pairs.left_items, objective.left_keep)
        lengths = np.diff(pairs.left_offsets)
        sums = np.repeat(set_sums(left_sizes, pairs.left_offsets), lengths)
        others = np.maximum(sums - left_sizes, 0)
        if pairs.window:  # about those on one side, at the mean distance: fewer at the ends
            count = np.repeat(np.maximum(lengths - 1, 1), lengths)
            others *= np.minimum(1, (pairs.window + 1) / 2 / count)
        sizes /= 1 + others
    hits = np.zeros(len(problem.own))
    own = slice(pairs.first, pairs.first + len(pairs.left_offsets) - 1)
    hits[own] = set_sums(sizes, pairs.right_offsets) / max(problem.num_slot, 1)
    return hits * max(1.0, float(objective.settings.positive_weight or 1))


def hottest_hits(problem: Problem) -> float:
    """Bound the expected hits of every row, without an array of all rows."""
    pairs = problem.pairs
    left, right = _update_sizes(problem)
    most = [
        float(np.bincount(np.unique(items, return_inverse=True)[1], sizes).max())
        for items, sizes in ((pairs.left_items, left), (pairs.right_items, right))
    ]
    negatives = problem.num_negative * problem.group / len(problem.syn_right)
    total = float(left.sum()) if left is not None else problem.num_slot
    return (sum(most) + total * negatives) / problem.num_slot


def _hits(problem: Problem, side: str, sizes: Any) -> Float64Array:
    """Share of a problem's pairs, or the sum of their updates' sizes, that each row of a side has.

    Items and sizes may be arrays of a device, by which they are summed up.
    """
    items = getattr(problem.pairs, f"{side}_items")
    if sizes is None and not checks.on_device(items):
        counts: npt.NDArray[np.int64] = getattr(problem.occurrences, side)
        return counts / problem.num_slot
    num_label = len(getattr(problem, side))
    return _sum_up(items, sizes, num_label) / problem.num_slot


def _sum_up(items: Any, sizes: Any, num_label: int) -> Float64Array:
    """Sum the sizes of each label's items, some at a time: NumPy makes wider copies of them."""
    module = chips.cupy() if checks.on_device(items) else np
    total = module.zeros(num_label)
    for start in range(0, len(items), ITEMS_AT_ONCE):
        part = slice(start, start + ITEMS_AT_ONCE)
        some = None if sizes is None else sizes[part]
        total += module.bincount(items[part], weights=some, minlength=num_label)
    result: Float64Array = checks.on_host(total)
    return result


def _update_sizes(problem: Problem) -> tuple[Any, Any]:
    """Sum of the sizes of an epoch's updates by each packed item, as a left and as a right one.

    None where all of them are 1: by Adagrad, the steps of a cell of counts are as large for any
    weight.
    """
    pairs, objective = problem.pairs, problem.objective
    if objective.flags & GLOVE:
        return None, None
    if checks.on_device(pairs.left_items):  # which are listed
        values: Any = pairs.right_weights
        each = abs(values) if len(values) else None
        return each, each
    pooled = bool(objective.flags & MEAN)
    as_often = problem.source == NEIGHBOUR or (problem.source == WINDOW and pooled)
    if as_often and not len(pairs.right_weights) and objective.right_keep is None:
        return None, None
    left_lengths, right_lengths = np.diff(pairs.left_offsets), np.diff(pairs.right_offsets)
    left_sizes = _sizes(pairs.left_weights, pairs.left_items, objective.left_keep)
    right_sizes = _sizes(pairs.right_weights, pairs.right_items, objective.right_keep)
    if problem.source == LISTED:
        sizes = left_sizes * right_sizes
        return sizes, sizes
    right_sums = set_sums(right_sizes, pairs.right_offsets)
    left_sums = set_sums(left_sizes, pairs.left_offsets)
    if pooled:
        # A pair has one left side, of which each item has its share; a step by Adagrad is
        # as large for any share.
        sums = np.repeat(left_sums, left_lengths)
        shares = np.divide(left_sizes, sums, out=np.zeros_like(sums), where=sums > 0)
        if objective.flags & ADAGRAD:
            shares = np.ceil(shares) * _nearness(pairs.window, left_lengths)
        return shares * np.repeat(right_sums, left_lengths), right_sizes
    if problem.within:
        # Each item picks one of the others, and is picked by one on average; in a window more
        # often, or by fewer.
        others = np.repeat(right_sums, right_lengths) - right_sizes
        often = np.diff(pairs.slot_offsets) / (left_lengths * (left_lengths - 1))
        sizes = left_sizes * others * np.repeat(often, left_lengths)
        return sizes, sizes
    return (
        left_sizes * np.repeat(right_sums, left_lengths),
        right_sizes * np.repeat(left_sums, right_lengths),
    )


def _nearness(window: int, lengths: npt.NDArray[Any]) -> Float64Array:
    """Share of an itemset's means that each of its items is in, at most."""
    if not window:
        return np.ones(int(lengths.sum()))
    return np.repeat(np.minimum(1.0, (window + 1) / np.maximum(lengths - 1, 1)), lengths)


def _sizes(
    weights: Float32Array, items: npt.NDArray[np.int32], keep: npt.NDArray[np.uint32] | None
) -> Float64Array:
    """Size of each packed item's weight, times how probable it is that the item is kept."""
    sizes = np.abs(weights, dtype=np.float64) if len(weights) else np.ones(len(items))
    if keep is not None:
        sizes *= keep[items] / 2.0**32
    return sizes

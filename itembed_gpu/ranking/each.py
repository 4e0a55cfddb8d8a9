"""Rankings of histories whose items are compared one by one, and not by their mean."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.cpu.threads import check_threads
from ..backends.cuda import chips
from ..checks import Float32Array, Int64Array
from ..sets import Packed
from .top_n import (
    FREE,
    LOSES,
    SCORES_PER_THREAD,
    Asked,
    Best,
    _call,
    _contains,
    _is_worse,
    _replace_worst,
    _share_range,
    _sorted_rows,
    as_parts,
    brought,
    rank_parts,
    rows_at_hand,
)

# Items of histories that are compared at once, and values of rows that are at hand.
BLOCK_ITEMS = 1024
TILE_VALUES = 1 << 23
_TINY = np.float32(1e-30)

# Rows, the numbers of those of each history, packed, and weights.
History = tuple[Any, Packed, npt.NDArray[Any]]


def rank_each(
    history: History,
    table: Any,
    n: int,
    sharpness: float,
    *,
    bias: npt.ArrayLike | None = None,
    exclude: Packed | None = None,
    candidates: Int64Array | None = None,
    losers: Packed | None = None,
    num_threads: int | None = None,
) -> tuple[Int64Array, Float32Array]:
    """Return the n best rows of a table for each history, by how near they are to its items.

    The score of row r is ``log(sum_i w_i * exp(sharpness * x_i . table[r]) / sum_i |w_i|) /
    sharpness + bias[r]``, with the rows x_i of the history's items: a mean of similarities that
    goes from the arithmetic one to the largest as the sharpness grows. A mean of the rows
    themselves drowns the one item that an answer goes with.

    Parameters
    ----------
    history : (float32 (num_item, D), (int, int), float)
        Rows of length 1, NumPy or CuPy; the numbers of those of each history, packed; and
        a weight of each.
    table : float32 (num_row, D)
        Rows of length 1, where those of `history` are; or a `PartedTable` of such rows.
    n : int
        How many.
    sharpness : float
        Above 0.
    bias, exclude, candidates, losers, num_threads : optional
        As for `top_n`.

    Returns
    -------
    rows : int64 (q, n)
        As of `top_n`.
    scores : float32 (q, n)
        They are rounded as products of float32 are, and so may differ between machines, and
        with the parts of a table.

    Raises
    ------
    DeviceError
        The GPU is out of memory, or fails.
    """
    table = as_parts(table)
    rows, (items, offsets), weights = history
    num_query = len(offsets) - 1
    asked = Asked(
        bias=None if bias is None else np.asarray(bias, dtype=np.float32),
        candidates=None if candidates is None else np.unique(candidates),
        exclude=_sorted_rows("exclude", exclude, num_query, len(table)),
        losers=_sorted_rows("losers", losers, num_query, len(table)),
        n=n,
        num_threads=num_threads,
    )
    rank = functools.partial(_rank_part, sharpness)
    if table.is_remote:
        history = checks.on_host(rows), (items, offsets), weights
    shape = num_query, rows.shape[1] * max(1, len(items) // max(1, num_query))
    return rank_parts(rank, history, shape, table, asked, _some_histories)


def _some_histories(history: History, some: slice) -> History:
    """Return some of the histories, and the rows that these have."""
    rows, (items, offsets), weights = history
    if len(offsets) - 1 == some.stop - some.start:
        return history
    bounds = offsets[some.start : some.stop + 1]
    part = slice(bounds[0], bounds[-1])
    rows, items = rows_at_hand(rows, items[part])
    return rows, (items, bounds - bounds[0]), weights[part]


def _rank_part(sharpness: float, table: Any, history: History, asked: Asked) -> Best:
    """Return scores and ties of the best rows of each history, a heap each."""
    rows, (items, offsets), weights = history
    num_query, num_row = len(offsets) - 1, len(table)
    allowed = np.arange(num_row) if asked.candidates is None else asked.candidates
    packed = asked.exclude, asked.losers
    width = min(asked.n, len(allowed))
    best = np.full((num_query, width), -np.inf, dtype=np.float32)
    ties = np.full((num_query, width), FREE, dtype=np.int64)
    first = 0
    while first < num_query and width:
        # So many items at once, and one history at least.
        stop = int(np.searchsorted(offsets, offsets[first] + BLOCK_ITEMS, side="right")) - 1
        stop = min(max(stop, first + 1), num_query)
        part = slice(offsets[first], offsets[stop])
        block = rows, (items[part], offsets[first : stop + 1] - offsets[first]), weights[part]
        scores = score_each(block, table, sharpness)
        if asked.bias is not None:
            scores += asked.bias
        choose = functools.partial(_call, _choose, scores, first, allowed, *packed, best, ties)
        num_threads = check_threads(asked.num_threads)
        _share_range(choose, len(scores), num_row, num_threads, SCORES_PER_THREAD)
        first = stop
    return best, ties


def score_each(
    history: tuple[Any, Packed, npt.NDArray[Any]], table: Any, sharpness: float
) -> Float32Array:
    """Return the scores of all rows for each history, (q, num_row): see `rank_each`."""
    rows, (items, offsets), weights = history
    num_query = len(offsets) - 1
    owners = np.repeat(np.arange(num_query), np.diff(offsets))
    block = rows, items, _shares(owners, weights, num_query), table, sharpness
    device = checks.device_of(table, rows)
    if device is None:
        scores: Float32Array = _compare(np, *block)
    else:
        with chips.device(device):
            block = brought(rows, device), *block[1:]
            scores = checks.on_host(_compare(chips.cupy(), *block))
    return scores


def _shares(owners: Int64Array, weights: npt.NDArray[Any], num_query: int) -> Float32Array:
    """Return the share of each item in each history, (num_query, num_item)."""
    shares = np.zeros((num_query, len(owners)), dtype=np.float32)
    total = np.bincount(owners, np.abs(weights), num_query)[owners]
    shares[owners, np.arange(len(owners))] = weights / np.where(total > 0, total, 1)
    return shares


def _compare(
    xp: Any, rows: Any, items: npt.NDArray[Any], shares: Any, table: Any, sharpness: float
) -> Any:
    """Return the scores of all rows of the table, a tile after the other."""
    asked = xp.asarray(rows)[xp.asarray(items)] * np.float32(sharpness)
    shares = xp.asarray(shares)
    scores = xp.empty((len(shares), len(table)), dtype=np.float32)
    step = max(1, TILE_VALUES // max(1, len(items)))
    for start in range(0, len(table), step):
        near = asked @ xp.asarray(table[start : start + step]).T
        # Of rows of length 1, none is above the sharpness: nothing overflows.
        near -= np.float32(sharpness)
        xp.exp(near, out=near)
        scores[:, start : start + step] = shares @ near
    return xp.log(xp.maximum(scores, _TINY)) / np.float32(sharpness) + np.float32(1)


def _choose(
    scores: Float32Array,
    first: int,
    allowed: Int64Array,
    exclude: Packed,
    losers: Packed,
    best: Float32Array,
    ties: Int64Array,
    start: int,
    stop: int,
) -> None:
    """Let the best rows of some histories, whose scores are all known, into their heaps."""
    for i in range(start, stop):
        query = first + i
        heap, heap_ties = best[query], ties[query]
        for row in allowed:
            score = scores[i, row]
            if score < heap[0] or _contains(exclude, query, row):
                continue
            tie = row
            if _contains(losers, query, row):
                tie += LOSES
            if _is_worse(heap[0], heap_ties[0], score, tie):
                _replace_worst(heap, heap_ties, score, tie)

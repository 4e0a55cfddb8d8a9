"""Exact top-n by dot product, and the mean rows that make its queries, with bounded memory.

All rows are compared with every query, a tile of both at a time. The tile's scores
are a matrix product in float32; they only screen: a row that may belong to the best
n, given how far off such a product can be, gets its score computed again, summed in
float64 in the order of the dimensions and rounded once. So neither tiles nor threads
nor the device change a result, and equal rows have equal scores.

A product in float32 is off by less than ``D * eps / (1 - D * eps)`` times the product
of the norms, ``eps = 2**-24``, in whatever order it is summed (N. Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1).

A tile holds rows from the whole of the table, at equal distances: after the first one,
few rows pass the screen, also if the rows are sorted by what makes scores large.

A table is ranked part by part (`parts`), an array being one part, and the best rows of
each are merged: as a score depends on its row alone, they are those of the whole.
"""

# mypy: disallow-untyped-decorators=False
# (Numba's decorators lose the types of what they compile.)

from __future__ import annotations

import dataclasses
import functools
import operator
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.extending import register_jitable

from .. import checks
from ..backends.cpu.threads import check_threads, share
from ..checks import Float32Array, Float64Array, Int32Array, Int64Array
from ..compiling import kept
from ..errors import DeviceError, InputError
from ..sets import Packed, keep_items, set_keys
from .parts import PartedTable, rows_between

# A tile of scores on the CPU: 32 MiB.
QUERY_TILE = 2048
ROW_TILE = 4096
# Scores looked at together.
BLOCK = 64
# With fewer scores, or pooled values, than this, a thread is not worth starting.
SCORES_PER_THREAD = 1 << 18
VALUES_PER_THREAD = 1 << 16

# On a device a tile is as wide as memory allows, up to 1 GiB of scores.
DEVICE_QUERY_TILE = 4096
DEVICE_MAX_SCORES = 1 << 28
# Bytes at the peak for each score of a tile: a copy, its partition, a mask, positions.
DEVICE_BYTES_PER_SCORE = 96
# Values of rows that are gathered at a time.
GATHER_VALUES = 1 << 24

# Ties are won by the lower number: the row, and more for rows that lose.
LOSES = 1 << 32
# Of a place that is still free.
FREE = 1 << 40
_ROW_MASK = LOSES - 1

_EPS = float(np.finfo(np.float32).eps)  # twice the rounding error
_TINY = float(np.finfo(np.float32).tiny)  # more than what underflow takes away
_LARGEST = float(np.finfo(np.float32).max) / 4


def top_n(
    queries: Any,
    table: Any,
    n: int,
    *,
    bias: npt.ArrayLike | None = None,
    exclude: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    candidates: npt.ArrayLike | None = None,
    losers: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    num_threads: int | None = None,
) -> tuple[Int64Array, Float32Array]:
    """Return the n best rows of a table for each query, by dot product, exactly.

    The score of row r is ``queries[q] . table[r] + bias[r]``, summed in float64 in the
    order of the dimensions and rounded once to float32. It depends on nothing else, so
    results are the same with any number of threads, on a GPU as on the CPU, and
    whatever else is asked at once.

    Parameters
    ----------
    queries : float32 (q, D)
        NumPy or CuPy; there may be none.
    table : float32 (num_row, D)
        NumPy or CuPy, or a `PartedTable` of rows that no single memory holds. Where it or
        the queries lie on a GPU, all the work is done there.
    n : int
        How many rows, at least 1.
    bias : float (num_row,), optional
        Added to the scores of a row.
    exclude : (int, int), optional
        Rows never returned, packed ``(items, offsets)``: those of query q are
        ``items[offsets[q]:offsets[q + 1]]``. They may repeat.
    candidates : int, one axis, optional
        Rows that alone may be returned, to any query. They may repeat.
    losers : (int, int), optional
        Packed rows that lose every tie, as relevant items have to in an evaluation
        that must not gain from ties.
    num_threads : int, optional
        Threads on the CPU, by default ``NUMBA_NUM_THREADS``; on workers of Dask, which
        have threads of their own, one a task. The matrix product has the threads of NumPy's
        BLAS (``OPENBLAS_NUM_THREADS`` and the like).

    Returns
    -------
    rows : int64 (q, n)
        NumPy, best first; ties by the lower row. Where fewer than n rows can be had
        the last ones are -1.
    scores : float32 (q, n)
        NumPy; -inf where the row is -1.

    Raises
    ------
    InputError
        A shape or dtype does not fit, a row is not one of the table, a value is not
        finite, or scores could leave the range of float32.
    DataError
        A file that rows lie in is missing or damaged; the message names it.
    DeviceError
        The GPU is out of memory, or fails; or the environment variable ``CUPY_TF32`` has
        it multiply with fewer digits than float32.

    Notes
    -----
    Memory beyond the answer, the packed rows (sorted, as int64) and two numbers a
    query: on the CPU 32 MiB of scores and a copy of 4,096 rows; on a GPU a part of
    what is free. Of a `PartedTable` also two numbers for each of the n best, and a part
    at a time: of mapped files the pages, which the system takes back when it needs them.
    Rows that tie with the n-th best are all computed again, so that a
    table of nothing but equal rows takes many times as long.

    Examples
    --------
    >>> table = np.array([[1, 0], [0, 1], [1, 1], [1, 0]], dtype=np.float32)
    >>> rows, scores = top_n(table[:1], table, 3)
    >>> rows
    array([[0, 2, 3]])
    >>> scores
    array([[1., 1., 1.]], dtype=float32)
    >>> top_n(table[:1], table, 3, exclude=([0], [0, 1]))[0]
    array([[2, 3, 1]])
    """
    queries, table = checks.rows("queries", queries), as_parts(table)
    checks.same_dimension("queries", queries, "table", table)
    num_query, num_row = len(queries), len(table)
    n = checks.integer("n", n, 1)
    if num_threads is not None:
        num_threads = check_threads(num_threads)
    if candidates is not None:
        given = checks.vector("candidates", candidates, "iu", "integers")
        candidates = np.unique(_rows_of("candidates", given, num_row)).astype(np.int64)
    asked = Asked(
        bias=None if bias is None else checks.weights("bias", bias, num_row),
        candidates=candidates,
        exclude=_sorted_rows("exclude", exclude, num_query, num_row),
        losers=_sorted_rows("losers", losers, num_query, num_row),
        n=n,
        num_threads=num_threads,
    )
    return rank_parts(_rank_part, queries, queries.shape, table, asked)


def pool_rows(
    table: Any,
    items: npt.ArrayLike,
    offsets: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    num_threads: int | None = None,
) -> Any:
    """Return the weighted mean of the rows of each itemset.

    It is ``sum(w_i * row_i) / sum(abs(w_i))``, summed in float64; zeros for an itemset
    that is empty, or has nothing but weights of zero.

    Parameters
    ----------
    table : float32 (num_row, D)
        NumPy or CuPy, or a `PartedTable`, whose rows are gathered for some itemsets at a time.
    items : int (num_item,)
        Rows of all itemsets, one itemset after the other.
    offsets : int (num_itemset + 1,)
        Where each itemset starts, and the last one ends.
    weights : float (num_item,), optional
        One weight an item, by default 1; it may be negative.
    num_threads : int, optional
        Threads on the CPU, by default ``NUMBA_NUM_THREADS``.

    Returns
    -------
    float32 (num_itemset, D)
        A CuPy array where the table is one.

    Raises
    ------
    InputError
        A shape or dtype does not fit, a row is not one of the table, or a value is
        not finite.
    DeviceError
        The GPU is out of memory, or fails.

    Examples
    --------
    >>> table = np.array([[2, 0], [0, 4]], dtype=np.float32)
    >>> pool_rows(table, [0, 1, 1], [0, 2, 2, 3])
    array([[1., 2.],
           [0., 0.],
           [0., 4.]], dtype=float32)
    >>> pool_rows(table, [0, 1], [0, 2], weights=[1, -1])
    array([[ 1., -2.]], dtype=float32)
    """
    if not isinstance(table, PartedTable):
        table = checks.rows("table", table)
    given = checks.vector("items", items, "iu", "integers")
    bounds = checks.offsets("offsets", offsets, len(given))
    first, last = bounds[0], bounds[-1]
    rows = _rows_of("items", given[first:last], len(table))
    if isinstance(table, PartedTable):
        factors = None if weights is None else checks.weights("weights", weights, len(given))
        given_rows = rows, bounds - first, None if factors is None else factors[first:last]
        return _pool_parts(table, *given_rows, num_threads)
    if weights is None:
        factors = np.empty(0, dtype=np.float32)
    else:
        factors = checks.weights("weights", weights, len(given))[first:last]
    device = checks.device_of(table)
    bounds = bounds - first
    if device is None:
        pooled = _pool_on_cpu(table, rows, bounds, factors, check_threads(num_threads))
        finite = checks.is_finite(pooled) if pooled.size else True
    else:
        from ..backends.cuda import chips

        with chips.device(device):
            pooled = _pool_with(chips.cupy(), table, rows, bounds, factors)
            finite = bool(chips.cupy().isfinite(pooled).all())
    if not finite:
        itemset = int(np.isfinite(checks.on_host(pooled)).all(axis=1).argmin())
        raise InputError(
            f"table holds a value that is not finite in a row of itemset {itemset}; "
            "drop that row, or train with a lower learning rate"
        )
    return pooled


def _pool_parts(
    table: PartedTable,
    items: Int32Array,
    offsets: Int64Array,
    weights: Float32Array | None,
    num_threads: int | None,
) -> Float32Array:
    """Pool with the rows of some itemsets at hand, 64 MiB or those of one, and then of others."""
    pooled = np.empty((len(offsets) - 1, table.shape[1]), dtype=np.float32)
    size, first = max(1, GATHER_VALUES // table.shape[1]), 0
    while first < len(pooled):
        stop = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        stop = min(max(stop, first + 1), len(pooled))
        part = slice(offsets[first], offsets[stop])
        rows, places = rows_at_hand(table, items[part])
        factors = None if weights is None else weights[part]
        bounds = offsets[first : stop + 1] - offsets[first]
        pooled[first:stop] = pool_rows(rows, places, bounds, factors, num_threads=num_threads)
        first = stop
    return pooled


# ------------------------------------------------------------------ arguments


def packed_rows(name: str, value: Any, num_set: int, num_row: int) -> Packed:
    """Check rows of a table of so many rows, packed as ``(items, offsets)``: a set for each query.

    Items outside the offsets are left out. Returns them as int32, and int64 offsets that begin at
    0. Raises an `InputError` if it is no such pair, or holds a row that is not one of the table.
    """
    given, bounds = split_packed(name, value)
    if len(bounds) != num_set + 1:
        raise InputError(
            f"{name}: offsets bound {len(bounds) - 1} sets of rows for {num_set} queries; "
            "pass one for each, which may be empty"
        )
    rows = _rows_of(f"{name} (items)", given[bounds[0] : bounds[-1]], num_row)
    return rows, bounds - bounds[0]


def split_packed(name: str, value: Any) -> tuple[npt.NDArray[Any], Int64Array]:
    """Check that a value is a pair ``(items, offsets)`` of arrays that fit each other."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InputError(
            f"{name} is {checks.show(value)}; pass a pair (items, offsets) of packed rows"
        )
    items = checks.vector(f"{name} (items)", value[0], "iu", "integers")
    return items, checks.offsets(f"{name} (offsets)", value[1], len(items))


def _rows_of(name: str, given: npt.NDArray[Any], num_row: int) -> Int32Array:
    """Check rows of a table; there may be none."""
    if not given.size:
        return np.empty(0, dtype=np.int32)
    return checks.items(name, given, num_row)


def _sorted_rows(name: str, value: Any, num_query: int, num_row: int) -> Packed:
    """Check packed rows, and sort those of each query; of nothing, make empty sets."""
    if value is None:
        return np.empty(0, dtype=np.int32), np.zeros(num_query + 1, dtype=np.int64)
    items, offsets = packed_rows(name, value, num_query, num_row)
    keys = set_keys(items, offsets)
    keys.sort()
    keys &= _ROW_MASK
    return keys.astype(np.int32), offsets


# -------------------------------------------------------------------- problem


@dataclass(frozen=True)
class Asked:
    """What is asked of a table, or of a part: checked arguments, the packed rows sorted.

    Rows are numbered from the first of what is asked, which is row `first` of the table.
    """

    bias: Float32Array | None
    candidates: Int64Array | None
    exclude: Packed
    losers: Packed
    n: int
    num_threads: int | None
    first: int = 0

    def within(self, queries: slice, first: int, stop: int) -> Asked:
        """Return what is asked of some rows, by some queries."""
        candidates = self.candidates
        return dataclasses.replace(
            self,
            bias=None if self.bias is None else self.bias[first:stop],
            candidates=None if candidates is None else rows_between(candidates, first, stop),
            exclude=_packed_between(self.exclude, queries, first, stop),
            losers=_packed_between(self.losers, queries, first, stop),
            first=first,
        )


def _packed_between(packed: Packed, queries: slice, first: int, stop: int) -> Packed:
    items, offsets = packed
    bounds = offsets[queries.start : queries.stop + 1]
    items = items[bounds[0] : bounds[-1]]
    here = (items >= first) & (items < stop)
    rows, bounds = keep_items(items, bounds - bounds[0], here)
    return rows - np.int32(first), bounds


Best = tuple[Float32Array, Int64Array]
"""Scores (q, any) and ties of the best rows of each query, in any order."""


def as_parts(table: Any) -> PartedTable:
    """Check a table: an array, or one of parts."""
    if not isinstance(table, PartedTable):
        table = checks.rows("table", table)
    return PartedTable.of(table)


def rank_parts(
    rank: Callable[[Any, Any, Asked], Best],
    queries: Any,
    shape: tuple[int, int],
    table: PartedTable,
    asked: Asked,
    choose: Callable[[Any, slice], Any] = operator.getitem,
) -> tuple[Int64Array, Float32Array]:
    """Rank the parts of a table, and merge the best; return rows (q, n) and scores.

    `rank` is called with the rows of a part, some of the queries, which `choose` chose, and what is
    asked of these. The shape is the number of queries, and of the values that each is sent with.
    """
    num_query = shape[0]
    num_threads = asked.num_threads
    if num_threads is None:
        # A worker has a thread for each of its tasks.
        num_threads = 1 if table.is_remote else check_threads(None)
    asked = dataclasses.replace(asked, num_threads=num_threads)
    rows = np.full((num_query, asked.n), -1, dtype=np.int64)
    scores = np.full((num_query, asked.n), -np.inf, dtype=np.float32)
    for some in table.query_blocks(*shape):
        within = functools.partial(asked.within, some)
        found = [np.empty((some.stop - some.start, 0), dtype) for dtype in (np.float32, np.int64)]
        for number, (more, ties) in table.ask(rank, choose(queries, some), within):
            ties = np.where(ties == FREE, FREE, ties + table.bounds[number])
            found = [np.concatenate(pair, 1) for pair in zip(found, (more, ties), strict=True)]
            order = np.lexsort((found[1], -found[0]))[:, : asked.n]
            found = [np.take_along_axis(values, order, axis=1) for values in found]
        width = found[0].shape[1]
        scores[some, :width] = found[0]
        rows[some, :width] = np.where(found[1] == FREE, -1, found[1] & _ROW_MASK)
    return rows, scores


def rows_at_hand(table: Any, rows: npt.NDArray[Any]) -> tuple[Any, Int32Array]:
    """Return those rows of a table that are named, and where each of the names now stands."""
    used, places = np.unique(rows, return_inverse=True)
    return table[used], places.reshape(rows.shape).astype(np.int32)


@dataclass(frozen=True)
class _Problem:
    """What is asked of a part, by which queries."""

    queries: Any
    table: Any
    asked: Asked

    @property
    def num_candidate(self) -> int:
        candidates = self.asked.candidates
        return len(self.table) if candidates is None else len(candidates)

    @property
    def width(self) -> int:
        """How many rows a query can have."""
        return min(self.asked.n, self.num_candidate)

    def tiles(self, num_row: int) -> Iterator[Int64Array]:
        """Candidates in parts of at most so many, each from the whole range, ascending."""
        step = max(1, -(-self.num_candidate // num_row))
        for start in range(min(step, self.num_candidate)):
            if self.asked.candidates is None:
                yield np.arange(start, self.num_candidate, step, dtype=np.int64)
            else:
                yield np.ascontiguousarray(self.asked.candidates[start::step])


def _rank_part(table: Any, queries: Any, asked: Asked) -> Best:
    problem = _Problem(queries, table, asked)
    device = checks.device_of(table, queries)
    return _rank_on_cpu(problem) if device is None else _rank_on(device, problem)


def _check_query_norms(norms: Float64Array) -> None:
    if not np.isfinite(norms).all():
        row = int(np.isfinite(norms).argmin())
        raise InputError(f"queries: row {row} holds a value that is not finite; drop that row")


def _check_row(row: int, first: int) -> None:
    """Refuse a part, from a row of the table on, for one that is not finite; -1 is none."""
    if row >= 0:
        raise InputError(
            f"table: row {first + row} holds a value that is not finite; "
            "drop that row, or train with a lower learning rate"
        )


def _check_range(query_norm: float, row_norm: float, largest_bias: float) -> None:
    """Refuse what could overflow float32; squares of its numbers do not overflow float64."""
    if query_norm * row_norm + largest_bias > _LARGEST:
        raise InputError(
            f"queries with norms up to {query_norm:.3g}, table with norms up to {row_norm:.3g} "
            f"and bias up to {largest_bias:.3g} have scores that may not fit float32; scale them"
        )


# ------------------------------------------------------------------ on the CPU


_kernel = functools.cache(kept(nogil=True, error_model="numpy"))


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in its compiled form."""
    return _kernel(function)(*args)


def _share_range(
    function: Callable[[int, int], Any], length: int, values_each: int, num_threads: int, least: int
) -> None:
    """Call a function with parts of a range, on as many threads as the work is worth."""
    num_threads = max(1, min(num_threads, length * values_each // least))
    size = max(1, -(-length // (2 * num_threads if num_threads > 1 else 1)))

    def some(start: int) -> Any:
        return function(start, min(start + size, length))

    share(some, range(0, length, size), num_threads)


class _Queries(NamedTuple):
    """Queries, their norms, and their packed rows."""

    vectors: Float32Array
    norms: Float64Array
    exclude: Packed
    losers: Packed


class _Tile(NamedTuple):
    """Some rows of a table: their numbers, vectors and bias, and the largest norm and bias."""

    rows: Int64Array
    vectors: Float32Array
    bias: Float32Array
    norm: float
    largest_bias: float


def _rank_on_cpu(problem: _Problem) -> Best:
    """Return scores and ties of the best rows of each query, a heap each."""
    # Read-only arrays would be compiled for once more.
    queries = np.require(problem.queries, requirements=["C", "W"])
    table, num_query = checks.on_host(problem.table), len(queries)
    norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    _check_query_norms(norms)
    scores = np.full((num_query, problem.width), -np.inf, dtype=np.float32)
    ties = np.full((num_query, problem.width), FREE, dtype=np.int64)
    if not num_query:
        return scores, ties
    asked = problem.asked
    called = _Queries(queries, norms, asked.exclude, asked.losers)
    buffer = np.empty(min(num_query, QUERY_TILE) * min(ROW_TILE, len(table)), dtype=np.float32)
    for rows in problem.tiles(ROW_TILE):
        vectors = np.empty((len(rows), table.shape[1]), dtype=np.float32)
        norm, wrong = _call(_copy_tile, table, rows, vectors)
        _check_row(wrong, asked.first)
        bias = np.empty(0, np.float32) if asked.bias is None else asked.bias[rows]
        tile = _Tile(rows, vectors, bias, norm, float(np.abs(bias).max(initial=0)))
        _check_range(norms.max(), norm, tile.largest_bias)
        for first in range(0, num_query, QUERY_TILE):
            block = queries[first : first + QUERY_TILE]
            screen = buffer[: len(block) * len(rows)].reshape(len(block), len(rows))
            with np.errstate(all="ignore"):  # some libraries raise flags for no reason
                np.matmul(block, vectors.T, out=screen)
            _share_range(
                functools.partial(_call, _scan, screen, first, called, tile, scores, ties),
                len(block),
                len(rows),
                check_threads(asked.num_threads),
                SCORES_PER_THREAD,
            )
    return scores, ties


@njit(nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _square(values: Float32Array) -> float:
    """Sum of squares, in float64, in an order that can be vectorised."""
    total = 0.0
    for d in range(len(values)):
        total += np.float64(values[d]) * np.float64(values[d])
    return total


def _copy_tile(table: Float32Array, rows: Int64Array, tile: Float32Array) -> tuple[float, int]:
    """Copy rows; return their largest norm, and the first that is not finite, or -1."""
    largest = 0.0
    for i in range(len(rows)):
        row = rows[i]
        for d in range(tile.shape[1]):
            tile[i, d] = table[row, d]
        square = _square(tile[i])
        if not np.isfinite(square):
            return largest, row
        largest = max(largest, square)
    return np.sqrt(largest), -1


@register_jitable
def _margin(scale: float, largest_bias: float, dim: int) -> float:
    """How far a screening score may be off, given the product of the norms."""
    if scale == 0.0:
        return 0.0
    return _EPS * ((dim + 4) * scale + 2 * largest_bias) + dim * _TINY


@register_jitable
def _cut(score: float, tie: int, first_row: int, margin: float) -> np.float32:
    """What a screening score must be above, for the row to come before the n-th best."""
    if margin == 0.0 and first_row > tie:
        return np.float32(score)  # scores are exact, and ties are lost
    # The score itself may have been rounded up, or tie.
    return np.float32(score - margin - _EPS * abs(score) - _TINY)


@register_jitable
def _next_block(scores: Float32Array, bias: Float32Array, begin: int, cut: np.float32) -> int:
    """Return where the next block begins that has a score above a limit, or the rest does.

    Without branches inside a block, and with a length that is known when it is
    compiled, this is vectorised; an unsigned position needs no check for its sign.
    """
    while begin + BLOCK <= len(scores):
        found = np.int32(0)
        if len(bias):
            for j in range(BLOCK):
                place = np.uint64(begin + j)
                found |= np.int32(scores[place] + bias[place] > cut)
        else:
            for j in range(BLOCK):
                found |= np.int32(scores[np.uint64(begin + j)] > cut)
        if found:
            break
        begin += BLOCK
    return begin


@register_jitable
def _contains(packed: Packed, query: int, row: int) -> bool:
    """Whether a row is among those of a query, which are sorted."""
    items, offsets = packed
    start, stop = offsets[query], offsets[query + 1]
    while start < stop:
        middle = (start + stop) >> 1
        if items[middle] < row:
            start = middle + 1
        elif items[middle] > row:
            stop = middle
        else:
            return True
    return False


@register_jitable
def _is_worse(score: Any, tie: int, other_score: Any, other_tie: int) -> bool:
    """Whether the first comes after the second."""
    return bool(score < other_score or (score == other_score and tie > other_tie))


@register_jitable
def _replace_worst(scores: Float32Array, ties: Int64Array, score: np.float32, tie: int) -> None:
    """Put a row in the place of the worst one, which is the root of a heap."""
    place, length = 0, len(scores)
    while True:
        child = 2 * place + 1
        if child >= length:
            break
        other = child + 1
        if other < length and _is_worse(scores[other], ties[other], scores[child], ties[child]):
            child = other
        if not _is_worse(scores[child], ties[child], score, tie):
            break
        scores[place], ties[place] = scores[child], ties[child]
        place = child
    scores[place], ties[place] = score, tie


def _scan(
    screen: Float32Array,
    first: int,
    asked: _Queries,
    tile: _Tile,
    best_scores: Float32Array,
    best_ties: Int64Array,
    start: int,
    stop: int,
) -> None:
    """Let the rows of a tile into the heaps of some of the queries that it was scored for.

    ``screen`` holds the scores of the queries from ``first`` on; of these, from ``start`` to
    ``stop`` are looked at.
    """
    num_row, dim = tile.vectors.shape
    for i in range(start, stop):
        query = first + i
        scores, heap, heap_ties = screen[i], best_scores[query], best_ties[query]
        margin = _margin(asked.norms[query] * tile.norm, tile.largest_bias, dim)
        begin = 0
        while begin < num_row:
            cut = _cut(heap[0], heap_ties[0], tile.rows[begin], margin)
            begin = _next_block(scores, tile.bias, begin, cut)
            end = min(begin + BLOCK, num_row)
            for j in range(begin, end):
                rough = scores[j]
                if len(tile.bias):
                    rough += tile.bias[j]
                if not rough > cut:
                    continue
                row = tile.rows[j]
                if _contains(asked.exclude, query, row):
                    continue
                total = 0.0
                for d in range(dim):
                    total += np.float64(asked.vectors[query, d]) * np.float64(tile.vectors[j, d])
                if len(tile.bias):
                    total += np.float64(tile.bias[j])
                score, tie = np.float32(total), row
                if _contains(asked.losers, query, row):
                    tie += LOSES
                if _is_worse(heap[0], heap_ties[0], score, tie):
                    _replace_worst(heap, heap_ties, score, tie)
                    cut = _cut(heap[0], heap_ties[0], tile.rows[begin], margin)
            begin = end


def _pool_on_cpu(
    table: Float32Array,
    items: Int32Array,
    offsets: Int64Array,
    weights: Float32Array,
    num_threads: int,
) -> Float32Array:
    num_itemset = len(offsets) - 1
    pooled = np.empty((num_itemset, table.shape[1]), dtype=np.float32)
    if num_itemset:
        mean_length = len(items) // num_itemset + 1
        _share_range(
            functools.partial(_call, _pool, table, items, offsets, weights, pooled),
            num_itemset,
            mean_length * table.shape[1],
            num_threads,
            VALUES_PER_THREAD,
        )
    return pooled


def _pool(
    table: Float32Array,
    items: Int32Array,
    offsets: Int64Array,
    weights: Float32Array,
    pooled: Float32Array,
    start: int,
    stop: int,
) -> None:
    """Pool the rows of some of the itemsets."""
    dim = table.shape[1]
    sums = np.zeros(dim)
    for i in range(start, stop):
        sums[:] = 0.0
        total = 0.0
        for position in range(offsets[i], offsets[i + 1]):
            weight = 1.0
            if len(weights):
                weight = np.float64(weights[position])
            total += abs(weight)
            row = items[position]
            for d in range(dim):
                sums[d] += weight * np.float64(table[row, d])
        for d in range(dim):
            pooled[i, d] = sums[d] / total if total > 0.0 else 0.0


# ----------------------------------------------------------------- on a device


def brought(rows: Any, device: int) -> Any:
    """Return rows that this device can read: of another one, on the host."""
    return rows if checks.device_of(rows) in (None, device) else checks.on_host(rows)


def _rank_on(device: int, problem: _Problem) -> Best:
    """Return scores and ties of the best rows of each query."""
    from ..backends.cuda import chips

    if os.environ.get("CUPY_TF32", "0") not in ("", "0"):
        raise DeviceError(
            "CUPY_TF32 is set, with which products are too rough to screen by; unset it"
        )
    cupy = chips.cupy()
    problem = dataclasses.replace(problem, queries=brought(problem.queries, device))
    with chips.device(device):
        free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        num_score = min(DEVICE_MAX_SCORES, max(1 << 16, free // DEVICE_BYTES_PER_SCORE))
        return _rank_with(cupy, problem, num_score)


def _rank_with(xp: Any, problem: _Problem, num_score: int) -> Best:
    """Rank with the array operations of NumPy or CuPy, so many scores at a time.

    It is what `_rank_on_cpu` does, save that a tile's survivors are sorted into what
    was found before, where a heap takes them one by one.
    """
    queries, table = xp.asarray(problem.queries), xp.asarray(problem.table)
    bias = None if problem.asked.bias is None else xp.asarray(problem.asked.bias)
    num_query, width = len(queries), problem.width
    all_scores = np.full((num_query, width), -np.inf, dtype=np.float32)
    all_ties = np.full((num_query, width), FREE, dtype=np.int64)
    height = min(DEVICE_QUERY_TILE, num_query)
    if not height or not width:
        return all_scores, all_ties
    tile_width = max(1, min(num_score // height, 8 * GATHER_VALUES // table.shape[1]))
    for start in range(0, num_query, height):
        part = slice(start, start + height)
        block = _Block(xp, problem, queries[part], start)
        for rows in problem.tiles(tile_width):
            block.visit(table, bias, xp.asarray(rows))
        all_scores[part] = checks.on_host(block.scores)
        all_ties[part] = checks.on_host(block.ties)
    return all_scores, all_ties


class _Block:
    """Some queries, and their best rows so far, best first."""

    def __init__(self, xp: Any, problem: _Problem, queries: Any, first: int) -> None:
        self._xp = xp
        self._queries = queries
        self._norms = _row_norms(xp, queries)
        _check_query_norms(checks.on_host(self._norms))
        self._exclude = _block_keys(xp, problem.asked.exclude, first, len(queries))
        self._losers = _block_keys(xp, problem.asked.losers, first, len(queries))
        self._first = problem.asked.first
        self.scores = xp.full((len(queries), problem.width), -np.inf, dtype=np.float32)
        self.ties = xp.full((len(queries), problem.width), FREE, dtype=np.int64)

    def visit(self, table: Any, bias: Any, rows: Any) -> None:
        """Compare with a tile: rows of a table, int64, ascending."""
        xp = self._xp
        tile = table[rows]
        tile_bias = None if bias is None else bias[rows]
        row_norms = _row_norms(xp, tile)
        norm = float(row_norms.max())
        if not np.isfinite(norm):
            _check_row(int(rows[int(xp.isfinite(row_norms).argmin())]), self._first)
        largest_bias = 0.0 if bias is None else float(xp.abs(tile_bias).max())
        _check_range(float(self._norms.max()), norm, largest_bias)
        screen = self._queries @ tile.T
        if bias is not None:
            screen += tile_bias
        self._bar(screen, rows)
        scale = self._norms * norm
        margin = xp.where(
            scale > 0, _EPS * ((tile.shape[1] + 4) * scale + 2 * largest_bias), 0.0
        ) + (scale > 0) * (tile.shape[1] * _TINY)
        query, column = xp.nonzero(screen > self._cut(screen, margin)[:, None])
        # Where scores are exact, ties with the n-th best are lost by later rows.
        late = (margin[query] == 0) & (screen[query, column] <= self.scores[query, -1])
        may_win = xp.nonzero(~(late & (rows[column] > self.ties[query, -1])))[0]
        size = max(1, GATHER_VALUES // tile.shape[1])
        for start in range(0, len(may_win), size):
            chosen = may_win[start : start + size]
            self._merge(query[chosen], column[chosen], tile, tile_bias, rows)

    def _bar(self, screen: Any, rows: Any) -> None:
        """Give the rows that are excluded a score that no row has."""
        xp = self._xp
        query, row = self._exclude >> 32, self._exclude & _ROW_MASK
        column = xp.minimum(xp.searchsorted(rows, row), len(rows) - 1)
        here = xp.nonzero(rows[column] == row)[0]
        screen[query[here], column[here]] = -np.inf

    def _cut(self, screen: Any, margin: Any) -> Any:
        """What a screening score must be above, float32, one a query."""
        xp, width = self._xp, self.scores.shape[1]
        cut = _lowered(xp, self.scores[:, -1], margin)
        if screen.shape[1] > width and not bool(xp.isfinite(self.scores[:, -1]).all()):
            # Not all have n rows yet: the tile's n-th best, off as well, is a limit too.
            worst = -xp.partition(-screen, width - 1, axis=1)[:, width - 1]
            cut = xp.maximum(cut, _lowered(xp, worst, 2 * margin))
        return cut

    def _merge(self, query: Any, column: Any, tile: Any, bias: Any, rows: Any) -> None:
        """Compute some scores, and sort them into what was found before."""
        xp = self._xp
        left, right = self._queries[query], tile[column]
        total = xp.zeros(len(query), dtype=np.float64)
        for d in range(tile.shape[1]):
            total += left[:, d].astype(np.float64) * right[:, d].astype(np.float64)
        if bias is not None:
            total += bias[column].astype(np.float64)
        row = rows[column]
        tie = row + LOSES * _is_among(xp, self._losers, (query << 32) | row)

        num_query, width = self.scores.shape
        numbers = xp.arange(num_query)
        owners = xp.concatenate([xp.repeat(numbers, width), query])
        scores = xp.concatenate([self.scores.ravel(), total.astype(np.float32)])
        ties = xp.concatenate([self.ties.ravel(), tie])
        # One dtype, as CuPy wants it; float64 holds all of them exactly.
        keys = [values.astype(np.float64) for values in (ties, -scores, owners)]
        order = xp.lexsort(xp.stack(keys))
        begins = xp.searchsorted(owners[order], numbers)
        best = order[begins[:, None] + xp.arange(width)]
        self.scores, self.ties = scores[best], ties[best]


def _block_keys(xp: Any, packed: Packed, first: int, num_query: int) -> Any:
    """Return the `set_keys` of some queries, numbered from 0; they are sorted."""
    items, offsets = packed
    bounds = offsets[first : first + num_query + 1]
    return xp.asarray(set_keys(items[bounds[0] : bounds[-1]], bounds))


def _is_among(xp: Any, keys: Any, values: Any) -> Any:
    """Whether each of some values is among sorted keys."""
    if not len(keys):
        return xp.zeros(len(values), dtype=bool)
    return keys[xp.minimum(xp.searchsorted(keys, values), len(keys) - 1)] == values


def _row_norms(xp: Any, rows: Any) -> Any:
    return xp.sqrt(xp.square(rows, dtype=np.float64).sum(axis=1))


def _lowered(xp: Any, scores: Any, margin: Any) -> Any:
    """Return scores less what they and others may be off, float32."""
    values = scores.astype(np.float64)
    return (values - margin - _EPS * xp.abs(values) - _TINY).astype(np.float32)


def _pool_with(
    xp: Any, table: Any, items: Int32Array, offsets: Int64Array, weights: Float32Array
) -> Any:
    """Pool with the array operations of NumPy or CuPy, some itemsets and items at a time."""
    num_itemset, dim = len(offsets) - 1, table.shape[1]
    pooled = xp.empty((num_itemset, dim), dtype=np.float32)
    size = max(1, GATHER_VALUES // dim)
    for first in range(0, num_itemset, size):
        bounds = offsets[first : first + size + 1]
        sums = xp.zeros((len(bounds) - 1, dim), dtype=np.float64)
        totals = xp.zeros(len(bounds) - 1, dtype=np.float64)
        for start in range(int(bounds[0]), int(bounds[-1]), size):
            stop = min(start + size, int(bounds[-1]))
            positions = np.arange(start, stop)
            owners = xp.asarray(np.searchsorted(bounds, positions, side="right") - 1)
            factors = xp.asarray(weights[start:stop] if len(weights) else np.ones(len(positions)))
            factors = factors.astype(np.float64)
            rows = table[xp.asarray(items[start:stop])].astype(np.float64)
            xp.add.at(sums, owners, factors[:, None] * rows)
            xp.add.at(totals, owners, xp.abs(factors))
        totals[totals == 0] = 1  # their sums are zero
        pooled[first : first + size] = sums / totals[:, None]
    return pooled

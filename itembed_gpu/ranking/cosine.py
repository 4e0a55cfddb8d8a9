"""Nearest rows by cosine, exactly: one query or some, in float64, with neither Numba nor a copy.

Scores of all candidates in float32 only screen, as in `top_n`; what may belong to the best n, or
tie with them, is scored again in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Float64Array
from ..errors import InputError
from .parts import PartedTable, rows_between
from .vectors import CHUNK

Rows = npt.NDArray[np.intp]
Found = tuple[Rows, Float64Array]

# Bytes of the block of scores that is filled at a time.
SCORE_BUDGET = 1 << 26


class _Asked(NamedTuple):
    """What is asked of a part, its rows numbered from the first, which is that of the table."""

    n: int
    candidates: Rows | None
    barred: Rows
    own: Rows | None
    first: int


def nearest_rows(
    queries: Float32Array,
    table: Any,
    n: int,
    *,
    candidates: Rows | None = None,
    barred: Rows,
    own: Rows | None = None,
) -> Iterator[Found]:
    """Find the n rows of a table (num_row, D) that are nearest to each query (q, D), both float32.

    The table may be a `PartedTable`. Scores are cosines that do not depend on how many queries are
    asked at once, nor on the parts. Equal ones stand in row order, and zeros have a cosine of 0
    with everything.

    Only candidates are returned, which are ascending and all different; never the rows that are
    barred, nor, for a query, its own row (q,). Yields rows, best first and at most n of them, and
    their scores, float64.
    """
    table, barred = PartedTable.of(table), np.sort(barred)
    for some in table.query_blocks(*queries.shape):

        def asked(first: int, stop: int, some: slice = some) -> _Asked:
            return _Asked(
                n,
                None if candidates is None else rows_between(candidates, first, stop),
                rows_between(barred, first, stop),
                None if own is None else own[some],
                first,
            )

        best: list[Found] | None = None
        for _, found in table.ask(_nearest_in_part, queries[some], asked):
            if best is None:
                best = found
            else:
                best = [_merged(*pair, n) for pair in zip(best, found, strict=True)]
        yield from best or []


def _merged(left: Found, right: Found, n: int) -> Found:
    """Return the best n of what was found for a query in two parts."""
    rows, scores = (np.concatenate(pair) for pair in zip(left, right, strict=True))
    order = np.lexsort((rows, -scores))[:n]
    return rows[order], scores[order]


def _nearest_in_part(table: Float32Array, queries: Float32Array, asked: _Asked) -> list[Found]:
    n, candidates, barred, own, first = asked
    columns = _columns(barred, candidates)
    nearest = []
    # Not kept from call to call: the table may be one that is being trained in place.
    norms = np.empty(len(table) if candidates is None else len(candidates))
    for part, vectors in _chunks(table, candidates):
        norms[part] = _row_norms(vectors)
    if not np.isfinite(norms).all():
        row = int(np.isfinite(norms).argmin())
        row = first + (row if candidates is None else int(candidates[row]))
        raise InputError(
            f"vectors: row {row} holds a value that is not finite; drop that row, or train with a "
            "lower learning rate"
        )
    for start, block in _score_blocks(queries, table, candidates, norms):
        block[:, columns] = -np.inf
        for query, scores in enumerate(block, start):
            if own is not None:
                here = rows_between(own[query : query + 1], first, first + len(table))
                scores[_columns(here, candidates)] = -np.inf
            rows = _shortlist(scores, n, table.shape[1])
            rows = rows if candidates is None else candidates[rows]
            exact = _cosines(queries[query], table, rows)
            best = np.argsort(-exact, kind="stable")[:n]
            nearest.append((rows[best] + first, exact[best]))
    return nearest


def _score_blocks(
    queries: Float32Array, table: Float32Array, candidates: Rows | None, norms: Float64Array
) -> Iterator[tuple[int, npt.NDArray[np.floating]]]:
    """Screening scores of the candidates, some queries at a time: (first query, block).

    Every block is a view of one array, which the caller may write to.
    """
    # Products of ordinary rows are safe in float32; of extreme ones, only in float64.
    ordinary = bool(np.all((norms == 0) | ((norms > 1e-15) & (norms < 1e15))))
    dtype = np.dtype(np.float32 if ordinary else np.float64)
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0).astype(dtype)
    tile = max(1, SCORE_BUDGET // (dtype.itemsize * max(1, len(norms))))
    buffer = np.empty((min(tile, len(queries)), len(norms)), dtype)
    for start in range(0, len(queries), tile):
        some = queries[start : start + tile]
        lengths = _row_norms(some)[:, None]
        units = (some / np.where(lengths > 0, lengths, 1)).astype(dtype)
        block = buffer[: len(units)]
        for part, vectors in _chunks(table, candidates):
            np.matmul(units, vectors.astype(dtype, copy=False).T, out=block[:, part])
            block[:, part] *= inverse[part]
        yield start, block


def _cosines(query: Float32Array, table: Float32Array, rows: Rows) -> Float64Array:
    """Cosines in float64.

    Each row is summed by itself, so that equal vectors score equal wherever
    they stand, as they need not in a matrix product.
    """
    wide = query.astype(np.float64)
    scores = np.empty(len(rows))
    for part, chunk in _chunks(table, rows):
        vectors = chunk.astype(np.float64)
        norms = np.sqrt((vectors * vectors).sum(axis=1)) * np.sqrt((wide * wide).sum())
        scores[part] = (vectors * wide).sum(axis=1) / np.where(norms > 0, norms, 1)
    return np.clip(scores, -1, 1)  # rounding makes a cosine of 1.0000000000000002


def _chunks(table: Float32Array, rows: Rows | None) -> Iterator[tuple[slice, Float32Array]]:
    """These rows of a table, or all, some at a time: (which of them, vectors)."""
    length = len(table) if rows is None else len(rows)
    step = max(1, CHUNK // table.shape[1])
    for start in range(0, length, step):
        part = slice(start, min(start + step, length))
        yield part, table[part if rows is None else rows[part]]


def _columns(rows: Rows, candidates: Rows | None) -> Rows:
    """Where `rows` stand among the sorted candidates, without those that do not."""
    if candidates is None:
        return rows
    first, end = (np.searchsorted(candidates, rows, side) for side in ("left", "right"))
    return first[first < end]


def _row_norms(table: Float32Array) -> Float64Array:
    norms: Float64Array = np.sqrt(np.einsum("ij,ij->i", table, table)).astype(np.float64)
    # Squares under- or overflow float32 here; and only float64 tells tiny from zero.
    extreme = ~((norms > 1e-15) & (norms < 1e15))
    if extreme.any():
        rows = table[extreme].astype(np.float64)
        norms[extreme] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def _shortlist(scores: npt.NDArray[np.floating], n: int, dimension: int) -> Rows:
    """Columns, ascending, that hold the best n of the scores and whatever may tie with them.

    A screening score is off by less than half the margin: of the rounding unit
    (eps / 2), D in the dot product, D / 2 in the norm, and a few in the scaling.
    """
    cut = -2.0  # below any cosine, above the -inf of what is left out
    if n < len(scores):
        margin = (2 * dimension + 8) * float(np.finfo(scores.dtype).eps)
        cut = max(cut, float(np.partition(scores, -n)[-n]) - margin)
    return np.flatnonzero(scores >= cut)

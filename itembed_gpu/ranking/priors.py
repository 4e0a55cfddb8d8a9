"""Rankings also for queries that nothing is known of: by a prior of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int64Array
from ..sets import Packed, choose_sets
from .top_n import top_n


def rank(
    queries: Any,
    table: Any,
    n: int,
    known: npt.NDArray[np.bool_],
    prior: npt.NDArray[Any],
    *,
    bias: npt.ArrayLike | None = None,
    exclude: Packed | None = None,
    losers: Packed | None = None,
    **options: Any,
) -> tuple[Int64Array, Float32Array]:
    """Return the n best rows of a table for each query, by `top_n`.

    Where a query is not known, there is nothing to answer it from: it gets the rows with the
    highest prior (num_row,), and that as their scores, whatever the bias and what is excluded.
    """
    rows, scores = top_n(queries, table, n, bias=bias, exclude=exclude, losers=losers, **options)
    return answer_unknown((rows, scores), table, known, prior, losers=losers, **options)


def answer_unknown(
    found: tuple[Int64Array, Float32Array],
    table: Any,
    known: npt.NDArray[np.bool_],
    prior: npt.NDArray[Any],
    *,
    losers: Packed | None = None,
    **options: Any,
) -> tuple[Int64Array, Float32Array]:
    """Put the rows with the highest prior, and that, in the place of what was found of nothing."""
    rows, scores = found
    if not known.all():
        # One answer does for all, unless each of them has losers of its own.
        own = None if losers is None else choose_sets(losers, ~known)
        num_query = 1 if own is None else np.count_nonzero(~known)
        nothing = np.zeros((num_query, table.shape[1]), dtype=np.float32)
        n = rows.shape[1]
        rows[~known], scores[~known] = top_n(nothing, table, n, bias=prior, losers=own, **options)
    return rows, scores


def log_shares(counts: Int64Array) -> npt.NDArray[np.float64]:
    """Return the logarithm of each row's share of all occurrences."""
    shares: npt.NDArray[np.float64] = np.log(np.maximum(counts, 1) / max(int(counts.sum()), 1))
    return shares

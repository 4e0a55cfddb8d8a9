"""Packs the rows of sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import Float32Array, Int64Array, first_not_finite
from ..errors import DataError
from .columns import group_rows
from .itemsets import Dropped, PackedItemsets
from .packing import Limits, pack_codes, pack_columns

# Columns of a matrix for each entry, from which on they are looked up and not counted.
MAX_SPARSE = 64


def pack_matrix(
    matrix: Any, limits: Limits, *, weighted: bool = False, by_column: bool = False
) -> PackedItemsets:
    """Pack the rows of a sparse matrix of SciPy; entries that are stored twice are two items.

    Its rows are itemsets, and the numbers of its columns are labels; zeros that it stores are no
    items. Its values are weights if it is `weighted`. With `by_column`, labels that are as frequent
    as each other stand in the order of their columns, and not as they first come; and so do the
    items of a row, but for those of a CSR. Raises a `DataError` if a weight is not finite.
    """
    codes, values, lengths = _entries(matrix, by_column)
    num_zero = len(values) - int(np.count_nonzero(values))
    if num_zero:
        zero = values == 0
        rows = np.repeat(np.arange(len(lengths)), lengths)
        lengths = lengths - np.bincount(rows[zero], minlength=len(lengths))
        codes, values = codes[~zero], values[~zero]
    weights = _weights(codes, values, lengths) if weighted else None
    labels, num_code = None, matrix.shape[1]
    if num_code > MAX_SPARSE * (len(codes) + 1):
        labels, codes = np.unique(codes, return_inverse=True)
        num_code = len(labels)
    dropped = Dropped(zero_items=num_zero)
    if by_column:
        names = range(num_code) if labels is None else labels.tolist()
        return pack_codes(names, codes.astype(np.int32), lengths, limits, weights, dropped)
    return pack_columns(labels, codes, lengths, num_code, limits, weights, dropped)


def _entries(matrix: Any, by_column: bool) -> tuple[Any, Any, Int64Array]:
    """Return columns and values of what is stored, row by row, and how many each row has."""
    if getattr(matrix, "format", "") == "csr":
        return matrix.indices, matrix.data, np.diff(matrix.indptr).astype(np.int64)
    # Not by way of CSR, which would add up what is stored twice.
    entries = matrix.tocoo()
    if by_column:
        order: Any = np.lexsort((entries.col, entries.row))
    else:
        kept, _ = group_rows(entries.row.astype(np.int32))
        order = slice(None) if kept is None else kept
    lengths = np.bincount(entries.row, minlength=matrix.shape[0])
    return entries.col[order], entries.data[order], lengths


def _weights(columns: Any, values: Any, lengths: Int64Array) -> Float32Array:
    weights: Float32Array = values.astype(np.float32)
    wrong = first_not_finite(weights)
    if wrong is not None:
        row = int(np.searchsorted(np.cumsum(lengths), wrong, side="right"))
        raise DataError(
            f"source: row {row} of the matrix holds {values[wrong]} in column "
            f"{columns[wrong]}; weights are finite numbers"
        )
    return weights

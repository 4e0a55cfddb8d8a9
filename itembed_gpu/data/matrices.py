"""Packs the rows of matrices whose columns are items: sparse ones, and arrays of 0 and 1."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int64Array, first_not_finite, on_host, warn
from ..errors import DataError, InputError
from .columns import group_rows
from .foreign import foreign_errors
from .itemsets import Dropped, PackedItemsets
from .packing import Limits, pack_codes, pack_columns

logger = logging.getLogger("itembed_gpu")

# Rows of an array that are looked at before all are.
_FIRST = 64
# Columns of a matrix for each entry, from which on they are looked up and not counted.
MAX_SPARSE = 64


def as_numpy(value: Any) -> Any:
    """Return an array of two axes of another library as one of NumPy, and anything else as it is.

    So that what holds 0 and 1 is read alike, whatever library it is of.
    """
    # The type is asked: to a frame, its columns may be attributes.
    is_array = all(hasattr(type(value), name) for name in ("dtype", "shape", "__array__"))
    plain = isinstance(value, np.ndarray) and not isinstance(value, np.matrix)
    if plain or not is_array or len(value.shape) != 2:
        return value
    return np.asarray(on_host(value))


def is_row_of_matrix(value: Any) -> bool:
    """Whether an array of one axis holds booleans, or so many 0 and 1 that they are no labels."""
    if not isinstance(value, np.ndarray) or value.ndim != 1:
        return False
    return value.dtype.kind == "b" or (
        value.dtype.kind in "iuf" and len(value) > 2 and is_zero_one(value)
    )


def is_matrix(name: str, value: Any) -> bool:
    """Whether the columns of an argument of this name are its items, and its rows itemsets.

    They are those of a sparse matrix of SciPy, and of an array of two axes that holds booleans, or
    numbers that are all 0 or 1. Other integers are items themselves. Raises an `InputError` if
    that is not certain.
    """
    if hasattr(value, "tocsr"):
        return True
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.size:
        return False
    if value.dtype.kind not in "biuf":
        return value.dtype.kind == "O" and value.shape[1] > 2 and is_zero_one(value)
    if value.dtype.kind == "b" or (value.shape[1] > 1 and is_zero_one(value)):
        if value.dtype.kind in "iu" and value.shape[1] == 2:
            raise InputError(
                f"{name} is an array with two columns that hold 0 and 1 alone: pass "
                "scipy.sparse.csr_matrix(array) if the columns are items, or array.tolist() if the "
                "numbers are"
            )
        logger.info("%s is an array of 0 and 1: its columns are the items", name)
        return True
    if value.dtype.kind == "f":
        raise InputError(
            f"{name} is an array of {value.dtype}, which are no items: pass "
            "scipy.sparse.csr_matrix(array) if its columns are items, or lists of integers or "
            "strings"
        )
    if value.shape[1] > 2 and value.size > 2 * np.count_nonzero(value):
        warn(
            f"{name} is an array of integers, most of which are 0, and each number is read as an "
            "item; if its columns are items, pass scipy.sparse.csr_matrix(array)"
        )
    return False


def is_zero_one(array: npt.NDArray[Any]) -> bool:
    """Whether there is nothing else; what is missing is something else."""
    try:
        return all(bool(((part == 0) | (part == 1)).all()) for part in (array[:_FIRST], array))
    except (TypeError, ValueError):  # of objects that cannot be compared
        return False


def pack_matrix(
    matrix: Any,
    limits: Limits,
    *,
    weighted: bool = False,
    by_column: bool = False,
    names: Sequence[Any] | None = None,
) -> PackedItemsets:
    """Pack the rows of what `is_matrix` is true of; entries that are stored twice are two items.

    Its rows are itemsets, and the numbers of its columns, or their names, are labels; zeros that it
    stores are no items, nor is NaN. Its values are weights if it is `weighted`. With `by_column`,
    labels that are as frequent as each other stand in the order of their columns, and not as they
    first come; and so do the items of a row, but for those of a CSR. A sparse array of one axis is
    one row. Raises a `DataError` if a weight is not finite, and an `InputError` if there are more
    than two axes.
    """
    if len(matrix.shape) > 2:
        raise InputError(f"a sparse array has shape {matrix.shape}; pass one of two axes")
    if len(matrix.shape) == 1:
        matrix = matrix.reshape(1, -1)
    with foreign_errors(f"a {type(matrix).__name__}"):
        codes, values, lengths = _entries(matrix, by_column)
    num_zero = len(values) - int(np.count_nonzero(values))
    missing = values != values
    num_none = 0 if weighted else int(np.count_nonzero(missing))
    if num_zero or num_none:
        gone = values == 0 if weighted else missing | (values == 0)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        lengths = lengths - np.bincount(rows[gone], minlength=len(lengths))
        codes, values = codes[~gone], values[~gone]
    weights = _weights(codes, values, lengths) if weighted else None
    labels, num_code = None, matrix.shape[1]
    if num_code > MAX_SPARSE * (len(codes) + 1):
        labels, codes = np.unique(codes, return_inverse=True)
        num_code = len(labels)
    dropped = Dropped(zero_items=num_zero, none_items=num_none)
    if names is not None:
        labels = np.array(names, object)[slice(None) if labels is None else labels]
    if by_column:
        given = range(num_code) if labels is None else labels.tolist()
        return pack_codes(given, codes.astype(np.int32), lengths, limits, weights, dropped)
    return pack_columns(labels, codes, lengths, num_code, limits, weights, dropped)


def _entries(matrix: Any, by_column: bool) -> tuple[Any, Any, Int64Array]:
    """Return columns and values of what is stored, row by row, and how many each row has."""
    if getattr(matrix, "format", "") == "csr":
        return matrix.indices, matrix.data, np.diff(matrix.indptr).astype(np.int64)
    if isinstance(matrix, np.ndarray):
        rows, columns = np.nonzero(matrix)
        return columns, matrix[rows, columns], np.bincount(rows, minlength=len(matrix))
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

"""Numbers the values of columns, and brings the rows of an itemset together.

A column is numbered in two steps: polars, which knows types, gives equal values equal codes (of
strings, hashes that are checked); then one pass over the codes renumbers them as they first come.
Rows that are not adjacent are brought together by counting, in two passes, and not by sorting.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Int32Array, Int64Array
from ..errors import DataError
from .labels import plain
from .loops import count_rows, number_hashes, renumber, scatter_rows
from .packing import number_labels

if TYPE_CHECKING:
    import polars

# Integers whose span is at most so many times their number are their own codes.
_DENSE = 8
# Strings that are compared at once.
_PIECE = 1 << 20


class Codes(NamedTuple):
    """Equal integers for equal values of a column."""

    codes: npt.NDArray[Any]  # -1 where there is no value
    num_code: int  # a bound above them
    # Where they are numbers of values as they first come: the first row of each.
    first_rows: Int64Array | None = None


def number(
    column: polars.Series, rows: Int64Array | None = None, coded: Codes | None = None
) -> tuple[list[Any], Int32Array]:
    """Number the values of a column as they first come; what is missing is -1.

    Takes all rows, or some in this order (int64), and what `encode` gave for the column, if that
    is known. Returns the values, in their own type, and a new array of numbers, int32.
    """
    coded = coded or encode(column)
    if coded is None:
        values = column.to_list()
        try:
            return number_labels(values if rows is None else [values[row] for row in rows])
        except TypeError as error:
            raise DataError(
                f"column {column.name!r} holds objects that are no labels: {error}; pass lists, "
                "strings or integers"
            ) from error
    codes, num_code, known_rows = coded
    if rows is None and known_rows is not None:
        return label_values(column.gather(known_rows)), codes
    # Codes are gathered much faster than strings are.
    numbers, first_rows = renumber(codes if rows is None else codes[rows], num_code)
    return label_values(column.gather(first_rows if rows is None else rows[first_rows])), numbers


def label_values(values: polars.Series) -> list[Any]:
    """Make Python objects of different values, which they have to stay."""
    import polars

    if values.dtype == polars.Time or getattr(values.dtype, "time_unit", "") == "ns":
        finer = values.filter(values.to_physical() % 1000 != 0)
        if len(finer):
            raise DataError(
                f"the item column holds {finer.cast(polars.String)[0]}, and Python has "
                "nothing finer than a microsecond; cast it to microseconds or to strings"
            )
    labels = values.to_list()
    return list(map(plain, labels)) if values.dtype.is_decimal() else labels


def number_itemsets(column: polars.Series) -> Int32Array:
    """Number the values of a column as they first come, without their names.

    Where equal values are adjacent, only the first of each run is looked at.
    """
    starts = run_starts(column)
    if 2 * len(starts) > len(column):
        return _numbers(column)
    numbers = _numbers(column.gather(starts))
    return np.repeat(numbers, np.diff(starts, append=len(column)))


def _numbers(column: polars.Series) -> Int32Array:
    coded = encode(column)
    if coded is None:
        return number(column)[1]
    if coded.first_rows is not None:
        return coded.codes
    numbers: Int32Array = renumber(coded.codes, coded.num_code)[0]
    return numbers


def run_starts(column: polars.Series) -> Int64Array:
    """Row of the first of each run of equal values; missing ones are equal."""
    if len(column) == 0:
        return np.empty(0, np.int64)
    if column.dtype.is_integer() and not _is_wide(column) and not column.null_count():
        values = column.to_numpy()
        starts = np.flatnonzero(values[1:] != values[:-1]) + 1
    else:
        starts = np.flatnonzero(column.ne_missing(column.shift(1)).to_numpy())
    return starts if len(starts) and starts[0] == 0 else np.insert(starts, 0, 0)


def _is_wide(column: polars.Series) -> bool:
    """Whether its integers are of more bits than those of NumPy."""
    return str(column.dtype) in ("Int128", "UInt128")


def new_categories() -> polars.Categorical:
    """A type of categories of its own, which go when the column does."""
    import polars

    return polars.Categorical(polars.Categories.random())


def encode(column: polars.Series) -> Codes | None:
    """Give equal values equal codes; None for Python objects, which have none."""
    import polars

    if column.dtype == polars.Object:
        return None
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if isinstance(column.dtype, polars.Categorical | polars.Enum):
        physical = column.to_physical()
        if column.null_count():
            physical = physical.cast(polars.Int64).fill_null(-1)
        numbers: npt.NDArray[Any] = physical.to_numpy()
        return Codes(numbers, int(numbers.max(initial=0)) + 1)
    if column.dtype == polars.String:
        found = _string_codes(column)
        return found or encode(column.cast(new_categories()))
    if (
        column.dtype.is_integer()
        and not _is_wide(column)
        and len(column)
        and not column.null_count()
    ):
        values = column.to_numpy()
        low, high = int(values.min()), int(values.max())
        if high - low < _DENSE * len(values) and high < 1 << 62:
            return Codes(values.astype(np.int64) - low, high - low + 1)
    distinct = column.drop_nulls().unique()
    places = polars.int_range(len(distinct), dtype=polars.Int64, eager=True)
    coded = column.replace_strict(distinct, places, default=-1, return_dtype=polars.Int64)
    return Codes(coded.to_numpy(), len(distinct))


def _string_codes(column: polars.Series) -> Codes | None:
    """What `encode` says of strings, by their hashes; None where two strings have the same one.

    Some times as fast as making categories of them.
    """
    numbers, first_rows = number_hashes(column.hash().to_numpy())
    values = column.gather(first_rows)

    def is_same(start: int) -> bool:
        piece = column.slice(start, _PIECE)
        return bool(values.gather(numbers[start : start + _PIECE]).eq_missing(piece).all())

    with ThreadPoolExecutor() as pool:
        if not all(pool.map(is_same, range(0, len(column), _PIECE))):
            return None
    if column.null_count():  # which had a number of its own
        numbers[column.is_null().to_numpy()] = -1
        return Codes(numbers, len(first_rows))
    return Codes(numbers, len(first_rows), first_rows)


def group_rows(itemsets: Int32Array) -> tuple[Int64Array | None, Int64Array]:
    """Bring the rows of each itemset together, itemsets and rows in their order.

    Takes the number of each row's itemset, int32, as `number` gives it; rows of -1 are left out.
    Returns the rows in their new order, or None where they have it already, and the number of rows
    of each itemset.
    """
    num_itemset = int(itemsets.max(initial=-1)) + 1
    lengths, in_order = count_rows(itemsets, num_itemset)
    return (None if in_order else scatter_rows(itemsets, lengths)), lengths

"""Identifiers that were made numbers with a fraction on their way, or rounded.

A column of integers with a gap becomes one of floats in pandas, and so does one of JSON that has
a fraction anywhere; and a float holds integers up to 2**53 only: beyond, several are one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .labels import INEXACT

if TYPE_CHECKING:
    import polars

# Integers below are all exact in a float; this one stands for its neighbour as well.
_EXACT = {"Float64": INEXACT, "Float32": 1 << 24, "Float16": 1 << 11}
# How floats are written that are whole; and large ones, with an exponent, as spreadsheets do too.
_WHOLE = ".0"
_LARGE = r"^-?\d\.\d{3,}[eE]\+\d{2,3}$"
_CURE = "cast it to integers or strings where it is made, as floats do not tell such numbers apart"


def whole_numbers(what: str, items: polars.Series) -> polars.Series:
    """Make integers of items that are floats, if all are whole.

    Raises a DataError, which `what` begins, where one is not, or is too large to be told from its
    neighbours.
    """
    import polars

    if not items.dtype.is_float():
        return items
    check_exact(what, items)
    numbers = items.fill_nan(None).cast(polars.Int64)
    wrong = items.filter(numbers.is_not_null() & (numbers != items))
    if len(wrong):
        raise DataError(
            f"{what} is {items.dtype} and holds {wrong[0]!r}; cast it to integers or strings"
        )
    return numbers


def check_exact(what: str, column: polars.Series) -> None:
    """Refuse floats that stand for several integers, also where they are written as text."""
    import polars

    if column.dtype.is_float():
        limit = _EXACT.get(str(column.dtype), INEXACT)
        wrong = column.filter(column.is_not_nan() & (column.abs() >= limit))
        if len(wrong):
            raise DataError(f"{what} is {column.dtype} and holds {wrong[0]!r}; {_CURE}")
    elif column.dtype == polars.String:
        first: Any = column.first(ignore_nulls=True)
        # Where they were floats, all were.
        if first is None or not (first.endswith(_WHOLE) or re.match(_LARGE, first)):
            return
        large = column.str.contains(_LARGE)
        rounded = column.cast(polars.Float64, strict=False).abs() >= INEXACT
        wrong = column.filter(large | (rounded & column.str.ends_with(_WHOLE)))
        if len(wrong):
            raise DataError(f"{what} holds {wrong[0]}, a float; {_CURE}")


def whole_strings(items: polars.Series) -> polars.Series | None:
    """Return the integers of a column of strings, if all are whole floats: ``17850.0``."""
    import polars

    first: Any = items.first(ignore_nulls=True)
    if first is None or not first.endswith(_WHOLE):
        return None
    numbers = items.str.strip_suffix(_WHOLE).cast(polars.Int64, strict=False)
    written = numbers.cast(polars.String) + _WHOLE
    return None if written.ne_missing(items).any() else numbers


def is_float(dtype: polars.DataType) -> bool:
    """Whether values, or those of lists, are floats."""
    inner: polars.DataType = getattr(dtype, "inner", dtype)
    return inner.is_float()


def were_floats(written: polars.Series, items: polars.Series) -> bool:
    """Whether integers were written as floats."""
    first: Any = written.first(ignore_nulls=True)
    return bool(items.dtype.is_integer() and first is not None and first.endswith(_WHOLE))

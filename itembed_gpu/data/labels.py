"""Labels as Python's own values, whatever library they are elements of, and what is none."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from ..checks import show
from ..errors import InputError

# Neither missing, nor of another library.
OWN = frozenset([str, int, bool, bytes, date, datetime, time, timedelta, UUID, frozenset])

# From here on, floats do not tell integers apart.
INEXACT = 2.0**53
# Digits of a decimal that may become an integer.
_MOST_DIGITS = 77
# Units of NumPy that are finer than Python's.
_FINE = ("ns", "ps", "fs", "as")


def is_missing(label: Any) -> bool:
    """Whether a value stands for none: None, NaN of any kind, NaT, or the NA of pandas."""
    if label is None:
        return True
    kind = type(label)
    if kind in OWN or kind is tuple:
        return False
    if kind.__name__ in ("NAType", "NaTType"):
        return True
    if hasattr(label, "as_py"):  # a scalar of Arrow
        return not label.is_valid or is_missing(label.as_py())
    try:
        return bool(label != label)
    except Exception:  # of any class: it is no NaN
        return False


def plain(label: Any) -> Any:
    """Return the value of a scalar of NumPy, Arrow, pandas or the like as one of Python's own.

    A whole decimal becomes an integer. What Python has nothing for stays as it is. Raises an
    `InputError` if a moment would be rounded.
    """
    kind = type(label)
    if kind in OWN or kind is float:
        return label
    if kind is tuple:
        try:
            return label if OWN.issuperset(map(type, label)) else tuple(map(plain, label))
        except RecursionError:  # too deep to be looked at, as it is to be saved
            return label
    if kind is Decimal:
        whole = label.is_finite() and label.adjusted() < _MOST_DIGITS and label == int(label)
        return int(label) if whole else label
    if isinstance(label, np.datetime64 | np.timedelta64):
        return _plain_moment(label)
    if hasattr(label, "as_py"):
        return plain(_arrow_value(label))
    for method in ("to_pydatetime", "to_pytimedelta"):
        if hasattr(label, method):
            return _without_nanoseconds(label, method)
    # Scalars of NumPy, and arrays of no axis, as iterating over those of PyTorch yields.
    if getattr(label, "shape", None) == () and hasattr(label, "item"):
        return label.item()
    return label


def _plain_moment(label: np.datetime64 | np.timedelta64) -> Any:
    value: Any = label.item()
    if isinstance(label, np.timedelta64):
        if isinstance(value, int) and np.datetime_data(label.dtype)[0] in _FINE:
            rounded = label.astype("timedelta64[us]")
            value = rounded.item() if rounded == label else label
        return value if isinstance(value, timedelta) else label  # years have no length
    if not isinstance(value, date):  # NaT, or a number
        value = label.astype("datetime64[us]").item()
        if not isinstance(value, date) or np.datetime64(value) != label:
            raise _too_fine(label)
    return value


def _arrow_value(label: Any) -> Any:
    try:
        return label.as_py()
    except ValueError:  # of nanoseconds, without pandas
        raise _too_fine(label) from None


def _without_nanoseconds(label: Any, method: str) -> Any:
    """Return the datetime or the timedelta of one of pandas."""
    if getattr(label, "nanosecond", 0) or getattr(label, "nanoseconds", 0):
        raise _too_fine(label)
    return getattr(label, method)()


def _too_fine(label: Any) -> InputError:
    return InputError(
        f"labels: {show(label)} does not fit a datetime; round it, or convert it to str"
    )

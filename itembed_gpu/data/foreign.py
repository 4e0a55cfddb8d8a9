"""The one place where errors of other libraries become ours: pandas, polars, Arrow, SciPy, ..."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DataError, ItembedError


@contextmanager
def foreign_errors(
    what: str, cure: str = "", explain: Callable[[], Any] | None = None
) -> Iterator[None]:
    """Turn whatever another library raises into a `DataError` of one line.

    What explains it may raise a better one before.
    """
    try:
        yield
    except (ItembedError, MemoryError, ImportError):
        raise
    except BaseException as error:
        # Those of polars that it did not expect are no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if explain is not None:
            explain()
        raise DataError(f"{what} cannot be read: {first_line(error)}{cure}") from error


def read_json(text: str | bytes) -> Any:
    """Raise a `ValueError` for what is no JSON, also where it is nested too deep for Python."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

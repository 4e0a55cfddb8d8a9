"""The one place where errors of other libraries become ours: pandas, polars, Arrow, SciPy, ..."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DataError, ItembedError
from .files import first_line


@contextmanager
def foreign_errors(what: str, cure: str = "") -> Iterator[None]:
    """Turn whatever another library raises about an object into a `DataError` of one line."""
    try:
        yield
    except (ItembedError, MemoryError, ImportError):
        raise
    except BaseException as error:
        # Those of polars that it did not expect are no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{what} cannot be read: {first_line(error)}{cure}") from error

"""Data frames of every library, column by column, so that only what is wanted is converted.

Which library a frame is of, its class tells, so that none is imported for it. Frames of other
libraries come by the Arrow C stream (its PyCapsule interface,
https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html) or by the interchange
protocol (``__dataframe__``).
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import filterfalse
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ..checks import import_polars
from ..errors import DataError, InputError
from .foreign import foreign_errors
from .lists import is_frame, is_no_row, refuse_lazy
from .matrices import is_zero_one, pack_matrix
from .packing import Limits

if TYPE_CHECKING:
    import polars

    from .itemsets import PackedItemsets

# Rows that are looked at before all are.
_FIRST = 64


class Frame:
    """A data frame, whatever library it is of."""

    def __init__(self, name: str, frame: Any) -> None:
        self.name = name
        self.frame = frame
        self.names = self._names()
        # Of columns of one name, the first: which of them is meant, nothing tells.
        self._places = {x: place for place, x in reversed(list(enumerate(self.names)))}
        # Columns whose values are UUIDs, which polars has as bytes.
        self.identifiers: set[str] = set()

    def _names(self) -> list[str]:
        return list(map(str, self.frame.columns))

    def column(self, name: str) -> Any:
        """Return a column, as its library has it."""
        raise NotImplementedError

    def kind(self, name: str) -> str:
        """Return the letter of NumPy for what a column holds: b, i, u, f; L for lists; O else."""
        raise NotImplementedError

    def holds_sets(self, name: str) -> bool:
        """Whether a column has sets of Python among its lists."""
        return False

    def convert(self, names: list[str]) -> polars.DataFrame:
        """Return some columns as a frame of polars."""
        import polars

        columns = {}
        for name in names:
            cure = f"; column {name!r} is {self._type(name)}: cast it to strings or integers"
            with foreign_errors(f"{self.name}: column {name!r}", cure):
                columns[name] = self._convert(name).alias(name)
        return polars.DataFrame(columns)

    def _type(self, name: str) -> Any:
        return self.column(name).dtype

    def _convert(self, name: str) -> polars.Series:
        raise NotImplementedError

    def schema(self) -> polars.Schema:
        """Return which columns hold lists, in types of polars; nothing else is told of them."""
        import polars

        types = {True: polars.List(polars.Null), False: polars.Unknown()}
        return polars.Schema({name: types[self.kind(name) == "L"] for name in self.names})

    def first(self, name: str) -> npt.NDArray[Any]:
        """Return the first values of a column of numbers."""
        return np.asarray(self.column(name)[:_FIRST])

    def matrix(self, names: list[str]) -> Any:
        """Return columns of numbers as a matrix."""
        return np.column_stack([np.asarray(self.column(name)) for name in names])


class PolarsFrame(Frame):
    """A frame of polars, lazy or not."""

    def _names(self) -> list[str]:
        with foreign_errors(self.name):
            self._schema: polars.Schema = self.frame.collect_schema()
        return list(self._schema)

    def schema(self) -> polars.Schema:
        return self._schema

    def _collect(self, frame: Any) -> polars.DataFrame:
        # The streaming engine keeps no order of rows.
        with foreign_errors(self.name):
            collected: polars.DataFrame = frame.lazy().collect(engine="in-memory")
        return collected

    def column(self, name: str) -> Any:
        return self._collect(self.frame.select(name))[name]

    def kind(self, name: str) -> str:
        dtype = self._schema[name]
        if dtype.is_nested():
            return "L"
        if str(dtype) == "Boolean":
            return "b"
        # Whether numbers are all 0 or 1, only a query would tell of a lazy frame.
        if not dtype.is_numeric() or dtype.is_decimal() or hasattr(self.frame, "explain"):
            return "O"
        return "f" if dtype.is_float() else "i"

    @cached_property
    def _head(self) -> polars.DataFrame:
        return self._collect(self.frame.head(_FIRST))

    def first(self, name: str) -> npt.NDArray[Any]:
        return self._head[name].to_numpy()

    def matrix(self, names: list[str]) -> Any:
        return self._collect(self.frame.select(names)).to_numpy()

    def convert(self, names: list[str]) -> polars.DataFrame:
        return self._collect(self.frame.select(names))


class ArrowFrame(Frame):
    """A table of Arrow."""

    def __init__(self, name: str, frame: Any) -> None:
        super().__init__(name, frame)
        self.identifiers = {x.name for x in frame.schema if "arrow.uuid" in str(x.type)}

    def _names(self) -> list[str]:
        return list(self.frame.schema.names)

    def _type(self, name: str) -> Any:
        return self.column(name).type

    def column(self, name: str) -> Any:
        return self.frame.column(self._places[name])

    def kind(self, name: str) -> str:
        from pyarrow import types

        kind = self.frame.schema.field(self._places[name]).type
        kind = getattr(kind, "storage_type", kind)
        if types.is_run_end_encoded(kind):
            kind = kind.value_type
        if types.is_nested(kind):
            return "L"
        if types.is_boolean(kind):
            return "b"
        return "i" if types.is_integer(kind) else "f" if types.is_floating(kind) else "O"

    def _convert(self, name: str) -> polars.Series:
        import polars

        return polars.Series(name, polars.from_arrow(_known_to_polars(self.column(name))))


def _known_to_polars(column: Any) -> Any:
    """Cast a column of Arrow that is of one of the types that polars has not."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    if types.is_run_end_encoded(kind):
        chunks = [compute.run_end_decode(chunk) for chunk in column.chunks]
        return _known_to_polars(pyarrow.chunked_array(chunks, kind.value_type))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return pyarrow.chunked_array(
            map(_viewed_lists, column.chunks), pyarrow.large_list(kind.value_type)
        )
    if types.is_decimal(kind) and kind.bit_width != 128:
        return column.cast(pyarrow.decimal128(38, kind.scale))
    return column


def _viewed_lists(chunk: Any) -> Any:
    """Make lists of views of lists; pyarrow 26 casts them to arrays that are not valid."""
    import pyarrow

    lengths = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pyarrow.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    gone = chunk.is_null()
    return pyarrow.LargeListArray.from_arrays(offsets, chunk.flatten(), mask=gone)


class PandasFrame(Frame):
    """A frame of pandas."""

    @cached_property
    def _dtypes(self) -> list[Any]:
        return list(self.frame.dtypes)

    def column(self, name: str) -> Any:
        return self.frame.iloc[:, self._places[name]]

    def kind(self, name: str) -> str:
        dtype = self._dtypes[self._places[name]]
        arrow = getattr(dtype, "pyarrow_dtype", None)
        if arrow is not None:
            from pyarrow import types

            if types.is_nested(arrow):
                return "L"
        dtype = getattr(dtype, "subtype", dtype)  # of what is sparse
        if str(dtype) != "object":
            return str(dtype.kind) if dtype.kind in "biuf" else "O"
        value = next(filterfalse(is_no_row, self.column(name)), None)
        return "L" if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else "O"

    def first(self, name: str) -> npt.NDArray[Any]:
        column = self.column(name)
        if hasattr(column.dtype, "fill_value"):
            column = column.array.sp_values  # to slice what is sparse takes long
        return np.asarray(column[:_FIRST])

    def matrix(self, names: list[str]) -> Any:
        frame = self.frame.iloc[:, [self._places[name] for name in names]]
        if all(hasattr(x, "fill_value") and not x.fill_value for x in frame.dtypes):
            return frame.sparse.to_coo()
        return super().matrix(names)

    def holds_sets(self, name: str) -> bool:
        kinds = set(map(type, self.column(name).to_numpy()))
        return any(issubclass(kind, set | frozenset) for kind in kinds)

    def _convert(self, name: str) -> polars.Series:
        import polars

        column = self.column(name)
        if hasattr(column.dtype, "fill_value"):
            column = column.sparse.to_dense()
        try:
            series = polars.Series(name, polars.from_pandas(column))
        except (ImportError, TypeError, ValueError, OverflowError):
            # No pyarrow, or objects that it cannot take.
            if self.kind(name) == "L":
                raise
            series = self._from_objects(name, column)
        if series.dtype == polars.Binary and isinstance(next(iter(column.dropna()), None), UUID):
            self.identifiers.add(name)
        return series

    def _from_objects(self, name: str, column: Any) -> polars.Series:
        """Turn Python objects into a column of strings, or of objects of one type."""
        import polars

        values = [
            None if gone else value for value, gone in zip(column, column.isna(), strict=True)
        ]
        first: dict[type, int] = {}
        for row, value in enumerate(values):
            if value is not None:
                first.setdefault(str if isinstance(value, str) else type(value), row)
        if len(first) > 1:
            (one, row), (other, later) = list(first.items())[:2]
            raise DataError(
                f"{self.name}: column {name!r} holds {values[row]!r}, of {one.__name__}, in row "
                f"{row + 1} and {values[later]!r}, of {other.__name__}, in row {later + 1}; cast "
                "one"
            )
        dtype = polars.String if [*first] == [str] else polars.Object
        return polars.Series(name, values, dtype=dtype)


_FRAMES: dict[str, type[Frame]] = {
    "polars": PolarsFrame,
    "pyarrow": ArrowFrame,
    "pandas": PandasFrame,
}


def is_column(value: Any) -> bool:
    """Whether it is a column of pandas, polars or Arrow."""
    library = _library(value)
    return library == "pyarrow" or (library in _FRAMES and hasattr(value, "to_frame"))


def open_frame(name: str, source: Any) -> Frame:
    """Open a frame of any library, or a column, as a frame of one.

    Raises an `InputError` that names the call that makes a frame, where that is not for us to do.
    """
    refuse_lazy(name, source)
    if not is_frame(source):
        source = _column_frame(name, source)
    elif _library(source) not in ("polars", "pandas"):
        source = _from_stream(name, source)
    return _FRAMES[_library(source)](name, source)


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _column_frame(name: str, column: Any) -> Any:
    if _library(column) != "pyarrow":
        return column.to_frame("items" if column.name in (None, "") else str(column.name))
    import pyarrow

    with foreign_errors(name):
        return pyarrow.table({"items": column})


def _from_stream(name: str, source: Any) -> Any:
    """Read a frame by one of the protocols that libraries share."""
    protocols = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
    known = [protocol for protocol in protocols if hasattr(source, protocol)]
    if not known:
        raise InputError(
            f"{name} is a frame of a kind that is not known; pass one of pandas, polars or Arrow"
        )
    with foreign_errors(name):
        try:
            from pyarrow import interchange, table
        except ImportError:
            return import_polars(f"reading {name}").DataFrame(source)
        if known == ["__dataframe__"]:
            return interchange.from_dataframe(source)
        return table(source)


# Frames of 0 and 1


class OneHot(NamedTuple):
    """A frame of 0 and 1: its rows are itemsets, and the names of its columns are items."""

    matrix: Any
    names: list[str]

    def pack(self, limits: Limits, by_column: bool = False) -> PackedItemsets:
        """Pack its rows."""
        return pack_matrix(self.matrix, limits, by_column=by_column, names=self.names)


def refuse_twice(frame: Frame, names: list[str]) -> None:
    """Refuse columns whose name is that of another."""
    counts = Counter(frame.names)
    for name in names:
        if counts[name] > 1:
            raise InputError(
                f"{frame.name}: {counts[name]} columns are called {name!r}; rename them"
            )


def one_hot(frame: Frame, names: list[str]) -> OneHot | None:
    """Return some columns as items, if all of them hold 0 and 1 alone, as none else do.

    That is certain of two columns of booleans, or of three of numbers.
    """
    kinds = {frame.kind(name) for name in names}
    if not kinds <= set("biuf") or len(names) < (2 if kinds == {"b"} else 3):
        return None
    with foreign_errors(frame.name):
        if not all(is_zero_one(frame.first(name)) for name in names):
            return None
        refuse_twice(frame, names)
        matrix = frame.matrix(names)
        values = getattr(matrix, "data", matrix) if hasattr(matrix, "tocsr") else matrix
        return OneHot(matrix, names) if is_zero_one(values) else None


def is_mostly_zero(frame: Frame) -> bool:
    """Whether a frame of at least three columns of numbers looks like one of counts."""
    if len(frame.names) < 3 or not {frame.kind(name) for name in frame.names} <= set("biuf"):
        return False
    with foreign_errors(frame.name):
        values = np.concatenate([frame.first(name) for name in frame.names])
    return bool(2 * np.count_nonzero(values == 0) > len(values))

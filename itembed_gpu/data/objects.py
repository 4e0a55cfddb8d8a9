"""Opens what lies in memory: data frames, sparse matrices, and collections of labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..errors import DataError, InputError
from .files import import_polars, polars_errors, select
from .formats import Columns, Roles, choose_columns
from .itemsets import PackedItemsets
from .lists import pack_itemsets
from .matrices import pack_matrix
from .packing import Limits

if TYPE_CHECKING:
    import polars

# As `weight`: what a sparse matrix holds.
VALUES = "values"


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a data frame that have a role, under the names of their roles."""

    name: str
    frame: polars.DataFrame
    columns: Columns
    identifiers: bool  # items are UUIDs, as bytes


def open_object(source: Any, roles: Roles, limits: Limits) -> Table | tuple[PackedItemsets, str]:
    """Open a data frame, or pack what is none, and say what it is.

    Which kind it is, its module tells without being imported.
    """
    kind = type(source)
    package = kind.__module__.partition(".")[0]
    name = f"a {package}.{kind.__name__}"
    if package == "scipy":
        return _pack_matrix(source, roles, limits)
    if package in ("polars", "pandas", "pyarrow"):
        polars = import_polars(name)
        identifiers: set[str] = set()
        if package == "pandas":
            source, identifiers = _from_pandas(name, source, roles)
        elif package == "pyarrow":
            fields = getattr(source, "schema", ())
            identifiers = {field.name for field in fields if "arrow.uuid" in str(field.type)}
            source = polars.from_arrow(source)
        if isinstance(source, polars.DataFrame | polars.LazyFrame):
            scan = source.lazy()
            with polars_errors(name):
                columns = choose_columns(name, scan.collect_schema(), roles)
                frame = select(scan, columns).collect()
            return Table(name, frame, columns, columns.item in identifiers)
    if dataclasses.astuple(roles) != (None, None, None):
        raise InputError(f"columns are asked for, but source is a {kind.__name__}, which has none")
    return pack_itemsets(source, **limits._asdict()), f"a {kind.__name__}"


def _from_pandas(name: str, frame: Any, roles: Roles) -> tuple[Any, set[str]]:
    """Turn the columns that matter into a polars frame, and say which of them are of UUIDs.

    Others may be of any kind.
    """
    import polars

    wanted = [name for name in dataclasses.astuple(roles) if name in frame.columns]
    columns, identifiers = [], set()
    for key in wanted if len(wanted) > 1 else list(frame.columns):
        column = frame[key]
        try:
            series = polars.Series(str(key), polars.from_pandas(column))
        except (ImportError, TypeError, ValueError):  # no pyarrow, or objects that it cannot take
            series = _from_objects(name, key, column, str(key) in wanted)
        if series.dtype == polars.Binary and isinstance(column.dropna().iloc[0], UUID):
            identifiers.add(str(key))
        columns.append(series)
    return polars.DataFrame(columns), identifiers


def _from_objects(name: str, key: Any, column: Any, wanted: bool) -> Any:
    """Turn a pandas column of Python objects into one of strings, or of objects of one type."""
    import polars

    values = [None if gone else value for value, gone in zip(column, column.isna(), strict=True)]
    first: dict[type, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            first.setdefault(str if isinstance(value, str) else type(value), row)
    if wanted and len(first) > 1:
        (one, row), (other, later) = list(first.items())[:2]
        raise DataError(
            f"{name}: column {str(key)!r} holds {values[row]!r}, of {one.__name__}, in row "
            f"{row + 1} and {values[later]!r}, of {other.__name__}, in row {later + 1}; cast one"
        )
    dtype = polars.String if [*first] == [str] else polars.Object
    return polars.Series(str(key), values, dtype=dtype)


def _pack_matrix(matrix: Any, roles: Roles, limits: Limits) -> tuple[PackedItemsets, str]:
    if roles.itemset is not None or roles.item is not None or roles.weight not in (None, VALUES):
        raise InputError(
            "columns are asked for, but source is a sparse matrix, which has none; of it, weight "
            f"can be {VALUES!r}"
        )
    packed = pack_matrix(matrix, limits, weighted=roles.weight is not None)
    return packed, f"a sparse matrix of {matrix.shape[0]:,} x {matrix.shape[1]:,}"

"""Opens what lies in memory: data frames, matrices, columns, and collections of labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import import_polars, show
from ..errors import DataError, InputError
from .files import select
from .foreign import foreign_errors, read_json
from .formats import NO_ROLES, Columns, Roles, choose_columns
from .frames import Frame, PandasFrame, is_column, is_mostly_zero, one_hot, open_frame, refuse_twice
from .identifiers import is_float
from .itemsets import PackedItemsets
from .lists import as_rows, is_frame, pack_itemsets, refuse_lazy
from .matrices import as_numpy, is_matrix, pack_matrix
from .packing import Limits

if TYPE_CHECKING:
    import polars

# As `weight`: what a sparse matrix holds.
VALUES = "values"

# Values that are looked at.
_SAMPLE = 64


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a data frame that have a role, under the names of their roles."""

    name: str
    frame: polars.DataFrame
    columns: Columns
    identifiers: bool  # items are UUIDs, as bytes


def open_object(source: Any, roles: Roles, limits: Limits) -> Table | tuple[PackedItemsets, str]:
    """Open a data frame, or pack what is none, and say what it is."""
    refuse_lazy("source", source)
    source = as_numpy(source)
    if is_matrix("source", source):
        return _pack_matrix(source, roles, limits)
    kind = type(source)
    name = f"a {kind.__module__.partition('.')[0]}.{kind.__name__}"
    if is_frame(source) or is_column(source):
        return _read_frame(open_frame(name, source), roles, limits)
    if roles != NO_ROLES:
        raise InputError(f"columns are asked for, but source is a {kind.__name__}, which has none")
    # As rows, which are not looked at once more for a matrix.
    return pack_itemsets(as_rows("itemsets", source), **limits._asdict()), f"a {kind.__name__}"


def _pack_matrix(matrix: Any, roles: Roles, limits: Limits) -> tuple[PackedItemsets, str]:
    if roles.itemset is not None or roles.item is not None or roles.weight not in (None, VALUES):
        raise InputError(
            "columns are asked for, but source is a sparse matrix, which has none; of it, weight "
            f"can be {VALUES!r}"
        )
    packed = pack_matrix(matrix, limits, weighted=roles.weight is not None)
    what = "an array of 0 and 1" if isinstance(matrix, np.ndarray) else "a sparse matrix"
    return packed, f"{what} of {' x '.join(f'{size:,}' for size in matrix.shape)}"


def _read_frame(frame: Frame, roles: Roles, limits: Limits) -> Table | tuple[PackedItemsets, str]:
    if roles == NO_ROLES:
        found = one_hot(frame, frame.names)
        if found is not None:
            packed = found.pack(limits)
            return packed, f"{frame.name} of 0 and 1 (the names of its columns are the items)"
    import_polars(f"reading {frame.name}")
    columns = _choose(frame, roles)
    objects = isinstance(frame, PandasFrame) and columns.lists
    table = None
    if not objects or not frame.holds_sets(columns.item):
        try:
            table = frame.convert(list(columns.roles().values()))
        except (DataError, ImportError):  # objects that polars, or pyarrow, is needed for
            if not objects:
                raise
    if table is None:
        return _pack_objects(frame, columns, limits), f"{frame.name} ({columns})"
    with foreign_errors(frame.name):
        table = select(table.lazy(), columns).collect(engine="in-memory")
    _check_types(frame.name, columns, table)
    columns = columns.noting(is_float(table["item"].dtype))
    return Table(frame.name, table, columns, columns.item in frame.identifiers)


def _choose(frame: Frame, roles: Roles) -> Columns:
    """Give columns their roles, and refuse a frame that does not tell them."""
    schema = frame.schema()
    lists = any(dtype.is_nested() for dtype in schema.values())
    if len(set(frame.names)) < 2 <= len(frame.names):
        refuse_twice(frame, frame.names)
    if not lists and len(frame.names) < 2 + (roles.weight is not None):
        for name in frame.names:
            refuse_json(frame.name, name, frame.convert([name])[name])
        raise DataError(
            f"{frame.name}: a column of lists is needed, or an itemset and an item column; its "
            f"columns are {', '.join(map(repr, frame.names)) or 'none'}"
        )
    columns = choose_columns(frame.name, schema, roles)
    refuse_twice(frame, list(columns.roles().values()))
    if columns.chosen and not columns.lists and roles == NO_ROLES:
        if is_mostly_zero(frame):
            raise DataError(
                f"{frame.name}: most of its numbers are 0; if the names of its columns are the "
                "items, pass frame > 0; if not, name the columns"
            )
        first, *others = frame.names
        if one_hot(frame, others) is not None:
            raise DataError(
                f"{frame.name}: all columns but {first!r} hold 0 and 1 alone; if their names are "
                f"the items, leave it out: frame.drop(columns={first!r}) of pandas, "
                f"frame.drop({first!r}) of polars; if not, name the columns"
            )
    return columns


def _pack_objects(frame: Frame, columns: Columns, limits: Limits) -> PackedItemsets:
    """Pack a column of collections that polars cannot read, or would read in no certain order."""
    weights = None if columns.weight is None else frame.column(columns.weight).tolist()
    with foreign_errors(f"{frame.name}: column {columns.item!r}"):
        return pack_itemsets(frame.column(columns.item), weights=weights, **limits._asdict())


# What a column may not hold


def _check_types(name: str, columns: Columns, table: polars.DataFrame) -> None:
    """Refuse items of types that only frames have."""
    import polars

    items = table["item"]
    dtype = getattr(items.dtype, "inner", items.dtype) if columns.lists else items.dtype
    if str(dtype).startswith("Map"):
        cure = "make lists of the keys, which would be the items"
    elif isinstance(dtype, polars.BaseExtension):
        if not columns.lists:
            refuse_json(name, columns.item, items.ext.storage())
        cure = "cast it to strings"
    else:
        cure = ""
    if cure:
        raise DataError(f"{name}: item column {columns.item!r} is {items.dtype}; {cure}")


def refuse_json(name: str, column: str, values: polars.Series) -> None:
    """Refuse lists that are written as JSON."""
    if str(values.dtype) not in ("Binary", "String"):
        return
    some = values.drop_nulls().head(_SAMPLE).to_list()
    if some and all(map(_is_list, some)):
        raise DataError(
            f"{name}: column {column!r} is {values.dtype} and holds lists written as JSON, as "
            f"{show(some[0])}; make lists of them: [json.loads(x) for x in frame[{column!r}]]"
        )


def _is_list(text: str | bytes) -> bool:
    if text[:1] not in ("[", b"["):
        return False
    try:
        return isinstance(read_json(text), list)
    except ValueError:
        return False

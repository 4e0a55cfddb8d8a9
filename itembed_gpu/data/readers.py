"""Reads itemsets: from files, data frames and sparse matrices.

A long table has one row for each item of an itemset: a column that says which
itemset, a column that says which item, and perhaps a column of weights. Rows of
an itemset need not be adjacent. A table of lists has one row for each itemset.
Tables are read with polars, which is imported only when there is one to read.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ..checks import Int64Array, spelled_out
from ..disk.itemsets import is_packed
from ..errors import DataError, InputError
from .columns import encode, group_rows, number, number_itemsets
from .files import Locate, collect_files, find_files, text_itemsets
from .formats import SEPARATORS, Columns, Roles, refuse_columns
from .itemsets import PackedItemsets
from .lists import pack_itemsets
from .objects import Table, open_object
from .packing import Limits, make_limits, pack_codes

if TYPE_CHECKING:
    import polars


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReadItemsets(PackedItemsets):
    """Packed itemsets, and how they were read.

    Attributes
    ----------
    source: str
        One line for people: the file, and the columns that were taken.
    rows_without_itemset: int
        Rows of a table that were left out, as they do not say which itemset
        they belong to. They are no part of ``dropped``.
    """

    source: str
    rows_without_itemset: int

    @property
    def account(self) -> str:
        """One line for people: what was read, and what of it was left out."""
        if not self.rows_without_itemset:
            return str(self.dropped)
        return f"{self.dropped}; left out {self.rows_without_itemset:,} row(s) without an itemset"


@spelled_out(like=make_limits)
def read_itemsets(
    source: Any,
    *,
    format: str | None = None,
    itemset: str | None = None,
    item: str | None = None,
    weight: str | None = None,
    separator: str | None = None,
    **limiting: Any,
) -> ReadItemsets:
    """Read and pack itemsets from a file, a folder, a data frame or a sparse matrix.

    Itemsets come in the order of their first rows (or lines), and the items of
    each in the order of their rows; labels by count, then as they first come. The
    same itemsets are packed alike, whatever they are read from. Text and CSV are
    UTF-8, with or without a byte order mark.

    In text, items are strings. In a CSV, whose first row names the columns,
    items are integers if all are written as integers are (one ``007`` makes all
    of them strings), else strings. Elsewhere they keep their type: integers,
    strings, categories (as strings), dates, times, or Python objects such as
    UUIDs. In a sparse matrix, rows are itemsets and the numbers of columns are items.

    A missing item (null, NaN, or an empty field of text or CSV) is no item: it is
    dropped, and counted in ``dropped.none_items``; so is a zero that a sparse matrix
    stores, in ``dropped.zero_items``. A row whose itemset is missing is left out, and
    counted in ``rows_without_itemset``: together, such rows would make one itemset of
    strangers. A weight that is missing is an error.

    Parameters
    ----------
    source: path-like, data frame, matrix or iterable
        A file; a folder, of which all files are read in the order of their names; a
        folder that `PackedItemsets.save` wrote, which is mapped and not copied; a
        pattern such as ``"sales/2024-*.parquet"``; a data frame of polars (also a
        `LazyFrame`), pandas, Arrow, DuckDB, or another library that exports an Arrow
        stream; a column of lists of one; a matrix of `scipy.sparse`; an array of two axes
        that holds booleans, or nothing but 0 and 1; or an iterable of itemsets, as for
        `pack_itemsets`. In a frame without named columns that holds booleans, or nothing
        but 0 and 1 in at least three columns, rows are itemsets, and the names of the
        columns are the items; ``source`` of what is returned says so.
    format: {"text", "csv", "tsv", "parquet", "ndjson", "arrow"}, optional
        By default as the suffix says: .txt, .csv, .tsv, .parquet or .pq, .ndjson or
        .jsonl, .arrow, .ipc or .feather. Text can be compressed as .gz or .xz, and a
        CSV or NDJSON as .gz or .zst.
    itemset, item: str, optional
        Names of the columns that say which itemset, and which item. By default
        the first columns without another role; ``source`` of what is returned
        says which were taken. Where the column of items (or the first one, if none is
        named) holds lists, each row is an itemset, and `itemset` is not needed.
    weight: str, optional
        Name of the column of weights; of a sparse matrix, ``"values"`` takes those
        that it holds. By default there are none.
    separator: str, optional
        What stands between two items of a text, which are then stripped of
        whitespace (by default, whitespace does), or between two fields of a CSV
        (by default a comma, in a .tsv a tab).
    min_count, min_length, max_items, max_length, duplicates, labels, seed: optional
        As for `pack_itemsets`.

    Returns
    -------
    packed: ReadItemsets
        As from `pack_itemsets`, with ``source`` and ``rows_without_itemset`` besides.

    Raises
    ------
    DataError
        If a file is missing, unreadable, damaged, not of its format or not
        UTF-8, or if no itemset of it can be used.
    InputError
        If the format is not known, there is no such column, or an argument does
        not go with the format.
    MissingExtraError
        If there is a table to read, and polars is not installed.

    Examples
    --------
    >>> packed = read_itemsets("sales.csv", itemset="invoice", item="code")
    >>> packed.source
    "sales.csv (itemset column 'invoice', item column 'code')"
    """
    # Checked before a read that may be long.
    limits = make_limits(**limiting)
    roles = Roles(itemset, item, weight)
    if isinstance(source, str | os.PathLike) and is_packed(Path(source)):
        result = _load_packed(Path(source), format, separator, roles, limits)
    elif isinstance(source, str | os.PathLike):
        paths, format = find_files(source, format)
        if format == "text":
            refuse_columns(roles)
            itemsets = chain.from_iterable(text_itemsets(path, separator) for path in paths)
            result = make_result(pack_itemsets(itemsets, **limits._asdict()), str(source))
        else:
            frame, columns, locate = collect_files(source, paths, format, separator, roles)
            if format in SEPARATORS:
                frame = frame.with_columns(item=read_integers(frame["item"], limits))
            result = _pack_frame(str(source), frame, columns, limits, locate=locate)
    else:
        for name, value in (("format", format), ("separator", separator)):
            if value is not None:
                raise InputError(f"{name} is {value!r}, but there is no file to read")
        found = open_object(source, roles, limits)
        if isinstance(found, Table):
            result = _pack_frame(
                found.name, found.frame, found.columns, limits, identifiers=found.identifiers
            )
        else:
            result = make_result(*found)
    if result.num_item == 0:
        raise DataError(f"{result.source}: there is no itemset to use: {result.account}")
    return result


def make_result(packed: PackedItemsets, source: str, rows_without_itemset: int = 0) -> ReadItemsets:
    fields = {field.name: getattr(packed, field.name) for field in dataclasses.fields(packed)}
    return ReadItemsets(**fields, source=source, rows_without_itemset=rows_without_itemset)


# Sources


def _load_packed(
    path: Path, format: str | None, separator: str | None, roles: Roles, limits: Limits
) -> ReadItemsets:
    """Open packed itemsets; only what the limits leave out is a reason to copy them."""
    if (format, separator, roles) != (None, None, Roles(None, None, None)):
        raise InputError(f"{path}: holds packed itemsets, which have no format and no columns")
    packed = PackedItemsets.load(path)
    least = int(np.diff(packed.offsets).min(initial=limits.min_length))
    as_it_is = packed.counts.min(initial=limits.min_count) >= limits.min_count
    if as_it_is and least >= limits.min_length and limits[2:6] == Limits()[2:6]:
        return make_result(packed, str(path))
    packed.verify()
    again = pack_codes(
        packed.labels,
        np.array(packed.indices),
        np.diff(packed.offsets).astype(np.int64),
        limits,
        packed.weights,
    )
    return make_result(again, str(path))


# Tables


def read_itemset_ids(
    source: str | os.PathLike[str],
    *,
    format: str | None = None,
    itemset: str | None = None,
    item: str | None = None,
    separator: str | None = None,
) -> list[str] | None:
    """Return what the itemsets of a long table are called, in the order in which they are read.

    None for text and for tables of lists, whose itemsets have no names. Errors are those of
    `read_itemsets`.
    """
    paths, format = find_files(source, format)
    if format == "text":
        return None
    roles = Roles(itemset, item, None)
    frame, columns, _ = collect_files(source, paths, format, separator, roles)
    return None if columns.lists else list(map(str, number(frame["itemset"])[0]))


def read_integers(items: polars.Series, limits: Limits) -> polars.Series:
    """Make integers of the items of a CSV, if all are written as integers are.

    Known labels decide which they are.
    """
    import polars

    if any(isinstance(label, str) for label in limits.labels):
        return items
    numbers = items.cast(polars.Int64, strict=False)
    others = numbers.cast(polars.String).ne_missing(items)
    if not others.any():
        return numbers
    if limits.labels:
        raise InputError(
            f"labels holds {limits.labels[0]!r}, but {items.filter(others)[0]!r} is an item, which "
            "makes all of them strings; pass strings"
        )
    return items


def _pack_frame(
    name: str,
    frame: polars.DataFrame,
    columns: Columns,
    limits: Limits,
    identifiers: bool = False,
    locate: Locate | None = None,
) -> ReadItemsets:
    """Pack the rows of each itemset, in the order of its first row.

    Items of bytes are UUIDs if `identifiers` says so.
    """
    if columns.lists:  # each row is an itemset
        values, row_lengths, weights = explode_lists(name, frame, columns)
        labels, items = number(values)
        packed = pack_codes(labels, items, row_lengths, limits, weights)
        return make_result(packed, f"{name} ({columns})")
    if not identifiers:
        check_items(name, columns, frame["item"].dtype)
    with ThreadPoolExecutor(1) as pool:  # beside the itemsets
        coded = pool.submit(encode, frame["item"])
        rows, lengths = group_rows(number_itemsets(frame["itemset"]))
    lost = len(frame) - int(lengths.sum())
    labels, items = number(frame["item"], rows, coded.result())
    if identifiers:
        labels = [UUID(bytes=label) for label in labels]
    weights = None
    if columns.weight is not None:
        column = frame["weight"] if rows is None else frame["weight"].gather(rows)
        weights = read_weights(name, column, columns.weight, rows, items >= 0, locate)
    packed = pack_codes(labels, items, lengths, limits, weights)
    return make_result(packed, f"{name} ({columns})", lost)


def explode_lists(
    name: str, frame: polars.DataFrame, columns: Columns, first_row: int = 0
) -> tuple[polars.Series, Int64Array, npt.NDArray[np.float32] | None]:
    """Return the items of all lists, the lengths of the lists, and the weights, if any.

    A missing list is an empty one.
    """
    import polars

    if isinstance(frame["item"].dtype, polars.Struct):
        raise DataError(f"{name}: item column {columns.item!r} is a struct; name a list or a value")
    frame = frame.with_columns(polars.col(polars.Array).arr.to_list())
    check_items(name, columns, frame["item"].dtype.inner)  # type: ignore[attr-defined]
    lengths = frame["item"].list.len().fill_null(0).cast(polars.Int64)
    items = frame["item"].explode(empty_as_null=False, keep_nulls=False)
    weights = None
    if columns.weight is not None:
        if not isinstance(frame["weight"].dtype, polars.List):
            raise DataError(
                f"{name}: weight column {columns.weight!r} is {frame['weight'].dtype}, where items "
                "are lists; give a list of weights for each"
            )
        num_weight = frame["weight"].list.len().fill_null(0).cast(polars.Int64)
        for row in (lengths != num_weight).arg_true()[:1].to_list():
            raise DataError(
                f"{name}: row {first_row + row + 1} has {lengths[row]} items in column "
                f"{columns.item!r} and {num_weight[row]} weights in column {columns.weight!r}; "
                "give one each"
            )
        column = frame["weight"].explode(empty_as_null=False, keep_nulls=False)
        owners = np.repeat(np.arange(len(frame)) + first_row, lengths.to_numpy())
        used = items.is_not_null().to_numpy()
        weights = read_weights(name, column, columns.weight, owners, used)
    return items, lengths.to_numpy().copy(), weights


def check_items(name: str, columns: Columns, dtype: polars.DataType) -> None:
    """Refuse items that would not be found again, as numbers that are rounded."""
    if dtype.is_float() or dtype.is_nested() or str(dtype) in ("Boolean", "Binary"):
        raise DataError(
            f"{name}: item column {columns.item!r} is {dtype}; cast it to integers or strings"
        )


def read_weights(
    name: str,
    column: polars.Series,
    column_name: str,
    rows: npt.NDArray[np.int64] | None,
    used: npt.NDArray[np.bool_],
    locate: Locate | None = None,
) -> npt.NDArray[np.float32]:
    """Read weights, which came from these rows; only used ones have to be good."""
    import polars

    with np.errstate(over="ignore"):
        numbers = column.cast(polars.Float64, strict=False).fill_null(np.nan)
        weights = numbers.to_numpy().astype(np.float32)
    for bad in np.flatnonzero(used & ~np.isfinite(weights))[:1].tolist():
        row = bad if rows is None else int(rows[bad])
        if locate is not None:
            name, row = locate(row)
        raise DataError(
            f"{name}: weight column {column_name!r} holds {column[bad]!r} in row {row + 1}; "
            "weights are finite numbers"
        )
    return weights

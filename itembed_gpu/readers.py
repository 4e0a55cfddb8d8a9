"""Reads itemsets: from files, data frames and sparse matrices.

A long table has one row for each item of an itemset: a column that says which
itemset, a column that says which item, and perhaps a column of weights. Rows of
an itemset need not be adjacent. A table of lists has one row for each itemset.
Tables are read with polars, which is imported only when there is one to read.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from .errors import DataError, InputError, MissingExtraError
from .itemsets import Dropped, Limits, PackedItemsets, make_limits, pack_codes, pack_itemsets
from .packed_files import is_packed

if TYPE_CHECKING:
    import polars

__all__ = ["FORMATS", "ReadItemsets", "read_itemsets"]

FORMATS = ("text", "csv", "tsv", "parquet", "ndjson", "arrow")

_FORMAT_OF_SUFFIX = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
_COMPRESSIONS = {
    "text": (".gz", ".xz"),
    "csv": (".gz", ".zst"),
    "tsv": (".gz", ".zst"),
    "ndjson": (".gz", ".zst"),
}
_ALL_COMPRESSIONS = (".gz", ".xz", ".zst", ".bz2", ".zip")
_SEPARATORS = {"csv": ",", "tsv": "\t"}
# Columns of a matrix for each entry, from which on they are looked up and not counted.
MAX_SPARSE = 64
# As `weight`: what a sparse matrix holds.
VALUES = "values"


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


def read_itemsets(
    source: Any,
    *,
    format: str | None = None,
    itemset: str | None = None,
    item: str | None = None,
    weight: str | None = None,
    separator: str | None = None,
    min_count: int = 1,
    min_length: int = 1,
    max_items: int | None = None,
    max_length: int | None = None,
    duplicates: str = "keep",
    labels: Iterable[Hashable] | None = None,
    seed: int = 0,
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

    A missing item (null, or an empty field of text or CSV) is no item: it is
    dropped, and counted in ``dropped.none_items``; so is a zero that a sparse matrix
    stores, in ``dropped.zero_items``. A row whose itemset is missing is left out, and
    counted in ``rows_without_itemset``: together, such rows would make one itemset of
    strangers. A weight that is missing is an error.

    Parameters
    ----------
    source: path-like, data frame, matrix or iterable
        A file; a folder, of which all files are read in the order of their names; a
        folder that `PackedItemsets.save` wrote, which is mapped and not copied; a
        pattern such as ``"sales/2024-*.parquet"``; a `polars.DataFrame` or
        `LazyFrame`; a `pandas.DataFrame`; a `pyarrow.Table`; a matrix of
        `scipy.sparse`; or an iterable of itemsets, as for `pack_itemsets`.
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
    >>> packed = read_itemsets("sales.csv", itemset="invoice", item="code")  # doctest: +SKIP
    >>> packed.source  # doctest: +SKIP
    "sales.csv (itemset column 'invoice', item column 'code')"

    """
    # Checked before a read that may be long.
    limits = make_limits(min_count, min_length, max_items, max_length, duplicates, labels, seed)
    roles = Roles(itemset, item, weight)
    if isinstance(source, str | os.PathLike) and is_packed(Path(source)):
        result = _load_packed(Path(source), format, separator, roles, limits)
    elif isinstance(source, str | os.PathLike):
        paths, format = _find_files(source, format)
        if format == "text":
            result = _read_text(source, paths, roles, separator, limits)
        else:
            result = _read_files(source, paths, format, separator, roles, limits)
    else:
        for name, value in (("format", format), ("separator", separator)):
            if value is not None:
                raise InputError(f"{name} is {value!r}, but there is no file to read")
        result = _read_object(source, roles, limits)
    if result.num_item == 0:
        raise DataError(f"{result.source}: there is no itemset to use: {result.account}")
    return result


@dataclasses.dataclass(frozen=True)
class Roles:
    """Names of the columns that were asked for."""

    itemset: str | None
    item: str | None
    weight: str | None


def _result(packed: PackedItemsets, source: str, rows_without_itemset: int = 0) -> ReadItemsets:
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
        return _result(packed, str(path))
    packed.verify()
    again = pack_codes(
        packed.labels,
        np.array(packed.indices),
        np.diff(packed.offsets).astype(np.int64),
        limits,
        packed.weights,
    )
    return _result(again, str(path))


def _find_files(source: str | os.PathLike[str], format: str | None) -> tuple[list[Path], str]:
    """List the files of a path, a folder or a pattern, and their one format."""
    path = Path(source)
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    elif not path.exists() and glob.has_magic(str(path)):
        paths = sorted(map(Path, glob.glob(str(path))))
    else:
        return [path], _known_format(path, format)
    if not paths:
        raise DataError(f"{path}: there is no file; name a file, a folder or a pattern of files")
    formats = {_known_format(p, format): p for p in paths}
    names = {p.name: p for p in paths}
    for p in paths:
        if p.suffix.lower() in _ALL_COMPRESSIONS and p.stem in names:
            raise InputError(
                f"{path}: holds {p.stem} and {p.name}, which look like the same rows; read one of "
                "them, by a pattern"
            )
    if len(formats) > 1:
        (one, first), (other, second) = list(formats.items())[:2]
        raise InputError(
            f"{path}: {first.name} is {one} and {second.name} is {other}; read files of one "
            "format, by a pattern such as '*.parquet'"
        )
    return paths, next(iter(formats))


def _known_format(path: Path, format: str | None) -> str:
    suffix = path.suffix.lower()
    compression = suffix if suffix in _ALL_COMPRESSIONS else ""
    if format is None:
        suffix = path.with_suffix("").suffix.lower() if compression else suffix
        format = _FORMAT_OF_SUFFIX.get(suffix)
        if format is None:
            raise InputError(
                f"{path}: suffix {suffix!r} does not tell the format; give it: {_FORMAT_CHOICE}"
            )
    elif format not in FORMATS:
        raise InputError(f"format is {format!r}; give one of {_FORMAT_CHOICE}")
    if compression and compression not in _COMPRESSIONS.get(format, ()):
        raise InputError(f"{path}: {format} cannot be read from {compression}; decompress it first")
    return format


_FORMAT_CHOICE = ", ".join(FORMATS)


def _read_object(source: Any, roles: Roles, limits: Limits) -> ReadItemsets:
    """Read what lies in memory; which kind it is, its module tells without being imported."""
    kind = type(source)
    package = kind.__module__.partition(".")[0]
    name = f"a {package}.{kind.__name__}"
    if package == "scipy":
        return _pack_matrix(source, roles, limits)
    if package in ("polars", "pandas", "pyarrow"):
        polars = _import_polars(name)
        identifiers: set[str] = set()
        if package == "pandas":
            source, identifiers = _from_pandas(name, source, roles)
        elif package == "pyarrow":
            fields = getattr(source, "schema", ())
            identifiers = {field.name for field in fields if "arrow.uuid" in str(field.type)}
            source = polars.from_arrow(source)
        if isinstance(source, polars.DataFrame | polars.LazyFrame):
            from .columns import new_categories

            scan = source.lazy()
            with _polars_errors(name):
                columns = _choose_columns(name, scan.collect_schema(), roles)
                frame = _select(scan, columns, (new_categories(), new_categories())).collect()
                return _pack_frame(
                    name, frame, columns, limits, identifiers=columns.item in identifiers
                )
    if dataclasses.astuple(roles) != (None, None, None):
        raise InputError(f"columns are asked for, but source is a {kind.__name__}, which has none")
    packed = pack_itemsets(source, **limits._asdict())
    return _result(packed, f"a {kind.__name__}")


def _import_polars(what: str) -> Any:
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(
            f'reading {what} needs polars: pip install "itembed_gpu[data]"'
        ) from error
    return polars


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


def _pack_matrix(matrix: Any, roles: Roles, limits: Limits) -> ReadItemsets:
    """Pack the rows of a sparse matrix; entries that are stored twice are two items."""
    from .columns import group_rows
    from .grouping import renumber

    if roles.itemset is not None or roles.item is not None or roles.weight not in (None, VALUES):
        raise InputError(
            "columns are asked for, but source is a sparse matrix, which has none; of it, weight "
            f"can be {VALUES!r}"
        )
    if getattr(matrix, "format", "") == "csr":
        codes, values = matrix.indices, matrix.data
        lengths = np.diff(matrix.indptr).astype(np.int64)
    else:
        # Not by way of CSR, which would add up what is stored twice.
        entries = matrix.tocoo()
        kept, some = group_rows(entries.row.astype(np.int32))
        lengths = np.zeros(matrix.shape[0], np.int64)
        lengths[: len(some)] = some
        order = slice(None) if kept is None else kept
        codes, values = entries.col[order], entries.data[order]
    num_zero = len(values) - int(np.count_nonzero(values))
    if num_zero:
        zero = values == 0
        rows = np.repeat(np.arange(len(lengths)), lengths)
        lengths = lengths - np.bincount(rows[zero], minlength=len(lengths))
        codes, values = codes[~zero], values[~zero]
    weights = None
    if roles.weight is not None:
        weights = values.astype(np.float32)
        if not np.isfinite(weights).all():
            entry = int(np.argmin(np.isfinite(weights)))
            row = int(np.searchsorted(np.cumsum(lengths), entry, side="right"))
            raise DataError(
                f"source: row {row} of the matrix holds {values[entry]} in column "
                f"{codes[entry]}; weights are finite numbers"
            )
    # Renumbered as they first come, as from any other source.
    if matrix.shape[1] > MAX_SPARSE * (len(codes) + 1):
        places, num_place = np.unique(codes, return_inverse=True)[1], len(codes)
    else:
        places, num_place = codes, matrix.shape[1]
    numbers, first_entries = renumber(places, num_place)
    packed = pack_codes(
        codes[first_entries].tolist(),
        numbers,
        lengths,
        limits,
        weights,
        Dropped(zero_items=num_zero),
    )
    return _result(packed, f"a sparse matrix of {matrix.shape[0]:,} x {matrix.shape[1]:,}")


# Text


def _read_text(
    source: Any, paths: list[Path], roles: Roles, separator: str | None, limits: Limits
) -> ReadItemsets:
    _refuse_columns(*dataclasses.astuple(roles))
    itemsets = chain.from_iterable(_text_itemsets(path, separator) for path in paths)
    packed = pack_itemsets(itemsets, **limits._asdict())
    return _result(packed, str(source))


def _refuse_columns(*names: str | None) -> None:
    for name in names:
        if name is not None:
            raise InputError(f"column {name!r} is asked for, but text has no columns")


def _text_itemsets(path: Path, separator: str | None) -> Iterator[list[str | None]]:
    """Split the lines of a text; an item of None is one that is missing."""
    if separator == "":
        raise InputError("separator is empty; give at least one character")
    for line in _lines(path):
        if separator is None:
            yield [*line.split()]
        elif line.strip():
            yield [part.strip() or None for part in line.split(separator)]
        else:
            yield []


def _lines(path: Path) -> Iterator[str]:
    """Yield decoded lines; whatever is wrong with the file becomes a DataError."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if b"\0" in line:
                    raise DataError(
                        f"{path}, line {number}: a zero byte; is it binary, damaged or UTF-16? "
                        "Text has to be UTF-8"
                    )
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if number == 1 and "\r" in text.rstrip("\r\n"):
                    raise DataError(
                        f"{path}: lines end with a carriage return alone; convert the line ends"
                    )
                yield text
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte {error.start + 1} (0x{error.object[error.start]:02x}) "
            "is not UTF-8; save the file as UTF-8"
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short after line {number}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if number == 0:
        raise DataError(f"{path}: the file is empty")


def _open(path: Path) -> AbstractContextManager[Iterable[bytes]]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path)
    if suffix == ".xz":
        return lzma.open(path)
    return path.open("rb")


# Tables


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Which column of a table has which role."""

    itemset: str
    item: str
    weight: str | None
    chosen: bool  # not all were named
    lists: bool  # a row is an itemset

    def roles(self) -> dict[str, str]:
        """Return the names of the columns, by their roles."""
        named = {"itemset": self.itemset, "item": self.item, "weight": self.weight}
        return {role: name for role, name in named.items() if name}

    def __str__(self) -> str:
        text = f"item column {self.item!r}"
        if not self.lists:
            text = f"itemset column {self.itemset!r}, {text}"
        if self.weight is not None:
            text += f", weight column {self.weight!r}"
        return text + (": the first ones, as not all were named" if self.chosen else "")


def _choose_columns(name: str, schema: polars.Schema, roles: Roles) -> _Columns:
    names = list(schema)
    found = f"its columns are {', '.join(map(repr, names))}"
    named = [name for name in dataclasses.astuple(roles) if name is not None]
    for role in named:
        if role not in names:
            raise InputError(f"{name}: there is no column {role!r}; {found}")
        if named.count(role) > 1:
            raise InputError(f"{name}: column {role!r} is given two roles; {found}")
    free = [name for name in names if name not in named]
    lists = [name for name in free if schema[name].is_nested()]
    item = roles.item
    if item is None and lists and roles.itemset is None:
        item = lists[0]
    if item is not None and schema[item].is_nested():
        if roles.itemset is not None:
            raise InputError(
                f"{name}: item column {item!r} holds lists, of which each is an itemset; leave "
                f"out itemset={roles.itemset!r}"
            )
        return _Columns("", item, roles.weight, roles.item is None, True)
    chosen = [free.pop(0) if name is None and free else name for name in (roles.itemset, item)]
    if None in chosen:
        raise DataError(
            f"{name}: an itemset and an item column are needed; {found} (is the separator right?)"
        )
    return _Columns(
        str(chosen[0]), str(chosen[1]), roles.weight, chosen != [roles.itemset, roles.item], False
    )


def _read_files(
    source: Any,
    paths: list[Path],
    format: str,
    separator: str | None,
    roles: Roles,
    limits: Limits,
) -> ReadItemsets:
    frame, columns = _collect_files(source, paths, format, separator, roles)
    if format in _SEPARATORS:
        frame = frame.with_columns(item=_read_integers(frame["item"], limits))
    return _pack_frame(str(source), frame, columns, limits)


def read_itemset_ids(
    source: str | os.PathLike[str],
    *,
    format: str | None = None,
    itemset: str | None = None,
    item: str | None = None,
    separator: str | None = None,
) -> list[Any] | None:
    """Return what the itemsets of a long table are called, in the order in which they are read.

    None for text and for tables of lists, whose itemsets have no names. Errors are those of
    `read_itemsets`.
    """
    from .columns import number

    paths, format = _find_files(source, format)
    if format == "text":
        return None
    roles = Roles(itemset, item, None)
    frame, columns = _collect_files(source, paths, format, separator, roles)
    return None if columns.lists else number(frame["itemset"])[0]


def _collect_files(
    source: Any, paths: list[Path], format: str, separator: str | None, roles: Roles
) -> tuple[polars.DataFrame, _Columns]:
    """Read the columns that have a role from all the files, under the names of their roles."""
    import polars

    parts, columns = _scan_files(paths, format, separator, roles)
    try:
        frame = polars.concat(parts, how="vertical_relaxed").collect()
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        raise _explain(source, paths, parts, separator, error) from error
    if separator is not None:
        _check_rows(paths, separator, frame)
        frame = _clean_csv(str(source), frame)
    return frame, columns


def _scan_files(
    paths: list[Path], format: str, separator: str | None, roles: Roles
) -> tuple[list[polars.LazyFrame], _Columns]:
    """Open all the files, and choose the same columns of each; nothing is read yet.

    A CSV gets a column beside those of the roles: whether the last field of a row is empty.
    """
    _import_polars(format)
    import polars

    from .columns import new_categories

    separator = _known_separator(format, separator)
    parts: list[polars.LazyFrame] = []
    categories = new_categories(), new_categories()
    known: list[_Columns] = []
    for path in paths:
        _check_start(path, is_text=separator is not None and path.suffix.lower() != ".zst")
        with _polars_errors(path, separator, format):
            scan = _scan(path, format, separator)
            schema = scan.collect_schema()
        known.append(_choose_columns(str(path), schema, roles))
        columns = known[0]
        # What was chosen in the first file is what is wanted of the others.
        roles = Roles(columns.itemset or None, columns.item, columns.weight)
        if known[-1].lists != columns.lists:
            raise DataError(
                f"{path}: column {columns.item!r} is {schema[columns.item]}, other than in "
                f"{paths[0]}; lists and values cannot be read together"
            )
        if format == "ndjson":
            _check_types(path, schema, columns)
        part = _select(scan, columns, categories if separator is None else None)
        if separator is not None:
            last = list(schema)[-1]
            part = scan.select(
                **{role: polars.col(name) for role, name in columns.roles().items()},
                cut=polars.col(last).is_null(),
            )
        parts.append(part)
        _check_same_types(paths[0], parts[0], path, part, columns)
    return parts, known[0]


def _explain(
    source: Any,
    paths: list[Path],
    parts: list[polars.LazyFrame],
    separator: str | None,
    error: BaseException,
) -> DataError:
    """Raise the error of the one file that cannot be read, or return that of all."""
    for path, part in zip(paths, parts, strict=True):
        with _polars_errors(path, separator):
            part.collect()
    return DataError(f"{source}: cannot be read: {_first_line(error)}")


def _check_same_types(
    first: Path, expected: polars.LazyFrame, path: Path, part: polars.LazyFrame, columns: _Columns
) -> None:
    """Refuse files whose columns are of types that polars would turn into one another."""
    import polars

    schema = expected.collect_schema()
    for role, dtype in part.collect_schema().items():
        known = schema[role]
        alike = dtype == known or polars.Null in (dtype, known)
        if not alike and not (dtype.is_integer() and known.is_integer()) and role != "weight":
            raise DataError(
                f"{path}: {role} column {columns.roles()[role]!r} is {dtype}, and in {first} "
                f"{known}; cast one of them"
            )


def _check_types(path: Path, schema: polars.Schema, columns: _Columns) -> None:
    """Refuse JSON whose values are of several types: polars would make strings of them all."""
    import polars

    for role, name in columns.roles().items():
        key = rf'"{re.escape(name)}"\s*:\s*'
        if schema[name] == polars.String:
            right = key + '(?:"|null)'
        elif schema[name] == polars.List(polars.String):
            right = key + r'(?:null|\[(?:\s*(?:"(?:[^"\\]|\\.)*"|null)\s*,?)*\])'
        else:
            continue
        if role == "weight":  # which is an error of its own, with its row
            continue
        lines = polars.scan_lines(glob.escape(str(path)), row_index_name="row")
        with _polars_errors(path, None, "ndjson"):
            others = lines.filter(~polars.col("line").str.contains(right)).collect()
        for row, line in others.iter_rows():
            value = json.loads(line).get(name) if line.strip() else None
            values = value if isinstance(value, list) and columns.lists else [value]
            for value in values:
                if value is not None and not isinstance(value, str):
                    raise DataError(
                        f"{path}, line {row + 1}: {role} column {name!r} holds "
                        f"{json.dumps(value)}, and strings elsewhere; write all of them alike"
                    )


def _check_rows(paths: list[Path], separator: str, frame: polars.DataFrame) -> None:
    """Refuse rows that are cut short: polars fills what they lack with nulls."""
    import polars

    if not frame["cut"].any():
        return
    for path in paths:
        lines = polars.scan_lines(glob.escape(str(path)))
        width = len(
            polars.scan_csv(
                path, separator=separator, infer_schema=False, glob=False
            ).collect_schema()
        )
        fields = polars.col("line").str.count_matches(separator, literal=True) + 1
        # A line break in a quoted field makes a line of fewer fields as well.
        short = (fields < width) & (polars.col("line").str.strip_chars() != "")
        if lines.select(short.any()).collect().item():
            _find_bad_line(path, separator)


def _select(
    scan: polars.LazyFrame, columns: _Columns, categories: tuple[Any, Any] | None = None
) -> polars.LazyFrame:
    """Take the columns that have a role; their strings as categories, while they are read."""
    import polars

    scan = scan.select(**{role: polars.col(name) for role, name in columns.roles().items()})
    if categories is None or columns.lists:
        return scan
    schema = scan.collect_schema()
    strings = dict(zip(("itemset", "item"), categories, strict=True))
    return scan.with_columns(
        # By way of strings, as those of two files may be two enumerations.
        polars.col(role).cast(polars.String).cast(kind)
        for role, kind in strings.items()
        if schema[role] in (polars.String, polars.Enum, polars.Categorical)
    )


def _scan(path: Path, format: str, separator: str | None) -> polars.LazyFrame:
    import polars

    if separator is not None:
        # All are read as strings: a guess from the first rows may not fit the rest.
        return polars.scan_csv(path, separator=separator, infer_schema=False, glob=False)
    if format == "parquet":
        return polars.scan_parquet(path, glob=False, hive_partitioning=False)
    if format == "ndjson":
        # It has no way to say that a name is no pattern.
        return polars.scan_ndjson(glob.escape(str(path)), infer_schema_length=None)
    return polars.scan_ipc(path, glob=False)


def _known_separator(format: str, separator: str | None) -> str | None:
    """Return the separator of a CSV, or None for what has none."""
    if format not in _SEPARATORS:
        if separator is not None:
            what = {"parquet": "Parquet", "ndjson": "NDJSON", "arrow": "Arrow"}[format]
            raise InputError(f"separator is {separator!r}, but {what} has none")
        return None
    separator = _SEPARATORS[format] if separator is None else separator
    if len(separator.encode()) != 1:
        raise InputError(f"separator is {separator!r}; that of a CSV is one ASCII character")
    return separator


def _check_start(path: Path, is_text: bool) -> None:
    """Find what cannot be read at all; polars takes binary and UTF-16 for a header."""
    if is_text:
        next(_lines(path))
        return
    try:
        with path.open("rb") as file:
            start = file.read(1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise DataError(f"{path}: the file is empty")


@contextmanager
def _polars_errors(
    path: Path | str, separator: str | None = None, format: str | None = None
) -> Iterator[None]:
    """Turn the errors of polars, which may be of many lines, into a DataError of one."""
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    except (PolarsError, PanicException, OSError) as error:
        if isinstance(path, Path) and separator is not None:
            _find_bad_line(path, separator)
        if isinstance(path, Path) and format == "ndjson":
            _find_bad_json(path)
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _find_bad_line(path: Path, separator: str) -> None:
    """Raise a DataError with the line that polars, which names none, stumbled over."""
    rows = csv.reader(_plain_lines(path), delimiter=separator, strict=True)
    number = 1
    try:
        width = len(next(rows))
        for row in rows:
            number = rows.line_num  # of the last line, as a quoted field may go over many
            if row and len(row) != width:
                raise DataError(
                    f"{path}, line {number}: {len(row)} field{'s' if len(row) > 1 else ''}, "
                    f"where the first line names {width} columns"
                )
    except csv.Error as error:
        raise DataError(f"{path}, after line {number}: {error}") from error


def _find_bad_json(path: Path) -> None:
    """Raise a DataError with the line that is no JSON."""
    for number, line in enumerate(_plain_lines(path), 1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                raise DataError(f"{path}, line {number}: is no object of JSON: {line.strip()[:40]}")
        except ValueError as error:
            raise DataError(f"{path}, line {number}: is no JSON: {error}") from error


def _plain_lines(path: Path) -> Iterator[str]:
    """Yield decoded lines, whatever the file is compressed with."""
    if path.suffix.lower() != ".zst":
        yield from _lines(path)
        return
    import polars
    from polars.exceptions import PolarsError

    try:
        yield from polars.scan_lines(glob.escape(str(path))).collect()["line"]
    except PolarsError as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from error


def _clean_csv(name: str, frame: polars.DataFrame) -> polars.DataFrame:
    """Make nulls of empty fields, quoted or not, and refuse what is no text."""
    import polars

    frame = frame.drop("cut")
    if any(frame.select(polars.all().str.contains("\0", literal=True).any()).row(0)):
        raise DataError(f"{name}: zero bytes in a field; the file is damaged")
    return frame.with_columns(polars.all().replace("", None))


def _read_integers(items: polars.Series, limits: Limits) -> polars.Series:
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
    columns: _Columns,
    limits: Limits,
    identifiers: bool = False,
) -> ReadItemsets:
    """Pack the rows of each itemset, in the order of its first row.

    Items of bytes are UUIDs if `identifiers` says so.
    """
    from .columns import group_rows, number, number_itemsets

    if columns.lists:
        return _pack_lists(name, frame, columns, limits)
    if not identifiers:
        _check_items(name, columns, frame["item"].dtype)
    rows, lengths = group_rows(number_itemsets(frame["itemset"]))
    lost = len(frame) - int(lengths.sum())
    labels, items = number(frame["item"], rows)
    if identifiers:
        labels = [UUID(bytes=label) for label in labels]
    weights = None
    if columns.weight is not None:
        column = frame["weight"] if rows is None else frame["weight"].gather(rows)
        weights = _weights(name, column, columns.weight, rows, items >= 0)
    packed = pack_codes(labels, items, lengths, limits, weights)
    return _result(packed, f"{name} ({columns})", lost)


def _pack_lists(
    name: str, frame: polars.DataFrame, columns: _Columns, limits: Limits
) -> ReadItemsets:
    """Pack a table of which each row is an itemset; a missing list is an empty one."""
    import polars

    from .columns import number

    if isinstance(frame["item"].dtype, polars.Struct):
        raise DataError(f"{name}: item column {columns.item!r} is a struct; name a list or a value")
    frame = frame.with_columns(polars.col(polars.Array).arr.to_list())
    _check_items(name, columns, frame["item"].dtype.inner)  # type: ignore[attr-defined]
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
                f"{name}: row {row + 1} has {lengths[row]} items in column {columns.item!r} and "
                f"{num_weight[row]} weights in column {columns.weight!r}; give one each"
            )
        column = frame["weight"].explode(empty_as_null=False, keep_nulls=False)
        owners = np.repeat(np.arange(len(frame)), lengths.to_numpy())
        weights = _weights(name, column, columns.weight, owners, items.is_not_null().to_numpy())
    labels, numbers = number(items)
    packed = pack_codes(labels, numbers, lengths.to_numpy().copy(), limits, weights)
    return _result(packed, f"{name} ({columns})")


def _check_items(name: str, columns: _Columns, dtype: polars.DataType) -> None:
    """Refuse items that would not be found again, as numbers that are rounded."""
    if dtype.is_float() or dtype.is_nested() or str(dtype) in ("Boolean", "Binary"):
        raise DataError(
            f"{name}: item column {columns.item!r} is {dtype}; cast it to integers or strings"
        )


def _weights(
    name: str,
    column: polars.Series,
    column_name: str,
    rows: npt.NDArray[np.int64] | None,
    used: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """Read weights, which came from these rows; only used ones have to be good."""
    import polars

    with np.errstate(over="ignore"):
        numbers = column.cast(polars.Float64, strict=False).fill_null(np.nan)
        weights = numbers.to_numpy().astype(np.float32)
    for bad in np.flatnonzero(used & ~np.isfinite(weights))[:1].tolist():
        row = bad if rows is None else rows[bad]
        raise DataError(
            f"{name}: weight column {column_name!r} holds {column[bad]!r} in row {row + 1}; "
            "weights are finite numbers"
        )
    return weights

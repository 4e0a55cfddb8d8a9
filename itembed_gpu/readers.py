"""Reads itemsets from files: long tables (CSV, Parquet), and text of one itemset a line.

A long table has one row for each item of an itemset: a column that says which
itemset, a column that says which item, and perhaps a column of weights. Rows of
an itemset need not be adjacent. Tables are read with polars, which is imported
only when there is one to read.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import DataError, InputError, MissingExtraError
from .itemsets import PackedItemsets, pack_codes, pack_itemsets

if TYPE_CHECKING:
    import polars

__all__ = ["FORMATS", "ReadItemsets", "read_itemsets"]

FORMATS = ("text", "csv", "tsv", "parquet")

_FORMAT_OF_SUFFIX = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSIONS = {"text": (".gz", ".xz"), "csv": (".gz", ".zst"), "tsv": (".gz", ".zst")}
_ALL_COMPRESSIONS = (".gz", ".xz", ".zst", ".bz2", ".zip")
_SEPARATORS = {"csv": ",", "tsv": "\t"}


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReadItemsets(PackedItemsets):
    """Packed itemsets, and how their file was read.

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
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    itemset: str | None = None,
    item: str | None = None,
    weight: str | None = None,
    separator: str | None = None,
    min_count: int = 1,
    min_length: int = 1,
) -> ReadItemsets:
    """Read and pack the itemsets of a file.

    Itemsets come in the order of their first rows (or lines), and the items of
    each in the order of their rows. Text and CSV are UTF-8, with or without a
    byte order mark.

    In text, items are strings. In a CSV, whose first row names the columns,
    items are integers if all are written as integers are (one ``007`` makes all
    of them strings), else strings. In Parquet they keep their type, which has to
    be integer, string or categorical.

    A missing item (null, or an empty field of text or CSV) is no item: it is
    dropped, and counted in ``dropped.none_items``. A row whose itemset is missing
    is left out, and counted in ``rows_without_itemset``: together, such rows would
    make one itemset of strangers. A weight that is missing is an error.

    Parameters
    ----------
    path: path-like
        File to read.
    format: "text", "csv", "tsv" or "parquet", optional
        By default as the suffix says: .txt, .csv, .tsv, .parquet or .pq. Text can
        be compressed as .gz or .xz, and a CSV as .gz or .zst.
    itemset, item: str, optional
        Names of the columns that say which itemset, and which item. By default
        the first columns without another role; ``source`` of what is returned
        says which were taken.
    weight: str, optional
        Name of the column of weights. By default there are none.
    separator: str, optional
        What stands between two items of a text, which are then stripped of
        whitespace (by default, whitespace does), or between two fields of a CSV
        (by default a comma, in a .tsv a tab).
    min_count, min_length: int, optional
        As for `pack_itemsets`.

    Returns
    -------
    packed: ReadItemsets
        As from `pack_itemsets`, with ``source`` and ``rows_without_itemset`` besides.

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged, not of its format or not
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
    path = Path(path)
    format = _known_format(path, format)
    # Packing nothing checks the limits, before a read that may be long.
    pack_itemsets([], min_count=min_count, min_length=min_length)

    if format == "text":
        _refuse_columns(itemset, item, weight)
        itemsets = _text_itemsets(path, separator)
        packed = pack_itemsets(itemsets, min_count=min_count, min_length=min_length)
        result = _result(packed, str(path), 0)
    else:
        frame, columns = _read_table(path, format, separator, itemset, item, weight)
        result = _pack_table(path, frame, columns, min_count, min_length)

    if result.num_item == 0:
        raise DataError(f"{path}: there is no itemset to use: {result.account}")
    return result


def _result(packed: PackedItemsets, source: str, rows_without_itemset: int) -> ReadItemsets:
    fields = {field.name: getattr(packed, field.name) for field in dataclasses.fields(packed)}
    return ReadItemsets(**fields, source=source, rows_without_itemset=rows_without_itemset)


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


# Text


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

    def __str__(self) -> str:
        text = f"itemset column {self.itemset!r}, item column {self.item!r}"
        if self.weight is not None:
            text += f", weight column {self.weight!r}"
        return text + (": the first ones, as not all were named" if self.chosen else "")


def _choose_columns(
    path: Path, names: list[str], itemset: str | None, item: str | None, weight: str | None
) -> _Columns:
    found = f"its columns are {', '.join(map(repr, names))}"
    named = [name for name in (itemset, item, weight) if name is not None]
    for name in named:
        if name not in names:
            raise InputError(f"{path}: there is no column {name!r}; {found}")
        if named.count(name) > 1:
            raise InputError(f"{path}: column {name!r} is given two roles; {found}")
    free = [name for name in names if name not in named]
    chosen = [free.pop(0) if name is None and free else name for name in (itemset, item)]
    if None in chosen:
        raise DataError(
            f"{path}: an itemset and an item column are needed; {found} (is the separator right?)"
        )
    return _Columns(str(chosen[0]), str(chosen[1]), weight, chosen != [itemset, item])


def _read_table(
    path: Path,
    format: str,
    separator: str | None,
    itemset: str | None,
    item: str | None,
    weight: str | None,
) -> tuple[polars.DataFrame, _Columns]:
    """Read the columns that have a role, under the names of their roles."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(
            f'reading {format} needs polars: pip install "itembed_gpu[cli]"'
        ) from error

    separator = _known_separator(format, separator)
    _check_start(path, is_text=separator is not None and path.suffix.lower() != ".zst")
    with _polars_errors(path, separator):
        if separator is None:
            scan = polars.scan_parquet(path, glob=False, hive_partitioning=False)
        else:
            # All are read as strings: a guess from the first rows may not fit the rest.
            scan = polars.scan_csv(path, separator=separator, infer_schema=False, glob=False)
        names = scan.collect_schema().names()
    columns = _choose_columns(path, names, itemset, item, weight)
    roles = {"itemset": columns.itemset, "item": columns.item, "weight": columns.weight}
    with _polars_errors(path, separator):
        frame = scan.select(
            **{role: name for role, name in roles.items() if name is not None}
        ).collect()
    return (frame if separator is None else _clean_csv(path, frame)), columns


def _known_separator(format: str, separator: str | None) -> str | None:
    """Return the separator of a CSV, or None for Parquet."""
    if format == "parquet":
        if separator is not None:
            raise InputError(f"separator is {separator!r}, but Parquet has none")
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
def _polars_errors(path: Path, separator: str | None = None) -> Iterator[None]:
    """Turn the errors of polars, which may be of many lines, into a DataError of one."""
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    except (PolarsError, PanicException, OSError) as error:
        if separator is not None and path.suffix.lower() != ".zst":
            _find_bad_line(path, separator)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _find_bad_line(path: Path, separator: str) -> None:
    """Raise a DataError with the line that polars, which names none, stumbled over."""
    rows = csv.reader(_lines(path), delimiter=separator, strict=True)
    number = 1
    try:
        width = len(next(rows))
        for row in rows:
            number = rows.line_num  # of the last line, as a quoted field may go over many
            if len(row) > width:
                raise DataError(
                    f"{path}, line {number}: {len(row)} fields, "
                    f"where the first line names {width} columns"
                )
    except csv.Error as error:
        raise DataError(f"{path}, after line {number}: {error}") from error


def _clean_csv(path: Path, frame: polars.DataFrame) -> polars.DataFrame:
    """Make nulls of empty fields, quoted or not, and integers of items that are."""
    import polars

    if any(frame.select(polars.all().str.contains("\0", literal=True).any()).row(0)):
        raise DataError(f"{path}: zero bytes in a field; the file is damaged")
    frame = frame.with_columns(polars.all().replace("", None))
    numbers = frame["item"].cast(polars.Int64, strict=False)
    if numbers.cast(polars.String).eq_missing(frame["item"]).all():
        frame = frame.with_columns(item=numbers)
    return frame


def _pack_table(
    path: Path, frame: polars.DataFrame, columns: _Columns, min_count: int, min_length: int
) -> ReadItemsets:
    """Pack the rows of each itemset, in the order of its first row."""
    dtype = frame["item"].dtype
    if not (dtype.is_integer() or str(dtype).startswith(("String", "Categorical", "Enum"))):
        raise DataError(
            f"{path}: item column {columns.item!r} is {dtype}; cast it to integers or strings"
        )
    with _polars_errors(path):
        _, itemsets = _number(frame["itemset"])
        lost = int(np.count_nonzero(itemsets < 0))
        rows = np.argsort(itemsets, kind="stable")[lost:]  # -1, which is none, comes first
        frame = frame[rows]
        labels, items = _number(frame["item"])
    weights = None
    if columns.weight is not None:
        weights = _weights(path, frame["weight"], columns.weight, rows, items >= 0)
    packed = pack_codes(
        labels,
        items,
        np.bincount(itemsets[rows]),
        min_count=min_count,
        min_length=min_length,
        weights=weights,
    )
    return _result(packed, f"{path} ({columns})", lost)


def _number(column: polars.Series) -> tuple[list[Any], npt.NDArray[np.int32]]:
    """Number the values of a column as they first come; what is missing is -1."""
    import polars

    if column.dtype.is_float():
        column = column.fill_nan(None)
    values = column.drop_nulls().unique(maintain_order=True)
    codes = column.replace_strict(
        values,
        polars.int_range(len(values), dtype=polars.Int32, eager=True),
        default=-1,
        return_dtype=polars.Int32,
    )
    return values.to_list(), codes.to_numpy(writable=True)  # pack_codes writes there


def _weights(
    path: Path,
    column: polars.Series,
    name: str,
    rows: npt.NDArray[np.intp],
    used: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """Read weights, which came from these rows of the file; only used ones have to be good."""
    import polars

    with _polars_errors(path), np.errstate(over="ignore"):
        numbers = column.cast(polars.Float64, strict=False).fill_null(np.nan)
        weights = numbers.to_numpy().astype(np.float32)
    for bad in np.flatnonzero(used & ~np.isfinite(weights))[:1].tolist():
        raise DataError(
            f"{path}: weight column {name!r} holds {column[bad]!r} in row {rows[bad] + 1}; "
            "weights are finite numbers"
        )
    return weights

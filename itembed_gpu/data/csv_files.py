"""Reads CSV files as Python's csv module does, by way of polars, which is faster and knows less.

Polars looks only at the columns that are read, and pairs quotes wherever they stand: one that is
text makes lines vanish, with no word. So files are looked through first. Those that both read
alike go to polars as they are; others are copied, field by field, with bytes between that are in
no field.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError
from . import csv_loops
from .formats import Dialect, column_names
from .opening import Opened, TemporaryFiles, read_lines

if TYPE_CHECKING:
    import polars

# Bytes that are looked through or copied at once.
_PIECE = 1 << 22
_MARK = b"\xef\xbb\xbf"
# What stands between fields and records of a copy: characters that text does not have.
_BETWEEN: tuple[int, ...] = (*range(28, 32), *range(1, 9), *range(14, 28))
# A byte of no text, where there is no quote.
_NO_QUOTE = 255
_ABOUT_QUOTES = 'if quotes are text there, such as inch marks, give quote="" (--quote none)'
# How Excel says what the separator is.
_EXCEL = re.compile(rb'"?sep=([\x20-\x7e\t])"?\r?\n')


class Head(NamedTuple):
    """How a file begins, and what of it is a header."""

    written: list[str]  # names of the columns, as they stand there; without a header, numbers
    names: list[str]  # the same, told apart
    dialect: Dialect  # with the separator that the file names, if it does
    num_line: int  # that are no records
    simple: bool  # no other lines than a header of one


def one_separator(
    files: list[Opened], dialect: Dialect, temporary: TemporaryFiles
) -> tuple[list[Opened], Dialect]:
    """Copy files whose separator is of several characters to files with a byte in its place."""
    separator = (dialect.separator or "").encode()
    if len(separator) < 2:
        return files, dialect
    byte = bytes([_BETWEEN[-1]])
    copies = []
    for file in files:
        with temporary.write() as (copy, target):
            target.write(_MARK)  # for the one that is taken away
            for number, line in enumerate(read_lines(file), 1):
                if chr(byte[0]) in line:
                    raise DataError(
                        f"{file.path}, line {number}: holds {byte!r}, which stands for the "
                        f"separator {dialect.separator!r} as it is read; convert the file"
                    )
                target.write(line.encode().replace(separator, byte))
        copies.append(Opened(file.path, copy))
    return copies, dataclasses.replace(dialect, separator=byte.decode())


def read_head(file: Opened, dialect: Dialect) -> Head:
    """Read the names of the columns, or count them."""
    with file.plain.open("rb") as opened:
        found = _EXCEL.fullmatch(opened.readline().removeprefix(_MARK))
        # Polars takes a mark away wherever it begins to read.
        marked = dialect.header and opened.read(len(_MARK)) == _MARK
    skipped = 0
    if found is not None:
        skipped = 1
        dialect = dataclasses.replace(dialect, separator=found[1].decode())
    rows = csv_rows(file, dialect, skipped)
    try:
        record = next((row for row in rows if row), None)
    except csv.Error as error:
        raise DataError(
            f"{file.path}, line {skipped + 1}: {error}, in the first row; {_ABOUT_QUOTES}"
        ) from error
    if record is None:
        raise DataError(f"{file.path}: there are no columns, but empty lines")
    simple = rows.line_num == 1 and not skipped and not marked
    num_line = skipped + rows.line_num
    if not dialect.header:
        record, num_line = [str(number) for number in range(1, len(record) + 1)], skipped
    return Head(record, column_names(record), dialect, num_line, simple)


def csv_rows(file: Opened, dialect: Dialect, skipped: int = 0) -> Any:
    """Read records with Python's csv module, after some lines."""
    return dialect.rows(islice(_physical_lines(file), skipped, None))


def _physical_lines(file: Opened) -> Iterator[str]:
    """Yield lines, which may end with a carriage return alone."""
    return chain.from_iterable(io.StringIO(line, newline="") for line in read_lines(file))


def scan_records(file: Opened, head: Head, files: TemporaryFiles) -> polars.LazyFrame:
    """Have polars read the records of a file, by the names of their columns, as strings.

    They are all as wide as the header.
    """
    import polars

    # A guess of types from the first rows may not fit the rest.
    schema: dict[str, Any] = dict.fromkeys(head.names, polars.String)
    separator, quote = head.dialect.separator or ",", head.dialect.quote
    if head.simple and reads_alike(file.plain, separator, quote, len(head.names)):
        return polars.scan_csv(
            file.plain,
            separator=separator,
            quote_char=quote,
            has_header=False,
            skip_lines=head.num_line,
            schema=schema,
            glob=False,
        )
    between = _bytes_between(file)
    kept = new_kept(head)
    with files.write() as (copy, target):
        # A mark of its own, as polars takes one away.
        target.write(_MARK)
        for piece in transcribe(file, head, kept, between):
            target.write(piece)
    # The last field of each record is a point, so that no record is an empty line.
    separator, end, back = map(chr, between)
    scan = polars.scan_csv(
        copy,
        separator=separator,
        eol_char=end,
        quote_char=None,
        has_header=False,
        schema={**schema, "": polars.String},
        glob=False,
    ).select(head.names)
    if kept[csv_loops.RETURNS]:  # which polars takes away at the end of any field
        scan = scan.with_columns(polars.all().str.replace_all(back, "\r", literal=True))
    return scan


def reads_alike(path: Path, separator: str, quote: str | None, width: int) -> bool:
    """Whether a reader that pairs quotes reads a file as Python's csv module does.

    All records are of this width, then.
    """
    codes = np.uint8(ord(separator)), np.uint8(ord(quote) if quote else _NO_QUOTE)
    buffer = np.full(2 + _PIECE, csv_loops.LINE_FEED, np.uint8)
    inside, fields = False, 0
    with path.open("rb", buffering=0) as file:
        file.seek(len(_MARK) if file.read(len(_MARK)) == _MARK else 0)
        while True:
            size = _fill(file, buffer[2:])
            ended = size < _PIECE
            if ended and buffer[1 + size] != csv_loops.LINE_FEED:
                buffer[2 + size] = csv_loops.LINE_FEED
                size += 1
            whole = -(-size // csv_loops.BLOCK) * csv_loops.BLOCK
            buffer[2 + size : 2 + whole] = ord("x")
            odd, inside, fields = csv_loops.look_through(
                buffer[: 2 + whole], *codes, width, inside, fields
            )
            if ended or odd:
                return not odd and not inside
            buffer[:2] = buffer[size : size + 2]


def _fill(file: Any, buffer: Any) -> int:
    """Read as much as there is room for."""
    size = 0
    while more := file.readinto(memoryview(buffer)[size:]):
        size += more
    return size


def _bytes_between(file: Opened) -> tuple[int, int, int]:
    """Choose bytes that a file does not hold."""
    seen = np.zeros(256, np.bool_)
    with file.plain.open("rb") as opened:
        while piece := opened.read(_PIECE):
            seen |= np.bincount(np.frombuffer(piece, np.uint8), minlength=256) > 0
    free = [byte for byte in _BETWEEN if not seen[byte]]
    if len(free) < 3:
        raise DataError(f"{file.path}: holds control characters of every kind; is it text?")
    return free[0], free[1], free[2]


def new_kept(head: Head) -> Any:
    """What `transcribe` begins with."""
    kept = np.zeros(csv_loops.NUM_KEPT, np.int64)
    kept[csv_loops.LINE] = 1 + head.num_line
    return kept


def transcribe(
    file: Opened, head: Head, kept: Any, between: tuple[int, int, int] = (31, 30, 29)
) -> Iterator[memoryview]:
    """Yield the records of a file as bytes without quotes; raise where one is wrong."""
    separator, quote = (
        -1 if char is None else ord(char) for char in (head.dialect.separator, head.dialect.quote)
    )
    out = np.empty(2 * _PIECE + 8, np.uint8)
    with file.plain.open("rb") as source:
        source.seek(_end_of_lines(file.plain, head.num_line))
        pieces = iter(lambda: source.read(_PIECE), b"")
        for piece in chain(pieces, [b""]):
            if not piece:  # the end, where a record may be open
                _check_end(file, kept)
                if kept[csv_loops.STATE] in (csv_loops.START, csv_loops.AFTER_RETURN):
                    return
                piece = b"\n"
            data = np.frombuffer(piece, np.uint8)
            size = csv_loops.transcribe(data, separator, quote, len(head.names), kept, out, between)
            if kept[csv_loops.ERROR]:
                raise DataError(_explain(file, head, kept))
            yield out[:size].data


def _end_of_lines(path: Path, num_line: int) -> int:
    """Return the place after so many lines, however they end, and after a byte order mark."""
    with path.open("rb") as file:
        start = len(_MARK) if file.read(len(_MARK)) == _MARK else 0
        file.seek(start)
        text = io.TextIOWrapper(file, "latin-1", newline="")
        return start + sum(len(line) for line in islice(text, num_line))


def _check_end(file: Opened, kept: Any) -> None:
    if kept[csv_loops.STATE] == csv_loops.QUOTED:
        raise DataError(
            f"{file.path}, after line {kept[csv_loops.OPENED] - 1}: unexpected end of data, in the "
            f"quotes that line {kept[csv_loops.OPENED]} opens; {_ABOUT_QUOTES}"
        )


def _explain(file: Opened, head: Head, kept: Any) -> str:
    """Say what is wrong with a record."""
    place = f"{file.path}, line {kept[csv_loops.LINE]}"
    if kept[csv_loops.ERROR] == csv_loops.ZERO_BYTE:
        return f"{place}: a zero byte; is the file binary, damaged or UTF-16?"
    if kept[csv_loops.ERROR] == csv_loops.TEXT_AFTER_QUOTE:
        return (
            f"{place}: text follows a quote that closes what line {kept[csv_loops.OPENED]} opens; "
            f"{_ABOUT_QUOTES}"
        )
    fields = int(kept[csv_loops.ERROR_FIELDS])
    named = "names" if head.dialect.header else "has"
    return (
        f"{place}: {fields} field{'s' if fields > 1 else ''}, where the first line {named} "
        f"{len(head.names)} columns"
    )


def check_records(file: Opened, head: Head) -> None:
    """Raise a DataError with the line of the first record that is wrong, if there is one."""
    for _ in transcribe(file, head, new_kept(head)):
        pass

"""Finds and opens the files that itemsets are read from, and says what is wrong with them.

Text is read line by line; tables with polars, which is imported only when there is one to read.
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, InputError, MissingExtraError
from .formats import COMPRESSIONS, Columns, Dialect, Roles, choose_columns, known_format

if TYPE_CHECKING:
    import polars

Locate = Callable[[int], tuple[str, int]]


def find_files(source: str | os.PathLike[str], format: str | None) -> tuple[list[Path], str | None]:
    """List the files of a path, a folder or a pattern, and their one format, if they tell it."""
    path = Path(source)
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    elif not path.exists() and glob.has_magic(str(path)):
        paths = sorted(map(Path, glob.glob(str(path))))
    else:
        return [path], known_format(path, format)
    if not paths:
        raise DataError(f"{path}: there is no file; name a file, a folder or a pattern of files")
    formats = {known_format(p, format): p for p in paths}
    names = {p.name for p in paths}
    for p in paths:
        if p.suffix.lower() in COMPRESSIONS and p.stem in names:
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


def text_itemsets(path: Path, dialect: Dialect) -> Iterator[list[str | None]]:
    """Split the lines of a text; an item of None is one that is missing."""
    separator, nulls = dialect.separator, dialect.nulls
    for line in _lines(path):
        items: list[str | None]
        if separator is None:
            items = [*line.split()]
        elif line.strip():
            items = [part.strip() or None for part in line.split(separator)]
        else:
            items = []
        yield [None if item in nulls else item for item in items] if nulls else items


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


def import_polars(what: str) -> Any:
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(
            f'reading {what} needs polars: pip install "itembed_gpu[data]"'
        ) from error
    return polars


def collect_files(
    source: Any, paths: list[Path], format: str, dialect: Dialect, roles: Roles
) -> tuple[polars.DataFrame, Columns, Locate]:
    """Read the columns that have a role from all the files, under the names of their roles.

    Returns what was read, and a function that says of which file a row is, and which row there.
    """
    import_polars(format)
    import polars

    parts, columns = scan_files(paths, format, dialect, roles)
    try:
        frame = polars.concat(parts, how="vertical_relaxed").collect()
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        raise explain(source, paths, parts, dialect, error) from error
    if dialect.separator is not None:
        if frame["cut"].any():
            check_rows(paths, dialect)
        frame = clean_csv(str(source), frame, dialect)
    return frame, columns, partial(locate_row, paths, parts)


def locate_row(paths: list[Path], parts: list[polars.LazyFrame], row: int) -> tuple[str, int]:
    """Return the file of a row of several files, and the row's number there."""
    import polars

    for path, part in zip(paths, parts, strict=True):
        num_row = part.select(polars.len()).collect().item()
        if row < num_row:
            return str(path), row
        row -= num_row
    return str(paths[-1]), row


def scan_files(
    paths: list[Path], format: str, dialect: Dialect, roles: Roles
) -> tuple[list[polars.LazyFrame], Columns]:
    """Open all the files, and choose the same columns of each; nothing is read yet.

    A CSV gets a column beside those of the roles: whether the last field of a row is empty.
    """
    import polars

    parts: list[polars.LazyFrame] = []
    known: list[Columns] = []
    for path in paths:
        is_text = dialect.separator is not None
        _check_start(path, is_text=is_text and path.suffix.lower() != ".zst")
        with polars_errors(path, dialect, format):
            scan = _scan(path, format, dialect)
            schema = scan.collect_schema()
        known.append(choose_columns(str(path), schema, roles, [*schema] if is_text else None))
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
        part = select(scan, columns)
        if dialect.separator is not None:
            last = list(schema)[-1]
            part = scan.select(
                **{role: polars.col(name) for role, name in columns.roles().items()},
                cut=polars.col(last).is_null(),
            )
        parts.append(part)
        _check_same_types(paths[0], parts[0], path, part, columns)
    return parts, known[0]


def select(scan: polars.LazyFrame, columns: Columns) -> polars.LazyFrame:
    """Take the columns that have a role; categories as strings, as each file numbers its own."""
    import polars

    scan = scan.select(**{role: polars.col(name) for role, name in columns.roles().items()})
    if columns.lists:
        return scan
    schema = scan.collect_schema()
    return scan.with_columns(
        polars.col(role).cast(polars.String)
        for role in ("itemset", "item")
        if schema.get(role) in (polars.Enum, polars.Categorical)
    )


def _scan(path: Path, format: str, dialect: Dialect) -> polars.LazyFrame:
    import polars

    if dialect.separator is not None:
        # All are read as strings: a guess from the first rows may not fit the rest.
        return polars.scan_csv(
            path,
            separator=dialect.separator,
            quote_char=dialect.quote,
            has_header=dialect.header,
            with_column_names=None if dialect.header else _numbered,
            infer_schema=False,
            glob=False,
        )
    if format == "parquet":
        return polars.scan_parquet(path, glob=False, hive_partitioning=False)
    if format == "ndjson":
        # It has no way to say that a name is no pattern.
        return polars.scan_ndjson(glob.escape(str(path)), infer_schema_length=None)
    return polars.scan_ipc(path, glob=False)


def _numbered(names: list[str]) -> list[str]:
    return [str(number) for number in range(1, len(names) + 1)]


def clean_csv(name: str, frame: polars.DataFrame, dialect: Dialect) -> polars.DataFrame:
    """Make nulls of empty fields, quoted or not, and refuse what is no text."""
    import polars

    frame = frame.drop("cut")
    if any(frame.select(polars.all().str.contains("\0", literal=True).any()).row(0)):
        raise DataError(f"{name}: zero bytes in a field; the file is damaged")
    return frame.with_columns(polars.all().replace(["", *dialect.nulls], None))


def explain(
    source: Any,
    paths: list[Path],
    parts: list[polars.LazyFrame],
    dialect: Dialect,
    error: BaseException,
) -> DataError:
    """Raise the error of the one file that cannot be read, or return that of all."""
    for path, part in zip(paths, parts, strict=True):
        with polars_errors(path, dialect):
            for _ in part.collect_batches(lazy=True, engine="streaming"):
                pass
    return DataError(f"{source}: cannot be read: {first_line(error)}")


@contextmanager
def polars_errors(
    path: Path | str, dialect: Dialect | None = None, format: str | None = None
) -> Iterator[None]:
    """Turn the errors of polars, which may be of many lines, into a DataError of one."""
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    except (PolarsError, PanicException, OSError) as error:
        if isinstance(path, Path) and dialect is not None and dialect.separator is not None:
            _find_bad_line(path, dialect)
        if isinstance(path, Path) and format == "ndjson":
            _find_bad_json(path)
        raise DataError(f"{path}: cannot be read: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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


def _check_same_types(
    first: Path, expected: polars.LazyFrame, path: Path, part: polars.LazyFrame, columns: Columns
) -> None:
    """Refuse files whose columns are of types that polars would turn into one another."""
    import polars

    schema = expected.collect_schema()
    for role, dtype in part.collect_schema().items():
        known = schema[role]
        alike = dtype == known or polars.Null in (dtype, known)
        if not alike and not (dtype.is_integer() and known.is_integer()) and role != "weight":
            here, there = (
                "String" if isinstance(kind, polars.Categorical) else kind
                for kind in (dtype, known)
            )
            raise DataError(
                f"{path}: {role} column {columns.roles()[role]!r} is {here}, and in {first} "
                f"{there}; cast one of them"
            )


def _check_types(path: Path, schema: polars.Schema, columns: Columns) -> None:
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
        with polars_errors(path, None, "ndjson"):
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


def check_rows(paths: list[Path], dialect: Dialect) -> None:
    """Refuse rows that are cut short: polars fills what they lack with nulls."""
    import polars

    for path in paths:
        lines = polars.scan_lines(glob.escape(str(path)))
        width = len(_scan(path, "csv", dialect).collect_schema())
        fields = polars.col("line").str.count_matches(dialect.separator or "", literal=True) + 1
        # A line break in a quoted field makes a line of fewer fields as well.
        short = (fields < width) & (polars.col("line").str.strip_chars() != "")
        if lines.select(short.any()).collect().item():
            _find_bad_line(path, dialect)


def _find_bad_line(path: Path, dialect: Dialect) -> None:
    """Raise a DataError with the line that polars, which names none, stumbled over."""
    rows = csv.reader(
        plain_lines(path),
        delimiter=dialect.separator or ",",
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        strict=True,
    )
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
    for number, line in enumerate(plain_lines(path), 1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                raise DataError(f"{path}, line {number}: is no object of JSON: {line.strip()[:40]}")
        except ValueError as error:
            raise DataError(f"{path}, line {number}: is no JSON: {error}") from error


def plain_lines(path: Path) -> Iterator[str]:
    """Yield decoded lines, whatever the file is compressed with."""
    if path.suffix.lower() != ".zst":
        yield from _lines(path)
        return
    import polars
    from polars.exceptions import PolarsError

    try:
        yield from polars.scan_lines(glob.escape(str(path))).collect()["line"]
    except PolarsError as error:
        raise DataError(f"{path}: cannot be read: {first_line(error)}") from error


def first_lines(path: Path, number: int) -> list[str]:
    """Return the first lines of a file, whatever it is compressed with."""
    if path.suffix.lower() != ".zst":
        return list(islice(_lines(path), number))
    polars = import_polars(f"{path}, which is compressed with zstd,")
    with polars_errors(path):
        return [*polars.scan_lines(glob.escape(str(path))).head(number).collect()["line"]]

"""Finds the files that itemsets are read from, and has polars read those that are tables.

Text is read line by line. Whatever is wrong with a file is said in one line.
"""

from __future__ import annotations

import dataclasses
import glob
import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote

from ..checks import import_polars
from ..errors import DataError, InputError
from .csv_files import Head, check_records, one_separator, read_head, scan_records
from .foreign import foreign_errors, read_json
from .format_choice import Asked, Reading, choose_reading, text_lines
from .formats import (
    COMPRESSIONS,
    NO_ROLES,
    SEPARATORS,
    Columns,
    Dialect,
    Roles,
    choose_columns,
    known_format,
    suffix_format,
)
from .identifiers import is_float
from .opening import (
    STANDARD_INPUT,
    Opened,
    TemporaryFiles,
    as_plain,
    come_in,
    is_elsewhere,
    read_lines,
    temporary_files,
)
from .parsers import PARSERS, WEIGHTED, lightgcn_ids, without_nulls
from .remote import Url, as_path, list_urls

if TYPE_CHECKING:
    import polars


# Digits of decimals that Arrow has, and polars has not.
_WIDE_DECIMALS = range(39, 77)
# What Hive writes for a missing value.
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


class Source(NamedTuple):
    """Files that were opened, and how they are read."""

    name: str
    files: list[Opened]
    reading: Reading
    temporary: TemporaryFiles

    @property
    def format(self) -> str:
        """The plain format that they are read as."""
        return self.reading.format

    @property
    def dialect(self) -> Dialect:
        return self.reading.dialect

    @property
    def is_table(self) -> bool:
        """Whether polars reads them; else each line, or each row, is an itemset."""
        return self.reading.parser is None and self.format != "text"

    @property
    def weighted(self) -> bool:
        """Whether lines have weights."""
        return self.reading.parser in WEIGHTED

    def itemsets(self) -> Iterator[Any]:
        """Parse the lines of all files: items, or items and weights where they are weighted."""
        return chain.from_iterable(map(self._parse, self.files))

    def _parse(self, file: Opened) -> Iterator[Any]:
        parser, dialect, roles = self.reading.parser, self.dialect, self.reading.roles
        if parser is None:
            return text_itemsets(file, dialect)
        parsed = PARSERS[parser](file.path, text_lines(file, dialect.encoding), roles, dialect)
        return without_nulls(parsed, dialect.nulls, self.weighted) if dialect.nulls else parsed

    def itemset_ids(self) -> list[str] | None:
        """What the itemsets of lines are called, where the lines say it."""
        if self.reading.parser != "lightgcn":
            return None
        lines = (text_lines(file, self.dialect.encoding) for file in self.files)
        return lightgcn_ids(chain.from_iterable(lines))

    def tell(self, line: str) -> str:
        """Add to a line for people what is to be told of how files are read."""
        return f"{line}; {self.reading.told}" if self.reading.told else line


@contextmanager
def open_files(
    source: str | os.PathLike[str],
    format: str | None,
    writing: Mapping[str, Any],
    roles: Roles = NO_ROLES,
) -> Iterator[Source]:
    """Find and open the files of a path, a folder or a pattern, and choose how they are read.

    `writing` is what is asked for of a `Dialect`. Tables are plain files of UTF-8 then, with
    separators of one character.
    """
    with choose_files(source, format, writing, roles) as chosen:
        yield make_plain(chosen)


@contextmanager
def choose_files(
    source: str | os.PathLike[str],
    format: str | None,
    writing: Mapping[str, Any],
    roles: Roles,
    *,
    here: bool = True,
) -> Iterator[Source]:
    """Do the same, but leave files as they are; `make_plain` does the rest, of some or all.

    Those that lie elsewhere are not copied if they are not read `here`: then the first of them
    says for all how they are read.
    """
    paths, known = find_files(source, format)
    with temporary_files() as temporary:
        if here or not isinstance(paths[0], Url):
            files = shown = [come_in(path, temporary) for path in paths]
        else:
            files, shown = [Opened(path, path) for path in paths], []
            if known not in ("parquet", "arrow"):  # which are what they are called
                shown = [come_in(paths[0], temporary)]
        reading = choose_reading(shown or files[:1], known, Asked(format, writing, roles))
        name = str(as_path(source) if "://" in str(source) else source)
        if paths == [STANDARD_INPUT]:
            name = str(files[0].path)
        yield Source(name, files, reading, temporary)


def make_plain(source: Source) -> Source:
    """Make plain files of UTF-8, with separators of one character, of those of tables."""
    reading, dialect = source.reading, source.reading.dialect
    files = [
        come_in(file.path, source.temporary) if is_elsewhere(file) else file
        for file in source.files
    ]
    if reading.parser is not None:
        return source._replace(files=files)
    if reading.format in (*SEPARATORS, "ndjson"):
        marked = reading.format != "ndjson"  # a byte order mark may be left there
        files = [as_plain(file, dialect.encoding, source.temporary, marked) for file in files]
    if reading.format in SEPARATORS:
        files, dialect = one_separator(files, dialect, source.temporary)
    return source._replace(files=files, reading=reading._replace(dialect=dialect))


def find_files(source: str | os.PathLike[str], format: str | None) -> tuple[list[Path], str | None]:
    """List the files of a path, a folder or a pattern, and their one format, if they tell it.

    Of a folder, those of its partitions as well (``day=1``), in the order of their names, and not
    what Spark writes beside.
    """
    path = as_path(source)
    if isinstance(path, Url):
        paths = list_urls(path, _is_wanted)
        if paths == [path]:
            return paths, known_format(path, format)
    elif path.is_dir():
        paths = list(_files_of(path))
    elif not path.exists() and glob.has_magic(str(path)):
        matches = sorted(map(Path, glob.glob(str(path))))
        paths = [x for match in matches if not _is_beside(match) for x in _files_of(match)]
    else:
        return [path], known_format(path, format)
    if not paths:
        raise DataError(f"{path}: there is no file; name a file, a folder or a pattern of files")
    formats = {known_format(p, format): p for p in paths}
    names = {(p.parent, p.name) for p in paths}
    for p in paths:
        if p.suffix.lower() in COMPRESSIONS and (p.parent, p.stem) in names:
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


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a file, or the files of a folder and of its partitions, in the order of names."""
    if not path.is_dir():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if (entry.is_file() or entry.is_dir()) and _is_wanted(entry.name, entry.is_dir()):
            yield from _files_of(entry)


def _is_wanted(name: str, is_folder: bool) -> bool:
    """Whether what a folder holds is read with it: a file with data, or a folder of a partition."""
    beside = name.startswith(".") or _is_beside(Path(name))
    return not beside and ("=" in name or not is_folder)


def _is_beside(path: Path) -> bool:
    """Whether Spark wrote a file beside the data: _SUCCESS, _committed_1, sums of bytes."""
    return path.suffix == ".crc" or (path.name.startswith("_") and not suffix_format(path))


def _partitions(path: Path) -> dict[str, str | None]:
    """Return what the names of folders say of all rows of a file, as Hive has it: ``day=1``."""
    found = (re.fullmatch("([^=]+)=(.*)", part) for part in path.parent.parts)
    values = {unquote(one[1]): unquote(one[2]) for one in found if one is not None}
    return {name: None if value == _NO_PARTITION else value for name, value in values.items()}


def text_itemsets(file: Opened, dialect: Dialect) -> Iterator[list[str | None]]:
    """Split the lines of a text; an item of None is one that is missing."""
    separator, nulls = dialect.separator, dialect.nulls
    for line in text_lines(file, dialect.encoding):
        items: list[str | None]
        if separator is None:
            items = [*line.split()]
        elif line.strip():
            items = [part.strip() or None for part in line.split(separator)]
        else:
            items = []
        yield [None if item in nulls else item for item in items] if nulls else items


class Known(NamedTuple):
    """What is known of tables before all of them are opened.

    Attributes
    ----------
    path : Path
        The first of them.
    columns : Columns
        Its columns, which are wanted of the others.
    numbers : set of str
        Partitions that are integers.
    schema : polars.Schema
        Types of the first one, by roles.
    common : polars.Schema or None
        Types that the values of all of them have when they are read together.
    """

    path: Path
    columns: Columns
    numbers: set[str]
    schema: polars.Schema
    common: polars.Schema | None = None


class Tables(NamedTuple):
    """Files of tables, of which nothing is read yet but their columns."""

    source: Source
    heads: list[Head | None]  # of CSV files
    parts: list[polars.LazyFrame]
    known: Known

    @property
    def columns(self) -> Columns:
        return self.known.columns

    def _together(self) -> polars.LazyFrame:
        return together(self.parts, self.known.common)

    def collect(self) -> polars.DataFrame:
        """Read the columns that have a role, under the names of their roles."""
        with self._explained():
            scan = self._together()
            frame = scan.collect(engine="in-memory")  # which keeps the order of rows
        if self.heads[0] is not None:
            frame = clean_csv(self.source, frame)
        return frame

    def batches(self, num_row: int) -> Iterator[tuple[int, polars.DataFrame]]:
        """Read the same in batches of rows, and the number of the first one of each."""
        frame, row = self._together(), 0
        with self._explained():
            for batch in frame.collect_batches(
                chunk_size=num_row, maintain_order=True, lazy=True, engine="streaming"
            ):
                num_row = len(batch)
                if self.heads[0] is not None:
                    batch = clean_csv(self.source, batch)
                yield row, batch
                row += num_row

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file of a row of all the files, and the row's number there."""
        import polars

        for file, part in zip(self.source.files, self.parts, strict=True):
            num_row = part.select(polars.len()).collect().item()
            if row < num_row:
                return str(file.path), row
            row -= num_row
        return str(self.source.files[-1].path), row

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the error of the one file that cannot be read, or else that of all."""
        try:
            with foreign_errors(f"{self.source.name}:"):
                yield
        except DataError:
            self._check_records()
            for file, part in zip(self.source.files, self.parts, strict=True):
                with file_errors(file):
                    for _ in part.collect_batches(lazy=True, engine="streaming"):
                        pass
            raise

    def _check_records(self) -> None:
        """Raise the error of the first record of a CSV that is wrong, or bytes that are no text."""
        for file, head in zip(self.source.files, self.heads, strict=True):
            if head is not None:
                check_records(file, head)
                for _ in read_lines(file):
                    pass


def together(
    parts: Sequence[polars.LazyFrame], common: polars.Schema | None = None
) -> polars.LazyFrame:
    """Read tables one after the other, whose values get the types that all have in common."""
    import polars

    frame = polars.concat(parts, how="vertical_relaxed")
    return frame if common is None else frame.cast(common)


class _Table(NamedTuple):
    """One file, and which of its columns has which role."""

    file: Opened
    head: Head | None
    scan: polars.LazyFrame
    schema: polars.Schema
    columns: Columns


def scan_files(
    source: Source, known: Known | None = None, numbers: set[str] | None = None
) -> Tables:
    """Open tables, and choose the same columns of each: those of the first, or those known.

    `numbers` are the partitions that are integers, where there are more files than these.
    """
    import_polars(f"reading {source.format}")

    if numbers is None:
        numbers = numeric_partitions(source.files) if known is None else known.numbers
    heads: list[Head | None] = []
    parts: list[polars.LazyFrame] = []
    for file in source.files:
        # What was chosen in the first file is what is wanted of the others.
        roles = source.reading.roles if known is None else known.columns.as_roles()
        table = _open_table(source, file, roles, numbers)
        columns = table.columns
        part = select(table.scan, columns)
        schema = part.collect_schema()
        if known is None:
            known = Known(file.path, columns, numbers, schema)
        if columns.lists != known.columns.lists:
            raise DataError(
                f"{file.path}: column {columns.item!r} is {table.schema[columns.item]}, other than "
                f"in {known.path}; lists and values cannot be read together"
            )
        if source.format == "ndjson":
            _check_types(file, table.schema, columns)
        _check_same_types(known, file.path, schema)
        heads.append(table.head)
        parts.append(part)
    return Tables(source, heads, parts, cast(Known, known))  # as there is a file


def _open_table(source: Source, file: Opened, roles: Roles, numbers: set[str]) -> _Table:
    """Open a table, and choose its columns."""
    _check_start(file, is_text=source.dialect.separator is not None)
    head = read_head(file, source.dialect) if source.format in SEPARATORS else None
    with file_errors(file, source.format):
        if head is None:
            scan = _scan(file, source.format, roles)
        else:
            scan = scan_records(file, head, source.temporary)
        own = list(scan.collect_schema())
        scan = _with_partitions(scan, file.path, numbers)
        schema = scan.collect_schema()
    # Partitions are not taken unless they are asked for, as what has no name.
    partitions = [""] * (len(schema) - len(own))
    written = None if head is None and not partitions else [*own, *partitions]
    if head is not None:
        written = [*head.written, *partitions]
    columns = choose_columns(str(file.path), schema, roles, written)
    columns = columns.noting(is_float(schema[columns.item]))
    for name in columns.roles().values():
        if getattr(schema[name], "precision", None) in _WIDE_DECIMALS:
            raise DataError(
                f"{file.path}: column {name!r} is {schema[name]}, which polars does not read; cast "
                "it to integers or strings"
            )
    return _Table(file, head, scan, schema, columns)


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


def numeric_partitions(files: list[Opened]) -> set[str]:
    """Names of partitions whose values are all written as integers are, in all the files."""
    found: dict[str, bool] = {}
    for file in files:
        for name, value in _partitions(file.path).items():
            whole = value is None or re.fullmatch(r"0|-?[1-9]\d{0,17}", value) is not None
            found[name] = found.get(name, True) and whole
    return {name for name, whole in found.items() if whole}


def _with_partitions(scan: polars.LazyFrame, path: Path, numbers: set[str]) -> polars.LazyFrame:
    """Give a table a column for each partition that its folders name, unless it has one."""
    import polars

    values = _partitions(path)
    if not values:
        return scan
    known = scan.collect_schema()
    return scan.with_columns(
        polars.lit(value, polars.String)
        .cast(polars.Int64 if name in numbers else polars.String)
        .alias(name)
        for name, value in values.items()
        if name not in known
    )


def _scan(file: Opened, format: str, roles: Roles) -> polars.LazyFrame:
    """Have polars read a table that is no CSV."""
    import polars
    from polars.exceptions import PanicException, PolarsError

    path = file.plain
    if format == "ndjson":
        # It has no way to say that a name is no pattern.
        return polars.scan_ndjson(glob.escape(str(path)), infer_schema_length=None)
    try:
        if format == "parquet":
            scan = polars.scan_parquet(path, glob=False, hive_partitioning=False)
        else:
            scan = polars.scan_ipc(path, glob=False)
        scan.collect_schema()
    except (PolarsError, PanicException):
        # One column of a type that it has not is enough.
        others = _known_columns(file, format, roles)
        if others is None:
            raise
        return others
    return scan


def _known_columns(file: Opened, format: str, roles: Roles) -> polars.LazyFrame | None:
    """Read the columns of a table that polars knows the types of, if it does not know all."""
    import polars

    path = str(file.plain)
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        ipc: Any = importlib.import_module("pyarrow.ipc")
        types: Any = importlib.import_module("pyarrow.types")
        schema = parquet.read_schema(path) if format == "parquet" else ipc.open_file(path).schema
    except (ImportError, OSError, ValueError):  # not to be had, or nothing that it reads
        return None
    foreign = ("run_end_encoded", "list_view", "large_list_view", "interval", "union")
    kinds = {
        field.name: field.type
        for field in schema
        if any(getattr(types, f"is_{kind}")(field.type) for kind in foreign)
    }
    if not kinds:
        return None
    for name in dataclasses.astuple(roles):
        if name in kinds:
            raise DataError(
                f"{file.path}: column {name!r} is {kinds[name]}, which polars does not read; cast "
                "it to strings, integers or lists"
            )
    names = [name for name in schema.names if name not in kinds]
    if format == "parquet":
        table = parquet.read_table(path, columns=names)
    else:
        table = ipc.open_file(path).read_all().select(names)
    return polars.DataFrame(table).lazy()


def clean_csv(source: Source, frame: polars.DataFrame) -> polars.DataFrame:
    """Make nulls of empty fields, quoted or not, and of null words."""
    import polars

    nulls = ["", *source.dialect.nulls]
    return frame.with_columns(polars.col(polars.String).replace(nulls, None))


def file_errors(file: Opened, format: str | None = None) -> AbstractContextManager[None]:
    """Turn the errors of polars and pyarrow about a file into ours."""
    explain = partial(_find_bad_json, file) if format == "ndjson" else None
    return foreign_errors(f"{file.path}:", explain=explain)


def _check_start(file: Opened, is_text: bool) -> None:
    """Find what cannot be read at all; polars takes binary and UTF-16 for a header."""
    if is_text:
        next(read_lines(file))
        return
    try:
        with file.plain.open("rb") as opened:
            start = opened.read(1)
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise DataError(f"{file.path}: the file is empty")


def _check_same_types(known: Known, path: Path, schema: polars.Schema) -> None:
    """Refuse files whose columns are of types that polars would turn into one another."""
    import polars

    for role, dtype in schema.items():
        first = known.schema[role]
        alike = dtype == first or polars.Null in (dtype, first)
        if not alike and not (dtype.is_integer() and first.is_integer()) and role != "weight":
            here, there = (
                "String" if isinstance(kind, polars.Categorical) else kind
                for kind in (dtype, first)
            )
            raise DataError(
                f"{path}: {role} column {known.columns.roles()[role]!r} is {here}, and in "
                f"{known.path} {there}; cast one of them"
            )


def _check_types(file: Opened, schema: polars.Schema, columns: Columns) -> None:
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
        lines = polars.scan_lines(glob.escape(str(file.plain)), row_index_name="row")
        with file_errors(file, "ndjson"):
            others = lines.filter(~polars.col("line").str.contains(right)).collect()
        for row, line in others.iter_rows():
            value = read_json(line).get(name) if line.strip() else None
            values = value if isinstance(value, list) and columns.lists else [value]
            for value in values:
                if value is not None and not isinstance(value, str):
                    raise DataError(
                        f"{file.path}, line {row + 1}: {role} column {name!r} holds "
                        f"{json.dumps(value)}, and strings elsewhere; write all of them alike"
                    )


def _find_bad_json(file: Opened) -> None:
    """Raise a DataError with the line that is no JSON."""
    for number, line in enumerate(read_lines(file), 1):
        try:
            is_object = not line.strip() or isinstance(read_json(line), dict)
        except ValueError as error:
            raise DataError(f"{file.path}, line {number}: is no JSON: {error}") from error
        if not is_object:
            raise DataError(
                f"{file.path}, line {number}: is no object of JSON: {line.strip()[:40]}"
            )

"""Looks at the first lines of a file: what it is for certain, what it may be, what it is not.

A wrong guess would be trained on without a word. So a format is recognised only where its lines
leave no doubt; where they leave some, the question names the options that answer it.
"""

from __future__ import annotations

import ast
import csv
import re
import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import combinations, dropwhile, pairwise
from typing import NamedTuple

from ..errors import InputError
from .column_names import is_item_name, is_itemset_name, is_no_item_name, suggestion
from .foreign import read_json
from .formats import Dialect, find_place
from .parsers import ONE_HOT, numbered_run

# So many lines are looked at, and so few say nothing for certain.
SAMPLE = 300
_FEW = 5
_MANY = 20

CERTAIN, ASK, MAYBE = "certain", "ask", "maybe"


class Finding(NamedTuple):
    """What was found.

    `kind` says how sure it is: certain, so that `format` is read; a question that has to be
    answered first; or a doubt, to be told. `text` is the reason, or the question.
    """

    kind: str
    format: str | None
    text: str
    column: str | None = None  # which one holds the items


class Sample(NamedTuple):
    """The first lines of a file, what its suffix says, and the options that were given."""

    lines: list[str]  # without their ends, and without empty ones
    format: str | None = None
    separator: str | None = None
    header: bool | None = None
    quote: str | None = '"'
    chosen: bool = False  # columns are asked for, by names or numbers
    named: bool = False  # by names
    item: str | int | None = None
    asked: bool = False  # the format was given

    def all_match(self, pattern: str, start: int = 0) -> bool:
        """Whether there are enough lines, and all from `start` on match."""
        lines, compiled = self.lines[start:], re.compile(pattern)
        return len(lines) >= _FEW and all(map(compiled.fullmatch, lines))

    def rows(self) -> list[list[str]]:
        """Split the lines as a CSV, as far as its quotes are right."""
        separator = self.separator or ("\t" if self.format == "tsv" else ",")
        rows: list[list[str]] = []
        with suppress(csv.Error, TypeError):  # a separator of several characters
            rows.extend(filter(None, Dialect(separator, quote=self.quote).rows(self.lines)))
        return rows


Detector = Callable[[Sample], Finding | None]


def give(name: str) -> str:
    """Say how a format is asked for, in Python and on the command line."""
    return f"format={name!r} (--format {name})"


def recognise(sample: Sample) -> Finding | None:
    """Return the first thing that is found in a sample, if any is."""
    if sample.lines[0].strip('"').lower().startswith("sep="):  # Excel's, which is read as a table
        return None
    if sample.format in ("csv", "tsv"):
        detectors = (_OF_TABLES if sample.asked else _ANYWHERE) + _IN_TABLES
    elif sample.format == "ndjson":
        detectors = (_json,)
    elif sample.separator is None:
        detectors = _ANYWHERE + _IN_TEXT
    else:
        detectors = (_quoted,)
    found = next(filter(None, (detect(sample) for detect in detectors)), None)
    return found if found is not None and found.kind == CERTAIN else _commented(sample) or found


def _commented(sample: Sample) -> Finding | None:
    """Comments above what has none; a header may begin so, with as many fields as a row."""

    def is_comment(line: str) -> bool:
        return re.fullmatch(r"(#+|%+)(\s.*)?", line) is not None

    rest = [*dropwhile(is_comment, sample.lines)]
    if len(rest) in (0, len(sample.lines)) or any(map(is_comment, rest)):
        return None
    first = sample.lines[0]
    if any(first.count(mark) == rest[0].count(mark) > 0 for mark in ("\t", ",", ";")):
        return None
    return Finding(
        ASK,
        None,
        f"{first[:40]!r} at its start looks like a comment, and would be read like any other line: "
        f"remove it; if it is an itemset, give {give('text')}",
    )


# --------------------------------------------------------------------- of any suffix


def _json(sample: Sample) -> Finding | None:
    first = sample.lines[0].lstrip()
    if first[:1] not in ("{", "["):
        return None
    if _is_object(first):
        # Of a .json, a second line says that it is no single document.
        lines = len(sample.lines) > 1 and _is_object(sample.lines[1])
        if sample.format is None and not lines:
            return Finding(ASK, None, _document(sample))
        return None if sample.format == "ndjson" else Finding(CERTAIN, "ndjson", "an object a line")
    try:
        literal = ast.literal_eval(first)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        literal = None
    if isinstance(literal, dict):
        return Finding(
            ASK,
            None,
            "its lines are literals of Python, and no JSON; in Python: import ast, polars; "
            "read_itemsets(polars.DataFrame([ast.literal_eval(line) for line in open(PATH)]), "
            "itemset=..., item=...)",
        )
    if (
        isinstance(literal, list)
        and len(sample.lines) > 1
        and all(line.startswith("[") for line in sample.lines)
    ):
        return Finding(
            ASK,
            None,
            "its lines are lists of Python or JSON; in Python: import ast; "
            "pack_itemsets(map(ast.literal_eval, open(PATH)))",
        )
    return Finding(ASK, None, _document(sample)) if sample.format is None else None


def _document(sample: Sample) -> str:
    text = "".join(sample.lines)
    if '"playlists"' in text and '"tracks"' in text:
        return (
            "is Spotify's Million Playlist Dataset, one document of JSON; in Python: import json; "
            'pack_itemsets([track["track_uri"] for track in playlist["tracks"]] for playlist in '
            'json.load(open(PATH))["playlists"]).save(DIR); then train on DIR'
        )
    return (
        "is one document of JSON, not an object a line (NDJSON); in Python: import json, polars; "
        "read_itemsets(polars.DataFrame(json.load(open(PATH))), itemset=..., item=...)"
    )


def _is_object(line: str) -> bool:
    try:
        return isinstance(read_json(line), dict)
    except ValueError:
        return False


def _netflix(sample: Sample) -> Finding | None:
    rating = r"\d+,\d,\d{4}-\d\d-\d\d"
    if not sample.all_match(rf"\d+:|{rating}") or not sample.lines[0].endswith(":"):
        return None
    return Finding(
        ASK,
        None,
        "is of the Netflix prize, of which a line names the film of those below; in Python: import "
        'polars as pl; lines = pl.scan_lines(PATH).select(pl.col("line").str.split(",").list.'
        'to_struct(fields=["user", "rating", "day"])).unnest("line"); read_itemsets(lines.'
        'with_columns(film=pl.when(pl.col("rating").is_null()).then(pl.col("user")).'
        'forward_fill()).filter(pl.col("rating").is_not_null()), itemset="user", item="film")',
    )


def _fasttext(sample: Sample) -> Finding | None:
    labelled = sum(line.lstrip().startswith("__label__") for line in sample.lines)
    if 2 * labelled < len(sample.lines):
        return None
    return Finding(CERTAIN, "fasttext", "words, after labels that begin with __label__")


def _spmf(sample: Sample) -> Finding | None:
    told = re.fullmatch(r"@(CONVERTED_FROM_[A-Z]+|ITEM=-?\d+=.+)", sample.lines[0])
    if told and len(sample.lines) > 1:
        return Finding(CERTAIN, "spmf", "lines with @ name the items")
    data = [line for line in sample.lines if line[:1] not in ("#", "%", "@")]
    ends = bool(data) and all(line.split()[-1:] == ["-2"] for line in data)
    if ends and (len(data) >= _FEW or all(" -1 -2" in line for line in data)):
        return Finding(CERTAIN, "spmf", "sequences that end with -2")
    if len(data) < _FEW:
        return None
    if all(re.fullmatch(r"[\d ]+:[-\d.]+:[-\d. ]+", line) for line in data):
        return Finding(CERTAIN, "spmf", "items:utility:utilities, which are the weights")
    return None


def recbole(sample: Sample) -> Finding | None:
    names = sample.lines[0].split("\t")
    if not all(re.fullmatch(r"[^:]+:(token|float)(_seq)?", name) for name in names):
        return None
    lists = [name for name in names if name.endswith(":token_seq")]
    if sample.item is not None:
        lists = [name for name in lists if sample.item in (name, name.partition(":")[0])]
    if len(lists) == 1:
        others = [name for name in names if is_item_name(name) and name != lists[0]]
        without = f", without {others[0]!r}" if others and sample.item is None else ""
        text = f"the lists of {lists[0]!r} are the itemsets{without}"
        return Finding(CERTAIN, "recbole", text, lists[0])
    return Finding(CERTAIN, "recbole", "the header names types")


def _known_tables(sample: Sample) -> Finding | None:
    """Tables without a header, as everyone has them."""
    if sample.header is not None:
        return None
    for pattern, format, text in (
        (r"\d+::\d+::[\d.]+::\d+", "movielens", "user::item::rating::time"),
        (r"\d+\t\d+\t[\d.]+\t\d{8,10}", "movielens", "user, item, rating and time"),
        (
            r"\d+\t\d{4}-\d\d-\d\dT[\d:]+Z\t-?[\d.]+\t-?[\d.]+\t\S+",
            "snap-checkins",
            "user, time, latitude, longitude and place",
        ),
        (r"\d+,\d{4}-\d\d-\d\dT[\d:.]+Z,\d+,\S+", "yoochoose", "session, time, item and more"),
        (r"[0-9a-f]{40}\t[^\t]*\t[^\t]*\t *\d+ *", "lastfm-360k", "user, id, artist and plays"),
    ):
        if sample.all_match(pattern):
            return Finding(CERTAIN, format, text)
    return None


_OF_TABLES: tuple[Detector, ...] = (recbole, _known_tables)
_ANYWHERE: tuple[Detector, ...] = (_json, _netflix, _fasttext, _spmf, *_OF_TABLES)


# --------------------------------------------------------------------------- in text


def _libsvm(sample: Sample) -> Finding | None:
    start = int(re.fullmatch(r"\d+ \d+ \d+", sample.lines[0]) is not None)
    number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
    line = rf"(?:{number}(?:,{number})*)?(?:\s+\d+:{number})*\s*(?:#.*)?"
    lines = sample.lines[start:]
    if not sample.all_match(line, start) or 2 * sum(":" in line for line in lines) < len(lines):
        return None
    return Finding(CERTAIN, "libsvm", "labels, then feature:value")


def _lightgcn(sample: Sample) -> Finding | None:
    rows = [line.split() for line in sample.lines]
    if len(rows) < _FEW or not all(row[0].isdecimal() for row in rows):
        return None
    steps = {int(after[0]) - int(before[0]) for before, after in pairwise(rows)}
    grow = min(steps) > 0
    if max(map(len, rows)) < 2 or not (grow or _are_shuffled(rows)):
        return None
    if not grow:
        certain = False
    elif all(word.isdecimal() for row in rows for word in row):
        certain = _are_users([[*map(int, row)] for row in rows], steps)
    else:  # words, and numbers before them
        certain = len(rows) >= (_MANY if steps == {1} else 2 * _MANY)
    if certain:
        return Finding(CERTAIN, "lightgcn", "the first number of each line is the itemset")
    return Finding(
        ASK if sample.format is None else MAYBE,
        "lightgcn",
        f"the first numbers of the lines {'grow from line to line' if grow else 'differ'}; if they "
        f"are the itemsets and no items, give {give('lightgcn')}, else {give('text')}",
    )


def _are_shuffled(rows: list[list[str]]) -> bool:
    """Whether no first word is there twice, where many of the next ones are."""
    second = [row[1] for row in rows if len(row) > 1]
    return len({row[0] for row in rows}) == len(rows) >= 2 * _MANY and 4 * len(
        set(second)
    ) < 3 * len(rows)


def _are_users(rows: list[list[int]], steps: set[int]) -> bool:
    """Whether first numbers, which grow, are no items.

    A basket that is sorted begins with its least item, and baskets that are not sorted do not begin
    with numbers that grow. Lines that are made (1 2 3, 2 3 4) go by a pattern.
    """
    larger = sum(row[0] > min(row[1:], default=row[0]) for row in rows)
    if steps == {1} and len(rows) >= _MANY:
        patterns = {tuple(number - row[0] for number in row[1:]) for row in rows}
        return larger > 0 or 2 * len(patterns) > len(rows)
    unsorted = sum(row[1:] != sorted(row[1:]) for row in rows)
    dense = rows[-1][0] - rows[0][0] < 2 * len(rows)
    told = larger + unsorted if dense else larger
    return len(rows) >= 2 * _MANY and 4 * told >= len(rows)


def _pairs(sample: Sample) -> Finding | None:
    """Rows of an itemset and an item, those of an itemset together."""
    rows = [line.split() for line in sample.lines]
    if len(rows) < _MANY or any(len(row) != 2 for row in rows):
        return None
    runs = 1 + sum(before[0] != after[0] for before, after in pairwise(rows))
    if runs > len({row[0] for row in rows}) or 2 * runs > len(rows):
        return None
    if len(set(map(tuple, rows))) < len(rows) or runs < _FEW:
        return None
    return Finding(
        ASK,
        "arules-single",
        "each line has two words, the first one often the same: if it is an itemset and one of "
        f"its items, give {give('arules-single')}; if it is an itemset of two items, "
        f"{give('text')}",
    )


def _separated(sample: Sample) -> Finding | None:
    """Columns, or items between commas, where text has items between spaces."""
    if len(sample.lines) < _FEW:
        return None
    counts = Counter(line.count("\t") for line in sample.lines)
    if len(counts) == 1 and 0 not in counts:
        names = sample.lines[0].split("\t")
        if any(is_item_name(name) for name in names) and any(map(is_itemset_name, names)):
            return Finding(CERTAIN, "tsv", "tabs between the columns that the first line names")
        tabs = next(iter(counts))
        return Finding(
            ASK,
            "tsv",
            f"every line has {tabs} tab{'s' if tabs > 1 else ''}, as tables have: give "
            f"{give('tsv')}, without names of columns also header=False (--no-header); if a line "
            f"is an itemset, {give('text')} and separator='\\t' (--separator '\\t')",
        )
    # A line of one word says nothing.
    lines = [line for line in sample.lines if not line.strip().isalnum()]
    for separator, name in ((",", "basket"), (";", None), ("|", None), ("\t", None)):
        separated = [line for line in lines if separator in line.strip().strip(separator)]
        if separator == "\t" and not any(" " in line.strip() for line in separated):
            continue
        if len(separated) >= _FEW and 2 * len(separated) > len(lines):
            wider = f", or {give(name)} for item=value" if name else ""
            return Finding(
                ASK,
                name,
                f"lines hold {separator!r} between words: give separator={separator!r} "
                f"(--separator {separator!r}) if a line is an itemset{wider}; {give('csv')} if "
                f"it is a row of a table; {give('text')} if {separator!r} is part of the items",
            )
    return None


def _numbers(sample: Sample) -> Finding | None:
    """Without a suffix that says it: numbers between spaces are baskets."""
    if sample.format is None and sample.all_match(r"\s*\d+(\s+\d+)*\s*"):
        return Finding(CERTAIN, "fimi", "numbers between spaces, an itemset a line")
    return None


def _quoted(sample: Sample) -> Finding | None:
    """Quotes around what a separator separates, which are text to text."""
    words = [word.strip() for line in sample.lines for word in line.split(sample.separator)]
    if sum(len(word) > 1 and word[0] == '"' for word in words) < _FEW:
        return None
    return Finding(
        MAYBE,
        "arules",
        "items begin with quotes, which stay part of them; for a CSV whose rows are "
        f"itemsets, give {give('arules')}",
    )


def _columns(sample: Sample) -> Finding | None:
    """As many words in each line, and hardly a line twice, as rows of a table have."""
    rows = [line.split() for line in sample.lines]
    widths = {*map(len, rows)}
    if len(widths) > 1 or 1 in widths or len(sample.lines) < 2 * _MANY:
        return None
    if 10 * len(set(sample.lines)) < 9 * len(sample.lines):
        return None
    columns = [{*column} for column in zip(*rows, strict=True)]
    differ = any(5 * len(one & other) < len(one | other) for one, other in combinations(columns, 2))
    if not differ and not set().union(*columns) <= ONE_HOT.keys():
        return None  # any item may be anywhere in an itemset
    return Finding(
        ASK if sample.format is None else MAYBE,
        None,
        f"every line has {widths.pop()} words, as rows of a table have: if the first one is an "
        f"itemset and the second one of its items, give {give('arules-single')}; if a line is an "
        f"itemset, {give('text')}",
    )


def _amounts(sample: Sample) -> Finding | None:
    """Words such as tea:2."""
    words = [word for line in sample.lines for word in line.split()]
    amounts = [re.fullmatch(r"[^:]+:\d+(\.\d+)?", word) is not None for word in words]
    if len(sample.lines) < _FEW or 10 * sum(amounts) < 9 * len(amounts):
        return None
    return Finding(
        MAYBE,
        None,
        f"words such as {words[amounts.index(True)]!r} end with a number, which stays part of the "
        "item; if it is an amount: pack_itemsets(ITEMS, weights=AMOUNTS) in Python",
    )


_IN_TEXT: tuple[Detector, ...] = (
    _libsvm, _lightgcn, _pairs, _separated, _columns, _amounts, _quoted, _numbers
)  # fmt: skip


# ------------------------------------------------------------------------- in tables


def _wide(sample: Sample) -> Finding | None:
    rows = sample.rows()
    run = numbered_run(rows[0]) if len(rows) > 1 and not sample.chosen else None
    if run is None:
        return None
    start, stop = run
    cells = [[bool(cell.strip()) for cell in row[start:stop]] for row in rows[1:-1] or rows[1:]]
    padded = all(map(_is_padded, cells)) and not all(map(all, cells))
    prefix = rows[0][start].strip().rstrip("0123456789")
    if is_item_name(prefix) or (stop - start > 2 and padded):
        return Finding(CERTAIN, "wide", f"columns {rows[0][start]!r} to {rows[0][stop - 1]!r}")
    return None


def _is_padded(filled: list[bool]) -> bool:
    return filled == sorted(filled, reverse=True)


def _padding(sample: Sample) -> Finding | None:
    """Rows of items, filled up with empty fields, below no header."""
    rows = sample.rows()
    if len(rows) < _FEW or sample.chosen or sample.header or len({*map(len, rows)}) > 1:
        return None
    filled = [[bool(cell.strip()) for cell in row] for row in rows]
    if len({*map(sum, filled)}) < 3 or not all(map(_is_padded, filled)):
        return None
    items = {cell.strip() for row in rows[1:] for cell in row}
    if all(filled[0]) and items.isdisjoint(cell.strip() for cell in rows[0]):
        return None
    return Finding(
        ASK,
        "arules",
        "rows are filled up with empty fields, and the first one looks like the others: if each "
        f"row is an itemset, give {give('arules')}; else name the columns",
    )


def _onehot(sample: Sample) -> Finding | None:
    rows = sample.rows()
    if len(rows) < 3 or len(rows[0]) < 3 or sample.chosen or sample.header is False:
        return None
    width = len(rows[0])
    cells = [row for row in rows[1:] if len(row) == width]

    def is_flags(column: int) -> bool:
        return all(row[column].strip() in ONE_HOT for row in cells)

    others = [column for column in range(width) if not is_flags(column)]
    if {cell.strip() for cell in rows[0]} <= {*ONE_HOT} or len(others) > 1:
        return _amounts_of_items(sample, cells)
    if not others and len(cells) >= _FEW:
        return Finding(CERTAIN, "onehot", "a column an item, which holds 0 or 1")
    if others == [0] and width > 4 and len(cells) >= _FEW:
        name = rows[0][0] or "1"  # by its number, if it has no name
        return Finding(
            ASK,
            "onehot",
            f"all columns but {name!r} hold 0 or 1: if they are items, give {give('onehot')} and "
            f"itemset={name!r} (--itemset {shlex.quote(name)}); else name the columns",
        )
    return None


def _amounts_of_items(sample: Sample, cells: list[list[str]]) -> Finding | None:
    """A column an item, which holds how many of it there are."""
    rows = [row[1:] for row in cells]  # the first one may be an index
    values = [cell.strip() for row in rows for cell in row]
    if len(rows) < _FEW or len(rows[0]) < 2 * _FEW or not all(map(str.isdecimal, values)):
        return None
    if 2 * values.count("0") < len(values):
        return None
    return Finding(
        ASK,
        None,
        "its columns hold small numbers, most of them 0: if they are amounts of items, in Python: "
        'import polars as pl; read_itemsets(pl.read_csv(PATH).with_row_index("row").unpivot('
        'index="row").filter(pl.col("value") > 0), itemset="row", item="variable", '
        'weight="value"); else name the columns',
    )


def lists(sample: Sample) -> Finding | None:
    rows = sample.rows()
    if len(rows) < 2 or sample.header is False:
        return None
    width = len(rows[0])
    cells = [row for row in rows[1:] if len(row) == width]
    bracketed = [column for column in range(width) if _all_lists(cells, column)]
    names = [rows[0][column] for column in bracketed]
    if sample.item is not None:
        with suppress(InputError):  # there is no such column, which reading says
            item = rows[0][find_place("", rows[0], sample.item)]
            if item in names:
                return Finding(CERTAIN, "list-cells", f"column {item!r} holds lists", item)
        return None
    if sample.chosen or not names:
        return None
    if len(names) > 1:
        shown = ", ".join(map(repr, names))
        return Finding(ASK, None, f"columns {shown} hold lists: name one, item= (--item)")
    return Finding(CERTAIN, "list-cells", f"column {names[0]!r} holds lists", names[0])


def _all_lists(rows: list[list[str]], column: int) -> bool:
    """Whether all cells that hold something hold a list."""
    cells = [row[column].strip() for row in rows if row[column].strip()]
    if not cells or not all(cell[0] == "[" and cell[-1] == "]" for cell in cells):
        return False
    try:
        return all(isinstance(ast.literal_eval(cell), list) for cell in cells if "null" not in cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _ragged(sample: Sample) -> Finding | None:
    rows = sample.rows()
    widths = {len(row) for row in rows}
    if len(rows) < _FEW or len(widths) < 3 or sample.chosen:
        return None
    return Finding(
        ASK,
        "arules",
        f"rows have {min(widths)} to {max(widths)} fields, and a table has as many in each: if "
        f"each row is an itemset, give {give('arules')}",
    )


def _one_column(sample: Sample) -> Finding | None:
    rows = sample.rows()
    if sample.separator is not None or (rows and len(rows[0]) > 1):
        return None
    if not rows:  # its quotes are wrong, perhaps for its separator
        return _quoted_otherwise(sample)
    for separator in ("\t", ";", "|", ","):
        counts = {line.count(separator) for line in sample.lines}
        if len(counts) == 1 and 0 not in counts:
            names = sample.lines[0].split(separator)
            columns = suggestion(names) if is_no_item_name(names[1]) else ""
            return Finding(
                ASK,
                None,
                f"an itemset and an item column are needed; its columns are {rows[0][0]!r}: the "
                f"separator is not {',' if sample.format == 'csv' else 'a tab'!r}: each line "
                f"has {separator!r}; give separator={separator!r} (--separator {separator!r})"
                + columns.replace(", such as", ", and name the columns, such as"),
            )
    return None


def _quoted_otherwise(sample: Sample) -> Finding | None:
    """Fields in quotes, between which is another separator."""
    for separator in ("\t", ";", "|", ","):
        rows = sample._replace(separator=separator).rows()
        if len({*map(len, rows)}) == 1 and len(rows[0]) > 1:
            return Finding(
                ASK,
                None,
                f"between fields in quotes is {separator!r}: give separator={separator!r} "
                f"(--separator {separator!r}){suggestion(rows[0])}",
            )
    return None


def _headless(sample: Sample) -> Finding | None:
    """A first row that is no header."""
    rows = sample.rows()
    if sample.header is not None or sample.named or len(rows) < 2:
        return None
    # No one calls a column by a number or a moment.
    value = r"-?\d+([.,]\d+)?|\d{4}-\d\d-\d\d[T ].*"
    for column, name in enumerate(rows[0]):
        others = [row[column] for row in rows[1:] if len(row) > column]
        again = name.strip() != "" and name in others
        if again or (
            re.fullmatch(value, name.strip())
            and all(re.fullmatch(value, cell.strip()) for cell in others)
        ):
            return Finding(
                ASK,
                None,
                f"its first row looks like data, as {name!r} does, and not like names of columns: "
                "give header=False (--no-header) and the columns by number, or header=True "
                "(--header)",
            )
    return None


_IN_TABLES: tuple[Detector, ...] = (
    _onehot, _wide, lists, _ragged, _padding, _one_column, _headless
)  # fmt: skip

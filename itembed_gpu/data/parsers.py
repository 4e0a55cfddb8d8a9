"""Parsers of formats with one itemset a line, and of tables whose rows are itemsets.

Each takes decoded lines and yields a list of items a line, None for one that is missing; those of
`WEIGHTED` yield the items of a line and their weights.
"""

from __future__ import annotations

import ast
import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError
from .foreign import read_json
from .formats import Dialect, Roles, find_place

# From here on, a number is no float32: half a step above the largest one.
_TOO_LARGE = 2.0**128 - 2.0**103
Itemset = list[Any]
WeightedItemset = tuple[Itemset, list[float]]

# What stands in a cell of a one-hot table.
ONE_HOT = {
    **dict.fromkeys(("1", "1.0", "True", "true", "TRUE", "T", "t"), True),
    **dict.fromkeys(("0", "0.0", "False", "false", "FALSE", "F", "f", ""), False),
}
# NumPy's arrays are printed without commas, and Python joins adjacent strings.
_NO_COMMA = re.compile(r"""['"]\s+['"]""")
_NUMBERED = re.compile(r"(.*?)(\d+)$")


# ------------------------------------------------------------------- one itemset a line


def lightgcn(path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect) -> Iterator[Itemset]:
    """Lines of an itemset's number and its items."""
    for line in lines:
        yield line.split()[1:]


def lightgcn_ids(lines: Iterable[str]) -> list[str]:
    """What the itemsets of such lines are called."""
    return [(line.split(maxsplit=1) or [""])[0] for line in lines]


def arules(path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect) -> Iterator[Itemset]:
    """Rows of a CSV, each of as many items as it has."""
    for row in _rows(path, lines, dialect):
        yield _without_padding(row)


def spmf(path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect) -> Iterator[Itemset]:
    """Transactions, or sequences if the first one is, by the names that ``@ITEM`` lines give."""
    names: dict[str, str] = {}
    sequences: bool | None = None
    for number, line in enumerate(lines, 1):
        if line[:1] in ("@", "#", "%"):
            _name_item(path, number, line, names)
            continue
        items: Itemset = line.split()
        if sequences is None and items:
            sequences = items[-1] == "-2"
        if sequences and items:
            items = _sequence(path, number, items)
        elif "-1" in items or "-2" in items or ":" in line:
            raise DataError(
                f"{path}, line {number}: is no transaction of SPMF: {line.strip()[:40]!r}; are "
                "there lines of several kinds?"
            )
        yield [names.get(item, item) for item in items] if names else items


def spmf_utilities(
    path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect
) -> Iterator[WeightedItemset]:
    """Transactions with a utility of each item: ``items:utility of all:utilities``."""
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line[:1] in ("@", "#", "%"):
            _name_item(path, number, line, names)
            continue
        if not line.strip():
            yield [], []
            continue
        parts = line.split(":")
        items = parts[0].split()
        utilities = parts[2].split() if len(parts) > 2 else []
        weights = [read_weight(path, number, utility) for utility in utilities]
        if len(weights) != len(items):
            raise DataError(
                f"{path}, line {number}: is not items:utility:utilities, as many of both: "
                f"{line.strip()[:40]!r}"
            )
        yield [names.get(item, item) for item in items], weights


def _name_item(path: Path, number: int, line: str, names: dict[str, str]) -> None:
    """Keep the name that a line ``@ITEM=1=apple`` gives; others are comments."""
    if not line.startswith("@ITEM="):
        return
    item, _, name = line.rstrip("\r\n").removeprefix("@ITEM=").partition("=")
    if item in ("-1", "-2"):  # what stands between the items of a text
        return
    if not name or item in names or name in names.values():
        raise DataError(
            f"{path}, line {number}: names item {item!r} {name!r}; give each item one name of its "
            "own"
        )
    names[item] = name


def _sequence(path: Path, number: int, words: Itemset) -> Itemset:
    """Take the items of ``1 2 -1 3 -1 -2``, with or without time stamps such as ``<0>``."""
    if words[-1] != "-2" or "-2" in words[:-1]:
        raise DataError(f"{path}, line {number}: a sequence of SPMF ends with -2, and has no other")
    if any("[" in word or ":" in word for word in words):
        raise DataError(
            f"{path}, line {number}: sequences with utilities are not read; remove them"
        )
    return [word for word in words[:-1] if word != "-1" and word[0] != "<"]


def basket(path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect) -> Iterator[Itemset]:
    """Items between commas, of which none has a value."""
    for line in lines:
        yield [item.strip() or None for item in line.split(",")] if line.strip() else []


def basket_values(
    path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect
) -> Iterator[WeightedItemset]:
    """Items between commas, ``item=value`` where there is more than one of it."""
    for number, line in enumerate(lines, 1):
        items: Itemset = []
        weights: list[float] = []
        for part in line.split(",") if line.strip() else ():
            name, equals, value = part.rpartition("=")
            weights.append(read_weight(path, number, value) if equals else 1.0)
            items.append((name if equals else part).strip() or None)
        yield items, weights


def read_weight(path: Path, number: int, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not abs(weight) < _TOO_LARGE:
        raise DataError(
            f"{path}, line {number}: {text.strip()!r} is a weight, and no finite number"
        )
    return weight


# --------------------------------------------------------- tables whose rows are itemsets


def wide(path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect) -> Iterator[Itemset]:
    """Rows of a column for the first item, one for the second, and so on."""
    rows = _rows(path, lines, dialect)
    names = next(rows, [])
    start, stop = item_columns(path, names, roles)
    for number, row in enumerate(rows, 2):
        if len(row) > len(names):
            raise _other_width(path, number, row, names)
        yield _without_padding(row[start:stop])


def _without_padding(cells: list[str]) -> Itemset:
    """Return items, without the empty cells that a row is filled up with."""
    items: Itemset = [cell.strip() or None for cell in cells]
    while items and items[-1] is None:
        items.pop()
    return items


def item_columns(path: Path, names: list[str], roles: Roles) -> tuple[int, int]:
    """Find the columns of items: those numbered like ``Item 1, Item 2``, or all."""
    if roles.itemset is not None:
        raise InputError(
            f"{path}: itemset is {roles.itemset!r}, but each row of a wide table is an itemset"
        )
    run = numbered_run(names)
    return run if run is not None else (0, len(names))


def numbered_run(names: list[str]) -> tuple[int, int] | None:
    """Find columns at the end whose names are one word, numbered from 0 or 1 on."""
    named = len(names)
    while named and not names[named - 1].strip():  # what a comma at the end of each line makes
        named -= 1
    start = stop = named
    while start > 0:
        found = _NUMBERED.fullmatch(names[start - 1].strip())
        if found is None:
            break
        if start < stop:
            after = _NUMBERED.fullmatch(names[start].strip())
            if after is None or (found[1], int(found[2]) + 1) != (after[1], int(after[2])):
                break
        start -= 1
    if stop - start < 2:
        return None
    first = _NUMBERED.fullmatch(names[start].strip())
    if first is None or int(first[2]) not in (0, 1):
        return None
    # Numbers alone are names if all columns have them, but for an index.
    return (start, len(names)) if first[1] or (stop == len(names) and start < 2) else None


def onehot(path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect) -> Iterator[Itemset]:
    """Rows of a column an item, which holds 1 where the itemset has it and else 0."""
    rows = _rows(path, lines, dialect)
    names = next(rows, [])
    if roles.item is not None:
        raise InputError(
            f"{path}: item is {roles.item!r}, but in a one-hot table columns are items"
        )
    others = set() if roles.itemset is None else {_place(path, names, roles.itemset)}
    kept = [place for place in range(len(names)) if place not in others]
    items = [names[place].strip() for place in kept]
    if len(set(items)) < len(items):
        twice = next(item for item in items if items.count(item) > 1)
        raise DataError(f"{path}: two columns are called {twice!r}; give each item one")
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(names):
            raise _other_width(path, number, row, names)
        cells = [row[place].strip() for place in kept] if row else []
        try:
            yield list(compress(items, map(ONE_HOT.__getitem__, cells)))
        except KeyError as error:
            item = items[cells.index(error.args[0])]
            raise DataError(
                f"{path}, row {number}: column {item!r} holds {error.args[0]!r}, where a one-hot "
                "table has 0 or 1; name a column that is no item: itemset= (--itemset)"
            ) from None


def list_cells(
    path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect
) -> Iterator[Itemset]:
    """Cells of one column, each a list as Python or JSON writes it."""
    kind: type | None = None
    for number, cell in _cells(path, lines, roles, dialect):
        items = _read_list(path, number, cell)
        for item in items:
            if item is not None and type(item) is not kind:
                if kind is not None:
                    raise DataError(
                        f"{path}, row {number}: {item!r} is a {type(item).__name__}, and items "
                        f"before are {kind.__name__}; write all of them alike"
                    )
                kind = type(item)
        yield items


def split_cells(
    path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect
) -> Iterator[Itemset]:
    """Cells of one column, each of words."""
    for _, cell in _cells(path, lines, roles, dialect):
        yield [*cell.split()]


def _cells(
    path: Path, lines: Iterable[str], roles: Roles, dialect: Dialect
) -> Iterator[tuple[int, str]]:
    """Yield the cells of the column of items, with the numbers of their rows."""
    rows = _rows(path, lines, dialect)
    names = next(rows, [])
    place = _place(path, names, roles.item)
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(names):
            raise _other_width(path, number, row, names)
        if row:
            yield number, row[place]


def _other_width(path: Path, number: int, row: list[str], names: list[str]) -> DataError:
    return DataError(
        f"{path}, row {number}: {len(row)} fields, where the first line names {len(names)} columns"
    )


def _place(path: Path, names: list[str], column: str | int | None) -> int:
    bare = [name.partition(":")[0] for name in names]
    # The types of RecBole's names may be left out.
    return find_place(str(path), names if column in names else bare, column)


def _read_list(path: Path, number: int, cell: str) -> Itemset:
    text = cell.strip()
    if not text:
        return []
    try:
        value = read_json(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = None
        if _NO_COMMA.search(text):
            value = None
    if not isinstance(value, list | tuple) or not all(
        item is None or type(item) in (str, int) for item in value
    ):
        raise DataError(
            f"{path}, row {number}: {text[:40]!r} is no list of strings or integers as Python or "
            "JSON writes it"
        )
    return list(value)


def _rows(path: Path, lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    """Split the lines of a CSV, of which a quoted field may hold line breaks."""
    rows = dialect.rows(lines)
    try:
        yield from rows
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from error


# ------------------------------------------------------------------------ all of them

Parser = Callable[[Path, Iterable[str], Roles, Dialect], Iterator[Any]]

PARSERS: dict[str, Parser] = {
    "lightgcn": lightgcn,
    "arules": arules,
    "spmf": spmf,
    "spmf-utilities": spmf_utilities,
    "basket": basket,
    "basket-values": basket_values,
    "wide": wide,
    "onehot": onehot,
    "list-cells": list_cells,
    "split-cells": split_cells,
}
WEIGHTED = ("spmf-utilities", "basket-values")


class WeightedLines:
    """Itemsets of lines, and beside them their weights, each read once.

    `weights` yields those of the itemset that was read last, as `pack_itemsets` asks for them.
    """

    def __init__(self, parsed: Iterable[WeightedItemset]) -> None:
        self._parsed = parsed
        self._latest: list[float] | None = []

    def __iter__(self) -> Iterator[Itemset]:
        for items, weights in self._parsed:
            self._latest = weights
            yield items
        self._latest = None

    def weights(self) -> Iterator[list[float]]:
        while self._latest is not None:
            yield self._latest


def without_nulls(parsed: Iterator[Any], nulls: Sequence[str], weighted: bool) -> Iterator[Any]:
    """Have None in the place of words that say that something is missing."""
    for found in parsed:
        items, *weights = found if weighted else (found,)
        items = [None if item in nulls else item for item in items]
        yield (items, *weights) if weighted else items

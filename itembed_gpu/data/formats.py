"""What files of itemsets may be: their formats, their columns, and what separates fields."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, InputError

if TYPE_CHECKING:
    import polars

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
_COMPRESSIONS_OF = {
    "text": (".gz", ".xz"),
    "csv": (".gz", ".zst"),
    "tsv": (".gz", ".zst"),
    "ndjson": (".gz", ".zst"),
}
COMPRESSIONS = (".gz", ".xz", ".zst", ".bz2", ".zip")
SEPARATORS = {"csv": ",", "tsv": "\t"}
_FORMAT_CHOICE = ", ".join(FORMATS)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Names of the columns that were asked for."""

    itemset: str | None
    item: str | None
    weight: str | None


@dataclasses.dataclass(frozen=True)
class Columns:
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


def choose_columns(name: str, schema: polars.Schema, roles: Roles) -> Columns:
    """Give the columns of a table their roles; those not named are the first ones."""
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
        return Columns("", item, roles.weight, roles.item is None, True)
    chosen = [free.pop(0) if name is None and free else name for name in (roles.itemset, item)]
    if None in chosen:
        raise DataError(
            f"{name}: an itemset and an item column are needed; {found} (is the separator right?)"
        )
    return Columns(
        str(chosen[0]), str(chosen[1]), roles.weight, chosen != [roles.itemset, roles.item], False
    )


def refuse_columns(roles: Roles) -> None:
    """Refuse names of columns, for text."""
    for name in dataclasses.astuple(roles):
        if name is not None:
            raise InputError(f"column {name!r} is asked for, but text has no columns")


def known_format(path: Path, format: str | None) -> str:
    """Return the format of a file: the one that is given, or the one that its suffix tells."""
    suffix = path.suffix.lower()
    compression = suffix if suffix in COMPRESSIONS else ""
    if format is None:
        suffix = path.with_suffix("").suffix.lower() if compression else suffix
        format = _FORMAT_OF_SUFFIX.get(suffix)
        if format is None:
            raise InputError(
                f"{path}: suffix {suffix!r} does not tell the format; give it: {_FORMAT_CHOICE}"
            )
    elif format not in FORMATS:
        raise InputError(f"format is {format!r}; give one of {_FORMAT_CHOICE}")
    if compression and compression not in _COMPRESSIONS_OF.get(format, ()):
        raise InputError(f"{path}: {format} cannot be read from {compression}; decompress it first")
    return format


def known_separator(format: str, separator: str | None) -> str | None:
    """Return the separator of a CSV, or None for what has none."""
    if format not in SEPARATORS:
        if separator is not None:
            what = {"parquet": "Parquet", "ndjson": "NDJSON", "arrow": "Arrow"}[format]
            raise InputError(f"separator is {separator!r}, but {what} has none")
        return None
    separator = SEPARATORS[format] if separator is None else separator
    if len(separator.encode()) != 1:
        raise InputError(f"separator is {separator!r}; that of a CSV is one ASCII character")
    return separator

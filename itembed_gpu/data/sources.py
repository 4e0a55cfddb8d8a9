"""Opens files of itemsets: finds them, recognises their format, and says how they are read."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import DataError, InputError
from .field_formats import FIELD_FORMATS
from .files import find_files, first_lines, plain_lines, text_itemsets
from .formats import FORMAT_CHOICE, Dialect, Roles, known_dialect, refuse_columns
from .lines import PARSERS, WEIGHTED, Itemset, Lines, WeightedItemset, lightgcn_ids
from .recognition import (
    ASK,
    CERTAIN,
    MAYBE,
    SAMPLE,
    Finding,
    Sample,
    lists,
    recbole,
    recognise,
)

# What files of these suffixes may be is seen from their lines.
_OPEN = ("text", "csv", "tsv", "ndjson", None)
# Between which columns may be tabs as well.
_OR_TABS = ("movielens", "arules-single")
# Where the column of lists is found.
_WITH_COLUMN = {"recbole": recbole, "list-cells": lists}
_NOTHING_ASKED: Mapping[str, Any] = MappingProxyType({})
_NO_ROLES = Roles(None, None, None)
# What is written in one way alone.
_FIXED = {
    *((name, "separator") for name, known in FIELD_FORMATS.items() if known.base == "text"),
    *((name, "header") for name, known in FIELD_FORMATS.items() if name != "recbole"),
}


class Source(NamedTuple):
    """Files, and how they are read."""

    name: str
    paths: list[Path]
    format: str  # a plain one
    parser: str | None
    dialect: Dialect
    roles: Roles
    told: str  # one line for people, if there is something to tell

    @property
    def is_table(self) -> bool:
        return self.parser is None and self.format != "text"

    @property
    def weighted(self) -> bool:
        """Whether lines have weights."""
        return self.parser in WEIGHTED

    def itemsets(self) -> Iterator[Itemset | WeightedItemset]:
        """Parse the lines of all files; of weighted ones, with weights."""
        return chain.from_iterable(map(self._parse, self.paths))

    def lines(self) -> Lines:
        return Lines(self.itemsets(), self.weighted)

    def _parse(self, path: Path) -> Iterator[Any]:
        if self.parser is None:
            return text_itemsets(path, self.dialect)
        parsed = PARSERS[self.parser](path, plain_lines(path), self.roles, self.dialect)
        nulls = self.dialect.nulls
        if not nulls:
            return parsed
        if self.weighted:
            return (
                ([None if item in nulls else item for item in items], weights)
                for items, weights in parsed
            )
        return ([None if item in nulls else item for item in items] for items in parsed)

    def ids(self) -> list[str] | None:
        """What itemsets of lines are called, where the lines say it."""
        if self.parser != "lightgcn":
            return None
        return lightgcn_ids(chain.from_iterable(map(plain_lines, self.paths)))

    def tell(self, source: str) -> str:
        """Add to the line for people what is to be told."""
        return f"{source}; {self.told}" if self.told else source


def open_files(
    source: str | os.PathLike[str], format: str | None, writing: Mapping[str, Any], roles: Roles
) -> Source:
    """Find files, and say how they are read; what leaves doubts is an error that asks.

    `writing` is what was asked of how they are written, see `known_dialect`.
    """
    paths, known = find_files(source, format)
    found: Finding | None = None
    if known in _OPEN:
        found = _recognise_all(paths, known, format, writing, roles)
    name = known if found is None or found.format is None else found.format
    if name is None:
        suffix = paths[0].suffix.lower()
        raise InputError(
            f"{paths[0]}: suffix {suffix!r} does not tell the format; give it: {FORMAT_CHOICE}"
        )
    if name in FIELD_FORMATS:
        return _of_field(str(source), paths, name, found, writing, roles)
    if name == "text":
        refuse_columns(roles)
    told = "" if found is None else f"read as {name}: {found.text}"
    return Source(str(source), paths, name, None, known_dialect(name, writing), roles, told)


def _of_field(
    source: str,
    paths: list[Path],
    name: str,
    found: Finding | None,
    writing: Mapping[str, Any],
    roles: Roles,
) -> Source:
    """Say how files of one of the field's formats are read."""
    known = FIELD_FORMATS[name]
    if known.labelled:
        raise DataError(
            f"{paths[0]}: is of {known.title}, with labels and features ({known.about}): train a "
            f"classifier on it (itembed-gpu train-labels), or read_labelled(PATH, "
            f"format={name!r}); format='text' (--format text) makes items of both"
        )
    if found is None and name in _WITH_COLUMN:
        found = _WITH_COLUMN[name](take_sample(paths[0], "tsv", writing, roles))
    usual, asked = dict(known.writing), {k: v for k, v in writing.items() if v is not None}
    for key in ("separator", "header"):
        if key in asked and (name, key) in _FIXED:
            raise InputError(f"{key} is {asked[key]!r}, but {known.title} has no {key} to choose")
    if name in _OR_TABS and "\t" in "".join(first_lines(paths[0], 1)):
        usual |= {"separator": "\t"}
    parser = known.parser
    if known.columns:
        itemset, item = known.columns
        roles = Roles(roles.itemset or itemset, roles.item or item, roles.weight)
    if found is not None and found.column is not None:
        roles = dataclasses.replace(roles, item=found.column)
        parser = parser or "split-cells"
    if name == "list-cells" and roles.item is None:
        raise InputError(f"{paths[0]}: no column holds lists alone; name one, item= (--item)")
    if parser is not None:
        # Those of lines without a header have none, and none has weights.
        barred = (
            roles if known.base == "text" or name == "arules" else Roles(None, None, roles.weight)
        )
        refuse_columns(barred, f"{known.title} has")
        parser = _with_weights(parser, paths)
    told = f"read as {known.title}: {known.about if found is None else found.text}"
    return Source(
        source, paths, known.base, parser, known_dialect(known.base, usual | asked), roles, told
    )


def _with_weights(parser: str, paths: list[Path]) -> str:
    """Choose the parser for files with weights, if they have some."""
    if parser == "basket" and any("=" in line for path in paths for line in plain_lines(path)):
        return "basket-values"
    if parser == "spmf":
        for line in chain.from_iterable(map(plain_lines, paths)):
            if line[:1] not in ("@", "#", "%") and line.strip():
                return "spmf-utilities" if ":" in line else parser
    return parser


def _recognise_all(
    paths: list[Path],
    known: str | None,
    format: str | None,
    writing: Mapping[str, Any],
    roles: Roles,
) -> Finding | None:
    """Recognise the one format of all files; raises or warns where there is a doubt."""
    findings: dict[str | None, tuple[Path, Finding | None]] = {}
    for path in paths:
        sample = take_sample(path, known, writing, roles, asked=format is not None)
        found = recognise(sample) if sample.lines else None
        if found is not None and _is_doubt(path, found, format):
            found = None
        findings.setdefault(None if found is None else found.format, (path, found))
    if len(findings) > 1:
        (one, (first, _)), (other, (second, _)) = list(findings.items())[:2]
        raise InputError(
            f"{first} looks like {one or known or 'nothing known'}, and {second} like "
            f"{other or known or 'nothing known'}; give the format of both, or read files of one "
            "format by a pattern"
        )
    return next(iter(findings.values()))[1]


def _is_doubt(path: Path, found: Finding, format: str | None) -> bool:
    """Ask or tell; return whether the file is read as if nothing had been found."""
    if format in ("text", "ndjson"):
        look = "" if found.kind != CERTAIN else f"it looks like {found.format}: "
        _warn(f"{path}: is read as {format}, as asked; but {look}{found.text}")
        return True
    if found.kind == ASK:
        raise DataError(f"{path}: {found.text}")
    if found.kind == MAYBE:
        _warn(f"{path}: is read as text; but {found.text}")
        return True
    return False


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=6)


def take_sample(
    path: Path,
    known: str | None,
    writing: Mapping[str, Any] = _NOTHING_ASKED,
    roles: Roles = _NO_ROLES,
    asked: bool = False,
) -> Sample:
    """Take the first lines, as far as they are text; what else is wrong is told by reading."""
    try:
        lines = first_lines(path, SAMPLE)
    except DataError:
        lines = []
    separator = writing.get("separator")
    named = any(isinstance(role, str) and not role.isdigit() for role in dataclasses.astuple(roles))
    return Sample(
        [text for line in lines if (text := line.rstrip("\r\n")).strip()],
        known,
        "\t" if separator == "\\t" else separator,
        writing.get("header"),
        named,
        roles.item,
        asked,
    )

"""Chooses how files are read: as they were asked to be, as their suffix says, or as they look."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..checks import warn
from ..errors import DataError, InputError
from .field_formats import FIELD_FORMATS
from .formats import (
    COMPRESSIONS,
    FORMAT_CHOICE,
    NO_ROLES,
    Dialect,
    Roles,
    as_quote,
    as_separator,
    known_dialect,
    known_encoding,
    refuse_columns,
)
from .opening import Opened, read_lines
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
# What is written in one way alone.
_FIXED = {
    *((name, "separator") for name, known in FIELD_FORMATS.items() if known.base == "text"),
    *((name, "header") for name in FIELD_FORMATS if name != "recbole"),
}


class Asked(NamedTuple):
    """What was asked for of how files are read; `writing` is of a `Dialect`."""

    format: str | None = None
    writing: Mapping[str, Any] = MappingProxyType({})
    roles: Roles = NO_ROLES

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for of a dialect, without what was not."""
        return {name: value for name, value in self.writing.items() if value is not None}

    @property
    def encoding(self) -> str:
        return known_encoding(self.given)


class Reading(NamedTuple):
    """How files are read."""

    format: str  # a plain one
    parser: str | None  # of lines
    dialect: Dialect
    roles: Roles
    told: str  # for people, if there is something to tell


def choose_reading(files: list[Opened], known: str | None, asked: Asked) -> Reading:
    """Choose how files are read; what leaves doubts is an error that asks.

    `known` is their format, as it was asked for or as their suffix says, if it says one.
    """
    known_dialect("text", {"separator": asked.given.get("separator")})  # before it is used
    found: Finding | None = None
    if known in _OPEN:
        found = _recognise_all(files, known, asked)
    name = known if found is None or found.format is None else found.format
    if name is None:
        if not (files[0].plain.exists() and files[0].plain.stat().st_size):
            next(read_lines(files[0]))  # which says so
        raise _unknown(files[0])
    if name in FIELD_FORMATS:
        return _of_field(files, name, known, found, asked)
    if name == "text":
        refuse_columns(asked.roles)
    told = "" if found is None else f"read as {name}: {found.text}"
    return Reading(name, None, known_dialect(name, asked.writing), asked.roles, told)


def _unknown(file: Opened) -> InputError:
    path = file.path
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    why = "there is no suffix that tells the format"
    if path.suffix:
        why = f"suffix {path.suffix!r} does not tell the format"
    return InputError(f"{file.path}: {why}, and its first lines do not; give it: {FORMAT_CHOICE}")


def _of_field(
    files: list[Opened], name: str, suffix: str | None, found: Finding | None, asked: Asked
) -> Reading:
    """Say how files of one of the field's formats are read."""
    known, path = FIELD_FORMATS[name], files[0].path
    if known.labelled:
        raise DataError(
            f"{path}: is of {known.title}, with labels and features ({known.about}): train a "
            f"classifier on it (itembed-gpu train-labels), or read_labelled(PATH, "
            f"format={name!r}); format='text' (--format text) makes items of both"
        )
    if found is None and name in _WITH_COLUMN:
        sample = take_sample(files[0], known.base, asked)
        found = _WITH_COLUMN[name](sample) if sample.lines else None
    usual, given = dict(known.writing), asked.given
    for key in ("separator", "header"):
        if key in given and (name, key) in _FIXED and given[key] != usual.get(key, True):
            raise InputError(f"{key} is {given[key]!r}, but {known.title} has no {key} to choose")
    if name in _OR_TABS and "\t" in "".join(islice(text_lines(files[0], asked.encoding), 1)):
        usual |= {"separator": "\t"}
    if suffix == "tsv" and known.parser is not None:
        usual = {"separator": "\t"} | usual
    parser, roles = known.parser, asked.roles
    if name == "recbole":
        roles = _with_types(roles, next(text_lines(files[0], asked.encoding), ""))
    if known.columns:
        itemset, item = known.columns
        roles = Roles(roles.itemset or itemset, roles.item or item, roles.weight)
    if found is not None and found.column is not None:
        roles = dataclasses.replace(roles, item=found.column)
        parser = parser or "split-cells"
    dialect = known_dialect(known.base, usual | given)
    if parser is not None:
        _check_roles(path, name, roles)
        if len(dialect.separator or "") > 1:
            raise InputError(f"separator is {dialect.separator!r}; give one character")
        parser = _with_weights(parser, files, asked.encoding)
    told = f"read as {known.title}: {known.about if found is None else found.text}"
    return Reading(known.base, parser, dialect, roles, told)


def _with_types(roles: Roles, header: str) -> Roles:
    """Call columns as a header of RecBole does, with their types, where these were left out."""
    names = {name.partition(":")[0]: name for name in header.rstrip("\r\n").split("\t")}
    itemset, item, weight = (
        names.get(role, role) if isinstance(role, str) else role
        for role in dataclasses.astuple(roles)
    )
    return Roles(itemset, item, weight)


def _check_roles(path: Path, name: str, roles: Roles) -> None:
    """Refuse names of columns where lines have none; and weights, which none of them has."""
    known = FIELD_FORMATS[name]
    if name == "list-cells" and roles.item is None:
        raise InputError(f"{path}: no column holds lists alone; name one, item= (--item)")
    without = known.base == "text" or name == "arules"
    refuse_columns(roles if without else Roles(None, None, roles.weight), f"{known.title} has")


def _with_weights(parser: str, files: list[Opened], encoding: str) -> str:
    """Choose the parser for files with weights, if they have some."""
    lines = chain.from_iterable(text_lines(file, encoding) for file in files)
    if parser == "basket" and any("=" in line for line in lines):
        return "basket-values"
    if parser == "spmf":
        for line in lines:
            if line[:1] not in ("@", "#", "%") and line.strip():
                return "spmf-utilities" if ":" in line else parser
    return parser


def _recognise_all(files: list[Opened], known: str | None, asked: Asked) -> Finding | None:
    """Recognise the one format of all files; raises or warns where there is a doubt."""
    findings: dict[str | None, tuple[Path, Finding | None]] = {}
    for file in files:
        sample = take_sample(file, known, asked)
        found = recognise(sample) if sample.lines else None
        if found is not None and _is_doubt(file.path, found, asked.format):
            found = None
        findings.setdefault(None if found is None else found.format, (file.path, found))
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
        if found.kind == CERTAIN:  # to a question, this is the answer
            warn(
                f"{path}: is read as {format}, as asked; but it looks like {found.format}: "
                f"{found.text}"
            )
        return True
    if found.kind == ASK:
        raise DataError(f"{path}: {found.text}")
    if found.kind == MAYBE:
        warn(f"{path}: is read as text; but {found.text}")
        return True
    return False


def take_sample(file: Opened, known: str | None, asked: Asked) -> Sample:
    """Take the first lines, as far as they are text; what else is wrong is told by reading."""
    try:
        lines = list(islice(read_lines(file, asked.encoding), SAMPLE))
    except DataError:
        lines = []
    given, roles = asked.given, dataclasses.astuple(asked.roles)
    return Sample(
        [text for line in lines if (text := line.rstrip("\r\n")).strip()],
        known,
        separator=as_separator(given.get("separator")),
        header=given.get("header"),
        quote=as_quote(given.get("quote", '"')),
        chosen=any(role is not None for role in roles),
        named=any(isinstance(role, str) and not role.isdigit() for role in roles),
        item=asked.roles.item,
        asked=asked.format is not None,
    )


def text_lines(file: Opened, encoding: str) -> Iterator[str]:
    """Iterate over the lines of a text."""
    lines = read_lines(file, encoding)
    first = next(lines)
    if "\r" in first.rstrip("\r\n"):
        raise DataError(
            f"{file.path}: lines end with a carriage return alone; convert the line ends"
        )
    return chain([first], lines)

"""What files of itemsets may be: their formats, how they are written, and their columns."""

from __future__ import annotations

import codecs
import csv
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, InputError
from .column_names import is_item_name, is_no_item_name, suggestion
from .field_formats import FIELD_FORMATS, base_format

if TYPE_CHECKING:
    import polars

PLAIN_FORMATS = ("text", "csv", "tsv", "parquet", "ndjson", "arrow")
FORMATS = (*PLAIN_FORMATS, *FIELD_FORMATS)
_FORMAT_OF_SUFFIX = {
    ".basket": "basket",
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
COMPRESSIONS = (".gz", ".xz", ".zst", ".bz2", ".zip")
_COMPRESSED = ("text", "csv", "tsv", "ndjson")
SEPARATORS = {"csv": ",", "tsv": "\t"}
FORMAT_CHOICE = ", ".join(FORMATS)
# Which of the options of writing say something of a format; of others, all do.
_WRITING_OF = {
    "text": ("separator", "nulls", "encoding"),
    "ndjson": ("encoding",),
    "parquet": (),
    "arrow": (),
}
_NAMES = {"text": "text", "parquet": "Parquet", "ndjson": "NDJSON", "arrow": "Arrow"}
_NO_QUOTE = ("", "none")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a table is written as text.

    A separator of None is whitespace (text), or none at all (NDJSON, Parquet, Arrow). Without a
    quote (None), quotes are text like any other. Words of `nulls` say that something is missing.
    """

    separator: str | None = ","
    header: bool = True
    quote: str | None = '"'
    nulls: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def rows(self, lines: Iterable[str]) -> Any:
        """Split lines into fields, as Python's csv module does where nothing may be wrong."""
        return csv.reader(
            lines,
            delimiter=self.separator or ",",
            quotechar=self.quote,
            quoting=csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL,
            strict=True,
        )


@dataclasses.dataclass(frozen=True)
class Roles:
    """Names of the columns that were asked for, or their positions from 1 on."""

    itemset: str | int | None
    item: str | int | None
    weight: str | int | None


NO_ROLES = Roles(None, None, None)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which column of a table has which role."""

    itemset: str
    item: str
    weight: str | None
    chosen: bool  # not all were named
    lists: bool  # a row is an itemset
    whole: bool = False  # items are floats, and read as integers

    def roles(self) -> dict[str, str]:
        """Return the names of the columns, by their roles."""
        named = {"itemset": self.itemset, "item": self.item, "weight": self.weight}
        return {role: name for role, name in named.items() if name}

    def noting(self, were_floats: bool) -> Columns:
        """Note that items were floats, and are read as integers."""
        return dataclasses.replace(self, whole=True) if were_floats else self

    def as_roles(self) -> Roles:
        """Ask another table for the same columns."""
        return Roles(self.itemset or None, self.item, self.weight)

    def __str__(self) -> str:
        text = f"item column {self.item!r}"
        if not self.lists:
            text = f"itemset column {self.itemset!r}, {text}"
        if self.weight is not None:
            text += f", weight column {self.weight!r}"
        if self.whole:
            text += ", whole floats read as integers"
        return text + (": the first ones, as not all were named" if self.chosen else "")


def column_names(written: Sequence[str]) -> list[str]:
    """Return names by which the columns of a header can be told apart.

    A column that has no name, or that of another, is called by its position, from 1 on.
    """
    names: list[str] = []
    for position, name in enumerate(written, 1):
        if name == "" or written.count(name) > 1:
            name = str(position)
            while name in written:
                name = f"({name})"
        names.append(name)
    return names


def choose_columns(
    name: str, schema: polars.Schema, roles: Roles, written: Sequence[str] | None = None
) -> Columns:
    """Give the columns of a table their roles; those not named are the first ones.

    `written` are the names in the file, where `column_names` has had to tell them apart.
    """
    names = list(schema)
    written = names if written is None else written
    found = f"its columns are {', '.join(map(repr, names))}"
    asked = [role for role in dataclasses.astuple(roles) if role is not None]
    known = {role: names[find_place(name, written, role, names)] for role in asked}
    itemset, item, weight = (
        None if role is None else known[role] for role in dataclasses.astuple(roles)
    )
    named = [one for one in (itemset, item, weight) if one is not None]
    for role in named:
        if named.count(role) > 1:
            raise InputError(f"{name}: column {role!r} is given two roles; {found}")
    # What has no name is an index, as a rule: it is not taken unless it is asked for.
    titles = dict(zip(names, written, strict=True))
    free = [one for one in names if one not in named and titles[one] != ""]
    lists = [one for one in free if _holds_lists(schema[one])]
    if item is None and lists and itemset is None:
        item = _choose_list(name, free, lists, found)
    if item is not None and _holds_lists(schema[item]):
        if itemset is not None:
            raise InputError(
                f"{name}: item column {item!r} holds lists, of which each is an itemset; leave "
                f"out itemset={itemset!r}"
            )
        return Columns("", item, weight, roles.item is None, True)
    chosen = [free.pop(0) if one is None and free else one for one in (itemset, item)]
    if None in chosen:
        question = "" if written is names else " (is the separator right?)"
        raise DataError(f"{name}: an itemset and an item column are needed; {found}{question}")
    if item is None:
        # What has a role already is no better choice.
        _doubt(name, str(chosen[1]), [one for one in names if one not in named], found)
    return Columns(str(chosen[0]), str(chosen[1]), weight, chosen != [itemset, item], False)


def _holds_lists(dtype: polars.DataType) -> bool:
    return dtype.is_nested() and str(dtype).startswith(("List", "Array"))


def _choose_list(name: str, free: list[str], lists: list[str], found: str) -> str:
    """Choose the column of lists that are itemsets; one beside a column of items may be no such."""
    likely = [one for one in lists if is_item_name(one)]
    if len(likely) == 1:
        return likely[0]
    items = [one for one in free if one not in lists and is_item_name(one)]
    if len(lists) > 1 or items:
        raise InputError(
            f"{name}: {' and '.join(map(repr, lists))} hold{'s' * (len(lists) == 1)} lists, and "
            f"which column holds the items is not certain; {found}; name it: item= (--item)"
            + suggestion([one for one in free if one not in lists])
        )
    return lists[0]


def _doubt(name: str, item: str, names: list[str], found: str) -> None:
    """Refuse a column of items that was chosen by its place, where another is called so."""
    suggested = suggestion(names)
    if is_no_item_name(item) and suggested:
        raise InputError(
            f"{name}: column {item!r} would be that of the items, as the second one; {found}; "
            f"name the columns{suggested}"
        )


def find_place(name: str, written: Sequence[str], role: Any, names: Sequence[str] = ()) -> int:
    """Return the place of a column that is asked for by its name or its position, from 1 on.

    `names` tell columns apart that are written alike, where they do.
    """
    for known in (names, written):
        if isinstance(role, str) and known.count(role) == 1:
            return known.index(role)
    places = [str(place) for place, title in enumerate(written, 1) if title == role != ""]
    if places:
        raise InputError(
            f"{name}: columns {' and '.join(places)} are both called {role!r}; give the number "
            "of one"
        )
    digits = str(role)
    if digits.isascii() and digits.isdigit() and 1 <= int(digits) <= len(written):
        return int(digits) - 1
    found = ", ".join(map(repr, names or written))
    raise InputError(f"{name}: there is no column {role!r}; its columns are {found}")


def refuse_columns(roles: Roles, what: str = "text has") -> None:
    """Refuse names of columns, for what has none."""
    for name in dataclasses.astuple(roles):
        if name is not None:
            raise InputError(f"column {name!r} is asked for, but {what} no columns")


def suffix_format(path: Path) -> str | None:
    """Return the format that the suffix of a file tells, if it does."""
    suffix = path.suffix.lower()
    suffix = path.with_suffix("").suffix.lower() if suffix in COMPRESSIONS else suffix
    return _FORMAT_OF_SUFFIX.get(suffix)


def known_format(path: Path, format: str | None) -> str | None:
    """Return the format of a file: the one that is given, or the one that its suffix tells.

    None if the suffix tells none.
    """
    suffix = path.suffix.lower()
    compression = suffix if suffix in COMPRESSIONS else ""
    if format is None:
        format = suffix_format(path)
    elif format not in FORMATS:
        raise InputError(f"format is {format!r}; give one of {FORMAT_CHOICE}")
    if compression and base_format(format or "text") not in _COMPRESSED:
        raise InputError(f"{path}: {format} cannot be read from {compression}; decompress it first")
    return format


def known_dialect(format: str, asked: Mapping[str, Any]) -> Dialect:
    """Return how a file of a format is written: as it is asked for, else as is usual.

    `asked` may have separator, header, quote, nulls and encoding; None is what is usual.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given:
        if name not in _WRITING_OF.get(format, given):
            raise InputError(
                f"{name} is {given[name]!r}, but {_NAMES[format]} has no {name} to choose"
            )
    for name, kind in (("separator", str), ("quote", str), ("header", bool)):
        if not isinstance(given.get(name, kind()), kind):
            raise InputError(f"{name} is {given[name]!r}; give a {kind.__name__}")
    nulls, encoding = _known_nulls(given), known_encoding(given)
    separator: str | None = given.get("separator", SEPARATORS.get(format))
    if separator == "":
        raise InputError("separator is empty; give at least one character")
    separator = as_separator(separator)
    if format not in SEPARATORS or separator is None:
        return Dialect(separator, False, None, nulls, encoding)
    # There is no convention of quotes between separators of several characters.
    quote = as_quote(given.get("quote", '"' if len(separator) == 1 else ""))
    for name, value in (("separator", separator), ("quote", quote)):
        if value is not None and (not value.isascii() or set(value) & {"\0", "\r", "\n"}):
            raise InputError(f"{name} is {value!r}; give a character of ASCII, on one line")
    if quote is not None and (len(quote) != 1 or separator != separator[:1]):
        raise InputError(
            f"quote is {quote!r} and separator {separator!r}: a quote is one character, and goes "
            'with a separator of one; quote="" (--quote none) switches quoting off'
        )
    if quote == separator:
        raise InputError(f"quote and separator are both {quote!r}; give two characters")
    return Dialect(separator, bool(given.get("header", True)), quote, nulls, encoding)


def as_separator(given: str | None) -> str | None:
    """Return the separator that is meant: a shell passes a tab as two characters."""
    return "\t" if given == "\\t" else given


def as_quote(given: str | None) -> str | None:
    """Return the quote that is meant, or None if there is to be none."""
    return None if given in _NO_QUOTE else given


def _known_nulls(given: Mapping[str, Any]) -> tuple[str, ...]:
    nulls = given.get("nulls", ())
    words = (nulls,) if isinstance(nulls, str) or not hasattr(nulls, "__iter__") else tuple(nulls)
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"nulls holds {word!r}; give the words that say so in the file")
    return words


def known_encoding(given: Mapping[str, Any]) -> str:
    encoding = given.get("encoding", "utf-8")
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"encoding is {encoding!r}; give one that Python knows, such as utf-8, cp1252, "
            "latin-1, utf-16 or big5"
        ) from error
    return "utf-8" if name == "utf-8-sig" else name

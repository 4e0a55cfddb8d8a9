"""Writes itemsets to files of the field's formats, so that they are read back as they are."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import import_polars, show
from ..disk.files import disk_errors, replacing
from ..disk.labels import texts
from ..errors import InputError
from .formats import COMPRESSIONS, known_format
from .itemsets import PackedItemsets
from .labelled import LabelledItemsets

# An itemset as it is written: its items, and their weights.
Row = tuple[Sequence[Any], Sequence[Any] | None]
_PIECE = 1 << 12
_LARGEST = 2**63
# What strings of a CSV look like that become integers, or lists, if all do.
_READ_OTHERWISE = [
    re.compile(one) for one in (r"0|-?[1-9][0-9]*", r"(0|-?[1-9][0-9]*)\.0", r"\[.*\]")
]


def write_itemsets(
    itemsets: PackedItemsets | LabelledItemsets,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
) -> None:
    """Write itemsets to a file that `read_itemsets` reads back as they are, by the same `format`.

    A write that fails leaves a file that was there as it was. Labels and counts of items that no
    itemset holds are not written.

    Parameters
    ----------
    itemsets : PackedItemsets or LabelledItemsets
        What is written; see `pack_itemsets`, `read_itemsets` and `read_labelled`.
    path : path-like
        File to write.
    format : str, optional
        By default as the suffix says. `read_itemsets` tells what specifies each of them.

        * ``"text"``, or ``"fimi"`` for numbers: items between spaces, an itemset a line.
        * ``"spmf"``: items are numbered from 1 on, and sorted, in each transaction; ``@ITEM``
          lines say what they are called. Weights are utilities.
        * ``"basket"``: items between commas, ``item=weight`` where there are weights.
        * ``"arules"``: rows of a CSV with as many fields as items.
        * ``"lightgcn"``: the number of the itemset, and those of its items.
        * ``"csv"`` and ``"tsv"``: a row an item, of the columns itemset, item and weight.
        * ``"ndjson"`` and ``"parquet"``: a row an itemset, with the lists items and weights.
        * ``"fasttext"`` and ``"libsvm"``: of `LabelledItemsets`.

    Raises
    ------
    InputError
        If the format cannot hold a label, weights or an empty itemset, or is not known.
    DataError
        If the disk does not take it.

    Examples
    --------
    >>> packed = pack_itemsets([["tea", "cup"], ["tea"]])
    >>> write_itemsets(packed, "baskets.txt")
    >>> read_itemsets("baskets.txt").labels
    ['tea', 'cup']
    """
    path = Path(path)
    if path.suffix.lower() in COMPRESSIONS:
        raise InputError(f"{path}: files are written as they are; compress it afterwards")
    format = known_format(path, format)
    labelled = isinstance(itemsets, LabelledItemsets)
    if not labelled and not isinstance(itemsets, PackedItemsets):
        raise InputError(
            f"itemsets is a {type(itemsets).__name__}; pass what pack_itemsets, read_itemsets or "
            "read_labelled returned"
        )
    writers: dict[str, Callable[[Any], Iterator[str]]] = _LABELLED if labelled else _WRITERS
    if format is None or (format not in writers and (labelled or format != "parquet")):
        kind = "examples with labels" if labelled else "itemsets"
        known = [*writers, *([] if labelled else ["parquet"])]
        raise InputError(f"{path}: {kind} are written as one of {', '.join(known)}; give format=")
    with disk_errors(path), replacing(path) as file:
        try:
            if format == "parquet":
                _frame(itemsets).write_parquet(file)
            else:
                for line in writers[format](itemsets):
                    file.write(line.encode())
        except UnicodeEncodeError as error:
            raise InputError(f"a label cannot be written as UTF-8: {error.object!r}") from error


def _rows(packed: PackedItemsets, labels: Sequence[Any]) -> Iterator[Row]:
    """Yield the labels and the weights of each itemset; labels as they are written."""
    for start in range(0, packed.num_itemset, _PIECE):
        offsets = np.asarray(packed.offsets[start : start + _PIECE + 1]).tolist()
        indices = np.asarray(packed.indices[offsets[0] : offsets[-1]]).tolist()
        weights = None
        if packed.weights is not None:
            # As strings of the fewest digits that are read as the same float32.
            weights = list(map(str, np.asarray(packed.weights[offsets[0] : offsets[-1]])))
        for begin, end in pairwise(offset - offsets[0] for offset in offsets):
            yield (
                [labels[index] for index in indices[begin:end]],
                None if weights is None else weights[begin:end],
            )


def _written(packed: PackedItemsets, format: str, holds: Callable[[str], bool]) -> list[str]:
    """Return labels as text; refuse those that would not be read back."""
    known: dict[str, Any] = {}
    for label, text in zip(packed.labels, texts(packed.labels), strict=True):
        if type(label) not in (str, int):
            raise InputError(
                f"label {label!r} is a {type(label).__name__}, and {format} holds strings and "
                "integers; make strings of labels"
            )
        if text in known:
            raise InputError(f"labels {known[text]!r} and {label!r} are both written {text}")
        if not text or "\0" in text or text[0] == "\ufeff" or not holds(text):
            raise InputError(f"label {label!r} cannot be written as {format}; rename it")
        known[text] = label
    return list(known)


def _refuse_weights(packed: PackedItemsets, format: str) -> None:
    if packed.weights is not None:
        raise InputError(
            f"the itemsets have weights, which {format} cannot hold; write spmf, basket, csv, "
            "ndjson or parquet"
        )


def _is_word(text: str) -> bool:
    return text.split() == [text]


def _is_field(text: str) -> bool:
    return text == text.strip() and not set(text) & {"\n", "\r"}


# -------------------------------------------------------------------------- itemsets


def _text(packed: PackedItemsets) -> Iterator[str]:
    _refuse_weights(packed, "text")
    for items, _ in _rows(packed, _written(packed, "text", _is_word)):
        yield " ".join(items) + "\n"


def _fimi(packed: PackedItemsets) -> Iterator[str]:
    _written(packed, "fimi", str.isdecimal)
    return _text(packed)


def _spmf(packed: PackedItemsets) -> Iterator[str]:
    names = _written(packed, "spmf", lambda text: not set(text) & {"\n", "\r"})
    yield "@CONVERTED_FROM_TEXT\n"
    for number, name in enumerate(names, 1):
        yield f"@ITEM={number}={name}\n"
    for row, (numbers, weights) in enumerate(_rows(packed, range(1, len(names) + 1))):
        if len(set(numbers)) < len(numbers):
            raise InputError(
                f"itemset {row} holds an item twice, which spmf does not; read with "
                "duplicates='drop' or 'sum'"
            )
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        line = " ".join(str(numbers[place]) for place in order)
        if weights is not None and numbers:
            total = sum(map(float, weights))
            line += f":{total:g}:" + " ".join(weights[place] for place in order)
        yield f"{line}\n"


def _basket(packed: PackedItemsets) -> Iterator[str]:
    labels = _written(packed, "basket", lambda text: _is_field(text) and not set(text) & {",", "="})
    for items, weights in _rows(packed, labels):
        if weights is not None:
            items = [f"{item}={weight}" for item, weight in zip(items, weights, strict=True)]
        yield ", ".join(items) + "\n"


def _arules(packed: PackedItemsets) -> Iterator[str]:
    _refuse_weights(packed, "arules")
    labels = _written(packed, "arules", _is_field)
    return _csv((items for items, _ in _rows(packed, labels)), ",")


def _lightgcn(packed: PackedItemsets) -> Iterator[str]:
    _refuse_weights(packed, "lightgcn")
    labels = _written(packed, "lightgcn", lambda text: text.isascii() and text.isdecimal())
    for number, (items, _) in enumerate(_rows(packed, labels)):
        yield " ".join([str(number), *items]) + "\n"


def _long(separator: str) -> Callable[[PackedItemsets], Iterator[str]]:
    def write(packed: PackedItemsets) -> Iterator[str]:
        labels = _written(packed, "csv", _is_field)
        _refuse_large(packed)
        kinds = {type(label) for label in packed.labels}
        others = any(all(map(one.fullmatch, labels)) for one in _READ_OTHERWISE)
        if len(kinds) > 1 or (str in kinds and others):
            raise InputError(
                "labels that are strings of digits, or strings and integers, are read from a CSV "
                "as integers or strings alone, and those in brackets as lists; write ndjson or "
                "parquet"
            )
        return _csv(_long_rows(packed, labels), separator)

    return write


def _long_rows(packed: PackedItemsets, labels: Sequence[str]) -> Iterator[Sequence[Any]]:
    yield ["itemset", "item"] + ["weight"] * (packed.weights is not None)
    for number, (items, weights) in enumerate(_rows(packed, labels)):
        if not items:
            raise InputError(
                f"itemset {number} is empty, and a row is an item; prune with min_length=1, or "
                "write text, ndjson or parquet"
            )
        for place, item in enumerate(items):
            yield [number, item] + ([] if weights is None else [weights[place]])


def _csv(rows: Iterator[Sequence[Any]], separator: str) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    for row in rows:
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _one_kind(packed: PackedItemsets) -> None:
    found = {type(label): label for label in packed.labels}
    if len(found) > 1 or not set(found) <= {str, int}:
        raise InputError(
            f"labels are {' and '.join(sorted(kind.__name__ for kind in found))}; make strings or "
            "integers of all"
        )
    _refuse_large(packed)


def _refuse_large(packed: PackedItemsets) -> None:
    for label in packed.labels:
        if type(label) is int and not -_LARGEST <= label < _LARGEST:
            raise InputError(
                f"label {show(label)} does not fit an integer of 64 bits, as which it would be "
                "read; make strings of labels"
            )


def _ndjson(packed: PackedItemsets) -> Iterator[str]:
    _one_kind(packed)
    for items, weights in _rows(packed, packed.labels):
        row: dict[str, Any] = {"items": items}
        if weights is not None:
            row["weights"] = list(map(float, weights))
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _frame(packed: Any) -> Any:
    polars = import_polars("writing Parquet")
    _one_kind(packed)
    kind = polars.String if packed.labels and isinstance(packed.labels[0], str) else polars.Int64
    items, weights = (
        zip(*_rows(packed, packed.labels), strict=True) if packed.num_itemset else ((), ())
    )
    columns = [polars.Series("items", items, dtype=polars.List(kind))]
    if packed.weights is not None:
        lists = [list(map(float, some)) for some in weights]
        columns.append(polars.Series("weights", lists, dtype=polars.List(polars.Float32)))
    return polars.DataFrame(columns)


# -------------------------------------------------------------- examples with labels


def _fasttext(examples: LabelledItemsets) -> Iterator[str]:
    _refuse_weights(examples.features, "fasttext")
    labels = _written(examples.labels, "fasttext", _is_word)
    words = _written(
        examples.features,
        "fasttext",
        lambda text: _is_word(text) and not text.startswith("__label__"),
    )
    sides = (_rows(examples.labels, labels), _rows(examples.features, words))
    for (some, _), (others, _) in zip(*sides, strict=True):
        yield " ".join([*(f"__label__{label}" for label in some), *others]) + "\n"


def _libsvm(examples: LabelledItemsets) -> Iterator[str]:
    labels = _written(
        examples.labels,
        "libsvm",
        lambda text: _is_word(text) and text[0] != "+" and not set(text) & {",", ":", "#"},
    )
    names = _written(
        examples.features,
        "libsvm",
        lambda text: _is_word(text) and text != "qid" and not set(text) & {":", "#"},
    )
    sides = (_rows(examples.labels, labels), _rows(examples.features, names))
    for (some, _), (features, values) in zip(*sides, strict=True):
        values = ["1"] * len(features) if values is None else values
        words = [f"{name}:{value}" for name, value in zip(features, values, strict=True)]
        yield " ".join([",".join(some), *words]) + "\n"


_WRITERS: dict[str, Callable[[PackedItemsets], Iterator[str]]] = {
    "text": _text,
    "fimi": _fimi,
    "spmf": _spmf,
    "basket": _basket,
    "arules": _arules,
    "lightgcn": _lightgcn,
    "csv": _long(","),
    "tsv": _long("\t"),
    "ndjson": _ndjson,
}
_LABELLED: dict[str, Callable[[LabelledItemsets], Iterator[str]]] = {
    "fasttext": _fasttext,
    "libsvm": _libsvm,
}

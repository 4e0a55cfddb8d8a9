"""Reads examples with labels and features, for `SupervisedClassifier`: fastText's and libsvm's."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, InputError
from .field_formats import FIELD_FORMATS, LABELLED
from .files import find_files
from .format_choice import Asked, take_sample, text_lines
from .itemsets import PackedItemsets
from .lists import pack_itemsets
from .opening import STANDARD_INPUT, Opened, come_in, read_lines, temporary_files
from .parsers import WeightedLines, read_weight
from .recognition import recognise

_PREFIX = "__label__"
# Numbers of labels, a tab, and numbers of features without values.
_TAB = r"(\d+([ ,]\d+)*)?\t(\d+( \d+)*)?\s*"

# Labels, features, and the weights of these, if they have some.
Example = tuple[list[str], list[str], list[float] | None]


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledItemsets:
    """Features and labels of examples, the n-th of the one with the n-th of the other.

    Attributes
    ----------
    features, labels : PackedItemsets
        Features of each example, with their values as weights if they have some, and its labels;
        some examples may have none of either.
    source : str
        One line for people: the file, and how it was read.

    Examples
    --------
    >>> from pathlib import Path
    >>> text = "__label__tea green leaves\\n__label__cup white china\\n"
    >>> _ = Path("shop.txt").write_text(text)
    >>> read = read_labelled("shop.txt")
    >>> read.labels.labels, read.features.num_itemset
    (['tea', 'cup'], 2)
    """

    features: PackedItemsets
    labels: PackedItemsets
    source: str

    def __len__(self) -> int:
        return self.labels.num_itemset

    def split(self, share: float) -> tuple[LabelledItemsets, LabelledItemsets]:
        """Return the first examples, a share of all, and the others.

        Parameters
        ----------
        share : float
            Between 0 and 1.

        Returns
        -------
        tuple of two LabelledItemsets
            Both parts, in their order.
        """
        first = np.arange(len(self)) < round(share * len(self))
        return self._part(first), self._part(~first)

    def _part(self, mask: npt.NDArray[np.bool_]) -> LabelledItemsets:
        return LabelledItemsets(
            self.features.prune(mask=mask), self.labels.prune(mask=mask), self.source
        )

    def __repr__(self) -> str:
        return (
            f"LabelledItemsets({len(self):,} examples, {self.features.num_label:,} features, "
            f"{self.labels.num_label:,} labels)"
        )


def read_labelled(
    source: str | os.PathLike[str], *, format: str | None = None, encoding: str | None = None
) -> LabelledItemsets:
    """Read examples with labels and features from text, an example a line.

    Features and labels are strings. Fit them with ``SupervisedClassifier().fit(read.features,
    read.labels)``.

    Parameters
    ----------
    source : path-like
        A file, a folder or a pattern of files, as for `read_itemsets`; text may be compressed.
    format : {"fasttext", "libsvm"}, optional
        By default it is recognised.

        * fastText: words, of which those that begin with ``__label__`` are labels, see
          https://fasttext.cc/docs/en/supervised-tutorial.html. Words are what is between spaces.
        * libsvm: labels between commas, then ``feature:value``, see
          https://www.csie.ntu.edu.tw/~cjlin/libsvm/faq.html and
          https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multilabel.html; values are the
          weights of features, and what follows a ``#`` is a comment. A first line of three
          numbers (of examples, features and labels) makes it a file of the extreme classification
          repository, http://manikvarma.org/downloads/XC/XMLRepository.html. Labels between spaces
          come before a tab; features without values have 1.
    encoding : str, optional
        Encoding of the text, such as "cp1252"; UTF-8 by default.

    Returns
    -------
    LabelledItemsets
        Features and labels, with an itemset for every line.

    Raises
    ------
    DataError
        If a file is missing, damaged or not of its format.
    InputError
        If there is no such format or encoding, or the format is not recognised.
    """
    if format is not None and format not in LABELLED:
        raise InputError(f"format is {format!r}; give one of {', '.join(LABELLED)}")
    asked = Asked(format, {"encoding": encoding})
    known = asked.encoding
    paths, _ = find_files(source, format or "text")
    with temporary_files() as temporary:
        files = [come_in(path, temporary) for path in paths]
        if format is None:
            format = _recognise(files[0], asked)
        if format is None:
            next(read_lines(files[0], known), None)  # what is missing or damaged says so
            raise InputError(
                f"{files[0].path}: is it an example a line, with labels and features? Give the "
                f"format: {', '.join(LABELLED)}"
            )
        features, labels = _pack(files, _PARSERS[format], known)
    name = files[0].path if paths == [STANDARD_INPUT] else source
    if not labels.num_item or not features.num_item:
        what = "label" if not labels.num_item else "feature"
        raise DataError(f"{name}: no line has a {what}; is it of {FIELD_FORMATS[format].title}?")
    about = f"read as {FIELD_FORMATS[format].title}: {FIELD_FORMATS[format].about}"
    return LabelledItemsets(features, labels, f"{name}; {about}")


def read_features(
    path: Path, *, format: str | None = None, encoding: str | None = None
) -> PackedItemsets:
    """Read the features of examples, with or without labels; words, if no format is recognised."""
    asked = Asked(format, {"encoding": encoding})
    with temporary_files() as temporary:
        file = come_in(path, temporary)
        parse = _PARSERS[format or _recognise(file, asked) or "fasttext"]
        return _pack([file], parse, asked.encoding)[0]


def _recognise(file: Opened, asked: Asked) -> str | None:
    sample = take_sample(file, None, asked)
    if sample.all_match(_TAB):
        return "libsvm"
    found = recognise(sample) if sample.lines else None
    return None if found is None or found.format not in LABELLED else found.format


def _pack(
    files: list[Opened],
    parse: Callable[[Path, Iterator[str]], Iterator[Example]],
    encoding: str,
) -> tuple[PackedItemsets, PackedItemsets]:
    labels: list[list[str]] = []

    def features() -> Iterator[Any]:
        for file in files:
            for some_labels, some_features, weights in parse(file.path, text_lines(file, encoding)):
                labels.append(some_labels)
                yield some_features if weights is None else (some_features, weights)

    if parse is _libsvm:
        lines = WeightedLines(features())
        packed = pack_itemsets(lines, weights=lines.weights(), min_length=0)
    else:
        packed = pack_itemsets(features(), min_length=0)
    return packed, pack_itemsets(labels, min_length=0)


def _fasttext(path: Path, lines: Iterator[str]) -> Iterator[Example]:
    for line in lines:
        words = line.split()
        labels = [word.removeprefix(_PREFIX) for word in words if word.startswith(_PREFIX)]
        yield labels, [word for word in words if not word.startswith(_PREFIX)], None


def _libsvm(path: Path, lines: Iterator[str]) -> Iterator[Example]:
    expected: int | None = None
    rows = 0
    for number, line in enumerate(lines, 1):
        text, comment, _ = line.partition("#")
        if comment and not text.strip():
            continue
        if number == 1 and re.fullmatch(r"\s*\d+ \d+ \d+\s*", text):
            expected = int(text.split()[0])
            continue
        before, tab, after = text.partition("\t")
        if tab and ":" not in before:
            labels, words = before.replace(",", " ").split(), after.split()
        else:
            labels, words = [], text.split()
            if words and ":" not in words[0]:
                labels = words.pop(0).split(",")
        labels = [label.lstrip("+") for label in labels if label]
        features: list[str] = []
        values: list[float] = []
        for word in words:
            name, colon, value = word.partition(":")
            if tab and not colon:
                value = "1"
            elif not name or not colon:
                raise DataError(f"{path}, line {number}: {word!r} is no feature:value")
            if name != "qid":  # of rankings: the query
                features.append(name)
                values.append(read_weight(path, number, value))
        rows += 1
        yield labels, features, values
    if expected is not None and rows != expected:
        raise DataError(
            f"{path}: its first line tells of {expected:,} examples, and there are {rows:,}; is it "
            "cut short?"
        )


_PARSERS: dict[str, Callable[[Path, Iterator[str]], Iterator[Example]]] = {
    "fasttext": _fasttext,
    "libsvm": _libsvm,
}

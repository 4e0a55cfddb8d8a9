"""Labels on disk: as JSON that keeps their types, and as the words of a word2vec file."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ..checks import show
from ..errors import DataError, InputError
from .files import replacing

_TINY_OFFSET = re.compile(r"([+-])00:00:00\.(\d{6})$")
_SPACE = re.compile(r"\s")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Codec(NamedTuple):
    """How labels of one type are held in JSON."""

    kind: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _same(label: Any) -> Any:
    return label


def _encode_datetime(label: datetime) -> str:
    if label.tzinfo is not None and type(label.tzinfo) is not timezone:
        raise InputError(
            f"labels: {show(label)} is in a named time zone, which cannot be saved; convert such "
            "labels with .astimezone(datetime.timezone.utc)"
        )
    return label.isoformat()


def _decode_datetime(text: str) -> datetime:
    label = datetime.fromisoformat(text)
    offset = _TINY_OFFSET.search(text)
    if offset is None:
        return label
    # Python reads an offset of less than a second as none.
    return label.replace(tzinfo=timezone(timedelta(microseconds=int("".join(offset.groups())))))


_CODECS = {
    "str": _Codec(str, _same, _same),
    "int": _Codec(int, _same, _same),
    "date": _Codec(date, date.isoformat, date.fromisoformat),
    "datetime": _Codec(datetime, _encode_datetime, _decode_datetime),
    "uuid": _Codec(UUID, str, UUID),
}


def encode_labels(labels: list[Any]) -> bytes:
    """The labels as JSON; with the type of each one only where there are several types."""
    kinds = set(map(type, labels))
    foreign = kinds - {codec.kind for codec in _CODECS.values()}
    if foreign:
        row, label = next((r, x) for r, x in enumerate(labels) if type(x) in foreign)
        raise InputError(
            f"labels: {show(label)} in row {row} is of type {type(label).__name__}, which cannot "
            "be saved; convert such labels to str or int"
        )
    types = [name for name, codec in _CODECS.items() if codec.kind in kinds]
    document: dict[str, Any] = {"types": types}
    if len(types) > 1:
        number = {_CODECS[name].kind: i for i, name in enumerate(types)}
        document["type_of"] = [number[type(label)] for label in labels]
    encode = {codec.kind: codec.encode for codec in _CODECS.values()}
    document["labels"] = [encode[type(label)](label) for label in labels]
    try:
        return json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise not_unicode(labels) from None
    except ValueError as error:
        raise InputError(f"labels: {error}; convert such labels to str") from None


def decode_labels(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_bytes())
        codecs = [_CODECS[name] for name in document["types"]]
        values = document["labels"]
        type_of = document["type_of"] if len(codecs) > 1 else [0] * len(values)
        labels = [codecs[i].decode(value) for i, value in zip(type_of, values, strict=True)]
        if not set(map(type, labels)) <= {codec.kind for codec in codecs}:
            raise TypeError("a label is not of its type")
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: does not hold labels ({error})") from error
    return labels


def write_word2vec(
    path: Path,
    labels: list[Any],
    vectors: NDArray[np.float32],
    *,
    binary: bool,
    replace_space: str | None,
    vocabulary: Path | None = None,
    counts: NDArray[np.int64] | None = None,
) -> None:
    """Write a word2vec file, in the place of an older one, once it is whole.

    A word and its count are a line of the vocabulary, if there is to be one. Raises
    `InputError`, with nothing written, if the labels make no words or `path` or
    `vocabulary` is no file in a folder.
    """
    check_file("path", path)
    words = _words(labels, replace_space)
    with contextlib.ExitStack() as files:
        if vocabulary is not None and counts is not None:
            check_file("vocabulary", vocabulary)
            beside = files.enter_context(replacing(vocabulary))
            for word, count in zip(words, counts.tolist(), strict=True):
                beside.write(b"%s %d\n" % (word, count))
        file = files.enter_context(replacing(path))
        file.write(b"%d %d\n" % vectors.shape)
        if binary:
            for word, vector in zip(words, vectors.astype("<f4", copy=False), strict=True):
                file.write(b"%s %s\n" % (word, vector.tobytes()))
        else:
            line = b"%s" + b" %.9g" * vectors.shape[1] + b"\n"
            for word, vector in zip(words, vectors, strict=True):
                file.write(line % (word, *vector.tolist()))


def check_file(name: str, path: Path) -> None:
    """Refuse an argument of this name that is no file in a folder."""
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{name}: {path} is a folder or in no folder; name a file in a folder")
    if path.exists() and not path.is_file():
        # A file that took the place of /dev/null would be the end of many programs.
        raise InputError(f"{name}: {path} is a device or a pipe; name a file in a folder")


def texts(labels: list[Any]) -> list[str]:
    """The text of each label."""
    try:
        return [str(label) for label in labels]
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"labels: {error}; convert such labels to str") from None


def _words(labels: list[Any], replace_space: str | None) -> list[bytes]:
    """The labels as word2vec can hold them: not empty, without white space, all different."""
    words = texts(labels)
    if replace_space is not None:
        if not isinstance(replace_space, str) or _SPACE.search(replace_space):
            raise InputError(
                f"replace_space: {show(replace_space)} is not a string without white space; "
                "pass one such as '_'"
            )
        words = [replace_space.join(_SPACE.split(word)) for word in words]
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        if not word or _SPACE.search(word):
            raise InputError(
                f"labels: {show(labels[row])} in row {row} is empty or has white space, which "
                "ends a word of word2vec; pass replace_space='_', or rename it"
            )
        if first.setdefault(word, row) != row:
            raise InputError(
                f"labels: {show(labels[first[word]])} and {show(labels[row])} both become the "
                f"word {show(word)}; rename one, or choose another replace_space"
            )
    try:
        return [word.encode("utf-8") for word in words]
    except UnicodeEncodeError:
        raise not_unicode(labels) from None


def not_unicode(labels: list[Any]) -> InputError:
    row = next(r for r, x in enumerate(labels) if _SURROGATE.search(str(x)))
    return InputError(
        f"labels: {show(labels[row])} in row {row} holds a lone surrogate, which UTF-8 cannot "
        "hold; mend it where it was decoded"
    )

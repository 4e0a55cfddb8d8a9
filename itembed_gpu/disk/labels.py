"""Labels on disk: as JSON that keeps their types, and as the words of a word2vec file."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ..checks import show
from ..errors import DataError, InputError
from .files import replacing

_TINY_OFFSET = re.compile(r"([+-])00:00:00\.(\d{6})$")
_SPACE = re.compile(r"\s")
_SURROGATE = re.compile("[\ud800-\udfff]")


# What a damaged or made-up file of labels makes Python raise.
_DECODING = (
    OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
    MemoryError,
)  # fmt: skip


class _Codec(NamedTuple):
    """How labels of one type are held in JSON."""

    kind: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _same(label: Any) -> Any:
    return label


def _encode_number(label: float | Decimal) -> str:
    if label != label:
        raise InputError(
            f"labels: {show(label)} equals no label, not even itself; leave such items out"
        )
    return str(label)  # from which the same number is read


def _decode_number(kind: type[float] | type[Decimal], text: str) -> float | Decimal:
    number = kind(text)
    if number != number or not isinstance(text, str):
        raise ValueError(f"{show(text)} is no number")
    return number


def _encode_moment(label: datetime | time) -> str | list[Any]:
    """As ISO 8601 has it; beside it the name of a zone, and which of two equal hours it is."""
    zone = label.tzinfo
    if zone is None or type(zone) is timezone:
        return [label.isoformat(), None, 1] if label.fold else label.isoformat()
    if type(zone) is not ZoneInfo or zone.key is None:
        raise InputError(
            f"labels: {show(label)} is in a time zone of type {type(zone).__name__}, which cannot "
            "be saved; convert such labels with .astimezone(datetime.timezone.utc)"
        )
    return [label.replace(tzinfo=None).isoformat(), zone.key, label.fold]


def _decode_moment(kind: type[datetime] | type[time], value: str | list[Any]) -> datetime | time:
    text, zone, fold = (value, None, 0) if isinstance(value, str) else value
    label = kind.fromisoformat(text)
    offset = _TINY_OFFSET.search(text)
    if offset is not None:
        # Python reads an offset of less than a second as none.
        tiny = timedelta(microseconds=int("".join(offset.groups())))
        label = label.replace(tzinfo=timezone(tiny))
    if zone is not None:
        label = label.replace(tzinfo=ZoneInfo(zone))
    return label.replace(fold=fold)


def _encode_duration(label: timedelta) -> list[int]:
    return [label.days, label.seconds, label.microseconds]


def _decode_duration(parts: list[int]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _encode_tuple(label: tuple[Any, ...]) -> list[list[Any]]:
    """Each part with the name of its type."""
    parts = []
    for part in label:
        name = _NAMES.get(type(part))
        if name is None:
            raise _foreign(label, part)
        parts.append([name, _CODECS[name].encode(part)])
    return parts


def _decode_tuple(parts: list[list[Any]]) -> tuple[Any, ...]:
    return tuple(_decode([_CODECS[name] for name, _ in parts], [value for _, value in parts]))


def _decode(codecs: Iterable[_Codec], values: list[Any]) -> list[Any]:
    codecs = list(codecs)
    labels = [codec.decode(value) for codec, value in zip(codecs, values, strict=True)]
    if list(map(type, labels)) != [codec.kind for codec in codecs]:
        raise TypeError("a label is not of its type")
    return labels


_CODECS = {
    "str": _Codec(str, _same, _same),
    "int": _Codec(int, _same, _same),
    "date": _Codec(date, date.isoformat, date.fromisoformat),
    "datetime": _Codec(datetime, _encode_moment, lambda value: _decode_moment(datetime, value)),
    "uuid": _Codec(UUID, str, UUID),
    "float": _Codec(float, _encode_number, lambda text: _decode_number(float, text)),
    "bool": _Codec(bool, _same, _same),
    "bytes": _Codec(bytes, bytes.hex, bytes.fromhex),
    "decimal": _Codec(Decimal, _encode_number, lambda text: _decode_number(Decimal, text)),
    "time": _Codec(time, _encode_moment, lambda value: _decode_moment(time, value)),
    "timedelta": _Codec(timedelta, _encode_duration, _decode_duration),
    "tuple": _Codec(tuple, _encode_tuple, _decode_tuple),
}
_NAMES = {codec.kind: name for name, codec in _CODECS.items()}


def check_savable(labels: list[Any]) -> None:
    """Raise the `InputError` that saving these labels would: before a training, which is long."""
    if set(map(type, labels)) != {str}:
        encode_labels(labels)
    else:
        try:
            "".join(labels).encode("utf-8")
        except UnicodeEncodeError:
            raise not_unicode(labels) from None


def encode_labels(labels: list[Any]) -> bytes:
    """The labels as JSON; with the type of each one only where there are several types."""
    kinds = set(map(type, labels))
    foreign = kinds - _NAMES.keys()
    if foreign:
        row, label = next((r, x) for r, x in enumerate(labels) if type(x) in foreign)
        raise _foreign(label, label, row)
    types = [name for name, codec in _CODECS.items() if codec.kind in kinds]
    document: dict[str, Any] = {"types": types}
    if len(types) > 1:
        number = {_CODECS[name].kind: i for i, name in enumerate(types)}
        document["type_of"] = [number[type(label)] for label in labels]
    encode = {codec.kind: codec.encode for codec in _CODECS.values()}
    try:
        if all(encode[kind] is _same for kind in kinds):
            document["labels"] = labels
        else:
            document["labels"] = [encode[type(label)](label) for label in labels]
        return json.dumps(document, ensure_ascii=False).encode("utf-8")
    except InputError:
        raise
    except UnicodeEncodeError:
        raise not_unicode(labels) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"labels: {error}; convert such labels to str") from None


def decode_labels(path: Path) -> list[Any]:
    """Read labels. Raises a `DataError` if the file does not hold some."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: does not hold labels ({error})") from error
    return parse_labels(data, path)


def parse_labels(data: bytes, where: Any) -> list[Any]:
    """Return what `encode_labels` has encoded; else raise a `DataError` that says where."""
    try:
        document = json.loads(data)
        codecs = [_CODECS[name] for name in document["types"]]
        values = document["labels"]
        if len(codecs) > 1:
            return _decode((codecs[number] for number in document["type_of"]), values)
        return _decode(codecs * len(values), values)
    except _DECODING as error:
        raise DataError(f"{where}: does not hold labels ({error})") from error


def _foreign(label: Any, part: Any, row: int | None = None) -> InputError:
    where = f"in row {row} " if row is not None else f"holds {show(part)}, which "
    return InputError(
        f"labels: {show(label)} {where}is of type {type(part).__name__}, which cannot be saved; "
        "convert such labels to str or int"
    )


def write_word2vec(
    path: Path,
    labels: list[Any],
    vectors: Any,
    *,
    binary: bool,
    replace_space: str | None,
    vocabulary: Path | None = None,
    counts: NDArray[np.int64] | None = None,
) -> None:
    """Write a word2vec file, in the place of an older one, once it is whole.

    Vectors are a table (n, D) that can be iterated over. A word and its count are a line of the
    vocabulary, if there is to be one. Raises `InputError`, with nothing written, if the labels make
    no words or `path` or `vocabulary` is no file in a folder.
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
            for word, vector in zip(words, vectors, strict=True):
                file.write(b"%s %s\n" % (word, vector.astype("<f4", copy=False).tobytes()))
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
    row = next(r for r, x in enumerate(labels) if _SURROGATE.search(_text_of(x)))
    return InputError(
        f"labels: {show(labels[row])} in row {row} holds a lone surrogate, which UTF-8 cannot "
        "hold; mend it where it was decoded"
    )


def _text_of(label: Any) -> str:
    """The text of a label; of a tuple, that of its parts, which Python shows with escapes."""
    return "".join(map(_text_of, label)) if isinstance(label, tuple) else str(label)

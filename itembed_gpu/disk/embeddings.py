"""How embeddings are kept on disk: a folder to load again, or a word2vec file for others.

A saved folder holds::

    embeddings.json             what is current: format, version, metadata, and
                                the name, size and checksum of the files below
    labels-000002.json          the labels and their types
    vectors-000002.safetensors  vectors, and context and counts where there are any

Data files are never overwritten. Each save writes a new generation of them,
then replaces ``embeddings.json`` in one step, and only then removes the older
generations. Wherever a save is interrupted, the folder loads either as it was
or as it was to be.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ..checks import show
from ..errors import DataError, InputError

_FORMAT = "itembed_gpu.embeddings"
_VERSION = 1
_INDEX = "embeddings.json"

_DATA_FILE = re.compile(r"labels-\d{6,}\.json|vectors-\d{6,}\.safetensors")
# What an interrupted save leaves: our own temporary index, or a file of safetensors 0.8.
_TEMPORARY = re.compile(r"\.embeddings\.json\.\d+\.tmp|\.tmp\w{6}")
_TINY_OFFSET = re.compile(r"([+-])00:00:00\.(\d{6})$")
_SPACE = re.compile(r"\s")
_SURROGATE = re.compile("[\ud800-\udfff]")

# -------------------------------------------------------------------- folders


def next_generation(folder: Path) -> int:
    """Return the number of the next save, once it is sure to destroy nothing of others.

    Raises `InputError` if `folder` is a file, or holds what no save wrote.
    """
    if (folder / _INDEX).exists():
        try:
            generation: int = _read_index(folder)["generation"]
        except DataError as error:
            raise InputError(
                f"path: what {folder} holds would be lost; save to another folder ({error})"
            ) from error
        return generation + 1
    if folder.is_dir():
        foreign = [entry.name for entry in folder.iterdir() if not _is_ours(entry.name)]
        if foreign:
            raise InputError(
                f"path: {folder} holds {min(foreign)!r}, which no save wrote; use another"
            )
    elif folder.exists():
        raise InputError(f"path: {folder} is a file; save to a folder")
    return 1


def write_folder(
    folder: Path, labels: list[Any], tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]
) -> None:
    """Save to a folder, in the place of what was saved there before, if anything was.

    Raises `InputError`, with nothing written, if the labels cannot be saved or
    the folder is not for saving to.
    """
    from safetensors.numpy import save_file

    encoded = encode_labels(labels)
    generation = next_generation(folder)

    folder.mkdir(parents=True, exist_ok=True)
    labels_path = folder / f"labels-{generation:06}.json"
    vectors_path = folder / f"vectors-{generation:06}.safetensors"
    labels_path.write_bytes(encoded)
    sync(labels_path)
    save_file(tensors, vectors_path)
    # safetensors 0.8 makes its files private to their owner, whatever the umask.
    shutil.copymode(labels_path, vectors_path)
    sync(vectors_path)
    sync_folder(folder)

    index = {
        "format": _FORMAT,
        "version": _VERSION,
        "generation": generation,
        "files": {"labels": _described(labels_path), "vectors": _described(vectors_path)},
        "metadata": metadata,
    }
    with replacing(folder / _INDEX) as file:
        file.write(json.dumps(index, indent=2).encode("ascii"))
    _sweep(folder, keep={labels_path.name, vectors_path.name})


def read_folder(folder: Path) -> tuple[list[Any], dict[str, NDArray[Any]], Any]:
    """Return the labels, the arrays ("vectors" among them) and the metadata of a saved folder.

    Raises `DataError` if something is missing, damaged, or of another version.
    """
    while True:
        index = _read_index(folder)
        try:
            labels = decode_labels(_verified(folder, index, "labels"))
            tensors = _read_tensors(_verified(folder, index, "vectors"))
        except DataError:
            # A save that ended meanwhile has removed these files: read those it wrote.
            if _read_index(folder) == index:
                raise
        else:
            return labels, tensors, index.get("metadata")


def _read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if "vectors" not in tensors:
        raise DataError(f"{path}: cannot be read (it holds no vectors)")
    return tensors


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / _INDEX
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {reason}; name one that save wrote")
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name a folder that save wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); save the embeddings again") from error
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise DataError(f"{path}: is not of the format {_FORMAT}; name a folder that save wrote")
    if index.get("version") != _VERSION:
        raise DataError(
            f"{path}: is of version {show(index.get('version'))}, where this itembed_gpu reads "
            f"version {_VERSION}; upgrade itembed_gpu"
        )
    if type(index.get("generation")) is not int:
        raise DataError(f"{path}: names no generation; save the embeddings again")
    return index


def _described(path: Path) -> dict[str, Any]:
    import hashlib

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "size": path.stat().st_size, "sha256": digest}


def _verified(folder: Path, index: dict[str, Any], role: str) -> Path:
    """The file that the index names for this role, if it is the one that was saved."""
    try:
        recorded = index["files"][role]
        path: Path = folder / recorded["name"]
        size, digest = recorded["size"], recorded["sha256"]
        known = _DATA_FILE.fullmatch(path.name) and path.parent == folder
    except (KeyError, TypeError):
        known = None
    if not known:
        raise DataError(f"{folder / _INDEX}: names no file of {role}; save the embeddings again")
    try:
        found = _described(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); save again") from error
    if found["size"] != size:
        raise DataError(
            f"{path}: has {found['size']} bytes where {_INDEX} records {size}; it was "
            "truncated or altered: save the embeddings again"
        )
    if found["sha256"] != digest:
        raise DataError(f"{path}: was altered after it was saved; save the embeddings again")
    return path


def _is_ours(name: str) -> bool:
    return bool(_DATA_FILE.fullmatch(name) or _TEMPORARY.fullmatch(name))


def _sweep(folder: Path, keep: set[str]) -> None:
    """Remove the files of older generations, and what interrupted saves left."""
    for entry in folder.iterdir():
        if _is_ours(entry.name) and entry.name not in keep:
            with contextlib.suppress(OSError):  # in use, on Windows: the next save removes it
                entry.unlink()


# ---------------------------------------------------------------------- files


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, in one step, when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Wait until the file is on disk, not only in memory."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows opens no folder, and some disks sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_word2vec(
    path: Path,
    labels: list[Any],
    vectors: NDArray[np.float32],
    *,
    binary: bool,
    replace_space: str | None,
) -> None:
    """Write a word2vec file, in the place of an older one, once it is whole.

    Raises `InputError`, with nothing written, if the labels make no words or
    `path` is no file in a folder.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"path: {path} is a folder or in no folder; name a file in a folder")
    words = _words(labels, replace_space)
    with replacing(path) as file:
        file.write(b"%d %d\n" % vectors.shape)
        if binary:
            for word, vector in zip(words, vectors.astype("<f4", copy=False), strict=True):
                file.write(b"%s %s\n" % (word, vector.tobytes()))
        else:
            line = b"%s" + b" %.9g" * vectors.shape[1] + b"\n"
            for word, vector in zip(words, vectors, strict=True):
                file.write(line % (word, *vector.tolist()))


# --------------------------------------------------------------------- labels


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
        raise _not_unicode(labels) from None
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


def _words(labels: list[Any], replace_space: str | None) -> list[bytes]:
    """The labels as word2vec can hold them: not empty, without white space, all different."""
    try:
        words = [str(label) for label in labels]
    except ValueError as error:
        raise InputError(f"labels: {error}; convert such labels to str") from None
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
        raise _not_unicode(labels) from None


def _not_unicode(labels: list[Any]) -> InputError:
    row = next(r for r, x in enumerate(labels) if _SURROGATE.search(str(x)))
    return InputError(
        f"labels: {show(labels[row])} in row {row} holds a lone surrogate, which UTF-8 cannot "
        "hold; mend it where it was decoded"
    )

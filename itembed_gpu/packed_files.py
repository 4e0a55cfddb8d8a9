"""How packed itemsets are kept on disk: a folder of arrays, which are mapped and not read.

A saved folder holds::

    itemsets.json           what is current: format, version, what was dropped, and the name,
                            size and checksums of the files below
    labels-000002.json      the labels and their types
    indices-000002.npy      int32, num_item
    offsets-000002.npy      int32 or int64, num_itemset + 1
    counts-000002.npy       int64, num_label
    weights-000002.npy      float32, num_item, where there are any

As for embeddings (`storage`), data files are never overwritten: each save writes a new
generation, and ``itemsets.json`` is replaced last, in one step.

To open a folder takes no time and no memory, however large it is: sizes and headers are compared
with ``itemsets.json``, and the arrays are mapped. Their blocks' checksums are compared before
the first use that reads them all anyway: `checks.vector` asks for it, which stands before every
task, and so does ``PackedItemsets.verify``.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import show
from .errors import DataError, InputError
from .storage import decode_labels, encode_labels, replacing, sync, sync_folder

FORMAT = "itembed_gpu.itemsets"
VERSION = 1
INDEX = "itemsets.json"
# What one checksum stands for.
BLOCK = 1 << 22

_DTYPES = {
    "indices": (np.int32,),
    "offsets": (np.int32, np.int64),
    "counts": (np.int64,),
    "weights": (np.float32,),
}
_DATA_FILE = re.compile(r"(labels-\d{6,}\.json|(indices|offsets|counts|weights)-\d{6,}\.npy)")
_TEMPORARY = re.compile(r"\.itemsets\.json\.\d+\.tmp")


class Packed(NamedTuple):
    """What a folder holds; the arrays are mapped."""

    labels: list[Any]
    arrays: dict[str, npt.NDArray[Any]]
    dropped: dict[str, int]


class CheckedMap(np.memmap):
    """A mapped array that knows how to compare its file with its checksums, once."""

    check: Callable[[], None] | None = None

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self.check = getattr(obj, "check", None)


def is_packed(path: Path) -> bool:
    """Whether a path is a folder of packed itemsets."""
    return (path / INDEX).is_file()


def write_packed(
    folder: Path, labels: list[Any], arrays: dict[str, npt.NDArray[Any]], dropped: dict[str, int]
) -> None:
    """Save to a folder, in the place of what was saved there before, if anything was.

    Raises `InputError`, with nothing written, if the labels cannot be saved or the folder is not
    for saving to, and `DataError`, with nothing changed, if the disk does not take it.
    """
    encoded = encode_labels(labels)
    generation = _next_generation(folder)
    paths: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths["labels"] = folder / f"labels-{generation:06}.json"
        paths["labels"].write_bytes(encoded)
        for name, array in arrays.items():
            paths[name] = folder / f"{name}-{generation:06}.npy"
            with paths[name].open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        for path in paths.values():
            sync(path)
        sync_folder(folder)
        index = {
            "format": FORMAT,
            "version": VERSION,
            "generation": generation,
            "block": BLOCK,
            "files": {
                name: {"name": path.name, "size": path.stat().st_size, "crc32": _checksums(path)}
                for name, path in paths.items()
            },
            "dropped": dropped,
        }
        with replacing(folder / INDEX) as file:
            file.write(json.dumps(index).encode("ascii"))
    except BaseException as error:
        for path in paths.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise DataError(f"{folder}: cannot be written: {reason}; nothing was saved") from error
        raise
    _sweep(folder, {path.name for path in paths.values()})


def read_packed(folder: Path) -> Packed:
    """Open a folder: sizes, headers and labels are checked, the rest is mapped.

    Raises `DataError` if something is missing, damaged, or of another version.
    """
    index = _read_index(folder)
    files = {name: _located(folder, index, name) for name in index["files"]}
    missing = {"labels", "indices", "offsets", "counts"} - files.keys()
    if missing:
        raise DataError(f"{folder / INDEX}: names no file of {min(missing)}; pack again")
    _verify_file(files["labels"], index, "labels")
    labels = decode_labels(files.pop("labels"))
    arrays = {name: _map(path, index, name) for name, path in files.items()}
    num_item, dropped = len(arrays["indices"]), index.get("dropped")
    fits = (
        len(arrays["counts"]) == len(labels)
        and len(arrays["offsets"]) > 0
        and len(arrays.get("weights", arrays["indices"])) == num_item
    )
    if not fits or not isinstance(dropped, dict):
        raise DataError(f"{folder}: its files do not go together; pack again")
    return Packed(labels, arrays, dropped)


def verify_packed(folder: Path) -> int:
    """Compare every block of a folder with its checksum.

    Returns
    -------
    int
        Bytes that were read.

    Raises
    ------
    DataError
        A block was altered, or the folder cannot be opened.
    """
    read_packed(folder)
    index = _read_index(folder)
    for name in index["files"]:
        _verify_file(_located(folder, index, name), index, name)
    return sum(record["size"] for record in index["files"].values())


def _map(path: Path, index: dict[str, Any], name: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); pack again") from error
    if array.ndim != 1 or array.dtype not in _DTYPES[name]:
        raise DataError(f"{path}: holds {array.dtype} of shape {array.shape}; pack again")
    mapped = array.view(CheckedMap)
    done = False

    def check() -> None:
        nonlocal done
        if not done:
            _verify_file(path, index, name)
            done = True

    mapped.check = check
    return mapped


def _checksums(path: Path) -> list[int]:
    with path.open("rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]


def _verify_file(path: Path, index: dict[str, Any], name: str) -> None:
    """Raise a `DataError` that names the first block that differs."""
    size, expected = index["block"], index["files"][name]["crc32"]
    number = 0
    try:
        with path.open("rb") as file:
            for number, block in enumerate(iter(lambda: file.read(size), b"")):
                if number >= len(expected) or zlib.crc32(block) != expected[number]:
                    raise DataError(
                        f"{path}: bytes {number * size} to {number * size + len(block) - 1} were "
                        "altered after they were saved; pack again"
                    )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); pack again") from error


def _located(folder: Path, index: dict[str, Any], name: str) -> Path:
    """The file of that name, if it has the size that was recorded."""
    try:
        record = index["files"][name]
        path: Path = folder / record["name"]
        size = record["size"]
        known = name in (*_DTYPES, "labels") and _DATA_FILE.fullmatch(path.name)
        if not known or not isinstance(record["crc32"], list) or path.parent != folder:
            raise TypeError
    except (KeyError, TypeError):
        raise DataError(f"{folder / INDEX}: names no file of {name}; pack again") from None
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); pack again") from error
    if found != size:
        raise DataError(
            f"{path}: has {found} bytes where {INDEX} records {size}; it was truncated or "
            "altered: pack again"
        )
    return path


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name a folder of packed itemsets") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); pack again") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise DataError(f"{path}: is not of the format {FORMAT}; name a folder of packed itemsets")
    if index.get("version") != VERSION:
        raise DataError(
            f"{path}: is of version {show(index.get('version'))}, where this itembed_gpu reads "
            f"version {VERSION}; upgrade itembed_gpu, or pack again"
        )
    whole = type(index.get("generation")) is int and type(index.get("block")) is int
    if not whole or index["block"] < 1 or not isinstance(index.get("files"), dict):
        raise DataError(f"{path}: lacks its generation, block or files; pack again")
    return index


def _next_generation(folder: Path) -> int:
    """The number of the next save, once it is sure to destroy nothing of others."""
    if (folder / INDEX).exists():
        try:
            return int(_read_index(folder)["generation"]) + 1
        except DataError as error:
            raise InputError(
                f"path: what {folder} holds would be lost; save to another folder ({error})"
            ) from error
    if folder.is_dir():
        foreign = [entry.name for entry in folder.iterdir() if not _is_ours(entry.name)]
        if foreign:
            raise InputError(
                f"path: {folder} holds {min(foreign)!r}, which no packing wrote; use another folder"
            )
    elif folder.exists():
        raise InputError(f"path: {folder} is a file; save to a folder")
    return 1


def _is_ours(name: str) -> bool:
    return bool(_DATA_FILE.fullmatch(name) or _TEMPORARY.fullmatch(name))


def _sweep(folder: Path, keep: set[str]) -> None:
    """Remove the files of older generations, and what interrupted saves left."""
    for entry in folder.iterdir():
        if _is_ours(entry.name) and entry.name not in keep:
            with contextlib.suppress(OSError):  # mapped, on Windows: the next save removes it
                entry.unlink()

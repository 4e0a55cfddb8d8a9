"""How packed itemsets are kept on disk: a folder of arrays, which are mapped and not read.

A saved folder holds::

    itemsets.json           what is current: format, version, what was dropped, and the name,
                            size and checksums of the files below
    labels-000002.json      the labels and their types
    indices-000002.npy      int32, num_item
    offsets-000002.npy      int32 or int64, num_itemset + 1
    counts-000002.npy       int64, num_label
    weights-000002.npy      float32, num_item, where there are any

How it changes as a whole or not at all, `folders` says.

To open a folder takes no time and no memory, however large it is: sizes and headers are compared
with ``itemsets.json``, and the arrays are mapped. Their blocks' checksums are compared before
the first use that reads them all anyway: `checks.vector` asks for it, which stands before every
task, and so does ``PackedItemsets.verify``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .files import disk_errors
from .folders import Kind
from .labels import decode_labels, encode_labels

_DTYPES = {
    "indices": (np.int32,),
    "offsets": (np.int32, np.int64),
    "counts": (np.int64,),
    "weights": (np.float32,),
}
KIND = Kind(
    index="itemsets.json",
    format="itembed_gpu.itemsets",
    version=1,
    files={"labels": ".json", **dict.fromkeys(_DTYPES, ".npy")},
    what="packed itemsets",
    cure="pack again",
)


class CheckedMap(np.memmap):
    """A mapped array that knows how to compare its file with its checksums, once."""

    check: Callable[[], None] | None = None

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self.check = getattr(obj, "check", None)


def is_packed(path: Path) -> bool:
    """Whether a path is a folder of packed itemsets."""
    return (path / KIND.index).is_file()


def write_files(
    folder: Path,
    labels: list[Any],
    files: dict[str, Callable[[Path], Any]],
    dropped: dict[str, int],
) -> None:
    """Save to a folder, in the place of what was saved there before, if anything was.

    What writes the file of each array is given: they need not be in memory. Raises `InputError`,
    with nothing written, if the labels cannot be saved or the folder is not for saving to, and
    `DataError`, with nothing changed, if the disk does not take it.
    """
    encoded = encode_labels(labels)
    with disk_errors(folder):
        KIND.write(
            folder,
            {**files, "labels": lambda path: path.write_bytes(encoded)},
            {"dropped": dropped},
        )


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array to a file of NumPy's."""
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_packed(folder: Path) -> tuple[list[Any], dict[str, npt.NDArray[Any]], dict[str, int]]:
    """Open a folder: its labels, its arrays, and what was dropped.

    Sizes, headers and labels are checked; the arrays are mapped.
    Raises `DataError` if something is missing, damaged, or of another version.
    """
    index = KIND.read_index(folder)
    files = {name: KIND.locate(folder, index, name) for name in index["files"]}
    missing = {"labels", "indices", "offsets", "counts"} - files.keys()
    if missing:
        raise DataError(f"{folder / KIND.index}: names no file of {min(missing)}; pack again")
    labels = decode_labels(KIND.verified(folder, index, "labels"))
    del files["labels"]
    arrays = {name: _map(path, index, name) for name, path in files.items()}
    num_item, dropped = len(arrays["indices"]), index.get("dropped")
    fits = (
        len(arrays["counts"]) == len(labels)
        and len(arrays["offsets"]) > 0
        and len(arrays.get("weights", arrays["indices"])) == num_item
    )
    if not fits or not isinstance(dropped, dict):
        raise DataError(f"{folder}: its files do not go together; pack again")
    return labels, arrays, dropped


def verify_packed(folder: Path) -> int:
    """Compare every block of a folder with its checksum, and return how many bytes were read.

    Raises a `DataError` if a block was altered, or the folder cannot be opened.
    """
    read_packed(folder)
    index = KIND.read_index(folder)
    for name in index["files"]:
        KIND.verified(folder, index, name)
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
            KIND.verify_map(array._mmap, path, index, name)  # type: ignore[attr-defined]
            done = True

    mapped.check = check
    return mapped

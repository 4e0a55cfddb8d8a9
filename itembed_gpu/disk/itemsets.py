"""How packed itemsets are kept on disk: a folder of arrays, which are mapped and not read.

A saved folder holds::

    itemsets.json             what is current: format, version, what was dropped, its own
                              checksum, and name, size and checksums of the files below
    labels-000002....json     the labels and their types
    indices-000002....npy     int32, num_item
    offsets-000002....npy     int32 or int64, num_itemset + 1
    counts-000002....npy      int64, num_label
    weights-000002....npy     float32, num_item, where there are any

How it changes as a whole or not at all, `folders` says.

To open a folder takes no time and no memory, however large it is: sizes and headers are compared
with ``itemsets.json``, and the arrays are mapped. Their blocks' checksums are compared, and their
values with their bounds, before the first use that reads them all anyway: `checks.vector` asks for
it, which stands before every task, and so does ``PackedItemsets.verify``. Labels and counts, as
large as the catalog alone, are compared at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import checks
from ..errors import DataError, InputError
from .files import disk_errors
from .folders import Kind
from .labels import decode_labels

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


# Values that are compared with their bounds at once.
_PIECE = 1 << 22


class CheckedMap(np.memmap):
    """A mapped array that knows how to compare its file with its checksums, once."""

    check: Callable[[], None]

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        if hasattr(obj, "check"):
            self.check = obj.check


def is_packed(path: Path) -> bool:
    """Whether a path is a folder of packed itemsets."""
    return (path / KIND.index).is_file()


def write_files(
    folder: Path,
    labels: bytes,
    files: dict[str, Callable[[Path], Any]],
    dropped: dict[str, int],
) -> None:
    """Save to a folder, in the place of what was saved there before, if anything was.

    Labels come as `encode_labels` made them, and what writes the file of each array is given:
    they need not be in memory. Raises `InputError`, with nothing written, if the folder is not for
    saving to, and `DataError`, with nothing changed, if the disk does not take it.
    """
    with disk_errors(folder):
        KIND.write(
            folder,
            {**files, "labels": lambda path: path.write_bytes(labels)},
            {"dropped": dropped},
        )


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array to a file of NumPy's, which has the name of its part."""
    name = path.name.partition("-")[0]
    if array.dtype not in _DTYPES[name]:
        wanted = " or ".join(np.dtype(dtype).name for dtype in _DTYPES[name])
        raise InputError(f"{name} is of {array.dtype}, which could not be loaded; pass {wanted}")
    write_parts(path, array.size, array.dtype, [np.ascontiguousarray(array)])


def write_parts(path: Path, size: int, dtype: np.dtype[Any], parts: Iterable[Any]) -> None:
    """Write an array of one axis to a file of NumPy's, part by part."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": (size,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.data)  # unlike `tofile`, it says why a disk does not take it


def read_packed(folder: Path) -> tuple[list[Any], dict[str, CheckedMap], dict[str, int]]:
    """Open a folder: its labels, its arrays, and what was dropped.

    Sizes, headers and labels are checked; the arrays are mapped.
    Raises `DataError` if something is missing, damaged, or of another version.
    """
    return KIND.settled(folder, lambda index: _read(folder, index))


def _read(
    folder: Path, index: dict[str, Any]
) -> tuple[list[Any], dict[str, CheckedMap], dict[str, int]]:
    files = {name: KIND.locate(folder, index, name) for name in index["files"]}
    missing = {"labels", "indices", "offsets", "counts"} - files.keys()
    if missing:
        raise DataError(f"{folder / KIND.index}: names no file of {min(missing)}; pack again")
    labels = decode_labels(KIND.verified(folder, index, "labels"))
    maps = {name: _map(path) for name, path in files.items() if name != "labels"}
    num_item, dropped = len(maps["indices"]), index.get("dropped")
    fits = (
        all(maps[name].dtype in _DTYPES[name] for name in maps)
        and len(maps["counts"]) == len(labels)
        and len(maps["offsets"]) > 0
        and len(maps.get("weights", maps["indices"])) == num_item
    )
    if not fits or not isinstance(dropped, dict):
        raise DataError(f"{folder}: its files do not go together; pack again")
    arrays = {name: mapped.view(CheckedMap) for name, mapped in maps.items()}
    for name, array in arrays.items():
        array.check = _once(folder, index, name, maps[name], len(labels), num_item)
    arrays["counts"].check()
    return labels, arrays, dropped


def _map(path: Path) -> np.memmap[Any, Any]:
    try:
        array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # of the parsers of Python, which reads such headers
        raise DataError(f"{path}: cannot be read ({error}); pack again") from error
    if array.ndim != 1:
        raise DataError(f"{path}: holds an array of shape {array.shape}; pack again")
    return array


def _once(
    folder: Path, index: dict[str, Any], name: str, array: Any, num_label: int, num_item: int
) -> Callable[[], None]:
    """Return what compares an array with its checksums and its bounds, when first called."""
    path, done = folder / index["files"][name]["name"], False

    def check() -> None:
        nonlocal done
        if not done:
            KIND.verify_map(array._mmap, path, index, name)
            try:
                _check_bounds(name, array, num_label, num_item)
            except InputError as error:
                raise DataError(f"{path}: {error}; pack again") from error
            done = True

    return check


def _check_bounds(name: str, array: npt.NDArray[Any], num_label: int, num_item: int) -> None:
    """Raise an `InputError` if offsets are none of these items, or indices none of these labels."""
    if name == "offsets":
        checks.mapped_offsets(name, array, num_item)
    elif name in ("indices", "counts"):
        most = num_label - 1 if name == "indices" else np.iinfo(np.int64).max
        for start in range(0, len(array), _PIECE):
            part = array[start : start + _PIECE]
            if part.min() < 0 or part.max() > most:
                raise InputError(
                    f"{name} has values from {part.min()} to {part.max()}, where they go from 0 "
                    f"to {most}"
                )

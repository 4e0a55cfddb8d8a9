"""Files that appear whole or not at all, and files of tensors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from ..errors import DataError

Tensors = dict[str, npt.NDArray[Any]]


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


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Make a `DataError` of what a disk does not take, where nothing half-written stays."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}; nothing was saved"
        ) from error


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write a file of safetensors."""
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path)
    path.chmod(mode)  # safetensors makes its files private to their owner, whatever the umask


def read_tensors(path: Path, cure: str) -> Tensors:
    """Read a file of safetensors. Raises a `DataError` with this cure if that cannot be done."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: Tensors = load_file(path)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {cure}") from error
    return tensors

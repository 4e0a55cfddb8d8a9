"""Files that appear whole or not at all, folders of one writer at a time, and files of tensors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..checks import warn
from ..errors import DataError

Tensors = dict[str, npt.NDArray[Any]]

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
# Between two tries to be the only one that writes to a folder, and until that is told, in seconds.
_PAUSE = 0.02
_SILENCE = 3.0
# As safetensors names them, which is little-endian.
_DTYPES = {"F32": "<f4", "I64": "<i8"}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, in one step, when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with naming(path):
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
def naming(path: Path) -> Iterator[None]:
    """Have the errors of a disk name a file: those of writing to an open one do not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Make a `DataError` of what a disk does not take, where nothing half-written stays."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}; nothing was saved"
        ) from error


@contextlib.contextmanager
def writing_alone(folder: Path, patience: float) -> Iterator[bool]:
    """Be the only one that writes to a folder, which is made where there is none.

    Waits so many seconds for others, says so, and then raises a `TimeoutError`. The lock is the
    system's own, on the folder: it leaves no file, and dies with its process. Yields whether there
    is one, as Windows and some network disks have none. A folder that was made and is empty is
    removed.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    descriptor = None
    try:
        descriptor = _lock(folder, time.monotonic() + patience)
        yield descriptor is not None
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path, end: float) -> int | None:
    """Return an open and locked folder; None where there are no locks."""
    told = time.monotonic() + _SILENCE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            return None
        import fcntl

        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another one had made it, and removed it
        except PermissionError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise TimeoutError(
                    errno.ETIMEDOUT, "another process is writing to it", str(folder)
                ) from None
            if time.monotonic() > told:
                told = end
                warn(f"{folder}: waiting for another process to save to it")
            time.sleep(_PAUSE)
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write a file of safetensors. Raises an `OSError` if the disk does not take it."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise OSError(errno.EIO, str(error), str(path)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)  # safetensors makes its files private to their owner, whatever the umask


def read_tensors(path: Path, cure: str) -> Tensors:
    """Read a file of safetensors. Raises a `DataError` with this cure if that cannot be done."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: Tensors = load_file(path)
    except (OSError, KeyError, ValueError, TypeError, MemoryError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {cure}") from error
    return tensors


def map_tensors(path: Path, cure: str) -> Tensors:
    """Map a file of safetensors: its arrays are read only as they are used, and cannot be changed.

    Raises a `DataError` with this cure if that cannot be done.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy"):
            pass  # its header makes sense
        with path.open("rb") as file:
            begin = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(begin))
        header.pop("__metadata__", None)
        whole = np.memmap(path, mode="r").view(np.ndarray)[8 + begin :]
        return {
            name: whole[slice(*one["data_offsets"])]
            .view(_DTYPES[one["dtype"]])
            .reshape(one["shape"])
            for name, one in header.items()
        }
    except (OSError, KeyError, ValueError, TypeError, MemoryError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {cure}") from error

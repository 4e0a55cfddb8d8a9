"""Folders of data files and one index, which change as a whole or not at all.

A folder holds an index in JSON (what it is, its version, and the name, size and checksums of its
files) and the files, which have a generation in their names. Files are never overwritten: a save
writes a new generation of them, replaces the index in one step, and only then removes the older
generations. Wherever it is interrupted, the folder is either as it was or as it was to be.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import show
from ..errors import DataError, InputError
from .files import replacing, sync, sync_folder

# What one checksum stands for.
BLOCK = 1 << 22


@dataclass(frozen=True)
class Kind:
    """A kind of folder."""

    index: str  # name of the index
    format: str  # what the index says that it is
    version: int  # the one version that is read and written
    files: dict[str, str]  # suffixes of the files, by their names without generation
    what: str  # for people: what such a folder holds
    cure: str  # and what to do about one that is damaged
    # Each block of a file has a CRC-32 ("crc32"), so that a file that is mapped can be compared
    # as well; or all of it one SHA-256 ("sha256").
    checksum: str = "crc32"

    @property
    def _by_block(self) -> bool:
        return self.checksum == "crc32"

    def write(
        self, folder: Path, files: dict[str, Callable[[Path], Any]], content: dict[str, Any]
    ) -> None:
        """Save to a folder, in the place of what was saved there before, if anything was.

        The folder is made where there is none. `files` has what writes each file, given its path,
        and `content` what the index holds beside its files. Raises an `InputError` if the folder
        holds something else, which would be lost, and an `OSError` if the disk does not take it:
        the folder is as it was.
        """
        generation = self.next_generation(folder)
        paths = {name: folder / f"{name}-{generation:06}{self.files[name]}" for name in files}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, write in files.items():
                write(paths[name])
                sync(paths[name])
            sync_folder(folder)
            index = {
                "format": self.format,
                "version": self.version,
                "generation": generation,
                **({"block": BLOCK} if self._by_block else {}),
                "files": {name: self.describe(path) for name, path in paths.items()},
                **content,
            }
            with replacing(folder / self.index) as file:
                # The checksums of blocks may be many lines.
                indent = None if self._by_block else 2
                file.write(json.dumps(index, indent=indent).encode("ascii"))
        except BaseException:
            # Ctrl-C may come when the index is in its place already.
            if not self._is_current(folder, generation):
                for path in paths.values():
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
            raise
        self._sweep(folder, {path.name for path in paths.values()})

    def describe(self, path: Path) -> dict[str, Any]:
        """Return what the index says of a file: its name, its size and its checksums."""
        found = checksums(path) if self._by_block else _digest(path)
        return {"name": path.name, "size": path.stat().st_size, self.checksum: found}

    def read_index(self, folder: Path) -> dict[str, Any]:
        """Return the index. Raises `DataError` if it cannot be used."""
        path = folder / self.index
        if not folder.is_dir():
            reason = "not a folder" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {reason}; name a folder of {self.what}")
        try:
            index = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; name a folder of {self.what}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read ({error}); {self.cure}") from error
        if not isinstance(index, dict) or index.get("format") != self.format:
            raise DataError(
                f"{path}: is not of the format {self.format}; name a folder of {self.what}"
            )
        if index.get("version") != self.version:
            raise DataError(
                f"{path}: is of version {show(index.get('version'))}, where this itembed_gpu reads "
                f"version {self.version}; upgrade itembed_gpu, or {self.cure}"
            )
        block = index.get("block") if self._by_block else BLOCK
        whole = type(index.get("generation")) is int and type(block) is int and block > 0
        if not whole or not isinstance(index.setdefault("files", {}), dict):
            raise DataError(f"{path}: lacks its generation, block or files; {self.cure}")
        return index

    def locate(self, folder: Path, index: dict[str, Any], name: str) -> Path:
        """Return the file of that name. Raises `DataError` if it has not the recorded size."""
        try:
            record = index["files"][name]
            path: Path = folder / record["name"]
            size = record["size"]
            known = self._is_file(path.name) and path.parent == folder
            has_sum = isinstance(record[self.checksum], list | str)
            if not known or name not in self.files or not has_sum:
                raise TypeError
        except (KeyError, TypeError):
            raise DataError(
                f"{folder / self.index}: names no file of {name}; {self.cure}"
            ) from None
        try:
            found = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); {self.cure}") from error
        if found != size:
            raise DataError(
                f"{path}: has {found} bytes where {self.index} records {size}; it was truncated "
                f"or altered: {self.cure}"
            )
        return path

    def verified(self, folder: Path, index: dict[str, Any], name: str) -> Path:
        """Return the file of that name, once it is compared with its checksums.

        Raises a `DataError`, which names the first block that differs.
        """
        path = self.locate(folder, index, name)
        try:
            if self._by_block:
                with path.open("rb") as file:
                    blocks = iter(lambda: file.read(index["block"]), b"")
                    self._compare(blocks, path, index, name)
            elif _digest(path) != index["files"][name]["sha256"]:
                raise DataError(f"{path}: was altered after it was saved; {self.cure}")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); {self.cure}") from error
        return path

    def verify_map(self, mapped: mmap.mmap, path: Path, index: dict[str, Any], name: str) -> None:
        """Do the same with a file that is mapped, and may have been replaced since."""
        size, expected = index["block"], index["files"][name]["size"]
        # Of the file, as it is now: to read what it has not any more would end the process.
        if not len(mapped) == mapped.size() == expected:
            raise DataError(
                f"{path}: has {mapped.size()} bytes where {self.index} records {expected}; it was "
                f"truncated or altered: {self.cure}"
            )
        blocks = (mapped[start : start + size] for start in range(0, expected, size))
        self._compare(blocks, path, index, name)

    def _compare(
        self, blocks: Iterable[bytes], path: Path, index: dict[str, Any], name: str
    ) -> None:
        size, expected = index["block"], index["files"][name]["crc32"]
        for number, block in enumerate(blocks):
            if number >= len(expected) or zlib.crc32(block) != expected[number]:
                raise DataError(
                    f"{path}: bytes {number * size} to {number * size + len(block) - 1} "
                    f"were altered after they were saved; {self.cure}"
                )

    def next_generation(self, folder: Path) -> int:
        """Return the number of the next save, once it is sure to destroy nothing of others."""
        if (folder / self.index).exists():
            try:
                return int(self.read_index(folder)["generation"]) + 1
            except DataError as error:
                raise InputError(
                    f"path: what {folder} holds would be lost; save to another folder ({error})"
                ) from error
        if folder.is_dir():
            foreign = [entry.name for entry in folder.iterdir() if not self._is_ours(entry.name)]
            if foreign:
                raise InputError(
                    f"path: {folder} holds {min(foreign)!r}, which is not of {self.what}; use "
                    "another folder"
                )
        elif folder.exists():
            raise InputError(f"path: {folder} is a file; save to a folder")
        return 1

    def _is_current(self, folder: Path, generation: int) -> bool:
        try:
            return bool(self.read_index(folder)["generation"] == generation)
        except DataError:
            return False

    def _is_file(self, name: str) -> bool:
        return any(
            re.fullmatch(rf"{known}-\d{{6,}}{re.escape(suffix)}", name)
            for known, suffix in self.files.items()
        )

    def _is_ours(self, name: str) -> bool:
        temporary = rf"\.{re.escape(self.index)}\.\d+\.tmp|\.tmp\w{{6}}"
        return bool(self._is_file(name) or re.fullmatch(temporary, name))

    def _sweep(self, folder: Path, keep: set[str]) -> None:
        """Remove the files of older generations, and what interrupted saves left."""
        for entry in folder.iterdir():
            if self._is_ours(entry.name) and entry.name not in keep:
                with contextlib.suppress(OSError):  # in use, on Windows: the next save removes it
                    entry.unlink()


def checksums(path: Path) -> list[int]:
    """CRC-32 of each block of a file."""
    with path.open("rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Folders of data files and one index, which change as a whole or not at all.

A folder holds an index in JSON (what it is, its version, and the name, size and checksums of its
files, with a checksum of its own) and the files, whose names end in a generation and a random
number. Files are never overwritten: a save writes a new generation of them, replaces the index in
one step, and only then removes the older generations. Wherever it is interrupted, the folder is
either as it was or as it was to be.

Of two that save at once, the second one waits until the first is done: they take turns with a lock
of the system on the folder (`files.writing_alone`), which a killed process cannot leave behind.
Where there are no locks, as on some network disks, their names do not meet: no index ever names a
file that another one wrote, the last index wins, and no file is removed but those that the index
before had named. Who reads meanwhile finds a file gone, and reads the new index.

What is read may come from strangers: only regular files of the folder itself are opened, sizes are
compared before contents, and each number of the index is checked before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..checks import show
from ..errors import DataError, InputError
from .files import naming, replacing, sync, sync_folder, writing_alone

T = TypeVar("T")

# What one checksum stands for.
BLOCK = 1 << 22
# For so many seconds a save waits until another one is done: that of large ones takes minutes.
PATIENCE = 600.0
_MOST_BLOCK = 1 << 30
_MOST_GENERATION = 10**12
# After the generation comes a random number of so many digits.
_RANDOM_DIGITS = 12


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
    # Of this name there may be several files, as NAME.0, NAME.1 and so on.
    several: str | None = None

    @property
    def _by_block(self) -> bool:
        return self.checksum == "crc32"

    def write(
        self,
        folder: Path,
        files: dict[str, Callable[[Path], Any]],
        content: dict[str, Any],
        added: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Save to a folder, in the place of what was saved there before, if anything was.

        The folder is made where there is none. `files` has what writes each file, given its path,
        and `content` what the index holds beside its files. Files that are there already, as `add`
        wrote them, come by what that returned.

        Raises an `InputError` if the folder holds something else, which would be lost, an `OSError`
        if the disk does not take it, or another process writes to the folder for long, and a
        `DataError` if what was added is gone: the folder is as it was.
        """
        self.next_generation(folder)  # refuses before it makes a folder
        with writing_alone(folder, PATIENCE) as alone:
            self.write_alone(folder, files, content, alone, added)

    def add(self, folder: Path, name: str, write: Callable[[Path], Any]) -> dict[str, Any]:
        """Write a file that no index names yet, and return what one has to say of it.

        Any processes may do so at once, also on machines that share the disk, and each again if it
        failed. What no `write` names in the end goes with the next one.
        """
        unique = self._new_name(self.next_generation(folder))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{unique}{self._suffix(name)}"
        try:
            record = self._write_files({name: path}, {name: write})[name]
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        sync_folder(folder)
        return record

    def _new_name(self, generation: int) -> str:
        return f"{generation:06}{secrets.randbelow(10**_RANDOM_DIGITS):0{_RANDOM_DIGITS}}"

    def _write_files(
        self, paths: dict[str, Path], files: dict[str, Callable[[Path], Any]]
    ) -> dict[str, dict[str, Any]]:
        """Write files, and return what the index says of each once they are on disk.

        While a file is brought to the disk, it is summed up, and the next one is written.
        """

        def synced(path: Path) -> None:
            with naming(path):
                sync(path)

        with ThreadPoolExecutor(2, "itembed_gpu-save") as beside:
            synchronized, records = [], {}
            for name, write in files.items():
                with naming(paths[name]):
                    write(paths[name])
                synchronized.append(_submit(beside, synced, paths[name]))
                records[name] = _submit(beside, self.describe, paths[name])
            for done in synchronized:
                done.result()
            return {name: record.result() for name, record in records.items()}

    def _suffix(self, name: str) -> str | None:
        """Return the suffix of the files of a name; None if there are none."""
        base, dot, number = name.partition(".")
        if dot and (base != self.several or not re.fullmatch("0|[1-9][0-9]{0,8}", number)):
            return None
        return self.files.get(base)

    def write_alone(
        self,
        folder: Path,
        files: dict[str, Callable[[Path], Any]],
        content: dict[str, Any],
        alone: bool,
        added: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Do the same while `writing_alone`, or not, as that told."""
        generation = self.next_generation(folder)
        unique, added = self._new_name(generation), added or {}
        for name in added:
            self.locate(folder, {"files": added}, name)
        paths = {name: folder / f"{name}-{unique}{self._suffix(name)}" for name in files}
        names = {path.name for path in paths.values()} | {one["name"] for one in added.values()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            records = self._write_files(paths, files)
            sync_folder(folder)
            index = {
                "format": self.format,
                "version": self.version,
                "generation": generation,
                **({"block": BLOCK} if self._by_block else {}),
                "files": records | added,
                **content,
            }
            # As it will be read: with strings as keys.
            index = sealed(json.loads(json.dumps(index)))
            # The checksums of blocks may be many lines.
            text = json.dumps(index, indent=None if self._by_block else 2).encode("ascii")
            before = self._current_names(folder)
            with replacing(folder / self.index) as file:
                file.write(text)
        except BaseException:
            # Ctrl-C may come when the index is in its place already.
            if self._current_names(folder) != names:
                for path in paths.values():
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
            raise
        self._sweep(folder, before if not alone else None, names)

    def describe(self, path: Path) -> dict[str, Any]:
        """Return what the index says of a file: its name, its size and its checksums."""
        found = checksums(path) if self._by_block else _digest(path)
        return {"name": path.name, "size": path.stat().st_size, self.checksum: found}

    def read_index(self, folder: Path) -> dict[str, Any]:
        """Return the index. Raises `DataError` if it cannot be used."""
        path = folder / self.index
        try:
            if not folder.is_dir():
                reason = "not a folder" if folder.exists() else "no such folder"
                raise DataError(f"{folder}: {reason}; name a folder of {self.what}")
            self._check_regular(path)
            index = json.loads(path.read_bytes())
            seal = sealed(index)["checksum"] if isinstance(index, dict) else None
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; name a folder of {self.what}") from None
        except DataError:
            raise
        except (OSError, ValueError, RecursionError, MemoryError) as error:
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
        # Those of earlier versions have no checksum.
        if "checksum" in index and index["checksum"] != seal:
            raise DataError(f"{path}: was altered after it was saved; {self.cure}")
        block = index.get("block") if self._by_block else BLOCK
        numbers = _is_integer(index.get("generation"), 1, _MOST_GENERATION)
        numbers = numbers and _is_integer(block, 1, _MOST_BLOCK)
        if not numbers or not isinstance(index.setdefault("files", {}), dict):
            raise DataError(f"{path}: lacks its generation, block or files; {self.cure}")
        return index

    def settled(self, folder: Path, read: Callable[[dict[str, Any]], T]) -> T:
        """Return what is read of a folder by its index, whatever is saved there meanwhile.

        A save that ends meanwhile removes the files that are to be read: then those that it wrote
        are read. Raises a `DataError` if that cannot be done.
        """
        while True:
            index = self.read_index(folder)
            try:
                return read(index)
            except DataError:
                if self.read_index(folder) == index:
                    raise

    def locate(self, folder: Path, index: dict[str, Any], name: str) -> Path:
        """Return the file of that name. Raises `DataError` if it has not the recorded size."""
        record = index["files"].get(name)
        if not self._is_record(record, name, index):
            raise DataError(f"{folder / self.index}: names no file of {name}; {self.cure}")
        path: Path = folder / record["name"]
        size = record["size"]
        try:
            found = self._check_regular(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); {self.cure}") from error
        if found != size:
            raise DataError(
                f"{path}: has {found} bytes where {self.index} records {size}; it was truncated "
                f"or altered: {self.cure}"
            )
        return path

    def _is_record(self, record: Any, name: str, index: dict[str, Any]) -> bool:
        """Whether an index tells of a file what it should."""
        if self._suffix(name) is None or not isinstance(record, dict):
            return False
        size: Any = record.get("size")
        sums: Any = record.get(self.checksum)
        if not self._is_file(record.get("name"), name) or not _is_integer(size, 0, 1 << 62):
            return False
        if not self._by_block:
            return isinstance(sums, str)
        return isinstance(sums, list) and len(sums) == -(-size // index["block"])

    def _check_regular(self, path: Path) -> int:
        """Return the size of a file, once it is sure that it is one, and in its folder."""
        found = path.stat()
        inside = not path.is_symlink() or path.resolve().parent == path.parent.resolve()
        if not stat.S_ISREG(found.st_mode) or not inside:
            raise DataError(
                f"{path}: is no regular file, or a link out of its folder; copy the file it "
                f"stands for to its place, or {self.cure}"
            )
        return found.st_size

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
        if folder.exists() and not folder.is_dir():
            raise InputError(f"path: {folder} is a file; save to a folder")
        if folder.is_dir():
            names = {entry.name for entry in folder.iterdir()} - {self.index}  # just saved
            foreign = [name for name in names if not self._is_ours(name)]
            if foreign:
                raise InputError(
                    f"path: {folder} holds {min(foreign)!r}, which is not of {self.what}; use "
                    "another folder"
                )
        return 1

    def _current_names(self, folder: Path) -> set[str]:
        """Return the names of the files that are current; none where the index cannot be read."""
        with contextlib.suppress(DataError):
            index = self.read_index(folder)
            return {
                record["name"]
                for name, record in index["files"].items()
                if self._is_record(record, name, index)
            }
        return set()

    def _is_file(self, name: Any, known: str | None = None) -> bool:
        """Whether a name is that of a file of this kind, or of that one."""
        found = isinstance(name, str) and re.fullmatch(r"([\w.]+)-[0-9]{6,}(\.\w+)", name)
        return bool(
            found and found[2] == self._suffix(found[1]) and (known is None or known == found[1])
        )

    def _is_ours(self, name: str) -> bool:
        temporary = rf"\.{re.escape(self.index)}\.\w+\.tmp|\.tmp\w{{6}}"
        return bool(self._is_file(name) or re.fullmatch(temporary, name))

    def _sweep(self, folder: Path, old: set[str] | None, keep: set[str]) -> None:
        """Remove the files of older generations, and what interrupted saves left.

        Of the older ones only those that are named, if any are: others may be somebody's.
        """
        for entry in folder.iterdir():
            mine = self._is_ours(entry.name) if old is None else entry.name in old
            if mine and entry.name not in keep:
                with contextlib.suppress(OSError):  # in use, on Windows: the next save removes it
                    entry.unlink()


def _submit(pool: ThreadPoolExecutor, function: Callable[[Path], T], path: Path) -> Future[T]:
    """Have a thread call a function; or call it here, as programs that end have no threads left."""
    try:
        return pool.submit(function, path)
    except RuntimeError:
        done: Future[T] = Future()
        done.set_result(function(path))
        return done


def sealed(index: dict[str, Any]) -> dict[str, Any]:
    """Return an index with its own checksum, of all that it says, however it is laid out."""
    content = {name: value for name, value in index.items() if name != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "checksum": hashlib.sha256(text.encode("ascii")).hexdigest()}


def _is_integer(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def checksums(path: Path) -> list[int]:
    """CRC-32 of each block of a file."""
    with path.open("rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What is spilled to the disk while files larger than memory are packed: see `out_of_memory`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array
from .loops import gather_runs

# How often a folder is to be removed, and seconds between.
_TRIES, _PAUSE = 20, 0.1
# Itemsets of a part that others are found by.
_NUM_MARK = 256
_RUN = np.dtype([("high", "u8"), ("low", "u8"), ("first", "i8"), ("length", "i8")])


class SpillFolder:
    """A folder for files to spill to.

    As a context, the files are closed at the end, and the folder is removed if an error ends it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._columns: list[Column] = []

    def column(self, name: str, dtype: npt.DTypeLike) -> Column:
        """Make a file for values."""
        column = Column(self.folder / name, dtype)
        self._columns.append(column)
        return column

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        for column in self._columns:
            column.save()
        if kind is not None:
            self.remove()

    def remove(self) -> None:
        """Remove the folder, with all that is in it."""
        for _ in range(_TRIES):  # a task that was given up may write to it still
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                break
            time.sleep(_PAUSE)


class WorkFolder(SpillFolder):
    """One beside the folder to write, and so on the same disk, which is removed at the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent / f".{path.name}.{os.getpid()}.spill")
        self._path = path

    def __enter__(self) -> Self:
        for old in self._path.parent.glob(f".{self._path.name}.*.spill"):
            process = old.name.split(".")[-2]
            # It was killed, and could not remove its own.
            if process.isdecimal() and not _is_running(int(process)):
                shutil.rmtree(old, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.remove()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


class Column:
    """Values in a file, which is appended to and read back in parts."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.size = 0
        self._file = path.open("w+b")
        self._path = path

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write values at the end."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self.size += len(values)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Read values back."""
        values = np.empty(max(0, stop - start), self.dtype)
        self._file.seek(start * self.dtype.itemsize)
        if self._file.readinto(values.view(np.uint8).data) != values.nbytes:
            raise OSError(f"{self._path} was cut short")
        return values

    def read_all(self, spans: Iterable[Any]) -> list[npt.NDArray[Any]]:
        """Read some parts of them."""
        return [self.read(*span) for span in spans]

    def parts(self, length: int) -> Iterator[npt.NDArray[Any]]:
        """Read all values back, at most so many at a time."""
        for start in range(0, self.size, length):
            yield self.read(start, min(start + length, self.size))

    def save(self) -> SavedColumn:
        """Close the file, and leave it for others to read."""
        self._file.close()
        return SavedColumn(self._path, self.dtype, self.size)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class SavedColumn(NamedTuple):
    """Values in a file that is whole, for any process to read."""

    path: Path
    dtype: np.dtype[Any]
    size: int

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Read values back."""
        return self.read_all([(start, stop)])[0]

    def read_all(self, spans: Iterable[Any]) -> list[npt.NDArray[Any]]:
        """Read some parts of them."""
        found = []
        with self.path.open("rb") as file:
            for start, stop in spans:
                file.seek(start * self.dtype.itemsize)
                found.append(np.fromfile(file, self.dtype, max(0, stop - start)))
                if len(found[-1]) < stop - start:
                    raise OSError(f"{self.path} was cut short")
        return found

    def save(self) -> SavedColumn:
        """Return it, as it is saved already."""
        return self

    def parts(self, length: int) -> Iterator[npt.NDArray[Any]]:
        """Read all values back, at most so many at a time."""
        for start in range(0, self.size, length):
            yield self.read(start, min(start + length, self.size))

    def map(self) -> npt.NDArray[Any]:
        """Map the values, of which there has to be one."""
        return np.memmap(self.path, self.dtype, "r")

    def all(self) -> npt.NDArray[Any]:
        """Read all values back."""
        return self.read(0, self.size)

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


AnyColumn = Column | SavedColumn


def _read(column: AnyColumn | None, spans: Iterable[Any]) -> Any:
    """Read some parts of a column, if there is one."""
    return None if column is None else np.concatenate(column.read_all(spans))


def named(codes: Int32Array, names: Int32Array) -> Int32Array:
    """Return the names of codes; those of -1 are -1."""
    if not len(names):
        return codes  # there is no other one
    found: Int32Array = names[codes]
    found[codes < 0] = -1
    return found


def reorder(order: Int64Array, lengths: Int64Array, *values: Any) -> list[Any]:
    """Copy runs of these lengths in another order: of their codes, and of weights, if any."""
    starts = np.cumsum(lengths) - lengths
    return [some if some is None else gather_runs(some, starts, lengths, order) for some in values]


class Runs:
    """Runs of rows, by partition: batch after batch, each ordered by partition."""

    def __init__(self, work: SpillFolder, num_partition: int, weights: bool) -> None:
        self.num_partition = num_partition
        self._runs = work.column("runs", _RUN)
        self._items = work.column("items", np.int32)
        self._weights = work.column("weights", np.float32) if weights else None
        self._bounds_path = work.folder / "bounds.npy"
        # Of each batch, where its runs and its items begin in the files, by partition.
        self._bounds: list[tuple[Int64Array, Int64Array]] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was added."""
        return not self._bounds

    def add(
        self,
        keys: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]],
        firsts: Int64Array,
        lengths: Int64Array,
        codes: Int32Array,
        weights: Float32Array | None,
    ) -> None:
        """Spill the runs of a batch; their items follow each other in ``codes``."""
        partitions = (keys[1] & np.uint64(self.num_partition - 1)).astype(np.uint16)
        order = np.argsort(partitions, kind="stable")
        runs = np.empty(len(order), _RUN)
        runs["high"], runs["low"] = keys[0][order], keys[1][order]
        runs["first"], runs["length"] = firsts[order], lengths[order]
        ends = np.concatenate([[0], np.cumsum(runs["length"])])
        bounds = np.searchsorted(partitions[order], np.arange(self.num_partition + 1))
        self._bounds.append((self._runs.size + bounds, self._items.size + ends[bounds]))
        self._runs.append(runs)
        codes, weights = reorder(order, lengths, codes, weights)
        self._items.append(codes)
        if self._weights is not None and weights is not None:
            self._weights.append(weights)

    def load(self, partition: int) -> RunsOfPartition:
        """Read the runs of a partition, in the order of their rows, their items and weights."""
        spans = [
            (runs[partition : partition + 2], items[partition : partition + 2])
            for runs, items in self._bounds
        ]
        return _load(self._runs, self._items, self._weights, spans)

    def save(self) -> SavedRuns:
        """Close the files, and leave them for others to read."""
        bounds = np.array(self._bounds, np.int64).reshape(-1, 2, self.num_partition + 1)
        path = self._bounds_path
        np.save(path, bounds)
        weights = None if self._weights is None else self._weights.save()
        return SavedRuns(self._runs.save(), self._items.save(), weights, path)

    def close(self) -> None:
        """Remove the files."""
        for column in (self._runs, self._items, self._weights):
            if column is not None:
                column.close()


RunsOfPartition = tuple[npt.NDArray[Any], Int32Array, Float32Array | None]


def _load(
    runs: AnyColumn, items: AnyColumn, weights: AnyColumn | None, spans: Sequence[Any]
) -> RunsOfPartition:
    of_runs, of_items = ([span[n] for span in spans] for n in (0, 1))
    return _read(runs, of_runs), _read(items, of_items), _read(weights, of_items)


class SavedRuns(NamedTuple):
    """Runs that a process has spilled, for any one to read."""

    runs: SavedColumn
    items: SavedColumn
    weights: SavedColumn | None
    bounds: Path

    def load(self, partition: int) -> RunsOfPartition | None:
        """Read the runs of a partition, as `Runs.load` does; None where nothing was added."""
        bounds = np.load(self.bounds, mmap_mode="r")
        if not len(bounds):
            return None
        spans = bounds[:, :, partition : partition + 2].tolist()
        return _load(self.runs, self.items, self.weights, spans)

    def close(self) -> None:
        """Remove the files."""
        for column in (self.runs, self.items, self.weights):
            if column is not None:
                column.close()


class Spilled(NamedTuple):
    """Files of itemsets: their first rows, their lengths, and all their codes and weights."""

    firsts: AnyColumn
    lengths: AnyColumn
    codes: AnyColumn
    weights: AnyColumn | None


class Part(NamedTuple):
    """Itemsets in a row in some files, ordered by their first rows.

    Attributes
    ----------
    files : Spilled
    start, stop : int
        Itemsets of these files.
    first_item : int
        Place of the first item.
    base : int
        What is to be added to first rows.
    names : SavedColumn or None
        What codes are called; None where they are called as they are.
    marks : int64, num_mark x 3, or None
        Some itemsets, to find others by: first row, number and first item.
    """

    files: Spilled
    start: int
    stop: int
    first_item: int
    base: int = 0
    names: SavedColumn | None = None
    marks: Int64Array | None = None

    def within(self, low: int, high: int) -> Part:
        """Return the itemsets whose first rows are at least ``low`` and below ``high``."""
        (start, first_item), (stop, _) = map(self._find, (low, high))
        return self._replace(start=start, stop=stop, first_item=first_item)

    def close(self) -> None:
        """Remove the files."""
        for column in self.files:
            if column is not None:
                column.close()

    def _find(self, row: int) -> tuple[int, int]:
        """Return the number of the first itemset from a row on, and its first item."""
        row -= self.base
        marks: Any = self.marks
        place = int(np.searchsorted(marks[:, 0], row, side="right")) - 1
        if place < 0:
            return self.start, self.first_item
        _, begin, first_item = marks[place].tolist()
        end = self.stop if place + 1 == len(marks) else int(marks[place + 1, 1])
        count = int(np.searchsorted(self.files.firsts.read(begin, end), row))
        return begin + count, first_item + int(self.files.lengths.read(begin, begin + count).sum())


class Groups:
    """Itemsets, in parts that are each ordered by first rows."""

    def __init__(self, work: SpillFolder, weights: bool) -> None:
        self._firsts = work.column("firsts", np.int64)
        self._lengths = work.column("lengths", np.int64)
        self._codes = work.column("codes", np.int32)
        self._weights = work.column("codes-weights", np.float32) if weights else None
        self._files = Spilled(self._firsts, self._lengths, self._codes, self._weights)
        self._parts: list[Part] = []

    def add(
        self,
        firsts: Int64Array,
        lengths: Int64Array,
        codes: Int32Array,
        weights: Float32Array | None,
        new_part: bool,
    ) -> None:
        """Spill itemsets, which follow those before, or begin a part."""
        start, first_item = self._firsts.size, self._codes.size
        self._firsts.append(firsts)
        self._lengths.append(lengths)
        self._codes.append(codes)
        if self._weights is not None and weights is not None:
            self._weights.append(weights)
        if new_part or not self._parts:
            self._parts.append(Part(self._files, start, self._firsts.size, first_item))
        else:
            self._parts[-1] = self._parts[-1]._replace(stop=self._firsts.size)

    def merge(self, num_item: int) -> Iterator[Merged]:
        """Read all itemsets, as `merge` does."""
        return merge(self._parts, num_item)

    def save(self) -> Part:
        """Close the files, and leave them for others to read: those of one part."""
        weights = None if self._weights is None else self._weights.save()
        firsts, lengths, codes = (x.save() for x in (self._firsts, self._lengths, self._codes))
        marks = np.zeros((0, 3), np.int64)
        if firsts.size:
            starts = np.arange(0, firsts.size, -(-firsts.size // _NUM_MARK))
            items = np.add.reduceat(lengths.map(), starts)
            marks = np.stack([firsts.map()[starts], starts, np.cumsum(items) - items], axis=1)
        return Part(Spilled(firsts, lengths, codes, weights), 0, firsts.size, 0, marks=marks)

    def close(self) -> None:
        """Remove the files."""
        for column in (self._firsts, self._lengths, self._codes, self._weights):
            if column is not None:
                column.close()


Merged = tuple[Int32Array, Int64Array, Float32Array | None]


def merge(parts: Sequence[Part], num_item: int) -> Iterator[Merged]:
    """Read the itemsets of parts in the order of their first rows, about so many items at a time.

    Yields codes, int32, the lengths of their itemsets, int64, and weights, float32, or None.
    """
    parts = [part for part in parts if part.stop > part.start]
    if not parts:
        return
    files = {id(part.files): part.files for part in parts}.values()
    mean = sum(x.codes.size for x in files) / max(1, sum(x.firsts.size for x in files))
    ahead = max(16, int(num_item / max(1.0, mean) / len(parts)))
    cursors = [_Cursor(part, ahead) for part in parts]
    while cursors:
        # Up to here, all parts are known.
        limit = min((c.last for c in cursors if c.goes_on), default=None)
        taken = [c.take(limit) for c in cursors]
        joined: list[Any] = [
            None if some[0] is None else np.concatenate(some) for some in zip(*taken, strict=True)
        ]
        firsts, lengths, codes, weights = joined
        if len(taken) > 1:
            order = np.argsort(firsts, kind="stable")
            codes, weights = reorder(order, lengths, codes, weights)
            lengths = lengths[order]
        yield codes, lengths, weights
        cursors = [c for c in cursors if c.refill()]


class _Cursor:
    """How far a part was read: its next itemsets are known, and some were taken of them."""

    def __init__(self, part: Part, ahead: int) -> None:
        self._part = part
        self._next, self._item = part.start, part.first_item
        self._names = None if part.names is None else part.names.all()
        self._ahead = ahead
        self._firsts = self._lengths = np.empty(0, np.int64)
        self.refill()

    @property
    def goes_on(self) -> bool:
        """Whether there are more itemsets than are known."""
        return self._next < self._part.stop

    @property
    def last(self) -> int:
        """First row of the last one that is known."""
        return int(self._firsts[-1])

    def take(self, limit: int | None) -> tuple[Any, ...]:
        """Take the itemsets whose first rows are up to the limit: rows, lengths, codes, weights."""
        count = len(self._firsts)
        if limit is not None:
            count = int(np.searchsorted(self._firsts, limit, side="right"))
        firsts, lengths = self._firsts[:count], self._lengths[:count]
        self._firsts, self._lengths = self._firsts[count:], self._lengths[count:]
        span = self._item, self._item + int(lengths.sum())
        self._item = span[1]
        files = self._part.files
        codes = files.codes.read(*span)
        if self._names is not None:
            codes = named(codes, self._names)
        return firsts, lengths, codes, _read(files.weights, [span])

    def refill(self) -> bool:
        """Get to know more itemsets in the place of those taken; return whether there are any."""
        missing = self._ahead - len(self._firsts)
        # Half of them at least: few and large reads.
        if self.goes_on and 2 * missing >= self._ahead:
            stop = min(self._next + missing, self._part.stop)
            files = self._part.files
            firsts = files.firsts.read(self._next, stop) + self._part.base
            self._firsts = np.concatenate([self._firsts, firsts])
            self._lengths = np.concatenate([self._lengths, files.lengths.read(self._next, stop)])
            self._next = stop
        return len(self._firsts) > 0

"""What is spilled to the disk while files larger than memory are packed: see `out_of_memory`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array
from .loops import gather_runs

_RUN = np.dtype([("high", "u8"), ("low", "u8"), ("first", "i8"), ("length", "i8")])


class WorkFolder:
    """A folder for files to spill to, beside the one to write, and so on the same disk.

    As a context, it is removed at the end, with all that is in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent / f".{path.name}.{os.getpid()}.spill"
        self._columns: list[Column] = []

    def __enter__(self) -> Self:
        for old in self._path.parent.glob(f".{self._path.name}.*.spill"):
            process = old.name.split(".")[-2]
            # It was killed, and could not remove its own.
            if process.isdecimal() and not _is_running(int(process)):
                shutil.rmtree(old, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return self

    def column(self, name: str, dtype: npt.DTypeLike) -> Column:
        """Make a file for values."""
        column = Column(self._folder / name, dtype)
        self._columns.append(column)
        return column

    def __exit__(self, *error: object) -> None:
        for column in self._columns:
            column.close()
        shutil.rmtree(self._folder, ignore_errors=True)


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

    def parts(self, length: int) -> Iterator[npt.NDArray[Any]]:
        """Read all values back, at most so many at a time."""
        for start in range(0, self.size, length):
            yield self.read(start, min(start + length, self.size))

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _read(column: Column | None, spans: Iterable[Any]) -> Any:
    """Read some parts of a column, if there is one."""
    return None if column is None else np.concatenate([column.read(*span) for span in spans])


def reorder(order: Int64Array, lengths: Int64Array, *values: Any) -> list[Any]:
    """Copy runs of these lengths in another order: of their codes, and of weights, if any."""
    starts = np.cumsum(lengths) - lengths
    return [some if some is None else gather_runs(some, starts, lengths, order) for some in values]


class Runs:
    """Runs of rows, by partition: batch after batch, each ordered by partition."""

    def __init__(self, work: WorkFolder, num_partition: int, weights: bool) -> None:
        self.num_partition = num_partition
        self._runs = work.column("runs", _RUN)
        self._items = work.column("items", np.int32)
        self._weights = work.column("weights", np.float32) if weights else None
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

    def load(self, partition: int) -> tuple[npt.NDArray[Any], Int32Array, Float32Array | None]:
        """Read the runs of a partition, in the order of their rows, their items and weights."""
        runs, items = (
            [bounds[n][partition : partition + 2] for bounds in self._bounds] for n in (0, 1)
        )
        return _read(self._runs, runs), _read(self._items, items), _read(self._weights, items)

    def close(self) -> None:
        """Remove the files."""
        for column in (self._runs, self._items, self._weights):
            if column is not None:
                column.close()


class _Part(NamedTuple):
    """Itemsets in a row in the files of `Groups`, ordered by their first rows."""

    start: int
    stop: int
    first_item: int


class Groups:
    """Itemsets, in parts that are each ordered by first rows."""

    def __init__(self, work: WorkFolder, weights: bool) -> None:
        self._firsts = work.column("firsts", np.int64)
        self._lengths = work.column("lengths", np.int64)
        self._codes = work.column("codes", np.int32)
        self._weights = work.column("codes-weights", np.float32) if weights else None
        self._parts: list[_Part] = []

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
            self._parts.append(_Part(start, self._firsts.size, first_item))
        else:
            self._parts[-1] = self._parts[-1]._replace(stop=self._firsts.size)

    def merge(self, num_item: int) -> Iterator[tuple[Int32Array, Int64Array, Float32Array | None]]:
        """Read all itemsets in the order of their first rows, about so many items at a time.

        Yields codes, int32, the lengths of their itemsets, int64, and weights, float32, or None.
        """
        if not self._parts:
            return
        mean = max(1.0, self._codes.size / max(1, self._firsts.size))
        ahead = max(16, int(num_item / mean / len(self._parts)))
        cursors = [_Cursor(self._firsts, self._lengths, part, ahead) for part in self._parts]
        while cursors:
            # Up to here, all parts are known.
            limit = min((c.last for c in cursors if c.goes_on), default=None)
            taken = [c.take(limit) for c in cursors]
            firsts, lengths = (np.concatenate(a) for a in zip(*(t[:2] for t in taken), strict=True))
            spans = [t[2] for t in taken]
            codes, weights = _read(self._codes, spans), _read(self._weights, spans)
            if len(taken) > 1:
                order = np.argsort(firsts, kind="stable")
                codes, weights = reorder(order, lengths, codes, weights)
                lengths = lengths[order]
            yield codes, lengths, weights
            cursors = [c for c in cursors if c.refill()]

    def close(self) -> None:
        """Remove the files."""
        for column in (self._firsts, self._lengths, self._codes, self._weights):
            if column is not None:
                column.close()


class _Cursor:
    """How far a part was read: its next itemsets are known, and some were taken of them."""

    def __init__(self, firsts: Column, lengths: Column, part: _Part, ahead: int) -> None:
        self._columns = firsts, lengths
        self._next, self._stop, self._item = part.start, part.stop, part.first_item
        self._ahead = ahead
        self._firsts = self._lengths = np.empty(0, np.int64)
        self.refill()

    @property
    def goes_on(self) -> bool:
        """Whether there are more itemsets than are known."""
        return self._next < self._stop

    @property
    def last(self) -> int:
        """First row of the last one that is known."""
        return int(self._firsts[-1])

    def take(self, limit: int | None) -> tuple[Int64Array, Int64Array, tuple[int, int]]:
        """Take the itemsets whose first rows are up to the limit."""
        count = len(self._firsts)
        if limit is not None:
            count = int(np.searchsorted(self._firsts, limit, side="right"))
        firsts, lengths = self._firsts[:count], self._lengths[:count]
        self._firsts, self._lengths = self._firsts[count:], self._lengths[count:]
        span = self._item, self._item + int(lengths.sum())
        self._item = span[1]
        return firsts, lengths, span

    def refill(self) -> bool:
        """Get to know more itemsets in the place of those taken; return whether there are any."""
        missing = self._ahead - len(self._firsts)
        # Half of them at least: few and large reads.
        if self.goes_on and 2 * missing >= self._ahead:
            stop = min(self._next + missing, self._stop)
            more = (column.read(self._next, stop) for column in self._columns)
            self._firsts, self._lengths = (
                np.concatenate(pair)
                for pair in zip((self._firsts, self._lengths), more, strict=True)
            )
            self._next = stop
        return len(self._firsts) > 0

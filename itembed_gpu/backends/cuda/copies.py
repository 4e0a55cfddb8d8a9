"""What a problem trains, in a device's memory: what all tasks do with it, whatever their loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import DeviceError
from ...interrupts import deferred_interrupt
from ...objective.table import Table
from ..protocol import Problem
from . import chips, tables
from .chips import Chip


class Copies:
    """The tables of a problem and what lies beside them, on a device.

    Attributes
    ----------
    in_place : bool
        Whether they are the caller's own CuPy arrays.
    """

    def __init__(self, problem: Problem, chip: Chip) -> None:
        self._problem = problem
        self._chip = chip
        # Accumulators are kept as tables of one row: copied, shared and checked alike.
        self._copies = {
            name: tables.device_table(chip.index, array if array.ndim == 2 else array[None])
            for name, array in problem.arrays.items()
        }
        self.in_place = self.of(problem.left).host is None

    def of(self, table: Table, part: str = "") -> tables.DeviceTable:
        """Return the copy of a table, or of a part of `Table` that lies beside it."""
        return self._copies[f"{table.name}_{part}" if part else table.name]

    # What a failure leaves behind.
    @property
    def _note(self) -> str:
        if self.in_place:
            return "Your CuPy tables may hold a part of an epoch; start again from fresh ones"
        return "Nothing was written back: your tables are as they were before"

    def device(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the device is used."""
        return chips.device(self._chip.index, self._note)

    @property
    def ready(self) -> bool:
        """Whether all are on the device, and not older than what the host has."""
        return all(copy.trained for copy in self._copies.values())

    def upload(self) -> None:
        """Bring to the device what is not there."""
        for copy in self._copies.values():
            copy.upload()

    def trained(self, *some: Table) -> list[tables.DeviceTable]:
        """Return what is changed where these tables are trained: nothing of those frozen."""
        return [self._copies[n] for table in some if not table.frozen for n in table.arrays()]

    def check_memory(self, others: Mapping[str, float], cure: str) -> None:
        """Add up what will be allocated, these copies and others, and compare it with what is free.

        Raises a `DeviceError` if it does not fit, which says what would: a lower dimension, or
        where none is low enough, `cure`.
        """
        cupy, arrays = chips.cupy(), self._problem.arrays
        own = {table.name for table in self._problem.tables}
        size = {name: copy.num_byte for name, copy in self._copies.items()}
        needs = {
            "tables": sum(size[name] for name in own),
            "accumulators": sum(size[name] for name in size.keys() - own),
            **others,
        }
        free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        total = sum(needs.values())
        if total <= free:
            return
        parts = ", ".join(f"{name} {chips.show_size(size)}" for name, size in needs.items() if size)
        # What grows with the dimension.
        wide = [name for name in size if size[name] and arrays[name].ndim == 2]
        num_row = sum(self._copies[name].shape[0] for name in wide)
        room = free - (total - sum(size[name] for name in wide))
        dim = int(room) // (4 * num_row) // 4 * 4 if num_row else 0
        raise DeviceError(
            f"cuda:{self._chip.index} ({self._chip.name}) has {chips.show_size(free)} free, "
            f"and the task needs {chips.show_size(total)} ({parts}): "
            f"{f'a dimension of {dim} would' if dim > 0 else cure} fit. {self._note}"
        )

    def is_sound(self, find_beyond: Callable[[], Any]) -> bool:
        """As of `BoundTask`; a function returns the kernel `instances.FIND_BEYOND`."""
        trained = {name: copy.array for name, copy in self._copies.items() if copy.trained}
        bounds = self._problem.bounds
        return not trained or tables.are_within(find_beyond(), trained, bounds, self._chip)

    def synchronize(self) -> None:
        """As of `BoundTask`."""
        with self.device():
            # All streams: other tasks may train the same tables in theirs.
            chips.cupy().cuda.Device(self._chip.index).synchronize()
        changed = [c for c in self._copies.values() if c.host is not None and c.changed]
        if changed:
            note = "Your tables may hold the result in part"
            with chips.device(self._chip.index, note), deferred_interrupt():
                for table in changed:
                    table.download()
        # Also of what was copied and not trained: from here on the host's values count.
        self.discard()

    def discard(self) -> None:
        """As of `BoundTask`."""
        for copy in self._copies.values():
            copy.discard()


class Pinned:
    """Memory of the host that a device reads and writes by itself, until an event.

    Attributes
    ----------
    bytes : uint8
        The memory.
    address : int
        Where it begins.
    ended : Event
        Recorded behind what uses it, which makes it `busy` until that is waited for.
    """

    def __init__(self, num_byte: int) -> None:
        self.bytes = tables.pinned(num_byte)
        self.address: int = self.bytes.ctypes.data
        self.ended = chips.cupy().cuda.Event()
        self.busy = False

    def send(self, to: int, num_byte: int, stream: Any, first: int = 0) -> None:
        """Have a stream copy some of its bytes to an address of the device."""
        runtime = chips.cupy().cuda.runtime
        source = self.address + first
        runtime.memcpyAsync(to, source, num_byte, runtime.memcpyHostToDevice, stream.ptr)

    def fetch(self, source: int, num_byte: int, stream: Any) -> None:
        """Have a stream copy bytes from there to where it begins."""
        runtime = chips.cupy().cuda.runtime
        kind = runtime.memcpyDeviceToHost
        runtime.memcpyAsync(self.address, source, num_byte, kind, stream.ptr)

    def mark(self, stream: Any) -> None:
        """Note that it is busy until the stream has done what it has been given."""
        self.ended.record(stream)
        self.busy = True

    def wait(self) -> None:
        """Wait until it is free."""
        if self.busy:
            self.ended.synchronize()
            self.busy = False

    def __del__(self) -> None:
        # Its memory may be given to somebody else at once.
        if getattr(self, "busy", False):
            with contextlib.suppress(Exception):
                self.ended.synchronize()

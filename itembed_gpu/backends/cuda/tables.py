"""Tables in a GPU's memory: allocated, copied, shared by the tasks that name them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import checks
from ...errors import InputError
from ...interrupts import deferred_interrupt
from ..cpu.threads import share
from . import chips
from .instances import THREADS_PER_BLOCK

logger = logging.getLogger("itembed_gpu")

ROW_BYTES = 16  # rows of our own tables begin at multiples of this
# Blocks a multiprocessor, at most, that draw the values of a table, or look at them.
BLOCKS_OVER_TABLE = 16
# Copies of fewer bytes are made at once, without pinned memory.
MIN_BYTES = 1 << 22
# Threads of a larger one, and what each copies at a time.
NUM_MOVER = 4
PIECE_BYTES = 1 << 23

# Tables that were padded here, by address and dimension: what stands behind the last
# column is nobody's, and may be written.
_padded: weakref.WeakValueDictionary[tuple[int, int], Any] = weakref.WeakValueDictionary()


def padded_dim(dim: int, itemsize: int) -> int:
    values = max(1, ROW_BYTES // itemsize)
    return -(-dim // values) * values


def allocate_table(num_row: int, dim: int, dtype: npt.DTypeLike = np.float32) -> Any:
    """Allocate a table of zeros, (num_row, dim), on the current device.

    It is a view of a CuPy array whose rows are padded with zeros to 16 bytes.
    """
    dtype = np.dtype(dtype)
    base = chips.cupy().zeros((num_row, padded_dim(dim, dtype.itemsize)), dtype=dtype)
    _padded[(base.data.ptr, dim)] = base
    return base[:, :dim]


def fill_uniform(kernel: Any, table: Any, seed: int, chip: chips.Chip) -> None:
    """Have the kernel `FILL_UNIFORM` fill a table with the values of `uniform_rows`."""
    state = np.random.PCG64(seed).state["state"]
    # The state before the first draw, and what each step adds, by their halves.
    halves = [
        np.uint64(half)
        for name in ("state", "inc")
        for half in (state[name] >> 64, state[name] & (1 << 64) - 1)
    ]
    (num_row, dim), stride = table.shape, table.strides[0] // 4
    num_block = min(
        -(-num_row * dim // (2 * THREADS_PER_BLOCK)), BLOCKS_OVER_TABLE * chip.num_multiprocessor
    )
    kernel(
        (num_block,),
        (THREADS_PER_BLOCK,),
        (table.data.ptr, np.int64(stride), np.int64(num_row), np.int32(dim), *halves),
    )


def are_within(
    kernel: Any, arrays: Mapping[str, Any], bounds: Mapping[str, float], chip: chips.Chip
) -> bool:
    """Whether all numbers are within their bounds, as the kernel `FIND_BEYOND` finds."""
    found = chips.cupy().zeros(1, dtype=np.int32)
    for name, array in arrays.items():
        rows = array if array.ndim == 2 else array[None]
        num_row, dim = rows.shape
        num_block = -(-num_row * dim // THREADS_PER_BLOCK)
        kernel(
            (min(num_block, BLOCKS_OVER_TABLE * chip.num_multiprocessor),),
            (THREADS_PER_BLOCK,),
            (
                rows.data.ptr,
                np.int64(rows.strides[0] // 4),
                np.int64(num_row),
                np.int32(dim),
                np.float32(bounds[name]),
                found.data.ptr,
            ),
        )
    return int(found.get()[0]) == 0


def to_device(array: npt.NDArray[Any]) -> Any:
    """Copy an array to the current device, beside what others than the current stream do there."""
    copy = chips.cupy().empty(array.shape, dtype=array.dtype)
    _move(copy.reshape(1, -1), np.ascontiguousarray(array), "HostToDevice")
    return copy


def copy_caps(caps: npt.NDArray[np.float32] | None, rate: float) -> tuple[Any, Any] | None:
    """Copy the caps of a table's rows, and a bit a row: whether any rate up to this is above it."""
    if caps is None:
        return None
    bits = np.packbits(caps < rate, bitorder="little")
    words = np.zeros(-(-len(bits) // 4), dtype=np.uint32)
    words.view(np.uint8)[: len(bits)] = bits
    return to_device(caps), to_device(words)


def pinned(num_byte: int) -> npt.NDArray[np.uint8]:
    """Return memory of the host that a device reads and writes by itself.

    Where there is none left it is ordinary memory, with which the same copies take longer.
    """
    cuda = chips.cupy().cuda
    try:
        memory = cuda.alloc_pinned_memory(max(1, num_byte))
    except (cuda.runtime.CUDARuntimeError, MemoryError):
        return np.empty(num_byte, dtype=np.uint8)
    return np.frombuffer(memory, dtype=np.uint8, count=num_byte)


def copy_rows(to: Any, source: Any, kind: str) -> None:
    """Copy a table between host and device, where rows may be padded; wait until it is there."""
    _move(to, source, kind)


def _move(to: Any, source: Any, kind: str) -> None:
    """Do the same: all at once, or in pieces, by several threads.

    A large copy goes through pinned memory: while one thread waits for the device, others write
    the pieces that have come to where they belong, or fetch the next ones.
    """
    device, host = (to, source) if kind == "HostToDevice" else (source, to)
    num_row, width = device.shape[0], device.shape[1] * device.dtype.itemsize
    # On the host rows are never padded, whatever the stride of a single one says.
    pitch = device.strides[0] if num_row > 1 else width
    address = checks.address(device)
    stream = chips.cupy().cuda.get_current_stream()
    if num_row * width < MIN_BYTES:
        _copy_block(kind, address, pitch, checks.address(host), width, num_row, stream)
        stream.synchronize()
        return
    # The device's memory is used in this stream, and the copy made in others.
    stream.synchronize()
    if pitch == width:
        num_row, width, pitch = num_row * width, 1, 1
    step = max(1, PIECE_BYTES // width)
    values = host.reshape(-1).view(np.uint8)
    # All as large: CuPy keeps pinned memory for those who ask for as much.
    free = [_Mover(max(PIECE_BYTES, width)) for _ in range(NUM_MOVER)]

    def move(row: int) -> None:
        count = min(step, num_row - row)
        mover = free.pop()
        with chips.cupy().cuda.Device(device.device.id):
            part = values[row * width : (row + count) * width]
            mover.move(kind, address + row * pitch, pitch, part, width, count)
        free.append(mover)

    with deferred_interrupt():  # as pinned memory may not go while it is copied to
        share(move, range(0, num_row, step), NUM_MOVER)


class _Mover:
    """What a thread copies with: pinned memory, and a stream beside all others."""

    def __init__(self, num_byte: int) -> None:
        self._memory = pinned(num_byte)
        self._stream = chips.cupy().cuda.Stream(non_blocking=True)

    def move(
        self, kind: str, there: int, pitch: int, part: npt.NDArray[np.uint8], width: int, count: int
    ) -> None:
        """Copy rows between the device and a part of the host's memory, and wait for them."""
        memory, upwards = self._memory[: len(part)], kind == "HostToDevice"
        if upwards:
            memory[:] = part
        _copy_block(kind, there, pitch, memory.ctypes.data, width, count, self._stream)
        self._stream.synchronize()
        if not upwards:
            part[:] = memory


def _copy_block(
    kind: str, there: int, pitch: int, here: int, width: int, num_row: int, stream: Any
) -> None:
    """Have a stream copy rows between the device, `there`, and the host."""
    runtime = chips.cupy().cuda.runtime
    direction = getattr(runtime, f"memcpy{kind}")
    to, source = ((there, pitch), (here, width))[:: 1 if kind == "HostToDevice" else -1]
    if pitch == width:
        runtime.memcpyAsync(to[0], source[0], num_row * width, direction, stream.ptr)
    else:
        runtime.memcpy2DAsync(*to, *source, width, num_row, direction, stream.ptr)


def bring(array: npt.NDArray[Any]) -> Any:
    """Copy an array of rows, or of a value for each row, to the current device."""
    if array.ndim == 1:
        return bring(array[None])[0]
    copy = allocate_table(array.shape[0], array.shape[1], array.dtype)
    copy_rows(copy, array, "HostToDevice")
    return copy


def fetch(array: Any) -> npt.NDArray[Any]:
    """Copy such an array to the host."""
    if array.ndim == 1:
        return fetch(array[None])[0]  # type: ignore[no-any-return]
    copy = np.empty(array.shape, dtype=array.dtype)
    copy_rows(copy, array, "DeviceToHost")
    return copy


class DeviceTable:
    """A table in a device's memory: a CuPy array of the caller's, or the copy of a host table.

    Attributes
    ----------
    array : CuPy array, float32, (num_row, dim)
        The values that are trained; allocated at the first upload.
    host : NumPy array or None
        What it is a copy of.
    ahead : bool
        Whether the device's values are those that count, and not the host's.
    changed : bool
        Whether they have been trained since they were copied from the host.
    """

    def __init__(self, index: int, table: Any) -> None:
        self.index = index
        self.host = None if checks.on_device(table) else table
        self.array: Any = table if self.host is None else None
        self.shape: tuple[int, int] = table.shape
        self.ahead = False
        self.changed = False

    def __del__(self) -> None:
        if self.changed and self.host is not None:
            logger.warning(
                "a table of shape %s was trained on cuda:%d and never written back; "
                "call task.synchronize() while the task is there",
                self.shape,
                self.index,
            )

    @property
    def num_byte(self) -> int:
        """Memory still to be allocated for it."""
        if self.array is not None:
            return 0
        return self.shape[0] * padded_dim(self.shape[1], 4) * 4

    @property
    def width(self) -> int:
        """Floats that can be read at once, wherever a piece of a row begins."""
        if self.host is not None:
            return 4
        dim, stride, address = self.shape[1], self.array.strides[0], self.array.data.ptr
        if address % ROW_BYTES or stride % ROW_BYTES:
            return 1
        # Beyond the last column there may be somebody else's values.
        return 4 if dim % 4 == 0 or (address, dim) in _padded else 1

    @property
    def trained(self) -> bool:
        """Whether its values on the device are those that count."""
        return self.host is None or self.ahead

    def upload(self) -> None:
        """Bring the host's values to the device, unless it is ahead of them."""
        if self.host is None or self.ahead:
            return
        if self.array is None:
            self.array = allocate_table(*self.shape)
        copy_rows(self.array, self.host, "HostToDevice")
        self.ahead = True

    def download(self) -> None:
        """Bring the device's values to the host, whose they are from then on."""
        if self.host is not None and self.changed:
            copy_rows(self.host, self.array, "DeviceToHost")
        self.discard()

    def discard(self) -> None:
        """Forget the device's values: those of the host count."""
        self.ahead = self.changed = False


# The copies of host tables, by device and address: tasks that name a table share its copy.
_copies: weakref.WeakValueDictionary[tuple[int, int], DeviceTable] = weakref.WeakValueDictionary()
_copies_lock = threading.Lock()


def device_table(index: int, table: Any) -> DeviceTable:
    """Return a table on a device: the same object for the same host table.

    Raises an `InputError` if it overlaps another one, or has a copy on another device.
    """
    if checks.on_device(table):
        return DeviceTable(index, table)
    start = checks.address(table)
    with _copies_lock:
        for (other_index, address), other in list(_copies.items()):
            host = other.host
            if start + table.nbytes <= address or address + host.nbytes <= start:  # type: ignore[union-attr]
                continue
            if address != start or other.shape != table.shape:
                raise InputError(
                    f"a table of shape {table.shape} shares a part of its memory with one of "
                    f"shape {other.shape} that is in training; pass tables that are the same, "
                    "or lie apart"
                )
            if other_index != index:
                raise InputError(
                    f"a table of shape {table.shape} is in training on cuda:{other_index} and "
                    f"cannot be on cuda:{index} as well; train on one device, or pass a copy"
                )
            return other
        copy = _copies[(index, start)] = DeviceTable(index, table)
        return copy


def gather(array: Any, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return some values of a NumPy or a CuPy array, on the host."""
    if not checks.on_device(array):
        values: npt.NDArray[Any] = array[positions]
        return values
    with chips.device(array.device.id):
        return array[chips.cupy().asarray(positions)].get()  # type: ignore[no-any-return]

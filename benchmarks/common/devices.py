"""What is measured on: the host or a GPU, and tables in its memory."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks.common.machine import machine
from benchmarks.common.timing import seconds_of
from itembed_gpu import Cuda
from itembed_gpu.backends.cuda import chips, instances, programs


class OnCpu:
    """The CPU backend, and the memory of the host."""

    name = "cpu"
    is_gpu = False

    def __init__(self) -> None:
        self.description = machine()

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Make it the current device."""
        return contextlib.nullcontext()

    def option(self, threads: int | None = None, lossy: bool = False) -> Any:
        """Return what a task is given as `device`; threads are those of a pair, on a GPU."""
        return "cpu"

    def copy(self, to: Any, source: Any) -> None:
        """Copy an array within the device's memory."""
        np.copyto(to, source)

    def bandwidth(self, num_byte: int) -> float:
        """Bytes read and written a second by a copy: the best of several."""
        source, to = np.ones(num_byte, dtype=np.uint8), np.empty(num_byte, dtype=np.uint8)
        self.copy(to, source)
        return 2 * num_byte / min(seconds_of(self.copy, to, source) for _ in range(5))

    def is_lost(self) -> bool:
        """Whether nothing runs there any more, as after a bad access to memory."""
        return False


class OnGpu:
    """A GPU and its memory."""

    is_gpu = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.index = int(name.partition(":")[2] or 0)
        self.chip = chips.find_chip(self.index)
        self.description = f"{self.name} of {chips.describe()}; host: {machine()}"

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return chips.cupy().cuda.Device(self.index)

    def option(self, threads: int | None = None, lossy: bool = False) -> Any:
        return Cuda(self.index, threads, lossy)

    def copy(self, to: Any, source: Any) -> None:
        runtime = chips.cupy().cuda.runtime
        stream = chips.cupy().cuda.get_current_stream()
        runtime.memcpyAsync(
            to.data.ptr, source.data.ptr, source.nbytes, runtime.memcpyDeviceToDevice, stream.ptr
        )

    def bandwidth(self, num_byte: int) -> float:
        cupy = chips.cupy()
        num_byte = min(num_byte, cupy.cuda.runtime.memGetInfo()[0] // 4)
        source, to = (cupy.empty(num_byte, dtype=np.uint8) for _ in range(2))
        stream = cupy.cuda.get_current_stream()

        def once() -> float:
            began, ended = cupy.cuda.Event(), cupy.cuda.Event()
            began.record(stream)
            self.copy(to, source)
            ended.record(stream)
            ended.synchronize()
            return cupy.cuda.get_elapsed_time(began, ended) / 1e3

        once()
        return 2 * num_byte / min(once() for _ in range(20))

    def is_lost(self) -> bool:
        runtime = chips.cupy().cuda.runtime
        try:
            runtime.deviceSynchronize()
        except runtime.CUDARuntimeError:
            return True
        return False

    def spilled(self) -> dict[str, int]:
        """Bytes of local memory that each default kernel uses a thread."""
        found = {}
        for instance in instances.DEFAULTS:
            if self.chip.capability < instances.VECTOR_ATOMICS:
                instance = instance._replace(update="add")
            kernel = programs.kernel(self.index, (instance.name,), instance.name)
            found[instance.name] = int(kernel.local_size_bytes)
        return found


class Tables:
    """Two tables in a device's memory, cut from the same memory for every cell.

    Their values are made on the host once, by `initialize_syn`, and copied within the
    device before each use.
    """

    def __init__(self, device: OnCpu | OnGpu) -> None:
        self._device = device
        self._flat: list[Any] = []
        self._size = 0

    def take(self, num_label: int, dim: int) -> list[Any]:
        """Return both tables, with the values of the start."""
        size = num_label * dim
        if size > self._size:
            self._flat, self._size = [], 0
            gc.collect()
            option = self._device.option()
            self._flat = [
                itembed_gpu.initialize_syn(num_label, dim, method, seed=1, device=option).reshape(
                    -1
                )
                for method in ("uniform", "zero", "zero")
            ]
            self._size = size
        start, *flat = (array[:size] for array in self._flat)
        for array in flat:
            self._device.copy(array, start)
        return [array.reshape(num_label, dim) for array in flat]

"""As much of CuPy as `itembed_gpu.backends.cuda.task` uses, over host memory and emulated kernels.

It holds what the tests look at or want to go wrong: `Device.free` (bytes), `fail`
(an exception for the next call of a kind), `log` (what was copied and launched).
"""

import re
import time
import weakref
from types import SimpleNamespace

import numpy as np

from itembed_gpu.backends.cuda import instances

from . import EmulatedKernel


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class CompileException(Exception):
    pass


class NVRTCError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def _free(cuda, num_byte):
    cuda.free += num_byte


class ndarray:
    """An array in what stands for a device's memory. It does not become NumPy's unasked."""

    def __init__(self, values, base=None):
        self._values = values
        self.base = base

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    strides = property(lambda self: self._values.strides)
    ndim = property(lambda self: self._values.ndim)
    nbytes = property(lambda self: self._values.nbytes)
    device = property(lambda self: SimpleNamespace(id=0))
    data = property(lambda self: SimpleNamespace(ptr=self._values.ctypes.data))

    @property
    def __cuda_array_interface__(self):
        return self._values.__array_interface__

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __len__(self):
        return len(self._values)

    def __getitem__(self, key):
        key = key._values if isinstance(key, ndarray) else key
        return ndarray(self._values[key], base=self if self.base is None else self.base)

    def reshape(self, *shape):
        return ndarray(self._values.reshape(*shape), base=self if self.base is None else self.base)

    def get(self):
        return self._values.copy()

    def set(self, values, stream=None):
        assert values.flags.c_contiguous
        assert values.dtype == self.dtype
        self._values[...] = values


class Event:
    at = None
    asked = 0

    @property
    def done(self):
        """Not at once: as if the device took its time."""
        self.asked += 1
        return self.asked % 3 == 0

    def record(self, stream=None):
        self.at = time.perf_counter()

    def synchronize(self):
        pass


class Stream:
    """One beside the current one."""

    ptr = 1

    def __init__(self, non_blocking=False):
        assert non_blocking

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        pass


class FakeCupy:
    """The module."""

    __version__ = "14.2.0"
    ndarray = ndarray

    def __init__(self):
        self.free = 1 << 30
        self.fail = {}
        self.log = []
        self.max_block = 1
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: 12090,
            runtimeGetVersion=lambda: 12090,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda index: {
                "name": b"Emulated",
                "major": 9,
                "minor": 0,
                "multiProcessorCount": 1,
                "totalGlobalMem": 1 << 30,
                "l2CacheSize": 1 << 25,
            },
            memGetInfo=lambda: (self.free, 1 << 30),
            memcpy2DAsync=self._memcpy2d,
            memcpyAsync=self._memcpy,
            memsetAsync=lambda pointer, value, size, stream: self._bytes(pointer, size).fill(value),
            memcpyHostToDevice=1,
            memcpyDeviceToHost=2,
            memcpyDeviceToDevice=3,
        )
        stream = SimpleNamespace(ptr=0, synchronize=lambda: self._may_fail("synchronize"))
        self.cuda = SimpleNamespace(
            runtime=runtime,
            driver=SimpleNamespace(
                CUDADriverError=CUDADriverError,
                occupancyMaxActiveBlocksPerMultiprocessor=lambda *_: self.max_block,
            ),
            compiler=SimpleNamespace(CompileException=CompileException),
            nvrtc=SimpleNamespace(NVRTCError=NVRTCError, getVersion=lambda: (12, 9)),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            Device=lambda index: _Device(stream),
            Event=Event,
            Stream=Stream,
            get_current_stream=lambda: stream,
            get_elapsed_time=lambda a, b: (b.at - a.at) * 1e3,
            alloc_pinned_memory=lambda size: np.zeros(size + 64, dtype=np.uint8),
        )

    def _may_fail(self, kind):
        """Raise what was ordered for the next call of a kind, or for a later one."""
        if kind in self.fail:
            countdown, error = self.fail[kind]
            if countdown:
                self.fail[kind] = countdown - 1, error
            else:
                del self.fail[kind]
                raise error

    @staticmethod
    def _bytes(pointer, size):
        import ctypes

        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))

    def _memcpy(self, to, source, size, kind, stream):
        self._bytes(to, size)[:] = self._bytes(source, size)

    def _memcpy2d(self, to, to_pitch, source, source_pitch, width, height, kind, stream):
        for row in range(height):
            target = self._bytes(to + row * to_pitch, width)
            target[:] = self._bytes(source + row * source_pitch, width)

    def empty(self, shape, dtype=np.float64):
        self._may_fail("allocate")
        values = np.empty(shape, dtype=dtype)
        if values.nbytes > self.free:
            raise OutOfMemoryError(f"Out of memory allocating {values.nbytes} bytes")
        self.free -= values.nbytes
        weakref.finalize(values, _free, self, values.nbytes)
        return ndarray(values)

    def zeros(self, shape, dtype=np.float64):
        array = self.empty(shape, dtype)
        array._values[...] = 0
        return array

    def asarray(self, values):
        array = self.empty(np.shape(values), np.asarray(values).dtype)
        array._values[...] = values
        return array

    def get_default_memory_pool(self):
        return SimpleNamespace(free_bytes=lambda: 0)

    def RawModule(self, *, code, options, name_expressions):
        assert code == instances.source()

        def get_function(name):
            self._may_fail("compile")
            assert name in name_expressions
            threads = re.search(r"<[\w:]+, (\d+),", name)
            kernel = EmulatedKernel(name, serial=not threads or threads[1] == "1")

            def launch(grid, block, args):
                self._may_fail("launch")
                self.log.append(f"launch {grid[0]} x {block[0]}")
                kernel(grid, block, args)

            launch.kernel = SimpleNamespace(ptr=0)
            launch.local_size_bytes = 0
            return launch

        return SimpleNamespace(get_function=get_function)


class _Device:
    def __init__(self, stream):
        self.synchronize = stream.synchronize

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

"""As much of CuPy as `itembed_gpu.backends.cuda` uses, over host memory and emulated kernels.

Arithmetic is NumPy's. As in CuPy, arrays of both kinds do not mix; what would wait for the
device, such as the truth of an array, is not there. It holds what the tests look at or want to
go wrong: `free` (bytes), `least_free` (what that fell to), `fail` (an exception for the next
call of a kind), `told` (what was copied, launched and multiplied).
"""

import functools
import itertools
import operator
import re
import time
import weakref
from types import SimpleNamespace

import numpy as np

from itembed_gpu.backends.cuda import instances

from . import EmulatedKernel

# Kernels in which threads of a warp exchange values.
SHUFFLES = re.compile(
    r"train_positions<[\w:]+, (?!1,)|(dots|exponentials|weigh|update|list_pairs)<"
)


# Streams beside the current one, by their numbers.
STREAMS = weakref.WeakValueDictionary()
NUMBERS = itertools.count(1)


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


class CUBLASError(RuntimeError):
    pass


def _free(cuda, num_byte):
    cuda.free += num_byte


def _values_of(operand):
    """What NumPy is to compute with, of a number, an index, or an array of this kind."""
    if isinstance(operand, ndarray):
        return operand._values
    if isinstance(operand, tuple):
        return tuple(map(_values_of, operand))
    if isinstance(operand, np.ndarray):
        raise TypeError(f"Unsupported type {type(operand)}")
    return operand


def _operator(function):
    def call(self, *others):
        return self._fake.own(function(self._values, *map(_values_of, others)))

    return call


def _in_place(function):
    def call(self, other):
        function(self._values, _values_of(other))
        return self

    return call


class ndarray:
    """An array in what stands for a device's memory. It does not become NumPy's unasked."""

    __array_ufunc__ = None

    def __init__(self, fake, values, base=None):
        self._fake = fake
        self._values = values
        self.base = base

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    ndim = property(lambda self: self._values.ndim)
    nbytes = property(lambda self: self._values.nbytes)
    device = property(lambda self: SimpleNamespace(id=0))
    data = property(lambda self: SimpleNamespace(ptr=self._values.ctypes.data))
    T = property(lambda self: self._part(self._values.T))

    __add__, __sub__, __mul__, __truediv__, __rtruediv__, __gt__ = map(
        _operator,
        (
            operator.add, operator.sub, operator.mul, operator.truediv,
            lambda a, b: b / a, operator.gt,
        ),
    )  # fmt: skip
    __iadd__, __imul__ = map(_in_place, (operator.iadd, operator.imul))

    @property
    def __cuda_array_interface__(self):
        return self._values.__array_interface__

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __abs__(self):
        return self._fake.own(abs(self._values))

    def __bool__(self):
        raise AssertionError("it would wait for the device")

    def __len__(self):
        return len(self._values)

    def __float__(self):
        return float(self._values)

    def _part(self, values):
        return ndarray(self._fake, values, base=self if self.base is None else self.base)

    def __getitem__(self, key):
        found = self._values[_values_of(key)]
        if np.may_share_memory(found, self._values) or not found.size:
            return self._part(found)
        return self._fake.own(found)

    def __setitem__(self, key, value):
        self._values[_values_of(key)] = _values_of(value)

    def reshape(self, *shape):
        return self._part(self._values.reshape(*shape))

    def view(self, dtype):
        return self._part(self._values.view(dtype))

    def fill(self, value):
        self._values.fill(value)

    def copy(self):
        return self._fake.own(self._values.copy())

    def sum(self, **how):
        return self._fake.own(np.asarray(self._values.sum(**how)))

    def min(self):
        return self._fake.own(np.asarray(self._values.min()))

    def max(self):
        return self._fake.own(np.asarray(self._values.max()))

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
    """One beside the current one: what is copied in it is there once it was waited for."""

    def __init__(self, non_blocking=False):
        assert non_blocking
        self.ptr = next(NUMBERS)
        STREAMS[self.ptr] = self
        self.waiting = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        while self.waiting:
            self.waiting.pop(0)()


class FakeCupy:
    """The module."""

    __version__ = "14.2.0"
    ndarray = ndarray

    def __init__(self):
        self.free = self.least_free = 1 << 30
        self.fail = {}
        self.told = []
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
            memcpyHostToDevice=1,
            memcpyDeviceToHost=2,
            memcpyDeviceToDevice=3,
            CUDA_R_32F=0,
            CUDA_R_16F=2,
            CUDA_R_16BF=14,
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
            cublas=SimpleNamespace(
                CUBLASError=CUBLASError,
                gemmEx=self._multiply,
                CUBLAS_OP_N=0,
                CUBLAS_OP_T=1,
                CUBLAS_GEMM_DEFAULT=-1,
                CUBLAS_COMPUTE_32F=68,
            ),
            get_cublas_handle=lambda: 1,
            Device=lambda index: _Device(stream),
            Event=Event,
            Stream=Stream,
            get_current_stream=lambda: stream,
            get_elapsed_time=lambda a, b: (b.at - a.at) * 1e3,
            alloc_pinned_memory=self._pin,
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

    def _in_stream(function):
        """Have a copy wait until its stream is waited for, if it is none of the current one."""

        def call(self, *arguments):
            *arguments, ptr = arguments
            copy = functools.partial(function, self, *arguments)
            STREAMS[ptr].waiting.append(copy) if ptr else copy()

        return call

    @_in_stream
    def _memcpy(self, to, source, size, kind):
        self._bytes(to, size)[:] = self._bytes(source, size)

    @_in_stream
    def _memcpy2d(self, to, to_pitch, source, source_pitch, width, height, kind):
        target, values = (
            np.lib.stride_tricks.as_strided(self._bytes(place, 1), (height, width), (pitch, 1))
            for place, pitch in ((to, to_pitch), (source, source_pitch))
        )
        target[...] = values

    def _pin(self, size):
        self._may_fail("pin")
        self.told.append(f"pin {size}")
        return np.zeros(size + 64, dtype=np.uint8)

    def _multiply(
        self, handle, turn_a, turn_b, m, n, k, alpha, a, a_kind, lda, b, b_kind, ldb, beta,
        c, c_kind, ldc, compute, algorithm,
    ):  # fmt: skip
        """What cublasGemmEx does: matrices stand column by column, of float32, float16 or bf16."""
        self._may_fail("multiply")
        assert (a_kind, c_kind) in ((0, 0), (2, 2), (14, 0))
        assert (b_kind, compute, algorithm) == (a_kind, 68, -1)

        def matrix(pointer, kind, num_row, num_column, step):
            assert step >= num_row > 0
            number = np.dtype({0: np.float32, 2: np.float16, 14: np.uint16}[kind])
            size = number.itemsize * (step * (num_column - 1) + num_row)
            values = self._bytes(pointer, size).view(number)
            steps = number.itemsize, number.itemsize * step
            return np.lib.stride_tricks.as_strided(values, (num_row, num_column), steps)

        def factor(turn, pointer, kind, num_row, num_column, step):
            shape = (num_column, num_row) if turn else (num_row, num_column)
            found = matrix(pointer, kind, *shape, step)
            if kind == 14:
                found = (found.astype(np.uint32) << 16).view(np.float32)
            found = found.astype(np.float32)
            return found.T if turn else found

        assert [self._bytes(one, 4).view(np.float32)[0] for one in (alpha, beta)] == [1, 0]
        self.told.append(f"multiply {({0: 'float32', 2: 'float16', 14: 'bf16'})[a_kind]}")
        left = factor(turn_a, a, a_kind, m, k, lda)
        matrix(c, c_kind, m, n, ldc)[...] = left @ factor(turn_b, b, b_kind, k, n, ldb)

    def own(self, values):
        """Make an array of the device of what NumPy has computed."""
        if values.nbytes > self.free:
            raise OutOfMemoryError(f"Out of memory allocating {values.nbytes} bytes")
        self.free -= values.nbytes
        self.least_free = min(self.least_free, self.free)
        weakref.finalize(values, _free, self, values.nbytes)
        return ndarray(self, values)

    def empty(self, shape, dtype=np.float64):
        self._may_fail("allocate")
        return self.own(np.empty(shape, dtype=dtype))

    def full(self, shape, value, dtype):
        return self.own(np.full(shape, value, dtype=dtype))

    def _call(self, function, *operands, **how):
        how = {name: _values_of(value) for name, value in how.items()}
        return self.own(function(*map(_values_of, operands), **how))

    def concatenate(self, arrays):
        return self._call(np.concatenate, tuple(arrays))

    def __getattr__(self, name):
        """Functions of CuPy that are NumPy's."""
        if name not in (
            "sqrt", "exp", "log", "maximum", "where", "zeros_like", "empty_like", "cumsum",
            "bincount",
        ):  # fmt: skip
            raise AttributeError(name)
        return functools.partial(self._call, getattr(np, name))

    def zeros(self, shape, dtype=np.float64):
        array = self.empty(shape, dtype)
        array._values[...] = 0
        return array

    def asarray(self, values):
        if isinstance(values, ndarray):
            return values
        array = self.empty(np.shape(values), np.asarray(values).dtype)
        array._values[...] = values
        return array

    def get_default_memory_pool(self):
        return SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)

    def RawModule(self, *, code, options, name_expressions):
        assert code == instances.source()

        def get_function(name):
            self._may_fail("compile")
            assert name in name_expressions
            kernel = EmulatedKernel(name, serial=not SHUFFLES.search(name))

            def launch(grid, block, args):
                self._may_fail("launch")
                self.told.append(f"launch {grid[0]} x {block[0]}")
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

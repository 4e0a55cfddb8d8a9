"""GPUs: which there are, and what goes wrong with them, said in one way.

CuPy is imported here alone, and reached as ``chips.cupy()`` from elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import DeviceError
from .instances import MIN_CHIP

INSTALL = "python -m pip install 'itembed-gpu[cuda12]' (or [cuda13], for drivers from 580 on)"


@functools.cache
def cupy() -> Any:
    """Import CuPy; raises a `DeviceError` if it is not installed, or cannot be loaded."""
    try:
        import cupy as module
    except ImportError as error:
        raise DeviceError(f"CuPy cannot be imported ({error}); {INSTALL}") from error
    except OSError as error:  # the folder of its cache
        raise DeviceError(
            f"CuPy cannot be imported ({error}); name a folder it may write to in the "
            "environment variable CUPY_CACHE_DIR"
        ) from error
    return module


def cublas() -> Any:
    """Load cuBLAS, as CuPy does when it is first used; raises a `DeviceError` if it cannot."""
    try:
        return cupy().cuda.cublas
    except ImportError as error:
        raise DeviceError(f"the library cuBLAS cannot be loaded ({error}); {INSTALL}") from error


@dataclass(frozen=True)
class Chip:
    """A GPU."""

    index: int
    name: str
    capability: int  # compute capability, 90 for 9.0
    num_multiprocessor: int
    memory: int  # bytes
    cache: int  # bytes of the L2 cache


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@functools.cache
def find_chip(index: int = 0) -> Chip:
    """Look at a GPU.

    Raises a `DeviceError` if there is none of this number, no driver for it, or it is too old.
    """
    runtime = cupy().cuda.runtime
    try:
        driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            raise DeviceError(
                "no NVIDIA driver was found; install one (https://www.nvidia.com/drivers), "
                "or train with device='cpu'"
            )
        if driver // 1000 < built // 1000:
            raise DeviceError(
                f"CuPy was built for CUDA {_version(built)}, and the driver knows CUDA "
                f"{_version(driver)}; install a newer driver, or the CuPy for it: {INSTALL}"
            )
        count = runtime.getDeviceCount()
        if index >= count:
            raise DeviceError(f"there is no GPU number {index}; there are {count}, from 0 on")
        properties = runtime.getDeviceProperties(index)
    except runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"no GPU can be used ({error}); see that nvidia-smi lists one, or train with "
            "device='cpu'"
        ) from error
    name = properties["name"].decode()
    capability = 10 * properties["major"] + properties["minor"]
    if capability < MIN_CHIP:
        raise DeviceError(
            f"{name} has compute capability {capability / 10}, and {MIN_CHIP / 10} is "
            "needed; train with device='cpu'"
        )
    return Chip(
        index=index,
        name=name,
        capability=capability,
        num_multiprocessor=properties["multiProcessorCount"],
        memory=properties["totalGlobalMem"],
        cache=properties["l2CacheSize"],
    )


def describe() -> str:
    """Describe the GPUs, the driver, CuPy and its compiler, in a line.

    Raises a `DeviceError` if no GPU can be used.
    """
    module = cupy()
    find_chip(0)
    names = ", ".join(map(_describe_chip, range(module.cuda.runtime.getDeviceCount())))
    try:
        compiler = ".".join(map(str, module.cuda.nvrtc.getVersion()))
    except Exception as error:  # whatever keeps its library from loading
        raise DeviceError(f"the compiler NVRTC cannot be loaded ({error}); {INSTALL}") from error
    driver = _version(module.cuda.runtime.driverGetVersion())
    return f"{names}; driver for CUDA {driver}, CuPy {module.__version__}, NVRTC {compiler}"


def _describe_chip(index: int) -> str:
    try:
        chip = find_chip(index)
    except DeviceError as error:
        return f"cuda:{index} not usable: {error}"
    return f"{chip.name}, {show_size(chip.memory)}, compute capability {chip.capability / 10}"


def show_size(num_byte: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while num_byte >= 1000 and len(units) > 1:
        num_byte /= 1000
        del units[0]
    return f"{num_byte:.3g} {units[0]}"


def failures() -> tuple[type[Exception], ...]:
    """What the driver, the compiler and cuBLAS raise."""
    cuda = cupy().cuda
    loaded = vars(cuda).get("cublas")
    return (
        cuda.runtime.CUDARuntimeError,
        cuda.driver.CUDADriverError,
        cuda.compiler.CompileException,
        cuda.nvrtc.NVRTCError,
        *((loaded.CUBLASError,) if loaded else ()),
    )


@contextlib.contextmanager
def device(index: int, note: str = "") -> Iterator[None]:
    """Use a device, and say what goes wrong there in one way."""
    cuda = cupy().cuda
    try:
        with cuda.Device(index):
            yield
    except cuda.memory.OutOfMemoryError as error:
        raise DeviceError(
            f"cuda:{index} is out of memory ({error}); lower the dimension, or pass fewer items. "
            f"{note}"
        ) from error
    except failures() as error:
        raise DeviceError(f"cuda:{index} failed ({error}). {note}") from error

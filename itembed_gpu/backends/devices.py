"""Which backend trains a task: the only place where devices are told apart."""

from __future__ import annotations

import functools
import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import checks
from ..errors import DeviceError, InputError
from .cpu.task import CpuBackend
from .cuda.instances import THREADS_PER_PAIR
from .protocol import Backend

DEVICE_VARIABLE = "ITEMBED_GPU_DEVICE"

logger = logging.getLogger("itembed_gpu")


@dataclass(frozen=True)
class BackendInfo:
    """Whether a backend can be used here.

    Attributes
    ----------
    name : str
        "cpu" or "cuda".
    available : bool
        Whether tasks can be bound to it.
    detail : str
        What was found, or why it is missing and what to do about it.
    """

    name: str
    available: bool
    detail: str


@dataclass(frozen=True)
class Cuda:
    """A GPU and how to use it: to be passed as `device` where a name does not say enough.

    Parameters
    ----------
    index : int, optional
        Number of the GPU.
    threads_per_pair : {1, 2, 4, 8, 16, 32}, optional
        Threads that train a pair together; by default chosen from the
        dimension. It does not change what is trained.
    lossy : bool, optional
        Write rows back instead of adding to them. That can be faster on chips
        before compute capability 9.0, and loses updates that other threads make
        meanwhile: with fewer than some 100,000 labels, it learns badly.
    pairs_in_flight : int, optional
        Pairs that are trained at once, at most; by default as many as the chip and the
        catalog bear. With 1, pairs are trained one after the other, as on one thread of the
        CPU: slow, and the same each time.

    Raises
    ------
    InputError
        An argument cannot be used.

    Notes
    -----
    All but `index` are about losses with sampled negatives. With ``loss="softmax"`` a batch is one
    step, the same each time; from compute capability 8.0 on, its products of matrices are those
    of numbers of 16 bits, added up in float32.
    """

    index: int = 0
    threads_per_pair: int | None = None
    lossy: bool = False
    pairs_in_flight: int | None = None

    def __post_init__(self) -> None:
        checks.integer("index", self.index)
        if self.pairs_in_flight is not None:
            checks.integer("pairs_in_flight", self.pairs_in_flight, 1)
        if self.threads_per_pair not in (None, *THREADS_PER_PAIR):
            raise InputError(
                f"threads_per_pair is {self.threads_per_pair!r}; "
                f"pass one of {', '.join(map(str, THREADS_PER_PAIR))}, or None"
            )

    def __str__(self) -> str:
        return f"cuda:{self.index}"


Device = str | Cuda | None


def _cuda_backend(cuda: Cuda) -> Backend:
    # Imported here: CuPy need not be there, and takes half a second.
    from .cuda.task import CudaBackend

    return CudaBackend(cuda.index, cuda.threads_per_pair, cuda.lossy, cuda.pairs_in_flight)


@functools.cache
def _say_choice(choice: str) -> None:
    """Tell what "auto" chose, once a process."""
    logger.warning("device='auto' trains on %s", choice)


def available_backends() -> list[BackendInfo]:
    """Look at every backend that this package knows.

    Returns
    -------
    list of BackendInfo
        The CPU's first.
    """
    processor = platform.processor() or platform.machine()
    num_threads = CpuBackend().num_threads
    threads = f"{num_threads} thread{'s' if num_threads > 1 else ''}"
    from .cuda.chips import describe

    try:
        cuda = BackendInfo("cuda", True, describe())
    except DeviceError as error:
        cuda = BackendInfo("cuda", False, str(error))
    return [BackendInfo("cpu", True, f"Numba, {threads}, {processor}"), cuda]


def _parse(argument: str, device: str) -> Cuda | str:
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "auto") or (index and not (kind == "cuda" and index.isdigit())):
        raise InputError(f"{argument} must be 'cpu', 'cuda', 'cuda:N' or 'auto', not {device!r}")
    return Cuda(int(index or 0)) if kind == "cuda" else kind


def _home_of(tables: Mapping[str, Any]) -> int | None:
    """Return the number of the GPU that tables lie on; None where they are in host memory."""
    homes = {name: checks.device_of(table) for name, table in tables.items()}
    if len(set(homes.values())) > 1:
        where = ", ".join(
            f"{name} {'in host memory' if home is None else f'on cuda:{home}'}"
            for name, home in homes.items()
        )
        raise InputError(f"tables lie apart: {where}; pass all of them in one place")
    return next(iter(homes.values()), None)


def select_backend(
    device: Device = None,
    num_threads: int | None = None,
    tables: Mapping[str, Any] | None = None,
) -> Backend:
    """Return the backend for a device.

    Parameters
    ----------
    device : {"cpu", "cuda", "cuda:N", "auto"} or Cuda, optional
        Where to train; by default where the tables are if that is a GPU, else
        what the environment variable ``ITEMBED_GPU_DEVICE`` says, else the CPU.
        "auto" takes a GPU where there is one, and says what it chose.
    num_threads : int, optional
        Threads of the CPU backend; by default all cores.
    tables : mapping of str to array, optional
        Tables to be trained, by the names of their arguments.

    Raises
    ------
    InputError
        The device has no such name, or is not where the tables are; or the
        number of threads is not positive.
    DeviceError
        The device cannot be had.
    """
    if num_threads is not None:
        num_threads = checks.integer("num_threads", num_threads, 1)
    home = _home_of(tables or {})
    name, argument = device, "device"
    if name is None and home is None:
        name, argument = os.environ.get(DEVICE_VARIABLE) or "cpu", DEVICE_VARIABLE
    if name is None:
        name = Cuda(home or 0)
    choice = name if isinstance(name, Cuda) else _parse(argument, str(name))
    if home is not None and choice == "auto":
        choice = Cuda(home)
    if home is not None and (not isinstance(choice, Cuda) or choice.index != home):
        raise InputError(
            f"{argument} is {str(name)!r}, but the tables lie on cuda:{home}; "
            "leave it out, or pass tables from cupy.asnumpy(...)"
        )
    if isinstance(choice, Cuda):
        try:
            return _cuda_backend(choice)
        except DeviceError as error:
            raise DeviceError(f"{argument}={str(name)!r} cannot be had: {error}") from error
    if choice == "auto":
        try:
            backend = _cuda_backend(Cuda())
        except DeviceError as error:
            _say_choice(f"the CPU: {error}")
        else:
            _say_choice(backend.name)
            return backend
    return CpuBackend(num_threads)

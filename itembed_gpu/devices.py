"""Which backend trains a task: the only place where devices are told apart."""

from __future__ import annotations

import functools
import logging
import os
import platform
from dataclasses import dataclass

from . import checks
from .backend import Backend
from .cpu import CpuBackend
from .errors import DeviceError, InputError

DEVICE_VARIABLE = "ITEMBED_GPU_DEVICE"
NO_CUDA = f"this version of {__package__} has no CUDA backend yet; train with device='cpu'"

logger = logging.getLogger(__package__)


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


@functools.cache
def _say_choice() -> None:
    """Tell what "auto" chose, once a process."""
    logger.warning("device='auto' trains on the CPU: %s", NO_CUDA)


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
    return [
        BackendInfo("cpu", True, f"Numba, {threads}, {processor}"),
        BackendInfo("cuda", False, NO_CUDA),
    ]


def select_backend(device: str | None = None, num_threads: int | None = None) -> Backend:
    """Return the backend for a device.

    Parameters
    ----------
    device : {"cpu", "cuda", "cuda:N", "auto"}, optional
        Where to train; by default, what the environment variable
        ``ITEMBED_GPU_DEVICE`` says, and else where the tables are. "auto" takes
        a GPU where there is one, and says what it chose.
    num_threads : int, optional
        Threads of the CPU backend; by default all cores.

    Raises
    ------
    InputError
        The device has no such name, or the number of threads is not positive.
    DeviceError
        The device cannot be had.
    """
    if num_threads is not None:
        num_threads = checks.integer("num_threads", num_threads, 1)
    name, argument = device, "device"
    if name is None:
        name, argument = os.environ.get(DEVICE_VARIABLE) or "cpu", DEVICE_VARIABLE
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda", "auto") or (index and not (kind == "cuda" and index.isdigit())):
        raise InputError(f"{argument} must be 'cpu', 'cuda', 'cuda:N' or 'auto', not {name!r}")
    if kind == "cuda":
        raise DeviceError(f"{argument}={name!r} cannot be had: {NO_CUDA}")
    if kind == "auto":
        _say_choice()
    return CpuBackend(num_threads)

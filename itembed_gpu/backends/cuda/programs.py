"""Kernels, compiled for a device."""

from __future__ import annotations

import functools
from typing import Any

from ...errors import DeviceError
from . import chips, instances


@functools.cache
def _module(index: int, names: tuple[str, ...]) -> Any:
    """Compile kernels for a device; CuPy keeps what it has compiled on disk."""
    return chips.cupy().RawModule(
        code=instances.source(),
        options=("-std=c++17",),
        name_expressions=(*names, instances.FIND_BEYOND),
    )


def kernel(index: int, names: tuple[str, ...], name: str) -> Any:
    """Return a kernel: one of some names that are compiled together, or `FIND_BEYOND`.

    Raises a `DeviceError` if the compiler cannot be had, or what it made cannot be kept.
    """
    try:
        return _module(index, names).get_function(name)
    except OSError as error:
        raise DeviceError(
            f"the kernel cannot be compiled or kept ({error}); see that CUPY_CACHE_DIR, or else "
            "~/.cupy, can be written to"
        ) from error
    except (ImportError, RuntimeError) as error:
        if isinstance(error, chips.failures()):
            raise
        raise DeviceError(
            f"the compiler NVRTC cannot be loaded ({error}); {chips.INSTALL}"
        ) from error

"""How the CPU's code is compiled."""

from __future__ import annotations

from typing import Any

import numba
from numba import njit

# False where NUMBA_DISABLE_JIT has the code run as Python, for debugging.
COMPILED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]

# Of LLVM's fast-math flags, those that let loops vectorise; not "nnan" and
# "ninf", under which a NaN would pass unnoticed.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

# What compiled code alone calls: Python has no way in, which halves the time to compile it.
_INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Decorators. A part of whatever calls it, whose constants are then its own ...
inlined = njit(forceinline=True, **_INSIDE)
inlined_fast = njit(forceinline=True, fastmath=FAST_MATH, **_INSIDE)
# ... the same before types are inferred: for what is long and has one caller ...
part = njit(inline="always")
# ... and a function of its own, which needs no constants, or is not called often.
shared = njit(**_INSIDE)

"""How Python is compiled, by Numba, and kept on disk for the processes to come."""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba import njit

try:
    from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
except ImportError:  # these are names of Numba's own, which may change: see `_keep`
    FunctionCache = IndexDataCacheFile = NullCache = object  # type: ignore[assignment,misc]

logger = logging.getLogger("itembed_gpu.compiling")

# False where NUMBA_DISABLE_JIT has the code run as Python, for debugging.
COMPILED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]

DIGEST = sha256().digest_size

# Of LLVM's fast-math flags, those that let loops vectorise; not "nnan" and
# "ninf", under which a NaN would pass unnoticed.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

# What compiled code alone calls: Python has no way in, which halves the time to compile it.
_INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Decorators. A part of whatever calls it, whose constants are then its own ...
inlined = njit(forceinline=True, **_INSIDE)
inlined_fast = njit(forceinline=True, fastmath=FAST_MATH, **_INSIDE)
# ... the same whose sums are added up in the order in which they are written ...
inlined_exact = njit(forceinline=True, fastmath=FAST_MATH - {"reassoc"}, **_INSIDE)
# ... the same before types are inferred: for what is long and has one caller ...
part = njit(inline="always")
# ... and a function of its own, which needs no constants, or is not called often.
shared = njit(**_INSIDE)


def kept(**options: Any) -> Callable[[Any], Any]:
    """Compile a function at its first call, with options of Numba, and keep its code on disk.

    Where that cannot be, it is compiled all the same, in every process anew. What is on the disk
    and cannot be read, as after a write that was cut, is written again.
    """

    def decorate(function: Any) -> Any:
        dispatcher = njit(**options)(function)
        if COMPILED:
            _keep(dispatcher)
        return dispatcher

    return decorate


def _keep(dispatcher: Any) -> None:
    try:
        _ = dispatcher._cache  # else one would be set that nothing asks
        try:
            dispatcher._cache = _Cache(dispatcher.py_func)
        except (RuntimeError, OSError) as error:  # there is no folder for it
            dispatcher._cache = _NoCache(error)
    except (AttributeError, TypeError):
        # Another Numba than is known here. Its own cache will do, where it can be had.
        with contextlib.suppress(Exception):
            dispatcher.enable_caching()


class _Files(IndexDataCacheFile):
    """Numba's files of a function, with a checksum at the end of each: pickles end before it."""

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)  # type: ignore[no-untyped-call]
        return data + sha256(data).digest()

    def _load_index(self) -> Any:
        version = pickle.dumps(self._version, protocol=-1)
        with contextlib.suppress(FileNotFoundError):
            data = Path(self._index_path).read_bytes()
            if data.startswith(version):  # else the rest is of another form
                _verify(data[len(version) :])
        return super()._load_index()  # type: ignore[no-untyped-call]

    def _load_data(self, name: str) -> Any:
        _verify(Path(self._data_path(name)).read_bytes())  # type: ignore[no-untyped-call]
        return super()._load_data(name)  # type: ignore[no-untyped-call]


def _verify(data: bytes) -> None:
    if sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        raise ValueError("its checksum is another")


class _Cache(FunctionCache):
    """Numba's, which no file stops."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, stamp)  # type: ignore[no-untyped-call]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # a pickle of another form may raise any
            logger.info("%s: compiled code there is damaged: %r", self.cache_path, error)
        try:
            # Numba would read its index again before it writes.
            self.flush()  # type: ignore[no-untyped-call]
        except Exception as error:
            _tell(error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:  # the disk is full, read-only or damaged
            _tell(error)


class _NoCache(NullCache):
    """Keeps nothing, and says so where something is to be kept."""

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def save_overload(self, sig: Any, data: Any) -> None:
        _tell(self._reason)


_told: list[str] = []


def _tell(reason: Exception) -> None:
    """Log why code is not kept, once: the next one would fail alike."""
    if not _told:
        _told.append(str(reason))
        logger.warning(
            "compiled code cannot be kept on disk (%s), so that every process compiles it again; "
            "set NUMBA_CACHE_DIR to a folder that can be written to",
            reason,
        )

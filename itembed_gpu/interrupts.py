"""Ctrl-C, held back where it would leave something half done."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

# What `signal` is made of, without its enums: to look those up takes longer than a small call.
_SIGINT = int(signal.SIGINT)
_raw: Any = importlib.import_module("_signal")


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[int]]:
    """Hold Ctrl-C back until the block ends; the list tells whether there was one.

    Threads are then never left at work on the tables, and no interrupt
    is lost where Python ignores exceptions. Only the main thread gets any, and a
    handler of the caller's own is left alone.
    """
    interrupts: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or _raw.getsignal(_SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    _raw.signal(_SIGINT, lambda number, frame: interrupts.append(number))
    try:
        yield interrupts
    finally:
        _raw.signal(_SIGINT, signal.default_int_handler)
    if interrupts:
        raise KeyboardInterrupt

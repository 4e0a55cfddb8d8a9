"""Threads of the CPU: plain ones, running compiled code that does not hold the GIL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import numba

from ... import checks

Result = TypeVar("Result")


def check_threads(value: int | None) -> int:
    """Check a number of threads; None stands for as many as Numba has."""
    if value is None:
        return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return checks.integer("num_threads", value, 1)


def share(
    function: Callable[[int], Result], values: Iterable[int], num_threads: int
) -> list[Result]:
    """Call a function with each value, on this thread and some more, and return what it returns.

    Plain threads, because those of `concurrent.futures` cannot be had any more
    once the main thread has ended, while others still train.
    """
    remaining = iter(values)
    lock = threading.Lock()
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not errors:
                with lock:
                    value = next(remaining)
                results.append(function(value))
        except StopIteration:
            pass
        except BaseException as error:
            errors.append(error)

    started: list[threading.Thread] = []
    try:
        for n in range(1, num_threads):
            thread = threading.Thread(target=work, name=f"itembed_gpu-{n}")
            thread.start()
            started.append(thread)
        work()
    finally:
        # Nothing may write to the tables any more once this returns.
        for thread in started:
            thread.join()
    if errors:
        raise errors[0]
    return results

"""How fast tasks train: pairs a second, by the wall and on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LEARNING_RATE = 0.025
REPEAT = 3


@dataclass(frozen=True)
class Speed:
    """Pairs a second: wall time of the median, the slowest and the fastest run, and kernel time."""

    median: float
    low: float
    high: float
    kernel: float | None
    num_pair: int
    details: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        kernel = "" if self.kernel is None else f", kernel {mega(self.kernel)}"
        return f"{mega(self.median)} Mpair/s ({mega(self.low)} to {mega(self.high)}{kernel})"


def mega(value: float) -> str:
    """Return millions, in three digits or more."""
    millions = value / 1e6
    return f"{millions:.0f}" if millions >= 100 else f"{millions:.3g}"


def kernel_seconds(task: Any) -> float | None:
    """Time that a task's launches took on the device so far; None on the CPU."""
    return getattr(task._bound, "kernel_seconds", None)


def timed(task: Any, function: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """Call a function and wait for the device: what it returned, wall and kernel seconds."""
    task.synchronize()
    before = kernel_seconds(task)
    began = time.perf_counter()
    result = function()
    task.synchronize()
    seconds = time.perf_counter() - began
    after = kernel_seconds(task)
    return result, seconds, None if before is None or after is None else after - before


def time_task(task: Any, seconds: float, learning_rate: float = LEARNING_RATE) -> Speed:
    """Measure a task's speed, in runs of at most an epoch and about so many seconds."""
    rates = np.full(len(task), learning_rate)

    def run(num_batch: int) -> tuple[int, float, float | None]:
        return timed(task, lambda: task.do_batches(rates[:num_batch]))

    probe = max(1, len(task) // 50)
    run(probe)  # compiles and copies
    # Counted by what a batch took in a short run, which is rather too much.
    num_batch = int(min(len(task), max(probe, seconds / (run(probe)[1] / probe))))
    for _ in range(2):
        run(num_batch)  # the length of launches is learned, and clocks rise
    runs = [run(num_batch) for _ in range(REPEAT)]
    speeds = [num_pair / wall for num_pair, wall, _ in runs]
    kernels_ = [num_pair / kernel for num_pair, _, kernel in runs if kernel]
    return Speed(
        statistics.median(speeds),
        min(speeds),
        max(speeds),
        statistics.median(kernels_) if kernels_ else None,
        runs[0][0],
        in_use(task),
    )


def time_epoch(task: Any, learning_rate: float = LEARNING_RATE) -> float:
    """Return the wall time of a whole epoch, after one that warms up."""
    rates = np.full(len(task), learning_rate)
    runs = [timed(task, lambda: task.do_batches(rates))[1] for _ in range(1 + REPEAT)]
    return statistics.median(runs[1:])


def in_use(task: Any) -> dict[str, Any]:
    """Return which kernel a task used, and with how many pairs in flight."""
    geometry, instance = (getattr(task._bound, name, None) for name in ("geometry", "instance"))
    details: dict[str, Any] = {}
    if instance is not None:
        details |= {"threads_per_pair": instance.threads, "update": instance.update}
    if geometry is not None:
        caps = geometry.left_caps, geometry.right_caps
        details |= {
            "pairs_in_flight": geometry.num_tile,
            "capped": any(cap is not None for cap in caps),
        }
    return details

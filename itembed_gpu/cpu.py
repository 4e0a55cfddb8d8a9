"""The CPU backend: Numba on all cores, Hogwild over pairs.

Threads train disjoint ranges of positions and share the tables without locks
(Niu et al., "Hogwild!", NIPS 2011). They are plain threads running compiled code
that does not hold the GIL, started for each call: Numba's own parallel runtime
aborts when used from two threads at once, or after a fork, and a thread costs
far less to start than the work it gets.
"""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import njit

from . import rng, schedule, steps
from .backend import Problem
from .rng import u64
from .schedule import epoch_order
from .steps import BLOCK, FAST_MATH, train_positions

# A compiled call does not return before it is done, so this is how long Ctrl-C waits.
SECONDS_PER_CALL = 0.05
# Calls a thread makes in one `run`: enough to even out threads of unequal speed.
CALLS_PER_THREAD = 2
# With less work than this, a thread is not worth starting.
MIN_PAIRS_PER_THREAD = 4096
# A cautious guess, in row elements a second, until a call has been timed.
FIRST_SPEED = 2e8

# Bit patterns of float32: no sign, and the least one that is not finite.
MAGNITUDE = np.int32(0x7FFFFFFF)
INFINITY = np.int32(0x7F800000)
VALUES_PER_CHECK = 1 << 24


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    """Compile at the first call, and keep the code on disk wherever a folder can be written."""
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder for its cache
        return njit(nogil=True, **options)(function)


@functools.cache
def _sources() -> int:
    """Checksum of the code that gets inlined into the kernel.

    Numba's disk cache is renewed when this file changes, but it does not watch
    the modules that this one calls.
    """
    checksum = 0
    for module in (rng, schedule, steps):
        checksum = zlib.crc32(Path(str(module.__file__)).read_bytes(), checksum)
    return checksum


@functools.cache
def make_kernel(dim: int, num_negative: int, neighbour: bool) -> Any:
    """Return `train_positions` with these three as compile-time constants."""
    sources = _sources()

    def kernel(
        pairs, syn_left, syn_right, seed, stream, epoch, order, start, stop, num_batch, first, rates
    ):
        # Closure constants are part of the cache's key; this one has no other use.
        _ = sources
        return train_positions(
            pairs,
            neighbour,
            syn_left,
            syn_right,
            seed,
            stream,
            epoch,
            order,
            start,
            stop,
            num_batch,
            first,
            rates,
            dim,
            num_negative,
        )

    return _compile(kernel, fastmath=FAST_MATH, error_model="numpy")


def _largest_magnitude(bits):
    largest = np.int32(0)
    for i in range(bits.shape[0]):
        largest = max(largest, bits[i] & MAGNITUDE)
    return largest


@functools.cache
def _magnitude_kernel() -> Any:
    return _compile(_largest_magnitude)


def is_finite(table: npt.NDArray[np.float32]) -> bool:
    """Whether a C-contiguous float32 table holds finite numbers only."""
    bits = table.reshape(-1).view(np.int32)
    largest = _magnitude_kernel()
    return all(
        largest(bits[start : start + VALUES_PER_CHECK]) < INFINITY
        for start in range(0, len(bits), VALUES_PER_CHECK)
    )


class CpuTask:
    """A problem bound to the cores of this machine (see `backend.BoundTask`)."""

    def __init__(self, problem: Problem, num_threads: int) -> None:
        self._problem = problem
        self._num_threads = num_threads
        dim = int(problem.syn_left.shape[1])
        self._kernel = make_kernel(dim, problem.num_negative, problem.neighbour)
        self._compiled = False
        self._order_key: tuple[int, int] | None = None
        self._order = np.empty(0, dtype=np.uint64)
        self._pairs_per_second = FIRST_SPEED / (dim * (problem.num_negative + 2))
        self._loss = 0.0
        self._num_sample = 0

    @property
    def _pairs_per_call(self) -> int:
        blocks = int(self._pairs_per_second * SECONDS_PER_CALL / BLOCK)
        return BLOCK * max(1, blocks)

    @property
    def min_pairs(self) -> int:
        return 1 if self._num_threads == 1 else 4 * MIN_PAIRS_PER_THREAD * self._num_threads

    @property
    def max_pairs(self) -> int:
        return self._pairs_per_call * CALLS_PER_THREAD * self._num_threads

    def prepare(self) -> None:
        if not self._compiled:
            # A range of no positions: it has nothing to train.
            self._train(0, 0, 0, np.zeros(1, dtype=np.float32))(0, 0)
            self._compiled = True

    def _train(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> Callable[[int, int], tuple[float, int]]:
        """Return a function that trains a range of positions."""
        problem = self._problem
        order = self._epoch_order(stream, epoch)

        def train(start: int, stop: int) -> tuple[float, int]:
            loss, num_sample = self._kernel(
                problem.pairs,
                problem.syn_left,
                problem.syn_right,
                u64(problem.seed),
                u64(stream),
                u64(epoch),
                order,
                start,
                stop,
                problem.num_batch,
                first_batch,
                rates,
            )
            return loss, num_sample

        return train

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        self.prepare()
        problem = self._problem
        train = self._train(stream, epoch, first_batch, rates)
        start = problem.batch_start(first_batch)
        stop = problem.batch_start(first_batch + len(rates))
        num_threads = min(self._num_threads, max(1, (stop - start) // MIN_PAIRS_PER_THREAD))
        size = min(self._pairs_per_call, -(-(stop - start) // num_threads))
        starts = range(start, stop, size)
        stops = [min(position + size, stop) for position in starts]

        began = time.perf_counter()
        if num_threads == 1:
            self._tally(map(train, starts, stops))
        else:
            executor = ThreadPoolExecutor(num_threads, thread_name_prefix="itembed_gpu")
            try:
                self._tally(executor.map(train, starts, stops))
            finally:
                # Nothing may write to the tables any more once this returns.
                executor.shutdown(wait=True, cancel_futures=True)
        self._note_speed(stop - start, num_threads, time.perf_counter() - began)

    def _epoch_order(self, stream: int, epoch: int) -> npt.NDArray[np.uint64]:
        if self._order_key != (stream, epoch):
            self._order = epoch_order(self._problem.seed, stream, epoch, self._problem.num_slot)
            self._order_key = (stream, epoch)
        return self._order

    def _tally(self, results: Iterable[tuple[float, int]]) -> None:
        for loss, num_sample in results:
            self._loss += loss
            self._num_sample += num_sample

    def _note_speed(self, num_pair: int, num_threads: int, seconds: float) -> None:
        if num_pair >= MIN_PAIRS_PER_THREAD and seconds > 0:
            speed = num_pair / num_threads / seconds
            # At most double, lest one lucky reading makes for a long call.
            self._pairs_per_second = min(speed, 2 * self._pairs_per_second)

    def read_loss(self) -> tuple[float, int]:
        result = self._loss, self._num_sample
        self._loss, self._num_sample = 0.0, 0
        return result

    def is_finite(self) -> bool:
        return is_finite(self._problem.syn_left) and is_finite(self._problem.syn_right)

    def synchronize(self) -> None:
        """Nothing to do: the caller's arrays are trained in place."""


class CpuBackend:
    """Numba on the cores of this machine (see `backend.Backend`).

    Parameters
    ----------
    num_threads : int, optional
        Number of threads; by default ``NUMBA_NUM_THREADS``, which is the number
        of cores this process may use unless the environment says otherwise.
    """

    name = "cpu"

    def __init__(self, num_threads: int | None = None) -> None:
        self.num_threads = num_threads or int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

    def bind(self, problem: Problem) -> CpuTask:
        return CpuTask(problem, self.num_threads)

    def to_device(self, table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return table

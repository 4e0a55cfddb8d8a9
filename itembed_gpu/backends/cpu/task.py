"""The CPU backend: Numba on all cores, Hogwild over pairs.

Threads train disjoint ranges of positions and share the tables without locks
(Niu et al., "Hogwild!", NIPS 2011). They are plain threads running compiled code
that does not hold the GIL, started for each call: Numba's own parallel runtime
aborts when used from two threads at once, or after a fork, and a thread costs
far less to start than the work it gets.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ... import checks
from ...compiling import FAST_MATH, kept
from ...interrupts import deferred_interrupt
from ...objective.constants import BLOCK
from ...objective.pairs import Pairs
from ...objective.rng import u64
from ...objective.schedule import epoch_order
from ...objective.table import Table, uniform_rows
from ..dense import DenseTask
from ..listing import Listed
from ..protocol import BoundTask, Problem, Tally
from . import blocks
from .blocks import Epoch, train_positions
from .dense import CpuOperations
from .in_place import InPlace
from .listing import CpuLister, pairs_of
from .pairs import Stream
from .sgns import Constants, Rows, Tables
from .threads import share

# A compiled call does not return before it is done, so this is how long Ctrl-C waits.
SECONDS_PER_CALL = 0.05
# Calls a thread makes in one `run`: enough to even out threads of unequal speed.
CALLS_PER_THREAD = 2
# With less work than this, a thread is not worth starting.
SECONDS_PER_THREAD = 5e-4
# A cautious guess, in row elements a second, until a call has been timed.
FIRST_SPEED = 2e8
# What one reading may change: a pause of the machine must not look like its speed.
SPEED_CHANGE = 2.0


def _modules_behind(name: str) -> set[str]:
    """Name the modules that a module has something from, and they, and so on: of this package."""
    found: set[str] = set()
    pending = [name]
    while pending:
        name = pending.pop()
        module = sys.modules.get(name)
        if name in found or module is None or hasattr(module, "__path__"):
            continue
        found.add(name)
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join([name.rsplit(".", node.level)[0], *filter(None, [node.module])])
                pending += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


@functools.cache
def _sources() -> int:
    """Checksum of the code that gets inlined into the kernel.

    Numba's disk cache is renewed when this file changes, but it does not watch
    the modules that this one calls.
    """
    checksum = 0
    for name in sorted(_modules_behind(blocks.__name__)):
        checksum = zlib.crc32(inspect.getsource(sys.modules[name]).encode(), checksum)
    return checksum


@functools.cache
def make_kernel(constants: Constants) -> Any:
    """Return `train_positions` with constants compiled in, its code kept on disk."""
    sources = _sources()
    source, dim, num_target, group, flags = constants
    shared = True if group > 1 else None

    def kernel(max_bag, pairs, tables, objective, epoch, start, stop):
        # Closure constants are part of the cache's key; this one has no other use.
        _ = sources
        known = source, dim, num_target, group, flags
        return train_positions(known, shared, max_bag, pairs, tables, objective, epoch, start, stop)

    return kept(nogil=True, fastmath=FAST_MATH, error_model="numpy")(kernel)


def _rows(table: Table) -> Rows:
    if table.bias is None:
        return Rows(table.array, None, table.accumulator)
    return Rows(table.array, None, None, table.bias, table.accumulator, table.bias_accumulator)


class CpuTask(InPlace):
    """A problem bound to the cores of this machine (see `protocol.BoundTask`)."""

    def __init__(self, problem: Problem, num_threads: int) -> None:
        super().__init__(problem)
        self._num_threads = num_threads
        dim = int(problem.syn_left.shape[1])
        constants = Constants(
            problem.source, dim, problem.num_negative + 1, problem.group, problem.objective.flags
        )
        self._constants = constants
        self._max_bag = problem.max_bag
        self._kernel = make_kernel(constants)
        self._compiled = False
        self._order_key: tuple[int, int] | None = None
        self._order = np.empty(0, dtype=np.uint64)
        self._pairs_per_second = FIRST_SPEED / (dim * (problem.num_negative + 2))

    @property
    def _pairs_per_call(self) -> int:
        blocks = int(self._pairs_per_second * SECONDS_PER_CALL / BLOCK)
        return BLOCK * max(1, blocks)

    @property
    def min_pairs(self) -> int:
        if self._num_threads == 1:
            return 1
        return int(4 * self._num_threads * SECONDS_PER_THREAD * self._pairs_per_second)

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
    ) -> Callable[[int, int], Tally]:
        """Return a function that trains a range of positions."""
        problem = self._problem
        left, right = _rows(problem.left), _rows(problem.right)
        tables = Tables(left, right, None if problem.own is None else _rows(problem.own))
        key = Stream(u64(problem.seed), u64(stream), u64(epoch))
        order = self._epoch_order(stream, epoch)
        schedule = Epoch(key, order, problem.num_batch, first_batch, rates)
        # The flags are compiled in: two objectives that differ in them alone are of one type.
        rest = problem.objective._replace(flags=0)

        def train(start: int, stop: int) -> Tally:
            arguments = (problem.pairs, tables, rest, schedule, start, stop)
            return Tally(*self._kernel(self._max_bag, *arguments))

        return train

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        self.prepare()
        problem = self._problem
        train = self._train(stream, epoch, first_batch, rates)
        start = problem.batch_start(first_batch)
        stop = problem.batch_start(first_batch + len(rates))
        if start == stop:  # with fewer groups than batches
            return
        seconds = (stop - start) / self._pairs_per_second
        num_threads = min(self._num_threads, max(1, int(seconds / SECONDS_PER_THREAD)))
        # Calls begin where a group does: a multiple of every group.
        size = BLOCK * -(-(stop - start) // (BLOCK * num_threads))
        size = max(BLOCK, min(self._pairs_per_call, size))
        starts = range(start, stop, size)

        with deferred_interrupt() as interrupts:

            def train_some(position: int) -> Tally:
                # What is left undone after Ctrl-C is left quickly.
                return Tally() if interrupts else train(position, min(position + size, stop))

            began = time.perf_counter()
            for tally in share(train_some, starts, num_threads):
                self._tally = self._tally.plus(tally)
            if not interrupts:
                self._note_speed(stop - start, num_threads, time.perf_counter() - began)

    def load(self, before: Any = None) -> None:
        """Nothing to do: its arrays are used where they are."""

    def follow(self, before: CpuTask) -> None:
        self._pairs_per_second = before._pairs_per_second

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        return self._problem.count_pairs(first_batch, num_batch)

    def _epoch_order(self, stream: int, epoch: int) -> npt.NDArray[np.uint64]:
        if self._order_key != (stream, epoch):
            self._order = epoch_order(self._problem.seed, stream, epoch, self._problem.num_slot)
            self._order_key = (stream, epoch)
        return self._order

    def _note_speed(self, num_pair: int, num_threads: int, seconds: float) -> None:
        speed, known = num_pair / num_threads / max(seconds, 1e-9), self._pairs_per_second
        self._pairs_per_second = min(max(speed, known / SPEED_CHANGE), known * SPEED_CHANGE)


class CpuBackend:
    """Numba on the cores of this machine (see `protocol.Backend`).

    Parameters
    ----------
    num_threads : int, optional
        Number of threads; by default ``NUMBA_NUM_THREADS``, which is the number
        of cores this process may use unless the environment says otherwise.
    """

    name = "cpu"
    apart = False

    def __init__(self, num_threads: int | None = None) -> None:
        self.num_threads = num_threads or int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

    def bind(self, problem: Problem) -> BoundTask:
        if problem.options.dense:
            return DenseTask(problem, self.operations(problem))
        return CpuTask(problem, self.num_threads)

    def lister(self, problem: Problem) -> CpuLister:
        return CpuLister(problem, self.num_threads)

    def pairs_of(self, listed: Listed, number: int, weight: float | None) -> Pairs:
        return pairs_of(listed, number, weight)

    def operations(self, problem: Problem) -> CpuOperations:
        return CpuOperations(problem, self.num_threads)

    def zeros(self, num_row: int, dim: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.zeros((num_row, dim), dtype=dtype)

    def uniform(self, num_row: int, dim: int, seed: int) -> npt.NDArray[Any]:
        return uniform_rows(num_row, dim, seed)

    def to_device(self, table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return table

    def fewest_parts(self, tables: tuple[Table, ...]) -> int:
        return 1  # they are in its memory

    def bring(self, table: Table) -> Table:
        return table

    def is_sound(self, table: Table, bounds: Mapping[str, float]) -> bool:
        return all(checks.is_finite(array, bounds[n]) for n, array in table.arrays().items())

    def fetch(self, table: Table) -> Table:
        return table

"""The CUDA backend: what a task copies to a GPU, and its launches.

Nothing here decides what a pair is or in which order pairs come: the kernels draw
them from the same random stream as the CPU does. What a launch needs is written to
one record, `instances.WORK`.

Everything runs in CuPy's current stream, so that it is in order with what the caller
does to CuPy arrays.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import checks
from ...interrupts import deferred_interrupt
from ...objective.constants import SPAN
from ...objective.options import ADAGRAD, GLOVE, MEAN
from ...objective.pairs import Pairs
from ...objective.schedule import batch_at, batch_start, epoch_order, in_order, loss_stride
from ...objective.table import Table
from ..dense import DenseTask
from ..listing import Listed
from ..protocol import BoundTask, Problem, Tally
from . import chips, instances, programs, tables
from .chips import Chip
from .copies import Copies, Pinned
from .dense import CudaOperations
from .in_flight import (
    CELL_MEAN_LOAD,
    MAX_LEFT_LOAD,
    Float64Array,
    Geometry,
    expected_hits,
    hottest_hits,
    limit_by_cache,
    own_hits,
    plan_geometry,
)
from .instances import THREADS_PER_BLOCK, WARP
from .listing import CudaLister, bytes_at_hand, pairs_of

logger = logging.getLogger("itembed_gpu")

# A launch does not return before it is done, so this is how long Ctrl-C waits, twice.
SECONDS_PER_LAUNCH = 0.1
# A cautious guess, in pairs a second, until a launch has been timed.
FIRST_SPEED = 2e7
# The same, of one tile.
TILE_SPEED = 1e5
# A learning rate so many times lower than planned for is worth another plan.
REPLAN = 16
# What one reading may change.
SPEED_CHANGE = 4.0
# Shorter launches say more of their overhead than of their speed.
MIN_SECONDS_TO_NOTE = 1e-3
# Pairs that make the overhead of a launch small.
MIN_PAIRS = 1 << 18
# Batches of a launch, at most: room for so many learning rates is kept.
MAX_BATCHES = 1 << 16
# Numbers that a launch counts (pairs.cuh).
NUM_TALLY = 3
# Bytes that a launch takes for its learning rates and its tally.
TALLY_BYTES = 8 * NUM_TALLY
SLOT_BYTES = TALLY_BYTES + 4 * MAX_BATCHES
# What a launch is told of that lies beside the rows of a table, and what it is called there.
BESIDE_ROWS = {
    "accumulator": "state",
    "bias": "bias",
    "bias_accumulator": "bias_state",
}
# The host runs ahead of the device by so many launches.
NUM_SLOT = 2
# Share of the free memory that parts of tables may take; the rest is for pairs and the like.
ROOM = 0.8
# Parts that are tried, at most.
MAX_PARTS = 1 << 12
# Fields of pairs that are no arrays.
NUMBERS = ("shift", "first", "window")


class _Slot(Pinned):
    """A launch under way: where its learning rates and its tally are kept.

    On the device the tally is followed by the rates, and both begin with one copy; on the host
    what comes back of the tally stands before what is sent.
    """

    def __init__(self) -> None:
        super().__init__(TALLY_BYTES + SLOT_BYTES)
        cupy = chips.cupy()
        self._there = cupy.empty(SLOT_BYTES, dtype=np.uint8)
        self.tally: int = self._there.data.ptr
        self.rates = self.tally + TALLY_BYTES
        self.host_tally = self.bytes[:TALLY_BYTES].view(np.float64)
        self._host_rates = self.bytes[2 * TALLY_BYTES :].view(np.float32)
        self.bytes[TALLY_BYTES : 2 * TALLY_BYTES] = 0
        self.began = cupy.cuda.Event()
        self.num_pair = 0
        self.num_sample = 0

    def begin(self, rates: npt.NDArray[np.float32], stream: Any) -> None:
        """Have a stream bring the rates, and a tally of nothing."""
        self._host_rates[: len(rates)] = rates
        self.send(self.tally, TALLY_BYTES + rates.nbytes, stream, first=TALLY_BYTES)
        self.began.record(stream)

    def end(self, stream: Any) -> None:
        """Have it fetch the tally."""
        self.fetch(self.tally, TALLY_BYTES, stream)
        self.mark(stream)


class CudaTask:
    """A problem bound to a GPU (see `protocol.BoundTask`).

    Attributes
    ----------
    instance : Instance
        Kernel in use.
    geometry : Geometry or None
        Pairs in flight and caps in use, once something was trained.
    kernel_seconds : float
        Time that launches took on the device, of those that were waited for.
    """

    def __init__(
        self,
        problem: Problem,
        chip: Chip,
        threads_per_pair: int | None = None,
        lossy: bool = False,
        pairs_in_flight: int | None = None,
    ) -> None:
        self._problem = problem
        self._pairs_in_flight = pairs_in_flight
        self._chip = chip
        self._copies = Copies(problem, chip)
        self._left, self._right = map(self._copies.of, (problem.left, problem.right))
        # What has rows of the dimension.
        self._wide = [(table, "") for table in problem.tables]
        if problem.objective.flags & GLOVE:
            self._wide += [(table, "accumulator") for table in problem.tables]
        self.in_place = self._copies.in_place
        self.instance = instances.choose_instance(
            problem.source,
            self._left.shape[1],
            problem.num_negative,
            chip=chip.capability,
            width=min(self._copies.of(*wide).width for wide in self._wide),
            shared=problem.group > 1,
            options=problem.objective.flags,
            lossy=lossy,
            threads=threads_per_pair,
        )
        self._work = np.zeros(1, dtype=instances.WORK)
        self._fields = {name: self._work[name] for name in instances.WORK.names or ()}
        self._trained = self._copies.trained(*problem.tables)
        self._order: tuple[tuple[int, int], npt.NDArray[np.uint64]] | None = None
        self._packed: list[Any] = []  # CuPy arrays that the work points to
        self._kernel: Any = None
        self._ready = False
        self._slots: list[_Slot] = []
        self._num_launch = 0
        self._max_tile = 0
        self.geometry: Geometry | None = None
        self._planned_rate = 0.0
        self._foreseen = False  # whether the plan was made ahead, and not yet looked at
        self._caps: list[Any] = []  # CuPy arrays that the work points to
        self.kernel_seconds = 0.0
        self._pairs_per_second = FIRST_SPEED
        self._tally = Tally()

    # --- before the first launch

    def prepare(self) -> None:
        self._make_ready()
        _ = self._hits  # found now, as it takes time

    @functools.cached_property
    def _hits(self) -> tuple[Float64Array, Float64Array, Float64Array | None]:
        if not checks.on_device(self._problem.pairs.left_items):
            return *expected_hits(self._problem), own_hits(self._problem)
        # Counted where they are, beside what others train.
        with self._copies.device(), chips.cupy().cuda.Stream(non_blocking=True):
            return *expected_hits(self._problem), own_hits(self._problem)

    def _make_ready(self) -> None:
        if self._ready and self._copies.ready:
            return
        with self._copies.device(), deferred_interrupt():
            self._ready = False
            if not self._packed:
                self._check_memory()
                self._copy_pairs()
            if not self._slots:
                self._slots = [_Slot() for _ in range(NUM_SLOT)]
            self._find_kernel_in_use()
            self._copies.upload()
            for side, table in self._sides().items():
                rows = self._copies.of(table).array
                self._work[f"{side}_syn"] = rows.data.ptr
                self._work[f"{side}_stride"] = rows.strides[0] // 4
                for part, name in BESIDE_ROWS.items():
                    if getattr(table, part) is not None:
                        beside = self._copies.of(table, part).array
                        self._work[f"{side}_{name}"] = beside.data.ptr
                        if part == "accumulator" and side != "own":
                            self._work[f"{side}_state_stride"] = beside.strides[0] // 4
            self._ready = True

    def _sides(self) -> dict[str, Table]:
        """Tables by what the record of a launch calls them."""
        problem = self._problem
        sides = {"left": problem.left, "right": problem.right}
        return sides if problem.own is None else {**sides, "own": problem.own}

    def _find_kernel_in_use(self) -> None:
        if self._kernel is None:
            kernel = self._find_kernel(self.instance.name)
            self._max_tile = self._limit_tiles(self._count_tiles(kernel))
            self._kernel = kernel

    def _find_kernel(self, name: str) -> Any:
        return programs.kernel(self._chip.index, (self.instance.name,), name)

    def load(self, before: CudaTask | None = None) -> None:
        """Copy the pairs and plan, by a stream of its own, while others train in theirs."""
        with self._copies.device():
            if self._packed:
                return
            self._check_memory()
            stream = chips.cupy().cuda.Stream(non_blocking=True)
            with stream, ThreadPoolExecutor(1, "itembed_gpu-hits") as beside:
                hits = beside.submit(getattr, self, "_hits")
                self._copy_pairs()
                hits.result()
                if before is not None and before.geometry is not None:
                    self._find_kernel_in_use()
                    self._plan(before._planned_rate)
                    self._foreseen = True
                stream.synchronize()

    def follow(self, before: CudaTask) -> None:
        before._wait()
        self._slots, before._slots = before._slots, []
        self._pairs_per_second = before._pairs_per_second

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        return self._problem.count_pairs(first_batch, num_batch)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays of the pairs and of the objective by their names in the work.

        One array may have two names.
        """
        pairs, objective = self._problem.pairs, self._problem.objective
        arrays = {name: getattr(pairs, name) for name in pairs._fields if name not in NUMBERS}
        names = "thresholds", "aliases", "corrections", "left_keep", "right_keep"
        arrays |= {name: getattr(objective, name) for name in names}
        return {name: array for name, array in arrays.items() if array is not None and len(array)}

    def _check_memory(self) -> None:
        """Raise a `DeviceError` where what will be allocated is more than there is."""
        own = [self._copies.of(table) for table in self._problem.tables]
        packed = {
            (checks.address(a), a.nbytes): a.nbytes
            for a in self._arrays().values()
            if not checks.on_device(a)
        }
        others = {
            "packed itemsets": sum(packed.values()),
            "caps and buffers": sum(4 * table.shape[0] for table in own) + NUM_SLOT * SLOT_BYTES,
        }
        self._copies.check_memory(others, "a chunk_size, fewer itemsets or labels may")

    def _copy_pairs(self) -> None:
        problem, work = self._problem, self._work
        # Views of one array may begin together, and differ in length.
        copies: dict[tuple[int, int], Any] = {}
        for name, array in self._arrays().items():
            key = checks.address(array), array.nbytes
            if key not in copies:
                copies[key] = array if checks.on_device(array) else tables.to_device(array)
            work[name] = copies[key].data.ptr
        self._packed = list(copies.values())
        work["guide_shift"] = problem.pairs.shift
        work["first_itemset"] = problem.pairs.first
        work["window"] = problem.pairs.window
        work["wide_guide"] = problem.pairs.guide.dtype.itemsize == 8
        work["stream"]["seed"] = problem.seed
        work["num_batch"] = problem.num_batch
        work["num_group"] = -(-problem.num_slot // problem.group)
        work["group_bits"] = problem.group.bit_length() - 1
        self._stride = loss_stride(problem.num_slot)
        work["loss_mask"] = self._stride - 1  # a power of 2
        work["num_right"] = self._right.shape[0]
        work["dim"] = self._left.shape[1]
        work["num_negative"] = problem.num_negative
        for name, value in instances.scalars(problem.objective.settings).items():
            work[name] = value

    def _count_tiles(self, kernel: Any) -> int:
        """Pairs that the device holds at once."""
        num_block = chips.cupy().cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
            kernel.kernel.ptr, THREADS_PER_BLOCK, 0
        )
        num_thread = max(1, int(num_block)) * THREADS_PER_BLOCK * self._chip.num_multiprocessor
        return num_thread // self.instance.threads

    def _limit_tiles(self, num_tile: int) -> int:
        """Leave out pairs that there are not, and those that would crowd the cache."""
        problem = self._problem
        num_tile = min(num_tile, -(-problem.num_slot // problem.group))
        if self._pairs_in_flight is not None:
            num_tile = min(num_tile, self._pairs_in_flight)
        shapes = (self._copies.of(*wide).shape for wide in self._wide)
        size = sum(4 * num_row * dim for num_row, dim in shapes)
        if size > self._chip.cache and problem.group == 1 and not problem.objective.flags & MEAN:
            rows = 1 + min(problem.num_negative + 1, SPAN)
            rows *= 2 if problem.objective.flags & GLOVE else 1
            once = self._chip.num_multiprocessor * THREADS_PER_BLOCK // self.instance.threads
            row_bytes = rows * self._left.shape[1] * 4
            num_tile = limit_by_cache(num_tile, once, row_bytes, self._chip.cache)
        return num_tile

    def _plan(self, rate: float) -> None:
        """Plan for learning rates up to a power of 2 that is not below this one.

        Again where a higher one comes, and where one so much lower comes that many
        more pairs can be in flight.
        """
        known = self.geometry
        if self._foreseen:
            self._foreseen = False
            if _power_above(rate) != self._planned_rate:
                known = None  # as if it had not been
        if known is not None and rate <= self._planned_rate:
            limited = known.num_tile < self._max_tile
            if not limited or rate >= self._planned_rate / REPLAN:
                return
        planned = _power_above(rate)
        left, right, own = self._hits
        flags = self._problem.objective.flags
        geometry = plan_geometry(
            left,
            right,
            planned,
            self._max_tile,
            adaptive=bool(flags & ADAGRAD),
            mean_load=CELL_MEAN_LOAD if flags & GLOVE else None,
            own_hits=own,
        )
        with deferred_interrupt():
            self._set_geometry(geometry, planned)

    def _set_geometry(self, geometry: Geometry, planned_rate: float) -> None:
        """Use a geometry, for learning rates up to this one."""
        # Launches under way still read the old caps.
        self._wait()
        caps = [
            tables.copy_caps(c, planned_rate)
            for c in (geometry.left_caps, geometry.right_caps, geometry.own_caps)
        ]
        tiles = self.geometry.num_tile if self.geometry else 0
        slower = geometry.num_tile / tiles if tiles > geometry.num_tile else 1.0
        self._pairs_per_second = min(
            self._pairs_per_second * slower, math.inf if tiles else geometry.num_tile * TILE_SPEED
        )
        # Nothing below fails: a plan is in use as a whole, or not at all.
        for side, arrays in zip(("left", "right", "own"), caps, strict=True):
            for name, array in zip(("caps", "capped"), arrays or (None, None), strict=True):
                self._work[f"{side}_{name}"] = 0 if array is None else array.data.ptr
        self._caps = caps
        self.geometry = geometry
        self._planned_rate = planned_rate

    # --- launches

    @property
    def min_pairs(self) -> int:
        return MIN_PAIRS

    @property
    def max_pairs(self) -> int:
        return max(1, min(int(self._pairs_per_second * SECONDS_PER_LAUNCH), instances.MAX_PAIRS))

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        problem = self._problem
        start = problem.batch_start(first_batch)
        stop = problem.batch_start(first_batch + len(rates))
        if start == stop:
            return
        if self._order is None or self._order[0] != (stream, epoch):
            order = epoch_order(problem.seed, stream, epoch, problem.num_slot)
            self._order = (stream, epoch), order
        self._train(self._order[1], stream, epoch, start, stop, first_batch, rates)

    def run_in_order(self, first_slot: int, rate: float) -> None:
        """Train all slots at one learning rate, in their order, which is not shuffled.

        Slot s is number ``first_slot + s`` of stream 0, epoch 0. No row is held
        back: so few pairs are in flight that none needs it.
        """
        num_slot = self._problem.num_slot
        self._make_ready()
        load = abs(rate) * hottest_hits(self._problem)
        num_tile = int(min(self._max_tile, MAX_LEFT_LOAD / load if load > 0 else self._max_tile))
        rates = np.array([rate], dtype=np.float32)
        with self._copies.device():
            # For this rate: as if it had been planned, which it then is not again.
            self._set_geometry(Geometry(max(1, num_tile), None, None), float(abs(rates[0])))
        self._work["first_slot"] = first_slot
        self._train(in_order(num_slot), 0, 0, 0, num_slot, 0, rates)
        self._work["first_slot"] = 0

    def _train(
        self,
        order: npt.NDArray[np.uint64],
        stream: int,
        epoch: int,
        start: int,
        stop: int,
        first_batch: int,
        rates: npt.NDArray[np.float32],
    ) -> None:
        """Train positions start ... stop - 1 of an order, in launches of limited length."""
        problem = self._problem
        shape = (problem.num_slot, problem.num_batch)
        self._make_ready()
        with self._copies.device():
            self._plan(float(np.abs(rates).max()))
            self._fields["order"][0] = order
            key = self._fields["stream"]
            key["stream"], key["epoch"] = stream, epoch
            while start < stop:
                first = batch_at(*shape, start, problem.group)
                size = max(1, self.max_pairs // problem.group) * problem.group
                end = min(
                    stop, start + size, batch_start(*shape, first + MAX_BATCHES, problem.group)
                )
                last = batch_at(*shape, end - 1, problem.group)
                now = rates[first - first_batch : last + 1 - first_batch]
                with deferred_interrupt():
                    self._launch(start, end, first, now)
                start = end

    def _launch(
        self, start: int, stop: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        stream = chips.cupy().cuda.get_current_stream()
        slot = self._slots[self._num_launch % NUM_SLOT]
        self._num_launch += 1
        self._collect(slot)
        slot.num_pair = stop - start
        slot.num_sample = -(-stop // self._stride) - -(-start // self._stride)
        self._put(
            rates=slot.rates,
            tally=slot.tally,
            start=start,
            num_pair=stop - start,
            first_batch=first_batch,
        )
        grid, block = self._choose_grid(stop - start)
        for copy in self._trained:
            copy.changed = True
        slot.begin(rates, stream)
        self._kernel((grid,), (block,), (self._work,))
        slot.end(stream)

    def _put(self, **values: int) -> None:
        """Write numbers to the record of a launch, by views of its fields that are kept."""
        for name, value in values.items():
            self._fields[name][0] = value

    def _choose_grid(self, num_pair: int) -> tuple[int, int]:
        """Set the number of tiles, and return how many blocks of how many threads hold them."""
        threads, group = self.instance.threads, self._problem.group
        num_tile = self.geometry.num_tile if self.geometry else 1
        if group > 1:
            take = min(threads, group)
            num_tile = min(num_tile, -(-num_pair // group))
        else:
            # As many rounds as it takes with whole tiles, and all of them as long.
            num_round = -(-num_pair // (num_tile * threads))
            take = -(-num_pair // (num_tile * num_round))
            num_tile = min(num_tile, -(-num_pair // take))
        self._put(num_tile=num_tile, take=take)
        num_thread = num_tile * threads
        # Few tiles are spread over the multiprocessors, warp by warp.
        few = num_thread < THREADS_PER_BLOCK * self._chip.num_multiprocessor
        block = WARP if few else THREADS_PER_BLOCK
        return -(-num_thread // block), block

    def _collect(self, slot: _Slot) -> None:
        """Wait for a launch, and note its loss and its speed."""
        if not slot.busy:
            return
        slot.wait()
        seconds = chips.cupy().cuda.get_elapsed_time(slot.began, slot.ended) / 1e3
        self.kernel_seconds += seconds
        loss, num_dropped, num_unsampled = slot.host_tally.tolist()
        num_sample = slot.num_sample - int(num_unsampled)
        tally = Tally(loss * self._stride, num_sample * self._stride, int(num_dropped))
        self._tally = self._tally.plus(tally)
        if seconds > MIN_SECONDS_TO_NOTE or slot.num_pair >= self.max_pairs:
            speed, known = slot.num_pair / max(seconds, 1e-9), self._pairs_per_second
            self._pairs_per_second = min(max(speed, known / SPEED_CHANGE), known * SPEED_CHANGE)

    def _wait(self) -> None:
        for n in range(NUM_SLOT):
            # The older one first.
            if self._slots:
                self._collect(self._slots[(self._num_launch + n) % NUM_SLOT])

    # --- results

    def read_tally(self, wait: bool) -> Tally:
        with self._copies.device():
            for slot in self._slots:
                if slot.busy and (wait or slot.ended.done):
                    self._collect(slot)
        result, self._tally = self._tally, Tally()
        return result

    def is_sound(self) -> bool:
        with self._copies.device():
            self._wait()
            return self._copies.is_sound(lambda: self._find_kernel(instances.FIND_BEYOND))

    def synchronize(self) -> None:
        with self._copies.device():
            self._wait()
        self._copies.synchronize()

    def discard(self) -> None:
        self._copies.discard()


def _power_above(rate: float) -> float:
    """Return the least power of 2 that is not below a learning rate."""
    return float(2.0 ** np.ceil(np.log2(rate))) if rate > 0 else 0.0


def parts_that_fit(sizes: list[int], room: float) -> int:
    """Return the smallest power of 2 of parts of which those at hand fit into some room."""
    num_part = 1
    while bytes_at_hand(sizes, num_part) > room and num_part < MAX_PARTS:
        num_part *= 2
    return num_part


class CudaBackend:
    """CUDA on one GPU (see `protocol.Backend`).

    Parameters
    ----------
    index : int, optional
        Number of the GPU.
    threads_per_pair : int, optional
        Threads that train a pair together; by default chosen from the dimension.
    lossy : bool, optional
        Whether updates may be lost.
    pairs_in_flight : int, optional
        Pairs (with shared negatives, groups) that are trained at once, at most.

    Raises
    ------
    DeviceError
        The GPU cannot be used.
    """

    apart = True

    def __init__(
        self,
        index: int = 0,
        threads_per_pair: int | None = None,
        lossy: bool = False,
        pairs_in_flight: int | None = None,
    ) -> None:
        self._chip = chips.find_chip(index)
        self._how = threads_per_pair, lossy, pairs_in_flight
        self.name = f"cuda:{index}"

    def bind(self, problem: Problem) -> BoundTask:
        if problem.options.dense:
            return DenseTask(problem, CudaOperations(problem, self._chip))
        return CudaTask(problem, self._chip, *self._how)

    def lister(self, problem: Problem) -> CudaLister:
        return CudaLister(problem, self._chip)

    def pairs_of(self, listed: Listed, number: int, weight: float | None) -> Pairs:
        with chips.device(self._chip.index), self._beside as stream:
            pairs = pairs_of(listed, number, weight)
            stream.synchronize()
        return pairs

    def operations(self, problem: Problem) -> CudaOperations:
        return CudaOperations(problem, self._chip, exact=True)

    def zeros(self, num_row: int, dim: int, dtype: npt.DTypeLike) -> Any:
        with chips.device(self._chip.index):
            return tables.allocate_table(num_row, dim, dtype)

    def uniform(self, num_row: int, dim: int, seed: int) -> Any:
        with chips.device(self._chip.index):
            table = tables.allocate_table(num_row, dim)
            fill = self._over_tables(instances.FILL_UNIFORM)
            tables.fill_uniform(fill, table, seed, self._chip)
        return table

    def _over_tables(self, name: str) -> Any:
        """Return a kernel of ``tables.cu``, of whatever task."""
        return programs.kernel(self._chip.index, (instances.FILL_UNIFORM,), name)

    def to_device(self, table: npt.NDArray[Any]) -> Any:
        with chips.device(self._chip.index):
            num_row, dim = table.shape
            copy = tables.allocate_table(num_row, dim, table.dtype)
            tables.copy_rows(copy, np.ascontiguousarray(table), "HostToDevice")
        return copy

    def fewest_parts(self, tables: tuple[Table, ...]) -> int:
        cupy = chips.cupy()
        with chips.device(self._chip.index):
            free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        sizes = [sum(array.nbytes for array in table.arrays().values()) for table in tables]
        num_part = parts_that_fit(sizes, ROOM * free)
        if num_part > 1:
            logger.warning(
                "partitions='auto': tables of %s in %d parts, as %s of %s are free",
                chips.show_size(sum(sizes)),
                num_part,
                chips.show_size(free),
                self.name,
            )
        return num_part

    def bring(self, table: Table) -> Table:
        with chips.device(self._chip.index), self._beside:
            return table.map(tables.bring)

    def is_sound(self, table: Table, bounds: Mapping[str, float]) -> bool:
        with chips.device(self._chip.index), self._back:
            find = self._over_tables(instances.FIND_BEYOND)
            return tables.are_within(find, table.arrays(), bounds, self._chip)

    def fetch(self, table: Table) -> Table:
        with chips.device(self._chip.index), self._back:
            return table.map(tables.fetch)

    @functools.cached_property
    def _beside(self) -> Any:
        """A stream for copies beside what is under way: one, as memory is kept by stream."""
        return chips.cupy().cuda.Stream(non_blocking=True)

    @functools.cached_property
    def _back(self) -> Any:
        """The same for what comes back to the host, and is checked before."""
        return chips.cupy().cuda.Stream(non_blocking=True)

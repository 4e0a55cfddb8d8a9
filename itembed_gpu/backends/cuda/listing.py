"""The pairs of an epoch as a list, as of `backends.listing`, by a GPU.

They are drawn there (``kernels/listing.cuh``), by the code that draws them as they are trained, and
once more to be written where they belong, which costs less than to keep and to sort them. A list
that has no room beside the parts of the tables is made some slots at a time, and kept in pinned
memory of the host, from which the pairs of a visit come as its part does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...checks import Int64Array, address, on_device
from ...objective.options import GLOVE, SUBSAMPLE
from ...objective.pairs import LISTED, Pairs, listed_pairs
from ...objective.schedule import in_order
from ..cpu.listing import allocate
from ..listing import Listed, Ranks, bounds_of, list_sizes
from ..protocol import Problem
from . import chips, instances, programs, tables
from .chips import Chip
from .instances import THREADS_PER_BLOCK, WARP

# Share of the free memory that is left alone, for what is allocated meanwhile.
LEFT_ALONE = 0.05
# Room that a list has in any case.
MIN_ROOM = 1 << 26
# Bytes that counts of pairs by range and visit may take, at most.
MAX_PLACES = 1 << 26
# Warps of a multiprocessor, each with a range of slots.
WARPS = 32
# Slots of a piece, at least, and a multiple of them: of a warp at a time.
MIN_PIECE = 1 << 10
_ADDRESSES = 1 << 64


class _Count(NamedTuple):
    """How many pairs there are in a piece."""

    firsts: Any  # uint64, (num_visit + 1) * num_range: where those of a range and visit begin
    num_range: int
    range: int  # slots of a range
    bounds: Int64Array  # of visits
    num_dropped: int


def bytes_at_hand(sizes: list[int], num_part: int) -> int:
    """Return the bytes of the parts that are on a device at the same time, at most.

    That are a left and a right part, the next one and the one before, whichever of both they are;
    of one table, as both sides train it, two parts, the next two and the two before.
    """
    if num_part == 1:
        return sum(sizes)
    most = sum(sizes) + 2 * max(sizes) if len(sizes) > 1 else 6 * sizes[0]
    return -(-most // num_part)


class CudaLister:
    """Lists the pairs of a problem (see `protocol.Lister`)."""

    def __init__(self, problem: Problem, chip: Chip) -> None:
        self._problem = problem
        self._chip = chip
        self._sizes = list_sizes(problem)
        self._work = np.zeros(1, dtype=instances.WORK)
        # Arrays of the pairs that are on the device, from one epoch to the next where all are.
        self._held: dict[tuple[int, ...], Any] = {}
        self._objective: list[Any] = []  # what the work points to, of whatever pairs

    def list_pairs(self, stream: int, epoch: int, ranks: Ranks, slots: tuple[int, int]) -> Listed:
        with chips.device(self._chip.index):
            self._write_work(stream, epoch)
            on_device = self._bring_ranks(ranks)
            pieces = self._cut(ranks, slots)
            if len(pieces) > 1:
                return self._list_in_pieces(ranks, on_device, pieces)
            self._bring_pairs(*slots)
            count = self._count(ranks, on_device, *slots)
            lists = self._allocate(int(count.bounds[-1]))
            self._write(ranks, on_device, lists, count, *slots)
            # It is read by streams that do not wait for this one.
            chips.cupy().cuda.get_current_stream().synchronize()
            return Listed.of(lists, count.bounds, count.num_dropped)

    # --- what the kernel reads

    def _write_work(self, stream: int, epoch: int) -> None:
        problem, work = self._problem, self._work
        if not self._objective:
            arrays = {"rates": chips.cupy().zeros(1, dtype=np.float32)}
            for name in ("left_keep", "right_keep"):
                if getattr(problem.objective, name) is not None:
                    arrays[name] = tables.to_device(getattr(problem.objective, name))
            for name, array in arrays.items():
                work[name] = array.data.ptr
            work["guide_shift"] = problem.pairs.shift
            work["wide_guide"] = problem.pairs.guide.dtype.itemsize == 8
            work["window"] = problem.pairs.window
            work["num_batch"], work["num_group"] = 1, problem.num_slot
            work["order"] = in_order(problem.num_slot)
            self._objective = list(arrays.values())
        key = work["stream"]
        key["seed"], key["stream"], key["epoch"] = problem.seed, stream, epoch

    def _bring_ranks(self, ranks: Ranks) -> tuple[Any, Any]:
        left = tables.to_device(ranks.left)
        return left, left if ranks.right is ranks.left else tables.to_device(ranks.right)

    def _windows(self, start: int, stop: int) -> dict[str, tuple[int, int]]:
        """Return which stretch of each array of the pairs belongs to some slots."""
        pairs = self._problem.pairs
        if self._problem.source == LISTED:
            return dict.fromkeys(instances.LISTED_FIELDS, (start, stop))
        shift = pairs.shift
        entries = start >> shift, ((stop - 1) >> shift) + (2 if shift else 1)
        itemsets = int(pairs.guide[entries[0]]), int(pairs.guide[entries[1] - 1]) + 1
        left, right = (
            (int(offsets[itemsets[0]]), int(offsets[itemsets[1]]))
            for offsets in (pairs.left_offsets, pairs.right_offsets)
        )
        windows = {"guide": entries, "left_items": left, "left_weights": left}
        windows |= {"right_items": right, "right_weights": right}
        names = "left_offsets", "right_offsets", "slot_offsets"
        return windows | dict.fromkeys(names, (itemsets[0], itemsets[1] + 1))

    def _stretches(self, start: int, stop: int) -> dict[str, tuple[int, ...]]:
        """Return the same of arrays that there are, with what tells one from another."""
        pairs = self._problem.pairs
        return {
            name: (address(getattr(pairs, name)), getattr(pairs, name).itemsize, *window)
            for name, window in self._windows(start, stop).items()
            if len(getattr(pairs, name))
        }

    def _bring_pairs(self, start: int, stop: int) -> None:
        """Bring the arrays of some slots, at addresses by which they seem to begin at 0."""
        stretches = self._stretches(start, stop)
        self._held = {key: self._held[key] for key in {*stretches.values()} & self._held.keys()}
        for name, key in stretches.items():
            _, itemsize, first, last = key
            if key not in self._held:
                self._held[key] = tables.to_device(getattr(self._problem.pairs, name)[first:last])
            self._work[name] = (self._held[key].data.ptr - first * itemsize) % _ADDRESSES

    # --- memory

    def _num_byte(self, start: int, stop: int) -> int:
        """Bytes of the pairs of some slots, and of their list."""
        keys = {*self._stretches(start, stop).values()} - self._held.keys()
        own = sum(itemsize * (last - first) for _, itemsize, first, last in keys)
        return own + self._bytes_per_pair * (stop - start)

    @property
    def _bytes_per_pair(self) -> int:
        return 4 * sum(many for _, many in self._sizes)

    def _room(self, ranks: Ranks) -> int:
        """Bytes that are free for pairs while parts of the tables are on the device."""
        cupy = chips.cupy()
        free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        sizes = [
            sum(array.nbytes for array in table.arrays().values()) for table in self._problem.tables
        ]
        taken = bytes_at_hand(sizes, ranks.num_part) + 3 * MAX_PLACES
        return max(MIN_ROOM, int((1 - LEFT_ALONE) * free) - taken)

    def _cut(self, ranks: Ranks, slots: tuple[int, int]) -> list[tuple[int, int]]:
        """Cut slots into pieces that there is room for: one, where that is for all."""
        start, stop = slots
        needed, room = self._num_byte(*slots) if stop > start else 0, self._room(ranks)
        if needed <= room:
            return [slots]
        self._held = {}
        size = (stop - start) * room // self._num_byte(*slots)
        size = max(MIN_PIECE, size // MIN_PIECE * MIN_PIECE)
        return [(first, min(stop, first + size)) for first in range(start, stop, size)]

    # --- launches

    def _launch(
        self,
        ranks: Ranks,
        on_device: tuple[Any, Any],
        lists: list[Any] | None,
        slots: tuple[int, int],
        ranges: tuple[int, int],
        places: Any,
    ) -> None:
        problem = self._problem
        options = problem.objective.flags & (GLOVE | SUBSAMPLE)
        names = tuple(
            instances.of_listing(problem.source, options, writes) for writes in (False, True)
        )
        kernel = programs.kernel(self._chip.index, names, names[lists is not None])
        visits = np.zeros(1, dtype=instances.VISITS)
        visits["left_ranks"], visits["right_ranks"] = (one.data.ptr for one in on_device)
        visits["num_part"], visits["num_sweep"] = ranks.num_part, ranks.num_sweep
        into = np.zeros(1, dtype=instances.LISTS)
        for name, array in zip(instances.LISTS_FIELDS, lists or (), strict=False):
            into[name] = array.data.ptr if len(array) else 0
        size, num_range = ranges
        grid = -(-num_range * WARP // THREADS_PER_BLOCK)
        arguments = (*map(np.int64, (*slots, size, num_range)), places.data.ptr)
        kernel((grid,), (THREADS_PER_BLOCK,), (self._work, visits, into, *arguments))

    def _count(self, ranks: Ranks, on_device: tuple[Any, Any], start: int, stop: int) -> _Count:
        cupy = chips.cupy()
        num_place, num_step = ranks.num_visit + 1, -(-(stop - start) // WARP)
        num_range = min(self._chip.num_multiprocessor * WARPS, MAX_PLACES // (8 * num_place))
        size = -(-num_step // max(1, num_range)) * WARP
        num_range = -(-(stop - start) // max(1, size))
        if num_range == 0:
            return _Count(None, 0, 0, np.zeros(num_place, dtype=np.int64), 0)
        counts = cupy.zeros(num_place * num_range, dtype=np.uint64)
        self._launch(ranks, on_device, None, (start, stop), (size, num_range), counts)
        ends = cupy.cumsum(counts)
        bounds = np.append(0, ends[num_range - 1 :: num_range].get().astype(np.int64))
        num_dropped = int(bounds[-1] - bounds[-2])
        return _Count(ends - counts, num_range, size, bounds[:-1], num_dropped)

    def _write(
        self,
        ranks: Ranks,
        on_device: tuple[Any, Any],
        lists: list[Any],
        count: _Count,
        start: int,
        stop: int,
    ) -> None:
        if count.num_range > 0:
            ranges = count.range, count.num_range
            self._launch(ranks, on_device, lists, (start, stop), ranges, count.firsts)

    def _allocate(self, num_pair: int) -> list[Any]:
        return [chips.cupy().empty(num_pair * many, dtype=kind) for kind, many in self._sizes]

    # --- some slots at a time

    def _list_in_pieces(
        self, ranks: Ranks, on_device: tuple[Any, Any], pieces: list[tuple[int, int]]
    ) -> Listed:
        counts, num_dropped = [], 0
        for piece in pieces:
            self._bring_pairs(*piece)
            count = self._count(ranks, on_device, *piece)
            counts.append(np.diff(count.bounds))
            num_dropped += count.num_dropped
        bounds = bounds_of(np.sum(counts, axis=0))
        host = self._allocate_on_host(pieces[-1][1] - pieces[0][0], int(bounds[-1]))
        lists = self._allocate(int(max(map(np.sum, counts))))
        next_places = bounds[:-1].copy()
        stream = chips.cupy().cuda.get_current_stream()
        for piece in pieces:
            self._bring_pairs(*piece)
            count = self._count(ranks, on_device, *piece)
            self._write(ranks, on_device, lists, count, *piece)
            self._fetch(lists, host, count.bounds, next_places, stream)
            next_places += np.diff(count.bounds)
        stream.synchronize()
        self._held = {}
        return Listed.of(host, bounds, num_dropped)

    def _fetch(
        self,
        lists: list[Any],
        host: tuple[npt.NDArray[Any], ...],
        bounds: Int64Array,
        places: Int64Array,
        stream: Any,
    ) -> None:
        """Copy the pairs of each visit behind those of the slots before."""
        runtime = chips.cupy().cuda.runtime
        for values, into in zip(lists, host, strict=True):
            for visit in np.flatnonzero(np.diff(bounds)) if len(into) else ():
                first, last = map(int, bounds[visit : visit + 2])
                runtime.memcpyAsync(
                    address(into) + 4 * int(places[visit]),
                    values.data.ptr + 4 * first,
                    4 * (last - first),
                    runtime.memcpyDeviceToHost,
                    stream.ptr,
                )

    def _allocate_on_host(self, num_slot: int, num_pair: int) -> tuple[npt.NDArray[Any], ...]:
        """Allocate pinned memory or, where there is not enough of it, as the CPU does.

        It is as long in each epoch, so that CuPy's pool has it from the one before.
        """
        alloc = chips.cupy().cuda.alloc_pinned_memory
        try:
            memory = [alloc(max(1, 4 * many * num_slot)) for _, many in self._sizes]
        except chips.failures():
            return allocate(self._problem, num_pair)
        return tuple(
            np.frombuffer(one, dtype=kind, count=num_pair * many)
            for one, (kind, many) in zip(memory, self._sizes, strict=True)
        )


def pairs_of(listed: Listed, number: int, weight: float | None) -> Pairs:
    """Return the pairs of a visit, as of `protocol.Backend`, on the current device."""
    left, right, left_weights, right_weights = (
        array if on_device(array) or not len(array) else tables.to_device(array)
        for array in listed.cut(number)
    )
    if weight is not None and len(right_weights):
        right_weights = right_weights * np.float32(weight)
    elif weight is not None:
        right_weights = chips.cupy().full(len(left), weight, dtype=np.float32)
    return listed_pairs(left, right, left_weights, right_weights)

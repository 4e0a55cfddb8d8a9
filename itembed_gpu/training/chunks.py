"""Chunks: parts of packed itemsets that are trained one after the other.

Training in chunks touches a part of the itemsets at a time, so that they can be larger than
memory, mapped from the disk, or larger than a device's memory. An epoch goes through all chunks
in a random order, and in each through all of its pairs in a random order. While one is trained,
a thread reads the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend, BoundTask, Problem, Tally
from ..checks import Float32Array, Int32Array, Int64Array
from ..interrupts import deferred_interrupt
from ..objective.pairs import NEIGHBOUR, PRODUCT, Pairs
from ..objective.rng import philox_words
from ..objective.schedule import batch_start, count_slots, guide_shift, slot_guide

_WORD = (1 << 32) - 1


class Side(NamedTuple):
    """Packed itemsets of one side of a task, as they were given: in memory, or mapped."""

    items: Int32Array  # from the first itemset on
    offsets: npt.NDArray[Any]  # int32 or int64, from any start
    weights: Float32Array  # one an item, or empty

    def cut(self, start: int, stop: int, copy: bool) -> tuple[Int32Array, Int64Array, Float32Array]:
        """Return some of the itemsets, with offsets from 0 on."""
        offsets = self.offsets[start : stop + 1].astype(np.int64)
        first = int(self.offsets[0])
        used = slice(int(offsets[0]) - first, int(offsets[-1]) - first)
        offsets -= offsets[0]
        items, weights = self.items[used], self.weights[used]
        if copy:  # out of what is mapped, which is read by that
            items, weights = np.array(items), np.array(weights)
        return items, offsets, weights


class Source(NamedTuple):
    """Where a task's pairs come from.

    Attributes
    ----------
    left : Side
        Left items.
    right : Side or None
        Right items; None where they are the other items of the same itemset.
    pooled : bool
        Whether a right item is one slot, whatever is on the left.
    """

    left: Side
    right: Side | None = None
    pooled: bool = False

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.left if self.right is None else self.right

    @property
    def kind(self) -> int:
        """Kind of source, as `Problem` has it."""
        return NEIGHBOUR if self.right is None else PRODUCT

    @property
    def num_itemset(self) -> int:
        return len(self.left.offsets) - 1

    @property
    def has_weights(self) -> bool:
        return any(len(side.weights) > 0 for side in self.sides)

    def pairs(self, start: int = 0, stop: int | None = None, copy: bool = False) -> Pairs:
        """Return the pairs of some of the itemsets, by default of all."""
        stop = self.num_itemset if stop is None else stop
        left = self.left.cut(start, stop, copy)
        if self.right is None:
            guide = slot_guide(left[1], 0)
            return Pairs(*left, *left, slot_offsets=left[1], guide=guide, shift=0)
        right = self.right.cut(start, stop, copy)
        slots = right[1] if self.pooled else count_slots(left[1], right[1])
        shift = guide_shift(slots)
        guide = slot_guide(slots, shift)
        return Pairs(*left, *right, slot_offsets=slots, guide=guide, shift=shift)

    def count_pairs(self, start: int, stop: int) -> int:
        """Count the pairs of some of the itemsets."""
        bounds = [side.offsets[start : stop + 1] for side in self.sides]
        if self.right is None or self.pooled:
            return int(bounds[1][-1]) - int(bounds[1][0])
        return int(count_slots(*(offsets.astype(np.int64) for offsets in bounds))[-1])


class Chunks:
    """How itemsets are cut into chunks of whole batches.

    Attributes
    ----------
    bounds : int64, num_chunk + 1
        First itemset of each chunk.
    num_pair, num_batch : int64, num_chunk
        Pairs and batches of each.
    """

    def __init__(self, source: Source, size: int, batch_size: int, seed: int) -> None:
        self._seed = (seed & _WORD, seed >> 32)
        sides = source.sides[: 1 if source.right is None else 2]
        firsts = np.append(np.arange(0, source.num_itemset, batch_size), source.num_itemset)
        # Of the first itemset of each batch, how many items there are before it.
        places = sum(side.offsets[firsts].astype(np.int64) for side in sides)
        places -= places[0]
        numbers = places[:-1] // size
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        self.bounds = np.append(firsts[first], source.num_itemset)
        self.num_batch = np.diff(np.append(first, len(firsts) - 1))
        self.num_pair = np.array(
            [source.count_pairs(*self.bounds[w : w + 2]) for w in range(len(first))], np.int64
        )

    def __len__(self) -> int:
        return len(self.num_batch)

    def seed(self, chunk: int) -> int:
        """Seed of a chunk's random stream."""
        low, high, *_ = philox_words((chunk, _WORD, _WORD, _WORD), self._seed)
        return high << 32 | low

    def order(self, stream: int, epoch: int) -> Int64Array:
        """Order of the chunks in an epoch."""
        keys = [
            philox_words((chunk, _WORD - 1, epoch & _WORD, stream << 16), self._seed)[:2]
            for chunk in range(len(self))
        ]
        return np.array(sorted(range(len(self)), key=keys.__getitem__), np.int64)


class _Ahead:
    """Binds a chunk on a thread of its own."""

    def __init__(self, chunk: int, bind: Callable[[int], BoundTask]) -> None:
        self.chunk = chunk
        self._results: list[BoundTask] = []
        self._errors: list[BaseException] = []

        def work() -> None:
            try:
                bound = bind(chunk)
                bound.load()
                self._results.append(bound)
            except BaseException as error:
                self._errors.append(error)

        self._thread = threading.Thread(target=work, name="itembed_gpu-chunk")
        self._thread.start()

    def result(self) -> BoundTask:
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        return self._results[0]


class ChunkedTask:
    """A problem that is trained in chunks (see `backend.BoundTask`).

    Parameters
    ----------
    problem : Problem
        The problem, but for its pairs.
    source : Source
        Where these come from.
    chunks : Chunks
        The chunks.
    backend : Backend
        Where to train.
    """

    def __init__(self, problem: Problem, source: Source, chunks: Chunks, backend: Backend) -> None:
        self._problem = problem
        self._source = source
        self._chunks = chunks
        self._backend = backend
        self._tally = Tally()
        self._epochs: dict[tuple[int, int], tuple[Int64Array, Int64Array]] = {}
        self._chunk = int(chunks.order(0, 0)[0])
        self._bound = self._bind(self._chunk)
        self._ahead: _Ahead | None = None

    def _bind(self, chunk: int) -> BoundTask:
        start, stop = map(int, self._chunks.bounds[chunk : chunk + 2])
        return self._backend.bind(
            self._problem.over(
                self._source.pairs(start, stop, copy=True),
                num_batch=int(self._chunks.num_batch[chunk]),
                seed=self._chunks.seed(chunk),
            )
        )

    def _epoch(self, stream: int, epoch: int) -> tuple[Int64Array, Int64Array]:
        """Chunks in their order, and the first batch of each; then the number of batches."""
        key = stream, epoch
        if key not in self._epochs:
            while len(self._epochs) > 2:
                del self._epochs[min(self._epochs, key=lambda known: known[1])]
            order = self._chunks.order(stream, epoch)
            self._epochs[key] = order, np.append(0, np.cumsum(self._chunks.num_batch[order]))
        return self._epochs[key]

    def _enter(self, chunk: int, then: int) -> None:
        """Go on with a chunk, and begin to read the one after it."""
        if chunk != self._chunk:
            self._switch(chunk)
        if self._ahead is None and then != chunk:
            self._ahead = _Ahead(then, self._bind)

    def _switch(self, chunk: int) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.chunk == chunk:
            bound = ahead.result()
        else:
            bound = self._bind(chunk)
        with deferred_interrupt():
            # Nothing of the one before is under way any more when its arrays go.
            self._tally = self._tally.plus(self._bound.read_tally(True))
            bound.follow(self._bound)
            self._bound, self._chunk = bound, chunk

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        order, firsts = self._epoch(stream, epoch)
        while len(rates):
            place = int(np.searchsorted(firsts, first_batch, side="right")) - 1
            chunk, local = int(order[place]), first_batch - int(firsts[place])
            last = place + 1 == len(order)
            then = int(self._epoch(stream, epoch + 1)[0][0] if last else order[place + 1])
            self._enter(chunk, then)
            now = rates[: int(self._chunks.num_batch[chunk]) - local]
            self._bound.run(stream, epoch, local, now)
            first_batch += len(now)
            rates = rates[len(now) :]

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        order, firsts = self._epoch(stream, epoch)
        ends = []
        for batch in (first_batch, first_batch + num_batch):
            place = int(np.searchsorted(firsts, batch, side="right")) - 1
            done = int(self._chunks.num_pair[order[:place]].sum())
            if place < len(order):
                chunk = order[place]
                shape = int(self._chunks.num_pair[chunk]), int(self._chunks.num_batch[chunk])
                done += int(batch_start(*shape, batch - int(firsts[place]), self._problem.group))
            ends.append(done)
        return ends[1] - ends[0]

    @property
    def in_place(self) -> bool:
        return self._bound.in_place

    @property
    def min_pairs(self) -> int:
        return self._bound.min_pairs

    @property
    def max_pairs(self) -> int:
        return self._bound.max_pairs

    def prepare(self) -> None:
        self._bound.prepare()

    def load(self) -> None:
        self._bound.load()

    def follow(self, before: BoundTask) -> None:
        self._bound.follow(before)

    def read_tally(self, wait: bool) -> Tally:
        result, self._tally = self._tally, Tally()
        return result.plus(self._bound.read_tally(wait))

    def is_finite(self) -> bool:
        return self._bound.is_finite()

    def synchronize(self) -> None:
        self._bound.synchronize()

    def discard(self) -> None:
        self._bound.discard()

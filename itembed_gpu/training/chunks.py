"""Chunks: parts of packed itemsets that are trained one after the other.

Training in chunks touches a part of the itemsets at a time, so that they can be larger than
memory, mapped from the disk, or larger than a device's memory. An epoch goes through all chunks
in a random order, and in each through all of its pairs in a random order. While one is trained,
a thread reads the next.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..backends.protocol import Backend, BoundTask, Problem
from ..checks import Int64Array
from ..interrupts import deferred_interrupt
from ..objective.pairs import Source
from ..objective.rng import philox_words
from .pieces import Lengths, TaskInPieces

_WORD = (1 << 32) - 1


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
        firsts = np.append(np.arange(0, source.num_itemset, batch_size), source.num_itemset)
        # Of the first itemset of each batch, how many items there are before it.
        places = source.count_items(firsts)
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


class ChunkedTask(TaskInPieces):
    """A problem that is trained in chunks of a source, which has its pairs."""

    def __init__(self, problem: Problem, source: Source, chunks: Chunks, backend: Backend) -> None:
        self._problem = problem
        self._source = source
        self._chunks = chunks
        self._backend = backend
        self._epochs: dict[tuple[int, int], tuple[Int64Array, Lengths]] = {}
        self._chunk = int(chunks.order(0, 0)[0])
        super().__init__(problem.group, self._bind(self._chunk))
        # The number of the chunk that is read ahead, and what comes of it.
        self._ahead: tuple[int, Future[BoundTask]] | None = None
        self._reader = ThreadPoolExecutor(1, "itembed_gpu-chunk")

    def _bind(self, chunk: int) -> BoundTask:
        start, stop = map(int, self._chunks.bounds[chunk : chunk + 2])
        return self._backend.bind(
            self._problem.over(
                self._source.pairs(start, stop, copy=True),
                num_batch=int(self._chunks.num_batch[chunk]),
                seed=self._chunks.seed(chunk),
            )
        )

    def _load(self, chunk: int, before: BoundTask) -> BoundTask:
        bound = self._bind(chunk)
        bound.load(before)
        return bound

    def _epoch(self, stream: int, epoch: int) -> tuple[Int64Array, Lengths]:
        """Chunks in their order, and how long they are."""
        key = stream, epoch
        if key not in self._epochs:
            while len(self._epochs) > 2:
                del self._epochs[min(self._epochs, key=lambda known: known[1])]
            order, chunks = self._chunks.order(stream, epoch), self._chunks
            lengths = Lengths.of(chunks.num_batch[order], chunks.num_pair[order])
            self._epochs[key] = order, lengths
        return self._epochs[key]

    def _lengths(self, stream: int, epoch: int) -> Lengths:
        return self._epoch(stream, epoch)[1]

    def _enter(self, stream: int, epoch: int, place: int) -> None:
        """Go on with a chunk, and begin to read the one after it."""
        order = self._epoch(stream, epoch)[0]
        last = place + 1 == len(order)
        chunk = int(order[place])
        then = int(self._epoch(stream, epoch + 1)[0][0] if last else order[place + 1])
        if chunk != self._chunk:
            self._switch(chunk)
        if self._ahead is None and then != chunk:
            self._ahead = then, self._reader.submit(self._load, then, self._bound)

    def _switch(self, chunk: int) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == chunk:
            bound = ahead[1].result()
        else:
            bound = self._bind(chunk)
        with deferred_interrupt():
            self._follow(bound)
            self._chunk = chunk

"""Training in partitions: tables that are larger than a device's memory, or than this machine's.

An epoch goes through blocks of the catalog (`partitions`). The two parts of a block are on the
device; while it is trained, a thread writes back those before, and reads those of the next.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..backends.cpu.listing import Listed, Ranks, list_pairs
from ..backends.cpu.threads import check_threads
from ..backends.protocol import Backend, BoundTask, Problem, Tally
from ..checks import Float64Array, Int32Array
from ..interrupts import deferred_interrupt
from ..objective.arrays import (
    Objective,
    alias_table,
    log_corrections,
    noise_weights,
)
from ..objective.options import NCE, NOISE, SUBSAMPLE
from ..objective.pairs import LISTED, Pairs
from ..objective.rng import philox_words
from ..objective.table import Table
from .partitions import LEFT, RIGHT, Block, Partition, by_count, deal, schedule
from .pieces import Lengths, TaskInPieces

_WORD = (1 << 32) - 1


@dataclass(frozen=True, eq=False)
class Blocks:
    """A problem as blocks of the catalog: what each of them trains, whoever trains it.

    Attributes
    ----------
    problem : Problem
        The whole: its number of batches is a multiple of that of blocks.
    num_part : int
        Parts of each table.
    num_worker : int
        Workers that train at the same time.
    """

    problem: Problem
    num_part: int
    num_worker: int = 1

    @property
    def num_batch(self) -> int:
        """Batches of each block."""
        return self.problem.num_batch // self.num_part**2

    @functools.cached_property
    def steps(self) -> list[list[tuple[Block, ...]]]:
        """Which blocks are trained when."""
        return schedule(self.num_part, self.num_worker, self.problem.same_table)

    @functools.cached_property
    def order(self) -> list[Block]:
        """The same, one after the other."""
        return [block for step in self.steps for turn in step for block in turn]

    @functools.cached_property
    def _by_count(self) -> tuple[Int32Array, Int32Array]:
        """Rows of both sides by their occurrences; of one table by those on both sides."""
        counts = self.problem.occurrences
        if self.problem.same_table:
            rows = by_count(counts.left + counts.right)
            return rows, rows
        return by_count(counts.left), by_count(counts.right)

    @functools.cached_property
    def _noise(self) -> Float64Array | None:
        """Weight of each row among the negatives; None where all are alike."""
        options = self.problem.options
        if not self.problem.objective.flags & NOISE:
            return None
        counts = self.problem.occurrences.right
        return noise_weights(counts, options.noise_exponent, options.noise_weights)

    def partitions(self, stream: int, epoch: int) -> tuple[Partition, Partition]:
        """Return which rows are in which part in an epoch, on both sides."""
        left, right = self._by_count
        key = self.num_part, self.problem.seed, stream, epoch
        one = deal(left, *key, LEFT)
        return (one, one) if self.problem.same_table else (one, deal(right, *key, RIGHT))

    def list_pairs(
        self, stream: int, epoch: int, slots: tuple[int, int], num_threads: int
    ) -> Listed:
        """List the pairs of some slots of an epoch by block."""
        problem = self.problem
        left, right = self.partitions(stream, epoch)
        ranks = Ranks(left.ranks, right.ranks, self.num_part)
        key = problem.seed, stream, epoch
        return list_pairs(
            problem.pairs, problem.source, problem.objective, key, ranks, slots, num_threads
        )

    def number(self, block: Block) -> int:
        """Return the place of a block in lists."""
        return block.left * self.num_part + block.right

    def seed(self, block: Block) -> int:
        """Seed of a block's random stream."""
        key = self.problem.seed & _WORD, self.problem.seed >> 32
        low, high, *_ = philox_words((*block, self.num_part, _WORD - 2), key)
        return high << 32 | low

    def objective(self, rows: Int32Array) -> Objective:
        """Return the objective of pairs whose right items are among some rows."""
        whole, options = self.problem.objective, self.problem.options
        noise = None if self._noise is None else self._noise[rows]
        thresholds, aliases = (None, None) if noise is None else alias_table(noise)
        corrections = None
        if whole.flags & NCE:
            corrections = log_corrections(noise, len(rows), options.num_negative or 0)
        return Objective(
            thresholds=thresholds,
            aliases=aliases,
            corrections=corrections,
            settings=whole.settings,
            flags=whole.flags & ~SUBSAMPLE,  # what is not kept is not listed
        )

    def problem_of(
        self, block: Block, left: Table, right: Table, pairs: Pairs, objective: Objective
    ) -> Problem:
        """Return the problem of a block, over the tables of its parts."""
        tables = (left,) if left is right else (left, right)
        return replace(
            self.problem,
            pairs=pairs,
            source=LISTED,
            tables=tables,
            num_batch=self.num_batch,
            seed=self.seed(block),
            objective=objective,
            counted=None,
        )


def listed_pairs(listed: Listed, number: int) -> Pairs:
    """Return the pairs of a block, by its place in a list."""
    used = slice(*map(int, listed.bounds[number : number + 2]))
    left, right = np.array(listed.left[used]), np.array(listed.right[used])
    left_weights, right_weights = listed.left_weights[used], listed.right_weights[used]
    return pairs_of(left, right, np.array(left_weights), np.array(right_weights))


def pairs_of(left: Any, right: Any, left_weights: Any, right_weights: Any) -> Pairs:
    """Return pairs that are listed, as `ListedSource.pairs` does."""
    offsets = np.array([0, len(left)], dtype=np.int64)
    guide = np.zeros(2, dtype=np.int32)
    return Pairs(left, offsets, left_weights, right, offsets, right_weights, offsets, guide, 62)


class _Epoch(NamedTuple):
    """An epoch under way."""

    key: tuple[int, int]  # stream and epoch
    partitions: tuple[Partition, Partition]
    listed: Listed
    lengths: Lengths


class _Ready(NamedTuple):
    """A block that can be trained."""

    parts: dict[tuple[int, int], Table]  # on the device, by side and part
    bound: BoundTask


class PartitionedTask(TaskInPieces):
    """A problem that is trained block by block on one device."""

    in_place = True

    def __init__(self, blocks: Blocks, backend: Backend) -> None:
        self._blocks = blocks
        self._backend = backend
        self._num_threads = check_threads(blocks.problem.options.num_threads)
        self._tables = blocks.problem.left, blocks.problem.right
        self._sound = True
        self._known: _Epoch | None = None
        self._place: int | None = None
        self._parts: dict[tuple[int, int], Table] = {}
        self._ahead: tuple[int, Future[_Ready]] | None = None
        self._written: list[Future[None]] = []
        # One thread, so that a part is read after it was written.
        self._mover = ThreadPoolExecutor(1, "itembed_gpu-parts")
        super().__init__(blocks.problem.group, self._bind_nothing())

    def _bind_nothing(self) -> BoundTask:
        """Bind a problem of the same kind that is as good as empty: to compile, and to ask."""
        blocks, some = self._blocks, np.arange(1, dtype=np.int32)
        weights = np.ones(int(self._has_weights), np.float32)
        pairs = pairs_of(some * 0, some * 0, weights[:0], weights)
        left, right = (self._bring(table.take(some)) for table in self._tables)
        objective = blocks.objective(some)
        return self._backend.bind(
            blocks.problem_of(Block(0, 0), left, right, pairs, objective)
        )

    @property
    def _has_weights(self) -> bool:
        pairs = self._blocks.problem.pairs
        return len(pairs.left_weights) > 0 or len(pairs.right_weights) > 0

    def _bring(self, table: Table) -> Table:
        return self._backend.bring(table)

    # --- an epoch

    def _epoch(self, stream: int, epoch: int) -> _Epoch:
        if self._known is None or self._known.key != (stream, epoch):
            self.synchronize()  # parts are others from here on
            self._known = None
            blocks = self._blocks
            slots = 0, blocks.problem.num_slot
            listed = blocks.list_pairs(stream, epoch, slots, self._num_threads)
            numbers = [blocks.number(block) for block in blocks.order]
            lengths = Lengths.of(
                np.full(len(numbers), blocks.num_batch), np.diff(listed.bounds)[numbers]
            )
            key, partitions = (stream, epoch), blocks.partitions(stream, epoch)
            self._known = _Epoch(key, partitions, listed, lengths)
        return self._known

    def _lengths(self, stream: int, epoch: int) -> Lengths:
        return self._epoch(stream, epoch).lengths

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        count = super().count_pairs(stream, epoch, first_batch, num_batch)
        # What is not kept is left out as an epoch begins.
        return count + (self._epoch(stream, epoch).listed.num_dropped if first_batch == 0 else 0)

    def run(self, stream: int, epoch: int, first_batch: int, rates: Any) -> None:
        if first_batch == 0:
            num_dropped = self._epoch(stream, epoch).listed.num_dropped
            self._tally = self._tally.plus(Tally(num_dropped=num_dropped))
        super().run(stream, epoch, first_batch, rates)

    # --- its blocks

    def _enter(self, stream: int, epoch: int, place: int) -> None:
        if place == self._place:
            return
        known = self._epoch(stream, epoch)
        self._bound.synchronize()
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == place:
            ready = ahead[1].result()
        else:
            self._leave()
            ready = self._mover.submit(self._make_ready, known, place, {}).result()
        with deferred_interrupt():
            before, self._parts = self._parts, ready.parts
            self._follow(ready.bound)
            self._place = place
            self._write({key: before[key] for key in before.keys() - ready.parts.keys()}, known)
        then = self._next(known, place)
        if then is not None:
            held = dict(self._parts)
            self._ahead = then, self._mover.submit(self._make_ready, known, then, held)

    def _next(self, known: _Epoch, place: int) -> int | None:
        """Return the place of the next block that has pairs."""
        later = np.flatnonzero(np.diff(known.lengths.first_pair[place + 1 :]))
        return place + 1 + int(later[0]) if len(later) else None

    def _sides(self, block: Block) -> list[tuple[int, int]]:
        """Return the parts of a block, each with its side."""
        right = LEFT if self._blocks.problem.same_table else RIGHT
        return [(LEFT, block.left), (right, block.right)]

    def _make_ready(
        self, known: _Epoch, place: int, held: dict[tuple[int, int], Table]
    ) -> _Ready:
        """Bind a block, with what is on the device already, on the thread that moves parts."""
        blocks = self._blocks
        block = blocks.order[place]
        sides = self._sides(block)
        parts = {key: held[key] if key in held else self._read(known, *key) for key in sides}
        left, right = (parts[key] for key in sides)
        if left is not right and left.name == right.name:
            right = replace(right, name=f"{right.name} of the right part")
        rows = known.partitions[RIGHT].rows(block.right)
        pairs = listed_pairs(known.listed, blocks.number(block))
        problem = blocks.problem_of(block, left, right, pairs, blocks.objective(rows))
        bound = self._backend.bind(problem)
        bound.load()
        return _Ready(parts, bound)

    def _read(self, known: _Epoch, side: int, part: int) -> Table:
        return self._bring(self._tables[side].take(known.partitions[side].rows(part)))

    # --- back to the caller's tables

    def _write(self, parts: dict[tuple[int, int], Table], known: _Epoch) -> None:
        """Have parts written back, behind what the thread does already."""
        for (side, part), table in parts.items():
            if not table.frozen:
                rows = known.partitions[side].rows(part)
                self._written.append(self._mover.submit(self._write_one, side, rows, table))

    def _write_one(self, side: int, rows: Int32Array, table: Table) -> None:
        whole, values = self._tables[side], self._backend.fetch(table)
        arrays = zip(whole.arrays(), values.arrays().values(), strict=True)
        bounds = self._blocks.problem.bounds
        if all(checks.is_finite(array, bounds[name]) for name, array in arrays):
            whole.put(rows, values)
        else:
            self._sound = False

    def _leave(self) -> None:
        """Have all parts written back, and wait until they are."""
        with deferred_interrupt():
            if self._known is not None:
                self._write(self._parts, self._known)
            self._forget()
        written, self._written = self._written, []
        for one in written:
            one.result()

    def _forget(self) -> None:
        """Let go of the parts that are at hand."""
        if self._ahead is not None:
            self._ahead[1].cancel()
        self._parts, self._place, self._ahead = {}, None, None

    def is_sound(self) -> bool:
        return self._sound and (self._place is None or self._bound.is_sound())

    def synchronize(self) -> None:
        self._bound.synchronize()
        self._leave()

    def discard(self) -> None:
        self._bound.discard()
        self._forget()

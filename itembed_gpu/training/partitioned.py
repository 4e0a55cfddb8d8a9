"""Training in partitions: tables that are larger than a device's memory, or than this machine's.

An epoch goes through blocks of the catalog (`partitions`). The two parts of a block are on the
device; while it is trained, those before are written back, and those of the next are read.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..backends.cpu.threads import check_threads, share
from ..backends.listing import Listed, Ranks
from ..backends.protocol import Backend, BoundTask, Lister, Problem, Tally
from ..checks import Float64Array, Int32Array, Int64Array
from ..interrupts import deferred_interrupt
from ..objective.arrays import Objective, alias_table, noise_weights
from ..objective.options import GLOVE, NOISE, POSITIVE_WEIGHT, SUBSAMPLE
from ..objective.pairs import LISTED, listed_pairs
from ..objective.rng import philox_words
from ..objective.table import Table
from .partitions import (
    LEFT,
    RIGHT,
    Block,
    Partition,
    Visit,
    by_count,
    count_sweeps,
    deal,
    schedule,
)
from .pieces import Lengths, TaskInPieces

_WORD = (1 << 32) - 1
# Negatives of a part none of whose rows is to be one: as positives are divided by it, not 0.
MIN_WEIGHT = 1e-6


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
    sweeps : int, optional
        Sweeps over all blocks in an epoch; by default as of `count_sweeps`.
    num_dealt : int, optional
        Epochs whose partitions are kept, where they are asked for again.
    """

    problem: Problem
    num_part: int
    num_worker: int = 1
    sweeps: int | None = None
    num_dealt: int = 1

    @property
    def num_sweep(self) -> int:
        """Sweeps over all blocks in an epoch."""
        rows = min(len(self.problem.left), len(self.problem.right))
        return self.sweeps or count_sweeps(self.problem.num_slot, rows, self.num_part)

    @property
    def num_batch(self) -> int:
        """Batches of each visit to a block."""
        return self.problem.num_batch // (self.num_sweep * self.num_part**2)

    @functools.cached_property
    def steps(self) -> list[list[tuple[Block, ...]]]:
        """Which blocks are trained when."""
        return schedule(self.num_part, self.num_worker, self.problem.same_table)

    @functools.cached_property
    def homes(self) -> list[tuple[Visit, int]]:
        """The same for all sweeps, one after the other, and by which worker."""
        blocks = [
            (block, home) for step in self.steps for home, turn in enumerate(step) for block in turn
        ]
        return [
            (Visit(sweep, block), home) for sweep in range(self.num_sweep) for block, home in blocks
        ]

    def next_home(self, place: int, part: tuple[int, int]) -> int | None:
        """Return which worker next trains a part, after a visit; None of none in this epoch."""
        later = itertools.islice(self.homes, place + 1, None)
        return next((home for visit, home in later if part in self.parts(visit.block)), None)

    @functools.cached_property
    def order(self) -> list[Visit]:
        """Visits in their order."""
        return [visit for visit, _ in self.homes]

    def lengths(self, num_pair: Int64Array) -> Lengths:
        """Return how long the visits of an epoch are, by their pairs as they are listed."""
        numbers = [self.number(visit) for visit in self.order]
        return Lengths.of(np.full(len(numbers), self.num_batch), num_pair[numbers])

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides whose tables differ: the left one alone where both train one table."""
        return (LEFT,) if self.problem.same_table else (LEFT, RIGHT)

    def parts(self, block: Block) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the parts of a block, each with its side."""
        return (LEFT, block.left), (self.sides[-1], block.right)

    @functools.cached_property
    def _dealt(self) -> deque[tuple[tuple[int, int], tuple[Partition, Partition]]]:
        """Partitions of the last epochs that were dealt; threads of a worker share them."""
        return deque(maxlen=self.num_dealt)

    @property
    def num_threads(self) -> int:
        """Threads of the CPU that deal out rows, and move them."""
        return check_threads(self.problem.options.num_threads)

    @functools.cached_property
    def _by_count(self) -> tuple[Int32Array, Int32Array]:
        """Rows of both sides by their occurrences; of one table by those on both sides."""
        counts = self.problem.occurrences
        if self.problem.same_table:
            rows = by_count(counts.left + counts.right)
            return rows, rows
        rows = by_count(counts.left)
        return rows, rows if counts.left is counts.right else by_count(counts.right)

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
        key = stream, epoch
        found = next((dealt for known, dealt in tuple(self._dealt) if known == key), None)
        if found is None:
            found = self._deal(*key)
            self._dealt.append((key, found))
        return found

    def _deal(self, stream: int, epoch: int) -> tuple[Partition, Partition]:
        left, right = self._by_count
        key = self.num_part, self.problem.seed, stream, epoch
        one = deal(left, *key, LEFT, self.num_threads)
        if self.problem.same_table:
            return one, one
        return one, deal(right, *key, RIGHT, self.num_threads)

    def list_pairs(self, stream: int, epoch: int, slots: tuple[int, int], lister: Lister) -> Listed:
        """List the pairs of some slots of an epoch by block."""
        left, right = self.partitions(stream, epoch)
        ranks = Ranks(left.ranks, right.ranks, self.num_part, self.num_sweep)
        listed: Listed = lister.list_pairs(stream, epoch, ranks, slots)
        return listed

    def number(self, visit: Visit) -> int:
        """Return the place of a visit in lists."""
        (left, right), num_part = visit.block, self.num_part
        return (visit.sweep * num_part + left) * num_part + right

    def seed(self, visit: Visit) -> int:
        """Seed of the random stream of a visit."""
        key = self.problem.seed & _WORD, self.problem.seed >> 32
        low, high, *_ = philox_words((self.number(visit), self.num_part, _WORD, _WORD - 2), key)
        return high << 32 | low

    def evenness(self, bounds: Int64Array, rows: Int32Array, right: int) -> float:
        """Return what negatives of a right part are to be weighted by, in an epoch so listed.

        Each row should be a negative as often as without parts, that is in proportion to its share
        of the noise and to all pairs. Drawn in a part, it is so in proportion to its share of the
        part's noise and to the part's pairs, of which one with a frequent item has many.
        """
        share = len(rows) / len(self.problem.right)
        if self._noise is not None:
            share = float(self._noise[rows].sum() / self._noise.sum())
        num_pair = np.diff(bounds).reshape(-1, self.num_part).sum(0)
        return max(share * float(num_pair.sum()) / max(1, int(num_pair[right])), MIN_WEIGHT)

    def objective(self, rows: Int32Array, weight: float) -> Objective:
        """Return the objective of pairs whose right items are among some rows.

        Parameters
        ----------
        rows : int32
            Rows of a right part.
        weight : float
            What negatives are weighted by. As the pairs are multiplied by that, it is the
            positives that are divided by it.
        """
        whole = self.problem.objective
        thresholds, aliases = None, None
        if self._noise is not None:
            noise = self._noise[rows]
            thresholds, aliases = alias_table(noise if noise.any() else np.ones_like(noise))
        settings, flags = whole.settings, whole.flags & ~SUBSAMPLE  # what is not kept is not listed
        if not flags & GLOVE:
            positive = np.float32(self.problem.options.positive_weight / weight)
            settings, flags = settings._replace(positive_weight=positive), flags | POSITIVE_WEIGHT
        return Objective(
            thresholds=thresholds,
            aliases=aliases,
            corrections=None if whole.corrections is None else whole.corrections[rows],
            settings=settings,
            flags=flags,
        )

    def problem_of(
        self,
        visit: Visit,
        left: Table,
        right: Table,
        key: tuple[int, int],
        listed: Listed,
        bounds: Int64Array,
        backend: Backend,
    ) -> tuple[Problem, float]:
        """Return the problem of a visit to a block, and what its losses are to be multiplied by.

        Parameters
        ----------
        visit : Visit
            Which.
        left, right : Table
            Its parts: one, where they are the same.
        key : tuple of int
            Stream and epoch.
        listed : Listed
            Pairs of the epoch, of its left part at least.
        bounds : int64
            Bounds of all visits of the epoch.
        backend : Backend
            That has them trained.
        """
        rows = self.partitions(*key)[RIGHT].rows(visit.block.right)
        weight = self.evenness(bounds, rows, visit.block.right)
        if left is not right and left.name == right.name:
            right = replace(right, name=f"{right.name} of the right part")
        cells = bool(self.problem.objective.flags & GLOVE)
        pairs = backend.pairs_of(listed, self.number(visit), None if cells else weight)
        problem = replace(
            self.problem,
            pairs=pairs,
            source=LISTED,
            tables=(left,) if left is right else (left, right),
            num_batch=self.num_batch,
            seed=self.seed(visit),
            objective=self.objective(rows, weight),
            counted=None,
        )
        return problem, weight


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
    weight: float  # of its negatives


class PartitionedTask(TaskInPieces):
    """A problem that is trained block by block on one device."""

    in_place = True

    def __init__(self, blocks: Blocks, backend: Backend) -> None:
        self._blocks = blocks
        self._backend = backend
        self._lister = backend.lister(blocks.problem)
        self._tables = blocks.problem.left, blocks.problem.right
        self._sound = True
        self._weight = 1.0
        self._known: _Epoch | None = None
        self._place: int | None = None
        self._parts: dict[tuple[int, int], Table] = {}
        self._ahead: tuple[int, Future[_Ready]] | None = None
        self._written: dict[tuple[int, int], Future[None]] = {}  # the last time of each part
        self._mover = ThreadPoolExecutor(1, "itembed_gpu-parts")
        # Another thread copies from a device while one copies to it. In memory, or on a disk, parts
        # are read once others are written, which takes less memory.
        apart = backend.apart
        self._writer = ThreadPoolExecutor(1, "itembed_gpu-back") if apart else self._mover
        self._nothing = self._bind_nothing()
        super().__init__(blocks.problem.group, self._nothing)

    def _bind_nothing(self) -> BoundTask:
        """Bind a problem of the same kind that is as good as empty: to compile, and to ask."""
        blocks, some = self._blocks, np.zeros(1, dtype=np.int32)
        is_cell = bool(blocks.problem.objective.flags & GLOVE)
        ones = np.ones(1, np.float32)
        left, right = (self._bring(table.take(some)) for table in self._tables)
        return self._backend.bind(
            replace(
                blocks.problem,
                pairs=listed_pairs(some, some, ones[: int(is_cell)], ones),
                source=LISTED,
                tables=(left,) if blocks.problem.same_table else (left, right),
                num_batch=1,
                objective=blocks.objective(some, 1.0),
                counted=None,
            )
        )

    def _run(self, function: Callable[[int], None], values: Iterable[int]) -> None:
        """Call a function with each of some numbers, on as many threads as train on the CPU."""
        share(function, values, self._blocks.num_threads)

    def _bring(self, table: Table) -> Table:
        return self._backend.bring(table)

    # --- an epoch

    def _epoch(self, stream: int, epoch: int) -> _Epoch:
        if self._known is None or self._known.key != (stream, epoch):
            self.synchronize()  # parts are others from here on
            self._known = None
            blocks = self._blocks
            slots = 0, blocks.problem.num_slot
            listed = blocks.list_pairs(stream, epoch, slots, self._lister)
            lengths = blocks.lengths(np.diff(listed.bounds))
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
            ready = self._mover.submit(self._make_ready, known, place, {}, []).result()
        with deferred_interrupt():
            before, self._parts = self._parts, ready.parts
            self._follow(ready.bound)
            self._place, self._weight = place, ready.weight
            earlier = list(self._written.values())
            self._write({key: before[key] for key in before.keys() - ready.parts.keys()}, known)
        then = self._next(known, place)
        if then is not None:
            held = dict(self._parts)
            self._ahead = then, self._mover.submit(self._make_ready, known, then, held, earlier)

    def _next(self, known: _Epoch, place: int) -> int | None:
        """Return the place of the next block that has pairs."""
        later = np.flatnonzero(np.diff(known.lengths.first_pair[place + 1 :]))
        return place + 1 + int(later[0]) if len(later) else None

    def _make_ready(
        self,
        known: _Epoch,
        place: int,
        held: dict[tuple[int, int], Table],
        earlier: list[Future[None]],
    ) -> _Ready:
        """Bind a block, with what is on the device already, on the thread that moves parts.

        Parts written `earlier` than those of the block before have left the device by then: there
        is room for no more.
        """
        wait(earlier)
        blocks = self._blocks
        visit = blocks.order[place]
        sides = blocks.parts(visit.block)
        parts = {key: held[key] if key in held else self._read(known, *key) for key in {*sides}}
        left, right = (parts[key] for key in sides)
        problem, weight = blocks.problem_of(
            visit, left, right, known.key, known.listed, known.listed.bounds, self._backend
        )
        bound = self._backend.bind(problem)
        bound.load()
        return _Ready(parts, bound, weight)

    def _read(self, known: _Epoch, side: int, part: int) -> Table:
        if (side, part) in self._written:
            self._written[side, part].result()
        rows = known.partitions[side].rows(part)
        return self._bring(self._tables[side].take(rows, self._run))

    # --- back to the caller's tables

    def _write(self, parts: dict[tuple[int, int], Table], known: _Epoch) -> None:
        """Have parts written back, behind those that are already."""
        for (side, part), table in parts.items():
            if not table.frozen:
                rows = known.partitions[side].rows(part)
                # Nobody waits for the time before, after which it has been read.
                done = self._writer.submit(self._write_one, side, rows, table)
                self._written[side, part] = done

    def _write_one(self, side: int, rows: Int32Array, table: Table) -> None:
        if self._backend.is_sound(table, self._blocks.problem.bounds):
            self._tables[side].put(rows, self._backend.fetch(table), self._run)
        else:
            self._sound = False

    def _leave(self) -> None:
        """Have all parts written back, and wait until they are."""
        entered = self._place is not None
        with deferred_interrupt():
            if self._known is not None:
                self._write(self._parts, self._known)
            self._forget()
            written, self._written = self._written, {}
            wait(written.values())
        for one in written.values():
            one.result()
        if entered:  # the last block's parts are none of the next ones'
            self._follow(self._nothing)

    def _forget(self) -> None:
        """Let go of the parts that are at hand."""
        if self._ahead is not None:
            self._ahead[1].cancel()
        self._parts, self._place, self._ahead = {}, None, None

    def _read_bound(self, wait: bool) -> Tally:
        # Its losses are those of pairs whose positives are divided by the weight.
        tally = super()._read_bound(wait)
        return tally._replace(loss=tally.loss * self._weight)

    def is_sound(self) -> bool:
        return self._sound and (self._place is None or self._bound.is_sound())

    def synchronize(self) -> None:
        self._bound.synchronize()
        self._leave()

    def discard(self) -> None:
        self._bound.discard()
        self._forget()

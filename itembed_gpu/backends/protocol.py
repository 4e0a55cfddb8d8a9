"""What a backend is: the tiny protocol between tasks and devices.

A task describes its work once, as a `Problem`; a backend binds it, and what comes
back trains ranges of batches. Nothing above this line asks which device it runs on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Int32Array, Int64Array
from ..objective.arrays import PLAIN, Objective
from ..objective.constants import MAX_VALUE
from ..objective.options import MEAN, Options
from ..objective.pairs import WITHIN, Pairs
from ..objective.schedule import batch_start
from ..objective.table import Table
from ..sets import count_codes
from .cpu.threads import share

# Threads that count items, at most, and how many each counts, at least.
NUM_COUNTER = 4
MIN_COUNTED = 1 << 20
# Those of itembed.
ITEMBED = Options(seed=0)


class Occurrences:
    """How often each row occurs in the pairs' itemsets: counted when first asked for, once.

    Parameters
    ----------
    left_items, right_items : int32
        Packed items of both sides, which may be the same array.
    num_left, num_right : int
        Number of rows on each side.
    counts : int64, num_left, optional
        How often each row occurs on the left, where somebody has counted.
    """

    def __init__(
        self,
        left_items: Int32Array,
        right_items: Int32Array,
        num_left: int,
        num_right: int,
        counts: Int64Array | None = None,
    ) -> None:
        self._items = left_items, right_items
        self.num_left, self.num_right = num_left, num_right
        if counts is not None:
            self.__dict__["left"] = counts

    @functools.cached_property
    def left(self) -> Int64Array:
        """Occurrences of each row on the left."""
        return _count(self._items[0], self.num_left)

    @functools.cached_property
    def right(self) -> Int64Array:
        """The same on the right."""
        left, right = self._items
        if left is right and self.num_left == self.num_right:
            return self.left
        return _count(right, self.num_right)


def _count(items: Int32Array, num_row: int) -> Int64Array:
    """Count how often each row occurs, by several threads where there are many items a row."""
    size = max(MIN_COUNTED, num_row, -(-len(items) // NUM_COUNTER))
    starts = range(0, max(1, len(items)), size)
    counts: Int64Array = sum(
        share(
            lambda start: count_codes(items[start : start + size], num_row)[0], starts, len(starts)
        )
    )
    return counts


@dataclass(frozen=True)
class Problem:
    """A validated task, as a backend sees it."""

    pairs: Pairs  # packed itemsets of both sides, or pairs that are listed
    source: int  # kind of their source, of `objective.pairs`
    # What is trained: the first is that of the left items, the last that of the right items; one
    # table can be both. One between them has a row for each itemset, see OWN_ROW of `options`.
    tables: tuple[Table, ...]
    num_negative: int  # a pair
    num_batch: int  # an epoch
    seed: int  # key of the random stream
    group: int = 1  # consecutive pairs that share one set of negatives
    objective: Objective = PLAIN  # noise, corrections and options
    options: Options = ITEMBED  # what it was made of
    counted: Occurrences | None = None  # those of the itemsets, where somebody has them already

    @property
    def left(self) -> Table:
        """Table of the left items."""
        return self.tables[0]

    @property
    def right(self) -> Table:
        """Table of the right items, and of negatives."""
        return self.tables[-1]

    @property
    def own(self) -> Table | None:
        """Table of the itemsets, where each has a row of its own in its means."""
        return self.tables[1] if len(self.tables) > 2 else None

    @property
    def syn_left(self) -> Any:
        """Rows of the left items: float32, (num_left, dim)."""
        return self.left.array

    @property
    def syn_right(self) -> Any:
        """Rows of the right items: float32, (num_right, dim)."""
        return self.right.array

    @property
    def arrays(self) -> dict[str, Any]:
        """All that is trained, by name, each once."""
        return {name: array for table in self.tables for name, array in table.arrays().items()}

    @property
    def bounds(self) -> dict[str, float]:
        """What the sizes of all values are below where training has not diverged, by name."""
        own = {table.name for table in self.tables}
        return {name: MAX_VALUE if name in own else math.inf for name in self.arrays}

    def is_sound(self) -> bool:
        """Whether all that is trained is within its bounds, where that is in host memory."""
        return all(
            checks.is_finite(array, self.bounds[name]) for name, array in self.arrays.items()
        )

    @functools.cached_property
    def occurrences(self) -> Occurrences:
        """How often each row occurs in the itemsets."""
        pairs = self.pairs
        return self.counted or Occurrences(
            pairs.left_items, pairs.right_items, len(self.left), len(self.right)
        )

    @property
    def within(self) -> bool:
        """Whether the right item is another item of the left one's itemset."""
        return self.source in WITHIN

    @property
    def max_bag(self) -> int | None:
        """Length of the longest bag, where the left side is a mean."""
        if not self.objective.flags & MEAN:
            return None
        longest = int(np.diff(self.pairs.left_offsets).max(initial=0))
        window = self.pairs.window
        return min(longest, 2 * window + 1) if window else longest

    @property
    def num_slot(self) -> int:
        """Number of slots, which is the number of pairs of an epoch."""
        return int(self.pairs.slot_offsets[-1])

    @property
    def same_table(self) -> bool:
        """Whether both sides train one table."""
        return self.left is self.right

    def batch_start(self, batch: int) -> int:
        """First position of a batch in the epoch's order."""
        return int(batch_start(self.num_slot, self.num_batch, batch, self.group))

    def count_pairs(self, first_batch: int, num_batch: int) -> int:
        """Count the pairs of consecutive batches of an epoch."""
        return self.batch_start(first_batch + num_batch) - self.batch_start(first_batch)

    def over(self, pairs: Pairs, *, num_batch: int, seed: int) -> Problem:
        """Return the same problem over other pairs: of a chunk."""
        return replace(self, pairs=pairs, num_batch=num_batch, seed=seed, counted=None)


class Tally(NamedTuple):
    """What was trained."""

    # Of a sample of the pairs, each as many times as there are pairs that it stands for: the sum
    # of the losses, and the number.
    loss: float = 0.0
    num_sample: int = 0
    num_dropped: int = 0  # pairs that were left out, because an item of theirs was not kept

    def plus(self, other: Tally) -> Tally:
        """Add up two."""
        return Tally(
            self.loss + other.loss,
            self.num_sample + other.num_sample,
            self.num_dropped + other.num_dropped,
        )


class BoundTask(Protocol):
    """A problem on a device."""

    @property
    def in_place(self) -> bool:
        """Whether the caller's arrays are what is trained, and not a copy."""

    @property
    def min_pairs(self) -> int:
        """Pairs that a call should train, at least, for its overhead to be small."""

    @property
    def max_pairs(self) -> int:
        """Pairs that a call may train, at most, to return within about 0.1 s."""

    def prepare(self) -> None:
        """Do what takes time before the first pair: compile, copy. May be left to `run`."""

    def load(self, before: Any = None) -> None:
        """Copy what is its own, and not the tables, while another one of them is trained.

        May be called on any thread, before `prepare` or `run`, or not at all. Where the other one
        is given, which it is to `follow`, what can be foreseen of how it goes on is prepared.
        """

    def follow(self, before: Any) -> None:
        """Take over what another one, of the same tables and options, has learned of the device.

        Nothing of the other may be under way.
        """

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        """Train len(rates) consecutive batches of an epoch, each at its learning rate."""

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        """Count the pairs of consecutive batches of an epoch."""

    def read_tally(self, wait: bool) -> Tally:
        """Return what was trained since the last call.

        Without `wait`, of that what can be had at once.
        """

    def is_sound(self) -> bool:
        """Whether all that is trained is within its bounds (see `Problem`), and finite."""

    def synchronize(self) -> None:
        """Make the caller's arrays hold what has been trained."""

    def discard(self) -> None:
        """Forget what the caller's arrays do not hold yet."""


class Lister(Protocol):
    """What lists the pairs of a problem, for its tables in parts (see `listing`)."""

    def list_pairs(self, stream: int, epoch: int, ranks: Any, slots: tuple[int, int]) -> Any:
        """List the pairs of a range of slots of an epoch, visit by visit.

        Takes `listing.Ranks` and returns a `listing.Listed`, whose arrays are the device's own, or
        the host's where they are too long.
        """


class Backend(Protocol):
    """A kind of device."""

    name: str
    apart: bool  # whether it has a memory of its own, to which tables are copied

    def bind(self, problem: Problem) -> BoundTask:
        """Prepare a problem for training."""

    def lister(self, problem: Problem) -> Lister:
        """Prepare to list the pairs of a problem, whose left side is no mean."""

    def pairs_of(self, listed: Any, number: int, weight: float | None) -> Pairs:
        """Return the pairs of a visit out of a `listing.Listed`, multiplied by a weight.

        They lie in the device's memory. Without a weight, they are cells of counts. May be called
        on any thread, while others train.
        """

    def operations(self, problem: Problem) -> Any:
        """Return the device's `dense.Operations` on a problem's tables; scores are float32."""

    def zeros(self, num_row: int, dim: int, dtype: npt.DTypeLike) -> Any:
        """Return a table of zeros, of the device's own kind."""

    def uniform(self, num_row: int, dim: int, seed: int) -> Any:
        """Return a table of the values of `uniform_rows`, float32, of the device's own kind."""

    def to_device(self, table: npt.NDArray[Any]) -> Any:
        """Return a table of the device's own kind with the same values."""

    def fewest_parts(self, tables: tuple[Table, ...]) -> int:
        """Return the number of parts into which tables are cut to fit the device, and tell it."""

    def bring(self, table: Table) -> Table:
        """Return a table on the device with the values of one on the host.

        May be called on any thread, while others train.
        """

    def is_sound(self, table: Table, bounds: Mapping[str, float]) -> bool:
        """Whether what was brought is finite, and within the bounds of each array, likewise."""

    def fetch(self, table: Table) -> Table:
        """Return one on the host with the values of one that was brought, likewise."""

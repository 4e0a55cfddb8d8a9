"""Epochs that are trained piece by piece, each of which is bound to its device by itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import BoundTask, Tally
from ..checks import Int64Array
from ..objective.schedule import batch_start


class Lengths(NamedTuple):
    """How long the pieces of an epoch are, in their order.

    Attributes
    ----------
    first_batch, first_pair : int64, num_piece + 1
        Batches and pairs before each piece; and of all.
    """

    first_batch: Int64Array
    first_pair: Int64Array

    @classmethod
    def of(cls, num_batch: Int64Array, num_pair: Int64Array) -> Lengths:
        """Return those of pieces of so many batches and pairs."""
        return cls(np.append(0, np.cumsum(num_batch)), np.append(0, np.cumsum(num_pair)))

    def place(self, batch: int) -> int:
        """Return the place of the piece of a batch."""
        return int(np.searchsorted(self.first_batch, batch, side="right")) - 1

    def pairs_before(self, batch: int, group: int) -> int:
        """Count the pairs before a batch."""
        place = self.place(batch)
        done = int(self.first_pair[place])
        if place + 1 < len(self.first_batch):
            num_pair = int(self.first_pair[place + 1]) - done
            first, stop = map(int, self.first_batch[place : place + 2])
            done += int(batch_start(num_pair, stop - first, batch - first, group))
        return done


class TaskInPieces:
    """A problem that is trained in pieces, of which one at a time is bound (see `BoundTask`)."""

    def __init__(self, group: int, bound: BoundTask) -> None:
        self._group = group
        self._bound = bound
        self._tally = Tally()

    def _lengths(self, stream: int, epoch: int) -> Lengths:
        """Return how long the pieces of an epoch are."""
        raise NotImplementedError

    def _enter(self, stream: int, epoch: int, place: int) -> None:
        """Have a piece bound, by its place in the epoch."""
        raise NotImplementedError

    def _follow(self, bound: BoundTask) -> None:
        """Go on with another piece."""
        # Nothing of the one before is under way any more when its arrays go.
        self._tally = self._tally.plus(self._read_bound(True))
        bound.follow(self._bound)
        self._bound = bound

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        lengths = self._lengths(stream, epoch)
        while len(rates):
            place = lengths.place(first_batch)
            now = rates[: int(lengths.first_batch[place + 1]) - first_batch]
            if lengths.first_pair[place + 1] > lengths.first_pair[place]:
                self._enter(stream, epoch, place)
                self._bound.run(stream, epoch, first_batch - int(lengths.first_batch[place]), now)
            first_batch += len(now)
            rates = rates[len(now) :]

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        lengths = self._lengths(stream, epoch)
        before = lengths.pairs_before(first_batch, self._group)
        return lengths.pairs_before(first_batch + num_batch, self._group) - before

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
        return result.plus(self._read_bound(wait))

    def _read_bound(self, wait: bool) -> Tally:
        """Return what was trained of the piece that is bound."""
        return self._bound.read_tally(wait)

    def is_sound(self) -> bool:
        return self._bound.is_sound()

    def synchronize(self) -> None:
        self._bound.synchronize()

    def discard(self) -> None:
        self._bound.discard()

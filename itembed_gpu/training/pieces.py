"""Epochs that are trained piece by piece, each of which is bound to its device by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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

    def count_pairs(self, first_batch: int, num_batch: int, group: int) -> int:
        """Count the pairs of consecutive batches."""
        before = self.pairs_before(first_batch, group)
        return self.pairs_before(first_batch + num_batch, group) - before

    def cut(
        self, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
        """Cut batches by pieces, but for those without pairs.

        Yields the place of each piece, the first of its batches, and their rates.
        """
        while len(rates):
            place = self.place(first_batch)
            first, stop = map(int, self.first_batch[place : place + 2])
            now = rates[: stop - first_batch]
            if self.first_pair[place + 1] > self.first_pair[place]:
                yield place, first_batch - first, now
            first_batch += len(now)
            rates = rates[len(now) :]


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
        for place, local, now in self._lengths(stream, epoch).cut(first_batch, rates):
            self._enter(stream, epoch, place)
            self._bound.run(stream, epoch, local, now)

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        return self._lengths(stream, epoch).count_pairs(first_batch, num_batch, self._group)

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

    def load(self, before: Any = None) -> None:
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

"""The pairs of an epoch as a list, block of the catalog by block: what all devices make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Int32Array, Int64Array, on_host
from ..objective.options import GLOVE
from .protocol import Problem

# Arrays of a device: NumPy or CuPy.
Array = Any


class Listed(NamedTuple):
    """Pairs by visit: those of block (i, j) in sweep s, with P parts, begin at
    ``bounds[(s * P + i) * P + j]``. Within a visit they are in the order of their slots.
    """

    left: Array  # int32: number of the row in its part
    right: Array
    left_weights: Array  # float32, of cells of counts, as in `Pairs`; else empty
    right_weights: Array  # float32, weights of pairs, or empty: all 1; of cells as in `Pairs`
    bounds: Int64Array  # num_sweep * num_part ** 2 + 1
    num_dropped: int  # pairs that are not listed, as an item of theirs was not kept

    @classmethod
    def of(cls, arrays: Sequence[Array], bounds: Int64Array, num_dropped: int) -> Listed:
        """Return a list of four arrays."""
        left, right, left_weights, right_weights = arrays
        return cls(left, right, left_weights, right_weights, bounds, num_dropped)

    def fetch(self) -> Listed:
        """Return the same in host memory."""
        return self.of(list(map(on_host, self[:4])), self.bounds, self.num_dropped)

    def cut(self, number: int) -> list[Array]:
        """Return the arrays of the pairs of a visit, as parts of these."""
        used = slice(*map(int, self.bounds[number : number + 2]))
        return [array[used] for array in self[:4]]


class Ranks(NamedTuple):
    """Where rows are, as of a `Partition`: in part ``rank % num_part``; and how pairs are split."""

    left: Int32Array
    right: Int32Array
    num_part: int
    num_sweep: int  # times that each block is visited in an epoch

    @property
    def num_visit(self) -> int:
        """Number of visits."""
        return self.num_sweep * self.num_part**2


def list_sizes(problem: Problem) -> tuple[tuple[type[np.generic], int], ...]:
    """Return of which type the four arrays of a list are, and how many numbers a pair has there."""
    pairs, cells = problem.pairs, bool(problem.objective.flags & GLOVE)
    weights = cells or len(pairs.left_weights) > 0 or len(pairs.right_weights) > 0
    return (np.int32, 1), (np.int32, 1), (np.float32, int(cells)), (np.float32, int(weights))


def bounds_of(num_pair: npt.NDArray[Any]) -> Int64Array:
    """Return where visits begin that have so many pairs."""
    return np.append(0, np.cumsum(num_pair))

"""The pairs of an epoch as a list, as of `backends.listing`, by threads of the CPU.

They are the pairs that `blocks` would train, drawn by the same code from the same random stream.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...compiling import kept
from ...errors import DataError
from ...objective.constants import BLOCK, DROPPED
from ...objective.options import GLOVE
from ...objective.pairs import Pairs, listed_pairs
from ...objective.rng import below, fill_draws, u64
from ..listing import Listed, Ranks, bounds_of, list_sizes
from ..protocol import Problem
from .pairs import ONE, Kept, Stream, fill_pairs, make_block
from .threads import share

# Longer lists are kept in a file that has no name, and is gone with the process.
MAX_BYTES_IN_MEMORY = 1 << 30
# Ranges of slots a thread: enough to even out threads of unequal speed.
RANGES_PER_THREAD = 4
# Bytes that are written at a time where a system cannot reserve room in a file.
ZEROS = 1 << 24


@kept(nogil=True, error_model="numpy")
def _visit(source, flags, pairs, key, keeps, ranks, start, stop, places, lists):
    """Add 1 to the place of its visit for each pair of some slots, which is written there first.

    Draw number 1 of a slot, which is no negative here, says in which sweep it is. Without `lists`,
    pairs are counted only. Returns how many are left out.
    """
    block, draws = make_block(), np.empty((4, BLOCK), dtype=np.uint32)
    num_part, num_dropped = ranks.num_part, 0
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        for i in range(count):
            block.slots[i] = u64(first + i)
            block.scale[i] = ONE
        fill_draws(key.seed, key.stream, key.epoch, block.slots, count, draws)
        fill_pairs(pairs, source, block, draws[0], count, keeps, None, flags)
        for i in range(count):
            if block.left[i] == DROPPED:
                num_dropped += 1
                continue
            left, right = ranks.left[block.left[i]], ranks.right[block.right[i]]
            sweep = np.int64(below(u64(draws[1, i]), u64(ranks.num_sweep)))
            number = (sweep * num_part + left % num_part) * num_part + right % num_part
            if lists is not None:
                lefts, rights, left_weights, right_weights = lists
                place = places[number]
                lefts[place], rights[place] = left // num_part, right // num_part
                if len(left_weights) > 0:
                    left_weights[place] = block.scale[i]
                    right_weights[place] = block.logs[i]
                elif len(right_weights) > 0:
                    right_weights[place] = block.scale[i]
            places[number] += 1
    return num_dropped


class CpuLister:
    """Lists the pairs of a problem on some threads, which do not change the result."""

    def __init__(self, problem: Problem, num_threads: int) -> None:
        self._problem = problem
        self._num_threads = num_threads

    def list_pairs(self, stream: int, epoch: int, ranks: Ranks, slots: tuple[int, int]) -> Listed:
        problem, num_threads = self._problem, self._num_threads
        objective, pairs, source = problem.objective, problem.pairs, problem.source
        key = Stream(u64(problem.seed), u64(stream), u64(epoch))
        keeps = None
        if objective.left_keep is not None and objective.right_keep is not None:
            keeps = Kept(key, objective.left_keep, objective.right_keep)
        flags = objective.flags & GLOVE
        num_range = max(1, min(num_threads * RANGES_PER_THREAD, (slots[1] - slots[0]) // BLOCK))
        ends = np.linspace(*slots, num_range + 1).astype(np.int64)
        places = np.zeros((num_range, ranks.num_visit), dtype=np.int64)

        def visit(lists: Any) -> list[int]:
            def one(n: int) -> int:
                limits = int(ends[n]), int(ends[n + 1])
                left_out: int = _visit(
                    source, flags, pairs, key, keeps, ranks, *limits, places[n], lists
                )
                return left_out

            return share(one, range(num_range), num_threads)

        num_dropped = sum(visit(None))
        # Where the pairs of each range begin in each visit: ranges in their order, visit by visit.
        before = bounds_of(places.T.ravel())
        places[:] = before[:-1].reshape(ranks.num_visit, num_range).T
        lists = allocate(problem, int(before[-1]))
        visit(lists)
        return Listed.of(lists, before[::num_range], num_dropped)


def pairs_of(listed: Listed, number: int, weight: float | None) -> Pairs:
    """Return the pairs of a visit, as of `protocol.Backend`, in memory."""
    left, right, left_weights, right_weights = map(np.array, listed.cut(number))
    if weight is not None:
        ones = right_weights if len(right_weights) else np.ones(len(left), np.float32)
        right_weights = ones * np.float32(weight)
    return listed_pairs(left, right, left_weights, right_weights)


def allocate(problem: Problem, num_pair: int) -> tuple[npt.NDArray[Any], ...]:
    """Allocate lists of pairs and their weights, in a file if they are long."""
    shapes = [(num_pair * many, kind) for kind, many in list_sizes(problem)]
    make = _in_a_file if 4 * sum(size for size, _ in shapes) > MAX_BYTES_IN_MEMORY else np.empty
    return tuple(make(size, dtype=kind) for size, kind in shapes)


def _in_a_file(size: int, dtype: Any) -> npt.NDArray[Any]:
    if size == 0:
        return np.empty(0, dtype=dtype)
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file, size * np.dtype(dtype).itemsize)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(size,)))
    except OSError as error:
        raise DataError(
            f"the pairs of an epoch cannot be written to {tempfile.gettempdir()}: "
            f"{error.strerror or error}; set TMPDIR to a folder with room"
        ) from error


def _reserve(file: IO[bytes], num_byte: int) -> None:
    """Find out now that there is no room, and not by a signal once it is written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, num_byte)
        return
    for start in range(0, num_byte, ZEROS):
        file.write(bytes(min(ZEROS, num_byte - start)))
    file.flush()

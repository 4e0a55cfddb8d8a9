"""The pairs of an epoch as a list, block of the catalog by block: for tables in parts.

They are the pairs that `blocks` would train, drawn by the same code from the same random stream.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...checks import Float32Array, Int32Array, Int64Array
from ...compiling import kept
from ...errors import DataError
from ...objective.arrays import Objective
from ...objective.constants import BLOCK, DROPPED
from ...objective.options import GLOVE
from ...objective.pairs import Pairs
from ...objective.rng import below, fill_draws, u64
from .pairs import ONE, Kept, Stream, fill_pairs, make_block
from .threads import share

# Longer lists are kept in a file that has no name, and is gone with the process.
MAX_BYTES_IN_MEMORY = 1 << 30
# Ranges of slots a thread: enough to even out threads of unequal speed.
RANGES_PER_THREAD = 4
# Bytes that are written at a time where a system cannot reserve room in a file.
ZEROS = 1 << 24


class Listed(NamedTuple):
    """Pairs by visit: those of block (i, j) in sweep s, with P parts, begin at
    ``bounds[(s * P + i) * P + j]``. Within a visit they are in the order of their slots.
    """

    left: Int32Array  # number of the row in its part
    right: Int32Array
    left_weights: Float32Array  # of cells of counts, as in `Pairs`; else empty
    right_weights: Float32Array  # weights of pairs, or empty: all 1; of cells as in `Pairs`
    bounds: Int64Array  # num_sweep * num_part ** 2 + 1
    num_dropped: int  # pairs that are not listed, as an item of theirs was not kept


class Ranks(NamedTuple):
    """Where rows are, as of a `Partition`: in part ``rank % num_part``; and how pairs are split."""

    left: Int32Array
    right: Int32Array
    num_part: int
    num_sweep: int  # times that each block is visited in an epoch


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


def list_pairs(
    pairs: Pairs,
    source: int,
    objective: Objective,
    key: tuple[int, int, int],
    ranks: Ranks,
    slots: tuple[int, int],
    num_threads: int,
) -> Listed:
    """List the pairs of some slots of an epoch, visit by visit.

    Parameters
    ----------
    pairs : Pairs
        Their source, whose left side is no mean.
    source : int
        Its kind.
    objective : Objective
        Which items are kept, and what is asked for.
    key : tuple of int
        Seed, stream and epoch.
    ranks : Ranks
        Parts of the rows, and the number of sweeps.
    slots : tuple of int
        Range of slots.
    num_threads : int
        Threads of the CPU, which do not change the result.
    """
    stream = Stream(*map(u64, key))
    keeps = None
    if objective.left_keep is not None and objective.right_keep is not None:
        keeps = Kept(stream, objective.left_keep, objective.right_keep)
    flags = objective.flags & GLOVE
    num_range = max(1, min(num_threads * RANGES_PER_THREAD, (slots[1] - slots[0]) // BLOCK))
    ends = np.linspace(*slots, num_range + 1).astype(np.int64)
    num_visit = ranks.num_sweep * ranks.num_part**2
    places = np.zeros((num_range, num_visit), dtype=np.int64)

    def visit(lists: Any) -> list[int]:
        def one(n: int) -> int:
            limits = int(ends[n]), int(ends[n + 1])
            left_out: int = _visit(
                source, flags, pairs, stream, keeps, ranks, *limits, places[n], lists
            )
            return left_out

        return share(one, range(num_range), num_threads)

    num_dropped = sum(visit(None))
    # Where the pairs of each range begin in each visit: ranges in their order, visit after visit.
    before = np.append(0, np.cumsum(places.T.ravel()))
    places[:] = before[:-1].reshape(num_visit, num_range).T
    has_weights = len(pairs.left_weights) > 0 or len(pairs.right_weights) > 0
    num_pair = int(before[-1])
    lists = _allocate(num_pair, num_pair if flags else 0, num_pair if has_weights else 0)
    visit(lists)
    left, right, left_weights, right_weights = lists
    return Listed(left, right, left_weights, right_weights, before[::num_range], num_dropped)


def _allocate(num_pair: int, num_left: int, num_right: int) -> tuple[npt.NDArray[Any], ...]:
    """Allocate lists of pairs and their weights, in a file if they are long."""
    shapes = [(num_pair, np.int32)] * 2 + [(num_left, np.float32), (num_right, np.float32)]
    if 4 * sum(size for size, _ in shapes) <= MAX_BYTES_IN_MEMORY:
        return tuple(np.empty(size, dtype=kind) for size, kind in shapes)
    return tuple(_in_a_file(size, kind) for size, kind in shapes)


def _in_a_file(size: int, kind: Any) -> npt.NDArray[Any]:
    if size == 0:
        return np.empty(0, dtype=kind)
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file, size * np.dtype(kind).itemsize)
            return np.asarray(np.memmap(file, kind, "r+", shape=(size,)))
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

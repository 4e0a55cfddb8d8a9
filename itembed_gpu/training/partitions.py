"""Partitions: how a catalog is cut into parts, and in which order blocks of them are trained.

Rows of a table are dealt out to parts, anew in each epoch. A *block* (i, j) holds the pairs whose
left item is in part i of the left table and whose right item is in part j of the right one. Its
negatives are drawn from part j, so that a block touches two parts, and blocks that have no part in
common can be trained at once: the orthogonal blocks of GraphVite (Zhu et al., WWW 2019) and
PyTorch-BigGraph (Lerer et al., MLSys 2019). That rows meet other negatives in each epoch keeps the
quality, which partitions that stay can lose (Kochsiek and Gemulla, "Parallel training of knowledge
graph embedding models: a comparison of techniques", VLDB 2022).

All here are pure functions: who trains where can work them out again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..backends.cpu.threads import share
from ..checks import Int32Array, Int64Array
from ..compiling import kept
from ..objective.constants import PARTITION_SLOT
from ..objective.rng import below, slot_block, u64

# Rows that are dealt out together are of so many neighbours by count for each part: then parts
# have about as many occurrences each, and any two rows can come to lie in one part.
DEALT_TOGETHER = 4

# Pairs of a row in a visit to a block, on average, at most. More would have its vector fit
# that block alone; fewer would have parts moved more often than need be.
PAIRS_PER_VISIT = 8
# Pairs of a visit to a block, at least: less would not be worth its start.
MIN_VISIT = 2048

# Rows that a thread deals out at a time, about.
MIN_ROWS_PER_CALL = 1 << 18

_SLOT = u64(PARTITION_SLOT)
# Draws of a row for either side.
LEFT, RIGHT = 0, 1


class Partition(NamedTuple):
    """Which rows of a table are in which part, and where.

    Attributes
    ----------
    order : int32, num_row
        All rows: those of part p stand at p, p + num_part, p + 2 * num_part ...
    ranks : int32, num_row
        Where each row stands in `order`: row r is number ``ranks[r] // num_part`` of part
        ``ranks[r] % num_part``.
    num_part : int
        Number of parts.
    """

    order: Int32Array
    ranks: Int32Array
    num_part: int

    def rows(self, part: int) -> Int32Array:
        """Return the rows of a part."""
        return np.ascontiguousarray(self.order[part :: self.num_part])


def by_count(counts: Int64Array) -> Int32Array:
    """Return all rows, those that occur most often first, and of equal ones the first first.

    Parameters
    ----------
    counts : int64, num_row
        Occurrences of each row.
    """
    return np.argsort(-counts, kind="stable").astype(np.int32)


def deal(
    rows: Int32Array,
    num_part: int,
    seed: int,
    stream: int,
    epoch: int,
    side: int,
    num_threads: int = 1,
) -> Partition:
    """Deal out rows to parts.

    Parameters
    ----------
    rows : int32, num_row
        All rows, as of `by_count`.
    num_part : int
        Number of parts, from 1 to num_row.
    seed, stream, epoch : int
        Key of the random stream.
    side : {0, 1}
        Which draws: of the left table, or of the right one.
    num_threads : int, optional
        Threads of the CPU, which do not change the result.

    Returns
    -------
    Partition
        Of parts whose numbers of rows differ by 1 at most.
    """
    order, ranks = rows.copy(), np.empty_like(rows)
    key = u64(seed), u64(stream), u64(epoch)
    size = DEALT_TOGETHER * num_part if num_part > 1 else 1
    step = -(-MIN_ROWS_PER_CALL // size) * size

    def one(start: int) -> None:
        _shuffle(order, ranks, start, min(len(order), start + step), size, *key, side)

    share(one, range(0, len(order), step), num_threads)
    return Partition(order, ranks, num_part)


@kept(nogil=True)
def _shuffle(order, ranks, begin, end, size, seed, stream, epoch, side):
    """Shuffle rows among those that are next to them, so many at a time (Fisher and Yates)."""
    for start in range(begin, end, size):
        stop = min(end, start + size)
        for place in range(stop - 1, start, -1):
            words = slot_block(seed, stream, epoch, _SLOT + u64(place), u64(0))
            other = start + np.int64(below(words[side], u64(place - start + 1)))
            order[place], order[other] = order[other], order[place]
        for place in range(start, stop):
            ranks[order[place]] = place


def count_sweeps(num_pair: int, num_row: int, num_part: int) -> int:
    """Return in how many sweeps over all blocks an epoch is trained.

    Parameters
    ----------
    num_pair : int
        Pairs of an epoch.
    num_row : int
        Rows of the smaller table.
    num_part : int
        Number of parts.
    """
    wanted = -(-num_pair // (num_part * num_row * PAIRS_PER_VISIT))
    return max(1, min(wanted, num_pair // (num_part**2 * MIN_VISIT))) if num_part > 1 else 1


class Block(NamedTuple):
    """Pairs of a part on the left and a part on the right."""

    left: int
    right: int


class Visit(NamedTuple):
    """A block in one of the sweeps of an epoch."""

    sweep: int
    block: Block


# What one worker does in a step: blocks of the same parts, one after the other.
Turn = tuple[Block, ...]


def schedule(num_part: int, num_worker: int, same_table: bool = False) -> list[list[Turn]]:
    """Return which blocks are trained when: each of them once.

    Parameters
    ----------
    num_part : int
        Parts of each table.
    num_worker : int
        Workers, of which there are at most as many as parts.
    same_table : bool, optional
        Whether both sides train one table, of which a worker then holds two parts.

    Returns
    -------
    list of list of tuple of Block
        Steps one after the other; in each, for each worker a turn, and no part in two turns. Of
        two tables, a worker keeps its left part from step to step, until all right parts have
        passed by.
    """
    turns = _meetings(num_part) if same_table else _passages(num_part, num_worker)
    return [
        step[first : first + num_worker]
        for step in turns
        for first in range(0, len(step), num_worker)
    ]


def _passages(num_part: int, num_worker: int) -> list[list[Turn]]:
    """Have all right parts pass by some left ones, and then by the next ones, back again."""
    steps: list[list[Turn]] = []
    for number, first in enumerate(range(0, num_part, num_worker)):
        lefts = range(first, min(num_part, first + num_worker))
        # Neighbours are apart by so much that no right part is awaited right after its use.
        apart = num_part // len(lefts)
        shifts = range(num_part) if number % 2 == 0 else range(num_part - 1, -1, -1)
        steps += [
            [(Block(left, (place * apart + shift) % num_part),) for place, left in enumerate(lefts)]
            for shift in shifts
        ]
    return steps


def _meetings(num_part: int) -> list[list[Turn]]:
    """Have each two parts of one table meet once, in rounds of a tournament (circle method)."""
    # With an odd number, one part at a time meets nobody.
    size = num_part + num_part % 2
    steps: list[list[Turn]] = []
    for number in range(max(1, size - 1)):
        circle = [0, *((place + number) % (size - 1) + 1 for place in range(size - 1))]
        step: list[Turn] = []
        for place in range(size // 2):
            first, second = sorted((circle[place], circle[size - 1 - place]))
            if second == num_part:  # alone, and with itself
                step.append((Block(first, first),))
                continue
            turn = [Block(first, second), Block(second, first)]
            if number == 0 and num_part % 2 == 0:
                turn = [Block(first, first), *turn, Block(second, second)]
            step.append(tuple(turn))
        steps.append(step)
    return steps

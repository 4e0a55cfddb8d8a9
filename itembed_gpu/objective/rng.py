"""The random stream: stateless, and the same on every backend.

A draw is named, not consumed: it depends on (seed, stream, epoch, slot, draw)
and on nothing else, so that the pairs and negatives of an epoch are the same set
whatever the number of threads, the batch size or the device. A *slot* is the
unit of training (one item of the packed array, or one left x right pair), and a
*stream* tells apart the sub-tasks of a compound task that share a seed.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011): a block of four 32-bit words from a 128-bit counter and a
64-bit key. The counter and key are laid out as::

    counter = (slot low, slot high, epoch, stream << 16 | block)
    key     = (seed low, seed high)

and draw number d is word d % 4 of block d // 4. Draw 0 picks the neighbour, draw
n the n-th negative. The slot 2**64 - 1 does not occur in training: its blocks
make the keys of the epoch's order (`schedule.epoch_order`).

Numba turns ``uint64 + 1`` into a float64: every constant below has its type.
"""

from __future__ import annotations

import numpy as np

from ..compiling import inlined, part
from . import constants

u64 = np.uint64

LOW = u64(0xFFFFFFFF)
HALF = u64(32)

# The words of a counter are kept in 64-bit variables, of which the low half is
# used: then a loop over slots becomes vector instructions.
PHILOX_M0 = u64(constants.PHILOX_M0)
PHILOX_M1 = u64(constants.PHILOX_M1)
PHILOX_W0 = u64(constants.PHILOX_W0)
PHILOX_W1 = u64(constants.PHILOX_W1)


@inlined
def _philox_round(c0, c1, c2, c3, k0, k1):
    # Masked, so that the compiler knows of a 32 x 32 bit product, which vectors have.
    p0 = (c0 & LOW) * PHILOX_M0
    p1 = (c2 & LOW) * PHILOX_M1
    return (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW


@inlined
def _bump(k0, k1):
    return (k0 + PHILOX_W0) & LOW, (k1 + PHILOX_W1) & LOW


@inlined
def philox(c0, c1, c2, c3, k0, k1):
    """One block of Philox4x32-10.

    Parameters
    ----------
    c0, c1, c2, c3 : uint64
        Words of the counter, each under 2**32.
    k0, k1 : uint64
        Words of the key, each under 2**32.

    Returns
    -------
    tuple of 4 uint64
        Four words, each under 2**32.
    """
    # Ten rounds written out: a loop here would keep the caller's from vectorising.
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _bump(k0, k1)
    return _philox_round(c0, c1, c2, c3, k0, k1)


@inlined
def slot_block(seed, stream, epoch, slot, block):
    """Draws 4 * block ... 4 * block + 3 of a slot; every argument and result is a uint64."""
    return philox(
        slot & LOW,
        slot >> HALF,
        epoch,
        (stream << u64(16)) | block,
        seed & LOW,
        seed >> HALF,
    )


@inlined
def below(word, bound):
    """Map a 32-bit word to 0 ... bound - 1, by multiplication (Lemire, 2019)."""
    return (word * bound) >> HALF


@part
def fill_draws(seed, stream, epoch, slots, count, draws):
    """Make all the draws of many slots.

    Parameters
    ----------
    seed, stream, epoch : uint64
        Key of the stream.
    slots : uint64, at least count
        Slots to draw for.
    count : int
        Number of slots.
    draws : uint32, (4 * num_block, at least count)
        Receives draw d of slots[i] at [d, i].
    """
    for block in range(draws.shape[0] // 4):
        row0 = draws[4 * block]
        row1 = draws[4 * block + 1]
        row2 = draws[4 * block + 2]
        row3 = draws[4 * block + 3]
        for i in range(count):
            w0, w1, w2, w3 = slot_block(seed, stream, epoch, slots[i], u64(block))
            row0[i] = w0
            row1[i] = w1
            row2[i] = w2
            row3[i] = w3


def philox_words(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """One block of Philox4x32-10 in plain Python, for the host's few draws."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    low, m0, m1, w0, w1 = map(int, (LOW, PHILOX_M0, PHILOX_M1, PHILOX_W0, PHILOX_W1))
    for _ in range(10):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & low, (p0 >> 32) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + w0) & low, (k1 + w1) & low
    return c0, c1, c2, c3

"""Windows over sequences: which pairs of an itemset they are of, and how many.

For each position, word2vec draws a distance b uniformly from 1 ... window, and trains it with all
that is within b (Mikolov et al., "Efficient estimation of word representations in vector space",
2013): a pair at distance d comes up with probability ``(window - d + 1) / window``, in each of its
two directions. Here an epoch has as many pairs, rounded to a whole number, drawn by systematic
sampling: each pair has ``window - d + 1`` *units* in each direction, and the k-th slot of an
itemset draws one of the k-th share of all units, which are in the order of directions, distances
and positions. So the expectation is that of word2vec, with less variance, and without a slot that
draws nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from ..checks import Int64Array
from ..compiling import inlined
from ..errors import InputError
from .rng import HALF, LOW, u64

ONE, TWO, SIX = u64(1), u64(2), u64(6)
# Pairs of an itemset, at most: draws within it are worked out in 64 bits.
MAX_PAIRS_OF_ITEMSET = (1 << 31) - 1


@register_jitable(forceinline=True)
def units_within(length, window, distance):
    """Count the units of an itemset in one direction, up to a distance.

    That is the sum of ``(length - d) * (window - d + 1)`` over d = 1 ... distance, where distance
    is at most window and length - 1.

    Parameters
    ----------
    length, window, distance : uint64, or arrays of it
    """
    steps = distance * (distance + ONE)
    squares = steps * (TWO * distance + ONE) // SIX
    return distance * length * (window + ONE) - (length + window + ONE) * (steps // TWO) + squares


@inlined
def unit_of(rank, num_slot, num_unit, word):
    """Return the unit that a slot draws: ``floor((rank + word / 2**32) * num_unit / num_slot)``.

    Parameters
    ----------
    rank : uint64
        Number of the slot in its itemset.
    num_slot, num_unit : uint64
        Slots and units of the itemset: under 2**31, and under 2**32 times that.
    word : uint64
        Draw of the slot, under 2**32.
    """
    each, rest = num_unit // num_slot, num_unit % num_slot
    product = word * each
    # What is left over of the slots before, and of this one's draw, in parts of a slot.
    parts = (rank * rest) % num_slot + (((product & LOW) * num_slot + word * rest) >> HALF)
    return rank * each + (rank * rest) // num_slot + (product >> HALF) + parts // num_slot


@inlined
def find_in_window(length, window, rank, num_slot, word):
    """Return where in its itemset the left and the right item of a slot are, from 0 on.

    All are uint64.
    """
    farthest = min(window, length - ONE)
    half = units_within(length, window, farthest)
    unit = unit_of(rank, num_slot, TWO * half, word)
    backward = unit >= half
    if backward:
        unit -= half
    # The least distance up to which there are more units than this one's number.
    low, high = ONE, farthest
    while low < high:
        middle = (low + high) // TWO
        if units_within(length, window, middle) <= unit:
            low = middle + ONE
        else:
            high = middle
    place = (unit - units_within(length, window, low - ONE)) // (window - low + ONE)
    if backward:
        return place + low, place
    return place, place + low


def count_in_windows(lengths: npt.NDArray[Any], window: int) -> Int64Array:
    """Count the pairs of itemsets of these lengths: those of word2vec in expectation, rounded.

    Parameters
    ----------
    lengths : int, num_itemset
        At least 2 each.
    window : int
        Greatest distance.

    Raises
    ------
    InputError
        An itemset has more pairs than slots can be told apart.
    """
    longest = float(lengths.max(initial=2))
    most = 2 * units_within(longest, window, min(window, longest - 1)) / window
    if most >= MAX_PAIRS_OF_ITEMSET:
        raise InputError(
            f"window is {window}, which makes about {most:.2g} pairs of an itemset of "
            f"{longest:.0f} items; pass a smaller one, or cut the itemset"
        )
    sizes, reach = lengths.astype(np.uint64), u64(window)
    units = TWO * units_within(sizes, reach, np.minimum(reach, sizes - ONE))
    counts: Int64Array = ((units + reach // TWO) // reach).astype(np.int64)
    return counts

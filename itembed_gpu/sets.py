"""Sets that are packed one after the other: ``(items, offsets)``, as itemsets are.

The items of set s are ``items[offsets[s]:offsets[s + 1]]``, and offsets begin at 0.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .checks import Int32Array, Int64Array
from .compiling import kept

BoolArray: TypeAlias = npt.NDArray[np.bool_]
Packed: TypeAlias = tuple[Int32Array, Int64Array]

# Of the key of an item, the part that is the item.
ITEM_MASK = (1 << 32) - 1


def as_offsets(lengths: npt.NDArray[Any]) -> Int64Array:
    """Return where sets of these lengths begin, and the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def set_keys(items: Int32Array, offsets: npt.NDArray[Any]) -> Int64Array:
    """Return one number for each packed item, int64: its set's number times 2**32, and it."""
    keys = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys <<= 32
    keys |= items
    return keys


def set_sums(values: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sum the packed values of each set; integers and masks stay integers."""
    totals = np.concatenate([[0], np.cumsum(values)])
    sums: npt.NDArray[Any] = totals[offsets[1:]] - totals[offsets[:-1]]
    return sums


def distinct_items(items: Int32Array, offsets: npt.NDArray[Any]) -> Packed:
    """Return the different items of each set, ascending."""
    keys = np.unique(set_keys(items, offsets))
    lengths = np.bincount(keys >> 32, minlength=len(offsets) - 1)
    return (keys & ITEM_MASK).astype(np.int32), as_offsets(lengths)


def choose_sets(packed: Packed, chosen: BoolArray) -> Packed:
    """Return some of the sets."""
    items, offsets = packed
    lengths = np.diff(offsets)
    return items[np.repeat(chosen, lengths)], as_offsets(lengths[chosen])


def offsets_left(kept: BoolArray, offsets: npt.NDArray[Any]) -> Int64Array:
    """Return the offsets of sets once the items that are not kept are gone."""
    left: Int64Array = offsets - np.searchsorted(np.flatnonzero(~kept), offsets)
    return left


def keep_items(items: Int32Array, offsets: npt.NDArray[Any], kept: BoolArray) -> Packed:
    """Return some of the items, in the sets that they are in."""
    return items[kept], offsets_left(kept, offsets)


@kept(nogil=True)
def count_codes(codes, num_code):
    """Count the occurrences of each code, and of -1."""
    counts = np.zeros(num_code, dtype=np.int64)
    missing = 0
    for code in codes:
        if code < 0:
            missing += 1
        else:
            counts[code] += 1
    return counts, missing

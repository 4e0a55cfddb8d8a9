"""Where a task's pairs come from: the arrays of a source, and the kinds of sources."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array

# Kinds of sources. Each item with one random other item of its itemset ...
NEIGHBOUR = 0
# ... every left item with every right item of the itemset of the same number ...
PRODUCT = 1
# ... and pairs that are given one by one.
LISTED = 2


class Pairs(NamedTuple):
    """A source of pairs: packed itemsets on a left and a right side.

    An unsupervised task has the same arrays on both sides, and slot s is item s. Of pairs
    that are listed, slot s is item s on both sides, and right weights are the pairs' values.
    """

    left_items: Int32Array  # num_left_item
    left_offsets: Int64Array  # num_itemset + 1
    left_weights: Float32Array  # num_left_item, or empty: all 1
    right_items: Int32Array
    right_offsets: Int64Array
    right_weights: Float32Array
    slot_offsets: Int64Array  # num_itemset + 1: first slot of each itemset
    guide: npt.NDArray[np.signedinteger]  # as made by schedule.slot_guide
    shift: int  # of the guide


def list_pairs(left: Int32Array, right: Int32Array, values: Float32Array) -> Pairs:
    """Return a source of listed pairs.

    Parameters
    ----------
    left, right : int32, num_pair
        Rows.
    values : float32, num_pair, or empty
        What the step of each pair is multiplied by, as by a weight; empty where all are 1.
    """
    offsets = np.array([0, len(left)], dtype=np.int64)
    # One itemset, in which every slot is.
    guide = np.zeros(2, dtype=np.int32)
    none = np.empty(0, dtype=np.float32)
    return Pairs(left, offsets, none, right, offsets, values, offsets, guide, 62)

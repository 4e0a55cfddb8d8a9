"""Where a task's pairs come from: the kinds of sources, and their arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array
from .schedule import count_slots, guide_shift, number_slots, slot_guide
from .windows import count_in_windows

# Kinds of sources. Each item with one random other item of its itemset ...
NEIGHBOUR = 0
# ... every left item with every right item of the itemset of the same number ...
PRODUCT = 1
# ... pairs that are given one by one ...
LISTED = 2
# ... and each item with others of its itemset that are near it.
WINDOW = 3
# Of these, both items of a pair are of one itemset.
WITHIN = (NEIGHBOUR, WINDOW)


class Pairs(NamedTuple):
    """A source of pairs: packed itemsets on a left and a right side.

    An unsupervised task has the same arrays on both sides, and slot s is item s, but for pairs
    in a window. Of pairs that are listed, slot s is item s on both sides, and right weights are
    the pairs' values. Of cells of counts, which are listed, left weights are what `Curve` weighs
    them by, and right weights the logarithms of the counts.
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
    first: int = 0  # number of the first itemset among those that these are a part of
    window: int = 0  # greatest distance of the items of a pair; 0 where there is no window


def listed_pairs(
    left: Int32Array, right: Int32Array, left_weights: Float32Array, right_weights: Float32Array
) -> Pairs:
    """Return pairs that are listed, as `Pairs` has them."""
    offsets = np.array([0, len(left)], dtype=np.int64)
    # One itemset, in which every slot is.
    guide = np.zeros(2, dtype=np.int32)
    return Pairs(left, offsets, left_weights, right, offsets, right_weights, offsets, guide, 62)


class Side(NamedTuple):
    """Packed itemsets of one side of a task, as they were given: in memory, or mapped."""

    items: Int32Array  # from the first itemset on
    offsets: npt.NDArray[Any]  # int32 or int64, from any start
    weights: Float32Array  # one an item, or empty

    def cut(self, start: int, stop: int, copy: bool) -> tuple[Int32Array, Int64Array, Float32Array]:
        """Return some of the itemsets, with offsets from 0 on."""
        offsets = self.offsets[start : stop + 1].astype(np.int64)
        first = int(self.offsets[0])
        used = slice(int(offsets[0]) - first, int(offsets[-1]) - first)
        offsets -= offsets[0]
        items, weights = self.items[used], self.weights[used]
        if copy:  # out of what is mapped, which is read by that
            items, weights = np.array(items), np.array(weights)
        return items, offsets, weights


class ItemsetSource(NamedTuple):
    """Pairs of packed itemsets.

    Attributes
    ----------
    left : Side
        Left items.
    right : Side or None
        Right items; None where they are the other items of the same itemset.
    pooled : bool
        Whether a right item is one slot, whatever is on the left.
    window : int or None
        Greatest distance of the items of a pair, of the same itemset.
    """

    left: Side
    right: Side | None = None
    pooled: bool = False
    window: int | None = None

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.left if self.right is None else self.right

    @property
    def kind(self) -> int:
        """Kind of source, as `Problem` has it."""
        if self.window is not None:
            return WINDOW
        return NEIGHBOUR if self.right is None else PRODUCT

    @property
    def items(self) -> tuple[Int32Array, Int32Array]:
        """Rows that occur on the left and on the right."""
        left, right = self.sides
        return left.items, right.items

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """What tells it from another one."""
        return [array for side in self.sides for array in (side.items, side.offsets)]

    @property
    def num_itemset(self) -> int:
        """Number of itemsets."""
        return len(self.left.offsets) - 1

    @property
    def has_weights(self) -> bool:
        """Whether pairs differ in weight."""
        return any(len(side.weights) > 0 for side in self.sides)

    def pairs(self, start: int = 0, stop: int | None = None, copy: bool = False) -> Pairs:
        """Return the pairs of some of the itemsets, by default of all."""
        stop = self.num_itemset if stop is None else stop
        left = self.left.cut(start, stop, copy)
        right = left if self.right is None else self.right.cut(start, stop, copy)
        window = self.window or 0
        if self.pooled or self.kind == NEIGHBOUR:
            slots = right[1]
        elif window:
            slots = number_slots(count_in_windows(np.diff(right[1]), window))
        else:
            slots = count_slots(left[1], right[1])
        shift = 0 if slots is left[1] else guide_shift(slots)
        guide = slot_guide(slots, shift)
        return Pairs(*left, *right, slots, guide, shift, start, window)

    def count_items(self, itemsets: Int64Array) -> Int64Array:
        """Count the items before each of some itemsets, on sides that differ."""
        sides = self.sides[: 1 if self.right is None else 2]
        offsets = (side.offsets for side in sides)
        return sum(some[itemsets].astype(np.int64) - int(some[0]) for some in offsets)  # type: ignore[return-value]

    def count_pairs(self, start: int, stop: int) -> int:
        """Count the pairs of some of the itemsets."""
        bounds = [side.offsets[start : stop + 1] for side in self.sides]
        if self.pooled or self.kind == NEIGHBOUR:
            return int(bounds[1][-1]) - int(bounds[1][0])
        if self.window is not None:
            return int(count_in_windows(np.diff(bounds[1]), self.window).sum())
        return int(count_slots(*(offsets.astype(np.int64) for offsets in bounds))[-1])


class Curve(NamedTuple):
    """How much cells of counts count: ``min(1, (count / x_max) ** exponent)``."""

    x_max: float
    exponent: float

    def weigh(self, counts: Float32Array) -> Float32Array:
        """Return the weight of each count."""
        weights: Float32Array = counts / np.float32(self.x_max)
        np.power(weights, np.float32(self.exponent), out=weights)
        np.minimum(weights, 1, out=weights)
        return weights


class ListedSource(NamedTuple):
    """Pairs that are given one by one, each of which stands for an itemset of its own.

    Attributes
    ----------
    left, right : int32, num_pair
        Rows.
    values : float32, num_pair, or empty
        What the step of each pair is multiplied by, as by a weight; empty where all are 1. With
        a curve, how often each pair occurs.
    curve : Curve, optional
        How pairs are weighed by their counts.
    """

    left: Int32Array
    right: Int32Array
    values: Float32Array
    curve: Curve | None = None

    @property
    def kind(self) -> int:
        """Kind of source, as `Problem` has it."""
        return LISTED

    @property
    def items(self) -> tuple[Int32Array, Int32Array]:
        """Rows that occur on the left and on the right."""
        return self.left, self.right

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """What tells it from another one."""
        return [self.left, self.right, self.values]

    @property
    def num_itemset(self) -> int:
        """Number of pairs."""
        return len(self.left)

    @property
    def has_weights(self) -> bool:
        """Whether pairs differ in weight."""
        return self.curve is None and len(self.values) > 0

    def pairs(self, start: int = 0, stop: int | None = None, copy: bool = False) -> Pairs:
        """Return some of the pairs, by default all."""
        left, right, values = self.left[start:stop], self.right[start:stop], self.values[start:stop]
        weights = np.empty(0, dtype=np.float32)
        if copy:
            left, right, values = np.array(left), np.array(right), np.array(values)
        if self.curve is not None:
            weights, values = self.curve.weigh(values), np.log(values)
        return listed_pairs(left, right, weights, values)

    def count_items(self, itemsets: Int64Array) -> Int64Array:
        """Count the pairs before each of some."""
        return itemsets

    def count_pairs(self, start: int, stop: int) -> int:
        """Count some of the pairs."""
        return stop - start


Source = ItemsetSource | ListedSource

"""Which pairs are trained: from a slot to the rows of its left and right items and its negatives.

The twin of ``kernels/pairs.cuh``. The kinds of sources are those of `objective.pairs`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...compiling import inlined, shared
from ...objective import constants
from ...objective.constants import ALWAYS, BLOCK, DROPPED, MAX_REDRAW, MEANS
from ...objective.options import GLOVE, REJECT_ITEMSET
from ...objective.pairs import LISTED, NEIGHBOUR, WINDOW, WITHIN, Pairs
from ...objective.rng import HALF, LOW, below, slot_block, u64
from ...objective.windows import find_in_window

f32 = np.float32
ZERO = f32(0)
ONE = f32(1)
KEEP_SLOT = u64(constants.KEEP_SLOT)
KEEP_RIGHT_SLOT = u64(constants.KEEP_RIGHT_SLOT)


class Stream(NamedTuple):
    """Where the draws of an epoch are: the key of the random stream."""

    seed: np.uint64
    stream: np.uint64
    epoch: np.uint64


class Kept(NamedTuple):
    """Which occurrences of items are kept in an epoch."""

    key: Stream
    left: npt.NDArray[np.uint32]  # as Objective.left_keep
    right: npt.NDArray[np.uint32]


class Block(NamedTuple):
    """Buffers for the pairs that are drawn together, `BLOCK` of them."""

    slots: npt.NDArray[np.uint64]
    itemsets: npt.NDArray[np.int64]
    left_places: npt.NDArray[np.int64]  # positions in the packed arrays
    right_places: npt.NDArray[np.int64]
    left: npt.NDArray[np.int32]  # rows, or DROPPED
    right: npt.NDArray[np.int32]  # rows
    scale: npt.NDArray[np.float32]  # weights of both items, and what else a step is scaled by
    rates: npt.NDArray[np.float32]  # learning rates
    logs: npt.NDArray[np.float32]  # of cells of counts: logarithms of the counts


class Bags(NamedTuple):
    """The left rows of a block's pairs where their left side is a mean."""

    pairs: Pairs
    # Of each slot of a block: the range of left positions, and which of them to leave out, or -1.
    firsts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    skips: npt.NDArray[np.int64]
    kept: Kept | None
    rows: npt.NDArray[np.int32]  # buffer as long as the longest bag
    shares: npt.NDArray[np.float32]  # the same
    # Of pairs that share their negatives: means as they were read, and their gradients.
    means: npt.NDArray[np.float32]  # (MEANS, dim)
    gradients: npt.NDArray[np.float32]
    # Of the itemset of each slot, where it has a row of its own in its means.
    numbers: npt.NDArray[np.int64] | None = None


@inlined
def make_block():
    """Allocate a block."""
    return Block(
        np.empty(BLOCK, dtype=np.uint64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int32),
        np.empty(BLOCK, dtype=np.int32),
        np.empty(BLOCK, dtype=np.float32),
        np.empty(BLOCK, dtype=np.float32),
        np.empty(BLOCK, dtype=np.float32),
    )


@inlined
def make_bags(pairs, kept, max_bag, dim, own=None):
    """Allocate what `fill_bag` needs; None where no left side is a mean."""
    if max_bag is None:
        return None
    return Bags(
        pairs,
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        kept,
        np.empty(max_bag, dtype=np.int32),
        np.empty(max_bag, dtype=np.float32),
        np.empty((MEANS, dim), dtype=np.float32),
        np.empty((MEANS, dim), dtype=np.float32),
        make_numbers(own),
    )


# --- from a slot to its items


@inlined
def find_itemset(pairs, slot):
    """Return the itemset of a slot, by binary search between two entries of the guide."""
    entry = slot >> pairs.shift
    low = np.int64(pairs.guide[entry])
    high = np.int64(pairs.guide[entry + 1])
    while high - low > 1:
        middle = (low + high) >> 1
        if pairs.slot_offsets[middle] <= slot:
            low = middle
        else:
            high = middle - 1
    # Without a branch: whether an entry is of one itemset or of two cannot be predicted.
    return low + np.int64((low < high) & (pairs.slot_offsets[high] <= slot))


@inlined
def draw_neighbour(position, first, length, word):
    """Return one of first ... first + length - 1 other than position, uniformly."""
    other = first + np.int64(below(word, u64(length - 1)))
    if other >= position:
        other += 1
    return other


@inlined
def find_pair(pairs, source, itemset, slot, word):
    """Return the positions in the packed arrays of a slot's left and right items.

    Parameters
    ----------
    pairs : Pairs
        Arrays of the source.
    source : int
        Its kind.
    itemset, slot : int64
        Slot, and its itemset, which pairs that are listed have none of.
    word : uint64
        Draw number 0 of the slot.
    """
    if source == LISTED:
        return slot, slot
    first = pairs.right_offsets[itemset]
    rank = u64(slot - pairs.slot_offsets[itemset])
    length = pairs.right_offsets[itemset + 1] - first
    if source == NEIGHBOUR:
        return slot, draw_neighbour(slot, first, length, word)
    if source == WINDOW:
        num_slot = u64(pairs.slot_offsets[itemset + 1] - pairs.slot_offsets[itemset])
        near, far = find_in_window(u64(length), u64(pairs.window), rank, num_slot, word)
        return first + np.int64(near), first + np.int64(far)
    left = pairs.left_offsets[itemset] + np.int64(rank // u64(length))
    return left, first + np.int64(rank % u64(length))


@inlined
def find_bag(pairs, source, itemset, slot, word):
    """Return a slot's range of left positions, which of them to skip, and its right position.

    Where left sides are means, slots enumerate the right items, which are all items where both
    sides are the same. In a window, draw number 0 decides how far the range reaches.
    """
    right = pairs.right_offsets[itemset] + slot - pairs.slot_offsets[itemset]
    first, stop = pairs.left_offsets[itemset], pairs.left_offsets[itemset + 1]
    if source == WINDOW:
        reach = np.int64(below(word, u64(pairs.window))) + 1
        first, stop = max(first, right - reach), min(stop, right + reach + 1)
    # An item is not in its own context.
    return first, stop, right if source in WITHIN else np.int64(-1), right


@inlined
def is_kept_left(kept, position, item):
    """Whether an occurrence on the left is kept."""
    if kept is None:
        return True
    return is_kept(kept.key, kept.left, KEEP_SLOT + u64(position), item)


@inlined
def is_kept(key, keep, slot, item):
    """Whether an occurrence of an item is kept in this epoch: the same for all its pairs."""
    word, _, _, _ = slot_block(key.seed, key.stream, key.epoch, slot, u64(0))
    return keep[item] == ALWAYS or word < u64(keep[item])


@inlined
def has(optional):
    """Whether something optional is there, as a number."""
    if optional is None:
        return 0
    return 1


@inlined
def make_numbers(own):
    """Allocate what `note_owner` needs; None where itemsets have no rows of their own."""
    if own is None:
        return None
    return np.empty(BLOCK, dtype=np.int64)


@inlined
def note_owner(numbers, pairs, itemset, i):
    """Note which itemset slot i of a block is of, where that has a row of its own."""
    if numbers is not None:
        numbers[i] = pairs.first + itemset


@inlined
def owner_of(numbers, i, total):
    """Return the number of the itemset of slot i, and the share of its own row in the mean."""
    if numbers is None:
        return np.int64(0), ZERO
    return numbers[i], ONE / total


@inlined
def fill_bag(bags, i):
    """Return what slot i's mean is of, or None where there are no means.

    That are the rows of its bag, their shares in the mean and how many there are, and the
    itemset's own row and share, where it has one.
    """
    if bags is None:
        return None
    pairs, kept, rows, shares = bags.pairs, bags.kept, bags.rows, bags.shares
    count = 0
    total = np.float32(has(bags.numbers))
    for position in range(bags.firsts[i], bags.stops[i]):
        item = pairs.left_items[position]
        if position == bags.skips[i]:
            continue
        if not is_kept_left(kept, position, item):
            continue
        weight = ONE
        if pairs.left_weights.shape[0] > 0:
            weight = pairs.left_weights[position]
        if weight == ZERO:  # neither in the mean nor touched
            continue
        rows[count] = item
        shares[count] = weight
        total += abs(weight)
        count += 1
    if total == ZERO:
        count = 0
    for n in range(count):
        shares[n] /= total
    number, own_share = owner_of(bags.numbers, i, total)
    return rows, shares, count, number, own_share


@inlined
def fill_pairs(pairs, source, block, words, count, kept=None, bags=None, flags=0):
    """Find the items of a block's slots.

    Parameters
    ----------
    pairs, source
        As for `find_pair`.
    block : Block
        Receives the left and the right rows of its slots, DROPPED on the left where an item
        is not kept; its scale is multiplied by the weights of both items.
    words : uint32, at least count
        Draw number 0 of each.
    count : int
        Number of slots.
    flags : int
        Bits of `options`.
    kept : Kept, optional
        Which items are kept.
    bags : Bags, optional
        Receives the range of each slot where the left side is a mean.
    flags : int, optional
        Bits of `options`.
    """
    # Named before the loops, in which it would cost counts of references.
    lefts, rights, scale, logs = block.left, block.right, block.scale, block.logs
    fill_places(pairs, source, block, words, count, bags)
    for i in range(count):
        b = block.right_places[i]
        if bags is not None:
            lefts[i] = 0
            if has(bags.numbers) == 0:  # else there is an itemset's own row, whatever is kept
                _, _, length, _, _ = fill_bag(bags, i)
                if length == 0:
                    lefts[i] = DROPPED
        else:
            a = block.left_places[i]
            lefts[i] = pairs.left_items[a]
            if pairs.left_weights.shape[0] > 0:
                scale[i] *= pairs.left_weights[a]
            if not is_kept_left(kept, a, lefts[i]):
                lefts[i] = DROPPED
        rights[i] = pairs.right_items[b]
        if flags & GLOVE:
            logs[i] = pairs.right_weights[b]
        elif pairs.right_weights.shape[0] > 0:
            scale[i] *= pairs.right_weights[b]
        if kept is not None:
            # On both sides there may be the same occurrences.
            first = KEEP_SLOT if source in WITHIN else KEEP_RIGHT_SLOT
            if not is_kept(kept.key, kept.right, first + u64(b), rights[i]):
                lefts[i] = DROPPED


@inlined
def fill_places(pairs, source, block, words, count, bags):
    """Find the places of a block's slots, in loops so short that their reads overlap."""
    slots, itemsets = block.slots, block.itemsets
    lefts, rights = block.left_places, block.right_places
    if source != LISTED:
        for i in range(count):
            itemsets[i] = find_itemset(pairs, np.int64(slots[i]))
            rights[i] = pairs.right_offsets[itemsets[i]]  # which the next loop has at hand then
    for i in range(count):
        itemset, slot, word = itemsets[i], np.int64(slots[i]), u64(words[i])
        if bags is not None:
            bags.firsts[i], bags.stops[i], bags.skips[i], rights[i] = find_bag(
                pairs, source, itemset, slot, word
            )
            note_owner(bags.numbers, pairs, itemset, i)
        else:
            lefts[i], rights[i] = find_pair(pairs, source, itemset, slot, word)


# --- negatives


@inlined
def draw_noise(word, num_right, thresholds, aliases):
    """Turn a 32-bit word into a row of the noise distribution."""
    product = word * num_right
    row = product >> HALF
    if thresholds is None:
        return np.int32(row)
    if (product & LOW) < u64(thresholds[row]):
        return np.int32(row)
    return aliases[row]


@inlined
def fill_negatives(num_right, draws, count, targets, thresholds=None, aliases=None):
    """Turn draws into negatives.

    Parameters
    ----------
    num_right : int
        Number of rows that negatives are drawn from.
    draws : uint32, (at least num_target, at least count)
        Draws of each slot, or group.
    count : int
        Number of slots, or groups.
    targets : int32, (at least count, num_target)
        Receives negative n at [i, n]; what stands at [i, 0] is left alone.
    thresholds, aliases : uint32 and int32, num_right, optional
        Alias table of the noise, as made by `arrays.alias_table`.
    """
    for n in range(1, targets.shape[1]):
        for i in range(count):
            targets[i, n] = draw_noise(u64(draws[n, i]), u64(num_right), thresholds, aliases)


@inlined
def is_rejected(pairs, source, slot, positive, negative, flags):
    """Whether a negative is the positive of a slot or, if so asked, of its right itemset."""
    if negative == positive:
        return True
    if flags & REJECT_ITEMSET and source != LISTED:
        itemset = find_itemset(pairs, np.int64(slot))
        for position in range(pairs.right_offsets[itemset], pairs.right_offsets[itemset + 1]):
            if pairs.right_items[position] == negative:
                return True
    return False


@shared
def redraw_negatives(key, pairs, source, slot, targets, num_right, thresholds, aliases, flags):
    """Draw those negatives of a slot again that it rejects.

    The next draw of negative n is that with a number larger by the number of
    draws of a slot. After MAX_REDRAW of them, which takes positives that are
    nearly all of the noise, any row but the positive is as good.
    """
    num_target = targets.shape[0]
    num_draw = (num_target + 3) // 4 * 4
    for n in range(1, num_target):
        draw = n
        word = u64(0)
        while draw < n + MAX_REDRAW * num_draw and is_rejected(
            pairs, source, slot, targets[0], targets[n], flags
        ):
            draw += num_draw
            words = slot_block(key.seed, key.stream, key.epoch, slot, u64(draw // 4))
            word = words[draw % 4]
            targets[n] = draw_noise(word, u64(num_right), thresholds, aliases)
        if targets[n] == targets[0] and num_right > 1:
            other = np.int64(below(word, u64(num_right - 1)))
            targets[n] = other + (other >= targets[0])

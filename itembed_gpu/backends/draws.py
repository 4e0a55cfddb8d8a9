"""What a batch of itemsets is made of, entry by entry: compiled, on the host for all devices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array
from ..compiling import inlined, kept
from ..objective.constants import ALWAYS, GROUP_SLOT, KEEP_RIGHT_SLOT, KEEP_SLOT
from ..objective.pairs import LISTED, WITHIN
from ..objective.rng import slot_block, u64
from ..objective.schedule import fill_slots
from .cpu.pairs import ONE, ZERO, draw_noise, find_itemset, find_pair

f32 = np.float32
KEPT_LEFT, KEPT_RIGHT, GROUPED = u64(KEEP_SLOT), u64(KEEP_RIGHT_SLOT), u64(GROUP_SLOT)

# What is predicted: the right items, or of one's own those that are in the bag as well, those that
# are not, and each from the others.
RIGHT, ALL, OUTSIDE, OTHERS = 0, 1, 2, 3


class Kind(NamedTuple):
    """How a problem's batches are drawn."""

    source: int  # as of `Problem`
    pooled: bool
    targets: int  # RIGHT, ALL, OUTSIDE or OTHERS


class Keeping(NamedTuple):
    """Which occurrences are kept: words under these are."""

    left: npt.NDArray[np.uint32]  # by row; empty where all are
    right: npt.NDArray[np.uint32]
    out: np.uint64  # those under this are left out of their bag


class Drawn(NamedTuple):
    """A batch, entry by entry."""

    bag_offsets: Int64Array
    bag_rows: Int32Array
    bag_weights: Float32Array
    query_bags: Int32Array  # bag of each query
    query_weights: Float32Array  # what its sum is multiplied by
    own_rows: Int32Array  # left row that is taken out of it, or -1
    own_weights: Float32Array  # its weight, negative
    target_offsets: Int64Array
    target_rows: Int32Array
    target_weights: Float32Array
    query_itemsets: Int64Array  # -1 of pairs that are listed
    num_pair: int
    num_dropped: int


@kept()
def fill_units(order, start, units):
    fill_slots(order, start, len(units), units, np.empty(len(units), dtype=np.int32))


@kept()
def fill_negatives(key, batch, num_right, thresholds, aliases, rows):
    """Draw a batch's negatives: draw n of the group of the batch's number."""
    slot = GROUPED + u64(batch)
    for n in range(len(rows)):
        if n % 4 == 0:
            words = slot_block(key.seed, key.stream, key.epoch, slot, u64(n // 4))
        rows[n] = draw_noise(words[n % 4], u64(num_right), thresholds, aliases)


@kept()
def group_rows(rows, counts):
    """Bring entries of a list of rows together, and leave the counts, which are 0, as they are."""
    for row in rows:
        counts[row] += 1
    num_row = 0
    for row in range(len(counts)):
        num_row += counts[row] > 0
    found = np.empty(num_row, dtype=np.int32)
    offsets = np.zeros(num_row + 1, dtype=np.int64)
    place = 0
    for row in range(len(counts)):
        if counts[row] > 0:
            found[place] = row
            offsets[place + 1] = offsets[place] + counts[row]
            counts[row] = offsets[place]
            place += 1
    order = np.empty(len(rows), dtype=np.int32)
    for entry in range(len(rows)):
        row = rows[entry]
        order[counts[row]] = entry
        counts[row] += 1
    for row in found:
        counts[row] = 0
    return found, offsets, order


@inlined
def _words(key, slot):
    """Draws of an occurrence: whether it is kept, and whether it is left out of its bag."""
    kept_word, out_word, _, _ = slot_block(key.seed, key.stream, key.epoch, slot, u64(0))
    return kept_word, out_word


@inlined
def _is_kept(keep, item, word):
    return len(keep) == 0 or keep[item] == ALWAYS or word < u64(keep[item])


@kept()
def draw_entries(pairs, kind, key, units, kept, places):
    """Draw the bags and targets of some itemsets, or pairs."""
    num_left, num_right = 0, 0
    for unit in units:
        u = np.int64(unit)
        num_left += pairs.left_offsets[u + 1] - pairs.left_offsets[u] if kind.pooled else 1
        num_right += pairs.right_offsets[u + 1] - pairs.right_offsets[u] if kind.pooled else 1
    most = num_right if kind.targets == OTHERS else len(units)
    bags = (
        np.zeros(len(units) + 1, dtype=np.int64),
        np.empty(num_left, dtype=np.int32),
        np.empty(num_left, dtype=np.float32),
    )
    queries = (
        np.empty(most, dtype=np.int32),
        np.ones(most, dtype=np.float32),
        np.empty(most, dtype=np.int32),
        np.zeros(most, dtype=np.float32),
        np.empty(most, dtype=np.int64),
    )
    targets = (
        np.zeros(most + 1, dtype=np.int64),
        np.empty(num_right, dtype=np.int32),
        np.empty(num_right, dtype=np.float32),
    )
    out = np.empty(num_left, dtype=np.bool_)
    num_bag, num_query, num_pair, num_dropped = 0, 0, 0, 0
    for unit in units:
        u = np.int64(unit)
        if not kind.pooled:
            done = _draw_pair(pairs, kind, key, u, kept, num_bag, bags, queries, targets)
            total = 1
        elif kind.targets == OTHERS:
            first, total = num_query, pairs.left_offsets[u + 1] - pairs.left_offsets[u]
            num_query += _draw_others(
                pairs, key, u, kept, (num_bag, num_query), bags, queries, targets
            )
            done = num_query - first
        else:
            total = pairs.right_offsets[u + 1] - pairs.right_offsets[u]
            done = _draw_bag(
                pairs, kind, key, u, kept, num_bag, bags, queries, targets, (out, places)
            )
        num_bag += done > 0
        num_pair += done
        num_dropped += total - done
        if kind.targets != OTHERS:
            num_query = num_bag
    num_entry, num_target = bags[0][num_bag], targets[0][num_query]
    return Drawn(
        bags[0][: num_bag + 1],
        bags[1][:num_entry],
        bags[2][:num_entry],
        queries[0][:num_query],
        queries[1][:num_query],
        queries[2][:num_query],
        queries[3][:num_query],
        targets[0][: num_query + 1],
        targets[1][:num_target],
        targets[2][:num_target],
        queries[4][:num_query],
        num_pair,
        num_dropped,
    )


@inlined
def _draw_pair(pairs, kind, key, slot, kept, place, bags, queries, targets):
    """Draw a pair: a bag of one left row, with one target; return how many it is."""
    word, _, _, _ = slot_block(key.seed, key.stream, key.epoch, u64(slot), u64(0))
    left, right = find_pair(pairs, kind.source, slot, word)
    item, target = pairs.left_items[left], pairs.right_items[right]
    same = kind.source in WITHIN
    left_word, _ = _words(key, KEPT_LEFT + u64(left))
    right_word, _ = _words(key, (KEPT_LEFT if same else KEPT_RIGHT) + u64(right))
    if not (_is_kept(kept.left, item, left_word) and _is_kept(kept.right, target, right_word)):
        return 0
    weight = ONE
    if len(pairs.left_weights) > 0:
        weight *= pairs.left_weights[left]
    if len(pairs.right_weights) > 0:
        weight *= pairs.right_weights[right]
    bags[1][place], bags[2][place] = item, ONE
    bags[0][place + 1] = place + 1
    queries[0][place] = place
    queries[4][place] = -1 if kind.source == LISTED else find_itemset(pairs, slot)
    targets[1][place], targets[2][place] = target, weight
    targets[0][place + 1] = place + 1
    return 1


@inlined
def _fill_bag(pairs, key, itemset, kept, start, bags, out):
    """Write an itemset's bag; return where it ends, and the sum of the sizes of its weights.

    In `out` are the occurrences that are left out of it, and may be targets.
    """
    end, total = start, ZERO
    first = pairs.left_offsets[itemset]
    for position in range(first, pairs.left_offsets[itemset + 1]):
        item = pairs.left_items[position]
        word, out_word = _words(key, KEPT_LEFT + u64(position))
        out[position - first] = out_word < kept.out
        if out_word < kept.out or not _is_kept(kept.left, item, word):
            continue
        weight = ONE
        if len(pairs.left_weights) > 0:
            weight = pairs.left_weights[position]
        if weight != ZERO:
            bags[1][end], bags[2][end] = item, weight
            total += abs(weight)
            end += 1
    return end, total


@inlined
def _draw_bag(pairs, kind, key, itemset, kept, place, bags, queries, targets, scratch):
    """Draw an itemset: its bag, and the targets of all of it; return how many these are."""
    out, places = scratch
    start, first_target = bags[0][place], targets[0][place]
    end, total = _fill_bag(pairs, key, itemset, kept, start, bags, out)
    if total == ZERO:
        return 0
    for entry in range(start, end):
        bags[2][entry] /= total
    count, next_target = 0, first_target
    begin = pairs.right_offsets[itemset]
    for position in range(begin, pairs.right_offsets[itemset + 1]):
        target = pairs.right_items[position]
        slot = (KEPT_RIGHT if kind.targets == RIGHT else KEPT_LEFT) + u64(position)
        word, _ = _words(key, slot)
        if not _is_kept(kept.right, target, word):
            continue
        if kind.targets == OUTSIDE and not out[position - begin]:
            continue
        weight = ONE
        if len(pairs.right_weights) > 0:
            weight = pairs.right_weights[position]
        count += 1
        if places[target] >= 0:  # one more of the same
            targets[2][places[target]] += weight
            continue
        places[target] = next_target
        targets[1][next_target], targets[2][next_target] = target, weight
        next_target += 1
    for entry in range(first_target, next_target):
        places[targets[1][entry]] = -1
    if count > 0:
        bags[0][place + 1], targets[0][place + 1] = end, next_target
        queries[0][place], queries[4][place] = place, itemset
    return count


@inlined
def _draw_others(pairs, key, itemset, kept, place, bags, queries, targets):
    """Draw an itemset: each item from the others; return how many queries these are."""
    bag, query = place
    first_query, start = query, bags[0][bag]
    out = np.empty(pairs.left_offsets[itemset + 1] - pairs.left_offsets[itemset], dtype=np.bool_)
    end, total = _fill_bag(pairs, key, itemset, kept, start, bags, out)
    begin = pairs.right_offsets[itemset]
    for position in range(begin, pairs.right_offsets[itemset + 1]):
        item = pairs.right_items[position]
        word, _ = _words(key, KEPT_LEFT + u64(position))
        if not _is_kept(kept.right, item, word):
            continue
        weight = ONE
        if len(pairs.right_weights) > 0:
            weight = pairs.right_weights[position]
        rest = total if out[position - begin] else total - abs(weight)
        if rest <= total * f32(1e-6):  # nothing but itself
            continue
        queries[0][query], queries[1][query] = bag, ONE / rest
        inside = not out[position - begin] and weight != ZERO
        queries[2][query] = item if inside else -1
        queries[3][query] = -weight / rest
        queries[4][query] = itemset
        targets[1][query], targets[2][query] = item, weight
        targets[0][query + 1] = query + 1
        query += 1
    if query > first_query:
        bags[0][bag + 1] = end
    return query - first_query


@kept()
def list_masked(pairs, whole, drawn, places):
    """List the rows that are left out of each query's sum, which runs over those with a place.

    They are its targets, or all right items of its itemset.
    """
    num_masked = 0
    for query in range(len(drawn.query_itemsets)):
        itemset = drawn.query_itemsets[query]
        if whole and itemset >= 0:
            num_masked += pairs.right_offsets[itemset + 1] - pairs.right_offsets[itemset]
        else:
            num_masked += drawn.target_offsets[query + 1] - drawn.target_offsets[query]
    rows = np.empty(num_masked, dtype=np.int32)
    queries = np.empty(num_masked, dtype=np.int32)
    count = 0
    for query in range(len(drawn.query_itemsets)):
        itemset = drawn.query_itemsets[query]
        whole_one = whole and itemset >= 0
        offsets = pairs.right_offsets if whole_one else drawn.target_offsets
        items = pairs.right_items if whole_one else drawn.target_rows
        n = itemset if whole_one else query
        for entry in range(offsets[n], offsets[n + 1]):
            if places[items[entry]] >= 0:
                rows[count], queries[count] = items[entry], query
                count += 1
    return rows[:count], queries[:count]

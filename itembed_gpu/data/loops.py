"""Loops over numbered items and their itemsets, in Numba: reading and packing stand on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..checks import Int32Array, Int64Array
from ..compiling import kept

# Hashes that are looked up together.
HASHES_AT_ONCE = 64


@kept(nogil=True)
def renumber_more(codes, found, count):
    """Number codes as they first come, after those that were found before.

    Parameters
    ----------
    codes : int, num_row
        Codes; negative ones have no number, and get -1.
    found : int32, num_code
        Number of each code, -1 if it did not come yet: updated in place.
    count : int
        Numbers that are taken.

    Returns
    -------
    numbers : int32, num_row
    first_rows : int64, num_new
        Row of each new number.
    """
    numbers = np.empty(len(codes), dtype=np.int32)
    first_rows = np.empty(min(len(codes), len(found)), dtype=np.int64)
    num_new = 0
    for row in range(len(codes)):
        code = codes[row]
        if code < 0:
            numbers[row] = -1
            continue
        if found[code] < 0:
            found[code] = count + num_new
            first_rows[num_new] = row
            num_new += 1
        numbers[row] = found[code]
    return numbers, first_rows[:num_new].copy()


@kept(nogil=True)
def renumber(codes, num_code):
    """Number codes as they first come, and list the rows in which they do."""
    return renumber_more(codes, np.full(num_code, -1, dtype=np.int32), 0)


@kept(nogil=True)
def fill_table(hashes, first_rows, size):
    """Make a table of different hashes: of (hash, number + 1), numbered in their order."""
    table = np.zeros((size, 2), dtype=np.uint64)
    for number in range(len(first_rows)):
        key = hashes[first_rows[number]]
        place = np.int64(key & np.uint64(size - 1))
        while table[place, 1] != 0:
            place = (place + 1) & (size - 1)
        table[place, 0] = key
        table[place, 1] = number + 1
    return table


@kept(nogil=True)
def number_hashes(hashes):
    """Number hashes of 64 bits as they first come, and list the rows in which they do."""
    size = 1 << 12
    table = np.zeros((size, 2), dtype=np.uint64)
    numbers = np.empty(len(hashes), dtype=np.int32)
    first_rows = np.empty(size, dtype=np.int64)
    count = 0
    near = np.empty((HASHES_AT_ONCE, 2), dtype=np.uint64)
    for start in range(0, len(hashes), HASHES_AT_ONCE):
        if 2 * (count + HASHES_AT_ONCE) >= size:
            size *= 4
            table = fill_table(hashes, first_rows[:count], size)
            first_rows = np.concatenate((first_rows, np.empty(size - len(first_rows), np.int64)))
        stop = min(start + HASHES_AT_ONCE, len(hashes))
        # Read before any is needed: the memory answers them together.
        for row in range(start, stop):
            place = np.int64(hashes[row] & np.uint64(size - 1))
            near[row - start, 0] = table[place, 0]
            near[row - start, 1] = table[place, 1]
        for row in range(start, stop):
            key = hashes[row]
            if near[row - start, 1] != 0 and near[row - start, 0] == key:
                numbers[row] = np.int64(near[row - start, 1]) - 1
                continue
            place = np.int64(key & np.uint64(size - 1))
            while table[place, 1] != 0 and table[place, 0] != key:
                place = (place + 1) & (size - 1)
            if table[place, 1] == 0:
                first_rows[count] = row
                count += 1
                table[place, 0] = key
                table[place, 1] = count
            numbers[row] = np.int64(table[place, 1]) - 1
    return numbers, first_rows[:count].copy()


def number_long_hashes(
    high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]
) -> tuple[Int32Array, Int64Array]:
    """Do the same with hashes of 128 bits, given in two halves."""
    numbers: Int32Array
    first_rows: Int64Array
    numbers, first_rows = number_hashes(high)
    if not np.array_equal(low[first_rows][numbers], low):
        # Different ones have the first half in common: the numbers of both halves tell them apart.
        others, _ = number_hashes(low)
        both = numbers.astype(np.uint64) << np.uint64(32) | others.astype(np.uint64)
        numbers, first_rows = number_hashes(both)
    return numbers, first_rows


@kept(nogil=True)
def gather_runs(values, starts, lengths, order):
    """Copy runs of values, one after the other in this order."""
    total = np.int64(0)
    for run in order:
        total += lengths[run]
    gathered = np.empty(total, dtype=values.dtype)
    place = np.int64(0)
    for run in order:
        for n in range(lengths[run]):
            gathered[place + n] = values[starts[run] + n]
        place += lengths[run]
    return gathered


@kept(nogil=True)
def count_first(codes, num_code):
    """Count the occurrences of each code, none of which is missing, and list them as they come."""
    counts = np.zeros(num_code, dtype=np.int64)
    order = np.empty(min(len(codes), num_code), dtype=np.int64)
    num_found = 0
    for code in codes:
        if counts[code] == 0:
            order[num_found] = code
            num_found += 1
        counts[code] += 1
    return counts, order[:num_found].copy()


@kept(nogil=True)
def relabel(codes, rank, ranks):
    """Write the rank of each code, -1 staying -1, and count the -1 there are then.

    ``ranks`` may be the codes themselves.
    """
    missing = 0
    for place in range(len(codes)):
        code = codes[place]
        ranks[place] = rank[code] if code >= 0 else -1
        missing += ranks[place] < 0
    return missing


@kept(nogil=True)
def count_rows(itemsets, num_itemset):
    """Count the rows of each itemset, and tell whether they are in order already."""
    lengths = np.zeros(num_itemset, dtype=np.int64)
    in_order, last = True, np.int32(0)
    for itemset in itemsets:
        if itemset >= 0:
            lengths[itemset] += 1
        in_order &= itemset >= last
        last = itemset
    return lengths, in_order


@kept(nogil=True)
def scatter_rows(itemsets, lengths):
    """List the rows, itemset by itemset; those of none are left out."""
    places = np.cumsum(lengths) - lengths
    rows = np.empty(lengths.sum(), dtype=np.int64)
    for row in range(len(itemsets)):
        itemset = itemsets[row]
        if itemset >= 0:
            rows[places[itemset]] = row
            places[itemset] += 1
    return rows


@kept(nogil=True)
def merge_duplicates(codes, lengths, num_code, weights):
    """Turn items that their itemset has already into -1, and add up their weights, if any."""
    latest = np.full(num_code, -1, dtype=np.int64)  # where a code was last kept
    start = 0
    for length in lengths:
        for position in range(start, start + length):
            code = codes[position]
            if code < 0:
                continue
            first = latest[code]
            if first < start:
                latest[code] = position
                continue
            codes[position] = -1
            if weights is not None:
                weights[first] += weights[position]
        start += length


@kept(nogil=True)
def cut_itemsets(keep, lengths, left, most, draws):
    """Leave so many of the kept items of each itemset, all choices being as likely.

    Selection sampling: Knuth, "The art of computer programming", volume 2, algorithm S.
    """
    position, drawn = 0, 0
    for itemset in range(len(lengths)):
        end = position + lengths[itemset]
        rest, wanted = left[itemset], most
        if rest > most:
            for place in range(position, end):
                if not keep[place]:
                    continue
                if draws[drawn] * rest < wanted:
                    wanted -= 1
                else:
                    keep[place] = False
                drawn += 1
                rest -= 1
        position = end

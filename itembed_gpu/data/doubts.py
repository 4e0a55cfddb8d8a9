"""Doubts about itemsets that were read: signs that they are not what was meant.

Vectors do not show that a wrong column was read. Counts do, and looking at them takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..checks import Int32Array, Int64Array, warn
from ..errors import DataError
from .itemsets import Dropped, PackedItemsets

# What is so small may look like anything.
_FEW_ITEMSETS, _FEW_LABELS, _SMALL_CATALOG = 50, 100, 20
# Itemsets that are looked at, and the share of them that is nearly all.
_SAMPLE = 10_000
_NEARLY_ALL = 0.95


def nothing_to_use(source: str, dropped: Dropped, account: str) -> DataError:
    """Return the error of itemsets of which nothing is left."""
    read, short = dropped.itemsets_read, dropped.short_itemsets
    question = ""
    if read == short > 1 and short >= dropped.short_items > 0:
        question = "; no itemset has two items: are the itemset and the item column the right ones?"
    return DataError(f"{source}: there is no itemset to use: {account}{question}")


def warn_of_doubts(source: str, packed: PackedItemsets, *, of_file: bool = True) -> None:
    """Warn of what makes itemsets look like something else than itemsets."""
    for doubt in find_doubts(packed, of_file):
        warn(f"{source}: {doubt}")


def find_doubts(packed: PackedItemsets, of_file: bool = True) -> Iterator[str]:
    """Say what is strange about itemsets, and what it may come from."""
    nulls, separator = (": nulls= (--null)", ", and the separator") if of_file else ("", "")
    read = packed.dropped.itemsets_read
    if read == 1 and packed.num_item >= _FEW_LABELS:
        yield (
            f"all {packed.num_item:,} items are of one itemset; is the itemset column the right "
            "one?"
        )
    if read < _FEW_ITEMSETS:
        return
    if packed.num_label == 1:
        yield (
            f"every item is {packed.labels[0]!r}, and there is nothing to learn from that; is the "
            f"item column the right one, or is this a word for what is missing{nulls}?"
        )
        return
    first = packed.offsets[: _SAMPLE + 1]
    lengths = np.diff(first).astype(np.int64)
    items = packed.indices[: int(first[-1])]
    short = packed.dropped.short_itemsets + float((lengths < 2).mean()) * packed.num_itemset
    if short >= _NEARLY_ALL * read:
        yield (
            f"{short / read:.0%} of the itemsets have one item or none, and pairs take two; are "
            "the itemset and the item column the right ones?"
        )
    elif _share_alike(items, lengths) >= _NEARLY_ALL:
        yield (
            "nearly all itemsets hold one item several times; does the item column say more of the "
            "itemset than of the item?"
        )
    share = _share_with(items, lengths)
    if packed.num_label >= _SMALL_CATALOG and share >= _NEARLY_ALL:
        yield (
            f"{packed.labels[0]!r} is in {share:.0%} of the itemsets; is it an item, or part of "
            "the format?"
        )
    if _share_of_own_first(packed, first, items) >= _NEARLY_ALL:
        yield (
            "the first item of nearly every itemset is in no other one, and most others are; if "
            "it is the name of the itemset and no item, remove it, or give format='lightgcn' "
            "(--format lightgcn) for words between spaces"
        )
    once = np.count_nonzero(packed.counts == 1)
    if packed.num_label >= _FEW_LABELS and once >= _NEARLY_ALL * packed.num_label:
        yield (
            f"{once:,} of {packed.num_label:,} labels occur once, and nothing is learnt of them; "
            f"is the item column the right one{separator}?"
        )


def _share_alike(items: Int32Array, lengths: Int64Array) -> float:
    """Share of the itemsets of two items or more whose items are all the same."""
    if not len(items):
        return 0.0
    owners = np.repeat(np.arange(len(lengths)), lengths)
    change = (owners[1:] == owners[:-1]) & (items[1:] != items[:-1])
    differ = np.bincount(owners[1:][change], minlength=len(lengths)) > 0
    several = lengths > 1
    return float((several & ~differ).sum() / several.sum()) if several.any() else 0.0


def _share_of_own_first(packed: PackedItemsets, first: Any, items: Int32Array) -> float:
    """Share of the itemsets whose first item occurs once, if most other items occur again."""
    starts = first[:-1][np.diff(first) > 1]
    once = packed.counts[items] == 1
    others = len(items) - len(starts)
    if not len(starts) or not others or 4 * (once.sum() - once[starts].sum()) > others:
        return 0.0
    return float(once[starts].mean())


def _share_with(items: Int32Array, lengths: Int64Array) -> float:
    """Share of the itemsets that hold the most frequent label."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    return len(np.unique(owners[items == 0])) / max(len(lengths), 1)

"""Packing: from numbered items to packed itemsets, once limits are applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int32Array, Int64Array, OffsetsArray
from ..errors import InputError
from ..sets import as_offsets, count_codes, offsets_left
from .itemsets import (
    Dropped,
    PackedItemsets,
    choose_itemsets,
    dropped_itemsets,
    keep_itemsets,
    offsets_of,
)
from .labels import INEXACT, OWN, is_missing, plain
from .loops import count_first, cut_itemsets, merge_duplicates, relabel, renumber

_DUPLICATES = ("keep", "drop", "sum")


class Limits(NamedTuple):
    """What of the itemsets is to be packed: the options of `pack_itemsets`, checked."""

    min_count: int = 1
    min_length: int = 1
    max_items: int | None = None
    max_length: int | None = None
    duplicates: str = "keep"
    labels: tuple[Hashable, ...] = ()
    seed: int = 0


_NO_LIMITS, _NOTHING = Limits(), Dropped()


def make_limits(
    *,
    min_count: int = 1,
    min_length: int = 1,
    max_items: int | None = None,
    max_length: int | None = None,
    duplicates: str = "keep",
    labels: Iterable[Hashable] | None = None,
    seed: int = 0,
) -> Limits:
    """Check the options of `pack_itemsets`.

    Raises an `InputError` if one of them cannot be used.
    """
    known = () if labels is None else tuple(map(plain, iterate(labels, "labels")))
    limits = Limits(min_count, min_length, max_items, max_length, duplicates, known, seed)
    if limits.duplicates not in _DUPLICATES:
        raise InputError(
            f"duplicates is {limits.duplicates!r}; pass one of {', '.join(map(repr, _DUPLICATES))}"
        )
    if len(set(known)) < len(known):
        raise InputError("labels holds a label twice; pass each once")
    checked: dict[str, Any] = {}
    least = {"min_count": 0, "min_length": 0, "max_items": 1, "max_length": 1, "seed": 0}
    for name, minimum in least.items():
        value = getattr(limits, name)
        if value is not None or not name.startswith("max"):
            checked[name] = checks.integer(name, value, minimum)
    limits = limits._replace(**checked)
    if limits.max_length is not None and limits.max_length < limits.min_length:
        raise InputError(
            f"max_length is {limits.max_length} and min_length {limits.min_length}; pass a "
            "max_length of at least min_length"
        )
    return limits


def pack_codes(
    labels: Sequence[Any],
    codes: Int32Array,
    lengths: Int64Array,
    limits: Limits = _NO_LIMITS,
    weights: Float32Array | None = None,
    dropped: Dropped = _NOTHING,
) -> PackedItemsets:
    """Pack items that are already numbered: the second half of `pack_itemsets`.

    It is for readers of columns, whose dictionary encoding has done the first
    half, and trusts its arguments.

    Parameters
    ----------
    labels : sequence of object, num_code
        Label of each code; labels as frequent as each other keep this order.
    codes : int32, num_item
        Items of all itemsets, one itemset after the other; -1 for no item.
        **Overwritten**: give a copy of what is needed later.
    lengths : int64, num_itemset
        Number of items of each itemset, those without an item included.
    limits : Limits, optional
        The options of `pack_itemsets`.
    weights : float32, num_item, optional
        Weight of each item.
    dropped : Dropped, optional
        What was left out before: it is added to.

    Returns
    -------
    packed : PackedItemsets
        Packed itemsets.
    """
    dropped = _count_read(dropped, codes, lengths)
    weights, duplicates = drop_duplicates(codes, lengths, len(labels), limits, weights)
    counts, gone = count_codes(codes, len(labels))
    none_items = dropped.none_items + gone - duplicates
    dropped = dataclasses.replace(dropped, duplicate_items=duplicates, none_items=none_items)
    catalog = choose_labels(labels, counts, limits)
    cutter = Cutter(catalog.rank, limits)
    return _pack(catalog, cutter, *cutter.cut(codes, lengths, weights), dropped)


def pack_columns(
    labels: npt.NDArray[Any] | None,
    columns: npt.NDArray[Any],
    lengths: Int64Array,
    num_column: int,
    limits: Limits = _NO_LIMITS,
    weights: Float32Array | None = None,
    dropped: Dropped = _NOTHING,
) -> PackedItemsets:
    """Pack the columns of a matrix, of which no entry is missing: what `pack_codes` does for codes.

    The columns are integers below `num_column`, and stay as they are; their labels are by default
    their numbers. Those as frequent as each other are kept in the order in which they first come.
    """
    if limits.duplicates != "keep":
        numbers, firsts = renumber(columns, num_column)
        named = columns[firsts] if labels is None else labels[columns[firsts]]
        return pack_codes(named.tolist(), numbers, lengths, limits, weights, dropped)
    # Without a copy that is numbered as columns first come: it is the half of the time.
    counts, order = count_first(columns, num_column)
    named = order if labels is None else labels[order]
    catalog = choose_labels(named.tolist(), counts[order], limits)
    rank = np.full(num_column, -1, np.int32)
    rank[order] = catalog.rank
    cutter = Cutter(rank, limits)
    cut = cutter.cut(columns, lengths, weights, np.empty(len(columns), np.int32))
    return _pack(catalog, cutter, *cut, _count_read(dropped, columns, lengths))


def pack_again(packed: PackedItemsets, limits: Limits) -> PackedItemsets:
    """Apply limits to what is packed, which stays as it is."""
    packed.verify()
    lengths = np.diff(packed.offsets).astype(np.int64)
    return pack_codes(packed.labels, np.array(packed.indices), lengths, limits, packed.weights)


def _count_read(dropped: Dropped, codes: npt.NDArray[Any], lengths: Int64Array) -> Dropped:
    before = dropped.zero_items + dropped.none_items
    return dataclasses.replace(dropped, itemsets_read=len(lengths), items_read=len(codes) + before)


def _pack(
    catalog: Catalog,
    cutter: Cutter,
    indices: Int32Array,
    lengths: Int64Array,
    weights: Float32Array | None,
    dropped: Dropped,
) -> PackedItemsets:
    return PackedItemsets(
        labels=catalog.labels,
        indices=indices,
        offsets=offsets_of(lengths),
        weights=weights,
        counts=catalog.counts,
        dropped=dropped.plus(catalog.dropped).plus(cutter.dropped),
    )


def drop_duplicates(
    codes: Int32Array,
    lengths: Int64Array,
    num_code: int,
    limits: Limits,
    weights: Float32Array | None,
) -> tuple[Float32Array | None, int]:
    """Turn what an itemset has already into -1, if it is to go; return weights, and how many."""
    if limits.duplicates == "keep":
        return weights, 0
    if limits.duplicates == "sum":
        weights = np.ones(len(codes), np.float32) if weights is None else weights.copy()
    none_items = int(np.count_nonzero(codes < 0))
    merge_duplicates(codes, lengths, num_code, weights if limits.duplicates == "sum" else None)
    return weights, int(np.count_nonzero(codes < 0)) - none_items


class Cutter:
    """Applies what is left of the limits once labels are chosen, to some itemsets after others.

    In `dropped` is what was left out so far, for the lengths of itemsets. Where others do the
    itemsets before, the random numbers that these take are skipped.
    """

    def __init__(self, rank: Int32Array, limits: Limits, skip: int = 0) -> None:
        self._rank = rank
        self._limits = limits
        stream = np.random.PCG64(limits.seed).advance(skip)
        self._generator = np.random.Generator(stream)
        self.dropped = Dropped()

    def count_draws(self, codes: npt.NDArray[Any], lengths: Int64Array) -> int:
        """Count the random numbers that `cut` takes for these; it overwrites ``codes``, too."""
        relabel(codes, self._rank, codes)
        left = np.diff(offsets_left(codes >= 0, as_offsets(lengths)))
        most = self._limits.max_length
        return 0 if most is None else int(left[left > most].sum())

    def cut(
        self,
        codes: npt.NDArray[Any],
        lengths: Int64Array,
        weights: Float32Array | None,
        indices: Int32Array | None = None,
    ) -> tuple[Int32Array, Int64Array, Float32Array | None]:
        """Turn the codes of more itemsets into indices, and leave out what is to go.

        ``codes`` is overwritten, unless there is an array for the indices.
        """
        indices = codes if indices is None else indices
        missing = relabel(codes, self._rank, indices)
        most = self._limits.max_length
        dropped = self.dropped
        if not missing and (most is None or lengths.max(initial=0) <= most):
            chosen, long = choose_itemsets(lengths, None, self._limits.min_length)
            if long.all():
                return indices, lengths, weights
        keep = indices >= 0
        left = np.diff(offsets_left(keep, as_offsets(lengths))) if missing else lengths
        if most is not None and left.max(initial=0) > most:
            over = left > most
            dropped = dataclasses.replace(
                dropped,
                long_itemsets=dropped.long_itemsets + int(np.count_nonzero(over)),
                cut_items=dropped.cut_items + int((left[over] - most).sum()),
            )
            cut_itemsets(keep, lengths, left, most, self._generator.random(int(left[over].sum())))
            left = np.minimum(left, most)
        chosen, long = choose_itemsets(left, None, self._limits.min_length)
        self.dropped = dropped.plus(dropped_itemsets(left, chosen, long))
        if self.dropped.short_items > dropped.short_items:
            keep &= np.repeat(long, lengths)
        if not keep.all():
            indices = indices[keep]
            weights = None if weights is None else weights[keep]
        return indices, left[long], weights


class Catalog(NamedTuple):
    """The labels that stay."""

    labels: list[Any]  # in their order
    counts: Int64Array  # occurrences of each
    rank: Int32Array  # index of each code, -1 if it does not stay
    dropped: Dropped  # the rare labels


def choose_labels(labels: Sequence[Any], counts: Int64Array, limits: Limits) -> Catalog:
    """Decide which codes stay, and in which order: by count, then as they come.

    Labels and counts are those of the codes, as they first come.
    """
    known: Int64Array = np.empty(0, np.int64)
    new = np.ones(len(counts), np.bool_)
    if limits.labels:
        codes = {label: code for code, label in enumerate(labels)}
        known = np.array([codes.get(label, -1) for label in limits.labels], np.int64)
        new[known[known >= 0]] = False
    # A label that never occurs is not kept, nor is it counted as dropped.
    common = new & (counts >= max(limits.min_count, 1))
    num_common = int(np.count_nonzero(common))
    if limits.max_items is not None:
        num_common = min(num_common, max(0, limits.max_items - len(known)))
    ranked = np.argsort(np.where(common, -counts, 1), kind="stable")[:num_common]
    rare = new & (counts > 0)
    rare[ranked] = False
    # Known labels come first; -1 where one does not occur.
    order = np.concatenate([known, ranked])
    occurs = order >= 0
    rank = np.full(len(labels), -1, np.int32)
    rank[order[occurs]] = np.flatnonzero(occurs).astype(np.int32)
    return Catalog(
        [*limits.labels, *(labels[code] for code in ranked.tolist())],
        np.where(occurs, np.append(counts, 0)[order], 0),
        rank,
        Dropped(rare_labels=int(np.count_nonzero(rare)), rare_items=int(counts[rare].sum())),
    )


@overload
def prune_itemsets(
    indices: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    min_length: int | None = None,
    weights: None = None,
) -> tuple[Int32Array, OffsetsArray]: ...


@overload
def prune_itemsets(
    indices: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    min_length: int | None = None,
    weights: npt.ArrayLike,
) -> tuple[Int32Array, OffsetsArray, Float32Array]: ...


def prune_itemsets(
    indices: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    min_length: int | None = None,
    weights: npt.ArrayLike | None = None,
) -> tuple[Int32Array, OffsetsArray] | tuple[Int32Array, OffsetsArray, Float32Array]:
    """Keep only some of the itemsets: those of a mask, the long enough, or both.

    Parameters
    ----------
    indices : int32, num_item
        Items of all itemsets. Those before the first and after the last offset
        belong to no itemset, and are left out.
    offsets : int32 or int64, num_itemset + 1
        Where each itemset starts in `indices`, and the last one ends.
    mask : bool, num_itemset, optional
        Itemsets to keep. It or `min_length` must be given.
    min_length : int, optional
        Least number of items of an itemset to keep.
    weights : float32, num_item, optional
        Weight of each item.

    Returns
    -------
    indices : int32, num_kept_item
        Items of the itemsets that are kept: a new array.
    offsets : int32, num_kept_itemset + 1
        Where each starts, and the last one ends; int64 if there are more than
        2**31 - 1 items.
    weights : float32, num_kept_item
        Weight of each item. Returned only if `weights` is given.

    Raises
    ------
    InputError
        If neither `mask` nor `min_length` is given, or an argument has a wrong
        shape, type or value.

    Examples
    --------
    >>> indices, offsets = prune_itemsets([4, 0, 1, 2], [0, 1, 4], min_length=2)
    >>> indices.tolist(), offsets.tolist()
    ([0, 1, 2], [0, 3])
    """
    items = checks.int32("indices", indices)
    starts = checks.offsets("offsets", offsets, len(items))
    lengths = np.diff(starts)
    chosen, long = choose_itemsets(lengths, mask, min_length)

    used = slice(starts[0], starts[-1])
    item_weights = None
    if weights is not None:
        item_weights = checks.weights("weights", weights, len(items))[used]
    kept, bounds, kept_weights = keep_itemsets(chosen & long, lengths, items[used], item_weights)
    return (kept, bounds) if kept_weights is None else (kept, bounds, kept_weights)


class Numbering(dict[Any, int]):
    """Numbers labels from 0 on as they are first looked up; ``None`` is -1.

    ``None`` is not stored: a dict of strings alone is searched faster.
    """

    def __missing__(self, label: Any) -> int:
        if label is None:
            return -1
        self[label] = number = len(self)
        return number

    def number(self, items: Iterable[Any]) -> Int32Array:
        """Number the labels of items."""
        return np.fromiter(map(self.__getitem__, items), np.int32)


def number_labels(items: Iterable[Any]) -> tuple[list[Any], Int32Array]:
    """Number the labels of items, as Python's own values; what is missing is -1.

    Returns the labels as they first come, and the number of each item.
    """
    index = Numbering()
    codes = index.number(items)
    labels = list(index)
    # Each label is looked at, and not each item.
    if OWN.issuperset(map(type, labels)):
        return labels, codes
    merged = Numbering()
    numbers = merged.number(None if is_missing(label) else plain(label) for label in labels)
    if len(merged) < len(labels):
        relabel(codes, numbers, codes)
    return _whole_labels(list(merged)), codes


def _whole_labels(labels: list[Any]) -> list[Any]:
    """Make integers of floats, if all of them are whole, as beside a gap they are no others.

    Raises an `InputError` if they are too large to tell integers apart.
    """
    floats = [label for label in labels if type(label) is float]
    if not floats or not all(map(float.is_integer, floats)):
        return labels
    largest = max(floats, key=abs)
    if abs(largest) >= INEXACT:
        raise InputError(
            f"itemsets hold {largest!r}, a float, and floats do not tell integers of 2**53 and "
            "more apart; pass integers or strings"
        )
    return [int(label) if type(label) is float else label for label in labels]


def iterate(value: Iterable[Any], name: str) -> Iterator[Any]:
    """Iterate over an argument of this name."""
    try:
        return iter(value)
    except TypeError:
        raise InputError(
            f"{name} is {checks.show(value)}, which is not iterable; pass a list or the like"
        ) from None

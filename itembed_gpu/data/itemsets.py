"""Packed itemsets: the flat arrays that training walks, and an account of what was left out.

Packed itemsets are two arrays. ``indices`` holds the items of all itemsets,
one after the other, each item as the row number of its label in ``labels``;
itemset ``i`` is ``indices[offsets[i]:offsets[i + 1]]``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int32Array, Int64Array, OffsetsArray
from ..errors import DataError, InputError
from ..sets import BoolArray
from .loops import gather_runs, renumber


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """What was read, and what of it was left out, for which reason.

    Nothing is counted twice: the items (itemsets) that were read are the ones
    that remain, plus those of each reason.

    Attributes
    ----------
    itemsets_read, items_read : int
        What was given, missing items included.
    none_items : int
        Items that are missing: ``None``, NaN, NaT, or null in a column.
    zero_items : int
        Entries of a sparse matrix that are stored, and zero.
    duplicate_items : int
        Items that their itemset had already, where duplicates are dropped or summed.
    rare_labels, rare_items : int
        Labels found less than `min_count` times, or less often than the `max_items` most
        frequent ones, and their occurrences.
    long_itemsets, cut_items : int
        Itemsets with more than `max_length` items, and how many of those were left out. The
        itemsets stay.
    short_itemsets, short_items : int
        Itemsets left with less than `min_length` items, and those items.
    masked_itemsets, masked_items : int
        Itemsets that a mask left out, and their items.

    Examples
    --------
    >>> print(Dropped(itemsets_read=3, items_read=7, rare_labels=1, rare_items=2))
    3 itemsets with 7 items read; dropped 1 rare label (2 items)
    """

    itemsets_read: int = 0
    items_read: int = 0
    none_items: int = 0
    rare_labels: int = 0
    rare_items: int = 0
    short_itemsets: int = 0
    short_items: int = 0
    masked_itemsets: int = 0
    masked_items: int = 0
    zero_items: int = 0
    duplicate_items: int = 0
    long_itemsets: int = 0
    cut_items: int = 0

    def plus(self, other: Dropped) -> Dropped:
        """Add up two accounts.

        Parameters
        ----------
        other : Dropped
            The other one.

        Returns
        -------
        Dropped
            The sums, number by number.
        """
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Dropped(*map(sum, pairs))

    def __str__(self) -> str:
        """Say it in one line, naming only what was dropped."""
        lost: list[Any] = [
            _lost(self.none_items, "None item"),
            _lost(self.zero_items, "zero item"),
            _lost(self.duplicate_items, "duplicate item"),
            _lost(self.rare_labels, "rare label", self.rare_items),
            self.cut_items
            and f"{_amount(self.cut_items, 'item')} of "
            f"{_amount(self.long_itemsets, 'long itemset')}",
            _lost(self.short_itemsets, "short itemset", self.short_items),
            _lost(self.masked_itemsets, "masked itemset", self.masked_items),
        ]
        read = f"{_amount(self.itemsets_read, 'itemset')} with {_amount(self.items_read, 'item')}"
        return f"{read} read; dropped {', '.join(filter(None, lost)) or 'nothing'}"


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class PackedItemsets:
    """Packed itemsets, what goes with them, and an account of what was dropped.

    It unpacks, indexes and counts as the tuple ``labels, indices, offsets``. An index that is an
    array or a list of numbers or booleans chooses itemsets, as it does of a matrix with this
    ``shape``: that is how scikit-learn splits them.

    Attributes
    ----------
    labels : list of object, num_label
        Label of each index, most frequent first.
    indices : int32, num_item
        Items of all itemsets, one itemset after the other.
    offsets : int32, num_itemset + 1
        Where each itemset starts in `indices`, and the last one ends; int64 if
        there are more than 2**31 - 1 items.
    weights : float32, num_item, or None
        Weight of each item, if weights were given.
    counts : int64, num_label
        Occurrences of each label as read: items of itemsets that were then
        dropped, too short or masked, are counted.
    dropped : Dropped
        What was read, and what of it is not here.
    """

    labels: list[Any]
    indices: Int32Array
    offsets: OffsetsArray
    weights: Float32Array | None
    counts: Int64Array
    dropped: Dropped

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of itemsets and of labels."""
        return self.num_itemset, self.num_label

    @property
    def num_itemset(self) -> int:
        """Number of itemsets."""
        return len(self.offsets) - 1

    @property
    def num_item(self) -> int:
        """Number of items, over all itemsets."""
        return len(self.indices)

    @property
    def num_label(self) -> int:
        """Number of labels; some may be left without an item, see `counts`."""
        return len(self.labels)

    def prune(self, *, mask: npt.ArrayLike | None = None, min_length: int | None = None) -> Self:
        """Keep only some of the itemsets, with their weights.

        Labels and counts stay as they are, so that indices keep their meaning;
        what goes is added to the account, as masked or else as short.

        Parameters
        ----------
        mask : bool, num_itemset, optional
            Itemsets to keep.
        min_length : int, optional
            Least number of items of an itemset to keep.

        Returns
        -------
        PackedItemsets
            New packed itemsets; this one is not changed.

        Raises
        ------
        InputError
            If neither `mask` nor `min_length` is given, or one cannot be used.

        Examples
        --------
        >>> packed = pack_itemsets([["apple"], ["apple", "salt"]])
        >>> packed.prune(min_length=2).num_itemset
        1
        """
        lengths = np.diff(checks.offsets("offsets", self.offsets, self.num_item))
        chosen, long = choose_itemsets(lengths, mask, min_length)
        indices, offsets, weights = keep_itemsets(
            chosen & long, lengths, self.indices, self.weights
        )
        return dataclasses.replace(
            self,
            indices=indices,
            offsets=offsets,
            weights=weights,
            dropped=self.dropped.plus(dropped_itemsets(lengths, chosen, long)),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a folder, from which `load` takes no time and no memory.

        A save that fails or is killed leaves the folder as it was.

        Parameters
        ----------
        path : path-like
            Folder to save in: a new one, or one that was saved to before, which is replaced.

        Raises
        ------
        InputError
            If the folder holds something else, or labels are of a type that cannot be saved
            (see `Embeddings.save`).
        DataError
            If the disk is full, or does not take it for another reason, as when another
            process saves to the folder for longer than ten minutes.

        Examples
        --------
        >>> pack_itemsets([["apple", "salt"]]).save("data.itemsets")
        """
        from ..disk.itemsets import write_array, write_files
        from ..disk.labels import encode_labels

        files: dict[str, Callable[[Path], Any]] = {
            name: partial(write_array, array=getattr(self, name))
            for name in ("indices", "offsets", "counts", "weights")
            if getattr(self, name) is not None
        }
        labels = encode_labels(self.labels)
        write_files(Path(path), labels, files, dataclasses.asdict(self.dropped))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> PackedItemsets:
        """Open a folder that `save` wrote: its arrays are mapped, and not read.

        Sizes, the version, labels and counts are checked at once. Blocks of the other arrays
        are compared with their checksums when `verify` or a task first reads them.

        Parameters
        ----------
        path : path-like
            Folder that `save`, or ``itembed-gpu pack``, wrote.

        Returns
        -------
        PackedItemsets
            Its arrays are read-only maps.

        Raises
        ------
        DataError
            If something is missing, damaged, or of a newer version.
        """
        from ..disk.itemsets import read_packed

        labels, arrays, dropped = read_packed(Path(path))
        try:
            account = Dropped(**dropped)
        except TypeError as error:
            raise DataError(f"{path}: its account cannot be read ({error}); pack again") from error
        parts: dict[str, Any] = {"weights": None, **arrays}
        return PackedItemsets(labels=labels, dropped=account, **parts)

    def verify(self) -> None:
        """Compare what was loaded with its checksums; what was made here is as it was made.

        Raises
        ------
        DataError
            If a block was altered since it was saved: the message names it. Or if offsets or
            indices leave their bounds.
        """
        for part in (self.indices, self.offsets, self.weights, self.counts):
            check = getattr(part, "check", None)
            if check is not None:
                check()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.labels, self.indices, self.offsets))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            return self._choose(key[0])  # as scikit-learn asks for rows
        if isinstance(key, list | np.ndarray):
            return self._choose(key)
        return (self.labels, self.indices, self.offsets)[key]

    def _choose(self, key: Any) -> Self:
        """Return some itemsets, as if they had been packed alone.

        Unlike `prune`, it numbers and counts labels anew, and leaves out those of other itemsets.
        """
        if isinstance(key, list) and not key:
            key = slice(0)
        rows = np.atleast_1d(np.arange(self.num_itemset)[key])
        if rows.ndim > 1:
            raise IndexError(f"numbers of itemsets have shape {rows.shape}; pass one axis")
        self.verify()
        lengths = np.diff(self.offsets).astype(np.int64)
        gather = partial(gather_runs, starts=np.asarray(self.offsets), lengths=lengths, order=rows)
        indices = gather(np.asarray(self.indices))
        weights = None if self.weights is None else gather(np.asarray(self.weights))
        # Labels come the most frequent first, and then as they first come.
        codes, firsts = renumber(indices, self.num_label)
        counts = np.bincount(codes, minlength=len(firsts))
        order = np.argsort(-counts, kind="stable")
        rank = np.argsort(order).astype(np.int32)
        return dataclasses.replace(
            self,
            labels=[self.labels[index] for index in indices[firsts[order]].tolist()],
            indices=rank[codes],
            offsets=offsets_of(lengths[rows]),
            weights=weights,
            counts=counts[order],
            dropped=Dropped(itemsets_read=len(rows), items_read=len(codes)),
        )

    def __len__(self) -> int:
        return 3

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_label={self.num_label}, num_itemset={self.num_itemset}, "
            f"num_item={self.num_item}, weights={'no' if self.weights is None else 'yes'})"
        )


def offsets_dtype(num_item: int) -> np.dtype[Any]:
    """Choose int32 for offsets, unless `num_item` does not fit: then int64."""
    return np.dtype(np.int32 if num_item <= np.iinfo(np.int32).max else np.int64)


def keep_itemsets(
    keep: BoolArray, lengths: Int64Array, indices: Int32Array, weights: Float32Array | None
) -> tuple[Int32Array, OffsetsArray, Float32Array | None]:
    """Copy the items, offsets and weights of the itemsets to keep."""
    items = np.repeat(keep, lengths)
    kept_weights = None if weights is None else weights[items]
    return indices[items], offsets_of(lengths[keep]), kept_weights


def offsets_of(lengths: Int64Array) -> OffsetsArray:
    """Compute where itemsets of these lengths start and end."""
    offsets: OffsetsArray = np.zeros(len(lengths) + 1, offsets_dtype(int(lengths.sum())))
    np.cumsum(lengths, dtype=offsets.dtype, out=offsets[1:])
    return offsets


def choose_itemsets(
    lengths: Int64Array, mask: npt.ArrayLike | None, min_length: int | None
) -> tuple[BoolArray, BoolArray]:
    """Tell which itemsets the mask chooses, and which are long enough."""
    if mask is None and min_length is None:
        raise InputError("mask and min_length are both None; pass at least one of them")
    chosen = long = np.ones(len(lengths), np.bool_)
    if mask is not None:
        chosen = checks.vector("mask", mask, "b", "booleans").astype(np.bool_, copy=False)
        if len(chosen) != len(lengths):
            raise InputError(
                f"mask has {len(chosen)} entries for {len(lengths)} itemsets; pass one for each"
            )
    if min_length is not None:
        long = lengths >= checks.integer("min_length", min_length)
    return chosen, long


def dropped_itemsets(lengths: Int64Array, chosen: BoolArray, long: BoolArray) -> Dropped:
    """Account for itemsets that are not chosen, and for those that are but are not long enough."""
    short = chosen & ~long
    return Dropped(
        short_itemsets=int(np.count_nonzero(short)),
        short_items=int(lengths[short].sum()),
        masked_itemsets=int(np.count_nonzero(~chosen)),
        masked_items=int(lengths[~chosen].sum()),
    )


def _amount(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _lost(count: int, noun: str, num_item: int | None = None) -> str:
    """Say how many were dropped, and with how many items; nothing if none were."""
    if count == 0:
        return ""
    items = "" if num_item is None else f" ({_amount(num_item, 'item')})"
    return _amount(count, noun) + items

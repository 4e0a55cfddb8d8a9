"""Itemsets as a model is given them, and as rows of its table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array, warn
from ..data.frames import OneHot, one_hot, open_frame
from ..data.itemsets import PackedItemsets
from ..data.labels import is_missing, plain
from ..data.lists import as_rows, is_frame, pack_itemsets, refuse_lazy, refuse_mapping
from ..data.matrices import as_numpy, is_matrix, pack_matrix
from ..data.packing import Limits, pack_codes
from ..errors import InputError
from ..metrics import Split, given_split
from ..sets import count_codes, keep_items
from .embeddings import Embeddings

ObjectArray = npt.NDArray[np.object_]

# Of the order in which items are hidden.
SHUFFLE_SEED = 0

# Itemsets that are looked at together.
_PIECE = 1 << 22


def as_packed(
    name: str,
    itemsets: Any,
    weights: Iterable[Iterable[float]] | None = None,
    window: int | None = None,
) -> PackedItemsets:
    """Pack itemsets that are given in any form, as an argument of this name, and keep empty ones.

    They are any iterable of iterables, as for `pack_itemsets`; a `PackedItemsets`; a data frame of
    a single column, whose values are lists, or of 0 and 1 alone, whose columns are the labels; or a
    sparse matrix of SciPy or an array of 0 and 1, whose rows are itemsets and whose columns are
    the labels 0, 1, ... of the values that are not zero. These values are not used otherwise.
    Weights of the items go with an iterable of iterables alone. Raises an `InputError` if they are
    none of these, or if there is a window and their items have no order.
    """
    given = _opened(name, itemsets)
    by_column = isinstance(given, OneHot) or is_matrix(name, given)
    if window is not None and (by_column or _has_sets(given)):
        raise InputError(
            f"window is {window}, and the items of {name}, a {type(itemsets).__name__} of "
            f"{'0 and 1' if by_column else 'sets'}, have no order; pass lists, or leave window out"
        )
    if weights is not None and (isinstance(given, PackedItemsets) or by_column):
        raise InputError(
            f"weights are given beside {name} that are a {type(itemsets).__name__}; "
            "leave them out, or pass lists of labels"
        )
    if isinstance(given, PackedItemsets):
        given.verify()
        return given
    limits = Limits(min_length=0)
    if isinstance(given, OneHot):
        return given.pack(limits, by_column=True)
    if by_column:
        return pack_matrix(given, limits, by_column=True)
    rows = as_rows(name, given)
    try:
        return pack_itemsets(rows, min_length=0, weights=weights)
    except InputError as error:
        if name == "itemsets":  # as its messages say
            raise
        raise InputError(f"{name}: {error}") from error


def _has_sets(given: Any) -> bool:
    """Whether some itemsets are sets, as far as can be told without reading what is read once."""
    return isinstance(given, list | tuple) and any(
        isinstance(one, set | frozenset) for one in given
    )


def _opened(name: str, given: Any) -> Any:
    """Return a frame as what its columns are, an array as NumPy's, and anything else as it is."""
    refuse_lazy(name, given)
    return _only_column(name, given) if is_frame(given) else as_numpy(given)


def _only_column(name: str, table: Any) -> Any:
    """Return the only column of a frame, or all of them if they hold 0 and 1 alone."""
    frame = open_frame(f"{name}, a {type(table).__name__},", table)
    if len(frame.names) == 1:
        return frame.column(frame.names[0])
    found = one_hot(frame, frame.names)
    if found is None:
        raise InputError(
            f"{name} is a table with {len(frame.names)} columns; pass the column that holds the "
            "lists; of a table with a row for each item, group them into lists first; of one "
            "of counts, whose columns are the items, pass table > 0"
        )
    return found


def as_labels(name: str, labels: Any) -> PackedItemsets:
    """Pack labels as `as_packed` does, but that those that are no collections stand for themselves.

    A string, or an integer, is then the one label of its row, as in scikit-learn.
    """
    refuse_mapping(name, labels)
    labels = _opened(name, labels)
    if isinstance(labels, PackedItemsets | OneHot | str | bytes) or is_matrix(name, labels):
        return as_packed(name, labels)
    rows = as_rows(name, labels)
    if not isinstance(rows, Iterable):
        return as_packed(name, rows)  # which says so
    return as_packed(name, [row if _is_collection(row) else _alone(row) for row in rows])


def _is_collection(row: Any) -> bool:
    return type(row) is list or (not isinstance(row, str | bytes) and hasattr(row, "__iter__"))


def _alone(label: Any) -> list[Any]:
    return [] if is_missing(label) else [label]


class Unknown(NamedTuple):
    """What was read, and what of it no row is known for.

    Attributes
    ----------
    items, items_read : int
        Items that are unknown, and all of them.
    itemsets, itemsets_read : int
        Itemsets without any known item, empty ones included, and all of them.
    """

    items: int
    items_read: int
    itemsets: int
    itemsets_read: int

    def plus(self, other: Unknown) -> Unknown:
        """Add up two accounts."""
        return Unknown(*map(sum, zip(self, other, strict=True)))

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.items:,} of {self.items_read:,} items are unknown; "
            f"{self.itemsets:,} of {self.itemsets_read:,} itemsets have no known item"
        )


@dataclass(frozen=True, eq=False)
class KnownItemsets:
    """Itemsets as rows of a table, without the items that it has no row for."""

    rows: Int32Array  # (num_item,)
    offsets: Int64Array  # (num_itemset + 1,)
    weights: Float32Array | None  # (num_item,)
    unknown: Unknown  # what was left out

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def owners(self) -> Int64Array:
        """Number of the itemset of each item."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Whether an itemset has an item."""
        return np.diff(self.offsets) > 0


def no_embeddings(dim: int) -> Embeddings:
    """Return a table without rows yet."""
    table = np.zeros((0, dim), dtype=np.float32)
    return Embeddings([], table, context=table, counts=np.zeros(0, dtype=np.int64))


def only_known(packed: PackedItemsets, embeddings: Embeddings) -> KnownItemsets:
    """Find the row of each item, and leave out those that have none."""
    rows = find_rows(embeddings, packed.labels)[packed.indices]
    kept = rows >= 0
    known, offsets = keep_items(rows.astype(np.int32), packed.offsets, kept)
    return KnownItemsets(
        rows=known,
        offsets=offsets,
        weights=None if packed.weights is None else packed.weights[kept],
        unknown=Unknown(
            items=int(np.count_nonzero(~kept)),
            items_read=len(kept),
            itemsets=int(np.count_nonzero(np.diff(offsets) == 0)),
            itemsets_read=len(offsets) - 1,
        ),
    )


class GivenQueries(NamedTuple):
    """Histories, and the split that asks with them.

    `unknown` is what of the itemsets to find was unknown; in the truth, this has rows after those
    of the table.
    """

    history: KnownItemsets
    split: Split
    unknown: Unknown


def given_queries(
    train: PackedItemsets, test: PackedItemsets, embeddings: Embeddings, drop_history: bool = True
) -> GivenQueries:
    """Ask with the itemsets of `train` for those of `test`, by `given_split`.

    Items without a row are left out of histories, and stay relevant, to be missed.
    """
    _check_places(train, test)
    history = only_known(train, embeddings)
    others: dict[Any, int] = {}
    seen, sought = (
        (all_rows(packed, embeddings, others), np.asarray(packed.offsets))
        for packed in (train, test)
    )
    split = given_split(seen, sought, drop_history=drop_history)
    counts = dataclasses.replace(
        split.counts,
        unknown_history=history.unknown.items,
        unknown_truth=int(np.count_nonzero(split.truth[0] >= len(embeddings))),
    )
    known = history.rows, history.offsets
    split = dataclasses.replace(split, train=known, history=known, counts=counts)
    return GivenQueries(history, split, only_known(test, embeddings).unknown)


def check_findable(where: str, split: Split, num_row: int, unknown: Unknown) -> None:
    """Raise an `InputError` if nothing that is relevant has a row."""
    if not (split.truth[0] < num_row).any():
        raise InputError(
            f"{where}: there is nothing to find that the model knows ({unknown}); give items that "
            "it was trained on, which the histories do not have already"
        )


def _check_places(train: PackedItemsets, test: PackedItemsets) -> None:
    """Make sure that the n-th itemset of one part and of the other belong together."""
    cure = "pack with min_length=0, which keeps empty and short ones in their places"
    if train.num_itemset != test.num_itemset:
        raise InputError(
            f"train has {train.num_itemset:,} itemsets and test {test.num_itemset:,}; pass as many "
            f"in both, which may be empty, or {cure}"
        )
    for name, packed in (("train", train), ("test", test)):
        if short := packed.dropped.short_itemsets:
            warn(
                f"{name}: {short:,} short itemsets were dropped before, and those of train and "
                f"test may no longer belong together; {cure}"
            )


def all_rows(packed: PackedItemsets, embeddings: Embeddings, others: dict[Any, int]) -> Int32Array:
    """Return the row of each item; labels without one get those of `others`, after the table."""
    rows = find_rows(embeddings, packed.labels)
    for place in np.flatnonzero(rows < 0).tolist():
        label = plain(packed.labels[place])
        rows[place] = others.setdefault(label, len(embeddings) + len(others))
    return rows[packed.indices].astype(np.int32)


def find_rows(embeddings: Embeddings, labels: Iterable[Any]) -> Int64Array:
    """Return the row of each label; -1 where there is none."""
    # The dtype is named, as there may be no label.
    return np.array([embeddings.index(x) if x in embeddings else -1 for x in labels], np.int64)


def _is_ready(packed: PackedItemsets, found: Int64Array, min_count: int, min_length: int) -> bool:
    """Whether nothing is to be dropped, and labels come the most frequent first."""
    frequent = found.min(initial=min_count) >= max(min_count, 1)
    in_order = bool((found[1:] <= found[:-1]).all())
    shortest = min(
        (
            int(np.diff(packed.offsets[start : start + _PIECE + 1]).min(initial=min_length))
            for start in range(0, packed.num_itemset, _PIECE)
        ),
        default=min_length,
    )
    return bool(frequent and in_order and shortest >= min_length)


def with_new_labels(
    packed: PackedItemsets, old: Embeddings, min_count: int, min_length: int
) -> tuple[list[Any], Int64Array, PackedItemsets]:
    """Give rows to the labels of itemsets: those of a table, or new ones after them.

    New labels come the most frequent first. Those that are new and occur less than `min_count`
    times are dropped, then itemsets of fewer than `min_length` items, and then new labels that are
    in none of the others.

    Returns the labels of all rows; how often each occurred, int64, what the table counted before
    included; and the itemsets that remain, with rows as their indices, and an account of all that
    was dropped.
    """
    found, _ = count_codes(np.asarray(packed.indices), packed.num_label)
    if not len(old) and _is_ready(packed, found, min_count, min_length):
        # It may be mapped from the disk, and larger than memory.
        return list(packed.labels), found, dataclasses.replace(packed, counts=found)
    rare = (find_rows(old, packed.labels) < 0) & (found < min_count)
    codes = np.where(rare[packed.indices], -1, packed.indices).astype(np.int32)
    kept = pack_codes(
        packed.labels,
        codes,
        np.diff(packed.offsets).astype(np.int64),
        Limits(min_length=min_length),
        packed.weights,
    )
    rows = find_rows(old, kept.labels)
    # One whose itemsets were all dropped has nothing to learn from: it would keep a row at random.
    present = np.bincount(kept.indices, minlength=kept.num_label) > 0
    new = np.flatnonzero((rows < 0) & present)
    rows[new] = len(old) + np.arange(len(new))
    counts = np.zeros(len(old) + len(new), dtype=np.int64)
    counts[: len(old)] = cast(Int64Array, old.counts)
    counts[rows[rows >= 0]] += kept.counts[rows >= 0]
    dropped = dataclasses.replace(
        packed.dropped,
        rare_labels=packed.dropped.rare_labels + int(np.count_nonzero(rare & (found > 0))),
        rare_items=packed.dropped.rare_items + int(found[rare].sum()),
        short_itemsets=packed.dropped.short_itemsets + kept.dropped.short_itemsets,
        short_items=packed.dropped.short_items + kept.dropped.short_items,
    )
    return (
        old.labels + [kept.labels[i] for i in new.tolist()],
        counts,
        dataclasses.replace(
            kept, indices=rows[kept.indices].astype(np.int32), counts=counts, dropped=dropped
        ),
    )


def shuffled(known: KnownItemsets, window: int | None) -> tuple[npt.NDArray[Any], Int64Array]:
    """Return packed itemsets, each in a random order that depends on the items alone.

    With a window their order tells, and they are left as they are.
    """
    rows, owners = known.rows, known.owners
    if window is not None:
        return rows, known.offsets
    # Sets of strings come in another order in each process.
    rows = rows[np.lexsort((rows, owners))]
    draws = np.random.Generator(np.random.Philox(key=SHUFFLE_SEED)).random(len(rows))
    return rows[np.lexsort((draws, owners))], known.offsets


def labels_at(labels: list[Any], rows: Int64Array) -> ObjectArray:
    """Return the label of each row, of the same shape; None where it is -1."""
    flat = (None if row < 0 else labels[row] for row in rows.ravel().tolist())
    # One by one: to NumPy, a list of tuples would be a matrix.
    return np.fromiter(flat, dtype=object, count=rows.size).reshape(rows.shape)

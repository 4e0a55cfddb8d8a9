"""Packs collections of labels: lists, columns, arrays, whatever can be iterated over.

Reading Python objects takes nearly all the time, so the one pass over them is
a chain of built-in iterators, and whatever follows is done on arrays.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import methodcaller
from typing import Any, cast

import numpy as np

from .. import checks
from ..checks import Float32Array, Int32Array, Int64Array
from ..errors import InputError
from .foreign import foreign_errors
from .itemsets import PackedItemsets, offsets_of
from .labels import is_missing
from .loops import renumber
from .matrices import as_numpy, is_matrix, pack_matrix
from .packing import iterate, make_limits, number_labels, pack_again, pack_codes

# Their length is what they yield, and they yield it again: no copy is needed.
_ORDERED = frozenset([list, tuple, dict])
_SETS = frozenset([set, frozenset])
_PLAIN = _ORDERED | _SETS

# Itemsets looked at together.
_PIECE = 1 << 10


def pack_itemsets(
    itemsets: Iterable[Iterable[Hashable]],
    *,
    min_count: int = 1,
    min_length: int = 1,
    weights: Iterable[Iterable[float]] | None = None,
    max_items: int | None = None,
    max_length: int | None = None,
    duplicates: str = "keep",
    labels: Iterable[Hashable] | None = None,
    seed: int = 0,
) -> PackedItemsets:
    """Number the labels of itemsets by frequency, and pack the items into arrays.

    Any iterable of iterables will do, generators included: each is read once.
    Of an itemset that is a mapping, the keys are read; the items of a set are sorted,
    as their own order is another one in each process. What is missing is no item, and is
    counted: ``None``, NaN, NaT and the NA of pandas. Labels become values of
    Python's own, where they are scalars of NumPy, Arrow or pandas; whole
    decimals become integers, and so do floats, if all are whole. Items that
    compare equal are one label, known by the first one read. Duplicates go first;
    then labels are counted, and dropped by `min_count` and `max_items`; then what
    remains of the itemsets is cut by `max_length`, and dropped by `min_length`. A
    label stays even if none of its itemsets does.

    Parameters
    ----------
    itemsets : iterable of iterable of hashable
        Labels of each itemset: lists, or a column of lists of pandas, polars or Arrow, in
        which a missing list is an empty one; or packed itemsets. Of an array of two axes
        that holds booleans or nothing but 0 and 1, and of a sparse matrix, rows are
        itemsets and the numbers of columns are items, as for `read_itemsets`.
    min_count : int, optional
        Least number of occurrences of a label to keep.
    min_length : int, optional
        Least number of items of an itemset to keep; 0 keeps empty itemsets.
    weights : iterable of iterable of float, optional
        Weight of each item, in the order of `itemsets` (for a set, in the order
        in which it iterates). A weight goes when its item goes.
    max_items : int, optional
        Most labels to keep, the most frequent ones.
    max_length : int, optional
        Most items of an itemset to keep, drawn at random, in their order.
    duplicates : {"keep", "drop", "sum"}, optional
        What becomes of an item that its itemset has already: it is one item more; or
        is left out; or is left out and its weight added to that of the first, where
        without `weights` each has a weight of 1.
    labels : iterable of hashable, optional
        Labels that have a number already, such as those of older itemsets: they keep
        it, however often they occur here, and new ones follow.
    seed : int, optional
        Seed of the draws for `max_length`.

    Returns
    -------
    PackedItemsets
        It unpacks as ``labels, indices, offsets``:

        labels: list of object, num_label
            Label of each index, most frequent first, ties as first read.
        indices: int32, num_item
            Items of all itemsets, one itemset after the other.
        offsets: int32, num_itemset + 1
            Where each itemset starts in `indices`, and the last one ends; int64
            if there are more than 2**31 - 1 items.

        and has ``weights`` (float32), ``counts`` and ``dropped`` besides.

    Raises
    ------
    InputError
        If something is not iterable, a data frame or a mapping of itemsets, an item is
        not hashable, weights do not match the itemsets or are not finite, a limit is not an
        integer of at least 0, an array of numbers can be read in two ways, or
        items are floats that do not tell integers apart.

    Warns
    -----
    UserWarning
        If an itemset is a string or bytes, as its characters become the items; if
        most integers of an array are 0, as they would be if its columns were the items; if
        itemsets that are as long as each other hold nothing but 0 and 1; or if the order of
        sets cannot be made the same in each process.

    Examples
    --------
    >>> labels, indices, offsets = pack_itemsets([["salt"], ["oil", "salt"], ["oil", "salt"]])
    >>> labels, indices.tolist(), offsets.tolist()
    (['salt', 'oil'], [0, 1, 0, 1, 0], [0, 1, 3, 5])
    """
    limits = make_limits(
        min_count=min_count,
        min_length=min_length,
        max_items=max_items,
        max_length=max_length,
        duplicates=duplicates,
        labels=labels,
        seed=seed,
    )

    refuse_lazy("itemsets", itemsets)
    refuse_mapping("itemsets", itemsets)
    itemsets = as_numpy(itemsets)
    if isinstance(itemsets, PackedItemsets) or is_matrix("itemsets", itemsets):
        if weights is not None:
            raise InputError(
                f"weights are given beside itemsets that are a {type(itemsets).__name__}; leave "
                "them out, or pass lists of labels"
            )
        pack: Any = pack_again if isinstance(itemsets, PackedItemsets) else pack_matrix
        packed: PackedItemsets = pack(itemsets, limits)
        return packed
    if isinstance(itemsets, set | frozenset):
        checks.warn(
            f"itemsets is a {type(itemsets).__name__}, whose order is another one in each process, "
            "and the result with it; pass a list"
        )
    reader = _Reader(as_rows("itemsets", itemsets), weights)
    try:
        labels_read, codes = number_labels(reader.items())
    except TypeError as error:
        reader.explain(error)
        raise
    if reader.text is not None:
        checks.warn(
            f"itemsets look like strings: {reader.text} is read as a collection of characters; "
            "if each string is an item, pass [[item, ...], ...]"
        )
    lengths, item_weights = np.asarray(reader.lengths, np.int64), reader.weights()
    if len(labels_read) == 2 and len(lengths) > 1 and _like_rows(labels_read, codes, lengths):
        checks.warn(
            f"each of the {len(lengths):,} itemsets holds {lengths[0]} items, all of them 0 or 1; "
            "if these say which items it has, pass numpy.array(itemsets)"
        )
    if reader.sets:
        order, labels_read, codes = _sort_sets(labels_read, codes, lengths, reader.sets)
        item_weights = None if item_weights is None else item_weights[order]
    return pack_codes(labels_read, codes, lengths, limits, item_weights)


def _like_rows(labels: list[Any], codes: Int32Array, lengths: Int64Array) -> bool:
    """Whether itemsets look like rows of 0 and 1, of which an array would be read otherwise."""
    is_full = bool(lengths.min() == lengths.max() > 2 and codes.min() >= 0)  # nothing is missing
    return is_full and set(labels) == {0, 1}


def as_rows(name: str, itemsets: Any) -> Any:
    """Return a column or an array as a list of Python objects, and anything else as it is.

    A row that is missing is empty. Raises an `InputError` where the rows would not be read.
    """
    if type(itemsets) in _PLAIN:
        return itemsets
    refuse_lazy(name, itemsets)
    if is_frame(itemsets):
        raise InputError(
            f"{name} is a {type(itemsets).__name__}, of which the names of the columns would be "
            "read; pass read_itemsets(frame), or the column that holds lists"
        )
    if isinstance(itemsets, np.ndarray):
        if itemsets.dtype.names is not None:
            raise InputError(
                f"{name} is an array of records; pass read_itemsets(pandas.DataFrame(array))"
            )
        if itemsets.ndim not in (1, 2):
            raise InputError(
                f"{name} has shape {itemsets.shape}; pass two axes, of which each row is an itemset"
            )
        if itemsets.dtype.kind in "mM":  # of which tolist() would make numbers
            return list(itemsets)
        if itemsets.ndim == 2:
            return map(methodcaller("tolist"), itemsets)
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(type(itemsets), method) and hasattr(itemsets, "__len__"):
            with foreign_errors(f"{name}, a {type(itemsets).__name__},"):
                rows = getattr(itemsets, method)()
            if isinstance(rows, list):
                return [[] if is_no_row(row) else row for row in rows]
    return itemsets


def is_no_row(row: Any) -> bool:
    """Whether a row is missing; arrays are not, whatever they hold."""
    return type(row) is not list and not hasattr(row, "__iter__") and is_missing(row)


def refuse_mapping(name: str, value: Any) -> None:
    """Refuse a mapping in the place of rows."""
    if isinstance(value, Mapping):
        raise InputError(
            f"{name} is a {type(value).__name__}, of which the keys would be read; pass "
            f"list({name}.values()), or a data frame if its values are columns"
        )


def refuse_lazy(name: str, value: Any) -> None:
    """Refuse frames and columns that other libraries have yet to compute."""
    calls = {"__dask_graph__": "compute", "toPandas": "toPandas"}
    for mark, call in calls.items():
        if hasattr(type(value), mark) and not hasattr(type(value), "__arrow_c_stream__"):
            raise InputError(
                f"{name} is a {type(value).__name__} of {type(value).__module__.split('.')[0]}, "
                f"which is yet to be computed; pass it with .{call}()"
            )


def is_frame(value: Any) -> bool:
    """Whether it is a table with columns: of pandas, polars, Arrow, DuckDB, Dask, Spark, ..."""
    # The type is asked, as a lazy frame warns if it is.
    kind = type(value)
    return any(hasattr(kind, name) for name in ("columns", "schema", "__dataframe__"))


def _sort_sets(
    labels: list[Any], codes: Int32Array, lengths: Int64Array, sets: Iterable[int]
) -> tuple[Int64Array | slice, list[Any], Int32Array]:
    """Sort the items of the itemsets that are sets, whose order is another one in each process.

    Returns the order of all items; and labels and codes as they come then.
    """
    rank = _ranks(labels)
    if rank is None:
        checks.warn(
            "itemsets are sets of items that cannot be sorted; their order is another one in each "
            "process, and the result with it: pass lists"
        )
        return slice(None), labels, codes
    is_set = np.zeros(len(lengths), np.bool_)
    is_set[np.asarray(sets, np.int64)] = True
    # One number for the itemset and, in a set, the item; in a list, items stay where they are.
    keys = np.repeat(np.arange(len(lengths)) * len(rank), lengths)
    keys += np.where(np.repeat(is_set, lengths), rank[codes], 0)
    order = np.argsort(keys, kind="stable")
    codes = codes[order]
    numbers, firsts = renumber(codes, len(labels))
    return order, [labels[code] for code in codes[firsts].tolist()], numbers


def _ranks(labels: list[Any]) -> Int64Array | None:
    """Place of each label among all of them, sorted, and of none; None if they cannot be."""
    if any(issubclass(kind, frozenset) for kind in set(map(type, labels))):
        return None  # compared by inclusion
    keys: list[Callable[[int], Any]] = [
        labels.__getitem__,
        lambda i: (type(labels[i]).__qualname__, labels[i]),
    ]
    for key in keys:
        with suppress(TypeError):
            rank = np.zeros(len(labels) + 1, np.int64)  # the last one is that of -1
            rank[sorted(range(len(labels)), key=key)] = np.arange(1, len(rank))
            return rank
    return None


class _Reader:
    """Reads itemsets once, noting their lengths and weights as they go by."""

    def __init__(
        self, itemsets: Iterable[Iterable[Any]], weights: Iterable[Iterable[float]] | None
    ) -> None:
        self.lengths = array("q")
        self.sets = array("q")  # numbers of the itemsets that are sets
        self.text: str | None = None
        self._itemsets = itemsets
        self._rows = None if weights is None else iterate(as_rows("weights", weights), "weights")
        self._weights = array("f")
        # Those being read, and the number of the first of them.
        self._latest: tuple[int, Sequence[Collection[Any]]] = 0, ()

    def items(self) -> Iterator[Any]:
        """Iterate over the items of all itemsets."""
        given = self._itemsets
        if self._rows is None and type(given) in (list, tuple):
            pieces = self._pieces(cast(Sequence[Iterable[Any]], given))
            return chain.from_iterable(chain.from_iterable(pieces))
        return chain.from_iterable(self._visit(iterate(given, "itemsets")))

    def _pieces(self, itemsets: Sequence[Iterable[Any]]) -> Iterator[Iterable[Collection[Any]]]:
        # The common case, lists of lists, runs without Python code per itemset; some
        # at a time, so that they are still in the cache when their items are read.
        for start in range(0, len(itemsets), _PIECE):
            piece = itemsets[start : start + _PIECE]
            kinds = set(map(type, piece))
            if kinds <= _PLAIN:
                plain = cast(Sequence[Collection[Any]], piece)
                self._latest = len(self.lengths), plain
                if kinds <= _SETS:
                    self.sets.extend(range(start, start + len(piece)))
                elif not kinds.isdisjoint(_SETS):
                    self.sets.extend(i for i, x in enumerate(piece, start) if type(x) in _SETS)
                self.lengths.extend(map(len, plain))
                yield plain
            else:
                yield self._visit(piece)

    def _visit(self, itemsets: Iterable[Iterable[Any]]) -> Iterator[Collection[Any]]:
        # One at a time: a generator may fill the same list again for each itemset.
        for itemset in itemsets:
            plain: Any = itemset  # without a cast, which is a call
            if type(plain) not in _ORDERED:
                plain = self._materialise(plain)
            self._latest = len(self.lengths), (plain,)
            self.lengths.append(len(plain))
            if self._rows is not None:
                self._read_weights(self._rows)
            yield plain
        for _ in self._rows or ():
            raise InputError(
                f"weights goes on after the {len(self.lengths)} itemsets; "
                "pass one collection of weights for each itemset"
            )

    def _materialise(self, itemset: Iterable[Any]) -> Collection[Any]:
        """List an itemset whose length is not known, or not to be relied on; note sets."""
        if isinstance(itemset, set | frozenset):
            self.sets.append(len(self.lengths))
        if type(itemset) in _SETS:
            return cast(Collection[Any], itemset)
        name = f"itemsets[{len(self.lengths)}]"
        if self.text is None and isinstance(itemset, str | bytes):
            self.text = f"{name}, {checks.show(itemset)},"
        return list(iterate(itemset, name))

    def _read_weights(self, rows: Iterator[Iterable[float]]) -> None:
        """Read the weights of the itemset that was read last."""
        position = len(self.lengths) - 1
        try:
            row = next(rows)
        except StopIteration:
            raise InputError(
                f"weights ends after {position} itemsets, and itemsets goes on; "
                "pass one collection of weights for each itemset"
            ) from None
        before = len(self._weights)
        values = iterate(row, f"weights[{position}]")
        try:
            self._weights.extend(values)
        except (TypeError, OverflowError) as error:
            raise InputError(f"weights[{position}]: {error}; pass numbers") from error
        if len(self._weights) - before != self.lengths[-1]:
            raise InputError(
                f"weights[{position}] has {len(self._weights) - before} weights, and "
                f"itemsets[{position}] {self.lengths[-1]} items; pass one weight for each item"
            )

    def weights(self) -> Float32Array | None:
        """Return the weights of all items, or None if none were given."""
        if self._rows is None:
            return None
        weights = np.asarray(self._weights, np.float32)
        wrong = checks.first_not_finite(weights)
        if wrong is not None:
            starts = offsets_of(np.asarray(self.lengths, np.int64))
            itemset = int(np.searchsorted(starts, wrong, side="right")) - 1
            raise InputError(
                f"weights[{itemset}][{wrong - int(starts[itemset])}] is {weights[wrong]} "
                "in float32; pass finite numbers"
            )
        return weights

    def explain(self, error: TypeError) -> None:
        """Raise an error that names the item that is not hashable, if there is one."""
        first, itemsets = self._latest
        for i, itemset in enumerate(itemsets, first):
            for j, item in enumerate(itemset):
                try:
                    hash(item)
                except TypeError:
                    raise InputError(
                        f"itemsets[{i}][{j}] is {checks.show(item)}, which is not hashable; "
                        "pass items such as strings, numbers or tuples"
                    ) from error

"""Evaluation by ranking all items: splits, metrics, and comparisons of two systems.

No metric here is computed against a sample of items, which puts systems into another
order than the full ranking does (Krichene and Rendle, "On Sampled Metrics for Item
Recommendation", KDD 2020).

Rankings are rows of a table, best first, padded with -1, as `top_n` returns
them. What is relevant is packed, as itemsets are: ``truth = (items, offsets)``, where
``items[offsets[q]:offsets[q + 1]]`` are relevant to query q. A query to which nothing
is relevant has no metric: its value is nan, it is left out of means, and counted.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import checks
from .checks import Float64Array, Int64Array
from .errors import InputError
from .ranking.top_n import packed_rows, split_packed, top_n
from .sets import BoolArray, Packed, choose_sets, distinct_items, keep_items, set_keys, set_sums

__all__ = [
    "Evaluation",
    "Split",
    "SplitCounts",
    "average_precision",
    "coverage",
    "evaluate",
    "evaluate_rankings",
    "given_split",
    "hit_rate",
    "leave_last_out",
    "leave_one_out",
    "mrr",
    "ndcg",
    "paired_bootstrap",
    "popularity_bias",
    "precision",
    "recall",
]

GivenPacked: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike]

# Metrics: by name and k, or all of them at a k.
Metrics: TypeAlias = int | str | Iterable[int | str]

# Numbers drawn at a time by the bootstrap.
DRAWS = 1 << 22

# Of a catalog that is not known.
_ANY_ROW = np.iinfo(np.int32).max


# --------------------------------------------------------------------- metrics


def hit_rate(ranked: npt.ArrayLike, truth: GivenPacked, k: int) -> Float64Array:
    """Whether any relevant item is among the first k: 1 or 0.

    Parameters
    ----------
    ranked : int (q, at least k)
        Rows, best first; -1 where there are no more. None twice in a query.
    truth : (int, int)
        Packed rows ``(items, offsets)`` that are relevant to each query, all different.
    k : int
        How many of the first to look at, at least 1.

    Returns
    -------
    float64 (q,)
        NaN where nothing is relevant.

    Raises
    ------
    InputError
        A shape or dtype does not fit, `ranked` has fewer than k columns, a row is below
        -1 or stands twice, or a relevant item does.

    Examples
    --------
    >>> ranked, truth = [[3, 1, 2], [0, 1, 2]], ([1, 9], [0, 2, 2])
    >>> hit_rate(ranked, truth, 2)
    array([ 1., nan])
    """
    found = _found(ranked, truth, k)
    return found.only_asked(np.where(found.upto(k).any(axis=1), 1.0, 0.0))


def precision(ranked: npt.ArrayLike, truth: GivenPacked, k: int) -> Float64Array:
    """Relevant items among the first k, over k, also where fewer than k are ranked.

    Parameters
    ----------
    ranked, truth, k : those of `hit_rate`
        Rankings, what is relevant, and how many of the first to look at.

    Returns
    -------
    float64 (q,)
        NaN where nothing is relevant.

    Raises
    ------
    InputError
        As of `hit_rate`.

    Examples
    --------
    >>> precision([[3, 1, 2, -1]], ([1, 2, 9], [0, 3]), 4)
    array([0.5])
    """
    found = _found(ranked, truth, k)
    return found.only_asked(np.count_nonzero(found.upto(k), axis=1) / np.float64(k))


def recall(ranked: npt.ArrayLike, truth: GivenPacked, k: int) -> Float64Array:
    """Relevant items among the first k, over all that are relevant.

    It divides by the number of relevant items also where that is above k, as He et al.
    do ("LightGCN", SIGIR 2020).

    Parameters
    ----------
    ranked, truth, k : those of `hit_rate`
        Rankings, what is relevant, and how many of the first to look at.

    Returns
    -------
    float64 (q,)
        NaN where nothing is relevant.

    Raises
    ------
    InputError
        As of `hit_rate`.

    Examples
    --------
    >>> recall([[3, 1, 2, 0]], ([1, 2, 9, 8], [0, 4]), 2)
    array([0.25])
    """
    found = _found(ranked, truth, k)
    return found.only_asked(found.upto(k).sum(axis=1) / np.maximum(found.lengths, 1))


def ndcg(ranked: npt.ArrayLike, truth: GivenPacked, k: int) -> Float64Array:
    """Normalised discounted cumulative gain of the first k, with gains of 1.

    The sum of ``1 / log2(rank + 1)`` over the ranks (from 1) of relevant items, over the
    same of an ideal ranking, which has ``min(len(truth), k)`` of them in front (Järvelin
    and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002; this
    discount by Burges et al., ICML 2005).

    Parameters
    ----------
    ranked, truth, k : those of `hit_rate`
        Rankings, what is relevant, and how many of the first to look at.

    Returns
    -------
    float64 (q,)
        NaN where nothing is relevant.

    Raises
    ------
    InputError
        As of `hit_rate`.

    Examples
    --------
    >>> ndcg([[3, 1, 2]], ([1], [0, 1]), 2)
    array([0.63092975])
    """
    found = _found(ranked, truth, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains: Float64Array = (found.upto(k) * discounts).sum(axis=1)
    ideal: Float64Array = np.cumsum(discounts)[found.ideal(k) - 1]
    return found.only_asked(gains / ideal)


def mrr(ranked: npt.ArrayLike, truth: GivenPacked, k: int) -> Float64Array:
    """One over the rank of the first relevant item, 0 if it is not among the first k.

    Its mean is the mean reciprocal rank (Voorhees, "The TREC-8 question answering track
    report", 1999).

    Parameters
    ----------
    ranked, truth, k : those of `hit_rate`
        Rankings, what is relevant, and how many of the first to look at.

    Returns
    -------
    float64 (q,)
        NaN where nothing is relevant.

    Raises
    ------
    InputError
        As of `hit_rate`.

    Examples
    --------
    >>> mrr([[3, 1, 2]], ([2, 1], [0, 2]), 3)
    array([0.5])
    """
    found = _found(ranked, truth, k)
    hits = found.upto(k)
    return found.only_asked(np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0))


def average_precision(ranked: npt.ArrayLike, truth: GivenPacked, k: int) -> Float64Array:
    """Mean of the precisions at the ranks of relevant items, over ``min(len(truth), k)``.

    Relevant items that are not among the first k count as precisions of 0. The mean over
    queries is MAP@k (Manning, Raghavan and Schütze, Introduction to Information
    Retrieval, 2008, section 8.4, cut off at k).

    Parameters
    ----------
    ranked, truth, k : those of `hit_rate`
        Rankings, what is relevant, and how many of the first to look at.

    Returns
    -------
    float64 (q,)
        NaN where nothing is relevant.

    Raises
    ------
    InputError
        As of `hit_rate`.

    Examples
    --------
    >>> average_precision([[1, 3, 2]], ([1, 2], [0, 2]), 3)
    array([0.83333333])
    """
    found = _found(ranked, truth, k)
    hits = found.upto(k)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    return found.only_asked((precisions * hits).sum(axis=1) / found.ideal(k))


def coverage(ranked: npt.ArrayLike, num_row: int, k: int) -> float:
    """Share of a catalog that is among the first k of at least one query.

    Parameters
    ----------
    ranked : int (q, at least k)
        Rows, best first; -1 where there are no more.
    num_row : int
        Items of the catalog, at least 1.
    k : int
        How many of the first to look at, at least 1.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    InputError
        A shape or dtype does not fit, or a row is not one of the catalog.

    Notes
    -----
    Catalog coverage of Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy", RecSys 2010.

    Examples
    --------
    >>> coverage([[0, 1], [0, 2]], 4, k=2)
    0.75
    """
    num_row = checks.integer("num_row", num_row, 1)
    first = _ranked_rows(ranked, k, num_row)
    return len(np.unique(first[first >= 0])) / num_row


def popularity_bias(
    ranked: npt.ArrayLike, truth: GivenPacked, counts: npt.ArrayLike, k: int
) -> float:
    """How much more popular the first k are than the items that are relevant.

    For each query the mean count of its first k is taken, and the mean count of its
    relevant items; the result is the mean of the former over queries, over that of the
    latter: 1 is no bias, above 1 popular items are preferred. Queries with nothing
    relevant or nothing ranked are left out.

    Parameters
    ----------
    ranked : int (q, at least k)
        Rows, best first; -1 where there are no more.
    truth : (int, int)
        Packed rows that are relevant to each query.
    counts : int (num_row,)
        How often each item occurred in what was trained on.
    k : int
        How many of the first to look at, at least 1.

    Returns
    -------
    float
        NaN if no query is left, or no relevant item ever occurred.

    Raises
    ------
    InputError
        A shape or dtype does not fit, a count is negative, or a row has no count.

    Notes
    -----
    The ratio of group average popularities of recommendations and of a profile, here the
    relevant items, for all queries as one group: 1 plus the Delta GAP of Abdollahpouri,
    Mansoury, Burke and Mobasher, "The unfairness of popularity bias in recommendation",
    RMSE workshop at RecSys 2019.

    Examples
    --------
    >>> popularity_bias([[0, 1]], ([2], [0, 1]), counts=[5, 3, 2], k=2)
    2.0
    """
    number = _counts(counts)
    first = _ranked_rows(ranked, k, len(number))
    items, offsets = packed_rows("truth", truth, len(first), len(number))
    lengths, relevant = np.diff(offsets), set_sums(number[items], offsets)
    places = first >= 0
    listed = places.sum(axis=1)
    used = (lengths > 0) & (listed > 0)
    recommended = np.where(places, number[np.maximum(first, 0)] if len(number) else 0, 0)
    above = float((recommended.sum(axis=1)[used] / listed[used]).sum())
    below = float((relevant[used] / lengths[used]).sum())
    return above / below if below > 0 else math.nan


# ------------------------------------------------------------ what metrics look at


@dataclasses.dataclass(frozen=True)
class _Found:
    """Which places hold relevant rows, bool (q, k), and how many rows are relevant."""

    hits: BoolArray
    lengths: Int64Array

    def upto(self, k: int) -> BoolArray:
        return self.hits[:, :k]

    def only_asked(self, values: Float64Array) -> Float64Array:
        """Put nan where nothing is relevant."""
        return np.where(self.lengths > 0, values, np.nan)

    def ideal(self, k: int) -> Int64Array:
        """How many relevant rows k places can hold; 1 where there are none."""
        return np.clip(self.lengths, 1, k)


def _found(ranked: Any, truth: GivenPacked, k: int) -> _Found:
    """Look up the first k rows of each query among the relevant ones, unless that is done."""
    if isinstance(ranked, _Found):
        return ranked
    first = _ranked_rows(ranked, k)
    items, offsets = packed_rows("truth", truth, len(first), _ANY_ROW)
    keys = np.sort(set_keys(items, offsets))
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        query, item = divmod(int(keys[twice[0]]), 1 << 32)
        raise InputError(f"truth: item {item} stands twice for query {query}; pass it once")
    hits = np.zeros(first.shape, dtype=bool)
    if len(keys):
        for column in range(first.shape[1]):
            wanted = (np.arange(len(first), dtype=np.int64) << 32) + first[:, column]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            # Of -1 this is a number that no item makes.
            hits[:, column] = keys[place] == wanted
    return _Found(hits, np.diff(offsets))


def _ranked_rows(ranked: npt.ArrayLike, k: int, num_row: int = _ANY_ROW) -> Int64Array:
    """Check a ranking, and return its first k columns."""
    k = checks.integer("k", k, 1)
    try:
        array = np.asarray(checks.on_host(ranked))
    except (TypeError, ValueError) as error:
        raise InputError(f"ranked cannot be read as a NumPy array ({error}); pass one") from error
    if array.ndim != 2 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(
            f"ranked has shape {array.shape} and dtype {array.dtype}; pass integers of shape (q, n)"
        )
    if array.shape[1] < k:
        raise InputError(f"ranked has {array.shape[1]} columns and k is {k}; rank at least k rows")
    first: Int64Array = array[:, :k].astype(np.int64)
    if first.size and (first.min() < -1 or first.max() >= num_row):
        raise InputError(
            f"ranked goes from {first.min()} to {first.max()}; pass rows from 0 to {num_row - 1}, "
            "and -1 where there are no more"
        )
    ordered = np.sort(first, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise InputError(f"ranked: query {twice.argmax()} has a row twice; rank each row once")
    return first


_METRICS: dict[str, Callable[[Any, GivenPacked, int], Float64Array]] = {
    "hit_rate": hit_rate,
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}

# Of all queries together.
_OF_CATALOG = ("coverage", "popularity_bias")


def _counts(counts: npt.ArrayLike) -> Int64Array:
    given = checks.vector("counts", counts, "iu", "integers")
    if given.size and given.min() < 0:
        row = int(given.argmin())
        raise InputError(f"counts[{row}] is {given[row]}; pass counts of at least 0")
    return given.astype(np.int64)


# ---------------------------------------------------------------------- splits


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """What a split read, and what became of it.

    Attributes
    ----------
    itemsets_read, items_read : int
        What was given; of `given_split`, both parts together.
    train_itemsets, train_items : int
        What is trained on.
    held_out_itemsets : int
        Itemsets that were to become queries.
    queries : int
        Those that did.
    short_itemsets : int
        Those that did not, as they hold too few different items.
    unknown_itemsets : int
        Those that did not, as the item to be hidden is unknown to what is trained on.
    hidden_copies : int
        More occurrences of a hidden item in its itemset, which were left out with it.
    repeated_items : int
        Occurrences of an item in a test itemset after the first, which were left out.
    known_items : int
        Items of test itemsets that are in the history, and were left out.
    unknown_history, unknown_truth : int
        Occurrences of items, in histories and among relevant items, that nothing could
        be learned of, as they are nowhere in what is trained on.
    unknown_dropped : int
        Occurrences of such items that `drop_unknown` left out.
    """

    itemsets_read: int = 0
    items_read: int = 0
    train_itemsets: int = 0
    train_items: int = 0
    held_out_itemsets: int = 0
    queries: int = 0
    short_itemsets: int = 0
    unknown_itemsets: int = 0
    hidden_copies: int = 0
    repeated_items: int = 0
    known_items: int = 0
    unknown_history: int = 0
    unknown_truth: int = 0
    unknown_dropped: int = 0

    def __str__(self) -> str:
        """Say it in one line, naming only what there is."""
        values = dataclasses.asdict(self)
        return ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in values.items() if v)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """What to train on, and what to ask then.

    Attributes
    ----------
    train : (int32, int64)
        Packed itemsets ``(items, offsets)`` to train on; some may be too short for that,
        see `prune_itemsets`.
    history : (int32, int64)
        The items known of each query, packed.
    truth : (int32, int64)
        The items relevant to each query, packed, all different, and none in its history.
    itemsets : int64 (q,)
        The itemset that each query comes from.
    counts : SplitCounts
        What was read, and what was left out for which reason.
    """

    train: Packed
    history: Packed
    truth: Packed
    itemsets: Int64Array
    counts: SplitCounts

    @property
    def num_query(self) -> int:
        """Number of queries."""
        return len(self.itemsets)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.counts})"


def leave_one_out(
    items: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    share: float = 0.2,
    seed: int = 0,
    drop_unknown: bool = False,
) -> Split:
    """Hold out the last itemsets, and hide one item of each, drawn at random.

    The earlier itemsets are trained on, whole. A held-out itemset of at least two
    different items becomes a query: each of its different items is hidden with the same
    probability, and the others are its history, with their repetitions.

    Parameters
    ----------
    items : int (num_item,)
        Packed items, itemsets in the order of time.
    offsets : int (num_itemset + 1,)
        Where each itemset starts, and the last one ends.
    share : float
        Share of the itemsets to hold out, above 0 and below 1; the number is rounded,
        and at least one itemset has to remain on either side.
    seed : int
        Of the draws, one for each held-out itemset in order (Philox), whether it
        becomes a query or not.
    drop_unknown : bool
        Whether items of held-out itemsets that the earlier ones do not have are left
        out before anything is hidden. Nothing can be learned of them, so that a query
        for one is lost for all systems alike; by default they stay, and are counted.

    Returns
    -------
    Split
        What to train on, and what to find again.

    Raises
    ------
    InputError
        An argument cannot be used, or one of the sides has no itemset.

    Examples
    --------
    >>> split = leave_one_out([1, 2, 3, 1, 2, 3], [0, 2, 4, 6], share=0.3)
    >>> split.train[1], split.history[0], split.truth[0]
    (array([0, 2, 4]), array([3], dtype=int32), array([2], dtype=int32))
    """
    rows, bounds = _itemsets("items", (items, offsets))
    share, seed = checks.number("share", share), checks.integer("seed", seed)
    num_itemset = len(bounds) - 1
    num_train = num_itemset - round(share * num_itemset)
    if not 0 < share < 1 or not 0 < num_train < num_itemset:
        raise InputError(
            f"share is {share} and leaves {num_train} of {num_itemset} itemsets to train on; "
            "pass a share between 0 and 1 that leaves some, and holds some out"
        )
    train = rows[: bounds[num_train]], bounds[: num_train + 1]
    held = rows[bounds[num_train] :], bounds[num_train:] - bounds[num_train]
    known = _is_known(train[0], rows)[bounds[num_train] :]
    dropped = 0
    if drop_unknown:
        dropped = int(np.count_nonzero(~known))
        held, known = keep_items(*held, known), known[known]
    # One draw for every itemset, so that each depends on its place alone.
    draws = np.random.Generator(np.random.Philox(key=seed)).random(num_itemset - num_train)
    distinct, starts = distinct_items(*held)
    numbers = np.diff(starts)
    asked = numbers >= 2
    hidden = distinct[starts[:-1][asked] + (draws * numbers)[asked].astype(np.int64)]
    owners = np.repeat(np.arange(len(asked)), np.diff(held[1]))
    of_query = np.cumsum(asked) - 1
    is_hidden = np.zeros(len(owners), dtype=bool)
    inside = asked[owners]
    is_hidden[inside] = held[0][inside] == hidden[of_query[owners[inside]]]
    history = choose_sets(keep_items(*held, ~is_hidden), asked)
    num_query = len(hidden)
    counts = SplitCounts(
        itemsets_read=num_itemset,
        items_read=len(rows),
        train_itemsets=num_train,
        train_items=len(train[0]),
        held_out_itemsets=num_itemset - num_train,
        queries=num_query,
        short_itemsets=int(np.count_nonzero(~asked)),
        hidden_copies=int(np.count_nonzero(is_hidden)) - num_query,
        unknown_history=int(np.count_nonzero(inside & ~is_hidden & ~known)),
        unknown_truth=int(np.count_nonzero(~_is_known(train[0], hidden))),
        unknown_dropped=dropped,
    )
    truth = hidden, np.arange(num_query + 1, dtype=np.int64)
    return Split(train, history, truth, np.flatnonzero(asked) + num_train, counts)


def leave_last_out(
    items: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    min_distinct: int = 2,
    drop_unknown: bool = False,
) -> Split:
    """Hide the last item of every itemset, and train on the others.

    Items are in the order of time within an itemset, as in the history of a user. All
    occurrences of the hidden item leave its itemset, in the history and in what is
    trained on. Itemsets that are too short are trained on whole, and make no query.

    Parameters
    ----------
    items : int (num_item,)
        Packed items.
    offsets : int (num_itemset + 1,)
        Where each itemset starts, and the last one ends.
    min_distinct : int
        Different items that an itemset needs to become a query, at least 2: then its
        history has one. With 3, all that is cut from can still be trained on.
    drop_unknown : bool
        Whether queries are left out whose hidden item is nowhere in what is trained
        on. By default they stay, and are counted.

    Returns
    -------
    Split
        What to train on, and what to find again.

    Raises
    ------
    InputError
        An argument cannot be used.

    Examples
    --------
    >>> split = leave_last_out([1, 2, 3, 2, 3, 3], [0, 3, 5, 6])
    >>> split.train[0], split.history[1], split.truth[0]
    (array([1, 2, 2, 3], dtype=int32), array([0, 2, 3]), array([3, 3], dtype=int32))
    """
    rows, bounds = packed = _itemsets("items", (items, offsets))
    min_distinct = checks.integer("min_distinct", min_distinct, 2)
    num_itemset = len(bounds) - 1
    held = np.diff(distinct_items(*packed)[1]) >= min_distinct
    lasts = np.full(num_itemset, -1, dtype=np.int64)
    lasts[held] = rows[bounds[1:][held] - 1]
    is_hidden = rows == np.repeat(lasts, np.diff(bounds))
    train = keep_items(*packed, ~is_hidden)
    is_query = held.copy()
    known = _is_known(train[0], lasts[held])
    if drop_unknown:
        is_query[held] = known
    hidden = lasts[is_query].astype(np.int32)
    num_query = len(hidden)
    counts = SplitCounts(
        itemsets_read=num_itemset,
        items_read=len(rows),
        train_itemsets=num_itemset,
        train_items=len(train[0]),
        held_out_itemsets=int(held.sum()),
        queries=num_query,
        short_itemsets=int(np.count_nonzero(~held)),
        unknown_itemsets=int(np.count_nonzero(held & ~is_query)),
        hidden_copies=int(is_hidden.sum() - held.sum()),
        unknown_truth=0 if drop_unknown else int(np.count_nonzero(~known)),
        unknown_dropped=int(np.count_nonzero(~known)) if drop_unknown else 0,
    )
    truth = hidden, np.arange(num_query + 1, dtype=np.int64)
    return Split(train, choose_sets(train, is_query), truth, np.flatnonzero(is_query), counts)


def given_split(
    train: GivenPacked,
    test: GivenPacked,
    *,
    drop_unknown: bool = False,
    drop_history: bool = True,
) -> Split:
    """Use a split that is given: itemset i of one part and of the other are of one user.

    All of `train` is trained on, and its itemset i is the history of query i. What is
    relevant are the different items of itemset i of `test` that are not in the history,
    in the order of their rows. A query may be left with none; metrics leave it out.

    Parameters
    ----------
    train, test : (int, int)
        Packed itemsets ``(items, offsets)``, as many in both.
    drop_unknown : bool
        Whether items of `test` that are nowhere in `train` are left out. By default
        they stay, and are counted.
    drop_history : bool
        Whether items of the history are left out of what is relevant. Without, they stay
        relevant, for rankings that hold them: of what is bought again.

    Returns
    -------
    Split
        What to train on, and what to find again.

    Raises
    ------
    InputError
        An argument cannot be used, or the parts have different numbers of itemsets.

    Examples
    --------
    >>> split = given_split(([0, 1, 2], [0, 2, 3]), ([1, 2, 2, 0], [0, 3, 4]))
    >>> split.truth
    (array([2, 0], dtype=int32), array([0, 1, 2]))
    """
    known_part, test_part = _itemsets("train", train), _itemsets("test", test)
    num_query = len(known_part[1]) - 1
    if len(test_part[1]) - 1 != num_query:
        raise InputError(
            f"train has {num_query} itemsets and test {len(test_part[1]) - 1}; "
            "pass as many in both, which may be empty"
        )
    distinct = distinct_items(*test_part)
    repeated = len(test_part[0]) - len(distinct[0])
    seen = np.isin(set_keys(*distinct), set_keys(*known_part)) & bool(drop_history)
    truth = keep_items(*distinct, ~seen)
    known = _is_known(known_part[0], truth[0])
    num_unknown = int(np.count_nonzero(~known))
    if drop_unknown:
        truth = keep_items(*truth, known)
    counts = SplitCounts(
        itemsets_read=2 * num_query,
        items_read=len(known_part[0]) + len(test_part[0]),
        train_itemsets=num_query,
        train_items=len(known_part[0]),
        held_out_itemsets=num_query,
        queries=num_query,
        repeated_items=repeated,
        known_items=int(seen.sum()),
        unknown_truth=0 if drop_unknown else num_unknown,
        unknown_dropped=num_unknown if drop_unknown else 0,
    )
    return Split(known_part, known_part, truth, np.arange(num_query, dtype=np.int64), counts)


def _itemsets(name: str, value: Any) -> Packed:
    """Check packed itemsets of any items, and let the first one begin at 0."""
    given, bounds = split_packed(name, value)
    return packed_rows(name, (given, bounds), len(bounds) - 1, _ANY_ROW)


def _is_known(known: npt.NDArray[Any], items: npt.NDArray[Any]) -> BoolArray:
    return np.isin(items, np.unique(known))


# ------------------------------------------------------------------ evaluation


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a ranking.

    Attributes
    ----------
    values : dict of str to float64 (q,)
        Of each query, by metric and k, as in ``"ndcg@10"``; nan where nothing is
        relevant. The metrics are hit_rate, precision, recall, ndcg, mrr and map.
    catalog : dict of str to float
        ``"coverage@10"`` and ``"popularity_bias@10"``, where they could be computed.
    num_query : int
        Queries that means are over.
    num_skipped : int
        Queries to which nothing is relevant.
    counts : SplitCounts or None
        Those of the split, where one was evaluated.

    Examples
    --------
    >>> evaluation = evaluate_rankings([[3, 1], [2, 0]], ([1, 2, 5], [0, 1, 3]), k=2)
    >>> evaluation["recall@2"]
    0.75
    >>> evaluation.values["recall@2"]
    array([1. , 0.5])
    """

    values: dict[str, Float64Array]
    catalog: dict[str, float]
    num_query: int
    num_skipped: int
    counts: SplitCounts | None = dataclasses.field(default=None, repr=False)

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the queries to which something is relevant."""
        if not self.num_query:
            return dict.fromkeys(self.values, math.nan)
        return {name: float(np.nanmean(values)) for name, values in self.values.items()}

    def __getitem__(self, name: str) -> float:
        """Return the mean of a metric, or a number on the catalog, by name."""
        known = {**self.means, **self.catalog}
        if name not in known:
            raise InputError(f"name is {checks.show(name)}; pass one of {', '.join(known)}")
        return known[name]

    def as_dict(self) -> dict[str, float | int]:
        """Return means, numbers on the catalog, and how many queries there were.

        Returns
        -------
        dict by str
            Numbers, by their names.
        """
        return {
            **self.means,
            **self.catalog,
            "num_query": self.num_query,
            "num_skipped": self.num_skipped,
        }

    def __str__(self) -> str:
        """Show a table: a row each metric, a column each k."""
        cells: dict[str, dict[str, float]] = {}
        for key, value in {**self.means, **self.catalog}.items():
            name, _, k = key.partition("@")
            cells.setdefault(name, {})[k] = value
        columns = sorted({k for row in cells.values() for k in row}, key=int)
        width = max(map(len, cells), default=0)
        lines = [" " * width + "".join(f"{'@' + k:>10}" for k in columns)]
        for name, row in cells.items():
            shown = (f"{row[k]:>10.4f}" if k in row else " " * 10 for k in columns)
            lines.append(f"{name:<{width}}" + "".join(shown))
        lines.append(f"{self.num_query:,} queries; {self.num_skipped:,} with nothing to find")
        return "\n".join(lines)


def evaluate_rankings(
    ranked: npt.ArrayLike,
    truth: GivenPacked,
    k: Metrics = (10, 20),
    counts: npt.ArrayLike | None = None,
    num_row: int | None = None,
) -> Evaluation:
    """Compute metrics of a ranking.

    Parameters
    ----------
    ranked : int (q, at least the largest k)
        Rows, best first; -1 where there are no more.
    truth : (int, int)
        Packed rows that are relevant to each query.
    k : int or str, or some
        How many of the first to look at, for all metrics; or metrics by name, as
        ``"ndcg@10"``. One of the catalog is left out where it cannot be computed.
    counts : int (num_row,), optional
        How often each item occurred, for `popularity_bias`.
    num_row : int, optional
        Items of the catalog, for `coverage`; by default there are as many as counts.

    Returns
    -------
    Evaluation
        Metrics of each query, and their means.

    Raises
    ------
    InputError
        As of `hit_rate`, `coverage` and `popularity_bias`.
    """
    names = asked_metrics("k", k)
    found = _found(ranked, truth, longest(names))
    if num_row is None and counts is not None:
        num_row = len(_counts(counts))
    values: dict[str, Float64Array] = {}
    catalog: dict[str, float] = {}
    for name in names:
        metric, _, size = name.partition("@")
        if metric in _METRICS:
            values[name] = _METRICS[metric](found, truth, int(size))
        elif metric == "coverage" and num_row is not None:
            catalog[name] = coverage(ranked, num_row, int(size))
        elif metric == "popularity_bias" and counts is not None:
            catalog[name] = popularity_bias(ranked, truth, counts, int(size))
    num_query = int(np.count_nonzero(found.lengths))
    return Evaluation(values, catalog, num_query, len(found.lengths) - num_query)


def evaluate(
    queries: Any,
    table: Any,
    split: Split,
    k: Metrics = (10, 20),
    *,
    bias: npt.ArrayLike | None = None,
    counts: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
    num_threads: int | None = None,
) -> Evaluation:
    """Rank all items for each query of a split, by dot product, and compute metrics.

    Items of a query's history are not ranked. Relevant items lose every tie, so that a
    system gains nothing from scores that are equal.

    Parameters
    ----------
    queries : float32 (q, D)
        One vector a query, as `pool_rows` makes them of ``split.history``.
    table : float32 (num_row, D)
        The vectors of all items.
    split : Split
        What is known of each query, and what is to be found.
    k : int or str, or some
        As of `evaluate_rankings`.
    bias : float (num_row,), optional
        Added to the scores of an item.
    counts : int (num_row,), optional
        How often each item occurred, for `popularity_bias`; by default in
        ``split.train``.
    candidates : int, one axis, optional
        Items that alone are ranked; what is relevant and not among them is missed.
    num_threads : int, optional
        As of `top_n`.

    Returns
    -------
    Evaluation
        Metrics of each query, and their means.

    Raises
    ------
    InputError
        As of `top_n` and `evaluate_rankings`: also where the split has items
        that the table has no row for.
    """
    names = asked_metrics("k", k)
    ranked, _ = top_n(
        queries,
        table,
        longest(names),
        bias=bias,
        exclude=split.history,
        candidates=candidates,
        losers=split.truth,
        num_threads=num_threads,
    )
    if counts is None:
        trained, _ = packed_rows("split.train", split.train, len(split.train[1]) - 1, len(table))
        counts = np.bincount(trained, minlength=len(table))
    evaluation = evaluate_rankings(ranked, split.truth, names, counts, len(table))
    return dataclasses.replace(evaluation, counts=split.counts)


def asked_metrics(argument: str, k: Any) -> list[str]:
    """Return the names of the metrics that an argument asks for, checked, each of them once.

    It is a name such as "ndcg@10", a number, which asks for all metrics at this k, or some of
    these.
    """
    given = list(k) if isinstance(k, Iterable) and not isinstance(k, str | bytes) else [k]
    if not given:
        raise InputError(f"{argument} is empty; pass a number of items to look at, or a metric")
    names = [one for one in given if isinstance(one, str)]
    try:
        sizes = {checks.integer(argument, one, 1) for one in given if not isinstance(one, str)}
    except InputError as error:
        raise InputError(f"{error}, or a metric by its name, as 'ndcg@10'") from error
    known = "|".join([*_METRICS, *_OF_CATALOG])
    for name in names:
        if not re.fullmatch(f"({known})@[1-9][0-9]{{0,8}}", name):
            raise InputError(
                f"{argument} holds {checks.show(name)}, which is no metric; pass "
                f"{known.replace('|', ', ')}, each with a k, as 'ndcg@10'"
            )
    every = [f"{name}@{size}" for name in known.split("|") for size in sorted(sizes)]
    return list(dict.fromkeys(names + every))


def longest(names: list[str]) -> int:
    """How many rows are to be ranked for these metrics."""
    return max(int(name.partition("@")[2]) for name in names)


# ------------------------------------------------------------------ comparison


def paired_bootstrap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    num_resample: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Return the mean difference of two systems, and an interval for it.

    Queries are drawn again, with replacement, and the bounds are percentiles of the mean
    differences (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
    13). That 0 is outside says that the systems differ on queries like these; it does
    not say that training again would give the same. With ``0 * a`` for `b`, an array, it
    is the mean of one system, and the interval of that.

    Parameters
    ----------
    a, b : float (q,)
        Values of one metric on the same queries, in the same order. Queries that are nan
        in both are left out.
    num_resample : int
        How many times to draw.
    seed : int
        Of the draws (Philox).
    level : float
        How often the interval is to hold the difference, above 0 and below 1.

    Returns
    -------
    difference : float
        Mean of ``a - b``.
    low, high : float
        Ends of the interval.

    Raises
    ------
    InputError
        The lengths differ, no query is left, a value is not finite, or nan in one only.

    Examples
    --------
    >>> difference, low, high = paired_bootstrap([1, 1, 0, 1], [0, 1, 0, 0])
    >>> difference, low, high
    (0.5, 0.0, 1.0)
    """
    differences = _differences(a, b)
    num_resample = checks.integer("num_resample", num_resample, 1)
    level = checks.number("level", level)
    if not 0 < level < 1:
        raise InputError(f"level is {level}; pass a number above 0 and below 1, such as 0.95")
    generator = np.random.Generator(np.random.Philox(key=checks.integer("seed", seed)))
    number = len(differences)
    means = np.empty(num_resample)
    step = max(1, DRAWS // number)
    for start in range(0, num_resample, step):
        shape = min(step, num_resample - start), number
        means[start : start + step] = differences[generator.integers(0, number, shape)].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(differences.mean()), float(low), float(high)


def _differences(a: npt.ArrayLike, b: npt.ArrayLike) -> Float64Array:
    left, right = (
        checks.vector(name, value, "fiub", "real numbers").astype(np.float64)
        for name, value in (("a", a), ("b", b))
    )
    if len(left) != len(right):
        raise InputError(f"a has {len(left)} values and b {len(right)}; pass the same queries")
    one = np.isnan(left) != np.isnan(right)
    if one.any():
        raise InputError(
            f"a and b: value {one.argmax()} is nan in one of them only; pass the same queries"
        )
    kept = ~np.isnan(left)
    if not kept.any():
        raise InputError("a and b hold no value that is not nan; pass some")
    for name, values in (("a", left), ("b", right)):
        if not np.isfinite(values[kept]).all():
            raise InputError(f"{name} holds a value that is not finite; pass finite numbers")
    return left[kept] - right[kept]

"""The systems that ours is held against: one small function each, all with one signature.

A peer is called as ``peer(data, seed, watch, **settings)``, trains on ``data.train``, and
returns its scorers by name: a system that is trained once may be read in several ways ("dot",
"cosine"). ``watch`` stops the time, and lets the caller look at what is learned so far.

Packages are imported by the peers that need them; `find_missing` says which are not there.
Every package but itembed uses ``watch.num_threads`` threads; itembed has one.
"""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.datasets import Dataset, Labelling, Packed, Ranking

# Epochs after which a training is looked at, where it is.
LOOKS = frozenset(m * 10**e for e in range(5) for m in (1, 2, 5))

# Larger catalogs are too much for a dense matrix of items by items.
MAX_DENSE = 10_000

# Rows of the catalog that are multiplied at once.
CHUNK = 2_048


class LeftOut(Exception):
    """Why a peer does not run on a data set."""


class Scorer(Protocol):
    """What a trained system answers."""

    def scores(self, queries: slice) -> np.ndarray:
        """Scores of all that is ranked, for some queries: float32, (query, num_ranked)."""


Scorers = dict[str, Scorer]
Peer = Callable[..., Scorers]


@dataclass
class Watch:
    """The time that a training takes, without the looks at it."""

    num_threads: int = 1  # that a system may use
    device: str = "cpu"  # of a system that has a choice, as `itembed_gpu` calls it
    ran_on: str = ""  # where; a system that had another device, or other threads, says so here
    seen: Callable[[float, Scorers], Any] | None = None  # done at each look; None: nobody looks
    # Seconds: those on the wall, or `time.process_time`, which a busy machine does not stretch
    # and which is the same with one thread on an idle one.
    clock: Callable[[], float] = time.perf_counter
    seconds: float = field(default=0.0, init=False)
    began: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()
        self.ran_on = self.ran_on or count_threads(self.num_threads)

    def restart(self) -> None:
        """Forget the time so far: what was done was no training."""
        self.seconds, self.began = 0.0, self.clock()

    def stop(self) -> float:
        """Seconds so far, without the looks."""
        now = self.clock()
        self.seconds += now - self.began
        self.began = now
        return self.seconds

    def look(self, epoch: int, make: Callable[[], Scorers]) -> None:
        """Show what is learned after so many epochs, if somebody looks and it is due."""
        if self.seen is None or epoch not in LOOKS:
            return
        self.seen(self.stop(), make())
        self.began = self.clock()


def count_threads(num_thread: int) -> str:
    return f"CPU, {num_thread} thread{'s' * (num_thread > 1)}"


# --- scorers ----------------------------------------------------------------


@dataclass
class Same:
    """One score an item, whatever the query."""

    row: np.ndarray
    num_query: int

    def scores(self, queries: slice) -> np.ndarray:
        return np.tile(self.row.astype(np.float32), (len(range(self.num_query)[queries]), 1))


@dataclass
class Factors:
    """Dot products of a row for each query with a row for each item, and a term for each item."""

    queries: np.ndarray
    table: np.ndarray
    bias: np.ndarray | None = None

    def scores(self, queries: slice) -> np.ndarray:
        block = self.queries[queries] @ self.table.T
        return block if self.bias is None else block + self.bias


@dataclass
class Linear:
    """Items of a query times weights, (num_item, num_ranked), which may be sparse."""

    history: Any
    weights: Any
    bias: np.ndarray | None = None

    def scores(self, queries: slice) -> np.ndarray:
        block = self.history[queries] @ self.weights
        if not isinstance(block, np.ndarray):
            block = block.toarray()
        block = block.astype(np.float32, copy=False)
        return block if self.bias is None else block + self.bias


def matrix(itemsets: Packed, num_item: int) -> Any:
    """Itemsets as rows of a sparse matrix: how often each has each item."""
    from scipy import sparse

    ones = np.ones(len(itemsets.items), dtype=np.float32)
    # Copies: scipy adds duplicates up in place.
    parts = (ones, itemsets.items.copy(), itemsets.offsets.copy())
    rows = sparse.csr_matrix(parts, shape=(len(itemsets), num_item))
    rows.sum_duplicates()
    return rows


def binary_matrix(itemsets: Packed, num_item: int) -> Any:
    """Itemsets as rows of a sparse matrix of ones."""
    rows = matrix(itemsets, num_item)
    rows.data[:] = 1
    return rows


def mean_rows(itemsets: Packed, table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The mean over each itemset of rows of a table, weighted by item; 0 for empty itemsets."""
    rows = matrix(itemsets, len(table))
    if weights is not None:
        rows = rows.multiply(weights[None, :].astype(np.float32)).tocsr()
    total = np.asarray(rows.sum(axis=1))
    return ((rows @ table) / np.where(total, total, 1)).astype(np.float32)


def unit_rows(table: np.ndarray) -> np.ndarray:
    """Rows of length 1; those of zeros stay."""
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return (table / np.where(norms, norms, 1)).astype(np.float32)


def read_both_ways(data: Dataset, left: np.ndarray, right: np.ndarray) -> Scorers:
    """Score by the mean of left rows, with right rows ("dot") or with left ones ("cosine").

    The length of a query's row changes no order, so only the items' rows are normalised.
    """
    queries = mean_rows(data.history, left)
    scorers: Scorers = {"dot": Factors(queries, right)}
    if isinstance(data, Ranking):
        scorers["cosine"] = Factors(queries, unit_rows(left))
    return scorers


def at_least_two(itemsets: Packed) -> Packed:
    """Itemsets of which pairs can be drawn."""
    enough = itemsets.lengths >= 2
    return itemsets if enough.all() else itemsets.take(np.flatnonzero(enough))


# --- systems without epochs -------------------------------------------------


def popularity(data: Dataset, seed: int, watch: Watch) -> Scorers:
    """How often an item, or a label, is in the training part."""
    what = data.train_labels if isinstance(data, Labelling) else data.train
    counts = np.bincount(what.items, minlength=data.num_ranked)
    return {"": Same(counts, len(data.history))}


def item_knn(data: Ranking, seed: int, watch: Watch, num_neighbour: int | None = 200) -> Scorers:
    """Cosine of items' occurrences, summed over the items of a query.

    Parameters
    ----------
    num_neighbour : int or None
        Of each item, its most similar ones count; None for all.
    """
    from scipy import sparse

    rows = binary_matrix(data.train, data.num_item)
    counts = np.asarray(rows.sum(axis=0)).ravel()
    rows = rows.multiply(1 / np.sqrt(np.maximum(counts, 1))[None, :]).tocsr().astype(np.float32)
    columns = rows.T.tocsr()
    blocks = []
    for start in range(0, data.num_item, CHUNK):
        block = (columns[start : start + CHUNK] @ rows).tocsr()
        block.data[own_entries(block, start)] = 0
        blocks.append(block if num_neighbour is None else keep_largest(block, num_neighbour))
    similar = sparse.vstack(blocks).tocsr()
    if num_neighbour is None and data.num_item <= MAX_DENSE:
        similar = similar.toarray()
    return {"": Linear(binary_matrix(data.history, data.num_item), similar)}


def own_entries(block: Any, start: int) -> np.ndarray:
    """Which entries of rows `start` and on lie on the diagonal of the whole matrix."""
    row_of = start + np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    return row_of == block.indices


def keep_largest(block: Any, num_kept: int) -> Any:
    """A sparse matrix with the largest entries of each row alone."""
    for start, stop in zip(block.indptr[:-1], block.indptr[1:], strict=True):
        row = block.data[start:stop]
        if len(row) > num_kept:
            row[np.argpartition(row, len(row) - num_kept)[: len(row) - num_kept]] = 0
    block.eliminate_zeros()
    return block


def ease(
    data: Ranking, seed: int, watch: Watch, l2: float = 200.0, max_item: int = MAX_DENSE
) -> Scorers:
    """EASE: the linear model of items from items with a zero diagonal (Steck, 2019).

    Its weights have a closed form, with a dense inverse: a catalog of 40,000 items takes 7 GB
    and most of an hour on two cores.
    """
    if data.num_item > max_item:
        raise LeftOut(f"{data.num_item:,} items, a dense inverse of at most {max_item:,} is taken")
    rows = binary_matrix(data.train, data.num_item)
    gram = (rows.T @ rows).toarray().astype(np.float32 if data.num_item > MAX_DENSE else np.float64)
    gram.flat[:: len(gram) + 1] += l2
    weights = np.linalg.inv(gram)
    weights /= -np.diagonal(weights).copy()
    weights.flat[:: len(weights) + 1] = 0
    return {"": Linear(binary_matrix(data.history, data.num_item), weights.astype(np.float32))}


def logistic(data: Labelling, seed: int, watch: Watch, c: float = 1.0) -> Scorers:
    """One logistic regression a label, on which features an itemset has.

    Parameters
    ----------
    c : float
        The loss's weight against the penalty.
    """
    from sklearn.linear_model import LogisticRegression

    features, history = (binary_matrix(part, data.num_item) for part in (data.train, data.history))
    targets = binary_matrix(data.train_labels, data.num_ranked).tocsc()
    weights = np.zeros((data.num_item, data.num_ranked), dtype=np.float32)
    # A label that is never, or always, there has nothing to learn.
    counts = np.diff(targets.indptr)
    bias = np.where(counts > 0, 50.0, -50.0).astype(np.float32)
    for label in np.flatnonzero((counts > 0) & (counts < len(data.train))):
        target = targets[:, [label]].toarray().ravel()
        model = LogisticRegression(C=c, solver="liblinear", random_state=seed)
        model.fit(features, target)
        weights[:, label], bias[label] = model.coef_[0], model.intercept_[0]
    return {"": Linear(history, weights, bias)}


# --- implicit ---------------------------------------------------------------


def als(
    data: Ranking,
    seed: int,
    watch: Watch,
    dim: int = 128,
    l2: float = 20.0,
    alpha: float = 10.0,
    num_epoch: int = 10,
) -> Scorers:
    """Alternating least squares of `implicit`; queries that are new are solved for."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    rows = binary_matrix(data.train, data.num_item)
    with threadpool_limits(1, "blas"):  # its own threads are enough, and it warns of others
        model = AlternatingLeastSquares(
            factors=dim,
            regularization=l2,
            alpha=alpha,
            iterations=num_epoch,
            num_threads=watch.num_threads,
            random_state=seed,
        )

    def make() -> Scorers:
        if data.users is not None:
            return {"": Factors(model.user_factors[data.users], model.item_factors)}
        # Made of the items' factors once, and kept though these change.
        model._YtY = None
        history = binary_matrix(data.history, data.num_item)
        queries = model.recalculate_user(np.arange(len(data.history)), history)
        return {"": Factors(queries, model.item_factors)}

    def look(epoch: int, *rest: Any) -> None:
        watch.look(epoch + 1, make)

    with threadpool_limits(1, "blas"):
        model.fit(rows, show_progress=False, callback=look)
    return make()


def bpr(
    data: Ranking,
    seed: int,
    watch: Watch,
    dim: int = 64,
    learning_rate: float = 0.01,
    l2: float = 0.01,
    num_epoch: int = 100,
) -> Scorers:
    """Bayesian personalised ranking of `implicit`.

    It has no way to take in new queries; theirs is the mean of their items' factors.
    """
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=dim,
        learning_rate=learning_rate,
        regularization=l2,
        iterations=num_epoch,
        num_threads=watch.num_threads,
        random_state=seed,
    )

    def make() -> Scorers:
        if data.users is not None:
            return {"": Factors(model.user_factors[data.users], model.item_factors)}
        queries = mean_rows(data.history, model.item_factors)
        queries[:, -1] = 1  # the last column is the items' bias
        return {"mean of items": Factors(queries, model.item_factors)}

    model.fit(
        binary_matrix(data.train, data.num_item),
        show_progress=False,
        callback=lambda epoch, *rest: watch.look(epoch + 1, make),
    )
    return make()


# --- skip-gram --------------------------------------------------------------


def itembed(
    data: Dataset,
    seed: int,
    watch: Watch,
    dim: int = 64,
    num_negative: int = 5,
    num_epoch: int = 10,
    learning_rate: float = 0.05,
) -> Scorers:
    """itembed 0.5.1. Its own loop has no callbacks, so batches are asked for one by one."""
    import itembed as library

    seed_itembed(seed)
    watch.ran_on = count_threads(1)
    watch.restart()  # nothing was trained: compiling alone
    left = library.initialize_syn(data.num_item, dim)
    right = library.initialize_syn(data.num_ranked, dim)
    if isinstance(data, Labelling):
        both = (data.train.lengths > 0) & (data.train_labels.lengths > 0)
        sides = [part.take(np.flatnonzero(both)) for part in (data.train, data.train_labels)]
        arrays = [a for side in sides for a in (side.items, side.offsets.astype(np.int32))]
        task = library.SupervisedTask(*arrays, left, right, num_negative=num_negative)
    else:
        train = at_least_two(data.train)
        task = library.UnsupervisedTask(
            train.items, train.offsets.astype(np.int32), left, right, num_negative=num_negative
        )
    num_step = num_epoch * len(task)
    for epoch in range(num_epoch):
        for step in range(epoch * len(task), (epoch + 1) * len(task)):
            task.do_batch(learning_rate * (1 - step / num_step))
        watch.look(epoch + 1, lambda: read_both_ways(data, left, right))
    return read_both_ways(data, left, right)


def seed_itembed(seed: int) -> None:
    """Seed both generators that itembed draws from: NumPy's, and Numba's own."""
    from numba import njit

    np.random.seed(seed)
    njit(lambda n: random.seed(n))(seed)


class ShuffledCorpus:
    """Itemsets as sentences, their words in another order at each pass.

    Word2Vec takes the words around a word, and of an itemset none is nearer than another.
    With a window as long as the longest itemset, and never shrunk, every pair of an itemset
    is trained in every pass whatever the order, which is quadratic in its length. A shorter
    window, or one that gensim shrinks at random as it does by default, prefers words that
    stand near: only when the order is drawn anew for each pass are all pairs equally likely.
    """

    def __init__(self, itemsets: Packed, seed: int) -> None:
        self.itemsets = itemsets
        self.generator = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[list[str]]:
        for items in self.itemsets:
            yield [str(item) for item in self.generator.permutation(items).tolist()]


def gensim(
    data: Ranking,
    seed: int,
    watch: Watch,
    dim: int = 64,
    num_negative: int = 5,
    num_epoch: int = 10,
    learning_rate: float = 0.025,
    noise_exponent: float = 0.75,
    window: int | None = None,
) -> Scorers:
    """Word2Vec of gensim: skip-gram, itemsets as shuffled sentences, frequent items kept.

    Parameters
    ----------
    window : int or None
        Farthest neighbours on either side, of which gensim draws how far it goes; None for
        as long as the longest itemset, and all pairs of each itemset in each epoch.
    """
    from gensim.models import Word2Vec
    from gensim.models.callbacks import CallbackAny2Vec

    def make() -> Scorers:
        left, right = np.zeros((2, data.num_item, dim), dtype=np.float32)
        numbers = [int(word) for word in model.wv.index_to_key]
        left[numbers], right[numbers] = model.wv.vectors, model.syn1neg
        # A row of zeros would beat all negative scores.
        bias = np.full(data.num_item, -1e9, dtype=np.float32)
        bias[numbers] = 0
        scorers = read_both_ways(data, left, right)
        return {name: Factors(s.queries, s.table, bias) for name, s in scorers.items()}

    class Look(CallbackAny2Vec):
        epoch = 0

        def on_epoch_end(self, model: Any) -> None:
            self.epoch += 1
            watch.look(self.epoch, make)

    corpus = ShuffledCorpus(at_least_two(data.train), seed)
    model = Word2Vec(
        vector_size=dim,
        window=window or int(data.train.lengths.max()),
        shrink_windows=window is not None,
        sg=1,
        hs=0,
        negative=num_negative,
        ns_exponent=noise_exponent,
        sample=0,
        min_count=1,
        alpha=learning_rate,
        min_alpha=learning_rate / 1000,
        workers=watch.num_threads,
        seed=seed + 1,
    )
    model.build_vocab(corpus)
    model.train(corpus, total_examples=model.corpus_count, epochs=num_epoch, callbacks=[Look()])
    return make()


# --- all of them ------------------------------------------------------------

PEERS: dict[str, Peer] = {
    "popularity": popularity,
    "item-kNN": item_knn,
    "EASE": ease,
    "ALS": als,
    "BPR": bpr,
    "itembed": itembed,
    "Word2Vec": gensim,
    "logistic regression": logistic,
}

PACKAGES: dict[str, tuple[str, ...]] = {
    "ALS": ("scipy", "implicit"),
    "BPR": ("scipy", "implicit"),
    "itembed": ("scipy", "itembed"),
    "Word2Vec": ("scipy", "gensim"),
    "logistic regression": ("scipy", "sklearn"),
}


def find_missing(system: str) -> list[str]:
    """Packages that a system needs and that cannot be imported."""
    return [
        name for name in PACKAGES.get(system, ("scipy",)) if importlib.util.find_spec(name) is None
    ]

"""itembed_gpu as one of the systems of `benchmarks.quality`, with the signature of the peers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks.datasets import Dataset, Labelling, Packed, Ranking
from benchmarks.peers import (
    Factors,
    Scorers,
    Watch,
    at_least_two,
    mean_rows,
    read_both_ways,
    unit_rows,
)
from itembed_gpu.backends.cuda import chips
from itembed_gpu.ranking.each import score_each

# Length of rows to begin with, where only directions count: that of estimators.
FIRST_LENGTH = 0.3
# Below any score, and finite.
LAST = np.float32(-1e30)


def ours(
    data: Dataset,
    seed: int,
    watch: Watch,
    dim: int = 64,
    num_epoch: int = 10,
    learning_rate: float = 0.05,
    popularity: float = 0.0,
    history_power: float = 0.0,
    schedule: str = "linear",
    sharpness: float = 0.0,
    first_length: float = FIRST_LENGTH,
    beside: Sequence[dict[str, Any]] = (),
    **options: Any,
) -> Scorers:
    """Item embeddings by this package: by sampled negatives, or by a softmax over all items.

    Parameters
    ----------
    schedule : str
        How the learning rate falls.
    sharpness : float
        Above 0, items of a query are compared one by one as well, as `Item2Vec.recommend` does.
    first_length : float
        Length of the rows to begin with, where only directions count.
    popularity : float
        So many times the logarithm of an item's count is added to its score; below 0 it
        helps rare items.
    history_power : float
        An item of a query counts as its count to this power; at -0.5, frequent ones weigh less.
    beside : sequence of dict
        Models that are trained as well, each with tables of its own, and whose scores are
        added: what `Beside` takes.
    **options
        Those of the task.
    """
    left, right = (
        itembed_gpu.initialize_syn(size, dim, seed=1_000 * (side + 1) + seed, device="cpu")
        for side, size in enumerate((data.num_item, data.num_ranked))
    )
    if options.get("similarity") == "cosine":  # as the estimators begin
        left, right = (first_length * unit_rows(rows) for rows in (left, right))
    elif options.get("optimizer") == "adagrad":
        right[:] = 0  # its first steps are as large as any
    task = make_task(data, left, right, options, seed, watch)
    others = [Beside(data, seed, watch, **settings) for settings in beside]
    for each in (task, *(other.task for other in others)):
        each.do_batch(0.0)  # compiles: the code is kept on disk between runs
        each.synchronize()
    watch.ran_on = name_device(task) or watch.ran_on
    watch.restart()

    def make() -> Scorers:
        scorers = {
            name: without_unseen(data, scorer)
            for name, scorer in read_both_ways(data, left, right).items()
        }
        if popularity or history_power:
            scorer = weighted(data, left, right, popularity, history_power)
            scorers["dot, weighted"] = without_unseen(data, scorer)
        if options.get("similarity") == "cosine":
            trained = Factors(scorers["dot"].queries, unit_rows(right))
            scorers = {"cosine": without_unseen(data, trained)}
            if sharpness:
                each = ByEach(data.history, unit_rows(left), unit_rows(right), sharpness)
                scorers["cosine, each item"] = without_unseen(data, each)
        if others:
            both = add_up(scorers["dot"], others)
            both.bias = frequency_bias(data, popularity)
            scorers["dot, all added"] = without_unseen(data, both)
        return scorers

    for other in others:
        other.train()
    # Tables that lie on a GPU are copied back for each callback: none where nobody looks.
    looks = [lambda state: watch.look(state.record.epoch + 1, make)] if watch.seen else []
    itembed_gpu.train(
        task,
        num_epoch=num_epoch,
        initial_learning_rate=learning_rate,
        schedule=schedule,
        callbacks=looks,
        progress=False,
    )
    return make()


def ours_by_default(data: Dataset, seed: int, watch: Watch, **parameters: Any) -> Scorers:
    """`Item2Vec`, or `SupervisedClassifier`, with no argument but the seed and where to train."""
    parameters |= {"seed": seed, "device": watch.device, "workers": watch.num_threads}
    sides = [data.train, data.train_labels] if isinstance(data, Labelling) else [data.train]
    itemsets = [
        itembed_gpu.pack_itemsets([row.tolist() for row in side], min_length=0) for side in sides
    ]
    if isinstance(data, Labelling):
        model: Any = itembed_gpu.SupervisedClassifier(**parameters)
    else:
        model = itembed_gpu.Item2Vec(**parameters)
    model.set_params(epochs=1).fit(*itemsets)  # compiles: the code is kept on disk between runs
    model.set_params(epochs=parameters.get("epochs"))
    watch.restart()
    model.fit(*itemsets)
    return tables_of(data, model)


def make_task(
    data: Dataset,
    left: np.ndarray,
    right: np.ndarray,
    options: dict[str, Any],
    seed: int,
    watch: Watch,
) -> Any:
    """The task of a data set: labels from features, or items from items."""
    options = {**options, **where(seed, watch)}
    if isinstance(data, Labelling):
        return itembed_gpu.SupervisedTask(
            data.train.items,
            data.train.offsets,
            data.train_labels.items,
            data.train_labels.offsets,
            left,
            right,
            **options,
        )
    train = at_least_two(data.train)
    return itembed_gpu.UnsupervisedTask(train.items, train.offsets, left, right, **options)


def without_unseen(data: Dataset, scorer: Any) -> Any:
    """Rank what never occurred last: its row was never a positive, and says nothing."""
    train = data.train_labels if isinstance(data, Labelling) else data.train
    unseen = np.bincount(train.items, minlength=data.num_ranked) == 0
    bias = np.zeros(data.num_ranked, np.float32) if scorer.bias is None else scorer.bias.copy()
    bias[unseen] = LAST
    scorer = copy.copy(scorer)
    scorer.bias = bias
    return scorer


def tables_of(data: Dataset, model: Any) -> Scorers:
    """The tables of an estimator by the data's numbers, and its scores by them."""
    labelled = isinstance(data, Labelling)
    sides = (
        (model.feature_embeddings_.labels, model.feature_embeddings_.vectors)
        if labelled
        else (model.labels_, model.syn0_),
        (model.labels_, model.label_embeddings_.vectors if labelled else model.syn1_),
    )
    left, right = (
        np.zeros((size, rows.shape[1]), np.float32)
        for size, (_, rows) in zip((data.num_item, data.num_ranked), sides, strict=True)
    )
    for table, (labels, rows) in zip((left, right), sides, strict=True):
        table[np.array(labels)] = rows
    chosen = model.chosen_
    weights = np.ones(data.num_item)
    if labelled:
        weights[np.array(sides[0][0])] = model.feature_weights_
    if chosen["similarity"] == "cosine":
        right = unit_rows(right)
    scorer: Any = Factors(mean_rows(data.history, left, weights), right)
    if chosen.get("sharpness"):
        scorer = ByEach(data.history, unit_rows(left), right, chosen["sharpness"])
    return {"": without_unseen(data, scorer)}


class ByEach:
    """Items of a query compared one by one (see `itembed_gpu.ranking.each`)."""

    def __init__(
        self, history: Packed, left: np.ndarray, right: np.ndarray, sharpness: float
    ) -> None:
        self.history, self.left, self.right, self.sharpness = history, left, right, sharpness
        self.bias: np.ndarray | None = None

    def scores(self, queries: slice) -> np.ndarray:
        asked = self.history.take(queries)
        packed = asked.items, asked.offsets
        history = self.left, packed, np.ones(len(asked.items))
        scores = score_each(history, self.right, self.sharpness)
        return scores if self.bias is None else scores + self.bias


def where(seed: int, watch: Watch) -> dict[str, Any]:
    """Options of every task."""
    return {"seed": seed, "device": watch.device, "num_threads": watch.num_threads}


def name_device(task: Any) -> str | None:
    """Name of the GPU that a task is trained on; None on the CPU."""
    kind, _, index = task.device.partition(":")
    return chips.find_chip(int(index or 0)).name if kind == "cuda" else None


class Beside:
    """A model whose score is added to another one's.

    Parameters
    ----------
    kind : {"items", "itemsets"}
        Whether it has a row for each item, as the other one, or for each itemset (see
        `itembed_gpu.itemset_task`), of which a query's history is one.
    weight : float
        What its score is multiplied by.
    dim, num_epoch, learning_rate, **options
        As for `ours`.
    """

    def __init__(
        self,
        data: Ranking,
        seed: int,
        watch: Watch,
        *,
        kind: str,
        weight: float,
        dim: int,
        num_epoch: int,
        learning_rate: float,
        **options: Any,
    ) -> None:
        self._data, self._kind, self._weight = data, kind, weight
        num_left = len(data.train) if kind == "itemsets" else data.num_item
        self.left = itembed_gpu.initialize_syn(num_left, dim, seed=3_000 + seed, device="cpu")
        self.right = np.zeros((data.num_item, dim), np.float32)
        if kind == "itemsets":
            train = data.train
            self.task = itembed_gpu.itemset_task(
                train.items, train.offsets, self.left, self.right, **options, **where(seed, watch)
            )
        else:
            self.task = make_task(data, self.left, self.right, options, seed, watch)
        self._epochs = {"num_epoch": num_epoch, "initial_learning_rate": learning_rate}

    def train(self) -> None:
        itembed_gpu.train(self.task, progress=False, **self._epochs)

    def queries(self) -> np.ndarray:
        """A row for each query, times the weight."""
        if self._kind == "itemsets":
            return self._weight * self.left[self._data.users]
        return self._weight * mean_rows(self._data.history, self.left)


def add_up(scorer: Factors, others: list[Beside]) -> Factors:
    """The sum of scores: one dot product of longer rows."""
    queries = np.hstack([scorer.queries, *(other.queries() for other in others)])
    return Factors(queries, np.hstack([scorer.table, *(other.right for other in others)]))


def weighted(
    data: Ranking, left: np.ndarray, right: np.ndarray, popularity: float, history_power: float
) -> Factors:
    """The dot product, with frequent items of queries, and of the catalog, weighted."""
    queries = mean_rows(data.history, left, count_items(data) ** history_power)
    return Factors(queries, right, frequency_bias(data, popularity))


def frequency_bias(data: Ranking, popularity: float) -> np.ndarray:
    """So many times the logarithm of each item's count."""
    return (popularity * np.log(count_items(data))).astype(np.float32)


def count_items(data: Ranking) -> np.ndarray:
    """Occurrences of each item; 1 where there is none."""
    return np.bincount(data.train.items, minlength=data.num_item).clip(1)

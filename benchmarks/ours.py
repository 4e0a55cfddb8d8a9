"""itembed_gpu as one of the systems of `quality.py`, with the signature of the peers."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset, Labelling, Ranking
from peers import Factors, Scorers, Watch, at_least_two, mean_rows, read_both_ways

import itembed_gpu
from itembed_gpu import cuda

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
    itemset_weight: float = 0.0,
    itemsets: dict[str, Any] | None = None,
    **options: Any,
) -> Scorers:
    """Skip-gram with negative sampling, by this package.

    Parameters
    ----------
    popularity : float
        So many times the logarithm of an item's count is added to its score; below 0 it
        helps rare items.
    history_power : float
        An item of a query counts as its count to this power; at -0.5, frequent ones weigh less.
    itemset_weight : float
        Where it is not 0, an `itemset_task` is trained as well, with tables of its own, and
        so many times its score is added: that of the itemset that a query's history is.
    itemsets : dict
        Settings of that task: of its own, as here.
    **options
        Those of the task.
    """
    left, right = (
        itembed_gpu.initialize_syn(size, dim, seed=1_000 * (side + 1) + seed, device="cpu")
        for side, size in enumerate((data.num_item, data.num_ranked))
    )
    if options.get("optimizer") == "adagrad":
        right[:] = 0  # its first steps are as large as any
    task = make_task(data, left, right, options, seed, watch)
    beside = Itemsets(data, seed, watch, **(itemsets or {})) if itemset_weight else None
    if beside:
        compile_before(beside.task)
    compile_before(task)
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
        if beside:
            both = beside.add_to(data, scorers["dot"], itemset_weight)
            scorers["dot, with itemsets"] = without_unseen(data, both)
        return scorers

    if beside:
        beside.train()
    # Tables that lie on a GPU are copied back for each callback: none where nobody looks.
    looks = [lambda state: watch.look(state.record.epoch + 1, make)] if watch.seen else []
    itembed_gpu.train(
        task,
        num_epoch=num_epoch,
        initial_learning_rate=learning_rate,
        callbacks=looks,
        progress=False,
    )
    return make()


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
    return Factors(scorer.queries, scorer.table, bias)


def where(seed: int, watch: Watch) -> dict[str, Any]:
    """Options of every task."""
    return {"seed": seed, "device": watch.device, "num_threads": watch.num_threads}


def compile_before(task: Any) -> None:
    """Compile what trains a task: the code is kept on disk between runs."""
    task.do_batch(0.0)
    task.synchronize()


def name_device(task: Any) -> str | None:
    """Name of the GPU that a task is trained on; None on the CPU."""
    kind, _, index = task.device.partition(":")
    return cuda.find_chip(int(index or 0)).name if kind == "cuda" else None


class Itemsets:
    """A row for each itemset, and one for each item: the score of what is in training itself."""

    def __init__(
        self,
        data: Ranking,
        seed: int,
        watch: Watch,
        dim: int = 64,
        num_epoch: int = 10,
        learning_rate: float = 0.05,
        **options: Any,
    ) -> None:
        self.rows = itembed_gpu.initialize_syn(
            len(data.train), dim, seed=3_000 + seed, device="cpu"
        )
        self.table = np.zeros((data.num_item, dim), np.float32)
        options = {**options, **where(seed, watch)}
        train = data.train
        self.task = itembed_gpu.itemset_task(
            train.items, train.offsets, self.rows, self.table, **options
        )
        self._settings = {"num_epoch": num_epoch, "initial_learning_rate": learning_rate}

    def train(self) -> None:
        itembed_gpu.train(self.task, progress=False, **self._settings)

    def add_to(self, data: Ranking, scorer: Factors, weight: float) -> Factors:
        """The sum of both scores: one dot product of longer rows."""
        queries = np.hstack([scorer.queries, weight * self.rows[data.users]])
        return Factors(queries, np.hstack([scorer.table, self.table]))


def weighted(
    data: Ranking, left: np.ndarray, right: np.ndarray, popularity: float, history_power: float
) -> Factors:
    """The dot product, with frequent items of queries, and of the catalog, weighted."""
    counts = np.bincount(data.train.items, minlength=data.num_item).clip(1)
    queries = mean_rows(data.history, left, counts**history_power)
    return Factors(queries, right, (popularity * np.log(counts)).astype(np.float32))

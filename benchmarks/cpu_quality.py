"""What itembed_gpu learns, against itembed: ``python -m benchmarks.cpu --quality``."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import itembed
import numpy as np

import itembed_gpu
from benchmarks import datasets, oracle, peers, quality
from benchmarks.common.catalogs import uniform_tables
from benchmarks.common.machine import machine
from benchmarks.common.report import page, say, table, tick, write_whole

NUM_NEGATIVE = 5
DIM = 64
SEEDS = 3
PROBLEMS = tuple(
    oracle.Problem(num_label, num_itemset, num_epoch=10, dim=DIM, learning_rate=0.05)
    for num_label, num_itemset in ((200, 6_400), (2_000, 64_000), (20_000, 640_000))
)
LIBRARIES = {"ours": itembed_gpu, "itembed": itembed}


def train_with(
    library: Any,
    items: np.ndarray,
    offsets: np.ndarray,
    tables: list[np.ndarray],
    seed: int,
    sharing: int = 1,
    **options: Any,
) -> None:
    """Train tables by either library."""
    if library is itembed:
        peers.seed_itembed(seed)
        offsets = offsets.astype(np.int32)
        task = itembed.UnsupervisedTask(items, offsets, *tables, num_negative=NUM_NEGATIVE)
        # One batch an epoch too many is run where the batch size divides the itemsets.
        task.__class__ = type(
            "ExactTask",
            (itembed.UnsupervisedTask,),
            {"__len__": lambda _: (len(offsets) - 1) // 64},
        )
        with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
            itembed.train(task, **options)
    else:
        task = itembed_gpu.UnsupervisedTask(
            items, offsets, *tables, num_negative=NUM_NEGATIVE, negative_sharing=sharing, seed=seed
        )
        itembed_gpu.train(task, progress=False, **options)


def learned_loss(library: Any, problem: oracle.Problem, seed: int) -> float:
    """Train a problem by either library, and return its held-out loss."""
    tables = oracle.new_tables(problem, 1000 * (seed + 1))
    train_with(
        library,
        *oracle.training_items(problem),
        tables,
        seed,
        num_epoch=problem.num_epoch,
        initial_learning_rate=problem.learning_rate,
    )
    return oracle.held_out_loss(problem, *tables)


def problem_row(problem: oracle.Problem) -> tuple[str, ...]:
    ours, theirs = (
        float(np.mean([learned_loss(library, problem, seed) for seed in range(SEEDS)]))
        for library in LIBRARIES.values()
    )
    change = ours / theirs - 1
    return say(
        f"held-out loss, planted clusters, {problem.num_label:,} items",
        f"{ours:.4f}",
        f"{theirs:.4f}",
        f"{100 * change:+.2f} %",
        f"within 1 % {tick(change <= 0.01)}",
    )


class OnlineRetail:
    """Baskets to train on, and later ones, of each of which one item is hidden."""

    def __init__(self, path: Path | None, num_epoch: int = 100) -> None:
        self.options = {"num_epoch": num_epoch, "initial_learning_rate": 0.025}
        baskets = itembed_gpu.load_example() if path is None else datasets.read_words(path)
        baskets = [basket for basket in baskets if len(basket) >= 2]
        split = int(datasets.RETAIL_TRAIN * len(baskets)) // 64 * 64
        labels, items, offsets = itembed_gpu.pack_itemsets(baskets[:split], min_length=2)
        number = {label: i for i, label in enumerate(labels)}
        later = [[number[item] for item in row if item in number] for row in baskets[split:]]
        train = datasets.Packed(items, offsets.astype(np.int64))
        self.data = datasets.Ranking("online_retail", train, *datasets.hide_one(later, 0), labels)

    def __len__(self) -> int:
        return len(self.data.truth)

    def hit_rate(self, library: Any, seed: int, sharing: int = 1) -> float:
        """Train, and rank all items for each query: how often the hidden one is among ten."""
        train, num_label = self.data.train, self.data.num_item
        tables = uniform_tables(num_label, DIM, (1000 + seed, 2000 + seed))
        train_with(library, train.items, train.offsets, tables, seed, sharing, **self.options)
        return quality.evaluate(peers.read_both_ways(self.data, *tables)["dot"], self.data)["HR@10"]


def compare_rates(ours: list[float], theirs: list[float]) -> tuple[str, str, str, str]:
    """Both means, their difference, and whether it is more than allowed."""
    a, b = float(np.mean(ours)), float(np.mean(theirs))
    error = np.sqrt(sum(np.var(v, ddof=1) / len(v) for v in (ours, theirs)))
    allowed = max(0.01 * b, 2 * error)
    return (
        f"{a:.4f}",
        f"{b:.4f}",
        f"{100 * (a / b - 1):+.2f} %",
        f"within {100 * allowed / b:.2f} % (the larger of 1 % and two standard errors) "
        f"{tick(a >= b - allowed)}",
    )


def retail_row(retail: OnlineRetail, num_seed: int) -> tuple[str, ...]:
    """Hit rate at 10: hide one item of each later basket, and rank all others."""
    rates: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    for seed in range(num_seed):
        for name, library in LIBRARIES.items():
            rates[name].append(retail.hit_rate(library, seed))
        print(json.dumps({k: round(v[-1], 4) for k, v in rates.items()}), flush=True)
    what = f"hit rate at 10, Online Retail ({len(retail):,} queries)"
    return say(what, *compare_rates(rates["ours"], rates["itembed"]))


def measure(out: Path, retail: OnlineRetail, num_seed: int) -> None:
    head = say("what", "itembed_gpu", "itembed", "difference", "target")
    rows = [*map(problem_row, PROBLEMS), retail_row(retail, num_seed)]
    note = (
        f"`python -m benchmarks.cpu --quality`: the same pairs a run, settings and start; "
        f"itembed_gpu on all cores. Means of {SEEDS} seeds (clusters) and {num_seed} seeds "
        f"(retail). {machine('itembed')}."
    )
    title = "What itembed_gpu learns, against itembed"
    write_whole(out / "cpu_quality.md", page(title, note, table(head, rows)))

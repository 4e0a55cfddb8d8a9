"""The sum over all items: how fast it is had, and how far losses normalise themselves.

    python -m benchmarks.partition --data FOLDER      # two cores: some minutes
    python -m benchmarks.partition --parts speed

*speed*: `log_partition` of 10,000 itemsets over a catalog of 100,000 items that a model was trained
on, over what NumPy takes for the matrix product alone: of the same vectors and rows, a tile at a
time, as all scores at once would take 4 GB. NumPy does it twice, in our tiles and in larger ones,
and the faster way counts. They take turns, and medians count; CPU time stands beside, as other work
may have the cores. Memory is how much more of it is resident at most.

*losses*: models of one data set, Online Retail: mean and variance of log Z of the baskets that are
held out, and the mean loss of each of their items by the others: ``log Z - s``, and ``-s``, which
is the same where scores are normalised by themselves. It is that of a softmax, which models trained
by sampled losses have not been asked for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import itembed_gpu as ig
from benchmarks.common.catalogs import zipf_items
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from benchmarks.datasets import Packed, Ranking, online_retail
from benchmarks.dense import HostMemory
from itembed_gpu.backends.batches import TILE_LOGITS
from itembed_gpu.training.normalization import BLOCK

NUM_ITEM, NUM_ITEMSET, DIM, ITEMSET_LENGTH = 100_000, 10_000, 128, 10
# Queries and rows of NumPy's tiles: ours, and larger ones.
TILES = ((BLOCK, TILE_LOGITS // BLOCK), (1024, 1 << 16))
TIME = Target("<=", 1.5)
MIB = 1 << 20
HEAD = ("what", "wall, s", "CPU, s", "wall over NumPy", "CPU over NumPy", "MiB")

# A softmax predicts half of the items of a basket from the others, and sampled losses each item.
OF_SOFTMAX = {
    "loss": "softmax", "targets": "dropped", "dropout": 0.5, "optimizer": "adam",
    "batch_size": 256,
}  # fmt: skip
OF_SAMPLES = {"num_negative": 20, "optimizer": "adagrad"}
LOSSES: dict[str, dict[str, Any]] = {
    "negative-sampling": OF_SAMPLES | {"loss": "negative-sampling", "noise_exponent": 1.0},
    "nce": OF_SAMPLES | {"loss": "nce", "noise_exponent": 1.0},
    "nce, noise_exponent=0": OF_SAMPLES | {"loss": "nce"},
    "softmax": OF_SOFTMAX,
    **{
        f"softmax, self_normalization={weight:g}": OF_SOFTMAX | {"self_normalization": weight}
        for weight in (0.01, 0.1, 1)
    },
    "the same, normalized_share=0.1": OF_SOFTMAX
    | {"self_normalization": 1.0, "normalized_share": 0.1},
}
LOSS_DIM = 64
# Epochs and learning rates, by optimiser.
EPOCHS, RATES = {"adam": 60, "adagrad": 10}, {"adam": 0.005, "adagrad": 0.4}
HEAD_OF_LOSSES = ("loss", "mean of log Z", "variance", "held-out loss", "without log Z", "seconds")


# ---------------------------------------------------------------------- speed


def train_model(num_item: int, num_itemset: int, dim: int) -> ig.UnsupervisedTask:
    """Train a model for a short while, and return the task of some itemsets."""
    items = zipf_items(num_item, ITEMSET_LENGTH * num_itemset)
    offsets = np.arange(0, len(items) + 1, ITEMSET_LENGTH)
    syn0, syn1 = ig.initialize_syn(num_item, dim, seed=1), ig.initialize_syn(num_item, dim, "zero")
    task = ig.UnsupervisedTask(
        items, offsets, syn0, syn1, loss="nce", pooling="mean", device="cpu", seed=1
    )
    ig.train(task, num_epoch=2, progress=False)
    return task


def multiply(queries: np.ndarray, rows: np.ndarray, height: int, width: int) -> None:
    """Multiply two matrices as NumPy does, on all cores, a tile of the product at a time."""
    height, width = min(height, len(queries)), min(width, len(rows))
    room = np.empty(height * width, dtype=np.float32)
    for first in range(0, len(queries), height):
        some = queries[first : first + height]
        for start in range(0, len(rows), width):
            part = rows[start : start + width]
            out = room[: len(some) * len(part)].reshape(len(some), len(part))
            np.matmul(some, part.T, out=out)


def clock(function: Callable[[], Any]) -> tuple[float, float, float]:
    """Return seconds of wall and of CPU time, and the bytes that it took at most."""
    memory = HostMemory()
    before, wall, cpu = memory.reset(), time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu, memory.read() - before


def measure_speed(
    num_item: int, num_itemset: int, dim: int, repeat: int
) -> list[tuple[str, float, float, float]]:
    """Return a row for each way: its name, and medians of wall and CPU time, and memory."""
    task = train_model(num_item, num_itemset, dim)
    bounds = np.arange(0, len(task.items) + 1, ITEMSET_LENGTH)
    queries = ig.pool_rows(task.syn0, task.items, bounds)
    ways: dict[str, Callable[[], Any]] = {
        "`log_partition(task)`": lambda: ig.log_partition(task),
        "`log_partition(vectors, syn1)`": lambda: ig.log_partition(queries, task.syn1),
    }
    for height, width in TILES:
        name = f"NumPy, tiles of {height:,} x {width:,}"
        ways[name] = lambda h=height, w=width: multiply(queries, task.syn1, h, w)
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    with threadpool_limits(task._backend.num_threads):
        for turn in range(repeat + 1):
            for name, way in ways.items():
                result = clock(way)
                if turn:  # the first one compiles
                    taken[name].append(result)
    return [
        (name, *(statistics.median(values) for values in zip(*results, strict=True)))
        for name, results in taken.items()
    ]


def show_speed(rows: list[tuple[str, float, float, float]]) -> list[tuple[str, ...]]:
    """Return lines of the table, over the faster of NumPy's ways."""
    walls, cpus = ([row[place] for row in rows if row[0].startswith("NumPy")] for place in (1, 2))
    shown = []
    for name, wall, cpu, memory in rows:
        ratios = wall / min(walls), cpu / min(cpus)
        texts = [f"{ratio:.2f}" for ratio in ratios]
        if name.startswith("`"):
            texts = [
                f"{t} ({TIME} {tick(TIME.is_met(r))})" for t, r in zip(texts, ratios, strict=True)
            ]
        shown.append(say(name, f"{wall:.2f}", f"{cpu:.2f}", *texts, f"{memory / MIB:.0f}"))
    return shown


# --------------------------------------------------------------------- losses


def held_out(ranking: Ranking) -> Packed:
    """Return baskets that are no part of the training, whole."""
    rows = [np.append(a, b) for a, b in zip(ranking.history, ranking.truth, strict=True)]
    lengths = np.array([len(row) for row in rows])
    return Packed(np.concatenate(rows).astype(np.int32), np.append(0, np.cumsum(lengths)))


def measure_loss(
    ranking: Ranking, options: dict[str, Any], num_epoch: int | None
) -> tuple[float, ...]:
    """Train a model; return mean and variance of log Z, both losses, and seconds."""
    num_item = ranking.num_item
    syn0 = ig.initialize_syn(num_item, LOSS_DIM, seed=1)
    syn1 = ig.initialize_syn(num_item, LOSS_DIM, "zero")
    common = {"pooling": "mean", "device": "cpu", "seed": 1}
    train, test = ranking.train, held_out(ranking)
    task = ig.UnsupervisedTask(train.items, train.offsets, syn0, syn1, **common, **options)
    began = time.perf_counter()
    rate, epochs = RATES[options["optimizer"]], num_epoch or EPOCHS[options["optimizer"]]
    ig.train(task, num_epoch=epochs, initial_learning_rate=rate, progress=False)
    seconds = time.perf_counter() - began
    log_z = ig.log_partition(
        ig.UnsupervisedTask(test.items, test.offsets, syn0, syn1, **common, loss="softmax")
    )
    return log_z.mean(), log_z.var(), *losses_of(test, syn0, syn1), seconds


def losses_of(test: Packed, syn0: np.ndarray, syn1: np.ndarray) -> tuple[float, float]:
    """Return the mean loss of each item by the others of its basket, with log Z and without."""
    total, without = 0.0, 0.0
    for row in test:
        others = (syn0[row].sum(axis=0) - syn0[row]) / np.float32(len(row) - 1)
        log_z = ig.log_partition(others, syn1, num_threads=1)
        scores = np.einsum("ij,ij->i", others, syn1[row])
        total, without = total + (log_z - scores).sum(), without - scores.sum()
    return total / len(test.items), without / len(test.items)


def show_loss(name: str, values: tuple[float, ...]) -> tuple[str, ...]:
    """Return a line of the table."""
    *found, seconds = values
    return say(name, *(f"{value:.3f}" for value in found), f"{seconds:.0f}")


def main(args: list[str] | None = None) -> None:
    parser = make_parser("partition", __doc__)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--parts", nargs="+", default=("speed", "losses"))
    parser.add_argument("--items", type=int, default=NUM_ITEM)
    parser.add_argument("--itemsets", type=int, default=NUM_ITEMSET)
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="by default 60 of a softmax, else 10")
    options = parser.parse_args(args)
    lines: list[str] = []
    if "speed" in options.parts:
        lines += speed_part(options)
    if "losses" in options.parts:
        if options.data is None:
            parser.error("--data is needed for the losses")
        lines += losses_part(options)
    note = f"`python -m benchmarks.partition`. On {machine('threadpoolctl')}."
    write_whole(options.out / "partition.md", page("The sum over all items", note, lines))


def speed_part(options: argparse.Namespace) -> list[str]:
    """Measure how fast it is had."""
    print(*HEAD, sep=" | ")
    rows = measure_speed(options.items, options.itemsets, options.dim, options.repeat)
    text = (
        f"`log_partition` of {options.itemsets:,} itemsets over {options.items:,} items, "
        f"D = {options.dim}, over NumPy's matrix product of the same shape, the faster way; "
        f"medians of {options.repeat} turns. NumPy's tiles are overwritten, ours are added up. "
        f"With a load average of {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores: where that "
        "is more, CPU time is what compares."
    )
    return ["## Speed", "", text, "", *table(HEAD, show_speed(rows)), ""]


def losses_part(options: argparse.Namespace) -> list[str]:
    """Measure how far losses normalise themselves."""
    ranking = online_retail(options.data)
    print(*HEAD_OF_LOSSES, sep=" | ")
    rows = [
        show_loss(name, measure_loss(ranking, how, options.epochs)) for name, how in LOSSES.items()
    ]
    of_softmax, of_samples = (options.epochs or EPOCHS[name] for name in ("adam", "adagrad"))
    text = (
        f"Online Retail: {len(ranking.train):,} baskets train, {len(ranking.truth):,} are held "
        f"out; {ranking.num_item:,} items, D = {LOSS_DIM}, dot products of means; {of_softmax} "
        "epochs of a softmax, which predicts half of the items of a basket from the others, and "
        f"{of_samples} of sampled losses, with 20 negatives drawn as items occur, or all alike "
        "(`noise_exponent=0`): their scores estimate PMI (negative sampling) and log-probabilities "
        "(NCE). Held-out loss: of each item "
        "by the others of its basket, `log Z - s`; without log Z, `-s`, which is the same where "
        "scores are normalised by themselves, and says nothing where they are not. Rows that are "
        "hardly ever drawn as negatives keep scores near 0, each of which adds 1 to Z. A weak "
        "penalty moves the mean of log Z first, by vectors of many lengths, and its variance may "
        "rise before it falls."
    )
    return ["## Losses", "", text, "", *table(HEAD_OF_LOSSES, rows)]


if __name__ == "__main__":
    main()

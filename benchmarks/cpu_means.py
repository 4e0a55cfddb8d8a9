"""What shared negatives gain where the left side is the mean of an itemset, on the CPU.

    python -m benchmarks.cpu_means    # about 5 minutes

Epochs with `negative_sharing=8` and without take turns in one run, and their medians are compared:
machines are noisy, so what counts is the ratio. What is learned is compared by the loss of a new
epoch, with negatives of its own for each pair and no learning rate, after both have trained as many
epochs. Writes ``cpu_means.md`` beside this file.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks.common.catalogs import uniform_tables, zipf_items
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole

NUM_LABEL, DIM, NUM_ITEM = 40_000, 128, 150_000
# Added to the rank, as Mandelbrot did.
ZIPF_OFFSET = 9
SHARING = 8
THREADS = 2
LENGTHS = (10, 26, 80)
NEGATIVES = (40, 100)
OPTIMIZERS = {"sgd": 0.025, "adagrad": 0.1}  # and their learning rates
TARGET = Target("<=", 0.7)


def make_task(length: int, **options: Any) -> Any:
    """Itemsets of one length, of items of Zipf popularity of one of a hundred kinds."""
    num_itemset = NUM_ITEM // length
    kinds = np.repeat(np.random.default_rng(0).integers(0, 100, num_itemset), length)
    ranks = zipf_items(NUM_LABEL // 100, num_itemset * length, ZIPF_OFFSET)
    return itembed_gpu.UnsupervisedTask(
        (ranks * 100 + kinds).astype(np.int32),
        np.arange(num_itemset + 1) * length,
        *uniform_tables(NUM_LABEL, DIM),
        pooling="mean",
        seed=1,
        num_threads=THREADS,
        **options,
    )


def train_epoch(task: Any, rate: float) -> Any:
    return itembed_gpu.train(
        task, num_epoch=1, initial_learning_rate=rate, final_learning_rate=rate, progress=False
    )


def judge_loss(task: Any, length: int, options: dict[str, Any]) -> float:
    """Loss of what a task has learned, by pairs that share nothing."""
    judge = make_task(length, **options)
    judge.syn0[:], judge.syn1[:] = task.syn0, task.syn1
    return float(train_epoch(judge, 0.0).loss)


def measure(length: int, options: dict[str, Any], repeat: int) -> tuple[str, ...]:
    """Train both in turns, and make a row of the table."""
    rate = OPTIMIZERS[options["optimizer"]]
    tasks = {n: make_task(length, negative_sharing=n, **options) for n in (SHARING, 1)}
    seconds: dict[int, list[float]] = {n: [] for n in tasks}
    for turn in range(repeat + 1):
        for sharing, task in tasks.items():
            epoch = train_epoch(task, rate)
            if turn:  # the first one warms up
                seconds[sharing].append(epoch.seconds)
    shared, apart = (statistics.median(seconds[n]) for n in tasks)
    losses = [judge_loss(task, length, options) for task in tasks.values()]
    ratio = shared / apart
    return say(
        f"{options['optimizer']}, {options['num_negative']} negatives, itemsets of {length}",
        f"{shared:.3f} s",
        f"{apart:.3f} s",
        f"{ratio:.2f}",
        f"{TARGET} {tick(TARGET.is_met(ratio))}",
        f"{losses[0]:.3f}, {losses[1]:.3f}",
    )


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("cpu_means", __doc__)
    parser.add_argument("--repeat", type=int, default=5, help="alternating epochs")
    options = parser.parse_args(arguments)
    head = say("what", "shared", "unshared", "ratio", "target", "loss after, shared and not")
    rows = [
        measure(length, {"num_negative": k, "optimizer": optimizer}, options.repeat)
        for optimizer in OPTIMIZERS
        for k in NEGATIVES
        for length in LENGTHS
    ]
    note = (
        f"`python -m benchmarks.cpu_means`: seconds of an epoch with `negative_sharing={SHARING}` "
        f'over one without, `pooling="mean"`, {NUM_LABEL:,} items, D={DIM}, {THREADS} threads; '
        f"medians of {options.repeat} epochs in turns. The loss is of a new epoch without "
        f"sharing, after {options.repeat + 1} epochs of each. {machine()}."
    )
    title = "Shared negatives where itemsets are pooled, on the CPU"
    write_whole(options.out / "cpu_means.md", page(title, note, table(head, rows)))


if __name__ == "__main__":
    main()

"""GloVe: its objective against that of NumPy, and its speed against another library's.

    python -m benchmarks.glove                  # two cores: some minutes
    python -m benchmarks.glove --device cuda    # one GPU and the cores beside it: some minutes
    python -m benchmarks.glove --cells 60000000 --labels 400000 --device cuda    # as of text

J is the sum over cells of f(x) (u . v + b + c - log x)^2. The oracle trains the same cells in the
same order, one after the other, in NumPy and float64; the ratio is this library's J over its.

Speed is that of whole epochs of `GloveTask` and of `fit` of ``bicleaner-ai-glove``, on one matrix
and with one table, as the other library has it; and of `GloveTask` with two. They take turns.
Cells a second are told by the clock, and by the seconds that the processors were at work for it:
where others use them too, only the latter compare. J is that after as many epochs. The other
library has float64 throughout.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

import itembed_gpu as ig
from benchmarks.common import glove_formula as formula
from benchmarks.common.catalogs import uniform_tables, zipf_items
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from itembed_gpu.objective.schedule import epoch_order, fill_slots

RATE = 0.05
LENGTH = 10  # of an itemset
RATIO, SPEED, SPEED_ON_GPU = Target("<=", 1.01), Target(">=", 2), Target(">=", 50)
# Of the oracle, which is slow.
SMALL = {"num_label": 200, "num_item": 6_000, "dim": 32}
PEER = "bicleaner-ai-glove"


def make_cells(num_label: int, num_item: int) -> ig.CoOccurrences:
    """Count pairs of items of Zipf popularity."""
    items = zipf_items(num_label, num_item - num_item % LENGTH, offset=8)
    return ig.co_occurrences(items, np.arange(0, len(items) + 1, LENGTH), num_label)


def fit(task: ig.GloveTask, num_epoch: int) -> None:
    """Train at the paper's learning rate."""
    rates = {"initial_learning_rate": RATE, "final_learning_rate": RATE}
    ig.train(task, num_epoch=num_epoch, progress=False, **rates)


# --- J


@numba.njit
def slots_of(order: Any) -> Any:
    """Return the cells of an epoch in the order of training."""
    count = np.int64(order[0])
    slots, pending = np.empty(count, np.uint64), np.empty(count, np.int32)
    fill_slots(order, 0, count, slots, pending)
    return slots.astype(np.int64)


def compare_objective(num_epoch: int, num_threads: int, device: str, **size: int) -> float:
    """Return J after some epochs over that of the oracle."""
    cells = make_cells(size["num_label"], size["num_item"])
    sides, num_cell = cells[:3], len(cells.counts)
    tables = uniform_tables(size["num_label"], size["dim"])
    expected = formula.Model(*tables)
    task = ig.GloveTask(*sides, *tables, seed=1, num_threads=num_threads, device=device)
    orders = [slots_of(epoch_order(1, 0, epoch, num_cell)) for epoch in range(num_epoch)]
    formula.train(expected, sides, RATE, orders)
    fit(task, num_epoch)
    got = formula.Model(*tables, task.biases)
    return formula.objective(got, *sides) / formula.objective(expected, *sides)


# --- speed


class Run(NamedTuple):
    """Some epochs: by the clock, by the processors, and J after them."""

    seconds: float
    busy: float
    loss: float


def clock(train: Callable[[], Any]) -> tuple[float, float]:
    """Call what trains, and return seconds by the clock and by the processors."""
    began = time.perf_counter(), time.process_time()
    train()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def mean_loss(cells: ig.CoOccurrences, tables: list[Any], biases: Any) -> float:
    """Return the mean over cells of the terms of J, of a sample of them."""
    some = slice(None, None, max(1, len(cells.counts) // 1_000_000))
    sides = [side[some] for side in cells[:3]]
    return formula.objective(formula.Model(*tables, biases), *sides) / len(sides[0])


def run_ours(
    cells: ig.CoOccurrences, dim: int, num_epoch: int, num_threads: int, device: str, one: bool
) -> Run:
    """Train with this library, with one table or two."""
    tables = uniform_tables(cells.num_label, dim)
    if one:
        tables[1] = tables[0]
    task = ig.GloveTask(*cells[:3], *tables, seed=1, num_threads=num_threads, device=device)
    task._prepare()  # compiles
    seconds = clock(lambda: fit(task, num_epoch))
    return Run(*seconds, mean_loss(cells, tables, task.biases))


def run_theirs(cells: ig.CoOccurrences, dim: int, num_epoch: int, num_threads: int) -> Run:
    """Train with the other library."""
    from glove import Glove
    from scipy.sparse import coo_matrix

    shape = cells.num_label, cells.num_label
    matrix = coo_matrix((cells.counts.astype(np.float64), (cells.left, cells.right)), shape=shape)
    model = Glove(no_components=dim, learning_rate=RATE, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = clock(lambda: model.fit(matrix, epochs=num_epoch, no_threads=num_threads))
    tables = [model.word_vectors] * 2
    return Run(*seconds, mean_loss(cells, tables, [model.word_biases] * 2))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("glove", __doc__)
    parser.add_argument("--device", default="cpu", help="of this library [cpu]")
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=500_000, help="occurrences, before counting")
    parser.add_argument("--cells", type=int, help="cells to keep, at most [all]")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    on_gpu = options.device != "cpu"

    rows = []
    head = say("epochs", "threads", "J over the oracle's", "target")
    for threads in (1,) if on_gpu else (1, 2):
        ratio = compare_objective(25, threads, options.device, **SMALL)
        rows.append(say(25, threads, f"{ratio:.5f}", f"{RATIO} {tick(RATIO.is_met(ratio))}"))
    objective = table(head, rows)

    cells = make_cells(options.labels, options.items)
    if options.cells:
        cells = first_cells(cells, options.cells)
    head = say(
        "library", "tables", "threads", "Mcell/s", "Mcell/s of a busy core", "mean loss", "ratio"
    )
    rows = []
    for threads in options.threads:
        rows += compare_speed(cells, options, threads, SPEED_ON_GPU if on_gpu else SPEED)
    note = (
        f"`python -m benchmarks.glove {' '.join(given)}`: objective and speed of GloVe, "
        f"learning rate {RATE}. The oracle in NumPy: {SMALL['num_label']} labels, dimension "
        f"{SMALL['dim']}, two tables. Speed: {len(cells.counts):,} cells of {cells.num_label:,} "
        f"labels, dimension {options.dim}; medians over rounds ({options.repeat}) of "
        f"{options.epochs} epochs, in turns. The ratio is that of the speeds of a busy core, of a "
        "GPU those by the clock; the last column but one is the mean of the terms of J after the "
        "training. "
        f"{machine(PEER)}."
    )
    name = "glove_gpu.md" if on_gpu else "glove.md"
    write_whole(options.out / name, page("GloVe", note, objective, table(head, rows)))


def first_cells(cells: ig.CoOccurrences, num_cell: int) -> ig.CoOccurrences:
    """Keep so many cells, drawn at random."""
    kept = np.random.default_rng(0).permutation(len(cells.counts))[:num_cell]
    return ig.CoOccurrences(*(side[kept] for side in cells[:3]), cells.num_label)


def compare_speed(
    cells: ig.CoOccurrences, options: Any, threads: int, target: Target
) -> list[tuple[str, ...]]:
    """Return the rows of a number of threads."""
    dim, epochs, device = options.dim, options.epochs, options.device
    runs: dict[tuple[str, int], list[Run]] = {
        (PEER, 1): [], ("itembed_gpu", 1): [], ("itembed_gpu", 2): [],
    }  # fmt: skip
    for _ in range(options.repeat):
        runs[PEER, 1].append(run_theirs(cells, dim, epochs, threads))
        for one in (True, False):
            run = run_ours(cells, dim, epochs, threads, device, one)
            runs["itembed_gpu", 2 - one].append(run)
    rows, work = [], len(cells.counts) * epochs / 1e6
    medians = {key: Run(*np.median(values, axis=0)) for key, values in runs.items()}
    peer = medians[PEER, 1]
    for (library, tables), run in medians.items():
        by_clock = device != "cpu"
        ratio = peer.seconds / run.seconds if by_clock else peer.busy / run.busy
        told = "1" if library == PEER else f"{ratio:.1f}"
        if (library, tables) == ("itembed_gpu", 1):
            told += f" (target {target} {tick(target.is_met(ratio))})"
        rows.append(
            say(
                library, tables, threads, f"{work / run.seconds:.2f}", f"{work / run.busy:.2f}",
                f"{run.loss:.4g}", told,
            )
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()

"""What ours learns, against other systems: recommendation and labelling on real data.

    python -m benchmarks.quality DATA                        # everything: hours
    python -m benchmarks.quality DATA --dataset gowalla --system ALS itembed
    python -m benchmarks.quality DATA --system ours --validation --set learning_rate=0.1
    python -m benchmarks.quality DATA --quick                # does it run? writes nothing

DATA is a folder with ``online_retail/``, ``gowalla/``, ``cooking/`` and ``bibtex/``, in the
forms that `benchmarks.datasets` reads. Every system is asked the same queries. Runs replace
the rows of their data set and system in ``results/quality.json``, so that long ones can be
done in pieces; then ``quality.md`` and ``quality.png`` are made of all rows.

With --validation the training part alone is split, nothing is written, and settings can be
chosen without a look at the queries that count.

Time is that of training alone, on the wall; with --cpu-time and --threads 1 it is that of the
processor, which other work on the machine does not stretch. A curve is one training, looked
at along its way (the learning rate still high), on at most 5,000 of the queries.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from benchmarks.common.machine import machine
from benchmarks.common.plots import picture
from benchmarks.common.report import make_parser, page, table, write_whole
from benchmarks.datasets import DATASETS, Dataset, Packed, validation
from benchmarks.ours import ours, ours_by_default
from benchmarks.peers import PEERS, LeftOut, Peer, Scorer, Scorers, Watch, find_missing
from itembed_gpu import available_backends, metrics

ON_GPU = ("ours, GPU", "ours, quick, GPU")
BY_DEFAULT = "ours, no argument"
OURS = (
    *("ours", "ours, sampled", "ours, quick", "ours, large", "ours, all places", "ours, added up"),
    *ON_GPU,
)
SYSTEMS: dict[str, Peer] = {
    **dict.fromkeys(OURS, ours),
    BY_DEFAULT: ours_by_default,
    **PEERS,
    "ALS, no argument": PEERS["ALS"],
}
DETERMINISTIC = {"popularity", "item-kNN", "EASE", "logistic regression"}

TITLES = {
    "online_retail": "Online Retail: the hidden item of a later basket",
    "gowalla": "Gowalla: a user's other places",
    "cooking": "Cooking: tags of a question",
    "bibtex": "Bibtex: tags of an entry",
}

# Metrics of each data set, the main one first.
PRECISIONS = (("P", 1), ("P", 3), ("P", 5))
METRICS = {
    "online_retail": (("HR", 10), ("NDCG", 10), ("HR", 20)),
    "gowalla": (("Recall", 20), ("NDCG", 20)),
    "cooking": PRECISIONS,
    "bibtex": PRECISIONS,
}

# What the settings of several have in common. Ours were chosen on `--validation` as well, by
# hand among some dozens of settings a data set.
POOLED = {
    "pooling": "mean",
    "optimizer": "adagrad",
    "learning_rate": 0.3,
    "dim": 128,
    "num_negative": 20,
}
# For large catalogs: with many negatives, noise close to uniform, and l2.
POOLED_UNIFORMLY = {
    **POOLED,
    "learning_rate": 0.6,
    "num_epoch": 30,
    "num_negative": 100,
    "noise_exponent": 0.25,
    "l2": 0.001,
}
# Models of items one by one, and of whole itemsets, whose scores are added.
ADDED_UP = {
    **POOLED_UNIFORMLY,
    "dim": 256,
    "popularity": -0.2,
    "beside": [
        {
            "kind": "items",
            "weight": 1.0,
            "optimizer": "adagrad",
            "learning_rate": 0.4,
            "dim": 128,
            "num_epoch": 60,
            "num_negative": 100,
            "negative_sharing": 16,
            "l2": 0.001,
        },
        {
            "kind": "itemsets",
            "weight": 0.4,
            "optimizer": "adagrad",
            "learning_rate": 0.4,
            "dim": 128,
            "num_epoch": 40,
            "num_negative": 100,
            "negative_sharing": 8,
            "noise_exponent": 0.25,
            "l2": 0.002,
        },
    ],
}
# A softmax over all items, or labels, or over a sample of them.
SOFTMAX = {
    "loss": "softmax",
    "pooling": "mean",
    "similarity": "cosine",
    "optimizer": "adam",
    "learning_rate": 0.01,
    "schedule": "cosine",
    "batch_size": 256,
}
# What reaches ALS's metrics soonest, on a core.
QUICKLY = {
    **SOFTMAX,
    "dim": 64,
    "num_epoch": 5,
    "num_negative": 4096,
    "optimizer": "adagrad",
    "learning_rate": 0.4,
    "first_length": 1.0,
    "dropout": 0.1,
    "sum_scale": 1.1,
    "reject_itemset": True,
}
# All of 40,981 items, for a card (or for the night): as the paper of the bilateral softmax has it.
ALL_PLACES = {
    **SOFTMAX,
    "dim": 512,
    "num_epoch": 60,
    "learning_rate": 0.002,
    "batch_size": 1024,
    "temperature": 0.08,
    "dropout": 0.3,
    "sum_scale": 1.25,
}
# ALS as it is without arguments.
NO_ARGUMENT = {"dim": 100, "l2": 0.01, "alpha": 1.0, "num_epoch": 15}
LABELS = {**SOFTMAX, "dim": 256, "num_epoch": 8, "temperature": 0.13, "reject_itemset": True}
# Settings of each data set's systems: a system that is not listed does not run on it.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "online_retail": {
        "ours": {
            **SOFTMAX,
            "dim": 256,
            "num_epoch": 12,
            "temperature": 0.07,
            "dropout": 0.2,
            "reject_itemset": True,
            "sharpness": 4.0,
        },
        "ours, sampled": {**POOLED, "dim": 256, "num_epoch": 40},
        BY_DEFAULT: {},
        "ALS, no argument": NO_ARGUMENT,
        "popularity": {},
        "item-kNN": {"num_neighbour": 20},
        "EASE": {"l2": 20.0},
        "ALS": {"dim": 512, "l2": 20.0, "alpha": 10.0, "num_epoch": 10},
        "BPR": {"dim": 64, "learning_rate": 0.05, "num_epoch": 300},
        "itembed": {"num_epoch": 100, "learning_rate": 0.025},
        "Word2Vec": {"num_epoch": 20, "learning_rate": 0.05, "window": 5},
    },
    "gowalla": {
        "ours": {
            **SOFTMAX,
            "dim": 128,
            "num_epoch": 12,
            "num_negative": 4096,
            "temperature": 0.1,
            "dropout": 0.1,
            "sum_scale": 1.1,
            "reject_itemset": True,
        },
        "ours, sampled": {
            "optimizer": "adagrad",
            "learning_rate": 0.5,
            "num_epoch": 30,
            "num_negative": 40,
            "negative_sharing": 8,
            "popularity": -0.2,
            "history_power": -0.5,
        },
        "ours, large": {**ALL_PLACES, "num_negative": 4096, "reject_itemset": True},
        "ours, all places": ALL_PLACES,
        "ours, added up": ADDED_UP,
        "ours, quick": QUICKLY,
        BY_DEFAULT: {},
        "ours, GPU": ALL_PLACES,
        "ours, quick, GPU": {**ALL_PLACES, "num_epoch": 30, "learning_rate": 0.004},
        "ALS, no argument": NO_ARGUMENT,
        "popularity": {},
        "item-kNN": {"num_neighbour": 1000},
        "EASE": {"l2": 200.0},
        "ALS": {"dim": 128, "l2": 20.0, "alpha": 10.0, "num_epoch": 10},
        "BPR": {"dim": 64, "num_epoch": 200},
        "itembed": {"num_epoch": 40},
        "Word2Vec": {"num_epoch": 20, "learning_rate": 0.05, "window": 5},
    },
    "cooking": {
        "ours": {**LABELS, "dropout": 0.1},
        BY_DEFAULT: {},
        "popularity": {},
        "itembed": {"num_epoch": 25, "learning_rate": 0.05},
        "logistic regression": {"c": 3.0},
    },
    "bibtex": {
        "ours": {**LABELS, "batch_size": 64, "learning_rate": 0.005, "dropout": 0.2},
        BY_DEFAULT: {},
        "popularity": {},
        "itembed": {"num_epoch": 25, "learning_rate": 0.05},
        "logistic regression": {"c": 0.3},
    },
}
# What trains within seconds on the CPU is the same on a card.
for _settings in SETTINGS.values():
    _settings.setdefault("ours, GPU", _settings["ours"])

# Figures of others: data set, system, where from, and its metrics in the order of `METRICS`.
BARS = "published: BARS leaderboard"
EARLIER = "measured earlier, one run"
FASTTEXT = "published: fastText's tutorial"
PUBLISHED: tuple[tuple[str, str, str, tuple[float | None, ...]], ...] = (
    ("gowalla", "Item2Vec", BARS, (0.1326, 0.1057)),
    ("gowalla", "ItemCF", BARS, (0.1570, 0.1214)),
    ("gowalla", "MF-BPR", BARS, (0.1627, 0.1378)),
    ("gowalla", "EASE", BARS, (0.1765, 0.1467)),
    ("gowalla", "LightGCN", BARS, (0.1820, 0.1547)),
    ("gowalla", "LightGCN", "published: its paper", (0.1830, 0.1554)),
    ("gowalla", "UltraGCN", BARS, (0.1862, 0.1580)),
    ("gowalla", "SimpleX", BARS, (0.1872, 0.1557)),
    ("gowalla", "itembed, 300 epochs, dot", EARLIER, (0.1625, 0.1381)),
    ("gowalla", "itembed, 300 epochs, 20 negatives, dot", EARLIER, (0.1670, 0.1421)),
    ("gowalla", "BPR, 1,000 epochs", EARLIER, (0.0930, 0.0666)),
    ("cooking", "fastText, 25 epochs", FASTTEXT, (0.501, None, None)),
    ("cooking", "fastText, learning rate 1", FASTTEXT, (0.585, None, None)),
    ("cooking", "fastText, bigrams", FASTTEXT, (0.599, None, None)),
    ("bibtex", "SLEEC", "published: its paper", (0.653, 0.397, 0.289)),
    ("bibtex", "fastText, one-vs-all", EARLIER, (0.552, 0.325, 0.244)),
    ("bibtex", "fastText, negative sampling", EARLIER, (0.513, 0.295, 0.221)),
)

# Queries that are scored at once, and queries of a look along the way.
BLOCK = 512
LOOK_QUERIES = 5_000
QUICK_STEP, QUICK_BUDGET = 50, 0.02


# Values of metrics, by names as "HR@10"; and what is stored of one of them.
Values = dict[str, float]
Row = dict[str, Any]

# What takes less is drawn as a line across the picture.
MIN_SECONDS = 0.05


# --- ranking ----------------------------------------------------------------


@njit(cache=True)
def insert(score, item, kept, ranked):
    """Keep an item behind those with an equal or higher score; the last one falls out."""
    position = len(kept) - 1
    if not score > kept[position]:
        return
    while position and score > kept[position - 1]:
        kept[position] = kept[position - 1]
        ranked[position] = ranked[position - 1]
        position -= 1
    kept[position] = score
    ranked[position] = item


@njit(cache=True)
def rank_rows(scores, late, late_offsets, num_ranked):
    """The best columns of each row, -1 where there are no more above -inf; late ones lose ties.

    Late columns of a row become -inf and are inserted when all others are in.
    """
    ranked = np.full((len(scores), num_ranked), -1, dtype=np.int32)
    for row in range(len(scores)):
        kept = np.full(num_ranked, -np.inf, dtype=np.float32)
        columns = late[late_offsets[row] : late_offsets[row + 1]]
        own = scores[row][columns]
        for column in columns:
            scores[row, column] = -np.inf
        for column in range(scores.shape[1]):
            if scores[row, column] > kept[-1]:
                insert(scores[row, column], column, kept, ranked[row])
        for i in range(len(columns)):
            insert(own[i], columns[i], kept, ranked[row])
    return ranked


def rank(
    scorer: Scorer, truth: Packed, masked: Packed | None, num_ranked: int, step: int = 1
) -> np.ndarray:
    """The best items of each query: masked ones left out, and ties lost by those to be found.

    Every so many queries (`step`) are answered. Returns int32, (query, num_ranked), best first;
    -1 where there are no more.
    """
    parts = [np.empty((0, num_ranked), dtype=np.int32)]
    for start in range(0, len(truth), BLOCK * step):
        queries = slice(start, min(start + BLOCK * step, len(truth)), step)
        block = np.array(scorer.scores(queries), dtype=np.float32, order="C")  # a copy
        if not np.isfinite(block).all():
            raise ValueError(f"scores of queries {start} and on are not finite")
        if masked is not None:
            hidden = masked.take(queries)
            block[np.repeat(np.arange(len(block)), hidden.lengths), hidden.items] = -np.inf
        late = truth.take(queries)
        parts.append(rank_rows(block, late.items, late.offsets, num_ranked))
    return np.concatenate(parts)


# --- metrics ----------------------------------------------------------------

FORMULAS: dict[str, Callable[..., np.ndarray]] = {
    "HR": metrics.hit_rate,
    "Recall": metrics.recall,
    "P": metrics.precision,
    "NDCG": metrics.ndcg,
}


def evaluate(scorer: Scorer, data: Dataset, step: int = 1) -> Values:
    """The data set's metrics: means over its queries, or over every so many of them."""
    asked = METRICS[data.name]
    ranked = rank(scorer, data.truth, data.masked, max(k for _, k in asked), step)
    truth = data.truth.take(slice(None, None, step))
    return {
        f"{name}@{k}": float(FORMULAS[name](ranked, (truth.items, truth.offsets), k).mean())
        for name, k in asked
    }


# --- runs -------------------------------------------------------------------


@dataclass
class Run:
    """What one training gave."""

    values: dict[str, Values]  # the data set's metrics, by name of the score
    seconds: float  # of training
    ran_on: str  # device and threads
    # Points (seconds, metrics) along the way, by name of the score; empty where nobody looked.
    curves: dict[str, list[tuple[float, Values]]]


@dataclass(frozen=True)
class Plan:
    """How systems are run."""

    num_seed: int = 3  # trainings of a system that depends on chance
    budget: float = 1.0  # factor of the epochs
    step: int = 1  # every so many queries are asked
    num_threads: int = 1  # as in `Watch`
    device: str = "cpu"
    cpu_time: bool = False  # seconds are those of the processor, and not on the wall
    # Settings that take the place of those of the table.
    extra: dict[str, Any] = field(default_factory=dict)

    def settings(self, dataset: str, system: str) -> dict[str, Any]:
        """What a system is called with."""
        settings = {**SETTINGS[dataset][system], **self.extra}
        if "num_epoch" in settings:
            settings["num_epoch"] = max(1, round(settings["num_epoch"] * self.budget))
        return settings


def run_once(system: str, data: Dataset, seed: int, plan: Plan, watched: bool) -> Run:
    """Train a system once, and evaluate it; `watched` looks at it along the way as well."""
    curves: dict[str, list[tuple[float, Values]]] = {}
    look_step = max(plan.step, -(-len(data.truth) // LOOK_QUERIES))

    def see(seconds: float, scorers: Scorers) -> None:
        for score, scorer in scorers.items():
            values = evaluate(scorer, data, look_step)
            curves.setdefault(score, []).append((seconds, values))

    watch = Watch(
        plan.num_threads,
        "cuda" if system in ON_GPU else plan.device,
        seen=see if watched else None,
        clock=time.process_time if plan.cpu_time else time.perf_counter,
    )
    scorers = SYSTEMS[system](data, seed, watch, **plan.settings(data.name, system))
    seconds = watch.stop()
    if curves and next(iter(curves.values()))[-1][0] < 0.99 * seconds:
        see(seconds, scorers)  # unless the last look was at the end
    values = {score: evaluate(scorer, data, plan.step) for score, scorer in scorers.items()}
    ran_on = watch.ran_on + ", CPU time" * plan.cpu_time
    return Run(values, seconds, ran_on, curves)


def run_system(system: str, data: Dataset, plan: Plan) -> list[Row]:
    """Train a system with each seed, and make its rows."""
    num_seed = 1 if system in DETERMINISTIC else plan.num_seed
    try:
        with quiet_threads(plan.num_threads):
            runs = [run_once(system, data, seed, plan, seed == 0) for seed in range(num_seed)]
    except LeftOut as reason:
        return [{"dataset": data.name, "system": system, "left_out": str(reason)}]
    settings = plan.settings(data.name, system)
    return [
        make_row(system, data.name, score, name, runs, settings)
        for score in runs[0].values
        for name in runs[0].values[score]
    ]


def make_row(
    system: str, dataset: str, score: str, name: str, runs: list[Run], settings: dict[str, Any]
) -> Row:
    """What is stored of one metric of one score: the mean over seeds, and their spread."""
    values = [run.values[score][name] for run in runs]
    metric, _, k = name.partition("@")
    return {
        "dataset": dataset,
        "system": system,
        "score": score,
        "metric": metric,
        "k": int(k),
        "mean": statistics.mean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
        "seconds": statistics.median(run.seconds for run in runs),
        "device": runs[0].ran_on,
        "settings": ", ".join(f"{key}={value}" for key, value in settings.items()),
        "curve": [
            [round(seconds, 3), round(seen[name], 5)]
            for seconds, seen in runs[0].curves.get(score, [])
        ],
        "machine": machine(),
    }


@contextlib.contextmanager
def quiet_threads(num_threads: int) -> Iterator[None]:
    """Hold the threads of linear algebra down to as many, where the package for it is there."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(num_threads):
        yield


# --- the stored rows --------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """Stored rows; none where there is no file yet."""
    if not path.exists():
        return []
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def merge_rows(old: list[Row], new: list[Row]) -> list[Row]:
    """Rows of a data set and system that was run again take the place of its old ones."""
    again = {(row["dataset"], row["system"]) for row in new}
    kept = [row for row in old if (row["dataset"], row["system"]) not in again]
    places = [list(DATASETS), list(SYSTEMS)]

    def place(row: Row) -> list[int]:
        names = (row["dataset"], row["system"])
        return [
            known.index(name) if name in known else len(known)
            for known, name in zip(places, names, strict=True)
        ]

    return sorted(kept + new, key=place)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the rows, one a line, or leave the file as it was."""
    what = "What benchmarks/quality.py measured; `python -m benchmarks.quality --help`."
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_whole(path, f'{{"what": {json.dumps(what)}, "rows": [\n{lines}\n]}}\n')


# --- tables -----------------------------------------------------------------


# The main metric of a line of a table, and its cells: name, metrics, seconds, device, settings.
Line = tuple[float, tuple[str, ...]]


def name_of(row: Row) -> str:
    return f"{row['system']}, {row['score']}" if row["score"] else row["system"]


def with_spread(row: Row) -> str:
    """The mean, and how much seeds differ."""
    spread = "" if row["spread"] is None else f" ± {row['spread']:.4f}"
    return f"{row['mean']:.4f}{spread}"


def measured_lines(dataset: str, rows: list[Row]) -> list[Line]:
    """A line for each score of each system that was run."""
    grouped: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["dataset"] == dataset and "left_out" not in row:
            grouped.setdefault(name_of(row), {})[f"{row['metric']}@{row['k']}"] = row
    main = "{}@{}".format(*METRICS[dataset][0])
    lines = []
    for name, by_metric in grouped.items():
        first = by_metric[main]
        values = [
            with_spread(by_metric[f"{metric}@{k}"]) if f"{metric}@{k}" in by_metric else ""
            for metric, k in METRICS[dataset]
        ]
        device = f"{first['device']}; {first['seeds']} run{'s' * (first['seeds'] > 1)}"
        seconds = f"{first['seconds']:.3g}"
        lines.append((first["mean"], (name, *values, seconds, device, first["settings"])))
    return lines


def published_lines(dataset: str) -> list[Line]:
    """A line for each figure of others."""
    lines = []
    for where, system, source, values in PUBLISHED:
        if where == dataset:
            shown = ("" if value is None else f"{value:.4f}" for value in values)
            lines.append((values[0] or 0.0, (f"*{system}*", *shown, "", f"*{source}*", "")))
    return lines


def make_table(dataset: str, rows: list[Row]) -> list[str]:
    """A data set's table, the best first."""
    head = ("system", *(f"{m}@{k}" for m, k in METRICS[dataset]), "seconds", "on", "settings")
    found = measured_lines(dataset, rows) + published_lines(dataset)
    cells = [cells for _, cells in sorted(found, key=lambda line: -line[0])]
    lines = [f"## {TITLES[dataset]}", "", *table(head, cells)]
    left_out = [row for row in rows if row["dataset"] == dataset and "left_out" in row]
    if left_out:
        lines += ["", *(f"{row['system']} is left out: {row['left_out']}." for row in left_out)]
    return lines


def curve_of(row: Row) -> list[tuple[float, float]]:
    """Seconds and values along a row's way; its end alone where nobody looked."""
    if not row["curve"] or not row["curve"][-1][1]:
        return [(row["seconds"], row["mean"])]
    # Looks are at some of the queries alone: their ratio to the last look is what counts.
    factor = row["mean"] / row["curve"][-1][1]
    return [(seconds, value * factor) for seconds, value in row["curve"]]


def compare_defaults(rows: list[Row]) -> list[str]:
    """What estimators reach with no argument, beside the best of ours in no more time than that."""
    lines = []
    for dataset in DATASETS:
        found = {row["system"]: row for row in main_rows(dataset, rows)}
        row, als = found.get(BY_DEFAULT), found.get("ALS, no argument")
        if row is None:
            continue
        points = [
            (value, name_of(other))
            for other in main_rows(dataset, rows)
            if other["system"] in OURS and other["system"] not in ON_GPU
            for seconds, value in curve_of(other)
            if seconds <= 1.05 * row["seconds"]
        ]
        best, name = max(points, default=(row["mean"], ""))
        cells = [dataset, f"{row['mean']:.4f}", f"{row['seconds']:.3g}", "", ""]
        if als is not None:
            cells[3:] = f"{als['mean']:.4f}", f"{row['seconds'] / als['seconds']:.2f}"
        lines.append((*cells, f"{best:.4f}", name, f"{row['mean'] / best:.3f}"))
    head = ("data", "ours, no argument", "seconds", "ALS, no argument", "seconds over ALS's")
    head += ("best of ours in this time", "which", "over the best")
    note = "The best of ours: of all rows and looks along their way, in at most 5 % more time."
    return ["## With no argument", "", note, "", *table(head, lines)]


NOTE = """\
`python -m benchmarks.quality DATA`: all systems answer the same queries. Means over runs with
other seeds, ± their standard deviation; systems without chance run once. Seconds are those of
training, the median; "CPU time" are the processor's. *Published* figures are those of others on
the same split; *measured earlier* are single runs of this project's with longer budgets.

Settings of peers were chosen among a few on a part of the training data (`--validation`), or
are those that earlier measurements found best (ALS on Gowalla)."""


def make_report(rows: list[Row]) -> str:
    """The whole of ``quality.md``."""
    machines = list(dict.fromkeys(row["machine"] for row in rows if "machine" in row))
    measured = [name for name in DATASETS if any(row["dataset"] == name for row in rows)]
    return page(
        "What is learned, against other systems",
        NOTE,
        ["![Quality](quality.png)"],
        *(make_table(dataset, rows) for dataset in measured),
        compare_defaults(rows),
        ["Machines:", "", *(f"- {machine}" for machine in machines)],
    )


# --- the picture ------------------------------------------------------------


def main_rows(dataset: str, rows: list[Row]) -> list[Row]:
    """Rows of a data set's main metric."""
    main = METRICS[dataset][0]
    return [
        row
        for row in rows
        if row["dataset"] == dataset and "left_out" not in row and (row["metric"], row["k"]) == main
    ]


def plot(path: Path, rows: list[Row]) -> None:
    """Quality over seconds: a panel for each data set, a colour for each system."""
    shown = [dataset for dataset in DATASETS if main_rows(dataset, rows)]
    height = -(-len(shown) // 2)
    with picture(path, 15, 6.8 * height) as figure:
        axes = figure.subplots(height, min(2, len(shown)), squeeze=False)
        for panel in axes.flat[len(shown) :]:
            panel.set_visible(False)
        for dataset, panel in zip(shown, axes.flat, strict=False):
            plot_dataset(panel, dataset, main_rows(dataset, rows))


def plot_dataset(panel: Any, dataset: str, rows: list[Row]) -> None:
    """One data set's curves and points, and the figures of others beside it."""
    for row in sorted(rows, key=lambda row: -row["mean"]):
        plot_row(panel, row)
    panel.set_xscale("log")
    panel.set_title(TITLES[dataset], fontsize=12)
    panel.set_xlabel("seconds of training")
    panel.set_ylabel("{}@{}".format(*METRICS[dataset][0]))
    panel.grid(True, alpha=0.25)
    panel.legend(
        fontsize=8.5, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False
    )
    others = [(f[3][0], f[1]) for f in PUBLISHED if f[0] == dataset and f[3][0] is not None]
    if others:
        bottom, top = panel.get_ylim()
        top = max(top, max(value for value, _ in others) + 0.02 * (top - bottom))
        panel.set_ylim(bottom, top)
        plot_others(panel, sorted(others))


def color_of(system: str) -> Any:
    """A colour of its own; black for a system that is not known any more."""
    from matplotlib import colormaps

    if system not in SYSTEMS:
        return "k"
    place = list(SYSTEMS).index(system)
    return colormaps["tab20"](2 * place % 20 + place // 10 % 2)  # strong ones first, then pale


def plot_row(panel: Any, row: Row) -> None:
    """One score of a system: a curve and its end, a point, or a line where it takes no time."""
    look: dict[str, Any] = {
        "color": color_of(row["system"]),
        "linestyle": {"cosine": "--", "dot, weighted": "-."}.get(row["score"], "-"),
        "label": f"{name_of(row)}: {row['mean']:.3f}",
    }
    if row["seconds"] < MIN_SECONDS:
        panel.axhline(row["mean"], linewidth=1.2, **look)
        return
    seconds, values = zip(*curve_of(row), strict=True)
    marker = "o" if len(values) > 1 else "D"
    panel.plot(seconds, values, marker=marker, markevery=[-1], linewidth=1.7, **look)
    if row["spread"]:
        panel.errorbar(seconds[-1], values[-1], row["spread"], color=look["color"], capsize=3)


def plot_others(panel: Any, others: list[tuple[float, str]]) -> None:
    """Figures of others as dotted lines, their names beside the panel, from the lowest on."""
    bottom, top = panel.get_ylim()
    places = keep_apart([(value - bottom) / (top - bottom) for value, _ in others], 0.04)
    for (value, system), place in zip(others, places, strict=True):
        panel.axhline(value, color="0.55", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        panel.annotate(
            f"{system}: {value:.3f}", (1.0, value), (1.03, place),
            xycoords=("axes fraction", "data"), textcoords="axes fraction", fontsize=8,
            color="0.3", va="center", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "relpos": (0, 0.5),
                "shrinkA": 0, "shrinkB": 0,
            },
        )  # fmt: skip


def keep_apart(places: list[float], gap: float) -> list[float]:
    """Ascending places with a gap between any two, moved as little as need be, up to 1."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    limit = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


# --- the command ------------------------------------------------------------


def print_rows(rows: list[Row]) -> None:
    """What a run gave, on the terminal: a line for each score."""
    for row in rows:
        if "left_out" in row:
            print(f"{row['dataset']}, {row['system']}: left out: {row['left_out']}", flush=True)
    lines: dict[str, list[str]] = {}
    for row in rows:
        if "left_out" not in row:
            where = f"{row['dataset']}, {name_of(row)} ({row['seconds']:.3g} s)"
            lines.setdefault(where, []).append(f"{row['metric']}@{row['k']} {with_spread(row)}")
    for where, values in lines.items():
        print(f"{where}: {', '.join(values)}", flush=True)


def run_all(
    datasets: list[str], systems: list[str], load: Callable[[str], Dataset], plan: Plan
) -> Iterator[list[Row]]:
    """Rows of each data set and system, as they come."""
    for name in datasets:
        data = load(name)
        for system in systems:
            if system not in SETTINGS[name]:
                continue
            missing = find_missing(system)
            if system in ON_GPU and not find_gpu():
                missing = ["GPU"]
            if missing:
                print(f"{name}, {system}: skipped, there is no {', '.join(missing)}", flush=True)
                continue
            yield run_system(system, data, plan)


def find_gpu() -> bool:
    """Whether there is a GPU to train on."""
    return any(backend.name == "cuda" and backend.available for backend in available_backends())


def read_setting(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; the value is JSON, or else text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = make_parser("quality", __doc__)
    parser.add_argument("data", type=Path, help="folder of all data sets")
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--system", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=3, help="runs of systems with chance")
    parser.add_argument("--budget", type=float, default=1.0, help="factor of the epochs")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="device of ours")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count the processor's seconds: for busy machines"
    )
    parser.add_argument("--set", nargs="+", type=read_setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--validation", action="store_true", help="split the training part")
    parser.add_argument("--quick", action="store_true", help="few queries and epochs, one seed")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)

    def load(name: str) -> Dataset:
        data = DATASETS[name](options.data)
        return validation(data) if options.validation else data

    plan = Plan(
        num_seed=1 if options.quick else options.seeds,
        budget=QUICK_BUDGET if options.quick else options.budget,
        step=QUICK_STEP if options.quick else 1,
        num_threads=options.threads,
        device=options.device,
        cpu_time=options.cpu_time,
        extra=dict(options.set),
    )
    stored = options.out / "results" / "quality.json"
    for rows in run_all(options.dataset, options.system, load, plan):
        print_rows(rows)
        if not (options.quick or options.validation):
            write_rows(stored, merge_rows(read_rows(stored), rows))
    if not (options.quick or options.validation):
        write_report(options.out, read_rows(stored))


def write_report(folder: Path, rows: list[Row]) -> None:
    """Write the table, and the picture where it can be drawn."""
    write_whole(folder / "quality.md", make_report(rows))
    try:
        plot(folder / "quality.png", rows)
    except ImportError as error:
        print(f"no picture is drawn: {error}")


if __name__ == "__main__":
    main()

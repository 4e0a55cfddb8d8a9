"""Whether threads, devices and shared negatives change what is learned.

    python -m benchmarks.parity DATA                # everything: about 20 minutes on two cores
    python -m benchmarks.parity DATA --run GPU      # one line alone, on a machine that has one

Trains the settings of ours in `benchmarks.quality` on one thread, on all threads and on a GPU where
there is one, with ten seeds each, and then with negatives shared by more and more pairs. What
was measured goes into ``results/parity.json``, run by run, and ``parity.md`` is made of all of
it: the mean of each metric, its standard error, and how far it is from the first line of its
table.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, page, table, write_whole
from benchmarks.datasets import DATASETS
from benchmarks.peers import Watch
from benchmarks.quality import METRICS, SETTINGS, SYSTEMS, evaluate, find_gpu

THREADS = os.cpu_count() or 1
# A GPU trains few pairs at once where a small catalog is hit by many shared negatives.
COOKING = {"num_negative": 50, "negative_sharing": 1}


@dataclass(frozen=True)
class Run:
    """A line of a table: where and how something is trained."""

    table: str
    dataset: str
    device: str = "cpu"
    num_threads: int = THREADS
    seeds: int = 10
    options: dict[str, Any] = field(default_factory=dict)


DEVICES = "Cooking: devices"
RUNS = {
    "one thread": Run(DEVICES, "cooking", num_threads=1, options=COOKING),
    "all threads": Run(DEVICES, "cooking", options=COOKING),
    "GPU": Run(DEVICES, "cooking", device="cuda", options=COOKING),
    **{
        f"{title}, shared by {sharing}": Run(
            f"{title}: negatives shared by so many pairs, at equal epochs",
            dataset,
            seeds=seeds,
            options={"negative_sharing": sharing},
        )
        for title, dataset, seeds in (("Cooking", "cooking", 3), ("Gowalla", "gowalla", 1))
        for sharing in (1, 8, 16, 32)
    },
    "Gowalla, shared by 8, in 8 chunks": Run(
        "Gowalla: negatives shared by so many pairs, at equal epochs",
        "gowalla",
        seeds=1,
        options={"negative_sharing": 8, "chunk_size": 100_000},
    ),
}


def measure(folder: Path, run: Run) -> dict[str, Any]:
    """The data set's first metric, by the plain score, for each seed; and where it ran."""
    data = DATASETS[run.dataset](folder)
    name, k = METRICS[run.dataset][0]
    settings = {**SETTINGS[run.dataset]["ours"], **run.options}
    values = []
    watch = Watch(run.num_threads, run.device)
    for seed in range(run.seeds):
        scorers = SYSTEMS["ours"](data, seed, watch, **settings)
        values.append(evaluate(scorers["dot"], data)[f"{name}@{k}"])
    return {"values": values, "on": watch.ran_on, "machine": machine()}


def make_table(title: str, stored: dict[str, Any]) -> list[str]:
    """A table of means, standard errors, and differences from the first."""
    rows: list[tuple[Any, ...]] = []
    names = [name for name, run in RUNS.items() if run.table == title and name in stored]
    if not names:
        return []
    first = np.mean(stored[names[0]]["values"])
    for name in names:
        values = np.array(stored[name]["values"])
        error = f"{values.std(ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
        change = f"{values.mean() / first - 1:+.1%}"
        cells = (name, f"{values.mean():.4f}", error, len(values), change)
        rows.append((*cells, f"{stored[name]['on']}; {stored[name]['machine']}"))
    metric, k = METRICS[RUNS[names[0]].dataset][0]
    head = (f"{metric}@{k}", "mean", "standard error", "seeds", "against the first", "on")
    return [f"## {title}", "", *table(head, rows)]


def main() -> None:
    parser = make_parser("parity", __doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", nargs="+", choices=RUNS, default=list(RUNS))
    options = parser.parse_args()
    path = options.out / "results" / "parity.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in options.run:
        run = RUNS[name]
        if run.device == "cuda" and not find_gpu():
            print(f"{name}: skipped, there is none", flush=True)
            continue
        stored[name] = measure(options.data, run)
        print(name, stored[name]["values"], flush=True)
        write_whole(path, json.dumps(stored, indent=1) + "\n")
    note = (
        "`python -m benchmarks.parity DATA`, settings of `benchmarks.quality`; between devices "
        "with 50 negatives that are not shared."
    )
    titles = dict.fromkeys(run.table for run in RUNS.values())
    tables = filter(None, (make_table(title, stored) for title in titles))
    text = page("What threads, devices and shared negatives change", note, *tables)
    write_whole(options.out / "parity.md", text)


if __name__ == "__main__":
    main()

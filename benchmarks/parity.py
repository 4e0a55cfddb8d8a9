"""Whether threads, devices and shared negatives change what is learned.

    python benchmarks/parity.py DATA [--cuda]   # about 10 minutes on two cores

Trains the settings of ours in ``quality.py`` on one thread, on all threads and, with
``--cuda``, on a GPU, with ten seeds each, and then with negatives shared by more and more
pairs. Writes ``parity.md`` beside this file: the mean of each metric, its standard error, and
how far it is from the first line of its table.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from datasets import LABELLING, RANKING
from machine import machine
from peers import Watch
from quality import METRICS, SETTINGS, SYSTEMS, evaluate

HERE = Path(__file__).parent
SHARINGS = (1, 8, 16, 32)


def measure(
    folder: Path, dataset: str, seeds: int, device: str, num_threads: int, **options: Any
) -> np.ndarray:
    """The data set's first metric, by the plain score, for each seed."""
    data = {**RANKING, **LABELLING}[dataset](folder)
    name, k = METRICS[dataset][0]
    settings = {**SETTINGS[dataset]["ours"], **options}
    values = []
    for seed in range(seeds):
        scorers = SYSTEMS["ours"](data, seed, Watch(num_threads, device), **settings)
        values.append(evaluate(scorers["dot"], data)[f"{name}@{k}"])
    return np.array(values)


def table(title: str, results: dict[str, np.ndarray]) -> list[str]:
    """A table of means, standard errors, and differences from the first."""
    first = next(iter(results.values())).mean()
    lines = ["", f"## {title}", "", "| | mean | standard error | seeds | against the first |"]
    lines.append("|---|---|---|---|---|")
    for name, values in results.items():
        error = f"{values.std(ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
        change = f"{values.mean() / first - 1:+.1%}"
        lines.append(f"| {name} | {values.mean():.4f} | {error} | {len(values)} | {change} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    threads = os.cpu_count() or 1
    runs = {"one thread": ("cpu", 1), f"{threads} threads": ("cpu", threads)}
    if options.cuda:
        runs["GPU"] = ("cuda", threads)
    lines = [
        "# What threads, devices and shared negatives change",
        "",
        f"`python benchmarks/parity.py DATA`, settings of `quality.py`. {machine()}.",
    ]
    lines += table(
        "Cooking, P@1: devices",
        {
            name: measure(options.data, "cooking", options.seeds, *where)
            for name, where in runs.items()
        },
    )
    device = runs[f"{threads} threads"]
    for dataset, seeds in (("cooking", 3), ("gowalla", 1)):
        name, k = METRICS[dataset][0]
        lines += table(
            f"{dataset.title()}, {name}@{k}: negatives shared by so many pairs, at equal epochs",
            {
                str(sharing): measure(
                    options.data, dataset, seeds, *device, negative_sharing=sharing
                )
                for sharing in SHARINGS
            },
        )
    text = "\n".join(lines) + "\n"
    (HERE / "parity.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

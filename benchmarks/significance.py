"""Whether ours finds the hidden item of a basket more often than another system does.

    python -m benchmarks.significance DATA   # about 20 minutes on two cores

Online Retail, the protocol of `benchmarks.quality`: both systems answer the same queries, ours once
for each seed, and have the same dimension where they have one. Writes ``significance.md`` beside
this file: the difference of HR@10, and the interval of a paired bootstrap over the queries
(`itembed_gpu.metrics.paired_bootstrap`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, page, table, write_whole
from benchmarks.datasets import online_retail
from benchmarks.peers import Watch
from benchmarks.quality import DETERMINISTIC, SETTINGS, SYSTEMS, rank
from itembed_gpu import metrics

K = 10
SAME_DIMENSION = ("itembed", "Word2Vec")


def hits(system: str, folder: Path, seed: int, num_threads: int) -> np.ndarray:
    """Whether each query's item is found, by the system's best score."""
    data = online_retail(folder)
    watch = Watch(num_threads, "cpu")
    settings = dict(SETTINGS["online_retail"][system])
    if system in SAME_DIMENSION:
        settings["dim"] = SETTINGS["online_retail"]["ours"]["dim"]
    scorers = SYSTEMS[system](data, seed, watch, **settings)
    truth = (data.truth.items, data.truth.offsets)
    rates = [
        metrics.hit_rate(rank(scorer, data.truth, data.masked, K, 1), truth, K)
        for scorer in scorers.values()
    ]
    return max(rates, key=np.mean)


def main() -> None:
    parser = make_parser("significance", __doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--against", nargs="+", default=["item-kNN", *SAME_DIMENSION], choices=list(SYSTEMS)
    )
    options = parser.parse_args()
    ours = [hits("ours", options.data, seed, options.threads) for seed in range(options.seeds)]
    note = (
        f"`python -m benchmarks.significance DATA`: {options.seeds} seeds, identical queries; the "
        "95 % interval of a paired bootstrap over the queries, of which each has its mean over "
        f"the seeds. Settings are those of `benchmarks.quality`, with one dimension for all that "
        f"have one. {machine()}."
    )
    rows = []
    for system in options.against:
        seeds = 1 if system in DETERMINISTIC else min(3, options.seeds)
        theirs = [hits(system, options.data, seed, options.threads) for seed in range(seeds)]
        mean = np.mean(theirs, axis=0)
        difference, low, high = metrics.paired_bootstrap(np.mean(ours, axis=0), mean)
        changes = (f"{value:+.4f}" for value in (difference, low, high))
        rows.append((system, f"{mean.mean():.4f}", *changes))
    text = page(
        f"Ours against others: HR@{K} on Online Retail",
        note,
        [f"Ours: {np.mean(ours):.4f}, by seed {', '.join(f'{np.mean(one):.4f}' for one in ours)}."],
        table(("against", f"HR@{K}", "difference", "from", "to"), rows),
    )
    write_whole(options.out / "significance.md", text)
    print(text)


if __name__ == "__main__":
    main()

"""Training speed of this checkout over another one's: ``python -m benchmarks.cpu --against``.

Each run is a process of its own, `CHILD`, which uses public names alone, so that the other
checkout may be of any age. Both train the same items, which are drawn here, from tables of the
same seeds, and take turns.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import ROOT
from benchmarks.common.machine import machine
from benchmarks.common.report import page, say, table, write_whole
from benchmarks.common.timing import check_imported, environment_of, run_python

EPOCHS = 3
NUM_NEGATIVE = 5

# Prints where the package lies, and the seconds of each epoch after one that warms up.
CHILD = """
import json, sys, time
import numpy as np
import itembed_gpu as ig
path, num_label, dim, num_threads, num_negative, num_epoch = json.loads(sys.argv[1])
data = np.load(path)
tables = [ig.initialize_syn(num_label, dim, seed=seed) for seed in (1, 2)]
task = ig.UnsupervisedTask(
    data["items"], data["offsets"], *tables, num_negative=num_negative, seed=1,
    num_threads=num_threads, device="cpu",
)
seconds = []
for _ in range(1 + num_epoch):
    began = time.perf_counter()
    ig.train(task, num_epoch=1, final_learning_rate=0.025, progress=False)
    seconds.append(time.perf_counter() - began)
print(json.dumps([ig.__file__, seconds[1:]]))
"""


def time_training(checkout: Path, row: tuple[int, int, int], items: Path, cache: Path) -> float:
    """Seconds of an epoch of a checkout's, in a process of its own: the median of some.

    A row is labels, dimension and threads. Items and offsets are in a file, and compiled code goes
    to the cache: nothing is written into a checkout.
    """
    arguments = json.dumps([str(items), *row, NUM_NEGATIVE, EPOCHS])
    # -P: what lies in the current folder is not importable.
    printed = run_python(
        ["-P", "-c", CHILD, arguments],
        **environment_of(checkout, cache),
    )
    where, seconds = json.loads(printed)
    check_imported(where, checkout)
    return statistics.median(seconds)


def compare(new: list[float], old: list[float], num_pair: int) -> tuple[str, ...]:
    """Speeds, the ratio of their medians, and the ratios of the single rounds."""
    speeds = [num_pair / statistics.median(seconds) / 1e6 for seconds in (new, old)]
    ratios = [b / a for a, b in zip(new, old, strict=True)]
    return (
        *(f"{speed:.2f} Mpair/s" for speed in speeds),
        f"{speeds[0] / speeds[1]:.3f}",
        f"{min(ratios):.3f} to {max(ratios):.3f}",
    )


def measure(
    checkout: Path,
    out: Path,
    sizes: dict[str, tuple[int, int]],
    draw_itemsets: Callable[[int], tuple[np.ndarray, np.ndarray]],
    repeat: int,
) -> None:
    """Write ``cpu_against.md`` into a folder: this checkout against another, in so many rounds.

    A function draws items and offsets for a number of labels; sizes are labels and dimensions.
    """
    checkouts = [ROOT, checkout.resolve()]
    head = say("training", "this checkout", "the other", "ratio of medians", "ratios of rounds")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.npz"
        for name, (num_label, dim) in sizes.items():
            items, offsets = draw_itemsets(num_label)
            np.savez(path, items=items, offsets=offsets)
            for num_threads in (1, 2):
                seconds: list[list[float]] = [[], []]
                for turn in range(repeat):
                    for i in (0, 1) if turn % 2 else (1, 0):
                        row = (num_label, dim, num_threads)
                        cache = Path(folder) / f"cache-{i}"
                        seconds[i].append(time_training(checkouts[i], row, path, cache))
                what = f"{name}, {num_threads} thread{'s' * (num_threads > 1)}"
                rows.append(say(what, *compare(*seconds, len(items))))
    note = (
        f"`python -m benchmarks.cpu --against CHECKOUT`: training speed of this checkout over the "
        f"other's. {repeat} rounds, each checkout in a process of its own in turns, the median of "
        f"{EPOCHS} epochs of {len(items):,} items after one that warms up; {NUM_NEGATIVE} "
        f"negatives, float32. {machine()}."
    )
    title = "This checkout against another one on the CPU"
    write_whole(out / "cpu_against.md", page(title, note, table(head, rows)))

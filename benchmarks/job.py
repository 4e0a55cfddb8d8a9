"""The whole job, from a Parquet file to saved vectors: where its seconds go.

    python -m benchmarks.job --device cuda                      # 100 million rows: 2 minutes
    python -m benchmarks.job --device cuda --against CHECKOUT   # and another version, in turns
    python -m benchmarks.job --device cpu --rows 3000000        # two cores: some minutes
    python -m benchmarks.job --device cpu --small               # that it runs, and nothing else

Rows are string items of Zipf(1) popularity, in baskets of 10, sorted by basket, in a folder of
Parquet files that is written once; with --work it is kept, and found again. Each run is the
command ``itembed-gpu train``, in a process of its own, which trains pairs of items with 5
negatives by SGD. Versions take turns, after one run each that fills their caches; of each the run
of the median time is shown.

*Start* is from the start of the process to the first look at the file, *reading* until itemsets
are packed, *training* from there until the tables are the caller's, *saving* what writes them,
and *end* the rest. Of training, *epochs* are what `History` counts, and *kernels* what the
launches took on the card, of those (`CudaTask.kernel_seconds`); around the epochs are planning,
copying and checking.

Writes ``job.md`` and ``job.png`` beside this file, or into the folder --out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.common.catalogs import zipf_items
from benchmarks.common.devices import OnCpu, OnGpu
from benchmarks.common.plots import picture
from benchmarks.common.report import Target, make_parser, page, say, table, write_whole
from benchmarks.common.timing import check_imported, environment_of, run_python
from itembed_gpu import DeviceError

BASKET = 10
# Rows of a file.
SHARD = 10_000_000
SMALL = {"rows": 20_000, "labels": 500, "dim": 16, "epochs": 2, "repeat": 1}
OVER_OLD, OVER_KERNELS = Target("<=", 0.5), Target("<=", 1.3)
# The same work for all versions, whatever they choose where they are not asked.
SETTINGS = (
    *("--loss", "negative-sampling", "--pooling", "pairs", "--optimizer", "sgd"),
    *("--negative", "5", "--seed", "1", "--quiet", "--json"),
)

# An attribute that adds up, in `seen`, what all tasks count.
COUNTER = """
class Counted:
    def __get__(self, task, owner=None):
        return 0.0 if task is None else task.__dict__.get("kernel_seconds", 0.0)

    def __set__(self, task, value):
        seen["kernels"] += value - self.__get__(task)
        task.__dict__["kernel_seconds"] = value
"""

# Prints where the package lies, when the file was first looked at, what the command reported, and
# seconds of epochs and kernels; None where a version does not tell.
CHILD = f"""{COUNTER}
import contextlib, io, json, sys, time
import itembed_gpu
from itembed_gpu.cli import main as cli

arguments = json.loads(sys.argv[1])
seen = dict(where=itembed_gpu.__file__, looked=time.time(), epochs=None, kernels=None)

if arguments[arguments.index("--device") + 1] != "cpu":
    with contextlib.suppress(ImportError, AttributeError):
        from itembed_gpu.backends.cuda.task import CudaTask
        CudaTask.kernel_seconds = Counted()
        seen["kernels"] = 0.0

carry_out = getattr(cli, "carry_out", None)
def watched(*given):
    seen["looked"] = time.time()
    result = carry_out(*given)
    with contextlib.suppress(AttributeError, IndexError, TypeError):
        seen["epochs"] = result[0].history_.seconds
    return result
if carry_out is not None:
    cli.carry_out = watched

with contextlib.redirect_stdout(io.StringIO()) as printed:
    cli.main(["train", *arguments], standalone_mode=False)
report = json.loads(printed.getvalue())
print(json.dumps(seen | dict(seconds=report["seconds"], pairs=report["pairs"])))
"""

# Of a bar, and of a table, in the order of time; those of training are parts of it.
PHASES = ("start", "reading", "around epochs", "epochs", "kernels", "saving", "end")
COLORS = ("#bab0ac", "#4c78a8", "#f2cf5b", "#f58518", "#e45756", "#54a24b", "#d6d3d1")


@dataclass(frozen=True)
class Run:
    """Seconds of one run."""

    total: float
    training: float
    kernels: float | None  # None: there is no card, or it is not told
    pairs: int
    phases: dict[str, float]  # what a bar is made of: they add up to the total


# --- the data


def write_rows(folder: Path, num_row: int, num_label: int) -> Path:
    """Write rows into a folder of Parquet files, unless they are there; return which folder."""
    import polars

    path = folder / f"job-{num_row}-{num_label}"
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = polars.Series([f"item-{i:07}" for i in range(num_label)])
    items = zipf_items(num_label, num_row)

    def write(start: int) -> None:
        stop = min(start + SHARD, num_row)
        baskets = np.arange(start, stop) // BASKET
        rows = polars.DataFrame({"basket": baskets, "item": names[items[start:stop]]})
        rows.write_parquet(part / f"part-{start // SHARD:05}.parquet")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(0, num_row, SHARD)))
    os.replace(part, path)
    return path


# --- runs


def split(began: float, total: float, told: dict[str, Any]) -> Run:
    """Divide the time of a process, which began then, by what it told."""
    reading, training, saving = (told["seconds"][n] for n in ("reading", "training", "saving"))
    epochs, kernels = told["epochs"], told["kernels"]
    inside = min(training, epochs or 0.0)
    on_card = min(inside, kernels or 0.0)
    start = told["looked"] - began
    phases = {
        "start": start,
        "reading": reading,
        "around epochs": training - inside,
        "epochs": inside - on_card,
        "kernels": on_card,
        "saving": saving,
        "end": max(0.0, total - start - reading - training - saving),
    }
    return Run(total, training, kernels, int(told["pairs"]), phases)


def run_job(checkout: Path, source: Path, options: argparse.Namespace, cache: Path) -> Run:
    """Run the command of a checkout once, and delete what it saved."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            *(str(source), "--itemset", "basket", "--item", "item", *SETTINGS),
            *("--device", options.device, "--dim", str(options.dim)),
            *("--epochs", str(options.epochs), "--output", str(Path(folder, "model"))),
        ]
        began, clock = time.time(), time.perf_counter()
        # -P: what lies in the current folder is not importable.
        printed = run_python(
            ["-P", "-c", CHILD, json.dumps(arguments)], **environment_of(checkout, cache)
        )
        total = time.perf_counter() - clock
    told = json.loads(printed)
    check_imported(told["where"], checkout)
    return split(began, total, told)


def run_in_turns(
    checkouts: dict[str, Path], source: Path, options: argparse.Namespace, cache: Path
) -> dict[str, Run | str]:
    """Return of each version the run of the median time, or why there is none."""
    runs: dict[str, list[Run]] = {name: [] for name in checkouts}
    failed: dict[str, str] = {}
    for turn in range(1 + options.repeat):
        for number, (name, checkout) in enumerate(checkouts.items()):
            if name in failed:
                continue
            try:
                run = run_job(checkout, source, options, cache / str(number))
            except Exception as error:  # the other version is worth having
                failed[name] = " ".join(f"{type(error).__name__}: {error}".split())[-300:]
                say(name, "failed", failed[name])
                continue
            say(name, f"run {turn}" + ", warms up" * (not turn), f"{run.total:.2f} s")
            if turn:
                runs[name].append(run)
    return {name: failed.get(name) or median_run(runs[name]) for name in checkouts}


def median_run(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda run: run.total)[(len(runs) - 1) // 2]


# --- the page


def judge(name: str, value: float, target: Target, judged: bool) -> tuple[str, ...]:
    met = "met" if target.is_met(value) else "MISSED"
    return name, f"{value:.3f}", str(target), met if judged else "not judged"


def verdicts(found: dict[str, Run | str], judged: bool) -> list[tuple[str, ...]]:
    """Return what is held against a target: the first version over the second, and its training."""
    lines = []
    runs = [run for run in found.values() if isinstance(run, Run)]
    new = next(iter(found.values()))
    what = "the whole job: this checkout over the other"
    if len(found) > 1 and len(runs) == len(found):
        lines.append(judge(what, runs[0].total / runs[1].total, OVER_OLD, judged))
    else:
        lines.append((what, "", str(OVER_OLD), "left out" if len(found) == 1 else "failed"))
    what = "training: wall over kernel time"
    if isinstance(new, Run) and new.kernels:
        lines.append(judge(what, new.training / new.kernels, OVER_KERNELS, judged))
    else:
        reason = "left out" if isinstance(new, Run) else "failed"
        lines.append((what, "", str(OVER_KERNELS), reason))
    return lines


def make_report(found: dict[str, Run | str], note: str, judged: bool) -> str:
    """The whole of ``job.md``."""
    runs = {name: run for name, run in found.items() if isinstance(run, Run)}
    rows = [[phase, *(f"{run.phases[phase]:.2f}" for run in runs.values())] for phase in PHASES]
    rows.append(["training, all of it", *(f"{run.training:.2f}" for run in runs.values())])
    rows.append(["**the whole job**", *(f"{run.total:.2f}" for run in runs.values())])
    speeds = (f"{run.pairs / run.training / 1e6:.3g} Mpair/s" for run in runs.values())
    rows.append(["training, pairs", *speeds])
    broken = [f"{name} failed: {run}" for name, run in found.items() if isinstance(run, str)]
    return page(
        "The whole job",
        note,
        ["![Seconds by phase](job.png)"] if runs else [],
        table(("what", "value", "target", "verdict"), verdicts(found, judged)),
        ["## Seconds", "", *table(("phase", *runs), rows), *broken],
    )


def plot(path: Path, runs: dict[str, Run], title: str) -> None:
    """Draw a bar for each version, by phase."""
    with picture(path, 11, 1.9 + 0.8 * len(runs)) as figure:
        axes = figure.add_subplot()
        for place, run in enumerate(runs.values()):
            left = 0.0
            for phase, color in zip(PHASES, COLORS, strict=True):
                seconds = run.phases[phase]
                shown = not place and any(other.phases[phase] for other in runs.values())
                label = phase if shown else None
                axes.barh(place, seconds, left=left, color=color, label=label, height=0.6)
                if seconds > 0.06 * max(other.total for other in runs.values()):
                    axes.text(left + seconds / 2, place, f"{seconds:.1f}", ha="center", va="center")
                left += seconds
        axes.set_yticks(range(len(runs)), runs)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10)
        figure.legend(ncols=len(PHASES), loc="outside lower center", frameon=False)


# --- the command


def measure(options: argparse.Namespace, device: OnCpu | OnGpu) -> dict[str, Run | str]:
    """Write the rows, run, and write the page and the picture."""
    checkouts = {"this checkout": ROOT}
    if options.against is not None:
        checkouts["the other"] = options.against.resolve()
    with tempfile.TemporaryDirectory() as folder:
        source = write_rows(options.work or Path(folder), options.rows, options.labels)
        found = run_in_turns(checkouts, source, options, Path(folder, "cache"))
    size = (
        f"{options.rows:,} rows, {options.labels:,} labels, D={options.dim}, {options.epochs} "
        f"epochs, on {options.device}"
    )
    note = (
        f"`python -m benchmarks.job`: {size}. Of {options.repeat} runs each, after one that fills "
        f"caches, the one of the median time. {device.description}."
    )
    judged = device.is_gpu and not options.small
    for line in verdicts(found, judged):
        say(*line)
    write_whole(options.out / "job.md", make_report(found, note, judged))
    runs = {name: run for name, run in found.items() if isinstance(run, Run)}
    if runs:
        try:
            plot(options.out / "job.png", runs, f"itembed-gpu train, seconds: {size}")
        except ImportError as error:
            print(f"no picture is drawn: {error}")
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("job", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each version that count")
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--work", type=Path, help="folder in which the rows are kept")
    parser.add_argument("--small", action="store_true", help="tiny sizes: only that it runs")
    options = parser.parse_args(arguments)
    if options.small:
        vars(options).update(SMALL)
    try:
        device = OnCpu() if options.device == "cpu" else OnGpu(options.device)
    except DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    found = measure(options, device)
    if any(isinstance(run, str) for run in found.values()):
        parser.exit(1, "a version failed\n")


if __name__ == "__main__":
    main()

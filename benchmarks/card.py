"""All that is measured on a card, by one command, in order of worth and within a time.

    python -m benchmarks.card --minutes 25                    # as far as it gets in this time
    python -m benchmarks.card --minutes 9 --data DATA --against CHECKOUT
    python -m benchmarks.card --device cpu --small            # that it runs: minutes

Each step is a benchmark, or the tests, in a process of its own, which is ended after
--step-minutes; a step that fails, or takes too long, loses nothing of the others. What was done is
kept in the folder --out and is not done again: where a call may last ten minutes only, call it
again with the same folder until nothing is left (that folder belongs to one version of the code).
A step is begun only if about as long as it takes is left, and a step that was cut off by the end
of the time is done again. What failed is tried again with --retry.

In the folder, ``benchmarks`` has what is to be committed: copy it over the one of the checkout.
``card.md`` in it has a line for each step, and each target that was missed; ``logs`` has all that
steps said.

DATA is the folder that `benchmarks.quality` reads, and CHECKOUT another version, for
`benchmarks.job`; without them, what needs them is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import HERE, ROOT, scale
from benchmarks.common.devices import OnCpu, OnGpu
from benchmarks.common.report import make_parser, page, say, table, write_whole
from benchmarks.common.timing import run_within
from benchmarks.datasets import DATASETS
from benchmarks.quality import ON_GPU
from itembed_gpu import DeviceError

HEAD = ("step", "state", "seconds", "met", "missed", "command")
# States of a step that is not done again, but for --retry.
DONE, FAILED, TOO_LONG = "done", "failed", "too long"
CUT, OUT_OF_TIME, LEFT_OUT = "cut off", "out of time", "left out"


@dataclass(frozen=True)
class Step:
    """A command, what it writes, and about how many minutes it takes on a card."""

    name: str
    command: tuple[str, ...]
    minutes: float
    results: tuple[str, ...] = ()  # tables, in the folder of results
    # Files of the checkout that the command adds to.
    seeds: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    left_out: str = ""  # why it cannot be done here

    @property
    def shown(self) -> str:
        """The command as one would call it, but for folders of this machine."""
        words = [word for word in self.command if not word.startswith("--out=")]
        words = [Path(word).name if Path(word).is_absolute() else word for word in words]
        return shlex.join([*(f"{k}={v}" for k, v in self.environment.items()), *words])


def module(name: str, out: Path, *arguments: str) -> tuple[str, ...]:
    """Return the command of a benchmark that writes into a folder."""
    # Some write into their results how they were called.
    folder = os.path.relpath(out, ROOT)
    return (sys.executable, "-m", f"benchmarks.{name}", *arguments, f"--out={folder}")


def make_steps(options: argparse.Namespace, out: Path) -> list[Step]:
    """Return all steps, the most worth first; each writes its results into a folder."""
    on_gpu = options.device != "cpu"
    device = ("--device", options.device)
    small = ("--small",) if options.small else ()
    # Sizes of those that have no --small of their own.
    tiny = ("--items", "60", "--dims", "8", "--batches", "4", "--steps", "1")
    few = (
        *("--labels", "60", "--items", "400", "--cells", "500", "--dim", "12"),
        *("--epochs", "1", "--repeat", "1"),
    )
    against = () if options.against is None else ("--against", str(options.against.resolve()))
    folder = str(options.data.resolve()) if options.data else "DATA"
    data = (folder, "--seeds", "1", "--system", *ON_GPU)
    others = [name for name in DATASETS if name != "gowalla"]
    quality_rows = ("results/quality.json",)
    no_card = "" if on_gpu else "it needs a card"
    no_data = no_card or ("" if options.data else "there is no --data")
    # One file where a card is not looked for, and all of them where one has to be.
    tests = ("-n", "0", "tests/benchmarks/test_map.py") if options.small else ()
    return [
        Step("gpu", module("gpu", out, *device, *small, "--resume"), 4, ("gpu.md",)),
        Step("job", module("job", out, *device, *small, *against), 3, ("job.md",)),
        Step("in_flight", module("in_flight", out, *device), 2, left_out=no_card),
        Step(
            "dense", module("dense", out, *device, *(tiny if options.small else ())), 3,
            ("dense.md",), ("results/dense.json",),
        ),
        Step(
            "quality", module("quality", out, *data, "--dataset", "gowalla"), 5,
            seeds=quality_rows, left_out=no_data,
        ),
        Step(
            "glove", module("glove", out, *device, *(few if options.small else ())), 3,
            ("glove_gpu.md" if on_gpu else "glove.md",),
        ),
        Step(
            "scale", module("scale", out, "--parts", "card"), 3, ("scale.md",), ("scale.md",),
            left_out=no_card or ("" if "card" in scale.PARTS else "it has no part of a card"),
        ),
        Step(
            "quality_others", module("quality", out, *data, "--dataset", *others), 5,
            seeds=quality_rows, left_out=no_data,
        ),
        Step(
            "tests", ("scripts/test", *tests), 6,
            environment={"REQUIRE_GPU": "1"} if on_gpu else {},
        ),
    ]  # fmt: skip


# --- what was done


@dataclass
class Record:
    """What became of a step."""

    state: str
    command: str
    seconds: float = 0.0
    met: int = 0
    missed: list[str] = field(default_factory=list)  # their lines
    reason: str = ""


class Records:
    """All that was done, in a file of the folder, which is written after each step."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "card.json"
        self.all: dict[str, Record] = {}
        if self._path.exists():
            known = json.loads(self._path.read_text(encoding="utf-8"))
            self.all = {name: Record(**values) for name, values in known.items()}

    def put(self, name: str, record: Record) -> None:
        self.all[name] = record
        known = {name: vars(record) for name, record in self.all.items()}
        write_whole(self._path, json.dumps(known, indent=1) + "\n")

    def is_done(self, step: Step, retry: bool) -> bool:
        """Whether a step need not be done again: it was, by the same command."""
        record = self.all.get(step.name)
        if record is None or record.command != step.shown:
            return False
        return record.state == DONE or (record.state in (FAILED, TOO_LONG) and not retry)


def find_verdicts(text: str, before: str) -> tuple[int, list[str]]:
    """Count the targets of tables that were met, and return lines with one that was missed.

    Lines that were there before count no more.
    """
    known = set(before.splitlines())
    lines = [line for line in text.splitlines() if line.startswith("|") and line not in known]
    met = sum("✓" in line or line.endswith("| met |") for line in lines)
    return met, [line for line in lines if "✗" in line or line.endswith("| MISSED |")]


# --- running


def run_step(step: Step, folder: Path, limit: float, whole: bool) -> Record:
    """Run a step for so many seconds at most; `whole` is whether that is all it may ever take."""
    results = folder / "benchmarks"
    for seed in step.seeds:
        if (HERE / seed).exists() and not (results / seed).exists():
            (results / seed).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / seed, results / seed)
    # Lines that were measured elsewhere, or earlier, are not this step's.
    before = {name: read(HERE / name) if step.seeds else "" for name in step.results}
    for name in set(step.results) - set(step.seeds):
        (results / name).unlink(missing_ok=True)
    log = folder / "logs" / f"{step.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Of the tests' `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    began = time.perf_counter()
    try:
        code = run_within(step.command, limit, log, **step.environment, PATH=path)
    except OSError as error:
        code = 1
        log.write_text(f"{error}\n", encoding="utf-8")
    seconds = time.perf_counter() - began
    state = DONE if code == 0 else FAILED
    if code is None:
        state = TOO_LONG if whole else CUT
    record = Record(state, step.shown, seconds, reason="" if code == 0 else last_words(log))
    for name in step.results:
        met, missed = find_verdicts(read(results / name), before[name])
        record.met += met
        record.missed += missed
    return record


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def last_words(log: Path) -> str:
    """Return the last line of what a step said, at most so much of it."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-300:]


def run_all(steps: list[Step], options: argparse.Namespace, note: str) -> Records:
    """Run what is left to do, as long as there is time, and write the summary after each step."""
    deadline = time.perf_counter() + 60 * options.minutes
    records = Records(options.out)
    say("step", "state", "seconds")
    for step in steps:
        if step.left_out:
            records.put(step.name, Record(LEFT_OUT, step.shown, reason=step.left_out))
        elif not records.is_done(step, options.retry):
            left = deadline - time.perf_counter()
            limit = 60 * options.step_minutes
            if left < min(60 * step.minutes, limit):
                if step.name not in records.all or records.all[step.name].state != CUT:
                    records.put(step.name, Record(OUT_OF_TIME, step.shown))
            else:
                # Should this process be ended, the step was cut off.
                records.put(step.name, Record(CUT, step.shown))
                record = run_step(step, options.out, min(left, limit), limit <= left)
                records.put(step.name, record)
        record = records.all[step.name]
        say(step.name, record.state, f"{record.seconds:.0f}", record.reason)
        path = options.out / "benchmarks" / "card.md"
        write_whole(path, make_report(steps, records, note))
    return records


def make_report(steps: list[Step], records: Records, note: str) -> str:
    """The whole of ``card.md``: a line for each step, and the targets that were missed."""
    rows, missed, reasons = [], [], []
    for step in steps:
        record = records.all.get(step.name, Record("", step.shown))
        seconds = f"{record.seconds:.0f}" if record.seconds else ""
        judged = (record.met, len(record.missed)) if record.met or record.missed else ("", "")
        rows.append((step.name, record.state, seconds, *judged, f"`{record.command}`"))
        if record.missed:
            missed += ["", f"### {step.name}", "", *(f"- {line}" for line in record.missed)]
        if record.reason:
            reasons.append(f"- {step.name}: {record.reason}")
    parts = [["## Not done", "", *reasons]] * bool(reasons)
    parts += [["## Targets that were missed", *missed]] * bool(missed)
    return page("On a card", note, table(HEAD, rows), *parts)


# --- the command


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("card", __doc__, ROOT / "build" / "card")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--minutes", type=float, default=25.0, help="that all of it may take")
    parser.add_argument("--step-minutes", type=float, default=8.0, help="that a step may take")
    parser.add_argument("--step", nargs="+", metavar="NAME", help="do these alone")
    parser.add_argument("--data", type=Path, help="folder of the data sets of quality")
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--retry", action="store_true", help="do again what failed")
    parser.add_argument("--small", action="store_true", help="tiny sizes: only that it runs")
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    steps = make_steps(options, options.out / "benchmarks")
    unknown = set(options.step or ()) - {step.name for step in steps}
    if unknown:
        names = ", ".join(step.name for step in steps)
        parser.error(f"--step {' '.join(sorted(unknown))}: pass some of {names}")
    if options.step:
        steps = [step for step in steps if step.name in options.step]
    try:
        device = OnCpu() if options.device == "cpu" else OnGpu(options.device)
    except DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    # So that what it runs ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    note = f"`python -m benchmarks.card`: {device.description}."
    records = run_all(steps, options, note)
    states = [records.all[step.name].state for step in steps]
    left = sum(state in (CUT, OUT_OF_TIME) for state in states)
    if left:
        print(f"{left} steps are left: call it again.")
    return 1 if FAILED in states or TOO_LONG in states else 0


if __name__ == "__main__":
    sys.exit(main())

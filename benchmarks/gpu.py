"""Training on a GPU: how fast, against the memory of the card, and whether it learns the same.

    python -m benchmarks.gpu                       # one GPU: under 5 minutes
    python -m benchmarks.gpu --full                # every combination: hours
    python -m benchmarks.gpu --device cpu --small  # that it runs, and nothing else: seconds

Prints one table with a verdict a row, and writes ``gpu.md``, ``gpu.csv`` and ``gpu.png``
beside this file, or into the folder --out. Rows that have a target come first; what is
left of the sweep when the time is up is listed as skipped.

A pair and its k negatives read k + 2 rows and write them: 2 (k + 2) D 4 bytes that any
training without shared negatives has to move; of pooled bags `Cell.floor` says how many. "Of
copy" is these bytes a second over the bandwidth of a copy within the card's memory in the same
run; catalogs that fit into the card's caches, and shared negatives, can pass 1. Speeds are wall
time, medians of three runs of `do_batches` and `synchronize` after a warm-up; "kernel" is time on
the device. Targets in pairs a second are those of one card, and judged on no other.

PyTorch, where it is installed, does the same work in a process of its own, in the ways of
`benchmarks.torch_peers`.

Losses are held against those of sequential training, which `benchmarks.oracle` stored in
``oracle.json``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks import oracle
from benchmarks.common.catalogs import draw_items, uniform_tables
from benchmarks.common.devices import OnCpu, OnGpu, Tables
from benchmarks.common.report import Target, make_parser, write_whole
from benchmarks.common.speeds import REPEAT, Speed, mega, time_epoch, time_task, timed
from benchmarks.common.timing import clock_itembed, run_within
from benchmarks.gpu_cells import (
    BATCH_SIZE,
    BUDGET,
    CALL_TARGET,
    CARD,
    CHUNK_TARGET,
    FULL_SCALE,
    ITEMBED_TARGET,
    ITEMSET_LENGTH,
    LEFT_LENGTH,
    NUM_NEGATIVE,
    POPULAR_LABELS,
    POPULARITY_TARGET,
    QUALITY_TARGET,
    RIGHT_LENGTH,
    SHARING_TARGETS,
    SMALL_SCALE,
    SMALL_TASK_TARGET,
    SPILL_TARGET,
    TORCH_TARGET,
    Cell,
    Scale,
    all_combinations,
    both,
    one_at_a_time,
    ratio_target,
)
from benchmarks.gpu_pictures import plot
from benchmarks.gpu_report import LeftOut, Measured, Report, Row
from benchmarks.torch_peers import WAYS
from itembed_gpu import SupervisedTask, UnsupervisedTask


class DeviceLost(Exception):
    """Nothing runs on the device any more, in this process."""


class Bench:
    """One run of the benchmark."""

    # What is known but the rows, which a process that goes on has to know.
    STATE = (
        *("bandwidth", "speeds", "failed", "call_times", "call_overheads", "epoch_times"),
        *("_torch", "scale"),
    )

    def __init__(
        self, device: OnCpu | OnGpu, scale: Scale, report: Report | None, deadline: float
    ) -> None:
        self.device = device
        self.scale = scale
        self.report = report
        self.deadline = deadline
        self.tables = Tables(device)
        self.bandwidth = 0.0
        self.speeds: dict[Cell, Speed] = {}
        self.failed: dict[Cell, str] = {}
        self.call_times: dict[int, float] = {}
        self.call_overheads: dict[int, float] = {}  # wall over kernel time
        self.epoch_times: dict[int | None, float] = {}  # by the size of chunks
        self._items: dict[tuple[int, bool], np.ndarray] = {}
        self._long: np.ndarray | None = None  # items that are trained in chunks
        self._torch: list[dict[str, Any]] | None = None

    # --- rows

    def row(
        self,
        what: str,
        target: Target | None,
        function: Callable[..., Measured],
        *arguments: Any,
        judged: bool | None = None,
    ) -> None:
        """Measure something by a function and its arguments, and add its row whatever happens.

        Its value is held against the target; whether that holds here is `judged`, by default if
        speeds are to be judged.
        """
        if self.is_known(what):
            return
        if judged is None:
            judged = self.scale.judge_speed and self.device.is_gpu
        began = time.perf_counter()
        value, details, verdict = None, {}, ""
        try:
            measured = function(*arguments)
            value, text, details = measured.value, measured.text, measured.details
            if target is not None:
                met = "met" if target.is_met(value) else "MISSED"
                verdict = met if judged else "not judged"
        except LeftOut as reason:
            text, verdict = str(reason), "left out"
        except Exception as error:  # the other rows are worth having
            text = " ".join(f"failed: {type(error).__name__}: {error}".split())[:300]
            verdict = "failed" if target is None else "MISSED"
        seconds = time.perf_counter() - began
        shown = "" if target is None else str(target)
        self.report.add(Row(what, text, value, shown, verdict, seconds, details))
        self.save()
        if text.startswith("failed: ") and self.device.is_lost():
            raise DeviceLost(what)

    def is_known(self, what: str) -> bool:
        """Whether a row is there already, by a process before."""
        return any(row.what == what for row in self.report.rows)

    # --- from one process to the next

    @property
    def state_path(self) -> Path:
        return self.report.out / "gpu.state"

    def save(self) -> None:
        """Write what is known, for a process that goes on."""
        known = {name: getattr(self, name) for name in self.STATE}
        left = self.deadline - time.perf_counter()
        write_whole(self.state_path, pickle.dumps((self.report.rows, known, left)))

    def restore(self) -> None:
        """Take what a process before knew of the same sizes, if there was one."""
        if not self.state_path.exists():
            return
        rows, known, left = pickle.loads(self.state_path.read_bytes())
        if known["scale"] == self.scale:
            self.report.rows = rows
            self.deadline = time.perf_counter() + left
            for name, value in known.items():
                setattr(self, name, value)

    def measure_bandwidth(self) -> Measured:
        bandwidth = self.device.bandwidth(self.scale.copy_bytes)
        self.bandwidth = max(self.bandwidth, bandwidth)
        return Measured(bandwidth / 1e12, f"{bandwidth / 1e12:.3f} TB/s read and written")

    # --- speed

    def items(self, cell: Cell) -> np.ndarray:
        """Items of a cell's distribution; drawn once."""
        key = cell.num_label, cell.zipf
        if key not in self._items:
            self._items[key] = draw_items(cell.num_label, self.scale.num_pair, cell.zipf)
        return self._items[key]

    def make_task(self, cell: Cell, items: np.ndarray | None = None, **others: Any) -> Any:
        """Make the task of a cell, with resident tables; items and options may be others."""
        items = self.items(cell) if items is None else items
        options: dict[str, Any] = {
            "num_negative": cell.num_negative,
            "negative_sharing": cell.sharing,
            "batch_size": BATCH_SIZE,
            "seed": 1,
            "device": self.device.option(cell.threads, cell.lossy),
            **({"pooling": "mean", "optimizer": "adagrad"} if cell.pooled else {}),
            **others,
        }
        tables = self.tables.take(cell.num_label, cell.dim)
        if not cell.supervised:
            offsets = np.arange(0, len(items) + 1, cell.length)
            return UnsupervisedTask(items[: offsets[-1]], offsets, *tables, **options)
        num_itemset = len(items) // (LEFT_LENGTH * RIGHT_LENGTH)
        left, right = (
            np.arange(num_itemset + 1) * length for length in (LEFT_LENGTH, RIGHT_LENGTH)
        )
        return SupervisedTask(
            items[: left[-1]],
            left,
            items[left[-1] : left[-1] + right[-1]],
            right,
            *tables,
            **options,
        )

    def speed(self, cell: Cell) -> Speed:
        """Measure a cell, once."""
        if cell in self.failed:
            raise RuntimeError(self.failed[cell])
        if cell not in self.speeds:
            try:
                self.speeds[cell] = time_task(
                    self.make_task(cell), self.scale.seconds, cell.learning_rate
                )
            except Exception as error:
                self.failed[cell] = str(error)
                raise
        return self.speeds[cell]

    def of_copy(self, cell: Cell) -> float:
        """Bytes a second that a cell's pairs need, over those of a copy; nan if that failed."""
        return self.speed(cell).median * cell.floor / (self.bandwidth or float("nan"))

    def measure_cell(self, cell: Cell) -> Measured:
        speed, ratio = self.speed(cell), self.of_copy(cell)
        details = {
            "dim": cell.dim,
            "num_label": cell.num_label,
            "distribution": "Zipf(1)" if cell.zipf else "uniform",
            "task": cell.task,
            "sharing": cell.sharing,
            "num_pair": speed.num_pair,
            "pairs_per_second": round(speed.median),
            "pairs_per_second_low": round(speed.low),
            "pairs_per_second_high": round(speed.high),
            "pairs_per_second_kernel": speed.kernel and round(speed.kernel),
            "of_copy": round(ratio, 4),
            **speed.details,
        }
        return Measured(ratio, f"{speed}, {ratio:.3f} of copy", details)

    def measure_sharing(self, cell: Cell) -> Measured:
        shared = dataclasses.replace(cell, sharing=self.scale.judged_sharing)
        gain = self.speed(shared).median / self.speed(cell).median
        text = f"{self.speed(shared)} over {mega(self.speed(cell).median)}"
        return Measured(gain, text, self.measure_cell(shared).details)

    def measure_popularity(self, cell: Cell) -> Measured:
        """Compare a cell's Zipf popularity with a uniform one."""
        zipf, uniform = (self.speed(c).median for c in both((cell,)))
        return Measured(zipf / uniform, f"{mega(zipf)} over {mega(uniform)} Mpair/s")

    def measure_millions(self, cell: Cell) -> Measured:
        speed = self.speed(cell)
        return Measured(speed.median / 1e6, str(speed))

    def measure_chunks(self, size: int) -> Measured:
        """Compare the wall time of an epoch in chunks of so many items with that of all at once."""
        cell, num_item = self.scale.default, self.scale.in_chunks[0]
        if self._long is None:
            self._long = draw_items(cell.num_label, num_item, cell.zipf)
        for chunk_size in (None, size):
            if chunk_size not in self.epoch_times:
                task = self.make_task(cell, self._long, chunk_size=chunk_size)
                self.epoch_times[chunk_size] = time_epoch(task, cell.learning_rate)
        whole, parts = self.epoch_times[None], self.epoch_times[size]
        return Measured(parts / whole, f"{parts:.3g} s over {whole:.3g} s")

    # --- PyTorch

    def run_torch(self) -> list[dict[str, Any]]:
        """Time PyTorch in a process of its own, once: what it says of each way."""
        if self._torch is None:
            self._torch = [{"failed": "it was not run"}]  # should this fail: not again
            cell = self.scale.default
            sizes = {
                "device": self.device.name,
                "labels": cell.num_label,
                "dim": cell.dim,
                "items": self.scale.num_pair,
                "batch": self.scale.torch_batch,
                "seconds": self.scale.seconds / 2,
            }
            options = [f"--{name}={value}" for name, value in sizes.items()]
            command = [sys.executable, "-m", "benchmarks.torch_peers", *options]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "output")
                code = run_within(command, self.scale.torch_limit, path, group=False)
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            self._torch = [json.loads(line) for line in lines if line.startswith("{")]
            if code != 0:
                took = f"ended after {self.scale.torch_limit:g} s"
                last = lines[-1] if lines else ""
                self._torch.append({"failed": took if code is None else last})
        return self._torch

    def measure_torch(self, cell: Cell, way: str | None) -> Measured:
        """Compare a cell with PyTorch, in one way or the fastest."""
        if find_spec("torch") is None:
            raise LeftOut("torch cannot be imported")
        rows = self.run_torch()
        found = [row for row in rows if row.get("zipf") == cell.zipf and "speed" in row]
        found = [row for row in found if way is None or row["way"] == way]
        if not found:
            own = [row for row in rows if way is not None and row.get("way") == way]
            reasons = [row["failed"] for row in [*own, *rows[::-1]] if "failed" in row]
            raise RuntimeError(reasons[0] if reasons else "nothing was measured")
        best = max(found, key=lambda row: row["speed"])
        ours, theirs = self.speed(cell).median, best["speed"]
        text = f"{mega(ours)} over {mega(theirs)} ({mega(best['low'])} to {mega(best['high'])})"
        return Measured(ours / theirs, f"{text} Mpair/s: {best['way']}, PyTorch {best['torch']}")

    # --- the host

    def measure_itembed(self, tables: list[np.ndarray]) -> Measured:
        """Time itembed on one core, on some of the default cell's items."""
        cell = self.scale.default
        items = self.items(cell)[: self.scale.reference_pairs]
        offsets = np.arange(0, len(items) + 1, ITEMSET_LENGTH)
        try:
            once = clock_itembed(items, offsets, *tables, NUM_NEGATIVE)
        except ImportError as error:
            raise LeftOut(f"itembed cannot be imported ({error})") from error
        once()
        theirs = len(items) / statistics.median(once() for _ in range(REPEAT))
        ours = self.speed(cell).median
        return Measured(ours / theirs, f"{mega(ours)} over {mega(theirs)} Mpair/s")

    def measure_cpu(self, tables: list[np.ndarray], num_threads: int | None) -> Measured:
        """Time the CPU backend, on some of the default cell's items."""
        cell = self.scale.default
        items = self.items(cell)[: 10 * self.scale.reference_pairs]
        task = UnsupervisedTask(
            items,
            np.arange(0, len(items) + 1, ITEMSET_LENGTH),
            *tables,
            num_negative=NUM_NEGATIVE,
            seed=1,
            device="cpu",
            num_threads=num_threads,
        )
        speed = time_task(task, self.scale.seconds)
        ours = self.speed(cell).median
        return Measured(ours / speed.median, f"{mega(ours)} over {speed}")

    # --- overhead

    def measure_small_task(self, new_task: bool) -> Measured:
        """Train a small task several times, and compare its wall time with its kernel time."""
        num_label, num_item = self.scale.small_task
        cell = Cell(self.scale.default.dim, num_label)

        def once(task: Any) -> tuple[float, float | None]:
            train = itembed_gpu.train
            return timed(task, lambda: train(task, num_epoch=10, progress=False))[1:]

        task = self.make_task(cell, self.items(cell)[:num_item])
        once(task)
        runs = []
        for _ in range(5):
            if new_task:
                task = self.make_task(cell, self.items(cell)[:num_item])
            runs.append(once(task))
        wall = statistics.median(wall for wall, _ in runs)
        if not self.device.is_gpu:
            raise LeftOut(f"not on this device (wall {1e3 * wall:.1f} ms)")
        ratio = statistics.median(wall / kernel for wall, kernel in runs)
        return Measured(ratio, f"wall {1e3 * wall:.2f} ms, kernel {1e3 * wall / ratio:.2f} ms")

    def measure_calls(self, task: Any, num_batch: int) -> Measured:
        """Time calls of few batches, one after the other."""
        rates = np.full(num_batch, self.scale.default.learning_rate)
        num_call = self.scale.num_call

        def run() -> int:
            return sum(task.do_batches(rates) for _ in range(num_call))

        timed(task, run)
        num_pair, seconds, kernel = timed(task, run)
        nanoseconds = 1e9 * seconds / num_pair
        self.call_times[num_batch] = nanoseconds
        if kernel:
            self.call_overheads[num_batch] = seconds / kernel
        inside = "" if kernel is None else f", kernel {1e6 * kernel / num_call:.1f} us"
        text = f"{1e6 * seconds / num_call:.1f} us a call{inside}; {nanoseconds:.2f} ns a pair"
        return Measured(nanoseconds, text)

    def measure_call_overhead(self, num_batch: int) -> Measured:
        if num_batch not in self.call_overheads:
            raise LeftOut("kernel time was not measured")
        ratio = self.call_overheads[num_batch]
        return Measured(ratio, f"{ratio:.2f}: wall over kernel time of the row above")

    def measure_spills(self) -> Measured:
        if not isinstance(self.device, OnGpu):
            raise LeftOut("not on this device")
        found = self.device.spilled()
        spilled = {name: size for name, size in found.items() if size}
        text = ", ".join(f"{name}: {size}" for name, size in spilled.items())
        most = max(found.values())
        return Measured(
            most, f"{len(spilled)} of {len(found)} kernels use any{': ' * bool(text)}{text}"
        )

    # --- quality

    def measure_quality(self, name: str, sharing: int) -> Measured:
        """Train a problem on the device, and compare with the loss of sequential training."""
        if name not in self.scale.problems:
            raise LeftOut("left out by --small")
        problem = oracle.PROBLEMS[name]
        stored = oracle.stored_loss(name, problem, sharing)
        loss = oracle.train_problem(problem, self.device.option(), sharing)
        change = loss / stored - 1
        return Measured(abs(change), f"{loss:.4f}, sequential {stored:.4f} ({100 * change:+.2f} %)")

    # --- all of it

    def judged_speed_rows(self) -> None:
        for cell in both(self.scale.judged):
            what = f"bytes/s over copy: {cell}"
            self.row(what, ratio_target(cell), self.measure_cell, cell)
        for cell in self.scale.judged:
            target = POPULARITY_TARGET if cell.num_label == POPULAR_LABELS else None
            what = f"Zipf over uniform: {cell.settings}"
            self.row(what, target, self.measure_popularity, cell)
        for cell in both(self.scale.pooled):
            what = f"bytes/s over copy: {cell}"
            self.row(what, ratio_target(cell), self.measure_cell, cell)
        self.sharing_rows()

    def sharing_rows(self) -> None:
        for cell in both((self.scale.default,)):
            what = f"speed over unshared: negative_sharing={self.scale.judged_sharing}, {cell}"
            self.row(what, None, self.measure_sharing, cell)
        judged = None if CARD in self.device.description else False
        for cell in both((self.scale.default,)):
            shared = dataclasses.replace(cell, sharing=self.scale.judged_sharing)
            for name, limit in zip(("", ", the aim"), SHARING_TARGETS[cell.zipf], strict=True):
                what = f"Mpair/s on an {CARD}{name}: {shared}"
                target = Target(">=", limit)
                self.row(what, target, self.measure_millions, shared, judged=judged)

    def torch_rows(self) -> None:
        for cell in both((self.scale.default,)):
            target = TORCH_TARGET if cell.zipf else None
            what = f"speed over PyTorch's fastest: {cell}"
            self.row(what, target, self.measure_torch, cell, None)
            for way in WAYS:
                self.row(f"speed over PyTorch, {way}: {cell}", None, self.measure_torch, cell, way)

    def chunk_rows(self) -> None:
        num_item, sizes = self.scale.in_chunks
        for size in sizes:
            target = CHUNK_TARGET if size == sizes[0] else None
            what = f"chunks of {size:,} of {num_item:,} items over all at once"
            self.row(what, target, self.measure_chunks, size)
        self._long = None

    def host_rows(self) -> None:
        tables = uniform_tables(self.scale.default.num_label, self.scale.default.dim)
        what = f"speed over itembed on one core of the host: {self.scale.default}"
        self.row(what, ITEMBED_TARGET, self.measure_itembed, tables)
        for name, num_threads in (("one thread", 1), ("all cores", None)):
            what = f"speed over the CPU backend, {name}: {self.scale.default}"
            self.row(what, None, self.measure_cpu, tables, num_threads)

    def overhead_rows(self) -> None:
        num_item = self.scale.small_task[1]
        what = f"wall over kernel time of train: {num_item:,} interactions, 10 epochs"
        self.row(f"{what}, second call", SMALL_TASK_TARGET, self.measure_small_task, False)
        self.row(f"{what}, a new task", None, self.measure_small_task, True)
        what = "local memory of default kernels, bytes a thread (spilled registers)"
        self.row(what, SPILL_TARGET, self.measure_spills)

    def call_rows(self) -> None:
        tasks: list[Any] = []

        def measure(num_batch: int) -> Measured:
            if not tasks:
                tasks.append(self.make_task(self.scale.default))
            return self.measure_calls(tasks[0], num_batch)

        for num_batch in self.scale.calls:
            what = f"ns a pair: do_batches of {num_batch} x {BATCH_SIZE} itemsets"
            self.row(what, None, measure, num_batch)
        what = f"wall over kernel time: do_batches of {self.scale.calls[0]} x {BATCH_SIZE} itemsets"
        self.row(what, CALL_TARGET, self.measure_call_overhead, self.scale.calls[0])

    def quality_rows(self) -> None:
        for sharing in oracle.SHARINGS:
            shared = f", negative_sharing={sharing}" if sharing > 1 else ""
            target = QUALITY_TARGET if sharing == 1 else None
            for name in oracle.PROBLEMS:
                what = f"held-out loss against sequential: {name}{shared}"
                self.row(what, target, self.measure_quality, name, sharing, judged=True)

    def sweep_rows(self, cells: list[Cell]) -> None:
        judged = list(both(self.scale.judged))
        for cell in cells:
            what = f"sweep: {cell}"
            if cell in judged or self.is_known(what):
                continue  # it has its row
            if cell.needs_gpu and not self.device.is_gpu:
                self.report.add(Row(what, "not on this device", None, "", "left out"))
            elif time.perf_counter() > self.deadline and cell not in self.speeds:
                self.report.add(Row(what, "out of time", None, "", "skipped"))
            else:
                self.row(what, None, self.measure_cell, cell)

    def run(self, sweep: list[Cell]) -> None:
        self.row("copy bandwidth, TB/s", None, self.measure_bandwidth)
        self.judged_speed_rows()
        self.quality_rows()
        self.overhead_rows()
        self.call_rows()
        self.torch_rows()
        self.host_rows()
        self.chunk_rows()
        self.sweep_rows(sweep)
        self.row("copy bandwidth once more, TB/s", None, self.measure_bandwidth)


# --- the command ------------------------------------------------------------


def benchmark(
    device: OnCpu | OnGpu,
    out: Path,
    scale: Scale = FULL_SCALE,
    sweep: list[Cell] | None = None,
    budget: float = BUDGET,
    command: str = "benchmarks.gpu",
    resume: bool = False,
) -> Bench:
    """Run everything, and write its results into a folder.

    The cells of the sweep have no target: by default those that differ from the default in one
    setting. After so many seconds (`budget`) none of them is begun. How it was called is `command`.
    With `resume`, the rows of a process that was ended are not measured again.

    Raises `DeviceLost` where nothing runs on the device any more; another process can go on.
    """
    began = time.perf_counter()
    note = (
        f"`python -m {command}`: {NUM_NEGATIVE} negatives, float32, itemsets of {ITEMSET_LENGTH} "
        f"items, about {scale.num_pair:,} pairs a run, medians of {REPEAT} runs (slowest to "
        f"fastest in brackets). {device.description}."
    )
    print(note, flush=True)
    report = Report(out, note)
    bench = Bench(device, scale, report, began + budget)
    if resume:
        bench.restore()
    try:
        with device.active():
            bench.run(one_at_a_time(scale) if sweep is None else sweep)
    finally:
        took = f"It took {sum(row.seconds for row in report.rows):.0f} s."
        report.note += f" {took}"
        report.write()
        print(report.summary(), took, flush=True)
    bench.state_path.unlink(missing_ok=True)
    try:
        plot(bench, out / "gpu.png")
    except Exception as error:  # the table is what counts
        report.note += f" No picture was drawn ({type(error).__name__}: {error})."
        report.write()
        print(report.note, flush=True)
    return bench


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("gpu", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--full", action="store_true", help="sweep every combination")
    parser.add_argument("--small", action="store_true", help="tiny sizes: only that it runs")
    parser.add_argument(
        "--budget",
        type=float,
        help=f"seconds after which no cell of the sweep is begun (default: {BUDGET:g}, or none "
        "with --full)",
    )
    parser.add_argument("--resume", action="store_true", help="go on where a run was ended")
    options = parser.parse_args(arguments)
    scale = SMALL_SCALE if options.small else FULL_SCALE
    budget = options.budget
    if budget is None:
        budget = float("inf") if options.full else BUDGET
    given = sys.argv[1:] if arguments is None else arguments
    try:
        device = OnCpu() if options.device == "cpu" else OnGpu(options.device)
    except itembed_gpu.DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    sweep = all_combinations(scale) if options.full else None
    command = " ".join(["benchmarks.gpu", *(word for word in given if word != "--resume")])
    try:
        benchmark(device, options.out, scale, sweep, budget, command, options.resume)
    except DeviceLost as row:
        # What broke there is over with the process; the other rows are worth having.
        print(f"the device was lost by: {row}; another process goes on", flush=True)
        again = [word for word in given if word != "--resume"]
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.gpu", *again, "--resume"])


if __name__ == "__main__":
    main()

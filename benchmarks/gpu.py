"""Training on a GPU: how fast, against the memory of the card, and whether it learns the same.

    python -m benchmarks.gpu                       # one GPU: under 5 minutes
    python -m benchmarks.gpu --full                # every combination: hours
    python -m benchmarks.gpu --device cpu --small  # that it runs, and nothing else: seconds

Prints one table with a verdict a row, and writes ``gpu.md``, ``gpu.csv`` and ``gpu.png``
beside this file, or into the folder --out. Rows that have a target come first; what is
left of the sweep when the time is up is listed as skipped.

A pair and its k negatives read k + 2 rows and write them: 2 (k + 2) D 4 bytes that any
training without shared negatives has to move. "Of copy" is these bytes a second over the
bandwidth of a copy within the card's memory in the same run; catalogs that fit into the
card's caches, and shared negatives, can pass 1. Speeds are wall time, medians of three
runs of `do_batches` and `synchronize` after a warm-up; "kernel" is time on the device.

Losses are held against those of sequential training, which `benchmarks.oracle` stored in
``oracle.json``.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
import io
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks import oracle
from benchmarks.common.catalogs import uniform_tables, zipf_items
from benchmarks.common.machine import machine
from benchmarks.common.plots import BLUE, GREEN, ORANGE, picture
from benchmarks.common.report import Target, make_parser, page, say, table, write_whole
from benchmarks.common.timing import clock_itembed, seconds_of
from itembed_gpu import Cuda, SupervisedTask, UnsupervisedTask
from itembed_gpu.backends.cuda import chips, instances, programs

NUM_NEGATIVE = 5
ITEMSET_LENGTH = 10
# Items of a supervised itemset: 5 x 4 pairs.
LEFT_LENGTH, RIGHT_LENGTH = 5, 4
BATCH_SIZE = 64
LEARNING_RATE = 0.025
REPEAT = 3
BUDGET = 280.0
HEAD = ("what", "measured", "value", "target", "verdict")


@dataclass(frozen=True)
class Cell:
    """Settings of one measurement of speed."""

    dim: int
    num_label: int
    zipf: bool = True  # the n-th item has a share of 1 / n; else all have the same
    threads: int | None = None  # a pair
    lossy: bool = False  # updates may be lost
    sharing: int = 1  # pairs that share their negatives
    supervised: bool = False

    @property
    def settings(self) -> str:
        """All but the distribution, in words."""
        parts = [f"{self.num_label:,} items", f"D={self.dim}"]
        parts += [f"threads_per_pair={self.threads}"] * (self.threads is not None)
        parts += ["lossy"] * self.lossy
        parts += [f"negative_sharing={self.sharing}"] * (self.sharing > 1)
        parts += ["supervised"] * self.supervised
        return ", ".join(parts)

    def __str__(self) -> str:
        return f"{'Zipf(1)' if self.zipf else 'uniform'}, {self.settings}"

    @property
    def needs_gpu(self) -> bool:
        return self.threads is not None or self.lossy


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    dims: tuple[int, ...] = (32, 64, 96, 128, 256, 512)
    catalogs: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    sharings: tuple[int, ...] = (8, 16, 32)
    default: Cell = Cell(128, 1_000_000)
    judged: tuple[Cell, ...] = (
        Cell(128, 10_000_000),
        Cell(128, 1_000_000),
        Cell(64, 10_000_000),
        Cell(64, 1_000_000),
        Cell(256, 1_000_000),
        Cell(512, 1_000_000),
    )
    judged_sharing: int = 16
    num_pair: int = 20_000_000
    seconds: float = 1.0  # of one timed run, about
    copy_bytes: int = 4 << 30
    problems: tuple[str, ...] = tuple(oracle.PROBLEMS)
    num_call: int = 200
    calls: tuple[int, ...] = (1, 10, 100, 1_000)
    reference_pairs: int = 300_000
    small_task: tuple[int, int] = (10_000, 100_000)  # items of the catalog, interactions
    judge_speed: bool = True


FULL_SCALE = Scale()
SMALL_SCALE = Scale(
    dims=(16,),
    catalogs=(300, 1_000),
    sharings=(16,),
    default=Cell(16, 1_000),
    judged=(Cell(16, 1_000), Cell(16, 300)),
    num_pair=20_000,
    seconds=0.02,
    copy_bytes=1 << 20,
    problems=("50 items",),
    num_call=3,
    calls=(1, 10),
    reference_pairs=2_000,
    small_task=(200, 2_000),
    judge_speed=False,
)


SHARING_TARGET = Target(">=", 2.2)
ITEMBED_TARGET = Target(">=", 1_000)
SMALL_TASK_TARGET = Target("<=", 3)
QUALITY_TARGET = Target("<=", 0.01)
SPILL_TARGET = Target("<=", 0)


def ratio_target(cell: Cell) -> Target:
    """Return the target for the bytes a second of a cell over the copy bandwidth."""
    if cell.dim < 128:
        return Target(">=", 0.78)
    return Target(">=", 0.88 if cell.zipf else 0.83)


def both(cells: tuple[Cell, ...]) -> Iterator[Cell]:
    """Return cells with both distributions."""
    for cell in cells:
        yield dataclasses.replace(cell, zipf=True)
        yield dataclasses.replace(cell, zipf=False)


def one_at_a_time(scale: Scale) -> list[Cell]:
    """Return the cells that differ from the default in one setting, with both distributions."""
    default = scale.default
    changes: list[dict[str, Any]] = [
        {},
        *({"sharing": sharing} for sharing in scale.sharings),
        {"supervised": True},
        *({"dim": dim} for dim in scale.dims),
        *({"num_label": num_label} for num_label in scale.catalogs),
        *({"threads": threads} for threads in instances.THREADS_PER_PAIR),
        {"lossy": True},
    ]
    return list(dict.fromkeys(both(tuple(dataclasses.replace(default, **c) for c in changes))))


def all_combinations(scale: Scale) -> list[Cell]:
    """Return the whole grid, the largest tables first."""
    grid = itertools.product(
        scale.dims,
        scale.catalogs,
        (True, False),
        (None, *instances.THREADS_PER_PAIR),
        (False, True),
        (1, *scale.sharings),
        (False, True),
    )
    cells = [Cell(*values) for values in grid]
    return sorted(cells, key=lambda cell: -cell.dim * cell.num_label)


# --- what is trained --------------------------------------------------------


def draw_items(num_label: int, num_item: int, zipf: bool, seed: int = 0) -> np.ndarray:
    """Draw items of a catalog, by Zipf's law or all with the same share."""
    if zipf:
        return zipf_items(num_label, num_item, seed=seed)
    return np.random.default_rng(seed).integers(0, num_label, num_item, dtype=np.int32)


class OnCpu:
    """The CPU backend, and the memory of the host."""

    name = "cpu"
    is_gpu = False

    def __init__(self) -> None:
        self.description = machine()

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Make it the current device."""
        return contextlib.nullcontext()

    def option(self, cell: Cell) -> Any:
        """Return what a task is given as `device`."""
        return "cpu"

    def copy(self, to: Any, source: Any) -> None:
        """Copy an array within the device's memory."""
        np.copyto(to, source)

    def bandwidth(self, num_byte: int) -> float:
        """Bytes read and written a second by a copy: the best of several."""
        source, to = np.ones(num_byte, dtype=np.uint8), np.empty(num_byte, dtype=np.uint8)
        self.copy(to, source)
        return 2 * num_byte / min(seconds_of(self.copy, to, source) for _ in range(5))


class OnGpu:
    """A GPU and its memory."""

    is_gpu = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.index = int(name.partition(":")[2] or 0)
        self.chip = chips.find_chip(self.index)
        self.description = f"{self.name} of {chips.describe()}; host: {machine()}"

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return chips.cupy().cuda.Device(self.index)

    def option(self, cell: Cell) -> Any:
        return Cuda(self.index, cell.threads, cell.lossy)

    def copy(self, to: Any, source: Any) -> None:
        runtime = chips.cupy().cuda.runtime
        stream = chips.cupy().cuda.get_current_stream()
        runtime.memcpyAsync(
            to.data.ptr, source.data.ptr, source.nbytes, runtime.memcpyDeviceToDevice, stream.ptr
        )

    def bandwidth(self, num_byte: int) -> float:
        cupy = chips.cupy()
        num_byte = min(num_byte, cupy.cuda.runtime.memGetInfo()[0] // 4)
        source, to = (cupy.empty(num_byte, dtype=np.uint8) for _ in range(2))
        stream = cupy.cuda.get_current_stream()

        def once() -> float:
            began, ended = cupy.cuda.Event(), cupy.cuda.Event()
            began.record(stream)
            self.copy(to, source)
            ended.record(stream)
            ended.synchronize()
            return cupy.cuda.get_elapsed_time(began, ended) / 1e3

        once()
        return 2 * num_byte / min(once() for _ in range(20))

    def spilled(self) -> dict[str, int]:
        """Bytes of local memory that each default kernel uses a thread."""
        found = {}
        for instance in instances.DEFAULTS:
            if self.chip.capability < instances.VECTOR_ATOMICS:
                instance = instance._replace(update="add")
            kernel = programs.kernel(self.index, (instance.name,), instance.name)
            found[instance.name] = int(kernel.local_size_bytes)
        return found


class Tables:
    """Two tables in a device's memory, cut from the same memory for every cell.

    Their values are made on the host once, by `initialize_syn`, and copied within the
    device before each use.
    """

    def __init__(self, device: OnCpu | OnGpu) -> None:
        self._device = device
        self._flat: list[Any] = []
        self._size = 0

    def take(self, num_label: int, dim: int) -> list[Any]:
        """Return both tables, with the values of the start."""
        size = num_label * dim
        if size > self._size:
            self._flat, self._size = [], 0
            gc.collect()
            option = self._device.option(Cell(dim, num_label))
            self._flat = [
                itembed_gpu.initialize_syn(num_label, dim, method, seed=1, device=option).reshape(
                    -1
                )
                for method in ("uniform", "zero", "zero")
            ]
            self._size = size
        start, *flat = (array[:size] for array in self._flat)
        for array in flat:
            self._device.copy(array, start)
        return [array.reshape(num_label, dim) for array in flat]


# --- measuring --------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """Pairs a second: wall time of the median, the slowest and the fastest run, and kernel time."""

    median: float
    low: float
    high: float
    kernel: float | None
    num_pair: int
    details: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        kernel = "" if self.kernel is None else f", kernel {mega(self.kernel)}"
        return f"{mega(self.median)} Mpair/s ({mega(self.low)} to {mega(self.high)}{kernel})"


def mega(value: float) -> str:
    """Return millions, in three digits or more."""
    millions = value / 1e6
    return f"{millions:.0f}" if millions >= 100 else f"{millions:.3g}"


def kernel_seconds(task: Any) -> float | None:
    """Time that a task's launches took on the device so far; None on the CPU."""
    return getattr(task._bound, "kernel_seconds", None)


def timed(task: Any, function: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """Call a function and wait for the device: what it returned, wall and kernel seconds."""
    task.synchronize()
    before = kernel_seconds(task)
    began = time.perf_counter()
    result = function()
    task.synchronize()
    seconds = time.perf_counter() - began
    after = kernel_seconds(task)
    return result, seconds, None if before is None or after is None else after - before


def time_task(task: Any, seconds: float) -> Speed:
    """Measure a task's speed, in runs of at most an epoch and about so many seconds."""
    rates = np.full(len(task), LEARNING_RATE)

    def run(num_batch: int) -> tuple[int, float, float | None]:
        return timed(task, lambda: task.do_batches(rates[:num_batch]))

    probe = max(1, len(task) // 50)
    run(probe)  # compiles and copies
    # Counted by what a batch took in a short run, which is rather too much.
    num_batch = int(min(len(task), max(probe, seconds / (run(probe)[1] / probe))))
    for _ in range(2):
        run(num_batch)  # the length of launches is learned, and clocks rise
    runs = [run(num_batch) for _ in range(REPEAT)]
    speeds = [num_pair / wall for num_pair, wall, _ in runs]
    kernels_ = [num_pair / kernel for num_pair, _, kernel in runs if kernel]
    return Speed(
        statistics.median(speeds),
        min(speeds),
        max(speeds),
        statistics.median(kernels_) if kernels_ else None,
        runs[0][0],
        in_use(task),
    )


def in_use(task: Any) -> dict[str, Any]:
    """Return which kernel a task used, and with how many pairs in flight."""
    geometry, instance = (getattr(task._bound, name, None) for name in ("geometry", "instance"))
    details: dict[str, Any] = {}
    if instance is not None:
        details |= {"threads_per_pair": instance.threads, "update": instance.update}
    if geometry is not None:
        caps = geometry.left_caps, geometry.right_caps
        details |= {
            "pairs_in_flight": geometry.num_tile,
            "capped": any(cap is not None for cap in caps),
        }
    return details


class LeftOut(Exception):
    """Something cannot be measured here, which is nobody's fault."""


@dataclass(frozen=True)
class Measured:
    """What a row shows: a value that is held against a target, and words."""

    value: float
    text: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    what: str
    measured: str
    value: float | None
    target: str
    verdict: str
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[str, ...]:
        value = "" if self.value is None else f"{self.value:.4g}"
        return self.what, self.measured, value, self.target, self.verdict


class Report:
    """The table: printed and written row by row, so that what is cut short leaves its rows."""

    FIELDS = (
        *HEAD, "seconds", "dim", "num_label", "distribution", "task", "sharing",
        "threads_per_pair", "update", "pairs_in_flight", "capped", "num_pair",
        "pairs_per_second", "pairs_per_second_low", "pairs_per_second_high",
        "pairs_per_second_kernel", "of_copy",
    )  # fmt: skip

    def __init__(self, out: Path, note: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self.note = note
        self.rows: list[Row] = []
        say(*HEAD)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        say(*row.cells)
        self.write()

    def summary(self) -> str:
        """Say how many targets were met."""
        count = {word: sum(row.verdict == word for row in self.rows) for word in ("met", "MISSED")}
        total = sum(bool(row.target) for row in self.rows)
        others = total - sum(count.values())
        unjudged = f" ({others} not judged)" if others else ""
        return f"{count['met']} of {total} targets met, {count['MISSED']} missed{unjudged}."

    def write(self) -> None:
        rows = table(HEAD, [row.cells for row in self.rows])
        text = page("Training on a GPU", self.note, [self.summary()], rows)
        write_whole(self.out / "gpu.md", text)
        lines = io.StringIO()
        writer = csv.DictWriter(lines, self.FIELDS)
        writer.writeheader()
        for row in self.rows:
            values = row.details | dict(zip(HEAD, row.cells, strict=True))
            writer.writerow(values | {"value": row.value, "seconds": round(row.seconds, 2)})
        write_whole(self.out / "gpu.csv", lines.getvalue())


class Bench:
    """One run of the benchmark."""

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
        self._items: dict[tuple[int, bool], np.ndarray] = {}

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

    def make_task(self, cell: Cell, num_item: int | None = None) -> Any:
        """Make the task of a cell, with resident tables."""
        items = self.items(cell)[:num_item]
        options: dict[str, Any] = {
            "num_negative": NUM_NEGATIVE,
            "negative_sharing": cell.sharing,
            "batch_size": BATCH_SIZE,
            "seed": 1,
            "device": self.device.option(cell),
        }
        tables = self.tables.take(cell.num_label, cell.dim)
        if not cell.supervised:
            offsets = np.arange(0, len(items) + 1, ITEMSET_LENGTH)
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
                self.speeds[cell] = time_task(self.make_task(cell), self.scale.seconds)
            except Exception as error:
                self.failed[cell] = str(error)
                raise
        return self.speeds[cell]

    def of_copy(self, cell: Cell) -> float:
        """Bytes a second that a cell's pairs need, over those of a copy; nan if that failed."""
        num_byte = 2 * (NUM_NEGATIVE + 2) * cell.dim * 4
        return self.speed(cell).median * num_byte / (self.bandwidth or float("nan"))

    def measure_cell(self, cell: Cell) -> Measured:
        speed, ratio = self.speed(cell), self.of_copy(cell)
        details = {
            "dim": cell.dim,
            "num_label": cell.num_label,
            "distribution": "Zipf(1)" if cell.zipf else "uniform",
            "task": "supervised" if cell.supervised else "unsupervised",
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

        task = self.make_task(cell, num_item)
        once(task)
        runs = []
        for _ in range(5):
            if new_task:
                task = self.make_task(cell, num_item)
            runs.append(once(task))
        wall = statistics.median(wall for wall, _ in runs)
        if not self.device.is_gpu:
            raise LeftOut(f"not on this device (wall {1e3 * wall:.1f} ms)")
        ratio = statistics.median(wall / kernel for wall, kernel in runs)
        return Measured(ratio, f"wall {1e3 * wall:.2f} ms, kernel {1e3 * wall / ratio:.2f} ms")

    def measure_calls(self, task: Any, num_batch: int) -> Measured:
        """Time calls of few batches, one after the other."""
        rates = np.full(num_batch, LEARNING_RATE)
        num_call = self.scale.num_call

        def run() -> int:
            return sum(task.do_batches(rates) for _ in range(num_call))

        timed(task, run)
        num_pair, seconds, kernel = timed(task, run)
        nanoseconds = 1e9 * seconds / num_pair
        self.call_times[num_batch] = nanoseconds
        inside = "" if kernel is None else f", kernel {1e6 * kernel / num_call:.1f} us"
        text = f"{1e6 * seconds / num_call:.1f} us a call{inside}; {nanoseconds:.2f} ns a pair"
        return Measured(nanoseconds, text)

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
        loss = oracle.train_problem(problem, self.device.option(Cell(problem.dim, 1)), sharing)
        change = loss / stored - 1
        return Measured(abs(change), f"{loss:.4f}, sequential {stored:.4f} ({100 * change:+.2f} %)")

    # --- all of it

    def judged_speed_rows(self) -> None:
        for cell in both(self.scale.judged):
            what = f"bytes/s over copy: {cell}"
            self.row(what, ratio_target(cell), self.measure_cell, cell)
        for cell in both((self.scale.default,)):
            what = f"speed over unshared: negative_sharing={self.scale.judged_sharing}, {cell}"
            self.row(what, SHARING_TARGET, self.measure_sharing, cell)

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
            if cell in judged:
                continue  # it has its row
            what = f"sweep: {cell}"
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
        self.host_rows()
        self.call_rows()
        self.sweep_rows(sweep)
        self.row("copy bandwidth once more, TB/s", None, self.measure_bandwidth)


# --- picture ----------------------------------------------------------------


def plot(bench: Bench, path: Path) -> None:
    """Draw what was measured: ratios to the copy, sharing, and short calls."""
    cells = [*both(bench.scale.judged), *one_at_a_time(bench.scale)]
    names = list(dict.fromkeys(cell.settings for cell in cells if cell in bench.speeds))
    with picture(path, 12, max(5.0, 0.36 * len(names) + 2)) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
        plot_ratios(figure.add_subplot(grid[:, 0]), bench, cells, names)
        plot_sharing(figure.add_subplot(grid[0, 1]), bench)
        plot_calls(figure.add_subplot(grid[1, 1]), bench)
        figure.suptitle(f"itembed_gpu on {bench.device.name}: k = {NUM_NEGATIVE}, float32")


COLORS = {True: BLUE, False: ORANGE}
NAMES = {True: "Zipf(1)", False: "uniform"}


def plot_ratios(axes: Any, bench: Bench, cells: list[Cell], names: list[str]) -> None:
    judged = list(both(bench.scale.judged))
    for cell in dict.fromkeys(cells):
        if cell not in bench.speeds:
            continue
        at = names.index(cell.settings) + (-0.2 if cell.zipf else 0.2)
        bar = axes.barh(at, bench.of_copy(cell), 0.38, color=COLORS[cell.zipf])
        axes.bar_label(bar, [mega(bench.speeds[cell].median)], padding=3, fontsize=7)
        if cell in judged and bench.scale.judge_speed:
            target = ratio_target(cell).limit
            axes.plot([target, target], [at - 0.19, at + 0.19], color="black", linewidth=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.14, y=0.02)
    axes.set_xlabel("needed bytes a second over copy bandwidth (beside: Mpair/s)")
    axes.axvline(1, color="gray", linewidth=0.8)
    handles = [axes.plot([], [], color=COLORS[zipf], linewidth=6)[0] for zipf in (True, False)]
    handles += axes.plot([], [], color="black", linewidth=2)
    labels = [*NAMES.values(), "target"]  # above the axes, where they cover nothing
    axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)


def plot_sharing(axes: Any, bench: Bench) -> None:
    for zipf in (True, False):
        cells = [
            dataclasses.replace(bench.scale.default, zipf=zipf, sharing=sharing)
            for sharing in (1, *bench.scale.sharings)
        ]
        points = [(c.sharing, bench.speeds[c].median / 1e6) for c in cells if c in bench.speeds]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=COLORS[zipf], label=NAMES[zipf])
    axes.set_xscale("log", base=2)
    sharings = (1, *bench.scale.sharings)
    axes.set_xticks(sharings, map(str, sharings))
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_xlabel("negative_sharing")
    axes.set_ylabel("Mpair/s")
    axes.set_title(bench.scale.default.settings, fontsize=9)
    if axes.has_data():
        axes.legend(loc="lower right")


def plot_calls(axes: Any, bench: Bench) -> None:
    if bench.call_times:
        axes.loglog(list(bench.call_times), list(bench.call_times.values()), "o-", color=GREEN)
    if bench.scale.default in bench.speeds:
        axes.axhline(
            1e9 / bench.speeds[bench.scale.default].median,
            color="gray",
            linestyle="--",
            label="a whole epoch a call",
        )
        axes.legend()
    axes.set_xlabel(f"batches of {BATCH_SIZE} itemsets a call")
    axes.set_ylabel("ns a pair")
    axes.set_title("Short calls", fontsize=9)


# --- the command ------------------------------------------------------------


def benchmark(
    device: OnCpu | OnGpu,
    out: Path,
    scale: Scale = FULL_SCALE,
    sweep: list[Cell] | None = None,
    budget: float = BUDGET,
    command: str = "benchmarks.gpu",
) -> Bench:
    """Run everything, and write its results into a folder.

    The cells of the sweep have no target: by default those that differ from the default in one
    setting. After so many seconds (`budget`) none of them is begun. How it was called is `command`.
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
    try:
        with device.active():
            bench.run(one_at_a_time(scale) if sweep is None else sweep)
    finally:
        took = f"It took {time.perf_counter() - began:.0f} s."
        report.note += f" {took}"
        report.write()
        print(report.summary(), took, flush=True)
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
    options = parser.parse_args(arguments)
    scale = SMALL_SCALE if options.small else FULL_SCALE
    budget = options.budget
    if budget is None:
        budget = float("inf") if options.full else BUDGET
    words = ["benchmarks.gpu", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        device = OnCpu() if options.device == "cpu" else OnGpu(options.device)
    except itembed_gpu.DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    benchmark(
        device,
        options.out,
        scale,
        all_combinations(scale) if options.full else None,
        budget,
        " ".join(words),
    )


if __name__ == "__main__":
    main()

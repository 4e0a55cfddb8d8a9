"""Part *card* of `benchmarks.scale`: tables of twice what a card is allowed, in parts."""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

import itembed_gpu as ig
from benchmarks import oracle
from benchmarks.common.catalogs import planted_itemsets, uniform_tables
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, say, table, tick
from benchmarks.common.timing import medians
from itembed_gpu.backends.cpu.listing import CpuLister
from itembed_gpu.backends.cpu.task import CpuBackend
from itembed_gpu.backends.cuda.task import parts_that_fit
from itembed_gpu.backends.devices import select_backend
from itembed_gpu.objective.table import Table
from itembed_gpu.training.partitioned import Blocks

# Of a hundred pairs an item and epoch, as in `scale_model`.
NUM_ITEM, NUM_ITEMSET_PER_ITEM = 4_000_000, 20
SPEED = Target(">=", 0.6)
GB = 1e9


@functools.lru_cache(maxsize=1)
def itemsets(num_item: int) -> Any:
    """Draw the itemsets of a catalog, once for all trainings."""
    return planted_itemsets(num_item, NUM_ITEMSET_PER_ITEM * num_item, seed=0)


def make_task(options: argparse.Namespace, num_part: int) -> ig.UnsupervisedTask:
    """Make the task, in some parts."""
    items = itemsets(options.card_items)
    offsets = np.arange(0, items.size + 1, items.shape[1], dtype=np.int64)
    tables = uniform_tables(options.card_items, options.dim)
    how: dict[str, Any] = {"seed": 1, "partitions": num_part, "device": options.device}
    return ig.UnsupervisedTask(items.ravel(), offsets, *tables, **how)


@contextmanager
def listed_by_host(kind: type) -> Iterator[None]:
    """Have backends of a kind leave the list of pairs to the CPU."""
    before = kind.lister  # type: ignore[attr-defined]
    num_threads = CpuBackend().num_threads
    kind.lister = lambda _, problem: CpuLister(problem, num_threads)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        kind.lister = before  # type: ignore[attr-defined]


@contextmanager
def moved(kind: type) -> Iterator[list[int]]:
    """Add up the bytes of parts that come and go: the list holds them, one by one."""
    num_byte: list[int] = []
    before = {name: getattr(kind, name) for name in ("bring", "fetch")}

    def counting(name: str) -> Callable[[Any, Table], Table]:
        def call(self: Any, table: Table) -> Table:
            num_byte.append(sum(array.nbytes for array in table.arrays().values()))
            result: Table = before[name](self, table)
            return result

        return call

    for name in before:
        setattr(kind, name, counting(name))
    try:
        yield num_byte
    finally:
        for name, method in before.items():
            setattr(kind, name, method)


def pairs_per_second(task: ig.UnsupervisedTask, num_epoch: int) -> float:
    """Train some epochs after one that compiles; the median of their speeds counts."""
    epochs = ig.train(task, num_epoch=1 + num_epoch, progress=False).epochs[1:]
    return statistics.median(epoch.num_pair / epoch.seconds for epoch in epochs)


def seconds_to_list(task: ig.UnsupervisedTask, num_part: int, backend: Any) -> float:
    """Return how long it takes to list the pairs of an epoch, after one that compiles."""
    blocks = Blocks(task._problem, num_part)
    lister = backend.lister(blocks.problem)
    for epoch in range(2):
        blocks.partitions(0, epoch)
        began = time.perf_counter()
        blocks.list_pairs(0, epoch, (0, blocks.problem.num_slot), lister)
    return time.perf_counter() - began


def why_not(device: str) -> str | None:
    """Say why a device cannot be had; None where it can."""
    try:
        select_backend(device)
    except ig.DeviceError as error:
        return str(error)
    return None


def card_part(options: argparse.Namespace) -> list[str]:
    """Compare tables in parts with those that fit."""
    reason = why_not(options.device)
    if reason:
        return [f"Not measured, as there is no card here: {reason}."]
    size = 4 * options.card_items * options.dim
    memory = options.card_memory or size  # half of both tables
    num_part = parts_that_fit([size, size], memory)
    backend = select_backend(options.device)
    kind = type(backend)
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "in the card's memory": (1, nullcontext),
        f"{num_part} parts, listed by the host": (num_part, lambda: listed_by_host(kind)),
        f"{num_part} parts, listed by the card": (num_part, nullcontext),
    }

    def train(parts: int, way: Callable[[], Any]) -> float:
        with way():
            return pairs_per_second(make_task(options, parts), options.epochs)

    clocks = {name: functools.partial(train, *way) for name, way in ways.items()}
    speeds = medians(clocks, options.repeat)
    whole, *_, last = speeds
    task = make_task(options, num_part)
    seconds = ["", *(seconds_to_list(task, num_part, b) for b in (CpuBackend(), backend))]
    with moved(kind) as num_byte:
        ig.train(task, num_epoch=1, progress=False)
    rows = []
    for (name, speed), took in zip(speeds.items(), seconds, strict=True):
        ratio = speed / speeds[whole]
        mark = f" ({SPEED} {tick(SPEED.is_met(ratio))})" if name == last else ""
        travelled = "" if name == whole else f"{sum(num_byte) / GB:.3g}"
        listing = took if isinstance(took, str) else f"{took:.3g}"
        rows.append(say(name, f"{speed / 1e6:.4g}", f"{ratio:.2f}{mark}", listing, travelled))
    head = (
        *("tables", "million pairs/s", "over in the card's memory"),
        *("an epoch is listed in, seconds", "GB of parts that come and go in an epoch"),
    )
    note = (
        f"{options.card_items:,} items, D = {options.dim}: tables of {2 * size / GB:.3g} GB, where "
        f"{memory / GB:.3g} GB are allowed; {NUM_ITEMSET_PER_ITEM} itemsets of "
        f"{oracle.ITEMSET_LENGTH} for each item. Medians of {options.repeat} trainings of "
        f"{options.epochs} epochs each. On {backend.name}, {machine()}."
    )
    return [note, "", *table(head, rows)]

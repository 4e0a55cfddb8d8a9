"""Softmax over all items: logits a second, and the memory that a step takes.

    python -m benchmarks.dense --device cuda                 # one GPU: some minutes
    python -m benchmarks.dense --items 41000 --dims 128      # two cores: a minute
    python -m benchmarks.dense --items 1000000 --dims 128 --batches 8192 --steps 1

A step is one batch of itemsets of 10 items, Zipf(1), against all items: forward, backward and the
change of every row by Adagrad. Each logit is counted once. The clock runs from the drawing of the
first batch to the end of the last; steps before it compile and warm up (on the CPU, with other
tables). Memory is what a device takes beyond tables, itemsets and accumulators: on the CPU how
much more of it is resident at most, on a GPU how much less of its memory is free.

What was measured goes into ``results/dense.json``, a row for each device and size, and
``dense.md`` is made of all of it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu as ig
from benchmarks.common.catalogs import zipf_items
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from benchmarks.gpu import OnCpu, OnGpu
from itembed_gpu.backends import batches
from itembed_gpu.backends.cuda import chips, dense as cuda

ITEMS, DIMS, BATCHES = (41_000, 100_000, 1_000_000), (128, 512), (1024, 8192)
ITEMSET_LENGTH = 10
TEMPERATURE, RATE = 0.1, 0.1
# The largest catalog that is asked for a target, and what it is to reach.
LARGEST = {"items": 1_000_000, "dim": 128, "batch": 8192}
MEMORY, SPEED = Target("<=", 1024), Target(">=", 2e11)
MIB = 1 << 20
HEAD = ("device", "items", "D", "itemsets a batch", "steps", "seconds a step", "logits/s", "MiB")


class HostMemory:
    """Resident memory of this process."""

    def read(self) -> int:
        """Bytes at most, since the last call of `reset`."""
        return self._status("VmHWM")

    def reset(self) -> int:
        """Forget what was at most; return what is now."""
        Path("/proc/self/clear_refs").write_text("5")
        return self._status("VmRSS")

    @staticmethod
    def _status(name: str) -> int:
        text = Path("/proc/self/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", text)
        return 1024 * int(found[1]) if found else 0


class DeviceMemory:
    """Memory of a GPU: CuPy keeps what it once had, so that what is taken is the most."""

    def read(self) -> int:
        free, total = chips.cupy().cuda.runtime.memGetInfo()
        return int(total - free)

    def reset(self) -> int:
        chips.cupy().get_default_memory_pool().free_all_blocks()
        return self.read()


def make_task(
    num_item: int, dim: int, batch_size: int, num_step: int, device: str
) -> ig.UnsupervisedTask:
    """Make a task whose epoch has so many steps."""
    items = zipf_items(num_item, ITEMSET_LENGTH * batch_size * num_step)
    offsets = np.arange(0, len(items) + 1, ITEMSET_LENGTH)
    syn0, syn1 = (ig.initialize_syn(num_item, dim, "uniform", seed=seed) for seed in (1, 2))
    return ig.UnsupervisedTask(
        items, offsets, syn0, syn1, loss="softmax", pooling="mean", similarity="cosine",
        temperature=TEMPERATURE, dropout=0.3, optimizer="adagrad", batch_size=batch_size,
        device=device, seed=1,
    )  # fmt: skip


def measure(
    device: OnCpu | OnGpu, num_item: int, dim: int, batch_size: int, num_step: int
) -> dict[str, Any]:
    """Train some steps, and return how long one took, and how much memory."""
    num_warm = 2 if device.is_gpu else 0
    task = make_task(num_item, dim, batch_size, num_warm + num_step, device.name)
    memory = DeviceMemory() if device.is_gpu else HostMemory()
    with device.active():
        task._bound.prepare()
        before = memory.reset()

        def seconds(count: int) -> float:
            began = time.perf_counter()
            task.do_batches(np.full(count, RATE))
            tally = task._read_tally(wait=True)
            if count and not math.isfinite(tally.loss):
                raise RuntimeError(f"the loss is {tally.loss}")
            return time.perf_counter() - began

        seconds(num_warm)
        each = seconds(num_step) / num_step
        taken = memory.read() - before
        task._discard()
    return {
        "device": device.name,
        "on": device.description,
        "items": num_item,
        "dim": dim,
        "batch": batch_size,
        "steps": num_step,
        "tile": task._bound._ops.tile_logits or batches.TILE_LOGITS,
        "seconds": each,
        "speed": num_item * batch_size / each,
        "memory": taken / MIB,
    }


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells rows apart."""
    return row["device"], row["items"], row["dim"], row["batch"]


def show(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table."""
    largest = all(row[name] == value for name, value in LARGEST.items())
    speed, memory = f"{row['speed']:.2e}", f"{row['memory']:,.0f}"
    if largest:
        memory += f" ({MEMORY} {tick(MEMORY.is_met(row['memory']))})"
    if largest and row["device"] != "cpu":
        speed += f" ({SPEED} {tick(SPEED.is_met(row['speed']))})"
    return (
        row["device"], f"{row['items']:,}", str(row["dim"]), f"{row['batch']:,}", str(row["steps"]),
        f"{row['seconds']:.4g}", speed, memory,
    )  # fmt: skip


def make_report(rows: list[dict[str, Any]]) -> str:
    """Return the page of all rows."""
    note = (
        f"`python -m benchmarks.dense`: itemsets of {ITEMSET_LENGTH} items, Zipf(1), 30 % of them "
        "left out of the mean, all of them targets; cosine, Adagrad. Memory is that beyond tables, "
        "itemsets and accumulators."
    )
    machines = dict.fromkeys((row["device"], row["on"]) for row in rows)
    lines = [f"- {device}: {on}." for device, on in machines]
    return page("Softmax over all items", note, lines, table(HEAD, map(show, rows)))


def main(args: list[str] | None = None) -> None:
    parser = make_parser("dense", __doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    for name, values in (("items", ITEMS), ("dims", DIMS), ("batches", BATCHES)):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=values)
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed")
    parser.add_argument("--tile", type=int, help="MiB of a tile of logits")
    options = parser.parse_args(args)
    if options.tile is not None:
        batches.TILE_LOGITS, cuda.TILE_BYTES = options.tile * MIB // 4, options.tile * MIB
    try:
        device = OnCpu() if options.device == "cpu" else OnGpu(options.device)
    except ig.DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    if not device.is_gpu:  # what is compiled is the same for all sizes
        measure(device, 1000, 8, 64, 1)
    path: Path = options.out / "results" / "dense.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = {key_of(row): row for row in known}
    print(*HEAD, sep=" | ")
    for row in measure_all(device, options):
        rows[key_of(row)] = row
        say(*show(row))
        kept = [rows[key] for key in sorted(rows)]
        write_whole(path, json.dumps(kept, indent=1) + "\n")
        write_whole(options.out / "dense.md", make_report(kept))


def measure_all(device: OnCpu | OnGpu, options: argparse.Namespace) -> Any:
    """Measure one size after the other, the smallest first."""
    for num_item in options.items:
        for dim in options.dims:
            for batch_size in options.batches:
                yield measure(device, num_item, dim, batch_size, options.steps)


if __name__ == "__main__":
    main()

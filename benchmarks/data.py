"""How fast itemsets are read, packed, kept and trained: rows a second, and memory.

    python -m benchmarks.data                   # 50 million rows: about 15 minutes
    python -m benchmarks.data --rows 1000000    # does it run?
    python -m benchmarks.data --rows 3000000 --against CHECKOUT    # another version, in turns

Each reading is a process of its own, on a catalog of `benchmarks.synthetic` (100,000 items, string
labels); what counts are the ratios within one run. Memory is the most that the process had
beyond what it began with, the source included where that lies in memory. Writes ``data.md`` and
``data.png`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks import data_against
from benchmarks.common.catalogs import uniform_tables
from benchmarks.common.machine import machine
from benchmarks.common.plots import picture
from benchmarks.common.report import make_parser, page, table, write_whole
from benchmarks.common.timing import run_python, seconds_of
from benchmarks.synthetic import make_catalog, write

NUM_ITEM = 100_000
# Lists of Python objects take some 100 bytes a row.
LIST_ROWS = 5_000_000
SPILL_MEMORY = 256 << 20
# A checkpoint holds both tables.
CHECKPOINT_ITEMS, CHECKPOINT_DIM, CHECKPOINT_PAIRS = 1_000_000, 128, 100_000_000


# --- what is measured: each prepares a source, and returns what reads it ------------


def ours(source: Any, **options: Any) -> Callable[[], int]:
    def read() -> int:
        return int(itembed_gpu.read_itemsets(source, **options).dropped.items_read)

    return read


def spilled(folder: Path) -> Callable[[], int]:
    path = folder / "spilled.itemsets"
    # Less than what it takes to read the files at once, however small they are.
    size = sum(part.stat().st_size for part in (folder / "shuffled").iterdir())
    memory = min(SPILL_MEMORY, max(size, 1 << 20))

    def read() -> int:
        packed = itembed_gpu.pack_files(folder / "shuffled", path, memory=memory)
        return int(packed.dropped.items_read)

    return read


def write_quoted(folder: Path) -> None:
    """Write the CSV files once more, with every field in quotes."""
    import polars

    (folder / "csv_quoted").mkdir()
    for part in sorted((folder / "csv").iterdir()):
        scan = polars.scan_csv(part, infer_schema=False)
        scan.sink_csv(folder / "csv_quoted" / part.name, quote_style="always")


def frame(folder: Path) -> Any:
    import polars

    return polars.read_parquet(folder / "parquet" / "*.parquet")


def csr(folder: Path) -> Callable[[], int]:
    from scipy.sparse import csr_array

    packed = itembed_gpu.read_itemsets(folder / "parquet")
    values = np.ones(packed.num_item, dtype=np.float32)
    return ours(csr_array((values, packed.indices, packed.offsets)))


def saved(folder: Path) -> Callable[[], int]:
    path = folder / "data.itemsets"
    if not path.exists():
        itembed_gpu.read_itemsets(folder / "parquet").save(path)
    return ours(path)


def pandas_groupby(folder: Path) -> Callable[[], int]:
    table = frame(folder).head(LIST_ROWS).to_pandas()

    def read() -> int:
        codes, _ = table["item"].factorize()
        lengths = table.assign(code=codes).groupby("basket", sort=False)["code"].apply(np.asarray)
        return int(np.concatenate(lengths.to_numpy()).size)

    return read


def lists_of(folder: Path) -> list[list[str]]:
    import polars

    table = frame(folder).head(LIST_ROWS)
    groups = table.group_by("basket", maintain_order=True).agg(polars.col("item"))
    return groups["item"].to_list()


def lists(folder: Path) -> Callable[[], int]:
    itemsets = lists_of(folder)
    return lambda: int(itembed_gpu.pack_itemsets(itemsets).dropped.items_read)


def lists_itembed(folder: Path) -> Callable[[], int]:
    import itembed

    itemsets = lists_of(folder)
    return lambda: len(itembed.pack_itemsets(itemsets)[1])


READERS: dict[str, tuple[str, Callable[[Path], Callable[[], int]], float | None]] = {
    "parquet": ("Parquet, sorted by basket", lambda folder: ours(folder / "parquet"), 10e6),
    "parquet_unsorted": ("Parquet, shuffled", lambda folder: ours(folder / "shuffled"), 4e6),
    "spilled": ("the same by way of the disk, in 256 MiB", spilled, None),
    "csv": ("CSV", lambda folder: ours(folder / "csv"), None),
    "csv_quoted": ("CSV, all in quotes", lambda folder: ours(folder / "csv_quoted"), None),
    "polars": ("polars.DataFrame", lambda folder: ours(frame(folder)), None),
    "pandas": ("pandas.DataFrame", lambda folder: ours(frame(folder).to_pandas()), None),
    "csr": ("scipy CSR, integer items", csr, 100e6),
    "saved": ("packed folder, opened", saved, None),
    "lists": ("lists of strings", lists, None),
    "lists_itembed": ("lists of strings, itembed", lists_itembed, None),
    "pandas_groupby": ("pandas groupby", pandas_groupby, None),
}


def measure_one(name: str, folder: Path) -> dict[str, float]:
    """Read a source three times: the best time, and the most memory of the first."""
    # Compiled before: the code is kept on disk between processes.
    import polars

    for rows in ({"b": [1, 1, 2], "i": ["x", "y", "x"]}, {"b": [1, 2, 1], "i": ["x", "y", "x"]}):
        itembed_gpu.read_itemsets(polars.DataFrame(rows))
    read = READERS[name][1](folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, rows, memory = [], 0, 0
    for number in range(3):
        began = time.perf_counter()
        rows = read()
        seconds.append(time.perf_counter() - began)
        if number == 0:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"rows": rows, "seconds": min(seconds), "memory": memory * 1024}


def run_all(folder: Path) -> dict[str, dict[str, float]]:
    results = {}
    for name in READERS:
        options = ("--measure", name, "--folder", str(folder))
        results[name] = json.loads(run_python(["-m", "benchmarks.data", *options]))
        print(name, results[name], flush=True)
    return results


def end_to_end(folder: Path) -> dict[str, float]:
    """Seconds of each phase from a file to a saved model, and of checkpoints in training."""

    def trained(packed: Any, epochs: int, **options: Any) -> tuple[Any, float]:
        syn0 = itembed_gpu.initialize_syn(packed.num_label, 64, seed=1)
        syn1 = itembed_gpu.initialize_syn(packed.num_label, 64, "zero")
        task = itembed_gpu.UnsupervisedTask(packed.indices, packed.offsets, syn0, syn1, seed=1)
        task.do_batch(0.0)  # compiled before
        options |= {"num_epoch": epochs, "progress": False}
        return syn0, seconds_of(itembed_gpu.train, task, **options)

    seconds = {}
    began = time.perf_counter()
    packed = itembed_gpu.read_itemsets(folder / "parquet", min_length=2)
    seconds["reading and packing"] = time.perf_counter() - began
    seconds["saving what was packed"] = seconds_of(packed.save, folder / "end.itemsets")
    opened = itembed_gpu.PackedItemsets.load(folder / "end.itemsets")
    syn0, seconds["training, one epoch, D=64"] = trained(opened, 1)
    model = itembed_gpu.Embeddings(packed.labels, syn0)
    seconds["saving the model"] = seconds_of(model.save, folder / "model")
    _, kept = trained(opened, 1, checkpoint=folder / "kept")
    seconds["the same epoch with a checkpoint"] = kept
    return seconds


def checkpoints(folder: Path, share: float) -> dict[str, float]:
    """Seconds of an epoch without and with a checkpoint at its end, the write included."""
    num_pair = int(CHECKPOINT_PAIRS * share)
    generator = np.random.default_rng(0)
    items = (CHECKPOINT_ITEMS * generator.random(num_pair) ** 3).astype(np.int32)
    offsets = np.arange(0, num_pair + 1, 10)
    tables = uniform_tables(CHECKPOINT_ITEMS, CHECKPOINT_DIM)
    task = itembed_gpu.UnsupervisedTask(items, offsets, *tables, seed=1)
    task.do_batch(0.0)  # compiled before
    seconds = {}
    for name, options in (
        (f"an epoch of {num_pair:,} pairs, {CHECKPOINT_ITEMS:,} x {CHECKPOINT_DIM}", {}),
        ("the same with a checkpoint (target: 5 % more)", {"checkpoint": folder / "large"}),
    ):
        seconds[name] = seconds_of(itembed_gpu.train, task, num_epoch=1, progress=False, **options)
    return seconds


# --- what is written ----------------------------------------------------------------


def make_report(
    results: dict[str, dict[str, float]], phases: dict[str, float], asked: int, rows: int
) -> str:
    note = (
        f"`python -m benchmarks.data --rows {asked}`: a long table of {rows:,} rows, string items "
        f"of a catalog of {NUM_ITEM:,} (lists and groupby: the first {LIST_ROWS:,} rows at most); "
        f"the best of three, each source in a process of its own. {machine()}."
    )
    head = ("from", "million rows a second", "target", "memory beyond the source, bytes a row")
    lines = []
    for name, result in results.items():
        title, _, target = READERS[name]
        speed = result["rows"] / result["seconds"]
        goal = f"{target / 1e6:g}: {'reached' if speed >= target else 'missed'}" if target else ""
        memory = result["memory"] / result["rows"]
        lines.append((title, f"{speed / 1e6:,.1f}", goal, f"{memory:.0f}"))
    ours, theirs = (results[n]["rows"] / results[n]["seconds"] for n in ("lists", "lists_itembed"))
    return page(
        "Reading, packing and keeping itemsets",
        note,
        table(head, lines),
        [f"Lists: {ours / theirs:.2f} times as fast as itembed (target: 2)."],
        ["## From the file to a saved model"],
        table(("phase", "seconds"), [(name, f"{value:.2f}") for name, value in phases.items()]),
        ["![Speed of reading](data.png)"],
    )


def plot(path: Path, results: dict[str, dict[str, float]]) -> None:
    names = [name for name in reversed(results) if name != "saved"]
    speeds = [results[name]["rows"] / results[name]["seconds"] / 1e6 for name in names]
    other = ("lists_itembed", "pandas_groupby")
    with picture(path, 9, 4.5) as figure:
        axes = figure.subplots()
        bars = axes.barh(
            [READERS[name][0] for name in names],
            speeds,
            color=["0.65" if name in other else "C0" for name in names],
        )
        axes.bar_label(bars, fmt=" {:.1f}")
        axes.set_xscale("log")
        axes.set_xlim(0.5 * min(speeds), 2 * max(speeds))
        axes.set_xlabel("million rows a second (ours blue)")


def main() -> None:
    parser = make_parser("data", __doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--against", type=Path, help="a checkout to compare with")
    parser.add_argument("--repeat", type=int, default=9, help="rounds with --against [9]")
    parser.add_argument("--measure", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure_one(options.measure, options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = make_catalog(NUM_ITEM)
        rows = write(folder / "parquet", catalog, options.rows, "parquet", False)
        write(folder / "shuffled", catalog, options.rows, "parquet", True)
        write(folder / "csv", catalog, options.rows, "csv", False)
        write_quoted(folder)
        if options.against:
            data_against.measure(options.against, folder, options.out, rows, options.repeat)
            return
        results = run_all(folder)
        phases = end_to_end(folder)
        phases |= checkpoints(folder, min(1.0, options.rows / 50_000_000))
    report = make_report(results, phases, options.rows, rows)
    write_whole(options.out / "data.md", report)
    plot(options.out / "data.png", results)
    print(report)


if __name__ == "__main__":
    main()

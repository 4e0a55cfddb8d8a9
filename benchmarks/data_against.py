"""Reading speed of this checkout over another one's: ``python -m benchmarks.data --against``.

Of each source, two processes are alive at once, one of each checkout, and read it in turns. They
use public names alone, so that the other checkout may be of any age.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import ROOT
from benchmarks.common.machine import machine
from benchmarks.common.report import page, say, table, write_whole
from benchmarks.common.timing import alternate, check_imported, environment_of

# Reads once for each line of its input, and prints the seconds.
CHILD = """
import json, sys, time
import itembed_gpu as ig
import polars
kind, path = json.loads(sys.argv[1])
source, read = path, ig.read_itemsets
if kind in ("polars", "pandas", "lists", "numbers", "sets", "generator"):
    source = polars.read_parquet(path + "/*.parquet")
    if kind == "pandas":
        source = source.to_pandas()
    elif kind != "polars":
        items = polars.col("item")
        if kind == "numbers":
            items = items.str.extract("([0-9]+)").cast(polars.Int64)
        source = source.group_by("basket", maintain_order=True).agg(items)["item"].to_list()
        read = ig.pack_itemsets
    if kind == "sets":
        source = list(map(frozenset, source))
    if kind == "generator":
        read = lambda lists: ig.pack_itemsets(items for items in lists)
print(ig.__file__, flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    read(source)
    print(time.perf_counter() - began, flush=True)
"""
# Of each source: what it is called, and the folder that holds it.
SOURCES = {
    "text": ("text, a basket a line", "text"),
    "csv": ("CSV", "csv"),
    "csv_quoted": ("CSV, all in quotes", "csv_quoted"),
    "parquet": ("Parquet, sorted by basket", "parquet"),
    "parquet_unsorted": ("Parquet, shuffled", "shuffled"),
    "polars": ("polars.DataFrame", "parquet"),
    "pandas": ("pandas.DataFrame", "parquet"),
    "lists": ("lists of strings", "parquet"),
    "numbers": ("lists of integers", "parquet"),
    "sets": ("sets of strings", "parquet"),
    "generator": ("generator of lists", "parquet"),
}


@contextmanager
def reader(checkout: Path, kind: str, source: Path, cache: Path) -> Iterator[Callable[[], float]]:
    """A process that reads, and a function that has it read and returns the seconds."""
    argument = json.dumps([kind, str(source)])
    with subprocess.Popen(
        # -P: what lies in the current folder is not importable.
        [sys.executable, "-P", "-c", CHILD, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment_of(checkout, cache),
    ) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("a pipe is missing")
        check_imported(child.stdout.readline().strip(), checkout)
        asked, answers = child.stdin, child.stdout

        def read() -> float:
            asked.write("\n")
            asked.flush()
            return float(answers.readline())

        yield read
        asked.close()


def write_text(folder: Path) -> None:
    """Write the baskets of the Parquet files as text, one a line."""
    import polars

    (folder / "text").mkdir()
    for part in sorted((folder / "parquet").iterdir()):
        baskets = polars.read_parquet(part).group_by("basket", maintain_order=True)
        lines = baskets.agg(polars.col("item"))["item"].list.join(" ").to_list()
        path = folder / "text" / f"{part.stem}.txt"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def measure(checkout: Path, folder: Path, out: Path, rows: int, repeat: int) -> None:
    """Write ``data_against.md``: sources in a folder, read in so many rounds after one."""
    write_text(folder)
    checkouts = [ROOT, checkout.resolve()]
    head = say("from", "this checkout", "the other", "ratio of medians", "ratio of the best")
    lines = []
    with tempfile.TemporaryDirectory() as cache:
        for kind, (title, place) in SOURCES.items():
            with (
                reader(checkouts[0], kind, folder / place, Path(cache) / "0") as new,
                reader(checkouts[1], kind, folder / place, Path(cache) / "1") as old,
            ):
                seconds = alternate({"new": new, "old": old}, repeat).values()
            ours, theirs = map(statistics.median, seconds)
            best = list(map(min, seconds))
            lines.append(
                say(
                    title, f"{rows / ours / 1e6:.2f} Mrow/s", f"{rows / theirs / 1e6:.2f}",
                    f"{theirs / ours:.3f}", f"{best[1] / best[0]:.3f}",
                )
            )  # fmt: skip
    note = (
        f"`python -m benchmarks.data --rows {rows} --against CHECKOUT`: reading speed of this "
        f"checkout over the other's; {repeat} rounds after one that warms up, in turns. "
        f"{machine()}."
    )
    title = "This checkout against another one: reading"
    write_whole(out / "data_against.md", page(title, note, table(head, lines)))

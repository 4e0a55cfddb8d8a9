"""CSV files of every kind, read by us and by Python's csv module: is any row read otherwise?

    python -m benchmarks.csv_fuzz                  # 10,000 files: some minutes
    python -m benchmarks.csv_fuzz --files 300      # does it run?

Files are made of a few fields, good and bad: quotes that enclose fields and quotes that are text,
separators and line ends in quotes, rows that are ragged, short, long or blank, null words, a byte
order mark, columns that nobody reads, every separator, quote and line end. Both readers are asked
for the same dialect, and the itemsets and what is missing of them are compared, of `read_itemsets`
and of `pack_files` in parts of a file. An error of ours is no difference if csv, strict, refuses
the file as well, or has rows of other widths. Writes ``csv_fuzz.md`` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import tempfile
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, page, table, write_whole
from itembed_gpu import ItembedError, pack_files, read_itemsets

NUM_FILE = 10_000
# Rows of a file that is read in several parts.
MANY = 9_000
PIECES = (
    "a", "b", "7", "08", "x y", " ", "é", "木", "\u2028", "\ufeff", "NA", "-", "\x1c", "\x1f",
    "longer than what fits into twelve bytes", "{q}", "{q}{q}", "{s}", "\n", "\r\n", "\r", "'",
)  # fmt: skip


class Made:
    """A file, and how it is to be read."""

    def __init__(self, generator: random.Random) -> None:
        choose = generator.choice
        self.separator = choose([",", ",", ";", "\t", "|", " ", ":"])
        self.quote = choose(['"', '"', '"', "'", ""])
        if generator.random() < 0.03:
            self.separator, self.quote = "::", ""
        self.header = generator.random() < 0.7
        self.nulls = choose([[], [], ["NA"], ["NA", "-"]])
        self.wildness = choose([0, 0, 0.02, 0.2])
        num_column = generator.randrange(2, 6)
        num_row = MANY if generator.random() < 0.01 else generator.choice([0, 1, 2, 3, 5, 8, 40])
        self.columns = tuple(n + 1 for n in generator.sample(range(num_column), 2))
        end = choose(["\n", "\n", "\r\n", "\r"])
        lines = [self._row(generator, num_column, end) for _ in range(num_row)]
        if self.header:
            lines.insert(0, self.separator.join(f"column {n}" for n in range(num_column)) + end)
        elif not lines:
            lines = [self._row(generator, num_column, end)]
        text = "".join(lines)
        if generator.random() < 0.3:
            text = text.removesuffix(end)
        if generator.random() < 0.1:
            text = "\ufeff" + text
        self.text = text

    def _row(self, generator: random.Random, num_column: int, end: str) -> str:
        wild = generator.random() < self.wildness
        if wild and generator.random() < 0.3:
            return generator.choice([end, end, "  " + end, self.separator * 2 + end])
        if wild and generator.random() < 0.2:
            num_column = max(1, num_column + generator.choice([-1, 1]))
        fields = [self._field(generator, wild) for _ in range(num_column)]
        return self.separator.join(fields) + (
            generator.choice(["\n", "\r\n", "\r"]) if wild else end
        )

    def _field(self, generator: random.Random, wild: bool) -> str:
        pieces = [generator.choice(PIECES) for _ in range(generator.choice([0, 1, 1, 1, 2, 3]))]
        text = "".join(pieces).replace("{q}", self.quote or '"').replace("{s}", self.separator)
        if wild and generator.random() < 0.5:
            return text  # as it is, whatever that means
        special = {self.quote or "\n", "\n", "\r", self.separator}
        if not self.quote:
            return "".join(char for char in text.replace(self.separator, "") if char not in "\r\n")
        if any(char in text for char in special) or generator.random() < 0.2:
            return self.quote + text.replace(self.quote, 2 * self.quote) + self.quote
        return text

    def options(self) -> dict[str, Any]:
        return {
            "format": "csv", "separator": self.separator, "quote": self.quote,
            "header": self.header, "nulls": self.nulls, "itemset": self.columns[0],
            "item": self.columns[1], "min_length": 0,
        }  # fmt: skip


def expected(made: Made) -> list[tuple[str | None, str | None]] | None:
    """The wanted fields of each row, by Python's csv module; None where it refuses the file."""
    text = made.text.removeprefix("\ufeff")
    separator = made.separator
    if len(separator) > 1:  # which csv does not have
        text, separator = text.replace(separator, "\x0e"), "\x0e"
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quotechar=made.quote or None,
        quoting=csv.QUOTE_MINIMAL if made.quote else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        records = [row for row in rows if row]
    except csv.Error:
        return None
    if len({len(row) for row in records}) != 1 or len(records[0]) < max(made.columns):
        return None
    none = {"", *made.nulls}
    wanted = [[row[column - 1] for column in made.columns] for row in records[made.header :]]
    return [tuple(None if field in none else field for field in row) for row in wanted]


def grouped(rows: list[tuple[str | None, str | None]]) -> tuple[list[list[str]], int, int]:
    """Itemsets of rows, and how many rows have no itemset, and how many items are missing."""
    itemsets: dict[str, list[str]] = {}
    lost = missing = 0
    for key, item in rows:
        if key is None:
            lost += 1
            continue
        itemset = itemsets.setdefault(key, [])
        if item is None:
            missing += 1
        else:
            itemset.append(item)
    return list(itemsets.values()), lost, missing


def found(packed: Any) -> tuple[list[list[str]], int, int]:
    names = [str(packed.labels[index]) for index in packed.indices]
    bounds = packed.offsets.tolist()
    itemsets = [names[start:end] for start, end in pairwise(bounds)]
    return itemsets, packed.rows_without_itemset, packed.dropped.none_items


def read(path: Path, made: Made, spilled: bool) -> Any:
    """What we read; None where we refuse it, and "nothing" where there is no item."""
    try:
        if spilled:
            target = path.with_suffix(".itemsets")
            options = {"memory": 1 << 20, **made.options()}
            return found(pack_files(path, target, **options))
        return found(read_itemsets(path, **made.options()))
    except ItembedError as error:
        return "nothing" if "no itemset to use" in str(error) else None


def compare(made: Made, path: Path, spilled: bool) -> str:
    """Say how both readings of a file relate."""
    path.write_text(made.text, encoding="utf-8", newline="")
    rows = expected(made)
    ours = read(path, made, spilled)
    if rows is None:
        return "refused by both" if ours is None else "READ, where csv refuses it"
    right = grouped(rows)
    if not any(right[0]):
        right = "nothing"
    if ours is None:
        return "REFUSED, where csv reads it"
    return "the same" if ours == right else "DIFFERENT"


def measure(num_file: int, seed: int) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    # Small files are read at once, unless they are said to be too large.
    unfit = mock.patch("itembed_gpu.data.out_of_memory._fits", return_value=False)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_file):
            made = Made(random.Random(f"{seed} {number}"))
            spilled = number % 5 == 0
            with unfit if spilled else nullcontext():
                outcome = compare(made, Path(folder) / "rows.csv", spilled)
            counts[outcome, "pack_files" if spilled else "read_itemsets"] += 1
            if outcome.split(",")[0].isupper():
                print(outcome, number, made.options(), repr(made.text[:300]), flush=True)
    return counts


def main() -> None:
    parser = make_parser("csv_fuzz", __doc__)
    parser.add_argument("--files", type=int, default=NUM_FILE)
    parser.add_argument("--seed", type=int, default=0)
    options: argparse.Namespace = parser.parse_args()
    counts = measure(options.files, options.seed)
    outcomes = [
        "the same", "refused by both", "DIFFERENT", "READ, where csv refuses it",
        "REFUSED, where csv reads it",
    ]  # fmt: skip
    lines = [(name, counts[name, "read_itemsets"], counts[name, "pack_files"]) for name in outcomes]
    report = page(
        "CSV files, beside Python's csv module",
        f"`python -m benchmarks.csv_fuzz --files {options.files}`: made files that are read twice, "
        f"and compared itemset by itemset. Refused is what csv, strict, refuses, and rows of other "
        f"widths than the first. {machine()}.",
        table(("outcome", "read_itemsets", "pack_files"), lines),
    )
    write_whole(options.out / "csv_fuzz.md", report)
    print(report)


if __name__ == "__main__":
    main()

"""The table of `benchmarks.gpu`, row by row."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.report import page, say, table, write_whole

HEAD = ("what", "measured", "value", "target", "verdict")


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

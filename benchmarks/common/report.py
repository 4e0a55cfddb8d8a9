"""The command line of a script, and the Markdown that it writes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import HERE


def make_parser(name: str, doc: str | None, out: Path | None = HERE) -> argparse.ArgumentParser:
    """Make the parser of the script of a module, whose help is the module's docstring.

    ``--out`` is by default `out`; where that is None, there is no such option.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    if out is not None:
        what = "file" if out.suffix else "folder of what is written"
        parser.add_argument("--out", type=Path, default=out, help=what)
    return parser


@dataclass(frozen=True)
class Target:
    """A limit to a value, ">=" or "<=" some number; a value that is nan misses both."""

    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.sign == ">=" else value <= self.limit


def tick(met: bool) -> str:
    """Return what stands behind a target."""
    return "✓" if met else "✗"


def say(*cells: Any) -> tuple[str, ...]:
    """Print the cells of a row as soon as they are known, and return them."""
    row = tuple(map(str, cells))
    print(*row, sep=" | ", flush=True)
    return row


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table."""
    lines = [head, *(tuple(str(cell).replace("|", "/") for cell in row) for row in rows)]
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return [first, "|---" * len(head) + "|", *others]


def page(title: str, note: str, *parts: Sequence[str]) -> str:
    """Return a whole file: a title, what was measured and on what, and parts of some lines."""
    lines = [f"# {title}", "", note]
    for part in parts:
        lines += ["", *part]
    return "\n".join(lines) + "\n"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name, then rename it: there is never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.replace(part, path)

"""The picture beside a table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN = "#4c78a8", "#f58518", "#54a24b"


@contextlib.contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Return a figure of so many inches, which is written when all is drawn; it needs no screen."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(width, height), layout="constrained")
    try:
        yield figure
        part = path.with_name("part." + path.name)
        figure.savefig(part, dpi=120)
        os.replace(part, path)
    finally:
        pyplot.close(figure)

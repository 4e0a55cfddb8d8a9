"""What a measurement was made on: a line for the tables of the benchmarks."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np

import itembed_gpu


def machine(*others: str) -> str:
    """Describe the processor, the versions (of other packages too), and the date."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = [
        f"Python {platform.python_version()}",
        f"NumPy {np.__version__}",
        f"Numba {numba.__version__}",
        *(f"{name} {version(name)}" for name in others),
        f"itembed_gpu {itembed_gpu.__version__}",
    ]
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores; {', '.join(versions)}; {datetime.date.today()}"

"""Clocks: machines are noisy, so what is compared takes turns, and medians count."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT

Clocks = dict[str, Callable[[], float]]


def seconds_of(function: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """Call a function, and return how long it took."""
    began = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - began


def alternate(clocks: Clocks, repeat: int) -> dict[str, list[float]]:
    """Call each clock in turn, several times; each returns what it measured."""
    results: dict[str, list[float]] = {name: [] for name in clocks}
    for turn in range(repeat + 1):
        for name, clock in clocks.items():
            value = clock()
            if turn:  # the first one warms up
                results[name].append(value)
    return results


def medians(clocks: Clocks, repeat: int) -> dict[str, float]:
    """Call clocks as `alternate` does, and return the median of each."""
    return {name: statistics.median(v) for name, v in alternate(clocks, repeat).items()}


def environment_of(checkout: Path, cache: Path) -> dict[str, str]:
    """Have a process import a checkout, into which nothing is written: code goes to the cache."""
    # What it needs may lie where this process finds it.
    others = filter(None, [os.environ.get("PYTHONPATH")])
    return {
        "PYTHONPATH": os.pathsep.join([str(checkout), *others]),
        "PYTHONPYCACHEPREFIX": str(cache),
        "NUMBA_CACHE_DIR": str(cache),
    }


def check_imported(where: str, checkout: Path) -> None:
    """Make sure that a process imported the package of a checkout, and no other one."""
    if not Path(where).resolve().is_relative_to(checkout):
        raise RuntimeError(f"{checkout} holds no itembed_gpu: {where!r} was imported")


def clock_itembed(
    items: np.ndarray, offsets: np.ndarray, syn0: np.ndarray, syn1: np.ndarray, num_negative: int
) -> Callable[[], float]:
    """Return what trains an epoch with itembed, on one thread, and returns how long it took."""
    import itembed

    offsets = offsets.astype(np.int32)
    weights = np.ones(len(items), dtype=np.float32)
    buffer = np.empty(syn0.shape[1], dtype=np.float32)
    generator = np.random.default_rng(0)

    def once() -> float:
        indices = generator.permutation(len(offsets) - 1).astype(np.int32)
        arguments = (items, weights, offsets, indices, syn0, syn1, buffer, num_negative, 0.025)
        return seconds_of(itembed.do_unsupervised_batch, *arguments)

    return once


def run_python(arguments: Sequence[str], **environment: str) -> str:
    """Run Python in a process of its own, from the checkout; return what it prints last."""
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        # Bytecode is kept, as in any installed package.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
    )
    return done.stdout.splitlines()[-1]


def run_within(
    command: Sequence[str],
    seconds: float,
    output: Path,
    group: bool = True,
    **environment: str,
) -> int | None:
    """Run a command from the checkout, for so many seconds at most; what it says goes into a file.

    Returns its exit code, or None where it was ended, with all that it had started: a `group` of
    its own. Without, it is in this process's group, and ends with that.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            # What it says comes as it is said: the last line is the reason where it fails.
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            process_group=0 if group else None,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                if group:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
                process.wait()


def time_process(code: str, **environment: str) -> float:
    """Seconds that code says it took in a process of its own, where `began` is its start."""
    code = f"import time; began = time.perf_counter()\n{code}"
    return float(run_python(["-c", code], **environment).split()[-1])

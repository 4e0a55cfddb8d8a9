"""What sequential training learns: the losses that other ways of training are held against.

    python -m benchmarks.oracle   # about 10 minutes of one core

Trains every problem below one pair after the other, on the CPU, and writes the losses on
held-out pairs to ``oracle.json`` beside this file, with the settings that they
belong to. `benchmarks.gpu` trains the same problems on a GPU, with thousands of pairs in
flight, and compares; `benchmarks.cpu` trains smaller ones with itembed as well.

A problem is a catalog of `planted_itemsets`, in one problem with a hot item. The pairs and
the negatives are the same on every device, as they depend on the seed alone: what differs
is which updates a pair has seen.
"""

from __future__ import annotations

import dataclasses
import json
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks import HERE
from benchmarks.common import losses
from benchmarks.common.catalogs import (
    CLUSTER_SIZE,
    ITEMSET_LENGTH,
    MEMBERS_SEED,
    NOISE,
    planted_itemsets,
    uniform_tables,
)
from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, write_whole

ORACLE = HERE / "oracle.json"

NUM_HELD_OUT = 50_000
# Seeds of what is not a problem's own.
TRAINING_SEED, HELD_OUT_SEED, NEGATIVES_SEED, TABLES_SEED = 0, 1, 7, 1000

# Pairs that share their negatives: the default, and the fast option.
SHARINGS = (1, 16)


@dataclass(frozen=True)
class Problem:
    """A catalog to be learned, and how."""

    num_label: int  # a multiple of the size of a cluster
    num_itemset: int  # an epoch
    num_epoch: int  # enough for the loss to fall far
    hot: float = 0.0  # share of all interactions that one item has
    dim: int = 64
    num_negative: int = 5
    learning_rate: float = 0.025  # that of the first batch; it falls to 0
    seed: int = 3  # of the pairs, and of their negatives


PROBLEMS = {
    "50 items": Problem(50, 8_000, 10),
    "200 items": Problem(200, 16_000, 10),
    "2,000 items": Problem(2_000, 80_000, 10),
    "20,000 items": Problem(20_000, 800_000, 8),
    "20,000 items, one has 20 % of all interactions": Problem(20_000, 800_000, 8, hot=0.2),
    "1,000,000 items": Problem(1_000_000, 4_000_000, 30),
}


# --- problems ---------------------------------------------------------------


def draw_itemsets(problem: Problem, num_itemset: int, seed: int) -> np.ndarray:
    """Draw itemsets of a problem's clusters: int32, (num_itemset, ITEMSET_LENGTH)."""
    return planted_itemsets(problem.num_label, num_itemset, seed, problem.hot)


def training_items(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the packed itemsets to train on, and their offsets."""
    items = draw_itemsets(problem, problem.num_itemset, TRAINING_SEED).ravel()
    return items, np.arange(0, len(items) + 1, ITEMSET_LENGTH, dtype=np.int64)


def held_out_pairs(problem: Problem) -> np.ndarray:
    """Return pairs of items of itemsets that are not trained on: int32, (NUM_HELD_OUT, 2)."""
    return draw_itemsets(problem, NUM_HELD_OUT, HELD_OUT_SEED)[:, :2]


def new_tables(problem: Problem, seed: int = TABLES_SEED) -> list[np.ndarray]:
    """Return the two tables that every training starts from."""
    return uniform_tables(problem.num_label, problem.dim, (seed, seed + 1))


def held_out_loss(problem: Problem, syn0: np.ndarray, syn1: np.ndarray) -> float:
    """Mean loss of the held-out pairs, each with fixed negatives of its own."""
    left, right = held_out_pairs(problem).T
    generator = np.random.default_rng(NEGATIVES_SEED)
    negatives = generator.integers(0, len(syn1), (len(left), problem.num_negative))
    return losses.held_out_loss(syn0, syn1, left, right, negatives)


def train_problem(
    problem: Problem, device: Any = "cpu", sharing: int = 1, num_threads: int | None = None
) -> float:
    """Train a problem on a device, and return its held-out loss."""
    tables = new_tables(problem)
    task = itembed_gpu.UnsupervisedTask(
        *training_items(problem),
        *tables,
        num_negative=problem.num_negative,
        negative_sharing=sharing,
        seed=problem.seed,
        device=device,
        num_threads=num_threads,
    )
    itembed_gpu.train(
        task,
        num_epoch=problem.num_epoch,
        initial_learning_rate=problem.learning_rate,
        progress=False,
    )
    return held_out_loss(problem, *tables)


# --- the stored losses ------------------------------------------------------


def settings_of(problem: Problem) -> dict[str, Any]:
    """Return all that a loss depends on, but for the drawn items themselves."""
    return {
        **dataclasses.asdict(problem),
        "itemset_length": ITEMSET_LENGTH,
        "cluster_size": CLUSTER_SIZE,
        "noise": NOISE,
        "num_held_out": NUM_HELD_OUT,
        "seeds": [MEMBERS_SEED, TRAINING_SEED, HELD_OUT_SEED, NEGATIVES_SEED, TABLES_SEED],
    }


def checksum(problem: Problem) -> int:
    """Checksum of drawn items, because NumPy may change what a generator draws."""
    items = draw_itemsets(problem, min(problem.num_itemset, 10_000), TRAINING_SEED)
    return zlib.crc32(held_out_pairs(problem).tobytes(), zlib.crc32(items.tobytes()))


def solve(problem: Problem, sharings: tuple[int, ...] = SHARINGS) -> dict[str, Any]:
    """Train a problem sequentially, and return what is stored of it."""
    began = time.perf_counter()
    by_sharing = {str(n): train_problem(problem, sharing=n, num_threads=1) for n in sharings}
    return {
        "settings": settings_of(problem),
        "checksum": checksum(problem),
        "untrained_loss": held_out_loss(problem, *new_tables(problem)),
        "losses_by_sharing": by_sharing,
        "seconds": round(time.perf_counter() - began, 1),
    }


def write_oracle(path: Path, solved: dict[str, dict[str, Any]]) -> None:
    """Write the stored losses."""
    whole = {
        "what": "Held-out losses of sequential training; made by `python -m benchmarks.oracle`.",
        "machine": machine(),
        "problems": solved,
    }
    write_whole(path, json.dumps(whole, indent=2) + "\n")


def stored_loss(name: str, problem: Problem, sharing: int = 1, path: Path | None = None) -> float:
    """Return the loss of sequential training of a problem.

    Raises a `ValueError` if the file is missing, or belongs to other settings.
    """
    path = path or ORACLE
    cure = "run `python -m benchmarks.oracle`"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["problems"][name]
        settings, number = stored["settings"], stored["checksum"]
        loss = float(stored["losses_by_sharing"][str(sharing)])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} holds no loss of {name!r} ({error!r}); {cure}") from error
    if settings != settings_of(problem):
        raise ValueError(f"{path.name} holds a loss of {name!r} with other settings; {cure}")
    if number != checksum(problem):
        raise ValueError(
            f"this NumPy draws other items for {name!r} than {path.name} knows; {cure}"
        )
    return loss


def main() -> None:
    arguments = make_parser("oracle", __doc__, ORACLE).parse_args()
    solved = {}
    for name, problem in PROBLEMS.items():
        solved[name] = solve(problem)
        shown = ", ".join(
            f"{loss:.4f} (sharing {n})" for n, loss in solved[name]["losses_by_sharing"].items()
        )
        untrained, seconds = solved[name]["untrained_loss"], solved[name]["seconds"]
        print(f"{name}: {untrained:.4f} -> {shown}; {seconds} s", flush=True)
    write_oracle(arguments.out, solved)


if __name__ == "__main__":
    main()

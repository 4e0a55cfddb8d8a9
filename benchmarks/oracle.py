"""What sequential training learns: the losses that other ways of training are held against.

    python benchmarks/oracle.py   # about 10 minutes of one core

Trains every problem below one pair after the other, on the CPU, and writes the losses on
held-out pairs to ``oracle.json`` beside this file, with the settings that they
belong to. ``benchmarks/gpu.py`` trains the same problems on a GPU, with thousands of
pairs in flight, and compares.

A problem is a catalog of planted clusters of ten items. An itemset has five items of one
cluster; some are exchanged for any item of the catalog, and in one problem for a single
hot item. The pairs and the negatives are the same on every device, as they depend on the
seed alone: what differs is which updates a pair has seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine  # it lies beside this file

import itembed_gpu

HERE = Path(__file__).parent
ORACLE = HERE / "oracle.json"

ITEMSET_LENGTH = 5
CLUSTER_SIZE = 10
# Share of the items that are exchanged for any item of the catalog.
NOISE = 0.2
NUM_HELD_OUT = 50_000
# Seeds of what is not a problem's own.
MEMBERS_SEED, TRAINING_SEED, HELD_OUT_SEED, NEGATIVES_SEED, TABLES_SEED = 99, 0, 1, 7, 1000
# Rows that are multiplied at once.
CHUNK = 4_096

# Pairs that share their negatives: the default, and the fast option.
SHARINGS = (1, 16)


@dataclass(frozen=True)
class Problem:
    """A catalog to be learned, and how.

    Attributes
    ----------
    num_label : int
        Items of the catalog, a multiple of the size of a cluster.
    num_itemset : int
        Itemsets an epoch.
    num_epoch : int
        Epochs: enough for the loss to fall far.
    hot : float
        Share of all interactions that one item has.
    dim, num_negative : int
        Dimension, and negatives a pair.
    learning_rate : float
        That of the first batch; it falls to 0.
    seed : int
        Seed of the pairs, and of their negatives.
    """

    num_label: int
    num_itemset: int
    num_epoch: int
    hot: float = 0.0
    dim: int = 64
    num_negative: int = 5
    learning_rate: float = 0.025
    seed: int = 3


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
    """Draw itemsets of a problem's clusters.

    Returns
    -------
    int32, (num_itemset, ITEMSET_LENGTH)
        The same for the same arguments.
    """
    generator = np.random.default_rng(seed)
    members = np.random.default_rng(MEMBERS_SEED).permutation(problem.num_label).astype(np.int32)
    clusters = generator.integers(0, problem.num_label // CLUSTER_SIZE, (num_itemset, 1))
    items = members[
        clusters * CLUSTER_SIZE + generator.integers(0, CLUSTER_SIZE, (num_itemset, ITEMSET_LENGTH))
    ]
    noise = generator.random(items.shape, dtype=np.float32) < NOISE
    items[noise] = generator.integers(0, problem.num_label, int(noise.sum()), dtype=np.int32)
    if problem.hot:
        items[generator.random(items.shape, dtype=np.float32) < problem.hot] = members[0]
    return items


def training_items(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the packed itemsets to train on, and their offsets."""
    items = draw_itemsets(problem, problem.num_itemset, TRAINING_SEED).ravel()
    return items, np.arange(0, len(items) + 1, ITEMSET_LENGTH, dtype=np.int64)


def held_out_pairs(problem: Problem) -> np.ndarray:
    """Return pairs of items of itemsets that are not trained on: int32, (NUM_HELD_OUT, 2)."""
    return draw_itemsets(problem, NUM_HELD_OUT, HELD_OUT_SEED)[:, :2]


def new_tables(problem: Problem) -> list[np.ndarray]:
    """Return the two tables that every training starts from."""
    return [
        itembed_gpu.initialize_syn(
            problem.num_label, problem.dim, seed=TABLES_SEED + i, device="cpu"
        )
        for i in range(2)
    ]


def held_out_loss(problem: Problem, syn0: np.ndarray, syn1: np.ndarray) -> float:
    """Mean loss of the held-out pairs, each with fixed negatives of its own.

    Returns
    -------
    float
        6 ln 2 = 4.16 before training, with 5 negatives; nan where a table is not finite.
    """
    pairs = held_out_pairs(problem)
    generator = np.random.default_rng(NEGATIVES_SEED)
    negatives = generator.integers(0, len(syn1), (len(pairs), problem.num_negative))
    total = 0.0
    for start in range(0, len(pairs), CHUNK):
        rows = slice(start, start + CHUNK)
        left, right = pairs[rows].T
        u = syn0[left].astype(np.float64)
        positive = np.einsum("nd,nd->n", u, syn1[right])
        negative = np.einsum("nd,nkd->nk", u, syn1[negatives[rows]])
        with np.errstate(invalid="ignore"):  # nan stays nan
            total += float(np.logaddexp(0, -positive).sum() + np.logaddexp(0, negative).sum())
    return total / len(pairs)


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
    losses = {str(n): train_problem(problem, sharing=n, num_threads=1) for n in sharings}
    return {
        "settings": settings_of(problem),
        "checksum": checksum(problem),
        "untrained_loss": held_out_loss(problem, *new_tables(problem)),
        "losses_by_sharing": losses,
        "seconds": round(time.perf_counter() - began, 1),
    }


def write_oracle(path: Path, solved: dict[str, dict[str, Any]]) -> None:
    """Write the stored losses, or leave the file as it was."""
    whole = {
        "what": "Held-out losses of sequential training; made by `python benchmarks/oracle.py`.",
        "machine": machine(),
        "problems": solved,
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)


def stored_loss(name: str, problem: Problem, sharing: int = 1, path: Path | None = None) -> float:
    """Return the loss of sequential training of a problem.

    Raises
    ------
    ValueError
        The file is missing, or belongs to other settings.
    """
    path = path or ORACLE
    cure = "run `python benchmarks/oracle.py`"
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ORACLE, help="file to write")
    arguments = parser.parse_args()
    solved = {}
    for name, problem in PROBLEMS.items():
        solved[name] = solve(problem)
        losses = ", ".join(
            f"{loss:.4f} (sharing {n})" for n, loss in solved[name]["losses_by_sharing"].items()
        )
        untrained, seconds = solved[name]["untrained_loss"], solved[name]["seconds"]
        print(f"{name}: {untrained:.4f} -> {losses}; {seconds} s", flush=True)
    write_oracle(arguments.out, solved)


if __name__ == "__main__":
    main()

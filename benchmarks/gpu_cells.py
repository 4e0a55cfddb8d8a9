"""What `benchmarks.gpu` trains: settings, sizes and targets."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import oracle
from benchmarks.common.report import Target
from benchmarks.common.speeds import LEARNING_RATE
from itembed_gpu.backends.cuda import instances

NUM_NEGATIVE = 5
ITEMSET_LENGTH = 10
# Items of a supervised itemset: 5 x 4 pairs.
LEFT_LENGTH, RIGHT_LENGTH = 5, 4
BATCH_SIZE = 64
# Of pooled bags, as the README has them.
POOLED_NEGATIVE, POOLED_RATE = 20, 0.3
BUDGET = 280.0


@dataclass(frozen=True)
class Cell:
    """Settings of one measurement of speed."""

    dim: int
    num_label: int
    zipf: bool = True  # the n-th item has a share of 1 / n; else all have the same
    threads: int | None = None  # a pair
    lossy: bool = False  # updates may be lost
    sharing: int = 1  # pairs that share their negatives
    supervised: bool = False
    pooled: int = 0  # items of itemsets whose means are trained, by Adagrad; 0: pairs are

    @property
    def settings(self) -> str:
        """All but the distribution, in words."""
        parts = [f"{self.num_label:,} items", f"D={self.dim}"]
        parts += [f"threads_per_pair={self.threads}"] * (self.threads is not None)
        parts += ["lossy"] * self.lossy
        parts += [f"negative_sharing={self.sharing}"] * (self.sharing > 1)
        parts += ["supervised"] * self.supervised
        if self.pooled:
            parts += [f"pooled Adagrad, itemsets of {self.pooled}, {self.num_negative} negatives"]
        return ", ".join(parts)

    def __str__(self) -> str:
        return f"{'Zipf(1)' if self.zipf else 'uniform'}, {self.settings}"

    @property
    def needs_gpu(self) -> bool:
        return self.threads is not None or self.lossy

    @property
    def task(self) -> str:
        return "supervised" if self.supervised else "pooled" if self.pooled else "unsupervised"

    @property
    def num_negative(self) -> int:
        return POOLED_NEGATIVE if self.pooled else NUM_NEGATIVE

    @property
    def length(self) -> int:
        """Items of an itemset."""
        return self.pooled or ITEMSET_LENGTH

    @property
    def learning_rate(self) -> float:
        return POOLED_RATE if self.pooled else LEARNING_RATE

    @property
    def floor(self) -> int:
        """Bytes that a pair and its k negatives have to move, each row read and written once.

        2 (k + 2) D 4; or, of a bag of an itemset of L items, which are trained with row-wise
        Adagrad, 2 (L - 1 + 1 + k) (D 4 + 4): the L - 1 others of the itemset, the item itself and
        the negatives, each with an accumulator of one float.
        """
        if self.pooled:
            return 2 * (self.pooled + self.num_negative) * (4 * self.dim + 4)
        return 2 * (self.num_negative + 2) * 4 * self.dim


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    dims: tuple[int, ...] = (32, 64, 96, 128, 256, 512)
    catalogs: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    sharings: tuple[int, ...] = (8, 16, 32)
    default: Cell = Cell(128, 1_000_000)
    judged: tuple[Cell, ...] = (
        Cell(128, 10_000_000),
        Cell(128, 1_000_000),
        Cell(64, 10_000_000),
        Cell(64, 1_000_000),
        Cell(256, 1_000_000),
        Cell(512, 1_000_000),
    )
    judged_sharing: int = 16
    pooled: tuple[Cell, ...] = (
        Cell(128, 1_000_000, pooled=10),
        Cell(128, 1_000_000, pooled=100),
    )
    num_pair: int = 20_000_000
    seconds: float = 1.0  # of one timed run, about
    copy_bytes: int = 4 << 30
    problems: tuple[str, ...] = tuple(oracle.PROBLEMS)
    num_call: int = 200
    calls: tuple[int, ...] = (1, 10, 100, 1_000)
    reference_pairs: int = 300_000
    small_task: tuple[int, int] = (10_000, 100_000)  # items of the catalog, interactions
    in_chunks: tuple[int, tuple[int, ...]] = (100_000_000, (5_000_000, 20_000_000))  # items
    torch_batch: int = 1 << 20  # pairs
    torch_limit: float = 150.0  # seconds that all of PyTorch may take
    judge_speed: bool = True


FULL_SCALE = Scale()
SMALL_SCALE = Scale(
    dims=(16,),
    catalogs=(300, 1_000),
    sharings=(16,),
    default=Cell(16, 1_000),
    judged=(Cell(16, 1_000), Cell(16, 300)),
    pooled=(Cell(16, 1_000, pooled=10),),
    num_pair=20_000,
    seconds=0.02,
    copy_bytes=1 << 20,
    problems=("50 items",),
    num_call=3,
    calls=(1, 10),
    reference_pairs=2_000,
    small_task=(200, 2_000),
    in_chunks=(20_000, (5_000,)),
    torch_batch=256,
    judge_speed=False,
)

# Of the bytes of a copy, by dimension and items. Uniform ones are what was reached before popular
# rows were dealt with: they are not to fall.
ZIPF_TARGETS = {
    (64, 1_000_000): 0.82,
    (128, 1_000_000): 0.85,
    (256, 1_000_000): 0.84,
    (512, 1_000_000): 0.87,
    (64, 10_000_000): 0.78,
    (128, 10_000_000): 0.84,
}
UNIFORM_TARGETS = {
    (64, 1_000_000): 0.85,
    (128, 1_000_000): 0.86,
    (256, 1_000_000): 0.86,
    (512, 1_000_000): 0.86,
    (64, 10_000_000): 0.77,
    (128, 10_000_000): 0.83,
}
OTHER_TARGET = 0.83
POOLED_TARGET = Target(">=", 0.75)
# Zipf over uniform, and of how many items.
POPULARITY_TARGET, POPULAR_LABELS = Target(">=", 0.97), 1_000_000
# Mpair/s with shared negatives on `CARD`, by whether items have Zipf's shares: first, and the aim.
CARD = "H200"
SHARING_TARGETS = {True: (900, 1_050), False: (1_150, 1_200)}
ITEMBED_TARGET = Target(">=", 1_150)
TORCH_TARGET = Target(">=", 4.6)
SMALL_TASK_TARGET = Target("<=", 3)
CALL_TARGET = Target("<=", 1.3)
CHUNK_TARGET = Target("<=", 1.1)
QUALITY_TARGET = Target("<=", 0.005)
SPILL_TARGET = Target("<=", 0)


def ratio_target(cell: Cell) -> Target:
    """Return the target for the bytes a second of a cell over the copy bandwidth."""
    if cell.pooled:
        return POOLED_TARGET
    targets = ZIPF_TARGETS if cell.zipf else UNIFORM_TARGETS
    return Target(">=", targets.get((cell.dim, cell.num_label), OTHER_TARGET))


def both(cells: tuple[Cell, ...]) -> Iterator[Cell]:
    """Return cells with both distributions."""
    for cell in cells:
        yield dataclasses.replace(cell, zipf=True)
        yield dataclasses.replace(cell, zipf=False)


def one_at_a_time(scale: Scale) -> list[Cell]:
    """Return the cells that differ from the default in one setting, with both distributions."""
    default = scale.default
    changes: list[dict[str, Any]] = [
        {},
        *({"sharing": sharing} for sharing in scale.sharings),
        {"supervised": True},
        *({"dim": dim} for dim in scale.dims),
        *({"num_label": num_label} for num_label in scale.catalogs),
        *({"threads": threads} for threads in instances.THREADS_PER_PAIR),
        {"lossy": True},
    ]
    return list(dict.fromkeys(both(tuple(dataclasses.replace(default, **c) for c in changes))))


def all_combinations(scale: Scale) -> list[Cell]:
    """Return the whole grid, the largest tables first."""
    grid = itertools.product(
        scale.dims,
        scale.catalogs,
        (True, False),
        (None, *instances.THREADS_PER_PAIR),
        (False, True),
        (1, *scale.sharings),
        (False, True),
    )
    cells = [Cell(*values) for values in grid]
    return sorted(cells, key=lambda cell: -cell.dim * cell.num_label)

"""What is learned when a device has thousands of pairs in flight, simulated on one core.

    python benchmarks/staleness.py            # about 10 minutes
    python benchmarks/staleness.py --explore  # also other constants: about 2 more
    python benchmarks/staleness.py --large    # also a million items: hours

A device with W pairs in flight computes each of them from rows that do not yet hold
the updates of the others. Two models of it:

* Windows: each of W pairs is computed from the tables as they were at the window's
  start, then all the updates are added. Where P pairs share a set of negatives, W
  tiles each train P consecutive pairs: a tile reads its negatives once, updates its
  own copies of them pair after pair, and adds their changes at its end; the other
  two rows of a pair are as old as the W pairs before it.
* Delayed: every update is added W pairs after it was computed. Rows are twice as
  old on average, as on a device that starts a pair whenever another one ends.

W and the caps of the rows' learning rates are those of `in_flight`, whose
rule is what is tested here; for comparison, W = 16,384 without a limit and without
caps, and with rows stored over each other instead of added.

Catalogs have planted clusters of ten items; both tables start from `initialize_syn`'s
uniform values. The loss is that of fixed pairs and negatives from itemsets that were
not trained on. Writes ``staleness.md`` and ``staleness.png`` beside this file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from machine import machine  # it lies beside this file
from numba import njit

import itembed_gpu
from itembed_gpu.backends.cuda import in_flight
from itembed_gpu.backends.cuda.in_flight import Geometry, plan_geometry

HERE = Path(__file__).parent

DIM = 64
NUM_NEGATIVE = 5
CLUSTER = 10
NOISE = 0.1  # share of items from outside their itemset's cluster
LEARNING_RATE = 0.025
SHARING = 16
NUM_TEST = 20_000  # held-out itemsets, one pair of each
TOLERANCE = 0.01

# Tiles that a device can hold: an H200 with 16 and with 8 threads a pair, and twice that.
MAX_TILES = (4_096, 8_448, 16_896)

# Strict about nan, which is among the outcomes.
FAST = {"reassoc", "contract", "nsz"}


@dataclass(frozen=True)
class Catalog:
    """Planted clusters: how many items, how popular each is, and how much is trained."""

    name: str
    num_label: int
    num_itemset: int
    num_epoch: int
    popularity: str = "uniform"  # or "hot": the first item is 20 % of all; or "zipf"
    num_seed: int = 2

    def shares(self) -> np.ndarray:
        """Share of each item in all interactions."""
        weights = np.ones(self.num_label)
        if self.popularity == "zipf":
            weights /= np.arange(1, self.num_label + 1)
        weights /= weights.sum()
        if self.popularity == "hot":
            weights *= 0.8
            weights[0] += 0.2
        return weights

    def sample(self, num_itemset: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Itemsets of five to ten items: items and offsets."""
        generator = np.random.default_rng(seed)
        lengths = generator.integers(5, 11, num_itemset)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        weights = replace(self, popularity="uniform" if self.popularity == "hot" else "zipf")
        if self.popularity == "uniform":
            weights = self
        ends = np.concatenate([[0.0], np.cumsum(weights.shares())])

        def draw(low: np.ndarray, high: np.ndarray) -> np.ndarray:
            """Item by popularity, among those from low to high."""
            at = ends[low] + (ends[high] - ends[low]) * generator.random(len(low))
            return np.clip(np.searchsorted(ends, at, side="right") - 1, low, high - 1)

        everything = np.full(offsets[-1], self.num_label)
        # A cluster is chosen as often as its items are: popular items go together.
        first = draw(everything[:num_itemset] * 0, everything[:num_itemset]) // CLUSTER * CLUSTER
        first = np.repeat(first, lengths)
        items = draw(first, np.minimum(first + CLUSTER, self.num_label))
        noise = generator.random(len(items)) < NOISE
        items = np.where(noise, draw(everything * 0, everything), items)
        if self.popularity == "hot":
            items[generator.random(len(items)) < 0.2] = 0
        return items, offsets


# Trained until the loss has settled, or nearly ...
CATALOGS = (
    Catalog("50 items", 50, 4_000, 10),
    Catalog("200 items", 200, 16_000, 5),
    Catalog("2,000 items", 2_000, 50_000, 8),
    Catalog("2,000 items, one is 20 %", 2_000, 100_000, 8, "hot"),
    Catalog("2,000 items, Zipf(1)", 2_000, 100_000, 10, "zipf"),
    Catalog("20,000 items", 20_000, 240_000, 16, num_seed=1),
    Catalog("20,000 items, one is 20 %", 20_000, 240_000, 22, "hot", num_seed=1),
    Catalog("20,000 items, Zipf(1)", 20_000, 120_000, 6, "zipf"),
)
LARGE = Catalog("1,000,000 items", 1_000_000, 12_000_000, 16, num_seed=1)
# ... and stopped while it falls, when a small delay shows most.
UNFINISHED = (
    Catalog("2,000 items, 1.9M pairs", 2_000, 50_000, 5),
    Catalog("2,000 items, one is 20 %, 3.0M pairs", 2_000, 50_000, 8, "hot"),
    Catalog("2,000 items, Zipf(1), 1.5M pairs", 2_000, 50_000, 4, "zipf"),
    Catalog("20,000 items, Zipf(1), 2.7M pairs", 20_000, 120_000, 3, "zipf"),
)
# What happens without the rule is shown for these.
REFERENCE = ("200 items", "2,000 items", "2,000 items, one is 20 %", "20,000 items, Zipf(1)")
# Trained at other learning rates, for as many pairs times the learning rate.
RATES = (0.01, 0.05, 0.1)
RATE_CATALOGS = ("200 items", "2,000 items, one is 20 %")
# MEAN_LOAD, MAX_LEFT_LOAD and MAX_LOAD.
EXPLORED = (
    (0.8, 0.8, 1.6),
    (0.8, 1.6, 1.6),
    (0.8, 3.2, 3.2),
    (0.8, 6.4, 6.4),
    (0.2, 0.8, 1.6),
    (0.4, 0.8, 1.6),
    (1.6, 0.8, 1.6),
    (3.2, 3.2, 3.2),
    (6.4, 6.4, 6.4),
)

# --- the device -------------------------------------------------------------


@njit(inline="always")
def draw(state, n):
    """Uniform in 0 ... n - 1 (SplitMix64)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = (z ^ (z >> np.uint64(31))) >> np.uint64(32)
    return np.int64((z * np.uint64(n)) >> np.uint64(32))


@njit(inline="always", fastmath=FAST)
def error(u, v, row, label):
    """Label minus sigmoid of the dot product of u and a row of v."""
    dot = np.float32(0)
    for d in range(DIM):
        dot += u[d] * v[row, d]
    return label - np.float32(1) / (np.float32(1) + np.exp(-dot))


@njit(inline="always", fastmath=FAST)
def add(table, row, rate, delta):
    for d in range(DIM):
        table[row, d] += rate * delta[d]


@njit(inline="always", fastmath=FAST)
def add_row(total, rate, table, row):
    for d in range(DIM):
        total[d] += rate * table[row, d]


@njit(inline="always")
def copy(to, to_row, table, row):
    for d in range(DIM):
        to[to_row, d] = table[row, d]


@njit(inline="always")
def touch(rows, num_row, is_dirty, row):
    """Note that a row has changed; return how many have."""
    if not is_dirty[row]:
        is_dirty[row] = True
        rows[num_row] = row
        num_row += 1
    return num_row


@njit
def refresh(stale, syn, rows, num_row, is_dirty):
    """Make the rows that have changed as new."""
    for i in range(num_row):
        is_dirty[rows[i]] = False
        copy(stale, rows[i], syn, rows[i])


@njit(fastmath=FAST, cache=True)
def train_pairs(left, right, syn0, syn1, caps0, caps1, num_tile, store, rates, state):
    """Train in windows of num_tile pairs; with one, this is the sequential algorithm.

    With `store`, rows are stored as they were plus the last pair's update.
    """
    stale0, stale1 = syn0.copy(), syn1.copy()
    rows0, dirty0 = np.empty(len(syn0), np.int64), np.zeros(len(syn0), np.bool_)
    rows1, dirty1 = np.empty(len(syn1), np.int64), np.zeros(len(syn1), np.bool_)
    num0 = num1 = age = 0
    u, delta = np.empty(DIM, np.float32), np.empty(DIM, np.float32)
    targets = np.empty(NUM_NEGATIVE + 1, np.int64)
    errors = np.empty(NUM_NEGATIVE + 1, np.float32)
    for i in range(len(left)):
        for d in range(DIM):
            u[d] = stale0[left[i], d]
            delta[d] = 0
        for j in range(NUM_NEGATIVE + 1):
            targets[j] = draw(state, len(syn1)) if j else right[i]
            errors[j] = error(u, stale1, targets[j], np.float32(j == 0))
            add_row(delta, errors[j], stale1, targets[j])
        for j in range(NUM_NEGATIVE + 1):
            row = targets[j]
            if store:
                copy(syn1, row, stale1, row)
            add(syn1, row, min(rates[i], caps1[row]) * errors[j], u)
            num1 = touch(rows1, num1, dirty1, row)
        row = left[i]
        if store:
            copy(syn0, row, stale0, row)
        add(syn0, row, min(rates[i], caps0[row]), delta)
        num0 = touch(rows0, num0, dirty0, row)
        age += 1
        if age == num_tile:
            refresh(stale0, syn0, rows0, num0, dirty0)
            refresh(stale1, syn1, rows1, num1, dirty1)
            num0 = num1 = age = 0


@njit(fastmath=FAST, cache=True)
def train_groups(left, right, syn0, syn1, caps0, caps1, num_tile, sharing, rates, state):
    """Train in windows of num_tile groups of consecutive pairs that share negatives."""
    stale0, stale1 = syn0.copy(), syn1.copy()
    rows0, dirty0 = np.empty(len(syn0), np.int64), np.zeros(len(syn0), np.bool_)
    rows1, dirty1 = np.empty(len(syn1), np.int64), np.zeros(len(syn1), np.bool_)
    u, delta = np.empty(DIM, np.float32), np.empty(DIM, np.float32)
    negatives = np.empty(num_tile * NUM_NEGATIVE, np.int64)
    before = np.empty((len(negatives), DIM), np.float32)
    held = np.empty((len(negatives), DIM), np.float32)
    for begin in range(0, len(left), num_tile * sharing):
        for j in range(len(negatives)):
            negatives[j] = draw(state, len(syn1))
            copy(before, j, syn1, negatives[j])
            copy(held, j, syn1, negatives[j])
        for step in range(sharing):
            num0 = num1 = 0
            for tile in range(num_tile):
                i = begin + tile * sharing + step
                if i >= len(left):
                    break
                for d in range(DIM):
                    u[d] = stale0[left[i], d]
                    delta[d] = 0
                row = right[i]
                g = error(u, stale1, row, np.float32(1))
                add_row(delta, g, stale1, row)
                add(syn1, row, min(rates[i], caps1[row]) * g, u)
                num1 = touch(rows1, num1, dirty1, row)
                for j in range(tile * NUM_NEGATIVE, (tile + 1) * NUM_NEGATIVE):
                    g = error(u, held, j, np.float32(0))
                    add_row(delta, g, held, j)
                    add(held, j, min(rates[i], caps1[negatives[j]]) * g, u)
                add(syn0, left[i], min(rates[i], caps0[left[i]]), delta)
                num0 = touch(rows0, num0, dirty0, left[i])
            refresh(stale0, syn0, rows0, num0, dirty0)
            refresh(stale1, syn1, rows1, num1, dirty1)
        num1 = 0
        for j in range(len(negatives)):
            for d in range(DIM):
                syn1[negatives[j], d] += held[j, d] - before[j, d]
            num1 = touch(rows1, num1, dirty1, negatives[j])
        refresh(stale1, syn1, rows1, num1, dirty1)


@njit(fastmath=FAST, cache=True)
def train_delayed(left, right, syn0, syn1, caps0, caps1, num_tile, rates, state):
    """Train with the updates of each pair added num_tile pairs later."""
    u, delta = np.zeros((num_tile, DIM), np.float32), np.zeros((num_tile, DIM), np.float32)
    lefts = np.zeros(num_tile, np.int64)
    left_rates = np.zeros(num_tile, np.float32)
    targets = np.zeros((num_tile, NUM_NEGATIVE + 1), np.int64)
    errors = np.zeros((num_tile, NUM_NEGATIVE + 1), np.float32)
    for i in range(len(left) + num_tile):
        tile = i % num_tile
        add(syn0, lefts[tile], left_rates[tile], delta[tile])
        for j in range(NUM_NEGATIVE + 1):
            add(syn1, targets[tile, j], errors[tile, j], u[tile])
        if i >= len(left):
            continue
        for d in range(DIM):
            u[tile, d] = syn0[left[i], d]
            delta[tile, d] = 0
        for j in range(NUM_NEGATIVE + 1):
            row = targets[tile, j] = draw(state, len(syn1)) if j else right[i]
            g = error(u[tile], syn1, row, np.float32(j == 0))
            add_row(delta[tile], g, syn1, row)
            errors[tile, j] = g * min(rates[i], caps1[row])
        lefts[tile], left_rates[tile] = left[i], min(rates[i], caps0[left[i]])


# --- one run ----------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """How the pairs are trained: sharing pairs have their negatives in common."""

    geometry: Geometry
    sharing: int = 1
    store: bool = False
    delayed: bool = False

    def num_capped(self, learning_rate: float) -> int:
        caps = (self.geometry.left_caps, self.geometry.right_caps)
        return sum(int((c < learning_rate).sum()) for c in caps if c is not None)


SEQUENTIAL = Device(Geometry(1, None, None))
SEQUENTIAL_SHARED = replace(SEQUENTIAL, sharing=SHARING)
UNLIMITED = Device(Geometry(16_384, None, None))


def planned(
    catalog: Catalog,
    max_tile: int,
    sharing: int = 1,
    learning_rate: float = LEARNING_RATE,
) -> Device:
    """The geometry under test: every item picks one other, so both sides have the same shares."""
    shares = catalog.shares()
    negatives = NUM_NEGATIVE * sharing / catalog.num_label
    hits = (shares, shares + negatives)
    return Device(plan_geometry(*hits, learning_rate, max_tile), sharing)


def epoch_pairs(
    items: np.ndarray, offsets: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each item of an itemset with one random other, in random order."""
    lengths = np.diff(offsets)
    starts, lengths = np.repeat(offsets[:-1], lengths), np.repeat(lengths, lengths)
    slots = np.arange(len(items))
    others = slots - starts + 1 + generator.integers(0, lengths - 1)
    others = starts + np.where(others < lengths, others, others - lengths)
    order = generator.permutation(len(items))
    return items[order], items[others[order]]


def learn(
    catalog: Catalog, device: Device, seed: int, learning_rate: float = LEARNING_RATE
) -> tuple[np.ndarray, np.ndarray]:
    """Tables after all epochs. The pairs and the start depend on the seed alone."""
    items, offsets = catalog.sample(catalog.num_itemset, 1000 + seed)
    generator = np.random.default_rng(seed)
    tables = [
        itembed_gpu.initialize_syn(catalog.num_label, DIM, seed=2000 + 2 * seed + i, device="cpu")
        for i in range(2)
    ]
    infinite = np.full(catalog.num_label, np.inf, dtype=np.float32)
    geometry = device.geometry
    caps = [infinite if c is None else c for c in (geometry.left_caps, geometry.right_caps)]
    state = np.array([seed], dtype=np.uint64)
    rates = np.linspace(learning_rate, 0, catalog.num_epoch * len(items), dtype=np.float32)
    for epoch_rates in np.split(rates, catalog.num_epoch):
        left, right = epoch_pairs(items, offsets, generator)
        common = (left, right, *tables, *caps, geometry.num_tile)
        if device.delayed:
            train_delayed(*common, epoch_rates, state)
        elif device.sharing == 1:
            train_pairs(*common, device.store, epoch_rates, state)
        else:
            train_groups(*common, device.sharing, epoch_rates, state)
    return tables[0], tables[1]


def held_out_loss(catalog: Catalog, syn0: np.ndarray, syn1: np.ndarray) -> float:
    """Mean loss of one pair of each of `NUM_TEST` new itemsets, and its negatives."""
    items, offsets = catalog.sample(NUM_TEST, 7)
    generator = np.random.default_rng(7)
    left, right = items[offsets[:-1]], items[offsets[:-1] + 1]
    negatives = generator.integers(0, catalog.num_label, (NUM_TEST, NUM_NEGATIVE))
    with np.errstate(invalid="ignore", over="ignore"):
        positive = np.einsum("nd,nd->n", syn0[left], syn1[right])
        negative = np.einsum("nd,nkd->nk", syn0[left], syn1[negatives])
        losses = np.logaddexp(0, -positive) + np.logaddexp(0, negative).sum(axis=1)
    return float(losses.mean())


def mean_loss(catalog: Catalog, device: Device, learning_rate: float = LEARNING_RATE) -> float:
    losses = [
        held_out_loss(catalog, *learn(catalog, device, seed, learning_rate))
        for seed in range(catalog.num_seed)
    ]
    return float(np.mean(losses))


# --- tables and figure ------------------------------------------------------

UNFINISHED_TITLE = "Training stopped while the loss falls"
HEAD = (
    "catalog",
    "geometry",
    "W",
    "rows capped",
    "sequential loss",
    "loss",
    "difference",
    "at most 1 % more",
)


@dataclass(frozen=True)
class Outcome:
    """One row of a table."""

    catalog: str
    geometry: str
    num_tile: int
    num_capped: int
    sequential: float
    loss: float

    @property
    def change(self) -> float:
        return self.loss / self.sequential - 1

    def cells(self) -> tuple[str, ...]:
        diverged = not np.isfinite(self.loss) or self.loss > 100
        return (
            self.catalog,
            self.geometry,
            f"{self.num_tile:,}",
            f"{self.num_capped:,}",
            f"{self.sequential:.4f}",
            "diverged" if diverged else f"{self.loss:.4f}",
            "" if diverged else f"{100 * self.change:+.2f} %",
            "✓" if self.change <= TOLERANCE else "✗",
        )


def compare(
    catalog: Catalog,
    devices: dict[str, tuple[Device, float]],
    learning_rate: float = LEARNING_RATE,
) -> Iterator[Outcome]:
    """Outcome of each device, named, against the loss that goes with it."""
    for name, (device, sequential) in devices.items():
        outcome = Outcome(
            catalog.name,
            name,
            device.geometry.num_tile,
            device.num_capped(learning_rate),
            sequential,
            mean_loss(catalog, device, learning_rate),
        )
        print(*outcome.cells(), sep=" | ", flush=True)
        yield outcome


def measure(catalog: Catalog) -> list[Outcome]:
    """All geometries of a catalog. Shared negatives are compared with sharing them one by one."""
    alone, shared = mean_loss(catalog, SEQUENTIAL), mean_loss(catalog, SEQUENTIAL_SHARED)
    most = planned(catalog, MAX_TILES[-1])
    devices = {f"windows, {tile:,} tiles": (planned(catalog, tile), alone) for tile in MAX_TILES}
    devices[f"delayed, {MAX_TILES[-1]:,} tiles"] = (replace(most, delayed=True), alone)
    devices[f"windows, {MAX_TILES[-1]:,} tiles, {SHARING} pairs share"] = (
        planned(catalog, MAX_TILES[-1], SHARING),
        shared,
    )
    return list(compare(catalog, devices))


def measure_reference(catalog: Catalog, sequential: float) -> list[Outcome]:
    """What happens without the rule: one seed is enough to see."""
    devices = {
        "no limit, no caps": (UNLIMITED, sequential),
        "the same, last writer wins": (replace(UNLIMITED, store=True), sequential),
    }
    return list(compare(replace(catalog, num_seed=1), devices))


def measure_rate(catalog: Catalog, learning_rate: float) -> list[Outcome]:
    num_epoch = max(1, round(catalog.num_epoch * LEARNING_RATE / learning_rate))
    catalog = replace(
        catalog,
        name=f"{catalog.name}, learning rate {learning_rate}",
        num_epoch=num_epoch,
        num_seed=1,
    )
    alone = mean_loss(catalog, SEQUENTIAL, learning_rate)
    shared = mean_loss(catalog, SEQUENTIAL_SHARED, learning_rate)
    most = planned(catalog, MAX_TILES[-1], 1, learning_rate)
    devices = {
        "windows": (most, alone),
        "delayed": (replace(most, delayed=True), alone),
        f"windows, {SHARING} pairs share": (
            planned(catalog, MAX_TILES[-1], SHARING, learning_rate),
            shared,
        ),
    }
    return list(compare(catalog, devices, learning_rate))


def explore(catalog: Catalog) -> list[Outcome]:
    """Outcomes under other constants, on the largest device."""
    catalog = replace(catalog, num_seed=1)
    sequential = mean_loss(catalog, SEQUENTIAL)
    outcomes: list[Outcome] = []
    for values in EXPLORED:
        constants = dict(zip(("MEAN_LOAD", "MAX_LEFT_LOAD", "MAX_LOAD"), values, strict=True))
        with mock.patch.multiple(in_flight, **constants):
            device = planned(catalog, MAX_TILES[-1])
        name = ", ".join(f"{name} {value}" for name, value in constants.items())
        devices = {
            f"{name}, windows": (device, sequential),
            f"{name}, delayed": (replace(device, delayed=True), sequential),
        }
        outcomes += compare(catalog, devices)
    return outcomes


def table(outcomes: list[Outcome]) -> list[str]:
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    return lines + [f"| {' | '.join(outcome.cells())} |" for outcome in outcomes] + [""]


def constants() -> str:
    names = [name for name in vars(in_flight) if name.endswith("_LOAD")]
    return ", ".join(f"{name} = {getattr(in_flight, name)}" for name in names)


def write_tables(sections: dict[str, list[Outcome]]) -> None:
    lines = ["# What is learned with thousands of pairs in flight", ""]
    lines += [
        "`python benchmarks/staleness.py --explore`: held-out loss (mean of 2 seeds; one for "
        "20,000 items and more, without the rule, and with other rates or constants) against the "
        f"sequential algorithm on the same pairs, D = {DIM}, k = {NUM_NEGATIVE}, learning rate "
        f"{LEARNING_RATE} falling to 0 unless said otherwise; W and caps by `plan_geometry` "
        f"({constants()}), tables of initialize_syn's uniform values. The loss is "
        f"{(NUM_NEGATIVE + 1) * np.log(2):.2f} at the start. Where {SHARING} pairs share their "
        f"negatives, so does the sequential loss it is compared with. One core of {machine()}.",
        "",
    ]
    for title, outcomes in sections.items():
        lines += [f"## {title}", "", *table(outcomes)]
    (HERE / "staleness.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def plot(trained: list[Outcome], unfinished: list[Outcome]) -> None:
    """One line a catalog, one mark a geometry."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    geometries = list(dict.fromkeys(outcome.geometry for outcome in trained))
    figure, both = pyplot.subplots(2, figsize=(9, 10), height_ratios=(2, 1.2), layout="constrained")
    for axes, outcomes in zip(both, (trained, unfinished), strict=True):
        catalogs = list(dict.fromkeys(outcome.catalog for outcome in outcomes))
        axes.axvspan(-100 * TOLERANCE, 100 * TOLERANCE, color="0.92")
        axes.axvline(0, color="black", linewidth=1)
        for i, geometry in enumerate(geometries):
            found = [o for o in outcomes if o.geometry == geometry]
            shift = 0.14 * (i - (len(geometries) - 1) / 2)
            height = [catalogs.index(o.catalog) + shift for o in found]
            change = [100 * o.change for o in found]
            axes.plot(change, height, "osD^v"[i], color=f"C{i}", label=geometry)
        axes.set_yticks(range(len(catalogs)), catalogs)
        axes.set_ylim(len(catalogs) - 0.5, -0.5)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    both[0].set_title("Trained until the loss has settled, or nearly")
    both[1].set_title("Stopped while the loss falls")
    both[1].set_xlabel("held-out loss, % more than sequential training's (grey: within 1 %)")
    figure.suptitle("Pairs in flight as planned, simulated (D = 64, k = 5, learning rate 0.025)")
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, title="device")
    figure.savefig(HERE / "staleness.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="also a million items")
    parser.add_argument("--explore", action="store_true", help="also other constants of the rule")
    arguments = parser.parse_args()
    began = time.perf_counter()
    by_name = {catalog.name: catalog for catalog in CATALOGS}
    catalogs = CATALOGS + (LARGE,) * arguments.large
    print(*HEAD, sep=" | ")
    trained = [outcome for catalog in catalogs for outcome in measure(catalog)]
    sequential = {o.catalog: o.sequential for o in reversed(trained)}
    sections = {
        "The rule": trained,
        "Without it": [
            o for name in REFERENCE for o in measure_reference(by_name[name], sequential[name])
        ],
        UNFINISHED_TITLE: [o for c in UNFINISHED for o in measure(c)],
        "Other learning rates": [
            o for name in RATE_CATALOGS for rate in RATES for o in measure_rate(by_name[name], rate)
        ],
    }
    if arguments.explore:
        explored = (by_name["200 items"], *UNFINISHED[:3])
        sections["Other constants"] = [o for catalog in explored for o in explore(catalog)]
    write_tables(sections)
    plot(trained, sections[UNFINISHED_TITLE])
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

"""What is learned when a device has thousands of pairs in flight, simulated on one core.

    python -m benchmarks.staleness            # about 25 minutes
    python -m benchmarks.staleness --explore  # also other constants: about 4 more
    python -m benchmarks.staleness --large    # also a million items: hours

A device with W pairs in flight computes each of them from rows that do not yet hold
the updates of the others. Two models of it:

* Windows: each of W pairs is computed from the tables as they were at the window's
  start, then all the updates are added. Where P pairs share a set of negatives, W
  tiles each train P consecutive pairs: a tile reads its negatives once, updates its
  own copies of them pair after pair, and adds their changes at its end; the other
  two rows of a pair are as old as the W pairs before it.
* Delayed: every update is added W pairs after it was computed. Rows are twice as
  old on average, as on a device that starts a pair whenever another one ends.

Each pair is trained by the package's own routine, on copies of its rows. W and the
caps of the rows' learning rates are those of `itembed_gpu.backends.cuda.in_flight`,
whose rule is what is tested here: an update of a row whose cap is below the learning rate is left
out with probability 1 - cap / rate, by a draw as the package makes it, and made whole otherwise.
For comparison, all of them made, and smaller by cap / rate; even fewer made, and larger by as much;
and W = 16,384 without a limit and without caps, and with rows stored over each other instead of
added.

Catalogs have planted clusters of ten items; both tables start from `initialize_syn`'s
uniform values. The loss is that of fixed pairs and negatives from itemsets that were
not trained on. Writes ``staleness.md`` and ``staleness.png`` beside this file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from numba import njit

from benchmarks.common import losses
from benchmarks.common.catalogs import CLUSTER_SIZE, pick_others, plant_clusters, uniform_tables
from benchmarks.common.machine import machine
from benchmarks.common.plots import picture
from benchmarks.common.report import make_parser, page, say, table, tick, write_whole
from itembed_gpu.backends.cpu.sgns import (
    OF_NEGATIVES,
    OF_PAIR,
    Model,
    Rows,
    Scratch,
    Step,
    is_left_out,
    update_pair,
)
from itembed_gpu.backends.cuda import in_flight
from itembed_gpu.backends.cuda.in_flight import Geometry, plan_geometry
from itembed_gpu.objective.constants import GROUP_SLOT, SPAN
from itembed_gpu.objective.options import NO_SETTINGS
from itembed_gpu.objective.pairs import PRODUCT
from itembed_gpu.objective.rng import slot_block, u64

DIM = 64
NUM_NEGATIVE = 5
NUM_TARGET = NUM_NEGATIVE + 1
NOISE = 0.1  # share of items from outside their itemset's cluster
HOT = 0.2  # share of the hot item
LEARNING_RATE = 0.025
SHARING = 16
SHARED = u64(GROUP_SLOT)
NUM_TEST = 20_000  # held-out itemsets, one pair of each
TOLERANCE = 0.01

# Tiles that a device can hold: an H200 with 16 and with 8 threads a pair, and twice that.
MAX_TILES = (4_096, 8_448, 16_896)


@dataclass(frozen=True)
class Catalog:
    """Planted clusters: how many items, how popular each is, and how much is trained."""

    name: str
    num_label: int
    num_itemset: int
    num_epoch: int
    popularity: str = "uniform"  # or "hot": the first item is 20 % of all; or "zipf"
    num_seed: int = 2

    def weights(self) -> np.ndarray:
        """Share of each item, but for the hot one."""
        ranks = np.arange(1, self.num_label + 1)
        weights = 1 / ranks if self.popularity == "zipf" else np.ones(self.num_label)
        return weights / weights.sum()

    def shares(self) -> np.ndarray:
        """Share of each item in all interactions."""
        shares = self.weights()
        if self.popularity == "hot":
            shares *= 1 - HOT
            shares[0] += HOT
        return shares

    def sample(self, num_itemset: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Itemsets of five to ten items: items and offsets."""
        generator = np.random.default_rng(seed)
        lengths = generator.integers(5, 11, num_itemset)
        items = np.arange(self.num_label)
        # A cluster is chosen as often as its items are: popular items go together.
        clusters = plant_clusters(items, self.weights(), items // CLUSTER_SIZE, NOISE)
        items = clusters.draw(lengths, generator)
        if self.popularity == "hot":
            items[generator.random(len(items)) < HOT] = 0
        return items, np.concatenate([[0], np.cumsum(lengths)])


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

# How much fewer updates of rows with a cap are made than stability asks, and larger by as much.
FEWER = (2, 4, 8)
CAPPED = ("2,000 items, one is 20 %", "2,000 items, Zipf(1)", "20,000 items, Zipf(1)")

# --- the device -------------------------------------------------------------


class Side(NamedTuple):
    """A table, and copies of the rows that pairs in flight have read from it."""

    table: np.ndarray  # num_label x DIM
    caps: np.ndarray  # num_label
    held: np.ndarray  # num_copy x DIM: copies, with their updates
    before: np.ndarray  # num_copy x DIM: as they were read
    rows: np.ndarray  # num_copy: row of the table; -1 for none
    shares: np.ndarray  # num_copy: what the update of a copy is multiplied by


def make_side(table: np.ndarray, caps: np.ndarray | None, num_copy: int) -> Side:
    caps = np.full(len(table), np.inf, np.float32) if caps is None else caps
    held, before = np.zeros((2, num_copy, DIM), np.float32)
    return Side(table, caps, held, before, np.full(num_copy, -1), np.ones(num_copy, np.float32))


class Draw(NamedTuple):
    """Whether the update of a row is made: by which rule, and where the draw is."""

    rate: np.float32
    fewer: float  # how much fewer than the cap asks; 0: all, and smaller instead
    slot: np.uint64
    number: int


@njit
def draw_share(cap, draw):
    """Return what an update is multiplied by: 0 where it is left out."""
    if draw.rate <= cap:
        return np.float32(1)
    if draw.fewer == 0:
        return np.float32(cap / draw.rate)
    zero = u64(0)
    words = slot_block(zero, zero, zero, draw.slot, u64(draw.number >> 2))
    larger = np.float32(draw.fewer)
    return np.float32(0) if is_left_out(words[draw.number & 3], draw.rate, cap / larger) else larger


@njit
def read_row(side, copy, row, draw):
    """Copy a row of the table."""
    side.rows[copy] = row
    side.shares[copy] = draw_share(side.caps[row], draw)
    for d in range(DIM):
        side.held[copy, d] = side.before[copy, d] = side.table[row, d]


@njit
def write_row(side, copy, store):
    """Add what has become of a copy to the table, or store the copy; once."""
    row = side.rows[copy]
    if row < 0:
        return
    side.rows[copy] = -1
    for d in range(DIM):
        if store:
            side.table[row, d] = side.held[copy, d]
        else:
            side.table[row, d] += side.shares[copy] * (side.held[copy, d] - side.before[copy, d])


@njit
def write_pair(left, right, tile, with_negatives, store):
    """Write the rows of a tile's pair."""
    first = tile * NUM_TARGET
    write_row(left, tile, store)
    for target in range(first, first + (NUM_TARGET if with_negatives else 1)):
        write_row(right, target, store)


@njit
def train_pair(left, right, tile, rate, buffers):
    """Train the pair of a tile on its copies, as the package trains any pair."""
    targets, scratch = buffers
    for n in range(NUM_TARGET):
        targets[n] = tile * NUM_TARGET + n
    rows = Rows(left.held, None, None), Rows(right.held, None, None)
    model = Model(*rows, None, NO_SETTINGS)
    update_pair(
        (PRODUCT, DIM, NUM_TARGET, 1, 0), model, tile, targets, Step(rate, rate), scratch, False
    )


@njit
def train_epoch(pairs, negatives, rates, left, right, how, first_slot):
    """Train pairs in windows of num_tile tiles, or with every update num_tile pairs late.

    With one tile, this is the sequential algorithm. With `store`, rows are stored over each
    other, and the last one stays. Pair i has the draws of slot first_slot + i.
    """
    num_tile, sharing, delayed, store, fewer = how
    row, delta = np.empty(DIM, np.float32), np.empty(DIM, np.float32)
    scratch = Scratch(row, delta, np.zeros(SPAN, np.float32), None, None)
    buffers = np.empty(NUM_TARGET, np.int32), scratch
    for begin in range(0, len(pairs), num_tile * sharing):
        for step in range(sharing):
            last = step == sharing - 1
            for tile in range(num_tile):
                i = begin + tile * sharing + step
                if delayed:
                    write_pair(left, right, tile, True, store)
                if i >= len(pairs):
                    continue
                first, rate, slot = tile * NUM_TARGET, rates[i], u64(first_slot + i)
                read_row(left, tile, pairs[i, 0], Draw(rate, fewer, OF_PAIR + slot, 0))
                read_row(right, first, pairs[i, 1], Draw(rate, fewer, OF_PAIR + slot, 1))
                if step == 0:
                    if sharing > 1:
                        slot = SHARED + slot
                    for n in range(1, NUM_TARGET):
                        draw = Draw(rate, fewer, OF_NEGATIVES + slot, n)
                        read_row(right, first + n, negatives[i // sharing, n - 1], draw)
                train_pair(left, right, tile, rates[i], buffers)
            if not delayed:
                for tile in range(num_tile):
                    write_pair(left, right, tile, last, store)
    for tile in range(num_tile):
        write_pair(left, right, tile, True, store)


# --- one run ----------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """How the pairs are trained: sharing pairs have their negatives in common."""

    geometry: Geometry
    sharing: int = 1
    store: bool = False
    delayed: bool = False
    fewer: float = 1.0  # as of `Draw`

    def num_capped(self, learning_rate: float) -> int:
        caps = (self.geometry.left_caps, self.geometry.right_caps)
        return sum(int((c < learning_rate).sum()) for c in caps if c is not None)


SEQUENTIAL = Device(Geometry(1, None, None))
SEQUENTIAL_SHARED = replace(SEQUENTIAL, sharing=SHARING)
UNLIMITED = Device(Geometry(16_384, None, None))


def planned(
    catalog: Catalog, max_tile: int, sharing: int = 1, learning_rate: float = LEARNING_RATE
) -> Device:
    """The geometry under test: every item picks one other, so both sides have the same shares."""
    shares = catalog.shares()
    negatives = NUM_NEGATIVE * sharing / catalog.num_label
    hits = (shares, shares + negatives)
    return Device(plan_geometry(*hits, learning_rate, max_tile), sharing)


def epoch_pairs(
    items: np.ndarray, offsets: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Each item of an itemset with one random other, in random order: (num_pair, 2)."""
    pairs = np.stack([items, items[pick_others(offsets, generator)]], axis=1)
    return pairs[generator.permutation(len(pairs))]


def learn(
    catalog: Catalog, device: Device, seed: int, learning_rate: float = LEARNING_RATE
) -> tuple[np.ndarray, np.ndarray]:
    """Tables after all epochs. The pairs and the start depend on the seed alone."""
    items, offsets = catalog.sample(catalog.num_itemset, 1000 + seed)
    generator = np.random.default_rng(seed)
    first = 2000 + 2 * seed
    tables = uniform_tables(catalog.num_label, DIM, (first, first + 1))
    num_tile = device.geometry.num_tile
    left = make_side(tables[0], device.geometry.left_caps, num_tile)
    right = make_side(tables[1], device.geometry.right_caps, num_tile * NUM_TARGET)
    how = (num_tile, device.sharing, device.delayed, device.store, device.fewer)
    rates = np.linspace(learning_rate, 0, catalog.num_epoch * len(items), dtype=np.float32)
    for epoch, epoch_rates in enumerate(np.split(rates, catalog.num_epoch)):
        pairs = epoch_pairs(items, offsets, generator)
        size = (-(-len(pairs) // device.sharing), NUM_NEGATIVE)
        negatives = generator.integers(0, catalog.num_label, size, dtype=np.int32)
        train_epoch(pairs, negatives, epoch_rates, left, right, how, epoch * len(items))
    return tables[0], tables[1]


def held_out_loss(catalog: Catalog, syn0: np.ndarray, syn1: np.ndarray) -> float:
    """Mean loss of one pair of each of `NUM_TEST` new itemsets, and its negatives."""
    items, offsets = catalog.sample(NUM_TEST, 7)
    generator = np.random.default_rng(7)
    left, right = items[offsets[:-1]], items[offsets[:-1] + 1]
    negatives = generator.integers(0, catalog.num_label, (NUM_TEST, NUM_NEGATIVE))
    return losses.held_out_loss(syn0, syn1, left, right, negatives)


def mean_loss(catalog: Catalog, device: Device, learning_rate: float = LEARNING_RATE) -> float:
    found = [
        held_out_loss(catalog, *learn(catalog, device, seed, learning_rate))
        for seed in range(catalog.num_seed)
    ]
    return float(np.mean(found))


# --- tables and figure ------------------------------------------------------

OTHERS_TITLE = "Other ways to hold hot rows back"
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
            tick(self.change <= TOLERANCE),
        )


def compare(
    catalog: Catalog, devices: dict[str, tuple[Device, float]], learning_rate: float = LEARNING_RATE
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
        say(*outcome.cells())
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


def measure_others(catalog: Catalog, sequential: float, trained: list[Outcome]) -> list[Outcome]:
    """Other ways to hold hot rows back, beside the rule, which has been measured."""
    most = planned(catalog, MAX_TILES[-1])
    named = {"all made, smaller by cap / rate": 0.0}
    named |= {f"1 / {n} of them, {n} times as large": n for n in FEWER}
    known = [
        replace(o, geometry=f"the rule, {how}")
        for how in ("windows", "delayed")
        for o in trained
        if (o.catalog, o.geometry) == (catalog.name, f"{how}, {MAX_TILES[-1]:,} tiles")
    ]
    devices = {
        f"{name}, {how}": (replace(most, fewer=fewer, delayed=how == "delayed"), sequential)
        for name, fewer in named.items()
        for how in ("windows", "delayed")
    }
    return known + list(compare(catalog, devices))


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


def constants() -> str:
    names = [name for name in vars(in_flight) if name.endswith("_LOAD")]
    return ", ".join(f"{name} = {getattr(in_flight, name)}" for name in names)


def make_report(sections: dict[str, list[Outcome]]) -> str:
    note = (
        "`python -m benchmarks.staleness --explore`: held-out loss (mean of 2 seeds; one for "
        "20,000 items and more, without the rule, and with other rates or constants) against the "
        f"sequential algorithm on the same pairs, D = {DIM}, k = {NUM_NEGATIVE}, learning rate "
        f"{LEARNING_RATE} falling to 0 unless said otherwise; W and caps by `plan_geometry` "
        f"({constants()}), tables of initialize_syn's uniform values. The loss is "
        f"{NUM_TARGET * np.log(2):.2f} at the start. Where {SHARING} pairs share their "
        f"negatives, so does the sequential loss it is compared with. One core of {machine()}."
    )
    parts = [
        [f"## {title}", "", *table(HEAD, [outcome.cells() for outcome in outcomes])]
        for title, outcomes in sections.items()
    ]
    return page("What is learned with thousands of pairs in flight", note, *parts)


def plot(path: Path, trained: list[Outcome], unfinished: list[Outcome]) -> None:
    """One line a catalog, one mark a geometry."""
    with picture(path, 9, 10) as figure:
        both = figure.subplots(2, height_ratios=(2, 1.2))
        for axes, outcomes in zip(both, (trained, unfinished), strict=True):
            plot_changes(axes, outcomes)
        both[0].set_title("Trained until the loss has settled, or nearly")
        both[1].set_title("Stopped while the loss falls")
        both[1].set_xlabel("held-out loss, % more than sequential training's (grey: within 1 %)")
        what = f"D = {DIM}, k = {NUM_NEGATIVE}, learning rate {LEARNING_RATE}"
        figure.suptitle(f"Pairs in flight as planned, simulated ({what})")
        handles, labels = both[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, title="device")


def plot_changes(axes: Any, outcomes: list[Outcome]) -> None:
    catalogs = list(dict.fromkeys(outcome.catalog for outcome in outcomes))
    geometries = list(dict.fromkeys(outcome.geometry for outcome in outcomes))
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


def main() -> None:
    parser = make_parser("staleness", __doc__)
    parser.add_argument("--large", action="store_true", help="also a million items")
    parser.add_argument("--explore", action="store_true", help="also other constants of the rule")
    arguments = parser.parse_args()
    began = time.perf_counter()
    by_name = {catalog.name: catalog for catalog in CATALOGS}
    catalogs = CATALOGS + (LARGE,) * arguments.large
    say(*HEAD)
    trained = [outcome for catalog in catalogs for outcome in measure(catalog)]
    sequential = {o.catalog: o.sequential for o in reversed(trained)}
    sections = {
        "The rule": trained,
        OTHERS_TITLE: [
            o for name in CAPPED for o in measure_others(by_name[name], sequential[name], trained)
        ],
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
    write_whole(arguments.out / "staleness.md", make_report(sections))
    plot(arguments.out / "staleness.png", trained, sections[UNFINISHED_TITLE])
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

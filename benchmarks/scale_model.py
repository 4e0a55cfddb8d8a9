"""Part *model* of `benchmarks.scale`: bytes and seconds of an epoch in parts, by what trains it.

An epoch goes through all blocks of the catalog in sweeps, as many blocks at a time as there are
workers; after each step right parts travel to the next worker. What is trained and what travels
overlap; copies between the host and a card, starts of tasks, and the end of an epoch, at which all
parts are written to the disk and read again, do not. All functions but the last ones are pure.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common.machine import machine
from benchmarks.common.plots import BLUE, GREEN, ORANGE, picture
from benchmarks.common.report import say, table
from itembed_gpu.backends.cuda.listing import bytes_at_hand
from itembed_gpu.training.partitions import PAIRS_PER_VISIT, count_sweeps

GB = 1e9
FLOAT = 4
# Parts for each worker, at least: fewer would leave no right part to travel while others train.
PARTS_PER_WORKER = 2
# Tasks of Dask that a visit takes, and what one takes.
SECONDS_PER_VISIT = 5 * 0.002

TRAINING, NETWORK, COPIES, DISK, STARTS = "training", "network", "copies", "disk", "starts"


class Catalog(NamedTuple):
    """What is trained: two tables."""

    num_item: int
    dim: int
    pairs_per_item: float  # of an epoch

    @property
    def table_bytes(self) -> int:
        """Bytes of each table."""
        return FLOAT * self.num_item * self.dim

    @property
    def num_pair(self) -> int:
        """Pairs of an epoch."""
        return int(self.num_item * self.pairs_per_item)

    def part_bytes(self, num_part: int) -> float:
        """Bytes of a part of a table."""
        return self.table_bytes / num_part


class Workers(NamedTuple):
    """Who trains it; speeds are of each worker."""

    name: str
    number: int
    speed: float  # pairs a second
    network: float  # bytes a second, each way
    copies: float  # bytes a second between the host and what trains; inf where parts stay there
    disk: float  # bytes a second
    memory: float  # bytes for parts
    start: float = SECONDS_PER_VISIT  # seconds that a visit takes beside


class Epoch(NamedTuple):
    """Where the seconds of an epoch go."""

    num_part: int
    num_step: int  # of all sweeps
    bytes_per_step: float  # that each worker sends, and receives
    seconds_of: dict[str, float]

    @property
    def seconds(self) -> float:
        """Seconds of all; what travels overlaps with what is trained."""
        of = self.seconds_of
        return max(of[TRAINING] + of[COPIES], of[NETWORK]) + of[DISK] + of[STARTS]

    @property
    def binds(self) -> str:
        """What takes longest."""
        return max(self.seconds_of, key=lambda name: self.seconds_of[name])


def travel_seconds(num_byte: float, bytes_per_second: float) -> float:
    """Return how long bytes travel."""
    return num_byte / bytes_per_second


def choose_parts(catalog: Catalog, workers: Workers) -> int:
    """Return the smallest power of 2 of parts that is enough for the workers and their memory."""
    num_part = 1
    sizes = [catalog.table_bytes] * 2
    while workers.number > 1 and num_part < PARTS_PER_WORKER * workers.number:
        num_part *= 2
    while bytes_at_hand(sizes, num_part) > workers.memory:
        num_part *= 2
    return num_part


def model_epoch(catalog: Catalog, workers: Workers, num_part: int | None = None) -> Epoch:
    """Return where the seconds of an epoch go; by default with `choose_parts` parts."""
    num_part = num_part or choose_parts(catalog, workers)
    sweeps = count_sweeps(catalog.num_pair, catalog.num_item, num_part)
    # Visits of each worker, one a step.
    num_step = sweeps * num_part * -(-num_part // workers.number)
    part, alone = catalog.part_bytes(num_part), num_part == 1
    listed = 2 * FLOAT * catalog.num_pair / workers.number  # of which the others' shares travel
    bytes_per_step = 0.0 if workers.number == 1 else part
    tables = 2 * catalog.table_bytes / workers.number
    network = num_step * bytes_per_step + listed * (1 - 1 / workers.number)
    return Epoch(
        num_part,
        num_step,
        bytes_per_step,
        {
            TRAINING: catalog.num_pair / (workers.speed * workers.number),
            NETWORK: travel_seconds(network, workers.network),
            # Both parts, each way.
            COPIES: 0.0 if alone else travel_seconds(num_step * 4 * part, workers.copies),
            DISK: 0.0 if workers.number == 1 else travel_seconds(2 * tables, workers.disk),
            STARTS: 0.0 if alone else num_step * workers.start,
        },
    )


def in_parts_over_whole(
    dim: int, pairs_per_visit: float, speed: float, bytes_per_second: float
) -> float:
    """Return pairs a second of one card whose tables come in parts, over those of tables that fit.

    In each visit a row of a right part is trained in so many pairs; meanwhile another one comes
    and one goes, at the same time. The row of the left part stays.
    """
    moved = travel_seconds(FLOAT * dim, bytes_per_second)
    return min(1.0, pairs_per_visit / speed / moved)


def memory_binds(sizes: Iterable[int], catalog: Catalog, workers: Workers) -> int | None:
    """Return from how many items on there are more parts than workers need; None of none."""
    enough = choose_parts(catalog._replace(num_item=1), workers)
    more = (n for n in sizes if choose_parts(catalog._replace(num_item=n), workers) > enough)
    return next(more, None)


def changes(sizes: Iterable[int], catalog: Catalog, workers: Workers) -> list[tuple[int, str]]:
    """Return from how many items on something else binds, and what."""
    found: list[tuple[int, str]] = []
    for num_item in sizes:
        binds = model_epoch(catalog._replace(num_item=num_item), workers).binds
        if not found or binds != found[-1][1]:
            found.append((num_item, binds))
    return found


# ------------------------------------------------------------ what is drawn

DIM, PAIRS_PER_ITEM = 128, 100.0
# Of one H200, D = 128, a million items, Zipf (`benchmarks.gpu`).
CARD_SPEED, CARD_MEMORY = 500e6, 64 * GB
NVLINK, PCIE, NVME = 50 * GB, 25 * GB, 2 * GB
GIGABIT = GB / 8

_card: dict[str, Any] = {"speed": CARD_SPEED, "memory": CARD_MEMORY}
_node: dict[str, Any] = {**_card, "copies": PCIE, "disk": NVME}
ONE = Workers("one card, all in its memory", 1, network=np.inf, **_node)
# Eight cards share a disk.
CARDS = (
    Workers(
        "8 cards, NVLink, parts stay on cards", 8, network=NVLINK, **_card, copies=np.inf,
        disk=NVME / 8,
    ),
    Workers(
        "8 cards, PCIe by way of the host", 8, network=PCIE, **_card, copies=PCIE, disk=NVME / 8
    ),
)  # fmt: skip
NODES = tuple(
    Workers(f"64 nodes of a card, {speed} Gb/s", 64, network=speed * GIGABIT, **_node)
    for speed in (10, 100, 200)
)
SIZES = [int(size) for size in np.logspace(5, 9, 81)]
STYLES = {TRAINING: "-", NETWORK: "--", COPIES: "-.", DISK: ":", STARTS: (0, (1, 5))}


def draw(path: Path) -> None:
    """Draw seconds an epoch over items: a colour for who trains, a style for what binds."""
    catalog = Catalog(1, DIM, PAIRS_PER_ITEM)
    with picture(path, 11, 4.8) as figure:
        plots = figure.subplots(1, 2, sharey=True)
        titles = "8 cards of one machine", "64 machines of a card"
        for plot, some, title in zip(plots, (CARDS, NODES), titles, strict=True):
            fits = [n for n in SIZES if bytes_at_hand([FLOAT * DIM * n] * 2, 1) <= CARD_MEMORY]
            draw_line(plot, catalog, ONE, fits, "gray", 1.8)
            # Lines that are one lie over each other.
            for workers, colour, width in zip(
                some, (BLUE, ORANGE, GREEN), (3.6, 2.4, 1.2), strict=False
            ):
                draw_line(plot, catalog, workers, SIZES, colour, width)
            for name, style in STYLES.items():
                plot.plot([], [], color="black", linestyle=style, label=f"binds: {name}")
            plot.set(xscale="log", yscale="log", xlabel="items", title=title)
            plot.grid(alpha=0.3)
            plot.legend(fontsize=7)
        plots[0].set_ylabel("seconds an epoch, as modelled")


def draw_line(
    plot: Any,
    catalog: Catalog,
    workers: Workers,
    sizes: Sequence[int],
    colour: str,
    width: float,
) -> None:
    """Draw a line, piece by piece."""
    epochs = [model_epoch(catalog._replace(num_item=n), workers) for n in sizes]
    plot.plot([], [], color=colour, linewidth=3, label=workers.name)
    first = 0
    for place in range(1, len(sizes) + 1):
        if place == len(sizes) or epochs[place].binds != epochs[first].binds:
            part = slice(first, place + 1)
            seconds = [epoch.seconds for epoch in epochs[part]]
            style = STYLES[epochs[first].binds]
            plot.plot(sizes[part], seconds, color=colour, linestyle=style, linewidth=width)
            first = place


# ------------------------------------------------------------ what is measured

COPIED = 1 << 26


def fastest(function: Callable[[], Any], num_byte: int) -> float:
    """Return bytes a second of the fastest of some calls."""
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return num_byte / min(seconds)


def _values(num_byte: int) -> Any:
    return np.ones(num_byte // FLOAT, dtype=np.float32)


def _nothing(values: Any) -> int:
    return len(values)


def measure_copies(num_byte: int = COPIED) -> dict[str, float]:
    """Return bytes a second of this machine: in memory, to the disk and back, between workers."""
    import distributed

    source = _values(num_byte)
    to = np.empty_like(source)
    found = {COPIES: fastest(lambda: np.copyto(to, source), num_byte)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.npy"

        def write_and_read() -> None:
            np.save(path, source)
            np.copyto(to, np.load(path, mmap_mode="r"))

        found[DISK] = fastest(write_and_read, 2 * num_byte)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        one, other = client.nthreads()

        def travel() -> None:
            part = client.submit(_values, num_byte, workers=[one], pure=False)
            client.submit(_nothing, part, workers=[one], pure=False).result()  # it is there
            began = time.perf_counter()
            client.submit(_nothing, part, workers=[other], pure=False).result()
            took.append(time.perf_counter() - began)

        took: list[float] = []
        for _ in range(4):
            travel()
        found[NETWORK] = num_byte / min(took)
    return found


def read_measured(lines: Sequence[str]) -> list[dict[str, float]]:
    """Return the rows of the table of the part *workers*, by what their columns are called."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if "|" in line]
    head, numbers = rows[:1], rows[2:]
    return [
        {name: float(cell.split()[0]) for name, cell in zip(head[0], row, strict=True)}
        for row in numbers
    ]


def check_against(
    row: dict[str, float], speeds: dict[str, float], catalog: Catalog, num_part: int
) -> tuple[float, float]:
    """Return what two workers are over one process, as modelled and as measured."""
    alone = 1e6 * row["one process, million pairs/s"]
    in_parts = alone * row["in parts over that"]
    num_pair = row["a visit takes, seconds"] * alone * num_part**2
    two = Workers(
        "two processes", 2, in_parts, speeds[NETWORK], speeds[COPIES], speeds[DISK], np.inf
    )
    trained = catalog._replace(pairs_per_item=num_pair / catalog.num_item)
    # Each block was visited once.
    epoch = model_epoch(trained._replace(pairs_per_item=0.0), two, num_part)
    of = epoch.seconds_of | {
        TRAINING: num_pair / (2 * in_parts),
        NETWORK: epoch.seconds_of[NETWORK] + FLOAT * num_pair / 2 / speeds[NETWORK],
    }
    modelled = num_pair / epoch._replace(seconds_of=of).seconds / alone
    return modelled, row["two workers over one process"]


def model_part(options: argparse.Namespace) -> list[str]:
    """Show the model, and how far it is from what was measured."""
    catalog = Catalog(1, DIM, PAIRS_PER_ITEM)
    rows = []
    for workers in (*CARDS, *NODES):
        some = [
            model_epoch(catalog._replace(num_item=n), workers) for n in (10**6, 10**7, 10**8, 10**9)
        ]
        cells = (f"{e.seconds:.3g} ({e.num_part} parts; {e.binds})" for e in some)
        found = changes(SIZES, catalog, workers)
        turns = ", ".join(f"{binds} from {n:.1g}" for n, binds in found)
        most = memory_binds(SIZES, catalog, workers)
        turns += f"; memory, for more parts, from {most:.1g}" if most else ""
        rows.append(say(workers.name, *cells, turns))
    draw(options.out / "scale.png")
    head = "workers", *(f"{n} items" for n in ("1M", "10M", "100M", "1,000M")), "what binds"
    note = (
        f"Seconds an epoch, as modelled: D = {DIM}, {PAIRS_PER_ITEM:.0f} pairs an item and epoch, "
        f"{CARD_SPEED / 1e6:.0f} million pairs/s and {CARD_MEMORY / GB:.0f} GB for parts on a "
        f"card; NVLink {NVLINK / GB:.0f} GB/s, PCIe {PCIE / GB:.0f} GB/s, a disk "
        f"{NVME / GB:.0f} GB/s, {1e3 * SECONDS_PER_VISIT:.0f} ms to start a visit. Of these, only "
        "the card's speed was measured. The disk has all parts written and read as an epoch ends."
    )
    lines = [note, "", *table(head, rows), "", "![Seconds an epoch over items](scale.png)"]
    lines += ["", *of_one_card()]
    measured = read_measured(options.sections.get("Workers", []))
    return [*lines, "", *checked(measured, options)] if measured else lines


def of_one_card() -> list[str]:
    """Show what one card reaches whose tables come in parts."""
    links = (10 * GB, PCIE, NVLINK)
    rows = []
    for pairs in (PAIRS_PER_VISIT, 2 * PAIRS_PER_VISIT, 4 * PAIRS_PER_VISIT):
        over = (in_parts_over_whole(DIM, pairs, CARD_SPEED, link) for link in links)
        rows.append(say(pairs, *(f"{ratio:.2f}" for ratio in over)))
    head = "pairs of a row in a visit", *(f"{link / GB:.0f} GB/s" for link in links)
    note = (
        "One card whose tables come in parts, over tables that fit, as modelled, by how fast rows "
        "are collected in the host's memory and copied, while others are copied and put back. "
        f"Pairs of a row in a visit are {PAIRS_PER_VISIT} at most, as `training.partitions` has it."
    )
    return [note, "", *table(head, rows)]


def checked(measured: list[dict[str, float]], options: argparse.Namespace) -> list[str]:
    """Compare the model with the table of two workers, with speeds of copies measured now."""
    speeds = measure_copies()
    catalog = Catalog(options.items[0], options.dim, 0.0)
    rows = []
    for row in measured:
        modelled, found = check_against(row, speeds, catalog, options.num_part_of_workers)
        cells = row["a visit takes, seconds"], f"{modelled:.2f}", f"{found:.2f}"
        rows.append(say(*cells, f"{modelled / found:.2f}"))
    head = "a visit takes, seconds", "modelled", "measured", "modelled over measured"
    note = (
        "Two workers over one process, as modelled and as measured above. Copies, measured now: "
        f"{speeds[COPIES] / GB:.2g} GB/s in memory, {speeds[DISK] / GB:.2g} GB/s to the disk and "
        f"back, {speeds[NETWORK] / GB:.2g} GB/s between workers. Left out is what the scheduler, "
        f"the client and the workers' own threads take of the same cores. On {machine()}."
    )
    return [note, "", *table(head, rows)]

"""Catalogs in parts: what they cost in quality, in memory and in speed.

    python -m benchmarks.scale                   # one core: about 10 minutes
    python -m benchmarks.scale --large           # a million items as well: an hour more
    python -m benchmarks.scale --parts disk
    python -m benchmarks.scale --parts rankings --data DATA    # 15 minutes

*quality*: held-out losses of the problems of `benchmarks.oracle`, trained with ``partitions=`` for
as many epochs as without, over those without. Items that are planted are the hard case: who is near
whom is all that there is to learn. Of a million items, only without parts and with as many as are
judged.

*rankings*: HR@10 of Online Retail and Recall@20 of Gowalla in parts, over those without; DATA is
the folder that `benchmarks.quality` reads. Pairs of items and sampled negatives, as parts have no
means: these are not the settings that rank best.

*disk*: processes of one thread train tables that are mapped from the disk, in parts: anonymous
memory at the peak (what is not a copy of a file), above that of a tiny catalog, over the bytes of
the tables; and pairs a second over those of tables in memory, without parts. They take turns, and
medians count.

*workers*: pairs a second of one and two worker processes of Dask, of one thread each, over those
of one process of one thread, by how long a visit to a block takes; and of one worker over the same
parts without Dask.

*kills*: a catalog is trained by two workers again and again, and each time one of them is killed
at a random moment: whether the tables are those of a training without kills, to the bit, and how
many visits to blocks were done again.

*card*: pairs a second of tables of twice what a card is allowed, in parts, over those of tables
that fit; how long the card and the host take to list their pairs; and bytes that travel.

*model*: bytes and seconds of many cards and machines, checked against *workers*, and drawn.

Writes ``scale.md`` and ``scale.png`` beside this file; the sections of parts that are not asked
for stay in it.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import logging
import os
import re
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu as ig
from benchmarks import datasets, oracle, quality, scale_card, scale_model
from benchmarks.common.catalogs import planted_itemsets, uniform_tables
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from benchmarks.common.timing import medians, run_python
from benchmarks.ours import ours
from benchmarks.peers import Watch
from itembed_gpu.training import partitions

# Without, and with more and more parts; one of which is judged.
COUNTS = (1, 2, 8, 32)
JUDGED = 8
LOSS = Target("<=", 1.005)
PROBLEMS = ("2,000 items", "20,000 items", "20,000 items, one has 20 % of all interactions")
SEEDS: dict[str, tuple[int, ...]] = dict.fromkeys(PROBLEMS, (0, 1, 2))
# It takes long.
SEEDS_OF_LARGE: dict[str, tuple[int, ...]] = {"1,000,000 items": (0,)}

# Of each data set: the metric, and settings chosen on a validation split, without parts.
RANKINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "online_retail": (
        "HR@10",
        {
            "optimizer": "adagrad",
            "learning_rate": 0.3,
            "num_epoch": 40,
            "dim": 128,
            "num_negative": 20,
            "noise_exponent": 0.75,
        },
    ),
    "gowalla": (
        "Recall@20",
        {
            "optimizer": "adagrad",
            "learning_rate": 0.5,
            "num_epoch": 30,
            "num_negative": 40,
            "negative_sharing": 8,
        },
    ),
}
NUM_SEED = 3
# A ranking may lose so much of itself, or so many standard errors of the difference.
LOSS_OF_RANKING, STANDARD_ERRORS = 0.01, 2.0

NUM_ITEMS, DIM, NUM_PART = (100_000, 200_000), 128, 16
TINY = 100 * NUM_PART  # items of a catalog that takes next to no memory, and as many itemsets
MEMORY, SPEED = Target("<=", 0.25), Target(">=", 0.5)
# Pairs of a visit to a block, in a process that trains so many a second; and parts.
STEPS, PAIRS_PER_SECOND, NUM_PART_OF_WORKERS = (0.2, 0.5, 2.0), 1_200_000, 4
TWO_WORKERS, ONE_WORKER = Target(">=", 1.7), Target(">=", 0.95)
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
# A catalog that workers are killed over: items, itemsets, columns, parts, epochs; and how often.
NUM_KILL, KILLED = 20, {"items": 20_000, "itemsets": 200_000, "dim": 64, "parts": 4, "epochs": 3}
# Anonymous memory is looked at so often, in seconds.
EVERY = 0.005
MIB = 1 << 20


# -------------------------------------------------------------------- quality


def train_in_parts(name: str, num_part: int, seed: int) -> float:
    """Train a problem of the oracle on one thread, and return its held-out loss."""
    problem = oracle.PROBLEMS[name]
    tables = oracle.new_tables(problem, oracle.TABLES_SEED + 2 * seed)
    task = ig.UnsupervisedTask(
        *oracle.training_items(problem),
        *tables,
        num_negative=problem.num_negative,
        seed=problem.seed + seed,
        device="cpu",
        num_threads=1,
        partitions=num_part,
    )
    rate = problem.learning_rate
    ig.train(task, num_epoch=problem.num_epoch, initial_learning_rate=rate, progress=False)
    return oracle.held_out_loss(problem, *tables)


def show_losses(name: str, losses: dict[int, list[float]]) -> tuple[str, ...]:
    """Return a line of the table: losses by the number of parts, a seed each."""
    without = np.array(losses[COUNTS[0]])
    cells = [name, str(len(without)), f"{without.mean():.4f}"]
    for num_part in COUNTS[1:]:
        if num_part not in losses:
            cells.append("")
            continue
        ratios = np.array(losses[num_part]) / without
        text = f"{100 * (ratios.mean() - 1):+.2f} %"
        if len(ratios) > 1:
            text += f" (from {100 * (ratios.min() - 1):+.2f} to {100 * (ratios.max() - 1):+.2f})"
        if num_part == JUDGED:
            text += f" {tick(LOSS.is_met(ratios.mean()))}"
        cells.append(text)
    return say(*cells)


def quality_part(options: argparse.Namespace) -> list[str]:
    """Compare losses."""
    seeds = SEEDS | (SEEDS_OF_LARGE if options.large else {})
    target = f"target: {100 * (LOSS.limit - 1):+.1f} %"
    in_parts = (f"{n} parts" + (f" ({target})" if n == JUDGED else "") for n in COUNTS[1:])
    head = ("problem", "seeds", "held-out loss without parts", *in_parts)
    rows = []
    for name, numbers in seeds.items():
        counts = (COUNTS[0], JUDGED) if name in SEEDS_OF_LARGE else COUNTS
        losses = {n: [train_in_parts(name, n, seed) for seed in numbers] for n in counts}
        rows.append(show_losses(name, losses))
    note = (
        "Held-out losses with parts over those without, of as many epochs; means over seeds. One "
        f"thread. On {machine()}."
    )
    return [note, "", *table(head, rows)]


# ------------------------------------------------------------------- rankings


def rank_in_parts(data: Any, num_part: int, seed: int) -> float:
    """Train on a data set on one thread, and return its metric."""
    metric, settings = RANKINGS[data.name]
    scorers = ours(data, seed, Watch(), partitions=num_part, **settings)
    return quality.evaluate(scorers["dot"], data)[metric]


def show_rankings(name: str, without: list[float], parted: list[float]) -> tuple[str, ...]:
    """Return a line of the table: a metric without parts and with them, a seed each."""
    one, other = np.array(without), np.array(parted)
    difference = other.mean() - one.mean()
    error = float(np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / len(one)))
    allowed = max(LOSS_OF_RANKING * float(one.mean()), STANDARD_ERRORS * error)
    return say(
        *(name, RANKINGS[name][0], str(len(one)), f"{one.mean():.4f}", f"{other.mean():.4f}"),
        f"{100 * difference / one.mean():+.2f} %",
        f"-{100 * allowed / one.mean():.2f} % {tick(difference >= -allowed)}",
    )


def rankings_part(options: argparse.Namespace) -> list[str]:
    """Compare rankings of held-out items."""
    if options.data is None:
        raise SystemExit("--parts rankings: pass --data, the folder that benchmarks.quality reads")
    rows = []
    for name in RANKINGS:
        data = datasets.DATASETS[name](options.data)
        values = {
            n: [rank_in_parts(data, n, seed) for seed in range(NUM_SEED)] for n in (1, JUDGED)
        }
        rows.append(show_rankings(name, values[1], values[JUDGED]))
    head = (
        *("data set", "metric", "seeds", "without parts", f"{JUDGED} parts", "difference"),
        f"may lose {100 * LOSS_OF_RANKING:.0f} %, or {STANDARD_ERRORS:.0f} standard errors",
    )
    settings = "; ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in how.items())}"
        for name, (_, how) in RANKINGS.items()
    )
    note = f"Pairs of items. {settings}. One thread. On {machine()}."
    return [note, "", *table(head, rows)]


# ----------------------------------------------------------------------- disk


def write_problem(folder: Path, num_item: int, num_itemset: int, dim: int) -> None:
    """Write tables and packed itemsets, so that processes can map them."""
    items = planted_itemsets(num_item, num_itemset, seed=0)
    np.save(folder / "items.npy", items.ravel())
    np.save(folder / "offsets.npy", np.arange(0, items.size + 1, items.shape[1], dtype=np.int64))
    for name, syn in zip(("syn0", "syn1"), uniform_tables(num_item, dim), strict=True):
        np.save(folder / f"{name}.npy", syn)


def anonymous_memory() -> int:
    """Bytes of memory of this process that are no copy of a file."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[0])


@contextmanager
def watched() -> Iterator[list[int]]:
    """Look at the anonymous memory now and then: the list holds what there was."""
    seen, done = [anonymous_memory()], threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            seen.append(anonymous_memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def train_from(folder: str, mapped: bool, num_part: int, num_epoch: int) -> None:
    """Train what `write_problem` wrote, in a process of its own; print what it took."""
    path = Path(folder)
    items, offsets = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ("items", "offsets"))
    mode: Any = "r+" if mapped else None
    with watched() as seen:
        tables = [np.load(path / f"{name}.npy", mmap_mode=mode) for name in ("syn0", "syn1")]
        task = ig.UnsupervisedTask(
            items, offsets, *tables, seed=1, device="cpu", num_threads=1, partitions=num_part
        )
        ig.train(task, num_epoch=1, progress=False)  # compiles, and reads the files
        began = time.perf_counter()
        num_pair = ig.train(task, num_epoch=num_epoch, progress=False).num_pair
        speed = num_pair / (time.perf_counter() - began)
    print(json.dumps({"memory": max(seen), "speed": speed}))


def run_process(folder: Path, mapped: bool, num_part: int, num_epoch: int) -> dict[str, float]:
    """Call `train_from` in a process of its own."""
    call = f"train_from({str(folder)!r}, {mapped}, {num_part}, {num_epoch})"
    result: dict[str, float] = json.loads(
        run_python(["-c", f"from benchmarks.scale import *; {call}"])
    )
    return result


def measure_disk(num_item: int, options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return lines of the table: of a catalog with as many itemsets as items."""
    memory: dict[str, list[float]] = {}

    def clock(name: str, folder: Path, *how: Any) -> Callable[[], float]:
        def once() -> float:
            result = run_process(folder, *how, options.epochs)
            memory.setdefault(name, []).append(result["memory"])
            return result["speed"]

        return once

    with tempfile.TemporaryDirectory(dir=options.work) as name:
        large, tiny = Path(name) / "large", Path(name) / "tiny"
        for folder, size in ((large, num_item), (tiny, TINY)):
            folder.mkdir()
            write_problem(folder, size, size, options.dim)
        in_memory, mapped = "in memory, no parts", f"mapped from the disk, {NUM_PART} parts"
        clocks = {
            in_memory: clock(in_memory, large, False, 1),
            mapped: clock(mapped, large, True, NUM_PART),
            "tiny": clock("tiny", tiny, True, NUM_PART),
        }
        speeds = medians(clocks, options.repeat)
    num_byte = 2 * 4 * num_item * options.dim
    # The first process compiled.
    peaks = {name: statistics.median(values[1:]) for name, values in memory.items()}
    rows = []
    for name in (in_memory, mapped):
        above, ratio = peaks[name] - peaks["tiny"], speeds[name] / speeds[in_memory]
        share, over = f"{above / num_byte:.3f}", f"{ratio:.2f}"
        if name == mapped:
            share += f" ({MEMORY} {tick(MEMORY.is_met(above / num_byte))})"
            over += f" ({SPEED} {tick(SPEED.is_met(ratio))})"
        cells = f"{num_item:,}", name, f"{num_byte / MIB:.0f}", f"{above / MIB:.0f}", share
        rows.append(say(*cells, f"{speeds[name] / 1e6:.2f}", over))
    return rows


def disk_part(options: argparse.Namespace) -> list[str]:
    """Compare tables on the disk with those in memory."""
    rows = [row for num_item in options.items for row in measure_disk(num_item, options)]
    head = (
        *("items", "tables", "their MiB", "anonymous memory above a tiny catalog, MiB"),
        *("over the bytes of the tables", "million pairs/s", "over in memory"),
    )
    note = (
        f"D = {options.dim}; as many itemsets of {oracle.ITEMSET_LENGTH} as items, mapped as well. "
        "At hand are a left part and at most three right ones; the list of pairs takes 8 bytes "
        f"each, and the allocator keeps some MiB. One thread; medians of {options.repeat} "
        f"processes of {options.epochs} epochs each. Files that were just written are in the page "
        f"cache. On {machine()}."
    )
    return [note, "", *table(head, rows)]


# -------------------------------------------------------------------- workers


def train_by(
    num_itemset: int, options: argparse.Namespace, num_part: int, num_worker: int
) -> float:
    """Train a catalog in some parts by some workers, or by none; return pairs a second."""
    items = planted_itemsets(options.items[0], num_itemset, seed=0)
    offsets = np.arange(0, items.size + 1, items.shape[1], dtype=np.int64)
    tables = uniform_tables(options.items[0], options.dim)
    task = ig.UnsupervisedTask(
        items.ravel(), offsets, *tables, seed=1, device="cpu", num_threads=1, partitions=num_part
    )
    # The first epoch compiles.
    how: dict[str, Any] = {"num_epoch": 1 + options.epochs, "progress": False}
    with workers(num_worker) as client:
        history = ig.train(task, **how, client=client)
    after = history.epochs[1:]
    return sum(epoch.num_pair for epoch in after) / sum(epoch.seconds for epoch in after)


@contextmanager
def workers(number: int) -> Iterator[Any]:
    """Start worker processes, each with a core, or have this one have a core: yields a client."""
    if number == 0:
        pin({CORES[0]})
        try:
            yield None
        finally:
            pin(set(CORES))
        return
    import dask
    import distributed

    with (
        # As of ``itembed-gpu --workers``.
        dask.config.set(
            {
                "distributed.deploy.lost-worker-timeout": "1 day",
                "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
            }
        ),
        distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        for address, core in zip(client.nthreads(), itertools.cycle(CORES)):
            client.run(pin, {core}, workers=[address])
        yield client


def pin(cores: set[int]) -> None:
    """Have all threads of this process run on some cores, where the system lets us say so."""
    if hasattr(os, "sched_setaffinity"):
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)


def workers_part(options: argparse.Namespace) -> list[str]:
    """Compare workers with one process."""
    num_part = NUM_PART_OF_WORKERS
    rows = []
    for seconds in options.steps:
        size = int(seconds * PAIRS_PER_SECOND * num_part**2) // oracle.ITEMSET_LENGTH
        ways = {"none": (1, 0), "parts": (num_part, 0), "one": (num_part, 1), "two": (num_part, 2)}
        with one_sweep():
            clocks = {
                name: functools.partial(train_by, size, options, *way) for name, way in ways.items()
            }
            speed = medians(clocks, options.repeat)
        over, one = speed["two"] / speed["none"], speed["one"] / speed["parts"]
        longest = seconds == max(STEPS)
        rows.append(
            say(
                f"{size * oracle.ITEMSET_LENGTH / num_part**2 / speed['none']:.2f}",
                f"{speed['none'] / 1e6:.2f}",
                f"{speed['parts'] / speed['none']:.2f}",
                f"{one:.2f} ({ONE_WORKER} {tick(ONE_WORKER.is_met(one))})",
                f"{over:.2f}"
                + (f" ({TWO_WORKERS} {tick(TWO_WORKERS.is_met(over))})" if longest else ""),
            )
        )
    head = (
        *("a visit takes, seconds", "one process, million pairs/s", "in parts over that"),
        *("one worker over parts without Dask", "two workers over one process"),
    )
    note = (
        f"{options.items[0]:,} items, D = {options.dim}, {num_part} parts; one thread and one core "
        f"a process; medians of {options.repeat} trainings of {options.epochs} epochs each, after "
        "one that compiles. Pairs are listed, and parts are written to the disk, in that time. "
        f"On {machine()}."
    )
    return [note, "", *table(head, rows)]


@contextmanager
def one_sweep() -> Iterator[None]:
    """Have each block visited once, so that a visit is as long as it is to be."""
    known = partitions.PAIRS_PER_VISIT
    partitions.PAIRS_PER_VISIT = 1 << 40
    try:
        yield
    finally:
        partitions.PAIRS_PER_VISIT = known


# ---------------------------------------------------------------------- kills


@contextmanager
def counted(client: Any) -> Iterator[list[str]]:
    """Count visits to blocks as they end: the list holds their keys."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    ended: list[str] = []

    class Listening(SchedulerPlugin):
        def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
            if finish == "memory" and str(key).startswith("train_visit"):
                ended.append(str(key))

    scheduler, plugin = client.cluster.scheduler, Listening()
    scheduler.add_plugin(plugin, name="counted")
    try:
        yield ended
    finally:
        scheduler.remove_plugin("counted")


@contextmanager
def killing(client: Any, number: int, delay: float) -> Iterator[list[int]]:
    """Kill a worker after some seconds; the list holds its process, once it is done."""
    killed: list[int] = []
    pids = list(client.run(os.getpid).values())

    def kill() -> None:
        os.kill(pids[number], signal.SIGKILL)
        killed.append(pids[number])

    timer = threading.Timer(delay, kill)
    timer.start()
    try:
        yield killed
    finally:
        timer.cancel()
        timer.join()


def train_killed(
    client: Any, killer: AbstractContextManager[list[int]] | None = None
) -> tuple[list[Any], float, list[int]]:
    """Train the catalog by the workers; return its tables, the seconds, and whom it killed."""
    items = planted_itemsets(KILLED["items"], KILLED["itemsets"], seed=0)
    offsets = np.arange(0, items.size + 1, items.shape[1], dtype=np.int64)
    tables = list(uniform_tables(KILLED["items"], KILLED["dim"]))
    how: dict[str, Any] = {"seed": 1, "num_threads": 1, "partitions": KILLED["parts"]}
    task = ig.UnsupervisedTask(items.ravel(), offsets, *tables, **how, device="cpu")
    client.wait_for_workers(2)
    with killer or nullcontext([]) as killed:
        began = time.perf_counter()
        ig.train(task, num_epoch=KILLED["epochs"], progress=False, client=client)
    return tables, time.perf_counter() - began, killed


def kills_part(options: argparse.Namespace) -> list[str]:
    """Compare trainings in which a worker is killed with one in which none is."""
    rng = np.random.default_rng(options.seed)
    again: list[int] = []
    longer: list[float] = []
    moments: list[float] = []
    num_same = 0
    with workers(2) as client, counted(client) as ended:
        train_killed(client)  # compiles
        ended.clear()
        expected, seconds, _ = train_killed(client)
        num_visit = len(ended)
        while len(again) < options.kills:
            ended.clear()
            moment, number = float(rng.uniform(0, seconds)), int(rng.integers(2))
            found, took, killed = train_killed(client, killing(client, number, moment))
            if not killed:  # it ended before
                continue
            moments.append(moment)
            again.append(len(ended) - num_visit)
            longer.append(took - seconds)
            same = all(map(np.array_equal, found, expected))
            num_same += same
            said = f"killed at {moment:.2f} s: {'same' if same else 'OTHER'} tables"
            print(f"{said}, {again[-1]} visits again, {took:.1f} s", flush=True)
    per_epoch = num_visit // KILLED["epochs"]
    exact, few = Target(">=", options.kills), Target("<=", per_epoch)
    rows = [
        ("trainings, in each of which a worker was killed", f"{options.kills}"),
        ("the same tables to the bit", f"{num_same} {tick(exact.is_met(num_same))}"),
        (
            f"visits that were done again, of {num_visit}: median; most",
            f"{statistics.median(again):.0f}; {max(again)} ({few} {tick(few.is_met(max(again)))})",
        ),
        ("seconds without a kill", f"{seconds:.1f}"),
        (
            "seconds more with one: median; most",
            f"{statistics.median(longer):.1f}; {max(longer):.1f}",
        ),
    ]
    note = (
        f"{KILLED['items']:,} items, D = {KILLED['dim']}, {KILLED['itemsets']:,} itemsets, "
        f"{KILLED['parts']} parts, {KILLED['epochs']} epochs of {per_epoch} visits, two workers of "
        f"one thread. SIGKILL of one of them at a random moment, from {min(moments):.1f} to "
        f"{max(moments):.1f} s after the start; its nanny starts another. Visits count where they "
        f"end: one that was under way is not among them. On {machine()}."
    )
    return [note, "", *table(("what", "found"), rows)]


# --------------------------------------------------------------------- report

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], list[str]]]] = {
    "quality": ("Quality", quality_part),
    "rankings": ("Rankings", rankings_part),
    "disk": ("Tables on the disk", disk_part),
    "workers": ("Workers", workers_part),
    "kills": ("Workers that are killed", kills_part),
    "card": ("A card", scale_card.card_part),
    "model": ("A model of many", scale_model.model_part),
}
BY_DEFAULT = [name for name in PARTS if name != "rankings"]  # for which data is needed


def read_sections(path: Path) -> dict[str, list[str]]:
    """Return the sections of a report that there is already, by their titles."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = (section.partition("\n") for section in re.split(r"^## ", text, flags=re.M)[1:])
    return {title: rest.strip("\n").split("\n") for title, _, rest in sections}


def main(args: list[str] | None = None) -> None:
    parser = make_parser("scale", __doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=BY_DEFAULT)
    parser.add_argument("--data", type=Path, help="folder of the data sets of rankings")
    parser.add_argument("--large", action="store_true", help="a million items as well")
    parser.add_argument("--items", type=int, nargs="+", default=NUM_ITEMS)
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", nargs="+", type=float, default=list(STEPS))
    parser.add_argument("--device", default="cuda", help="of the part card")
    parser.add_argument("--card-items", type=int, default=scale_card.NUM_ITEM)
    parser.add_argument("--card-memory", type=int, help="bytes that its tables may have; or half")
    parser.add_argument("--kills", type=int, default=NUM_KILL)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--work", type=Path, help="folder of the tables that are mapped")
    options = parser.parse_args(args)
    options.num_part_of_workers = NUM_PART_OF_WORKERS
    path = options.out / "scale.md"
    sections = options.sections = read_sections(path)
    for name in options.parts:
        title, measure = PARTS[name]
        sections[title] = measure(options)
        lines = (
            ["## " + title, "", *sections[title]]
            for title, _ in PARTS.values()
            if title in sections
        )
        write_whole(path, page("Catalogs in parts", "`python -m benchmarks.scale`", *lines))


if __name__ == "__main__":
    main()

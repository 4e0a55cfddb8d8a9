"""itembed_gpu against itembed 0.5.1 on this machine's cores, in one run.

    python -m benchmarks.cpu                              # speed: about 5 minutes
    python -m benchmarks.cpu --quality --online-retail F  # parity of what is learned: about 20
    python -m benchmarks.cpu --sharing --online-retail F  # shared negatives: about 10
    python -m benchmarks.cpu --against CHECKOUT           # speed over another checkout's: about 8

Both libraries take turns and medians are compared, because machines are noisy;
what counts is the ratio. Writes ``cpu.md`` and ``cpu.png`` (``cpu_quality.md``,
``cpu_sharing.md``, ``cpu_against.md``) beside this file. F is a file of one basket a
line, items as numbers; the data set that the package ships is used without it.

itembed trains whole batches of itemsets and leaves out the tail of each shuffle,
so speeds are compared in pairs a second, and quality at an equal number of pairs:
both are given the same number of itemsets, a multiple of the batch size.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import itembed
import numpy as np
from numba import njit

import itembed_gpu
from benchmarks import cpu_against, cpu_quality
from benchmarks.common.catalogs import uniform_tables, zipf_items
from benchmarks.common.machine import machine
from benchmarks.common.plots import BLUE, ORANGE, picture
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from benchmarks.common.timing import (
    alternate,
    clock_itembed,
    medians,
    run_python,
    seconds_of,
    time_process,
)

# label: (labels, dimension), and the ratios to reach on one and on two threads.
SIZES = {
    "1k items, D=64": (1_000, 64, 2.1, 3.3),
    "100k items, D=128": (100_000, 128, 2.8, 5.5),
    "1M items, D=128": (1_000_000, 128, 2.6, 4.9),
}
NUM_ITEM = 1_000_000
# Added to the rank, as Mandelbrot did.
ZIPF_OFFSET = 9
ITEMSET_LENGTH = 10
NUM_NEGATIVE = 5

Row = tuple[str, ...]


def judge(what: str, ours: str, theirs: str, ratio: float, target: Target) -> Row:
    """Make a row of the table, and print it."""
    return say(what, ours, theirs, f"{ratio:.2f}", f"{target} {tick(target.is_met(ratio))}")


# --- training speed ---------------------------------------------------------


def draw_itemsets(num_label: int, num_item: int = NUM_ITEM) -> tuple[np.ndarray, np.ndarray]:
    """Items of Zipf popularity in itemsets of one length, and their offsets."""
    offsets = np.arange(0, num_item + 1, ITEMSET_LENGTH, dtype=np.int32)
    return zipf_items(num_label, num_item, ZIPF_OFFSET), offsets


def clock_ours(num_label: int, dim: int, num_threads: int, sharing: int = 1) -> Callable[[], float]:
    """Make a task, and return what trains an epoch of it, and returns how long it took."""
    task = itembed_gpu.UnsupervisedTask(
        *draw_itemsets(num_label),
        *uniform_tables(num_label, dim),
        num_negative=NUM_NEGATIVE,
        negative_sharing=sharing,
        num_threads=num_threads,
    )
    options = {"num_epoch": 1, "final_learning_rate": 0.025, "progress": False}
    return lambda: itembed_gpu.train(task, **options).seconds


def training_rows(repeat: int, bars: dict[str, list[float]]) -> tuple[list[Row], dict[str, float]]:
    """Speed of each size on one and on two threads; and nanoseconds a pair of one thread."""
    rows, single = [], {}
    for name, (num_label, dim, *targets) in SIZES.items():
        tables = uniform_tables(num_label, dim)
        found = medians(
            {
                "itembed": clock_itembed(*draw_itemsets(num_label), *tables, NUM_NEGATIVE),
                "1 thread": clock_ours(num_label, dim, 1),
                "2 threads": clock_ours(num_label, dim, 2),
            },
            repeat,
        )
        theirs = found.pop("itembed")
        single[name] = found["1 thread"] / NUM_ITEM * 1e9
        bars[name] = [theirs / ours for ours in found.values()]
        rows += [
            judge(
                f"training, {name}, {threads}",
                f"{NUM_ITEM / ours / 1e6:.2f} Mpair/s",
                f"{NUM_ITEM / theirs / 1e6:.2f} Mpair/s",
                theirs / ours,
                Target(">=", target),
            )
            for (threads, ours), target in zip(found.items(), targets, strict=True)
        ]
    return rows, single


def time_generator(repeat: int) -> float:
    """Nanoseconds a pair of the epoch's order and the draws of a slot, with nothing else."""
    from itembed_gpu.objective.constants import BLOCK
    from itembed_gpu.objective.rng import fill_draws, u64
    from itembed_gpu.objective.schedule import epoch_order, fill_slots

    @njit
    def draw_all(order, num_slot, seed):
        slots = np.empty(BLOCK, dtype=np.uint64)
        pending = np.empty(BLOCK, dtype=np.int32)
        draws = np.empty((8, BLOCK), dtype=np.uint32)
        total = 0
        for position in range(0, num_slot, BLOCK):
            fill_slots(order, position, BLOCK, slots, pending)
            fill_draws(seed, u64(0), u64(0), slots, BLOCK, draws)
            for row in range(NUM_NEGATIVE + 1):  # so that nothing is optimised away
                total += draws[row, position % BLOCK]
        return total

    # In the worst case, just over a power of two, half the positions are walked again.
    num_slot = (1 << 20) + BLOCK
    order = epoch_order(1, 0, 0, num_slot)
    seconds = medians({"": lambda: seconds_of(draw_all, order, num_slot, u64(1))}, repeat)[""]
    return seconds / num_slot * 1e9


def generator_rows(single: dict[str, float], repeat: int) -> list[Row]:
    drawing = time_generator(repeat)
    return [
        judge(
            f"generator and order, share of one thread, {name}",
            f"{drawing:.1f} ns a pair",
            f"{nanoseconds:.0f} ns a pair",
            drawing / nanoseconds,
            Target("<=", 0.10),
        )
        for name, nanoseconds in single.items()
    ]


# --- everything else --------------------------------------------------------


def pack_once(library: str, **limits: int) -> float:
    """Seconds to pack lists of strings."""
    labels = [f"item-{i}" for i in range(100_000)]
    items = zipf_items(100_000, 2_000_000, ZIPF_OFFSET)
    itemsets = [
        [labels[i] for i in items[start : start + ITEMSET_LENGTH]]
        for start in range(0, len(items), ITEMSET_LENGTH)
    ]
    return seconds_of(
        {"itembed": itembed, "ours": itembed_gpu}[library].pack_itemsets, itemsets, **limits
    )


def packing_rows(repeat: int, bars: dict[str, list[float]]) -> list[Row]:
    """Speed of packing, each time in a process of its own.

    Within one process, what an earlier run left of the heap counts for a factor of two.
    """
    code = "from benchmarks import cpu; print(cpu.pack_once(%r, **%r))"
    rows = []
    for what, limits in (
        ("packing lists of strings", {}),
        ("the same, min_count=2, min_length=2", {"min_count": 2, "min_length": 2}),
    ):
        seconds = medians(
            {
                library: lambda code=code % (library, limits): float(run_python(["-c", code]))
                for library in ("itembed", "ours")
            },
            min(repeat, 5),
        )
        ratio = seconds["itembed"] / seconds["ours"]
        bars.setdefault("packing", [ratio])
        ours, theirs = (f"{2 / seconds[library]:.1f} Mitem/s" for library in ("ours", "itembed"))
        rows.append(judge(what, ours, theirs, ratio, Target(">=", 2.0)))
    return rows


def import_row(repeat: int) -> Row:
    """Seconds to import the package; its names are loaded at their first use."""
    statements = {
        "numba": "import numba",
        "itembed_gpu": "import itembed_gpu",
        "every name": "from itembed_gpu import *",
        "itembed": "import itembed",
    }
    say_so = "; print(time.perf_counter() - began)"
    seconds = medians(
        {name: lambda code=code: time_process(code + say_so) for name, code in statements.items()},
        repeat,
    )
    return judge(
        f"import, against numba's (every name of ours: {seconds['every name']:.3f} s, "
        f"itembed: {seconds['itembed']:.2f} s)",
        f"{seconds['itembed_gpu']:.3f} s",
        f"{seconds['numba']:.3f} s",
        seconds["itembed_gpu"] / seconds["numba"],
        Target("<=", 1.2),
    )


def first_train_row(repeat: int) -> Row:
    """Seconds from the call of `train` to its end, in a process that has not trained yet."""
    code = textwrap.dedent("""
        import itembed_gpu
        syn0 = itembed_gpu.initialize_syn(1000, 64); syn1 = itembed_gpu.initialize_syn(1000, 64)
        task = itembed_gpu.UnsupervisedTask([0, 1, 2, 3], [0, 2, 4], syn0, syn1)
        began = time.perf_counter()
        itembed_gpu.train(task, num_epoch=1, progress=False)
        print(time.perf_counter() - began)
    """)
    with tempfile.TemporaryDirectory() as folder:
        empty = time_process(code, NUMBA_CACHE_DIR=folder)
        cached = statistics.median(
            time_process(code, NUMBA_CACHE_DIR=folder) for _ in range(min(repeat, 5))
        )
    return judge(
        "first `train` of a second process, seconds",
        f"{cached:.2f} s",
        f"{empty:.2f} s when nothing is cached",
        cached,
        Target("<=", 1.5),
    )


def time_progress(repeat: int) -> float:
    """Share of the time that the loop and its bar take: the median over pairs of runs."""
    task = itembed_gpu.UnsupervisedTask(
        *draw_itemsets(1_000), *uniform_tables(1_000, 64), num_threads=1
    )
    rates = np.full(len(task), 0.02)

    def with_bar() -> None:
        with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
            itembed_gpu.train(task, num_epoch=2)

    def bare() -> None:
        for _ in range(2):
            task.do_batches(rates)

    clocks = {"bar": lambda: seconds_of(with_bar), "bare": lambda: seconds_of(bare)}
    result = alternate(clocks, 3 * repeat)
    return statistics.median(np.array(result["bar"]) / np.array(result["bare"])) - 1


def time_loss(repeat: int) -> float:
    """Nanoseconds a pair of the running loss, which is computed for a sample."""
    from itembed_gpu.backends.cpu.losses import log_loss
    from itembed_gpu.objective.constants import LOSS_STRIDE

    @njit
    def add_up(logits):
        total = 0.0
        for logit in logits:
            total += log_loss(logit)
        return total

    logits = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    seconds = medians({"": lambda: seconds_of(add_up, logits)}, repeat)[""]
    return seconds / len(logits) * 1e9 * (NUM_NEGATIVE + 1) / LOSS_STRIDE


def overhead_row(fastest: float, repeat: int) -> Row:
    overhead, loss = time_progress(repeat), time_loss(repeat)
    return judge(
        "loop, progress bar and running loss, share of the time (1k items, D=64)",
        f"bar {100 * overhead:.1f} %, loss {loss:.1f} ns a pair",
        f"{fastest:.0f} ns a pair",
        overhead + loss / fastest,
        Target("<=", 0.03),
    )


def measure_speed(out: Path, repeat: int) -> None:
    bars: dict[str, list[float]] = {}
    head = say("what", "itembed_gpu", "compared with", "ratio", "target")
    rows, single = training_rows(repeat, bars)
    rows += generator_rows(single, repeat)
    rows += packing_rows(repeat, bars)
    rows += [import_row(repeat), first_train_row(repeat)]
    rows += [overhead_row(min(single.values()), repeat)]
    note = (
        f"`python -m benchmarks.cpu`: medians of {repeat} alternating runs. Training is "
        f"{NUM_ITEM:,} items of Zipf popularity in itemsets of {ITEMSET_LENGTH}, "
        f"{NUM_NEGATIVE} negatives, float32. {machine('itembed')}."
    )
    title = "itembed_gpu against itembed on the CPU"
    write_whole(out / "cpu.md", page(title, note, table(head, rows)))
    plot(out / "cpu.png", bars)


def plot(path: Path, bars: dict[str, list[float]]) -> None:
    colors = (BLUE, ORANGE)
    with picture(path, 8, 4.2) as figure:
        axes = figure.subplots()
        for i, ratios in enumerate(bars.values()):
            for j, ratio in enumerate(ratios):
                x = i + (j - (len(ratios) - 1) / 2) * 0.38
                axes.bar_label(axes.bar(x, ratio, 0.36, color=colors[j]), fmt="%.1fx")
        line = axes.axhline(1, color="black", linewidth=1)
        axes.set_xticks(range(len(bars)), list(bars))
        axes.set_ylabel("speed over itembed's")
        axes.set_title("itembed_gpu on the CPU, same run (k = 5, Zipf popularity)")
        handles = [axes.plot([], [], color=color, linewidth=6)[0] for color in colors]
        names = ["one thread", "two threads", "itembed 0.5.1"]
        axes.legend([*handles, line], names, loc="upper left")
        axes.margins(y=0.3)


# --- shared negatives -------------------------------------------------------


def time_sharing(num_label: int, dim: int, sharing: int, repeat: int) -> float:
    """Speed of one thread with shared negatives, over that without."""
    clocks = {name: clock_ours(num_label, dim, 1, n) for name, n in (("shared", sharing), ("", 1))}
    found = medians(clocks, repeat)
    return found[""] / found["shared"]


def measure_sharing(
    out: Path, retail: cpu_quality.OnlineRetail, num_seed: int, repeat: int
) -> None:
    """What groups of pairs that share their negatives gain, and what they cost."""
    apart = [retail.hit_rate(itembed_gpu, seed) for seed in range(num_seed)]
    head = say("negative_sharing", "speed", "hit rate", "hit rate without", "difference")
    rows = []
    for sharing in (8, 16, 32):
        speeds = [time_sharing(*size[:2], sharing, repeat) for size in SIZES.values()]
        shared = [retail.hit_rate(itembed_gpu, seed, sharing) for seed in range(num_seed)]
        speed = ", ".join(f"{ratio:.2f}x" for ratio in speeds)
        rows.append(say(sharing, speed, *cpu_quality.compare_rates(shared, apart)[:3]))
    note = (
        f"`python -m benchmarks.cpu --sharing`: speed of one thread over `negative_sharing=1` "
        f"({'; '.join(SIZES)}; medians of {repeat} alternating runs), and hit rate at 10 on Online "
        f"Retail ({len(retail):,} queries, {num_seed} seeds, the same epochs, all cores). "
        f"{machine('itembed')}."
    )
    title = "Pairs that share their negatives, on the CPU"
    write_whole(out / "cpu_sharing.md", page(title, note, table(head, rows)))


# --- the command ------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("cpu", __doc__)
    parser.add_argument("--quality", action="store_true", help="measure what is learned, not speed")
    parser.add_argument("--sharing", action="store_true", help="measure shared negatives")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="time another checkout")
    parser.add_argument("--online-retail", type=Path, help="file of one basket a line (.xz too)")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each on Online Retail")
    parser.add_argument("--repeat", type=int, default=7, help="alternating runs")
    options = parser.parse_args(arguments)
    if options.against:
        sizes = {name: size[:2] for name, size in SIZES.items()}
        cpu_against.measure(options.against, options.out, sizes, draw_itemsets, options.repeat)
    elif options.sharing or options.quality:
        retail = cpu_quality.OnlineRetail(options.online_retail)
        if options.sharing:
            measure_sharing(options.out, retail, options.seeds, options.repeat)
        else:
            cpu_quality.measure(options.out, retail, options.seeds)
    else:
        measure_speed(options.out, options.repeat)


if __name__ == "__main__":
    main()

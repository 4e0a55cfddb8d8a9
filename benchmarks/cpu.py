"""itembed_gpu against itembed 0.5.1 on this machine's cores, in one run.

    python benchmarks/cpu.py                              # speed: about 5 minutes
    python benchmarks/cpu.py --quality --online-retail F  # parity of what is learned: about 20
    python benchmarks/cpu.py --sharing --online-retail F  # shared negatives: about 10

Both libraries take turns and medians are compared, because machines are noisy;
what counts is the ratio. Writes ``cpu.md`` and ``cpu.png`` (``cpu_quality.md``,
``cpu_sharing.md``) beside this file. F is a file of one basket a line, items as
numbers; the data set that the package ships is used without it.

itembed trains whole batches of itemsets and leaves out the tail of each shuffle,
so speeds are compared in pairs a second, and quality at an equal number of pairs:
both are given the same number of itemsets, a multiple of the batch size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import itembed
import numpy as np
from machine import machine  # it lies beside this file
from numba import njit

import itembed_gpu

HERE = Path(__file__).parent

# label: (labels, dimension), and the ratios to reach on one and on two threads.
SIZES = {
    "1k items, D=64": (1_000, 64, 2.1, 3.3),
    "100k items, D=128": (100_000, 128, 2.8, 5.5),
    "1M items, D=128": (1_000_000, 128, 2.6, 4.9),
}
NUM_ITEM = 1_000_000
ITEMSET_LENGTH = 10
NUM_NEGATIVE = 5


def zipf_items(num_label: int, num_item: int, seed: int = 0) -> np.ndarray:
    """Items of Zipf popularity, scrambled."""
    generator = np.random.default_rng(seed)
    weights = 1 / (np.arange(num_label) + 10)
    items = generator.choice(num_label, size=num_item, p=weights / weights.sum())
    return generator.permutation(num_label).astype(np.int32)[items]


def alternate(functions: dict[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Call each function in turn, several times; each returns what it measured."""
    results: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeat + 1):
        for name, function in functions.items():
            value = function()
            if turn:  # the first one warms up
                results[name].append(value)
    return results


# --- training speed ---------------------------------------------------------


def fresh_tables(num_label: int, dim: int) -> list[np.ndarray]:
    return [itembed_gpu.initialize_syn(num_label, dim, seed=seed) for seed in (1, 2)]


def time_training(num_label: int, dim: int, repeat: int) -> dict[str, list[float]]:
    """Nanoseconds a pair of itembed, and of one and two threads of itembed_gpu."""
    items = zipf_items(num_label, NUM_ITEM)
    offsets = np.arange(0, NUM_ITEM + 1, ITEMSET_LENGTH, dtype=np.int32)
    weights = np.ones(NUM_ITEM, dtype=np.float32)
    theirs = fresh_tables(num_label, dim)
    buffer = np.empty(dim, dtype=np.float32)
    generator = np.random.default_rng(0)

    def reference() -> float:
        indices = generator.permutation(len(offsets) - 1).astype(np.int32)
        began = time.perf_counter()
        itembed.do_unsupervised_batch(
            items, weights, offsets, indices, *theirs, buffer, NUM_NEGATIVE, 0.025
        )
        return (time.perf_counter() - began) / NUM_ITEM * 1e9

    def ours(num_threads: int) -> Callable[[], float]:
        task = itembed_gpu.UnsupervisedTask(
            items,
            offsets,
            *fresh_tables(num_label, dim),
            num_negative=NUM_NEGATIVE,
            num_threads=num_threads,
        )
        return lambda: (
            itembed_gpu.train(task, num_epoch=1, final_learning_rate=0.025, progress=False).seconds
            / NUM_ITEM
            * 1e9
        )

    return alternate({"itembed": reference, "1 thread": ours(1), "2 threads": ours(2)}, repeat)


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

    def once() -> float:
        order = epoch_order(1, 0, 0, num_slot)
        began = time.perf_counter()
        draw_all(order, num_slot, u64(1))
        return (time.perf_counter() - began) / num_slot * 1e9

    return statistics.median(alternate({"": once}, repeat)[""])


# --- everything else --------------------------------------------------------


def pack_once(library: str, limits: dict[str, int]) -> float:
    """Seconds to pack lists of strings."""
    labels = [f"item-{i}" for i in range(100_000)]
    items = zipf_items(100_000, 2_000_000)
    itemsets = [
        [labels[i] for i in items[start : start + ITEMSET_LENGTH]]
        for start in range(0, len(items), ITEMSET_LENGTH)
    ]
    pack = {"itembed": itembed, "ours": itembed_gpu}[library].pack_itemsets
    began = time.perf_counter()
    pack(itemsets, **limits)
    return time.perf_counter() - began


def time_packing(repeat: int, **limits: int) -> dict[str, list[float]]:
    """Seconds to pack once, each time in a process of its own.

    Within one process, what an earlier run left of the heap counts for a factor
    of two.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import cpu; print(cpu.pack_once(%r, %r))"
    )
    return alternate(
        {
            library: lambda library=library: time_process(code % (library, limits))
            for library in ("itembed", "ours")
        },
        repeat,
    )


def time_process(code: str, **environment: str) -> float:
    """Seconds that code says it took in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "import time; began = time.perf_counter()\n" + code],
        capture_output=True,
        text=True,
        check=True,
        # Bytecode is kept, as in any installed package.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
    )
    return float(done.stdout.split()[-1])


def time_imports(repeat: int) -> dict[str, list[float]]:
    """Seconds to import a package; names of ours are loaded at their first use."""
    statements = {
        "numba": "import numba",
        "itembed_gpu": "import itembed_gpu",
        "every name": "from itembed_gpu import *",
        "itembed": "import itembed",
    }
    say = "; print(time.perf_counter() - began)"
    return alternate(
        {name: lambda code=code: time_process(code + say) for name, code in statements.items()},
        repeat,
    )


def time_first_train(repeat: int) -> dict[str, list[float]]:
    """Seconds from the call of `train` to its first pair; and of itembed, import included."""
    ours = textwrap.dedent("""
        import itembed_gpu
        syn0 = itembed_gpu.initialize_syn(1000, 64); syn1 = itembed_gpu.initialize_syn(1000, 64)
        task = itembed_gpu.UnsupervisedTask([0, 1, 2, 3], [0, 2, 4], syn0, syn1)
        began = time.perf_counter()
        itembed_gpu.train(task, num_epoch=1, progress=False)
        print(time.perf_counter() - began)
    """)
    with tempfile.TemporaryDirectory() as folder:
        empty = time_process(ours, NUMBA_CACHE_DIR=folder)
        cached = [time_process(ours, NUMBA_CACHE_DIR=folder) for _ in range(repeat)]
    return {"nothing cached": [empty], "cached on disk": cached}


def time_progress(repeat: int) -> float:
    """Share of the time that the loop and its bar take: the median over pairs of runs."""
    items = zipf_items(1_000, NUM_ITEM)
    offsets = np.arange(0, NUM_ITEM + 1, ITEMSET_LENGTH, dtype=np.int32)
    task = itembed_gpu.UnsupervisedTask(items, offsets, *fresh_tables(1_000, 64), num_threads=1)
    rates = np.full(len(task), 0.02)

    def with_bar() -> float:
        began = time.perf_counter()
        with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
            itembed_gpu.train(task, num_epoch=2)
        return time.perf_counter() - began

    def bare() -> float:
        began = time.perf_counter()
        for _ in range(2):
            task.do_batches(rates)
        return time.perf_counter() - began

    result = alternate({"bar": with_bar, "bare": bare}, 3 * repeat)
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

    def once() -> float:
        began = time.perf_counter()
        add_up(logits)
        return (time.perf_counter() - began) / len(logits) * 1e9

    return statistics.median(alternate({"": once}, repeat)[""]) * (NUM_NEGATIVE + 1) / LOSS_STRIDE


def measure_speed(repeat: int) -> None:
    rows: list[tuple[str, str, str, str, str]] = []
    bars: dict[str, list[float]] = {}

    def row(what: str, ours: str, theirs: str, ratio: float, target: float, more: bool) -> None:
        met = ratio >= target if more else ratio <= target
        sign = ">=" if more else "<="
        rows.append((what, ours, theirs, f"{ratio:.2f}", f"{sign} {target} {'✓' if met else '✗'}"))
        print(*rows[-1], sep=" | ", flush=True)

    print("what | ours | compared with | ratio | target")
    single = {}
    for name, (num_label, dim, one, two) in SIZES.items():
        medians = {
            k: statistics.median(v) for k, v in time_training(num_label, dim, repeat).items()
        }
        single[name] = medians["1 thread"]
        bars[name] = [medians["itembed"] / medians[k] for k in ("1 thread", "2 threads")]
        for threads, target in (("1 thread", one), ("2 threads", two)):
            row(
                f"training, {name}, {threads}",
                f"{1e3 / medians[threads]:.2f} Mpair/s",
                f"{1e3 / medians['itembed']:.2f} Mpair/s",
                medians["itembed"] / medians[threads],
                target,
                True,
            )
    drawing = time_generator(repeat)
    for name, nanoseconds in single.items():
        row(
            f"generator and order, share of one thread, {name}",
            f"{drawing:.1f} ns a pair",
            f"{nanoseconds:.0f} ns a pair",
            drawing / nanoseconds,
            0.10,
            False,
        )
    for what, limits in (
        ("packing lists of strings", {}),
        ("the same, min_count=2, min_length=2", {"min_count": 2, "min_length": 2}),
    ):
        packing = {
            k: statistics.median(v) for k, v in time_packing(min(repeat, 5), **limits).items()
        }
        bars.setdefault("packing", [packing["itembed"] / packing["ours"]])
        row(
            what,
            f"{2 / packing['ours']:.1f} Mitem/s",
            f"{2 / packing['itembed']:.1f} Mitem/s",
            packing["itembed"] / packing["ours"],
            2.0,
            True,
        )
    imports = {k: statistics.median(v) for k, v in time_imports(repeat).items()}
    row(
        f"import, against numba's (every name of ours: {imports['every name']:.3f} s, "
        f"itembed: {imports['itembed']:.2f} s)",
        f"{imports['itembed_gpu']:.3f} s",
        f"{imports['numba']:.3f} s",
        imports["itembed_gpu"] / imports["numba"],
        1.2,
        False,
    )
    first = {k: statistics.median(v) for k, v in time_first_train(min(repeat, 5)).items()}
    row(
        "first `train` of a second process, seconds",
        f"{first['cached on disk']:.2f} s",
        f"{first['nothing cached']:.2f} s when nothing is cached",
        first["cached on disk"],
        1.5,
        False,
    )
    overhead, loss = time_progress(repeat), time_loss(repeat)
    fastest = min(single.values())
    row(
        "loop, progress bar and running loss, share of the time (1k items, D=64)",
        f"bar {100 * overhead:.1f} %, loss {loss:.1f} ns a pair",
        f"{fastest:.0f} ns a pair",
        overhead + loss / fastest,
        0.03,
        False,
    )

    write_table(
        HERE / "cpu.md",
        "itembed_gpu against itembed on the CPU",
        f"`python benchmarks/cpu.py`: medians of {repeat} alternating runs. Training is "
        f"{NUM_ITEM:,} items of Zipf popularity in itemsets of {ITEMSET_LENGTH}, "
        f"{NUM_NEGATIVE} negatives, float32. {machine('itembed')}.",
        ("what", "itembed_gpu", "compared with", "ratio", "target"),
        rows,
    )
    plot(bars)


def write_table(path: Path, title: str, note: str, head: tuple, rows: list[tuple]) -> None:
    lines = [f"# {title}", "", note, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(bars: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    for i, ratios in enumerate(bars.values()):
        for j, ratio in enumerate(ratios):
            x = i + (j - (len(ratios) - 1) / 2) * 0.38
            bar = axes.bar(x, ratio, 0.36, color=("#4c78a8", "#f58518")[j])
            axes.bar_label(bar, fmt="%.1fx")
    line = axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks(range(len(bars)), list(bars))
    axes.set_ylabel("speed over itembed's")
    axes.set_title("itembed_gpu on the CPU, same run (k = 5, Zipf popularity)")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=c) for c in ("#4c78a8", "#f58518")]
    axes.legend([*handles, line], ["one thread", "two threads", "itembed 0.5.1"], loc="upper left")
    axes.margins(y=0.3)
    figure.savefig(HERE / "cpu.png", dpi=120)


# --- quality ----------------------------------------------------------------


def planted(num_label: int, num_itemset: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Itemsets of five, each from within one of num_label / 10 clusters, with 20 % noise."""
    generator = np.random.default_rng(seed)
    members = np.random.default_rng(99).permutation(num_label).reshape(-1, 10)
    chosen = generator.integers(0, len(members), num_itemset)
    items = members[chosen[:, None], generator.integers(0, 10, (num_itemset, 5))]
    noise = generator.random(items.shape) < 0.2
    items[noise] = generator.integers(0, num_label, noise.sum())
    return items.astype(np.int32).ravel(), np.arange(0, items.size + 1, 5, dtype=np.int32)


def held_out_loss(syn0: np.ndarray, syn1: np.ndarray, items: np.ndarray) -> float:
    """Mean loss of fixed pairs and negatives from itemsets of five that were not trained on."""
    generator = np.random.default_rng(7)
    left, right = items.reshape(-1, 5)[:, :2].T
    negatives = generator.integers(0, len(syn1), (len(left), NUM_NEGATIVE))
    positive = np.einsum("nd,nd->n", syn0[left], syn1[right])
    negative = np.einsum("nd,nkd->nk", syn0[left], syn1[negatives])
    return float(np.mean(np.logaddexp(0, -positive) + np.logaddexp(0, negative).sum(axis=1)))


@njit
def seed_numba(seed):
    random.seed(seed)


def train_with(
    library,
    items: np.ndarray,
    offsets: np.ndarray,
    num_label: int,
    dim: int,
    seed: int,
    sharing: int = 1,
    **options,
) -> list[np.ndarray]:
    """Tables trained by either library, from the same start."""
    tables = [
        itembed_gpu.initialize_syn(num_label, dim, seed=1000 + seed),
        itembed_gpu.initialize_syn(num_label, dim, seed=2000 + seed),
    ]
    if library is itembed:
        np.random.seed(seed)  # the order of the itemsets
        seed_numba(seed)  # the neighbours and the negatives
        task = itembed.UnsupervisedTask(items, offsets, *tables, num_negative=NUM_NEGATIVE)
        # One batch an epoch too many is run where the batch size divides the itemsets.
        task.__class__ = type(
            "ExactTask",
            (itembed.UnsupervisedTask,),
            {"__len__": lambda _: (len(offsets) - 1) // 64},
        )
        with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
            itembed.train(task, **options)
    else:
        task = itembed_gpu.UnsupervisedTask(
            items, offsets, *tables, num_negative=NUM_NEGATIVE, negative_sharing=sharing, seed=seed
        )
        itembed_gpu.train(task, progress=False, **options)
    return tables


def measure_quality(online_retail: Path | None, num_seed: int) -> None:
    rows = []
    for num_label, num_itemset in ((200, 6_400), (2_000, 64_000), (20_000, 640_000)):
        items, offsets = planted(num_label, num_itemset, 0)
        test, _ = planted(num_label, 20_000, 1)
        options = {"num_epoch": 10, "initial_learning_rate": 0.05}
        losses = {
            name: [
                held_out_loss(
                    *train_with(library, items, offsets, num_label, 64, seed, **options), test
                )
                for seed in range(3)
            ]
            for name, library in (("ours", itembed_gpu), ("itembed", itembed))
        }
        ours, theirs = (float(np.mean(losses[name])) for name in ("ours", "itembed"))
        change = ours / theirs - 1
        met = "✓" if change <= 0.01 else "✗"
        rows.append(
            (
                f"held-out loss, planted clusters, {num_label:,} items",
                f"{ours:.4f}",
                f"{theirs:.4f}",
                f"{100 * change:+.2f} %",
                f"within 1 % {met}",
            )
        )
        print(*rows[-1], sep=" | ", flush=True)
    rows.append(online_retail_row(online_retail, num_seed))
    print(*rows[-1], sep=" | ", flush=True)
    write_table(
        HERE / "cpu_quality.md",
        "What itembed_gpu learns, against itembed",
        f"`python benchmarks/cpu.py --quality`: the same pairs a run, settings and start; "
        f"itembed_gpu on all cores. Means of 3 seeds (clusters) and {num_seed} seeds (retail). "
        f"{machine('itembed')}.",
        ("what", "itembed_gpu", "itembed", "difference", "target"),
        rows,
    )


def read_baskets(path: Path | None) -> list[list]:
    if path is None:
        from itembed_gpu.data.example import load_example

        return [list(basket) for basket in load_example()]
    import lzma

    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [line.split() for line in file]


class OnlineRetail:
    """Baskets to train on, and later ones, of each of which one item is hidden."""

    options = {"num_epoch": 100, "initial_learning_rate": 0.025}  # noqa: RUF012

    def __init__(self, path: Path | None) -> None:
        baskets = [basket for basket in read_baskets(path) if len(basket) >= 2]
        split = int(0.8 * len(baskets)) // 64 * 64
        packed = itembed_gpu.pack_itemsets(baskets[:split], min_length=2)
        self.labels, self.items, self.offsets = packed
        number = {label: i for i, label in enumerate(self.labels)}
        generator = np.random.default_rng(0)
        self.queries = []
        for basket in baskets[split:]:
            known = sorted({number[item] for item in basket if item in number})
            if len(known) >= 2:
                hidden = known.pop(generator.integers(len(known)))
                self.queries.append((known, hidden))

    def hit_rate(self, library, seed: int, sharing: int = 1) -> float:
        """Train, and rank all items for each query: how often the hidden one is among ten."""
        syn0, syn1 = train_with(
            library,
            self.items,
            self.offsets,
            len(self.labels),
            64,
            seed,
            sharing=sharing,
            **self.options,
        )
        hits = 0
        for known, hidden in self.queries:
            scores = syn0[known].mean(axis=0) @ syn1.T
            scores[known] = -np.inf
            hits += int((scores > scores[hidden]).sum() < 10)
        return hits / len(self.queries)


def compare_rates(ours: list[float], theirs: list[float]) -> tuple[str, str, str, str]:
    """Both means, their difference, and whether it is more than allowed."""
    a, b = float(np.mean(ours)), float(np.mean(theirs))
    error = np.sqrt(sum(np.var(v, ddof=1) / len(v) for v in (ours, theirs)))
    allowed = max(0.01 * b, 2 * error)
    met = "✓" if a >= b - allowed else "✗"
    return (
        f"{a:.4f}",
        f"{b:.4f}",
        f"{100 * (a / b - 1):+.2f} %",
        f"within {100 * allowed / b:.2f} % (the larger of 1 % and two standard errors) {met}",
    )


def online_retail_row(path: Path | None, num_seed: int) -> tuple[str, ...]:
    """Hit rate at 10: hide one item of each later basket, and rank all others."""
    retail = OnlineRetail(path)
    rates: dict[str, list[float]] = {"ours": [], "itembed": []}
    for seed in range(num_seed):
        for name, library in (("ours", itembed_gpu), ("itembed", itembed)):
            rates[name].append(retail.hit_rate(library, seed))
        print(json.dumps({k: round(v[-1], 4) for k, v in rates.items()}), flush=True)
    what = f"hit rate at 10, Online Retail ({len(retail.queries):,} queries)"
    return (what, *compare_rates(rates["ours"], rates["itembed"]))


# --- shared negatives -------------------------------------------------------


def time_sharing(num_label: int, dim: int, sharing: int, repeat: int) -> float:
    """Speed of one thread with shared negatives, over that without."""
    items = zipf_items(num_label, NUM_ITEM)
    offsets = np.arange(0, NUM_ITEM + 1, ITEMSET_LENGTH, dtype=np.int32)

    def timed(sharing: int) -> Callable[[], float]:
        task = itembed_gpu.UnsupervisedTask(
            items,
            offsets,
            *fresh_tables(num_label, dim),
            num_negative=NUM_NEGATIVE,
            negative_sharing=sharing,
            num_threads=1,
        )
        return lambda: itembed_gpu.train(task, num_epoch=1, progress=False).seconds

    seconds = alternate({"shared": timed(sharing), "apart": timed(1)}, repeat)
    return statistics.median(seconds["apart"]) / statistics.median(seconds["shared"])


def measure_sharing(online_retail: Path | None, num_seed: int, repeat: int) -> None:
    """What groups of pairs that share their negatives gain, and what they cost."""
    retail = OnlineRetail(online_retail)
    apart = [retail.hit_rate(itembed_gpu, seed) for seed in range(num_seed)]
    rows = []
    for sharing in (8, 16, 32):
        speeds = [time_sharing(*size[:2], sharing, repeat) for size in SIZES.values()]
        shared = [retail.hit_rate(itembed_gpu, seed, sharing) for seed in range(num_seed)]
        speed = ", ".join(f"{ratio:.2f}x" for ratio in speeds)
        rows.append((str(sharing), speed, *compare_rates(shared, apart)[:3]))
        print(*rows[-1], sep=" | ", flush=True)
    write_table(
        HERE / "cpu_sharing.md",
        "Pairs that share their negatives, on the CPU",
        f"`python benchmarks/cpu.py --sharing`: speed of one thread over `negative_sharing=1` "
        f"({'; '.join(SIZES)}; medians of {repeat} alternating runs), and hit rate at 10 on Online "
        f"Retail ({len(retail.queries):,} queries, {num_seed} seeds, the same epochs, all cores). "
        f"{machine('itembed')}.",
        ("negative_sharing", "speed", "hit rate", "hit rate without", "difference"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quality", action="store_true", help="measure what is learned, not speed")
    parser.add_argument("--sharing", action="store_true", help="measure shared negatives")
    parser.add_argument("--online-retail", type=Path, help="file of one basket a line (.xz too)")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each on Online Retail")
    parser.add_argument("--repeat", type=int, default=7, help="alternating runs")
    arguments = parser.parse_args()
    if arguments.sharing:
        measure_sharing(arguments.online_retail, arguments.seeds, arguments.repeat)
    elif arguments.quality:
        measure_quality(arguments.online_retail, arguments.seeds)
    else:
        measure_speed(arguments.repeat)


if __name__ == "__main__":
    main()

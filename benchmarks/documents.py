"""Vectors of itemsets trained with those of their items (PV-DM), against gensim's `Doc2Vec`.

    python -m benchmarks.documents DATA               # about half an hour: writes documents.md
    python -m benchmarks.documents DATA --quick       # does it run? writes nothing
    python -m benchmarks.documents DATA --validation  # settings are chosen on this

Speed: words a second on made text, with as many threads, windows, negatives and dimensions; both
take turns. As other work may run on the machine, what counts is the time of the processor, and
that on the wall stands beside it.

Quality: the hidden item of later baskets of Online Retail, in the folder DATA. The vector of what
is left of a basket is inferred by both, and items are ranked by the product of their output rows
with the mean of that vector and those of the items, which is what was trained; the vector alone
stands beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import itembed_gpu
from benchmarks import HERE
from benchmarks.common.catalogs import zipf_items
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from benchmarks.datasets import Packed, Ranking, online_retail, validation
from benchmarks.peers import Factors
from benchmarks.quality import evaluate

# Made text.
NUM_WORD, NUM_LABEL, LENGTH = 1_000_000, 50_000, 100
DIM, NUM_NEGATIVE, WINDOW, NUM_THREAD = 100, 5, 5, 2
SPEED_TARGET = Target(">=", 3.0)
QUALITY_TARGET = Target(">=", 1.0)
NUM_SEED = 1

# Chosen on the validation split, each among some settings.
OURS: dict[str, Any] = {
    "dim": 128,
    "num_epoch": 20,
    "learning_rate": 0.3,
    "num_negative": 5,
    "num_infer": 20,
}
GENSIM: dict[str, Any] = {
    "vector_size": 128,
    "epochs": 20,
    "alpha": 0.025,
    "negative": 20,
    "window": 1000,
    "ns_exponent": 0.75,
    "shrink_windows": False,
    "num_infer": 20,
}


# --- quality ----------------------------------------------------------------


def means(history: Packed, vectors: np.ndarray, syn0: np.ndarray) -> np.ndarray:
    """The mean of an itemset's vector and those of its items, for each itemset."""
    sums = np.add.reduceat(syn0[history.items], history.offsets[:-1])
    return (vectors + sums) / (1 + history.lengths[:, None])


def train_ours(data: Ranking, seed: int, *, quick: bool = False, **settings: Any) -> dict[str, Any]:
    """Train on the baskets, find the vectors of the histories, and return what ranks items."""
    options = {**OURS, **settings}
    dim, epochs, infer, rate = (
        options.pop(name) for name in ("dim", "num_epoch", "num_infer", "learning_rate")
    )
    options |= {"seed": seed, "num_threads": NUM_THREAD}
    syn0 = itembed_gpu.initialize_syn(data.num_item, dim, seed=seed)
    syn1 = itembed_gpu.initialize_syn(data.num_item, dim, "zero")
    rows = itembed_gpu.initialize_syn(len(data.train), dim, seed=seed + 1)
    plan = {"initial_learning_rate": rate, "progress": False}
    task = itembed_gpu.DocumentTask(
        data.train.items, data.train.offsets, syn0, rows, syn1, **options
    )
    itembed_gpu.train(task, num_epoch=1 if quick else epochs, **plan)
    found = np.zeros((len(data.history), dim), dtype=np.float32)
    frozen = itembed_gpu.DocumentTask(
        data.history.items, data.history.offsets, syn0, found, syn1,
        update_left=False, update_right=False, **options,
    )  # fmt: skip
    itembed_gpu.train(frozen, num_epoch=1 if quick else infer, **plan)
    return scorers(data, found, syn0, syn1)


def train_gensim(
    data: Ranking, seed: int, *, quick: bool = False, **settings: Any
) -> dict[str, Any]:
    """The same with gensim."""
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    options = {**GENSIM, **settings}
    infer = options.pop("num_infer")
    if quick:
        options["epochs"] = infer = 1
    texts = [list(map(str, row)) for row in data.train]
    model = Doc2Vec(
        [TaggedDocument(words, [n]) for n, words in enumerate(texts)],
        dm=1, dm_mean=1, min_count=1, hs=0, sample=0, seed=seed, workers=NUM_THREAD, **options,
    )  # fmt: skip
    syn0, syn1 = np.zeros((2, data.num_item, model.vector_size), dtype=np.float32)
    numbers = np.array(model.wv.index_to_key, dtype=np.int64)
    syn0[numbers], syn1[numbers] = model.wv.vectors, model.syn1neg
    model.random.seed(seed)
    words = [list(map(str, row)) for row in data.history]
    found = np.array([model.infer_vector(row, epochs=infer) for row in words])
    return scorers(data, found, syn0, syn1)


def scorers(
    data: Ranking, vectors: np.ndarray, syn0: np.ndarray, syn1: np.ndarray
) -> dict[str, Factors]:
    # Items that were never seen have nothing to be ranked by: theirs would be scores of 0.
    bias = np.full(data.num_item, -1e9, dtype=np.float32)
    bias[data.train.items] = 0
    return {
        "mean with its items": Factors(means(data.history, vectors, syn0), syn1, bias),
        "the vector alone": Factors(vectors, syn1, bias),
    }


def quality_rows(data: Ranking, seeds: int, quick: bool) -> list[tuple[str, ...]]:
    """HR@10 of both, each read in both ways, as means of some trainings."""
    found: dict[tuple[str, str], list[float]] = {}
    for name, train in (("ours", train_ours), ("gensim", train_gensim)):
        for seed in range(seeds):
            for how, scorer in train(data, seed, quick=quick).items():
                found.setdefault((name, how), []).append(evaluate(scorer, data)["HR@10"])
    means_of = {key: statistics.mean(values) for key, values in found.items()}
    best, ours = (max(m for (n, _), m in means_of.items() if n == x) for x in ("gensim", "ours"))
    return [
        say(
            f"{name}, {how}",
            f"{means_of[name, how]:.4f}",
            f"{min(values):.4f} ... {max(values):.4f}",
            judged(means_of[name, how] / best, QUALITY_TARGET, means_of[name, how] == ours),
        )
        for (name, how), values in found.items()
    ]


def judged(ratio: float, target: Target, counts: bool = True) -> str:
    return f"{ratio:.2f}" + f" ({target} {tick(target.is_met(ratio))})" * counts


# --- speed ------------------------------------------------------------------


def clock(train: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor and on the wall."""
    began = time.process_time(), time.perf_counter()
    train()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def speed_rows(num_word: int, repeat: int) -> list[tuple[str, ...]]:
    """Words a second of the processor and on the wall; medians of runs that take turns."""
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    items = zipf_items(NUM_LABEL, num_word)
    offsets = np.arange(0, num_word + 1, LENGTH)
    texts = [
        TaggedDocument(list(map(str, part.tolist())), [n])
        for n, part in enumerate(np.split(items, offsets[1:-1]))
    ]
    model = Doc2Vec(
        dm=1, dm_mean=1, vector_size=DIM, window=WINDOW, negative=NUM_NEGATIVE, ns_exponent=0.75,
        min_count=1, sample=0, workers=NUM_THREAD, epochs=1, seed=1,
    )  # fmt: skip
    model.build_vocab(texts)
    tables = [
        itembed_gpu.initialize_syn(n, DIM, seed=n) for n in (NUM_LABEL, len(texts), NUM_LABEL)
    ]
    task = itembed_gpu.DocumentTask(
        items, offsets, *tables, window=WINDOW, num_negative=NUM_NEGATIVE, noise_exponent=0.75,
        seed=1, num_threads=NUM_THREAD,
    )  # fmt: skip
    runs = {
        "ours": lambda: itembed_gpu.train(task, num_epoch=1, progress=False),
        "gensim": lambda: model.train(texts, total_examples=len(texts), epochs=1),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(repeat + 1):
        for name, run in runs.items():
            seconds = clock(run)
            if turn:  # the first one compiles, and warms up
                times[name].append(seconds)
    medians = {name: np.median(values, axis=0) for name, values in times.items()}
    ratios = medians["gensim"] / medians["ours"]
    return [
        say(
            name,
            *(f"{num_word / seconds / 1e3:,.0f}k" for seconds in values),
            *(
                judged(ratio, SPEED_TARGET, which == 0) if name == "ours" else ""
                for which, ratio in enumerate(ratios)
            ),
        )
        for name, values in medians.items()
    ]


# --- all of it --------------------------------------------------------------


def main() -> None:
    parser = make_parser("documents", __doc__, HERE / "documents.md")
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--quick", action="store_true", help="try everything, and write nothing")
    parser.add_argument("--validation", action="store_true", help="the split of choices alone")
    options = parser.parse_args()
    data = online_retail(options.data)
    if options.validation:
        quality_rows(validation(data), 1, options.quick)  # type: ignore[arg-type]
        return
    speed = speed_rows(NUM_WORD // (50 if options.quick else 1), 1 if options.quick else 3)
    quality = quality_rows(data, 1 if options.quick else NUM_SEED, options.quick)
    if options.quick:
        return
    note = (
        f"By `python -m benchmarks.documents DATA`: {machine('gensim')}.\n\n"
        f"Made text: {NUM_WORD:,} words of {NUM_LABEL:,}, in documents of {LENGTH}; dimension "
        f"{DIM}, window {WINDOW}, {NUM_NEGATIVE} negatives, {NUM_THREAD} threads each. Words a "
        "second of the processor, by which the target is judged, and on the wall.\n"
    )
    text = page(
        "Vectors of itemsets, against gensim's Doc2Vec(dm=1, dm_mean=1)",
        note,
        ["## Speed", ""],
        table(("", "words/s, CPU", "words/s, wall", "ratio, CPU", "ratio, wall"), speed),
        ["## Quality: Online Retail, HR@10 of the hidden item", ""],
        table(("", f"HR@10, mean of {NUM_SEED}", "from ... to", "over gensim's best"), quality),
        [f"Settings of ours: {OURS}", "", f"of gensim: {GENSIM}"],
    )
    write_whole(options.out, text)


if __name__ == "__main__":
    main()

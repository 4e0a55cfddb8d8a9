"""`window` against whole itemsets and gensim: the next item of sessions, and words a second.

    python -m benchmarks.windows                        # both parts: some 30 minutes on a core
    python -m benchmarks.windows --words 1000000 --sessions 5000 --epochs 3     # minutes

Made sessions: each item has a few others of its cluster that follow it often. Of the sessions
that are held out, one half chooses settings, and the other is what the table shows: whether the
last item is among the ten best, by the items before it. All systems have the same dimension and
epochs, and read what they have learned in the same ways.

Made text: sentences of 20 words with Zipf counts, in which words have others that follow them
often. Both systems train skip-gram for one epoch on one thread, with the same window, dimension,
negatives, noise and learning rates. Both begin with gensim's tables: uniform in
-1 / dimension ... 1 / dimension, and zeros. Time is that of the process, which a busy machine does
not stretch so much; compiling, reading and counting words is left out. The held-out loss is
computed by one NumPy function from both pairs of tables, over the same pairs and negatives.

Writes ``windows.md`` beside this file.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from itembed_gpu import UnsupervisedTask, initialize_syn, train

Tables = tuple[np.ndarray, np.ndarray]

# --- made data ----------------------------------------------------------------

# How probable each of an item's followers is; else comes another one of its cluster, or of all.
FOLLOWERS = (0.3, 0.15, 0.1, 0.05)
SAME_CLUSTER = 0.25


@dataclass(frozen=True)
class Chain:
    """A Markov chain over items with clusters."""

    shares: np.ndarray  # of each item where it follows nothing
    members: np.ndarray  # (num_cluster, size): items of each cluster
    clusters: np.ndarray  # of each item
    followers: np.ndarray  # (num_item, len(FOLLOWERS))

    def draw(self, lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Sessions of these lengths: items and offsets."""
        generator = np.random.default_rng(seed)
        count, longest = len(lengths), int(lengths.max())
        kinds = generator.random((longest, count))
        bounds = np.cumsum(FOLLOWERS)
        steps = np.searchsorted(bounds, kinds, side="right")
        size = self.members.shape[1]
        inside = generator.integers(0, size, (longest, count))
        cumulative = np.cumsum(self.shares)
        anywhere = np.searchsorted(cumulative / cumulative[-1], generator.random((longest, count)))
        sessions = np.empty((longest, count), dtype=np.int32)
        sessions[0] = anywhere[0]
        for step in range(1, longest):
            last = sessions[step - 1]
            follower = self.followers[last, np.minimum(steps[step], len(FOLLOWERS) - 1)]
            other = np.where(
                kinds[step] < bounds[-1] + SAME_CLUSTER,
                self.members[self.clusters[last], inside[step]],
                anywhere[step],
            )
            sessions[step] = np.where(steps[step] < len(FOLLOWERS), follower, other)
        used = np.arange(longest)[:, None] < lengths
        return sessions.T[used.T], np.concatenate([[0], np.cumsum(lengths)])


def make_chain(num_item: int, num_cluster: int, exponent: float, seed: int) -> Chain:
    """Make a chain whose items have Zipf shares of this exponent where they follow nothing."""
    generator = np.random.default_rng(seed)
    members = generator.permutation(num_item).reshape(num_cluster, -1)
    clusters = np.empty(num_item, dtype=np.int64)
    clusters[members] = np.arange(num_cluster)[:, None]
    chosen = generator.integers(0, members.shape[1], (num_item, len(FOLLOWERS)))
    shares = 1.0 / (1 + np.arange(num_item)) ** exponent
    return Chain(shares, members, clusters, members[clusters[:, None], chosen])


# --- systems: from packed itemsets to two tables ------------------------------


@dataclass(frozen=True)
class Job:
    """What all systems are given."""

    items: np.ndarray
    offsets: np.ndarray
    num_item: int
    dim: int = 64
    epochs: int = 10


def train_ours(job: Job, alpha: float, clock: list[float] | None = None, **options: Any) -> Tables:
    """Train ours on one thread; its seconds go into `clock`."""
    # As gensim begins: a start twice as far from 0 as ours is ahead for some time.
    syn0 = 2 * initialize_syn(job.num_item, job.dim, seed=1)
    syn1 = np.zeros_like(syn0)
    task = UnsupervisedTask(
        job.items, job.offsets, syn0, syn1, seed=1, num_threads=1, device="cpu", **options
    )
    task._prepare()
    began = time.process_time()
    train(
        task, num_epoch=job.epochs, initial_learning_rate=alpha, final_learning_rate=1e-4,
        progress=False,
    )  # fmt: skip
    if clock is not None:
        clock.append(time.process_time() - began)
    return syn0, syn1


def train_gensim(
    job: Job, alpha: float, clock: list[float] | None = None, **options: Any
) -> Tables:
    """Train gensim's Word2Vec on one worker, from a file, as is fastest for it."""
    from gensim.models import Word2Vec

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sentences.txt")
        words = np.char.mod("%d", np.arange(job.num_item))
        with path.open("w") as file:
            for start, stop in itertools.pairwise(job.offsets.tolist()):
                file.write(" ".join(words[job.items[start:stop]]) + "\n")
        model = Word2Vec(
            vector_size=job.dim, alpha=alpha, min_alpha=1e-4, min_count=1, sample=0, seed=1,
            workers=1, epochs=job.epochs, **options,
        )  # fmt: skip
        model.build_vocab(corpus_file=str(path))
        began = time.process_time()
        model.train(corpus_file=str(path), total_words=model.corpus_total_words, epochs=job.epochs)
        if clock is not None:
            clock.append(time.process_time() - began)
    rows = np.array([model.wv.key_to_index.get(word, -1) for word in words])
    left, right = np.zeros((2, job.num_item, job.dim), dtype=np.float32)
    left[rows >= 0] = model.wv.vectors[rows[rows >= 0]]
    right[rows >= 0] = model.syn1neg[rows[rows >= 0]]
    return left, right


# --- sessions -----------------------------------------------------------------

NOISE = {"num_negative": 5, "noise_exponent": 0.75}
ADAGRAD = {"optimizer": "adagrad"}
SOFTMAX = {
    "loss": "softmax", "optimizer": "adam", "similarity": "cosine", "batch_size": 128,
}  # fmt: skip
System = Callable[..., Tables]
Settings = tuple[System, float, dict[str, Any]]


def sampled(rates: tuple[float, ...], **options: Any) -> list[Settings]:
    return [(train_ours, rate, NOISE | options) for rate in rates]


def of_ours(**options: Any) -> dict[str, list[Settings]]:
    """What is tried of ours, by name."""
    return {
        "pairs": sampled((0.05, 0.1), **options),
        "pairs, adagrad": sampled((0.2, 0.4), **ADAGRAD, **options),
        "mean, adagrad": sampled((0.2, 0.4), **ADAGRAD, pooling="mean", **options),
    }


SYSTEMS: dict[str, dict[str, list[Settings]]] = {
    "whole itemsets": of_ours()
    | {
        "softmax of the mean": [
            (train_ours, 0.005, {**SOFTMAX, "pooling": "mean", "reject_itemset": True})
        ]
    },
    "window": of_ours(window=3)
    | {
        "softmax of pairs": [
            (train_ours, 0.005, {**SOFTMAX, "batch_size": 32, "pooling": "pairs", "window": 3})
        ]
    },
    "gensim": {
        "sg=1": [
            (train_gensim, rate, {"window": 3, "sg": 1, "negative": 5}) for rate in (0.05, 0.1)
        ]
    },
}
LASTS = (1, 2, 3, 5, 100)


def hit_rate(tables: Tables, sessions: np.ndarray, last: int, cosine: bool, n: int = 10) -> float:
    """How often the last item of sessions is among the best n, by the mean of those before it."""
    left, right = tables
    if cosine:
        norms = (np.linalg.norm(side, axis=1, keepdims=True) for side in tables)
        left, right = (side / np.maximum(n, 1e-9) for side, n in zip(tables, norms, strict=True))
    hits = 0
    for session in sessions:
        scores = right @ left[session[:-1][-last:]].mean(axis=0)
        hits += int((scores > scores[session[-1]]).sum() < n)
    return hits / len(sessions)


def read_best(tables: Tables, parts: tuple[Any, Any]) -> tuple[float, float, str]:
    """Hit rates of both parts, of the way to read tables that is best on the first."""
    ways = list(itertools.product(LASTS, (False, True)))
    last, cosine = max(ways, key=lambda way: hit_rate(tables, parts[0], *way))
    name = f"last {last}, {'cosine' if cosine else 'dot'}"
    return *(hit_rate(tables, part, last, cosine) for part in parts), name  # type: ignore[return-value]


def compare_sessions(num_session: int, epochs: int, num_item: int = 2000) -> list[str]:
    """Hit rates of all systems, as a table."""
    generator = np.random.default_rng(5)
    num_held = min(2000, num_session // 5)
    chain = make_chain(num_item, max(1, num_item // 100), 0.5, seed=3)
    items, offsets = chain.draw(generator.integers(5, 21, num_session + 2 * num_held), seed=4)
    cut = offsets[num_session]
    job = Job(items[:cut], offsets[: num_session + 1], num_item, epochs=epochs)
    held = np.split(items[cut:], offsets[num_session + 1 : -1] - cut)
    parts = held[:num_held], held[num_held:]
    rows, best = [], {}
    for system, tried in SYSTEMS.items():
        for name, settings in tried.items():
            found = []
            for make, alpha, options in settings:
                chosen, rate, way = read_best(make(job, alpha, **options), parts)
                found.append((chosen, rate, f"rate {alpha:g}, {way}"))
            valid, rate, way = max(found)
            rows.append(say(system, name, f"{valid:.4f}", f"{rate:.4f}", way))
            best[system] = max(best.get(system, (0.0, 0.0)), (valid, rate))
    ours = best["window"][1]
    for other, least in (("whole itemsets", 1.1), ("gensim", 1.0)):
        target, ratio = Target(">=", least), ours / best[other][1]
        met = f"{target} {tick(target.is_met(ratio))}"
        rows.append(say("window over", other, "", f"{ratio:.3f}", met))
    head = ("what", "settings", "HR@10, validation", "HR@10, test", "chosen on validation; target")
    note = (
        f"{num_session:,} sessions of 5 to 20 of {num_item:,} items, {epochs} epochs, dimension "
        f"{job.dim}, window 3 where there is one. The target is judged by the line that is best on "
        "the validation part."
    )
    return ["## The next item of a session", "", note, "", *table(head, rows)]


# --- text ---------------------------------------------------------------------

LENGTH, WINDOW, NEGATIVES = 20, 5, 5


def held_out_loss(tables: Tables, items: np.ndarray, counts: np.ndarray) -> float:
    """Mean loss of the pairs of held-out sentences, each with negatives of its own."""
    generator = np.random.default_rng(9)
    sentences = items.reshape(-1, LENGTH)
    pairs = []
    for distance in range(1, WINDOW + 1):
        kept = generator.random(sentences[:, distance:].shape) < (WINDOW - distance + 1) / WINDOW
        near, far = sentences[:, :-distance][kept], sentences[:, distance:][kept]
        pairs += [(near, far), (far, near)]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    noise = np.cumsum(counts**0.75)
    negatives = np.searchsorted(noise / noise[-1], generator.random((len(left), NEGATIVES)))
    total = 0.0
    for start in range(0, len(left), 20_000):
        part = slice(start, start + 20_000)
        u = tables[0][left[part]].astype(np.float64)
        total += np.logaddexp(0, -(u * tables[1][right[part]]).sum(axis=1)).sum()
        total += np.logaddexp(0, np.einsum("nd,nkd->nk", u, tables[1][negatives[part]])).sum()
    return float(total / len(left))


def compare_text(num_word: int, num_item: int = 20_000, dim: int = 100) -> list[str]:
    """Words a second, and losses, as a table."""
    chain = make_chain(num_item, max(1, num_item // 100), 1.0, seed=7)
    num_held = 2_000
    lengths = np.full(num_word // LENGTH + num_held, LENGTH)
    items, offsets = chain.draw(lengths, seed=8)
    cut = len(items) - num_held * LENGTH
    job = Job(items[:cut], offsets[: cut // LENGTH + 1], num_item, dim, 1)
    counts = np.bincount(job.items, minlength=num_item)
    ours = {"window": WINDOW, "noise_exponent": 0.75, "num_negative": NEGATIVES}
    runs: dict[str, tuple[System, dict[str, Any]]] = {
        "gensim": (train_gensim, {"window": WINDOW, "sg": 1, "negative": NEGATIVES}),
        "ours": (train_ours, ours),
        "ours, negative_sharing=32": (train_ours, {**ours, "negative_sharing": 32}),
    }
    rows, first = [], (1.0, 1.0)
    for name, (make, options) in runs.items():
        clock: list[float] = []
        tables = make(job, 0.025, clock, **options)
        speed = len(job.items) / clock[0]
        loss = held_out_loss(tables, items[cut:], counts)
        if name == "gensim":
            first = speed, loss
        ratios = f"{speed / first[0]:.2f}", f"{loss / first[1]:.4f}"
        rows.append(say(name, f"{speed / 1e3:.0f}", ratios[0], f"{loss:.4f}", ratios[1]))
    note = (
        f"{num_word:,} words of {num_item:,} in sentences of {LENGTH}, window {WINDOW}, "
        f"{NEGATIVES} negatives, dimension {dim}, one epoch from .025, one thread. Targets: twice "
        "the words a second of gensim, and a loss within 1 % of its."
    )
    head = ("system", "1,000 words/s", "over gensim", "held-out loss", "over gensim")
    return ["## Skip-gram of text", "", note, "", *table(head, rows)]


def main() -> None:
    parser = make_parser("windows", __doc__)
    parser.add_argument("--sessions", type=int, default=20_000, help="0: leave this part out")
    parser.add_argument("--epochs", type=int, default=10, help="of sessions")
    parser.add_argument("--words", type=int, default=10_000_000, help="0: leave this part out")
    options = parser.parse_args()
    parts = []
    if options.sessions:
        parts.append(compare_sessions(options.sessions, options.epochs))
    if options.words:
        parts.append(compare_text(options.words))
    note = f"`python -m benchmarks.windows`, on {machine('gensim')}."
    write_whole(options.out / "windows.md", page("Windows over sequences", note, *parts))


if __name__ == "__main__":
    main()

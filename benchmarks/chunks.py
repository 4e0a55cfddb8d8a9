"""What training in chunks costs: held-out loss and speed, against all at once.

    python -m benchmarks.chunks                     # 5 million rows, 3 seeds: about 8 minutes
    python -m benchmarks.chunks --rows 200000       # does it run?

A catalog of `benchmarks.synthetic` is packed, saved and mapped. The last tenth of the itemsets
is held out: the loss is that of each of their items with another one of its itemset, and of
negatives, the same for all that is compared. Writes ``chunks.md`` beside this file, or with
--device cuda ``chunks_gpu.md``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

import itembed_gpu as ig
from benchmarks.common.catalogs import pick_others
from benchmarks.common.losses import held_out_loss
from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, page, table, write_whole
from benchmarks.synthetic import MEAN_LENGTH, SHARD, make_catalog

NUM_ITEM, DIM, NUM_NEGATIVE, EPOCHS, RATE = 20_000, 64, 5, 5, 0.05
# Chunks an epoch: of one, nothing but the order of the pairs differs.
COUNTS = (4, 16, 64)
SEEDS = (1, 2, 3)


def make_packed(rows: int, folder: Path) -> ig.PackedItemsets:
    """Pack a catalog's itemsets, and open them from the disk."""
    catalog = make_catalog(NUM_ITEM)
    shards = [catalog.shard(n) for n in range(-(-rows // (SHARD * MEAN_LENGTH)))]
    itemsets = [
        items[offsets[i] : offsets[i + 1]]
        for items, offsets in shards
        for i in range(min(len(offsets) - 1, rows // MEAN_LENGTH))
    ]
    ig.pack_itemsets([itemset.tolist() for itemset in itemsets]).save(folder / "data.itemsets")
    return ig.PackedItemsets.load(folder / "data.itemsets")


def held_out_pairs(packed: ig.PackedItemsets, first: int) -> tuple[np.ndarray, ...]:
    """Items, others of their itemsets, and negatives, from an itemset on."""
    generator = np.random.default_rng(0)
    offsets = packed.offsets[first:].astype(np.int64)
    others = pick_others(offsets, generator)
    negatives = generator.integers(0, packed.num_label, (len(others), NUM_NEGATIVE))
    return packed.indices[offsets[0] : offsets[-1]], packed.indices[others], negatives


def train_one(
    packed: ig.PackedItemsets, first: int, chunk_size: int | None, seed: int, device: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """Train on the itemsets before the held-out ones; return tables, and pairs a second."""
    syn0 = ig.initialize_syn(packed.num_label, DIM, seed=seed)
    syn1 = ig.initialize_syn(packed.num_label, DIM, "zero")
    task = ig.UnsupervisedTask(
        packed.indices, packed.offsets[: first + 1], syn0, syn1, num_negative=NUM_NEGATIVE,
        seed=seed, chunk_size=chunk_size, device=device,
    )  # fmt: skip
    task.do_batch(0.0)  # compiled before
    began = time.perf_counter()
    history = ig.train(task, num_epoch=EPOCHS, initial_learning_rate=RATE, progress=False)
    return syn0, syn1, history.num_pair / (time.perf_counter() - began)


def measure(packed: ig.PackedItemsets, device: str) -> dict[int, list[tuple[float, float]]]:
    """Loss and speed of each seed, by the number of chunks."""
    first = packed.num_itemset * 9 // 10
    pairs = held_out_pairs(packed, first)
    num_item = int(packed.offsets[first])
    results: dict[int, list[tuple[float, float]]] = {}
    for seed in SEEDS:
        for count in (0, *COUNTS):
            size = -(-num_item // count) if count else None
            syn0, syn1, speed = train_one(packed, first, size, seed, device)
            results.setdefault(count, []).append((held_out_loss(syn0, syn1, *pairs), speed))
            print(seed, count, results[count][-1], flush=True)
    return results


def where(device: str) -> str:
    """What a device is."""
    return next(b.detail for b in ig.available_backends() if b.name == device.partition(":")[0])


def make_report(
    results: dict[int, list[tuple[float, float]]], rows: int, num_item: int, device: str
) -> str:
    base = np.array(results[0])
    note = (
        f"`python -m benchmarks.chunks --rows {rows} --device {device}`: {num_item:,} "
        f"occurrences of {NUM_ITEM:,} items, D={DIM}, {NUM_NEGATIVE} negatives, {EPOCHS} epochs "
        f"from {RATE}, {len(SEEDS)} seeds. Mapped from the disk. On {where(device)}; {machine()}."
    )
    head = (
        "chunks",
        "held-out loss",
        "against all at once (target: 0.5 %)",
        "spread of the seeds",
        "speed against all at once",
    )
    lines = []
    for count, values in results.items():
        loss, speed = np.array(values).T
        change = 100 * (loss.mean() / base[:, 0].mean() - 1)
        spread = 100 * np.ptp(loss) / loss.mean()
        ratio = np.median(speed / base[:, 1])
        name = count or "all at once"
        cells = (f"{loss.mean():.4f}", f"{change:+.2f} %", f"{spread:.2f} %", f"{ratio:.2f}")
        lines.append((name, *cells))
    return page("Training in chunks", note, table(head, lines))


def main() -> None:
    parser = make_parser("chunks", __doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--device", default="cpu", help="where to train")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        packed = make_packed(options.rows, Path(name))
        results = measure(packed, options.device)
        report = make_report(results, options.rows, packed.num_item, options.device)
    name = "chunks.md" if options.device == "cpu" else "chunks_gpu.md"
    write_whole(options.out / name, report)
    print(report)


if __name__ == "__main__":
    main()

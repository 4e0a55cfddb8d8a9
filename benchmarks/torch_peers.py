"""PyTorch at the work of `benchmarks.gpu`: pairs a second, in several ways.

    python -m benchmarks.torch_peers --device cuda
    python -m benchmarks.torch_peers --device cpu --labels 1000 --items 20000 --batch 256 --dim 16

A step draws a batch of pairs of items of an itemset, and k negatives each, uniformly, on the
device; then it changes both tables by the gradients of the sigmoid loss, as `UnsupervisedTask`
does, but of a whole batch at once. *By hand*: these few lines, with ``index_add_``; the same
through ``torch.compile``. *Embedding*: ``nn.Embedding(sparse=True)`` and autograd, with SGD and
with SparseAdam, which has two moments a number more. Negatives that are the pair's own item stay
in all of them, as by default in ours.

Prints a line of JSON for each way and distribution; what fails says so on its own line. Speeds are
medians of three runs, synchronised, after a warm-up that compiles. Run by `benchmarks.gpu`, it is
a process of its own: its memory is given back, and what breaks here breaks nothing there.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.common.catalogs import draw_items
from benchmarks.common.report import make_parser

# The work is the same at any rate: at this one, what a large batch adds to a hot row stays small.
RATE, REPEAT, WARM_UP = 1e-7, 3, 3

Step = Callable[[Any, Any, Any, Any, float], None]


def draw_batch(items: Any, length: int, num_label: int, num_pair: int, num_negative: int) -> Any:
    """Draw left rows, (n,), and targets, (n, 1 + k): another item of the itemset, and negatives.

    All itemsets have the same length.
    """
    import torch

    on = {"device": items.device}
    place = torch.randint(len(items), (num_pair,), **on)
    inside = place % length
    other = place - inside + (inside + torch.randint(1, length, (num_pair,), **on)) % length
    negatives = torch.randint(num_label, (num_pair, num_negative), **on)
    return items[place], torch.cat([items[other][:, None], negatives], 1)


def step_by_hand(syn0: Any, syn1: Any, left: Any, targets: Any, rate: float) -> None:
    """Change both tables by a batch; the first target of each pair is its own item."""
    import torch

    u, rows = syn0[left], syn1[targets]
    gradients = -rate * torch.sigmoid((rows * u[:, None]).sum(-1))
    gradients[:, 0] += rate
    syn0.index_add_(0, left, (gradients[..., None] * rows).sum(1))
    changes = gradients[..., None] * u[:, None]
    syn1.index_add_(0, targets.flatten(), changes.flatten(0, 1))


def by_hand(syn0: Any, syn1: Any) -> Step:
    return step_by_hand


def compiled(syn0: Any, syn1: Any) -> Step:
    import torch

    return torch.compile(step_by_hand)


def of_embeddings(optimizer: str, syn0: Any, syn1: Any) -> Step:
    """Make a step of `nn.Embedding(sparse=True)` and an optimizer, over the same tables."""
    import torch
    from torch.nn import Embedding
    from torch.nn.functional import binary_cross_entropy_with_logits as loss

    left_table, right_table = (
        Embedding.from_pretrained(table, freeze=False, sparse=True) for table in (syn0, syn1)
    )
    weights = [left_table.weight, right_table.weight]
    optim = getattr(torch.optim, optimizer)(weights, lr=RATE)

    def step(syn0: Any, syn1: Any, left: Any, targets: Any, rate: float) -> None:
        with torch.enable_grad():
            optim.zero_grad()
            logits = (right_table(targets) * left_table(left)[:, None]).sum(-1)
            labels = torch.zeros_like(logits)
            labels[:, 0] = 1
            loss(logits, labels, reduction="sum").backward()
            optim.step()

    return step


# What makes a step for two tables.
WAYS: dict[str, Callable[[Any, Any], Step]] = {
    "by hand": by_hand,
    "by hand, torch.compile": compiled,
    "Embedding(sparse=True), SGD": partial(of_embeddings, "SGD"),
    "Embedding(sparse=True), SparseAdam": partial(of_embeddings, "SparseAdam"),
}


def time_steps(step: Callable[[], Any], wait: Callable[[], Any], seconds: float) -> list[float]:
    """Return the seconds of a step in each of several runs of about so many seconds."""

    def run(count: int) -> float:
        wait()
        began = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        return (time.perf_counter() - began) / count

    once = [run(1) for _ in range(WARM_UP)][-1]
    count = max(1, round(seconds / once))
    return [run(count) for _ in range(REPEAT)]


def measure(name: str, items: Any, options: Any) -> dict[str, Any]:
    """Time a way: pairs a second of the median, the slowest and the fastest run."""
    import torch

    shape, on = (options.labels, options.dim), {"device": options.device}
    syn0, syn1 = ((torch.rand(shape, **on) - 0.5) / options.dim for _ in range(2))
    train = WAYS[name](syn0, syn1)
    sizes = (options.length, options.labels, options.batch, options.negatives)

    def step() -> None:
        train(syn0, syn1, *draw_batch(items, *sizes), RATE)

    wait = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    with torch.no_grad():
        seconds = time_steps(step, wait, options.seconds)
    if not bool(torch.isfinite(syn0).all() & torch.isfinite(syn1).all()):
        raise ArithmeticError("the tables are not finite")
    order = statistics.median(seconds), max(seconds), min(seconds)
    return dict(zip(("speed", "low", "high"), (options.batch / s for s in order), strict=True))


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("torch_peers", __doc__, out=None)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=20_000_000, help="that pairs are drawn from")
    parser.add_argument("--length", type=int, default=10, help="items of an itemset")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1 << 20, help="pairs")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a run, about")
    options = parser.parse_args(arguments)
    import torch

    for zipf in (True, False):
        drawn = draw_items(options.labels, options.items - options.items % options.length, zipf)
        items = torch.from_numpy(drawn).to(options.device, torch.int64)
        for way in WAYS:
            row = {"torch": torch.__version__, "way": way, "zipf": zipf}
            try:
                row |= measure(way, items, options)
            except Exception as error:  # the other ways are worth having
                row["failed"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

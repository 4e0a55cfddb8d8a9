"""Questions to a model, for the command line: what is hidden, what is asked, what was found."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ..errors import DataError, InputError
from .options import HIDING_SEED

if TYPE_CHECKING:
    from ..data.itemsets import PackedItemsets
    from ..data.readers import ReadItemsets
    from ..metrics import Evaluation, Split, SplitCounts
    from ..models.embeddings import Embeddings
    from ..models.item2vec import Item2Vec
    from ..models.known import KnownItemsets, Unknown
    from ..training.callbacks import EarlyStopping
    from ..training.loop import TrainState

# What is held out has one hidden item an itemset: recall is then the hit rate, and MAP the MRR.
BY_EPOCH = ("hit_rate@10", "ndcg@10", "mrr@10")
STOP_BY = "ndcg@10"


@dataclasses.dataclass
class Asked:
    """Queries to a model.

    `unknown` is what of the itemsets the model does not know, and `stopping` what ends
    training by these queries, if anything does.
    """

    split: Split
    unknown: Unknown
    stopping: EarlyStopping | None = None


@dataclasses.dataclass
class Measured:
    """What was measured, and what became of the itemsets.

    `unknown` is what of each file the model does not know, and `account` tells of the rest.
    """

    evaluation: Evaluation
    unknown: dict[str, Unknown]
    account: dict[str, int]


def hold_out(
    model: Item2Vec, packed: ReadItemsets, settings: dict[str, Any], progress: bool
) -> tuple[PackedItemsets, Asked]:
    """Take the last itemsets from those to train on, and let the model be measured by them."""
    import numpy as np
    from tqdm import tqdm

    from ..data.packing import Limits, pack_again
    from ..models.embeddings import Embeddings
    from ..models.estimator import shape_of
    from ..models.known import check_findable, only_known
    from ..training.callbacks import EarlyStopping, Evaluator

    num_itemset = packed.num_itemset
    num_held = round(settings["share"] * num_itemset)
    if not 0 < num_held < num_itemset:
        raise DataError(
            f"--share {settings['share']} holds out {num_held} of {num_itemset} itemsets; "
            "give one that holds some out, and leaves some"
        )
    is_held = np.arange(num_itemset) >= num_itemset - num_held
    kept = packed.prune(mask=~is_held)
    # Numbered as `fit` will number them, so that what measures in between knows the rows.
    part = pack_again(kept, Limits(min_length=2))
    lookup = Embeddings(part.labels, np.zeros((part.num_label, 1)))
    known = only_known(packed.prune(mask=is_held), lookup)
    asked = Asked(_hide_one(known, len(lookup), HIDING_SEED), known.unknown)
    check_findable("the itemsets held out", asked.split, len(lookup), known.unknown)
    now = model._choose(shape_of(part))

    def by_epoch(state: TrainState) -> dict[str, float]:
        task = state.task
        now.embeddings_ = Embeddings(part.labels, task.syn0, context=task.syn1, counts=part.counts)
        return now._measure(asked.split, BY_EPOCH).means

    # Beside the progress bar, which has the standard error as well.
    report = functools.partial(tqdm.write, file=sys.stderr) if progress else None
    every = settings["every"] or max(1, now._value("epochs") // 10)
    callbacks: list[Any] = [Evaluator(by_epoch, every=every, report=report)]
    if settings["patience"] is not None:
        asked.stopping = EarlyStopping(STOP_BY, settings["patience"])
        callbacks.append(asked.stopping)
    model.set_params(callbacks=callbacks)
    return part, asked


def _hide_one(known: KnownItemsets, num_row: int, seed: int) -> Split:
    """Hide an item of each itemset: a split that holds out all of them."""
    import numpy as np

    from ..metrics import leave_one_out

    # What a model was trained on is not at hand: one itemset of all its items stands for that.
    items = np.concatenate([np.arange(num_row, dtype=np.int32), known.rows])
    offsets = np.concatenate([[0], num_row + known.offsets])
    return leave_one_out(items, offsets, share=len(known) / (len(known) + 1), seed=seed)


def held_out_report(
    model: Item2Vec, asked: Asked, evaluation: Evaluation, popularity: Evaluation
) -> dict[str, Any]:
    by_epoch = [
        {"epoch": record.epoch + 1, **numbers(record.metrics)}
        for record in model.history_.epochs
        if record.metrics
    ]
    stopping = asked.stopping
    return {
        "protocol": "leave-one-out",
        **_account(evaluation),
        "held_out_itemsets": asked.split.counts.held_out_itemsets,
        "unknown_items": asked.unknown.items,
        "best_epoch": None if stopping is None else stopping.best_epoch + 1,
        "stopped": model.history_.stopped,
        "by_epoch": by_epoch,
        "metrics": numbers(evaluation.as_dict()),
        "popularity": numbers(popularity.means),
    }


def warn_if_below(metric: str, own: float, simple: float, rival: str) -> None:
    """Tell of a training that failed, as what needs none is better."""
    if own < simple:
        click.echo(
            f"Warning: {metric} is {own:.4f}, and {simple:.4f} by {rival} alone, without any "
            "training; try another --learning-rate, or more --epochs",
            err=True,
        )


def _as_known(model: Item2Vec, packed: ReadItemsets) -> ReadItemsets:
    """Give items the labels of the model that are written like theirs, of whatever type."""
    # One "X1" in a CSV makes strings of all its numbers.
    written = {str(label): label for label in model.labels_}
    labels = [
        label if label in model.embeddings_ else written.get(str(label), label)
        for label in packed.labels
    ]
    return dataclasses.replace(packed, labels=labels)


def measure_hidden(
    model: Item2Vec,
    file: Path,
    reading: dict[str, Any],
    hiding: tuple[str, int],
    cutoffs: tuple[int, ...],
) -> Measured:
    """Hide an item of each itemset of a file, by a protocol and a seed, and look for it."""
    from ..data.readers import read_itemsets
    from ..metrics import leave_last_out
    from ..models.known import check_findable, only_known

    packed = read_itemsets(file, **reading)
    known = only_known(_as_known(model, packed), model.embeddings_)
    protocol, seed = hiding
    if protocol == "leave-one-out":
        split = _hide_one(known, len(model.labels_), seed)
    else:
        split = leave_last_out(known.rows, known.offsets)
    check_findable(str(file), split, len(model), known.unknown)
    evaluation = model._measure(split, cutoffs)
    return Measured(evaluation, {packed.source: known.unknown}, _account(evaluation))


def measure_given(
    model: Item2Vec, file: Path, truth: Path, reading: dict[str, Any], cutoffs: tuple[int, ...]
) -> Measured:
    """Ask with the itemsets of one file for the items of those of another."""
    from ..data.opening import is_read_once
    from ..data.readers import read_itemset_ids, read_itemsets
    from ..models.known import check_findable, given_queries

    for path in (file, truth):
        if is_read_once(path):
            raise InputError(
                f"{path}: is a pipe, and --protocol given reads each file twice; save it to a file"
            )
    seen, sought = (
        _as_known(model, read_itemsets(path, **reading, min_length=0)) for path in (file, truth)
    )
    seen_ids, sought_ids = (read_itemset_ids(path, **reading) for path in (file, truth))
    unmatched = 0
    if seen_ids is None or sought_ids is None:
        if seen.num_itemset != sought.num_itemset:
            raise DataError(
                f"{file} has {seen.num_itemset:,} itemsets and {truth} {sought.num_itemset:,}; "
                "give text files with as many lines, or tables with the same itemsets"
            )
    else:
        sought, unmatched = _in_order(sought, sought_ids, seen_ids)
    history, split, unknown = given_queries(seen, sought, model.embeddings_)
    check_findable(str(truth), split, len(model), unknown)
    evaluation = model._measure(split, cutoffs, history)
    account = _account(evaluation) | {
        "unmatched_itemsets": unmatched,
        "unknown_to_find": split.counts.unknown_truth,
    }
    return Measured(evaluation, {seen.source: history.unknown, sought.source: unknown}, account)


def _in_order(packed: ReadItemsets, ids: list[str], wanted: list[str]) -> tuple[ReadItemsets, int]:
    """Return the itemsets of these ids, empty where there is none, and how many were not wanted."""
    import numpy as np

    place = {name: number for number, name in enumerate(ids)}
    none = packed.indices[:0]
    parts = [
        packed.indices[slice(*packed.offsets[place[name] : place[name] + 2])]
        if name in place
        else none
        for name in wanted
    ]
    offsets = np.cumsum([0, *map(len, parts)])
    chosen = dataclasses.replace(packed, indices=np.concatenate(parts), offsets=offsets)
    return chosen, len(place.keys() - set(wanted))


def _account(evaluation: Evaluation) -> dict[str, int]:
    """What became of the itemsets, of what is known of them."""
    counts = cast("SplitCounts", evaluation.counts)
    return {
        "queries": evaluation.num_query,
        "nothing_to_find": evaluation.num_skipped,
        "short_itemsets": counts.short_itemsets,
        "already_in_history": counts.known_items,
    }


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Round for JSON, which knows no nan."""
    return {
        name: (round(value, 6) if math.isfinite(value) else None) for name, value in values.items()
    }


# ---------------------------------------------------------------------- models


@contextmanager
def usage_errors() -> Iterator[None]:
    """Tell what the library refuses as a wrong usage."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error


def quiet_library() -> None:
    """Keep the library's log off the screen, as what it says stands in the reports.

    All but that code cannot be kept, which makes every command slow.
    """
    logging.getLogger("itembed_gpu").addHandler(logging.NullHandler())
    logging.getLogger("itembed_gpu.compiling").addHandler(_Warnings(logging.WARNING))


class _Warnings(logging.Handler):
    """Says what is logged as warnings are said."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"Warning: {record.getMessage()}", err=True)


def check_device(device: str | None, threads: int | None) -> str:
    """Return the name of the backend; one that is not to be had is told before a long read."""
    from ..backends.devices import select_backend

    with usage_errors():
        return select_backend(device, threads).name


def load_embeddings(folder: Path) -> Embeddings:
    """Load the embeddings of a model, or say what else a folder holds."""
    from ..disk import embeddings, itemsets
    from ..models.embeddings import Embeddings

    if not (folder / embeddings.KIND.index).exists():
        from ..training import checkpoints

        for kind, cure in (
            (itemsets.KIND, "itembed-gpu train makes one of them"),
            (checkpoints.KIND, "itembed-gpu train --checkpoint ... --resume makes one of it"),
        ):
            if (folder / kind.index).exists():
                raise DataError(f"{folder}: holds {kind.what}, and no model; {cure}")
    return Embeddings.load(folder, mmap=embeddings.is_sharded(folder))


def load_neighbours(folder: Path) -> Embeddings:
    """Load what tells which items are alike."""
    from ..disk.embeddings import is_sharded
    from ..models.item2vec import Item2Vec

    embeddings = load_embeddings(folder)
    if embeddings.metadata.get("estimator") != Item2Vec.__name__:
        return embeddings
    return Item2Vec.load(folder, device="cpu", mmap=is_sharded(folder)).neighbour_embeddings_


def load_model(folder: Path, device: str | None, threads: int | None) -> Item2Vec:
    """Load a model of `Item2Vec.save`, or make one of embeddings that hold all it takes."""
    from ..disk.embeddings import is_sharded
    from ..models.item2vec import Item2Vec

    check_device(device, threads)
    embeddings = load_embeddings(folder)
    if "estimator" in embeddings.metadata:
        mmap = is_sharded(folder)
        return Item2Vec.load(folder, device=device, workers=threads, mmap=mmap)
    for name in ("context", "counts"):
        if getattr(embeddings, name) is None:
            raise DataError(f"{folder}: holds no {name}; save with context vectors and counts")
    model = Item2Vec(embeddings.dimension, device=device, workers=threads)
    model.embeddings_ = embeddings
    return model


def find_labels(embeddings: Embeddings, words: tuple[str, ...]) -> tuple[list[Any], list[str]]:
    """The labels that are written like these words, of whatever type they are, and other words."""
    known = {word: word for word in words if word in embeddings}
    if len(known) < len(set(words)):
        written = {str(label): label for label in embeddings.labels}
        known = {word: written[word] for word in words if word in written} | known
    found = [known[word] for word in words if word in known]
    return found, [word for word in words if word not in known]


def unknown_labels(embeddings: Embeddings, words: list[str]) -> str:
    """Say that words are no labels, and which they may be a slip of."""
    told = []
    for word in words:
        close = ", ".join(map(repr, embeddings.close_labels(word)))
        told.append(f"{word!r}" + (f" (close to it: {close})" if close else ""))
    are = "is" if len(told) == 1 else "are"
    return f"{', '.join(told)} {are} not among the {len(embeddings):,} labels"


def neighbours(embeddings: Embeddings, labels: list[Any], number: int) -> list[dict[str, Any]]:
    near = embeddings.similar(labels, n=number)
    return [
        {
            "item": label,
            "similar": [{"item": other, "score": round(score, 4)} for other, score in found],
        }
        for label, found in zip(labels, near, strict=True)
    ]

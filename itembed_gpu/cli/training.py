"""What ``train`` does: checks what it is asked, then reads, trains, saves, measures, draws."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..errors import DataError, InputError, ItembedError, MissingExtraError
from .cluster import connected
from .evaluation import (
    BY_EPOCH,
    STOP_BY,
    check_device,
    held_out_report,
    hold_out,
    neighbours,
    usage_errors,
    warn_if_below,
)
from .options import (
    CUTOFFS,
    ITEM2VEC,
    MODELS,
    SHARE,
    machine_of,
    only_given,
    parameters,
    settings_of,
    with_chosen,
)

if TYPE_CHECKING:
    from ..data.itemsets import PackedItemsets
    from ..data.readers import ReadItemsets
    from ..models.estimator import Estimator
    from ..models.items import ItemModel

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

# Parts of the catalog for each worker, where nothing else is said.
PARTS_PER_WORKER = 2
_EXAMPLE_NEIGHBOURS = 4
_PICTURES = ("learning_curve.png", "map.png")
_READING = (
    "format", "itemset", "item", "weight", "separator", "header", "quote", "nulls", "encoding",
    "max_items", "max_length", "duplicates",
)  # fmt: skip


@dataclasses.dataclass
class Run:
    """What ``train`` is asked for, checked.

    `model` is one of `MODELS`, `tune` says for how many seconds to search first, `settings` how
    to train, `reading` how to read `file`, `machine` where to train, `checkpoints` how not to
    lose it, and `cluster` where workers are. Without a file, it is the example.
    """

    model: str
    file: Path | None
    output: Path | None
    plot: Path | None
    evaluate: bool
    tune: float | None
    settings: dict[str, Any]
    reading: dict[str, Any]
    machine: dict[str, Any]
    checkpoints: dict[str, Any]
    cluster: dict[str, Any]
    backend: str
    quiet: bool


def plan(file: Path | None, output: Path | None, quiet: bool, given: dict[str, Any]) -> Run:
    """Check what was asked: what would keep from saving is found before training, which is long.

    Raises a `UsageError`, a `DataError` or a `MissingExtraError` if it cannot be done.
    """
    model = given["model"]
    reading = {name: given[name] for name in _READING}
    _check_usage(file, output, given["example"], reading)
    watching = {name: given[name] for name in ("share", "every", "patience")}
    if not given["evaluate"] and any(value is not None for value in watching.values()):
        raise click.UsageError("--share, --every and --patience need --evaluate")
    if given["resume"] and given["checkpoint"] is None:
        raise click.UsageError("--resume needs --checkpoint DIR")
    if model != ITEM2VEC:
        for name in ("evaluate", "tune"):
            if given[name]:
                raise click.UsageError(f"--{name} needs --model {ITEM2VEC}")
    cluster = {name: given[name] for name in ("scheduler", "workers")}
    if given["cluster_folder"] is not None and not any(cluster.values()):
        raise click.UsageError("--cluster-folder needs --scheduler or --workers")
    if model != ITEM2VEC and any(value is not None for value in cluster.values()):
        raise click.UsageError(f"--scheduler and --workers need --model {ITEM2VEC}")
    if cluster["workers"] is not None and given["threads"] is None:
        given = {**given, "threads": 1}  # of each worker
    if output is not None:
        check_output(output)
    if given["plot"] is not None:
        _check_plot(given["plot"])
    with usage_errors():
        settings = settings_of(given, given["example"], model)
        class_of(model)(**parameters(settings))._check_parameters()
    machine = machine_of(given)
    backend = check_device(*machine.values())
    if given["evaluate"]:
        settings |= {
            "share": SHARE if watching["share"] is None else watching["share"],
            "every": watching["every"],
            "patience": watching["patience"],
        }
    kept = ("checkpoint", "checkpoint_every", "resume", "cluster_folder")
    checkpoints = {name: given[name] for name in kept}
    return Run(
        model, file, output, given["plot"], given["evaluate"], given["tune"], settings, reading,
        machine, checkpoints, cluster, backend, quiet,
    )  # fmt: skip


def class_of(model: str) -> Any:
    """Return the class of a model, by the value of --model."""
    trained = MODELS[model]
    module = importlib.import_module(f"..{trained.module}", __package__)
    return getattr(module, trained.name)


def carry_out(run: Run) -> tuple[ItemModel, dict[str, Any], str | None]:
    """Read, train, save, measure and draw; return a report, and a table of what was measured."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "reading"):
        packed = _read(run)
    if run.output is not None:
        from ..disk.labels import check_savable

        check_savable(packed.labels)  # before training, which is long
    if not run.quiet:
        click.echo(f"Read {packed.source}", err=True)
    model = class_of(run.model)(**parameters(run.settings | run.machine), progress=not run.quiet)
    part: PackedItemsets = packed
    held = None
    if run.evaluate:
        part, held = hold_out(model, packed, run.settings, not run.quiet)
    if run.tune is not None:
        with _timed(seconds, "tuning"):
            told = None if run.quiet else functools.partial(click.echo, err=True)
            model.tune(part, budget=run.tune, report=told)
    with connected(**run.cluster, threads=run.machine["threads"] or 1) as client:
        how = dict(run.checkpoints)
        folder = how.pop("cluster_folder")
        if client is not None:
            if model.get_params()["partitions"] == 1:
                run.settings["partitions"] = PARTS_PER_WORKER * len(client.nthreads())
                model.set_params(partitions=run.settings["partitions"])
            how |= {"client": client, "cluster_folder": folder}
        with _timed(seconds, "training"):
            # Rare items are left out by now, counted in the whole of FILE.
            model.set_params(min_count=1).fit(part, **how)
    trials = model.trials_ if run.tune is not None else ()
    tuned = {name: getattr(model, name) for trial in trials for name in trial["params"]}
    run.settings = with_chosen(run.settings, {**tuned, **model.chosen_}) | {"seed": model.seed_}
    model.set_params(min_count=run.settings["min_count"], seed=model.seed_)
    if run.output is not None:
        with _timed(seconds, "saving"):
            about = {"source": packed.source, "version": __version__}
            save_model(model, run.output, run.settings | about, run.checkpoints["checkpoint"])
    report = _report(packed, part, model)
    report |= {"settings": run.settings, "chosen": dict(model.chosen_), "device": run.backend}
    if run.tune is not None:
        report["trials"] = trials
    table = None
    if held is not None:
        with _timed(seconds, "evaluating"):
            evaluation = model._measure(held.split, CUTOFFS)
            popularity = model._measure_popularity(held.split, BY_EPOCH)
        report["evaluation"] = held_out_report(model, held, evaluation, popularity)
        warn_if_below(STOP_BY, evaluation[STOP_BY], popularity[STOP_BY], "popularity")
        table = str(evaluation)
    if run.plot is not None:
        with _timed(seconds, "drawing"):
            report["plots"] = _draw(model, run.plot)
    report |= {
        "seconds": {step: round(duration, 3) for step, duration in seconds.items()},
        "output": None if run.output is None else str(run.output),
    }
    if run.file is None:
        from ..data.example import EXAMPLE_ITEMS

        known = [label for label in EXAMPLE_ITEMS if label in model.embeddings_]
        report["similar"] = neighbours(model.neighbour_embeddings_, known, _EXAMPLE_NEIGHBOURS)
    return model, report, table


def _check_usage(
    file: Path | None, output: Path | None, example: bool, reading: dict[str, Any]
) -> None:
    if example:
        if file is not None or any(value is not None for value in reading.values()):
            raise click.UsageError("--example has its own data: give no FILE, and no option of one")
    elif file is None:
        raise click.UsageError("give a FILE to train on, or --example")
    elif output is None:
        raise click.UsageError("give -o DIR, the folder to save the embeddings in")


def check_output(folder: Path) -> None:
    """Find out, before a training that may be long, what would keep a model from being saved."""
    from ..disk.embeddings import KIND

    KIND.next_generation(folder)
    _check_folder(folder)


def _check_folder(folder: Path) -> None:
    """Find out what would keep from writing to a folder, which need not be there yet."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise DataError(f"{folder}: cannot be a folder, as {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: cannot be saved to, as {existing} is not writable")


def _check_plot(folder: Path) -> None:
    for module, library in (
        ("matplotlib.figure", "matplotlib"),
        ("sklearn.manifold", "scikit-learn"),
    ):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingExtraError(
                f'--plot needs {library}: pip install "itembed_gpu[plot]"'
            ) from error
    _check_folder(folder)
    for name in _PICTURES:
        if (folder / name).is_dir():
            raise DataError(f"{folder / name}: is a folder, where a picture is to be")


def _read(run: Run) -> ReadItemsets:
    limits = {name: run.settings[name] for name in ("min_count", "min_length")}
    if run.file is None:
        from ..data.example import read_example

        return read_example(**limits)
    from ..data.readers import read_itemsets

    seed = run.settings["seed"] or 0  # of what --max-length draws
    return read_itemsets(run.file, **only_given(run.reading), **limits, seed=seed)


def _report(packed: ReadItemsets, part: PackedItemsets, model: Any) -> dict[str, Any]:
    """What was read, what of it was dropped, and what was learnt from the rest."""
    history = model.history_
    return {
        "source": packed.source,
        "read": packed.account,
        "dropped": {
            **dataclasses.asdict(packed.dropped),
            "rows_without_itemset": packed.rows_without_itemset,
            "labels_without_itemset": packed.num_label - len(model.labels_),
        },
        "items": len(model.labels_),
        "itemsets": part.num_itemset,
        "pairs": history.num_pair,
        "pairs_left_out": sum(record.num_dropped for record in history.epochs),
        "epochs": len(history.epochs),
        "loss": history.loss if math.isfinite(history.loss) else None,
        "interrupted": history.interrupted,
    }


def end_of_interrupted(model: Any, output: Path | None) -> None:
    """Say of a training that was interrupted what is left of it, and end with the code for that."""
    if model.history_.interrupted:
        saved = "nothing was saved" if output is None else f"saved to {output} as far as it got"
        click.echo(f"Interrupted: {saved}.", err=True)
        click.get_current_context().exit(INTERRUPTED)


def save_model(
    model: Estimator, folder: Path, metadata: dict[str, Any], checkpoint: Path | None = None
) -> None:
    """Save; where that fails, save what was learned elsewhere, and raise an error that says where.

    A folder that was there is left as it was, and else there is none.
    """
    try:
        model.save(folder, metadata=metadata)
    except (OSError, MemoryError, ItembedError) as error:
        kept = _save_elsewhere(model, folder, metadata)
        if kept is not None:
            where = f"what was learned is in {kept}: move it to a place of yours"
        elif checkpoint is not None and checkpoint.exists():
            where = f"nothing was saved, but what {checkpoint} holds: go on with --resume"
        else:
            where = "nothing was saved"
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        raise DataError(f"{folder}: cannot be saved to: {reason}; {where}") from error


def _save_elsewhere(model: Estimator, folder: Path, metadata: dict[str, Any]) -> Path | None:
    """Save to a new folder beside another, or where temporary files go; return which, if any."""
    for parent in (folder.absolute().parent, Path.cwd(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, MemoryError, ItembedError):
            kept = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=parent))
            try:
                model.save(kept, metadata=metadata)
            except BaseException:
                kept.rmdir()
                raise
            return kept
    return None


def _draw(model: Any, folder: Path) -> list[str]:
    """Draw what there is to draw, and return the names of the files."""
    from ..models.plots import plot_history, plot_map

    drawn = []
    for name, draw in zip(_PICTURES, (plot_history, plot_map), strict=True):
        what: Any = model.history_ if draw is plot_history else model.neighbour_embeddings_
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draw(what, folder / name)  # type: ignore[operator]
        except (InputError, OSError) as error:
            # As with two items, or a full disk: what was learnt is to be reported all the same.
            click.echo(f"Not drawn: {name}: {error}", err=True)
        else:
            drawn.append(str(folder / name))
    return drawn


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seconds[step] = perf_counter() - start

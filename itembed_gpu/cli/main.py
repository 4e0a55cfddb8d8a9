"""The command line: ``itembed-gpu pack``, ``train``, ``evaluate``, ``recommend`` and more.

Results go to the standard output, progress and errors to the standard error.
The exit code is 0 if all went well, 1 for an error of data or input (one line
``Error: ...``), 2 for a wrong usage, and 130 if it was interrupted.

Whatever takes long to import is imported by the command that needs it, so that
``--help`` is quick.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import math
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import DataError, InputError, ItembedError, MissingExtraError, UnknownLabelError
from .evaluation import (
    HIDING_SEED,
    STOP_BY,
    Asked,
    given_queries,
    held_out_report,
    hold_out,
    measure,
    numbers,
    queries,
)

try:
    import click
except ImportError:
    # An exception would be a traceback to the user: this runs before `main` does.
    sys.exit('Error: the command line needs click: pip install "itembed_gpu[cli]"')

from .data import checkpoint_options, pack, reading_options, verify

if TYPE_CHECKING:
    from ..data.itemsets import PackedItemsets
    from ..data.readers import ReadItemsets
    from ..metrics import Evaluation
    from ..models.embeddings import Embeddings
    from ..models.item2vec import Item2Vec

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

# The names of other modules, which need not be imported for --help.
_SHARING = ("1", "2", "4", "8", "16", "32")
_LOSSES = ("negative-sampling", "nce")
_OPTIMIZERS = ("sgd", "adagrad")
_POOLINGS = ("pairs", "mean")
_SIMILARITIES = ("dot", "cosine")
_PROTOCOLS = ("leave-one-out", "leave-last-out", "given")

# How to train where no option says otherwise: the one place to change that, help included.
_DEFAULTS: dict[str, Any] = {
    "dim": 64,
    "epochs": 10,
    "negative": 5,
    "negative_sharing": 1,
    "window_size": None,
    "learning_rate": 0.025,
    "min_count": 1,
    "min_length": 2,
    "noise_exponent": 0.0,
    "subsample": 0.0,
    "loss": "negative-sampling",
    "reject_positive": False,
    "reject_itemset": False,
    "l2": 0.0,
    "optimizer": "sgd",
    "pooling": "pairs",
}
# The example is small: it takes more epochs to learn from, and still only seconds.
_EXAMPLE_DEFAULTS: dict[str, Any] = {"epochs": 50, "learning_rate": 0.05, "min_count": 5}
# `Item2Vec` calls these as gensim does; the other settings it calls as they are called here.
_PARAMETERS = {
    "dim": "vector_size",
    "learning_rate": "alpha",
    "noise_exponent": "ns_exponent",
    "subsample": "sample",
}
_OBJECTIVE = (
    "noise_exponent",
    "subsample",
    "loss",
    "reject_positive",
    "reject_itemset",
    "l2",
    "optimizer",
    "pooling",
)
_EXAMPLE_NEIGHBOURS = 4

_SHARE = 0.2
_CUTOFFS = (10, 20)
_PICTURES = ("learning_curve.png", "map.png")

_Command = Callable[..., Any]


class _Group(click.Group):
    """Commands whose expected errors are one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click knows what to do when `head` has seen enough
        except (ItembedError, OSError, MemoryError) as error:
            reason = " ".join(str(error).split()) or "out of memory"
            raise click.ClickException(reason) from error
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was saved.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="itembed-gpu")
def main() -> None:
    """Learn item embeddings from itemsets, such as the baskets of a shop.

    \b
    Try it on the data that come with it:
      itembed-gpu train --example

    \b
    Train on your own data, and look at the neighbours of an item:
      itembed-gpu train sales.csv --itemset invoice --item product -o model
      itembed-gpu similar model "green tea"

    \b
    Ask what goes with a basket, and measure how good such answers are:
      itembed-gpu recommend model "green tea" "cake stand"
      itembed-gpu evaluate model later-sales.csv --itemset invoice --item product
    """


main.add_command(pack)
main.add_command(verify)


def _default(name: str) -> str:
    """Say in brackets what is taken where an option is not given."""
    text = _shown(_DEFAULTS[name])
    if name in _EXAMPLE_DEFAULTS:
        text += f"; example {_shown(_EXAMPLE_DEFAULTS[name])}"
    return f"[{text}]"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _machine_options(command: _Command) -> _Command:
    """Add the options that say where to compute."""
    for option in (
        click.option("--device", metavar="NAME", help="cpu, cuda, cuda:N or auto [cpu]."),
        click.option(
            "--threads", type=click.IntRange(min=1), help="Threads of the CPU [one a core]."
        ),
    ):
        command = option(command)
    return command


def _training_options(command: _Command) -> _Command:
    """Add the options that say how to train."""
    positive = click.IntRange(min=1)
    rate = click.FloatRange(min=0, min_open=True)
    for option in (
        click.option(
            "--seed",
            type=click.IntRange(0, 2**64 - 1),
            help="Seed of all that is random [drawn, and told]; with --threads 1, a run "
            "repeats exactly.",
        ),
        click.option(
            "--min-length",
            type=click.IntRange(min=2),
            help=f"Drop itemsets of fewer items, as pairs take two {_default('min_length')}.",
        ),
        click.option(
            "--min-count",
            type=positive,
            help=f"Drop items that occur less often {_default('min_count')}.",
        ),
        click.option(
            "--learning-rate",
            type=rate,
            help=f"Of the start; it falls to 0 {_default('learning_rate')}.",
        ),
        click.option(
            "--negative-sharing",
            type=click.Choice(_SHARING),
            help="Pairs that share a set of negatives: faster with more "
            f"{_default('negative_sharing')}.",
        ),
        click.option(
            "--window-size",
            type=positive,
            metavar="ITEMS",
            help="Train in windows of so many occurrences: for packed itemsets that are larger "
            f"than memory, or than the card {_default('window_size')}.",
        ),
        click.option(
            "--negative",
            type=positive,
            help=f"Negative samples for each pair {_default('negative')}.",
        ),
        click.option("--epochs", type=positive, help=f"Passes over the data {_default('epochs')}."),
        click.option("--dim", type=positive, help=f"Length of an embedding {_default('dim')}."),
    ):
        command = option(command)
    return command


def _objective_options(command: _Command) -> _Command:
    """Add the options of what is learnt, named as those of `UnsupervisedTask`."""
    at_least_0 = click.FloatRange(min=0)
    for option in (
        click.option(
            "--pooling",
            type=click.Choice(_POOLINGS),
            help="pairs trains each item with a random other one of its itemset, mean with the "
            f"mean of all the others {_default('pooling')}.",
        ),
        click.option(
            "--optimizer",
            type=click.Choice(_OPTIMIZERS),
            help="adagrad has a learning rate for each item, which falls the more it is trained "
            f"{_default('optimizer')}.",
        ),
        click.option(
            "--l2", type=at_least_0, help=f"Strength that pulls vectors to 0 {_default('l2')}."
        ),
        click.option(
            "--reject-itemset/--no-reject-itemset",
            default=None,
            help="Draw a negative again that is any item of the pair's itemset "
            f"{_default('reject_itemset')}.",
        ),
        click.option(
            "--reject-positive/--no-reject-positive",
            default=None,
            help="Draw a negative again that is the pair's own item "
            f"{_default('reject_positive')}.",
        ),
        click.option(
            "--loss",
            type=click.Choice(_LOSSES),
            help=f"nce corrects scores for how likely negatives are {_default('loss')}.",
        ),
        click.option(
            "--subsample",
            type=at_least_0,
            metavar="SHARE",
            help="Leave out occurrences of items that make up more than this share of all, such "
            f"as 0.001; 0 keeps all {_default('subsample')}.",
        ),
        click.option(
            "--noise-exponent",
            type=float,
            help="Negatives are drawn by counts to this power: 0 all alike, 0.75 as word2vec "
            f"does, 1 as often as they occur {_default('noise_exponent')}.",
        ),
    ):
        command = option(command)
    return command


def _watching_options(command: _Command) -> _Command:
    """Add the options that measure and draw how training goes."""
    for option in (
        click.option(
            "--plot",
            metavar="DIR",
            type=click.Path(readable=False, path_type=Path),
            help="Folder for learning_curve.png and map.png, a map of the items [none].",
        ),
        click.option(
            "--patience",
            type=click.IntRange(min=1),
            metavar="N",
            help="Stop after N measurements without a better NDCG@10, and keep the best epoch; "
            "with --evaluate [never].",
        ),
        click.option(
            "--every",
            type=click.IntRange(min=1),
            metavar="N",
            help="Measure after every N-th epoch; with --evaluate [a tenth of the epochs].",
        ),
        click.option(
            "--share",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help=f"Share of the itemsets to hold out; with --evaluate [{_SHARE}].",
        ),
        click.option(
            "--evaluate",
            is_flag=True,
            help="Hold out the last itemsets of FILE, and measure how often an item of each that "
            "is hidden is found again. They are not trained on.",
        ),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("file", required=False, type=click.Path(readable=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(readable=False, path_type=Path),
    help="Folder to save in; with --example, only if you like.",
)
@click.option("--example", is_flag=True, help="Train on the data that come with this package.")
@reading_options
@click.option("--weight", metavar="COLUMN", help="Column of weights [none].")
@_training_options
@_objective_options
@_watching_options
@checkpoint_options
@_machine_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def train(
    file: Path | None,
    output: Path | None,
    example: bool,
    evaluate: bool,
    share: float | None,
    every: int | None,
    patience: int | None,
    plot: Path | None,
    checkpoint: Path | None,
    checkpoint_every: int,
    resume: bool,
    seed: int | None,
    threads: int | None,
    device: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn embeddings of the items of FILE, and save them in DIR.

    FILE is text with one itemset a line; a long table (CSV, Parquet, NDJSON, Arrow) with
    one row for each item of an itemset; a folder or a pattern of such files; or a folder
    that `itembed-gpu pack` wrote. [Defaults] are in brackets.

    \b
    Examples:
      itembed-gpu train --example
      itembed-gpu train --example --evaluate --plot pictures
      itembed-gpu train baskets.txt -o model
      itembed-gpu train sales.csv --itemset invoice --item product -o model
      itembed-gpu train sales.itemsets -o model --checkpoint night --resume

    Ctrl-C stops early, and saves what has been learnt until then. With --checkpoint, so does
    the signal that a batch system sends (SIGTERM), and --resume goes on from there.
    """
    settings = _settings(options, example)
    reading = {name: value for name, value in options.items() if name not in settings}
    _check_usage(file, output, example, reading)
    if not evaluate and (share, every, patience) != (None, None, None):
        raise click.UsageError("--share, --every and --patience need --evaluate")
    # What would keep from saving and drawing is found before training, which may take long.
    if output is not None:
        _check_output(output)
    if plot is not None:
        _check_plot(plot)
    # The library logs an interruption; here the last line says it, and what was saved.
    _quiet_library()
    _check_objective(settings)
    backend = _check_device(device, threads)
    from ..objective.options import resolve_seed

    if resume and checkpoint is None:
        raise click.UsageError("--resume needs --checkpoint DIR")
    if resume and seed is None:
        from ..training.checkpoints import stored_seed

        seed = stored_seed(checkpoint)
    settings["seed"] = resolve_seed(seed)
    seconds: dict[str, float] = {}
    with _timed(seconds, "reading"):
        packed = _read(file, settings, reading)
    if not quiet:
        click.echo(f"Read {packed.source}", err=True)
    model = _new_model(settings, device, threads, not quiet)
    part: PackedItemsets = packed
    held = None
    if evaluate:
        settings["share"] = _SHARE if share is None else share
        settings["every"] = every or max(1, settings["epochs"] // 10)
        settings["patience"] = patience
        part, held = hold_out(model, packed, settings, not quiet)
    with _timed(seconds, "training"):
        # Rare items are left out by now, counted in the whole of FILE.
        model.set_params(min_count=1).fit(
            part, checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume
        ).set_params(min_count=settings["min_count"])
    if output is not None:
        with _timed(seconds, "saving"):
            _save(model, output, {**settings, "source": packed.source, "version": __version__})

    report = _report(packed, part, model)
    report |= {"settings": settings, "device": backend}
    table = None
    if held is not None:
        with _timed(seconds, "evaluating"):
            evaluation = measure(model, held.split, _CUTOFFS)
        report["evaluation"] = held_out_report(model, held, evaluation)
        table = str(evaluation)
    if plot is not None:
        with _timed(seconds, "drawing"):
            report["plots"] = _draw(model, plot)
    report |= {
        "seconds": {step: round(duration, 3) for step, duration in seconds.items()},
        "output": None if output is None else str(output),
    }
    if example:
        from ..data.example import EXAMPLE_ITEMS

        known = [label for label in EXAMPLE_ITEMS if label in model.embeddings_]
        report["similar"] = _similar(model.embeddings_, known, _EXAMPLE_NEIGHBOURS)
    click.echo(_as_json(report) if as_json else _as_text(report, table))
    if model.history_.interrupted:
        saved = "nothing was saved" if output is None else f"saved to {output} as far as it got"
        click.echo(f"Interrupted: {saved}.", err=True)
        click.get_current_context().exit(INTERRUPTED)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(readable=False, path_type=Path))
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@reading_options
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=HIDING_SEED,
    help=f"Of the items that leave-one-out hides [{HIDING_SEED}].",
)
@click.option(
    "--popularity",
    type=float,
    help="Add so many times the logarithm of an item's count to its score [the model's: 0].",
)
@click.option(
    "--history-exponent",
    type=float,
    help="Weight items of a history by their counts to the power of minus this [the model's: 0.5].",
)
@click.option(
    "--score",
    type=click.Choice(_SIMILARITIES),
    help="How items are compared with a history [the model's: dot].",
)
@click.option(
    "-k",
    "cutoffs",
    type=click.IntRange(min=1),
    multiple=True,
    default=_CUTOFFS,
    help="Look at the first k items; may be given again [10 and 20].",
)
@click.option(
    "--truth",
    metavar="FILE2",
    type=click.Path(readable=False, path_type=Path),
    help="With --protocol given: the items to find, in itemsets of the same ids (tables), or on "
    "the same lines (text).",
)
@click.option(
    "--protocol",
    type=click.Choice(_PROTOCOLS),
    default=_PROTOCOLS[0],
    help="What is hidden of each itemset: any one of its items, its last one, or what --truth "
    "says [leave-one-out].",
)
@_machine_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    folder: Path,
    file: Path,
    protocol: str,
    truth: Path | None,
    cutoffs: tuple[int, ...],
    score: str | None,
    history_exponent: float | None,
    popularity: float | None,
    seed: int,
    device: str | None,
    threads: int | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Measure how well a model finds hidden items of the itemsets of FILE.

    DIR is a folder that `itembed-gpu train` saved. FILE is read as by that
    command, and should hold itemsets that DIR was not trained on. Of each, some
    items are hidden; all other items of the model are ranked, and the metrics
    tell how near the top the hidden ones are.

    \b
    Examples:
      itembed-gpu evaluate model later.txt
      itembed-gpu evaluate model later.csv --itemset invoice --item product -k 5
      itembed-gpu evaluate model seen.txt --protocol given --truth bought.txt
    """
    if (protocol == "given") != (truth is not None):
        raise click.UsageError("--protocol given and --truth FILE2 go together: give both")
    _quiet_library()
    model = _load_model(folder, device, threads)
    given = {
        "similarity": score,
        "history_exponent": history_exponent,
        "popularity": popularity,
    }
    model.set_params(**{name: value for name, value in given.items() if value is not None})
    if truth is None:
        asked = queries(model, file, reading, protocol, seed)
    else:
        asked = given_queries(model, file, truth, reading)
    evaluation = measure(model, asked.split, cutoffs)
    report = {
        "model": str(folder),
        "items": len(model.labels_),
        "protocol": protocol,
        "seed": seed if protocol == "leave-one-out" else None,
        **{name: getattr(model, name) for name in given},
        "history_exponent": model.history_exponent_,
        "files": {source: unknown._asdict() for source, unknown in asked.unknown.items()},
        **asked.account,
        "metrics": numbers(evaluation.as_dict()),
    }
    click.echo(_as_json(report) if as_json else _evaluation_as_text(report, asked, evaluation))


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(readable=False, path_type=Path))
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@click.option("-n", "number", type=click.IntRange(min=1), default=10, help="How many [10].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def similar(folder: Path, items: tuple[str, ...], number: int, as_json: bool) -> None:
    """Print the nearest neighbours of each ITEM, by cosine.

    DIR is a folder that `itembed-gpu train` saved.

    \b
    Examples:
      itembed-gpu similar model "green tea"
      itembed-gpu similar model 4711 4712 -n 3 --json
    """
    from ..models.embeddings import Embeddings

    embeddings = Embeddings.load(folder)
    found = _similar(embeddings, _labels(embeddings, items), number)
    click.echo(_as_json(found) if as_json else _neighbours_as_text(found))


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(readable=False, path_type=Path))
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@click.option("-n", "number", type=click.IntRange(min=1), default=10, help="How many [10].")
@click.option(
    "--exclude", metavar="ITEM", multiple=True, help="Never this item; may be given again [none]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recommend(
    folder: Path, items: tuple[str, ...], number: int, exclude: tuple[str, ...], as_json: bool
) -> None:
    """Print the items that go best with a basket of all the ITEMs together.

    DIR is a folder that `itembed-gpu train` saved. Before each item stands its
    score: only the order of scores means something, not their size.

    \b
    Examples:
      itembed-gpu recommend model "green tea" "cake stand"
      itembed-gpu recommend model 4711 4712 --exclude 4713 -n 3 --json
    """
    model = _load_model(folder, None, None)
    basket, barred = (_labels(model.embeddings_, words) for words in (items, exclude))
    for label in [*basket, *barred]:
        model.embeddings_.index(label)  # a slip of the pen is to be told, not left out
    labels, scores = model.recommend([basket], number, filter_items=barred)
    found = [
        {"item": label, "score": round(float(score), 4)}
        for label, score in zip(labels[0], scores[0], strict=True)
        if label is not None
    ]
    if as_json:
        click.echo(_as_json({"basket": basket, "recommended": found}))
    else:
        click.echo("\n".join(f"{entry['score']:.4f}\t{entry['item']}" for entry in found))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Print versions, and the backends that can train here, or why not.

    \b
    Example:
      itembed-gpu info
    """
    from ..backends.devices import available_backends

    versions = {name: metadata.version(name) for name in ("numpy", "numba")}
    report = {
        "itembed_gpu": __version__,
        "python": platform.python_version(),
        **versions,
        "backends": [dataclasses.asdict(backend) for backend in available_backends()],
    }
    if as_json:
        click.echo(_as_json(report))
        return
    for name in ("itembed_gpu", "python", *versions):
        click.echo(f"{name:12} {report[name]}")
    for backend in available_backends():
        state = "found" if backend.available else "missing"
        click.echo(f"{backend.name:12} {state}: {backend.detail}")


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


def _check_output(folder: Path) -> None:
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


def _check_device(device: str | None, threads: int | None) -> str:
    """Return the name of the backend; one that is not to be had is told before a long read."""
    from ..backends.devices import select_backend

    with _usage_errors():
        return select_backend(device, threads).name


def _check_objective(settings: dict[str, Any]) -> None:
    from ..objective.options import Options

    with _usage_errors():
        Options(**{name: settings[name] for name in _OBJECTIVE})


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error


def _settings(options: dict[str, Any], example: bool) -> dict[str, Any]:
    """Return how to train: what was asked for, and the defaults of the rest."""
    settings = _DEFAULTS | (_EXAMPLE_DEFAULTS if example else {})
    settings |= {name: options[name] for name in settings if options[name] is not None}
    return settings | {"negative_sharing": int(settings["negative_sharing"])}


def _quiet_library() -> None:
    """Keep the library's log off the screen: what it says stands in the reports."""
    logging.getLogger("itembed_gpu").addHandler(logging.NullHandler())


def _read(file: Path | None, settings: dict[str, Any], reading: dict[str, Any]) -> ReadItemsets:
    limits = {name: settings[name] for name in ("min_count", "min_length")}
    if file is None:
        from ..data.example import read_example

        return read_example(**limits)
    from ..data.readers import read_itemsets

    return read_itemsets(file, **reading, **limits)


def _new_model(
    settings: dict[str, Any], device: str | None, threads: int | None, progress: bool
) -> Item2Vec:
    from ..models.item2vec import Item2Vec

    names = [*_DEFAULTS, "seed"]
    names.remove("min_length")  # the reader has seen to it
    params = {_PARAMETERS.get(name, name): settings[name] for name in names}
    return Item2Vec(**params, device=device, workers=threads, progress=progress)


def _report(packed: ReadItemsets, part: PackedItemsets, model: Item2Vec) -> dict[str, Any]:
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


def _save(model: Item2Vec, folder: Path, metadata: dict[str, Any]) -> None:
    """Save; if that fails, leave a folder that was there as it was, and else none."""
    is_new = not folder.exists()
    try:
        model.save(folder, metadata=metadata)
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _draw(model: Item2Vec, folder: Path) -> list[str]:
    """Draw what there is to draw, and return the names of the files."""
    from ..models.plots import plot_history, plot_map

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in zip(_PICTURES, (plot_history, plot_map), strict=True):
        what: Any = model.history_ if draw is plot_history else model.embeddings_
        try:
            draw(what, folder / name)  # type: ignore[operator]
        except InputError as error:
            # As with two items, or no epoch: what was learnt is to be reported all the same.
            click.echo(f"Not drawn: {name}: {error}", err=True)
        else:
            drawn.append(str(folder / name))
    return drawn


def _load_model(folder: Path, device: str | None, threads: int | None) -> Item2Vec:
    """Load a model of `Item2Vec.save`, or make one of embeddings that hold all it takes."""
    from ..models.embeddings import Embeddings
    from ..models.item2vec import Item2Vec

    _check_device(device, threads)
    embeddings = Embeddings.load(folder)
    if "estimator" in embeddings.metadata:
        return Item2Vec.load(folder, device=device, workers=threads)
    for name in ("context", "counts"):
        if getattr(embeddings, name) is None:
            raise DataError(f"{folder}: holds no {name}; save with context vectors and counts")
    model = Item2Vec(embeddings.dimension, device=device, workers=threads)
    model.embeddings_ = embeddings
    return model


# ---------------------------------------------------------------------- labels


def _labels(embeddings: Embeddings, words: tuple[str, ...]) -> list[Any]:
    """The labels that are written like these words, of whatever type they are."""
    if all(word in embeddings for word in words):
        return list(words)
    written = {str(label): label for label in embeddings.labels}
    labels = [word if word in embeddings else written.get(word, word) for word in words]
    for label in labels:
        if label not in embeddings and not isinstance(embeddings.labels[0], str):
            # Close matches are found among strings only.
            raise UnknownLabelError(f"{label} is not among the {len(embeddings):,} labels")
    return labels


def _similar(embeddings: Embeddings, labels: list[Any], number: int) -> list[dict[str, Any]]:
    neighbours = embeddings.similar(labels, n=number)
    return [
        {
            "item": label,
            "similar": [{"item": other, "score": round(score, 4)} for other, score in found],
        }
        for label, found in zip(labels, neighbours, strict=True)
    ]


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seconds[step] = perf_counter() - start


def _as_json(report: Any) -> str:
    # Labels may also be dates or UUIDs, which are written like str() does.
    return json.dumps(report, indent=2, ensure_ascii=False, default=str)


def _as_text(report: dict[str, Any], table: str | None) -> str:
    loss = "unknown" if report["loss"] is None else f"{report['loss']:.4f}"
    counts = [f"{name} {report[name]:,}" for name in ("items", "itemsets", "pairs", "epochs")]
    seconds = [f"{step} {duration:.2f}" for step, duration in report["seconds"].items()]
    lines = [f"from      {report['source']}", f"read      {report['read']}"]
    if unused := report["dropped"]["labels_without_itemset"]:
        lines.append(f"left out  {unused:,} item(s), as none of their itemsets is trained on")
    lines.append(f"trained   {', '.join(counts)}, loss {loss}")
    if left_out := report["pairs_left_out"]:
        lines.append(f"          {left_out:,} more pairs were left out by subsampling")
    lines += [
        f"on        {report['device']}, with seed {report['settings']['seed']}",
        f"seconds   {', '.join(seconds)}",
    ]
    if report["output"] is not None:
        lines.append(f"saved to  {report['output']}")
    lines += [f"drawn     {path}" for path in report.get("plots", ())]
    if table is not None:
        lines += ["", *_held_out_as_text(report), "", table]
    if "similar" in report:
        lines = [_neighbours_as_text(report["similar"], headed=True), "", *lines]
    return "\n".join(lines)


def _held_out_as_text(report: dict[str, Any]) -> list[str]:
    found = report["evaluation"]
    lines = [
        f"held out  {found['held_out_itemsets']:,} itemsets, the last ones, which were not trained "
        "on; without --evaluate, they are",
        f"asked     {found['queries']:,} of them for one item that was hidden, among all items",
    ]
    if short := found["short_itemsets"]:
        lines.append(f"left out  {short:,} of them, with less than two different known items")
    if unknown := found["unknown_items"]:
        lines.append(f"unknown   {unknown:,} of their item(s), as they were never trained on")
    if best := found["best_epoch"]:
        stopped = f", stopped after {report['epochs']}" if found["stopped"] else ""
        lines.append(f"kept      epoch {best}, the best by {STOP_BY}{stopped}")
    return lines


def _evaluation_as_text(report: dict[str, Any], asked: Asked, evaluation: Evaluation) -> str:
    lines = [f"model     {report['model']}: {report['items']:,} items"]
    for source, unknown in asked.unknown.items():
        lines += [f"from      {source}", f"unknown   {unknown}"]
    reasons = {
        "short_itemsets": "itemsets with less than two different items that are known",
        "already_in_history": "items to find that are in the history already",
        "unmatched_itemsets": "itemsets to find that have no history",
    }
    for name, reason in reasons.items():
        if number := report.get(name):
            lines.append(f"left out  {number:,} {reason}")
    seed = "" if report["seed"] is None else f", seed {report['seed']}"
    lines += [
        f"asked     {report['protocol']}{seed}",
        f"scores    {report['similarity']}, history exponent {report['history_exponent']:g}, "
        f"popularity {report['popularity']}",
    ]
    return "\n".join([*lines, "", str(evaluation)])


def _neighbours_as_text(found: list[dict[str, Any]], headed: bool = False) -> str:
    """One line a neighbour, under the item where there are many items."""
    headed = headed or len(found) > 1
    blocks = []
    for entry in found:
        lines = [f"{other['score']:.4f}\t{other['item']}" for other in entry["similar"]]
        blocks.append("\n".join([str(entry["item"]), *lines] if headed else lines))
    return ("\n\n" if headed else "").join(blocks)


if __name__ == "__main__":
    main()

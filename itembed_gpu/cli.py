"""The command line: ``itembed-gpu train``, ``similar`` and ``info``.

Results go to the standard output, progress and errors to the standard error.
The exit code is 0 if all went well, 1 for an error of data or input (one line
``Error: ...``), 2 for a wrong usage, and 130 if it was interrupted.

Whatever takes long to import is imported by the command that needs it, so that
``--help`` is quick.
"""

from __future__ import annotations

import dataclasses
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

from . import __version__
from .errors import DataError, InputError, ItembedError, UnknownLabelError

try:
    import click
except ImportError:
    # An exception would be a traceback to the user: this runs before `main` does.
    sys.exit('Error: the command line needs click: pip install "itembed_gpu[cli]"')

if TYPE_CHECKING:
    from .embeddings import Embeddings
    from .readers import ReadItemsets
    from .training import History

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

# Those of tasks.NEGATIVE_SHARING, which need not be imported for --help.
_SHARING = ("1", "2", "4", "8", "16", "32")
_FORMATS = ("text", "csv", "tsv", "parquet")
_DEFAULTS: dict[str, Any] = {"epochs": 10, "learning_rate": 0.025, "min_count": 1}
# The example is small: it takes more epochs to learn from, and still only seconds.
_EXAMPLE_DEFAULTS: dict[str, Any] = {"epochs": 50, "learning_rate": 0.05, "min_count": 5}
_EXAMPLE_NEIGHBOURS = 4

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
    """


def _reading_options(command: _Command) -> _Command:
    """Add the options that are the arguments of `read_itemsets`."""
    for option in (
        click.option("--separator", help="Between items [whitespace], or between fields [comma]."),
        click.option("--weight", metavar="COLUMN", help="Column of weights [none]."),
        click.option("--item", metavar="COLUMN", help="Column that says which item [the next]."),
        click.option(
            "--itemset", metavar="COLUMN", help="Column that says which itemset [the first]."
        ),
        click.option(
            "--format", type=click.Choice(_FORMATS), help="Format of FILE [as its suffix says]."
        ),
    ):
        command = option(command)
    return command


def _training_options(command: _Command) -> _Command:
    """Add the options that say how to train."""
    positive = click.IntRange(min=1)
    rate = click.FloatRange(min=0, min_open=True)
    for option in (
        click.option("--device", metavar="NAME", help="cpu, cuda, cuda:N or auto [cpu]."),
        click.option("--threads", type=positive, help="Threads of the CPU [one a core]."),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**64 - 1),
            help="Seed of all that is random [drawn, and told]; with --threads 1, a run "
            "repeats exactly.",
        ),
        click.option(
            "--min-length",
            type=click.IntRange(min=2),
            default=2,
            help="Drop itemsets of fewer items [2, as pairs take two].",
        ),
        click.option(
            "--min-count", type=positive, help="Drop items that occur less often [1; example 5]."
        ),
        click.option(
            "--learning-rate", type=rate, help="Of the start; it falls to 0 [0.025; example 0.05]."
        ),
        click.option(
            "--negative-sharing",
            type=click.Choice(_SHARING),
            default="1",
            help="Pairs that share a set of negatives: faster with more [1].",
        ),
        click.option(
            "--negative", type=positive, default=5, help="Negative samples for each pair [5]."
        ),
        click.option("--epochs", type=positive, help="Passes over the data [10; example 50]."),
        click.option("--dim", type=positive, default=64, help="Length of an embedding [64]."),
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
@_reading_options
@_training_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def train(
    file: Path | None,
    output: Path | None,
    example: bool,
    dim: int,
    epochs: int | None,
    negative: int,
    negative_sharing: str,
    learning_rate: float | None,
    min_count: int | None,
    min_length: int,
    seed: int | None,
    threads: int | None,
    device: str | None,
    as_json: bool,
    quiet: bool,
    **reading: Any,
) -> None:
    """Learn embeddings of the items of FILE, and save them in DIR.

    FILE is text with one itemset a line, or a long table (CSV, Parquet) with one
    row for each item of an itemset. [Defaults] are in brackets.

    \b
    Examples:
      itembed-gpu train --example
      itembed-gpu train baskets.txt -o model
      itembed-gpu train sales.csv --itemset invoice --item product -o model

    Ctrl-C stops early, and saves what has been learnt until then.
    """
    _check_usage(file, output, example, reading)
    if output is not None:
        _check_output(output)
    # The library logs an interruption; here the last line says it, and what was saved.
    logging.getLogger(__package__).addHandler(logging.NullHandler())
    from .devices import select_backend
    from .rng import resolve_seed

    try:
        select_backend(device, threads)  # one that is not to be had is told before a long read
    except InputError as error:
        raise click.UsageError(str(error)) from error
    defaults = _EXAMPLE_DEFAULTS if example else _DEFAULTS
    settings: dict[str, Any] = {
        "dim": dim,
        "epochs": epochs or defaults["epochs"],
        "negative": negative,
        "negative_sharing": int(negative_sharing),
        "learning_rate": learning_rate or defaults["learning_rate"],
        "min_count": min_count or defaults["min_count"],
        "min_length": min_length,
        "seed": resolve_seed(seed),
    }
    seconds: dict[str, float] = {}
    with _timed(seconds, "reading"):
        packed = _read(file, settings, reading)
    if not quiet:
        click.echo(f"Read {packed.source}", err=True)
    with _timed(seconds, "training"):
        embeddings, history, backend = _learn(packed, settings, threads, device, not quiet)
    if output is not None:
        embeddings.metadata = {**settings, "source": packed.source, "version": __version__}
        with _timed(seconds, "saving"):
            _save(embeddings, output)

    report = _report(packed, embeddings, history)
    report |= {
        "settings": settings,
        "device": backend,
        "seconds": {step: round(duration, 3) for step, duration in seconds.items()},
        "output": None if output is None else str(output),
    }
    if example:
        from .example import EXAMPLE_ITEMS

        known = [label for label in EXAMPLE_ITEMS if label in embeddings]
        report["similar"] = _similar(embeddings, known, _EXAMPLE_NEIGHBOURS)
    click.echo(_as_json(report) if as_json else _as_text(report))
    if history.interrupted:
        saved = "nothing was saved" if output is None else f"saved to {output} as far as it got"
        click.echo(f"Interrupted: {saved}.", err=True)
        click.get_current_context().exit(INTERRUPTED)


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
    from .embeddings import Embeddings

    embeddings = Embeddings.load(folder)
    found = _similar(embeddings, _labels(embeddings, items), number)
    click.echo(_as_json(found) if as_json else _neighbours_as_text(found))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Print versions, and the backends that can train here, or why not.

    \b
    Example:
      itembed-gpu info
    """
    from .devices import available_backends

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
    """Find out before training, which may take long, what would keep from saving after it."""
    from .storage import next_generation

    next_generation(folder)
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise DataError(f"{folder}: cannot be a folder, as {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: cannot be saved to, as {existing} is not writable")


def _read(file: Path | None, settings: dict[str, Any], reading: dict[str, Any]) -> ReadItemsets:
    limits = {name: settings[name] for name in ("min_count", "min_length")}
    if file is None:
        from .example import read_example

        return read_example(**limits)
    from .readers import read_itemsets

    return read_itemsets(file, **reading, **limits)


def _learn(
    packed: ReadItemsets,
    settings: dict[str, Any],
    threads: int | None,
    device: str | None,
    progress: bool,
) -> tuple[Embeddings, History, str]:
    """Train on packed itemsets: the embeddings, how it went, and the name of the backend."""
    import numpy as np

    from .embeddings import Embeddings
    from .tables import initialize_syn
    from .tasks import UnsupervisedTask
    from .training import train

    # A label whose itemsets were all dropped would keep its random vector: leave it out.
    present = np.bincount(packed.indices, minlength=packed.num_label) > 0
    used = np.flatnonzero(present)
    items = (np.cumsum(present, dtype=np.int32) - 1)[packed.indices]
    seed = settings["seed"]
    # On the host, wherever the task trains: that is where the tables are saved from.
    syn0 = initialize_syn(len(used), settings["dim"], seed=seed, device="cpu")
    syn1 = initialize_syn(len(used), settings["dim"], "zero", device="cpu")
    task = UnsupervisedTask(
        items,
        packed.offsets,
        syn0,
        syn1,
        weights=packed.weights,
        num_negative=settings["negative"],
        negative_sharing=settings["negative_sharing"],
        seed=seed,
        device=device,
        num_threads=threads,
    )
    history = train(
        task,
        num_epoch=settings["epochs"],
        initial_learning_rate=settings["learning_rate"],
        progress=progress,
    )
    labels = [packed.labels[index] for index in used.tolist()]
    embeddings = Embeddings(labels, syn0, context=syn1, counts=packed.counts[used])
    return embeddings, history, task.device


def _report(packed: ReadItemsets, embeddings: Embeddings, history: History) -> dict[str, Any]:
    """What was read, what of it was dropped, and what was learnt from the rest."""
    return {
        "source": packed.source,
        "read": packed.account,
        "dropped": {
            **dataclasses.asdict(packed.dropped),
            "rows_without_itemset": packed.rows_without_itemset,
            "labels_without_itemset": packed.num_label - len(embeddings),
        },
        "items": len(embeddings),
        "itemsets": packed.num_itemset,
        "pairs": history.num_pair,
        "epochs": len(history.epochs),
        "loss": history.loss if math.isfinite(history.loss) else None,
        "interrupted": history.interrupted,
    }


def _save(embeddings: Embeddings, folder: Path) -> None:
    """Save; if that fails, leave a folder that was there as it was, and else none."""
    is_new = not folder.exists()
    try:
        embeddings.save(folder)
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


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


def _as_text(report: dict[str, Any]) -> str:
    loss = "unknown" if report["loss"] is None else f"{report['loss']:.4f}"
    counts = [f"{name} {report[name]:,}" for name in ("items", "itemsets", "pairs", "epochs")]
    seconds = [f"{step} {duration:.2f}" for step, duration in report["seconds"].items()]
    lines = [f"from      {report['source']}", f"read      {report['read']}"]
    if unused := report["dropped"]["labels_without_itemset"]:
        lines.append(f"left out  {unused:,} item(s), as none of their itemsets is left")
    lines += [
        f"trained   {', '.join(counts)}, loss {loss}",
        f"on        {report['device']}, with seed {report['settings']['seed']}",
        f"seconds   {', '.join(seconds)}",
    ]
    if report["output"] is not None:
        lines.append(f"saved to  {report['output']}")
    if "similar" in report:
        lines = [_neighbours_as_text(report["similar"], headed=True), "", *lines]
    return "\n".join(lines)


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

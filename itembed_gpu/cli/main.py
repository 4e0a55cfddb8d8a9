"""The command line: ``itembed-gpu pack``, ``train``, ``evaluate``, ``recommend`` and more.

Results go to the standard output, progress and errors to the standard error.
The exit code is 0 if all went well, 1 for an error of data or input (one line
``Error: ...``), 2 for a wrong usage, and 130 if it was interrupted.

Whatever takes long to import is imported by the command that needs it, so that
``--help`` is quick.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ItembedError, UnknownLabelError

try:
    import click
except ImportError:
    # An exception would be a traceback to the user: this runs before `main` does.
    sys.exit('Error: the command line needs click: pip install "itembed_gpu[cli]"')

from . import evaluation as asking
from .data import pack, verify
from .export import export
from .labels import predict, train_labels
from .map import draw_map
from .options import (
    ASKING,
    PATH,
    asking_options,
    checkpoint_options,
    cluster_options,
    hiding_seed_option,
    json_option,
    limit_options,
    machine_options,
    model_option,
    number_option,
    protocol_options,
    reading_options,
    training_options,
    tuning_option,
    watching_options,
    weight_option,
)
from .text import as_json as to_json, evaluation_as_text, neighbours_as_text, training_as_text
from .training import INTERRUPTED, carry_out, end_of_interrupted, plan


class _Group(click.Group):
    """Commands whose expected errors are one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _tell_warning
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click knows what to do when `head` has seen enough
        except (ItembedError, OSError, MemoryError) as error:
            reason = " ".join(str(error).split()) or "out of memory"
            raise click.ClickException(reason) from error
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was saved.", err=True)
            ctx.exit(INTERRUPTED)


def _tell_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


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
main.add_command(export)
main.add_command(draw_map)
main.add_command(train_labels)
main.add_command(predict)


@main.command()
@click.argument("file", required=False, type=PATH)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=PATH,
    help="Folder to save in; with --example, only if you like.",
)
@click.option("--example", is_flag=True, help="Train on the data that come with this package.")
@reading_options
@weight_option
@limit_options
@model_option
@training_options
@tuning_option
@watching_options
@checkpoint_options
@cluster_options
@click.option(
    "--cluster-folder",
    type=PATH,
    metavar="DIR",
    help="Folder that all workers share, for parts of tables [that of temporary files].",
)
@machine_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def train(
    file: Path | None, output: Path | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Learn embeddings of the items of FILE, and save them in DIR.

    FILE is text with one itemset a line; a long table (CSV, Parquet, NDJSON, Arrow) with
    one row for each item of an itemset; a folder or a pattern of such files; - for the standard
    input; or a folder that `itembed-gpu pack` wrote. Formats of the field, such as those of
    LightGCN or MovieLens, are recognised by their first lines, or asked for. [Defaults] are in
    brackets.

    \b
    Examples:
      itembed-gpu train --example
      itembed-gpu train --example --evaluate --plot pictures
      itembed-gpu train baskets.txt -o model
      itembed-gpu train baskets.txt -o model --tune 120 --evaluate
      itembed-gpu train baskets.txt -o model --model glove
      itembed-gpu train sales.csv --itemset invoice --item product -o model
      itembed-gpu train sales.itemsets -o model --checkpoint night --resume
      itembed-gpu train sales.itemsets -o model --workers 8

    Ctrl-C stops early, and saves what has been learnt until then. With --checkpoint, so does
    the signal that a batch system sends (SIGTERM), and --resume goes on from there.
    """
    # The library logs an interruption; here the last line says it, and what was saved.
    asking.quiet_library()
    model, report, table = carry_out(plan(file, output, quiet, options))
    click.echo(to_json(report) if as_json else training_as_text(report, table))
    end_of_interrupted(model, output)


@main.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("file", type=PATH)
@protocol_options
@asking_options
@hiding_seed_option
@reading_options
@machine_options
@json_option
def evaluate(
    folder: Path,
    file: Path,
    protocol: str,
    truth: Path | None,
    cutoffs: tuple[int, ...],
    seed: int,
    as_json: bool,
    **options: Any,
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
    asking.quiet_library()
    model = asking.load_model(folder, options.pop("device"), options.pop("threads"))
    given = {known.name: options.pop(name) for name, known in ASKING.items()}
    model.set_params(**{name: value for name, value in given.items() if value is not None})
    if truth is None:
        measured = asking.measure_hidden(model, file, options, (protocol, seed), cutoffs)
    else:
        measured = asking.measure_given(model, file, truth, options, cutoffs)
    report = {
        "model": str(folder),
        "items": len(model.labels_),
        "protocol": protocol,
        "seed": seed if protocol == "leave-one-out" else None,
        **{name: getattr(model, name) for name in given},
        "history_exponent": model.history_exponent_,
        "files": {source: unknown._asdict() for source, unknown in measured.unknown.items()},
        **measured.account,
        "metrics": asking.numbers(measured.evaluation.as_dict()),
    }
    click.echo(to_json(report) if as_json else evaluation_as_text(report, measured))


@main.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@number_option
@json_option
def similar(folder: Path, items: tuple[str, ...], number: int, as_json: bool) -> None:
    """Print the nearest neighbours of each ITEM, by cosine.

    DIR is a folder that `itembed-gpu train` saved.

    \b
    Examples:
      itembed-gpu similar model "green tea"
      itembed-gpu similar model 4711 4712 -n 3 --json
    """
    embeddings = asking.load_neighbours(folder)
    labels, unknown = asking.find_labels(embeddings, items)
    if unknown:
        raise UnknownLabelError(asking.unknown_labels(embeddings, unknown))
    found = asking.neighbours(embeddings, labels, number)
    click.echo(to_json(found) if as_json else neighbours_as_text(found))


@main.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@number_option
@click.option(
    "--exclude", metavar="ITEM", multiple=True, help="Never this item; may be given again [none]."
)
@json_option
def recommend(
    folder: Path, items: tuple[str, ...], number: int, exclude: tuple[str, ...], as_json: bool
) -> None:
    """Print the items that go best with a basket of all the ITEMs together.

    DIR is a folder that `itembed-gpu train` saved. Before each item stands its
    score: only the order of scores means something, not their size. Items that are
    unknown are left out, and told; one at least has to be known.

    \b
    Examples:
      itembed-gpu recommend model "green tea" "cake stand"
      itembed-gpu recommend model 4711 4712 --exclude 4713 -n 3 --json
    """
    model = asking.load_model(folder, None, None)
    basket, unknown = asking.find_labels(model.embeddings_, items)
    if not basket:
        raise UnknownLabelError(asking.unknown_labels(model.embeddings_, unknown))
    barred, never = asking.find_labels(model.embeddings_, exclude)
    if unknown + never:
        told = asking.unknown_labels(model.embeddings_, unknown + never)
        click.echo(f"Left out: {told}", err=True)
    number = min(number, len(model))
    labels, scores = model.recommend([basket], number, filter_items=barred)
    found = [
        {"item": label, "score": round(float(score), 4)}
        for label, score in zip(labels[0], scores[0], strict=True)
        if label is not None
    ]
    if as_json:
        click.echo(to_json({"basket": basket, "unknown": unknown, "recommended": found}))
    else:
        click.echo("\n".join(f"{entry['score']:.4f}\t{entry['item']}" for entry in found))


@main.command()
@json_option
def info(as_json: bool) -> None:
    """Print versions, and the backends that can train here, or why not.

    \b
    Example:
      itembed-gpu info
    """
    import platform
    from importlib import metadata

    from ..backends.devices import available_backends

    versions = {name: metadata.version(name) for name in ("numpy", "numba")}
    report = {
        "itembed_gpu": __version__,
        "python": platform.python_version(),
        **versions,
        "backends": [dataclasses.asdict(backend) for backend in available_backends()],
    }
    if as_json:
        click.echo(to_json(report))
        return
    for name in ("itembed_gpu", "python", *versions):
        click.echo(f"{name:12} {report[name]}")
    for backend in available_backends():
        state = "found" if backend.available else "missing"
        click.echo(f"{backend.name:12} {state}: {backend.detail}")


if __name__ == "__main__":
    main()

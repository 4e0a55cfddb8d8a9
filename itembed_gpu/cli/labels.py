"""The command line for examples with labels: ``train-labels`` and ``predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.field_formats import LABELLED
from ..errors import DataError
from ..models.defaults import as_text
from .options import LABELLING, PATH, json_option, labelling_options, machine_of
from .training import check_output, end_of_interrupted, save_model

if TYPE_CHECKING:
    from ..data.labelled import LabelledItemsets
    from ..models.classifier import SupervisedClassifier

# The precision at which ranks is measured.
_RANKS = (1, 3, 5)

format_option = click.option(
    "--format", type=click.Choice(LABELLED), help="Format of FILE [as its lines say]."
)
encoding_option = click.option("--encoding", metavar="NAME", help="Encoding of text [utf-8].")


@click.command("train-labels")
@click.argument("file", type=PATH)
@click.option("-o", "--output", metavar="DIR", required=True, type=PATH, help="Folder to save in.")
@format_option
@encoding_option
@labelling_options
@click.option(
    "--evaluate",
    "share",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Hold out this share of the examples, the last ones, and measure the precision of the "
    "labels that are predicted for them. They are not trained on [none].",
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def train_labels(
    file: Path,
    output: Path,
    format: str | None,
    encoding: str | None,
    share: float | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn the labels of the examples of FILE, and save the classifier in DIR.

    FILE has an example a line: words and __label__x (fastText), or labels and feature:value
    (libsvm, and the extreme classification repository).

    \b
    Examples:
      itembed-gpu train-labels questions.txt -o model --evaluate 0.2
      itembed-gpu train-labels bibtex.svm -o model --epochs 50
      itembed-gpu predict model how to bake bread
    """
    from .. import __version__
    from ..data.labelled import read_labelled
    from ..models.classifier import SupervisedClassifier
    from .evaluation import check_device, quiet_library, usage_errors, warn_if_below

    quiet_library()
    check_output(output)
    given = {
        parameter: options[name]
        for name, (parameter, _) in LABELLING.items()
        if options.get(name) is not None
    }
    given |= {"device": machine_of(options)["device"]}
    with usage_errors():
        model = SupervisedClassifier(**given, progress=not quiet)
        model._check_parameters()
    check_device(given["device"], given.get("workers"))
    read = read_labelled(file, format=format, encoding=encoding)
    if not quiet:
        click.echo(f"Read {read.source}", err=True)
    trained, held = (read, None) if share is None else read.split(1 - share)
    if held is not None and not (held.labels.num_item and trained.labels.num_item):
        raise DataError(
            f"--evaluate {share} holds out {len(held)} of {len(read)} examples; give a share that "
            "holds out some with labels, and leaves some"
        )
    model.fit(trained.features, trained.labels)
    save_model(model, output, {"source": read.source, "version": __version__})
    report = _report(read, trained, model) | {"output": str(output)}
    if held is not None:
        measured = report["evaluation"] = _measure(model, held)
        first = f"precision@{_RANKS[0]}"
        own, simple = (measured[name][first] for name in ("classifier", "most_frequent_labels"))
        warn_if_below(first, own, simple, "the most frequent labels")
    click.echo(json.dumps(report, indent=2) if as_json else _as_text(report))
    end_of_interrupted(model, output)


def _report(
    read: LabelledItemsets, trained: LabelledItemsets, model: SupervisedClassifier
) -> dict[str, Any]:
    history = model.history_
    return {
        "source": read.source,
        "examples": len(read),
        "features": len(model.feature_weights_),
        "labels": len(model.labels_),
        "trained_on": len(trained),
        "without_features_or_labels": model.dropped_labels_.masked_itemsets
        - trained.labels.dropped.masked_itemsets,
        "epochs": len(history.epochs),
        "loss": history.loss,
        "seed": model.seed_,
        "chosen": dict(model.chosen_),
    }


def _measure(model: SupervisedClassifier, held: LabelledItemsets) -> dict[str, Any]:
    """Measure precision, beside that of the labels that are the most frequent ones everywhere."""
    # Of what has no features, the most frequent labels are predicted.
    nothing: list[list[str]] = [[] for _ in range(len(held))]
    measured: dict[str, Any] = {"held_out": len(held)}
    for name, features in (("most_frequent_labels", nothing), ("classifier", held.features)):
        measured[name] = {
            f"precision@{k}": round(model.score(features, held.labels, k), 4) for k in _RANKS
        }
    return measured | {"unknown_features": model.unknown_.items}


def _as_text(report: dict[str, Any]) -> str:
    lines = [
        f"from      {report['source']}",
        f"trained   {report['trained_on']:,} of {report['examples']:,} examples, "
        f"{report['features']:,} features, {report['labels']:,} labels, {report['epochs']} epochs, "
        f"loss {report['loss']:.4f}",
    ]
    if lost := report["without_features_or_labels"]:
        lines.append(f"left out  {lost:,} of them, without a feature or without a label")
    if report["chosen"]:
        lines.append(f"chosen    {as_text(report['chosen'])}")
    lines.append(f"saved to  {report['output']}")
    if measured := report.get("evaluation"):
        lines += [f"held out  {measured['held_out']:,} examples, the last ones", ""]
        lines.append(f"{'':22}" + "".join(f"{f'P@{k}':>8}" for k in _RANKS))
        for name in ("classifier", "most_frequent_labels"):
            numbers = "".join(f"{value:8.4f}" for value in measured[name].values())
            lines.append(f"{name.replace('_', ' '):22}{numbers}")
    return "\n".join(lines)


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("features", metavar="FEATURE...", nargs=-1)
@click.option(
    "--file",
    type=PATH,
    help="Predict for each line of this file: features as in training, labels are left out.",
)
@format_option
@encoding_option
@click.option("-n", "number", type=click.IntRange(min=1), default=5, help="How many labels [5].")
@json_option
def predict(
    folder: Path,
    features: tuple[str, ...],
    file: Path | None,
    format: str | None,
    encoding: str | None,
    number: int,
    as_json: bool,
) -> None:
    """Print the most likely labels of an example that has these FEATUREs.

    DIR is a folder that `itembed-gpu train-labels` saved. Before each label stands its
    probability. With --file, each line is an example, and its labels come on one line.

    \b
    Examples:
      itembed-gpu predict model how to bake bread
      itembed-gpu predict model --file questions.txt -n 1
    """
    from ..data.labelled import read_features
    from ..models.classifier import SupervisedClassifier
    from .evaluation import quiet_library

    quiet_library()
    if (file is None) == (not features):
        raise click.UsageError("give FEATUREs, or a --file of examples")
    model = SupervisedClassifier.load(folder)
    examples: Any = [_words(model, features)]
    if file is not None:
        examples = read_features(file, format=format, encoding=encoding)
    labels, scores = model.predict_scores(examples, number, probabilities=True)
    found = [
        [
            {"label": label, "probability": round(float(score), 4)}
            for label, score in zip(some, their, strict=True)
            if label is not None
        ]
        for some, their in zip(labels, scores, strict=True)
    ]
    unknown = model.unknown_
    if unknown.items:
        click.echo(
            f"Left out: {unknown.items:,} of {unknown.items_read:,} features, which are unknown",
            err=True,
        )
    if as_json:
        click.echo(json.dumps(found[0] if file is None else found, indent=2, default=str))
    elif file is None:
        click.echo("\n".join(f"{one['probability']:.4f}\t{one['label']}" for one in found[0]))
    else:
        click.echo("\n".join("\t".join(str(one["label"]) for one in some) for some in found))


def _words(model: SupervisedClassifier, given: tuple[str, ...]) -> list[Any]:
    """Return features that are written like this; a sentence in quotes is its words."""
    known = {str(label): label for label in model.feature_embeddings_.labels}
    words = [part for word in given for part in ([word] if word in known else word.split())]
    return [known.get(word, word) for word in words]

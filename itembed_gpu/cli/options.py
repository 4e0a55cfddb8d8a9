"""Options of the command line: made from the schema where that has them, and its own.

Nothing that takes long to import is imported here, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..data.formats import FORMATS
from ..models.defaults import CHOSEN_OF_CLASSIFIER, CHOSEN_OF_ITEM2VEC
from ..models.options import (
    DEFAULTS_OF_DOC2VEC,
    DEFAULTS_OF_GLOVE,
    EVALUATION,
    NOT_OF_DOC2VEC,
    ClassifierOptions,
    Doc2VecOptions,
    GloveOptions,
    Item2VecOptions,
    ModelOptions,
)
from ..objective.options import (
    CELL_TASK,
    COMMAND_LINE,
    DEPRECATED,
    ESTIMATOR,
    Number,
    Options,
    about,
    name_at,
    of_others,
    option,
    options_at,
    renamed,
)

Command = Callable[..., Any]

# Whether it can be read is said by who reads it.
PATH: Any = click.Path(readable=False, path_type=Path)

PROTOCOLS = ("leave-one-out", "leave-last-out", "given")

HIDING_SEED = 0
SHARE = 0.2
CUTOFFS = (10, 20)


@dataclass(frozen=True)
class ReadingOptions:
    """What `train` asks of the reader."""

    min_length: int = option(
        2,
        "Drop itemsets of fewer items, as pairs take two.",
        check=Number(int, 2),
        entrances=(COMMAND_LINE,),
    )


# How to train, and where: by the names that they have here.
TRAINING = options_at(COMMAND_LINE, Item2VecOptions, ModelOptions, ReadingOptions, Options)
MACHINE = [name for name, known in TRAINING.items() if about(known).machine]
ASKING = options_at(EVALUATION, Item2VecOptions)
# How to train a classifier, by the names that `SupervisedClassifier` has for it.
LABELLING = {
    name: (name_at(known, ESTIMATOR), known)
    for name, known in (
        options_at(COMMAND_LINE, ModelOptions, Options) | options_at(ESTIMATOR, ClassifierOptions)
    ).items()
    if ESTIMATOR in about(known).entrances
}

# How to train where no option says otherwise, as estimators do: None is for them to choose.
CHOSEN = {n for n, known in TRAINING.items() if name_at(known, ESTIMATOR) in CHOSEN_OF_ITEM2VEC}
DEFAULTS = {
    name: None if name in CHOSEN else known.default
    for name, known in TRAINING.items()
    if name not in MACHINE
}
DEFAULT_DEVICE = "auto"


class Trained(NamedTuple):
    """What `train` can train."""

    module: str  # of its class
    name: str  # of the class
    options: dict[str, Field[Any]]  # how to train, and where, by the names that they have here
    defaults: dict[str, Any]  # how to train where no option says otherwise


def _of_glove() -> Trained:
    # What has no place in its objective; and its learning rate is the same for all batches.
    others = (of_others(COMMAND_LINE, CELL_TASK) | {"schedule", "batch_size"}) - {"window"}
    known = {
        name: one
        for name, one in options_at(
            COMMAND_LINE, ModelOptions, ReadingOptions, Options, GloveOptions
        ).items()
        if name not in others
    }
    defaults = {
        name: DEFAULTS_OF_GLOVE.get(name_at(one, ESTIMATOR), one.default)
        for name, one in known.items()
        if name not in MACHINE
    }
    return Trained("models.glove", "GloVe", known, defaults)


def _of_doc2vec() -> Trained:
    schemas = ModelOptions, ReadingOptions, Options, Doc2VecOptions
    known = {
        name: one
        for name, one in options_at(COMMAND_LINE, *schemas).items()
        if name_at(one, ESTIMATOR) not in NOT_OF_DOC2VEC
    }
    defaults = {
        name: DEFAULTS_OF_DOC2VEC.get(name_at(one, ESTIMATOR), one.default)
        for name, one in known.items()
        if name not in MACHINE
    }
    return Trained("models.doc2vec", "Doc2Vec", known, defaults)


# By the values of --model, the first of which is the default.
MODELS = {
    "item2vec": Trained("models.item2vec", "Item2Vec", TRAINING, DEFAULTS),
    "glove": _of_glove(),
    "doc2vec": _of_doc2vec(),
}
ITEM2VEC = next(iter(MODELS))
# Options of all of them.
ALL = {name: known for model in MODELS.values() for name, known in model.options.items()}
ALL |= TRAINING
# What is rare in the example has nothing to be learned from.
EXAMPLE_DEFAULTS: dict[str, Any] = {"min_count": 5}

# What would learn nothing is a slip here.
_TYPES: dict[str, Any] = {
    "epochs": click.IntRange(min=1),
    "negative": click.IntRange(min=1),
    "min_count": click.IntRange(min=1),
    "learning_rate": click.FloatRange(min=0, min_open=True),
    "seed": click.IntRange(0, 2**64 - 1),
}


def settings_of(given: Mapping[str, Any], example: bool, model: str = ITEM2VEC) -> dict[str, Any]:
    """Return how to train: what was asked for, and the defaults of the rest.

    Raises a `UsageError` where something was asked for that is no option of the model.
    """
    known = MODELS[model].options
    settings = MODELS[model].defaults | (EXAMPLE_DEFAULTS if example else {})
    asked = renamed({name: value for name, value in given.items() if value is not None})
    for name, value in asked.items():
        if name in known:
            about(known[name]).check(name, value)
        elif name in ALL:
            raise click.UsageError(f"{_flag(name)} is no option of --model {model}")
    return settings | {name: asked[name] for name in settings if name in asked}


def machine_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return where to train: as asked for, or as the environment says, or as it is best."""
    machine = {name: given[name] for name in ("device", "threads")}
    if machine["device"] is None and not os.environ.get("ITEMBED_GPU_DEVICE"):
        machine["device"] = DEFAULT_DEVICE
    return machine


def with_chosen(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what an estimator chose, by the names that they have here."""
    names = {name_at(known, ESTIMATOR): name for name, known in ALL.items()}
    # How it answers is no option of training.
    own = {names[name]: value for name, value in chosen.items() if name in names}
    return {**settings, **own}


def parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of settings that are parameters of estimators, by the names of these."""
    return {
        name_at(known, ESTIMATOR): settings[name]
        for name, known in ALL.items()
        if name in settings and ESTIMATOR in about(known).entrances
    }


# ------------------------------------------------------------- from the schema


CHOSEN_TEXT = "chosen by the data"


def default_text(name: str) -> str:
    """Say in brackets what is taken where an option of `train` is not given."""
    if name == "device":
        return f"[{DEFAULT_DEVICE}]"
    first, *others = (model for model in MODELS if name in MODELS[model].options)
    text = default = _default_of(first, name)
    if name in EXAMPLE_DEFAULTS:
        text += f"; example {_shown(EXAMPLE_DEFAULTS[name], ALL[name])}"
    for model in others:
        if _default_of(model, name) != default:
            text += f"; {model} {_default_of(model, name)}"
    return f"[{text}]" if first == ITEM2VEC else f"[of {first}: {text}]"


def _default_of(model: str, name: str) -> str:
    if model == ITEM2VEC and name in CHOSEN:
        return CHOSEN_TEXT
    return _shown(MODELS[model].defaults.get(name), ALL[name])


def _shown(value: Any, known: Field[Any]) -> str:
    if value is None:
        return about(known).absent
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _type_of(name: str, known: Field[Any]) -> Any:
    one = about(known)
    if one.choices:
        return click.Choice([str(choice) for choice in one.choices])
    if name in _TYPES or not isinstance(one.check, Number):
        return _TYPES.get(name, str)
    if one.check.minimum is None:
        return one.check.kind
    of_kind: Any = click.IntRange if one.check.kind is int else click.FloatRange
    return of_kind(min=one.check.minimum)


def _from_schema(name: str, known: Field[Any], default: str) -> Command:
    """Return an option of click; None says that it is not given."""
    one, flag = about(known), _flag(name)
    text = f"{one.help.removesuffix('.')} {default}."
    if isinstance(known.default, bool):
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=text)

    def convert(context: Any, parameter: Any, value: Any) -> Any:
        # Choices are text to click.
        return value if value is None or not one.choices else type(one.choices[0])(value)

    return click.option(
        flag, type=_type_of(name, known), metavar=one.metavar, callback=convert, help=text
    )


def added(*options: Command) -> Command:
    """Return a decorator that adds options in this order."""

    def decorate(command: Command) -> Command:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


def _default_of_labelling(name: str, parameter: str, known: Field[Any]) -> str:
    if parameter in CHOSEN_OF_CLASSIFIER:
        return f"[{CHOSEN_TEXT}]"
    return f"[{DEFAULT_DEVICE if name == 'device' else _shown(known.default, known)}]"


machine_options = added(
    *(_from_schema(name, TRAINING[name], default_text(name)) for name in MACHINE)
)
training_options = added(
    *(
        _from_schema(name, known, default_text(name))
        for name, known in ALL.items()
        if name not in MACHINE
    ),
    *(
        click.option(
            _flag(old),
            type=_type_of(name, TRAINING[name]),
            hidden=True,
            help=f"Old name of {_flag(name)}.",
        )
        for old, name in DEPRECATED.items()
    ),
)
labelling_options = added(
    *(
        _from_schema(name, known, _default_of_labelling(name, parameter, known))
        for name, (parameter, known) in LABELLING.items()
    )
)
asking_options = added(
    *(
        _from_schema(name, known, f"[the model's: {_shown(known.default, known)}]")
        for name, known in ASKING.items()
    )
)


# ----------------------------------------------------- those of the command line


def _given(context: Any, parameter: Any, values: tuple[str, ...]) -> tuple[str, ...] | None:
    return values or None


reading_options = added(
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        help="Format of FILE [as its suffix and its first lines say].",
    ),
    click.option(
        "--itemset",
        metavar="COLUMN",
        help="Column that says which itemset, by name or number [the first].",
    ),
    click.option(
        "--item",
        metavar="COLUMN",
        help="Column that says which item, by name or number [the next].",
    ),
    click.option("--separator", help="Between items [whitespace], or between fields [comma]."),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first row of a CSV names the columns; if not, they are called 1, 2 and "
        "so on [yes].",
    ),
    click.option(
        "--quote",
        metavar="CHAR",
        help="What fields of a CSV are quoted with; none: quotes are text like any other "
        "[double quotes].",
    ),
    click.option(
        "--null",
        "nulls",
        metavar="WORD",
        multiple=True,
        callback=_given,
        help="Word that says that something is missing; may be given again [none].",
    ),
    click.option("--encoding", metavar="NAME", help="Encoding of text [utf-8]."),
)

# The names of another module, which need not be imported for --help.
_DUPLICATES = ("keep", "drop", "sum")

limit_options = added(
    click.option(
        "--max-items",
        type=click.IntRange(min=1),
        metavar="N",
        help="Keep the N most frequent items [all].",
    ),
    click.option(
        "--max-length",
        type=click.IntRange(min=1),
        metavar="N",
        help="Keep so many items of a longer itemset, drawn at random [all].",
    ),
    click.option(
        "--duplicates",
        type=click.Choice(_DUPLICATES),
        help="What becomes of an item that its itemset has already: one item more, left out, "
        f"or its weight added to that of the first [{_DUPLICATES[0]}].",
    ),
)


def only_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


weight_option = click.option("--weight", metavar="COLUMN", help="Column of weights [none].")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
number_option = click.option(
    "-n", "number", type=click.IntRange(min=1), default=10, help="How many [10]."
)

model_option = click.option(
    "--model",
    type=click.Choice(list(MODELS)),
    default=ITEM2VEC,
    help="What to learn: items that go together; by counts of how often they do; or with a vector "
    f"of each itemset as well [{ITEM2VEC}].",
)

tuning_option = click.option(
    "--tune",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Search for so many seconds, before training, for the settings that rank best on itemsets "
    "held out; those that are given stay as they are [no search].",
)

# What measures and draws how training goes.
watching_options = added(
    click.option(
        "--evaluate",
        is_flag=True,
        help="Hold out the last itemsets of FILE, and measure how often an item of each that is "
        "hidden is found again. They are not trained on.",
    ),
    click.option(
        "--share",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help=f"Share of the itemsets to hold out; with --evaluate [{SHARE}].",
    ),
    click.option(
        "--every",
        type=click.IntRange(min=1),
        metavar="N",
        help="Measure after every N-th epoch; with --evaluate [a tenth of the epochs].",
    ),
    click.option(
        "--patience",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop after N measurements without a better NDCG@10, and keep the best epoch; with "
        "--evaluate [never].",
    ),
    click.option(
        "--plot",
        metavar="DIR",
        type=PATH,
        help="Folder for learning_curve.png and map.png, a map of the items [none].",
    ),
)

# What keeps a training from being lost.
checkpoint_options = added(
    click.option(
        "--checkpoint",
        metavar="DIR",
        type=PATH,
        help="Folder to write checkpoints to, also at Ctrl-C and SIGTERM [none].",
    ),
    click.option(
        "--checkpoint-every",
        type=click.IntRange(min=1),
        metavar="N",
        default=1,
        help="Epochs from one checkpoint to the next [1].",
    ),
    click.option(
        "--resume", is_flag=True, help="Go on from the checkpoint in DIR, if there is one."
    ),
)

# Where the workers are; `cluster.connected` takes them.
cluster_options = added(
    click.option(
        "--scheduler",
        metavar="ADDRESS|FILE",
        help="Use the workers of this Dask scheduler: its address, or its --scheduler-file [none].",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Start N worker processes on this machine, for as long as it takes [none].",
    ),
)

protocol_options = added(
    click.option(
        "--protocol",
        type=click.Choice(PROTOCOLS),
        default=PROTOCOLS[0],
        help="What is hidden of each itemset: any one of its items, its last one, or what --truth "
        "says [leave-one-out].",
    ),
    click.option(
        "--truth",
        metavar="FILE2",
        type=PATH,
        help="With --protocol given: the items to find, in itemsets of the same ids (tables), or "
        "on the same lines (text).",
    ),
    click.option(
        "-k",
        "cutoffs",
        type=click.IntRange(min=1),
        multiple=True,
        default=CUTOFFS,
        help="Look at the first k items; may be given again [10 and 20].",
    ),
)

hiding_seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=HIDING_SEED,
    help=f"Of the items that leave-one-out hides [{HIDING_SEED}].",
)

"""What estimators take where a parameter is None: chosen from the data and from what is given.

Nowhere else is a value of these chosen: the classes, their presets and the command line ask here.
What is given always stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from ..objective.options import DENSE_LOSSES, OF_DENSE, OF_SAMPLED, Options

# Parameters that are chosen where they are None, by the names of estimators.
CHOSEN = (
    *("loss", "vector_size", "epochs", "alpha", "schedule", "optimizer", "pooling", "negative"),
    *("batch_size", "similarity", "temperature", "sum_scale", "dropout", "reject_itemset"),
)
CHOSEN_OF_ITEM2VEC = (*CHOSEN, "targets", "sharpness")
CHOSEN_OF_CLASSIFIER = (*CHOSEN, "reject_positive", "max_step", "l2", "feature_weighting")

PRESETS = ("ranking", "neighbours")

# Rates of the start, by kind of loss and optimizer. Sampled losses, in means: from the rates of
# itembed nothing but those of Adagrad lifts Recall@20 and HR@10 above ALS with its defaults, on
# five data sets.
RATES = {
    ("sampled", "sgd"): 0.025,
    ("sampled", "adagrad"): 0.4,
    # Recall@20 of Gowalla .197, and .190 with .01 in the same time; Cooking's P@1 .681, and .677.
    ("dense", "adam"): 0.005,
    ("dense", "adagrad"): 0.3,  # .2706 where Adam has .2691, HR@10 of Online Retail
    ("dense", "sgd"): 0.1,
}

# Steps that a training by softmax takes at least, of items and of labels; how often it sees the
# data, at least and at most; and at least where rows are drawn, of which the rare ones come seldom.
# More epochs rank better, up to 30, until they take more than 4 times as long as ALS does with its
# defaults; those of labels overfit: P@1 of Bibtex is .623 after 10 and .604 after 20.
MIN_STEPS, MIN_STEPS_OF_LABELS = 800, 600
MIN_EPOCHS, MAX_EPOCHS, MIN_EPOCHS_OF_SAMPLES = 8, 50, 11
# Rows that are drawn for a batch where all would be too many for a first try. Recall@20 of Gowalla
# is .207 after 39 s with 2,048 of 40,981, and .202 after 32 s with 4,096; with 512 it is far worse.
SAMPLE = 2048

# All rows of so many are compared.
MAX_ROWS = 8192

# Items of histories compared one by one: HR@10 on validation splits of Online Retail is .334 with 4
# (3 to 6 are alike), .289 with their mean; on Gowalla both are the same. That takes as many times
# longer as a history has items: not where a history would be compared with more rows than this.
SHARPNESS, MAX_COMPARED = 4.0, 5e5

# Of pairs in a window, a softmax finds the next item of made sessions better: HR@10 .575, and .494
# by sampled negatives, which take a twentieth of the time. It is chosen where an epoch compares so
# many pairs and rows at most: some seconds. Not for neighbours: of those of the nodes of a graph of
# two parts (the karate club, by walks), .78 are of the same part, and else more than .85.
MAX_LOGITS = 1e9

# How strongly rows are pulled to 0: at least, and of one more label than another. Chosen with
# `max_step` on parts of the training data of Cooking and Bibtex, and on made data.
MIN_L2, L2_OF_LABELS = 3e-4, 0.03


class Shape(NamedTuple):
    """What of the data is looked at."""

    num_row: int  # items, or labels, that are ranked
    num_itemset: int
    length: float  # items of an itemset, on average


# Items of an itemset, from which on some can be left out and the others still say what it is.
LONG = 20

# What options are checked with before any data is read.
ANY_SHAPE = Shape(1000, 10_000, 10.0)


def choose_for_item2vec(given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Return values of those parameters of `Item2Vec` that are not given, by name.

    Parameters
    ----------
    given : dict by str
        Parameters, by their names; None is not given.
    shape : Shape
        Of the itemsets.
    """
    loss = given.get("loss") or _loss(given)
    in_window = given.get("window") is not None
    if in_window and not given.get("loss") and not _needs_softmax(given):
        few = _compared(given, shape) <= MAX_LOGITS
        if given.get("preset") == "neighbours" or not few:
            loss = "negative-sampling"
    if loss in DENSE_LOSSES:
        chosen = _softmax(given, shape, MIN_STEPS) | {"targets": "all"}
        if in_window:
            chosen["reject_itemset"] = False
        compared = shape.length * shape.num_row
        by_each = chosen["similarity"] == "cosine" and compared <= MAX_COMPARED
        chosen["sharpness"] = SHARPNESS if by_each else 0.0
        if chosen["pooling"] == "mean" and given.get("targets") != "others":
            # HR@10 of Online Retail .273, .269 with .3 and .265 with .5; Gowalla likewise.
            chosen["dropout"] = 0.1
        if given.get("preset") == "neighbours":
            # Rows that leave their own itemset in the sum are alike where names are as well: of
            # those of 10 neighbours on Online Retail .157 in common, by weight, and else .142.
            chosen["reject_itemset"] = False
    else:
        chosen = _sampled(given, "adagrad") | {"negative": 20, "epochs": 10, "sharpness": 0.0}
    return _others(given, chosen | {"loss": loss})


def choose_for_classifier(given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Return values of those parameters of `SupervisedClassifier` that are not given, by name."""
    loss = given.get("loss") or _loss(given)
    others = max(1, shape.num_row - 1)
    if loss in DENSE_LOSSES:
        chosen = _softmax(given, shape, MIN_STEPS_OF_LABELS)
        chosen |= {"feature_weighting": "none", "l2": 0.0}
        if chosen["similarity"] == "cosine":
            # P@1 of Cooking and Bibtex, on a tenth of the training part: .689 and .607; .683 and
            # .604 with .1, .686 and .605 with .15.
            chosen["temperature"] = 0.125
        if chosen["pooling"] == "mean" and shape.length >= LONG:
            # The same of Bibtex: .607 without, .618 with it; of Cooking .689 and .673.
            chosen["dropout"] = 0.2
    else:
        optimizer = given.get("optimizer") or "sgd"
        chosen = _sampled(given, "sgd") | {
            "negative": min(10, others),
            "feature_weighting": "idf",
            "epochs": 25,
            "alpha": 0.5 if optimizer == "sgd" else RATES["sampled", "adagrad"],
            # A label that a batch hits several times at once would else be moved too far.
            "max_step": 4.0,
            # There is no other one to draw where there is one label.
            "reject_positive": shape.num_row > 1,
            # Where labels are few, each has so many examples that they are learnt by heart.
            "l2": max(MIN_L2, L2_OF_LABELS / others),
        }
    return _others(given, chosen | {"loss": loss})


def as_text(chosen: Mapping[str, Any]) -> str:
    """Say what was chosen, in a line."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in chosen.items()
    )


def _others(given: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the choices is not given."""
    return {
        name: value
        for name, value in chosen.items()
        if value is not None and given.get(name) is None
    }


def _loss(given: Mapping[str, Any]) -> str:
    """Return a loss that has a use for what is given: the best one, if it has."""
    if _needs_softmax(given):
        return "softmax"
    of_sampled = (
        any(_differs(given, name) for name in OF_SAMPLED | {"ns_exponent", "partitions"})
        or given.get("negative") is not None
        or given.get("pooling") == "pairs"
        or given.get("optimizer") == "sgd"
        # Means in a window have no softmax.
        or (given.get("window") is not None and given.get("pooling") == "mean")
    )
    return "negative-sampling" if of_sampled else "softmax"


def _needs_softmax(given: Mapping[str, Any]) -> bool:
    """Tell whether something is given that a softmax alone has a use for."""
    names = OF_DENSE - {"similarity"} | {"sharpness"}
    return any(_differs(given, name) for name in names)


def _compared(given: Mapping[str, Any], shape: Shape) -> float:
    """Count what an epoch of pairs in a window compares in a softmax, about."""
    near = min(given["window"] + 1, max(1.0, shape.length - 1))
    num_row = given.get("negative") or (SAMPLE if shape.num_row > MAX_ROWS else shape.num_row)
    return float(shape.num_itemset * shape.length * near * num_row)


def _differs(given: Mapping[str, Any], name: str) -> bool:
    """Tell whether an option is given, and says something."""
    idle = {known.name: known.default for known in fields(Options)}
    return given.get(name) not in (None, idle.get(name, 0.0))


def _sampled(given: Mapping[str, Any], optimizer: str) -> dict[str, Any]:
    """Choose for pairs with sampled negatives."""
    optimizer = given.get("optimizer") or optimizer
    in_pairs = given.get("window") is not None or _differs(given, "partitions")
    return {
        "vector_size": 100,
        "pooling": "pairs" if in_pairs else "mean",
        "optimizer": optimizer,
        "alpha": RATES.get(("sampled", optimizer)),
        "schedule": "linear",
        "similarity": "dot",
        "reject_itemset": False,
    }


def _softmax(given: Mapping[str, Any], shape: Shape, min_steps: int) -> dict[str, Any]:
    """Choose for a softmax over all rows, or over a sample of them."""
    optimizer = given.get("optimizer") or "adam"
    similarity = given.get("similarity") or "cosine"
    batch_size = given.get("batch_size") or _batch_size(shape)
    drawn = shape.num_row > MAX_ROWS or given.get("negative") is not None
    least = MIN_EPOCHS_OF_SAMPLES if drawn else MIN_EPOCHS
    steps = math.ceil(shape.num_itemset / batch_size)
    return {
        "vector_size": 128,
        "epochs": min(max(math.ceil(min_steps / steps), least), MAX_EPOCHS),
        "pooling": given.get("pooling") or ("mean" if given.get("window") is None else "pairs"),
        "optimizer": optimizer,
        "alpha": RATES["dense", optimizer],
        "schedule": "cosine",
        "batch_size": batch_size,
        "similarity": similarity,
        "temperature": 0.1 if similarity == "cosine" else 1.0,
        "sum_scale": 1.0,
        "dropout": 0.0,
        "negative": SAMPLE if shape.num_row > MAX_ROWS else None,
        # All of an itemset but the target are left out of the sum: HR@10 of Online Retail .274
        # and not .266, Recall@20 of Gowalla .184 and not .176, P@1 of Cooking .657 and not .613.
        # It cannot be where the sum of all is to be 1.
        "reject_itemset": shape.num_row > 1 and not _differs(given, "self_normalization"),
    }


def _batch_size(shape: Shape) -> int:
    """Return a power of 2: of few itemsets, small ones, that there are enough steps.

    Large ones underfit: Recall@20 of Online Retail is .357 with 128 and .347 with 256, that of
    Gowalla .196 with 256, .190 with 512 and .175 with 1,024, in as many epochs.
    """
    return 1 << min(max(round(math.log2(max(1, shape.num_itemset) / 100)), 5), 8)

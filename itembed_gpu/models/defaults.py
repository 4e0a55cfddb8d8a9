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

# Rates of the start. Of sampled losses, those of Adagrad with means lift Recall@20 and HR@10 on
# five data sets above those of ALS with its defaults, where no other change from itembed's does.
RATES = {
    ("sampled", "sgd"): 0.025,
    ("sampled", "adagrad"): 0.4,
    ("dense", "adam"): 0.01,
    ("dense", "adagrad"): 0.3,
    ("dense", "sgd"): 0.1,
}

# Steps that a training by softmax takes at least and at most, and its epochs likewise.
MIN_STEPS, EPOCHS = 600, (6, 50)
# Logits that a first try bears: two cores make some 3e8 in a second.
MAX_LOGITS = 6e9
# Rows that are drawn for a batch where the sum over all would take longer than that.
SAMPLE = 8192

# Items of histories compared one by one: HR@10 on validation splits of Online Retail is .334 with 4
# (3 to 6 are alike), .289 with their mean; on Gowalla both are the same. That takes as many times
# longer as a history has items: not where a history would be compared with more rows than this.
SHARPNESS, MAX_COMPARED = 4.0, 5e5

# How strongly rows are pulled to 0: at least, and of one more label than another. Chosen with
# `max_step` on parts of the training data of Cooking and Bibtex, and on made data.
MIN_L2, L2_OF_LABELS = 3e-4, 0.03


class Shape(NamedTuple):
    """What of the data is looked at."""

    num_row: int  # items, or labels, that are ranked
    num_itemset: int
    length: float  # items of an itemset, on average


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
    loss = given.get("loss") or _loss(given, "softmax")
    if loss in DENSE_LOSSES:
        chosen = _softmax(given, shape) | {"targets": "all"}
        compared = shape.length * shape.num_row
        by_each = chosen["similarity"] == "cosine" and compared <= MAX_COMPARED
        chosen["sharpness"] = SHARPNESS if by_each else 0.0
    else:
        chosen = _sampled(given, "adagrad") | {"negative": 20, "epochs": 10, "sharpness": 0.0}
    return _others(given, chosen | {"loss": loss})


def choose_for_classifier(given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Return values of those parameters of `SupervisedClassifier` that are not given, by name."""
    loss = given.get("loss") or _loss(given, "softmax")
    if loss in DENSE_LOSSES:
        chosen = _softmax(given, shape) | {"feature_weighting": "none", "l2": 0.0}
    else:
        chosen = _sampled(given, "sgd") | {
            "negative": min(10, max(1, shape.num_row - 1)),
            "feature_weighting": "idf",
            "epochs": 25,
            "alpha": 0.4 if given.get("optimizer") == "adagrad" else 0.5,
            # A label that a batch hits several times at once would else be moved too far.
            "max_step": 4.0,
            # There is no other one to draw where there is one label.
            "reject_positive": shape.num_row > 1,
            # Where labels are few, each has so many examples that they are learnt by heart.
            "l2": max(MIN_L2, L2_OF_LABELS / max(1, shape.num_row - 1)),
        }
    return _others(given, chosen | {"loss": loss})


def _others(given: Mapping[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in chosen.items()
        if value is not None and given.get(name) is None
    }


def _loss(given: Mapping[str, Any], best: str) -> str:
    """Return a loss that has a use for all that is given: the best one, if it can be."""
    if any(_differs(given, name) for name in OF_DENSE - {"similarity"}):
        return "softmax"
    of_sampled = (
        any(_differs(given, name) for name in OF_SAMPLED | {"ns_exponent"})
        or given.get("negative") is not None
        or given.get("pooling") == "pairs"
        or given.get("optimizer") == "sgd"
    )
    return "negative-sampling" if of_sampled else best


def _differs(given: Mapping[str, Any], name: str) -> bool:
    """Tell whether an option is given, and says something."""
    idle = {known.name: known.default for known in fields(Options)}
    return given.get(name) not in (None, idle.get(name, 0.0))


def _sampled(given: Mapping[str, Any], optimizer: str) -> dict[str, Any]:
    """Choose for pairs with sampled negatives."""
    optimizer = given.get("optimizer") or optimizer
    return {
        "vector_size": 100,
        "pooling": "mean",
        "optimizer": optimizer,
        "alpha": RATES.get(("sampled", optimizer)),
        "schedule": "linear",
        "similarity": "dot",
        "reject_itemset": False,
    }


def _softmax(given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Choose for a softmax over all rows, or over a sample of them."""
    optimizer = given.get("optimizer") or "adam"
    similarity = given.get("similarity") or "cosine"
    pooling = given.get("pooling") or "mean"
    bags = pooling == "mean" and given.get("targets") != "others"
    batch_size = given.get("batch_size") or _batch_size(shape)
    steps = math.ceil(shape.num_itemset / batch_size)
    epochs = given.get("epochs") or min(max(math.ceil(MIN_STEPS / steps), EPOCHS[0]), EPOCHS[1])
    logits = epochs * shape.num_itemset * shape.num_row
    return {
        "vector_size": 128,
        "epochs": epochs,
        "pooling": pooling,
        "optimizer": optimizer,
        "alpha": RATES["dense", optimizer],
        "schedule": "cosine",
        "batch_size": batch_size,
        "similarity": similarity,
        "temperature": 0.1 if similarity == "cosine" else 1.0,
        "sum_scale": 1.0,
        "dropout": 0.3 if bags else 0.0,
        "negative": SAMPLE if logits > MAX_LOGITS and shape.num_row > 2 * SAMPLE else None,
        "reject_itemset": False,
    }


def _batch_size(shape: Shape) -> int:
    """Return a power of 2: of few itemsets, small ones, that there are enough steps."""
    return 1 << min(max(round(math.log2(max(1, shape.num_itemset) / 64)), 5), 9)


def as_text(chosen: Mapping[str, Any]) -> str:
    """Say what was chosen, in a line."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in chosen.items()
    )

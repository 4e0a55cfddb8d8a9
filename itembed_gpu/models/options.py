"""The options of estimators, beside those of tasks (see `objective.options`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import checks
from ..errors import InputError
from ..objective.options import (
    COMMAND_LINE,
    ESTIMATOR,
    OF_DENSE,
    ON_INTERRUPT,
    SAMPLED_LOSSES,
    SCHEDULES,
    Number,
    option,
    yes_or_no,
)
from .defaults import PRESETS

# What is asked of a model; on the command line, by the command `evaluate`.
EVALUATION = "evaluation"

of_estimators = partial(option, entrances=(ESTIMATOR,))
of_training = partial(option, entrances=(ESTIMATOR, COMMAND_LINE))
of_answers = partial(option, entrances=(ESTIMATOR, EVALUATION))

# Those that can be given by place, in this order.
POSITIONAL = (
    *("vector_size", "epochs", "negative", "alpha", "min_alpha", "min_count", "sample"),
    *("ns_exponent", "seed", "device", "workers", "callbacks"),
)

# What is otherwise than for a task.
DOCS = {
    "seed": "It fixes all that is drawn, and on one worker the result to the last bit. By default "
    "one is drawn, and kept in `seed_`.",
    "device": 'Where training, ranking and means are computed: "auto" takes a GPU where there is '
    'one, and logs once what it chose; "cpu", "cuda", "cuda:N" and a `Cuda` say it; None goes by '
    "``ITEMBED_GPU_DEVICE``, else takes the CPU. Tables are copied to a GPU in each call: ask for "
    "many answers at a time.",
    "negative": "Negatives a pair; of a softmax, rows that are drawn for a batch, which should be "
    "some thousands. As many as there are rows, or more, are all of them.",
    "batch_size": "Itemsets a batch, on average: the unit of the learning rate's steps, and of a "
    "softmax one step.",
}
# Those of the paper, but for epochs: it has 50, and more for long vectors.
DEFAULTS_OF_GLOVE = {"epochs": 25, "alpha": 0.05, "device": "auto"}
# What is otherwise for `GloVe`.
DOCS_OF_GLOVE = {
    "min_alpha": "Learning rate at the end; by default that at the start, as in the paper.",
    "batch_size": "Cells a batch, on average: the unit of the learning rate's steps; by default "
    "64.",
    "chunk_size": "Train in chunks of about so many cells, one of which at a time is copied to a "
    "GPU, and one read ahead. By default all is one chunk.",
}
DOCS_OF_CLASSIFIER = {
    "negative": "Negatives a pair, drawn from the other labels; as many as there are, where that "
    "is less. Of a softmax as for `Item2Vec`.",
}
# What is otherwise for `Doc2Vec`: what it does not take, of a softmax, of single pairs, and what
# `dm` decides, ...
NOT_OF_DOC2VEC = OF_DENSE | {"pooling", "partitions"}
# ... and what else it takes where nothing is given.
DEFAULTS_OF_DOC2VEC: dict[str, Any] = {"ns_exponent": 0.75}
DOCS_OF_DOC2VEC = {
    "negative": "Negatives a pair, drawn from the items.",
    "batch_size": "Itemsets a batch, on average: the unit of the learning rate's steps.",
}
# What is otherwise for `Item2Vec`.
DOCS_OF_ITEM2VEC = {
    "similarity": 'How the vector of an itemset is compared with items. With ``loss="softmax"`` it '
    'is trained so, and `recommend` asks so: "dot" by its dot product with rows of `syn1_`, '
    '"cosine" by its cosine with them. Other losses train dot products; `recommend` then compares '
    "by the dot product with the rows of `syn1_`, or by the cosine with those of `syn0_`.",
}


def _one_or_zero(name: str, value: Any) -> int:
    if value not in (0, 1):
        raise InputError(f"{name} is {checks.show(value)}; pass 1 or 0")
    return int(value)


def _callbacks(name: str, value: Any) -> Any:
    if isinstance(value, Iterator):
        # Kept as it is, as scikit-learn wants parameters to be.
        raise InputError(
            f"{name} is a {type(value).__name__}, which can be read once alone; pass a list"
        )
    return value


@dataclass(frozen=True)
class ModelOptions:
    """Those of every estimator."""

    vector_size: int = of_training(
        100, "Length of an embedding.", "Dimension of the vectors.", Number(int, 1), flag="dim"
    )
    epochs: int = of_training(10, "Passes over the data.", check=Number(int, 0))
    alpha: float = of_training(
        0.025,
        "Learning rate of the start; it falls to 0, and of GloVe stays.",
        "Learning rate at the start.",
        Number(float),
        flag="learning_rate",
    )
    min_alpha: float = of_estimators(0.0, "Learning rate of the end.", check=Number(float))
    schedule: str = of_training(
        "linear",
        "How the learning rate falls: along a line, or half a cosine.",
        "How it falls, as for `train`.",
        choices=SCHEDULES,
    )
    min_count: int = of_training(
        1,
        "Drop items that occur less often.",
        "Items that occur less often are left out; of a classifier, features, and never labels.",
        Number(int, 0),
    )
    callbacks: Iterable[Any] = of_estimators(
        (),
        "Called at the end of each epoch.",
        "Those of `train`.",
        _callbacks,
        kind="list",
        machine=True,
    )
    on_interrupt: str = of_estimators(
        "stop",
        "What Ctrl-C does in training.",
        '"stop" has Ctrl-C end the training, and keeps what was learned until then; "raise" has it '
        "raise a `KeyboardInterrupt` instead, so that a search over models ends with it. What was "
        "learned is then in the checkpoint, if there are any.",
        choices=ON_INTERRUPT,
        machine=True,
    )
    progress: bool = of_estimators(
        False, "Show a progress bar.", "Whether to show a progress bar.", yes_or_no, machine=True
    )


@dataclass(frozen=True)
class Item2VecOptions:
    """Those of `Item2Vec` alone: what it is for, and how it answers."""

    preset: str = of_training(
        PRESETS[0],
        "What the embeddings are for: it decides what is taken where an option is not given.",
        "What the embeddings are for, which decides what is taken where a parameter is None: "
        '"ranking" finds the items that go into an itemset, for `recommend`; "neighbours" those '
        "that are alike, for `similar_items`.",
        choices=PRESETS,
    )
    history_exponent: float | None = of_answers(
        None,
        "Weight items of a history by their counts to the power of minus this.",
        "The vector of an itemset is the mean of its items' rows, each weighted by its count to "
        "the power of minus this; above 0, frequent items say less. 0 is the plain mean. By "
        'default 0 with ``pooling="mean"``, which trains the plain one, and 0.5 with "pairs".',
        Number(float, none=True),
        absent="0, of a training by pairs 0.5",
    )
    fold_in: int = of_estimators(
        0,
        "Epochs of training of the vector of an itemset.",
        "So many epochs of training move that vector on, among rows of `syn1_` that stay as they "
        "are; see `transform`. `recommend` then compares this one vector of a basket, and "
        "`sharpness` has no part in it.",
        Number(int, 0),
    )
    sharpness: float | None = of_estimators(
        None,
        "Compare each item of a history by itself, and weight the nearest: 4; 0 compares their "
        "mean.",
        "With cosines of a softmax, above 0: `recommend` compares each item i of a history by "
        "itself, and scores item r by ``log(mean(exp(sharpness * cos(x_i, syn1_[r])))) / "
        "sharpness``, which is the more of the nearest ones the larger it is. 0 compares the mean "
        "of their rows, which takes as many times less as a history has items. By default 4 where "
        "a basket is compared in a millisecond, and else 0.",
        Number(float, 0, none=True),
        absent="by the data",
    )
    popularity: float = of_answers(
        0.0,
        "Add so many times the logarithm of an item's count to its score.",
        "So many times the logarithm of an item's count is added to its score by `recommend`; of "
        "a softmax, to its score over the temperature. As "
        "the dot product estimates log P(item | itemset) - log Q(item), with Q the noise (Levy "
        'and Goldberg, "Neural word embedding as implicit matrix factorization", 2014), '
        "`ns_exponent` brings scores of dot products back to probabilities.",
        Number(float),
    )
    similarity: str = of_answers(
        "dot",
        "How items are compared with a history.",
        'How `recommend` compares the vector of an itemset with items: "dot" by its dot product '
        'with the rows of `syn1_`, "cosine" by its cosine with those of `syn0_`.',
        choices=("dot", "cosine"),
        flag="score",
    )


@dataclass(frozen=True)
class GloveOptions:
    """Those of `GloVe` alone."""

    x_max: float = of_training(
        100.0,
        "Counts from this on weigh the same.",
        "From this count on, cells weigh 1.",
        Number(float),
    )
    exponent: float = of_training(
        0.75,
        "How weights of cells grow with counts below it.",
        "How weights grow with counts below it: alpha in the paper, which here is the learning "
        "rate.",
        Number(float, 0),
    )
    weighting: str | None = of_training(
        None,
        "What a pair of places adds to its count: 1, 1 over the length of its itemset less 1, or "
        "1 over their distance.",
        "What a pair adds to its count, as for `co_occurrences`.",
        choices=("pairs", "itemsets", "distance"),
        absent="pairs, with a window distance",
    )
    window: int | None = of_training(
        None,
        "Count pairs that are at most so many places apart.",
        "Count pairs that are at most so many places apart, as for `co_occurrences`.",
        Number(int, 1, none=True),
        absent="all of an itemset",
    )


@dataclass(frozen=True)
class Doc2VecOptions:
    """Those of `Doc2Vec` alone, or otherwise than elsewhere."""

    dm: int = of_training(
        1,
        "1 predicts items from the itemset and its other items, 0 from the itemset alone.",
        "What an item is predicted from: 1 the mean of the itemset's vector and those of its other "
        "items (PV-DM, distributed memory), 0 the itemset's vector alone (PV-DBOW).",
        _one_or_zero,
        choices=(1, 0),
    )
    dbow_words: bool = of_training(
        False,
        "With dm=0, train the items' own rows as well.",
        "With ``dm=0``, whether items are trained as well, each with another one of its itemset, "
        "among the same `syn1`. With ``dm=1`` they are anyway.",
        yes_or_no,
    )
    loss: str = of_training(
        SAMPLED_LOSSES[0],
        "nce corrects scores for how likely negatives are; hinge leaves alone what is right by a "
        "margin.",
        "As for `DocumentTask`.",
        choices=SAMPLED_LOSSES,
    )


@dataclass(frozen=True)
class ClassifierOptions:
    """Those of `SupervisedClassifier` alone, or otherwise than elsewhere."""

    l2: float | None = of_estimators(
        None,
        "Strength that pulls vectors to 0.",
        "Strength of the regularisation: each row that a pair touches is divided by "
        "``1 + rate * l2``.",
        Number(float, 0, none=True),
    )
    feature_weighting: str = of_estimators(
        "idf",
        "How features are weighted.",
        '"idf" weights each feature by ``log(N / df)``, with N the examples and df those that '
        'have the feature (Sparck Jones, "A statistical interpretation of term specificity and '
        'its application in retrieval", 1972), over the mean of that over all occurrences in '
        "training, so that learning rates keep their meaning. A feature that is in every example "
        "then weighs nothing.",
        choices=("idf", "none"),
    )

"""The one schema of options: what a task can be asked for, whoever asks.

An option is a field of `Options`. Its name, type, default and check, what it means, and
where it can be given stand there and nowhere else. Made from it are: the arguments of tasks
and estimators and what `help` says of them (`takes_options`), the flags of the command line,
the bits that kernels are compiled with (`BITS`), and the numbers that they are given
(`Settings`).
"""

from __future__ import annotations

import inspect
import os
import re
import textwrap
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .. import checks
from ..errors import InputError
from .constants import MAX_DRAW, MAX_REDRAW, MAX_WINDOW

Class = TypeVar("Class", bound=type)

# Where an option can be given.
TASK, LISTED_TASK = "task", "task over listed pairs"
CELL_TASK = "task over cells of counts"
ESTIMATOR, COMMAND_LINE = "estimator", "command line"
TASKS = (TASK, LISTED_TASK)
EVERYWHERE = (*TASKS, ESTIMATOR, COMMAND_LINE)
# What says how to train, whatever the objective.
OF_ALL = (*EVERYWHERE, CELL_TASK)
# What asks for itemsets.
OF_ITEMSETS = (TASK, ESTIMATOR, COMMAND_LINE)

NEGATIVE_SHARING = (1, 2, 4, 8, 16, 32)
# Losses of one logit and its label, with sampled negatives, and those that see all items at
# once, in batches of matrix products.
SAMPLED_LOSSES = ("negative-sampling", "nce", "hinge")
DENSE_LOSSES = ("softmax",)
# Scores over less may be infinite.
MIN_TEMPERATURE = 1e-6
# Of fewer itemsets, penalties would be few and large.
MIN_SHARE = 1e-4
OPTIMIZERS = ("sgd", "adagrad", "adam")
# What Ctrl-C may do to a training.
ON_INTERRUPT = ("stop", "raise")
# As many parts as it takes.
AUTO = "auto"
# How learning rates fall.
SCHEDULES = ("linear", "cosine")


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name, type and default."""

    help: str  # a sentence for the command line
    doc: str  # what docstrings say
    # Returns a value of this name in the form that the code works with, or raises an InputError.
    check: Callable[[str, Any], Any]
    choices: tuple[Any, ...] = ()  # values that there are, where they can be listed
    alias: str | None = None  # what estimators call it: gensim's word
    flag: str | None = None  # what the command line calls it, where that is not its name
    metavar: str | None = None  # what the command line calls its value
    kind: str | None = None  # what docstrings say of its type, for annotations that tell nothing
    absent: str = "none"  # what None stands for, in a word
    machine: bool = False  # whether it says how to compute here, and is no part of a model
    entrances: tuple[str, ...] = EVERYWHERE  # where it can be given
    # Bits of `BITS` that kernels are compiled with where it has another value than the default,
    # or by its value.
    bits: tuple[str, ...] | Mapping[Any, tuple[str, ...]] = ()
    scalar: bool = False  # whether kernels are given the value (see `Settings`)


def option(default: Any, help: str, doc: str = "", check: Any = None, **known: Any) -> Any:
    """Define an option: a field of a dataclass, with what is known of it beside."""
    choices = known.get("choices")
    if check is None and choices:
        check = one_of(choices) if default is not None else _none_or(one_of(choices))
    made = Option(help=help, doc=doc or help, check=check or _as_it_is, **known)
    return field(default=default, metadata={"option": made})


def about(known: Field[Any]) -> Option:
    """Return what is known of an option, from its field."""
    made: Option = known.metadata["option"]
    return made


def _as_it_is(name: str, value: Any) -> Any:
    return value


def one_of(choices: tuple[Any, ...]) -> Callable[[str, Any], Any]:
    """Return a check that a value is one of these."""

    def check(name: str, value: Any) -> Any:
        if isinstance(choices[0], int):
            value = checks.integer(name, value, 1)
        if value not in choices:
            raise InputError(f"{name} is {value!r}; pass one of {', '.join(map(repr, choices))}")
        return value

    return check


def _none_or(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return a check that takes None as well."""
    return lambda name, value: None if value is None else check(name, value)


@dataclass(frozen=True)
class Number:
    """A check of a number of a kind, in a range; or of None, if that is a value as well."""

    kind: type[int] | type[float]
    minimum: int | None = None
    none: bool = False
    maximum: int | None = None

    def __call__(self, name: str, value: Any) -> float | None:
        if self.none and value is None:
            return None
        if self.kind is int:
            count = checks.integer(name, value, self.minimum or 0)
            if self.maximum is not None and count > self.maximum:
                raise InputError(f"{name} is {value}; pass at most {self.maximum}")
            return count
        number = checks.number(name, value)
        if self.minimum is not None:
            if number < self.minimum:
                raise InputError(f"{name} is {value}; pass at least {self.minimum}")
            if number > float(np.finfo(np.float32).max):
                raise InputError(f"{name} is {value}; pass one that is finite in float32")
        return number


def _parts(name: str, value: Any) -> int | str:
    """Take a number of parts."""
    if isinstance(value, str):
        if value == AUTO:
            return AUTO
        if not value.isdecimal():
            raise InputError(f"{name} is {value!r}; pass a number of parts, or {AUTO!r}")
        value = int(value)
    return checks.integer(name, value, 1)


def yes_or_no(name: str, value: Any) -> bool:
    """Take a value for true or false."""
    return bool(value)


def resolve_seed(seed: int | None) -> int:
    """Check a seed, or draw one from the system where it is None.

    Returns
    -------
    int
        In 0 ... 2**64 - 1. A drawn seed is under 2**53, so that it survives JSON
        and spreadsheets.

    Raises
    ------
    InputError
        The seed is not an integer in that range.
    """
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> 11
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InputError(f"seed must be an integer or None, not {seed!r}")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed must be in 0 ... 2**64 - 1, not {seed}")
    return int(seed)


@dataclass(frozen=True, eq=False)
class Options:
    """What a task may be asked for beside the objective of itembed, which is the default.

    Each is checked here.

    Parameters
    ----------
    {options}

    Raises
    ------
    InputError
        An option cannot be used.
    """

    noise_exponent: float = option(
        0.0,
        "Negatives are drawn by counts to this power: 0 all alike, 0.75 as word2vec does, "
        "1 as often as they occur.",
        "Negatives are drawn in proportion to the counts of the right-hand items to this "
        "power. 0 draws every row alike; with anything else, rows that do not occur are never "
        "drawn. 0.75 is word2vec's, 1 as they occur; less than 0 prefers rare items.",
        Number(float),
        alias="ns_exponent",
        bits=("NOISE",),
    )
    noise_weights: npt.ArrayLike | None = option(
        None,
        "Weight of each row among the negatives.",
        "Weight of each right-hand row among the negatives, instead.",
        kind="float, num_right_label",
        entrances=TASKS,
        bits=("NOISE",),
    )
    subsample: float = option(
        0.0,
        "Leave out occurrences of items that make up more than this share of all, such as "
        "0.001; 0 keeps all.",
        "Threshold t: an occurrence of an item that makes up a share f of all occurrences is "
        "kept with probability min(1, sqrt(t / f)), drawn anew in each epoch, and a pair is "
        "trained if both of its items are kept (Mikolov et al., 2013); of a mean, what is not "
        "kept is left out. `EpochRecord.num_dropped` counts the others. 0 keeps all.",
        Number(float, 0),
        alias="sample",
        metavar="SHARE",
        bits=("SUBSAMPLE",),
    )
    loss: str = option(
        "negative-sampling",
        "nce corrects scores for how likely negatives are; hinge leaves alone what is right by a "
        "margin; softmax compares with all items.",
        '"nce" subtracts log(num_negative * Q(b)) from the logit of each target b, where Q is '
        "the noise distribution (Gutmann and Hyvarinen, 2010; Mnih and Teh, 2012): logits then "
        'estimate logarithms of probabilities. "hinge" is max(0, 1 - x) of a positive with logit '
        "x and max(0, 1 + x) of a negative (Cortes and Vapnik, 1995): what is right by a margin "
        'of 1 is left alone. "softmax" is ``sum_scale * log(sum_j exp(s_j)) - s_b`` with the sum '
        "over all items j, or over `num_negative` of them: the itemsets of a batch are compared "
        "with all items by products of matrices, and then take one step together. Their scores s "
        "are those of `similarity` over `temperature`.",
        choices=SAMPLED_LOSSES + DENSE_LOSSES,
        bits={"nce": ("NCE",), "hinge": ("HINGE",)},
    )
    reject_positive: bool = option(
        False,
        "Draw a negative again that is the pair's own item.",
        "Whether a negative that is the pair's own positive is drawn again. Of a set that is "
        "shared, it is left out for that pair.",
        yes_or_no,
        bits=("REJECT_POSITIVE",),
    )
    reject_itemset: bool = option(
        False,
        "Draw a negative again that is any item of the pair's itemset.",
        "The same for a negative that is any right-hand item of the pair's itemset, at the "
        "cost of a look at all of them. In a softmax, a target is then compared with what is "
        "outside of its itemset alone.",
        yes_or_no,
        entrances=OF_ITEMSETS,
        bits=("REJECT_POSITIVE", "REJECT_ITEMSET"),
    )
    update_left: bool = option(
        True,
        "Train the table of the left items.",
        "Whether the left table is trained, or only read. With one side frozen the problem is "
        "logistic regression: new rows find their place among old ones.",
        yes_or_no,
        entrances=TASKS,
        bits=("FREEZE_LEFT",),
    )
    update_right: bool = option(
        True,
        "Train the table of the right items.",
        "The same for the right table.",
        yes_or_no,
        entrances=TASKS,
        bits=("FREEZE_RIGHT",),
    )
    l2: float = option(
        0.0,
        "Strength that pulls vectors to 0.",
        "Strength of the regularisation: each row that a pair touches is divided by "
        "``1 + rate * l2`` times the size of the pair's weights; with Adagrad, the rate is "
        "divided as it is for the gradient. In a softmax, each row that a step touches is, once, "
        "whatever the weights.",
        Number(float, 0),
        bits=("L2",),
        scalar=True,
    )
    positive_weight: float = option(
        1.0,
        "Weight of a pair's own item beside its negatives.",
        "Factor on the loss of a pair's positive, and so on its gradient, where that of each "
        "negative is 1. Below 1, it makes up for the overconfidence that few negatives leave: "
        'it is the beta of gBCE (Petrov and Macdonald, "gSASRec: Reducing overconfidence in '
        'sequential recommendation trained with negative sampling", RecSys 2023).',
        Number(float, 0),
        bits=("POSITIVE_WEIGHT",),
        scalar=True,
    )
    max_step: float = option(
        0.0,
        "Bound the steps of right-hand rows, so that a high learning rate does not make training "
        "diverge: 4, or 0 for no bound.",
        "Bound s on the steps of the right-hand rows. One that is m of the targets of a pair has a "
        "rate, times the weights of the pair, of at most ``s / (m * |u|**2)``, where u is the left "
        "vector. As the second derivative of the loss by a logit is at most 1/4, 4 is the most "
        "that cannot overshoot while u stays, and 2 leaves room for its own step. It matters "
        "where rates are high and rows few, so that negatives hit some several times at once. 0 "
        "sets no bound.",
        Number(float, 0),
        bits=("MAX_STEP",),
        scalar=True,
    )
    similarity: str = option(
        "dot",
        "How items are compared with an itemset: by the dot product, or by its cosine.",
        'What a score is made of with ``loss="softmax"``: the dot product of the left vector and a '
        'right-hand row, or with "cosine" that of both scaled to length 1.',
        choices=("dot", "cosine"),
    )
    temperature: float | None = option(
        None,
        "Divide scores by this in a softmax.",
        'What scores are divided by with ``loss="softmax"``; by default 1 for dot products, and '
        "0.1 for cosines, of which it decides what is learned: 0.05 to 0.2.",
        Number(float, 0, none=True),
        absent="1, of cosines 0.1",
    )
    sum_scale: float = option(
        1.0,
        "Weight of the logarithm of the sum in a softmax.",
        'Factor on the logarithm of the sum with ``loss="softmax"``. 1 is softmax; above it is the '
        'bilateral form of Wu et al. ("BSL: Understanding and improving softmax loss for '
        'recommendation", ICDE 2024), as if the positives had a temperature of their own: up to '
        "1.25 on sparse data. It is to be chosen on a validation split.",
        Number(float, 0),
    )
    self_normalization: float = option(
        0.0,
        "Pull the logarithm of the sum to 0 in a softmax, by this factor on its square: 0.1.",
        'Factor a on a penalty with ``loss="softmax"``, which adds ``a * log(Z)**2`` to the loss '
        "of each pair, where Z is the sum over all items: scores are then near to logarithms of "
        'probabilities as they are, and need no sum (Devlin et al., "Fast and robust neural '
        'network joint models for statistical machine translation", ACL 2014, with a = 0.1). Of '
        "weights it is the size that counts. With `num_negative`, Z is the estimate of that sum. "
        '`log_partition` tells how near to 0 its logarithm is. Of sampled losses, "nce" comes '
        "near to that by itself.",
        Number(float, 0),
    )
    normalized_share: float = option(
        1.0,
        "Share of the itemsets, or pairs, that self_normalization looks at.",
        "Share of the itemsets, or pairs, drawn anew in each epoch, that have the penalty of "
        "`self_normalization`, divided by this, so that on average it is the same (Andreas and "
        'Klein, "When and why are log-linear models self-normalizing?", NAACL 2015).',
        Number(float, 0),
    )
    dropout: float = option(
        0.0,
        "Leave out this share of the items of an itemset at random in a softmax.",
        'Share of the left items that are left out of a mean at random with ``loss="softmax"``, '
        "drawn anew in each epoch. Of an unsupervised task, they remain targets.",
        Number(float, 0),
        entrances=OF_ITEMSETS,
    )
    targets: str = option(
        "all",
        "Which items of an itemset are predicted in a softmax.",
        'What is predicted from the mean of an itemset with ``loss="softmax"``: "all" of its '
        'items, those in the mean as well; only those that were "dropped" from it, see `dropout`; '
        'or with "others" each item from all the others, which takes as many times longer as an '
        "itemset has items.",
        choices=("all", "dropped", "others"),
        entrances=OF_ITEMSETS,
    )
    optimizer: str = option(
        "sgd",
        "adagrad has a learning rate for each item, which falls the more it is trained; adam is "
        "for a softmax.",
        '"adagrad" trains row r with the learning rate divided by the root of G_r, which adds '
        "up the mean squares of the gradients of its updates (Duchi et al., 2011; one number a "
        'row, as in PyTorch-BigGraph). Rates of 0.1 to 0.5 suit it. "adam" (Kingma and Ba, 2015), '
        'for ``loss="softmax"``, leaves rows alone that a batch does not touch, and counts the '
        "steps of each; rates of 0.001 to 0.02. Tasks that share a table have moments of their "
        "own.",
        choices=OPTIMIZERS,
        bits={"adagrad": ("ADAGRAD",)},
    )
    pooling: str = option(
        "pairs",
        "pairs trains each item with a random other one of its itemset, mean with the mean of "
        "all the others.",
        '"pairs" trains each left item with a right one. "mean" trains the mean of the left '
        "items (of an unsupervised task, of all the others of the itemset) with each right "
        "item: what it is scored with when a basket is given (CBOW of Mikolov et al., 2013, "
        "gensim's ``sg=0``, whose window is the itemset; FISM of Kabbur et al., 2013). The mean is "
        "sum(w_i * x_i) / sum(abs(w_i)); every left row has its share of the gradient. A "
        "pair is then weighted by the right item alone, and reads and writes as many rows as "
        "there are left items.",
        choices=("pairs", "mean"),
        entrances=OF_ITEMSETS,
        bits={"mean": ("MEAN",)},
    )
    window: int | None = option(
        None,
        "Of sequences: train each item with those at most about so far from it; none for the "
        "whole itemset.",
        "Greatest distance of two items that are trained with each other, for itemsets whose order "
        "tells: sessions, walks, sentences. As in word2vec, each position has those within a "
        "distance that is drawn uniformly from 1 ... window: near ones more often. With "
        '`pooling="pairs"` an epoch has as many pairs as word2vec makes on average, those at '
        "distance d in a share ``(window - d + 1) / window`` of all cases (skip-gram). With "
        '"mean" each item is predicted from the mean of those around it (CBOW). By default all '
        "items of an itemset are alike, whatever their order. `subsample` leaves out pairs, where "
        "word2vec brings together what was around a word that is left out.",
        Number(int, 1, none=True, maximum=MAX_WINDOW),
        absent="the whole itemset",
        entrances=OF_ITEMSETS,
    )
    num_negative: int | None = option(
        None,
        "Negative samples for each pair; of a softmax, for each batch.",
        "Negatives a pair, drawn from the rows of the right table: uniformly, unless "
        '`noise_exponent` says otherwise; by default 5. With ``loss="softmax"`` by default none is '
        "drawn, and the sum is over all rows; else so many are drawn, once for a batch, which "
        "should be some thousands. Each then stands for ``1 / (num_negative * Q)`` rows, where Q "
        "is how probable it was, so that the sum is right on average; an itemset's own targets "
        "count as they are.",
        Number(int, 0, none=True),
        alias="negative",
        flag="negative",
        absent="5, of a softmax all items",
    )
    negative_sharing: int = option(
        1,
        "Pairs that share a set of negatives: faster with more.",
        "So many consecutive pairs of the epoch's order share one set of negatives, which is "
        "faster: rows that are shared are read and written once. A pair still has "
        "`num_negative` of them.",
        choices=NEGATIVE_SHARING,
    )
    learning_rate_scale: float = option(
        1.0,
        "Multiplier of the learning rate.",
        check=Number(float),
        entrances=(*TASKS, CELL_TASK),
    )
    batch_size: int | None = option(
        None,
        "Itemsets a batch.",
        "Itemsets a batch, on average: the unit of `len(task)` and of the learning rate's steps; "
        'by default 64. With ``loss="softmax"`` a batch is one step, by default of 1,024.',
        Number(int, 1, none=True),
        absent="64, of a softmax 1,024",
        entrances=OF_ALL,
    )
    chunk_size: int | None = option(
        None,
        "Train in chunks of so many occurrences: for packed itemsets that are larger than "
        "memory, or than the card.",
        "Train in chunks of about so many items, which are whole batches: an epoch goes "
        "through the chunks in a random order, and in each through its items in a random order. "
        "Two of them are in memory at once (and on the device), which is all that is copied of "
        "itemsets that are mapped from the disk. An itemset is never cut: one very long sequence "
        "is one chunk. By default all is one chunk.",
        Number(int, 1, none=True),
        metavar="ITEMS",
        absent="all at once",
        entrances=OF_ALL,
    )
    partitions: int | str = option(
        1,
        "Parts of the catalog, two of which are on the device at a time, for tables that are "
        "larger than its memory; auto for as few as fit.",
        "Parts that the rows of each table are dealt out to, anew in each epoch, so that two of "
        "them and the next one are all that is on the device (and of tables that are mapped from "
        "the disk, in memory): for tables that are larger. An epoch has the same pairs as without, "
        "and trains those of two parts after the other; negatives of a pair are drawn from the "
        "part of its right item. The pairs of an epoch are kept in memory, 8 bytes each, or beyond "
        '1 GiB in a file in the folder of temporary files. "auto" is as few as fit a card, and '
        "logs a warning which; of the CPU 1. A seed repeats a result with the same number of parts "
        "alone.",
        _parts,
        metavar="NUMBER",
        kind='int or "auto"',
        entrances=OF_ALL,
    )
    seed: int | None = option(
        None,
        "Seed of all that is random: with --threads 1, a run repeats exactly.",
        "Seed of the random stream: it fixes the pairs and the negatives, and on one thread the "
        "result to the last bit. By default one is drawn, and kept in `seed`.",
        lambda name, value: resolve_seed(value),
        absent="drawn, and told",
        entrances=OF_ALL,
    )
    device: Any = option(
        None,
        "cpu, cuda, cuda:N or auto.",
        'Where to train: "cpu", "cuda", "cuda:N", "auto" or a `Cuda`; by default where the '
        "tables are if they are CuPy arrays, else what the environment variable "
        "``ITEMBED_GPU_DEVICE`` says, else the CPU. NumPy tables are copied to a GPU by `train`, "
        "or by the first `do_batch`, and back when `train` ends or by `synchronize`; until then "
        "nothing else should train or change them.",
        metavar="NAME",
        kind="str or Cuda",
        absent="cpu",
        machine=True,
        entrances=OF_ALL,
    )
    num_threads: int | None = option(
        None,
        "Threads of the CPU.",
        "Threads on the CPU; by default all cores.",
        Number(int, 1, none=True),
        alias="workers",
        flag="threads",
        absent="one a core",
        machine=True,
        entrances=OF_ALL,
    )

    def __post_init__(self) -> None:
        for known in fields(self):
            value = about(known).check(known.name, getattr(self, known.name))
            object.__setattr__(self, known.name, value)
        _check_together(self)
        for name, (sampled, dense) in BY_LOSS.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, dense if self.dense else sampled)
        if self.temperature is None and self.dense:
            object.__setattr__(self, "temperature", 0.1 if self.similarity == "cosine" else 1.0)
        most = (MAX_DRAW // (MAX_REDRAW + 1) if self.rejects else MAX_DRAW) - 4
        if self.num_negative is not None and self.num_negative > most:
            raise InputError(f"num_negative is {self.num_negative}; pass at most {most}")

    @property
    def dense(self) -> bool:
        """Whether the loss sees all items at once, in batches of matrix products."""
        return self.loss in DENSE_LOSSES

    @property
    def rejects(self) -> bool:
        """Whether some negatives are drawn again."""
        return bool(self.flags & REJECT_POSITIVE)

    @property
    def flags(self) -> int:
        """The bits of `BITS` that kernels are compiled with, as a sum."""
        names = {name for known in fields(self) for name in _bits(known, getattr(self, known.name))}
        return sum(BITS[name] for name in names)


# What options of None stand for: with sampled negatives, and where all items are seen.
BY_LOSS: dict[str, tuple[Any, Any]] = {"num_negative": (5, None), "batch_size": (64, 1024)}
# Options that mean something with one kind of loss alone.
OF_SAMPLED = {"positive_weight", "max_step", "reject_positive", "negative_sharing"}
OF_DENSE = {
    *("similarity", "temperature", "sum_scale", "self_normalization", "normalized_share"),
    *("dropout", "targets"),
}
OF_NOISE = {"noise_exponent", "noise_weights"}
OF_BAGS = {"dropout", "targets"}
# What a pair of a list, as those of blocks are, knows nothing of; with the values that go.
NOT_IN_PARTS = {
    "loss": (SAMPLED_LOSSES, "a softmax sees all items at once; pass another loss"),
    "pooling": (("pairs",), "a mean has items of several parts; pass pooling='pairs'"),
    "reject_itemset": ((False,), "pairs of parts have no itemset; pass reject_positive"),
    "chunk_size": ((None,), "its pairs are drawn from all itemsets; leave it out"),
}


def _check_together(options: Options) -> None:
    """Refuse options that mean nothing beside others."""
    values = {known.name: getattr(options, known.name) for known in fields(options)}
    given = {
        known.name: values[known.name]
        for known in fields(options)
        if not _is_default(known, values[known.name])
    }
    if options.partitions != 1:
        for name, (fine, why) in NOT_IN_PARTS.items():
            if values[name] not in fine:
                raise InputError(
                    f"partitions is {options.partitions!r} and {name} is {values[name]!r}: {why}, "
                    "or leave partitions out"
                )
    loss, cure = repr(options.loss), "leave it out" if options.dense else "pass loss='softmax'"
    for name in given.keys() & (OF_SAMPLED if options.dense else OF_DENSE):
        raise InputError(f"{name} is {given[name]!r} and loss is {loss}; {cure}")
    if not options.dense:
        if options.optimizer == "adam":
            raise InputError(f"optimizer is 'adam' and loss is {loss}; pass 'adagrad'")
        return
    if options.temperature is not None and options.temperature < MIN_TEMPERATURE:
        raise InputError(
            f"temperature is {options.temperature}; pass at least {MIN_TEMPERATURE}, such as 0.1"
        )
    if options.self_normalization and options.reject_itemset:
        raise InputError(
            f"self_normalization is {options.self_normalization} and reject_itemset is True, whose "
            "sums lack the itemset; leave out one of them"
        )
    if not MIN_SHARE <= options.normalized_share <= 1:
        raise InputError(
            f"normalized_share is {options.normalized_share}; pass from {MIN_SHARE} to 1"
        )
    if options.normalized_share < 1 and not options.self_normalization:
        raise InputError(
            f"normalized_share is {options.normalized_share} and self_normalization is 0; pass a "
            "self_normalization, such as 0.1"
        )
    if not options.dropout < 1:
        raise InputError(f"dropout is {options.dropout}; pass less than 1")
    if options.targets == "dropped" and not options.dropout:
        raise InputError("targets is 'dropped' and dropout is 0; pass a dropout, such as 0.5")
    if options.num_negative == 0:
        raise InputError("num_negative is 0; pass some thousands, or None for all items")
    if options.num_negative is None:
        for name in given.keys() & OF_NOISE:
            raise InputError(
                f"{name} is given and no negative is drawn; pass a num_negative, or leave it out"
            )
    if options.window is not None and options.pooling == "mean":
        raise InputError(
            f"window is {options.window}, pooling 'mean' and loss 'softmax'; "
            "pass pooling='pairs', or another loss"
        )
    if options.pooling == "pairs":
        for name in given.keys() & OF_BAGS:
            raise InputError(
                f"{name} is {given[name]!r} and pooling is 'pairs'; pass pooling='mean'"
            )


def _is_default(known: Field[Any], value: Any) -> bool:
    # An array is never a default.
    return value is known.default or (np.ndim(value) == 0 and value == known.default)


def _bits(known: Field[Any], value: Any) -> tuple[str, ...]:
    bits = about(known).bits
    if isinstance(bits, Mapping):
        return tuple(bits.get(value, ()))
    return () if _is_default(known, value) else bits


# Bits of objectives that are tasks of their own, and no option of others. Of a document task, each
# itemset has a row of its own in its mean, of a third table.
OF_OBJECTIVES = ("GLOVE", "OWN_ROW")


def _all_bits() -> dict[str, int]:
    names: dict[str, None] = {}
    for known in fields(Options):
        bits = about(known).bits
        for group in bits.values() if isinstance(bits, Mapping) else (bits,):
            names |= dict.fromkeys(group)
    names |= dict.fromkeys(OF_OBJECTIVES)
    return {name: 1 << place for place, name in enumerate(names)}


# What is compiled into kernels, on every device.
BITS = _all_bits()
NOISE = BITS["NOISE"]
SUBSAMPLE = BITS["SUBSAMPLE"]
NCE = BITS["NCE"]
HINGE = BITS["HINGE"]
POSITIVE_WEIGHT = BITS["POSITIVE_WEIGHT"]
REJECT_POSITIVE = BITS["REJECT_POSITIVE"]
REJECT_ITEMSET = BITS["REJECT_ITEMSET"]
FREEZE_LEFT = BITS["FREEZE_LEFT"]
FREEZE_RIGHT = BITS["FREEZE_RIGHT"]
L2 = BITS["L2"]
ADAGRAD = BITS["ADAGRAD"]
MEAN = BITS["MEAN"]
OWN_ROW = BITS["OWN_ROW"]
GLOVE = BITS["GLOVE"]

# Numbers that kernels are given: a float32 each, or None where the option has its default, of
# which compiled code then has no trace.
SCALARS = tuple(known.name for known in fields(Options) if about(known).scalar)
Settings = namedtuple("Settings", SCALARS)  # type: ignore[misc]
NO_SETTINGS = Settings(*[None] * len(SCALARS))


def make_settings(options: Options) -> Any:
    """Return the numbers of some options that kernels are given."""
    defaults = {known.name: known.default for known in fields(Options)}
    values = ((name, getattr(options, name)) for name in SCALARS)
    return Settings(*(None if v == defaults[name] else np.float32(v) for name, v in values))


# ------------------------------------------------------------------- entrances

# What docstrings say of options that a class chooses.
CHOSEN = "Where it is None, it is chosen: see `chosen_`."

# Old names of options, which are still taken.
DEPRECATED = {"window_size": "chunk_size"}


def renamed(given: Mapping[str, Any], depth: int = 2) -> dict[str, Any]:
    """Give options that are called by an old name their new one, and warn of it.

    The warning is of the code so many calls above the one of this function. Raises an
    `InputError` if both are given.
    """
    new = dict(given)
    for old, name in DEPRECATED.items():
        if old in new:
            if name in new:
                raise InputError(f"{old} and {name} are given; pass {name} alone")
            warnings.warn(f"{old} is now called {name}", FutureWarning, stacklevel=depth + 2)
            new[name] = new.pop(old)
    return new


def make_options(owner: object, entrance: str, given: Mapping[str, Any]) -> Options:
    """Return the options of a task, from its ``**options``.

    Raises an `InputError` if one cannot be used, and a `TypeError` if there is no such option.
    """
    known = options_at(entrance)
    new = renamed(given)
    for name in new:
        if name not in known:
            raise TypeError(
                f"{type(owner).__name__}() got an unexpected keyword argument {name!r}; "
                f"there are {', '.join(sorted(known))}"
            )
    return Options(**new)


def name_at(known: Field[Any], entrance: str) -> str:
    """Return what an option is called at an entrance."""
    if entrance in (*TASKS, CELL_TASK):
        return known.name
    other = about(known).alias if entrance == ESTIMATOR else about(known).flag
    return other or known.name


def options_at(entrance: str, *schemas: type) -> dict[str, Field[Any]]:
    """Return the options of some schemas that can be given at an entrance, by their names there."""
    found = [known for schema in schemas or (Options,) for known in fields(schema)]
    return {name_at(one, entrance): one for one in found if entrance in about(one).entrances}


def of_others(entrance: str, task: str) -> set[str]:
    """Name the options of tasks, as an entrance calls them, that mean nothing to a kind of task."""
    own = {known.name for known in options_at(task).values()}
    return {name for name, known in options_at(entrance).items() if known.name not in own}


def takes_options(
    entrance: str,
    *schemas: type,
    defaults: Mapping[str, Any] | None = None,
    docs: Mapping[str, str] | None = None,
    positional: Iterable[str] = (),
    chosen: Iterable[str] = (),
    without: Iterable[str] = (),
) -> Callable[[Class], Class]:
    """Have a class say which options its ``**options`` are, to `help` and whoever asks.

    A class without an ``__init__`` of its own gets one that keeps them as they are, each in an
    attribute of its name. In `_schema` are their fields, by these names.

    Parameters
    ----------
    entrance : str
        Which of them it takes, and by which names.
    *schemas : type
        Dataclasses of options; by default `Options`.
    defaults, docs : dict by str, optional
        Defaults and descriptions that are others than those of the schema.
    positional : iterable of str, optional
        Names of those that can be given by place, in this order, after the class's own.
    chosen : iterable of str, optional
        Names of those that are None where they are not given, for the class to choose.
    without : iterable of str, optional
        Names of those that it does not take.

    Returns
    -------
    function
        A decorator. In the class's docstring, a line ``{options}`` becomes their description.
    """
    known = options_at(entrance, *schemas)
    known = {name: one for name, one in known.items() if name not in set(without)}
    order = list(dict.fromkeys([*positional, *known]))
    own_defaults = {**(defaults or {}), **dict.fromkeys(chosen)}

    def parameter(name: str) -> inspect.Parameter:
        kind = inspect.Parameter
        place = kind.POSITIONAL_OR_KEYWORD if name in positional else kind.KEYWORD_ONLY
        default = own_defaults.get(name, known[name].default)
        annotation = str(known[name].type)
        if default is None and annotation != "Any" and not annotation.endswith("| None"):
            annotation += " | None"
        return kind(name, place, default=default, annotation=annotation)

    def decorate(cls: Class) -> Class:
        cls._schema = known  # type: ignore[attr-defined]
        if "__init__" not in vars(cls):
            cls.__init__ = _keeper(cls)  # type: ignore[misc]
        init = cls.__init__  # type: ignore[misc]
        own = inspect.signature(init)
        given = [
            p for p in own.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        made = [*given, *map(parameter, order)]
        made.sort(key=lambda p: p.kind)  # stable: each kind in its order
        init.__signature__ = own.replace(parameters=made)
        if cls.__doc__:
            others = {one.name: name for name, one in known.items() if one.name != name}
            texts = {name: _in_words_of(others, about(one).doc) for name, one in known.items()}
            texts |= docs or {}
            texts |= {name: f"{texts[name]} {CHOSEN}" for name in own_defaults.keys() & chosen}
            lines = [_described(known[name], parameter(name), texts[name]) for name in order]
            _describe(cls, lines)
        return cls

    return decorate


def _describe(cls: type, lines: Iterable[str]) -> None:
    """Have a class's docstring describe its options."""
    if cls.__doc__:
        cls.__doc__ = cls.__doc__.replace("    {options}\n", "".join(lines))


def _keeper(cls: type) -> Callable[..., None]:
    """Return an ``__init__`` that keeps what its signature says, each in an attribute."""

    def __init__(self: Any, *values: Any, **options: Any) -> None:
        try:
            given = inspect.signature(__init__).bind(self, *values, **renamed(options, 1))
        except TypeError as error:
            raise TypeError(f"{cls.__name__}() {error}") from None
        given.apply_defaults()
        for name, value in list(given.arguments.items())[1:]:
            setattr(self, name, value)

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _in_words_of(others: Mapping[str, str], text: str) -> str:
    """Call options in a text by the names that they have at an entrance."""
    return re.sub(r"\b\w+\b", lambda word: others.get(word[0], word[0]), text)


def _described(known: Field[Any], parameter: inspect.Parameter, text: str) -> str:
    """Describe an option as numpydoc does."""
    one = about(known)
    listed = f"{{{', '.join(map(repr, one.choices))}}}" if one.choices else None
    kind = one.kind or listed or str(known.type).removesuffix(" | None")
    default = parameter.default
    last = "optional" if default is None or default == () else f"default {default!r}"
    filled = textwrap.fill(text, 96, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"    {parameter.name} : {kind}, {last}\n{filled}\n"


_describe(
    Options,
    (
        _described(known, parameter, about(known).doc)
        for known, parameter in zip(
            fields(Options), inspect.signature(Options).parameters.values(), strict=True
        )
    ),
)

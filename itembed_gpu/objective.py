"""What a task's objective is made of, beside its pairs: noise, corrections, options.

Where an option is not used, its array is None: compiled code then has no trace of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from . import checks
from .checks import Float32Array, Int32Array
from .errors import InputError
from .rng import MAX_DRAW

Float64Array = npt.NDArray[np.float64]
UInt32Array = npt.NDArray[np.uint32]

# A 32-bit word is below this threshold, always.
ALWAYS = 0xFFFFFFFF
# Draws that a negative may take until it is not the positive; then any other row is taken.
MAX_REDRAW = 16

# Options that are no array. Both backends compile them in.
REJECT_POSITIVE = 1
FREEZE_LEFT = 2
FREEZE_RIGHT = 4
MEAN = 8
REJECT_ITEMSET = 16

LOSSES = ("negative-sampling", "nce")
OPTIMIZERS = ("sgd", "adagrad")
POOLINGS = ("pairs", "mean")


@dataclass(frozen=True, eq=False)
class Options:
    """What a task may be asked for beside the objective of itembed, which is the default.

    Attributes
    ----------
    noise_exponent : float
        Negatives are drawn in proportion to the counts of the right-hand items to this
        power: 0 is uniform, 0.75 word2vec's, 1 as they occur; less than 0 prefers rare ones.
    noise_weights : float, num_right, or None
        Weights of the rows in the noise distribution, instead.
    subsample : float
        Threshold t: an occurrence of an item that makes up a share f of all of them is
        kept with probability min(1, sqrt(t / f)), anew in each epoch. 0 keeps all.
    loss : {"negative-sampling", "nce"}
        "nce" subtracts log(k Q(b)) from the logit of each target b.
    reject_positive : bool
        Whether a negative that is the pair's positive is drawn again.
    reject_itemset : bool
        Whether a negative that is any of the right items of the pair's itemset is.
    update_left, update_right : bool
        Whether the table of a side is trained, or only read.
    l2 : float
        Strength of the regularisation of the rows that a pair touches.
    optimizer : {"sgd", "adagrad"}
        "adagrad" divides the learning rate of a row by the root of what its squared
        gradients add up to.
    pooling : {"pairs", "mean"}
        "mean" trains the mean of the left items with each right item.
    """

    noise_exponent: float = 0.0
    noise_weights: npt.ArrayLike | None = None
    subsample: float = 0.0
    loss: str = "negative-sampling"
    reject_positive: bool = False
    reject_itemset: bool = False
    update_left: bool = True
    update_right: bool = True
    l2: float = 0.0
    optimizer: str = "sgd"
    pooling: str = "pairs"

    def __post_init__(self) -> None:
        for name in ("noise_exponent", "subsample", "l2"):
            checks.number(name, getattr(self, name))
        for name in ("subsample", "l2"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; pass at least 0")
        if self.l2 > float(np.finfo(np.float32).max):
            raise InputError(f"l2 is {self.l2}; pass one that is finite in float32")
        _check_choice("loss", self.loss, LOSSES)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("pooling", self.pooling, POOLINGS)

    @property
    def rejects(self) -> bool:
        """Whether some negatives are drawn again."""
        return bool(self.reject_positive or self.reject_itemset)

    @property
    def flags(self) -> int:
        """Options that are no array, as a sum of bits."""
        return (
            REJECT_POSITIVE * self.rejects
            + REJECT_ITEMSET * bool(self.reject_itemset)
            + FREEZE_LEFT * (not self.update_left)
            + FREEZE_RIGHT * (not self.update_right)
            + MEAN * (self.pooling == "mean")
        )


class Objective(NamedTuple):
    """Arrays and numbers of an objective; None where they are not used.

    Attributes
    ----------
    thresholds, aliases : uint32 and int32, num_right
        Alias table of the noise distribution; None where it is uniform.
    corrections : float32, num_right
        What is subtracted from the logit of each row: log(k Q(row)).
    left_keep, right_keep : uint32, num_left and num_right
        Words under this keep an occurrence of the row's item.
    left_state, right_state : float32, num_left and num_right
        Accumulators of Adagrad.
    l2 : float32
        Strength of the regularisation.
    flags : int
        Sum of REJECT_POSITIVE, REJECT_ITEMSET, FREEZE_LEFT, FREEZE_RIGHT and MEAN.
    """

    thresholds: UInt32Array | None = None
    aliases: Int32Array | None = None
    corrections: Float32Array | None = None
    left_keep: UInt32Array | None = None
    right_keep: UInt32Array | None = None
    left_state: Any = None
    right_state: Any = None
    l2: np.float32 | None = None
    flags: int = 0


def noise_weights(
    counts: npt.NDArray[Any], exponent: float, weights: npt.ArrayLike | None
) -> Float64Array | None:
    """Return the weight of each row in the noise distribution; None where all are alike.

    Parameters
    ----------
    counts : int, num_right
        Occurrences of each row on the right-hand side.
    exponent : float
        Weights are counts to this power. With 0 they are alike, and rows that do
        not occur count as well; otherwise those are never drawn.
    weights : float, num_right, optional
        Weights of the caller's, instead.

    Raises
    ------
    InputError
        An argument cannot be used.
    """
    if weights is not None:
        if exponent != 0:
            raise InputError(
                f"noise_exponent is {exponent} and noise_weights are given; pass one of them"
            )
        return _check_noise_weights(weights, len(counts))
    if exponent == 0:
        return None
    logs = np.log(np.maximum(counts, 1)) * exponent
    return np.where(counts > 0, np.exp(logs - logs[counts > 0].max(initial=-np.inf)), 0.0)


def _check_noise_weights(weights: npt.ArrayLike, num_row: int) -> Float64Array:
    array = checks.vector("noise_weights", weights, "fiu", "numbers").astype(np.float64)
    if len(array) != num_row:
        raise InputError(
            f"noise_weights has {len(array)} entries for {num_row} rows; pass one each"
        )
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() > 0):
        bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
        what = f"row {bad[0]} has {array[bad[0]]}" if len(bad) else "all of them are 0"
        raise InputError(f"noise_weights: {what}; pass finite weights of at least 0, not all 0")
    return array


def _normalized(weights: Float64Array) -> Float64Array:
    """Weights that add up to 1; the largest is 1 before, so that the sum cannot overflow."""
    scaled = weights / weights.max()
    shares: Float64Array = scaled / scaled.sum()
    return shares


def alias_table(weights: Float64Array) -> tuple[UInt32Array, Int32Array]:
    """Build a table that draws a row in proportion to its weight, in one step.

    A word times the number of rows has the row's bucket in its high half; its low
    half decides between the bucket's own row and its alias (Walker, 1977; built as
    by Vose, "A linear algorithm for generating random numbers with a given
    distribution", 1991). Probabilities are exact to some num_row / 2**32.

    Parameters
    ----------
    weights : float64, num_row
        At least 0, and not all 0.

    Returns
    -------
    thresholds : uint32, num_row
        Low halves under this stay with the bucket's row.
    aliases : int32, num_row
        Where the others go.
    """
    shares = _normalized(weights) * len(weights)
    thresholds, aliases = _pair_up(shares)
    # What rounding left over is full; where the weight is 0, it must not be.
    lost = np.flatnonzero((weights == 0) & (thresholds == ALWAYS))
    thresholds[lost], aliases[lost] = 0, int(weights.argmax())
    return thresholds, aliases


@njit(cache=True)
def _pair_up(shares):
    """Fill every bucket that is not full from one that is more than full."""
    num_row = len(shares)
    thresholds = np.full(num_row, ALWAYS, dtype=np.uint32)
    aliases = np.arange(num_row).astype(np.int32)
    # Both stacks in one array: the one grows from its start, the other from its end.
    stacks = np.empty(num_row, dtype=np.int64)
    num_small, num_large = 0, 0
    for row in range(num_row - 1, -1, -1):
        if shares[row] < 1:
            stacks[num_small] = row
            num_small += 1
        else:
            num_large += 1
            stacks[num_row - num_large] = row
    rest = shares.copy()
    while num_small > 0 and num_large > 0:
        num_small -= 1
        low, high = stacks[num_small], stacks[num_row - num_large]
        thresholds[low] = min(int(rest[low] * 2.0**32), ALWAYS - 1)
        aliases[low] = high
        rest[high] -= 1 - rest[low]
        if rest[high] < 1:
            num_large -= 1
            stacks[num_small] = high
            num_small += 1
    return thresholds, aliases


def log_corrections(weights: Float64Array | None, num_row: int, num_negative: int) -> Float32Array:
    """Return log(k Q(row)), what noise-contrastive estimation subtracts from the logits.

    The logit of a pair then estimates the logarithm of a probability itself (Gutmann
    and Hyvarinen, 2010; Mnih and Teh, "A fast and simple algorithm for training
    neural probabilistic language models", 2012, equation 8).

    Raises
    ------
    InputError
        There are no negatives.
    """
    if num_negative == 0:
        raise InputError("loss is 'nce' and num_negative is 0; pass at least 1 negative")
    if weights is None:
        return np.full(num_row, np.log(num_negative / num_row), dtype=np.float32)
    shares = _normalized(weights)
    # A row that is never drawn is a positive only in a table of somebody else's counts.
    shares = np.maximum(shares, np.finfo(np.float32).tiny)
    corrections: Float32Array = np.log(num_negative * shares).astype(np.float32)
    return corrections


def keep_probabilities(counts: npt.NDArray[Any], threshold: float) -> Float64Array:
    """Return how probable it is that an occurrence of each item is kept.

    With f the item's share of all occurrences and t the threshold, min(1, sqrt(t /
    f)) (Mikolov et al., "Distributed representations of words and phrases and their
    compositionality", 2013, equation 5).
    """
    shares = counts / max(int(counts.sum()), 1)
    with np.errstate(divide="ignore"):
        return np.minimum(1.0, np.sqrt(threshold / shares))


def keep_thresholds(probabilities: Float64Array) -> UInt32Array:
    """Turn probabilities into thresholds for 32-bit words; one of 1 is always kept."""
    return np.minimum(probabilities * 2.0**32, float(ALWAYS)).astype(np.uint32)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; pass one of {', '.join(map(repr, choices))}")


# That of itembed.
PLAIN = Objective()


def make_objective(
    options: Options,
    left_counts: npt.NDArray[Any],
    right_counts: npt.NDArray[Any],
    num_negative: int,
    left_state: Any,
    right_state: Any,
) -> Objective:
    """Work out the arrays of an objective.

    Parameters
    ----------
    options : Options
        What is asked for.
    left_counts, right_counts : int64, num_left and num_right
        Occurrences of each row.
    num_negative : int
        Negatives a pair.
    left_state, right_state : float32, num_left and num_right, or None
        Accumulators, where the optimizer has them.

    Raises
    ------
    InputError
        An option cannot be used.
    """
    num_right = len(right_counts)
    noise = noise_weights(right_counts, options.noise_exponent, options.noise_weights)
    thresholds, aliases = (None, None) if noise is None else alias_table(noise)
    corrections = None
    if options.loss == "nce":
        corrections = log_corrections(noise, num_right, num_negative)
    left_keep = right_keep = None
    if options.subsample > 0:
        left_keep, right_keep = (
            # What occurs once at most, as the numbers of itemsets do, is not frequent.
            keep_thresholds(
                keep_probabilities(counts, options.subsample)
                if counts.max(initial=0) > 1
                else np.ones(len(counts))
            )
            for counts in (left_counts, right_counts)
        )
    return Objective(
        thresholds=thresholds,
        aliases=aliases,
        corrections=corrections,
        left_keep=left_keep,
        right_keep=right_keep,
        left_state=left_state,
        right_state=right_state,
        l2=np.float32(options.l2) if options.l2 > 0 else None,
        flags=options.flags,
    )


def noise_shares(objective: Objective, num_right: int) -> Float64Array | None:
    """Return the probability of each row under the noise; None where it is uniform."""
    if objective.thresholds is None or objective.aliases is None:
        return None
    stays = (objective.thresholds.astype(np.float64) + (objective.thresholds == ALWAYS)) / 2.0**32
    goes = np.bincount(objective.aliases, 1 - stays, num_right)
    shares: Float64Array = (stays + goes) / num_right
    return shares


def check_num_negative(num_negative: int, rejects: bool) -> int:
    """Check the number of negatives: the draws of a slot are counted.

    Raises
    ------
    InputError
        It is not an integer of at least 0, or too large.
    """
    number = checks.integer("num_negative", num_negative)
    most = MAX_DRAW // (MAX_REDRAW + 1) - 4 if rejects else MAX_DRAW - 4
    if number > most:
        raise InputError(f"num_negative is {num_negative}; pass at most {most}")
    return number

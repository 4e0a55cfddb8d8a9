"""What a task's objective is made of, beside its pairs: noise, corrections, what is kept.

Where an option is not used, its array is None: compiled code then has no trace of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int32Array, Int64Array
from ..compiling import kept
from ..errors import InputError
from .constants import ALWAYS
from .options import NCE, NO_SETTINGS, NOISE, SUBSAMPLE, Options, make_settings

Float64Array = npt.NDArray[np.float64]
UInt32Array = npt.NDArray[np.uint32]


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
    settings : Settings
        Numbers of options.
    flags : int
        Sum of the bits of `options.BITS` that are in use.
    """

    thresholds: UInt32Array | None = None
    aliases: Int32Array | None = None
    corrections: Float32Array | None = None
    left_keep: UInt32Array | None = None
    right_keep: UInt32Array | None = None
    settings: Any = NO_SETTINGS
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


@kept()
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
    """
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


# That of itembed.
PLAIN = Objective()


def check_objective(options: Options, right_name: str, num_right: int) -> None:
    """Check options against the table of the right items, before anything is counted.

    Raises
    ------
    InputError
        An option cannot be used.
    """
    if options.noise_weights is not None:
        noise_weights(np.empty(num_right), options.noise_exponent, options.noise_weights)
    if options.loss == "nce" and options.num_negative == 0:
        raise InputError("loss is 'nce' and num_negative is 0; pass at least 1 negative")
    if options.rejects and num_right < 2:
        name = "reject_itemset" if options.reject_itemset else "reject_positive"
        raise InputError(
            f"{right_name} has 1 row, and {name} leaves no negative; "
            f"pass more rows, or {name}=False"
        )


class Counts(Protocol):
    """Occurrences of each row on both sides, which may take time to find."""

    num_left: int
    num_right: int

    @property
    def left(self) -> Int64Array: ...

    @property
    def right(self) -> Int64Array: ...


def make_objective(options: Options, counts: Counts) -> Objective:
    """Work out the arrays of an objective.

    Parameters
    ----------
    options : Options
        What is asked for; `check_objective` has found no fault.
    counts : Counts
        Occurrences of each row, of which only those that are needed are looked at.
    """
    flags = options.flags
    noise = None
    if flags & NOISE:
        # With weights that are given, nothing need be counted.
        right = counts.right if options.noise_weights is None else np.empty(counts.num_right)
        noise = noise_weights(right, options.noise_exponent, options.noise_weights)
    thresholds, aliases = (None, None) if noise is None else alias_table(noise)
    corrections = None
    if flags & NCE:
        corrections = log_corrections(noise, counts.num_right, options.num_negative or 0)
    left_keep = right_keep = None
    if flags & SUBSAMPLE:
        left_keep, right_keep = (
            # What occurs once at most, as the numbers of itemsets do, is not frequent.
            keep_thresholds(
                keep_probabilities(side, options.subsample)
                if side.max(initial=0) > 1
                else np.ones(len(side))
            )
            for side in (counts.left, counts.right)
        )
    return Objective(
        thresholds=thresholds,
        aliases=aliases,
        corrections=corrections,
        left_keep=left_keep,
        right_keep=right_keep,
        settings=make_settings(options),
        flags=flags,
    )


def noise_shares(objective: Objective, num_right: int) -> Float64Array | None:
    """Return the probability of each row under the noise; None where it is uniform."""
    if objective.thresholds is None or objective.aliases is None:
        return None
    stays = (objective.thresholds.astype(np.float64) + (objective.thresholds == ALWAYS)) / 2.0**32
    goes = np.bincount(objective.aliases, 1 - stays, num_right)
    shares: Float64Array = (stays + goes) / num_right
    return shares

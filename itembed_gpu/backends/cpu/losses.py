"""Losses: what the logits of a pair's targets are worth, and where they should go.

The twin of ``kernels/losses.cuh``. A loss is two functions of (logit, label, flags,
settings): its value, and minus its derivative by the logit. Every loop over targets calls them, or
`fill_gradients` of a span of targets, which calls them. The label is 1 of the positive, and
0 of negatives; flags and settings are the bits and the numbers of options
(`objective.options`).
"""

from __future__ import annotations

import numpy as np

from ...compiling import inlined, inlined_fast
from ...objective.constants import SPAN
from ...objective.options import HINGE

f32 = np.float32
ZERO = f32(0)
ONE = f32(1)
LOG2_E = f32(1.4426950408889634)
# 2**x is a normal number within these bounds.
MAX_EXPONENT = f32(126)
# Taylor coefficients of 2**x: log(2)**n / n!. Good to 2e-7 within 1/2 of 0.
EXP2_6 = f32(1.5403530393381608e-4)
EXP2_5 = f32(1.3333558146428443e-3)
EXP2_4 = f32(9.618129107628477e-3)
EXP2_3 = f32(5.550410866482158e-2)
EXP2_2 = f32(2.402265069591007e-1)
EXP2_1 = f32(6.931471805599453e-1)
EXPONENT_BIAS = np.int32(127)
MANTISSA_BITS = np.int32(23)


@inlined_fast
def exponential(x):
    """Exponential function of a float32, likewise; never 0, and finite."""
    exponent = min(max(x * LOG2_E, -MAX_EXPONENT), MAX_EXPONENT)
    whole = np.floor(exponent + f32(0.5))
    part = exponent - whole
    power = EXP2_6
    power = power * part + EXP2_5
    power = power * part + EXP2_4
    power = power * part + EXP2_3
    power = power * part + EXP2_2
    power = power * part + EXP2_1
    power = power * part + ONE
    # 2**whole, by writing the exponent field of a float32.
    scale = np.int32((np.int32(whole) + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)
    return power * scale


@inlined_fast
def sigmoid(x):
    """Logistic function of a float32, in arithmetic that vectorises.

    Relative error under 5e-7 for abs(x) <= 6, and 4e-6 for abs(x) <= 80.
    """
    return ONE / (ONE + exponential(-x))


@inlined
def log_loss(logit):
    """-log(sigmoid(logit)) in float64, without overflow."""
    x = np.float64(logit)
    return np.log1p(np.exp(-abs(x))) + max(-x, 0.0)


@inlined
def target_weight(label, settings):
    """What the loss of a target is multiplied by."""
    if settings.positive_weight is None:
        return ONE
    return settings.positive_weight if label == ONE else ONE


@inlined
def loss(logit, label, flags, settings):
    """Loss of a target, in float64."""
    right = logit if label == ONE else -logit
    value = max(ONE - right, ZERO) if flags & HINGE else log_loss(right)
    return target_weight(label, settings) * np.float64(value)


@inlined_fast
def gradient(logit, label, flags, settings):
    """Minus the derivative of the loss by the logit."""
    if flags & HINGE:
        sign = label + label - ONE
        slope = sign if sign * logit < ONE else ZERO
    else:
        slope = label - sigmoid(logit)
    return target_weight(label, settings) * slope


@inlined_fast
def corrected(dot, row, corrections):
    """Return the logit of a target: the dot product, less the correction of its row if any."""
    if corrections is None:
        return dot
    return dot - corrections[row]


@inlined_fast
def fill_gradients(logits, first, count, scale, flags, settings, with_loss, rejected=0):
    """Turn the logits of a span of targets into scaled gradients, and return their loss.

    Parameters
    ----------
    logits : float32, SPAN
        Logits of targets first ... first + count - 1 of a pair, the positive of which is
        number 0. Receives scale * gradient.
    first, count : int
        Which targets they are.
    scale : float32
        What the gradients are multiplied by.
    flags : int
        Bits of options, as a compile-time constant.
    settings : Settings
        Numbers of options.
    with_loss : bool
        Whether to compute the loss, or return 0.
    rejected : int, optional
        A bit for each target, set where it has no loss and no gradient.
    """
    total = 0.0
    if with_loss:
        for n in range(count):
            if not rejected >> n & 1:
                total += loss(logits[n], ONE if first + n == 0 else ZERO, flags, settings)
    # The whole buffer, used or not: a loop of constant length is one instruction.
    for n in range(SPAN):
        logits[n] = scale * gradient(logits[n], ONE if first + n == 0 else ZERO, flags, settings)
    if rejected:
        for n in range(SPAN):
            if rejected >> n & 1:
                logits[n] = ZERO
    return total

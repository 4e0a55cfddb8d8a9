"""The training step of GloVe on the CPU: one cell of counts.

The twin of ``kernels/cells.cuh``. For a cell of rows u (left) and v (right) with biases b and c
and a count x (Pennington, Socher and Manning, "GloVe: Global vectors for word representation",
EMNLP 2014, equations 8 and 9)::

    e = u . v + b + c - log(x)
    J = f(x) * e**2                     f(x) = min(1, (x / x_max) ** exponent)

The step is that of J / 2, as by the authors' program, with s = f(x) * e: s * v of u, s * u of v,
and s of both biases. Each number has an accumulator G of Adagrad of its own (Duchi et al.,
"Adaptive subgradient methods", 2011), which begins at 1, so that h is a gradient in::

    G += h**2
    number -= rate / sqrt(G) * h

Both rows are as they were read. Where left and right are one row, it takes both steps, the left
one first.
"""

from __future__ import annotations

import numpy as np

from ...compiling import inlined_fast
from .sgns import EPSILON, dot_with


@inlined_fast
def update_cell(constants, model, left, right, step, log_count, scratch, with_loss):
    """Train one cell.

    Parameters
    ----------
    constants, model, scratch
        As for `sgns.update_pair`; tables have biases.
    left, right : int
        Rows.
    step : Step
        Weight f of the cell, and learning rate.
    log_count : float32
        Logarithm of its count.
    with_loss : bool
        Whether to return the loss, or 0.

    Returns
    -------
    float64
        f * e**2 before the update.
    """
    _, dim, _, _, _ = constants
    u, v, rate = scratch.row, scratch.delta, step.rate
    for d in range(dim):
        u[d] = model.left.syn[left, d]
        v[d] = model.right.syn[right, d]
    error = dot_with(u, model.right.syn, right, dim)
    error += model.left.bias[left] + model.right.bias[right] - log_count
    scaled = step.scale * error
    step_row(model.left.syn, model.left.totals, left, v, scaled, rate, dim)
    step_row(model.right.syn, model.right.totals, right, u, scaled, rate, dim)
    step_bias(model.left.bias, model.left.bias_totals, left, scaled, rate)
    step_bias(model.right.bias, model.right.bias_totals, right, scaled, rate)
    return np.float64(scaled * error) if with_loss else 0.0


@inlined_fast
def step_row(syn, totals, row, other, scaled, rate, dim):
    """Take a step with a row, whose gradient is the scaled error times the other row."""
    for d in range(dim):
        gradient = scaled * other[d]
        total = totals[row, d] + gradient * gradient
        totals[row, d] = total
        syn[row, d] -= rate * gradient / np.sqrt(total + EPSILON)


@inlined_fast
def step_bias(bias, totals, row, gradient, rate):
    """Take a step with a bias."""
    totals[row] += gradient * gradient
    bias[row] -= rate * gradient / np.sqrt(totals[row] + EPSILON)

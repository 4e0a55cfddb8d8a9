"""How well tables predict pairs that were not trained on."""

from __future__ import annotations

import numpy as np

# Pairs that are scored at once.
CHUNK = 4_096


def held_out_loss(
    syn0: np.ndarray, syn1: np.ndarray, left: np.ndarray, right: np.ndarray, negatives: np.ndarray
) -> float:
    """Mean loss of pairs, each with negatives of its own.

    Parameters
    ----------
    syn0, syn1 : float32, (num_left, dim) and (num_right, dim)
        Tables.
    left, right : int, (num_pair,)
        Rows of each pair.
    negatives : int, (num_pair, num_negative)
        Rows of syn1.

    Returns
    -------
    float
        (num_negative + 1) ln 2 where all logits are 0; nan where a table is not finite.
    """
    total = 0.0
    for start in range(0, len(left), CHUNK):
        rows = slice(start, start + CHUNK)
        u = syn0[left[rows]].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # nan stays nan
            positive = np.einsum("nd,nd->n", u, syn1[right[rows]])
            negative = np.einsum("nd,nkd->nk", u, syn1[negatives[rows]])
            total += float(np.logaddexp(0, -positive).sum() + np.logaddexp(0, negative).sum())
    return total / len(left)

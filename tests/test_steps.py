"""The pair routine against its formula, written out in NumPy in float64."""

import numpy as np
import pytest
from numba import njit

from itembed_gpu.steps import CHUNK, sigmoid, update_pair


@njit
def compiled_update(syn_left, left, syn_right, targets, scale, with_loss):
    dim = syn_left.shape[1]
    row = np.empty(dim, dtype=np.float32)
    delta = np.empty(dim, dtype=np.float32)
    logits = np.zeros(CHUNK, dtype=np.float32)
    return update_pair(
        syn_left,
        left,
        syn_right,
        targets,
        len(targets),
        scale,
        dim,
        row,
        delta,
        logits,
        with_loss,
    )


@njit
def compiled_sigmoid(x):
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = sigmoid(x[i])
    return y


def numpy_update(syn_left, left, syn_right, targets, scale):
    """Expected tables and loss: rows are read a chunk of targets at a time, u once."""
    tables = [syn_left.astype(np.float64)]
    tables.append(tables[0] if syn_right is syn_left else syn_right.astype(np.float64))
    u = tables[0][left].copy()
    delta, loss = np.zeros_like(u), 0.0
    for first in range(0, len(targets), CHUNK):
        chunk = targets[first : first + CHUNK]
        rows = tables[1][chunk].copy()
        labels = np.arange(first, first + len(chunk)) == 0
        logits = rows @ u
        loss += np.log1p(np.exp(np.where(labels, -logits, logits))).sum()
        gradients = scale * (labels - 1 / (1 + np.exp(-logits)))
        delta += gradients @ rows
        np.add.at(tables[1], chunk, gradients[:, None] * u)
    tables[0][left] += delta
    return *tables, loss


def make_tables(dim, num_left=11, num_right=13, seed=0):
    generator = np.random.default_rng(seed)
    return [
        (0.5 * generator.normal(size=(n, dim))).astype(np.float32) for n in (num_left, num_right)
    ]


@pytest.mark.parametrize("dim", [1, 2, 7, 16, 33, 128])
@pytest.mark.parametrize("num_negative", [0, 1, 5, 7, 8, 20])
def test_a_pair_follows_the_formula(dim, num_negative):
    syn_left, syn_right = make_tables(dim)
    targets = np.random.default_rng(1).integers(0, 13, num_negative + 1).astype(np.int32)
    left, right, loss = numpy_update(syn_left, 4, syn_right, targets, 0.3)
    got = compiled_update(syn_left, 4, syn_right, targets, np.float32(0.3), True)
    np.testing.assert_allclose(syn_left, left, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(syn_right, right, rtol=1e-5, atol=1e-6)
    assert got == pytest.approx(loss, rel=1e-5)


def test_repeated_targets_lose_no_update():
    # The positive is drawn as a negative too, and one negative three times.
    syn_left, syn_right = make_tables(24)
    targets = np.array([3, 3, 5, 5, 5, 6], dtype=np.int32)
    left, right, _ = numpy_update(syn_left, 0, syn_right, targets, 0.5)
    compiled_update(syn_left, 0, syn_right, targets, np.float32(0.5), False)
    np.testing.assert_allclose(syn_left, left, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(syn_right, right, rtol=1e-5, atol=1e-6)


def test_one_table_for_both_sides():
    syn, _ = make_tables(24)
    targets = np.array([2, 7, 2, 9], dtype=np.int32)  # the left item among its own targets
    expected, _, _ = numpy_update(syn, 2, syn, targets, 0.5)
    compiled_update(syn, 2, syn, targets, np.float32(0.5), False)
    np.testing.assert_allclose(syn, expected, rtol=1e-5, atol=1e-6)


def test_only_the_rows_of_the_pair_change():
    syn_left, syn_right = make_tables(16)
    before = syn_left.copy(), syn_right.copy()
    compiled_update(
        syn_left, 4, syn_right, np.array([1, 2], dtype=np.int32), np.float32(0.1), False
    )
    assert np.flatnonzero((syn_left != before[0]).any(axis=1)).tolist() == [4]
    assert np.flatnonzero((syn_right != before[1]).any(axis=1)).tolist() == [1, 2]


def test_sigmoid_is_accurate_and_saturates():
    x = np.linspace(-80, 80, 100_001, dtype=np.float32)
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(compiled_sigmoid(x), expected, rtol=1e-5)
    small = np.abs(x) < 10
    np.testing.assert_allclose(compiled_sigmoid(x)[small], expected[small], rtol=2e-6)
    extreme = compiled_sigmoid(np.array([-np.inf, -1e30, 0, 1e30, np.inf], dtype=np.float32))
    assert extreme[[0, 1]].max() < 1e-37
    assert extreme[2:].tolist() == [0.5, 1, 1]


def test_large_logits_stay_finite():
    syn_left = np.full((1, 4), 1e15, dtype=np.float32)
    syn_right = np.array([[1e15] * 4, [-1e15] * 4], dtype=np.float32)
    loss = compiled_update(
        syn_left, 0, syn_right, np.array([0, 1], dtype=np.int32), np.float32(0.1), True
    )
    assert loss == 0
    assert np.isfinite(syn_left).all()
    assert np.isfinite(syn_right).all()


def test_not_a_number_is_not_hidden():
    syn_left, syn_right = make_tables(8)
    syn_left[3, 0] = np.nan
    loss = compiled_update(
        syn_left, 3, syn_right, np.array([1, 2], dtype=np.int32), np.float32(0.1), True
    )
    assert np.isnan(loss)
    assert np.isnan(syn_right[1]).any()

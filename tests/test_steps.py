"""The pair routine against its formula, written out in NumPy in float64."""

import numpy as np
import pytest
from numba import njit

from itembed_gpu.steps import CHUNK, sigmoid, update_group, update_pair


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


# --- groups -----------------------------------------------------------------


@njit
def compiled_group(syn_left, left, syn_right, right, negatives, scale, sample, rate, caps):
    dim = syn_left.shape[1]
    row = np.empty(dim, dtype=np.float32)
    delta = np.empty(dim, dtype=np.float32)
    logits = np.zeros(CHUNK, dtype=np.float32)
    local = np.empty((CHUNK, dim), dtype=np.float32)
    origin = np.empty((CHUNK, dim), dtype=np.float32)
    return update_group(
        syn_left, left, syn_right, right, negatives, len(negatives), 0, len(left), scale, dim,
        row, delta, logits, local, origin, sample, rate, caps[0], caps[1],
    )  # fmt: skip


def numpy_group(syn_left, left, syn_right, right, negatives, scale, sample, rate, caps):
    """Expected tables and loss: negatives change locally, and are added at the end."""
    u, v = syn_left.astype(np.float64), syn_right.astype(np.float64)
    if syn_right is syn_left:
        v = u
    loss = 0.0
    for first in range(0, len(negatives), CHUNK):
        chunk = negatives[first : first + CHUNK]
        shared = chunk[1:] if first == 0 else chunk
        local = v[shared].copy()
        origin = local.copy()
        for i in range(len(left)):
            rows = np.concatenate([v[right[i : i + 1]], local]) if first == 0 else local
            labels = (np.arange(len(rows)) + first == 0).astype(float)
            logits = rows @ u[left[i]]
            if i == sample:
                loss += np.log1p(np.exp(np.where(labels == 1, -logits, logits))).sum()
            gradients = scale[i] * (labels - 1 / (1 + np.exp(-logits)))
            factors = [min(1, caps[1][row] / rate) for row in shared]
            change = gradients @ rows
            update = gradients[-len(shared) :, None] * u[left[i]] if len(shared) else 0
            if len(shared):
                local += np.array(factors)[:, None] * update
            if first == 0:
                v[right[i]] += min(1, caps[1][right[i]] / rate) * gradients[0] * u[left[i]]
            u[left[i]] += min(1, caps[0][left[i]] / rate) * change
        for n, row in enumerate(shared):
            v[row] += local[n] - origin[n]
    return u, v, loss


@pytest.mark.parametrize("num_negative", [0, 1, 5, 7, 8, 20])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("capped", [False, True])
def test_a_group_shares_its_negatives(num_negative, same, capped):
    generator = np.random.default_rng(num_negative)
    syn_left, syn_right = (generator.normal(0, 0.5, (10, 9)).astype(np.float32) for _ in range(2))
    if same:
        syn_right = syn_left
    # Of ten rows, some come twice, as negatives and as items.
    left, right = (generator.integers(0, 10, 6).astype(np.int32) for _ in range(2))
    negatives = generator.integers(0, 10, num_negative + 1).astype(np.int32)
    scale = generator.uniform(-0.1, 0.2, 6).astype(np.float32)
    rate = np.float32(0.2)
    caps = [generator.uniform(0.05, 0.4, 10).astype(np.float32) for _ in range(2)]
    if not capped:
        caps = [np.full(10, np.inf, dtype=np.float32)] * 2
    expected = numpy_group(syn_left, left, syn_right, right, negatives, scale, 3, rate, caps)
    loss = compiled_group(syn_left, left, syn_right, right, negatives, scale, 3, rate, tuple(caps))
    np.testing.assert_allclose(syn_left, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(syn_right, expected[1], rtol=1e-5, atol=1e-5)
    assert loss == pytest.approx(expected[2], rel=1e-5)

"""The plain functions: itembed's own results, from Python and from compiled code."""

import random

import itembed
import numpy as np
import pytest
from numba import njit
from samples import random_itemsets, random_tables

import itembed_gpu
from itembed_gpu import InputError

DIM = 24
LABELS = 2000  # enough for repeated targets within a chunk to be rare


@njit
def seed_numba(seed):
    random.seed(seed)


def batch(num_label=LABELS, seed=0):
    items, offsets = random_itemsets(num_label=num_label, num_itemset=100, seed=seed)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, len(items)).astype(np.float32)
    return items, weights, offsets


def trained(function, *arguments, num_right=LABELS, **options):
    """Tables after a call that draws from Numba's generator, seeded alike each time."""
    tables = random_tables(LABELS, num_right, dim=DIM)
    seed_numba(5)
    function(*arguments, *tables, np.empty(DIM, dtype=np.float32), 4, 0.05, **options)
    return tables


CASES = {
    "do_step": lambda: (3, 8),
    "do_unsupervised_steps": lambda: (batch()[0][:9], batch()[1][:9]),
    "do_supervised_steps": lambda: (
        batch()[0][:5],
        batch()[0][50:58],
        batch()[1][:5],
        batch()[1][50:58],
    ),
    "do_unsupervised_batch": lambda: (*batch(), np.array([7, 3, 3, 99], dtype=np.int32)),
    "do_supervised_batch": lambda: (
        *batch(),
        np.array([7, 3, 99], dtype=np.int32),
        *batch(seed=1),
        np.array([0, 3, 8], dtype=np.int32),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_itembed(name):
    # Same generator, same order of draws: the same pairs and negatives.
    arguments = CASES[name]()
    expected = trained(getattr(itembed, name), *arguments)
    got = trained(getattr(itembed_gpu, name), *arguments)
    for mine, theirs, start in zip(got, expected, random_tables(LABELS, dim=DIM), strict=True):
        assert (theirs != start).any()
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_seed_makes_the_draws(name):
    arguments, function = CASES[name](), getattr(itembed_gpu, name)
    once, again, other, later = (
        trained(function, *arguments, seed=seed, counter=counter)
        for seed, counter in ((1, 0), (1, 0), (2, 0), (1, 7))
    )
    assert np.array_equal(once[1], again[1])
    assert not np.array_equal(once[1], other[1])
    assert not np.array_equal(once[1], later[1])


def test_a_seed_leaves_numbas_generator_alone():
    @njit
    def draw():
        return random.random()

    seed_numba(1)
    expected = draw()
    trained(itembed_gpu.do_step, 1, 2)  # seeds it with 5
    seed_numba(1)
    tables = random_tables(LABELS, dim=DIM)
    itembed_gpu.do_step(1, 2, *tables, np.empty(DIM, dtype=np.float32), 4, 0.05, seed=1, counter=0)
    assert draw() == expected


def test_batches_count_slots_on():
    # One batch of two itemsets is two calls whose counters follow each other.
    items, weights, offsets = batch()
    together, apart = random_tables(LABELS, dim=DIM), random_tables(LABELS, dim=DIM)
    tmp = np.empty(DIM, dtype=np.float32)
    itembed_gpu.do_unsupervised_batch(
        items, weights, offsets, np.array([4, 9]), *together, tmp, 4, 0.05, 3, 100
    )
    counter = 100
    for i in (4, 9):
        used = slice(offsets[i], offsets[i + 1])
        itembed_gpu.do_unsupervised_steps(
            items[used], weights[used], *apart, tmp, 4, 0.05, 3, counter
        )
        counter += offsets[i + 1] - offsets[i]
    assert np.array_equal(together[0], apart[0])


def test_usable_in_compiled_code():
    @njit
    def train_pairs(lefts, rights, syn_left, syn_right, tmp):
        for i in range(len(lefts)):
            itembed_gpu.do_step(lefts[i], rights[i], syn_left, syn_right, tmp, 4, 0.05, 9, i)
        itembed_gpu.do_step(lefts[0], rights[0], syn_left, syn_right, tmp, 4, 0.05)
        return itembed_gpu.expit(0.25)

    lefts, rights = np.array([1, 5, 9]), np.array([2, 6, 3])
    inside, outside = random_tables(LABELS, dim=DIM), random_tables(LABELS, dim=DIM)
    tmp = np.empty(DIM, dtype=np.float32)
    seed_numba(2)
    assert train_pairs(lefts, rights, *inside, tmp) == itembed_gpu.expit(0.25)
    for i in range(3):
        itembed_gpu.do_step(lefts[i], rights[i], *outside, tmp, 4, 0.05, 9, i)
    seed_numba(2)
    itembed_gpu.do_step(1, 2, *outside, tmp, 4, 0.05)
    np.testing.assert_allclose(inside[0], outside[0], rtol=1e-6)
    np.testing.assert_allclose(inside[1], outside[1], rtol=1e-6)


@pytest.mark.parametrize("x", [-20.0, -1.5, 0.0, 0.3, 9.0])
def test_expit(x):
    assert itembed_gpu.expit(x) == pytest.approx(itembed.expit(x), rel=1e-6)


def call(name, **changes):
    """Call a function with good arguments but for some."""
    items, weights, offsets = batch(50)
    syn0, syn1 = random_tables(50, dim=DIM)
    tmp = np.empty(DIM, dtype=np.float32)
    end = {"tmp_syn": tmp, "num_negative": 2, "learning_rate": 0.1}
    arguments = {
        "do_step": {"left": 0, "right": 1, "syn_left": syn0, "syn_right": syn1, **end},
        "do_unsupervised_steps": {
            "itemset": items[:4],
            "weights": weights[:4],
            "syn0": syn0,
            "syn1": syn1,
            **end,
        },
        "do_unsupervised_batch": {
            "items": items,
            "weights": weights,
            "offsets": offsets,
            "indices": np.array([0, 1]),
            "syn0": syn0,
            "syn1": syn1,
            **end,
        },
        "do_supervised_batch": {
            "left_items": items,
            "left_weights": weights,
            "left_offsets": offsets,
            "left_indices": np.array([0, 1]),
            "right_items": items,
            "right_weights": weights,
            "right_offsets": offsets,
            "right_indices": np.array([0, 1]),
            "left_syn": syn0,
            "right_syn": syn1,
            **end,
        },
    }[name]
    getattr(itembed_gpu, name)(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("do_step", {"left": 50}, "left .* 49"),
        ("do_step", {"right": -1}, "right"),
        ("do_step", {"syn_left": np.zeros((4, DIM))}, "syn_left has dtype float64"),
        ("do_step", {"syn_left": np.zeros((4, DIM + 1), np.float32)}, "dimension"),
        ("do_step", {"syn_right": np.zeros((4, DIM), np.float32, order="F")}, "C-contiguous"),
        ("do_step", {"tmp_syn": np.zeros(3, np.float32)}, "tmp_syn"),
        ("do_step", {"num_negative": -1}, "num_negative"),
        ("do_step", {"seed": 3}, "counter"),
        ("do_step", {"seed": -3, "counter": 0}, "seed"),
        ("do_step", {"left": 0.5}, "left is 0.5"),
        ("do_step", {"seed": 1.5, "counter": 0}, "seed"),
        ("do_step", {"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ("do_step", {"num_negative": 10**6, "seed": 1, "counter": 0}, "num_negative is 1000000"),
        ("do_step", {"tmp_syn": np.frombuffer(bytes(4 * DIM), np.float32)}, "tmp_syn is read-only"),
        ("do_unsupervised_steps", {"itemset": [1, 2]}, "itemset is a list"),
        ("do_unsupervised_steps", {"itemset": np.array([1.0, 2.0])}, "itemset has dtype float64"),
        ("do_unsupervised_steps", {"weights": None}, "weights must be a float32 array"),
        ("do_unsupervised_batch", {"indices": np.array([[0]])}, r"indices has shape \(1, 1\)"),
        ("do_unsupervised_batch", {"weights": None}, "weights must be a float32 array"),
        ("do_unsupervised_steps", {"itemset": np.array([1])}, "weights"),
        (
            "do_unsupervised_steps",
            {"itemset": np.array([1]), "weights": np.ones(1, np.float32)},
            "at least 2",
        ),
        (
            "do_unsupervised_steps",
            {"itemset": np.array([1, 50]), "weights": np.ones(2, np.float32)},
            "itemset .*50",
        ),
        ("do_unsupervised_batch", {"indices": np.array([100])}, "indices"),
        ("do_unsupervised_batch", {"offsets": np.array([0, 1, 5])}, "offsets"),
        ("do_unsupervised_batch", {"offsets": np.array([0, 4, 10**6])}, "offsets"),
        ("do_supervised_batch", {"right_indices": np.array([1])}, "right_indices"),
        ("do_supervised_batch", {"right_offsets": np.array([0, 4, 10**6])}, "right_offsets"),
    ],
)
def test_bad_arguments_are_refused(name, changes, message):
    call(name)  # with the good ones
    with pytest.raises(InputError, match=message):
        call(name, **changes)


def test_a_batch_is_checked_for_its_own_itemsets():
    items, _, offsets = batch(50)
    items[offsets[5]] = 50  # out of range, in an itemset between those of the first batch
    call("do_unsupervised_batch", items=items, indices=np.array([9, 1, 6]))
    with pytest.raises(InputError, match=r"items has items .* 50"):
        call("do_unsupervised_batch", items=items, indices=np.array([9, 5, 1]))


def test_an_empty_batch_does_nothing():
    call("do_unsupervised_batch", indices=np.array([], dtype=np.int32))

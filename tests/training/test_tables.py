"""Tables of embeddings."""

import numpy as np
import pytest

from itembed_gpu import (
    InputError,
    UnsupervisedTask,
    extend_syn,
    initialize_syn,
    pack_itemsets,
    train,
)


def test_uniform_values_are_within_bounds():
    syn = initialize_syn(3000, 20, seed=1)
    assert syn.shape == (3000, 20)
    assert syn.dtype == np.float32
    assert syn.flags.c_contiguous
    assert -0.5 / 20 <= syn.min() < -0.49 / 20
    assert 0.49 / 20 < syn.max() <= 0.5 / 20
    assert abs(syn.mean()) < 1e-3


def test_zero():
    assert not initialize_syn(3, 4, "zero").any()


def test_a_seed_repeats_the_values_and_touches_no_global_generator():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    once, again, other = (initialize_syn(5, 6, seed=seed) for seed in (1, 1, 2))
    assert np.random.random() == expected
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "float64"])
def test_types(dtype):
    syn = initialize_syn(5, 6, seed=1, dtype=dtype)
    assert syn.dtype == np.dtype(dtype)
    np.testing.assert_allclose(syn, initialize_syn(5, 6, seed=1), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_label": 0}, "num_label is 0"),
        ({"num_dimension": -3}, "num_dimension is -3"),
        ({"num_label": 2.0}, "num_label is 2.0"),
        ({"method": "normal"}, "method must be one of uniform, zero, not 'normal'"),
        ({"dtype": np.int32}, "dtype .*int32"),
        ({"seed": -1}, "seed must be"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        initialize_syn(**{"num_label": 3, "num_dimension": 4, **changes})


def test_extended_tables_keep_their_rows():
    syn = initialize_syn(3, 8, seed=1)
    longer = extend_syn(syn, 5, seed=2)
    assert np.array_equal(longer[:3], syn)
    assert np.array_equal(longer[3:], initialize_syn(2, 8, seed=2))
    assert not extend_syn(syn, 4, "zero")[3].any()
    same = extend_syn(syn, 3)
    assert np.array_equal(same, syn)
    assert not np.shares_memory(same, syn)


def test_new_items_find_their_places_among_old_ones_that_stay():
    old = pack_itemsets([["tea", "cup"], ["saw", "nail"]] * 50)
    syn0, syn1 = (initialize_syn(4, 8, seed=seed) for seed in (1, 2))
    train(
        UnsupervisedTask(old.indices, old.offsets, syn0, syn1, seed=1, num_threads=1),
        num_epoch=50, initial_learning_rate=0.2, progress=False,
    )  # fmt: skip
    new = pack_itemsets([["pot", "tea"], ["pot", "cup"]] * 20, labels=old.labels)
    assert new.labels == [*old.labels, "pot"]
    left, right = extend_syn(syn0, new.num_label, seed=3), extend_syn(syn1, new.num_label)
    before = right.copy()
    task = UnsupervisedTask(
        new.indices, new.offsets, left, right, seed=1, num_threads=1, update_right=False
    )
    train(task, num_epoch=50, initial_learning_rate=0.2, progress=False)
    assert np.array_equal(right, before)
    scores = dict(zip(old.labels, left[4] @ right[:4].T, strict=True))
    assert min(scores["tea"], scores["cup"]) > max(scores["saw"], scores["nail"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], 3), "syn is"),
        ((np.zeros((3, 2)), 2), "num_label is 2, and syn has 3 rows already"),
        ((np.zeros((3, 2)), 4, "normal"), "method must be one of"),
    ],
)
def test_what_cannot_be_extended(arguments, message):
    with pytest.raises(InputError, match=message):
        extend_syn(*arguments)

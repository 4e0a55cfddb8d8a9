"""Tables of embeddings."""

import numpy as np
import pytest

from itembed_gpu import InputError, initialize_syn


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

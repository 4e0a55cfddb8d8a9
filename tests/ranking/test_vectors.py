"""Softmax, norm and normalize: like `itembed` where it is right, and right at the edges."""

import itembed
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from itembed_gpu.errors import InputError
from itembed_gpu.ranking.vectors import norm, normalize, softmax

FUNCTIONS = pytest.mark.parametrize("name", ["softmax", "norm", "normalize"])
FLOATS = st.sampled_from([np.float32, np.float64])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5)


def arrays(limit=None, least=0.0):
    """Float arrays, of numbers from `least` to `limit` in size, or of any finite ones."""

    def of_dtype(dtype):
        width = np.dtype(dtype).itemsize * 8
        if limit is None:
            numbers = st.floats(allow_nan=False, allow_infinity=False, width=width)
        else:
            sizes = st.floats(least, limit, width=width)
            numbers = st.builds(lambda size, sign: sign * size, sizes, st.sampled_from([-1, 1]))
        return hnp.arrays(dtype, SHAPES, elements=numbers)

    return FLOATS.flatmap(of_dtype)


def wide(x):
    """A copy in which no square of a float32 overflows or vanishes."""
    return x.astype(np.longdouble)


@FUNCTIONS
@given(x=arrays(limit=32, least=1 / 32))
def test_like_itembed(name, x):
    actual = globals()[name](x)
    expected = getattr(itembed, name)(x)
    assert actual.dtype == expected.dtype == x.dtype
    assert actual.shape == expected.shape
    # A difference of two logits, up to 64 here, is rounded before its exponential is taken.
    rounding = 64 if name == "softmax" else 2
    np.testing.assert_allclose(actual, expected, rtol=rounding * np.finfo(x.dtype).eps)


@FUNCTIONS
@pytest.mark.parametrize("x", [[3, 4], [[1, 2], [3, 4]], np.array([[1, 2]], np.int8), [True]])
def test_integers_and_lists(name, x):
    actual = globals()[name](x)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, getattr(itembed, name)(np.asarray(x, float)), rtol=1e-15)


@FUNCTIONS
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 3), (3, 0)])
def test_dtype_and_shape_are_kept(name, dtype, shape):
    x = np.ones(shape, dtype)
    actual = globals()[name](x)
    assert actual.dtype == dtype
    assert actual.shape == (shape[:-1] if name == "norm" else shape)
    assert (x == 1).all(), "the input was changed"


@FUNCTIONS
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (3.0, r"x is the scalar 3.0; pass at least one axis"),
        (["a"], r"x has dtype <U1; pass real numbers"),
        ([1j], r"x has dtype complex128"),
        ([None], r"x has dtype object"),
        ([[1], [1, 2]], r"x cannot be read as a NumPy array"),
    ],
)
def test_errors(name, x, message):
    with pytest.raises(InputError, match=message):
        globals()[name](x)


class TestSoftmax:
    @given(arrays())
    def test_is_a_distribution_for_any_finite_logits(self, x):
        share = softmax(x)
        assert (share >= 0).all()
        np.testing.assert_allclose(share.sum(axis=-1), 1, rtol=1e-6)
        assert (np.take_along_axis(share, x.argmax(axis=-1)[..., None], -1) > 0).all()

    @pytest.mark.parametrize(
        ("logits", "expected"),
        [
            ([1000, 0], [1, 0]),
            ([-1000, -1000], [0.5, 0.5]),
            ([0, -np.inf], [1, 0]),
            ([-np.inf, 5, 5], [0, 0.5, 0.5]),
            ([-np.inf, -np.inf], [0.5, 0.5]),
            ([np.inf, 3, np.inf, -np.inf], [0.5, 0, 0.5, 0]),
            ([np.nan, 0], [np.nan, np.nan]),
        ],
    )
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_edges(self, logits, expected, dtype):
        other = np.zeros(len(logits))
        share = softmax(np.array([logits, other], dtype))
        np.testing.assert_array_equal(share[0], np.array(expected, dtype))
        assert np.isfinite(share[1]).all(), "one row spoiled another"

    def test_sum_beyond_float16(self):
        share = softmax(np.zeros(70_000, np.float16))
        assert (share == np.float16(1 / 70_000)).all()


class TestNorm:
    @given(arrays())
    def test_of_any_finite_vectors(self, x):
        if x.dtype == np.float64:
            x = x * 1e-2  # so that the norm itself does not overflow
        elif np.abs(x).max() > 1e38:
            x = x / np.float32(16)
        with np.errstate(under="ignore"):
            scale = wide(np.abs(x).max(axis=-1, keepdims=True))
            unit = wide(x) / np.where(scale == 0, 1, scale)
            expected = (np.sqrt((unit**2).sum(axis=-1)) * scale[..., 0]).astype(x.dtype)
        limits = np.finfo(x.dtype)
        np.testing.assert_allclose(
            norm(x), expected, rtol=4 * limits.eps, atol=float(limits.smallest_subnormal)
        )

    @pytest.mark.parametrize(
        ("vector", "expected"),
        [
            ([3e30, 4e30], 5e30),
            ([3e-30, -4e-30], 5e-30),
            ([0, 0], 0),
            ([-np.inf, 1], np.inf),
            ([np.nan, 1], np.nan),
        ],
    )
    def test_edges(self, vector, expected):
        np.testing.assert_allclose(norm(np.float32([vector])), [expected], rtol=1e-6)

    def test_of_float64_near_the_ends_of_its_range(self):
        np.testing.assert_allclose(norm([[3e300, 4e300], [3e-300, 4e-300]]), [5e300, 5e-300])

    def test_of_one_vector_is_a_scalar(self):
        assert np.ndim(norm([3, 4])) == 0
        assert isinstance(norm(np.float32([3, 4])), np.float32)


class TestNormalize:
    @given(arrays())
    def test_gives_norm_one_or_zero(self, x):
        unit = normalize(x)
        lengths = norm(unit)
        np.testing.assert_allclose(lengths, (x != 0).any(axis=-1), rtol=1e-6)
        # The direction is kept: no entry changes its sign, nor the largest its place.
        assert (np.sign(unit) * np.sign(x) >= 0).all()
        top = np.abs(x).argmax(axis=-1)[..., None]
        tops = np.take_along_axis(np.abs(unit), top, -1)
        assert (tops == np.abs(unit).max(axis=-1, keepdims=True)).all()

    def test_zero_rows_stay_zero(self):
        unit = normalize(np.float32([[0, 0], [3, 4], [0, -0.0]]))
        np.testing.assert_array_equal(unit, np.float32([[0, 0], [0.6, 0.8], [0, 0]]))

    def test_largest_and_smallest_numbers(self):
        limits = np.finfo(np.float32)
        x = np.array([[limits.max, limits.max], [limits.smallest_subnormal, 0]])
        np.testing.assert_allclose(normalize(x), [[0.5**0.5, 0.5**0.5], [1, 0]], rtol=1e-6)

    def test_infinite_entries_have_no_direction(self):
        with pytest.warns(RuntimeWarning, match="invalid value"):
            unit = normalize([[np.inf, 1], [3, 4]])
        np.testing.assert_array_equal(unit, [[np.nan, 0], [0.6, 0.8]])
        np.testing.assert_array_equal(normalize([np.nan, 0]), [np.nan, np.nan])

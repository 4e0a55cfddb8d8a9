"""Counts of co-occurrence, against a look at every two places."""

import itertools

import glove_formula as formula
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import sparse

from itembed_gpu import CoOccurrences, InputError, co_occurrences
from itembed_gpu.training import co_occurrence

NUM_LABEL = 6
ITEMSETS = st.lists(st.lists(st.integers(0, NUM_LABEL - 1), max_size=7), min_size=1, max_size=8)


@given(
    ITEMSETS, st.sampled_from(co_occurrence.WEIGHTINGS), st.none() | st.integers(1, 4),
    st.booleans(), st.sampled_from([0, 1.5]), st.integers(1, 3),
)  # fmt: skip
def test_counts_are_those_of_every_two_places(
    itemsets, weighting, window, symmetric, min_count, num_threads
):
    if weighting == "itemsets":
        window = None
    items = np.array(
        [5, *itertools.chain(*itemsets)]
    )  # what stands before the first one is nobody's
    offsets = np.cumsum([1, *map(len, itemsets)])
    expected = formula.count_pairs(items, offsets, NUM_LABEL, weighting, window, symmetric)
    kept = np.where(expected >= min_count, expected, 0)

    def count():
        return co_occurrences(
            items, offsets, NUM_LABEL, weighting=weighting, window=window, symmetric=symmetric,
            min_count=min_count, num_threads=num_threads,
        )  # fmt: skip

    if not kept.any():
        with pytest.raises(InputError, match="no two different items occur together"):
            count()
        return
    cells = count()
    rows, columns = np.nonzero(kept)
    np.testing.assert_array_equal(cells.left, rows)
    np.testing.assert_array_equal(cells.right, columns)
    np.testing.assert_allclose(cells.counts, kept[rows, columns], rtol=1e-6)
    assert cells.num_dropped == np.count_nonzero(expected) - len(rows)
    assert [array.dtype for array in cells[:3]] == [np.int32, np.int32, np.float32]


def test_the_default_is_what_suits_a_window():
    items, offsets = [0, 1, 2], [0, 3]
    by_distance = co_occurrences(items, offsets, 3, window=2)
    assert by_distance.matrix().toarray().tolist() == [[0, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]
    assert co_occurrences(items, offsets, 3).counts.tolist() == [1] * 6
    assert co_occurrences(items, offsets, 3, weighting="itemsets").counts.tolist() == [0.5] * 6


def test_a_matrix_goes_to_cells_and_back():
    matrix = sparse.random_array((5, 5), density=0.4, rng=np.random.default_rng(1))
    cells = CoOccurrences.of(matrix)
    assert cells.num_label == 5
    np.testing.assert_allclose(cells.matrix().toarray(), matrix.toarray(), rtol=1e-6)
    twice = sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    assert CoOccurrences.of(twice).counts.tolist() == [3.0]
    for wrong, words in (
        (np.eye(3), "pass a sparse matrix"),
        (sparse.csr_array((2, 3)), r"shape \(2, 3\); pass a square one"),
        (sparse.csr_array((2, 2)), "matrix is empty"),
        (-matrix, r"matrix\.data\[0\] is -"),
    ):
        with pytest.raises(InputError, match=words):
            CoOccurrences.of(wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weighting": "pair"}, "weighting is 'pair'; pass one of 'pairs', 'itemsets'"),
        ({"weighting": "itemsets", "window": 2}, "window is 2; leave one of them out"),
        ({"window": 0}, "window"),
        ({"num_label": 2}, "items goes from 0 to 2"),
        ({"min_count": 3}, "occur together 3 times; pass longer itemsets"),
        ({"offsets": [0, 9]}, "offsets goes from 0 to 9"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_what_cannot_be_counted_is_refused(options, words):
    given = {"items": [0, 1, 2], "offsets": [0, 3], "num_label": 3}
    with pytest.raises(InputError, match=words):
        co_occurrences(**{**given, **options})

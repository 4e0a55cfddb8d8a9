"""Items of histories compared one by one, against the formula."""

import itertools

import numpy as np
import pytest

from itembed_gpu.ranking import each
from itembed_gpu.ranking.each import rank_each
from itembed_gpu.ranking.vectors import unit_rows


@pytest.fixture
def problem():
    generator = np.random.default_rng(0)
    rows, table = (
        unit_rows(generator.normal(size=(number, 8)).astype(np.float32)) for number in (40, 60)
    )
    lengths = np.array([1, 5, 0, 30, 2, 7])
    offsets = np.append(0, np.cumsum(lengths))
    items = generator.integers(0, 40, offsets[-1]).astype(np.int32)
    weights = generator.uniform(0.1, 2, len(items))
    return rows, (items, offsets), weights, table


def by_formula(rows, packed, weights, table, sharpness):
    items, offsets = packed
    scores = np.full((len(offsets) - 1, len(table)), -np.inf)
    for query, (start, stop) in enumerate(itertools.pairwise(offsets)):
        own = weights[start:stop]
        near = np.exp(sharpness * rows[items[start:stop]].astype(float) @ table.T.astype(float))
        if stop > start:
            scores[query] = np.log((own[:, None] * near).sum(axis=0) / own.sum()) / sharpness
    return scores


@pytest.mark.parametrize("block", [1, 6, 1024])
@pytest.mark.parametrize("sharpness", [0.5, 4.0, 50.0])
def test_scores_are_those_of_the_formula(problem, block, sharpness, monkeypatch):
    rows, packed, weights, table = problem
    monkeypatch.setattr(each, "BLOCK_ITEMS", block)
    monkeypatch.setattr(each, "TILE_VALUES", 7 * block)
    bias = np.linspace(0, 0.5, len(table))
    expected = by_formula(rows, packed, weights, table, sharpness) + bias
    found, scores = rank_each((rows, packed, weights), table, 5, sharpness, bias=bias)
    for query in (0, 1, 3, 4, 5):
        np.testing.assert_array_equal(found[query], np.argsort(-expected[query])[:5])
        np.testing.assert_allclose(scores[query], np.sort(expected[query])[::-1][:5], atol=1e-5)


def test_it_goes_from_the_mean_of_similarities_to_the_largest(problem):
    rows, packed, weights, table = problem
    items, offsets = packed
    near = rows[items[offsets[3] : offsets[4]]] @ table.T
    shares = weights[offsets[3] : offsets[4]] / weights[offsets[3] : offsets[4]].sum()
    for sharpness, expected in ((0.01, shares @ near), (80.0, near.max(axis=0))):
        found, scores = rank_each((rows, packed, weights), table, 60, sharpness)
        np.testing.assert_allclose(scores[3], expected[found[3]], atol=0.1)
        assert scores[3, 0] == pytest.approx(expected.max(), abs=0.1)


def test_rows_that_are_left_out_and_that_lose_ties(problem):
    rows, packed, weights, _ = problem
    table = np.repeat(rows[:1], 6, axis=0)  # they all tie
    none = np.empty(0, dtype=np.int32)
    out = np.array([1, 1, 3, 0, 5], dtype=np.int32), np.array([0, 2, 3, 3, 3, 3, 5])
    late = np.array([0], dtype=np.int32), np.array([0, 1, 1, 1, 1, 1, 1])
    history = rows, packed, weights
    options = {"candidates": np.array([0, 1, 2, 3]), "exclude": out, "losers": late}
    found, scores = rank_each(history, table, 5, 4.0, **options)
    np.testing.assert_array_equal(found[0], [2, 3, 0, -1, -1])
    np.testing.assert_array_equal(found[1], [0, 1, 2, -1, -1])
    np.testing.assert_array_equal(found[5], [1, 2, 3, -1, -1])
    assert (scores[found < 0] == -np.inf).all()
    empty = rank_each((rows, (none, np.array([0])), np.empty(0)), table, 3, 4.0)
    assert empty[0].shape == (0, 3)

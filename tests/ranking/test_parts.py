"""Tables in parts: any split of the rows gives the answers of the whole."""

import pickle
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from test_top_n import ONES, pack, problems, rank_with_arrays, same

from itembed_gpu import metrics
from itembed_gpu.errors import InputError, MissingExtraError
from itembed_gpu.ranking import top_n as ranking
from itembed_gpu.ranking.cosine import nearest_rows
from itembed_gpu.ranking.each import rank_each
from itembed_gpu.ranking.parts import PartedTable
from itembed_gpu.ranking.top_n import pool_rows, top_n
from itembed_gpu.ranking.vectors import unit_rows


def split(table, cuts):
    """Parts of a table between these places, some of them empty."""
    return PartedTable(np.split(table, sorted(cut % (len(table) + 1) for cut in cuts)))


NONE = np.array([], np.intp)
CUTS = st.lists(st.integers(0, 10**6), max_size=6)


@settings(max_examples=60)
@given(problem=problems(), cuts=CUTS, arrays=st.booleans())
def test_any_split_ranks_as_the_whole(problem, cuts, arrays):
    queries, table, n, options = problem
    rank = rank_with_arrays if arrays else top_n
    same(rank(queries, split(table, cuts), n, **options), top_n(queries, table, n, **options))


@settings(max_examples=60)
@given(problem=problems(), cuts=CUTS, seed=st.integers(0, 99))
def test_any_split_has_the_neighbours_of_the_whole(problem, cuts, seed):
    queries, table, n, options = problem
    rng = np.random.default_rng(seed)
    some = {
        "candidates": options["candidates"] if options["candidates"] is None
        else np.unique(options["candidates"]),
        "barred": rng.integers(0, len(table), rng.integers(0, 9)),
        "own": rng.integers(0, len(table), len(queries)) if seed % 2 else None,
    }  # fmt: skip
    whole = list(nearest_rows(queries, table, n, **some))
    parted = list(nearest_rows(queries, split(table, cuts), n, **some))
    assert len(whole) == len(parted) == len(queries)
    for one, other in zip(whole, parted, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def tables(num_row=40, dim=5, seed=0):
    return np.random.default_rng(seed).integers(-1, 2, (num_row, dim)).astype(np.float32)


def test_histories_are_ranked_by_their_items():
    table = unit_rows(tables() + np.float32(0.01))
    items = pack([[1, 2], [], [39, 3, 3], [7]])
    history = table, items, np.ones(len(items[0]), np.float32)
    whole, parted = (
        rank_each(history, one, 9, 4.0, exclude=items, bias=np.arange(40) / 9)
        for one in (table, split(table, [3, 3, 30]))
    )
    np.testing.assert_array_equal(whole[0], parted[0])
    np.testing.assert_allclose(whole[1], parted[1], rtol=1e-5)


def test_an_evaluation_is_that_of_the_whole():
    table = tables(200, 3)
    baskets = pack(np.random.default_rng(1).integers(0, 200, (50, 4)).tolist())
    asked = metrics.leave_one_out(*baskets, share=0.5)
    queries = pool_rows(table, *asked.history)
    whole, parted = (
        metrics.evaluate(queries, one, asked, k=60) for one in (table, split(table, [20, 90]))
    )
    assert parted.as_dict() == whole.as_dict()
    assert whole["hit_rate@60"] > 0


@pytest.mark.parametrize("weights", [None, [1, -2, 3, 0.5, 1, 1]])
def test_rows_are_pooled_some_itemsets_at_a_time(weights, monkeypatch):
    monkeypatch.setattr(ranking, "GATHER_VALUES", 12)
    packed = pack([[4, 39, 0], [], [5], [39, 39]])
    whole, parted = (
        pool_rows(table, *packed, weights) for table in (tables(), split(tables(), [5, 10]))
    )
    np.testing.assert_array_equal(whole, parted)


def test_it_is_read_as_an_array_is():
    table = tables()
    parted = split(table, [0, 7, 7, 21])
    assert (len(parted), parted.shape, parted.dtype) == (40, (40, 5), np.float32)
    np.testing.assert_array_equal(np.asarray(parted), table)
    np.testing.assert_array_equal(list(parted), table)
    for rows in (3, -1, np.int64(39), [0, 39, 7, 7], np.array([], np.int64), [], slice(5, 30, 3)):
        np.testing.assert_array_equal(parted[rows], table[rows])
    for wrong in (40, [-41], 1.5, [[1]], "tea"):
        with pytest.raises(IndexError):
            parted[wrong]
    assert repr(parted) == "PartedTable(40 x 5 in 5 parts)"


def test_functions_are_applied_to_what_is_opened_alone():
    seen = []

    def double(rows):
        seen.append(len(rows))
        return 2 * rows

    table = split(tables(), [10]).apply(double).apply(unit_rows)
    np.testing.assert_array_equal(table[[3, 35, 4]], unit_rows(2 * tables())[[3, 35, 4]])
    assert seen == [2, 1]
    np.testing.assert_array_equal(np.asarray(table), unit_rows(2 * tables()))


def test_a_row_that_is_not_finite_has_its_number_in_the_table():
    table = tables()
    table[33, 2] = np.nan
    for rank in (top_n, rank_with_arrays):
        with pytest.raises(InputError, match="table: row 33 holds a value that is not finite"):
            rank(tables(2), split(table, [30]), 3)
    for some in (None, np.arange(3, 40, 10)):
        with pytest.raises(InputError, match="vectors: row 33 holds a value that is not finite"):
            list(nearest_rows(table[:2], split(table, [30]), 3, barred=NONE, candidates=some))


def test_memory_is_that_of_one_part():
    """Parts that are made when they are opened, as those are that are scaled to length 1."""
    table = np.random.default_rng(0).standard_normal((40_000, 64), dtype=np.float32)
    parted = unit_rows(split(table, range(2_000, 40_000, 2_000)))
    queries = table[:3]
    top_n(queries, parted, 10)  # compiles
    for ask in (
        lambda: top_n(queries, parted, 10),
        lambda: list(nearest_rows(queries, parted, 10, barred=NONE)),
        lambda: pool_rows(parted, np.arange(0, 40_000, 100), np.arange(0, 401, 10)),
    ):
        tracemalloc.start()
        ask()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < table.nbytes / 4


def test_what_is_no_table_is_refused(monkeypatch):
    for parts, words in (
        ([], "parts is empty"),
        ([ONES, ONES[:, :1]], r"parts\[0\] has dimension 3 and parts\[1\] 1"),
        ([ONES.astype(float)], r"parts\[0\] has dtype float64"),
        ([ONES[0]], r"parts\[0\] has shape"),
    ):
        with pytest.raises(InputError, match=words):
            PartedTable(parts)
    with pytest.raises(InputError, match=r"client is 'tcp://a:1'; pass a distributed.Client"):
        PartedTable([ONES], client="tcp://a:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"itembed_gpu\[cluster\]\""):
        PartedTable([ONES], client="tcp://a:1")


def test_it_can_be_sent():
    table = pickle.loads(pickle.dumps(unit_rows(split(tables(), [9]))))
    np.testing.assert_array_equal(np.asarray(table), unit_rows(tables()))

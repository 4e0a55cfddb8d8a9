"""How many pairs are in flight, and which rows have caps."""

import itertools

import numpy as np
import pytest
from formula import HALF_OF_THEM, NUM_LEFT, draw_epoch, make_task, weights_for
from hypothesis import given, strategies as st
from samples import random_itemsets, random_tables

from itembed_gpu import Cuda, GloveTask, ListedTask, SupervisedTask, UnsupervisedTask, train
from itembed_gpu.backends.cuda.in_flight import (
    CELL_MEAN_LOAD,
    MAX_LEFT_LOAD,
    MAX_LOAD,
    MEAN_LOAD,
    expected_hits,
    hottest_hits,
    limit_by_cache,
    plan_geometry,
)
from itembed_gpu.backends.cuda.instances import THREADS_PER_BLOCK, default_threads


def hits_of(num_label, num_negative=5, hot=0.0):
    """Expected hits of a catalog; one item may have a share of all interactions."""
    shares = np.full(num_label, (1 - hot) / num_label)
    shares[0] += hot
    return shares, shares + num_negative / num_label


@pytest.mark.parametrize(
    ("num_label", "num_tile"),
    # Pairs in flight at a learning rate of 0.025 and 5 negatives: a few times the catalog.
    [(1, 5), (50, 266), (200, 1066), (2000, 8448), (1_000_000, 8448)],
)
def test_pairs_in_flight_are_limited_by_the_catalog(num_label, num_tile):
    geometry = plan_geometry(*hits_of(num_label), 0.025, 8448)
    assert geometry.num_tile == num_tile
    assert geometry.left_caps is None
    assert geometry.right_caps is None


# What the driver reports: multiprocessors, MB of the L2 cache.
CHIPS = {
    "H200": (132, 60), "H100": (132, 50), "H100 PCIe": (114, 50), "A100": (108, 40),
    "L4": (58, 48), "A10": (72, 6), "T4": (40, 4),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "dim", "num_tile"),
    [
        # The fastest, as measured (benchmarks/in_flight.md).
        *(("H200", dim, num_tile) for dim, num_tile in ((64, 4224), (128, 2112), (512, 528))),
        # Two blocks of threads a multiprocessor, too, on chips that are much alike ...
        ("H100", 128, 2112),
        ("H100 PCIe", 128, 1824),
        ("A100", 128, 1728),
        # ... more where the cache is large for them, and one where it is small.
        ("L4", 128, 1856),
        ("A10", 128, 576),
        ("T4", 128, 320),
    ],
)
def test_pairs_in_flight_are_limited_by_the_cache_of_the_chip(name, dim, num_tile):
    num_multiprocessor, megabytes = CHIPS[name]
    once = num_multiprocessor * THREADS_PER_BLOCK // default_threads(dim)
    how = once, 7 * dim * 4, megabytes << 20
    assert limit_by_cache(10**6, *how) == num_tile
    assert limit_by_cache(100, *how) == 100


def test_cells_of_counts_are_hit_as_often_as_they_are_there(emulated):
    left, right = [0, 0, 0, 1], [1, 2, 3, 0]
    syn0, syn1 = random_tables(4)
    task = GloveTask(left, right, [1, 100, 5, 7], syn0, syn1, device="cuda")
    hits = expected_hits(task._problem)
    np.testing.assert_allclose(hits, [[0.75, 0.25, 0, 0], [0.25] * 4])
    one = GloveTask(left, right, [1, 100, 5, 7], syn0, syn0, device="cuda")
    np.testing.assert_allclose(expected_hits(one._problem)[0], [1, 0.5, 0.25, 0.25])
    # As many in flight as leave a row 0.1 of updates times their rate.
    bound = task._bound
    bound._make_ready()
    bound._max_tile = 1000
    bound._plan(0.0625)
    assert bound.geometry.num_tile == int(CELL_MEAN_LOAD / (0.0625 * 0.25)) == 6
    assert bound.geometry.left_caps is bound.geometry.right_caps is None


def test_a_higher_rate_means_fewer_pairs_in_flight():
    tiles = [plan_geometry(*hits_of(200), rate, 10**6).num_tile for rate in (0.01, 0.1, 1.0, 1e9)]
    assert tiles[0] == pytest.approx(10 * tiles[1], rel=0.05)
    assert tiles[1] > tiles[2] > tiles[3] == 1
    assert plan_geometry(*hits_of(200), 0.0, 4000).num_tile == 4000


def test_hot_rows_are_held_back_and_others_are_not():
    left, right = hits_of(20_000, hot=0.2)
    geometry = plan_geometry(left, right, 0.025, 4096)
    assert geometry.num_tile == 4096
    for caps, hits, load in (
        (geometry.left_caps, left, MAX_LEFT_LOAD),
        (geometry.right_caps, right, MAX_LOAD),
    ):
        assert caps.dtype == np.float32
        assert caps[0] == pytest.approx(load / (4096 * hits[0]))
        assert caps[0] < 0.025 < caps[1:].min()


def test_a_row_that_is_never_hit_has_no_limit():
    geometry = plan_geometry(np.array([1.0, 0.0]), np.array([0.5, 0.5]), 0.1, 1000)
    assert geometry.left_caps[1] == np.inf


def test_one_pair_at_a_time_is_not_held_back():
    geometry = plan_geometry(*hits_of(2, hot=0.5), 10.0, 4000)
    assert geometry.num_tile == 1
    assert geometry.left_caps is None


def test_one_table_has_one_set_of_caps():
    left, _ = hits_of(2000, hot=0.3)
    geometry = plan_geometry(left, left, 0.025, 4000)
    assert geometry.left_caps is geometry.right_caps
    assert geometry.left_caps[0] == pytest.approx(MAX_LEFT_LOAD / (4000 * left[0]))


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=30).filter(any),
    st.floats(1e-6, 10),
    st.integers(1, 20_000),
)
def test_no_row_is_loaded_more_than_allowed(hits, rate, max_tile):
    hits = np.array(hits)
    geometry = plan_geometry(hits, hits.copy(), rate, max_tile)
    assert 1 <= geometry.num_tile <= max_tile
    if geometry.num_tile == 1:
        return
    assert rate * geometry.num_tile * hits.mean() <= MEAN_LOAD * (1 + 1e-9)
    for caps, load in ((geometry.left_caps, MAX_LEFT_LOAD), (geometry.right_caps, MAX_LOAD)):
        rates = rate if caps is None else np.minimum(rate, caps)
        assert (rates * geometry.num_tile * hits).max() <= load * (1 + 1e-5)


# --- expected hits ----------------------------------------------------------


def weights_of(items, seed):
    return np.random.default_rng(seed).uniform(-1, 2, len(items)).astype(np.float32)


def count_unsupervised(items, offsets, weights, num_label):
    """Expected hits as left and as right item, pair by pair."""
    left, right = np.zeros(num_label), np.zeros(num_label)
    for start, stop in itertools.pairwise(offsets):
        for i in range(start, stop):
            for j in range(start, stop):
                if i != j:
                    size = abs(weights[i] * weights[j]) / (stop - start - 1)
                    left[items[i]] += size
                    right[items[j]] += size
    return left / len(items), right / len(items)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sharing", [1, 8])
def test_expected_hits_of_an_unsupervised_task(weighted, sharing):
    items, offsets = random_itemsets(12, 30, 2, 6)
    weights = weights_of(items, 1) if weighted else None
    task = UnsupervisedTask(
        items, offsets, *random_tables(12), weights=weights, num_negative=4, seed=1,
        negative_sharing=sharing,
    )  # fmt: skip
    left, right = expected_hits(task._problem)
    sizes = np.ones(len(items)) if weights is None else weights.astype(float)
    expected = count_unsupervised(items, offsets, sizes, 12)
    np.testing.assert_allclose(left, expected[0])
    np.testing.assert_allclose(right, expected[1] + expected[0].sum() * 4 * sharing / 12)
    assert hottest_hits(task._problem) >= max(left.max(), right.max())


@pytest.mark.parametrize("weighted", [False, True])
def test_expected_hits_of_a_supervised_task(weighted):
    left, right = random_itemsets(9, 25, 1, 4, seed=1), random_itemsets(7, 25, 1, 3, seed=2)
    weights = [weights_of(items, 1) if weighted else None for items, _ in (left, right)]
    task = SupervisedTask(
        *left, *right, *random_tables(9, 7), num_negative=3, seed=1,
        left_weights=weights[0], right_weights=weights[1],
    )  # fmt: skip
    sizes = [np.ones(len(side[0])) if w is None else abs(w.astype(float))
             for side, w in zip((left, right), weights, strict=True)]  # fmt: skip
    expected = np.zeros(9), np.zeros(7)
    for n in range(25):
        for i in range(left[1][n], left[1][n + 1]):
            for j in range(right[1][n], right[1][n + 1]):
                expected[0][left[0][i]] += sizes[0][i] * sizes[1][j]
                expected[1][right[0][j]] += sizes[0][i] * sizes[1][j]
    hits = expected_hits(task._problem)
    total = expected[0].sum() / task.num_pair
    np.testing.assert_allclose(hits[0], expected[0] / task.num_pair)
    np.testing.assert_allclose(hits[1], expected[1] / task.num_pair + total * 3 / 7)


def test_one_table_adds_up_both_sides():
    items, offsets = random_itemsets(12, 30, 2, 6)
    syn0, syn1 = random_tables(12)
    apart, same = (
        expected_hits(UnsupervisedTask(items, offsets, syn0, other, seed=1)._problem)
        for other in (syn1, syn0)
    )
    assert same[0] is same[1]
    np.testing.assert_allclose(same[0], apart[0] + apart[1])


# Options, against what an epoch really draws.


def count_hits(task, num_epoch):
    """Hits of each row by one pair, counted over some epochs."""
    problem, pairs = task._problem, task._problem.pairs
    left, right = (np.zeros(len(table)) for table in (problem.syn_left, problem.syn_right))
    left_sizes, right_sizes = (
        np.abs(weights) if len(weights) else np.ones(len(items))
        for weights, items in (
            (pairs.left_weights, pairs.left_items),
            (pairs.right_weights, pairs.right_items),
        )
    )
    for epoch in range(num_epoch):
        drawn = draw_epoch(task, epoch)
        places, sizes = drawn.left[drawn.kept], right_sizes[drawn.right[drawn.kept]]
        if task.options.pooling == "mean":
            of_each = left_sizes * drawn.left_kept
            bags = np.repeat(np.arange(len(pairs.left_offsets) - 1), np.diff(pairs.left_offsets))
            times = np.bincount(places, sizes, len(pairs.left_offsets) - 1)
            sums = np.bincount(bags, of_each)[bags]
            shares = np.divide(of_each, sums, out=np.zeros_like(sums), where=sums > 0)
            np.add.at(left, pairs.left_items, shares * times[bags])
        else:
            sizes = sizes * left_sizes[places]
            np.add.at(left, pairs.left_items[places], sizes)
        np.add.at(right, drawn.rows[drawn.kept], sizes)
        np.add.at(right, drawn.negatives[drawn.kept], sizes[:, None])
    return left / (num_epoch * task.num_pair), right / (num_epoch * task.num_pair)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("supervised", {"noise_exponent": 0.75}),
        ("supervised", {"noise_weights": HALF_OF_THEM}),
        ("supervised", {"subsample": 0.02}),
        ("supervised", {"pooling": "mean", "noise_exponent": -0.5}),
        ("unsupervised", {"noise_exponent": 0.75, "subsample": 0.02}),
    ],
)
def test_expected_hits_are_those_of_the_epochs(kind, options, weighted):
    # A mean of no weight is counted all the same: at worst, fewer pairs are in flight.
    zeros = 0 if "pooling" in options else 0.1
    task = make_task(kind, **options, **(weights_for(kind, zeros) if weighted else {}))
    num_epoch = 200
    num_pair = num_epoch * task.num_pair
    for got, counted in zip(expected_hits(task._problem), count_hits(task, num_epoch), strict=True):
        # Not of independent pairs: one occurrence is in several of them.
        error = 8 * np.sqrt((counted + 1 / num_pair) / num_pair)
        assert (np.abs(got - counted) <= error).all()
        assert error[0] < counted[0] / 5
        assert not got[counted == 0].any()


@pytest.mark.parametrize("options", [{}, {"noise_exponent": 0.75, "subsample": 0.02}])
def test_expected_hits_of_listed_pairs_are_those_of_itemsets_of_one_item(options):
    generator = np.random.default_rng(0)
    left, right = generator.integers(0, 9, (2, 200))
    values, offsets = generator.uniform(-1, 2, 200), np.arange(201)
    tables = random_tables(9)
    listed = ListedTask(left, right, *tables, values=values, **options)
    same = SupervisedTask(left, offsets, right, offsets, *tables, right_weights=values, **options)
    for got, expected in zip(*map(expected_hits, (listed._problem, same._problem)), strict=True):
        np.testing.assert_allclose(got, expected)


def test_expected_hits_of_a_mean_of_what_is_kept():
    # The expectation of a share is taken for the share of expectations: near enough.
    task = make_task("supervised", pooling="mean", subsample=0.05)
    for got, counted in zip(expected_hits(task._problem), count_hits(task, 100), strict=True):
        ratios = got[counted > 0] / counted[counted > 0]
        assert got.sum() == pytest.approx(counted.sum(), rel=0.1)
        assert 0.8 < ratios.min() < ratios.max() < 1.5


@pytest.mark.parametrize("weighted", [False, True])
def test_expected_hits_of_a_window(weighted):
    # An item is hit by where it stands, and what is next to it; the mean of its itemset is taken.
    task = make_task("unsupervised", window=3, **(weights_for("unsupervised") if weighted else {}))
    for got, counted in zip(expected_hits(task._problem), count_hits(task, 5), strict=True):
        assert got.sum() == pytest.approx(counted.sum(), rel=0.05)
        frequent = counted > np.median(counted)
        np.testing.assert_allclose(got[frequent], counted[frequent], rtol=0.35)


@pytest.mark.parametrize("side", [0, 1])
def test_a_frozen_table_is_never_hit(side):
    name = ("update_left", "update_right")[side]
    plain = expected_hits(make_task("supervised", noise_exponent=1)._problem)
    task = make_task("supervised", noise_exponent=1, **{name: False})
    frozen = expected_hits(task._problem)
    assert not frozen[side].any()
    assert np.array_equal(frozen[1 - side], plain[1 - side])
    assert plain[side].any()
    # So that it does not limit how many pairs are in flight.
    assert plan_geometry(*frozen, 0.1, 10**6).num_tile >= plan_geometry(*plain, 0.1, 10**6).num_tile


def test_rows_that_hold_themselves_back_have_no_caps():
    left, right = hits_of(20_000, hot=0.2)
    plain, adaptive = (
        plan_geometry(left, right, 0.025, 4096, adaptive=adaptive) for adaptive in (False, True)
    )
    assert plain.left_caps is not None
    assert plain.right_caps is not None
    assert adaptive.left_caps is None
    assert adaptive.right_caps is None
    assert adaptive.num_tile == plain.num_tile


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_a_task_with_adagrad_is_planned_without_caps(emulated, optimizer):
    # One row is in nearly all pairs, and the rate is high.
    items = np.zeros(4000, dtype=np.int32)
    items[::2] = np.arange(2000) % NUM_LEFT
    task = UnsupervisedTask(
        items, np.arange(0, 4001, 2), *random_tables(4000), num_negative=3, seed=1,
        optimizer=optimizer, device=Cuda(threads_per_pair=1),
    )  # fmt: skip
    train(task, num_epoch=1, initial_learning_rate=0.5, progress=False)
    geometry = task._bound.geometry
    assert geometry.num_tile > 1
    assert (geometry.left_caps is None) == (optimizer == "adagrad")

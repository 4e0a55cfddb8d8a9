"""Metrics against numbers by hand and scikit-learn, splits against loops, and no optimism."""

import json
import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
    top_k_accuracy_score,
)

from itembed_gpu import metrics
from itembed_gpu.errors import InputError
from itembed_gpu.metrics import (
    average_precision,
    coverage,
    evaluate,
    evaluate_rankings,
    given_split,
    hit_rate,
    leave_last_out,
    leave_one_out,
    mrr,
    ndcg,
    paired_bootstrap,
    popularity_bias,
    precision,
    recall,
)
from itembed_gpu.ranking.top_n import pool_rows, top_n


def pack(sets):
    items = np.array([item for one in sets for item in one], dtype=np.int32)
    return items, np.cumsum([0, *map(len, sets)], dtype=np.int64)


def unpack(packed):
    items, offsets = packed
    assert (items.dtype, offsets.dtype) == (np.int32, np.int64)
    assert (offsets[0], offsets[-1]) == (0, len(items))
    return [items[start:stop].tolist() for start, stop in pairwise(offsets)]


# --------------------------------------------------------------------- metrics

RANKED = [[3, 1, 2, 0], [5, 6, 7, 8], [1, 0, -1, -1], [4, 3, 2, 1]]
TRUTH = pack([[1, 0, 9], [8], [1], []])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (hit_rate, 1, [0, 0, 1]),
        (hit_rate, 3, [1, 0, 1]),
        (hit_rate, 4, [1, 1, 1]),
        (precision, 2, [1 / 2, 0, 1 / 2]),
        (precision, 4, [2 / 4, 1 / 4, 1 / 4]),
        (recall, 1, [0, 0, 1]),
        (recall, 2, [1 / 3, 0, 1]),
        (recall, 4, [2 / 3, 1, 1]),
        (mrr, 3, [1 / 2, 0, 1]),
        (mrr, 4, [1 / 2, 1 / 4, 1]),
        (average_precision, 2, [(1 / 2) / 2, 0, 1]),
        (average_precision, 4, [(1 / 2 + 2 / 4) / 3, 1 / 4, 1]),
        # 1/log2(3) = 0.6309298, 1/log2(5) = 0.4306766; ideal: 1 + 0.6309298 (+ 0.5).
        (ndcg, 2, [0.6309298 / 1.6309298, 0, 1]),
        (ndcg, 4, [(0.6309298 + 0.4306766) / 2.1309298, 0.4306766, 1]),
    ],
)
def test_metrics_by_hand(metric, k, expected):
    values = metric(RANKED, TRUTH, k)
    assert values.dtype == np.float64
    assert values == pytest.approx([*expected, math.nan], nan_ok=True, abs=1e-7)


METRICS = [hit_rate, precision, recall, ndcg, mrr, average_precision]
NAMES = ["hit_rate", "precision", "recall", "ndcg", "mrr", "map"]


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_ranking_is_perfect_and_the_worst_is_zero(metric):
    truth = pack([[4, 2]])
    assert metric([[2, 4, 0]], truth, 2).tolist() == [1]
    assert metric([[0, 1, 3]], truth, 3).tolist() == [0]


@pytest.mark.parametrize("metric", METRICS)
def test_no_queries(metric):
    assert metric(np.empty((0, 3), dtype=np.int64), pack([]), 3).shape == (0,)


@pytest.mark.parametrize(
    ("ranked", "truth", "k", "message"),
    [
        ([[1, 2]], pack([[1, 1]]), 2, "truth: item 1 stands twice for query 0"),
        ([[1, 2], [3, 4]], pack([[], [7, 2, 7]]), 2, "truth: item 7 stands twice for query 1"),
        ([[1, 2], [3, 3]], pack([[1], [1]]), 2, "ranked: query 1 has a row twice"),
        ([[1, 2]], pack([[1]]), 3, "ranked has 2 columns and k is 3"),
        ([[1, 2]], pack([[1]]), 0, "k is 0"),
        ([[1, -2]], pack([[1]]), 2, "ranked goes from -2 to 1"),
        ([[1.0, 2.0]], pack([[1]]), 2, "dtype float64"),
        ([1, 2], pack([[1]]), 2, r"ranked has shape \(2,\)"),
        ([[1], [1, 2]], pack([[1]]), 1, "ranked cannot be read as a NumPy array"),
        ([[1, 2]], pack([[1], [2]]), 2, "truth: offsets bound 2 sets of rows for 1 queries"),
        ([[1, 2]], None, 2, "truth is None; pass a pair"),
    ],
)
def test_what_cannot_be_measured_is_refused(ranked, truth, k, message):
    for metric in METRICS:
        with pytest.raises(InputError, match=message):
            metric(ranked, truth, k)


@given(st.integers(0, 10**6), st.integers(1, 12))
@settings(max_examples=40)
def test_scikit_learn_has_the_same_numbers(seed, k):
    generator = np.random.default_rng(seed)
    num_query, num_row = 6, 12
    scores = generator.permuted(np.tile(np.arange(num_row), (num_query, 1)), axis=1)
    relevant = generator.random((num_query, num_row)) < 0.3
    relevant[:, 0] |= ~relevant.any(axis=1)
    truth = pack([np.flatnonzero(row) for row in relevant])
    ranked = np.argsort(-scores, axis=1)

    expected = [ndcg_score(r[None], s[None], k=k) for r, s in zip(relevant, scores, strict=True)]
    assert ndcg(ranked, truth, k) == pytest.approx(expected)

    # Over the whole ranking, average precision and its cut-off are one.
    whole = average_precision(ranked, truth, num_row)
    assert whole.mean() == pytest.approx(label_ranking_average_precision_score(relevant, scores))
    expected = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    assert whole == pytest.approx(expected)

    one = relevant.argmax(axis=1)
    hits = hit_rate(ranked, (one, np.arange(num_query + 1)), k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with k of all classes, the score is 1
        accuracy = top_k_accuracy_score(one, scores, k=k, labels=np.arange(num_row))
    assert hits.mean() == pytest.approx(accuracy)


def test_coverage_counts_each_item_once_and_no_padding():
    assert coverage([[0, 1, 5], [1, -1, -1]], 8, 2) == 2 / 8
    assert coverage([[0, 1, 5], [1, -1, -1]], 8, 3) == 3 / 8
    assert coverage(np.empty((0, 3), int), 8, 3) == 0
    with pytest.raises(InputError, match="ranked goes from 0 to 8"):
        coverage([[0, 8]], 8, 2)
    with pytest.raises(InputError, match="num_row is 0"):
        coverage([[0, 1]], 0, 2)


def test_popularity_bias_is_a_ratio_of_mean_counts():
    counts = [10, 6, 2, 1]
    ranked = [[0, 1, 3], [2, -1, -1], [0, 1, 3], [-1, -1, -1]]
    truth = pack([[2, 3], [2], [], [0]])
    # (8 + 2) / 2 over (1.5 + 2) / 2: the third has no truth, the last no ranking.
    assert popularity_bias(ranked, truth, counts, 2) == pytest.approx(5 / 1.75)
    assert popularity_bias(ranked, truth, counts, 3) == pytest.approx(((17 / 3) + 2) / 3.5)
    assert math.isnan(popularity_bias(ranked, pack([[]] * 4), counts, 2))
    assert math.isnan(popularity_bias([[0]], pack([[1]]), [3, 0], 1))
    with pytest.raises(InputError, match=r"counts\[1\] is -1"):
        popularity_bias(ranked, truth, [1, -1, 0, 0], 2)
    with pytest.raises(InputError, match="ranked goes from -1 to 3"):
        popularity_bias(ranked, truth, [1, 1, 1], 3)


# ------------------------------------------------------------------ evaluation


def test_an_evaluation_has_means_values_and_what_was_skipped():
    result = evaluate_rankings(RANKED, TRUTH, k=(4, 2, 2), counts=np.arange(10), num_row=20)
    assert (result.num_query, result.num_skipped) == (3, 1)
    assert list(result.values) == [f"{name}@{k}" for name in NAMES for k in (2, 4)]
    functions = dict(zip(NAMES, METRICS, strict=True))
    for name, values in result.values.items():
        metric, _, k = name.partition("@")
        np.testing.assert_array_equal(values, functions[metric](RANKED, TRUTH, int(k)))
        assert result[name] == pytest.approx(values[:3].mean())
    assert result["coverage@2"] == coverage(RANKED, 20, 2)
    assert result["popularity_bias@4"] == popularity_bias(RANKED, TRUTH, np.arange(10), 4)
    as_dict = json.loads(json.dumps(result.as_dict()))
    assert as_dict["recall@2"] == result["recall@2"]
    assert (as_dict["num_query"], as_dict["num_skipped"]) == (3, 1)
    with pytest.raises(InputError, match="name is 'recall'; pass one of hit_rate@2"):
        result["recall"]


def test_an_evaluation_prints_as_an_aligned_table():
    text = str(evaluate_rankings(RANKED, TRUTH, k=(2, 4), num_row=10))
    lines = text.splitlines()
    assert lines[0].split() == ["@2", "@4"]
    assert lines[2].split() == ["precision", "0.3333", "0.3333"]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-2].split()[0] == "coverage"
    assert lines[-1] == "3 queries; 1 with nothing to find"


def test_an_evaluation_of_nothing_has_no_means():
    result = evaluate_rankings([[1, 2]], pack([[]]), k=2)
    assert (result.num_query, result.num_skipped) == (0, 1)
    assert all(map(math.isnan, result.means.values()))
    assert "nan" in str(result)
    assert not result.catalog
    with pytest.raises(InputError, match="k is empty"):
        evaluate_rankings([[1, 2]], pack([[]]), k=())


def test_the_catalog_is_as_large_as_the_counts():
    assert evaluate_rankings(RANKED, TRUTH, 4, counts=np.ones(18, int))["coverage@4"] == 9 / 18


def test_metrics_are_asked_for_by_name():
    counts = np.arange(10)
    everything = evaluate_rankings(RANKED, TRUTH, k=(2, 4), counts=counts)
    names = ["recall@4", "coverage@2", "ndcg@2", "recall@4", "popularity_bias@4"]
    result = evaluate_rankings(RANKED, TRUTH, iter(names), counts=counts)
    assert (list(result.values), list(result.catalog)) == (
        ["recall@4", "ndcg@2"],
        ["coverage@2", "popularity_bias@4"],
    )
    assert all(result[name] == everything[name] for name in names)
    cells = {line.split()[0]: len(line.split()) - 1 for line in str(result).splitlines()[1:-1]}
    assert cells == {"recall": 1, "ndcg": 1, "coverage": 1, "popularity_bias": 1}
    one = evaluate_rankings(RANKED, TRUTH, "mrr@3")
    assert one.means == {"mrr@3": pytest.approx(mrr(RANKED, TRUTH, 3)[:3].mean())}
    both = evaluate_rankings(RANKED, TRUTH, ["mrr@3", 2])
    assert list(both.values) == ["mrr@3", *(f"{name}@2" for name in NAMES)]


@pytest.mark.parametrize("name", ["recal@2", "recall", "recall@0", "recall@-1", "@2", "recall@2.5"])
def test_a_name_of_no_metric_is_refused(name):
    with pytest.raises(InputError, match=f"k holds {name!r}, which is no metric; pass hit_rate"):
        evaluate_rankings(RANKED, TRUTH, [2, name])


def tables(num_query, num_row, dim=4, seed=0):
    generator = np.random.default_rng(seed)
    return (
        generator.standard_normal((num_query, dim), dtype=np.float32),
        generator.standard_normal((num_row, dim), dtype=np.float32),
    )


def test_evaluate_ranks_all_but_the_history():
    split = given_split(pack([[0, 1], [2], [3]]), pack([[4, 5], [6, 2], []]))
    queries, table = tables(3, 9)
    result = evaluate(queries, table, split, k=(3, 5))
    ranked, _ = top_n(queries, table, 5, exclude=split.history)
    expected = evaluate_rankings(ranked, split.truth, (3, 5), [1, 1, 1, 1, 0, 0, 0, 0, 0], 9)
    for name, value in expected.as_dict().items():
        assert result.as_dict()[name] == pytest.approx(value, nan_ok=True)
    assert result.num_skipped == 1
    again = evaluate(queries, table, split, 3, counts=np.ones(9, int), candidates=[4, 6, 0])
    assert again["popularity_bias@3"] == 1
    assert again["hit_rate@3"] == 1
    assert again["coverage@3"] == 3 / 9


def test_nothing_is_gained_from_ties():
    # Constant scores: chance would hit 10 of 40, and luck with low rows all of them.
    split = leave_last_out(*pack([[20 + i, i % 5] for i in range(20)]))
    queries, table = np.zeros((20, 2), np.float32), np.ones((40, 2), np.float32)
    result = evaluate(queries, table, split, k=10)
    assert set(result.means.values()) == {0.0}
    assert evaluate(queries, table, split, k=39)["hit_rate@39"] == 1
    same = evaluate(queries + 1, table, split, k=10)
    assert set(same.means.values()) == {0.0}
    best = np.zeros(40, dtype=np.float32)
    best[:5] = 1
    assert evaluate(queries, table, split, k=10, bias=best)["hit_rate@10"] == 1


def test_a_split_that_the_table_does_not_fit_is_refused():
    split = given_split(pack([[0, 7]]), pack([[2]]))
    queries, table = tables(1, 7)
    with pytest.raises(InputError, match=r"exclude \(items\) goes from 0 to 7"):
        evaluate(queries, table, split, k=2)
    with pytest.raises(InputError, match="exclude: offsets bound 1 sets of rows for 2 queries"):
        evaluate(*tables(2, 8), split, k=2)


# ---------------------------------------------------------------------- splits

BASKETS = [[1, 2], [3], [2, 3, 4], [5, 5, 2, 9], [7, 7], [1, 9, 1, 3]]


def test_leave_one_out_hides_an_item_of_each_late_itemset():
    split = leave_one_out(*pack(BASKETS), share=0.5, seed=3)
    assert unpack(split.train) == BASKETS[:3]
    assert split.itemsets.tolist() == [3, 5]
    hidden = [one for (one,) in unpack(split.truth)]
    for basket, item, history in zip(
        (BASKETS[3], BASKETS[5]), hidden, unpack(split.history), strict=True
    ):
        assert item in basket
        assert history == [other for other in basket if other != item]
    counts = split.counts
    assert (counts.itemsets_read, counts.items_read) == (6, 16)
    assert (counts.train_itemsets, counts.train_items) == (3, 6)
    assert (counts.held_out_itemsets, counts.queries, counts.short_itemsets) == (3, 2, 1)
    assert counts.hidden_copies == 8 - 2 - sum(map(len, unpack(split.history)))
    # 5, 7 and 9 are in no itemset that is trained on.
    assert counts.unknown_truth == sum(item in (5, 7, 9) for item in hidden)
    assert counts.unknown_history == sum(
        item in (5, 7, 9) for history in unpack(split.history) for item in history
    )
    assert "6 itemsets read" in repr(split)


def test_leave_one_out_drops_unknown_items_before_it_hides():
    split = leave_one_out(
        *pack([[1, 2, 3], [1, 8], [8, 3, 2, 8], [1, 2]]), share=0.75, drop_unknown=True
    )
    assert split.itemsets.tolist() == [2, 3]
    history, truth = unpack(split.history), unpack(split.truth)
    assert sorted(history[0] + truth[0]) == [2, 3]
    assert sorted(history[1] + truth[1]) == [1, 2]
    assert split.counts.unknown_dropped == 3
    assert split.counts.short_itemsets == 1
    assert split.counts.unknown_truth == split.counts.unknown_history == 0


def test_leave_one_out_draws_evenly_and_each_by_its_place():
    baskets = [[0]] + [[1, 1, 1, 2, 3]] * 3000
    split = leave_one_out(*pack(baskets), share=3000 / 3001, seed=1)
    hidden = np.bincount(split.truth[0], minlength=4)
    assert hidden[1:] == pytest.approx([1000] * 3, abs=110)
    assert split.counts.hidden_copies == 2 * hidden[1]

    again = leave_one_out(*pack(baskets), share=3000 / 3001, seed=1)
    np.testing.assert_array_equal(again.truth[0], split.truth[0])
    other = leave_one_out(*pack(baskets), share=3000 / 3001, seed=2)
    assert (other.truth[0] != split.truth[0]).any()
    # That an itemset makes no query changes nothing for the others.
    baskets[1] = [1]
    shorter = leave_one_out(*pack(baskets), share=3000 / 3001, seed=1)
    np.testing.assert_array_equal(shorter.truth[0], split.truth[0][1:])


def test_the_draws_of_a_seed_are_pinned():
    split = leave_one_out(*pack([[0]] + [list(range(10))] * 9), share=0.9, seed=0)
    assert split.truth[0].tolist() == [0, 2, 1, 5, 5, 2, 9, 9, 2]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, 0.01, 0.99])
def test_leave_one_out_needs_itemsets_on_both_sides(share):
    with pytest.raises(InputError, match=r"share is .* of 6 itemsets to train on"):
        leave_one_out(*pack(BASKETS), share=share)
    with pytest.raises(InputError, match="share is nan"):
        leave_one_out(*pack(BASKETS), share=math.nan)
    with pytest.raises(InputError, match="seed is -1"):
        leave_one_out(*pack(BASKETS), seed=-1)


def test_leave_last_out_hides_the_last_item_and_its_copies():
    split = leave_last_out(*pack([*BASKETS, []]))
    assert unpack(split.train) == [[1], [3], [2, 3], [5, 5, 2], [7, 7], [1, 9, 1], []]
    assert unpack(split.history) == [[1], [2, 3], [5, 5, 2], [1, 9, 1]]
    assert unpack(split.truth) == [[2], [4], [9], [3]]
    assert split.itemsets.tolist() == [0, 2, 3, 5]
    counts = split.counts
    assert (counts.queries, counts.held_out_itemsets, counts.short_itemsets) == (4, 4, 3)
    assert (counts.unknown_truth, counts.train_items) == (1, 12)
    assert counts.items_read == counts.train_items + counts.queries + counts.hidden_copies

    copies = leave_last_out(*pack([[4, 1, 4, 2, 4]]))
    assert unpack(copies.train) == unpack(copies.history) == [[1, 2]]
    assert copies.counts.hidden_copies == 2


def test_leave_last_out_of_longer_itemsets_and_known_items_only():
    split = leave_last_out(*pack(BASKETS), min_distinct=3, drop_unknown=True)
    # 4 is nowhere else; 9 and 3 are.
    assert unpack(split.truth) == [[9], [3]]
    assert unpack(split.history) == [[5, 5, 2], [1, 9, 1]]
    assert unpack(split.train)[:3] == [[1, 2], [3], [2, 3]]
    assert split.itemsets.tolist() == [3, 5]
    counts = split.counts
    assert (counts.unknown_itemsets, counts.unknown_dropped, counts.unknown_truth) == (1, 1, 0)
    assert counts.held_out_itemsets == counts.queries + counts.unknown_itemsets
    with pytest.raises(InputError, match="min_distinct is 1"):
        leave_last_out(*pack(BASKETS), min_distinct=1)


def test_given_split_takes_what_is_new():
    train, test = pack([[1, 2], [3, 3], []]), pack([[2, 5, 5, 3], [3], [9, 1]])
    split = given_split(train, test)
    assert unpack(split.train) == unpack(split.history) == [[1, 2], [3, 3], []]
    assert unpack(split.truth) == [[3, 5], [], [1, 9]]
    assert split.num_query == 3
    counts = split.counts
    assert (counts.repeated_items, counts.known_items, counts.unknown_truth) == (1, 2, 2)
    assert len(test[0]) == len(split.truth[0]) + counts.repeated_items + counts.known_items

    known = given_split(train, test, drop_unknown=True)
    assert unpack(known.truth) == [[3], [], [1]]
    assert (known.counts.unknown_truth, known.counts.unknown_dropped) == (0, 2)
    with pytest.raises(InputError, match="train has 3 itemsets and test 1"):
        given_split(train, pack([[1]]))


def test_items_that_cannot_be_rows_are_refused():
    for split in (leave_one_out, leave_last_out):
        with pytest.raises(InputError, match=r"items \(items\) goes from -1"):
            split([-1, 2], [0, 2])
        with pytest.raises(InputError, match=r"items \(offsets\) falls"):
            split([1, 2], [0, 2, 1])


@st.composite
def itemsets(draw):
    one = st.lists(st.integers(0, 9), max_size=6)
    return draw(st.lists(one, min_size=3, max_size=12))


@given(itemsets(), st.integers(0, 100), st.booleans())
def test_no_split_tells_what_it_hides(sets, seed, drop):
    packed = pack(sets)
    splits = [
        leave_one_out(*packed, share=0.5, seed=seed, drop_unknown=drop),
        leave_last_out(*packed, drop_unknown=drop),
        given_split(packed, pack(sets[::-1]), drop_unknown=drop),
    ]
    for split in splits:
        history, truth = unpack(split.history), unpack(split.truth)
        assert len(history) == len(truth) == split.num_query == split.counts.queries
        for known, hidden in zip(history, truth, strict=True):
            assert not set(known) & set(hidden)
            assert len(set(hidden)) == len(hidden)
        trained = {item for one in unpack(split.train) for item in one}
        unknown = [item for one in truth for item in one if item not in trained]
        assert split.counts.unknown_truth == len(unknown)
        assert not (drop and unknown)
    last = splits[1]
    cut = unpack(last.train)
    for itemset, (hidden,) in zip(last.itemsets, unpack(last.truth), strict=True):
        assert hidden == sets[itemset][-1]
        assert hidden not in cut[itemset]
    out = splits[0]
    counts = out.counts
    assert counts.held_out_itemsets == counts.queries + counts.short_itemsets
    assert all(history for history in unpack(out.history))


def test_the_whole_way_from_itemsets_to_metrics():
    # Items of one group share a direction, so the hidden one is among the first.
    sets = [[i, i + 1, i + 2] for i in (0, 3, 6, 9)] * 3
    split = leave_one_out(*pack(sets), share=1 / 3)
    table = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    result = evaluate(pool_rows(table, *split.history), table, split, k=1)
    assert result["hit_rate@1"] == 1
    assert result.num_query == 4


def test_what_is_in_the_history_may_stay_relevant():
    parts = pack([[1, 2, 3], [4]]), pack([[3, 2, 2, 7], [4]])
    split = given_split(*parts, drop_history=False)
    assert unpack(split.truth) == [[2, 3, 7], [4]]
    assert (split.counts.known_items, split.counts.repeated_items) == (0, 1)
    assert unpack(given_split(*parts).truth) == [[7], []]


# ------------------------------------------------------------------- bootstrap


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        a, b = generator.normal(0.3, 1, 60), generator.normal(0, 1, 60)
        difference, low, high = paired_bootstrap(a, b, num_resample=400, seed=seed, level=0.9)
        assert difference == pytest.approx((a - b).mean())
        assert low < difference < high
        held += low < 0.3 < high
    assert 0.83 < held / 200 < 0.96


def test_the_interval_is_that_of_the_normal_distribution_and_repeats(monkeypatch):
    generator = np.random.default_rng(1)
    a, b = generator.random(500), generator.random(500)
    difference, low, high = paired_bootstrap(a, b, num_resample=4000)
    error = (a - b).std() / math.sqrt(500)
    assert (low, high) == pytest.approx(
        (difference - 1.96 * error, difference + 1.96 * error), abs=0.003
    )
    assert paired_bootstrap(a, b, num_resample=4000) == (difference, low, high)
    assert paired_bootstrap(a, b, num_resample=4000, seed=1)[1:] != (low, high)
    wide = paired_bootstrap(a, b, num_resample=4000, level=0.999)
    assert wide[1] < low < high < wide[2]
    # With fewer drawn at a time the interval stays.
    monkeypatch.setattr(metrics, "DRAWS", 700)
    assert paired_bootstrap(a, b, num_resample=4000)[1:] == pytest.approx((low, high), abs=0.003)


def test_the_interval_of_one_system_is_that_of_its_mean():
    values = np.array([0.0, math.nan, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    mean, low, high = paired_bootstrap(values, 0 * values)
    assert mean == np.nanmean(values)
    assert 0 < low < mean < high <= 1


def test_queries_that_neither_system_was_asked_are_left_out():
    nan = math.nan
    assert paired_bootstrap([1, nan, 1], [0, nan, 0]) == (1, 1, 1)
    for a, b, message in (
        ([1, nan], [0, 0], "a and b: value 1 is nan in one of them only"),
        ([1, 2], [0], "a has 2 values and b 1"),
        ([nan], [nan], "no value that is not nan"),
        ([1, math.inf], [1, 0], "a holds a value that is not finite"),
        ([[1]], [[1]], r"a has shape \(1, 1\)"),
    ):
        with pytest.raises(InputError, match=message):
            paired_bootstrap(a, b)
    for options, message in (
        ({"level": 1}, "level is 1.0"),
        ({"level": 0}, "level is 0.0"),
        ({"num_resample": 0}, "num_resample is 0"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(InputError, match=message):
            paired_bootstrap([1], [0], **options)

"""`Item2Vec`: what it learns, answers, keeps and refuses; and vectors of whole itemsets."""

import math
import subprocess
import sys
from datetime import datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import polars
import pytest
import scipy.sparse
from samples import DIM, NUM_NEGATIVE, SAMPLED, planted_itemsets

from itembed_gpu import (
    CompoundTask,
    Cuda,
    Embeddings,
    UnsupervisedTask,
    initialize_syn,
    pack_itemsets,
    train,
)
from itembed_gpu.backends import protocol
from itembed_gpu.errors import (
    DataError,
    DeviceError,
    DivergenceError,
    InputError,
    UnknownLabelError,
)
from itembed_gpu.metrics import given_split
from itembed_gpu.models import estimator
from itembed_gpu.models.item2vec import Item2Vec
from itembed_gpu.ranking.priors import rank
from itembed_gpu.training.tasks import itemset_task

SETTINGS = SAMPLED | {
    "vector_size": DIM,
    "negative": NUM_NEGATIVE,
    "epochs": 10,
    "alpha": 0.1,
    "seed": 3,
    "device": "cpu",
    "workers": 1,
}


def planted(num_itemset=1500, seed=0):
    """Itemsets of names, and the cluster of each name."""
    items, offsets, clusters = planted_itemsets(num_itemset=num_itemset, seed=seed)
    names = [f"item {item}" for item in range(len(clusters))]
    itemsets = [[names[i] for i in part] for part in np.split(items, offsets[1:-1])]
    return itemsets, dict(zip(names, clusters.tolist(), strict=True))


ITEMSETS, CLUSTERS = planted()
UNTRAINED = Item2Vec(**SETTINGS)


@pytest.fixture(scope="module")
def model():
    return Item2Vec(**SETTINGS).fit(ITEMSETS)


@pytest.fixture
def small():
    """A model of few items, quickly made anew, with other counts for each of them."""
    itemsets = [["a", "b"], ["a", "b", "c"], ["a", "c", "d"], ["a", "b", "d", "e"], ["a", "e"]]
    return Item2Vec(**SETTINGS).fit(itemsets)


def share_in_cluster(labels, cluster):
    return np.mean([CLUSTERS[label] == cluster for label in labels])


# -------------------------------------------------------------------- learning


def test_it_learns_clusters(model):
    queries = model.labels_[:40]
    labels, scores = model.similar_items(queries, n=5)
    shares = [
        share_in_cluster(row, CLUSTERS[query]) for row, query in zip(labels, queries, strict=True)
    ]
    assert np.mean(shares) > 0.9
    assert (np.diff(scores, axis=1) <= 0).all()
    assert scores.max() <= 1
    recommended, _ = model.recommend([itemset[:2] for itemset in ITEMSETS[:40]], n=5)
    shares = [
        share_in_cluster(row, CLUSTERS[itemset[0]])
        for row, itemset in zip(recommended, ITEMSETS[:40], strict=True)
    ]
    assert np.mean(shares) > 0.9


def test_attributes_are_those_of_the_training(model):
    packed = pack_itemsets(ITEMSETS, min_length=2)
    assert model.labels_ == packed.labels == model.embeddings_.labels
    np.testing.assert_array_equal(model.counts_, packed.counts)
    assert model.syn0_ is model.embeddings_.vectors
    assert model.syn1_ is model.embeddings_.context
    assert model.syn0_.shape == (len(packed.labels), DIM)
    assert len(model.history_.epochs) == 10
    assert model.history_.epochs[0].learning_rate == pytest.approx(0.1)
    assert model.seed_ == 3
    assert model.accumulators_ is None


def test_fit_is_the_training_of_a_task(model):
    packed = pack_itemsets(ITEMSETS, min_length=2)
    syn0 = initialize_syn(packed.num_label, DIM, seed=3)
    syn1 = np.zeros_like(syn0)
    task = UnsupervisedTask(
        packed.indices, packed.offsets, syn0, syn1, num_negative=3, seed=3, num_threads=1
    )
    train(task, num_epoch=10, initial_learning_rate=0.1, progress=False)
    np.testing.assert_array_equal(model.syn0_, syn0)
    np.testing.assert_array_equal(model.syn1_, syn1)


def test_the_device_reaches_the_task(emulated):
    fitted = Item2Vec(**{**SETTINGS, "device": Cuda(threads_per_pair=1)}).fit(ITEMSETS[:50])
    assert any(told.startswith("launch") for told in emulated.told)
    assert fitted.syn1_.any()


def test_items_are_counted_once(emulated, monkeypatch):
    counted = []

    def count(codes, num_code, *, real=protocol.count_codes):
        counted.append(real(codes, num_code)[0])
        return counted[-1], 0

    monkeypatch.setattr(protocol, "count_codes", count)
    model = Item2Vec(**{**SETTINGS, "device": Cuda(threads_per_pair=1), "epochs": 1})
    model.fit(ITEMSETS[:50])
    assert not counted
    # Those of before are no part of what is trained now.
    before = model.counts_
    model.partial_fit(ITEMSETS[:30])
    assert np.array_equal(counted, [model.counts_ - before])


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_tables_are_made_on_the_card_and_copied_from_there(one_tile, optimizer):
    settings = {**SETTINGS, "device": Cuda(threads_per_pair=1), "optimizer": optimizer, "epochs": 2}
    number = 2 if optimizer == "sgd" else 4
    fitted = []
    # A callback sees the caller's tables, so that they are those of the host.
    for callbacks in ((), [lambda state: None]):
        one_tile.told.clear()
        fitted.append(Item2Vec(**settings, callbacks=callbacks).fit(ITEMSETS[:50]))
        assert one_tile.told.count("upload") == (number * 2 if callbacks else 0)
        assert one_tile.told.count("download") == number * (2 if callbacks else 1)
    one, other = fitted
    assert type(one.syn0_) is type(one.syn1_) is np.ndarray
    assert np.array_equal(one.syn0_, other.syn0_)
    assert np.array_equal(one.syn1_, other.syn1_)
    if optimizer == "adagrad":
        assert np.array_equal(one.accumulators_, other.accumulators_)
    # Where there is no room for them, the task tells what it needs.
    one_tile.free = 1000
    with pytest.raises(DeviceError, match=r"the task needs .*tables "):
        Item2Vec(**settings).fit(ITEMSETS[:50])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vector_size": 0}, "vector_size is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"negative": 1.5}, "negative is 1.5"),
        ({"alpha": "x"}, "alpha is 'x'"),
        ({"min_alpha": math.nan}, "min_alpha is nan"),
        ({"min_count": -1}, "min_count is -1"),
        ({"sample": -1}, "^sample is -1"),
        ({"ns_exponent": None}, "ns_exponent is None"),
        ({"loss": "mse"}, "loss is 'mse'"),
        ({"seed": -1}, "seed must be"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_parameters_are_checked_by_fit(changes, words):
    wrong = Item2Vec(**{**SETTINGS, **changes})  # scikit-learn wants them unchecked here
    with pytest.raises(InputError, match=words):
        wrong.fit([["a", "b"]])


def test_a_seed_is_drawn_and_kept(trained):
    fitted = Item2Vec(device="cpu").fit([["a", "b"]])
    assert fitted.seed is None
    assert trained[0][0].seed == fitted.seed_


def test_rare_labels_and_short_itemsets_are_dropped_and_counted(trained):
    fitted = Item2Vec(min_count=2, device="cpu").fit([["a", "b", None, "x"], ["b", "a"], ["a"]])
    assert fitted.labels_ == ["a", "b"]
    assert str(fitted.dropped_) == (
        "3 itemsets with 7 items read; dropped 1 None item, 1 rare label (1 item), "
        "1 short itemset (1 item)"
    )
    packed = pack_itemsets([["a", "b", None, "x"], ["b", "a"], ["a"]])
    assert Item2Vec(min_count=2, device="cpu").fit(packed).dropped_ == fitted.dropped_


def test_what_is_left_without_itemsets_is_refused(small):
    before = small.embeddings_
    with pytest.raises(InputError, match=r"none has two items.*2 short itemsets"):
        small.fit([["a"], ["b"]])
    with pytest.raises(InputError, match=r"itemsets\[0\]\[0\] is \[\], which is not hashable"):
        small.fit([[[]]])
    assert small.embeddings_ is before


@pytest.mark.parametrize(
    "form",
    [
        lambda sets: (tuple(itemset) for itemset in sets),
        lambda sets: pack_itemsets(sets),
        lambda sets: pytest.importorskip("pandas").Series(sets),
        lambda sets: pytest.importorskip("pandas").DataFrame({"basket": sets}),
        lambda sets: polars.Series(sets),
        lambda sets: polars.DataFrame({"basket": sets}),
    ],
)
def test_itemsets_come_in_many_forms(form):
    few = Item2Vec(**{**SETTINGS, "epochs": 1})
    expected = few.fit(ITEMSETS[:100]).transform(ITEMSETS[:5])
    again = few.fit(form(ITEMSETS[:100])).transform(form(ITEMSETS[:5]))
    np.testing.assert_array_equal(again, expected)


def test_rows_of_a_sparse_matrix_are_itemsets():
    matrix = scipy.sparse.csr_matrix([[1, 0, 2, 0], [0, 3, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    matrix.data[0] = 0  # stored, and zero all the same
    few = Item2Vec(**{**SETTINGS, "epochs": 1}).fit(matrix)
    expected = Item2Vec(**{**SETTINGS, "epochs": 1}).fit([[2], [1, 2], [0, 1, 2], []])
    assert few.labels_ == expected.labels_ == [2, 1, 0]
    np.testing.assert_array_equal(few.syn0_, expected.syn0_)
    assert few.transform(matrix).shape == (4, DIM)
    labels, _ = few.recommend(matrix, n=2)
    assert labels.shape == (4, 2)


def test_what_a_sparse_matrix_stores_twice_is_two_items():
    rows, items = [1, 0, 1, 0, 1, 1], [2, 3, 2, 3, 1, 4]
    values = np.array([1, 1, 1, 1, 1, 0])
    coo = scipy.sparse.coo_array((values, (rows, items)), shape=(2, 5))
    csr = scipy.sparse.csr_array((values, [3, 3, 1, 2, 2, 4], [0, 2, 6]), shape=(2, 5))
    models = [Item2Vec(**{**SETTINGS, "epochs": 1}).fit(matrix) for matrix in (coo, csr)]
    for model in models:
        # Columns as frequent as each other stand in their order.
        assert model.labels_ == [2, 3, 1]
        assert model.counts_.tolist() == [2, 2, 1]
        lost = model.dropped_
        assert (lost.items_read, lost.zero_items, lost.duplicate_items) == (6, 1, 0)
    np.testing.assert_array_equal(models[0].syn0_, models[1].syn0_)


def test_arrays_and_frames_of_0_and_1_are_as_the_sparse_matrix():
    matrix = scipy.sparse.csr_array([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    array = matrix.toarray()
    few = Item2Vec(**{**SETTINGS, "epochs": 1})
    expected, names = few.fit(matrix).syn0_, few.labels_
    for form in (array, array.astype(bool), array.astype(float)):
        assert few.fit(form).labels_ == names == [2, 0, 1]
        np.testing.assert_array_equal(few.syn0_, expected)
        for asked in (matrix, form):
            assert few.recommend(asked, n=1, filter_already_liked_items=False)[0].shape == (4, 1)
        np.testing.assert_array_equal(few.transform(form), few.transform(matrix))
    for row in (array[0], array[0].astype(bool)):
        with pytest.raises(InputError, match=r"holds 0 and 1 alone; pass array\[None\]"):
            few.recommend(row)
    one, many = few.recommend(matrix[[0], :].reshape(-1), n=1), few.recommend(matrix, n=1)
    assert one[0].tolist() == many[0][0].tolist() == [1]
    pandas = pytest.importorskip("pandas")
    for frame in (pandas.DataFrame(array, columns=list("abcd")), polars.DataFrame(array, "abcd")):
        assert few.fit(frame).labels_ == ["c", "a", "b"]
        np.testing.assert_array_equal(few.syn0_, expected)


def test_baskets_of_arrow_are_values_of_python():
    pyarrow = pytest.importorskip("pyarrow")
    sets = pyarrow.array([["tea", "cup"], ["tea", "saw", "cup"], ["saw", "tea"]])
    few = Item2Vec(**{**SETTINGS, "epochs": 1}).fit(sets)
    assert few.labels_ == ["tea", "cup", "saw"]
    labels, scores = few.recommend(["tea"])
    assert sorted(labels) == ["cup", "saw"]
    for basket in (pyarrow.array(["tea"]), np.array(["tea"]), {"tea"}, polars.Series(["tea"])):
        np.testing.assert_array_equal(few.recommend(basket)[1], scores)
    assert few.recommend(sets, n=1)[0].shape == (3, 1)
    cup = pyarrow.array(["cup"])
    assert few.recommend(["tea"], filter_items=cup)[0].tolist() == ["saw"]
    assert few.recommend(["tea"], items=polars.Series(["cup"]))[0].tolist() == ["cup"]


def test_tables_of_more_columns_and_weights_without_lists_are_refused():
    table = polars.DataFrame({"basket": [1, 1], "item": ["a", "b"]})
    with pytest.raises(InputError, match="itemsets is a table with 2 columns"):
        UNTRAINED.fit(table)
    with pytest.raises(InputError, match="weights are given beside itemsets"):
        UNTRAINED.fit(pack_itemsets([["a", "b"]]), weights=[[1, 1]])


def test_weights_reach_the_training():
    nothing = Item2Vec(**SETTINGS).fit([["a", "b"], ["a", "c"]], weights=[[0, 0], [0, 0]])
    assert not nothing.syn1_.any()
    assert Item2Vec(**SETTINGS).fit([["a", "b"], ["a", "c"]]).syn1_.all()


# ----------------------------------------------------------------- partial fit


def test_partial_fit_goes_on_and_makes_rows_for_new_labels(small):
    labels, syn0, counts = list(small.labels_), small.syn0_.copy(), small.counts_
    old = small.embeddings_
    small.partial_fit([["e", "new"], ["new", "newer", "new", "new"], ["d"]])
    assert small.labels_ == [*labels, "new", "newer"]
    np.testing.assert_array_equal(old.vectors, syn0)  # as others may hold it
    moved = (small.syn0_[: len(labels)] != syn0).any(axis=1)
    assert [label for label, is_moved in zip(labels, moved, strict=True) if is_moved] == ["e"]
    added = {"e": 1, "d": 1}
    assert small.counts_.tolist() == [
        *(count + added.get(label, 0) for label, count in zip(labels, counts, strict=True)),
        4,
        1,
    ]
    assert small.num_fit_ == 2
    assert small.dropped_.short_itemsets == 1
    # New rows are not the values that the first ones began with.
    began = initialize_syn(2, DIM, seed=3)
    assert abs(small.syn0_[-2:] - began).max() > 0.01


def test_partial_fit_without_new_labels_or_with_rare_ones(small):
    labels = list(small.labels_)
    small.set_params(min_count=2).partial_fit([["e", "a", "rare"]])
    assert small.labels_ == labels
    assert (small.dropped_.rare_labels, small.dropped_.rare_items) == (1, 1)


def test_partial_fit_learns(model):
    fitted = Item2Vec(**SETTINGS).fit(ITEMSETS[:1000])
    # A new item that is in the baskets of one cluster.
    cluster = CLUSTERS[ITEMSETS[0][0]]
    baskets = [[*itemset, "new"] for itemset in ITEMSETS if CLUSTERS[itemset[0]] == cluster]
    fitted.partial_fit(baskets, epochs=20)
    assert fitted.epochs == 10
    assert len(fitted.history_.epochs) == 20
    labels, _ = fitted.similar_items("new", n=5)
    assert share_in_cluster(labels, cluster) == 1


def test_partial_fit_alone_is_fit(model):
    fitted = Item2Vec(**SETTINGS).partial_fit(ITEMSETS)
    np.testing.assert_array_equal(fitted.syn0_, model.syn0_)


def test_noise_and_accumulators_are_carried_on():
    settings = {**SETTINGS, "optimizer": "adagrad", "epochs": 1}
    fitted = Item2Vec(**settings).fit(ITEMSETS[:20])
    before = [values.copy() for values in fitted.accumulators_]
    fitted.partial_fit([["new", "newer"]])
    left, right = fitted.accumulators_
    np.testing.assert_array_equal(left[:-2], before[0])
    assert (left[-2:] > 0).all()
    assert (right[:-2] >= before[1]).all()
    assert (right[:-2] > before[1]).any()  # as negatives


def test_partial_fit_draws_negatives_by_all_counts(small, trained):
    small.set_params(ns_exponent=1).partial_fit([["e", "new"]])
    weights = trained[0][0].options.noise_weights
    np.testing.assert_allclose(weights / weights[0], small.counts_ / small.counts_[0])
    assert trained[0][0].seed == small.seed_ + 1


def test_a_failed_partial_fit_changes_nothing(small):
    syn0, syn1, history = small.syn0_.copy(), small.syn1_.copy(), small.history_
    small.set_params(alpha=1e30)
    for more in (["a", "b"], ["a", "b", "new"]):
        with pytest.raises(DivergenceError):
            small.partial_fit([more])
    np.testing.assert_array_equal(small.syn0_, syn0)
    np.testing.assert_array_equal(small.syn1_, syn1)
    assert small.history_ is history
    with pytest.raises(InputError, match="vector_size is 13, and the model has 12"):
        small.set_params(vector_size=13, alpha=0.1).partial_fit([["a", "b"]])


# ------------------------------------------------------------------- transform


def expected_vector(model, basket, exponent=0.5, weights=None):
    rows = [model.labels_.index(label) for label in basket]
    weights = np.ones(len(rows)) if weights is None else np.array(weights)
    factors = weights * model.counts_[rows] ** -float(exponent)
    return (factors[:, None] * model.syn0_[rows]).sum(axis=0) / abs(factors).sum()


def test_transform_is_the_weighted_mean(small):
    baskets = [["a", "d"], [], ["b", "?", "b", "e"], ["?"]]
    vectors = small.transform(baskets)
    assert vectors.shape == (4, DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], expected_vector(small, "ad"), rtol=1e-5)
    np.testing.assert_allclose(vectors[2], expected_vector(small, "bbe"), rtol=1e-5)
    assert not vectors[[1, 3]].any()
    assert small.unknown_ == (2, 7, 2, 4)
    weighted = small.transform([["a", "d"]], weights=[[2, -1]])
    np.testing.assert_allclose(
        weighted[0], expected_vector(small, "ad", weights=[2, -1]), rtol=1e-5
    )
    plain = small.set_params(history_exponent=0).transform([["a", "d"]])
    np.testing.assert_allclose(plain[0], expected_vector(small, "ad", 0), rtol=1e-5)


def test_unknown_items_are_told(small, caplog):
    small.transform([["a", "b"]])
    assert not caplog.messages
    small.transform([["a", "?"], []])
    assert caplog.messages == [
        "Item2Vec: 1 of 2 items are unknown; 1 of 2 itemsets have no known item"
    ]


def test_folding_in_trains_itemsets_alone(model):
    before = model.syn0_.copy(), model.syn1_.copy(), model.counts_.copy()
    baskets = [*ITEMSETS[:30], [], ["?"]]
    means, folded = model.transform(baskets), model.transform(baskets, fold_in=20)
    for now, then in zip((model.syn0_, model.syn1_, model.counts_), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not folded[-2:].any()
    np.testing.assert_array_equal(model.transform(baskets, fold_in=20), folded)

    def loss(vectors):
        """Of the items of each itemset, against all items."""
        scores = vectors[:30].astype(np.float64) @ model.syn1_.T
        rows = [[model.labels_.index(label) for label in itemset] for itemset in ITEMSETS[:30]]
        own = np.take_along_axis(scores, np.array(rows), axis=1)
        return np.logaddexp(0, -own).mean() + 3 * np.logaddexp(0, scores).mean()

    assert loss(folded) < loss(means)


def test_folding_in_is_a_parameter_as_well(small):
    expected = small.transform([["a", "b"]], fold_in=2)
    assert (expected != small.transform([["a", "b"]])).all()
    small.set_params(fold_in=2)
    np.testing.assert_array_equal(small.transform([["a", "b"]]), expected)
    assert small.transform([["?"]]).tolist() == [[0.0] * DIM]
    with pytest.raises(InputError, match="fold_in is -1"):
        small.transform([["a"]], fold_in=-1)


def test_weights_count_when_folding_in(small):
    assert not small.transform([["a", "e"]], weights=[[0, 0]], fold_in=2).any()
    assert small.transform([["a", "e"]], weights=[[0, 1]], fold_in=2).any()


# --------------------------------------------------------------- similar items


def test_similar_items_are_those_of_the_embeddings(model):
    queries = model.labels_[:7]
    labels, scores = model.similar_items(queries, n=6)
    assert labels.dtype == object
    assert scores.dtype == np.float32
    for query, row, values in zip(queries, labels, scores, strict=True):
        expected = model.embeddings_.similar(query, n=6)
        assert row.tolist() == [label for label, _ in expected]
        np.testing.assert_allclose(values, [score for _, score in expected], rtol=1e-5)
        one, one_scores = model.similar_items(query, n=6)
        assert one.tolist() == row.tolist()
        np.testing.assert_array_equal(one_scores, values)


def test_it_is_asked_like_a_dictionary_of_items(model):
    item = model.labels_[3]
    assert len(model) == len(model.labels_)
    assert item in model
    assert "nothing" not in model
    np.testing.assert_array_equal(model[item], model.syn0_[3])
    np.testing.assert_array_equal(model[[item, item]], model.syn0_[[3, 3]])
    with pytest.raises(UnknownLabelError, match="nothing"):
        model["nothing"]


def test_before_it_is_fitted_it_holds_nothing():
    assert len(Item2Vec()) == 0
    assert "item 1" not in Item2Vec()


def test_the_most_similar_are_those_of_the_embeddings(model):
    near, far = model.labels_[:2], model.labels_[2]
    found = model.most_similar(near, far, n=3)
    assert found == model.embeddings_.most_similar(near, far, n=3)


def test_neighbours_can_be_filtered(small):
    labels, scores = small.similar_items("a", n=10)
    assert sorted(labels) == ["b", "c", "d", "e"]
    assert len(scores) == 4
    assert sorted(small.similar_items("a", filter_items=["b", "not known"])[0]) == ["c", "d", "e"]
    assert sorted(small.similar_items("a", items={"a", "b", "c"})[0]) == ["b", "c"]
    assert small.similar_items("a", items="b")[0].tolist() == ["b"]
    both, scores = small.similar_items(["a", "b"], n=3, items=["b", "c"], filter_items="c")
    assert both.tolist() == [["b", None, None], [None, None, None]]
    assert np.isinf(scores[1]).all()
    with pytest.raises(UnknownLabelError, match="'A' is not among"):
        small.similar_items("A")
    with pytest.raises(UnknownLabelError, match="'A' is not among"):
        small.similar_items("a", items=["A"])
    with pytest.raises(InputError, match="n is 0"):
        small.similar_items("a", n=0)


def test_labels_can_be_tuples():
    fitted = Item2Vec(**SETTINGS).fit([[("a", 1), ("b", 2)], [("b", 2), ("c", 3)]])
    assert fitted.similar_items(("a", 1), n=1)[0].shape == (1,)
    labels, _ = fitted.recommend([("a", 1), ("b", 2)])
    assert labels.tolist() == [("c", 3)]
    many, _ = fitted.recommend([[("a", 1)], [("c", 3)]], n=2)
    assert many.shape == (2, 2)
    assert isinstance(many[0, 0], tuple)


# ------------------------------------------------------------------- recommend


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("popularity", [0.0, 0.7])
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_recommendations_are_ranked_by_their_scores(model, similarity, popularity, exponent):
    basket = ITEMSETS[3][:3]
    vector, table = expected_vector(model, basket, exponent), model.syn1_
    if similarity == "cosine":
        vector = vector / np.linalg.norm(vector)
        table = model.syn0_ / np.linalg.norm(model.syn0_, axis=1, keepdims=True)
    scores = table @ vector + popularity * np.log(model.counts_)
    scores[[model.labels_.index(label) for label in basket]] = -np.inf
    best = np.argsort(-scores)[:10]
    labels, values = model.recommend(
        basket, similarity=similarity, popularity=popularity, history_exponent=exponent
    )
    assert labels.tolist() == [model.labels_[row] for row in best]
    np.testing.assert_allclose(values, scores[best], rtol=1e-4)
    changed = Item2Vec(**SETTINGS).set_params(
        similarity=similarity, popularity=popularity, history_exponent=exponent
    )
    changed.embeddings_ = model.embeddings_
    assert changed.recommend(basket)[0].tolist() == labels.tolist()


def test_filters_are_kept_to(model):
    baskets = ITEMSETS[:20]
    barred, allowed = set(model.labels_[:50]), set(model.labels_[::3])
    labels, scores = model.recommend(baskets, n=60, filter_items=barred, items=allowed)
    for basket, row, values in zip(baskets, labels, scores, strict=True):
        found = {label for label in row if label is not None}
        assert found == allowed - barred - set(basket)
        assert np.isinf(values).sum() == 60 - len(found)
        assert len(found) > 20
    everything, _ = model.recommend(baskets[0], n=10, filter_already_liked_items=False)
    assert set(everything) & set(baskets[0])


def test_many_baskets_are_answered_as_one_by_one(model):
    baskets = [ITEMSETS[0], set(ITEMSETS[1]), [], np.array(ITEMSETS[2]), ["?"], ITEMSETS[3][:1]]
    labels, scores = model.recommend(baskets, n=4)
    assert labels.shape == scores.shape == (6, 4)
    for basket, row, values in zip(baskets, labels, scores, strict=True):
        one, one_scores = model.recommend(basket, n=4)
        assert one.tolist() == row.tolist()
        np.testing.assert_array_equal(one_scores, values)
    for one_basket in (tuple(ITEMSETS[0]), dict.fromkeys(ITEMSETS[0], 1)):
        assert model.recommend(one_basket, n=4)[0].tolist() == labels[0].tolist()
    packed, _ = model.recommend(pack_itemsets(ITEMSETS[:2]), n=4)
    assert packed.tolist() == labels[:2].tolist()


def test_what_is_missing_in_a_column_of_labels_or_baskets(small):
    one, none = small.recommend(["b"], n=2)[0].tolist(), small.recommend([], n=2)[0].tolist()
    assert small.recommend(polars.Series(["b", None]), n=2)[0].tolist() == one
    assert small.recommend(polars.Series([["b"], None]), n=2)[0].tolist() == [one, none]


def test_where_nothing_is_known_the_most_frequent_are_recommended(small):
    for basket in ([], ["?", "??"]):
        labels, scores = small.recommend(basket, n=2, filter_items=["b"])
        assert labels.tolist()[0] == "a"
        share = small.counts_[small.labels_.index("a")] / small.counts_.sum()
        assert scores[0] == pytest.approx(math.log(share))
    # By their counts, not by their rows.
    small.partial_fit([["z", "z", "z"]] * 9)
    assert small.recommend([], n=1)[0].tolist() == ["z"]


@pytest.mark.parametrize(
    ("baskets", "words"),
    [
        ("abc", "baskets is 'abc'; pass a list of labels"),
        (5, "baskets is 5"),
        (["a", ["b"]], "holds labels, as 'a', and baskets, as"),
        ([("a", "b"), ("c",)], "make each a list"),
        ([frozenset("a")], "no label of the model is a frozenset"),
    ],
)
def test_baskets_that_could_be_misread_are_refused(small, baskets, words):
    with pytest.raises(InputError, match=words):
        small.recommend(baskets)


def test_recommend_refuses_what_it_cannot_use(small):
    with pytest.raises(InputError, match="similarity is 'l2'; pass one of 'dot', 'cosine'"):
        small.recommend(["a"], similarity="l2")
    with pytest.raises(InputError, match="popularity is nan"):
        small.recommend(["a"], popularity=math.nan)
    with pytest.raises(InputError, match="history_exponent is 'x'"):
        small.recommend(["a"], history_exponent="x")
    with pytest.raises(InputError, match="n is 0"):
        small.recommend(["a"], n=0)


def test_what_is_asked_is_computed_on_the_device(small, monkeypatch):
    placed = []

    class Elsewhere:
        def to_device(self, table):
            placed.append(table)
            return table

    def select(device, num_threads):
        assert (device, num_threads) == ("cuda", 2)
        return Elsewhere()

    monkeypatch.setattr(estimator, "select_backend", select)
    small.set_params(device="cuda", workers=2)
    small.similar_items("a")
    np.testing.assert_allclose(np.linalg.norm(placed[0], axis=1), 1, rtol=1e-6)
    small.transform([["a"]])
    assert placed[1] is small.syn0_
    small.recommend(["a"])
    assert placed[2] is small.syn0_
    assert placed[3] is small.syn1_


# ---------------------------------------------------------------------- window


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (scipy.sparse.csr_matrix, "a csr_matrix of 0 and 1"),
        (lambda rows: [set(np.flatnonzero(row)) for row in rows], "a list of sets"),
        (lambda rows: rows, "a ndarray of 0 and 1"),
    ],
)
def test_what_has_no_order_has_no_window(kind, message):
    itemsets = kind((np.random.default_rng(0).random((30, 8)) < 0.6).astype(np.int64))
    model = Item2Vec(window=2, vector_size=4, epochs=1)
    for learn in (model.fit, model.tune, model.fit_transform):
        with pytest.raises(InputError, match=f"window is 2, .* {message}, have no order; pass li"):
            learn(itemsets)


def test_with_a_window_the_score_is_that_of_the_last_item():
    cycle = [[(start + n) % 12 for n in range(6)] for start in range(12)]
    model = Item2Vec(window=2, **SETTINGS).fit(cycle)
    expected = []
    for *shown, hidden in cycle:
        found = np.flatnonzero(model.recommend([shown], n=5)[0] == hidden)
        expected.append(1 / math.log2(found[0] + 2) if len(found) else 0.0)
    assert 0 < np.mean(expected) < 1
    assert model.score(cycle, k=5) == pytest.approx(np.mean(expected))


def test_pairs_of_a_softmax_are_tuned_without_what_is_of_means():
    cycle = [[(start + n) % 12 for n in range(6)] for start in range(60)]
    model = Item2Vec(window=2, vector_size=4, epochs=1, seed=1, device="cpu", workers=1)
    model.tune(cycle, budget=1, report=None)
    assert len(model.trials_) > 3
    assert not any("dropout" in trial["params"] for trial in model.trials_)


# ----------------------------------------------------------------------- score


def test_the_score_is_the_ndcg_of_a_hidden_item(model):
    def ndcg(shown, hidden, k):
        labels, _ = model.recommend([shown], n=k)
        found = np.flatnonzero(labels == hidden)
        return 1 / math.log2(found[0] + 2) if len(found) else 0.0

    sides = []
    for first, second, *_ in ITEMSETS[:30]:
        if first == second:
            continue
        choices = ndcg(first, second, 5), ndcg(second, first, 5)
        value = model.score([[first, second, "?"], ["?"], [first]], k=5)
        assert value == pytest.approx(choices[0]) or value == pytest.approx(choices[1])
        if choices[0] != choices[1]:
            sides.append(value == pytest.approx(choices[0]))
    assert {True, False} == set(sides)  # either may be hidden
    assert model.unknown_ == (2, 5, 1, 3)


def test_the_score_depends_on_the_items_alone_and_grows_with_learning(model):
    held, _ = planted(num_itemset=200, seed=0)
    value = model.score(held)
    assert model.score([itemset[::-1] for itemset in held]) == value
    weaker = Item2Vec(**{**SETTINGS, "epochs": 1, "alpha": 0.01}).fit(ITEMSETS)
    assert weaker.score(held) < value - 0.1
    assert 0 <= value <= 1
    popular = Item2Vec(**SETTINGS).set_params(popularity=100.0)
    popular.embeddings_ = model.embeddings_
    assert popular.score(held) < value - 0.1
    with pytest.raises(InputError, match="none of 2 has two different known items"):
        model.score([["?", ITEMSETS[0][0]], []])


# ------------------------------------------------------------------ evaluation


def test_what_is_sought_loses_ties_also_where_nothing_is_known():
    # All items are as frequent: without a history, the order of the rows alone could help.
    fitted = Item2Vec(**SETTINGS).fit([["a", "b", "c", "d", "e", "f"]] * 3)
    split = given_split(([0], [0, 0, 0, 0, 1]), ([0, 5, 1, 2, 4, 3], [0, 1, 3, 6, 6]))
    values = fitted._measure(split, [3, 6]).values
    assert values["hit_rate@3"].tolist()[:3] == [0, 0, 0]
    # The k-th query has k items to find, which come last.
    assert values["mrr@6"].tolist()[:3] == [1 / 6, 1 / 5, 1 / 4]
    assert math.isnan(values["mrr@6"][3])


HISTORIES = [*(itemset[:3] for itemset in ITEMSETS[:40]), ["?", "new"], [], ["?"], ["item 3"]]
SOUGHT = [
    *(itemset[1:] + ["new"] * (number % 3) for number, itemset in enumerate(ITEMSETS[:40])),
    *(["new", "item 7"], ["item 7", "item 1"], [], []),
]
KINDS = ("hit_rate", "precision", "recall", "ndcg", "mrr", "map")


def expected_metrics(ranked, relevant, k):
    """By the textbook, of one query, in the order of `KINDS`."""
    hits = [label in relevant for label in ranked[:k]]
    found = np.cumsum(hits)
    gains = 1 / np.log2(np.arange(2, k + 2))
    best = min(len(relevant), k)
    return (
        float(any(hits)),
        sum(hits) / k,
        sum(hits) / len(relevant),
        gains[: len(hits)][hits].sum() / gains[:best].sum(),
        1 / (hits.index(True) + 1) if any(hits) else 0,
        sum(found[i] / (i + 1) for i, hit in enumerate(hits) if hit) / best,
    )


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "scoring", [{}, {"similarity": "cosine", "popularity": 0.3}, {"history_exponent": 0}]
)
def test_a_split_of_ones_own_is_measured_as_recommendations_are(model, masked, scoring):
    k = 6
    result = model.evaluate(HISTORIES, SOUGHT, k, masked, **scoring)
    labels, _ = model.recommend(HISTORIES, k, masked, **scoring)
    skipped = []
    for row, (ranked, history, sought) in enumerate(zip(labels, HISTORIES, SOUGHT, strict=True)):
        relevant = set(sought) - (set(history) if masked else set())
        if not relevant:
            skipped.append(row)
            continue
        values = [result.values[f"{name}@{k}"][row] for name in KINDS]
        assert values == pytest.approx(expected_metrics(ranked.tolist(), relevant, k))
    nothing = {row for row in range(len(labels)) if np.isnan(result.values[f"recall@{k}"][row])}
    assert nothing == set(skipped) >= {len(labels) - 2, len(labels) - 1}
    assert (result.num_query, result.num_skipped) == (len(labels) - len(skipped), len(skipped))
    assert result["coverage@6"] == len(set(labels.ravel()) - {None}) / len(model)


def test_what_is_unknown_in_a_split_is_counted(small):
    train, test = [["a", "?", "new"], ["?"], ["b"]], [["b", "new", "other"], ["other", "a"], []]
    result = small.evaluate(train, test, ["recall@9", "popularity_bias@1"])
    # "new" is in the history: nobody looks for it.
    assert result.values["recall@9"].tolist()[:2] == [1 / 2, 1 / 2]
    assert small.unknown_ == (6, 10, 2, 6)
    counts = result.counts
    assert (counts.unknown_history, counts.unknown_truth, counts.known_items) == (3, 2, 1)
    # Without a history, "a" is recommended; what is unknown was never seen.
    ranked = small.recommend(train, 1)[0].ravel()
    number = dict(zip(small.labels_, small.counts_.tolist(), strict=True))
    wanted = (number["b"] + 0) / 2 + (0 + number["a"]) / 2
    popular = sum(number[label] for label in ranked[:2])
    assert result["popularity_bias@1"] == pytest.approx(popular / wanted)


def test_a_split_comes_in_every_form(small):
    train, test = [["a", "b"], ["d"], []], [["c"], ["a", "e"], ["b"]]
    expected = small.evaluate(train, test, 2).values
    packed = [pack_itemsets(part, min_length=0) for part in (train, test)]
    frames = [polars.DataFrame({"items": part}) for part in (train, test)]
    for parts in (packed, frames, [iter(train), map(tuple, test)], [frames[0], packed[1]]):
        for name, values in small.evaluate(*parts, 2).values.items():
            np.testing.assert_array_equal(values, expected[name])
    order = [small.labels_.index(label) for label in "abcde"]
    by_row = Item2Vec(**SETTINGS)
    old = small.embeddings_
    by_row.embeddings_ = Embeddings(
        range(5), old.vectors[order], context=old.context[order], counts=old.counts[order]
    )
    dense = [np.array([[int(x in row) for x in "abcde"] for row in part]) for part in (train, test)]
    for parts in (dense, [scipy.sparse.csr_array(part) for part in dense]):
        for name, values in by_row.evaluate(*parts, 2).values.items():
            np.testing.assert_allclose(values, expected[name])


def test_weights_of_histories_count_as_in_recommendations(small):
    histories, sought = [["a", "d"], ["b", "e"]], [["b"], ["d"]]
    packed = pack_itemsets(histories, weights=[[1, -5], [-5, 1]])
    ranks = [
        row.tolist().index(*one)
        for row, one in zip(small.recommend(packed)[0], sought, strict=True)
    ]
    found = small.evaluate(packed, sought, "mrr@9").values["mrr@9"]
    assert found.tolist() == [1 / (rank + 1) for rank in ranks]
    assert found.tolist() != small.evaluate(histories, sought, "mrr@9").values["mrr@9"].tolist()


def test_a_split_that_cannot_be_evaluated_is_refused(small):
    with pytest.raises(InputError, match=r"train has 2 itemsets and test 1; .* min_length=0"):
        small.evaluate([["a"], ["b"]], pack_itemsets([["c"], []]))
    with pytest.warns(UserWarning, match="test: 1 short itemsets were dropped before") as caught:
        small.evaluate([["a"]], pack_itemsets([["c"], []]))
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match="test: there is nothing to find that the model knows"):
        small.evaluate([["a"], ["b"]], [["a"], ["?"]])
    with pytest.raises(InputError, match="metrics holds 'recall', which is no metric"):
        small.evaluate([["a"]], [["b"]], ["recall"])
    with pytest.raises(InputError, match="metrics is 0"):
        small.evaluate([["a"]], [["b"]], 0)
    with pytest.raises(InputError, match="similarity is 'l2'"):
        small.evaluate([["a"]], [["b"]], similarity="l2")
    with pytest.raises(InputError, match="learned nothing"):
        Item2Vec().evaluate([["a"]], [["b"]])


def test_popularity_is_measured_beside_a_model(small):
    # Of a, b, c, d and e; the last three are as frequent, and the sought one comes last.
    rows = [small.labels_.index(label) for label in "abcde"]
    split = given_split(([rows[0], rows[1]], [0, 1, 2, 2]), ([rows[1], rows[2], rows[0]], range(4)))
    values = small._measure_popularity(split, "mrr@5").values["mrr@5"]
    assert values.tolist() == [1, 1 / 4, 1]


def test_losers_lose_ties_of_priors_and_nothing_else():
    table = np.array([[1], [1], [1], [2]], dtype=np.float32)
    queries = np.ones((3, 1), dtype=np.float32)
    known, prior = np.array([False, True, False]), np.array([5.0, 7, 5, 5])
    losers = np.array([0, 1, 2, 0], dtype=np.int32), np.array([0, 1, 2, 4])
    rows, scores = rank(queries, table, 4, known, prior, losers=losers)
    assert rows.tolist() == [[1, 2, 3, 0], [3, 0, 2, 1], [1, 3, 0, 2]]
    assert scores.tolist() == [[7, 5, 5, 5], [2, 1, 1, 1], [7, 5, 5, 5]]
    rows, _ = rank(queries, table, 4, known, prior, candidates=np.array([0, 2]))
    assert rows.tolist() == [[0, 2, -1, -1]] * 3


# ------------------------------------------------------------------ to a disk


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_a_saved_model_goes_on_as_the_original_does(tmp_path, optimizer):
    settings = {**SETTINGS, "epochs": 2, "optimizer": optimizer, "history_exponent": 0.25}
    fitted = Item2Vec(**settings).fit(ITEMSETS[:200])
    fitted.save(tmp_path / "model")
    loaded = Item2Vec.load(tmp_path / "model", device="cpu", workers=1)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.labels_ == fitted.labels_
    for basket in ITEMSETS[:5]:
        labels, scores = loaded.recommend(basket)
        expected, expected_scores = fitted.recommend(basket)
        assert labels.tolist() == expected.tolist()
        np.testing.assert_array_equal(scores, expected_scores)
    for either in (fitted, loaded):
        either.partial_fit([*ITEMSETS[200:300], ["new", "newer"]])
    np.testing.assert_array_equal(loaded.syn0_, fitted.syn0_)
    np.testing.assert_array_equal(loaded.syn1_, fitted.syn1_)
    np.testing.assert_array_equal(loaded.counts_, fitted.counts_)
    assert loaded.num_fit_ == fitted.num_fit_ == 2
    loaded.save(tmp_path / "model")  # in the place of the first one
    assert len(Item2Vec.load(tmp_path / "model").labels_) == len(loaded.labels_)


def test_the_folder_is_one_of_embeddings_too(small, tmp_path):
    small.save(tmp_path)
    read = Embeddings.load(tmp_path)
    assert read.labels == small.labels_
    np.testing.assert_array_equal(read.context, small.syn1_)


def test_what_belongs_to_a_machine_is_not_saved(small, tmp_path):
    small.set_params(callbacks=[print], progress=True, alpha=np.float32(0.5)).save(tmp_path)
    loaded = Item2Vec.load(tmp_path)
    assert (loaded.device, loaded.workers) == ("auto", None)
    assert (loaded.callbacks, loaded.progress, loaded.alpha) == ((), False, 0.5)


def test_what_cannot_be_saved_or_loaded_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="learned nothing yet"):
        UNTRAINED.save(tmp_path)
    small.embeddings_.save(tmp_path / "embeddings")
    with pytest.raises(DataError, match="holds no Item2Vec"):
        Item2Vec.load(tmp_path / "embeddings")
    with pytest.raises(DataError, match="no such folder"):
        Item2Vec.load(tmp_path / "nowhere")
    small.save(tmp_path / "model")
    with pytest.raises(InputError, match="colour is no parameter"):
        Item2Vec.load(tmp_path / "model", colour="red")
    small.syn0_[0] = np.nan
    with pytest.raises(InputError, match="vectors holds a value that is not finite"):
        small.save(tmp_path / "model")
    assert np.isfinite(Item2Vec.load(tmp_path / "model").syn0_).all()


# --------------------------------------------------------------- scikit-learn


def test_parameters_can_be_read_and_changed():
    fitted = Item2Vec(12, epochs=3, similarity="cosine")
    assert repr(fitted) == "Item2Vec(vector_size=12, epochs=3, similarity='cosine')"
    params = fitted.get_params()
    assert params["vector_size"] == 12
    assert Item2Vec(**params).get_params(deep=False) == params
    assert fitted.set_params(epochs=5) is fitted
    assert fitted.epochs == 5
    with pytest.raises(InputError, match="size is no parameter of Item2Vec"):
        fitted.set_params(size=3, epochs=7)
    assert fitted.epochs == 5


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.transform([["a"]]),
        lambda model: model.similar_items("a"),
        lambda model: model.most_similar("a"),
        lambda model: model["a"],
        lambda model: model.recommend(["a"]),
        lambda model: model.score([["a", "b"]]),
    ],
)
def test_a_model_has_to_be_fitted(ask):
    with pytest.raises(InputError, match="this Item2Vec has learned nothing yet; call fit first"):
        ask(Item2Vec())


def test_scikit_learn_can_use_it(model):
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    copy = clone(model)
    assert copy.get_params() == model.get_params()
    check_is_fitted(model)
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)

    y = np.array([CLUSTERS[itemset[0]] % 2 for itemset in ITEMSETS])
    steps = [("emb", clone(model)), ("clf", LogisticRegression(max_iter=1000))]
    pipeline = Pipeline(steps).fit(ITEMSETS[:1000], y[:1000])
    assert pipeline.score(ITEMSETS[1000:], y[1000:]) > 0.9

    search = GridSearchCV(clone(model), {"epochs": [0, 10]}, cv=2)
    search.fit(ITEMSETS[:600])
    assert search.best_params_ == {"epochs": 10}
    assert search.score(ITEMSETS[600:]) == search.best_estimator_.score(ITEMSETS[600:])


def test_packed_itemsets_are_split_as_lists_are():
    from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split

    itemsets = ITEMSETS[:200]
    packed = pack_itemsets(itemsets)
    few = Item2Vec(**{**SETTINGS, "epochs": 2})
    folds = KFold(3, shuffle=True, random_state=1)
    expected = cross_val_score(few, itemsets, cv=folds)
    assert expected.min() > 0
    np.testing.assert_array_equal(cross_val_score(few, packed, cv=folds), expected)
    search = GridSearchCV(few, {"epochs": [0, 2]}, cv=folds).fit(packed)
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(expected.mean())
    train, test = train_test_split(packed, test_size=50, random_state=1)
    assert (train.num_itemset, test.num_itemset) == (150, 50)


def test_scikit_learn_is_not_needed():
    script = "import sys, itembed_gpu.models.item2vec; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# --------------------------------------------------------- vectors of itemsets


def test_itemsets_learn_vectors_of_their_own_beside_items():
    items, offsets, clusters = planted_itemsets(num_itemset=400)
    syn0 = initialize_syn(len(clusters), DIM, seed=1)
    syn1 = initialize_syn(len(clusters), DIM, "zero")
    itemset_syn = initialize_syn(400, DIM, seed=2)
    options = {"num_negative": NUM_NEGATIVE, "seed": 1}
    both = CompoundTask(
        UnsupervisedTask(items, offsets, syn0, syn1, **options),
        itemset_task(items, offsets, itemset_syn, syn1, **options),
    )
    train(both, num_epoch=60, initial_learning_rate=0.1, progress=False)
    neighbours = Embeddings(range(400), itemset_syn).similar(list(range(100)), n=3)
    owner = clusters[items[offsets[:-1]]]
    same = [owner[i] == owner[j] for i, found in enumerate(neighbours) for j, _ in found]
    assert np.mean(same) > 0.9


def test_an_itemset_task_is_a_supervised_task():
    items, offsets, _ = planted_itemsets(num_itemset=10)
    syn1 = initialize_syn(200, DIM, "zero")
    task = itemset_task(
        items, offsets, initialize_syn(10, DIM), syn1, weights=np.ones(50), update_right=False
    )
    assert task.num_pair == 50
    assert task.right_syn is syn1
    np.testing.assert_array_equal(task.left_items, range(10))
    np.testing.assert_array_equal(task.right_weights, np.ones(50))
    assert not task.options.update_right
    with pytest.raises(InputError, match="itemset_syn has 11 rows for 10 itemsets"):
        itemset_task(items, offsets, initialize_syn(11, DIM), syn1)


def test_a_label_whose_itemsets_are_all_too_short_gets_no_row():
    model = Item2Vec(**{**SETTINGS, "min_count": 1}).fit([["a"], ["b", "c"]] * 3)
    assert sorted(model.labels_) == ["b", "c"]
    assert model.dropped_.short_items == 3
    model.partial_fit([["d"], ["b", "e"]] * 3)
    assert sorted(model.labels_) == ["b", "c", "e"]
    assert model.counts_.tolist() == [6, 3, 3]


@pytest.mark.parametrize("name", ["estimator", "params", "seed", "num_fit"])
def test_metadata_has_no_other_value_under_a_name_of_the_model(small, tmp_path, name):
    with pytest.raises(InputError, match=f"metadata holds '{name}', 'mine', under which"):
        small.save(tmp_path / "model", metadata={name: "mine"})
    assert not (tmp_path / "model").exists()


def test_metadata_is_kept_beside_the_model(small, tmp_path):
    small.save(tmp_path, metadata={"seed": SETTINGS["seed"], "source": "mine"})
    kept = Embeddings.load(tmp_path).metadata
    assert (kept["source"], kept["seed"], kept["estimator"]) == ("mine", 3, "Item2Vec")
    # What a folder holds can be passed on, as nothing of it changes.
    Item2Vec.load(tmp_path).save(tmp_path, metadata=kept)
    assert Embeddings.load(tmp_path).metadata == kept
    assert Item2Vec.load(tmp_path).get_params()["alpha"] == SETTINGS["alpha"]


def test_what_json_cannot_hold_is_refused_by_its_name(small, tmp_path):
    with pytest.raises(InputError, match=r"metadata: \[1\] is not a dict"):
        small.save(tmp_path, metadata=[1])
    with pytest.raises(InputError, match="metadata: Object of type set"):
        small.save(tmp_path, metadata={"mine": {1}})
    small.set_params(alpha=np.zeros(2))
    with pytest.raises(InputError, match="parameters of the model: Object of type ndarray"):
        small.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_callbacks_that_can_be_read_once_are_refused(small):
    once = (callback for callback in [print])
    small.set_params(callbacks=once)
    before = small.syn0_.copy()
    for learn in (small.fit, small.partial_fit):
        with pytest.raises(InputError, match="callbacks is a generator, which can be read once"):
            learn([["a", "b"]])
    # Neither used up nor changed, and what was learned is there.
    assert small.get_params()["callbacks"] is once
    assert next(once) is print
    np.testing.assert_array_equal(small.syn0_, before)
    # Vectors are trained without callbacks.
    assert small.transform([["a"]], fold_in=1).shape == (1, DIM)


def test_callbacks_are_called_in_every_training_also_of_a_clone():
    from sklearn.base import clone

    epochs = []
    callbacks = [lambda state: epochs.append(state.record.epoch)]
    fitted = Item2Vec(**{**SETTINGS, "epochs": 2}, callbacks=callbacks)
    assert fitted.get_params()["callbacks"] is callbacks
    for each in (fitted, fitted, clone(fitted)):
        each.fit([["a", "b"]])
    fitted.partial_fit([["a", "b"]])
    assert epochs == [0, 1] * 4


def test_labels_that_cannot_be_saved_are_told_before_the_first_epoch(tmp_path):
    itemsets = [[frozenset("ab"), frozenset("c")]] * 3
    model = Item2Vec(vector_size=4, epochs=1, min_count=1, seed=1)
    with pytest.warns(UserWarning, match=r"will not be one to save: .* of type frozenset, which"):
        model.fit(itemsets)
    assert len(model.labels_) == 2
    began = []
    model.set_params(callbacks=[began.append])
    with pytest.raises(InputError, match="of type frozenset, which cannot be saved"):
        model.fit(itemsets, checkpoint=tmp_path / "night")
    assert began == []
    assert not (tmp_path / "night").exists()


@pytest.mark.parametrize("loss", ["softmax", "negative-sampling"])
def test_a_fit_goes_on_from_its_checkpoint_as_if_it_had_never_stopped(tmp_path, loss):
    generator = np.random.default_rng(0)
    itemsets = [generator.choice(20, 4, replace=False).tolist() for _ in range(200)]
    settings = {**SETTINGS, "loss": loss, "epochs": 4}

    def stop(state):
        if state.record.epoch == 1:
            raise EOFError

    whole = Item2Vec(**settings).fit(itemsets)
    with pytest.raises(EOFError):
        Item2Vec(**settings, callbacks=[stop]).fit(itemsets, checkpoint=tmp_path / "night")
    epochs = []
    resumed = Item2Vec(**settings, callbacks=[lambda state: epochs.append(state.record.epoch)])
    resumed.fit(itemsets, checkpoint=tmp_path / "night", resume=True)
    assert epochs == [1, 2, 3]  # what is kept is kept after the callbacks
    np.testing.assert_array_equal(resumed.syn0_, whole.syn0_)
    np.testing.assert_array_equal(resumed.syn1_, whole.syn1_)


@pytest.mark.parametrize(
    "labels",
    [
        [(1, "a"), (2, ("b", 0.5))],
        [b"a", True],
        [Decimal("1.5"), timedelta(1)],
        [datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")), time(9)],
    ],
    ids=str,
)
def test_models_of_labels_of_many_types_are_saved(tmp_path, labels):
    model = Item2Vec(vector_size=4, epochs=1, min_count=1, seed=1).fit([labels] * 3)
    model.save(tmp_path)
    loaded = Item2Vec.load(tmp_path)
    assert list(map(repr, loaded.labels_)) == list(map(repr, model.labels_))
    assert loaded.similar_items(labels[0], 1)[0].tolist() == [labels[1]]

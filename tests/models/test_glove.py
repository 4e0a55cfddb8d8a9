"""`GloVe`: from itemsets or counts to neighbours, folders and pipelines."""

import itertools

import numpy as np
import pytest
from glove_formula import count_pairs
from interpreted import interpret
from samples import planted_itemsets
from scipy import sparse

from itembed_gpu import (
    CoOccurrences,
    DataError,
    Embeddings,
    GloVe,
    GloveTask,
    InputError,
    Item2Vec,
    co_occurrences,
    pack_itemsets,
    train,
)

BASKETS = [["tea", "cup", "pot"], ["tea", "cup"], ["saw", "nail"], ["nail", "saw", "tea"]] * 5


@pytest.fixture
def interpreted(monkeypatch):
    interpret(monkeypatch)


def make_model(**params):
    return GloVe(**{"vector_size": 8, "epochs": 3, "seed": 1, "device": "cpu", **params})


def test_it_is_the_task_with_the_counts_of_itemsets(interpreted):
    model = make_model(x_max=5, exponent=0.5, window=1, workers=1).fit(BASKETS)
    packed = pack_itemsets(BASKETS, min_length=2)
    assert model.labels_ == list(packed.labels)
    cells = co_occurrences(packed.indices, packed.offsets, packed.num_label, window=1)
    other = make_model(x_max=5, exponent=0.5, workers=1).fit(cells, labels=packed.labels)
    for one in (model, other):
        assert one.num_cell_ == len(cells.counts) == one.history_.num_pair / 3
        np.testing.assert_array_equal(one.embeddings_.vectors, one.syn0_ + one.syn1_)
        np.testing.assert_array_equal(one.syn0_, model.syn0_)
    # Rates stay as they are.
    assert model.chosen_ == {"min_alpha": 0.05}
    assert [record.learning_rate for record in model.history_.epochs] == [0.05] * 3
    assert model.embeddings_.counts.tolist() == packed.counts.tolist()
    assert other.embeddings_.counts is other.dropped_ is None


def test_weightings_are_those_of_the_counts(interpreted):
    for weighting in ("pairs", "itemsets", "distance"):
        model = make_model(weighting=weighting)
        labels, _, _, cells = model._count(BASKETS, None)
        rows = [labels.index(item) for basket in BASKETS for item in basket]
        offsets = np.cumsum([0, *map(len, BASKETS)])
        expected = count_pairs(rows, offsets, len(labels), weighting, None, True)
        np.testing.assert_allclose(cells.matrix().toarray(), expected, rtol=1e-6)


@pytest.mark.compiled_in
def test_neighbours_are_those_of_the_planted_clusters():
    items, offsets, clusters = planted_itemsets(60, 6, 600)
    itemsets = [items[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    model = GloVe(vector_size=12, epochs=30, x_max=10, seed=1, device="cpu").fit(itemsets)
    labels, _ = model.similar_items(list(range(60)), n=5)
    # What never occurs together is no cell, and only the biases tell of it.
    found = clusters[labels.astype(int)] == clusters[:, None]
    assert found.mean() > 0.5
    assert model.most_similar(3, n=1)[0][0] == labels[3][0]


def test_it_is_a_dictionary_and_a_transformer(interpreted):
    model = make_model().fit(BASKETS)
    assert len(model) == 5
    assert "tea" in model
    assert "x" not in model
    vectors = model.transform([["tea", "pot", "x"], ["x"]])
    np.testing.assert_allclose(vectors[0], (model["tea"] + model["pot"]) / 2, rtol=1e-5)
    assert not vectors[1].any()
    assert model.unknown_.items == 2
    again = make_model(workers=1).fit_transform(BASKETS)
    np.testing.assert_allclose(again, model.transform(BASKETS), rtol=1e-4)
    frame = model.set_output(transform="pandas").fit_transform(BASKETS)
    assert next(iter(frame)) == "glove0"


def test_a_folder_keeps_it(interpreted, tmp_path):
    model = make_model(window=2).fit(BASKETS)
    model.save(tmp_path / "m", metadata={"mine": 1})
    loaded = GloVe.load(tmp_path / "m", device="cpu")
    assert loaded.get_params() == model.get_params()
    for name in ("syn0_", "syn1_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
    for side in range(2):
        np.testing.assert_array_equal(loaded.biases_[side], model.biases_[side])
    assert (loaded.seed_, loaded.num_cell_) == (1, model.num_cell_)
    plain = Embeddings.load(tmp_path / "m")
    np.testing.assert_array_equal(plain.vectors, model.embeddings_.vectors)
    with pytest.raises(DataError, match="holds a 'GloVe', not a Item2Vec"):
        Item2Vec.load(tmp_path / "m")


def test_fit_goes_on_from_a_checkpoint(interpreted, tmp_path):
    whole = make_model(seed=None, workers=1)

    def stop(state):
        if len(state.history.epochs) == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        whole.set_params(callbacks=[stop]).fit(BASKETS, checkpoint=tmp_path / "c")
    assert not hasattr(whole, "embeddings_")
    whole.set_params(callbacks=()).fit(BASKETS, checkpoint=tmp_path / "c", resume=True)
    other = make_model(seed=whole.seed_, workers=1).fit(BASKETS)
    np.testing.assert_array_equal(whole.syn0_, other.syn0_)


def test_a_matrix_is_given_as_counts(interpreted):
    matrix = sparse.csr_array(np.array([[0, 3.0], [3.0, 0]]))
    model = make_model().fit(CoOccurrences.of(matrix))
    assert model.labels_ == [0, 1]
    tables = model.syn0_.copy(), model.syn1_.copy()
    again = make_model(epochs=0).fit(CoOccurrences.of(matrix))
    task = GloveTask([0, 1], [1, 0], [3, 3], again.syn0_, again.syn1_, seed=1, num_threads=1)
    train(task, num_epoch=3, initial_learning_rate=0.05, final_learning_rate=0.05, progress=False)
    np.testing.assert_allclose(task.syn0, tables[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "itemsets", "options", "words"),
    [
        ({"x_max": 0}, BASKETS, {}, "x_max is 0"),
        ({"window": 2, "weighting": "itemsets"}, BASKETS, {}, "window is 2; leave one of them out"),
        ({"weighting": "all"}, BASKETS, {}, "weighting is 'all'; pass one of 'pairs'"),
        ({}, BASKETS, {"labels": ["a"]}, "labels are given beside itemsets"),
        ({"min_count": 99}, BASKETS, {}, "itemsets: none has two items to learn from"),
        ({}, [["a", "a"]], {}, "no two different items occur together"),
        ({}, CoOccurrences([0], [1], [1], 2), {"labels": "a"}, "labels has 1 entries for 2 rows"),
        ({}, pack_itemsets([["a", "b"]], weights=[[1, 2]]), {}, "itemsets have weights"),
    ],
)
def test_what_cannot_be_learned_is_refused(params, itemsets, options, words):
    with pytest.raises(InputError, match=words):
        make_model(**params).fit(itemsets, **options)


def test_nothing_is_asked_of_a_model_that_has_learned_nothing():
    for ask in (lambda m: m.similar_items(1), lambda m: m.transform([[1]]), lambda m: m["a"]):
        with pytest.raises(InputError, match="this GloVe has learned nothing yet"):
            ask(make_model())

"""Doc2Vec: vectors of itemsets and items, of unseen itemsets, and a folder to keep them."""

import numpy as np
import pandas
import pytest
from interpreted import interpret
from sklearn.base import clone

from itembed_gpu import Doc2Vec, DocumentTask, Embeddings, pack_itemsets, train
from itembed_gpu.errors import DataError, InputError, UnknownLabelError

SETTINGS = {
    "vector_size": 8, "epochs": 30, "alpha": 0.2, "negative": 3, "seed": 1, "device": "cpu",
    "workers": 1,
}  # fmt: skip
KINDS = [{"dm": 1}, {"dm": 0}, {"dm": 0, "dbow_words": True}]
NAMES = ["memory", "bag", "bag and words"]


def itemsets(num_itemset=24, seed=0):
    """Itemsets of two kinds, which have no item in common; even ones are of the first."""
    generator = np.random.default_rng(seed)
    sides = [[f"{side}{n}" for n in range(6)] for side in "ab"]
    return [generator.choice(sides[n % 2], 4, replace=False).tolist() for n in range(num_itemset)]


def make(**changes):
    return Doc2Vec(**SETTINGS | changes)


@pytest.fixture(scope="module", params=KINDS, ids=NAMES)
def model(request):
    with pytest.MonkeyPatch.context() as patch:
        interpret(patch)
        yield make(**request.param).fit(itemsets())


@pytest.fixture
def quick(monkeypatch):
    interpret(monkeypatch)


def kinds_of(found):
    return [key % 2 for key, _ in found]


def test_itemsets_of_one_kind_are_alike(model, quick):
    assert kinds_of(model.similar_itemsets(2, n=8)) == [0] * 8
    assert kinds_of(model.similar_itemsets(7, n=8)) == [1] * 8
    assert model.itemset_embeddings_.labels == list(range(24))
    labels, _ = model.similar_items("a3", n=5)
    assert {label[0] for label in labels} == {"a"}


def test_an_unseen_itemset_is_found_among_those_it_is_like(model, quick):
    before = model.embeddings_.vectors.copy(), model.embeddings_.context.copy()
    vectors = model.transform([["a0", "a1", "new"], ["b3"], ["new"], []])
    assert vectors.shape == (4, 8)
    assert model.unknown_[:3] == (2, 5, 2)
    assert not vectors[2:].any()
    assert kinds_of(model.similar_itemsets(vectors[0], n=4)) == [0] * 4
    assert kinds_of(model.similar_itemsets(vectors[1], n=4)) == [1] * 4
    assert np.array_equal(vectors, model.transform([["a0", "a1", "new"], ["b3"], ["new"], []]))
    assert np.array_equal(model.embeddings_.vectors, before[0])
    assert np.array_equal(model.embeddings_.context, before[1])
    assert model.infer_vector(["b3"]).shape == (8,)
    # It goes its own way with more passes, or with none.
    assert not model.transform([["a0", "a1"]], epochs=0).any()


def test_what_else_is_asked_for_matters_little(model, quick):
    alone = model.transform([["a0", "a1", "a2"]], epochs=60)[0]
    among = model.transform([["b1", "b2"], ["a0", "a1", "a2"], ["a5", "a4"]], epochs=60)[1]
    cosine = alone @ among / np.linalg.norm(alone) / np.linalg.norm(among)
    assert cosine > 0.9


def test_items_that_go_with_a_basket_are_recommended(model, quick):
    labels, scores = model.recommend(["a0", "a1"], n=4)
    assert {label[0] for label in labels} == {"a"}
    assert (np.diff(scores) <= 0).all()
    many, _ = model.recommend([["b0"], ["nothing"], ["a2"]], n=3)
    assert [label[0] for label in many[0]] == ["b"] * 3
    # Of nothing, the most frequent ones.
    assert many[1].tolist() == model.labels_[:3]
    assert model.recommend(["a0"], n=20, filter_already_liked_items=False)[0].size == 12
    assert model.recommend(["a0"], items=["b1", "a3"], filter_items="a3")[0].tolist() == ["b1"]


def test_scores_are_those_of_what_was_trained(quick):
    model = make(epochs=3).fit(itemsets())
    basket = ["a0", "b1", "b1"]
    rows = model.embeddings_[basket]
    u = (model.infer_vector(basket) + rows.sum(0)) / 4
    labels, scores = model.recommend(basket, n=12, filter_already_liked_items=False)
    expected = model.embeddings_.context @ u
    np.testing.assert_allclose(
        scores, expected[[model.embeddings_.index(x) for x in labels]], rtol=1e-5, atol=1e-6
    )


def test_fitting_is_training_the_task(quick):
    model = make(ns_exponent=0.0, epochs=2).fit(itemsets())
    packed = pack_itemsets(itemsets(), min_length=1)
    tables = [
        model._new_rows(n, 8, seed, side)
        for n, seed, side in ((12, 1, 0), (24, 1 + (1 << 32), 0), (12, 1, 1))
    ]
    task = DocumentTask(packed.indices, packed.offsets, *tables, num_negative=3, seed=1,
                        num_threads=1)  # fmt: skip
    train(task, num_epoch=2, initial_learning_rate=0.2, final_learning_rate=0.0, progress=False)
    assert np.array_equal(model.embeddings_.vectors, tables[0])
    assert np.array_equal(model.itemset_embeddings_.vectors, tables[1])
    assert np.array_equal(model.embeddings_.context, tables[2])


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_each_itemset_has_its_row_and_its_key(quick, kind):
    given = [["a", "b", "c"], ["rare"], ["a"], [], ["b", "c"]]
    keys = ["one", "two", 3, (4, 4), "five"]
    model = make(epochs=1, min_count=2, **kind).fit(given, keys=keys)
    assert model.itemset_embeddings_.labels == keys
    used = model.itemset_embeddings_.vectors.any(1)
    assert used.tolist() == [True, False, True, False, True]
    assert model.dropped_.rare_items == 1
    assert model.embeddings_.counts.tolist() == [2, 2, 2]
    assert (model.embeddings_.vectors is model.embeddings_.context) == (kind == {"dm": 0})


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_model_is_kept_in_a_folder(quick, tmp_path, kind):
    keys = [("user", n) for n in range(24)]
    model = make(epochs=2, **kind).fit(itemsets(), keys=keys)
    model.save(tmp_path / "model")
    loaded = Doc2Vec.load(tmp_path / "model", device="cpu", workers=1)
    assert loaded.itemset_embeddings_.labels == keys
    assert loaded.get_params()["dm"] == kind["dm"]
    for side in ("embeddings_", "itemset_embeddings_"):
        assert np.array_equal(getattr(loaded, side).vectors, getattr(model, side).vectors)
    query = [["a0", "a1"]]
    assert np.array_equal(loaded.transform(query), model.transform(query))
    assert Embeddings.load(tmp_path / "model").labels == model.labels_
    with pytest.raises(InputError, match="learned nothing"):
        make().save(tmp_path / "other")


def test_a_training_is_gone_on_from_a_checkpoint(quick, tmp_path):
    class Stop(Exception):
        pass

    def stop(state):
        if state.record.epoch == 1:
            raise Stop

    whole = make(epochs=4, seed=None)
    with pytest.raises(Stop):
        clone(whole).set_params(callbacks=[stop]).fit(itemsets(), checkpoint=tmp_path / "c")
    resumed = clone(whole).fit(itemsets(), checkpoint=tmp_path / "c", resume=True)
    expected = clone(whole).set_params(seed=resumed.seed_).fit(itemsets())
    for side in ("embeddings_", "itemset_embeddings_"):
        assert np.array_equal(getattr(resumed, side).vectors, getattr(expected, side).vectors)


def test_it_fits_into_scikit_learn(quick):
    model = make(epochs=1).set_output(transform="pandas")
    frame = model.fit_transform(itemsets())
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [f"doc2vec{n}" for n in range(8)]
    np.testing.assert_array_equal(frame.to_numpy(), model.transform(itemsets()).to_numpy())


def test_weights_reach_the_task(quick):
    weights = [[1.0, 0.0, 0.0, 0.0]] * 24
    models = [make(epochs=2).fit(itemsets(), weights=w) for w in (None, weights)]
    first, second = (model.itemset_embeddings_.vectors for model in models)
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("change", "fit", "message"),
    [
        ({"dm": 2}, {}, "dm is 2; pass 1 or 0"),
        ({"loss": "softmax"}, {}, "loss is 'softmax'; pass one of 'negative-sampling'"),
        ({"optimizer": "adam"}, {}, "optimizer is 'adam'"),
        ({"min_count": 99}, {}, "no item to learn from"),
        ({}, {"keys": ["one"]}, "keys has 1 entries for 24 itemsets"),
        ({}, {"keys": "one"}, "keys is 'one'; pass a list"),
        ({}, {"keys": [1] * 24}, "labels"),
    ],
)
def test_what_makes_no_sense_is_refused(quick, change, fit, message):
    with pytest.raises(InputError, match=message):
        make(**change).fit(itemsets(), **fit)


def test_answers_of_nothing_are_refused(model):
    with pytest.raises(InputError, match="learned nothing"):
        make().transform([["a"]])
    with pytest.raises(UnknownLabelError):
        model.similar_itemsets("nobody")
    with pytest.raises(InputError, match="pass a list of labels"):
        model.infer_vector("a0")


def test_a_folder_of_another_model_is_refused(model, tmp_path):
    model.save(tmp_path / "model")
    from itembed_gpu import Item2Vec

    with pytest.raises(DataError, match="holds a 'Doc2Vec'"):
        Item2Vec.load(tmp_path / "model")


def test_a_window_is_handed_on(quick):
    whole, near = (make(epochs=2, window=window).fit(itemsets()) for window in (None, 1))
    assert not np.array_equal(whole.itemset_embeddings_.vectors, near.itemset_embeddings_.vectors)
    # Of itemsets alone, there is none; of items beside them, there is.
    kind = {"dm": 0, "epochs": 2}
    whole, near = (make(**kind, window=window).fit(itemsets()) for window in (None, 1))
    assert np.array_equal(whole.itemset_embeddings_.vectors, near.itemset_embeddings_.vectors)
    kind["dbow_words"] = True
    whole, near = (make(**kind, window=window).fit(itemsets()) for window in (None, 1))
    assert not np.array_equal(whole.embeddings_.vectors, near.embeddings_.vectors)


def test_it_is_a_model_of_the_command_line(quick, tmp_path):
    testing = pytest.importorskip("click.testing")
    main = pytest.importorskip("itembed_gpu.cli.main")
    (tmp_path / "baskets.txt").write_text("\n".join(map(" ".join, itemsets())))
    flags = {"model": "doc2vec", "dm": 0, "dim": 8, "epochs": 2, "seed": 3, "threads": 1}
    given = [f"--{name}={value}" for name, value in flags.items()]
    where = [str(tmp_path / "baskets.txt"), "-o", str(tmp_path / "model")]
    result = testing.CliRunner().invoke(
        main.main, ["train", *where, *given, "--device=cpu", "--quiet"]
    )
    assert result.exit_code == 0, result.output
    model = Doc2Vec.load(tmp_path / "model", device="cpu", workers=1)
    assert model.dm == 0
    expected = Doc2Vec(dm=0, vector_size=8, epochs=2, seed=3, workers=1, device="cpu")
    expected.fit(itemsets())
    np.testing.assert_array_equal(
        model.itemset_embeddings_.vectors, expected.itemset_embeddings_.vectors
    )

"""What estimators choose where a parameter is None, and the search for something better."""

import logging

import numpy as np
import pytest
from sklearn.base import clone

from itembed_gpu import Item2Vec, SupervisedClassifier
from itembed_gpu.errors import InputError
from itembed_gpu.models import tuning
from itembed_gpu.models.defaults import (
    CHOSEN_OF_CLASSIFIER,
    CHOSEN_OF_ITEM2VEC,
    PRESETS,
    Shape,
    choose_for_classifier,
    choose_for_item2vec,
)
from itembed_gpu.ranking.vectors import unit_rows
from itembed_gpu.training.loop import History

QUICK = {"seed": 1, "device": "cpu", "workers": 1}
SMALL, MIDDLE, LARGE = Shape(300, 2_000, 5), Shape(4_000, 20_000, 25), Shape(10**6, 10**6, 10)


def groups(num_itemset=600, num_group=12, size=8, seed=0):
    """Itemsets of items of a group each."""
    draw = np.random.default_rng(seed)
    chosen = draw.integers(num_group, size=num_itemset)
    return [[f"g{g}m{m}" for m in draw.choice(size, 4, replace=False)] for g in chosen]


ITEMSETS = groups()


@pytest.fixture(scope="module")
def model():
    return Item2Vec(**QUICK).fit(ITEMSETS)


# ---------------------------------------------------------------------- choices


@pytest.mark.parametrize("shape", [SMALL, MIDDLE, LARGE])
def test_a_try_without_arguments_ends_in_time(shape):
    for chosen in (choose_for_item2vec({}, shape), choose_for_classifier({}, shape)):
        assert (chosen["loss"], chosen["similarity"], chosen["pooling"]) == (
            "softmax", "cosine", "mean",
        )  # fmt: skip
        steps = chosen["epochs"] * shape.num_itemset / chosen["batch_size"]
        assert steps > 100
        assert chosen["epochs"] <= 50
        logits = chosen["epochs"] * shape.num_itemset * chosen.get("negative", shape.num_row)
        assert logits < 1e11


def test_small_data_are_seen_more_often_in_smaller_batches():
    few, many = (choose_for_item2vec({}, shape) for shape in (SMALL, MIDDLE))
    assert few["epochs"] > many["epochs"]
    assert few["batch_size"] < many["batch_size"]
    assert "negative" not in many
    assert choose_for_item2vec({}, LARGE)["negative"] >= 1000


@pytest.mark.parametrize(
    "given",
    [
        {"negative": 5},
        {"pooling": "pairs"},
        {"negative_sharing": 8},
        {"positive_weight": 0.5},
        {"max_step": 4.0},
        {"reject_positive": True},
        {"ns_exponent": 0.75},
        {"partitions": 4},
        {"partitions": "auto"},
        {"optimizer": "sgd"},
    ],
)
def test_what_sampled_losses_alone_have_asks_for_one(given, trained):
    Item2Vec(**QUICK, **given).fit(ITEMSETS)
    assert trained[0][0].options.loss == "negative-sampling"
    # Beside what a softmax alone has, it is one, and what it cannot use is refused.
    if "negative" in given:
        Item2Vec(**QUICK, **given, dropout=0.5).fit(ITEMSETS)
        assert trained[1][0].options.loss == "softmax"


@pytest.mark.parametrize("given", [{}, {"preset": "neighbours"}, {"window": 2}, {"loss": "nce"}])
def test_what_is_trained_in_parts_is_something_that_can_be(given, trained):
    chosen = Item2Vec(**QUICK, partitions=4, **given).fit(ITEMSETS).chosen_
    assert chosen["pooling"] == "pairs"
    if not {"preset", "window"} & given.keys():  # which labels have none of
        labels = [itemset[:1] for itemset in ITEMSETS]
        SupervisedClassifier(**QUICK, partitions=4, **given).fit(ITEMSETS, labels)
    assert {task.partitions for task, _ in trained} == {4}
    with pytest.raises(InputError, match=r"partitions is 4 and loss is 'softmax': .*another loss"):
        Item2Vec(**QUICK, partitions=4, dropout=0.5).fit(ITEMSETS)


def test_vectors_of_itemsets_are_found_without_parts():
    model = Item2Vec(**QUICK, partitions=4).fit(ITEMSETS)
    assert model.transform(ITEMSETS[:3], fold_in=2).shape == (3, 100)


@pytest.mark.parametrize("loss", ["negative-sampling", "nce", "hinge"])
def test_sampled_losses_get_what_suits_them(loss, trained):
    chosen = Item2Vec(**QUICK, loss=loss).fit(ITEMSETS).chosen_
    expected = {"pooling": "mean", "optimizer": "adagrad", "alpha": 0.4, "negative": 20}
    assert {name: chosen[name] for name in expected} == expected
    assert trained[0][1]["initial_learning_rate"] == 0.4
    labels = [itemset[:1] for itemset in ITEMSETS]
    SupervisedClassifier(**QUICK, loss=loss).fit(ITEMSETS, labels)
    assert trained[1][0].options.max_step == 4


EXPLICIT = {
    "loss": "softmax",
    "vector_size": 7,
    "epochs": 3,
    "alpha": 0.02,
    "schedule": "linear",
    "optimizer": "adagrad",
    "pooling": "mean",
    "negative": 50,
    "batch_size": 99,
    "similarity": "dot",
    "temperature": 0.5,
    "sum_scale": 1.2,
    "dropout": 0.1,
    "reject_itemset": True,
    "targets": "others",
    "sharpness": 2.0,
}
OF_TRAIN = {"epochs": "num_epoch", "alpha": "initial_learning_rate", "schedule": "schedule"}


@pytest.mark.parametrize("name", EXPLICIT)
def test_what_is_given_stays(name, trained):
    value = EXPLICIT[name]
    others = {"loss": "softmax"} if name == "negative" else {}
    fitted = Item2Vec(**QUICK, **{**others, name: value}).fit(ITEMSETS)
    assert getattr(fitted, name) == value
    assert name not in fitted.chosen_
    task, settings = trained[0]
    known = Item2Vec._schema[name]
    if name in OF_TRAIN:
        assert settings[OF_TRAIN[name]] == value
    elif name == "vector_size":
        assert task.syn0.shape[1] == value
    elif name == "sharpness":
        assert known.name not in task.options.__dict__
    else:
        assert getattr(task.options, known.name) == value


def test_all_that_is_to_be_chosen_is_named():
    assert set(CHOSEN_OF_ITEM2VEC) <= set(EXPLICIT)
    assert set(EXPLICIT) - set(CHOSEN_OF_CLASSIFIER) == {"targets", "sharpness"}
    for cls, names in (
        (Item2Vec, CHOSEN_OF_ITEM2VEC),
        (SupervisedClassifier, CHOSEN_OF_CLASSIFIER),
    ):
        model = cls()
        assert all(getattr(model, name) is None for name in names)
        assert repr(model) == f"{cls.__name__}()"
        assert model.get_params() == clone(model).get_params()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": "nce", "temperature": 0.1}, "temperature is 0.1 and loss is 'nce'"),
        ({"loss": "softmax", "negative_sharing": 8}, "negative_sharing is 8 and loss is 'softmax'"),
        ({"loss": "hinge", "optimizer": "adam"}, "optimizer is 'adam' and loss is 'hinge'"),
        ({"loss": "softmax", "pooling": "pairs", "dropout": 0.5}, "dropout is 0.5 and pooling"),
        ({"targets": "dropped", "dropout": 0.0}, "targets is 'dropped' and dropout is 0"),
        ({"vector_size": 0}, "vector_size is 0"),
    ],
)
def test_what_makes_no_sense_is_told_before_the_data_are_read(given, words):
    def unread():
        pytest.fail("read")
        yield

    with pytest.raises(InputError, match=words):
        Item2Vec(**QUICK, **given).fit(unread())


def test_the_choice_is_told(caplog, trained):
    with caplog.at_level(logging.INFO, "itembed_gpu"):
        Item2Vec(**QUICK).fit(ITEMSETS)
    assert "Item2Vec chose" in caplog.text
    assert "loss softmax" in caplog.text


def test_a_preset_says_what_embeddings_are_for(trained):
    ranking, neighbours = (
        Item2Vec(**QUICK, preset=preset).fit(ITEMSETS).chosen_ for preset in PRESETS
    )
    assert ranking == Item2Vec(**QUICK).fit(ITEMSETS).chosen_
    assert ranking["reject_itemset"]
    assert {n for n in ranking if neighbours[n] != ranking[n]} == {"reject_itemset"}
    given = Item2Vec(**QUICK, preset="neighbours", reject_itemset=True).fit(ITEMSETS)
    assert trained[-1][0].options.reject_itemset
    assert "reject_itemset" not in given.chosen_
    with pytest.raises(InputError, match="preset is 'best'; pass one of 'ranking', 'neighbours'"):
        Item2Vec(**QUICK, preset="best").fit(ITEMSETS)


# ---------------------------------------------------------------- trained and kept


def test_it_learns_with_no_argument(model):
    labels, scores = model.recommend([["g3m1", "g3m2"], ["g5m0"]], n=5)
    assert all(label.startswith("g3") for label in labels[0])
    assert all(label.startswith("g5") for label in labels[1])
    assert np.abs(scores).max() <= 1 + 1e-6
    neighbours, _ = model.similar_items("g7m1", n=5)
    assert all(label.startswith("g7") for label in neighbours)
    near = model.neighbour_embeddings_
    assert [label for label, _ in near.similar("g7m1", 5)] == neighbours.tolist()
    assert [label for label, _ in model.most_similar("g7m1", n=5)] == neighbours.tolist()
    assert near.vectors is model.syn1_
    assert model.history_exponent_ == 0


def test_rows_that_are_compared_by_cosine_begin_with_one_length():
    untrained = Item2Vec(**QUICK, epochs=0).fit(ITEMSETS)
    for rows in (untrained.syn0_, untrained.syn1_):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 0.3, rtol=1e-5)
    assert not np.allclose(untrained.syn0_, untrained.syn1_)
    assert not Item2Vec(**QUICK, epochs=0, similarity="dot").fit(ITEMSETS).syn1_.any()


def test_scores_are_cosines_as_trained(model):
    labels, scores = model.recommend(["g3m1", "g3m2"], n=3, sharpness=0)
    vector = model.transform([["g3m1", "g3m2"]])[0]
    for label, score in zip(labels, scores, strict=True):
        row = model.syn1_[model.embeddings_.index(label)]
        cosine = vector @ row / np.linalg.norm(vector) / np.linalg.norm(row)
        assert score == pytest.approx(cosine, abs=1e-5)
    # By default, the nearer of the two says more.
    labels, near = model.recommend(["g3m1", "g3m2"], n=3)
    left, right = unit_rows(model.syn0_), unit_rows(model.syn1_)
    for label, score in zip(labels, near, strict=True):
        row = right[model.embeddings_.index(label)]
        each = [left[model.embeddings_.index(item)] @ row for item in ("g3m1", "g3m2")]
        assert score == pytest.approx(np.log(np.exp(4 * np.array(each)).mean()) / 4, abs=1e-5)
    with pytest.raises(InputError, match="sharpness is 2"):
        model.recommend(["g3m1"], similarity="dot", sharpness=2)
    _, dots = model.recommend(["g3m1", "g3m2"], n=3, similarity="dot")
    assert not np.allclose(dots, scores)
    _, popular = model.recommend(["g3m1"], n=1, items=["g3m2"], popularity=2.0)
    _, plain = model.recommend(["g3m1"], n=1, items=["g3m2"])
    count = model.counts_[model.embeddings_.index("g3m2")]
    assert popular - plain == pytest.approx(0.1 * 2 * np.log(count), rel=1e-3)


def test_a_saved_model_keeps_what_was_chosen(model, tmp_path):
    model.save(tmp_path)
    again = Item2Vec.load(tmp_path, device="cpu", workers=1)
    assert again.get_params() == model.get_params()
    assert again.chosen_ == model.chosen_
    np.testing.assert_array_equal(again.recommend(["g3m1"])[1], model.recommend(["g3m1"])[1])
    # It goes on as it was, also on other data.
    again.partial_fit([["new", "g3m1"]] * 20, epochs=1)
    assert again.chosen_ == model.chosen_
    assert "new" in again


def test_another_loss_is_trained_on_with_what_suits_it(model, tmp_path, trained):
    model.save(tmp_path)
    again = Item2Vec.load(tmp_path, device="cpu").set_params(loss="hinge")
    again.partial_fit(ITEMSETS[:50])
    assert again.chosen_["optimizer"] == "adagrad"
    assert again.syn0_.shape[1] == model.syn0_.shape[1]


def test_vectors_are_trained_on_by_a_softmax(model):
    itemsets = ITEMSETS[:20]
    before, after = model.transform(itemsets), model.transform(itemsets, fold_in=5)
    target = model.syn1_ / np.linalg.norm(model.syn1_, axis=1, keepdims=True)

    def fit_of(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        logits = 10 * unit @ target.T
        sums = np.log(np.exp(logits).sum(axis=1))
        rows = [[model.embeddings_.index(x) for x in itemset] for itemset in itemsets]
        return np.mean([logits[i][own].mean() - sums[i] for i, own in enumerate(rows)])

    assert fit_of(after) > fit_of(before) + 0.01
    np.testing.assert_array_equal(model.transform(itemsets), before)


@pytest.mark.parametrize("options", [{"chunk_size": 400}, {"loss": "softmax", "negative": 40}])
def test_chunks_and_samples_learn_as_well(options):
    fitted = Item2Vec(**QUICK, **options).fit(ITEMSETS)
    assert fitted.score(ITEMSETS[:100]) > 0.4


def test_as_many_negatives_as_items_are_all_of_them(trained):
    Item2Vec(**QUICK, loss="softmax", negative=95).fit(ITEMSETS)
    assert trained[0][0].options.num_negative == 95
    Item2Vec(**QUICK, loss="softmax", negative=96).fit(ITEMSETS)
    assert trained[1][0].options.num_negative is None


def test_a_classifier_is_scored_as_it_was_trained():
    features, labels = [["x", "y"], ["x"], ["z"], ["z", "w"]] * 30, ["a", "a", "b", "c"] * 30
    fitted = SupervisedClassifier(**QUICK, temperature=0.25, ns_exponent=0.0).fit(features, labels)
    found, shares = fitted.predict_scores([["x"], ["z"]], n=3, probabilities=True)
    assert found[0][0] == "a"
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    row = (
        fitted.feature_embeddings_["z"]
        * fitted.feature_weights_[fitted.feature_embeddings_.index("z")]
    )
    table = fitted.label_embeddings_.vectors
    cosines = table @ row / np.linalg.norm(table, axis=1) / np.linalg.norm(row)
    expected = np.exp(cosines / 0.25) / np.exp(cosines / 0.25).sum()
    order = [fitted.labels_.index(label) for label in found[1]]
    np.testing.assert_allclose(shares[1], expected[order], rtol=1e-4)


def test_a_folder_of_before_is_as_it_was(model, tmp_path):
    """Folders saved when nothing was chosen have no word of it, and not all parameters."""
    from itembed_gpu.disk.embeddings import read_folder, write_folder

    model.save(tmp_path / "new")
    labels, tensors, metadata = read_folder(tmp_path / "new")
    metadata["params"] = {"vector_size": 128, "epochs": 7, "pooling": "pairs"}
    del metadata["chosen"]
    write_folder(tmp_path / "old", labels, tensors, metadata)
    old = Item2Vec.load(tmp_path / "old")
    assert (old.loss, old.optimizer, old.alpha) == ("negative-sampling", "sgd", 0.025)
    assert (old.similarity, old.history_exponent_, old.epochs) == ("dot", 0.5, 7)
    np.testing.assert_allclose(
        old.recommend(["g3m1"], n=1)[1], np.max(model.syn1_ @ model["g3m1"]), rtol=1
    )


# ---------------------------------------------------------------------- searches


def planted_temperature(monkeypatch, best):
    """Have trials train nothing, and measure how near the temperature is to the best one."""

    def measure(self, model):
        return 1 / (1 + abs(np.log(model._value("temperature") / best)))

    monkeypatch.setattr(tuning.Search, "_measure", measure)
    monkeypatch.setattr(Item2Vec, "fit", _pretend_to_fit)


def _pretend_to_fit(self, itemsets, **options):
    chosen = self._choose(Shape(96, 600, 4))
    self.chosen_, self.history_ = chosen.chosen_, History([None] * chosen._value("epochs"))
    return self


@pytest.mark.parametrize("best", [0.04, 0.3])
def test_a_better_temperature_is_found(monkeypatch, best):
    planted_temperature(monkeypatch, best)
    told = []
    tuned = Item2Vec(**QUICK).tune(ITEMSETS, budget=100, report=told.append)
    assert tuned.temperature == pytest.approx(best, rel=0.2)
    assert tuned.sum_scale is None  # nothing was gained by it
    assert len(told) == len(tuned.trials_) > 5
    assert tuned.trials_[0]["params"] == {}
    values = [trial["ndcg@10"] for trial in tuned.trials_]
    assert max(values) == 1 / (1 + abs(np.log(tuned.temperature / best)))
    again = Item2Vec(**QUICK).tune(ITEMSETS, budget=100, report=None)
    assert [trial["params"] for trial in again.trials_] == [t["params"] for t in tuned.trials_]


def test_what_is_given_is_not_moved(monkeypatch):
    planted_temperature(monkeypatch, 0.3)
    tuned = Item2Vec(**QUICK, temperature=0.1).tune(ITEMSETS, budget=100, report=None)
    assert tuned.temperature == 0.1
    assert all("temperature" not in trial["params"] for trial in tuned.trials_)


def test_a_sum_that_is_to_be_1_lacks_no_item(monkeypatch):
    for chosen in (
        choose_for_item2vec({"self_normalization": 0.1}, SMALL),
        choose_for_classifier({"self_normalization": 0.1}, SMALL),
    ):
        assert (chosen["loss"], chosen["reject_itemset"]) == ("softmax", False)
    planted_temperature(monkeypatch, 0.1)
    model = Item2Vec(self_normalization=0.1, **QUICK).tune(ITEMSETS, report=None)
    moved = {name for trial in model.trials_ for name in trial["params"]}
    assert "temperature" in moved
    assert "reject_itemset" not in moved


def test_a_search_measures_what_is_learned(monkeypatch):
    monkeypatch.setitem(tuning.DIALS, True, {"temperature": (lambda value: 0.15,)})
    tuned = Item2Vec(8, **QUICK).tune(ITEMSETS, metric="recall@5", budget=100, report=None)
    assert len(tuned.trials_) == 2
    assert tuned.trials_[0]["recall@5"] > 0.5
    assert not tuned.__sklearn_is_fitted__()
    assert tuned.fit(ITEMSETS).score(ITEMSETS) > 0.4


def test_a_search_begins_nothing_that_would_end_late(monkeypatch):
    planted_temperature(monkeypatch, 1.0)
    clock = [0.0]

    def fit(self, itemsets, **options):
        clock[0] += self._choose(Shape(96, 600, 4))._value("epochs")
        return _pretend_to_fit(self, itemsets)

    monkeypatch.setattr(Item2Vec, "fit", fit)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock[0])
    tuned = Item2Vec(8, 10, **QUICK).tune(ITEMSETS, budget=45, report=None)
    assert [trial["seconds"] for trial in tuned.trials_] == [10] * 4
    assert tuned.temperature > 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metric": "auc@10"}, "metric is 'auc@10'; pass hit_rate"),
        ({"metric": "ndcg"}, "metric is 'ndcg'"),
        ({"budget": 0}, "budget is 0"),
        ({"itemsets": ITEMSETS[:3]}, "there are 3, too few"),
    ],
)
def test_a_search_that_cannot_be_is_refused(arguments, words):
    arguments = {"itemsets": ITEMSETS, "report": None, **arguments}
    with pytest.raises(InputError, match=words):
        Item2Vec(8, **QUICK).tune(**arguments)


def test_windows_are_learned_by_pairs():
    small, large = Shape(2000, 2000, 12.0), Shape(2000, 200_000, 12.0)
    for given, shape, loss, pooling in [
        ({}, small, "softmax", "pairs"),
        ({}, large, "negative-sampling", "pairs"),
        ({"preset": "neighbours"}, small, "negative-sampling", "pairs"),
        ({"temperature": 0.2}, large, "softmax", "pairs"),
        ({"negative": 5}, small, "negative-sampling", "pairs"),
        ({"pooling": "mean"}, small, "negative-sampling", None),  # as given
        ({"loss": "softmax"}, large, None, "pairs"),
    ]:
        chosen = choose_for_item2vec({"window": 3, **given}, shape)
        assert (chosen.get("loss"), chosen.get("pooling")) == (loss, pooling)
        assert chosen["reject_itemset"] is False

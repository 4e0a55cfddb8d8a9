"""`SupervisedClassifier`: what it learns, predicts, keeps and refuses."""

import math
from datetime import datetime

import numpy as np
import pytest
from samples import DIM, NUM_NEGATIVE, planted_itemsets

from itembed_gpu import Cuda, SupervisedTask, initialize_syn, pack_itemsets, train
from itembed_gpu.errors import DataError, DivergenceError, InputError
from itembed_gpu.models import estimator
from itembed_gpu.models.classifier import SupervisedClassifier
from itembed_gpu.models.item2vec import Item2Vec

SAMPLED = {"loss": "negative-sampling", "device": "cpu"}
SETTINGS = {
    "loss": "negative-sampling",
    "vector_size": DIM,
    "negative": NUM_NEGATIVE,
    "epochs": 10,
    "feature_weighting": "none",
    "seed": 3,
    "device": "cpu",
    "workers": 1,
}


def planted(num_itemset):
    """Features, and as labels the cluster that all of them are from, and whether it is even."""
    items, offsets, clusters = planted_itemsets(num_itemset=num_itemset)
    features = [[f"f{item}" for item in part] for part in np.split(items, offsets[1:-1])]
    first = clusters[items[offsets[:-1]]]
    return features, [[f"c{cluster}", "even" if cluster % 2 == 0 else "odd"] for cluster in first]


FEATURES, LABELS = planted(1200)
TRAIN, TEST = slice(0, 1000), slice(1000, None)

# Three labels with other counts, and features with other frequencies.
FEW = [["x", "y"], ["x", "z"], ["x", "y", "y"], ["w"], ["w", "z"], ["x"]]
FEW_LABELS = [["A"], ["A", "B"], ["A"], ["B"], ["C"], ["A"]]


@pytest.fixture(scope="module")
def model():
    return SupervisedClassifier(**SETTINGS).fit(FEATURES[TRAIN], LABELS[TRAIN])


@pytest.fixture
def small():
    return SupervisedClassifier(**SETTINGS).fit(FEW, FEW_LABELS)


# -------------------------------------------------------------------- learning


def test_it_learns_labels(model):
    assert model.score(FEATURES[TEST], LABELS[TEST], k=2) > 0.9
    best = model.predict(FEATURES[TEST], n=2)
    assert best.shape == (200, 2)
    found = [set(row) == set(labels) for row, labels in zip(best, LABELS[TEST], strict=True)]
    assert np.mean(found) > 0.8


def test_attributes_are_those_of_the_training(model):
    assert sorted(model.labels_) == sorted({label for labels in LABELS for label in labels})
    packed = pack_itemsets(LABELS[TRAIN])
    assert model.label_embeddings_.labels == packed.labels == model.labels_
    np.testing.assert_array_equal(model.label_embeddings_.counts, packed.counts)
    assert model.feature_embeddings_.vectors.shape == (200, DIM)
    assert model.feature_embeddings_.context is None
    assert len(model.history_.epochs) == 10
    assert model.seed_ == 3


def test_fit_is_the_training_of_a_task(model):
    features, labels = pack_itemsets(FEATURES[TRAIN]), pack_itemsets(LABELS[TRAIN])
    left = initialize_syn(features.num_label, DIM, seed=3)
    right = np.zeros((labels.num_label, DIM), dtype=np.float32)
    task = SupervisedTask(
        features.indices,
        features.offsets,
        labels.indices,
        labels.offsets,
        left,
        right,
        left_weights=np.ones(features.num_item),
        pooling="mean",
        reject_positive=True,
        max_step=4.0,
        l2=0.03 / (labels.num_label - 1),
        num_negative=3,
        seed=3,
        num_threads=1,
    )
    train(task, num_epoch=10, initial_learning_rate=0.5, progress=False)
    np.testing.assert_array_equal(model.feature_embeddings_.vectors, left)
    np.testing.assert_array_equal(model.label_embeddings_.vectors, right)


@pytest.mark.parametrize("num_label", [2, 4, 200])
def test_few_labels_are_learnt_with_what_suits_them(trained, num_label):
    examples = [[f"x{n}"] for n in range(num_label)]
    SupervisedClassifier(**SAMPLED).fit(examples, examples)
    assert trained[0][0].num_negative == min(10, num_label - 1)
    assert trained[0][0].options.l2 == max(3e-4, 0.03 / (num_label - 1))
    SupervisedClassifier(l2=0.1, negative=2, device="cpu").fit(examples, examples)
    assert trained[1][0].num_negative == min(2, num_label - 1)
    assert trained[1][0].options.l2 == 0.1


def overlapping(num_example, num_label, seed):
    """Examples of labels that no features tell apart for sure, and the best guess of each."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_label, size=num_example)
    # Feature f is of label f % num_label; two of five features are of the example's own label.
    drawn = generator.integers(20 * num_label, size=(num_example, 5))
    own = drawn - drawn % num_label + labels[:, None]
    features = np.where(generator.random(drawn.shape) < 0.4, own, drawn)
    votes = (features[:, :, None] % num_label == np.arange(num_label)).sum(axis=1)
    return features.tolist(), labels[:, None].tolist(), votes.argmax(axis=1)


@pytest.mark.parametrize("num_label", [2, 3, 5])
@pytest.mark.parametrize(
    "options", [{}, {"loss": "negative-sampling"}, {"negative": 20, "alpha": 2.0}]
)
def test_few_labels_that_overlap_are_learnt(num_label, options):
    features, labels, best = overlapping(3000, num_label, seed=num_label)
    fitted = SupervisedClassifier(seed=1, device="cpu", workers=1, **options)
    fitted.fit(features[:2000], labels[:2000])
    truth = np.ravel(labels[2000:])
    found = (fitted.predict(features[2000:]) == truth).mean()
    assert found > (best[2000:] == truth).mean() - 0.03
    at_random = (1 + min(20, num_label - 1)) * math.log(2)
    assert all(record.loss < 2 * at_random for record in fitted.history_.epochs)


def test_labels_can_have_weights_where_they_are_packed(trained):
    labels = pack_itemsets([["A"], ["B"]], weights=[[2.0], [3.0]])
    SupervisedClassifier(device="cpu").fit([["x"], ["y"]], labels)
    assert trained[0][0].right_weights.tolist() == [2, 3]


def test_what_is_left_out_is_counted(trained):
    fitted = SupervisedClassifier(min_count=2, feature_weighting="none", device="cpu")
    fitted.fit([["x", "rare"], ["x"], ["y"], ["x", None], []], [["A"], ["B"], ["A"], [], ["A"]])
    assert fitted.feature_embeddings_.labels == ["x"]
    assert fitted.labels_ == ["A", "B"]  # rare ones too
    assert str(fitted.dropped_features_) == (
        "5 itemsets with 6 items read; dropped 1 None item, 2 rare labels (2 items), "
        "3 masked itemsets (1 item)"
    )
    assert str(fitted.dropped_labels_) == (
        "5 itemsets with 4 items read; dropped 3 masked itemsets (2 items)"
    )
    assert trained[0][0].num_pair == 2


def test_inverse_document_frequencies(trained):
    fitted = SupervisedClassifier(100, feature_weighting="idf", **SAMPLED).fit(FEW, FEW_LABELS)
    features = fitted.feature_embeddings_.labels
    examples = {"x": 4, "y": 2, "z": 2, "w": 2}  # of which one has y twice
    expected = np.array([math.log(6 / examples[feature]) for feature in features])
    weights = fitted.feature_weights_
    np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=1e-5)
    np.testing.assert_array_equal(trained[0][0].left_weights, weights[trained[0][0].left_items])
    assert trained[0][0].left_weights.mean() == pytest.approx(1)
    given = [[2.0] * len(bag) for bag in FEW]
    fitted.fit(FEW, FEW_LABELS, weights=given)
    np.testing.assert_allclose(trained[1][0].left_weights, 2 * trained[0][0].left_weights)
    # Predictions are weighted likewise.
    left = np.arange(4 * 100, dtype=np.float32).reshape(4, 100)
    fitted.feature_embeddings_.vectors[:] = left
    fitted.label_embeddings_.vectors[:] = np.eye(3, 100)
    _, scores = fitted.predict_scores([features], n=3)
    np.testing.assert_allclose(
        np.sort(scores[0]), np.sort((weights @ left / weights.sum())[:3]), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "features", "labels", "words"),
    [
        ({}, FEW, FEW_LABELS[:-1], "features has 6 itemsets and labels 5"),
        ({}, [["x"], []], [[], ["A"]], "no example has both"),
        ({}, FEW, 1, r"labels: itemsets is 1, which is not iterable"),
        ({}, 3, FEW_LABELS, "features: itemsets is 3"),
        ({}, FEW, np.array("A"), r"labels has shape \(\); pass two axes"),
        ({}, FEW, dict.fromkeys(range(6), "A"), r"labels is a dict.*pass list\(labels.values"),
        ({"min_count": 99}, FEW, FEW_LABELS, "no example has both.*4 rare labels"),
        ({"feature_weighting": "tf"}, FEW, FEW_LABELS, "feature_weighting is 'tf'"),
        ({"pooling": "max"}, FEW, FEW_LABELS, "pooling is 'max'"),
        ({"vector_size": 0}, FEW, FEW_LABELS, "vector_size is 0"),
        ({"negative": -1}, FEW, FEW_LABELS, "negative is -1"),
    ],
)
def test_what_cannot_be_learned_is_refused(small, changes, features, labels, words):
    before = small.label_embeddings_
    with pytest.raises(InputError, match=words):
        small.set_params(**changes).fit(features, labels)
    assert small.label_embeddings_ is before


def test_one_label_and_features_of_all_examples_are_told():
    """As in a part of a search, or where all other labels are missing."""
    one = SupervisedClassifier(4, epochs=2, seed=1, feature_weighting="idf", **SAMPLED)
    features, labels = [["x"], ["y"]] * 3, [["A"], [np.nan]] * 3
    with (
        pytest.warns(UserWarning, match="features: every one is in every example"),
        pytest.warns(UserWarning, match="labels: all are 'A'"),
    ):
        one.fit(features, labels)
    assert one.dropped_labels_.masked_itemsets == 3
    np.testing.assert_array_equal(one.feature_weights_, [1])
    assert one.predict([["x"], ["y"], []]).tolist() == ["A"] * 3


PAIRS = [["red", "round"], ["yellow", "long"]] * 10


@pytest.mark.parametrize(
    "labels",
    [["apple", "banana"] * 10, [7, 5] * 10, [datetime(2024, 1, 2), datetime(2024, 2, 1)] * 10],
)
@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        lambda labels: np.array(labels, object),
        lambda labels: np.array(labels)[:, None],
        pytest.importorskip("pandas").Series,
        lambda labels: pytest.importorskip("pandas").DataFrame({"label": labels}),
        lambda labels: pytest.importorskip("pandas").Series(labels).astype("category"),
        lambda labels: pytest.importorskip("pyarrow").array(labels),
    ],
    ids=["list", "array", "objects", "matrix", "series", "frame", "category", "arrow"],
)
def test_labels_can_be_one_a_row(labels, form):
    given = form(labels)
    model = SupervisedClassifier(**{**SETTINGS, "epochs": 3})
    expected = model.fit(PAIRS, [[label] for label in labels]).label_embeddings_.vectors
    again = model.fit(PAIRS, given)
    assert again.labels_ == labels[:2]
    np.testing.assert_array_equal(again.label_embeddings_.vectors, expected)
    assert again.score(PAIRS, given) == again.score(PAIRS, [[label] for label in labels])


def test_a_row_without_a_label_is_dropped_and_lists_may_stand_beside():
    labels = ["apple", float("nan"), None, ["banana", "fruit"]] * 5
    model = SupervisedClassifier(**{**SETTINGS, "epochs": 1}).fit(PAIRS, labels)
    assert model.labels_ == ["apple", "banana", "fruit"]
    assert model.dropped_labels_.masked_itemsets == 10


def test_indicators_are_labels_by_their_columns():
    indicators = np.array([[1, 0, 0], [0, 1, 1]] * 10)
    model = SupervisedClassifier(**{**SETTINGS, "epochs": 1}).fit(PAIRS, indicators)
    assert model.labels_ == [0, 1, 2]
    assert model.label_embeddings_.counts.tolist() == [10, 10, 10]
    with pytest.warns(UserWarning, match="holds 3 items, all of them 0 or 1"):
        model.fit(PAIRS, indicators.tolist())


def test_what_looks_like_counts_is_told_once():
    model = SupervisedClassifier(**{**SETTINGS, "epochs": 1})
    with pytest.warns(UserWarning, match="^labels is an array of integers, most of") as seen:
        model.fit(PAIRS, np.array([[0, 0, 2], [0, 3, 0]] * 10))
    assert [warning.filename for warning in seen] == [__file__]


def test_scores_are_those_of_one_label_a_row():
    from sklearn.model_selection import cross_val_score

    model = SupervisedClassifier(**{**SETTINGS, "epochs": 40})
    labels = ["apple", "banana"] * 10
    assert cross_val_score(model, PAIRS, labels, cv=2).tolist() == [1, 1]
    for classes in (["apple", "banana"], [7, 5], [True, False]):
        scores = cross_val_score(model, PAIRS, classes * 10, cv=2, scoring="accuracy")
        assert scores.tolist() == [1, 1]
    wrong = ["apple", "banana"] * 5 + ["banana", "apple"] * 5
    assert cross_val_score(model, PAIRS, wrong, cv=2).tolist() == [0, 0]


def test_a_failed_fit_changes_nothing(small):
    before = small.label_embeddings_, small.feature_embeddings_, small.history_
    with pytest.raises(DivergenceError):
        small.set_params(alpha=1e30).fit(FEW, FEW_LABELS)
    assert (small.label_embeddings_, small.feature_embeddings_, small.history_) == before


# ----------------------------------------------------------------- predictions


def expected_scores(model, features, weights=None):
    rows = [model.feature_embeddings_.index(feature) for feature in features]
    vector = np.average(model.feature_embeddings_.vectors[rows], axis=0, weights=weights)
    return model.label_embeddings_.vectors @ vector


def test_scores_are_dot_products_of_the_mean(small):
    labels, scores = small.predict_scores([["x", "y", "?"], ["w"]], n=3)
    for row, values, features in zip(labels, scores, (["x", "y"], ["w"]), strict=True):
        expected = expected_scores(small, features)
        order = np.argsort(-expected)
        assert row.tolist() == [small.labels_[i] for i in order]
        np.testing.assert_allclose(values, expected[order], rtol=1e-5)
    assert small.unknown_ == (1, 4, 0, 2)
    _, weighted = small.predict_scores([["x", "y"]], n=1, weights=[[3, 1]])
    assert weighted[0, 0] == pytest.approx(expected_scores(small, ["x", "y"], [3, 1]).max())


def test_shapes_of_predictions(small):
    assert small.predict(FEW).shape == (6,)
    assert small.predict(FEW, n=2).shape == (6, 2)
    assert small.predict(FEW)[0] == "A"
    labels, scores = small.predict_scores(FEW, n=5)
    assert labels.shape == scores.shape == (6, 5)
    assert labels[0, 3] is None
    assert scores[0, 3] == -np.inf
    assert small.predict([]).shape == (0,)
    assert small.predict_scores([], n=2, probabilities=True)[1].shape == (0, 2)


def test_many_examples_are_predicted_as_one_by_one(model):
    labels, scores = model.predict_scores(FEATURES[:9], n=4)
    for i in range(9):
        one, one_scores = model.predict_scores(FEATURES[i : i + 1], n=4)
        assert one.tolist() == labels[i : i + 1].tolist()
        np.testing.assert_array_equal(one_scores, scores[i : i + 1])


def test_without_known_features_the_most_frequent_labels_are_predicted(small, caplog):
    small.label_embeddings_.vectors[:] = 1  # not by luck
    labels, scores = small.predict_scores([["?"], [], ["x"]], n=3)
    assert labels[0].tolist() == labels[1].tolist() == ["A", "B", "C"]
    np.testing.assert_allclose(scores[:2], np.log([[4 / 7, 2 / 7, 1 / 7]] * 2), rtol=1e-6)
    _, shares = small.predict_scores([["?"], ["x"]], n=3, probabilities=True)
    np.testing.assert_allclose(shares[0], [4 / 7, 2 / 7, 1 / 7], rtol=1e-6)
    np.testing.assert_allclose(shares[1], 1 / 3, rtol=1e-5)
    assert "SupervisedClassifier: 1 of 2 items are unknown" in caplog.messages[-1]
    # Nor is anything told by weights of zero.
    assert small.predict_scores([["x"]], weights=[[0]])[1][0, 0] == scores[0, 0]


def test_probabilities_are_a_softmax(model, monkeypatch):
    monkeypatch.setattr("itembed_gpu.models.classifier.CHUNK", 50)  # some queries at a time
    labels, shares = model.predict_scores(FEATURES[:20], n=30, probabilities=True)
    _, scores = model.predict_scores(FEATURES[:20], n=30)
    real = scores[:, :22]
    expected = np.exp(real) / np.exp(real).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares[:, :22], expected, rtol=1e-4)
    assert not shares[:, 22:].any()
    assert labels[0, 22] is None


@pytest.mark.parametrize("loss", ["negative-sampling", "nce"])
def test_the_noise_is_added_back_where_dot_products_lack_it(small, loss):
    plain = expected_scores(small, ["x"])
    small.set_params(ns_exponent=1.0, loss=loss)
    labels, scores = small.predict_scores([["x"]], n=3)
    rows = [small.labels_.index(label) for label in labels[0]]
    bias = np.log([4 / 7, 2 / 7, 1 / 7]) if loss == "negative-sampling" else np.zeros(3)
    np.testing.assert_allclose(scores[0], (plain + bias)[rows], rtol=1e-5)
    _, shares = small.predict_scores([["x"]], n=3, probabilities=True)
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)


def test_the_score_is_precision(small):
    truth = [["A"], ["?"], ["C", "C"], []]
    features = [["x"], ["x"], ["w", "z"], ["x"]]
    best = small.predict(features)
    assert best[0] == "A"
    expected = [1.0, 0.0, float(best[2] == "C")]
    assert small.score(features, truth) == pytest.approx(np.mean(expected))
    assert small.score(features, truth, k=3) == pytest.approx((1 / 3 + 0 + 1 / 3) / 3)
    with pytest.raises(InputError, match="features has 4 itemsets and labels 3"):
        small.score(features, truth[:3])
    with pytest.raises(InputError, match="labels: no example has one"):
        small.score(features, [[], [], [], []])


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.predict([["x"]]),
        lambda model: model.predict_scores([["x"]]),
        lambda model: model.score([["x"]], [["A"]]),
    ],
)
def test_a_model_has_to_be_fitted(ask):
    with pytest.raises(InputError, match="this SupervisedClassifier has learned nothing yet"):
        ask(SupervisedClassifier())


def test_tables_are_placed_on_the_device(small, monkeypatch):
    placed = []

    class Elsewhere:
        def to_device(self, table):
            placed.append(table)
            return table

    monkeypatch.setattr(estimator, "select_backend", lambda device, workers: Elsewhere())
    small.set_params(ns_exponent=1.0).predict_scores(FEW, probabilities=True)
    assert placed[0] is small.feature_embeddings_.vectors
    assert placed[1] is small.label_embeddings_.vectors
    assert placed[2].shape == (1, 3)


def test_tables_are_made_on_the_card_and_copied_from_there(one_tile):
    settings = {**SETTINGS, "device": Cuda(threads_per_pair=1), "epochs": 2}
    one = SupervisedClassifier(**settings).fit(FEW, FEW_LABELS)
    assert [told for told in one_tile.told if "load" in told] == ["download"] * 2
    other = SupervisedClassifier(**settings, callbacks=[lambda state: None]).fit(FEW, FEW_LABELS)
    for name in ("feature_embeddings_", "label_embeddings_"):
        assert np.array_equal(getattr(one, name).vectors, getattr(other, name).vectors)


# ------------------------------------------------------------------ to a disk


def test_a_saved_model_predicts_as_the_original_does(tmp_path):
    settings = {**SETTINGS, "feature_weighting": "idf"}
    # A label that is a feature as well.
    fitted = SupervisedClassifier(**settings).fit(FEW, [[*labels, "x"] for labels in FEW_LABELS])
    fitted.save(tmp_path)
    loaded = SupervisedClassifier.load(tmp_path, device="cpu", workers=1)
    assert loaded.get_params() == fitted.get_params()
    labels, scores = loaded.predict_scores([*FEW, ["?"]], n=4)
    expected, expected_scores = fitted.predict_scores([*FEW, ["?"]], n=4)
    assert labels.tolist() == expected.tolist()
    np.testing.assert_array_equal(scores, expected_scores)
    assert loaded.seed_ == 3
    assert loaded.feature_embeddings_.labels == fitted.feature_embeddings_.labels
    with pytest.raises(DataError, match="holds a 'SupervisedClassifier', not a Item2Vec"):
        Item2Vec.load(tmp_path)


def test_what_is_not_learned_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="learned nothing yet"):
        SupervisedClassifier().save(tmp_path)


def test_metadata_has_no_other_value_under_a_name_of_the_model(tmp_path):
    fitted = SupervisedClassifier(**SETTINGS).fit(FEW, FEW_LABELS)
    with pytest.raises(InputError, match="metadata holds 'num_feature', 0, under which"):
        fitted.save(tmp_path, metadata={"num_feature": 0})
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------- scikit-learn


def test_scikit_learn_can_use_it():
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    model = SupervisedClassifier(**SETTINGS)
    assert clone(model).get_params() == model.get_params()
    search = GridSearchCV(model, {"epochs": [0, 10]}, cv=2).fit(FEATURES[:400], LABELS[:400])
    assert search.best_params_ == {"epochs": 10}
    assert search.predict(FEATURES[:3]).shape == (3,)

    def interrupt(state):
        raise KeyboardInterrupt

    model.set_params(on_interrupt="raise", callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(model, {"epochs": [1, 10]}, cv=2).fit(FEATURES[:400], LABELS[:400])
    assert repr(SupervisedClassifier(pooling="pairs")) == "SupervisedClassifier(pooling='pairs')"


@pytest.mark.parametrize("side", [0, 1], ids=["features", "labels"])
def test_labels_that_cannot_be_saved_are_told_before_the_first_epoch(tmp_path, side):
    sides = [[["a"], ["b"]] * 3, [["x"], ["y"]] * 3]
    sides[side] = [[1j], [2j]] * 3
    model = SupervisedClassifier(vector_size=4, epochs=1, seed=1)
    with pytest.warns(UserWarning, match="of type complex, which cannot be saved"):
        model.fit(*sides)
    with pytest.raises(InputError, match="of type complex, which cannot be saved"):
        model.fit(*sides, checkpoint=tmp_path / "night")

"""Estimators inside of scikit-learn: frames, metadata, diagrams, searches, copies."""

import pickle
import subprocess
import sys

import numpy as np
import pandas
import polars
import pytest
import sklearn
from samples import DIM, NUM_NEGATIVE, SAMPLED
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from itembed_gpu import Item2Vec, MissingExtraError, SupervisedClassifier, pack_itemsets
from itembed_gpu.errors import InputError

SETTINGS = SAMPLED | {
    "vector_size": DIM,
    "negative": NUM_NEGATIVE,
    "epochs": 1,
    "seed": 3,
    "device": "cpu",
    "workers": 1,
}
DRAWS = np.random.default_rng(0).integers(0, 20, (60, 4))
ITEMSETS = [[f"item {item}" for item in draw] for draw in DRAWS]
WEIGHTS = [[1.0, 2.0, 3.0, 4.0]] * 60
Y = np.arange(60) % 2
COLUMNS = [f"item2vec{column}" for column in range(DIM)]


def make(**changes):
    return Item2Vec(**SETTINGS | changes)


@pytest.fixture(scope="module")
def model():
    return make().fit(ITEMSETS)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# ---------------------------------------------------------------------- frames


@pytest.mark.parametrize(("name", "kind"), [("pandas", pandas), ("polars", polars)])
def test_transform_returns_frames_where_it_is_asked_to(model, name, kind):
    frame = clone(model).set_output(transform=name).fit(ITEMSETS).transform(ITEMSETS)
    assert isinstance(frame, kind.DataFrame)
    assert list(frame.columns) == COLUMNS == model.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame.to_numpy(), model.transform(ITEMSETS))
    with sklearn.config_context(transform_output=name):
        assert isinstance(model.transform(ITEMSETS), kind.DataFrame)
        assert isinstance(
            make().set_output(transform="default").fit_transform(ITEMSETS), np.ndarray
        )


def test_a_frame_keeps_the_index_of_what_it_was_made_of(model):
    wanted = clone(model).set_output(transform="pandas").fit(ITEMSETS)
    column = pandas.Series(ITEMSETS, index=range(100, 160))
    assert wanted.transform(column).index.tolist() == list(range(100, 160))
    assert wanted.transform(column.to_frame()).index.tolist() == list(range(100, 160))
    assert wanted.transform(ITEMSETS).index.tolist() == list(range(60))


def test_frames_of_something_else_are_refused(model):
    with pytest.raises(InputError, match="transform is 'numpy'; pass one of default, pandas"):
        model.set_output(transform="numpy")
    assert model.set_output() is model
    with pytest.raises(InputError, match="call fit first"):
        make().get_feature_names_out()


def test_a_frame_of_what_is_not_installed_names_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match="pip install polars"):
        clone(model).set_output(transform="polars").fit_transform(ITEMSETS)


def test_a_pipeline_and_its_parts_return_frames():
    steps = [("emb", make()), ("scale", StandardScaler())]
    frame = Pipeline(steps).set_output(transform="polars").fit_transform(ITEMSETS)
    assert isinstance(frame, polars.DataFrame)
    union = FeatureUnion([("a", make()), ("b", make(alpha=0.1))]).set_output(transform="pandas")
    names = [f"{side}__{column}" for side in "ab" for column in COLUMNS]
    assert union.fit_transform(ITEMSETS).columns.tolist() == names
    assert union.get_feature_names_out().tolist() == names


@pytest.mark.parametrize("column", ["seen", ["seen"]])
def test_columns_of_lists_are_transformed_beside_others(column):
    table = pandas.DataFrame({"seen": ITEMSETS, "price": range(60)}, index=range(100, 160))
    columns = ColumnTransformer([("emb", make(), column)], remainder="passthrough")
    frame = columns.set_output(transform="pandas").fit_transform(table)
    assert frame.columns.tolist() == [f"emb__{c}" for c in COLUMNS] + ["remainder__price"]
    assert frame.index.equals(table.index)
    assert not frame.isna().any(axis=None)
    np.testing.assert_array_equal(frame.to_numpy()[:, :DIM], make().fit_transform(ITEMSETS))


def test_fit_transform_is_to_fit_and_then_to_transform():
    ours = make().fit_transform(iter(ITEMSETS), weights=iter(WEIGHTS))
    model = make().fit(ITEMSETS, weights=WEIGHTS)
    np.testing.assert_array_equal(ours, model.transform(ITEMSETS))
    # Weights that are packed with the items are theirs, whatever is asked for.
    packed = pack_itemsets(ITEMSETS, weights=WEIGHTS)
    weighted = make().fit_transform(packed)
    np.testing.assert_array_equal(weighted, model.transform(ITEMSETS, weights=WEIGHTS))
    folded = make().fit_transform(ITEMSETS, Y, fold_in=2)
    np.testing.assert_array_equal(folded, make().fit(ITEMSETS).transform(ITEMSETS, fold_in=2))
    with pytest.raises(TypeError, match="epoch"):
        make().fit_transform(ITEMSETS, epoch=3)


def test_weights_of_a_step_are_those_of_its_training():
    steps = [("emb", make()), ("clf", LogisticRegression())]
    pipeline = Pipeline(steps).fit(ITEMSETS, Y, emb__weights=WEIGHTS)
    vectors = make().fit(ITEMSETS, weights=WEIGHTS).transform(ITEMSETS)
    np.testing.assert_array_equal(pipeline["clf"].coef_, LogisticRegression().fit(vectors, Y).coef_)


# -------------------------------------------------------------------- metadata


def test_weights_are_metadata(routing, monkeypatch):
    given = []
    fit = Item2Vec.fit

    def noted(self, itemsets, y=None, *, weights=None, **options):
        given.append(weights)
        return fit(self, itemsets, y, weights=weights, **options)

    monkeypatch.setattr(Item2Vec, "fit", noted)
    model = make().set_fit_request(weights=True)
    GridSearchCV(model, {"epochs": [1]}, cv=2, refit=False).fit(ITEMSETS, weights=WEIGHTS)
    assert given == [WEIGHTS[:30]] * 2
    with pytest.raises(UnsetMetadataPassedError, match="weights"):
        GridSearchCV(make(), {"epochs": [1]}, cv=2).fit(ITEMSETS, weights=WEIGHTS)


def test_a_pipeline_passes_metadata_on_under_another_name(routing):
    weighted = make().set_fit_request(weights="much").set_transform_request(weights="much")
    weighing = LogisticRegression().set_fit_request(sample_weight=True)
    pipeline = Pipeline([("emb", weighted), ("clf", weighing)])
    pipeline.fit(ITEMSETS, Y, much=WEIGHTS, sample_weight=np.ones(60))
    plain = make().fit(ITEMSETS, weights=WEIGHTS)
    np.testing.assert_array_equal(pipeline["emb"].syn0_, plain.syn0_)
    vectors = plain.transform(ITEMSETS, weights=WEIGHTS)
    np.testing.assert_array_equal(pipeline["clf"].coef_, LogisticRegression().fit(vectors, Y).coef_)
    assert pipeline.predict(ITEMSETS[:3], much=WEIGHTS[:3]).shape == (3,)


def test_requests_are_copied_and_pickled(routing):
    model = make().set_fit_request(weights=True, checkpoint=False).set_score_request(k="cutoff")
    expected = {
        "fit": {
            "weights": True, "checkpoint": False, "checkpoint_every": None, "resume": None,
            "client": None, "cluster_folder": None,
        },
        "partial_fit": {"weights": None, "epochs": None},
        "score": {"k": "cutoff"},
        "transform": {"weights": None, "fold_in": None},
    }  # fmt: skip
    for copy in (model, clone(model), pickle.loads(pickle.dumps(model))):
        assert copy.get_metadata_routing()._serialize() == expected
    assert make().get_metadata_routing()._serialize()["fit"]["weights"] is None
    classifier = SupervisedClassifier().set_predict_request(n=True)
    assert classifier.get_metadata_routing()._serialize()["predict"] == {"n": True, "weights": None}


def test_requests_that_would_do_nothing_are_refused(routing):
    with pytest.raises(InputError, match="weight is no argument of fit that can be metadata"):
        make().set_fit_request(weight=True)
    with (
        sklearn.config_context(enable_metadata_routing=False),
        pytest.raises(InputError, match=r"set_config\(enable_metadata_routing=True\)"),
    ):
        make().set_fit_request(weights=True)


# -------------------------------------------------- diagrams, searches, objects


def test_notebooks_are_shown_a_diagram(model):
    steps = [("emb", make()), ("clf", LogisticRegression())]
    assert "Item2Vec" in estimator_html_repr(Pipeline(steps))
    assert "<span>Fitted</span>" in model._repr_html_()
    assert "<span>Not fitted</span>" in SupervisedClassifier()._repr_html_()
    with sklearn.config_context(display="text"):
        assert model._repr_html_() is None


def test_showing_a_model_does_not_import_scikit_learn():
    script = (
        "import sys, itembed_gpu; assert itembed_gpu.Item2Vec()._repr_html_() is None; "
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_model_is_one_object_whatever_its_length(model):
    assert model
    assert make()
    for one in (model, make()):
        assert np.array([one, one]).shape == (2,)
        assert np.asarray(one)[()] is one
        assert pandas.Series([one])[0] is one
        with pytest.raises(TypeError, match="not iterable"):
            iter(one)


def test_models_can_be_searched_over(model):
    pipeline = Pipeline([("emb", "passthrough"), ("clf", LogisticRegression())])
    models = [model, clone(model).set_params(alpha=0.5).fit(ITEMSETS)]
    search = GridSearchCV(pipeline, {"emb": models}, cv=2).fit(ITEMSETS, Y)
    assert search.cv_results_["param_emb"].tolist() == models
    assert "Item2Vec" in repr(pandas.DataFrame(search.cv_results_)["param_emb"])

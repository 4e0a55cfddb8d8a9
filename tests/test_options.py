"""The schema of options: what is given, wherever it is, arrives and changes what is computed.

What each changes is tested in test_objective. A new option is tested here as it is; where it
has neither choices nor two values, another value than its default has to be named in `OTHERS`.
"""

import contextlib
import inspect
import io
import json
import pickle
import runpy
import zlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from interpreted import interpret
from samples import random_itemsets, random_tables

from itembed_gpu import (
    Doc2Vec,
    DocumentTask,
    Embeddings,
    GloVe,
    GloveTask,
    InputError,
    ListedTask,
    SupervisedTask,
    UnsupervisedTask,
    train,
)
from itembed_gpu.models import estimator
from itembed_gpu.models.classifier import SupervisedClassifier
from itembed_gpu.models.item2vec import FOLDING, Item2Vec
from itembed_gpu.objective.options import Options, about
from itembed_gpu.training import loop

# A device that no machine has: whoever asks for it is told so.
NOWHERE = "cuda:99"

# A value that is not the default, of options that have neither choices nor two values.
OTHERS = {
    "noise_exponent": 0.75,
    "noise_weights": np.arange(30),
    "subsample": 0.01,
    "l2": 0.1,
    "positive_weight": 0.5,
    "max_step": 1e-6,
    "temperature": 0.5,
    "sum_scale": 1.25,
    "self_normalization": 0.1,
    "normalized_share": 0.5,
    "dropout": 0.5,
    "window": 1,
    "num_negative": 2,
    "learning_rate_scale": 2.0,
    "batch_size": 3,
    "chunk_size": 30,
    "partitions": 3,
    "seed": 5,
    "device": NOWHERE,
    "num_threads": 2,
    "vector_size": 7,
    "epochs": 3,
    "alpha": 0.3,
    "min_alpha": 0.2,
    "min_count": 4,
    "min_length": 4,
    "callbacks": [lambda state: True],  # ends training
    "history_exponent": 0.25,
    "fold_in": 2,
    "popularity": 0.5,
    "sharpness": 2.0,
    "x_max": 3.0,
    "exponent": 0.5,
}

# What options mean something beside, where they do not by themselves.
SOFTMAX = {"loss": "softmax"}
COMPANIONS = {
    "similarity": SOFTMAX | {"similarity": "dot"},
    "temperature": SOFTMAX,
    "sum_scale": SOFTMAX,
    "self_normalization": SOFTMAX,
    "normalized_share": SOFTMAX | {"self_normalization": 0.1},
    "sharpness": SOFTMAX | {"similarity": "cosine"},
    "dropout": SOFTMAX | {"pooling": "mean"},
    "targets": SOFTMAX | {"pooling": "mean"},
    "optimizer": SOFTMAX,  # adam
    "preset": SOFTMAX,
    "dbow_words": {"dm": 0},
    "schedule": {"epochs": 3},  # both are half way after one of two
}
# Those without a softmax, and what is asked for there where its values are the others.
WITHOUT_SOFTMAX = {"DocumentTask", "Doc2Vec"}
OTHERS_WITHOUT_SOFTMAX = {"loss": "hinge", "optimizer": "adagrad"}
# Defaults of an entrance that mean nothing to a softmax.
FOR_SOFTMAX = {
    "SupervisedClassifier": {"max_step": 0.0},
    "Item2Vec": {"reject_itemset": False},  # which else is chosen
}
# What means nothing of features and labels, and is refused there.
REFUSED = {
    (where, name)
    for where in ("SupervisedTask", "SupervisedClassifier")
    for name in ("targets", "window")
}


def companions(where, name):
    """Options that one is given beside, by their names at an entrance."""
    if where == "GloVe" and name in ("schedule", "batch_size"):
        return {"epochs": 3, "min_alpha": 0.001}  # its rate stays where nothing else is said
    beside = COMPANIONS.get(name, {})
    if "loss" in beside and where in WITHOUT_SOFTMAX:
        return {}
    if name == "loss" or "loss" in beside:
        beside = FOR_SOFTMAX.get(where, {}) | beside
    return beside


def other_value(known, default, where=""):
    """A value of an option that is not its default."""
    if where == "Doc2Vec" and known.name == "noise_exponent":
        return 0.5  # its default is another
    if where in WITHOUT_SOFTMAX and known.name in OTHERS_WITHOUT_SOFTMAX:
        return OTHERS_WITHOUT_SOFTMAX[known.name]
    if known.name in OTHERS:
        return OTHERS[known.name]
    default = known.default if default is None else default
    choices = (False, True) if isinstance(default, bool) else about(known).choices
    different = [choice for choice in choices if choice != default]
    return different[-1] if different else pytest.fail(f"OTHERS has no value for {known.name}")


class Learned(NamedTuple):
    """What came of some options."""

    task: Any
    settings: dict  # of `train`
    digest: int


def digest(*values):
    return zlib.crc32(pickle.dumps(values))


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    """Tasks of estimators that are trained, and how."""
    interpret(monkeypatch)
    calls = []

    def note(task, **settings):
        calls.append((task, settings))
        return loop.train(task, **settings)

    monkeypatch.setattr(estimator, "train", note)
    return calls


# ------------------------------------------------------------------- entrances

SETTINGS = {"seed": 1, "device": "cpu"}
OF_TASK = SETTINGS | {"num_threads": 1, "num_negative": 3}
# Whatever a class would choose: as tasks do by themselves.
SAMPLED = {
    "loss": "negative-sampling",
    "pooling": "pairs",
    "optimizer": "sgd",
    "reject_positive": False,
}
OF_ESTIMATOR = SETTINGS | SAMPLED | {"workers": 1, "negative": 3, "vector_size": 12, "epochs": 2}
OF_GLOVE = SETTINGS | {"workers": 1, "vector_size": 12, "epochs": 2, "x_max": 5.0}
OF_TRAIN_GLOVE = SETTINGS | {"threads": 1, "epochs": 2}
OF_TRAIN = SETTINGS | SAMPLED | {"threads": 1, "epochs": 2}


def itemsets(min_length, seed, num_itemset=40):
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 21)
    return [
        [f"i{item}" for item in generator.choice(20, length, p=shares / shares.sum())]
        for length in generator.integers(min_length, 6, num_itemset)
    ]


ITEMSETS, BAGS, LABELS = itemsets(2, 0), itemsets(1, 1), itemsets(1, 2)


def of_task(task):
    train(task, num_epoch=2, initial_learning_rate=0.1, progress=False)
    problem = task._problem
    return Learned(task, {}, digest(*(table.array for table in problem.tables)))


def of_unsupervised(options, calls):
    packed = random_itemsets(30, 40, 2, 5)
    return of_task(UnsupervisedTask(*packed, *random_tables(30), **OF_TASK | options))


def of_document(options, calls):
    packed = random_itemsets(30, 40, 1, 5)
    syn0, syn1 = random_tables(30)
    task = DocumentTask(*packed, syn0, random_tables(40, seed=2)[0], syn1, **OF_TASK | options)
    return of_task(task)


def of_supervised(options, calls):
    sides = random_itemsets(30, 40, 1, 4, seed=1), random_itemsets(30, 40, 1, 4, seed=2)
    return of_task(SupervisedTask(*sides[0], *sides[1], *random_tables(30), **OF_TASK | options))


def of_listed(options, calls):
    left, right = np.random.default_rng(3).integers(0, 30, (2, 120))
    return of_task(ListedTask(left, right, *random_tables(30), **OF_TASK | options))


def of_cells(options, calls):
    left, right = np.random.default_rng(3).integers(0, 30, (2, 120))
    task = GloveTask(
        left, right, 1 + left, *random_tables(30), **SETTINGS | {"num_threads": 1} | options
    )
    return of_task(task)


def of_glove(options, calls):
    model = GloVe(**OF_GLOVE | options).fit(ITEMSETS)
    return Learned(*calls[0], digest(model.labels_, model.syn0_, model.syn1_))


def of_train_glove(options, calls):
    options = OF_TRAIN_GLOVE | options
    run_command("train", "itemsets.txt", "-o", "model", "--quiet", "--model=glove", **options)
    model = GloVe.load("model", device="cpu")
    return Learned(*calls[0], digest(model.labels_, model.syn0_, model.syn1_))


def of_item2vec(options, calls):
    model = Item2Vec(**OF_ESTIMATOR | {"alpha": 0.1} | options).fit(ITEMSETS)
    answers = model.transform(ITEMSETS[:5]), *model.recommend(ITEMSETS[:5], n=3)
    return Learned(*calls[0], digest(model.labels_, model.syn0_, model.syn1_, answers))


def of_doc2vec(options, calls):
    given = {"pooling", "reject_positive"}
    others = {name: value for name, value in OF_ESTIMATOR.items() if name not in given}
    model = Doc2Vec(**others | {"alpha": 0.1} | options).fit(BAGS)
    answers = model.transform(BAGS[:5]), *model.recommend(BAGS[:5], n=3)
    tables = [side.vectors for side in (model.embeddings_, model.itemset_embeddings_)]
    return Learned(*calls[0], digest(model.labels_, tables, answers))


def of_classifier(options, calls):
    model = SupervisedClassifier(**OF_ESTIMATOR | options).fit(BAGS, LABELS)
    tables = [side.vectors for side in (model.feature_embeddings_, model.label_embeddings_)]
    return Learned(*calls[0], digest(model.labels_, tables, model.predict_scores(BAGS[:5], n=3)))


def run_command(*arguments, **options):
    """Run the command line on the itemsets, and return what it prints."""
    from click.testing import CliRunner

    from itembed_gpu.cli.main import main

    Path("itemsets.txt").write_text("\n".join(map(" ".join, ITEMSETS)))
    for name, value in options.items():
        flag = name.replace("_", "-")
        yes = f"--{flag}" if value else f"--no-{flag}"
        arguments += (yes if isinstance(value, bool) else f"--{flag}={value}",)
    result = CliRunner().invoke(main, arguments)
    if result.exit_code:
        raise RuntimeError(result.output)
    return result.stdout


def of_train(options, calls):
    options = OF_TRAIN | options
    run_command("train", "itemsets.txt", "-o", "model", "--quiet", **options)
    model = Item2Vec.load("model", device="cpu", workers=1)
    answers = model.recommend(ITEMSETS[:5], n=3)
    return Learned(*calls[0], digest(model.labels_, model.syn0_, model.syn1_, answers))


def of_evaluate(options, calls):
    tables = np.random.default_rng(0).normal(size=(2, 20, 12))
    labels = [f"i{item}" for item in range(20)]
    Embeddings(labels, tables[0], context=tables[1], counts=np.arange(20, 0, -1)).save("model")
    report = json.loads(run_command("evaluate", "model", "itemsets.txt", "--json", **options))
    return Learned(None, {}, digest(report["metrics"]))


ENTRANCES = {
    "UnsupervisedTask": of_unsupervised,
    "DocumentTask": of_document,
    "SupervisedTask": of_supervised,
    "ListedTask": of_listed,
    "GloveTask": of_cells,
    "GloVe": of_glove,
    "train --model glove": of_train_glove,
    "Item2Vec": of_item2vec,
    "Doc2Vec": of_doc2vec,
    "SupervisedClassifier": of_classifier,
    "train": of_train,
    "evaluate": of_evaluate,
}
# What options are given beside those of a test.
BASES = {
    "Item2Vec": OF_ESTIMATOR,
    "Doc2Vec": OF_ESTIMATOR,
    "SupervisedClassifier": OF_ESTIMATOR,
    "GloVe": OF_GLOVE,
    "train": OF_TRAIN,
    "train --model glove": OF_TRAIN_GLOVE,
}
CLASSES = (
    *(UnsupervisedTask, DocumentTask, SupervisedTask, ListedTask, GloveTask),
    *(Item2Vec, Doc2Vec, SupervisedClassifier, GloVe),
)


def cases():
    """Every option at every entrance, and a value of it that is not the default there."""
    for cls in CLASSES:
        parameters = inspect.signature(cls).parameters
        base = BASES.get(cls.__name__, {})
        for name, known in cls._schema.items():
            yield cls.__name__, name, known, base.get(name, parameters[name].default)
    if find_spec("click") and find_spec("polars"):
        from itembed_gpu.cli.options import ASKING, DEFAULTS, MODELS, TRAINING

        for name, known in TRAINING.items():
            yield "train", name, known, OF_TRAIN.get(name, DEFAULTS.get(name))
        glove = MODELS["glove"]
        for name, known in glove.options.items():
            base = OF_TRAIN_GLOVE.get(name, glove.defaults.get(name))
            yield "train --model glove", name, known, base
        for name, known in ASKING.items():
            yield "evaluate", name, known, known.default


CASES = [
    pytest.param(where, name, known, default, id=f"{where}-{name}")
    for where, name, known, default in cases()
    if known.name != "preset"  # it decides what is not given: see models/test_defaults
]

# How `train` calls what estimators hand it.
TRAIN_NAMES = {
    "epochs": "num_epoch",
    "alpha": "initial_learning_rate",
    "min_alpha": "final_learning_rate",
    "callbacks": "callbacks",
    "progress": "progress",
    "on_interrupt": "on_interrupt",
}

# Digests of what is learned without an option, by entrance and what it is beside.
PLAIN = {}


@pytest.fixture
def learn(trained, tmp_path):
    """A function that learns at an entrance, with an option or without."""

    def learn(where, options):
        trained.clear()
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown), contextlib.chdir(tmp_path):
            learned = ENTRANCES[where](options, trained)
        return learned._replace(digest=digest(learned.digest, bool(shown.getvalue())))

    return learn


@pytest.mark.parametrize(("where", "name", "known", "default"), CASES)
def test_an_option_arrives_and_changes_what_is_computed(where, name, known, default, learn):
    value = other_value(known, default, where)
    beside = {} if where == "evaluate" else companions(where, known.name)
    if known.name == "device":
        with pytest.raises(Exception, match=NOWHERE):
            learn(where, {name: value})
        return
    if (where, known.name) in REFUSED:
        with pytest.raises(InputError, match=f"{name} is {value!r}, .*; leave it out"):
            learn(where, beside | {name: value})
        return
    key = where, tuple(beside.items())
    if key not in PLAIN:
        PLAIN[key] = learn(where, beside).digest
        assert learn(where, beside).digest == PLAIN[key]
    changed = learn(where, beside | {name: value})
    if known.name == "num_threads":
        assert changed.task._bound._num_threads == value  # so little is trained by one of them
    elif known.name != "on_interrupt":  # nobody does
        assert changed.digest != PLAIN[key]
    if known.name in TRAIN_NAMES:
        assert changed.settings[TRAIN_NAMES[known.name]] == value
    # The window of GloVe is that of its counts, and no option of a task.
    if changed.task and known is Options.__dataclass_fields__.get(known.name):
        assert_arrived(changed.task, known.name, value, by_estimator=bool(changed.settings))


def assert_arrived(task, name, value, by_estimator):
    if name == "noise_exponent" and by_estimator:
        # Estimators turn it into weights, of all that they have seen.
        counts = np.bincount(task._problem.pairs.right_items)
        weights = task.options.noise_weights
        np.testing.assert_allclose(weights / weights[0], (counts / counts[0]) ** value)
    else:
        np.testing.assert_array_equal(getattr(task.options, name), value)


# Of the training that folds itemsets in: where, and what it does otherwise.
NOT_FOLDED = {*FOLDING, "dropout", "targets", "device", "num_threads", "seed"}


@pytest.mark.parametrize(
    ("name", "known", "default"),
    [
        (name, known, default)
        for where, name, known, default in cases()
        if where == "Item2Vec" and known.name in Options.__dataclass_fields__.keys() - NOT_FOLDED
    ],
)
def test_itemsets_are_folded_in_with_the_options_of_the_model(name, known, default):
    beside = companions("Item2Vec", known.name)
    model = Item2Vec(**OF_ESTIMATOR | {"alpha": 0.1} | beside).fit(ITEMSETS)
    before = model.transform(ITEMSETS[:20], fold_in=2)
    model.set_params(**{name: other_value(known, default)})
    assert (model.transform(ITEMSETS[:20], fold_in=2) != before).any()


# ------------------------------------------------------------- beside others

BAG = SOFTMAX | {"pooling": "mean"}
SENSELESS = [
    *[
        ({name: value}, f"{name} is {value!r} and loss is 'negative-sampling'; pass loss='softmax'")
        for name, value in [
            ("similarity", "cosine"),
            ("temperature", 0.1),
            ("sum_scale", 1.2),
            ("self_normalization", 0.1),
            ("normalized_share", 0.1),
            ("dropout", 0.5),
            ("targets", "others"),
        ]
    ],
    *[
        (SOFTMAX | {name: value}, f"{name} is {value!r} and loss is 'softmax'; leave it out")
        for name, value in [
            ("positive_weight", 0.5),
            ("max_step", 4.0),
            ("reject_positive", True),
            ("negative_sharing", 8),
        ]
    ],
    ({"optimizer": "adam"}, "optimizer is 'adam' and loss is 'negative-sampling'; pass 'adagrad'"),
    ({"optimizer": "adam", "loss": "nce"}, "optimizer is 'adam' and loss is 'nce'"),
    (SOFTMAX | {"dropout": 0.5}, "dropout is 0.5 and pooling is 'pairs'; pass pooling='mean'"),
    (SOFTMAX | {"targets": "others"}, "targets is 'others' and pooling is 'pairs'; pass pooling"),
    (BAG | {"targets": "dropped"}, "targets is 'dropped' and dropout is 0; pass a dropout"),
    (BAG | {"targets": "left"}, "targets is 'left'; pass one of 'all', 'dropped', 'others'"),
    (SOFTMAX | {"noise_exponent": 0.75}, "noise_exponent is given and no negative is drawn; pass"),
    (SOFTMAX | {"noise_weights": np.ones(30)}, "noise_weights is given and no negative is drawn"),
    (SOFTMAX | {"num_negative": 0}, "num_negative is 0; pass some thousands, or None"),
    (SOFTMAX | {"num_negative": 1 << 20}, "num_negative is 1048576; pass at most"),
    (SOFTMAX | {"num_negative": 1.5}, "num_negative"),
    (SOFTMAX | {"batch_size": 0}, "batch_size is 0"),
    *[
        (BAG | {name: value}, f"{name} is {shown}; pass")
        for name in ("temperature", "sum_scale", "dropout")
        for value, shown in [
            (np.nan, "nan"),
            (np.inf, "inf"),
            (-0.5, "-0.5"),
            ("warm", "'warm'"),
            (1e39, "1e.39"),
        ]
    ],
    (SOFTMAX | {"temperature": 0}, "temperature is 0.0; pass at least 1e-06"),
    (SOFTMAX | {"temperature": 1e-50}, "temperature is 1e-50; pass at least"),
    (SOFTMAX | {"sum_scale": None}, "sum_scale is None; pass a finite number"),
    (BAG | {"dropout": 1}, "dropout is 1.0; pass less than 1"),
    (
        SOFTMAX | {"self_normalization": 0.1, "reject_itemset": True},
        "self_normalization is 0.1 and reject_itemset is True, whose sums lack the itemset; leave",
    ),
    (SOFTMAX | {"normalized_share": 0.5}, "normalized_share is 0.5 and self_normalization is 0"),
    (SOFTMAX | {"self_normalization": -1}, "self_normalization is -1; pass at least 0"),
    *[
        (
            SOFTMAX | {"self_normalization": 0.1, "normalized_share": share},
            "normalized_share is .*; pass from 0.0001 to 1",
        )
        for share in (0, 1.5)
    ],
    (SOFTMAX | {"similarity": "euclid"}, "similarity is 'euclid'; pass one of 'dot', 'cosine'"),
]


@pytest.mark.parametrize(("options", "message"), SENSELESS)
def test_options_that_mean_nothing_beside_others_are_refused(options, message):
    with pytest.raises(InputError, match=f"^{message}") as told:
        UnsupervisedTask(*random_itemsets(30, 40, 2, 5), *random_tables(30), **options)
    assert "\n" not in str(told.value)


def test_what_is_left_out_goes_by_the_loss():
    sampled, dense, cosine = Options(), Options(**SOFTMAX), Options(**SOFTMAX, similarity="cosine")
    assert (sampled.num_negative, sampled.batch_size, sampled.temperature) == (5, 64, None)
    assert (dense.num_negative, dense.batch_size, dense.temperature) == (None, 1024, 1.0)
    assert cosine.temperature == 0.1
    assert Options(**SOFTMAX, num_negative=1).num_negative == 1
    for one in (sampled, dense, cosine):  # what was filled in may be given again
        assert replace(one) is not one


# ------------------------------------------------------------- names and words


@pytest.mark.parametrize("cls", CLASSES)
def test_help_tells_of_every_option(cls):
    described = inspect.getdoc(cls)
    assert "{options}" not in described
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in cls._schema:
            assert f"\n{name} : " in described
            shown = "optional" if parameter.default in (None, ()) else repr(parameter.default)
            assert shown in described.split(f"\n{name} : ")[1].split("\n")[0]


def test_parameters_keep_their_places():
    values = (8, 2, 1, 0.1, 0.01, 3, 0.5, 0.75, 9, "cpu", 1, [print])
    for cls in (Item2Vec, SupervisedClassifier):
        model = cls(*values)
        assert tuple(model.get_params().values())[: len(values)] == values
        with pytest.raises(TypeError, match=f"{cls.__name__}.. got an unexpected .* 'size'"):
            cls(size=3)
        with pytest.raises(TypeError, match="too many positional"):
            cls(*values, False)


def old_name(action):
    with pytest.warns(FutureWarning, match="window_size is now called chunk_size") as told:
        result = action()
    assert [warning.filename for warning in told] == [__file__]
    return result


def test_an_old_name_is_still_taken():
    packed = random_itemsets(30, 40, 2, 5)
    task = old_name(lambda: UnsupervisedTask(*packed, *random_tables(30), window_size=30))
    assert task.options.chunk_size == 30
    for cls in (Item2Vec, SupervisedClassifier):
        model = old_name(lambda cls=cls: cls(window_size=30))
        assert model.get_params() == cls(chunk_size=30).get_params()
        old_name(lambda model=model: model.set_params(window_size=40))
        assert model.chunk_size == 40
        with pytest.raises(InputError, match="window_size and chunk_size are given"):
            cls(window_size=30, chunk_size=30)


def test_a_model_that_was_saved_with_an_old_name_is_read(tmp_path):
    Item2Vec(**OF_ESTIMATOR, chunk_size=30).fit(ITEMSETS).save(tmp_path)
    path = tmp_path / "embeddings.json"
    index = json.loads(path.read_text().replace("chunk_size", "window_size"))
    del index["checksum"]  # which such versions did not write, and options that they did not know
    later = (
        *("schedule", "temperature", "sum_scale", "dropout", "targets", "self_normalization"),
        "window",
    )
    for name in later:
        del index["metadata"]["params"][name]
    path.write_text(json.dumps(index))
    loaded = Item2Vec.load(tmp_path)  # without a warning, which would be an error
    assert loaded.chunk_size == 30
    for name in later:
        assert getattr(loaded, name) == getattr(Item2Vec(), name)


def test_keywords_for_editors_are_those_of_the_schema():
    script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "keywords"))
    for path, text in script["modules"]().items():
        assert path.read_text(encoding="utf-8") == text, "run scripts/keywords"


@pytest.mark.parametrize(
    ("cls", "data"), [(Item2Vec, [ITEMSETS]), (SupervisedClassifier, [BAGS, LABELS])]
)
def test_estimators_go_on_from_a_checkpoint(cls, data, tmp_path):
    fails = [True]

    def fail_once(state):
        if len(state.history.epochs) == 2 and fails:
            raise RuntimeError("no power")

    settings = OF_ESTIMATOR | {"seed": None, "epochs": 4, "callbacks": [fail_once]}
    with pytest.raises(RuntimeError, match="no power"):
        cls(**settings).fit(*data, checkpoint=tmp_path)
    fails.clear()
    resumed = cls(**settings).fit(*data, checkpoint=tmp_path, checkpoint_every=2, resume=True)
    whole = cls(**settings | {"seed": resumed.seed_}).fit(*data)
    for one, two in zip(resumed._state()[1].values(), whole._state()[1].values(), strict=True):
        np.testing.assert_array_equal(one, two)

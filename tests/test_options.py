"""The schema of options: what is given, wherever it is, arrives and changes what is computed.

Nothing is compiled here but for the last test: what trains a problem on the CPU is replaced by
something that marks the tables with all that it is told. An option that changes nothing of
that changes no result either; what each does to the result is tested in test_objective.
"""

import contextlib
import functools
import inspect
import io
import pickle
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from samples import supervised, unsupervised

from itembed_gpu import Embeddings, SupervisedTask, UnsupervisedTask, train
from itembed_gpu.backends.cpu.task import CpuTask
from itembed_gpu.models import estimator
from itembed_gpu.models.classifier import SupervisedClassifier
from itembed_gpu.models.item2vec import Item2Vec
from itembed_gpu.objective.options import Options, about
from itembed_gpu.training import loop

# A device that no machine has: whoever asks for it is told so.
NOWHERE = "cuda:99"

# A value that is not the default, of options that have neither choices nor two values.
OTHERS = {
    "noise_exponent": 0.75,
    "noise_weights": np.arange(1, 31),
    "subsample": 0.01,
    "l2": 0.1,
    "num_negative": 2,
    "learning_rate_scale": 2.0,
    "batch_size": 3,
    "chunk_size": 20,
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
}


def other_value(known, default):
    """A value of an option that is not its default."""
    if known.name in OTHERS:
        return OTHERS[known.name]
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
    """Tasks that are trained, and how; training marks tables by what it is told."""
    monkeypatch.setattr(CpuTask, "prepare", lambda self: None)
    monkeypatch.setattr(CpuTask, "run", mark)
    calls = []

    def note(task, **settings):
        calls.append((task, settings))
        return loop.train(task, **settings)

    monkeypatch.setattr(estimator, "train", note)
    return calls


def mark(task, *told):
    problem = task._problem
    key = digest(problem, task._num_threads, *told)
    table = problem.syn_right
    table += np.random.default_rng(key).normal(size=table.shape)


# ------------------------------------------------------------------- entrances


def itemsets(num_itemset=60, min_length=2, seed=0):
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 21)
    return [
        [f"i{item}" for item in generator.choice(20, length, p=shares / shares.sum())]
        for length in generator.integers(min_length, 6, num_itemset)
    ]


ITEMSETS, BAGS, LABELS = itemsets(), itemsets(min_length=1, seed=1), itemsets(min_length=1, seed=2)


def of_task(make, options, calls):
    task = make(**({"device": "cpu", "num_negative": 3} | options))
    train(task, num_epoch=2, progress=False)
    return Learned(task, {}, digest(task._problem.syn_right))


def of_item2vec(options, calls):
    model = Item2Vec(**({"device": "cpu", "seed": 1, "workers": 1} | options)).fit(ITEMSETS)
    answers = model.transform(ITEMSETS[:5]), *model.recommend(ITEMSETS[:5], n=3)
    return Learned(*calls[0], digest(model.labels_, model.syn1_, answers))


def of_classifier(options, calls):
    model = SupervisedClassifier(**({"device": "cpu", "seed": 1, "workers": 1} | options))
    model.fit(BAGS, LABELS)
    return Learned(*calls[0], digest(model.predict_scores(BAGS[:5], n=3)))


def of_command_line(options, calls):
    from click.testing import CliRunner

    from itembed_gpu.cli.main import main

    Path("itemsets.txt").write_text("\n".join(map(" ".join, ITEMSETS)))
    arguments = ["train", "itemsets.txt", "-o", "model", "--quiet"]
    for name, value in ({"seed": 1, "threads": 1} | options).items():
        flag = name.replace("_", "-")
        is_flag = isinstance(value, bool)
        arguments += [f"--{'' if value else 'no-'}{flag}"] if is_flag else [f"--{flag}", str(value)]
    result = CliRunner().invoke(main, arguments)
    if result.exit_code:
        raise RuntimeError(result.output)
    model = Embeddings.load("model")
    return Learned(*calls[0], digest(model.labels, model.context))


ENTRANCES = {
    "UnsupervisedTask": functools.partial(of_task, unsupervised),
    "SupervisedTask": functools.partial(of_task, supervised),
    "Item2Vec": of_item2vec,
    "SupervisedClassifier": of_classifier,
    "train": of_command_line,
}
CLASSES = UnsupervisedTask, SupervisedTask, Item2Vec, SupervisedClassifier


def cases():
    """Every option at every entrance, and a value of it that is not the default there."""
    for cls in CLASSES:
        parameters = inspect.signature(cls).parameters
        for name, known in cls._schema.items():
            yield cls.__name__, name, known, parameters[name].default
    if find_spec("click") and find_spec("polars"):
        from itembed_gpu.cli.options import DEFAULTS, TRAINING

        for name, known in TRAINING.items():
            yield "train", name, known, DEFAULTS.get(name)


CASES = [
    pytest.param(where, name, known, default, id=f"{where}-{name}")
    for where, name, known, default in cases()
]

# How `train` calls what estimators hand it.
TRAIN_NAMES = {
    "epochs": "num_epoch",
    "alpha": "initial_learning_rate",
    "min_alpha": "final_learning_rate",
    "callbacks": "callbacks",
    "progress": "progress",
}


@pytest.fixture
def learn(trained, tmp_path):
    """A function that learns with some options at an entrance."""

    def learn(where, options):
        trained.clear()
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown), contextlib.chdir(tmp_path):
            learned = ENTRANCES[where](options, trained)
        return learned._replace(digest=digest(learned.digest, bool(shown.getvalue())))

    return learn


@pytest.mark.parametrize(("where", "name", "known", "default"), CASES)
def test_an_option_arrives_and_changes_what_is_computed(where, name, known, default, learn):
    value = other_value(known, default)
    if known.name == "noise_weights" and where == "UnsupervisedTask":
        value = np.arange(1, 51)
    given = {name: value}
    if known.name == "device":
        with pytest.raises(Exception, match=NOWHERE):
            learn(where, given)
        return
    plain, changed = learn(where, {}), learn(where, given)
    assert plain.digest == learn(where, {}).digest
    assert plain.digest != changed.digest
    if known.name in TRAIN_NAMES:
        assert changed.settings[TRAIN_NAMES[known.name]] == value
    if known.name not in Options.__dataclass_fields__:
        return
    options = changed.task.options
    if known.name == "noise_exponent" and where not in ("UnsupervisedTask", "SupervisedTask"):
        # Estimators turn it into weights, of all that they have seen.
        counts = np.bincount(changed.task._problem.pairs.right_items)
        weights = options.noise_weights
        np.testing.assert_allclose(weights / weights[0], (counts / counts[0]) ** value)
    else:
        np.testing.assert_array_equal(getattr(options, known.name), value)

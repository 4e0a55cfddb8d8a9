"""The contract with itembed 0.5.1: the same names, called the same way."""

import inspect
import subprocess
import sys

import itembed
import numpy as np
import pytest

import itembed_gpu
from itembed_gpu.objective.options import Options

PUBLIC = sorted(
    name for name, value in vars(itembed).items() if callable(value) and not name.startswith("_")
)


def parameters(function):
    # A compiled function of itembed keeps its signature in `py_func`.
    return list(inspect.signature(getattr(function, "py_func", function)).parameters.values())


def test_there_is_something_to_compare():
    assert len(PUBLIC) == 18
    assert "do_unsupervised_batch" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_leading_parameters_are_the_same(name):
    theirs, mine = parameters(getattr(itembed, name)), parameters(getattr(itembed_gpu, name))
    mine_by_name = {parameter.name: parameter for parameter in mine}
    positional = [p for p in theirs if p.kind is not p.KEYWORD_ONLY]
    assert [(p.name, p.kind) for p in mine[: len(positional)]] == [
        (p.name, p.kind) for p in positional
    ]
    for parameter in theirs:
        assert mine_by_name[parameter.name].kind == parameter.kind
        default = mine_by_name[parameter.name].default
        if default is None:  # what it stands for goes by the loss: here by that of itembed
            default = getattr(Options(), parameter.name, None)
        assert default == parameter.default
    # What is new here has a default, so that old calls work.
    for parameter in mine:
        if parameter.name not in {p.name for p in theirs}:
            assert parameter.default is not parameter.empty


@pytest.mark.parametrize("library", ["itembed", "itembed_gpu"])
def test_the_documented_use_runs_with_only_the_import_changed(library):
    # The steps of itembed's documentation: pack, initialise, task, train, look up a row.
    script = f"""
from {library} import pack_itemsets, initialize_syn, UnsupervisedTask, train

itemsets = [
    ["apple", "sugar", "flour"],
    ["pear", "sugar", "flour", "butter"],
    ["apple", "pear", "sugar", "butter", "cinnamon"],
    ["salt", "flour", "oil"],
] * 20
labels, indices, offsets = pack_itemsets(itemsets, min_count=10, min_length=2)
syn0 = initialize_syn(len(labels), 12)
syn1 = initialize_syn(len(labels), 12)
task = UnsupervisedTask(indices, offsets, syn0, syn1, num_negative=3)
train(task, num_epoch=4)
i = labels.index("apple")
print(labels[i], syn0[i].shape, syn0.dtype)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "apple (12,) float32"


def test_zero_and_uniform_tables_are_those_of_itembed():
    for method in ("uniform", "zero"):
        np.random.seed(7)
        theirs = itembed.initialize_syn(9, 4, method)
        np.random.seed(7)
        mine = itembed_gpu.initialize_syn(9, 4, method)
        assert np.array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype

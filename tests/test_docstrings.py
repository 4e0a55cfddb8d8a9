"""Examples of docstrings: each runs, and prints what it says."""

import doctest
import inspect
import itertools
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
from interpreted import interpret
from samples import random_itemsets, random_tables

import itembed_gpu
from itembed_gpu import UnsupervisedTask, load_example, metrics, train

NAMES = {
    **{name: getattr(itembed_gpu, name) for name in itembed_gpu.__all__},
    **{name: value for name, value in vars(metrics).items() if inspect.isfunction(value)},
    "np": np,
    "pandas": pandas,
    "polars": polars,
}
PUBLIC = {**NAMES, "Evaluation": metrics.Evaluation}
EXAMPLES = {
    test.name: test
    for name, value in PUBLIC.items()
    if getattr(value, "__module__", "").startswith("itembed_gpu.")
    for test in doctest.DocTestFinder().find(value, name, globs={})
    if test.examples
}
ITEMSETS = [["tea", "cup", "pot"], ["tea", "cup"], ["saw", "nail"]] * 10


def small_task():
    return UnsupervisedTask(*random_itemsets(9, 5), *random_tables(9), num_negative=1)


def small_example():
    """A few baskets of the example, of a few items."""
    baskets = ([item for item in basket if "REGENCY" in item] for basket in load_example())
    return [basket for basket in baskets if len(basket) > 2][:20]


def rising():
    """A measure that rises until epoch 17."""
    values = itertools.count()
    return lambda syn0: min(next(values), 17)


# What examples take for granted, beside the public names.
PREPARED = {
    "EarlyStopping": lambda: {"task": small_task(), "hit_rate": rising()},
    "Doc2Vec": lambda: {"load_example": small_example},
    "DocumentTask": lambda: {"itemsets": ITEMSETS, "others": ITEMSETS[:3]},
    "Evaluator": lambda: {"task": small_task(), "hit_rate": lambda syn0: 0.31},
    "GloveTask": lambda: {"itemsets": ITEMSETS},
    "History.as_table": lambda: {"history": train(small_task(), num_epoch=1, progress=False)},
    "Item2Vec": lambda: {"load_example": small_example},
    "UnsupervisedTask": lambda: {"itemsets": ITEMSETS},
    "itemset_task": lambda: {"itemsets": ITEMSETS},
    "log_partition": lambda: {"task": small_task()},
    "extend_syn": lambda: {
        "new_itemsets": ITEMSETS,
        "old_labels": ["tea", "cup"],
        "syn0": random_tables(2)[0],
    },
}


def test_no_example_is_skipped():
    assert len(EXAMPLES) >= 38
    assert set(PREPARED) <= set(EXAMPLES)
    for test in EXAMPLES.values():
        assert not any(doctest.SKIP in example.options for example in test.examples)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name, tmp_path, monkeypatch, capfd):
    interpret(monkeypatch)
    monkeypatch.chdir(tmp_path)
    sales = "invoice,code\n1,a\n1,b\n2,a\n2,b\n"
    for path in (Path("sales.csv"), Path("sales") / "january.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(sales)
    test = EXAMPLES[name]
    test.globs = {**NAMES, **PREPARED.get(name, dict)()}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    told = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=told.append, clear_globs=False)
    assert not told, "".join(told)

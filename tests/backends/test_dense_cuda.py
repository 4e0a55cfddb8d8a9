"""Objectives that see all items on an emulated GPU: the real kernels, against the CPU's part.

Each operation is compared by itself, and whole trainings are.
"""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from samples import random_itemsets, random_tables

from itembed_gpu import (
    ListedTask,
    SupervisedTask,
    UnsupervisedTask,
)
from itembed_gpu.backends import batches
from itembed_gpu.backends.batches import ITEMSET, NOTHING, OWN, Sums
from itembed_gpu.backends.cpu.dense import CpuOperations
from itembed_gpu.backends.cuda import chips, dense as cuda, instances
from itembed_gpu.backends.dense import Update
from itembed_gpu.objective.table import Table

SANITIZED = os.environ.get("ITEMBED_GPU_SANITIZE") == "1"
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture(scope="module", autouse=True)
def compiled_ahead():
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    from emulator import build_ahead

    build_ahead(instances.DENSE)


def make_task(kind="unsupervised", dim=12, tables=None, **options):
    """Make a small task: itemsets of 2 items, duplicates and all."""
    options = {"loss": "softmax", "seed": 3, "batch_size": 4, **options}
    same, weights = options.pop("same", False), options.pop("weights", False)
    generator = np.random.default_rng(5)
    if kind == "listed":
        left, right = (generator.integers(0, n, 25).astype(np.int32) for n in (20, 15))
        values = generator.random(25, dtype=np.float32) if weights else None
        return ListedTask(left, right, *random_tables(20, 15, dim=dim), values=values, **options)
    if kind == "unsupervised":
        items, offsets = random_itemsets(20, 9, 2, 5, seed=1)
        items[: offsets[1]] = 7  # an itemset of duplicates
        syn0, syn1 = tables or random_tables(20, dim=dim)
        if weights:
            options["weights"] = generator.random(len(items), dtype=np.float32)
        return UnsupervisedTask(items, offsets, syn0, syn0 if same else syn1, **options)
    left = random_itemsets(20, 8, 1, 4, seed=1)
    right = random_itemsets(15, 8, 1, 3, seed=2)
    if weights:
        options["left_weights"] = generator.random(len(left[0]), dtype=np.float32)
        options["right_weights"] = generator.random(len(right[0]), dtype=np.float32)
    return SupervisedTask(*left, *right, *random_tables(20, 15, dim=dim), **options)


def to_device(fake, array):
    copy = fake.empty(array.shape, array.dtype)
    copy.set(np.ascontiguousarray(array))
    return copy


# --- each operation ---------------------------------------------------------


@pytest.fixture
def both(emulated):
    """Both devices' operations on one problem, the GPU's being ready."""
    problem = make_task(pooling="mean", device="cpu")._problem
    gpu = cuda.CudaOperations(problem, chips.find_chip(0))
    with gpu.begin(), np.errstate(over="ignore", divide="ignore"):
        yield CpuOperations(problem, 1), gpu
    gpu.discard()


def compare(both, operation, *values, tolerance=TOLERANCE, **keywords):
    """Call an operation of both with the same arrays, and compare what comes of all of them."""
    cpu, gpu = both

    def move(value):
        if isinstance(value, tuple):
            return type(value)(*map(move, value))
        return value if not isinstance(value, np.ndarray) else view_like(gpu.xp, value)

    there = [move(value) for value in values], {n: move(v) for n, v in keywords.items()}
    expected = getattr(cpu, operation)(*values, **keywords)
    got = getattr(gpu, operation)(*there[0], **there[1])
    if not isinstance(expected, tuple):
        expected, got = (expected,), (got,)
    for ours, theirs in zip((*got, *there[0]), (*expected, *values), strict=True):
        if isinstance(theirs, np.ndarray):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours.get(), theirs, **tolerance)


def view_like(fake, array):
    """Copy an array to the device, and the memory between its rows with it."""
    if array.base is None or array.ndim == 1:
        return to_device(fake, array)
    first = (array.ctypes.data - array.base.ctypes.data) // 4 % array.base.shape[1]
    return to_device(fake, array.base)[:, first : first + array.shape[1]]


def matrix(num_row, dim, pad=0, start=0, seed=0):
    """Make a matrix; with a pad, as columns from a start on of a wider one of nan."""
    values = np.random.default_rng(seed).standard_normal((num_row, dim)).astype(np.float32)
    if not pad:
        return values
    wide = np.full((num_row, dim + pad), np.nan, dtype=np.float32)
    wide[:, start : start + dim] = values
    return wide[:, start : start + dim]


SHAPES = [(5, 0, 0), (64, 0, 0), (1, 3, 1), (140, 4, 0), (12, 4, 4), (12, 4, 2)]
SUMS = Sums(
    np.array([2, 2, 5, 6, 15]), np.arange(15, dtype=np.int32) * 7 % 9, matrix(1, 15, seed=3)[0]
)


@pytest.mark.parametrize(("dim", "pad", "start"), SHAPES)
def test_sums_of_rows(both, dim, pad, start):
    rows = matrix(9, dim, pad, start)
    compare(both, "pool", SUMS, rows)
    compare(both, "pool", SUMS, rows, out=matrix(4, dim, seed=4))
    none = Sums(np.zeros(1, dtype=np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    compare(both, "pool", none, rows)


@pytest.mark.parametrize(("dim", "pad", "start"), SHAPES)
def test_dot_products(both, dim, pad, start):
    rows = np.array([3, 0, 8, 8, 1], dtype=np.int32)
    compare(both, "dots", matrix(9, dim, pad, start), rows, matrix(10, dim, seed=1), rows[::-1] + 1)
    compare(both, "squares", matrix(9, dim, pad, start))


@pytest.mark.parametrize("num_column", [1, 7, 64, 300])
def test_exponentials(both, num_column):
    logits = 20 * matrix(6, num_column)
    logits[0] = -np.inf
    logits[1, ::2] = -np.inf
    largest = np.array([-np.inf, -np.inf, 0, 50, -3, 1e3], dtype=np.float32)
    total = np.array([0, 0, 2, 1, 1e-3, 5], dtype=np.float32)
    compare(both, "exponentials", logits, largest, total, tolerance={"rtol": 5e-5, "atol": 1e-30})


@pytest.mark.parametrize("masks", [NOTHING, OWN, ITEMSET])
def test_losses_and_their_derivatives(both, masks):
    offsets = np.array([0, 1, 1, 4, 70, 75])
    logits, weights = 5 * matrix(1, 75)[0], matrix(1, 75, seed=1)[0]
    log_sums = np.array([1, 2, -1e30, 4, 90], dtype=np.float32)
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    compare(both, "weigh", masks, 1.25, log_sums, logits, offsets, weights, tolerance=tolerance)


@pytest.mark.parametrize(
    "shape", [(3, 5, 4), (1, 5, 4), (3, 1, 4), (3, 5, 1), (1, 1, 1), (2, 1, 1)]
)
@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_products_of_matrices(both, shape, pad, turned):
    _, gpu = both
    num_row, num_inner, num_column = shape
    a = matrix(*((num_inner, num_row) if "a" in turned else (num_row, num_inner)), pad)
    b = matrix(*((num_column, num_inner) if "b" in turned else (num_inner, num_column)), pad)
    moved = [view_like(gpu.xp, values) for values in (a, b)]
    turn = [
        values.T if name in turned else values for name, values in zip("ab", moved, strict=True)
    ]
    expected = (a.T if "a" in turned else a) @ (b.T if "b" in turned else b)
    np.testing.assert_allclose(gpu.matmul(*turn).get(), expected, **TOLERANCE)
    out = gpu.tile(0, num_row, num_column)
    assert gpu.matmul(*turn, out=out) is out
    np.testing.assert_allclose(out.get(), expected, **TOLERANCE)


@pytest.mark.parametrize(("capability", "kind"), [(75, "float32"), (80, "TF32"), (90, "TF32")])
def test_chips_multiply_as_they_can(emulated, capability, kind):
    runtime = emulated.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    version = {"major": capability // 10, "minor": capability % 10}
    runtime.getDeviceProperties = lambda index: properties | version
    task = make_task(device="cuda")
    task.do_batch(0.1)
    assert {entry for entry in emulated.told if "multiply" in entry} == {f"multiply in {kind}"}
    task.synchronize()


@pytest.mark.parametrize("optimizer", instances.OPTIMIZERS)
@pytest.mark.parametrize(("dim", "pad", "start"), SHAPES)
@pytest.mark.parametrize("rows", [slice(2, 6), np.array([7, 0, 3, 5], dtype=np.int32)])
def test_updates(emulated, optimizer, dim, pad, start, rows):
    wide = [np.abs(matrix(8, dim, pad, start, seed)) for seed in range(3)]
    if pad:  # the tables are a part of something larger
        wide = [matrix(8, dim, pad, start, seed) for seed in range(3)]
        wide[2][...] = np.abs(wide[2])
    syn, moment, variance = wide
    parts = [syn, np.arange(8, dtype=np.float32), moment, variance]
    gradient = matrix(4, dim, seed=9)
    how = Update(optimizer, 0.1, 0.05)
    expected = [np.array(part) for part in parts]
    cpu = CpuOperations(None, 1)
    tables = {"accumulator": expected[1], "moment": expected[2], "variance": expected[3]}
    cpu.update(Table("syn", expected[0], **tables), rows, gradient, how)
    got = [view_like(emulated, part) for part in parts]
    whole = [array if array.base is None else array.base for array in got]
    before = [array.get() for array in whole]
    table = Table("syn", got[0], accumulator=got[1], moment=got[2], variance=got[3])
    problem = make_task(device="cpu")._problem
    gpu = cuda.CudaOperations(dataclasses.replace(problem, tables=(table,)), chips.find_chip(0))
    with gpu.begin():
        there = rows if isinstance(rows, slice) else to_device(emulated, rows)
        gpu.update(table, there, to_device(emulated, gradient), how)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours.get(), theirs, **TOLERANCE)
    for array, old in zip(whole, before, strict=True):
        assert np.array_equal(np.isnan(array.get()), np.isnan(old))


# --- whole trainings --------------------------------------------------------

MEAN = {"pooling": "mean"}
COSINE = {"similarity": "cosine"}
OTHERS = {**MEAN, "targets": "others"}
ADAM, ADAGRAD = {"optimizer": "adam"}, {"optimizer": "adagrad"}
SAMPLED = {"num_negative": 9, "noise_exponent": 0.5}
VARIANTS = [
    ("unsupervised", {}),
    ("unsupervised", {**MEAN, "dim": 5}),
    ("unsupervised", {**MEAN, **COSINE, **ADAM, "dim": 64, "sum_scale": 1.2}),
    ("unsupervised", {**MEAN, **ADAGRAD, "targets": "dropped", "dropout": 0.5}),
    ("unsupervised", {**OTHERS, **COSINE, "weights": True, "l2": 0.05}),
    ("unsupervised", {**OTHERS, **ADAGRAD, "reject_itemset": True, "dropout": 0.2, "dim": 5}),
    ("unsupervised", {**OTHERS, **ADAM, **SAMPLED, "same": True}),
    ("unsupervised", {**MEAN, **COSINE, **SAMPLED, "dropout": 0.3, "subsample": 0.05}),
    ("unsupervised", {**MEAN, **SAMPLED, "reject_itemset": True, "update_left": False}),
    ("unsupervised", {**COSINE, **ADAGRAD, "same": True, "l2": 0.1}),
    ("unsupervised", {**MEAN, **ADAM, "chunk_size": 12}),
    ("supervised", {**COSINE, "reject_itemset": True, "weights": True}),
    ("supervised", {**MEAN, **ADAM, "weights": True, "update_right": False}),
    ("supervised", {**MEAN, **ADAGRAD, **SAMPLED}),
    ("listed", {**ADAM, "weights": True, "dim": 5}),
    ("listed", {**COSINE, **SAMPLED, "update_left": False, **ADAGRAD}),
]


def train_on(device, kind, options):
    """Train two epochs; return what was trained, and the tally."""
    task = make_task(kind, device=device, **options)
    rates = np.linspace(0.1, 0.05, 2 * len(task)) * (0.3 if "adam" in options.values() else 1)
    with np.errstate(over="ignore", divide="ignore"):  # where nothing is compiled
        task.do_batches(rates)
        tally = task._read_tally(wait=True)
    task.synchronize()
    return task._problem.arrays, tally


@pytest.mark.parametrize("tiles", ["one", "kept", "twice"])
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_a_training_is_that_of_the_cpu(emulated, monkeypatch, kind, options, tiles):
    if tiles != "one":
        monkeypatch.setattr(batches, "MIN_TILE", 4)
        monkeypatch.setattr(batches, "TILE_LOGITS", 1)
    if tiles == "twice":
        monkeypatch.setattr("itembed_gpu.backends.dense.KEPT_LOGITS", 1)
    expected, tally = train_on("cpu", kind, options)
    got, ours = train_on("cuda", kind, options)
    assert ours[1:] == tally[1:]
    assert ours.num_sample > 0
    assert ours.loss == pytest.approx(tally.loss, rel=1e-5)
    # Short vectors, and small roots, make rounding larger.
    rough = options.keys() & {"similarity", "optimizer"}
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if rough else TOLERANCE
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, **tolerance, err_msg=name)

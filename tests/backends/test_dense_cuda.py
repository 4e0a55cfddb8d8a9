"""Objectives that see all items on an emulated GPU: the real kernels, against the CPU's part.

Each operation is compared by itself, and whole trainings are.
"""

import dataclasses
import gc
import os
import shutil
import signal

import numpy as np
import pytest
from emulator import fake_cupy
from samples import random_itemsets, random_tables, unsupervised

from itembed_gpu import (
    CompoundTask,
    Cuda,
    DeviceError,
    DivergenceError,
    ListedTask,
    SupervisedTask,
    UnsupervisedTask,
    initialize_syn,
    train,
)
from itembed_gpu.backends import batches
from itembed_gpu.backends.batches import ITEMSET, NOTHING, OWN, Sums
from itembed_gpu.backends.cpu.dense import CpuOperations
from itembed_gpu.backends.cuda import chips, dense as cuda, instances
from itembed_gpu.backends.dense import Targets, Update
from itembed_gpu.objective.table import Table

SANITIZED = os.environ.get("ITEMBED_GPU_SANITIZE") == "1"
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture(scope="module", autouse=True)
def compiled_ahead():
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    from emulator import build_ahead

    build_ahead(instances.DENSE)


@pytest.fixture(autouse=True)
def uncompiled():
    """Integers go round, also where code is not compiled, as under sanitizers."""
    with np.errstate(over="ignore", divide="ignore"):
        yield


def have_capability(emulated, capability):
    """Have a chip that multiplies float32 (75), or float16 and bf16 (80 and above)."""
    runtime = emulated.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    version = {"major": capability // 10, "minor": capability % 10}
    runtime.getDeviceProperties = lambda index: properties | version
    chips.find_chip.cache_clear()


@pytest.fixture
def exact(emulated):
    """A GPU whose products are of float32."""
    have_capability(emulated, 75)
    return emulated


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
def both(exact):
    """Both devices' operations on one problem, the GPU's being ready."""
    problem = make_task(pooling="mean", device="cpu")._problem
    gpu = cuda.CudaOperations(problem, chips.find_chip(0))
    with gpu.begin():
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
    penalties = None if masks == ITEMSET else np.array([0.5, 0, 0.1, 0.1, 1], dtype=np.float32)
    log_sums[2] = -1e30 if masks == ITEMSET else -20
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    for known in (None, penalties):
        targets = Targets(offsets, weights, known)
        compare(both, "weigh", masks, 1.25, log_sums, logits, targets, tolerance=tolerance)


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


def rounded(values):
    """Round to bf16."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize(("num_query", "num_column"), [(6, 300), (1, 5), (3, 1), (5, 1030)])
@pytest.mark.parametrize("capability", [75, 80])
def test_products_with_exponentials(emulated, capability, num_query, num_column):
    """A tile's way: logits, exponentials, and what these are multiplied by."""
    have_capability(emulated, capability)
    exact = capability == 75
    half = np.asarray if exact else np.float16
    brain, near = (np.asarray, TOLERANCE) if exact else (rounded, {"rtol": 1e-3, "atol": 1e-3})
    asked, columns = 5 * matrix(num_query, 12), matrix(num_column, 12, 4, seed=1)
    queries = matrix(num_query, 12, seed=2)
    gpu = cuda.CudaOperations(make_task(device="cpu")._problem, chips.find_chip(0))
    with gpu.begin():
        moved = [view_like(emulated, values) for values in (asked, columns, queries)]
        room = gpu.tile(0, num_query, num_column)
        logits = gpu.matmul(moved[0], moved[1].T, out=room)
        assert logits is room
        expected = np.float32(half(np.float32(half(asked)) @ np.float32(half(columns)).T))
        np.testing.assert_allclose(np.float32(logits.get()), expected, **near)
        expected = np.float32(logits.get())
        largest, total = (
            to_device(emulated, np.full(num_query, value, dtype=np.float32))
            for value in (-np.inf, 0)
        )
        gpu.exponentials(logits, largest, total)
        sums = largest.get() + np.log(total.get())
        np.testing.assert_allclose(sums, np.logaddexp.reduce(expected, axis=1), rtol=1e-5)
        # What is written is rounded, what is added up is not.
        parts = brain(np.exp(expected - largest.get()[:, None]))
        for found, by in (
            (gpu.matmul(logits, moved[1]), parts @ brain(columns)),
            (gpu.matmul(logits.T, moved[2]), parts.T @ brain(queries)),
        ):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found.get(), by, **near)
    kinds = ("float32",) if exact else ("float16", "bf16")
    assert {e for e in emulated.told if "multiply" in e} == {f"multiply {kind}" for kind in kinds}


@pytest.mark.parametrize("dim", [5, 64])
def test_numbers_of_16_bits_are_those_of_numpy(emulated, dim):
    values = np.float32(10.0) ** np.linspace(-9, 9, 40 * dim, dtype=np.float32).reshape(40, dim)
    values[::2] *= -1
    values[3, :4] = 0, np.inf, -np.inf, np.nan
    values[5, :4] = 65519, 65520, 2.0**-25, 1.25 * 2.0**-25
    gpu = cuda.CudaOperations(make_task(device="cpu")._problem, chips.find_chip(0))
    with gpu.begin(), np.errstate(over="ignore"):
        there = to_device(emulated, values)
        half, brain = (
            gpu._factor(there, number)[0].get()[:, :dim]
            for number in (instances.FLOAT16, instances.BFLOAT16)
        )
        np.testing.assert_array_equal(half.view(np.float16), values.astype(np.float16))
    finite = np.isfinite(values)
    brain = (brain.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(brain[finite], rounded(values)[finite])
    np.testing.assert_array_equal(brain[~finite], values[~finite])


@pytest.mark.parametrize("capability", [75, 80])
@pytest.mark.parametrize("highest", [0.0, 50.0, 70.0, 300.0])
def test_exponentials_of_logits_that_rise_along_a_row(emulated, capability, highest):
    have_capability(emulated, capability)
    gpu = cuda.CudaOperations(make_task(device="cpu")._problem, chips.find_chip(0))
    values = np.linspace(0, highest, 1500, dtype=np.float32)[None]
    with gpu.begin():
        room = gpu.tile(0, 1, 1500)
        room._values[...] = values
        values = np.float64(room.get())
        largest, total = (
            to_device(emulated, np.full(1, value, dtype=np.float32)) for value in (-2, 1)
        )
        gpu.exponentials(room, largest, total)
        whole = np.logaddexp.reduce(np.append(values, -2))
        assert largest.get()[0] + np.log(total.get()[0]) == pytest.approx(whole, rel=1e-5)
        ones = to_device(emulated, np.ones((1500, 4), dtype=np.float32))
        found = gpu.matmul(room, ones).get() * np.exp(largest.get()[0] - whole)
    expected = 1 - np.exp(-2 - whole)  # of the sum, all but what was there before
    np.testing.assert_allclose(found, expected, rtol=1e-5 if capability == 75 else 1e-2)


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
    ("unsupervised", {**OTHERS, "self_normalization": 0.2, "normalized_share": 0.5}),
    ("supervised", {**SAMPLED, "weights": True, "self_normalization": 0.1}),
]


def train_on(device, kind, options):
    """Train two epochs; return what was trained, and the tally."""
    task = make_task(kind, device=device, **options)
    rates = np.linspace(0.1, 0.05, 2 * len(task)) * (0.3 if "adam" in options.values() else 1)
    task.do_batches(rates)
    tally = task._read_tally(wait=True)
    task.synchronize()
    return task._problem.arrays, tally


# Tiles of all columns; of few, of which the exponentials are kept, or made twice.
TILES = ["twice"] if SANITIZED else ["one", "kept", "twice"]


def cut_tiles(monkeypatch, tiles):
    if tiles != "one":
        monkeypatch.setattr(batches, "MIN_TILE", 4)
        monkeypatch.setattr(batches, "TILE_LOGITS", 1)
        monkeypatch.setattr(cuda, "TILE_BYTES", 1)
    if tiles == "twice":
        monkeypatch.setattr("itembed_gpu.backends.dense.KEPT_LOGITS", 1)


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_a_training_is_that_of_the_cpu(exact, monkeypatch, kind, options, tiles):
    cut_tiles(monkeypatch, tiles)
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


@pytest.mark.parametrize("device", ["emulated", "cuda"], indirect=True)
@pytest.mark.parametrize("tiles", TILES[-2:])
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_numbers_of_16_bits_train_nearly_alike(device, monkeypatch, kind, options, tiles):
    cut_tiles(monkeypatch, tiles)
    start = make_task(kind, device="cpu", **options)._problem.arrays
    start = {name: array.copy() for name, array in start.items()}
    expected, tally = train_on("cpu", kind, options)
    got, ours = train_on(device, kind, options)
    assert ours[1:] == tally[1:]
    assert ours.loss == pytest.approx(tally.loss, rel=5e-3)
    for name, before in start.items():
        changes = got[name] - before, expected[name] - before
        assert np.linalg.norm(changes[0] - changes[1]) <= 0.02 * np.linalg.norm(changes[1])


def test_a_table_is_trained_by_losses_of_both_kinds(exact):
    results = []
    for device in ("cpu", Cuda(threads_per_pair=1, pairs_in_flight=1)):
        dense = make_task(device=device, **MEAN)
        sampled = unsupervised(
            *random_itemsets(20, 9, 2, 5, seed=1), tables=(dense.syn0, dense.syn1), device=device
        )
        train(CompoundTask(dense, sampled), num_epoch=2, progress=False)
        results.append((dense.syn0, dense.syn1))
    assert [e for e in exact.told if "load" in e] == ["upload"] * 2 + ["download"] * 2
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# --- tables -----------------------------------------------------------------


@pytest.mark.parametrize("optimizer", instances.OPTIMIZERS)
def test_tables_travel_once_each_way_and_a_frozen_one_is_not_written_back(emulated, optimizer):
    tables = random_tables(20)
    before = tables[0].copy()
    task = make_task(tables=tables, device="cuda", optimizer=optimizer, update_left=False)
    train(task, num_epoch=3, progress=False)
    number = {"sgd": 1, "adagrad": 2, "adam": 4}[optimizer]
    frozen = {"sgd": 1, "adagrad": 2, "adam": 1}[optimizer]
    assert emulated.told.count("upload") == number + frozen
    assert emulated.told.count("download") == number
    assert np.array_equal(tables[0], before)


@pytest.mark.parametrize("optimizer", instances.OPTIMIZERS)
@pytest.mark.parametrize("where", ["ours", "apart", "within"])
def test_tables_of_the_device_are_trained_in_place(exact, optimizer, where):
    emulated, dim = exact, 10
    host = random_tables(20, dim=dim)
    task = make_task(tables=[table.copy() for table in host], optimizer=optimizer)
    task.do_batches(np.full(len(task), 0.1))
    if where == "ours":
        whole = tables = [initialize_syn(20, dim, device="cuda") for _ in host]
    elif where == "apart":
        whole = tables = [to_device(emulated, table) for table in host]
    else:
        whole = [to_device(emulated, np.full((20, 16), np.nan, np.float32)) for _ in host]
        tables = [array[:, 3 : 3 + dim] for array in whole]
    for table, values in zip(tables, host, strict=True):
        table._values[...] = values
    ours = make_task(tables=tables, optimizer=optimizer)
    assert ours.device == "cuda:0"
    ours.do_batches(np.full(len(ours), 0.1))
    ours.synchronize()
    for table, expected in zip(tables, (task.syn0, task.syn1), strict=True):
        np.testing.assert_allclose(table.get(), expected, rtol=1e-3, atol=1e-4)
    if where == "within":
        assert all(np.isnan(array.get()).sum() == 20 * 6 for array in whole)
    assert "download" not in emulated.told


def test_memory_is_given_back(emulated):
    before = emulated.free
    task = make_task(device="cuda", optimizer="adam", **MEAN)
    train(task, num_epoch=2, progress=False)
    assert emulated.free < before
    del task
    gc.collect()
    assert emulated.free == before


# --- batches ----------------------------------------------------------------


def test_a_batch_travels_as_one_copy(emulated, monkeypatch):
    copied = []
    runtime = emulated.cuda.runtime
    copy = runtime.memcpyAsync

    def noted(to, source, size, kind, stream):
        if kind == runtime.memcpyHostToDevice:
            copied.append(size)
        copy(to, source, size, kind, stream)

    task = make_task(device="cuda", **OTHERS, **SAMPLED)
    task._bound.prepare()
    monkeypatch.setattr(runtime, "memcpyAsync", noted)
    task.do_batches(np.full(len(task), 0.1))
    task.synchronize()
    assert len(copied) == len(task)


def test_the_host_is_two_batches_ahead_at_most(emulated, monkeypatch):
    waited = []
    monkeypatch.setattr(fake_cupy.Event, "synchronize", lambda event: waited.append(event))
    task = make_task(device="cuda", batch_size=1)
    task._bound.run(0, 0, 0, np.full(6, 0.1, dtype=np.float32))
    feed = task._bound._ops._feed
    assert len(waited) == 4
    assert {id(event) for event in waited} == {id(buffer.ended) for buffer in feed._buffers}
    # Nor are more than two calls under way.
    waited.clear()
    for _ in range(2):
        task._bound.run(0, 0, 6, np.empty(0, dtype=np.float32))
    assert waited == [task._bound._ops._calls[-1].ended]
    task._bound.discard()


def test_the_tally_is_read_when_it_is_there(emulated, monkeypatch):
    monkeypatch.setattr(fake_cupy.Event, "done", False)
    task = make_task(device="cuda")
    task.do_batches(np.full(len(task), 0.1))
    assert task._read_tally() == (0, 0, 0)
    tally = task._read_tally(wait=True)
    assert tally.num_sample == task.num_pair
    assert tally.loss / task.num_pair == pytest.approx(np.log(20), rel=0.05)
    assert task._read_tally(wait=True) == (0, 0, 0)
    task.synchronize()


# --- what goes wrong --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("allocate", "OutOfMemoryError"),
        ("compile", "CompileException"),
        ("copy", "CUDARuntimeError"),
        ("launch", "CUDADriverError"),
        ("multiply", "CUBLASError"),
        ("synchronize", "CUDARuntimeError"),
    ],
)
@pytest.mark.parametrize("countdown", [0, 1])
def test_a_failure_leaves_the_tables_untouched(emulated, kind, error, countdown):
    tables = random_tables(20)
    before = [table.copy() for table in tables]
    task = make_task(tables=tables, device="cuda")
    emulated.fail[kind] = countdown, getattr(fake_cupy, error)("injected")
    with pytest.raises(DeviceError, match=r"cuda:0.*injected.*Nothing was written back"):
        train(task, num_epoch=2, progress=False)
    for table, values in zip(tables, before, strict=True):
        assert np.array_equal(table, values)
    # It was for once, and the task is as good as new.
    emulated.fail.clear()
    train(task, num_epoch=2, progress=False)
    assert (np.abs(task.syn1 - before[1]).max(axis=1) > 0).all()
    assert np.isfinite(task.syn0).all()


def test_without_cublas_it_is_told_how_to_get_it(emulated):
    class Module:
        def __getattr__(self, name):
            raise ImportError("libcublas.so.12 was not found")

    module = Module()
    vars(module).update({n: v for n, v in vars(emulated.cuda).items() if n != "cublas"})
    emulated.cuda = module
    task = make_task(device="cuda")
    with pytest.raises(DeviceError, match=r"cuBLAS cannot be loaded.*libcublas.*pip install"):
        task.do_batch(0.1)


def test_numbers_that_are_not_finite_are_not_written_back(emulated):
    tables = random_tables(20)
    before = [table.copy() for table in tables]
    task = make_task(tables=tables, device="cuda")
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="Nothing was written"):
        train(task, initial_learning_rate=1e30, num_epoch=2, progress=False)
    assert np.array_equal(tables[0], before[0])
    assert np.array_equal(tables[1], before[1])


def test_ctrl_c_in_mid_epoch_hands_over_what_was_trained(emulated, monkeypatch):
    task = make_task(device="cuda", batch_size=1)
    before = task.syn1.copy()
    multiply, number = emulated.cuda.cublas.gemmEx, []

    def interrupted(*arguments):
        number.append(1)
        if len(number) == 4:  # in the second step
            signal.raise_signal(signal.SIGINT)
        multiply(*arguments)

    monkeypatch.setattr(emulated.cuda.cublas, "gemmEx", interrupted)
    history = train(task, num_epoch=2, progress=False)
    assert history.interrupted
    assert len(number) < 9
    assert np.abs(task.syn1 - before).max() > 0
    assert np.isfinite(task.syn1).all()


def test_memory_is_added_up_before_the_first_copy(emulated):
    emulated.free = 67_000_000
    task = make_task(device="cuda", optimizer="adam")
    with pytest.raises(DeviceError) as caught:
        task.do_batch(0.1)
    text = str(caught.value)
    for part in ("67 MB free", "67.1 MB", "accumulators", "of a batch", "a smaller batch_size"):
        assert part in text
    assert emulated.told == []
    emulated.free = 68_000_000
    task.do_batch(0.1)
    task.synchronize()


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 8, "batch_size": 40},
        {"dim": 64, "batch_size": 10, **COSINE},
        {"dim": 64, "batch_size": 20, **OTHERS},
        {"dim": 16, "batch_size": 40, **MEAN, "num_negative": 150},
    ],
)
def test_a_step_takes_no_more_than_was_said(exact, monkeypatch, options):
    monkeypatch.setattr(cuda, "TILE_BYTES", 1 << 14)
    monkeypatch.setattr("itembed_gpu.backends.dense.KEPT_LOGITS", 1 << 13)
    monkeypatch.setattr(cuda, "KEPT_LOGITS", 1 << 13)
    syn = random_tables(200, dim=options.pop("dim"))
    items, offsets = random_itemsets(200, 40, 2, 5, seed=1)
    options = {"loss": "softmax", "seed": 1, "device": "cuda", **options}
    task = UnsupervisedTask(items, offsets, *syn, **options)
    task._bound.prepare()
    before = exact.least_free = exact.free
    task.do_batch(0.1)
    said = task._bound._ops._room() - cuda.CUBLAS_BYTES
    assert said / 4 < before - exact.least_free <= said
    task.synchronize()

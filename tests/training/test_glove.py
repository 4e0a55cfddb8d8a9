"""GloVe on both devices, against its formula in NumPy."""

import pickle

import glove_formula as formula
import numpy as np
import pytest
from interpreted import interpret
from samples import planted_itemsets, random_tables, slots_of

from itembed_gpu import (
    CompoundTask,
    Cuda,
    DivergenceError,
    GloveTask,
    InputError,
    ListedTask,
    co_occurrences,
    initialize_syn,
    train,
)

TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}
RATE = 0.3
CURVE = {"x_max": 20.0, "exponent": 0.5}


def random_cells(num_left=12, num_right=9, num_cell=60, seed=0):
    """Cells, some of them twice, with counts on both sides of x_max."""
    generator = np.random.default_rng(seed)
    left, right = (
        generator.integers(0, n, num_cell).astype(np.int32) for n in (num_left, num_right)
    )
    left[3:5], right[3:5] = 7, 2
    return left, right, np.exp(generator.uniform(-3, 6, num_cell)).astype(np.float32)


def make_task(same=False, dim=12, cells=None, **options):
    syn0, syn1 = random_tables(12, 12 if same else 9, dim=dim)
    options = {"seed": 3, "num_threads": 1, "batch_size": 8, **CURVE, **options}
    return GloveTask(*(cells or random_cells()), syn0, syn0 if same else syn1, **options)


def arrays_of(task):
    return [task.syn0, task.syn1, *task.biases, *task.accumulators]


def run(task, num_epoch=1, rate=RATE):
    return train(
        task, num_epoch=num_epoch, initial_learning_rate=rate, final_learning_rate=rate,
        progress=False,
    )  # fmt: skip


def expect(task, num_epoch=1, rate=RATE):
    """What the formula makes of the same cells in the same order."""
    model = formula.Model(task.syn0, task.syn1, task.biases)
    orders = [slots_of(task.seed, 0, e, task.num_pair).astype(int) for e in range(num_epoch)]
    cells = [np.asarray(side) for side in (task.left, task.right, task.counts)]
    formula.train(model, cells, rate, orders, x_max=task.x_max, exponent=task.exponent)
    return model


# --- the step


def test_gradients_are_the_slopes_of_half_the_objective():
    generator = np.random.default_rng(1)
    tables = generator.normal(size=(2, 3, 4))
    model = formula.Model(*tables, generator.normal(size=(2, 3)))
    for count in (7.0, 300.0):
        of_left, of_right, of_bias = formula.gradients(model, 1, 2, count)
        for array, row, gradient in (
            (model.tables[0], 1, of_left), (model.tables[1], 2, of_right),
            (model.biases[0], 1, of_bias), (model.biases[1], 2, of_bias),
        ):  # fmt: skip
            for place in np.ndindex(np.shape(gradient)):
                losses = []
                for sign in (1, -1):
                    array[(row, *place)] += sign * 1e-6
                    losses.append(formula.objective(model, [1], [2], [count]) / 2)
                    array[(row, *place)] -= sign * 1e-6
                slope = (losses[0] - losses[1]) / 2e-6
                np.testing.assert_allclose(slope, np.asarray(gradient)[place], rtol=1e-6, atol=1e-8)


DEVICES = ["cpu", *(Cuda(threads_per_pair=n) for n in (1, 4, 32))]


@pytest.mark.parametrize("device", DEVICES, ids=["cpu", "1", "4", "32"])
@pytest.mark.parametrize("same", [False, True])
def test_epochs_are_those_of_the_formula(one_tile, monkeypatch, device, same):
    # Some of one table are on the diagonal.
    dim = 50 if device == DEVICES[-1] else 13
    task = make_task(same, dim, device=device)
    expected = expect(task, 2)
    interpret(monkeypatch)
    before = formula.Model(task.syn0, task.syn1)
    mean = formula.objective(before, task.left, task.right, task.counts, **CURVE) / task.num_pair
    history = run(task, 2)
    for array, other in zip(arrays_of(task), expected.arrays, strict=True):
        np.testing.assert_allclose(array, other, **TOLERANCE)
    # What is told is the loss of each cell before its step.
    assert 0.2 * mean < history.epochs[0].loss < mean
    assert (task.syn0 is task.syn1) == (task.biases[0] is task.biases[1]) == same


@pytest.mark.compiled_in
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_training_reaches_the_objective_of_the_formula(num_threads):
    items, offsets, _ = planted_itemsets(40, 8, 150)
    cells = co_occurrences(items, offsets, 40)[:3]
    syn0, syn1 = (initialize_syn(40, 12, seed=n) for n in (1, 2))
    task = GloveTask(*cells, syn0, syn1, x_max=10, seed=1, num_threads=num_threads)
    expected = expect(task, 20, 0.05)
    run(task, 20, 0.05)
    got = formula.Model(syn0, syn1, task.biases)
    ratio = formula.objective(got, *cells, x_max=10) / formula.objective(expected, *cells, x_max=10)
    assert 0.99 < ratio < 1.01
    if num_threads == 1:
        np.testing.assert_allclose(syn0, expected.tables[0], rtol=1e-4, atol=1e-5)


# --- what all tasks do


@pytest.fixture
def interpreted(monkeypatch):
    slots_of(0, 0, 0, 1)  # compiled
    interpret(monkeypatch)


def test_chunks_train_every_cell_once(interpreted):
    # At a rate at which nothing moves, squares add up alike in any order.
    whole, chunked = make_task(), make_task(chunk_size=20)
    for task in (whole, chunked):
        assert run(task, rate=1e-6).num_pair == 60
    for array, other in zip(chunked.accumulators, whole.accumulators, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-5)


def test_cells_may_be_mapped(interpreted, tmp_path):
    names = [tmp_path / f"{n}.npy" for n in range(3)]
    for name, array in zip(names, random_cells(), strict=True):
        np.save(name, array)
    mapped = [np.load(name, mmap_mode="r") for name in names]
    tasks = make_task(cells=mapped, chunk_size=16), make_task(chunk_size=16)
    assert np.shares_memory(tasks[0]._source.values, mapped[2])
    for task in tasks:
        run(task)
    np.testing.assert_array_equal(tasks[0].syn0, tasks[1].syn0)


@pytest.mark.parametrize("same", [False, True])
def test_a_checkpoint_goes_on_exactly(interpreted, tmp_path, same):
    whole, first, second = (make_task(same) for _ in range(3))
    options = {"initial_learning_rate": RATE, "final_learning_rate": RATE, "progress": False}
    train(whole, num_epoch=3, **options)

    def interrupt(state):
        if len(state.history.epochs) == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(first, num_epoch=3, checkpoint=tmp_path / "c", callbacks=[interrupt], **options)
    train(second, num_epoch=3, checkpoint=tmp_path / "c", resume=True, **options)
    for array, other in zip(arrays_of(second), arrays_of(whole), strict=True):
        np.testing.assert_array_equal(array, other)
    other = make_task(same, x_max=5)
    with pytest.raises(InputError, match=r"its x_max is 20\.0, and here it is 5\.0"):
        train(other, num_epoch=3, checkpoint=tmp_path / "c", resume=True, **options)


def test_a_copy_goes_on_where_the_task_is(interpreted):
    whole, task = make_task(), make_task()
    run(whole, 2)
    run(task)
    copy = pickle.loads(pickle.dumps(task))
    run(copy)
    for array, other in zip(arrays_of(copy), arrays_of(whole), strict=True):
        np.testing.assert_array_equal(array, other)


def test_biases_and_accumulators_are_the_callers(interpreted):
    first = make_task()
    biases = [np.ones(12, np.float32), np.zeros(9, np.float32)]
    accumulators = [np.full_like(array, 4) for array in first.accumulators]
    task = make_task_with(*biases, accumulators=accumulators)
    model = formula.Model(task.syn0, task.syn1, biases)
    for array in model.arrays[4:]:
        array[:] = 4
    cells = [np.asarray(side) for side in (task.left, task.right, task.counts)]
    formula.train(model, cells, RATE, [slots_of(3, 0, 0, 60).astype(int)], **CURVE)
    run(task)
    for array, other in zip(arrays_of(task), model.arrays, strict=True):
        np.testing.assert_allclose(array, other, **TOLERANCE)
    assert task.biases[0] is biases[0]
    assert task.accumulators[3] is accumulators[3]


def make_task_with(*biases, same=False, **options):
    syn0, syn1 = random_tables(12, 12 if same else 9)
    options = {"seed": 3, "num_threads": 1, "batch_size": 8, **CURVE, **options}
    return GloveTask(*random_cells(), syn0, syn0 if same else syn1, *biases, **options)


def test_a_compound_trains_it_beside_others(interpreted):
    task = make_task()
    other = ListedTask([0, 1], [1, 2], task.syn0, task.syn1, seed=1, num_threads=1)
    both = CompoundTask(task, other)
    alone = make_task()
    run(alone)
    assert run(both).num_pair >= task.num_pair
    assert np.abs(task.syn0 - alone.syn0).max() > 1e-6


def test_a_training_that_diverges_is_told(interpreted):
    # Steps of Adagrad are as long as the rate.
    with pytest.raises(DivergenceError, match="with a lower learning rate"):
        run(make_task(), 3, 1e4)


def test_the_mean_loss_of_nothing_is_that_of_no_vectors():
    task = make_task()
    logs = np.maximum(np.log(task.counts) ** 2, 1)
    expected = (formula.weigh(task.counts, **CURVE) * logs).mean()
    np.testing.assert_allclose(task._loss_at_random, expected, rtol=1e-5)


def test_weights_and_bits_stay_in_bounds():
    task = make_task(exponent=0)
    np.testing.assert_array_equal(task._problem.pairs.left_weights, 1)
    tiny = make_task(cells=([0], [1], np.array([1e-40], np.float32)))
    assert np.isfinite(tiny._problem.pairs.right_weights).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"counts": [1, 0, 2]}, r"counts\[1\] is 0\.0 in float32; pass counts above 0"),
        ({"counts": [1, 2, -3]}, r"counts\[2\] is -3\.0"),
        ({"counts": [1, np.nan, 2]}, r"counts\[1\] is nan"),
        ({"counts": [1, 2]}, "counts has 2 entries for 3 items"),
        ({"left": [0, 1]}, "left has 2 rows and right 3"),
        ({"right": [0, 1, 9]}, "right goes from 0 to 9; pass items from 0 to 8"),
        ({"x_max": 0}, "x_max is 0; pass a number above 0"),
        ({"exponent": -1}, "exponent is -1; pass at least 0"),
        ({"bias0": np.zeros(3, np.float32)}, r"bias0 has shape \(3,\)"),
        ({"bias1": np.full(9, np.inf, np.float32)}, "bias1 holds values that are not finite"),
        ({"accumulators": (1, 2)}, "accumulators must be four arrays"),
        ({"syn1": np.zeros((9, 5), np.float32)}, "syn0 has dimension 12 and syn1 5"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    syn0, syn1 = random_tables(12, 9)
    given = {"left": [0, 1, 2], "right": [1, 2, 3], "counts": [1, 2, 3], "syn0": syn0}
    with pytest.raises(InputError, match=words):
        GloveTask(**{**given, "syn1": syn1, **change})


def test_one_table_has_one_bias_and_one_accumulator():
    bias = np.zeros(12, np.float32)
    assert make_task_with(None, bias, same=True).biases[0] is bias
    with pytest.raises(InputError, match="bias0 and bias1 are two; pass one"):
        make_task_with(bias, bias.copy(), same=True)
    two = make_task().accumulators
    with pytest.raises(InputError, match=r"accumulators\[1\] is a ndarray of shape \(9, 12\)"):
        make_task(True, accumulators=two)
    first, _, of_bias, _ = two
    with pytest.raises(InputError, match=r"accumulators\[0\] and accumulators\[1\] must be one"):
        make_task(True, accumulators=(first, first.copy(), of_bias, of_bias))
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_negative'"):
        make_task(num_negative=3)

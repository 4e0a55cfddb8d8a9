"""The callbacks that come with the package: measuring, stopping, and the best tables."""

import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
from samples import CountingTask, random_tables, supervised, tables_of, unsupervised

from itembed_gpu import CompoundTask, DivergenceError, InputError, UnsupervisedTask, train
from itembed_gpu.training.callbacks import EarlyStopping, Evaluator

NAN = math.nan


def quiet(task, *callbacks, num_epoch=10, **options):
    return train(task, num_epoch=num_epoch, callbacks=callbacks, progress=False, **options)


def listed(values):
    """A metric that takes these values, epoch by epoch."""
    return lambda state: values[state.record.epoch]


def stopping(values, patience=3, **options):
    """Train a task that has no tables, with a metric of these values."""
    callback = EarlyStopping(listed(values), patience, restore_best=False, **options)
    history = quiet(CountingTask(2), callback, num_epoch=len(values))
    return callback, history


# --- measuring --------------------------------------------------------------


def test_an_evaluator_keeps_what_it_measures():
    lines = []
    evaluator = Evaluator(lambda state: np.float32(state.record.epoch / 2), report=lines.append)
    history = quiet(CountingTask(2), evaluator, num_epoch=3)
    assert [record.metrics for record in history.epochs] == [
        {"metric": 0.0},
        {"metric": 0.5},
        {"metric": 1.0},
    ]
    assert all(type(record.metrics["metric"]) is float for record in history.epochs)
    assert lines[1:] == ["epoch 2 of 3: metric 0.5000", "epoch 3 of 3: metric 1.0000"]


def test_an_evaluator_may_measure_several_things():
    lines = []
    evaluator = Evaluator(lambda state: {"ndcg@10": 0.25, "mrr": NAN}, report=lines.append)
    named = Evaluator(lambda state: 1, "one")
    history = quiet(CountingTask(2), evaluator, named, num_epoch=1)
    assert history.metric_names == ["ndcg@10", "mrr", "one"]
    assert lines == ["epoch 1 of 1: ndcg@10 0.2500, mrr nan"]


@pytest.mark.parametrize(
    ("num_epoch", "measured"), [(1, [0]), (6, [0, 3, 5]), (7, [0, 3, 6]), (2, [0, 1])]
)
def test_an_evaluator_measures_now_and_then_and_at_both_ends(num_epoch, measured):
    history = quiet(CountingTask(2), Evaluator(lambda state: 1, every=3), num_epoch=num_epoch)
    assert [record.epoch for record in history.epochs if record.metrics] == measured


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "function is 3; pass a function"),
        ((abs, ""), "name is ''"),
        ((abs, "loss"), "name is 'loss'; pass a string that is none of epoch, loss"),
        ((abs, 7), "name is 7"),
    ],
)
def test_what_no_evaluator_can_use_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Evaluator(*arguments)
    with pytest.raises(InputError, match="every is 0"):
        Evaluator(abs, every=0)
    with pytest.raises(InputError, match="report is 'stderr'"):
        Evaluator(abs, report="stderr")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "metric 'metric' is None; return a number"),
        ({"a": [1, 2]}, r"metric 'a' is \[1, 2\]"),
        ({"seconds": 1}, "name of a metric is 'seconds'"),
        ({1: 1}, "name of a metric is 1"),
    ],
)
def test_what_an_evaluator_finds_must_be_numbers(value, message):
    with pytest.raises(InputError, match=message):
        quiet(CountingTask(2), Evaluator(lambda state: value))


def test_no_metric_is_written_over():
    with pytest.raises(InputError, match="epoch 1 has a metric 'metric' already"):
        quiet(CountingTask(2), Evaluator(lambda state: 1), Evaluator(lambda state: 2))


# --- stopping ---------------------------------------------------------------


def test_it_stops_after_as_many_epochs_without_improvement():
    callback, history = stopping([1, 3, 2, 2, 3, 2, 9], patience=3)
    assert len(history.epochs) == 5
    assert history.stopped
    assert callback.stopped
    assert (callback.best, callback.best_epoch, callback.num_bad) == (3, 1, 3)
    assert history.as_table()["metric"] == [1, 3, 2, 2, 3]


def test_an_improvement_starts_the_count_again():
    callback, history = stopping([1, 0, 2, 0, 3, 0, 0, 4], patience=2, name="hits")
    assert len(history.epochs) == 7
    assert callback.best_epoch == 4
    assert history.metric_names == ["hits"]


def test_it_need_not_stop():
    callback, history = stopping([1, 2, 3, 2, 2], patience=3)
    assert len(history.epochs) == 5
    assert not callback.stopped
    assert not history.stopped
    assert callback.num_bad == 2


def test_lower_may_be_better():
    callback, history = stopping([3, 2, 1, 2, 2, 0], patience=2, mode="min")
    assert callback.best_epoch == 2
    assert len(history.epochs) == 5


def test_small_improvements_are_none():
    callback, _ = stopping([1, 1.1, 1.2, 1.3], patience=2, min_delta=0.25)
    assert callback.stopped
    assert callback.best_epoch == 0
    callback, _ = stopping([1, 1.1, 1.3, 1.2], patience=2, min_delta=0.25)
    assert callback.best_epoch == 2
    callback, _ = stopping([1, 0.9, 0.7, 0.8], patience=2, min_delta=0.25, mode="min")
    assert callback.best_epoch == 2


def test_nan_is_no_improvement_and_is_warned_of_once(caplog):
    callback, history = stopping([NAN, -1, NAN, NAN, 5], patience=2)
    assert callback.best_epoch == 1
    assert len(history.epochs) == 4
    assert [record.message for record in caplog.records] == [
        "epoch 1: the metric to stop by is nan"
    ]
    callback, history = stopping([NAN, NAN, NAN], patience=2)
    assert (callback.best_epoch, len(history.epochs)) == (-1, 2)
    assert math.isnan(callback.best)


def test_infinite_values_are_compared():
    assert stopping([-math.inf, 0, math.inf, math.inf], patience=1)[0].best_epoch == 2


def test_the_loss_is_to_be_low():
    callback = EarlyStopping("loss", 2)
    assert callback.mode == "min"
    history = quiet(unsupervised(), callback, num_epoch=5, initial_learning_rate=0.1)
    losses = [record.loss for record in history.epochs]
    assert callback.best == min(losses)
    assert callback.best_epoch == losses.index(min(losses))
    assert history.metric_names == []
    assert EarlyStopping("loss", mode="max").mode == "max"


def test_the_metric_of_an_earlier_callback_counts_where_it_is_measured():
    values = [1, 0, 0, 0, 0, 0, 0, 0, 0]
    callback = EarlyStopping("hits", 2, restore_best=False)
    evaluator = Evaluator(listed(values), "hits", every=2)
    history = quiet(CountingTask(2), evaluator, callback, num_epoch=9)
    assert len(history.epochs) == 5  # bad after the epochs 2 and 4
    assert callback.best_epoch == 0


def test_a_metric_that_nobody_measures_is_told():
    evaluator = Evaluator(lambda state: 1, "hits")
    callback = EarlyStopping("hit", restore_best=False)
    with pytest.raises(InputError, match=r"metric is 'hit'.* but 'hits'; pass the callback"):
        quiet(CountingTask(2), evaluator, callback)
    with pytest.raises(InputError, match="but none"):
        quiet(CountingTask(2), EarlyStopping("hits", restore_best=False), evaluator)


def test_the_next_training_starts_afresh():
    callback = EarlyStopping(listed([5, 1, 1, 1]), 2, restore_best=False)
    quiet(CountingTask(2), callback)
    assert callback.stopped
    callback.metric = listed([0, 1, 2])
    history = quiet(CountingTask(2), callback, num_epoch=3)
    assert len(history.epochs) == 3
    assert (callback.best, callback.best_epoch, callback.num_bad) == (2, 2, 0)
    assert not callback.stopped


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": 3}, "metric is 3; pass a function or the name of a metric"),
        ({"patience": 0}, "patience is 0; pass an integer of at least 1"),
        ({"min_delta": -0.1}, "min_delta is -0.1; pass a number of at least 0"),
        ({"min_delta": NAN}, "min_delta is nan"),
        ({"mode": "best"}, "mode is 'best'; pass 'max' or 'min'"),
        ({"name": "epoch"}, "name is 'epoch'"),
    ],
)
def test_what_it_cannot_stop_by_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        EarlyStopping(**{"metric": abs, **options})


# --- the best tables --------------------------------------------------------


class Noted:
    """A callback that keeps the tables of every epoch."""

    def __init__(self, *tables):
        self.tables = tables
        self.epochs = []

    def on_epoch_end(self, state):
        self.epochs.append([table.copy() for table in self.tables])


def assert_equal(tables, expected):
    for table, values in zip(tables, expected, strict=True):
        assert np.array_equal(table, values)


@pytest.fixture(params=["unsupervised", "supervised", "compound"])
def make(request):
    """A function of options that returns a task and its tables."""

    def compound(**options):
        shared, other, labels = *random_tables(50), random_tables(30)[0]
        task = CompoundTask(
            unsupervised(tables=(shared, other), **options),
            supervised(tables=(shared, labels), **options),
        )
        return task, (shared, other, labels)

    def simple(maker):
        def make(**options):
            task = maker(**options)
            return task, tables_of(task)

        return make

    makers = {"unsupervised": simple(unsupervised), "supervised": simple(supervised)}
    return {**makers, "compound": compound}[request.param]


@pytest.mark.parametrize(
    ("values", "num_epoch"),
    [([1, 2, 0, 0, 0, 0], 4), ([1, 2, 0], 3), ([1, 0, 2], 3)],
    ids=["stopped", "last epoch", "best is last"],
)
def test_the_tables_end_as_they_were_at_the_best_epoch(make, device, values, num_epoch):
    task, tables = make(device=device)
    noted = Noted(*tables)
    callback = EarlyStopping(listed(values), 2)
    history = quiet(task, noted, callback, num_epoch=len(values))
    assert len(history.epochs) == num_epoch
    assert_equal(tables, noted.epochs[callback.best_epoch])
    assert not np.array_equal(tables[0], noted.epochs[0][0])
    # What is trained next goes on from there, also where a device has a copy.
    quiet(task, num_epoch=1, initial_learning_rate=0.0)
    assert_equal(tables, noted.epochs[callback.best_epoch])


def test_another_callback_may_stop_it():
    task = unsupervised()
    noted = Noted(*tables_of(task))
    callback = EarlyStopping(listed([2, 1, 1]), 3)
    quiet(task, callback, noted, lambda state: state.record.epoch == 1)
    assert_equal(tables_of(task), noted.epochs[0])


@pytest.mark.parametrize("where", [0.5, 1.5, 2.5])
def test_an_interruption_leaves_the_best_tables(where, caplog):
    class Interrupted(UnsupervisedTask):
        num_batch = 0

        def do_batch(self, learning_rate):
            super().do_batch(learning_rate)
            self.num_batch += 1
            if self.num_batch == int(where * len(self)):
                raise KeyboardInterrupt

    plain = unsupervised(batch_size=10)
    task = Interrupted(plain.items, plain.offsets, *tables_of(plain), batch_size=10, num_threads=1)
    noted = Noted(*tables_of(task))
    callback = EarlyStopping(listed([2, 1, 1]), 3)
    history = quiet(task, callback, noted)
    assert history.interrupted
    if where < 1:
        assert callback.best_epoch == -1
    else:
        assert_equal(tables_of(task), noted.epochs[0])
        assert caplog.records[-1].message == "the tables are put back to the best epoch, 1"
        assert caplog.records[-1].levelno == logging.WARNING


def test_an_interruption_before_any_record_does_not_bring_back_another_training():
    callback = EarlyStopping(listed([2, 1]), 3)
    quiet(unsupervised(), callback, num_epoch=2)
    task = CountingTask(3)
    task.do_batch = lambda rate: (_ for _ in ()).throw(KeyboardInterrupt)
    assert quiet(task, callback).interrupted


def test_tables_stay_where_they_are_if_asked():
    task = unsupervised()
    noted = Noted(*tables_of(task))
    quiet(task, noted, EarlyStopping(listed([2, 1, 1]), 2, restore_best=False))
    assert_equal(tables_of(task), noted.epochs[2])
    assert len(noted.epochs) == 3


def test_where_nothing_was_better_than_nan_the_tables_are_the_last():
    task = unsupervised()
    noted = Noted(*tables_of(task))
    quiet(task, noted, EarlyStopping(listed([NAN, NAN]), 2))
    assert_equal(tables_of(task), noted.epochs[1])


def test_accumulators_go_back_too(device):
    task = unsupervised(device=device, optimizer="adagrad")
    tables = [*tables_of(task), *task.accumulators]
    noted = Noted(*tables)
    callback = EarlyStopping(listed([1, 2, 0, 0]), 2)
    quiet(task, noted, callback)
    assert_equal(tables, noted.epochs[1])
    assert not np.array_equal(task.accumulators[0], noted.epochs[2][2])
    quiet(task, num_epoch=1, initial_learning_rate=0.0)
    assert_equal(tables[:2], noted.epochs[1][:2])


def test_other_state_of_a_task_goes_back_too():
    task = unsupervised()
    task.state_tables = [np.zeros(3)]
    callback = EarlyStopping(listed([2, 1, 1]), 2)

    def count(state):
        state.task.state_tables[0] += 1

    quiet(task, count, callback)
    assert (task.state_tables[0] == 1).all()


def test_a_task_of_ones_own_tells_its_tables():
    callback = EarlyStopping(listed([2, 1, 1]), 2)
    with pytest.raises(InputError, match="what a CountingTask trains is not known"):
        quiet(CountingTask(2), callback)
    with pytest.raises(InputError, match="what a CountingTask trains is not known"):
        quiet(CompoundTask(unsupervised(), CountingTask(2)), callback)

    task = CountingTask(2)
    task.state_tables = [np.zeros(3)]
    task.do_batch = lambda rate: np.add(task.state_tables[0], 1, out=task.state_tables[0])
    quiet(task, callback)
    assert (task.state_tables[0] == 2).all()


def test_a_table_is_kept_once():
    syn = random_tables()[0]
    task = unsupervised(tables=(syn, syn))
    callback = EarlyStopping(listed([1, 0]), 2)
    kept = []
    quiet(task, callback, lambda state: kept.append(len(callback._kept)), num_epoch=2)
    assert kept == [1, 1]
    assert callback._kept == []  # the memory is given back


def test_the_best_tables_outlive_a_failure():
    task = unsupervised()
    noted = Noted(*tables_of(task))
    callback = EarlyStopping(listed([2, 1, 1]), 3)

    def spoil(state):
        if state.record.epoch == 1:
            task.syn0[...] = NAN

    with pytest.raises(DivergenceError):
        quiet(task, noted, callback, spoil)
    callback.restore()
    assert_equal(tables_of(task), noted.epochs[0])


def test_without_best_tables_there_is_nothing_to_restore():
    callback = EarlyStopping(abs)
    with pytest.raises(InputError, match="no tables to restore"):
        callback.restore()


class DeviceArray:
    """As much of a CuPy array as is needed: it works where its device is the current one."""

    def __init__(self, values):
        self.values = values
        self.device = self
        self.current = False

    shape = property(lambda self: self.values.shape)
    strides = property(lambda self: self.values.strides)
    __cuda_array_interface__ = property(lambda self: self.values.__array_interface__)

    def __enter__(self):
        self.current = True

    def __exit__(self, *error):
        self.current = False

    def copy(self):
        assert self.current
        return self.values.copy()

    def __setitem__(self, key, values):
        assert self.current
        self.values[key] = values


def test_cupy_tables_are_copied_on_their_device():
    table = DeviceArray(np.zeros((3, 2), dtype=np.float32))
    task = SimpleNamespace(syn0=table, syn1=table)
    callback = EarlyStopping(abs)
    callback._keep(task)
    table.values += 1
    callback.restore()
    assert (table.values == 0).all()

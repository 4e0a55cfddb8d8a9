"""The training loop, and the CPU backend under it."""

import itertools
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import polars
import pytest
from samples import (
    DIM,
    NUM_NEGATIVE,
    CountingTask,
    random_itemsets,
    random_tables,
    supervised,
    tables_of,
    unsupervised,
)

import itembed_gpu
from itembed_gpu import CompoundTask, DivergenceError, InputError, train
from itembed_gpu.backends.cpu.task import SECONDS_PER_CALL, CpuTask
from itembed_gpu.checks import _VALUES_PER_CHECK, is_finite
from itembed_gpu.objective.constants import MAX_VALUE
from itembed_gpu.training.loop import COLUMNS, MAX_LOSS, EpochRecord, History, _Bar


def quiet(task, **options):
    return train(task, progress=False, **options)


# --- the loop ---------------------------------------------------------------


def test_learning_rates_fall_as_in_the_reference():
    task = CountingTask(4)
    quiet(task, num_epoch=3, initial_learning_rate=0.3, final_learning_rate=0.06)
    expected = [(0.06 - 0.3) * step / 12 + 0.3 for step in range(12)]
    assert task.rates == pytest.approx(expected)


def test_a_task_with_only_len_and_do_batch_trains():
    class Plain:
        calls = 0

        def __len__(self):
            return 5

        def do_batch(self, learning_rate):
            self.calls += 1

    task = Plain()
    history = quiet(task, num_epoch=3)
    assert task.calls == 15
    assert len(history.epochs) == 3
    assert math.isnan(history.loss)


def test_train_is_do_batch_with_the_scheduled_rates():
    fused, alone = unsupervised(batch_size=10), unsupervised(batch_size=10)
    quiet(fused, num_epoch=3)
    num_step = 3 * len(alone)
    for step in range(num_step):
        alone.do_batch(-0.025 * step / num_step + 0.025)
    assert np.array_equal(fused.syn0, alone.syn0)
    assert np.array_equal(fused.syn1, alone.syn1)


def test_runs_repeat_to_the_bit_on_one_thread():
    def compound():
        shared = random_tables(50)
        return CompoundTask(
            unsupervised(tables=shared), supervised(tables=(shared[0], random_tables(30)[0]))
        ), shared

    results = []
    for _ in range(2):
        task, tables = compound()
        quiet(task, num_epoch=4)
        results.append(tables)
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("num_threads", [1, 2])
def test_history(num_threads):
    task = unsupervised(num_threads=num_threads)
    history = quiet(task, num_epoch=6, initial_learning_rate=0.1)
    assert [record.epoch for record in history.epochs] == list(range(6))
    assert [record.num_pair for record in history.epochs] == [task.num_pair] * 6
    assert history.num_pair == 6 * task.num_pair
    assert history.seconds == sum(record.seconds for record in history.epochs) > 0
    assert history.epochs[0].learning_rate == 0.1
    assert not history.interrupted
    # Untrained tables give each of the k + 1 targets a logit of about zero.
    assert history.epochs[0].loss == pytest.approx((NUM_NEGATIVE + 1) * math.log(2), rel=0.02)
    assert history.loss < history.epochs[0].loss


def test_the_running_loss_is_the_loss():
    # Against the loss of all pairs, computed by hand; nothing moves at rate 0.
    items, offsets = random_itemsets(num_itemset=4000)
    syn0, syn1 = random_tables(dim=DIM)
    syn0 *= 30
    task = unsupervised(items, offsets, tables=(syn0, syn1 * 30), num_threads=2)
    history = quiet(task, num_epoch=30, initial_learning_rate=0.0)
    loss = np.mean([record.loss for record in history.epochs])
    logits = task.syn0 @ task.syn1.T
    negative = np.log1p(np.exp(logits))
    counts = np.bincount(items, minlength=50)
    expected = (negative.mean(axis=1) * counts).sum() / counts.sum() * NUM_NEGATIVE
    positive, num_pair = 0.0, 0
    for start, stop in itertools.pairwise(offsets):
        itemset = items[start:stop]
        block = np.log1p(np.exp(-logits[np.ix_(itemset, itemset)]))
        positive += (block.sum() - np.trace(block)) / (len(itemset) - 1)
        num_pair += len(itemset)
    assert loss == pytest.approx(expected + positive / num_pair, rel=0.02)


def test_no_epoch_is_no_training():
    task = unsupervised()
    before = task.syn0.copy()
    history = quiet(task, num_epoch=0)
    assert history.epochs == []
    assert np.array_equal(before, task.syn0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_epoch": -1}, "num_epoch is -1"),
        ({"num_epoch": 1.5}, "num_epoch is 1.5"),
        ({"initial_learning_rate": float("inf")}, "initial_learning_rate is inf"),
        ({"final_learning_rate": "low"}, "final_learning_rate is 'low'"),
        ({"callbacks": [3]}, "callbacks holds a int"),
        ({"callbacks": None}, "callbacks is a NoneType"),
        ({"initial_learning_rate": 1e39}, "learning_rate is"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        quiet(unsupervised(), **changes)


def test_train_refuses_what_is_no_task():
    with pytest.raises(InputError, match="task is a dict"):
        quiet({"a": 1})
    with pytest.raises(InputError, match="no batch"):
        quiet(CountingTask(0))


def test_callbacks_hear_of_every_epoch_and_may_stop():
    states, epochs = [], []

    class Stopper:
        def on_epoch_end(self, state):
            epochs.append(state.record.epoch)
            return state.record.epoch == 2

    history = quiet(unsupervised(), num_epoch=10, callbacks=[Stopper(), states.append])
    assert epochs == [0, 1, 2]
    assert [state.record.epoch for state in states] == [0, 1, 2]
    assert len(history.epochs) == 3
    assert history.stopped
    assert states[-1].history is history


def test_callbacks_hear_once_of_the_end():
    class Noted:
        def __init__(self):
            self.ends = []

        def on_epoch_end(self, state):
            return state.record.epoch == 2

        def on_train_end(self, state):
            self.ends.append((state.record, state.history.stopped))

    noted = Noted()
    history = quiet(unsupervised(), num_epoch=10, callbacks=[noted])
    assert noted.ends == [(history.epochs[-1], True)]
    quiet(unsupervised(), num_epoch=0, callbacks=[noted])
    assert len(noted.ends) == 1


def test_callbacks_hear_of_the_end_after_an_interruption_but_not_after_an_error():
    class Failing(CountingTask):
        def __init__(self, error):
            super().__init__(5)
            self.error = error

        def do_batch(self, learning_rate):
            super().do_batch(learning_rate)
            if len(self.rates) == 7:
                raise self.error

    class Noted:
        ends = 0

        def on_epoch_end(self, state):
            pass

        def on_train_end(self, state):
            assert state.history.interrupted
            self.ends += 1

    noted = Noted()
    assert quiet(Failing(KeyboardInterrupt), callbacks=[noted]).interrupted
    assert noted.ends == 1
    with pytest.raises(OSError, match="disk"):
        quiet(Failing(OSError("disk")), callbacks=[noted])
    assert noted.ends == 1


def test_what_callbacks_write_to_the_tables_is_trained_on(device):
    # On a device the tables are a copy, which must not win over the caller's.
    def overwrite(state):
        state.task.syn0[...] = state.record.epoch
        state.task.syn1[...] = 1

    task = unsupervised(device=device)
    seen = []

    def look(state):
        seen.append((task.syn0[0, 0], task.syn1[0, 0]))

    rates = {"initial_learning_rate": 0.0, "final_learning_rate": 0.0}
    quiet(task, num_epoch=3, callbacks=[look, overwrite], **rates)
    assert seen[1:] == [(0, 1), (1, 1)]
    assert (task.syn0 == 2).all()
    quiet(task, num_epoch=1, **rates)
    assert (task.syn0 == 2).all()


def test_seconds_leave_callbacks_out(monkeypatch):
    clock = itertools.count()
    skipped = []
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) + 1000 * len(skipped))
    history = quiet(CountingTask(4), num_epoch=3, callbacks=[skipped.append])
    assert len(skipped) == 3
    assert history.seconds < 1000


def test_history_as_a_table():
    def note(state):
        if state.record.epoch != 1:
            state.record.metrics["late" if state.record.epoch else "ndcg@10"] = 0.5

    history = quiet(unsupervised(), num_epoch=3, callbacks=[note])
    assert history.metric_names == ["ndcg@10", "late"]
    table = history.as_table()
    assert COLUMNS[:5] == ("epoch", "loss", "num_pair", "seconds", "learning_rate")
    assert list(table) == [*COLUMNS, "ndcg@10", "late"]
    assert table["epoch"] == [0, 1, 2]
    assert table["loss"] == [record.loss for record in history.epochs]
    assert table["ndcg@10"] == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)
    assert table["late"] == pytest.approx([math.nan, math.nan, 0.5], nan_ok=True)
    frame = polars.DataFrame(table)
    assert frame.shape == (3, len(table))
    assert frame["num_pair"].sum() == history.num_pair
    assert polars.DataFrame(History().as_table()).shape == (0, len(COLUMNS))


def test_a_metric_may_not_hide_a_column():
    def note(state):
        state.record.metrics["loss"] = 0.5

    history = quiet(unsupervised(), num_epoch=1, callbacks=[note])
    with pytest.raises(InputError, match="metrics holds 'loss'"):
        history.as_table()


def test_metrics_are_the_records_own():
    first, second = (quiet(unsupervised(), num_epoch=1).epochs[0] for _ in range(2))
    first.metrics["x"] = 1.0
    assert second.metrics == {}
    assert isinstance(hash(first), int)


def test_progress_leaves_callbacks_out_of_the_speed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    bar = _Bar(4, visible=True)
    for _ in range(2):
        clock[0] += 1
        bar.update(1, 10**6, 0.1, 0.0, 0)
        with bar.waiting():
            clock[0] += 1000
    bar._show()
    assert "1.00 Mpair/s" in bar._bar.postfix
    bar.close()


def test_progress_shows_speed_rate_and_loss(capfd):
    items, offsets = random_itemsets(num_itemset=100_000)
    train(unsupervised(items, offsets), num_epoch=3)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Mpair/s, lr " in shown.err
    assert "loss " in shown.err
    quiet(unsupervised())
    assert capfd.readouterr().err == ""


# --- divergence -------------------------------------------------------------


def test_divergence_is_noticed_within_the_epoch():
    task = unsupervised(weights=np.full(len(random_itemsets()[0]), -3.0))
    with pytest.raises(DivergenceError, match="lower learning rate"):
        quiet(task, num_epoch=1000, initial_learning_rate=1e4)
    assert task._num_done <= 60 * len(task)


def test_a_sample_counts_as_the_pairs_that_it_stands_for():
    items, offsets = random_itemsets(num_itemset=10_000)
    task = unsupervised(items, offsets)
    assert 8192 < task.num_pair < 1 << 19  # not all of them are in the sample
    task.do_batches(np.full(len(task), 0.0))
    tally = task._read_tally()
    assert tally.num_sample == pytest.approx(task.num_pair, abs=64)
    # The tables begin small: all logits are nearly 0.
    mean = tally.loss / tally.num_sample
    assert mean == pytest.approx((1 + NUM_NEGATIVE) * math.log(2), rel=1e-3)


def test_a_loss_that_is_finite_and_absurd_is_divergence():
    task = unsupervised(num_negative=2)
    at_random = 3 * math.log(2)
    # A pair of rows of ones has a logit of DIM: its negatives are off by hundreds.
    task.syn0[:], task.syn1[:] = 2.0, 3 * MAX_LOSS * at_random / DIM
    with pytest.raises(DivergenceError, match=r"epoch 1 is .* knows nothing has 2\.08.*max_step=4"):
        quiet(task, num_epoch=2, initial_learning_rate=1e-9)
    task.syn1[:] = MAX_LOSS * at_random / DIM / 10  # large, and still something to learn from
    assert len(quiet(task, num_epoch=2, initial_learning_rate=1e-9).epochs) == 2


def test_a_value_that_is_finite_and_absurd_is_divergence():
    task = unsupervised(optimizer="adagrad")
    task.accumulators[0][3] = 1e20  # a sum of squares, which may be so large
    quiet(task)
    task.syn0[:, 4], task.syn1[3, 4] = 0, 2 * MAX_VALUE  # which no loss tells
    with pytest.raises(DivergenceError, match="larger than 1e"):
        quiet(task, initial_learning_rate=0)


def test_one_bad_number_is_noticed():
    task = unsupervised()
    task.syn1[7, 3] = np.nan
    with pytest.raises(DivergenceError):
        quiet(task, num_epoch=5)
    assert task._num_done == len(task)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, _VALUES_PER_CHECK, -1])
def test_is_finite_sees_every_number(bad, where):
    table = np.full((_VALUES_PER_CHECK // 10 + 5, 13), -3e38, dtype=np.float32)
    assert is_finite(table)
    table.reshape(-1)[where] = bad
    assert not is_finite(table)


# --- interruption -----------------------------------------------------------


def test_ctrl_c_stops_softly(caplog):
    items, offsets = random_itemsets(num_itemset=20_000)
    task = unsupervised(items, offsets, num_threads=2)
    quiet(task, num_epoch=1)  # compiled

    def interrupt():
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with caplog.at_level(logging.WARNING, logger="itembed_gpu"):
        history = quiet(task, num_epoch=1_000_000)  # which would take an hour
    thread.join()
    assert history.interrupted
    (message,) = [record.message.split(":")[0] for record in caplog.records]
    num_epoch = len(history.epochs)
    assert message in [
        f"interrupted in epoch {epoch} of 1000000" for epoch in (num_epoch, num_epoch + 1)
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert np.isfinite(task.syn0).all()
    # No thread of the pool writes to the tables any more.
    after = task.syn0.copy()
    time.sleep(0.2)
    assert np.array_equal(after, task.syn0)


def test_an_interrupt_in_a_users_task_is_soft_too():
    class Interrupted(CountingTask):
        def do_batch(self, learning_rate):
            super().do_batch(learning_rate)
            if len(self.rates) == 7:
                raise KeyboardInterrupt

    task = Interrupted(5)
    history = quiet(task, num_epoch=100)
    assert history.interrupted
    assert len(task.rates) == 7
    assert len(history.epochs) == 2
    assert repr(history).endswith("s, interrupted)")


def test_an_interrupt_can_be_raised_once_all_is_in_order(caplog):
    task, ended = unsupervised(), []

    class Interrupting:
        def on_epoch_end(self, state):
            if state.record.epoch == 1:
                raise KeyboardInterrupt

        def on_train_end(self, state):
            ended.append(state.history)

    with pytest.raises(KeyboardInterrupt):
        quiet(task, callbacks=[Interrupting()], on_interrupt="raise")
    assert ended[0].interrupted
    assert "interrupted in epoch 2 of 10" in caplog.text
    assert task._num_done == 2 * len(task)
    with pytest.raises(InputError, match="on_interrupt is 'ignore'; pass one of 'stop', 'raise'"):
        quiet(task, on_interrupt="ignore")


def test_a_history_is_told_in_a_line():
    assert repr(History()) == "History(0 epochs)"
    one = EpochRecord(0, 4.15888, 1200, 0.25, 0.1)
    assert repr(History([one])) == "History(1 epoch, loss 4.159, 1,200 pairs, 0.25 s)"
    two = EpochRecord(1, 2.0, 1200, 0.5, 0.1)
    assert repr(History([one, two], stopped=True)) == (
        "History(2 epochs, loss 4.159 to 2, 2,400 pairs, 0.75 s, stopped)"
    )


def test_a_handler_of_the_callers_own_is_left_alone():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        task = big_task()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        history = quiet(task, num_epoch=150)
        while not seen:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted
    assert len(history.epochs) == 150


def test_training_starts_with_a_whole_epoch():
    # After a batch by hand, and after an interruption in the middle.
    task = unsupervised(batch_size=10)
    task.do_batch(0.01)
    assert quiet(task, num_epoch=1).num_pair == task.num_pair
    assert task._num_done == 2 * len(task)


def test_errors_of_a_task_are_not_swallowed():
    class Broken(CountingTask):
        def do_batch(self, learning_rate):
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        quiet(Broken(5))


# --- threads and processes --------------------------------------------------


def big_task(num_threads=2):
    return unsupervised(*random_itemsets(num_itemset=10_000), num_threads=num_threads)


def test_two_threads_train_at_once():
    expected = big_task(num_threads=1)
    quiet(expected, num_epoch=3)
    tasks = [big_task(num_threads=1) for _ in range(2)] + [big_task() for _ in range(2)]
    threads = [
        threading.Thread(target=quiet, args=(task,), kwargs={"num_epoch": 3}) for task in tasks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(tasks[0].syn0, expected.syn0)
    assert np.array_equal(tasks[1].syn0, expected.syn0)
    for task in tasks[2:]:
        assert np.corrcoef(task.syn0.ravel(), expected.syn0.ravel())[0, 1] > 0.9


def train_in_child(queue):
    task = big_task()
    history = quiet(task, num_epoch=2)
    queue.put((history.num_pair, bool(np.isfinite(task.syn0).all())))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads about
def test_a_forked_child_trains_after_the_parent_did():
    task = big_task()
    quiet(task, num_epoch=1)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=train_in_child, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == (2 * task.num_pair, True)


def noted_sizes(task, monkeypatch):
    """Sizes of the compiled calls of one batch."""
    sizes = []
    kernel = task._bound._kernel

    def noted(*args):
        start, stop = args[-2:]
        sizes.append(stop - start)
        return kernel(*args)

    monkeypatch.setattr(task._bound, "_kernel", noted)
    task.do_batch(0.0)
    return sizes


def test_calls_are_short_however_large_the_batch(monkeypatch):
    items, offsets = random_itemsets(num_itemset=20_000)
    task = unsupervised(items, offsets, batch_size=10**6, num_threads=1)
    task._prepare()
    monkeypatch.setattr(task._bound, "_pairs_per_second", 1e5)
    sizes = noted_sizes(task, monkeypatch)
    assert sum(sizes) == len(items)
    assert max(sizes) <= 1e5 * SECONDS_PER_CALL


def test_slow_pairs_go_to_all_threads(monkeypatch):
    # Few, but long: many negatives.
    items, offsets = random_itemsets(num_itemset=200)
    task = unsupervised(items, offsets, num_negative=500, batch_size=10**6, num_threads=2)
    task._prepare()
    assert len(noted_sizes(task, monkeypatch)) >= 2


def test_a_pause_is_not_taken_for_the_speed():
    bound = unsupervised()._bound
    known = bound._pairs_per_second
    bound._note_speed(1000, 1, 100.0)
    assert bound._pairs_per_second == known / 2
    for _ in range(20):
        bound._note_speed(10**6, 1, 0.2)
    assert bound._pairs_per_second == pytest.approx(5e6)


def test_work_goes_to_as_many_threads_as_asked(monkeypatch):
    names = set()
    task = big_task(num_threads=3)
    kernel = task._bound._kernel

    def noted(*args):
        names.add(threading.current_thread().name)
        time.sleep(0.001)
        return kernel(*args)

    monkeypatch.setattr(task._bound, "_kernel", noted)
    monkeypatch.setattr(CpuTask, "_pairs_per_call", 64 * 10)
    quiet(task, num_epoch=1)
    assert names == {threading.current_thread().name, "itembed_gpu-1", "itembed_gpu-2"}


def test_an_error_on_a_thread_is_raised_here(monkeypatch):
    # Readers of chunks that other tests trained may still be there.
    before = set(threading.enumerate())
    task = big_task()
    task._prepare()

    def broken(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(task._bound, "_kernel", broken)
    with pytest.raises(MemoryError, match="no room"):
        quiet(task, num_epoch=1)
    started = set(threading.enumerate()) - before
    assert not [t for t in started if t.name.startswith("itembed_gpu-")]


def test_a_thread_goes_on_when_the_main_thread_has_ended():
    script = textwrap.dedent("""
        import threading, numpy as np, itembed_gpu as ig
        syns = ig.initialize_syn(50, 12, seed=1), ig.initialize_syn(50, 12, "zero")
        items = np.random.default_rng(0).integers(0, 50, 200_000)
        task = ig.UnsupervisedTask(
            items, np.arange(0, 200_001, 5), *syns, num_negative=3, num_threads=2
        )
        run = lambda: print(ig.train(task, num_epoch=20, progress=False).num_pair)
        threading.Thread(target=run).start()
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == str(20 * 200_000), done.stderr


def test_the_code_runs_as_python_too():
    # For debuggers and coverage; slow, and the same pairs.
    script = textwrap.dedent("""
        import numpy as np, itembed_gpu as ig
        np.seterr(over="ignore")
        syns = ig.initialize_syn(50, 12, seed=1), ig.initialize_syn(50, 12, seed=2)
        task = ig.UnsupervisedTask(
            np.arange(50), [0, 20, 50], *syns, num_negative=3, seed=4, num_threads=1
        )
        ig.train(task, num_epoch=2, progress=False)
        print(repr(float(syns[0].sum())))
    """)
    sums = [
        float(
            subprocess.run(
                [sys.executable, "-c", script],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            ).stdout
        )
        for disabled in ("0", "1")
    ]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)


def test_compiled_code_is_kept_on_disk(tmp_path):
    script = textwrap.dedent("""
        import numpy as np, itembed_gpu as ig
        syn = ig.initialize_syn(10, 9, seed=0)
        task = ig.UnsupervisedTask(np.arange(10), [0, 5, 10], syn, syn.copy(), num_negative=2)
        ig.train(task, num_epoch=1, progress=False)
        print(*task._bound._kernel.stats.cache_hits.values())
    """)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    hits = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert hits == ["", "1"]


def test_the_number_of_threads_follows_numba():
    script = "import itembed_gpu; print(itembed_gpu.available_backends()[0].detail)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "1"},
    )
    assert "1 thread" in done.stdout
    assert [backend.name for backend in itembed_gpu.available_backends()] == ["cpu", "cuda"]


def test_tables_are_trained_in_place():
    task = unsupervised()
    kept = tables_of(task)
    quiet(task)
    assert kept[0] is task.syn0

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

import numba
import numpy as np
import pytest
from conftest import DIM, NUM_NEGATIVE, random_itemsets, random_tables
from test_tasks import CountingTask, supervised, tables_of, unsupervised

import itembed_gpu
from itembed_gpu import CompoundTask, DivergenceError, InputError, UnsupervisedTask, cpu, train
from itembed_gpu.cpu import VALUES_PER_CHECK, CpuTask, is_finite


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


def test_one_bad_number_is_noticed():
    task = unsupervised()
    task.syn1[7, 3] = np.nan
    with pytest.raises(DivergenceError):
        quiet(task, num_epoch=5)
    assert task._num_done == len(task)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1234, -1])
def test_is_finite_sees_every_number(bad, where):
    table = np.full((VALUES_PER_CHECK // 1000 + 5, 1003), -3e38, dtype=np.float32)
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
    began = time.perf_counter()
    with caplog.at_level(logging.WARNING, logger="itembed_gpu"):
        history = quiet(task, num_epoch=1_000_000)
    assert time.perf_counter() - began < 5  # the run itself would take an hour
    thread.join()
    assert history.interrupted
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"interrupted in epoch {len(history.epochs)} of 1000000"
    ]
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


def test_calls_are_short_however_large_the_batch(monkeypatch):
    # One batch of many pairs, many negatives: cut into calls of about 50 ms.
    items, offsets = random_itemsets(num_itemset=20_000)
    task = UnsupervisedTask(
        items, offsets, *random_tables(dim=256), num_negative=50, batch_size=10**6, num_threads=1
    )
    task.do_batch(0.0)  # compiled, and the speed is known
    seconds = []
    kernel = task._bound._kernel

    def timed(*args):
        began = time.perf_counter()
        result = kernel(*args)
        seconds.append(time.perf_counter() - began)
        return result

    monkeypatch.setattr(task._bound, "_kernel", timed)
    task.do_batch(0.0)
    assert len(seconds) >= 3
    assert np.median(seconds) < 0.2


def test_work_goes_to_as_many_threads_as_asked(monkeypatch):
    names = set()
    task = big_task(num_threads=3)
    kernel = task._bound._kernel

    def noted(*args):
        names.add(threading.current_thread().name)
        return kernel(*args)

    monkeypatch.setattr(task._bound, "_kernel", noted)
    monkeypatch.setattr(CpuTask, "_pairs_per_call", 64 * 40)
    quiet(task, num_epoch=1)
    assert len({name for name in names if name.startswith("itembed_gpu")}) == 3


def test_compiled_code_is_kept_on_disk(tmp_path):
    script = textwrap.dedent("""
        import numpy as np, itembed_gpu as ig
        from itembed_gpu.cpu import make_kernel
        syn = ig.initialize_syn(10, 9, seed=0)
        task = ig.UnsupervisedTask(np.arange(10), [0, 5, 10], syn, syn.copy(), num_negative=2)
        ig.train(task, num_epoch=1, progress=False)
        print(*make_kernel(9, 2, True).stats.cache_hits.values())
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


def test_code_is_compiled_also_where_no_folder_can_be_written(monkeypatch):
    asked = []

    def no_folder(*, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(cpu, "njit", no_folder)
    assert cpu._compile(lambda x: x + 1)(2) == 3
    assert asked == [True, False]


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

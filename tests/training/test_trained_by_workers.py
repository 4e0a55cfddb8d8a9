"""Training by the workers of a cluster comes to what one machine does, to the bit."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest
from samples import random_itemsets, random_tables

from itembed_gpu import (
    CompoundTask,
    DataError,
    DeviceError,
    DivergenceError,
    InputError,
    ListedTask,
    UnsupervisedTask,
    train,
)
from itembed_gpu.training import checkpoints, cluster, tasks
from itembed_gpu.training.partitioned import Blocks

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

# Workers have what is compiled for their options, so that this process should as well.
pytestmark = pytest.mark.compiled_in

NUM_ITEM, NUM_WORKER = 40, 2
SETTINGS = {"num_negative": 3, "seed": 5, "num_threads": 1, "partitions": 4, "device": "cpu"}


@contextlib.contextmanager
def started():
    with (
        distributed.LocalCluster(
            n_workers=NUM_WORKER, threads_per_worker=1, dashboard_address=":0", silence_logs=50,
            memory_limit=0,
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


@pytest.fixture(scope="module")
def client():
    with started() as client:
        yield client


@pytest.fixture(autouse=True)
def as_many_on_one_machine(monkeypatch):
    """Have one machine train blocks in the order of so many workers."""
    monkeypatch.setattr(
        tasks, "Blocks", lambda problem, num_part: Blocks(problem, num_part, NUM_WORKER)
    )


def unsupervised(**options):
    items, offsets = random_itemsets(NUM_ITEM, 400, 2, 6)
    syn0, syn1 = random_tables(NUM_ITEM)
    if options.pop("one_table", False):
        syn1 = syn0
    return UnsupervisedTask(items, offsets, syn0, syn1, **SETTINGS | options)


def listed(**options):
    left, right = np.random.default_rng(1).integers(0, NUM_ITEM, (2, 900))
    values = np.random.default_rng(2).uniform(0.5, 2, 900)
    return ListedTask(left, right, *random_tables(NUM_ITEM), values=values, **SETTINGS | options)


def learn(task, num_epoch=2, rate=0.05, **how):
    history = train(task, num_epoch=num_epoch, initial_learning_rate=rate, progress=False, **how)
    return history, {name: np.array(a) for name, a in task._problem.arrays.items()}


def assert_same(one, other):
    for (history, arrays), (their, others) in [(one, other)]:
        assert history.num_pair == their.num_pair
        assert [e.num_dropped for e in history.epochs] == [e.num_dropped for e in their.epochs]
        np.testing.assert_allclose(history.loss, their.loss, rtol=1e-6)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (unsupervised, {"optimizer": "adagrad", "noise_exponent": 0.75, "subsample": 0.02}),
        (unsupervised, {"one_table": True, "window": 2}),
        (listed, {"negative_sharing": 4, "partitions": 3}),
    ],
)
def test_workers_come_to_the_same_to_the_bit(client, make, options):
    assert_same(learn(make(**options), client=client), learn(make(**options)))


def test_a_worker_that_dies_changes_nothing(client):
    """SIGKILL at some moment; its tasks are run again, and the nanny starts another worker."""
    expected = learn(unsupervised(), 4)
    stop = threading.Event()
    killed = []

    def kill():
        while not stop.wait(0.7) and len(killed) < 2:
            pids = list(client.run(os.getpid).values())
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        found = learn(unsupervised(), 4, client=client)
    finally:
        stop.set()
        thread.join()
    assert killed
    assert_same(found, expected)
    client.wait_for_workers(NUM_WORKER)


def test_what_is_stuck_again_while_it_is_sent_again_comes_through(client, monkeypatch):
    """Where workers die while others do again what was lost: all of it is sent once more."""
    calls, result = iter(range(10**6)), cluster.ClusterTask._result

    def some_are_stuck(self, future):
        if next(calls) % 50 in (20, 21, 22):
            raise cluster._Stuck
        return result(self, future)

    monkeypatch.setattr(cluster.ClusterTask, "_result", some_are_stuck)
    found = learn(unsupervised(), 3, client=client)
    assert next(calls) > 50
    assert_same(found, learn(unsupervised(), 3))


@pytest.fixture(scope="module")
def watched():
    """Return a client of workers that have to answer within seconds."""
    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}), started() as client:
        yield client


def test_a_worker_that_hangs_changes_nothing(watched):
    """SIGSTOP of one; the scheduler hears nothing of it, and has it killed and started again."""
    expected = learn(unsupervised(), 3)
    stopped = []

    def stop(state):
        if not stopped:
            stopped.append(next(iter(watched.run(os.getpid).values())))
            os.kill(stopped[0], signal.SIGSTOP)

    assert_same(learn(unsupervised(), 3, client=watched, callbacks=[stop]), expected)


def test_that_there_are_no_workers_any_more_is_told(watched, monkeypatch):
    def end(state):
        watched.cluster.scale(0)
        while watched.nthreads():
            time.sleep(0.02)

    monkeypatch.setattr(cluster, "WORKER_PATIENCE", 0.5)
    with pytest.raises(DeviceError, match=r"client: it has had no worker for 0\.5 s; start some"):
        learn(unsupervised(), client=watched, callbacks=[end])
    watched.cluster.scale(NUM_WORKER)
    watched.wait_for_workers(NUM_WORKER)


def test_callbacks_see_the_tables_and_what_they_write_counts(client):
    def halve(state):
        state.task.syn0[...] *= 0.5

    expected = learn(unsupervised(), callbacks=[halve])
    assert_same(learn(unsupervised(), callbacks=[halve], client=client), expected)


def test_a_training_goes_on_from_a_checkpoint(client, tmp_path):
    expected = learn(unsupervised(), 3)
    how = {"checkpoint": tmp_path / "night", "client": client}
    plan = {"num_epoch": 3, "initial_learning_rate": 0.05, "progress": False}

    class Interrupt:
        def __call__(self, state):
            if state.record.epoch == 0:
                signal.raise_signal(signal.SIGINT)

    history = train(unsupervised(), **plan, **how, callbacks=[Interrupt()])
    assert history.interrupted
    assert len(history.epochs) == 1
    assert_same(learn(unsupervised(), 3, resume=True, **how), expected)


def test_where_the_scheduler_is_lost_a_checkpoint_goes_on(client, tmp_path):
    def close(state):
        if state.record.epoch == 1:
            lost.cluster.close()

    folder = tmp_path / "night"
    told = r"its scheduler is lost.*as of the last callback or checkpoint"
    with started() as lost, pytest.raises(DeviceError, match=told):
        learn(unsupervised(), 4, client=lost, checkpoint=folder, callbacks=[close])
    found = learn(unsupervised(), 4, client=client, checkpoint=folder, resume=True)
    assert_same(found, learn(unsupervised(), 4))


def test_tables_on_the_disk_are_never_copied_to_the_memory_of_the_client(
    client, tmp_path, monkeypatch
):
    def mapped():
        tables = []
        for name, table in zip(("syn0", "syn1"), random_tables(NUM_ITEM), strict=True):
            path = tmp_path / f"{name}.npy"
            np.save(path, table)
            tables.append(np.load(path, mmap_mode="r+"))
        return UnsupervisedTask(*random_itemsets(NUM_ITEM, 400, 2, 6), *tables, **SETTINGS)

    def fail(state):
        if state.record.epoch == 1:
            raise RuntimeError("enough")

    how = {"checkpoint": tmp_path / "night", "client": client}
    expected = learn(unsupervised(), 3)
    monkeypatch.setattr(checkpoints, "_copied", None)
    with pytest.raises(RuntimeError, match="enough"):
        learn(mapped(), 3, **how, callbacks=[fail])
    found = learn(mapped(), 3, **how, resume=True)
    assert_same(found, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "syn0.npy"), expected[1]["syn0"])


def test_what_workers_are_told_holds_no_tables(tmp_path):
    items, offsets = random_itemsets(NUM_ITEM, 400, 2, 6)
    task = UnsupervisedTask(items, offsets, *random_tables(2000, dim=64), **SETTINGS)
    job = cluster.write_job(Blocks(task._problem, 4), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000
    assert len(cluster._open_job(job).problem.left) == 2000


def test_tables_are_left_alone_where_training_diverges(client):
    task = unsupervised()
    before = task.syn0.copy(), task.syn1.copy()
    with pytest.raises(DivergenceError, match="Nothing was written back"):
        learn(task, rate=1e12, client=client)
    np.testing.assert_array_equal(task.syn0, before[0])
    np.testing.assert_array_equal(task.syn1, before[1])


def test_parts_are_cleared_away(client, tmp_path):
    learn(unsupervised(), client=client, cluster_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_trained_by_workers_says_so(client, tmp_path):
    with pytest.raises(
        InputError, match="partitions is 1, and a client is given; pass partitions=4"
    ):
        learn(unsupervised(partitions=1), client=client)
    with pytest.raises(InputError, match="CompoundTask cannot be cut into partitions"):
        train(CompoundTask(unsupervised(partitions=1)), client=client, progress=False)
    with pytest.raises(InputError, match="cluster_folder is given and client is None"):
        learn(unsupervised(), cluster_folder=tmp_path)
    with pytest.raises(
        InputError, match=r"cluster_folder is .*missing, and there is no such folder"
    ):
        learn(unsupervised(), client=client, cluster_folder=tmp_path / "missing")
    with pytest.raises(InputError, match="client is 'tcp://a:1'"):
        learn(unsupervised(), client="tcp://a:1")
    with pytest.raises(DataError, match=r"cluster_folder is .* does not see; pass a folder that"):
        cluster._open_job(cluster.Job(str(tmp_path / "elsewhere"), "another"))


def test_a_folder_that_cannot_be_written_to_is_named(client, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(DataError, match=f"{tmp_path}.*No space left on device.*cluster_folder"):
        learn(unsupervised(), client=client, cluster_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []

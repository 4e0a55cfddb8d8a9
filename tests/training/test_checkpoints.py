"""Checkpoints: a training that was interrupted and gone on with is one that never was."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors import SafetensorError

from itembed_gpu.disk.folders import sealed
from itembed_gpu.errors import DataError, DivergenceError, InputError
from itembed_gpu.models.verify import verify
from itembed_gpu.training.callbacks import EarlyStopping, Evaluator
from itembed_gpu.training.checkpoints import KIND, Checkpoints
from itembed_gpu.training.loop import train
from itembed_gpu.training.tasks import CompoundTask, SupervisedTask, UnsupervisedTask

NUM_LABEL, DIM, NUM_EPOCH = 30, 8, 5


@pytest.fixture(autouse=True)
def usual_signals():
    """Ctrl-C as Python has it: in the background, shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def packed(seed=0, num_itemset=300):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 6, num_itemset)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return generator.integers(0, NUM_LABEL, offsets[-1]).astype(np.int32), offsets


def tables():
    generator = np.random.default_rng(1)
    return [generator.normal(0, 0.1, (NUM_LABEL, DIM)).astype(np.float32) for _ in range(2)]


def unsupervised(seed=3, device="cpu", **options):
    return UnsupervisedTask(
        *packed(), *tables(), seed=seed, num_threads=1, device=device, **options
    )


def supervised(**options):
    return SupervisedTask(*packed(), *packed(), *tables(), seed=3, num_threads=1, **options)


def compound():
    syn0, syn1 = tables()
    shorter = packed(2, 100)
    return CompoundTask(
        UnsupervisedTask(*packed(), syn0, syn1, seed=3, num_threads=1),
        UnsupervisedTask(*shorter, syn0, syn1, seed=4, num_threads=1, batch_size=32),
    )


SOFTMAX = {
    "loss": "softmax", "pooling": "mean", "similarity": "cosine", "temperature": 0.1,
    "optimizer": "adam", "dropout": 0.2, "reject_itemset": True, "batch_size": 64,
}  # fmt: skip

TASKS = {
    "unsupervised": unsupervised,
    "supervised": supervised,
    "compound": compound,
    "adagrad": lambda: unsupervised(optimizer="adagrad"),
    "sharing": lambda: unsupervised(negative_sharing=8),
    "subsample": lambda: unsupervised(subsample=0.01, noise_exponent=0.75),
    "chunks": lambda: unsupervised(chunk_size=100),
    "partitions": lambda: unsupervised(partitions=3, optimizer="adagrad"),
    "softmax": lambda: unsupervised(**SOFTMAX),
    "sampled-softmax": lambda: unsupervised(**SOFTMAX, num_negative=10),
}


def arrays_of(task):
    if isinstance(task, CompoundTask):
        return [array for part in task.tasks for array in arrays_of(part)]
    names = ("syn0", "syn1", "left_syn", "right_syn")
    return [getattr(task, n) for n in names if hasattr(task, n)] + list(task.accumulators or ())


def run(task, folder=None, **options):
    options = {"progress": False, **options}
    return train(task, num_epoch=NUM_EPOCH, initial_learning_rate=0.1, checkpoint=folder, **options)


class Raise:
    """A signal, sent to oneself at the end of an epoch or in the middle of one."""

    def __init__(self, epoch, number=signal.SIGINT):
        self.epoch, self.number = epoch, number

    def __call__(self, state):
        if state.record.epoch == self.epoch:
            signal.raise_signal(self.number)


def interrupt_after(monkeypatch, num_call):
    """Have Ctrl-C come after so many calls of training, wherever in an epoch that is."""
    from itembed_gpu.training import tasks

    calls = []
    original = tasks._FusedTask._train_batches
    monkeypatch.setattr(tasks._PackedTask, "_batches_per_call", 1)

    def train_batches(self, rates, stream):
        result = original(self, rates, stream)
        calls.append(0)
        if len(calls) == num_call:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(tasks._FusedTask, "_train_batches", train_batches)


def assert_same(task, other):
    for one, two in zip(arrays_of(task), arrays_of(other), strict=True):
        np.testing.assert_array_equal(one, two)


def assert_same_history(one, two):
    assert [r.num_pair for r in one.epochs] == [r.num_pair for r in two.epochs]
    assert [r.learning_rate for r in one.epochs] == [r.learning_rate for r in two.epochs]
    np.testing.assert_allclose([r.loss for r in one.epochs], [r.loss for r in two.epochs])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("when", ["end", "middle"])
def test_a_resumed_training_is_one_that_was_never_interrupted(tmp_path, monkeypatch, name, when):
    whole = TASKS[name]()
    expected = run(whole)
    with monkeypatch.context() as patch:
        if when == "middle":
            # A compound task calls those of its parts; one in parts has more batches.
            interrupt_after(patch, {"compound": 24, "partitions": 12}.get(name, 8))
        part = TASKS[name]()
        history = run(part, tmp_path, callbacks=[Raise(1)] if when == "end" else [])
    assert history.interrupted
    assert len(history.epochs) == 2
    index = json.loads((tmp_path / KIND.index).read_text())
    assert index["place"]["epoch"] == (2 if when == "end" else 1)
    assert (index["place"]["batch"] > 0) == (when == "middle")
    resumed = TASKS[name]()
    history = run(resumed, tmp_path, resume=True)
    assert_same(resumed, whole)
    assert_same_history(history, expected)
    assert not history.interrupted
    # And a job that is done is done.
    again = TASKS[name]()
    assert_same_history(run(again, tmp_path, resume=True), expected)
    assert_same(again, whole)


def test_an_interrupt_that_is_raised_leaves_a_checkpoint(tmp_path):
    whole, resumed = unsupervised(), unsupervised()
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(unsupervised(), tmp_path, callbacks=[Raise(1)], on_interrupt="raise")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    history = run(resumed, tmp_path, resume=True)
    assert [record.epoch for record in history.epochs] == list(range(NUM_EPOCH))
    assert_same(resumed, whole)


def test_tables_that_diverged_are_no_checkpoint_of_an_interrupt(tmp_path, monkeypatch):
    run(unsupervised(), tmp_path, callbacks=[Raise(0)])
    before = (tmp_path / KIND.index).read_bytes()
    interrupt_after(monkeypatch, 1)
    task = unsupervised()
    original = type(task)._train_batches

    def diverge(self, rates, stream):
        result = original(self, rates, stream)
        self.syn0[0, 0] = 2e9
        return result

    monkeypatch.setattr(type(task), "_train_batches", diverge)
    with pytest.raises(DivergenceError, match="larger than"):
        run(task, tmp_path, resume=True)
    assert (tmp_path / KIND.index).read_bytes() == before


def test_a_training_that_is_done_shows_no_learning_rate(tmp_path, capfd):
    run(unsupervised(), tmp_path)
    run(unsupervised(), tmp_path, resume=True, progress=True)
    shown = capfd.readouterr().err
    assert "100%" in shown
    assert "lr " not in shown


def test_checkpoints_do_not_change_what_is_learned(tmp_path):
    plain, kept = unsupervised(), unsupervised()
    run(plain)
    run(kept, tmp_path, checkpoint_every=2)
    assert_same(plain, kept)


def test_checkpoints_come_as_often_as_asked(tmp_path, monkeypatch):
    epochs = []
    monkeypatch.setattr(Checkpoints, "write", lambda self, place, **_: epochs.append(place.epoch))
    run(unsupervised(), tmp_path, checkpoint_every=2)
    assert epochs == [2, 4, 5]


def test_an_emulated_gpu_goes_on_as_well(tmp_path, one_tile):
    whole, resumed = unsupervised(device="cuda"), unsupervised(device="cuda")
    run(whole)
    run(unsupervised(device="cuda"), tmp_path, callbacks=[Raise(1)])
    history = run(resumed, tmp_path, resume=True)
    assert [record.epoch for record in history.epochs] == list(range(NUM_EPOCH))
    for one, two in zip(arrays_of(resumed), arrays_of(whole), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_early_stopping_goes_on(tmp_path):
    values = [1.0, 3.0, 2.0, 1.0, 0.0]

    def callbacks():
        return [
            Evaluator(lambda state: values[state.record.epoch], "value"),
            EarlyStopping("value", patience=3),
        ]

    whole, resumed = unsupervised(), unsupervised()
    expected = run(whole, callbacks=callbacks())
    run(unsupervised(), tmp_path, callbacks=[*callbacks(), Raise(2)])
    again = callbacks()
    history = run(resumed, tmp_path, resume=True, callbacks=again)
    assert history.stopped
    assert expected.stopped
    assert again[1].best_epoch == 1
    assert_same(resumed, whole)  # both put back to the best epoch
    assert history.as_table()["value"] == values
    # Once more, from the end: the best tables are put back again.
    done = unsupervised()
    assert run(done, tmp_path, resume=True, callbacks=callbacks()).stopped
    assert_same(done, whole)


# --- what is refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (lambda: unsupervised(seed=4), {}, "its seed is 3, and here it is 4"),
        (lambda: unsupervised(num_negative=7), {}, "its num_negative is 5, and here it is 7"),
        (lambda: unsupervised(window=2), {}, r"its num_pair is \d+, and here it is \d+"),
        (compound, {}, "of another job"),
        (unsupervised, {"num_epoch": 9}, "its num_epoch is 5, and here it is 9"),
    ],
)
def test_a_checkpoint_of_another_job(tmp_path, task, options, message):
    run(unsupervised(), tmp_path)
    other = task()
    before = [array.copy() for array in arrays_of(other)]
    with pytest.raises(InputError, match=message):
        train(
            other, checkpoint=tmp_path, resume=True, progress=False,
            **{"num_epoch": NUM_EPOCH, "initial_learning_rate": 0.1, **options},
        )  # fmt: skip
    assert all(map(np.array_equal, arrays_of(other), before))


def test_other_itemsets_are_another_job(tmp_path):
    run(unsupervised(), tmp_path)
    items, offsets = packed()
    items[-1] = (items[-1] + 1) % NUM_LABEL
    other = UnsupervisedTask(items, offsets, *tables(), seed=3, num_threads=1)
    with pytest.raises(InputError, match="checksum of the itemsets"):
        run(other, tmp_path, resume=True)


def test_what_cannot_be_asked(tmp_path):
    run(unsupervised(), tmp_path / "a")
    with pytest.raises(InputError, match=r"holds one already; pass resume=True"):
        run(unsupervised(), tmp_path / "a")
    with pytest.raises(InputError, match="resume is True and checkpoint is None"):
        run(unsupervised(), resume=True)
    with pytest.raises(InputError, match="checkpoint_every is 0"):
        run(unsupervised(), tmp_path / "b", checkpoint_every=0)
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="holds 'a', which is not of a checkpoint"):
        run(unsupervised(), tmp_path)

    class Own:
        def __len__(self):
            return 3

        def do_batch(self, learning_rate):
            pass

    with pytest.raises(InputError, match="a part of your own"):
        run(CompoundTask(unsupervised(), Own()), tmp_path / "b")


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path):
    run(unsupervised(), tmp_path)
    [path] = tmp_path.glob("tensors-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    task = unsupervised()
    before = task.syn0.copy()
    with pytest.raises(DataError, match="were altered"):
        run(task, tmp_path, resume=True)
    assert np.array_equal(task.syn0, before)


def test_a_full_disk_is_told_and_leaves_the_one_before(tmp_path, monkeypatch):
    whole = unsupervised()
    run(whole)
    run(unsupervised(), tmp_path, callbacks=[Raise(0)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("itembed_gpu.training.checkpoints.write_tensors", full)
        task = unsupervised()
        with pytest.warns(UserWarning, match="not written, and training goes on: .* No space left"):
            history = run(task, tmp_path, resume=True)
        assert len(history.epochs) == NUM_EPOCH
        assert_same(task, whole)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(run(unsupervised(), tmp_path, resume=True).epochs) == NUM_EPOCH


def test_a_full_disk_is_told_as_safetensors_does(tmp_path, monkeypatch):
    """Its error is none of the system's."""

    def full(tensors, path):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    task = unsupervised()
    with pytest.warns(UserWarning, match="No space left on device; nothing was saved"):
        assert len(run(task, tmp_path / "data").epochs) == NUM_EPOCH
    assert not (tmp_path / "data").exists()
    whole = unsupervised()
    run(whole)
    assert_same(task, whole)


def test_without_memory_for_a_copy_training_goes_on(tmp_path, monkeypatch):
    def full(table):
        raise MemoryError

    monkeypatch.setattr("itembed_gpu.training.checkpoints._copied", full)
    with pytest.warns(UserWarning, match="training goes on: out of memory"):
        assert len(run(unsupervised(), tmp_path).epochs) == NUM_EPOCH


def test_an_edited_place_is_found(tmp_path):
    run(unsupervised(), tmp_path, callbacks=[Raise(1)])
    change(tmp_path, lambda index: index["place"].update(epoch=3), seal=False)
    with pytest.raises(DataError, match=r"checkpoint.json: was altered"):
        run(unsupervised(), tmp_path, resume=True)


def change(folder, edit, seal=True):
    path = folder / KIND.index
    index = json.loads(path.read_text())
    edit(index)
    path.write_text(json.dumps(sealed(index) if seal else index))


@pytest.mark.parametrize(
    "place",
    [
        {"epoch": NUM_EPOCH + 1},
        {"epoch": -1},
        {"epoch": 1.0},
        {"batch": 10**9},
        {"batch": -1},
        {"done": [1, 2]},
        {"done": [-1]},
        {"done": 3},
        {"records": [{}]},
        {"records": [{"what": 1}]},
        {"partial": {}},
        {"partial": 3},
        {"stopped": None},
        {"more": 1},
    ],
    ids=str,
)
def test_a_place_that_is_none_of_the_training_is_refused(tmp_path, place):
    """As a stranger makes them: the checksum is right."""
    run(unsupervised(), tmp_path, callbacks=[Raise(1)])
    change(tmp_path, lambda index: index["place"].update(place))
    task = unsupervised()
    before = [array.copy() for array in arrays_of(task)]
    with pytest.raises(DataError, match="does not fit this training"):
        run(task, tmp_path, resume=True)
    assert all(map(np.array_equal, arrays_of(task), before))


def test_a_callback_that_finds_no_state_of_its_own_is_told(tmp_path):
    run(unsupervised(), tmp_path, callbacks=[EarlyStopping("loss"), Raise(1)])
    change(tmp_path, lambda index: index["callbacks"][0].pop("best"))
    task = unsupervised()
    before = task.syn0.copy()
    with pytest.raises(DataError, match=r"does not fit this training \('best'\)"):
        run(task, tmp_path, resume=True, callbacks=[EarlyStopping("loss")])
    assert np.array_equal(task.syn0, before)


@pytest.mark.parametrize("job", [None, [], {"tasks": [3]}, {"tasks": 3}, {"tasks": []}], ids=str)
def test_a_job_that_is_none_is_another_job(tmp_path, job):
    run(unsupervised(), tmp_path, callbacks=[Raise(1)])
    change(tmp_path, lambda index: index.update(job=job))
    with pytest.raises(InputError, match="of another job"):
        run(unsupervised(), tmp_path, resume=True)
    with pytest.raises(DataError):
        verify(tmp_path)


def test_what_a_callback_keeps_may_have_numbers_as_keys(tmp_path):
    class Keeper:
        state = None

        def on_epoch_end(self, state):
            pass

        def state_dict(self):
            return {10: 1, 9: (2,)}

        def load_state_dict(self, state):
            self.state = state

    run(unsupervised(), tmp_path, callbacks=[Keeper()])
    again = Keeper()
    run(unsupervised(), tmp_path, callbacks=[again], resume=True)
    assert again.state == {"10": 1, "9": [2]}


def test_a_checkpoint_is_verified(tmp_path):
    run(unsupervised(), tmp_path, callbacks=[Raise(1)])
    verified = verify(tmp_path)
    assert (verified.kind, verified.content) == ("checkpoint", f"2 of {NUM_EPOCH} epochs")
    assert set(verified.files) == {path.name for path in tmp_path.iterdir()}
    [path] = tmp_path.glob("tensors-*")
    os.truncate(path, 99)
    with pytest.raises(DataError, match="has 99 bytes"):
        verify(tmp_path)


# --- two trainings ----------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_a_second_training_is_refused_the_folder(tmp_path):
    def second(state):
        task = unsupervised(seed=4)
        before = task.syn0.copy()
        with pytest.raises(InputError, match=r"another training writes to .*; wait for its end"):
            run(task, tmp_path, resume=True)
        assert np.array_equal(task.syn0, before)

    first, whole = unsupervised(), unsupervised()
    run(first, tmp_path, callbacks=[second])
    run(whole)
    assert_same(first, whole)


# --- signals and kills ------------------------------------------------------

JOB = """
import sys, numpy as np, itembed_gpu as ig
generator = np.random.default_rng(0)
items = generator.integers(0, 500, 20_000).astype(np.int32)
offsets = np.arange(0, 20_001, 4)
syn = [np.random.default_rng(s).normal(0, 0.1, (500, 16)).astype(np.float32) for s in (1, 2)]
task = ig.UnsupervisedTask(items, offsets, *syn, seed=3, num_threads=1)
tell = lambda state: print(state.record.epoch, flush=True)
history = ig.train(task, num_epoch=int(sys.argv[2]), progress=False, callbacks=[tell],
                   checkpoint=sys.argv[1], resume=True)
print("done", len(history.epochs), syn[0].tobytes().hex()[:64], flush=True)
"""


def start(folder, num_epoch=60):
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(folder), str(num_epoch)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_a_training_that_is_killed_again_and_again_ends_as_if_it_never_was(tmp_path):
    generator = np.random.default_rng(0)
    for _ in range(4):
        with start(tmp_path / "killed") as process:
            process.stdout.readline()
            time.sleep(generator.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        if (tmp_path / "killed" / KIND.index).exists():
            index = KIND.read_index(tmp_path / "killed")
            KIND.verified(tmp_path / "killed", index, "tensors")
    with start(tmp_path / "killed") as process:
        killed = process.communicate()[0].splitlines()[-1]
    with start(tmp_path / "whole") as process:
        whole = process.communicate()[0].splitlines()[-1]
    assert killed == whole
    assert whole.startswith("done 60 ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_sigterm_writes_a_last_checkpoint_and_ends_the_process(tmp_path):
    with start(tmp_path, 100_000) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
    assert KIND.read_index(tmp_path)["place"]["done"][0] > 0


def test_sigterm_does_not_end_a_process_whose_last_checkpoint_failed(tmp_path, monkeypatch):
    """What was trained would be lost; the caller may have another place to save it."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("itembed_gpu.training.checkpoints.write_tensors", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        history = run(unsupervised(), tmp_path, callbacks=[Raise(1, signal.SIGTERM)])
    assert history.interrupted
    assert len(history.epochs) == 2


def test_handlers_are_as_they_were(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(unsupervised(), tmp_path, callbacks=[Raise(1)])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert os.access(tmp_path / KIND.index, os.R_OK)


def test_a_checkpoint_of_earlier_versions_is_gone_on_from(tmp_path):
    """They called chunks windows, and knew fewer options."""
    folder = tmp_path / "old"
    whole, task = unsupervised(), unsupervised()
    run(whole)
    run(task, folder, callbacks=[Raise(1)])
    path = folder / KIND.index
    index = json.loads(path.read_text())
    (job,) = index["job"]["tasks"]
    job["window_size"] = job.pop("chunk_size")
    for name in ("batch_size", "optimizer", "similarity", "temperature", "sum_scale", "dropout"):
        del job[name]
    del job["targets"], index["job"]["schedule"], index["checksum"]
    [tensors] = folder.glob("tensors-*")
    tensors.rename(folder / "tensors-000001.safetensors")
    index["files"]["tensors"]["name"] = "tensors-000001.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match="its schedule is 'linear', and here it is 'cosine'"):
        run(unsupervised(), folder, resume=True, schedule="cosine")
    task = unsupervised()
    run(task, folder, resume=True)
    assert all(map(np.array_equal, arrays_of(task), arrays_of(whole)))
    tensors = folder / json.loads(path.read_text())["files"]["tensors"]["name"]
    index["files"]["tensors"] |= KIND.describe(tensors)
    job["window_size"] = 100
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match="its chunk_size is 100, and here it is None"):
        run(unsupervised(), folder, resume=True)

"""Training in parts: the same pairs, block by block, and every row in one place at a time."""

import errno
import os
import signal

import numpy as np
import pytest
from samples import NUM_NEGATIVE, planted_itemsets, purity, random_itemsets, random_tables

from itembed_gpu import (
    CompoundTask,
    Cuda,
    DivergenceError,
    GloveTask,
    InputError,
    ListedTask,
    SupervisedTask,
    UnsupervisedTask,
    train,
)
from itembed_gpu.backends.cpu import listing
from itembed_gpu.backends.cpu.listing import CpuLister
from itembed_gpu.backends.cpu.task import CpuBackend
from itembed_gpu.backends.cuda.task import parts_that_fit
from itembed_gpu.errors import DataError
from itembed_gpu.objective.table import Table
from itembed_gpu.training.partitioned import Blocks

NUM_ROW = 50
RATE = 1e-3


def weights(num_item, seed=5):
    return np.random.default_rng(seed).random(num_item, dtype=np.float32)


def unsupervised(syns=None, **options):
    options = {"seed": 3, "num_threads": 1, "num_negative": NUM_NEGATIVE, **options}
    return UnsupervisedTask(*random_itemsets(NUM_ROW), *(syns or random_tables(NUM_ROW)), **options)


def weighted(**options):
    packed = random_itemsets(NUM_ROW)
    return UnsupervisedTask(
        *packed, *random_tables(NUM_ROW), weights=weights(len(packed[0])), seed=3, **options
    )


def supervised(**options):
    left, right = random_itemsets(40, 200, 1, 6, seed=1), random_itemsets(60, 200, 1, 3, seed=2)
    return SupervisedTask(*left, *right, *random_tables(40, 60), seed=3, **options)


def listed(**options):
    generator = np.random.default_rng(4)
    left, right = generator.integers(0, 40, 900), generator.integers(0, 60, 900)
    return ListedTask(left, right, *random_tables(40, 60), values=weights(900), seed=3, **options)


def cells(syns=None, num_negative=None, optimizer=None, **options):
    generator = np.random.default_rng(4)
    left, right = np.divmod(generator.permutation(40 * 60)[:900], 60)
    counts = 1 + 20 * weights(900)
    return GloveTask(left, right, counts, *(syns or random_tables(40, 60)), seed=3, **options)


def one_table(**options):
    return unsupervised(random_tables(NUM_ROW)[:1] * 2, **options)


KINDS = {
    "unsupervised": unsupervised,
    "weighted": weighted,
    "supervised": supervised,
    "listed": listed,
    "cells": cells,
    "one table": one_table,
    "window": lambda **options: unsupervised(window=2, **options),
    "subsample": lambda **options: unsupervised(subsample=0.005, **options),
}


# --- pairs ------------------------------------------------------------------


def rows_of(blocks, listed, epoch):
    """Left and right rows of all pairs, and the weights, block after block."""
    left, right = blocks.partitions(0, epoch)
    visits = np.repeat(np.arange(len(listed.bounds) - 1), np.diff(listed.bounds))
    num_part = blocks.num_part
    lefts = left.order[listed.left * num_part + visits // num_part % num_part]
    rights = right.order[listed.right * num_part + visits % num_part]
    return [lefts, rights, *filter(len, (listed.left_weights, listed.right_weights))]


def list_all(blocks, epoch=0, num_threads=1):
    """List the pairs of an epoch by the CPU."""
    slots = 0, blocks.problem.num_slot
    return blocks.list_pairs(0, epoch, slots, CpuLister(blocks.problem, num_threads))


def in_order(columns):
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_has_the_same_pairs_in_any_number_of_parts(kind):
    problem = KINDS[kind]()._problem
    for epoch in (0, 1):
        expected, num_dropped = None, None
        for num_part in (1, 2, 8, 32):
            blocks = Blocks(problem, num_part)
            pairs = list_all(blocks, epoch)
            found = in_order(rows_of(blocks, pairs, epoch))
            expected = expected or found
            num_dropped = pairs.num_dropped if num_dropped is None else num_dropped
            assert found == expected
            assert pairs.num_dropped == num_dropped
        assert len(expected) + num_dropped == problem.num_slot
        assert (num_dropped > 0) == (kind == "subsample")


def test_lists_do_not_depend_on_threads():
    # Enough slots that each of them has its own.
    packed, syns = random_itemsets(NUM_ROW, 3000), random_tables(NUM_ROW)
    factors = weights(len(packed[0]))
    problem = UnsupervisedTask(*packed, *syns, weights=factors, subsample=0.005, seed=3)._problem
    blocks = Blocks(problem, 4)
    one, more = (list_all(blocks, num_threads=n) for n in (1, 3))
    for name, first, second in zip(one._fields, one, more, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.parametrize("num_part", [2, 7])
def test_some_slots_and_the_others_are_all(num_part):
    problem = weighted()._problem
    blocks = Blocks(problem, num_part)
    middle = problem.num_slot // 3
    lister = CpuLister(problem, 1)
    some = (0, middle), (middle, problem.num_slot)
    parts = [blocks.list_pairs(0, 0, slots, lister) for slots in some]
    found = sorted(pair for part in parts for pair in in_order(rows_of(blocks, part, 0)))
    whole = list_all(blocks)
    assert found == in_order(rows_of(blocks, whole, 0))


def counting_task(kind, device, **options):
    """Make a task whose left rows tell how often they were trained, and the counts to expect."""
    options = {
        "num_negative": 0, "seed": 1, "device": device, "batch_size": 8, "update_right": False,
        **options,
    }  # fmt: skip
    left, right = np.zeros((30, 12), np.float32), np.full((30, 12), 1e-3, np.float32)
    items, offsets = random_itemsets(30, 150, 2, 5)
    counts = np.bincount(items, minlength=30)
    if kind == "unsupervised":
        return UnsupervisedTask(items, offsets, left, right, **options), left, counts
    labels = np.random.default_rng(0).integers(0, 30, 300)
    task = SupervisedTask(items, offsets, labels, np.arange(0, 301, 2), left, right, **options)
    return task, left, counts * 2


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
@pytest.mark.parametrize("partitions", [2, 3, 10])
def test_an_epoch_trains_every_pair_once(device, kind, partitions):
    task, left, counts = counting_task(kind, device, partitions=partitions)
    history = train(
        task, num_epoch=3, initial_learning_rate=RATE, final_learning_rate=RATE, progress=False
    )
    assert [epoch.num_pair for epoch in history.epochs] == [counts.sum()] * 3
    np.testing.assert_allclose(left[:, 0], 3 * counts * RATE * 0.5e-3, rtol=1e-3)


def test_accumulators_follow_their_rows(device):
    task, _, counts = counting_task("unsupervised", device, partitions=3, optimizer="adagrad")
    train(task, num_epoch=2, initial_learning_rate=RATE, progress=False)
    left, right = task.accumulators
    np.testing.assert_allclose(left, 2 * counts * 0.5e-3**2, rtol=1e-2)
    assert (right == 0).all()


@pytest.mark.parametrize("same", [False, True])
def test_what_lies_beside_rows_of_cells_follows_them(device, same):
    left, right = np.divmod(np.random.default_rng(4).permutation(40 * 40)[:700], 40)
    results = []
    for partitions in (1, 4):
        syns = random_tables(40)[:1] * 2 if same else random_tables(40)
        task = GloveTask(
            left, right, 1 + 20 * weights(700), *syns, bias0=np.linspace(-1, 1, 40, dtype="f4"),
            x_max=10, seed=3, device=device, partitions=partitions,
        )  # fmt: skip
        # Nothing moves, so that the order does not matter, and squares are added up.
        rates = {"initial_learning_rate": 0.0, "final_learning_rate": 0.0}
        train(task, num_epoch=2, progress=False, **rates)
        results.append([*task.biases, *task.accumulators])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    assert (results[0][2] > 1).all()


def test_batch_by_batch_is_the_same(device):
    tables = []
    for fused in (True, False):
        task, left, _ = counting_task(
            "unsupervised", device, partitions=3, num_threads=1, num_negative=NUM_NEGATIVE
        )
        rates = np.linspace(0.5, 0.1, 2 * len(task))
        if fused:
            assert task.do_batches(rates) == 2 * task.num_pair
        else:
            for rate in rates:
                task.do_batch(rate)
        task.synchronize()
        tables.append(left)
    np.testing.assert_allclose(tables[0], tables[1], rtol=0, atol=0 if device == "cpu" else 1e-6)


def test_what_is_dropped_is_told():
    histories = []
    for partitions in (1, 4):
        task = unsupervised(subsample=0.005, partitions=partitions)
        histories.append(train(task, num_epoch=2, progress=False))
    columns = [history.as_table() for history in histories]
    assert columns[0]["num_dropped"] == columns[1]["num_dropped"]
    assert columns[0]["num_pair"] == columns[1]["num_pair"]
    assert min(columns[0]["num_dropped"]) > 0


# --- negatives --------------------------------------------------------------


@pytest.mark.parametrize("noise_exponent", [0.0, 0.75])
@pytest.mark.parametrize("sharing", [1, 8])
def test_rows_are_negatives_as_often_as_without_parts(noise_exponent, sharing):
    generator = np.random.default_rng(0)
    shares = np.append(0.3, np.full(39, 0.7 / 39))
    items = generator.choice(40, 6000, p=shares).astype(np.int32)
    left, right = np.full((40, 12), 1e-3, np.float32), np.zeros((40, 12), np.float32)
    task = UnsupervisedTask(
        items, np.arange(0, 6001, 3), left, right, num_negative=NUM_NEGATIVE, seed=2,
        num_threads=1, partitions=8, update_left=False, noise_exponent=noise_exponent,
        negative_sharing=sharing,
    )  # fmt: skip
    positives = np.zeros(40)
    blocks = Blocks(task._problem, 8)
    num_epoch = 10
    for epoch in range(num_epoch):
        _, rights = rows_of(blocks, list_all(blocks, epoch), epoch)
        positives += np.bincount(rights, minlength=40)
    rates = {"initial_learning_rate": RATE, "final_learning_rate": RATE}
    train(task, num_epoch=num_epoch, progress=False, **rates)
    negatives = positives - right[:, 0] / (RATE * 0.5e-3)
    noise = np.bincount(items, minlength=40) ** noise_exponent
    expected = num_epoch * task.num_pair * NUM_NEGATIVE * noise / noise.sum()
    assert negatives.sum() == pytest.approx(expected.sum(), rel=0.01)
    # Of those drawn together, one is as good as all.
    deviations = (negatives - expected) / np.sqrt(expected * sharing)
    assert np.abs(deviations).max() < 5
    assert np.sqrt(np.mean(deviations**2)) < 2


def test_rows_that_are_no_noise_are_hardly_moved_as_negatives():
    noise = np.zeros(NUM_ROW)
    noise[3] = 1
    task = unsupervised(partitions=4, noise_weights=noise, update_left=False)
    left, right = task.syn0, task.syn1
    left[:], right[:] = 1e-3, 0
    history = train(
        task, num_epoch=1, initial_learning_rate=RATE, final_learning_rate=RATE, progress=False
    )
    assert np.isfinite(history.loss)
    blocks = Blocks(task._problem, 4)
    _, rights = rows_of(blocks, list_all(blocks), 0)
    expected = np.bincount(rights, minlength=NUM_ROW) - NUM_NEGATIVE * task.num_pair * noise
    np.testing.assert_allclose(right[:, 0], expected * RATE * 0.5e-3, rtol=1e-3, atol=1e-9)


def test_it_learns_as_without():
    items, offsets, clusters = planted_itemsets()
    losses = []
    for partitions in (1, 2):
        syn0, syn1 = random_tables(200)
        task = UnsupervisedTask(
            items, offsets, syn0, syn1, num_negative=NUM_NEGATIVE, seed=1, partitions=partitions,
            num_threads=1,
        )  # fmt: skip
        history = train(task, num_epoch=20, initial_learning_rate=0.05, progress=False)
        logits = (syn0 @ syn1.T).astype(np.float64)
        sets = items.reshape(-1, 5)
        pairs = [
            np.logaddexp(0, -logits[sets[:, i], sets[:, j]])
            for i in range(5) for j in range(5) if i != j
        ]  # fmt: skip
        losses.append(np.mean(pairs) + NUM_NEGATIVE * np.logaddexp(0, logits)[items].mean())
        assert purity(syn0, clusters) > 0.95
        losses_told = history.epochs[-1].loss
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    # Weights of negatives are undone: what is told is the loss, as without parts.
    assert losses_told == pytest.approx(losses[1], rel=0.1)


# --- repeated, and in one place ---------------------------------------------


def trained(task, num_epoch=2, **options):
    options = {"progress": False, "initial_learning_rate": 0.1, **options}
    train(task, num_epoch=num_epoch, **options)
    return [array for table in task._problem.tables for array in table.arrays().values()]


def assert_same(arrays, others):
    for one, two in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(one, two)


def assert_others(arrays, others):
    assert any((one != two).any() for one, two in zip(arrays, others, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_a_result(kind):
    one, same, other = (
        trained(KINDS[kind](partitions=n, optimizer="adagrad", num_threads=1)) for n in (4, 4, 5)
    )
    assert_same(one, same)
    assert_others(one, other)


def test_one_part_is_as_without_the_option():
    plain = trained(unsupervised())
    for partitions in (1, "auto"):
        task = unsupervised(partitions=partitions)
        assert task.partitions == 1
        assert_same(trained(task), plain)


# Of a table, a part at hand and the next one; of one for both sides, two and the next two.
@pytest.mark.parametrize(("kind", "most"), [("supervised", 2), ("one table", 4)])
def test_rows_are_in_one_place_at_a_time(monkeypatch, kind, most):
    task = KINDS[kind](partitions=8, num_threads=1)
    task._prepare()
    take, put, out = Table.take, Table.put, {}

    def taken(table, rows, *how):
        away = out.setdefault(table.name, set())
        assert not away & {*rows}
        away |= {*rows}
        assert len(away) <= most * -(-len(table) // 8)
        return take(table, rows, *how)

    def written(table, rows, *values):
        put(table, rows, *values)
        assert out[table.name] >= {*rows}
        out[table.name] -= {*rows}

    monkeypatch.setattr(Table, "take", taken)
    monkeypatch.setattr(Table, "put", written)
    trained(task)
    assert out
    assert not any(out.values())


def test_a_side_that_is_only_read_is_not_written(monkeypatch):
    names = set()
    monkeypatch.setattr(Table, "put", lambda table, *_: names.add(table.name))
    trained(unsupervised(partitions=4, update_right=False))
    assert names == {"syn0"}


def test_callbacks_may_change_tables():
    task = unsupervised(partitions=4)

    def change(state):
        task.syn0[:] = np.arange(12)
        task.syn1[7] = 0.25

    expected = task.syn1.copy()
    expected[7] = 0.25
    rates = {"initial_learning_rate": 0.0, "final_learning_rate": 0.0}
    trained(task, 1, callbacks=[change], **rates)
    trained(task, 2, **rates)
    np.testing.assert_array_equal(task.syn0, np.tile(np.arange(12), (NUM_ROW, 1)))
    np.testing.assert_array_equal(task.syn1, expected)


@pytest.fixture
def usual_signals():
    """Ctrl-C as Python has it: in the background, shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("call", [1, 5, 20])
@pytest.mark.parametrize("place", ["pairs_of", "_enter", "_follow", "_write_one", "run"])
def test_after_an_interrupt_all_is_in_the_tables(monkeypatch, usual_signals, call, place):
    from itembed_gpu.training import partitioned

    owner = CpuBackend if place == "pairs_of" else partitioned.PartitionedTask
    original, calls = getattr(owner, place), []

    def interrupted(self, *arguments):
        calls.append(0)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    task, left, _ = counting_task(
        "unsupervised", "cpu", num_threads=1, num_negative=NUM_NEGATIVE, partitions=3,
        update_right=True,
    )  # fmt: skip
    monkeypatch.setattr(type(task), "_batches_per_call", 1)
    monkeypatch.setattr(owner, place, interrupted)
    history = train(task, num_epoch=3, progress=False)
    assert history.interrupted
    assert not task._bound._parts
    assert not task._bound._written
    before = left.copy()
    task._bound._mover.submit(int).result()  # nothing is under way that would change it
    np.testing.assert_array_equal(left, before)
    assert not train(task, num_epoch=1, progress=False).interrupted
    assert (left != before).any(axis=1).all()


def test_a_divergence_is_told(device):
    task, _, _ = counting_task("unsupervised", device, partitions=3, update_right=True)
    with pytest.raises(DivergenceError, match="Start again from fresh tables"):
        train(task, num_epoch=2, initial_learning_rate=1e30, progress=False)


def test_what_fails_while_reading_ahead_is_said(monkeypatch):
    task, _, _ = counting_task("unsupervised", "cpu", partitions=3)
    pairs_of, calls = CpuBackend.pairs_of, []

    def fails(self, *arguments):
        calls.append(0)
        if len(calls) == 5:
            raise OSError("the disk is gone")
        return pairs_of(self, *arguments)

    monkeypatch.setattr(CpuBackend, "pairs_of", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        train(task, num_epoch=1, progress=False)


def test_what_fails_while_writing_is_said(monkeypatch):
    task, _, _ = counting_task("unsupervised", "cpu", partitions=3)

    def fails(self, *arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(Table, "put", fails)
    with pytest.raises(OSError, match="the disk is full"):
        train(task, num_epoch=1, progress=False)


# --- on the disk ------------------------------------------------------------


def test_tables_may_be_mapped_from_the_disk(tmp_path):
    mapped = []
    for name, table in zip("ab", random_tables(NUM_ROW), strict=True):
        path = tmp_path / f"{name}.npy"
        np.save(path, table)
        mapped.append(np.lib.format.open_memmap(path, mode="r+"))
    expected = trained(unsupervised(partitions=4))
    trained(unsupervised(mapped, partitions=4))
    for table in mapped:
        table.flush()
    assert_same([np.load(tmp_path / f"{name}.npy") for name in "ab"], expected)


def test_a_long_list_is_in_a_file(monkeypatch):
    expected = trained(weighted(partitions=4, num_threads=1))
    monkeypatch.setattr(listing, "MAX_BYTES_IN_MEMORY", 100)
    task = weighted(partitions=4, num_threads=1)
    assert_same(trained(task), expected)
    assert isinstance(task._bound._known.listed.left.base, np.memmap)


def test_a_file_is_as_long_as_the_list_where_a_system_cannot_reserve_it(monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(listing, "ZEROS", 1000)
    array = listing._in_a_file(777, np.int32)
    array[:] = np.arange(777)
    np.testing.assert_array_equal(array, np.arange(777))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files are not reserved here")
def test_a_disk_without_room_is_one_clear_error(monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(listing, "MAX_BYTES_IN_MEMORY", 100)
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(listing.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError, match=r"pairs .*No space left.*TMPDIR") as told:
        trained(unsupervised(partitions=4))
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


# --- refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partitions": 0}, "partitions is 0; pass "),
        ({"partitions": 2.5}, "partitions is 2.5; pass "),
        ({"partitions": "all"}, "partitions is 'all'; pass "),
        (
            {"partitions": 51},
            "partitions is 51, and the smallest table has 50 rows; pass at most 5",
        ),
        ({"partitions": 26, "reject_positive": True}, "partitions is 26, .*; pass at most 25"),
        ({"partitions": 2, "loss": "softmax"}, "partitions is 2 and loss is 'softmax': .*another"),
        ({"partitions": 2, "pooling": "mean"}, "partitions is 2 and pooling is 'mean': .*'pairs'"),
        ({"partitions": "auto", "pooling": "mean"}, "partitions is 'auto' and pooling is 'mean'"),
        ({"partitions": 2, "reject_itemset": True}, "partitions is 2 and reject_itemset is True"),
        ({"partitions": 2, "chunk_size": 9}, "partitions is 2 and chunk_size is 9: .*leave it out"),
    ],
)
def test_what_cannot_be_had_in_parts_is_refused(options, message):
    with pytest.raises(InputError, match=f"^{message}") as told:
        unsupervised(**options)
    assert "\n" not in str(told.value)


def test_no_table_is_on_a_device_as_a_whole(one_tile):
    syns = [one_tile.asarray(table) for table in random_tables(NUM_ROW)]
    with pytest.raises(InputError, match="partitions is 2 and syn0 is on a device as a whole"):
        unsupervised(syns, partitions=2, device=Cuda())


def test_no_task_in_turn_has_parts():
    with pytest.raises(InputError, match="tasks holds one with partitions"):
        CompoundTask(unsupervised(), unsupervised(partitions=2))


@pytest.mark.parametrize(
    ("sizes", "room", "expected"),
    [
        ([10, 10], 20, 1),
        ([10, 10], 19, 4),  # four quarters of a table
        ([10, 10], 9, 8),
        ([30, 10], 39, 4),
        ([30, 10], 24, 8),
        ([10], 10, 1),
        ([10], 9, 8),  # of one table, six parts
        ([10**12, 10**12], 1, 4096),  # as many as are tried
    ],
)
def test_as_few_parts_as_fit(sizes, room, expected):
    assert parts_that_fit(sizes, room) == expected


def test_a_device_says_how_many_parts_fit(emulated, monkeypatch, caplog):
    plain = trained(unsupervised(device=Cuda(threads_per_pair=1)))
    task = unsupervised(device=Cuda(threads_per_pair=1), partitions="auto")
    assert task.partitions == 1
    assert not caplog.records
    assert_same(trained(task), plain)
    # Room for .8 of it: both tables have 4,800 bytes, and four quarters of one are at hand.
    with monkeypatch.context() as patch:
        patch.setattr(emulated.cuda.runtime, "memGetInfo", lambda: (5000, 1 << 30))
        task = unsupervised(device=Cuda(threads_per_pair=1), partitions="auto")
    assert task.partitions == 4
    [told] = caplog.messages
    assert "partitions='auto'" in told
    assert "4 parts" in told
    assert train(task, num_epoch=1, progress=False).num_pair == task.num_pair

"""Training in chunks: every pair once an epoch, and no more of the itemsets at once."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from samples import NUM_NEGATIVE, planted_itemsets, purity, random_itemsets, random_tables

from itembed_gpu import (
    CompoundTask,
    Cuda,
    InputError,
    PackedItemsets,
    SupervisedTask,
    UnsupervisedTask,
    pack_itemsets,
    train,
)
from itembed_gpu.objective.pairs import ItemsetSource, Side
from itembed_gpu.training.chunks import Chunks

RATE = 1e-3
# What a pair and its negatives add to a left row: logits are about 0, and right rows alike.
STEP = (0.5 - 0.5 * NUM_NEGATIVE) * 1e-3


def counting_task(kind, device, **options):
    """Make a task whose left rows tell how often they were trained, and the counts to expect.

    With a right side of which each row is the same and stays so, each pair adds the same to its
    left row.
    """
    generator = np.random.default_rng(0)
    options = {
        "num_negative": NUM_NEGATIVE, "seed": 1, "device": device, "batch_size": 8,
        "chunk_size": 150, "update_right": False, **options,
    }  # fmt: skip
    left, right = np.zeros((30, 12), np.float32), np.full((30, 12), 1e-3, np.float32)
    items, offsets = random_itemsets(30, 150, 2, 5)
    if kind == "unsupervised":
        counts = np.bincount(items, minlength=30)
        return UnsupervisedTask(items, offsets, left, right, **options), left, counts
    labels = generator.integers(0, 30, 300)
    bounds = np.arange(0, 301, 2)
    counts = np.bincount(items, minlength=30) * 2
    task = SupervisedTask(items, offsets, labels, bounds, left, right, **options)
    return task, left, counts


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
@pytest.mark.parametrize("chunk_size", [1, 150, 10_000])
@pytest.mark.parametrize("sharing", [1, 8])
def test_an_epoch_trains_every_pair_once(device, kind, chunk_size, sharing):
    task, left, counts = counting_task(
        kind, device, chunk_size=chunk_size, negative_sharing=sharing
    )
    history = train(task, num_epoch=3, initial_learning_rate=RATE, final_learning_rate=RATE)
    assert [epoch.num_pair for epoch in history.epochs] == [counts.sum()] * 3
    np.testing.assert_allclose(left[:, 0], 3 * counts * RATE * STEP, rtol=1e-3)


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
def test_batch_by_batch_is_the_same(device, kind):
    tables = []
    for fused in (True, False):
        task, left, _ = counting_task(kind, device, num_threads=1)
        rates = np.linspace(0.5, 0.1, 2 * len(task))
        if fused:
            assert task.do_batches(rates) == 2 * task.num_pair
        else:
            for rate in rates:
                task.do_batch(rate)
        task.synchronize()
        tables.append(left)
    np.testing.assert_allclose(tables[0], tables[1], rtol=0, atol=0 if device == "cpu" else 1e-6)


PLACES = [(i, j) for i in range(5) for j in range(5) if i != j]


def test_it_learns_as_without(device):
    items, offsets, clusters = planted_itemsets()
    losses = []

    def loss(syn0, syn1):
        """Loss of each item with each other one of its itemset, and with all as negatives."""
        logits = (syn0 @ syn1.T).astype(np.float64)
        sets = items.reshape(-1, 5)
        positive = np.mean([np.logaddexp(0, -logits[sets[:, i], sets[:, j]]) for i, j in PLACES])
        negative = np.logaddexp(0, logits)[items].mean()
        return positive + NUM_NEGATIVE * negative

    for chunk_size in (None, 3000):
        syn0, syn1 = random_tables(200)
        task = UnsupervisedTask(
            items, offsets, syn0, syn1, num_negative=NUM_NEGATIVE, seed=1, device=device,
            chunk_size=chunk_size, num_threads=1,
        )  # fmt: skip
        train(task, num_epoch=20, initial_learning_rate=0.05, progress=False)
        losses.append(loss(syn0, syn1))
        assert purity(syn0, clusters) > 0.95
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_packed_itemsets_from_the_disk(tmp_path, device):
    baskets = [[f"i{n % 7}", f"i{n % 5 + 7}", f"i{n % 3}"] for n in range(400)]
    packed = pack_itemsets(baskets)
    packed.save(tmp_path / "data")
    results = []
    for source in (packed, PackedItemsets.load(tmp_path / "data")):
        syn0, syn1 = random_tables(len(packed.labels))
        task = UnsupervisedTask(
            source.indices, source.offsets, syn0, syn1, seed=1, device=device, chunk_size=200,
            num_negative=NUM_NEGATIVE, num_threads=1,
        )  # fmt: skip
        train(task, num_epoch=2, progress=False)
        results.append(syn0)
    # On a GPU the order of additions is not known.
    np.testing.assert_allclose(*results, rtol=0, atol=1e-3 if device == "cuda" else 0)


def test_tasks_in_turn(device):
    task, left, counts = counting_task("unsupervised", device)
    other, other_left, other_counts = counting_task("supervised", device, chunk_size=None)
    train(CompoundTask(task, other), num_epoch=1, initial_learning_rate=RATE, progress=False)
    for table, expected in ((left, counts), (other_left, other_counts)):
        # Of a rate that falls to 0: half of it on average.
        assert (table[:, 0] / STEP > 0).all()
        assert table[:, 0].sum() == pytest.approx(expected.sum() * RATE / 2 * STEP, rel=0.1)


def test_epochs_and_seeds_have_their_own_order():
    source = ItemsetSource(Side(*random_itemsets(30, 300), np.empty(0, np.float32)))
    orders = {
        tuple(Chunks(source, 50, 4, seed).order(stream, epoch))
        for seed, stream, epoch in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))
    }
    assert len(orders) == 4
    assert all(sorted(order) == [*range(len(order))] for order in orders)
    some = Chunks(source, 50, 4, 1)
    assert len({some.seed(chunk) for chunk in range(len(some))}) == len(some)
    # Literally: another order would be another training.
    assert some.order(0, 0).tolist()[:8] == [8, 6, 23, 4, 24, 14, 13, 32]
    assert some.seed(0) == 9703380191525875619


@settings(max_examples=60)
@given(st.data())
def test_batches_are_counted_as_they_are_trained(data):
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=60))
    others = data.draw(st.lists(st.integers(1, 4), min_size=len(lengths), max_size=len(lengths)))
    kind = data.draw(st.sampled_from(["unsupervised", "supervised", "pooled"]))
    sides = [
        Side(np.zeros(sum(n), np.int32), np.append(0, np.cumsum(n)), np.empty(0, np.float32))
        for n in (lengths, others)
    ]
    source = ItemsetSource(sides[0], None if kind == "unsupervised" else sides[1], kind == "pooled")
    size, batch_size = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 10))
    some = Chunks(source, size, batch_size, 5)
    assert some.bounds[0] == 0
    assert some.bounds[-1] == len(lengths)
    assert some.num_batch.sum() == -(-len(lengths) // batch_size)
    assert (some.num_batch == -(-np.diff(some.bounds) // batch_size)).all()
    for chunk in range(len(some)):
        pairs = source.pairs(*some.bounds[chunk : chunk + 2])
        assert pairs.slot_offsets[-1] == some.num_pair[chunk]
    assert some.num_pair.sum() == source.pairs().slot_offsets[-1]


def test_a_chunk_size_is_a_number():
    for size in (0, -1, 2.5, "8"):
        with pytest.raises(InputError, match="chunk_size"):
            counting_task("unsupervised", "cpu", chunk_size=size)


def test_a_chunk_is_copied_and_planned_while_the_one_before_is_trained(emulated, monkeypatch):
    from itembed_gpu.backends.cuda import in_flight, task as cuda

    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 4000)
    loaded, train_positions, load = threading.Semaphore(0), cuda.CudaTask._train, cuda.CudaTask.load

    def load_and_tell(self, before):
        assert threading.current_thread() is not threading.main_thread()
        load(self, before)
        loaded.release()

    def train_when_loaded(self, *arguments):
        assert loaded.acquire(timeout=30)  # the one after this
        train_positions(self, *arguments)

    monkeypatch.setattr(cuda.CudaTask, "load", load_and_tell)
    monkeypatch.setattr(cuda.CudaTask, "_train", train_when_loaded)
    task, left, _ = counting_task("unsupervised", Cuda(threads_per_pair=1))
    assert len(task._bound._chunks) > 2
    task.do_batches(np.full(2 * len(task), 0.1))
    task.synchronize()
    assert left.any()
    # What was planned ahead is in use if it is what would be planned now.
    bound, plans = task._bound, []

    def plan_and_tell(*arguments, **options):
        plans.append(arguments[2])
        return in_flight.plan_geometry(*arguments, **options)

    monkeypatch.setattr(cuda, "plan_geometry", plan_and_tell)
    for rate, planned in ((0.1, [0.125]), (0.06, [0.125, 0.0625])):
        plans.clear()
        other = bound._bind(1)
        load(other, bound._bound)
        other._plan(rate)
        assert plans == planned


def test_what_fails_while_reading_ahead_is_said(monkeypatch):
    task, _, _ = counting_task("unsupervised", "cpu")
    pairs, count = ItemsetSource.pairs, 0

    def fails(self, *arguments, **options):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError("the disk is gone")
        return pairs(self, *arguments, **options)

    monkeypatch.setattr(ItemsetSource, "pairs", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        train(task, num_epoch=1, progress=False)


# --- more than 2**31 of everything ------------------------------------------

MANY = (1 << 31) + 40


def many_pairs():
    """Two itemsets of one left item each; the right side has 2**31 zeros, which take no memory."""
    from itembed_gpu.objective.pairs import Pairs
    from itembed_gpu.objective.schedule import count_slots, guide_shift, slot_guide

    try:
        right = np.zeros(MANY, np.int32)
    except MemoryError:
        pytest.skip("so much memory cannot even be reserved")
    right[-40:] = np.arange(40) % 9
    empty = np.empty(0, np.float32)
    offsets = np.array([0, MANY - 30, MANY])
    left_offsets = np.array([0, 1, 2])
    slots = count_slots(left_offsets, offsets)
    shift = guide_shift(slots)
    return Pairs(
        np.array([0, 1], np.int32), left_offsets, empty, right, offsets, empty,
        slots, slot_guide(slots, shift), shift,
    )  # fmt: skip


# A bijection that changes nothing: slots in their order.
IN_ORDER = np.array([MANY, (1 << 63) - 1, 63, 1, 0, 1, 0, 1, 0], dtype=np.uint64)


@pytest.mark.parametrize("backend", ["cpu", "emulated"])
def test_slots_beyond_two_to_the_31(backend, request, monkeypatch):
    from itembed_gpu.backends.cpu.task import CpuBackend
    from itembed_gpu.backends.protocol import Problem
    from itembed_gpu.objective.pairs import PRODUCT
    from itembed_gpu.objective.table import Table

    pairs = many_pairs()
    left, right = random_tables(2, 9)
    before = left.copy()
    problem = Problem(pairs, PRODUCT, (Table("left", left), Table("right", right)), 0, 1, 1)
    start = MANY - 40
    rates = np.array([0.1], np.float32)
    if backend == "cpu":
        bound = CpuBackend(1).bind(problem)
        monkeypatch.setattr(bound, "_epoch_order", lambda stream, epoch: IN_ORDER)
        bound._train(0, 0, 0, rates)(start, MANY)
    else:
        request.getfixturevalue("one_tile")
        from emulator.fake_cupy import ndarray

        from itembed_gpu import Cuda
        from itembed_gpu.backends.cuda import tables
        from itembed_gpu.backends.cuda.in_flight import Geometry
        from itembed_gpu.backends.devices import select_backend

        copy = tables.to_device
        shared = {pairs.right_items.ctypes.data: ndarray(None, pairs.right_items)}

        def to_device(array):
            found = shared.get(array.ctypes.data)
            return copy(array) if found is None else found

        monkeypatch.setattr(tables, "to_device", to_device)
        bound = select_backend(Cuda(), None, {"a": left}).bind(problem)
        monkeypatch.setattr(bound, "_check_memory", lambda: None)
        monkeypatch.setattr(bound, "_plan", lambda rate: None)
        bound._copy_pairs()
        bound._make_ready()
        bound._set_geometry(Geometry(1, None, None), 1.0)
        bound._train(IN_ORDER, 0, 0, start, MANY, 0, rates)
        bound.synchronize()
    # The first 10 are of the first itemset, whose items are 0 to 8 and 0.
    table = random_tables(2, 9)
    for slot in range(40):
        row = 0 if slot < 10 else 1
        target = table[1][slot % 9]
        step = 0.1 / (1 + np.exp(table[0][row] @ target))
        old = table[0][row].copy()
        table[0][row] += step * target
        target += step * old
    assert np.abs(left - before).max() > 1e-3
    np.testing.assert_allclose(left, table[0], rtol=1e-4)
    np.testing.assert_allclose(right, table[1], rtol=1e-4)


def test_offsets_of_more_than_two_to_the_31_items():
    # Mapped from a file with a hole, of which next to nothing is read.
    packed = np.zeros(4, np.int64) + MANY
    packed[:] = [MANY - 9, MANY - 6, MANY - 3, MANY]
    try:
        items = np.zeros(MANY, np.int32)
    except MemoryError:
        pytest.skip("so much memory cannot even be reserved")
    items[-9:] = [0, 1, 2] * 3
    syn0, syn1 = random_tables(3)
    task = UnsupervisedTask(items, packed, syn0, syn1, seed=1, chunk_size=3, batch_size=1)
    assert task.num_pair == 9
    before = syn0.copy()
    train(task, num_epoch=2, progress=False)
    assert (syn0 != before).any(axis=1).all()

"""Tasks: what they train, what they accept, what they refuse."""

import pickle

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit
from samples import (
    DIM,
    MAKERS,
    NUM_NEGATIVE,
    RATE,
    CountingTask,
    planted_itemsets,
    random_itemsets,
    random_tables,
    supervised,
    tables_of,
    unsupervised,
)

from itembed_gpu import (
    CompoundTask,
    DeviceError,
    InputError,
    ListedTask,
    SupervisedTask,
    Task,
    UnsupervisedTask,
    do_step,
    do_unsupervised_batch,
    train,
)
from itembed_gpu.backends import devices, protocol
from itembed_gpu.backends.cpu.pairs import fill_negatives, fill_pairs, make_block
from itembed_gpu.backends.cuda import chips
from itembed_gpu.objective.constants import BLOCK
from itembed_gpu.objective.rng import fill_draws, u64
from itembed_gpu.objective.schedule import epoch_order, fill_slots


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


# --- what an epoch is -------------------------------------------------------


@njit
def drawn_pairs(pairs, source, num_right, num_negative, seed, stream, epoch, order):
    """Every (slot, left, right, negatives...) of an epoch, through the task's own routines."""
    num_slot = np.int64(order[0])
    rows = np.empty((num_slot, num_negative + 3), dtype=np.int64)
    block = make_block()
    block.scale[:] = 1
    pending = np.empty(BLOCK, dtype=np.int32)
    draws = np.empty(((num_negative + 4) // 4 * 4, BLOCK), dtype=np.uint32)
    targets = np.empty((BLOCK, num_negative + 1), dtype=np.int32)
    for position in range(0, num_slot, BLOCK):
        count = min(BLOCK, num_slot - position)
        fill_slots(order, position, count, block.slots, pending)
        fill_draws(seed, stream, epoch, block.slots, count, draws)
        fill_pairs(pairs, source, block, draws[0], count)
        fill_negatives(num_right, draws, count, targets)
        for i in range(count):
            rows[position + i, 0] = block.slots[i]
            rows[position + i, 1] = block.left[i]
            rows[position + i, 2] = block.right[i]
            rows[position + i, 3:] = targets[i, 1:]
    return rows


def epoch_pairs(task, epoch=0, stream=0):
    problem = task._problem
    order = epoch_order(problem.seed, stream, epoch, problem.num_slot)
    return drawn_pairs(
        problem.pairs,
        problem.source,
        len(problem.syn_right),
        problem.num_negative,
        u64(problem.seed),
        u64(stream),
        u64(epoch),
        order,
    )


def test_an_epoch_visits_every_item_once():
    task = unsupervised()
    rows = epoch_pairs(task)
    assert np.array_equal(np.sort(rows[:, 0]), np.arange(len(task.items)))
    assert np.array_equal(rows[:, 1], task.items[rows[:, 0]])
    itemset = np.searchsorted(task.offsets, rows[:, 0], side="right") - 1
    for i, right in zip(itemset, rows[:, 2], strict=True):
        assert right in task.items[task.offsets[i] : task.offsets[i + 1]]


def test_neighbours_are_uniform_and_never_the_item_itself():
    # One itemset of distinct items: over epochs, each ordered pair comes up alike.
    task = unsupervised(np.arange(4), [0, 4])
    counts = np.zeros((4, 4))
    for epoch in range(3000):
        rows = epoch_pairs(task, epoch)
        np.add.at(counts, (rows[:, 1], rows[:, 2]), 1)
    assert np.diag(counts).sum() == 0
    others = counts[~np.eye(4, dtype=bool)]
    assert abs(others - 1000).max() < 130  # 5 standard deviations


def test_an_epoch_visits_every_left_right_pair_once():
    task = supervised()
    rows = epoch_pairs(task)
    expected = [
        (left, right)
        for i in range(200)
        for left in task.left_items[task.left_offsets[i] : task.left_offsets[i + 1]]
        for right in task.right_items[task.right_offsets[i] : task.right_offsets[i + 1]]
    ]
    assert sorted(map(tuple, rows[:, 1:3].tolist())) == sorted(expected)
    assert task.num_pair == len(expected)


def test_one_huge_itemset_among_small_ones():
    left = np.concatenate([np.arange(500), [3, 4]]), np.array([0, 500, 501, 502])
    right = np.concatenate([np.arange(300), [7, 9]]), np.array([0, 300, 301, 302])
    task = SupervisedTask(*left, *right, *random_tables(500, 300), num_negative=0, seed=1)
    rows = epoch_pairs(task)
    assert task.num_pair == 150_002
    assert len(np.unique(rows[:, 1] * 300 + rows[:, 2])) == 150_000
    assert {(3, 7), (4, 9)} <= set(map(tuple, rows[np.argsort(rows[:, 0])[-2:], 1:3].tolist()))


def test_negatives_are_uniform():
    task = unsupervised(num_negative=20)
    counts = np.bincount(epoch_pairs(task)[:, 3:].ravel(), minlength=50)
    expected = counts.sum() / 50
    assert ((counts - expected) ** 2 / expected).sum() < 100  # 49 degrees of freedom


# What a kernel really trained can be read off the tables. Left rows start at zero,
# right rows hold small integers, and the learning rate is so small that every
# sigmoid is exactly 1/2 and no right row changes. Then a left row ends up as
# rate / 2 * (positive - sum of negatives), exactly. Each left item occurs once, so
# that threads cannot lose an update of each other's.

NUM_MARKED = 20_000


def marked_task(neighbour, **options):
    generator = np.random.default_rng(3)
    syn_left = np.zeros((NUM_MARKED, DIM), dtype=np.float32)
    syn_right = generator.integers(-8, 9, (NUM_MARKED, DIM)).astype(np.float32)
    items = generator.permutation(NUM_MARKED)
    if neighbour:
        offsets = np.arange(0, NUM_MARKED + 1, 5)
        return unsupervised(items, offsets, tables=(syn_left, syn_right), **options)
    offsets = np.arange(NUM_MARKED + 1)
    right = generator.permutation(NUM_MARKED)
    options = {"num_negative": NUM_NEGATIVE, "seed": 1, **options}
    return SupervisedTask(items, offsets, right, offsets, syn_left, syn_right, **options)


def marked_sums(marks, rows):
    """What each left row is to be, over rate / 2, after the pairs of an epoch."""
    sums = np.zeros_like(marks)
    sums[rows[:, 1]] = marks[rows[:, 2]] - marks[rows[:, 3:]].sum(axis=1)
    return sums


@pytest.mark.compiled_in
@pytest.mark.parametrize("neighbour", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "num_threads", "fused"),
    [
        (64, 1, False),
        (64, 1, True),
        (7, 1, True),
        (10_000, 2, False),
        (64, 2, True),
        (900, 3, True),
    ],
)
def test_threads_and_batch_sizes_train_the_same_pairs(neighbour, batch_size, num_threads, fused):
    task = marked_task(neighbour, batch_size=batch_size, num_threads=num_threads)
    left, right = tables_of(task)
    marks = right.copy()
    rates = np.full(len(task), RATE)
    for _ in range(2):
        left[:] = 0
        epoch = task._num_done // len(task)
        if fused:
            assert task.do_batches(rates) == NUM_MARKED
        else:
            for rate in rates:
                task.do_batch(rate)
        expected = marked_sums(marks, epoch_pairs(task, epoch))
        assert np.array_equal(left / np.float32(RATE / 2), expected)
        assert np.array_equal(right, marks)


def test_learning_rates_are_those_of_the_batches():
    # The same marks, with a rate of its own for each batch, in one call.
    task = marked_task(True, batch_size=100, num_threads=2)
    left, marks = (table.copy() for table in tables_of(task))
    rates = RATE * 2.0 ** -(np.arange(len(task)) % 20)
    task.do_batches(rates)
    rows = epoch_pairs(task)
    batch = (np.arange(1, NUM_MARKED + 1) * len(task) - 1) // NUM_MARKED
    update = marks[rows[:, 2]] - marks[rows[:, 3:]].sum(axis=1)
    left[rows[:, 1]] = update * (rates[batch, None] / 2).astype(np.float32)
    assert np.array_equal(task.syn0, left)


@pytest.mark.compiled_in
def test_the_first_epoch_is_the_low_level_stream():
    # One pair at a time, through the public function with the same seed and counter.
    task = unsupervised(weights=np.linspace(0.5, 2, len(random_itemsets()[0])))
    expected = random_tables()
    weights = np.asarray(task.weights, dtype=np.float32)
    tmp = np.empty(DIM, dtype=np.float32)
    rows = epoch_pairs(task)
    itemset = np.searchsorted(task.offsets, rows[:, 0], side="right") - 1
    for (slot, left, right, *_), i in zip(rows.tolist(), itemset, strict=True):
        # The neighbour's position: recomputed from draw 0, to know its weight.
        first, length = task.offsets[i], task.offsets[i + 1] - task.offsets[i]
        draws = np.empty((4, 1), dtype=np.uint32)
        fill_slot_draws(u64(1), np.array([slot], dtype=np.uint64), draws)
        other = first + (int(draws[0, 0]) * int(length - 1) >> 32)
        other += other >= slot
        assert task.items[other] == right
        scale = np.float32(0.05) * weights[slot] * weights[other]
        do_step(left, right, *expected, tmp, NUM_NEGATIVE, scale, 1, slot)
    task.do_batches(np.full(len(task), 0.05))
    np.testing.assert_allclose(task.syn0, expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(task.syn1, expected[1], rtol=1e-4, atol=1e-6)


@njit
def fill_slot_draws(seed, slots, draws):
    fill_draws(seed, u64(0), u64(0), slots, 1, draws)


# --- determinism ------------------------------------------------------------


def run_batches(task, cuts, num_epoch=2, rate=0.05):
    """Train some epochs cut into calls of these numbers of batches, in turn."""
    rates = np.linspace(rate, 0, num_epoch * len(task), endpoint=False)
    position, turn = 0, 0
    while position < len(rates):
        count = cuts[turn % len(cuts)]
        task.do_batches(rates[position : position + count])
        position += count
        turn += 1
    return [table.copy() for table in tables_of(task)]


@pytest.mark.compiled_in
def test_one_thread_is_exact_fused_or_not(make):
    one_by_one = run_batches(make(batch_size=10), [1])
    for cuts in ([1000], [3, 1, 7]):
        fused = run_batches(make(batch_size=10), cuts)
        assert all(map(np.array_equal, one_by_one, fused))
    other = run_batches(make(batch_size=10, seed=2), [1000])
    assert not np.array_equal(one_by_one[0], other[0])


def test_compound_tasks_are_exact_fused_or_not():
    def compound():
        shared = random_tables(50)
        task = CompoundTask(
            unsupervised(tables=shared, batch_size=10),
            supervised(tables=(shared[0], random_tables(30)[0]), batch_size=25),
            learning_rate_scale=0.5,
        )
        return task, shared[0]

    results = []
    for cuts in ([1], [4], [100]):
        task, table = compound()
        rates = np.linspace(0.05, 0, 2 * len(task), endpoint=False)
        for start in range(0, len(rates), cuts[0]):
            task.do_batches(rates[start : start + cuts[0]])
        results.append(table.copy())
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_do_batch_is_a_batch_of_do_batches(make):
    one, many = make(batch_size=10), make(batch_size=10)
    rates = np.linspace(0.05, 0.01, len(one))
    for rate in rates:
        one.do_batch(rate)
    many.do_batches(rates)
    assert np.array_equal(tables_of(one)[0], tables_of(many)[0])


def test_sub_tasks_draw_from_streams_of_their_own():
    tasks = [marked_task(True, num_threads=1) for _ in range(3)]
    marks = tasks[0].syn1.copy()
    compound = CompoundTask(tasks[0], CompoundTask(tasks[1], tasks[2]))
    CompoundTask(tasks[2], tasks[1])  # being in another one changes nothing
    compound.do_batches(np.full(len(compound), RATE))
    sums = [task.syn0 / np.float32(RATE / 2) for task in tasks]
    for stream, task in enumerate(tasks):
        assert np.array_equal(sums[stream], marked_sums(marks, epoch_pairs(task, 0, stream)))
    assert not np.array_equal(sums[0], sums[1])
    assert not np.array_equal(sums[1], sums[2])
    # Alone again, a task draws what it would have drawn without a compound.
    tasks[2].syn0[:] = 0
    tasks[2].do_batches(np.full(len(tasks[2]), RATE))
    alone = marked_sums(marks, epoch_pairs(tasks[2], 1))
    assert np.array_equal(tasks[2].syn0 / np.float32(RATE / 2), alone)


def test_tasks_leave_global_generators_alone(make):
    import random

    np.random.seed(0)
    random.seed(0)
    before = np.random.get_state()[1].copy(), random.getstate()
    make(seed=None).do_batch(0.1)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()


def test_a_seed_that_was_drawn_is_told():
    task = unsupervised(seed=None)
    again = unsupervised(seed=task.seed)
    assert task.seed != unsupervised(seed=None).seed
    assert np.array_equal(run_batches(task, [9])[0], run_batches(again, [9])[0])
    assert f"seed={task.seed}" in repr(task)


# --- length, batches, learning rates ----------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, 200), (64, 4), (100, 2), (200, 1), (1000, 1)]
)
def test_length(make, batch_size, expected):
    assert len(make(batch_size=batch_size)) == expected


def test_epochs_are_whole_whatever_the_batch_size(make):
    task = make(batch_size=33)
    assert [task.do_batches(np.full(len(task), 0.01)) for _ in range(2)] == [task.num_pair] * 2
    # Also in one call that runs over the end of an epoch.
    assert task.do_batches(np.full(3 * len(task), 0.01)) == 3 * task.num_pair


def test_learning_rate_scale(make):
    scaled, plain = make(learning_rate_scale=0.25), make()
    scaled.do_batch(0.2)
    plain.do_batch(0.05)
    assert np.array_equal(tables_of(scaled)[1], tables_of(plain)[1])


def test_a_learning_rate_of_zero_changes_nothing(make):
    task = make()
    before = [table.copy() for table in tables_of(task)]
    task.do_batches(np.zeros(len(task)))
    assert all(map(np.array_equal, before, tables_of(task)))


# --- what is accepted -------------------------------------------------------


def test_offsets_may_start_anywhere():
    items, offsets = random_itemsets()
    padded = np.concatenate([[49, 49, 49], items, [0]])
    whole, part = unsupervised(items, offsets), unsupervised(padded, offsets + 3)
    assert part.num_pair == len(items)
    assert np.array_equal(run_batches(whole, [5])[0], run_batches(part, [5])[0])


def test_types_and_strides_do_not_matter():
    items, offsets = random_itemsets()
    weights = np.random.default_rng(0).random(len(items)).astype(np.float32)
    expected = run_batches(unsupervised(items, offsets, weights=weights), [5])[0]
    strided = np.repeat(items, 2)[::2]
    for other_items, other_offsets, other_weights in [
        (items.astype(np.int64), offsets.astype(np.int64), weights.astype(np.float64)),
        (strided, np.repeat(offsets, 3)[::3], np.repeat(weights, 2)[::2]),
        (items.astype(np.uint8), offsets.astype(np.uint32), list(map(float, weights))),
        (items.tolist(), offsets.tolist(), weights),
    ]:
        task = unsupervised(other_items, other_offsets, weights=other_weights)
        assert np.array_equal(run_batches(task, [5])[0], expected)


def test_unit_weights_are_no_weights(make):
    items, offsets = random_itemsets()
    weighted = unsupervised(items, offsets, weights=np.ones(len(items)))
    assert np.array_equal(
        run_batches(weighted, [5])[0], run_batches(unsupervised(items, offsets), [5])[0]
    )


def test_negative_weights_push_apart():
    items, offsets = np.array([0, 1] * 50), np.arange(0, 101, 2)
    towards, away = (
        unsupervised(items, offsets, weights=weights, num_negative=0, tables=random_tables(2))
        for weights in (np.ones(100), np.tile([1.0, -1.0], 50))
    )
    before = towards.syn0[0] @ towards.syn1[1]
    for task in (towards, away):
        task.do_batches(np.full(len(task), 0.05))
    assert towards.syn0[0] @ towards.syn1[1] > before + 0.001
    assert away.syn0[0] @ away.syn1[1] < before - 0.001


def test_one_table_for_both_sides():
    syn = random_tables()[0]
    task = unsupervised(tables=(syn, syn))
    before = syn.copy()
    task.do_batches(np.full(len(task), 0.05))
    assert np.isfinite(syn).all()
    assert not np.array_equal(before, syn)


@given(
    lengths=st.lists(st.integers(2, 6), min_size=1, max_size=30),
    batch_size=st.integers(1, 40),
    start=st.integers(0, 3),
    data=st.data(),
)
def test_any_valid_input_trains(lengths, batch_size, start, data):
    offsets = start + np.concatenate([[0], np.cumsum(lengths)])
    items = data.draw(
        st.lists(st.integers(0, 9), min_size=int(offsets[-1]), max_size=int(offsets[-1]) + 3)
    )
    task = unsupervised(items, offsets, tables=random_tables(10), batch_size=batch_size)
    assert task.num_pair == sum(lengths)
    assert task.do_batches(np.full(len(task), 0.05)) == sum(lengths)
    assert np.isfinite(task.syn0).all()


# --- what is refused --------------------------------------------------------

FLOAT64 = np.zeros((50, DIM))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": []}, r"items is empty"),
        ({"items": [[1, 2]]}, r"items has shape \(1, 2\)"),
        ({"items": [0.5, 1.5]}, r"items has dtype float64"),
        ({"items": [True, False]}, r"items has dtype bool"),
        ({"items": ["a", "b"]}, r"items has dtype"),
        ({"items": [0, 50], "offsets": [0, 2]}, r"items goes from 0 to 50; .* 49"),
        ({"items": [-1, 3], "offsets": [0, 2]}, r"items goes from -1"),
        ({"items": [0, 2**40], "offsets": [0, 2]}, r"items goes from 0 to 1099511627776"),
        ({"offsets": []}, r"offsets is empty"),
        ({"offsets": [0]}, r"offsets has one entry"),
        ({"offsets": [0, 4, 2]}, r"offsets falls from 4 to 2 at position 2"),
        ({"offsets": [-1, 4]}, r"offsets goes from -1"),
        ({"offsets": [0, 10**6]}, r"offsets goes from 0 to 1000000"),
        ({"offsets": [0.0, 2.0]}, r"offsets has dtype"),
        ({"offsets": [0, 2, 3, 6]}, r"1 of 3 itemsets .* itemset 1 with 1; .*prune_itemsets"),
        ({"weights": [1.0]}, r"weights has 1 entries"),
        ({"weights": "ones"}, r"weights"),
        ({"syn0": FLOAT64}, r"syn0 has dtype float64"),
        ({"syn0": FLOAT64.astype(np.float32).T}, r"syn0.*C-contiguous"),
        ({"syn1": FLOAT64.astype(np.float32)[:40]}, r"syn0 has shape .* syn1"),
        ({"syn0": [[1.0]]}, r"syn0 is a list"),
        ({"syn0": np.zeros((50, 0), np.float32)}, r"syn0 has shape \(50, 0\)"),
        ({"syn0": np.zeros(50, np.float32)}, r"syn0 has shape \(50,\)"),
        ({"num_negative": -1}, r"num_negative is -1"),
        ({"num_negative": 2.5}, r"num_negative is 2.5"),
        ({"num_negative": 10**6}, r"num_negative is 1000000"),
        ({"batch_size": 0}, r"batch_size is 0"),
        ({"learning_rate_scale": float("nan")}, r"learning_rate_scale is nan"),
        ({"learning_rate_scale": "x"}, r"learning_rate_scale is 'x'"),
        ({"seed": -1}, r"seed"),
        ({"num_threads": 0}, r"num_threads"),
        ({"device": "gpu"}, r"device must be"),
        ({"negative_sharing": 3}, r"negative_sharing is 3; pass one of 1, 2, 4, 8, 16, 32"),
        ({"negative_sharing": 0}, r"negative_sharing is 0"),
        ({"device": "cpu:1"}, r"device must be"),
    ],
)
def test_bad_input_is_refused(changes, message):
    items, offsets = random_itemsets()
    syn0, syn1 = random_tables()
    good = {"items": items, "offsets": offsets, "syn0": syn0, "syn1": syn1}
    UnsupervisedTask(**good)
    with pytest.raises(InputError, match=message):
        UnsupervisedTask(**{**good, **changes})


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_weights_must_be_finite(bad):
    items, offsets = random_itemsets()
    weights = np.ones(len(items))
    weights[17] = bad
    with pytest.raises(InputError, match=r"weights\[17\] is"):
        unsupervised(items, offsets, weights=weights)


def test_read_only_tables_are_refused():
    syn0, syn1 = random_tables()
    syn0.flags.writeable = False
    with pytest.raises(InputError, match="read-only"):
        unsupervised(tables=(syn0, syn1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"left_items": [50], "left_offsets": [0, 1]}, r"left_items goes from 50 to 50; .* 49"),
        ({"right_items": [30], "right_offsets": [0, 1]}, r"right_items goes .* 29"),
        ({"right_offsets": [0, 1]}, r"left_offsets bounds 200 itemsets and right_offsets 1"),
        ({"left_offsets": [0, 2, 2]}, r"left_offsets: 1 of 2 .* fewer than 1.*mask=.*both sides"),
        ({"right_weights": [1]}, r"right_weights has 1"),
        ({"right_syn": np.zeros((30, DIM + 1), np.float32)}, r"dimension 12 and right_syn 13"),
    ],
)
def test_bad_supervised_input_is_refused(changes, message):
    left, right = random_itemsets(50, 200, 1, 6), random_itemsets(30, 200, 1, 3)
    names = ("left_items", "left_offsets", "right_items", "right_offsets", "left_syn", "right_syn")
    good = dict(zip(names, (*left, *right, *random_tables(50, 30)), strict=True))
    SupervisedTask(**good)
    with pytest.raises(InputError, match=message):
        SupervisedTask(**{**good, **changes})


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 1e39, "fast"])
def test_learning_rates_must_be_finite(make, rate):
    with pytest.raises(InputError, match="learning_rate"):
        make().do_batch(rate)


def test_compound_tasks_refuse_what_is_no_task():
    with pytest.raises(InputError, match="tasks is empty"):
        CompoundTask()
    with pytest.raises(InputError, match=r"list.*CompoundTask\(\*tasks\)"):
        CompoundTask([unsupervised(), supervised()])


@pytest.fixture
def no_gpu(monkeypatch):
    def find_chip(index=0):
        raise DeviceError("no NVIDIA driver was found; train with device='cpu'")

    monkeypatch.setattr(chips, "find_chip", find_chip)


def test_cuda_says_why_it_cannot_be_had(no_gpu, monkeypatch, caplog):
    with pytest.raises(DeviceError, match=r"device='cuda'.*cpu"):
        unsupervised(device="cuda")
    monkeypatch.setenv("ITEMBED_GPU_DEVICE", "cuda:1")
    with pytest.raises(DeviceError, match="ITEMBED_GPU_DEVICE='cuda:1'"):
        unsupervised()
    devices._say_choice.cache_clear()
    for _ in range(2):
        assert unsupervised(device="auto").device == "cpu"
    assert [record.getMessage()[:31] for record in caplog.records] == [
        "device='auto' trains on the CPU"
    ]
    monkeypatch.setenv("ITEMBED_GPU_DEVICE", "tpu")
    with pytest.raises(InputError, match="ITEMBED_GPU_DEVICE must be"):
        unsupervised()


def test_what_is_fixed_cannot_be_changed_in_silence(make):
    task = make()
    for name in ("num_negative", "batch_size", "seed"):
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(task, name, 7)
    task.learning_rate_scale = 0.5  # this one counts from batch to batch
    with pytest.raises(AttributeError):
        unsupervised().syn0 = random_tables()[0]


def test_weights_that_were_not_given_are_ones(make):
    task = make()
    for name in ("weights",) if hasattr(task, "items") else ("left_weights", "right_weights"):
        assert getattr(task, name).dtype == np.float32
        assert (getattr(task, name) == 1).all()


def test_more_pairs_times_batches_than_int64_holds_are_refused():
    num = 2**21
    left = np.zeros(num + 2**22 - 1, dtype=np.int32), np.append(0, 2**22 + np.arange(num))
    right = np.zeros(2 * num - 1, dtype=np.int32), np.append(0, num + np.arange(num))
    with pytest.raises(InputError, match="batch_size is 1"):
        SupervisedTask(*left, *right, *random_tables(1), batch_size=1)
    task = SupervisedTask(*left, *right, *random_tables(1), batch_size=64)
    assert task.num_pair == 2**22 * 2**21 + num - 1


def test_tables_have_rows_that_int32_can_number():
    syn = np.zeros((1, 1), dtype=np.float32)
    huge = np.lib.stride_tricks.as_strided(syn, shape=(2**31, 1), strides=(4, 4))
    with pytest.raises(InputError, match="2147483648 rows"):
        unsupervised(tables=(huge, huge))


@pytest.mark.parametrize("length", [1, 2, 100])
def test_a_subclass_may_have_another_length(length):
    class Resized(UnsupervisedTask):
        def __len__(self):
            return length

    task = Resized(*random_itemsets(), *random_tables(), num_negative=NUM_NEGATIVE, seed=1)
    history = train(task, num_epoch=8, progress=False)
    # Whatever it calls an epoch, the batches go through the data in turn.
    assert history.num_pair == pytest.approx(2 * length * task.num_pair, rel=0.3)


# --- tasks of the caller's own ----------------------------------------------


def test_a_subclass_with_its_own_batch_keeps_it():
    class Logged(UnsupervisedTask):
        calls = 0

        def do_batch(self, learning_rate):
            self.calls += 1
            super().do_batch(learning_rate)

    task = Logged(*random_itemsets(), *random_tables(), num_negative=NUM_NEGATIVE)
    train(task, num_epoch=2, progress=False)
    assert task.calls == 2 * len(task)


def test_compound_tasks_take_any_task():
    class Plain:
        def __init__(self):
            self.rates = []

        def __len__(self):
            return 3

        def do_batch(self, learning_rate):
            self.rates.append(learning_rate)

    mine, plain = CountingTask(5), Plain()
    task = CompoundTask(mine, plain, unsupervised(batch_size=100), learning_rate_scale=0.5)
    assert len(task) == 5
    task.do_batch(0.4)
    assert task.do_batches(np.array([0.2, 0.1])) > 0
    assert mine.rates == plain.rates == [0.2, 0.1, 0.05]


def test_a_task_of_ones_own_may_use_any_public_name():
    class Busy(CountingTask):
        def prepare(self, data):
            raise AssertionError

        do_batches = read_tally = check_finite = batches_per_call = prepare

    task = Busy(3)
    train(task, num_epoch=2, progress=False)
    assert len(task.rates) == 6


def test_the_base_class_says_what_is_missing():
    class Empty(Task):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define __len__"):
        len(Empty(1.0))
    with pytest.raises(NotImplementedError, match="Empty must define do_batch"):
        Empty(1.0).do_batch(0.1)


# --- what training is for ---------------------------------------------------


def test_batches_of_the_low_level_learn_the_same():
    # Not the same pairs, but the same problem: losses end up alike.
    items, offsets, clusters = planted_itemsets()
    syn0, syn1 = random_tables(200)
    tmp = np.empty(DIM, dtype=np.float32)
    indices = np.random.default_rng(0).permutation(len(offsets) - 1)
    weights = np.ones(len(items), dtype=np.float32)
    for epoch in range(20):
        do_unsupervised_batch(
            items, weights, offsets, indices, syn0, syn1, tmp, NUM_NEGATIVE,
            0.05 * (1 - epoch / 20), 3, epoch * len(items),
        )  # fmt: skip
    unit = syn0 / np.linalg.norm(syn0, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -2)
    nearest = np.argsort(-scores, axis=1)[:, :9]
    assert np.mean(clusters[nearest] == clusters[:, None]) > 0.95


# --- described, then bound --------------------------------------------------


def trained_epoch(task):
    train(task, num_epoch=1, progress=False)
    return tables_of(task)


def test_a_task_is_bound_when_it_is_first_trained(make):
    task = make()
    assert not {"_problem", "_bound"} & set(vars(task))
    task.do_batch(0.01)
    assert {"_problem", "_bound"} <= set(vars(task))


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adagrad", "noise_exponent": 0.75, "chunk_size": 200}]
)
def test_a_task_can_be_sent(device, make, options):
    task = make(device=device, **options)
    other = pickle.loads(pickle.dumps(task))
    # A GPU adds in any order.
    tolerance = {"rtol": 0.05, "atol": 1e-3} if device == "cuda" else {"rtol": 1e-5, "atol": 1e-7}
    for table, copy in zip(trained_epoch(task), trained_epoch(other), strict=True):
        assert table is not copy
        np.testing.assert_allclose(copy, table, **tolerance)
    # Where it is trained already, it takes along what it has learned, and its place.
    other = pickle.loads(pickle.dumps(CompoundTask(task)))
    for table, copy in zip(trained_epoch(task), trained_epoch(other.tasks[0]), strict=True):
        np.testing.assert_allclose(copy, table, **tolerance)


@pytest.mark.parametrize(("kind", "calls"), [("unsupervised", 1), ("supervised", 2)])
@pytest.mark.parametrize("options", [{}, {"noise_exponent": 0.75, "subsample": 0.01}])
def test_occurrences_are_counted_once(emulated, monkeypatch, kind, calls, options):
    counted = []

    def count(codes, num_code, *, real=protocol.count_codes):
        counted.append(len(codes))
        return real(codes, num_code)

    monkeypatch.setattr(protocol, "count_codes", count)
    task = MAKERS[kind](device="cuda", **options)
    assert not counted
    task.do_batch(0.01)
    # Without noise and subsampling, what pairs of two sides hit is no count.
    assert len(counted) == (0 if kind == "supervised" and not options else calls)
    task.synchronize()


# --- pairs that are listed --------------------------------------------------


def listed_pairs(num_pair=300):
    generator = np.random.default_rng(4)
    left, right = (generator.integers(0, n, num_pair).astype(np.int32) for n in (50, 30))
    return left, right, generator.uniform(-0.5, 2, num_pair).astype(np.float32)


def listed(*, values=True, tables=None, **options):
    left, right, factors = listed_pairs()
    options = {"num_negative": NUM_NEGATIVE, "seed": 1, "num_threads": 1, **options}
    return ListedTask(
        left, right, *(tables or random_tables(50, 30)), values=factors if values else None,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"values": False, "reject_positive": True},
        {"noise_exponent": 0.75, "loss": "nce", "optimizer": "adagrad", "l2": 0.01},
        {"subsample": 0.01, "negative_sharing": 4},
        {"chunk_size": 100},
    ],
)
def test_listed_pairs_are_itemsets_of_one_item_on_each_side(in_sequence, options):
    task = listed(device=in_sequence, **options)
    left, right, values = listed_pairs()
    offsets = np.arange(len(left) + 1)
    options = {name: value for name, value in options.items() if name != "values"}
    if "chunk_size" in options:  # which counts items, of both sides
        options["chunk_size"] *= 2
    same = SupervisedTask(
        left, offsets, right, offsets, *random_tables(50, 30),
        right_weights=values if task.values is not None else None, seed=1,
        num_negative=NUM_NEGATIVE, num_threads=1, device=in_sequence, **options,
    )  # fmt: skip
    assert (len(task), task.num_pair) == (len(same), same.num_pair) == (5, 300)
    history, expected = (train(one, num_epoch=2, progress=False) for one in (task, same))
    for record, other in zip(history.epochs, expected.epochs, strict=True):
        assert (record.num_pair, record.num_dropped) == (other.num_pair, other.num_dropped)
        np.testing.assert_allclose(record.loss, other.loss, rtol=1e-5)
    for table, other in zip(tables_of(task), tables_of(same), strict=True):
        np.testing.assert_allclose(table, other, rtol=1e-5, atol=1e-7)
    assert np.abs(task.left_syn - random_tables(50, 30)[0]).max() > 1e-3


def test_what_listed_pairs_cannot_be():
    tables = random_tables(50, 30)
    for left, right, message in (
        ([0, 1], [0], "left has 2 rows and right 1; pass as many, a pair each"),
        ([0, 50], [0, 1], "left goes from 0 to 50"),
        ([0, 1], [0, -1], "right goes from -1 to 0"),
        ([], [], "left is empty"),
    ):
        with pytest.raises(InputError, match=message):
            ListedTask(left, right, *tables)
    with pytest.raises(InputError, match=r"values has 1 entries for 2 items"):
        ListedTask([0, 1], [0, 1], *tables, values=[1.0])
    for option in ({"pooling": "mean"}, {"reject_itemset": True}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            ListedTask([0, 1], [0, 1], *tables, **option)

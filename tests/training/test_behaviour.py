"""What every backend does, in one suite: the CPU, CUDA emulated, and CUDA where there is a GPU."""

import itertools

import numpy as np
import pytest
from samples import (
    DIM,
    NUM_NEGATIVE,
    RATE,
    planted_itemsets,
    purity,
    random_itemsets,
    random_tables,
    supervised,
    tables_of,
    unsupervised,
)
from test_tasks import NUM_MARKED, epoch_pairs, marked_sums, marked_task

from itembed_gpu import (
    CompoundTask,
    DivergenceError,
    SupervisedTask,
    UnsupervisedTask,
    initialize_syn,
    train,
)

MAKERS = {"unsupervised": unsupervised, "supervised": supervised}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


# --- what is learned --------------------------------------------------------


@pytest.mark.compiled_in
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("sharing", [1, 8])
def test_neighbours_share_a_cluster(device, num_threads, sharing):
    items, offsets, clusters = planted_itemsets()
    syn0, syn1 = random_tables(200)
    task = UnsupervisedTask(
        items, offsets, syn0, syn1, num_negative=NUM_NEGATIVE, seed=1, device=device,
        num_threads=num_threads, negative_sharing=sharing,
    )  # fmt: skip
    history = train(task, num_epoch=20, initial_learning_rate=0.05, progress=False)
    assert purity(syn0, clusters) > 0.95
    assert history.epochs[0].loss > history.loss > 0


@pytest.mark.compiled_in
def test_labels_are_found_from_features(device):
    # Feature f belongs to label f // 5.
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 2000)
    features = (labels[:, None] * 5 + generator.integers(0, 5, (2000, 3))).ravel()
    left_syn, right_syn = random_tables(50, 10)
    task = SupervisedTask(
        features, np.arange(0, 6001, 3), labels, np.arange(2001), left_syn, right_syn,
        num_negative=NUM_NEGATIVE, seed=1, device=device,
    )  # fmt: skip
    train(task, num_epoch=20, initial_learning_rate=0.1, progress=False)
    assert np.array_equal((left_syn @ right_syn.T).argmax(axis=1), np.arange(50) // 5)


def test_one_popular_item_does_no_harm(device):
    # It is in every itemset: on a device, its row must be held back.
    items, offsets, clusters = planted_itemsets()
    items[::5] = 0
    syn0, syn1 = random_tables(200)
    task = UnsupervisedTask(
        items, offsets, syn0, syn1, num_negative=NUM_NEGATIVE, seed=1, device=device
    )
    train(task, num_epoch=20, initial_learning_rate=0.1, progress=False)
    assert np.isfinite(syn0).all()
    assert np.isfinite(syn1).all()
    assert purity(syn0[1:], clusters[1:]) > 0.8


@pytest.mark.parametrize("num_label", [2, 3, 10])
def test_tiny_catalogs_stay_finite(device, num_label):
    generator = np.random.default_rng(0)
    items = generator.integers(0, num_label, 4000)
    syn0, syn1 = random_tables(num_label)
    task = UnsupervisedTask(
        items, np.arange(0, 4001, 4), syn0, syn1, num_negative=NUM_NEGATIVE, seed=1, device=device
    )
    history = train(task, num_epoch=20, initial_learning_rate=0.1, progress=False)
    assert np.isfinite(syn0).all()
    # There is nothing to learn but that a negative is likelier than a neighbour, which the first
    # epoch does: better than tables of zeros is what holds whatever two threads do to each other.
    assert history.loss < (NUM_NEGATIVE + 1) * np.log(2)


# --- which pairs ------------------------------------------------------------


@pytest.mark.compiled_in
@pytest.mark.parametrize("neighbour", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_the_pairs_and_negatives_are_those_of_the_stream(device, neighbour, fused):
    # Read off the tables, bit for bit: see marked_task.
    task = marked_task(neighbour, batch_size=640, num_threads=1, device=device)
    left, right = tables_of(task)
    marks = right.copy()
    rates = np.full(len(task), RATE)
    for epoch in range(2):
        left[:] = 0
        if fused:
            assert task.do_batches(rates) == NUM_MARKED
        else:
            for rate in rates:
                task.do_batch(rate)
        task.synchronize()
        expected = marked_sums(marks, epoch_pairs(task, epoch))
        assert np.array_equal(left / np.float32(RATE / 2), expected)
        assert np.array_equal(right, marks)


@pytest.mark.compiled_in
def test_groups_share_their_negatives(device):
    group = 8
    task = marked_task(True, batch_size=640, num_threads=1, device=device, negative_sharing=group)
    left, right = tables_of(task)
    marks = right.copy()
    task.do_batches(np.full(len(task), RATE))
    task.synchronize()
    rows = epoch_pairs(task)
    # The negatives of a group are the draws of a slot of its own, beyond all slots.
    for n in range(NUM_NEGATIVE):
        rows[:, 3 + n] = group_negatives(task, group)[:, n].repeat(group)[: len(rows)]
    assert np.array_equal(left / np.float32(RATE / 2), marked_sums(marks, rows))
    assert np.array_equal(right, marks)


def group_negatives(task, group):
    from itembed_gpu.objective.rng import philox_words

    num_group = -(-task.num_pair // group)
    assert NUM_NEGATIVE == 3  # draws 1 ... 3 are words of block 0
    negatives = np.empty((num_group, NUM_NEGATIVE), dtype=np.int64)
    for g in range(num_group):
        slot = (1 << 63) + g
        words = philox_words((slot & 0xFFFFFFFF, slot >> 32, 0, 0), (task.seed, 0))
        negatives[g] = [words[n] * NUM_MARKED >> 32 for n in (1, 2, 3)]
    return negatives


@pytest.mark.compiled_in
def test_learning_rates_are_those_of_the_batches(device):
    task = marked_task(True, batch_size=100, num_threads=2, device=device)
    left, marks = (table.copy() for table in tables_of(task))
    rates = RATE * 2.0 ** -(np.arange(len(task)) % 20)
    task.do_batches(rates)
    task.synchronize()
    rows = epoch_pairs(task)
    batch = (np.arange(1, NUM_MARKED + 1) * len(task) - 1) // NUM_MARKED
    update = marks[rows[:, 2]] - marks[rows[:, 3:]].sum(axis=1)
    left[rows[:, 1]] = update * (rates[batch, None] / 2).astype(np.float32)
    assert np.array_equal(tables_of(task)[0], left)


def test_loss_is_that_of_the_start(device, make):
    # Tables of zeros: every logit is 0, and every term log(2), before the first update.
    task = make(device=device)
    for table in tables_of(task):
        table[:] = 0
    history = train(task, num_epoch=1, initial_learning_rate=1e-9, progress=False)
    assert history.loss == pytest.approx((1 + NUM_NEGATIVE) * np.log(2), rel=1e-4)


# --- tables -----------------------------------------------------------------


def test_one_table_for_both_sides(device):
    items, offsets, clusters = planted_itemsets()
    syn, _ = random_tables(200)
    task = UnsupervisedTask(
        items, offsets, syn, syn, num_negative=NUM_NEGATIVE, seed=1, device=device
    )
    train(task, num_epoch=20, initial_learning_rate=0.05, progress=False)
    assert purity(syn, clusters) > 0.9


def test_tables_that_tasks_share(device):
    items, offsets, clusters = planted_itemsets()
    syn0, syn1 = random_tables(200)
    half = offsets[len(offsets) // 2]
    tasks = [
        UnsupervisedTask(part, np.arange(0, len(part) + 1, 5), syn0, syn1,
                         num_negative=NUM_NEGATIVE, seed=1, device=device)
        for part in (items[:half], items[half:])
    ]  # fmt: skip
    train(CompoundTask(*tasks), num_epoch=20, initial_learning_rate=0.05, progress=False)
    assert purity(syn0, clusters) > 0.95


def test_callbacks_see_tables_that_are_up_to_date(device):
    task = unsupervised(device=device)
    seen = [task.syn0.copy()]
    train(
        task, num_epoch=3, progress=False, callbacks=[lambda state: seen.append(task.syn0.copy())]
    )
    assert len(seen) == 4
    for before, after in itertools.pairwise(seen):
        assert np.abs(before - after).max() > 0
    assert np.array_equal(seen[-1], task.syn0)


def test_what_the_caller_changes_between_two_calls_counts(device):
    task = unsupervised(device=device)
    train(task, num_epoch=1, progress=False)
    task.syn0[:] = 0
    task.syn1[:] = 0
    train(task, num_epoch=1, progress=False)
    assert not task.syn0.any()


def test_do_batch_trains_until_synchronize(device):
    task = unsupervised(device=device)
    before = task.syn0.copy()
    for _ in range(len(task)):
        task.do_batch(0.1)
    task.synchronize()
    assert (np.abs(task.syn0 - before).max(axis=1) > 0).all()


def test_tables_of_the_device(device):
    items, offsets, clusters = planted_itemsets()
    syn0 = initialize_syn(200, DIM + 1, seed=1, device=device)
    syn1 = initialize_syn(200, DIM + 1, "zero", device=device)
    assert syn0.shape == (200, DIM + 1)
    task = UnsupervisedTask(items, offsets, syn0, syn1, num_negative=NUM_NEGATIVE, seed=1)
    train(task, num_epoch=20, initial_learning_rate=0.05, progress=False)
    host = syn0.get() if hasattr(syn0, "get") else syn0
    assert purity(host, clusters) > 0.95
    assert np.array_equal(host.shape, initialize_syn(200, DIM + 1, seed=1).shape)


# --- what goes wrong --------------------------------------------------------


def test_divergence_is_found(device):
    task = unsupervised(device=device)
    before = task.syn0.copy()
    task.syn1[3, 4] = 1e30
    with pytest.raises(DivergenceError, match="not finite"):
        train(task, num_epoch=5, initial_learning_rate=1e30, progress=False)
    if task.device != "cpu":
        assert np.array_equal(task.syn0, before)


def test_ctrl_c_leaves_what_was_trained(device, caplog):
    task = unsupervised(device=device)
    before = task.syn0.copy()

    def interrupt(state):
        raise KeyboardInterrupt

    history = train(task, num_epoch=5, progress=False, callbacks=[interrupt])
    assert history.interrupted
    assert np.isfinite(task.syn0).all()
    assert np.abs(task.syn0 - before).max() > 0
    assert "interrupted in epoch 1 of 5" in caplog.text


def test_a_callback_that_raises_loses_nothing(device):
    task = unsupervised(device=device)
    before = task.syn0.copy()

    def fail(state):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(task, num_epoch=5, progress=False, callbacks=[fail])
    assert np.abs(task.syn0 - before).max() > 0


def test_weights_scale_the_updates(device):
    items, offsets = random_itemsets()
    weights = np.ones(len(items), dtype=np.float32)
    weights[offsets[10] : offsets[20]] = 0
    changed = []
    for w in (None, weights):
        task = unsupervised(items, offsets, weights=w, num_negative=0, device=device)
        before = task.syn0.copy()
        task.do_batches(np.full(len(task), 1e-3))
        task.synchronize()
        changed.append(task.syn0 - before)
    only = np.setdiff1d(
        items[offsets[10] : offsets[20]], np.delete(items, np.r_[offsets[10] : offsets[20]])
    )
    assert not changed[1][only].any()
    assert np.abs(changed[0] - changed[1]).max() > 0

"""The order of an epoch, its batches, and the learning rate."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit
from samples import compiled_slots, slots_of

from itembed_gpu import index_batch_stream
from itembed_gpu.errors import InputError
from itembed_gpu.objective.schedule import (
    batch_at,
    batch_start,
    epoch_order,
    learning_rates,
    loss_stride,
    slot_guide,
)


@njit
def compiled_batch_at(num_slot, num_batch, position, group):
    return batch_at(num_slot, num_batch, position, group)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.data())
def test_an_order_is_a_permutation(seed, stream, epoch, data):
    num_slot = data.draw(st.integers(1, 3000))
    assert np.array_equal(np.sort(slots_of(seed, stream, epoch, num_slot)), np.arange(num_slot))


def test_an_order_is_pinned():
    # Every backend has to walk it like this.
    assert slots_of(42, 0, 0, 11).tolist() == [5, 8, 10, 9, 0, 4, 7, 1, 6, 3, 2]
    large = compiled_slots(epoch_order(42, 3, 7, 10**12), 10**11, 4)
    assert large.tolist() == [968270040038, 764941320580, 945061531703, 371661824479]


def test_orders_differ_by_seed_stream_and_epoch():
    base = slots_of(1, 0, 0, 1000)
    for other in (slots_of(2, 0, 0, 1000), slots_of(1, 1, 0, 1000), slots_of(1, 0, 1, 1000)):
        assert np.count_nonzero(base == other) < 20


def test_an_order_looks_random():
    # Rank correlation of neighbours, of position and slot, and itemsets of ten
    # kept apart, each averaged over epochs.
    num_slot, num_epoch = 10_000, 50
    neighbours, trend, same = [], [], []
    for epoch in range(num_epoch):
        slots = slots_of(9, 0, epoch, num_slot).astype(np.float64)
        neighbours.append(np.corrcoef(slots[:-1], slots[1:])[0, 1])
        trend.append(np.corrcoef(np.arange(num_slot), slots)[0, 1])
        same.append(np.mean(slots[:-1] // 10 == slots[1:] // 10))
    assert abs(np.mean(neighbours)) < 0.01
    assert abs(np.mean(trend)) < 0.01
    assert np.std(neighbours) < 0.03
    assert np.mean(same) < 3 * 9 / num_slot


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.sampled_from([1, 2, 8, 32]), st.data())
def test_batches_are_equal_shares_of_whole_groups(num_slot, num_batch, group, data):
    num_batch = min(num_batch, num_slot)
    assert batch_start(num_slot, num_batch, 0, group) == 0
    assert batch_start(num_slot, num_batch, num_batch, group) == num_slot
    batch = data.draw(st.integers(0, num_batch - 1))
    start, stop = (batch_start(num_slot, num_batch, b, group) for b in (batch, batch + 1))
    num_group = -(-num_slot // group)
    assert start % group == 0
    assert -(-(stop - start) // group) in (num_group // num_batch, -(-num_group // num_batch))
    if stop > start:
        for position in (start, stop - 1):
            assert compiled_batch_at(num_slot, num_batch, position, group) == batch


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 7))
def test_the_guide_brackets_every_slot(lengths, shift):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    guide = slot_guide(offsets, shift)
    for slot in range(offsets[-1]):
        itemset = np.searchsorted(offsets, slot, side="right") - 1
        assert guide[slot >> shift] <= itemset <= guide[(slot >> shift) + 1]
        if shift == 0:
            assert guide[slot] == itemset


def test_learning_rates_fall_like_the_reference():
    rates = learning_rates(0.025, 0.005, 3, 4, 10)
    assert rates.tolist() == [(0.005 - 0.025) * step / 10 + 0.025 for step in (3, 4, 5, 6)]
    assert learning_rates(0.1, 0.0, 0, 1, 7)[0] == 0.1


def test_learning_rates_fall_along_half_a_cosine():
    expected = [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]
    np.testing.assert_allclose(learning_rates(1, 0, 0, 4, 4, "cosine"), expected, rtol=1e-12)
    np.testing.assert_allclose(learning_rates(3, 1, 2, 2, 4, "cosine"), [2, 1 + 2 * expected[3]])


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_index_batches_cover_each_epoch_once(size):
    batches = index_batch_stream(10, size, seed=1)
    epochs = [np.concatenate(list(itertools.islice(batches, -(-10 // size)))) for _ in range(3)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), np.arange(10))
        assert epoch.dtype == np.int32
    assert not np.array_equal(epochs[0], epochs[1])


def test_index_batches_are_arrays_of_their_own():
    batches = index_batch_stream(6, 3, seed=0)
    first = next(batches)
    kept = first.copy()
    first[:] = -1
    assert np.array_equal(np.sort(np.concatenate([kept, next(batches)])), np.arange(6))


def test_index_batches_follow_numpys_seed():
    np.random.seed(3)
    first = next(index_batch_stream(100, 10))
    np.random.seed(3)
    assert np.array_equal(first, next(index_batch_stream(100, 10)))


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0), (-1, 1)])
def test_index_batches_refuse_sizes_at_once(arguments):
    with pytest.raises(InputError, match="at least 1"):
        index_batch_stream(*arguments)


@pytest.mark.parametrize(
    ("num_slot", "stride"),
    [(0, 1), (1, 1), (8191, 1), (8192, 2), (1 << 18, 64), (1 << 19, 128), (10**10, 128)],
)
def test_the_loss_is_of_all_pairs_or_of_enough(num_slot, stride):
    assert loss_stride(num_slot) == stride

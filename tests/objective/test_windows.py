"""Windows: which pairs of a sequence are trained, and how often, against word2vec's own draw."""

import math
from fractions import Fraction

import numpy as np
import pytest
from formula import find_pairs, window_pairs
from hypothesis import given, settings, strategies as st
from numba import njit
from samples import random_tables, unsupervised

from itembed_gpu import InputError, ListedTask, SupervisedTask, UnsupervisedTask, train
from itembed_gpu.objective.constants import MAX_WINDOW
from itembed_gpu.objective.rng import u64
from itembed_gpu.objective.windows import count_in_windows, find_in_window


@njit
def find_all(length, window, num_slot, words):
    """Places of all slots of an itemset, each with its word."""
    places = np.empty((num_slot, 2), dtype=np.uint64)
    for rank in range(num_slot):
        near, far = find_in_window(u64(length), u64(window), u64(rank), u64(num_slot), words[rank])
        places[rank, 0], places[rank, 1] = near, far
    return places.astype(np.int64)


def expected_place(length, window, rank, num_slot, word):
    """Places of a slot, in whole numbers of any size, counting the distances up."""
    units = [(length - d) * (window - d + 1) for d in range(1, min(window, length - 1) + 1)]
    half = sum(units)
    unit = math.floor((rank + Fraction(word, 1 << 32)) * 2 * half / num_slot)
    backward, unit = divmod(unit, half)
    for distance, count in enumerate(units, 1):
        if unit < count:
            place = unit // (window - distance + 1)
            pair = place, place + distance
            return pair[::-1] if backward else pair
        unit -= count
    return None


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 60),
    st.one_of(st.integers(1, 80), st.sampled_from([10**6, MAX_WINDOW - 1, MAX_WINDOW])),
    st.integers(0, 2**32),
)
def test_slots_are_drawn_from_their_shares_exactly(length, window, seed):
    count = int(count_in_windows(np.array([length]), window)[0])
    half = sum((length - d) * (window - d + 1) for d in range(1, min(window, length - 1) + 1))
    assert count == math.floor(Fraction(2 * half, window) + Fraction(1, 2)) >= 2
    words = np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint64)
    words[:2] = 0, (1 << 32) - 1
    places = find_all(length, window, count, words)
    for rank in {0, 1, count // 2, count - 1}:
        expected = expected_place(length, window, rank, count, int(words[rank]))
        assert tuple(places[rank]) == expected
    assert places.min() >= 0
    assert places.max() < length
    distances = abs(places[:, 0] - places[:, 1])
    assert 1 <= distances.min() <= distances.max() <= window


def test_the_longest_itemsets_that_fit_are_drawn_exactly():
    # Numbers of 62 bits, at both ends of what is allowed.
    for length, window in ((46_000, MAX_WINDOW), (10**9, 1), (10**6, 2000), (40_000, 10**6)):
        count = int(count_in_windows(np.array([length]), window)[0])
        farthest = min(window, length - 1)
        half = sum((length - d) * (window - d + 1) for d in range(1, farthest + 1))
        assert count == (4 * half + window) // (2 * window)
        generator = np.random.default_rng(length)
        ranks = np.append(generator.integers(0, count, 3), [0, count - 1]).tolist()
        for rank in ranks:
            word = int(generator.integers(0, 1 << 32))
            got = find_one(length, window, rank, count, u64(word))
            assert got == expected_place(length, window, rank, count, word)


@njit
def find_one(length, window, rank, num_slot, word):
    near, far = find_in_window(u64(length), u64(window), u64(rank), u64(num_slot), word)
    return np.int64(near), np.int64(far)


@pytest.mark.parametrize(("length", "window"), [(46_400, MAX_WINDOW), (10**9, 2), (10**7, 220)])
def test_itemsets_of_too_many_pairs_are_refused(length, window):
    with pytest.raises(InputError, match=f"window is {window}, .* of {length} items; pass a small"):
        count_in_windows(np.array([3, length]), window)


def test_a_long_itemset_takes_no_memory_of_its_own():
    # Offsets and a guide of a few entries, whatever the number of pairs.
    items = np.zeros(10_000_000, dtype=np.int32)
    task = UnsupervisedTask(items, [0, len(items)], *random_tables(2), window=5, seed=1)
    pairs = task._problem.pairs
    assert task.num_pair == 6 * len(items) - 14  # 2 W / window
    assert pairs.slot_offsets.tolist() == [0, task.num_pair]
    assert pairs.guide.nbytes < 100


# --- as word2vec --------------------------------------------------------------


def draw_as_word2vec(length, window, num_epoch, generator):
    """Count pairs: each position with all within a distance that is drawn."""
    counts = np.zeros((length, length))
    places = np.arange(length)
    for _ in range(num_epoch):
        reach = generator.integers(1, window + 1, length)
        counts += abs(places - places[:, None]) <= reach[:, None]
    np.fill_diagonal(counts, 0)
    return counts


@pytest.mark.parametrize(("length", "window"), [(8, 4), (4, 6), (2, 3)])
def test_pairs_come_as_often_as_in_word2vec(length, window):
    num_epoch = 500
    task = unsupervised(np.arange(length), [0, length], window=window)
    expected = np.zeros((length, length))
    for left, right in window_pairs(length, window):
        expected[left, right] += num_epoch / window
    theirs = draw_as_word2vec(length, window, num_epoch, np.random.default_rng(3))
    deviation = np.sqrt(num_epoch) / 2
    assert abs(theirs - expected).max() < 4.5 * deviation  # what the oracle means
    counts = np.zeros((length, length))
    for epoch in range(num_epoch):
        left, right, _ = find_pairs(task, epoch, 0)
        np.add.at(counts, (left, right), 1)
    scale = counts.sum() / expected.sum()  # the number of slots is whole
    assert scale == pytest.approx(1, abs=0.5 * num_epoch / expected.sum() + 1e-9)
    assert abs(counts - expected * scale).max() < 4.5 * deviation
    assert not counts[expected == 0].any()


def test_items_that_follow_each_other_are_alike():
    # A cycle: each item beside the next; of whole itemsets all are alike.
    generator = np.random.default_rng(0)
    starts = generator.integers(0, 30, 600)
    items = ((starts[:, None] + np.arange(15)) % 30).astype(np.int32).ravel()
    offsets = np.arange(0, len(items) + 1, 15)
    ranks = {}
    for pooling, window in (("pairs", None), ("pairs", 1), ("mean", 1)):
        task = unsupervised(
            items, offsets, tables=random_tables(30), window=window, pooling=pooling,
            optimizer="adagrad",
        )  # fmt: skip
        train(task, num_epoch=3, initial_learning_rate=0.4, progress=False)
        scores = task.syn0 @ task.syn1.T
        near = [(scores[i] >= scores[i, (i + 1) % 30]).sum() for i in range(30)]
        ranks[pooling, window] = np.mean(near)
    assert max(ranks["pairs", 1], ranks["mean", 1]) < 4 < ranks["pairs", None]


# --- what is refused ----------------------------------------------------------


@pytest.mark.parametrize("window", [0, -1, 1.5, True, "wide", MAX_WINDOW + 1])
def test_a_window_is_a_whole_number(window):
    with pytest.raises(InputError, match=f"^window is {window!r}; pass "):
        unsupervised(window=window)


def test_windows_are_of_itemsets_alone():
    offsets, tables = np.arange(4), random_tables(3)
    with pytest.raises(InputError, match="window is 2, and features have no order among labels"):
        SupervisedTask(np.arange(3), offsets, np.arange(3), offsets, *tables, window=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'window'"):
        ListedTask([0], [1], *tables, window=2)


def test_chunks_have_the_pairs_of_all_itemsets():
    whole, cut = (unsupervised(window=3, chunk_size=size, batch_size=8) for size in (None, 200))
    history = train(cut, num_epoch=1, progress=False)
    assert len(cut._bound._chunks) > 1
    assert history.epochs[0].num_pair == cut.num_pair == whole.num_pair

"""Sets that are packed one after the other."""

import numpy as np

from itembed_gpu.sets import as_offsets, choose_sets, distinct_items, keep_items, set_keys, set_sums

ITEMS = np.array([3, 1, 3, 2, 2**31 - 1], dtype=np.int32)
OFFSETS = np.array([0, 3, 3, 5], dtype=np.int64)


def test_offsets_begin_at_0():
    assert as_offsets(np.diff(OFFSETS)).tolist() == OFFSETS.tolist()
    assert as_offsets(np.array([], dtype=np.int32)).tolist() == [0]


def test_keys_tell_sets_and_items_apart():
    keys = set_keys(ITEMS, OFFSETS)
    assert (keys >> 32).tolist() == [0, 0, 0, 2, 2]
    assert (keys & 0xFFFFFFFF).tolist() == ITEMS.tolist()


def test_sums_of_sets_keep_integers_and_have_zeros_for_empty_ones():
    for values in (np.array([1, 0, 2, 5, 5]), np.array([0.5, 0, 0.25, 1, 0])):
        sums = set_sums(values, OFFSETS)
        assert sums.dtype == values.dtype
        assert sums.tolist() == [values[:3].sum(), 0, values[3:].sum()]
    assert set_sums(np.array([True, False, True, True, False]), OFFSETS).tolist() == [2, 0, 1]


def test_the_different_items_of_each_set_ascend():
    items, offsets = distinct_items(ITEMS, OFFSETS)
    assert (items.tolist(), offsets.tolist()) == ([1, 3, 2, 2**31 - 1], [0, 2, 2, 4])
    assert (items.dtype, offsets.dtype) == (np.int32, np.int64)


def test_some_sets_are_chosen():
    items, offsets = choose_sets((ITEMS, OFFSETS), np.array([False, True, True]))
    assert (items.tolist(), offsets.tolist()) == ([2, 2**31 - 1], [0, 0, 2])


def test_items_are_kept_in_their_sets():
    kept = np.array([True, False, False, True, False])
    items, offsets = keep_items(np.array([5, 1, 5, 2, 2], np.int32), np.array([0, 2, 2, 5]), kept)
    assert items.tolist() == [5, 2]
    assert offsets.tolist() == [0, 1, 1, 2]
    assert offsets.dtype == np.int64

"""How a catalog is cut into parts, and in which order blocks of them are trained."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from itembed_gpu.training import partitions
from itembed_gpu.training.partitions import (
    DEALT_TOGETHER,
    LEFT,
    MIN_VISIT,
    PAIRS_PER_VISIT,
    RIGHT,
    Block,
    by_count,
    count_sweeps,
    deal,
    schedule,
)

KEY = {"seed": 3, "stream": 0, "epoch": 0, "side": LEFT}


def all_rows(num_row):
    return np.arange(num_row, dtype=np.int32)


@given(st.integers(1, 24), st.integers(1, 24), st.booleans())
def test_a_schedule_has_each_block_once_and_no_part_twice_in_a_step(num_part, workers, same):
    num_worker = min(num_part, workers)
    steps = schedule(num_part, num_worker, same)
    blocks = [block for step in steps for turn in step for block in turn]
    assert sorted(blocks) == [Block(i, j) for i in range(num_part) for j in range(num_part)]
    for step in steps:
        assert 1 <= len(step) <= num_worker
        sides = [
            {(0 if same else side, part) for block in turn for side, part in enumerate(block)}
            for turn in step
        ]
        assert all(len(parts) <= 2 for parts in sides)
        assert len(set().union(*sides)) == sum(map(len, sides))


@pytest.mark.parametrize(("num_part", "num_worker"), [(8, 1), (8, 2), (8, 4), (32, 16)])
def test_all_workers_are_busy_and_keep_one_of_their_parts(num_part, num_worker):
    steps = schedule(num_part, num_worker)
    assert len(steps) == num_part**2 // num_worker
    assert {len(step) for step in steps} == {num_worker}
    for before, step in pairwise(steps):
        kept = [old[0].left == new[0].left for old, new in zip(before, step, strict=True)]
        turned = [old[0].right == new[0].right for old, new in zip(before, step, strict=True)]
        assert all(kept) or all(turned)


def test_a_schedule_is_what_it_was():
    # Literally: another order would be another training.
    assert schedule(2, 1) == [[((0, 0),)], [((0, 1),)], [((1, 1),)], [((1, 0),)]]
    assert schedule(4, 2)[:2] == [[((0, 0),), ((1, 2),)], [((0, 1),), ((1, 3),)]]
    assert schedule(2, 2, same_table=True) == [[((0, 0), (0, 1), (1, 0), (1, 1))]]
    assert schedule(3, 1, same_table=True)[0] == [((0, 0),)]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**64 - 1), st.integers(0, 9))
def test_a_deal_is_a_permutation_in_parts_of_about_one_size(num_row, parts, seed, epoch):
    num_part = min(num_row, parts)
    dealt = deal(all_rows(num_row), num_part, seed, 0, epoch, RIGHT)
    rows = [dealt.rows(part) for part in range(num_part)]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), all_rows(num_row))
    sizes = [len(part) for part in rows]
    assert max(sizes) - min(sizes) <= 1
    for part, members in enumerate(rows):
        np.testing.assert_array_equal(dealt.ranks[members] % num_part, part)
        np.testing.assert_array_equal(dealt.ranks[members] // num_part, range(len(members)))


def test_a_deal_has_the_key_of_a_stream():
    keys = [KEY | change for change in ({}, {"epoch": 1}, {"stream": 1}, {"seed": 4}, {"side": 1})]
    orders = [deal(all_rows(64), 4, **key).order.tolist() for key in keys]
    assert len(set(map(tuple, orders))) == len(keys)
    assert deal(all_rows(64), 4, **KEY).order.tolist() == orders[0]
    # Literally: another one would be another training.
    assert orders[0][:12] == [9, 0, 12, 5, 15, 4, 1, 6, 10, 14, 8, 2]


def test_rows_are_dealt_with_those_of_like_count():
    generator = np.random.default_rng(0)
    counts = generator.zipf(1.5, 400).clip(max=10_000)
    rows = by_count(counts)
    assert (np.diff(counts[rows]) <= 0).all()
    same = counts[rows][:-1] == counts[rows][1:]
    assert (np.diff(rows)[same] > 0).all()
    dealt = deal(rows, 4, **KEY)
    together = DEALT_TOGETHER * 4
    for start in range(0, 400, together):
        assert set(dealt.order[start : start + together]) == set(rows[start : start + together])


def test_any_two_rows_of_like_count_meet():
    rows = all_rows(DEALT_TOGETHER * 2)
    met = np.zeros((len(rows), len(rows)), dtype=bool)
    for epoch in range(60):
        parts = deal(rows, 2, **KEY | {"epoch": epoch}).ranks % 2
        met |= parts[:, None] == parts
    assert met.all()


def test_a_single_part_has_all_rows_in_their_order():
    rows = by_count(np.array([1, 5, 3]))
    assert deal(rows, 1, **KEY).order.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("num_pair", "num_row", "num_part", "expected"),
    [
        (10**9, 10, 1, 1),  # none is cut
        (8 * 10_000 * PAIRS_PER_VISIT, 10_000, 8, 1),
        (8 * 10_000 * PAIRS_PER_VISIT + 1, 10_000, 8, 2),
        (10**6, 1000, 8, 10**6 // (64 * MIN_VISIT)),  # more would be too short
        (0, 10, 4, 1),
    ],
)
def test_sweeps_are_as_many_as_a_row_needs(num_pair, num_row, num_part, expected):
    assert count_sweeps(num_pair, num_row, num_part) == expected


def test_rows_are_dealt_out_alike_by_any_number_of_threads(monkeypatch):
    rows = np.random.default_rng(0).permutation(5000).astype(np.int32)
    one = deal(rows, 7, 3, 0, 1, 0)
    monkeypatch.setattr(partitions, "MIN_ROWS_PER_CALL", 300)
    more = deal(rows, 7, 3, 0, 1, 0, num_threads=3)
    np.testing.assert_array_equal(one.order, more.order)
    np.testing.assert_array_equal(one.ranks, more.ranks)
    np.testing.assert_array_equal(one.ranks[one.order], np.arange(5000))

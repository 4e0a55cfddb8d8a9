"""Pairs in flight, simulated: the routine of the package on old rows is the formula on old rows."""

import numpy as np
import pytest

from benchmarks import staleness
from itembed_gpu.objective.rng import philox_words

NUM_LABEL, NUM_PAIR = 30, 100
FIRST_SLOT = 7


@pytest.fixture(scope="module")
def problem():
    """Pairs, and tables large enough that it matters how old they are."""
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, NUM_LABEL, (NUM_PAIR, 2))
    tables = generator.normal(0, 0.3, (2, NUM_LABEL, staleness.DIM)).astype(np.float32)
    caps = generator.uniform(0.05, 0.4, (2, NUM_LABEL)).astype(np.float32)
    return pairs, tables, caps


def changes_of(u, rows, rates, left_rate):
    """Changes of a left row and of the rows of its targets, the first being the positive."""
    labels = np.arange(len(rows)) == 0
    errors = labels - 1 / (1 + np.exp(-rows @ u))
    return left_rate * errors @ rows, (rates * errors)[:, None] * u


def share_of(cap, fewer, slot, number):
    """What an update at a rate of 0.3 is multiplied by."""
    if cap >= 0.3:
        return 1
    if fewer == 0:
        return cap / 0.3
    words = philox_words((slot & 0xFFFFFFFF, slot >> 32, 0, number >> 2), (0, 0))
    return fewer if words[number & 3] / 2**32 < cap / 0.3 / fewer else 0


def train_by_hand(pairs, negatives, tables, caps, num_tile, sharing, delayed, fewer):
    """The same in float64: what is pending is added when its window, or its delay, is over."""
    syn0, syn1 = tables.astype(np.float64)
    held, before, pending = {}, {}, []

    def add(updates):
        for table, row, change in updates:
            table[row] += change

    # The order of a device: a step of each tile after the other.
    size = num_tile * sharing
    steps = [
        [begin + tile * sharing + step for tile in range(num_tile)]
        for begin in range(0, NUM_PAIR, size)
        for step in range(sharing)
    ]
    for step in steps:
        for i in (i for i in step if i < NUM_PAIR):
            if delayed and len(pending) == num_tile:
                add(pending.pop(0))
            group, (left, right) = i // sharing, pairs[i]
            if i % sharing == 0:
                before[group] = syn1[negatives[group]]
                held[group] = before[group].copy()
            rows = np.vstack([syn1[right], held[group]])
            delta, change = changes_of(syn0[left], rows, np.full(6, 0.3), 0.3)
            held[group] += change[1:]
            own, shared = FIRST_SLOT + i + 3 * 2**59, 2**60 + (i if sharing == 1 else 2**63 + i)
            delta *= share_of(caps[0][left], fewer, own, 0)
            change[0] *= share_of(caps[1][right], fewer, own, 1)
            updates = [(syn0, left, delta), (syn1, right, change[0])]
            if (i + 1) % sharing == 0:
                shared += FIRST_SLOT - (sharing - 1)
                for n, row in enumerate(negatives[group]):
                    share = share_of(caps[1][row], fewer, shared, n + 1)
                    updates.append((syn1, row, share * (held[group] - before[group])[n]))
            pending.append(updates)
        if not delayed:
            while pending:
                add(pending.pop(0))
    for updates in pending:
        add(updates)
    return syn0, syn1


@pytest.mark.parametrize(
    ("num_tile", "sharing", "delayed", "fewer"),
    [
        (1, 1, False, 1),
        (7, 1, False, 0),
        (7, 1, True, 1),
        (7, 1, True, 2),
        (1, 4, False, 0),
        (3, 4, False, 1),
    ],
)
def test_pairs_in_flight_follow_the_formula_on_old_rows(problem, num_tile, sharing, delayed, fewer):
    pairs, tables, caps = problem
    size = (NUM_PAIR // sharing, staleness.NUM_NEGATIVE)
    negatives = np.random.default_rng(1).integers(0, NUM_LABEL, size, dtype=np.int32)
    expected = train_by_hand(pairs, negatives, tables, caps, num_tile, sharing, delayed, fewer)
    found = tables.copy()
    left = staleness.make_side(found[0], caps[0], num_tile)
    right = staleness.make_side(found[1], caps[1], num_tile * staleness.NUM_TARGET)
    rates = np.full(NUM_PAIR, 0.3, np.float32)
    how = num_tile, sharing, delayed, False, float(fewer)
    staleness.train_epoch(pairs, negatives, rates, left, right, how, FIRST_SLOT)
    assert np.abs(expected[0] - tables[0]).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_where_rows_are_stored_the_last_pair_stays(problem):
    pairs, tables, _ = problem
    pairs = np.repeat(pairs[:1], 3, axis=0)
    negatives = np.full((3, staleness.NUM_NEGATIVE), (pairs[0, 1] + 1) % NUM_LABEL, dtype=np.int32)
    rates, found = np.float32([0.3, 0.2, 0.1]), []
    for store, chosen in ((True, slice(None)), (False, slice(2, None))):
        syn0, syn1 = tables.copy()
        left, right = staleness.make_side(syn0, None, 3), staleness.make_side(syn1, None, 18)
        how = (left, right, (3, 1, False, store, 1.0), 0)
        staleness.train_epoch(pairs[chosen], negatives[chosen], rates[chosen], *how)
        found.append((syn0, syn1[pairs[0, 1]]))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


@pytest.mark.parametrize("popularity", ["uniform", "hot", "zipf"])
def test_catalogs_have_the_shares_that_caps_are_planned_with(popularity):
    catalog = staleness.Catalog("", 40, 0, 1, popularity)
    items, offsets = catalog.sample(20_000, 3)
    shares = np.bincount(items, minlength=40) / len(items)
    np.testing.assert_allclose(shares, catalog.shares(), rtol=0.1)
    assert set(np.diff(offsets)) == {5, 6, 7, 8, 9, 10}

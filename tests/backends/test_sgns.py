"""The pair routine against its formula, written out in NumPy in float64."""

import numpy as np
import pytest
from formula import numpy_update
from numba import njit

from itembed_gpu.backends.cpu.losses import sigmoid
from itembed_gpu.backends.cpu.pairs import ONE, Bags, Block, Stream
from itembed_gpu.backends.cpu.sgns import (
    Group,
    Model,
    Origin,
    Rows,
    Scratch,
    Step,
    update_group,
    update_pair,
)
from itembed_gpu.objective.constants import MEANS, SPAN
from itembed_gpu.objective.options import (
    FREEZE_LEFT,
    FREEZE_RIGHT,
    NO_SETTINGS,
    REJECT_POSITIVE,
)
from itembed_gpu.objective.pairs import PRODUCT, ItemsetSource, ListedSource, Side
from itembed_gpu.objective.rng import philox_words, u64

KEY = Stream(u64(9), u64(0), u64(0))
GROUP = 1 << 63


@njit
def compiled_pair(constants, model, left, targets, step, with_loss, bag):
    dim = constants[1]
    row, delta = np.empty(dim, dtype=np.float32), np.empty(dim, dtype=np.float32)
    scratch = Scratch(row, delta, np.zeros(SPAN, dtype=np.float32), None, None)
    return update_pair(constants, model, left, targets, step, scratch, with_loss, bag)


def make_model(
    syn_left, syn_right, caps=(None, None), states=(None, None), corrections=None, l2=None
):
    left, right = Rows(syn_left, caps[0], states[0]), Rows(syn_right, caps[1], states[1])
    settings = NO_SETTINGS._replace(l2=l2)
    return Model(left, right, corrections, settings)


def compiled_update(
    syn_left, left, syn_right, targets, scale, with_loss, rate=ONE, states=(None, None),
    corrections=None, l2=None, flags=0, bag=None,
):  # fmt: skip
    model = make_model(syn_left, syn_right, (None, None), states, corrections, l2)
    constants = PRODUCT, syn_left.shape[1], len(targets), 1, flags
    return compiled_pair(constants, model, left, targets, Step(scale, rate), with_loss, bag)


@njit
def compiled_sigmoid(x):
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = sigmoid(x[i])
    return y


def make_tables(dim, num_left=11, num_right=13, seed=0):
    generator = np.random.default_rng(seed)
    return [
        (0.5 * generator.normal(size=(n, dim))).astype(np.float32) for n in (num_left, num_right)
    ]


@pytest.mark.parametrize("dim", [1, 2, 7, 16, 33, 128])
@pytest.mark.parametrize("num_negative", [0, 1, 5, 7, 8, 20])
def test_a_pair_follows_the_formula(dim, num_negative):
    syn_left, syn_right = make_tables(dim)
    targets = np.random.default_rng(1).integers(0, 13, num_negative + 1).astype(np.int32)
    left, right, loss = numpy_update(syn_left, 4, syn_right, targets, 0.3)
    got = compiled_update(syn_left, 4, syn_right, targets, np.float32(0.3), True)
    np.testing.assert_allclose(syn_left, left, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(syn_right, right, rtol=1e-5, atol=1e-6)
    assert got == pytest.approx(loss, rel=1e-5)


def test_repeated_targets_lose_no_update():
    # The positive is drawn as a negative too, and one negative three times.
    syn_left, syn_right = make_tables(24)
    targets = np.array([3, 3, 5, 5, 5, 6], dtype=np.int32)
    left, right, _ = numpy_update(syn_left, 0, syn_right, targets, 0.5)
    compiled_update(syn_left, 0, syn_right, targets, np.float32(0.5), False)
    np.testing.assert_allclose(syn_left, left, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(syn_right, right, rtol=1e-5, atol=1e-6)


def test_one_table_for_both_sides():
    syn, _ = make_tables(24)
    targets = np.array([2, 7, 2, 9], dtype=np.int32)  # the left item among its own targets
    expected, _, _ = numpy_update(syn, 2, syn, targets, 0.5)
    compiled_update(syn, 2, syn, targets, np.float32(0.5), False)
    np.testing.assert_allclose(syn, expected, rtol=1e-5, atol=1e-6)


def test_only_the_rows_of_the_pair_change():
    syn_left, syn_right = make_tables(16)
    before = syn_left.copy(), syn_right.copy()
    compiled_update(
        syn_left, 4, syn_right, np.array([1, 2], dtype=np.int32), np.float32(0.1), False
    )
    assert np.flatnonzero((syn_left != before[0]).any(axis=1)).tolist() == [4]
    assert np.flatnonzero((syn_right != before[1]).any(axis=1)).tolist() == [1, 2]


# Options of the objective, one by one and together. A bag has a row twice, a negative
# weight and one of 0.
CORRECTIONS = np.log(np.linspace(0.1, 3, 13)).astype(np.float32)
BAG = np.array([4, 7, 4, 2, 9], np.int32), np.array([0.3, -0.2, 0.1, 0.4, 0], np.float32)
OPTIONS = {
    "nce": {"corrections": CORRECTIONS},
    "l2": {"l2": 0.3},
    "adagrad": {"adagrad": True},
    "bag": {"bag": BAG},
    "left-frozen": {"updated": (False, True)},
    "right-frozen": {"updated": (True, False)},
    "adagrad-bag-l2": {"adagrad": True, "bag": BAG, "l2": 0.3},
    "adagrad-bag-frozen": {"adagrad": True, "bag": BAG, "l2": 0.3, "updated": (False, True)},
    "everything": {"adagrad": True, "corrections": CORRECTIONS, "l2": 0.3},
    "everything-frozen": {
        "adagrad": True, "corrections": CORRECTIONS, "l2": 0.3, "updated": (True, False)
    },
}  # fmt: skip


def flags_of(updated=(True, True)):
    return FREEZE_LEFT * (not updated[0]) + FREEZE_RIGHT * (not updated[1])


def make_states(adagrad, tables):
    """Accumulators, some of which are 0."""
    if not adagrad:
        return None, None
    generator = np.random.default_rng(2)
    states = [generator.uniform(0, 0.5, len(table)).astype(np.float32) for table in tables]
    for state in states:
        state[::3] = 0
    return tuple(states)


def in_float64(states):
    return tuple(None if state is None else state.astype(np.float64) for state in states)


def assert_states(got, expected):
    for state, other in zip(got, expected, strict=True):
        if state is not None:
            np.testing.assert_allclose(state, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("num_negative", [0, 1, 7, 8, 20])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_pair_follows_the_formula_of_its_options(name, num_negative):
    options = dict(OPTIONS[name])
    tables = make_tables(12)
    # Two steps, so that accumulators matter; scale is a weight where there is Adagrad.
    adagrad = options.pop("adagrad", False)
    states = make_states(adagrad, tables)
    rate, scale = (0.2, -0.7) if adagrad else (0.3, -0.3)
    expected, expected_states = tables, in_float64(states)
    generator = np.random.default_rng(1)
    for _ in range(2):
        targets = generator.integers(0, 13, num_negative + 1).astype(np.int32)
        *expected, loss = numpy_update(
            expected[0], 4, expected[1], targets, scale, rate=rate, states=expected_states,
            **options,
        )  # fmt: skip
        l2, bag = options.get("l2"), options.get("bag")
        got = compiled_update(
            tables[0], 4, tables[1], targets, np.float32(scale), True, np.float32(rate), states,
            options.get("corrections"), None if l2 is None else np.float32(l2),
            flags_of(options.get("updated", (True, True))),
            None if bag is None else (*bag, len(bag[0]), 0, np.float32(0)),
        )  # fmt: skip
        assert got == pytest.approx(loss, rel=1e-4)
    for table, other in zip(tables, expected, strict=True):
        np.testing.assert_allclose(table, other, rtol=1e-4, atol=1e-5)
    assert_states(states, expected_states)


@pytest.mark.parametrize("side", [0, 1])
def test_a_frozen_side_keeps_its_bits(side):
    tables = make_tables(12)
    before = [table.copy() for table in tables]
    states = make_states(True, tables)
    old = [state.copy() for state in states]
    compiled_update(
        tables[0], 4, tables[1], np.arange(9, dtype=np.int32), np.float32(1), False,
        np.float32(0.2), states, None, np.float32(0.3), (FREEZE_LEFT, FREEZE_RIGHT)[side], None,
    )  # fmt: skip
    assert np.array_equal(tables[side], before[side])
    assert np.array_equal(states[side], old[side])
    assert not np.array_equal(tables[1 - side], before[1 - side])
    assert not np.array_equal(states[1 - side], old[1 - side])


def test_l2_and_adagrad_touch_only_the_rows_of_the_pair():
    tables = make_tables(12)
    states = make_states(True, tables)
    before = [array.copy() for array in (*tables, *states)]
    compiled_update(
        tables[0], 4, tables[1], np.array([1, 2], np.int32), np.float32(1), False,
        np.float32(0.2), states, None, np.float32(0.3), 0, None,
    )  # fmt: skip
    changed = [
        np.flatnonzero((new != old).reshape(len(new), -1).any(axis=1)).tolist()
        for new, old in zip((*tables, *states), before, strict=True)
    ]
    assert changed == [[4], [1, 2], [4], [1, 2]]


def test_adagrad_starts_where_the_gradient_is_zero():
    # Zeros on the right give no gradient on the left, and no square: the step stays finite.
    syn_left, syn_right = make_tables(12)
    syn_right[:] = 0
    before = syn_left.copy()
    states = np.zeros(11, np.float32), np.zeros(13, np.float32)
    compiled_update(
        syn_left, 4, syn_right, np.array([1, 2], np.int32), np.float32(1), False,
        np.float32(0.2), states, None, np.float32(0.3), 0, None,
    )  # fmt: skip
    # Nor is there anything for l2 to hold back.
    assert np.array_equal(syn_left, before)
    assert states[0][4] == 0
    # The first step of a row is rate * gradient / its root mean square.
    steps = syn_right[[1, 2]]
    np.testing.assert_allclose(np.sqrt(np.mean(steps**2, axis=1)), 0.2, rtol=1e-4)


def test_sigmoid_is_accurate_and_saturates():
    x = np.linspace(-80, 80, 100_001, dtype=np.float32)
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(compiled_sigmoid(x), expected, rtol=1e-5)
    small = np.abs(x) < 10
    np.testing.assert_allclose(compiled_sigmoid(x)[small], expected[small], rtol=2e-6)
    extreme = compiled_sigmoid(np.array([-np.inf, -1e30, 0, 1e30, np.inf], dtype=np.float32))
    assert extreme[[0, 1]].max() < 1e-37
    assert extreme[2:].tolist() == [0.5, 1, 1]


def test_large_logits_stay_finite():
    syn_left = np.full((1, 4), 1e15, dtype=np.float32)
    syn_right = np.array([[1e15] * 4, [-1e15] * 4], dtype=np.float32)
    loss = compiled_update(
        syn_left, 0, syn_right, np.array([0, 1], dtype=np.int32), np.float32(0.1), True
    )
    assert loss == 0
    assert np.isfinite(syn_left).all()
    assert np.isfinite(syn_right).all()


def test_not_a_number_is_not_hidden():
    syn_left, syn_right = make_tables(8)
    syn_left[3, 0] = np.nan
    loss = compiled_update(
        syn_left, 3, syn_right, np.array([1, 2], dtype=np.int32), np.float32(0.1), True
    )
    assert np.isnan(loss)
    assert np.isnan(syn_right[1]).any()


# --- groups -----------------------------------------------------------------


@njit
def compiled_pairs(constants, model, group, origin):
    dim = constants[1]
    row, delta = np.empty(dim, dtype=np.float32), np.empty(dim, dtype=np.float32)
    # One more than is needed without accumulators.
    local = np.empty((SPAN, dim + 1), dtype=np.float32)
    scratch = Scratch(row, delta, np.zeros(SPAN, np.float32), local, np.empty_like(local))
    return update_group(constants, model, group, origin, scratch)


def make_origin(bags, right, scale, dim):
    """Pair i is of itemset i, the left side of which is bag i."""
    items, weights = (np.concatenate(side) for side in zip(*bags, strict=True))
    offsets = np.r_[0, np.cumsum([len(rows) for rows, _ in bags])]
    sides = Side(items, offsets, weights), Side(right, np.arange(len(right) + 1), scale)
    pairs = ItemsetSource(*sides, pooled=True).pairs()
    ranges, longest = (offsets[:-1], offsets[1:]), max(len(rows) for rows, _ in bags)
    rows, shares = np.empty(longest, np.int32), np.empty(longest, np.float32)
    means = np.empty((MEANS, dim), np.float32)
    skips = np.full(len(right), -1)
    return Origin(KEY, pairs, Bags(pairs, *ranges, skips, None, rows, shares, means, means.copy()))


def compiled_group(
    syn_left, left, syn_right, right, negatives, scale, sample, rate, caps, states=(None, None),
    corrections=None, l2=None, flags=0, bags=None,
):  # fmt: skip
    model = make_model(syn_left, syn_right, caps, states, corrections, l2)
    num_pair = len(left)
    constants = PRODUCT, syn_left.shape[1], len(negatives), num_pair, flags
    rates = np.full(num_pair, rate, dtype=np.float32)
    places = np.empty((3, num_pair), dtype=np.int64)
    slots, logs = np.arange(num_pair, dtype=np.uint64), np.empty(0, np.float32)
    block = Block(slots, *places, left, right, scale, rates, logs)
    # Which itemset a pair is of matters where all of it is rejected.
    origin = Origin(KEY, ListedSource(left, right, scale).pairs(), None)
    if bags:
        origin = make_origin(bags, right, scale, syn_left.shape[1])
    return compiled_pairs(
        constants, model, Group(block, 0, num_pair, u64(GROUP), negatives, sample, 1 << 20), origin
    )


def is_made(caps, row, rate, slot, number):
    """Whether the update of a row is made, by a draw: with probability cap / rate."""
    if caps is None:
        return True
    words = philox_words((slot & 0xFFFFFFFF, slot >> 32, 0, number >> 2), (9, 0))
    return words[number & 3] / 2**32 < caps[row] / rate


def numpy_group_step(table, state, row, gradient, rate, decay):
    """Move one row."""
    step = 1.0
    if state is not None:
        state[row] += np.mean(gradient**2)
        step = rate / np.sqrt(state[row] + 1e-10) if state[row] else 0.0
    table[row] = step * gradient + table[row] / (1 + step * decay)


def numpy_group(
    syn_left, left, syn_right, right, negatives, scale, sample, rate, caps, *,
    states=(None, None), corrections=None, l2=0.0, updated=(True, True), rejects=False, bags=None,
):  # fmt: skip
    """Expected tables and loss: negatives change locally, and are added at the end.

    A left row is read and moved at each span of negatives. With bags and several spans, the means
    of MEANS pairs are read before the first one, and their rows are moved after the last. Pair i
    has the draws of slot i, and what pairs share has those of GROUP.
    """
    of_pair, of_group, first_draw = 3 << 59, GROUP + (1 << 60), 2 if bags else 0
    u, v = syn_left.astype(np.float64), syn_right.astype(np.float64)
    if syn_right is syn_left:
        v = u
    corrections = np.zeros(len(v)) if corrections is None else corrections
    if bags is None:
        bags = [([row], np.ones(1)) for row in left]
        keeps = False
    else:
        bags = [(rows, weights / np.abs(weights).sum()) for rows, weights in bags]
        keeps = len(negatives) > SPAN

    def move_left(i, change, decay):
        for n, (row, share) in enumerate(zip(*bags[i], strict=True) if updated[0] else ()):
            if is_made(caps[0], row, rate, of_pair + i, first_draw + n):
                numpy_group_step(u, states[0], row, share * change, rate, decay)

    def train_span(first, pairs, means, changes):
        """Train some pairs with a span of negatives; return the loss, and add to the changes."""
        loss = 0.0
        span = negatives[first : first + SPAN]
        shared = span[1:] if first == 0 else span
        local = v[shared].copy()
        origin = local.copy()
        local_state = None if states[1] is None else states[1][shared].copy()
        origin_state = None if states[1] is None else local_state.copy()
        for i in pairs:
            targets = np.r_[right[i : i + 1], shared] if first == 0 else shared
            rows = np.concatenate([v[right[i : i + 1]], local]) if first == 0 else local
            labels = (np.arange(len(rows)) + first == 0).astype(float)
            row = means[i] if keeps else bags[i][1] @ u[bags[i][0]]
            trained = (labels == 1) | (targets != right[i]) | (not rejects)
            logits = np.where(trained, rows @ row - corrections[targets], -np.inf)
            if i == sample:
                loss += np.log1p(np.exp(np.where(labels == 1, -logits, logits))).sum()
            gradients = scale[i] * (labels - 1 / (1 + np.exp(-logits)))
            decay = abs(scale[i]) * l2
            change = gradients @ rows
            for n in range(len(shared)) if updated[1] else ():
                if trained[n - len(shared)]:
                    update = gradients[n - len(shared)] * row
                    numpy_group_step(local, local_state, n, update, rate, decay)
            if first == 0 and updated[1] and is_made(caps[1], right[i], rate, of_pair + i, 1):
                numpy_group_step(v, states[1], right[i], gradients[0] * row, rate, decay)
            if keeps:
                changes[i] += change
            else:
                move_left(i, change, decay if first == 0 else 0)
        for n, target in enumerate(shared):
            number = first + n + (first == 0)
            if not is_made(caps[1], target, rate, of_group, number):
                continue
            v[target] += local[n] - origin[n]
            if local_state is not None:
                states[1][target] += local_state[n] - origin_state[n]
        return loss

    loss = 0.0
    size = MEANS if keeps else len(left)
    for start in range(0, len(left), size):
        pairs = range(start, min(start + size, len(left)))
        means = {i: bags[i][1] @ u[bags[i][0]] for i in pairs}
        changes = {i: np.zeros(u.shape[1]) for i in pairs}
        for first in range(0, len(negatives), SPAN):
            loss += train_span(first, pairs, means, changes)
        for i in pairs if keeps else ():
            move_left(i, changes[i], abs(scale[i]) * l2)
    return u, v, loss


@pytest.mark.parametrize("num_negative", [0, 1, 5, 7, 8, 20])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("capped", [False, True])
def test_a_group_shares_its_negatives(num_negative, same, capped):
    generator = np.random.default_rng(num_negative)
    syn_left, syn_right = (generator.normal(0, 0.5, (10, 9)).astype(np.float32) for _ in range(2))
    if same:
        syn_right = syn_left
    # Of ten rows, some come twice, as negatives and as items.
    left, right = (generator.integers(0, 10, 6).astype(np.int32) for _ in range(2))
    negatives = generator.integers(0, 10, num_negative + 1).astype(np.int32)
    scale = generator.uniform(-0.1, 0.2, 6).astype(np.float32)
    rate = np.float32(0.2)
    caps = [generator.uniform(0.05, 0.4, 10).astype(np.float32) for _ in range(2)]
    if not capped:
        caps = [None] * 2
    expected = numpy_group(syn_left, left, syn_right, right, negatives, scale, 3, rate, caps)
    loss = compiled_group(syn_left, left, syn_right, right, negatives, scale, 3, rate, tuple(caps))
    np.testing.assert_allclose(syn_left, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(syn_right, expected[1], rtol=1e-5, atol=1e-5)
    assert loss == pytest.approx(expected[2], rel=1e-5)


GROUP_OPTIONS = {
    "nce": {"corrections": CORRECTIONS},
    "l2": {"l2": 0.3},
    "reject": {"rejects": True},
    "adagrad": {"adagrad": True},
    "left-frozen": {"updated": (False, True)},
    "right-frozen": {"updated": (True, False)},
    "everything": {"adagrad": True, "corrections": CORRECTIONS, "l2": 0.3, "rejects": True},
    "everything-frozen": {
        "adagrad": True, "corrections": CORRECTIONS, "l2": 0.3, "rejects": True,
        "updated": (True, False),
    },
}  # fmt: skip


@pytest.mark.parametrize("num_negative", [0, 7, 20])
@pytest.mark.parametrize("name", GROUP_OPTIONS)
def test_a_group_follows_the_formula_of_its_options(name, num_negative):
    assert_group(num_negative, 6, **GROUP_OPTIONS[name])


@pytest.mark.parametrize("num_negative", [7, 8, 40])
@pytest.mark.parametrize("name", ["everything", "everything-frozen"])
def test_means_of_a_group_are_read_and_moved_once_a_pair(name, num_negative):
    # More pairs than have their means kept at once.
    num_pair = 2 * MEANS + 3
    generator = np.random.default_rng(5)
    lengths = generator.integers(1, 5, num_pair)
    bags = [
        (
            generator.integers(0, 10, length).astype(np.int32),
            (generator.uniform(0.2, 1, length) * generator.choice([-1, 1])).astype(np.float32),
        )
        for length in lengths
    ]
    assert_group(num_negative, num_pair, bags=bags, **GROUP_OPTIONS[name])


def assert_group(num_negative, num_pair, adagrad=False, bags=None, **options):
    """Compare a group that is trained with the formula."""
    generator = np.random.default_rng(num_negative)
    tables = make_tables(9, 10, 13)
    before = [table.copy() for table in tables]
    # Some rows come twice, as negatives and as items; four of the negatives are positives.
    left = generator.integers(0, 10, num_pair).astype(np.int32)
    right = generator.integers(0, 13, num_pair).astype(np.int32)
    negatives = generator.integers(0, 13, num_negative + 1).astype(np.int32)
    negatives[1:13:3] = right[: len(negatives[1:13:3])]
    scale = generator.uniform(-0.3, 0.6, num_pair).astype(np.float32)
    rate = np.float32(0.2)
    caps = None, None
    if not adagrad:
        caps = tuple(generator.uniform(0.1, 0.6, len(t)).astype(np.float32) for t in tables)
    states = make_states(adagrad, tables)
    expected_states = in_float64(states)
    *expected, loss = numpy_group(
        *(tables[0], left, tables[1], right, negatives, scale, 3, rate, caps),
        states=expected_states, bags=bags, **options,
    )  # fmt: skip
    flags = flags_of(options.get("updated", (True, True)))
    flags += REJECT_POSITIVE * options.get("rejects", False)
    l2 = options.get("l2")
    got = compiled_group(
        tables[0], left, tables[1], right, negatives, scale, 3, rate, caps, states,
        options.get("corrections"), None if l2 is None else np.float32(l2), flags,
        bags,
    )  # fmt: skip
    for table, other in zip(tables, expected, strict=True):
        np.testing.assert_allclose(table, other, rtol=1e-4, atol=1e-5)
    assert_states(states, expected_states)
    assert got == pytest.approx(loss, rel=1e-4)
    updated = options.get("updated", (True, True))
    for table, old, moves in zip(tables, before, updated, strict=True):
        assert np.array_equal(table, old) != moves

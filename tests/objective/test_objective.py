"""Options of the objective: that each does what its formula says, on every backend.

The draws of an epoch are worked out here once more, in NumPy, from the words of the random
stream (`draw_epoch`). Which of them were trained is read off the tables bit for bit, as in
test_tasks; what they did to the tables is compared with the formula of test_steps, in float64.
"""

import numpy as np
import pytest
from formula import (
    HALF_OF_THEM,
    KEEP_RIGHT_SLOT,
    KEEP_SLOT,
    NUM_LEFT,
    NUM_RIGHT,
    K,
    draw,
    draw_epoch,
    make_task,
    numbered,
    numpy_update,
    skewed_itemsets,
    weights_for,
)
from hypothesis import given, strategies as st
from numba import njit
from samples import (
    DIM,
    NUM_NEGATIVE,
    RATE,
    random_itemsets,
    random_tables,
    slots_of,
    supervised,
    tables_of,
    unsupervised,
)

from itembed_gpu import CompoundTask, Cuda, InputError, SupervisedTask, UnsupervisedTask, train
from itembed_gpu.backends.cpu.pairs import draw_noise
from itembed_gpu.objective.arrays import (
    Objective,
    alias_table,
    keep_probabilities,
    log_corrections,
    noise_shares,
    noise_weights,
)
from itembed_gpu.objective.options import Options
from itembed_gpu.objective.rng import u64

# --- a task, and its draws in NumPy -----------------------------------------


def train_at(task, num_epoch, rate=0.1):
    """Train at one learning rate."""
    return train(
        task, num_epoch=num_epoch, initial_learning_rate=rate, final_learning_rate=rate,
        progress=False,
    )  # fmt: skip


# --- which pairs and negatives, bit for bit ---------------------------------


def marked_task(kind, **options):
    """As in test_tasks, but rows occur often: no mark is 0, so that none is changed."""
    generator = np.random.default_rng(3)
    num_right = NUM_LEFT if kind == "unsupervised" else NUM_RIGHT
    marks = generator.integers(1, 9, (num_right, DIM)) * generator.choice([-1, 1], (num_right, DIM))
    tables = np.zeros((NUM_LEFT, DIM), dtype=np.float32), marks.astype(np.float32)
    return make_task(kind, tables=tables, **options)


def marked_sums(task, drawn):
    """What each left row is to be, over rate / 2."""
    marks = tables_of(task)[1].astype(np.float64)
    updates = marks[drawn.rows] - (marks[drawn.negatives] * drawn.trained[..., None]).sum(axis=1)
    sums = np.zeros((NUM_LEFT, DIM))
    np.add.at(sums, task._problem.pairs.left_items[drawn.left[drawn.kept]], updates[drawn.kept])
    return sums


def assert_draws_were_trained(task, num_epoch=2):
    left, right = tables_of(task)
    marks = right.copy()
    for epoch in range(num_epoch):
        left[:] = 0
        history = train_at(task, 1, RATE)
        drawn = draw_epoch(task, epoch)
        assert np.array_equal(left / np.float32(RATE / 2), marked_sums(task, drawn))
        assert np.array_equal(right, marks)
        record = history.epochs[0]
        assert (record.num_pair, record.num_dropped) == (drawn.kept.sum(), (~drawn.kept).sum())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("supervised", {"noise_exponent": 0.75}),
        ("supervised", {"noise_exponent": 1}),
        ("supervised", {"noise_exponent": -0.5}),
        ("supervised", {"noise_weights": HALF_OF_THEM}),
        ("supervised", {"subsample": 0.02}),
        pytest.param(
            "supervised", {"noise_exponent": 1, "reject_positive": True},
            marks=pytest.mark.compiled_in,
        ),
        ("supervised", {"reject_itemset": True}),
        ("supervised", {"reject_positive": True, "negative_sharing": 8}),
        pytest.param(
            "supervised", {"reject_itemset": True, "negative_sharing": 8},
            marks=pytest.mark.compiled_in,
        ),
        ("unsupervised", {"noise_exponent": 0.75, "subsample": 0.02, "reject_itemset": True}),
        ("unsupervised", {"window": 2}),
        ("unsupervised", {"window": 3, "subsample": 0.02, "negative_sharing": 8}),
    ],
)  # fmt: skip
def test_pairs_and_negatives_are_those_of_the_stream(device, kind, options):
    assert_draws_were_trained(marked_task(kind, device=device, **options))


def test_a_thousand_negatives_are_a_thousand(device):
    # Beyond 250 draws, beyond 64, and not compiled in.
    task = marked_task("supervised", num_negative=1000, device=device)
    assert_draws_were_trained(task, 1)
    for table in tables_of(task):
        table[:] = 0
    history = train(task, num_epoch=1, initial_learning_rate=0, progress=False)
    assert history.loss == pytest.approx(1001 * np.log(2), rel=1e-4)


@pytest.mark.compiled_in
@pytest.mark.parametrize("options", [{"noise_exponent": 0}, {"subsample": 0}, {"l2": 0}])
def test_an_option_of_zero_is_no_option(device, options):
    results = []
    for given_options in ({}, options):
        task = unsupervised(device=device, **given_options)
        history = train(task, num_epoch=1, progress=False)
        results.append((*map(np.copy, tables_of(task)), history.loss, history.num_pair))
    for without, given_zero in zip(*results, strict=True):
        # On a GPU the order of additions is not known.
        atol = 1e-3 if device == "cuda" else 0
        np.testing.assert_allclose(given_zero, without, rtol=0, atol=atol)


# --- the alias table --------------------------------------------------------


def shares_of(weights):
    """Probabilities that an alias table stands for."""
    return noise_shares(Objective(*alias_table(np.asarray(weights, dtype=float))), len(weights))


def assert_shares(weights, got):
    """Compare probabilities with the weights they come from."""
    weights = np.asarray(weights, dtype=float)
    expected = weights / weights.max()
    expected /= expected.sum()
    assert np.abs(got - expected).max() <= max(len(weights), 2) / 2**32
    assert not got[weights == 0].any()


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e9)), min_size=1, max_size=200).filter(any)
)
def test_an_alias_table_has_the_shares_of_its_weights(weights):
    thresholds, aliases = alias_table(np.array(weights))
    assert thresholds.dtype == np.uint32
    assert aliases.dtype == np.int32
    assert ((aliases >= 0) & (aliases < len(weights))).all()
    assert_shares(weights, shares_of(weights))


@pytest.mark.parametrize(
    "weights",
    [
        [7.0],
        [1e-300, 1e300],
        [1e-300] * 5,
        [1e300] * 5,
        [0.0, 0.0, 1.0, 0.0],
        [1 - 2**-53, 1.0, 1 + 2**-52],
        np.r_[1e12, np.ones(10_000)],
        np.r_[np.zeros(500), 1e-9, np.zeros(500), 1.0],
        1 / np.arange(1, 100_001),
        np.full(99_999, 0.1),
    ],
    ids=lambda weights: f"{len(weights)}-from-{np.min(weights):.3g}",
)
def test_extreme_weights_have_their_shares(weights):
    assert_shares(weights, shares_of(weights))


@njit
def compiled_noise(words, num_right, thresholds, aliases):
    rows = np.empty(len(words), dtype=np.int64)
    for i in range(len(words)):
        rows[i] = draw_noise(u64(words[i]), u64(num_right), thresholds, aliases)
    return rows


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any))
def test_words_are_drawn_by_the_shares_of_the_weights(weights):
    # Every 2**14-th word that there is; each row has at most len(weights) + 1 stretches of them.
    words = np.arange(0, 2**32, 2**14, dtype=np.uint64)
    rows = compiled_noise(words, len(weights), *alias_table(np.array(weights, dtype=float)))
    counts = np.bincount(rows, minlength=len(weights))
    expected = np.array(weights) / sum(weights) * len(words)
    assert np.abs(counts - expected).max() <= 2 * (len(weights) + 1)
    assert not counts[np.array(weights) == 0].any()


def assert_chi_square(counts, shares):
    """Six standard deviations of the statistic; what has no share must not have been drawn."""
    possible = shares > 0
    assert not counts[~possible].any()
    expected = counts.sum() * shares[possible]
    assert expected.min() > 5
    freedom = possible.sum() - 1
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    assert statistic < freedom + 6 * np.sqrt(2 * freedom)


def label_counts(task):
    pairs = task._problem.pairs
    return np.bincount(pairs.right_items, minlength=len(task._problem.syn_right))


def power_shares(counts, exponent):
    shares = np.where(counts > 0, np.maximum(counts, 1.0) ** exponent, 0)
    return shares / shares.sum()


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
@pytest.mark.parametrize("exponent", [0.75, 1, -0.5])
def test_noise_follows_the_counts(kind, exponent):
    task = make_task(kind, noise_exponent=exponent)
    objective = task._problem.objective
    words = np.concatenate([draw(task, 0, 0, np.arange(20_000), n) for n in range(1, 4)])
    shares = power_shares(label_counts(task), exponent)
    rows = compiled_noise(words, len(shares), objective.thresholds, objective.aliases)
    assert_chi_square(np.bincount(rows, minlength=len(shares)), shares)


def test_noise_weights_are_what_was_given():
    task = make_task("supervised", noise_weights=HALF_OF_THEM)
    assert_shares(HALF_OF_THEM, noise_shares(task._problem.objective, NUM_RIGHT))


def test_large_exponents_stay_finite():
    counts = np.array([1, 10, 10**9, 0])
    for exponent in (200, -200):
        weights = noise_weights(counts, exponent, None)
        assert weights.max() == 1
        assert weights[3] == 0
        assert weights.argmax() == (2 if exponent > 0 else 0)


# --- subsampling ------------------------------------------------------------


def test_items_are_kept_by_the_root_of_threshold_over_share():
    counts = np.array([900, 90, 9, 1, 0])
    expected = [np.sqrt(0.01 / 0.9), np.sqrt(0.01 / 0.09), 1, 1, 1]
    np.testing.assert_allclose(keep_probabilities(counts, 0.01), expected)


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
def test_each_row_is_kept_as_often_as_it_should_be(kind):
    # What is tested are the thresholds of the task; test_pairs_and_negatives_... ties them to
    # what is trained.
    task = make_task(kind, subsample=0.02)
    objective, pairs = task._problem.objective, task._problem.pairs
    for items, keep, first in (
        (pairs.left_items, objective.left_keep, KEEP_SLOT),
        (pairs.right_items, objective.right_keep, KEEP_RIGHT_SLOT),
    ):
        shares = np.bincount(items, minlength=len(keep)) / len(items)
        row = shares.argmax()
        expected = np.sqrt(0.02 / shares[row])
        assert expected < 0.6
        slots = numbered(first, len(items))[items == row]
        words = np.concatenate([draw(task, epoch, 0, slots, 0) for epoch in range(300)])
        error = 5 * np.sqrt(expected * (1 - expected) / len(words))
        assert np.mean(words < keep[row]) == pytest.approx(expected, abs=error)
        rare = (shares > 0) & (shares <= 0.02)
        assert rare.any()
        assert (keep[rare] == 0xFFFFFFFF).all()


def test_frequent_items_move_less(device):
    moves = []
    for options in ({}, {"subsample": 0.02}):
        task = make_task("supervised", num_negative=K, device=device, **options)
        before = task.left_syn.copy()
        train(task, num_epoch=4, initial_learning_rate=1e-3, progress=False)
        moves.append(np.linalg.norm(task.left_syn - before, axis=1))
    moved = np.flatnonzero(moves[0])
    shares = np.bincount(task.left_items, minlength=NUM_LEFT) / len(task.left_items)
    frequent, rare = moved[shares[moved] > 0.1], moved[shares[moved] < 0.02]
    ratios = moves[1][moved] / moves[0][moved]
    ratio = dict(zip(moved.tolist(), ratios, strict=True))
    assert max(ratio[row] for row in frequent) < 0.5
    assert np.mean([ratio[row] for row in rare]) > 1.3 * max(ratio[row] for row in frequent)


# --- rejection --------------------------------------------------------------


def test_negatives_that_are_rejected_are_drawn_from_the_rest_of_the_noise():
    task = marked_task("supervised", noise_exponent=1, reject_positive=True)
    shares = power_shares(label_counts(task), 1)
    plain = marked_task("supervised", noise_exponent=1)
    counts = np.zeros((NUM_RIGHT, NUM_RIGHT))
    for epoch in range(60):
        drawn, free = draw_epoch(task, epoch), draw_epoch(plain, epoch)
        assert not (drawn.negatives == drawn.rows[:, None]).any()
        fine = free.negatives != free.rows[:, None]
        assert not fine.all()
        assert np.array_equal(drawn.negatives[fine], free.negatives[fine])
        np.add.at(counts, (drawn.rows[:, None], drawn.negatives), 1)
    for positive in (0, 1, 2):
        rest = np.where(np.arange(NUM_RIGHT) == positive, 0, shares)
        assert_chi_square(counts[positive], rest / rest.sum())
    # And these are the ones that the library trains.
    assert_draws_were_trained(task)


@pytest.mark.parametrize("sharing", [1, 8])
@pytest.mark.parametrize(("option", "length"), [("reject_positive", 1), ("reject_itemset", 2)])
def test_no_negative_is_among_what_is_rejected(device, option, length, sharing):
    # Row n of the left has these right rows, which are marked 256 in its own column n; all
    # others are 1 there.
    num_itemset = 6
    marks = np.ones((num_itemset * length + 2, DIM), dtype=np.float32)
    own = np.arange(num_itemset * length)
    marks[own, own // length] = 256
    left = np.zeros((num_itemset, DIM), dtype=np.float32)
    task = SupervisedTask(
        np.arange(num_itemset), np.arange(num_itemset + 1),
        own, length * np.arange(num_itemset + 1),
        left, marks, num_negative=K, seed=1, num_threads=1, device=device,
        negative_sharing=sharing, **{option: True},
    )  # fmt: skip
    for _ in range(5):
        left[:] = 0
        train_at(task, 1, RATE)
        negatives = 256 * length - np.diag(left) / (RATE / 2)
        assert negatives.max() <= K * length  # none of 256
        # What a set that is shared loses is not replaced.
        assert (negatives == K * length).all() == (sharing == 1)


@pytest.mark.parametrize("sharing", [1, 8])
def test_of_two_rows_the_negatives_are_the_other_one(device, sharing):
    left, marks = np.zeros((40, DIM), np.float32), np.ones((2, DIM), np.float32)
    marks[1] = 256
    offsets = np.arange(41)
    task = SupervisedTask(
        np.arange(40), offsets, np.arange(40) % 2, offsets, left, marks, num_negative=K, seed=1,
        num_threads=1, device=device, reject_positive=True, negative_sharing=sharing,
    )  # fmt: skip
    train_at(task, 1, RATE)
    sums = left[:, 0] / np.float32(RATE / 2)
    counts = np.where(np.arange(40) % 2, 256 - sums, (1 - sums) / 256)
    if sharing == 1:
        assert (counts == K).all()
    else:
        # Two pairs of a group with different positives share the K that were drawn.
        assert set(counts) <= set(range(K + 1))
        assert K * 0.3 < counts.mean() < K * 0.7


def test_there_is_a_negative_where_everything_is_rejected(device):
    # The noise is nearly all one row, and then the positive is: some other row is taken.
    options = {"noise_weights": [1.0] + [0.0] * (NUM_RIGHT - 1), "reject_positive": True}
    task = marked_task("supervised", device=device, **options)
    drawn = draw_epoch(task)
    hit = drawn.rows == 0
    assert hit.any()
    assert (drawn.negatives[hit] != 0).all()
    assert (drawn.negatives[~hit] == 0).all()
    assert_draws_were_trained(task)


# --- what pairs do to the tables, against the formula -----------------------


def train_in_numpy(task, rate, epoch=0):
    """Train an epoch in float64, pair by pair; tables and accumulators as they should be."""
    problem, options = task._problem, task.options
    pairs, k = problem.pairs, task.num_negative
    left, right = (table.astype(np.float64) for table in tables_of(task))
    adapts = task.accumulators is not None
    states = [state.astype(np.float64) for state in task.accumulators or ()] or [None, None]
    corrections = None
    if options.loss == "nce":
        shares = power_shares(label_counts(task), options.noise_exponent)
        corrections = np.log(k * np.maximum(shares, 1e-30))  # the others are not met
    drawn = draw_epoch(task, epoch)
    left_weights = pairs.left_weights if len(pairs.left_weights) else np.ones(len(pairs.left_items))
    right_weights = (
        pairs.right_weights if len(pairs.right_weights) else np.ones(len(pairs.right_items))
    )
    for slot in slots_of(task.seed, 0, epoch, len(drawn.rows)).astype(np.int64):
        if not drawn.kept[slot]:
            continue
        scale = float(right_weights[drawn.right[slot]])
        place = drawn.left[slot]
        bag, row = None, None
        if options.pooling == "mean":
            stretch = drawn.bags[slot]
            weights = left_weights[stretch].astype(np.float64)
            bag = pairs.left_items[stretch], weights / np.abs(weights).sum()
        else:
            scale *= float(left_weights[place])
            row = pairs.left_items[place]
        targets = np.r_[drawn.rows[slot], drawn.negatives[slot]]
        left, right, _ = numpy_update(
            left, row, right, targets, scale * (1 if adapts else rate), rate=rate,
            states=states, corrections=corrections, l2=options.l2,
            updated=(options.update_left, options.update_right), bag=bag,
            positive_weight=options.positive_weight, hinge=options.loss == "hinge",
            max_step=options.max_step,
        )  # fmt: skip
    return left, right, states


EVERYTHING = {
    "noise_exponent": 0.75, "loss": "nce", "subsample": 0.02, "reject_itemset": True,
    "positive_weight": 2.0, "optimizer": "adagrad", "l2": 0.05, "max_step": 0.1,
}  # fmt: skip
FORMULAS = {
    "noise": ("supervised", {"noise_exponent": 1}),
    "nce": ("supervised", {"loss": "nce", "noise_exponent": 0.75}),
    "hinge": ("supervised", {"loss": "hinge"}),
    "subsample": ("supervised", {"subsample": 0.02}),
    "reject": ("supervised", {"reject_itemset": True}),
    "left-frozen": ("supervised", {"update_left": False}),
    "right-frozen": ("supervised", {"update_right": False}),
    "l2": ("supervised", {"l2": 0.5}),
    "positive-weight": ("supervised", {"positive_weight": 0.25}),
    "max-step": ("supervised", {"max_step": 0.1, "num_negative": 20, "noise_exponent": 1}),
    "adagrad": ("supervised", {"optimizer": "adagrad"}),
    "mean": ("supervised", {"pooling": "mean"}),
    "mean-adagrad": ("supervised", {"pooling": "mean", "optimizer": "adagrad"}),
    "mean-of-what-is-kept": ("supervised", {"pooling": "mean", "subsample": 0.02}),
    "mean-of-the-others": ("unsupervised", {"pooling": "mean", "subsample": 0.02}),
    "everything": ("unsupervised", EVERYTHING),
    "window": ("unsupervised", {"window": 2}),
    "window-everything": ("unsupervised", {**EVERYTHING, "window": 3}),
    "mean-in-a-window": ("unsupervised", {**EVERYTHING, "pooling": "mean", "window": 2}),
}


def formula_task(kind, options, device):
    """Tables large enough for all terms to matter, and accumulators."""
    generator = np.random.default_rng(4)
    num_right = NUM_LEFT if kind == "unsupervised" else NUM_RIGHT
    tables = [generator.normal(0, 0.4, (n, DIM)).astype(np.float32) for n in (NUM_LEFT, num_right)]
    if options.get("optimizer") == "adagrad":
        states = tuple(generator.uniform(0.5, 1, len(table)).astype(np.float32) for table in tables)
        options = {**options, "accumulators": states}
    return make_task(kind, tables=tables, device=device, **options)


@pytest.mark.parametrize("sharing", [1, 8])
def test_the_loss_of_little_data_is_that_of_all_pairs(in_sequence, sharing):
    task = formula_task("supervised", {"negative_sharing": sharing}, in_sequence)
    pairs, drawn = task._problem.pairs, draw_epoch(task)
    left, right = task._problem.syn_left, task._problem.syn_right
    targets = np.c_[drawn.rows, drawn.negatives]
    logits = np.einsum("nd,nkd->nk", left[pairs.left_items[drawn.left]], right[targets])
    logits[:, 0] *= -1
    history = train(task, num_epoch=1, initial_learning_rate=0, progress=False)
    assert history.loss == pytest.approx(np.log1p(np.exp(logits)).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.compiled_in
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_an_epoch_follows_the_formula(in_sequence, name, weighted):
    kind, options = FORMULAS[name]
    rate = 0.05
    options = {**options, **(weights_for(kind) if weighted else {})}
    task = formula_task(kind, options, in_sequence)
    before = [table.copy() for table in (*tables_of(task), *(task.accumulators or ()))]
    left, right, states = train_in_numpy(task, rate)
    train_at(task, 1, rate)
    after = (*tables_of(task), *(task.accumulators or ()))
    expected = [left, right, *(states if task.accumulators else ())]
    for old, got, new in zip(before, after, expected, strict=True):
        most = np.abs(new - old).max()
        np.testing.assert_allclose(got, new, rtol=0, atol=1e-4 * most)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_frozen_table_stays_as_it_is(device, side):
    task = formula_task("supervised", {f"update_{side}": False}, device)
    before = [table.copy() for table in tables_of(task)]
    train(task, num_epoch=2, initial_learning_rate=0.1, progress=False)
    frozen, trained = (0, 1) if side == "left" else (1, 0)
    assert np.array_equal(tables_of(task)[frozen], before[frozen])
    assert np.abs(tables_of(task)[trained] - before[trained]).max() > 0.01


def test_rows_that_no_pair_touches_do_not_shrink(device):
    task = formula_task("supervised", {"l2": 0.5}, device)
    unused = np.setdiff1d(np.arange(NUM_LEFT), task.left_items)
    before = task.left_syn.copy()
    train(task, num_epoch=3, initial_learning_rate=0.1, progress=False)
    assert len(unused) >= 4
    assert np.array_equal(task.left_syn[unused], before[unused])
    assert (task.left_syn != before).any(axis=1).sum() == NUM_LEFT - len(unused)


# --- what is learned --------------------------------------------------------

NUM_FEATURE, NUM_CLASS = 3, 8


def conditional_task(device, **options):
    """Features, and labels with known probabilities given the feature."""
    generator = np.random.default_rng(5)
    counts = generator.integers(20, 400, (NUM_FEATURE, NUM_CLASS))
    features, labels = (
        np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape)
    )
    generator = np.random.default_rng(0)
    tables = [generator.normal(0, 0.3, (n, DIM)).astype(np.float32)
              for n in (NUM_FEATURE, NUM_CLASS)]  # fmt: skip
    offsets = np.arange(len(labels) + 1)
    task = SupervisedTask(
        features, offsets, labels, offsets, *tables, num_negative=K, seed=1, num_threads=1,
        noise_exponent=0.75, device=device, **options,
    )  # fmt: skip
    return task, counts


def learned_logits(task):
    for rate in (0.2, 0.05):
        train(task, num_epoch=20, initial_learning_rate=rate, progress=False)
    left, right = (table.astype(np.float64) for table in tables_of(task))
    return left @ right.T


def test_nce_learns_logarithms_of_probabilities(device):
    # The optimum of the expected loss is log P(b | a) itself; sampling blurs it.
    task, counts = conditional_task(device, loss="nce")
    logits = learned_logits(task)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, atol=0.05)
    np.testing.assert_allclose(logits, np.log(counts / counts.sum(1, keepdims=True)), atol=0.15)


def test_negative_sampling_learns_them_less_the_noise(device):
    # Its optimum is log P(b | a) - log(k Q(b)) (Levy and Goldberg, 2014).
    task, counts = conditional_task(device)
    logits = learned_logits(task)
    shift = np.log(K * power_shares(counts.sum(axis=0), 0.75))
    expected = np.log(counts / counts.sum(1, keepdims=True))
    np.testing.assert_allclose(logits + shift, expected, atol=0.15)
    sums = np.exp(expected - shift).sum(axis=1)
    assert np.abs(sums - 1).min() > 0.3
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), sums, rtol=0.05)


def fold_in(rows, counts, k):
    """Left rows at the optimum: logistic regression on the expected gradients, by Newton."""
    found = np.zeros((len(counts), rows.shape[1]))
    noise = np.full(len(rows), 1 / len(rows))
    for u, count in zip(found, counts, strict=True):
        for _ in range(30):
            p = 1 / (1 + np.exp(-rows @ u))
            gradient = rows.T @ (count * (1 - p) - count.sum() * k * noise * p)
            slopes = (count + count.sum() * k * noise) * p * (1 - p)
            u += np.linalg.solve((rows * slopes[:, None]).T @ rows, gradient)
        assert np.abs(gradient).max() < 1e-6
    return found


def test_folding_in_is_logistic_regression(device):
    # New rows on the left, trained ones on the right: with one side frozen it is convex.
    generator = np.random.default_rng(6)
    counts = generator.integers(0, 60, (4, NUM_RIGHT))
    features, labels = (
        np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape)
    )
    left = np.zeros((4, DIM), dtype=np.float32)
    right = generator.normal(0, 0.7, (NUM_RIGHT, DIM)).astype(np.float32)
    offsets = np.arange(len(labels) + 1)
    task = SupervisedTask(
        features, offsets, labels, offsets, left, right, num_negative=K, seed=1, num_threads=1,
        update_right=False, device=device,
    )  # fmt: skip
    for rate in (0.1, 0.02, 0.005):
        train(task, num_epoch=30, initial_learning_rate=rate, progress=False)
    expected = fold_in(right.astype(np.float64), counts, K)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(left, expected, atol=0.05)


# --- Adagrad ----------------------------------------------------------------


def adagrad(device="cpu", **options):
    return formula_task("supervised", {"optimizer": "adagrad", **options}, device)


def squares_in_numpy(task, epoch=0, stream=0):
    """Mean squares of the gradients of an epoch at tables that do not change, added up."""
    left, right = (table.astype(np.float64) for table in tables_of(task))
    drawn = draw_epoch(task, epoch, stream)
    totals = np.zeros(len(left)), np.zeros(len(right))
    rows = task._problem.pairs.left_items[drawn.left]
    targets = np.column_stack([drawn.rows, drawn.negatives])
    for row, chosen in zip(rows, targets, strict=True):
        labels = np.arange(len(chosen)) == 0
        gradients = labels - 1 / (1 + np.exp(-right[chosen] @ left[row]))
        totals[0][row] += np.mean((gradients @ right[chosen]) ** 2)
        np.add.at(totals[1], chosen, gradients**2 * np.mean(left[row] ** 2))
    return totals


def test_accumulators_add_up_the_mean_squares_of_gradients(device):
    # At a rate of 0 the tables stay, and no order matters.
    tables = formula_task("supervised", {}, "cpu")
    task = make_task("supervised", tables=tables_of(tables), optimizer="adagrad", device=device)
    assert [len(state) for state in task.accumulators] == [NUM_LEFT, NUM_RIGHT]
    assert not any(state.any() for state in task.accumulators)
    train_at(task, 1, 0)
    for got, expected in zip(task.accumulators, squares_in_numpy(task), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_tasks_that_share_a_table_may_share_its_accumulators(device):
    source = formula_task("supervised", {}, "cpu")
    left, right = tables_of(source)
    other_left = left[::-1].copy()
    options = {"optimizer": "adagrad", "device": device}
    first = make_task("supervised", tables=(left, right), **options)
    mine = np.zeros(NUM_LEFT, dtype=np.float32)
    second = make_task(
        "supervised", tables=(other_left, right), accumulators=(mine, first.accumulators[1]),
        **options,
    )  # fmt: skip
    assert second.accumulators[1] is first.accumulators[1]
    assert second.accumulators[0] is mine
    train_at(CompoundTask(first, second), 1, 0)
    parts = squares_in_numpy(first), squares_in_numpy(second, stream=1)
    np.testing.assert_allclose(first.accumulators[0], parts[0][0], rtol=1e-4)
    np.testing.assert_allclose(mine, parts[1][0], rtol=1e-4)
    np.testing.assert_allclose(first.accumulators[1], parts[0][1] + parts[1][1], rtol=1e-4)


def test_one_table_has_one_accumulator(device):
    table = formula_task("supervised", {}, "cpu").left_syn
    options = {"optimizer": "adagrad", "num_threads": 1, "device": device, "seed": 1}
    items, offsets = random_itemsets(NUM_LEFT)
    task = UnsupervisedTask(items, offsets, table, table, num_negative=NUM_NEGATIVE, **options)
    assert task.accumulators[0] is task.accumulators[1]
    given = np.ones(NUM_LEFT, dtype=np.float32)
    task = UnsupervisedTask(items, offsets, table, table, accumulators=(given, given), **options)
    assert task.accumulators[0] is given


def test_training_goes_on_from_the_accumulators(in_sequence):
    # Four tasks in the second epoch of one random stream.
    whole, halves, kept, lost = (adagrad(in_sequence) for _ in range(4))
    train_at(whole, 2)
    train_at(halves, 1)
    middle = [array.copy() for array in (*tables_of(halves), *halves.accumulators)]
    for task in (kept, lost):
        train_at(task, 1, rate=0.01)  # whatever: what it trains is replaced
        for array, value in zip((*tables_of(task), *task.accumulators), middle, strict=True):
            array[:] = value
    for state in lost.accumulators:
        state[:] = 0
    for task in (halves, kept, lost):
        train_at(task, 1)
    for task in (halves, kept):
        for got, expected in zip(
            (*tables_of(task), *task.accumulators),
            (*tables_of(whole), *whole.accumulators),
            strict=True,
        ):
            assert np.array_equal(got, expected)
    assert np.abs(lost.left_syn - whole.left_syn).max() > 0.05


ZEROS = np.zeros(NUM_LEFT, np.float32), np.zeros(NUM_RIGHT, np.float32)


@pytest.mark.parametrize(
    ("accumulators", "message"),
    [
        (ZEROS[0], "accumulators must be a pair"),
        (ZEROS[:1], "accumulators must be a pair"),
        ((ZEROS[1], ZEROS[1]), rf"accumulators\[0\] has shape \({NUM_RIGHT},\)"),
        ((ZEROS[0], ZEROS[0]), rf"accumulators\[1\] has shape \({NUM_LEFT},\)"),
        ((ZEROS[0][:, None], ZEROS[1]), r"accumulators\[0\] has shape \(40, 1\)"),
        ((ZEROS[0].astype(np.float64), ZEROS[1]), r"accumulators\[0\] has .* float64"),
        ((np.zeros(80, np.float32)[::2], ZEROS[1]), r"accumulators\[0\] has .* strides"),
        ((ZEROS[0], ZEROS[1] - 1), r"accumulators\[1\] holds values that are negative"),
        ((ZEROS[0] + np.nan, ZEROS[1]), r"accumulators\[0\] holds values .* not finite"),
        ((ZEROS[0] + np.inf, ZEROS[1]), r"accumulators\[0\] holds values .* not finite"),
        ((list(ZEROS[0]), ZEROS[1]), r"accumulators\[0\] is a list"),
    ],
)
def test_bad_accumulators_are_refused(accumulators, message):
    with pytest.raises(InputError, match=message):
        make_task("supervised", optimizer="adagrad", accumulators=accumulators)


def test_accumulators_need_adagrad():
    with pytest.raises(InputError, match="accumulators are given, and optimizer is 'sgd'"):
        make_task("supervised", accumulators=ZEROS)
    assert make_task("supervised").accumulators is None


def test_there_are_as_many_accumulators_as_tables():
    one, other = (np.zeros(NUM_LEFT, np.float32) for _ in range(2))
    syn, syn1 = random_tables(NUM_LEFT)
    for tables, accumulators in (((syn, syn), (one, other)), ((syn, syn1), (one, one))):
        with pytest.raises(InputError, match="accumulators must be one array for both sides"):
            make_task("unsupervised", tables=tables, optimizer="adagrad", accumulators=accumulators)


# --- means ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
def test_a_mean_makes_one_pair_of_each_right_item(device, kind):
    task = make_task(kind, pooling="mean", device=device)
    assert task.num_pair == len(task._problem.pairs.right_items)
    history = train(task, num_epoch=1, progress=False)
    assert history.num_pair == task.num_pair
    assert history.epochs[0].num_dropped == 0


def test_a_mean_of_one_is_a_pair(device):
    results = []
    for pooling in ("pairs", "mean"):
        items = np.arange(200) % NUM_LEFT
        right = random_itemsets(NUM_RIGHT, 200, 1, 3, seed=2)
        task = SupervisedTask(
            items, np.arange(201), *right, *random_tables(NUM_LEFT, NUM_RIGHT), num_negative=K,
            seed=1, num_threads=1, pooling=pooling, device=device,
        )  # fmt: skip
        train(
            task,
            num_epoch=2,
            initial_learning_rate=0.01 if device == "cuda" else 0.1,
            progress=False,
        )
        results.append((task.num_pair, *tables_of(task)))
    assert results[0][0] == results[1][0]
    if device == "cuda":
        for got, expected in zip(results[1][1:], results[0][1:], strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-3)
    else:
        assert all(map(np.array_equal, *results))


def test_a_mean_of_no_weight_is_dropped_and_counted(device):
    left_weights = np.ones(len(skewed_itemsets(NUM_LEFT, 1, 3, 1)[0]))
    left, right = make_task("supervised").left_offsets, make_task("supervised").right_offsets
    left_weights[left[10] : left[40]] = 0
    task = make_task("supervised", pooling="mean", left_weights=left_weights, device=device)
    before = task.left_syn.copy()
    history = train(task, num_epoch=1, progress=False)
    num_dropped = right[40] - right[10]
    assert history.epochs[0].num_dropped == num_dropped
    assert history.num_pair == task.num_pair - num_dropped
    assert np.isfinite(task.left_syn).all()
    rest = np.delete(task.left_items, np.r_[left[10] : left[40]])
    only = np.setdiff1d(np.arange(NUM_LEFT), rest)
    assert np.array_equal(task.left_syn[only], before[only])


def test_l2_treats_items_of_no_weight_in_a_mean_alike_everywhere(one_tile):
    left_weights = np.ones(len(skewed_itemsets(NUM_LEFT, 1, 3, 1)[0]))
    left_weights[::3] = 0
    options = {"pooling": "mean", "l2": 0.5, "left_weights": left_weights}
    results = []
    for device in ("cpu", Cuda(threads_per_pair=1)):
        task = formula_task("supervised", options, device)
        train_at(task, 1, rate=0.05)
        results.append(task.left_syn)
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


# --- what is refused --------------------------------------------------------


def test_read_only_accumulators_are_refused(device):
    state = np.zeros(NUM_LEFT, dtype=np.float32)
    state.flags.writeable = False
    with pytest.raises(InputError, match=r"accumulators\[0\].*read-only"):
        make_task(
            "supervised", optimizer="adagrad", accumulators=(state, ZEROS[1].copy()), device=device
        )


def test_accumulators_that_overlap_are_refused():
    memory = np.zeros(NUM_LEFT + NUM_RIGHT - 10, dtype=np.float32)
    with pytest.raises(InputError, match="accumulators"):
        make_task(
            "supervised",
            optimizer="adagrad",
            accumulators=(memory[:NUM_LEFT], memory[NUM_LEFT - 10 :]),
        )


def test_l2_must_be_finite_in_float32():
    with pytest.raises(InputError, match="l2 is 1e"):
        make_task("supervised", l2=1e39)


@pytest.mark.parametrize("weights", [[1e308, 1e308, 5e307], [5e-324, 1e-323], [1e308, 1e308, 0]])
def test_weights_at_the_ends_of_float64_have_their_shares(weights):
    assert_shares(weights, shares_of(weights))


def test_l2_under_adagrad_is_alike_at_a_negative_rate(one_tile):
    results = []
    for device in ("cpu", Cuda(threads_per_pair=1)):
        task = formula_task("supervised", {"optimizer": "adagrad", "l2": 0.5}, device)
        task.do_batches(np.full(len(task), -0.05))
        task.synchronize()
        results.append(task.left_syn)
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_exponent": np.nan}, "noise_exponent is nan"),
        ({"noise_exponent": "word2vec"}, "noise_exponent is 'word2vec'"),
        ({"noise_weights": [1.0]}, f"noise_weights has 1 entries for {NUM_RIGHT} rows"),
        ({"noise_weights": np.ones((NUM_RIGHT, 1))}, "noise_weights has shape"),
        ({"noise_weights": ["a"] * NUM_RIGHT}, "noise_weights has dtype"),
        ({"noise_weights": np.r_[np.ones(NUM_RIGHT - 1), -1]}, "noise_weights: row 29 has -1"),
        ({"noise_weights": np.r_[np.nan, np.ones(NUM_RIGHT - 1)]}, "noise_weights: row 0 has nan"),
        ({"noise_weights": np.r_[np.inf, np.ones(NUM_RIGHT - 1)]}, "noise_weights: row 0 has inf"),
        ({"noise_weights": np.zeros(NUM_RIGHT)}, "noise_weights: all of them are 0"),
        (
            {"noise_weights": np.ones(NUM_RIGHT), "noise_exponent": 1},
            "noise_exponent is 1.* and noise_weights are given",
        ),
        ({"subsample": -1e-3}, "subsample is -0.001"),
        ({"subsample": np.inf}, "subsample is inf"),
        ({"subsample": None}, "subsample is None"),
        ({"loss": "bpr"}, "loss is 'bpr'; pass one of 'negative-sampling', 'nce', 'hinge', 'soft"),
        ({"loss": "nce", "num_negative": 0}, "loss is 'nce' and num_negative is 0"),
        ({"l2": -1}, "l2 is -1"),
        ({"l2": np.nan}, "l2 is nan"),
        ({"optimizer": "adamw"}, "optimizer is 'adamw'; pass one of 'sgd', 'adagrad', 'adam'"),
        ({"pooling": "max"}, "pooling is 'max'; pass one of 'pairs', 'mean'"),
        ({"reject_positive": True, "num_negative": 20_000}, "num_negative is 20000"),
        ({"reject_itemset": True, "num_negative": 20_000}, "num_negative is 20000"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_task("supervised", **options)


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_table_cannot_be_frozen_on_one_side(side):
    syn, _ = random_tables(NUM_LEFT)
    with pytest.raises(InputError, match="syn0 and syn1 are one table, and only one side"):
        make_task("unsupervised", tables=(syn, syn), **{f"update_{side}": False})


@pytest.mark.parametrize("option", ["reject_positive", "reject_itemset"])
def test_one_row_leaves_no_negative(option):
    offsets = np.arange(3)
    with pytest.raises(InputError, match=f"right_syn has 1 row, and {option} .* {option}=False"):
        SupervisedTask(
            np.zeros(2, int), offsets, np.zeros(2, int), offsets, *random_tables(3, 1),
            **{option: True},
        )  # fmt: skip


def test_options_tell_what_was_asked_for():
    task = supervised(l2=0.25, loss="nce", update_left=False)
    asked = {"l2": 0.25, "loss": "nce", "update_left": False}
    given = {"num_negative": NUM_NEGATIVE, "seed": 1, "num_threads": 1}
    assert repr(task.options) == repr(Options(**asked, **given))
    with pytest.raises(AttributeError, match="options is fixed"):
        task.options = Options()


def test_corrections_are_the_logarithms_of_the_expected_negatives():
    weights = np.array([1.0, 3.0, 0.0, 4.0])
    corrections = log_corrections(weights, 4, 8)
    np.testing.assert_allclose(corrections[[0, 1, 3]], np.log([1, 3, 4]), rtol=1e-6, atol=1e-7)
    assert np.isfinite(corrections).all()
    np.testing.assert_allclose(log_corrections(None, 4, 8), np.log(2), rtol=1e-6)


def test_l2_leaves_rows_alone_that_have_learned_nothing(device):
    # The right table is zero: no left row has a gradient, and Adagrad's accumulators stay 0.
    # Divided by their root, any decay would take all of a row, once for each pair in flight.
    left, right = random_tables(NUM_LEFT, NUM_RIGHT)
    right[:] = 0
    before = left.copy()
    task = make_task(
        "supervised", tables=(left, right), optimizer="adagrad", l2=0.1, update_right=False,
        device=device,
    )  # fmt: skip
    task.do_batch(0.1)
    task.synchronize()
    assert np.array_equal(left, before)

"""Objectives that see all items, held to the formula: batches, losses, gradients and steps."""

import pickle
import signal

import numpy as np
import pytest
from dense_formula import (
    NUM_LEFT,
    dense_loss,
    expect_queries,
    make_itemsets,
    make_state,
    make_tables,
    make_task,
    take_batch,
    unpack,
    weights_of,
)
from samples import planted_itemsets, purity, random_tables

from itembed_gpu import DivergenceError, UnsupervisedTask, train
from itembed_gpu.backends import batches, dense
from itembed_gpu.backends.batches import Batches, Counts

MEAN = {"pooling": "mean"}
DROPPED = MEAN | {"dropout": 0.4, "targets": "dropped"}
OTHERS = MEAN | {"targets": "others"}
COSINE = {"similarity": "cosine", "temperature": 0.4}
SOME = {"num_negative": 9}

# Kind of task, whether it has weights, and options.
WHAT = {
    "all": ("unsupervised", False, MEAN),
    "all, weighted": ("unsupervised", True, MEAN),
    "all, dropout": ("unsupervised", True, MEAN | {"dropout": 0.5}),
    "all, subsample": ("unsupervised", True, MEAN | {"subsample": 0.03}),
    "dropped": ("unsupervised", False, DROPPED),
    "dropped, weighted": ("unsupervised", True, DROPPED | {"subsample": 0.2}),
    "others": ("unsupervised", False, OTHERS),
    "others, weighted": ("unsupervised", True, OTHERS),
    "others, dropout": ("unsupervised", True, OTHERS | {"dropout": 0.3, "subsample": 0.05}),
    "pairs": ("unsupervised", False, {}),
    "windows": ("unsupervised", False, {"window": 2}),
    "pairs, weighted": ("unsupervised", True, {"subsample": 0.05}),
    "labels": ("supervised", False, MEAN),
    "labels, weighted": ("supervised", True, MEAN | {"dropout": 0.3, "subsample": 0.05}),
    "label pairs": ("supervised", True, {"subsample": 0.05}),
    "listed": ("listed", True, {}),
}
SUMS = {
    "exact": {},
    "cosine": COSINE | {"sum_scale": 1.2},
    "itemset": COSINE | {"reject_itemset": True},
    "near 1": {"self_normalization": 0.3},
    "half near 1": COSINE | {"self_normalization": 0.7, "normalized_share": 0.5, "sum_scale": 0.8},
    "sampled, near 1": SOME | {"self_normalization": 0.2, "normalized_share": 0.5},
    "sampled": SOME,
    "sampled by counts": SOME | COSINE | {"noise_exponent": 0.5, "sum_scale": 0.8},
    "sampled, itemset": SOME | {"reject_itemset": True, "noise_exponent": 1.0},
}
CASES = [
    (what, of_sum)
    for what in WHAT
    for of_sum in SUMS
    if what != "listed" or "reject_itemset" not in SUMS[of_sum]
]


def make(what, **options):
    kind, weighted, own = WHAT[what]
    return make_task(kind, **(weights_of(kind) if weighted else {}), **own | options)


def tables_of(task):
    return [table.array for table in task._tables]


def follow(task, num_batch, rate):
    """Train some batches, and see that each does what the formula says."""
    options = task.options
    tables = [table.astype(np.float64) for table in tables_of(task)]
    states = [make_state(table) for table in tables]
    for number in range(num_batch):
        queries = expect_queries(task, *divmod(number, len(task)))
        loss = take_batch(tables, states, queries, options, rate)
        task._read_tally(wait=True)
        task.do_batch(rate)
        tally = task._read_tally(wait=True)
        for ours, expected in zip(tables_of(task), tables, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5)
        size = np.abs(queries.targets).sum()
        assert tally.num_sample == queries.num_pair > 0
        assert tally.num_dropped == queries.num_dropped
        assert tally.loss / tally.num_sample == pytest.approx(loss / size, rel=1e-4, abs=1e-5)
    return states


# ------------------------------------------------------------------ one batch


@pytest.mark.parametrize(("what", "of_sum"), CASES)
def test_a_batch_is_what_the_words_of_the_stream_say(what, of_sum):
    task = make(what, **SUMS[of_sum])
    problem = task._problem
    batches, sizes = Batches(problem), (len(problem.left), len(problem.right))
    num_pair = 0
    for number in range(len(task)):
        bounds = [batches.num_unit * (number + n) // len(task) for n in (0, 1)]
        ours = unpack(*batches.draw(2, 1, number, *bounds), *sizes)
        expected = expect_queries(task, 1, number, stream=2)
        for name, one, other in zip(ours._fields, ours, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)
        num_pair += ours.num_pair + ours.num_dropped
    assert num_pair == task.num_pair


@pytest.mark.parametrize(("what", "of_sum"), CASES)
def test_a_step_is_minus_the_rate_times_the_gradient(what, of_sum):
    follow(make(what, **SUMS[of_sum]), 2, 0.05)


STEPS = {
    "sgd, l2": {"l2": 0.5},
    "adagrad": {"optimizer": "adagrad"},
    "adagrad, l2": {"optimizer": "adagrad", "l2": 0.5},
    "adam": {"optimizer": "adam"},
    "adam, l2": {"optimizer": "adam", "l2": 0.5},
    "left frozen": {"update_left": False, "optimizer": "adam"},
    "right frozen": {"update_right": False, "optimizer": "adam"},
}


@pytest.mark.parametrize("of_sum", ["cosine", "sampled by counts"])
@pytest.mark.parametrize("what", ["others", "labels", "pairs"])
@pytest.mark.parametrize("step", STEPS)
def test_optimisers_follow_their_formulas(step, what, of_sum):
    task = make(what, **SUMS[of_sum], **STEPS[step])
    states = follow(task, 4, 0.01)
    if task.options.optimizer != "adam":
        return
    for table, state in zip(task._tables, states, strict=True):
        if not table.frozen:  # each row has counted its own steps
            np.testing.assert_array_equal(table.accumulator, state["steps"])
            assert len(set(table.accumulator)) > 1 or of_sum == "cosine"


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("of_sum", ["exact", "cosine", "sampled"])
def test_one_table_on_both_sides_takes_both_steps(optimizer, of_sum):
    table = make_tables(NUM_LEFT)[0]
    follow(make("all", tables=[table, table], optimizer=optimizer, **SUMS[of_sum]), 3, 0.01)


def test_a_row_of_zeros_gets_a_direction_at_its_first_step():
    task = make("labels, weighted", **SUMS["cosine"])
    tables_of(task)[1][:] = 0
    tables_of(task)[0][::3] = 0
    follow(task, 1, 0.01)
    assert abs(tables_of(task)[1]).max() < 1


def test_l2_under_adagrad_leaves_rows_alone_that_have_learned_nothing():
    tables = make_tables(11)
    tables[1][:] = 0  # no left row has a gradient
    task = make_task(
        "supervised", tables=tables, **MEAN, optimizer="adagrad", l2=0.1, update_right=False
    )
    before = tables[0].copy()
    follow(task, 2, 0.1)
    np.testing.assert_array_equal(tables[0], before)


def test_l2_pulls_to_zero_at_a_negative_rate_as_well():
    follow(make("labels", l2=0.5), 3, -0.01)


# ---------------------------------------------------------------------- tiles


def learn(what, num_epoch=2, rate=0.05, **options):
    task = make(what, **options)
    history = train(task, num_epoch=num_epoch, initial_learning_rate=rate, progress=False)
    return *tables_of(task), [record.loss for record in history.epochs]


@pytest.mark.parametrize("kept_logits", [1 << 26, 0])
@pytest.mark.parametrize("of_sum", SUMS)
@pytest.mark.parametrize("what", ["all, dropout", "others", "labels, weighted"])
def test_tiles_change_nothing(what, of_sum, kept_logits, monkeypatch):
    whole = learn(what, **SUMS[of_sum])
    monkeypatch.setattr(batches, "TILE_LOGITS", 1)
    monkeypatch.setattr(batches, "MIN_TILE", 3)
    monkeypatch.setattr(dense, "KEPT_LOGITS", kept_logits)
    made = []
    step = dense.Step.__init__

    def look(self, problem, ops, batch, *rest):
        made.append(len(batch.tiles))
        step(self, problem, ops, batch, *rest)

    monkeypatch.setattr(dense.Step, "__init__", look)
    for one, other in zip(whole, learn(what, **SUMS[of_sum]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert min(made) > 1


def test_what_is_left_out_of_whole_tiles_counts_nowhere(monkeypatch):
    """Of a query whose itemset has all rows of a tile, or of the sum, nothing is infinite."""
    monkeypatch.setattr(batches, "TILE_LOGITS", 1)
    monkeypatch.setattr(batches, "MIN_TILE", 2)
    items = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3], np.int32)
    tables = [table[:6].copy() for table in make_tables(NUM_LEFT)]
    task = UnsupervisedTask(
        items, [0, 6, 10], *tables, loss="softmax", pooling="mean", reject_itemset=True, seed=1
    )
    follow(task, 2, 0.05)
    assert np.isfinite(tables).all()


# ----------------------------------------------------------------- the stream


def test_draws_are_those_of_every_version():
    """Literal values: another one here is another result for every seed."""
    task = make_task("unsupervised", **OTHERS, dropout=0.3, subsample=0.05, num_negative=5)
    batch, counts = Batches(task._problem).draw(1, 2, 1, 4, 8)
    (tile,) = batch.tiles
    values = {
        "bags": ([0, 2, 4], batch.bags.offsets),
        "their rows": ([7, 12, 4, 10], batch.bags.indices),
        "bags of queries": ([0, 0, 1, 1, 1, 1], batch.queries.indices),
        "rows taken out": ([7, 12, 4, 10], batch.own.indices),
        "queries without": ([0, 1, 2, 2, 3, 3, 4], batch.own.offsets),
        "left rows": ([4, 7, 10, 12], batch.left_rows),
        "right rows": ([3, 4, 5, 6, 7, 9, 10, 12], batch.right_rows),
        "targets": ([4, 7, 6, 1, 2, 6], batch.target_rows),
        "negatives": ([0, 1, 3, 5], tile.columns),
        "left out": ([1], tile.masked_columns),
    }
    for name, (expected, ours) in values.items():
        np.testing.assert_array_equal(ours, expected, err_msg=name)
    np.testing.assert_allclose(np.exp(tile.bias), [5.6, 2.8, 2.8, 2.8], rtol=1e-6)
    assert counts == Counts(queries=6, pairs=6, dropped=7, share=1.0)


def bags_of(task):
    """What an epoch trains: each query's bag and targets, as they are, in any order."""
    problem = task._problem
    whole, found = Batches(problem), []
    for number in range(len(task)):
        bounds = [whole.num_unit * (number + n) // len(task) for n in (0, 1)]
        queries = unpack(*whole.draw(0, 3, number, *bounds), len(problem.left), len(problem.right))
        both = np.hstack([queries.bags, queries.targets]).round(6) + 0.0
        found += [row.tobytes() for row in both]
    return sorted(found)


@pytest.mark.parametrize("what", WHAT)
def test_what_is_drawn_does_not_depend_on_the_size_of_batches(what):
    one, other = (bags_of(make(what, batch_size=size)) for size in (1, 100))
    assert one == other
    assert len(one) > 3


# ------------------------------------------------------------- of whole tasks


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_a_run_of_one_thread_repeats_exactly(optimizer):
    runs = [learn("others, weighted", optimizer=optimizer, **SUMS["cosine"]) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_change_no_more_than_products_of_matrices_do(monkeypatch):
    alone = learn("labels, weighted", **SUMS["sampled"])
    monkeypatch.setattr("itembed_gpu.backends.cpu.dense.NUMBERS_PER_THREAD", 1)
    shared = learn("labels, weighted", num_threads=3, **SUMS["sampled"])
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
@pytest.mark.parametrize("when", [1, 5, 6])
def test_training_goes_on_from_a_checkpoint_as_if_never_interrupted(
    optimizer, when, tmp_path, monkeypatch
):
    options = {"optimizer": optimizer, **SUMS["sampled"]}
    settings = {"num_epoch": 4, "initial_learning_rate": 0.05, "schedule": "cosine"}
    whole = make("others, dropout", **options)
    train(whole, **settings, progress=False)
    cut = make("others, dropout", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, when)
        history = train(cut, **settings, progress=False, checkpoint=tmp_path)
    assert history.interrupted
    resumed = make("others, dropout", **options)
    history = train(resumed, **settings, progress=False, checkpoint=tmp_path, resume=True)
    assert not history.interrupted
    assert len(history.epochs) == 4
    for one, other in zip(whole._tables, resumed._tables, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)


def interrupt_at(patch, when):
    """Have a Ctrl-C come in the sums of this step, from 0 on."""
    steps = []
    log_sums = dense.Step._log_sums

    def press(self):
        if len(steps) == when:
            signal.raise_signal(signal.SIGINT)
        steps.append(self)
        return log_sums(self)

    patch.setattr(dense.Step, "_log_sums", press)
    patch.setattr(dense.DenseTask, "max_pairs", 1)  # a batch a call


def test_an_interrupted_step_changes_nothing(monkeypatch):
    task = make("all", optimizer="adam")
    task.do_batches([0.01, 0.01])
    before = [a.copy() for table in task._tables for a in table.arrays().values()]
    interrupt_at(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        task.do_batches([0.01] * 5)
    after = [a for table in task._tables for a in table.arrays().values()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert train(make("all"), num_epoch=1, progress=False).interrupted is False


def test_a_pickled_task_goes_on_where_it_was():
    task = make("labels", optimizer="adam", **SUMS["cosine"])
    task.do_batches([0.01] * 4)
    copy = pickle.loads(pickle.dumps(task))
    for one in (task, copy):
        one.do_batches([0.01] * 4)
    for one, other in zip(tables_of(task), tables_of(copy), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("chunk_size", [10, 25])
@pytest.mark.parametrize("what", ["others", "labels", "pairs", "listed"])
def test_chunks_train_all_of_it(what, chunk_size):
    kind, _, options = WHAT[what]
    task = make_task(kind, **options, chunk_size=chunk_size, batch_size=2, optimizer="adam")
    before = [table.copy() for table in tables_of(task)]
    history = train(task, num_epoch=2, initial_learning_rate=0.01, progress=False)
    assert [record.num_pair for record in history.epochs] == [task.num_pair] * 2
    occurring = [np.unique(items) for items in task._source.items]
    for rows, one, other in zip(occurring, before, tables_of(task), strict=True):
        assert (one[rows] != other[rows]).any(axis=1).all()


def test_itemsets_without_a_bag_are_counted():
    task = make_task("unsupervised", **MEAN, dropout=0.9999)
    before = [table.copy() for table in tables_of(task)]
    (record,) = train(task, num_epoch=1, progress=False).epochs
    assert (record.num_pair, record.num_dropped) == (0, task.num_pair)
    np.testing.assert_array_equal(before, tables_of(task))


@pytest.mark.parametrize("scale", [1.0, 1e4, -1e4])
def test_the_loss_of_an_epoch_is_a_weighted_mean(scale):
    """Large weights are no divergence: a rate that is as much lower makes up for them."""
    items, offsets = make_itemsets(NUM_LEFT, 2, 1)
    tables = make_tables(NUM_LEFT)
    options = {"loss": "softmax", "batch_size": 4, "seed": 1, "num_threads": 1}
    plain = UnsupervisedTask(items, offsets, *make_tables(NUM_LEFT), **options, pooling="mean")
    weights = np.full(len(items), scale)
    task = UnsupervisedTask(items, offsets, *tables, weights=weights, pooling="mean", **options)
    one = train(plain, num_epoch=2, initial_learning_rate=1e-4, progress=False)
    two = train(task, num_epoch=2, initial_learning_rate=1e-4 / abs(scale), progress=False)
    if scale > 0:
        for ours, expected in zip(two.epochs, one.epochs, strict=True):
            assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
    else:
        assert two.epochs[0].loss < 0


def test_a_number_that_is_none_is_told():
    task = make("all")
    task.syn1[3, 2] = np.nan
    with pytest.raises(DivergenceError, match="not finite"):
        train(task, num_epoch=1, progress=False)
    with pytest.raises(DivergenceError, match="lower learning rate"):
        train(make("all"), num_epoch=3, initial_learning_rate=1e30, progress=False)


@pytest.mark.parametrize("temperature", [0.001, 1e-6, 1e30])
@pytest.mark.parametrize("of_sum", ["exact", "sampled", "cosine"])
def test_no_temperature_overflows(of_sum, temperature):
    task = make("all", **SUMS[of_sum] | {"temperature": temperature})
    for table in tables_of(task):
        table[...] = 10 * table / np.linalg.norm(table, axis=1, keepdims=True)  # dots of 100
    queries = expect_queries(task, 0, 0)
    tables = [table.astype(np.float64) for table in tables_of(task)]
    expected = dense_loss(*tables, queries, task.options) / queries.targets.sum()
    before = [table.copy() for table in tables_of(task)]
    task.do_batch(1e-9)
    tally = task._read_tally(wait=True)
    assert tally.loss / tally.num_sample == pytest.approx(expected, rel=1e-4)
    for one, other in zip(before, tables_of(task), strict=True):
        assert np.isfinite(other).all()
        assert (one != other).any() == (temperature < 1)


@pytest.mark.parametrize("how", [OTHERS | SOME, SUMS["sampled by counts"] | DROPPED])
def test_neighbours_share_a_cluster(how):
    items, offsets, clusters = planted_itemsets(num_itemset=1000)
    syn0, syn1 = random_tables(200)
    options = how | {"num_negative": 50, "batch_size": 100, "optimizer": "adam", "seed": 1}
    task = UnsupervisedTask(items, offsets, syn0, syn1, loss="softmax", num_threads=1, **options)
    history = train(task, num_epoch=6, initial_learning_rate=0.03, progress=False)
    assert purity(syn0, clusters) > 0.9
    assert np.log(200) + 0.2 > history.epochs[0].loss > history.loss > 1.5


# ------------------------------------------------------------- sampled sums


@pytest.mark.parametrize("noise_exponent", [0.0, 0.5])
@pytest.mark.parametrize("reject_itemset", [False, True])
def test_a_sampled_sum_is_the_exact_one_on_average(noise_exponent, reject_itemset):
    options = {"noise_exponent": noise_exponent, "reject_itemset": reject_itemset}
    task = make("labels", num_negative=7, **options)
    problem = task._problem
    whole, sizes = Batches(problem), (len(problem.left), len(problem.right))
    # The same itemsets, as different batches of one epoch.
    drawn = [unpack(*whole.draw(0, 0, number, 0, 12), *sizes) for number in range(600)]
    left, right = (table.astype(np.float64) for table in tables_of(task))
    powers = np.exp(drawn[0].bags @ left @ right.T)
    sums = np.array([(queries.sums * powers).sum(axis=1) for queries in drawn])
    # What occurs never is not drawn by counts.
    counts = np.bincount(problem.pairs.right_items, minlength=len(right))
    inside = np.ones(powers.shape) if noise_exponent == 0 else np.tile(counts > 0, (12, 1))
    exact = expect_queries(make("labels", reject_itemset=reject_itemset, batch_size=12), 0, 0)
    inside = inside * (exact.sums > 0) * (reject_itemset | ~exact.own)
    expected = (inside * powers).sum(axis=1)
    error = sums.std(axis=0) / np.sqrt(len(drawn))
    assert (abs(sums.mean(axis=0) - expected) < 4.5 * error).all()
    assert (error < 0.1 * expected).all()


def test_with_many_negatives_the_gradient_is_the_exact_one():
    moved = []
    for num_negative in (None, 200_000, 50):
        task = make("labels", num_negative=num_negative, batch_size=12)
        before = [table.copy() for table in tables_of(task)]
        task.do_batch(0.1)
        moved.append([one - other for one, other in zip(tables_of(task), before, strict=True)])
    for exact, many, few in zip(*moved, strict=True):
        most = abs(exact).max()
        assert abs(many - exact).max() < 0.01 * most
        assert 0.01 * most < abs(few - exact).max() < 0.5 * most

"""Vectors of itemsets beside those of items: the formula, three tables, frozen steps."""

import pickle

import numpy as np
import pytest
from formula import numbered
from interpreted import interpret
from samples import random_itemsets, slots_of

from itembed_gpu import CompoundTask, DocumentTask, UnsupervisedTask, train
from itembed_gpu.backends.cuda.in_flight import Geometry, own_hits, plan_geometry
from itembed_gpu.errors import DivergenceError, InputError
from itembed_gpu.objective.rng import philox_words

NUM_LABEL, NUM_ITEMSET, DIM, K, SEED = 30, 12, 5, 4, 7
FROZEN = {"update_left": False, "update_right": False}


def tables(scale=1.0):
    generator = np.random.default_rng(1)
    sizes = NUM_LABEL, NUM_ITEMSET, NUM_LABEL
    return [generator.normal(0, scale, (n, DIM)).astype(np.float32) for n in sizes]


def packed():
    """Itemsets of 1 to 5 items, none of which holds one twice."""
    _, offsets = random_itemsets(1, NUM_ITEMSET, 1, 5, 3)
    generator = np.random.default_rng(2)
    parts = [generator.choice(NUM_LABEL, n, replace=False) for n in np.diff(offsets)]
    return np.concatenate(parts).astype(np.int32), offsets


# Drawn while code is compiled.
ORDER = slots_of(SEED, 0, 0, len(packed()[0]))


def weights():
    return np.random.default_rng(4).uniform(-0.5, 2, len(packed()[0])).astype(np.float32)


def make_task(given=None, **options):
    options = {"num_negative": K, "seed": SEED, "num_threads": 1, "batch_size": 4, **options}
    return DocumentTask(*packed(), *(given or tables()), **options)


@pytest.fixture(params=["interpreted", "emulated"])
def device(request, monkeypatch):
    """The CPU's code as plain Python, and the kernels on the CPU: one pair at a time."""
    if request.param == "emulated":
        request.getfixturevalue("one_tile")
        return "cuda"
    interpret(monkeypatch)
    return "cpu"


# --- the formula, without the library's own routines


def negatives_of(slot, first=0):
    """Negatives of a slot, or of a group, by the random stream."""
    low, high = slot & 0xFFFFFFFF, slot >> 32
    words = [word for block in range(2) for word in philox_words((low, high, 0, block), (SEED, 0))]
    return [int(word) * NUM_LABEL >> 32 for word in words[1 : K + 1]]


def loss_of(values, itemset, others, shares, targets):
    """Minus the logarithm of the likelihood of a pair, in float64."""
    syn0, itemset_syn, syn1 = values
    total = 1 + np.abs(shares).sum()
    u = (itemset_syn[itemset] + shares @ syn0[others]) / total
    logits = syn1[targets] @ u
    return np.logaddexp(0, -logits[0]) + np.logaddexp(0, logits[1:]).sum()


def gradients_of(values, itemset, others, *rest):
    """Derivatives of a pair's loss by every number of every table, by finite differences."""
    gradients = [np.zeros_like(table) for table in values]
    rows = others, [itemset], np.unique(rest[-1])
    for table, gradient, touched in zip(values, gradients, rows, strict=True):
        for place in ((row, d) for row in touched for d in range(DIM)):
            kept = table[place]
            sides = []
            for h in (1e-5, -1e-5):
                table[place] = kept + h
                sides.append(loss_of(values, itemset, others, *rest))
            table[place] = kept
            gradient[place] = (sides[0] - sides[1]) / 2e-5
    return gradients


def pairs_of_an_epoch(factors, group=1, window=None):
    """Each pair in its order: itemset, other items, their weights, targets, and its own weight."""
    items, offsets = packed()
    for position, slot in enumerate(map(int, ORDER)):
        itemset = int(np.searchsorted(offsets, slot, side="right")) - 1
        others = [n for n in range(*offsets[itemset : itemset + 2]) if n != slot]
        if window is not None:
            word = int(philox_words((slot, 0, 0, 0), (SEED, 0))[0])
            others = [n for n in others if abs(n - slot) <= 1 + (word * window >> 32)]
        drawn = slot if group == 1 else int(numbered(1 << 63, 99)[position // group])
        targets = np.array([items[slot], *negatives_of(drawn)])
        yield itemset, items[others], factors[others].astype(np.float64), targets, factors[slot]


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("given", [None, weights()], ids=["plain", "weighted"])
def test_each_pair_takes_a_step_down_the_gradient_of_the_formula(device, given, window):
    values = [table.astype(np.float64) for table in tables()]
    factors = np.ones(99) if given is None else given
    for *pair, weight in pairs_of_an_epoch(factors, window=window):
        for table, gradient in zip(values, gradients_of(values, *pair), strict=True):
            table -= 0.1 * float(weight) * gradient
    trained = tables()
    task = make_task(trained, weights=given, window=window, device=device)
    task.do_batches(np.full(len(task), 0.1))
    task.synchronize()
    for table, before, expected in zip(trained, tables(), values, strict=True):
        np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected - before).max() > 0.01


@pytest.mark.compiled_in
def test_compiled_code_does_what_it_does_interpreted(monkeypatch):
    results = []
    for compiled in (True, False):
        if not compiled:
            interpret(monkeypatch)
        trained = tables()
        task = make_task(trained, negative_sharing=4, optimizer="adagrad", device="cpu")
        task.do_batches(np.full(len(task), 0.1))
        results.append([*trained, *task.accumulators])
    for array, expected in zip(*results, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


def test_pairs_that_share_negatives_follow_the_formula(device):
    rate = 1e-3  # so small that it does not matter what was trained before
    values = [table.astype(np.float64) for table in tables()]
    sums = [np.zeros_like(table) for table in values]
    for *pair, _ in pairs_of_an_epoch(np.ones(99), group=8):
        for total, gradient in zip(sums, gradients_of(values, *pair), strict=True):
            total -= rate * gradient
    trained = tables()
    task = make_task(trained, negative_sharing=8, device=device)
    task.do_batches(np.full(len(task), rate))
    task.synchronize()
    for table, before, change in zip(trained, tables(), sums, strict=True):
        np.testing.assert_allclose(table - before, change, rtol=0.05, atol=2e-5)


def test_each_table_has_an_accumulator_of_its_own(device):
    values = [table.astype(np.float64) for table in tables()]
    states = [np.zeros(len(table)) for table in values]
    # Without negatives: one that is drawn twice would be two updates of its row.
    for itemset, others, factors, targets, _ in pairs_of_an_epoch(np.ones(99)):
        pair = itemset, others, factors, targets[:1]
        for table, state, gradient in zip(values, states, gradients_of(values, *pair), strict=True):
            state += np.mean(gradient**2, axis=1)
            table -= 0.2 * gradient / np.sqrt(np.maximum(state, 1e-30))[:, None]
    trained = tables()
    task = make_task(trained, num_negative=0, optimizer="adagrad", device=device)
    task.do_batches(np.full(len(task), 0.2))
    task.synchronize()
    for table, expected in zip([*trained, *task.accumulators], [*values, *states], strict=True):
        np.testing.assert_allclose(table, expected, rtol=2e-3, atol=1e-4)


# --- frozen steps


@pytest.mark.parametrize("options", [{}, {"negative_sharing": 8, "num_negative": 9}])
def test_frozen_items_keep_their_bits_and_itemsets_find_their_places(device, options):
    syn0, itemset_syn, syn1 = trained = tables()
    task = make_task(trained, device=device, **FROZEN, **options)
    losses = []
    for _ in range(20):
        task.do_batches(np.full(len(task), 0.5))
        tally = task._read_tally(wait=True)
        losses.append(tally.loss / tally.num_sample)
    task.synchronize()
    before = tables()
    assert np.array_equal(syn0, before[0])
    assert np.array_equal(syn1, before[2])
    assert (itemset_syn != before[1]).all()
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_side_may_be_frozen(device, side):
    trained = tables()
    task = make_task(trained, device=device, **{f"update_{side}": False})
    task.do_batches(np.full(len(task), 0.1))
    task.synchronize()
    same = [np.array_equal(*pair) for pair in zip(trained, tables(), strict=True)]
    assert same == [side == "left", False, side == "right"]


# --- where tasks go


def test_chunks_train_the_rows_of_their_own_itemsets(device):
    changes = []
    for chunk_size in (None, 8):
        trained = tables()
        # Without negatives, and in steps so small that order does not matter.
        task = make_task(trained, num_negative=0, chunk_size=chunk_size, device=device)
        task.do_batches(np.full(len(task), 1e-3))
        task.synchronize()
        changes.append([a - b for a, b in zip(trained, tables(), strict=True)])
    assert (np.abs(changes[0][1]).max(1) > 1e-5).all()
    for whole, cut in zip(*changes, strict=True):
        np.testing.assert_allclose(cut, whole, rtol=0.02, atol=2e-6)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adagrad", "chunk_size": 8}])
def test_a_checkpoint_is_gone_on_from(monkeypatch, tmp_path, options):
    interpret(monkeypatch)
    whole, halves = tables(0.1), tables(0.1)
    plan = {"num_epoch": 4, "progress": False}
    task = make_task(whole, **options)
    train(task, **plan)

    class Stop(Exception):
        pass

    def stop(state):
        if state.record.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(make_task(halves, **options), **plan, checkpoint=tmp_path, callbacks=[stop])
    halves = tables(0.1)
    other = make_task(halves, **options)
    train(other, **plan, checkpoint=tmp_path, resume=True)
    for array, expected in zip(
        [*halves, *(other.accumulators or ())], [*whole, *(task.accumulators or ())], strict=True
    ):
        assert np.array_equal(array, expected)


def test_a_task_can_be_sent_and_trains_beside_others(monkeypatch):
    interpret(monkeypatch)
    one, two = tables(0.1), tables(0.1)
    sent = pickle.loads(pickle.dumps(make_task(two)))
    make_task(one).do_batches([0.1])
    sent.do_batches([0.1])
    assert np.array_equal(one[1], sent._tables[1].array)
    syn0, itemset_syn, syn1 = tables(0.1)
    items, offsets = random_itemsets(NUM_LABEL, 20)
    other = UnsupervisedTask(items, offsets, syn0, syn1, seed=1, num_threads=1)
    history = train(
        CompoundTask(make_task([syn0, itemset_syn, syn1]), other), num_epoch=2, progress=False
    )
    assert len(history.epochs) == 2


def test_training_that_diverges_is_found(monkeypatch):
    interpret(monkeypatch)
    trained = tables()
    trained[1][3] = 1e12
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        train(make_task(trained), num_epoch=1, progress=False)


def test_items_and_neighbours_may_be_one_table(monkeypatch):
    interpret(monkeypatch)
    syn0, itemset_syn, _ = tables()
    task = make_task([syn0, itemset_syn, syn0], optimizer="adagrad")
    task.do_batches(np.full(len(task), 0.1))
    assert task.accumulators[0] is task.accumulators[2]
    assert not np.array_equal(syn0, tables()[0])


# --- in flight


@pytest.mark.parametrize("given", [None, weights()], ids=["plain", "weighted"])
def test_updates_of_itemsets_own_rows_are_counted(given):
    task = make_task(weights=given, subsample=0.0)
    hits = np.zeros(NUM_ITEMSET)
    for itemset, _, shares, _, weight in pairs_of_an_epoch(np.ones(99) if given is None else given):
        hits[itemset] += abs(weight) / (1 + np.abs(shares).sum()) / len(packed()[0])
    np.testing.assert_allclose(own_hits(task._problem), hits, rtol=1e-5)
    hits = np.zeros(NUM_ITEMSET)
    for itemset, _, shares, _, _ in pairs_of_an_epoch(np.ones(99), window=2):
        hits[itemset] += 1 / (1 + np.abs(shares).sum()) / len(packed()[0])
    bounds = own_hits(make_task(window=2)._problem)
    np.testing.assert_allclose(bounds, hits, rtol=0.4)
    adaptive = make_task(optimizer="adagrad")._problem
    lengths = np.diff(packed()[1])
    np.testing.assert_allclose(own_hits(adaptive), lengths / lengths.sum())
    assert own_hits(UnsupervisedTask(*random_itemsets(), *tables_of_two())._problem) is None


def tables_of_two():
    return [np.zeros((50, DIM), np.float32) for _ in range(2)]


def test_itemsets_that_are_hit_often_are_held_back():
    cold = np.full(10, 1e-5)
    plan = plan_geometry(cold, cold.copy(), 0.1, 1000, own_hits=np.array([1e-6, 0.02, 0.0]))
    num_tile = plan.num_tile
    np.testing.assert_allclose(plan.own_caps[1], 0.8 / (num_tile * 0.02), rtol=1e-6)
    assert plan.left_caps is None
    assert plan.right_caps is None
    assert plan_geometry(cold, cold.copy(), 0.1, 1000).own_caps is None


def test_own_rows_of_itemsets_are_left_out(one_tile):
    # Each itemset of one item: its own row alone has a step, if one is made.
    _, itemset_syn, syn1 = trained = tables()
    items, offsets = np.arange(NUM_ITEMSET), np.arange(NUM_ITEMSET + 1)
    task = DocumentTask(
        items, offsets, *trained, num_negative=0, seed=1, device="cuda", **FROZEN
    )  # fmt: skip
    caps = np.where(np.arange(NUM_ITEMSET) % 2, np.float32(0.05), np.float32(9)).astype(np.float32)
    task._bound.prepare()
    task._bound._set_geometry(Geometry(1, None, None, caps), 1.0)
    task._bound.run(0, 0, 0, np.full(len(task), 0.1, np.float32))
    task.synchronize()
    own, rows = tables()[1].astype(np.float64), syn1[items].astype(np.float64)
    slopes = 1 / (1 + np.exp((own * rows).sum(1, keepdims=True)))
    # Draw 0 of a slot of its own.
    draws = [philox_words((slot, 3 << 27, 0, 0), (1, 0))[0] for slot in range(NUM_ITEMSET)]
    made = np.array(draws) / 2**32 < caps / 0.1
    assert made[1::2].any()
    assert not made[1::2].all()
    expected = own + np.where(made, 0.1, 0)[:, None] * slopes * rows
    np.testing.assert_allclose(itemset_syn, expected, rtol=1e-5, atol=1e-6)


# --- what is refused


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"pooling": "pairs"}, "pooling is 'pairs'.*itemset_task"),
        (None, {"loss": "softmax"}, "loss is 'softmax'.*leave it out.*'nce'.*itemset_task"),
        (lambda t: [t[0], t[1][:-1], t[2]], {}, "itemset_syn has 11 rows for 12 itemsets"),
        (lambda t: [t[0], t[0][:NUM_ITEMSET], t[2]], {}, "itemset_syn and syn0 share a part"),
        (lambda t: [t[0], t[1], t[2][:-1]], {}, "syn0 has shape .* and syn1"),
        (lambda t: [t[0], np.ones((NUM_ITEMSET, 3), np.float32), t[2]], {}, "column|dimension"),
        (None, {"optimizer": "adagrad", "accumulators": (1, 2)}, "3 arrays, one for each table"),
    ],
)
def test_what_makes_no_sense_is_refused(change, options, message):
    with pytest.raises(InputError, match=message):
        make_task(change and change(tables()), **options)


def test_an_empty_itemset_is_refused_with_the_cure():
    with pytest.raises(InputError, match=r"fewer than 1 items.*min_length=1"):
        DocumentTask([1, 2], [0, 1, 1, 2], *tables())

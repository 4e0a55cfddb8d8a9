"""The kernels' own sources, executed on the CPU, against the code of the CPU backend.

`emulator` compiles them with g++. The code of the CPU is interpreted: what is trained is too
little to compile for. That it does the same when compiled is tested here too. Draws must be
equal as integers; tables agree to rounding, since a tile of threads adds up a dot product in
an order of its own.
"""

import ctypes
import dataclasses
import itertools
import os
import shutil

import numpy as np
import pytest
from formula import numpy_update
from interpreted import interpret
from samples import random_itemsets, random_tables, slots_of

from itembed_gpu import Cuda, DocumentTask, GloveTask, SupervisedTask, UnsupervisedTask
from itembed_gpu.backends.cpu import blocks
from itembed_gpu.backends.cpu.pairs import Stream
from itembed_gpu.backends.cpu.sgns import Constants, Rows, Tables
from itembed_gpu.backends.cpu.task import CpuBackend
from itembed_gpu.backends.cuda import instances, task as cuda
from itembed_gpu.backends.cuda.in_flight import Geometry, expected_hits
from itembed_gpu.objective.options import BITS
from itembed_gpu.objective.pairs import LISTED, ListedSource
from itembed_gpu.objective.rng import fill_draws, philox_words, u64
from itembed_gpu.objective.schedule import epoch_order

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")

SANITIZED = os.environ.get("ITEMBED_GPU_SANITIZE") == "1"

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
# The first steps of Adagrad divide by small roots, which makes rounding larger.
ADAPTIVE_TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture
def interpreted(monkeypatch):
    interpret(monkeypatch)


def run_oracle(problem, *tables, rates, epoch=0, caps=(None,) * 3, states=None):
    """Train an epoch by the CPU's code, interpreted, at the same learning rates.

    Tables are that of the left items, that of the itemsets' own rows, if any, and the right one.
    """
    constants = Constants(
        problem.source, tables[0].shape[1], problem.num_negative + 1, problem.group,
        problem.objective.flags,
    )  # fmt: skip
    left, *own, right = map(Rows, tables, caps, states or (None,) * 3)
    order = epoch_order(problem.seed, 0, epoch, problem.num_slot)
    with np.errstate(over="ignore"):  # integers go round
        return blocks.train_positions(
            constants, True if problem.group > 1 else None, problem.max_bag, problem.pairs,
            Tables(left, right, *own), problem.objective,
            blocks.Epoch(
                Stream(u64(problem.seed), u64(0), u64(epoch)), order, problem.num_batch, 0, rates
            ),
            0, problem.num_slot,
        )  # fmt: skip


def make_task(kind, dim, num_negative, weights=False, same=False, **options):
    """Make a small task: 2-item itemsets, duplicates and all."""
    generator = np.random.default_rng(5)
    options = {"num_negative": num_negative, "seed": 3, "batch_size": 4, **options}
    if kind == "unsupervised":
        items, offsets = random_itemsets(20, 15, 2, 5, seed=1)
        items[: offsets[1]] = 7  # an itemset of duplicates
        syn0, syn1 = random_tables(20, dim=dim)
        if weights:
            options["weights"] = generator.uniform(-0.5, 2, len(items)).astype(np.float32)
        return UnsupervisedTask(items, offsets, syn0, syn0 if same else syn1, **options)
    if kind == "document":
        items, offsets = random_itemsets(20, 15, 1, 5, seed=1)
        if weights:
            options["weights"] = generator.uniform(-0.5, 2, len(items)).astype(np.float32)
        syn0, syn1 = random_tables(20, dim=dim)
        itemset_syn = random_tables(15, dim=dim, seed=3)[0]
        return DocumentTask(items, offsets, syn0, itemset_syn, syn1, **options)
    left = random_itemsets(20, 12, 1, 4, seed=1)
    right = random_itemsets(15, 12, 1, 3, seed=2)
    if weights:
        options["left_weights"] = generator.random(len(left[0]), dtype=np.float32)
        options["right_weights"] = generator.random(len(right[0]), dtype=np.float32)
    return SupervisedTask(*left, *right, *random_tables(20, 15, dim=dim), **options)


def learning_rates(problem):
    # Large ones: a mistake shows.
    return np.linspace(0.2, 0.05, problem.num_batch).astype(np.float32)


CASES = [
    # kind, dim, negatives, threads a pair, other options
    *(("unsupervised", dim, 5, 1, {}) for dim in (1, 3, 12, 50, 100, 129)),
    *(("unsupervised", dim, 5, 32, {}) for dim in (1, 50, 129)),
    *(("unsupervised", 12, k, 1, {}) for k in (0, 1, 7, 8, 20)),
    *(("unsupervised", 12, k, 4, {}) for k in (0, 20)),
    *(("unsupervised", 36, 5, threads, {}) for threads in (2, 8, 16)),
    *(("supervised", 12, k, 1, {}) for k in (0, 5, 20)),
    *(("supervised", 50, 5, threads, {}) for threads in (8, 32)),
    *((kind, 12, 5, 1, {"weights": True}) for kind in ("unsupervised", "supervised")),
    ("unsupervised", 12, 5, 4, {"weights": True}),
    ("unsupervised", 12, 5, 1, {"same": True}),
    ("unsupervised", 12, 20, 2, {"same": True, "weights": True}),
    *(("unsupervised", 12, k, 1, {"negative_sharing": 8}) for k in (0, 1, 5, 7, 8, 20)),
    *(("unsupervised", 50, k, 32, {"negative_sharing": 16}) for k in (5, 20)),
    ("unsupervised", 12, 5, 4, {"negative_sharing": 2, "weights": True, "same": True}),
    ("supervised", 12, 5, 1, {"negative_sharing": 32}),
    ("supervised", 12, 20, 4, {"negative_sharing": 8, "weights": True}),
    ("unsupervised", 200, 5, 1, {}),  # more than the registers hold
    ("unsupervised", 300, 9, 4, {"negative_sharing": 4}),
]

NOISE = {"noise_exponent": 0.75}
NCE = {"loss": "nce", "noise_exponent": 0.5}
ADAGRAD = {"optimizer": "adagrad"}
MEAN = {"pooling": "mean"}
EVERYTHING = {
    **NCE, **ADAGRAD, "l2": 0.05, "positive_weight": 0.5, "subsample": 0.02,
    "reject_itemset": True, "weights": True,
}  # fmt: skip
OPTIONS = [
    NOISE,
    {"noise_exponent": -0.5},
    {"noise_weights": [1, 0, 3] * 5},
    NCE,
    {"loss": "nce"},
    {"loss": "hinge", "positive_weight": 0.5},
    {"subsample": 0.01},
    {"reject_positive": True},
    {"reject_positive": True, "noise_weights": [0, 900, 1] + [0] * 12},
    {"reject_itemset": True},
    {"update_left": False},
    {"update_right": False},
    {"l2": 0.05},
    {"positive_weight": 0.25},
    {"max_step": 0.05},
    {**ADAGRAD, "max_step": 0.05, "positive_weight": 2.0, "weights": True},
    {"l2": 0.05, "weights": True},
    ADAGRAD,
    {**ADAGRAD, "weights": True},
    {**ADAGRAD, "update_left": False},
    {**ADAGRAD, "update_right": False, "l2": 0.05},
    EVERYTHING,
]
FROZEN = {"update_left": False, "update_right": False}
DOCUMENT_EVERYTHING = {**EVERYTHING, "max_step": 0.05}
# Options that go their own way where negatives are shared, and where the left side is a mean.
SHARED_OPTIONS = [
    NCE, {"subsample": 0.01}, {"reject_itemset": True}, {"update_right": False},
    {"l2": 0.05, "weights": True}, {**ADAGRAD, "weights": True}, {"max_step": 0.05}, EVERYTHING,
]  # fmt: skip
MEAN_OPTIONS = [
    {}, {"subsample": 0.01}, {"update_left": False}, {"l2": 0.05, "weights": True}, ADAGRAD,
    EVERYTHING,
]  # fmt: skip
OPTION_CASES = [
    *(("supervised", 12, 5, 1, options) for options in OPTIONS),
    *(("supervised", 12, 5, 1, {**options, "negative_sharing": 8}) for options in SHARED_OPTIONS),
    *(("supervised", 12, k, 4, EVERYTHING) for k in (0, 5, 20) if k),
    *(("supervised", 12, k, 4, {**EVERYTHING, "negative_sharing": 4}) for k in (5, 20)),
    *(("supervised", 12, 5, 1, {**MEAN, **options}) for options in MEAN_OPTIONS),
    *(("supervised", 12, 20, 4, {**MEAN, **options}) for options in (ADAGRAD, EVERYTHING)),
    *(
        ("supervised", 12, 9, threads, {**MEAN, **options, "negative_sharing": 4})
        for threads in (1, 8)
        for options in ({}, ADAGRAD, EVERYTHING)
    ),
    # More pairs than have their means kept at once, of one span and of several.
    *(
        ("supervised", 12, k, threads, {**MEAN, **options, "negative_sharing": 32})
        for k, threads, options in ((5, 4, {}), (20, 4, ADAGRAD), (20, 16, EVERYTHING))
    ),
    ("supervised", 12, 5, 4, {**MEAN, "weights": True}),
    *(("unsupervised", 12, 5, 1, {**MEAN, **options}) for options in ({}, ADAGRAD, EVERYTHING)),
    ("unsupervised", 12, 9, 4, {**MEAN, **EVERYTHING}),
    ("unsupervised", 12, 9, 4, {**MEAN, **EVERYTHING, "negative_sharing": 4}),
    *(("unsupervised", 12, 5, 1, options) for options in ({"subsample": 0.02}, EVERYTHING)),
    *(("unsupervised", 12, 9, 8, options) for options in (ADAGRAD, EVERYTHING)),
    ("unsupervised", 12, 5, 1, {**ADAGRAD, "same": True}),
    ("unsupervised", 12, 9, 4, {**EVERYTHING, "same": True}),
    *(
        ("document", 12, 5, threads, options)
        for threads in (1, 32)
        for options in ({}, FROZEN, ADAGRAD)
    ),
    ("document", 12, 9, 4, DOCUMENT_EVERYTHING),
    ("document", 12, 5, 4, {**DOCUMENT_EVERYTHING, "window": 1}),
    *(
        ("document", 12, k, 4, {**options, "negative_sharing": 4})
        for k in (5, 20)
        for options in ({}, DOCUMENT_EVERYTHING, FROZEN | ADAGRAD)
    ),
    *(("unsupervised", 12, 5, 1, {"window": window}) for window in (1, 2, 1 << 31)),
    ("unsupervised", 12, 9, 4, {**EVERYTHING, "window": 3, "negative_sharing": 4}),
    *(("unsupervised", 12, 5, 4, {**MEAN, **options, "window": 1}) for options in ({}, EVERYTHING)),
    ("unsupervised", 200, 9, 1, EVERYTHING),  # more than the registers hold
    ("unsupervised", 12, 200, 4, {**NOISE, **ADAGRAD}),
]


def instance_of(problem, threads):
    """The kernel of a problem."""
    return instances.choose_instance(
        problem.source, problem.syn_left.shape[1], problem.num_negative,
        chip=instances.VECTOR_ATOMICS, threads=threads, shared=problem.group > 1,
        options=problem.objective.flags,
    )  # fmt: skip


def every_two(cases):
    """Choose cases whose kernels have any two values of their template's parameters together.

    A kernel takes long to compile with sanitizers, and differs from others by `if constexpr`.
    """
    found = {}
    for case in cases:
        kind, dim, num_negative, threads, options = case
        problem = make_task(kind, dim, num_negative, **options)._problem
        values = instance_of(problem, threads)._asdict()
        options = values.pop("options")
        values |= {name: bool(options & bit) for name, bit in BITS.items()}
        values |= {"weights": "weights" in case[-1], "same": "same" in case[-1]}
        found[str(case)] = set(itertools.combinations(values.items(), 2))
    chosen, missing = [], set().union(*found.values())
    while missing:
        best = max(cases, key=lambda case: len(found[str(case)] & missing))
        chosen.append(best)
        missing -= found[str(best)]
    return chosen


ALL_CASES = CASES + OPTION_CASES
if SANITIZED:
    ALL_CASES = every_two(ALL_CASES)


def problem_of(item):
    """What a test trains, by its parameters."""
    case = item.callspec.params
    options = case.get("options", {"negative_sharing": case.get("sharing", 1)})
    if item.function is test_listed_pairs_are_trained_as_by_the_oracle:
        return list_problem(9, **options)
    if case.get("kind") == "listed":
        return list_problem(9, **options)
    if item.function is test_cells_of_counts_are_trained_as_by_the_cpu:
        return cell_problem(case["same"])
    kind, dim = case.get("kind", "unsupervised"), case.get("dim", 12)
    return make_task(kind, dim, case.get("num_negative", 5), **options)._problem


@pytest.fixture(scope="module", autouse=True)
def compiled_ahead(request):
    """Compile the kernels of the tests that are to be run."""
    from emulator import build_ahead

    items = (item for item in request.session.items if item.path == request.path)
    tests = [item for item in items if "threads" in getattr(item, "fixturenames", ())]
    build_ahead(
        instance_of(problem_of(item), item.callspec.params["threads"]).name for item in tests
    )


@pytest.mark.parametrize(("kind", "dim", "num_negative", "threads", "options"), ALL_CASES)
def test_an_epoch_is_the_oracles(one_tile, interpreted, kind, dim, num_negative, threads, options):
    task = make_task(kind, dim, num_negative, device=Cuda(threads_per_pair=threads), **options)
    problem = task._problem
    copies = {id(table): table.array.copy() for table in problem.tables}
    tables = [copies[id(table)] for table in (problem.left, *problem.tables[1:-1], problem.right)]
    states = [state.copy() for state in task.accumulators or ()]
    if states and problem.same_table:
        states[1] = states[0]
    rates = learning_rates(problem)
    for epoch in range(2):
        expected = run_oracle(problem, *tables, rates=rates, epoch=epoch, states=states)
        task._bound.run(0, epoch, 0, rates)
        tally = task._bound.read_tally(True)
        assert tally[1:] == expected[1:]
        np.testing.assert_allclose(tally.loss, expected[0], rtol=1e-4)
    task.synchronize()
    for state, expected in zip(task.accumulators or (), states, strict=True):
        np.testing.assert_allclose(state, expected, rtol=1e-4, atol=1e-7)
    tolerance = ADAPTIVE_TOLERANCE if states else TOLERANCE
    trained = problem.left, *problem.tables[1:-1], problem.right
    for table, expected in zip(trained, tables, strict=True):
        np.testing.assert_allclose(table.array, expected, **tolerance)


@pytest.mark.skipif(SANITIZED, reason="nothing is compiled")
@pytest.mark.compiled_in
def test_compiled_code_does_what_it_does_interpreted(monkeypatch):
    options = {**MEAN, **EVERYTHING, "negative_sharing": 4}
    task = make_task("supervised", 12, 9, num_threads=1, **options)
    problem = task._problem
    got = [problem.syn_left, problem.syn_right, *task.accumulators]
    left, right, *states = expected = [array.copy() for array in got]
    rates = learning_rates(problem)
    task._bound.run(0, 0, 0, rates)
    tally = task._bound.read_tally(True)
    interpret(monkeypatch)
    loss, *counts = run_oracle(problem, left, right, rates=rates, states=states)
    assert list(tally[1:]) == counts
    np.testing.assert_allclose(tally.loss, loss, rtol=1e-4)
    for array, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(array, other, **ADAPTIVE_TOLERANCE)


# --- updates that are left out

# Sources, sides, options and spans that go their own way; kernels of the cases above.
THINNED = [
    *(("unsupervised", 12, 5, threads, {}) for threads in (1, 4)),
    ("unsupervised", 12, 20, 2, {"same": True, "weights": True}),
    *(("unsupervised", 12, k, 1, {"negative_sharing": 8}) for k in (5, 20)),
    ("unsupervised", 12, 5, 4, {"negative_sharing": 2, "weights": True, "same": True}),
    ("unsupervised", 12, 5, 1, {"window": 2}),
    ("supervised", 12, 5, 1, {"l2": 0.05, "weights": True}),
    ("supervised", 12, 5, 1, {"max_step": 0.05}),
    ("supervised", 12, 5, 1, {"subsample": 0.01}),
    *(("supervised", 12, 5, 1, {name: False}) for name in FROZEN),
    ("supervised", 12, 5, 1, MEAN),
    *(("supervised", 12, 9, t, {**MEAN, "negative_sharing": 4}) for t in (1, 8)),
    ("supervised", 12, 5, 4, {**MEAN, "negative_sharing": 32}),
    *(("document", 12, 5, threads, {}) for threads in (1, 32)),
    ("document", 12, 20, 4, {"negative_sharing": 4}),
    *(("listed", 12, 9, threads, {}) for threads in (1, 4)),
    ("listed", 12, 9, 1, {"negative_sharing": 4}),
]
if SANITIZED:
    THINNED = every_two(THINNED[:-3])


def thinned_problem(kind, dim, num_negative, threads, options):
    """A problem, bound to the emulator, and the tables that the kernels know by these names."""
    if kind == "listed":
        problem = list_problem(num_negative, **options)
        bound = cuda.CudaBackend(0, threads).bind(problem)
    else:
        device = Cuda(threads_per_pair=threads)
        task = make_task(kind, dim, num_negative, device=device, **options)
        problem, bound = task._problem, task._bound
    tables = problem.left, *((problem.own,) if problem.own else ()), problem.right
    return problem, bound, [table.array for table in tables]


def draw_caps(tables, low, high):
    """Caps of the rows of each table: one array for one table."""
    generator = np.random.default_rng(0)
    caps = {
        id(table): generator.uniform(low, high, len(table)).astype(np.float32) for table in tables
    }
    return [caps[id(table)] for table in tables]


def set_caps(bound, caps, highest=1.0):
    """Use caps of the left, the itemsets' own and the right rows."""
    left, *own, right = caps
    bound.prepare()
    bound._set_geometry(Geometry(1, left, right, *own), highest)


@pytest.mark.parametrize(("kind", "dim", "num_negative", "threads", "options"), THINNED)
def test_updates_are_left_out_as_by_the_oracle(
    one_tile, interpreted, kind, dim, num_negative, threads, options
):
    problem, bound, tables = thinned_problem(kind, dim, num_negative, threads, options)
    caps = draw_caps(tables, 0.02, 0.3)
    start = [table.copy() for table in tables]
    expected, whole = ([table.copy() for table in tables] for _ in range(2))
    if problem.same_table:
        expected[-1], whole[-1] = expected[0], whole[0]
    rates = learning_rates(problem) * np.float32(-1)
    run_oracle(problem, *expected, rates=rates, caps=caps)
    run_oracle(problem, *whole, rates=rates)
    set_caps(bound, caps, float(np.abs(rates).max()))
    bound.run(0, 0, 0, rates)
    bound.synchronize()
    for table, other, before, uncapped in zip(tables, expected, start, whole, strict=True):
        np.testing.assert_allclose(table, other, **TOLERANCE)
        # It did matter, but where nothing is trained.
        changed = not np.array_equal(before, uncapped)
        assert np.allclose(other, uncapped, rtol=1e-3) != changed


@pytest.mark.skipif(SANITIZED, reason="the kernels have run with these pairs before")
@pytest.mark.parametrize(("kind", "dim", "num_negative", "threads", "options"), THINNED)
def test_rows_that_are_left_out_are_not_touched(
    one_tile, kind, dim, num_negative, threads, options
):
    _, bound, tables = thinned_problem(kind, dim, num_negative, threads, options)
    for table in tables:
        table[:, ::2] = -0.0  # 0 that is added to -0 makes it 0
    before = [table.copy() for table in tables]
    set_caps(bound, [np.zeros(len(table), dtype=np.float32) for table in tables])
    bound.run(0, 0, 0, np.full(bound._problem.num_batch, 0.2, dtype=np.float32))
    bound.synchronize()
    for table, other in zip(tables, before, strict=True):
        assert np.array_equal(table.view(np.uint32), other.view(np.uint32))


@pytest.mark.skipif(SANITIZED, reason="the kernels have run with these pairs before")
@pytest.mark.parametrize(
    "case",
    [
        ("unsupervised", 12, 5, 1, {}),
        ("unsupervised", 12, 5, 1, {"negative_sharing": 8}),
        ("unsupervised", 12, 5, 1, {"same": True}),
        ("supervised", 12, 5, 1, MEAN),
        ("document", 12, 5, 1, {}),
        ("listed", 12, 9, 1, {}),
    ],
)
def test_what_is_left_out_is_made_up_for_on_average(one_tile, case):
    # Of updates so small that none changes the next, those of a row would all be smaller by
    # cap / rate. In each epoch that is compared with as many as are made, from the same tables.
    rate, num_epoch = np.float32(1e-3), 150
    problem, bound, tables = thinned_problem(*case)
    caps = draw_caps(tables, rate / 4, rate * 1.2)
    rates = np.full(problem.num_batch, rate)
    start = [table.copy() for table in tables]

    def changes(epoch, some):
        for table, before in zip(tables, start, strict=True):
            table[...] = before
        bound._copies.discard()
        set_caps(bound, some)
        bound.run(0, epoch, 0, rates)
        bound.synchronize()
        return [table - before for table, before in zip(tables, start, strict=True)]

    made = [(changes(n, caps), changes(n, [None] * len(tables))) for n in range(num_epoch)]
    for number, cap in enumerate(caps):
        thinned, whole = (np.array([run[how][number] for run in made]) for how in range(2))
        expected = np.minimum(1, cap / rate)[:, None] * whole
        difference = thinned - expected
        error = difference.std(axis=0) / np.sqrt(num_epoch)
        # Of some hundred numbers, one is farther than 5 standard errors by chance once in 10,000
        # runs; 1 % is what an update does to the next.
        assert (abs(difference.mean(axis=0)) <= 5 * error + 0.01 * abs(whole).mean(axis=0)).all()
        # All of them together: an error of 6 % each is one of 1 %.
        got, wanted = thinned.mean(axis=0), expected.mean(axis=0)
        assert (got * wanted).sum() / (wanted * wanted).sum() == pytest.approx(1, abs=0.04)


THINNING = """
extern "C" void thin(itembed::Work* work, float rate, int count, unsigned* left_out) {
    const int rows[6] = {0, 1, 2, 3, 4, 5};
    for (int slot = 0; slot < count; ++slot) {
        left_out[slot] = itembed::thin_negatives<0, 6>(*work, slot, rate, 0, rows) |
                         itembed::thin_rows<0>(*work, slot, rate, 0, 0);
        for (int n = 0; n < 4; ++n) {
            left_out[slot] |= itembed::is_row_left_out(*work, work->left_caps, work->left_capped, n,
                                                       rate, slot, 2 + n) << (8 + n);
        }
    }
}
"""


def left_out(share, count, seed=3):
    """Bits of what is left out of many slots: left row, positive, 5 negatives, 4 rows of a bag."""
    from emulator import build

    work = np.zeros(1, dtype=instances.WORK)
    caps, capped = np.full(8, share / 4, dtype=np.float32), np.full(1, 255, dtype=np.uint32)
    work["stream"]["seed"] = seed
    for side in ("left", "right"):
        work[f"{side}_caps"], work[f"{side}_capped"] = caps.ctypes.data, capped.ctypes.data
    words = np.zeros(count, dtype=np.uint32)
    build(THINNING).thin(work.ctypes, ctypes.c_float(-0.25), count, words.ctypes)
    bits = [31, *range(6), *range(8, 12)]
    return (words[:, None] >> np.array(bits, dtype=np.uint32) & 1).astype(bool)


def test_draws_of_what_is_left_out_are_pinned():
    assert left_out(0.5, 4).astype(int).tolist() == [
        [0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0],
        [0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0],
        [1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1],
    ]
    # Slots beside those of the pairs themselves, of groups, and of what is kept.
    words = [philox_words((slot, 3 << 27, 0, 0), (3, 0)) for slot in range(4)]
    assert left_out(0.5, 4)[:, [0, 1, 7, 8]].tolist() == [
        [word >= 1 << 31 for word in four] for four in words
    ]
    words = [philox_words((slot, 1 << 28, 0, 0), (3, 0)) for slot in range(4)]
    assert left_out(0.5, 4)[:, 2:5].tolist() == [
        [word >= 1 << 31 for word in four[1:]] for four in words
    ]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 1.0])
def test_as_much_is_left_out_as_asked(share):
    count = 50_000
    drawn = left_out(share, count)
    error = np.sqrt(share * (1 - share) / count)
    assert np.abs((~drawn).mean(axis=0) - share).max() <= 4.5 * error


@pytest.mark.skipif(SANITIZED, reason="many draws of the CPU's, which would be interpreted")
def test_what_is_left_out_depends_on_nothing_else_that_is_drawn():
    count = 50_000
    words = np.empty((8, count), dtype=np.uint32)
    with np.errstate(over="ignore"):
        fill_draws(u64(3), u64(0), u64(0), np.arange(count, dtype=np.uint64), count, words)
    # Of the same slots: the neighbour and the negatives, which are that of other draws.
    columns = np.vstack([left_out(0.5, count).T, words >> 31, words[0] & 1]).astype(float)
    correlations = np.corrcoef(columns)
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 4.5 / np.sqrt(count)


# --- listed pairs -----------------------------------------------------------

LISTED_OPTIONS = [
    {},
    {**NCE, "reject_positive": True},
    EVERYTHING,
    {**EVERYTHING, "negative_sharing": 8},
    {"negative_sharing": 4},
]


def list_problem(num_negative=5, **options):
    """Some pairs, twice the same ones among them, with a value each, some negative, one 0."""
    options.pop("weights", None)
    problem = make_task("supervised", 12, num_negative, device="cpu", **options)._problem
    generator = np.random.default_rng(6)
    left, right = (generator.integers(0, n, 70).astype(np.int32) for n in (20, 15))
    left[3:5], right[3:5] = 7, 2
    values = generator.uniform(-0.5, 2, 70).astype(np.float32)
    values[9] = 0
    pairs = ListedSource(left, right, values).pairs()
    return dataclasses.replace(problem, pairs=pairs, source=LISTED, counted=None)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("options", LISTED_OPTIONS)
def test_listed_pairs_are_trained_as_by_the_oracle(one_tile, interpreted, options, threads):
    problem = list_problem(9, **options)
    left, right = problem.syn_left.copy(), problem.syn_right.copy()
    states = [problem.left.accumulator, problem.right.accumulator]
    states = None if states[0] is None else [state.copy() for state in states]
    rates = learning_rates(problem)
    bound = cuda.CudaBackend(0, threads).bind(problem)
    bound.run(0, 0, 0, rates)
    tally = bound.read_tally(True)
    bound.synchronize()
    if SANITIZED:
        return
    expected = run_oracle(problem, left, right, rates=rates, states=states)
    assert tally[1:] == expected[1:]
    np.testing.assert_allclose(tally.loss, expected[0], rtol=1e-4)
    tolerance = ADAPTIVE_TOLERANCE if states else TOLERANCE
    np.testing.assert_allclose(problem.syn_left, left, **tolerance)
    np.testing.assert_allclose(problem.syn_right, right, **tolerance)


@pytest.mark.skipif(SANITIZED, reason="the kernels have run with these pairs before")
@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_listed_pairs_follow_the_formula(one_tile, device):
    problem = list_problem()
    left, right = problem.syn_left.copy(), problem.syn_right.copy()
    rates = learning_rates(problem)
    rates[:] = rates[0]
    backend = CpuBackend(1) if device == "cpu" else cuda.CudaBackend(0, 1)
    bound = backend.bind(problem)
    bound.run(0, 0, 0, rates)
    bound.synchronize()
    lefts, rights, values = (
        problem.pairs.left_items, problem.pairs.right_items, problem.pairs.right_weights
    )  # fmt: skip
    for slot in map(int, slots_of(problem.seed, 0, 0, problem.num_slot)):
        words = [philox_words((slot, 0, 0, block), (problem.seed, 0)) for block in range(2)]
        negatives = [word * len(right) >> 32 for word in (words[0] + words[1])[1:6]]
        targets = np.array([rights[slot], *negatives])
        scale = float(rates[0]) * float(values[slot])
        left, right, _ = numpy_update(left, lefts[slot], right, targets, scale)
    np.testing.assert_allclose(problem.syn_left, left, **TOLERANCE)
    np.testing.assert_allclose(problem.syn_right, right, **TOLERANCE)


@pytest.mark.parametrize("weighted", [False, True])
def test_hits_of_listed_pairs_are_counted(weighted):
    problem = list_problem()
    pairs = problem.pairs
    if not weighted:
        none = np.empty(0, np.float32)
        pairs = ListedSource(pairs.left_items, pairs.right_items, none).pairs()
        problem = dataclasses.replace(problem, pairs=pairs)
    sizes = np.abs(pairs.right_weights) if weighted else np.ones(70)
    left, right = expected_hits(problem)
    np.testing.assert_allclose(left, np.bincount(pairs.left_items, sizes, 20) / 70)
    negatives = sizes.mean() * 5 / 15
    np.testing.assert_allclose(
        right, np.bincount(pairs.right_items, sizes, 15) / 70 + negatives, rtol=1e-6
    )


# --- cells of counts --------------------------------------------------------


def cell_problem(same):
    """Cells with counts on both sides of x_max; of one table, some are on its diagonal."""
    left, right, values = list_problem().pairs[0], *list_problem().pairs[3:6:2]
    tables = random_tables(20, 20 if same else 15, dim=13)
    counts = np.exp(values * 4)
    return GloveTask(
        left, right, counts, tables[0], tables[-same], x_max=20, seed=3, batch_size=4
    )._problem


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("same", [0, 1])
def test_cells_of_counts_are_trained_as_by_the_cpu(one_tile, interpreted, threads, same):
    problem, other = cell_problem(same), cell_problem(same)
    bounds = cuda.CudaBackend(0, threads).bind(problem), CpuBackend(1).bind(other)
    rates = learning_rates(problem)
    for bound in bounds[: 1 if SANITIZED else 2]:
        bound.run(0, 0, 0, rates)
    tally = bounds[0].read_tally(True)
    bounds[0].synchronize()
    if SANITIZED:
        return
    expected = bounds[1].read_tally(True)
    assert tally[1:] == expected[1:]
    np.testing.assert_allclose(tally.loss, expected.loss, rtol=1e-4)
    for name, array in problem.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], **ADAPTIVE_TOLERANCE)


# --- draws ------------------------------------------------------------------

DRAWS = """
extern "C" void draws(itembed::Stream* stream, unsigned long long* slots, int count,
                      unsigned* words) {
    for (int i = 0; i < count; ++i) {
        const itembed::Words block = itembed::slot_block(*stream, slots[i], i % 3);
        for (int n = 0; n < 4; ++n) words[4 * i + n] = block.word[n];
    }
}
extern "C" void order(itembed::Order* order, int count, unsigned long long* slots) {
    for (int i = 0; i < count; ++i) slots[i] = itembed::slot_at(*order, i);
}
"""


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # The known answers of Random123 for philox4x32-10.
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers_of_the_generator(counter, key, words):
    from emulator import build

    library = build(
        """
        extern "C" void known(unsigned* c, unsigned* k, unsigned* words) {
            const itembed::Words w = itembed::philox(c[0], c[1], c[2], c[3], k[0], k[1]);
            for (int n = 0; n < 4; ++n) words[n] = w.word[n];
        }
        """
    )
    arrays = [np.array(values, dtype=np.uint32) for values in (counter, key, (0,) * 4)]
    library.known(*(array.ctypes for array in arrays))
    assert tuple(arrays[2].tolist()) == words


def test_draws_are_those_of_the_cpu():
    from emulator import build

    library = build(DRAWS)
    generator = np.random.default_rng(0)
    slots = generator.integers(0, 2**63, 60).astype(np.uint64)
    seed, stream, epoch = 2**63 + 12345, 65535, 77
    record = np.zeros(1, dtype=[("seed", np.uint64), ("stream", np.uint32), ("epoch", np.uint32)])
    record["seed"], record["stream"], record["epoch"] = seed, stream, epoch
    words = np.zeros((60, 4), dtype=np.uint32)
    library.draws(record.ctypes, slots.ctypes, 60, words.ctypes)
    for i, slot in enumerate(map(int, slots)):
        counter = (slot & 0xFFFFFFFF, slot >> 32, epoch, stream << 16 | i % 3)
        assert tuple(words[i].tolist()) == philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32))


@pytest.mark.parametrize("num_slot", [1, 2, 3, 1000, 1025])
def test_the_order_is_that_of_the_cpu(num_slot):
    from emulator import build

    slots = np.zeros(num_slot, dtype=np.uint64)
    order = epoch_order(9, 0, 4, num_slot)
    build(DRAWS).order(order.ctypes, num_slot, slots.ctypes)
    assert np.array_equal(slots, slots_of(9, 0, 4, num_slot))


def test_the_record_of_a_launch_is_laid_out_as_the_compiler_does():
    from emulator import build

    names = instances.WORK.names
    offsets = ", ".join(f"offsetof(itembed::Work, {name})" for name in names)
    library = build(
        f"""
        #pragma GCC diagnostic ignored "-Winvalid-offsetof"
        extern "C" long long layout(int field) {{
            const long long offsets[] = {{sizeof(itembed::Work), {offsets}}};
            return offsets[field];
        }}
        """
    )
    expected = [instances.WORK.itemsize, *(instances.WORK.fields[name][1] for name in names)]
    assert [library.layout(n) for n in range(len(expected))] == expected


# --- tiles ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unsupervised", "supervised"])
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("sharing", [1, 4])
def test_any_number_of_tiles_trains_the_same_pairs(emulated, monkeypatch, kind, threads, sharing):
    # With a rate so small that products of two updates vanish, order does not matter.
    changes = []
    for num_tile in (1, 3, 7, 40):
        monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel, n=num_tile: n)
        task = make_task(
            kind, 12, 5, negative_sharing=sharing, device=Cuda(threads_per_pair=threads)
        )
        problem = task._problem
        before = problem.syn_left.copy(), problem.syn_right.copy()
        task._bound.run(0, 0, 0, np.full(problem.num_batch, 1e-3, np.float32))
        task.synchronize()
        changes.append((problem.syn_left - before[0], problem.syn_right - before[1]))
    for change in changes[1:]:
        for side in range(2):
            np.testing.assert_allclose(change[side], changes[0][side], rtol=0.05, atol=2e-6)
            assert np.abs(changes[0][side]).max() > 1e-4


def test_lossy_updates_are_the_same_where_there_is_one_tile(one_tile):
    # Items that never meet: no target of a pair comes twice.
    results = []
    for lossy in (False, True):
        for threads in (1, 4):
            items, offsets = np.arange(40), np.arange(0, 41, 2)
            syn0, syn1 = random_tables(40)
            task = UnsupervisedTask(
                items, offsets, syn0, syn1, num_negative=0, seed=1,
                device=Cuda(lossy=lossy, threads_per_pair=threads),
            )  # fmt: skip
            task._bound.run(0, 0, 0, np.full(len(task), 0.3, np.float32))
            task.synchronize()
            results.append((syn0, syn1))
    for syn0, syn1 in results[1:]:
        np.testing.assert_allclose(syn0, results[0][0], **TOLERANCE)
        np.testing.assert_allclose(syn1, results[0][1], **TOLERANCE)

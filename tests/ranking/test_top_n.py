"""Ranking and pooling against brute force: on the CPU, and the array operations of a device."""

import sys
from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks import ranking as benchmark
from itembed_gpu.backends.cuda import chips
from itembed_gpu.errors import DeviceError, InputError
from itembed_gpu.ranking import top_n as ranking
from itembed_gpu.ranking.parts import PartedTable
from itembed_gpu.ranking.top_n import pool_rows, top_n

SMALL = {
    "QUERY_TILE": 3,
    "ROW_TILE": 200,  # more than one block
    "SCORES_PER_THREAD": 1,
    "VALUES_PER_THREAD": 1,
    "DEVICE_QUERY_TILE": 2,
    "GATHER_VALUES": 24,
}


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """Many tiles and pieces, and threads however little there is to do."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(ranking, name, value)
        yield


def all_scores(queries, table, bias):
    """Sum in float64, in the order of the dimensions, and round once."""
    totals = np.zeros((len(queries), len(table)))
    for d in range(table.shape[1]):
        totals += np.multiply.outer(queries[:, d].astype(float), table[:, d].astype(float))
    return (totals + bias).astype(np.float32)


def members(packed, query):
    if packed is None:
        return set()
    items, offsets = packed
    return {int(item) for item in items[offsets[query] : offsets[query + 1]]}


def brute_force(queries, table, n, bias=None, exclude=None, candidates=None, losers=None):
    """What `top_n` returns, by the letter."""
    rows = np.full((len(queries), n), -1, dtype=np.int64)
    scores = np.full((len(queries), n), -np.inf, dtype=np.float32)
    bias = np.zeros(len(table)) if bias is None else bias.astype(float)
    for q, values in enumerate(all_scores(queries, table, bias)):
        allowed = set(range(len(table))) if candidates is None else {int(c) for c in candidates}
        allowed -= members(exclude, q)
        last = members(losers, q)
        best = sorted(allowed, key=lambda r: (-values[r], r in last, r))[:n]
        rows[q, : len(best)] = best
        scores[q, : len(best)] = [values[r] for r in best]
    return rows, scores


def rank_with_arrays(queries, table, n, *, num_score=50, **options):
    """Take the path of a device, with NumPy in the place of CuPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking.checks, "device_of", lambda *arrays: 0)
        patch.setattr(
            ranking, "_rank_on", lambda _, problem: ranking._rank_with(np, problem, num_score)
        )
        return top_n(queries, table, n, **options)


PATHS = [
    pytest.param(lambda *a, **o: top_n(*a, num_threads=1, **o), id="one thread"),
    pytest.param(lambda *a, **o: top_n(*a, num_threads=3, **o), id="threads"),
    pytest.param(rank_with_arrays, id="arrays"),
]


def pack(sets):
    lengths = [len(one) for one in sets]
    items = np.array([item for one in sets for item in one], dtype=np.int64)
    return items, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def same(got, expected):
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    assert (got[0].dtype, got[1].dtype) == (np.int64, np.float32)


@st.composite
def problems(draw):
    """Small integers tie often, and have exact products."""
    num_query, num_row = draw(st.integers(0, 7)), draw(st.integers(1, 450))
    dim, n = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    if draw(st.booleans()):
        values = lambda *shape: generator.integers(-1, 2, shape).astype(np.float32)  # noqa: E731
    else:
        values = lambda *shape: generator.standard_normal(shape, dtype=np.float32)  # noqa: E731

    def packed():
        most = draw(st.sampled_from([3, 200]))
        return pack(
            [generator.integers(0, num_row, generator.integers(0, most)) for _ in range(num_query)]
        )

    options = {
        "bias": values(num_row) if draw(st.booleans()) else None,
        "exclude": packed() if draw(st.booleans()) else None,
        "losers": packed() if draw(st.booleans()) else None,
        "candidates": None,
    }
    if draw(st.booleans()):
        options["candidates"] = generator.integers(0, num_row, generator.integers(0, num_row + 1))
    return values(num_query, dim), values(num_row, dim), n, options


@pytest.mark.parametrize("path", PATHS)
@given(problem=problems())
@settings(max_examples=60)
def test_it_is_what_brute_force_finds(path, problem):
    queries, table, n, options = problem
    same(path(queries, table, n, **options), brute_force(queries, table, n, **options))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("order", [1, -1])
def test_rows_sorted_by_score_and_many_kept(path, order):
    table = np.linspace(0, 1, 400, dtype=np.float32)[::order, None] ** 2
    queries = np.array([[1.0], [-2.0], [0.0]], dtype=np.float32)
    same(path(queries, table, 90), brute_force(queries, table, 90))


@pytest.mark.parametrize("path", PATHS)
def test_the_best_row_is_found_wherever_it_stands(path):
    # All others fall, so that blocks of them are passed over.
    query = np.ones((1, 1), dtype=np.float32)
    for place in range(1, 420):
        table = -np.arange(420, dtype=np.float32)[:, None]
        table[place] = 1
        assert path(query, table, 1)[0] == place


@pytest.mark.parametrize("path", PATHS)
def test_scores_that_differ_by_less_than_a_float32_product_is_off(path):
    # Each row sums to nearly the same, by large terms that cancel: BLAS gets many wrong.
    generator = np.random.default_rng(0)
    table = generator.standard_normal((300, 33), dtype=np.float32)
    table[:, 1:17] = -table[:, 17:]
    table *= 1000
    table[:, 0] = generator.standard_normal(300) / 1000
    table = generator.permuted(table, axis=1)
    queries = np.ones((4, 33), dtype=np.float32)
    expected = brute_force(queries, table, 20)
    assert (np.argsort(-(queries @ table.T), axis=1, kind="stable")[:, :20] != expected[0]).any()
    same(path(queries, table, 20), expected)


@pytest.mark.parametrize("path", PATHS)
def test_equal_rows_tie_wherever_they_stand(path):
    row = np.random.default_rng(1).standard_normal(13, dtype=np.float32)
    table = np.tile(row, (333, 1))
    queries = np.random.default_rng(2).standard_normal((5, 13), dtype=np.float32)
    rows, scores = path(queries, table, 4, losers=pack([[0, 2]] * 5))
    assert rows.tolist() == [[1, 3, 4, 5]] * 5
    assert (scores == all_scores(queries, table[:1], 0.0)).all()


@pytest.mark.parametrize("path", PATHS)
def test_losers_come_last_among_equals_and_keep_their_score(path):
    table = np.array([[1], [1], [2], [1]], dtype=np.float32)
    rows, scores = path(table[:1], table, 4, losers=([0, 2], [0, 2]))
    assert rows.tolist() == [[2, 1, 3, 0]]
    assert scores.tolist() == [[2, 1, 1, 1]]


@pytest.mark.parametrize("path", PATHS)
def test_the_result_is_the_same_with_other_tiles(path, monkeypatch):
    generator = np.random.default_rng(3)
    queries = generator.standard_normal((9, 24), dtype=np.float32)
    table = generator.standard_normal((700, 24), dtype=np.float32)
    expected = path(queries, table, 15)
    for height, width, pair in ((1, 64, 24), (9, 1, 240), (4, 700, 10**6)):
        monkeypatch.setattr(ranking, "QUERY_TILE", height)
        monkeypatch.setattr(ranking, "DEVICE_QUERY_TILE", height)
        monkeypatch.setattr(ranking, "ROW_TILE", width)
        monkeypatch.setattr(ranking, "GATHER_VALUES", pair)
        same(path(queries, table, 15), expected)
    same(path(queries[4:5], table, 15), (expected[0][4:5], expected[1][4:5]))


@pytest.mark.parametrize("path", PATHS)
def test_what_cannot_be_had_is_padded(path):
    table = np.ones((3, 2), dtype=np.float32)
    rows, scores = path(table[:2], table, 4, exclude=([1, 1, 0, 1, 2], [0, 2, 5]))
    assert rows.tolist() == [[0, 2, -1, -1], [-1] * 4]
    assert scores.tolist() == [[2, 2, -np.inf, -np.inf], [-np.inf] * 4]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("num_query", [0, 2])
def test_nothing_to_rank(path, num_query):
    queries = np.ones((num_query, 2), dtype=np.float32)
    for table, candidates in (
        (np.ones((0, 2), np.float32), None),
        (np.ones((4, 2), np.float32), []),
    ):
        rows, scores = path(queries, table, 3, candidates=candidates)
        assert rows.shape == scores.shape == (num_query, 3)
        assert (rows == -1).all()
        assert np.isneginf(scores).all()


def test_a_screen_of_scores_is_never_larger_than_a_tile(monkeypatch):
    sizes, multiply = [], np.matmul

    def watched(left, right, out):
        sizes.append(out.shape)
        return multiply(left, right, out=out)

    monkeypatch.setattr(np, "matmul", watched)
    table = np.ones((500, 2), dtype=np.float32)
    top_n(table[:10], table, 1)
    assert max(sizes) <= (3, 200)
    assert sum(height * width for height, width in sizes) == 10 * 500


def test_tables_that_are_read_only_or_strided_will_do():
    base = np.random.default_rng(5).standard_normal((60, 8), dtype=np.float32)
    expected = top_n(base[:4, :4].copy(), base[::2, :4].copy(), 5)
    base.flags.writeable = False
    same(top_n(base[:4, :4], base[::2, :4], 5), expected)
    same(rank_with_arrays(base[:4, :4], base[::2, :4], 5), expected)


def test_tiny_and_large_values_are_ranked():
    for power in (-140, -70, 50):
        table = np.ldexp(np.arange(1, 200, dtype=np.float32), power)[:, None]
        queries = np.ones((1, 1), dtype=np.float32)
        same(top_n(queries, table, 3), brute_force(queries, table, 3))
        same(rank_with_arrays(queries, table, 3), brute_force(queries, table, 3))


ONES = np.ones((2, 3), dtype=np.float32)
NAN = np.array([[1, 2, 3], [1, np.nan, 3]], dtype=np.float32)
INF = np.array([[1, 2, 3], [1, np.inf, 3]], dtype=np.float32)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((NAN, ONES, 1), {}, "queries: row 1 holds a value that is not finite"),
        ((INF, ONES, 1), {}, "queries: row 1 holds a value that is not finite"),
        ((ONES, NAN, 1), {}, "table: row 1 holds a value that is not finite"),
        ((ONES, -INF, 1), {}, "table: row 1 holds a value that is not finite"),
        ((ONES * 1e20, ONES * 1e20, 1), {}, "scores that may not fit float32; scale them"),
        ((ONES, ONES, 1), {"bias": [1, np.nan]}, r"bias\[1\] is nan"),
        ((ONES, ONES, 1), {"bias": [3e38, 0]}, "may not fit float32"),
        ((ONES, ONES, 1), {"bias": [1]}, "bias has 1 entries"),
        ((ONES.astype(float), ONES, 1), {}, "queries has dtype float64"),
        ((ONES, ONES.tolist(), 1), {}, "table is a list"),
        ((ONES[0], ONES, 1), {}, r"queries has shape \(3,\)"),
        ((ONES, ONES[:, :0], 1), {}, r"table has shape \(2, 0\)"),
        ((ONES[:, :2], ONES, 1), {}, "queries has dimension 2 and table 3"),
        ((ONES, ONES, 0), {}, "n is 0"),
        ((ONES, ONES, 1), {"candidates": [2]}, "candidates goes from 2 to 2"),
        ((ONES, ONES, 1), {"candidates": [0.5]}, "candidates has dtype float64"),
        ((ONES, ONES, 1), {"exclude": ([0], [0, 1])}, "exclude: offsets bound 1 sets .* 2 queries"),
        ((ONES, ONES, 1), {"exclude": ([5], [0, 1, 1])}, r"exclude \(items\) goes from 5"),
        ((ONES, ONES, 1), {"losers": ([0], [0, 1, 2])}, r"losers \(offsets\) goes from 0 to 2"),
        ((ONES, ONES, 1), {"losers": [1, 2, 3]}, r"losers is \[1, 2, 3\]; pass a pair"),
    ],
)
def test_what_cannot_be_used_is_refused(path, arguments, options, message):
    with pytest.raises(InputError, match=message):
        path(*arguments, **options)


def test_threads_are_a_number():
    with pytest.raises(InputError, match="num_threads is 0"):
        top_n(ONES, ONES, 1, num_threads=0)


def test_the_kernels_run_uncompiled_as_well(monkeypatch):
    """The same code as Python, so that what it does is also seen by a debugger."""
    generator = np.random.default_rng(8)
    queries = generator.integers(-1, 2, (3, 4)).astype(np.float32)
    table = generator.integers(-1, 2, (150, 4)).astype(np.float32)
    expected = top_n(queries, table, 7)
    monkeypatch.setattr(ranking, "_call", lambda function, *arguments: function(*arguments))
    same(top_n(queries, table, 7), expected)


def test_the_benchmark_runs_shrunken_and_both_find_the_same(tmp_path):
    sizes = ["--queries=7", "--rows=211", "--dim=5", "--n=4", "--repeat=1"]
    benchmark.main([*sizes, f"--out={tmp_path / 'out.md'}"])
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "top 4 of 211 rows for 7 queries" in text
    assert "found 100.0000 % of the rows in common" in text
    assert [line.split(" | ")[0] for line in text.splitlines()[-3:]] == [
        "| ours",
        "| NumPy",
        "| matrix product alone",
    ]


# --------------------------------------------------------------------- pooling


def pooled_by_hand(table, items, offsets, weights):
    """Weighted means in float64."""
    pooled = np.zeros((len(offsets) - 1, table.shape[1]), dtype=np.float32)
    for i, (start, stop) in enumerate(pairwise(offsets)):
        part = weights[start:stop].astype(np.float64)
        if np.abs(part).sum():
            rows = table[items[start:stop]].astype(np.float64)
            pooled[i] = (part[:, None] * rows).sum(axis=0) / np.abs(part).sum()
    return pooled


def pool_with_arrays(table, items, offsets, weights=None):
    factors = np.empty(0, np.float32) if weights is None else weights
    return ranking._pool_with(np, table, items, offsets, factors)


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=60)
def test_pooled_rows_are_weighted_means(seed, weighted):
    generator = np.random.default_rng(seed)
    table = generator.standard_normal((20, int(generator.integers(1, 9))), dtype=np.float32)
    items, offsets = pack(
        [generator.integers(0, 20, generator.integers(0, 12)) for _ in range(generator.integers(9))]
    )
    weights = generator.integers(-2, 3, len(items)).astype(np.float32) if weighted else None
    all_weights = np.ones(len(items), np.float32) if weights is None else weights
    expected = pooled_by_hand(table, items, offsets, all_weights)
    one = pool_rows(table, items, offsets, weights, num_threads=1)
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(pool_rows(table, items, offsets, weights, num_threads=3), one)
    arrays = pool_with_arrays(table, items, offsets, weights)
    np.testing.assert_allclose(arrays, expected, rtol=1e-6, atol=1e-7)
    assert arrays.dtype == np.float32


def test_offsets_of_a_part_of_the_items():
    table = np.eye(4, dtype=np.float32)
    pooled = pool_rows(table, [0, 1, 2, 3, 3], [1, 3, 4], weights=[9, 1, 3, 5, 9])
    assert pooled.tolist() == [[0, 0.25, 0.75, 0], [0, 0, 0, 1]]
    # So are the rows of a query.
    rows, _ = top_n(table[:1], table, 4, exclude=([3, 1, 2, 3], [1, 3]))
    assert rows.tolist() == [[0, 3, -1, -1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAN, [0, 1], [0, 1, 2]), "table holds a value that is not finite in a row of itemset 1"),
        ((ONES, [2], [0, 1]), "items goes from 2 to 2"),
        ((ONES, [0], [0, 2]), "offsets goes from 0 to 2"),
        ((ONES, [0], [0, 1], [np.inf]), r"weights\[0\] is inf"),
        ((ONES, [0], [0, 1], [1, 2]), "weights has 2 entries for 1 items"),
        ((ONES.tolist(), [0], [0, 1]), "table is a list"),
    ],
)
def test_what_cannot_be_pooled_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        pool_rows(*arguments)


def test_rows_that_are_not_pooled_may_hold_anything():
    assert np.isfinite(pool_rows(NAN, [0], [0, 1])).all()


# ----------------------------------------------------------- tables on a device


class OnDevice(np.ndarray):
    """A NumPy array that says that it lies on a GPU."""

    __cuda_array_interface__ = property(lambda self: self.__array_interface__)
    device = property(lambda self: SimpleNamespace(id=3))

    def get(self):
        return np.array(self)


@pytest.fixture
def fake_device(monkeypatch):
    """NumPy in the place of CuPy; what is asked for is the memory that is free."""
    used = []
    fake = SimpleNamespace(
        **{name: getattr(np, name) for name in dir(np) if not name.startswith("_")},
        cuda=SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (1000, 2000))),
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 24),
    )
    fake.asarray = lambda value: np.asarray(value).view(OnDevice)

    def use(index, note=""):
        used.append(index)
        return nullcontext()

    monkeypatch.setattr(chips, "cupy", lambda: fake)
    monkeypatch.setattr(chips, "device", use)
    return used


def test_arrays_of_a_device_are_ranked_and_pooled_there(fake_device):
    generator = np.random.default_rng(4)
    queries = generator.standard_normal((5, 6), dtype=np.float32)
    table = generator.standard_normal((300, 6), dtype=np.float32)
    bias = generator.standard_normal(300, dtype=np.float32)
    exclude = pack([[1, 2]] * 5)
    expected = top_n(queries, table, 5, bias=bias, exclude=exclude)
    assert fake_device == []
    for left, right in (
        (queries.view(OnDevice), table.view(OnDevice)),
        (queries, table.view(OnDevice)),
        (queries.view(OnDevice), table),
    ):
        found = top_n(left, right, 5, bias=bias, exclude=exclude)
        same(found, expected)
        assert type(found[0]) is type(found[1]) is np.ndarray
    pooled = pool_rows(table.view(OnDevice), [1, 2, 3], [0, 2, 3])
    np.testing.assert_array_equal(pooled, pool_rows(table, [1, 2, 3], [0, 2, 3]))
    assert fake_device == [3, 3, 3, 3]


def test_products_with_fewer_digits_are_refused(fake_device, monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    with pytest.raises(DeviceError, match="CUPY_TF32 is set"):
        top_n(ONES.view(OnDevice), ONES, 1)


def test_nothing_of_cupy_is_loaded_for_numpy_arrays(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    top_n(ONES, ONES, 1)
    pool_rows(ONES, [0], [0, 1])


def test_parts_are_ranked_on_the_devices_that_they_lie_on(fake_device):
    generator = np.random.default_rng(4)
    queries = generator.standard_normal((5, 6), dtype=np.float32)
    table = generator.standard_normal((300, 6), dtype=np.float32)
    parted = PartedTable([table[:100].view(OnDevice), table[100:120], table[120:].view(OnDevice)])
    expected = top_n(queries, table, 5)
    same(top_n(queries, parted, 5), expected)
    assert fake_device == [3, 3]
    same(top_n(queries.view(OnDevice), parted, 5), expected)
    assert fake_device == [3] * 5
    found = parted[[299, 110, 0]]
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, table[[299, 110, 0]])

"""`Embeddings`: what it refuses, and neighbours against brute force."""

from __future__ import annotations

import math
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from itembed_gpu.errors import InputError, UnknownLabelError
from itembed_gpu.models.embeddings import Embeddings
from itembed_gpu.ranking import cosine


def table(n, dimension=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dimension), dtype=np.float32)


def names(n):
    return [f"item-{i}" for i in range(n)]


# ------------------------------------------------------------- construction


def test_arrays_that_fit_are_kept_without_a_copy():
    vectors, context, counts = table(3), table(3, seed=1), np.array([3, 2, 1])
    emb = Embeddings(["a", "b", "c"], vectors, context=context, counts=counts)
    assert emb.vectors is vectors
    assert emb.context is context
    assert emb.counts is counts


def test_other_arrays_become_float32_in_c_order_and_int64():
    vectors = np.asfortranarray(table(3).astype(np.float64))
    emb = Embeddings(names(3), vectors, counts=np.array([1, 2, 3], np.uint8))
    assert emb.vectors.dtype == np.float32
    assert emb.vectors.flags.c_contiguous
    assert emb.counts.dtype == np.int64
    np.testing.assert_array_equal(emb.vectors, vectors)


def test_numpy_labels_become_plain_python():
    moments = [np.datetime64("2024-02"), np.datetime64("2024-02-03T04:05:06.000007000", "ns")]
    labels = [np.int32(5), np.str_("x"), np.uint64(2**63), np.float32(0.5), *moments]
    emb = Embeddings(labels, table(6))
    expected = [5, "x", 2**63, 0.5, date(2024, 2, 1), datetime(2024, 2, 3, 4, 5, 6, 7)]
    assert emb.labels == expected
    assert list(map(type, emb.labels)) == [int, str, int, float, date, datetime]
    assert [emb.index(label) for label in labels] == list(range(6))
    assert moments[0] in emb


@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
def test_datetime64_arrays_become_dates_or_datetimes(unit):
    array = np.array(["2024-01-02", "2024-01-03"], dtype=f"datetime64[{unit}]")
    emb = Embeddings(array, table(2))
    kind = date if unit == "D" else datetime
    assert emb.labels == [kind(2024, 1, 2), kind(2024, 1, 3)]
    assert emb.similar(array[:1]) == emb.similar([kind(2024, 1, 2)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": "abc"}, "labels: 'abc'"),
        ({"labels": 3}, "labels: 3"),
        ({"labels": np.array([["a", "b", "c"]])}, "(1, 3)"),
        ({"labels": ["a", ["b"], "c"]}, "['b'] in row 1 is a list"),
        ({"labels": ["a", "b", "a"]}, "'a' in row 0 equals 'a' in row 2"),
        ({"labels": [1, 2, True]}, "1 in row 0 equals True in row 2"),
        ({"labels": ["a", "b"]}, "3 rows for 2 labels"),
        ({"labels": [1, 2, np.datetime64("NaT", "s")]}, "NaT"),
        ({"labels": [1, 2, np.datetime64(1, "ns")]}, "does not fit a datetime"),
        ({"labels": [1, 2, np.datetime64(20000, "Y")]}, "does not fit a datetime"),
        ({"vectors": np.zeros(3)}, "vectors: has shape (3,)"),
        ({"vectors": np.zeros((3, 0))}, "vectors: has shape (3, 0)"),
        ({"vectors": np.zeros((3, 2), complex)}, "complex128"),
        ({"vectors": [["a"], ["b"], ["c"]]}, "vectors: has shape (3, 1) and dtype <U1"),
        ({"vectors": [[1], [2, 3], [4]]}, "vectors:"),
        ({"vectors": [[1.0], [math.nan], [2.0]]}, "vectors: row 1"),
        ({"vectors": [[1.0], [2.0], [-math.inf]]}, "vectors: row 2"),
        ({"vectors": [[1e39], [2.0], [0]]}, "vectors: row 0"),
        ({"context": np.zeros((3, 5))}, "context: has shape (3, 5)"),
        ({"context": np.zeros((2, 4))}, "context: has 2 rows"),
        ({"counts": [1, 2]}, "counts has 2 entries for 3 labels"),
        ({"counts": [[1], [2], [3]]}, "counts has shape (3, 1)"),
        ({"counts": [1.0, 2.0, 3.0]}, "counts has dtype float64"),
        ({"counts": [1, -2, 3]}, "counts: row 1 is -2"),
        ({"counts": np.array([1, 2, 2**63], np.uint64)}, "counts: row 2"),
        ({"metadata": [1]}, "metadata: [1]"),
        ({"metadata": {"a": {1, 2}}}, "metadata: Object of type set"),
        ({"metadata": {"loss": math.nan}}, "metadata: "),
    ],
)
def test_bad_arguments_are_named(changes, words):
    arguments = {"labels": ["a", "b", "c"], "vectors": table(3)} | changes
    with pytest.raises(InputError) as caught:
        Embeddings(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metadata_is_a_json_copy():
    given_metadata = {"sizes": (1, 2)}
    emb = Embeddings(["a"], table(1), metadata=given_metadata)
    given_metadata["sizes"] = None
    assert emb.metadata == {"sizes": [1, 2]}


# ------------------------------------------------------------------- lookup


def test_lookup():
    emb = Embeddings(["a", ("b", 1), 7], table(3))
    assert len(emb) == 3
    assert emb.dimension == 4
    assert list(emb) == emb.labels == ["a", ("b", 1), 7]
    assert "a" in emb
    assert "z" not in emb
    assert emb.index(7) == emb.index(np.int64(7)) == 2
    np.testing.assert_array_equal(emb[("b", 1)], emb.vectors[1])
    np.testing.assert_array_equal(emb[[7, "a", 7]], emb.vectors[[2, 0, 2]])
    assert emb[[]].shape == (0, 4)
    assert np.shares_memory(emb["a"], emb.vectors)
    assert not np.shares_memory(emb[["a"]], emb.vectors)


def test_unknown_labels_offer_close_ones():
    emb = Embeddings(["white mug", "White Mugs", "lantern", "cup", *names(1000)], table(1004))
    with pytest.raises(
        UnknownLabelError, match=r"close to it: 'White Mugs', 'white mug'$|'white m"
    ):
        emb["WHITE MUGZ"]
    with pytest.raises(KeyError, match="'lantern'"):
        emb[["cup", "lanterns"]]
    with pytest.raises(UnknownLabelError) as caught:
        emb["nothing like it at all"]
    assert "close" not in str(caught.value)
    with pytest.raises(UnknownLabelError, match="a tuple is one label"):
        emb[("cup", "lantern")]
    with pytest.raises(UnknownLabelError, match="of type int, where the first label, 'white mug'"):
        emb[3]
    with pytest.raises(InputError, match="is a set, which cannot be a label"):
        emb[{"cup"}]
    with pytest.raises(UnknownLabelError, match="not among the 0 labels"):
        Embeddings([], np.zeros((0, 3)))["x"]


@pytest.mark.parametrize(
    ("label", "asked", "hint"),
    [
        ("00007", "7", "'00007'"),
        ("00007", 7, "'00007'"),
        ("00007", 7.0, "'00007'"),
        (7, "7", "7"),
        (7, " 007.0", "7"),
        ("-5", "-005", "'-5'"),
        ("Tea", "TEA", "'Tea'"),
        ("TEA", "Tea ", "'TEA'"),
    ],
)
def test_unknown_labels_offer_other_spellings(label, asked, hint):
    with pytest.raises(UnknownLabelError, match=f"close to it: {hint}$"):
        Embeddings(["saw", label], table(2))[asked]


def test_unknown_labels_are_told_of_a_type_only_if_no_label_is_of_it():
    def message(labels, label):
        with pytest.raises(UnknownLabelError) as caught:
            Embeddings(labels, table(len(labels)))[label]
        return str(caught.value)

    assert message([7, 8], "z").endswith("of type str, where the first label, 7, is of type int")
    assert message([7, "tea"], "z") == "label: 'z' is not among the 2 labels"
    assert message([7, 8], np.int64(9)).endswith(" is not among the 2 labels")
    assert message([("a", 1), "b"], ("a", 2)) == "label: ('a', 2) is not among the 2 labels"


def test_repr_is_one_short_line():
    emb = Embeddings(["a" * 99, "b\nc", 3, 4], table(4), counts=[1, 2, 3, 4], metadata={"k": 5})
    shown = repr(emb)
    assert shown.startswith("Embeddings(4 x 4: 'aaaa")
    assert shown.endswith(", 3, ...; with counts, metadata)")
    assert "\n" not in shown
    assert len(shown) < 120
    assert repr(Embeddings([], np.zeros((0, 3)))) == "Embeddings(0 x 3)"
    assert "too long" in repr(Embeddings([10**5000], table(1)))


# --------------------------------------------------------------- neighbours


def brute_force(emb, query, n, allowed):
    """The specification, a pair at a time: (label, cosine), best first, ties in row order."""

    def dot(x, y):
        return sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True))

    scored = []
    for row, (label, vector) in enumerate(zip(emb.labels, emb.vectors, strict=True)):
        if label in allowed:
            norms = math.sqrt(dot(vector, vector)) * math.sqrt(dot(query, query))
            scored.append((-dot(vector, query) / norms if norms else 0.0, row, label))
    return [(label, min(1.0, max(-1.0, -score))) for score, _, label in sorted(scored)[:n]]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_similar_is_brute_force_with_ties_in_row_order(data):
    # Small integers: their dot products are exact, so that ties are ties in any order of summing.
    size = data.draw(st.integers(1, 40))
    dimension = data.draw(st.integers(1, 3))
    values = st.lists(st.integers(-2, 2), min_size=dimension, max_size=dimension)
    vectors = data.draw(st.lists(values, min_size=size, max_size=size))
    emb = Embeddings(range(size), np.array(vectors, np.float32))
    some = st.lists(st.integers(0, size - 1), max_size=size)
    items = data.draw(st.none() | some)
    exclude = data.draw(st.none() | some.map(set))
    queries = data.draw(some)
    n = data.draw(st.integers(1, 50))
    allowed = set(emb.labels if items is None else items) - (exclude or set())

    found = emb.similar(queries, n, items=items, exclude=exclude)
    assert found == [brute_force(emb, emb[q], n, allowed - {q}) for q in queries]
    raw = emb.similar(emb[queries], n, items=items, exclude=exclude)
    assert raw == [brute_force(emb, emb[q], n, allowed) for q in queries]


def test_similar_on_a_real_valued_table():
    emb = Embeddings(names(500), table(500, 33))
    unit = emb.vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    expected = np.argsort(-cosines, axis=1)[:, :7]
    for row, neighbours in enumerate(emb.similar(emb.labels, n=7)):
        assert [emb.index(label) for label, _ in neighbours] == expected[row].tolist()
        scores = [score for _, score in neighbours]
        np.testing.assert_allclose(scores, cosines[row, expected[row]], rtol=1e-12)


def test_tiles_stay_under_the_budget_and_change_nothing(monkeypatch):
    emb = Embeddings(names(300), table(300, 24))
    queries, items = emb.labels[:50], emb.labels[20:220]
    whole = emb.similar(queries, 5), emb.similar(queries, 5, items=items)
    blocks = []
    score_blocks = cosine._score_blocks

    def spied(*arguments):
        for start, block in score_blocks(*arguments):
            blocks.append(block.nbytes)
            yield start, block

    monkeypatch.setattr(cosine, "_score_blocks", spied)
    monkeypatch.setattr(cosine, "SCORE_BUDGET", 5000)
    monkeypatch.setattr(cosine, "CHUNK", 100)
    assert (emb.similar(queries, 5), emb.similar(queries, 5, items=items)) == whole
    assert len(blocks) == math.ceil(50 / 4) + math.ceil(50 / 6)
    assert max(blocks) <= 5000
    monkeypatch.setattr(cosine, "SCORE_BUDGET", 1)  # less than a row: a row at a time
    assert emb.similar(queries, 5) == whole[0]


def test_equal_rows_tie_wherever_they_stand():
    # The edges of a matrix product may sum in another order than its middle.
    vectors = table(1003, 37)
    twins = [0, 1, 500, 998, 1001, 1002]
    vectors[twins] = vectors[0]
    emb = Embeddings(range(1003), vectors)
    assert [label for label, _ in emb.similar(500, n=5)] == [0, 1, 998, 1001, 1002]
    assert len({score for _, score in emb.similar(500, n=5)}) == 1
    assert [label for label, _ in emb.similar(500, n=3)] == [0, 1, 998]


def test_the_screening_loses_no_neighbour():
    # Cosines that all round to about 1 in float32: only float64 can tell them apart.
    rng = np.random.default_rng(1)
    lengths = rng.uniform(1, 2, (300, 1))
    vectors = lengths * np.stack([np.ones(300), 1e-6 * np.arange(1, 301)], axis=1)
    order = rng.permutation(300)
    emb = Embeddings(order.tolist(), vectors[order])
    found = emb.similar(np.array([1.0, 0.0]), n=12)
    assert [label for label, _ in found] == list(range(12))


def test_zero_rows_score_zero():
    emb = Embeddings(list("abcd"), np.zeros((4, 3)))
    assert emb.similar("b") == [("a", 0.0), ("c", 0.0), ("d", 0.0)]
    mixed = Embeddings(list("abc"), [[-1, -1], [0, 0], [1, 1]])
    assert [label for label, _ in mixed.similar("c")] == ["b", "a"]
    for label in ("a", "c"):
        assert dict(mixed.similar(label))["b"] == 0
    assert mixed.similar(np.zeros(2)) == [("a", 0.0), ("b", 0.0), ("c", 0.0)]


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-10, 1e10, 1e30, 1e38])
def test_extreme_lengths_neither_overflow_nor_vanish(scale):
    vectors = np.array([[1, 0], [1, 1], [0, 2], [-2, 0], [0, 0], [1, 2]], np.float64)
    vectors[1:3] *= scale
    emb = Embeddings(range(6), vectors)
    assert [label for label, _ in emb.similar(0)] == [1, 5, 2, 4, 3]
    for n in range(1, 5):
        assert emb.similar(0, n) == emb.similar(0)[:n]
    np.testing.assert_allclose([s for _, s in emb.similar(0)], [0.5**0.5, 0.2**0.5, 0, 0, -1], 1e-6)


def test_similar_accepts_each_kind_of_query():
    emb = Embeddings(["a", "b", ("a", "b"), 4], table(4))
    one = emb.similar("a")
    assert emb.similar(["a"]) == [one]
    assert emb.similar(np.array(["a", "b"])) == emb.similar(["a", "b"])
    assert emb.similar(np.array([4])) == emb.similar([4])
    assert emb.similar(("a", "b")) == emb.similar([("a", "b")])[0]
    assert emb.similar(emb["a"]) == [("a", 1.0), *one]
    assert emb.similar(emb[["a"]].astype(np.float64)) == [emb.similar(emb["a"])]
    assert emb.similar([]) == emb.similar(np.zeros((0, 4))) == []


def test_candidates_and_counts_of_them():
    emb = Embeddings(range(6), table(6))
    assert len(emb.similar(0, n=100)) == 5
    assert len(emb.similar(0, n=np.int64(2))) == 2
    assert {label for label, _ in emb.similar(0, items=[3, 3, 0, 1])} == {1, 3}
    assert {label for label, _ in emb.similar(0, items={3, 1}, exclude=3)} == {1}
    assert {label for label, _ in emb.similar(1, exclude=0)} == {2, 3, 4, 5}
    assert {label for label, _ in emb.similar(0, exclude=np.array([1, 2]))} == {3, 4, 5}
    assert emb.similar(0, items=[0]) == emb.similar(0, items=[]) == []
    assert emb.similar([0, 1], exclude=emb.labels) == [[], []]
    assert Embeddings([], np.zeros((0, 3))).similar(np.ones(3)) == []


def test_the_most_similar_are_those_of_gensim(data_of_gensim):
    emb, vectors = data_of_gensim
    for positive, negative in [
        (["0", "1"], ["2"]),
        (["0", "0", "1"], []),
        ([], ["3"]),
        ("4", "5"),
    ]:
        found = emb.most_similar(positive, negative, n=8)
        expected = vectors.most_similar(positive, negative, topn=8)
        assert [label for label, _ in found] == [label for label, _ in expected]
        np.testing.assert_allclose([x for _, x in found], [x for _, x in expected], atol=1e-6)
    assert emb.most_similar("4") == emb.most_similar({"4"}, None)
    assert [label for label, _ in emb.most_similar("4")] == [x for x, _ in emb.similar("4")]


@pytest.fixture
def data_of_gensim():
    models = pytest.importorskip("gensim.models")

    # Of different lengths, which are not to matter.
    rows = table(40) * np.arange(1, 41)[:, None]
    labels = [str(row) for row in range(40)]
    vectors = models.KeyedVectors(rows.shape[1])
    vectors.add_vectors(labels, rows.astype(np.float32))
    return Embeddings(labels, rows), vectors


def test_the_most_similar_are_asked_for_by_labels():
    emb = Embeddings(["a", ("b", 1), "c"], np.eye(3) * 1e30 + 1)
    assert [label for label, _ in emb.most_similar(("b", 1), n=9)] == ["a", "c"]
    with pytest.raises(InputError, match="positive and negative are empty"):
        emb.most_similar()
    with pytest.raises(UnknownLabelError, match="'z'"):
        emb.most_similar(["a"], ["z"])
    with pytest.raises(InputError, match="n is 0"):
        emb.most_similar("a", n=0)


def test_similar_follows_a_table_trained_in_place():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    emb = Embeddings(range(3), vectors)
    before = emb.similar(0, n=2)
    vectors[2] = [9, 0]
    assert emb.similar(0, n=2) == [(2, 1.0), before[0]]


@pytest.mark.parametrize("n", [0, -1, 2.0, "3", None])
def test_similar_refuses_n(n):
    with pytest.raises(InputError, match=r"^n is .*; pass an integer of at least 1$"):
        Embeddings(["a"], table(1)).similar("a", n)


def test_similar_refuses_unknown_labels_and_misshapen_vectors():
    emb = Embeddings(["a", "b"], table(2))
    for arguments in ({"query": "z"}, {"query": ["a", "z"]}):
        with pytest.raises(UnknownLabelError, match="'z'"):
            emb.similar(**arguments)
    for name in ("items", "exclude"):
        with pytest.raises(UnknownLabelError, match="'z'"):
            emb.similar("a", **{name: ["z"]})
    for shape in ((), (3,), (2, 3), (1, 1, 4)):
        with pytest.raises(InputError, match="query: has shape"):
            emb.similar(np.ones(shape))
    with pytest.raises(InputError, match="query: row 1"):
        emb.similar(np.array([[1, 1, 1, 1], [1, 1, np.nan, 1]]))

"""Where embeddings go next: docs/next.md, its code and its table, held to the libraries themselves.

They are many and large: the extra "next-test". Each test is skipped where its library is missing.
"""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import polars
import pytest

from itembed_gpu import Embeddings, normalize

# Their own warnings are not ours; those that are asked for are caught in the tests.
pytestmark = pytest.mark.filterwarnings("default")

PAGE = (Path(__file__).parents[2] / "docs" / "next.md").read_text(encoding="utf-8")
# The code of each section that is called by one word, a library's name.
CODE = dict(re.findall(r"^## (\S+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.M | re.S))
MODULES = {name: "gensim.models" if name == "gensim" else name.lower() for name in CODE}

TEA, CUP, ZERO = range(3)
LABELS = ["tea", "cup", "zero", "pot", "saw"]
ROWS = np.array([[1, 0, 0], [3, 4, 0], [0, 0, 0], [10, 1, 0], [-1, 0, 0]], dtype=np.float32)
COSINES = [1, 0.6, 0, 10 / np.sqrt(101), -1]
PRODUCTS = [1, 3, 0, 10, -1]
NEAREST = ["tea", "pot", "cup", "saw"]  # by cosine, without zeros


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f'{name} comes with the extra "next-test"')


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Embeddings(LABELS, ROWS, counts=[5, 4, 3, 2, 1])


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    """Rows of many lengths, one of zeros, and two that are equal but for their length."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((60, 8)) * rng.lognormal(size=(60, 1))
    rows[7], rows[40] = 0, 4 * rows[20]
    labels = [f"item {row}" for row in range(60)]
    return Embeddings(labels, rows, counts=range(60, 0, -1))


def test_the_page_has_all_of_them():
    assert list(CODE) == ["DuckDB", "LanceDB", "hnswlib", "usearch", "faiss", "gensim", "spaCy"]


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("label", ["item 0", "item 20"])
def test_code_of_the_page_finds_the_same_neighbours(catalog, name, label):
    library(MODULES[name])
    names = {"embeddings": catalog, "label": label, "m": 20}
    exec(CODE[name], names)
    assert len(names["candidates"]) == 20
    found = catalog.similar(label, 15, items=names["candidates"])
    assert found == catalog.similar(label, 15)


@pytest.mark.parametrize("name", CODE)
def test_code_of_the_page_ranks_all(catalog, name):
    library(MODULES[name])
    names = {"embeddings": catalog, "label": "item 0", "m": 60}
    exec(CODE[name], names)
    found = [label for label in names["candidates"] if label != "item 0"]
    cosine = dict(catalog.similar("item 0", 59))
    # By distance DuckDB has zeros last, as gensim does; it is 0 elsewhere.
    cosine["item 7"] = -1 if name in ("DuckDB", "gensim") else 0
    falling = [cosine[label] for label in found]
    assert set(found) == set(cosine)
    np.testing.assert_allclose(falling, sorted(falling, reverse=True), atol=1e-4)


# ---------------------------------------------------------------------- DuckDB


def test_duckdb_reads_vectors_of_parquet_as_lists(small):
    duckdb = library("duckdb")
    small.to_parquet("items.parquet")
    types = dict(row[:2] for row in duckdb.sql("DESCRIBE FROM 'items.parquet'").fetchall())
    assert types == {"label": "VARCHAR", "vector": "FLOAT[]", "count": "BIGINT"}
    arrow = polars.read_parquet("items.parquet").to_arrow()
    assert duckdb.from_arrow(arrow).types[1] == "FLOAT[3]"
    with pytest.raises(duckdb.BinderException, match="array_cosine_distance"):
        duckdb.sql("SELECT array_cosine_distance(vector, vector) FROM 'items.parquet'")
    Embeddings([7, -1, 2**62, 0, 1], ROWS).to_parquet("items.parquet")
    assert duckdb.sql("SELECT max(label) FROM 'items.parquet'").fetchall() == [(2**62,)]


def of_duckdb(duckdb, function, order):
    return duckdb.sql(
        f"SELECT label, {function}(vector::FLOAT[3], [1, 0, 0]::FLOAT[3]) AS x "
        f"FROM 'items.parquet' ORDER BY x {order}"
    ).fetchall()


def test_duckdb_takes_zeros_for_the_largest(small):
    duckdb = library("duckdb")
    small.to_parquet("items.parquet")
    rising = of_duckdb(duckdb, "array_cosine_distance", "ASC")
    falling = of_duckdb(duckdb, "array_cosine_similarity", "DESC")
    assert [label for label, _ in rising] == [*NEAREST, "zero"]
    assert [label for label, _ in falling] == ["zero", *NEAREST]
    assert np.isnan([dict(rising)["zero"], dict(falling)["zero"]]).all()
    products = of_duckdb(duckdb, "array_inner_product", "DESC")
    assert dict(products) == dict(zip(LABELS, PRODUCTS, strict=True))


def test_duckdb_has_the_whole_order_in_sql(catalog):
    duckdb = library("duckdb")
    catalog.to_parquet("items.parquet")
    query = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)[1].replace("64", "8")
    for label in ("item 0", "item 20"):
        found = duckdb.sql(query, params={"query": catalog[label].tolist()}).fetchall()
        neighbours = catalog.similar(label, 59)
        assert [x for (x,) in found if x != label] == [x for x, _ in neighbours]


# --------------------------------------------------------------------- LanceDB


def of_lancedb(table, query, kind=None):
    search = table.search(query)
    search = search if kind is None else search.distance_type(kind)
    return {row["label"]: row["_distance"] for row in search.limit(9).to_list()}


def test_lancedb_returns_no_zeros_by_cosine(small):
    lancedb = library("lancedb")
    small.to_parquet("items.parquet")
    table = lancedb.connect("folder").create_table("items", polars.read_parquet("items.parquet"))
    assert list(of_lancedb(table, ROWS[TEA], "cosine")) == NEAREST
    assert of_lancedb(table, ROWS[ZERO], "cosine") == {}
    squared = ((ROWS - ROWS[TEA]) ** 2).sum(axis=1)
    assert of_lancedb(table, ROWS[TEA]) == dict(zip(LABELS, squared, strict=True))
    products = {label: 1 - product for label, product in zip(LABELS, PRODUCTS, strict=True)}
    assert of_lancedb(table, ROWS[TEA], "dot") == products


def test_lancedb_keeps_labels_that_are_numbers(tmp_path):
    lancedb = library("lancedb")
    Embeddings([7, -1, 2**62, 0, 1], ROWS).to_parquet(tmp_path / "items.parquet")
    frame = polars.read_parquet(tmp_path / "items.parquet")
    table = lancedb.connect(tmp_path / "folder").create_table("items", frame)
    assert set(of_lancedb(table, ROWS[TEA])) == {7, -1, 2**62, 0, 1}


# --------------------------------------------------------------------- hnswlib


def of_hnswlib(space, rows=ROWS):
    index = library("hnswlib").Index(space=space, dim=3)
    index.init_index(10, random_seed=1)
    index.add_items(rows, np.arange(len(rows)))
    return index


def distances(answer):
    """The distance of each row, of hnswlib's answer to one query."""
    (rows,), (found,) = answer
    return found[np.argsort(rows)]


def test_hnswlib_has_zeros_at_distance_1_and_unit_vectors():
    index = of_hnswlib("cosine")
    np.testing.assert_allclose(
        distances(index.knn_query(ROWS[TEA], k=5)), 1 - np.array(COSINES), atol=1e-6
    )
    assert distances(index.knn_query(ROWS[ZERO], k=5)).tolist() == [1] * 5
    np.testing.assert_allclose(index.get_items([CUP])[0], [0.6, 0.8, 0], atol=1e-6)


def test_hnswlib_gives_1_less_the_product():
    rows, found = of_hnswlib("ip").knn_query(ROWS[TEA], k=5)
    assert found[0].tolist() == [-9, -2, 0, 1, 2]
    assert rows[0].tolist() == [3, 1, 0, 2, 4]  # itself third


def test_hnswlib_takes_integers_from_0_for_labels():
    index = of_hnswlib("cosine")
    with pytest.raises(ValueError, match="invalid literal for int"):
        index.add_items(ROWS[:1], np.array(["tea"]))
    with pytest.raises(OverflowError, match="out of bounds for uint64"):
        index.add_items(ROWS[:1], [-1])
    index.add_items(ROWS[CUP : CUP + 1], [TEA])  # again
    assert index.get_current_count() == 5
    assert np.array_equal(index.get_items([TEA]), index.get_items([CUP]))
    with pytest.raises(RuntimeError, match="Cannot return the results"):
        index.knn_query(ROWS[TEA], k=6)


# --------------------------------------------------------------------- usearch


def of_usearch(metric="cos", **options):
    index = library("usearch.index").Index(ndim=3, metric=metric, **options)
    index.add(np.arange(5), ROWS)
    return index


def test_usearch_has_zeros_near_each_other():
    index = of_usearch(dtype="f32")
    for query, cosines in ((TEA, COSINES), (ZERO, [0, 0, 1, 0, 0])):
        found = index.search(ROWS[query], 5)
        order = np.argsort(found.keys)
        np.testing.assert_allclose(found.distances[order], 1 - np.array(cosines), atol=1e-6)
    found = of_usearch("ip", dtype="f32").search(ROWS[TEA], 5)
    assert dict(zip(found.keys.tolist(), found.distances.tolist(), strict=True)) == {
        row: 1 - product for row, product in enumerate(PRODUCTS)
    }


def test_usearch_rounds_unless_told():
    index_of = library("usearch.index").Index
    near = np.array([[1, 0.001], [1, 0.0015], [1, 0]], dtype=np.float32)
    found = {}
    for options in ({}, {"dtype": "f32"}):
        index = index_of(ndim=2, metric="l2sq", **options)
        index.add(np.arange(3), near + 1)
        found[len(options)] = index.search(near[2] + 1, 3).distances.tolist()
    assert found[0] == [0, 0, 0]
    np.testing.assert_allclose(found[1], [0, 1e-6, 2.25e-6], rtol=0.01)


def test_usearch_never_finds_its_largest_key():
    index = of_usearch(dtype="f32")
    with pytest.raises(ValueError, match="invalid literal for int"):
        index.add(np.array(["tea"]), ROWS[:1])
    with pytest.raises(RuntimeError, match="Duplicate keys"):
        index.add(0, ROWS[TEA])
    index.add(np.array([-1, -5]), ROWS[:2])
    assert len(index) == 7
    assert 2**64 - 1 in index
    for exact in (False, True):
        keys = set(index.search(ROWS[TEA], 7, exact=exact).keys.tolist())
        assert keys == {0, 1, 2, 3, 4, 2**64 - 5}


# ----------------------------------------------------------------------- faiss


def test_faiss_has_inner_products_alone():
    faiss = library("faiss")
    index = faiss.IndexFlatIP(3)
    index.add(ROWS)
    scores, rows = index.search(ROWS[: TEA + 1], 6)
    assert rows[0].tolist() == [3, 1, 0, 2, 4, -1]
    assert scores[0, :5].tolist() == [10, 3, 1, 0, -1]
    unit = ROWS.copy()
    faiss.normalize_L2(unit)  # in place
    assert np.array_equal(unit[ZERO], ROWS[ZERO])
    np.testing.assert_allclose(unit, normalize(ROWS), atol=1e-6)
    index = faiss.IndexFlatIP(3)
    index.add(unit)
    scores, rows = index.search(unit[: TEA + 1], 5)
    np.testing.assert_allclose(scores[0, np.argsort(rows[0])], COSINES, atol=1e-6)
    assert faiss.IndexHNSWFlat(3, 16).metric_type == faiss.METRIC_L2


def test_faiss_takes_integers_of_64_bits_for_labels():
    faiss = library("faiss")
    index = faiss.IndexIDMap(faiss.IndexFlatIP(3))
    index.add_with_ids(ROWS, np.array([2**62, -5, -1, 7, 8]))
    assert index.search(ROWS[:1], 6)[1][0].tolist() == [7, -5, 2**62, -1, 8, -1]
    with pytest.raises(ValueError, match="invalid literal for int"):
        index.add_with_ids(ROWS, np.array(LABELS))


# ------------------------------------------------------------ gensim and spaCy


def test_gensim_puts_zeros_last(small):
    models = library("gensim.models")
    small.to_word2vec("items.txt", vocabulary="items.counts")
    vectors = models.KeyedVectors.load_word2vec_format("items.txt", fvocab="items.counts")
    assert [vectors.get_vecattr(label, "count") for label in LABELS] == [5, 4, 3, 2, 1]
    with pytest.warns(RuntimeWarning, match="invalid value"):
        found = vectors.most_similar("tea", topn=4)
    assert [label for label, _ in found] == [*NEAREST[1:], "zero"]
    assert np.isnan(found[-1][1])
    assert [label for label, _ in small.similar("tea")] == ["pot", "cup", "zero", "saw"]


def test_gensim_takes_numbers_for_rows(tmp_path):
    models = library("gensim.models")
    Embeddings([7, 0, 1], ROWS[[0, 1, 3]]).to_word2vec(tmp_path / "items.txt")
    vectors = models.KeyedVectors.load_word2vec_format(tmp_path / "items.txt")
    assert vectors.index_to_key == ["7", "0", "1"]
    assert np.array_equal(vectors[0], ROWS[0])  # that of label 7
    assert np.array_equal(vectors["0"], ROWS[1])
    with pytest.raises(KeyError, match="'7' not present"):
        vectors[7]


def test_spacy_reads_the_file_and_scales_queries_in_place(small):
    spacy = library("spacy")
    small.to_word2vec("items.txt")
    command = [sys.executable, "-m", "spacy", "init", "vectors", "xx", "items.txt", "folder"]
    subprocess.run(command, check=True, capture_output=True)
    vocab = spacy.load("folder").vocab
    query = ROWS[[CUP]]
    keys, rows, scores = vocab.vectors.most_similar(query, n=5)
    assert [vocab.strings[key] for key in keys[0].tolist()[:3]] == ["cup", "pot", "tea"]
    assert scores[0].tolist() == np.around(scores[0], 4).tolist()
    assert scores[0, rows[0].tolist().index(ZERO)] == 0
    np.testing.assert_allclose(query, [[0.6, 0.8, 0]], atol=1e-6)
    vocab.vectors.most_similar(vocab.vectors.data[3:4], n=1)
    np.testing.assert_allclose(np.linalg.norm(vocab.vectors.data[3]), 1, atol=1e-6)
    with pytest.raises(ValueError, match="E198"):
        vocab.vectors.most_similar(query, n=6)

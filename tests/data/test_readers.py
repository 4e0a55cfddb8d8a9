"""Reading itemsets: round trips through every format, and one clear line for every bad file."""

import gzip
import inspect
import io
import lzma
import random
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from itembed_gpu.data import columns
from itembed_gpu.data.formats import FORMATS
from itembed_gpu.data.lists import pack_itemsets
from itembed_gpu.data.out_of_memory import pack_files
from itembed_gpu.data.readers import read_itemsets
from itembed_gpu.errors import DataError, InputError, MissingExtraError

polars = pytest.importorskip("polars", reason="tables are read with the extra 'cli'")

# Whatever UTF-8 can hold, but for zero bytes and a byte order mark.
TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\ufeff"), min_size=1
)
WORD = TEXT.map(lambda text: "".join(text.split())).filter(bool)
PHRASE = TEXT.map(lambda text: " ".join(text.replace(";", "").split())).filter(bool)
KEYS = st.integers(0, 4)


def unpack(packed):
    labels, indices, offsets = packed
    names = [labels[index] for index in indices]
    return [names[start:end] for start, end in pairwise(offsets)]


def group(rows):
    """Itemsets of (itemset, item) rows: by first row, then by row."""
    itemsets = {}
    for key, item in rows:
        itemsets.setdefault(key, []).append(item)
    return list(itemsets.values())


def assert_same(packed, itemsets):
    expected = pack_itemsets(itemsets)
    assert packed.labels == expected.labels
    assert list(map(type, packed.labels)) == list(map(type, expected.labels))
    np.testing.assert_array_equal(packed.indices, expected.indices)
    np.testing.assert_array_equal(packed.offsets, expected.offsets)
    np.testing.assert_array_equal(packed.counts, expected.counts)
    assert packed.dropped == expected.dropped


def write_text(path, text):
    data = text.encode() if isinstance(text, str) else text
    compress = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(data))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where hypothesis may write, as a fixture of a function is not made anew for each example."""
    return tmp_path_factory.mktemp("round_trip")


# What is drawn may look like anything, and is told what it is.
@pytest.mark.filterwarnings("ignore::UserWarning")
class TestRoundTrip:
    @pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.xz"])
    @given(itemsets=st.lists(st.lists(WORD, min_size=1), min_size=1))
    def test_text(self, folder, suffix, itemsets):
        path = folder / f"itemsets{suffix}"
        write_text(path, "".join(" ".join(itemset) + "\n" for itemset in itemsets))
        assert_same(read_itemsets(path, format="text"), itemsets)

    @given(itemsets=st.lists(st.lists(PHRASE, min_size=1), min_size=1))
    def test_text_with_a_separator(self, folder, itemsets):
        path = folder / "separated.txt"
        write_text(path, "".join(" ; ".join(itemset) + "\r\n" for itemset in itemsets))
        assert_same(read_itemsets(path, format="text", separator=";"), itemsets)

    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
    @given(rows=st.lists(st.tuples(KEYS, TEXT.map("x".__add__)), min_size=1))
    def test_table_of_strings(self, folder, suffix, rows):
        path = self.write_table(folder, suffix, rows)
        assert_same(read_itemsets(path), group(rows))

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    @given(
        rows=st.lists(
            # A first row of names alone could be a header: that is asked.
            st.tuples(TEXT.filter(lambda text: text != "basket"), st.integers(-(2**63), 2**63 - 1)),
            min_size=1,
        )
    )
    def test_table_of_integers(self, folder, suffix, rows):
        path = self.write_table(folder, suffix, rows)
        assert_same(read_itemsets(path), group(rows))

    @staticmethod
    def write_table(folder, suffix, rows):
        path = folder / f"rows{suffix}"
        frame = polars.DataFrame(rows, schema=["basket", "product"], orient="row")
        if suffix == ".parquet":
            frame.write_parquet(path)
        else:
            write_text(path, frame.write_csv(separator="\t" if suffix == ".tsv" else ","))
        return path


class TestText:
    def test_items_are_strings(self, tmp_path):
        path = write_text(tmp_path / "a.txt", "1 2\n2 3\n")
        assert unpack(read_itemsets(path)) == [["1", "2"], ["2", "3"]]

    def test_a_byte_order_mark_is_no_part_of_an_item(self, tmp_path):
        path = write_text(tmp_path / "a.txt", "\ufeffa b")
        assert unpack(read_itemsets(path)) == [["a", "b"]]

    def test_empty_lines_and_fields_are_counted(self, tmp_path):
        path = write_text(tmp_path / "a.txt", "a,,b\n\n , \nc,\n")
        packed = read_itemsets(path, separator=",")
        assert unpack(packed) == [["a", "b"], ["c"]]
        assert (packed.dropped.itemsets_read, packed.dropped.short_itemsets) == (4, 2)
        assert packed.dropped.none_items == 4
        assert packed.rows_without_itemset == 0

    def test_limits(self, tmp_path):
        path = write_text(tmp_path / "a.txt", "a b\nb c\nb\n")
        packed = read_itemsets(path, min_count=2, min_length=1)
        assert unpack(packed) == [["b"], ["b"], ["b"]]
        assert packed.dropped.rare_labels == 2

    def test_format_overrules_the_suffix(self, tmp_path):
        path = write_text(tmp_path / "a.csv", "a,b c\n")
        assert unpack(read_itemsets(path, format="text")) == [["a,b", "c"]]

    def test_source_is_the_file(self, tmp_path):
        path = write_text(tmp_path / "a.txt", "a b")
        assert read_itemsets(str(path)).source == str(path)

    @pytest.mark.parametrize("argument", ["itemset", "item", "weight"])
    def test_has_no_columns(self, tmp_path, argument):
        path = write_text(tmp_path / "a.txt", "a b")
        with pytest.raises(InputError, match="'basket'"):
            read_itemsets(path, **{argument: "basket"})

    def test_an_empty_separator_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="separator"):
            read_itemsets(write_text(tmp_path / "a.txt", "a b"), separator="")


class TestTable:
    SALES = "basket,product,price,day\n7,tea,1,mon\n3,cup,2.5,mon\n7,cup,3,tue\n"

    @pytest.fixture
    def sales(self, tmp_path):
        return write_text(tmp_path / "sales.csv", self.SALES)

    def test_the_first_columns_are_taken_and_told(self, sales):
        packed = read_itemsets(sales)
        assert unpack(packed) == [["tea", "cup"], ["cup"]]
        for part in (str(sales), "itemset column 'basket'", "item column 'product'", "first"):
            assert part in packed.source

    def test_named_columns(self, sales):
        packed = read_itemsets(sales, itemset="day", item="basket")
        assert unpack(packed) == [[7, 3], [7]]
        assert "first" not in packed.source

    def test_a_named_column_is_not_taken_again(self, sales):
        assert unpack(read_itemsets(sales, item="basket")) == [[7], [3, 7]]
        assert unpack(read_itemsets(sales, itemset="product", weight="basket")) == [
            ["1"],
            ["2.5", "3"],
        ]

    def test_weights_follow_their_items(self, sales):
        packed = read_itemsets(sales, weight="price")
        assert unpack(packed) == [["tea", "cup"], ["cup"]]
        assert packed.weights.dtype == np.float32
        np.testing.assert_array_equal(packed.weights, [1, 3, 2.5])
        assert "weight column 'price'" in packed.source

    def test_weights_go_with_their_items(self, sales):
        packed = read_itemsets(sales, weight="price", min_count=2)
        np.testing.assert_array_equal(packed.weights, [3, 2.5])

    @pytest.mark.parametrize("weight", ["", "much", "nan", "inf", "1e99"])
    def test_a_weight_that_is_no_number_is_refused(self, tmp_path, weight):
        path = write_text(tmp_path / "a.csv", f"b,i,w\n1,x,1\n1,y,{weight}\n")
        with pytest.raises(DataError, match=r"weight column 'w'.* in row 2"):
            read_itemsets(path, weight="w")

    def test_a_row_that_is_left_out_needs_no_weight(self, tmp_path):
        path = write_text(tmp_path / "a.csv", "b,i,w\n1,x,1\n1,,\n,y,\n")
        np.testing.assert_array_equal(read_itemsets(path, weight="w").weights, [1])

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_what_is_missing_is_counted(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        rows = {"b": [1, None, 1, 2, None, 3], "i": ["x", "lost", None, "y", None, None]}
        frame = polars.DataFrame(rows)
        frame.write_parquet(path) if suffix == ".parquet" else frame.write_csv(path)
        packed = read_itemsets(path)
        assert unpack(packed) == [["x"], ["y"]]
        assert packed.rows_without_itemset == 2
        assert (packed.dropped.items_read, packed.dropped.none_items) == (4, 2)
        assert packed.dropped.short_itemsets == 1
        assert "2 row(s) without an itemset" in packed.account

    def test_nan_is_no_itemset(self, tmp_path):
        path = tmp_path / "a.parquet"
        polars.DataFrame({"b": [1.0, np.nan], "i": ["x", "y"]}).write_parquet(path)
        assert read_itemsets(path).rows_without_itemset == 1

    @pytest.mark.parametrize(
        ("fields", "labels"),
        [
            (["1", "-2", "30"], [1, -2, 30]),
            (["1", "02"], ["1", "02"]),
            (["1", "85123A"], ["1", "85123A"]),
            (["1", "+2"], ["1", "+2"]),
            (["1", "2.0"], ["1", "2.0"]),
            (["1", ""], [1]),
            (['"1"', '""'], [1]),
            (["1", "9223372036854775808"], ["1", "9223372036854775808"]),
        ],
    )
    def test_csv_items_are_integers_if_all_are(self, tmp_path, fields, labels):
        rows = "".join(f"1,{field}\n" for field in fields)
        assert read_itemsets(write_text(tmp_path / "a.csv", "b,i\n" + rows)).labels == labels

    def test_a_late_string_makes_all_strings(self, tmp_path):
        rows = "".join(f"{code % 100},{code // 2}\n" for code in range(10_000))
        path = write_text(tmp_path / "a.csv", f"b,i\n{rows}1,x\n")
        assert set(map(type, read_itemsets(path).labels)) == {str}

    def test_categories_become_strings(self, tmp_path):
        path = tmp_path / "a.parquet"
        frame = polars.DataFrame({"b": [1, 1, 2], "i": ["x", "y", "x"]})
        frame.with_columns(polars.col("i").cast(polars.Categorical)).write_parquet(path)
        assert unpack(read_itemsets(path)) == [["x", "y"], ["x"]]

    def test_an_empty_string_of_parquet_is_an_item(self, tmp_path):
        path = tmp_path / "a.parquet"
        polars.DataFrame({"b": [1, 1], "i": ["", "x"]}).write_parquet(path)
        assert unpack(read_itemsets(path)) == [["", "x"]]

    @pytest.mark.parametrize("items", [[0.5, 1.0], [True, False], [b"a", b"b"]])
    def test_other_types_of_items_are_refused(self, tmp_path, items):
        path = tmp_path / "a.parquet"
        polars.DataFrame({"b": [1, 1], "i": items}).write_parquet(path)
        with pytest.raises(DataError, match=r"item column 'i' is .*cast it"):
            read_itemsets(path)

    def test_byte_order_mark_and_windows_lines(self, tmp_path):
        text = "\ufeff" + self.SALES.replace("\n", "\r\n")
        packed = read_itemsets(write_text(tmp_path / "a.csv", text), itemset="basket")
        assert unpack(packed) == [["tea", "cup"], ["cup"]]

    def test_separator(self, tmp_path):
        path = write_text(tmp_path / "a.csv", "b;i\n1;x,y\n1;z\n")
        assert unpack(read_itemsets(path, separator=";")) == [["x,y", "z"]]

    def test_a_star_in_the_name_of_a_file_is_no_pattern(self, tmp_path):
        write_text(tmp_path / "ab.csv", self.SALES)
        write_text(tmp_path / "a*.csv", "b,i\n1,2\n")
        assert read_itemsets(tmp_path / "a*.csv").num_item == 1

    @pytest.mark.parametrize("role", ["itemset", "item", "weight"])
    def test_an_unknown_column(self, sales, role):
        with pytest.raises(InputError, match=r"no column 'x'.*'basket', 'product', 'price', 'day'"):
            read_itemsets(sales, **{role: "x"})

    def test_a_column_has_one_role(self, sales):
        with pytest.raises(InputError, match="'basket' is given two roles"):
            read_itemsets(sales, itemset="basket", item="basket")

    def test_one_column_is_too_few(self, tmp_path):
        with pytest.raises(DataError, match=r"its columns are 'basket;product'.*separator"):
            read_itemsets(write_text(tmp_path / "a.csv", "basket;product\n1;2\n"))

    @pytest.mark.parametrize("separator", ["", "\n", "é"])
    def test_a_separator_of_csv_is_one_character(self, sales, separator):
        with pytest.raises(InputError, match="separator"):
            read_itemsets(sales, separator=separator)

    def test_parquet_has_no_separator(self, tmp_path):
        path = TestRoundTrip.write_table(tmp_path, ".parquet", [(1, "x")])
        with pytest.raises(InputError, match="separator"):
            read_itemsets(path, separator=",")

    @pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
    def test_polars_is_an_extra(self, tmp_path, monkeypatch, name):
        monkeypatch.setitem(sys.modules, "polars", None)
        with pytest.raises(MissingExtraError, match=r'pip install "itembed_gpu\[data\]"'):
            read_itemsets(tmp_path / name)
        assert read_itemsets(write_text(tmp_path / "a.txt", "a b")).num_item == 2


def parquet_bytes():
    buffer = io.BytesIO()
    polars.DataFrame({"b": list(range(999)), "i": list(range(999))}).write_parquet(buffer)
    return buffer.getvalue()


NOISE = random.Random(0).randbytes(5000)
LONG = b"b,i\n" + b"".join(b"%d,x%d\n" % (i, i * i) for i in range(20_000))
BASKETS = LONG.replace(b",", b" ").replace(b"1", b"1 ")
BAD_FILES = {
    "empty.txt": (b"", "empty"),
    "empty.csv": (b"", "empty"),
    "empty.parquet": (b"", "empty"),
    "empty.txt.gz": (gzip.compress(b""), "empty"),
    "blank.txt": (b"\n \n", "2 short itemsets"),
    "header.csv": (b"b,i\n", "0 itemsets"),
    "missing_items.csv": (b"b,i\n1,\n1,\n", "2 None items"),
    "missing_itemsets.csv": (b"b,i\n,1\n", "without an itemset"),
    "noise.txt": (NOISE, "line 1"),
    "noise.csv": (NOISE, "line 1"),
    "noise.csv.zst": (NOISE, "cannot be read"),
    "noise.parquet": (NOISE, "PAR1"),
    "noise.txt.gz": (NOISE, "gzip"),
    "noise.txt.xz": (NOISE, "damaged"),
    "latin.txt": ("a\nb caf\xe9 c\n".encode("latin-1"), "line 2: byte 6 \\(0xe9\\) is not UTF-8"),
    "latin.csv": ("b,i\n1,\xe9\n".encode("latin-1"), "line 2: byte 3 \\(0xe9\\) is not UTF-8"),
    "latin_header.csv": ("b,\xe9\n1,2\n".encode("latin-1"), "line 1"),
    "utf16.txt": ("a b".encode("utf-16"), "UTF-16"),
    "utf16.csv": ("b,i\n1,2".encode("utf-16"), "UTF-16"),
    "zeros.txt": (b"a b\n" + bytes(99), "line 2"),
    "zeros.csv": (b"b,i\n1,2\n" + bytes(99), "line 3: a zero byte"),
    "zero.csv": (b"b,i\n1,2\n1,a\0b\n", "line 3: a zero byte"),
    "cut.txt.gz": (gzip.compress(BASKETS)[:-9], "cut short after line [1-9]"),
    "cut.txt.xz": (lzma.compress(BASKETS)[:-9], "cut short after line [1-9]"),
    "cut.csv.gz": (gzip.compress(LONG)[:-9], "cut short after line [1-9]"),
    "checksum.csv.gz": (gzip.compress(LONG)[:-6] + b"abcdef", "damaged"),
    "cut.parquet": (parquet_bytes()[:-9], "PAR1"),
    "cut_start.parquet": (parquet_bytes()[999:], "cannot be read"),
    "long_row.csv": (b"b,i\n1,2\n1,2,3\n", "line 3: 3 fields.*2 columns"),
    "short_row.csv": (b"b,i,w\n1,2,3\n1\n2,4,5\n", "line 3: 1 field, where.*3 columns"),
    "short_row.csv.gz": (gzip.compress(b"b,i\n1,2\n1\n"), "line 3: 1 field"),
    "torn.ndjson": (b'{"b":1,"i":2}\n{"b":1,"i":\n{"b":2,"i":3}\n', "line 2: is no JSON"),
    "deep.ndjson": (b'{"b":1,"i":2}\n{"b":' + b"[" * 100_000 + b"\n", "line 2: is no JSON"),
    "mixed.ndjson": (b'{"b":1,"i":"a"}\n{"b":1,"i":2}\n', "line 2: item column 'i' holds 2,"),
    "mixed_lists.ndjson": (b'{"i":["a", "b"]}\n{"i":["c", 2]}\n', "line 2: item column.* 2, and"),
    "mixed_ids.ndjson": (b'{"b":"1","i":3}\n{"b":1,"i":2}\n', "line 2: itemset column 'b'"),
    "open_quote.csv": (b'b,i\n1,2\n1,"3\n4,5\n', "after line 2: unexpected end"),
}


class TestBadFiles:
    @pytest.mark.parametrize("name", BAD_FILES)
    def test_one_clear_line(self, tmp_path, name):
        content, reason = BAD_FILES[name]
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=reason) as caught:
            read_itemsets(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize(
        "name", ["no.txt", "no.txt.gz", "no.csv", "no.csv.zst", "no.parquet", "none"]
    )
    def test_missing(self, tmp_path, name):
        with pytest.raises(DataError, match=f"{name}: cannot be read: No such file"):
            read_itemsets(tmp_path / name)

    @pytest.mark.parametrize("format", FORMATS)
    def test_folder(self, tmp_path, format):
        with pytest.raises(DataError, match="there is no file"):
            read_itemsets(tmp_path, format=format)

    @pytest.mark.parametrize("name", ["a.txt", "a.csv"])
    def test_limits_that_leave_nothing(self, tmp_path, name):
        path = write_text(tmp_path / name, "b,i\n1,2\n1,3\n")
        with pytest.raises(DataError, match=r"no itemset to use.* rare labels"):
            read_itemsets(path, min_count=5)
        with pytest.raises(DataError, match=r"no itemset to use.* short itemset"):
            read_itemsets(path, min_length=5)

    @pytest.mark.parametrize("name", ["a.txt", "a.csv"])
    def test_limits_are_checked_first(self, tmp_path, name):
        with pytest.raises(InputError, match="min_count"):
            read_itemsets(tmp_path / name, min_count=-1)

    @pytest.mark.parametrize("name", ["a", "a.json", "a.gz"])
    def test_an_unknown_suffix(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\0")
        with pytest.raises(InputError, match="text, csv, tsv, parquet"):
            read_itemsets(tmp_path / name)

    def test_an_unknown_format(self, tmp_path):
        with pytest.raises(InputError, match=r"'json'.*text, csv, tsv, parquet"):
            read_itemsets(tmp_path / "a.txt", format="json")

    @pytest.mark.parametrize("name", ["a.parquet.gz", "a.arrow.zip"])
    def test_a_compression_that_is_not_read(self, tmp_path, name):
        with pytest.raises(InputError, match="decompress it first"):
            read_itemsets(tmp_path / name)


def test_carriage_returns_alone(tmp_path):
    with pytest.raises(DataError, match="carriage return"):
        read_itemsets(write_text(tmp_path / "a.txt", b"a b\rb c\r"))
    path = write_text(tmp_path / "a.csv", b"basket,item\r1,a\r1,b\r")
    assert unpack(read_itemsets(path)) == [["a", "b"]]


BASKETS = [[3, 1, 2], [1, 3], [5, 1], [2, 2, 1, 9], [3]]


def written(tmp_path, kind, baskets):
    """The same baskets, as one of the things that itemsets are read from; and its options."""
    names = {"itemset": "basket", "item": "product"}
    keys = np.repeat(np.arange(len(baskets)) * 7, [len(basket) for basket in baskets])
    items = np.array([item for basket in baskets for item in basket])
    long = polars.DataFrame({"basket": keys, "product": items})
    lists = polars.DataFrame({"product": baskets})
    path = tmp_path / kind
    match kind:
        case "lists":
            return baskets, {}
        case "generator":
            return iter(baskets), {}
        case "a.csv" | "a.tsv":
            long.write_csv(path, separator="," if kind == "a.csv" else "\t")
        case "a.csv.gz":
            write_text(path, long.write_csv())
        case "a.csv.zst":
            long.write_csv(path, compression="zstd")
        case "a.ndjson":
            long.write_ndjson(path)
        case "lists.ndjson":
            lists.write_ndjson(path)
            return path, {}
        case "a.parquet":
            long.write_parquet(path)
        case "lists.parquet":
            lists.write_parquet(path)
            return path, {"item": "product"}
        case "a.arrow":
            long.write_ipc(path)
        case "folder" | "part-*.parquet":
            folder = path if kind == "folder" else tmp_path
            folder.mkdir(exist_ok=True)
            long[:4].write_parquet(folder / "part-0.parquet")  # in the middle of a basket
            long[4:].write_parquet(folder / "part-1.parquet")
        case "DataFrame":
            return long, names
        case "LazyFrame":
            return long.lazy(), names
        case "categories":
            return long.cast({"basket": polars.String}), names
        case "pandas":
            return pytest.importorskip("pandas").DataFrame(long.to_dict(as_series=False)), names
        case "pyarrow":
            pyarrow = pytest.importorskip("pyarrow")
            return pyarrow.table(long.to_dict(as_series=False)), names
        case "csr" | "csc" | "coo":
            sparse = pytest.importorskip("scipy.sparse")
            rows = np.repeat(np.arange(len(baskets)), [len(basket) for basket in baskets])
            if kind != "csr":
                matrix = sparse.coo_array((np.ones(len(items)), (rows, items)))
                return matrix.asformat(kind), {}
            offsets = np.cumsum([0, *map(len, baskets)])
            return sparse.csr_array((np.ones(len(items)), items, offsets)), {}
    return str(path) if kind == "folder" else path, names


@pytest.mark.parametrize(
    "kind",
    [
        "lists", "generator", "a.csv", "a.tsv", "a.csv.gz", "a.csv.zst", "a.ndjson",
        "lists.ndjson", "a.parquet", "lists.parquet", "a.arrow", "folder", "part-*.parquet",
        "DataFrame", "LazyFrame", "categories", "pandas", "pyarrow", "csr", "coo",
    ],
)  # fmt: skip
def test_the_same_baskets_are_packed_alike_from_everything(tmp_path, kind):
    source, options = written(tmp_path, kind, BASKETS)
    assert_same(read_itemsets(source, **options), BASKETS)


def test_columns_of_a_sparse_matrix_come_in_their_order(tmp_path):
    # CSC has no order of its own within a row.
    baskets = [sorted(set(basket)) for basket in BASKETS]
    source, _ = written(tmp_path, "csc", baskets)
    assert_same(read_itemsets(source), baskets)


def shuffled_rows(seed, size=400):
    generator = random.Random(seed)
    return [(generator.randrange(40), generator.randrange(30)) for _ in range(size)]


@pytest.mark.parametrize("keys", [int, str, lambda key: key * 10**17])
@pytest.mark.parametrize("items", [int, str, lambda item: item * 10**17 - 5])
def test_rows_in_any_order(keys, items):
    rows = [(keys(key), items(item)) for key, item in shuffled_rows(1)]
    frame = polars.DataFrame(rows, schema=["b", "i"], orient="row")
    assert_same(read_itemsets(frame), group(rows))


def test_known_labels_say_what_the_items_of_a_csv_are(tmp_path):
    path = write_text(tmp_path / "a.csv", "b,i\n1,8\n1,9\n")
    assert read_itemsets(path, labels=["8"]).labels == ["8", "9"]
    assert read_itemsets(path, labels=[8]).labels == [8, 9]
    path = write_text(tmp_path / "a.csv", "b,i\n1,8\n1,x\n")
    with pytest.raises(InputError, match="labels holds 8, but 'x' is an item"):
        read_itemsets(path, labels=[8])


class TestColumnsOfFiles:
    """Columns of types that polars has not, or that hold something else than they seem to."""

    @staticmethod
    def write(path, **columns):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import feather, parquet

        table = pyarrow.table({"o": [1, 1, 2, 2], "i": list("abac"), **columns})
        (parquet.write_table if path.suffix == ".parquet" else feather.write_feather)(table, path)
        return path

    def test_what_nobody_asked_for_does_not_stop_reading(self, tmp_path, capfd):
        pyarrow = pytest.importorskip("pyarrow")
        runs = pyarrow.RunEndEncodedArray.from_arrays([2, 4], ["x", "y"])
        path = self.write(tmp_path / "a.arrow", runs=runs)
        assert unpack(read_itemsets(path)) == [["a", "b"], ["a", "c"]]
        with pytest.raises(DataError, match=r"column 'runs' is run_end_encoded<.*; cast it"):
            read_itemsets(path, itemset="o", item="runs")
        capfd.readouterr()  # what polars says before it gives up

    @pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
    def test_structures_are_no_items(self, tmp_path, suffix):
        pyarrow = pytest.importorskip("pyarrow")
        pairs = pyarrow.array([[("a", 1)]] * 4, pyarrow.map_(pyarrow.string(), pyarrow.int64()))
        path = self.write(tmp_path / f"a{suffix}", s=[{"a": 1}] * 4, m=pairs)
        assert unpack(read_itemsets(path)) == [["a", "b"], ["a", "c"]]
        for name, kind in (("s", "Struct"), ("m", "Map")):
            with pytest.raises(DataError, match=f"item column '{name}' is {kind}.*; cast it"):
                read_itemsets(path, itemset="o", item=name)

    def test_decimals_that_are_too_wide(self, tmp_path):
        from decimal import Decimal

        pyarrow = pytest.importorskip("pyarrow")
        wide = pyarrow.array([Decimal(1)] * 4, pyarrow.decimal256(40, 0))
        path = self.write(tmp_path / "a.parquet", wide=wide)
        assert read_itemsets(path).num_item == 4
        with pytest.raises(DataError, match=r"column 'wide' is Decimal\(precision=40.*; cast it"):
            read_itemsets(path, itemset="o", item="wide")

    @pytest.mark.parametrize("kind", [bytes, str])
    def test_lists_written_as_json_are_named(self, tmp_path, kind):
        lists = [b'["a", "b"]', None, b"[1]", b"[]"]
        if kind is str:
            lists = [value and value.decode() for value in lists]
        path = self.write(tmp_path / "a.parquet", lists=lists)
        with pytest.raises(DataError, match=r"'lists' is .* and holds lists written as JSON, as"):
            read_itemsets(path, itemset="o", item="lists")

    def test_one_column_is_too_few_and_no_separator_is_in_doubt(self, tmp_path):
        polars.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"its columns are 'a'$"):
            read_itemsets(tmp_path / "a.parquet")

    @pytest.mark.parametrize("pack", [False, True])
    def test_whole_floats_are_integers(self, tmp_path, monkeypatch, pack):
        def read(path):
            monkeypatch.setattr("itembed_gpu.data.out_of_memory._fits", lambda *_: False)
            return pack_files(path, tmp_path / "packed") if pack else read_itemsets(path)

        path = tmp_path / "a.parquet"
        polars.DataFrame({"o": [1.0, 1.0, 2.0], "i": [7.0, None, np.nan]}).write_parquet(path)
        packed = read(path)
        assert (packed.labels, packed.dropped.none_items) == ([7], 2)
        assert "item column 'i', whole floats read as integers" in packed.source
        path = write_text(tmp_path / "a.ndjson", '{"o":1,"i":[1,2.0]}\n{"o":1,"i":[3]}\n')
        assert read(path).labels == [1, 2, 3]
        for rows in (
            '{"o":1,"i":9007199254740993}\n{"o":1,"i":1.5}\n',
            '{"o":9007199254740993,"i":1}\n{"o":2.0,"i":2}\n',
            '{"o":1,"i":[1.5]}\n{"o":1,"i":[9007199254740993]}\n',
        ):
            with pytest.raises(DataError, match=r"is Float64 and holds 9007199254740992.0; cast"):
                read(write_text(tmp_path / "a.ndjson", rows))
        polars.DataFrame({"o": [1], "i": [2.0**24]}, {"o": int, "i": polars.Float32}).write_parquet(
            tmp_path / "b.parquet"
        )
        with pytest.raises(DataError, match=r"is Float32 and holds 16777216.0; cast"):
            read(tmp_path / "b.parquet")


class TestFrames:
    def test_types_of_labels(self):
        from datetime import date, datetime
        from uuid import UUID

        for labels in (
            [date(2024, 1, 2), date(2024, 1, 1)],
            [datetime(2024, 1, 2, 3), datetime(2024, 1, 1)],
            [UUID(int=3), UUID(int=1)],
            [2**63, 5],
            [-5, 2**62],
        ):
            column = polars.Series(labels, dtype=polars.Object if type(labels[0]) is UUID else None)
            frame = polars.DataFrame({"b": [1, 1], "i": column})
            assert_same(read_itemsets(frame), [labels])

    def test_times_that_python_cannot_tell_apart(self):
        times = polars.Series([1_000, 1_001]).cast(polars.Datetime("ns"))
        with pytest.raises(DataError, match="nothing finer than a microsecond"):
            read_itemsets(polars.DataFrame({"b": [1, 1], "i": times}))
        times = polars.Series([1_000, 2_000]).cast(polars.Datetime("ns"))
        assert read_itemsets(polars.DataFrame({"b": [1, 1], "i": times})).num_label == 2

    def test_integers_of_128_bits(self):
        column = polars.Series([2**100, 5, 2**100], dtype=polars.Int128)
        assert_same(
            read_itemsets(polars.DataFrame({"b": [1, 1, 2], "i": column})), [[2**100, 5], [2**100]]
        )

    @pytest.mark.parametrize("library", ["pandas", "pyarrow"])
    def test_uuids(self, library):
        from uuid import UUID

        module = pytest.importorskip(library)
        values = [UUID(int=3), UUID(int=1), UUID(int=3)]
        if library == "pandas":
            frame = module.DataFrame({"b": [1, 1, 2], "i": values})
        else:
            column = module.array([value.bytes for value in values], module.uuid())
            frame = module.table({"b": [1, 1, 2], "i": column})
        assert_same(read_itemsets(frame, itemset="b", item="i"), [values[:2], values[2:]])

    def test_pandas_columns_of_several_types(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"b": [1, 1, 2], "i": ["x", 2, "y"]})
        with pytest.raises(DataError, match=r"'i' holds 'x', of str, in row 1 and 2, of int, in"):
            read_itemsets(frame, itemset="b", item="i")

    def test_enumerations_and_categories_are_strings(self):
        for dtype in (polars.Categorical, polars.Enum(["z", "b", "a"])):
            frame = polars.DataFrame({"b": [1, 1, 1], "i": ["b", "a", None]})
            packed = read_itemsets(frame.cast({"i": dtype}))
            assert packed.labels == ["b", "a"]
            assert packed.dropped.none_items == 1

    def test_pandas_columns_that_are_missing_something(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"b": [1, 1, 2], "i": ["x", None, "y"], "other": [{}, [], 1]})
        packed = read_itemsets(frame, itemset="b", item="i")
        assert unpack(packed) == [["x"], ["y"]]
        assert packed.dropped.none_items == 1

    def test_weights_of_lists(self):
        frame = polars.DataFrame({"i": [["a", "b"], ["b"]], "w": [[1.0, 2.0], [3.0]]})
        packed = read_itemsets(frame, item="i", weight="w", duplicates="sum")
        assert packed.weights.tolist() == [1, 2, 3]
        wrong = frame.with_columns(w=polars.Series([[1.0, 2.0], [3.0, 4.0]]))
        with pytest.raises(DataError, match=r"row 2 has 1 items in column 'i' and 2 weights"):
            read_itemsets(wrong, item="i", weight="w")
        nan = frame.with_columns(w=polars.Series([[1.0, 2.0], [np.nan]]))
        with pytest.raises(DataError, match=r"weight column 'w' holds nan in row 2"):
            read_itemsets(nan, item="i", weight="w")

    def test_empty_and_missing_lists_are_short_itemsets(self):
        frame = polars.DataFrame({"i": [["a", None], [], None]})
        packed = read_itemsets(frame)
        assert unpack(packed) == [["a"]]
        assert packed.dropped.short_itemsets == 2
        assert packed.dropped.none_items == 1
        assert (
            packed.source
            == "a polars.DataFrame (item column 'i': the first ones, as not all were named)"
        )

    def test_nothing_to_use(self):
        with pytest.raises(DataError, match="no itemset to use"):
            read_itemsets(polars.DataFrame({"b": [], "i": []}, schema={"b": int, "i": str}))

    def test_what_has_no_columns(self):
        with pytest.raises(InputError, match="source is a list, which has none"):
            read_itemsets([["a"]], item="x")
        with pytest.raises(InputError, match="no file to read"):
            read_itemsets([["a"]], format="csv")


class TestSparse:
    sparse = pytest.importorskip("scipy.sparse")

    def test_zeros_are_counted_and_duplicates_handled(self):
        data, items, offsets = [1.0, 0.0, 2.0, 3.0, 4.0], [4, 2, 4, 7, 2], [0, 3, 3, 5]
        matrix = self.sparse.csr_array((data, items, offsets), shape=(3, 9))
        packed = read_itemsets(matrix, weight="values", duplicates="sum", min_length=0)
        assert unpack(packed) == [[4], [], [7, 2]]
        assert packed.weights.tolist() == [3, 3, 4]
        lost = packed.dropped
        assert (lost.items_read, lost.zero_items, lost.duplicate_items) == (5, 1, 1)
        assert read_itemsets(matrix).weights is None

    def test_what_is_stored_twice_is_two_items(self):
        rows, items = [1, 0, 1, 0, 1], [5, 3, 2, 3, 5]
        matrix = self.sparse.coo_array((np.ones(5), (rows, items)), shape=(2, 6))
        packed = read_itemsets(matrix)
        assert unpack(packed) == [[3, 3], [5, 2, 5]]
        assert packed.counts.tolist() == [2, 2, 1]
        assert (packed.dropped.items_read, packed.dropped.duplicate_items) == (5, 0)
        once = read_itemsets(matrix, weight="values", duplicates="sum")
        assert unpack(once) == [[3], [5, 2]]
        assert once.weights.tolist() == [2, 2, 1]
        assert (once.dropped.items_read, once.dropped.duplicate_items) == (5, 2)

    def test_weights_must_be_finite(self):
        matrix = self.sparse.csr_array(([1.0, np.nan], [0, 3], [0, 1, 2]))
        with pytest.raises(DataError, match="row 1 of the matrix holds nan in column 3"):
            read_itemsets(matrix, weight="values")

    def test_a_matrix_of_very_many_columns(self):
        items = np.array([10**12, 5, 10**12])
        matrix = self.sparse.coo_array((np.ones(3), ([0, 0, 1], items)), shape=(2, 10**12 + 1))
        for form in ("coo", "csr"):
            packed = read_itemsets(matrix.asformat(form))
            assert sorted(packed.labels) == [5, 10**12]
            assert packed.counts.tolist() == [2, 1]

    def test_it_has_no_columns_to_name(self):
        with pytest.raises(InputError, match="sparse matrix, which has none"):
            read_itemsets(self.sparse.csr_array(np.eye(2)), item="x")


class TestSeveralFiles:
    def test_mixed_formats_are_refused(self, tmp_path):
        write_text(tmp_path / "a.csv", "b,i\n1,2\n")
        write_text(tmp_path / "b.txt", "1 2\n")
        with pytest.raises(InputError, match=r"a.csv is csv and b.txt is text"):
            read_itemsets(tmp_path)

    def test_the_file_that_differs_is_named(self, tmp_path):
        write_text(tmp_path / "a.csv", "b,i\n1,2\n")
        write_text(tmp_path / "b.csv", "b,x\n1,2\n")
        with pytest.raises(InputError, match=r"b.csv: there is no column 'i'"):
            read_itemsets(tmp_path, itemset="b", item="i")

    def test_the_file_that_is_damaged_is_named(self, tmp_path):
        frame = polars.DataFrame({"b": range(9000), "i": range(9000)})
        frame.write_parquet(tmp_path / "a.parquet")
        frame.write_parquet(tmp_path / "b.parquet")
        whole = (tmp_path / "b.parquet").read_bytes()
        (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"b.parquet: cannot be read"):
            read_itemsets(tmp_path)

    def test_the_columns_of_the_first_are_those_of_all(self, tmp_path):
        # In b.csv, the first two columns without a role are others.
        write_text(tmp_path / "a.csv", "b,i,x\n1,2,9\n")
        write_text(tmp_path / "b.csv", "x,i,b\n9,3,1\n")
        assert unpack(read_itemsets(tmp_path)) == [[2, 3]]
        write_text(tmp_path / "b.csv", "x,b\n9,1\n")
        with pytest.raises(InputError, match=r"b.csv: there is no column 'i'"):
            read_itemsets(tmp_path)

    def test_columns_of_other_types_are_refused(self, tmp_path):
        polars.DataFrame({"b": [1], "i": [2]}).write_parquet(tmp_path / "a.parquet")
        polars.DataFrame({"b": [1], "i": ["2"]}).write_parquet(tmp_path / "b.parquet")
        with pytest.raises(
            DataError, match=r"b.parquet: item column 'i' is String, and in .*a.parquet Int64"
        ):
            read_itemsets(tmp_path)
        # Integers of any width are integers.
        narrow = polars.DataFrame(
            {"b": [1], "i": [3]}, schema={"b": polars.Int64, "i": polars.Int8}
        )
        narrow.write_parquet(tmp_path / "b.parquet")
        assert unpack(read_itemsets(tmp_path)) == [[2, 3]]

    def test_enumerations_of_two_files(self, tmp_path):
        for name, categories in (("a", ["x", "y"]), ("b", ["y", "z"])):
            frame = polars.DataFrame({"b": [1, 1], "i": categories})
            frame.cast({"i": polars.Enum(categories)}).write_parquet(tmp_path / f"{name}.parquet")
        assert unpack(read_itemsets(tmp_path)) == [["x", "y", "y", "z"]]

    def test_the_same_file_twice(self, tmp_path):
        write_text(tmp_path / "a.csv", "b,i\n1,2\n")
        write_text(tmp_path / "a.csv.gz", "b,i\n1,2\n")
        with pytest.raises(InputError, match=r"a.csv and a.csv.gz, which look like the same"):
            read_itemsets(tmp_path)

    def test_the_file_of_a_bad_weight_is_named(self, tmp_path):
        write_text(tmp_path / "a.csv", "b,i,w\n1,2,3\n")
        write_text(tmp_path / "b.csv", "b,i,w\n1,2,3\n1,2,x\n")
        with pytest.raises(DataError, match=r"b.csv: weight column 'w' holds 'x' in row 2"):
            read_itemsets(tmp_path, weight="w")

    @pytest.mark.parametrize("suffix", ["ndjson", "arrow", "parquet", "csv"])
    def test_a_name_is_no_pattern_where_there_is_such_a_file(self, tmp_path, suffix):
        for name, item in (("a*[1]", 1), ("ab1", 2)):
            frame, path = polars.DataFrame({"b": [1], "i": [item]}), tmp_path / f"{name}.{suffix}"
            {
                "ndjson": frame.write_ndjson, "arrow": frame.write_ipc,
                "parquet": frame.write_parquet, "csv": frame.write_csv,
            }[suffix](path)  # fmt: skip
        assert unpack(read_itemsets(tmp_path / f"a*[1].{suffix}")) == [[1]]

    def test_text(self, tmp_path):
        write_text(tmp_path / "a.txt", "x y\n")
        write_text(tmp_path / "b.txt.gz", "y z\n")
        assert_same(read_itemsets(tmp_path / "*.txt*"), [["x", "y"], ["y", "z"]])


# --- strings ----------------------------------------------------------------


def test_many_strings_and_none_are_numbered_as_they_come():
    # More than a hash table begins with, in several chunks, and missing ones.
    values = [f"item {n % 30_011}" if n % 7 else None for n in range(100_000)]
    half = len(values) // 2
    column = polars.concat([polars.Series(values[:half]), polars.Series(values[half:])])
    labels, numbers = columns.number(column)
    expected = list(dict.fromkeys(value for value in values if value is not None))
    assert labels == expected
    assert [None if n < 0 else labels[n] for n in numbers.tolist()] == values
    rows = np.arange(len(values))[::-1].copy()
    again, reversed_numbers = columns.number(column, rows, columns.encode(column))
    assert again == list(dict.fromkeys(v for v in values[::-1] if v is not None))
    assert [None if n < 0 else again[n] for n in reversed_numbers.tolist()] == values[::-1]


def test_strings_of_one_hash_are_told_apart(monkeypatch):
    values = ["a", "b", None, "a", "c"]

    def same(column, *seeds):
        return polars.Series([7] * len(column), dtype=polars.UInt64)

    monkeypatch.setattr(polars.Series, "hash", same)
    labels, numbers = columns.number(polars.Series(values))
    assert labels == ["a", "b", "c"]
    assert numbers.tolist() == [0, 1, -1, 0, 2]


def test_readers_say_what_they_take():
    limits = list(inspect.signature(pack_itemsets).parameters)[1:]
    limits.remove("weights")  # of a table, those are a column
    for function in (read_itemsets, pack_files):
        known = inspect.signature(function).parameters
        assert {"itemset", "item", "weight", "separator", *limits} <= set(known)
        assert [known[name].default for name in limits] == [1, 1, None, None, "keep", None, 0]
    for name in ("min_cont", "weights"):
        message = rf"read_itemsets\(\) got an unexpected keyword argument '{name}'"
        with pytest.raises(TypeError, match=message):
            read_itemsets([["a", "b"]], **{name: 2})

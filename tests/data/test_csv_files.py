"""CSV files are read as Python's csv module reads them, or refused with the line that is wrong."""

import csv
import io
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from itembed_gpu.data import csv_files, csv_loops, out_of_memory
from itembed_gpu.data.out_of_memory import pack_files
from itembed_gpu.data.readers import read_itemsets
from itembed_gpu.errors import DataError, InputError

pytest.importorskip("polars", reason="tables are read with the extra 'data'")


@pytest.fixture(params=["at once", "by way of the disk"])
def read(request, tmp_path, monkeypatch):
    """Both ways to read a file."""
    if request.param == "at once":
        return read_itemsets
    monkeypatch.setattr(out_of_memory, "_fits", lambda *_: False)
    return lambda path, **options: pack_files(path, tmp_path / "packed", memory=1 << 20, **options)


@pytest.fixture
def made(tmp_path):
    def make(text):
        path = tmp_path / "rows.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def itemsets_of(packed):
    names = [packed.labels[index] for index in packed.indices]
    return [names[a:b] for a, b in pairwise(packed.offsets)]


class TestQuotes:
    def test_one_that_is_text_takes_no_rows_away(self, read, made):
        # In a column that is not read; polars alone pairs the two.
        rows = 'order,note,item\n1,6" nail,nail\n1,b,saw\n2,5" pot,pot\n2,c,cup\n'
        packed = read(made(rows), itemset="order", item="item")
        assert itemsets_of(packed) == [["nail", "saw"], ["pot", "cup"]]

    def test_one_that_is_text_stays_in_its_item(self, read, made):
        assert read(made('o,i\n1,5" pipe\n1,"a ""b"""\n')).labels == ['5" pipe', 'a "b"']

    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            ('o,note,i\n1,"x,a\n1,b,c\n2,5" y,d\n', "line 4: text follows a quote.* line 2 opens"),
            ('o,i\n1,"a"b\n', "line 2: text follows a quote that closes what line 2 opens"),
            ('o,i\n1,a\n2,"b\n3,c\n', "after line 2: unexpected end of data.* line 3 opens"),
        ],
    )
    def test_what_they_might_enclose_is_refused(self, read, made, rows, reason):
        with pytest.raises(DataError, match=reason + r'.*quote="" \(--quote none\)'):
            read(made(rows))

    def test_none(self, read, made):
        packed = read(made('o,i\n1,"a\n1,"b"c\n2,d"\n'), quote="")
        assert itemsets_of(packed) == [['"a', '"b"c'], ['d"']]

    def test_another_one(self, read, made):
        assert read(made("o,i\n1,'a,b'\n1,\"c\n"), quote="'").labels == ["a,b", '"c']

    @pytest.mark.parametrize(
        ("quote", "separator"), [('""', ","), ("é", ","), (",", ","), ("\n", ","), ('"', "::")]
    )
    def test_what_is_no_quote(self, made, quote, separator):
        with pytest.raises(InputError, match="quote"):
            read_itemsets(made("o,i\n1,2\n"), quote=quote, separator=separator)


class TestRecords:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_ends_of_lines_and_empty_ones(self, read, made, end):
        text = end.join(["", "o,i", "1,a", "", "1,b", '2,"x\r\ny"', ""])
        packed = read(made("\ufeff" + text))
        assert itemsets_of(packed) == [["a", "b"], ["x\r\ny"]]
        assert packed.rows_without_itemset == 0

    def test_returns_and_control_characters_stay(self, read, made):
        rows = 'o,i\n1,"a\r"\n1,\x1f\x1e\x1d\n"2\r",b\n2,c\n1,d"\n'
        assert itemsets_of(read(made(rows))) == [["a\r", "\x1f\x1e\x1d", 'd"'], ["b"], ["c"]]

    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            ("o,i,x\n1,a,\n1,b,c,d\n", "line 3: 4 fields, where the first line names 3"),
            ("o,i,x\n1,a,\n1,b\n", "line 3: 2 fields"),
            ('o,i,x\n1,a,"\n"\n1,b\n', "line 4: 2 fields"),
            ("o,i\n1,a\n  \n", "line 3: 1 field,"),
            ("o,i\n1,a,\n", "line 2: 3 fields"),
            ("o,i,x\n1,a,b\n1,a,b\0\n", "line 3: a zero byte"),
        ],
    )
    def test_other_widths_are_refused_though_nobody_reads_them(self, read, made, rows, reason):
        with pytest.raises(DataError, match=reason):
            read(made(rows), itemset="o", item="i")

    def test_a_mark_that_is_text(self, read, made):
        packed = read(made("\ufeffo,i\n\ufeff1,a\n1,b\n"))
        assert itemsets_of(packed) == [["a"], ["b"]]
        packed = read(made("\ufeff\ufeff::a\n"), separator="::", header=False, item=1, itemset=2)
        assert packed.labels == ["\ufeff"]

    @pytest.mark.filterwarnings("ignore:.*labels occur once")
    def test_pieces_may_end_anywhere(self, made, monkeypatch):
        monkeypatch.setattr(csv_files, "_PIECE", csv_loops.BLOCK)
        fields = [f'"{n}, ""{"x" * (n % 50)}""\n"' for n in range(3000)]
        rows = "".join(f"{n // 2},{field}\r\n" for n, field in enumerate(fields))
        packed = read_itemsets(made("o,i\r\n" + rows))
        assert packed.labels == [f'{n}, "{"x" * (n % 50)}"\n' for n in range(3000)]
        # The same where it has to be copied.
        assert read_itemsets(made("o,i\r\n\r\n" + rows)).labels == packed.labels
        with pytest.raises(DataError, match="line 6002: 3 fields"):
            read_itemsets(made("o,i\r\n" + rows + "1,2,3"))


class TestHeader:
    def test_none(self, read, made):
        packed = read(made("7,x,a\n7,y,b\n8,z,a\n"), header=False, item=3)
        assert itemsets_of(packed) == [["a", "b"], ["a"]]
        assert "itemset column '1', item column '3'" in packed.source

    def test_an_index_without_a_name_is_not_taken(self, read, made):
        packed = read(made(",o,i\n0,1,a\n1,1,b\n2,2,b\n"))
        assert itemsets_of(packed) == [["a", "b"], ["b"]]
        assert "itemset column 'o', item column 'i'" in packed.source
        assert itemsets_of(read(made(",o,i\n0,1,a\n1,1,b\n"), item=1)) == [[0, 1]]

    def test_two_columns_of_one_name(self, read, made):
        path = made("o,i,i\n1,a,x\n1,b,y\n")
        with pytest.raises(InputError, match="columns 2 and 3 are both called 'i'; give the numb"):
            read(path, item="i")
        assert read(path, item=3).labels == ["x", "y"]
        assert read(path, item="2").labels == ["a", "b"]

    def test_a_name_of_digits_is_a_name_first(self, read, made):
        path = made("o,2,1\n7,a,x\n")
        assert read(path, itemset="o", item="1").labels == ["x"]
        assert read(path, itemset="o", item=2).labels == ["a"]
        for item in (0, 4, "4", -1):
            with pytest.raises(InputError, match=f"no column {item!r}"):
                read(path, item=item)

    @pytest.mark.parametrize("first", ["sep=;", '"sep=;"'])
    def test_excel_says_the_separator(self, read, made, first):
        assert read(made(f"{first}\r\no;i\r\n1;a,b\r\n")).labels == ["a,b"]

    def test_over_several_lines(self, read, made):
        path = made('"o\nrder",i\n1,a\n')
        assert "itemset column 'o\\nrder'" in read(path).source


class TestOptions:
    def test_words_for_nothing(self, read, made):
        packed = read(made('o,i\n1,a\n1,NA\nNULL,b\n1,"NA"\n1,NAN\n'), nulls=["NA", "NULL"])
        assert itemsets_of(packed) == [["a", "NAN"]]
        assert (packed.dropped.none_items, packed.rows_without_itemset) == (2, 1)

    def test_words_for_nothing_in_text(self, tmp_path):
        (tmp_path / "a.txt").write_text("a NA\nNA b\n")
        packed = read_itemsets(tmp_path / "a.txt", nulls="NA")
        assert (packed.labels, packed.dropped.none_items) == (["a", "b"], 2)

    def test_separators_of_several_characters(self, read, made):
        packed = read(made('1::a"::5\n1::b:c::4\n'), separator="::", header=False)
        assert packed.labels == ['a"', "b:c"]
        with pytest.raises(DataError, match="line 2: 2 fields, where the first line has 3 columns"):
            read(made("1::a::5\n1::b\n"), separator="::", header=False)

    def test_a_tab_as_shells_pass_it(self, read, made):
        assert read(made("o\ti\n1\ta,b\n"), separator="\\t").labels == ["a,b"]

    @pytest.mark.parametrize("name", ["header", "quote", "nulls", "encoding", "separator"])
    def test_other_types(self, made, name):
        with pytest.raises(InputError, match=f"{name} (is|holds) 5; give"):
            read_itemsets(made("o,i\n1,2\n"), **{name: 5})

    @pytest.mark.parametrize("name", ["header", "quote", "nulls", "encoding", "separator"])
    def test_what_a_source_has_not(self, tmp_path, name):
        value = {"header": False, "nulls": ["NA"]}.get(name, ",")
        for source in (tmp_path / "a.parquet", [["a"]]):
            with pytest.raises(InputError, match=re.escape(f"{name} is {value!r}, but")):
                read_itemsets(source, **{name: value})


class TestNumbers:
    def test_whole_floats_are_integers_and_it_is_told(self, read, made):
        packed = read(made("o,i\n1.0,17850.0\n1.0,5.0\n2.0,\n"))
        assert packed.labels == [17850, 5]
        assert "whole floats read as integers" in packed.source
        assert read(made("o,i\n1,17850.0\n1,5\n")).labels == ["17850.0", "5"]

    @pytest.mark.parametrize(
        "rows",
        ["1,9007199254740992.0\n", "9007199254740992.0,1\n", "1,1.2345678901234568e+17\n"],
    )
    def test_floats_that_are_several_integers_are_refused(self, read, made, rows):
        with pytest.raises(DataError, match=r"holds (9|1).*, a float; cast it to integers"):
            read(made("o,i\n" + rows))


# --- beside Python's csv module -------------------------------------------------

FIELD = st.text(st.sampled_from('ab"",;\n\r\u2028\ufeff\x1f '), max_size=4)
ROWS = st.lists(st.lists(FIELD, min_size=1, max_size=3), min_size=1, max_size=6)


@settings(max_examples=150)
@given(
    data=st.one_of(
        st.text(st.sampled_from('a"",\n\r\x1f'), max_size=30),
        ROWS.map(lambda rows: "\n".join(",".join(row) for row in rows)),
    ),
    header=st.booleans(),
)
def test_any_text_is_read_alike_or_refused(tmp_path_factory, data, header):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(data, encoding="utf-8", newline="")
    rows = csv.reader(io.StringIO(data.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        expected = [row for row in rows if row]
    except csv.Error:
        expected = []
    if len({len(row) for row in expected}) != 1 or len(expected[0]) < 2:
        with pytest.raises((DataError, InputError)):
            read_itemsets(path, header=header, itemset=1, item=2, min_length=0)
        return
    expected = expected[header:]
    itemsets = {}
    for row in expected:
        if row[0]:
            itemsets.setdefault(row[0], []).extend(filter(None, row[1:2]))
    if not any(itemsets.values()):
        with pytest.raises(DataError, match="no itemset to use"):
            read_itemsets(path, header=header, itemset=1, item=2, min_length=0)
        return
    packed = read_itemsets(path, header=header, itemset=1, item=2, min_length=0)
    assert itemsets_of(packed) == list(itemsets.values())
    assert packed.rows_without_itemset == sum(not row[0] for row in expected)


@pytest.mark.parametrize(
    ("place", "byte"),
    # The end of a record, both ends of a field, a quote within it, and its last field.
    [(12, '"'), (16, ","), (18, "x"), (22, "x"), (23, ","), (24, "\n"), (25, "x"), (3000, "\0")],
)
def test_one_byte_is_seen(place, byte):
    data = np.frombuffer(b"\n\n" + b'1,"a""b",c\r\n' * 700, np.uint8)
    data = data[: 2 + 2 * csv_loops.BLOCK].copy()
    code = np.uint8(ord(",")), np.uint8(ord('"'))
    assert not csv_loops.look_through(data, *code, 3, False, 0)[0]
    data[place] = ord(byte)
    assert csv_loops.look_through(data, *code, 3, False, 0)[0]

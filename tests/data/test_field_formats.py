"""Formats of the field: each is read right, or asked about, and never read as something else."""

import itertools
import json
import random
import re
import warnings

import polars
import pytest
from hypothesis import given, settings, strategies as st
from samples import contents

from itembed_gpu import DataError, InputError, pack_files, read_itemsets
from itembed_gpu.data import out_of_memory as spilling
from itembed_gpu.data.field_formats import FIELD_FORMATS
from itembed_gpu.data.readers import read_itemset_ids
from itembed_gpu.errors import ItembedError

_RANDOM = random.Random(7)
# Distinct, of two items at least, and each item is there.
BASKETS = [_RANDOM.sample(range(14), _RANDOM.randint(2, 5)) for _ in range(60)]
NAMES = [f"item {number}" for number in range(14)]
PAIRS = [(user, item) for user, basket in enumerate(BASKETS) for item in basket]


def lines(rows):
    return "".join(f"{row}\n" for row in rows)


def words(basket):
    return " ".join(map(str, basket))


def named(basket):
    return [NAMES[item] for item in basket]


def wide():
    rows = [",".join([str(len(b)), *named(b), *[""] * (5 - len(b))]) for b in BASKETS]
    return lines(["Item(s)," + ",".join(f"Item {n}" for n in range(1, 6)), *rows])


def onehot():
    rows = (",".join("1" if item in basket else "0" for item in range(14)) for basket in BASKETS)
    return lines([",".join(NAMES), *rows])


# File, what it holds, the items that are read, and what is told.
CERTAIN = {
    "fimi": ("shop.dat", lines(words(b) + " " for b in BASKETS), str, "read as FIMI"),
    "spmf transactions": (
        "shop.txt",
        "@CONVERTED_FROM_TEXT\n"
        + lines(f"@ITEM={number}={name}" for number, name in enumerate(NAMES))
        + lines(map(words, BASKETS)),
        NAMES.__getitem__,
        "read as SPMF: lines with @",
    ),
    "spmf sequences": (
        "shop.txt",
        lines(" -1 ".join(map(str, b)) + " -1 -2" for b in BASKETS),
        str,
        "read as SPMF: sequences",
    ),
    "spmf sequences in time": (
        "shop.txt",
        lines(" -1 ".join(f"<{n}> {i}" for n, i in enumerate(b)) + " -1 -2" for b in BASKETS),
        str,
        "read as SPMF: sequences",
    ),
    "basket": ("shop.basket", lines(", ".join(named(b)) for b in BASKETS), NAMES.__getitem__, ""),
    "wide": ("shop.csv", wide(), NAMES.__getitem__, "columns 'Item 1' to 'Item 5'"),
    "wide, with commas at the ends": (
        "shop.csv",
        wide().replace("\n", ",\n"),
        NAMES.__getitem__,
        "read as a wide table",
    ),
    "wide, as pandas writes it": (
        "shop.csv",
        lines([",0,1,2,3,4"])
        + lines(",".join([str(n), *named(b), *[""] * (5 - len(b))]) for n, b in enumerate(BASKETS)),
        NAMES.__getitem__,
        "columns '0' to '4'",
    ),
    "lists of Python": (
        "shop.csv",
        "id,bought\n" + lines(f'{n},"{named(b)}"' for n, b in enumerate(BASKETS)),
        NAMES.__getitem__,
        "column 'bought' holds lists",
    ),
    "lists of JSON": (
        "shop.tsv",
        "id\tbought\n" + lines(f"{n}\t{json.dumps(b)}" for n, b in enumerate(BASKETS)),
        int,
        "column 'bought' holds lists",
    ),
    "lightgcn": (
        "train.txt",
        lines(f"{user} {words(b)}" for user, b in enumerate(BASKETS)),
        str,
        "read as LightGCN: the first number of each line is the itemset",
    ),
    "lightgcn without some users": (
        "test.txt",
        lines(f"{7 * user} {words(b)}" for user, b in enumerate(BASKETS)),
        str,
        "read as LightGCN",
    ),
    "lightgcn of words": (
        "train.txt",
        lines(f"{user + 1} " + " ".join(f"item{i}" for i in b) for user, b in enumerate(BASKETS)),
        "item{}".format,
        "read as LightGCN",
    ),
    "lightgcn of numbers that are larger": (
        "test.txt",
        lines(
            f"{user} " + words(i + 1000 for i in b)
            for user, b in enumerate(BASKETS[:5] + BASKETS)
            if user >= 5
        ),
        lambda code: str(code + 1000),
        "read as LightGCN",
    ),
    "recbole": (
        "ml.inter",
        "user_id:token\titem_id:token\trating:float\n" + lines(f"{u}\t{i}\t4" for u, i in PAIRS),
        int,
        "itemset column 'user_id:token', item column 'item_id:token'",
    ),
    "recbole sequences": (
        "ml.inter",
        "session_id:token\titem_id_list:token_seq\titem_id:token\n"
        + lines(f"{n}\t{words(b)}\t0" for n, b in enumerate(BASKETS)),
        str,
        "read as RecBole: the lists of 'item_id_list:token_seq'",
    ),
    "movielens": (
        "ratings.dat",
        lines(f"{u}::{i}::5::978300760" for u, i in PAIRS),
        int,
        "read as MovieLens",
    ),
    "movielens with tabs": (
        "u.data",
        lines(f"{u}\t{i}\t3\t881250949" for u, i in PAIRS),
        int,
        "read as MovieLens",
    ),
    "yoochoose": (
        "clicks.dat",
        lines(f"{u},2014-04-07T10:51:09.277Z,{i},0" for u, i in PAIRS),
        int,
        "itemset column '1', item column '3'",
    ),
    "yoochoose.csv": (
        "buys.csv",
        lines(f"{u},2014-04-07T10:51:09.277Z,{i},12462,1" for u, i in PAIRS),
        int,
        "read as YooChoose",
    ),
    "check-ins": (
        "places.txt",
        lines(f"{u}\t2010-10-19T23:55:27Z\t30.23\t-97.79\t{i}" for u, i in PAIRS),
        int,
        "itemset column '1', item column '5'",
    ),
    "lastfm": (
        "plays.tsv",
        lines(f'{u:040x}\t{i:08x}-mbid\tthe "{i}\t{u + 1}' for u, i in PAIRS),
        'the "{}'.format,
        "read as Last.fm 360K",
    ),
    "a table in a text": (
        "train.txt",
        "SessionId\tItemId\tTime\n" + lines(f"{u}\t{i}\t13968" for u, i in PAIRS),
        int,
        "itemset column 'SessionId', item column 'ItemId'",
    ),
    "JSON lines": (
        "shop.json",
        lines(json.dumps({"order": u, "item": NAMES[i]}) for u, i in PAIRS),
        NAMES.__getitem__,
        "read as ndjson",
    ),
    "an index": (
        "index.csv",
        ",order,item\n" + lines(f"{n},{u},{i}" for n, (u, i) in enumerate(PAIRS)),
        int,
        "itemset column 'order', item column 'item'",
    ),
}  # fmt: skip
# As above, but that the format or a column has to be given; the error says so.
ASKED = {
    "arules": (
        "shop.csv",
        lines(",".join(named(b)) for b in BASKETS),
        NAMES.__getitem__,
        {"format": "arules"},
        r"rows have 2 to 5 fields.*--format arules",
    ),
    "arules single": (
        "shop.txt",
        lines(f"order{u} item{i}" for u, i in PAIRS),
        "item{}".format,
        {"format": "arules-single"},
        "two words.*--format arules-single",
    ),
    "commas": (
        "shop.txt",
        lines(", ".join(named(b)) for b in BASKETS),
        NAMES.__getitem__,
        {"separator": ","},
        r"hold ',' between words.*--separator ','",
    ),
    "tabs": (
        "plays.txt",
        lines(f"{u}\t{i}\t{u + 5}" for u, i in PAIRS),
        int,
        {"format": "tsv", "header": False},
        r"every line has 2 tabs.*--format tsv.*--no-header",
    ),
    "no header": (
        "plays.csv",
        lines(f"{u},{i}" for u, i in PAIRS),
        int,
        {"header": False},
        "first row looks like data.*--no-header",
    ),
    "semicolons": (
        "shop.csv",
        "order;item;amount\n" + lines(f"{u};{i};1,5" for u, i in PAIRS),
        int,
        {"separator": ";"},
        r"its columns are 'order;item;amount'.*--separator ';'",
    ),
    "other columns": (
        "views.csv",
        "session_id;user_id;item_id\n" + lines(f"{u};NA;{i}" for u, i in PAIRS),
        int,
        {"separator": ";", "item": "item_id"},
        "--separator ';'.*--itemset session_id --item item_id",
    ),
    "second column": (
        "sales.csv",
        "DATE,CUSTOMER_ID,PRODUCT_ID\n" + lines(f"1/1/2001,{u},{i}" for u, i in PAIRS),
        int,
        {"itemset": "CUSTOMER_ID", "item": "PRODUCT_ID"},
        "'CUSTOMER_ID' would be that of the items.*--item PRODUCT_ID",
    ),
    "lists that are no items": (
        "reviews.json",
        lines(json.dumps({"reviewerID": u, "asin": i, "helpful": [0, 1]}) for u, i in PAIRS),
        int,
        {"itemset": "reviewerID", "item": "asin"},
        "'helpful' holds lists.*--itemset reviewerID --item asin",
    ),
    "tabs between names": (
        "shop.txt",
        lines("\t".join(named(b)) for b in BASKETS),
        NAMES.__getitem__,
        {"separator": "\\t"},
        r"hold '\\t' between words.*--separator '\\t'",
    ),
    "padded rows": (
        "shop.csv",
        lines(",".join([*named(b), *[""] * (5 - len(b))]) for b in BASKETS),
        NAMES.__getitem__,
        {"format": "arules"},
        "filled up with empty fields.*--format arules",
    ),
    "strings without a header": (
        "plays.csv",
        lines(f"user{u},item{i}" for u, i in PAIRS),
        "item{}".format,
        {"header": False},
        "first row looks like data.*--no-header",
    ),
    "semicolons between quotes": (
        "ratings.csv",
        '"user";"item"\n' + lines(f'"{u}";"{i}"' for u, i in PAIRS),
        int,
        {"separator": ";"},
        "--separator ';'.*--itemset user --item item",
    ),
    "ratings beside items": (
        "ratings.csv",
        "item,rating,user id\n" + lines(f"{i},5,{u}" for u, i in PAIRS),
        int,
        {"itemset": "user id", "item": "item"},
        "'rating' would be that.*--itemset 'user id' --item item",
    ),
    "one-hot beside an index": (
        "flags.csv",
        "," + onehot().replace("\n", "\n7,").removesuffix("7,"),
        NAMES.__getitem__,
        {"format": "onehot", "itemset": "1"},
        "all columns but '1' hold 0 or 1.*--format onehot.*--itemset 1",
    ),
    "one-hot beside a column": (
        "flags.csv",
        "id," + onehot().replace("\n", "\n7,").removesuffix("7,"),
        NAMES.__getitem__,
        {"format": "onehot", "itemset": "id"},
        "all columns but 'id' hold 0 or 1.*--format onehot",
    ),
}  # fmt: skip


def write(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def itemsets_of(packed):
    items = [packed.labels[index] for index in packed.indices]
    return [items[start:end] for start, end in itertools.pairwise(packed.offsets)]


def assert_packed_alike(path, folder, monkeypatch, **options):
    """Files that do not fit in memory give the same folder."""
    read_itemsets(path, **options).save(folder / "read")
    monkeypatch.setattr(spilling, "_fits", lambda *_: False)
    packed = pack_files(path, folder / "packed", memory=1 << 21, **options)
    assert packed.source == read_itemsets(path, **options).source
    assert contents(folder / "packed") == contents(folder / "read")


@pytest.mark.parametrize("name", CERTAIN)
def test_what_is_certain_is_read_so(tmp_path, monkeypatch, name):
    file, content, item, told = CERTAIN[name]
    path = write(tmp_path, file, content)
    packed = read_itemsets(path)
    assert itemsets_of(packed) == [[item(code) for code in basket] for basket in BASKETS]
    assert told in packed.source
    assert packed.weights is None
    assert_packed_alike(path, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ASKED)
def test_what_is_not_certain_is_asked_for(tmp_path, monkeypatch, name):
    file, content, item, options, question = ASKED[name]
    path = write(tmp_path, file, content)
    with pytest.raises((DataError, InputError), match=question) as caught:
        read_itemsets(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    order = sorted if "onehot" in options.values() else list
    expected = [[item(code) for code in order(basket)] for basket in BASKETS]
    assert itemsets_of(read_itemsets(path, **options)) == expected
    assert_packed_alike(path, tmp_path, monkeypatch, **options)


def test_one_hot_columns_are_items(tmp_path, monkeypatch):
    path = write(tmp_path, "shop.csv", onehot().replace("1", "True").replace("0", "False"))
    # The names of items have digits as well.
    names = [name.replace("1", "True").replace("0", "False") for name in NAMES]
    packed = read_itemsets(path)
    assert itemsets_of(packed) == [[names[code] for code in sorted(b)] for b in BASKETS]
    assert "read as a one-hot table" in packed.source
    assert_packed_alike(path, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shop.txt", lines(f"{words(b)}:{2 * len(b)}:{words([2.5] * len(b))}" for b in BASKETS)),
        ("shop.basket", lines(", ".join(f"{item}=2.5" for item in b) for b in BASKETS)),
    ],
)
def test_values_are_weights(tmp_path, monkeypatch, name, content):
    path = write(tmp_path, name, content)
    packed = read_itemsets(path)
    assert itemsets_of(packed) == [[*map(str, basket)] for basket in BASKETS]
    assert set(packed.weights.tolist()) == {2.5}
    assert_packed_alike(path, tmp_path, monkeypatch)


def test_an_item_without_a_value_weighs_one(tmp_path):
    packed = read_itemsets(write(tmp_path, "a.basket", "tea, cup=3\ncup\n\n"), min_length=0)
    assert itemsets_of(packed) == [["tea", "cup"], ["cup"], []]
    assert packed.weights.tolist() == [1, 3, 1]


def test_quotes_of_arules(tmp_path):
    path = write(tmp_path, "a.csv", '"tea, green",cup\nsaw,"12"" nail"\n')
    quoted = write(tmp_path, "a.txt", '"tea, green","cup"\n' * 5)
    with pytest.warns(UserWarning, match="items begin with quotes.*--format arules"):
        read_itemsets(quoted, separator=",")
    packed = read_itemsets(path, format="arules")
    assert itemsets_of(packed) == [["tea, green", "cup"], ["saw", '12" nail']]


def test_holes_of_a_wide_table_are_missing_and_padding_is_not(tmp_path):
    path = write(tmp_path, "a.csv", "Item 1,Item 2,Item 3\ntea,,cup\nsaw,,\n")
    packed = read_itemsets(path)
    assert itemsets_of(packed) == [["tea", "cup"], ["saw"]]
    assert packed.dropped.none_items == 1


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("spmf", "1 2\n1 -1 2 -1 -2\n", "line 2: is no transaction"),
        ("spmf", "1 -1 -2\n1 2\n", "line 2: a sequence of SPMF ends with -2"),
        ("spmf", "1 -1 2[5] -1 -2\n", "line 1: sequences with utilities"),
        ("spmf", "1 2:6:3\n", "line 1: is not items:utility:utilities"),
        ("spmf", "1 2:6:3 much\n", "line 1: 'much' is a weight"),
        ("spmf", "@ITEM=1=tea\n@ITEM=2=tea\n1 2\n", "line 2: names item '2' 'tea'"),
        ("basket", "tea=inf, cup\n", "line 1: 'inf' is a weight"),
        ("basket", "tea=green\n", "line 1: 'green' is a weight"),
        ("arules", 'tea,"cup\n', "line 1: unexpected end"),
        ("wide", "Item 1,Item 2\ntea,cup,saw\n", "row 2: 3 fields"),
        ("onehot", "a,b,c\n1,0,2\n", "row 2: column 'c' holds '2'"),
        ("onehot", "a,b,a\n1,0,1\n", "two columns are called 'a'"),
        ("onehot", "a,b,c\n1,0\n", "row 2: 2 fields"),
        ("list-cells", "i\n\"['a' 'b']\"\n", r"row 2: .* is no list"),
        ("list-cells", 'i\n"[1.5]"\n', "row 2: .* is no list"),
        ("list-cells", "i\n\"['a']\"\n[1]\n", "row 3: 1 is a int, and items before are str"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, format, content, message):
    path = write(tmp_path, "a.txt", content)
    options = {"item": "i"} if format == "list-cells" else {}
    with pytest.raises(DataError, match=message):
        read_itemsets(path, format=format, **options)


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("lightgcn", {"separator": ","}, "LightGCN has no separator"),
        ("lightgcn", {"item": "i"}, "LightGCN has no columns"),
        ("movielens", {"header": True}, "MovieLens has no header"),
        ("onehot", {"weight": "w"}, "one-hot table has no columns"),
        ("wide", {"itemset": "a"}, "each row of a wide table is an itemset"),
        ("list-cells", {}, "no column holds lists alone"),
    ],
)
def test_options_that_a_format_does_not_have(tmp_path, format, options, message):
    path = write(tmp_path, "a.csv", "a,b\n1,0\n0,1\n")
    with pytest.raises(InputError, match=message):
        read_itemsets(path, format=format, **options)


@pytest.mark.parametrize(
    "content",
    [
        "tea cup\nsaw nail, long\n" * 30,
        # Items are numbered as they first come; baskets are sorted.
        "0 1 2\n3 4\n5 6 7\n5 8 9\n2 10\n" * 10,
        lines(words([n, n + 1, n + 2]) for n in range(4)),
        "cup saucer\n" * 60,
        "a b c\n" * 30 + "a\tb c\n" * 30,
        "#sun #sea\n#sea #sand #sun\n" * 20,
        "#sun sea\n" + "sea sand\nsun\n" * 20,
        "[deleted] {x}\n" * 10,
        "1 5 9\n1 6 9\n2 5 9\n" * 20,
    ],
)
def test_baskets_stay_text(tmp_path, content):
    path = write(tmp_path, "a.txt", content)
    assert read_itemsets(path).source == str(path)


def test_sorted_baskets_whose_first_items_grow_are_told(tmp_path):
    path = write(tmp_path, "a.txt", lines(words([n, n + 1, n + 2]) for n in range(30)))
    with pytest.warns(UserWarning, match="first numbers of the lines grow.*--format lightgcn"):
        packed = read_itemsets(path)
    assert itemsets_of(packed)[7] == ["7", "8", "9"]


def test_a_format_that_is_given_is_believed(tmp_path):
    file, content, _, _ = CERTAIN["lightgcn"]
    path = write(tmp_path, file, content)
    with pytest.warns(UserWarning, match="as asked; but it looks like lightgcn") as caught:
        packed = read_itemsets(path, format="text")
    assert itemsets_of(packed)[3] == ["3", *map(str, BASKETS[3])]
    assert caught[0].filename == __file__


def test_a_header_that_is_given_is_believed(tmp_path):
    path = write(tmp_path, "a.csv", "2019,2020\n1,2\n1,3\n")
    assert itemsets_of(read_itemsets(path, header=True)) == [[2, 3]]
    assert itemsets_of(read_itemsets(path, itemset="2019", item="2020", header=True)) == [[2, 3]]
    assert itemsets_of(read_itemsets(path, header=False)) == [[2020], [2, 3]]


@pytest.mark.parametrize(
    ("content", "itemsets"),
    [
        ("sep=;\norder;item\n1;2\n1;3\n", [[2, 3]]),
        ('order,note,item\n1,"a, b",2\n1,"x\n, y",3\n', [["a, b", "x\n, y"]]),
        ('order,item\n1,5" pipe\n1,saw\n', [['5" pipe', "saw"]]),
        ("order,item,kept\n1,0,1\n1,1,1\n", [[0, 1]]),
    ],
)
def test_tables_stay_tables(tmp_path, content, itemsets):
    packed = read_itemsets(write(tmp_path, "a.csv", content))
    assert itemsets_of(packed) == itemsets
    assert "read as" not in packed.source


@pytest.mark.parametrize("item", ["bought", 2, "2"])
def test_a_column_of_lists_may_be_named(tmp_path, item):
    path = write(tmp_path, "a.csv", 'id,bought,liked\n1,"[3, 4]","[5]"\n2,[3],[]\n')
    with pytest.raises(DataError, match="'bought', 'liked' hold lists: name one"):
        read_itemsets(path)
    assert itemsets_of(read_itemsets(path, item=item)) == [[3, 4], [3]]


@pytest.mark.parametrize("itemset", ["id", 1, "1"])
def test_a_column_that_is_no_item_may_be_named(tmp_path, itemset):
    path = write(tmp_path, "a.csv", "id,tea,cup\n7,1,0\n8,1,1\n")
    packed = read_itemsets(path, format="onehot", itemset=itemset)
    assert itemsets_of(packed) == [["tea"], ["tea", "cup"]]
    with pytest.raises(InputError, match="no column '4'; its columns are 'id', 'tea', 'cup'"):
        read_itemsets(path, format="onehot", itemset="4")


@pytest.mark.parametrize("line", ["@ITEM=", "@ITEM=tea", "@CONVERTED_FROM_TEXT"])
def test_a_text_with_an_item_that_looks_like_spmf(tmp_path, line):
    packed = read_itemsets(write(tmp_path, "a.txt", f"{line}\n"))
    assert itemsets_of(packed) == [[line]]


def test_cells_that_are_nested_too_deep_are_no_lists(tmp_path):
    path = write(tmp_path, "a.csv", f'id,items\n1,"[1]"\n2,"{"[" * 100_000}"\n')
    with pytest.raises(DataError, match=r"row 3: '\[{40}' is no list"):
        read_itemsets(path, format="list-cells", item="items")


def test_types_of_recbole_may_be_left_out(tmp_path):
    path = write(tmp_path, "ml.inter", CERTAIN["recbole"][1])
    packed = read_itemsets(path, itemset="user_id", item="item_id", weight="rating")
    assert itemsets_of(packed) == BASKETS
    assert set(packed.weights) == {4}
    path = write(tmp_path, "seq.inter", CERTAIN["recbole sequences"][1])
    packed = read_itemsets(path, item="item_id_list")
    assert itemsets_of(packed) == [[*map(str, basket)] for basket in BASKETS]
    with pytest.raises(InputError, match="there is no column 'price'"):
        read_itemsets(path, item="price")


def test_files_of_several_looks_are_not_read_together(tmp_path):
    write(tmp_path, "a.txt", CERTAIN["lightgcn"][1])
    write(tmp_path, "b.txt", "tea cup\nsaw nail\n" * 20)
    with pytest.raises(InputError, match=r"a.txt looks like lightgcn, and .*b.txt like text"):
        read_itemsets(tmp_path)


def test_users_are_matched_where_lines_name_them(tmp_path):
    path = write(tmp_path, "test.txt", CERTAIN["lightgcn without some users"][1])
    assert read_itemset_ids(path) == [str(7 * user) for user in range(60)]


def test_missing_items_of_lines(tmp_path):
    path = write(tmp_path, "a.basket", "tea, NA, , cup=2\n")
    packed = read_itemsets(path, nulls="NA")
    assert itemsets_of(packed) == [["tea", "cup"]]
    assert packed.weights.tolist() == [1, 2]
    assert packed.dropped.none_items == 2


# What holds itemsets in a way that Python reads better: the lines that the errors give do it.
REFUSED = {
    "spotify.json": json.dumps(
        {"playlists": [{"tracks": [{"track_uri": NAMES[i]} for i in b]} for b in BASKETS]}, indent=4
    ),
    "netflix.txt": lines(
        f"{item}:\n" + "\n".join(f"{u},4,2005-09-06" for u, i in PAIRS if i == item)
        for item in range(14)
    ),
    "loose.jsonl": lines(repr({"user": u, "item": i}) for u, i in PAIRS),
    "lists.txt": lines(map(repr, BASKETS)),
    "document.json": json.dumps([{"user": u, "item": i} for u, i in PAIRS], indent=1),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files left open
@pytest.mark.parametrize("name", REFUSED)
def test_the_python_of_an_error_reads_the_file(tmp_path, name):
    path = write(tmp_path, name, REFUSED[name])
    with pytest.raises(DataError, match="in Python: ") as caught:
        read_itemsets(path)
    message = str(caught.value)
    code = message.partition("in Python: ")[2].partition("; then train on DIR")[0]
    code = code.replace("itemset=..., item=...", "itemset='user', item='item'")
    *statements, last = code.split("; ")
    scope = {"PATH": str(path), "DIR": str(tmp_path / "packed"), "read_itemsets": read_itemsets}
    exec("from itembed_gpu import pack_itemsets", scope)
    for statement in statements:
        exec(statement, scope)
    packed = eval(last, scope) or read_itemsets(tmp_path / "packed")
    if name == "netflix.txt":  # of which users come as their films do
        assert packed.num_itemset == 60
        assert sorted(packed.counts) == sorted(sum(i == n for _, i in PAIRS) for n in range(14))
    else:
        names = [[str(item).removeprefix("item ") for item in b] for b in itemsets_of(packed)]
        assert names == [[*map(str, basket)] for basket in BASKETS]


@pytest.mark.parametrize("format", ["fasttext", "libsvm"])
def test_labels_and_features_are_no_items(tmp_path, format):
    line = "__label__tea green leaves" if format == "fasttext" else "1,2 4:0.5 7:1"
    path = write(tmp_path, "a.txt", lines([line] * 20))
    for options in ({}, {"format": format}):
        with pytest.raises(DataError, match=rf"train-labels.*read_labelled.*{format!r}"):
            read_itemsets(path, **options)


def test_formats_are_documented_with_their_specifications():
    text = re.sub(r"\s+", "", read_itemsets.__doc__)
    for name, known in FIELD_FORMATS.items():
        assert f'"{name}"' in text
        assert known.specification in text


def test_a_frame_in_memory_is_asked_about_as_well():
    frame = polars.DataFrame({"session_id": [1, 1], "user_id": [2, 2], "item_id": [3, 4]})
    with pytest.raises(InputError, match="'user_id' would be that of the items"):
        read_itemsets(frame)
    assert read_itemsets(frame, item="item_id").labels == [3, 4]


def test_lists_that_are_called_like_items_are_certain():
    frame = polars.DataFrame({"item_id": [1], "items": [["a", "b"]], "tags": [["x"]]})
    assert read_itemsets(frame).labels == ["a", "b"]


def test_nothing_is_told_of_what_needs_no_telling(tmp_path):
    path = write(tmp_path, "a.csv", "order,item\n1,tea\n1,cup\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "read as" not in read_itemsets(path).source


PIECES = st.sampled_from(
    ["1", "2", "0", "-1", "-2", "tea", " ", ",", "\t", ":", "::", "=", "[", "]", "{", "}", '"', "'",
     "\n", "\n", "@ITEM=", "__label__", "Item 1", "2014-04-07T10:51:09.277Z", "#", ";", "é", "\r\n",
     ":token", ":token_seq", "nan", "null"]
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".json", ".dat", ".ndjson"])
@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(PIECES, max_size=40), format=st.sampled_from([None, *FIELD_FORMATS]))
def test_whatever_a_file_holds_is_read_or_refused(tmp_path_factory, suffix, pieces, format):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_text("".join(pieces) * 7, encoding="utf-8", newline="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            packed = read_itemsets(path, format=format)
        except ItembedError as error:
            told = str(error)
        else:
            told = packed.source
    assert len(told.splitlines()) == 1
    assert str(path) in told or "has no" in told


@pytest.mark.parametrize(
    ("content", "question"),
    [
        (lines(f"{u} {i} {u + 90}" for u, i in reversed(PAIRS)), "every line has 3 words.*single"),
        (
            lines(words([n * 7 % 60, *b]) for n, b in enumerate(BASKETS)),
            "first numbers of the lines differ; if.*--format lightgcn",
        ),
        (lines(" ".join(f"c{i}:2" for i in b) for b in BASKETS), "such as 'c.*:2' end with a num"),
        (lines(" ".join(f'"c{i}"' for i in b) for b in BASKETS), "begin with quotes.*arules"),
    ],
)
def test_a_text_that_may_be_something_else_is_told(tmp_path, content, question):
    path = write(tmp_path, "a.txt", content)
    with pytest.warns(UserWarning, match=question):
        read_itemsets(path)
    read_itemsets(path, format="text")


@pytest.mark.parametrize("mark", ["# From To", "%"])
def test_comments_are_no_data(tmp_path, mark):
    path = write(tmp_path, "a.txt", mark + "\n" + lines(f"{u} {i}" for u, i in PAIRS))
    with pytest.raises(DataError, match=f"'{mark}' at its start looks like a comment.*remove it"):
        read_itemsets(path)
    path = write(tmp_path, "a.csv", "# order,item\n1,2\n")
    assert read_itemsets(path).labels == [2]


def test_amounts_of_items_are_asked_about(tmp_path):
    header = ",".join(NAMES)
    rows = (",".join(str(2 * (item in basket)) for item in range(14)) for basket in BASKETS)
    path = write(tmp_path, "a.csv", lines([header, *rows]))
    with pytest.raises(DataError, match="columns hold small numbers") as error:
        read_itemsets(path)
    python = str(error.value).partition("in Python: ")[2].partition("; else")[0]
    statement, call = python.split("; ")
    names = {"PATH": path, "read_itemsets": read_itemsets}
    exec(statement, names)
    packed = eval(call, names)
    assert sorted(map(sorted, itemsets_of(packed))) == sorted(
        sorted(map(NAMES.__getitem__, b)) for b in BASKETS
    )
    assert set(packed.weights) == {2}


def test_two_sequences_are_enough(tmp_path):
    path = write(tmp_path, "a.txt", "1 -1 2 -1 -2\n3 -1 2 -1 -2\n")
    assert itemsets_of(read_itemsets(path)) == [["1", "2"], ["3", "2"]]


def test_one_hot_columns_may_hold_floats(tmp_path):
    content = onehot().replace(",1", ",1.0").replace(",0", ",0.0")
    packed = read_itemsets(write(tmp_path, "a.csv", content))
    assert itemsets_of(packed) == [[NAMES[code] for code in sorted(b)] for b in BASKETS]


def test_lines_of_one_item_do_not_hide_commas(tmp_path):
    content = lines(", ".join(named(b)) for b in BASKETS) + lines(NAMES[b[0]] for b in BASKETS[:20])
    with pytest.raises(DataError, match=r"hold ',' between words.*--separator ','"):
        read_itemsets(write(tmp_path, "a.txt", content))


def test_doubts_name_the_line_of_the_caller(tmp_path):
    """Also from within a context."""
    path = write(tmp_path, "shop.txt", "tea\ncup\n" * 60)
    with pytest.warns(UserWarning, match="one item or none") as told:
        read_itemsets(path)
    lines = write(tmp_path, "lines.txt", "@ITEM=1=tea\n@ITEM=2=cup\n1 2\n")
    with pytest.warns(UserWarning, match="looks like spmf") as seen:
        read_itemsets(lines, format="text")
    assert {one.filename for one in [*told, *seen]} == {__file__}

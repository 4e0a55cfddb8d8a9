"""Writing: what a format holds is read back as it is, and what it does not hold is refused."""

import itertools
import warnings

import numpy as np
import polars
import pytest
from hypothesis import given, settings, strategies as st

from itembed_gpu import (
    DataError,
    InputError,
    pack_itemsets,
    read_itemsets,
    read_labelled,
    write_itemsets,
)
from itembed_gpu.data.labelled import LabelledItemsets

FORMATS = ["text", "spmf", "basket", "arules", "csv", "tsv", "ndjson", "parquet"]
WEIGHTED = ["spmf", "basket", "csv", "ndjson", "parquet"]
LABELS = st.text(min_size=1, max_size=6)
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=6)


def rows(packed, order=list):
    items = list(zip([packed.labels[i] for i in packed.indices], weights_of(packed), strict=True))
    return [order(items[start:end]) for start, end in itertools.pairwise(packed.offsets)]


def weights_of(packed):
    return [None] * packed.num_item if packed.weights is None else packed.weights.tolist()


def read_back(path, format):
    weight = {"csv": "weight", "ndjson": "weights", "parquet": "weights"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what labels drawn at random look like
        try:
            return read_itemsets(path, format=format, min_length=0, weight=weight.get(format))
        except InputError:
            return read_itemsets(path, format=format, min_length=0)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=40, deadline=None)
@given(itemsets=st.lists(st.lists(st.one_of(LABELS, WORDS), min_size=1, max_size=4), min_size=1))
def test_what_is_written_is_read_back(tmp_path_factory, format, itemsets):
    path = tmp_path_factory.mktemp("written") / "file"
    packed = pack_itemsets(itemsets)
    try:
        write_itemsets(packed, path, format=format)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        order = sorted if format == "spmf" else list
        assert rows(read_back(path, format), order) == rows(packed, order)
    assert path.exists() == (not refused)
    words = ("cannot be written", "an item twice", "strings of digits", "UTF-8")
    assert not refused or any(word in refused for word in words)


@pytest.mark.parametrize("format", WEIGHTED)
@settings(max_examples=20, deadline=None)
@given(weights=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2))
def test_weights_are_read_back_to_the_last_bit(tmp_path_factory, format, weights):
    path = tmp_path_factory.mktemp("written") / "file"
    names = [f"item {number:03}" for number in range(len(weights))]
    packed = pack_itemsets([names, ["item 000"]], weights=[weights, [0.1]])
    write_itemsets(packed, path, format=format)
    assert rows(read_back(path, format), sorted) == rows(packed, sorted)


def test_integers_stay_integers(tmp_path):
    packed = pack_itemsets([[3, -2, 7], [3]])
    for format in ("csv", "tsv", "ndjson", "parquet"):
        write_itemsets(packed, tmp_path / f"a.{format}")
        again = read_itemsets(tmp_path / f"a.{format}")
        assert again.labels == [3, -2, 7]
        assert rows(again) == rows(packed)


def test_formats_of_numbers(tmp_path):
    packed = pack_itemsets([["12", "7"], ["7"]])
    write_itemsets(packed, tmp_path / "a.txt", format="lightgcn")
    assert (tmp_path / "a.txt").read_text() == "0 12 7\n1 7\n"
    write_itemsets(packed, tmp_path / "a.dat", format="fimi")
    assert (tmp_path / "a.dat").read_text() == "12 7\n7\n"
    for format in ("lightgcn", "fimi"):
        with pytest.raises(InputError, match="'tea' cannot be written"):
            write_itemsets(pack_itemsets([["tea"]]), tmp_path / "b", format=format)


def test_spmf_numbers_and_names_items(tmp_path):
    packed = pack_itemsets([["tea", "green cup"], ["green cup"]], weights=[[2, 0.5], [1]])
    write_itemsets(packed, tmp_path / "a.txt", format="spmf")
    assert (tmp_path / "a.txt").read_text() == (
        "@CONVERTED_FROM_TEXT\n@ITEM=1=green cup\n@ITEM=2=tea\n1 2:2.5:0.5 2.0\n1:1:1.0\n"
    )


@pytest.mark.parametrize(
    ("packed", "format", "message"),
    [
        (pack_itemsets([["green tea"]]), "text", "'green tea' cannot be written as text"),
        (pack_itemsets([["a,b"]]), "basket", "'a,b' cannot be written as basket"),
        (pack_itemsets([["a\nb"]]), "spmf", "cannot be written as spmf"),
        (pack_itemsets([[1, "1"]]), "text", "labels 1 and '1' are both written 1"),
        (pack_itemsets([[(1, 2)]]), "text", "is a tuple"),
        (pack_itemsets([[1, "a"]]), "ndjson", "labels are int and str"),
        (pack_itemsets([["1", "2"]]), "csv", "strings of digits"),
        (pack_itemsets([["1.0", "-2.0"]]), "csv", "strings of digits"),
        (pack_itemsets([["[1]", "[2]"]]), "csv", "in brackets as lists"),
        (pack_itemsets([[1, 2**63]]), "csv", "does not fit an integer of 64 bits"),
        (pack_itemsets([[10**5000]]), "text", "convert such labels to str"),
        (pack_itemsets([[1, 2**63]]), "ndjson", "does not fit an integer of 64 bits"),
        (pack_itemsets([[1, -(2**63) - 1]]), "parquet", "does not fit an integer of 64 bits"),
        (pack_itemsets([[], ["a"]], min_length=0), "csv", "itemset 0 is empty"),
        (pack_itemsets([["a", "a"]]), "spmf", "itemset 0 holds an item twice"),
        (pack_itemsets([["a"]], weights=[[2]]), "text", "have weights, which text cannot hold"),
        (pack_itemsets([["a"]]), "fasttext", "are written as one of text, fimi"),
        (pack_itemsets([["a"]]), None, "give format="),
    ],
)
def test_what_a_format_does_not_hold(tmp_path, packed, format, message):
    path = tmp_path / "file"
    path.write_text("as it was")
    with pytest.raises(InputError, match=message):
        write_itemsets(packed, path, format=format)
    assert path.read_text() == "as it was"
    assert [*tmp_path.iterdir()] == [path]


def test_lists_are_to_be_packed_first(tmp_path):
    with pytest.raises(InputError, match="itemsets is a list; pass what pack_itemsets"):
        write_itemsets([["tea"]], tmp_path / "a.txt")


def test_dashes_before_digits_are_no_integers(tmp_path):
    write_itemsets(pack_itemsets([["--5", "-"]]), tmp_path / "a.csv")
    assert read_itemsets(tmp_path / "a.csv").labels == ["--5", "-"]


def test_files_are_not_compressed(tmp_path):
    with pytest.raises(InputError, match="compress it afterwards"):
        write_itemsets(pack_itemsets([["a"]]), tmp_path / "a.txt.gz")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be written: No such file"):
        write_itemsets(pack_itemsets([["a"]]), tmp_path / "none" / "a.txt")


@pytest.mark.parametrize("format", ["fasttext", "libsvm"])
@settings(max_examples=30, deadline=None)
@given(
    examples=st.lists(
        st.tuples(st.lists(WORDS, max_size=2), st.lists(WORDS, max_size=3)), min_size=1
    ),
    more=st.tuples(WORDS, WORDS),
)
def test_labels_and_features_are_read_back(tmp_path_factory, format, examples, more):
    path = tmp_path_factory.mktemp("written") / "file"
    labels, features = ([side[place] for side in examples] + [[more[place]]] for place in range(2))
    weights = [[0.1 * len(word) for word in words] for words in features]
    given = LabelledItemsets(
        pack_itemsets(features, min_length=0, weights=weights if format == "libsvm" else None),
        pack_itemsets(labels, min_length=0),
        "made",
    )
    try:
        write_itemsets(given, path, format=format)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        again = read_labelled(path, format=format)
        assert rows(again.labels) == rows(given.labels)
        assert rows(again.features) == rows(given.features)
    assert not refused or "cannot be written" in refused


def test_parquet_holds_empty_itemsets(tmp_path):
    packed = pack_itemsets([["a", "b"], []], min_length=0, weights=[[1, 0.1], []])
    write_itemsets(packed, tmp_path / "a.parquet")
    frame = polars.read_parquet(tmp_path / "a.parquet")
    assert frame["items"].to_list() == [["a", "b"], []]
    assert frame["weights"].to_list() == [np.float32([1, 0.1]).tolist(), []]

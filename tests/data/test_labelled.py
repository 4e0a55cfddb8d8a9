"""Examples with labels and features: fastText's and libsvm's, and what is made of them."""

import gzip
import itertools

import numpy as np
import pytest
from interpreted import interpret

from itembed_gpu import DataError, InputError, SupervisedClassifier, read_labelled
from itembed_gpu.data.labelled import read_features

FASTTEXT = "__label__tea __label__green Leaves of green tea\nno label\n\n__label__cup\n"
LIBSVM = "3,7 1:0.5 4:2 # a comment\n 2:1\n+1 qid:8 1:1e-2\n# a comment alone\n-1\n"


def rows(packed):
    labels = [packed.labels[index] for index in packed.indices]
    return [labels[start:end] for start, end in itertools.pairwise(packed.offsets)]


def test_fasttext(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(FASTTEXT)
    read = read_labelled(path)
    assert rows(read.labels) == [["tea", "green"], [], [], ["cup"]]
    assert rows(read.features) == [["Leaves", "of", "green", "tea"], ["no", "label"], [], []]
    assert read.features.weights is None
    assert read.source == f"{path}; read as fastText: labels that begin with __label__, and words"


def test_libsvm(tmp_path):
    path = tmp_path / "bags.svm.gz"
    path.write_bytes(gzip.compress(LIBSVM.encode()))
    with pytest.raises(InputError, match="Give the format: fasttext, libsvm"):
        read_labelled(path)  # five lines say nothing for certain
    read = read_labelled(path, format="libsvm")
    assert rows(read.labels) == [["3", "7"], [], ["1"], ["-1"]]
    assert rows(read.features) == [["1", "4"], ["2"], ["1"], []]
    assert read.features.weights.tolist() == np.float32([0.5, 2, 1, 0.01]).tolist()
    path.write_bytes(gzip.compress(b"1,2 3:0.5 4:1\n" * 9))
    assert len(read_labelled(path)) == 9


def test_labels_before_a_tab(tmp_path):
    path = tmp_path / "bags.tsv"
    path.write_text("3 7\t1 4\n\t2\n1\t\n1,2\t8 9\n5\t1\n")
    read = read_labelled(path)
    assert rows(read.labels) == [["3", "7"], [], ["1"], ["1", "2"], ["5"]]
    assert rows(read.features) == [["1", "4"], ["2"], [], ["8", "9"], ["1"]]
    assert set(read.features.weights) == {1}
    path.write_text("3 7\t1:2 4\n5\t1:0.5\t4:1\n1:3\t4:1\n")
    read = read_labelled(path, format="libsvm")
    assert rows(read.labels) == [["3", "7"], ["5"], []]
    assert read.features.weights.tolist() == [2, 1, 0.5, 1, 3, 1]


def test_an_encoding_may_be_given(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("__label__thé vert café\n".encode("cp1252"))
    with pytest.raises(DataError, match="perhaps cp1252"):
        read_labelled(path)
    read = read_labelled(path, encoding="cp1252")
    assert (rows(read.labels), rows(read.features)) == ([["thé"]], [["vert", "café"]])
    with pytest.raises(InputError, match="encoding is 'none'"):
        read_labelled(path, encoding="none")


def test_extreme_classification_repository(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("6 9 5\n" + "0,4 1:0.5 8:1\n" * 5 + " 3:0.25\n")
    read = read_labelled(path)
    assert rows(read.labels) == [["0", "4"]] * 5 + [[]]
    assert rows(read.features)[5] == ["3"]
    path.write_text("6 9 5\n" + "0,4 1:0.5 8:1\n" * 5)
    with pytest.raises(DataError, match="tells of 6 examples, and there are 5"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        ("1 2:x\n", "libsvm", "line 1: 'x' is a weight"),
        ("1 2:nan\n", "libsvm", "line 1: 'nan' is a weight"),
        ("1 2:1\n1 2 3\n", "libsvm", "line 2: '2' is no feature:value"),
        ("words alone\n", "fasttext", "no line has a label; is it of fastText"),
        ("__label__x\n", "fasttext", "no line has a feature"),
        ("", "fasttext", "the file is empty"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, content, format, message):
    path = tmp_path / "a.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_labelled(path, format=format)


def test_what_is_no_file_of_examples(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("tea cup\n" * 9)
    with pytest.raises(InputError, match="an example a line"):
        read_labelled(path)
    with pytest.raises(InputError, match="format is 'csv'; give one of fasttext, libsvm"):
        read_labelled(path, format="csv")
    with pytest.raises(DataError, match="No such file"):
        read_labelled(tmp_path / "none.txt")


def test_examples_are_split_and_learnt(tmp_path, monkeypatch):
    interpret(monkeypatch)
    path = tmp_path / "a.txt"
    path.write_text("__label__tea green leaf\n__label__cup white china\n" * 20)
    first, last = read_labelled(path).split(0.75)
    assert (len(first), len(last)) == (30, 10)
    assert rows(last.labels) == [["tea"], ["cup"]] * 5
    model = SupervisedClassifier(vector_size=4, seed=1, device="cpu")
    model.fit(first.features, first.labels)
    assert model.score(last.features, last.labels) == 1


def test_labels_are_left_out_of_features(tmp_path):
    path = tmp_path / "a.txt"
    for content, features in (
        ("7\t1 2\n" * 5, [["1", "2"]] * 5),
        ("7,8 1:2 3:1\n" * 5, [["1", "3"]] * 5),
        ("__label__tea green leaf\n\ncup\n", [["green", "leaf"], [], ["cup"]]),
    ):
        path.write_text(content)
        assert rows(read_features(path)) == features

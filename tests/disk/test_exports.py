"""Files for other programs: Parquet, NumPy's, and the counts beside word2vec."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime

import numpy as np
import polars
import pyarrow
import pyarrow.parquet
import pytest

from itembed_gpu import Embeddings
from itembed_gpu.errors import InputError, MissingExtraError

VECTORS = np.array([[1, 0.1], [-2, 3e-45]], dtype=np.float32)


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


# --------------------------------------------------------------------- Parquet


@pytest.mark.parametrize(
    "labels",
    [
        ["a b", "日本"],
        [7, -(2**63)],
        [date(2024, 1, 2), date(1, 1, 1)],
        [datetime(2024, 1, 2, 3, 4, 5, 6), datetime(1, 1, 1)],
    ],
)
def test_parquet_keeps_labels_of_one_type(tmp_path, labels):
    path = tmp_path / "items.parquet"
    Embeddings(labels, VECTORS, counts=[5, 2**40]).to_parquet(path)
    frame = polars.read_parquet(path)
    assert frame.columns == ["label", "vector", "count"]
    assert frame["label"].to_list() == labels
    assert frame["count"].to_list() == [5, 2**40]
    vector = pyarrow.parquet.read_schema(path).field("vector").type
    assert vector == pyarrow.list_(pyarrow.float32(), 2)
    assert frame["vector"].to_numpy().tobytes() == VECTORS.tobytes()
    assert listing(tmp_path) == ["items.parquet"]


@pytest.mark.parametrize(
    "labels",
    [
        [7, "a"],
        [2**63, 0],
        [uuid.UUID(int=1), uuid.UUID(int=2)],
        [True, 2.5],
        [datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3)],
    ],
)
def test_parquet_has_the_text_of_other_labels(tmp_path, labels):
    Embeddings(labels, VECTORS).to_parquet(tmp_path / "items.parquet")
    frame = polars.read_parquet(tmp_path / "items.parquet")
    assert frame.columns == ["label", "vector"]
    assert frame["label"].to_list() == list(map(str, labels))


def test_parquet_of_no_labels(tmp_path):
    Embeddings([], VECTORS[:0], counts=[]).to_parquet(tmp_path / "items.parquet")
    frame = polars.read_parquet(tmp_path / "items.parquet")
    assert frame.shape == (0, 3)
    assert frame.schema["label"] == polars.String


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["7", 7], "'7' and 7 both become the text '7'"),
        (["a", "\ud800"], "'\\\\ud800' in row 1 holds a lone surrogate"),
        pytest.param([10**5000, 1], "convert such labels to str", id="huge"),
    ],
)
def test_parquet_refuses_labels_it_cannot_hold(tmp_path, labels, words):
    path = tmp_path / "items.parquet"
    path.write_text("old")
    with pytest.raises(InputError, match=words):
        Embeddings(labels, VECTORS).to_parquet(path)
    assert (path.read_text(), listing(tmp_path)) == ("old", ["items.parquet"])


def test_parquet_needs_polars(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match=r'pip install "itembed_gpu\[data\]"'):
        Embeddings(["a", "b"], VECTORS).to_parquet(tmp_path / "items.parquet")


# ------------------------------------------------------------------ NumPy's own


def test_npy_has_the_labels_beside_it(tmp_path):
    labels = ["é\n\ud800", 2**70]
    beside = Embeddings(labels, VECTORS).to_npy(tmp_path / "items.npy")
    assert np.load(tmp_path / "items.npy").tobytes() == VECTORS.tobytes()
    assert beside == tmp_path / "items.labels.json"
    assert json.loads(beside.read_text()) == labels
    Embeddings([date(2024, 1, 2), ("a", 1)], VECTORS).to_npy(tmp_path / "items.npy")
    assert json.loads(beside.read_text()) == ["2024-01-02", "('a', 1)"]
    assert listing(tmp_path) == ["items.labels.json", "items.npy"]


# -------------------------------------------------------- counts of a vocabulary


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_the_counts(tmp_path, binary):
    models = pytest.importorskip("gensim.models")
    emb = Embeddings(["green tea", "é"], VECTORS, counts=[7, 2**40])
    path, counts = tmp_path / "items.w2v", tmp_path / "items.counts"
    emb.to_word2vec(path, binary=binary, replace_space="_", vocabulary=counts)
    assert counts.read_text(encoding="utf-8") == f"green_tea 7\né {2**40}\n"
    read = models.KeyedVectors.load_word2vec_format(path, fvocab=str(counts), binary=binary)
    assert [read.get_vecattr(word, "count") for word in ("green_tea", "é")] == [7, 2**40]


def test_a_vocabulary_takes_counts_and_a_file_of_its_own(tmp_path):
    path = tmp_path / "items.txt"
    emb = Embeddings(["a", "b"], VECTORS, counts=[1, 2])
    with pytest.raises(InputError, match="vocabulary: there are no counts"):
        Embeddings(["a", "b"], VECTORS).to_word2vec(path, vocabulary=tmp_path / "counts")
    with pytest.raises(InputError, match="is the file of the vectors"):
        emb.to_word2vec(path, vocabulary=str(path))
    with pytest.raises(InputError, match=r"vocabulary: .* is a folder or in no folder"):
        emb.to_word2vec(path, vocabulary=tmp_path)
    assert listing(tmp_path) == []


# ------------------------------------------------------------- wholly or not at all

WRITE = {
    "parquet": lambda emb, path: emb.to_parquet(path),
    "npy": lambda emb, path: emb.to_npy(path),
    "vocabulary": lambda emb, path: emb.to_word2vec(path, vocabulary=path.with_suffix(".counts")),
}


@pytest.mark.parametrize("name", WRITE)
def test_what_is_there_stays_until_the_new_is_whole(tmp_path, monkeypatch, name):
    emb = Embeddings(["a", "b"], VECTORS.copy(), counts=[1, 2])
    WRITE[name](emb, tmp_path / "items.npy")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="disk full"):
            WRITE[name](Embeddings(["c"], VECTORS[:1], counts=[3]), tmp_path / "items.npy")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(InputError, match=r"^path: "):
        WRITE[name](emb, tmp_path / "nowhere" / "items.npy")
    emb.vectors[1, 1] = np.nan  # trained on in place
    with pytest.raises(InputError, match="not finite"):
        WRITE[name](emb, tmp_path / "items.npy")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
@pytest.mark.parametrize("name", WRITE)
def test_a_device_is_not_replaced(tmp_path, name):
    path = tmp_path / "pipe.npy"
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a device or a pipe"):
        WRITE[name](Embeddings(["a", "b"], VECTORS, counts=[1, 2]), path)
    assert path.is_fifo()
    assert listing(tmp_path) == ["pipe.npy"]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes")
def test_a_full_disk_is_an_error_of_the_disk(tmp_path):
    script = f"""
import resource, signal, numpy
from itembed_gpu import Embeddings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
emb = Embeddings(range(9999), numpy.random.default_rng(0).normal(size=(9999, 8)))
resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))
for write in (emb.to_parquet, emb.to_npy, emb.to_word2vec):
    try:
        write({str(tmp_path / "items")!r})
    except OSError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.count("File too large") == 3, done.stderr
    assert listing(tmp_path) == []

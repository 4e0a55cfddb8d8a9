"""Folders that strangers made, or that others write to: read as they are, or refused in a line."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from itembed_gpu.data.itemsets import PackedItemsets
from itembed_gpu.data.lists import pack_itemsets
from itembed_gpu.disk import files, folders
from itembed_gpu.disk.embeddings import KIND
from itembed_gpu.disk.files import writing_alone
from itembed_gpu.disk.folders import sealed
from itembed_gpu.errors import DataError
from itembed_gpu.models.classifier import SupervisedClassifier
from itembed_gpu.models.embeddings import Embeddings
from itembed_gpu.models.item2vec import Item2Vec
from itembed_gpu.models.verify import verify

POSIX = pytest.mark.skipif(os.name != "posix", reason="such files and locks are POSIX")


def example(value=1.0, num_label=5):
    labels = [f"{value}-{i}" for i in range(num_label)]
    return Embeddings(labels, np.full((num_label, 4), value, np.float32))


def file_of(folder, name):
    (path,) = folder.glob(f"{name}*")
    return path


# --- what is no file of the folder -------------------------------------------


@POSIX
@pytest.mark.parametrize("name", ["labels", "vectors", "embeddings.json"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_only_regular_files_of_the_folder_are_opened(tmp_path, name, kind):
    folder = tmp_path / "saved"
    example().save(folder)
    path = file_of(folder, name)
    if kind == "link":
        path.rename(tmp_path / "outside")
        path.symlink_to(tmp_path / "outside")
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)  # to open it would wait for ever
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=f"{path.name}: is no regular file"):
        Embeddings.load(folder)


@POSIX
def test_links_within_the_folder_and_to_it_are_followed(tmp_path):
    example().save(tmp_path / "saved")
    path = file_of(tmp_path / "saved", "vectors")
    path.rename(path.with_name("kept"))
    path.symlink_to("kept")
    (tmp_path / "link").symlink_to("saved")
    assert Embeddings.load(tmp_path / "link").labels == example().labels


def test_sizes_are_compared_before_contents(tmp_path, monkeypatch):
    example().save(tmp_path)
    with file_of(tmp_path, "vectors").open("ab") as file:
        file.truncate(1 << 40)  # it takes no room, and an hour to read
    began = time.perf_counter()
    with pytest.raises(DataError, match="1099511627776 bytes"):
        Embeddings.load(tmp_path)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": ["Item2Vec"]},
        {"params": []},
        {"params": {"vector_size": 4, "nonsense": 1}},
        {"seed": "x"},
        {"seed": 1e999},
        {"num_fit": None},
    ],
)
def test_what_metadata_say_of_a_model_is_checked(tmp_path, change):
    Item2Vec(vector_size=4, epochs=1, min_count=1, seed=1).fit([["a", "b"]] * 3).save(tmp_path)
    path = tmp_path / KIND.index
    index = json.loads(path.read_text())
    index["metadata"] |= change
    path.write_text(json.dumps(sealed(index)))
    with pytest.raises(DataError, match="Item2Vec"):
        Item2Vec.load(tmp_path)


@pytest.mark.parametrize("num_feature", [-1, 1, 10**30, "2", None])
def test_a_classifier_with_other_features_than_it_says(tmp_path, num_feature):
    model = SupervisedClassifier(vector_size=4, epochs=1, seed=1)
    model.fit([["a", "b"], ["b", "c"]] * 3, [["x"], ["y"]] * 3).save(tmp_path)
    assert verify(tmp_path).kind == "SupervisedClassifier"
    path = tmp_path / KIND.index
    index = json.loads(path.read_text())
    index["metadata"]["num_feature"] = num_feature
    path.write_text(json.dumps(sealed(index)))
    with pytest.raises(DataError, match="holds no SupervisedClassifier"):
        SupervisedClassifier.load(tmp_path)


# --- one byte ----------------------------------------------------------------


@pytest.mark.parametrize("with_checksum", [True, False], ids=["new", "old"])
@pytest.mark.parametrize("kind", ["embeddings", "packed"])
def test_a_damaged_byte_is_found_wherever_it_is(tmp_path, kind, with_checksum):
    """Of indexes of earlier versions, which have no checksum, there is a `DataError` or none."""
    if kind == "embeddings":
        example().save(tmp_path)
    else:
        pack_itemsets([["a", 1], [1, 2.5, "a"]], weights=[[1, 2], [3, 4, 5]]).save(tmp_path)
    for index in tmp_path.glob("*.json" if not with_checksum else "no*"):
        if not index.name.startswith("labels"):
            content = json.loads(index.read_text())
            del content["checksum"]
            index.write_text(json.dumps(content))
    generator = np.random.default_rng(0)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        is_old_index = not with_checksum and path.name in ("embeddings.json", "itemsets.json")
        for place in generator.choice(len(whole), min(len(whole), 60), replace=False):
            damaged = bytearray(whole)
            damaged[place] ^= int(generator.integers(1, 256))
            path.write_bytes(damaged)
            with contextlib.suppress(DataError) if is_old_index else pytest.raises(DataError):
                verify(tmp_path)
        path.write_bytes(whole)
    verify(tmp_path)


# --- two that write ----------------------------------------------------------


def race(folder, save, load, seconds=0.6):
    """Let two threads save for a while, and load meanwhile; return how many loads there were."""
    save(folder, 1)
    end, errors = time.monotonic() + seconds, []

    def write(value):
        try:
            while time.monotonic() < end:
                save(folder, value)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(value,)) for value in (1, 2)]
    for writer in writers:
        writer.start()
    count = 0
    while any(writer.is_alive() for writer in writers):
        load(folder)
        count += 1
    assert errors == []
    load(folder)
    return count


def save_embeddings(folder, value):
    example(float(value), 4 + value).save(folder)


def load_embeddings(folder):
    loaded = Embeddings.load(folder)
    value = loaded.vectors[0, 0]
    assert loaded.labels == example(value, 4 + int(value)).labels
    assert (loaded.vectors == value).all()


def save_packed(folder, value):
    pack_itemsets([[value, "x"]] * value, weights=[[value, value]] * value).save(folder)


def load_packed(folder):
    loaded = PackedItemsets.load(folder)
    loaded.verify()
    (value,) = (label for label in loaded.labels if label != "x")
    assert loaded.weights.tolist() == [value] * 2 * value


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no-locks"])
@pytest.mark.parametrize(
    ("save", "load"),
    [(save_embeddings, load_embeddings), (save_packed, load_packed)],
    ids=["embeddings", "packed"],
)
def test_two_writers_never_make_a_mix(tmp_path, monkeypatch, locks, save, load):
    if not locks:
        monkeypatch.setattr(files, "_lock", lambda folder, end: folder.mkdir(exist_ok=True))
    assert race(tmp_path / "data", save, load) > 0


@POSIX
def test_who_comes_second_waits_and_then_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "PATIENCE", 0.2)
    monkeypatch.setattr(files, "_SILENCE", 0.1)
    example(1.0).save(tmp_path / "saved")
    with writing_alone(tmp_path / "saved", 0) as alone:
        assert alone
        with (
            pytest.warns(UserWarning, match="saved: waiting for another process"),
            pytest.raises(TimeoutError, match=r"another process is writing to it.*saved"),
        ):
            example(2.0).save(tmp_path / "saved")
    example(2.0).save(tmp_path / "saved")
    assert Embeddings.load(tmp_path / "saved").vectors[0, 0] == 2


@POSIX
def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys, time, pathlib; from itembed_gpu.disk.files import writing_alone\n"
        "with writing_alone(pathlib.Path(sys.argv[1]), 0): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(TimeoutError), writing_alone(tmp_path, 0):
            pass
        process.kill()
    with writing_alone(tmp_path, 5) as alone:
        assert alone


def test_a_folder_made_for_nothing_is_removed(tmp_path):
    with writing_alone(tmp_path / "deep" / "er", 0):
        assert (tmp_path / "deep" / "er").is_dir()
    assert list(tmp_path.iterdir()) == []


# --- full disks --------------------------------------------------------------


@POSIX
def test_a_limit_on_files_is_an_error_in_a_line_and_leaves_nothing(tmp_path):
    """For real: what safetensors and NumPy raise then is of other types than that of a disk."""
    code = """
import resource, sys, numpy as np
import itembed_gpu as ig
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder = sys.argv[1]
table = ig.Embeddings(range(10_000), np.ones((10_000, 4)))
packed = ig.pack_itemsets([range(9)] * 9_000)
for name, save in (("a", table.save), ("b.txt", table.to_word2vec), ("c", packed.save)):
    try:
        save(f"{folder}/{name}")
    except (OSError, ig.DataError) as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    table, words, packed = done.stdout.splitlines()
    assert "File too large" in table
    assert "File too large" in words
    assert "b.txt" in words
    assert packed == f"{tmp_path / 'c'}: cannot be written: File too large; nothing was saved"
    assert list(tmp_path.iterdir()) == []

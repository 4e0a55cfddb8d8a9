"""Packed itemsets on disk: what is loaded is what was saved, or there is an error."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date, datetime
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, strategies as st

from itembed_gpu.data.itemsets import PackedItemsets
from itembed_gpu.data.lists import pack_itemsets
from itembed_gpu.data.readers import read_itemsets
from itembed_gpu.disk.folders import BLOCK, Kind, sealed
from itembed_gpu.disk.itemsets import KIND
from itembed_gpu.errors import DataError, InputError
from itembed_gpu.models.item2vec import Item2Vec
from itembed_gpu.models.verify import verify
from itembed_gpu.training.loop import train
from itembed_gpu.training.tables import initialize_syn
from itembed_gpu.training.tasks import UnsupervisedTask

INDEX = KIND.index
BASKETS = [["a", "b"], ["b", "c", "a"], ["c", "b"]] * 5
LABELS = {
    "str": ["x", "é", "", "z"],
    "int": [3, -1, 2**70, 0],
    "mixed": ["1", 1, date(2024, 1, 2), UUID(int=5)],
    "time": [datetime(2024, 1, 2, 3), datetime(2023, 1, 1)],
}


def file_of(folder, name):
    """The one file of that name, without its generation."""
    (path,) = folder.glob(f"{name}-*")
    return path


def change_index(folder, **change):
    """Write other values to an index, and its checksum of them."""
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(sealed({**index, **change})))


def assert_equal(loaded, packed):
    assert loaded.labels == packed.labels
    assert list(map(type, loaded.labels)) == list(map(type, packed.labels))
    assert loaded.dropped == packed.dropped
    for name in ("indices", "offsets", "counts", "weights"):
        ours, theirs = getattr(loaded, name), getattr(packed, name)
        if theirs is None:
            assert ours is None
        else:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def saved(tmp_path):
    pack_itemsets(BASKETS, weights=[[1.0] * len(b) for b in BASKETS]).save(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_loaded_is_what_was_saved(tmp_path, kind, weighted):
    itemsets = [LABELS[kind], LABELS[kind][:2], []]
    weights = [np.arange(len(row)) + 0.5 for row in itemsets] if weighted else None
    packed = pack_itemsets(itemsets, weights=weights, min_length=2)
    packed.save(tmp_path / "data")
    loaded = PackedItemsets.load(tmp_path / "data")
    assert_equal(loaded, packed)
    loaded.verify()
    assert not loaded.indices.flags.writeable


@given(st.lists(st.lists(st.integers(0, 9))))
def test_any_itemsets(tmp_path_factory, itemsets):
    folder = tmp_path_factory.mktemp("any") / "data"
    packed = pack_itemsets(itemsets, min_length=0)
    packed.save(folder)
    assert_equal(PackedItemsets.load(str(folder)), packed)
    verify(folder)


def test_a_save_takes_the_place_of_the_one_before(saved):
    packed = pack_itemsets([["new", "newer"]])
    packed.save(saved)
    assert_equal(PackedItemsets.load(saved), packed)
    names = sorted(re.sub(r"\d{12}\.", ".", path.name) for path in saved.iterdir())
    assert names == ["counts-000002.npy", "indices-000002.npy", INDEX, "labels-000002.json",
                     "offsets-000002.npy"]  # fmt: skip


def tables():
    return initialize_syn(3, 8, seed=1), initialize_syn(3, 8, seed=2)


def trained(packed):
    syn0, syn1 = tables()
    task = UnsupervisedTask(packed.indices, packed.offsets, syn0, syn1, seed=3, num_threads=1)
    train(task, num_epoch=3, progress=False)
    return syn0


def test_training_from_disk_is_training_from_memory(saved):
    loaded = PackedItemsets.load(saved)
    assert np.array_equal(trained(loaded), trained(pack_itemsets(BASKETS)))
    models = [
        Item2Vec(vector_size=8, epochs=2, seed=1, workers=1, min_count=1).fit(packed)
        for packed in (loaded, pack_itemsets(BASKETS, weights=[[1.0] * len(b) for b in BASKETS]))
    ]
    assert np.array_equal(*(model.embeddings_.vectors for model in models))


def test_nothing_is_read_before_it_is_used(saved, monkeypatch):
    read = []
    compare = Kind._compare

    def watched(self, blocks, path, index, name):
        read.append(name)
        compare(self, blocks, path, index, name)

    monkeypatch.setattr(Kind, "_compare", watched)
    loaded = PackedItemsets.load(saved)
    assert read == ["labels", "counts"]
    trained(loaded)
    trained(loaded)
    assert read == ["labels", "counts", "indices", "offsets"]  # once each
    loaded.verify()
    assert sorted(read) == ["counts", "indices", "labels", "offsets", "weights"]


def test_what_was_saved_over_is_still_there_for_who_has_it_open(saved):
    loaded = PackedItemsets.load(saved)
    pack_itemsets([["new", "newer"]]).save(saved)
    loaded.verify()
    assert np.array_equal(trained(loaded), trained(pack_itemsets(BASKETS)))


# --- damage -----------------------------------------------------------------


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["indices", "offsets", "weights"])
def test_an_altered_block_is_named_and_never_trained_on(saved, name):
    path = file_of(saved, name)
    flip(path)
    with pytest.raises(DataError, match=rf"{path.name}: bytes 0 to {path.stat().st_size - 1} were"):
        verify(saved)
    loaded = PackedItemsets.load(saved)
    with pytest.raises(DataError, match="altered"):
        loaded.verify()
    if name in ("indices", "offsets"):
        with pytest.raises(DataError, match="altered"):
            trained(loaded)
        with pytest.raises(DataError, match="altered"):
            Item2Vec(vector_size=8, epochs=1).fit(loaded)


def test_a_file_that_is_cut_while_it_is_open(saved):
    loaded = PackedItemsets.load(saved)
    path = file_of(saved, "indices")
    os.truncate(path, 40)
    with pytest.raises(DataError, match=rf"{path.name}: has 40 bytes where"):
        trained(loaded)


def test_the_block_is_that_which_was_altered(tmp_path):
    packed = pack_itemsets([range(1000)] * 3000)
    packed.save(tmp_path / "data")
    flip(file_of(tmp_path / "data", "indices"), BLOCK + 5)
    with pytest.raises(DataError, match=f"bytes {BLOCK} to {2 * BLOCK - 1} were"):
        verify(tmp_path / "data")


@pytest.mark.parametrize("name", ["labels", "counts"])
def test_the_catalog_is_checked_at_once(saved, name):
    flip(file_of(saved, name), -4)
    with pytest.raises(DataError, match=rf"{name}-.*altered"):
        PackedItemsets.load(saved)


@pytest.mark.parametrize("name", ["indices", "labels"])
def test_what_is_truncated_or_missing_is_refused_at_once(saved, name):
    path = file_of(saved, name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{path.name}: has \d+ bytes where {INDEX} records"):
        PackedItemsets.load(saved)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.name}: cannot be read"):
        PackedItemsets.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is of version 2.*upgrade"),
        ({"format": "other"}, "is not of the format"),
        ({"files": {}}, "names no file of counts"),
        ({"files": {"x": 3}}, "names no file of x"),
        ({"block": 0}, "lacks its generation, block or files"),
        ({"block": 10**12}, "lacks its generation, block or files"),
        ({"generation": -1}, "lacks its generation, block or files"),
        ({"block": 1}, "names no file of"),
        ({"dropped": {"what": 1}}, "account cannot be read"),
        ({"dropped": None}, "do not go together"),
    ],
)
def test_an_index_that_cannot_be_used(saved, change, message):
    change_index(saved, **change)
    with pytest.raises(DataError, match=message):
        PackedItemsets.load(saved)


def test_what_is_no_folder_of_packed_itemsets(tmp_path):
    with pytest.raises(DataError, match="no such file; name a folder of packed itemsets"):
        PackedItemsets.load(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes.txt', which is not of packed itemsets"):
        pack_itemsets(BASKETS).save(tmp_path)
    with pytest.raises(InputError, match="is a file; save to a folder"):
        pack_itemsets(BASKETS).save(tmp_path / "notes.txt")
    with pytest.raises(InputError, match="of type frozenset"):
        pack_itemsets([[frozenset("ab"), frozenset()]]).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", [-1, 3, 2**31 - 1])
def test_indices_of_no_label_are_refused_even_when_the_checksums_agree(saved, wrong):
    damage_array(saved, "indices", wrong)
    with pytest.raises(DataError, match=rf"indices has values from .*{wrong}|to {wrong}, where"):
        verify(saved)
    with pytest.raises(DataError, match="where they go from 0 to 2"):
        Item2Vec(vector_size=8, epochs=1).fit(PackedItemsets.load(saved))


@pytest.mark.parametrize(("wrong", "words"), [(-1, "goes from -1"), (99, "to 99"), (0, "falls")])
def test_offsets_that_leave_the_items_are_refused(saved, wrong, words):
    damage_array(saved, "offsets", wrong)
    with pytest.raises(DataError, match=f"offsets-.*{words}"):
        verify(saved)


def damage_array(folder, name, value):
    """Write another value into an array, and its checksums: as only a stranger does."""
    path = file_of(folder, name)
    array = np.load(path)
    array[2] = value
    np.save(path, array)
    index = json.loads((folder / INDEX).read_text())
    index["files"][name] = KIND.describe(path)
    change_index(folder, files=index["files"])


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<i4', 'fortran_order': False, 'shape': (3,",
        b"{'descr': '<i4', 'fortran_order': False, 'shape': (10**9,), }",
        b"{'descr': '<i4', 'fortran_order': False, 'shape': (-5,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (33,), }",
        b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (33,), }",
        b"{'descr': '<i4', 'fortran_order': 3, 'shape': (33,), }",
        b"{[]: 1}",
        b"0777",
        b"'\\d'",
        b"(" * 100,
    ],
)
def test_headers_that_are_none_are_refused_in_our_words(saved, header):
    path = file_of(saved, "indices")
    data = path.read_bytes()
    path.write_bytes(data[:10] + header.ljust(117) + b"\n" + data[128:])
    with pytest.raises(DataError, match=r"indices-.*cannot be read|do not go together"):
        PackedItemsets.load(saved)


def test_arrays_of_a_type_that_could_not_be_loaded_are_not_saved(tmp_path):
    packed = pack_itemsets(BASKETS)
    wide = dataclasses.replace(packed, indices=packed.indices.astype(np.int64))
    with pytest.raises(InputError, match=r"indices is of int64, which could not be .* pass int32"):
        wide.save(tmp_path / "data")
    assert not (tmp_path / "data").exists()


# --- saves that fail --------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("itemsets.write_parts", "folders.sync", "folders.replacing"):
        with monkeypatch.context() as patch:
            patch.setattr(f"itembed_gpu.disk.{place}", full)
            with pytest.raises(DataError, match="No space left on device; nothing was saved"):
                pack_itemsets([["z", "y"]]).save(saved)
        assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_ctrl_c_when_all_is_in_place_breaks_nothing(saved, monkeypatch):
    from itembed_gpu.disk import folders

    replacing = folders.replacing

    @contextlib.contextmanager
    def replace_and_interrupt(path):
        with replacing(path) as file:
            yield file
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "replacing", replace_and_interrupt)
    packed = pack_itemsets([["z", "y"]])
    with pytest.raises(KeyboardInterrupt):
        packed.save(saved)
    assert_equal(PackedItemsets.load(saved), packed)
    verify(saved)


SAVE = """
import sys, itertools, itembed_gpu as ig
for size in itertools.count(50):
    ig.pack_itemsets([range(size)] * 400).save(sys.argv[1])
    print(size, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_a_save_that_is_killed_leaves_a_whole_folder(tmp_path):
    folder = tmp_path / "data"
    generator = np.random.default_rng(0)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE, str(folder)], stdout=subprocess.PIPE, text=True
        )
        with process:
            process.stdout.readline()
            time.sleep(generator.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        verify(folder)
        loaded = PackedItemsets.load(folder)
        assert loaded.num_item == 400 * loaded.num_label >= 400 * 50


# --- large ------------------------------------------------------------------


def test_more_than_2_to_the_31_items_open_at_once(tmp_path):
    # A sparse file: it has the size, and takes no room.
    num_item = 2**31 + 10
    pack_itemsets([["a", "b"], ["a", "b"]]).save(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    offsets = np.array([0, 2, num_item - 2, num_item])
    for name, array in (("indices", None), ("offsets", offsets)):
        path = file_of(tmp_path, name)
        with path.open("wb") as file:
            if array is not None:
                np.save(file, array)
            else:
                header = {"descr": "<i4", "fortran_order": False, "shape": (num_item,)}
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + 4 * num_item)
        size = path.stat().st_size
        index["files"][name] |= {"size": size, "crc32": [0] * -(-size // BLOCK)}
    change_index(tmp_path, files=index["files"])
    began = time.perf_counter()
    loaded = PackedItemsets.load(tmp_path)
    assert time.perf_counter() - began < 1
    assert loaded.num_item == num_item
    assert loaded.offsets.dtype == np.int64
    assert loaded.indices[int(loaded.offsets[2]) :].tolist() == [0, 0]


# --- as a source ------------------------------------------------------------


def test_a_folder_is_read_as_a_file_is(saved):
    packed = read_itemsets(saved)
    assert isinstance(packed.indices, np.memmap)
    assert packed.source == str(saved)
    assert_equal(packed, PackedItemsets.load(saved))
    fewer = read_itemsets(saved, min_length=3)
    assert fewer.num_itemset == 5
    assert read_itemsets(saved, max_items=2).labels == ["b", "a"]
    with pytest.raises(InputError, match="no format and no columns"):
        read_itemsets(saved, item="x")

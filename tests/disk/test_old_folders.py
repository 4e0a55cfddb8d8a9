"""Folders that earlier versions wrote, put together by hand: they load, and are written alike."""

import hashlib
import json
import re
import struct
import zlib

import numpy as np
import pytest

from itembed_gpu.data.itemsets import Dropped, PackedItemsets
from itembed_gpu.models.embeddings import Embeddings
from itembed_gpu.models.verify import verify

LABELS = '{"types": ["str", "int"], "type_of": [0, 1], "labels": ["é", 7]}'.encode()
VECTORS = np.array([[1, 2, 3], [4, 5, 6]], dtype="<f4").tobytes()
COUNTS = np.array([9, 8], dtype="<i8").tobytes()


def safetensors():
    """The file as its format says: the length of a header in JSON, the header, the arrays."""
    header = json.dumps(
        {
            "counts": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
            "vectors": {"dtype": "F32", "shape": [2, 3], "data_offsets": [16, 40]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + COUNTS + VECTORS


@pytest.fixture
def embeddings(tmp_path):
    files = {"labels-000004.json": LABELS, "vectors-000004.safetensors": safetensors()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    index = {
        "format": "itembed_gpu.embeddings",
        "version": 1,
        "generation": 4,
        "files": {
            name.partition("-")[0]: {
                "name": name,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in files.items()
        },
        "metadata": {"mine": ["ü", None]},
    }
    (tmp_path / "embeddings.json").write_text(json.dumps(index, indent=2))
    return tmp_path


def test_embeddings_load(embeddings):
    loaded = Embeddings.load(embeddings)
    assert loaded.labels == ["é", 7]
    assert loaded.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert loaded.counts.tolist() == [9, 8]
    assert loaded.context is None
    assert loaded.metadata == {"mine": ["ü", None]}


def test_embeddings_are_written_alike(embeddings):
    loaded = Embeddings.load(embeddings)
    index = json.loads((embeddings / "embeddings.json").read_text())
    loaded.save(embeddings)
    written = json.loads((embeddings / "embeddings.json").read_text())
    names = {role: record["name"] for role, record in written["files"].items()}
    assert {path.name for path in embeddings.iterdir()} == {"embeddings.json", *names.values()}
    # As digits, what tells writers apart is part of the number to an earlier version.
    assert re.fullmatch(r"labels-000005\d{12}\.json", names["labels"])
    assert (embeddings / names["labels"]).read_bytes() == LABELS
    index["generation"] = 5
    for role, name in names.items():
        data = (embeddings / name).read_bytes()
        index["files"][role] = {
            "name": name,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    text = json.dumps(index, sort_keys=True, separators=(",", ":"))
    assert written == {**index, "checksum": hashlib.sha256(text.encode()).hexdigest()}


def npy(array):
    """The file as NumPy's format says, version 1.0: a header padded to 64 bytes, the array."""
    header = str({"descr": array.dtype.str, "fortran_order": False, "shape": array.shape})
    header += " " * (-(11 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.tobytes()


def test_packed_itemsets_load(tmp_path):
    arrays = {
        "indices": np.array([0, 1, 0], dtype="<i4"),
        "offsets": np.array([0, 2, 3], dtype="<i4"),
        "counts": np.array([2, 1], dtype="<i8"),
        "weights": np.array([1, 0.5, 2], dtype="<f4"),
    }
    files = {f"{name}-000001.npy": npy(array) for name, array in arrays.items()}
    files["labels-000001.json"] = LABELS
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    index = {
        "format": "itembed_gpu.itemsets",
        "version": 1,
        "generation": 1,
        "block": 64,  # some blocks a file
        "files": {
            name.partition("-")[0]: {
                "name": name,
                "size": len(data),
                "crc32": [zlib.crc32(data[i : i + 64]) for i in range(0, len(data), 64)],
            }
            for name, data in files.items()
        },
        "dropped": {"itemsets_read": 2, "items_read": 4, "rare_labels": 1, "rare_items": 1},
    }
    (tmp_path / "itemsets.json").write_text(json.dumps(index))
    loaded = PackedItemsets.load(tmp_path)
    loaded.verify()
    assert str(verify(tmp_path)).endswith(
        "(the index is of an earlier version, which has no checksum)"
    )
    assert loaded.labels == ["é", 7]
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert loaded.dropped == Dropped(2, 4, rare_labels=1, rare_items=1)

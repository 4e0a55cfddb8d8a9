"""Packing by the workers of a cluster gives the folder that one machine does, to the byte."""

import json

import pytest
from samples import contents
from test_out_of_memory import LIMITS, NAMES, rows_of, write

from itembed_gpu import pack_files, read_itemsets
from itembed_gpu.disk.itemsets import KIND

distributed = pytest.importorskip("distributed")

MEMORY = 1 << 20


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def sums(folder):
    """What the index says of the files, without their names, and of what was dropped."""
    index = json.loads((folder / KIND.index).read_bytes())
    files = {name: {**known, "name": ""} for name, known in index["files"].items()}
    return {**index, "files": files, "checksum": ""}


def same(client, tmp_path, source, **options):
    """Pack with and without workers, and compare the folders, and what is said of them."""
    expected = read_itemsets(source, **options)
    expected.save(tmp_path / "expected")
    packed = pack_files(source, tmp_path / "packed", memory=MEMORY, client=client, **options)
    assert packed.source == expected.source
    assert packed.account == expected.account
    assert [*map(type, packed.labels)] == [*map(type, expected.labels)]
    assert contents(tmp_path / "packed") == contents(tmp_path / "expected")
    assert sums(tmp_path / "packed") == sums(tmp_path / "expected")
    assert list(tmp_path.glob(".*")) == []
    packed.verify()
    return packed


def in_files(frame, folder, suffix=".parquet", number=5):
    """Write a table in files of different sizes, some of which may be empty."""
    folder.mkdir(exist_ok=True)
    for n in range(number):
        start, stop = (len(frame) * x * x // number**2 for x in (n, n + 1))
        write(frame[start:stop], folder / f"{n}{suffix}")
    return folder


@pytest.mark.parametrize("limits", LIMITS)
def test_the_folder_is_the_same(client, tmp_path, limits):
    same(client, tmp_path, in_files(rows_of(), tmp_path / "rows"), **NAMES, **limits)

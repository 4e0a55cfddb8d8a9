"""Packing by the workers of a cluster gives the folder that one machine does, to the byte."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars
import pytest
from fsspec.implementations.local import LocalFileSystem
from samples import contents
from test_out_of_memory import LIMITS, NAMES, rows_of, write

from itembed_gpu import DataError, InputError, pack_files, read_itemsets
from itembed_gpu.data import spill_files
from itembed_gpu.disk.itemsets import KIND

distributed = pytest.importorskip("distributed")

MEMORY = 1 << 20


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
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


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".arrow"])
def test_of_every_format(client, tmp_path, suffix):
    frame = rows_of(2000, 300).with_columns(product=polars.format("p{}", "product"))
    same(client, tmp_path, in_files(frame, tmp_path / "rows", suffix), **NAMES)


@pytest.mark.parametrize(
    "options", [{}, {"weight": "amount", "duplicates": "sum", "max_length": 3, "seed": 2}]
)
def test_lists(client, tmp_path, options):
    frame = rows_of(2000, 300).drop_nulls("basket")
    lists = frame.group_by("basket", maintain_order=True).agg("product", "amount")
    same(client, tmp_path, in_files(lists, tmp_path / "rows"), item="product", **options)


@pytest.mark.parametrize("options", [{}, {"min_length": 2, "duplicates": "drop", "max_length": 3}])
def test_lines(client, tmp_path, options):
    generator = np.random.default_rng(0)
    for n in range(3):
        lines = (generator.integers(0, 99, generator.integers(1, 7)) for _ in range(500))
        text = "\n".join(" ".join(f"w{word}" for word in line) for line in lines)
        (tmp_path / f"{n}.txt").write_text(text)
    same(client, tmp_path, tmp_path / "*.txt", **options)


def test_integers_of_several_sizes_are_the_same_items(client, tmp_path):
    (tmp_path / "rows").mkdir()
    for n, dtype in enumerate((polars.Int32, polars.UInt64, polars.Null)):
        frame = polars.DataFrame({"basket": np.arange(60) // 3 + 5 * n, "product": np.arange(60)})
        kept = frame["product"] if dtype != polars.Null else polars.Series([None] * 60)
        frame = frame.with_columns(polars.col("basket").cast(polars.Int64), kept.cast(dtype))
        write(frame, tmp_path / "rows" / f"{n}.parquet")
    same(client, tmp_path, tmp_path / "rows")


BAD = {
    "cut.csv": ("basket,product\n1,2\n1\n", r"cut.csv, line 3: 1 field"),
    "other.csv": ("a,b\n1,2\n", r"other.csv: there is no column 'basket'"),
    "torn.parquet": ("PAR1", r"torn.parquet: cannot be read: parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_nothing_is_left(client, tmp_path, name):
    content, reason = BAD[name]
    suffix = name.partition(".")[2]
    folder = in_files(rows_of(500, 50), tmp_path / "rows", f".{suffix}", 2)
    (folder / name).write_text(content)
    told = []
    for one in (None, client):
        with pytest.raises((DataError, InputError), match=reason) as error:
            pack_files(folder, tmp_path / "packed", memory=MEMORY, client=one)
        told.append(str(error.value))
    assert told[0] == told[1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows"]


def fail_to_append(column, values):
    raise OSError(28, "No space left on device")


def fill_disk():
    spill_files.Column.kept = spill_files.Column.append
    spill_files.Column.append = fail_to_append


def empty_disk():
    spill_files.Column.append = spill_files.Column.kept


def test_a_full_disk_of_a_worker_leaves_nothing(client, tmp_path):
    folder = in_files(rows_of(500, 50), tmp_path / "rows")
    client.run(fill_disk)
    try:
        with pytest.raises(DataError, match=r"packed: cannot be written: No space left on device"):
            pack_files(folder, tmp_path / "packed", memory=MEMORY, client=client)
    finally:
        client.run(empty_disk)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows"]


def register_shared():
    from fsspec import register_implementation

    register_implementation("shared", "test_workers.Shared", clobber=True)


class Shared(LocalFileSystem):
    """A file system that all workers see, by another name than that of the disk."""

    protocol = "shared"

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("shared://").strip("/")

    def unstrip_protocol(self, name):
        return f"shared://{name}"


def test_files_elsewhere_are_copied_where_they_are_read(client, tmp_path):
    folder = in_files(rows_of(2000, 300), tmp_path / "rows")
    register_shared()
    client.run(register_shared)
    packed = same(client, tmp_path, f"shared://{folder}", **NAMES)
    assert packed.source.startswith("shared://")
    (folder / "3.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"^shared://\S+/rows/3.parquet: cannot be read: parquet"):
        pack_files(f"shared://{folder}", tmp_path / "packed", client=client, **NAMES)


def test_what_cannot_be_had_is_refused(client, tmp_path):
    path = write(rows_of(500, 50), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=r"client is 8; pass a distributed\.Client"):
        pack_files(path, tmp_path / "packed", client=8)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe.csv: is a pipe"):
        pack_files(tmp_path / "pipe.csv", tmp_path / "packed", client=client)


def kill_in_the_middle(process, folder):
    """Kill a process once itemsets are brought together; return whether that came."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if list(folder.glob(".packed.*.spill/group-*")):
            os.kill(process, signal.SIGKILL)
            return True
        time.sleep(0.001)
    return False


def test_a_worker_that_is_killed_is_no_loss(client, tmp_path):
    victim = next(iter(client.run(os.getpid).values()))
    rows = in_files(rows_of(), tmp_path / "rows")
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_in_the_middle, victim, tmp_path)
        same(client, tmp_path, rows, **NAMES, max_length=3)
        assert killed.result()

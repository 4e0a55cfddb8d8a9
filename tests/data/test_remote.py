"""Files that have a URL are read as files of a disk are; `memory://` stands for object stores."""

import sys
from pathlib import Path

import polars
import pytest
from samples import contents
from test_out_of_memory import NAMES, rows_of, write

from itembed_gpu import DataError, InputError, MissingExtraError, pack_files, read_itemsets
from itembed_gpu.data.remote import Url, as_path

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def rows(tmp_path):
    """A folder of partitions on the disk and in memory, with files beside that are no data."""
    frame = rows_of(3000, 400)
    memory = fsspec.filesystem("memory")
    for n in range(3):
        folder = tmp_path / "rows" / f"day={n}"
        folder.mkdir(parents=True)
        write(frame[n * 1000 : (n + 1) * 1000], folder / f"part-{n}.parquet")
    (tmp_path / "rows" / "_SUCCESS").write_text("")
    memory.put(str(tmp_path / "rows"), "/rows", recursive=True)
    yield tmp_path / "rows"
    memory.rm("/rows", recursive=True)


def test_a_url_is_no_path():
    assert type(as_path("s3://bucket/a/b.csv")) is Url
    assert str(as_path("s3://bucket/a/b.csv")) == "s3://bucket/a/b.csv"
    assert str(as_path(Path("s3://bucket/a/b.csv"))) == "s3://bucket/a/b.csv"
    assert as_path("file:///a/b%20c.csv") == Path("/a/b c.csv")
    assert type(as_path("c:/a.csv")) is type(Path("a"))


@pytest.mark.parametrize("pattern", ["", "/*", "/*/*.parquet"])
def test_a_folder_or_a_pattern_is_read_as_on_a_disk(rows, tmp_path, pattern):
    expected = read_itemsets(f"{rows}{pattern}", **NAMES)
    expected.save(tmp_path / "expected")
    for url in (f"memory://rows{pattern}", f"file://{rows}{pattern}"):
        packed = pack_files(url, tmp_path / "packed", **NAMES)
        assert contents(tmp_path / "packed") == contents(tmp_path / "expected")
        assert packed.source.startswith(f"{url.removeprefix('file://')} (itemset column")
    assert list(read_itemsets("memory://rows", itemset="day", item="product").labels)


def test_a_compressed_csv(tmp_path):
    frame = rows_of(300, 40)
    with fsspec.open("memory://a/rows.csv.gz", "wb", compression="gzip") as file:
        frame.write_csv(file)
    found = read_itemsets("memory://a/rows.csv.gz", **NAMES)
    expected = read_itemsets(write(frame, tmp_path / "rows.csv"), **NAMES)
    assert found.labels == expected.labels
    assert found.indices.tolist() == expected.indices.tolist()


def test_errors_name_the_url(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"^memory://none/a.csv: cannot be read"):
        read_itemsets("memory://none/a.csv")
    with pytest.raises(DataError, match=r"^nosuch://a/b.csv: cannot be read: Protocol not known"):
        read_itemsets("nosuch://a/b.csv")
    with fsspec.open("memory://bad/torn.parquet", "wb") as file:
        file.write(b"PAR1")
    with pytest.raises(DataError, match=r"^memory://bad/torn.parquet: cannot be read"):
        read_itemsets("memory://bad/torn.parquet")
    path = write(polars.DataFrame({"basket": [1, 1], "product": [2, 3]}), tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"s3://bucket/out is no folder of a disk"):
        pack_files(path, "s3://bucket/out")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"needs fsspec: pip install"):
        read_itemsets("memory://bad/torn.parquet")

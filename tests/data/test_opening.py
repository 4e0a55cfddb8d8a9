"""Files are opened whatever they are compressed with, come by or are encoded in."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from itertools import pairwise

import pytest

from itembed_gpu.data import out_of_memory
from itembed_gpu.data.opening import likely_encodings
from itembed_gpu.data.out_of_memory import pack_files
from itembed_gpu.data.readers import read_itemset_ids, read_itemsets
from itembed_gpu.errors import DataError, InputError

polars = pytest.importorskip("polars", reason="tables are read with the extra 'data'")

TEXTS = {
    "text": "tea cup\ncup\n",
    "csv": "o,i\n1,tea\n1,cup\n2,cup\n",
    "ndjson": '{"o":1,"i":"tea"}\n{"o":1,"i":"cup"}\n{"o":2,"i":"cup"}\n',
}
SUFFIX = {"text": ".txt", "csv": ".csv", "ndjson": ".ndjson"}


def itemsets_of(packed):
    names = [packed.labels[index] for index in packed.indices]
    return [names[a:b] for a, b in pairwise(packed.offsets)]


@pytest.fixture(autouse=True)
def _no_temporary_file_stays(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [*folder.iterdir()] == []


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.csv", data)
    return buffer.getvalue()


COMPRESS = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped,
    ".zst": None,
}  # fmt: skip


def compressed(text, suffix, tmp_path):
    if suffix != ".zst":
        return COMPRESS[suffix](text.encode())
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.output_stream(str(tmp_path / "made.zst"), compression="zstd") as stream:
        stream.write(text.encode())
    return (tmp_path / "made.zst").read_bytes()


class TestCompression:
    @pytest.mark.parametrize("suffix", COMPRESS)
    @pytest.mark.parametrize("format", TEXTS)
    def test_of_every_kind(self, tmp_path, format, suffix):
        path = tmp_path / f"a{SUFFIX[format]}{suffix}"
        path.write_bytes(compressed(TEXTS[format], suffix, tmp_path))
        assert itemsets_of(read_itemsets(path)) == [["tea", "cup"], ["cup"]]

    @pytest.mark.parametrize("suffix", COMPRESS)
    @pytest.mark.parametrize("format", TEXTS)
    def test_what_is_cut_is_refused(self, tmp_path, format, suffix):
        path = tmp_path / f"a{SUFFIX[format]}{suffix}"
        text = TEXTS[format] + "".join(str(n * n) for n in range(5000))
        path.write_bytes(compressed(text, suffix, tmp_path)[:-30])
        with pytest.raises(DataError, match=rf"a.*{suffix}: (damaged|cannot be read: Truncated)"):
            read_itemsets(path)

    def test_an_archive_of_several_files(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
            for name in ("a.csv", "b.csv", "__MACOSX/a.csv"):
                archive.writestr(name, TEXTS["csv"])
        with pytest.raises(InputError, match="holds 2 files, where one is read"):
            read_itemsets(tmp_path / "a.csv.zip")

    def test_an_archive_that_is_encrypted(self, tmp_path):
        data = bytearray(zipped(TEXTS["csv"]))
        data[6] |= 1  # the flag that says so, there and in the directory
        data[data.index(b"PK\1\2") + 8] |= 1
        (tmp_path / "a.csv.zip").write_bytes(data)
        with pytest.raises(DataError, match=r"a.csv.zip: cannot be read: .*encrypted"):
            read_itemsets(tmp_path / "a.csv.zip")

    def test_without_pyarrow_polars_reads_zstandard(self, tmp_path, monkeypatch):
        path = tmp_path / "a.csv.zst"
        polars.DataFrame({"o": [1, 1], "i": ["tea", "cup"]}).write_csv(path, compression="zstd")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        if sys.version_info < (3, 14):
            assert read_itemsets(path).labels == ["tea", "cup"]


class TestPipes:
    @pytest.mark.parametrize("format", TEXTS)
    def test_a_pipe_is_read_once(self, tmp_path, format):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        for read in (read_itemsets, lambda path, **kw: pack_files(path, tmp_path / "out", **kw)):
            writer = threading.Thread(target=path.write_text, args=(TEXTS[format],))
            writer.start()
            packed = read(path, format=format)
            writer.join()
            assert itemsets_of(packed) == [["tea", "cup"], ["cup"]]

    def test_the_standard_input_of_any_compression(self):
        script = (
            "import itembed_gpu; packed = itembed_gpu.read_itemsets('-', format='csv'); "
            "print(packed.labels, packed.source)"
        )
        data = bz2.compress(TEXTS["csv"].encode())
        done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True)
        assert done.stdout.decode().startswith("['cup', 'tea'] standard input (itemset column 'o'")

    def test_its_format_has_to_be_told(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"tea cup\ncup\n")))
        with pytest.raises(InputError, match="standard input: there is no suffix that tells"):
            read_itemsets("-")


@pytest.mark.parametrize("name", ["a.csv.gz", "odd.csv", "several.csv"])
def test_no_room_for_temporary_files(tmp_path, monkeypatch, name):
    content = {"a.csv.gz": gzip.compress(TEXTS["csv"].encode()), "odd.csv": b'o,i\n\n1,"a"\n'}
    (tmp_path / name).write_bytes(content.get(name, b"o::i\n1::a\n"))
    separator = "::" if name == "several.csv" else None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"a temporary file cannot be written: No such.*TMPDIR"):
        read_itemsets(tmp_path / name, separator=separator)


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "big5", "utf-8-sig"])
    @pytest.mark.parametrize("format", TEXTS)
    def test_of_every_kind(self, tmp_path, format, encoding):
        word = "茶" if encoding == "big5" else "thé"
        path = tmp_path / f"a{SUFFIX[format]}"
        path.write_bytes(TEXTS[format].replace("tea", word).encode(encoding))
        packed = read_itemsets(path, encoding=encoding)
        assert itemsets_of(packed) == [[word, "cup"], ["cup"]]

    def test_another_line_is_named(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(TEXTS["csv"].encode() + b"3,\x81\n")
        with pytest.raises(DataError, match="line 5: byte 0x81 is not cp1252"):
            read_itemsets(path, encoding="cp1252")

    def test_one_that_python_has_not(self, tmp_path):
        for encoding in ("utf-9", "hex", "undefined"):
            with pytest.raises(InputError, match=f"encoding is '{encoding}'; give one"):
                read_itemsets(tmp_path / "a.csv", encoding=encoding)

    @pytest.mark.parametrize(
        ("text", "encoding", "likely"),
        [
            ("thé au café", "latin-1", ["cp1252", "latin-1"]),
            ("茶,會員卡號", "big5", "big5"),
            ("thé", "utf-16", ["utf-16"]),
            ("tea and cups", "utf-16-be", ["utf-16-be"]),
        ],
    )
    def test_those_that_are_likely_are_told(self, tmp_path, text, encoding, likely):
        found = likely_encodings(text.encode(encoding))
        assert found == likely or found[0] == likely
        (tmp_path / "a.txt").write_bytes(text.encode(encoding))
        with pytest.raises(DataError, match=rf"line 1.*--encoding\): perhaps {found[0]}"):
            read_itemsets(tmp_path / "a.txt")


class TestFolders:
    @pytest.fixture
    def table(self):
        return polars.DataFrame({"o": [1, 1], "i": ["a", "b"]})

    def test_what_spark_writes_beside_is_passed_over(self, tmp_path, table):
        table.write_parquet(tmp_path / "part-0.snappy.parquet")
        for name in ("_SUCCESS", "_committed_12", ".part-0.snappy.parquet.crc", "b.crc"):
            (tmp_path / name).write_bytes(b"x")
        for source in (tmp_path, tmp_path / "*"):
            assert read_itemsets(source).num_item == 2
        table.write_parquet(tmp_path / "_1.parquet")
        assert read_itemsets(tmp_path).num_item == 4

    @pytest.mark.parametrize("spilled", [False, True])
    def test_partitions_are_columns(self, tmp_path, table, monkeypatch, spilled):
        monkeypatch.setattr(out_of_memory, "_fits", lambda *_: not spilled)
        root = tmp_path / "sales"
        for day, town in ((2, "S%C3%A3o"), (10, "S%C3%A3o"), (10, "x=y")):
            folder = root / f"day={day}" / f"town={town}"
            folder.mkdir(parents=True)
            table.write_parquet(folder / "a.parquet")
        (root / "_temporary").mkdir()

        def read(**roles):
            return pack_files(root, tmp_path / "packed", **roles)

        # Not taken unless they are asked for.
        assert itemsets_of(read()) == [["a", "b"] * 3]
        assert itemsets_of(read(itemset="day", item="i")) == [["a", "b"] * 2, ["a", "b"]]
        assert sorted(read(item="town").labels) == ["São", "x=y"]
        assert read(itemset="o", item="day").labels == [10, 2]
        assert read_itemset_ids(root, itemset="day") == ["10", "2"]

    @pytest.mark.parametrize("kind", [int, float, "decimal"])
    def test_ids_of_itemsets_are_those_of_every_type(self, tmp_path, kind):
        dtype = polars.Decimal(10, 2) if kind == "decimal" else kind
        frame = polars.DataFrame({"o": [7, 12], "i": ["a", "b"]}).cast({"o": dtype})
        frame.write_parquet(tmp_path / "a.parquet")
        assert read_itemset_ids(tmp_path / "a.parquet") == ["7", "12"]

    def test_a_missing_partition(self, tmp_path, table):
        folder = tmp_path / "sales" / "day=__HIVE_DEFAULT_PARTITION__"
        folder.mkdir(parents=True)
        table.write_csv(folder / "a.csv")
        with pytest.raises(DataError, match="2 None items"):
            read_itemsets(tmp_path / "sales", itemset="o", item="day")

"""Saved folders and word2vec files: round trips, interruption, damage, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import uuid
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings, strategies as st

from itembed_gpu.disk import folders
from itembed_gpu.disk.embeddings import KIND
from itembed_gpu.disk.folders import Kind, sealed
from itembed_gpu.errors import DataError, InputError
from itembed_gpu.models.embeddings import Embeddings


def table(n, dimension=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dimension), dtype=np.float32)


def names(n):
    return [f"item-{i}" for i in range(n)]


def same(a, b):
    """Whether two Embeddings hold the same, bit by bit, label types included."""

    def equal(x, y):
        if x is None or y is None:
            return x is y
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()

    return (
        a.labels == b.labels
        and list(map(type, a.labels)) == list(map(type, b.labels))
        and all(equal(getattr(a, k), getattr(b, k)) for k in ("vectors", "context", "counts"))
        and a.metadata == b.metadata
    )


# ------------------------------------------------------------ save and load


def test_a_file_is_summed_up_while_the_next_is_written(tmp_path, monkeypatch):
    summed_up = threading.Event()

    def digest(path, *, real=folders._digest):
        summed_up.set()
        return real(path)

    def write_late(path):
        assert summed_up.wait(30)
        path.write_bytes(b"vectors")

    monkeypatch.setattr(folders, "_digest", digest)
    files = {"labels": lambda path: path.write_bytes(b"[]"), "vectors": write_late}
    KIND.write(tmp_path / "saved", files, {})
    index = KIND.read_index(tmp_path / "saved")
    for name, content in (("labels", b"[]"), ("vectors", b"vectors")):
        assert index["files"][name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert KIND.verified(tmp_path / "saved", index, name).read_bytes() == content


def test_what_is_saved_as_the_program_ends_is_there(tmp_path):
    code = """if True:
        import atexit, sys
        from itembed_gpu import Embeddings
        embeddings = Embeddings(["a", "b"], [[1, 2], [3, 4]])
        atexit.register(embeddings.save, sys.argv[1])
    """
    folder = tmp_path / "saved"
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Embeddings.load(folder)["b"].tolist() == [3, 4]


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


def example(seed=0, n=5):
    return Embeddings(
        names(n),
        table(n, seed=seed),
        context=table(n, seed=seed + 1),
        counts=np.arange(n),
        metadata={"seed": seed, "nested": {"été": [1.5, None, True]}},
    )


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
LABELS = st.one_of(
    TEXTS,
    st.sampled_from(
        ["", "\n", "\x00", "a b", "\u2028", '"', "\\", "\uff11", "\U0001f600", "é", "e\u0301"]
    ),
    st.integers(),
    st.integers(2**63, 2**70),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=OFFSETS),
    st.datetimes(timezones=st.timezones(), allow_imaginary=False),
    st.times(),
    st.times(timezones=OFFSETS),
    st.timedeltas(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.binary(max_size=8),
    st.decimals(allow_nan=False),
    st.uuids(),
)
LABELS = LABELS | st.lists(LABELS | st.lists(LABELS, max_size=2).map(tuple), max_size=3).map(tuple)
TABLES = st.one_of(*(st.lists(kind, unique=True, max_size=12) for kind in (TEXTS, LABELS)))


@settings(deadline=None, max_examples=80)
@given(labels=TABLES, parts=st.sets(st.sampled_from(["context", "counts"])), seed=st.integers(0, 9))
def test_save_and_load_round_trip(labels, parts, seed):
    full = example(seed, len(labels))
    emb = Embeddings(labels, full.vectors, **{part: getattr(full, part) for part in parts})
    with tempfile.TemporaryDirectory() as folder:
        emb.save(folder)
        assert same(Embeddings.load(folder), emb)


@pytest.mark.parametrize("microseconds", [1, -1, 999_999, -999_999, 1_000_001])
def test_a_time_zone_off_by_a_fraction_of_a_second(tmp_path, microseconds):
    zone = timezone(timedelta(microseconds=microseconds))
    emb = Embeddings([datetime(2024, 1, 1, tzinfo=zone)], table(1))
    emb.save(tmp_path)
    assert same(Embeddings.load(tmp_path), emb)


EXACT = [
    0.1, 5e-324, float("inf"), -0.0, 1.0, False, b"", b"\x00\xff", (), ("a", (1.0, (b"x",))),
    Decimal("1.10"), Decimal("-Infinity"), Decimal("1E+999999"), time(1, 2, 3, 4, fold=1),
    time(1, tzinfo=timezone(timedelta(microseconds=1))), time(1, tzinfo=ZoneInfo("Asia/Tokyo")),
    timedelta.min, timedelta.max, timedelta(0, 0, -1), datetime(2024, 1, 1, fold=1),
    datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), datetime.max,
]  # fmt: skip


@pytest.mark.parametrize("label", EXACT, ids=repr)
def test_labels_of_every_type_come_back_to_the_last_digit(tmp_path, label):
    Embeddings([label], table(1)).save(tmp_path)
    (found,) = Embeddings.load(tmp_path).labels
    assert type(found) is type(label)
    # Of numbers and moments that are equal, one may be another: 1.1 and 1.10, and summer time.
    assert repr(found) == repr(label)
    assert Embeddings.load(tmp_path).index(label) == 0


def test_extreme_values_come_back_bit_by_bit(tmp_path):
    extremes = np.array([[0.0, -0.0, 1e-45, 3.4028235e38, 1.17549435e-38, 0.1]], np.float32)
    emb = Embeddings([10**4000], extremes, counts=[2**63 - 1])
    emb.save(tmp_path)
    assert same(Embeddings.load(tmp_path), emb)


def test_saving_again_advances_the_generation_and_removes_the_old_one(tmp_path):
    folder = tmp_path / "deep" / "er"
    for generation in (1, 2, 3):
        emb = example(seed=generation)
        emb.save(folder)
        index, *files = listing(folder)
        assert index == "embeddings.json"
        patterns = (
            rf"labels-{generation:06}\d+\.json",
            rf"vectors-{generation:06}\d+\.safetensors",
        )
        assert len(files) == 2
        assert all(map(re.fullmatch, patterns, files))
        assert same(Embeddings.load(folder), emb)


def test_a_loaded_table_can_be_saved_over_itself(tmp_path):
    example().save(tmp_path)
    loaded = Embeddings.load(tmp_path)
    loaded.vectors *= 2
    loaded.save(tmp_path)
    np.testing.assert_array_equal(Embeddings.load(tmp_path).vectors, 2 * example().vectors)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_all_files_follow_the_umask(tmp_path):
    example().save(tmp_path / "folder")
    example().to_word2vec(tmp_path / "w.txt")
    mask = os.umask(0)
    os.umask(mask)
    for file in [*(tmp_path / "folder").iterdir(), tmp_path / "w.txt"]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask, file


class Interrupter:
    """Raises at one of the calls that touch the disk: before it, half done, or after it."""

    def __init__(self, monkeypatch, error):
        self.error = error
        self.calls = 0
        self.at, self.moment = None, None
        for owner, name in (
            (Path, "mkdir"),
            (Path, "write_bytes"),
            (Path, "unlink"),
            (safetensors.numpy, "save_file"),
            (shutil, "copymode"),
            (hashlib, "file_digest"),
            (os, "fsync"),
            (os, "replace"),
        ):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def arm(self, call, moment):
        self.calls, self.at, self.moment = 0, call, moment

    def wrap(self, function):
        def wrapped(*arguments, **keywords):
            self.calls += 1
            due = self.calls - 1 == self.at
            if due and self.moment == "before":
                raise self.error
            result = function(*arguments, **keywords)
            if due and self.moment == "half":
                halve(arguments)
            if due:
                raise self.error
            return result

        return wrapped


def halve(arguments):
    """Truncate the data file that a call has just written, if it has."""
    for argument in arguments:
        if isinstance(argument, Path) and argument.name.startswith(("labels-", "vectors-")):
            if argument.is_file():
                os.truncate(argument, argument.stat().st_size // 2)
            return


def loaded(folder, states):
    """The name of the state that the folder loads as, every bit of it; "none" if it does not."""
    try:
        found = Embeddings.load(folder)
    except DataError:
        return "none"
    (name,) = (name for name, state in states.items() if same(found, state))
    return name


@pytest.mark.parametrize("moment", ["before", "half", "after"])
@pytest.mark.parametrize("error", [Killed(), OSError("disk full")], ids=["killed", "disk-full"])
@pytest.mark.parametrize("before", ["none", "old"])
def test_an_interrupted_save_loses_nothing(tmp_path, monkeypatch, moment, error, before):
    states = {"old": example(seed=1), "new": example(seed=2, n=7)}
    interrupter = Interrupter(monkeypatch, error)
    outcomes = []
    for call in range(100):
        folder = tmp_path / str(call)
        if before == "old":
            states["old"].save(folder)
        interrupter.arm(call, moment)
        try:
            states["new"].save(folder)
            finished = True
        except (Killed, OSError):
            finished = False
        calls = interrupter.calls
        interrupter.arm(None, None)
        outcomes.append(loaded(folder, states))
        assert outcomes[-1] in (("new",) if finished else (before, "new"))
        states["old"].save(folder)
        assert loaded(folder, states) == "old"
        assert len(listing(folder)) == 3, "what the interrupted save left is removed"
        if calls <= call:
            break  # there is no such call: this save was not interrupted, and the last to try
    assert outcomes.count(before) >= 8
    assert outcomes.count("new") >= 2
    if isinstance(error, Killed):  # not so for an OSError that a save can live with
        assert outcomes == sorted(outcomes, key=[before, "new"].index), "old, then new for good"


def test_a_process_that_dies_while_it_saves(tmp_path):
    """The same for real, once: the process ends in the middle, with no handler run."""
    folder = tmp_path / "saved"
    example(seed=1).save(folder)
    code = (
        "import os, sys; from itembed_gpu.models.embeddings import Embeddings;"
        "os.replace = lambda *_: os._exit(9);"
        "Embeddings(['x'], [[1.0]]).save(sys.argv[1])"
    )
    died = subprocess.run([sys.executable, "-c", code, str(folder)], timeout=60, check=False)
    assert died.returncode == 9
    assert len(listing(folder)) == 6
    assert same(Embeddings.load(folder), example(seed=1))
    example(seed=2).save(folder)
    assert len(listing(folder)) == 3


def test_load_survives_a_save_that_ends_meanwhile(tmp_path, monkeypatch):
    example(seed=1).save(tmp_path)
    read_index = Kind.read_index
    reads = []

    def read_then_overwritten(self, folder):
        index = read_index(self, folder)
        reads.append(index["generation"])
        if len(reads) == 1:
            monkeypatch.setattr(Kind, "read_index", read_index)
            example(seed=2).save(folder)
            monkeypatch.setattr(Kind, "read_index", read_then_overwritten)
        return index

    monkeypatch.setattr(Kind, "read_index", read_then_overwritten)
    assert same(Embeddings.load(tmp_path), example(seed=2))
    assert reads[0] == 1
    assert reads[-1] == 2


class Text(str):
    __slots__ = ()


class Zone(tzinfo):
    """One of its own, which no name stands for."""

    def utcoffset(self, moment):
        return timedelta(hours=1)


def nested(depth):
    label = ()
    for _ in range(depth):
        label = (label,)
    return label


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (float("nan"), "equals no label, not even itself"),
        (Decimal("NaN"), "equals no label, not even itself"),
        (1j, "1j in row 1 is of type complex"),
        (None, "None in row 1 is of type NoneType"),
        (("a", (1, None)), r"\(1, None\) holds None, which is of type NoneType"),
        (("a", "\ud800"), "in row 1 holds a lone surrogate"),
        pytest.param(nested(5_000), "convert such labels to str", id="deep"),
        (frozenset("a"), "type frozenset"),
        (Text("a"), "type Text"),
        (np.timedelta64(1, "Y"), "type timedelta64"),
        ("\ud800", "lone surrogate"),
        ("\ud83d\ude00", "lone surrogate"),
        pytest.param(10**5000, "convert such labels to str", id="huge"),
        (datetime(2024, 1, 1, tzinfo=Zone()), "in a time zone of type Zone.*astimezone"),
    ],
)
def test_labels_that_cannot_be_saved_are_refused_before_anything_is_written(tmp_path, label, words):
    with pytest.raises(InputError) as caught:
        Embeddings(["first", label], table(2)).save(tmp_path / "new")
    assert re.search(words, str(caught.value))
    assert listing(tmp_path) == []


def test_values_spoilt_after_construction_are_not_saved(tmp_path):
    example().save(tmp_path)
    before = listing(tmp_path)
    not_finite, not_json = example(), example()
    not_finite.context[2] = np.nan
    not_json.metadata["a"] = object()
    for spoilt, words in ((not_finite, "context: row 2"), (not_json, "metadata: ")):
        with pytest.raises(InputError, match=words):
            spoilt.save(tmp_path)
        assert listing(tmp_path) == before


def test_save_refuses_what_is_not_its_own(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        example().save(file)
    with pytest.raises(InputError, match="holds 'file', which is not of embeddings"):
        example().save(tmp_path)
    assert listing(tmp_path) == ["file"]
    assert file.read_text() == "mine"

    for text in (
        '{"mine": 1}',
        "not json",
        '{"format": "itembed_gpu.embeddings", "version": 99}',
    ):
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        (folder / "embeddings.json").write_text(text)
        with pytest.raises(InputError, match="would be lost"):
            example().save(folder)
        assert listing(folder) == ["embeddings.json"]
        assert (folder / "embeddings.json").read_text() == text


def test_notes_beside_a_saved_table_stay(tmp_path):
    example(seed=1).save(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    example(seed=2).save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert len(listing(tmp_path)) == 4


def refused(folder, *words):
    with pytest.raises(DataError) as caught:
        Embeddings.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_load_names_what_is_missing_or_no_json(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "no such folder")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "file", "not a folder")
    (tmp_path / "folder").mkdir()
    index = tmp_path / "folder" / "embeddings.json"
    refused(index.parent, "embeddings.json", "no such file")
    for text in ("", "{", "\udc80", "[" * 100_000):
        index.write_bytes(text.encode("utf-8", "surrogateescape"))
        refused(index.parent, "embeddings.json", "cannot be read")
    for text in ("[]", "{}", '{"format": "other", "version": 1}'):
        index.write_text(text)
        refused(index.parent, "embeddings.json", "not of the format")


@pytest.mark.parametrize("role", ["labels", "vectors"])
def test_load_refuses_data_files_that_changed(tmp_path, role):
    example().save(tmp_path)
    (file,) = tmp_path.glob(f"{role}-*")
    whole = file.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        refused(tmp_path, file.name, "truncated")
    file.write_bytes(whole + b" ")
    refused(tmp_path, file.name, f"{len(whole) + 1} bytes")
    for place in (0, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        refused(tmp_path, file.name, "altered")
    file.unlink()
    refused(tmp_path, file.name, "cannot be read")


def edit(folder, change):
    path = folder / "embeddings.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(sealed(index)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.update(version=2), "version 2"),
        (lambda index: index.pop("version"), "version None"),
        (lambda index: index.pop("generation"), "generation"),
        (lambda index: index.pop("files"), "names no file of labels"),
        (lambda index: index["files"].pop("vectors"), "names no file of vectors"),
        (lambda index: index["files"]["labels"].pop("sha256"), "names no file of labels"),
        (lambda index: index["files"]["labels"].update(name=None), "names no file of labels"),
        (lambda index: index["files"]["labels"].update(name="embeddings.json"), "names no file"),
        (lambda index: index["files"]["labels"].update(size="big"), "names no file of labels"),
        (lambda index: index["files"]["labels"].update(size=-1), "names no file of labels"),
        (lambda index: index["files"]["labels"].update(size=10**30), "names no file of labels"),
        (lambda index: index.update(generation=10**4000), "generation"),
        (lambda index: index["files"].update(labels=3), "names no file of labels"),
        (
            lambda index: index["files"]["labels"].update(index["files"]["vectors"]),
            "names no file of labels",
        ),
        (lambda index: index.update(metadata=[1]), "metadata"),
    ],
)
def test_load_refuses_an_index_it_does_not_understand(tmp_path, change, words):
    example().save(tmp_path)
    edit(tmp_path, change)
    refused(tmp_path, str(tmp_path), words)


def test_load_reads_no_file_outside_its_folder(tmp_path):
    for name in ("inside", "outside"):
        example().save(tmp_path / name)
    (labels,) = (tmp_path / "outside").glob("labels-*")
    for path in (f"../outside/{labels.name}", str(labels), f"./{labels.name}"):
        edit(tmp_path / "inside", lambda index, p=path: index["files"]["labels"].update(name=p))
        refused(tmp_path / "inside", "names no file of labels")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "does not hold labels"),
        ('{"types": ["str"]}', "does not hold labels"),
        ('{"types": ["none"], "labels": [1, 2]}', "does not hold labels"),
        ('{"types": ["float"], "labels": [1, 2]}', "is no number"),
        ('{"types": ["float"], "labels": ["nan", "1.0"]}', "is no number"),
        ('{"types": ["decimal"], "labels": ["a", "1.0"]}', "does not hold labels"),
        ('{"types": ["decimal"], "labels": ["sNaN", "1.0"]}', "does not hold labels"),
        ('{"types": ["bool"], "labels": [0, 1]}', "not of its type"),
        ('{"types": ["bytes"], "labels": ["0", "1"]}', "does not hold labels"),
        ('{"types": ["timedelta"], "labels": [[1e300, 0, 0], [1, 2]]}', "does not hold labels"),
        ('{"types": ["datetime"], "labels": [["2024-01-01", "No/Zone", 0]]}', "No/Zone"),
        ('{"types": ["datetime"], "labels": [["2024-01-01", "../zone", 0]]}', "does not hold"),
        ('{"types": ["tuple"], "labels": [[["int", "a"]], []]}', "not of its type"),
        (
            '{"types": ["tuple"], "labels": [' + '[["tuple",' * 400 + "[" * 100_000,
            "not hold labels",
        ),
        ('{"types": ["int", "str"], "type_of": [0, 0], "labels": [1, "a"]}', "not of its type"),
        ('{"types": ["int"], "labels": [1, true]}', "not of its type"),
        ('{"types": ["date"], "labels": ["2024-01-01", 3]}', "does not hold labels"),
        ('{"types": ["int", "str"], "type_of": [0], "labels": [1, "a"]}', "does not hold labels"),
        ('{"types": ["str"], "labels": ["a", "a"]}', "'a' in row 0 equals 'a' in row 1"),
        ('{"types": ["str"], "labels": ["a"]}', "2 rows for 1 labels"),
    ],
)
def test_load_checks_labels_even_when_the_checksum_agrees(tmp_path, text, words):
    Embeddings([1, 2], table(2)).save(tmp_path)
    (file,) = tmp_path.glob("labels-*")
    file.write_text(text)
    edit(tmp_path, lambda index: index["files"]["labels"].update(KIND.describe(file)))
    refused(tmp_path, str(tmp_path), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not safetensors", "cannot be read"),
        (safetensors.numpy.save({"other": np.zeros(1)}), "cannot be read"),
        (safetensors.numpy.save({"vectors": np.full((2, 1), np.nan)}), "not finite"),
    ],
)
def test_load_checks_vectors_even_when_the_checksum_agrees(tmp_path, content, words):
    Embeddings([1, 2], table(2)).save(tmp_path)
    (file,) = tmp_path.glob("vectors-*")
    file.write_bytes(content)
    edit(tmp_path, lambda index: index["files"]["vectors"].update(KIND.describe(file)))
    refused(tmp_path, str(tmp_path), words)


def test_safetensors_is_imported_only_when_needed():
    code = "import sys, itembed_gpu.models.embeddings; sys.exit('safetensors' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


# ----------------------------------------------------------------- word2vec


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_word2vec_files_exactly(tmp_path, binary):
    gensim_models = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(3)
    # Any finite bit pattern: subnormal, huge, negative zero.
    bits = rng.integers(0, 2**32, (400, 9), dtype=np.uint32).view(np.float32)
    vectors = np.where(np.isfinite(bits), bits, np.float32(-0.0))
    odd = ["REGENCY CAKESTAND 3 TIER", "é\tno\nbreak\u00a0x", 7, date(2024, 1, 2), "</s>", "日本"]
    labels = [*odd, *names(394)]
    emb = Embeddings(labels, vectors)
    path = tmp_path / "vectors.w2v"
    emb.to_word2vec(path, binary=binary, replace_space="_")

    read = gensim_models.KeyedVectors.load_word2vec_format(str(path), binary=binary)
    words = ["REGENCY_CAKESTAND_3_TIER", "é_no_break_x", "7", "2024-01-02", "</s>", "日本"]
    assert read.index_to_key == [*words, *names(394)]
    assert read.vectors.tobytes() == vectors.tobytes()
    assert listing(tmp_path) == ["vectors.w2v"]


def test_word2vec_text_as_written(tmp_path):
    path = tmp_path / "w.txt"
    Embeddings(["a b", uuid.UUID(int=1)], [[0.1, -0.0], [1, 1e-45]]).to_word2vec(
        path, replace_space=r"\1"
    )
    uid = "00000000-0000-0000-0000-000000000001"
    expected = f"2 2\na\\1b 0.100000001 -0\n{uid} 1 1.40129846e-45\n"
    assert path.read_bytes().decode() == expected


@pytest.mark.parametrize(
    ("labels", "replace_space", "words"),
    [
        (["a", "b c"], None, "'b c' in row 1 is empty or has white space"),
        (["a", "b\u2003c"], None, "pass replace_space="),
        (["a", ""], "_", "'' in row 1 is empty"),
        (["a", " "], "", "' ' in row 1 is empty"),
        (["a b", "a_b"], "_", "'a b' and 'a_b' both become the word 'a_b'"),
        (["1", 1], None, "'1' and 1 both become"),
        (["a", "\ud800"], None, "lone surrogate"),
        pytest.param(["a", 10**5000], None, "convert such labels to str", id="huge"),
        (["a", "b"], " ", "replace_space: ' '"),
        (["a", "b"], 1, "replace_space: 1"),
    ],
)
def test_word2vec_refuses_words_it_cannot_hold(tmp_path, labels, replace_space, words):
    path = tmp_path / "w.txt"
    path.write_text("old")
    with pytest.raises(InputError) as caught:
        Embeddings(labels, table(2)).to_word2vec(path, replace_space=replace_space)
    assert words in str(caught.value)
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["w.txt"]


def test_word2vec_refuses_a_path_that_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere" / "w.txt"):
        with pytest.raises(InputError, match=r"^path: "):
            example().to_word2vec(path)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_word2vec_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    path = tmp_path / "w.txt"
    path.write_text("old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="disk full"):
        example().to_word2vec(path)
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["w.txt"]

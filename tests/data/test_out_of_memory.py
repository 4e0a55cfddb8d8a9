"""Packing by way of the disk gives the folder that reading at once does, bit for bit."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import polars
import pytest
from hypothesis import assume, given, settings, strategies as st
from samples import contents

from itembed_gpu import DataError, InputError, pack_files, read_itemsets
from itembed_gpu.data import out_of_memory as spilling
from itembed_gpu.data.readers import read_source
from itembed_gpu.data.spill_files import Column
from itembed_gpu.disk.folders import BLOCK

MEMORY = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_fits(monkeypatch):
    monkeypatch.setattr(spilling, "_fits", lambda *_: False)


def rows_of(num_row=20_000, num_itemset=3_000, num_item=500, seed=0):
    """A long table in any order of rows, with some of everything missing."""
    generator = np.random.default_rng(seed)
    frame = polars.DataFrame(
        {
            "basket": generator.integers(0, num_itemset, num_row),
            "product": (num_item * generator.random(num_row) ** 3).astype(np.int64) * 7,
            "amount": generator.integers(1, 5, num_row),
        }
    )
    missing = polars.Series(generator.random(num_row) < 0.01)
    return frame.with_columns(
        basket=polars.when(missing).then(None).otherwise(polars.col("basket")),
        product=polars.when(missing.reverse()).then(None).otherwise(polars.col("product")),
    )


def same(tmp_path, source, **options):
    """Pack in both ways, and compare the folders, and what is said of them."""
    expected = read_itemsets(source, **options)
    expected.save(tmp_path / "expected")
    packed = pack_files(source, tmp_path / "packed", memory=MEMORY, **options)
    assert packed.source == expected.source
    assert packed.account == expected.account
    assert packed.labels == expected.labels
    assert [*map(type, packed.labels)] == [*map(type, expected.labels)]
    assert contents(tmp_path / "packed") == contents(tmp_path / "expected")
    assert sorted(entry.name for entry in tmp_path.glob(".*")) == []
    return packed


def write(frame, path):
    {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".ndjson": frame.write_ndjson,
        ".arrow": frame.write_ipc,
    }[path.suffix](path)
    return path


NAMES = {"itemset": "basket", "item": "product"}
LIMITS = [
    {},
    {"min_count": 30, "min_length": 2},
    {"duplicates": "drop", "max_items": 40},
    {"duplicates": "sum", "max_length": 3, "seed": 5},
    {"weight": "amount", "max_length": 4, "min_length": 0},
    {"weight": "amount", "duplicates": "sum", "labels": [7, 14, 10**6]},
]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("in_order", [False, True])
def test_the_folder_is_the_same(tmp_path, limits, in_order):
    frame = rows_of()
    if in_order:
        frame = frame.sort("basket", maintain_order=True)
    same(tmp_path, write(frame, tmp_path / "rows.parquet"), **NAMES, **limits)


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".arrow", ".parquet"])
@pytest.mark.parametrize("strings", [False, True])
def test_of_every_format(tmp_path, suffix, strings):
    frame = rows_of()
    if strings:
        frame = frame.with_columns(
            basket=polars.format("b{}", "basket"), product=polars.format("p{}", "product")
        )
    same(tmp_path, write(frame, tmp_path / f"rows{suffix}"), **NAMES)


def test_of_several_files(tmp_path):
    frame = rows_of()
    folder = tmp_path / "rows"
    folder.mkdir()
    for n in range(3):
        write(frame[n * 7000 : (n + 1) * 7000], folder / f"{n}.csv")
    same(tmp_path, folder)


@pytest.mark.parametrize(
    "values",
    [
        polars.int_range(500, eager=True) - 250,
        polars.int_range(500, eager=True) * 10**16 - 5,
        polars.int_range(500, eager=True).cast(polars.UInt64) + 2**63,
        polars.int_range(500, eager=True).cast(polars.Date),
        polars.int_range(500, eager=True).cast(polars.Datetime("us")),
        polars.int_range(500, eager=True).cast(polars.String).cast(polars.Categorical),
        polars.Series([0, 1 << 24, (1 << 24) - 1, -1] * 125),
    ],
    ids=lambda values: str(values.dtype),
)
def test_labels_keep_their_type(tmp_path, values):
    frame = rows_of().drop_nulls()
    frame = frame.with_columns(product=values[(frame["product"] // 7)])
    same(tmp_path, write(frame, tmp_path / "rows.parquet"), **NAMES)


def test_lists(tmp_path):
    frame = (
        rows_of()
        .drop_nulls("basket")
        .group_by("basket", maintain_order=True)
        .agg("product", "amount")
    )
    source = write(frame, tmp_path / "lists.parquet")
    for n, options in enumerate(({}, {"weight": "amount", "duplicates": "sum", "max_length": 3})):
        (tmp_path / str(n)).mkdir()
        same(tmp_path / str(n), source, item="product", **options)


@pytest.mark.parametrize("limits", [{}, {"min_length": 2, "min_count": 3, "duplicates": "sum"}])
def test_text(tmp_path, limits):
    generator = np.random.default_rng(0)
    lines = [" ".join(f"w{w}" for w in generator.integers(0, 99, n % 7)) for n in range(5000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    same(tmp_path, tmp_path / "a.txt", **limits)
    with pytest.raises(InputError, match="text has no columns"):
        pack_files(tmp_path / "a.txt", tmp_path / "b", item="x")


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(-3, 9), st.sampled_from(["a", "b", "ab", None]))),
    st.sampled_from(["keep", "drop"]),
    st.integers(0, 2),
)
def test_of_any_rows(tmp_path_factory, rows, duplicates, min_length):
    folder = tmp_path_factory.mktemp("rows")
    frame = polars.DataFrame(rows, schema={"basket": int, "product": str}, orient="row")
    source = write(frame, folder / "rows.parquet")
    options = {"duplicates": duplicates, "min_length": min_length}
    if not (frame["basket"].is_not_null() & frame["product"].is_not_null()).any():
        for read in (read_itemsets, lambda *a, **o: pack_files(*a, folder / "packed", **o)):
            with pytest.raises(DataError, match="there is no itemset to use"):
                read(source, **options)
        assert not (folder / "packed").exists()
        return
    left = frame.drop_nulls()
    left = left.unique() if duplicates == "drop" else left
    assume(left.group_by("basket").len()["len"].max() >= min_length)
    same(folder, source, **options)


def test_a_giant_itemset_among_small_ones(tmp_path):
    frame = polars.DataFrame(
        {"basket": [*range(3000), *[1] * 30_000, *range(3000)], "product": [*range(18_000)] * 2}
    )
    same(tmp_path, write(frame, tmp_path / "rows.parquet"))


BAD = {
    "cut.csv": ("basket,product\n1,2\n1\n", r"line 3: 1 field, where.*2 columns"),
    "long.csv": ("basket,product\n1,2\n1,2,3\n", r"line 3: 3 fields"),
    "torn.ndjson": ('{"basket":1,"product":2}\n{"basket":1,"prod', r"line 2: is no JSON"),
    "mixed.ndjson": (
        '{"basket":1,"product":"a"}\n{"basket":1,"product":2}\n', r"line 2: item column 'product'",
    ),
    "weight.csv": ("basket,product,amount\n1,2,3\n1,3,nan\n", r"holds 'nan' in row 2"),
    "nothing.csv": ("basket,product\n1,\n", "there is no itemset to use"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_leave_nothing(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_text(content)
    weight = "amount" if name.startswith("weight") else None
    for read in (read_itemsets, lambda *a, **o: pack_files(*a, tmp_path / "packed", **o)):
        with pytest.raises(DataError, match=reason):
            read(tmp_path / name, weight=weight)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    source = write(rows_of(), tmp_path / "rows.parquet")
    count = 0

    def append(self, values):
        nonlocal count
        count += 1
        if count == 20:
            raise OSError(28, "No space left on device")
        return original(self, values)

    original = Column.append
    monkeypatch.setattr(Column, "append", append)
    with pytest.raises(DataError, match="No space left on device; nothing was saved"):
        pack_files(source, tmp_path / "packed", memory=MEMORY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.parquet"]


def test_what_was_packed_before_is_replaced_and_other_folders_are_not(tmp_path):
    source = write(rows_of(), tmp_path / "rows.parquet")
    for _ in range(2):
        packed = pack_files(source, tmp_path / "packed", memory=MEMORY)
    assert len(list((tmp_path / "packed").iterdir())) == 5
    packed.verify()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary").write_text("")
    with pytest.raises(InputError, match="diary"):
        pack_files(source, tmp_path / "other")
    with pytest.raises(InputError, match="memory"):
        pack_files(source, tmp_path / "packed", memory=5)


def test_what_a_killed_process_left_is_removed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1, check=True
    )
    left = tmp_path / f".packed.{int(done.stdout)}.spill"
    running = tmp_path / f".packed.{os.getppid()}.spill"
    for folder in (left, running):
        folder.mkdir()
    pack_files(write(rows_of(), tmp_path / "rows.csv"), tmp_path / "packed", memory=MEMORY)
    assert not left.exists()
    assert running.exists()


def test_memory_does_not_grow_with_the_rows(tmp_path):
    # Of arrays and Python's objects; what polars takes, benchmarks/data.py measures.
    used = []
    pack_files(write(rows_of(1000, 100), tmp_path / "few.parquet"), tmp_path / "few")  # compiles
    for num_row in (100_000, 800_000):
        frame = rows_of(num_row, num_row // 8)
        source = write(frame, tmp_path / f"{num_row}.parquet")
        del frame
        tracemalloc.start()
        try:
            packed = pack_files(source, tmp_path / f"{num_row}", memory=4 << 20)
            used.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert packed.dropped.items_read > 0.98 * num_row
    # What all of its rows take at once is 44 bytes each, and more.
    # A block of a file may be summed up while the next file is written, or not.
    assert used[1] < used[0] + (3 << 20) + BLOCK < 800_000 * 44


def test_files_that_fit_are_read_at_once(tmp_path, monkeypatch):
    source = write(rows_of(), tmp_path / "rows.csv")
    monkeypatch.undo()
    read = []

    def read_all(*arguments, **options):
        read.append(arguments)
        return read_source(*arguments, **options)

    monkeypatch.setattr(spilling, "read_source", read_all)
    pack_files(source, tmp_path / "once", memory=1 << 26)
    assert len(read) == 1
    pack_files(tmp_path / "once", tmp_path / "again", min_count=2)
    assert len(read) == 1
    monkeypatch.setattr(spilling, "_estimate", lambda *_: 1 << 27)
    pack_files(source, tmp_path / "spilled", memory=1 << 26)
    assert len(read) == 1
    assert contents(tmp_path / "spilled") == contents(tmp_path / "once")


def test_what_is_free_is_known():
    assert 1 << 26 < spilling._free_memory() < 1 << 50


@pytest.mark.parametrize("suffix", [".ndjson", ".parquet"])
def test_integers_of_all_sizes_in_lists_are_numbered_as_they_come(tmp_path, suffix):
    lists = [[3, -1, 5], [-7, 2], [1 << 50, 4, -1], [9]]
    path = tmp_path / f"a{suffix}"
    frame = polars.DataFrame({"items": lists})
    frame.write_ndjson(path) if suffix == ".ndjson" else frame.write_parquet(path)
    assert same(tmp_path, path).labels == [-1, 3, 5, -7, 2, 1 << 50, 4, 9]

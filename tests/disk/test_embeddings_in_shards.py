"""Embeddings in shards: round trips, writers that know a part each, interruption and damage."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars
import pytest
from hypothesis import given, settings, strategies as st
from test_embeddings_on_disk import Interrupter, Killed, example, listing, loaded, same

from itembed_gpu import (
    DataError,
    Embeddings,
    InputError,
    PartedTable,
    SupervisedClassifier,
    UnknownLabelError,
    verify,
)
from itembed_gpu.disk import embeddings as on_disk
from itembed_gpu.disk.folders import sealed


def in_memory(mapped):
    return Embeddings(
        mapped.labels,
        np.asarray(mapped.vectors),
        context=None if mapped.context is None else np.asarray(mapped.context),
        counts=mapped.counts,
        metadata=mapped.metadata,
    )


@settings(max_examples=30)
@given(n=st.integers(1, 12), share=st.floats(0, 1), parts=st.sets(st.sampled_from("xc")))
def test_any_number_of_shards_is_opened_as_one(tmp_path_factory, n, share, parts):
    full = example(n=n)
    context, counts = full.context if "x" in parts else None, full.counts if "c" in parts else None
    emb = Embeddings(full.labels, full.vectors, context=context, counts=counts, metadata={"a": 1})
    folder = tmp_path_factory.mktemp("shards")
    emb.save(folder, shards=1 + round(share * (n - 1)))
    assert same(Embeddings.load(folder), emb)
    mapped = Embeddings.load(folder, mmap=True)
    assert same(in_memory(mapped), emb)
    assert isinstance(mapped.vectors, PartedTable)
    assert repr(mapped) == repr(Embeddings.load(folder))


def test_answers_are_those_from_memory(tmp_path):
    emb = example(n=90)
    emb.save(tmp_path, shards=4)
    mapped = Embeddings.load(tmp_path, mmap=True)
    some = ["item-3", "item-88"]
    assert mapped.similar(some, 50, exclude="item-1") == emb.similar(some, 50, exclude="item-1")
    assert mapped.similar(emb.vectors[5], 3, items=some) == emb.similar(emb.vectors[5], 3, some)
    assert mapped.most_similar(some, "item-7") == emb.most_similar(some, "item-7")
    np.testing.assert_array_equal(mapped["item-40"], emb["item-40"])
    np.testing.assert_array_equal(mapped[some], emb[some])
    with pytest.raises(UnknownLabelError, match="item-99"):
        mapped.similar("item-99")


def test_a_save_replaces_one_of_other_shards(tmp_path):
    folder = tmp_path / "m"
    for shards, files in ((5, 8), (2, 5), (1, 3), (3, 6)):
        emb = example(seed=shards, n=9)
        emb.save(folder, shards=shards)
        assert len(listing(folder)) == files
        assert same(Embeddings.load(folder), emb)
    # Also one that is mapped, elsewhere or over itself.
    for target in (tmp_path / "again", folder):
        Embeddings.load(folder, mmap=True).save(target, shards=4)
        assert same(Embeddings.load(target), emb)


def test_what_is_open_is_loaded_again_after_a_save(tmp_path):
    emb = example(n=9)
    emb.save(tmp_path, shards=3)
    mapped = Embeddings.load(tmp_path, mmap=True)
    emb.save(tmp_path, shards=3)
    with pytest.raises(DataError, match="load again what was saved again meanwhile"):
        mapped.similar("item-3")


def test_exports_are_those_of_the_whole(tmp_path):
    emb = example(n=30)
    emb.save(tmp_path / "m", shards=7)
    mapped = Embeddings.load(tmp_path / "m", mmap=True)
    for name, one in (("whole", emb), ("parts", mapped)):
        one.to_npy(tmp_path / f"{name}.npy")
        one.to_word2vec(tmp_path / f"{name}.bin", binary=True)
        one.to_word2vec(tmp_path / f"{name}.txt")
        one.to_parquet(tmp_path / f"{name}.parquet")
    for suffix in ("npy", "bin", "txt", "labels.json"):
        whole, parts = (tmp_path / f"{name}.{suffix}" for name in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()
    whole, parts = map(polars.read_parquet, sorted(tmp_path.glob("*.parquet"), reverse=True))
    assert whole.equals(parts)
    np.testing.assert_array_equal(whole["vector"].to_numpy(), emb.vectors)
    assert (whole["label"].to_list(), whole["count"].to_list()) == (emb.labels, [*range(30)])


def test_what_cannot_be_saved_in_shards_is_refused(tmp_path):
    with pytest.raises(InputError, match="shards is 6 for 5 rows; pass at most one a row"):
        example().save(tmp_path / "m", shards=6)
    with pytest.raises(InputError, match="shards is 0; pass an integer of at least 1"):
        example().save(tmp_path / "m", shards=0)
    broken = example()
    broken.context[3] = np.nan
    with pytest.raises(InputError, match="context: row 3 holds a value that is not finite"):
        broken.save(tmp_path / "m", shards=2)
    assert not (tmp_path / "m").exists()


def test_a_classifier_stays_whole(tmp_path):
    model = SupervisedClassifier(vector_size=2, epochs=1, seed=1, device="cpu", workers=1)
    model.fit([["a", "b"], ["c"]] * 3, ["x", "y"] * 3)
    with pytest.raises(InputError, match="so that it has to stay whole; pass shards=1"):
        model.save(tmp_path / "m", shards=2)
    model.save(tmp_path / "m")
    with pytest.raises(InputError, match="a SupervisedClassifier is loaded whole"):
        SupervisedClassifier.load(tmp_path / "m", mmap=True)


# ------------------------------------------------------- writers of a part each


def scattered(emb, num_piece, seed=0):
    """Rows of a table as they lie with those who trained them."""
    order = np.random.default_rng(seed).permutation(len(emb))
    return [
        (rows, {"vectors": emb.vectors[rows], "context": emb.context[rows]})
        for rows in np.array_split(order, num_piece)
    ]


def test_shards_are_written_by_many_and_named_once(tmp_path):
    old, new = example(seed=1), example(seed=2, n=40)
    old.save(tmp_path)
    bounds = on_disk.shard_bounds(40, 6)
    pieces = scattered(new, 4)

    def write(number):
        return on_disk.write_shard(tmp_path, number, tuple(bounds[number : number + 2]), pieces)

    with ThreadPoolExecutor(3) as threads:
        written = list(threads.map(write, range(6)))
    write(3)  # once more, by one who was thought dead
    assert same(Embeddings.load(tmp_path), old)
    rows = {"counts": new.counts}
    on_disk.write_index(tmp_path, new.labels, written, rows, new.metadata)
    assert same(Embeddings.load(tmp_path), new)
    assert len(listing(tmp_path)) == 9


def test_shards_that_do_not_make_a_table_are_refused(tmp_path):
    emb = example(n=8)
    pieces = scattered(emb, 2)
    with pytest.raises(InputError, match=r"pieces have row . of vectors 0 times"):
        on_disk.write_shard(tmp_path, 0, (0, 8), pieces[:1])
    with pytest.raises(InputError, match=r"pieces have row . of vectors 2 times"):
        on_disk.write_shard(tmp_path, 0, (0, 8), [*pieces, pieces[0]])
    emb.context[5] = np.nan
    with pytest.raises(InputError, match="context: row 5 holds a value that is not finite"):
        on_disk.write_shard(tmp_path, 1, (4, 8), scattered(emb, 2))
    emb.context[5] = 1
    written = [on_disk.write_shard(tmp_path, i, (4 * i, 4 * i + 4), pieces) for i in range(2)]
    for wrong in (written[:1], written[::-1], [written[0]] * 2):
        with pytest.raises(InputError, match="for 8 labels; pass all, in order"):
            on_disk.write_index(tmp_path, emb.labels, wrong, {}, {})
    (tmp_path / written[1]["name"]).unlink()
    with pytest.raises(DataError, match=written[1]["name"]):
        on_disk.write_index(tmp_path, emb.labels, written, {}, {})
    emb.save(tmp_path)
    assert len(listing(tmp_path)) == 3, "what no index named goes with the next save"


# ----------------------------------------------------------- interruption, damage


def test_an_interrupted_save_loses_nothing(tmp_path, monkeypatch):
    states = {"old": example(seed=1), "new": example(seed=2, n=7)}
    interrupter = Interrupter(monkeypatch, Killed())
    outcomes = []
    for call in range(100):
        folder = tmp_path / str(call)
        states["old"].save(folder, shards=2)
        interrupter.arm(call, "half")
        with contextlib.suppress(Killed):
            states["new"].save(folder, shards=3)
        calls = interrupter.calls
        interrupter.arm(None, None)
        outcomes.append(loaded(folder, states))
        states["old"].save(folder)
        assert len(listing(folder)) == 3, "what the interrupted save left is removed"
        if calls <= call:
            break
    assert outcomes == sorted(outcomes, key=["old", "new"].index), "old, then new for good"
    assert {"old", "new"} == set(outcomes)


def shard_file(folder, number):
    (path,) = folder.glob(f"vectors.{number}-*")
    return path


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (flip, "was altered after it was saved"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it was truncated"),
    ],
    ids=["missing", "altered", "truncated"],
)
def test_a_damaged_shard_is_named(tmp_path, damage, words):
    example(n=9).save(tmp_path, shards=3)
    mapped = Embeddings.load(tmp_path, mmap=True)
    path = shard_file(tmp_path, 1)
    damage(path)
    for ask in (
        lambda: mapped.similar("item-0"),
        lambda: mapped["item-4"],
        lambda: Embeddings.load(tmp_path),
        lambda: verify(tmp_path),
        lambda: mapped.to_npy(tmp_path.parent / "x.npy"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            ask()
        assert path.name in str(caught.value)
    if damage is flip:  # rows of other shards are whole
        assert mapped["item-0"].shape == (4,)


@pytest.mark.parametrize(
    "bounds", [None, [], [0], [0, 3, 8], [0, 7, 3, 9], [0, 3.0, 6, 9], [0, 3, 9], [1, 3, 6, 9]]
)
def test_bounds_that_make_no_sense_are_refused(tmp_path, bounds):
    example(n=9).save(tmp_path, shards=3)
    path = tmp_path / on_disk.KIND.index
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"bounds": bounds})))
    for mmap in (False, True):
        with pytest.raises(DataError):
            Embeddings.load(tmp_path, mmap=mmap).check_finite()


def test_files_of_strangers_that_do_not_go_together(tmp_path):
    emb = example(n=6)
    pieces = scattered(emb, 1)
    short = [(pieces[0][0], {"vectors": pieces[0][1]["vectors"][:, :2]})]
    written = [on_disk.write_shard(tmp_path, 0, (0, 3), pieces)]
    written.append(on_disk.write_shard(tmp_path, 1, (3, 6), short))
    on_disk.write_index(tmp_path, emb.labels, written, {}, {})
    with pytest.raises(DataError, match="do not go together"):
        Embeddings.load(tmp_path)
    mapped = Embeddings.load(tmp_path, mmap=True)
    with pytest.raises(DataError, match=r"has shape \(3, 2\) where \(3, 4\) was recorded"):
        mapped.similar("item-0")
    with pytest.raises(DataError, match="holds no context"):
        np.asarray(mapped.context)


def test_a_folder_that_is_verified_is_read_by_shard(tmp_path):
    emb = example(n=9)
    emb.save(tmp_path, shards=3)
    found = verify(tmp_path)
    assert (found.kind, found.content) == ("Embeddings", "9 labels x 4")
    assert len(found.files) == 6
    # Checksums hold, and a value is none.
    emb.vectors[7, 1] = np.inf
    on_disk.write_folder(
        tmp_path, emb.labels, {"vectors": emb.vectors, "counts": emb.counts}, {}, 3
    )
    with pytest.raises(DataError, match="vectors: row 7 holds a value that is not finite"):
        verify(tmp_path)

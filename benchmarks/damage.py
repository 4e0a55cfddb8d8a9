"""What saved folders stand: damaged bytes, races of writers, and processes that are killed.

    python -m benchmarks.damage             # about 4 minutes
    python -m benchmarks.damage --count 10  # less of everything

Folders are models (`Item2Vec`), packed itemsets and checkpoints. All that a sample holds follows
from its version, so that a mix of two is seen.

* Flips: one byte of a file is changed, at 200 places of each. Loading has to end in a `DataError`,
  or what is loaded has to be the same, as where white space of an index was changed.
* Races: two processes save to one folder, five times each, while a third one loads in a loop. What
  is loaded has to be one of their versions, whole. As on disks without locks, too.
* Kills: a process that saves, packs or trains is killed at a random moment. Then the folder has to
  hold the last version that was saved, or the one after; a training that goes on has to end with
  the same tables as one that was never killed; and nothing may be left beside at the end.

Needs a system that can fork. Writes ``damage.md`` beside this file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import itembed_gpu as ig
from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, page, say, table, tick, write_whole
from itembed_gpu.disk import embeddings, files, itemsets
from itembed_gpu.disk.folders import Kind
from itembed_gpu.training import checkpoints
from itembed_gpu.training.loop import EpochRecord

COUNT = 100
FLIPS_PER_COUNT = 2
SAVES = 5  # of each writer of a race
DIM = 8
NUM_EPOCH = 30
# Larger than what is read at once in the memory that is given to it.
MEMORY = 1 << 20
NUM_LINE = 12_000

Load = Callable[[Path], Any]
FORK = multiprocessing.get_context("fork")


class Sample(NamedTuple):
    """A kind of folder: how a version of it is saved, and how all of it is loaded."""

    name: str
    kind: Kind
    save: Callable[[Path, int], None]
    load: Load  # what it returns are versions, whole, that can be compared


# --- samples ----------------------------------------------------------------


def labels_of(version: int) -> list[Any]:
    """Labels of some types, as many as the version says."""
    return [f"{version}-{i}" for i in range(20 + version % 7)] + [version, version + 0.5]


def make_model(version: int) -> ig.Item2Vec:
    labels = labels_of(version)
    vectors = np.full((len(labels), DIM), version, np.float32)
    model = ig.Item2Vec(vector_size=DIM, alpha=version + 1)
    counts = np.full(len(labels), version)
    model.embeddings_ = ig.Embeddings(labels, vectors, context=vectors, counts=counts)
    model.accumulators_ = (vectors[:, 0].copy(), vectors[:, 1].copy())
    model.seed_, model.num_fit_ = version, 1
    return model


def save_model(folder: Path, version: int) -> None:
    make_model(version).save(folder)


def load_model(folder: Path) -> Any:
    model = ig.Item2Vec.load(folder)
    labels, tensors, state = model._state()
    arrays = {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in tensors.items()}
    return labels, list(map(type, labels)), arrays, state, model.get_params()


def save_packed(folder: Path, version: int) -> None:
    labels = labels_of(version)
    packed = ig.pack_itemsets([labels[:2], labels], weights=[[1, version], range(len(labels))])
    packed.save(folder)


def load_packed(folder: Path) -> Any:
    packed = ig.PackedItemsets.load(folder)
    packed.verify()
    arrays = (packed.indices, packed.offsets, packed.counts, packed.weights)
    contents = [None if a is None else (str(a.dtype), a.tobytes()) for a in arrays]
    return packed.labels, list(map(type, packed.labels)), contents, packed.dropped


def make_task(seed: int, value: float | None = None) -> ig.UnsupervisedTask:
    """A task of few items; its tables are random, or have one value."""
    generator = np.random.default_rng(0)
    syn0, syn1 = generator.normal(0, 0.1, (2, 30, DIM)).astype(np.float32)
    if value is not None:
        syn0[:], syn1[:] = value, value
    items = generator.integers(0, 30, 4000).astype(np.int32)
    offsets = np.arange(0, 4001, 4)
    return ig.UnsupervisedTask(items, offsets, syn0, syn1, seed=seed, num_threads=1)


def make_saver(folder: Path, version: int) -> checkpoints.Checkpoints:
    plan = {"num_epoch": NUM_EPOCH, "initial_learning_rate": 0.1, "final_learning_rate": 0.0}
    return checkpoints.Checkpoints(folder, make_task(version, version), 1, plan, [])


def save_checkpoint(folder: Path, version: int) -> None:
    """Write one, as a training of that seed does."""
    saver = make_saver(folder, version)
    history = ig.History([EpochRecord(0, 1.0 + version, version, 0.5, 0.1)])
    meter = mock.Mock(num_batch=0, num_pair=0, tally=(0.0, 0, 0), ended=0.0, began=0.0)
    with saver.open():
        saver.restore(True, EpochRecord)
        saver.write(saver.where(1, 0, history, meter, False), wait=True)


def load_checkpoint(folder: Path) -> Any:
    checkpoints.verify_checkpoint(folder)

    def read(index: dict[str, Any]) -> Any:
        tensors = files.read_tensors(checkpoints.KIND.verified(folder, index, "tensors"), "")
        arrays = {name: a.tobytes() for name, a in tensors.items()}
        return index["job"], index["place"], index["callbacks"], arrays

    return checkpoints.KIND.settled(folder, read)


MODEL = Sample("model", embeddings.KIND, save_model, load_model)
PACKED = Sample("packed itemsets", itemsets.KIND, save_packed, load_packed)
CHECKPOINT = Sample("checkpoint", checkpoints.KIND, save_checkpoint, load_checkpoint)
SAMPLES = (MODEL, PACKED, CHECKPOINT)


def expected_of(sample: Sample, version: int, known: dict[int, Any]) -> Any:
    """Return what a version is when nothing happens to it."""
    if version not in known:
        with tempfile.TemporaryDirectory() as name:
            sample.save(Path(name), version)
            known[version] = sample.load(Path(name))
    return known[version]


# --- flips ------------------------------------------------------------------


def load_damaged(load: Load, folder: Path, expected: Any) -> str:
    """Load, and say how that ended."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load(folder)
    except ig.DataError:
        return "refused"
    except Exception as error:
        return f"foreign: {type(error).__name__}"
    return "the same" if found == expected else "silent"


def flip_file(
    sample: Sample, path: Path, count: int, generator: np.random.Generator
) -> Counter[str]:
    """Change single bytes of a file, one after the other."""
    whole, outcomes = path.read_bytes(), Counter[str]()
    expected = sample.load(path.parent)
    for place in generator.choice(len(whole), min(count, len(whole)), replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        outcomes[load_damaged(sample.load, path.parent, expected)] += 1
    path.write_bytes(whole)
    return outcomes


def measure_flips(count: int, folder: Path) -> list[tuple[str, ...]]:
    generator, rows = np.random.default_rng(0), []
    for sample in SAMPLES:
        place = folder / sample.name
        sample.save(place, 3)
        for path in sorted(place.iterdir()):
            outcomes = flip_file(sample, path, count, generator)
            silent, refused = outcomes["silent"], outcomes["refused"]
            foreign = outcomes.total() - silent - refused - outcomes["the same"]
            name = path.name.partition("-")[0]
            cells = (outcomes.total(), refused, outcomes["the same"], silent, foreign)
            rows.append(say(sample.name, name, *cells, tick(silent == foreign == 0)))
    return rows


# --- races ------------------------------------------------------------------


def write_again(sample: Sample, folder: Path, first: int, start: Any) -> None:
    """Save some versions, from that one on; exit with 3 if it is refused."""
    start.wait()
    for version in range(first, first + SAVES):
        try:
            # The job of a checkpoint is one and the same.
            sample.save(folder, first if sample is CHECKPOINT else version)
        except ig.InputError:
            os._exit(3)
    os._exit(0)


def race(sample: Sample, folder: Path, known: dict[int, Any]) -> Counter[str]:
    """Let two write, and load meanwhile."""
    start, outcomes = FORK.Barrier(3), Counter[str]()
    firsts = 1, 1 + SAVES
    versions = [expected_of(sample, v, known) for v in range(1, 1 + 2 * SAVES)]
    writers = [FORK.Process(target=write_again, args=(sample, folder, f, start)) for f in firsts]
    for writer in writers:
        writer.start()
    start.wait()
    running = True
    while running:
        running = any(writer.is_alive() for writer in writers)  # then once more, at the end
        if (folder / sample.kind.index).exists():
            outcomes["loads"] += 1
            try:
                outcomes["wrong"] += sample.load(folder) not in versions
            except ig.ItembedError:
                outcomes["unreadable"] += 1
    for writer in writers:
        writer.join()
        outcomes["refused"] += writer.exitcode == 3
        outcomes["failed"] += writer.exitcode not in (0, 3)
    return outcomes


@contextlib.contextmanager
def no_locks() -> Iterator[None]:
    """A disk without locks."""

    def lock(folder: Path, end: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    with mock.patch.object(files, "_lock", lock):
        yield


def measure_races(count: int, folder: Path) -> list[tuple[str, ...]]:
    rows = []
    for locks in (True, False):
        for sample in SAMPLES:
            known: dict[int, Any] = {}
            outcomes = Counter[str]()
            with contextlib.nullcontext() if locks else no_locks():
                for number in range(count):
                    outcomes += race(sample, folder / f"{sample.name}-{locks}-{number}", known)
            names = ("loads", "refused", "failed", "wrong", "unreadable")
            cells = [outcomes[name] for name in names]
            name = f"{sample.name}{'' if locks else ', without locks'}"
            rows.append(say(name, count, *cells, tick(not any(cells[2:]))))
    return rows


# --- kills ------------------------------------------------------------------


def save_and_tell(save: Callable[[Path, int], Any], folder: Path, first: int, pipe: int) -> None:
    """Save versions without an end, and tell after each that it is saved."""
    version = first
    while True:
        save(folder, version)
        os.write(pipe, b"%d\n" % version)
        version += 1


def killed_after(seconds: float, target: Callable[..., None], *arguments: Any) -> list[int]:
    """Run a process, kill it, and return the versions that it told of."""
    reading, writing = os.pipe()
    process = FORK.Process(target=target, args=(*arguments, writing))
    process.start()
    os.close(writing)
    process.join(seconds)
    process.kill()
    process.join()
    with os.fdopen(reading, "rb") as told:
        return [int(line) for line in told]


def kill_saves(
    save: Callable[[Path, int], None],
    load: Load,
    expect: Callable[[int], Any],
    folder: Path,
    count: int,
    longest: float,
) -> int:
    """Kill saves, and return how often what was saved was lost."""
    generator, lost, last = np.random.default_rng(1), 0, 1
    save(folder, last)
    for _ in range(count):
        told = killed_after(generator.uniform(0, longest), save_and_tell, save, folder, last + 1)
        last = told[-1] if told else last
        try:
            found = load(folder)
            following = found == expect(last + 1)
            lost += not following and found != expect(last)
            last += following
        except ig.ItembedError:
            lost += 1
    save(folder, last + 1)
    left = {path.name for path in folder.iterdir()}
    beside = [path for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}.")]
    return lost + (len(left) > len(ig.verify(folder).files)) + len(beside)


def write_lines(path: Path, version: int) -> None:
    generator = np.random.default_rng(version)
    items = generator.integers(0, 500, (NUM_LINE, 8)).tolist()
    path.write_text("".join(" ".join(f"{version}-{i}" for i in row) + "\n" for row in items))


def kill_packs(folder: Path, count: int) -> int:
    """Kill the packing of files that are larger than memory: three, one after the other."""
    sources = [folder / f"{number}.txt" for number in range(3)]
    for number, path in enumerate(sources):
        write_lines(path, number)

    def pack(path: Path, version: int) -> None:
        ig.pack_files(sources[version % 3], path, memory=MEMORY)

    known: list[Any] = []
    for number in range(3):
        pack(folder / f"whole-{number}", number)
        known.append(load_packed(folder / f"whole-{number}"))
    began = time.perf_counter()
    pack(folder / "data", 0)
    longest = 2 * (time.perf_counter() - began)
    return kill_saves(pack, load_packed, lambda v: known[v % 3], folder / "data", count, longest)


def train(folder: Path, pipe: int) -> None:
    """Train to the end, or go on to it, and tell of the end."""
    ig.train(
        make_task(1), num_epoch=NUM_EPOCH, initial_learning_rate=0.1, progress=False,
        checkpoint=folder, resume=True,
    )  # fmt: skip
    os.write(pipe, b"1\n")


def kill_trainings(folder: Path, count: int) -> int:
    """Kill trainings, and return how often one had to begin again, or ended otherwise."""
    began = time.perf_counter()
    killed_after(60, train, folder / "whole")
    longest = (time.perf_counter() - began) / 2
    whole = load_checkpoint(folder / "whole")[-1]
    generator, lost, number, epoch = np.random.default_rng(2), 0, 0, 0
    for kill in range(count + 1):
        path = folder / str(number)
        done = killed_after(60 if kill == count else generator.uniform(0, longest), train, path)
        if not (path / checkpoints.KIND.index).exists():
            lost += epoch > 0
            continue
        try:
            place, arrays = load_checkpoint(path)[1::2]
            lost += place["epoch"] < epoch or bool(done and arrays != whole)
            epoch = place["epoch"]
        except ig.ItembedError:
            lost += 1
        if done:
            number, epoch = number + 1, 0
    return lost


def measure_kills(count: int, folder: Path) -> list[tuple[str, ...]]:
    known: dict[int, Any] = {}

    def kill_models(place: Path) -> int:
        return kill_saves(
            save_model, load_model, lambda v: expected_of(MODEL, v, known), place / "m", count, 0.1
        )

    rows = []
    for name, kill in (
        ("save", kill_models),
        ("pack", lambda place: kill_packs(place, count)),
        ("train", lambda place: kill_trainings(place, count)),
    ):
        place = folder / name
        place.mkdir()
        lost = kill(place)
        rows.append(say(name, count, lost, tick(lost == 0)))
    return rows


def main() -> None:
    parser = make_parser("damage", __doc__)
    parser.add_argument(
        "--count", type=int, default=COUNT, help="races, kills; flips are twice that"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "a checkpoint was not written", UserWarning)
    count = options.count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kills = measure_kills(count, folder)
        flips = measure_flips(FLIPS_PER_COUNT * count, folder)
        races = measure_races(count, folder)
    report = page(
        "Damage, races and kills",
        f"`python -m benchmarks.damage --count {count}`: {machine()}.",
        ["One byte of a file changed; targets: silent 0, foreign 0."],
        table(("folder", "file", "flips", "refused", "the same", "silent", "foreign", ""), flips),
        ["Two writers and a reader; targets: failed 0, wrong 0, unreadable 0."],
        table(
            ("folder", "races", "loads", "writers refused", "failed", "wrong", "unreadable", ""),
            races,
        ),
        ["kill -9; target: lost 0."],
        table(("what is killed", "kills", "lost", ""), kills),
    )
    write_whole(options.out / "damage.md", report)
    print(report)


if __name__ == "__main__":
    main()

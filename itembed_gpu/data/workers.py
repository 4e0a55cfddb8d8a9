"""Packs files by the workers of a Dask cluster, into the folder that one machine would write.

What `out_of_memory` does in two passes, tasks do in rounds, each for a share of it:

1. *Read*: a few files that follow each other. Items are numbered as they come in these, and rows
   are spilled by partition, in runs. Then the client numbers the labels of all, file after file,
   so that they have the numbers that one machine gives them.
2. *Group*: a partition of all files. Its itemsets are brought together, and their items counted.
   Lines and lists are itemsets already, and are counted as they are read. Then the client adds up
   the counts, and chooses the labels.
3. *Cut*: the itemsets whose first rows lie in a range, of all partitions, in order. The limits are
   applied. Then the client copies what is left, range after range, and the folder appears whole.

Every round ends before the next begins, and no number depends on how many workers or tasks there
are. So the folder has no shards of its own: one file of indices and one of offsets, which a worker
maps, to read the range of itemsets that is its share.

A task writes to a folder of its own, beside the one to pack, on a disk that all workers share,
and returns where that is: what goes by way of Dask is paths and sizes. It changes nothing that was
there before, so that Dask can run it again when a worker dies.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import Int32Array, Int64Array, warn
from ..disk.files import disk_errors
from ..errors import DataError, ItembedError, MissingExtraError
from .files import Known, Source, make_plain, numeric_partitions, scan_files, together
from .foreign import foreign_errors
from .format_choice import Reading as HowToRead
from .formats import SEPARATORS
from .itemsets import Dropped
from .loops import number_hashes
from .opening import Opened, is_elsewhere, size_of, temporary_files
from .packing import Cutter, Limits, Numbering
from .spill_files import (
    Groups,
    Merged,
    Part,
    Runs,
    SavedColumn,
    SavedRuns,
    SpillFolder,
    WorkFolder,
    merge,
    named,
)
from .spilling import (
    ROW_BYTES,
    Counts,
    Final,
    Numbers,
    Reading,
    bring_together,
    choose,
    cut,
    spill_lines,
    spill_lists,
    spill_table,
    table_labels,
    write,
)

# Tasks of a round for each thread of all workers: the last ones to end are then small.
_TASKS_PER_THREAD = 4
_LEAST_PARTITIONS, _MOST_PARTITIONS = 8, 4096
# Seconds until it is told that there are no workers.
_SILENCE = 30.0
# First rows are below.
_END = 1 << 62
_COUNT = np.dtype([("count", "i8"), ("first", "i8"), ("place", "i8")])


class _Job(NamedTuple):
    """What all tasks know."""

    path: Path  # to pack to
    folder: Path  # for what is spilled
    name: str  # of the files
    how: HowToRead
    limits: Limits
    memory: int
    num_partition: int
    known: Known | None = None  # of tables

    def note(self, name: str, value: Any) -> Path:
        """Write a value to a file that tasks can read."""
        path = self.folder / name
        path.write_bytes(pickle.dumps(value, protocol=5))
        return path


class _Counted(NamedTuple):
    """Itemsets that a task has spilled, and how often they have which codes."""

    part: Part
    counts: SavedColumn
    names: SavedColumn | None  # of these codes, where the task knew them
    dropped: Dropped


class _Share(NamedTuple):
    """What a task has read of some files."""

    labels: Path
    num_row: int
    rows_without_itemset: int
    runs: SavedRuns | None  # of long tables
    itemsets: _Counted | None  # of others


def pack_by_workers(
    source: Source, path: Path, limits: Limits, memory: int, num_partition: int, client: Any
) -> tuple[Reading, Dropped]:
    """Pack files by the workers of a cluster.

    Parameters
    ----------
    source : Source
        Files as they were chosen, which need not be plain.
    path : Path
        Folder to pack to.
    limits : Limits
    memory : int
        Bytes of memory for the data of a task.
    num_partition : int
        Least number of partitions, a power of two.
    client : distributed.Client

    Returns
    -------
    reading : Reading
        What was read.
    dropped : Dropped
        What of it was left out.
    """
    num_task = _TASKS_PER_THREAD * max(1, sum(client.nthreads().values()))
    wanted = min(1 << (num_task - 1).bit_length(), _MOST_PARTITIONS)
    num_partition = max(num_partition, _LEAST_PARTITIONS, wanted)
    with disk_errors(path), WorkFolder(path.absolute()) as work:
        files = [
            file if is_elsewhere(file) else Opened(file.path, file.plain.absolute())
            for file in source.files
        ]
        job = _Job(path, work.folder, source.name, source.reading, limits, memory, num_partition)
        groups = _cut_files(files, num_task)
        if source.is_table:
            job = job._replace(known=_know(source, job, groups, client))
        shares = _run(client, _read, [(job, files) for files in groups])
        labels, names = _number(job, shares)
        reading, parts = _group(job, shares, labels, names, client)
        reading.name = source.tell(reading.name)
        chosen = choose(reading, limits)
        finals, dropped = _cut_all(job, parts, chosen.rank, num_task, client)
        dropped = chosen.dropped.plus(dropped)
        write(path, reading, chosen, finals, dropped)
    return reading, dropped


def task_memory(client: Any, free_memory: Callable[[], int], least: int) -> int:
    """Return the bytes for the data of a task: half of what its worker has, for each thread."""
    rooms = client.run(_room, free_memory, on_error="ignore").values()
    threads: dict[str, int] = {}
    for host, num_thread, _, _ in rooms:
        threads[host] = threads.get(host, 0) + num_thread
    found = [free // (2 * threads[host]) for host, _, free, _ in rooms]
    found += [limit // (2 * num_thread) for _, num_thread, _, limit in rooms if limit]
    return max(least, min(found, default=1 << 30))


def _room(free_memory: Callable[[], int], dask_worker: Any) -> tuple[str, int, int, int]:
    """Return a worker's machine, its threads, and what is free and what it may take."""
    limit = dask_worker.memory_manager.memory_limit
    return socket.gethostname(), dask_worker.state.nthreads, free_memory(), int(limit or 0)


def _cut_files(files: Sequence[Opened], number: int) -> list[list[Opened]]:
    """Cut files, in their order, into about so many groups of about the same size."""
    sizes = [max(1, size_of(file)) for file in files]
    before = np.cumsum([0, *sizes])
    places = (before[:-1] * number // before[-1]).tolist()
    pairs = groupby(zip(places, files, strict=True), key=lambda pair: pair[0])
    return [[file for _, file in group] for _, group in pairs]


def _run(client: Any, task: Callable[..., Any], arguments: Iterable[Any]) -> list[Any]:
    """Run a task for each of the arguments, and return the results in their order."""
    from distributed import KilledWorker

    arguments, results = list(arguments), []
    futures = [client.submit(task, *some, pure=False) for some in arguments]
    try:
        for future in futures:
            results.append(_result(client, future))
        return results
    except CancelledError as error:
        raise DataError(
            f"the connection to the scheduler of the workers was lost ({error}); nothing was saved"
        ) from error
    except KilledWorker as error:
        job, share, *_ = arguments[len(results)]
        name = share[0].path if isinstance(share, list) else job.path
        raise DataError(
            f"{name}: one worker after the other died at it, perhaps for lack of memory; give "
            "tasks less of it: memory= (--memory); nothing was saved"
        ) from error
    except ItembedError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"workers cannot import what they need ({error}); install itembed_gpu where they run, "
            "in the same version"
        ) from error
    finally:
        client.cancel(futures)  # the rest, after an error; and results that are here by now


def _result(client: Any, future: Any) -> Any:
    """Wait for a result, and tell if there is no worker to wait for."""
    told = False
    while True:
        try:
            return future.result(timeout=_SILENCE)
        except TimeoutError:
            if future.done():
                raise
            if not told and not client.nthreads():
                warn("there is no worker left; waiting for one, until this is interrupted")
                told = True


@contextlib.contextmanager
def _task_folder(job: _Job, name: str) -> Iterator[SpillFolder]:
    """Have a folder for what a task spills, which stays unless it fails."""
    if not job.folder.is_dir():
        raise DataError(
            f"{job.path}: the worker on {socket.gethostname()} does not see what lies beside it; "
            "pack to a folder of a disk that all workers share"
        )
    with SpillFolder(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=job.folder))) as work:
        yield work


# Reading


def _know(source: Source, job: _Job, groups: list[list[Opened]], client: Any) -> Known:
    """Choose the columns of the first table, and find the types that all have in common."""
    first = make_plain(source._replace(files=source.files[:1]))
    known = scan_files(first, numbers=numeric_partitions(source.files)).known
    if source.format in SEPARATORS:
        return known._replace(common=known.schema)  # strings
    import polars

    job = job._replace(known=known)
    found = _run(client, _find_types, [(job, files) for files in groups])
    frames = [polars.LazyFrame(schema=schema) for schema in chain.from_iterable(found)]
    with foreign_errors(f"{source.name}:"):
        return known._replace(common=together(frames).collect_schema())


def _find_types(job: _Job, files: list[Opened]) -> list[Any]:
    """Return the types of the columns of tables."""
    with temporary_files() as temporary:
        source = make_plain(Source(job.name, files, job.how, temporary))
        return [part.collect_schema() for part in scan_files(source, job.known).parts]


def _read(job: _Job, files: list[Opened]) -> _Share:
    """Read some files, and spill what they hold."""
    with _task_folder(job, "read") as work, temporary_files() as temporary:
        source = make_plain(Source(job.name, files, job.how, temporary))
        if not source.is_table:
            index, tally = Numbering(), _counts(job, work, source.weighted)
            num_row = spill_lines(source, index, tally, job.memory)
            return _share(work, list(index), num_row, tally)
        tables, numbers = scan_files(source, job.known), Numbers()
        weighted = tables.columns.weight is not None
        if tables.columns.lists:
            tally = _counts(job, work, weighted)
            num_row = spill_lists(tables, numbers, tally, job.memory)
            return _share(work, numbers.values(), num_row, tally)
        runs = Runs(work, job.num_partition, weighted)
        num_row, lost = spill_table(tables, numbers, runs, job.memory)
        share = _share(work, numbers.values(), num_row)
        return share._replace(rows_without_itemset=lost, runs=runs.save())


def _counts(job: _Job, work: SpillFolder, weighted: bool) -> Counts:
    return Counts(Groups(work, weighted or job.limits.duplicates == "sum"), job.limits)


def _share(work: SpillFolder, labels: Any, num_row: int, tally: Counts | None = None) -> _Share:
    path = work.folder / "labels"
    path.write_bytes(pickle.dumps(labels, protocol=5))
    counted = None
    if tally is not None:
        tally.grow(0 if labels is None else len(labels))
        counted = _save(work, tally)
    return _Share(path, num_row, 0, None, counted)


def _save(work: SpillFolder, tally: Counts, names: Int32Array | None = None) -> _Counted:
    """Leave itemsets, and what was counted of them, for others to read."""
    counts = work.column("counts", _COUNT)
    table = np.empty(len(tally.counts), _COUNT)
    table["count"], table["first"], table["place"] = tally.counts, tally.firsts, tally.places
    counts.append(table)
    saved = None if names is None else _save_names(work, "names", names)
    return _Counted(tally.groups.save(), counts.save(), saved, tally.dropped)


def _save_names(work: SpillFolder, name: str, names: Int32Array) -> SavedColumn:
    column = work.column(name, np.int32)
    column.append(names)
    return column.save()


def _number(job: _Job, shares: list[_Share]) -> tuple[Any, list[SavedColumn]]:
    """Number the labels of all files as they first come; return them, and those of each share."""
    index: Any = Numbering() if job.known is None else Numbers()
    work, names = SpillFolder(job.folder), []
    for place, share in enumerate(shares):
        labels = pickle.loads(share.labels.read_bytes())
        share.labels.unlink()
        numbers = np.empty(0, np.int32) if labels is None else index.number(labels)
        names.append(_save_names(work, f"names-{place}", numbers))
    return (list(index) if job.known is None else index.values()), names


# Grouping


def _group(
    job: _Job, shares: list[_Share], labels: Any, names: list[SavedColumn], client: Any
) -> tuple[Reading, list[Part]]:
    """Bring itemsets together where they are not, and count what all of them hold."""
    bases = np.cumsum([0, *(share.num_row for share in shares)]).tolist()
    name, in_order = job.name, True
    if job.known is not None:
        labels, columns = table_labels(labels, job.how.format, job.known.columns, job.limits)
        name, in_order = f"{job.name} ({columns})", columns.lists
    if in_order:
        counted = [
            share.itemsets._replace(
                names=known, part=share.itemsets.part._replace(base=base, names=known)
            )
            for share, known, base in zip(shares, names, bases, strict=False)
            if share.itemsets is not None
        ]
    else:
        spilled = job.note(
            "shares",
            [
                (share.runs, known, base)
                for share, known, base in zip(shares, names, bases, strict=False)
            ],
        )
        tasks = [(job, spilled, partition) for partition in range(job.num_partition)]
        counted = [one for one in _run(client, _group_partition, tasks) if one is not None]
        for share in shares:
            if share.runs is not None:
                share.runs.close()
    counts, order = _add_up(counted, len(labels))
    dropped = Dropped()
    for one in counted:
        dropped = dropped.plus(one.dropped)
    lost = sum(share.rows_without_itemset for share in shares)
    reading = Reading(labels, counts, None if in_order else order, dropped, lost, name)
    return reading, [one.part for one in counted if one.part.stop]


def _group_partition(job: _Job, spilled: Path, partition: int) -> _Counted | None:
    """Bring the itemsets of a partition together, and count their items."""
    with _task_folder(job, "group") as work:
        found = []
        for runs, names, base in pickle.loads(spilled.read_bytes()):
            loaded = runs.load(partition)
            if loaded is not None:
                rows, codes, weights = loaded
                rows["first"] += base
                found.append((rows, named(codes, names.all()), weights))
        if not found:
            return None
        joined: list[Any] = [
            None if some[0] is None else np.concatenate(some) for some in zip(*found, strict=True)
        ]
        rows, codes, weights = joined
        # In numbers of its own: else every task would have to count all labels.
        own, names = _own_numbers(codes)
        tally = _counts(job, work, weights is not None)
        bring_together((rows, own, weights), tally, names)
        return _save(work, tally, names)


def _own_numbers(codes: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Number codes as they first come, without an array of all; return what has which number."""
    some = codes[codes >= 0]
    numbers, firsts = number_hashes(some.astype(np.uint64))
    own = np.full(len(codes), -1, np.int32)
    own[codes >= 0] = numbers
    return own, some[firsts]


def _add_up(counted: Iterable[_Counted], num_code: int) -> tuple[Int64Array, Int64Array]:
    """Return the occurrences of all codes, and the codes as they first come."""
    counts = np.zeros(num_code, np.int64)
    firsts = np.full(num_code, np.iinfo(np.int64).max)
    places = firsts.copy()
    for one in counted:
        if one.names is not None:
            names, table = one.names.all(), one.counts.all()
            counts[names] += table["count"]
            earlier = table["first"] < firsts[names]
            names, table = names[earlier], table[earlier]
            firsts[names], places[names] = table["first"], table["place"]
    return counts, np.lexsort((places, firsts))


# Cutting


def _cut_all(
    job: _Job, parts: list[Part], rank: Int32Array, num_task: int, client: Any
) -> tuple[list[Final], Dropped]:
    """Apply the limits to all itemsets; return what is left, range after range."""
    ranks, listed = job.note("rank", rank), job.note("parts", parts)
    tasks: list[Any] = [(job, listed, ranks, *bounds) for bounds in _ranges(parts, num_task)]
    skipped = [0] * len(tasks)
    if job.limits.max_length is not None:
        # Every range draws what one machine draws for it.
        skipped = np.cumsum([0, *_run(client, _count_draws, tasks)]).tolist()
    tasks = [(*task, skip) for task, skip in zip(tasks, skipped, strict=False)]
    finals, dropped = [], Dropped()
    for final, some in _run(client, _cut_range, tasks):
        finals.append(final)
        dropped = dropped.plus(some)
    for part in parts:
        part.close()
    return finals, dropped


def _ranges(parts: list[Part], number: int) -> list[tuple[int, int]]:
    """Cut the rows into about so many ranges, whose first ones are of as many items each."""
    if not parts:
        return []
    marked: list[Any] = [(part, part.marks) for part in parts]
    firsts = np.concatenate([marks[:, 0] + part.base for part, marks in marked])
    items = np.concatenate(
        [np.diff(marks[:, 2], append=part.files.codes.size) for part, marks in marked]
    )
    order = np.argsort(firsts)
    ends = np.cumsum(items[order])
    wanted = ends[-1] * np.arange(1, number) // number
    inner = firsts[order][np.searchsorted(ends, wanted)]
    bounds = np.unique(np.concatenate([[0], inner, [_END]])).tolist()
    return list(pairwise(bounds))


def _in_range(job: _Job, listed: Path, low: int, high: int) -> Iterator[Merged]:
    parts = pickle.loads(listed.read_bytes())
    return merge([part.within(low, high) for part in parts], job.memory // ROW_BYTES)


def _count_draws(job: _Job, listed: Path, ranks: Path, low: int, high: int) -> int:
    """Count the random numbers that it takes to cut the itemsets of a range."""
    cutter = Cutter(pickle.loads(ranks.read_bytes()), job.limits)
    found = _in_range(job, listed, low, high)
    return sum(cutter.count_draws(codes, lengths) for codes, lengths, _ in found)


def _cut_range(
    job: _Job, listed: Path, ranks: Path, low: int, high: int, skip: int
) -> tuple[Final, Dropped]:
    """Apply the limits to the itemsets of a range."""
    with _task_folder(job, "cut") as work:
        cutter = Cutter(pickle.loads(ranks.read_bytes()), job.limits, skip)
        final = cut(_in_range(job, listed, low, high), cutter, work)
        saved: list[Any] = [None if column is None else column.save() for column in final]
        return Final(*saved), cutter.dropped

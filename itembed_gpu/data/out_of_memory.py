"""Packs files that are larger than memory, by way of the disk.

Two passes, after which the folder is the same as if all had been read at once:

1. Files are read in batches. Items are numbered, and rows are cut into *runs*: rows that follow
   each other and are of one itemset. Each run is spilled to the partition that the hash of its
   itemset says, so that an itemset lies in one partition, whatever the order of the rows.
2. A partition after the other is loaded, its runs are brought together by itemset, and spilled
   again. Then the partitions, each ordered by first rows, are merged; labels, which are counted
   by then, get their indices; and what the limits leave is written.

What has to fit in memory is the catalog (its labels), and any one itemset. Itemsets are told
apart by hashes of 128 bits: two of a billion are taken for one with a chance of 1 in 10^20.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from .. import checks
from ..checks import spelled_out
from ..disk.files import disk_errors
from ..disk.itemsets import KIND, is_packed
from ..errors import DataError, InputError
from .doubts import nothing_to_use, warn_of_doubts
from .files import Source, Tables, choose_files, open_files, scan_files
from .formats import COMPRESSIONS, Roles
from .itemsets import Dropped, PackedItemsets
from .opening import is_read_once, size_of
from .packing import Cutter, Limits, Numbering, make_limits
from .readers import ReadItemsets, make_result, read_itemsets, read_source
from .remote import as_path, refuse_url
from .spill_files import Groups, Runs, WorkFolder
from .spilling import (
    ROW_BYTES,
    Counts,
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
from .workers import pack_by_workers, task_memory

# Bytes of memory for each byte of a file, roughly, where all of it is read at once.
_GROWTH = {"text": 2, "csv": 3, "tsv": 3, "parquet": 16, "ndjson": 2, "arrow": 4}
_COMPRESSED_GROWTH = 8
_LEAST_MEMORY = 1 << 20
_MOST_PARTITIONS = 4096


@spelled_out(like=read_itemsets)
def pack_files(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    memory: int | None = None,
    client: Any = None,
    format: str | None = None,
    **options: Any,
) -> ReadItemsets:
    """Pack the itemsets of files into a folder, in bounded memory.

    The folder is the one that `read_itemsets` followed by ``save`` would write, bit for bit.
    Files that are too large for `memory` are read in batches, and their rows brought together on
    the disk, in a folder beside `path` that is removed at the end. It takes up to 44 bytes a row,
    twice.

    The workers of a Dask `client` do the same, and the folder is again the same: each reads some
    of the files, and cuts some of the itemsets. It is not cut in shards: arrays that are mapped
    are read where they are used, and so a worker that trains on some of the itemsets reads no
    others. Workers must see the files, and the disk of `path`, by the same names. One that dies is
    no loss: what it had to do, another one does. Files are what is shared out, so that one large
    file is read by one worker. Files of a URL are copied by the worker that reads them.

    Parameters
    ----------
    source : path-like
        A file, a folder, a pattern of files or a URL, as for `read_itemsets`.
    path : path-like
        Folder of a disk to save in, as for `PackedItemsets.save`.
    memory : int, optional
        Bytes of memory to use for data, beside the catalog of labels and what Python and the
        libraries take (some 300 MB). By default half of what is free. With a `client`, for each
        task: as many as there are threads run at once.
    client : distributed.Client, optional
        Client of a Dask cluster whose workers do it; by default this process does.
    format, itemset, item, weight, separator, header, quote, nulls, encoding : optional
        As for `read_itemsets`.
    min_count, min_length, max_items, max_length, duplicates, labels, seed : optional
        As for `pack_itemsets`.

    Returns
    -------
    ReadItemsets
        What was packed.

    Raises
    ------
    DataError
        As from `read_itemsets`, or if the disk is full, if workers die again and again at the same
        task, or if their scheduler is lost. Nothing half-written stays.
    InputError
        As from `read_itemsets`, or if `path` holds something else, or `client` is none.
    MissingExtraError
        As from `read_itemsets`, or if there is a `client` to use, and distributed is not installed.

    Examples
    --------
    >>> packed = pack_files("sales/*.csv", "sales.itemsets", memory=1 << 30)
    """
    roles = Roles(*(options.pop(name, None) for name in ("itemset", "item", "weight")))
    names = ("separator", "header", "quote", "nulls", "encoding")
    writing = {name: options.pop(name, None) for name in names}
    limits = make_limits(**options)
    source, path = as_path(source), as_path(path)
    refuse_url("path", path)
    KIND.next_generation(path)  # before a read that may be long
    if client is not None:
        checks.dask_client(client)
    if memory is not None:
        memory = checks.integer("memory", memory, _LEAST_MEMORY)
    if is_packed(source):
        packed = read_itemsets(
            source, format=format, **writing, **dataclasses.asdict(roles), **limits._asdict()
        )
        packed.save(path)
        return packed
    if client is not None:
        memory = memory or task_memory(client, _free_memory, _LEAST_MEMORY)
        packed = _pack_by_workers((source, format, writing, roles), path, limits, memory, client)
        warn_of_doubts(packed.source, packed)
        return packed
    memory = memory or max(_free_memory() // 2, _LEAST_MEMORY)
    with open_files(source, format, writing, roles) as files:
        if _fits(files, memory):
            packed = read_source(files, limits)
            if packed.num_item == 0:
                raise nothing_to_use(packed.source, packed.dropped, packed.account)
            packed.save(path)
        else:
            packed = _pack_by_disk(files, path, limits, memory)
    warn_of_doubts(packed.source, packed)
    return packed


def _pack_by_disk(source: Source, path: Path, limits: Limits, memory: int) -> ReadItemsets:
    """Pack files that do not fit in memory."""
    with disk_errors(path), WorkFolder(path) as work:
        if source.is_table:
            num_partition = _count_partitions(source, memory)
            reading, groups = _read_table(scan_files(source), work, limits, memory, num_partition)
        else:
            reading, groups = _read_lines(source, work, limits, memory)
        reading = dataclasses.replace(reading, name=source.tell(reading.name))
        chosen = choose(reading, limits)
        cutter = Cutter(chosen.rank, limits)
        final = cut(groups.merge(memory // ROW_BYTES), cutter, work)
        groups.close()
        dropped = chosen.dropped.plus(cutter.dropped)
        write(path, reading, chosen, [final], dropped)
    return _load(path, reading, dropped)


def _pack_by_workers(
    asked: tuple[Any, ...], path: Path, limits: Limits, memory: int, client: Any
) -> ReadItemsets:
    """Pack files by the workers of a cluster."""
    if is_read_once(asked[0]):
        raise InputError(
            f"{asked[0]}: is a pipe, which only one process can read; save it to a file, or pack "
            "it without a client"
        )
    with choose_files(*asked, here=False) as source:
        num_partition = _count_partitions(source, memory)
        reading, dropped = pack_by_workers(source, path, limits, memory, num_partition, client)
    return _load(path, reading, dropped)


def _load(path: Path, reading: Reading, dropped: Dropped) -> ReadItemsets:
    """Open what was written."""
    written = PackedItemsets.load(path)
    if written.dropped != dropped:
        raise DataError(f"{path}: was packed by another process as well; pack to another folder")
    return make_result(written, reading.name, reading.rows_without_itemset)


def _read_table(
    tables: Tables, work: WorkFolder, limits: Limits, memory: int, num_partition: int
) -> tuple[Reading, Groups]:
    """Read tables, and bring the rows of each itemset together."""
    numbers, weighted = Numbers(), tables.columns.weight is not None
    groups = Groups(work, weighted or limits.duplicates == "sum")
    tally, lost = Counts(groups, limits), 0
    if tables.columns.lists:
        spill_lists(tables, numbers, tally, memory)
    else:
        runs = Runs(work, num_partition, weighted)
        _, lost = spill_table(tables, numbers, runs, memory)
        for partition in range(0 if runs.empty else num_partition):
            bring_together(runs.load(partition), tally)
        runs.close()
    labels, columns = table_labels(numbers.values(), tables.source.format, tables.columns, limits)
    tally.grow(len(labels))
    order = None if columns.lists else tally.order()
    name = f"{tables.source.name} ({columns})"
    return Reading(labels, tally.counts, order, tally.dropped, lost, name), groups


def _read_lines(
    source: Source, work: WorkFolder, limits: Limits, memory: int
) -> tuple[Reading, Groups]:
    """Read lines, each of which is an itemset."""
    index = Numbering()
    groups = Groups(work, source.weighted or limits.duplicates == "sum")
    tally = Counts(groups, limits)
    spill_lines(source, index, tally, memory)
    tally.grow(len(index))
    return Reading(list(index), tally.counts, None, tally.dropped, 0, source.name), groups


def _fits(source: Source, memory: int) -> bool:
    """Whether files are so small that they can be read at once."""
    return _estimate(source) <= memory


def _free_memory() -> int:
    """Bytes that can be had: what the machine has, or what the control group allows."""
    free = 4 << 30  # where nothing says it
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if "MemAvailable" in line)
    limits = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            root = Path("/sys/fs/cgroup") / ("memory" if controllers else "")
            if controllers in ("", "memory"):
                # A container may see its own group as the root.
                limits += [root / name, root / group.lstrip("/") / name]
    for limit in limits:
        with contextlib.suppress(OSError, ValueError):  # it may not be there, or say "max"
            free = min(free, int(limit.read_text()))
    return free


def _estimate(source: Source) -> int:
    """Guess the memory that it takes to read files at once."""
    total = 0
    for file in source.files:
        compressed = file.path.suffix.lower() in COMPRESSIONS
        growth = _GROWTH[source.format] * (_COMPRESSED_GROWTH if compressed else 1)
        total += size_of(file) * growth
    return total


def _count_partitions(source: Source, memory: int) -> int:
    """Choose a power of two: partitions of which each fits in memory several times."""
    wanted = 4 * _estimate(source) // memory
    return min(max(8, 1 << wanted.bit_length()), _MOST_PARTITIONS)

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
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int32Array, Int64Array, spelled_out
from ..disk.files import disk_errors
from ..disk.itemsets import KIND, is_packed, write_array, write_files, write_parts
from ..disk.labels import encode_labels
from ..errors import DataError
from ..sets import count_codes
from .columns import label_values, new_categories, run_starts
from .doubts import nothing_to_use, warn_of_doubts
from .files import Source, Tables, open_files, scan_files
from .formats import COMPRESSIONS, SEPARATORS, Roles
from .identifiers import check_exact, were_floats
from .itemsets import Dropped, PackedItemsets, offsets_dtype
from .loops import number_long_hashes, renumber_more, scatter_rows
from .packing import Cutter, Limits, Numbering, choose_labels, drop_duplicates, make_limits
from .readers import (
    ReadItemsets,
    check_itemsets,
    explode_lists,
    make_result,
    read_integers,
    read_items,
    read_itemsets,
    read_source,
    read_weights,
)
from .spill_files import Column, Groups, Runs, WorkFolder, reorder

if TYPE_CHECKING:
    import polars

# Bytes of memory for each byte of a file, roughly, where all of it is read at once.
_GROWTH = {"text": 2, "csv": 3, "tsv": 3, "parquet": 16, "ndjson": 2, "arrow": 4}
_COMPRESSED_GROWTH = 8
# What is needed for a row while it is grouped, in bytes.
_ROW_BYTES = 128
_LEAST_MEMORY = 1 << 20
_MOST_BATCH = 1 << 20
_MOST_PARTITIONS = 4096
# Integers from 0 to this are their own codes; others are looked up.
_DENSE = 1 << 24


@spelled_out(like=read_itemsets)
def pack_files(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    memory: int | None = None,
    format: str | None = None,
    **options: Any,
) -> ReadItemsets:
    """Pack the itemsets of files into a folder, in bounded memory.

    The folder is the one that `read_itemsets` followed by ``save`` would write, bit for bit.
    Files that are too large for `memory` are read in batches, and their rows brought together on
    the disk, in a folder beside `path` that is removed at the end. It takes up to 44 bytes a row,
    twice.

    Parameters
    ----------
    source : path-like
        A file, a folder or a pattern of files, as for `read_itemsets`.
    path : path-like
        Folder to save in, as for `PackedItemsets.save`.
    memory : int, optional
        Bytes of memory to use for data, beside the catalog of labels and what Python and the
        libraries take (some 300 MB). By default half of what is free.
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
        As from `read_itemsets`, or if the disk is full. Nothing half-written stays.
    InputError
        As from `read_itemsets`, or if `path` holds something else.

    Examples
    --------
    >>> packed = pack_files("sales/*.csv", "sales.itemsets", memory=1 << 30)
    """
    roles = Roles(*(options.pop(name, None) for name in ("itemset", "item", "weight")))
    names = ("separator", "header", "quote", "nulls", "encoding")
    writing = {name: options.pop(name, None) for name in names}
    limits = make_limits(**options)
    source, path = Path(source), Path(path)
    KIND.next_generation(path)  # before a read that may be long
    if memory is None:
        memory = max(_free_memory() // 2, _LEAST_MEMORY)
    memory = checks.integer("memory", memory, _LEAST_MEMORY)
    if is_packed(source):
        packed = read_itemsets(
            source, format=format, **writing, **dataclasses.asdict(roles), **limits._asdict()
        )
        packed.save(path)
        return packed
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
            tables = scan_files(source)
            num_partition = _count_partitions(source, memory)
            reading = _read_table(tables, work, limits, memory, num_partition)
        else:
            reading = _read_lines(source, work, limits, memory)
        reading = dataclasses.replace(reading, name=source.tell(reading.name))
        dropped = _write(path, reading, limits, memory, work)
    written = PackedItemsets.load(path)
    if written.dropped != dropped:
        raise DataError(f"{path}: was packed by another process as well; pack to another folder")
    return make_result(written, reading.name, reading.rows_without_itemset)


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
    for _, path in source.files:
        compressed = path.suffix.lower() in COMPRESSIONS
        growth = _GROWTH[source.format] * (_COMPRESSED_GROWTH if compressed else 1)
        total += path.stat().st_size * growth if path.exists() else 0
    return total


def _count_partitions(source: Source, memory: int) -> int:
    """Choose a power of two: partitions of which each fits in memory several times."""
    wanted = 4 * _estimate(source) // memory
    return min(max(8, 1 << wanted.bit_length()), _MOST_PARTITIONS)


# Reading


@dataclasses.dataclass
class _Reading:
    """What was read, once it is grouped."""

    groups: Groups  # itemsets of codes, duplicates handled
    labels: list[Any]  # of each code
    counts: Int64Array  # occurrences of each code
    order: Int64Array | None  # codes as they first come; None where their numbers say it
    dropped: Dropped  # the account so far
    rows_without_itemset: int = 0  # which were left out
    name: str = ""  # of what was read


class _Numbers:
    """Numbers the values of a column that comes in batches, as they first come."""

    def __init__(self) -> None:
        import polars

        self._categories = new_categories()
        # They are forgotten when no column has them any more.
        self._anchor = polars.Series([""], dtype=self._categories)
        # Number of each integer, and of each category.
        self._dense = np.full(1 << 10, -1, np.int32)
        self._others = np.full(1 << 10, -1, np.int32)
        self._labels: list[polars.Series] = []
        self.count = 0

    def number(self, column: polars.Series) -> Int32Array:
        """Return the numbers of more values; what is missing is -1."""
        import polars

        if column.dtype in (polars.String, polars.Categorical, polars.Enum):
            return self._number_strings(column, column.cast(polars.String))
        values = column.to_physical() if column.dtype.is_temporal() else column
        if not values.dtype.is_integer():
            return self._number_strings(column, values.cast(polars.String))
        small = values.is_between(0, _DENSE - 1).fill_null(True)
        if small.all():
            return self._renumber(
                column, values.cast(polars.Int64).fill_null(-1).to_numpy(), "_dense"
            )
        # Integers of any size are told apart by how they are written.
        before, known = self.count, len(self._labels)
        numbers = np.empty(len(column), np.int32)
        rows = small.to_numpy()
        kept = column.filter(small)
        numbers[rows] = self.number(kept) if len(kept) else -1
        kept = column.filter(~small)
        numbers[~rows] = self._number_strings(kept, values.filter(~small).cast(polars.String))
        return self._in_order(numbers, before, known) if self.count > before else numbers

    def _in_order(self, numbers: Int32Array, before: int, known: int) -> Int32Array:
        """Give new numbers, from `before` on, to labels, from `known` on, as they first come."""
        import polars

        _, firsts = np.unique(numbers[numbers >= before], return_index=True)
        order = np.argsort(firsts)
        places = np.empty(len(order), np.int32)
        places[order] = np.arange(before, self.count)
        for found in (numbers, self._dense, self._others):
            new = found >= before
            found[new] = places[found[new] - before]
        self._labels[known:] = [polars.concat(self._labels[known:]).gather(order)]
        return numbers

    def _number_strings(self, column: polars.Series, strings: polars.Series) -> Int32Array:
        import polars

        codes = strings.cast(self._categories).to_physical()
        return self._renumber(column, codes.cast(polars.Int64).fill_null(-1).to_numpy(), "_others")

    def _renumber(self, column: polars.Series, codes: npt.NDArray[Any], name: str) -> Int32Array:
        import polars

        codes = codes.astype(np.int64, copy=False)
        found, most = getattr(self, name), int(codes.max(initial=0))
        if most >= len(found):
            more = np.full(max(most + 1, 2 * len(found)) - len(found), -1, np.int32)
            found = np.concatenate([found, more])
            setattr(self, name, found)
        numbers: Int32Array
        numbers, first_rows = renumber_more(codes, found, self.count)
        if len(first_rows):
            labels = column.gather(first_rows)
            if labels.dtype == polars.String:
                # A copy: else those of the whole batch stay in memory.
                labels = polars.Series(labels.name, labels.to_list(), dtype=polars.String)
            self._labels.append(labels)
            self.count += len(first_rows)
        return numbers

    def values(self) -> polars.Series | None:
        """Return the value of each number; None where there is none."""
        import polars

        return polars.concat(self._labels) if self._labels else None


def _read_table(
    tables: Tables, work: WorkFolder, limits: Limits, memory: int, num_partition: int
) -> _Reading:
    """Read tables, and bring the rows of each itemset together."""
    numbers, columns = _Numbers(), tables.columns
    weighted = columns.weight is not None
    groups = Groups(work, weighted or limits.duplicates == "sum")
    num_row = min(_MOST_BATCH, max(1 << 12, memory // (8 * _ROW_BYTES)))
    rows_without_itemset = 0
    tally = _Counts(groups, limits)
    if columns.lists:
        for row, batch in tables.batches(num_row):
            items, lengths, weights = explode_lists(tables.source.name, batch, columns, row)
            firsts = np.arange(row, row + len(batch))
            tally.add(firsts, lengths, numbers.number(items), weights, False)
    else:
        runs = Runs(work, num_partition, weighted)
        for row, batch in tables.batches(num_row):
            rows_without_itemset += _spill_rows(runs, numbers, tables, row, batch)
        for partition in range(0 if runs.empty else num_partition):
            _group(runs, partition, tally)
        runs.close()
    values = numbers.values()
    labels: list[Any] = []
    if values is not None:
        if tables.source.format in SEPARATORS:
            written, values = values, read_integers(values, limits)
            columns = columns.noting(were_floats(written, values))
        labels = label_values(values)
    reading = tally.finish(labels, rows_without_itemset, in_order=columns.lists)
    return dataclasses.replace(reading, name=f"{tables.source.name} ({columns})")


def _spill_rows(
    runs: Runs, numbers: _Numbers, tables: Tables, row: int, batch: polars.DataFrame
) -> int:
    """Spill the rows of a batch, by runs, and return how many are of no itemset."""
    columns, name = tables.columns, tables.source.name
    if tables.source.format in SEPARATORS:
        check_exact(f"{name}: item column {columns.item!r}", batch["item"])
    codes = numbers.number(read_items(name, columns, batch["item"]))
    keys = batch["itemset"]
    check_itemsets(name, columns, keys)
    if keys.dtype.is_float():
        keys = keys.fill_nan(None)
    starts = run_starts(keys)
    lengths = np.diff(starts, append=len(batch))
    keys = keys.gather(starts)
    known = keys.is_not_null().to_numpy()
    used = np.repeat(known, lengths)
    weights = None
    if columns.weight is not None:
        rows = np.arange(row, row + len(batch))
        weights = read_weights(
            name,
            batch["weight"],
            columns.weight,
            rows,
            used & (codes >= 0),
            tables.locate,
        )
    if not known.all():
        keys, starts, lengths = keys.filter(known), starts[known], lengths[known]
        codes = codes[used]
        weights = None if weights is None else weights[used]
    hashes = (keys.hash(seed=1).to_numpy(), keys.hash(seed=2).to_numpy())
    runs.add(hashes, starts + row, lengths, codes, weights)
    return len(batch) - len(codes)


def _group(runs: Runs, partition: int, tally: _Counts) -> None:
    """Bring together the runs of each itemset of a partition, and spill the itemsets."""
    rows, codes, weights = runs.load(partition)
    itemsets, firsts = number_long_hashes(rows["high"].copy(), rows["low"].copy())
    lengths = rows["length"].copy()
    order = scatter_rows(itemsets, np.bincount(itemsets, minlength=len(firsts)))
    codes, weights = reorder(order, lengths, codes, weights)
    sizes = np.zeros(len(firsts), np.int64)
    np.add.at(sizes, itemsets, lengths)
    tally.add(rows["first"][firsts], sizes, codes, weights, True)


def _read_lines(source: Source, work: WorkFolder, limits: Limits, memory: int) -> _Reading:
    """Read lines, each of which is an itemset."""
    index = Numbering()
    groups = Groups(work, source.weighted or limits.duplicates == "sum")
    tally, row = _Counts(groups, limits), 0
    lines = source.itemsets()
    num_line = min(_MOST_BATCH // 8, max(1 << 8, memory >> 13))
    while batch := list(islice(lines, num_line)):
        weights = None
        if source.weighted:
            weights = np.fromiter(chain.from_iterable(line[1] for line in batch), np.float32)
            batch = [items for items, _ in batch]
        codes = index.number(chain.from_iterable(batch))
        lengths = np.fromiter(map(len, batch), np.int64, len(batch))
        firsts = np.arange(row, row + len(batch))
        tally.add(firsts, lengths, codes, weights, False)
        row += len(batch)
    reading = tally.finish(list(index), 0, in_order=True)
    return dataclasses.replace(reading, name=source.name)


class _Counts:
    """Counts codes as itemsets are spilled, and notes where each first comes."""

    def __init__(self, groups: Groups, limits: Limits) -> None:
        self._groups, self._limits = groups, limits
        self._counts = np.zeros(0, np.int64)
        # First row of the first itemset that has the code, and its place there.
        self._firsts = np.zeros(0, np.int64)
        self._places = np.zeros(0, np.int64)
        self._dropped = Dropped()

    def add(
        self,
        firsts: Int64Array,
        lengths: Int64Array,
        codes: Int32Array,
        weights: Float32Array | None,
        new_part: bool,
    ) -> None:
        """Handle duplicates, count, and spill."""
        num_code = max(len(self._counts), int(codes.max(initial=-1)) + 1)
        self._grow(num_code)
        weights, num_duplicate = drop_duplicates(codes, lengths, num_code, self._limits, weights)
        counts, gone = count_codes(codes, num_code)
        self._counts += counts
        if new_part:
            self._note_firsts(firsts, lengths, codes)
        self._dropped = self._dropped.plus(
            Dropped(
                itemsets_read=len(lengths),
                items_read=len(codes),
                none_items=gone - num_duplicate,
                duplicate_items=num_duplicate,
            )
        )
        self._groups.add(firsts, lengths, codes, weights, new_part)

    def _grow(self, num_code: int) -> None:
        more = num_code - len(self._counts)
        if more:
            latest = np.full(more, np.iinfo(np.int64).max)
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
            self._firsts = np.concatenate([self._firsts, latest])
            self._places = np.concatenate([self._places, latest])

    def _note_firsts(self, firsts: Int64Array, lengths: Int64Array, codes: Int32Array) -> None:
        found = np.full(len(self._counts), -1, np.int32)
        _, places = renumber_more(codes, found, 0)
        here = codes[places]
        rows = firsts[np.searchsorted(np.cumsum(lengths), places, side="right")]
        earlier = rows < self._firsts[here]
        self._firsts[here[earlier]] = rows[earlier]
        self._places[here[earlier]] = places[earlier]

    def finish(self, labels: list[Any], rows_lost: int, in_order: bool) -> _Reading:
        """Return all that was counted."""
        self._grow(len(labels))
        order = None if in_order else np.lexsort((self._places, self._firsts))
        return _Reading(self._groups, labels, self._counts, order, self._dropped, rows_lost)


# Writing


def _write(path: Path, reading: _Reading, limits: Limits, memory: int, work: WorkFolder) -> Dropped:
    """Choose labels, apply the limits to all itemsets, save them, and return the account."""
    labels, counts, order = reading.labels, reading.counts, reading.order
    if order is not None:
        labels, counts = [labels[code] for code in order.tolist()], counts[order]
    catalog = choose_labels(labels, counts, limits)
    encoded = encode_labels(catalog.labels)  # it may refuse them, and the rest takes long
    rank = catalog.rank
    if order is not None:
        rank = np.full(len(catalog.rank), -1, np.int32)
        rank[order] = catalog.rank
    cutter = Cutter(rank, limits)
    indices = work.column("indices", np.int32)
    offsets = work.column("sizes", np.int64)
    weights: Column | None = None
    for codes, lengths, some in reading.groups.merge(memory // _ROW_BYTES):
        codes, left, some = cutter.cut(codes, lengths, some)
        indices.append(codes)
        offsets.append(left)
        if some is not None:
            weights = weights or work.column("final-weights", np.float32)
            weights.append(some)
    reading.groups.close()
    dropped = reading.dropped.plus(catalog.dropped).plus(cutter.dropped)
    if indices.size == 0:
        raise nothing_to_use(reading.name, dropped, str(dropped))
    files: dict[str, Callable[[Path], Any]] = {
        "indices": partial(_save_column, indices),
        "offsets": partial(_save_offsets, offsets, indices.size),
        "counts": partial(write_array, array=catalog.counts),
    }
    if weights is not None:
        files["weights"] = partial(_save_column, weights)
    write_files(path, encoded, files, dataclasses.asdict(dropped))
    return dropped


def _save_column(column: Column, path: Path) -> None:
    """Copy a column to a file of NumPy's, and remove it."""
    write_parts(path, column.size, column.dtype, column.parts(_MOST_BATCH))
    column.close()


def _save_offsets(sizes: Column, num_item: int, path: Path) -> None:
    """Write where itemsets of these sizes begin, and the last one ends."""
    dtype = offsets_dtype(num_item)

    def parts() -> Iterator[Any]:
        ends = np.zeros(1, dtype)
        yield ends
        for some in sizes.parts(_MOST_BATCH):
            ends = (ends[-1] + np.cumsum(some)).astype(dtype)
            yield ends

    write_parts(path, sizes.size + 1, dtype, parts())
    sizes.close()

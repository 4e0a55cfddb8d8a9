"""What packing by way of the disk is made of, on one machine and by many workers.

Items are numbered, rows cut into runs, runs of one itemset brought together, codes counted, labels
chosen and what is left written: see `out_of_memory` and `workers`, which do it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Int32Array, Int64Array
from ..disk.itemsets import write_array, write_files, write_parts
from ..disk.labels import encode_labels
from ..sets import count_codes
from .columns import label_values, new_categories, run_starts
from .doubts import nothing_to_use
from .files import Source, Tables
from .formats import SEPARATORS, Columns
from .identifiers import check_exact, were_floats
from .itemsets import Dropped, offsets_dtype
from .loops import number_long_hashes, renumber_more, scatter_rows
from .packing import Cutter, Limits, Numbering, choose_labels, drop_duplicates
from .readers import (
    account_of,
    check_itemsets,
    explode_lists,
    read_integers,
    read_items,
    read_weights,
)
from .spill_files import (
    AnyColumn,
    Column,
    Groups,
    Merged,
    Runs,
    RunsOfPartition,
    SpillFolder,
    named,
    reorder,
)

if TYPE_CHECKING:
    import polars

# What is needed for a row while it is grouped, in bytes.
ROW_BYTES = 128
MOST_BATCH = 1 << 20
# Integers from 0 to this are their own codes; others are looked up.
_DENSE = 1 << 24


@dataclasses.dataclass
class Reading:
    """What was read, once itemsets are whole."""

    labels: list[Any]  # of each code
    counts: Int64Array  # occurrences of each code
    order: Int64Array | None  # codes as they first come; None where their numbers say it
    dropped: Dropped  # the account so far
    rows_without_itemset: int = 0  # which were left out
    name: str = ""  # of what was read


class Numbers:
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


def num_batch_row(memory: int) -> int:
    """Rows of a table that are read together."""
    return min(MOST_BATCH, max(1 << 12, memory // (8 * ROW_BYTES)))


def spill_table(tables: Tables, numbers: Numbers, runs: Runs, memory: int) -> tuple[int, int]:
    """Spill the rows of long tables, by runs; return how many there are, and are of no itemset."""
    num_row = lost = 0
    for row, batch in tables.batches(num_batch_row(memory)):
        lost += _spill_rows(runs, numbers, tables, row, batch)
        num_row = row + len(batch)
    return num_row, lost


def spill_lists(tables: Tables, numbers: Numbers, tally: Counts, memory: int) -> int:
    """Spill the itemsets of tables of lists; return how many there are."""
    num_row = 0
    for row, batch in tables.batches(num_batch_row(memory)):
        items, lengths, weights = explode_lists(tables.source.name, batch, tables.columns, row)
        num_row = row + len(batch)
        tally.add(np.arange(row, num_row), lengths, numbers.number(items), weights, False)
    return num_row


def table_labels(
    values: polars.Series | None, format: str, columns: Columns, limits: Limits
) -> tuple[list[Any], Columns]:
    """Return the labels of numbered values, and the columns as they are told of."""
    if values is None:
        return [], columns
    if format in SEPARATORS:
        written, values = values, read_integers(values, limits)
        columns = columns.noting(were_floats(written, values))
    return label_values(values), columns


def _spill_rows(
    runs: Runs, numbers: Numbers, tables: Tables, row: int, batch: polars.DataFrame
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


def bring_together(runs: RunsOfPartition, tally: Counts, names: Int32Array | None = None) -> None:
    """Bring together the runs of each itemset of a partition, and spill the itemsets."""
    rows, codes, weights = runs
    itemsets, firsts = number_long_hashes(rows["high"].copy(), rows["low"].copy())
    lengths = rows["length"].copy()
    order = scatter_rows(itemsets, np.bincount(itemsets, minlength=len(firsts)))
    codes, weights = reorder(order, lengths, codes, weights)
    # Sums that a float holds, and much faster than np.add.at.
    sizes = np.bincount(itemsets, lengths, len(firsts)).astype(np.int64)
    tally.add(rows["first"][firsts], sizes, codes, weights, True, names)


def spill_lines(source: Source, index: Numbering, tally: Counts, memory: int) -> int:
    """Spill lines, each of which is an itemset; return how many there are."""
    row = 0
    lines = source.itemsets()
    num_line = min(MOST_BATCH // 8, max(1 << 8, memory >> 13))
    while batch := list(islice(lines, num_line)):
        weights = None
        if source.weighted:
            weights = np.fromiter(chain.from_iterable(line[1] for line in batch), np.float32)
            batch = [items for items, _ in batch]
        codes = index.number(chain.from_iterable(batch))
        lengths = np.fromiter(map(len, batch), np.int64, len(batch))
        tally.add(np.arange(row, row + len(batch)), lengths, codes, weights, False)
        row += len(batch)
    return row


class Counts:
    """Counts codes as itemsets are spilled, and notes where each first comes."""

    def __init__(self, groups: Groups, limits: Limits) -> None:
        self.groups, self._limits = groups, limits
        self.counts = np.zeros(0, np.int64)
        # First row of the first itemset that has the code, and its place there.
        self.firsts = np.zeros(0, np.int64)
        self.places = np.zeros(0, np.int64)
        self.dropped = Dropped()

    def add(
        self,
        firsts: Int64Array,
        lengths: Int64Array,
        codes: Int32Array,
        weights: Float32Array | None,
        new_part: bool,
        names: Int32Array | None = None,
    ) -> None:
        """Handle duplicates, count, and spill: names of codes, if they have some."""
        num_code = max(len(self.counts), int(codes.max(initial=-1)) + 1)
        self.grow(num_code)
        weights, num_duplicate = drop_duplicates(codes, lengths, num_code, self._limits, weights)
        counts, gone = count_codes(codes, num_code)
        self.counts += counts
        if new_part:
            self._note_firsts(firsts, lengths, codes)
        self.dropped = self.dropped.plus(
            Dropped(
                itemsets_read=len(lengths),
                items_read=len(codes),
                none_items=gone - num_duplicate,
                duplicate_items=num_duplicate,
            )
        )
        codes = codes if names is None else named(codes, names)
        self.groups.add(firsts, lengths, codes, weights, new_part)

    def grow(self, num_code: int) -> None:
        more = num_code - len(self.counts)
        if more:
            latest = np.full(more, np.iinfo(np.int64).max)
            self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
            self.firsts = np.concatenate([self.firsts, latest])
            self.places = np.concatenate([self.places, latest])

    def _note_firsts(self, firsts: Int64Array, lengths: Int64Array, codes: Int32Array) -> None:
        found = np.full(len(self.counts), -1, np.int32)
        _, places = renumber_more(codes, found, 0)
        here = codes[places]
        rows = firsts[np.searchsorted(np.cumsum(lengths), places, side="right")]
        earlier = rows < self.firsts[here]
        self.firsts[here[earlier]] = rows[earlier]
        self.places[here[earlier]] = places[earlier]

    def order(self) -> Int64Array:
        """Return the codes as they first come."""
        return np.lexsort((self.places, self.firsts))


# Writing


class Chosen(NamedTuple):
    """What was chosen to be written."""

    labels: bytes  # encoded
    counts: Int64Array  # occurrences of each
    rank: Int32Array  # index of each code, -1 if it does not stay
    dropped: Dropped  # the account so far


def choose(reading: Reading, limits: Limits) -> Chosen:
    """Choose labels, and encode them, which may refuse them: the rest takes long."""
    labels, counts, order = reading.labels, reading.counts, reading.order
    if order is not None:
        labels, counts = [labels[code] for code in order.tolist()], counts[order]
    catalog = choose_labels(labels, counts, limits)
    rank = catalog.rank
    if order is not None:
        rank = np.full(len(catalog.rank), -1, np.int32)
        rank[order] = catalog.rank
    dropped = reading.dropped.plus(catalog.dropped)
    return Chosen(encode_labels(catalog.labels), catalog.counts, rank, dropped)


class Final(NamedTuple):
    """Itemsets as they are to be: their indices, their lengths, and weights, if any."""

    indices: AnyColumn
    sizes: AnyColumn
    weights: AnyColumn | None


def cut(itemsets: Iterable[Merged], cutter: Cutter, work: SpillFolder) -> Final:
    """Apply the limits to itemsets, and spill what is left."""
    indices = work.column("indices", np.int32)
    sizes = work.column("sizes", np.int64)
    weights: Column | None = None
    for codes, lengths, some in itemsets:
        codes, left, some = cutter.cut(codes, lengths, some)
        indices.append(codes)
        sizes.append(left)
        if some is not None:
            weights = weights or work.column("final-weights", np.float32)
            weights.append(some)
    return Final(indices, sizes, weights)


def write(
    path: Path, reading: Reading, chosen: Chosen, finals: Sequence[Final], dropped: Dropped
) -> None:
    """Save itemsets, which lie in some columns after others."""
    num_item = sum(final.indices.size for final in finals)
    if num_item == 0:
        account = account_of(dropped, reading.rows_without_itemset)
        raise nothing_to_use(reading.name, dropped, account)
    indices, sizes, weights = zip(*finals, strict=True)
    weights = tuple(column for column in weights if column is not None)
    files: dict[str, Callable[[Path], Any]] = {
        "indices": partial(_save_columns, indices),
        "offsets": partial(_save_offsets, sizes, num_item),
        "counts": partial(write_array, array=chosen.counts),
    }
    if weights:
        files["weights"] = partial(_save_columns, weights)
    write_files(path, chosen.labels, files, dataclasses.asdict(dropped))


def _save_columns(columns: Sequence[AnyColumn], path: Path) -> None:
    """Copy columns to a file of NumPy's, and remove them."""
    size = sum(column.size for column in columns)
    write_parts(path, size, columns[0].dtype, _parts(columns))


def _parts(columns: Sequence[AnyColumn]) -> Iterator[Any]:
    for column in columns:
        yield from column.parts(MOST_BATCH)
        column.close()


def _save_offsets(sizes: Sequence[AnyColumn], num_item: int, path: Path) -> None:
    """Write where itemsets of these sizes begin, and the last one ends."""
    dtype = offsets_dtype(num_item)

    def parts() -> Iterator[Any]:
        ends = np.zeros(1, dtype)
        yield ends
        for some in _parts(sizes):
            ends = (ends[-1] + np.cumsum(some)).astype(dtype)
            yield ends

    write_parts(path, sum(column.size for column in sizes) + 1, dtype, parts())

"""Reads itemsets: from files, data frames and sparse matrices.

A long table has one row for each item of an itemset: a column that says which
itemset, a column that says which item, and perhaps a column of weights. Rows of
an itemset need not be adjacent. A table of lists has one row for each itemset.
Tables are read with polars, which is imported only when there is one to read.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ..checks import Int64Array, spelled_out
from ..disk.itemsets import is_packed
from ..errors import DataError, InputError
from .columns import encode, group_rows, number, number_itemsets
from .doubts import nothing_to_use, warn_of_doubts
from .files import Source, open_files, scan_files
from .foreign import foreign_errors
from .formats import SEPARATORS, Columns, Roles, refuse_columns
from .identifiers import check_exact, were_floats, whole_numbers, whole_strings
from .itemsets import Dropped, PackedItemsets
from .lists import pack_itemsets
from .objects import Table, open_object, refuse_json
from .packing import Limits, make_limits, pack_again, pack_codes
from .parsers import WeightedLines
from .remote import as_path

if TYPE_CHECKING:
    import polars


# Items that are looked at before all are.
_SAMPLE = 64
# Beside those of numbers, types of columns that may hold weights.
_NUMBERS = ("Boolean", "String", "Null")


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReadItemsets(PackedItemsets):
    """Packed itemsets, and how they were read.

    Attributes
    ----------
    source : str
        One line for people: the file, and the columns that were taken.
    rows_without_itemset : int
        Rows of a table that were left out, as they do not say which itemset
        they belong to. They are no part of ``dropped``.
    """

    source: str
    rows_without_itemset: int

    @property
    def account(self) -> str:
        """One line for people: what was read, and what of it was left out."""
        return account_of(self.dropped, self.rows_without_itemset)


def account_of(dropped: Dropped, rows_without_itemset: int) -> str:
    """Say in one line what was read, and what of it was left out."""
    if not rows_without_itemset:
        return str(dropped)
    return f"{dropped}; left out {rows_without_itemset:,} row(s) without an itemset"


@spelled_out(like=make_limits)
def read_itemsets(
    source: Any,
    *,
    format: str | None = None,
    itemset: str | int | None = None,
    item: str | int | None = None,
    weight: str | int | None = None,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = None,
    nulls: str | Sequence[str] | None = None,
    encoding: str | None = None,
    **limiting: Any,
) -> ReadItemsets:
    """Read and pack itemsets from a file, a folder, a data frame or a sparse matrix.

    Itemsets come in the order of their first rows (or lines), and the items of
    each in the order of their rows; labels by count, then as they first come. The
    same itemsets are packed alike, whatever they are read from. Text and CSV are
    UTF-8, with or without a byte order mark, unless there is another `encoding`.

    In text, items are strings. In a CSV, whose first row names the columns,
    items are integers if all are written as integers are (one ``007`` makes all
    of them strings), or as whole floats (``17850.0``), else strings. Elsewhere they keep their
    type: integers, strings, categories (as strings), dates, times, or Python objects such as
    UUIDs; floats become integers if all are whole, and are refused if not, or if they are too
    large to be told apart. In a sparse matrix, rows are itemsets and the numbers of columns are
    items.

    A CSV is read as Python's `csv` module reads it, also where a quote is part of a text, or it
    is refused: where text follows a quote that closes a field, where a row has more or fewer
    fields than the first, or where a field stays open. Empty lines are no rows. A first line
    ``sep=;``, as Excel writes it, says the separator.

    A missing item (null, NaN, or an empty field of text or CSV) is no item: it is
    dropped, and counted in ``dropped.none_items``; so is a zero that a sparse matrix
    stores, in ``dropped.zero_items``. A row whose itemset is missing is left out, and
    counted in ``rows_without_itemset``: together, such rows would make one itemset of
    strangers. A weight that is missing is an error.

    Of these formats, those marked * are recognised by their first lines, whatever the suffix is,
    and ``source`` of what is returned says so; where lines leave a doubt, an error names the
    options that answer it.

    ===================== =====================================================================
    format                what is read, and what specifies it
    ===================== =====================================================================
    ``"text"``            items between spaces, or a `separator`; a line is an itemset
    ``"fimi"`` *          numbers between spaces; http://fimi.uantwerpen.be/data/
    ``"spmf"`` *          transactions, by the names that ``@ITEM`` lines give; sequences (``-1
                          -2``); transactions with utilities, which are weights;
                          https://www.philippe-fournier-viger.com/spmf/
    ``"basket"``          items between commas, ``item=weight``;
                          https://orange3.readthedocs.io/projects/orange-data-mining-library/en/latest/reference/data.io.html
    ``"arules"``          rows of a CSV without a header, with as many fields as items;
                          https://search.r-project.org/CRAN/refmans/arules/html/read.html
    ``"arules-single"``   an itemset and an item a line, between spaces or tabs; the same
    ``"wide"`` *          a CSV of columns such as ``Item 1, Item 2``, filled up with empty fields;
                          https://search.r-project.org/CRAN/refmans/arules/html/read.html
    ``"onehot"`` *        a CSV of a column an item that holds 0 or 1, but for the column `itemset`;
                          https://rasbt.github.io/mlxtend/user_guide/preprocessing/TransactionEncoder/
    ``"list-cells"`` *    a CSV whose column `item` holds lists as Python or JSON writes them;
                          https://docs.python.org/3/reference/expressions.html#list-displays
    ``"lightgcn"`` *      the number of the itemset, and its items;
                          https://github.com/kuandeng/LightGCN#dataset
    ``"recbole"`` *       tabs between columns, whose header names types; the lists of an only
                          column ``token_seq`` are itemsets;
                          https://recbole.io/docs/user_guide/data/atomic_files.html
    ``"movielens"`` *     user, item, rating and time, between ``::`` or tabs;
                          https://files.grouplens.org/datasets/movielens/ml-1m-README.txt
    ``"yoochoose"`` *     session, time, item and more, between commas;
                          https://recsys.acm.org/recsys15/challenge/
    ``"snap-checkins"`` * user, time, latitude, longitude and place, between tabs;
                          https://snap.stanford.edu/data/loc-gowalla.html
    ``"lastfm-360k"`` *   user, id, artist and plays, between tabs;
                          http://ocelma.net/MusicRecommendationDataset/lastfm-360K.html
    ``"csv"``, ``"tsv"``  tables, whose first row names the columns; https://www.rfc-editor.org/rfc/rfc4180
    ``"ndjson"`` *        an object of JSON a line; https://github.com/ndjson/ndjson-spec
    ``"parquet"``         https://parquet.apache.org/docs/file-format/
    ``"arrow"``           https://arrow.apache.org/docs/format/Columnar.html
    ``"fasttext"`` *      labels and words: refused here, and read by `read_labelled`;
                          https://fasttext.cc/docs/en/supervised-tutorial.html
    ``"libsvm"`` *        labels and features: likewise;
                          http://manikvarma.org/downloads/XC/XMLRepository.html
    ===================== =====================================================================

    Parameters
    ----------
    source : path-like, data frame, matrix or iterable
        A file, a pipe, or ``"-"``, the standard input; a folder, of which all files are read
        in the order of their names, and so are the partitions of Spark and Hive
        (``day=1/part-0.parquet``, where ``"day"`` is a column that can be named); a URL of
        either, such as ``"s3://bucket/sales/"``, which is copied to temporary files by fsspec; a
        folder that `PackedItemsets.save` wrote, which is mapped and not copied; a
        pattern such as ``"sales/2024-*.parquet"``; a data frame of polars (also a
        `LazyFrame`), pandas, Arrow, DuckDB, or another library that exports an Arrow
        stream; a column of lists of one; a matrix of `scipy.sparse`; an array of two axes
        that holds booleans, or nothing but 0 and 1; or an iterable of itemsets, as for
        `pack_itemsets`. In a frame without named columns that holds booleans, or nothing
        but 0 and 1 in at least three columns, rows are itemsets, and the names of the
        columns are the items; ``source`` of what is returned says so.
    format : str, optional
        By default as the suffix says: .txt, .csv, .tsv, .parquet or .pq, .ndjson or
        .jsonl, .arrow, .ipc or .feather, .basket; and as the first lines say where they leave no
        doubt, see below. A format that is given is believed. Text, CSV and NDJSON can be
        compressed, as .gz, .bz2, .xz, .zst or .zip; tables are decompressed to a temporary file.
    itemset, item : str or int, optional
        Names of the columns that say which itemset, and which item, or their positions: 1, or
        ``"1"`` where no column is called so, is the first column. By default
        the first columns without another role; ``source`` of what is returned
        says which were taken. Where the column of items (or the first one, if none is
        named) holds lists, each row is an itemset, and `itemset` is not needed.
    weight : str or int, optional
        Name or position of the column of weights; of a sparse matrix, ``"values"`` takes those
        that it holds. By default there are none.
    separator : str, optional
        What stands between two items of a text, which are then stripped of
        whitespace (by default, whitespace does), or between two fields of a CSV
        (by default a comma, in a .tsv a tab). One of several characters, such as
        ``"::"``, goes with no quotes.
    header : bool, optional
        Whether the first row of a CSV names the columns (by default, it does). Without it, they
        are called ``"1"``, ``"2"`` and so on.
    quote : str, optional
        What fields of a CSV may be quoted with, by default ``'"'``. ``""`` says that quotes
        are text like any other: for inch marks, for instance.
    nulls : str or sequence of str, optional
        Words of a CSV or a text that say that something is missing, such as ``["NA", "NULL"]``;
        an empty field always does.
    encoding : str, optional
        Encoding of a CSV, a text or NDJSON, by its name in Python; by default UTF-8.
    min_count, min_length, max_items, max_length, duplicates, labels, seed : optional
        As for `pack_itemsets`.

    Returns
    -------
    ReadItemsets
        As from `pack_itemsets`, with ``source`` and ``rows_without_itemset`` besides.

    Raises
    ------
    DataError
        If a file is missing, unreadable, damaged, not of its format or not of its
        encoding, or if no itemset of it can be used.
    InputError
        If the format is not known, there is no such column, or an argument does
        not go with the format.
    MissingExtraError
        If there is a table to read, and polars is not installed.

    Warns
    -----
    UserWarning
        If a file looks like another format than the one it is read as, or what was read looks
        like no itemsets: one label alone, labels that are everywhere or nearly all occur once,
        itemsets of one item.

    Examples
    --------
    >>> packed = read_itemsets("sales.csv", itemset="invoice", item="code")
    >>> packed.source
    "sales.csv (itemset column 'invoice', item column 'code')"
    """
    # Checked before a read that may be long.
    limits = make_limits(**limiting)
    roles = Roles(itemset, item, weight)
    writing = {
        "separator": separator, "header": header, "quote": quote, "nulls": nulls,
        "encoding": encoding,
    }  # fmt: skip
    of_file = isinstance(source, str | os.PathLike)
    as_packed = of_file and is_packed(as_path(source))
    if as_packed:
        refuse_columns(roles, f"{source} holds packed itemsets, which have no format and")
        _refuse_writing({"format": format, **writing}, f"{source} holds packed itemsets")
        result = _load_packed(as_path(source), limits)
    elif of_file:
        with open_files(source, format, writing, roles) as files:
            result = read_source(files, limits)
    else:
        _refuse_writing({"format": format, **writing}, "there is no file to read")
        found = open_object(source, roles, limits)
        if isinstance(found, Table):
            with foreign_errors(found.name):
                result = _pack_frame(
                    found.name, found.frame, found.columns, limits, identifiers=found.identifiers
                )
        else:
            result = make_result(*found)
    if result.num_item == 0:
        raise nothing_to_use(result.source, result.dropped, result.account)
    if not as_packed:  # which was doubted when it was packed, and whose arrays are not read here
        warn_of_doubts(result.source, result, of_file=of_file)
    return result


def make_result(packed: PackedItemsets, source: str, rows_without_itemset: int = 0) -> ReadItemsets:
    fields = {field.name: getattr(packed, field.name) for field in dataclasses.fields(packed)}
    return ReadItemsets(**fields, source=source, rows_without_itemset=rows_without_itemset)


# Sources


def read_source(source: Source, limits: Limits) -> ReadItemsets:
    """Read files that are open, all at once."""
    if not source.is_table:
        itemsets: Any = source.itemsets()
        if source.weighted:
            itemsets = WeightedLines(itemsets)
        weights = itemsets.weights() if source.weighted else None
        packed = pack_itemsets(itemsets, weights=weights, **limits._asdict())
        return make_result(packed, source.tell(source.name))
    tables = scan_files(source)
    frame, columns = tables.collect(), tables.columns
    with foreign_errors(f"{source.name}:"):
        if source.format in SEPARATORS:
            check_exact(f"{source.name}: item column {columns.item!r}", frame["item"])
            items = read_integers(frame["item"], limits)
            columns = columns.noting(were_floats(frame["item"], items))
            frame = frame.with_columns(item=items)
        result = _pack_frame(source.name, frame, columns, limits, locate=tables.locate)
    return dataclasses.replace(result, source=source.tell(result.source))


def _refuse_writing(asked: dict[str, Any], why: str) -> None:
    """Refuse what says how a file is written, where there is none."""
    for name, value in asked.items():
        if value is not None:
            raise InputError(f"{name} is {value!r}, but {why}")


def _load_packed(path: Path, limits: Limits) -> ReadItemsets:
    """Open packed itemsets; only what the limits leave out is a reason to copy them."""
    packed = PackedItemsets.load(path)
    least = int(np.diff(packed.offsets).min(initial=limits.min_length))
    as_it_is = packed.counts.min(initial=limits.min_count) >= limits.min_count
    if as_it_is and least >= limits.min_length and limits[2:6] == Limits()[2:6]:
        return make_result(packed, str(path))
    return make_result(pack_again(packed, limits), str(path))


# Tables


def read_itemset_ids(
    source: str | os.PathLike[str],
    *,
    format: str | None = None,
    itemset: str | int | None = None,
    item: str | int | None = None,
    **writing: Any,
) -> list[str] | None:
    """Return what the itemsets of a long table are called, in the order in which they are read.

    None for text and for tables of lists, whose itemsets have no names. Errors are those of
    `read_itemsets`.
    """
    with open_files(source, format, writing, Roles(itemset, item, None)) as files:
        if not files.is_table:
            return files.itemset_ids()
        tables = scan_files(files)
        frame = tables.collect()
    if tables.columns.lists:
        return None
    return [str(_as_integer(key)) for key in number(frame["itemset"])[0]]


def _as_integer(key: Any) -> Any:
    """Return a whole float as an integer, so that files of other types say the same."""
    return int(key) if isinstance(key, float) and key.is_integer() else key


def read_integers(items: polars.Series, limits: Limits) -> polars.Series:
    """Make integers of the items of a CSV, if all are written as integers are, or as ``7.0``.

    Known labels decide which they are.
    """
    import polars

    if items.dtype != polars.String or any(isinstance(label, str) for label in limits.labels):
        return items  # of a partition, or as they are known
    whole = whole_strings(items)
    if whole is not None:
        return whole
    # The first few tell it, as a rule.
    for some in (items.head(_SAMPLE), items):
        numbers = some.cast(polars.Int64, strict=False)
        others = some.filter(numbers.cast(polars.String).ne_missing(some))
        if len(others) and limits.labels:
            raise InputError(
                f"labels holds {limits.labels[0]!r}, but {others[0]!r} is an item, which makes all "
                "of them strings; pass strings"
            )
        if len(others):
            return items
    return numbers


def _pack_frame(
    name: str,
    frame: polars.DataFrame,
    columns: Columns,
    limits: Limits,
    identifiers: bool = False,
    locate: Callable[[int], tuple[str, int]] | None = None,
) -> ReadItemsets:
    """Pack the rows of each itemset, in the order of its first row.

    Items of bytes are UUIDs if `identifiers` says so.
    """
    if columns.lists:  # each row is an itemset
        values, row_lengths, weights = explode_lists(name, frame, columns)
        labels, items = number(values)
        packed = pack_codes(labels, items, row_lengths, limits, weights)
        return make_result(packed, f"{name} ({columns})")
    if not identifiers:
        frame = frame.with_columns(item=read_items(name, columns, frame["item"]))
    check_itemsets(name, columns, frame["itemset"])
    with ThreadPoolExecutor(1) as pool:  # beside the itemsets
        coded = pool.submit(encode, frame["item"])
        rows, lengths = group_rows(number_itemsets(frame["itemset"]))
    lost = len(frame) - int(lengths.sum())
    labels, items = number(frame["item"], rows, coded.result())
    if identifiers:
        labels = [UUID(bytes=label) for label in labels]
    weights = None
    if columns.weight is not None:
        column = frame["weight"] if rows is None else frame["weight"].gather(rows)
        weights = read_weights(name, column, columns.weight, rows, items >= 0, locate)
    packed = pack_codes(labels, items, lengths, limits, weights)
    return make_result(packed, f"{name} ({columns})", lost)


def explode_lists(
    name: str, frame: polars.DataFrame, columns: Columns, first_row: int = 0
) -> tuple[polars.Series, Int64Array, npt.NDArray[np.float32] | None]:
    """Return the items of all lists, the lengths of the lists, and the weights, if any.

    A missing list is an empty one.
    """
    import polars

    frame = frame.with_columns(polars.col(polars.Array).arr.to_list())
    if not isinstance(frame["item"].dtype, polars.List):
        raise DataError(
            f"{name}: item column {columns.item!r} is {frame['item'].dtype}; name a list or a value"
        )
    lengths = frame["item"].list.len().fill_null(0).cast(polars.Int64)
    items = frame["item"].explode(empty_as_null=False, keep_nulls=False)
    items = read_items(name, columns, items)
    weights = None
    if columns.weight is not None:
        if not isinstance(frame["weight"].dtype, polars.List):
            raise DataError(
                f"{name}: weight column {columns.weight!r} is {frame['weight'].dtype}, where items "
                "are lists; give a list of weights for each"
            )
        num_weight = frame["weight"].list.len().fill_null(0).cast(polars.Int64)
        for row in (lengths != num_weight).arg_true()[:1].to_list():
            raise DataError(
                f"{name}: row {first_row + row + 1} has {lengths[row]} items in column "
                f"{columns.item!r} and {num_weight[row]} weights in column {columns.weight!r}; "
                "give one each"
            )
        column = frame["weight"].explode(empty_as_null=False, keep_nulls=False)
        owners = np.repeat(np.arange(len(frame)) + first_row, lengths.to_numpy())
        used = items.is_not_null().to_numpy()
        weights = read_weights(name, column, columns.weight, owners, used)
    return items, lengths.to_numpy().copy(), weights


def read_items(name: str, columns: Columns, items: polars.Series) -> polars.Series:
    """Refuse items that would not be found again, and make integers of whole floats."""
    what, dtype = f"{name}: item column {columns.item!r}", items.dtype
    refuse_json(name, columns.item, items)
    if dtype.is_nested() or str(dtype) in ("Boolean", "Binary"):
        raise DataError(f"{what} is {dtype}; cast it to integers or strings")
    return whole_numbers(what, items)


def check_itemsets(name: str, columns: Columns, itemsets: polars.Series) -> None:
    """Refuse identifiers that were rounded, or cannot be told apart."""
    what = f"{name}: itemset column {columns.itemset!r}"
    if str(itemsets.dtype).startswith(("List", "Object")):
        raise DataError(f"{what} is {itemsets.dtype}; cast it to integers or strings")
    check_exact(what, itemsets)


def read_weights(
    name: str,
    column: polars.Series,
    column_name: str,
    rows: npt.NDArray[np.int64] | None,
    used: npt.NDArray[np.bool_],
    locate: Callable[[int], tuple[str, int]] | None = None,
) -> npt.NDArray[np.float32]:
    """Read weights, which came from these rows; only used ones have to be good."""
    import polars

    if not (column.dtype.is_numeric() or str(column.dtype) in _NUMBERS):
        raise DataError(
            f"{name}: weight column {column_name!r} is {column.dtype}; weights are finite numbers"
        )
    with np.errstate(over="ignore"):
        numbers = column.cast(polars.Float64, strict=False).fill_null(np.nan)
        weights = numbers.to_numpy().astype(np.float32)
    for bad in np.flatnonzero(used & ~np.isfinite(weights))[:1].tolist():
        row = bad if rows is None else int(rows[bad])
        if locate is not None:
            name, row = locate(row)
        raise DataError(
            f"{name}: weight column {column_name!r} holds {column[bad]!r} in row {row + 1}; "
            "weights are finite numbers"
        )
    return weights

"""How often items occur together: counts of pairs of items of itemsets, in bounded memory."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.cpu.threads import check_threads, share
from ..checks import Float32Array, Int32Array, Int64Array
from ..compiling import kept, shared
from ..errors import InputError, MissingExtraError
from ..sets import count_codes

WEIGHTINGS = ("pairs", "itemsets", "distance")
PAIRS, ITEMSETS, DISTANCE = range(3)

# Parts of the rows that threads take one after the other, at least, and occurrences of a part, at
# most: Ctrl-C waits for one.
PARTS_PER_THREAD = 16
PART = 1 << 20


class CoOccurrences(NamedTuple):
    """Counts of items that occur together: the cells of a sparse matrix, row by row.

    Attributes
    ----------
    left, right : int32, num_cell
        Items of each cell.
    counts : float32, num_cell
        How often they occur together.
    num_label : int
        Number of items.
    num_dropped : int
        Cells that were left out, whose counts were too low.
    """

    left: Int32Array
    right: Int32Array
    counts: Float32Array
    num_label: int
    num_dropped: int = 0

    @classmethod
    def of(cls, matrix: Any) -> Self:
        """Take the cells of a square sparse matrix of SciPy, those of its diagonal too.

        Parameters
        ----------
        matrix : sparse matrix or array, (num_label, num_label)
            Counts above 0.

        Returns
        -------
        CoOccurrences
            Its cells.

        Raises
        ------
        InputError
            It is no such matrix, or a value is not finite, or not above 0.
        """
        if not hasattr(matrix, "tocoo") or len(getattr(matrix, "shape", ())) != 2:
            raise InputError(
                f"matrix is {checks.show(matrix)}; pass a sparse matrix of SciPy of two axes"
            )
        if matrix.shape[0] != matrix.shape[1]:
            raise InputError(
                f"matrix has shape {matrix.shape}; pass a square one, of items with items"
            )
        cells = matrix.tocsr().tocoo()
        if not cells.nnz:
            raise InputError("matrix is empty; pass one that holds counts")
        counts = checks.counts("matrix.data", cells.data, cells.nnz)
        left, right = (np.ascontiguousarray(side, np.int32) for side in (cells.row, cells.col))
        return cls(left, right, counts, int(matrix.shape[0]))

    def matrix(self) -> Any:
        """Return them as a sparse array of SciPy.

        Returns
        -------
        scipy.sparse.csr_array of float32, (num_label, num_label)
            The counts.

        Raises
        ------
        MissingExtraError
            SciPy is not installed.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError as error:
            raise MissingExtraError("matrix() needs SciPy: pip install scipy") from error
        shape = self.num_label, self.num_label
        return csr_array((self.counts, (self.left, self.right)), shape=shape)


class _Index(NamedTuple):
    """Itemsets, and where each item occurs."""

    items: Int32Array
    offsets: Int64Array
    owners: Int32Array  # num_item: itemset of each place
    places: npt.NDArray[Any]  # num_item: places of item 0, then of item 1, ...
    starts: Int64Array  # num_label + 1


class _Way(NamedTuple):
    """How pairs are counted."""

    window: int
    weighting: int
    symmetric: bool
    least: float


def co_occurrences(
    items: npt.ArrayLike,
    offsets: npt.ArrayLike,
    num_label: int,
    *,
    weighting: str | None = None,
    window: int | None = None,
    symmetric: bool = True,
    min_count: float = 0.0,
    num_threads: int | None = None,
) -> CoOccurrences:
    """Count how often items occur together in itemsets, for `GloveTask`.

    Every pair of places of an itemset adds to the cells (i, j) and (j, i) of its items i and j;
    pairs of an item with itself are left out. Beside the result, memory is taken for a number or
    two for each place, and for each label on each thread.

    Parameters
    ----------
    items : int32, num_item
        Itemsets, concatenated.
    offsets : int32 or int64, num_itemset + 1
        Boundaries in `items`.
    num_label : int
        Number of items.
    weighting : {"pairs", "itemsets", "distance"}, optional
        What a pair adds: "pairs" 1; "itemsets" 1 / (length of the itemset - 1), so that a place
        adds 1 in all, however long its itemset is; "distance" 1 over the distance of both places,
        as GloVe has it for text. By default "distance" with a window, and "pairs" without one.
    window : int, optional
        Count pairs that are at most so many places apart; by default all of an itemset.
    symmetric : bool, optional
        If not, cell (i, j) counts only those j that come before i: the asymmetric windows of
        GloVe.
    min_count : float, optional
        Leave out cells with less; `CoOccurrences.num_dropped` says how many.
    num_threads : int, optional
        Threads; by default all cores. The result does not depend on it.

    Returns
    -------
    CoOccurrences
        `left`, `right` and `counts`, row by row, and in a row by the right item. Counts are added
        up in float64.

    Raises
    ------
    InputError
        An argument cannot be used, or no two different items occur together.

    Examples
    --------
    >>> items, offsets = [0, 1, 2, 0, 1], [0, 3, 5]
    >>> cells = co_occurrences(items, offsets, 3)
    >>> [*zip(cells.left.tolist(), cells.right.tolist(), cells.counts.tolist())]
    [(0, 1, 2.0), (0, 2, 1.0), (1, 0, 2.0), (1, 2, 1.0), (2, 0, 1.0), (2, 1, 1.0)]
    """
    num_label = checks.integer("num_label", num_label, 1)
    way = check_way(weighting, window, symmetric, min_count)
    num_threads = check_threads(num_threads)
    index = _index(items, offsets, num_label)
    parts = max(PARTS_PER_THREAD * num_threads, len(index.items) // PART)
    marks = np.linspace(0, len(index.items), parts + 1).astype(np.int64)
    bounds = np.unique(np.append(np.searchsorted(index.starts, marks), num_label))
    sizes, dropped = np.zeros(num_label + 1, np.int64), np.zeros(num_label, np.int64)

    def count(part: int) -> None:
        _count_rows(index, way, bounds[part], bounds[part + 1], sizes[1:], dropped)

    share(count, range(len(bounds) - 1), num_threads)
    places = np.cumsum(sizes, out=sizes)
    num_cell = int(places[-1])
    if not num_cell:
        raise InputError(
            "items: no two different items occur together"
            f"{f' {min_count:g} times' if dropped.any() else ''}; pass longer itemsets, "
            "a larger window or a lower min_count"
        )
    left, right = np.empty(num_cell, np.int32), np.empty(num_cell, np.int32)
    counts = np.empty(num_cell, np.float32)

    def fill(part: int) -> None:
        rows = bounds[part], bounds[part + 1]
        _fill_rows(index, way, *rows, places, left, right, counts)

    share(fill, range(len(bounds) - 1), num_threads)
    return CoOccurrences(left, right, counts, num_label, int(dropped.sum()))


def check_way(
    weighting: str | None, window: int | None, symmetric: bool = True, min_count: float = 0.0
) -> _Way:
    """Check how pairs are to be counted."""
    if weighting is None:
        weighting = "pairs" if window is None else "distance"
    if weighting not in WEIGHTINGS:
        names = ", ".join(map(repr, WEIGHTINGS))
        raise InputError(f"weighting is {weighting!r}; pass one of {names}")
    if weighting == "itemsets" and window is not None:
        raise InputError(
            "weighting is 'itemsets', which shares 1 among all of an itemset, and window is "
            f"{window}; leave one of them out"
        )
    least = checks.number("min_count", min_count)
    # As far as any two places can be apart.
    width = (1 << 62) - 1 if window is None else checks.integer("window", window, 1)
    return _Way(min(width, 1 << 62), WEIGHTINGS.index(weighting), bool(symmetric), least)


def _index(items: npt.ArrayLike, offsets: npt.ArrayLike, num_label: int) -> _Index:
    """Check itemsets, and find where each item occurs."""
    given = checks.items("items", items, num_label)
    bounds = checks.offsets("offsets", offsets, len(given))
    used = given[int(bounds[0]) : int(bounds[-1])]
    bounds = bounds - bounds[0]
    lengths = np.diff(bounds)
    if len(lengths) > np.iinfo(np.int32).max:
        raise InputError(f"offsets bounds {len(lengths)} itemsets; pass at most 2**31 - 1")
    owners = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    starts = np.zeros(num_label + 1, dtype=np.int64)
    np.cumsum(count_codes(used, num_label)[0], out=starts[1:])
    dtype = np.int32 if len(used) <= np.iinfo(np.int32).max else np.int64
    places = np.empty(len(used), dtype=dtype)
    _fill_places(used, starts[:-1].copy(), places)
    return _Index(used, bounds, owners, places, starts)


@kept(nogil=True)
def _fill_places(items, ends, places):
    """Write the places of each item one after the other, from where each begins."""
    for place in range(len(items)):
        item = items[place]
        places[ends[item]] = place
        ends[item] += 1


@shared
def _sum_row(index, way, row, sums, touched):
    """Add up a row's counts in a dense array of zeros; return how many items it has."""
    items, num_touched = index.items, 0
    for n in range(index.starts[row], index.starts[row + 1]):
        place = np.int64(index.places[n])
        itemset = index.owners[place]
        first, stop = index.offsets[itemset], index.offsets[itemset + 1]
        weight = 1.0
        if way.weighting == ITEMSETS:
            weight = 1.0 / (stop - first - 1)
        last = min(stop - 1, place + way.window) if way.symmetric else place
        for other in range(max(first, place - way.window), last + 1):
            item = items[other]
            if item == row:
                continue
            if way.weighting == DISTANCE:
                weight = 1.0 / abs(other - place)
            if sums[item] == 0.0:
                touched[num_touched] = item
                num_touched += 1
            sums[item] += weight
    return num_touched


@kept(nogil=True, error_model="numpy")
def _count_rows(index, way, start, stop, sizes, dropped):
    """Count the cells of some rows, and those that are left out."""
    num_label = len(index.starts) - 1
    sums, touched = np.zeros(num_label), np.empty(num_label, dtype=np.int32)
    for row in range(start, stop):
        num_touched = _sum_row(index, way, row, sums, touched)
        for n in range(num_touched):
            enough = sums[touched[n]] >= way.least
            sizes[row] += enough
            dropped[row] += not enough
            sums[touched[n]] = 0.0


@kept(nogil=True, error_model="numpy")
def _fill_rows(index, way, start, stop, places, left, right, counts):
    """Write the cells of some rows."""
    num_label = len(index.starts) - 1
    sums, touched = np.zeros(num_label), np.empty(num_label, dtype=np.int32)
    for row in range(start, stop):
        num_touched = _sum_row(index, way, row, sums, touched)
        touched[:num_touched].sort()
        cell = places[row]
        for n in range(num_touched):
            item = touched[n]
            if sums[item] >= way.least:
                left[cell], right[cell], counts[cell] = row, item, sums[item]
                cell += 1
            sums[item] = 0.0

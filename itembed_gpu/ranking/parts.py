"""Tables that no single memory holds: rows in parts, each of which is asked where it lies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int64Array
from ..errors import DataError, InputError

# Values of queries that a task is asked with, 8 MiB: they travel through the scheduler.
TASK_VALUES = 1 << 21
# So many times a task is tried again that failed: a disk that was away may be back.
RETRIES = 2
# What to do where a part is more than workers can have.
DIED = "give them more memory, or save the table in more shards"


class Part(NamedTuple):
    """So many rows of a table, and a function that returns them: anywhere, if it is pickled."""

    length: int
    open: Callable[[], Any]


class PartedTable:
    """A table (num_row, D) whose rows lie in several parts, one after the other.

    Whatever ranks rows takes it in the place of an array: it ranks each part where that lies, and
    merges the best, which are those of the whole to the last bit. On one machine the parts are
    opened one after the other, so that memory is that of one; with a client, each is opened by a
    task on one of its workers, and only queries and best rows travel.

    ``table[rows]`` returns a copy of some rows, from those parts alone that hold them, and
    ``numpy.asarray(table)`` all of them: what knows nothing of parts has the whole in memory.

    Parameters
    ----------
    parts : sequence of float32 (any, D)
        NumPy or CuPy; each may lie on a device of its own. There may be parts without rows.
    client : distributed.Client, optional
        Whose workers open the parts. Arrays travel to them for each question: it is for tables in
        files, as `Embeddings.load` opens them.

    Attributes
    ----------
    shape : (int, int)
        Rows and D.
    bounds : int64 (num_part + 1,)
        The first row of each part, and the number of rows.

    Raises
    ------
    InputError
        A part is no float32 array of two axes, they differ in D, or `client` is no client.
    MissingExtraError
        `client` is given, and distributed is not installed.

    Examples
    --------
    >>> table = np.eye(4, dtype=np.float32)
    >>> parted = PartedTable([table[:1], table[1:]])
    >>> parted.shape, parted[[3, 0]].tolist()
    ((4, 4), [[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    >>> top_n(table[2:3], parted, 2)[0]
    array([[2, 0]])
    """

    ndim = 2
    dtype = np.dtype(np.float32)
    _functions: tuple[Callable[[Any], Any], ...] = ()

    def __init__(self, parts: Sequence[Any], *, client: Any = None) -> None:
        if not parts:
            raise InputError("parts is empty; pass at least one array, which may have no rows")
        arrays = [checks.rows(f"parts[{i}]", part) for i, part in enumerate(parts)]
        for i, array in enumerate(arrays):
            checks.same_dimension("parts[0]", arrays[0], f"parts[{i}]", array)
        opened = [Part(len(array), functools.partial(_same, array)) for array in arrays]
        self._set(
            opened, arrays[0].shape[1], None if client is None else checks.dask_client(client)
        )

    @classmethod
    def of_files(cls, parts: Iterable[Part], dimension: int, client: Any = None) -> Self:
        """Return the table of parts that are not opened yet.

        Parameters
        ----------
        parts : iterable of Part
            How many rows each has, and how it is opened.
        dimension : int
            D.
        client : distributed.Client, optional
            Client, which is checked already.

        Returns
        -------
        PartedTable
            Nothing of it is opened.
        """
        table = cls.__new__(cls)
        table._set(list(parts), dimension, client)
        return table

    @classmethod
    def of(cls, table: Any) -> PartedTable:
        """Return a table itself, or an array as a table of one part.

        Parameters
        ----------
        table : PartedTable, or float32 (num_row, D)
            Rows.

        Returns
        -------
        PartedTable
            Of the same rows.
        """
        return table if isinstance(table, PartedTable) else cls([table])

    def _set(self, parts: list[Part], dimension: int, client: Any) -> None:
        self._parts = parts
        self._client = client
        self.bounds: Int64Array = np.cumsum([0, *(part.length for part in parts)], dtype=np.int64)
        self.shape = int(self.bounds[-1]), dimension
        if len(self) > np.iinfo(np.int32).max:
            raise InputError(f"table has {len(self)} rows; pass at most 2**31 - 1")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        where = "" if self._client is None else ", ranked by workers"
        return f"PartedTable({len(self):,} x {self.shape[1]} in {len(self._parts)} parts{where})"

    @property
    def is_remote(self) -> bool:
        """Whether workers open the parts."""
        return self._client is not None

    def apply(self, function: Callable[[Any], Any]) -> PartedTable:
        """Return the table of what a function makes of each part, once it is opened.

        Parameters
        ----------
        function : callable
            It maps rows (m, D) to rows, each by itself, and can be pickled.

        Returns
        -------
        PartedTable
            Of the same parts.
        """
        table = PartedTable.of_files(self._parts, self.shape[1], self._client)
        table._functions = (*self._functions, function)
        return table

    def query_blocks(self, num_query: int, num_value: int) -> Iterator[slice]:
        """Cut queries into those that are asked at once: all of them, but of workers.

        Parameters
        ----------
        num_query, num_value : int
            Number of queries, and values of each.

        Yields
        ------
        slice
            Of queries, in their order.
        """
        step = max(1, TASK_VALUES // num_value if self.is_remote else num_query)
        for start in range(0, num_query, step):
            yield slice(start, min(start + step, num_query))

    def ask(
        self,
        function: Callable[..., Any],
        given: Any,
        argument: Callable[[int, int], Any],
        parts: Iterable[int] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Call ``function(rows, given, argument(first, stop))`` for each part, where that lies.

        Parameters
        ----------
        function : callable
            It is pure, and with a client one of a module: it is called again where a worker dies.
        given : object
            What all calls are given.
        argument : callable
            What one is given beside, by the first row of its part and that behind the last.
        parts : iterable of int, optional
            Numbers of the parts; by default all.

        Yields
        ------
        tuple of int and object
            The number of each part and what was returned, in the order in which they come.
        """
        numbers = list(range(len(self._parts)) if parts is None else parts)
        limits = self.bounds.tolist()
        arguments = (argument(limits[number], limits[number + 1]) for number in numbers)
        opened = (
            (self._parts[number], self.shape[1], self._functions, function) for number in numbers
        )
        client = self._client
        if client is None:
            for number, one, own in zip(numbers, opened, arguments, strict=True):
                yield number, _call_on(*one, given, own)
        else:
            with checks.dask_errors(DIED):
                # The result of a task, and not scattered: it is there again if a worker dies.
                shared = _submit(client, _same, checks.on_host(given))
                asked = {
                    _submit(client, _call_on_worker, *one, shared, own): number
                    for number, one, own in zip(numbers, opened, arguments, strict=True)
                }
                try:
                    for future, result in _completed(list(asked)):
                        yield asked[future], result
                finally:
                    # A traceback keeps them, and with them tasks that none waits for any more.
                    for future in asked:
                        future.release()

    def __getitem__(self, rows: Any) -> Float32Array:
        """Return a copy of some rows: of one (D,), of a slice or of many (m, D)."""
        if isinstance(rows, slice):
            return self[np.arange(*rows.indices(len(self)))]
        wanted = np.asarray(rows)
        if wanted.size == 0:
            wanted = wanted.astype(np.int64)
        if wanted.ndim > 1 or wanted.dtype.kind not in "iu":
            raise IndexError(f"{checks.show(rows)} is no row, nor a list of rows")
        if wanted.size and not -len(self) <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows go from {wanted.min()} to {wanted.max()} of {len(self)}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        found = self._take(np.atleast_1d(wanted).astype(np.int64))
        return found if wanted.ndim else found[0]

    def _take(self, rows: Int64Array) -> Float32Array:
        owners = np.searchsorted(self.bounds, rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        numbers, begins = np.unique(owners[order], return_index=True)
        places = dict(zip(numbers.tolist(), np.split(order, begins[1:]), strict=False))
        by_first = {int(self.bounds[number]): rows[place] for number, place in places.items()}
        taken = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        # The functions take rows each by itself: of these alone, not of all of their part.
        raw = PartedTable.of_files(self._parts, self.shape[1], self._client)
        found = raw.ask(
            _take_rows, None, lambda first, stop: (by_first[first] - first, self._functions), places
        )
        for number, some in found:
            taken[places[number]] = some
        return taken

    def blocks(self) -> Iterator[tuple[int, Float32Array]]:
        """Bring parts to the memory of this machine, one after the other.

        Yields
        ------
        tuple of int and float32 (m, D)
            The first row of each part, and its rows.
        """
        for number, first in enumerate(self.bounds[:-1].tolist()):
            ((_, rows),) = self.ask(_on_host, None, lambda *limits: None, [number])
            yield first, rows

    def __iter__(self) -> Iterator[Float32Array]:
        """Rows, of one part after the other."""
        for _, rows in self.blocks():
            yield from rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all rows, in memory."""
        if copy is False:
            raise ValueError("the rows of parts cannot be had as one array without a copy")
        whole = np.empty(self.shape, dtype=np.float32)
        for first, rows in self.blocks():
            whole[first : first + len(rows)] = rows
        return whole if dtype is None else whole.astype(dtype, copy=False)


def rows_between(rows: npt.NDArray[Any], first: int, stop: int) -> npt.NDArray[Any]:
    """Return those of some rows, ascending, that are in a range, numbered from its first."""
    begin, end = np.searchsorted(rows, (first, stop))
    return rows[begin:end] - first


def _same(value: Any) -> Any:
    return value


def _submit(client: Any, function: Callable[..., Any], *args: Any) -> Any:
    import dask

    # The bias of a large part is what it is.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
        return client.submit(function, *args, pure=False, retries=RETRIES)


def _completed(futures: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield futures and their results as they come; raise what a task raised."""
    from distributed import CancelledError, as_completed

    in_turn: Any = as_completed  # it has no types
    for future, result in in_turn(futures, with_results=True):
        if isinstance(result, CancelledError):  # it stands in the place of a result
            raise result
        yield future, result


def _call_on(
    part: Part,
    dimension: int,
    functions: Sequence[Callable[[Any], Any]],
    function: Callable[..., Any],
    given: Any,
    argument: Any,
) -> Any:
    """Open a part, and ask it."""
    rows = part.open()
    if rows.shape != (part.length, dimension):
        raise DataError(
            f"a part has shape {rows.shape} where {(part.length, dimension)} was recorded; "
            "save the embeddings again"
        )
    for one in functions:
        rows = one(rows)
    return function(rows, given, argument)


def _call_on_worker(*args: Any) -> Any:
    """Do so on a worker, and say which one it was that could not."""
    try:
        return _call_on(*args)
    except DataError as error:
        from distributed import get_worker

        raise DataError(
            f"worker {get_worker().address}: {error}; every worker has to find the folder at the "
            "same path"
        ) from error


def _on_host(rows: Any, given: None, argument: None) -> Any:
    return checks.on_host(rows)


def _take_rows(
    table: Any, _: None, asked: tuple[Int64Array, Sequence[Callable[[Any], Any]]]
) -> Float32Array:
    rows, functions = asked
    device = checks.device_of(table)
    if device is None:
        taken = table[rows]
    else:
        from ..backends.cuda import chips

        with chips.device(device):
            taken = table[chips.cupy().asarray(rows)]
    for function in functions:
        taken = function(taken)
    found: Float32Array = checks.on_host(taken)
    return found

"""Checks of arguments: each returns the value in the form that the code works with.

What cannot be used raises an `InputError` that names the argument, the value
found, and what to pass instead.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import reprlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from .errors import DeviceError, InputError, MissingExtraError

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
OffsetsArray = npt.NDArray[np.int32] | npt.NDArray[np.int64]

F = TypeVar("F", bound=Callable[..., Any])

# Entries looked at together, where there may be too many for a copy of them all.
_BLOCK = 1 << 20


def integer(name: str, value: Any, minimum: int = 0) -> int:
    """Check a count or a size."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise InputError(f"{name} is {reprlib.repr(value)}; pass an integer of at least {minimum}")
    return int(value)


def number(name: str, value: Any) -> float:
    """Check a real, finite number."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise InputError(f"{name} is {reprlib.repr(value)}; pass a finite number")
    return result


def vector(name: str, value: npt.ArrayLike, kinds: str, what: str) -> npt.NDArray[Any]:
    """Check an array of one axis, with a dtype of one of these kinds.

    One that is mapped from a folder of packed itemsets is compared with its checksums first.
    """
    check = getattr(value, "check", None)
    if check is not None:
        check()
    try:
        array = np.asarray(on_host(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as a NumPy array ({error}); pass one") from error
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}; pass one axis")
    # An empty list has no dtype to speak of.
    if array.size and array.dtype.kind not in kinds:
        raise InputError(f"{name} has dtype {array.dtype}; pass {what}")
    return array


def int32(name: str, value: npt.ArrayLike) -> Int32Array:
    """Check an array of integers that fit int32; it is copied only if it has to be converted."""
    array = vector(name, value, "iu", "integers")
    limit = np.iinfo(np.int32)
    if array.size and not np.can_cast(array.dtype, np.int32):
        low, high = array.min(), array.max()
        if low < limit.min or high > limit.max:
            raise InputError(f"{name} goes from {low} to {high}; pass numbers that fit int32")
    return array.astype(np.int32, copy=False)


def items(name: str, value: npt.ArrayLike, num_label: int) -> Int32Array:
    """Check packed items: rows of a table of num_label rows. Returns a C-contiguous array."""
    array = vector(name, value, "iu", "integers")
    if array.size == 0:
        raise InputError(f"{name} is empty; pass at least one itemset")
    low, high = array.min(), array.max()
    if low < 0 or high >= num_label:
        raise InputError(
            f"{name} goes from {low} to {high}; "
            f"pass items from 0 to {num_label - 1}, the rows of the table"
        )
    return np.ascontiguousarray(array, dtype=np.int32)


def offsets(name: str, value: npt.ArrayLike, num_item: int) -> Int64Array:
    """Check boundaries as `mapped_offsets` does, and return them as int64."""
    return mapped_offsets(name, value, num_item).astype(np.int64, copy=False)


def mapped_offsets(name: str, value: npt.ArrayLike, num_item: int) -> OffsetsArray:
    """Check boundaries in packed items: within 0 ... num_item, and never decreasing.

    int32 and int64 are not copied; others become int64.
    """
    given = vector(name, value, "iu", "integers")
    if len(given) == 0:
        raise InputError(f"{name} is empty; pass the start of each itemset and the end of the last")
    # Checked by range first, as differences of unsigned or extreme numbers mislead.
    low, high = given.min(), given.max()
    if low < 0 or high > num_item:
        raise InputError(
            f"{name} goes from {low} to {high}; "
            f"pass offsets from 0 to {num_item}, the number of items"
        )
    wide = given.dtype if given.dtype in (np.int32, np.int64) else np.int64
    array: OffsetsArray = np.ascontiguousarray(given, dtype=wide)
    for start in range(0, len(array), _BLOCK):
        steps = np.diff(array[start : start + _BLOCK + 1])
        if steps.size and steps.min() < 0:
            i = start + int(steps.argmin())
            raise InputError(
                f"{name} falls from {array[i]} to {array[i + 1]} at position {i + 1}; "
                "pass offsets that never decrease"
            )
    return array


def long_enough(name: str, value: OffsetsArray, min_length: int, cure: str) -> None:
    """Check that offsets bound at least one itemset, and none that is too short.

    The cure is an argument of `prune_itemsets`.
    """
    num_itemset = len(value) - 1
    if num_itemset == 0:
        raise InputError(f"{name} has one entry; pass at least two, the bounds of one itemset")
    short, first = 0, (0, 0)
    for start in range(0, num_itemset, _BLOCK):
        lengths = np.diff(value[start : start + _BLOCK + 1])
        here = int(np.count_nonzero(lengths < min_length))
        if here and not short:
            i = int(np.argmax(lengths < min_length))
            first = start + i, int(lengths[i])
        short += here
    if short:
        raise InputError(
            f"{name}: {short} of {num_itemset} itemsets have fewer than {min_length} items, "
            f"the first is itemset {first[0]} with {first[1]}; "
            f"drop them with prune_itemsets(..., {cure})"
        )


def weights(name: str, value: npt.ArrayLike, num_item: int) -> Float32Array:
    """Check one finite weight an item. Returns a C-contiguous array."""
    given = vector(name, value, "fiu", "real numbers")
    if len(given) != num_item:
        raise InputError(f"{name} has {len(given)} entries for {num_item} items; pass one for each")
    with np.errstate(over="ignore"):  # it becomes inf, which is refused
        array = np.ascontiguousarray(given, dtype=np.float32)
    wrong = first_not_finite(array)
    if wrong is not None:
        raise InputError(f"{name}[{wrong}] is {array[wrong]} in float32; pass finite numbers")
    return array


def first_not_finite(array: Float32Array) -> int | None:
    """Return the position of the first value that is not finite."""
    finite = np.isfinite(array)
    return None if finite.all() else int(finite.argmin())


def table(name: str, value: Any) -> Any:
    """Check a table of embeddings, to be trained in place: a NumPy or a CuPy array."""
    if not isinstance(value, np.ndarray) and not (on_device(value) and hasattr(value, "get")):
        raise InputError(f"{name} is a {type(value).__name__}; pass a NumPy or a CuPy array")
    if value.ndim != 2 or 0 in value.shape:
        raise InputError(f"{name} has shape {value.shape}; pass (num_label, num_dimension)")
    if len(value) > np.iinfo(np.int32).max:
        raise InputError(f"{name} has {len(value)} rows; pass at most 2**31 - 1")
    if value.dtype != np.float32:
        raise InputError(f"{name} has dtype {value.dtype}; pass {name}.astype(np.float32)")
    if on_device(value):
        if value.strides[1] != 4 or value.strides[0] % 4 or value.strides[0] < 4 * value.shape[1]:
            raise InputError(
                f"{name} has strides {value.strides}; pass rows of consecutive float32 values, "
                f"as cupy.ascontiguousarray({name}) has"
            )
        return value
    if not value.flags.c_contiguous:
        raise InputError(f"{name} is not C-contiguous; pass np.ascontiguousarray({name})")
    if not value.flags.writeable:
        raise InputError(f"{name} is read-only, and is trained in place; pass a copy")
    return value


def rows(name: str, value: Any) -> Any:
    """Check a float32 array of two axes, of NumPy or CuPy; it may have no rows."""
    if not isinstance(value, np.ndarray) and not (on_device(value) and hasattr(value, "get")):
        raise InputError(f"{name} is a {type(value).__name__}; pass a NumPy or a CuPy array")
    if value.ndim != 2 or not value.shape[1]:
        raise InputError(f"{name} has shape {value.shape}; pass two axes, of (rows, dimension)")
    if value.dtype != np.float32:
        raise InputError(f"{name} has dtype {value.dtype}; pass {name}.astype(np.float32)")
    if len(value) > np.iinfo(np.int32).max:
        raise InputError(f"{name} has {len(value)} rows; pass at most 2**31 - 1")
    return value


def tables(**given: Any) -> int:
    """Check two tables that are trained together, by their names; return their dimension."""
    for name, value in given.items():
        table(name, value)
    (left_name, left), (right_name, right) = given.items()
    return same_dimension(left_name, left, right_name, right)


def tables_alike(**given: Any) -> None:
    """Check two tables of the same items, by their names."""
    for name, value in given.items():
        table(name, value)
    (left_name, left), (right_name, right) = given.items()
    if left.shape != right.shape:
        raise InputError(
            f"{left_name} has shape {left.shape} and {right_name} {right.shape}; "
            "pass tables of the same shape"
        )


def beside(name: str, value: Any, table: Any) -> Any:
    """Check a number for each row of a table: contiguous float32, where the table lies."""
    if type(value) is not type(table):
        raise InputError(
            f"{name} is a {type(value).__name__}, and its table a {type(table).__name__}; "
            "pass both in one place"
        )
    contiguous = value.flags.c_contiguous
    if value.shape != table.shape[:1] or value.dtype != np.float32 or not contiguous:
        raise InputError(
            f"{name} has shape {value.shape}, dtype {value.dtype} and strides {value.strides}; "
            f"pass a contiguous float32 array of {table.shape[0]} values"
        )
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise InputError(f"{name} is read-only, and is trained in place; pass a copy")
    return value


def accumulator(name: str, value: Any, table: Any, *, by_number: bool = False) -> Any:
    """Check the accumulators of a table's rows, or of each of its numbers.

    Raises
    ------
    InputError
        They are not float32 where the table lies, with one finite number of at least 0 for each.
    """
    if by_number:
        same_shape(name, value, table)
    else:
        beside(name, value, table)
    if len(value) and not (float(value.min()) >= 0 and float(value.max()) < np.inf):
        raise InputError(f"{name} holds values that are negative or not finite; start from zeros")
    return value


def same_shape(name: str, value: Any, other: Any) -> None:
    """Check a table that has a number for each of another one."""
    table(name, value)
    if type(value) is not type(other) or value.shape != other.shape:
        raise InputError(
            f"{name} is a {type(value).__name__} of shape {value.shape}; "
            f"pass a {type(other).__name__} of shape {other.shape}"
        )


def counts(name: str, value: npt.ArrayLike, num_item: int) -> Float32Array:
    """Check one count for each item: finite and above 0. Returns a C-contiguous array."""
    array = weights(name, value, num_item)
    if array.size and not array.min() > 0:
        wrong = int((array <= 0).argmax())
        raise InputError(
            f"{name}[{wrong}] is {array[wrong]} in float32; pass counts above 0, and leave cells "
            "of 0 out"
        )
    return array


def same_table(left: Any, right: Any) -> bool:
    """Whether two tables are one in memory."""
    if left is right:
        return True
    return (
        on_device(left) == on_device(right)
        and address(left) == address(right)
        and left.shape == right.shape
        and left.strides == right.strides
    )


def same_or_apart(left_name: str, left: Any, right_name: str, right: Any) -> None:
    """Check that two tables are one, or have no value in common."""
    if on_device(left) != on_device(right) or same_table(left, right):
        return
    (first, first_address), (second, second_address) = sorted(
        ((table, address(table)) for table in (left, right)), key=lambda pair: pair[1]
    )
    # The stride of a single row says nothing.
    row = max(first.strides[0], 4 * first.shape[1])
    distance = second_address - first_address
    width, second_width = 4 * first.shape[1], 4 * second.shape[1]
    behind = distance >= (len(first) - 1) * row + width
    # Columns of one array.
    beside = row == second.strides[0] and width <= distance % row <= row - second_width
    if not (behind or beside):
        raise InputError(
            f"{left_name} and {right_name} share a part of their memory; "
            "pass the same table twice, or tables that lie apart"
        )


def same_dimension(left_name: str, left: Float32Array, right_name: str, right: Float32Array) -> int:
    """Check that two tables have as many columns, and return how many."""
    if left.shape[1] != right.shape[1]:
        raise InputError(
            f"{left_name} has dimension {left.shape[1]} and {right_name} {right.shape[1]}; "
            "pass tables of the same dimension"
        )
    return int(left.shape[1])


def spelled_out(like: Callable[..., Any]) -> Callable[[F], F]:
    """Have a function's ``**keywords`` be the keyword-only arguments of another function.

    `help` and editors that ask for a signature see each of them; what is none of them is
    refused as Python does.
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function)
        kinds = inspect.Parameter
        given = [p for p in own.parameters.values() if p.kind is not kinds.VAR_KEYWORD]
        known = [
            p
            for p in inspect.signature(like).parameters.values()
            if p.kind is kinds.KEYWORD_ONLY and p.name not in own.parameters
        ]
        whole = own.replace(parameters=[*given, *known])

        @functools.wraps(function)
        def called(*values: Any, **keywords: Any) -> Any:
            try:
                whole.bind(*values, **keywords)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(*values, **keywords)

        called.__signature__ = whole  # type: ignore[attr-defined]
        return cast(F, called)

    return decorate


def import_polars(purpose: str) -> Any:
    """Return polars, which is imported where there is a table; the purpose begins the error."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(
            f'{purpose} needs polars: pip install "itembed_gpu[data]"'
        ) from error
    return polars


def dask_client(client: Any) -> Any:
    """Check a client of Dask, whose workers are to do something, and which is not awaited."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError(
            'client: needs distributed: pip install "itembed_gpu[cluster]"'
        ) from error
    if not isinstance(client, Client) or client.asynchronous:
        raise InputError(
            f"client is {show(client)}; pass a distributed.Client that is not asynchronous"
        )
    if client.status != "running":
        raise InputError(f"client is {client.status}; pass one that is connected to its scheduler")
    return client


@contextlib.contextmanager
def dask_errors(died: str, left: str = "") -> Iterator[None]:
    """Say in a line that workers of Dask, or all that knows of them, are gone.

    Raises a `DeviceError` in the place of what Dask raises: with what to do where one worker after
    the other `died` at a task, and what is `left`. And a `MissingExtraError` where workers lack a
    module.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise DeviceError(
            "client: one worker after the other died at the same task, perhaps for lack of memory; "
            f"{died}{left}"
        ) from error
    except (CancelledError, ClosedClientError, CommClosedError, TimeoutError) as error:
        raise DeviceError(
            f"client: its scheduler is lost, or it was closed; connect again{left}"
        ) from error
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"workers cannot import what they need ({error}); install itembed_gpu where they run, "
            f"in the same version{left}"
        ) from error


def warn(text: str) -> None:
    """Warn of something in the code that called this package, however deep inside the call is."""
    # What a context of ours does stands below a frame of contextlib.
    ours = f"{__package__}.", "contextlib."
    frame, depth = inspect.currentframe(), 0
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(ours):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, UserWarning, stacklevel=depth + 1)


def show(value: object, width: int = 60) -> str:
    """Return the repr of any value, cut to one line of at most this width."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an int of more digits than Python prints
        text = f"<{type(value).__name__} too long to print>"
    return text if len(text) <= width else f"{text[: width - 3]}..."


def on_device(value: Any) -> bool:
    """Whether an array lies in the memory of a GPU."""
    # The first is what it nearly always is, and told in no time.
    return type(value) is not np.ndarray and hasattr(value, "__cuda_array_interface__")


def device_of(*arrays: Any) -> int | None:
    """Return the number of the GPU of the first array that lies on one; None where none does."""
    return next((int(array.device.id) for array in arrays if on_device(array)), None)


def using_device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which an array can be copied: CuPy works on its current device."""
    return array.device if on_device(array) else contextlib.nullcontext()


def on_host(value: Any) -> Any:
    """Return a CuPy array as a NumPy array, and anything else as it is."""
    return value.get() if on_device(value) and hasattr(value, "get") else value


def address(array: Any) -> int:
    """Address of an array's first value, in the memory that it lies in."""
    kind = "__cuda_array_interface__" if on_device(array) else "__array_interface__"
    return int(getattr(array, kind)["data"][0])


# Values that are looked at together.
_VALUES_PER_CHECK = 1 << 16


def is_finite(table: Float32Array, bound: float = np.inf) -> bool:
    """Whether a C-contiguous float32 table holds finite numbers only, of sizes below a bound."""
    values = table.reshape(-1)
    with np.errstate(invalid="ignore"):
        for start in range(0, len(values), _VALUES_PER_CHECK):
            # Both are nan where a value is; much faster than a table of booleans.
            part = values[start : start + _VALUES_PER_CHECK]
            if not (-bound < part.min() and part.max() < bound):
                return False
    return True

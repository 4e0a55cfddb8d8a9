"""Tables: what is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Int32Array
from ..errors import InputError

# What a table can have beside its rows, with a value for each of them, or for each number.
BESIDE = ("accumulator", "bias", "bias_accumulator", "moment", "variance")
# Rows that are taken or put at a time.
ROWS_AT_ONCE = 1 << 14

Run = Callable[[Callable[[int], None], Iterable[int]], Any]


def run_serially(function: Callable[[int], None], values: Iterable[int]) -> None:
    """Call a function with each of some numbers."""
    for value in values:
        function(value)


@dataclass(eq=False)
class Table:
    """A row of numbers for each item, and what is trained along with it."""

    name: str  # of the argument that it was given by
    array: Any  # float32, (num_row, num_dimension): NumPy or CuPy, trained in place
    # float32, num_row: what Adagrad adds up for each row; of Adam, its steps. Of GloVe, like the
    # array: what Adagrad adds up for each number
    accumulator: Any = None
    bias: Any = None  # float32, num_row: what is added to the logits of each row
    bias_accumulator: Any = None  # float32, num_row: what Adagrad adds up for each bias
    # float32, like the array: what Adam keeps of gradients, and of their squares
    moment: Any = None
    variance: Any = None
    frozen: bool = False  # whether it is only read

    def __len__(self) -> int:
        return len(self.array)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return int(self.array.shape[1])

    def arrays(self) -> dict[str, Any]:
        """List its arrays by name: its own, and of what lies beside those that there are."""
        beside = {f"{self.name}_{part}": getattr(self, part) for part in BESIDE}
        return {self.name: self.array} | {n: a for n, a in beside.items() if a is not None}

    def map(self, change: Callable[[Any], Any]) -> Table:
        """Return a table of what a function makes of each array."""
        arrays = {part: getattr(self, part) for part in ("array", *BESIDE)}
        return replace(self, **{part: change(a) for part, a in arrays.items() if a is not None})

    def take(self, rows: Int32Array, run: Run = run_serially) -> Table:
        """Return a table of copies of some rows, and of what lies beside them.

        Parameters
        ----------
        rows : int32
            Which, all of which there are.
        run : callable, optional
            Calls a function with each of some numbers, perhaps on several threads.
        """

        def copy(array: Any) -> Any:
            copies = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)

            def some(first: int) -> None:
                part = slice(first, first + ROWS_AT_ONCE)
                # With "raise", NumPy would make another copy.
                np.take(array, rows[part], axis=0, out=copies[part], mode="clip")

            run(some, range(0, len(rows), ROWS_AT_ONCE))
            return copies

        return self.map(copy)

    def put(self, rows: Int32Array, values: Table, run: Run = run_serially) -> None:
        """Write rows back that were taken."""
        for part in ("array", *BESIDE):
            if getattr(self, part) is not None:
                whole, new = getattr(self, part), getattr(values, part)

                def some(first: int, whole: Any = whole, new: Any = new) -> None:
                    used = slice(first, first + ROWS_AT_ONCE)
                    whole[rows[used]] = new[used]

                run(some, range(0, len(rows), ROWS_AT_ONCE))


def uniform_rows(
    num_row: int, dim: int, seed: int, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Draw values of -0.5 / dim ... 0.5 / dim, (num_row, dim), by a seed of NumPy's generator."""
    draws = np.random.default_rng(seed).random((num_row, dim), dtype=np.float32)
    return centred(draws.astype(dtype, copy=False))


def centred(draws: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring draws of 0 ... 1, (num_row, dim), to -0.5 / dim ... 0.5 / dim, in place."""
    draws -= np.array(0.5, dtype=draws.dtype)
    draws /= np.array(draws.shape[1], dtype=draws.dtype)
    return draws


def pair_up(left: Table, right: Table) -> tuple[Table, ...]:
    """Return the tables of two sides: one, where both sides are the same in memory.

    Raises
    ------
    InputError
        They overlap, or are one of which only one side is to be trained.
    """
    checks.same_or_apart(left.name, left.array, right.name, right.array)
    if not checks.same_table(left.array, right.array):
        return left, right
    if left.frozen != right.frozen:
        raise InputError(
            f"{left.name} and {right.name} are one table, and only one side of it is to be "
            "updated; pass two tables, or the same update_left and update_right"
        )
    return (left,)

"""The task of GloVe: word vectors, or those of items, from counts of co-occurrence."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .. import checks
from ..errors import InputError
from ..objective.keywords import CellKeywords
from ..objective.options import CELL_TASK, GLOVE, make_options, takes_options
from ..objective.pairs import Curve, ListedSource
from ..objective.table import Table
from .tasks import Accumulators, Leaf, _PackedTask, zeros_beside

# Of Adagrad, as in the authors' program: the first steps are not much longer than later ones.
FIRST_TOTAL = 1.0
# Cells that are looked at to know the loss of a model that knows nothing, at most.
NUM_SAMPLE = 1 << 16


@takes_options(CELL_TASK)
class GloveTask(_PackedTask):
    """Learn from counts of co-occurrence: GloVe.

    With rows u of `syn0` and v of `syn1`, biases b and c, and counts x of cells (i, j), it is
    weighted least squares (Pennington, Socher and Manning, "GloVe: Global vectors for word
    representation", EMNLP 2014, equation 8)::

        J = sum over cells of f(x) * (u_i . v_j + b_i + c_j - log(x))**2
        f(x) = min(1, (x / x_max) ** exponent)

    What `History` tells is the mean of the terms of J. A step is that of J / 2, as the authors'
    program takes it, by Adagrad with an accumulator for each number, which begins at 1. The
    paper's learning rate is 0.05, which stays as it is: pass ``initial_learning_rate=0.05,
    final_learning_rate=0.05`` to `train`. An epoch trains every cell once, in a random order.

    Tables and biases are trained in place. **The vector of an item is the sum of its rows of both
    tables**, ``syn0 + syn1``, where those are two.

    Parameters
    ----------
    left, right : int32, num_cell
        Rows of each cell in the tables. Any integer type whose values fit. Where the counts of
        (i, j) and (j, i) are the same, both are to be there, as `co_occurrences` has them.
    counts : float32, num_cell
        How often they occur together: finite and above 0.
    syn0, syn1 : float32, (num_left_label, num_dimension) and (num_right_label, ...)
        Tables of both sides. They may be one, which is symmetric: then so are the biases.
    bias0, bias1 : float32, num_left_label and num_right_label, optional
        Biases; by default they start at 0. See `biases`.
    x_max : float, optional
        From this count on, cells weigh 1.
    exponent : float, optional
        How weights grow below it: alpha in the paper, which elsewhere is the learning rate.
    accumulators : tuple of four arrays of float32, optional
        Sums of squares of Adagrad, of `syn0` and `syn1`, of as many numbers, and of both biases,
        all trained in place; by default they start at 1. They belong to what is to be kept to go
        on from: pass ``task.accumulators``.
    {options}

    Attributes
    ----------
    biases : tuple of two float32
        Biases of the left and of the right rows, as given or as made: trained in place, and one
        array where the tables are one.

    Raises
    ------
    InputError
        An argument cannot be used.
    DeviceError
        The device cannot be had.

    Examples
    --------
    >>> labels, items, offsets = pack_itemsets(itemsets, min_length=2)
    >>> cells = co_occurrences(items, offsets, len(labels), weighting="itemsets")
    >>> syn0, syn1 = initialize_syn(len(labels), 64), initialize_syn(len(labels), 64)
    >>> task = GloveTask(cells.left, cells.right, cells.counts, syn0, syn1)
    >>> history = train(task, num_epoch=25, initial_learning_rate=0.05, final_learning_rate=0.05)
    >>> embeddings = Embeddings(labels, syn0 + syn1)
    """

    _flags = GLOVE

    def __init__(
        self,
        left: npt.ArrayLike,
        right: npt.ArrayLike,
        counts: npt.ArrayLike,
        syn0: Any,
        syn1: Any,
        bias0: Any = None,
        bias1: Any = None,
        *,
        x_max: float = 100.0,
        exponent: float = 0.75,
        accumulators: Accumulators | None = None,
        **options: Unpack[CellKeywords],
    ) -> None:
        checks.tables(syn0=syn0, syn1=syn1)
        rows = checks.items("left", left, len(syn0)), checks.items("right", right, len(syn1))
        if len(rows[0]) != len(rows[1]):
            raise InputError(
                f"left has {len(rows[0])} rows and right {len(rows[1])}; pass as many, a cell each"
            )
        if checks.same_table(syn0, syn1):
            bias0, bias1 = (bias1, bias1) if bias0 is None else (bias0, bias1)
            if not (bias1 is None or bias1 is bias0):
                raise InputError(
                    "syn0 and syn1 are one table, and bias0 and bias1 are two; pass one"
                )
        self.x_max, self.exponent = check_curve(x_max, exponent)
        source = ListedSource(
            *rows,
            checks.counts("counts", counts, len(rows[0])),
            Curve(self.x_max, self.exponent),
        )
        self.left, self.right, self.counts = left, right, counts
        self.syn0, self.syn1 = syn0, syn1
        tables = Table("syn0", syn0, bias=bias0), Table("syn1", syn1, bias=bias1)
        made = make_options(self, CELL_TASK, options)
        super().__init__(
            source, *tables, replace(made, num_negative=0, optimizer="adagrad"), accumulators
        )

    def _add_accumulators(
        self, tables: tuple[Table, ...], given: Accumulators | None
    ) -> Accumulators:
        self._add_biases(tables)
        if given is None:
            for table in tables:
                table.accumulator = zeros_beside(table, len(table), table.dim, self._backend)
                table.bias_accumulator = zeros_beside(table, 1, len(table), self._backend)[0]
                table.accumulator.fill(FIRST_TOTAL)
                table.bias_accumulator.fill(FIRST_TOTAL)
        else:
            if not isinstance(given, (tuple, list)) or len(given) != 4:
                raise InputError(
                    "accumulators must be four arrays: of syn0, of syn1, and of both biases"
                )
            for place, array in enumerate(given):
                name, table = f"accumulators[{place}]", tables[-(place % 2)]
                checks.accumulator(name, array, table.array, by_number=place < 2)
            _check_sides(tables, "accumulators[{}]", given[:2])
            _check_sides(tables, "accumulators[{}]", given[2:], 2)
            for table, array, of_bias in zip(tables, given[:2], given[2:], strict=False):
                table.accumulator, table.bias_accumulator = array, of_bias
        first, last = tables[0], tables[-1]
        return first.accumulator, last.accumulator, first.bias_accumulator, last.bias_accumulator

    def _add_biases(self, tables: tuple[Table, ...]) -> None:
        """Check the biases of tables, or make new ones."""
        for side, table in enumerate(tables):
            if table.bias is None:
                table.bias = zeros_beside(table, 1, len(table), self._backend)[0]
            else:
                checks.beside(f"bias{side}", table.bias, table.array)
                ends = float(table.bias.min()), float(table.bias.max())  # nan where one is
                if not np.isfinite(ends).all():
                    raise InputError(f"bias{side} holds values that are not finite; pass others")
        self.biases = tables[0].bias, tables[-1].bias
        _check_sides(tables, "bias{}", self.biases)

    @functools.cached_property
    def _loss_at_random(self) -> float:
        source, step = self._source, -(-self.num_pair // NUM_SAMPLE)
        part = np.ascontiguousarray(source.values[::step])  # type: ignore[union-attr]
        weights = source.curve.weigh(part)  # type: ignore[union-attr]
        return float((weights * np.maximum(np.log(part) ** 2, 1)).mean(dtype=np.float64))

    @property
    def _other_cure(self) -> str:
        return ""

    def _leaves(self) -> list[Leaf]:
        (leaf,) = super()._leaves()
        own = {"x_max": self.x_max, "exponent": self.exponent}
        return [leaf._replace(settings=leaf.settings | own)]

    def __repr__(self) -> str:
        return (
            f"GloveTask(num_cell={self.num_pair}, num_dimension={self._tables[0].dim}, "
            f"x_max={self.x_max}, exponent={self.exponent}, batch_size={self.batch_size}, "
            f"seed={self.seed}, device={self.device!r})"
        )


def check_curve(x_max: float, exponent: float) -> tuple[float, float]:
    """Check how cells are to be weighed by their counts."""
    most = float(np.finfo(np.float32).max)
    checked = checks.number("x_max", x_max), checks.number("exponent", exponent)
    if not 0 < checked[0] <= most:
        raise InputError(f"x_max is {x_max}; pass a number above 0, such as 100")
    if not 0 <= checked[1] <= most:
        raise InputError(f"exponent is {exponent}; pass at least 0, such as 0.75")
    return checked


def _check_sides(
    tables: tuple[Table, ...], name: str, arrays: Accumulators, first: int = 0
) -> None:
    """Check that what lies beside both sides is one array where the table is one, or lies apart."""
    names = [name.format(first + side) for side in range(2)]
    left, right = (array if array.ndim == 2 else array[None] for array in arrays)
    checks.same_or_apart(names[0], left, names[1], right)
    if checks.same_table(left, right) != (len(tables) == 1):
        raise InputError(
            f"{names[0]} and {names[1]} must be one array where the tables are one, and two "
            "where they are two"
        )

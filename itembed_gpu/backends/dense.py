"""Objectives that see all items: a batch of itemsets at a time, as products of matrices.

The one loop of all devices; what a device does for it are its `Operations`. With X and Y the left
and the right table, a batch is two sparse matrices A (`Batch.bags`) and T (targets), and a step is

    Z = A X,  Q = Z or Z / |Z|,  V = Y or Y / |Y|,  S = Q V' / temperature
    loss = sum over the targets (q, t) of T[q, t] * (sum_scale * log(sum_j exp(S[q, j])) - S[q, t])

with the sum over all rows j of Y, or those that were drawn; to it, `self_normalization` adds for
some of the queries a factor times the square of that logarithm. With its gradients by X and Y, S is
made and used a tile of the columns at a time, and never in memory as a whole: first for the
logarithms of the sums, added up tile by tile around the largest logit so far (Milakov and
Gimelshein, "Online normalizer calculation for softmax", 2018), then for the gradients, again, or
from what was kept where that takes little memory (as in Wijmans et al., "Cut your losses in
large-vocabulary language models", ICLR 2025). Each tile of Y is changed once, as soon as its
gradient is known.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float64Array
from ..interrupts import deferred_interrupt
from ..objective.schedule import batch_start
from ..objective.table import Table
from .batches import MIN_TILE, TILE_LOGITS, Batch, Batches, Counts, Sums, Tile
from .protocol import Problem, Tally

# Logits of a batch, at most, that are kept and not made twice.
KEPT_LOGITS = 1 << 26
# Columns of a tile, at most, where nothing but sums of logits is asked for.
MAX_WIDTH = 1 << 16
# What is less is a vector of zeros; and it keeps the logarithm of a sum of nothing finite.
TINY = np.float32(1e-30)
# Of Adam: what is kept of the means of gradients and of squares, and what is added to a root.
ADAM_DECAYS = (0.9, 0.999, 1e-8)
# Batches are trained in calls of about so many seconds.
SECONDS_PER_CALL = 0.1


class Update(NamedTuple):
    """How rows of a table change by their gradients."""

    optimizer: str
    rate: float
    l2: float


class Targets(NamedTuple):
    """The targets of queries."""

    offsets: Any  # int64, num_query + 1: those of each query
    weights: Any  # num_target
    # num_query: factor on the square of the logarithm of the sum over all rows, or None
    penalties: Any = None


class Operations(Protocol):
    """What a device does with its own arrays: float32, unless said otherwise.

    Attributes
    ----------
    xp : module
        NumPy, or CuPy: for arithmetic that both have.
    tile_logits : int or None
        As of `Batches.draw`.
    in_place : bool
        As of `BoundTask`.
    """

    @property
    def xp(self) -> Any: ...

    @property
    def tile_logits(self) -> int | None: ...

    @property
    def in_place(self) -> bool: ...

    def begin(self) -> AbstractContextManager[Any]:
        """Return a context, in which all of this is called: tables are on the device, and ready."""

    def rows_of(self, table: Table) -> Any:
        """Return a table's rows on the device."""

    def upload(self, batch: Batch) -> Batch:
        """Return a batch whose arrays are on the device."""

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        """Multiply two matrices, into `out` if there is one; sums are in float32."""

    def tile(self, place: int, num_query: int, num_column: int) -> Any:
        """Return room for a tile of logits, that of an earlier step at the same place."""

    def pool(self, sums: Sums, rows: Any, out: Any = None) -> Any:
        """Return weighted sums of rows, (num_sum, dim), or add them to `out`, and return that."""

    def squares(self, rows: Any) -> Any:
        """Return the square of each row's length, (num_row, 1)."""

    def dots(self, a: Any, a_rows: Any, b: Any, b_rows: Any) -> Any:
        """Return the dot product of row a_rows[n] of the one and row b_rows[n] of the other."""

    def exponentials(self, logits: Any, largest: Any, total: Any) -> None:
        """Take a tile of logits, (num_query, num_column), into each query's sum.

        The sum is ``total * exp(largest)``, where `largest` is the largest logit so far, or not
        much less. In place: both are brought up to date, and the logits become
        ``exp(logit - largest)``, which `matmul` alone may read.
        """

    def weigh(
        self, masks: int, scale: float, log_sums: Any, logits: Any, targets: Targets
    ) -> tuple[Any, Any, Any]:
        """Work out each query's loss, and its derivatives.

        Parameters
        ----------
        masks : int
            What the sums lack of the targets (see `batches`): with OWN, all those of the query
            join its sum together; with ITEMSET, each alone.
        scale : float
            Factor on the logarithm of the sum.
        log_sums : num_query
            Logarithms of the sums.
        logits : num_target
            Of the targets.
        targets : Targets
            What they are.

        Returns
        -------
        losses : num_query
        shares : num_query
            Derivatives by `log_sums`.
        slopes : num_target
            Derivatives by `logits`, of which those in a sum are no part.
        """

    def update(self, table: Table, rows: Any, gradient: Any, how: Update) -> None:
        """Change rows of a table, each by its gradient, (num_row, dim).

        They are a slice of it, or int32 on the device.
        """

    def note(self, losses: Any, counts: Counts) -> None:
        """Add what was trained to the tally."""

    def read_tally(self, wait: bool) -> Tally:
        """As of `BoundTask`."""

    def is_sound(self) -> bool:
        """As of `BoundTask`."""

    def synchronize(self) -> None:
        """As of `BoundTask`."""

    def discard(self) -> None:
        """As of `BoundTask`."""


class LogSums:
    """Logarithms of sums of exponentials, a sum for each query, of tiles one after the other.

    A sum is ``total * exp(largest)``.
    """

    def __init__(self, ops: Operations, num_query: int) -> None:
        self._ops = ops
        self.largest = ops.xp.full(num_query, -np.inf, dtype=np.float32)
        self.total = ops.xp.zeros(num_query, dtype=np.float32)

    def add(self, logits: Any) -> None:
        """Take a tile of logits, (num_query, num_column), which become exponentials."""
        self._ops.exponentials(logits, self.largest, self.total)

    def logarithms(self) -> Any:
        """Return the logarithms; a sum of nothing, where all is left out, is as good as 0."""
        xp = self._ops.xp
        return self.largest + xp.log(xp.maximum(self.total, TINY))


def inverse_norms(ops: Operations, rows: Any) -> Any:
    """Return what scales rows to length 1, (num_row, 1).

    A row of zeros, which has no direction yet, gets one as if it had that length.
    """
    xp, squares = ops.xp, ops.squares(rows)
    return 1 / xp.sqrt(xp.where(squares > TINY, squares, np.float32(1)))


def log_sums_over(
    ops: Operations, vectors: Any, rows: Any, *, cosine: bool, temperature: float
) -> Float64Array:
    """Return the logarithm of each vector's sum over all rows: of the exponentials of its scores.

    Scores are made a tile of the rows at a time, like those of a `Step`; both arrays are on the
    device.
    """
    if cosine:
        vectors = vectors * inverse_norms(ops, vectors)
    asked, sums = vectors / np.float32(temperature), LogSums(ops, len(vectors))
    most = TILE_LOGITS if ops.tile_logits is None else ops.tile_logits
    width = min(max(MIN_TILE, most // len(asked)), MAX_WIDTH)
    for start in range(0, len(rows), width):
        part = rows[start : start + width]
        if cosine:
            part = part * inverse_norms(ops, part)
        room = ops.tile(0, len(asked), len(part))
        sums.add(ops.matmul(asked, part.T, out=room))
    # Beside a large logit, float32 has no room for the logarithm of the rest.
    largest, total = map(checks.on_host, (sums.largest, sums.total))
    logarithms: Float64Array = largest.astype(np.float64) + np.log(total, dtype=np.float64)
    return logarithms


class DenseTask:
    """A problem whose loss sees all items, bound to a device (see `protocol.BoundTask`)."""

    def __init__(self, problem: Problem, operations: Operations) -> None:
        self._problem = problem
        self._ops = operations
        self._batches = Batches(problem)
        self._seconds_per_batch = SECONDS_PER_CALL  # of those of the last call

    @property
    def in_place(self) -> bool:
        return self._ops.in_place

    @property
    def min_pairs(self) -> int:
        return 1

    @property
    def max_pairs(self) -> int:
        problem = self._problem
        num_batch = SECONDS_PER_CALL / max(self._seconds_per_batch, 1e-6)
        return max(1, int(num_batch * problem.num_slot / problem.num_batch))

    def prepare(self) -> None:
        with self._ops.begin():
            self._batches.draw(0, 0, 0, 0, 1)  # compiles most of what there is to compile

    def load(self, before: Any = None) -> None:
        """Nothing to do: a batch is copied when it is trained."""

    def follow(self, before: DenseTask) -> None:
        self._seconds_per_batch = before._seconds_per_batch

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        num_unit, num_batch = self._batches.num_unit, self._problem.num_batch
        began = time.perf_counter()
        with self._ops.begin(), deferred_interrupt() as interrupts:
            for n, rate in enumerate(rates):
                bounds = (batch_start(num_unit, num_batch, first_batch + n + i) for i in (0, 1))
                start, stop = map(int, bounds)
                if start < stop and not interrupts:
                    batch, counts = self._batches.draw(
                        stream, epoch, first_batch + n, start, stop, self._ops.tile_logits
                    )
                    if counts.queries:
                        step = Step(self._problem, self._ops, batch, counts, self._batches.masks)
                        step.take(float(rate), interrupts)
                    else:
                        self._ops.note(self._ops.xp.zeros(0, dtype=np.float32), counts)
        self._seconds_per_batch = (time.perf_counter() - began) / max(1, len(rates))

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        return self._problem.count_pairs(first_batch, num_batch)

    def read_tally(self, wait: bool) -> Tally:
        return self._ops.read_tally(wait)

    def is_sound(self) -> bool:
        return self._ops.is_sound()

    def synchronize(self) -> None:
        self._ops.synchronize()

    def discard(self) -> None:
        self._ops.discard()


class Step:
    """A step: all that it computes with, before any row is changed."""

    def __init__(
        self, problem: Problem, ops: Operations, batch: Batch, counts: Counts, masks: int
    ) -> None:
        self._problem, self._ops, self._counts, self._masks = problem, ops, counts, masks
        self._cosine = problem.options.similarity == "cosine"
        batch = self._batch = ops.upload(batch)
        left, right = ops.rows_of(problem.left), ops.rows_of(problem.right)
        self._right = right if batch.right_rows is None else right[batch.right_rows]
        vectors = ops.pool(batch.bags, left)
        if batch.queries is not None and batch.own is not None:
            vectors = ops.pool(batch.own, left, out=ops.pool(batch.queries, vectors))
        # 1 / |Z| and 1 / |Y|, where vectors are scaled by it.
        self._inverse = inverse_norms(ops, vectors) if self._cosine else None
        self._inverse_right = inverse_norms(ops, self._right) if self._cosine else None
        self._unit = vectors if self._inverse is None else vectors * self._inverse  # Q
        self._asked = self._unit / np.float32(problem.options.temperature)

    def take(self, rate: float, interrupts: list[int]) -> None:
        """Change the rows, unless it was interrupted before any is."""
        ops, options = self._ops, self._problem.options
        log_sums, kept = self._log_sums()
        if interrupts:
            return
        logits = self._target_logits()
        batch = self._batch
        targets = Targets(batch.target_offsets, batch.target_weights, batch.penalties)
        losses, shares, slopes = ops.weigh(
            self._masks, options.sum_scale, log_sums, logits, targets
        )
        # A weighted mean: what weights are on average is no part of the loss of a pair.
        ops.note(losses * np.float32(self._counts.share), self._counts)
        how = Update(options.optimizer, rate, options.l2)
        gradient = self._change_right(log_sums, kept, shares, slopes, how)
        if not self._problem.left.frozen:
            self._change_left(gradient, how)

    # --- the loss

    def _rows(self, tile: Tile) -> Any:
        """Return the rows of V that are a tile's."""
        found = self._right[tile.start : tile.stop]
        if self._inverse_right is None:
            return found
        return found * self._inverse_right[tile.start : tile.stop]

    @staticmethod
    def _columns(tile: Tile, rows: Any) -> Any:
        """Return those of a tile's rows that are its columns."""
        return rows if tile.columns is None else rows[tile.columns]

    def _logits(self, tile: Tile, columns: Any, place: int) -> Any:
        """Return the scores of each query with a tile's columns, without what is left out."""
        room = self._ops.tile(place, len(self._asked), len(columns))
        logits = self._ops.matmul(self._asked, columns.T, out=room)
        if tile.bias is not None:
            logits += tile.bias
        if len(tile.masked_queries):
            logits[tile.masked_queries, tile.masked_columns] = -np.inf
        return logits

    def _log_sums(self) -> tuple[Any, list[Any]]:
        """Return the logarithm of each query's sum, and exponentials of tiles, if kept."""
        num_query = self._counts.queries
        sums = LogSums(self._ops, num_query)
        tiles, kept = self._batch.tiles, []
        num_column = sum(tile.stop - tile.start for tile in tiles)
        keep = len(tiles) == 1 or num_query * num_column <= KEPT_LOGITS
        for place, tile in enumerate(tiles):
            rows = self._rows(tile)
            columns = self._columns(tile, rows)
            logits = self._logits(tile, columns, place if keep else 0)
            sums.add(logits)
            # Rows of one tile are few enough to be kept as well.
            vectors = (rows, columns) if len(tiles) == 1 else None
            kept.append((logits, sums.largest.copy(), vectors) if keep else None)
        return sums.logarithms(), kept

    def _target_logits(self) -> Any:
        """Return the score of each target with its query."""
        batch = self._batch
        logits = self._ops.dots(self._asked, batch.target_queries, self._right, batch.target_rows)
        if self._inverse_right is not None:
            logits *= self._inverse_right[batch.target_rows, 0]
        return logits

    # --- its gradients

    def _change_right(
        self, log_sums: Any, kept: list[Any], shares: Any, slopes: Any, how: Update
    ) -> Any:
        """Change the right rows, and return the gradient of each query by its Q."""
        ops, batch = self._ops, self._batch
        weights = slopes
        if self._inverse_right is not None:
            weights = slopes * self._inverse_right[batch.target_rows, 0]
        sums = Sums(batch.target_offsets, batch.target_rows, weights)
        gradient = ops.pool(sums, self._right)
        by_row = batch.right_order
        pulls = slopes[by_row], batch.target_queries[by_row]
        for tile, exponentials in zip(batch.tiles, kept, strict=True):
            logits, largest, vectors = exponentials or (None, log_sums.copy(), None)
            rows = vectors[0] if vectors else self._rows(tile)
            columns = vectors[1] if vectors else self._columns(tile, rows)
            if logits is None:
                logits = self._logits(tile, columns, 0)
                ops.exponentials(logits, largest, ops.xp.zeros_like(log_sums))
            factors = (shares * ops.xp.exp(largest - log_sums))[:, None]
            gradient += factors * ops.matmul(logits, columns)
            if not self._problem.right.frozen:
                own = ops.matmul(logits.T, factors * self._asked)
                self._change_tile(tile, rows, own, pulls, how)
        return gradient / np.float32(self._problem.options.temperature)

    def _change_tile(
        self, tile: Tile, unit: Any, own: Any, pulls: tuple[Any, Any], how: Update
    ) -> None:
        """Change a tile's rows, by the gradient of its columns and by what pulls at targets."""
        ops, batch = self._ops, self._batch
        gradient = own
        if tile.columns is not None:
            gradient = ops.xp.zeros((tile.stop - tile.start, own.shape[1]), dtype=np.float32)
            gradient[tile.columns] = own
        bounds = batch.right_offsets[tile.targets.start : tile.targets.stop + 1]
        slopes, queries = pulls
        gradient[tile.target_rows] += ops.pool(Sums(bounds, queries, slopes), self._asked)
        here = slice(tile.start, tile.stop)
        if self._inverse_right is not None:
            gradient = self._across(gradient, unit) * self._inverse_right[here]
        rows = here if batch.right_rows is None else batch.right_rows[here]
        ops.update(self._problem.right, rows, gradient, how)

    def _change_left(self, gradient: Any, how: Update) -> None:
        """Change the left rows, by the gradient of each query by its Q."""
        ops, batch = self._ops, self._batch
        if self._inverse is not None:
            gradient = self._across(gradient, self._unit) * self._inverse
        if batch.bag_queries is not None:
            of_bags = ops.pool(batch.bag_queries, gradient)
            gradient = ops.xp.concatenate([of_bags, gradient])
        ops.update(self._problem.left, batch.left_rows, ops.pool(batch.lefts, gradient), how)

    def _across(self, gradient: Any, unit: Any) -> Any:
        """Take away from gradients of vectors of length 1, in place, what changes the length."""
        gradient -= (gradient * unit).sum(axis=1)[:, None] * unit
        return gradient

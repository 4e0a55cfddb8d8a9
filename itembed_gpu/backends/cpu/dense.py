"""What the CPU does for objectives that see all items: BLAS, and loops over rows.

The twin of ``kernels/dense.cuh``. Every row of a result is one thread's, so that the number of
threads changes nothing; the products of matrices are the library's, which promises no such thing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from ...compiling import FAST_MATH, inlined, kept
from ...objective.options import OPTIMIZERS
from ...objective.table import Table
from ..batches import ITEMSET, OWN, Batch, Counts, Sums
from ..dense import ADAM_DECAYS, Targets, Update
from ..protocol import Problem, Tally
from .in_place import InPlace
from .losses import ZERO, exponential
from .sgns import adaptive_rate
from .threads import share

f32 = np.float32
ONE, TWO = f32(1), f32(2)
DECAY_MOMENT, DECAY_SQUARES, ADAM_EPSILON = map(f32, ADAM_DECAYS)
# With fewer numbers than this, a thread is not worth starting.
NUMBERS_PER_THREAD = 1 << 17
# The same of products in a matrix product, of which there are some 40 in a nanosecond.
PRODUCTS_PER_THREAD = 1 << 24
ADAGRAD, ADAM = map(OPTIMIZERS.index, ("adagrad", "adam"))


@functools.cache
def _libraries() -> ThreadpoolController:
    """Find the libraries of linear algebra, which takes a while."""
    return ThreadpoolController()


class CpuOperations(InPlace):
    """The cores of this machine (see `dense.Operations`)."""

    xp = np
    tile_logits = None

    def __init__(self, problem: Problem, num_threads: int) -> None:
        super().__init__(problem)
        self._num_threads = num_threads
        self._tiles: list[npt.NDArray[np.float32]] = []  # room for logits

    @contextlib.contextmanager
    def begin(self) -> Iterator[None]:
        limited = _libraries().limit(limits=1, user_api="blas")
        # What is not finite is found by `is_sound`, and told once.
        with limited, np.errstate(over="ignore", invalid="ignore"):
            yield

    def rows_of(self, table: Table) -> npt.NDArray[np.float32]:
        rows: npt.NDArray[np.float32] = table.array
        return rows

    def upload(self, batch: Batch) -> Batch:
        return batch

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        num_row, num_column = len(a), b.shape[1]
        if self._num_threads == 1 or a.size * num_column < PRODUCTS_PER_THREAD:
            return np.matmul(a, b, out=out)
        if out is None:
            out = np.empty((num_row, num_column), dtype=np.float32)
        # Parts for our threads, and not the library's own, which wait by spinning: where others
        # are at work on the machine, these take many times as long as one.
        step = -(-num_row // self._num_threads)

        def multiply(start: int) -> None:
            part = slice(start, start + step)
            np.matmul(a[part], b, out=out[part])

        share(multiply, range(0, num_row, step), self._num_threads)
        return out

    def tile(self, place: int, num_query: int, num_column: int) -> Any:
        # New memory is cleared by the system, which takes as long as a third of the product.
        size = num_query * num_column
        if len(self._tiles) <= place or len(self._tiles[place]) < size:
            self._tiles[place : place + 1] = [np.empty(size, dtype=np.float32)]
        return self._tiles[place][:size].reshape(num_query, num_column)

    def _share_rows(self, work: Callable[[int, int], Any], num_row: int, size: int) -> None:
        """Have threads do ranges of rows, of so many numbers each."""
        step = max(1, NUMBERS_PER_THREAD // max(1, size))
        step = max(step, -(-num_row // (4 * self._num_threads)))
        starts = range(0, num_row, step)
        num_threads = min(self._num_threads, len(starts))
        share(lambda start: work(start, min(start + step, num_row)), starts, max(1, num_threads))

    def pool(self, sums: Sums, rows: Any, out: Any = None) -> Any:
        add = out is not None
        dim = rows.shape[1]
        if out is None:
            out = np.empty((len(sums), dim), dtype=np.float32)
        size = dim * (1 + len(sums.indices) // max(1, len(sums)))
        self._share_rows(lambda a, b: _pool(*sums, rows, out, add, a, b), len(sums), size)
        return out

    def squares(self, rows: Any) -> Any:
        return np.einsum("ij,ij->i", rows, rows)[:, None]

    def dots(self, a: Any, a_rows: Any, b: Any, b_rows: Any) -> Any:
        out = np.empty(len(a_rows), dtype=np.float32)
        work = lambda start, stop: _dots(a, a_rows, b, b_rows, out, start, stop)  # noqa: E731
        self._share_rows(work, len(out), a.shape[1])
        return out

    def exponentials(self, logits: Any, largest: Any, total: Any) -> None:
        work = lambda start, stop: _exponentials(logits, largest, total, start, stop)  # noqa: E731
        self._share_rows(work, *logits.shape)

    def weigh(
        self, masks: int, scale: float, log_sums: Any, logits: Any, targets: Targets
    ) -> tuple[Any, Any, Any]:
        losses, shares, slopes = (np.empty_like(a) for a in (log_sums, log_sums, logits))
        if targets.penalties is None:
            targets = targets._replace(penalties=np.zeros_like(log_sums))
        _weigh(masks, f32(scale), log_sums, logits, *targets, losses, shares, slopes)
        return losses, shares, slopes

    def update(self, table: Table, rows: Any, gradient: Any, how: Update) -> None:
        if isinstance(rows, slice):
            rows = np.arange(rows.start, rows.stop, dtype=np.int32)
        optimizer = OPTIMIZERS.index(how.optimizer)
        none = np.empty((0, 0), dtype=np.float32)
        state = table.accumulator if optimizer else none[0:0].reshape(-1)
        moments = (table.moment, table.variance) if optimizer == ADAM else (none, none)
        rate, l2 = f32(how.rate), f32(how.l2)

        def work(start: int, stop: int) -> None:
            arrays = table.array, state, *moments
            _update(optimizer, rate, l2, *arrays, rows, gradient, start, stop)

        self._share_rows(work, len(rows), 4 * gradient.shape[1])

    def note(self, losses: Any, counts: Counts) -> None:
        loss = float(losses.sum(dtype=np.float64))
        self._tally = self._tally.plus(Tally(loss, counts.pairs, counts.dropped))


@kept(nogil=True, fastmath=FAST_MATH, error_model="numpy")
def _pool(offsets, indices, weights, rows, out, add, start, stop):
    dim = rows.shape[1]
    for n in range(start, stop):
        if not add:
            for d in range(dim):
                out[n, d] = ZERO
        for entry in range(offsets[n], offsets[n + 1]):
            row, weight = indices[entry], weights[entry]
            for d in range(dim):
                out[n, d] += weight * rows[row, d]


@kept(nogil=True, fastmath=FAST_MATH, error_model="numpy")
def _dots(a, a_rows, b, b_rows, out, start, stop):
    for n in range(start, stop):
        total = ZERO
        for d in range(a.shape[1]):
            total += a[a_rows[n], d] * b[b_rows[n], d]
        out[n] = total


@kept(nogil=True, fastmath=FAST_MATH, error_model="numpy")
def _exponentials(logits, largest, total, start, stop):
    num_column = logits.shape[1]
    for row in range(start, stop):
        most = largest[row]
        for column in range(num_column):
            most = max(most, logits[row, column])
        # Where all is left out so far, any number will do.
        if most == -np.inf:
            most = f32(-1e30)
        added = ZERO
        for column in range(num_column):
            value = exponential(logits[row, column] - most)
            logits[row, column] = value
            added += value
        total[row] = total[row] * exponential(largest[row] - most) + added
        largest[row] = most


@inlined
def _joined(log_sum, logit):
    """Logarithm of a sum with one more term."""
    most = max(log_sum, logit)
    return most + np.log(np.exp(log_sum - most) + np.exp(logit - most))


@kept(error_model="numpy")
def _weigh(masks, scale, log_sums, logits, offsets, weights, penalties, losses, shares, slopes):
    for query in range(len(log_sums)):
        first, stop = offsets[query], offsets[query + 1]
        joint = log_sums[query]
        if masks == OWN:
            for n in range(first, stop):
                joint = _joined(joint, logits[n])
        # Of the penalty, its value and its derivative by the logarithm of the whole sum.
        loss, pull, share_of_sum, total = ZERO, ZERO, ZERO, ZERO
        if penalties[query] > ZERO:
            loss, pull = penalties[query] * joint * joint, TWO * penalties[query] * joint
            share_of_sum = pull * np.exp(log_sums[query] - joint)
        for n in range(first, stop):
            total += weights[n]
        for n in range(first, stop):
            weight, logit = weights[n], logits[n]
            log_sum = _joined(joint, logit) if masks == ITEMSET else joint
            loss += weight * (scale * log_sum - logit)
            share_of_sum += scale * weight * np.exp(log_sums[query] - log_sum)
            slopes[n] = -weight
            if masks == OWN:
                slopes[n] += (scale * total + pull) * np.exp(logit - log_sum)
            elif masks == ITEMSET:
                slopes[n] += scale * weight * np.exp(logit - log_sum)
        losses[query], shares[query] = loss, share_of_sum


@kept(nogil=True, fastmath=FAST_MATH, error_model="numpy")
def _update(optimizer, rate, l2, table, state, moment, variance, rows, gradient, start, stop):
    dim = table.shape[1]
    for n in range(start, stop):
        row = rows[n]
        factor = rate
        if optimizer == ADAGRAD:
            squares = ZERO
            for d in range(dim):
                squares += gradient[n, d] * gradient[n, d]
            state[row] += squares / f32(dim)
            factor = adaptive_rate(rate, state[row])
        kept_share = ONE / (ONE + abs(factor) * l2)
        if optimizer == ADAM:
            state[row] += ONE
            unbias = ONE / (ONE - DECAY_MOMENT ** state[row])
            unbias_squares = ONE / (ONE - DECAY_SQUARES ** state[row])
            for d in range(dim):
                g = gradient[n, d]
                moment[row, d] = DECAY_MOMENT * moment[row, d] + (ONE - DECAY_MOMENT) * g
                variance[row, d] = DECAY_SQUARES * variance[row, d] + (ONE - DECAY_SQUARES) * g * g
                size = np.sqrt(variance[row, d] * unbias_squares) + ADAM_EPSILON
                step = rate * unbias * moment[row, d] / size
                table[row, d] = (table[row, d] - step) * kept_share
        else:
            for d in range(dim):
                table[row, d] = (table[row, d] - factor * gradient[n, d]) * kept_share

"""What a GPU does for objectives that see all items: cuBLAS, and kernels over rows.

The twin of ``backends/cpu/dense.py``. All of it is put into CuPy's current stream, and nothing in
a step waits for the device: the host draws the next batch meanwhile, and is ahead by two of them,
at most, so that Ctrl-C is soon answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...interrupts import deferred_interrupt
from ...objective.options import OPTIMIZERS
from ...objective.table import Table
from ..batches import MIN_TILE, Batch, Counts, Sums
from ..dense import KEPT_LOGITS, Targets, Update
from ..protocol import Problem, Tally
from . import chips, instances, programs
from .chips import Chip
from .copies import Copies, Pinned
from .instances import THREADS_PER_BLOCK, WARP, of_dense

# Arrays of a batch begin at multiples of so many bytes.
ALIGNMENT = 16
# Calls of `DenseTask.run`, and batches, that the device may have before it.
NUM_AHEAD = 2
# Chips from this compute capability on multiply float16 and bf16.
TENSOR_CORES = 80
# Rows of what they multiply begin at multiples of so many numbers.
ROW_NUMBERS = 8
# Memory that cuBLAS takes for itself, about.
CUBLAS_BYTES = 1 << 26
# Arrays as large as all vectors of a batch that a step has at once, about.
VECTORS_AT_ONCE = 8
# Memory of a tile of logits, at most: enough for a product to take longer than the host takes for
# all that is done with a tile, some 0.3 ms.
TILE_BYTES = 1 << 28
# How much larger the room for a tile is made, as another batch may have a few queries more: memory
# that was let go stays with CuPy.
ROOM_TO_SPARE = 1.125
# Numbers of a batch for each of its queries and entries, about.
NUMBERS_PER_ENTRY = 16
# What products are multiplied by, and what is kept of their place.
ONE, ZERO = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)


class _Call(Pinned):
    """A call of `DenseTask.run`: what it has trained."""

    def __init__(self) -> None:
        super().__init__(8)
        self.host_loss = self.bytes.view(np.float64)
        self.loss = chips.cupy().zeros(1, dtype=np.float64)
        self.num_pair = self.num_dropped = 0

    def begin(self) -> None:
        self.loss.fill(0)
        self.num_pair = self.num_dropped = 0

    def end(self) -> None:
        stream = chips.cupy().cuda.get_current_stream()
        self.fetch(self.loss.data.ptr, self.loss.nbytes, stream)
        self.mark(stream)

    def tally(self) -> Tally:
        """Wait for it, and return what was trained."""
        self.wait()
        return Tally(float(self.host_loss[0]), self.num_pair, self.num_dropped)


class _Feed:
    """Brings batches to the device, each by one copy from memory that the device can read."""

    def __init__(self) -> None:
        self._buffers: list[Pinned] = []  # the last one is the newest

    def send(self, batch: Batch) -> Batch:
        """Return a batch on the device, whose arrays are parts of one."""
        sizes: list[int] = []
        _each_array(batch, lambda array: sizes.append(-(-array.nbytes // ALIGNMENT) * ALIGNMENT))
        buffer = self._take_buffer(sum(sizes))
        cupy = chips.cupy()
        whole = cupy.empty(sum(sizes), dtype=np.uint8)
        place = 0

        def move(array: Any) -> Any:
            nonlocal place
            start, place = place, place + -(-array.nbytes // ALIGNMENT) * ALIGNMENT
            part = slice(start, start + array.nbytes)
            buffer.bytes[part].view(array.dtype)[:] = array
            return whole[part].view(array.dtype)

        moved: Batch = _each_array(batch, move)
        stream = cupy.cuda.get_current_stream()
        buffer.send(whole.data.ptr, whole.nbytes, stream)
        buffer.mark(stream)
        return moved

    def _take_buffer(self, size: int) -> Pinned:
        """Return memory of at least this size that no copy reads any more."""
        if len(self._buffers) < NUM_AHEAD:
            self._buffers.append(Pinned(2 * size))
            return self._buffers[-1]
        self._buffers[0].wait()
        oldest = self._buffers.pop(0)
        self._buffers.append(oldest if len(oldest.bytes) >= size else Pinned(2 * size))
        return self._buffers[-1]


def _each_array(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return tuples as deep as they are, with what a function makes of each array."""
    if isinstance(value, np.ndarray):
        return change(value)
    if not isinstance(value, tuple):
        return value
    parts = [_each_array(part, change) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


class CudaOperations:
    """A GPU (see `dense.Operations`).

    Chips from compute capability 8.0 on make logits of rows that are rounded to float16, and keep
    them as such, with 11 bits; their exponentials are bf16, with 8 bits and the exponents of
    float32, and what these are multiplied by is rounded to it. A softmax bears it. Sums, tables
    and all else are float32, as everything is on older chips, and where it is to be `exact`.
    """

    def __init__(self, problem: Problem, chip: Chip, exact: bool = False) -> None:
        self._problem = problem
        self._chip = chip
        self._copies = Copies(problem, chip)
        self.in_place = self._copies.in_place
        self._kernels: dict[str, Any] = {}
        self._feed = _Feed()
        self._calls: list[_Call] = []  # the last one is at work
        self._tiles: list[Any] = []  # room for logits
        # What logits are. Where both sides are one table, an item is most like itself, and the
        # rest of its gradient would be lost in what is rounded of that.
        half = chip.capability >= TENSOR_CORES and not (exact or problem.same_table)
        self._kind = np.dtype(np.float16 if half else np.float32)
        self._tally = Tally()

    @property
    def xp(self) -> Any:
        return chips.cupy()

    @property
    def tile_logits(self) -> int:
        return TILE_BYTES // self._kind.itemsize

    # --- calls

    @contextlib.contextmanager
    def begin(self) -> Iterator[None]:
        with self._copies.device():
            self._make_ready()
            # The call before the last one has ended, or is waited for.
            call = self._calls[0]
            self._collect(call)
            self._calls = [*self._calls[1:], call]
            call.begin()
            try:
                yield
            finally:
                call.end()

    def _make_ready(self) -> None:
        if self._kernels and self._copies.ready:
            return
        with deferred_interrupt():
            if not self._kernels:
                self._copies.check_memory(
                    {"logits and vectors of a batch": self._room()},
                    "a smaller batch_size, or fewer labels may",
                )
                chips.cublas()
                self._calls = [_Call() for _ in range(NUM_AHEAD)]
                self._kernels = {name: self._find_kernel(name) for name in instances.DENSE}
            self._copies.upload()

    def _find_kernel(self, name: str) -> Any:
        return programs.kernel(self._chip.index, instances.DENSE, name)

    def _room(self) -> float:
        """Estimate the bytes that a step takes beside tables."""
        problem, options = self._problem, self._problem.options
        pairs, dim, num_right = problem.pairs, problem.left.dim, len(problem.right)
        bags = options.pooling == "mean" and options.targets != "others"
        num_unit = len(pairs.left_offsets) - 1 if bags else problem.num_slot
        num_query = num_unit / problem.num_batch
        num_entry = num_query + (len(pairs.left_items) + len(pairs.right_items)) / problem.num_batch
        num_column = min(options.num_negative or num_right, num_right)
        num_logit, tile = num_query * num_column, max(self.tile_logits, MIN_TILE * num_query)
        logits = num_logit if num_logit <= KEPT_LOGITS else min(num_logit, tile)
        vectors = VECTORS_AT_ONCE * dim * (num_query + min(num_column, tile / max(1, num_query)))
        values = vectors + 2 * num_right + NUMBERS_PER_ENTRY * num_entry
        return ROOM_TO_SPARE * self._kind.itemsize * logits + 4 * values + CUBLAS_BYTES

    def _collect(self, call: _Call) -> None:
        if call.busy:
            self._tally = self._tally.plus(call.tally())

    def note(self, losses: Any, counts: Counts) -> None:
        call = self._calls[-1]
        call.loss += losses.sum(dtype=np.float64)
        call.num_pair += counts.pairs
        call.num_dropped += counts.dropped

    def read_tally(self, wait: bool) -> Tally:
        with self._copies.device():
            for call in self._calls:
                if wait or (call.busy and call.ended.done):
                    self._collect(call)
        result, self._tally = self._tally, Tally()
        return result

    def is_sound(self) -> bool:
        with self._copies.device():
            return self._copies.is_sound(lambda: self._find_kernel(instances.FIND_BEYOND))

    def synchronize(self) -> None:
        self._copies.synchronize()

    def discard(self) -> None:
        self._copies.discard()

    # --- arrays

    def rows_of(self, table: Table) -> Any:
        return self._copies.of(table).array

    def upload(self, batch: Batch) -> Batch:
        return self._feed.send(batch)

    def tile(self, place: int, num_query: int, num_column: int) -> Any:
        stride = -(-num_column // ROW_NUMBERS) * ROW_NUMBERS
        size = num_query * stride
        if len(self._tiles) <= place or len(self._tiles[place]) < size:
            self._tiles[place : place + 1] = []
            room = self.xp.empty(int(ROOM_TO_SPARE * size), dtype=self._kind)
            self._tiles.insert(place, room)
        return self._tiles[place][:size].reshape(num_query, stride)[:, :num_column]

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        cublas, runtime = chips.cublas(), self.xp.cuda.runtime
        (num_row, num_inner), num_column = a.shape, b.shape[1]
        if out is None:
            out = self.xp.empty((num_row, num_column), dtype=np.float32)
        single, half, brain = runtime.CUDA_R_32F, runtime.CUDA_R_16F, runtime.CUDA_R_16BF
        kind, kind_out = single, single
        if out.dtype == np.float16:
            kind = kind_out = half
        elif np.float16 in (a.dtype, b.dtype):
            kind = brain
        # To cuBLAS, matrices stand column by column: each is its own transpose, and the product
        # of these in the other order is that of the product.
        number = {half: instances.FLOAT16, brain: instances.BFLOAT16}.get(kind)
        (a, a_turn, a_step), (b, b_turn, b_step) = (self._factor(one, number) for one in (a, b))
        cublas.gemmEx(
            self.xp.cuda.get_cublas_handle(),
            b_turn, a_turn, num_column, num_row, num_inner,
            ONE.ctypes.data, b.data.ptr, kind, b_step, a.data.ptr, kind, a_step,
            ZERO.ctypes.data, out.data.ptr, kind_out, _row_step(out),
            cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT,
        )  # fmt: skip
        return out

    def _factor(self, matrix: Any, number: str | None) -> tuple[Any, int, int]:
        """Return a factor, whether cuBLAS is to transpose it, and how far its columns lie apart.

        It is rounded to a kind of number, if one is given, and it is none of those yet.
        """
        cublas = chips.cublas()
        turned = matrix.strides[1] != matrix.dtype.itemsize
        turn = cublas.CUBLAS_OP_T if turned else cublas.CUBLAS_OP_N
        rows = matrix.T if turned else matrix
        if number is None or rows.dtype == np.float16:
            return rows, turn, _row_step(rows)
        num_row, dim = rows.shape
        step = -(-dim // ROW_NUMBERS) * ROW_NUMBERS
        half = self.xp.empty((num_row, step), dtype=np.uint16)
        self._launch(
            "narrow", (number, _width(dim, rows)), num_row,
            *_place(rows), half.data.ptr, np.int64(step), np.int64(num_row), np.int32(dim),
        )  # fmt: skip
        return half, turn, step

    # --- kernels

    def _launch(
        self, name: str, constants: tuple[int | str, ...], num_row: int, *values: Any
    ) -> None:
        """Have a warp do each of some rows."""
        if num_row:
            num_block = -(-num_row * WARP // THREADS_PER_BLOCK)
            self._kernels[of_dense(name, *constants)]((num_block,), (THREADS_PER_BLOCK,), values)

    def pool(self, sums: Sums, rows: Any, out: Any = None) -> Any:
        add = out is not None
        rows, dim = _by_rows(rows), rows.shape[1]
        if out is None:
            out = self.xp.empty((len(sums), dim), dtype=np.float32)
        parts: tuple[Any, ...] = sums
        self._launch(
            "pool", (_width(dim, rows, out),), len(sums),
            *(part.data.ptr for part in parts), *_place(rows), *_place(out),
            np.int64(len(sums)), np.int32(dim), np.int32(add),
        )  # fmt: skip
        return out

    def squares(self, rows: Any) -> Any:
        return self._dots(rows, None, rows, None, len(rows))[:, None]

    def dots(self, a: Any, a_rows: Any, b: Any, b_rows: Any) -> Any:
        return self._dots(a, a_rows, b, b_rows, len(a_rows))

    def _dots(self, a: Any, a_rows: Any, b: Any, b_rows: Any, num_dot: int) -> Any:
        """Do the same; of rows that are None, each with that of its number."""
        a, b, dim = _by_rows(a), _by_rows(b), a.shape[1]
        out = self.xp.empty(num_dot, dtype=np.float32)
        a_ptr, b_ptr = (0 if rows is None else rows.data.ptr for rows in (a_rows, b_rows))
        self._launch(
            "dots", (_width(dim, a, b),), num_dot,
            *_place(a), a_ptr, *_place(b), b_ptr, out.data.ptr, np.int64(num_dot), np.int32(dim),
        )  # fmt: skip
        return out

    def exponentials(self, logits: Any, largest: Any, total: Any) -> None:
        num_query, num_column = logits.shape
        if logits.dtype == np.float16:  # from here on, this is where bf16 lies
            constants: tuple[Any, ...] = instances.FLOAT16, instances.BFLOAT16, 4
        else:
            constants = "float", "float", _width(0, logits)
        self._launch(
            "exponentials", constants, num_query,
            *_place(logits), np.int64(num_query), np.int32(num_column),
            largest.data.ptr, total.data.ptr,
        )  # fmt: skip

    def weigh(
        self, masks: int, scale: float, log_sums: Any, logits: Any, targets: Targets
    ) -> tuple[Any, Any, Any]:
        losses, shares, slopes = map(self.xp.empty_like, (log_sums, log_sums, logits))
        arrays: tuple[Any, ...] = *targets, log_sums, logits, losses, shares, slopes
        num_query = len(log_sums)
        self._launch(
            "weigh", (masks,), num_query,
            *(0 if array is None else array.data.ptr for array in arrays),
            np.int64(num_query), np.float32(scale),
        )  # fmt: skip
        return losses, shares, slopes

    def update(self, table: Table, rows: Any, gradient: Any, how: Update) -> None:
        for copy in self._copies.trained(table):
            copy.changed = True
        num_row, dim = gradient.shape
        if isinstance(rows, slice):
            which = 0, np.int64(rows.start)
        else:
            which = rows.data.ptr, np.int64(0)
        syn, gradient = self.rows_of(table), _by_rows(gradient)
        state, moments = 0, []
        if how.optimizer != "sgd":
            state = self._copies.of(table, "accumulator").array.data.ptr
        if how.optimizer == "adam":
            moments = [self._copies.of(table, part).array for part in ("moment", "variance")]
        beside = [_place(moment) for moment in moments] or [(0, np.int64(0))] * 2
        width = _width(dim, syn, gradient, *moments)
        self._launch(
            "update", (OPTIMIZERS.index(how.optimizer), width), num_row,
            *_place(syn), state, *beside[0], *beside[1], *which, *_place(gradient),
            np.int64(num_row), np.int32(dim), np.float32(how.rate), np.float32(how.l2),
        )  # fmt: skip


def _row_step(rows: Any) -> int:
    """Return how far rows lie apart; of a single row, the stride says nothing."""
    num_row, dim = rows.shape
    return max(rows.strides[0] // rows.dtype.itemsize, dim) if num_row > 1 else int(dim)


def _by_rows(array: Any) -> Any:
    """Return a matrix each of whose rows is in one piece."""
    return array if array.strides[1] == 4 or array.shape[1] == 1 else array.copy()


def _place(rows: Any) -> tuple[int, Any]:
    """Return where a matrix lies, and how many numbers from one row to the next."""
    return rows.data.ptr, np.int64(rows.strides[0] // rows.dtype.itemsize)


def _width(dim: int, *arrays: Any) -> int:
    """Return how many floats of rows can be read at once, wherever a piece of one begins."""
    aligned = all(
        array.data.ptr % ALIGNMENT == 0 and array.strides[0] % ALIGNMENT == 0 for array in arrays
    )
    return 4 if dim % 4 == 0 and aligned else 1

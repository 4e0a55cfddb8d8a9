"""In which order an epoch visits its slots, and at which learning rate.

A *slot* is the unit of training: one item of the packed array for an
unsupervised task, one left x right pair for a supervised one. An epoch visits
every slot once, in the order of a keyed bijection, so that no array of indices
is shuffled, stored or copied to a device. Batch b of an epoch is the b-th equal
share of the order's positions. Where pairs share negatives, they do so in
*groups* of consecutive positions, and batches are made of whole groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from .. import checks
from ..compiling import inlined
from .constants import LOSS_SAMPLE, LOSS_STRIDE, ORDER_SLOT
from .options import resolve_seed
from .rng import philox_words, u64

NUM_ROUND = 3
# The guide of a supervised task has at most so many entries an itemset.
GUIDE_ENTRIES_PER_ITEMSET = 4


def epoch_order(seed: int, stream: int, epoch: int, num_slot: int) -> npt.NDArray[np.uint64]:
    """Parameters of the bijection that orders the slots of one epoch.

    Positions are permuted within the next power of two by rounds of
    ``x = a * x + c; x ^= x >> shift``, with a odd; what falls outside of
    0 ... num_slot - 1 is permuted again until it falls inside ("cycle walking",
    Black and Rogaway, CT-RSA 2002). The keys a and c are words of the epoch's
    random stream.

    Returns
    -------
    uint64, 9
        num_slot, mask, shift, then a and c of each round.
    """
    bits = max(1, (num_slot - 1).bit_length())
    words: list[int] = []
    for block in range(NUM_ROUND):
        counter = (ORDER_SLOT & 0xFFFFFFFF, ORDER_SLOT >> 32, epoch, stream << 16 | block)
        w0, w1, w2, w3 = philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32))
        words += [w0 | w1 << 32 | 1, w2 | w3 << 32]
    return np.array([num_slot, (1 << bits) - 1, (bits + 1) // 2, *words], dtype=np.uint64)


def in_order(num_slot: int) -> npt.NDArray[np.uint64]:
    """Parameters of the bijection that leaves slots in their order."""
    # x -> 1 * x + 0, and a shift beyond all bits.
    return np.array([num_slot, (1 << 63) - 1, 63, 1, 0, 1, 0, 1, 0], dtype=np.uint64)


@inlined
def _permute(x, mask, shift, a0, c0, a1, c1, a2, c2):
    x = (x * a0 + c0) & mask
    x ^= x >> shift
    x = (x * a1 + c1) & mask
    x ^= x >> shift
    x = (x * a2 + c2) & mask
    x ^= x >> shift
    return x


@inlined
def fill_slots(order, position, count, slots, pending):
    """Write the slots at positions position ... position + count - 1 of an epoch's order.

    Parameters
    ----------
    order : uint64, 9
        As made by `epoch_order`.
    position, count : int
        Range of positions.
    slots : uint64, at least count
        Receives the slots.
    pending : int32, at least count
        Buffer.
    """
    num_slot, mask, shift = order[0], order[1], order[2]
    a0, c0, a1, c1, a2, c2 = order[3], order[4], order[5], order[6], order[7], order[8]
    for i in range(count):
        slots[i] = _permute(u64(position + i), mask, shift, a0, c0, a1, c1, a2, c2)
    # Up to half of them fall outside, at random. They are listed and walked on
    # together, without a branch on any single one: it could not be predicted.
    num_pending = 0
    for i in range(count):
        pending[num_pending] = i
        num_pending += slots[i] >= num_slot
    while num_pending > 0:
        num_left = 0
        for n in range(num_pending):
            i = pending[n]
            slots[i] = _permute(slots[i], mask, shift, a0, c0, a1, c1, a2, c2)
            pending[num_left] = i
            num_left += slots[i] >= num_slot
        num_pending = num_left


@register_jitable(forceinline=True)
def batch_start(num_slot: Any, num_batch: Any, batch: Any, group: Any = 1) -> Any:
    """First position of a batch; that of the batch after the last is num_slot.

    Batches hold whole groups of so many positions; only the last may be cut short.
    """
    num_group = (num_slot + group - 1) // group
    return min(num_slot, num_group * batch // num_batch * group)


@register_jitable(forceinline=True)
def batch_at(num_slot: Any, num_batch: Any, position: Any, group: Any) -> Any:
    """Return the batch that a position belongs to: the inverse of `batch_start`."""
    num_group = (num_slot + group - 1) // group
    return ((position // group + 1) * num_batch - 1) // num_group


@register_jitable
def loss_stride(num_slot: Any) -> Any:
    """Positions from one pair whose loss is measured to the next: a power of 2."""
    stride = LOSS_STRIDE
    while stride > 1 and num_slot < stride * LOSS_SAMPLE:
        stride //= 2
    return stride


def count_slots(
    left_offsets: checks.Int64Array, right_offsets: checks.Int64Array
) -> checks.Int64Array:
    """Number the left x right pairs of all itemsets: the first of each, and how many in all."""
    return number_slots(np.diff(left_offsets) * np.diff(right_offsets))


def number_slots(counts: checks.Int64Array) -> checks.Int64Array:
    """Number the slots of itemsets that have so many: the first of each, and how many in all."""
    slots = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=slots[1:])
    return slots


def guide_shift(slot_offsets: checks.Int64Array) -> int:
    """Return the least shift with which the guide takes memory like the offsets."""
    most = GUIDE_ENTRIES_PER_ITEMSET * len(slot_offsets)
    return max(0, (int(slot_offsets[-1]) // most).bit_length())


def slot_guide(slot_offsets: npt.NDArray[np.int64], shift: int) -> npt.NDArray[np.signedinteger]:
    """Index from slots to itemsets: entry b is the itemset of slot ``b << shift``.

    The itemset of any slot s lies between entries ``s >> shift`` and
    ``(s >> shift) + 1``. With shift 0 that is one lookup; a larger shift bounds
    the memory where an itemset has many slots.

    Parameters
    ----------
    slot_offsets : int64, num_itemset + 1
        First slot of each itemset, then the number of slots; increasing.
    shift : int
        Base-2 logarithm of the number of slots an entry stands for.

    Returns
    -------
    int32 (int64 where the number of itemsets needs it), num_entry + 1
        Itemsets; the last entry is the last itemset.
    """
    num_itemset = len(slot_offsets) - 1
    dtype = np.int32 if num_itemset <= np.iinfo(np.int32).max else np.int64
    itemsets = np.arange(num_itemset, dtype=dtype)
    if shift == 0:
        lengths = np.diff(slot_offsets)
        lengths[-1:] += 1
        return np.repeat(itemsets, lengths)
    first_slots = np.arange(0, int(slot_offsets[-1]), 1 << shift, dtype=np.int64)
    guide = (np.searchsorted(slot_offsets, first_slots, side="right") - 1).astype(dtype)
    return np.append(guide, itemsets[-1:])


def learning_rates(
    initial: float, final: float, step: int, count: int, num_step: int, schedule: str = "linear"
) -> npt.NDArray[np.float64]:
    """Falling learning rates of steps step ... step + count - 1 out of num_step.

    Step 0 has the initial rate; the final one would be that of step num_step. Between them they
    fall along a line, or along half a cosine: slowly, faster, slowly (Loshchilov and Hutter, "SGDR:
    Stochastic gradient descent with warm restarts", ICLR 2017, without restarts).
    """
    done = np.arange(step, step + count, dtype=np.float64)
    if schedule == "cosine":
        return final + (initial - final) * (1 + np.cos(np.pi * done / num_step)) / 2
    return (final - initial) * done / num_step + initial


def index_batch_stream(
    num_index: int, batch_size: int, *, seed: int | None = None
) -> Iterator[npt.NDArray[np.signedinteger]]:
    """Generate shuffled batches of indices, forever.

    Every epoch yields each index exactly once, in a new order; its last batch is
    shorter where the batch size does not divide the number of indices. Each
    batch is an array of its own.

    Parameters
    ----------
    num_index : int
        Number of indices.
    batch_size : int
        Size of a batch.
    seed : int, optional
        Seed of the order; by default NumPy's global generator gives one.

    Returns
    -------
    iterator of int32 (int64 where num_index needs it), at most batch_size
        Batches of indices in 0 ... num_index - 1.

    Raises
    ------
    InputError
        A size is not positive.

    Examples
    --------
    >>> batches = index_batch_stream(5, 2, seed=0)
    >>> [len(next(batches)) for _ in range(4)]
    [2, 2, 1, 2]
    """
    num_index = checks.integer("num_index", num_index, 1)
    batch_size = checks.integer("batch_size", batch_size, 1)
    # Checked here and not at the first `next`, which may be far from the mistake.
    return _index_batches(num_index, batch_size, None if seed is None else resolve_seed(seed))


def _index_batches(
    num_index: int, batch_size: int, seed: int | None
) -> Iterator[npt.NDArray[np.signedinteger]]:
    if seed is None:
        seed = int(np.random.randint(2**31))  # noqa: NPY002 (as the reference does)
    generator = np.random.default_rng(seed)
    dtype = np.int32 if num_index <= np.iinfo(np.int32).max else np.int64
    while True:
        indices = generator.permutation(np.arange(num_index, dtype=dtype))
        for start in range(0, num_index, batch_size):
            yield indices[start : start + batch_size].copy()

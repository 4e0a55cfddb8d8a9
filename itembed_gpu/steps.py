"""The training step on the CPU: one pair and its negatives.

`update_pair` is written once and stands under everything: the tasks call it with
the dimension and the number of negatives as compile-time constants (`cpu`), the
public functions with values known at run time (`lowlevel`). It is also what the
kernels of other devices are compared with.

For a pair of rows u (left) and v_0 (right, the positive) and k negatives v_1 ...
v_k, with y_0 = 1 and y_n = 0 for the others::

    g_n  = scale * (y_n - sigmoid(u . v_n))
    v_n += g_n * u
    u   += sum over n of g_n * v_n

where scale is the learning rate times the weights of both items (Mikolov et al.,
"Distributed representations of words and phrases and their compositionality",
2013, equation 4). Targets are taken in chunks of at most `CHUNK`: within a chunk
all the rows are read before one of them is changed, so that the dot products, the
sigmoids and the updates are each one loop of vector instructions.

Pairs in a *group* share one set of negatives (`update_group`). Their rows are read
once, at the group's start, change locally from pair to pair, and what has changed is
added to the table at its end. With more negatives than fit a chunk beside the
positive, the group is trained chunk by chunk: all its pairs with the first one, then
all its pairs with the next.

Where a table has caps, row r is trained with min(learning rate, caps[r]). The CPU
has none; they are here for the devices that this is compared with (`geometry`).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .rng import below, fill_draws, u64
from .schedule import batch_at, batch_start, fill_slots

CHUNK = 8

# Slots whose pairs are drawn together, before any of them is trained.
BLOCK = 64
# The running loss is that of every so many-th position of an epoch's order.
LOSS_STRIDE = 128
# Pairs between the one being trained and the one whose rows are prefetched.
AHEAD = 3
CACHE_LINE = 16  # float32 values

# False where NUMBA_DISABLE_JIT has the code run as Python, for debugging.
COMPILED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]

# Of LLVM's fast-math flags, those that let loops vectorise; not "nnan" and
# "ninf", under which a NaN would pass unnoticed.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

f32 = np.float32
# The draws that a group shares belong to no slot, but to this one plus its number.
GROUP_SLOT = u64(1 << 63)
ZERO = f32(0)
ONE = f32(1)
LOG2_E = f32(1.4426950408889634)
# 2**x is a normal number within these bounds.
MAX_EXPONENT = f32(126)
# Taylor coefficients of 2**x: log(2)**n / n!. Good to 2e-7 within 1/2 of 0.
EXP2_6 = f32(1.5403530393381608e-4)
EXP2_5 = f32(1.3333558146428443e-3)
EXP2_4 = f32(9.618129107628477e-3)
EXP2_3 = f32(5.550410866482158e-2)
EXP2_2 = f32(2.402265069591007e-1)
EXP2_1 = f32(6.931471805599453e-1)
EXPONENT_BIAS = np.int32(127)
MANTISSA_BITS = np.int32(23)


class Pairs(NamedTuple):
    """Where a task's pairs come from: packed itemsets on a left and a right side.

    An unsupervised task has the same arrays on both sides, and slot s is item s.
    """

    left_items: npt.NDArray[np.int32]  # num_left_item
    left_offsets: npt.NDArray[np.int64]  # num_itemset + 1
    left_weights: npt.NDArray[np.float32]  # num_left_item, or empty: all 1
    right_items: npt.NDArray[np.int32]
    right_offsets: npt.NDArray[np.int64]
    right_weights: npt.NDArray[np.float32]
    slot_offsets: npt.NDArray[np.int64]  # num_itemset + 1: first slot of each itemset
    guide: npt.NDArray[np.signedinteger]  # as made by schedule.slot_guide
    shift: int  # of the guide


@njit(forceinline=True, fastmath=FAST_MATH)
def sigmoid(x):
    """Logistic function of a float32, in arithmetic that vectorises.

    Relative error under 5e-7 for abs(x) <= 6, and 4e-6 for abs(x) <= 80.
    """
    exponent = min(max(-x * LOG2_E, -MAX_EXPONENT), MAX_EXPONENT)
    whole = np.floor(exponent + f32(0.5))
    part = exponent - whole
    power = EXP2_6
    power = power * part + EXP2_5
    power = power * part + EXP2_4
    power = power * part + EXP2_3
    power = power * part + EXP2_2
    power = power * part + EXP2_1
    power = power * part + ONE
    # 2**whole, by writing the exponent field of a float32.
    scale = np.int32((np.int32(whole) + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)
    return ONE / (ONE + power * scale)


@njit(forceinline=True)
def log_loss(logit):
    """-log(sigmoid(logit)) in float64, without overflow."""
    x = np.float64(logit)
    return np.log1p(np.exp(-abs(x))) + max(-x, 0.0)


@njit(forceinline=True, fastmath=FAST_MATH)
def turn_into_gradients(logits, first, count, scale, with_loss):
    """Turn the logits of a chunk into scale * (label - sigmoid), and return their loss.

    The chunk's targets are numbers first ... first + count - 1, of which number 0 is
    the positive. Without `with_loss`, the loss is 0.
    """
    loss = 0.0
    if with_loss:
        for n in range(count):
            loss += log_loss(logits[n] if first + n == 0 else -logits[n])
    # The whole buffer, used or not: a loop of constant length is one instruction.
    for n in range(CHUNK):
        logits[n] = -scale * sigmoid(logits[n])
    if first == 0:
        logits[0] += scale
    return loss


@njit(forceinline=True)
def damping(rate, caps, row):
    """Factor that brings a learning rate down to a row's cap."""
    if abs(rate) <= caps[row]:
        return ONE
    return caps[row] / abs(rate)


@njit(forceinline=True, fastmath=FAST_MATH)
def update_pair(
    syn_left,
    left,
    syn_right,
    targets,
    num_target,
    scale,
    dim,
    row,
    delta,
    logits,
    with_loss,
    rate=ONE,
    left_caps=None,
    right_caps=None,
):
    """Train one pair and its negatives.

    Parameters
    ----------
    syn_left, syn_right : float32, (num_left, dim) and (num_right, dim)
        Tables, updated in place; they may be the same.
    left : int
        Row of the left item.
    targets : int32, num_target
        Rows of the right item, then of the negatives.
    num_target : int
        1 + the number of negatives.
    scale : float32
        Learning rate times weights.
    dim : int
        Dimension.
    row, delta : float32, dim
        Buffers.
    logits : float32, CHUNK
        Buffer.
    with_loss : bool
        Whether to compute the loss, which costs k + 1 logarithms.
    rate : float32
        Learning rate, without weights: what caps are compared with.
    left_caps, right_caps : float32, num_left and num_right, or None
        Highest learning rate of each row.

    Returns
    -------
    float64
        Loss of the pair before the update: -log(sigmoid(u . v_0)) - the sum of
        log(sigmoid(-u . v_n)); 0 without `with_loss`.
    """
    loss = 0.0
    for d in range(dim):
        row[d] = syn_left[left, d]
        delta[d] = ZERO
    for first in range(0, num_target, CHUNK):
        count = min(CHUNK, num_target - first)
        for n in range(count):
            target = targets[first + n]
            dot = ZERO
            for d in range(dim):
                dot += row[d] * syn_right[target, d]
            logits[n] = dot
        loss += turn_into_gradients(logits, first, count, scale, with_loss)
        for n in range(count):
            target = targets[first + n]
            gradient = logits[n]
            for d in range(dim):
                delta[d] += gradient * syn_right[target, d]
        for n in range(count):
            target = targets[first + n]
            gradient = logits[n]
            if right_caps is not None:
                gradient *= damping(rate, right_caps, target)
            for d in range(dim):
                syn_right[target, d] += gradient * row[d]
    factor = ONE
    if left_caps is not None:
        factor = damping(rate, left_caps, left)
    for d in range(dim):
        syn_left[left, d] += factor * delta[d]
    return loss


@njit(forceinline=True, fastmath=FAST_MATH)
def update_group(
    syn_left,
    left,
    syn_right,
    right,
    negatives,
    num_target,
    start,
    stop,
    scale,
    dim,
    row,
    delta,
    logits,
    local,
    origin,
    sample,
    rate=ONE,
    left_caps=None,
    right_caps=None,
):
    """Train the pairs of a group, which share their negatives.

    Parameters
    ----------
    syn_left, syn_right : float32, (num_left, dim) and (num_right, dim)
        Tables, updated in place; they may be the same.
    left, right : int32, at least stop
        Rows of each pair's items.
    negatives : int32, num_target
        Rows of the negatives, from number 1 on.
    num_target : int
        1 + the number of negatives.
    start, stop : int
        Range of the group in `left`, `right` and `scale`.
    scale : float32, at least stop
        Learning rate times weights of each pair.
    dim : int
        Dimension.
    row, delta : float32, dim
        Buffers.
    logits : float32, CHUNK
        Buffer.
    local, origin : float32, (CHUNK, dim)
        Buffers.
    sample : int
        Pair to return the loss of; none if it is outside of start ... stop - 1.
    rate, left_caps, right_caps
        As for `update_pair`; a batch has one learning rate, and a group one batch.

    Returns
    -------
    float64
        Loss of the sampled pair, each chunk of its targets before its own update.
    """
    loss = 0.0
    for first in range(0, num_target, CHUNK):
        count = min(CHUNK, num_target - first)
        shared = 1 if first == 0 else 0
        for n in range(shared, count):
            target = negatives[first + n]
            for d in range(dim):
                origin[n, d] = syn_right[target, d]
                local[n, d] = origin[n, d]
        for i in range(start, stop):
            # Read before the loops: the compiler cannot know that they do not change it.
            left_row, right_row, size = left[i], right[i], scale[i]
            for d in range(dim):
                row[d] = syn_left[left_row, d]
                delta[d] = ZERO
            if first == 0:
                for d in range(dim):
                    local[0, d] = syn_right[right_row, d]
            for n in range(count):
                dot = ZERO
                for d in range(dim):
                    dot += row[d] * local[n, d]
                logits[n] = dot
            loss += turn_into_gradients(logits, first, count, size, i == sample)
            for n in range(count):
                gradient = logits[n]
                for d in range(dim):
                    delta[d] += gradient * local[n, d]
            for n in range(shared, count):
                gradient = logits[n]
                if right_caps is not None:
                    gradient *= damping(rate, right_caps, negatives[first + n])
                for d in range(dim):
                    local[n, d] += gradient * row[d]
            if first == 0:
                gradient = logits[0]
                if right_caps is not None:
                    gradient *= damping(rate, right_caps, right_row)
                for d in range(dim):
                    syn_right[right_row, d] += gradient * row[d]
            factor = ONE
            if left_caps is not None:
                factor = damping(rate, left_caps, left_row)
            for d in range(dim):
                syn_left[left_row, d] += factor * delta[d]
        for n in range(shared, count):
            target = negatives[first + n]
            for d in range(dim):
                syn_right[target, d] += local[n, d] - origin[n, d]
    return loss


@intrinsic
def _prefetch_element(typing_context, table, i, j):
    """Ask for the cache line of table[i, j], to be read soon."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        indices = [
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(args[1:], signature.args[1:], strict=True)
        ]
        pointer = cgutils.get_item_pointer(
            context, builder, signature.args[0], array, indices, wraparound=False
        )
        pointer = builder.bitcast(pointer, cgutils.voidptr_t)
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_read, keep_everywhere, data = (
            ir.Constant(word, 0),
            ir.Constant(word, 3),
            ir.Constant(word, 1),
        )
        builder.call(prefetch, [pointer, for_read, keep_everywhere, data])
        return context.get_dummy_value()

    return types.void(table, i, j), codegen


@njit(forceinline=True)
def _prefetch_row(table, i, dim):
    if not COMPILED:
        return
    for d in range(0, dim, CACHE_LINE):
        _prefetch_element(table, i, d)  # type: ignore[call-arg]


@njit(forceinline=True)
def find_itemset(pairs, slot):
    """Return the itemset of a slot, by binary search between two entries of the guide."""
    entry = slot >> pairs.shift
    low = np.int64(pairs.guide[entry])
    high = np.int64(pairs.guide[entry + 1])
    while low < high:
        middle = (low + high + 1) >> 1
        if pairs.slot_offsets[middle] <= slot:
            low = middle
        else:
            high = middle - 1
    return low


@njit(forceinline=True)
def draw_neighbour(position, first, length, word):
    """Return one of first ... first + length - 1 other than position, uniformly."""
    other = first + np.int64(below(word, u64(length - 1)))
    if other >= position:
        other += 1
    return other


@njit(forceinline=True)
def find_pair(pairs, neighbour, slot, word):
    """Return the positions in the packed arrays of a slot's left and right items.

    Parameters
    ----------
    pairs : Pairs
        Source of the pairs.
    neighbour : bool
        Whether the right item is a random other item of the same itemset; if
        not, slots enumerate the left x right items of each itemset.
    slot : int64
        Slot.
    word : uint64
        Draw number 0 of the slot.
    """
    itemset = find_itemset(pairs, slot)
    first = pairs.right_offsets[itemset]
    length = pairs.right_offsets[itemset + 1] - first
    if neighbour:
        return slot, draw_neighbour(slot, first, length, word)
    rank = u64(slot - pairs.slot_offsets[itemset])
    left = pairs.left_offsets[itemset] + np.int64(rank // u64(length))
    return left, first + np.int64(rank % u64(length))


@njit(forceinline=True)
def fill_pairs(pairs, neighbour, slots, words, count, left, right, scale):
    """Find the items of many slots.

    Parameters
    ----------
    pairs, neighbour
        As for `find_pair`.
    slots : uint64, at least count
        Slots.
    words : uint32, at least count
        Draw number 0 of each.
    count : int
        Number of slots.
    left, right : int32, at least count
        Receive the left and the right items.
    scale : float32, at least count
        Is multiplied by the weights of both items.
    """
    for i in range(count):
        a, b = find_pair(pairs, neighbour, np.int64(slots[i]), u64(words[i]))
        left[i] = pairs.left_items[a]
        right[i] = pairs.right_items[b]
        if pairs.left_weights.shape[0] > 0:
            scale[i] *= pairs.left_weights[a]
        if pairs.right_weights.shape[0] > 0:
            scale[i] *= pairs.right_weights[b]


@njit(forceinline=True)
def fill_negatives(num_right, draws, count, targets):
    """Turn draws into negatives.

    Parameters
    ----------
    num_right : int
        Number of rows that negatives are drawn from.
    draws : uint32, (at least num_target, at least count)
        Draws of each slot, or group.
    count : int
        Number of slots, or groups.
    targets : int32, (at least count, num_target)
        Receives negative n at [i, n]; what stands at [i, 0] is left alone.
    """
    for n in range(1, targets.shape[1]):
        for i in range(count):
            targets[i, n] = below(u64(draws[n, i]), u64(num_right))


@njit(forceinline=True)
def train_positions(
    pairs,
    neighbour,
    syn_left,
    syn_right,
    left_caps,
    right_caps,
    seed,
    stream,
    epoch,
    order,
    start,
    stop,
    num_batch,
    first_batch,
    rates,
    dim,
    num_negative,
    group,
):
    """Train the slots at positions start ... stop - 1 of an epoch's order, one after the other.

    Parameters
    ----------
    pairs, neighbour
        As for `find_pair`.
    syn_left, syn_right : float32, (num_left, dim) and (num_right, dim)
        Tables, updated in place.
    left_caps, right_caps : float32, num_left and num_right, or None
        Highest learning rate of each row.
    seed, stream, epoch : uint64
        Key of the random stream.
    order : uint64, 9
        As made by `schedule.epoch_order`.
    start, stop : int64
        Range of positions; start is a multiple of the group.
    num_batch : int64
        Number of batches of an epoch.
    first_batch : int64
        Batch whose learning rate is rates[0].
    rates : float32
        Learning rate of each batch.
    dim, num_negative : int
        Dimension, and number of negatives a pair.
    group : int or None
        Consecutive pairs that share their negatives, a divisor of BLOCK. None
        where they do not: half of this function is then not even compiled.

    Returns
    -------
    tuple of float64 and int64
        Sum of the losses of a sample of the pairs (the positions that are
        multiples of LOSS_STRIDE), and the size of the sample.
    """
    num_target = num_negative + 1
    num_slot = np.int64(order[0])
    slots = np.empty(BLOCK, dtype=np.uint64)
    pending = np.empty(BLOCK, dtype=np.int32)
    size = 1
    num_draw = num_target
    if group is not None:
        size = group
        num_draw = 1  # a slot draws its neighbour alone
        groups = np.empty(BLOCK // group, dtype=np.uint64)
        group_draws = np.empty(((num_target + 3) // 4 * 4, BLOCK // group), dtype=np.uint32)
        local = np.empty((CHUNK, dim), dtype=np.float32)
        origin = np.empty((CHUNK, dim), dtype=np.float32)
    draws = np.empty(((num_draw + 3) // 4 * 4, BLOCK), dtype=np.uint32)
    left = np.empty(BLOCK, dtype=np.int32)
    right = np.empty(BLOCK, dtype=np.int32)
    targets = np.empty((BLOCK // size, num_target), dtype=np.int32)
    scale = np.empty(BLOCK, dtype=np.float32)
    plain = np.empty(BLOCK, dtype=np.float32)
    row = np.empty(dim, dtype=np.float32)
    delta = np.empty(dim, dtype=np.float32)
    logits = np.zeros(CHUNK, dtype=np.float32)

    loss = 0.0
    num_sample = 0
    batch = batch_at(num_slot, num_batch, start, size)
    batch_stop = batch_start(num_slot, num_batch, batch + 1, size)
    for position in range(start, stop, BLOCK):
        count = min(BLOCK, stop - position)
        fill_slots(order, position, count, slots, pending)
        fill_draws(seed, stream, epoch, slots, count, draws)
        for i in range(count):
            while position + i >= batch_stop:
                batch += 1
                batch_stop = batch_start(num_slot, num_batch, batch + 1, size)
            scale[i] = plain[i] = rates[batch - first_batch]
        fill_pairs(pairs, neighbour, slots, draws[0], count, left, right, scale)
        sample = -position % LOSS_STRIDE
        num_sample += sample < count
        if group is None:
            fill_negatives(syn_right.shape[0], draws, count, targets)
            for i in range(count):
                targets[i, 0] = right[i]
            for i in range(count):
                if i + AHEAD < count:
                    _prefetch_row(syn_left, left[i + AHEAD], dim)
                    for n in range(num_target):
                        _prefetch_row(syn_right, targets[i + AHEAD, n], dim)
                loss += update_pair(
                    syn_left,
                    left[i],
                    syn_right,
                    targets[i],
                    num_target,
                    scale[i],
                    dim,
                    row,
                    delta,
                    logits,
                    i == sample,
                    plain[i],
                    left_caps,
                    right_caps,
                )
        else:
            num_group = (count + group - 1) // group
            for g in range(num_group):
                groups[g] = GROUP_SLOT + u64(position // group + g)
            fill_draws(seed, stream, epoch, groups, num_group, group_draws)
            fill_negatives(syn_right.shape[0], group_draws, num_group, targets)
            # A block's rows are few enough to be asked for all at once.
            for i in range(count):
                _prefetch_row(syn_left, left[i], dim)
                _prefetch_row(syn_right, right[i], dim)
            for g in range(num_group):
                loss += update_group(
                    syn_left,
                    left,
                    syn_right,
                    right,
                    targets[g],
                    num_target,
                    g * group,
                    min(count, (g + 1) * group),
                    scale,
                    dim,
                    row,
                    delta,
                    logits,
                    local,
                    origin,
                    sample,
                    plain[g * group],
                    left_caps,
                    right_caps,
                )
    return loss, num_sample

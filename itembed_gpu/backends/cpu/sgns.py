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

Options change this as follows (`objective`); what is not used is not even compiled.

- NCE: the logit of target b is u . v_b - corrections[b].
- l2: every row r that a pair touches is divided by 1 + s, with s = rate * abs(weights) *
  l2, when the gradient is added: the proximal step, which shrinks a row and never turns it
  around (Duchi and Singer, "Efficient online and batch learning using forward backward
  splitting", 2009). Each row of a mean as well: scaled by its share, features would hardly
  be held back.
- Adagrad, one accumulator G a row (Duchi et al., "Adaptive subgradient methods",
  2011; by rows, as PyTorch-BigGraph and DLRM do)::

      G   += mean over d of h[d]**2, where h is the gradient without l2
      row += rate / sqrt(G + EPSILON) * h

  and l2 has the same divided rate.

- Means: u is the mean of the rows of an itemset, without the right item where that is
  one of them: sum of c_i * x_i with c_i = w_i / sum of abs(w), and each of the rows
  has the gradient c_i * (sum of g_n * v_n).
- A frozen side is read, and not changed.

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

from ...objective.constants import ALWAYS, MAX_REDRAW
from ...objective.options import FREEZE_LEFT, FREEZE_RIGHT, MEAN, REJECT_POSITIVE
from ...objective.rng import HALF, LOW, below, fill_draws, slot_block, u64
from ...objective.schedule import batch_at, batch_start, fill_slots

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
# Nor do those that decide which occurrences are kept: this one plus the position of the
# item in the packed array, and more for those of the right-hand side of a supervised task.
KEEP_SLOT = u64(1 << 62)
KEEP_RIGHT_SLOT = u64((1 << 62) + (1 << 61))
# Keeps the first step of a row finite where its gradient is 0.
EPSILON = f32(1e-10)
# The left row of a pair that was not kept.
DROPPED = -1
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


@njit(forceinline=True)
def adaptive_rate(rate, total, caps, row):
    """Learning rate of a row by Adagrad, whose accumulator holds the total: at most its cap.

    0 where no gradient has been more than 0 yet: the row has learned nothing for l2 to hold back.
    """
    if total == ZERO:
        return ZERO
    factor = rate / np.sqrt(total + EPSILON)
    if caps is not None:
        factor = min(max(factor, -caps[row]), caps[row])
    return factor


@njit(forceinline=True)
def step_factor(rate, caps, state, row, squares):
    """Factor between a row's scaled gradient and its update.

    Without Adagrad the scale holds the learning rate already; with it, the mean
    square of the gradient is added to the row's accumulator.
    """
    if state is not None:
        state[row] += squares
        return adaptive_rate(rate, state[row], caps, row)
    if caps is not None:
        return damping(rate, caps, row)
    return ONE


@njit(forceinline=True)
def shrinkage(factor, decay):
    """Share of a row that its decay takes away, where its gradient is multiplied by factor.

    Never all of it: by Adagrad the factor of a row whose gradients were small so far is huge.
    """
    size = abs(factor) * decay
    return size / (ONE + size)


@njit(forceinline=True, fastmath=FAST_MATH)
def mean_square(row, dim):
    """Mean of the squares of a row."""
    total = ZERO
    for d in range(dim):
        total += row[d] * row[d]
    return total / f32(dim)


@njit(forceinline=True, fastmath=FAST_MATH)
def add_to_row(table, target, change, step, decay, dim, l2):
    """Add step * change to a row, and take decay times itself away where there is l2."""
    if l2 is None:
        for d in range(dim):
            table[target, d] += step * change[d]
    else:
        for d in range(dim):
            table[target, d] += step * change[d] - decay * table[target, d]


@njit(forceinline=True, fastmath=FAST_MATH)
def read_left(syn_left, left, bag, dim, row, delta):
    """Read the left row of a pair, or the mean of a bag; set delta to zero."""
    if bag is None:
        for d in range(dim):
            row[d] = syn_left[left, d]
            delta[d] = ZERO
    else:
        items, shares, count = bag
        for d in range(dim):
            row[d] = ZERO
            delta[d] = ZERO
        for i in range(count):
            item, share = items[i], shares[i]
            for d in range(dim):
                row[d] += share * syn_left[item, d]


@njit(forceinline=True, fastmath=FAST_MATH)
def add_to_left(syn_left, left, bag, row, delta, dim, rate, caps, state, decay, l2):
    """Add delta to the left row, which was read as `row`, or to those of a bag."""
    if bag is None:
        factor = step_factor(
            rate, caps, state, left, ZERO if state is None else mean_square(delta, dim)
        )
        if l2 is None:
            for d in range(dim):
                syn_left[left, d] += factor * delta[d]
        else:
            shrink = shrinkage(factor, decay)
            for d in range(dim):
                syn_left[left, d] += factor * delta[d] - shrink * row[d]
    else:
        items, shares, count = bag
        squares = ZERO if state is None else mean_square(delta, dim)
        for i in range(count):
            item, share = items[i], shares[i]
            factor = step_factor(rate, caps, state, item, squares * share * share)
            add_to_row(
                syn_left,
                item,
                delta,
                factor * share,
                shrinkage(factor, decay),
                dim,
                l2,
            )


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
    left_state=None,
    right_state=None,
    corrections=None,
    l2=None,
    flags=0,
    bag=None,
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
        Weights, times the learning rate if there is no Adagrad.
    dim : int
        Dimension.
    row, delta : float32, dim
        Buffers.
    logits : float32, CHUNK
        Buffer.
    with_loss : bool
        Whether to compute the loss, which costs k + 1 logarithms.
    rate : float32
        Learning rate, without weights: what caps are compared with, and Adagrad divides.
    left_caps, right_caps : float32, num_left and num_right, or None
        Highest learning rate of each row.
    left_state, right_state : float32, num_left and num_right, or None
        Accumulators of Adagrad, updated in place; the same where the tables are.
    corrections : float32, num_right, or None
        What is subtracted from the logit of each target.
    l2 : float32 or None
        Strength of the regularisation.
    flags : int
        FREEZE_LEFT and FREEZE_RIGHT of `objective` leave a table as it is.
    bag : tuple of int32, float32 and int, or None
        Rows, their shares and how many: the left row is their mean, instead of `left`.

    Returns
    -------
    float64
        Loss of the pair before the update: -log(sigmoid(x_0)) - the sum of
        log(sigmoid(-x_n)) with x the logits; 0 without `with_loss`.
    """
    loss = 0.0
    decay = ZERO if l2 is None else abs(scale) * l2
    read_left(syn_left, left, bag, dim, row, delta)
    squares = ZERO if right_state is None else mean_square(row, dim)
    for first in range(0, num_target, CHUNK):
        count = min(CHUNK, num_target - first)
        for n in range(count):
            target = targets[first + n]
            dot = ZERO
            for d in range(dim):
                dot += row[d] * syn_right[target, d]
            if corrections is not None:
                dot -= corrections[target]
            logits[n] = dot
        loss += turn_into_gradients(logits, first, count, scale, with_loss)
        for n in range(count):
            target = targets[first + n]
            gradient = logits[n]
            for d in range(dim):
                delta[d] += gradient * syn_right[target, d]
        if flags & FREEZE_RIGHT:
            continue
        for n in range(count):
            target = targets[first + n]
            gradient = logits[n]
            factor = step_factor(
                rate, right_caps, right_state, target, squares * gradient * gradient
            )
            add_to_row(
                syn_right,
                target,
                row,
                factor * gradient,
                shrinkage(factor, decay),
                dim,
                l2,
            )
    if not flags & FREEZE_LEFT:
        add_to_left(syn_left, left, bag, row, delta, dim, rate, left_caps, left_state, decay, l2)
    return loss


@njit(forceinline=True)
def is_rejected(pairs, slots, i, positive, negative):
    """Whether a negative is the positive of pair i or, with `pairs`, of its right itemset."""
    if negative == positive:
        return True
    if pairs is not None:
        itemset = find_itemset(pairs, np.int64(slots[i]))
        for position in range(pairs.right_offsets[itemset], pairs.right_offsets[itemset + 1]):
            if pairs.right_items[position] == negative:
                return True
    return False


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
    left_state=None,
    right_state=None,
    corrections=None,
    l2=None,
    flags=0,
    bags=None,
    pairs=None,
    slots=None,
):
    """Train the pairs of a group, which share their negatives.

    Parameters
    ----------
    syn_left, syn_right : float32, (num_left, dim) and (num_right, dim)
        Tables, updated in place; they may be the same.
    left, right : int32, at least stop
        Rows of each pair's items; a left row of DROPPED leaves the pair out.
    negatives : int32, num_target
        Rows of the negatives, from number 1 on.
    num_target : int
        1 + the number of negatives.
    start, stop : int
        Range of the group in `left`, `right` and `scale`.
    scale : float32, at least stop
        Weights of each pair, times the learning rate if there is no Adagrad.
    dim : int
        Dimension.
    row, delta : float32, dim
        Buffers.
    logits : float32, CHUNK
        Buffer.
    local, origin : float32, (CHUNK, dim), or (CHUNK, dim + 1) with `right_state`
        Buffers.
    sample : int
        Pair to return the loss of; none if it is outside of start ... stop - 1.
    rate, left_caps, right_caps, left_state, right_state, corrections, l2
        As for `update_pair`; a batch has one learning rate, and a group one batch.
    flags : int
        As for `update_pair`; with REJECT_POSITIVE, a negative is left out of the
        pairs that reject it.
    bags : Bags or None
        Where the left rows are means, the itemset of each pair.
    pairs : Pairs or None
        With REJECT_ITEMSET, where the pairs come from.
    slots : uint64, at least stop, or None
        The same: the slot of each pair.

    Returns
    -------
    float64
        Loss of the sampled pair, each chunk of its targets before its own update.
    """
    loss = 0.0
    if flags & REJECT_POSITIVE:
        rejected = np.zeros(CHUNK, dtype=np.bool_)
    for first in range(0, num_target, CHUNK):
        count = min(CHUNK, num_target - first)
        shared = 1 if first == 0 else 0
        for n in range(shared, count):
            target = negatives[first + n]
            for d in range(dim):
                origin[n, d] = syn_right[target, d]
                local[n, d] = origin[n, d]
            if right_state is not None:
                origin[n, dim] = local[n, dim] = right_state[target]
        for i in range(start, stop):
            # Read before the loops: the compiler cannot know that they do not change it.
            left_row, right_row, size = left[i], right[i], scale[i]
            if left_row == DROPPED:
                continue
            bag = fill_bag(bags, i)
            decay = ZERO if l2 is None else abs(size) * l2
            read_left(syn_left, left_row, bag, dim, row, delta)
            squares = ZERO if right_state is None else mean_square(row, dim)
            if first == 0:
                for d in range(dim):
                    local[0, d] = syn_right[right_row, d]
            for n in range(count):
                dot = ZERO
                for d in range(dim):
                    dot += row[d] * local[n, d]
                if corrections is not None:
                    dot -= corrections[right_row if n < shared else negatives[first + n]]
                if flags & REJECT_POSITIVE and n >= shared:
                    rejected[n] = is_rejected(pairs, slots, i, right_row, negatives[first + n])
                    if rejected[n]:
                        dot = -f32(np.inf)  # no loss, and no gradient
                logits[n] = dot
            loss += turn_into_gradients(logits, first, count, size, i == sample)
            for n in range(count):
                gradient = logits[n]
                for d in range(dim):
                    delta[d] += gradient * local[n, d]
            if not flags & FREEZE_RIGHT:
                for n in range(shared, count):
                    gradient = logits[n]
                    target = negatives[first + n]
                    if flags & REJECT_POSITIVE and rejected[n]:
                        continue
                    factor = ONE
                    if right_state is not None:
                        local[n, dim] += squares * gradient * gradient
                        factor = adaptive_rate(rate, local[n, dim], right_caps, target)
                    elif right_caps is not None:
                        factor = damping(rate, right_caps, target)
                    add_to_row(
                        local,
                        n,
                        row,
                        factor * gradient,
                        shrinkage(factor, decay),
                        dim,
                        l2,
                    )
                if first == 0:
                    gradient = logits[0]
                    factor = step_factor(
                        rate, right_caps, right_state, right_row, squares * gradient * gradient
                    )
                    add_to_row(
                        syn_right,
                        right_row,
                        row,
                        factor * gradient,
                        shrinkage(factor, decay),
                        dim,
                        l2,
                    )
            if not flags & FREEZE_LEFT:
                # The decay of a row is that of a pair, not of each of its chunks.
                add_to_left(
                    syn_left, left_row, bag, row, delta, dim, rate, left_caps, left_state,
                    decay if first == 0 else ZERO, l2,
                )  # fmt: skip
        if flags & FREEZE_RIGHT:
            continue
        for n in range(shared, count):
            target = negatives[first + n]
            for d in range(dim):
                syn_right[target, d] += local[n, d] - origin[n, d]
            if right_state is not None:
                right_state[target] += local[n, dim] - origin[n, dim]
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
def find_pair(pairs, neighbour, slot, word, flags=0):
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
    flags : int
        With MEAN of `objective`, slots enumerate the right items (all items, with
        `neighbour`), and the number of the itemset takes the place of the left position.
    """
    itemset = find_itemset(pairs, slot)
    first = pairs.right_offsets[itemset]
    rank = u64(slot - pairs.slot_offsets[itemset])
    if flags & MEAN:
        return itemset, first + np.int64(rank)
    length = pairs.right_offsets[itemset + 1] - first
    if neighbour:
        return slot, draw_neighbour(slot, first, length, word)
    left = pairs.left_offsets[itemset] + np.int64(rank // u64(length))
    return left, first + np.int64(rank % u64(length))


class Stream(NamedTuple):
    """Where the draws of an epoch are: the key of the random stream."""

    seed: np.uint64
    stream: np.uint64
    epoch: np.uint64


class Bags(NamedTuple):
    """The left rows of slots whose left side is a mean."""

    pairs: Pairs
    itemsets: npt.NDArray[np.int64]  # of each slot of a block
    skips: npt.NDArray[np.int64]  # position of the left item to leave out, or -1
    keep: npt.NDArray[np.uint32] | None  # as Objective.left_keep
    key: Stream
    rows: npt.NDArray[np.int32]  # buffer as long as the longest left itemset
    shares: npt.NDArray[np.float32]  # the same


@njit(forceinline=True)
def is_kept(key, keep, slot, item):
    """Whether an occurrence of an item is kept in this epoch: the same for all its pairs."""
    if keep is None:
        return True
    word, _, _, _ = slot_block(key.seed, key.stream, key.epoch, slot, u64(0))
    return keep[item] == ALWAYS or word < u64(keep[item])


@njit(forceinline=True)
def fill_bag(bags, i):
    """Return the rows of slot i's left itemset, their shares in the mean, and how many."""
    if bags is None:
        return None
    pairs, rows, shares = bags.pairs, bags.rows, bags.shares
    itemset, skip = bags.itemsets[i], bags.skips[i]
    count = 0
    total = ZERO
    for position in range(pairs.left_offsets[itemset], pairs.left_offsets[itemset + 1]):
        item = pairs.left_items[position]
        if position == skip:
            continue
        if not is_kept(bags.key, bags.keep, KEEP_SLOT + u64(position), item):
            continue
        weight = ONE
        if pairs.left_weights.shape[0] > 0:
            weight = pairs.left_weights[position]
        if weight == ZERO:  # neither in the mean nor touched
            continue
        rows[count] = item
        shares[count] = weight
        total += abs(weight)
        count += 1
    if total == ZERO:
        count = 0
    for n in range(count):
        shares[n] /= total
    return rows, shares, count


@njit(forceinline=True)
def fill_pairs(
    pairs,
    neighbour,
    slots,
    words,
    count,
    left,
    right,
    scale,
    flags=0,
    key=None,
    left_keep=None,
    right_keep=None,
    bags=None,
):
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
        Receive the left and the right items; DROPPED on the left where one of
        them is not kept.
    scale : float32, at least count
        Is multiplied by the weights of both items.
    flags : int
        Options, as in `objective`.
    key : Stream, optional
        Where the draws are that keep items.
    left_keep, right_keep : uint32, num_left and num_right, optional
        As in `Objective`.
    bags : Bags, optional
        Receives the itemset of each slot where the left side is a mean.
    """
    for i in range(count):
        a, b = find_pair(pairs, neighbour, np.int64(slots[i]), u64(words[i]), flags)
        right[i] = pairs.right_items[b]
        if pairs.right_weights.shape[0] > 0:
            scale[i] *= pairs.right_weights[b]
        if bags is not None:
            bags.itemsets[i] = a
            # An item is not in its own context.
            bags.skips[i] = b if neighbour else -1
            left[i] = 0
            _, _, length = fill_bag(bags, i)
            if length == 0:
                left[i] = DROPPED
        else:
            left[i] = pairs.left_items[a]
            if pairs.left_weights.shape[0] > 0:
                scale[i] *= pairs.left_weights[a]
            if left_keep is not None and not is_kept(key, left_keep, KEEP_SLOT + u64(a), left[i]):
                left[i] = DROPPED
        if right_keep is not None:
            # On both sides of an unsupervised task there are the same occurrences.
            first = KEEP_SLOT if neighbour else KEEP_RIGHT_SLOT
            if not is_kept(key, right_keep, first + u64(b), right[i]):
                left[i] = DROPPED


@njit(forceinline=True)
def draw_noise(word, num_right, thresholds, aliases):
    """Turn a 32-bit word into a row of the noise distribution."""
    product = word * num_right
    row = product >> HALF
    if thresholds is None:
        return np.int32(row)
    if (product & LOW) < u64(thresholds[row]):
        return np.int32(row)
    return aliases[row]


@njit(forceinline=True)
def fill_negatives(num_right, draws, count, targets, thresholds=None, aliases=None):
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
    thresholds, aliases : uint32 and int32, num_right, optional
        Alias table of the noise, as made by `objective.alias_table`.
    """
    for n in range(1, targets.shape[1]):
        for i in range(count):
            targets[i, n] = draw_noise(u64(draws[n, i]), u64(num_right), thresholds, aliases)


@njit
def redraw_negatives(key, slots, i, num_right, targets, thresholds, aliases, pairs):
    """Draw those negatives of a slot again that it rejects.

    The next draw of negative n is that with a number larger by the number of
    draws of a slot. After MAX_REDRAW of them, which takes positives that are
    nearly all of the noise, any row but the positive is as good.
    """
    num_target = targets.shape[0]
    num_draw = (num_target + 3) // 4 * 4
    for n in range(1, num_target):
        draw = n
        word = u64(0)
        while draw < n + MAX_REDRAW * num_draw and is_rejected(
            pairs, slots, i, targets[0], targets[n]
        ):
            draw += num_draw
            words = slot_block(key.seed, key.stream, key.epoch, slots[i], u64(draw // 4))
            word = words[draw % 4]
            targets[n] = draw_noise(word, u64(num_right), thresholds, aliases)
        if targets[n] == targets[0] and num_right > 1:
            other = np.int64(below(word, u64(num_right - 1)))
            targets[n] = other + (other >= targets[0])


@njit(forceinline=True)
def optional(flag, value):
    """Return a value, or None without the flag, which is known when this is compiled."""
    if flag is None:
        return None
    return value


@njit(forceinline=True)
def train_positions(
    pairs,
    neighbour,
    syn_left,
    syn_right,
    left_caps,
    right_caps,
    objective,
    max_bag,
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
    flags,
    rejects_itemset=None,
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
    objective : Objective
        Its arrays; accumulators are updated in place.
    max_bag : int or None
        Length of the longest left itemset where the left side is a mean.
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
    flags : int
        Options of the objective, as a compile-time constant.
    rejects_itemset : True or None
        Whether flags have REJECT_ITEMSET.

    Returns
    -------
    tuple of float64, int64 and int64
        Sum of the losses of a sample of the pairs (the positions that are
        multiples of LOSS_STRIDE), the size of the sample, and the number of
        pairs that were left out because an item was not kept.
    """
    num_target = num_negative + 1
    num_slot = np.int64(order[0])
    num_right = syn_right.shape[0]
    key = Stream(seed, stream, epoch)
    thresholds, aliases = objective.thresholds, objective.aliases
    slots = np.empty(BLOCK, dtype=np.uint64)
    pending = np.empty(BLOCK, dtype=np.int32)
    size = 1
    num_draw = num_target
    if group is not None:
        size = group
        num_draw = 1  # a slot draws its neighbour alone
        groups = np.empty(BLOCK // group, dtype=np.uint64)
        group_draws = np.empty(((num_target + 3) // 4 * 4, BLOCK // group), dtype=np.uint32)
        width = dim + has(objective.right_state)
        local = np.empty((CHUNK, width), dtype=np.float32)
        origin = np.empty((CHUNK, width), dtype=np.float32)
    draws = np.empty(((num_draw + 3) // 4 * 4, BLOCK), dtype=np.uint32)
    left = np.empty(BLOCK, dtype=np.int32)
    right = np.empty(BLOCK, dtype=np.int32)
    targets = np.empty((BLOCK // size, num_target), dtype=np.int32)
    scale = np.empty(BLOCK, dtype=np.float32)
    plain = np.empty(BLOCK, dtype=np.float32)
    row = np.empty(dim, dtype=np.float32)
    delta = np.empty(dim, dtype=np.float32)
    logits = np.zeros(CHUNK, dtype=np.float32)
    bags = make_bags(pairs, objective.left_keep, key, max_bag)
    among = optional(rejects_itemset, pairs)
    drops = has(objective.left_keep) + has(bags)  # known when it is compiled

    loss = 0.0
    num_sample = 0
    num_dropped = 0
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
            if has(objective.right_state):
                scale[i] = ONE  # Adagrad has its own use for the rate
        fill_pairs(
            pairs, neighbour, slots, draws[0], count, left, right, scale, flags, key,
            objective.left_keep, objective.right_keep, bags,
        )  # fmt: skip
        sample = -position % LOSS_STRIDE
        num_sample += sample < count
        if drops:
            for i in range(count):
                num_dropped += left[i] == DROPPED
            num_sample -= sample < count and left[sample] == DROPPED
        if group is None:
            fill_negatives(num_right, draws, count, targets, thresholds, aliases)
            for i in range(count):
                targets[i, 0] = right[i]
                if flags & REJECT_POSITIVE:
                    redraw_negatives(
                        key, slots, i, num_right, targets[i], thresholds, aliases, among
                    )
            for i in range(count):
                if i + AHEAD < count:
                    # Also where it is dropped: it does no harm.
                    _prefetch_row(syn_left, left[i + AHEAD], dim)
                    for n in range(num_target):
                        _prefetch_row(syn_right, targets[i + AHEAD, n], dim)
                if drops and left[i] == DROPPED:
                    continue
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
                    objective.left_state,
                    objective.right_state,
                    objective.corrections,
                    objective.settings.l2,
                    flags,
                    fill_bag(bags, i),
                )
        else:
            num_group = (count + group - 1) // group
            for g in range(num_group):
                groups[g] = GROUP_SLOT + u64(position // group + g)
            fill_draws(seed, stream, epoch, groups, num_group, group_draws)
            fill_negatives(num_right, group_draws, num_group, targets, thresholds, aliases)
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
                    objective.left_state,
                    objective.right_state,
                    objective.corrections,
                    objective.settings.l2,
                    flags,
                    bags,
                    among,
                    slots,
                )
    return loss, num_sample, num_dropped


@njit(forceinline=True)
def has(optional):
    """Whether an optional array is there, as a number."""
    if optional is None:
        return 0
    return 1


@njit(forceinline=True)
def make_bags(pairs, keep, key, max_bag):
    """Allocate what `fill_bag` needs; None where no left side is a mean."""
    if max_bag is None:
        return None
    return Bags(
        pairs,
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        keep,
        key,
        np.empty(max_bag, dtype=np.int32),
        np.empty(max_bag, dtype=np.float32),
    )

"""The loop over an epoch's positions: pairs are drawn a block at a time, then trained.

The twin of ``kernels/blocks.cuh``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...compiling import COMPILED, inlined, part
from ...objective import constants
from ...objective.constants import BLOCK, DROPPED, SPAN
from ...objective.options import GLOVE, REJECT_POSITIVE
from ...objective.rng import fill_draws, u64
from ...objective.schedule import batch_at, batch_start, fill_slots, loss_stride
from .cells import update_cell
from .pairs import (
    ONE,
    Block,
    Kept,
    Stream,
    fill_bag,
    fill_negatives,
    fill_pairs,
    has,
    make_bags,
    make_block,
    redraw_negatives,
)
from .sgns import Group, Model, Origin, Scratch, Step, Thinning, update_group, update_pair

# Pairs between the one being trained and the one whose rows are prefetched. They are brought to
# the second level of caches, whose misses under way are many; the first level's are soon used up.
AHEAD = 6
CACHE_LINE = 16  # float32 values
# Rows of a mean that are prefetched, at most: of a pair, and of one of the next group. More would
# drive each other out.
FEW, MANY = 16, 64
GROUP_SLOT = u64(constants.GROUP_SLOT)


class Epoch(NamedTuple):
    """An epoch: the random stream, the order and the learning rates."""

    key: Stream
    order: npt.NDArray[np.uint64]  # as made by schedule.epoch_order
    num_batch: int
    first_batch: int  # the batch whose learning rate is the first
    rates: npt.NDArray[np.float32]


class Buffers(NamedTuple):
    """What the pairs of a block are drawn into."""

    block: Block
    pending: npt.NDArray[np.int32]  # BLOCK: of `fill_slots`
    draws: npt.NDArray[np.uint32]  # (at least the draws of a slot, BLOCK)
    targets: npt.NDArray[np.int32]  # (BLOCK, or groups in it; num_target)
    groups: npt.NDArray[np.uint64]  # slots of the groups
    group_draws: npt.NDArray[np.uint32]


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
        for_read, second_level, data = (
            ir.Constant(word, 0),
            ir.Constant(word, 2),
            ir.Constant(word, 1),
        )
        builder.call(prefetch, [pointer, for_read, second_level, data])
        return context.get_dummy_value()

    return types.void(table, i, j), codegen


@inlined
def _prefetch_row(table, i, dim):
    if not COMPILED:
        return
    for d in range(0, dim, CACHE_LINE):
        _prefetch_element(table, i, d)  # type: ignore[call-arg]


@inlined
def _prefetch_pair(model, left, targets, dim, num_target):
    """Ask for the rows of a pair; also where it is dropped, which does no harm."""
    _prefetch_row(model.left.syn, left, dim)
    for n in range(num_target):
        _prefetch_row(model.right.syn, targets[n], dim)
    _prefetch_state(model.left.bias, model, left, targets[0], dim)


@inlined
def _prefetch_bag(model, bags, i, dim, most):
    """Ask for the rows that the mean of slot i is of, or so many of them."""
    if bags is not None:
        first, stop = bags.firsts[i], bags.stops[i]
        for position in range(first, min(stop, first + most)):
            _prefetch_row(model.left.syn, bags.pairs.left_items[position], dim)
        _prefetch_own(model.own, bags.numbers, i, dim)


@inlined
def _prefetch_own(table, numbers, i, dim):
    if table is not None:
        _prefetch_row(table.syn, numbers[i], dim)


@inlined
def make_kept(key, left, right):
    """Say which items are kept; None where all are."""
    if left is None:
        return None
    return Kept(key, left, right)


@inlined
def make_scratch(dim, state):
    """Allocate the buffers of `update_pair` and of `update_group`."""
    row, delta = np.empty(dim, dtype=np.float32), np.empty(dim, dtype=np.float32)
    local = np.empty((SPAN, dim + has(state)), dtype=np.float32)
    return Scratch(row, delta, np.zeros(SPAN, dtype=np.float32), local, np.empty_like(local))


@inlined
def make_buffers(num_target, group):
    """Allocate what a block's pairs are drawn into; in a group, a slot draws no negatives."""
    block, pending = make_block(), np.empty(BLOCK, dtype=np.int32)
    num_draw = num_target if group == 1 else 1
    # Draws come in blocks of four.
    draws = np.empty(((num_draw + 3) // 4 * 4, BLOCK), dtype=np.uint32)
    targets = np.empty((BLOCK // group, num_target), dtype=np.int32)
    groups = np.empty(BLOCK // group, dtype=np.uint64)
    group_draws = np.empty(((num_target + 3) // 4 * 4, BLOCK // group), dtype=np.uint32)
    return Buffers(block, pending, draws, targets, groups, group_draws)


@inlined
def fill_rates(epoch, position, count, batch, group, block, adapts):
    """Write the learning rates of a block's positions; return the batch of the last."""
    num_slot = np.int64(epoch.order[0])
    stop = batch_start(num_slot, epoch.num_batch, batch + 1, group)
    for i in range(count):
        while position + i >= stop:
            batch += 1
            stop = batch_start(num_slot, epoch.num_batch, batch + 1, group)
        block.scale[i] = block.rates[i] = epoch.rates[batch - epoch.first_batch]
        if adapts:
            block.scale[i] = ONE  # Adagrad has its own use for the rate
    return batch


@inlined
def _prefetch_state(bias, model, left, right, dim):
    """Ask for what Adagrad adds up for the rows of a cell of counts, if it is one."""
    if bias is not None:
        _prefetch_row(model.left.totals, left, dim)
        _prefetch_row(model.right.totals, right, dim)


@inlined
def train_pair(bias, constants, model, origin, block, i, targets, step, scratch, sampled):
    """Train pair i of a block, or a cell of counts, whose rows have a bias; return its loss."""
    left = block.left[i]
    # The code for a pair is compiled for a cell too, and never reached.
    if bias is None:
        bag = fill_bag(origin.bags, i)
        thinning = Thinning(origin.key, block.slots[i])
        return update_pair(constants, model, left, targets, step, scratch, sampled, bag, thinning)
    return update_cell(constants, model, left, targets[0], step, block.logs[i], scratch, sampled)


@part
def train_pairs(constants, model, origin, key, objective, buffers, scratch, count, sample, stride):
    """Train the pairs of a block one after the other, each with negatives of its own."""
    block, targets = buffers.block, buffers.targets
    source, dim, num_target, _, flags = constants
    num_right = model.right.syn.shape[0]
    thresholds, aliases = objective.thresholds, objective.aliases
    fill_negatives(num_right, buffers.draws, count, targets, thresholds, aliases)
    for i in range(count):
        targets[i, 0] = block.right[i]
        if flags & REJECT_POSITIVE:
            redraw_negatives(
                key, origin.pairs, source, block.slots[i], targets[i], num_right,
                thresholds, aliases, flags,
            )  # fmt: skip
    loss = 0.0
    for i in range(min(AHEAD, count)):
        _prefetch_pair(model, block.left[i], targets[i], dim, num_target)
    for i in range(count):
        if i + AHEAD < count:
            _prefetch_pair(model, block.left[i + AHEAD], targets[i + AHEAD], dim, num_target)
            _prefetch_bag(model, origin.bags, i + AHEAD, dim, FEW)
        if block.left[i] != DROPPED:
            step = Step(block.scale[i], block.rates[i])
            sampled = (i - sample) & (stride - 1) == 0
            loss += train_pair(
                model.left.bias, constants, model, origin, block, i, targets[i], step, scratch,
                sampled,
            )  # fmt: skip
    return loss


@part
def draw_groups(key, objective, buffers, count, position, group, num_right):
    """Draw the negatives of the groups of a block that begins at a position."""
    num_group = (count + group - 1) // group
    for g in range(num_group):
        buffers.groups[g] = GROUP_SLOT + u64(position // group + g)
    fill_draws(key.seed, key.stream, key.epoch, buffers.groups, num_group, buffers.group_draws)
    thresholds, aliases = objective.thresholds, objective.aliases
    fill_negatives(num_right, buffers.group_draws, num_group, buffers.targets, thresholds, aliases)


@part
def train_groups(constants, model, origin, buffers, scratch, count, sample, stride):
    """Train the pairs of a block, each group with its negatives."""
    block = buffers.block
    _, dim, _, group, _ = constants
    # A block's rows are few enough to be asked for all at once.
    for i in range(count):
        _prefetch_row(model.left.syn, block.left[i], dim)
        _prefetch_row(model.right.syn, block.right[i], dim)
    loss = 0.0
    for g in range((count + group - 1) // group):
        stop = min(count, (g + 1) * group)
        for i in range(stop, min(count, stop + group)):
            _prefetch_bag(model, origin.bags, i, dim, MANY)
        slot, negatives = buffers.groups[g], buffers.targets[g]
        pairs = Group(block, g * group, stop, slot, negatives, sample, stride)
        loss += update_group(constants, model, pairs, origin, scratch)
    return loss


@part
def train_positions(constants, shared, max_bag, pairs, tables, objective, epoch, start, stop):
    """Train the slots at positions start ... stop - 1 of an epoch's order, one after the other.

    Parameters
    ----------
    constants : tuple
        Fields of `sgns.Constants`.
    shared : True or None
        Whether pairs share their negatives, as a compile-time constant: what is not used
        is not even compiled.
    max_bag : int or None
        Length of the longest bag where the left side is a mean.
    pairs : Pairs
        Arrays of the source.
    tables : Tables
        Tables, updated in place, and their accumulators.
    objective : Objective
        Its other arrays.
    epoch : Epoch
        Random stream, order and learning rates.
    start, stop : int64
        Range of positions; start is a multiple of the group.

    Returns
    -------
    tuple of float64, int64 and int64
        As of `Tally`: sum of the losses of a sample of the pairs (the positions that are
        multiples of `loss_stride`), the size of the sample, both times that stride, and the
        number of pairs that were left out because an item was not kept.
    """
    source, dim, num_target, group, flags = constants
    left, right, own = tables
    key, num_right, num_slot = epoch.key, right.syn.shape[0], np.int64(epoch.order[0])
    model = Model(left, right, objective.corrections, objective.settings, own)
    kept = make_kept(key, objective.left_keep, objective.right_keep)
    origin = Origin(key, pairs, make_bags(pairs, kept, max_bag, dim, own))
    buffers, scratch = make_buffers(num_target, group), make_scratch(dim, right.state)
    block = buffers.block
    stride = loss_stride(num_slot)
    loss, num_sample, num_dropped = 0.0, 0, 0
    batch = batch_at(num_slot, epoch.num_batch, start, group)
    for position in range(start, stop, BLOCK):
        count = min(BLOCK, stop - position)
        fill_slots(epoch.order, position, count, block.slots, buffers.pending)
        if not flags & GLOVE:  # whose cells have nothing that is drawn
            fill_draws(key.seed, key.stream, key.epoch, block.slots, count, buffers.draws)
        adapts = has(right.state) | has(right.bias)
        batch = fill_rates(epoch, position, count, batch, group, block, adapts)
        fill_pairs(pairs, source, block, buffers.draws[0], count, kept, origin.bags, flags)
        sample = -position % stride
        for i in range(sample, count, stride):
            num_sample += block.left[i] != DROPPED
        for i in range(count):
            num_dropped += block.left[i] == DROPPED
        if shared is None:
            loss += train_pairs(
                constants, model, origin, key, objective, buffers, scratch, count, sample, stride
            )
        else:
            draw_groups(key, objective, buffers, count, position, group, num_right)
            loss += train_groups(constants, model, origin, buffers, scratch, count, sample, stride)
    return loss * stride, num_sample * stride, num_dropped

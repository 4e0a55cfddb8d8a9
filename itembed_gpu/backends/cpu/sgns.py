"""The training step on the CPU: one pair and its negatives.

`update_pair` stands under everything: the tasks call it with the dimension and the number
of negatives as compile-time constants (`blocks`), the public functions with values known at
run time (`lowlevel`). It is also what the kernels of other devices are compared with, whose
twin of this file is ``kernels/sgns.cuh``.

For a pair of rows u (left) and v_0 (right, the positive) and k negatives v_1 ...
v_k, with y_0 = 1 and y_n = 0 for the others::

    g_n  = scale * (y_n - sigmoid(u . v_n))
    v_n += g_n * u
    u   += sum over n of g_n * v_n

where scale is the learning rate times the weights of both items (Mikolov et al.,
"Distributed representations of words and phrases and their compositionality",
2013, equation 4). Targets are taken in spans of at most `SPAN`: within a span
all the rows are read before one of them is changed, so that the dot products, the
gradients (`losses`) and the updates are each one loop of vector instructions.

Pairs in a *group* share one set of negatives (`update_group`). Their rows are read
once, at the group's start, change locally from pair to pair, and what has changed is
added to the table at its end. With more negatives than fit a span beside the
positive, the group is trained span by span: all its pairs with the first one, then
all its pairs with the next. A left row is read and moved at each span. A mean, which is of many
rows, is read before the first one, and its rows are moved after the last, by the gradient of the
whole pair: so are `MEANS` pairs of the group, and then the next of them.

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

- max_step: the rate of every right row is at most max_step / (m * |u|**2), where m is how often
  the row that is hit most is among the targets of the span. It is the same for all of them, so
  that a bound weighs pairs, and not positives against negatives. A positive_weight above 1
  divides it.

- Means: u is the mean of the rows of an itemset, without the right item where that is
  one of them: sum of c_i * x_i with c_i = w_i / sum of abs(w), and each of the rows
  has the gradient c_i * (sum of g_n * v_n). Where an itemset has a row of its own, this is
  among them, with a weight of 1.
- A frozen side is read, and not changed, but for the itemsets' own rows.

Where a table has caps, and caps[r] is below the learning rate, an update of row r is left out, with
its share of l2, with probability 1 - caps[r] / rate, and made whole otherwise. Of negatives that a
group shares, so is the sum of what its pairs add. The CPU has no caps, nor have rows with Adagrad;
they are here for the devices that this is compared with (`in_flight`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...compiling import inlined, inlined_exact, inlined_fast
from ...objective import constants
from ...objective.constants import DROPPED, MAX_DRAW, MEANS, SPAN
from ...objective.options import (
    FREEZE_LEFT,
    FREEZE_RIGHT,
    NO_SETTINGS,
    OWN_ROW,
    REJECT_POSITIVE,
)
from ...objective.pairs import Pairs
from ...objective.rng import slot_block, u64
from .losses import corrected, fill_gradients, target_weight
from .pairs import ONE, ZERO, Bags, Block, Stream, fill_bag, is_rejected

EPSILON = np.float32(constants.EPSILON)
WORDS = np.float32(1 << 32)
OF_NEGATIVES, OF_PAIR = u64(constants.THINNED_SLOT), u64(constants.THINNED_PAIR_SLOT)
UNBOUNDED = np.finfo(np.float32).max


class Rows(NamedTuple):
    """A table as it is trained; None for what it does not have."""

    syn: npt.NDArray[np.float32]  # (num_row, dim)
    caps: npt.NDArray[np.float32] | None  # num_row: above these rates, updates are thinned
    state: npt.NDArray[np.float32] | None  # num_row: accumulators of Adagrad
    # Of cells of counts alone: biases, (num_row,), and accumulators of each number.
    bias: npt.NDArray[np.float32] | None = None
    totals: npt.NDArray[np.float32] | None = None  # (num_row, dim)
    bias_totals: npt.NDArray[np.float32] | None = None  # num_row


class Tables(NamedTuple):
    """The tables of a problem."""

    left: Rows
    right: Rows  # its arrays may be those of the left one
    own: Rows | None = None  # of itemsets, each of which has a row of its own in its means


class Model(NamedTuple):
    """What is trained, and by which options."""

    left: Rows
    right: Rows  # its arrays may be those of the left one
    corrections: npt.NDArray[np.float32] | None  # num_right: what logits are less by
    settings: Any  # numbers of options
    own: Rows | None = None  # as of `Tables`


class Constants(NamedTuple):
    """Numbers that are compiled in.

    Compiled code has them as a plain tuple: of those, Numba knows the values.
    """

    source: int  # kind of the pairs' source
    dim: int
    num_target: int  # 1 + the number of negatives
    group: int  # consecutive pairs that share their negatives, a divisor of BLOCK
    flags: int  # bits of options


class Step(NamedTuple):
    """How far a pair moves its rows."""

    scale: np.float32  # weights, times the learning rate if there is no Adagrad
    rate: np.float32  # without weights: what caps are compared with, and Adagrad divides


class Thinning(NamedTuple):
    """Where the draws are that say which updates of a pair's rows are left out."""

    key: Stream
    slot: np.uint64


class Scratch(NamedTuple):
    """Buffers."""

    row: npt.NDArray[np.float32]  # dim: the left row, as it was read
    delta: npt.NDArray[np.float32]  # dim: its gradient
    logits: npt.NDArray[np.float32]  # SPAN
    # Of a group: rows of its negatives as they are, and were; Adagrad's accumulators at the end.
    local: npt.NDArray[np.float32] | None  # (SPAN, at least dim, + 1 with accumulators)
    before: npt.NDArray[np.float32] | None


class Group(NamedTuple):
    """Pairs that share their negatives."""

    block: Block
    start: int  # their range in the block
    stop: int
    slot: np.uint64  # of what they share
    negatives: npt.NDArray[np.int32]  # num_target: rows, from number 1 on
    # Pairs to return the loss of: this one, and those before and after it at multiples of stride.
    sample: int
    stride: int  # a power of 2


class Origin(NamedTuple):
    """Where pairs come from: their draws, what they reject, and what their means are of."""

    key: Stream
    pairs: Pairs
    bags: Bags | None


@inlined
def plain_model(syn_left, syn_right):
    """Return a model without any option."""
    left = Rows(syn_left, None, None, None, None, None)
    return Model(left, Rows(syn_right, None, None, None, None, None), None, NO_SETTINGS)


# --- one row


@inlined_exact
def is_left_out(word, rate, cap):
    """Say whether an update is left out: with probability 1 - cap / rate, if it has such a cap.

    Both sides are one product, which is rounded alike on all devices.
    """
    size = abs(rate)
    return size > cap and np.float32(word) * size >= cap * WORDS


@inlined
def thinned(rate, caps, row, thinning, kind, draw):
    """Factor of a row's update: 0 if it is left out, by a draw of a pair or of a group, else 1."""
    if caps is None:
        return ONE
    key, slot = thinning
    block = u64(draw >> 2)
    words = slot_block(key.seed, key.stream, key.epoch, kind + slot, block)
    return ZERO if is_left_out(words[draw & 3], rate, caps[row]) else ONE


@inlined
def adaptive_rate(rate, total):
    """Learning rate of a row by Adagrad, whose accumulator holds the total.

    0 where no gradient has been more than 0 yet: the row has learned nothing for l2 to hold back.
    """
    return ZERO if total == ZERO else rate / np.sqrt(total + EPSILON)


@inlined
def step_factor(rate, caps, state, row, squares, thinning, kind, draw):
    """Factor between a row's scaled gradient and its update.

    Without Adagrad the scale holds the learning rate already; with it, the mean
    square of the gradient is added to the row's accumulator.
    """
    if state is None:
        return thinned(rate, caps, row, thinning, kind, draw)
    state[row] += squares
    return adaptive_rate(rate, state[row])


@inlined_fast
def step_bound(max_step, steepest, row, dim, targets, first, stop):
    """Highest factor, as of `step_factor`, of the right rows first ... stop - 1 of some targets.

    None where steps have no bound; steepest is what the gradients of the targets are multiplied by.
    """
    if max_step is None:
        return None
    if max_step == ZERO:
        return UNBOUNDED
    square = ZERO
    for d in range(dim):
        square += row[d] * row[d]
    hits = np.float32(most_hits(targets, first, stop))
    return max_step / (steepest * hits * square + EPSILON)


@inlined
def most_hits(targets, first, stop):
    """Count how often the most frequent one of some targets is among them."""
    most = 1
    for n in range(first, stop):
        hits = 1
        for other in range(first, n):
            hits += targets[other] == targets[n]
        most = max(most, hits)
    return most


@inlined
def bounded(factor, bound):
    """Bring a factor between its negative and positive bound, if there is one."""
    if bound is None:
        return factor
    return min(max(factor, -bound), bound)


@inlined
def decay_of(scale, l2):
    """Return what l2 takes away from a row, before it is multiplied by the row's factor."""
    if l2 is None:
        return ZERO
    return abs(scale) * l2


@inlined
def shrinkage(factor, decay):
    """Share of a row that its decay takes away, where its gradient is multiplied by factor.

    Never all of it: by Adagrad the factor of a row whose gradients were small so far is huge.
    """
    size = abs(factor) * decay
    return size / (ONE + size)


@inlined_fast
def mean_square(state, row, dim):
    """Mean of the squares of a row, if there are accumulators that it is for."""
    total = ZERO
    if state is not None:
        for d in range(dim):
            total += row[d] * row[d]
    return total / np.float32(dim)


@inlined_fast
def add_to_row(table, target, change, step, decay, dim, l2):
    """Add step * change to a row, and take decay times itself away where there is l2."""
    if l2 is None:
        for d in range(dim):
            table[target, d] += step * change[d]
    else:
        for d in range(dim):
            table[target, d] += step * change[d] - decay * table[target, d]


# --- the left side of a pair


@inlined_fast
def read_left(model, left, bag, dim, row, delta):
    """Read the left row of a pair, or the mean of a bag; set delta to zero."""
    if bag is None:
        for d in range(dim):
            row[d] = model.left.syn[left, d]
            delta[d] = ZERO
    else:
        items, shares, count, number, own_share = bag
        syn_left = model.left.syn
        read_own(model.own, number, own_share, dim, row)
        for d in range(dim):
            delta[d] = ZERO
        for i in range(count):
            item, share = items[i], shares[i]
            for d in range(dim):
                row[d] += share * syn_left[item, d]


@inlined_fast
def read_own(table, number, share, dim, row):
    """Read an itemset's own row, times its share in a mean, or zeros where it has none."""
    if table is None:
        for d in range(dim):
            row[d] = ZERO
    else:
        syn = table.syn
        for d in range(dim):
            row[d] = share * syn[number, d]


@inlined
def trains_left(flags):
    """Whether anything on the left side is trained: itemsets' own rows always are."""
    return flags & FREEZE_LEFT == 0 or flags & OWN_ROW != 0


@inlined_fast
def move_left(constants, model, left, bag, scratch, rate, decay, thinning):
    """Add delta to all that is trained of the left side."""
    _, dim, _, _, flags = constants
    if not flags & FREEZE_LEFT:
        add_to_left(model.left, left, bag, scratch, dim, rate, decay, model.settings.l2, thinning)
    if bag is not None:
        _, _, _, number, share = bag
        own, delta = model.own, scratch.delta
        add_to_own(own, number, share, delta, dim, rate, decay, model.settings.l2, thinning)


@inlined_fast
def add_to_own(table, number, share, delta, dim, rate, decay, l2, thinning):
    """Add its share of delta to an itemset's own row, where it has one."""
    if table is not None:
        squares = mean_square(table.state, delta, dim) * share * share
        caps, state = table.caps, table.state
        factor = step_factor(rate, caps, state, number, squares, thinning, OF_PAIR, 0)
        add_to_row(table.syn, number, delta, factor * share, shrinkage(factor, decay), dim, l2)


@inlined_fast
def add_to_left(table, left, bag, scratch, dim, rate, decay, l2, thinning):
    """Add delta to the left row, which was read as `row`, or to those of a bag."""
    syn, caps, state, delta = table.syn, table.caps, table.state, scratch.delta
    squares = mean_square(state, delta, dim)
    if bag is not None:
        items, shares, count, _, _ = bag
        for i in range(count):
            item, share = items[i], shares[i]
            square, draw = squares * share * share, (2 + i) & (MAX_DRAW - 1)
            factor = step_factor(rate, caps, state, item, square, thinning, OF_PAIR, draw)
            add_to_row(syn, item, delta, factor * share, shrinkage(factor, decay), dim, l2)
    else:
        factor = step_factor(rate, caps, state, left, squares, thinning, OF_PAIR, 0)
        if l2 is None:
            add_to_row(syn, left, delta, factor, ZERO, dim, l2)
        else:
            # Less its own decay as it was read, as everything in a pair is.
            row, shrink = scratch.row, shrinkage(factor, decay)
            for d in range(dim):
                syn[left, d] += factor * delta[d] - shrink * row[d]


@inlined_fast
def add_gradients(rows, target, gradient, delta, dim):
    """Add a target's row times its gradient to the gradient of the left row."""
    for d in range(dim):
        delta[d] += gradient * rows[target, d]


@inlined_fast
def dot_with(row, rows, target, dim):
    """Dot product of a buffer and a row of a table."""
    dot = ZERO
    for d in range(dim):
        dot += row[d] * rows[target, d]
    return dot


# --- one pair


@inlined_fast
def update_pair(constants, model, left, targets, step, scratch, with_loss, bag=None, thinning=None):
    """Train one pair and its negatives.

    Parameters
    ----------
    constants : tuple
        Fields of `Constants`.
    model : Model
        Tables, updated in place.
    left : int
        Row of the left item.
    targets : int32, num_target
        Rows of the right item, then of the negatives.
    step : Step
        Weights and learning rate.
    scratch : Scratch
        Buffers.
    with_loss : bool
        Whether to compute the loss, which costs k + 1 logarithms.
    bag : tuple, or None
        As of `fill_bag`: the left row is their mean, instead of `left`.
    thinning : Thinning, or None
        Draws for tables that have caps.

    Returns
    -------
    float64
        Loss of the pair before the update, over all its targets; 0 without `with_loss`.
    """
    syn, caps, state = model.right.syn, model.right.caps, model.right.state
    row, delta, logits = scratch.row, scratch.delta, scratch.logits
    _, dim, num_target, _, flags = constants
    l2, max_step = model.settings.l2, model.settings.max_step
    scale, rate = step.scale, step.rate
    steepest = abs(scale) * max(ONE, target_weight(ONE, model.settings))
    loss = 0.0
    decay = decay_of(scale, l2)
    read_left(model, left, bag, dim, row, delta)
    squares = mean_square(state, row, dim)
    for first in range(0, num_target, SPAN):
        count = min(SPAN, num_target - first)
        for n in range(count):
            target = targets[first + n]
            logits[n] = corrected(dot_with(row, syn, target, dim), target, model.corrections)
        loss += fill_gradients(logits, first, count, scale, flags, model.settings, with_loss)
        for n in range(count):
            add_gradients(syn, targets[first + n], logits[n], delta, dim)
        if flags & FREEZE_RIGHT:
            continue
        bound = step_bound(max_step, steepest, row, dim, targets, first, first + count)
        for n in range(count):
            target, gradient = targets[first + n], logits[n]
            square = squares * gradient * gradient
            kind, draw = of_target(first + n)
            factor = step_factor(rate, caps, state, target, square, thinning, kind, draw)
            factor = bounded(factor, bound)
            decayed = shrinkage(factor, decay)
            add_to_row(syn, target, row, factor * gradient, decayed, dim, l2)
    if trains_left(flags):
        move_left(constants, model, left, bag, scratch, rate, decay, thinning)
    return loss


@inlined
def of_target(number):
    """Say which draw is that of a pair's target."""
    return (OF_NEGATIVES, number) if number > 0 else (OF_PAIR, 1)


# --- a group of pairs


@inlined_fast
def read_negatives(syn, state, negatives, first, shared, count, scratch, dim):
    """Read the rows of a group's negatives first + shared ... first + count - 1."""
    local, before = scratch.local, scratch.before
    for n in range(shared, count):
        target = negatives[first + n]
        for d in range(dim):
            before[n, d] = syn[target, d]
            local[n, d] = before[n, d]
        if state is not None:
            before[n, dim] = local[n, dim] = state[target]


@inlined_fast
def add_negatives(syn, caps, state, group, key, first, shared, count, scratch, dim):
    """Add what has changed of these rows since they were read, but for those that are left out."""
    local, before = scratch.local, scratch.before
    thinning = Thinning(key, group.slot)
    rate = group.block.rates[group.start]  # that of all of them: a batch has whole groups
    for n in range(shared, count):
        target = group.negatives[first + n]
        if thinned(rate, caps, target, thinning, OF_NEGATIVES, first + n) == ZERO:
            continue
        for d in range(dim):
            syn[target, d] += local[n, d] - before[n, d]
        if state is not None:
            state[target] += local[n, dim] - before[n, dim]


@inlined_fast
def fill_logits(constants, model, group, i, origin, scratch, first, count):
    """Work out the logits of pair i and a span of targets; return bits of those it rejects."""
    source, dim, _, _, flags = constants
    row, local = scratch.row, scratch.local
    right, shared = group.block.right[i], 1 if first == 0 else 0
    rejected = np.int64(0)
    for n in range(count):
        target = right if n < shared else group.negatives[first + n]
        scratch.logits[n] = corrected(dot_with(row, local, n, dim), target, model.corrections)
        if flags & REJECT_POSITIVE and n >= shared:
            slot = group.block.slots[i]
            if is_rejected(origin.pairs, source, slot, right, target, flags):
                rejected |= 1 << n
    return rejected


@inlined_exact
def add_span(local, count, gradients, delta, dim):
    """Do as `add_gradients` for some rows that lie together, four of them in one go."""
    whole = count & ~3
    for n in range(0, whole, 4):
        a, b, c, e = gradients[n], gradients[n + 1], gradients[n + 2], gradients[n + 3]
        for d in range(dim):
            total = delta[d] + a * local[n, d]
            total += b * local[n + 1, d]
            total += c * local[n + 2, d]
            delta[d] = total + e * local[n + 3, d]
    for n in range(whole, count):
        add_gradients(local, n, gradients[n], delta, dim)


@inlined
def local_factor(rate, state, local, place, squares):
    """Do as `step_factor` for a row of a group's negatives, whose accumulator is at a place."""
    if state is None:
        return ONE
    local[place] += squares
    return adaptive_rate(rate, local[place])


@inlined
def keeps_means(bags, num_target):
    """Whether left sides are means that are kept from the first of several spans to the last."""
    if bags is None:
        return False
    return num_target > SPAN


@inlined
def scratch_of(scratch, bags, keeps, place):
    """Return the buffers of a pair: where means are kept, with its own mean and gradient."""
    if bags is None:
        return scratch
    if not keeps:
        return scratch
    _, _, logits, local, before = scratch
    return Scratch(bags.means[place], bags.gradients[place], logits, local, before)


@inlined_fast
def update_group(constants, model, group, origin, scratch):
    """Train the pairs of a group, which share their negatives.

    Parameters
    ----------
    constants : tuple
        Fields of `Constants`.
    model : Model
        Tables, updated in place. With REJECT_POSITIVE, a negative is left out of the
        pairs that reject it.
    group : Group
        The pairs.
    origin : Origin
        Where they come from.
    scratch : Scratch
        Buffers.

    Returns
    -------
    float64
        Loss of the sampled pairs, each span of its targets before its own update.
    """
    _, dim, num_target, _, flags = constants
    block, _, _, slot, negatives, sample, stride = group
    keeps = keeps_means(origin.bags, num_target)
    size = MEANS if keeps else group.stop - group.start
    loss = 0.0
    for start in range(group.start, group.stop, size):
        some = Group(block, start, min(start + size, group.stop), slot, negatives, sample, stride)
        if keeps:
            read_means(model, some, origin, scratch, dim)
        for first in range(0, num_target, SPAN):
            loss += update_span(constants, model, some, origin, scratch, keeps, first)
        if keeps and trains_left(flags):
            add_to_means(constants, model, some, origin, scratch)
    return loss


@inlined_fast
def read_means(model, group, origin, scratch, dim):
    """Read the means of the pairs of a group that are kept at once."""
    for i in range(group.start, group.stop):
        if group.block.left[i] != DROPPED:
            row, delta, _, _, _ = scratch_of(scratch, origin.bags, True, i - group.start)
            read_left(model, 0, fill_bag(origin.bags, i), dim, row, delta)


@inlined_fast
def add_to_means(constants, model, group, origin, scratch):
    """Add the gradients of these means to their rows, pair after pair."""
    block, l2 = group.block, model.settings.l2
    for i in range(group.start, group.stop):
        if block.left[i] != DROPPED:
            own = scratch_of(scratch, origin.bags, True, i - group.start)
            bag, decay = fill_bag(origin.bags, i), decay_of(block.scale[i], l2)
            thinning = Thinning(origin.key, block.slots[i])
            move_left(constants, model, 0, bag, own, block.rates[i], decay, thinning)


@inlined_fast
def update_span(constants, model, group, origin, scratch, keeps, first):
    """Train the pairs of a group and a span of their targets; return their loss."""
    _, dim, num_target, _, flags = constants
    syn, caps, state = model.right.syn, model.right.caps, model.right.state
    block, negatives, l2 = group.block, group.negatives, model.settings.l2
    count, shared = min(SPAN, num_target - first), 1 if first == 0 else 0
    read_negatives(syn, state, negatives, first, shared, count, scratch, dim)
    loss = 0.0
    for i in range(group.start, group.stop):
        left = block.left[i]
        if left == DROPPED:
            continue
        own = scratch_of(scratch, origin.bags, keeps, i - group.start)
        if keeps:
            loss += update_in_group(constants, model, group, i, origin, own, first, count)
            continue
        bag = fill_bag(origin.bags, i)
        read_left(model, left, bag, dim, own.row, own.delta)
        loss += update_in_group(constants, model, group, i, origin, own, first, count)
        if trains_left(flags):
            # The decay of a row is that of a pair, not of each of its spans.
            decay = decay_of(block.scale[i], l2) if first == 0 else ZERO
            thinning = Thinning(origin.key, block.slots[i])
            move_left(constants, model, left, bag, own, block.rates[i], decay, thinning)
    if not flags & FREEZE_RIGHT:
        add_negatives(syn, caps, state, group, origin.key, first, shared, count, scratch, dim)
    return loss


@inlined_fast
def update_in_group(constants, model, group, i, origin, scratch, first, count):
    """Train a span of the targets of pair i, and return their loss.

    Its left side is read before, and receives the gradient that this adds to after.
    """
    syn, caps, state = model.right.syn, model.right.caps, model.right.state
    _, dim, _, _, flags = constants
    l2 = model.settings.l2
    row, delta, logits, local = scratch.row, scratch.delta, scratch.logits, scratch.local
    # Read before the loops: the compiler cannot know that they do not change it.
    block = group.block
    right_row, scale = block.right[i], block.scale[i]
    rate = block.rates[i]
    shared = 1 if first == 0 else 0
    decay = decay_of(scale, l2)
    squares = mean_square(state, row, dim)
    if first == 0:
        for d in range(dim):
            local[0, d] = syn[right_row, d]
    rejected = fill_logits(constants, model, group, i, origin, scratch, first, count)
    sampled = (i - group.sample) & (group.stride - 1) == 0
    loss = fill_gradients(logits, first, count, scale, flags, model.settings, sampled, rejected)
    add_span(local, count, logits, delta, dim)
    if not flags & FREEZE_RIGHT:
        start, stop = first + shared, first + count
        steepest = abs(scale) * max(ONE, target_weight(ONE, model.settings))
        max_step = model.settings.max_step
        bound = step_bound(max_step, steepest, row, dim, group.negatives, start, stop)
        for n in range(shared, count):
            if rejected >> n & 1:
                continue
            gradient = logits[n]
            square = squares * gradient * gradient
            factor = local_factor(rate, state, local, (n, dim), square)
            factor = bounded(factor, bound)
            decayed = shrinkage(factor, decay)
            add_to_row(local, n, row, factor * gradient, decayed, dim, l2)
        if first == 0:
            gradient = logits[0]
            square = squares * gradient * gradient
            thinning = Thinning(origin.key, block.slots[i])
            factor = step_factor(rate, caps, state, right_row, square, thinning, OF_PAIR, 1)
            factor = bounded(factor, bound)
            decayed = shrinkage(factor, decay)
            add_to_row(syn, right_row, row, factor * gradient, decayed, dim, l2)
    return loss

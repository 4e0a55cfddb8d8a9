"""The training step as plain functions, with the arguments of itembed's.

Each can be called from Python, and from a function that the caller compiles with
Numba; each is compiled at its first call. From Python the arguments are checked;
inside compiled code they are not, as in itembed.

Without `seed` and `counter`, draws come from Numba's own generator, one a thread,
in the order that itembed makes them; ``random.seed`` inside a compiled function
repeats them. With both, they are those of the random stream that tasks use (`rng`,
stream 0, epoch 0), the first pair being slot `counter`, the next one `counter + 1`
and so on: the function then changes nothing but the tables and the buffer.

`do_unsupervised_batch` and `do_supervised_batch` take CuPy tables as well, and train
them where they lie; the other arrays may then be of either kind, and draws that have
no `seed` get one from NumPy's global generator. They are for moving a script over:
each call sets up anew what a task sets up once.
"""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.extending import overload

from .. import checks
from ..backends.cpu.losses import sigmoid
from ..backends.cpu.pairs import ONE, draw_neighbour
from ..backends.cpu.sgns import Scratch, Step, plain_model, update_pair
from ..backends.cuda.tables import gather
from ..backends.devices import select_backend
from ..backends.protocol import Problem
from ..compiling import FAST_MATH
from ..errors import InputError
from ..objective.constants import MAX_DRAW, SPAN
from ..objective.options import resolve_seed
from ..objective.pairs import NEIGHBOUR, PRODUCT, Pairs
from ..objective.rng import below, fill_draws, u64
from ..objective.schedule import count_slots, guide_shift, slot_guide
from ..objective.table import Table, pair_up
from ..sets import as_offsets

F = TypeVar("F", bound=Callable[..., Any])
Values = Mapping[str, Any]
"""The arguments of a function, by name."""
GatheredSide = tuple[npt.NDArray[Any], checks.Int64Array, checks.Float32Array]

f32 = np.float32
FIRST = u64(0)


def _compiled(
    check: Callable[..., Any] | None = None, sides: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Make a compilable function callable from Python, after `check`, and from Numba.

    The names of its arrays begin with that of their side. Batches train CuPy tables where
    they lie.
    """

    def decorate(function: F) -> F:
        dispatcher = njit(nogil=True, fastmath=FAST_MATH, error_model="numpy")(function)
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = bound.arguments
            if check is _gather_batch and any(map(checks.on_device, _tables(values).values())):
                return _train_on_device(values, sides)
            if check is not None:
                _check_common(values)
                check(values, sides)
            return dispatcher(*bound.args)

        # Not strict: the typing function stands for every signature at once.
        @overload(checked, strict=False, jit_options={"fastmath": FAST_MATH})
        def typing(*args: Any, **kwargs: Any) -> F:
            return function

        checked.py_func = function  # type: ignore[attr-defined]  # as on Numba's own
        return checked  # type: ignore[return-value]

    return decorate


def _tables(values: Values) -> dict[str, Any]:
    """Of the arguments of a function, its tables, without the buffer."""
    return {name: value for name, value in values.items() if "syn" in name and name != "tmp_syn"}


def _check_common(values: Values) -> None:
    """Check what all have: two tables, a buffer, and numbers."""
    dim, tmp_syn = checks.tables(**_tables(values)), values["tmp_syn"]
    if (
        not isinstance(tmp_syn, np.ndarray)
        or tmp_syn.dtype != np.float32
        or tmp_syn.shape != (dim,)
    ):
        raise InputError(f"tmp_syn must be a float32 array of the dimension, {dim}")
    if not tmp_syn.flags.writeable:
        raise InputError("tmp_syn is read-only; pass a buffer to write to")
    _check_numbers(values)


def _check_numbers(values: Values) -> None:
    num_negative, seed, counter = (values[name] for name in ("num_negative", "seed", "counter"))
    checks.integer("num_negative", num_negative)
    checks.number("learning_rate", values["learning_rate"])
    if (seed is None) != (counter is None):
        raise InputError("seed and counter go together: give both, or neither")
    if seed is not None:
        resolve_seed(seed)
        if checks.integer("counter", counter) >= 1 << 64:
            raise InputError(f"counter is {counter}; pass less than 2**64")
        if num_negative >= MAX_DRAW:
            raise InputError(f"num_negative is {num_negative}; pass less than {MAX_DRAW}")


def _check_step(values: Values, sides: tuple[str, ...]) -> None:
    for name, table in zip(("left", "right"), _tables(values).values(), strict=True):
        if checks.integer(name, values[name]) >= len(table):
            raise InputError(
                f"{name} must be in 0 ... {len(table) - 1}, a row of its table, not {values[name]}"
            )


def _limits(values: Values, sides: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """For each side, the rows that there are for its items, and the fewest of an itemset."""
    left, right = map(len, _tables(values).values())
    if len(sides) == 1:  # its items have a row in both
        return [(sides[0], min(left, right), 2)]
    return [(sides[0], left, 0), (sides[1], right, 0)]


def _check_steps(values: Values, sides: tuple[str, ...]) -> None:
    for side, num_label, min_length in _limits(values, sides):
        name, weights_name = side + "itemset", side + "weights"
        _check_items(name, values[name], weights_name, values[weights_name], num_label)
        length = len(values[name])
        if length < min_length:
            raise InputError(f"{name} must have at least {min_length} items, not {length}")


def _check_integers(name: str, value: Any) -> None:
    if not isinstance(value, np.ndarray):
        raise InputError(f"{name} is a {type(value).__name__}; pass a NumPy array of integers")
    checks.vector(name, value, "iu", "integers")


def _check_items(name: str, items: Any, weights_name: str, weights: Any, num_label: int) -> None:
    _check_integers(name, items)
    if not isinstance(weights, np.ndarray) or weights.dtype != np.float32:
        raise InputError(f"{weights_name} must be a float32 array, one weight an item")
    if weights.shape != items.shape:
        raise InputError(f"{name} has {len(items)} items, but {len(weights)} weights")
    if len(items) and not 0 <= items.min() <= items.max() < num_label:
        raise InputError(
            f"{name} has items {items.min()} ... {items.max()}, but its table has {num_label} rows"
        )


def _gather_batch(values: Values, sides: tuple[str, ...]) -> list[GatheredSide]:
    """Bring the itemsets of a batch to the host, and check them, and only those."""
    gathered = [_gather_side(values, *limits) for limits in _limits(values, sides)]
    lengths = [len(values[side + "indices"]) for side in sides]
    if lengths[0] != lengths[-1]:
        raise InputError(
            f"left_indices and right_indices must be as long: {lengths[0]} and {lengths[1]}"
        )
    return gathered


def _gather_side(values: Values, side: str, num_label: int, min_length: int) -> GatheredSide:
    """Return the items of some itemsets, one after the other, their bounds, and their weights."""
    items, weights = values[side + "items"], values[side + "weights"]
    offsets, indices = (checks.on_host(values[side + name]) for name in ("offsets", "indices"))
    if not checks.on_device(items):
        _check_integers(side + "items", items)
    _check_integers(side + "offsets", offsets)
    _check_integers(side + "indices", indices)
    if not hasattr(weights, "dtype") or len(weights) != len(items):
        raise InputError(f"{side}weights must be a float32 array, one weight an item")
    touched, bounds = _touched(side, len(items), offsets, indices, min_length)
    chosen, factors = gather(items, touched), gather(weights, touched)
    _check_items(side + "items", chosen, side + "weights", factors, num_label)
    return chosen, bounds, factors


def _touched(
    side: str, num_item: int, offsets: Any, indices: Any, min_length: int
) -> tuple[checks.Int64Array, checks.Int64Array]:
    """Positions of the items of some itemsets, and the bounds of each among them."""
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(offsets) - 1:
        raise InputError(
            f"{side}indices must be in 0 ... {len(offsets) - 2}, the last itemset: "
            f"found {indices.min()} ... {indices.max()}"
        )
    starts, stops = (offsets[indices + n].astype(np.int64) for n in (0, 1))
    if len(indices) and (starts.min() < 0 or stops.max() > num_item):
        raise InputError(f"{side}offsets must be in 0 ... {num_item}, the number of items")
    lengths = stops - starts
    if len(indices) and lengths.min() < min_length:
        raise InputError(f"{side}offsets: every itemset must have at least {min_length} items")
    bounds = as_offsets(lengths)
    # Positions of their items alone: a shuffled batch spans nearly all of the array.
    return np.repeat(starts - bounds[:-1], lengths) + np.arange(bounds[-1]), bounds


def _train_on_device(values: Values, sides: tuple[str, ...]) -> None:
    """Train a batch where its CuPy tables lie."""
    tables, seed = _tables(values), values["seed"]
    checks.tables(**tables)
    _check_numbers(values)
    backend = select_backend(None, tables=tables)
    gathered = [
        (np.ascontiguousarray(items, dtype=np.int32), bounds, weights)
        for items, bounds, weights in _gather_batch(values, sides)
    ]
    neighbour = len(sides) == 1
    left, right = gathered[0], gathered[-1]
    slot_offsets = left[1] if neighbour else count_slots(left[1], right[1])
    if slot_offsets[-1] == 0:
        return
    shift = 0 if neighbour else guide_shift(slot_offsets)
    pairs = Pairs(
        *left, *right, slot_offsets=slot_offsets, guide=slot_guide(slot_offsets, shift), shift=shift
    )
    problem = Problem(
        pairs=pairs,
        source=NEIGHBOUR if neighbour else PRODUCT,
        tables=pair_up(*(Table(name, table) for name, table in tables.items())),
        num_negative=values["num_negative"],
        num_batch=1,
        seed=int(np.random.randint(2**31)) if seed is None else seed,  # noqa: NPY002
    )
    bound: Any = backend.bind(problem)
    bound.run_in_order(values["counter"] or 0, float(values["learning_rate"]))
    bound.synchronize()


# --- sigmoid and one step ---------------------------------------------------


@njit
def _buffers(dim, num_negative):
    """Allocate what `update_pair` and the draws need beside `tmp_syn`."""
    row = np.empty(dim, dtype=np.float32)
    logits = np.zeros(SPAN, dtype=np.float32)
    targets = np.empty(num_negative + 1, dtype=np.int32)
    draws = np.empty((num_negative // 4 * 4 + 4, 1), dtype=np.uint32)
    slots = np.empty(1, dtype=np.uint64)
    return row, logits, targets, draws, slots


@njit
def _constants(syn_right, targets):
    """Return what `update_pair` knows when it is compiled elsewhere."""
    return PRODUCT, syn_right.shape[1], targets.shape[0], 1, 0


@njit
def _fill_draws(seed, counter, draws, slots):
    if seed is not None:
        slots[0] = counter
        fill_draws(u64(seed), FIRST, FIRST, slots, 1, draws)


@njit
def _fill_targets(seed, draws, right, num_right, targets):
    targets[0] = right
    for n in range(1, targets.shape[0]):
        if seed is None:
            targets[n] = random.randint(0, num_right - 1)
        else:
            targets[n] = below(u64(draws[n, 0]), u64(num_right))


@njit
def _neighbour(seed, draws, i, length):
    if seed is None:
        j = random.randint(0, length - 2)
        if j >= i:
            j += 1
    else:
        j = draw_neighbour(i, 0, length, u64(draws[0, 0]))
    return j


@njit
def _slot(counter, num_slot):
    """Return the slot so many after the first one; of no use, but a number, without a counter."""
    if counter is None:
        return FIRST
    return u64(counter) + u64(num_slot)


@_compiled()
def expit(x):
    """Logistic function, 1 / (1 + exp(-x)).

    Parameters
    ----------
    x : float32
        Where to evaluate it.

    Returns
    -------
    float32
        Value: to 5e-7 of it for abs(x) <= 6, to 4e-6 for abs(x) <= 80.
    """
    return sigmoid(f32(x))


@_compiled(_check_step)
def do_step(
    left, right, syn_left, syn_right, tmp_syn, num_negative, learning_rate, seed=None, counter=None
):
    """Train one pair and its negatives (see `backends.cpu.sgns` for the formula).

    Parameters
    ----------
    left, right : int
        Items: rows of the left and of the right table.
    syn_left, syn_right : float32, (num_left, num_dimension) and (num_right, num_dimension)
        Tables, updated in place; C-contiguous.
    tmp_syn : float32, num_dimension
        Buffer.
    num_negative : int
        Number of negatives, drawn uniformly from the rows of `syn_right`.
    learning_rate : float
        Learning rate, times the weights of the items.
    seed, counter : int, optional
        Where the draws are in the random stream; by default they come from
        Numba's generator.

    Raises
    ------
    InputError
        When called from Python: an argument cannot be used.
    """
    row, logits, targets, draws, slots = _buffers(syn_right.shape[1], num_negative)
    _fill_draws(seed, counter, draws, slots)
    _fill_targets(seed, draws, right, syn_right.shape[0], targets)
    model = plain_model(syn_left, syn_right)
    constants = _constants(syn_right, targets)
    step = Step(f32(learning_rate), ONE)
    update_pair(
        constants, model, left, targets, step, Scratch(row, tmp_syn, logits, None, None), False
    )


# --- one itemset ------------------------------------------------------------


@_compiled(_check_steps, ("",))
def do_unsupervised_steps(
    itemset, weights, syn0, syn1, tmp_syn, num_negative, learning_rate, seed=None, counter=None
):
    """Train one itemset: each item with one random other item.

    One neighbour an item, and not all of them, keeps the cost linear in the
    length of the itemset, and large itemsets from outweighing small ones.

    Parameters
    ----------
    itemset : int32, length
        Items, at least 2.
    weights : float32, length
        Weight of each item; a pair has the product of both.
    syn0, syn1 : float32, (num_label, num_dimension)
        Tables of the items and of their neighbours, updated in place.
    tmp_syn, num_negative, learning_rate, seed, counter : those of `do_step`
        Item i is slot ``counter + i``.

    Raises
    ------
    InputError
        When called from Python: an argument cannot be used.
    """
    row, logits, targets, draws, slots = _buffers(syn1.shape[1], num_negative)
    model = plain_model(syn0, syn1)
    constants = _constants(syn1, targets)
    scratch = Scratch(row, tmp_syn, logits, None, None)
    length = itemset.shape[0]
    for i in range(length):
        _fill_draws(seed, _slot(counter, i), draws, slots)
        j = _neighbour(seed, draws, i, length)
        _fill_targets(seed, draws, itemset[j], syn1.shape[0], targets)
        step = Step(f32(learning_rate) * weights[i] * weights[j], ONE)
        update_pair(constants, model, itemset[i], targets, step, scratch, False)


@_compiled(_check_steps, ("left_", "right_"))
def do_supervised_steps(
    left_itemset,
    right_itemset,
    left_weights,
    right_weights,
    left_syn,
    right_syn,
    tmp_syn,
    num_negative,
    learning_rate,
    seed=None,
    counter=None,
):
    """Train every left x right pair of two itemsets.

    Parameters
    ----------
    left_itemset, right_itemset : int32, left_length and right_length
        Feature items and label items.
    left_weights, right_weights : float32, left_length and right_length
        Weight of each item; a pair has the product of both.
    left_syn, right_syn : float32, (num_left_label, num_dimension) and (num_right_label, ...)
        Tables, updated in place.
    tmp_syn, num_negative, learning_rate, seed, counter : those of `do_step`
        The pair of items i and j is slot
        ``counter + i * right_length + j``.

    Raises
    ------
    InputError
        When called from Python: an argument cannot be used.
    """
    row, logits, targets, draws, slots = _buffers(right_syn.shape[1], num_negative)
    model = plain_model(left_syn, right_syn)
    constants = _constants(right_syn, targets)
    scratch = Scratch(row, tmp_syn, logits, None, None)
    for i in range(left_itemset.shape[0]):
        for j in range(right_itemset.shape[0]):
            _fill_draws(seed, _slot(counter, i * right_itemset.shape[0] + j), draws, slots)
            _fill_targets(seed, draws, right_itemset[j], right_syn.shape[0], targets)
            step = Step(f32(learning_rate) * left_weights[i] * right_weights[j], ONE)
            update_pair(constants, model, left_itemset[i], targets, step, scratch, False)


# --- many itemsets ----------------------------------------------------------


@_compiled(_gather_batch, ("",))
def do_unsupervised_batch(
    items,
    weights,
    offsets,
    indices,
    syn0,
    syn1,
    tmp_syn,
    num_negative,
    learning_rate,
    seed=None,
    counter=None,
):
    """Train some itemsets, in the order given (see `do_unsupervised_steps`).

    Parameters
    ----------
    items : int32, num_item
        Itemsets, concatenated.
    weights : float32, num_item
        Weight of each item.
    offsets : int32 or int64, num_itemset + 1
        Boundaries in `items`.
    indices : int32 or int64, num_index
        Itemsets to train.
    syn0, syn1 : float32, (num_label, num_dimension)
        Tables of the items and of their neighbours, updated in place.
    tmp_syn, num_negative, learning_rate, seed, counter : those of `do_step`
        Slots count the items walked, from `counter`.

    Raises
    ------
    InputError
        When called from Python: an argument cannot be used.
    """
    num_slot = 0
    for i in indices:
        start, stop = offsets[i], offsets[i + 1]
        do_unsupervised_steps(
            items[start:stop],
            weights[start:stop],
            syn0,
            syn1,
            tmp_syn,
            num_negative,
            learning_rate,
            seed,
            _slot(counter, num_slot),
        )
        num_slot += stop - start


@_compiled(_gather_batch, ("left_", "right_"))
def do_supervised_batch(
    left_items,
    left_weights,
    left_offsets,
    left_indices,
    right_items,
    right_weights,
    right_offsets,
    right_indices,
    left_syn,
    right_syn,
    tmp_syn,
    num_negative,
    learning_rate,
    seed=None,
    counter=None,
):
    """Train some pairs of itemsets, in the order given (see `do_supervised_steps`).

    Parameters
    ----------
    left_items, right_items : int32, num_left_item and num_right_item
        Itemsets, concatenated.
    left_weights, right_weights : float32, num_left_item and num_right_item
        Weight of each item.
    left_offsets, right_offsets : int32 or int64, num_itemset + 1
        Boundaries in the items.
    left_indices, right_indices : int32 or int64, num_index
        Itemsets to train: the n-th of one with the n-th of the other.
    left_syn, right_syn : float32, (num_left_label, num_dimension) and (num_right_label, ...)
        Tables, updated in place.
    tmp_syn, num_negative, learning_rate, seed, counter : those of `do_step`
        Slots count the pairs walked, from `counter`.

    Raises
    ------
    InputError
        When called from Python: an argument cannot be used.
    """
    num_slot = 0
    for n in range(left_indices.shape[0]):
        i, j = left_indices[n], right_indices[n]
        left = slice(left_offsets[i], left_offsets[i + 1])
        right = slice(right_offsets[j], right_offsets[j + 1])
        do_supervised_steps(
            left_items[left],
            right_items[right],
            left_weights[left],
            right_weights[right],
            left_syn,
            right_syn,
            tmp_syn,
            num_negative,
            learning_rate,
            seed,
            _slot(counter, num_slot),
        )
        num_slot += (left.stop - left.start) * (right.stop - right.start)

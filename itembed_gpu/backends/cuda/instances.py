"""The CUDA sources, and which instance of their templates a task needs.

The files are read and joined here, without a preprocessor's ``#include``: caches of
compiled kernels are keyed by the text that is compiled, and do not look into headers.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import fields
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ...objective import constants
from ...objective.constants import SPAN
from ...objective.options import (
    ADAGRAD,
    BITS,
    FREEZE_LEFT,
    FREEZE_RIGHT,
    GLOVE,
    HINGE,
    MEAN,
    OPTIMIZERS,
    OWN_ROW,
    REJECT_ITEMSET,
    SCALARS,
    SUBSAMPLE,
    Options,
)
from ...objective.pairs import LISTED, NEIGHBOUR, PRODUCT, WINDOW
from ..batches import ITEMSET, NOTHING, OWN
from ..dense import ADAM_DECAYS

# The record of a launch stands before all that reads it, and after its parts.
RECORD_PARTS = ("rng.cuh",)
SOURCES = (
    "losses.cuh", "pairs.cuh", "tile.cuh", "sgns.cuh", "cells.cuh", "blocks.cuh", "listing.cuh",
    "dense.cuh", "tables.cu",
)  # fmt: skip

WARP = 32
THREADS_PER_BLOCK = 128  # as in the kernels' launch bounds
THREADS_PER_PAIR = (1, 2, 4, 8, 16, 32)
# Negatives compiled in, up to those that make one span with the positive.
MAX_CONSTANT_NEGATIVE = SPAN - 1
# Pairs of a launch, at most: kernels count them in 32 bits.
MAX_PAIRS = 1 << 29
# Vector atomics came with compute capability 9.0.
VECTOR_ATOMICS = 90
# The oldest chip that the compilers still know.
MIN_CHIP = 75

UPDATES = ("add_vector", "add", "store")
WIDTHS = (1, 4)
# What the sources of pairs are called in pairs.cuh.
SOURCE_NAMES = {NEIGHBOUR: "Neighbour", PRODUCT: "Product", LISTED: "Listed", WINDOW: "Window"}

# Names of the kernels of tables.cu.
FIND_BEYOND = "itembed::find_beyond"
FILL_UNIFORM = "itembed::fill_uniform"


def of_listing(source: int, options: int, writes: bool) -> str:
    """Return the expression that names an instance of the kernel of listing.cuh."""
    constants = f"{SOURCE_NAMES[source]}, {options}, {str(writes).lower()}"
    return f"itembed::list_pairs<itembed::{constants}>"


# All of these.
LISTING = (
    *(
        of_listing(source, options, writes)
        for source in SOURCE_NAMES
        for options in (0, SUBSAMPLE)
        for writes in (False, True)
    ),
    *(of_listing(LISTED, GLOVE, writes) for writes in (False, True)),
)


def of_dense(kernel: str, *constants: int | str) -> str:
    """Return the expression that names an instance of a kernel of dense.cuh to the compiler."""
    return f"itembed::{kernel}<{', '.join(map(str, constants))}>"


# What numbers of 16 bits are called there.
FLOAT16, BFLOAT16 = "itembed::Float16", "itembed::BFloat16"
# All of these, which are compiled together.
DENSE = (
    *(of_dense(n, width) for n in ("pool", "dots") for width in WIDTHS),
    *(of_dense("narrow", number, width) for number in (FLOAT16, BFLOAT16) for width in WIDTHS),
    *(of_dense("exponentials", "float", "float", width) for width in WIDTHS),
    of_dense("exponentials", FLOAT16, BFLOAT16, 4),
    *(of_dense("weigh", masks) for masks in (NOTHING, OWN, ITEMSET)),
    *(of_dense("update", n, width) for n in range(len(OPTIMIZERS)) for width in WIDTHS),
)

# Fields of a launch's record: name, type in C++, and what it is. Made from it are `WORK`, by
# which the host writes the record, and `struct Work`, as which kernels read it.
WORK_FIELDS = (
    ("order", "Order", "of the epoch's slots"),
    ("stream", "Stream", ""),
    ("left_items", "const int*", ""),
    ("left_offsets", "const i64*", ""),
    ("left_weights", "const float*", "null: all 1"),
    ("right_items", "const int*", ""),
    ("right_offsets", "const i64*", ""),
    ("right_weights", "const float*", ""),
    ("slot_offsets", "const i64*", "first slot of each itemset"),
    ("guide", "const void*", "itemset of slot b << guide_shift, int or i64"),
    ("rates", "const float*", "learning rate of batches first_batch, first_batch + 1, ..."),
    ("left_caps", "const float*", "rate above which a row's updates are thinned; null: none"),
    ("right_caps", "const float*", ""),
    ("own_caps", "const float*", ""),
    ("left_capped", "const u32*", "a bit a row: whether its cap matters"),
    ("right_capped", "const u32*", ""),
    ("own_capped", "const u32*", ""),
    ("thresholds", "const u32*", "alias table of the noise"),
    ("aliases", "const int*", ""),
    ("corrections", "const float*", "log(k Q(row))"),
    ("left_keep", "const u32*", "words under this keep an item"),
    ("right_keep", "const u32*", ""),
    ("left_state", "float*", "accumulators of Adagrad: one a row, of cells one a number"),
    ("right_state", "float*", ""),
    ("own_state", "float*", ""),
    ("left_bias", "float*", "of cells alone"),
    ("right_bias", "float*", ""),
    ("left_bias_state", "float*", ""),
    ("right_bias_state", "float*", ""),
    ("left_syn", "float*", ""),
    ("right_syn", "float*", ""),
    ("own_syn", "float*", "row of each itemset, which is in its means"),
    ("tally", "double*", "receives sums over pairs: losses of those sampled, left out, both"),
    ("left_stride", "i64", "floats from one row to the next"),
    ("right_stride", "i64", ""),
    ("own_stride", "i64", ""),
    ("first_itemset", "i64", "number of itemset 0 among the itemsets' own rows"),
    ("window", "u64", "greatest distance of the items of a pair"),
    ("left_state_stride", "i64", "the same of accumulators of each number"),
    ("right_state_stride", "i64", ""),
    ("first_slot", "u64", "number of slot 0 in the random stream"),
    ("start", "i64", "first position of the order, a multiple of the group"),
    ("num_batch", "i64", "batches of an epoch"),
    ("first_batch", "i64", ""),
    ("num_group", "i64", "groups of an epoch"),
    ("num_right", "u32", "rows that negatives are drawn from"),
    ("dim", "int", ""),
    ("num_negative", "int", ""),
    ("group_bits", "int", "a group is 1 << group_bits pairs that share their negatives"),
    ("guide_shift", "int", ""),
    ("wide_guide", "int", "whether the guide is of i64"),
    ("num_pair", "int", "positions from start on"),
    ("loss_mask", "u32", "positions with none of these bits are sampled for the loss"),
    ("num_tile", "int", "tiles at work, of those that were launched"),
    ("take", "int", "consecutive positions a tile takes at once, up to its threads"),
    *((name, "float", "an option") for name in SCALARS),
)
TYPES: dict[str, Any] = {
    "Order": (np.uint64, 9),
    "Stream": [("seed", np.uint64), ("stream", np.uint32), ("epoch", np.uint32)],
    "i64": np.int64,
    "u64": np.uint64,
    "u32": np.uint32,
    "int": np.int32,
    "float": np.float32,
}
WORK = np.dtype(
    [(name, TYPES.get(kind, np.uintp)) for name, kind, _ in WORK_FIELDS],  # others are addresses
    align=True,
)
# Those of listing.cuh.
VISITS = np.dtype(
    [("left_ranks", np.uintp), ("right_ranks", np.uintp)]
    + [("num_part", np.uint32), ("num_sweep", np.uint32)],
    align=True,
)
LISTS_FIELDS = ("left", "right", "left_weights", "right_weights")
LISTS = np.dtype([(name, np.uintp) for name in LISTS_FIELDS], align=True)
# What pairs that are listed have one a pair of, in that order: fields of the record of a launch.
LISTED_FIELDS = ("left_items", "right_items", "left_weights", "right_weights")
DEFAULTS_OF_OPTIONS = {known.name: known.default for known in fields(Options)}


def scalars(settings: Any) -> dict[str, float]:
    """Return the numbers of options for a launch's record: where there is none, the default."""
    values: dict[str, float] = settings._asdict()
    return {n: DEFAULTS_OF_OPTIONS[n] if v is None else v for n, v in values.items()}


@functools.cache
def source() -> str:
    """Return all the sources as one text; compilers name the right file and line in errors."""
    parts = [_constants(), *map(_read, RECORD_PARTS), _record(), *map(_read, SOURCES)]
    return "\n".join(parts)


def _read(name: str) -> str:
    text = resources.files("itembed_gpu.kernels").joinpath(name).read_text(encoding="utf-8")
    return f'#line 1 "{name}"\n{text}'


def _constants() -> str:
    """Return what the CPU's code and the kernels agree on, as C++."""
    numbers = {n: v for n, v in vars(constants).items() if n.isupper()} | BITS
    numbers |= {name.upper(): place for place, name in enumerate(UPDATES)}
    numbers |= {f"BY_{name.upper()}": place for place, name in enumerate(OPTIMIZERS)}
    numbers |= {"NOTHING": NOTHING, "OWN": OWN, "ITEMSET": ITEMSET}
    adam = "ADAM_DECAY", "ADAM_DECAY_SQUARES", "ADAM_EPSILON"
    numbers |= dict(zip(adam, ADAM_DECAYS, strict=True))
    lines = [f"constexpr {_literal(value, name)};" for name, value in numbers.items()]
    return _in_namespace(
        [
            "using u32 = unsigned int;",
            "using u64 = unsigned long long;",
            "using i64 = long long;",
            *lines,
        ]
    )


def _literal(value: int | float, name: str) -> str:
    """Define a number in C++, of the type that it needs."""
    if not isinstance(value, int):
        return f"float {name} = {value}f"
    if value < 1 << 31:
        return f"int {name} = {value}"
    return f"u32 {name} = {value}u" if value < 1 << 32 else f"u64 {name} = {value}ull"


def _record() -> str:
    """Return the record of a launch, as C++."""
    lines = [f"    {kind} {name};{note and f'  // {note}'}" for name, kind, note in WORK_FIELDS]
    return _in_namespace(["struct Work {", *lines, "};"])


def _in_namespace(lines: list[str]) -> str:
    return "\n".join(["namespace itembed {", *lines, "}"])


class Instance(NamedTuple):
    """An instance of a kernel's template.

    Attributes
    ----------
    source : int
        Kind of the pairs' source, of `objective.pairs`.
    threads : int
        Threads a pair.
    pieces : int
        Pieces of a row that a thread holds.
    width : int
        Floats of a piece: 4 or 1.
    full : bool
        Whether the threads' pieces are exactly a row.
    update : {"add_vector", "add", "store"}
        How rows are updated.
    num_negative : int
        Negatives a pair; -1 where they are not compiled in.
    shared : bool
        Whether groups of pairs share their negatives.
    options : int
        Sum of bits of `options.BITS`.
    """

    source: int
    threads: int
    pieces: int
    width: int
    full: bool
    update: str
    num_negative: int
    shared: bool
    options: int = 0

    @property
    def name(self) -> str:
        """Expression that names the instance to the compiler."""
        values = (
            self.threads,
            self.pieces,
            self.width,
            self.full,
            UPDATES.index(self.update),
            self.num_negative,
            self.shared,
            self.options,
        )
        constants = ", ".join(str(value).lower() for value in values)
        return f"itembed::train_positions<itembed::{SOURCE_NAMES[self.source]}, {constants}>"


# All that go together, but for means and frozen sides; of losses, the one with an array.
EVERY_OPTION = sum(BITS.values()) - MEAN - OWN_ROW - FREEZE_LEFT - FREEZE_RIGHT - HINGE - GLOVE
# Of means with the itemsets' own rows.
DOCUMENT = MEAN + OWN_ROW
# What means nothing without others.
NOT_ALONE = (REJECT_ITEMSET, MEAN, OWN_ROW, GLOVE)
# What cells of counts are trained with.
OF_CELLS = ADAGRAD + GLOVE


def default_threads(dim: int, width: int = 4) -> int:
    """Return the threads a pair for a dimension: two pieces of a row for each, up to a warp.

    A tile is part of a warp, which is as wide on all chips. Measured on an H200 with 128 dimensions
    and as many pairs in flight as it can hold (benchmarks/gpu.md), tiles of 1, 2, 4, 8, 16 and 32
    threads reach .13, .26, .48, .76, .72 and .83 of the copy bandwidth; with as many pairs as the
    cache has room for, which are half as many, 16 threads reach .86.
    """
    pieces = -(-dim // width)
    for threads in THREADS_PER_PAIR:
        if 2 * threads >= pieces:
            return threads
    return THREADS_PER_PAIR[-1]


def choose_instance(
    source: int,
    dim: int,
    num_negative: int,
    *,
    chip: int,
    width: int = 4,
    shared: bool = False,
    options: int = 0,
    lossy: bool = False,
    threads: int | None = None,
) -> Instance:
    """Choose the instance for a task.

    Parameters
    ----------
    source : int
        Kind of the pairs' source.
    dim, num_negative : int
        Dimension, and negatives a pair.
    chip : int
        Compute capability, 90 for 9.0.
    width : int, optional
        4 where rows are aligned and padded to 16 bytes, else 1.
    shared : bool, optional
        Whether groups of pairs share their negatives.
    options : int, optional
        Sum of bits of `options.BITS`.
    lossy : bool, optional
        Whether updates may be lost.
    threads : int, optional
        Threads a pair; by default chosen from the dimension.
    """
    threads = threads or default_threads(dim, width)
    if lossy:
        update = "store"
    elif chip >= VECTOR_ATOMICS and width == 4:
        update = "add_vector"
    else:
        update = "add"
    pieces = -(-dim // (width * threads))
    return Instance(
        source=source,
        threads=threads,
        pieces=pieces,
        width=width,
        full=dim == pieces * width * threads,
        update=update,
        num_negative=num_negative if num_negative <= MAX_CONSTANT_NEGATIVE else -1,
        shared=shared,
        options=options,
    )


def _list_instances() -> list[Instance]:
    """List the defaults, and each option beside them."""
    defaults = [
        choose_instance(NEIGHBOUR, dim, num_negative, chip=VECTOR_ATOMICS)
        for dim, num_negative in itertools.product((32, 64, 128, 256), (5, 20))
    ]
    default = {"source": NEIGHBOUR, "dim": 128, "num_negative": 5, "chip": VECTOR_ATOMICS}
    options: list[dict[str, Any]] = [
        *({"threads": threads} for threads in THREADS_PER_PAIR),
        *({"num_negative": k} for k in range(MAX_CONSTANT_NEGATIVE + 1)),
        *({"dim": dim} for dim in (1, 3, 50, 100, 129, 512, 4096)),
        *({"width": 1, "threads": threads} for threads in (1, 32)),
        *({"shared": True, "num_negative": k} for k in (0, 5, 20)),
        {"shared": True, "dim": 64},
        {"shared": True, "threads": 1, "dim": 12},
        {"lossy": True},
        {"lossy": True, "width": 1},
        {"source": PRODUCT},
        {"source": PRODUCT, "num_negative": 20},
        {"source": PRODUCT, "shared": True},
        *({"options": bit} for bit in BITS.values() if bit not in NOT_ALONE),
        {"options": ADAGRAD, "num_negative": 20, "dim": 64},
        {"options": ADAGRAD, "shared": True},
        {"options": EVERY_OPTION, "num_negative": 20},
        {"options": MEAN + ADAGRAD, "num_negative": 20},
        {"options": EVERY_OPTION, "shared": True, "num_negative": 20},
        *({"source": PRODUCT, "options": MEAN + bit, "num_negative": 20} for bit in (0, ADAGRAD)),
        {"source": PRODUCT, "options": MEAN + EVERY_OPTION, "shared": True},
        {"source": PRODUCT, "options": MEAN + ADAGRAD, "shared": True, "num_negative": 20},
        *({"options": DOCUMENT + bits} for bits in (0, ADAGRAD, EVERY_OPTION)),
        {"options": DOCUMENT + FREEZE_LEFT + FREEZE_RIGHT, "num_negative": 20},
        {"options": DOCUMENT, "shared": True},
        {"options": DOCUMENT + EVERY_OPTION, "shared": True, "num_negative": 20},
        {"source": LISTED},
        {"source": LISTED, "options": EVERY_OPTION, "num_negative": 20},
        {"source": LISTED, "options": ADAGRAD, "shared": True},
        {"source": WINDOW},
        {"source": WINDOW, "options": EVERY_OPTION, "shared": True, "num_negative": 20},
        {"source": WINDOW, "options": MEAN + EVERY_OPTION, "num_negative": 20},
        *(
            {"source": LISTED, "options": OF_CELLS, "num_negative": 0, **other}
            for other in (
                {},
                {"dim": 50},
                {"dim": 100},
                {"dim": 300},
                {"threads": 1},
                {"threads": 32},
                {"width": 1},
                {"lossy": True},
            )
        ),
    ]
    chosen = [choose_instance(**{**default, **option}) for option in options]
    return list(dict.fromkeys(defaults + chosen))


# What the tests compile, for the newest chips; older ones have the same with scalar atomics.
INSTANTIATIONS = _list_instances()
# Those that no option was needed for.
DEFAULTS = [
    choose_instance(source, dim, 5, chip=VECTOR_ATOMICS)
    for source, dim in itertools.product(SOURCE_NAMES, (32, 64, 100, 128, 256, 512))
] + [choose_instance(LISTED, dim, 0, chip=VECTOR_ATOMICS, options=OF_CELLS) for dim in (100, 128)]

"""The CUDA sources, and which instance of their templates a task needs.

The files are read and joined here, without a preprocessor's ``#include``: caches of
compiled kernels are keyed by the text that is compiled, and do not look into headers.
"""

from __future__ import annotations

import functools
import itertools
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ...objective.options import (
    ADAGRAD,
    BITS,
    FREEZE_LEFT,
    FREEZE_RIGHT,
    L2,
    MEAN,
    NCE,
    NOISE,
    REJECT_POSITIVE,
    SUBSAMPLE,
)

SOURCES = ("rng.cuh", "pairs.cuh", "sgns.cuh", "unsupervised.cu", "supervised.cu", "tables.cu")

WARP = 32
THREADS_PER_BLOCK = 128  # as in the kernels' launch bounds
THREADS_PER_PAIR = (1, 2, 4, 8, 16, 32)
# Negatives compiled in, up to those that make one chunk with the positive (steps.CHUNK).
MAX_CONSTANT_NEGATIVE = 7
# Pairs of a launch, at most: kernels count them in 32 bits.
MAX_PAIRS = 1 << 29
# Vector atomics came with compute capability 9.0.
VECTOR_ATOMICS = 90
# The oldest chip that the compilers still know.
MIN_CHIP = 75

UPDATES = ("add_vector", "add", "store")

# Name of the kernel of tables.cu.
FIND_NOT_FINITE = "itembed::find_not_finite"

# A launch, as `struct Work` of pairs.cuh has it.
WORK = np.dtype(
    [
        ("order", np.uint64, 9),
        ("seed", np.uint64),
        ("stream", np.uint32),
        ("epoch", np.uint32),
        ("left_items", np.uintp),
        ("left_offsets", np.uintp),
        ("left_weights", np.uintp),
        ("right_items", np.uintp),
        ("right_offsets", np.uintp),
        ("right_weights", np.uintp),
        ("slot_offsets", np.uintp),
        ("guide", np.uintp),
        ("rates", np.uintp),
        ("left_caps", np.uintp),
        ("right_caps", np.uintp),
        ("left_capped", np.uintp),
        ("right_capped", np.uintp),
        ("thresholds", np.uintp),
        ("aliases", np.uintp),
        ("corrections", np.uintp),
        ("left_keep", np.uintp),
        ("right_keep", np.uintp),
        ("left_state", np.uintp),
        ("right_state", np.uintp),
        ("left_syn", np.uintp),
        ("right_syn", np.uintp),
        ("tally", np.uintp),
        ("left_stride", np.int64),
        ("right_stride", np.int64),
        ("first_slot", np.uint64),
        ("start", np.int64),
        ("num_batch", np.int64),
        ("first_batch", np.int64),
        ("num_group", np.int64),
        ("num_right", np.uint32),
        ("dim", np.int32),
        ("num_negative", np.int32),
        ("group_bits", np.int32),
        ("guide_shift", np.int32),
        ("wide_guide", np.int32),
        ("num_pair", np.int32),
        ("loss_mask", np.uint32),
        ("num_tile", np.int32),
        ("take", np.int32),
        ("l2", np.float32),
    ],
    align=True,
)


@functools.cache
def source() -> str:
    """Return all the sources as one text; compilers name the right file and line in errors."""
    folder = resources.files("itembed_gpu.kernels")
    return _constants() + "\n".join(
        f'#line 1 "{name}"\n{folder.joinpath(name).read_text(encoding="utf-8")}' for name in SOURCES
    )


def _constants() -> str:
    """Return what the CPU's code and the kernels agree on, as C++."""
    bits = "".join(f"constexpr int {name} = {bit};\n" for name, bit in BITS.items())
    return f"namespace itembed {{\n{bits}}}\n"


class Instance(NamedTuple):
    """An instance of a kernel's template.

    Attributes
    ----------
    neighbour : bool
        Whether it is the kernel of an unsupervised task.
    threads : int
        Threads a pair.
    chunks : int
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

    neighbour: bool
    threads: int
    chunks: int
    width: int
    full: bool
    update: str
    num_negative: int
    shared: bool
    options: int = 0

    @property
    def name(self) -> str:
        """Expression that names the instance to the compiler."""
        kernel = "unsupervised" if self.neighbour else "supervised"
        values = (
            self.threads,
            self.chunks,
            self.width,
            self.full,
            UPDATES.index(self.update),
            self.num_negative,
            self.shared,
            self.options,
        )
        return f"itembed::{kernel}<{', '.join(str(value).lower() for value in values)}>"


# All that go together, but for means and frozen sides.
EVERY_OPTION = sum(BITS.values()) - MEAN - FREEZE_LEFT - FREEZE_RIGHT


def default_threads(dim: int, width: int = 4) -> int:
    """Return the threads a pair for a dimension: two pieces of a row for each, up to a warp."""
    pieces = -(-dim // width)
    for threads in THREADS_PER_PAIR:
        if 2 * threads >= pieces:
            return threads
    return THREADS_PER_PAIR[-1]


def choose_instance(
    neighbour: bool,
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
    neighbour : bool
        Whether the task is unsupervised.
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
    chunks = -(-dim // (width * threads))
    return Instance(
        neighbour=neighbour,
        threads=threads,
        chunks=chunks,
        width=width,
        full=dim == chunks * width * threads,
        update=update,
        num_negative=num_negative if num_negative <= MAX_CONSTANT_NEGATIVE else -1,
        shared=shared,
        options=options,
    )


def _list_instances() -> list[Instance]:
    """List the defaults, and each option beside them."""
    defaults = [
        choose_instance(True, dim, num_negative, chip=VECTOR_ATOMICS)
        for dim, num_negative in itertools.product((32, 64, 128, 256), (5, 20))
    ]
    default = {"neighbour": True, "dim": 128, "num_negative": 5, "chip": VECTOR_ATOMICS}
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
        {"neighbour": False},
        {"neighbour": False, "num_negative": 20},
        {"neighbour": False, "shared": True},
        *(
            {"options": bit}
            for bit in (NOISE, NCE, SUBSAMPLE, ADAGRAD, L2, REJECT_POSITIVE, FREEZE_LEFT)
        ),
        {"options": ADAGRAD, "num_negative": 20, "dim": 64},
        {"options": ADAGRAD, "shared": True},
        {"options": EVERY_OPTION, "num_negative": 20},
        {"options": MEAN + ADAGRAD, "num_negative": 20},
        {"options": EVERY_OPTION, "shared": True, "num_negative": 20},
        *({"neighbour": False, "options": MEAN + bit, "num_negative": 20} for bit in (0, ADAGRAD)),
        {"neighbour": False, "options": MEAN + EVERY_OPTION, "shared": True},
    ]
    chosen = [choose_instance(**{**default, **option}) for option in options]
    return list(dict.fromkeys(defaults + chosen))


# What the tests compile, for the newest chips; older ones have the same with scalar atomics.
INSTANTIATIONS = _list_instances()
# Those that no option was needed for.
DEFAULTS = [
    choose_instance(neighbour, dim, 5, chip=VECTOR_ATOMICS)
    for neighbour, dim in itertools.product((True, False), (32, 64, 100, 128, 256, 512))
]

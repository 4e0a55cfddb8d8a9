"""The CPU's kernel in general: what is compiled in elsewhere are arguments here.

A kernel takes ten seconds to compile, for each dimension and each set of options. Tests that
look at something else share this one, which is the same code.
"""

import functools

import numpy as np

import itembed_gpu.backends.cpu.task as cpu
from itembed_gpu.backends.cpu.blocks import train_positions
from itembed_gpu.compiling import FAST_MATH, kept
from itembed_gpu.objective.constants import ALWAYS
from itembed_gpu.objective.options import SCALARS, Options, Settings


@functools.cache
def compile_general(shared):
    sources = cpu._sources()

    def general(constants, max_bag, pairs, tables, objective, epoch, start, stop):
        _ = sources  # a part of the cache's key
        return train_positions(
            constants, shared, max_bag, pairs, tables, objective, epoch, start, stop
        )

    return kept(nogil=True, fastmath=FAST_MATH, error_model="numpy")(general)


def in_general(objective, num_left, num_right):
    """Give values that change nothing to options that are not used, so that types are the same."""
    neutral = {
        "corrections": np.zeros(num_right, np.float32),
        "left_keep": np.full(num_left, ALWAYS, np.uint32),
        "right_keep": np.full(num_right, ALWAYS, np.uint32),
        "thresholds": np.full(num_right, ALWAYS, np.uint32),
        "aliases": np.arange(num_right, dtype=np.int32),
    }
    defaults = (np.float32(getattr(Options, name)) for name in SCALARS)
    settings = (d if s is None else s for s, d in zip(objective.settings, defaults, strict=True))
    objective = objective._replace(settings=Settings(*settings))
    return objective._replace(
        **{name: value for name, value in neutral.items() if getattr(objective, name) is None}
    )


def make_kernel(constants):
    """Stand in for the function of the CPU backend."""
    kernel = compile_general(True if constants.group > 1 else None)

    def general(max_bag, pairs, tables, objective, epoch, start, stop):
        objective = in_general(objective, len(tables.left.syn), len(tables.right.syn))
        return kernel(tuple(constants), max_bag, pairs, tables, objective, epoch, start, stop)

    return general

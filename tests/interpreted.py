"""Compiled code run as the Python that it is written in: slow, but at once."""

import functools
import sys

import numpy as np
from numba.core.dispatcher import Dispatcher

import itembed_gpu.backends.batches as batches
import itembed_gpu.backends.cpu.blocks
import itembed_gpu.backends.cpu.task as cpu
from itembed_gpu.backends.batches import Batches
from itembed_gpu.backends.cpu.task import make_kernel


def _going_round(function):
    """A function whose integers go round, as those of compiled code do."""

    @functools.wraps(function)
    def call(*arguments):
        with np.errstate(all="ignore"):
            return function(*arguments)

    return call


def interpret(monkeypatch):
    """Have the CPU backend interpreted, where what is trained is too little to compile for."""
    parts = ("itembed_gpu.backends.", "itembed_gpu.objective.")
    modules = [module for name, module in sys.modules.items() if name.startswith(parts)]
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, Dispatcher):
                function = value.py_func
                monkeypatch.setattr(
                    module, name, _going_round(function) if module is batches else function
                )
    # A hint to the processor.
    monkeypatch.setattr(itembed_gpu.backends.cpu.blocks, "_prefetch_element", lambda *where: None)
    monkeypatch.setattr(cpu, "kept", lambda **options: lambda function: function)
    monkeypatch.setattr(cpu, "make_kernel", make_kernel.__wrapped__)

    def train_positions(*arguments, train=cpu.train_positions):
        with np.errstate(all="ignore"):  # integers go round
            loss, *counts = train(*arguments)
        return float(loss), *map(int, counts)

    def draw(self, *arguments, draw=Batches.draw):
        with np.errstate(over="ignore"):  # integers go round
            return draw(self, *arguments)

    monkeypatch.setattr(Batches, "draw", draw)
    monkeypatch.setattr(cpu, "train_positions", train_positions)
    monkeypatch.setattr(cpu.CpuTask, "prepare", lambda self: None)

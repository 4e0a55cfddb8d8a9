"""The kernels' own sources, compiled for the CPU through `shim.h` and executed.

Set ``ITEMBED_GPU_SANITIZE=1`` to compile with AddressSanitizer and
UndefinedBehaviorSanitizer; the process must then have been started with
``LD_PRELOAD`` of the former.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from itembed_gpu.backends.cuda import instances

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
# Half the time goes with optimising and with the numbers of lines.
SANITIZE = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def flags():
    return FLAGS + (SANITIZE if os.environ.get("ITEMBED_GPU_SANITIZE") == "1" else [])


def folder():
    path = Path(tempfile.gettempdir()) / f"itembed_gpu-emulator-{os.getuid()}"
    path.mkdir(exist_ok=True)
    return path


def run_compiler(*arguments):
    done = subprocess.run([COMPILER, *flags(), *arguments], capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise RuntimeError(f"g++: {done.stderr}")


@functools.cache
def header():
    """Compile what all programs begin with, which is most of them, or find it compiled."""
    text = f'#include "{HERE / "shim.h"}"\n{instances.source()}\n'
    key = " ".join(flags()) + (HERE / "shim.h").read_text() + text
    place = folder() / f"header-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            source = Path(work) / "header" / "kernels.h"
            source.parent.mkdir()
            source.write_text(text)
            run_compiler("-x", "c++-header", "-o", f"{source}.gch", str(source))
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(source.parent, place)
    return place / "kernels.h"


@functools.cache
def build(code):
    """Compile a program, or find it compiled, and load it."""
    text = f'#include "{header()}"\n{code}\n'
    library = folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            source = Path(work) / "program.cpp"
            source.write_text(text)
            run_compiler("-shared", "-o", f"{work}/program.so", str(source))
            os.replace(f"{work}/program.so", library)
    return ctypes.CDLL(str(library))


KERNELS = {}  # entry points of those that are compiled
ENTRY = """extern "C" void run{n}(bool serial, unsigned grid, unsigned block, void** arguments) {{
    launch({name}, serial, grid, block, arguments);
}}"""


def build_kernels(names):
    """Compile kernels as one program."""
    library = build("\n".join(ENTRY.format(n=n, name=name) for n, name in enumerate(names)))
    KERNELS.update((name, library[f"run{n}"]) for n, name in enumerate(names))


def build_ahead(names, together=12):
    """Compile kernels that will be needed: some at a time take half as long as one by one."""
    names = sorted(set(names))
    parts = [names[first : first + together] for first in range(0, len(names), together)]
    header()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build_kernels, parts))


class EmulatedKernel:
    """A kernel that is called as CuPy's are: with a grid, a block and arguments."""

    def __init__(self, name, serial):
        self.serial = serial
        if name not in KERNELS:
            build_kernels([name])
        self._run = KERNELS[name]

    def __call__(self, grid, block, args):
        # What is no array yet becomes one, of a type as wide as the kernel's.
        values = [np.ascontiguousarray(value) for value in args]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        self._run(
            ctypes.c_bool(self.serial),
            ctypes.c_uint(grid[0]),
            ctypes.c_uint(block[0]),
            pointers,
        )

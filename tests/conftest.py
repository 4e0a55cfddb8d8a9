"""Fixtures, and the settings of the property tests."""

import os
import shutil

import general
import pytest
from hypothesis import settings

from itembed_gpu import Cuda
from itembed_gpu.backends.cpu import task as cpu
from itembed_gpu.backends.cuda import chips, programs, tables, task as cuda
from itembed_gpu.errors import DeviceError

# Compiling happens inside the first example, and machines are noisy.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


REAL_KERNELS = cpu.make_kernel

# These take a minute or so: begun last, they would leave all but one process idle at the end.
LONG = [
    "test_objective.py",
    "test_nvrtc.py",
    "test_kernels.py",
    "test_benchmarks.py",
    "test_cli.py",
    "test_sanitizers.py",
    "test_cuda.py",
]


def pytest_collection_modifyitems(items):
    """Begin with the files that take long."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True, scope="session")
def general_kernels():
    """Have one kernel for all that the CPU trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "make_kernel", general.make_kernel)
        yield


@pytest.fixture(autouse=True)
def compiled_in(request, monkeypatch):
    """Have the real kernels where they are what is tested."""
    if request.node.get_closest_marker("compiled_in"):
        monkeypatch.setattr(cpu, "make_kernel", REAL_KERNELS)


def why_no_gpu():
    """Say why no GPU can be used here; None where one can be."""
    try:
        chips.find_chip(0)
    except DeviceError as error:
        return str(error)
    return None


@pytest.fixture
def emulated(monkeypatch):
    """A device whose kernels run on the CPU: the module that stands for CuPy."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    from emulator.fake_cupy import FakeCupy

    fake = FakeCupy()
    cached = (chips.find_chip, programs._module)
    copy_rows = tables.copy_rows

    def copy_and_tell(to, source, kind):
        fake._may_fail("copy")
        fake.told.append("upload" if kind == "HostToDevice" else "download")
        copy_rows(to, source, kind)

    monkeypatch.setattr(tables, "copy_rows", copy_and_tell)
    monkeypatch.setattr(chips, "cupy", lambda: fake)
    for function in cached:
        function.cache_clear()
    yield fake
    for function in cached:
        function.cache_clear()


@pytest.fixture
def one_tile(emulated, monkeypatch):
    """The same with one pair in flight, so that the order of updates is the oracle's."""
    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 1)
    return emulated


DEVICES = ["cpu", "emulated", "cuda"]


def find_device(request, **how):
    """Return a backend that a fixture is to be, or skip the test where it cannot be had."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
        return Cuda(threads_per_pair=1, **how)
    if request.param == "cuda":
        reason = why_no_gpu()
        if reason and os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(f"REQUIRE_GPU=1, but {reason}")
        if reason:
            pytest.skip(reason)
        return Cuda(**how) if how else "cuda"
    return "cpu"


@pytest.fixture(params=DEVICES)
def device(request):
    """Every backend there is, and CUDA emulated; what cannot be had here is skipped, visibly.

    With REQUIRE_GPU=1 in the environment, a missing GPU is an error.
    """
    return find_device(request)


@pytest.fixture(params=DEVICES)
def in_sequence(request):
    """The same with one pair in flight, where the order of updates is that of one thread."""
    return find_device(request, pairs_in_flight=1)

"""Fixtures, and the settings of the property tests."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import settings

from itembed_gpu import Cuda, cuda
from itembed_gpu.errors import DeviceError

# Compiling happens inside the first example, and machines are noisy.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


# These take minutes each: begun last, they would leave all but one process idle at the end.
LONG = ["test_sanitizers.py", "test_kernels.py", "test_objective.py", "test_nvrtc.py"]


def pytest_collection_modifyitems(items):
    """Begin with the files that take long."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


# Small, and compiled once for all the tests that do not need another one.
DIM = 12
NUM_NEGATIVE = 3


def random_itemsets(num_label=50, num_itemset=200, min_length=2, max_length=9, seed=0):
    """Packed itemsets of random lengths."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(min_length, max_length + 1, num_itemset)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = generator.integers(0, num_label, offsets[-1]).astype(np.int32)
    return items, offsets


def random_tables(num_left=50, num_right=None, dim=DIM, seed=0):
    """Two tables of embeddings."""
    generator = np.random.default_rng(seed)
    return [
        (generator.random((num, dim), dtype=np.float32) - 0.5) / dim
        for num in (num_left, num_right or num_left)
    ]


def planted_itemsets(num_label=200, num_cluster=20, num_itemset=4000, seed=0):
    """Packed itemsets of five items, each set from within one cluster; and the items' clusters."""
    generator = np.random.default_rng(seed)
    clusters = generator.permutation(np.arange(num_label) % num_cluster)
    members = np.argsort(clusters, kind="stable").reshape(num_cluster, -1)
    chosen = generator.integers(0, num_cluster, num_itemset)
    columns = generator.integers(0, members.shape[1], (num_itemset, 5))
    items = members[chosen[:, None], columns].astype(np.int32).ravel()
    offsets = np.arange(0, len(items) + 1, 5, dtype=np.int32)
    return items, offsets, clusters


def why_no_gpu():
    """Say why no GPU can be used here; None where one can be."""
    try:
        cuda.find_chip(0)
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
    cached = (cuda.find_chip, cuda._module)
    copy_rows = cuda._copy_rows

    def copy_and_tell(to, source, kind):
        fake._may_fail("copy")
        fake.log.append("upload" if kind == "HostToDevice" else "download")
        copy_rows(to, source, kind)

    monkeypatch.setattr(cuda, "_copy_rows", copy_and_tell)
    monkeypatch.setattr(cuda, "_cupy", lambda: fake)
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


@pytest.fixture(params=["cpu", "emulated", "cuda"])
def device(request):
    """Every backend there is, and CUDA emulated; what cannot be had here is skipped, visibly.

    With REQUIRE_GPU=1 in the environment, a missing GPU is an error.
    """
    if request.param == "emulated":
        request.getfixturevalue("emulated")
        return Cuda(threads_per_pair=1)
    if request.param == "cuda":
        reason = why_no_gpu()
        if reason and os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(f"REQUIRE_GPU=1, but {reason}")
        if reason:
            pytest.skip(reason)
    return request.param

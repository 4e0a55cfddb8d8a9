"""The kernels' own sources under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = [str(HERE / name) for name in ("test_kernels.py", "test_dense_cuda.py")]
LISTING = HERE.parent / "training" / "test_listed_by_devices.py"
KERNELS.append(f"{LISTING}::test_a_share_of_the_slots")


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
def test_the_same_under_sanitizers():
    runtime = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("g++ has no AddressSanitizer")
    environment = {
        **os.environ,
        "ITEMBED_GPU_SANITIZE": "1",
        "NUMBA_DISABLE_JIT": "1",  # what would be compiled is not what is looked at
        "LD_PRELOAD": runtime,
        # Python and Numba leak on purpose; CPython's own allocator would hide overruns.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *KERNELS],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

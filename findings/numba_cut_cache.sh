#!/bin/sh
# Numba 0.68.1: a cached function whose file was cut short is never compiled again; each call raises.
#
# cache=True compiles again when the source is newer, or when the data file is missing. A data file (.nbc) or an
# index (.nbi) that is shorter than it was, as a full disk or a kill leaves it, is read, fails with
# UnpicklingError at the first call of the function in every process, and stays: the cure is to find the folder
# and to delete the file. The error names neither. One would guess that a cache is a cache.
# Seen: first process 4; data file cut to a quarter: UnpicklingError, and again in the next process; data file
# deleted: 4; the index cut: UnpicklingError.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check numba==0.68.1
venv/bin/python - <<'PYTHON'
import os
import pathlib
import subprocess
import sys

pathlib.Path("job.py").write_text(
    "from numba import njit\n\n\n@njit(cache=True)\ndef add_one(x):\n    return x + 1\n\n\n"
    "try:\n    print(add_one(3))\nexcept Exception as error:\n    print(type(error).__name__)\n"
)
folder = pathlib.Path("cache").absolute()


def run():
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "job.py"], env=environment, capture_output=True, text=True)
    return done.stdout.strip()


def cut(suffix):
    (path,) = folder.rglob(f"*{suffix}")
    os.truncate(path, path.stat().st_size // 4)


seen = [run()]
cut(".nbc")
seen += [run(), run()]
next(folder.rglob("*.nbc")).unlink()
seen.append(run())
cut(".nbi")
seen.append(run())
print("first, data cut, once more, data deleted, index cut:", *seen)
if seen != ["4", "UnpicklingError", "UnpicklingError", "4", "UnpicklingError"]:
    raise SystemExit("changed")
PYTHON

"""Compiled code on disk: found there, written again where it is damaged, and done without."""

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from itembed_gpu import compiling
from itembed_gpu.compiling import kept


def add_one(value):
    return value + 1


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where code is kept in these tests."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "_told", [])
    return tmp_path


def call():
    """Call the function in a new process's manner; return whether its code was found on disk."""
    compiled = kept(nogil=True)(add_one)
    assert compiled(1) == 2
    return bool(compiled.stats.cache_hits)


def files(folder):
    return sorted(path for path in folder.rglob("*add_one*") if path.suffix in (".nbi", ".nbc"))


def test_code_is_found_again():
    assert [call(), call()] == [False, True]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 40, -1])
def test_a_file_that_was_cut_is_written_again(folder, suffix, left, caplog):
    call()
    (path,) = [path for path in files(folder) if path.suffix == suffix]
    data = path.read_bytes()
    path.write_bytes(data[:left])
    assert [call(), call()] == [False, True]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.999])
def test_a_file_with_another_byte_is_written_again(folder, suffix, place):
    call()
    (path,) = [path for path in files(folder) if path.suffix == suffix]
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x10
    path.write_bytes(data)
    assert [call(), call()] == [False, True]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_file_of_something_else_is_written_again(folder, suffix):
    call()
    (path,) = [path for path in files(folder) if path.suffix == suffix]
    path.write_bytes(pickle.dumps(numba.__version__) + pickle.dumps(7))
    assert [call(), call()] == [False, True]


def test_code_is_compiled_also_where_no_folder_can_be_written(monkeypatch, caplog):
    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [])
    assert [call(), call()] == [False, False]
    (message,) = caplog.messages
    assert "no locator available" in message
    assert "set NUMBA_CACHE_DIR to a folder" in message


@pytest.mark.parametrize("written", [0, 1])
def test_a_full_disk_stops_nothing(monkeypatch, caplog, written):
    replace, calls = os.replace, []

    def full(*paths):
        calls.append(paths)
        if len(calls) > written:
            raise OSError(28, "No space left on device")
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert [call(), call()] == [False, False]
    (message,) = caplog.messages
    assert "No space left on device" in message
    assert [call(), call()] == [False, True]


@pytest.mark.parametrize("left", ["numba.core.caching", "dispatcher"])
def test_another_numba_keeps_code_in_its_own_way(monkeypatch, left):
    """As if names of its own were called otherwise: its public cache is taken."""
    if left == "dispatcher":
        monkeypatch.setattr(compiling._Cache, "__init__", lambda self, function: self._renamed)
    else:
        monkeypatch.setattr(compiling, "_Cache", type("_Cache", (object,), {}))
    assert [call(), call()] == [False, True]


def test_the_package_is_imported_without_the_names_of_numbas_cache():
    code = (
        "import numba.core.caching as c; del c.IndexDataCacheFile; from itembed_gpu import "
        "compiling; assert compiling.FunctionCache is object; f = compiling.kept()(lambda x: x + 1)"
        "; assert f(1) == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_other_place_keeps_code():
    package = Path(compiling.__file__).parent
    found = [path.name for path in package.rglob("*.py") if "cache=True" in path.read_text("utf-8")]
    assert found == []

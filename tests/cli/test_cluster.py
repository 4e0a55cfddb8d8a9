"""The command line finds a scheduler, or says why not; nothing is started here."""

import sys
from contextlib import contextmanager

import click
import pytest
from click.testing import CliRunner

from itembed_gpu import DataError, InputError, MissingExtraError
from itembed_gpu.checks import dask_client
from itembed_gpu.cli.cluster import _address, connected
from itembed_gpu.cli.main import main


def test_without_an_option_there_is_no_client():
    with connected(None, None) as client:
        assert client is None
    with pytest.raises(click.UsageError, match="give one"), connected("tcp://a:1", 2):
        pass


def test_an_address_is_given_or_in_a_file(tmp_path):
    assert _address("tcp://node1:8786") == "tcp://node1:8786"
    assert _address("node1:8786") == "node1:8786"
    path = tmp_path / "scheduler.json"
    path.write_text('{"type": "Scheduler", "address": "tls://10.0.0.1:8786"}')
    assert _address(str(path)) == "tls://10.0.0.1:8786"
    path.write_text("{}")
    with pytest.raises(DataError, match="is no file of a scheduler"):
        _address(str(path))
    with pytest.raises(DataError, match="is no address"):
        _address("missing.json")


def test_what_is_no_client_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"client is 'tcp://a:1'; pass a distributed.Client"):
        dask_client("tcp://a:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r'pip install "itembed_gpu\[cluster\]"'):
        dask_client("tcp://a:1")


def test_pack_takes_the_workers_that_it_is_given(tmp_path, monkeypatch):
    asked = []

    @contextmanager
    def record(*arguments):
        asked.append(arguments)
        yield None

    monkeypatch.setattr("itembed_gpu.cli.data.connected", record)
    (tmp_path / "a.txt").write_text("salt bread\nsalt tea\n")
    command = ["pack", str(tmp_path / "a.txt"), "-o", str(tmp_path / "packed")]
    for given, expected in (
        ([], (None, None)),
        (["--workers", "2"], (None, 2)),
        (["--scheduler", "tcp://a:1"], ("tcp://a:1", None)),
    ):
        done = CliRunner().invoke(main, [*command, *given])
        assert done.exit_code == 0, done.output
        assert asked.pop() == expected

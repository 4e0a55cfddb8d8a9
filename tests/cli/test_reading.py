"""Options of the command line that say how a table is written."""

import json

import pytest
from click.testing import CliRunner

from itembed_gpu.cli.main import main


@pytest.fixture
def pack(tmp_path):
    def run(content, *options, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        arguments = ["pack", str(path), "-o", str(tmp_path / "out"), "--min-length", "1", "--json"]
        done = CliRunner().invoke(main, [*arguments, *options])
        return done.exit_code, done.output, done.stderr

    return run


def test_each_reaches_the_reader(pack):
    rows = 'é::5" pipe::x\né::NA::x\n'.encode("latin-1")
    options = ["--separator", "::", "--no-header", "--null", "NA", "--null", "-"]
    code, output, _ = pack(rows, *options, "--encoding", "latin-1", "--item", "2")
    report = json.loads(output)
    assert (code, report["occurrences"], report["dropped"]["none_items"]) == (0, 1, 1)
    assert "itemset column '1', item column '2'" in report["source"]


@pytest.mark.parametrize("quote", ["none", ""])
def test_quoting_is_switched_off(pack, quote):
    rows = b'o\ti\n1\t"a\n1\t"b" c\n'
    code, _, error = pack(rows, "--separator", "\\t")
    assert (code, "--quote none" in error) == (1, True)
    code, output, _ = pack(rows, "--separator", "\\t", "--quote", quote)
    assert (code, json.loads(output)["items"]) == (0, 2)


def test_the_example_has_none_of_them():
    done = CliRunner().invoke(main, ["train", "--example", "--null", "NA"])
    assert done.exit_code == 2

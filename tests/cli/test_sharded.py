"""Folders in shards: every command takes them as it takes whole ones."""

import json

import numpy as np
import pytest
from test_cli import assert_fails, run

from itembed_gpu import Item2Vec

BASKETS = ["tea cup pot", "cup tea", "saw nail", "nail saw hammer tea"] * 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "later.txt").write_text("\n".join(BASKETS))
    model = Item2Vec(4, epochs=2, seed=3, device="cpu", workers=1)
    model.fit([basket.split() for basket in BASKETS])
    model.save(folder / "whole")
    model.save(folder / "parts", shards=3)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("similar", "tea", "saw", "-n", "3"),
        ("recommend", "tea", "cup", "-n", "3", "--exclude", "saw"),
        ("evaluate", "later.txt", "--device=cpu", "--threads=1"),
    ],
    ids=lambda command: command[0],
)
def test_answers_are_those_of_the_whole(folders, monkeypatch, command):
    monkeypatch.chdir(folders)
    name, *rest = command
    whole, parts = (run(name, folder, *rest, "--json") for folder in ("whole", "parts"))
    assert (whole.exit_code, parts.exit_code) == (0, 0), parts.output
    assert json.loads(parts.stdout.replace('"parts"', '"whole"')) == json.loads(whole.stdout)


def test_export_and_verify(folders, tmp_path):
    for name in ("whole", "parts"):
        assert run("export", folders / name, tmp_path / f"{name}.npy").exit_code == 0
    whole, parts = (np.load(tmp_path / f"{name}.npy") for name in ("whole", "parts"))
    np.testing.assert_array_equal(whole, parts)
    assert "Item2Vec, 6 labels x 4; 6 files" in run("verify", folders / "parts").stdout


def test_a_damaged_shard_is_an_error_in_a_line(folders, tmp_path):
    Item2Vec.load(folders / "parts").save(tmp_path, shards=2)
    (path,) = tmp_path.glob("vectors.1-*")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for command in (("similar", tmp_path, "tea"), ("verify", tmp_path)):
        assert_fails(run(*command), 1, path.name, "was altered after it was saved")

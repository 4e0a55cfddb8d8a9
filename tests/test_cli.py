"""The command line: exit codes, one line for an error, results apart from progress."""

import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import itembed_gpu
from itembed_gpu import readers
from itembed_gpu.embeddings import Embeddings

click = pytest.importorskip("click", reason="the command line is the extra 'cli'")
pytest.importorskip("polars", reason="the command line is the extra 'cli'")
CliRunner = pytest.importorskip("click.testing").CliRunner

from itembed_gpu import cli  # noqa: E402  (ends the process where there is no click)

# Finds the package that is tested from any folder, installed or not.
ROOT = Path(itembed_gpu.__file__).parents[1]
START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
MAIN = "from itembed_gpu.cli import main; main()"
COMMAND = [sys.executable, "-c", START + MAIN]
QUICK = ["--dim", "4", "--epochs", "2", "--threads", "1", "--quiet"]


# Before click 8.2, the standard error was mixed into the output unless told otherwise.
OLD = "mix_stderr" in inspect.signature(CliRunner).parameters
RUNNER = CliRunner(**({"mix_stderr": False} if OLD else {}))


def run(*arguments):
    return RUNNER.invoke(cli.main, [str(argument) for argument in arguments])


def assert_fails(result, code, *parts):
    """One line of error, nothing on the standard output, no traceback."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    *usage, error = result.stderr.splitlines()
    assert error.startswith("Error: ")
    assert code == 2 or not usage
    for part in parts:
        assert str(part) in error


@pytest.fixture(autouse=True)
def default_device(monkeypatch):
    monkeypatch.delenv("ITEMBED_GPU_DEVICE", raising=False)


@pytest.fixture
def text(tmp_path):
    """Two groups of items that never meet, one item alone, one item often."""
    path = tmp_path / "baskets.txt"
    path.write_text("tea cup pot\ncup tea\nsaw nail\nnail saw hammer\nalone\n" * 20)
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "sales.csv"
    path.write_text("basket,code,price\n" + "a,1,1\nb,3,1\na,2,1\nb,4,2\n,9,1\nb,,1\n" * 9)
    return path


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    vectors = [[1, 0], [1, 0.1], [0.1, 1], [0, 1]]
    Embeddings(["tea", "green tea", "saw", "7"], vectors).save(path)
    return path


class TestTrain:
    def test_on_a_gpu(self, text, tmp_path, emulated):
        out = tmp_path / "model"
        result = run("train", text, "-o", out, *QUICK, "--device", "cuda", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["device"] == "cuda:0"
        assert np.isfinite(Embeddings.load(out).vectors).all()

    def test_shared_negatives(self, text, tmp_path):
        from itembed_gpu.tasks import NEGATIVE_SHARING

        assert tuple(map(str, NEGATIVE_SHARING)) == cli._SHARING
        out = tmp_path / "model"
        result = run("train", text, "-o", out, *QUICK, "--negative-sharing", 8)
        assert result.exit_code == 0, result.output
        assert Embeddings.load(out).metadata["negative_sharing"] == 8

    def test_saves_what_it_learnt(self, text, tmp_path):
        out = tmp_path / "deep" / "model"
        result = run("train", text, "-o", out, *QUICK, "--seed", 7)
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        embeddings = Embeddings.load(out)
        assert sorted(embeddings) == ["cup", "hammer", "nail", "pot", "saw", "tea"]
        assert embeddings.vectors.shape == embeddings.context.shape == (6, 4)
        assert embeddings.counts[embeddings.index("tea")] == 40
        assert embeddings.metadata["seed"] == 7
        assert embeddings.metadata["version"] == itembed_gpu.__version__
        learnt = "items 6, itemsets 80, pairs 400, epochs 2"
        for part in (str(text), "100 itemsets", learnt, "seed 7", str(out)):
            assert part in result.stdout

    def test_json(self, text, tmp_path):
        out = tmp_path / "model"
        result = run("train", text, "-o", out, *QUICK, "--seed", 7, "--min-count", 30, "--json")
        report = json.loads(result.stdout)
        assert (report["items"], report["itemsets"], report["pairs"]) == (4, 80, 320)
        assert report["dropped"]["rare_labels"] == 3
        assert report["dropped"]["short_itemsets"] == 20
        assert report["dropped"]["rows_without_itemset"] == 0
        assert report["epochs"] == 2
        assert report["loss"] > 0
        assert set(report["seconds"]) == {"reading", "training", "saving"}
        assert report["settings"]["seed"] == 7
        assert (report["device"], report["output"]) == ("cpu", str(out))
        assert report["interrupted"] is False

    def test_items_without_an_itemset_are_told(self, text, tmp_path):
        result = run("train", text, "-o", tmp_path / "model", *QUICK, "--json")
        assert json.loads(result.stdout)["dropped"]["labels_without_itemset"] == 1
        result = run("train", text, "-o", tmp_path / "model", *QUICK)
        assert "left out  1 item(s)" in result.stdout

    def test_a_seed_repeats(self, text, tmp_path):
        drawn = run("train", text, "-o", tmp_path / "a", *QUICK, "--json")
        seed = json.loads(drawn.stdout)["settings"]["seed"]
        run("train", text, "-o", tmp_path / "b", *QUICK, "--seed", seed)
        run("train", text, "-o", tmp_path / "c", *QUICK)
        a, b, c = (Embeddings.load(tmp_path / name).vectors for name in "abc")
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()

    def test_learns_who_goes_with_whom(self, text, tmp_path):
        out = tmp_path / "model"
        options = ["--dim", 8, "--epochs", 200, "--learning-rate", 0.1, "--seed", 1]
        assert run("train", text, "-o", out, *options, "--quiet").exit_code == 0
        assert {label for label, _ in Embeddings.load(out).similar("tea", 2)} == {"cup", "pot"}

    def test_table(self, table, tmp_path):
        out = tmp_path / "model"
        columns = ["--itemset", "basket", "--item", "code", "--weight", "price"]
        result = run("train", table, "-o", out, *QUICK, *columns, "--json")
        report = json.loads(result.stdout)
        assert sorted(Embeddings.load(out)) == [1, 2, 3, 4]
        assert report["dropped"]["rows_without_itemset"] == 9
        assert report["dropped"]["none_items"] == 9
        assert "itemset column 'basket', item column 'code'" in report["source"]
        found = json.loads(run("similar", out, "1", "-n", 1, "--json").stdout)
        assert found[0]["item"] == 1

    def test_format_and_separator(self, tmp_path):
        path = tmp_path / "baskets.data"
        path.write_text("green tea;cup\n" * 5)
        options = ["--format", "text", "--separator", ";"]
        assert run("train", path, "-o", tmp_path / "model", *QUICK, *options).exit_code == 0
        assert sorted(Embeddings.load(tmp_path / "model")) == ["cup", "green tea"]

    def test_progress_is_apart_from_results(self, table, tmp_path):
        loud = [option for option in QUICK if option != "--quiet"]
        result = run("train", table, "-o", tmp_path / "model", *loud, "--json")
        json.loads(result.stdout)
        assert "item column 'code': the first ones" in result.stderr
        assert "batch" in result.stderr

    def test_saves_over_an_older_model(self, text, model):
        assert run("train", text, "-o", model, *QUICK).exit_code == 0
        assert "hammer" in Embeddings.load(model)

    def test_the_formats_are_those_of_the_reader(self):
        assert cli._FORMATS == readers.FORMATS

    def test_device_variable(self, text, tmp_path, monkeypatch):
        monkeypatch.setenv("ITEMBED_GPU_DEVICE", "abacus")
        result = run("train", text, "-o", tmp_path / "model", *QUICK)
        assert_fails(result, 2, "ITEMBED_GPU_DEVICE", "abacus")
        assert run("train", text, "-o", tmp_path / "m", *QUICK, "--device", "cpu").exit_code == 0


class TestTrainFails:
    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            ([], "give a FILE"),
            (["a.txt"], "give -o DIR"),
            (["a.txt", "--example"], "--example"),
            (["--example", "--item", "x"], "--example"),
            (["a.txt", "-o", "m", "--dim", "0"], "--dim"),
            (["a.txt", "-o", "m", "--epochs", "0"], "--epochs"),
            (["a.txt", "-o", "m", "--learning-rate", "0"], "--learning-rate"),
            (["a.txt", "-o", "m", "--min-length", "1"], "--min-length"),
            (["a.txt", "-o", "m", "--format", "json"], "--format"),
            (["a.txt", "-o", "m", "--unknown"], "--unknown"),
        ],
    )
    def test_usage(self, arguments, part):
        assert_fails(run("train", *arguments), 2, part)

    @pytest.mark.parametrize(
        ("name", "content", "part"),
        [
            ("missing.txt", None, "No such file"),
            ("missing.csv", None, "No such file"),
            ("empty.txt", b"", "empty"),
            ("a.json", b"{}", "suffix"),
            ("latin.txt", b"a caf\xe9\n", "line 1: byte 6"),
            ("binary.csv", bytes(range(256)), "line 1"),
            ("cut.txt.gz", bytes.fromhex("1f8b0800000000000003"), "cut short"),
            ("cut.txt.xz", bytes.fromhex("fd377a585a00"), "cut short"),
            ("cut.parquet", b"PAR1 and no more", "cannot be read"),
            ("one.csv", b"a\n1\n", "an item column"),
            ("short.txt", b"a\nb\n", "2 short itemsets"),
        ],
    )
    def test_bad_files(self, tmp_path, name, content, part):
        path, out = tmp_path / name, tmp_path / "model"
        if content is not None:
            path.write_bytes(content)
        assert_fails(run("train", path, "-o", out, *QUICK), 1, path, part)
        assert not out.exists()

    def test_rare_items(self, text, tmp_path):
        result = run("train", text, "-o", tmp_path / "model", *QUICK, "--min-count", 99)
        assert_fails(result, 1, "7 rare labels")

    def test_unknown_column(self, table, tmp_path):
        result = run("train", table, "-o", tmp_path / "model", *QUICK, "--item", "product")
        assert_fails(result, 1, "'product'", "'basket', 'code', 'price'")

    def test_divergence(self, text, tmp_path):
        out = tmp_path / "model"
        result = run("train", text, "-o", out, *QUICK, "--learning-rate", 1e30)
        assert_fails(result, 1, "lower learning rate")
        assert not out.exists()

    def test_a_dimension_that_no_memory_holds(self, text, tmp_path):
        result = run("train", text, "-o", tmp_path / "m", *QUICK, "--dim", 10**15)
        assert_fails(result, 1)

    @pytest.fixture
    def no_reading(self, monkeypatch):
        def fail(*arguments, **options):
            pytest.fail("the output folder has to be checked first")

        monkeypatch.setattr(readers, "read_itemsets", fail)

    @pytest.mark.usefixtures("no_reading")
    def test_output_is_a_file(self, text, tmp_path):
        assert_fails(run("train", text, "-o", text), 1, text, "file")
        assert_fails(run("train", text, "-o", text / "model"), 1, text, "file")

    @pytest.mark.usefixtures("no_reading")
    def test_output_holds_something_else(self, text, tmp_path):
        assert_fails(run("train", text, "-o", tmp_path), 1, tmp_path, "holds 'baskets.txt'")
        assert text.exists()

    @pytest.mark.usefixtures("no_reading")
    def test_output_is_not_writable(self, text, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *arguments: False)
        assert_fails(run("train", text, "-o", tmp_path / "a" / "b"), 1, tmp_path, "not writable")

    @pytest.mark.usefixtures("no_reading")
    def test_device(self, text, tmp_path):
        result = run("train", text, "-o", tmp_path / "model", "--device", "abacus")
        assert_fails(result, 2, "abacus")

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_no_half_of_a_model_is_left(self, text, tmp_path, monkeypatch, error):
        def fill_disk(embeddings, folder):
            folder.mkdir()
            (folder / "labels-000001.json").write_text("[")
            raise error

        monkeypatch.setattr(Embeddings, "save", fill_disk)
        result = run("train", text, "-o", tmp_path / "model", *QUICK)
        if isinstance(error, OSError):
            assert_fails(result, 1, "No space left on device")
        else:
            assert result.exit_code == 130
            assert result.stderr == "Interrupted: nothing was saved.\n"
        assert not (tmp_path / "model").exists()

    def test_an_older_model_outlives_a_failure(self, text, model, monkeypatch):
        def fill_disk(embeddings, folder):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Embeddings, "save", fill_disk)
        assert_fails(run("train", text, "-o", model, *QUICK), 1)
        assert "green tea" in Embeddings.load(model)


class TestExample:
    def test_prints_neighbours(self, tmp_path):
        result = run("train", "--example", "--seed", 1, "--quiet", "-o", tmp_path / "model")
        assert result.exit_code == 0, result.output
        head = result.stdout.split("\n\n")[0].splitlines()
        assert head[0] == "REGENCY CAKESTAND 3 TIER"
        neighbours = {line.split("\t")[1] for line in head[1:]}
        sets = {f"{colour} REGENCY TEACUP AND SAUCER" for colour in ("ROSES", "GREEN", "PINK")}
        assert sets <= neighbours
        assert "REGENCY CAKESTAND 3 TIER" in Embeddings.load(tmp_path / "model")

    def test_json(self):
        report = json.loads(run("train", "--example", *QUICK, "--json").stdout)
        assert report["similar"][0]["item"] == "REGENCY CAKESTAND 3 TIER"
        assert all(len(entry["similar"]) == 4 for entry in report["similar"])
        assert report["output"] is None

    def test_names_only_what_is_left(self):
        result = run("train", "--example", *QUICK, "--min-count", 1000, "--json")
        items = [entry["item"] for entry in json.loads(result.stdout)["similar"]]
        assert items == ["REGENCY CAKESTAND 3 TIER", "ALARM CLOCK BAKELIKE RED"]


class TestSimilar:
    def test_one_item(self, model):
        result = run("similar", model, "tea", "-n", 2)
        assert result.exit_code == 0
        assert result.stdout == "0.9950\tgreen tea\n0.0995\tsaw\n"

    def test_many_items_are_headed(self, model):
        result = run("similar", model, "tea", "7", "-n", 1)
        assert result.stdout == "tea\n0.9950\tgreen tea\n\n7\n0.9950\tsaw\n"

    def test_json(self, model):
        result = run("similar", model, "tea", "-n", 1, "--json")
        near = {"item": "green tea", "score": 0.995}
        assert json.loads(result.stdout) == [{"item": "tea", "similar": [near]}]

    def test_labels_keep_their_type(self, tmp_path):
        labels = [123, -4, "123", "x"]
        Embeddings(labels, np.eye(4) + 1).save(tmp_path / "model")
        for word, label in {"123": "123", "-4": -4, "x": "x"}.items():
            result = run("similar", tmp_path / "model", "--json", "--", word)
            assert json.loads(result.stdout)[0]["item"] == label

    def test_unknown_item(self, model):
        assert_fails(run("similar", model, "tea", "green te"), 1, "'green te'", "'green tea'")

    def test_no_such_model(self, tmp_path):
        assert_fails(run("similar", tmp_path / "none", "tea"), 1, "none")
        assert_fails(run("similar", tmp_path, "tea"), 1, tmp_path)

    def test_usage(self, model):
        assert_fails(run("similar", model), 2, "ITEM")
        assert_fails(run("similar", model, "tea", "-n", 0), 2, "-n")


class TestInfo:
    def test_text(self):
        result = run("info")
        assert result.exit_code == 0
        for part in (itembed_gpu.__version__, "python", "numpy", "numba", "cpu", "cuda"):
            assert part in result.stdout

    def test_json(self):
        report = json.loads(run("info", "--json").stdout)
        assert report["itembed_gpu"] == itembed_gpu.__version__
        assert report["numpy"] == np.__version__
        backends = {backend["name"]: backend for backend in report["backends"]}
        assert backends["cpu"]["available"] is True
        assert set(backends["cuda"]) == {"name", "available", "detail"}


class TestHelp:
    @pytest.mark.parametrize("arguments", [[], ["train"], ["similar"], ["info"]])
    def test_has_an_example(self, arguments):
        for flag in ("--help", "-h"):
            result = run(*arguments, flag)
            assert result.exit_code == 0
            assert f"  itembed-gpu {' '.join(arguments)}" in result.stdout.replace("Usage:", "")

    def test_every_option_is_explained(self):
        for command in cli.main.commands.values():
            assert all(option.help for option in command.params if isinstance(option, click.Option))

    def test_version(self):
        assert itembed_gpu.__version__ in run("--version").stdout


class TestProcess:
    def test_error(self, tmp_path):
        command = [*COMMAND, "train", "missing.csv", "-o", "model"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr == "Error: missing.csv: cannot be read: No such file or directory\n"
        assert list(tmp_path.iterdir()) == []

    def test_ctrl_c_saves_what_was_learnt(self, text, tmp_path):
        out = tmp_path / "model"
        command = [*COMMAND, "train", text, "-o", out, "--epochs", "100000000", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seen = b""
        while b"loss" not in seen:  # on the progress bar
            seen += os.read(process.stderr.fileno(), 1000) or pytest.fail(seen.decode())
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert f"saved to {out}" in stderr.decode()
        assert b"Traceback" not in stderr
        assert json.loads(stdout)["interrupted"] is True
        assert np.isfinite(Embeddings.load(out).vectors).all()

    @pytest.mark.parametrize("extra", ["click", "polars"])
    def test_without_the_extra(self, extra, table, tmp_path):
        code = (
            f"import sys; sys.modules[{extra!r}] = None; from itembed_gpu.cli import main; main()"
        )
        command = [sys.executable, "-c", code, "train", table, "-o", tmp_path / "model"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert 'pip install "itembed_gpu[cli]"' in result.stderr

    def test_a_closed_pipe_is_no_traceback(self, model):
        process = subprocess.Popen(
            [*COMMAND, "similar", model, "tea"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(timeout=60)
        process.stderr.close()
        assert b"Traceback" not in stderr

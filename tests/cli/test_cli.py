"""The command line: exit codes, one line for an error, results apart from progress."""

import dataclasses
import datetime
import inspect
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from samples import SAMPLED, unsupervised

import itembed_gpu
from itembed_gpu import SupervisedClassifier, pack_itemsets, train
from itembed_gpu.cli.evaluation import BY_EPOCH
from itembed_gpu.data import formats, out_of_memory as spilling, readers
from itembed_gpu.disk.files import write_tensors
from itembed_gpu.models import tuning, web_map
from itembed_gpu.models.embeddings import Embeddings
from itembed_gpu.models.item2vec import Item2Vec
from itembed_gpu.models.verify import verify

click = pytest.importorskip("click", reason="the command line is the extra 'cli'")
polars = pytest.importorskip("polars", reason="the command line is the extra 'cli'")
CliRunner = pytest.importorskip("click.testing").CliRunner

# They end the process where there is no click.
from itembed_gpu.cli import main as cli, options as cli_options  # noqa: E402

# Finds the package that is tested from any folder, installed or not.
ROOT = Path(itembed_gpu.__file__).parents[1]
START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
MAIN = "from itembed_gpu.cli.main import main; main()"
COMMAND = [sys.executable, "-c", START + MAIN]
# As tasks train by themselves: what does not depend on it is tested with this.
SAMPLED_FLAGS = [f"--{name}={value}" for name, value in SAMPLED.items()]
QUICK = [*SAMPLED_FLAGS, "--dim=4", "--epochs=2", "--threads=1", "--device=cpu", "--quiet"]


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
        out = tmp_path / "model"
        result = run("train", text, "-o", out, *QUICK, "--negative-sharing", 8)
        assert result.exit_code == 0, result.output
        assert Item2Vec.load(out).negative_sharing == 8

    def test_saves_what_it_learnt(self, text, tmp_path):
        out = tmp_path / "deep" / "model"
        result = run("train", text, "-o", out, *QUICK, "--seed", 7)
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        embeddings = Embeddings.load(out)
        assert sorted(embeddings) == ["cup", "hammer", "nail", "pot", "saw", "tea"]
        assert embeddings.vectors.shape == embeddings.context.shape == (6, 4)
        assert embeddings.counts[embeddings.index("tea")] == 40
        assert Item2Vec.load(out).seed_ == 7
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
        options = [*SAMPLED_FLAGS, "--dim", 8, "--epochs", 200, "--learning-rate", 0.1, "--seed", 1]
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

    def test_choices_are_those_of_the_library(self):
        assert cli_options.FORMATS == formats.FORMATS

    @pytest.mark.filterwarnings("default::FutureWarning")
    def test_an_old_name_is_taken_and_told_in_a_line(self, text, tmp_path):
        out = tmp_path / "model"
        result = run("train", text, "-o", out, *QUICK, "--window-size", 50)
        assert result.exit_code == 0, result.output
        assert result.stderr == "Warning: window_size is now called chunk_size\n"
        assert Item2Vec.load(out).chunk_size == 50
        assert "--window-size" not in run("train", "--help").stdout
        both = ["--window-size", 50, "--chunk-size", 50]
        assert_fails(run("train", text, "-o", out, *both), 2, "pass chunk_size alone")

    def test_objective(self, text, tmp_path):
        out = tmp_path / "model"
        options = [
            *("--noise-exponent", 0.75, "--loss", "nce", "--l2", 0.01, "--optimizer", "adagrad"),
            *("--reject-positive", "--reject-itemset", "--subsample", 0.01),
        ]
        result = run("train", text, "-o", out, *QUICK, *options, "--json")
        assert result.exit_code == 0, result.output
        model = Item2Vec.load(out)
        assert (model.ns_exponent, model.loss, model.l2) == (0.75, "nce", 0.01)
        assert (model.optimizer, model.sample) == ("adagrad", 0.01)
        assert model.reject_positive is True
        assert model.reject_itemset is True
        report = json.loads(result.stdout)
        assert report["pairs_left_out"] > 0
        assert report["pairs"] + report["pairs_left_out"] == 400
        told = run("train", text, "-o", out, *QUICK, "--subsample", 0.01).stdout
        assert "more pairs were left out by subsampling" in told

    def test_a_setting_has_one_default(self, text, tmp_path, monkeypatch):
        monkeypatch.setitem(cli_options.DEFAULTS, "reject_positive", True)
        monkeypatch.setitem(cli_options.DEFAULTS, "loss", "nce")
        assert cli_options.default_text("reject_positive") == "[yes; doc2vec no]"
        out = tmp_path / "model"
        run("train", text, "-o", out, *QUICK[1:])
        assert (Item2Vec.load(out).reject_positive, Item2Vec.load(out).loss) == (True, "nce")
        run("train", text, "-o", out, *QUICK, "--no-reject-positive")
        assert Item2Vec.load(out).reject_positive is False

    def test_help_has_the_defaults(self):
        # Lines break after hyphens as well.
        text = "".join(run("train", "--help").stdout.split())
        assert "[1;example5]" in text
        for name in cli_options.TRAINING:
            assert cli_options.default_text(name).replace(" ", "") in text

    def test_chooses_as_the_class_does(self, text, tmp_path):
        out, common = tmp_path / "model", ["--seed=3", "--threads=1", "--device=cpu", "--json"]
        report = json.loads(run("train", text, "-o", out, *common, "--quiet").stdout)
        model = Item2Vec(seed=3, workers=1, device="cpu").fit(
            [line.split() for line in text.read_text().splitlines()]
        )
        loaded = Item2Vec.load(out)
        assert report["chosen"] == dict(model.chosen_) == loaded.chosen_
        assert loaded.get_params() == {**model.get_params(), "device": "auto", "workers": None}
        assert report["settings"]["dim"] == model.syn0_.shape[1]
        np.testing.assert_array_equal(loaded.syn0_, model.syn0_)
        run("train", text, "-o", out, *common, "--preset=neighbours")
        model.set_params(preset="neighbours")
        assert Item2Vec.load(out).preset == "neighbours"
        assert Item2Vec.load(out).chosen_ != loaded.chosen_
        near = json.loads(run("similar", out, "tea", "-n", 2, "--json").stdout)[0]["similar"]
        assert [one["item"] for one in near] == Item2Vec.load(out).similar_items("tea", 2)[
            0
        ].tolist()
        told = run("train", text, "-o", out, *common[:-1], "--dim=8", "--quiet").stdout
        assert "chosen    epochs" in told
        assert "loss softmax" in told

    def test_searches_first(self, shop, tmp_path, monkeypatch):
        monkeypatch.setitem(tuning.DIALS, True, {"temperature": (lambda value: 0.15,)})
        monkeypatch.setattr(tuning, "MIN_GAIN", -1.0)  # whatever is tried last is the best
        out = tmp_path / "model"
        options = [
            "--tune",
            100,
            "--evaluate",
            "--seed=1",
            "--threads=1",
            "--device=cpu",
            "--dim=8",
        ]
        result = run("train", shop, "-o", out, *options, "--json")
        report = json.loads(result.stdout)
        assert "trial 1: ndcg@10" in result.stderr
        assert Item2Vec.load(out).temperature == report["settings"]["temperature"] == 0.15
        assert len(report["trials"]) == 2
        assert "searched  2 trials in" in run("train", shop, "-o", out, *options).stdout
        assert report["settings"]["dim"] == 8

    def test_python_goes_on_from_it(self, text, tmp_path):
        out = tmp_path / "model"
        run("train", text, "-o", out, *QUICK, "--min-count", 20)
        model = Item2Vec.load(out, device="cpu", workers=1)
        assert model.min_count == 20
        model.partial_fit([["tea", "spoon"]] * 20)
        assert "spoon" in model.embeddings_

    def test_device_variable(self, text, tmp_path, monkeypatch):
        monkeypatch.setenv("ITEMBED_GPU_DEVICE", "abacus")
        anywhere = [option for option in QUICK if not option.startswith("--device")]
        result = run("train", text, "-o", tmp_path / "model", *anywhere)
        assert_fails(result, 2, "ITEMBED_GPU_DEVICE", "abacus")
        assert run("train", text, "-o", tmp_path / "m", *QUICK, "--device", "cpu").exit_code == 0


LABELS = {
    "time": [datetime.time(9, 30), datetime.time(23, 59, 59, 5)],
    "duration": [datetime.timedelta(days=-1), datetime.timedelta(microseconds=7)],
    "zoned": [
        datetime.datetime(2024, 10, 27, hour, tzinfo=ZoneInfo("Europe/Berlin")) for hour in (1, 4)
    ],
    "decimal": [Decimal("1.10"), Decimal("2.25")],
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("packed", [False, True], ids=["file", "packed"])
def test_labels_of_every_type_of_a_column_are_saved(tmp_path, monkeypatch, kind, packed):
    one, other = LABELS[kind]
    source, model = tmp_path / "rows.parquet", tmp_path / "model"
    polars.DataFrame({"o": [1, 1, 2, 2] * 9, "i": [one, other] * 18}).write_parquet(source)
    options = ("--itemset", "o", "--item", "i")
    if packed:
        monkeypatch.setattr(spilling, "_fits", lambda *_: False)
        run("pack", source, *options, "-o", tmp_path / "data")
        source, options = tmp_path / "data", ()
    assert run("train", source, *options, "-o", model, *QUICK).exit_code == 0
    labels = Embeddings.load(model).labels
    assert sorted(map(repr, labels)) == sorted(map(repr, [one, other]))
    result = run("similar", "--json", model, "--", str(one))
    assert json.loads(result.stdout)[0]["similar"][0]["item"] == str(other)


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
            (["a.txt", "-o", "m", "--l2", "-1"], "--l2"),
            (["a.txt", "-o", "m", "--subsample", "nan"], "subsample"),
            (["a.txt", "-o", "m", "--noise-exponent", "inf"], "noise_exponent"),
            (["a.txt", "-o", "m", "--loss", "mse"], "--loss"),
            (["a.txt", "-o", "m", "--optimizer", "best"], "--optimizer"),
            (["a.txt", "-o", "m", "--loss", "nce", "--dropout", "0.5"], "dropout is 0.5 and loss"),
            (["a.txt", "-o", "m", "--patience", "3"], "need --evaluate"),
            (["a.txt", "-o", "m", "--share", "0.1"], "need --evaluate"),
            (["a.txt", "-o", "m", "--every", "2"], "need --evaluate"),
            (["a.txt", "-o", "m", "--evaluate", "--share", "1"], "--share"),
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
            ("a.json", b"{}", "one document of JSON"),
            ("a.xyz", b"tea, cup\n", "suffix"),
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
    def test_plot_cannot_be_written(self, text, tmp_path, monkeypatch):
        pytest.importorskip("sklearn", reason="pictures are the extra 'plot'")
        assert_fails(run("train", "--example", "--plot", text), 1, text, "file")
        (tmp_path / "map.png").mkdir()
        assert_fails(run("train", "--example", "--plot", tmp_path), 1, "map.png")
        monkeypatch.setattr(os, "access", lambda *arguments: False)
        assert_fails(run("train", "--example", "--plot", tmp_path / "a"), 1, "not writable")

    @pytest.mark.usefixtures("no_reading")
    @pytest.mark.parametrize("missing", ["matplotlib.figure", "sklearn.manifold"])
    def test_plot_without_its_extra(self, tmp_path, monkeypatch, missing):
        pytest.importorskip("sklearn", reason="pictures are the extra 'plot'")
        monkeypatch.setitem(sys.modules, missing, None)
        result = run("train", "--example", "--plot", tmp_path / "pictures")
        assert_fails(result, 1, 'pip install "itembed_gpu[plot]"')
        assert not (tmp_path / "pictures").exists()

    @pytest.mark.usefixtures("no_reading")
    def test_device(self, text, tmp_path):
        result = run("train", text, "-o", tmp_path / "model", "--device", "abacus")
        assert_fails(result, 2, "abacus")

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_no_half_of_a_model_is_left(self, text, tmp_path, monkeypatch, error):
        def fill_disk(path, tensors):
            path.write_bytes(b"half")
            raise error

        before = sorted(tmp_path.iterdir())
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr("itembed_gpu.disk.embeddings.write_tensors", fill_disk)
        result = run("train", text, "-o", tmp_path / "model", *QUICK)
        if isinstance(error, OSError):
            assert_fails(result, 1, "No space left on device", "nothing was saved")
        else:
            assert result.exit_code == 130
            assert result.stderr == "Interrupted: nothing was saved.\n"
        assert sorted(tmp_path.iterdir()) == before

    def test_labels_that_cannot_be_saved_are_told_before_training(
        self, text, tmp_path, monkeypatch
    ):
        def read(*files, **options):
            packed = read_itemsets(*files, **options)
            return dataclasses.replace(packed, labels=[frozenset([x]) for x in packed.labels])

        read_itemsets = readers.read_itemsets
        monkeypatch.setattr(readers, "read_itemsets", read)
        monkeypatch.setattr(Item2Vec, "fit", None)
        result = run("train", text, "-o", tmp_path / "model", *QUICK)
        assert_fails(result, 1, "of type frozenset, which cannot be saved")

    def test_pictures_that_find_no_room_are_told(self, text, tmp_path, monkeypatch):
        def full(what, path):
            raise OSError(28, "No space left on device", str(path))

        for name in ("plot_history", "plot_map"):
            monkeypatch.setattr(f"itembed_gpu.models.plots.{name}", full)
        result = run("train", text, "-o", tmp_path / "m", "--plot", tmp_path / "p", *QUICK)
        assert result.exit_code == 0
        assert "Not drawn: map.png: [Errno 28] No space left on device" in result.stderr
        assert verify(tmp_path / "m").kind == "Item2Vec"

    def test_where_there_is_no_room_it_is_saved_elsewhere(self, text, tmp_path, monkeypatch):
        def fill_disk(path, tensors):
            if path.parent.name == "model" or path.parent.parent == Path.cwd():
                raise OSError(28, "No space left on device")
            write_tensors(path, tensors)

        for name in ("here", "room"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "room"))
        monkeypatch.setattr("itembed_gpu.disk.embeddings.write_tensors", fill_disk)
        result = run("train", text, "-o", "model", *QUICK)
        (kept,) = (tmp_path / "room").iterdir()
        assert_fails(
            result, 1, f"model: cannot be saved to: No space left on device; what was learned is "
            f"in {kept}: move it"
        )  # fmt: skip
        assert list((tmp_path / "here").iterdir()) == []
        assert verify(kept).kind == "Item2Vec"

    def test_an_older_model_outlives_a_failure(self, text, model, monkeypatch):
        def fill_disk(model, folder, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Item2Vec, "save", fill_disk)
        assert_fails(run("train", text, "-o", model, *QUICK), 1)
        assert "green tea" in Embeddings.load(model)


@pytest.fixture
def shop(tmp_path):
    """Ten groups of items that are bought together, in an order without a trend."""
    path = tmp_path / "shop.txt"
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 10, 600)
    members = [draw.choice(6, 3, replace=False) for _ in groups]
    lines = [" ".join(f"g{g}m{m}" for m in own) for g, own in zip(groups, members, strict=True)]
    path.write_text("\n".join(lines))
    return path


LEARN = [*SAMPLED_FLAGS, "--dim", 8, "--learning-rate", 0.1, "--threads", 1, "--seed", 1]


class TestTrainEvaluates:
    def test_by_epoch_and_at_the_end(self, shop, tmp_path):
        out = tmp_path / "model"
        options = [*LEARN, "--epochs", 12, "--every", 5, "--evaluate", "--quiet"]
        result = run("train", shop, "-o", out, *options, "--json")
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        found = report["evaluation"]
        assert (report["itemsets"], found["held_out_itemsets"], found["queries"]) == (480, 120, 120)
        assert [entry["epoch"] for entry in found["by_epoch"]] == [1, 6, 11, 12]
        assert found["metrics"]["hit_rate@10"] > 0.9
        assert found["metrics"]["hit_rate@10"] == found["metrics"]["recall@10"]
        # Measured in training, with rows as the saved model has them.
        last = found["by_epoch"][-1]
        assert all(last[name] == found["metrics"][name] for name in BY_EPOCH)
        assert found["best_epoch"] is None

    def test_the_saved_model_evaluates_as_it_did(self, shop, tmp_path):
        out, held = tmp_path / "model", tmp_path / "held.txt"
        result = run("train", shop, "-o", out, *LEARN, "--evaluate", "--share", 0.1, "--json")
        held.write_text("\n".join(shop.read_text().split("\n")[-60:]))
        again = run("evaluate", out, held, "--threads", 1, "--json")
        metrics = json.loads(result.stdout)["evaluation"]["metrics"]
        assert json.loads(again.stdout)["metrics"] == metrics

    def test_held_out_itemsets_are_not_trained_on(self, shop, tmp_path):
        text = shop.read_text().split("\n")
        shop.write_text("\n".join([*text[:480], *["new item"] * 120]))
        result = run("train", shop, "-o", tmp_path / "model", *QUICK, "--evaluate")
        assert_fails(result, 1, "held out", "240 of 240 items are unknown")
        shop.write_text("\n".join([*text[:480], *["new g0m0 g0m1"] * 120]))
        result = run("train", shop, "-o", tmp_path / "model", *QUICK, "--evaluate")
        assert "new" not in Embeddings.load(tmp_path / "model")
        for part in ("120 itemsets, the last ones", "120 of their item(s)", "hit_rate", "map"):
            assert part in result.stdout

    def test_patience(self, shop, tmp_path):
        out = tmp_path / "model"
        # What cannot be learned gets no better, and overfits.
        draw = np.random.default_rng(1)
        shop.write_text("\n".join(" ".join(map(str, draw.choice(99, 3))) for _ in range(300)))
        options = [*LEARN, "--epochs", 200, "--evaluate", "--every", 1, "--patience", 3]
        result = run("train", shop, "-o", out, *options, "--json", "--quiet")
        report = json.loads(result.stdout)
        found = report["evaluation"]
        values = {entry["epoch"]: entry["ndcg@10"] for entry in found["by_epoch"]}
        assert found["stopped"] is True
        assert report["epochs"] == len(values) == found["best_epoch"] + 3 < 200
        assert values[found["best_epoch"]] == max(values.values())
        assert found["metrics"]["ndcg@10"] == max(values.values())
        text = run("train", shop, "-o", out, *options, "--quiet").stdout
        assert f"epoch {found['best_epoch']}, the best by ndcg@10, stopped after" in text

    def test_progress_tells_them(self, shop, tmp_path):
        result = run("train", shop, "-o", tmp_path / "m", *LEARN, "--evaluate", "--json")
        json.loads(result.stdout)
        assert "epoch 1 of 10: hit_rate@10" in result.stderr
        quiet = run("train", shop, "-o", tmp_path / "m", *LEARN, "--evaluate", "--quiet")
        assert quiet.stderr == ""

    def test_popularity_stands_beside_and_a_failure_is_told(self, tmp_path):
        path = tmp_path / "popular.txt"
        # Many look for "p", which is the most frequent, and nothing is learned.
        others = np.random.default_rng(1).integers(0, 99, (500, 2))
        lines = [f"p {a}" if number % 9 else f"{a} {b}" for number, (a, b) in enumerate(others)]
        path.write_text("\n".join(lines))
        options = [*LEARN, "--learning-rate", 1e-6, "--epochs", 1, "--evaluate", "--quiet"]
        result = run("train", path, "-o", tmp_path / "m", *options, "--json")
        found = json.loads(result.stdout)["evaluation"]
        own, popular = (found[name]["ndcg@10"] for name in ("metrics", "popularity"))
        assert own < 0.3 < 0.4 < popular < 0.5
        told = f"Warning: ndcg@10 is {own:.4f}, and {popular:.4f} by popularity alone"
        assert result.stderr.startswith(told)
        text = run("train", path, "-o", tmp_path / "m", *options).stdout.splitlines()[-1]
        shown = (f"{name} {found['popularity'][name]:.4f}" for name in BY_EPOCH)
        assert text == f"popularity: {', '.join(shown)}"

    def test_a_share_that_leaves_nothing(self, tmp_path):
        path = tmp_path / "few.txt"
        path.write_text("a b\n")
        result = run("train", path, "-o", tmp_path / "m", *QUICK, "--evaluate")
        assert_fails(result, 1, "--share 0.2", "of 1 itemsets")


class TestPlot:
    @pytest.fixture(autouse=True)
    def has_extra(self):
        pytest.importorskip("matplotlib", reason="pictures are the extra 'plot'")
        pytest.importorskip("sklearn", reason="pictures are the extra 'plot'")

    def test_draws(self, shop, tmp_path):
        folder = tmp_path / "new" / "pictures"
        options = [*QUICK, "--evaluate", "--plot", folder]
        result = run("train", shop, "-o", tmp_path / "model", *options)
        assert result.exit_code == 0, result.output
        for name in ("learning_curve.png", "map.png"):
            assert (folder / name).read_bytes().startswith(b"\x89PNG")
            assert str(folder / name) in result.stdout

    def test_what_cannot_be_drawn_is_told(self, tmp_path):
        path, folder = tmp_path / "pair.txt", tmp_path / "pictures"
        path.write_text("a b\n" * 9)
        result = run("train", path, "-o", tmp_path / "model", *QUICK, "--plot", folder, "--json")
        assert result.exit_code == 0
        assert "Not drawn: map.png" in result.stderr
        assert json.loads(result.stdout)["plots"] == [str(folder / "learning_curve.png")]


@pytest.fixture
def axis(tmp_path):
    """A model of four items in a circle: each likes the next one, but "c" half as much."""
    path = tmp_path / "axis"
    vectors = np.eye(4)
    context = np.roll(np.eye(4), 1, axis=0) * [1, 1, 0.5, 1]
    Embeddings(["a", "b", "c", 7], vectors, context=context, counts=[8, 4, 2, 1]).save(path)
    return path


def metrics_of(*arguments):
    result = run("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class TestEvaluate:
    def test_given_lines(self, axis, tmp_path):
        seen, bought = tmp_path / "seen.txt", tmp_path / "bought.txt"
        seen.write_text("a\nb\nc x\n\na b\n")
        bought.write_text("b\nb a\n7 y\na\nc\n")
        options = [axis, seen, "--protocol", "given", "--truth", bought, "-k", 1, "-k", 2]
        report = metrics_of(*options)
        # Found: b by a, 7 by c, c by (a, b), and by nothing the most frequent. Missed: a by b.
        assert report["metrics"]["hit_rate@1"] == pytest.approx(4 / 5)
        assert (report["queries"], report["already_in_history"]) == (5, 1)
        assert [entry["items"] for entry in report["files"].values()] == [1, 1]
        # What is unknown counts as missed: y is half of what the third one looks for.
        assert report["metrics"]["recall@2"] == pytest.approx(3.5 / 5)
        assert report["unknown_to_find"] == 1
        fitted = Item2Vec(4, device="cpu")
        fitted.embeddings_ = Embeddings.load(axis)
        train, test = (
            [[7 if word == "7" else word for word in line.split()] for line in lines]
            for lines in (seen.read_text().splitlines(), bought.read_text().splitlines())
        )
        own = fitted.evaluate(train, test, (1, 2)).as_dict()
        assert report["metrics"] == pytest.approx(own, abs=1e-6)
        text = run("evaluate", *options).stdout
        assert "1 items to find that are in the history already" in text
        assert "missed    1 items to find that are unknown" in text
        assert "1 of 6 items are unknown" in text
        assert text.splitlines()[-1] == "5 queries; 0 with nothing to find"

    def test_given_tables_are_matched_by_itemset(self, axis, tmp_path):
        seen, bought = tmp_path / "seen.csv", tmp_path / "bought.csv"
        seen.write_text("who,what\nanna,a\nben,b\nzoe,c\ncarl,c\n")
        bought.write_text("what,who\n7,carl\nc,ben\nb,anna\nb,dora\n")
        columns = ["--itemset", "who", "--item", "what"]
        options = [axis, seen, "--protocol", "given", "--truth", bought, "-k", 1, *columns]
        report = metrics_of(*options)
        assert report["metrics"]["hit_rate@1"] == 1
        assert (report["queries"], report["nothing_to_find"]) == (3, 1)
        assert report["unmatched_itemsets"] == 1
        assert "1 itemsets to find that have no history" in run("evaluate", *options).stdout

    @pytest.mark.parametrize(("scale", "hit"), [(1, 1), (0, 0)])
    def test_the_history_is_not_ranked_and_ties_are_lost(self, tmp_path, scale, hit):
        table = np.array([[1, 0], [0.9, 0.1], [0, 1]])
        saved = Embeddings(list("xyz"), table, context=scale * table, counts=[1, 1, 1])
        saved.save(tmp_path / "m")
        path = tmp_path / "later.txt"
        path.write_text("x y\n")
        report = metrics_of(tmp_path / "m", path, "--protocol", "leave-last-out", "-k", 1)
        assert report["metrics"]["hit_rate@1"] == hit

    def test_leave_last_out(self, axis, tmp_path):
        path = tmp_path / "later.txt"
        path.write_text("a b\nb a\nc 7\nc\n")
        report = metrics_of(axis, path, "--protocol", "leave-last-out", "-k", 1)
        assert report["metrics"]["hit_rate@1"] == pytest.approx(2 / 3, abs=1e-6)
        assert (report["queries"], report["short_itemsets"], report["seed"]) == (3, 1, None)
        # What is in no history of the file is known for all that.
        assert "missed" not in run("evaluate", axis, path, "--protocol", "leave-last-out").stdout

    def test_leave_one_out_hides_as_the_seed_says(self, axis, tmp_path):
        path = tmp_path / "later.txt"
        path.write_text("a b\n" * 200)
        found = [metrics_of(axis, path, "-k", 1, "--seed", seed) for seed in (0, 0, 1)]
        rates = [report["metrics"]["hit_rate@1"] for report in found]
        # The one half: a finds b, and b does not find a.
        assert rates[0] == rates[1] != rates[2]
        assert 0.35 < rates[0] < 0.65

    def test_scores(self, axis, tmp_path):
        path = tmp_path / "later.txt"
        path.write_text("a c 7\n")
        options = [axis, path, "--protocol", "leave-last-out", "-k", 1]

        def hits(*more):
            return metrics_of(*options, *more)["metrics"]["hit_rate@1"]

        # The frequent a wants b, and the rare c, half as much, 7.
        assert hits("--history-exponent", 0.25) == 0
        assert hits("--history-exponent", 2) == 1
        assert hits("--history-exponent", 2, "--popularity", 5) == 0
        text = run("evaluate", *options, "--score", "cosine", "--popularity", 2).stdout
        assert "scores    cosine, history exponent 0.5, popularity 2" in text

    def test_cosines_are_those_of_neighbours(self, tmp_path):
        # What x is a context of is y, and what lies near it is z.
        vectors, context = [[1, 0], [0, 1], [1, 1]], [[0, 0], [1, 0], [0, 1]]
        Embeddings(list("xyz"), vectors, context=context, counts=[1, 1, 1]).save(tmp_path / "m")
        path = tmp_path / "later.txt"
        path.write_text("x z\n")
        options = [tmp_path / "m", path, "--protocol", "leave-last-out", "-k", 1]
        for score, hit in (("dot", 0), ("cosine", 1)):
            assert metrics_of(*options, "--score", score)["metrics"]["hit_rate@1"] == hit

    def test_a_table_shows_every_metric_and_k(self, axis, tmp_path):
        path = tmp_path / "later.txt"
        path.write_text("a b\n")
        lines = run("evaluate", axis, path, "-k", 2, "-k", 1).stdout.splitlines()
        table = lines[lines.index("") + 1 : -1]
        assert table[0].split() == ["@1", "@2"]
        names = "hit_rate precision recall ndcg mrr map coverage popularity_bias"
        assert [line.split()[0] for line in table[1:]] == names.split()
        assert len({len(line) for line in table}) == 1

    def test_fails(self, axis, model, tmp_path):
        path, other = tmp_path / "later.txt", tmp_path / "other.txt"
        path.write_text("x y\nz\n")
        other.write_text("a\n")
        assert_fails(run("evaluate", axis, path), 1, "nothing to find", "3 of 3 items")
        assert_fails(run("evaluate", model, path), 1, "holds no context")
        assert_fails(run("evaluate", tmp_path / "none", path), 1, "none")
        assert_fails(run("evaluate", axis, path, "--truth", other), 2, "--protocol given")
        assert_fails(run("evaluate", axis, path, "--protocol", "given"), 2, "--truth")
        given = ["--protocol", "given", "--truth", other]
        os.mkfifo(path.with_suffix(".pipe"))
        for pipe in ("-", path.with_suffix(".pipe")):
            assert_fails(run("evaluate", axis, pipe, *given), 1, f"{pipe}: is a pipe")
        assert_fails(run("evaluate", axis, path, *given), 1, "2 itemsets", "1;")
        assert_fails(run("evaluate", axis, path, "-k", 0), 2, "-k")
        assert_fails(run("evaluate", axis, path, "--device", "abacus"), 2, "abacus")
        path.write_text("a b\n")
        assert_fails(run("evaluate", axis, path, "--popularity", "nan"), 1, "popularity")

    def test_a_folder_of_item2vec(self, shop, tmp_path):
        itemsets = [line.split() for line in shop.read_text().split("\n")]
        model = Item2Vec(8, 12, alpha=0.1, seed=1, device="cpu", workers=1, popularity=0.5)
        model.fit(itemsets).save(tmp_path / "model")
        report = metrics_of(tmp_path / "model", shop)
        assert report["popularity"] == 0.5
        assert report["metrics"]["hit_rate@10"] > 0.9


class TestRecommend:
    def test_a_basket(self, axis):
        assert run("recommend", axis, "a", "-n", 1).stdout == "1.0000\tb\n"
        # What b likes is in the basket already.
        assert run("recommend", axis, "b", "c", "-n", 1).stdout.endswith("\t7\n")

    def test_exclude(self, axis):
        lines = run("recommend", axis, "a", "--exclude", "b", "--exclude", "7").stdout.splitlines()
        assert [line.split("\t")[1] for line in lines] == ["c"]

    def test_json(self, axis):
        report = json.loads(run("recommend", axis, "c", "-n", 1, "--json").stdout)
        found = [{"item": 7, "score": 0.5}]
        assert report == {"basket": ["c"], "unknown": [], "recommended": found}

    def test_more_than_there_are(self, axis):
        assert len(run("recommend", axis, "a", "-n", 10**30).stdout.splitlines()) == 3

    def test_unknown_items_are_left_out_and_told(self, axis):
        known = run("recommend", axis, "a", "-n", 1)
        result = run("recommend", axis, "a", "B", "nothing", "-n", 1, "--exclude", "none")
        assert (result.exit_code, result.stdout) == (0, known.stdout)
        told = "'B' (close to it: 'b'), 'nothing', 'none' are not among the 4 labels"
        assert result.stderr == f"Left out: {told}\n"
        report = json.loads(run("recommend", axis, "a", "B", "--json").stdout)
        assert (report["basket"], report["unknown"]) == (["a"], ["B"])

    def test_is_what_python_recommends(self, shop, tmp_path):
        run("train", shop, "-o", tmp_path / "model", *LEARN, "--quiet")
        labels, _ = Item2Vec.load(tmp_path / "model", device="cpu").recommend(["g1m1", "g2m2"], 3)
        report = json.loads(run("recommend", tmp_path / "model", "g1m1", "g2m2", "--json").stdout)
        assert [entry["item"] for entry in report["recommended"]][:3] == labels.tolist()

    def test_fails(self, axis, model):
        told = "'nothing', 'B' (close to it: 'b') are not among the 4 labels"
        assert_fails(run("recommend", axis, "nothing", "B"), 1, told)
        assert_fails(run("recommend", model, "tea"), 1, "holds no context")
        assert_fails(run("recommend", axis), 2, "ITEM")


class TestExport:
    @pytest.fixture
    def sold(self, tmp_path):
        vectors = [[1, 0], [0.5, 0.1]]
        Embeddings(["green tea", "7"], vectors, counts=[9, 4]).save(tmp_path / "sold")
        return tmp_path / "sold"

    def test_formats_are_known_by_suffix_or_by_name(self, sold, tmp_path):
        embeddings = Embeddings.load(sold)
        result = run("export", sold, tmp_path / "items.parquet")
        assert result.stdout == f"Wrote 2 vectors of 2 as parquet: {tmp_path / 'items.parquet'}\n"
        embeddings.to_parquet(tmp_path / "ours")
        assert (tmp_path / "items.parquet").read_bytes() == (tmp_path / "ours").read_bytes()
        result = run("export", sold, tmp_path / "items.dat", "--format", "npy")
        assert result.stdout.endswith(f"{tmp_path / 'items.labels.json'}\n")
        np.testing.assert_array_equal(np.load(tmp_path / "items.dat"), embeddings.vectors)
        for name, binary in {"items.VEC": False, "items.bin": True}.items():
            counts = tmp_path / "items.counts"
            options = ["--replace-space", "_", "--vocabulary", counts]
            assert run("export", sold, tmp_path / name, *options).exit_code == 0
            embeddings.to_word2vec(tmp_path / "ours", binary=binary, replace_space="_")
            assert (tmp_path / name).read_bytes() == (tmp_path / "ours").read_bytes()
            assert counts.read_text() == "green_tea 9\n7 4\n"

    def test_fails(self, sold, model, tmp_path):
        assert_fails(run("export", sold, tmp_path / "a.xyz"), 2, "a.xyz", "--format")
        assert_fails(run("export", sold, "a.npy", "--vocabulary", "b"), 2, "not of npy")
        assert_fails(run("export", sold, tmp_path / "a.txt"), 1, "'green tea' in row 0")
        assert_fails(run("export", sold, tmp_path / "no" / "a.npy"), 1, "in no folder")
        assert_fails(run("export", tmp_path / "none", "a.npy"), 1, "no such folder")
        result = run("export", model, tmp_path / "a.txt", "--vocabulary", tmp_path / "b")
        assert_fails(result, 1, "there are no counts")


class TestMap:
    @pytest.fixture
    def shop(self, tmp_path, monkeypatch):
        # Where items lie is of no matter here.
        monkeypatch.setattr(web_map, "lay_out", lambda unit, rows, cosines: np.eye(len(unit), 2))
        vectors = np.random.default_rng(0).normal(size=(4, 3))
        Embeddings(["tea", "cup", 7, "saw"], vectors).save(tmp_path / "shop")
        return tmp_path / "shop"

    @pytest.fixture
    def groups(self, monkeypatch):
        """The groups that are drawn."""
        found = []
        make = web_map.make_page

        def noted(labels, points, neighbours, groups, note):
            found[:] = [groups.names[number] for number in groups.numbers]
            return make(labels, points, neighbours, groups, note)

        monkeypatch.setattr(web_map, "make_page", noted)
        return found

    def test_writes_a_page_or_a_picture(self, shop, tmp_path):
        for options in (["map.html"], ["map.png", "-n", 3]):
            path = tmp_path / options[0]
            result = run("map", shop, "-o", path, *options[1:])
            drawn = 3 if options[1:] else 4
            assert result.stdout == f"Drew {drawn} of 4 items: {path}\n"
            assert result.stderr == ""
        assert (tmp_path / "map.html").read_bytes().startswith(b"<!DOCTYPE html>")
        assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")

    def test_groups_are_columns_of_a_table(self, shop, tmp_path, groups):
        table = tmp_path / "groups.csv"
        table.write_text("code,name,kind\ntea,Tea,food\n7,,tool\ncup,,\nsaw,,tool\nsaw,,\nx,,y\n")
        options = ["-o", tmp_path / "map.html", "--groups", table]
        result = run("map", shop, *options, "--item", "code", "--group", "3")
        assert groups == ["food (1)", "no value (1)", "tool (2)", "tool (2)"]
        told = [f"Left out: 1 rows of {table}, of unknown items"]
        told.append("1 items have several groups: the first is taken")
        assert result.stderr.splitlines() == told
        # The first two columns.
        assert run("map", shop, *options).exit_code == 0
        assert groups == ["Tea (1)", *["no value (3)"] * 3]

    def test_many_numbers_are_numbers_in_text_too(self, tmp_path, groups, shop):
        labels = [f"item {number}" for number in range(40)]
        Embeddings(labels, np.random.default_rng(0).normal(size=(40, 3))).save(tmp_path / "many")
        table = tmp_path / "prices.csv"
        rows = [f"{label},{price}.5" for price, label in enumerate(labels)]
        table.write_text("\n".join(["item,price", *rows]))
        result = run("map", tmp_path / "many", "-o", tmp_path / "map.html", "--groups", table)
        assert result.exit_code == 0
        assert groups[:6] == ["0.5 to 4.5 (5)"] * 5 + ["5.5 to 9.5 (5)"]

    def test_fails(self, shop, tmp_path):
        table = tmp_path / "groups.csv"
        table.write_text("code,kind\nx,y\n")
        page = ["-o", tmp_path / "map.html"]
        assert_fails(run("map", shop), 2, "--output")
        assert_fails(run("map", shop, *page, "-n", 2), 2, "x>=3")
        assert_fails(run("map", shop, *page, "--item", "code"), 2, "give --groups FILE")
        assert_fails(run("map", shop, "-o", tmp_path / "a.svg"), 1, ".png or .html")
        assert_fails(run("map", shop, *page, "--groups", tmp_path / "no.csv"), 1, "no.csv")
        assert_fails(run("map", shop, *page, "--groups", table, "--group", "no"), 1, "'no'")
        result = run("map", shop, *page, "--groups", table)
        *told, error = result.stderr.splitlines()
        assert (result.exit_code, len(told)) == (1, 1)
        assert error == f"Error: {table}: holds none of the 4 items; look at --item"
        table.write_text("code,kind\ntea,y\n")
        picture = ["-o", tmp_path / "map.png", "--groups", table]
        assert_fails(run("map", shop, *picture), 1, "ends in .html")
        assert not (tmp_path / "map.html").exists()


class TestExample:
    def test_prints_neighbours(self, tmp_path):
        out = tmp_path / "model"
        result = run("train", "--example", "--seed=1", "--threads=1", "--quiet", "-o", out)
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

    def test_says_that_nothing_is_saved_without_a_folder(self):
        result = run("train", "--example", *QUICK, "--min-count", 1000)
        assert "\nsaved to  nothing: -o DIR keeps it\n" in result.stdout

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

    def test_other_spellings_are_hinted_at(self, tmp_path):
        Embeddings(["00007", "Tea", 42], np.eye(3)).save(tmp_path / "model")
        for word, label in {"7": "'00007'", "TEA": "'Tea'", "042": "42"}.items():
            told = f"'{word}' (close to it: {label}) is not among the 3 labels"
            assert_fails(run("similar", tmp_path / "model", word), 1, told)

    def test_no_model_but_something_else(self, text, tmp_path):
        pack_itemsets([["a", "b"]]).save(tmp_path / "itemsets")
        settings = {"vector_size": 4, "epochs": 0, "workers": 1, "device": "cpu"}
        classifier = SupervisedClassifier(**settings).fit([["red"], ["blue"]], [["a"], ["b"]])
        classifier.save(tmp_path / "classifier")
        train(unsupervised(), num_epoch=1, progress=False, checkpoint=tmp_path / "night")
        for command in (["similar", "red"], ["recommend", "red"], ["evaluate", text]):
            for folder, told in {
                "itemsets": "holds packed itemsets, and no model",
                "classifier": "holds a SupervisedClassifier",
                "night": "holds a checkpoint, and no model",
            }.items():
                result = run(command[0], tmp_path / folder, command[1])
                assert_fails(result, 1, tmp_path / folder, told)

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
    @pytest.mark.parametrize("arguments", [[], *([name] for name in cli.main.commands)])
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
        command = [
            *COMMAND,
            "train",
            text,
            "-o",
            out,
            *SAMPLED_FLAGS,
            "--epochs",
            "100000000",
            "--json",
        ]
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

    @pytest.mark.parametrize(("package", "extra"), [("click", "cli"), ("polars", "data")])
    def test_without_the_extra(self, package, extra, table, tmp_path):
        code = f"import sys; sys.modules[{package!r}] = None; {MAIN}"
        command = [sys.executable, "-c", code, "train", table, "-o", tmp_path / "model"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert f'pip install "itembed_gpu[{extra}]"' in result.stderr

    def test_a_closed_pipe_is_no_traceback(self, model):
        process = subprocess.Popen(
            [*COMMAND, "similar", model, "tea"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(timeout=60)
        process.stderr.close()
        assert b"Traceback" not in stderr


class TestData:
    def test_pack_then_train_is_to_train(self, table, tmp_path):
        columns = ["--itemset", "basket", "--item", "code"]
        result = run("pack", table, "-o", tmp_path / "data", *columns, "--json")
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        assert (report["items"], report["itemsets"], report["occurrences"]) == (4, 2, 36)
        assert report["rows_without_itemset"] == 9
        assert report["dropped"]["none_items"] == 9
        for source, name, more in ((table, "a", columns), (tmp_path / "data", "b", [])):
            result = run("train", source, "-o", tmp_path / name, *QUICK, "--seed", 7, *more)
            assert result.exit_code == 0, result.output
        one, two = (Embeddings.load(tmp_path / name) for name in "ab")
        assert list(one) == list(two)
        assert np.array_equal(one.vectors, two.vectors)

    def test_pack_says_what_it_left_out(self, text, tmp_path):
        result = run(
            "pack", text, "-o", tmp_path / "data", "--max-items", 2, "--duplicates", "drop"
        )
        assert result.exit_code == 0, result.output
        assert "dropped 5 rare labels (140 items)" in result.stdout
        assert "Packed 80 occurrences of 2 items in 40 itemsets" in result.stdout

    def test_pack_from_a_pattern(self, text, tmp_path):
        text.with_name("more.txt").write_text("tea cup\n")
        result = run("pack", tmp_path / "*.txt", "-o", tmp_path / "data", "--json")
        assert json.loads(result.stdout)["itemsets"] == 81

    @pytest.mark.parametrize(
        ("size", "memory"), [("1M", 1 << 20), ("1.5g", 3 << 29), ("2097152", 1 << 21)]
    )
    def test_pack_in_so_much_memory(self, table, tmp_path, monkeypatch, size, memory):
        given = []
        monkeypatch.setattr(spilling, "_fits", lambda *arguments: given.append(arguments[1]))
        columns = ["--itemset", "basket", "--item", "code"]
        result = run("pack", table, "-o", tmp_path / "data", *columns, "--memory", size)
        assert result.exit_code == 0, result.output
        assert "Packed 36 occurrences of 4 items in 2 itemsets" in result.stdout
        assert given == [memory]

    def test_a_memory_that_is_no_size(self, table, tmp_path):
        for size in ("much", "1X", "-1M"):
            result = run("pack", table, "-o", tmp_path / "data", "--memory", size)
            assert_fails(result, 2, "give one such as 500M")
        result = run("pack", table, "-o", tmp_path / "data", "--memory", "1K")
        assert_fails(result, 1, "memory is 1024")

    def test_verify(self, text, tmp_path):
        run("pack", text, "-o", tmp_path / "data")
        result = run("verify", tmp_path / "data")
        assert result.exit_code == 0
        assert result.stdout.endswith(" bytes, as they were saved\n")
        (path,) = (tmp_path / "data").glob("indices-*")
        path.write_bytes(path.read_bytes()[:-1] + b"\7")
        assert_fails(run("verify", tmp_path / "data"), 1, path, "were altered")
        assert_fails(run("train", tmp_path / "data", "-o", tmp_path / "m", *QUICK), 1, "altered")
        assert not (tmp_path / "m").exists()
        assert_fails(run("verify", tmp_path), 1, "name a folder that was saved")


class TestCheckpoint:
    @pytest.fixture(autouse=True)
    def usual_signals(self):
        """Ctrl-C as Python has it: in the background, shells have it ignored."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_goes_on_where_it_was(self, text, tmp_path, monkeypatch):
        common = [*QUICK, "--epochs", 4, "--json"]
        result = run("train", text, "-o", tmp_path / "whole", *common, "--seed", 5)
        assert result.exit_code == 0, result.output
        kept = [*common, "--checkpoint", tmp_path / "kept"]
        with monkeypatch.context() as patch:
            from itembed_gpu.training.checkpoints import Checkpoints

            write = Checkpoints.write

            def write_and_interrupt(self, place, **options):
                write(self, place, **options)
                if place.epoch == 2:
                    signal.raise_signal(signal.SIGINT)

            patch.setattr(Checkpoints, "write", write_and_interrupt)
            result = run("train", text, "-o", tmp_path / "part", *kept, "--seed", 5)
        assert result.exit_code == cli.INTERRUPTED, result.output
        assert_fails(run("train", text, "-o", tmp_path / "x", *kept, "--seed", 5), 1, "--resume")
        # The seed is that of the checkpoint.
        result = run("train", text, "-o", tmp_path / "resumed", *kept, "--resume")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["settings"]["seed"] == 5
        one, two = (Embeddings.load(tmp_path / name) for name in ("whole", "resumed"))
        assert np.array_equal(one.vectors, two.vectors)

    def test_resume_needs_a_folder(self, text, tmp_path):
        result = run("train", text, "-o", tmp_path / "m", "--resume")
        assert_fails(result, 2, "--resume needs --checkpoint DIR")

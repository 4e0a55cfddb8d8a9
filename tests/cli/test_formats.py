"""Formats of the field, from the command line: what is read, asked and told, and labels."""

import json

import pytest
from interpreted import interpret
from test_cli import QUICK, assert_fails, run

from itembed_gpu.models.classifier import SupervisedClassifier
from itembed_gpu.models.embeddings import Embeddings

TEACHES = ["--dim=4", "--threads=1", "--seed=1", "--device=cpu", "--quiet"]
TEACHES += ["--loss=negative-sampling"]


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "shop.txt"
    path.write_text("__label__tea green leaf\n__label__cup white china\n" * 20)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    interpret(monkeypatch)


def test_what_was_recognised_is_told(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("".join(f"{user} {user % 7} {user % 5 + 7}\n" for user in range(50)))
    loud = [option for option in QUICK if option != "--quiet"]
    result = run("train", path, "-o", tmp_path / "model", *loud)
    assert result.exit_code == 0, result.output
    told = "read as LightGCN: the first number of each line is the itemset"
    assert f"Read {path}; {told}\n" in result.stderr
    assert told in result.stdout
    assert len(Embeddings.load(tmp_path / "model")) == 12


def test_a_question_is_answered_by_its_option(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("tea,cup\nsaw,nail,hammer\ntea\ncup,tea\nnail,saw\n" * 4)
    options = ["-o", tmp_path / "model", *QUICK]
    assert_fails(run("train", path, *options), 1, "give format='arules' (--format arules)")
    assert run("train", path, *options, "--format", "arules").exit_code == 0
    assert sorted(Embeddings.load(tmp_path / "model")) == ["cup", "hammer", "nail", "saw", "tea"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_doubt_is_a_line_and_no_error(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("order,kind\n" + "".join(f"{n // 2},NA\n" for n in range(200)))
    result = run("train", path, "-o", tmp_path / "model", *QUICK)
    assert result.stderr.splitlines()[0].startswith(f"Warning: {path} (itemset column 'order'")
    assert "every item is 'NA'" in result.stderr


def test_itemsets_of_one_item_are_asked_about(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("order_id,user_id\n" + "".join(f"{n},{n % 9}\n" for n in range(60)))
    for command in ("train", "pack"):
        result = run(command, path, "-o", tmp_path / "out")
        assert_fails(result, 1, "no itemset has two items: are the itemset and the item column")


def test_limits_of_training(tmp_path):
    path = tmp_path / "shop.txt"
    path.write_text("tea cup pot tea\nsaw nail\n" * 20 + "tea cup pot saw nail\n")
    options = ["--max-items", 4, "--max-length", 2, "--duplicates", "drop"]
    result = run("train", path, "-o", tmp_path / "model", *QUICK, "--json", *options)
    assert result.exit_code == 0, result.output
    dropped = json.loads(result.stdout)["dropped"]
    assert dropped["duplicate_items"] == 20
    assert dropped["rare_labels"] == 1
    assert dropped["long_itemsets"] == 21
    assert_fails(run("train", "--example", "--max-items", 5), 2, "--example has its own data")


def test_labels_are_learnt_measured_and_predicted(examples, tmp_path):
    model = tmp_path / "model"
    assert_fails(run("train", examples, "-o", model, *QUICK), 1, examples, "train-labels")
    result = run("train-labels", examples, "-o", model, *TEACHES, "--evaluate", 0.25)
    assert result.exit_code == 0, result.output
    assert "trained   30 of 40 examples, 4 features, 2 labels, 25 epochs" in result.stdout
    assert "held out  10 examples" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        f"{'classifier':22}  1.0000  0.3333  0.2000",
        f"{'most frequent labels':22}  0.5000  0.3333  0.2000",
    ]
    assert SupervisedClassifier.load(model).vector_size == 4
    result = run("predict", model, "a green leaf", "-n", 1)
    probability, label = result.stdout.split()
    assert label == "tea"
    assert float(probability) > 0.5
    assert result.stderr == "Left out: 1 of 3 features, which are unknown\n"
    lines = run("predict", model, "--file", examples, "-n", 2).stdout.splitlines()
    assert lines == ["tea\tcup", "cup\ttea"] * 20
    found = json.loads(run("predict", model, "china", "--json").stdout)
    assert [entry["label"] for entry in found] == ["cup", "tea"]


def test_a_report_of_labels(examples, tmp_path):
    options = [*TEACHES, "--evaluate", 0.5, "--epochs", 3, "--json"]
    result = run("train-labels", examples, "-o", tmp_path / "model", *options)
    report = json.loads(result.stdout)
    assert (report["examples"], report["trained_on"], report["epochs"]) == (40, 20, 3)
    assert report["evaluation"]["most_frequent_labels"]["precision@1"] == 0.5
    assert report["evaluation"]["held_out"] == 20
    assert "read as fastText" in report["source"]


def test_labels_below_the_most_frequent_are_told(tmp_path):
    path = tmp_path / "changed.txt"
    lines = ["__label__tea leaf"] * 10 + ["__label__cup china"] * 20 + ["__label__cup leaf"] * 10
    path.write_text("\n".join(lines))
    result = run("train-labels", path, "-o", tmp_path / "m", *TEACHES, "--evaluate", 0.25)
    told = "Warning: precision@1 is 0.0000, and 1.0000 by the most frequent labels alone"
    assert result.stderr.startswith(told)


def test_what_cannot_be_learnt_is_told_first(examples, tmp_path):
    out = tmp_path / "model"
    assert_fails(run("train-labels", tmp_path / "none", "-o", out, *TEACHES), 1, "No such file")
    assert_fails(run("train-labels", examples, "-o", examples, *TEACHES), 1, examples)
    assert_fails(run("train-labels", examples, "-o", out, "--epochs", -1), 2, "epochs")
    assert_fails(
        run("train-labels", examples, "-o", out, "--evaluate", 0.001, *TEACHES), 1, "0 of 40"
    )
    assert_fails(run("predict", out, "tea"), 1, out)
    assert_fails(run("predict", out), 2, "give FEATUREs, or a --file")
    assert not out.exists()

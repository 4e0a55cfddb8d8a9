"""What `train --model` trains: as the classes do, and with options of their own."""

import json

import numpy as np
import pytest
from interpreted import interpret
from test_cli import assert_fails, cli_options, run

from itembed_gpu import Embeddings, GloVe

LINES = "tea cup pot\ncup tea\nsaw nail\nnail saw hammer tea\nalone\n" * 6
FLAGS = "--model=glove", "--dim=4", "--epochs=2", "--seed=3", "--device=cpu", "--threads=1"


@pytest.fixture
def text(tmp_path, monkeypatch):
    interpret(monkeypatch)
    path = tmp_path / "baskets.txt"
    path.write_text(LINES)
    return path


def test_glove_is_trained_as_by_its_class(text, tmp_path):
    out = tmp_path / "model"
    result = run("train", text, "-o", out, *FLAGS, "--x-max=5", "--window=1", "--json", "-q")
    report = json.loads(result.stdout)
    itemsets = [line.split() for line in LINES.splitlines()]
    model = GloVe(4, 2, seed=3, device="cpu", workers=1, x_max=5, window=1).fit(itemsets)
    loaded = GloVe.load(out)
    np.testing.assert_array_equal(loaded.embeddings_.vectors, model.embeddings_.vectors)
    assert loaded.get_params() == {**model.get_params(), "device": "auto", "workers": None}
    assert report["chosen"] == {"min_alpha": 0.05}
    assert report["settings"]["learning_rate"] == 0.05
    # Other commands take the folder for what it is.
    found = json.loads(run("similar", out, "tea", "-n", 2, "--json").stdout)
    labels, _ = model.similar_items("tea", 2)
    assert [near["item"] for near in found[0]["similar"]] == labels.tolist()
    run("export", out, tmp_path / "vectors.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), loaded.embeddings_.vectors)
    assert Embeddings.load(out).labels == model.labels_
    assert_fails(run("recommend", out, "tea"), 1, "holds a 'GloVe', not a Item2Vec")


def test_a_checkpoint_of_glove_goes_on(text, tmp_path):
    for more in ((), ("--resume",)):
        result = run(
            "train", text, "-o", tmp_path / "m", *FLAGS, "-q", "--checkpoint", tmp_path / "c", *more
        )
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model=glove", "--negative=3"), "--negative is no option of --model glove"),
        (("--model=glove", "--schedule=cosine"), "--schedule is no option of --model glove"),
        (("--x-max=3",), "--x-max is no option of --model item2vec"),
        (("--model=glove", "--evaluate"), "--evaluate needs --model item2vec"),
        (("--model=glove", "--tune=9"), "--tune needs --model item2vec"),
        (("--model=glove", "--x-max=0"), "x_max is 0.0; pass a number above 0"),
        (("--model=glove", "--window=2", "--weighting=itemsets"), "leave one of them out"),
        (("--model=word2vec",), "'word2vec' is not one of 'item2vec', 'glove'"),
    ],
)
def test_what_means_nothing_to_a_model_is_refused(tmp_path, flags, words):
    assert_fails(run("train", tmp_path / "none.txt", "-o", tmp_path / "m", *flags), 2, words)
    assert not (tmp_path / "m").exists()


def test_help_says_whose_options_are():
    shown = " ".join(run("train", "--help").stdout.split())
    for text in ("[chosen by the data; glove 25; doc2vec 10]", "[of glove: 100]", "[item2vec]"):
        assert text in shown
    for model in cli_options.MODELS.values():
        assert set(model.defaults) <= set(cli_options.ALL)

"""Pictures: what is on them, and that they are written whole or not at all."""

import logging
import math
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from samples import CountingTask, unsupervised

from itembed_gpu import Embeddings, InputError, MissingExtraError, train
from itembed_gpu.models import plots
from itembed_gpu.models.plots import plot_history, plot_map
from itembed_gpu.training.loop import EpochRecord, History


def size_of(path):
    """Width and height of a PNG file, which is checked to be one."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", data[16:24])


def history_of(*losses, **metrics):
    return History(
        [
            EpochRecord(
                epoch, loss, 10, 0.1, 0.025, metrics={n: v[epoch] for n, v in metrics.items()}
            )
            for epoch, loss in enumerate(losses)
        ]
    )


def embeddings_of(labels, seed=0, **options):
    vectors = np.random.default_rng(seed).normal(size=(len(labels), 8))
    return Embeddings(list(labels), vectors, **options)


@pytest.fixture
def texts(monkeypatch):
    """Every text of the figures that are written."""
    from matplotlib.text import Text

    found = []
    write = plots._write

    def noted(figure, path):
        found.extend(text.get_text() for text in figure.findobj(Text))
        write(figure, path)

    monkeypatch.setattr(plots, "_write", noted)
    return found


# --- the history ------------------------------------------------------------


def test_the_loss_and_each_metric_have_a_panel(tmp_path, texts):
    path = tmp_path / "history.png"
    plot_history(train(unsupervised(), num_epoch=3, progress=False), path)
    assert size_of(path) == (1050, 480)
    assert "loss" in texts
    plot_history(history_of(3, 2, 1, hits=[0.1, math.nan, 0.3], cost=[5, 6, 7]), path)
    assert size_of(path) == (1050, 1140)
    assert {"loss", "hits", "cost", "epochs trained"} <= set(texts)


def test_what_a_task_does_not_tell_has_no_panel(tmp_path, texts):
    path = tmp_path / "history.png"
    plot_history(history_of(math.nan, math.nan, hits=[1, 2], none=[math.nan, math.inf]), path)
    assert size_of(path) == (1050, 480)
    assert "hits" in texts
    assert not {"loss", "none"} & set(texts)


def test_a_history_without_numbers_is_refused(tmp_path):
    path = tmp_path / "history.png"
    for history in (History(), train(CountingTask(2), num_epoch=2, progress=False)):
        with pytest.raises(InputError, match="epochs with neither a loss nor a metric"):
            plot_history(history, path)
    assert os.listdir(tmp_path) == []


def test_one_epoch_and_names_with_formulas_are_drawn(tmp_path, texts):
    name = r"$\frac{" + "long" * 20
    plot_history(history_of(2.0, **{name: [1]}), tmp_path / "history.png")
    assert [text for text in texts if text.startswith(r"$\frac{long") and len(text) == 40]


# --- the map ----------------------------------------------------------------


def test_a_map_shows_the_most_frequent_items(tmp_path, texts):
    labels = [f"item {number}" for number in range(50)]
    path = tmp_path / "map.png"
    drawn = plot_map(embeddings_of(labels, counts=np.arange(50)), path, 20)
    assert size_of(path) == (2100, 1500)
    assert drawn.labels == labels[:29:-1]
    assert drawn.points.shape == (20, 2)
    assert drawn.hidden == []
    assert set(labels[30:]) <= set(texts)
    assert not set(labels[:30]) & set(texts)
    assert "20 of 50 items, the most frequent" in texts


def test_without_counts_it_shows_the_first_items(tmp_path, texts):
    drawn = plot_map(embeddings_of(list(range(9))), tmp_path / "map.png", 5)
    assert drawn.labels == [0, 1, 2, 3, 4]
    assert "5 of 9 items" in texts
    assert len(plot_map(embeddings_of([1, 2, 3]), tmp_path / "map.png").labels) == 3


def test_the_same_embeddings_give_the_same_map(tmp_path):
    embeddings = embeddings_of(list(range(40)))
    first, second = (plot_map(embeddings, tmp_path / name) for name in ("a.png", "b.png"))
    assert np.array_equal(first.points, second.points)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_items_of_a_cluster_lie_together(tmp_path):
    generator = np.random.default_rng(0)
    clusters = np.arange(200) % 20
    lengths = generator.uniform(0.1, 10, (200, 1))  # which do not matter
    centres = generator.normal(size=(20, 8))
    vectors = (centres[clusters] + 0.3 * generator.normal(size=(200, 8))) * lengths
    points = plot_map(Embeddings(range(200), vectors), tmp_path / "map.png").points
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :5]
    assert np.mean(clusters[nearest] == clusters[:, None]) > 0.95


@pytest.mark.parametrize("vectors", [np.ones((5, 8)), np.zeros((5, 8)), [[1], [-1], [2], [0]]])
def test_vectors_that_span_no_plane_are_drawn(tmp_path, vectors):
    drawn = plot_map(Embeddings(range(len(vectors)), vectors), tmp_path / "map.png")
    assert np.isfinite(drawn.points).all()


def test_labels_that_find_no_room_are_hidden_and_counted(tmp_path, texts, monkeypatch):
    # All in one point, and more of them than there are places around it.
    monkeypatch.setattr(plots, "_project", lambda vectors: np.zeros((len(vectors), 2)))
    labels = [f"a label of some length {number}" for number in range(150)]
    drawn = plot_map(embeddings_of(labels), tmp_path / "map.png")
    shown = set(texts) & set(labels)
    assert labels[0] in shown
    assert set(drawn.hidden) == set(labels) - shown
    assert 10 < len(shown) < 150
    assert f"150 of 150 items; {len(drawn.hidden)} points have no label, for want of room" in texts


def test_labels_do_not_overlap(tmp_path, monkeypatch):
    boxes = []
    choose = plots._choose_box

    def noted(around, page, placed, points):
        boxes[:] = placed
        return choose(around, page, placed, points)

    monkeypatch.setattr(plots, "_choose_box", noted)
    plot_map(embeddings_of([f"item {number}" for number in range(200)]), tmp_path / "map.png")
    assert len(boxes) > 100
    overlap = plots._overlap(np.array(boxes), np.array(boxes))
    assert overlap.sum() == len(boxes)  # each with itself
    assert (np.array(boxes) >= 0).all()
    assert (np.array(boxes) <= [2100, 1500, 2100, 1500]).all()


def test_labels_are_cut_and_put_in_one_line(tmp_path, texts):
    labels = ["a\nb\tc", "x" * 100, "costs $5 or $6", ("tuple", 1)]
    drawn = plot_map(embeddings_of(labels), tmp_path / "map.png")
    assert {"a b c", "x" * 27 + "…", "costs $5 or $6", "('tuple', 1)"} <= set(texts)
    assert drawn.labels == labels


def test_characters_that_the_font_lacks_are_told(tmp_path, texts, caplog):
    with caplog.at_level(logging.WARNING, logger="itembed_gpu"):
        plot_map(embeddings_of(["緑茶", "green tea", "\ud800"]), tmp_path / "map.png")
    assert {"□□", "green tea", "□"} <= set(texts)
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("the font DejaVu Sans lacks 3 characters of the labels, such as '")
    with pytest.raises(InputError, match="font is 'No Such Font', which is not installed"):
        plot_map(embeddings_of("abc"), tmp_path / "map.png", font="No Such Font")
    plot_map(embeddings_of("abc"), tmp_path / "map.png", font="DejaVu Serif")


@pytest.mark.parametrize("n", [2, 0, 2.5, "all"])
def test_a_map_takes_three_items(tmp_path, n):
    with pytest.raises(InputError, match=r"n is .*; pass an integer of at least 3"):
        plot_map(embeddings_of("abcd"), tmp_path / "map.png", n)
    with pytest.raises(InputError, match="embeddings has 2 items; pass at least 3"):
        plot_map(embeddings_of("ab"), tmp_path / "map.png")


def test_vectors_that_diverged_are_refused(tmp_path):
    embeddings = embeddings_of("abcd")
    embeddings.vectors[2, 3] = np.nan  # trained on in place
    with pytest.raises(InputError, match="embeddings has vectors that are not finite"):
        plot_map(embeddings, tmp_path / "map.png")


# --- files ------------------------------------------------------------------

DRAW = {
    "history": lambda path: plot_history(history_of(2, 1), path),
    "map": lambda path: plot_map(embeddings_of("abcd"), path),
}


@pytest.fixture(params=DRAW)
def draw(request):
    return DRAW[request.param]


def test_pictures_are_shown_by_notebooks_and_written_if_asked(tmp_path, draw, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = draw(None)
    assert os.listdir(tmp_path) == []
    figure = getattr(drawn, "figure", drawn)
    assert isinstance(figure, Figure)
    assert drawn._repr_png_() == figure._repr_png_()
    written = draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == drawn._repr_png_() == written._repr_png_()
    copy = pickle.loads(pickle.dumps(figure))
    assert copy._repr_png_() == drawn._repr_png_()


def test_paths_that_cannot_be_written_are_told_before_drawing(tmp_path, draw, monkeypatch):
    monkeypatch.setattr(plots, "_figure", None)
    with pytest.raises(InputError, match=r"path: there is no folder '.*missing'"):
        draw(tmp_path / "missing" / "a.png")
    with pytest.raises(
        InputError, match=r"path is '.*a\.svg'; pass the name of a \.png (or \.html )?file"
    ):
        draw(str(tmp_path / "a.svg"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)  # as one who is not root has it
        with pytest.raises(InputError, match=r"path: the folder '.*' is not writable; use another"):
            draw(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"path: '.*folder\.png' is a folder"):
        draw(tmp_path / "folder.png")


def test_pictures_are_replaced_as_a_whole(tmp_path, draw, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            draw(path)
    assert path.read_bytes() == b"old"
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", full)
        with pytest.raises(OSError, match="No space left"):
            draw(path)
    assert path.read_bytes() == b"old"
    draw(path)
    assert size_of(path)
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("library", ["matplotlib", "sklearn"])
def test_the_libraries_are_an_extra(tmp_path, monkeypatch, library):
    for name in list(sys.modules):
        if name.split(".")[0] == library:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "itembed_gpu.models.picture", raising=False)
    told = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}[library]
    with pytest.raises(MissingExtraError, match=rf'{told}: pip install "itembed_gpu\[plot\]"'):
        DRAW["map"](tmp_path / "a.png")
    if library == "matplotlib":
        with pytest.raises(MissingExtraError, match=told):
            DRAW["history"](tmp_path / "a.png")
    else:
        DRAW["history"](tmp_path / "a.png")


def test_pyplot_is_left_alone(tmp_path):
    script = f"""
import sys
from itembed_gpu.models import plots
assert "matplotlib" not in sys.modules
from itembed_gpu.training.loop import EpochRecord, History
plots.plot_history(History([EpochRecord(0, 1.0, 1, 1.0, 1.0)]), {str(tmp_path / "a.png")!r})
print("matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr

"""Maps for browsers: what is packed in them, that no label can be HTML, and what Chromium shows."""

import base64
import gzip
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest

from benchmarks.common import browser
from itembed_gpu import Embeddings, InputError, MissingExtraError, plot_map
from itembed_gpu.models import groups as grouping, web_map
from itembed_gpu.models.groups import cluster, group_by

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "<b>bold</b>", "</script><i>out</i>", "<!-- <script>", "\" onclick='x' &amp; `${labels}`",
    "\N{MATHEMATICAL SCRIPT CAPITAL X} \N{GRINNING FACE} 緑茶", "\ud800", "a\nb", "", "__proto__",
]  # fmt: skip


def data_of(path):
    """What is packed in a page."""
    text = path.read_text(encoding="utf-8")
    packed = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    raw = {
        name: gzip.decompress(base64.b64decode(value)) for name, value in json.loads(packed).items()
    }
    texts = json.loads(raw["texts"])
    num_item = len(texts["labels"])
    return texts | {
        "points": np.frombuffer(raw["points"], "<f4").reshape(num_item, 2),
        "group": np.frombuffer(raw["group"], "u1"),
        "neighbours": np.frombuffer(raw["neighbours"], "<i4").reshape(num_item, -1),
        "cosines": np.frombuffer(raw["cosines"], "i1").reshape(num_item, -1),
    }


def clustered(labels, num_cluster=4, **options):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(num_cluster, 8))
    vectors = centres[np.arange(len(labels)) % num_cluster]
    vectors = vectors + 0.3 * generator.normal(size=vectors.shape)
    return Embeddings(labels, vectors * generator.uniform(0.1, 9, (len(labels), 1)), **options)


LABELS = HOSTILE + [f"item {number}" for number in range(len(HOSTILE), 79)]
LABELS.append("\N{GRINNING FACE}" * 500)
EMBEDDINGS = clustered(LABELS)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    drawn = plot_map(EMBEDDINGS, path)
    assert (drawn.labels, drawn.hidden, drawn.figure) == (LABELS, [], None)
    assert drawn.points.shape == (80, 2)
    assert drawn._repr_png_() is None
    return path


@pytest.fixture
def at_once(monkeypatch):
    """t-SNE is left out, where it does not matter."""
    monkeypatch.setattr(web_map, "lay_out", lambda unit, rows, cosines: np.eye(len(unit), 2))


# --- what is in a page ------------------------------------------------------


def test_neighbours_are_those_of_similar(page):
    data = data_of(page)
    assert data["labels"] == LABELS
    for row, found in enumerate(EMBEDDINGS.similar(LABELS, 10)):
        assert [LABELS[other] for other in data["neighbours"][row]] == [label for label, _ in found]
        assert np.allclose(data["cosines"][row] / 100, [c for _, c in found], atol=0.0051)


def test_items_of_a_cluster_lie_together_and_have_a_colour(page):
    data = data_of(page)
    distances = np.linalg.norm(data["points"][:, None] - data["points"], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :5]
    cluster_of = np.arange(80) % 4
    assert np.mean(cluster_of[nearest] == cluster_of[:, None]) > 0.95
    assert np.ptp(data["points"], axis=0).max() == pytest.approx(1)
    # Of more clusters than there are, each lies in one.
    assert len(data["groups"]) == len(data["colours"]) == data["group"].max() + 1 == 16
    for number in range(16):
        assert len(set(cluster_of[data["group"] == number])) == 1


def test_labels_are_nowhere_but_in_the_packed_data(page, tmp_path, at_once):
    path = tmp_path / "map.html"
    plot_map(clustered(list(range(30))), path)
    parts = [p.read_text(encoding="utf-8").split(' id="data">') for p in (page, path)]
    (head, tail), (other_head, other_tail) = parts
    assert head == other_head
    end = tail.index("</script>")
    assert tail[end:] == other_tail[other_tail.index("</script>") :]
    assert set(tail[:end]) <= set('{}":, +/=_') | set(map(chr, range(48, 123)))
    assert "http://" not in head.replace("http://www.w3.org", "")  # names of SVG and VML


def test_the_same_embeddings_give_the_same_page(page, tmp_path):
    plot_map(EMBEDDINGS, tmp_path / "map.html")
    assert (tmp_path / "map.html").read_bytes() == page.read_bytes()


def test_the_most_frequent_items_come_first(tmp_path, at_once, monkeypatch):
    path = tmp_path / "MAP.HTML"
    embeddings = clustered(list(range(50)), counts=np.arange(50))
    assert plot_map(embeddings, path, 20).labels == list(range(49, 29, -1))
    data = data_of(path)
    assert data["labels"] == [str(label) for label in range(49, 29, -1)]
    assert data["note"] == "20 of 50 items, the most frequent"
    # By default, as many as can be laid out in minutes.
    monkeypatch.setattr("itembed_gpu.models.plots.NUM_IN_PAGE", 30)
    plot_map(clustered(list(range(50))), path)
    assert data_of(path)["note"] == "30 of 50 items"


@pytest.mark.parametrize("vectors", [np.ones((5, 8)), np.zeros((3, 8)), [[1], [-1], [2], [0]]])
def test_vectors_that_span_no_plane_are_drawn(tmp_path, vectors):
    drawn = plot_map(Embeddings(range(len(vectors)), vectors), tmp_path / "map.html")
    assert np.isfinite(drawn.points).all()
    data = data_of(tmp_path / "map.html")
    assert np.abs(data["points"]).max() <= 0.5
    assert data["neighbours"].shape == (len(vectors), len(vectors) - 1)


# --- groups -----------------------------------------------------------------


@pytest.mark.parametrize("form", [list, np.array, polars.Series, pandas.Series, "dict"])
def test_colours_tell_what_the_caller_says(tmp_path, at_once, form):
    embeddings = clustered(list("abcdef"), counts=[1, 2, 3, 4, 5, 6])
    values = ["tea", "cup", "tea", "cup", "tea", "saw"]
    given = dict(zip("abcdef", values, strict=True)) if form == "dict" else form(values)
    plot_map(embeddings, tmp_path / "map.html", groups=given)
    data = data_of(tmp_path / "map.html")
    assert data["by"] == "Group"
    assert data["groups"] == ["tea (3)", "cup (2)", "saw (1)"]
    assert data["labels"] == list("fedcba")
    assert data["group"].tolist() == [2, 0, 1, 0, 1, 0]
    assert len(set(data["colours"])) == 3


def test_many_values_and_missing_ones_are_counted():
    # The first value stands three times.
    found = group_by([0.5, 0.5, *(f"v{number}" for number in range(24)), None, np.nan, 0.5])
    assert len(found.names) == len(found.colours) == 22
    assert found.names[0] == "0.5 (3)"
    assert found.names[20:] == ["5 other values (5)", "no value (2)"]
    assert found.colours[20:] == [grouping.GREY] * 2
    assert found.numbers.tolist() == [0, 0, *range(1, 20), *[20] * 5, 21, 21, 0]


def test_many_numbers_are_ranges_of_as_many_items():
    found = group_by([*range(80), None, np.nan])
    assert found.by == "Range"
    assert found.names[:2] == ["0 to 9 (10)", "10 to 19 (10)"]
    assert found.names[7:] == ["70 to 79 (10)", "no value (2)"]
    assert found.numbers.tolist() == [number // 10 for number in range(80)] + [8, 8]
    # Most are equal, so that there are fewer ranges.
    assert len(group_by([0.0] * 500 + [float(number) for number in range(30)]).names) == 2
    assert group_by([1, 2, 2]).names == ["2 (2)", "1 (1)"]
    # Of integers that are no floats, each is a value.
    assert group_by([10**400 + number for number in range(30)]).names[20] == "10 other values (10)"


def test_clusters_are_named_after_their_first_items():
    unit = np.repeat(np.eye(2, 4, dtype=np.float32), [3, 7], axis=0)
    found = cluster(unit, ["cup", "a  long " + "x" * 50, "pot", *range(7)])
    assert found.names == ["0, 1, … (7)", "cup, a long " + "x" * 20 + "…, … (3)"]
    assert found.numbers.tolist() == [1] * 3 + [0] * 7


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["x"] * 5, "groups has 5 values for 4 items; pass one for each, in the order"),
        ({"y": 1}, "groups: none of its 1 labels is one of embeddings; pass {label: group"),
        ("tea", "groups is 'tea'; pass one value an item, or a dict"),
        ({1, 2, 3, 4}, "groups is {1, 2, 3, 4}; pass one value an item, or a dict"),
        (3, "groups is 3; pass one value an item, or a dict"),
        ([None] * 4, "groups: all values are missing; pass some, or None for clusters"),
        ([[1]] * 4, "groups: unhashable type: 'list'; pass values such as strings or numbers"),
    ],
)
def test_groups_that_say_nothing_are_refused(tmp_path, groups, message):
    with pytest.raises(InputError, match=message):
        plot_map(clustered(list("abcd")), tmp_path / "map.html", groups=groups)
    assert os.listdir(tmp_path) == []


# --- files ------------------------------------------------------------------


def test_what_is_of_pictures_alone_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"font is 'x', which is of pictures; leave it out"):
        plot_map(EMBEDDINGS, tmp_path / "map.html", font="x")
    for path in (None, tmp_path / "map.png"):
        with pytest.raises(InputError, match=r"pass a path that ends in \.html"):
            plot_map(EMBEDDINGS, path, groups=[1] * 80)
    with pytest.raises(InputError, match=r"n is 2; pass an integer of at least 3"):
        plot_map(EMBEDDINGS, tmp_path / "map.html", 2)
    with pytest.raises(InputError, match=r"a\.svg'; pass the name of a \.png or \.html file"):
        plot_map(EMBEDDINGS, tmp_path / "a.svg")
    assert os.listdir(tmp_path) == []


def test_a_page_is_replaced_as_a_whole(tmp_path, at_once, monkeypatch):
    path = tmp_path / "map.html"
    path.write_bytes(b"old")

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            plot_map(EMBEDDINGS, path)
    assert path.read_bytes() == b"old"
    plot_map(EMBEDDINGS, path)
    assert data_of(path)["labels"] == LABELS
    assert os.listdir(tmp_path) == ["map.html"]


def test_t_sne_is_an_extra_and_matplotlib_is_not_needed(tmp_path, monkeypatch, at_once):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    plot_map(EMBEDDINGS, tmp_path / "map.html")
    # What is missing is told before anything is computed.
    monkeypatch.setattr(web_map, "_neighbours", None)
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(MissingExtraError, match=r'openTSNE: pip install "itembed_gpu\[map\]"'):
        plot_map(EMBEDDINGS, tmp_path / "other.html")
    assert os.listdir(tmp_path) == ["map.html"]


def test_leaflet_is_as_published():
    folder = ROOT / "itembed_gpu" / "models" / "page" / "leaflet"
    text = (folder / "leaflet.js").read_text(encoding="utf-8")
    assert "Leaflet 1.9.4" in text
    assert "BSD 2-Clause License" in (folder / "LICENSE").read_text(encoding="utf-8")


# --- in Chromium ------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(page):
    pytest.importorskip("selenium", reason=browser.HOW)
    if browser.chromium() is None:
        pytest.skip(browser.HOW)
    with browser.browsing() as driver:
        browser.open_page(driver, page, "performance.getEntriesByName('map-drawn').length")
        yield driver


def until(condition, seconds=20):
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def texts_of(driver, selector):
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
    )


def search(driver, text):
    script = "const s = document.getElementById('search'); s.value = arguments[0];"
    driver.execute_script(script + "s.dispatchEvent(new Event('input'))", text)
    return texts_of(driver, "#found li")


def choose(driver, text):
    search(driver, text)
    driver.find_element("css selector", "#found button").click()
    until(lambda: texts_of(driver, "#label") == [text])


def test_a_page_opens_with_no_network_and_no_error(chromium):
    assert texts_of(chromium, "#told") == [""]
    assert texts_of(chromium, "#note") == ["80 of 80 items"]
    # One has half a character, which the driver does not take.
    assert chromium.execute_script("return document.querySelectorAll('#legend li').length") == 16
    # Something is drawn in the tiles.
    drawn = """return [...document.querySelectorAll('#map canvas')].some((canvas) =>
        canvas.getContext('2d').getImageData(0, 0, 256, 256).data.some((x) => x < 255))"""
    assert chromium.execute_script(drawn)
    assert chromium.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_search_finds_items_and_tells_how_many(chromium):
    assert search(chromium, "ITEM 7") == [
        "item 70",
        "item 71",
        *[f"item {n}" for n in range(72, 79)],
    ]
    assert texts_of(chromium, "#told") == ["9 found"]
    assert search(chromium, "item 12") == ["item 12"]
    assert search(chromium, "no such") == []
    assert texts_of(chromium, "#told") == ["0 found"]
    assert len(search(chromium, "item")) == 50
    assert texts_of(chromium, "#told") == ["70 found; the first 50 are shown"]


def test_a_click_shows_the_neighbours(chromium):
    choose(chromium, "item 12")
    near = [label for label, _ in EMBEDDINGS.similar("item 12", 10)]
    assert texts_of(chromium, "#neighbours li span") == near
    # A neighbour, where it is marked on the map.
    place = partial(
        chromium.execute_script,
        "const r = document.querySelector('path.neighbour').getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2]",
    )
    before = None
    while before != (before := place()):  # until the map stands still
        time.sleep(0.3)
    browser.click(chromium, *before)
    until(lambda: texts_of(chromium, "#label") != ["item 12"])
    (label,) = texts_of(chromium, "#label")
    assert label in near
    found = EMBEDDINGS.similar(label, 10)
    assert texts_of(chromium, "#neighbours li span") == [other for other, _ in found]
    shown = [float(text) for text in texts_of(chromium, "#neighbours data")]
    assert np.allclose(shown, [cosine for _, cosine in found], atol=0.0051)


def test_labels_show_as_text(chromium):
    for label in (
        "<b>bold</b>",
        "</script><i>out</i>",
        "\N{MATHEMATICAL SCRIPT CAPITAL X} \N{GRINNING FACE} 緑茶",
        "__proto__",
    ):
        choose(chromium, label)
    assert (
        chromium.execute_script("return document.querySelectorAll('b, #map i, h1 *').length") == 0
    )


def test_a_long_label_is_cut_in_lists_alone(chromium):
    smile = "\N{GRINNING FACE}"
    found = search(chromium, smile)
    # What begins so comes first.
    assert found == [smile * 119 + "…", HOSTILE[4]]
    chromium.find_element("css selector", "#found button").click()
    until(lambda: texts_of(chromium, "#label") == [smile * 500])


def test_the_map_moves_when_it_is_dragged(chromium):
    place = "return document.querySelector('.leaflet-map-pane').getBoundingClientRect().x"
    before = chromium.execute_script(place)
    assert len(browser.drag(chromium, 10)) > 1
    until(lambda: chromium.execute_script(place) < before - 20)

"""The map for browsers of a large catalog: what it takes to make, to open and to pan.

    python -m benchmarks.map                     # minutes, most of them t-SNE
    python -m benchmarks.map --items 5000 --peers bokeh plotly

The catalog is synthetic: vectors around centres, which lie around others. Chromium runs headless,
and without a GPU unless the machine has one: all is drawn by the processor. It opens the page
several times, and drags it at three zooms; a frame is the time between two calls of
``requestAnimationFrame``, of which some find nothing to do where others take long, so that the
longest ones tell. Peers draw the same points, by WebGL, for ``pip install bokeh plotly``.
Pages are kept with ``--keep``, and what lies there is measured again instead of made. Writes
``map.md`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import browser
from benchmarks.common.machine import machine
from benchmarks.common.report import Target, make_parser, page, say, table, tick, write_whole
from itembed_gpu import Embeddings, plot_map

TARGETS = {
    "file, MB": Target("<=", 15),
    "first frame, s": Target("<=", 3),
    "95 % of frames while panning, ms": Target("<=", 50),
}
WORDS = (
    ("green", "blue", "small", "large", "vintage", "wooden", "paper", "glass"),
    ("tea", "cup", "lantern", "box", "holder", "frame", "clock", "bag"),
)
ZOOMS = 3
STEPS = 60
PEER_STEPS = 6  # which take seconds each
DRAWN = "performance.getEntriesByName('map-drawn').length"


def catalog(num_item: int, dim: int) -> tuple[list[str], np.ndarray]:
    """Labels, and vectors of some hundred items around each centre."""
    generator = np.random.default_rng(0)
    num_centre = max(1, num_item // 100)
    centres = generator.normal(size=(30, dim))[generator.integers(0, 30, num_centre)]
    centres += 0.7 * generator.normal(size=centres.shape)
    vectors = centres[generator.integers(0, num_centre, num_item)]
    vectors += 0.7 * generator.normal(size=vectors.shape)
    labels = [f"{WORDS[0][n % 8]} {WORDS[1][n // 8 % 8]} {n}" for n in range(num_item)]
    return labels, vectors.astype(np.float32)


def make(num_item: int, dim: int, folder: Path) -> tuple[float, float]:
    """Write the page and its points; return the seconds, and those of processors."""
    labels, vectors = catalog(num_item, dim)
    plot_map(Embeddings(labels[:100], vectors[:100]), folder / "map.html")  # compiles
    began, began_here = time.perf_counter(), time.process_time()
    drawn = plot_map(Embeddings(labels, vectors), folder / "map.html", num_item)
    seconds = time.perf_counter() - began, time.process_time() - began_here
    np.save(folder / "points.npy", drawn.points)
    (folder / "seconds.json").write_text(json.dumps(seconds))
    return seconds


def measure_page(path: Path, repeat: int) -> tuple[dict[str, Any], str]:
    """Open and drag the page; return what each took, and the version of Chromium."""
    first, frames = [], {}
    for _ in range(repeat):
        with browser.browsing() as driver:  # which has nothing of it in its caches
            browser.open_page(driver, path, DRAWN)
            script = "return performance.getEntriesByName('map-drawn')[0].startTime"
            first.append(driver.execute_script(script) / 1000)
            for zoom in range(ZOOMS):
                time.sleep(1)  # tiles of the zoom are drawn
                frames.setdefault(zoom, []).extend(browser.drag(driver, STEPS))
                driver.find_element("css selector", ".leaflet-control-zoom-in").click()
            version = driver.capabilities["browserVersion"]
    return {"first": first, "frames": frames}, version


def bokeh_page(points: np.ndarray) -> str:
    from bokeh.embed import file_html
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    plot = figure(
        output_backend="webgl", sizing_mode="stretch_both", tools="pan,wheel_zoom,tap",
        active_drag="pan",
    )  # fmt: skip
    plot.scatter(*points.T.astype(np.float32), size=4, line_color=None, alpha=0.7)
    return file_html(plot, INLINE)


def plotly_page(points: np.ndarray) -> str:
    from plotly import graph_objects

    x, y = points.T.astype(np.float32)
    dots = graph_objects.Scattergl(x=x, y=y, mode="markers", marker={"size": 4})
    figure = graph_objects.Figure(dots, {"dragmode": "pan"})
    return figure.to_html(include_plotlyjs=True)


# How its page is made, and what is true once it is drawn.
PEERS = {
    "bokeh": (bokeh_page, "window.Bokeh && Bokeh.documents[0] && Bokeh.documents[0].is_idle"),
    "plotly": (plotly_page, "document.querySelector('.js-plotly-plot canvas.gl-canvas-focus')"),
}


def measure_peer(name: str, points: np.ndarray, folder: Path) -> tuple[float, float, list[float]]:
    """Return the MB, the seconds until the first frame, and the milliseconds of frames."""
    make_page, is_ready = PEERS[name]
    path = folder / f"{name}.html"
    path.write_text(make_page(points), encoding="utf-8")
    with browser.browsing() as driver:
        browser.open_page(driver, path, is_ready)
        first = driver.execute_script("return performance.now()") / 1000
        time.sleep(1)
        frames = browser.drag(driver, PEER_STEPS)
    return path.stat().st_size / 1e6, first, frames


def spread(values: list[float]) -> str:
    """Median, and where 95 % are below."""
    return f"{statistics.median(values):.0f} ({np.percentile(values, 95):.0f})"


def judged(name: str, value: float) -> list[str]:
    target = TARGETS[name]
    return [name, f"{value:.2f}", f"{target} {tick(target.is_met(value))}"]


def main() -> None:
    parser = make_parser("map", __doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3, help="how often the page is opened")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[])
    parser.add_argument("--keep", type=Path, help="folder that pages are kept in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out / "map.md", report(arguments, folder))


def report(arguments: argparse.Namespace, folder: Path) -> str:
    """Measure, and return the page of Markdown."""
    if (folder / "seconds.json").exists():
        seconds = json.loads((folder / "seconds.json").read_text())
    else:
        seconds = make(arguments.items, arguments.dim, folder)
    path = folder / "map.html"
    found, version = measure_page(path, arguments.repeat)
    every = [frame for frames in found["frames"].values() for frame in frames]
    size = path.stat().st_size / 1e6
    values = (size, statistics.median(found["first"]), np.percentile(every, 95))
    rows = [say(*judged(name, value)) for name, value in zip(TARGETS, values, strict=True)]
    zooms = [
        say(f"zoom {zoom}", len(frames), spread(frames), f"{max(frames):.0f}")
        for zoom, frames in found["frames"].items()
    ]
    peers = [say("ours", f"{size:.1f}", f"{values[1]:.1f}", spread(every), f"{max(every):.0f}")]
    points = np.load(folder / "points.npy")
    for name in arguments.peers:
        mb, first, frames = measure_peer(name, points, folder)
        peers.append(say(name, f"{mb:.1f}", f"{first:.1f}", spread(frames), f"{max(frames):.0f}"))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    note = (
        f"`python -m benchmarks.map`: {arguments.items:,} items, D = {arguments.dim}; medians of "
        f"{arguments.repeat} openings in a headless Chromium {version} with no GPU, "
        f"{browser.WIDTH} x {browser.HEIGHT}. To make the page took {seconds[0]:.0f} s, and "
        f"{seconds[1]:.0f} s of a processor. Other work at the end: load {load}. "
        f"{machine('openTSNE', 'scikit-learn', 'selenium', *arguments.peers)}"
    )
    return page(
        "A map for browsers",
        note,
        table(["what", "measured", "target"], rows),
        table(["frames while panning", "how many", "ms: median (95 %)", "longest"], zooms),
        table(
            ["library", "file, MB", "first frame, s", "frames, ms: median (95 %)", "longest"], peers
        ),
    )


if __name__ == "__main__":
    main()

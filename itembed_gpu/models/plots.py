"""Pictures: how training went, and a map of the items.

Both are drawn by matplotlib onto a figure of their own, so that neither
`matplotlib.pyplot` nor a display is touched; notebooks show it, and it is
written in one step. A map for browsers is of `web_map`.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float64Array
from ..disk.files import replacing
from ..errors import InputError, MissingExtraError
from ..ranking.vectors import normalize
from ..training.loop import History
from .embeddings import Embeddings
from .groups import shortened
from .layout import PERPLEXITY, SEED, principal_plane
from .web_map import write_web_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .picture import Picture

logger = logging.getLogger("itembed_gpu")

Boxes = Float64Array
"""Rectangles, (n, 4): left, bottom, right, top, in pixels."""

DPI = 150
COLOUR = "tab:blue"
# Items of a map, by default: in a picture, whose labels are to be read, and in a page.
NUM_IN_PICTURE = 200
NUM_IN_PAGE = 100_000
LABEL_LENGTH = 28
LABEL_SIZE = 6.5
# A label is tried in so many directions, and so far from its point, in points.
NUM_DIRECTION = 16
DISTANCES = (3, 8, 14, 21, 29, 38, 48)
MISSING_GLYPH = "\N{WHITE SQUARE}"


@dataclass(frozen=True)
class ItemMap:
    """What `plot_map` drew.

    Attributes
    ----------
    labels : list
        The items of the map, the most frequent first.
    points : float64, (num_item, 2)
        Where they are.
    hidden : list
        Those that have a point but no label, for want of room; none in a page.
    figure : matplotlib.figure.Figure or None
        The map, which notebooks show; None of a page.
    """

    labels: list[Any]
    points: Float64Array
    hidden: list[Any]
    figure: Any = None

    def __repr__(self) -> str:
        return f"ItemMap({len(self.labels)} items, {len(self.hidden)} of them without a label)"

    def _repr_png_(self) -> bytes | None:
        return None if self.figure is None else self.figure.png()


def plot_history(history: History, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw the loss by epoch, and each metric below it.

    Parameters
    ----------
    history : History
        What `train` returned.
    path : path, optional
        PNG file to write; what is there is replaced. By default none is written.

    Returns
    -------
    matplotlib.figure.Figure
        What was drawn; it is shown where it is the last line of a notebook's cell.

    Raises
    ------
    InputError
        `history` has nothing to draw, or `path` cannot be written to.
    MissingExtraError
        matplotlib is not installed.
    """
    target = None if path is None else _checked_path(path)
    table = history.as_table()
    names = ["loss", *history.metric_names]
    columns = {name: np.array(table[name], dtype=np.float64) for name in names}
    told = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if not told:
        raise InputError(
            f"history has {len(history.epochs)} epochs with neither a loss nor a metric; "
            "pass that of a task of this package, trained for an epoch"
        )
    figure = _figure(7, 1 + 2.2 * len(told))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(told), sharex=True, squeeze=False)[:, 0]
    num_trained = np.array(table["epoch"]) + 1
    for panel, (name, values) in zip(panels, told.items(), strict=True):
        # Metrics are not measured in every epoch: the line goes on over those that lack one.
        known = np.isfinite(values)
        marker = "o" if known.sum() <= 60 else None
        panel.plot(num_trained[known], values[known], color=COLOUR, marker=marker, markersize=3)
        panel.set_ylabel(shortened(name, 40), parse_math=False)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("epochs trained")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    if target is not None:
        _write(figure, target)
    return figure


def plot_map(
    embeddings: Embeddings,
    path: str | os.PathLike[str] | None = None,
    n: int | None = None,
    *,
    font: str | None = None,
    groups: Any = None,
) -> ItemMap:
    """Draw a map on which the items lie close together that have similar vectors.

    It is made by t-SNE, from the angles between the vectors. Which items are
    neighbours can be read from it; distances between groups, and which way is up,
    mean little. The same embeddings give the same map.

    An .html file is a map for browsers, which needs no network: it pans and zooms,
    finds an item by a part of its label, and tells of an item that is clicked the 10
    nearest on the map, by cosine, exactly.

    Parameters
    ----------
    embeddings : Embeddings
        Items and their vectors.
    path : path, optional
        .png or .html file to write; what is there is replaced. By default none is
        written, and a picture is returned.
    n : int, optional
        Draw so many items, the most frequent ones; the first ones where
        `embeddings` has no counts. By default 200 in a picture, and 100,000 in a
        page, for which t-SNE takes minutes; its time grows as n, and that of the
        neighbours as the square of n.
    font : str, optional
        Of a picture: name of a font that is installed, such as "Noto Sans CJK JP",
        where matplotlib's own lacks characters; those are drawn as squares, and
        warned of. A page has the fonts of the browser.
    groups : array-like of length len(embeddings), or dict, optional
        Of a page: what its colours tell. One value for each of `embeddings.labels`,
        such as a column of a table, or a dict from labels to values. The 20 most
        frequent values have a colour each; of more than 20 different numbers, 8 ranges
        with as many items each have one. Values may be missing (None, NaN). By default
        up to 20 clusters by k-means, named after their most frequent items.

    Returns
    -------
    ItemMap
        What is on the map, and which items there was no room to label: they are
        counted below the map as well. A picture is shown where it is the last line of
        a notebook's cell, and its `figure` is that of matplotlib.

    Raises
    ------
    InputError
        An argument cannot be used, or there are fewer than 3 items.
    MissingExtraError
        A picture needs matplotlib and scikit-learn, a page openTSNE, and it is not
        installed.
    """
    target = None if path is None else _checked_path(path, (".png", ".html"))
    is_page = target is not None and target.suffix.lower() == ".html"
    n = checks.integer("n", (NUM_IN_PAGE if is_page else NUM_IN_PICTURE) if n is None else n, 3)
    _check_map(embeddings, is_page, font, groups)
    rows = _most_frequent(embeddings, n)
    if not np.isfinite(embeddings.vectors[rows]).all():
        raise InputError("embeddings has vectors that are not finite; train it again")
    note = f"{len(rows)} of {len(embeddings)} items"
    if embeddings.counts is not None:
        note += ", the most frequent"
    if is_page:
        points = write_web_map(cast(Path, target), embeddings, rows, groups, note)
        return ItemMap([embeddings.labels[row] for row in rows.tolist()], points, [])
    drawn = _picture_of(embeddings, rows, _checked_font(font), note)
    if target is not None:
        _write(drawn.figure, target)
    return drawn


# ---------------------------------------------------------------------- files


def _checked_path(path: str | os.PathLike[str], suffixes: tuple[str, ...] = (".png",)) -> Path:
    """Find out before drawing what would keep from writing."""
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        known = " or ".join(suffixes)
        raise InputError(f"path is {str(path)!r}; pass the name of a {known} file")
    if not target.parent.is_dir():
        raise InputError(
            f"path: there is no folder {str(target.parent)!r}; make it, or use another"
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"path: the folder {str(target.parent)!r} is not writable; use another")
    if target.is_dir():
        raise InputError(f"path: {str(path)!r} is a folder; pass the name of a file")
    return target


def _figure(width: float, height: float) -> Picture:
    """Return an empty figure."""
    try:
        from .picture import Picture
    except ImportError as error:
        raise _missing("matplotlib") from error
    return Picture(figsize=(width, height), dpi=DPI)


def _missing(library: str) -> MissingExtraError:
    return MissingExtraError(f'pictures need {library}: pip install "itembed_gpu[plot]"')


def _write(figure: Picture, path: Path) -> None:
    # Drawn to memory first: a drawing that fails leaves no file.
    drawn = figure.png()
    with replacing(path) as file:
        file.write(drawn)


# ------------------------------------------------------------------------ map


def _check_map(embeddings: Embeddings, is_page: bool, font: str | None, groups: Any) -> None:
    if len(embeddings) < 3:
        raise InputError(f"embeddings has {len(embeddings)} items; pass at least 3 for a map")
    if is_page and font is not None:
        raise InputError(
            f"font is {checks.show(font)}, which is of pictures; leave it out for an .html file"
        )
    if groups is not None and not is_page:
        raise InputError(
            "groups are colours of maps for browsers; pass a path that ends in .html, or leave "
            "groups out"
        )


def _picture_of(
    embeddings: Embeddings, rows: npt.NDArray[np.int64], family: str, note: str
) -> ItemMap:
    """Draw some rows of embeddings."""
    labels = [embeddings.labels[row] for row in rows.tolist()]
    points = _project(embeddings.vectors[rows])
    figure = _figure(14, 10)
    panel = figure.add_axes((0.05, 0.04, 0.9, 0.94))
    panel.set_axis_off()
    x, y = points.T
    panel.scatter(x, y, s=_areas(embeddings, rows), color=COLOUR, alpha=0.5, linewidths=0)
    panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())  # labels do not move them
    texts = _drawable([shortened(str(label), LABEL_LENGTH) for label in labels], family)
    shown = _label(panel, points, texts, family)
    hidden = [label for label, is_shown in zip(labels, shown, strict=True) if not is_shown]
    if hidden:
        note += f"; {len(hidden)} points have no label, for want of room"
    figure.text(0.99, 0.01, note, ha="right", fontsize=8, color="0.4")
    return ItemMap(labels, points, hidden, figure)


def _most_frequent(embeddings: Embeddings, n: int) -> npt.NDArray[np.int64]:
    """Return the rows of the n most frequent items, the most frequent first."""
    if embeddings.counts is None:
        return np.arange(min(n, len(embeddings)))
    return np.argsort(-embeddings.counts, kind="stable")[:n]


def _areas(embeddings: Embeddings, rows: npt.NDArray[np.int64]) -> Float64Array:
    """Return the areas of the points, in square points: larger for frequent items."""
    if embeddings.counts is None:
        return np.full(len(rows), 15.0)
    counts = embeddings.counts[rows]
    shares: Float64Array = counts / max(1, counts.max())
    return 6 + 30 * np.sqrt(shares)


def _project(vectors: npt.NDArray[np.float32]) -> Float64Array:
    """Return points of the plane, (n, 2), for vectors, (n, D), by the angles between them."""
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits  # comes with it
    except ImportError as error:
        raise _missing("scikit-learn") from error
    # In float64, where a vector of float32 can be squared.
    unit = normalize(vectors.astype(np.float64)).astype(np.float64, copy=False)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(unit) - 1) / 3),
        init=principal_plane(unit),
        random_state=SEED,
    )
    # Its threads wait for one another without a pause: on busy cores that takes many times as
    # long. One thread also adds up in the same order everywhere.
    with threadpool_limits(1, user_api="openmp"):
        points: Float64Array = tsne.fit_transform(unit).astype(np.float64)
    return points


# --------------------------------------------------------------------- labels


def _checked_font(font: str | None) -> str:
    """Return the font family to draw in."""
    try:
        from matplotlib.font_manager import FontProperties, findfont
    except ImportError as error:
        raise _missing("matplotlib") from error
    if font is None:
        return "DejaVu Sans"  # comes with matplotlib
    try:
        findfont(FontProperties(family=[font]), fallback_to_default=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"font is {checks.show(font)}, which is not installed; "
            "pass a name of matplotlib.font_manager.get_font_names()"
        ) from error
    return font


def _drawable(texts: list[str], family: str) -> list[str]:
    """Replace the characters that a font lacks, and warn of them."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family=[family])))
    missing = {c for c in set("".join(texts)) if not font.get_char_index(ord(c))}
    if missing:
        logger.warning(
            "the font %s lacks %d characters of the labels, such as %a; pass font=... with one "
            "that has them",
            family,
            len(missing),
            min(missing),
        )
    table = str.maketrans(dict.fromkeys(missing, MISSING_GLYPH))
    return [text.translate(table) for text in texts]


def _label(
    panel: Axes, points: Float64Array, texts: list[str], family: str
) -> npt.NDArray[np.bool_]:
    """Write the labels that there is room for, and tell for each point whether it has one.

    The first ones choose first. A label stands beside its point, or a little off
    with a line to it, where it covers no other label and, if it can be, no point.
    """
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    to_pixels, to_data = panel.transData, panel.transData.inverted()
    pixels: Float64Array = to_pixels.transform(points)
    width, height = panel.figure.bbox.size
    renderer = RendererAgg(width, height, DPI)  # type: ignore[no-untyped-call]
    halo = [withStroke(linewidth=1.5, foreground="white")]
    page = np.array([0, 0, width, height])
    placed = np.empty((0, 4))
    lines, shown = [], np.zeros(len(texts), dtype=bool)
    for row, (point, text) in enumerate(zip(pixels, texts, strict=True)):
        # Names may hold dollar signs, which are no formulas.
        label = panel.text(
            0, 0, text, fontsize=LABEL_SIZE, family=family, ha="center", va="center",
            parse_math=False, usetex=False, path_effects=halo,
        )  # fmt: skip
        extent = label.get_window_extent(renderer)
        boxes = _boxes_around(point, extent.width, extent.height)
        others = np.delete(pixels, row, axis=0)
        choice = _choose_box(boxes, page, placed, others)
        if choice is None:
            label.remove()
            continue
        shown[row] = True
        box = boxes[choice]
        placed = np.vstack([placed, box])
        label.set_position(tuple(to_data.transform((box[:2] + box[2:]) / 2)))
        if choice >= NUM_DIRECTION:
            lines.append([point, np.clip(point, box[:2], box[2:])])
    ends = [to_data.transform(line) for line in lines]
    panel.add_collection(LineCollection(ends, colors="0.5", linewidths=0.4), autolim=False)
    return shown


def _boxes_around(point: Float64Array, width: float, height: float) -> Boxes:
    """Return where a label may be, near its point first: `NUM_DIRECTION` boxes a distance."""
    angles = np.linspace(0, 2 * np.pi, NUM_DIRECTION, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    half = np.array([width, height]) / 2
    centres = np.concatenate([point + directions * (half + d * DPI / 72) for d in DISTANCES])
    return np.concatenate([centres - half, centres + half], axis=1)


def _choose_box(boxes: Boxes, page: Boxes, placed: Boxes, points: Float64Array) -> int | None:
    """Return the first box on the page that is free of others and of points, or of others only."""
    inside = (boxes[:, :2] >= page[:2]).all(axis=1) & (boxes[:, 2:] <= page[2:]).all(axis=1)
    free = inside & ~_overlap(boxes, placed).any(axis=1)
    clear = free & ~_overlap(boxes, np.hstack([points, points])).any(axis=1)
    for fitting in (clear, free):
        if fitting.any():
            return int(fitting.argmax())
    return None


def _overlap(boxes: Boxes, others: Boxes) -> npt.NDArray[np.bool_]:
    """Tell which rectangles overlap, (num_box, num_other)."""
    left, right = boxes[:, None], others[None]
    reaching = (left[..., 2:] > right[..., :2]) & (right[..., 2:] > left[..., :2])
    overlap: npt.NDArray[np.bool_] = np.logical_and.reduce(reaching, axis=2)
    return overlap

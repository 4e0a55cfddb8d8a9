"""A map of items in one HTML file, to pan, zoom, search and click in a browser, with no network.

Leaflet, made for maps of streets, pans and zooms: what was drawn moves as a whole, so that a frame
takes the same time for any number of items, also on a machine with no GPU. Bokeh and Plotly draw
all points again for each frame, which takes a GPU (`benchmarks/map.py` measures both), and so do
pydeck and datamapplot, of which the latter fetches its scripts from the network first. The licence
of deepscatter forbids commercial use.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import string
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Float64Array, Int64Array
from ..disk.files import replacing
from ..ranking.vectors import unit_rows
from .groups import Groups, checked_values, cluster, group_by
from .layout import PERPLEXITY, check_t_sne, lay_out

if TYPE_CHECKING:
    from .embeddings import Embeddings

NUM_NEIGHBOUR = 10


def write_web_map(
    path: Path, embeddings: Embeddings, rows: npt.NDArray[np.int64], groups: Any, note: str
) -> Float64Array:
    """Write a page with a map of some rows of embeddings, the first ones on top.

    Returns
    -------
    float64 (n, 2)
        Where the items are.
    """
    check_t_sne()
    values = None if groups is None else checked_values(groups, embeddings)
    labels = [embeddings.labels[row] for row in rows.tolist()]
    unit = unit_rows(embeddings.vectors[rows])
    if values is None:
        grouped = cluster(unit, labels)
    else:
        grouped = group_by([values[row] for row in rows.tolist()])
    near, cosines = _neighbours(unit)
    points = lay_out(unit, near, cosines)
    page = make_page(labels, points, (near, cosines), grouped, note)
    with replacing(path) as file:
        file.write(page)
    return points


def _neighbours(unit: Float32Array) -> tuple[Int64Array, Float32Array]:
    """Return the nearest rows of each row of length 1, and their cosines, exactly."""
    from ..ranking.top_n import top_n

    own = np.arange(len(unit) + 1)
    # As many as t-SNE looks at.
    return top_n(unit, unit, min(3 * PERPLEXITY, len(unit) - 1), exclude=(own[:-1], own))


def make_page(
    labels: list[Any],
    points: Float64Array,
    neighbours: tuple[Int64Array, Float32Array],
    groups: Groups,
    note: str,
) -> bytes:
    """Return the page. Whatever is told of items is packed, so that none of it can be HTML."""
    near, cosines = (values[:, :NUM_NEIGHBOUR] for values in neighbours)
    texts = {
        "labels": list(map(str, labels)),
        "by": groups.by,
        "groups": groups.names,
        "colours": groups.colours,
        "note": note,
    }
    data = {
        "texts": _packed(json.dumps(texts, separators=(",", ":")).encode()),
        "points": _packed(_centred(points).astype("<f4").tobytes()),
        "group": _packed(groups.numbers.tobytes()),
        "neighbours": _packed(near.astype("<i4").tobytes()),
        # To two digits, as they are shown.
        "cosines": _packed(np.rint(100 * np.clip(cosines, -1, 1)).astype("i1").tobytes()),
    }
    folder = resources.files("itembed_gpu.models.page")

    def read(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8").strip()

    leaflet = f"/*\n{read('leaflet/LICENSE')}\n*/\n{read('leaflet/leaflet.js')}"
    scripts = [leaflet, read("map.js")]
    # The one map that a browser would look for beside the page.
    scripts = [script.partition("//# sourceMappingURL")[0] for script in scripts]
    page = string.Template(read("map.html")).substitute(
        hashes=" ".join(map(_hash, scripts)),
        leaflet_js=scripts[0],
        map_js=scripts[1],
        leaflet_css=read("leaflet/leaflet.css"),
        map_css=read("map.css"),
        data=json.dumps(data),
    )
    return page.encode()


def _centred(points: Float64Array) -> Float64Array:
    """Scale points into the square from -0.5 to 0.5."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max())
    centred: Float64Array = (points - (low + high) / 2) / (span if span > 0 else 1)
    return centred


def _packed(data: bytes) -> str:
    # The same bytes for the same map: no time is noted.
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _hash(script: str) -> str:
    """Return what a content security policy calls a script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

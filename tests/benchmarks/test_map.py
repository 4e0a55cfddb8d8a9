"""The benchmark of maps for browsers writes whole tables, shrunken and without a browser."""

import argparse

import numpy as np
import pytest

from benchmarks import map as maps
from itembed_gpu.models import web_map


def test_its_page_has_all_tables(tmp_path, monkeypatch, capsys):
    pytest.importorskip("selenium")  # whose version is told
    monkeypatch.setattr(web_map, "lay_out", lambda unit, rows, cosines: np.eye(len(unit), 2))
    frames = {zoom: [10.0] * 19 + [80.0] for zoom in range(maps.ZOOMS)}
    measured = {"first": [4.0, 1.0, 2.0], "frames": frames}, "123.4"
    monkeypatch.setattr(maps, "measure_page", lambda path, repeat: measured)
    arguments = argparse.Namespace(items=50, dim=4, repeat=3, peers=[])
    first = maps.report(arguments, tmp_path)
    assert "Chromium 123.4" in first
    assert "| first frame, s | 2.00 | <= 3 ✓ |" in first
    assert "| 95 % of frames while panning, ms | 13.50 | <= 50 ✓ |" in first
    assert "| zoom 2 | 20 | 10 (14) | 80 |" in first
    assert (tmp_path / "points.npy").exists()
    # What is kept is not made again.
    monkeypatch.setattr(maps, "make", None)
    assert maps.report(arguments, tmp_path).count("\n") == first.count("\n")

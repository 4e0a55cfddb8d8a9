"""Refuses a page that would load something from elsewhere."""

import re
from pathlib import Path

from sphinx.util import logging

# What a browser fetches by itself; links that people follow are not among it.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b[^>]*\bhref=["'](?:https?:)?//[^"']+"""
)
logger = logging.getLogger(__name__)


def fetched(page):
    """List what a page would load from elsewhere."""
    return FETCHED.findall(page)


def check(app, error):
    if error is None:
        for page in sorted(Path(app.outdir).rglob("*.html")):
            for found in fetched(page.read_text(encoding="utf-8")):
                logger.warning("%s loads from the network: %s", page.name, found)


def setup(app):
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

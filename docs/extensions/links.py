"""Refuses a site whose links within it lead nowhere: to no page, or to no place on one."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util import logging

HREF = re.compile(r"""<a\b[^>]*\bhref=["']([^"']+)""")
ID = re.compile(r"""\b(?:id|name)=["']([^"']+)""")
logger = logging.getLogger(__name__)


def broken(folder):
    """List the links of all pages of a folder that lead nowhere, as (page, link)."""
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    places = {path: set(ID.findall(text)) for path, text in texts.items()}
    found = []
    for path, text in sorted(texts.items()):
        for link in sorted(set(HREF.findall(text))):
            parts = urlsplit(link.replace("&amp;", "&"))
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.exists()
            if there and parts.fragment and target in places:
                there = unquote(parts.fragment) in places[target]
            if not there:
                found.append((path.relative_to(folder.resolve()), link))
    return found


def check(app, error):
    if error is None and app.builder.format == "html":
        for page, link in broken(Path(app.outdir)):
            logger.warning("%s: the link to %s leads nowhere", page, link)


def setup(app):
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Says on a page which code its tests do not run: by the comment ``<!-- not run: REASON -->``.

What other tests run than those of the page is ``<!-- run by: FILE -->``.
"""

import re

COMMENT = re.compile(r"^( *)<!-- (not run|run by): (.*?) -->$", re.MULTILINE)
SAID = {"not run": "Not run by the tests: {}.", "run by": "Run by `{}`."}


def said(found):
    """Return what a page says in place of a comment."""
    indent, kind, what = found.groups()
    return f"{indent}{{.not-run}}\n{indent}{SAID[kind].format(what)}\n"


def show(app, name, source):
    source[0] = COMMENT.sub(said, source[0])


def setup(app):
    app.connect("source-read", show)
    return {"parallel_read_safe": True}

"""Says on a page which code its tests do not run: the comment ``<!-- not run: REASON -->``."""

import re

COMMENT = re.compile(r"^( *)<!-- not run: (.*?) -->$", re.MULTILINE | re.DOTALL)


def show(app, name, source):
    source[0] = COMMENT.sub(r"\1{.not-run}\n\1Not run by the tests: \2.\n", source[0])


def setup(app):
    app.connect("source-read", show)
    return {"parallel_read_safe": True}

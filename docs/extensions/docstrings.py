"""The reference from docstrings, which have names in single backquotes.

Those of public names, and of methods of the same class, become links. All others, such as
parameters, are set as code. Of the members of a class, what has code of its own is shown. On
other pages, public names that are set as code become links as well.
"""

import re

from docutils import nodes
from public import PACKAGE, documented, is_own, public_names
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

QUOTED = re.compile(r"(?<![`:\w])`([^`\n]+)`(?![`_])")


def link_names(app, what, name, value, options, lines):
    """Make links of names in backquotes, once numpydoc is through with a docstring."""
    owner = ".".join(name.removeprefix(f"{PACKAGE}.").split(".")[:1])
    lines[:] = [QUOTED.sub(lambda found: linked(found[1], owner), line) for line in lines]


def linked(text, owner):
    for target in (text, f"{owner}.{text}", f"metrics.{text}"):
        if target in documented():
            return f":py:obj:`{text} <{PACKAGE}.{target}>`"
    return f"``{text}``"


def skip(app, what, name, value, skipped, options):
    """Leave out what is data, or inherited from elsewhere."""
    return None if what != "class" or is_own(value) else True


class LinkLiterals(SphinxTransform):
    """Make links of public names on pages; ``train`` alone may be the command as well."""

    default_priority = 500

    def apply(self):
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext()
            is_linked = isinstance(literal.parent, nodes.reference | pending_xref)
            if is_linked or name not in public_names() or not re.search("[A-Z_]", name):
                continue
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=f"{PACKAGE}.{name}", refexplicit=True
            )
            literal.replace_self(link)
            link += literal


def setup(app):
    app.add_transform(LinkLiterals)
    app.connect("autodoc-process-docstring", link_names, priority=900)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}

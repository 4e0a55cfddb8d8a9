"""Pages of the benchmarks' results, and parts of them on other pages.

Each ``benchmarks/NAME.md`` becomes a page, ``results/NAME``. The directive ``result`` shows one
table of it, or some rows and columns of that, so that no figure is copied by hand::

    ```{result} quality
    :section: Online Retail
    :rows: ours|EASE
    :columns: system; HR@10; seconds
    ```

A section is named by a part of its title, a row by a pattern that is found in its line.
"""

import re
import shutil
from pathlib import Path
from typing import ClassVar

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def make_pages(app, config):
    """Copy results and pictures to where Sphinx finds them; what has not changed stays."""
    folder = Path(app.srcdir) / "results"
    folder.mkdir(exist_ok=True)
    files = [*BENCHMARKS.glob("*.md"), *BENCHMARKS.glob("*.png")]
    for old in folder.iterdir():
        if old.name not in {file.name for file in files}:
            old.unlink()
    for file in files:
        page = folder / file.name
        if not page.exists() or page.read_bytes() != file.read_bytes():
            shutil.copyfile(file, page)


def sections_of(text):
    """Split a page of results into its sections, by their titles."""
    parts = re.split(r"^#+ +(.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def selected(text, table=1, rows="", columns=None):
    """Return a table of a section: rows in which a pattern is found, and some columns."""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    if len(tables) < table:
        raise ValueError(f"there are {len(tables)} tables")
    head, _, *body = map(cells_of, tables[table - 1].splitlines())
    columns = columns or head
    if unknown := [name for name in columns if name not in head]:
        raise ValueError(f"no column {unknown[0]!r}; there are {'; '.join(head)}")
    found = [row for row in body if re.search(rows, f"| {' | '.join(row)} |")]
    if not found:
        raise ValueError(f"no row has {rows!r}")
    places = [head.index(name) for name in columns]
    lines = [columns, ["---"] * len(columns), *([row[n] for n in places] for row in found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Result(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {
        "section": directives.unchanged,
        "table": directives.positive_int,
        "rows": directives.unchanged,
        "columns": directives.unchanged,
    }

    def run(self):
        (name,) = self.arguments
        path = BENCHMARKS / f"{name}.md"
        self.env.note_dependency(str(path))
        sections = sections_of(path.read_text(encoding="utf-8"))
        wanted = self.options.get("section", "")
        try:
            section = next((text for title, text in sections.items() if wanted in title), None)
            if section is None:
                raise ValueError(f"no section {wanted!r}; there are {', '.join(sections)}")
            columns = self.options.get("columns")
            columns = columns and [column.strip() for column in columns.split(";")]
            rows = self.options.get("rows", "")
            table = selected(section, self.options.get("table", 1), rows, columns)
        except ValueError as error:
            raise self.error(f"benchmarks/{name}.md: {error}") from error
        source = f"{{.source}}\nFrom [](/results/{name}.md)."
        return self.parse_text_to_nodes(f"{table}\n\n{source}\n")


def setup(app):
    app.connect("config-inited", make_pages)
    app.add_directive("result", Result)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

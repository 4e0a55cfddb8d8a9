"""The notebooks of ``docs/notebooks``: they are run when the site is built, and fit its pages.

With RUN_NOTEBOOKS=1 in the environment their code is run here as well, which takes two minutes.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import itembed_gpu as ig

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")

FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
# Of a cell, before its code.
OPTIONS = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
CELL = "{code-cell} ipython3"

# Columns of code that a page shows without scrolling.
WIDTH = 88


def read(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def cells_of(text):
    """The code of all cells, in their order."""
    return [OPTIONS.sub("", code) for kind, code in FENCED.findall(text) if kind == CELL]


def script_of(name):
    return "\n\n".join(cells_of(read(name)))


def test_all_are_listed():
    listed = FENCED.search(read("index")).group(2).split("\n\n")[1].split()
    assert sorted(listed) == NAMES
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_they_are_run_by_the_site(name):
    text = read(name)
    head = OPTIONS.match(text).group(0)
    # Without these lines a page is text, whose code nobody runs.
    assert {"file_format: mystnb", "kernelspec:", "  name: python3"} <= set(head.splitlines())
    kinds = {kind for kind, _ in FENCED.findall(text)}
    assert kinds == {CELL}


@pytest.mark.parametrize("name", NAMES)
def test_they_have_a_title_and_end_in_a_picture(name):
    text = OPTIONS.sub("", read(name)).strip()
    assert re.match("# .+", text)
    last = ast.parse(cells_of(text)[-1]).body[-1]
    assert ast.unparse(last).startswith(("plt.show()", "drawn", "ig.plot_map("))


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit_the_page(name):
    long = [line for line in script_of(name).splitlines() if len(line) > WIDTH]
    assert long == []


@pytest.mark.parametrize("name", NAMES)
def test_what_they_use_is_public(name):
    modules = {"ig": ig, "metrics": ig.metrics}
    for node in ast.walk(ast.parse(script_of(name))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            assert module is None or node.attr in module.__all__, ast.unparse(node)


@pytest.mark.parametrize("name", NAMES)
def test_what_they_import_comes_with_the_extra_plot(name):
    roots = set()
    for node in ast.walk(ast.parse(script_of(name))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.partition(".")[0])
    assert roots - set(sys.stdlib_module_names) <= {"itembed_gpu", "matplotlib", "numpy"}


@pytest.mark.parametrize("name", NAMES)
def test_they_run(name, tmp_path):
    if os.environ.get("RUN_NOTEBOOKS") != "1":
        pytest.skip("takes half a minute; set RUN_NOTEBOOKS=1, or build the site")
    for library in ("matplotlib", "sklearn"):
        importlib.import_module(library)
    script = tmp_path / f"{name}.py"
    script.write_text(script_of(name), encoding="utf-8")
    environment = os.environ | {"MPLBACKEND": "Agg", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

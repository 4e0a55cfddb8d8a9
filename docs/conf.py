"""The site: `scripts/site` builds it, without a network, and no warning is let through."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "extensions")]

import itembed_gpu  # noqa: E402

project = "itembed_gpu"
author = "The itembed_gpu authors"
copyright = "the itembed_gpu authors, MIT licence"
version = release = itembed_gpu.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    # Of our own, in `extensions`.
    "docstrings",
    "mathml",
    "not_run",
    "results",
    "offline",
    "links",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
# Every name that a page or a docstring links to is there.
nitpicky = True
# Pygments knows no parameters of SQL, which DuckDB calls $name.
suppress_warnings = ["misc.highlighting_failure"]

# Pages
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Notebooks: run in the build, unless nothing in them has changed since the last one.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True

# The reference: one page for each public name, from its docstring (see `extensions/docstrings.py`).
autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False  # they are on the page of their class, in full

# How it looks: with what the theme brings, and nothing from elsewhere.
html_theme = "pydata_sphinx_theme"
html_title = "itembed_gpu"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {page: [] for page in ("index", "start", "changelog")}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}

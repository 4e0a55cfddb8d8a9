"""What the site is made with: tables of results, formulas, and checks of what was built."""

import links
import mathml
import not_run
import offline
import pytest
import results
from checkout import ROOT

PAGE = """# Speeds

Words.

| what | speed | target |
|---|---|---|
| ours, D = 64 | 7.5 | 5 |
| theirs, D = 64 | 2.5 |  |

| what | loss |
|---|---|
| ours | 1.0 |

## Memory

None.
"""


class TestResults:
    def test_sections(self):
        assert list(results.sections_of(PAGE)) == ["Speeds", "Memory"]

    def test_rows_and_columns_of_a_table(self):
        text = results.sections_of(PAGE)["Speeds"]
        table = results.selected(text, rows=r"^\| ours", columns=["speed", "what"])
        assert table.splitlines()[::2] == ["| speed | what |", "| 7.5 | ours, D = 64 |"]
        assert results.selected(text, table=2).splitlines()[2:] == ["| ours | 1.0 |"]
        assert len(results.selected(text).splitlines()) == 4

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({"table": 3}, "there are 2 tables"),
            ({"columns": ["size"]}, "no column 'size'; there are what; speed; target"),
            ({"rows": "D = 8"}, "no row has 'D = 8'"),
        ],
    )
    def test_what_is_not_there_is_an_error(self, asked, told):
        with pytest.raises(ValueError, match=told):
            results.selected(results.sections_of(PAGE)["Speeds"], **asked)


def test_names_of_functions_stand_apart_from_what_they_are_of():
    space = '<mspace width="0.17em"/>'
    assert f"<mi>log</mi>{space}<mi>Z</mi>" in mathml.converted(r"\log Z")
    assert space not in mathml.converted(r"\log(Z)")
    assert space not in mathml.converted(r"\log^2(Z)")


def test_code_that_is_not_run_is_said():
    text = "<!-- not run: it installs -->\n```sh\n```\n<!-- run by: a.py -->\n<!-- other -->\n"
    assert not_run.COMMENT.sub(not_run.said, text) == (
        "{.not-run}\nNot run by the tests: it installs.\n\n```sh\n```\n"
        "{.not-run}\nRun by `a.py`.\n\n<!-- other -->\n"
    )


def test_what_a_page_would_load_from_elsewhere():
    page = (
        '<script src="https://a.b/c.js"></script><link rel="stylesheet" href="//a.b/c.css"/>'
        '<a href="https://a.b">there</a><img src="c.png"/><script src="c.js"></script>'
    )
    assert len(offline.fetched(page)) == 2


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="#top"></a><a href="#none"></a><a href="sub/b.html#here"></a>'
        '<a href="sub/b.html#gone"></a><a href="c.html"></a><a href="https://a.b/c.html"></a>'
    )
    (tmp_path / "sub" / "b.html").write_text('<p id="here"></p><a href="../a.html"></a>')
    assert [link for _, link in links.broken(tmp_path)] == ["#none", "c.html", "sub/b.html#gone"]


def test_every_result_has_a_page_of_one_title():
    for path in (ROOT / "benchmarks").glob("*.md"):
        assert path.read_text(encoding="utf-8").startswith("# "), path.name

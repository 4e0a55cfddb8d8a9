"""All code that the README and the site show runs, and prints what they show.

A page's Python blocks share their names, and all blocks a folder, in which are the files that
examples take for granted. A ``text`` block right after another one is what that prints: numbers
with a fraction may be others, and ``...`` is anything. A block that needs a library, or cannot
run here, says so before it, and the site shows the latter to its readers::

    <!-- needs: gensim -->
    <!-- not run: it needs a GPU -->
    <!-- run by: tests/disk/test_elsewhere.py -->
"""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import tempfile
import warnings
from collections import Counter
from typing import NamedTuple

import polars
import pytest
from checkout import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
# Made by the build, or run by it.
ELSEWHERE = {"_build", "api", "results", "notebooks"}

FENCE = re.compile(r"\s*(```+|~~~+)\s*([\w{}-]*)")
REMARK = re.compile(r"<!--\s*(not run|run by|needs):\s*(.*?)\s*-->\s*$", re.DOTALL)
# Code, what it prints, and what Sphinx makes of directives.
LANGUAGES = {"python", "sh", "text", "sql"}


class Block(NamedTuple):
    """Code of a page, its first line, why it is not run, if so, and what it needs."""

    language: str
    code: str
    line: int
    reason: str | None
    needs: str | None


def blocks_of(text):
    """All fenced blocks of a Markdown text, in their order, but for directives of Sphinx."""
    blocks, since = [], 0
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        opened = FENCE.match(line)
        if opened is None:
            number += 1
            continue
        fence, language = opened.groups()
        end = next(
            (n for n in range(number + 1, len(lines)) if lines[n].strip() == fence), len(lines)
        )
        indent = line[: len(line) - len(line.lstrip())]
        code = "\n".join(inner.removeprefix(indent) for inner in lines[number + 1 : end])
        # Only what stands right before a block is of this block.
        told = REMARK.search("\n".join(lines[since:number])[-500:])
        remark = {told[1]: told[2]} if told else {}
        if not language.startswith("{"):
            found = remark.get("not run", remark.get("run by")), remark.get("needs")
            blocks.append(Block(language, code + "\n", number + 2, *found))
        number = since = end + 1
    return blocks


PAGES = {
    str(path.relative_to(ROOT)): blocks_of(path.read_text(encoding="utf-8"))
    for path in [README, *sorted(DOCS.rglob("*.md"))]
    if not ELSEWHERE & set(path.relative_to(ROOT).parts)
}
PAGES_WITH_CODE = [page for page, blocks in PAGES.items() if any(b.reason is None for b in blocks)]


def commands_of(code):
    """The command lines of a shell block that are of this package, as lists of words."""
    return [words[1:] for words in all_commands_of(code) if words[0] == "itembed-gpu"]


def all_commands_of(code):
    """All command lines of a shell block, as lists of words."""
    commands = []
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        current = []
        for word in [*words, ";"]:
            if not set(word) <= set("();<>|&"):
                current.append(word)
                continue
            if current:
                commands.append(current)
            current = []
    return commands


COMMANDS = [
    command
    for blocks in PAGES.values()
    for block in blocks
    if block.language == "sh"
    for command in commands_of(block.code)
]

SALES = "invoice,product\n" + "".join(
    f"{invoice},{product}\n"
    for invoice in range(60)
    for product in (
        ("green tea", "cake stand", "tea cup", "carrier bag"),
        ("saw", "nail", "carrier bag"),
    )[invoice % 2][: 2 + invoice % 3]
)
LABELLED = (
    "__label__baking how to bake bread\n__label__tea how to brew green tea\n"
    "__label__baking bread and cake\n"
) * 20
SESSIONS = "".join(" ".join(f"page{n % 20}" for n in range(k, k + 6)) + "\n" for k in range(60))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with files that examples take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "sales").mkdir()
    for name in ("sales.csv", "later.csv", "sales/2024-01.csv"):
        (tmp_path / name).write_text(SALES)
    polars.read_csv("sales.csv").write_parquet("sales/2024-01.parquet")
    (tmp_path / "questions.txt").write_text(LABELLED)
    (tmp_path / "sessions.txt").write_text(SESSIONS)
    return tmp_path


class Session:
    """What runs the blocks of a page, one after the other."""

    def __init__(self, page):
        self.page = page
        self.names = {"__name__": "__main__"}

    def run(self, block):
        """Run a block, and return what it prints."""
        return getattr(self, block.language)(block)

    def python(self, block):
        # With its place on the page in a traceback.
        code = compile("\n" * (block.line - 1) + block.code, str(ROOT / self.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
            if block.needs:
                warnings.simplefilter("ignore")  # those of other libraries
            exec(code, self.names)
        return printed.getvalue()

    def sh(self, block):
        testing = pytest.importorskip("click.testing", reason="the command line is the extra 'cli'")
        from itembed_gpu.cli.main import main

        printed = ""
        for words in all_commands_of(block.code):
            assert words[0] == "itembed-gpu", f"{self.page}, line {block.line}: not run: {words}"
            done = testing.CliRunner().invoke(main, words[1:], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            printed += done.stdout
        return printed


def check_printed(expected, printed, where):
    """Hold what a block prints to what the page shows, but for fractions, which may be others."""
    words = [re.escape(word).replace(r"\.\.\.", ".*?") for word in expected.split()]
    words = [re.sub(r"\d+\\\.\d+", r"\\d+\\.\\d+", word) for word in words]
    if not re.fullmatch(r"\s+".join(words), printed.strip(), re.DOTALL):
        raise AssertionError(f"{where}: the page shows\n{expected}\nand it prints\n{printed}")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_code_of_a_page_runs(page):
    session, printed, missing = Session(page), None, set()
    for block in PAGES[page]:
        if block.language == "text":
            if printed is not None:
                check_printed(block.code, printed, f"{page}, line {block.line}")
            continue
        if block.needs and importlib.util.find_spec(block.needs) is None:
            missing.add(block.needs)
        printed = (
            session.run(block) if block.reason is None and block.needs not in missing else None
        )
    if missing:
        pytest.skip(f"all ran but what needs {', '.join(sorted(missing))}")


def test_all_blocks_are_run_but_for_those_that_say_so():
    left_out = Counter(
        page for page, blocks in PAGES.items() for block in blocks if block.reason is not None
    )
    elsewhere = {block.reason for block in PAGES["docs/next.md"]}
    assert elsewhere == {"tests/disk/test_elsewhere.py"}
    assert left_out.pop("docs/next.md") == 10
    guide = {"docs/guide/gpu.md": 2, "docs/guide/cluster.md": 5}
    assert left_out == {"README.md": 4, "docs/start.md": 1, **guide}
    assert {block.language for blocks in PAGES.values() for block in blocks} <= LANGUAGES
    # What is not run in README and site are pip, a GPU, a cluster, and the tests themselves.
    reasons = {b.reason for page in left_out for b in PAGES[page] if b.reason}
    assert all(re.search("installs|GPU|cluster", reason) for reason in reasons)


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


# Of the README's table of figures: what a row begins with, and rows of results/quality.json.
FIGURES = {
    "what a shop's customer": [
        ("online_retail", "ours", "cosine, each item"),
        ("online_retail", "EASE", ""),
        ("online_retail", "ALS", ""),
        ("online_retail", "item-kNN", ""),
        ("online_retail", "Word2Vec", "dot"),
        ("online_retail", "itembed", "dot"),
    ],
    "the same with no argument": [
        ("online_retail", "ours, no argument", ""),
        ("online_retail", "ALS, no argument", ""),
    ],
    "places that people": [
        ("gowalla", "ours, all places", "cosine"),
        ("gowalla", "ours, large", "cosine"),
        ("gowalla", "ours", "cosine"),
        ("gowalla", "ALS", ""),
    ],
    "tags of a question": [
        ("cooking", "ours", "cosine"),
        ("cooking", "logistic regression", ""),
        ("cooking", "itembed", "dot"),
    ],
}


@pytest.mark.parametrize("begin", FIGURES)
def test_figures_of_the_readme_are_those_that_were_measured(begin):
    results = json.loads((ROOT / "benchmarks/results/quality.json").read_text(encoding="utf-8"))
    means = {}
    for row in results["rows"]:
        # Of several metrics, the one that a data set is known by comes first.
        means.setdefault((row["dataset"], row["system"], row.get("score")), row.get("mean"))
    lines = README.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {begin}")]
    for key in FIGURES[begin]:
        assert f"{means[key]:.3f}".lstrip("0") in line, key


def test_links_of_the_readme_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    targets = {x for x in re.findall(r"\]\(([^)#]+)", text) if not x.startswith("http")}
    assert len(targets) > 10
    assert {target for target in targets if not (ROOT / target).exists()} == set()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_lines_parse(command):
    pytest.importorskip("click", reason="the command line is the extra 'cli'")
    parse(command)


def parse(command):
    """Let click read a command line to its last word, without running it."""
    import click

    from itembed_gpu.cli.main import main

    name, *words = command
    if name not in main.commands:
        raise click.UsageError(f"no such command: {name}")
    with contextlib.suppress(click.exceptions.Exit):  # after --help
        main.commands[name].make_context(name, words)


def test_there_are_examples():
    assert len(PAGES_WITH_CODE) >= 10
    assert {command[0] for command in COMMANDS} >= {"train", "similar", "info", "pack", "predict"}


class TestReading:
    TEXT = """# One

```python
a = 1
```

<!-- not run: needs a GPU -->

```python
b = nothing
```

## Two

* in a list

  ```python
  if True:
      c = 2
  ```

```sh
python -m pip install x && itembed-gpu train --example  # a comment
itembed-gpu similar model "green tea" \\
    -n 3 | head -1
```
"""

    def test_blocks(self):
        blocks = blocks_of(self.TEXT)
        assert [block.language for block in blocks] == ["python"] * 3 + ["sh"]
        assert [block.reason for block in blocks] == [None, "needs a GPU", None, None]
        assert blocks[2].code == "if True:\n    c = 2\n"
        for block in blocks:
            assert self.TEXT.splitlines()[block.line - 1].strip() == block.code.split("\n")[0]

    def test_commands(self):
        assert commands_of(blocks_of(self.TEXT)[-1].code) == [
            ["train", "--example"],
            ["similar", "model", "green tea", "-n", "3"],
        ]

    def test_what_is_printed(self):
        check_printed("1 of 0.25 ... (b)", "1 of   0.5 a\na (b)\n", "a page")
        for printed in ("2 of 0.25 a (b)", "1 of 1 a (b)", "1 of 0.25 a (b) c", ""):
            with pytest.raises(AssertionError, match="a page: the page shows"):
                check_printed("1 of 0.25 ... (b)", printed, "a page")

    @pytest.mark.parametrize("line", ["train --unknown", "unknown", "similar model", "train -o"])
    def test_wrong_commands_do_not_parse(self, line):
        click = pytest.importorskip("click", reason="the command line is the extra 'cli'")
        with pytest.raises(click.UsageError):
            parse(line.split())

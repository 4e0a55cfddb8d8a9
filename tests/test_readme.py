"""The README runs: its Python examples, and the command lines that it shows.

A block that cannot run here has a comment of its own before it, which says why::

    <!-- not run: needs a GPU -->
"""

import contextlib
import re
import shlex
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

FENCE = re.compile(r"\s*(```+|~~~+)\s*(\w*)")
NOT_RUN = re.compile(r"<!--\s*not run\b:?\s*(.*?)\s*-->", re.DOTALL)


class Block(NamedTuple):
    """Code of a README, its section (of # or ##) and first line, and why it is not run, if so."""

    language: str
    code: str
    section: str
    line: int
    reason: str | None


def blocks_of(text):
    """All fenced blocks of a Markdown text, in their order."""
    blocks, section, since = [], "", 0
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        opened = FENCE.match(line)
        if opened is None:
            if re.match("##? ", line):
                section = line.strip("# ")
            number += 1
            continue
        fence, language = opened.groups()
        end = next(
            (n for n in range(number + 1, len(lines)) if lines[n].strip() == fence), len(lines)
        )
        indent = line[: len(line) - len(line.lstrip())]
        code = "\n".join(inner.removeprefix(indent) for inner in lines[number + 1 : end])
        # Only what stands right before a block is of this block.
        told = NOT_RUN.search("\n".join(lines[since:number]).rstrip()[-500:])
        is_last = told is not None and "\n".join(lines[since:number]).rstrip().endswith("-->")
        reason = told.group(1) if told is not None and is_last else None
        blocks.append(Block(language, code + "\n", section, number + 2, reason))
        number = since = end + 1
    return blocks


BLOCKS = blocks_of(README.read_text(encoding="utf-8"))
SECTIONS = list(dict.fromkeys(block.section for block in BLOCKS if block.language == "python"))


def commands_of(code):
    """The command lines of a shell block that are of this package, as lists of words."""
    commands = []
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        current = []
        for word in [*words, ";"]:
            if not set(word) <= set("();<>|&"):
                current.append(word)
                continue
            if current[:1] == ["itembed-gpu"]:
                commands.append(current[1:])
            current = []
    return commands


COMMANDS = [
    command for block in BLOCKS if block.language == "sh" for command in commands_of(block.code)
]


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """A folder to work in, so that examples may write where they like."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# A section may go on from what earlier blocks of it made.
@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("section", SECTIONS)
def test_python_examples_run(section):
    names = {"__name__": "__main__"}
    blocks = [block for block in BLOCKS if (block.section, block.language) == (section, "python")]
    run = [block for block in blocks if block.reason is None]
    for block in run:
        # With its place in the README in a traceback.
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, str(README), "exec"), names)
    if not run:
        pytest.skip("; ".join(block.reason for block in blocks))


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
    assert SECTIONS
    assert {command[0] for command in COMMANDS} >= {"train", "similar", "info"}


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
        assert [block.section for block in blocks] == ["One", "One", "Two", "Two"]
        assert [block.reason for block in blocks] == [None, "needs a GPU", None, None]
        assert blocks[2].code == "if True:\n    c = 2\n"
        for block in blocks:
            assert self.TEXT.splitlines()[block.line - 1].strip() == block.code.split("\n")[0]

    def test_commands(self):
        assert commands_of(blocks_of(self.TEXT)[-1].code) == [
            ["train", "--example"],
            ["similar", "model", "green tea", "-n", "3"],
        ]

    @pytest.mark.parametrize("line", ["train --unknown", "unknown", "similar model", "train -o"])
    def test_wrong_commands_do_not_parse(self, line):
        click = pytest.importorskip("click", reason="the command line is the extra 'cli'")
        with pytest.raises(click.UsageError):
            parse(line.split())

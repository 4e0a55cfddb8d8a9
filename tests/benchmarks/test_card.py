"""One command runs all that is measured on a card; what fails, or is cut off, loses no more."""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import HERE, ROOT, card
from benchmarks.common.timing import run_within


class Parsed(Exception):
    """The arguments were understood."""


def python(code):
    return (sys.executable, "-c", code)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run steps in a folder, and return their records."""

    def run(*steps, arguments=()):
        monkeypatch.setattr(card, "make_steps", lambda options, out: list(steps))
        run.code = card.main(["--device", "cpu", "--out", str(tmp_path), *arguments])
        known = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
        run.text = (tmp_path / "benchmarks" / "card.md").read_text(encoding="utf-8")
        return {step.name: known[step.name] for step in steps}

    monkeypatch.setattr(signal, "signal", lambda *given: None)
    return run


def writes(path, text):
    return python(f"import pathlib; pathlib.Path({str(path)!r}).write_text({text!r})")


def test_what_fails_loses_nothing_of_the_others(run, tmp_path):
    rows = "| a | 1 | met |\n| b | 2 ✗ |\n| c | 3 | MISSED |\n| d | ✓ |\n"
    steps = (
        card.Step("broken", python("print('so far'); raise SystemExit('no room')"), 0.01),
        card.Step("slow", python("import time; time.sleep(60)"), 0.001),
        card.Step("absent", ("/nowhere/to-be-found",), 0.01),
        card.Step("elsewhere", python("raise SystemExit(1)"), 0.01, left_out="it needs a card"),
        card.Step("good", writes(tmp_path / "benchmarks/good.md", rows), 0.01, ("good.md",)),
    )
    run(*(step for step in steps if step.name != "slow"))
    records = run(*steps, arguments=["--step-minutes", "0.02"])
    states = {name: record["state"] for name, record in records.items()}
    assert states == {
        "broken": "failed", "slow": "too long", "absent": "failed", "elsewhere": "left out",
        "good": "done",
    }  # fmt: skip
    assert records["broken"]["reason"] == "no room"
    assert "/nowhere/to-be-found" in records["absent"]["reason"]
    assert (records["good"]["met"], records["good"]["missed"]) == (
        2, ["| b | 2 ✗ |", "| c | 3 | MISSED |"],
    )  # fmt: skip
    assert "so far" in (tmp_path / "logs/broken.txt").read_text()
    assert run.code == 1
    assert "- | c | 3 | MISSED |" in run.text
    assert "- elsewhere: it needs a card" in run.text
    assert run.text.count("\n| ") == 1 + len(steps)


def test_what_was_done_is_not_done_again(run, tmp_path):
    counts = tmp_path / "count"
    code = f"open({str(counts)!r}, 'a').write('x'); raise SystemExit({{}})"
    good = card.Step("good", python(code.format(0)), 0.01)
    bad = card.Step("bad", python(code.format(3)), 0.01)
    for arguments, expected in ([], 2), ([], 2), (["--retry"], 3):
        records = run(good, bad, arguments=arguments)
        assert [record["state"] for record in records.values()] == ["done", "failed"]
        assert counts.read_text() == expected * "x"
    # Another command is another measurement.
    run(card.Step("good", python("pass # " + code), 0.01), bad)
    assert run(good, bad)["good"]["state"] == "done"
    assert counts.read_text() == 4 * "x"


def test_a_step_is_begun_if_there_is_time_and_done_again_if_it_was_cut_off(run, tmp_path):
    slow = card.Step("slow", python("import time; time.sleep(60)"), 0.001)
    long = card.Step("long", python("pass"), 5)
    short = card.Step("short", python("pass"), 0.0)
    records = run(long, slow, arguments=["--minutes", "0.02"])
    assert [record["state"] for record in records.values()] == ["out of time", "cut off"]
    assert run.code == 0
    quick = card.Step("slow", slow.command, 0.001)
    records = run(long, short, arguments=["--minutes", "6"])
    assert [record["state"] for record in records.values()] == ["done", "done"]
    records = run(long, quick, arguments=["--minutes", "6", "--step-minutes", "0.01"])
    assert records["slow"]["state"] == "too long"


def test_rows_that_were_there_before_are_not_judged(run, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "HERE", tmp_path / "checkout")
    (tmp_path / "checkout/results").mkdir(parents=True)
    (tmp_path / "checkout/results/some.json").write_text("[1]")
    (tmp_path / "checkout/some.md").write_text("| old | ✗ |\n")
    new = tmp_path / "benchmarks/some.md"
    code = (
        f"import pathlib; new = pathlib.Path({str(new)!r}); "
        "assert (new.parent / 'results/some.json').read_text() == '[1]'; "
        "new.write_text('| old | ✗ |\\n| new | ✗ |\\n', encoding='utf-8')"
    )
    step = card.Step("some", python(code), 0.01, ("some.md",), ("results/some.json",))
    assert run(step)["some"]["missed"] == ["| new | ✗ |"]
    assert run(step, arguments=["--retry"])["some"]["missed"] == ["| new | ✗ |"]


def test_what_a_step_has_started_ends_with_it(tmp_path):
    pid = tmp_path / "pid"
    command = ("sh", "-c", f"sleep 60 & echo $! > {pid}; wait")
    assert run_within(command, 1.0, tmp_path / "log") is None
    for _ in range(100):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_step_is_a_command_that_exists(device, tmp_path, monkeypatch):
    options = argparse.Namespace(
        device=device, small=device == "cpu", data=tmp_path, against=tmp_path
    )
    steps = card.make_steps(options, tmp_path)
    left_out = {step.name for step in steps if step.left_out}
    needs_card = {"in_flight", "quality", "quality_others"}
    assert left_out - {"scale"} == (set() if device == "cuda" else needs_card)
    shown = {step.name: step.shown for step in steps}
    assert str(tmp_path) not in "".join(shown.values())
    assert shown["gpu"].split(maxsplit=1)[1].startswith(f"-m benchmarks.gpu --device {device}")
    assert shown["tests"].startswith("REQUIRE_GPU=1 scripts/test") == (device == "cuda")
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, arguments=None):
        parse(self, arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    for step in (step for step in steps if step.name != "scale" or not step.left_out):
        for seed in step.seeds:
            assert (HERE / seed).exists()
        if step.command[0] != sys.executable:
            assert (ROOT / step.command[0]).exists()
            continue
        monkeypatch.setattr(sys, "argv", [step.name, *step.command[3:]])
        with pytest.raises(Parsed):
            importlib.import_module(step.command[2]).main()


def test_without_a_card_it_says_so_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.card", "--device", "cuda:99", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "python -m benchmarks.card: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_steps_that_are_not_known_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        card.main(["--device", "cpu", "--step", "gpu", "foo", "--out", str(tmp_path)])
    assert "--step foo: pass some of gpu, job" in capsys.readouterr().err

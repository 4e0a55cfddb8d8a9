"""What `scripts/release` refuses, and that what lies beside the package says the same as it."""

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT, load_script

import itembed_gpu

release = load_script("release")

READY = "# Changelog\n\n## 0.2.0, 2026-11-28\n\n- New.\n\n## 0.1.0, 2026-01-02\n\n- First.\n"
KERNELS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "itembed_gpu" / "kernels").iterdir()
    if path.suffix in (".cu", ".cuh")
)


@pytest.mark.parametrize(
    ("changelog", "words"),
    [
        (READY, []),
        (READY.replace("## 0.2", "## Unreleased\n\n## 0.2"), []),
        (READY.replace("## 0.2", "## [Unreleased]\n\n- More.\n\n## 0.2"), ["text under"]),
        (READY.replace("0.2.0", "0.3.0"), ["newest heading is '0.3.0', the version 0.2.0"]),
        (READY.replace("2026-11-28", "unreleased"), ["'unreleased' where its date belongs"]),
        (READY.replace(", 2026-11-28", ""), ["'' where its date belongs"]),
        (READY.replace("2026-11-28", "2026-11-31"), ["'2026-11-31' where its date belongs"]),
        (READY.replace("- New.", ""), ["nothing is said of 0.2.0"]),
        ("# Changelog\n", ["newest heading is ''"]),
    ],
)
def test_the_changelog_has_the_version_and_its_date(changelog, words):
    problems = release.changelog_problems(changelog, "0.2.0")
    assert len(problems) == len(words)
    for problem, word in zip(problems, words, strict=True):
        assert word in problem


def test_the_version_is_that_of_the_package():
    text = (ROOT / "itembed_gpu" / "__init__.py").read_text(encoding="utf-8")
    assert release.version_of(text) == itembed_gpu.__version__
    with pytest.raises(SystemExit, match="no line __version__"):
        release.version_of("version = 1")


def test_a_tag_is_that_of_the_version_and_new(monkeypatch):
    answers = {"status": "", "tag": ""}
    monkeypatch.setattr(release, "run", lambda git, command, *_, **__: answers[command])
    assert release.git_problems(ROOT, "0.2.0", None) == []
    assert release.git_problems(ROOT, "0.2.0", "v0.2.0") == []
    assert "the tag is v0.3.0" in release.git_problems(ROOT, "0.2.0", "v0.3.0")[0]
    answers.update(status=" M README.md", tag="v0.2.0")
    changed, old = release.git_problems(ROOT, "0.2.0", None)
    assert "README.md" in changed
    assert "v0.2.0 already" in old


def test_a_wheel_has_every_kernel_and_no_stranger():
    committed = ["itembed_gpu/__init__.py", *KERNELS]
    assert len(KERNELS) >= 8
    information = "itembed_gpu-0.2.0.dist-info/METADATA"
    assert release.wheel_problems([*committed, information], committed) == []
    for kernel in KERNELS:
        without = [name for name in committed if name != kernel]
        assert release.wheel_problems(without, committed) == [f"wheel: {kernel} is missing"]
    stranger = release.wheel_problems([*committed, "tests/samples.py"], committed)
    assert stranger == ["wheel: tests/samples.py does not belong there"]


def test_an_sdist_has_what_the_wheel_is_built_from():
    whole = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", *KERNELS]
    names = [f"itembed_gpu-0.2.0/{name}" for name in whole]
    assert release.sdist_problems(names, KERNELS) == []
    assert release.sdist_problems(names[1:], KERNELS) == ["sdist: pyproject.toml is missing"]
    assert release.sdist_problems(names[:-1], KERNELS) == [f"sdist: {KERNELS[-1]} is missing"]


def test_what_was_built_is_small_well_named_and_the_same_from_both(tmp_path, monkeypatch):
    sdist, wheel = tmp_path / "itembed_gpu-0.2.0.tar.gz", tmp_path / "itembed_gpu-0.2.0.whl"
    names = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", *KERNELS]
    with tarfile.open(sdist, "w:gz") as opened:
        for name in names:
            opened.addfile(tarfile.TarInfo(f"itembed_gpu-0.2.0/{name}"))
    with zipfile.ZipFile(wheel, "w") as opened:
        for name in KERNELS:
            opened.writestr(name, bytes(200_000))

    def run(*command, **_):
        if "build" in command:
            (Path(command[command.index("--outdir") + 1]) / wheel.name).write_bytes(b"another")
        return "\n".join(KERNELS) if "ls-files" in command else ""

    monkeypatch.setattr(release, "run", run)
    named, large, other = release.built_problems(ROOT, sdist, wheel, "0.2.0")
    assert "not itembed_gpu-0.2.0-py3-none-any.whl" in named
    assert f"has {wheel.stat().st_size:,} bytes" in large
    assert "is not the wheel from the checkout" in other


def test_the_recipe_is_of_this_version_and_needs_what_the_package_needs():
    recipe = (ROOT / "scripts" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["data"] + extras["cli"][1:]
    run = re.search(r"\n  run:\n(.*?)\n  \w", recipe, re.DOTALL)[1]
    listed = [line.strip(" -").replace(" ", "") for line in run.split("\n") if "- " in line]
    assert listed[1:] == needed
    assert f'version: "{itembed_gpu.__version__}"' in recipe
    for name, target in project["scripts"].items():
        assert f"- {name} = {target}\n" in recipe


def test_every_action_is_pinned_by_commit():
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) == 2
    for path in workflows:
        for used in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), f"{path.name}: {used}"

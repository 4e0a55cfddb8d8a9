"""The package's shape: imports run one way, two wings stay apart, and importing is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, load_script

import itembed_gpu

PACKAGE = Path(itembed_gpu.__file__).parent

# What each wing is made of; they do not know each other, and meet in `models`.
DATA_WING = {"disk", "data"}
TRAINING_WING = {"objective", "kernels", "backends", "ranking", "training"}
# Checkpoints are folders that change as a whole.
KNOWN_ACROSS = {("training", "disk")}
FOUNDATION = {"errors", "checks", "interrupts", "compiling", "sets"}


imports = load_script("imports")
GRAPH = imports.import_graph(ROOT)


def test_parts_import_each_other_one_way():
    chain = imports.longest_chain(GRAPH)  # raises where there is a circle
    assert len(GRAPH) <= 18
    assert len(chain) <= 9
    assert sum(map(len, GRAPH.values())) <= 70


def test_modules_import_each_other_one_way():
    modules = imports.modules_of(PACKAGE)
    graph = {}
    for name, path in modules.items():
        # A name is of a module, or of what lies in it.
        targets = {
            target if target in modules else target.rpartition(".")[0]
            for target in imports.imported(path, name)
        }
        graph[name] = targets - {name}
    imports.longest_chain(graph)


def test_the_wings_do_not_know_each_other():
    wings = DATA_WING, TRAINING_WING
    for wing, other in (wings, wings[::-1]):
        for part in wing:
            assert {(part, target) for target in GRAPH[part] & other} <= KNOWN_ACROSS
            assert GRAPH[part] <= DATA_WING | TRAINING_WING | FOUNDATION
    for part in FOUNDATION:
        assert GRAPH[part] <= FOUNDATION


def test_relative_imports_of_every_level_are_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from . import beside\nfrom .. import above\nfrom ..other.deep import name\n"
        "from itembed_gpu import top\nimport itembed_gpu.metrics\nimport numpy\n"
        "def late():\n    from ...errors import Error\n"
    )
    assert imports.imported(path, "a.b.module") == {
        "a.b.beside", "a.above", "a.other.deep.name", "top", "metrics", "errors.Error",
    }  # fmt: skip


def test_circles_are_found():
    with pytest.raises(ValueError, match="circle: a, b"):
        imports.longest_chain({"a": {"b"}, "b": {"a"}})


def test_only_one_module_tells_devices_apart():
    for name, path in imports.modules_of(PACKAGE).items():
        text = path.read_text(encoding="utf-8")
        if name not in ("backends.devices", "cli.main") and not name.startswith("backends.cuda"):
            assert "CpuBackend(" not in text
        if not name.startswith("backends.cuda"):
            assert "import cupy" not in text


def test_importing_loads_and_compiles_nothing_that_can_wait():
    script = """
import sys
import itembed_gpu
at_once = set(sys.modules)
late = {"cupy", "tqdm", "polars", "click", "safetensors", "matplotlib"}
print(sorted((late | {"numba", "numpy"}) & at_once))
for name in itembed_gpu.__all__:
    getattr(itembed_gpu, name)
print(sorted(late & set(sys.modules)))
from numba.core.dispatcher import Dispatcher
compiled = [
    f"{module}.{name}"
    for module in list(sys.modules) if module.startswith("itembed_gpu")
    for name, value in vars(sys.modules[module]).items()
    if isinstance(value, Dispatcher) and value.signatures
]
print(compiled)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "[]"]


def test_the_options_need_no_numba():
    script = "import sys, itembed_gpu.objective.options; print('numba' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_public_names_are_those_that_type_checkers_see():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
    }
    assert seen == {(module, name) for name, module in itembed_gpu._MODULE_OF.items()}


def test_public_names_are_found_and_others_are_not():
    for name in itembed_gpu.__all__:
        assert getattr(itembed_gpu, name).__name__.removeprefix("itembed_gpu.") == name
    assert {x for x in dir(itembed_gpu) if not x.startswith("__")} == set(itembed_gpu.__all__)
    # No other module is called like a public name, or importing it would take its place.
    assert set(GRAPH) & set(itembed_gpu.__all__) == {"metrics"}
    with pytest.raises(AttributeError, match="no attribute 'do_nothing'"):
        _ = itembed_gpu.do_nothing


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_ci_runs_the_test_command_of_the_readme():
    command = 'python -m pip install -e ".[cli,test]" && scripts/test'
    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

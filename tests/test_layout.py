"""The package's shape: imports run one way, and importing is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import itembed_gpu

PACKAGE = Path(itembed_gpu.__file__).parent

# Each may import those before it.
STAIR = [
    "errors",
    "checks",
    "packed",
    "rng",
    "vectors",
    "storage",
    "folders",
    "packed_files",
    "grouping",
    "itemsets",
    "columns",
    "schedule",
    "objective",
    "steps",
    "backend",
    "interrupts",
    "windows",
    "cpu",
    "kernels",
    "geometry",
    "cuda",
    "devices",
    "ranking",
    "metrics",
    "tables",
    "lowlevel",
    "tasks",
    "checkpoints",
    "training",
    "callbacks",
    "embeddings",
    "estimator",
    "item2vec",
    "classifier",
    "plots",
    "data_files",
    "readers",
    "spills",
    "spilling",
    "example",
    "__init__",
    "evaluation_cli",
    "data_cli",
    "cli",
]


def imported(path):
    """Modules of this package that a file imports, at any depth of its code."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            modules |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            parts = (node.module or "").split(".")
            if parts[0] == "itembed_gpu":
                modules.add(parts[1] if len(parts) > 1 else "__init__")
    return {"__init__" if module == "__version__" else module for module in modules}


def test_every_module_is_on_the_stair():
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    modules |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules == set(STAIR)


def path_of(module):
    folder = PACKAGE / module / "__init__.py"
    return folder if folder.exists() else PACKAGE / f"{module}.py"


def test_imports_run_one_way():
    for rank, module in enumerate(STAIR):
        above = imported(path_of(module)) - set(STAIR[:rank])
        assert not above, f"{module} imports {above}"


def test_only_one_module_tells_devices_apart():
    for module in STAIR:
        text = path_of(module).read_text(encoding="utf-8")
        if module not in ("devices", "cli", "cuda"):
            assert "CpuBackend(" not in text
        if module != "cuda":
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
        assert getattr(itembed_gpu, name).__name__ == name
        assert name in dir(itembed_gpu)
    # No module is called like a public name, or importing it would take its place.
    assert not {path.stem for path in PACKAGE.glob("*.py")} & set(itembed_gpu.__all__)
    with pytest.raises(AttributeError, match="no attribute 'do_nothing'"):
        _ = itembed_gpu.do_nothing


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


ROOT = PACKAGE.parent


def test_ci_runs_the_test_command_of_the_readme():
    command = 'python -m pip install -e ".[cli,test]" && scripts/test'
    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_map_for_contributors_is_complete():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    missing = [name for name in STAIR if f"`{name}.py`" not in text and f"`{name}/`" not in text]
    missing.remove("__init__")
    assert missing == []

"""Scripts of the checkout as modules, for the tests of what they do."""

import importlib.machinery
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load_script(name):
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module

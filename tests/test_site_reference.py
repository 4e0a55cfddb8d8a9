"""The reference of the site: all public names, and their docstrings as numpydoc wants them."""

import inspect
import re
import tomllib

import pytest
from checkout import ROOT
from public import documented, find, public_names

import itembed_gpu

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
EXCLUDED = SETTINGS["numpydoc_validation"]["checks"]


def fields_of(cls):
    """Fields that a record adds to those of the class above it."""
    known = getattr(cls, "__dataclass_fields__", getattr(cls, "_fields", ()))
    return [name for name in inspect.get_annotations(cls) if name in known]


def problems_of(name):
    """What numpydoc finds in the docstring of a public name, or of a method."""
    validate = pytest.importorskip("numpydoc.validate")
    found = validate.validate(f"itembed_gpu.{name}")["errors"]
    errors = [f"{code}: {text}" for code, text in found if code not in EXCLUDED]
    value = find(name)
    # Records are what functions return: their fields are attributes rather than parameters.
    if inspect.isclass(value) and fields_of(value) and "Parameters\n" not in value.__doc__:
        errors = [error for error in errors if not error.startswith("PR01")]
        listed = re.split(r"\n +Attributes\n +-+\n", value.__doc__)[1]
        listed = re.findall(r"^ {4}(\S.*?) : ", listed.split("\n    ----")[0], re.MULTILINE)
        lacking = set(fields_of(value)) - set(", ".join(listed).split(", "))
        errors += [f"Attributes: {name} is not documented" for name in sorted(lacking)]
    return errors


def test_docstrings_have_the_form_of_numpydoc():
    assert EXCLUDED[0] == "all"
    assert len(documented()) > len(public_names()) > 60
    problems = {name: problems_of(name) for name in documented()}
    assert {name: found for name, found in problems.items() if found} == {}


def test_the_reference_lists_all_public_names_once():
    text = (ROOT / "docs" / "reference.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w[\w.]*)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(public_names())
    assert {name for name in listed if "." not in name} == set(itembed_gpu.__all__)

"""What the reference is about: the public names of the package, and their methods."""

import functools
import inspect

import itembed_gpu

PACKAGE = itembed_gpu.__name__


def is_own(value):
    """Tell whether a member of a class is code of this package: not data, nor inherited."""
    value = getattr(value, "__func__", value)  # of a class method
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return inspect.isfunction(value) and value.__module__.split(".")[0] == PACKAGE


def methods_of(cls):
    """List the public methods and properties of a class, as it or a class above it defines them."""
    names = [name for name in dir(cls) if not name.startswith("_")]
    return [name for name in names if is_own(inspect.getattr_static(cls, name))]


def public_names():
    """List the public names below the package's own: ``train``, ``metrics.recall``, ..."""
    below = [f"metrics.{name}" for name in itembed_gpu.metrics.__all__]
    return [*itembed_gpu.__all__, *below]


def find(name):
    """Return what a public name stands for."""
    return functools.reduce(getattr, name.split("."), itembed_gpu)


@functools.cache
def documented():
    """Return all that has a docstring of its own: public names, and methods of classes."""
    names = public_names()
    classes = [name for name in names if inspect.isclass(find(name))]
    return [*names, *(f"{name}.{method}" for name in classes for method in methods_of(find(name)))]

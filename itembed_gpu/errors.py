"""Every exception that this package raises on purpose.

::

    ItembedError
    ├── InputError (ValueError)         an argument cannot be used
    ├── DataError (ValueError)          a file or folder cannot be read
    ├── UnknownLabelError (KeyError)    a label that the embeddings do not hold
    ├── MissingExtraError (ImportError) an optional dependency is not installed
    ├── DeviceError (RuntimeError)      a device cannot be had
    └── DivergenceError (ArithmeticError)  training left the numbers that mean something

Each also derives from the built-in exception in brackets, so that code which
knows nothing of this package can still catch it. A message names the argument
or the file, the value found there, and what to do about it.
"""

from __future__ import annotations


class ItembedError(Exception):
    """Base of all the exceptions of this package."""


class InputError(ItembedError, ValueError):
    """An argument cannot be used: its message names it, its value and the cure."""


class DataError(ItembedError, ValueError):
    """A file or folder is missing, damaged, or not of the expected format."""


class UnknownLabelError(ItembedError, KeyError):
    """A label that the embeddings do not hold."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would quote the message.
        return str(self.args[0]) if self.args else ""


class MissingExtraError(ItembedError, ImportError):
    """An optional dependency is not installed: the message has the command that does it."""


class DeviceError(ItembedError, RuntimeError):
    """A device cannot be had, or cannot do what was asked of it."""


class DivergenceError(ItembedError, ArithmeticError):
    """Training produced values that are not finite, or too large to mean anything."""

"""Tables of embeddings: made, and extended."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.devices import Device, select_backend
from ..errors import InputError
from ..objective.options import resolve_seed
from ..objective.table import Table, centred, uniform_rows

METHODS = ("uniform", "zero")


def initialize_syn(
    num_label: int,
    num_dimension: int,
    method: str = "uniform",
    *,
    seed: int | None = None,
    dtype: npt.DTypeLike = np.float32,
    device: Device = None,
) -> Any:
    """Allocate and initialize a table of embeddings.

    Parameters
    ----------
    num_label : int
        Number of rows.
    num_dimension : int
        Number of columns.
    method : {"uniform", "zero"}
        "uniform" draws from -0.5 / num_dimension ... 0.5 / num_dimension, as
        word2vec does; "zero" fills with zeros.
    seed : int, optional
        Seed of the values, the same on every device; by default they come from
        NumPy's global generator, and ``np.random.seed`` repeats them.
    dtype : dtype, optional
        A floating-point type; tasks train float32.
    device : str or Cuda, optional
        Where the table lies: "cuda" makes a CuPy array, and tasks train it there.

    Returns
    -------
    dtype, (num_label, num_dimension)
        Table: a C-contiguous NumPy array, or a CuPy array whose rows begin at
        multiples of 16 bytes.

    Raises
    ------
    InputError
        A size, the method or the type cannot be used.
    DeviceError
        The device cannot be had.

    Examples
    --------
    >>> initialize_syn(1000, 64, seed=0).shape
    (1000, 64)
    """
    shape = (
        checks.integer("num_label", num_label, 1),
        checks.integer("num_dimension", num_dimension, 1),
    )
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    try:
        is_float = np.issubdtype(np.dtype(dtype), np.floating)
    except TypeError:
        is_float = False
    if not is_float:
        raise InputError(f"dtype must be a floating-point type, not {dtype!r}")
    backend = select_backend(device)
    if method == "zero":
        return backend.zeros(*shape, dtype)
    if seed is None:
        draws = np.random.rand(*shape)  # noqa: NPY002 (as the reference does)
        return backend.to_device(centred(draws.astype(dtype)))
    seed = resolve_seed(seed)
    if np.dtype(dtype) == np.float32:
        return backend.uniform(*shape, seed)
    return backend.to_device(uniform_rows(*shape, seed, dtype))


def to_host(array: Any) -> npt.NDArray[Any]:
    """Return rows, or numbers of rows, as a NumPy array: copied, if they lie on a GPU."""
    if checks.on_device(array):
        array = select_backend(tables={"array": array}).fetch(Table("array", array)).array
    return cast(npt.NDArray[Any], array)


def extend_syn(
    syn: npt.NDArray[Any], num_label: int, method: str = "uniform", *, seed: int | None = None
) -> npt.NDArray[Any]:
    """Add rows for new labels to a table; the old ones stay as they are.

    With labels that were packed by ``pack_itemsets(..., labels=old)``, row i stays that of
    label i. Trained with ``update_right=False`` (or `update_left`), or on new itemsets alone, new
    items find their places among old ones.

    Parameters
    ----------
    syn : floating, (num_old, num_dimension)
        A NumPy table; it is not changed.
    num_label : int
        Rows to have in all, at least `num_old`.
    method : {"uniform", "zero"}
        As for `initialize_syn`.
    seed : int, optional
        The same.

    Returns
    -------
    floating, (num_label, num_dimension)
        A new table of the same type.

    Raises
    ------
    InputError
        `syn` is no table, or has more rows.

    Examples
    --------
    >>> packed = pack_itemsets(new_itemsets, labels=old_labels, min_length=2)
    >>> syn0 = extend_syn(syn0, packed.num_label)
    """
    if not isinstance(syn, np.ndarray) or syn.ndim != 2:
        raise InputError(
            f"syn is {checks.show(syn)}; pass a NumPy table of (num_label, num_dimension)"
        )
    num_new = checks.integer("num_label", num_label, 1) - len(syn)
    if num_new < 0:
        raise InputError(f"num_label is {num_label}, and syn has {len(syn)} rows already")
    if num_new == 0:
        return syn.copy()
    new = initialize_syn(num_new, syn.shape[1], method, seed=seed, dtype=syn.dtype, device="cpu")
    return np.concatenate([syn, new])

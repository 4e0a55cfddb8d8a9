"""Functions of the last axis: softmax, Euclidean norm, and scaling to norm one.

They take anything that NumPy turns into an array of real numbers, and keep its
float dtype; integers and booleans are read as float64. A CuPy array has to be
brought to the host first, with its ``.get()``.
"""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import on_host
from ..errors import InputError
from .parts import PartedTable

# Values of a table, or scores, that are worked on at a time.
CHUNK = 1 << 22


# inf - inf is replaced, a difference beyond the range is as good as -inf, and a
# probability too small for the dtype is as good as zero.
@np.errstate(invalid="ignore", over="ignore", under="ignore")
def softmax(x: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Turn logits into probabilities that sum to one along the last axis.

    Only differences between logits matter, so each row is first shifted to a
    maximum of zero: logits of any size give finite probabilities. A logit of
    ``-inf`` has probability zero. Equal largest logits get equal shares, also
    where they are infinite: a row of nothing but ``-inf`` is uniform, and
    entries of ``+inf`` share the whole of their row. A row with ``nan`` is
    ``nan``.

    Parameters
    ----------
    x : float, ... x num_logit
        Logits, of at least one axis.

    Returns
    -------
    float, ... x num_logit
        Same shape and float dtype as `x`; float64 for integers.

    Raises
    ------
    InputError
        If `x` is a scalar, or does not hold real numbers.

    Examples
    --------
    >>> softmax([1000.0, 1000.0, -np.inf])
    array([0.5, 0.5, 0. ])
    """
    array = _real(x)
    wide = _widen(array)
    top = wide.max(axis=-1, keepdims=True, initial=-np.inf)
    odds: npt.NDArray[np.floating] = np.exp(np.where(wide == top, 0, wide - top))
    share: npt.NDArray[np.floating] = odds / odds.sum(axis=-1, keepdims=True)
    return share.astype(array.dtype, copy=False)


@np.errstate(under="ignore")
def norm(x: npt.ArrayLike) -> npt.NDArray[np.floating]:
    r"""Compute the Euclidean (L\ :sub:`2`) norm along the last axis.

    Each row is scaled by a power of two before it is squared, which is exact.
    So the squares neither overflow nor vanish, in float32 as in float64: the
    norm of ``[3e30, 4e30]`` is ``5e30``. It is ``inf`` only for a row with an
    infinite entry, or if the norm itself is beyond the dtype.

    Parameters
    ----------
    x : float, ... x num_dimension
        Vectors, of at least one axis.

    Returns
    -------
    float, ...
        One norm per vector, of the float dtype of `x`; float64 for integers.

    Raises
    ------
    InputError
        If `x` is a scalar, or does not hold real numbers.

    Examples
    --------
    >>> norm([[3, 4], [0, 0]])
    array([5., 0.])
    """
    array = _real(x)
    scaled, scale = _rescale(array)
    norms = _length(scaled) * scale
    # [()] makes a scalar of the norm of one vector, and leaves arrays as they are.
    return norms[..., 0].astype(array.dtype, copy=False)[()]


@np.errstate(under="ignore")
def normalize(x: npt.ArrayLike) -> npt.NDArray[np.floating]:
    r"""Scale vectors along the last axis to a Euclidean (L\ :sub:`2`) norm of one.

    A zero vector has no direction and stays zero. Vectors as short or as long
    as the dtype can hold are scaled without overflow or underflow, see `norm`.
    A vector with ``nan`` becomes ``nan``; an infinite entry becomes ``nan`` too,
    with NumPy's own warning, as its share of the direction is not known.

    Parameters
    ----------
    x : float, ... x num_dimension
        Vectors, of at least one axis.

    Returns
    -------
    float, ... x num_dimension
        New array, of the float dtype of `x`; float64 for integers.

    Raises
    ------
    InputError
        If `x` is a scalar, or does not hold real numbers.

    Examples
    --------
    >>> normalize([[3, 4], [0, 0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    array = _real(x)
    scaled, _ = _rescale(array)
    lengths = _length(scaled)
    unit = scaled / np.where(lengths == 0, 1, lengths)
    return unit.astype(array.dtype, copy=False)


def unit_rows(table: Any) -> Any:
    """Return a copy of a table with rows of length 1; zeros stay. One of parts is made lazily."""
    if isinstance(table, PartedTable):
        return table.apply(unit_rows)
    unit = np.empty_like(table)
    step = max(1, CHUNK // table.shape[1])
    for start in range(0, len(table), step):
        unit[start : start + step] = normalize(table[start : start + step])
    return unit


def _real(x: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Read an argument as an array of floats with at least one axis."""
    try:
        array = np.asarray(on_host(x))
    except (TypeError, ValueError) as error:
        raise InputError(f"x cannot be read as a NumPy array ({error}); pass one") from error
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise InputError(f"x has dtype {array.dtype}; pass real numbers")
    if array.ndim == 0:
        raise InputError(f"x is the scalar {reprlib.repr(x)}; pass at least one axis, as [x]")
    return array


def _widen(array: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Compute in float32 at least: squares and sums leave the range of float16 early."""
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _rescale(
    array: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Divide each vector by a power of two near its largest entry; return both."""
    wide = _widen(array)
    largest = np.abs(wide).max(axis=-1, keepdims=True, initial=0)
    _, exponent = np.frexp(np.where(np.isfinite(largest), largest, 1))
    # Kept a little inside the range, so that the power and its inverse are normal
    # numbers; the squares of what remains, even of subnormals, are then in range.
    bound = np.finfo(wide.dtype).maxexp - 2
    exponent = exponent.clip(-bound, bound)
    one = wide.dtype.type(1)
    return wide * np.ldexp(one, -exponent), np.ldexp(one, exponent)


def _length(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Compute the norm of vectors of moderate size, keeping the last axis."""
    lengths: npt.NDArray[np.floating] = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return lengths

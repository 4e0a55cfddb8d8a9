"""Groups of items that a map gives colours: clusters, or what the caller says of each item."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Float64Array, Int64Array, on_host, show
from ..data.labels import is_missing, plain
from ..errors import InputError
from .layout import SEED

if TYPE_CHECKING:
    from .embeddings import Embeddings

# Tableau's twenty, the strong ones first, and a scale from low to high.
COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22",
    "#17becf", "#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2",
    "#dbdb8d", "#9edae5", "#393b79", "#637939",
)  # fmt: skip
SCALE = (
    "#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725",
)  # fmt: skip
GREY = "#bbbbbb"
# Items that name a cluster, and how much of each is told.
NUM_NAMING = 2
NAME_LENGTH = 28


@dataclass(frozen=True)
class Groups:
    """The group of each item.

    Attributes
    ----------
    by : str
        What the groups are.
    names, colours : list of str
        Those of each group.
    numbers : uint8 (n,)
        The group of each item.
    """

    by: str
    names: list[str]
    colours: list[str]
    numbers: npt.NDArray[np.uint8]


def shortened(text: str, length: int = NAME_LENGTH) -> str:
    """Return a text in one line, cut to a length."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def cluster(unit: Float32Array, labels: list[Any]) -> Groups:
    """Make clusters of vectors by k-means, and name each after its first items."""
    from sklearn.cluster import KMeans  # which openTSNE needs too
    from threadpoolctl import threadpool_limits

    num_cluster = max(1, min(len(COLOURS), len(unit) // 5))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of vectors that are fewer than clusters
        found = KMeans(num_cluster, n_init=1, random_state=SEED).fit_predict(unit)
    # The largest comes first.
    used, numbers, counts = np.unique(found, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.argsort(order)
    members = [np.flatnonzero(numbers == number) for number in order]
    names = [
        ", ".join(shortened(str(labels[row])) for row in rows[:NUM_NAMING])
        + (", …" if len(rows) > NUM_NAMING else "")
        for rows in members
    ]
    colours = list(COLOURS[: len(used)])
    return Groups("Cluster", _counted(names, counts[order]), colours, place[numbers].astype("u1"))


def checked_values(groups: Any, embeddings: Embeddings) -> list[Any]:
    """Return what a caller says of each item of embeddings, in Python's own values."""
    if isinstance(groups, Mapping):
        if not any(label in groups for label in embeddings.labels):
            raise InputError(
                f"groups: none of its {len(groups)} labels is one of embeddings; pass "
                "{label: group, ...}"
            )
        return [plain(groups.get(label)) for label in embeddings.labels]
    # A set has no order, and a text is no column.
    if isinstance(groups, str | bytes | Set) or not isinstance(groups, Iterable):
        raise InputError(
            f"groups is {show(groups)}; pass one value an item, or a dict from labels to values"
        )
    values = list(map(plain, on_host(groups)))
    if len(values) != len(embeddings):
        raise InputError(
            f"groups has {len(values)} values for {len(embeddings)} items; pass one for each, in "
            "the order of embeddings.labels"
        )
    return values


def group_by(values: list[Any]) -> Groups:
    """Make groups of equal values, or of ranges where there are many different numbers.

    What is beyond the colours is one group of others, and what is missing another; their names
    tell how many.
    """
    told = [None if is_missing(value) else value for value in values]
    try:
        counts = collections.Counter(value for value in told if value is not None)
    except TypeError as error:
        raise InputError(f"groups: {error}; pass values such as strings or numbers") from error
    if not counts:
        raise InputError("groups: all values are missing; pass some, or None for clusters")
    if len(counts) > len(COLOURS) and all(map(_is_number, counts)):
        return _ranges(np.array([np.nan if v is None else v for v in told], dtype=np.float64))
    common = counts.most_common(len(COLOURS))
    names = [shortened(str(value)) for value, _ in common]
    colours = list(COLOURS[: len(names)])
    place = {value: number for number, (value, _) in enumerate(common)}
    numbers = np.array([place.get(value, len(names)) for value in told], dtype=np.uint8)
    if (num_other := len(counts) - len(common)) > 0:
        names.append(f"{num_other:,} other values")
        colours.append(GREY)
    numbers[[value is None for value in told]] = len(names)
    return _with_missing("Group", names, colours, numbers)


def _is_number(value: Any) -> bool:
    # Of integers, what float64 can hold.
    return type(value) is float or (type(value) is int and value.bit_length() < 1000)


def _ranges(values: Float64Array) -> Groups:
    """Make groups of ranges of numbers that hold about as many items each."""
    known = values[~np.isnan(values)]
    shares = np.linspace(0, 1, len(SCALE) + 1)[1:]
    # Each ends at a value that there is.
    ends = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    numbers = np.searchsorted(ends, values).astype(np.uint8)  # NaN is beyond all
    starts = [known[numbers[~np.isnan(values)] == number].min() for number in range(len(ends))]
    names = [f"{start:.6g} to {end:.6g}" for start, end in zip(starts, ends, strict=True)]
    chosen = np.linspace(0, len(SCALE) - 1, len(ends)).round().astype(int)
    return _with_missing("Range", names, [SCALE[number] for number in chosen], numbers)


def _with_missing(by: str, names: list[str], colours: list[str], numbers: Any) -> Groups:
    if (numbers == len(names)).any():
        names, colours = [*names, "no value"], [*colours, GREY]
    return Groups(by, _counted(names, np.bincount(numbers)), colours, numbers)


def _counted(names: list[str], counts: Int64Array) -> list[str]:
    return [f"{name} ({count:,})" for name, count in zip(names, counts.tolist(), strict=True)]

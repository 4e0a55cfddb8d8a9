"""Normalization: the sum over all items that a softmax divides by, and other losses leave out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..backends.batches import Sums
from ..backends.dense import log_sums_over
from ..backends.devices import Device, select_backend
from ..backends.protocol import Backend, Problem
from ..checks import Float64Array
from ..errors import InputError
from ..objective.options import MIN_TEMPERATURE
from ..objective.pairs import ItemsetSource, ListedSource, Side
from ..objective.table import Table
from .tasks import Task, _PackedTask

# Vectors that are compared with all rows together.
BLOCK = 4096
# What scores can be made of.
SIMILARITIES = ("dot", "cosine")


def log_partition(
    queries: Any,
    syn1: Any = None,
    *,
    similarity: str | None = None,
    temperature: float | None = None,
    device: Device = None,
    num_threads: int | None = None,
) -> Float64Array:
    """Return the logarithm of the sum over all items that scores are normalised by, exactly.

    For each query q, ``log Z = log(sum_j exp(s_j))`` over all rows j of `syn1`, where s_j is
    the dot product of q and row j, or their cosine, over the temperature. A softmax subtracts it
    from a score to get the logarithm of a probability. Losses that sample their negatives never
    see it: its mean and its variance tell how far they have normalised themselves all the same.

    - ``loss="nce"``: scores estimate logarithms of probabilities as they are, with Z held at 1
      (Mnih and Teh, "A fast and simple algorithm for training neural probabilistic language
      models", ICML 2012), so that log Z should be near 0. A row that is hardly ever drawn as a
      negative stays near a score of 0, though, which is a probability of 1: with negatives drawn
      as items occur, on a real data set, the mean of log Z was 4.3, and with all alike 0.6.
    - ``loss="negative-sampling"``: scores estimate ``PMI - log(num_negative)``, with negatives
      drawn as items occur (Levy and Goldberg, "Neural word embedding as implicit matrix
      factorization", NIPS 2014): log Z has nothing to be near.
    - ``loss="softmax"``: log Z is free, as any number may be added to all scores, but that
      `self_normalization` pulls it to 0 (Devlin et al., ACL 2014; Andreas and Klein, NAACL 2015).

    Parameters
    ----------
    queries : float32, (num_query, num_dimension), or Task
        Vectors, NumPy or CuPy, or a task over itemsets or pairs, whose tables and scores are then
        what is looked at, where it trains, and nothing else is to be given. Of a task with
        ``pooling="mean"``, queries are its itemsets (of features, where these are another table):
        the weighted mean of all their items, of which none is dropped or subsampled. Of one of
        pairs, a query is a single item: one for each row of the left table that occurs in the
        task, ascending.
    syn1 : float32, (num_label, num_dimension)
        Rows that queries are compared with, where these are.
    similarity : {'dot', 'cosine'}, optional
        What scores are made of; by default dot products.
    temperature : float, optional
        What they are divided by; by default 1.
    device : {"cpu", "cuda", "cuda:N", "auto"} or Cuda, optional
        Where to work, as for tasks.
    num_threads : int, optional
        Threads on the CPU; by default all cores.

    Returns
    -------
    float64, num_query
        NumPy. Products are of float32, on every device.

    Raises
    ------
    InputError
        An argument cannot be used, a value is not finite, or scores leave the range of float32.
    DeviceError
        The device cannot be had, or failed.

    Notes
    -----
    Scores are made in tiles, and never all of them are in memory: beside the answer, that takes
    128 MiB on the CPU and 256 MiB on a GPU, and copies of some rows.

    Examples
    --------
    >>> syn1 = np.log(np.array([[0.5], [0.25], [0.25]], dtype=np.float32))
    >>> bool(abs(log_partition(np.ones((1, 1), dtype=np.float32), syn1)[0]) < 1e-6)
    True
    >>> log_z = log_partition(task)
    >>> mean, variance = log_z.mean(), log_z.var()
    """
    own = {"syn1": syn1, "similarity": similarity, "temperature": temperature}
    if isinstance(queries, Task):
        for name, value in (own | {"device": device, "num_threads": num_threads}).items():
            if value is not None:
                raise InputError(f"{name} is given beside a task, which has its own; leave it out")
        return _of_task(queries)
    queries, syn1 = checks.rows("queries", queries), checks.rows("syn1", syn1)
    checks.same_dimension("queries", queries, "syn1", syn1)
    if not len(syn1):
        raise InputError(f"syn1 has shape {syn1.shape}; pass at least one row")
    similarity = "dot" if similarity is None else similarity
    if similarity not in SIMILARITIES:
        raise InputError(f"similarity is {similarity!r}; pass one of 'dot', 'cosine'")
    scale = checks.number("temperature", 1.0 if temperature is None else temperature)
    if scale < MIN_TEMPERATURE:
        raise InputError(f"temperature is {temperature}; pass at least {MIN_TEMPERATURE}")
    backend = select_backend(device, num_threads, {"queries": queries, "syn1": syn1})
    if checks.on_device(syn1):
        checks.table("syn1", syn1)  # rows that kernels can read
    else:
        syn1 = np.ascontiguousarray(syn1)

    def part(ops: Any, start: int, stop: int) -> Any:
        return ops.xp.asarray(queries[start:stop])

    tables = (Table("syn1", syn1),)
    return _log_sums(backend, tables, len(queries), part, similarity == "cosine", scale)


def _of_task(task: Task) -> Float64Array:
    if not isinstance(task, _PackedTask):
        raise InputError(
            f"queries is a {type(task).__name__}; pass one of its tasks over itemsets or pairs"
        )
    task.synchronize()
    tables, options, source = task._tables, task.options, task._source
    cosine, temperature = options.similarity == "cosine", options.temperature or 1.0
    if options.pooling == "mean" and isinstance(source, ItemsetSource):
        left = source.left

        def part(ops: Any, start: int, stop: int) -> Any:
            return ops.pool(_means(left, start, stop, ops.xp), ops.rows_of(tables[0]))

        num_query = source.num_itemset
    else:
        rows = np.unique(source.items[0])

        def part(ops: Any, start: int, stop: int) -> Any:
            return ops.rows_of(tables[0])[ops.xp.asarray(rows[start:stop])]

        num_query = len(rows)
    return _log_sums(task._backend, tables, num_query, part, cosine, temperature)


def _means(side: Side, start: int, stop: int, xp: Any) -> Sums:
    """Return the means of some itemsets as sums of rows: on the device."""
    items, offsets, weights = side.cut(start, stop, False)
    if not len(weights):
        weights = np.ones(len(items), dtype=np.float32)
    owners = np.repeat(np.arange(stop - start), np.diff(offsets))
    totals = np.bincount(owners, np.abs(weights), stop - start)[owners]
    shares = (weights / np.where(totals > 0, totals, 1)).astype(np.float32)
    return Sums(*map(xp.asarray, (offsets, items, shares)))


def _log_sums(
    backend: Backend,
    tables: tuple[Table, ...],
    num_query: int,
    part: Callable[[Any, int, int], Any],
    cosine: bool,
    temperature: float,
) -> Float64Array:
    """Return the logarithm of each query's sum; `part` returns some queries on the device."""
    found = np.empty(num_query, dtype=np.float64)
    if not num_query:
        return found
    # What a block takes is reckoned as that of a batch of as many pairs.
    none = np.zeros(min(num_query, BLOCK), dtype=np.int32)
    pairs = ListedSource(none, none, np.empty(0, dtype=np.float32))
    ops = backend.operations(Problem(pairs.pairs(), pairs.kind, tables, 0, num_batch=1, seed=0))
    right = tables[-1]
    with ops.begin():
        rows = ops.rows_of(right)
        _check_finite(right.name, ops, rows, 0)
        for start in range(0, num_query, BLOCK):
            stop = min(start + BLOCK, num_query)
            vectors = part(ops, start, stop)
            _check_finite("queries", ops, vectors, start)
            found[start:stop] = log_sums_over(
                ops, vectors, rows, cosine=cosine, temperature=temperature
            )
    ops.synchronize()
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        raise InputError(
            f"queries: scores of row {wrong[0]} leave the range of float32; scale them, or pass a "
            "higher temperature"
        )
    return found


def _check_finite(name: str, ops: Any, rows: Any, first: int) -> None:
    """Refuse a row that is not finite, or whose square is not."""
    finite = np.isfinite(checks.on_host(ops.squares(rows)))
    if not finite.all():
        row = first + int(finite.argmin())
        raise InputError(
            f"{name}: row {row} holds a value that is not finite, or too large; drop that row, or "
            "train with a lower learning rate"
        )

"""What the estimators have in common: parameters, and itemsets of labels as rows of a table.

Estimators have the interface of scikit-learn, and work inside of what it calls a pipeline
or a search, but nothing here needs it to be installed.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.cpu.task import is_finite
from ..backends.devices import Device, select_backend
from ..checks import Float32Array, Int32Array, Int64Array
from ..data.itemsets import Limits, PackedItemsets, pack_codes, pack_itemsets
from ..disk.embeddings import read_folder, write_folder
from ..errors import DataError, InputError
from ..objective.arrays import noise_weights
from ..objective.options import TASK, about, options_at, renamed, resolve_seed
from ..ranking.top_n import top_n
from ..ranking.vectors import normalize
from ..sets import Packed, choose_sets, count_codes
from ..training.checkpoints import stored_seed
from ..training.loop import History, train
from ..training.tasks import Task
from .embeddings import Embeddings, _json_copy

logger = logging.getLogger("itembed_gpu")

ObjectArray = npt.NDArray[np.object_]
Checkpoint = str | os.PathLike[str] | None

# Values of a table, or scores, that are worked on at a time.
CHUNK = 1 << 22


class Estimator:
    """Parameters by name, as scikit-learn reads and writes them, and a folder to save to.

    A subclass takes its parameters from the schema (`takes_options`), or by name in an
    `__init__` of its own. Each is kept as it is in an attribute of its name, and checked when
    it is used. It defines `__sklearn_is_fitted__`, `_state` and `_restore`.
    """

    # Fields of the schema, by the names of parameters.
    _schema: ClassVar[Mapping[str, Field[Any]]]

    # Of every estimator.
    seed: int | None
    device: Device
    workers: int | None

    unknown_: Unknown

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def _value(self, name: str, given: Any = None) -> Any:
        """Return a parameter, or what is given in its place, checked."""
        value = getattr(self, name) if given is None else given
        return about(self._schema[name]).check(name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; `deep` is there for scikit-learn alone."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; what has been learned stays as it is.

        Raises
        ------
        InputError
            There is no such parameter.
        """
        params = renamed(params, 1)
        for name in params:
            if name not in self._names():
                raise InputError(
                    f"{name} is no parameter of {type(self).__name__}; "
                    f"pass some of {', '.join(self._names())}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = inspect.signature(type(self).__init__).parameters
        params = self.get_params()
        shown = [
            f"{name}={checks.show(value)}"
            for name, value in params.items()
            # By their repr, as values may be arrays.
            if repr(value) != repr(given[name].default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_is_fitted__(self) -> bool:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        # Only scikit-learn asks for them.
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            # Also where it classifies: scikit-learn's classifiers know no bags of labels.
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=False, sparse=True, string=True),
            non_deterministic=True,
        )

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise InputError(f"this {type(self).__name__} has learned nothing yet; call fit first")

    # ---------------------------------------------------------------- training

    def _first_seed(self, checkpoint: Checkpoint, resume: bool) -> int:
        """Return the seed of a first training: as given, that of a checkpoint, or a new one."""
        if checkpoint is not None and resume and self.seed is None:
            stored = stored_seed(checkpoint)
            if stored is not None:
                return stored
        return resolve_seed(self.seed)

    def _task_options(self, counts: Int64Array, seed: int) -> dict[str, Any]:
        """Return the options of a task, whose right-hand items occur so many times.

        They are all that the schema has for both. The noise comes from these counts, not from
        those of the task's own itemsets, which may be few.
        """
        of_tasks = options_at(TASK)
        options = {
            known.name: self._value(name)
            for name, known in self._schema.items()
            if known.name in of_tasks
        }
        exponent = options.pop("noise_exponent")
        return options | {"noise_weights": noise_weights(counts, exponent, None), "seed": seed}

    def _train(self, task: Task, epochs: int, quietly: bool = False, **checkpoints: Any) -> History:
        return train(
            task,
            num_epoch=epochs,
            initial_learning_rate=self._value("alpha"),
            final_learning_rate=self._value("min_alpha"),
            callbacks=() if quietly else self._value("callbacks"),
            progress=self._value("progress") and not quietly,
            **checkpoints,
        )

    def _place(self, table: npt.NDArray[Any]) -> Any:
        """Return a table where `device` says: itself, or a copy on a GPU."""
        return select_backend(self.device, self.workers).to_device(table)

    def _count_unknown(self, known: KnownItemsets) -> None:
        """Keep the account of what is unknown, and log it if there is something."""
        self.unknown_ = known.unknown
        if known.unknown.items:
            logger.warning("%s: %s", type(self).__name__, known.unknown)

    # --------------------------------------------------------------- to a disk

    def _state(self) -> tuple[list[Any], dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what was learned: labels, arrays, and the rest as JSON."""
        raise NotImplementedError

    def _restore(
        self, labels: list[Any], tensors: dict[str, npt.NDArray[Any]], state: dict[str, Any]
    ) -> None:
        raise NotImplementedError

    def save(
        self, folder: str | os.PathLike[str], *, metadata: dict[str, Any] | None = None
    ) -> None:
        """Write a folder that `load` reads back: parameters, and all that was learned.

        It is atomic, as `Embeddings.save` is. The parameters `device`, `workers`,
        `callbacks` and `progress` are not kept: they belong to a machine, not to a model.
        Neither is what tells of the last call alone: the history, and what was left out or
        unknown.

        Parameters
        ----------
        folder : path
            A folder that is new, empty, or was saved before; what that held is replaced.
        metadata : dict, optional
            Anything of yours that JSON can hold, to be kept beside: `Embeddings.load` has it
            in its `metadata`, among the model's own names. Those are "estimator", "params",
            "seed", and "num_fit" (of `Item2Vec`) or "num_feature" (of
            `SupervisedClassifier`), and can only be given as they are.

        Raises
        ------
        InputError
            Nothing has been written: nothing has been learned, a label cannot be saved
            (see `Embeddings.save`), a value is no longer finite, a parameter or `metadata`
            is nothing that JSON can hold, `metadata` has another value under one of the
            model's own names, or the folder is a file, or holds something else.
        OSError
            The disk is full, or the like. What was saved before still loads.
        """
        self._check_fitted()
        labels, tensors, state = self._state()
        for name, array in tensors.items():
            if array.dtype == np.float32 and not is_finite(array):
                raise InputError(f"{name} holds a value that is not finite; fit again, and save")
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
            if name not in self._schema or not about(self._schema[name]).machine
        }
        own = _json_copy(
            {"estimator": type(self).__name__, "params": params, **state},
            "parameters of the model",
        )
        write_folder(Path(folder), labels, tensors, _merged(metadata, own))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **params: Any) -> Self:
        """Read a folder that `save` wrote.

        Parameters
        ----------
        folder : path
        **params
            Parameters that are to be others than those saved, such as ``device="cpu"``.

        Raises
        ------
        DataError
            The folder is missing or damaged, or holds something else.
        InputError
            There is no such parameter.
        """
        labels, tensors, metadata = read_folder(Path(folder))
        try:
            kind = metadata["estimator"]
            if kind != cls.__name__:
                raise DataError(f"{folder}: holds a {checks.show(kind)}, not a {cls.__name__}")
            model = cls(**metadata["params"])
            model._restore(labels, tensors, metadata)
        except (KeyError, TypeError, InputError) as error:
            raise DataError(
                f"{folder}: holds no {cls.__name__} ({error}); save it again"
            ) from error
        return model.set_params(**params)


def _merged(metadata: dict[str, Any] | None, own: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller keeps beside a model, and the model's own."""
    given = _json_copy({} if metadata is None else metadata)
    for name in own:
        # The same value is no loss: as where settings, the seed among them, are kept as well.
        if name in given and given[name] != own[name]:
            raise InputError(
                f"metadata holds {name!r}, {checks.show(given[name])}, under which the model "
                f"keeps {checks.show(own[name])}; pass it under another name"
            )
    return {**given, **own}


# ------------------------------------------------------------------- itemsets


def as_packed(
    name: str, itemsets: Any, weights: Iterable[Iterable[float]] | None = None
) -> PackedItemsets:
    """Pack itemsets that are given in any form, and keep empty ones.

    Parameters
    ----------
    name : str
        Of the argument.
    itemsets : itemsets
        Any iterable of iterables, as for `pack_itemsets`; a `PackedItemsets`; a data frame
        of a single column, whose values are lists; or a sparse matrix of SciPy, whose rows
        are itemsets and whose columns are the labels 0, 1, ... of the values that are not
        zero. These values are not used otherwise.
    weights : iterable of iterable of float, optional
        Weight of each item; only where itemsets are an iterable of iterables.

    Raises
    ------
    InputError
        They are none of these.
    """
    is_matrix, is_table = hasattr(itemsets, "tocsr"), hasattr(itemsets, "columns")
    if weights is not None and (isinstance(itemsets, PackedItemsets) or is_matrix):
        raise InputError(
            f"weights are given beside {name} that are a {type(itemsets).__name__}; "
            "leave them out, or pass lists of labels"
        )
    if isinstance(itemsets, PackedItemsets):
        itemsets.verify()
        return itemsets
    if is_matrix:
        return _pack_matrix(itemsets)
    if is_table:
        itemsets = _only_column(name, itemsets)
    try:
        return pack_itemsets(itemsets, min_length=0, weights=weights)
    except InputError as error:
        if name == "itemsets":  # as its messages say
            raise
        raise InputError(f"{name}: {error}") from error


def _pack_matrix(matrix: Any) -> PackedItemsets:
    rows = matrix.tocsr()
    # Zeros may be stored as well.
    codes = np.where(rows.data != 0, rows.indices, -1).astype(np.int32)
    lengths = np.diff(rows.indptr).astype(np.int64)
    return pack_codes(range(rows.shape[1]), codes, lengths, Limits(min_length=0))


def _only_column(name: str, table: Any) -> Any:
    columns = list(table.columns)
    if len(columns) != 1:
        raise InputError(
            f"{name} is a table with {len(columns)} columns; pass the column that holds the lists, "
            "or, of a table with a row for each item, group them into lists first"
        )
    return table[columns[0]]


class Unknown(NamedTuple):
    """What was read, and what of it no row is known for.

    Attributes
    ----------
    items, items_read : int
        Items that are unknown, and all of them.
    itemsets, itemsets_read : int
        Itemsets without any known item, empty ones included, and all of them.
    """

    items: int
    items_read: int
    itemsets: int
    itemsets_read: int

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.items:,} of {self.items_read:,} items are unknown and were left out; "
            f"{self.itemsets:,} of {self.itemsets_read:,} itemsets have no known item"
        )


@dataclass(frozen=True, eq=False)
class KnownItemsets:
    """Itemsets as rows of a table, without the items that it has no row for.

    Attributes
    ----------
    rows : int32 (num_item,)
    offsets : int64 (num_itemset + 1,)
    weights : float32 (num_item,), or None
    unknown : Unknown
        What was left out.
    """

    rows: Int32Array
    offsets: Int64Array
    weights: Float32Array | None
    unknown: Unknown

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def owners(self) -> Int64Array:
        """Number of the itemset of each item."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Whether an itemset has an item."""
        return np.diff(self.offsets) > 0


def only_known(packed: PackedItemsets, embeddings: Embeddings) -> KnownItemsets:
    """Find the row of each item, and leave out those that have none."""
    rows = find_rows(embeddings, packed.labels)[packed.indices]
    kept = rows >= 0
    offsets = np.concatenate([[0], np.cumsum(kept)])[packed.offsets]
    return KnownItemsets(
        rows=rows[kept].astype(np.int32),
        offsets=offsets,
        weights=None if packed.weights is None else packed.weights[kept],
        unknown=Unknown(
            items=int(np.count_nonzero(~kept)),
            items_read=len(kept),
            itemsets=int(np.count_nonzero(np.diff(offsets) == 0)),
            itemsets_read=len(offsets) - 1,
        ),
    )


def find_rows(embeddings: Embeddings, labels: Iterable[Any]) -> Int64Array:
    """Return the row of each label; -1 where there is none."""
    # The dtype is named, as there may be no label.
    return np.array([embeddings.index(x) if x in embeddings else -1 for x in labels], np.int64)


def _is_ready(packed: PackedItemsets, found: Int64Array, min_count: int, min_length: int) -> bool:
    """Whether nothing is to be dropped, and labels come the most frequent first."""
    frequent = found.min(initial=min_count) >= max(min_count, 1)
    in_order = bool((found[1:] <= found[:-1]).all())
    shortest = min(
        (
            int(np.diff(packed.offsets[start : start + CHUNK + 1]).min(initial=min_length))
            for start in range(0, packed.num_itemset, CHUNK)
        ),
        default=min_length,
    )
    return bool(frequent and in_order and shortest >= min_length)


def with_new_labels(
    packed: PackedItemsets, old: Embeddings, min_count: int, min_length: int
) -> tuple[list[Any], Int64Array, PackedItemsets]:
    """Give rows to the labels of itemsets: those of a table, or new ones after them.

    New labels come the most frequent first. Those that are new and rare are dropped, then
    itemsets that are too short, and then new labels that are in none of the others.

    Parameters
    ----------
    packed : PackedItemsets
    old : Embeddings
        The table, with counts.
    min_count : int
        Least number of occurrences of a new label.
    min_length : int
        Least number of items of an itemset.

    Returns
    -------
    labels : list of object
        Of all rows.
    counts : int64
        Occurrences of each label, those of before included.
    itemsets : PackedItemsets
        What remains, with rows as its indices, and an account of all that was dropped.
    """
    found, _ = count_codes(np.asarray(packed.indices), packed.num_label)
    if not len(old) and _is_ready(packed, found, min_count, min_length):
        # It may be mapped from the disk, and larger than memory.
        return list(packed.labels), found, dataclasses.replace(packed, counts=found)
    rare = (find_rows(old, packed.labels) < 0) & (found < min_count)
    codes = np.where(rare[packed.indices], -1, packed.indices).astype(np.int32)
    kept = pack_codes(
        packed.labels,
        codes,
        np.diff(packed.offsets).astype(np.int64),
        Limits(min_length=min_length),
        packed.weights,
    )
    rows = find_rows(old, kept.labels)
    # One whose itemsets were all dropped has nothing to learn from: it would keep a row at random.
    present = np.bincount(kept.indices, minlength=kept.num_label) > 0
    new = np.flatnonzero((rows < 0) & present)
    rows[new] = len(old) + np.arange(len(new))
    counts = np.zeros(len(old) + len(new), dtype=np.int64)
    counts[: len(old)] = cast(Int64Array, old.counts)
    counts[rows[rows >= 0]] += kept.counts[rows >= 0]
    dropped = dataclasses.replace(
        packed.dropped,
        rare_labels=packed.dropped.rare_labels + int(np.count_nonzero(rare & (found > 0))),
        rare_items=packed.dropped.rare_items + int(found[rare].sum()),
        short_itemsets=packed.dropped.short_itemsets + kept.dropped.short_itemsets,
        short_items=packed.dropped.short_items + kept.dropped.short_items,
    )
    return (
        old.labels + [kept.labels[i] for i in new.tolist()],
        counts,
        dataclasses.replace(
            kept, indices=rows[kept.indices].astype(np.int32), counts=counts, dropped=dropped
        ),
    )


# -------------------------------------------------------------------- ranking


def rank(
    queries: Any,
    table: Any,
    n: int,
    known: npt.NDArray[np.bool_],
    prior: npt.NDArray[Any],
    *,
    candidates: npt.NDArray[Any] | None = None,
    losers: Packed | None = None,
    num_threads: int | None = None,
    **options: Any,
) -> tuple[Int64Array, Float32Array]:
    """Return the n best rows of a table for each query, by `top_n`.

    Parameters
    ----------
    queries : float32 (q, D)
    table : float32 (num_row, D)
    n : int
    known : bool (q,)
        Whether there is something to answer a query from. The others get the rows with
        the highest prior, and that as their scores.
    prior : float (num_row,)
    candidates, num_threads, **options
        As of `top_n`.
    losers : (int32, int64), optional
        Packed rows that lose every tie, of scores as of priors.
    """
    rows, scores = top_n(
        queries, table, n, candidates=candidates, losers=losers, num_threads=num_threads, **options
    )
    if not known.all():
        # One answer does for all, unless each of them has losers of its own.
        own = None if losers is None else choose_sets(losers, ~known)
        num_query = 1 if own is None else np.count_nonzero(~known)
        nothing = np.zeros((num_query, table.shape[1]), dtype=np.float32)
        rows[~known], scores[~known] = top_n(
            nothing,
            table,
            n,
            bias=prior,
            candidates=candidates,
            losers=own,
            num_threads=num_threads,
        )
    return rows, scores


def log_shares(counts: Int64Array) -> npt.NDArray[np.float64]:
    """Return the logarithm of each row's share of all occurrences."""
    shares: npt.NDArray[np.float64] = np.log(np.maximum(counts, 1) / max(int(counts.sum()), 1))
    return shares


def labels_at(labels: list[Any], rows: Int64Array) -> ObjectArray:
    """Return the label of each row, of the same shape; None where it is -1."""
    flat = (None if row < 0 else labels[row] for row in rows.ravel().tolist())
    # One by one: to NumPy, a list of tuples would be a matrix.
    return np.fromiter(flat, dtype=object, count=rows.size).reshape(rows.shape)


def unit_rows(table: Float32Array) -> Float32Array:
    """Return a copy of a table with rows of length 1; zeros stay."""
    unit = np.empty_like(table)
    step = max(1, CHUNK // table.shape[1])
    for start in range(0, len(table), step):
        unit[start : start + step] = normalize(table[start : start + step])
    return unit

"""What the estimators have in common: parameters by name, training, and a folder to save to.

Estimators have the interface of scikit-learn, and work inside of what it calls a pipeline
or a search, but nothing here needs it to be installed.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.devices import Device, select_backend
from ..checks import Float32Array, Int64Array
from ..data.itemsets import PackedItemsets
from ..disk.embeddings import write_folder
from ..disk.files import Tensors
from ..disk.labels import check_savable
from ..errors import DataError, DeviceError, InputError
from ..objective.arrays import noise_weights
from ..objective.options import (
    DENSE_LOSSES,
    DEPRECATED,
    TASK,
    Options,
    about,
    options_at,
    renamed,
    resolve_seed,
)
from ..ranking.parts import PartedTable
from ..training.checkpoints import stored_seed
from ..training.loop import History, train
from ..training.tables import initialize_syn
from ..training.tasks import Task
from .defaults import ANY_SHAPE, Shape, as_text
from .embeddings import _json_copy, load_folder
from .known import Unknown
from .scikit_learn import Interface

# Length of rows to begin with, where only directions count: how far a step turns one goes by it.
# Recall@20 of Gowalla is .203 after 10 epochs with .3, at rates of .005 and .01, and .186 and .199
# with 1.
FIRST_LENGTH = 0.3
# Between the streams that draw the rows of both sides.
SEED_OF_RIGHT = 1 << 32

logger = logging.getLogger("itembed_gpu")

Checkpoint = str | os.PathLike[str] | None


class Estimator(Interface):
    """Parameters by name, as scikit-learn reads and writes them, and a folder to save to.

    A subclass takes its parameters from the schema (`takes_options`), or by name in an
    `__init__` of its own. Each is kept as it is in an attribute of its name, and checked when
    it is used. It defines `__sklearn_is_fitted__`, `_state` and `_restore`.
    """

    # Fields of the schema, by the names of parameters.
    _schema: ClassVar[Mapping[str, Field[Any]]]

    # Whether it answers from tables that stay on disk.
    _ranks_parts: ClassVar[bool] = False

    # Values of parameters that are None: none are chosen before something is learned.
    chosen_: Mapping[str, Any] = MappingProxyType({})

    # Of every estimator.
    seed: int | None
    device: Device
    workers: int | None

    unknown_: Unknown

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def _value(self, name: str, given: Any = None) -> Any:
        """Return a parameter, or what is given in its place, checked; or else what was chosen."""
        value = getattr(self, name) if given is None else given
        if value is None:
            # Embeddings that were trained elsewhere are as tasks make them.
            value = self.chosen_.get(name, self._schema[name].default)
        return about(self._schema[name]).check(name, value)

    # ---------------------------------------------------------------- choosing

    def _best(self, given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        """Return the best values for parameters that are not given."""
        raise NotImplementedError

    def _choose(self, shape: Shape, before: Mapping[str, Any] | None = None) -> Self:
        """Return a copy of the parameters alone, with all that is to be chosen in `chosen_`.

        What was chosen `before` remains, unless another loss is asked for by now.

        Raises an `InputError` if parameters cannot be used, or not together.
        """
        chooser = type(self)(**self.get_params())
        to_choose = inspect.signature(type(self).__init__).parameters
        given = {
            name: value
            if value is None and to_choose[name].default is None
            else about(self._schema[name]).check(name, value)
            for name, value in self.get_params().items()
        }
        kept = before or {}
        if given["loss"] not in (None, kept.get("loss")):
            kept = {name: value for name, value in kept.items() if name == "vector_size"}
        given |= {name: value for name, value in kept.items() if given[name] is None}
        best = self._best(given, shape)
        chooser.chosen_ = {
            name: best.get(name, given[name])
            for name, value in self.get_params().items()
            if value is None and best.get(name, given[name]) is not None
        }
        Options(**chooser._task_options(None, 0))
        return chooser

    def _tell_choice(self) -> None:
        """Log what was chosen."""
        if self.chosen_:
            logger.info("%s chose %s", type(self).__name__, as_text(self.chosen_))

    def _check_parameters(self) -> None:
        """Find out whether parameters can be used together, before any data is read.

        Raises an `InputError` that names them if they cannot.
        """
        self._choose(ANY_SHAPE)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool, optional
            Ignored; scikit-learn passes it.

        Returns
        -------
        dict by str
            Values as given, None where they are to be chosen.
        """
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; what has been learned stays as it is.

        Parameters
        ----------
        **params
            New values, by name.

        Returns
        -------
        object
            This object.

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

    def _options_of(self, task: str) -> dict[str, Any]:
        """Return the parameters that are options of a kind of task, by the names of these."""
        of_tasks = options_at(task)
        return {
            known.name: self._value(name)
            for name, known in self._schema.items()
            if known.name in of_tasks
        }

    def _task_options(self, counts: Int64Array | None, seed: int) -> dict[str, Any]:
        """Return the options of a task, whose right-hand items occur so many times.

        They are all that the schema has for both. The noise comes from these counts, not from
        those of the task's own itemsets, which may be few.
        """
        options = self._options_of(TASK)
        if options["loss"] not in DENSE_LOSSES:
            options.pop("similarity", None)  # it is how answers compare
        exponent = options.pop("noise_exponent")
        if counts is None:
            return options | {"noise_exponent": exponent, "seed": seed}
        if options["loss"] in DENSE_LOSSES:
            count = options["num_negative"]
            options["num_negative"] = None if count is None or count >= len(counts) else count
        return options | {"noise_weights": noise_weights(counts, exponent, None), "seed": seed}

    @property
    def _is_trained_by_cosine(self) -> bool:
        return self._value("loss") in DENSE_LOSSES and self._value("similarity") == "cosine"

    def _scale(self) -> float:
        """Return what scores of a softmax are divided by."""
        options = Options(**self._task_options(None, 0))
        return cast(float, options.temperature)  # filled in by now

    def _new_tables(
        self, sizes: Sequence[int], dim: int, seed: int, checkpoints: Mapping[str, Any]
    ) -> list[Any]:
        """Return tables to begin with, of as many rows on each side, as `_new_rows` makes them.

        They are made on the GPU that trains them where nobody looks at them before the end, as
        callbacks, checkpoints and workers do, and where they are trained as a whole.
        """

        def made(device: Device) -> list[Any]:
            sides = enumerate(sizes)
            return [self._new_rows(size, dim, seed, side, device) for side, size in sides]

        seen = [checkpoints.get("checkpoint"), checkpoints.get("client")]
        apart = self._options_of(TASK)["partitions"] != 1
        if apart or seen != [None, None] or self._value("callbacks") or self._is_trained_by_cosine:
            return made("cpu")
        try:
            return made(self.device)
        except DeviceError:  # the task tells what cannot be had, or has not the room
            return made("cpu")

    def _new_rows(
        self, num_row: int, dim: int, seed: int, side: int, device: Device = "cpu"
    ) -> Any:
        """Return rows to begin with: at random on the left, and zeros on the right.

        A row of zeros has no direction, so that for cosines those on the right are random too.
        """
        if side and not self._is_trained_by_cosine:
            return initialize_syn(num_row, dim, "zero", device=device)
        seed = (seed + side * SEED_OF_RIGHT) % (1 << 64)
        rows = initialize_syn(num_row, dim, seed=seed, device=device)
        if self._is_trained_by_cosine:
            rows *= FIRST_LENGTH / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def _train(self, task: Task, epochs: int, quietly: bool = False, **checkpoints: Any) -> History:
        return train(
            task,
            num_epoch=epochs,
            initial_learning_rate=self._value("alpha"),
            final_learning_rate=self._value("min_alpha"),
            schedule=self._value("schedule"),
            callbacks=() if quietly else self._value("callbacks"),
            progress=self._value("progress") and not quietly,
            on_interrupt=self._value("on_interrupt"),
            **checkpoints,
        )

    def _check_savable(self, labels: list[Any], checkpoint: Checkpoint) -> None:
        """Tell before training, which is long, that these labels cannot be saved after it."""
        try:
            check_savable(labels)
        except InputError as error:
            if checkpoint is not None:
                raise
            checks.warn(f"this {type(self).__name__} will not be one to save: {error}")

    def _place(self, table: Any) -> Any:
        """Return a table where `device` says: itself, or a copy on a GPU.

        Each part of one in parts goes there when it is opened.
        """
        if isinstance(table, PartedTable):
            return table.apply(functools.partial(_placed, self.device, self.workers))
        return _placed(self.device, self.workers, table)

    def _count_unknown(self, unknown: Unknown) -> None:
        """Keep the account of what is unknown, and log it if there is something."""
        self.unknown_ = unknown
        if unknown.items:
            logger.warning("%s: %s", type(self).__name__, unknown)

    # --------------------------------------------------------------- to a disk

    def _state(self) -> tuple[list[Any], Tensors, dict[str, Any]]:
        """Return what was learned: labels, arrays, and the rest as JSON."""
        raise NotImplementedError

    def _restore(self, labels: list[Any], tensors: Tensors, state: dict[str, Any]) -> None:
        raise NotImplementedError

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: dict[str, Any] | None = None,
        shards: int = 1,
    ) -> None:
        """Write a folder that `load` reads back: parameters, and all that was learned.

        It is atomic, as `Embeddings.save` is. The parameters `device`, `workers`, `callbacks`,
        `on_interrupt` and `progress` are not kept: they belong to a machine, not to a model.
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
        shards : int, optional
            Files that the rows are divided among: see `Embeddings.save`. A model whose tables
            are not all of the same rows stays whole.

        Raises
        ------
        InputError
            Nothing has been written: nothing has been learned, a label cannot be saved
            (see `Embeddings.save`), a value is no longer finite, a parameter or `metadata`
            is nothing that JSON can hold, `metadata` has another value under one of the
            model's own names, or the folder is a file, or holds something else.
        OSError
            The disk is full, or the like; or another process has been saving to the folder
            for ten minutes (`TimeoutError`). What was saved before still loads, and this
            object is as it was: save it elsewhere.
        """
        shards = checks.integer("shards", shards, 1)
        self._check_fitted()
        labels, tensors, state = self._state()
        for name, array in tensors.items():
            if array.dtype == np.float32 and not _is_finite(array):
                raise InputError(f"{name} holds a value that is not finite; fit again, and save")
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
            if name not in self._schema or not about(self._schema[name]).machine
        }
        own = _json_copy(
            {"estimator": type(self).__name__, "params": params, **state}, "parameters of the model"
        )
        write_folder(Path(folder), labels, tensors, _merged(metadata, own), shards)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        mmap: bool = False,
        client: Any = None,
        **params: Any,
    ) -> Self:
        """Read a folder that `save` wrote.

        Parameters
        ----------
        folder : path
            Where it is.
        mmap, client : optional
            As for `Embeddings.load`: leave the tables on disk, and rank one shard after the other,
            here or by workers of Dask. Of `Item2Vec` and `GloVe`, whose answers are then the same
            but for scores of a model with a `sharpness`, which are rounded by shards.
        **params
            Parameters that are to be others than those saved, such as ``device="cpu"``.

        Raises
        ------
        DataError
            The folder is missing or damaged, or holds something else.
        InputError
            There is no such parameter; or the model cannot be mapped, or `client` is no client.
        MissingExtraError
            `client` is given, and distributed is not installed.
        """
        if (mmap or client is not None) and not cls._ranks_parts:
            raise InputError(
                f"mmap or client is given, and a {cls.__name__} is loaded whole; leave them out"
            )
        labels, tensors, metadata = load_folder(Path(folder), mmap, client)
        try:
            kind = metadata["estimator"]
            if kind != cls.__name__:
                raise DataError(f"{folder}: holds a {checks.show(kind)}, not a {cls.__name__}")
            # A model that was saved under an old name is no mistake of who loads it.
            known = {DEPRECATED.get(n, n): value for n, value in metadata["params"].items()}
            if "chosen" not in metadata:
                # Nothing was chosen then: what is not there was as it is for tasks.
                known = {name: one.default for name, one in cls._schema.items()} | known
            model = cls(**known)
            model._restore(labels, tensors, metadata)
        except DataError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"{folder}: holds no {cls.__name__} ({error}); save it again"
            ) from error
        return model.set_params(**params)


def _placed(device: Device, workers: int | None, table: npt.NDArray[Any]) -> Any:
    return select_backend(device, workers).to_device(table)


def _is_finite(table: Any) -> bool:
    """Whether a table, or numbers of all rows, are finite."""
    if not isinstance(table, PartedTable):
        return checks.is_finite(table)
    return all(finite for _, finite in table.ask(_part_is_finite, None, lambda *limits: None))


def _part_is_finite(rows: Any, given: None, argument: None) -> bool:
    return checks.is_finite(checks.on_host(rows))


def shape_of(packed: PackedItemsets, num_row: int | None = None) -> Shape:
    """Return what choices look at: of itemsets, of which so many rows are ranked."""
    num_itemset = packed.num_itemset
    length = len(packed.indices) / max(1, num_itemset)
    return Shape(packed.num_label if num_row is None else num_row, num_itemset, length)


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


def float_row(name: str, values: npt.NDArray[Any], length: int) -> Float32Array:
    """Return a vector that was saved, one float a label. Raises an `InputError` if it is none."""
    if values.dtype != np.float32 or values.shape != (length,) or not checks.is_finite(values):
        raise InputError(
            f"{name} has shape {values.shape} and dtype {values.dtype}, where {length} finite "
            "float32 are wanted"
        )
    return values

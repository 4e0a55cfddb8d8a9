"""Callbacks of `train`: values that are found after an epoch, and stopping when they get no better.

What they find they write to `EpochRecord.metrics`, where later callbacks, and
`History.as_table`, find it by its name.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from .. import checks
from ..errors import InputError
from ..interrupts import deferred_interrupt
from .loop import COLUMNS, EpochRecord, History, TrainState

logger = logging.getLogger("itembed_gpu")

# Where tasks keep the tables that they train.
TABLE_NAMES = ("syn0", "syn1", "left_syn", "right_syn")


class Evaluator:
    """A callback that measures, and keeps the values in the record of the epoch.

    It measures after the first epoch, so that what is wrong with `function` shows
    at once, after every `every`-th one that follows, and after the last one that
    was asked for.

    Parameters
    ----------
    function : callable
        Function of a `TrainState`. It returns a number, or a dict of numbers by
        name, which may be nan.
    name : str, optional
        What a single number is called; a dict has its own names.
    every : int, optional
        Measure after every so many epochs.
    report : callable, optional
        Function of a line of text, called with what was measured; to print it
        beside a progress bar, ``tqdm.write``.

    Raises
    ------
    InputError
        An argument cannot be used. In training: `function` returned something
        else, or a name that another callback, or the record itself, has already.

    Examples
    --------
    >>> evaluator = Evaluator(lambda state: hit_rate(state.task.syn0), "hit rate", every=5)
    >>> history = train(task, callbacks=[evaluator])
    >>> history.epochs[-1].metrics
    {'hit rate': 0.31}
    """

    def __init__(
        self,
        function: Callable[[TrainState], Any],
        name: str = "metric",
        *,
        every: int = 1,
        report: Callable[[str], Any] | None = None,
    ) -> None:
        self.function = _callable("function", function)
        self.name = _metric_name("name", name)
        self.every = checks.integer("every", every, 1)
        self.report = None if report is None else _callable("report", report)

    def on_epoch_end(self, state: TrainState) -> None:
        """Measure, if it is time for it.

        Parameters
        ----------
        state : TrainState
            What `train` hands to its callbacks.
        """
        epoch = state.record.epoch
        if epoch % self.every and epoch + 1 != state.num_epoch:
            return
        found = self.function(state)
        values = found if isinstance(found, Mapping) else {self.name: found}
        for name, value in values.items():
            _note(state.record, name, value)
        if self.report is not None:
            shown = ", ".join(f"{name} {state.record.metrics[name]:.4f}" for name in values)
            self.report(f"epoch {epoch + 1} of {state.num_epoch}: {shown}")


class EarlyStopping:
    """A callback that ends training when a metric gets no better, and puts the best tables back.

    One object serves one training at a time; in the next one it starts afresh.

    The learning rate falls over all the epochs that were asked for, so that a
    training that is stopped early ends at a rate that is still high: stopping
    saves time where training overfits, and else may cost some quality.

    Parameters
    ----------
    metric : callable or str
        Function of a `TrainState` that returns a number; or the name of a metric
        that a callback before this one writes to `state.record.metrics`; or
        "loss".
    patience : int, optional
        Stop after so many measurements in a row without improvement; epochs in
        which the named metric was not measured count neither way.
    name : str, optional
        What the values of a function are called in the record.
    min_delta : float, optional
        An improvement is one by more than this over the best value.
    mode : {"max", "min"}, optional
        Whether higher or lower is better; by default lower for "loss", and
        higher for all others.
    restore_best : bool, optional
        Whether to give the tables the values of the best epoch when training
        ends: stopped by this or another callback, interrupted, or after its last
        epoch. It takes the memory of a second set of tables, where they lie.

    Attributes
    ----------
    best : float
        The best value; nan if there is none.
    best_epoch : int
        Its epoch, from 0; -1 if there is none.
    num_bad : int
        Measurements since then. nan is one without improvement, and is warned of
        once.
    stopped : bool
        Whether this callback ended the training.

    Raises
    ------
    InputError
        An argument cannot be used. In training: there is no metric of this name
        in the first epoch, the function returned something that is no number, or
        the tables of the task are not known (a task of your own tells them as
        `state_tables`, a list of NumPy or CuPy arrays).

    Examples
    --------
    >>> stopping = EarlyStopping(lambda state: hit_rate(state.task.syn0), patience=5)
    >>> history = train(task, num_epoch=1000, callbacks=[stopping])
    >>> stopping.best_epoch
    17
    """

    def __init__(
        self,
        metric: Callable[[TrainState], Any] | str,
        patience: int = 3,
        *,
        name: str = "metric",
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        if not isinstance(metric, str):
            _callable("metric", metric, " or the name of a metric")
        if mode not in (None, "max", "min"):
            raise InputError(f"mode is {checks.show(mode)}; pass 'max' or 'min'")
        self.metric = metric
        self.patience = checks.integer("patience", patience, 1)
        self.name = _metric_name("name", name)
        self.min_delta = checks.number("min_delta", min_delta)
        if self.min_delta < 0:
            raise InputError(f"min_delta is {min_delta}; pass a number of at least 0")
        self.mode = mode or ("min" if metric == "loss" else "max")
        self.restore_best = bool(restore_best)
        self._start(None)

    def _start(self, history: History | None) -> None:
        self.best = math.nan
        self.best_epoch = -1
        self.num_bad = 0
        self.stopped = False
        self._warned = False
        # Each training has a history of its own, which tells it from others.
        self._history = history
        # Pairs of a table and its best values.
        self._kept: list[tuple[Any, Any]] = []
        # Those of a checkpoint, until the task is known.
        self._loaded: list[Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it: numbers, and the tables of the best epoch.

        Returns
        -------
        dict by str
            To be handed to `load_state_dict`.
        """
        kept = {f"table-{number}": values for number, (_, values) in enumerate(self._kept)}
        best = None if math.isnan(self.best) else self.best
        return {"best": best, "best_epoch": self.best_epoch, "num_bad": self.num_bad, **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, in the next training, from what was kept.

        Parameters
        ----------
        state : dict by str
            What `state_dict` returned.
        """
        self._start(None)
        self.best = math.nan if state["best"] is None else state["best"]
        self.best_epoch, self.num_bad = state["best_epoch"], state["num_bad"]
        self.stopped = self.num_bad >= self.patience
        num_table = sum(name.startswith("table-") for name in state)
        self._loaded = [state[f"table-{number}"] for number in range(num_table)]

    def _follow(self, state: TrainState) -> None:
        """Start afresh in another training, unless it goes on from a checkpoint."""
        if state.history is self._history:
            return
        if self._loaded is None:
            self._start(state.history)
            return
        self._history, loaded, self._loaded = state.history, self._loaded, None
        if loaded:
            self._kept = [
                (table, _like(table, values))
                for table, values in zip(_tables(state.task), loaded, strict=True)
            ]

    def on_epoch_end(self, state: TrainState) -> bool:
        """Compare this epoch with the best one.

        Parameters
        ----------
        state : TrainState
            What `train` hands to its callbacks.

        Returns
        -------
        bool
            Whether it is time to stop.
        """
        self._follow(state)
        value = self._measure(state)
        if value is None:
            return False
        if math.isnan(value) and not self._warned:
            self._warned = True
            logger.warning("epoch %d: the metric to stop by is nan", state.record.epoch + 1)
        if self._is_better(value):
            if self.restore_best:
                self._keep(state.task)
            self.best, self.best_epoch, self.num_bad = value, state.record.epoch, 0
        else:
            self.num_bad += 1
            self.stopped = self.num_bad >= self.patience
        return self.stopped

    def on_train_end(self, state: TrainState) -> None:
        """Put the tables of the best epoch back, unless it is the last one.

        Parameters
        ----------
        state : TrainState
            What `train` hands to its callbacks.
        """
        if self._loaded is not None:
            self._follow(state)
        if state.history is not self._history:
            return  # interrupted before the end of an epoch
        interrupted = state.history.interrupted
        # What was interrupted has been trained in part, also where it left no record.
        if self._kept and (interrupted or self.best_epoch < state.record.epoch):
            self.restore()
            # After an interruption a warning has said something else of the tables.
            level = logging.WARNING if interrupted else logging.INFO
            logger.log(level, "the tables are put back to the best epoch, %d", self.best_epoch + 1)
        self._kept = []

    def restore(self) -> None:
        """Put the tables of the best epoch back.

        Training that ends calls it. It is for the caller where training failed,
        as by a `DivergenceError`.

        Raises
        ------
        InputError
            There are none: `restore_best` is false, no epoch was measured, or
            training has ended and they have been put back.
        """
        if not self._kept:
            raise InputError("there are no tables to restore; call it only where training failed")
        with deferred_interrupt():
            for table, values in self._kept:
                with checks.using_device_of(table):
                    table[...] = values

    def _measure(self, state: TrainState) -> float | None:
        """Return the value of this epoch; None if it was not measured."""
        record = state.record
        if not isinstance(self.metric, str):
            return _note(record, self.name, self.metric(state))
        if self.metric == "loss":
            return record.loss
        if self.metric in record.metrics:
            return _number(self.metric, record.metrics[self.metric])
        # It may be left out now and then, but one that never comes would go unnoticed.
        if len(state.history.epochs) == 1:
            names = ", ".join(map(repr, record.metrics)) or "none"
            raise InputError(
                f"metric is {self.metric!r}, and the record of the first epoch has no such metric, "
                f"but {names}; pass the callback that measures it before EarlyStopping"
            )
        return None

    def _is_better(self, value: float) -> bool:
        if math.isnan(value) or math.isnan(self.best):
            return not math.isnan(value)
        if self.mode == "max":
            return value > self.best + self.min_delta
        return value < self.best - self.min_delta

    def _keep(self, task: Any) -> None:
        """Copy the tables, over the copies of the epoch that was the best one until now."""
        if not self._kept:
            self._kept = [(table, _copy(table)) for table in _tables(task)]
            return
        # Interrupted in between, they would be of two epochs.
        with deferred_interrupt():
            for table, values in self._kept:
                with checks.using_device_of(table):
                    values[...] = table


def _tables(task: Any) -> list[Any]:
    """List the arrays that a task trains, each once.

    Raises an `InputError` if it does not tell them, or one of its sub-tasks does not.
    """
    found = [getattr(task, name) for name in TABLE_NAMES if hasattr(task, name)]
    # Training goes on from the accumulators of an optimizer as well.
    found += getattr(task, "accumulators", None) or ()
    found += getattr(task, "state_tables", ())
    for part in getattr(task, "tasks", ()):
        found += _tables(part)
    if not found:
        raise InputError(
            f"restore_best is True, and what a {type(task).__name__} trains is not known; "
            "give it state_tables, a list of its arrays, or pass restore_best=False"
        )
    tables: list[Any] = []
    for table in found:
        if not any(checks.same_table(table, known) for known in tables):
            tables.append(table)
    return tables


def _copy(table: Any) -> Any:
    with checks.using_device_of(table):
        return table.copy()


def _like(table: Any, values: Any) -> Any:
    """Bring values to where a table is."""
    if not checks.on_device(table):
        return values
    copy = _copy(table)
    with checks.using_device_of(table):
        copy.set(values)
    return copy


def _note(record: EpochRecord, name: Any, value: Any) -> float:
    """Write a value to a record, under a name of its own, and return it."""
    name = _metric_name("the name of a metric", name)
    if name in record.metrics:
        raise InputError(
            f"epoch {record.epoch + 1} has a metric {name!r} already; "
            "pass the callbacks different names"
        )
    record.metrics[name] = _number(name, value)
    return record.metrics[name]


def _number(name: str, value: Any) -> float:
    """Check a measured number, which may be nan or infinite."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"the metric {name!r} is {checks.show(value)}; return a number") from error


def _metric_name(what: str, name: Any) -> str:
    if not isinstance(name, str) or not name or name in COLUMNS:
        raise InputError(
            f"{what} is {checks.show(name)}; pass a string that is none of {', '.join(COLUMNS)}"
        )
    return name


def _callable(name: str, value: Any, otherwise: str = "") -> Callable[..., Any]:
    if not callable(value):
        raise InputError(f"{name} is {checks.show(value)}; pass a function{otherwise}")
    return value  # type: ignore[no-any-return]

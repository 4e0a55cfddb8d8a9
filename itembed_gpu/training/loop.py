"""The training loop: epochs, the learning rate, progress, interruption, callbacks."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

from .. import checks
from ..backends.protocol import Tally
from ..errors import DeviceError, DivergenceError, InputError
from ..objective.options import ON_INTERRUPT, SCHEDULES, one_of
from ..objective.schedule import learning_rates
from .checkpoints import Checkpoints, Place
from .tasks import Task, Trainable, as_task

logger = logging.getLogger("itembed_gpu")

# The loss on the progress bar forgets at this rate, a call.
LOSS_MEMORY = 0.9
# Training has diverged where the mean loss of an epoch is so many times that of a model that knows
# nothing: its logits are then off by hundreds. Tables that begin large have less.
MAX_LOSS = 1000


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did.

    Attributes
    ----------
    epoch : int
        Its number, from 0.
    loss : float
        Mean loss of a pair and its negatives, over a sample of the pairs, each
        before its own update; of a softmax that of a target, over all of them, by their
        weights. nan for a task that does not tell.
    num_pair : int
        Pairs trained; 0 for a task that does not tell.
    seconds : float
        Time it took, without callbacks.
    learning_rate : float
        That of its first batch.
    num_dropped : int
        Pairs that subsampling left out, or `targets` and `dropout` of a softmax; they are not
        among those trained.
    metrics : dict of float by str
        What callbacks found in it, by name: they write here.
    """

    epoch: int
    loss: float
    num_pair: int
    seconds: float
    learning_rate: float
    num_dropped: int = 0
    # Only the dict's contents change, which are no part of the record's hash.
    metrics: dict[str, float] = field(default_factory=dict, hash=False)


COLUMNS = tuple(column.name for column in fields(EpochRecord) if column.name != "metrics")
"""Names of `History.as_table` that no metric may have."""


@dataclass(repr=False)
class History:
    """What a call of `train` did, epoch by epoch.

    Attributes
    ----------
    epochs : list of EpochRecord
        One an epoch; the last one is partial if training was interrupted.
    interrupted : bool
        Whether Ctrl-C ended it.
    stopped : bool
        Whether a callback ended it.
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False

    def __repr__(self) -> str:
        count = len(self.epochs)
        parts = [f"{count} epoch{'' if count == 1 else 's'}"]
        if self.epochs:
            first, last = self.epochs[0].loss, self.epochs[-1].loss
            parts += [f"loss {first:.4g} to {last:.4g}" if count > 1 else f"loss {last:.4g}"]
            parts += [f"{self.num_pair:,} pairs", f"{self.seconds:.3g} s"]
        parts += [name for name in ("stopped", "interrupted") if getattr(self, name)]
        return f"History({', '.join(parts)})"

    @property
    def loss(self) -> float:
        """Loss of the last epoch; nan if there is none."""
        return self.epochs[-1].loss if self.epochs else math.nan

    @property
    def num_pair(self) -> int:
        """Pairs trained in all epochs."""
        return sum(record.num_pair for record in self.epochs)

    @property
    def seconds(self) -> float:
        """Time of all epochs, without callbacks."""
        return sum(record.seconds for record in self.epochs)

    @property
    def metric_names(self) -> list[str]:
        """Names of the metrics of all epochs, in the order in which they came."""
        return list(dict.fromkeys(name for record in self.epochs for name in record.metrics))

    def as_table(self) -> dict[str, list[Any]]:
        """Return the epochs as columns, for a data frame.

        Returns
        -------
        dict of list by str
            Columns of one entry an epoch: epoch, loss, num_pair, seconds,
            learning_rate, num_dropped, and one a metric, with nan where an epoch
            has none.

        Raises
        ------
        InputError
            A metric is called like another column.

        Examples
        --------
        >>> table = pandas.DataFrame(history.as_table())
        >>> table = polars.DataFrame(history.as_table())
        >>> table.columns
        ['epoch', 'loss', 'num_pair', 'seconds', 'learning_rate', 'num_dropped']
        """
        table = {name: [getattr(record, name) for record in self.epochs] for name in COLUMNS}
        for name in self.metric_names:
            if name in table:
                raise InputError(
                    f"metrics holds {name!r}, which is a column already; "
                    "call the metric something else"
                )
            table[name] = [record.metrics.get(name, math.nan) for record in self.epochs]
        return table


@dataclass(frozen=True)
class TrainState:
    """What a callback is told at the end of an epoch.

    Attributes
    ----------
    task : Task
        The task in training; its tables are up to date, and may be written to.
    num_epoch : int
        Epochs that were asked for.
    record : EpochRecord
        The epoch that ended; what a callback writes to its `metrics` is kept.
    history : History
        All epochs so far, that one included; a new object for each call of `train`.
    """

    task: Any
    num_epoch: int
    record: EpochRecord
    history: History


Callback = Callable[[TrainState], Any]


def train(
    task: Trainable,
    *,
    num_epoch: int = 10,
    initial_learning_rate: float = 0.025,
    final_learning_rate: float = 0.0,
    schedule: str = "linear",
    callbacks: Iterable[Any] = (),
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    on_interrupt: str = "stop",
    client: Any = None,
    cluster_folder: str | os.PathLike[str] | None = None,
) -> History:
    """Train a task, with a learning rate that falls from batch to batch.

    Ctrl-C ends it softly, unless `on_interrupt` says otherwise: the tables hold what was
    trained until then, a warning is logged, and `History.interrupted` is set. A second call
    goes on in the task's random stream.

    NumPy tables that train on a GPU are copied there when it starts, and back when it
    ends, at the end of each epoch if there are callbacks, and where a callback raises.

    Parameters
    ----------
    task : Task
        Task to train, or any object with `__len__` and `do_batch`.
    num_epoch : int, optional
        Number of passes over the whole task.
    initial_learning_rate : float, optional
        Learning rate of the first batch.
    final_learning_rate : float, optional
        Learning rate that would follow the last batch.
    schedule : {"linear", "cosine"}, optional
        How it falls: by the same in each batch, or along half a cosine, slowly at first and at
        the end.
    callbacks : iterable, optional
        Functions of a `TrainState`, or objects that have one as `on_epoch_end`.
        They are called at the end of each epoch, in their order; a true result
        ends the training. Where an object has an `on_train_end` as well, that is
        called once, with the state of the last epoch, when all is trained,
        stopped or interrupted, and the tables hold the result; not where
        training fails, or trains nothing.
    progress : bool, optional
        Whether to show a progress bar on standard error: pairs a second, the
        learning rate, and the running loss of a sample.
    checkpoint : path-like, optional
        Folder to write checkpoints to: after every `checkpoint_every`-th epoch, at the
        end, and at Ctrl-C or SIGTERM. The tables are copied, and a thread writes the copy
        while training goes on. A write that is killed leaves the one before; one that fails,
        as on a full disk, too, and is a `UserWarning`. Of two trainings, one can have the
        folder. For tasks of this package; callbacks are kept where they have a `state_dict` and a
        `load_state_dict`, as `EarlyStopping` has.
    checkpoint_every : int, optional
        Epochs from one checkpoint to the next.
    resume : bool, optional
        Whether to go on from the checkpoint, if there is one: the tables get its values,
        and random stream, learning rate, epoch and history go on from there. On one thread
        of the CPU the result is that of a training that was never interrupted, to the last
        bit. Without it, a folder that has a checkpoint already is refused.
    on_interrupt : {"stop", "raise"}, optional
        What Ctrl-C does (and SIGTERM, where there are checkpoints). "stop" ends this training
        and returns; "raise" raises a `KeyboardInterrupt` once the tables hold what was trained
        and the checkpoint is written, so that a loop or a search around it ends as well.
    client : distributed.Client, optional
        Client of a Dask cluster whose workers train the task, which has `partitions`, best two or
        more for each worker. Parts of the tables are with the workers; the caller's get them at the
        end, and where callbacks or checkpoints ask for them. Where a worker dies, others do its
        work again. With workers of one thread (``num_threads=1``), the result is the same to the
        last bit wherever they run, and whichever of them die, if as many there were when it began.
    cluster_folder : path-like, optional
        Folder that all workers and this process share, for the parts of an epoch that has ended;
        by default that of temporary files, which will do for workers on this machine. It has to
        have room for twice the tables, and for the itemsets.

    Returns
    -------
    History
        Loss, pairs and seconds of each epoch.

    Raises
    ------
    InputError
        An argument cannot be used, or the checkpoint is of another job, or another training
        writes to its folder.
    DataError
        The checkpoint is damaged, or its folder cannot be made.
    DivergenceError
        Training left the finite numbers, or those that mean something: the loss of an epoch
        is a thousand times that of a model that knows nothing, or a value of a table is above
        1e9. It is found within the epoch, or, where an epoch trains few of the rows, within as
        many as train them all.
        Tables that were copied to a GPU are left as they were.
    DeviceError
        The device failed, or the cluster. Tables that were copied to it are left as they were.
    MissingExtraError
        There is a client, and distributed is not installed where it is needed.
    KeyboardInterrupt
        It was interrupted, and `on_interrupt` is "raise".
    """
    one_of(ON_INTERRUPT)("on_interrupt", on_interrupt)
    one_of(SCHEDULES)("schedule", schedule)
    inner = as_task(task)
    num_epoch = checks.integer("num_epoch", num_epoch)
    initial = checks.number("initial_learning_rate", initial_learning_rate)
    final = checks.number("final_learning_rate", final_learning_rate)
    if not isinstance(callbacks, Iterable):
        raise InputError(f"callbacks is a {type(callbacks).__name__}; pass a list of them")
    callbacks = list(callbacks)
    hooks = [_as_callback(callback) for callback in callbacks]
    if len(inner) < 1:
        raise InputError("task has no batch; pass one with a length of at least 1")

    plan: dict[str, Any] = {"num_epoch": num_epoch, "initial_learning_rate": initial}
    plan |= {"final_learning_rate": final, "schedule": schedule}
    saver = None
    if checkpoint is not None:
        saver = Checkpoints(checkpoint, inner, checkpoint_every, plan, callbacks)
    elif resume:
        raise InputError("resume is True and checkpoint is None; pass the folder of checkpoints")
    if cluster_folder is not None and client is None:
        raise InputError("cluster_folder is given and client is None; pass a client")
    workers = inner._by_workers(client, cluster_folder) if client is not None else nullcontext()
    with saver.open() if saver else nullcontext(), workers:
        place = saver.restore(resume, EpochRecord) if saver else None
        bar = _Bar(num_epoch * len(inner), progress)
        rates = initial, final, schedule
        training = _Training(task, inner, num_epoch, rates, callbacks, hooks, bar, saver)
        history = training.run(place)
    # Outside of what answers to signals while there are checkpoints.
    if history.interrupted and on_interrupt == "raise":
        raise KeyboardInterrupt
    return history


@dataclass
class _Training:
    """One call of `train`."""

    _given: Trainable
    _task: Task
    _num_epoch: int
    _rates: tuple[float, float, str]
    _callbacks: list[Any]
    _hooks: list[Callback]
    _bar: _Bar
    _saver: Checkpoints | None
    _history: History = field(default_factory=History)
    _epoch: int = 0

    def run(self, place: Place | None) -> History:
        """Train from the beginning, or from the place of a checkpoint."""
        task, history = self._task, self._history
        try:
            self._train(place)
        except KeyboardInterrupt:
            history.interrupted = True
        except (DivergenceError, DeviceError):
            task._discard()
            raise
        except BaseException:
            task.synchronize()
            raise
        finally:
            self._bar.close()
            if self._saver:
                self._saver.join()
        task.synchronize()
        if self._saver:
            self._saver.finish()
        if history.interrupted:
            logger.warning(
                "interrupted in epoch %d of %d: the tables hold what was trained until now",
                self._epoch + 1,
                self._num_epoch,
            )
        task._check_finite()
        if history.epochs:
            for callback in self._callbacks:
                if hasattr(callback, "on_train_end"):
                    callback.on_train_end(self._state())
        return history

    def _state(self) -> TrainState:
        history = self._history
        return TrainState(self._given, self._num_epoch, history.epochs[-1], history)

    def _train(self, place: Place | None) -> None:
        task, history = self._task, self._history
        batch = 0
        if place is not None:
            history.epochs = list(place.records)
            history.stopped = place.stopped
            self._epoch, batch = place.epoch, place.batch
        with self._bar.preparing():
            task._prepare()
        if place is None:
            task._start_epoch()
        self._bar.skip(self._epoch * len(task) + batch)
        first = self._num_epoch if history.stopped else self._epoch
        for epoch in range(first, self._num_epoch):
            self._epoch = epoch
            meter = _Meter(epoch, None if batch == 0 else place)
            whole = self._train_epoch(batch, meter)
            batch = 0
            if not whole or self._end_epoch():
                break

    def _train_epoch(self, batch: int, meter: _Meter) -> bool:
        """Train an epoch from a batch on; return whether all of it, and not until a signal."""
        task, saver, history = self._task, self._saver, self._history
        try:
            batch = self._train_batches(batch, meter)
            if saver and batch < len(task):
                task._check_finite()  # before it takes the place of the checkpoint before
                task.synchronize()
                place = saver.where(self._epoch, batch, history, meter, False)
                saver.write(place, wait=True)
                history.interrupted = True
                return False
            task._check_finite(thorough=False)
            if self._hooks:
                task.synchronize()
        finally:
            if meter.num_batch:
                history.epochs.append(meter.record())
        return True

    def _train_batches(self, batch: int, meter: _Meter) -> int:
        """Train batches until the epoch's end or a signal; return the one that is next."""
        task, saver, num_batch = self._task, self._saver, len(self._task)
        while batch < num_batch and not (saver and saver.requested):
            count = min(task._batches_per_call, num_batch - batch)
            step = self._epoch * num_batch + batch
            initial, final, schedule = self._rates
            num_step = self._num_epoch * num_batch
            rates = learning_rates(initial, final, step, count, num_step, schedule)
            num_pair = task._train_batches(rates, 0)
            batch += count
            # At the end of an epoch all of its losses are waited for.
            tally = task._read_tally(wait=batch == num_batch)
            loss, num_sample = tally.loss, tally.num_sample
            meter.add(float(rates[0]), count, num_pair, tally)
            self._bar.update(count, num_pair, float(rates[-1]), loss, num_sample)
            if not math.isfinite(loss):
                task._check_finite()
                raise self._diverged("the loss is not finite")
        if meter.loss > MAX_LOSS * task._loss_at_random:
            raise self._diverged(
                f"the loss of epoch {self._epoch + 1} is {meter.loss:.3g} a pair, where a model "
                f"that knows nothing has {task._loss_at_random:.3g}"
            )
        return batch

    def _diverged(self, what: str) -> DivergenceError:
        return DivergenceError(
            f"{what}: training diverged. Start again from fresh tables with a lower learning rate "
            f"or smaller weights{self._task._other_cure}"
        )

    def _end_epoch(self) -> bool:
        """Call the callbacks and write a checkpoint; return whether training ends."""
        task, saver, history = self._task, self._saver, self._history
        # Every callback hears of every epoch, also where an earlier one stops.
        with self._bar.waiting():
            answers = [bool(hook(self._state())) for hook in self._hooks]
        done = self._epoch + 1
        history.stopped = any(answers)
        history.interrupted = bool(saver and saver.requested and done < self._num_epoch)
        ends = history.stopped or history.interrupted
        if saver and (ends or done == self._num_epoch or done % saver.every == 0):
            with self._bar.waiting():
                task._check_finite()
                task.synchronize()
                saver.write(saver.where(done, 0, history, _Meter(done), history.stopped))
        return ends


def _as_callback(callback: Any) -> Callback:
    hook = getattr(callback, "on_epoch_end", callback)
    if not callable(hook):
        raise InputError(
            f"callbacks holds a {type(callback).__name__}; "
            "pass functions, or objects with on_epoch_end"
        )
    return hook  # type: ignore[no-any-return]


class _Meter:
    """Adds up one epoch, or the rest of one that a checkpoint has the beginning of."""

    def __init__(self, epoch: int, place: Place | None = None) -> None:
        self.epoch = epoch
        self.num_batch = 0
        self.num_pair = 0
        self.tally = Tally()
        self.learning_rate = math.nan
        self.began = self.ended = time.perf_counter()
        if place is not None:
            self.num_batch, self.num_pair = place.partial["num_batch"], place.partial["num_pair"]
            self.tally, self.learning_rate = place.tally, place.partial["learning_rate"]
            self.began -= place.partial["seconds"]

    def add(self, learning_rate: float, num_batch: int, num_pair: int, tally: Tally) -> None:
        if self.num_batch == 0:
            self.learning_rate = learning_rate
        self.num_batch += num_batch
        self.num_pair += num_pair
        self.tally = self.tally.plus(tally)
        self.ended = time.perf_counter()

    @property
    def loss(self) -> float:
        return self.tally.loss / self.tally.num_sample if self.tally.num_sample else math.nan

    def record(self) -> EpochRecord:
        return EpochRecord(
            epoch=self.epoch,
            loss=self.loss,
            num_pair=self.num_pair - self.tally.num_dropped,
            seconds=self.ended - self.began,
            learning_rate=self.learning_rate,
            num_dropped=self.tally.num_dropped,
        )


class _Bar:
    """Progress in batches, with pairs a second, learning rate and running loss beside it."""

    def __init__(self, num_batch: int, visible: bool) -> None:
        # Imported here: training can be watched, importing need not wait for that.
        from tqdm import tqdm

        # Given only to hide it: tqdm's own environment variables count as well.
        hidden = {} if visible else {"disable": True}
        self._bar = tqdm(total=num_batch, unit="batch", unit_scale=True, **hidden)
        self._loss = math.nan
        self._num_pair = 0
        self._learning_rate = math.nan
        self._began = self._shown = time.perf_counter()

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Say what takes the time before the first batch, and leave it out of the speed."""
        self._bar.set_postfix_str("preparing: compiled at the first use, then kept")
        yield
        self._bar.set_postfix_str("", refresh=False)
        self._bar.reset()
        self._began = self._shown = time.perf_counter()

    def skip(self, num_batch: int) -> None:
        """Begin where a checkpoint ends."""
        if num_batch:
            self._bar.update(num_batch)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Leave the time of the block out of the speed."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def update(
        self, num_batch: int, num_pair: int, learning_rate: float, loss: float, num_sample: int
    ) -> None:
        if self._bar.disable:
            return
        self._num_pair += num_pair
        self._learning_rate = learning_rate
        if num_sample:
            mean = loss / num_sample
            forget = math.isnan(self._loss)
            self._loss = mean if forget else LOSS_MEMORY * self._loss + (1 - LOSS_MEMORY) * mean
        # A line costs more than a small batch: write it as often as the bar is drawn.
        if time.perf_counter() - self._shown >= self._bar.mininterval:
            self._show()
        self._bar.update(num_batch)

    def _show(self) -> None:
        self._shown = time.perf_counter()
        line = f"lr {self._learning_rate:.4g}"
        if self._num_pair:
            speed = self._num_pair / (self._shown - self._began)
            line = f"{speed / 1e6:.2f} Mpair/s, {line}"
        if not math.isnan(self._loss):
            line += f", loss {self._loss:.3f}"
        self._bar.set_postfix_str(line, refresh=False)

    def close(self) -> None:
        # Of a training that a checkpoint has whole, there is nothing to tell.
        if self._bar.n and not math.isnan(self._learning_rate):
            self._show()
        self._bar.close()

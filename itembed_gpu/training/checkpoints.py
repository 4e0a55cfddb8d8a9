"""Checkpoints of a training: written beside it, and gone on from.

A folder (`folders`) holds one file of tensors (the tables, Adagrad's accumulators, and what
callbacks keep) and in its index the place in the epoch's order, the history, and a description of
the job, by which a checkpoint of another job is refused.

The tables are copied, and a thread writes the copy while training goes on; at most one write is
under way. Tables that are mapped from the disk may be more than memory holds: of these there is no
copy, and training waits. A write that fails is a warning: what is trained is worth more than its
copy. The folder is one training's alone until that ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.protocol import Tally
from ..disk.files import Tensors, disk_errors, map_tensors, write_tensors, writing_alone
from ..disk.folders import Kind
from ..errors import DataError, InputError
from ..objective.options import DEPRECATED, Options
from .tasks import Leaf, Task

KIND = Kind(
    index="checkpoint.json",
    format="itembed_gpu.checkpoint",
    version=1,
    files={"tensors": ".safetensors"},
    what="a checkpoint",
    cure="train from the beginning, in another folder",
)
# What a plan was where an earlier version wrote nothing of it.
_EARLIER = {"schedule": "linear"}
# Items and offsets at both ends of the packed arrays that tell one job from another.
_ENDS = 4096


@dataclasses.dataclass
class Place:
    """How far a training has come."""

    epoch: int  # number of the epoch, from 0; as many as there are, once all is done
    batch: int  # batches of it that are trained
    done: list[int]  # batches that each leaf of the task has trained in all
    records: list[Any]  # those of the epochs that ended: as dicts on disk
    partial: dict[str, Any]  # what the epoch under way has added up
    stopped: bool = False  # whether a callback ended it

    def fits(self, num_epoch: int, num_batch: int, num_leaf: int) -> bool:
        """Whether a training of so many epochs, batches and leaves can be there."""
        done = self.epoch == num_epoch
        counts = [self.epoch, self.batch, self.partial["num_batch"], self.partial["num_pair"]]
        return (
            all(type(count) is int and count >= 0 for count in [*counts, *self.done])
            and self.epoch <= num_epoch
            and self.batch <= (0 if done else num_batch)
            and len(self.done) == num_leaf
            and len(self.records) <= num_epoch
            and type(self.stopped) is bool
            and all(type(count) in (int, float) for count in self.tally)
        )

    @property
    def tally(self) -> Tally:
        """Loss of the epoch under way."""
        return Tally(*self.partial["tally"])


class Checkpoints:
    """The checkpoints of one call of `train`: of a task, in a folder, every so many epochs.

    All of the task has to be tasks of this package. The plan is the number of epochs and the
    learning rates; callbacks that have a `state_dict` are kept as well. Raises an `InputError` if
    the task has parts that are not known, or the folder holds something else.
    """

    def __init__(
        self, folder: Any, task: Task, every: int, plan: dict[str, Any], callbacks: list[Any]
    ) -> None:
        self.folder = Path(folder)
        self.every = checks.integer("checkpoint_every", every, 1)
        self._task = task
        self._leaves = task._leaves()
        self._callbacks = [c for c in callbacks if hasattr(c, "state_dict")]
        self._job = {**plan, "tasks": [_describe(leaf) for leaf in self._leaves]}
        if not (self.folder / KIND.index).exists():
            KIND.next_generation(self.folder)  # refuses what would be lost
        self._writer = ThreadPoolExecutor(1, "itembed_gpu-checkpoint")
        self._write: Future[None] | None = None
        self._alone = False
        self._failed = False
        self.requested: list[int] = []

    # --- going on

    def restore(self, resume: bool, record: type) -> Place | None:
        """Give the tables their values of the checkpoint, and return its place; None without one.

        The records of its epochs are of the type that is given. Raises an `InputError` if there is
        one that is not to be gone on from, or it is of another job, and a `DataError` if it is
        damaged; the tables are as they were.
        """
        if not (self.folder / KIND.index).exists():
            return None
        if not resume:
            raise InputError(
                f"checkpoint: {self.folder} holds one already; pass resume=True (--resume) to go "
                "on from it, or another folder"
            )
        index, tensors = KIND.settled(self.folder, self._read)
        tables = self._tables()
        try:
            place = Place(**index["place"])
            place.records = [record(**values) for values in place.records]
            states = index["callbacks"]
            values = [tensors[name] for name in tables]
            num_epoch, num_batch = self._job["num_epoch"], len(self._task)
            fits = (
                place.fits(num_epoch, num_batch, len(self._leaves))
                and len(states) == len(self._callbacks)
                and all(isinstance(state, dict) for state in states)
            )
            if not fits or any(
                (value.shape, value.dtype) != (table.shape, table.dtype)
                for value, table in zip(values, tables.values(), strict=True)
            ):
                raise TypeError("it has other parts")
            for number, (callback, state) in enumerate(zip(self._callbacks, states, strict=True)):
                prefix = f"callback-{number}-"
                arrays = {
                    n.removeprefix(prefix): np.array(a)
                    for n, a in tensors.items()
                    if n.startswith(prefix)
                }
                callback.load_state_dict({**state, **arrays})
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{self.folder}: does not fit this training ({error}); {KIND.cure}"
            ) from error
        for table, value in zip(tables.values(), values, strict=True):
            _assign(table, value)
        for leaf, done in zip(self._leaves, place.done, strict=True):
            leaf.go_to(done)
        return place

    def _read(self, index: dict[str, Any]) -> tuple[dict[str, Any], Tensors]:
        self._check_job(index.get("job"))
        return index, map_tensors(KIND.verified(self.folder, index, "tensors"), KIND.cure)

    def _check_job(self, job: Any) -> None:
        for name, ours in self._job.items():
            theirs = {**_EARLIER, **job}.get(name) if isinstance(job, dict) else None
            if ours == theirs:
                continue
            described = isinstance(theirs, list) and all(isinstance(t, dict) for t in theirs)
            if name == "tasks" and theirs and described and len(ours) == len(theirs):
                different = _first_difference(ours, theirs)
                if different is None:
                    continue
                name, ours, theirs = different
            raise InputError(
                f"checkpoint: {self.folder} is of another job: its {name} is "
                f"{checks.show(theirs)}, and here it is {checks.show(ours)}; train that job, or "
                "use another folder"
            )

    def where(self, epoch: int, batch: int, history: Any, meter: Any, stopped: bool) -> Place:
        """Describe where training is."""
        partial = {
            "num_batch": meter.num_batch,
            "num_pair": meter.num_pair,
            "tally": list(meter.tally),
            "learning_rate": meter.learning_rate if meter.num_batch else None,
            "seconds": meter.ended - meter.began,
        }
        records = [dataclasses.asdict(record) for record in history.epochs]
        return Place(
            epoch,
            batch,
            [leaf.num_done for leaf in self._task._leaves()],
            records,
            partial,
            stopped,
        )

    # --- writing

    def write(self, place: Place, *, wait: bool = False) -> None:
        """Begin to write what the tables hold, which are up to date; with `wait`, end as well.

        Warns if the disk did not take this one, or the one before.
        """
        self.finish()
        try:
            files, content = self._contents(place)
        except MemoryError as error:
            self._warn(error)
            return

        def work() -> None:
            with disk_errors(self.folder):
                KIND.write_alone(self.folder, files, content, self._alone)

        self._write = self._writer.submit(work)
        if wait or any(map(_is_mapped, self._tables().values())):
            self.finish()

    def _contents(self, place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what writes the file, of copies of the tables, and what the index holds."""
        tensors: Tensors = {
            name: table if _is_mapped(table) else _copied(table)
            for name, table in self._tables().items()
        }
        states = []
        for number, callback in enumerate(self._callbacks):
            state = callback.state_dict()
            arrays = {name: value for name, value in state.items() if hasattr(value, "shape")}
            tensors |= {f"callback-{number}-{n}": _copied(a) for n, a in arrays.items()}
            states.append({name: v for name, v in state.items() if name not in arrays})
        content = {"job": self._job, "place": dataclasses.asdict(place), "callbacks": states}
        return {"tensors": lambda path: write_tensors(path, tensors)}, content

    def join(self) -> None:
        """Wait for the write that is under way."""
        if self._write is not None:
            wait([self._write])

    def finish(self) -> None:
        """Wait for the write that is under way. Warns if the disk did not take it."""
        self.join()
        write, self._write = self._write, None
        if write is None:
            return
        try:
            write.result()
            self._failed = False
        except (DataError, InputError, MemoryError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        self._failed = True
        checks.warn(
            f"a checkpoint was not written, and training goes on: {str(error) or 'out of memory'}"
        )

    def _tables(self) -> dict[str, Any]:
        """What is trained, each array once, by names that depend on the task alone."""
        named: dict[str, Any] = {}
        known: list[Any] = []
        for number, leaf in enumerate(self._leaves):
            for name, table in leaf.arrays.items():
                if not any(table is other for other in known):
                    known.append(table)
                    named[f"task-{number}-{name}"] = table
        return named

    # --- the time of a training

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep the folder from other trainings, and signals from ending this one at once.

        Raises an `InputError` if another training has the folder, and a `DataError` if there can
        be none.
        """
        with contextlib.ExitStack() as stack:
            try:
                with disk_errors(self.folder):
                    self._alone = stack.enter_context(writing_alone(self.folder, 0))
            except DataError as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise InputError(
                        f"checkpoint: another training writes to {self.folder}; wait for its end, "
                        "or use another folder"
                    ) from None
                raise
            stack.enter_context(self._listening())
            yield

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM, so that training can end between two batches.

        When the last checkpoint is written, a SIGTERM has the effect that it would have had; if
        that failed, not, so that the caller can save what was trained.
        Only the main thread hears signals, and handlers of the caller's own are left alone.
        """
        old: dict[int, Any] = {}
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        if threading.current_thread() is threading.main_thread():
            for number, default in defaults.items():
                if signal.getsignal(number) is default:
                    old[number] = signal.signal(number, self._note)
        try:
            yield
        finally:
            for caught, handler in old.items():
                signal.signal(caught, handler)
            if signal.SIGTERM in self.requested and not self._failed:
                signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: Any) -> None:
        self.requested.append(number)


def stored_seed(folder: Any) -> int | None:
    """Return the seed of the first task of a checkpoint; None where there is no checkpoint.

    For jobs whose seed was drawn: the one that goes on needs the same.
    """
    path = Path(folder)
    if not (path / KIND.index).exists():
        return None
    try:
        return int(KIND.read_index(path)["job"]["tasks"][0]["seed"])
    except DataError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path / KIND.index}: names no seed; {KIND.cure}") from error


def verify_checkpoint(folder: Path) -> str:
    """Compare a checkpoint with its checksums, and say how far its training has come.

    Raises a `DataError` if it was altered, or does not go together.
    """

    def read(index: dict[str, Any]) -> str:
        map_tensors(KIND.verified(folder, index, "tensors"), KIND.cure)
        try:
            place, job = Place(**index["place"]), index["job"]
            if not place.fits(job["num_epoch"], place.batch, len(job["tasks"])):
                raise TypeError("its place is none of the job's")
        except (LookupError, TypeError) as error:
            raise DataError(
                f"{folder / KIND.index}: cannot be read ({error}); {KIND.cure}"
            ) from error
        where = f" and {place.batch} batches" if place.batch else ""
        return f"{place.epoch} of {job['num_epoch']} epochs{where}"

    return KIND.settled(folder, read)


def _describe(leaf: Leaf) -> dict[str, Any]:
    """What tells a task from another; of its itemsets, sizes and both ends."""
    checksum = 0
    for array in leaf.packed:
        for part in (array[:_ENDS], array[-_ENDS:]):
            checksum = zlib.crc32(np.ascontiguousarray(part).tobytes(), checksum)
    return {**leaf.settings, "checksum of the itemsets": checksum}


def _first_difference(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> tuple[str, Any, Any] | None:
    """Find what tells the tasks of two jobs apart: its name, and both values.

    Options that an earlier version did not know had their defaults, or other names.
    """
    defaults = {known.name: known.default for known in dataclasses.fields(Options)}
    for one, other in zip(ours, theirs, strict=True):
        known = {**defaults, **{DEPRECATED.get(n, n): value for n, value in other.items()}}
        for part, value in one.items():
            if part != "batch_size" and value != known.get(part):  # num_batch says it
                return part, value, known.get(part)
    return None


def _assign(table: Any, value: npt.NDArray[Any]) -> None:
    if checks.on_device(table):
        with table.device:
            table.set(value)
    else:
        table[...] = value


def _is_mapped(table: Any) -> bool:
    return isinstance(table, np.memmap)


def _copied(table: Any) -> Any:
    with checks.using_device_of(table):
        return table.get() if checks.on_device(table) else np.array(table, order="C")

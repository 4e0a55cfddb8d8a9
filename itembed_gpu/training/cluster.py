"""Training by the workers of a Dask cluster: blocks that have no part in common, at the same time.

Parts of tables are results of tasks: a visit to a block is a pure function of a left and a right
part, and returns both anew. Where a worker dies, Dask has others run its tasks again, from what is
left; as all draws are named and not consumed, they come to the same. At the end of an epoch parts
are written to a folder that all workers share, from which those of the next epoch are made, so that
never more than an epoch has to be run again.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.devices import select_backend
from ..backends.listing import Listed, bounds_of
from ..backends.protocol import Problem, Tally
from ..checks import Float32Array, Int64Array
from ..errors import DataError, DeviceError, InputError
from ..interrupts import deferred_interrupt
from ..objective.table import Table
from .partitioned import Blocks
from .partitions import LEFT, RIGHT, Visit
from .pieces import Lengths

# Smaller arrays of a job are sent with it, and not mapped from a file.
MIN_MAPPED = 1 << 16
# Steps that are under way when the next one is sent off.
STEPS_AHEAD = 2
# Seconds until a result that is awaited is asked after.
PATIENCE = 5.0
# Seconds that a worker is waited for where there is none left.
WORKER_PATIENCE = 60.0

# What an error leaves.
AFTER = "; the tables are as of the last callback or checkpoint: go on from one, or begin again"

Result = TypeVar("Result")

SIDES = {LEFT: "left", RIGHT: "right"}


# --- on the workers


class Job(NamedTuple):
    """What workers need to know of a training."""

    folder: str  # which all of them share
    host: str  # of the client


class Store(NamedTuple):
    """Where the parts of an epoch are kept, from which those of a later one are made."""

    name: str  # of its folder
    key: tuple[int, int] | None  # stream and epoch; None of whole tables, which are one part


class Trained(NamedTuple):
    """What came of a visit."""

    tally: Tally
    sound: bool


class _Pickler(pickle.Pickler):
    """Writes large arrays to files beside what is pickled."""

    def __init__(self, file: Any, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no address is used again

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, np.ndarray) or obj.nbytes < MIN_MAPPED:
            return None
        if not any(obj.strides):  # of nothing, which would be written as that many zeros
            return obj.shape
        if id(obj) not in self._names:
            self._kept.append(obj)
            self._names[id(obj)] = name = f"array-{len(self._names)}.npy"
            np.save(self._folder / name, obj)
        return self._names[id(obj)]


class _Unpickler(pickle.Unpickler):
    """Maps them from there."""

    def __init__(self, file: Any, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple):
            return _nothing(pid)
        return np.asarray(np.load(self._folder / pid, mmap_mode="r"))


def write_job(blocks: Blocks, folder: Path) -> Job:
    """Write down what is trained, but for what its tables hold."""
    problem = blocks.problem
    tables = tuple(table.map(lambda array: _nothing(array.shape)) for table in problem.tables)
    blank = replace(problem, tables=tables, counted=None)
    with open(folder / "job", "wb") as file:
        _Pickler(file, folder).dump(replace(blocks, problem=blank, sweeps=blocks.num_sweep))
    return Job(str(folder), socket.gethostname())


def _nothing(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return an array of a shape that takes no room."""
    return np.broadcast_to(np.float32(0), shape)


@functools.lru_cache(maxsize=1)
def _open_job(job: Job) -> Blocks:
    folder = Path(job.folder)
    try:
        with open(folder / "job", "rb") as file:
            blocks: Blocks = _Unpickler(file, folder).load()
    except FileNotFoundError as error:
        raise DataError(
            f"cluster_folder is {job.folder} of {job.host}, which the worker on "
            f"{socket.gethostname()} does not see; pass a folder that all workers share"
        ) from error
    return blocks


def _num_threads(blocks: Blocks) -> int:
    """Return how many threads of the CPU a task has: by default those of its worker."""
    from distributed import get_worker

    asked: int | None = blocks.problem.options.num_threads
    return asked if asked is not None else int(get_worker().state.nthreads)


def list_share(job: Job, key: tuple[int, int], share: int, num_share: int) -> list[Listed]:
    """List the pairs of a share of the slots, in one list for each left part."""
    blocks = _open_job(job)
    num_slot = blocks.problem.num_slot
    slots = num_slot * share // num_share, num_slot * (share + 1) // num_share
    backend = select_backend(blocks.problem.options.device, _num_threads(blocks), {})
    whole = blocks.list_pairs(*key, slots, backend.lister(blocks.problem)).fetch()
    return [_of_left(whole, left, blocks.num_part) for left in range(blocks.num_part)]


def _of_left(whole: Listed, left: int, num_part: int) -> Listed:
    """Return those pairs of a list that are of a left part."""
    counts = np.diff(whole.bounds)
    of_left = np.arange(len(counts)) // num_part % num_part == left
    wanted = [
        slice(int(whole.bounds[number]), int(whole.bounds[number + 1]))
        for number in np.flatnonzero(of_left)
    ]

    def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.concatenate([array[one] for one in wanted])

    bounds = bounds_of(np.where(of_left, counts, 0))
    num_dropped = whole.num_dropped if left == 0 else 0
    return Listed(
        cut(whole.left),
        cut(whole.right),
        cut(whole.left_weights) if len(whole.left_weights) else whole.left_weights,
        cut(whole.right_weights) if len(whole.right_weights) else whole.right_weights,
        bounds,
        num_dropped,
    )


def join_shares(*shares: Listed) -> Listed:
    """Join the lists of all shares, in their order, into one."""
    if len(shares) == 1:
        return shares[0]
    counts = np.array([np.diff(share.bounds) for share in shares])
    bounds = bounds_of(counts.sum(0))
    firsts = bounds[:-1] + np.append(np.zeros_like(counts[:1]), counts.cumsum(0)[:-1], axis=0)
    places = [
        np.repeat(first - share.bounds[:-1], count) + np.arange(int(count.sum()))
        for first, share, count in zip(firsts, shares, counts, strict=True)
    ]

    def join(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        joined = np.empty(sum(map(len, arrays)), dtype=arrays[0].dtype)
        for place, array in zip(places, arrays, strict=True):
            if len(array):
                joined[place] = array
        return joined

    return Listed(
        join([share.left for share in shares]),
        join([share.right for share in shares]),
        join([share.left_weights for share in shares]),
        join([share.right_weights for share in shares]),
        bounds,
        sum(share.num_dropped for share in shares),
    )


def count_pairs(share: Listed) -> tuple[Int64Array, int]:
    """Count the pairs of each visit, and those that were left out."""
    return np.diff(share.bounds), share.num_dropped


def pick(found: Any, place: int | None) -> Table:
    """Return a part, or that which stands at a place of what came of a visit."""
    table: Table = found if place is None else found[place]
    return table


def train_visit(
    job: Job,
    key: tuple[int, int],
    visit: Visit,
    parts: Sequence[tuple[Any, int | None]],
    listed: Listed,
    num_pair: Int64Array,
    batches: tuple[int, Float32Array],
) -> tuple[Table, Table, Trained]:
    """Train some batches of a visit: a pure function, that leaves its parts alone."""
    blocks = _open_job(job)
    problem = blocks.problem
    backend = select_backend(problem.options.device, _num_threads(blocks), {})
    left, right = (pick(*part).map(np.array) for part in parts)
    if problem.same_table and visit.block.left == visit.block.right:
        right = left
    one = backend.bring(left)
    other = None if right is left else backend.bring(right)
    bounds = bounds_of(num_pair)
    visited, weight = blocks.problem_of(visit, one, other or one, key, listed, bounds, backend)
    bound = backend.bind(visited)
    first_batch, rates = batches[0], np.array(batches[1])  # what comes by wire may be read-only
    bound.run(*key, first_batch, rates)
    tally, sound = bound.read_tally(True), bound.is_sound()
    bound.synchronize()
    left = backend.fetch(one)
    right = left if other is None else backend.fetch(other)
    return left, right, Trained(tally._replace(loss=tally.loss * weight), sound)


def write_part(job: Job, store: Store, side: int, part: int, found: Any, place: int | None) -> str:
    """Write a part to the folder, whole or not at all."""
    table, folder = pick(found, place), Path(job.folder) / store.name
    with _written(folder):
        folder.mkdir(exist_ok=True)
        for name, array in table.arrays().items():
            path = _path(folder, side, part, name.removeprefix(table.name))
            with tempfile.NamedTemporaryFile("wb", dir=folder, delete=False) as file:
                np.save(file.file, array)  # at once: of a file that has a wrapper, piece by piece
            Path(file.name).replace(path)
    return str(folder)


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Say which folder it is that cannot be written to."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written to by {socket.gethostname()} "
            f"({error.strerror or error}); pass a cluster_folder with room for twice the tables, "
            "and for the itemsets"
        ) from error


def _path(folder: Path, side: int, part: int, beside: str) -> Path:
    return folder / f"{SIDES[side]}-{part}{beside}.npy"


def read_part(
    job: Job, store: Store, key: tuple[int, int], side: int, part: int, *written: Any
) -> Table:
    """Make a part of an epoch from those that were written before."""
    blocks, folder = _open_job(job), Path(job.folder) / store.name
    rows = blocks.partitions(*key)[side].rows(part)
    blank = blocks.problem.left if side == LEFT else blocks.problem.right
    num_part = 1 if store.key is None else blocks.num_part
    ranks = rows if store.key is None else blocks.partitions(*store.key)[side].ranks[rows]
    owners, places = ranks % num_part, ranks // num_part

    def gather(beside: str, like: Any) -> npt.NDArray[Any]:
        values = np.empty((len(rows), *like.shape[1:]), dtype=np.float32)
        for owner in range(num_part):
            mine = owners == owner
            if mine.any():
                stored = np.load(_path(folder, side, owner, beside), mmap_mode="r")
                values[mine] = stored[places[mine]]
        return values

    made = {
        id(like): gather(name.removeprefix(blank.name), like)
        for name, like in blank.arrays().items()
    }
    return blank.map(lambda like: made[id(like)])


# --- the client


class _Epoch(NamedTuple):
    """An epoch under way."""

    key: tuple[int, int]  # stream and epoch
    lists: list[Any]  # futures of the pairs, by left part
    num_pair: Int64Array  # of visits
    num_dropped: int
    lengths: Lengths


class _Part(NamedTuple):
    """Where a part is: it is a result of a task, or at a place of one."""

    future: Any
    place: int | None = None


class _Stuck(Exception):
    """Nothing runs, and what is awaited does not come."""


class ClusterTask:
    """A problem that is trained by the workers of a cluster (see `protocol.BoundTask`)."""

    in_place = False

    def __init__(self, blocks: Blocks, client: Any, folder: Path) -> None:
        self._blocks = blocks
        self._client = client
        self._tables = blocks.problem.left, blocks.problem.right
        self._folder = folder
        with _written(folder):
            self._job = write_job(blocks, folder)
        self._workers = _workers(client)  # as they were when the epoch began
        self._number = 0  # of stores, whose names tell them apart
        self._store: Store | None = None
        self._known: _Epoch | None = None
        self._parts: dict[tuple[int, int], _Part] = {}  # by side and number
        self._sent: list[tuple[int, tuple[int, Float32Array]]] = []  # visits since the store
        self._pending: list[Any] = []  # futures of what the last ones told
        self._tally = Tally()
        self._sound = True

    # --- an epoch

    def _submit(self, function: Any, *arguments: Any, home: int | None = None) -> Any:
        """Have a task run, if possible where its left part is."""
        how: dict[str, Any] = {"pure": False}
        if home is not None:
            worker = self._workers[home % len(self._workers)]
            how |= {"workers": [worker], "allow_other_workers": True}
        return self._client.submit(function, *arguments, **how)

    def _epoch(self, stream: int, epoch: int) -> _Epoch:
        if self._known is None or self._known.key != (stream, epoch):
            with _told():
                self._known = self._come_through(lambda: self._begin((stream, epoch)))
        return self._known

    def _begin(self, key: tuple[int, int]) -> _Epoch:
        """Have the parts of the epoch before written down, and the pairs of the next one listed."""
        lists = self._list_pairs(key)
        self._keep()
        self._wait_for_workers()
        return self._count_pairs(key, lists)

    def _list_pairs(self, key: tuple[int, int]) -> list[Any]:
        blocks, num_share = self._blocks, self._blocks.num_worker
        shares = [
            self._submit(list_share, self._job, key, share, num_share, home=share)
            for share in range(num_share)
        ]
        lists = []
        for left in range(blocks.num_part):
            some = [self._submit(operator.getitem, share, left) for share in shares]
            lists.append(self._submit(join_shares, *some, home=left % num_share))
        return lists

    def _count_pairs(self, key: tuple[int, int], lists: list[Any]) -> _Epoch:
        counts = [self._submit(count_pairs, one) for one in lists]
        counted = [self._result(one) for one in counts]
        num_pair = np.sum([counts for counts, _ in counted], axis=0)
        num_dropped = sum(count for _, count in counted)
        return _Epoch(key, lists, num_pair, num_dropped, self._blocks.lengths(num_pair))

    def _keep(self) -> None:
        """Write down the parts of the epoch before, and wait until they are."""
        if not self._parts or self._known is None:
            return
        store = self._new_store(self._known.key)
        written = [
            self._submit(write_part, self._job, store, *side, *part)
            for side, part in self._all_parts().items()
        ]
        for future in written:
            self._result(future)
        before, self._store = self._store, store
        self._parts, self._sent = {}, []
        if before is not None:
            shutil.rmtree(self._folder / before.name, ignore_errors=True)

    def _new_store(self, key: tuple[int, int] | None) -> Store:
        self._number += 1
        return Store(f"parts-{self._number}", key)

    def _write_tables(self) -> Store:
        """Write the caller's tables to the folder, as one part each."""
        store = self._new_store(None)
        for side in self._blocks.sides:
            write_part(self._job, store, side, 0, self._tables[side], None)
        return store

    def _all_parts(self) -> dict[tuple[int, int], _Part]:
        """Return all parts, also those that no visit asked for."""
        for side in self._blocks.sides:
            for part in range(self._blocks.num_part):
                self._part(side, part, part)
        return self._parts

    def _part(self, side: int, part: int, home: int) -> _Part:
        """Return where a part is, which is made where it is not yet."""
        key = self._known.key if self._known else (0, 0)
        if (side, part) not in self._parts:
            if self._store is None:
                self._store = self._write_tables()
            made = self._submit(read_part, self._job, self._store, key, side, part, home=home)
            self._parts[side, part] = _Part(made)
        return self._parts[side, part]

    # --- visits

    def run(
        self, stream: int, epoch: int, first_batch: int, rates: npt.NDArray[np.float32]
    ) -> None:
        known = self._epoch(stream, epoch)
        if first_batch == 0:
            self._tally = self._tally.plus(Tally(num_dropped=known.num_dropped))
        with _told():
            for place, local, now in known.lengths.cut(first_batch, rates):
                with deferred_interrupt():
                    self._sent.append((place, (local, now)))
                    self._visit(known, *self._sent[-1])
            self._collect(STEPS_AHEAD * self._blocks.num_worker)

    def _visit(self, known: _Epoch, place: int, batches: tuple[int, Float32Array]) -> None:
        """Send off a visit, whose parts are from then on those that it returns."""
        visit, home = self._blocks.homes[place]
        sides = self._blocks.parts(visit.block)
        parts = [self._part(*side, home) for side in sides]
        done = self._submit(
            train_visit, self._job, known.key, visit, parts, known.lists[visit.block.left],
            known.num_pair, batches, home=home,
        )  # fmt: skip
        for n, side in enumerate(sides):
            if self._blocks.next_home(place, side) == home:
                self._parts[side] = _Part(done, n)
            else:  # it travels, and without what else came of the visit
                self._parts[side] = _Part(self._submit(operator.getitem, done, n, home=home))
        self._pending.append(self._submit(operator.getitem, done, 2))

    def _collect(self, most: int) -> None:
        """Wait until at most so many visits are under way."""
        while len(self._pending) > most:
            trained: Trained = self._come_through(lambda: self._result(self._pending[0]))
            del self._pending[0]
            self._tally = self._tally.plus(trained.tally)
            self._sound &= trained.sound

    # --- workers that are gone

    def _result(self, future: Any) -> Any:
        """Wait for a result; raises `_Stuck` where it does not come, as nothing runs."""
        while True:
            try:
                return future.result(timeout=PATIENCE)
            except TimeoutError:
                if future.status == "error":  # its own
                    raise
                # What was to run where a worker was that is gone, and became ready while there was
                # no other, stays where it is.
                gone = set(self._workers) - set(self._client.nthreads())
                if gone and not future.done() and not any(self._client.processing().values()):
                    raise _Stuck from None

    def _come_through(self, wait: Callable[[], Result]) -> Result:
        """Wait for something, and have what was sent off done again where nothing runs."""
        stuck = False
        while True:
            try:
                if stuck:
                    self._send_again()
                return wait()
            except _Stuck:
                stuck = True

    def _wait_for_workers(self) -> None:
        """See which workers there are, and wait for one where there is none."""
        try:
            self._client.wait_for_workers(1, timeout=WORKER_PATIENCE)
        except TimeoutError as error:
            raise DeviceError(
                f"client: it has had no worker for {WORKER_PATIENCE:g} s; start some{AFTER}"
            ) from error
        self._workers = _workers(self._client)

    def _send_again(self) -> None:
        """Have all visits since the last store done by the workers that there are."""
        self._wait_for_workers()
        if not self._sent or self._known is None:
            return
        # What was sent off is forgotten only once this cannot be stuck any more, nor interrupted.
        key = self._known.key
        known = self._count_pairs(key, self._list_pairs(key))
        with deferred_interrupt():
            num_told = len(self._sent) - len(self._pending)
            self._known, self._parts, self._pending = known, {}, []
            for place, batches in self._sent:
                self._visit(known, place, batches)
            del self._pending[:num_told]

    # --- as of `BoundTask`

    def count_pairs(self, stream: int, epoch: int, first_batch: int, num_batch: int) -> int:
        known, group = self._epoch(stream, epoch), self._blocks.problem.group
        count = known.lengths.count_pairs(first_batch, num_batch, group)
        return count + (known.num_dropped if first_batch == 0 else 0)

    @property
    def min_pairs(self) -> int:
        return self.max_pairs

    @property
    def max_pairs(self) -> int:
        problem = self._blocks.problem
        batches = self._blocks.num_worker * self._blocks.num_batch
        return batches * -(-problem.num_slot // problem.num_batch)

    def prepare(self) -> None:
        """Nothing to do: workers compile what they run."""

    def load(self, before: Any = None) -> None:
        """Nothing to do, likewise."""

    def follow(self, before: Any) -> None:
        """Nothing to do, likewise."""

    def read_tally(self, wait: bool) -> Tally:
        if wait:
            with _told():
                self._collect(0)
        result, self._tally = self._tally, Tally()
        return result

    def is_sound(self) -> bool:
        with _told():
            self._collect(0)
        return self._sound

    def synchronize(self) -> None:
        """Bring all parts to the caller's tables, which count from then on."""
        with _told():
            self._collect(0)
            # By way of the folder: here, no more than a part is in memory, nor in the scheduler's.
            self._come_through(self._keep)
        if self._store is not None and self._store.key is not None:
            self._read_store(self._store, self._store.key)
        self.discard()

    def _read_store(self, store: Store, key: tuple[int, int]) -> None:
        """Bring the parts of an epoch that are written down to the caller's tables."""
        partitions = self._blocks.partitions(*key)
        for side in self._blocks.sides:
            table = self._tables[side]
            for part in range(0 if table.frozen else self._blocks.num_part):
                values = read_part(self._job, store, key, side, part)
                table.put(partitions[side].rows(part), values)

    def discard(self) -> None:
        """Forget what the workers have: the caller's tables count."""
        store, self._store = self._store, None
        if store is not None:
            shutil.rmtree(self._folder / store.name, ignore_errors=True)
        self._parts, self._pending, self._sent, self._known = {}, [], [], None


def _workers(client: Any) -> list[str]:
    """Return the addresses of the workers."""
    found = sorted(client.nthreads())
    if not found:
        raise InputError("client has no workers; start some")
    return found


def _told() -> contextlib.AbstractContextManager[None]:
    """Turn what Dask raises into errors of this package."""
    return checks.dask_errors("pass more partitions", AFTER)


@contextlib.contextmanager
def on_cluster(problem: Problem, num_part: int, client: Any, folder: Any) -> Iterator[ClusterTask]:
    """Have a problem trained by a client's workers, with a folder of its own.

    Raises an `InputError` if it cannot be.
    """
    checks.dask_client(client)
    num_worker = len(_workers(client))
    if num_part < 2:
        raise InputError(
            f"partitions is {num_part}, and a client is given; pass partitions={2 * num_worker}, "
            f"two for each of its {num_worker} workers"
        )
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"cluster_folder is {folder}, and there is no such folder; make it first")
    # Tasks that are no longer asked for may write until they end.
    with tempfile.TemporaryDirectory(
        prefix="itembed_gpu-", dir=folder, ignore_cleanup_errors=True
    ) as made:
        # Parts of an epoch are made of those of the one before.
        blocks = Blocks(problem, num_part, min(num_part, num_worker), num_dealt=2)
        yield ClusterTask(blocks, client, Path(made))

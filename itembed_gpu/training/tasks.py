"""Tasks: what is trained, from which itemsets, into which tables.

A task checks its input when it is made; until it is first trained, it can be pickled and sent.
Then it describes itself as a `protocol.Problem`, which it binds to a backend, and from there on
only keeps count of the batches.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import fields
from typing import Any, NamedTuple, Protocol, Unpack, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from .. import checks
from ..backends.devices import select_backend
from ..backends.protocol import Backend, BoundTask, Occurrences, Problem, Tally
from ..checks import Float64Array, Int64Array
from ..errors import DivergenceError, InputError
from ..objective.arrays import check_objective, make_objective
from ..objective.constants import MAX_STREAM, MAX_VALUE
from ..objective.keywords import ListedKeywords, TaskKeywords
from ..objective.options import (
    AUTO,
    LISTED_TASK,
    OF_DENSE,
    OWN_ROW,
    SAMPLED_LOSSES,
    TASK,
    Options,
    about,
    make_options,
    takes_options,
)
from ..objective.pairs import ItemsetSource, ListedSource, Side, Source
from ..objective.table import Table, pair_up
from .chunks import ChunkedTask, Chunks
from .cluster import on_cluster
from .partitioned import Blocks, PartitionedTask
from .partitions import count_sweeps

Accumulators = tuple[Any, ...]

# Sub-tasks take at least so many turns an epoch.
MIN_TURNS = 16

# Between two checks for numbers that are not finite, at least so many calls' worth of pairs.
CHECK_CALLS = 4


class Leaf(NamedTuple):
    """What a checkpoint keeps of a task over packed itemsets."""

    arrays: dict[str, Any]  # what is trained: tables and accumulators
    packed: list[Any]  # its itemsets
    settings: dict[str, Any]  # what fixes how it is trained
    num_done: int  # batches that it has trained
    go_to: Callable[[int], None]  # sets that number


@runtime_checkable
class Trainable(Sized, Protocol):
    """What `train` needs of a task: `len` and `do_batch`."""

    def do_batch(self, learning_rate: float) -> None:
        """Train the next batch."""


class Task:
    """Base class of tasks.

    A task of your own needs `__len__`, the number of batches of an epoch, and
    `do_batch`. It trains by itself or inside a `CompoundTask`.

    Parameters
    ----------
    learning_rate_scale : float
        Multiplier of the learning rate.
    """

    def __init__(self, learning_rate_scale: float) -> None:
        self.learning_rate_scale = checks.number("learning_rate_scale", learning_rate_scale)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def do_batch(self, learning_rate: float) -> None:
        """Train the next batch.

        Parameters
        ----------
        learning_rate : float
            Learning rate, before `learning_rate_scale`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define do_batch")

    def synchronize(self) -> None:
        """Make the caller's tables hold what has been trained."""

    # What `train` and `CompoundTask` ask of a task. The names are private, so that
    # a task of the caller's own is free to use any public one.

    def _prepare(self) -> None:
        """Do what takes time before the first batch."""

    def _start_epoch(self) -> None:
        """Begin with a whole epoch, whatever has been trained before."""

    def _train_batches(self, learning_rates: Float64Array, stream: int) -> int:
        """Train the next len(learning_rates) batches, as as many calls of `do_batch` would.

        Parameters
        ----------
        learning_rates : float64
            Learning rates, before `learning_rate_scale`.
        stream : int
            Random stream of the first leaf of this task.

        Returns
        -------
        int
            Number of pairs trained; 0 if it is not known.
        """
        for learning_rate in learning_rates:
            self.do_batch(float(learning_rate))
        return 0

    def _host_tables(self) -> list[tuple[int, str]]:
        """List the NumPy tables that this task trains, by address, and where it does."""
        return []

    @property
    def _num_stream(self) -> int:
        """Number of random streams this task draws from."""
        return 0

    @property
    def _batches_per_call(self) -> int:
        """How many batches take about 0.1 s."""
        return 1

    @property
    def _batches_per_turn(self) -> int:
        """How many batches a compound task trains before the next sub-task has its turn."""
        return 1

    def _read_tally(self, *, wait: bool = False) -> Tally:
        """Return what was trained since the last call.

        Without `wait`, of that what can be had at once.
        """
        return Tally()

    def _check_finite(self, *, thorough: bool = True) -> None:
        """Raise a `DivergenceError` if a table holds a number that is not finite.

        Parameters
        ----------
        thorough : bool, optional
            If not, wait until a check costs little beside what was trained
            since the last one.
        """

    @property
    def _loss_at_random(self) -> float:
        """Mean loss of a pair where all logits are 0; infinite where it is not known."""
        return math.inf

    @property
    def _other_cure(self) -> str:
        """What helps against divergence beside a lower learning rate."""
        return ""

    def _discard(self) -> None:
        """Forget what the caller's tables do not hold yet."""

    def _by_workers(self, client: Any, folder: Any) -> contextlib.AbstractContextManager[None]:
        """Have a client's workers train this task, for a while."""
        raise InputError(
            f"client is given, and a {type(self).__name__} cannot be cut into partitions; pass a "
            "task of itemsets or of pairs, or leave client out"
        )

    def _leaves(self) -> list[Leaf]:
        """List the tasks over packed itemsets that this one is made of, if that is all."""
        raise InputError(
            "checkpoint: the task has a part of your own, whose place in its stream is not known; "
            "train tasks of this package, or leave checkpoint out"
        )


class _ForeignTask(Task):
    """A task of the caller's that does not derive from `Task`."""

    def __init__(self, task: Trainable) -> None:
        super().__init__(1.0)
        self._task = task

    def __len__(self) -> int:
        return len(self._task)

    def do_batch(self, learning_rate: float) -> None:
        self._task.do_batch(learning_rate)


def as_task(task: Trainable) -> Task:
    """Return a task as it is, and anything with `__len__` and `do_batch` as a task.

    Raises an `InputError` if it has neither.
    """
    if isinstance(task, Task):
        return task
    if not isinstance(task, Trainable):
        raise InputError(
            f"task is a {type(task).__name__}; pass a Task, or an object with __len__ and do_batch "
            "(several go one by one, as in CompoundTask(*tasks))"
        )
    return _ForeignTask(task)


class _FusedTask(Task):
    """What the tasks of this package have in common: many batches can be one call."""

    def do_batch(self, learning_rate: float) -> None:
        """Train the next batch: an equal share of the epoch (of each sub-task, where there are).

        Parameters
        ----------
        learning_rate : float
            Learning rate, before `learning_rate_scale`.

        Raises
        ------
        InputError
            The learning rate is not finite.
        """
        self.do_batches(np.array([checks.number("learning_rate", learning_rate)]))

    def do_batches(self, learning_rates: npt.ArrayLike) -> int:
        """Train the next batches in one call, which takes less time than as many calls.

        Parameters
        ----------
        learning_rates : float64, num_batch
            Learning rate of each batch, before `learning_rate_scale`.

        Returns
        -------
        int
            Number of pairs trained, where it is known.

        Raises
        ------
        InputError
            A learning rate is not finite.
        """
        return self._run(np.asarray(learning_rates, dtype=np.float64), 0)

    def _train_batches(self, learning_rates: Float64Array, stream: int) -> int:
        if type(self).do_batch is not _FusedTask.do_batch:
            # A subclass has its own idea of a batch.
            return super()._train_batches(learning_rates, stream)
        return self._run(learning_rates, stream)

    def _run(self, learning_rates: Float64Array, stream: int) -> int:
        raise NotImplementedError


class _PackedTask(_FusedTask):
    """What the tasks over packed itemsets have in common: a bound problem, and a place in it.

    Attributes
    ----------
    seed : int
        Seed of the random stream: the one given, or the one drawn.
    device : str
        Name of the backend.
    num_pair : int
        Pairs of an epoch.
    options : Options
        Those of the objective.
    accumulators : tuple of float32, num_left and num_right, or None
        Accumulators of Adagrad, as given or as made, one for each table; they are trained like the
        tables, and belong to what is to be kept to go on from.
    """

    # Names of what cannot be changed once a task is made.
    _fixed: frozenset[str] = frozenset()
    # Bits of an objective that no option asks for.
    _flags = 0
    # How often each left row occurs, where it is known.
    _counts: Int64Array | None = None

    def __init__(
        self,
        source: Source,
        left: Table,
        right: Table,
        options: Options,
        accumulators: Accumulators | None,
        own: Table | None = None,
    ) -> None:
        super().__init__(options.learning_rate_scale)
        left.frozen, right.frozen = not options.update_left, not options.update_right
        tables = pair_up(left, right)
        if own is not None:
            tables = tables[0], own, tables[-1]
        check_objective(options, right.name, len(right))
        self._backend = select_backend(
            options.device, options.num_threads, {table.name: table.array for table in tables}
        )
        self.options = options
        self.accumulators = self._add_accumulators(tables, accumulators)
        self.num_negative = options.num_negative
        self.negative_sharing = options.negative_sharing
        self.batch_size = cast(int, options.batch_size)  # filled in by now
        self.chunk_size = options.chunk_size
        self.partitions = self._choose_partitions(tables)
        self.seed = cast(int, options.seed)  # drawn by now
        self.device = self._backend.name
        self.num_pair = source.count_pairs(0, source.num_itemset)
        self._tables = tables
        self._source = source
        self._num_batch = -(-source.num_itemset // self.batch_size)
        if self.partitions > 1:  # each visit to a block has as many
            rows = min(map(len, tables))
            num_visit = count_sweeps(self.num_pair, rows, self.partitions) * self.partitions**2
            self._num_batch = num_visit * max(1, round(self._num_batch / num_visit))
        if self.num_pair * (self._num_batch + 1) >= 1 << 63:
            raise InputError(
                f"batch_size is {self.batch_size}, for {self.num_pair} pairs in "
                f"{source.num_itemset} itemsets; pass a larger one, or fewer itemsets"
            )
        self._num_done = 0
        self._num_unchecked = 0
        public = {name for name in vars(self) if not name.startswith("_")}
        self._fixed = frozenset(public - {"learning_rate_scale"})

    def _know_counts(self, counts: Int64Array) -> None:
        """Take over how often each left row occurs, at least: if that is all, it is not counted."""
        items = self._source.items[0]
        if len(counts) == len(self._tables[0]) and int(counts.sum()) == len(items):
            self._counts = counts

    def _add_accumulators(
        self, tables: tuple[Table, ...], given: Accumulators | None
    ) -> Accumulators | None:
        """Give tables what lies beside them: what is given, checked, or new ones."""
        return _add_accumulators(tables, given, self.options, self._backend)

    def _choose_partitions(self, tables: tuple[Table, ...]) -> int:
        """Return the number of parts, and see to it that tables can be cut into them."""
        wanted = self.options.partitions
        if wanted == 1:
            return 1
        for table in tables:
            if checks.on_device(table.array):
                raise InputError(
                    f"partitions is {wanted!r} and {table.name} is on a device as a whole; "
                    "pass NumPy tables, or leave partitions out"
                )
        if wanted == AUTO:
            return self._backend.fewest_parts(tables)
        # With a negative that is drawn again, another row is needed beside the positive.
        most = min(map(len, tables)) // (2 if self.options.rejects else 1)
        if cast(int, wanted) > most:
            raise InputError(
                f"partitions is {wanted}, and the smallest table has {min(map(len, tables))} rows; "
                f"pass at most {most}"
            )
        return cast(int, wanted)

    # --- on its device, once something is trained

    @functools.cached_property
    def _problem(self) -> Problem:
        """What a backend is told; of chunks, each has its own pairs, and here are those of none."""
        source = self._source
        sizes = len(self._tables[0]), len(self._tables[-1])
        counts = Occurrences(*source.items, *sizes, self._counts)
        objective = make_objective(self.options, counts)
        return Problem(
            pairs=source.pairs() if self.chunk_size is None else source.pairs(0, 0),
            source=source.kind,
            tables=self._tables,
            num_negative=self.num_negative or 0,
            num_batch=self._num_batch,
            seed=self.seed,
            group=self.negative_sharing,
            objective=objective._replace(flags=objective.flags | self._flags),
            options=self.options,
            counted=counts,
        )

    @functools.cached_property
    def _bound(self) -> BoundTask:
        problem = self._problem
        if self.partitions > 1:
            return PartitionedTask(Blocks(problem, self.partitions), self._backend)
        if self.chunk_size is None:
            return self._backend.bind(problem)
        chunks = Chunks(self._source, self.chunk_size, self.batch_size, self.seed)
        return ChunkedTask(problem, self._source, chunks, self._backend)

    @contextlib.contextmanager
    def _by_workers(self, client: Any, folder: Any) -> Iterator[None]:
        self.__dict__.pop("_bound", None)
        with on_cluster(self._problem, self.partitions, client, folder) as bound:
            self.__dict__["_bound"] = bound
            try:
                yield
            finally:
                del self.__dict__["_bound"]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy elsewhere needs; what its device holds is brought back before."""
        if "_bound" in self.__dict__:
            self.synchronize()
        return {
            n: v for n, v in self.__dict__.items() if n not in ("_problem", "_bound", "_backend")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        tables = {table.name: table.array for table in self._tables}
        self._backend = select_backend(self.options.device, self.options.num_threads, tables)
        self.__dict__["device"] = self._backend.name

    def __len__(self) -> int:
        return self._num_batch

    def __setattr__(self, name: str, value: Any) -> None:
        # Silence would be worse: training would go on with the old value.
        if name in self._fixed:
            raise AttributeError(f"{name} is fixed when a task is made; make a new one")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_itemset={self._source.num_itemset}, "
            f"num_pair={self.num_pair}, num_dimension={self._tables[0].dim}, "
            f"num_negative={self.num_negative}, negative_sharing={self.negative_sharing}, "
            f"batch_size={self.batch_size}, "
            f"seed={self.seed}, device={self.device!r})"
        )

    def _run(self, learning_rates: Float64Array, stream: int) -> int:
        with np.errstate(over="ignore"):  # it becomes inf, which is refused
            rates = (learning_rates * self.learning_rate_scale).astype(np.float32)
        if not np.isfinite(rates).all():
            raise InputError(
                f"learning_rate is {learning_rates}; pass one that is finite in float32"
            )
        num_batch = self._num_batch
        num_pair = 0
        while len(rates):
            epoch, batch = divmod(self._num_done, num_batch)
            now = rates[: num_batch - batch]
            count = self._bound.count_pairs(stream, epoch, batch, len(now))
            # Counted first: what is interrupted has been trained in part.
            self._num_done += len(now)
            self._num_unchecked += count
            self._bound.run(stream, epoch, batch, now)
            num_pair += count
            rates = rates[len(now) :]
        return num_pair

    def _prepare(self) -> None:
        self._bound.prepare()

    def _host_tables(self) -> list[tuple[int, str]]:
        arrays = [table.array for table in self._tables]
        return [(checks.address(a), self.device) for a in arrays if not checks.on_device(a)]

    def _start_epoch(self) -> None:
        num_batch = self._num_batch
        self._num_done = -(-self._num_done // num_batch) * num_batch
        self._bound.read_tally(True)

    @property
    def _num_stream(self) -> int:
        return 1

    @property
    def _pairs_per_batch(self) -> int:
        return -(-self.num_pair // self._num_batch)

    @property
    def _batches_per_call(self) -> int:
        return max(1, self._bound.max_pairs // self._pairs_per_batch)

    @property
    def _batches_per_turn(self) -> int:
        return max(1, min(self._bound.min_pairs // self._pairs_per_batch, len(self) // MIN_TURNS))

    def _read_tally(self, *, wait: bool = False) -> Tally:
        return self._bound.read_tally(wait)

    def _check_finite(self, *, thorough: bool = True) -> None:
        num_row = sum(map(len, self._tables))
        enough = max(num_row // ((self.num_negative or 0) + 2), CHECK_CALLS * self._bound.min_pairs)
        if self._num_unchecked < (1 if thorough else enough):
            return
        self._num_unchecked = 0
        if not self._bound.is_sound():
            self._bound.discard()
            cure = "with a lower learning rate" + (
                " or smaller weights" if self._source.has_weights else ""
            )
            if self._bound.in_place:
                cure = f"Start again from fresh tables {cure}"
            else:
                cure = f"Nothing was written back to yours; start again from them {cure}"
            raise DivergenceError(
                f"the tables hold numbers that are not finite, or larger than {MAX_VALUE:.0e}: "
                f"training diverged. {cure}{self._other_cure}"
            )

    @property
    def _loss_at_random(self) -> float:
        options = self.options
        if options.dense:
            log_sum = math.log(max(2, len(self._tables[-1])))
            return log_sum * (max(1.0, options.sum_scale) + options.self_normalization * log_sum)
        weight = max(1.0, options.positive_weight)
        return ((self.num_negative or 0) + weight) * math.log(2)

    @property
    def _other_cure(self) -> str:
        options = self.options
        return "" if options.max_step or options.dense else ", or with max_step=4"

    def _discard(self) -> None:
        self._bound.discard()

    def _leaves(self) -> list[Leaf]:
        settings = {
            "kind": type(self).__name__,
            "num_pair": self.num_pair,
            "num_batch": self._num_batch,
            "num_dimension": self._tables[0].dim,
            **{
                known.name: getattr(self.options, known.name)
                for known in fields(self.options)
                # Arrays are kept as such; where a training goes on may be another machine.
                if known.name != "noise_weights" and not about(known).machine
            },
            "partitions": self.partitions,
        }
        # By side, as the files of checkpoints name them.
        sides = dict(zip(("left", "right"), (self._tables[0], self._tables[-1]), strict=True))
        if len(self._tables) > 2:
            sides["itemset"] = self._tables[1]
        arrays = {
            name.replace(table.name, side, 1).replace("accumulator", "state"): array
            for side, table in sides.items()
            for name, array in table.arrays().items()
        }
        packed = self._source.arrays
        if self.options.noise_weights is not None:
            packed.append(np.asarray(self.options.noise_weights))
        go_to = functools.partial(setattr, self, "_num_done")
        return [Leaf(arrays, packed, settings, self._num_done, go_to)]

    def synchronize(self) -> None:
        """Make the caller's tables hold what has been trained.

        Raises
        ------
        DivergenceError
            They would hold numbers that are not finite: they are left as they were.
        DeviceError
            The device failed: they are left as they were.
        """
        if not self._bound.in_place:
            self._check_finite()
        self._bound.synchronize()


def _add_accumulators(
    tables: tuple[Table, ...], given: Accumulators | None, options: Options, backend: Backend
) -> Accumulators | None:
    """Check the accumulators of tables, or make new ones of their kind, if there are to be any."""
    if options.optimizer == "adam":
        _add_moments(tables, backend)
    if options.optimizer != "adagrad":
        if given is not None:
            raise InputError(
                f"accumulators are given, and optimizer is {options.optimizer!r}; "
                "pass optimizer='adagrad', or leave them out"
            )
        return None
    # One for each side, and of the itemsets where they have rows.
    sides = tables * 2 if len(tables) == 1 else tables
    if given is None:
        for table in set(tables):
            table.accumulator = zeros_beside(table, 1, len(table), backend)[0]
    else:
        _check_accumulators(sides, given)
        for table, array in zip(sides, given, strict=True):
            table.accumulator = array
    return tuple(table.accumulator for table in sides)


def _check_accumulators(tables: tuple[Table, ...], given: Accumulators) -> None:
    """Make sure that there is one for each table, and one array for two that are the same."""
    if not isinstance(given, (tuple, list)) or len(given) != len(tables):
        what = "a pair of arrays: for the left and the right rows"
        if len(tables) > 2:
            names = ", ".join(table.name for table in tables)
            what = f"{len(tables)} arrays, one for each table: {names}"
        raise InputError(f"accumulators must be {what}")
    for number, (table, array) in enumerate(zip(tables, given, strict=True)):
        checks.accumulator(f"accumulators[{number}]", array, table.array)
    for a, b in itertools.combinations(range(len(tables)), 2):
        one, other = given[a][None], given[b][None]
        checks.same_or_apart(f"accumulators[{a}]", one, f"accumulators[{b}]", other)
        if checks.same_table(one, other) != (tables[a] is tables[b]):
            raise InputError(
                "accumulators must be one array for both sides where the tables are one, "
                "and two arrays where they are two"
            )


def _add_moments(tables: tuple[Table, ...], backend: Backend) -> None:
    """Make what Adam keeps of each table that is trained."""
    for table in tables:
        if not table.frozen:
            table.accumulator = zeros_beside(table, 1, len(table), backend)[0]
            table.moment = zeros_beside(table, len(table), table.dim, backend)
            table.variance = zeros_beside(table, len(table), table.dim, backend)


def zeros_beside(table: Table, num_row: int, dim: int, backend: Backend) -> Any:
    """Return zeros where a table is; those on the host are copied to a device with it."""
    if checks.on_device(table.array):
        return backend.zeros(num_row, dim, np.float32)
    return np.zeros((num_row, dim), dtype=np.float32)


def _side(
    prefix: str,
    items: npt.ArrayLike,
    offsets: npt.ArrayLike,
    weights: npt.ArrayLike | None,
    num_label: int,
    min_length: int,
) -> Side:
    """Check packed itemsets; what no itemset holds is not looked at."""
    given = checks.vector(f"{prefix}items", items, "iu", "integers")
    if len(given) == 0:
        raise InputError(f"{prefix}items is empty; pass at least one itemset")
    bounds = checks.mapped_offsets(f"{prefix}offsets", offsets, len(given))
    cure = "mask=... the same on both sides" if prefix else f"min_length={min_length}"
    checks.long_enough(f"{prefix}offsets", bounds, min_length, cure)
    used = slice(int(bounds[0]), int(bounds[-1]))
    checked_items = checks.items(f"{prefix}items", given[used], num_label)
    checked_weights = np.empty(0, dtype=np.float32)
    if weights is not None:
        checked_weights = checks.weights(f"{prefix}weights", weights, len(given))[used]
    return Side(checked_items, bounds, checked_weights)


@takes_options(TASK)
class UnsupervisedTask(_PackedTask):
    """Learn from co-occurrence: each item with another one, or all the others, of its itemset.

    Tables are trained in place. An epoch trains every item once, in a random
    order over all itemsets.

    Parameters
    ----------
    items : int32, num_item
        Itemsets, concatenated. Any integer type whose values fit.
    offsets : int32 or int64, num_itemset + 1
        Boundaries in `items`; every itemset has at least 2 items.
    syn0, syn1 : float32, (num_label, num_dimension)
        Tables of the items and of their neighbours; they may be the same.
    weights : float32, num_item, optional
        Weight of each item; the step of a pair is multiplied by both. By
        default 1; negative weights push items apart.
    accumulators : pair of float32, num_label, optional
        With ``optimizer="adagrad"``, G of both tables, trained in place; by default they start
        at 0. Tasks that share a table should share its accumulators: pass those of the one,
        ``task.accumulators``, to the other.
    {options}

    Raises
    ------
    InputError
        An argument cannot be used.
    DeviceError
        The device cannot be had.

    Examples
    --------
    >>> labels, indices, offsets = pack_itemsets(itemsets, min_count=10, min_length=2)
    >>> syn0 = initialize_syn(len(labels), 64)
    >>> syn1 = initialize_syn(len(labels), 64)
    >>> history = train(UnsupervisedTask(indices, offsets, syn0, syn1), num_epoch=100)
    """

    def __init__(
        self,
        items: npt.ArrayLike,
        offsets: npt.ArrayLike,
        syn0: Any,
        syn1: Any,
        *,
        weights: npt.ArrayLike | None = None,
        accumulators: Accumulators | None = None,
        **options: Unpack[TaskKeywords],
    ) -> None:
        checks.tables_alike(syn0=syn0, syn1=syn1)
        self.items = items
        self.offsets = offsets
        self._weights = weights
        self.syn0 = syn0
        self.syn1 = syn1
        settings = make_options(self, TASK, options)
        side = _side("", items, offsets, weights, len(syn0), 2)
        super().__init__(
            ItemsetSource(side, pooled=settings.pooling == "mean", window=settings.window),
            Table("syn0", syn0),
            Table("syn1", syn1),
            settings,
            accumulators,
        )

    @property
    def weights(self) -> npt.ArrayLike:
        """Weight of each item; made here where none were given."""
        return _weights_or_ones(self._weights, self.items)


@takes_options(
    TASK,
    docs={
        "update_left": "Whether the items are trained, or only read. Their itemsets are trained "
        "anyway: with both sides frozen, vectors of unseen itemsets are found.",
    },
    without=OF_DENSE | {"pooling", "partitions"},
)
class DocumentTask(_PackedTask):
    """Learn a vector for each itemset beside those of its items: PV-DM.

    Each item is predicted from the mean of a vector of the itemset and those of all its other
    items, ``u = (d + sum(w_i * x_i)) / (1 + sum(abs(w_i)))`` ("Distributed memory" of Le and
    Mikolov, "Distributed representations of sentences and documents", ICML 2014, section 2.2,
    where itemsets are documents; gensim's ``Doc2Vec(dm=1, dm_mean=1)``). With a `window`, the
    others are those near the item, as in texts. PV-DBOW of the same paper is `itemset_task`, and
    without the itemsets' own vectors this is an `UnsupervisedTask` with ``pooling="mean"``.

    All three tables are trained in place. An epoch trains every item once, in a random order
    over all itemsets.

    Parameters
    ----------
    items : int32, num_item
        Itemsets, concatenated. Any integer type whose values fit.
    offsets : int32 or int64, num_itemset + 1
        Boundaries in `items`; every itemset has at least 1 item. One that is alone is
        predicted from its itemset's vector.
    syn0 : float32, (num_label, num_dimension)
        Table of the items in a mean.
    itemset_syn : float32, (num_itemset, num_dimension)
        Table of the itemsets, one row each.
    syn1 : float32, (num_label, num_dimension)
        Table of the items that are predicted; it may be `syn0`.
    weights : float32, num_item, optional
        Weight of each item, in the mean and of what is predicted.
    accumulators : tuple of float32, num_label, num_itemset and num_label, optional
        As for `UnsupervisedTask`, of each table.
    {options}

    Raises
    ------
    InputError
        An argument cannot be used, or there is not one row for each itemset.
    DeviceError
        The device cannot be had.

    Examples
    --------
    >>> labels, items, offsets = pack_itemsets(itemsets, min_length=1)
    >>> syn0, syn1 = initialize_syn(len(labels), 64), initialize_syn(len(labels), 64, "zero")
    >>> itemset_syn = initialize_syn(len(offsets) - 1, 64)
    >>> history = train(DocumentTask(items, offsets, syn0, itemset_syn, syn1))

    Vectors of other itemsets, among items that are left as they are:

    >>> packed = pack_itemsets(others, labels=labels)
    >>> found = initialize_syn(packed.num_itemset, 64)
    >>> task = DocumentTask(
    ...     packed.indices, packed.offsets, syn0, found, syn1,
    ...     update_left=False, update_right=False,
    ... )
    >>> history = train(task)
    """

    _flags = OWN_ROW

    def __init__(
        self,
        items: npt.ArrayLike,
        offsets: npt.ArrayLike,
        syn0: Any,
        itemset_syn: Any,
        syn1: Any,
        *,
        weights: npt.ArrayLike | None = None,
        accumulators: Accumulators | None = None,
        **options: Unpack[TaskKeywords],
    ) -> None:
        checks.tables(syn0=syn0, itemset_syn=itemset_syn)
        checks.tables_alike(syn0=syn0, syn1=syn1)
        for name, table in (("syn0", syn0), ("syn1", syn1)):
            checks.same_or_apart("itemset_syn", itemset_syn, name, table)
            if checks.same_table(itemset_syn, table):
                raise InputError(f"itemset_syn and {name} are one table; pass two")
        settings = _document_options(self, options)
        side = _side("", items, offsets, weights, len(syn0), 1)
        _check_one_each(itemset_syn, len(side.offsets) - 1)
        self.items = items
        self.offsets = offsets
        self._weights = weights
        self.syn0 = syn0
        self.itemset_syn = itemset_syn
        self.syn1 = syn1
        super().__init__(
            ItemsetSource(side, pooled=True, window=settings.window),
            Table("syn0", syn0),
            Table("syn1", syn1),
            settings,
            accumulators,
            Table("itemset_syn", itemset_syn),
        )

    @property
    def weights(self) -> npt.ArrayLike:
        """Weight of each item; made here where none were given."""
        return _weights_or_ones(self._weights, self.items)


def _document_options(task: DocumentTask, given: TaskKeywords) -> Options:
    """Return options of a task that trains means with the itemsets' own rows in them."""
    options = make_options(task, TASK, {"pooling": "mean", **given})
    if options.pooling != "mean":
        raise InputError(
            f"pooling is {options.pooling!r}, and vectors of itemsets are trained in a mean; leave "
            "it out, or take itemset_task"
        )
    if options.dense:
        raise InputError(
            f"loss is {options.loss!r}, which has no vectors of itemsets; leave it out, or pass "
            f"one of {', '.join(map(repr, SAMPLED_LOSSES))}, or take itemset_task"
        )
    return options


def _check_one_each(itemset_syn: Any, num_itemset: int) -> None:
    if len(itemset_syn) != num_itemset:
        raise InputError(
            f"itemset_syn has {len(itemset_syn)} rows for {num_itemset} itemsets; pass one each"
        )


@takes_options(TASK)
class SupervisedTask(_PackedTask):
    """Learn labels from features: every left item with every right item of the same rank.

    Tables are trained in place. An epoch trains every pair once, in a random
    order over all itemsets.

    Parameters
    ----------
    left_items, right_items : int32, num_left_item and num_right_item
        Itemsets of features and of labels, concatenated.
    left_offsets, right_offsets : int32 or int64, num_itemset + 1
        Boundaries in the items; every itemset has at least 1 item, and the n-th
        on the left goes with the n-th on the right.
    left_syn, right_syn : float32, (num_left_label, num_dimension) and (num_right_label, ...)
        Tables of the features and of the labels.
    left_weights, right_weights : float32, num_left_item and num_right_item, optional
        Weight of each item.
    accumulators : pair of float32, num_left_label and num_right_label, optional
        As for `UnsupervisedTask`.
    {options}

    Raises
    ------
    InputError
        An argument cannot be used.
    DeviceError
        The device cannot be had.
    """

    def __init__(
        self,
        left_items: npt.ArrayLike,
        left_offsets: npt.ArrayLike,
        right_items: npt.ArrayLike,
        right_offsets: npt.ArrayLike,
        left_syn: Any,
        right_syn: Any,
        *,
        left_weights: npt.ArrayLike | None = None,
        right_weights: npt.ArrayLike | None = None,
        accumulators: Accumulators | None = None,
        **options: Unpack[TaskKeywords],
    ) -> None:
        checks.tables(left_syn=left_syn, right_syn=right_syn)
        left = _side("left_", left_items, left_offsets, left_weights, len(left_syn), 1)
        right = _side("right_", right_items, right_offsets, right_weights, len(right_syn), 1)
        if len(left.offsets) != len(right.offsets):
            raise InputError(
                f"left_offsets bounds {len(left.offsets) - 1} itemsets and right_offsets "
                f"{len(right.offsets) - 1}; pass as many on both sides"
            )
        settings = make_options(self, TASK, options)
        if settings.targets != "all":
            raise InputError(
                f"targets is {settings.targets!r}, and of features all labels are predicted; "
                "leave it out"
            )
        if settings.window is not None:
            raise InputError(
                f"window is {settings.window}, and features have no order among labels; "
                "leave it out"
            )
        self.left_items = left_items
        self.left_offsets = left_offsets
        self._left_weights = left_weights
        self.right_items = right_items
        self.right_offsets = right_offsets
        self._right_weights = right_weights
        self.left_syn = left_syn
        self.right_syn = right_syn
        super().__init__(
            ItemsetSource(left, right, pooled=settings.pooling == "mean"),
            Table("left_syn", left_syn),
            Table("right_syn", right_syn),
            settings,
            accumulators,
        )

    @property
    def left_weights(self) -> npt.ArrayLike:
        """Weight of each left item; made here where none were given."""
        return _weights_or_ones(self._left_weights, self.left_items)

    @property
    def right_weights(self) -> npt.ArrayLike:
        """Weight of each right item; made here where none were given."""
        return _weights_or_ones(self._right_weights, self.right_items)


@takes_options(LISTED_TASK)
class ListedTask(_PackedTask):
    """Learn from pairs that are given one by one, such as the edges of a graph.

    Tables are trained in place. An epoch trains every pair once, in a random order.

    Parameters
    ----------
    left, right : int32, num_pair
        Rows of each pair in the tables. Any integer type whose values fit.
    left_syn, right_syn : float32, (num_left_label, num_dimension) and (num_right_label, ...)
        Tables of both sides; they may be the same.
    values : float32, num_pair, optional
        What the step of each pair is multiplied by, such as how often it occurs; by default 1,
        and negative values push rows apart.
    accumulators : pair of float32, num_left_label and num_right_label, optional
        As for `UnsupervisedTask`.
    {options}

    Raises
    ------
    InputError
        An argument cannot be used.
    DeviceError
        The device cannot be had.

    Examples
    --------
    >>> left, right = [0, 1, 2, 2], [1, 2, 3, 0]
    >>> syn0, syn1 = initialize_syn(4, 64), initialize_syn(4, 64)
    >>> train(ListedTask(left, right, syn0, syn1, values=[1, 1, 3, 0.5]), progress=False)
    History(...)
    """

    def __init__(
        self,
        left: npt.ArrayLike,
        right: npt.ArrayLike,
        left_syn: Any,
        right_syn: Any,
        *,
        values: npt.ArrayLike | None = None,
        accumulators: Accumulators | None = None,
        **options: Unpack[ListedKeywords],
    ) -> None:
        checks.tables(left_syn=left_syn, right_syn=right_syn)
        left_rows = checks.items("left", left, len(left_syn))
        right_rows = checks.items("right", right, len(right_syn))
        if len(left_rows) != len(right_rows):
            raise InputError(
                f"left has {len(left_rows)} rows and right {len(right_rows)}; "
                "pass as many, a pair each"
            )
        factors = np.empty(0, dtype=np.float32)
        if values is not None:
            factors = checks.weights("values", values, len(left_rows))
        self.left = left
        self.right = right
        self.left_syn = left_syn
        self.right_syn = right_syn
        self.values = values
        super().__init__(
            ListedSource(left_rows, right_rows, factors),
            Table("left_syn", left_syn),
            Table("right_syn", right_syn),
            make_options(self, LISTED_TASK, options),
            accumulators,
        )


def itemset_task(
    items: npt.ArrayLike,
    offsets: npt.ArrayLike,
    itemset_syn: Any,
    syn1: Any,
    *,
    weights: npt.ArrayLike | None = None,
    **options: Unpack[TaskKeywords],
) -> SupervisedTask:
    """Learn a vector for each itemset: the itemset itself is the feature, its items the labels.

    This is PV-DBOW (Le and Mikolov, "Distributed representations of sentences and
    documents", ICML 2014, section 2.3): where an itemset is a user, these are user
    embeddings. Beside an `UnsupervisedTask` on the same `syn1`, both are trained
    together; with ``update_right=False``, itemsets find their places among items that are
    trained already.

    Parameters
    ----------
    items : int32, num_item
        Itemsets, concatenated.
    offsets : int32 or int64, num_itemset + 1
        Boundaries in `items`; every itemset has at least 1 item.
    itemset_syn : float32, (num_itemset, num_dimension)
        Table of the itemsets, one row each.
    syn1 : float32, (num_label, num_dimension)
        Table of the items, on the side of the targets.
    weights : float32, num_item, optional
        Weight of each item.
    **options
        Those of `SupervisedTask`.

    Returns
    -------
    SupervisedTask
        The task, to be trained alone or in a `CompoundTask`.

    Raises
    ------
    InputError
        An argument cannot be used, or there is not one row for each itemset.
    DeviceError
        The device cannot be had.

    Examples
    --------
    >>> labels, items, offsets = pack_itemsets(itemsets, min_length=2)
    >>> syn0, syn1 = initialize_syn(len(labels), 64), initialize_syn(len(labels), 64, "zero")
    >>> itemset_syn = initialize_syn(len(offsets) - 1, 64)
    >>> both = CompoundTask(
    ...     UnsupervisedTask(items, offsets, syn0, syn1),
    ...     itemset_task(items, offsets, itemset_syn, syn1),
    ... )
    >>> history = train(both)
    """
    checks.table("itemset_syn", itemset_syn)
    num_itemset = len(np.asarray(offsets)) - 1
    _check_one_each(itemset_syn, num_itemset)
    return SupervisedTask(
        np.arange(num_itemset, dtype=np.int32),
        np.arange(num_itemset + 1, dtype=np.int64),
        items,
        offsets,
        itemset_syn,
        syn1,
        right_weights=weights,
        **options,
    )


def _weights_or_ones(weights: npt.ArrayLike | None, items: npt.ArrayLike) -> npt.ArrayLike:
    return np.ones(np.shape(items), dtype=np.float32) if weights is None else weights


class CompoundTask(_FusedTask):
    """Train several tasks in turn, one batch each.

    Tasks may share tables. The longest makes the epoch; shorter ones start over.
    Each sub-task draws from a random stream of its own, also where seeds are
    equal. Where a backend needs more than a batch to be busy, `train` gives
    sub-tasks turns of several batches, in the same proportion.

    Parameters
    ----------
    *tasks : Task
        Tasks to train jointly.
    learning_rate_scale : float, optional
        Multiplier of the learning rate of all of them.

    Raises
    ------
    InputError
        There is no task, or something that is none.
    """

    def __init__(self, *tasks: Trainable, learning_rate_scale: float = 1.0) -> None:
        super().__init__(learning_rate_scale)
        if not tasks:
            raise InputError("tasks is empty; pass at least one task")
        self.tasks = tasks
        self._tasks = [as_task(task) for task in tasks]
        if self._num_stream > MAX_STREAM:
            raise InputError(f"tasks holds {self._num_stream} tasks; pass at most {MAX_STREAM}")
        for task in self._tasks:
            if getattr(task, "partitions", 1) > 1:
                raise InputError(
                    "tasks holds one with partitions, which has a part of its tables at hand; "
                    "train that by itself"
                )
        homes: dict[int, str] = {}
        for address, device in self._host_tables():
            if homes.setdefault(address, device) != device:
                raise InputError(
                    f"tasks train one NumPy table on {homes[address]} and on {device}; "
                    "train it on one device"
                )

    def __len__(self) -> int:
        return max(len(task) for task in self._tasks)

    def synchronize(self) -> None:
        """Make the caller's tables hold what has been trained: those of all tasks, or none."""
        self._check_finite()
        for task in self._tasks:
            task.synchronize()

    def _run(self, learning_rates: Float64Array, stream: int) -> int:
        rates = learning_rates * self.learning_rate_scale
        turn = self._batches_per_turn
        num_pair = 0
        for start in range(0, len(rates), turn):
            first = stream
            for task in self._tasks:
                num_pair += task._train_batches(rates[start : start + turn], first)
                first += task._num_stream
        return num_pair

    def _prepare(self) -> None:
        for task in self._tasks:
            task._prepare()

    def _host_tables(self) -> list[tuple[int, str]]:
        return [table for task in self._tasks for table in task._host_tables()]

    def _start_epoch(self) -> None:
        for task in self._tasks:
            # The shorter ones start over in the middle of an epoch of the whole anyway.
            if len(task) == len(self):
                task._start_epoch()
        self._read_tally(wait=True)

    @property
    def _num_stream(self) -> int:
        return sum(task._num_stream for task in self._tasks)

    @property
    def _batches_per_call(self) -> int:
        turns = min(task._batches_per_call for task in self._tasks) // len(self._tasks)
        # Whole turns, so that how the work is cut into calls does not matter.
        return max(1, turns // self._batches_per_turn) * self._batches_per_turn

    @property
    def _batches_per_turn(self) -> int:
        return min(task._batches_per_turn for task in self._tasks)

    def _read_tally(self, *, wait: bool = False) -> Tally:
        tallies = (task._read_tally(wait=wait) for task in self._tasks)
        return functools.reduce(Tally.plus, tallies)

    def _check_finite(self, *, thorough: bool = True) -> None:
        try:
            for task in self._tasks:
                task._check_finite(thorough=thorough)
        except DivergenceError:
            self._discard()  # all of them, or none
            raise

    @property
    def _loss_at_random(self) -> float:
        return max(task._loss_at_random for task in self._tasks)

    @property
    def _other_cure(self) -> str:
        return next(filter(None, (task._other_cure for task in self._tasks)), "")

    def _discard(self) -> None:
        for task in self._tasks:
            task._discard()

    def _leaves(self) -> list[Leaf]:
        return [leaf for task in self._tasks for leaf in task._leaves()]

"""How embeddings are kept on disk: a folder to load again.

A saved folder holds::

    embeddings.json                  what is current: format, version, metadata, its own
                                     checksum, and name, size and checksum of the files below
    labels-000002....json            the labels and their types
    vectors-000002....safetensors    vectors, and context and counts where there are any

or, saved in shards, the tables of a range of rows in each of several files, and the range of each
in the index::

    vectors.0-000002....safetensors  vectors, and context where there is one, of the first rows
    vectors.1-000002....safetensors  of the rows after these
    rows-000002....safetensors       counts, and the like: numbers of all rows

How it changes as a whole or not at all, `folders` says.

Workers that have parts of the tables write them with `write_shard`, each a file, and then who has
the labels calls `write_index`, once: until then the folder is as it was.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import is_finite
from ..errors import DataError, InputError
from .files import Tensors, map_tensors, read_tensors, write_tensors
from .folders import Kind
from .labels import decode_labels, encode_labels

KIND = Kind(
    index="embeddings.json",
    format="itembed_gpu.embeddings",
    version=1,
    files={"labels": ".json", "vectors": ".safetensors", "rows": ".safetensors"},
    what="embeddings",
    cure="save the embeddings again",
    checksum="sha256",
    several="vectors",
)


# ------------------------------------------------------------------------ writing


def write_folder(
    folder: Path,
    labels: list[Any],
    tensors: Mapping[str, Any],
    metadata: dict[str, Any],
    shards: int = 1,
) -> None:
    """Save to a folder, in the place of what was saved there before, if anything was.

    Tables of which only some rows are in memory are sliced shard by shard. Raises `InputError`,
    with nothing written, if the labels cannot be saved, there are fewer rows than shards, or the
    folder is not for saving to.
    """
    if shards == 1:
        files = {"vectors": lambda path: write_tensors(path, _in_memory(tensors))}
        _write(folder, labels, files, {"metadata": metadata})
        return
    for name, values in tensors.items():
        if len(values) != len(labels):
            raise InputError(
                f"shards is {shards}, and {name} has {len(values)} rows for {len(labels)} labels, "
                "so that it has to stay whole; pass shards=1"
            )
    bounds = shard_bounds(len(labels), shards)
    tables = {name: values for name, values in tensors.items() if values.ndim > 1}

    def write_range(first: int, stop: int, path: Path) -> None:
        write_tensors(path, {name: table[first:stop] for name, table in tables.items()})

    ranges = enumerate(itertools.pairwise(bounds))
    files = {f"vectors.{i}": functools.partial(write_range, *limits) for i, limits in ranges}
    rows = {name: values for name, values in tensors.items() if name not in tables}
    _write(folder, labels, files | _rows_file(rows), {"metadata": metadata, "bounds": bounds})


def shard_bounds(num_row: int, shards: int) -> list[int]:
    """Return the first row of each of so many shards, and the number of rows."""
    if shards > max(1, num_row):
        raise InputError(f"shards is {shards} for {num_row} rows; pass at most one a row")
    return [num_row * i // shards for i in range(shards + 1)]


def write_shard(
    folder: Path,
    number: int,
    limits: tuple[int, int],
    pieces: Iterable[tuple[npt.NDArray[Any], Mapping[str, npt.NDArray[Any]]]],
) -> dict[str, Any]:
    """Write the shard of this number: of some rows, from one up to another, all tables.

    It may be called for any shards at once, by processes that share the folder's disk, and again
    where it failed: each call writes a file of its own. Until `write_index` the folder loads as it
    did before.

    Parameters
    ----------
    folder : Path
    number : int
        From 0 on, in the order of the rows.
    limits : (int, int)
        The first row, and the first after the last, as of `shard_bounds`.
    pieces : iterable of (int (m,), dict of float32 (m, D) by str)
        Numbers of rows, and these rows of each table: "vectors", and "context" where there is one.
        Each row between the limits comes once; other rows are none of this shard, and passed over.

    Returns
    -------
    dict
        What `write_index` has to know of it.

    Raises
    ------
    InputError
        A row is missing, or comes twice, or is not finite; or the folder holds something else.
    OSError
        The disk is full, or the like.
    """
    first, stop = limits
    tables: dict[str, npt.NDArray[np.float32]] = {}
    seen: dict[str, npt.NDArray[np.int64]] = {}
    for rows, values in pieces:
        here = (rows >= first) & (rows < stop)
        places = rows[here] - first
        for name, table in values.items():
            if name not in tables:
                tables[name] = np.empty((stop - first, table.shape[1]), dtype=np.float32)
                seen[name] = np.zeros(stop - first, dtype=np.int64)
            tables[name][places] = table[here]
            np.add.at(seen[name], places, 1)
    for name, times in seen.items():
        if (times != 1).any():
            row = int((times != 1).argmax())
            raise InputError(
                f"pieces have row {first + row} of {name} {times[row]} times; pass each row once"
            )
        if not is_finite(tables[name]):
            row = int(np.isfinite(tables[name]).all(axis=1).argmin())
            raise InputError(
                f"{name}: row {first + row} holds a value that is not finite; train with a lower "
                "learning rate"
            )
    record = KIND.add(folder, f"vectors.{number}", lambda path: write_tensors(path, tables))
    return {**record, "limits": [first, stop]}


def write_index(
    folder: Path,
    labels: list[Any],
    written: Sequence[Mapping[str, Any]],
    rows: Tensors,
    metadata: dict[str, Any],
) -> None:
    """Have the folder be what `write_shard` has written, in one step.

    Parameters
    ----------
    folder : Path
    labels : list, length n
    written : sequence of dict
        What `write_shard` returned, of each shard in order.
    rows : dict of array (n,) by str
        Numbers of all rows, as "counts".
    metadata : dict

    Raises
    ------
    InputError
        The shards do not follow each other, or are not of as many rows as there are labels; or as
        of `write_folder`.
    DataError
        A file of a shard is gone.
    """
    limits = [one["limits"] for one in written]
    bounds = [0, *(stop for _, stop in limits)]
    if bounds[-1] != len(labels) or bounds[:-1] != [first for first, _ in limits]:
        raise InputError(
            f"written has shards of rows {limits} for {len(labels)} labels; pass all, in order"
        )
    added = {
        f"vectors.{i}": {name: value for name, value in one.items() if name != "limits"}
        for i, one in enumerate(written)
    }
    _write(folder, labels, _rows_file(rows), {"metadata": metadata, "bounds": bounds}, added)


def _write(
    folder: Path,
    labels: list[Any],
    files: Mapping[str, Callable[[Path], Any]],
    content: dict[str, Any],
    added: dict[str, dict[str, Any]] | None = None,
) -> None:
    encoded = encode_labels(labels)
    KIND.write(folder, {"labels": lambda path: path.write_bytes(encoded), **files}, content, added)


def _rows_file(rows: Tensors) -> dict[str, Callable[[Path], Any]]:
    return {"rows": lambda path: write_tensors(path, rows)}


def _in_memory(tensors: Mapping[str, Any]) -> Tensors:
    return {name: np.asarray(values) for name, values in tensors.items()}


# ------------------------------------------------------------------------ reading


@dataclass(frozen=True, eq=False)
class Shard:
    """The tables of some rows, in a file that is compared with its checksum at its first use.

    It is sent to whoever is to open it, which takes the folder to be found there by its path.
    """

    folder: Path
    name: str
    record: dict[str, Any]
    num_row: int

    def table(self, name: str) -> npt.NDArray[Any]:
        """Return the rows of a table, mapped. Raises a `DataError` if they cannot be had."""
        path = self._path()
        tables = map_tensors(path, KIND.cure)
        if name not in tables:
            raise DataError(f"{path}: holds no {name}; {KIND.cure}")
        return tables[name]

    def tables(self) -> Tensors:
        """Return all tables, mapped."""
        return map_tensors(self._path(), KIND.cure)

    def _path(self) -> Path:
        index = {"files": {self.name: self.record}}
        try:
            path = KIND.locate(self.folder, index, self.name)
        except DataError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise DataError(
                f"{self.folder / self.record['name']}: cannot be read (no such file); load again "
                "what was saved again meanwhile, or save the embeddings again"
            ) from error
        _compare_once(path, self.name, self.record["sha256"], path.stat().st_mtime_ns)
        return path


@functools.cache
def _compare_once(path: Path, name: str, digest: str, changed: int) -> None:
    """Compare a file with its checksum, unless this process has done so since it was changed."""
    record = {"name": path.name, "size": path.stat().st_size, "sha256": digest}
    KIND.verified(path.parent, {"files": {name: record}}, name)


class Saved(NamedTuple):
    """What a folder holds: labels, tables by shards, numbers of rows, and metadata."""

    labels: list[Any]
    shards: list[Shard]
    rows: Tensors
    metadata: Any

    def dimensions(self) -> dict[str, int]:
        """Return the number of columns of each table, as the first shard has it."""
        return {
            name: table.shape[1]
            for name, table in self.shards[0].tables().items()
            if table.ndim == 2
        }

    def whole(self) -> Tensors:
        """Return all arrays, in memory."""
        parts = [shard.tables() for shard in self.shards]
        names = set().union(*parts)
        try:
            tables = {name: np.concatenate([part[name] for part in parts]) for name in names}
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{self.shards[0].folder}: its files do not go together; {KIND.cure}"
            ) from error
        return {**tables, **self.rows}


def is_sharded(folder: Path) -> bool:
    """Whether a folder was saved in shards. Raises `DataError` if its index cannot be used."""
    return "bounds" in KIND.read_index(folder)


def read_folder(folder: Path) -> tuple[list[Any], Tensors, Any]:
    """Return the labels, the arrays ("vectors" among them) and the metadata of a saved folder.

    Raises `DataError` if something is missing, damaged, or of another version.
    """

    def read(index: dict[str, Any]) -> tuple[list[Any], Tensors, Any]:
        if "bounds" in index:
            saved = _open(folder, index)
            return saved.labels, saved.whole(), saved.metadata
        labels = decode_labels(KIND.verified(folder, index, "labels"))
        return labels, _read_vectors(folder, index), index.get("metadata")

    return KIND.settled(folder, read)


def open_folder(folder: Path) -> Saved:
    """Open a saved folder: its tables are only mapped, and read as they are used.

    Raises `DataError` if something is missing or of another version, or the labels are damaged.
    """
    return KIND.settled(folder, lambda index: _open(folder, index))


def _open(folder: Path, index: dict[str, Any]) -> Saved:
    labels = decode_labels(KIND.verified(folder, index, "labels"))
    metadata = index.get("metadata")
    if "bounds" not in index:
        arrays = _read_vectors(folder, index)
        rows = {name: values for name, values in arrays.items() if values.ndim == 1}
        shard = Shard(folder.absolute(), "vectors", index["files"]["vectors"], len(labels))
        return Saved(labels, [shard], rows, metadata)
    bounds, files = index["bounds"], index["files"]
    if not _are_bounds(bounds, len(labels)):
        raise DataError(f"{folder / KIND.index}: has no bounds of its shards; {KIND.cure}")
    for i in range(len(bounds) - 1):
        KIND.locate(folder, index, f"vectors.{i}")
    shards = [
        Shard(folder.absolute(), f"vectors.{i}", files[f"vectors.{i}"], stop - first)
        for i, (first, stop) in enumerate(itertools.pairwise(bounds))
    ]
    return Saved(
        labels, shards, read_tensors(KIND.verified(folder, index, "rows"), KIND.cure), metadata
    )


def _are_bounds(bounds: Any, num_row: int) -> bool:
    """Whether an index tells where each shard begins and ends, of so many rows."""
    if not isinstance(bounds, list) or not all(type(bound) is int for bound in bounds):
        return False
    return len(bounds) > 1 and bounds == sorted(bounds) and bounds[0] == 0 and bounds[-1] == num_row


def _read_vectors(folder: Path, index: dict[str, Any]) -> Tensors:
    path = KIND.verified(folder, index, "vectors")
    tensors = read_tensors(path, KIND.cure)
    if "vectors" not in tensors:
        raise DataError(f"{path}: cannot be read (it holds no vectors); {KIND.cure}")
    return tensors

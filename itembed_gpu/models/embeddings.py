"""`Embeddings`: labels and their vectors, with neighbours, saving and export."""

from __future__ import annotations

import functools
import json
import os
import re
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeAlias, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import dask_client, integer, on_host, show, vector
from ..data.labels import OWN, plain
from ..data.lists import as_rows
from ..disk.embeddings import open_folder, read_folder, write_folder
from ..disk.exports import write_npy, write_parquet
from ..disk.labels import write_word2vec
from ..errors import DataError, InputError, UnknownLabelError
from ..ranking.cosine import nearest_rows
from ..ranking.parts import Part, PartedTable
from ..ranking.vectors import normalize

Label: TypeAlias = Hashable
Neighbours: TypeAlias = list[tuple[Any, float]]
"""(label, cosine) pairs, best first."""

# A number that may stand for a code.
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}(\.0*)?")

_MANY = (list, np.ndarray)  # what holds labels; a tuple may be a label itself


class Embeddings:
    """Labels and their vectors.

    Parameters
    ----------
    labels : iterable of hashable, length n
        One label a row, in row order, all different. NumPy scalars become
        plain Python values: integers `int`, strings `str`, `datetime64`
        a `datetime.date` (units of a day and coarser) or a
        `datetime.datetime` (finer units; one that a datetime cannot hold
        exactly is refused). To Python, 1, 1.0 and True are one label.
    vectors : float (n, D)
        Input vectors, the rows of ``syn0``. A C-ordered float32 array is kept
        as it is, not copied, so that training on in place shows through;
        anything else is converted to that.
    context : float (n, D), optional
        Output vectors, the rows of ``syn1``; kept in the same way.
    counts : int (n,), optional
        How often each item occurred; becomes int64.
    metadata : dict, optional
        Anything that JSON can hold; kept as a JSON copy (tuples become lists).

    Attributes
    ----------
    vectors, context : float32 (n, D)
        `context` may be None. Of a folder that was opened with `mmap` or `client` they are a
        `PartedTable`, whose rows stay on disk.
    counts : int64 (n,) or None
    metadata : dict

    Raises
    ------
    InputError
        A label stands twice or cannot be hashed, a shape or dtype does not
        fit, a value is not finite in float32, a count is negative, or
        `metadata` is not JSON.

    Examples
    --------
    >>> embeddings = Embeddings(["tea", "cup", "saw"], [[1, 0], [1, 1], [0, -1]])
    >>> embeddings
    Embeddings(3 x 2: 'tea', 'cup', 'saw')
    >>> embeddings["cup"]
    array([1., 1.], dtype=float32)
    >>> [label for label, score in embeddings.similar("tea", n=2)]
    ['cup', 'saw']
    """

    def __init__(
        self,
        labels: Iterable[Label],
        vectors: ArrayLike,
        *,
        context: ArrayLike | None = None,
        counts: ArrayLike | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._labels = _plain_labels(labels)
        self._rows_by_label = _number(self._labels)
        self.vectors = _float_table("vectors", vectors, self._labels)
        self.context = None if context is None else _float_table("context", context, self._labels)
        if self.context is not None and self.context.shape != self.vectors.shape:
            raise InputError(
                f"context: has shape {self.context.shape} where vectors have "
                f"{self.vectors.shape}; pass tables of one shape"
            )
        self.counts = None if counts is None else _count_array(counts, len(self))
        self.metadata = _json_copy({} if metadata is None else metadata)

    @property
    def labels(self) -> list[Any]:
        """The labels in row order; not a copy, so leave it as it is."""
        return self._labels

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._labels)

    def __contains__(self, label: Label) -> bool:
        return plain(label) in self._rows_by_label

    def __getitem__(self, label: Label | list[Any] | NDArray[Any]) -> NDArray[np.float32]:
        """The vector of a label, or the vectors of many.

        Parameters
        ----------
        label : label, or a list or array of m labels

        Returns
        -------
        float32 (D,) or (m, D)
            The vector of one label is a view: to write to it writes to
            `vectors`. Those of many labels are a copy.

        Raises
        ------
        UnknownLabelError
            There is no such label.
        """
        rows = self._rows(label) if isinstance(label, _MANY) else self.index(label)
        selected: NDArray[np.float32] = self.vectors[rows]
        return selected

    def __repr__(self) -> str:
        labels = [show(label, 24) for label in self._labels[:3]] + ["..."] * (len(self) > 3)
        extras = [name for name in ("context", "counts") if getattr(self, name) is not None]
        extras += ["metadata"] if self.metadata else []
        shown = f": {', '.join(labels)}" if labels else ""
        shown += f"; with {', '.join(extras)}" if extras else ""
        return f"Embeddings({len(self):,} x {self.dimension}{shown})"

    def index(self, label: Label) -> int:
        """The row of a label.

        Parameters
        ----------
        label : object
            One label.

        Returns
        -------
        int
            Its row in the tables.

        Raises
        ------
        UnknownLabelError
            There is no such label; the message offers close ones, if any.
        InputError
            `label` cannot be hashed, so it cannot be a label.
        """
        try:
            return self._rows_by_label[plain(label)]
        except KeyError:
            raise self._unknown(label) from None
        except TypeError:
            raise InputError(
                f"label: {show(label)} is a {type(label).__name__}, which cannot be a label; "
                "pass a label, or a list of labels"
            ) from None

    @overload
    def similar(
        self, query: list[Any], n: int = ..., items: Any = ..., exclude: Any = ...
    ) -> list[Neighbours]: ...
    @overload
    def similar(
        self, query: NDArray[Any], n: int = ..., items: Any = ..., exclude: Any = ...
    ) -> Neighbours | list[Neighbours]: ...
    @overload
    def similar(
        self, query: Label, n: int = ..., items: Any = ..., exclude: Any = ...
    ) -> Neighbours: ...

    def similar(
        self,
        query: Label | list[Any] | NDArray[Any],
        n: int = 10,
        items: Any = None,
        exclude: Any = None,
    ) -> Neighbours | list[Neighbours]:
        """The nearest labels by cosine, exactly.

        Every candidate is compared. Scores are float64 cosines and do not
        depend on how many queries are asked at once; equal scores stand in row
        order; a vector of zeros scores 0 with everything.

        Parameters
        ----------
        query : label, list of labels, or array
            A list, or an array of anything but floats, holds labels; an array
            of floats is one vector (D,) or many (q, D). Everything else, a
            tuple too, is one label.
        n : int
            How many neighbours; fewer come where there are fewer candidates.
        items : label, or list, set or array of labels, optional
            The candidates; by default every label.
        exclude : label, or list, set or array of labels, optional
            Labels to leave out, from every query. A query label is left out of
            its own neighbours anyway; nothing is for a query vector.

        Returns
        -------
        list of (label, float), or a list of such lists
            Best first; one list a query where `query` holds many.

        Raises
        ------
        UnknownLabelError
            A label in `query`, `items` or `exclude` is not in the table.
        InputError
            `n` is not an integer of at least 1, or a query vector has another
            length than D or is not finite.

        Notes
        -----
        Memory beyond the answer: the query vectors, two numbers a candidate,
        and 64 MiB of scores, or one row of them where a row takes more.
        """
        n = integer("n", n, 1)
        targets, own, many = self._targets(query)
        candidates = None if items is None else np.unique(self._rows(_listed(items)))
        found = [
            list(zip((self._labels[row] for row in rows.tolist()), scores.tolist(), strict=True))
            for rows, scores in nearest_rows(
                targets,
                self.vectors,
                n,
                candidates=candidates,
                barred=self._rows([] if exclude is None else _listed(exclude)),
                own=own,
            )
        ]
        return found if many else found[0]

    def most_similar(
        self,
        positive: Label | list[Any] | NDArray[Any] = None,
        negative: Label | list[Any] | NDArray[Any] = None,
        n: int = 10,
    ) -> Neighbours:
        """The labels that lie where some labels are and others are not: analogies.

        They are ranked by their cosine with the mean of the vectors of `positive` and those of
        `negative` times -1, each scaled to length 1 first (Mikolov, Yih and Zweig, "Linguistic
        regularities in continuous space word representations", 2013), as by gensim. None of these
        labels is returned.

        Parameters
        ----------
        positive, negative : label, or list, set or array of labels, optional
            What stands several times in a list counts as often; a tuple is one label.
        n : int
            How many; fewer come where there are fewer labels.

        Returns
        -------
        list of (label, float)
            Best first.

        Raises
        ------
        UnknownLabelError
            A label is not in the table.
        InputError
            There is neither a positive nor a negative label, or `n` is not an integer of at
            least 1.

        Examples
        --------
        >>> embeddings = Embeddings(
        ...     ["tea", "mug", "wine", "glass"], [[1, 1, 0], [1, 0, 1], [0, 2, 0], [0, 1, 1]]
        ... )
        >>> found = embeddings.most_similar(["mug", "wine"], ["tea"], n=1)
        >>> [label for label, score in found]
        ['glass']
        """
        given = [[] if labels is None else _listed(labels) for labels in (positive, negative)]
        rows = [self._rows(labels) for labels in given]
        if not (own := np.concatenate(rows)).size:
            raise InputError("positive and negative are empty; pass at least one label")
        signs = np.repeat([1.0, -1.0], [len(part) for part in rows])
        # In float64, where a vector of float32 can be squared.
        unit = normalize(self.vectors[own].astype(np.float64))
        return self.similar((signs @ unit) / len(own), n, exclude=[self._labels[r] for r in own])

    def save(self, path: str | os.PathLike[str], *, shards: int = 1) -> None:
        """Write a folder that `load` reads back: labels, arrays and metadata.

        Over a folder saved before, this is atomic: until the new files are all
        on disk the old ones load, whatever interrupts it. Of processes that save
        to one folder, each waits for the one before; others may load meanwhile.

        Labels keep their type, in one table too: `int`, `str`, `float`, `bool`,
        `bytes`, `decimal.Decimal`, `uuid.UUID`, those of `datetime` (with zones
        of `datetime` and `zoneinfo`), and tuples of these.

        Parameters
        ----------
        path : path
            A folder that is new, empty, or was saved before.
        shards : int
            Files that the rows are divided among, as evenly as can be: for tables that are to be
            mapped, or ranked by workers, a shard at a time. See `load`.

        Raises
        ------
        InputError
            Nothing has been written: a label is of another type (a set, an
            object) or is not valid Unicode, a value is no longer finite, there are
            more shards than rows, or `path` is a file, or a folder that holds
            something else.
        OSError
            The disk is full, or the like; or another process has been saving to
            the folder for ten minutes (`TimeoutError`). What was saved before
            still loads, and this object is as it was: save it elsewhere.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Embeddings([7, "x"], [[1, 2], [3, 4]]).save(folder)
        ...     Embeddings.load(folder).labels
        [7, 'x']
        """
        shards = integer("shards", shards, 1)
        # Checked again, as training in place may have changed them.
        self.check_finite()
        tensors: dict[str, Any] = {"vectors": self.vectors}
        tensors |= {} if self.context is None else {"context": self.context}
        tensors |= {} if self.counts is None else {"counts": self.counts}
        write_folder(Path(path), self._labels, tensors, _json_copy(self.metadata), shards)

    def check_finite(self) -> None:
        """Look at every value, of a table in parts at one part after the other.

        Raises
        ------
        InputError
            A value is not finite; the message has its row.
        DataError
            A file that rows lie in is missing or damaged; the message names it.
        """
        for name, table in (("vectors", self.vectors), ("context", self.context)):
            if table is not None:
                for _ in PartedTable.of(table).ask(_check_part, name, lambda *limits: limits[0]):
                    pass

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False, client: Any = None) -> Self:
        """Read a folder that `save` wrote, in shards or not.

        Parameters
        ----------
        path : path
            The folder.
        mmap : bool
            Leave the tables on disk, and have the pages of them in memory that are in use. All
            that ranks takes one shard after the other: with shards that fit it, memory is enough
            for tables of any size. Labels and counts are read.
        client : distributed.Client, optional
            Leave them on a disk that its workers see under the same path, and have these rank the
            shards, each as a task. It takes the extra "cluster".

        Returns
        -------
        Embeddings
            Answers are the same, to the bit, from memory, from a disk and from workers. Each shard
            is compared with its checksum when a process first opens it. Who saves to the folder
            again takes the shards away from those that have it open: load it again then.

        Raises
        ------
        DataError
            The folder or one of its files is missing, damaged, truncated, or of
            a version that this library does not know; the message names it.
        InputError
            `client` is no client, or has no workers.
        MissingExtraError
            `client` is given, and distributed is not installed.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Embeddings(["tea", "cup", "saw"], [[1, 0], [1, 1], [0, -1]]).save(folder, shards=2)
        ...     mapped = Embeddings.load(folder, mmap=True)
        ...     print(mapped.vectors)
        ...     print([label for label, score in mapped.similar("tea", n=2)])
        PartedTable(3 x 2 in 2 parts)
        ['cup', 'saw']
        """
        labels, tensors, metadata = load_folder(Path(path), mmap, client)
        if "label_vectors" in tensors:
            raise DataError(
                f"{path}: holds a SupervisedClassifier, whose features and labels are two tables; "
                "load it with SupervisedClassifier.load"
            )
        context, counts = tensors.get("context"), tensors.get("counts")
        try:
            return cls(
                labels, tensors["vectors"], context=context, counts=counts, metadata=metadata
            )
        except InputError as error:
            raise DataError(f"{path}: {error}") from error

    def to_word2vec(
        self,
        path: str | os.PathLike[str],
        *,
        binary: bool = False,
        replace_space: str | None = None,
        vocabulary: str | os.PathLike[str] | None = None,
    ) -> None:
        """Write labels and vectors as a word2vec file, as gensim and others read it.

        A word is ``str(label)``, in UTF-8. Text holds nine significant digits, so
        that float32 comes back exactly. The file appears, or takes the place of
        an older one, only when it is whole.

        Parameters
        ----------
        path : path
            The file; its folder has to exist.
        binary : bool
            The binary format instead of text: smaller, and faster to read.
        replace_space : str, optional
            The format ends a word at white space, so a label with white space in
            it is refused, unless this is given: it takes the place of every white
            space character, as ``"_"`` in ``REGENCY_CAKESTAND_3_TIER``.
        vocabulary : path, optional
            A second file, for the counts: a line ``word count`` each, as the
            original word2vec writes with ``-save-vocab``. gensim reads it as the
            `fvocab` of ``load_word2vec_format``, and invents counts without it.

        Raises
        ------
        InputError
            Nothing has been written: a word is empty, has white space or is not
            valid Unicode, two labels become one word, a value is no longer
            finite, `path` or `vocabulary` is a folder or in none, they are one
            file, or there are no counts for a vocabulary.
        OSError
            The disk is full, or the like: what was there before still is.
        """
        self.check_finite()
        counts = Path(vocabulary) if vocabulary is not None else None
        if counts is not None and self.counts is None:
            raise InputError("vocabulary: there are no counts to write; leave it out")
        if counts is not None and counts.absolute() == Path(path).absolute():
            raise InputError(f"vocabulary: {counts} is the file of the vectors; name another")
        write_word2vec(
            Path(path),
            self._labels,
            self.vectors,
            binary=binary,
            replace_space=replace_space,
            vocabulary=counts,
            counts=self.counts,
        )

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet table with a row for each label: `label`, `vector` and `count`.

        `vector` is a list of fixed size, of float32; `count` is there if there are
        counts. Labels that are all `str`, all `int` of 64 bits, all `date`, or all
        `datetime` without a time zone keep their type; others become text, by
        ``str(label)``. The file appears, or takes the place of an older one, only
        when it is whole. It takes polars (the extra "data").

        Parameters
        ----------
        path : path
            The file; its folder has to exist.

        Raises
        ------
        InputError
            Nothing has been written: two labels become one text, a label is not
            valid Unicode, a value is no longer finite, or `path` is a folder or in
            none.
        MissingExtraError
            polars is not installed.
        OSError
            The disk is full, or the like: what was there before still is.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Embeddings(["tea", "cup"], [[1, 0], [1, 1]]).to_parquet(f"{folder}/items.parquet")
        ...     polars.read_parquet(f"{folder}/items.parquet").row(1)
        ('cup', [1.0, 1.0])
        """
        self.check_finite()
        write_parquet(Path(path), self._labels, PartedTable.of(self.vectors), self.counts)

    def to_npy(self, path: str | os.PathLike[str]) -> Path:
        """Write the vectors as `numpy.load` reads them, and the labels beside them as JSON.

        The labels are a list in row order, in ``items.labels.json`` beside
        ``items.npy``; those that are neither `str` nor `int` become text, by
        ``str(label)``. Both appear, or take the place of older ones, only when both
        are whole.

        Parameters
        ----------
        path : path
            The file of the vectors; its folder has to exist.

        Returns
        -------
        Path
            That of the labels.

        Raises
        ------
        InputError
            Nothing has been written: a value is no longer finite, or `path` is a
            folder or in none.
        OSError
            The disk is full, or the like: what was there before still is.
        """
        self.check_finite()
        return write_npy(Path(path), self._labels, PartedTable.of(self.vectors))

    # ------------------------------------------------------------------ labels

    def _rows(self, labels: list[Any] | NDArray[Any]) -> NDArray[np.intp]:
        listed = _plain_labels(labels)
        try:
            rows = [self._rows_by_label[label] for label in listed]
        except (KeyError, TypeError):
            rows = [self.index(label) for label in listed]  # its error says which label it was
        return np.array(rows, dtype=np.intp)

    def _unknown(self, label: Label) -> UnknownLabelError:
        message = f"label: {show(label)} is not among the {len(self):,} labels"
        label = plain(label)
        if close := self.close_labels(label):
            message += f"; close to it: {', '.join(map(show, close))}"
        elif self._labels and type(label) not in self._kinds:
            if isinstance(label, tuple):
                message += "; a tuple is one label: pass a list for many"
            else:
                first = self._labels[0]
                message += (
                    f"; it is of type {type(label).__name__}, where the first label, "
                    f"{show(first)}, is of type {type(first).__name__}"
                )
        return UnknownLabelError(message)

    def close_labels(self, label: Any) -> list[Any]:
        """Up to three labels that one which is unknown may be a slip of.

        They are written otherwise (in another case, with other zeros before it, as a number), or
        look like it among its neighbours in the alphabet: code that catches the error in a loop
        must not pay for a search of the table.

        Parameters
        ----------
        label : object
            What is no label.

        Returns
        -------
        list of object
            Labels, the likeliest first.
        """
        import difflib

        text = str(label)
        if len(text) > 100:
            return []
        close = [other for other in _spellings(text) if other in self._rows_by_label]
        if isinstance(label, str):
            near = bisect_left(self._alphabet, text.casefold(), key=str.casefold)
            around = self._alphabet[max(0, near - 32) : near + 32]
            folded = {known.casefold(): known for known in around}
            close += [folded[x] for x in difflib.get_close_matches(text.casefold(), folded)]
        return list(dict.fromkeys(close))[:3]

    @functools.cached_property
    def _kinds(self) -> set[type]:
        return set(map(type, self._labels))

    @functools.cached_property
    def _alphabet(self) -> list[str]:
        return sorted((label for label in self._labels if isinstance(label, str)), key=str.casefold)

    # -------------------------------------------------------------- neighbours

    def _targets(self, query: Any) -> tuple[NDArray[np.float32], NDArray[np.intp] | None, bool]:
        """Query vectors (q, D), their own rows if given as labels, and whether they are many."""
        query = on_host(query)
        if not (isinstance(query, np.ndarray) and query.dtype.kind == "f"):
            many = isinstance(query, _MANY)
            own = self._rows(query if many else [query])
            return self.vectors[own], own, many
        if query.ndim not in (1, 2) or query.shape[-1] != self.dimension:
            raise InputError(
                f"query: has shape {query.shape}; pass vectors of shape "
                f"({self.dimension},) or (q, {self.dimension})"
            )
        return _float32("query", np.atleast_2d(query)), None, query.ndim == 2


# ------------------------------------------------------------------ folders


def load_folder(path: Path, mmap: bool, client: Any) -> tuple[list[Any], dict[str, Any], Any]:
    """Return labels, arrays and metadata of a saved folder; its tables in parts if they stay there.

    Raises `DataError` if something is missing, damaged, or of another version.
    """
    if not mmap and client is None:
        return read_folder(path)
    if client is not None and not dask_client(client).nthreads():
        raise InputError("client has no workers; start some")
    saved = open_folder(path)
    tables = {
        name: PartedTable.of_files(
            [Part(shard.num_row, functools.partial(shard.table, name)) for shard in saved.shards],
            dimension,
            client,
        )
        for name, dimension in saved.dimensions().items()
    }
    return saved.labels, {**tables, **saved.rows}, saved.metadata


# ------------------------------------------------------------------ arguments


def _spellings(text: str) -> Iterator[Any]:
    """Other ways to write a label."""
    text = text.strip()
    yield from (text, text.lower(), text.upper(), text.title(), text.capitalize())
    if _WHOLE.fullmatch(text):
        number = int(float(text)) if "." in text else int(text)
        yield number
        # As codes of products are: 00007.
        yield from (str(number).zfill(width) for width in range(1, 21))


def _listed(labels: Any) -> list[Any] | NDArray[Any]:
    if isinstance(labels, np.ndarray):
        return labels
    labels = as_rows("labels", labels)  # of a column
    return list(labels) if isinstance(labels, (list, set)) else [labels]


def _plain_labels(labels: Iterable[Label]) -> list[Any]:
    if isinstance(labels, np.ndarray):
        if labels.ndim != 1:
            raise InputError(f"labels: has shape {labels.shape}; pass one dimension of labels")
        # tolist() gives plain values, save that moments finer than a microsecond become int.
        listed = list(labels) if labels.dtype.kind in "mM" else labels.tolist()
    elif isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise InputError(f"labels: {show(labels)} is not a sequence of labels; pass a list")
    else:
        listed = list(labels)
    return listed if OWN.issuperset(map(type, listed)) else list(map(plain, listed))


def _number(labels: list[Any]) -> dict[Any, int]:
    """The row of each label."""
    rows: dict[Any, int] = {}
    for row, label in enumerate(labels):
        try:
            first = rows.setdefault(label, row)
        except TypeError:
            raise InputError(
                f"labels: {show(label)} in row {row} is a {type(label).__name__}, which cannot be "
                "hashed; use str, int or the like"
            ) from None
        if first != row:
            raise InputError(
                f"labels: {show(labels[first])} in row {first} equals {show(label)} in row {row}; "
                "give each row a label of its own"
            )
    return rows


def _float_table(name: str, table: ArrayLike, labels: list[Any]) -> NDArray[np.float32]:
    if isinstance(table, PartedTable):
        _check_length(name, table, labels)
        # What takes it for an array finds what it needs of one.
        return cast(NDArray[np.float32], table)
    try:
        array = np.asarray(on_host(table))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}; pass a NumPy array") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        raise InputError(
            f"{name}: has shape {array.shape} and dtype {array.dtype}; pass numbers of shape "
            "(n, D), with D at least 1"
        )
    _check_length(name, array, labels)
    return _float32(name, array)


def _check_length(name: str, table: Any, labels: list[Any]) -> None:
    if len(table) != len(labels):
        raise InputError(
            f"{name}: has {len(table):,} rows for {len(labels):,} labels; pass one row a label"
        )


def _float32(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is refused for the infinity it becomes
        return _finite(name, np.ascontiguousarray(array, dtype=np.float32))


def _finite(name: str, array: NDArray[np.float32], first: int = 0) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):
        # Not isfinite(array).all(), which would make a table of booleans.
        finite = array.size == 0 or np.isfinite([array.min(), array.max()]).all()
    if not finite:
        row = first + int(np.isfinite(array).all(axis=1).argmin())
        raise InputError(
            f"{name}: row {row} holds a value that is not finite in float32; drop that row, "
            "or train with a lower learning rate"
        )
    return array


def _check_part(rows: Any, name: str, first: int) -> None:
    _finite(name, on_host(rows), first)


def _count_array(counts: ArrayLike, length: int) -> NDArray[np.int64]:
    given = vector("counts", counts, "iu", "integers")
    array: NDArray[np.int64] = given.astype(np.int64, copy=False)
    if len(array) != length:
        raise InputError(f"counts has {len(array):,} entries for {length:,} labels; pass one each")
    if array.size and array.min() < 0:
        row = int(np.argmin(array))
        raise InputError(f"counts: row {row} is {array[row]}; pass counts of at least 0")
    return array


def _json_copy(value: dict[str, Any], name: str = "metadata") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{name}: {show(value)} is not a dict; pass a dict")
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{name}: {error}; keep to dict, list, str, bool, None and finite numbers"
        ) from error
    return copy

"""Embeddings as files that others read: Parquet, and NumPy's own with the labels beside it."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..checks import import_polars, show
from ..errors import InputError
from .files import replacing
from .labels import check_file, not_unicode, texts

# What Parquet holds as it is; int is tried, as it may be too large.
_KINDS = (str, int, date, datetime)
_LARGEST = 2**63


class Rows(Protocol):
    """A table whose rows come in blocks, as those of a `PartedTable` do."""

    shape: tuple[int, int]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]: ...


def write_parquet(
    path: Path, labels: list[Any], vectors: Rows, counts: NDArray[np.int64] | None
) -> None:
    """Write a table of labels, vectors and counts, in the place of an older one, once it is whole.

    One block of vectors is in memory at a time.

    Raises `InputError`, with nothing written, if two labels become one or `path` is no file in a
    folder, and `OSError` if the disk does not take it.
    """
    polars = import_polars("writing Parquet")
    from polars.io.plugins import register_io_source

    check_file("path", path)
    table: dict[str, Any] = {"label": _plain_column(labels)}
    if counts is not None:
        table["count"] = counts
    text = {} if labels else {"label": polars.String}
    try:
        beside = polars.DataFrame(table, schema_overrides={"count": polars.Int64} | text)
    except UnicodeEncodeError:
        raise not_unicode(labels) from None
    kind = polars.Array(polars.Float32, vectors.shape[1])
    schema = {"label": beside.schema["label"], "vector": kind, **beside.schema}

    def blocks(*_: Any) -> Iterator[Any]:
        for first, rows in vectors.blocks():
            some = beside.slice(first, len(rows))
            yield some.with_columns(polars.Series("vector", rows, dtype=kind)).select(list(schema))

    with replacing(path) as file:
        try:
            register_io_source(blocks, schema=schema).sink_parquet(file)
        except polars.exceptions.PolarsError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error


def _plain_column(labels: list[Any]) -> list[Any]:
    """Labels of one type that Parquet has, or else the text of each."""
    kinds = set(map(type, labels))
    if len(kinds) <= 1 and kinds <= set(_KINDS):
        if kinds == {datetime}:
            fits = all(label.tzinfo is None for label in labels)
        else:
            fits = kinds != {int} or all(-_LARGEST <= label < _LARGEST for label in labels)
        if fits:
            return labels
    first: dict[str, Any] = {}
    for label, text in zip(labels, texts(labels), strict=True):
        if (other := first.setdefault(text, label)) is not label:
            raise InputError(
                f"labels: {show(other)} and {show(label)} both become the text {show(text)}; "
                "rename one"
            )
    return list(first)


def write_npy(path: Path, labels: list[Any], vectors: Rows) -> Path:
    """Write vectors as NumPy reads them, and labels as JSON beside them; return where these are.

    Raises `InputError`, with nothing written, if `path` is no file in a folder.
    """
    check_file("path", path)
    beside = path.with_suffix(".labels.json")
    check_file("path", beside)
    plain = [
        label if type(label) is int else text
        for label, text in zip(labels, texts(labels), strict=True)
    ]
    with replacing(beside) as file, replacing(path) as table:
        file.write(json.dumps(plain).encode("ascii"))
        header = {"descr": "<f4", "fortran_order": False, "shape": vectors.shape}
        np.lib.format.write_array_header_1_0(table, header)
        for _, rows in vectors.blocks():
            table.write(np.ascontiguousarray(rows, dtype="<f4").data)
    return beside

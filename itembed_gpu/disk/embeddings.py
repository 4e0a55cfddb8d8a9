"""How embeddings are kept on disk: a folder to load again.

A saved folder holds::

    embeddings.json                  what is current: format, version, metadata, its own
                                     checksum, and name, size and checksum of the files below
    labels-000002....json            the labels and their types
    vectors-000002....safetensors    vectors, and context and counts where there are any

How it changes as a whole or not at all, `folders` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DataError
from .files import Tensors, read_tensors, write_tensors
from .folders import Kind
from .labels import decode_labels, encode_labels

KIND = Kind(
    index="embeddings.json",
    format="itembed_gpu.embeddings",
    version=1,
    files={"labels": ".json", "vectors": ".safetensors"},
    what="embeddings",
    cure="save the embeddings again",
    checksum="sha256",
)


def write_folder(
    folder: Path, labels: list[Any], tensors: Tensors, metadata: dict[str, Any]
) -> None:
    """Save to a folder, in the place of what was saved there before, if anything was.

    Raises `InputError`, with nothing written, if the labels cannot be saved or
    the folder is not for saving to.
    """
    encoded = encode_labels(labels)
    KIND.write(
        folder,
        {
            "labels": lambda path: path.write_bytes(encoded),
            "vectors": lambda path: write_tensors(path, tensors),
        },
        {"metadata": metadata},
    )


def read_folder(folder: Path) -> tuple[list[Any], Tensors, Any]:
    """Return the labels, the arrays ("vectors" among them) and the metadata of a saved folder.

    Raises `DataError` if something is missing, damaged, or of another version.
    """

    def read(index: dict[str, Any]) -> tuple[list[Any], Tensors, Any]:
        labels = decode_labels(KIND.verified(folder, index, "labels"))
        path = KIND.verified(folder, index, "vectors")
        tensors = read_tensors(path, KIND.cure)
        if "vectors" not in tensors:
            raise DataError(f"{path}: cannot be read (it holds no vectors); {KIND.cure}")
        return labels, tensors, index.get("metadata")

    return KIND.settled(folder, read)

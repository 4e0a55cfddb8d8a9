"""`verify`: whether a saved folder, of whatever kind, is as it was saved."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..data.itemsets import PackedItemsets
from ..disk import embeddings as embeddings_on_disk, itemsets as itemsets_on_disk
from ..disk.folders import Kind
from ..errors import DataError, InputError
from ..training import checkpoints
from .classifier import SupervisedClassifier
from .embeddings import Embeddings
from .item2vec import Item2Vec

_KINDS = (embeddings_on_disk.KIND, itemsets_on_disk.KIND, checkpoints.KIND)
_ESTIMATORS = {cls.__name__: cls for cls in (Item2Vec, SupervisedClassifier)}


@dataclass(frozen=True)
class Verified:
    """What a folder holds, once all of it was compared.

    Attributes
    ----------
    kind : str
        "Embeddings", "Item2Vec", "SupervisedClassifier", "PackedItemsets" or "checkpoint".
    content : str
        How much that is, in words.
    files : dict of int by str
        Size in bytes of each file that was compared with its checksum, by its name.
    """

    kind: str
    content: str
    files: dict[str, int]

    def __str__(self) -> str:
        """Say it in one line."""
        checked = self.files.keys() & {kind.index for kind in _KINDS}
        old = " (the index is of an earlier version, which has no checksum)"
        return (
            f"{self.kind}, {self.content}; {len(self.files)} files of "
            f"{sum(self.files.values()):,} bytes, as they were saved"
            f"{'' if checked else old}"
        )


def verify(path: str | os.PathLike[str]) -> Verified:
    """Compare all of a saved folder with its checksums, and load it.

    It may hold embeddings, an `Item2Vec`, a `SupervisedClassifier`, packed itemsets or a
    checkpoint. Compared are the index with its checksum (which folders of version 0.1.0 do not
    have), the size and the checksums of each file, and what is in them: types, shapes and bounds.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    Verified
        What it holds.

    Raises
    ------
    DataError
        Something is missing, was altered, or does not go together; the message names the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Embeddings(["tea", "cup"], [[1, 2], [3, 4]]).save(folder)
    ...     print(verify(folder).content)
    2 labels x 2
    """
    folder = Path(path)
    found = [kind for kind in _KINDS if (folder / kind.index).exists()]
    if not found:
        names = ", ".join(kind.index for kind in _KINDS)
        raise DataError(f"{folder}: holds none of {names}; name a folder that was saved")
    (kind,) = found[:1]
    if kind is checkpoints.KIND:
        name, content = "checkpoint", checkpoints.verify_checkpoint(folder)
    elif kind is itemsets_on_disk.KIND:
        name, content = "PackedItemsets", _verify_itemsets(folder)
    else:
        name, content = _verify_model(folder)
    return Verified(name, content, _sizes(kind, folder))


def _sizes(kind: Kind, folder: Path) -> dict[str, int]:
    index = kind.read_index(folder)
    files = {record["name"]: record["size"] for record in index["files"].values()}
    if "checksum" not in index:
        return files
    return {kind.index: (folder / kind.index).stat().st_size, **files}


def _verify_itemsets(folder: Path) -> str:
    packed = PackedItemsets.load(folder)
    packed.verify()
    return (
        f"{packed.num_item:,} occurrences of {packed.num_label:,} labels in "
        f"{packed.num_itemset:,} itemsets"
    )


def _verify_model(folder: Path) -> tuple[str, str]:
    metadata = embeddings_on_disk.KIND.read_index(folder).get("metadata")
    name = metadata.get("estimator") if isinstance(metadata, dict) else None
    # Those in shards may be larger than memory.
    mmap = embeddings_on_disk.is_sharded(folder)
    if not isinstance(name, str) or name not in _ESTIMATORS:
        embeddings = Embeddings.load(folder, mmap=mmap)
        if mmap:
            _check_tables(folder, embeddings)
        return "Embeddings", f"{len(embeddings):,} labels x {embeddings.dimension}"
    model = _ESTIMATORS[name].load(folder, mmap=mmap)
    if isinstance(model, SupervisedClassifier):
        features = model.feature_embeddings_
        content = f"{len(features):,} features and {len(model.labels_):,} labels"
        return name, f"{content} x {features.dimension}"
    if mmap:
        _check_tables(folder, model.embeddings_)
    return name, f"{len(model.labels_):,} labels x {model.embeddings_.dimension}"


def _check_tables(folder: Path, embeddings: Embeddings) -> None:
    """Look at tables that only were mapped: with their checksums, as each shard is opened."""
    try:
        embeddings.check_finite()
    except InputError as error:
        raise DataError(f"{folder}: {error}") from error

"""Options as type checkers and editors see them: written by ``scripts/keywords``."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy.typing as npt


class CellKeywords(TypedDict, total=False):
    """Of `GloveTask`."""

    learning_rate_scale: float
    batch_size: int | None
    chunk_size: int | None
    partitions: int | str
    seed: int | None
    device: Any
    num_threads: int | None


class ListedKeywords(CellKeywords, total=False):
    """Of `ListedTask`."""

    noise_exponent: float
    noise_weights: npt.ArrayLike | None
    subsample: float
    loss: str
    reject_positive: bool
    update_left: bool
    update_right: bool
    l2: float
    positive_weight: float
    max_step: float
    similarity: str
    temperature: float | None
    sum_scale: float
    self_normalization: float
    normalized_share: float
    optimizer: str
    num_negative: int | None
    negative_sharing: int


class TaskKeywords(ListedKeywords, total=False):
    """Of `UnsupervisedTask`, `DocumentTask`, `SupervisedTask` and `itemset_task`."""

    reject_itemset: bool
    dropout: float
    targets: str
    pooling: str
    window: int | None

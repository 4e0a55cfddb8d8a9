"""Options as type checkers and editors see them: written by ``scripts/keywords``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .estimator import Estimator


@dataclass(eq=False, repr=False)
class ModelParameters(Estimator):
    """Of `Item2Vec` and `SupervisedClassifier`."""

    vector_size: int | None = None
    epochs: int | None = None
    negative: int | None = None
    alpha: float | None = None
    min_alpha: float = 0.0
    min_count: int = 1
    sample: float = 0.0
    ns_exponent: float = 0.0
    seed: int | None = None
    device: Any = "auto"
    workers: int | None = None
    callbacks: Iterable[Any] = ()
    _: KW_ONLY
    schedule: str | None = None
    on_interrupt: str = "stop"
    progress: bool = False
    loss: str | None = None
    reject_itemset: bool | None = None
    positive_weight: float = 1.0
    similarity: str | None = None
    temperature: float | None = None
    sum_scale: float | None = None
    self_normalization: float = 0.0
    normalized_share: float = 1.0
    dropout: float | None = None
    optimizer: str | None = None
    pooling: str | None = None
    window: int | None = None
    negative_sharing: int = 1
    batch_size: int | None = None
    chunk_size: int | None = None
    partitions: int | str = 1


@dataclass(eq=False, repr=False)
class Item2VecParameters(ModelParameters):
    """Of `Item2Vec`."""

    _: KW_ONLY
    reject_positive: bool = False
    l2: float = 0.0
    max_step: float = 0.0
    targets: str | None = None
    preset: str = "ranking"
    history_exponent: float | None = None
    fold_in: int = 0
    sharpness: float | None = None
    popularity: float = 0.0


@dataclass(eq=False, repr=False)
class SupervisedClassifierParameters(ModelParameters):
    """Of `SupervisedClassifier`."""

    _: KW_ONLY
    reject_positive: bool | None = None
    l2: float | None = None
    max_step: float | None = None
    targets: str = "all"
    feature_weighting: str | None = None


@dataclass(eq=False, repr=False)
class GloVeParameters(Estimator):
    """Of `GloVe`."""

    vector_size: int = 100
    epochs: int = 25
    alpha: float = 0.05
    _: KW_ONLY
    min_alpha: float | None = None
    schedule: str = "linear"
    min_count: int = 1
    callbacks: Iterable[Any] = ()
    on_interrupt: str = "stop"
    progress: bool = False
    window: int | None = None
    batch_size: int | None = None
    chunk_size: int | None = None
    partitions: int | str = 1
    seed: int | None = None
    device: Any = "auto"
    workers: int | None = None
    x_max: float = 100.0
    exponent: float = 0.75
    weighting: str | None = None


@dataclass(eq=False, repr=False)
class Doc2VecParameters(Estimator):
    """Of `Doc2Vec`."""

    vector_size: int = 100
    epochs: int = 10
    negative: int | None = None
    alpha: float = 0.025
    min_alpha: float = 0.0
    min_count: int = 1
    sample: float = 0.0
    ns_exponent: float = 0.75
    seed: int | None = None
    device: Any = "auto"
    workers: int | None = None
    callbacks: Iterable[Any] = ()
    _: KW_ONLY
    schedule: str = "linear"
    on_interrupt: str = "stop"
    progress: bool = False
    loss: str = "negative-sampling"
    reject_positive: bool = False
    reject_itemset: bool = False
    l2: float = 0.0
    positive_weight: float = 1.0
    max_step: float = 0.0
    optimizer: str = "sgd"
    window: int | None = None
    negative_sharing: int = 1
    batch_size: int | None = None
    chunk_size: int | None = None
    dm: int = 1
    dbow_words: bool = False

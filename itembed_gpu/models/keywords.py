"""Options as type checkers and editors see them: written by ``scripts/keywords``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .estimator import Estimator


@dataclass(eq=False, repr=False)
class ModelParameters(Estimator):
    """Of every estimator."""

    vector_size: int = 100
    epochs: int = 10
    negative: int | None = None
    alpha: float = 0.025
    min_alpha: float = 0.0
    min_count: int = 1
    sample: float = 0.0
    ns_exponent: float = 0.0
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
    positive_weight: float = 1.0
    max_step: float = 0.0
    similarity: str = "dot"
    temperature: float | None = None
    sum_scale: float = 1.0
    dropout: float = 0.0
    targets: str = "all"
    optimizer: str = "sgd"
    pooling: str = "pairs"
    negative_sharing: int = 1
    batch_size: int | None = None
    chunk_size: int | None = None


@dataclass(eq=False, repr=False)
class Item2VecParameters(ModelParameters):
    """Of `Item2Vec`."""

    _: KW_ONLY
    l2: float = 0.0
    history_exponent: float | None = None
    fold_in: int = 0
    popularity: float = 0.0


@dataclass(eq=False, repr=False)
class SupervisedClassifierParameters(ModelParameters):
    """Of `SupervisedClassifier`."""

    epochs: int = 25
    negative: int | None = 10
    alpha: float = 0.5
    _: KW_ONLY
    reject_positive: bool = True
    l2: float | None = None
    max_step: float = 4.0
    pooling: str = "mean"
    feature_weighting: str = "idf"

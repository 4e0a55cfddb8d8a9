"""`SupervisedClassifier`: labels from bags of features, in one object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int64Array
from ..data.itemsets import PackedItemsets
from ..disk.files import Tensors
from ..errors import InputError
from ..metrics import precision
from ..objective.arrays import noise_weights
from ..objective.options import DENSE_LOSSES, ESTIMATOR, Options, takes_options
from ..ranking.priors import log_shares, rank
from ..ranking.top_n import pool_rows
from ..ranking.vectors import CHUNK, unit_rows
from ..sets import distinct_items
from ..training.tables import to_host
from ..training.tasks import SupervisedTask
from .defaults import CHOSEN_OF_CLASSIFIER, Shape, choose_for_classifier
from .embeddings import Embeddings
from .estimator import Checkpoint, float_row, shape_of
from .keywords import SupervisedClassifierParameters
from .known import (
    ObjectArray,
    all_rows,
    as_labels,
    as_packed,
    labels_at,
    no_embeddings,
    only_known,
    with_new_labels,
)
from .options import (
    DOCS,
    DOCS_OF_CLASSIFIER,
    POSITIONAL,
    ClassifierOptions,
    ModelOptions,
)
from .scikit_learn import setter_of_requests

Weights = Iterable[Iterable[float]]


@takes_options(
    ESTIMATOR,
    ModelOptions,
    Options,
    ClassifierOptions,
    defaults={"device": "auto"},
    docs=DOCS | DOCS_OF_CLASSIFIER,
    positional=POSITIONAL,
    chosen=CHOSEN_OF_CLASSIFIER,
)
class SupervisedClassifier(SupervisedClassifierParameters):
    """Labels from features: bags of words and tags, baskets and customers.

    The vector of an example is the weighted mean of the rows of its features; labels are
    ranked by its dot product with their rows, or by the cosine. Features and labels are itemsets in
    any of the forms that `Item2Vec` takes, the n-th of the one with the n-th of the other, and an
    example may have any number of both; labels may also be one string or number for each example,
    as scikit-learn's y. Bigrams and the like are features of your own making.

    Parameters that are None are chosen from the data and from those that are given, by the rules
    of `models.defaults`, logged in a line, and kept in `chosen_`.

    Parameters
    ----------
    {options}

    Attributes
    ----------
    feature_embeddings_, label_embeddings_ : Embeddings
        Rows of the features and of the labels, the most frequent first, with `counts`.
    feature_weights_ : float32, num_feature
        Weight of each feature.
    labels_ : list of object
        The labels, the most frequent first.
    history_ : History
        Of the training.
    dropped_features_, dropped_labels_ : Dropped
        What of the features and of the labels was left out. Examples that have none left
        of either are dropped, as masked.
    seed_ : int
        The seed given, or the one drawn.
    chosen_ : dict by str
        Values of the parameters that are None, as chosen in training.
    unknown_ : Unknown
        What features were unknown in the last prediction.

    Examples
    --------
    >>> features = [["red", "round"], ["red", "sweet"], ["yellow", "long"], ["yellow", "soft"]]
    >>> labels = [["apple"], ["apple"], ["banana"], ["banana"]]
    >>> model = SupervisedClassifier(seed=1).fit(features, labels)
    >>> model.predict([["red", "soft", "round"]])
    array(['apple'], dtype=object)
    """

    feature_embeddings_: Embeddings
    label_embeddings_: Embeddings

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "label_embeddings_")

    @property
    def labels_(self) -> list[Any]:
        """The labels, the most frequent first."""
        return self.label_embeddings_.labels

    # ---------------------------------------------------------------- training

    def fit(
        self,
        features: Any,
        labels: Any,
        *,
        weights: Weights | None = None,
        checkpoint: Checkpoint = None,
        checkpoint_every: int = 1,
        resume: bool = False,
        client: Any = None,
        cluster_folder: Checkpoint = None,
    ) -> Self:
        """Learn labels from features, and forget what was learned before.

        If it fails, what was learned before is still there.

        Parameters
        ----------
        features, labels : itemsets
            Features and labels of each example; a label that is no collection, such as a string, is
            the only one of its example. Examples without either are dropped, and counted.
        weights : iterable of iterable of float, optional
            Weight of each feature.
        checkpoint, checkpoint_every, resume : optional
            As for `train`: a folder of checkpoints, epochs from one to the next, and whether
            to go on from what is there. A seed that was drawn is taken from there as well.
            With one, labels that could not be saved are an error before the first epoch,
            and without a `UserWarning`.
        client, cluster_folder : optional
            As for `train`: a client of a Dask cluster, whose workers train in `partitions`, and a
            folder that they share.

        Returns
        -------
        SupervisedClassifier
            This object.

        Raises
        ------
        InputError
            An argument or a parameter cannot be used, there are not as many of both, or
            no example is left.
        DivergenceError
            Training left the finite numbers.
        DeviceError
            The device cannot be had, or failed.
        """
        self._check_parameters()
        seed = self._first_seed(checkpoint, resume)
        # Masked before they are numbered: what is only in examples left out gets no row.
        left, right = _both(as_packed("features", features, weights), as_labels("labels", labels))
        none = no_embeddings(1)
        left = with_new_labels(left, none, self._value("min_count"), min_length=0)[2]
        left, right = _both(left, right)
        right = with_new_labels(right, none, 1, min_length=0)[2]
        chooser = self._choose(shape_of(left, right.num_label))
        shares = chooser._weights(left)
        dim = chooser._value("vector_size")
        sizes = left.num_label, right.num_label
        seen = {"checkpoint": checkpoint, "client": client}
        tables = chooser._new_tables(sizes, dim, seed, seen)
        # Made before training, as they may refuse the labels; they get the tables after that.
        embeddings = [
            Embeddings(side.labels, np.zeros((size, 1), np.float32), counts=side.counts)
            for side, size in zip((left, right), sizes, strict=True)
        ]
        self._check_savable(left.labels + right.labels, checkpoint)
        task = SupervisedTask(
            left.indices,
            left.offsets,
            right.indices,
            right.offsets,
            *tables,
            left_weights=_times(shares[left.indices], left.weights),
            right_weights=right.weights,
            **chooser._options_of_labels(right, seed),
        )
        chooser._tell_choice()
        self.history_ = chooser._train(
            task,
            chooser._value("epochs"),
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
            client=client,
            cluster_folder=cluster_folder,
        )
        for one, table in zip(embeddings, tables, strict=True):
            one.vectors = to_host(table)
        self.feature_embeddings_, self.label_embeddings_ = embeddings
        self.feature_weights_ = shares
        self.dropped_features_, self.dropped_labels_ = left.dropped, right.dropped
        self.seed_, self.chosen_ = seed, chooser.chosen_
        return self

    def _best(self, given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        return choose_for_classifier(given, shape)

    def _options_of_labels(self, labels: PackedItemsets, seed: int) -> dict[str, Any]:
        """Return the options of a task with these labels.

        More negatives than there are other labels would be the same ones again, and make a
        mistake count several times.
        """
        options = self._task_options(labels.counts, seed)
        if labels.num_label == 1:
            checks.warn(
                f"labels: all are {checks.show(labels.labels[0])}, so that every prediction is"
            )
            # There is no other one to compare with.
            options |= {"reject_positive": False, "reject_itemset": False}
        if options["loss"] not in DENSE_LOSSES:
            options["num_negative"] = min(options["num_negative"], max(1, labels.num_label - 1))
        return options

    def _weights(self, packed: PackedItemsets) -> Float32Array:
        """Return the weight of each feature."""
        if self._value("feature_weighting") == "none":
            return np.ones(packed.num_label, dtype=np.float32)
        items, _ = distinct_items(packed.indices, packed.offsets)
        examples = np.bincount(items, minlength=packed.num_label)
        weights = np.log(packed.num_itemset / np.maximum(examples, 1))
        mean = weights[packed.indices].mean()
        if mean == 0:
            checks.warn(
                "features: every one is in every example that has a label, so that all weigh "
                "alike, and nothing tells labels apart"
            )
            return np.ones(packed.num_label, dtype=np.float32)
        shares: Float32Array = (weights / mean).astype(np.float32)
        return shares

    # ------------------------------------------------------------- predictions

    def predict(
        self, features: Any, n: int = 1, *, weights: Weights | None = None
    ) -> npt.NDArray[Any]:
        """Return the best labels of each example.

        Parameters
        ----------
        features : itemsets
            Features of each example, see `predict_scores`.
        n : int, optional
            How many labels.
        weights : iterable of iterable of float, optional
            Weight of each feature.

        Returns
        -------
        object (q,) or (q, n)
            The best label of each example; for n above 1 a row each, best first, padded
            with None where there are no more labels. If all labels are integers (floats,
            booleans), the best ones are an array of that type, as scikit-learn's metrics
            ask of classes.

        Raises
        ------
        InputError
            An argument cannot be used, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.
        """
        labels, _ = self.predict_scores(features, n, weights=weights)
        if n != 1:
            return labels
        kinds = set(map(type, self.labels_))
        numbers = len(kinds) == 1 and kinds <= {int, float, bool}
        return np.array(labels[:, 0].tolist()) if numbers and len(labels) else labels[:, 0]

    def predict_scores(
        self,
        features: Any,
        n: int = 5,
        *,
        probabilities: bool = False,
        weights: Weights | None = None,
    ) -> tuple[ObjectArray, Float32Array]:
        """Return the best labels of each example, and their scores.

        The score of label y is ``v . row[y]``, with the vector v of the example; of a softmax, that
        or the cosine, over the temperature, as it was trained. With negative sampling and an
        `ns_exponent` other than 0, log Q(y) is added, Q the noise: dot products then estimate
        log P(y | features) - log Q(y) and a constant (Levy and Goldberg, 2014), so that scores rank
        labels by their probability.

        Features that are unknown are left out; `unknown_` counts them, and a warning is
        logged. An example without a known feature (or with weights of 0 alone) gets the
        most frequent labels, and the logarithms of their shares as scores.

        Parameters
        ----------
        features : itemsets
            Features of each example.
        n : int, optional
            How many labels.
        probabilities : bool, optional
            Whether to return the softmax of the scores over all labels instead: an
            estimate for one label drawn from those of the example. That ranks all labels
            once more, and takes memory for some million scores at a time.
        weights : iterable of iterable of float, optional
            Weight of each feature.

        Returns
        -------
        labels : object (q, n)
            Best first; None where there are no more labels.
        scores : float32 (q, n)
            -inf, or a probability of 0, where the label is None.

        Raises
        ------
        InputError
            An argument cannot be used, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.
        """
        rows, scores = self._ranked(features, n, weights, probabilities)
        return labels_at(self.labels_, rows), scores

    def score(self, features: Any, labels: Any, k: int = 1) -> float:
        """Return P@k: the share of true labels among the first k that are predicted.

        Labels that are unknown to the model count as missed. Examples without any label
        are left out.

        Parameters
        ----------
        features, labels : itemsets
            Features and labels of each example, as for `fit`.
        k : int, optional
            How many predicted labels to look at.

        Returns
        -------
        float
            Mean over the examples, from 0 to 1; higher is better. See
            `metrics.precision`.

        Raises
        ------
        InputError
            An argument cannot be used, no example has a label, or the model is not
            fitted.
        """
        rows, _ = self._ranked(features, k, None, False)
        truth = as_labels("labels", labels)
        if truth.num_itemset != len(rows):
            raise _unequal(len(rows), truth.num_itemset)
        if not truth.num_item:
            raise InputError("labels: no example has one; pass some")
        # Unknown labels are rows that no prediction has.
        relevant = distinct_items(all_rows(truth, self.label_embeddings_, {}), truth.offsets)
        return float(np.nanmean(precision(rows, relevant, k)))

    def _ranked(
        self, features: Any, n: int, weights: Weights | None, probabilities: bool
    ) -> tuple[Int64Array, Float32Array]:
        """Return rows of labels, best first, and their scores or probabilities."""
        self._check_fitted()
        known = only_known(as_packed("features", features, weights), self.feature_embeddings_)
        self._count_unknown(known.unknown)
        shares = _times(self.feature_weights_[known.rows], known.weights)
        told = np.bincount(known.owners, np.abs(shares), minlength=len(known)) > 0
        queries = pool_rows(
            self._place(self.feature_embeddings_.vectors),
            known.rows,
            known.offsets,
            shares,
            num_threads=self.workers,
        )
        queries, table = self._as_trained(queries)
        bias = self._bias()
        rows, scores = rank(
            queries, table, n, told, log_shares(self._counts()), bias=bias, num_threads=self.workers
        )
        if probabilities:
            # The priors of examples that nothing is told of are normalised already.
            totals = np.where(told, self._log_totals(queries, table, bias), 0.0)
            # Scores are exact, and totals rounded: a share may come out above 1.
            scores = np.minimum(np.exp(scores - totals[:, None]), 1.0).astype(np.float32)
        return rows, scores

    def _as_trained(self, queries: Any) -> tuple[Any, Any]:
        """Return vectors and a table whose dot products are scores, where the device is."""
        table = self.label_embeddings_.vectors
        if self._value("loss") in DENSE_LOSSES:
            if self._value("similarity") == "cosine":
                queries, table = self._place(unit_rows(checks.on_host(queries))), unit_rows(table)
            queries = queries / np.float32(self._scale())
        return queries, self._place(table)

    def _counts(self) -> Int64Array:
        return cast(Int64Array, self.label_embeddings_.counts)

    def _bias(self) -> Float32Array | None:
        """Return log Q of each label, where dot products lack it."""
        noise = noise_weights(self._counts(), self.ns_exponent, None)
        if noise is None or self._value("loss") != "negative-sampling":
            return None
        bias: Float32Array = np.log(noise / noise.sum()).astype(np.float32)
        return bias

    def _log_totals(self, queries: Any, table: Any, bias: Float32Array | None) -> npt.NDArray[Any]:
        """Return log(sum(exp(score))) over all labels, for each query; some queries at a time."""
        row = None if bias is None else self._place(bias[None])
        totals = [np.zeros(0, dtype=np.float32)]
        step = max(1, CHUNK // len(table))
        for start in range(0, len(queries), step):
            scores = queries[start : start + step] @ table.T
            if row is not None:
                scores += row
            largest = scores.max(axis=1, keepdims=True)
            sums = np.exp(scores - largest).sum(axis=1)
            totals.append(checks.on_host(largest[:, 0] + np.log(sums)))
        return np.concatenate(totals)

    # Of scikit-learn.
    set_fit_request = setter_of_requests("fit")
    set_predict_request = setter_of_requests("predict")
    set_score_request = setter_of_requests("score")

    # --------------------------------------------------------------- to a disk

    def _state(self) -> tuple[list[Any], Tensors, dict[str, Any]]:
        sides = {"": self.feature_embeddings_, "label_": self.label_embeddings_}
        tensors: Tensors = {"feature_weights": self.feature_weights_}
        for prefix, side in sides.items():
            tensors[f"{prefix}vectors"] = side.vectors
            tensors[f"{prefix}counts"] = cast(Int64Array, side.counts)
        # One list holds both, the features first.
        labels = self.feature_embeddings_.labels + self.labels_
        state = {"seed": self.seed_, "num_feature": len(self.feature_weights_)}
        return labels, tensors, state | {"chosen": dict(self.chosen_)}

    def _restore(self, labels: list[Any], tensors: Tensors, state: dict[str, Any]) -> None:
        num_feature = int(state["num_feature"])
        self.feature_embeddings_ = Embeddings(
            labels[:num_feature], tensors["vectors"], counts=tensors["counts"]
        )
        self.label_embeddings_ = Embeddings(
            labels[num_feature:], tensors["label_vectors"], counts=tensors["label_counts"]
        )
        self.feature_weights_ = float_row(
            "feature_weights", tensors["feature_weights"], num_feature
        )
        self.seed_ = int(state["seed"])
        self.chosen_ = dict(state.get("chosen", {}))


def _both(left: PackedItemsets, right: PackedItemsets) -> tuple[PackedItemsets, PackedItemsets]:
    """Keep the examples that have features and labels."""
    if left.num_itemset != right.num_itemset:
        raise _unequal(left.num_itemset, right.num_itemset)
    mask = (np.diff(left.offsets) > 0) & (np.diff(right.offsets) > 0)
    if not mask.any():
        raise InputError(
            f"features and labels: no example has both (features: {left.dropped}; "
            f"labels: {right.dropped}); pass some, or a lower min_count"
        )
    return left.prune(mask=mask), right.prune(mask=mask)


def _unequal(num_feature: int, num_label: int) -> InputError:
    return InputError(
        f"features has {num_feature} itemsets and labels {num_label}; pass as many of both"
    )


def _times(weights: Float32Array, given: Float32Array | None) -> Float32Array:
    return weights if given is None else weights * given

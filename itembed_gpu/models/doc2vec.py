"""`Doc2Vec`: vectors of itemsets beside those of their items, also of itemsets never seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int64Array
from ..disk.files import Tensors
from ..disk.labels import encode_labels, parse_labels
from ..errors import DataError, InputError
from ..objective.options import ESTIMATOR, Options, takes_options
from ..ranking.priors import log_shares, rank
from ..ranking.top_n import pool_rows
from ..sets import keep_items
from ..training.tasks import CompoundTask, DocumentTask, Task, UnsupervisedTask, itemset_task
from .defaults import Shape
from .embeddings import Embeddings, Neighbours
from .estimator import SEED_OF_RIGHT, Checkpoint, shape_of
from .items import ItemModel, Weights
from .keywords import Doc2VecParameters
from .known import KnownItemsets, ObjectArray, as_packed, no_embeddings, with_new_labels
from .options import (
    DEFAULTS_OF_DOC2VEC,
    DOCS,
    DOCS_OF_DOC2VEC,
    NOT_OF_DOC2VEC,
    POSITIONAL,
    Doc2VecOptions,
    ModelOptions,
)
from .scikit_learn import setter_of_requests

# How the vectors of unseen itemsets are found: alone, by all of their items.
INFERRING = {"update_right": False, "max_step": 0.0, "subsample": 0.0, "chunk_size": None}


@takes_options(
    ESTIMATOR,
    ModelOptions,
    Options,
    Doc2VecOptions,
    defaults={"device": "auto"} | DEFAULTS_OF_DOC2VEC,
    docs=DOCS | DOCS_OF_DOC2VEC,
    positional=POSITIONAL,
    without=NOT_OF_DOC2VEC,
)
class Doc2Vec(Doc2VecParameters, ItemModel):
    """Vectors of itemsets and of their items: fit, neighbours of both, and unseen itemsets.

    Itemsets are what gensim's `Doc2Vec` calls documents: baskets, users, sessions, or texts. Names
    of parameters are those of that class. With ``dm=1`` a `DocumentTask` trains (PV-DM of Le and
    Mikolov, "Distributed representations of sentences and documents", ICML 2014), with ``dm=0``
    `itemset_task` (PV-DBOW).

    Parameters
    ----------
    {options}

    Attributes
    ----------
    embeddings_ : Embeddings
        Labels of the items, `vectors` (syn0), `context` (syn1) and `counts`; the most frequent
        first. With ``dm=0`` items have rows of syn1 alone, which are both, unless `dbow_words`.
    itemset_embeddings_ : Embeddings
        A row for each itemset of `fit`, in their order, under its key. One without a known item
        has zeros.
    labels_ : list of object
        Label of each row of `embeddings_`.
    neighbour_embeddings_ : Embeddings
        Labels, and the rows whose cosines tell which items are alike, as `similar_items` does:
        those of syn1, and of syn0 with `dbow_words`.
    history_ : History
        Of the last training.
    dropped_ : Dropped
        What of the itemsets of the last training was left out, and why.
    seed_ : int
        The seed given, or the one drawn.
    unknown_ : Unknown
        What was unknown in the last `transform` or `recommend`.

    Examples
    --------
    >>> baskets = load_example()
    >>> model = Doc2Vec(vector_size=64, min_count=5, epochs=2, seed=1).fit(baskets)
    >>> model.itemset_embeddings_.vectors.shape == (len(baskets), 64)
    True
    >>> len(model.similar_itemsets(0, n=3))
    3
    >>> model.infer_vector(["REGENCY CAKESTAND 3 TIER"]).shape
    (64,)
    >>> labels, scores = model.recommend(["REGENCY CAKESTAND 3 TIER"], n=3)
    """

    _ranks_parts = False  # itemsets have rows too

    itemset_embeddings_: Embeddings

    def _best(self, given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        return {}

    @property
    def _neighbour_rows(self) -> Float32Array:
        vectors = self.embeddings_.vectors
        return vectors if self._by_words else cast(Float32Array, self.embeddings_.context)

    @property
    def _by_words(self) -> bool:
        """Whether items are trained beside itemsets, by themselves."""
        return not self._value("dm") and self._value("dbow_words")

    # ---------------------------------------------------------------- training

    def fit(
        self,
        itemsets: Any,
        y: Any = None,
        *,
        keys: Iterable[Any] | None = None,
        weights: Weights | None = None,
        checkpoint: Checkpoint = None,
        checkpoint_every: int = 1,
        resume: bool = False,
    ) -> Self:
        """Learn from itemsets, and forget what was learned before.

        If it fails, what was learned before is still there.

        Parameters
        ----------
        itemsets : itemsets
            Labels of each itemset, in any form that `Item2Vec.fit` takes. Rare items are left out;
            an itemset without any other one has a vector of zeros. `dropped_` has the account.
        y : object, optional
            Ignored; scikit-learn passes it.
        keys : iterable of hashable, optional
            What each itemset is called in `itemset_embeddings_`, all different: gensim's tags. By
            default their numbers, from 0.
        weights : iterable of iterable of float, optional
            Weight of each item.
        checkpoint, checkpoint_every, resume : optional
            As for `Item2Vec.fit`.

        Returns
        -------
        Doc2Vec
            This object.

        Raises
        ------
        InputError
            An argument or a parameter cannot be used, or no item is left.
        DivergenceError
            Training left the finite numbers.
        DeviceError
            The device cannot be had, or failed.
        """
        seed = self._first_seed(checkpoint, resume)
        self._check_parameters()
        given = as_packed("itemsets", itemsets, weights)
        # Itemsets without items stay, so that each has its row.
        labels, counts, packed = with_new_labels(
            given, no_embeddings(1), self._value("min_count"), min_length=0
        )
        if not len(packed.indices):
            raise InputError(
                f"itemsets: there is no item to learn from ({packed.dropped}); "
                "pass others, or a lower min_count"
            )
        self._choose(shape_of(packed))  # which finds out whether parameters can be used
        names = _keys(keys, packed.num_itemset)
        dim = self._value("vector_size")
        syn1 = self._new_rows(len(labels), dim, seed, 1)
        is_left = self._value("dm") or self._by_words
        syn0 = self._new_rows(len(labels), dim, seed, 0) if is_left else syn1
        # Made before training, as they may refuse the labels; they do not copy the tables.
        embeddings = Embeddings(labels, syn0, context=syn1, counts=counts)
        rows = self._new_rows(packed.num_itemset, dim, (seed + SEED_OF_RIGHT) % (1 << 64), 0)
        itemset_embeddings = Embeddings(names, rows)
        self._check_savable(labels, checkpoint)
        self._check_savable(itemset_embeddings.labels, checkpoint)
        used = np.diff(packed.offsets) > 0
        own = rows if used.all() else rows[used]
        task = self._task(
            packed.indices,
            _without_empty(packed.offsets),
            (syn0, own, syn1),
            packed.weights,
            self._task_options(counts, seed),
        )
        self.history_ = self._train(
            task,
            self._value("epochs"),
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
        if own is not rows:
            rows[used], rows[~used] = own, 0
        self.embeddings_, self.itemset_embeddings_ = embeddings, itemset_embeddings
        self.dropped_, self.seed_ = packed.dropped, seed
        return self

    def _task(
        self,
        items: Any,
        offsets: Any,
        tables: tuple[Float32Array, Float32Array, Float32Array],
        weights: Any,
        options: dict[str, Any],
    ) -> Task:
        """Return what trains rows of items, of itemsets, and of items that are predicted."""
        syn0, own, syn1 = tables
        if self._value("dm"):
            return DocumentTask(items, offsets, syn0, own, syn1, weights=weights, **options)
        of_itemsets = {name: value for name, value in options.items() if name != "window"}
        by_itemsets = itemset_task(items, offsets, own, syn1, weights=weights, **of_itemsets)
        lengths = np.diff(offsets)
        if not self._by_words or "update_right" in options or lengths.max() < 2:
            return by_itemsets
        # An item that is alone has none to go with.
        kept = np.repeat(lengths > 1, lengths)
        pairs, bounds = keep_items(items, offsets, kept)
        some = None if weights is None else weights[kept]
        by_items = UnsupervisedTask(
            pairs, _without_empty(bounds), syn0, syn1, weights=some, **options
        )
        return CompoundTask(by_itemsets, by_items)

    # ------------------------------------------------------ vectors of itemsets

    def transform(
        self, itemsets: Any, *, weights: Weights | None = None, epochs: int | None = None
    ) -> Float32Array:
        """Return a vector for each itemset, also one never seen.

        It begins with zeros, and is trained on its items as those of `fit` are, with the learning
        rates and the options of the model, while the items' rows stay as they are. It is the same
        each time. As each itemset draws negatives by its place among them, it depends a little
        on the others that are asked for at once. Items that are unknown are left out; `unknown_`
        counts them. Without a known item, the vector is zeros.

        Parameters
        ----------
        itemsets : itemsets
            Labels of each itemset.
        weights : iterable of iterable of float, optional
            Weight of each item.
        epochs : int, optional
            Passes over the items; by default those of `fit`.

        Returns
        -------
        float32 (num_itemset, vector_size)
            Or a data frame of as many columns, if `set_output` asks for one.

        Raises
        ------
        InputError
            An argument cannot be used, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.
        """
        known = self._known("itemsets", itemsets, weights)
        return cast(Float32Array, self._in_container(self._infer(known, epochs), itemsets))

    def fit_transform(
        self, itemsets: Any, y: Any = None, *, weights: Weights | None = None, **options: Any
    ) -> Float32Array:
        """Learn from itemsets, and return their vectors: `fit`, then `transform`.

        They are found as those of unseen itemsets are, so that what is learned from them fits
        those. The ones that were trained are in `itemset_embeddings_`.

        Parameters
        ----------
        itemsets : itemsets
            As for both of them; what can be read once alone is read once.
        y : object, optional
            Ignored; scikit-learn passes it.
        weights : iterable of iterable of float, optional
            Weight of each item, for both.
        **options
            The other arguments of `fit`.

        Returns
        -------
        float32 (num_itemset, vector_size)
            As of `transform`.

        Raises
        ------
        InputError, DivergenceError, DeviceError
            As of both of them.
        """
        packed = as_packed("itemsets", itemsets, weights)
        self.fit(packed, **options)
        vectors = self._infer(self._known("itemsets", packed), None)
        return cast(Float32Array, self._in_container(vectors, itemsets))

    def infer_vector(self, itemset: Iterable[Any], epochs: int | None = None) -> Float32Array:
        """Return the vector of one itemset, as `transform` finds it.

        Parameters
        ----------
        itemset : iterable of labels
            Its items.
        epochs : int, optional
            As for `transform`.

        Returns
        -------
        float32, vector_size
            Its vector.

        Raises
        ------
        InputError, DeviceError
            As of `transform`.
        """
        if isinstance(itemset, str | bytes):
            raise InputError(f"itemset is {checks.show(itemset)}; pass a list of labels")
        vector: Float32Array = self._infer(self._known("itemset", [list(itemset)]), epochs)[0]
        return vector

    # Of scikit-learn.
    set_fit_request = setter_of_requests("fit")
    set_transform_request = setter_of_requests("transform")

    def _infer(self, known: KnownItemsets, epochs: int | None) -> Float32Array:
        """Train the vectors of itemsets that have items, among rows that stay as they are."""
        vectors = np.zeros((len(known), self.embeddings_.dimension), dtype=np.float32)
        used = known.used
        if used.any():
            options = self._task_options(self.embeddings_.counts, self.seed_) | INFERRING
            if self._value("dm"):
                options["update_left"] = False
            rows = vectors[used]
            tables = self.embeddings_.vectors, rows, cast(Float32Array, self.embeddings_.context)
            task = self._task(
                known.rows, _without_empty(known.offsets), tables, known.weights, options
            )
            self._train(task, self._value("epochs", epochs), quietly=True)
            vectors[used] = rows
        return vectors

    def _queries(self, known: KnownItemsets) -> Float32Array:
        """Return what items are compared with: what was trained to predict one."""
        vectors = self._infer(known, None)
        if not self._value("dm"):
            return vectors
        weights = np.ones(len(known.rows)) if known.weights is None else known.weights
        sizes = np.zeros(len(known))
        np.add.at(sizes, known.owners, np.abs(weights))
        pooled = pool_rows(
            self.embeddings_.vectors, known.rows, known.offsets, weights, num_threads=self.workers
        )
        sums = checks.on_host(pooled) * sizes[:, None]
        queries: Float32Array = ((vectors + sums) / (1 + sizes[:, None])).astype(np.float32)
        return queries

    # ----------------------------------------------------------------- answers

    def similar_itemsets(self, itemset: Any, n: int = 10) -> Neighbours | list[Neighbours]:
        """Return the itemsets that are nearest by the cosine of their vectors, exactly.

        Parameters
        ----------
        itemset : key, list of keys, or array of float
            An itemset of `fit`, or many; or vectors, such as `transform` returns.
        n : int, optional
            How many.

        Returns
        -------
        list of (key, float), or a list of such lists
            As of `Embeddings.similar`: best first, a list for each where many are asked for.

        Raises
        ------
        UnknownLabelError
            There is no such key.
        InputError
            An argument cannot be used, or the model is not fitted.
        """
        self._check_fitted()
        found: Neighbours | list[Neighbours] = self.itemset_embeddings_.similar(itemset, n)
        return found

    def recommend(
        self,
        baskets: Any,
        n: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: Any = None,
        items: Any = None,
    ) -> tuple[ObjectArray, Float32Array]:
        """Return the items that go best with a basket, or with each of many.

        The score of item r is ``u . syn1[r]``, where u is what was trained to predict an item: with
        ``dm=1`` the mean of the basket's vector, which is found as `transform` does, and those of
        its items; with ``dm=0`` that vector alone. A basket without a known item is answered with
        the most frequent items, and the logarithms of their shares of all occurrences as scores.

        Parameters
        ----------
        baskets : list, tuple, set or array of labels, or itemsets
            As for `Item2Vec.recommend`.
        n : int, optional
            How many items.
        filter_already_liked_items : bool, optional
            Whether items of the basket itself are left out.
        filter_items : label, or list, set or array of labels, optional
            Items never returned; unknown ones are none anyway.
        items : label, or list, set or array of labels, optional
            Items that alone may be returned.

        Returns
        -------
        labels : object (n,) or (q, n)
            For one basket, items, best first; fewer where there are no more. For many, a
            row each, padded with None.
        scores : float32 (n,) or (q, n)
            -inf where the label is None.

        Raises
        ------
        UnknownLabelError
            One of `items` is not among the labels.
        InputError
            An argument cannot be used, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.
        """
        self._check_fitted()
        many, baskets = self._one_or_many(baskets)
        known = self._known("baskets", baskets)
        rows, scores = rank(
            self._queries(known),
            self._place(cast(Float32Array, self.embeddings_.context)),
            n,
            known.used,
            log_shares(cast(Int64Array, self.embeddings_.counts)),
            exclude=(known.rows, known.offsets) if filter_already_liked_items else None,
            candidates=self._candidates(items, filter_items),
            num_threads=self.workers,
        )
        return self._answer(rows, scores, many)

    # --------------------------------------------------------------- to a disk

    def _state(self) -> tuple[list[Any], Tensors, dict[str, Any]]:
        keys = encode_labels(self.itemset_embeddings_.labels)
        tensors: Tensors = {
            # Named as `Embeddings` names them, which reads this folder as well.
            "vectors": self.embeddings_.vectors,
            "context": cast(Float32Array, self.embeddings_.context),
            "counts": cast(Int64Array, self.embeddings_.counts),
            "itemset_vectors": self.itemset_embeddings_.vectors,
            "itemset_keys": np.frombuffer(keys, dtype=np.uint8),
        }
        return self.labels_, tensors, {"seed": self.seed_, "chosen": {}}

    def _restore(self, labels: list[Any], tensors: Tensors, state: dict[str, Any]) -> None:
        keys = parse_labels(tensors["itemset_keys"].tobytes(), "itemset_keys")
        if tensors["itemset_vectors"].shape[1] != tensors["vectors"].shape[1]:
            raise DataError("itemset_vectors have another dimension than vectors; save it again")
        self.embeddings_ = Embeddings(
            labels, tensors["vectors"], context=tensors["context"], counts=tensors["counts"]
        )
        self.itemset_embeddings_ = Embeddings(keys, tensors["itemset_vectors"])
        self.seed_ = int(state["seed"])


def _keys(keys: Iterable[Any] | None, num_itemset: int) -> list[Any]:
    """Return what itemsets are called. Raises an `InputError` if there is not one for each."""
    if keys is None:
        return list(range(num_itemset))
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise InputError(f"keys is {checks.show(keys)}; pass a list, a key for each itemset")
    names = list(keys)
    if len(names) != num_itemset:
        raise InputError(
            f"keys has {len(names)} entries for {num_itemset} itemsets; pass one for each"
        )
    return names


def _without_empty(offsets: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the bounds of those itemsets that have items."""
    used = np.append(True, np.diff(offsets) > 0)
    return offsets if used.all() else offsets[used]

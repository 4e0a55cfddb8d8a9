"""`Item2Vec`: packing, training, neighbours and recommendations in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Float64Array, Int64Array
from ..disk.files import Tensors
from ..errors import InputError
from ..metrics import (
    Evaluation,
    Metrics,
    Split,
    asked_metrics,
    evaluate,
    evaluate_rankings,
    leave_last_out,
    longest,
)
from ..objective.options import DENSE_LOSSES, ESTIMATOR, Options, takes_options
from ..ranking.each import rank_each
from ..ranking.parts import PartedTable
from ..ranking.priors import answer_unknown, log_shares, rank
from ..ranking.top_n import pool_rows, rows_at_hand
from ..ranking.vectors import unit_rows
from ..sets import keep_items
from ..training.normalization import log_partition
from ..training.tables import to_host
from ..training.tasks import Accumulators, UnsupervisedTask, itemset_task
from .defaults import CHOSEN_OF_ITEM2VEC, Shape, choose_for_item2vec
from .embeddings import Embeddings
from .estimator import Checkpoint, float_row, shape_of
from .items import ItemModel, Weights
from .keywords import Item2VecParameters
from .known import (
    KnownItemsets,
    ObjectArray,
    Unknown,
    as_packed,
    check_findable,
    given_queries,
    no_embeddings,
    shuffled,
    with_new_labels,
)
from .options import DOCS, DOCS_OF_ITEM2VEC, POSITIONAL, Item2VecOptions, ModelOptions
from .scikit_learn import setter_of_requests
from .tuning import Search, check_arguments, hold_out

# How the vector of an itemset is trained: alone, by all of its items, at once.
FOLDING = {
    "update_right": False,
    "max_step": 0.0,  # of right-hand rows
    "pooling": "pairs",
    "window": None,
    "subsample": 0.0,
    "chunk_size": None,
    "partitions": 1,
}

# A softmax compares the vector with all items once.
FOLDING_DENSE = {"pooling": "mean", "dropout": 0.0, "targets": "all"}


class _Start(NamedTuple):
    """What training goes on from."""

    embeddings: Embeddings
    accumulators: Accumulators | None
    seed: int
    num_fit: int
    chosen: Mapping[str, Any]


@takes_options(
    ESTIMATOR,
    ModelOptions,
    Options,
    Item2VecOptions,
    defaults={"device": "auto"},
    docs=DOCS | DOCS_OF_ITEM2VEC,
    positional=POSITIONAL,
    chosen=CHOSEN_OF_ITEM2VEC,
)
class Item2Vec(Item2VecParameters, ItemModel):
    """Item embeddings from itemsets: fit, neighbours, recommendations, and a folder to keep them.

    Names of parameters are those of gensim's `Word2Vec`, names of methods those of
    implicit and scikit-learn, whose pipelines and searches it fits into.

    Without any argument it ranks well on small and large catalogs, of short and long itemsets:
    parameters that are None are chosen from the data and from those that are given, by the rules
    of `models.defaults`, logged in a line, and kept in `chosen_`.

    Itemsets (baskets, sessions, playlists) are any iterable of iterables of labels, as for
    `pack_itemsets`; a `PackedItemsets`, as from `pack_itemsets` and `read_itemsets`; a
    data frame of a single column of lists, or a column; or a matrix whose rows are the
    itemsets: a sparse one of SciPy, or an array or a data frame of 0 and 1.

    Itemsets whose order tells (sessions, walks on a graph, sentences) are learned from with a
    `window`, as by word2vec: gensim's ``sg=1`` is ``pooling="pairs"``, and its ``sg=0`` (CBOW) is
    ``pooling="mean"``, whose mean is that of ``cbow_mean=1``. The order is that of the lists, or of
    the rows of a long table, which all readers keep; matrices and sets have none, and are refused
    then. `score` and `tune` then look for the last items of itemsets, and else for some at random.
    `recommend` takes all items that it is given alike: for what is next in a session, pass its last
    item alone.

    Parameters
    ----------
    {options}

    Attributes
    ----------
    embeddings_ : Embeddings
        Labels, `vectors` (syn0), `context` (syn1) and `counts`. The rows of a first `fit` are
        the most frequent labels first.
    neighbour_embeddings_ : Embeddings
        Labels, and the rows whose cosines tell which items are alike, as `similar_items` does:
        those of syn1 with ``pooling="mean"``, and of syn0 with "pairs".
    labels_ : list of object
        Label of each row.
    syn0_, syn1_ : float32, (num_label, vector_size)
        Tables of items, and of items as neighbours.
    counts_ : int64, num_label
        Occurrences of each label.
    history_ : History
        Of the last training.
    dropped_ : Dropped
        What of the itemsets of the last training was left out, and why.
    seed_ : int
        The seed given, or the one drawn.
    accumulators_ : pair of float32, num_label, or None
        Those of Adagrad.
    num_fit_ : int
        Calls of `fit` and `partial_fit` that this model is made of.
    history_exponent_ : float
        The exponent in use.
    chosen_ : dict by str
        Values of the parameters that are None, as chosen in the first training.
    trials_ : list of dict
        Those of the last `tune`: what was moved, the metric, and seconds.
    unknown_ : Unknown
        What was unknown in the last `transform`, `recommend`, `score` or `evaluate`.

    Examples
    --------
    >>> model = Item2Vec(vector_size=64, min_count=5, seed=1)
    >>> model = model.fit(load_example())
    >>> labels, scores = model.similar_items("REGENCY CAKESTAND 3 TIER", n=3)
    >>> labels, scores = model.recommend(["REGENCY CAKESTAND 3 TIER"], n=3)
    >>> "REGENCY CAKESTAND 3 TIER" in model, model["REGENCY CAKESTAND 3 TIER"].shape
    (True, (64,))
    """

    trials_: Sequence[dict[str, Any]] = ()

    @property
    def history_exponent_(self) -> float:
        """`history_exponent`, or what suits how the vectors of itemsets are trained."""
        exponent = self.history_exponent
        if exponent is not None:
            return exponent
        return 0.5 if self._value("pooling") == "pairs" else 0.0

    def _best(self, given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        return choose_for_item2vec(given, shape)

    @property
    def syn0_(self) -> Float32Array:
        """Table of the items."""
        return self.embeddings_.vectors

    @property
    def syn1_(self) -> Float32Array:
        """Table of the items as neighbours."""
        return cast(Float32Array, self.embeddings_.context)

    @property
    def _neighbour_rows(self) -> Float32Array:
        return self.syn1_ if self._value("pooling") == "mean" else self.syn0_

    @property
    def counts_(self) -> Int64Array:
        """Occurrences of each label."""
        return cast(Int64Array, self.embeddings_.counts)

    # ---------------------------------------------------------------- training

    def fit(
        self,
        itemsets: Any,
        y: Any = None,
        *,
        weights: Weights | None = None,
        checkpoint: Checkpoint = None,
        checkpoint_every: int = 1,
        resume: bool = False,
        client: Any = None,
        cluster_folder: Checkpoint = None,
    ) -> Self:
        """Learn from itemsets, and forget what was learned before.

        If it fails, what was learned before is still there.

        Parameters
        ----------
        itemsets : itemsets
            Labels of each itemset. Those with fewer than 2 items, after rare labels are
            left out, are dropped; `dropped_` has the account.
        y : object, optional
            Ignored; scikit-learn passes it.
        weights : iterable of iterable of float, optional
            Weight of each item.
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
        Item2Vec
            This object.

        Raises
        ------
        InputError
            An argument or a parameter cannot be used, or no itemset is left.
        DivergenceError
            Training left the finite numbers.
        DeviceError
            The device cannot be had, or failed.
        """
        return self._learn(
            self._nothing(self._first_seed(checkpoint, resume)),
            itemsets,
            weights,
            None,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
            client=client,
            cluster_folder=cluster_folder,
        )

    def partial_fit(
        self,
        itemsets: Any,
        y: Any = None,
        *,
        weights: Weights | None = None,
        epochs: int | None = None,
    ) -> Self:
        """Go on learning from more itemsets.

        Labels that are known keep their rows, and those move on from where they are; new
        labels get rows after them. Counts and the accumulators of Adagrad are carried on.
        The learning rate begins at `alpha` again. Without a `fit` before, this is one. If it
        fails, the model is as before.

        Parameters
        ----------
        itemsets : itemsets
            The new itemsets alone. `min_count` counts in these, and only of new labels.
        y : object, optional
            Ignored.
        weights : iterable of iterable of float, optional
            Weight of each item.
        epochs : int, optional
            Number of passes over them; by default the parameter.

        Returns
        -------
        Item2Vec
            This object.

        Raises
        ------
        InputError
            As of `fit`; or `vector_size` is not that of the model.
        DivergenceError, DeviceError
            As of `fit`.
        """
        is_first = not self.__sklearn_is_fitted__()
        start = self._nothing(self._first_seed(None, False)) if is_first else self._so_far()
        return self._learn(start, itemsets, weights, epochs)

    def tune(
        self,
        itemsets: Any,
        *,
        metric: str = "ndcg@10",
        budget: float = 60.0,
        report: Callable[[str], Any] | None = print,
    ) -> Self:
        """Set parameters to what ranks best on itemsets that are held out, within so many seconds.

        The last tenth of the itemsets, 10,000 at most, is not trained on: a fifth of the items of
        each, one at least, is hidden, and is to be found by the others. The search begins with
        what would be chosen anyway, and moves one parameter at a time for as long as that gains:
        of a softmax `temperature`, `sum_scale`, `epochs`, `dropout`, `reject_itemset` and
        `vector_size`; else `alpha`, `epochs`, `negative` and `vector_size`. Those that are given
        stay as they are. With a `seed`, or without one, two searches of as many trials are the
        same.

        What has been learned stays as it is: call `fit` then. The trials are in `trials_`.

        Parameters
        ----------
        itemsets : itemsets
            As for `fit`.
        metric : str, optional
            Such as "ndcg@10": hit_rate, precision, recall, ndcg, mrr or map, and how many of the
            first items to look at.
        budget : float, optional
            Seconds. The first trial is made in any case; after it, none begins that would not end
            in time, as far as can be told from those before it.
        report : function of str, optional
            Called with a line for each trial; None to be silent.

        Returns
        -------
        Item2Vec
            This object.

        Raises
        ------
        InputError
            An argument or a parameter cannot be used, there are too few itemsets, or the first
            training diverges.
        DeviceError
            The device cannot be had, or failed.

        Examples
        --------
        >>> baskets = load_example()[:100]
        >>> model = Item2Vec(vector_size=8, epochs=1).tune(baskets, budget=1, report=None)
        >>> model = model.fit(baskets)
        >>> sorted(model.trials_[0])
        ['ndcg@10', 'params', 'seconds']
        """
        metric, budget = check_arguments(metric, budget)
        self._check_parameters()
        _, _, packed = with_new_labels(
            as_packed("itemsets", itemsets, None, self.window),
            no_embeddings(1),
            self._value("min_count"),
            min_length=2,
        )
        search = Search(self, *hold_out(packed), metric, budget, report)
        best = search.run()
        self.trials_ = search.trials
        return self.set_params(**best)

    def _nothing(self, seed: int) -> _Start:
        self._check_parameters()
        return _Start(no_embeddings(1), None, seed, 0, {})

    def _so_far(self) -> _Start:
        dim = self.embeddings_.dimension
        if self.vector_size not in (None, dim):
            raise InputError(
                f"vector_size is {self.vector_size}, and the model has {dim}; "
                "keep that, or call fit"
            )
        before = {**self.chosen_, "vector_size": dim}
        return _Start(self.embeddings_, self.accumulators_, self.seed_, self.num_fit_, before)

    def _learn(
        self,
        start: _Start,
        itemsets: Any,
        weights: Weights | None,
        epochs: int | None,
        **checkpoints: Any,
    ) -> Self:
        """Train copies of tables, with rows for new labels, and keep them if all went well."""
        old = start.embeddings
        labels, counts, packed = with_new_labels(
            as_packed("itemsets", itemsets, weights, self.window),
            old,
            self._value("min_count"),
            min_length=2,
        )
        if not packed.num_itemset:
            raise InputError(
                f"itemsets: none has two items to learn from ({packed.dropped}); "
                "pass longer ones, or a lower min_count"
            )
        chooser = self._choose(shape_of(packed), start.chosen)
        # Each call draws from a stream of its own, and new rows are unlike those of before.
        seed = (start.seed + start.num_fit) % (1 << 64)
        syn0, syn1 = chooser._tables(old, len(labels), seed, checkpoints)
        # Made before training, as it may refuse the labels; it gets the tables after that.
        embeddings = Embeddings(labels, np.zeros((len(labels), 1), np.float32), counts=counts)
        self._check_savable(labels, checkpoints.get("checkpoint"))
        task = UnsupervisedTask(
            packed.indices,
            packed.offsets,
            syn0,
            syn1,
            weights=packed.weights,
            accumulators=chooser._accumulators(start, len(labels)),
            **chooser._task_options(counts, seed),
        )
        task._know_counts(counts)
        chooser._tell_choice()
        self.history_ = chooser._train(task, chooser._value("epochs", epochs), **checkpoints)
        embeddings.vectors, embeddings.context = map(to_host, (syn0, syn1))
        accumulators = task.accumulators
        if accumulators is not None:
            accumulators = tuple(map(to_host, accumulators))
        self.embeddings_, self.chosen_ = embeddings, chooser.chosen_
        self.accumulators_ = accumulators
        self.dropped_ = packed.dropped
        self.seed_, self.num_fit_ = start.seed, start.num_fit + 1
        return self

    def _tables(
        self, old: Embeddings, num_label: int, seed: int, checkpoints: Mapping[str, Any]
    ) -> Sequence[Any]:
        """Return copies of tables, with rows for new labels."""
        dim = self._value("vector_size")
        num_new = num_label - len(old)
        if not len(old):
            return self._new_tables((num_new, num_new), dim, seed, checkpoints)
        syn0, syn1 = (np.zeros((num_new, dim), dtype=np.float32) for _ in range(2))
        if num_new:
            syn0, syn1 = (self._new_rows(num_new, dim, seed, side) for side in range(2))
        syn0 = np.concatenate([old.vectors, syn0])
        return syn0, np.concatenate([cast(Float32Array, old.context), syn1])

    def _accumulators(self, start: _Start, num_label: int) -> Accumulators | None:
        """Return those to go on from, with zeros for new labels; None for new ones."""
        if start.accumulators is None or self._value("optimizer") != "adagrad":
            return None
        left, right = (
            np.concatenate([values, np.zeros(num_label - len(values), dtype=np.float32)])
            for values in start.accumulators
        )
        return left, right

    # ------------------------------------------------------ vectors of itemsets

    def transform(
        self, itemsets: Any, *, weights: Weights | None = None, fold_in: int | None = None
    ) -> Float32Array:
        """Return a vector for each itemset, also one never seen.

        It is the weighted mean of the rows of its items, ``sum(w_i * c_i**-h * x_i) /
        sum(abs(w_i) * c_i**-h)``, with the weights w, counts c and `history_exponent` h.
        Items that are unknown are left out; `unknown_` counts them, and a warning is
        logged. Without a known item, the vector is zeros.

        With `fold_in`, the vector is trained from there on: by `itemset_task`, on what it
        predicts of its own items, with the learning rates and the options of the model and
        `syn1_` frozen. As each itemset draws negatives by its place, it then depends a
        little on the others that are asked for at once.

        Parameters
        ----------
        itemsets : itemsets
            Labels of each itemset.
        weights : iterable of iterable of float, optional
            Weight of each item.
        fold_in : int, optional
            Epochs of that training; by default the parameter.

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
        vectors = self._transform(itemsets, weights, fold_in)
        return cast(Float32Array, self._in_container(vectors, itemsets))

    def fit_transform(
        self, itemsets: Any, y: Any = None, *, weights: Weights | None = None, **options: Any
    ) -> Float32Array:
        """Learn from itemsets, and return their vectors: `fit`, then `transform`.

        Parameters
        ----------
        itemsets : itemsets
            As for both of them; what can be read once alone is read once.
        y : object, optional
            Ignored; scikit-learn passes it.
        weights : iterable of iterable of float, optional
            Weight of each item for `fit` alone, as scikit-learn has it; also for `transform` if
            that requests them, see `set_transform_request`.
        **options
            The other arguments of `fit`, and `fold_in` of `transform`.

        Returns
        -------
        float32 (num_itemset, vector_size)
            As of `transform`: zeros for an itemset whose items are all rare.

        Raises
        ------
        InputError, DivergenceError, DeviceError
            As of both of them.
        """
        fold_in = options.pop("fold_in", None)
        packed = as_packed("itemsets", itemsets, weights, self.window)
        self.fit(packed, **options)
        if weights is not None and not self._requests("transform", "weights"):
            packed = dataclasses.replace(packed, weights=None)
        vectors = self._transform(packed, None, fold_in)
        return cast(Float32Array, self._in_container(vectors, itemsets))

    def log_partition(self, itemsets: Any, *, weights: Weights | None = None) -> Float64Array:
        """Return the logarithm of the sum over all items that each itemset's scores would need.

        It is ``log(sum_j exp(s_j))`` over all items j, with the vector v of the itemset that
        `transform` returns: s_j is ``v . syn1_[j]``, or of a softmax that or their cosine over
        the temperature. Its mean and its variance tell how far scores are normalised without it:
        see `log_partition` of this package, for what to expect of each loss. Unknown items are
        left out as by `transform`; without a known item, all scores are 0, and it is the
        logarithm of the number of items. Of a model that was trained in pairs, pass itemsets of
        one item each: a pair is given a single one.

        Parameters
        ----------
        itemsets : itemsets
            Labels of each itemset.
        weights : iterable of iterable of float, optional
            Weight of each item.

        Returns
        -------
        float64, num_itemset
            By products of float32.

        Raises
        ------
        InputError
            An argument cannot be used, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.

        Examples
        --------
        >>> model = Item2Vec(loss="nce", vector_size=8, seed=1, device="cpu")
        >>> log_z = model.fit([["a", "b"], ["b", "c"], ["a", "c"]]).log_partition([["a"], ["new"]])
        >>> float(log_z[1].round(3))  # log(3)
        1.099
        """
        known = self._known("itemsets", itemsets, weights)
        return log_partition(
            checks.on_host(self._vectors(known, self.history_exponent_)),
            self._in_memory("log_partition", self.syn1_),
            similarity="cosine" if self._is_trained_by_cosine else "dot",
            temperature=self._scale() if self._value("loss") in DENSE_LOSSES else 1.0,
            device=self.device,
            num_threads=self.workers,
        )

    def _transform(
        self, itemsets: Any, weights: Weights | None, fold_in: int | None
    ) -> Float32Array:
        known = self._known("itemsets", itemsets, weights)
        vectors: Float32Array = checks.on_host(
            self._vectors(known, self.history_exponent_, fold_in)
        )
        return vectors

    # Of scikit-learn.
    set_fit_request = setter_of_requests("fit")
    set_partial_fit_request = setter_of_requests("partial_fit")
    set_transform_request = setter_of_requests("transform")
    set_score_request = setter_of_requests("score")

    def _vectors(
        self, known: KnownItemsets, history_exponent: float, fold_in: int | None = None
    ) -> Any:
        """Return the vector of each itemset, where the device is."""
        fold_in = self._value("fold_in", fold_in)
        exponent = self._value("history_exponent", history_exponent)
        weights = self._history_weights(known, exponent)
        means = pool_rows(
            self._place(self.syn0_), known.rows, known.offsets, weights, num_threads=self.workers
        )
        return self._fold_in(known, checks.on_host(means), fold_in) if fold_in else means

    def _history_weights(self, known: KnownItemsets, exponent: float) -> npt.NDArray[Any]:
        """Return the weight of each item of histories."""
        weights: npt.NDArray[Any] = np.maximum(self.counts_[known.rows], 1.0) ** -exponent
        return weights if known.weights is None else weights * known.weights

    def _in_memory(self, what: str, table: Any) -> Any:
        """Return a table that has to be one array."""
        if isinstance(table, PartedTable):
            raise InputError(
                f"{what} goes over all of syn1_ at once, which was left on disk; "
                "load the model without mmap and client"
            )
        return table

    def _folding(self) -> dict[str, Any]:
        return FOLDING | (FOLDING_DENSE if self._value("loss") in DENSE_LOSSES else {})

    def _fold_in(self, known: KnownItemsets, vectors: Float32Array, epochs: int) -> Float32Array:
        """Train the vectors of itemsets that have items, in a copy."""
        used = known.used
        if used.any():
            # Itemsets without items take no place among the items.
            bounds = np.concatenate([[0], known.offsets[1:][used]])
            rows = vectors[used]
            task = itemset_task(
                known.rows,
                bounds,
                rows,
                self._in_memory("fold_in", self.syn1_),
                weights=known.weights,
                **{**self._task_options(self.counts_, self.seed_), **self._folding()},
            )
            self._train(task, epochs, quietly=True)
            vectors[used] = rows
        return vectors

    # ----------------------------------------------------------------- answers

    def recommend(
        self,
        baskets: Any,
        n: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: Any = None,
        items: Any = None,
        *,
        history_exponent: float | None = None,
        popularity: float | None = None,
        similarity: str | None = None,
        sharpness: float | None = None,
    ) -> tuple[ObjectArray, Float32Array]:
        """Return the items that go best with a basket, or with each of many.

        The score of item r is ``v . syn1_[r] + popularity * log(counts[r])``, with the vector v
        of the basket that `transform` returns; for the similarity "cosine", the cosine of v and
        ``syn0_[r]`` takes the place of the product, as where neighbours are found. Of a model that
        was trained by a softmax of cosines, it is the cosine of v and ``syn1_[r]``, or with a
        `sharpness` above 0 a mean of those of the basket's items that leans to the nearest. Unknown
        items are left out as there. A basket without a known item is answered with the most
        frequent items, and the logarithms of their shares of all occurrences as scores.

        Parameters
        ----------
        baskets : list, tuple, set or array of labels, or itemsets
            What can be hashed is a label, and what cannot (a list, a set, an array) is a
            basket: so a list of labels is one basket, and a list of lists many. Packed
            itemsets, tables and matrices are many.
        n : int, optional
            How many items.
        filter_already_liked_items : bool, optional
            Whether items of the basket itself are left out.
        filter_items : label, or list, set or array of labels, optional
            Items never returned; unknown ones are none anyway.
        items : label, or list, set or array of labels, optional
            Items that alone may be returned.
        history_exponent, popularity, similarity, sharpness : optional
            By default the parameters of the model.

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
        rows, scores = self._rank(
            known,
            n,
            history_exponent,
            popularity,
            similarity,
            sharpness,
            exclude=(known.rows, known.offsets) if filter_already_liked_items else None,
            candidates=self._candidates(items, filter_items),
        )
        return self._answer(rows, scores, many)

    def score(self, itemsets: Any, y: Any = None, k: int = 10) -> float:
        """Return the NDCG@k of finding a hidden item of each itemset again.

        Of each itemset of at least two different known items, one occurrence is drawn
        (always the same) and that item is hidden. All items but those that remain are
        ranked as `recommend` does, with the parameters of the model. Unknown items are left
        out first, and counted in `unknown_`.

        Parameters
        ----------
        itemsets : itemsets
            Itemsets that were held out. Their weights are not used.
        y : object, optional
            Ignored.
        k : int, optional
            How many of the first items to look at.

        Returns
        -------
        float
            Mean over the itemsets, from 0 to 1; higher is better. See `metrics.ndcg`.

        Raises
        ------
        InputError
            An argument cannot be used, no itemset has two known items, or the model is
            not fitted.
        DeviceError
            The device cannot be had, or failed.
        """
        known = self._known("itemsets", itemsets)
        split = leave_last_out(*shuffled(known, self.window))
        if not split.num_query:
            raise InputError(
                f"itemsets: none of {len(known)} has two different known items; pass others"
            )
        return self._measure(split, [checks.integer("k", k, 1)])[f"ndcg@{k}"]

    def evaluate(
        self,
        train: Any,
        test: Any,
        metrics: Metrics = ("recall@20", "ndcg@20"),
        filter_already_liked_items: bool = True,
        *,
        history_exponent: float | None = None,
        popularity: float | None = None,
        similarity: str | None = None,
        sharpness: float | None = None,
    ) -> Evaluation:
        """Measure how well itemsets are told from others of the same users: a split of your own.

        The n-th itemset of `train` is a history, from which all items are ranked as `recommend`
        does: one without a known item is answered with the most frequent ones. The different
        items of the n-th itemset of `test` are what is to be found. Those that are unknown to
        the model count as missed. Where there is nothing to find, there is no metric: such rows
        are left out of means, and counted. Items to find lose all ties.

        Parameters
        ----------
        train, test : itemsets
            As many in both, in the same order; either may hold empty ones. To pack them, pass
            ``min_length=0``, or empty ones are dropped.
        metrics : str or int, or some, optional
            Names such as "recall@20", of hit_rate, precision, recall, ndcg, mrr, map, coverage
            and popularity_bias (see `itembed_gpu.metrics`); or a number k, for all of them at k.
        filter_already_liked_items : bool, optional
            Whether items of the history are neither ranked nor to be found; else they may be both.
        history_exponent, popularity, similarity, sharpness : optional
            By default the parameters of the model.

        Returns
        -------
        Evaluation
            Means by name, as in ``evaluation["recall@20"]``, and all of them as a dict in
            `means`. `values` has those of each row, nan where there is nothing to find;
            `num_query` and `num_skipped` count these rows, and `counts` what of the itemsets
            was unknown, repeated, or in the history. `unknown_` counts the unknown items of
            both parts.

        Raises
        ------
        InputError
            An argument cannot be used, there are not as many itemsets in both parts, nothing
            is to be found that is known, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.

        Examples
        --------
        >>> train = [["a", "b"], ["b", "c"], ["a", "b", "c"], ["c", "d"]]
        >>> test = [["c"], ["a", "new"], [], ["a", "b"]]
        >>> model = Item2Vec(vector_size=8, seed=1, device="cpu").fit(train)
        >>> evaluation = model.evaluate(train, test, ["hit_rate@1", "recall@3"])
        >>> evaluation["recall@3"]
        0.8333333333333334
        >>> evaluation.values["recall@3"], evaluation.num_skipped, evaluation.counts.unknown_truth
        (array([1. , 0.5, nan, 1. ]), 1, 1)
        """
        names = asked_metrics("metrics", metrics)
        self._check_fitted()
        seen, sought = as_packed("train", train), as_packed("test", test)
        history, split, unknown = given_queries(
            seen, sought, self.embeddings_, drop_history=filter_already_liked_items
        )
        check_findable("test", split, len(self), unknown)
        self._count_unknown(history.unknown.plus(unknown))
        return self._measure(
            split,
            names,
            history,
            filter_already_liked_items,
            history_exponent=history_exponent,
            popularity=popularity,
            similarity=similarity,
            sharpness=sharpness,
        )

    def _measure(
        self,
        split: Split,
        metrics: Metrics,
        history: KnownItemsets | None = None,
        filter_history: bool = True,
        **scoring: Any,
    ) -> Evaluation:
        """Rank all items for each query as `recommend` does; relevant ones lose ties.

        What is relevant and unknown has rows after those of the table, and is missed.
        """
        names, num_row = asked_metrics("metrics", metrics), len(self)
        truth = split.truth
        if history is None:
            history = KnownItemsets(*split.history, None, Unknown(0, 0, 0, 0))
        rows, _ = self._rank(
            history,
            longest(names),
            exclude=split.history if filter_history else None,
            losers=keep_items(*truth, truth[0] < num_row),
            **scoring,
        )
        counts = np.zeros(max(num_row, truth[0].max(initial=0) + 1), dtype=np.int64)
        counts[:num_row] = self.counts_
        evaluation = evaluate_rankings(rows, truth, names, counts, num_row)
        return dataclasses.replace(evaluation, counts=split.counts)

    def _measure_popularity(self, split: Split, metrics: Metrics) -> Evaluation:
        """Rank the most frequent items first for each query: what a model is to be better than."""
        queries, table = (
            np.zeros((number, 1), np.float32) for number in (split.num_query, len(self))
        )
        return evaluate(
            queries,
            self._place(table),
            split,
            metrics,
            bias=log_shares(self.counts_),
            counts=self.counts_,
            num_threads=self.workers,
        )

    def _rank(
        self,
        known: KnownItemsets,
        n: int,
        history_exponent: float | None = None,
        popularity: float | None = None,
        similarity: str | None = None,
        sharpness: float | None = None,
        **options: Any,
    ) -> tuple[Int64Array, Float32Array]:
        """Return the best rows for each history, by `rank` or `rank_each`, and their scores."""
        exponent = self.history_exponent_ if history_exponent is None else history_exponent
        popularity = self._value("popularity", popularity)
        similarity = self._value("similarity", similarity)
        if self._value("loss") in DENSE_LOSSES:
            popularity *= self._scale()
        bias = popularity * np.log(np.maximum(self.counts_, 1)) if popularity else None
        prior = log_shares(self.counts_)
        options |= {"bias": bias, "num_threads": self.workers}
        sharpness = self._sharpness(similarity, sharpness)
        if sharpness:
            used, items = rows_at_hand(self.syn0_, known.rows)
            left = self._place(unit_rows(used)) if len(used) else used
            right = self._place(unit_rows(self.syn1_))
            history = left, (items, known.offsets), self._history_weights(known, exponent)
            found = rank_each(history, right, n, sharpness, **options)
            del options["bias"], options["exclude"]
            return answer_unknown(found, right, known.used, prior, **options)
        vectors, table = self._vectors(known, exponent), self._table_of(similarity)
        if similarity == "cosine":
            vectors, table = unit_rows(checks.on_host(vectors)), unit_rows(table)
        return rank(vectors, self._place(table), n, known.used, prior, **options)

    def _sharpness(self, similarity: str, given: float | None) -> float:
        """Return how items of a history are compared, which are compared by trained cosines."""
        asked = self.sharpness if given is None else given
        trained = similarity == "cosine" and self._is_trained_by_cosine
        if asked and not trained:
            raise InputError(
                f"sharpness is {asked}, and scores are no cosines of a softmax; leave it out, or "
                "train with loss='softmax' and similarity='cosine'"
            )
        sharpness = float(self._value("sharpness", given) or 0.0)
        return sharpness if trained and not self._value("fold_in") else 0.0

    def _table_of(self, similarity: str) -> Float32Array:
        """Return the rows of items that the vector of an itemset is compared with.

        Those of `syn1_` are trained for it: by dot products, or with a softmax of cosines, which
        those are then. Else a cosine is that of neighbours: among rows of `syn0_`, of which the
        vector is a mean.
        """
        by_cosine = similarity == "cosine" and not self._is_trained_by_cosine
        return self.syn0_ if by_cosine else self.syn1_

    # --------------------------------------------------------------- to a disk

    def _state(self) -> tuple[list[Any], Tensors, dict[str, Any]]:
        tensors: Tensors = {
            # Named as `Embeddings` names them, which reads this folder as well.
            "vectors": self.syn0_,
            "context": self.syn1_,
            "counts": self.counts_,
        }
        if self.accumulators_ is not None:
            tensors["accumulators0"], tensors["accumulators1"] = self.accumulators_
        state = {"seed": self.seed_, "num_fit": self.num_fit_, "chosen": dict(self.chosen_)}
        return self.labels_, tensors, state

    def _restore(self, labels: list[Any], tensors: Tensors, state: dict[str, Any]) -> None:
        self.embeddings_ = Embeddings(
            labels, tensors["vectors"], context=tensors["context"], counts=tensors["counts"]
        )
        self.seed_, self.num_fit_ = int(state["seed"]), int(state["num_fit"])
        self.chosen_ = dict(state.get("chosen", {}))
        self.accumulators_ = None
        if "accumulators0" in tensors:
            left, right = (
                float_row(name, tensors[name], len(labels))
                for name in ("accumulators0", "accumulators1")
            )
            self.accumulators_ = left, right

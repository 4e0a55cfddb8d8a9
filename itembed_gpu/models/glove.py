"""`GloVe`: counting, training, and neighbours in one object."""

from __future__ import annotations

from typing import Any, Self, cast

from .. import checks
from ..checks import Float32Array
from ..data.itemsets import Dropped
from ..disk.files import Tensors
from ..errors import InputError
from ..objective.options import CELL_TASK, ESTIMATOR, Options, of_others, takes_options
from ..ranking.top_n import pool_rows
from ..training.co_occurrence import CoOccurrences, check_way, co_occurrences
from ..training.glove import GloveTask, check_curve
from ..training.loop import History
from ..training.tables import initialize_syn
from .embeddings import Embeddings
from .estimator import SEED_OF_RIGHT, Checkpoint, float_row
from .items import ItemModel
from .keywords import GloVeParameters
from .known import as_packed, no_embeddings, with_new_labels
from .options import DEFAULTS_OF_GLOVE, DOCS, DOCS_OF_GLOVE, GloveOptions, ModelOptions


@takes_options(
    ESTIMATOR,
    ModelOptions,
    Options,
    GloveOptions,
    defaults=DEFAULTS_OF_GLOVE,
    docs=DOCS | DOCS_OF_GLOVE,
    positional=("vector_size", "epochs", "alpha"),
    chosen=("min_alpha",),
    without=of_others(ESTIMATOR, CELL_TASK) - {"window"},
)
class GloVe(GloVeParameters, ItemModel):
    """Item embeddings from counts of co-occurrence: fit, neighbours, and a folder to keep them.

    It is GloVe (Pennington, Socher and Manning, "GloVe: Global vectors for word representation",
    EMNLP 2014), whose words are the items of itemsets: see `GloveTask` for the objective, and
    `co_occurrences` for how counts come about. **The vector of an item is the sum of its rows of
    both tables.**

    Itemsets are given in any of the forms that `Item2Vec` takes. Where counts are there already,
    they are given instead, as `CoOccurrences`.

    Parameters
    ----------
    {options}

    Attributes
    ----------
    embeddings_ : Embeddings
        Labels, `vectors` (``syn0_ + syn1_``), and of itemsets `counts`. The rows are the most
        frequent labels first, or those of the counts that were given.
    labels_ : list of object
        Label of each row.
    syn0_, syn1_ : float32, (num_label, vector_size)
        Both tables.
    biases_ : tuple of two float32, num_label
        Biases of both: ``syn0_[i] @ syn1_[j] + biases_[0][i] + biases_[1][j]`` estimates the
        logarithm of the count of items i and j.
    history_ : History
        Of the last training.
    num_cell_ : int
        Cells that it was trained on.
    dropped_ : Dropped or None
        What of the itemsets was left out, and why; None of counts.
    seed_ : int
        The seed given, or the one drawn.
    chosen_ : dict by str
        Values of the parameters that are None, as chosen in the last training.
    unknown_ : Unknown
        What was unknown in the last `transform`.

    Examples
    --------
    >>> baskets = [["tea", "cup", "pot"], ["tea", "cup"], ["saw", "nail"], ["nail", "saw"]]
    >>> model = GloVe(vector_size=8, seed=1, device="cpu").fit(baskets)
    >>> labels, scores = model.similar_items("tea", n=2)
    >>> "tea" in model, model["tea"].shape
    (True, (8,))
    """

    history_: History
    dropped_: Dropped | None
    num_cell_: int
    seed_: int
    syn0_: Float32Array
    syn1_: Float32Array
    biases_: tuple[Float32Array, Float32Array]

    def _check_parameters(self) -> None:
        for name in self._schema:
            self._value(name)
        check_curve(self.x_max, self.exponent)
        check_way(self.weighting, self.window)
        Options(**self._options_of(CELL_TASK))

    # ---------------------------------------------------------------- training

    def fit(
        self,
        itemsets: Any,
        y: Any = None,
        *,
        labels: Any = None,
        checkpoint: Checkpoint = None,
        checkpoint_every: int = 1,
        resume: bool = False,
    ) -> Self:
        """Learn from itemsets or from counts, and forget what was learned before.

        If it fails, what was learned before is still there.

        Parameters
        ----------
        itemsets : itemsets or CoOccurrences
            Labels of each itemset; those with fewer than 2 items, after rare labels are left out,
            are dropped, and `dropped_` has the account. Or counts, such as
            ``CoOccurrences.of(matrix)`` of a sparse matrix: `min_count`, `weighting` and `window`
            then have nothing to say.
        y : object, optional
            Ignored; scikit-learn passes it.
        labels : list, optional
            Label of each row of the counts; by default 0, 1, ...
        checkpoint, checkpoint_every, resume : optional
            As for `train`: a folder of checkpoints, epochs from one to the next, and whether to go
            on from what is there. A seed that was drawn is taken from there as well.

        Returns
        -------
        GloVe
            This object.

        Raises
        ------
        InputError
            An argument or a parameter cannot be used, or no two items occur together.
        DivergenceError
            Training left the finite numbers.
        DeviceError
            The device cannot be had, or failed.
        """
        self._check_parameters()
        names, counts, dropped, cells = self._count(itemsets, labels)
        seed, dim = self._first_seed(checkpoint, resume), self._value("vector_size")
        syn0, syn1 = (
            initialize_syn(len(names), dim, seed=own, device="cpu")
            for own in (seed, (seed + SEED_OF_RIGHT) % (1 << 64))
        )
        # Made before training, as it may refuse the labels.
        embeddings = Embeddings(names, syn0, counts=counts)
        self._check_savable(names, checkpoint)
        task = GloveTask(
            cells.left,
            cells.right,
            cells.counts,
            syn0,
            syn1,
            x_max=self.x_max,
            exponent=self.exponent,
            **{**self._options_of(CELL_TASK), "seed": seed},
        )
        trainer = type(self)(**self.get_params())
        if self.min_alpha is None:
            trainer.chosen_ = {"min_alpha": self._value("alpha")}
        self.history_ = trainer._train(
            task,
            self._value("epochs"),
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
        embeddings.vectors = syn0 + syn1
        self.embeddings_, self.chosen_ = embeddings, trainer.chosen_
        self.syn0_, self.syn1_, self.biases_ = syn0, syn1, task.biases
        self.dropped_, self.num_cell_, self.seed_ = dropped, task.num_pair, seed
        return self

    def _count(
        self, itemsets: Any, labels: Any
    ) -> tuple[list[Any], Any, Dropped | None, CoOccurrences]:
        """Return labels, how often each occurs, what was left out, and counts of pairs."""
        if isinstance(itemsets, CoOccurrences):
            names = list(range(itemsets.num_label) if labels is None else labels)
            if len(names) != itemsets.num_label:
                raise InputError(
                    f"labels has {len(names)} entries for {itemsets.num_label} rows of counts; "
                    "pass one each"
                )
            return names, None, None, itemsets
        if labels is not None:
            raise InputError("labels are given beside itemsets, which have theirs; leave them out")
        names, counts, packed = with_new_labels(
            as_packed("itemsets", itemsets, None),
            no_embeddings(1),
            self._value("min_count"),
            min_length=2,
        )
        if packed.weights is not None:
            raise InputError(
                "itemsets have weights, which counts of pairs have no use for; pack them without"
            )
        if not packed.num_itemset:
            raise InputError(
                f"itemsets: none has two items to learn from ({packed.dropped}); "
                "pass longer ones, or a lower min_count"
            )
        cells = co_occurrences(
            packed.indices,
            packed.offsets,
            len(names),
            weighting=self.weighting,
            window=self.window,
            num_threads=self.workers,
        )
        return names, counts, packed.dropped, cells

    # ------------------------------------------------------ vectors of itemsets

    def transform(self, itemsets: Any) -> Float32Array:
        """Return a vector for each itemset, also one never seen: the mean of its items' vectors.

        Items that are unknown are left out; `unknown_` counts them, and a warning is logged.
        Without a known item, the vector is zeros.

        Parameters
        ----------
        itemsets : itemsets
            Labels of each itemset.

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
        return cast(Float32Array, self._in_container(self._means(itemsets), itemsets))

    def _means(self, itemsets: Any) -> Float32Array:
        known = self._known("itemsets", itemsets)
        table = self._place(self.embeddings_.vectors)
        means: Float32Array = checks.on_host(
            pool_rows(table, known.rows, known.offsets, known.weights, num_threads=self.workers)
        )
        return means

    def fit_transform(self, itemsets: Any, y: Any = None, **options: Any) -> Float32Array:
        """Learn from itemsets, and return their vectors: `fit`, then `transform`.

        Parameters
        ----------
        itemsets : itemsets
            As for both of them; what can be read once alone is read once.
        y : object, optional
            Ignored; scikit-learn passes it.
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
        if isinstance(itemsets, CoOccurrences):
            raise InputError("itemsets are counts, which no vectors are of; call fit")
        packed = as_packed("itemsets", itemsets, None)
        vectors = self.fit(packed, **options)._means(packed)
        return cast(Float32Array, self._in_container(vectors, itemsets))

    # --------------------------------------------------------------- to a disk

    def _state(self) -> tuple[list[Any], Tensors, dict[str, Any]]:
        tensors: Tensors = {
            "vectors": self.embeddings_.vectors,
            "syn0": self.syn0_,
            "syn1": self.syn1_,
            "bias0": self.biases_[0],
            "bias1": self.biases_[1],
        }
        if self.embeddings_.counts is not None:
            tensors["counts"] = self.embeddings_.counts
        state = {"seed": self.seed_, "num_cell": self.num_cell_, "chosen": dict(self.chosen_)}
        return self.labels_, tensors, state

    def _restore(self, labels: list[Any], tensors: Tensors, state: dict[str, Any]) -> None:
        # Checked as such a table is.
        both = Embeddings(labels, tensors["syn0"], context=tensors["syn1"])
        self.syn0_, self.syn1_ = both.vectors, cast(Float32Array, both.context)
        self.biases_ = (
            float_row("bias0", tensors["bias0"], len(labels)),
            float_row("bias1", tensors["bias1"], len(labels)),
        )
        self.embeddings_ = Embeddings(labels, tensors["vectors"], counts=tensors.get("counts"))
        self.seed_, self.num_cell_ = int(state["seed"]), int(state["num_cell"])
        self.chosen_ = dict(state["chosen"])

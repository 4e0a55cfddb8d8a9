"""What a model of items does once it has a row for each: neighbours, and a place in pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import checks
from ..checks import Float32Array, Int64Array
from ..data.itemsets import PackedItemsets
from ..data.lists import as_rows, is_frame
from ..data.matrices import as_numpy, is_matrix, is_row_of_matrix
from ..errors import InputError
from ..ranking.top_n import top_n
from ..ranking.vectors import unit_rows
from .embeddings import Embeddings, Neighbours, _listed
from .estimator import Estimator
from .known import KnownItemsets, ObjectArray, as_packed, find_rows, labels_at, only_known
from .scikit_learn import TransformerInterface

Weights = Iterable[Iterable[float]]


class ItemModel(Estimator, TransformerInterface):
    """An estimator whose `embeddings_` have a row for each item: like a dictionary of them.

    Attributes
    ----------
    embeddings_ : Embeddings
        Labels, rows, and counts where they are known.
    """

    embeddings_: Embeddings

    _ranks_parts = True

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "embeddings_")

    @property
    def labels_(self) -> list[Any]:
        """Label of each row."""
        return self.embeddings_.labels

    @property
    def _neighbour_rows(self) -> Float32Array:
        """Rows whose cosines tell which items are alike."""
        return self.embeddings_.vectors

    @property
    def neighbour_embeddings_(self) -> Embeddings:
        """Labels, and the rows whose cosines tell which items are alike."""
        return Embeddings(self.labels_, self._neighbour_rows, counts=self.embeddings_.counts)

    # ------------------------------------------------- like a dictionary of items

    def __len__(self) -> int:
        """Return the number of items; 0 before `fit`."""
        return len(self.embeddings_) if self.__sklearn_is_fitted__() else 0

    def __contains__(self, item: Any) -> bool:
        """Tell whether an item is known."""
        return self.__sklearn_is_fitted__() and item in self.embeddings_

    def __getitem__(self, item: Any) -> Float32Array:
        """Return the row of an item, or rows of a list of items, as `Embeddings` do."""
        self._check_fitted()
        return self.embeddings_[item]

    def __bool__(self) -> bool:
        # An estimator is there, whatever its length: scikit-learn and others ask `if estimator`.
        return True

    # NumPy, pandas and others take what is iterable for a list of its labels: a search over
    # estimators could not be tabulated. The labels are in `labels_`.
    __iter__ = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.object_]:
        """Return this object as one element of an array, as if it had no length."""
        one = np.empty((), dtype=object)
        one[()] = self
        return one

    # ---------------------------------------------------------------- answers

    def _num_output(self) -> int:
        self._check_fitted()
        return self.embeddings_.dimension

    def _known(self, name: str, itemsets: Any, weights: Weights | None = None) -> KnownItemsets:
        self._check_fitted()
        known = only_known(as_packed(name, itemsets, weights), self.embeddings_)
        self._count_unknown(known.unknown)
        return known

    def similar_items(
        self, item: Any, n: int = 10, filter_items: Any = None, items: Any = None
    ) -> tuple[ObjectArray, Float32Array]:
        """Return the items that are nearest by the cosine of their rows, exactly.

        Rows are those of `neighbour_embeddings_`: of `Item2Vec`, those of `syn0_` if they were
        trained in pairs. A training by means leaves it to
        the others of a mean what a row of `syn0_` has to say, and rows of `syn1_` are alike where
        items go into the same itemsets: on Online Retail, .197 of the other items of a later
        basket are then among the 10 neighbours of one, and .140 of those by `syn0_`.

        Parameters
        ----------
        item : label, or list or array of labels
            An item, or many: a list holds many, and anything else, a tuple too, is one.
        n : int, optional
            How many neighbours.
        filter_items : label, or list, set or array of labels, optional
            Items never returned. An item is no neighbour of itself anyway.
        items : label, or list, set or array of labels, optional
            Items that alone may be returned.

        Returns
        -------
        labels : object (n,) or (q, n)
            Of one item, its neighbours, best first; fewer where there are no more. Of
            many, a row each, padded with None.
        scores : float32 (n,) or (q, n)
            Cosines; -inf where the label is None.

        Raises
        ------
        UnknownLabelError
            `item`, or one of `items`, is not among the labels.
        InputError
            An argument cannot be used, or the model is not fitted.
        DeviceError
            The device cannot be had, or failed.

        Notes
        -----
        Memory beyond that of `top_n`: a copy of the table, with rows of length 1.
        """
        self._check_fitted()
        many = isinstance(item, list | np.ndarray)
        own = np.array([self.embeddings_.index(x) for x in (item if many else [item])], np.int64)
        unit = unit_rows(self._neighbour_rows)
        rows, scores = top_n(
            unit[own],
            self._place(unit),
            n,
            exclude=(own, np.arange(len(own) + 1)),
            candidates=self._candidates(items, filter_items),
            num_threads=self.workers,
        )
        # Rounding makes a cosine of 1.0000001.
        return self._answer(rows, np.minimum(scores, np.float32(1)), many)

    def most_similar(self, positive: Any = None, negative: Any = None, n: int = 10) -> Neighbours:
        """Return the items that lie where some items are and others are not: analogies.

        Parameters
        ----------
        positive, negative : label, or list, set or array of labels, optional
            Items to be near to, and items to be far from.
        n : int, optional
            How many items.

        Returns
        -------
        list of (label, float)
            As gensim has it, and as `Embeddings.most_similar` says, with the rows that
            `similar_items` compares.

        Raises
        ------
        UnknownLabelError
            One of the items is not among the labels.
        InputError
            An argument cannot be used, or the model is not fitted.
        """
        self._check_fitted()
        return self.neighbour_embeddings_.most_similar(positive, negative, n)

    def _one_or_many(self, baskets: Any) -> tuple[bool, Any]:
        """Tell one basket from many, and return a list of baskets in either case."""
        if isinstance(baskets, PackedItemsets) or is_frame(baskets):
            return True, baskets
        baskets = as_numpy(baskets)
        if is_matrix("baskets", baskets):
            return len(baskets.shape) > 1, baskets
        if is_row_of_matrix(baskets):
            raise InputError(
                "baskets is an array of one axis that holds 0 and 1 alone; pass array[None] if it "
                "is a row of a matrix whose columns are the items, or array.tolist() if it is not"
            )
        if isinstance(baskets, str | bytes) or not isinstance(baskets, Iterable):
            raise InputError(
                f"baskets is {checks.show(baskets)}; pass a list of labels, or a list of lists"
            )
        rows = as_rows("baskets", baskets)
        members = list(rows)
        if rows is not baskets and any(map(_is_hashable, members)):
            # Of a column of labels, a missing one has become an empty row.
            members = [member for member in members if type(member) is not list or member]
        are_labels = list(map(_is_hashable, members))
        if not any(are_labels) and members:
            return True, members
        if not all(are_labels):
            raise InputError(
                f"baskets holds labels, as {checks.show(members[are_labels.index(True)])}, and "
                f"baskets, as {checks.show(members[are_labels.index(False)])}; "
                "pass a list of labels, or a list of lists"
            )
        kinds = set(map(type, self.embeddings_.labels))
        for member in members:
            if isinstance(member, tuple | frozenset) and type(member) not in kinds:
                raise InputError(
                    f"baskets holds {checks.show(member)}, which is a label, and no label of the "
                    f"model is a {type(member).__name__}; to pass many baskets, make each a list"
                )
        # Of a set, the items are sorted when they are packed.
        return False, [baskets if isinstance(baskets, set | frozenset) else members]

    def _candidates(self, items: Any, filter_items: Any) -> Int64Array | None:
        """Return the rows that may be returned; None for all."""
        if items is None and filter_items is None:
            return None
        if items is None:
            chosen = np.arange(len(self.embeddings_), dtype=np.int64)
        else:
            chosen = np.array([self.embeddings_.index(x) for x in _listed(items)], np.int64)
        if filter_items is not None:
            chosen = np.setdiff1d(chosen, find_rows(self.embeddings_, _listed(filter_items)))
        return chosen

    def _answer(
        self, rows: Int64Array, scores: Float32Array, many: bool
    ) -> tuple[ObjectArray, Float32Array]:
        labels = labels_at(self.labels_, rows)
        if many:
            return labels, scores
        found = rows[0] >= 0
        return labels[0][found], scores[0][found]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True

"""Search of parameters on a part of the itemsets that is held out, within some seconds.

A search of our own, as few trials fit into the minute that people grant: it begins with what is
chosen by the data, which is good already, and moves one parameter at a time. What libraries for
searches have, models of how parameters work together, takes dozens of trials to pay.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import checks
from ..data.itemsets import PackedItemsets
from ..errors import DivergenceError, InputError
from ..metrics import given_split
from ..objective.options import DENSE_LOSSES
from ..sets import keep_items
from .defaults import as_text
from .known import only_known, shuffled

METRICS = ("hit_rate", "precision", "recall", "ndcg", "mrr", "map")
# Of the itemsets, those held out: the last ones, and so many at most.
HELD_SHARE, MAX_HELD = 0.1, 10_000
MIN_ITEMSETS = 10
# Of the items of one that is held out, those that are to be found: one at least.
HIDDEN_SHARE = 0.2
SEED = 0
# What a trial is to be better by, as a share of the best one.
MIN_GAIN = 2e-3

Move = Callable[[Any], Any]


def _times(factor: float, low: float, high: float) -> Move:
    def move(value: Any) -> Any:
        return type(value)(min(max(round(value * factor, 6), low), high))

    return move


def _plus(step: float, low: float, high: float) -> Move:
    def move(value: Any) -> Any:
        return min(max(round(value + step, 6), low), high)

    return move


def _toggle(value: Any) -> Any:
    return not value


# What the time of a trial grows with.
GROWING = ("epochs", "vector_size", "negative")
# What is moved, in this order, and how: of a softmax, and of sampled losses.
DIALS: dict[bool, dict[str, tuple[Move, ...]]] = {
    True: {
        "temperature": (_times(0.75, 0.02, 2), _times(1.35, 0.02, 2)),
        "sum_scale": (_plus(0.1, 0.8, 1.5), _plus(-0.1, 0.8, 1.5)),
        "epochs": (_times(2, 1, 200), _times(0.5, 1, 200)),
        "dropout": (_plus(0.2, 0.0, 0.9), _plus(-0.2, 0.0, 0.9)),
        "reject_itemset": (_toggle,),
        "vector_size": (_times(2, 8, 1024), _times(0.5, 8, 1024)),
    },
    False: {
        "alpha": (_times(2, 1e-4, 2), _times(0.5, 1e-4, 2)),
        "epochs": (_times(2, 1, 200), _times(0.5, 1, 200)),
        "negative": (_times(2, 1, 200), _times(0.5, 1, 200)),
        "vector_size": (_times(2, 8, 1024), _times(0.5, 8, 1024)),
    },
}


def check_arguments(metric: Any, budget: Any) -> tuple[str, float]:
    """Return a metric and a budget as they are, or raise an `InputError`."""
    name, _, size = str(metric).partition("@")
    if name not in METRICS or not re.fullmatch("[1-9][0-9]{0,5}", size):
        raise InputError(
            f"metric is {checks.show(metric)}; pass {', '.join(METRICS)}, with a k, as 'ndcg@10'"
        )
    seconds = checks.number("budget", budget)
    if seconds <= 0:
        raise InputError(f"budget is {seconds:g}; pass seconds, more than 0")
    return str(metric), seconds


def hold_out(packed: PackedItemsets) -> tuple[PackedItemsets, PackedItemsets]:
    """Return itemsets to train on, and the last ones, which are to be measured with."""
    num_itemset = packed.num_itemset
    num_held = min(round(HELD_SHARE * num_itemset), MAX_HELD)
    if not num_held:
        raise InputError(
            f"itemsets: there are {num_itemset}, too few to hold some out; pass {MIN_ITEMSETS}"
        )
    is_held = np.arange(num_itemset) >= num_itemset - num_held
    return packed.prune(mask=~is_held), packed.prune(mask=is_held)


class Search:
    """A search for parameters of a model.

    Parameters
    ----------
    model : Item2Vec
        Its parameters are where it begins, and those that are given stay as they are.
    train, held : PackedItemsets
        What trials learn from, and what they are measured with.
    metric : str
    budget : float
        Seconds.
    report : function of str, or None
        Told of each trial.
    """

    def __init__(
        self,
        model: Any,
        train: PackedItemsets,
        held: PackedItemsets,
        metric: str,
        budget: float,
        report: Callable[[str], Any] | None,
    ) -> None:
        self._model, self._train, self._held = model, train, held
        self._metric, self._budget, self._report = metric, budget, report
        self._began = time.perf_counter()
        # Each with the parameters that were moved, the metric, and seconds.
        self.trials: list[dict[str, Any]] = []
        # What was chosen by the data.
        self._start: Mapping[str, Any] = {}

    @property
    def _left(self) -> float:
        """Seconds that are left."""
        return self._budget - (time.perf_counter() - self._began)

    def run(self) -> dict[str, Any]:
        """Return the best values of what was moved.

        It moves a parameter at a time, for as long as one gets better by it, and time is left.
        """
        value = self._try({})
        if math.isnan(value):
            raise InputError("itemsets: a training diverged on them; pass a lower alpha")
        dials = DIALS[self._start["loss"] in DENSE_LOSSES]
        # With a penalty on the sum over all items, none of them is left out of it.
        fixed = {"reject_itemset"} if self._model.self_normalization else set()
        if (self._start.get("pooling") or self._model.pooling) == "pairs":
            fixed.add("dropout")  # which is of means
        free = [name for name in dials if name in self._start and name not in fixed]
        best: dict[str, Any] = {}
        still = 0  # parameters that were moved in vain since the last gain
        for name in itertools.cycle(free):
            if still == len(free):
                break
            found = self._move(best, value, name, dials[name])
            still = still + 1 if found is None else 0
            if found is not None:
                value, best = found
        return best

    def _move(
        self, best: dict[str, Any], value: float, name: str, moves: tuple[Move, ...]
    ) -> tuple[float, dict[str, Any]] | None:
        """Move a parameter, and return what is better by that, if it is."""
        now = best.get(name, self._start[name])
        for move in moves:
            candidate = {**best, name: move(now)}
            if move(now) == now or any(trial["params"] == candidate for trial in self.trials):
                continue
            found = self._try(candidate)
            if found > value * (1 + MIN_GAIN):
                return found, candidate
        return None

    def _try(self, moved: dict[str, Any]) -> float:
        """Train and measure; nan where it does not learn, or there is no time for it."""
        if self.trials and self._expected(moved) > self._left:
            return math.nan
        began = time.perf_counter()
        model = type(self._model)(**{**self._model.get_params(), **moved, **self._own()})
        value = math.nan
        with contextlib.suppress(DivergenceError):
            model.fit(self._train)
            if len(model.history_.epochs) == model._value("epochs"):
                value = self._measure(model)
        seconds = time.perf_counter() - began
        if not self.trials and not math.isnan(value):
            self._start = model.chosen_
        self.trials.append({"params": moved, self._metric: value, "seconds": seconds})
        if self._report is not None:
            shown = as_text(moved) or "as chosen by the data"
            self._report(
                f"trial {len(self.trials)}: {self._metric} {value:.4f} in {seconds:.1f} s, {shown}"
            )
        return value

    def _own(self) -> dict[str, Any]:
        """Return parameters of trials that are others than the model's."""
        return {
            "seed": SEED if self._model.seed is None else self._model.seed,
            # The first one has all the time that it takes.
            "callbacks": [lambda state: bool(self.trials) and self._left < 0],
            "progress": False,
            "on_interrupt": "raise",
            "min_count": 1,  # what is rare is left out by now
        }

    def _expected(self, moved: Mapping[str, Any]) -> float:
        """Return seconds that a trial may take, by those of the first one."""
        seconds: float = self.trials[0]["seconds"]
        for name in GROWING:
            if name in moved:
                seconds *= moved[name] / self._start[name]
        return seconds

    def _measure(self, model: Any) -> float:
        """Find a part of the items of each itemset again that was held out."""
        known = only_known(self._held, model.embeddings_)
        rows, offsets = shuffled(known, model.window)
        lengths = np.diff(offsets)
        hidden = np.where(lengths > 1, np.maximum(1, (HIDDEN_SHARE * lengths).astype(np.int64)), 0)
        places = np.arange(len(rows)) - np.repeat(offsets[:-1], lengths)
        is_shown = places < np.repeat(lengths - hidden, lengths)
        packed = rows.astype(np.int32), offsets
        split = given_split(keep_items(*packed, is_shown), keep_items(*packed, ~is_shown))
        if not len(split.truth[0]):
            raise InputError("itemsets: those held out have no two known items; pass more of them")
        measured: Any = model._measure(split, [self._metric])
        return float(measured.means[self._metric])

"""What a task may be asked for beside the objective of itembed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import checks
from ..errors import InputError

# Streams of a seed, and draws of a slot: what the counter of the generator has room for.
MAX_STREAM = 1 << 16
MAX_DRAW = 4 << 16
# A 32-bit word is below this threshold, always.
ALWAYS = 0xFFFFFFFF
# Draws that a negative may take until it is not the positive; then any other row is taken.
MAX_REDRAW = 16

# Options that are no array. Both backends compile them in.
REJECT_POSITIVE = 1
FREEZE_LEFT = 2
FREEZE_RIGHT = 4
MEAN = 8
REJECT_ITEMSET = 16

LOSSES = ("negative-sampling", "nce")
OPTIMIZERS = ("sgd", "adagrad")
POOLINGS = ("pairs", "mean")


@dataclass(frozen=True, eq=False)
class Options:
    """What a task may be asked for beside the objective of itembed, which is the default.

    Attributes
    ----------
    noise_exponent : float
        Negatives are drawn in proportion to the counts of the right-hand items to this
        power: 0 is uniform, 0.75 word2vec's, 1 as they occur; less than 0 prefers rare ones.
    noise_weights : float, num_right, or None
        Weights of the rows in the noise distribution, instead.
    subsample : float
        Threshold t: an occurrence of an item that makes up a share f of all of them is
        kept with probability min(1, sqrt(t / f)), anew in each epoch. 0 keeps all.
    loss : {"negative-sampling", "nce"}
        "nce" subtracts log(k Q(b)) from the logit of each target b.
    reject_positive : bool
        Whether a negative that is the pair's positive is drawn again.
    reject_itemset : bool
        Whether a negative that is any of the right items of the pair's itemset is.
    update_left, update_right : bool
        Whether the table of a side is trained, or only read.
    l2 : float
        Strength of the regularisation of the rows that a pair touches.
    optimizer : {"sgd", "adagrad"}
        "adagrad" divides the learning rate of a row by the root of what its squared
        gradients add up to.
    pooling : {"pairs", "mean"}
        "mean" trains the mean of the left items with each right item.
    """

    noise_exponent: float = 0.0
    noise_weights: npt.ArrayLike | None = None
    subsample: float = 0.0
    loss: str = "negative-sampling"
    reject_positive: bool = False
    reject_itemset: bool = False
    update_left: bool = True
    update_right: bool = True
    l2: float = 0.0
    optimizer: str = "sgd"
    pooling: str = "pairs"

    def __post_init__(self) -> None:
        for name in ("noise_exponent", "subsample", "l2"):
            checks.number(name, getattr(self, name))
        for name in ("subsample", "l2"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; pass at least 0")
        if self.l2 > float(np.finfo(np.float32).max):
            raise InputError(f"l2 is {self.l2}; pass one that is finite in float32")
        _check_choice("loss", self.loss, LOSSES)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("pooling", self.pooling, POOLINGS)

    @property
    def rejects(self) -> bool:
        """Whether some negatives are drawn again."""
        return bool(self.reject_positive or self.reject_itemset)

    @property
    def flags(self) -> int:
        """Options that are no array, as a sum of bits."""
        return (
            REJECT_POSITIVE * self.rejects
            + REJECT_ITEMSET * bool(self.reject_itemset)
            + FREEZE_LEFT * (not self.update_left)
            + FREEZE_RIGHT * (not self.update_right)
            + MEAN * (self.pooling == "mean")
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; pass one of {', '.join(map(repr, choices))}")


def check_num_negative(num_negative: int, rejects: bool) -> int:
    """Check the number of negatives: the draws of a slot are counted.

    Raises
    ------
    InputError
        It is not an integer of at least 0, or too large.
    """
    number = checks.integer("num_negative", num_negative)
    most = MAX_DRAW // (MAX_REDRAW + 1) - 4 if rejects else MAX_DRAW - 4
    if number > most:
        raise InputError(f"num_negative is {num_negative}; pass at most {most}")
    return number

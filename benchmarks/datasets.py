"""The data sets that quality is measured on: read from a folder, and split as others split them.

`RANKING` and `LABELLING` name the loaders; each takes the folder that holds all data sets.
A file may be compressed (``baskets.txt`` or ``baskets.txt.xz``).

Both kinds are the same to a model: it learns from itemsets, is told the items of a query, and
ranks. In a *ranking*, it ranks the items that the query does not have; in a *labelling*, an
itemset has labels beside its items, and it ranks those.
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

# Cooking: so many questions train, and what fastText's tutorial puts spaces around.
COOKING_TRAIN = 12_404
PUNCTUATION = re.compile(r"([.!?,'/()])")
LABEL = "__label__"

# Online Retail: the share of the baskets that train, the first ones.
RETAIL_TRAIN = 0.8


@dataclass(frozen=True)
class Packed:
    """Itemsets, one after the other; itemset i is ``items[offsets[i] : offsets[i + 1]]``."""

    items: np.ndarray  # int32, (num_item,)
    offsets: np.ndarray  # int64, (num_itemset + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def take(self, chosen: np.ndarray | slice) -> Packed:
        """Some of the itemsets."""
        rows = np.arange(len(self))[chosen]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(self.lengths[rows], out=offsets[1:])
        starts = np.repeat(self.offsets[rows] - offsets[:-1], self.lengths[rows])
        return Packed(self.items[starts + np.arange(offsets[-1])], offsets)


@dataclass(frozen=True)
class Ranking:
    """Which items go into an itemset with those that are known."""

    name: str
    train: Packed  # itemsets to learn from
    history: Packed  # what is known of each query; these items are not ranked
    truth: Packed  # the items to be found for each query
    labels: Sequence[str]  # names of the items: the catalog
    # For each query, the itemset of `train` that its history is; None where queries are new.
    users: np.ndarray | None = None

    @property
    def num_item(self) -> int:
        """Items of the catalog, which are those that queries have and those that are ranked."""
        return len(self.labels)

    @property
    def num_ranked(self) -> int:
        return len(self.labels)

    @property
    def masked(self) -> Packed | None:
        """What is not to be ranked."""
        return self.history


@dataclass(frozen=True)
class Labelling:
    """Which labels go with an itemset."""

    name: str
    train: Packed  # itemsets (of features) to learn from
    train_labels: Packed  # the labels of each
    history: Packed  # the features of each query
    truth: Packed  # the labels that are to be found
    features: Sequence[str]  # their names
    labels: Sequence[str]

    @property
    def num_item(self) -> int:
        return len(self.features)

    @property
    def num_ranked(self) -> int:
        return len(self.labels)

    @property
    def masked(self) -> Packed | None:
        return None


Dataset = Ranking | Labelling


def pack(itemsets: Sequence[Iterable[int]]) -> Packed:
    """Pack itemsets of item numbers."""
    rows = [list(itemset) for itemset in itemsets]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Packed(np.fromiter(chain.from_iterable(rows), np.int32, offsets[-1]), offsets)


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, or of the compressed one beside its name."""
    openers: dict[str, Callable[..., IO[str]]] = {"": open, ".xz": lzma.open, ".gz": gzip.open}
    for suffix, opener in openers.items():
        found = path.with_name(path.name + suffix)
        if found.exists():
            with opener(found, "rt", encoding="utf-8") as file:
                return file.read().splitlines()
    raise FileNotFoundError(f"there is no {path}, nor with .xz or .gz")


def read_words(path: Path) -> list[list[str]]:
    """Words of each line of a file, whose name may have the ending of a compressed one."""
    plain = path.with_suffix("") if path.suffix in (".xz", ".gz") else path
    return [line.split() for line in read_lines(plain)]


def number_rows(lines: Iterable[str]) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in lines]


# --- rankings ---------------------------------------------------------------


def hide_one(baskets: Sequence[Iterable[int]], seed: int) -> tuple[Packed, Packed]:
    """Hide a random item of each basket with two distinct items or more: history and truth.

    They are the same for the same seed, so that every system is asked the same.
    """
    generator = np.random.default_rng(seed)
    known, hidden = [], []
    for basket in baskets:
        items = sorted(set(basket))
        if len(items) >= 2:
            hidden.append([items.pop(generator.integers(len(items)))])
            known.append(items)
    return pack(known), pack(hidden)


def online_retail(folder: Path, seed: int = 0) -> Ranking:
    """Baskets of a shop: the first ones train, and one item of each later one is hidden.

    All items of the file are ranked. About 1 % of the hidden ones have never been seen in
    training, so no system can reach 1.
    """
    folder = Path(folder) / "online_retail"
    names = [line.partition("\t")[2] for line in read_lines(folder / "items.tsv")]
    baskets = [row for row in number_rows(read_lines(folder / "baskets.txt")) if len(row) >= 2]
    split = int(RETAIL_TRAIN * len(baskets))
    history, truth = hide_one(baskets[split:], seed)
    return Ranking("online_retail", pack(baskets[:split]), history, truth, names)


def gowalla(folder: Path) -> Ranking:
    """Check-ins: LightGCN's split. A line is a user, then items; users without test items go."""
    folder = Path(folder) / "gowalla"
    train, test = (
        {row[0]: row[1:] for row in number_rows(read_lines(folder / name)) if len(row) > 1}
        for name in ("train.txt", "test.txt")
    )
    position = {user: i for i, user in enumerate(train)}
    users = [user for user in test if user in position]
    num_item = 1 + max(max(row) for rows in (train, test) for row in rows.values())
    return Ranking(
        "gowalla",
        pack(list(train.values())),
        pack([train[user] for user in users]),
        pack([test[user] for user in users]),
        [str(item) for item in range(num_item)],
        np.array([position[user] for user in users]),
    )


# --- labellings -------------------------------------------------------------


def read_question(line: str) -> tuple[list[str], list[str]]:
    """Words and labels of a question: lower-cased, punctuation apart."""
    words = line.split()
    labels = [word.removeprefix(LABEL) for word in words if word.startswith(LABEL)]
    text = " ".join(word for word in words if not word.startswith(LABEL))
    return PUNCTUATION.sub(r" \1 ", text).lower().split(), labels


def cooking(folder: Path, num_train: int = COOKING_TRAIN) -> Labelling:
    """Titles of questions, and their tags: the first ones train.

    Words that are not in the training part are left out; labels are those of the whole file.
    """
    pairs = [read_question(line) for line in read_lines(Path(folder) / "cooking/questions.txt")]
    words = {
        w: i for i, w in enumerate(dict.fromkeys(w for ws, _ in pairs[:num_train] for w in ws))
    }
    tags = {t: i for i, t in enumerate(dict.fromkeys(t for _, ts in pairs for t in ts))}
    features = [[words[w] for w in ws if w in words] for ws, _ in pairs]
    labels = [[tags[t] for t in dict.fromkeys(ts)] for _, ts in pairs]
    return Labelling(
        "cooking",
        pack(features[:num_train]),
        pack(labels[:num_train]),
        pack(features[num_train:]),
        pack(labels[num_train:]),
        list(words),
        list(tags),
    )


def bibtex(folder: Path) -> Labelling:
    """Bibliography entries: a line is label numbers, a tab, feature numbers."""
    folder = Path(folder) / "bibtex"
    sides = [
        [pack(number_rows(line.partition("\t")[k] for line in lines)) for k in (2, 0)]
        for lines in (read_lines(folder / name) for name in ("train.tsv", "test.tsv"))
    ]
    (train, train_labels), (history, truth) = sides
    num_feature, num_label = (
        1 + max(int(part.items.max()) for part in both)
        for both in ((train, history), (train_labels, truth))
    )
    return Labelling(
        "bibtex",
        train,
        train_labels,
        history,
        truth,
        [str(i) for i in range(num_feature)],
        [str(i) for i in range(num_label)],
    )


RANKING: dict[str, Callable[[Path], Ranking]] = {"online_retail": online_retail, "gowalla": gowalla}
LABELLING: dict[str, Callable[[Path], Labelling]] = {"cooking": cooking, "bibtex": bibtex}
DATASETS: dict[str, Callable[[Path], Dataset]] = {**RANKING, **LABELLING}


# --- parts of a data set ----------------------------------------------------


def validation(data: Dataset, seed: int = 0) -> Dataset:
    """A data set made of the training part alone, to choose settings on.

    The last tenth of the training itemsets become the queries of one without users, and of
    labellings; of one with users, a tenth of each user's items is hidden (one at least, of
    those with five items or more). What this chose may then be measured on the real queries.
    """
    split = len(data.train) - len(data.train) // 10
    if isinstance(data, Labelling):
        return replace(
            data,
            train=data.train.take(slice(split)),
            train_labels=data.train_labels.take(slice(split)),
            history=data.train.take(slice(split, None)),
            truth=data.train_labels.take(slice(split, None)),
        )
    if data.users is None:
        history, truth = hide_one(
            [row.tolist() for row in data.train.take(slice(split, None))], seed
        )
        return replace(data, train=data.train.take(slice(split)), history=history, truth=truth)
    generator = np.random.default_rng(seed)
    train, history, truth, users = [], [], [], []
    for user, items in enumerate(data.train):
        hidden = max(1, len(items) // 10) if len(items) >= 5 else 0
        shuffled = generator.permutation(items)
        train.append(shuffled[hidden:])
        if hidden:
            history.append(shuffled[hidden:])
            truth.append(shuffled[:hidden])
            users.append(user)
    return replace(
        data, train=pack(train), history=pack(history), truth=pack(truth), users=np.array(users)
    )

"""Small itemsets, tables and tasks that many tests share."""

import numpy as np
from numba import njit

from itembed_gpu import (
    SupervisedTask,
    Task,
    UnsupervisedTask,
)
from itembed_gpu.objective.schedule import (
    epoch_order,
    fill_slots,
)

# Small, and compiled once for all the tests that do not need another one.
DIM = 12
NUM_NEGATIVE = 3
# Estimators that train as tasks do by themselves: what does not depend on it is tested with this.
SAMPLED = {"loss": "negative-sampling", "pooling": "pairs", "optimizer": "sgd"}


def random_itemsets(num_label=50, num_itemset=200, min_length=2, max_length=9, seed=0):
    """Packed itemsets of random lengths."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(min_length, max_length + 1, num_itemset)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = generator.integers(0, num_label, offsets[-1]).astype(np.int32)
    return items, offsets


def contents(folder):
    """The bytes of the files of a saved folder, by their names without generation."""
    return {path.name.partition("-")[0]: path.read_bytes() for path in folder.glob("*-*")}


def random_tables(num_left=50, num_right=None, dim=DIM, seed=0):
    """Two tables of embeddings."""
    generator = np.random.default_rng(seed)
    return [
        (generator.random((num, dim), dtype=np.float32) - 0.5) / dim
        for num in (num_left, num_right or num_left)
    ]


def planted_itemsets(num_label=200, num_cluster=20, num_itemset=4000, seed=0):
    """Packed itemsets of five items, each set from within one cluster; and the items' clusters."""
    generator = np.random.default_rng(seed)
    clusters = generator.permutation(np.arange(num_label) % num_cluster)
    members = np.argsort(clusters, kind="stable").reshape(num_cluster, -1)
    chosen = generator.integers(0, num_cluster, num_itemset)
    columns = generator.integers(0, members.shape[1], (num_itemset, 5))
    items = members[chosen[:, None], columns].astype(np.int32).ravel()
    offsets = np.arange(0, len(items) + 1, 5, dtype=np.int32)
    return items, offsets, clusters


def unsupervised(items=None, offsets=None, *, tables=None, **options):
    if items is None:
        items, offsets = random_itemsets()
    syn0, syn1 = tables or random_tables()
    options = {"num_negative": NUM_NEGATIVE, "seed": 1, "num_threads": 1, **options}
    return UnsupervisedTask(items, offsets, syn0, syn1, **options)


def supervised(*, tables=None, **options):
    left = random_itemsets(50, 200, 1, 6, seed=1)
    right = random_itemsets(30, 200, 1, 3, seed=2)
    syns = tables or random_tables(50, 30)
    options = {"num_negative": NUM_NEGATIVE, "seed": 1, "num_threads": 1, **options}
    return SupervisedTask(*left, *right, *syns, **options)


MAKERS = {"unsupervised": unsupervised, "supervised": supervised}


def tables_of(task):
    return (task.syn0, task.syn1) if hasattr(task, "syn0") else (task.left_syn, task.right_syn)


RATE = 2.0**-60


class CountingTask(Task):
    def __init__(self, length):
        super().__init__(1.0)
        self.length = length
        self.rates = []

    def __len__(self):
        return self.length

    def do_batch(self, learning_rate):
        self.rates.append(learning_rate)


@njit
def compiled_slots(order, position, count):
    slots = np.empty(count, dtype=np.uint64)
    fill_slots(order, position, count, slots, np.empty(count, dtype=np.int32))
    return slots


def slots_of(seed, stream, epoch, num_slot):
    with np.errstate(over="ignore"):  # where it is not compiled: integers go round
        return compiled_slots(epoch_order(seed, stream, epoch, num_slot), 0, num_slot)


def purity(syn0, clusters):
    """Share of the nine nearest neighbours that are of the item's own cluster."""
    unit = syn0 / np.linalg.norm(syn0, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -2)
    nearest = np.argsort(-scores, axis=1)[:, :9]
    return np.mean(clusters[nearest] == clusters[:, None])

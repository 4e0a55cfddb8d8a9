"""Fixtures, and the settings of the property tests."""

import numpy as np
import pytest
from hypothesis import settings

# Compiling happens inside the first example, and machines are noisy.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# Small, and compiled once for all the tests that do not need another one.
DIM = 12
NUM_NEGATIVE = 3


def random_itemsets(num_label=50, num_itemset=200, min_length=2, max_length=9, seed=0):
    """Packed itemsets of random lengths."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(min_length, max_length + 1, num_itemset)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = generator.integers(0, num_label, offsets[-1]).astype(np.int32)
    return items, offsets


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


@pytest.fixture(params=["cpu"])
def device(request):
    """Every backend there is; those that cannot be had here are skipped, visibly."""
    return request.param

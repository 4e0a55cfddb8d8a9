"""Catalogs to train on: Zipf popularity, and planted clusters that can be found again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import itembed_gpu

# Of `planted_itemsets`: items, the members of a cluster, and the share of the items that are
# exchanged for any item of the catalog.
ITEMSET_LENGTH, CLUSTER_SIZE, NOISE = 5, 10, 0.2
MEMBERS_SEED = 99


def zipf_items(num_label: int, num_item: int, offset: int = 0, seed: int = 0) -> np.ndarray:
    """Draw items of Zipf popularity, popular ones being anywhere in the catalog.

    With s = rank + offset, the share of a rank is log((2 s + 1) / (2 s - 1)), scaled to add
    up to 1: within 2 % of Zipf's 1 / s from the second on, and 9 % above it where s is 1.
    """
    generator = np.random.default_rng(seed)
    first = 2 * offset + 1
    values = generator.random(num_item)
    values *= np.log((2 * (num_label + offset) + 1) / first)
    np.exp(values, out=values)
    values *= first
    values += 1
    values /= 2
    values -= offset
    ranks = np.minimum(values.astype(np.int32), num_label) - 1
    return generator.permutation(num_label).astype(np.int32)[ranks]


def draw_items(num_label: int, num_item: int, zipf: bool, seed: int = 0) -> np.ndarray:
    """Draw items of a catalog, by Zipf's law or all with the same share."""
    if zipf:
        return zipf_items(num_label, num_item, seed=seed)
    return np.random.default_rng(seed).integers(0, num_label, num_item, dtype=np.int32)


def uniform_tables(num_label: int, dim: int, seeds: Iterable[int] = (1, 2)) -> list[np.ndarray]:
    """Return tables of `initialize_syn`'s uniform values, one for each seed."""
    return [itembed_gpu.initialize_syn(num_label, dim, seed=seed, device="cpu") for seed in seeds]


def planted_itemsets(num_label: int, num_itemset: int, seed: int, hot: float = 0.0) -> np.ndarray:
    """Draw itemsets of five items, each of one of num_label / 10 clusters, with 20 % of noise.

    The seed is that of the itemsets; clusters are always the same. One item may be hot: the share
    of all interactions that it has. Returns int32, (num_itemset, ITEMSET_LENGTH), the same for the
    same arguments.
    """
    generator = np.random.default_rng(seed)
    members = np.random.default_rng(MEMBERS_SEED).permutation(num_label).astype(np.int32)
    clusters = generator.integers(0, num_label // CLUSTER_SIZE, (num_itemset, 1))
    items = members[
        clusters * CLUSTER_SIZE + generator.integers(0, CLUSTER_SIZE, (num_itemset, ITEMSET_LENGTH))
    ]
    noise = generator.random(items.shape, dtype=np.float32) < NOISE
    items[noise] = generator.integers(0, num_label, int(noise.sum()), dtype=np.int32)
    if hot:
        items[generator.random(items.shape, dtype=np.float32) < hot] = members[0]
    return items


def pick_others(offsets: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Pick another place of its itemset for each place; itemsets have two or more."""
    lengths = np.repeat(np.diff(offsets), np.diff(offsets))
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    places = np.arange(offsets[0], offsets[-1])
    return starts + (places - starts + generator.integers(1, lengths)) % lengths


@dataclass(frozen=True)
class Clusters:
    """Planted clusters of items with a popularity."""

    noise: float  # share of the items that do not come from their itemset's cluster
    items: np.ndarray  # num_item, ordered by cluster
    masses: np.ndarray  # num_item + 1: running sum of their masses in that order, from 0 to 1
    bounds: np.ndarray  # num_cluster + 1: where each cluster begins in that order
    shares: np.ndarray  # num_cluster: running sum of their probabilities, which ends at 1

    def draw(self, lengths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw the items of itemsets of these lengths, one itemset after the other.

        An itemset chooses a cluster; each of its items is from there, by its mass, or is noise:
        from the whole catalog, by its mass.
        """
        chosen = np.searchsorted(self.shares, generator.random(len(lengths)), side="right")
        chosen = np.repeat(chosen, lengths)
        low, high = self.masses[self.bounds[chosen]], self.masses[self.bounds[chosen + 1]]
        noisy = generator.random(len(chosen)) < self.noise
        low, high = np.where(noisy, 0.0, low), np.where(noisy, 1.0, high)
        drawn = low + generator.random(len(chosen)) * (high - low)
        place = np.searchsorted(self.masses, drawn, side="right") - 1
        return self.items[place.clip(0, len(self.items) - 1)]


def plant_clusters(
    items: np.ndarray, mass: np.ndarray, cluster: np.ndarray, noise: float, power: float = 1.0
) -> Clusters:
    """Plant clusters.

    Parameters
    ----------
    items, mass, cluster : (num_item,)
        Items, their masses, and the number of each one's cluster.
    noise : float
        Share of the noise.
    power : float
        A cluster is chosen with a probability proportional to its mass to this power.
    """
    order = np.argsort(cluster, kind="stable")
    masses = np.concatenate([[0.0], np.cumsum(mass[order])])
    masses /= masses[-1]
    bounds = np.searchsorted(cluster[order], np.arange(cluster.max() + 2))
    weights = np.diff(masses[bounds]) ** power
    shares = np.cumsum(weights / weights.sum())
    shares[-1] = 1.0
    return Clusters(noise, items[order], masses, bounds, shares)

"""Catalogs with planted clusters and Zipf popularity: any size, in shards, in bounded memory.

    python -m benchmarks.synthetic OUT --items 100000 --interactions 50000000
    python -m benchmarks.synthetic OUT --format csv --shuffled

Writes ``part-00000.parquet`` (or ``.csv``) and so on into the folder OUT: long tables with the
columns ``basket`` and ``item``, where items are strings such as ``item-000123``. A shard depends
on the seed and its number alone, so that it can be made again anywhere, and any number of them
at once.

How a catalog is made: the item of popularity rank r has a mass of 1 / (r + 10). Ranks are dealt
to clusters at random, so that an item's cluster says nothing of its popularity. An itemset
chooses a cluster with a probability proportional to the square root of the cluster's mass, and
has 1 + a geometric number of items, 10 on average, cut to 2 ... 100. Each of them comes from the
cluster by its mass there or, with the share of the noise, from the whole catalog. Numbers of
items are scrambled, so that they tell neither popularity nor cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common.catalogs import Clusters, plant_clusters
from benchmarks.common.report import make_parser

MEAN_LENGTH, LEAST_LENGTH, MOST_LENGTH = 10, 2, 100
# Itemsets of a shard.
SHARD = 100_000


@dataclass(frozen=True)
class Catalog:
    """Items, their popularity and their clusters."""

    seed: int  # of all shards
    clusters: np.ndarray  # cluster of each item: int32, (num_item,)
    planted: Clusters  # what itemsets are drawn from

    def shard(self, number: int, num_itemset: int = SHARD) -> tuple[np.ndarray, np.ndarray]:
        """Itemsets of a shard, the same wherever and whenever it is made.

        Returns
        -------
        items : int32, (num_item,)
        offsets : int64, (num_itemset + 1,)
        """
        generator = np.random.default_rng((self.seed, number))
        # Geometric numbers of a mean of MEAN_LENGTH begin at 1.
        lengths = generator.geometric(1 / MEAN_LENGTH, num_itemset) + 1
        lengths = lengths.clip(LEAST_LENGTH, MOST_LENGTH)
        offsets = np.zeros(num_itemset + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return self.planted.draw(lengths, generator), offsets


def make_catalog(
    num_item: int = 100_000, num_cluster: int = 1_000, noise: float = 0.6, seed: int = 0
) -> Catalog:
    """Make a catalog; it takes some 30 bytes an item."""
    generator = np.random.default_rng((seed, 1 << 32))
    mass = 1 / (np.arange(num_item) + 10.0)
    mass /= mass.sum()
    cluster_of_rank = generator.integers(num_cluster, size=num_item, dtype=np.int32)
    item_of_rank = generator.permutation(num_item).astype(np.int32)
    planted = plant_clusters(item_of_rank, mass, cluster_of_rank, noise, power=0.5)
    clusters = np.empty(num_item, dtype=np.int32)
    clusters[item_of_rank] = cluster_of_rank
    return Catalog(seed, clusters, planted)


def tables(catalog: Catalog, num_interaction: int, shuffled: bool) -> Iterator[object]:
    """Long tables (polars) of one shard each, with as many rows in all, or a few more.

    Shuffled, the rows of an itemset lie anywhere in its shard.
    """
    import polars

    names = polars.Series([f"item-{i:06}" for i in range(len(catalog.clusters))])
    number, written = 0, 0
    while written < num_interaction:
        most = -(-(num_interaction - written) // MEAN_LENGTH)
        items, offsets = catalog.shard(number, min(SHARD, most))
        baskets = np.repeat(np.arange(len(offsets) - 1) + number * SHARD, np.diff(offsets))
        if shuffled:
            order = np.random.default_rng((catalog.seed, number, 1)).permutation(len(items))
            items, baskets = items[order], baskets[order]
        yield polars.DataFrame({"basket": baskets, "item": names[items]})
        number, written = number + 1, written + len(items)


def write(folder: Path, catalog: Catalog, num_interaction: int, format: str, shuffled: bool) -> int:
    """Write a catalog's tables into a folder, and return how many rows they have."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = 0
    for number, table in enumerate(tables(catalog, num_interaction, shuffled)):
        path = folder / f"part-{number:05}.{format}"
        part = path.with_name(path.name + ".part")
        (table.write_parquet if format == "parquet" else table.write_csv)(part)
        os.replace(part, path)
        rows += len(table)
    return rows


def main() -> None:
    parser = make_parser("synthetic", __doc__, out=None)
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=1_000)
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument("--noise", type=float, default=0.6, help="share of items of no cluster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--shuffled", action="store_true", help="rows of an itemset lie apart")
    options = parser.parse_args()
    catalog = make_catalog(options.items, options.clusters, options.noise, options.seed)
    rows = write(options.out, catalog, options.interactions, options.format, options.shuffled)
    print(f"{rows:,} rows in {options.out}")


if __name__ == "__main__":
    main()

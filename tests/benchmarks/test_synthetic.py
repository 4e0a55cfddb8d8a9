"""The generator of catalogs: the same anywhere, with the clusters and the popularity it plants."""

import numpy as np
import pytest

from benchmarks import synthetic
from itembed_gpu import pack_files, read_itemsets
from itembed_gpu.data import out_of_memory as spilling


@pytest.fixture(scope="module")
def catalog():
    return synthetic.make_catalog(num_item=500, num_cluster=20, noise=0.2, seed=3)


def test_a_shard_depends_on_the_seed_and_its_number_alone(catalog):
    items, offsets = catalog.shard(5, 2000)
    again = synthetic.make_catalog(num_item=500, num_cluster=20, noise=0.2, seed=3).shard(5, 2000)
    assert np.array_equal(items, again[0])
    assert np.array_equal(offsets, again[1])
    for other in (catalog.shard(6, 2000), synthetic.make_catalog(500, 20, 0.2, 4).shard(5, 2000)):
        assert len(items) != len(other[0]) or not np.array_equal(items, other[0])


def test_itemsets_are_of_one_cluster_but_for_the_noise(catalog):
    items, offsets = catalog.shard(0, 20_000)
    lengths = np.diff(offsets)
    assert lengths.min() >= synthetic.LEAST_LENGTH
    assert lengths.max() <= synthetic.MOST_LENGTH
    assert lengths.mean() == pytest.approx(synthetic.MEAN_LENGTH + 1, rel=0.05)
    clusters = catalog.clusters[items]
    starts = offsets[:-1]
    same = clusters[starts] == clusters[starts + 1]
    # Both from the cluster, or one by chance.
    assert 0.8**2 < same.mean() < 0.8**2 + 0.2


def test_popularity_is_zipfs(catalog):
    items = np.concatenate([catalog.shard(n, 20_000)[0] for n in range(3)])
    counts = np.sort(np.bincount(items, minlength=500))[::-1]
    expected = 1 / (np.arange(500) + 10.0)
    share, expected = counts / counts.sum(), expected / expected.sum()
    # Clusters are chosen by the roots of their masses, which flattens it a little.
    assert 0.5 < share[:20].sum() / expected[:20].sum() < 1.1
    assert counts[-1] > 0


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_files_of_shards_are_packed_in_memory_and_on_the_disk_alike(
    tmp_path, catalog, monkeypatch, format
):
    monkeypatch.setattr(synthetic, "SHARD", 300)
    rows = synthetic.write(tmp_path / "rows", catalog, 8_000, format, shuffled=True)
    assert len(list((tmp_path / "rows").iterdir())) == 3
    packed = read_itemsets(tmp_path / "rows", itemset="basket", item="item")
    assert packed.num_item == rows
    monkeypatch.setattr(spilling, "_fits", lambda *_: False)
    spilled = pack_files(tmp_path / "rows", tmp_path / "packed", memory=1 << 20)
    assert spilled.labels == packed.labels
    assert np.array_equal(spilled.indices, packed.indices)
    assert np.array_equal(spilled.offsets, packed.offsets)

"""Questions that workers of Dask answer, each from the shards that it opens."""

import os
import signal
import warnings

import numpy as np
import pytest

from itembed_gpu import DataError, DeviceError, Embeddings, InputError, Item2Vec, top_n
from itembed_gpu.disk.embeddings import shard_bounds, write_index, write_shard
from itembed_gpu.metrics import evaluate, leave_one_out
from itembed_gpu.ranking import parts

TABLES = "vectors", "context"

distributed = pytest.importorskip("distributed", reason='it comes with the extra "cluster"')


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def emb():
    rng = np.random.default_rng(0)
    vectors, context = rng.integers(-2, 3, (2, 300, 4))  # which tie often
    return Embeddings(range(300), vectors, context=context, counts=rng.integers(1, 9, 300))


@pytest.fixture
def remote(client, emb, tmp_path):
    emb.save(tmp_path, shards=5)
    return Embeddings.load(tmp_path, client=client)


def test_answers_are_those_from_memory(emb, remote, monkeypatch):
    assert repr(remote.vectors) == "PartedTable(300 x 4 in 5 parts, ranked by workers)"
    assert remote.similar([1, 299], 80, exclude=7) == emb.similar([1, 299], 80, exclude=7)
    assert remote.most_similar([1, 2], 3) == emb.most_similar([1, 2], 3)
    np.testing.assert_array_equal(remote[[250, 3, 70]], emb[[250, 3, 70]])
    monkeypatch.setattr(parts, "TASK_VALUES", 4 * 4)  # four queries a task
    exclude = np.arange(18), np.arange(0, 19, 2)
    found, expected = (
        top_n(emb.vectors[:9], table, 70, exclude=exclude, bias=emb.counts)
        for table in (remote.context, emb.context)
    )
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_an_evaluation_is_that_from_memory(emb, remote):
    itemsets = np.arange(300, dtype=np.int32), np.arange(0, 301, 10)
    split = leave_one_out(*itemsets, share=0.5)
    found, expected = (
        evaluate(emb.vectors[: split.num_query], table, split, k=50).as_dict()
        for table in (remote.context, emb.context)
    )
    assert found == expected


@pytest.mark.parametrize(
    "how", [{"loss": "softmax", "similarity": "cosine"}, {"pooling": "mean"}], ids=["each", "mean"]
)
def test_a_model_answers_as_from_memory(client, tmp_path, how):
    rng = np.random.default_rng(0)
    baskets = [rng.choice(40, 5, replace=False).tolist() for _ in range(60)]
    model = Item2Vec(8, epochs=1, seed=1, device="cpu", workers=1, **how).fit(baskets)
    model.save(tmp_path, shards=3)
    remote = Item2Vec.load(tmp_path, client=client, device="cpu")
    for ask in (
        lambda m: m.recommend(baskets[:20], 6),
        lambda m: m.recommend(["unknown"], 6),
        lambda m: m.similar_items(m.labels_[:3], 6),
    ):
        (labels, scores), (found, others) = ask(model), ask(remote)
        np.testing.assert_array_equal(found, labels)
        np.testing.assert_allclose(others, scores, rtol=1e-5)
    assert remote.score(baskets) == model.score(baskets)
    np.testing.assert_array_equal(remote.transform(baskets), model.transform(baskets))
    for ask in (lambda m: m.transform(baskets, fold_in=1), lambda m: m.log_partition(baskets)):
        with pytest.raises(InputError, match="load the model without mmap and client"):
            ask(remote)


def test_workers_write_the_shards_of_rows_that_they_have(client, emb, tmp_path):
    order = np.random.default_rng(1).permutation(300)
    parts = [
        (rows, {name: client.submit(getattr(emb, name).__getitem__, rows) for name in TABLES})
        for rows in np.array_split(order, 3)
    ]
    bounds = shard_bounds(300, 4)
    written = client.gather(
        [client.submit(write_shard, tmp_path, i, tuple(bounds[i : i + 2]), parts) for i in range(4)]
    )
    write_index(tmp_path, emb.labels, written, {"counts": emb.counts}, {})
    found = Embeddings.load(tmp_path)
    for name in (*TABLES, "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(emb, name))


def test_a_worker_that_dies_is_done_without(client, emb, remote):
    first = min(client.run(os.getpid).values())
    marker = remote.vectors.apply(_Killer(first, signal.SIGKILL))
    found = top_n(emb.vectors[:3], marker, 9)
    np.testing.assert_array_equal(found[0], top_n(emb.vectors[:3], emb.vectors, 9)[0])
    assert first not in client.run(os.getpid).values()


class _Killer:
    """A function of rows that ends the process of this number."""

    def __init__(self, pid, number):
        self.pid, self.number = pid, number

    def __call__(self, rows):
        if os.getpid() == self.pid:
            os.kill(self.pid, self.number)
        return rows


def test_a_shard_that_is_gone_is_named(remote, tmp_path):
    (path,) = tmp_path.glob("vectors.3-*")
    path.unlink()
    with pytest.raises(DataError, match=f"worker tcp://.*{path.name}: cannot be read"):
        remote.similar(1)


def test_what_is_no_client_is_refused(tmp_path, emb):
    emb.save(tmp_path)
    for wrong in ("tcp://127.0.0.1:1", 3):
        with pytest.raises(InputError, match=r"client is .*; pass a distributed.Client"):
            Embeddings.load(tmp_path, client=wrong)


def test_a_cluster_without_workers_is_refused(emb, tmp_path):
    emb.save(tmp_path)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as empty,
        pytest.raises(InputError, match="client has no workers; start some"),
    ):
        Embeddings.load(tmp_path, client=empty)


def test_a_scheduler_that_is_gone_is_an_error_in_a_line(emb, tmp_path):
    emb.save(tmp_path, shards=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0")
        client = distributed.Client(cluster)
        remote = Embeddings.load(tmp_path, client=client)
        client.close()
        cluster.close()
        with pytest.raises(DeviceError, match="client: its scheduler is lost, or it was closed"):
            remote.similar(1)

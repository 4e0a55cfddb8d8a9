"""DeepWalk: random walks on a graph are sequences, whose windows tell which nodes are near."""

import numpy as np
import pytest

from itembed_gpu import Item2Vec

networkx = pytest.importorskip(
    "networkx", reason="networkx is not installed: python -m pip install networkx"
)


def test_walks_tell_the_two_sides_of_the_karate_club_apart():
    graph = networkx.karate_club_graph()
    walks = networkx.generate_random_paths(graph, 340, path_length=19, weight=None, seed=1)
    model = Item2Vec(
        window=3, preset="neighbours", vector_size=16, epochs=5, seed=1, device="cpu", workers=1
    )
    model.fit([list(map(int, walk)) for walk in walks])
    clubs = networkx.get_node_attributes(graph, "club")
    assert sorted(model.labels_) == sorted(graph)
    labels, _ = model.similar_items(0, n=5)
    same = [
        [clubs[other] == clubs[node] for other in model.similar_items(node, n=3)[0]]
        for node in graph
    ]
    assert np.mean(same) > 0.85
    assert set(labels) <= {node for node in graph if clubs[node] == clubs[0]}

"""What PyTorch is timed at is the work that ours does."""

import json

import numpy as np
import pytest
from formula import draw_epoch, make_task
from samples import slots_of

from benchmarks import torch_peers

torch = pytest.importorskip("torch")

RATE = 0.1


def batch_of(task):
    """Left rows and targets of an epoch, in the order of training."""
    drawn = draw_epoch(task)
    order = slots_of(task.seed, 0, 0, len(drawn.rows)).astype(np.int64)
    left = task.items[drawn.left[order]].astype(np.int64)
    targets = np.column_stack([drawn.rows, drawn.negatives])[order]
    return torch.from_numpy(left), torch.from_numpy(targets)


def test_a_pair_a_batch_gives_what_ours_gives():
    task = make_task("unsupervised", device="cpu")
    syn0, syn1 = (torch.from_numpy(table.copy()) for table in (task.syn0, task.syn1))
    for left, targets in zip(*(part.split(1) for part in batch_of(task)), strict=True):
        torch_peers.step_by_hand(syn0, syn1, left, targets, RATE)
    before = task.syn0.copy()
    task.do_batches(np.full(len(task), RATE))
    task.synchronize()
    assert np.abs(task.syn0 - before).max() > 0.1
    np.testing.assert_allclose(syn0, task.syn0, atol=1e-5)
    np.testing.assert_allclose(syn1, task.syn1, atol=1e-5)


@pytest.mark.parametrize("way", torch_peers.WAYS)
def test_all_ways_change_the_same_rows(way):
    if "compile" in way:
        pytest.skip("it compiles for most of a minute")
    left, targets = (part[:20] for part in batch_of(make_task("unsupervised", device="cpu")))
    start = torch.rand(2, 40, 3, generator=torch.manual_seed(0)) - 0.5
    expected, found = start.clone(), start.clone()
    torch_peers.step_by_hand(*expected, left, targets, torch_peers.RATE)
    torch_peers.WAYS[way](*found)(*found, left, targets, torch_peers.RATE)
    if "Adam" in way:  # the first step of each number is as long as the rate
        steps = expected - start
        expected = start + torch_peers.RATE * torch.sign(steps)
        expected = torch.where((steps != 0) & (steps.abs() < 1e-4), found, expected)  # unclear
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found != start).any(dim=(1, 2)).all()


def test_pairs_are_of_an_itemset_and_not_of_one_place():
    items = torch.arange(60)
    left, targets = torch_peers.draw_batch(items, 10, 60, 5_000, 5)
    right = targets[:, 0]
    assert (left // 10 == right // 10).all()
    assert (left != right).all()
    assert targets.shape == (5_000, 6)
    counts = torch.bincount((right - left) % 10, minlength=10)
    assert counts[1:].min() > 400  # 556 on average
    assert torch.bincount(targets[:, 1:].flatten(), minlength=60).min() > 300


def test_a_way_that_fails_says_so_and_the_others_are_timed(monkeypatch, capsys):
    def fail(syn0, syn1):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch_peers, "WAYS", {"broken": fail, "by hand": torch_peers.by_hand})
    sizes = ["--labels=50", "--items=500", "--dim=4", "--batch=20", "--seconds=0.001"]
    torch_peers.main(["--device=cpu", *sizes])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["way"], row["zipf"], "speed" in row) for row in rows] == [
        ("broken", True, False), ("by hand", True, True),
        ("broken", False, False), ("by hand", False, True),
    ]  # fmt: skip
    assert rows[0]["failed"] == "RuntimeError: no compiler"
    assert 0 < rows[1]["low"] <= rows[1]["speed"] <= rows[1]["high"]

"""Parts on a card and the model of many, shrunken; and the model's right values."""

import numpy as np
import pytest

from benchmarks import scale, scale_card, scale_model
from benchmarks.scale_model import (
    COPIES,
    DISK,
    GIGABIT,
    NETWORK,
    NVLINK,
    STARTS,
    TRAINING,
    Catalog,
    Workers,
)

LARGE = Catalog(100_000_000, 128, 100)


def run(folder, *arguments):
    scale.main(["--out", str(folder), "--epochs", "1", "--repeat", "1", "--dim", "4", *arguments])
    return (folder / "scale.md").read_text(encoding="utf-8")


# --- card


def test_parts_on_a_device(tmp_path):
    text = run(tmp_path, "--parts", "card", "--device", "cpu", "--card-items", "1000")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    names = "tables", "in the card's memory", "4 parts, listed by the host"
    assert [row.split(" | ")[0] for row in rows] == [
        *(f"| {name}" for name in names), "| 4 parts, listed by the card",
    ]  # fmt: skip
    # 2 tables of 16 kB, half of which are allowed.
    assert "tables of 3.2e-05 GB, where 1.6e-05 GB are allowed" in text


def test_where_there_is_no_card_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(scale_card, "why_not", lambda device: "no driver")
    assert "Not measured, as there is no card here: no driver." in run(tmp_path, "--parts", "card")


def test_bytes_of_parts_that_move_are_counted():
    from itembed_gpu.backends.cpu.task import CpuBackend
    from itembed_gpu.objective.table import Table

    part = Table("syn0", np.zeros((3, 4), np.float32), accumulator=np.zeros(3, np.float32))
    with scale_card.moved(CpuBackend) as num_byte:
        CpuBackend().fetch(CpuBackend().bring(part))
    assert num_byte == [60, 60]
    CpuBackend().bring(part)
    assert len(num_byte) == 2


# --- workers


def test_a_table_of_workers_is_read_back(tmp_path, monkeypatch):
    """By parts and workers: whoever trains, it takes no processes to see what is made of it."""
    speeds = {(1, 0): 2e6, (4, 0): 3e6, (4, 1): 2.7e6, (4, 2): 5e6}
    monkeypatch.setattr(scale, "train_by", lambda size, options, *way: speeds[way])
    text = run(tmp_path, "--parts", "workers", "--items", "400", "--steps", "2")
    (row,) = scale_model.read_measured(text.splitlines())
    assert row == {
        "a visit takes, seconds": 1.2,
        "one process, million pairs/s": 2.0,
        "in parts over that": 1.5,
        "one worker over parts without Dask": 0.9,
        "two workers over one process": 2.5,
    }
    assert "(>= 0.95 ✗)" in text
    assert "(>= 1.7 ✓)" in text


# --- model


@pytest.mark.parametrize(
    ("link", "seconds"), [(NVLINK, 0.128), (200 * GIGABIT, 0.256), (10 * GIGABIT, 5.12)]
)
def test_a_part_of_a_large_catalog_travels(link, seconds):
    assert 2 * LARGE.table_bytes == 102.4e9
    assert LARGE.part_bytes(8) == 6.4e9
    assert scale_model.travel_seconds(LARGE.part_bytes(8), link) == pytest.approx(seconds)


WORKERS = Workers("four", 4, speed=1e8, network=1e9, copies=8e9, disk=5e8, memory=1e9, start=0.5)


def test_an_epoch_takes_what_its_steps_take():
    catalog = Catalog(1_000_000, 125, 40)  # tables of 500 MB
    epoch = scale_model.model_epoch(catalog, WORKERS)
    # Two for each worker; 40 pairs an item in 8 parts are fewer than a visit bears.
    assert epoch.num_part == 8
    assert epoch.num_step == 8 * 8 // 4
    assert epoch.bytes_per_step == 62.5e6
    assert epoch.seconds_of == {
        TRAINING: pytest.approx(40e6 / 4e8),
        NETWORK: pytest.approx(16 * 0.0625 + 0.75 * 8 * 40e6 / 4 / 1e9),
        COPIES: pytest.approx(16 * 4 * 62.5e6 / 8e9),
        DISK: pytest.approx(2 * 2 * 500e6 / 4 / 5e8),
        STARTS: 8.0,
    }
    assert epoch.seconds == pytest.approx(1.06 + 1 + 8)
    assert epoch.binds == STARTS


def test_parts_are_as_many_as_memory_asks_for():
    catalog = Catalog(1_000_000, 125, 40)
    # Four of them at hand.
    for memory, num_part in ((1e9, 8), (250e6, 8), (249e6, 16), (125e6, 16), (124e6, 32)):
        workers = WORKERS._replace(memory=memory)
        assert scale_model.choose_parts(catalog, workers) == num_part
    alone = WORKERS._replace(number=1)
    assert scale_model.choose_parts(catalog, alone) == 1
    assert scale_model.model_epoch(catalog, alone).seconds == pytest.approx(0.4)


@pytest.mark.parametrize(("speed", "expected"), [(10e9, 0.3125), (25e9, 0.78125), (50e9, 1)])
def test_a_row_must_be_trained_as_long_as_others_travel(speed, expected):
    # 8 pairs take 16 ns, and 512 bytes 20 ns at 25 GB/s.
    found = scale_model.in_parts_over_whole(128, 8, 500e6, speed)
    assert found == pytest.approx(expected)


def test_it_is_told_from_how_many_items_on_memory_binds():
    # 8 parts are enough for four workers; 4 of a table of 500 bytes an item are at hand.
    workers, catalog = WORKERS._replace(memory=250e6), Catalog(1, 125, 40)
    sizes = range(100_000, 5_000_000, 100_000)
    assert scale_model.memory_binds(sizes, catalog, workers) == 1_100_000
    assert scale_model.memory_binds(sizes, catalog, WORKERS._replace(memory=np.inf)) is None


def test_more_pairs_are_trained_in_more_sweeps():
    # 8 pairs of an item in a visit, at most.
    many, few = (
        scale_model.model_epoch(Catalog(1_000_000, 125, pairs), WORKERS) for pairs in (640, 64)
    )
    assert many.num_step == 10 * few.num_step


def test_it_is_told_from_how_many_items_on_something_else_binds():
    workers = WORKERS._replace(network=np.inf, copies=np.inf, disk=np.inf)
    # 16 steps of half a second, and 8 of training at 400 million pairs a second.
    found = scale_model.changes(range(10**6, 10**8, 10**6), Catalog(1, 1, 40), workers)
    assert found == [(1_000_000, STARTS), (80_000_000, TRAINING)]


def test_the_model_of_two_workers_is_theirs():
    row = {
        "a visit takes, seconds": 0.5,
        "one process, million pairs/s": 1.0,
        "in parts over that": 1.0,
        "two workers over one process": 1.6,
    }
    free = {NETWORK: np.inf, COPIES: np.inf, DISK: np.inf}
    catalog = Catalog(100_000, 128, 0)
    modelled, measured = scale_model.check_against(row, free, catalog, 4)
    # Eight visits of half a second each, and what it takes to start them.
    assert modelled == pytest.approx(8 / (4 + 8 * scale_model.SECONDS_PER_VISIT))
    assert measured == 1.6
    slow = free | {NETWORK: 1e6}
    modelled, _ = scale_model.check_against(row, slow, catalog, 4)
    # Eight parts of 12.8 MB, and half of 8 bytes a pair of half of them.
    network = (8 * 12.8e6 + 8 * 8e6 / 4) / 1e6
    assert modelled == pytest.approx(8 / (network + 8 * scale_model.SECONDS_PER_VISIT))


def test_the_model_is_shown(tmp_path):
    text = run(tmp_path, "--parts", "model")
    assert text.count("64 nodes of a card") == 3
    assert "Two workers over one process" not in text  # which were not measured
    assert (tmp_path / "scale.png").stat().st_size > 10_000

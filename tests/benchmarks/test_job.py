"""The whole job: its rows, how its time is divided, and what is held against what."""

import argparse

import numpy as np
import pytest
from samples import random_itemsets, random_tables

from benchmarks import ROOT, job
from itembed_gpu import UnsupervisedTask
from itembed_gpu.backends.cuda.task import CudaTask

TOLD = {
    "looked": 101.0, "epochs": 6.0, "kernels": 4.0, "pairs": 12,
    "seconds": {"reading": 2.0, "training": 8.0, "saving": 1.5},
}  # fmt: skip


def test_seconds_are_divided_into_phases_that_add_up():
    run = job.split(100.0, 14.0, TOLD)
    assert run.phases == {
        "start": 1.0, "reading": 2.0, "around epochs": 2.0, "epochs": 2.0, "kernels": 4.0,
        "saving": 1.5, "end": 1.5,
    }  # fmt: skip
    assert sum(run.phases.values()) == run.total == 14.0
    assert tuple(run.phases) == job.PHASES
    # A version that tells neither.
    run = job.split(100.0, 14.0, TOLD | {"epochs": None, "kernels": None})
    assert (run.phases["around epochs"], run.phases["epochs"], run.phases["kernels"]) == (8, 0, 0)


def test_this_checkout_is_held_against_the_other_and_its_training_against_the_card():
    new = job.split(100.0, 14.0, TOLD)
    old = job.split(100.0, 28.0, TOLD)
    found = {"this checkout": new, "the other": old}
    lines = job.verdicts(found, judged=True)
    assert [line[1:] for line in lines] == [
        ("0.500", "<= 0.5", "met"), ("2.000", "<= 1.3", "MISSED"),
    ]  # fmt: skip
    assert {line[3] for line in job.verdicts(found, judged=False)} == {"not judged"}
    # Without another version, or without a card, there is nothing to compare with.
    on_cpu = job.split(100.0, 14.0, TOLD | {"kernels": None})
    assert {line[3] for line in job.verdicts({"this checkout": on_cpu}, True)} == {"left out"}
    broken = {"this checkout": new, "the other": "no room"}
    assert [line[3] for line in job.verdicts(broken, True)] == ["failed", "MISSED"]
    text = job.make_report(broken, "Here.", True)
    assert "the other failed: no room" in text
    assert "| **the whole job** | 14.00 |" in text


def test_rows_are_written_once_and_sorted_by_basket(tmp_path, monkeypatch):
    polars = pytest.importorskip("polars")
    monkeypatch.setattr(job, "SHARD", 40)
    path = job.write_rows(tmp_path, 100, 30)
    rows = polars.read_parquet(path)
    assert rows["basket"].to_list() == [row // 10 for row in range(100)]
    assert rows["item"].to_list() == [f"item-{i:07}" for i in job.zipf_items(30, 100)]
    assert len(list(path.iterdir())) == 3
    (path / "part-00002.parquet").unlink()
    assert job.write_rows(tmp_path, 100, 30) == path
    assert len(list(path.iterdir())) == 2
    assert job.write_rows(tmp_path, 50, 30) != path


def test_kernel_seconds_of_all_tasks_are_added_up(emulated, monkeypatch):
    names = {"seen": {"kernels": 0.0}}
    exec(job.COUNTER, names)
    monkeypatch.setattr(CudaTask, "kernel_seconds", names["Counted"](), raising=False)
    seconds = []
    for seed in (1, 2):
        tables = random_tables(8, 8)
        task = UnsupervisedTask(*random_itemsets(8, 20, 2, 4, seed), *tables, device="cuda")
        task.do_batches(np.full(len(task), 0.1))
        task.synchronize()
        seconds.append(task._bound.kernel_seconds)
    assert min(seconds) > 0
    assert names["seen"]["kernels"] == pytest.approx(sum(seconds))


def test_a_run_is_the_command_in_a_process_of_its_own(tmp_path, monkeypatch):
    pytest.importorskip("polars")
    pytest.importorskip("click")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # that it runs: no time is looked at
    source = job.write_rows(tmp_path, 100, 20)
    options = argparse.Namespace(device="cpu", dim=4, epochs=2)
    run = job.run_job(ROOT, source, options, tmp_path / "cache")
    assert (run.pairs, run.kernels) == (200, None)
    assert run.phases["epochs"] > 0
    assert run.phases["start"] > 0.1
    assert sum(run.phases.values()) == pytest.approx(run.total, abs=0.05)


def test_a_version_that_fails_loses_no_other(tmp_path, monkeypatch):
    pytest.importorskip("polars")

    def run(checkout, *given):
        if checkout == ROOT:
            return job.split(100.0, 14.0, TOLD)
        raise RuntimeError("it holds no itembed_gpu")

    monkeypatch.setattr(job, "run_job", run)
    with pytest.raises(SystemExit) as error:
        job.main(["--device=cpu", "--small", f"--out={tmp_path}", f"--against={tmp_path}"])
    assert error.value.code == 1
    text = (tmp_path / "job.md").read_text(encoding="utf-8")
    assert "the other failed: RuntimeError: it holds no itembed_gpu" in text
    assert "| kernels | 4.00 |" in text
    assert "20,000 rows, 500 labels, D=16, 2 epochs, on cpu" in text
    assert (tmp_path / "job.png").read_bytes().startswith(b"\x89PNG")


def test_the_run_of_the_median_time_is_shown(monkeypatch):
    times = iter([50.0, 9.0, 30.0, 20.0])

    def run(*given):
        return job.split(100.0, next(times), TOLD)

    monkeypatch.setattr(job, "run_job", run)
    options = argparse.Namespace(repeat=3)
    found = job.run_in_turns({"this checkout": ROOT}, ROOT, options, ROOT)
    assert found["this checkout"].total == 20.0

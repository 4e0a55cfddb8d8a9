"""The benchmarks run, shrunken, and their tables are whole. No timing decides."""

import csv
import dataclasses
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from itembed_gpu import cuda, kernels

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
import quality  # noqa: E402

TINY = quality.Problem(40, 60, 2, hot=0.1, dim=4)


def read_rows(folder):
    with open(folder / "gpu.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tiny_oracle(tmp_path, monkeypatch):
    """One tiny problem, and its stored losses."""
    path = tmp_path / "oracle.json"
    monkeypatch.setattr(quality, "PROBLEMS", {"tiny": TINY})
    monkeypatch.setattr(quality, "ORACLE", path)
    quality.write_oracle(path, {"tiny": quality.solve(TINY)})
    return path


# --- gpu.py -----------------------------------------------------------------


def expected_rows(scale):
    """What the first column holds, in its order."""
    judged = list(gpu.both(scale.judged))
    small_task = f"train: {scale.small_task[1]:,} interactions, 10 epochs"
    return [
        "copy bandwidth, TB/s",
        *(f"bytes/s over copy: {cell}" for cell in judged),
        *(
            f"speed over unshared: negative_sharing={scale.judged_sharing}, {cell}"
            for cell in gpu.both((scale.default,))
        ),
        *(
            f"held-out loss against sequential: {name}{shared}"
            for shared in ("", ", negative_sharing=16")
            for name in quality.PROBLEMS
        ),
        f"wall over kernel time of {small_task}, second call",
        f"wall over kernel time of {small_task}, a new task",
        "local memory of default kernels, bytes a thread (spilled registers)",
        f"speed over itembed on one core of the host: {scale.default}",
        f"speed over the CPU backend, one thread: {scale.default}",
        f"speed over the CPU backend, all cores: {scale.default}",
        *(f"ns a pair: do_batches of {n} x 64 itemsets" for n in scale.calls),
        *(f"sweep: {cell}" for cell in gpu.one_at_a_time(scale) if cell not in judged),
        "copy bandwidth once more, TB/s",
    ]


def test_one_command_checks_everything_on_the_cpu_too(tmp_path, capsys):
    gpu.main(["--device", "cpu", "--small", "--out", str(tmp_path)])
    rows = read_rows(tmp_path)
    assert [row["what"] for row in rows] == expected_rows(gpu.SMALL_SCALE)
    verdicts = {row["what"]: row["verdict"] for row in rows}
    # That losses agree is for the run at full size to say: the CPU's threads race as well.
    assert set(verdicts.values()) <= {"", "met", "MISSED", "not judged", "left out"}
    judged = {what for what, verdict in verdicts.items() if verdict in ("met", "MISSED")}
    assert judged == {"held-out loss against sequential: 50 items"}
    for row in rows:
        assert "failed" not in row["measured"]
        assert row["value"] or row["verdict"] == "left out"
        assert not row["value"] or math.isfinite(float(row["value"]))
    cells = [row for row in rows if row["of_copy"]]
    assert len(cells) == 4 + 2 + 4
    assert all(float(row["pairs_per_second"]) > 0 for row in cells)

    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert text.count("\n|") == len(rows) + 2
    assert "Numba" in text
    assert "--device cpu --small" in text
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for row in rows:
        assert row["what"] in printed


@pytest.fixture
def emulated_gpu(emulated):
    """The emulated device, as the benchmark sees it."""
    return gpu.OnGpu("cuda")


def test_the_branch_for_gpus_runs_on_emulated_kernels(
    emulated_gpu, tiny_oracle, tmp_path, monkeypatch
):
    default = gpu.Cell(4, 50)
    scale = gpu.Scale(
        default=default,
        judged=(default,),
        num_pair=2_000,
        seconds=0.01,
        copy_bytes=1 << 16,
        problems=("tiny",),
        num_call=2,
        calls=(1, 2),
        reference_pairs=1_000,
        small_task=(30, 500),
        judge_speed=False,
    )
    monkeypatch.setattr(kernels, "DEFAULTS", [kernels.choose_instance(True, 4, 5, chip=90)])
    sweep = [
        dataclasses.replace(default, threads=1),
        dataclasses.replace(default, lossy=True),
    ]
    bench = gpu.benchmark(emulated_gpu, tmp_path, scale, sweep)
    rows = {row["what"]: row for row in read_rows(tmp_path)}
    failed = [row["measured"] for row in rows.values() if "failed" in row["measured"]]
    assert failed == []
    left_out = {what for what, row in rows.items() if row["verdict"] == "left out"}
    assert {what for what in left_out if "itembed on one core" not in what} == set()

    cell = rows[f"bytes/s over copy: {default}"]
    assert (cell["threads_per_pair"], cell["update"]) == ("1", "add_vector")
    assert int(cell["pairs_in_flight"]) > 0
    assert float(cell["pairs_per_second_kernel"]) >= float(cell["pairs_per_second"])
    assert rows[f"sweep: {sweep[1]}"]["update"] == "store"
    # Twice the loss before training would be a mistake of the benchmark, not of timing.
    assert float(rows["held-out loss against sequential: tiny"]["value"]) < 1
    assert float(rows[next(what for what in rows if "second call" in what)]["value"]) >= 1
    spilled = rows["local memory of default kernels, bytes a thread (spilled registers)"]
    assert (spilled["measured"], spilled["verdict"]) == ("0 of 1 kernels use any", "not judged")
    assert "cuda of Emulated" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert set(bench.speeds) >= {default, *sweep}


class NoDevice(gpu.OnCpu):
    """A device on which nothing works."""

    is_gpu = True

    def bandwidth(self, num_byte):
        raise MemoryError("no room")

    def option(self, cell):
        raise MemoryError("no room")


@pytest.fixture
def make_bench(tmp_path):
    report = gpu.Report(tmp_path, "A note.")

    def make(device=None, scale=gpu.SMALL_SCALE, deadline=math.inf):
        return gpu.Bench(device or gpu.OnCpu(), scale, report, deadline)

    yield make
    report.close()


def test_what_fails_is_a_row_and_the_rest_goes_on(make_bench, tmp_path):
    scale = dataclasses.replace(gpu.SMALL_SCALE, judge_speed=True)
    bench = make_bench(NoDevice(), scale)
    bench.row("bandwidth", bench.measure_bandwidth)
    bench.judged_speed_rows()
    rows = read_rows(tmp_path)
    assert [row["verdict"] for row in rows] == ["failed"] + ["MISSED"] * 6
    assert rows[1]["measured"] == "failed: MemoryError: no room"
    assert "0 of 6 targets met, 6 missed." in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_numbers_are_held_against_targets(make_bench):
    bench = make_bench()
    for value, target in (
        (0.9, gpu.Target(">=", 0.88)),
        (0.87, gpu.Target(">=", 0.88)),
        (math.nan, gpu.Target(">=", 0.88)),
        (math.nan, gpu.Target("<=", 0.01)),
        (0.0, gpu.Target("<=", 0)),
    ):
        bench.row("", lambda value=value: gpu.Measured(value, ""), target, judged=True)
    verdicts = [row.verdict for row in bench.report.rows]
    assert verdicts == ["met", "MISSED", "MISSED", "MISSED", "met"]
    assert bench.report.summary() == "2 of 5 targets met, 3 missed."


def test_when_time_is_up_the_rest_of_the_sweep_is_listed(make_bench, tmp_path):
    bench = make_bench(deadline=-math.inf)
    bench.sweep_rows(gpu.one_at_a_time(gpu.SMALL_SCALE))
    rows = read_rows(tmp_path)
    assert len(rows) == 4 + 12 + 2
    assert {row["verdict"] for row in rows} == {"skipped", "left out"}


def test_libraries_that_are_missing_are_said_to_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "itembed", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(gpu.Bench, "run", lambda self, sweep: self.host_rows())
    gpu.benchmark(gpu.OnCpu(), tmp_path, gpu.SMALL_SCALE)
    reference = read_rows(tmp_path)[0]
    assert reference["verdict"] == "left out"
    assert "itembed cannot be imported" in reference["measured"]
    assert "No picture was drawn" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_without_a_gpu_it_says_why(monkeypatch, capsys):
    def fail(index):
        raise cuda.DeviceError("there is none")

    monkeypatch.setattr(cuda, "find_chip", fail)
    with pytest.raises(SystemExit) as error:
        gpu.main([])
    assert error.value.code == 2
    assert "there is none" in capsys.readouterr().err


def test_the_sweep_and_its_targets_are_those_that_were_asked_for():
    scale = gpu.FULL_SCALE
    cells = [*gpu.both(scale.judged), *gpu.one_at_a_time(scale)]
    assert len(set(cells)) <= 80
    assert set(cells) <= set(gpu.all_combinations(scale))
    assert {cell.threads for cell in cells} == {None, 1, 2, 4, 8, 16, 32}
    assert {cell.sharing for cell in cells} == {1, 8, 16, 32}
    targets = {
        (cell.dim, cell.zipf): gpu.ratio_target(cell).limit for cell in gpu.both(scale.judged)
    }
    assert targets == {
        (64, True): 0.78, (64, False): 0.78, (128, True): 0.88, (128, False): 0.83,
        (256, True): 0.88, (256, False): 0.83, (512, True): 0.88, (512, False): 0.83,
    }  # fmt: skip


def test_items_have_zipf_shares_and_stay_in_the_catalog():
    num_item = 200_000
    items = gpu.draw_items(1_000, num_item, True)
    assert items.dtype == np.int32
    assert 0 <= items.min() <= items.max() < 1_000
    shares = np.sort(np.bincount(items, minlength=1_000))[::-1] / num_item
    assert shares[:20] == pytest.approx(1 / (7.485 * np.arange(1, 21)), rel=0.12)
    uniform = gpu.draw_items(1_000, num_item, False)
    assert np.bincount(uniform, minlength=1_000).min() > 100
    assert (items == gpu.draw_items(1_000, num_item, True)).all()


# --- quality.py -------------------------------------------------------------


def test_itemsets_are_of_one_cluster_but_for_noise_and_the_hot_item():
    problem = dataclasses.replace(TINY, num_label=200, hot=0.2)
    items = quality.draw_itemsets(problem, 5_000, 1)
    assert items.shape == (5_000, 5)
    assert (items == quality.draw_itemsets(problem, 5_000, 1)).all()
    assert (items != quality.draw_itemsets(problem, 5_000, 2)).any()
    shares = np.bincount(items.ravel(), minlength=200) / items.size
    assert shares.max() == pytest.approx(0.2 + 0.8 / 200, abs=0.01)
    members = np.random.default_rng(quality.MEMBERS_SEED).permutation(200)
    clusters = np.argsort(members) // quality.CLUSTER_SIZE
    hot = members[0]
    left, right = items[:, :2][(items[:, :2] != hot).all(axis=1)].T
    # Both are kept with probability 0.8 each, or meet by chance.
    assert np.mean(clusters[left] == clusters[right]) == pytest.approx(0.66, abs=0.04)


def test_held_out_loss_is_that_of_the_formula():
    syn0, syn1 = quality.new_tables(TINY)
    loss = quality.held_out_loss(TINY, 0 * syn0, syn1)
    assert loss == pytest.approx(6 * np.log(2))

    syn0 *= 30
    pairs = quality.held_out_pairs(TINY)
    negatives = np.random.default_rng(quality.NEGATIVES_SEED).integers(0, 40, (len(pairs), 5))
    positive = (syn0[pairs[:, 0]] * syn1[pairs[:, 1]]).sum(axis=1)
    negative = (syn0[pairs[:, 0], None] * syn1[negatives]).sum(axis=2)
    expected = np.log1p(np.exp(-positive)) + np.log1p(np.exp(negative)).sum(axis=1)
    assert quality.held_out_loss(TINY, syn0, syn1) == pytest.approx(expected.mean(), rel=1e-5)

    syn0[:] = np.nan
    assert math.isnan(quality.held_out_loss(TINY, syn0, syn1))


def test_training_a_problem_lowers_its_loss_and_repeats():
    problem = dataclasses.replace(TINY, num_itemset=600, num_epoch=10, learning_rate=0.1)
    loss = quality.train_problem(problem, num_threads=1)
    assert loss < 0.9 * quality.held_out_loss(problem, *quality.new_tables(problem))
    assert loss == quality.train_problem(problem, num_threads=1)


def test_a_stored_loss_belongs_to_its_settings(tiny_oracle, monkeypatch):
    loss = quality.stored_loss("tiny", TINY)
    assert 0 < loss < 5
    assert quality.stored_loss("tiny", TINY, sharing=16) > 0
    with pytest.raises(ValueError, match="other settings"):
        quality.stored_loss("tiny", dataclasses.replace(TINY, seed=4))
    with pytest.raises(ValueError, match="holds no loss"):
        quality.stored_loss("tiny", TINY, sharing=2)
    with pytest.raises(ValueError, match="holds no loss"):
        quality.stored_loss("other", TINY)
    with pytest.raises(ValueError, match=r"quality\.py"):
        quality.stored_loss("tiny", TINY, path=tiny_oracle.with_name("missing.json"))
    monkeypatch.setattr(quality, "checksum", lambda problem: 1)
    with pytest.raises(ValueError, match="draws other items"):
        quality.stored_loss("tiny", TINY)


def test_a_file_of_losses_is_written_whole_or_not_at_all(tiny_oracle):
    before = tiny_oracle.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        quality.write_oracle(tiny_oracle, {"tiny": {"loss": SimpleNamespace()}})
    assert tiny_oracle.read_text(encoding="utf-8") == before
    quality.write_oracle(tiny_oracle, {})
    assert json.loads(tiny_oracle.read_text(encoding="utf-8"))["problems"] == {}


@pytest.mark.parametrize("name", quality.PROBLEMS)
def test_the_stored_losses_are_up_to_date_and_have_clearly_fallen(name):
    problem = quality.PROBLEMS[name]
    for sharing in quality.SHARINGS:
        assert quality.stored_loss(name, problem, sharing) < 0.7 * 6 * np.log(2)

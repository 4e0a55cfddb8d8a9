"""The benchmarks run, shrunken, and their tables are whole. No timing decides."""

import contextlib
import csv
import dataclasses
import io
import json
import lzma
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import (
    ROOT,
    chunks,
    cpu,
    cpu_against,
    csv_fuzz,
    datasets,
    dense as softmax,
    glove,
    gpu,
    in_flight,
    oracle,
    ours,
    partition,
    peers,
    quality,
    scale,
)
from itembed_gpu.backends.cuda import chips, instances
from itembed_gpu.objective.pairs import NEIGHBOUR

TINY = oracle.Problem(40, 60, 2, hot=0.1, dim=4)


def read_rows(folder):
    with open(folder / "gpu.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tiny_oracle(tmp_path, monkeypatch):
    """One tiny problem, and its stored losses."""
    path = tmp_path / "oracle.json"
    monkeypatch.setattr(oracle, "PROBLEMS", {"tiny": TINY})
    monkeypatch.setattr(oracle, "ORACLE", path)
    oracle.write_oracle(path, {"tiny": oracle.solve(TINY)})
    return path


# --- gpu.py -----------------------------------------------------------------


def expected_rows(scale):
    """What the first column holds, in its order."""
    judged = list(gpu.both(scale.judged))
    small_task = f"train: {scale.small_task[1]:,} interactions, 10 epochs"
    return [
        "copy bandwidth, TB/s",
        *(f"bytes/s over copy: {cell}" for cell in judged),
        *(f"Zipf over uniform: {cell.settings}" for cell in scale.judged),
        *(f"bytes/s over copy: {cell}" for cell in gpu.both(scale.pooled)),
        *(
            f"speed over unshared: negative_sharing={scale.judged_sharing}, {cell}"
            for cell in gpu.both((scale.default,))
        ),
        *(
            f"Mpair/s on an H200{aim}: {cell}, negative_sharing={scale.judged_sharing}"
            for cell in gpu.both((scale.default,))
            for aim in ("", ", the aim")
        ),
        *(
            f"held-out loss against sequential: {name}{shared}"
            for shared in ("", ", negative_sharing=16")
            for name in oracle.PROBLEMS
        ),
        f"wall over kernel time of {small_task}, second call",
        f"wall over kernel time of {small_task}, a new task",
        "local memory of default kernels, bytes a thread (spilled registers)",
        *(f"ns a pair: do_batches of {n} x 64 itemsets" for n in scale.calls),
        f"wall over kernel time: do_batches of {scale.calls[0]} x 64 itemsets",
        *(
            f"speed over PyTorch{way}: {cell}"
            for cell in gpu.both((scale.default,))
            for way in ("'s fastest", *(f", {way}" for way in gpu.WAYS))
        ),
        f"speed over itembed on one core of the host: {scale.default}",
        f"speed over the CPU backend, one thread: {scale.default}",
        f"speed over the CPU backend, all cores: {scale.default}",
        *(
            f"chunks of {size:,} of {scale.in_chunks[0]:,} items over all at once"
            for size in scale.in_chunks[1]
        ),
        *(f"sweep: {cell}" for cell in gpu.one_at_a_time(scale) if cell not in judged),
        "copy bandwidth once more, TB/s",
    ]


@pytest.fixture
def torch_says(monkeypatch):
    """Have PyTorch say something, and exit with a code; it need not be there."""

    def say(*rows, code=0, last=""):
        def run(command, seconds, output, group):
            lines = [json.dumps({"torch": "2.13", **row}) for row in rows]
            output.write_text("\n".join(["a warning", *lines, last]))
            return code

        monkeypatch.setattr(gpu, "run_within", run)
        monkeypatch.setattr(gpu, "find_spec", lambda name: name)

    return say


def torch_row(way, speed, zipf=True):
    return {"way": way, "zipf": zipf, "speed": speed, "low": speed, "high": speed}


def test_one_command_checks_everything_on_the_cpu_too(tmp_path, capsys, torch_says):
    torch_says(*(torch_row(way, 1e6, zipf) for way in gpu.WAYS for zipf in (True, False)))
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
    assert len(cells) == 4 + 2 + 2 + 4
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
    emulated_gpu, tiny_oracle, tmp_path, monkeypatch, torch_says
):
    torch_says(*(torch_row(way, 1e3, zipf) for way in gpu.WAYS for zipf in (True, False)))
    default = gpu.Cell(4, 50)
    scale = gpu.Scale(
        default=default,
        judged=(default,),
        pooled=(dataclasses.replace(default, pooled=10),),
        in_chunks=(2_000, (1_000,)),
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
    monkeypatch.setattr(
        instances, "DEFAULTS", [instances.choose_instance(NEIGHBOUR, 4, 5, chip=90)]
    )
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
    for what in ("second call", "wall over kernel time: do_batches of 1 x 64"):
        assert float(rows[next(name for name in rows if what in name)]["value"]) >= 1
    spilled = rows["local memory of default kernels, bytes a thread (spilled registers)"]
    assert (spilled["measured"], spilled["verdict"]) == ("0 of 1 kernels use any", "not judged")
    assert "cuda of Emulated" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert set(bench.speeds) >= {default, *sweep}


class NoDevice(gpu.OnCpu):
    """A device on which nothing works."""

    is_gpu = True

    def bandwidth(self, num_byte):
        raise MemoryError("no room")

    def option(self, threads=None, lossy=False):
        raise MemoryError("no room")


@pytest.fixture
def make_bench(tmp_path):
    report = gpu.Report(tmp_path, "A note.")

    def make(device=None, scale=gpu.SMALL_SCALE, deadline=math.inf):
        return gpu.Bench(device or gpu.OnCpu(), scale, report, deadline)

    return make


def test_what_fails_is_a_row_and_the_rest_goes_on(make_bench, tmp_path):
    scale = dataclasses.replace(gpu.SMALL_SCALE, judge_speed=True)
    bench = make_bench(NoDevice(), scale)
    bench.row("bandwidth", None, bench.measure_bandwidth)
    bench.judged_speed_rows()
    rows = read_rows(tmp_path)
    verdicts = [row["verdict"] for row in rows]
    # Of a catalog of another size than a million items, Zipf over uniform has no target.
    assert verdicts == ["failed"] + 4 * ["MISSED"] + 2 * ["failed"] + 2 * ["MISSED"] + [
        *2 * ["failed"], *4 * ["MISSED"],
    ]  # fmt: skip
    assert rows[1]["measured"] == "failed: MemoryError: no room"
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "0 of 10 targets met, 10 missed." in text


def test_a_device_that_is_lost_loses_one_row_and_another_process_goes_on(
    tmp_path, monkeypatch, torch_says
):
    measured, executed = [], []

    def rows(self, sweep):
        for what in ("first", "second", "third"):
            self.row(what, None, self.measure, what)
        self.call_times[1] = 2.0

    def measure(self, what):
        measured.append(what)
        self.call_overheads[len(what)] = 1.5
        if what == "second":
            raise MemoryError("an illegal access")
        return gpu.Measured(1.0, what)

    monkeypatch.setattr(gpu.Bench, "run", rows)
    monkeypatch.setattr(gpu.Bench, "measure", measure, raising=False)
    monkeypatch.setattr(gpu.OnCpu, "is_lost", lambda self: True)
    monkeypatch.setattr(gpu.os, "execv", lambda path, words: executed.append(words))
    command = ["--device", "cpu", "--small", "--out", str(tmp_path)]
    gpu.main(command)
    assert executed == [[sys.executable, "-m", "benchmarks.gpu", *command, "--resume"]]
    assert [row["what"] for row in read_rows(tmp_path)] == ["first", "second"]

    seen = []
    monkeypatch.setattr(gpu, "plot", lambda bench, path: seen.append(bench))
    gpu.main([*command, "--resume"])
    assert measured == ["first", "second", "third"]
    rows = read_rows(tmp_path)
    assert [(row["what"], row["verdict"]) for row in rows] == [
        ("first", ""), ("second", "failed"), ("third", ""),
    ]  # fmt: skip
    assert seen[0].call_overheads == {5: 1.5, 6: 1.5}
    assert not (tmp_path / "gpu.state").exists()
    # What was done is done: another call begins anew.
    monkeypatch.setattr(gpu.OnCpu, "is_lost", lambda self: False)
    gpu.main([*command, "--resume"])
    assert measured == ["first", "second", "third"] * 2


def test_numbers_are_held_against_targets(make_bench):
    bench = make_bench()
    for value, target in (
        (0.9, gpu.Target(">=", 0.88)),
        (0.87, gpu.Target(">=", 0.88)),
        (math.nan, gpu.Target(">=", 0.88)),
        (math.nan, gpu.Target("<=", 0.01)),
        (0.0, gpu.Target("<=", 0)),
    ):
        bench.row(f"{value} {target}", target, gpu.Measured, value, "", judged=True)
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


def test_pairs_in_flight_have_a_line_each():
    rows = [
        {"dim": 64, "zipf": zipf, "in_flight": n, "speed": n * 1e6, "of_copy": 0.5}
        for n in (2_000, 1_000)
        for zipf in (False, True)
    ]
    lines = in_flight.make_report(rows[:-1], "Here.").splitlines()
    assert lines[-2:] == [
        "| 64 | 2,000 | 3.6 | 2,000, 0.500 | 2,000, 0.500 |",
        "| 64 | 1,000 | 1.8 | 1,000, 0.500 |  |",
    ]


def test_without_a_gpu_it_says_why(monkeypatch, capsys):
    def fail(index):
        raise chips.DeviceError("there is none")

    monkeypatch.setattr(chips, "find_chip", fail)
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
        (cell.dim, cell.num_label): [gpu.ratio_target(c).limit for c in gpu.both((cell,))]
        for cell in scale.judged
    }
    assert targets == {
        (64, 1_000_000): [0.82, 0.85], (64, 10_000_000): [0.78, 0.77],
        (128, 1_000_000): [0.85, 0.86], (128, 10_000_000): [0.84, 0.83],
        (256, 1_000_000): [0.84, 0.86], (512, 1_000_000): [0.87, 0.86],
    }  # fmt: skip
    assert [(cell.pooled, cell.num_negative) for cell in scale.pooled] == [(10, 20), (100, 20)]
    assert {gpu.ratio_target(cell).limit for cell in scale.pooled} == {0.75}


def test_bytes_of_a_pair_are_those_of_its_rows_and_accumulators():
    assert gpu.Cell(128, 9).floor == 7 * 128 * 4 * 2
    # 9 others of the itemset, the item and 20 negatives, each with a float beside its row.
    assert gpu.Cell(128, 9, pooled=10).floor == 30 * (128 * 4 + 4) * 2


def test_pooled_bags_are_trained_as_their_row_says(make_bench):
    bench = make_bench()
    cell = gpu.Cell(4, 50, pooled=10)
    task = bench.make_task(cell)
    options = task.options
    assert (options.pooling, options.optimizer, task.num_negative) == ("mean", "adagrad", 20)
    assert set(np.diff(task.offsets)) == {10}


def test_ours_is_compared_with_the_fastest_of_pytorch(make_bench, torch_says):
    bench, cell = make_bench(), gpu.SMALL_SCALE.default
    bench.speeds[cell] = gpu.Speed(8e6, 7e6, 9e6, None, 1)
    way, other, third = list(gpu.WAYS)[:3]
    torch_says(
        torch_row(way, 1e6), torch_row(other, 2e6), {"way": third, "zipf": True, "failed": "no"}
    )
    measured = bench.measure_torch(cell, None)
    assert measured.value == 4
    assert "8 over 2 (2 to 2) Mpair/s" in measured.text
    assert f"{other}, PyTorch 2.13" in measured.text
    assert bench.measure_torch(cell, way).value == 8
    with pytest.raises(RuntimeError, match=r"^no$"):
        bench.measure_torch(cell, third)


@pytest.mark.parametrize(
    ("code", "last", "reason"), [(None, "", "ended after"), (1, "Killed: no room", "no room")]
)
def test_pytorch_that_breaks_loses_its_own_rows_alone(make_bench, torch_says, code, last, reason):
    bench, cell = make_bench(), gpu.SMALL_SCALE.default
    bench.speeds[cell] = gpu.Speed(8e6, 7e6, 9e6, None, 1)
    way, other = list(gpu.WAYS)[:2]
    torch_says(torch_row(way, 1e6), code=code, last=last)
    assert bench.measure_torch(cell, None).value == 8
    with pytest.raises(RuntimeError, match=reason):
        bench.measure_torch(cell, other)


def test_without_pytorch_its_rows_are_left_out(make_bench, monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    bench = make_bench()
    bench.torch_rows()
    assert {row.verdict for row in bench.report.rows} == {"left out"}
    assert len(bench.report.rows) == 2 * (1 + len(gpu.WAYS))


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


# --- oracle.py --------------------------------------------------------------


def test_itemsets_are_of_one_cluster_but_for_noise_and_the_hot_item():
    problem = dataclasses.replace(TINY, num_label=200, hot=0.2)
    items = oracle.draw_itemsets(problem, 5_000, 1)
    assert items.shape == (5_000, 5)
    assert (items == oracle.draw_itemsets(problem, 5_000, 1)).all()
    assert (items != oracle.draw_itemsets(problem, 5_000, 2)).any()
    shares = np.bincount(items.ravel(), minlength=200) / items.size
    assert shares.max() == pytest.approx(0.2 + 0.8 / 200, abs=0.01)
    members = np.random.default_rng(oracle.MEMBERS_SEED).permutation(200)
    clusters = np.argsort(members) // oracle.CLUSTER_SIZE
    hot = members[0]
    left, right = items[:, :2][(items[:, :2] != hot).all(axis=1)].T
    # Both are kept with probability 0.8 each, or meet by chance.
    assert np.mean(clusters[left] == clusters[right]) == pytest.approx(0.66, abs=0.04)


def test_held_out_loss_is_that_of_the_formula():
    syn0, syn1 = oracle.new_tables(TINY)
    loss = oracle.held_out_loss(TINY, 0 * syn0, syn1)
    assert loss == pytest.approx(6 * np.log(2))

    syn0 *= 30
    pairs = oracle.held_out_pairs(TINY)
    negatives = np.random.default_rng(oracle.NEGATIVES_SEED).integers(0, 40, (len(pairs), 5))
    positive = (syn0[pairs[:, 0]] * syn1[pairs[:, 1]]).sum(axis=1)
    negative = (syn0[pairs[:, 0], None] * syn1[negatives]).sum(axis=2)
    expected = np.log1p(np.exp(-positive)) + np.log1p(np.exp(negative)).sum(axis=1)
    assert oracle.held_out_loss(TINY, syn0, syn1) == pytest.approx(expected.mean(), rel=1e-5)

    syn0[:] = np.nan
    assert math.isnan(oracle.held_out_loss(TINY, syn0, syn1))


def test_training_a_problem_lowers_its_loss_and_repeats():
    problem = dataclasses.replace(TINY, num_itemset=600, num_epoch=10, learning_rate=0.1)
    loss = oracle.train_problem(problem, num_threads=1)
    assert loss < 0.9 * oracle.held_out_loss(problem, *oracle.new_tables(problem))
    assert loss == oracle.train_problem(problem, num_threads=1)


def test_a_stored_loss_belongs_to_its_settings(tiny_oracle, monkeypatch):
    loss = oracle.stored_loss("tiny", TINY)
    assert 0 < loss < 5
    assert oracle.stored_loss("tiny", TINY, sharing=16) > 0
    with pytest.raises(ValueError, match="other settings"):
        oracle.stored_loss("tiny", dataclasses.replace(TINY, seed=4))
    with pytest.raises(ValueError, match="holds no loss"):
        oracle.stored_loss("tiny", TINY, sharing=2)
    with pytest.raises(ValueError, match="holds no loss"):
        oracle.stored_loss("other", TINY)
    with pytest.raises(ValueError, match=r"benchmarks\.oracle"):
        oracle.stored_loss("tiny", TINY, path=tiny_oracle.with_name("missing.json"))
    monkeypatch.setattr(oracle, "checksum", lambda problem: 1)
    with pytest.raises(ValueError, match="draws other items"):
        oracle.stored_loss("tiny", TINY)


def test_a_file_of_losses_is_written_whole_or_not_at_all(tiny_oracle):
    before = tiny_oracle.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        oracle.write_oracle(tiny_oracle, {"tiny": {"loss": SimpleNamespace()}})
    assert tiny_oracle.read_text(encoding="utf-8") == before
    oracle.write_oracle(tiny_oracle, {})
    assert json.loads(tiny_oracle.read_text(encoding="utf-8"))["problems"] == {}


@pytest.mark.parametrize("name", oracle.PROBLEMS)
def test_the_stored_losses_are_up_to_date_and_have_clearly_fallen(name):
    problem = oracle.PROBLEMS[name]
    for sharing in oracle.SHARINGS:
        assert oracle.stored_loss(name, problem, sharing) < 0.7 * 6 * np.log(2)


# --- datasets.py ------------------------------------------------------------


def rows_of(packed):
    return [row.tolist() for row in packed]


def test_online_retail_hides_one_item_of_each_later_basket(tmp_path):
    baskets = ["0 1 2", "3", "1 2", "0 3", "2 3 1", "4 0 3"]
    (tmp_path / "online_retail").mkdir()
    (tmp_path / "online_retail/items.tsv").write_text("A\ttea\nB\tpot\nC\tcup\nD\tjug\nE\tjar\n")
    with lzma.open(tmp_path / "online_retail/baskets.txt.xz", "wt") as file:
        file.write("\n".join(baskets) + "\n")
    data = datasets.online_retail(tmp_path)
    # Five baskets have two items, of which four are the first 80 %.
    assert rows_of(data.train) == [[0, 1, 2], [1, 2], [0, 3], [2, 3, 1]]
    assert data.labels == ["tea", "pot", "cup", "jug", "jar"]
    assert sorted(rows_of(data.history)[0] + rows_of(data.truth)[0]) == [0, 3, 4]
    assert data.truth.lengths.tolist() == [1]
    hidden = {datasets.online_retail(tmp_path, seed).truth[0][0] for seed in range(30)}
    assert hidden == {0, 3, 4}
    with pytest.raises(FileNotFoundError, match=r"train\.txt"):
        datasets.gowalla(tmp_path)


def test_a_basket_of_one_distinct_item_has_nothing_to_hide():
    history, truth = datasets.hide_one([[5, 5], [7, 6, 7]], seed=1)
    assert len(history) == len(truth) == 1
    assert sorted([*history[0], *truth[0]]) == [6, 7]


def test_gowalla_has_a_query_for_each_user_with_something_to_be_found(tmp_path):
    (tmp_path / "gowalla").mkdir()
    (tmp_path / "gowalla/train.txt").write_text("0 4 2\n1 0 1\n2 3 0\n")
    (tmp_path / "gowalla/test.txt").write_text("0 5\n1\n2 1 4\n")
    data = datasets.gowalla(tmp_path)
    assert rows_of(data.train) == [[4, 2], [0, 1], [3, 0]]
    assert rows_of(data.history) == [[4, 2], [3, 0]]
    assert rows_of(data.truth) == [[5], [1, 4]]
    assert data.users.tolist() == [0, 2]
    assert data.num_item == data.num_ranked == 6


def test_cooking_is_split_into_words_and_labels(tmp_path):
    (tmp_path / "cooking").mkdir()
    (tmp_path / "cooking/questions.txt").write_text(
        "__label__food-safety __label__eggs Can't I eat raw eggs?\n"
        "__label__oven Which (new) oven\n"
        "__label__stove Which stove, I ask\n"
    )
    data = datasets.cooking(tmp_path, num_train=2)
    words = [[data.features[i] for i in row] for row in data.train]
    assert words[0] == ["can", "'", "t", "i", "eat", "raw", "eggs", "?"]
    assert words[1] == ["which", "(", "new", ")", "oven"]
    # Words that did not train are left out of a query; labels are not.
    assert [data.features[i] for i in data.history[0]] == ["which", "i"]
    assert [[data.labels[i] for i in row] for row in data.train_labels] == [
        ["food-safety", "eggs"],
        ["oven"],
    ]
    assert [data.labels[i] for i in data.truth[0]] == ["stove"]
    assert data.masked is None


def test_bibtex_has_labels_before_features(tmp_path):
    (tmp_path / "bibtex").mkdir()
    (tmp_path / "bibtex/train.tsv").write_text("1 2\t0 7\n0\t3\n")
    (tmp_path / "bibtex/test.tsv").write_text("4\t1 8\n")
    data = datasets.bibtex(tmp_path)
    assert rows_of(data.train) == [[0, 7], [3]]
    assert rows_of(data.train_labels) == [[1, 2], [0]]
    assert (rows_of(data.history), rows_of(data.truth)) == ([[1, 8]], [[4]])
    assert (data.num_item, data.num_ranked) == (9, 5)


@pytest.fixture
def ranking():
    """Forty itemsets of two groups of six items, and the queries of ten more."""
    generator = np.random.default_rng(3)
    itemsets = [
        6 * (i % 2) + generator.choice(6, size=generator.integers(2, 6), replace=False)
        for i in range(50)
    ]
    history, truth = datasets.hide_one(itemsets[40:], 0)
    names = [str(i) for i in range(13)]  # one is never seen
    return datasets.Ranking("online_retail", datasets.pack(itemsets[:40]), history, truth, names)


def test_validation_splits_what_trains_and_nothing_else(ranking):
    part = datasets.validation(ranking)
    assert rows_of(part.train) == rows_of(ranking.train)[:36]
    together = [sorted([*a, *b]) for a, b in zip(part.history, part.truth, strict=True)]
    assert together == [sorted(row) for row in rows_of(ranking.train)[36:]]

    known = dataclasses.replace(ranking, users=np.arange(40))
    part = datasets.validation(known)
    whole = [[] for _ in range(40)]
    for user, history, truth in zip(part.users, part.history, part.truth, strict=True):
        assert len(truth) == 1
        assert history.tolist() == part.train[user].tolist()
        whole[user] = sorted([*history, *truth])
    for user, row in enumerate(rows_of(ranking.train)):
        assert whole[user] == (sorted(row) if len(row) >= 5 else [])


# --- peers.py ---------------------------------------------------------------


def all_scores(scorer, data):
    return scorer.scores(slice(0, len(data.history)))


def dense(packed, num_item):
    rows = np.zeros((len(packed), num_item))
    for i, row in enumerate(packed):
        rows[i, row] = 1
    return rows


def test_a_look_is_due_at_round_epochs_and_takes_no_time():
    now = iter(range(0, 1_000, 10))
    seen = []
    watch = peers.Watch(clock=lambda: next(now))  # each call is 10 s after the one before
    watch.seen = lambda seconds, scorers: (seen.append((seconds, scorers)), next(now))
    watch.restart()
    watch.look(3, lambda: pytest.fail("epoch 3 is not looked at"))
    watch.look(5, lambda: {"dot": 1})
    watch.look(10, lambda: {"dot": 2})
    assert seen == [(10, {"dot": 1}), (20, {"dot": 2})]
    assert watch.stop() == 30
    peers.Watch(seen=None).look(1, lambda: pytest.fail("nobody looks"))


def test_popularity_counts_what_trains(ranking):
    (scorer,) = peers.popularity(ranking, 0, peers.Watch()).values()
    expected = dense(ranking.train, 13).sum(axis=0)
    assert (all_scores(scorer, ranking) == expected).all()
    assert scorer.scores(slice(0, 9, 4)).shape == (3, 13)


@pytest.mark.parametrize("num_neighbour", [None, 13])
def test_nearest_neighbours_are_those_of_brute_force(ranking, num_neighbour, monkeypatch):
    pytest.importorskip("scipy")
    monkeypatch.setattr(peers, "CHUNK", 5)
    (scorer,) = peers.item_knn(ranking, 0, peers.Watch(), num_neighbour=num_neighbour).values()
    rows = dense(ranking.train, 13)
    norms = np.maximum(np.linalg.norm(rows, axis=0), 1)
    similar = rows.T @ rows / np.outer(norms, norms)
    np.fill_diagonal(similar, 0)
    expected = dense(ranking.history, 13) @ similar
    assert all_scores(scorer, ranking) == pytest.approx(expected, abs=1e-5)


def test_the_nearest_neighbours_alone_are_kept():
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.csr_matrix([[0.1, 0.0, 0.4, 0.3], [0.0, 0.2, 0.0, 0.0], [0.9, 0.8, 0.7, 1.0]])
    kept = peers.keep_largest(rows, 2).toarray()
    assert kept.tolist() == [[0, 0, 0.4, 0.3], [0, 0.2, 0, 0], [0.9, 0, 0, 1.0]]


def test_ease_is_the_best_linear_model_without_a_diagonal(ranking):
    pytest.importorskip("scipy")
    (scorer,) = peers.ease(ranking, 0, peers.Watch(), l2=3.0).values()
    rows = dense(ranking.train, 13)
    weights = np.zeros((13, 13))
    for item in range(13):  # ridge regression of each item on all others
        others = np.delete(np.arange(13), item)
        gram = rows[:, others].T @ rows[:, others] + 3.0 * np.eye(12)
        weights[others, item] = np.linalg.solve(gram, rows[:, others].T @ rows[:, item])
    expected = dense(ranking.history, 13) @ weights
    assert all_scores(scorer, ranking) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(peers.LeftOut, match="13 items"):
        peers.ease(ranking, 0, peers.Watch(), max_item=12)


def test_both_ways_to_read_factors(ranking):
    pytest.importorskip("scipy")
    left, right = np.random.default_rng(0).normal(size=(2, 13, 4)).astype(np.float32)
    scorers = peers.read_both_ways(ranking, left, right)
    mean = left[ranking.history[0]].mean(axis=0)
    assert scorers["dot"].scores(slice(0, 1))[0] == pytest.approx(right @ mean, abs=1e-5)
    cosine = left @ mean / np.linalg.norm(left, axis=1)
    assert scorers["cosine"].scores(slice(0, 1))[0] == pytest.approx(cosine, abs=1e-5)


def test_items_of_a_query_weigh_by_their_counts(ranking):
    pytest.importorskip("scipy")
    left, right = np.random.default_rng(0).normal(size=(2, 13, 4)).astype(np.float32)
    scorer = ours.weighted(ranking, left, right, popularity=-0.2, history_power=-0.5)
    counts = np.maximum(dense(ranking.train, 13).sum(axis=0), 1)
    items = ranking.history[2]
    mean = np.average(left[items], axis=0, weights=counts[items] ** -0.5)
    expected = right @ mean - 0.2 * np.log(counts)
    assert scorer.scores(slice(2, 3))[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["items", "itemsets"])
def test_scores_of_models_are_added(ranking, kind):
    pytest.importorskip("scipy")
    users = np.arange(len(ranking.truth))[::-1] % len(ranking.train)
    data = dataclasses.replace(ranking, users=users)
    settings = {"dim": 3, "num_epoch": 20, "learning_rate": 0.2}
    other = ours.Beside(data, 0, peers.Watch(), kind=kind, weight=0.5, **settings)
    other.train()
    queries, table = np.random.default_rng(0).normal(size=(2, 13, 4)).astype(np.float32)
    scorer = peers.Factors(queries[: len(ranking.truth)], table)
    added = ours.add_up(scorer, [other, other])
    own = other.left[users] if kind == "itemsets" else peers.mean_rows(data.history, other.left)
    every = slice(0, len(users))
    expected = scorer.scores(every) + 2 * 0.5 * own @ other.right.T
    assert np.abs(own @ other.right.T).max() > 0.1
    np.testing.assert_allclose(added.scores(every), expected, atol=1e-5)


def test_shuffled_sentences_hold_the_same_words_in_another_order(ranking):
    corpus = peers.ShuffledCorpus(ranking.train, 0)
    first, second = list(corpus), list(corpus)
    assert first != second
    for sentences in (first, second):
        assert [sorted(map(int, s)) for s in sentences] == [sorted(r) for r in ranking.train]


# Enough training for a problem of two groups that never mix.
TINY_SETTINGS = {
    "popularity": {},
    "item-kNN": {},
    "EASE": {"l2": 1.0},
    "ALS": {"dim": 4, "l2": 0.1, "num_epoch": 10},
    "BPR": {"dim": 4, "num_epoch": 200, "learning_rate": 0.1},
    "itembed": {"dim": 4, "num_epoch": 200, "learning_rate": 0.2},
    "Word2Vec": {"dim": 4, "num_epoch": 100, "learning_rate": 0.2, "noise_exponent": 0.0},
    "ours": {"dim": 4, "num_epoch": 200, "learning_rate": 0.2},
    "ours, quick": {
        "dim": 4, "num_epoch": 20, "learning_rate": 0.1, "loss": "softmax", "pooling": "mean",
        "similarity": "cosine", "optimizer": "adam", "sharpness": 2.0,
    },
    "ours, no argument": {"epochs": 200},
    "ours, added up": {
        "dim": 4, "num_epoch": 200, "learning_rate": 0.2,
        "beside": [
            {"kind": "items", "weight": 1.0, "dim": 4, "num_epoch": 9, "learning_rate": 0.2}
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("system", TINY_SETTINGS)
def test_every_system_learns_two_groups(system, ranking):
    for package in peers.PACKAGES.get(system, ("scipy",)):
        pytest.importorskip(package)

    seen = []
    watch = peers.Watch(seen=lambda seconds, scorers: seen.append(seconds))
    scorers = quality.SYSTEMS[system](ranking, 0, watch, **TINY_SETTINGS[system])
    scorer = next(iter(scorers.values()))
    ranked = quality.rank(scorer, ranking.truth, ranking.history, 1)
    same_group = np.mean(
        [r // 6 == q[0] // 6 for (r,), q in zip(ranked, ranking.truth, strict=True)]
    )
    if system == "popularity":
        assert same_group < 1
    else:
        assert same_group == 1
    assert (len(seen) > 1) == ("num_epoch" in TINY_SETTINGS[system])
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("logistic regression", {"c": 100.0}),
        ("itembed", {"dim": 4, "num_epoch": 100, "learning_rate": 0.2}),
        ("ours", {"dim": 4, "num_epoch": 100, "learning_rate": 0.2}),
        ("ours, no argument", {"epochs": 200}),
    ],
)
def test_every_system_learns_labels(system, settings):
    for package in peers.PACKAGES.get(system, ("scipy",)):
        pytest.importorskip(package)
    features = [[i % 3, 3 + (i // 3) % 2] for i in range(30)]
    packed, labels = datasets.pack(features), datasets.pack([[f[0]] for f in features])
    data = datasets.Labelling("bibtex", packed, labels, packed, labels, list("abcde"), list("xyzw"))
    scorers = quality.SYSTEMS[system](data, 0, peers.Watch(), **settings)
    assert quality.evaluate(next(iter(scorers.values())), data)["P@1"] == 1


# --- quality.py -------------------------------------------------------------


def test_ranks_are_those_of_brute_force_with_masked_items_and_lost_ties(ranking):
    generator = np.random.default_rng(5)
    scores = generator.integers(0, 3, (len(ranking.truth), 13)).astype(np.float32)  # many ties
    scorer = SimpleNamespace(scores=lambda queries: scores[queries])
    for step in (1, 3):
        ranked = quality.rank(scorer, ranking.truth, ranking.history, 20, step)
        for row, query in zip(ranked, range(0, len(scores), step), strict=True):
            late, gone = set(ranking.truth[query]), set(ranking.history[query])
            order = sorted(set(range(13)) - gone, key=lambda i: (-scores[query, i], i in late, i))
            assert row.tolist() == order + [-1] * (20 - len(order))
    assert (scores >= 0).all()  # what a scorer holds is not written to


def test_what_is_to_be_found_loses_every_tie(ranking):
    scorer = peers.Same(np.zeros(13), len(ranking.truth))
    ranked = quality.rank(scorer, ranking.truth, ranking.history, 13)
    for row, history, truth in zip(ranked, ranking.history, ranking.truth, strict=True):
        assert row[12 - len(history)] == truth[0]
    assert quality.evaluate(scorer, ranking)["HR@10"] < 1


def test_scores_that_are_not_finite_are_an_error(ranking):
    scorer = peers.Same(np.full(13, np.nan), len(ranking.truth))
    with pytest.raises(ValueError, match="not finite"):
        quality.rank(scorer, ranking.truth, ranking.history, 5)


def test_metrics_are_those_worked_out_by_hand(ranking, monkeypatch):
    data = dataclasses.replace(
        ranking,
        history=datasets.pack([[0], [0], [1]]),
        truth=datasets.pack([[4, 9], [1], [0, 2, 3, 5]]),
    )
    best = [[9, 1, 4], [2, 3, 6], [7, 5, 3]]
    scores = np.zeros((3, 13), dtype=np.float32)
    for row, items in zip(scores, best, strict=True):
        row[items] = [3, 2, 1]
    scorer = SimpleNamespace(scores=lambda queries: scores[queries])
    asked = (("HR", 1), ("HR", 3), ("Recall", 3), ("P", 3), ("NDCG", 3))
    monkeypatch.setitem(quality.METRICS, "online_retail", asked)
    second, third = 1 / np.log2(3), 0.5
    values = {
        "HR@1": [1, 0, 0],
        "HR@3": [1, 0, 1],
        "Recall@3": [1, 0, 0.5],
        "P@3": [2 / 3, 0, 2 / 3],
        "NDCG@3": [(1 + third) / (1 + second), 0, (second + third) / (1 + second + third)],
    }
    assert quality.evaluate(scorer, data) == pytest.approx(
        {name: np.mean(value) for name, value in values.items()}
    )
    assert quality.evaluate(scorer, data, step=2) == pytest.approx(
        {name: np.mean(value[::2]) for name, value in values.items()}
    )


def stored_row(dataset="gowalla", system="ALS", **others):
    row = {
        "dataset": dataset, "system": system, "score": "", "metric": "Recall", "k": 20,
        "mean": 0.15, "spread": 0.001, "seeds": 3, "seconds": 4.0, "device": "CPU, 2 threads",
        "settings": "dim=128", "curve": [[1.0, 0.1], [4.0, 0.15]], "machine": "one; today",
    }  # fmt: skip
    return {**row, **others}


def test_rows_of_what_was_run_again_are_replaced(tmp_path):
    path = tmp_path / "results" / "quality.json"
    assert quality.read_rows(path) == []
    old = [stored_row(), stored_row(metric="NDCG"), stored_row(system="BPR"), stored_row("cooking")]
    quality.write_rows(path, old)
    assert quality.read_rows(path) == old
    new = [stored_row(mean=0.2)]
    merged = quality.merge_rows(quality.read_rows(path), new)
    assert merged == [stored_row(mean=0.2), stored_row(system="BPR"), stored_row("cooking")]


def test_stored_rows_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "quality.json"
    quality.write_rows(path, [stored_row()])
    with pytest.raises(TypeError):
        quality.write_rows(path, [stored_row(mean=SimpleNamespace())])

    def fail(*names):
        raise OSError("no room")

    monkeypatch.setattr(quality.os, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        quality.write_rows(path, [])
    assert quality.read_rows(path) == [stored_row()]


def test_the_table_has_measured_and_published_figures_in_order():
    rows = [
        stored_row(mean=0.15504),
        stored_row(metric="NDCG", mean=0.1325, spread=None),
        stored_row(system="itembed", score="dot", mean=0.163, spread=0.0002, seeds=1),
        {"dataset": "gowalla", "system": "EASE", "left_out": "too large"},
    ]
    text = quality.make_report(rows)
    lines = text.splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert names[:5] == ["system", "*SimpleX*", "*UltraGCN*", "*LightGCN*", "*LightGCN*"]
    assert names.index("itembed, dot") < names.index("*MF-BPR*") < names.index("ALS")
    als = next(line for line in lines if line.startswith("| ALS "))
    assert als == ("| ALS | 0.1550 ± 0.0010 | 0.1325 | 4 | CPU, 2 threads; 3 runs | dim=128 |")
    assert "EASE is left out: too large." in lines
    assert "| *UltraGCN* | 0.1862 | 0.1580 |  | *published: BARS leaderboard* |  |" in lines
    assert "- one; today" in lines
    assert "Cooking" not in text


def test_one_command_makes_rows_table_and_picture(tmp_path, ranking, monkeypatch, capsys):
    pytest.importorskip("scipy")
    monkeypatch.setitem(quality.DATASETS, "online_retail", lambda folder: ranking)
    monkeypatch.setitem(
        quality.SETTINGS,
        "online_retail",
        {name: TINY_SETTINGS[name] for name in ("ours", "popularity", "EASE")},
    )
    monkeypatch.setitem(quality.SETTINGS["online_retail"], "EASE", {"max_item": 3})
    command = ["nowhere", "--dataset", "online_retail", "--out", str(tmp_path), "--threads", "1"]
    quality.main([*command, "--quick"])
    quality.main([*command, "--validation"])
    assert "HR@10" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []

    quality.main([*command, "--seeds", "2", "--set", "num_epoch=3", "--system", "ours"])
    quality.main([*command, "--system", "popularity", "EASE"])
    rows = quality.read_rows(tmp_path / "results" / "quality.json")
    assert {(row["system"], row.get("score"), row.get("seeds")) for row in rows} == {
        ("ours", "dot", 2), ("ours", "cosine", 2), ("popularity", "", 1), ("EASE", None, None),
    }  # fmt: skip
    mine = next(row for row in rows if row["system"] == "ours")
    assert "num_epoch=3" in mine["settings"]
    assert [value for _, value in mine["curve"]]
    assert mine["device"] == "CPU, 1 thread"
    text = (tmp_path / "quality.md").read_text(encoding="utf-8")
    assert "EASE is left out: 13 items" in text
    assert (tmp_path / "quality.png").stat().st_size > 10_000
    assert not list(tmp_path.rglob("*part*"))


def test_every_system_of_the_table_of_settings_exists():
    assert set(quality.SETTINGS) == set(quality.METRICS) == set(quality.DATASETS)
    for settings in quality.SETTINGS.values():
        assert set(settings) <= set(quality.SYSTEMS)
    for dataset, _, _, values in quality.PUBLISHED:
        assert len(values) == len(quality.METRICS[dataset])


def test_curves_of_a_card_are_drawn_beside_those_of_the_cpu():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    panel = figure.subplots()
    curve = [[0.5, 0.1], [2.0, 0.15], [5.0, 0.2]]
    rows = [
        stored_row(system="ours, GPU", device="NVIDIA H200", mean=0.2, seconds=5.0, curve=curve),
        stored_row(system="ours", mean=0.19, seconds=90.0, curve=[[9.0, 0.1], [90.0, 0.19]]),
    ]
    quality.plot_dataset(panel, "gowalla", rows)
    drawn = {line.get_label(): line for line in panel.get_lines()}
    card, cpu = drawn["ours, GPU: 0.200"], drawn["ours: 0.190"]
    assert card.get_xydata().tolist() == curve
    assert card.get_color() != cpu.get_color()
    assert panel.get_xscale() == "log"
    shown = {text.get_text() for text in panel.get_legend().get_texts()}
    assert shown >= {"ours, GPU: 0.200", "ours: 0.190"}
    # Each data set has a system that trains on a card.
    assert all(set(settings) & set(quality.ON_GPU) for settings in quality.SETTINGS.values())
    colors = {tuple(quality.color_of(system)) for system in quality.SYSTEMS}
    assert len(colors) == len(quality.SYSTEMS)


def test_systems_on_a_gpu_are_skipped_without_one(monkeypatch, capsys):
    monkeypatch.setattr(quality, "find_gpu", lambda: False)
    runs = quality.run_all(["gowalla"], list(quality.ON_GPU), lambda name: None, quality.Plan())
    assert list(runs) == []
    assert "ours, GPU: skipped, there is no GPU" in capsys.readouterr().out


def test_settings_are_read_as_values():
    plan = quality.Plan(budget=0.5, extra={"dim": 8})
    assert plan.settings("gowalla", "ALS")["num_epoch"] == 5
    assert plan.settings("gowalla", "ALS")["dim"] == 8
    assert quality.read_setting("l2=0.5") == ("l2", 0.5)
    assert quality.read_setting("loss=softmax") == ("loss", "softmax")


def test_names_in_the_picture_are_kept_apart():
    places = quality.keep_apart([0.1, 0.5, 0.51, 0.99, 0.995], 0.04)
    assert places == pytest.approx([0.1, 0.5, 0.54, 0.96, 1.0])


# --- chunks ----------------------------------------------------------------


def test_chunks_are_compared_with_all_at_once(tmp_path, monkeypatch):
    for name, value in {
        "NUM_ITEM": 50, "DIM": 12, "NUM_NEGATIVE": 3, "EPOCHS": 1, "COUNTS": (2,), "SEEDS": (1, 2),
    }.items():  # fmt: skip
        monkeypatch.setattr(chunks, name, value)
    packed = chunks.make_packed(3000, tmp_path)
    assert packed.num_itemset == 300
    items, others, negatives = chunks.held_out_pairs(packed, 270)
    assert len(items) == len(others) == len(negatives) == packed.num_item - packed.offsets[270]
    results = chunks.measure(packed, "cpu")
    assert {count: len(values) for count, values in results.items()} == {0: 2, 2: 2}
    # Four logits of tables of zeros have a loss of 4 log 2: less was learned, or more.
    assert all(1 < loss < 3 for values in results.values() for loss, _ in values)
    text = chunks.make_report(results, 3000, packed.num_item, "cpu")
    assert text.count("\n| ") == 3
    assert "| all at once |" in text


# --- scale.py ----------------------------------------------------------------


def test_parts_are_compared_with_none(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle, "PROBLEMS", {"tiny": TINY})
    for name, value in {
        "SEEDS": {"tiny": (0, 1)}, "COUNTS": (1, 2, 8), "TINY": 80, "NUM_PART": 2,
        "planted_itemsets": lambda num_label, num_itemset, seed: np.arange(5 * num_itemset)
        .reshape(-1, 5).astype(np.int32) % num_label,
    }.items():  # fmt: skip
        monkeypatch.setattr(scale, name, value)

    def in_this_process(arguments):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(arguments[1], {})
        return shown.getvalue()

    monkeypatch.setattr(scale, "run_python", in_this_process)
    size = ["--items", "90", "60", "--dim", "12", "--epochs", "1", "--repeat", "1"]
    scale.main([*size, "--parts", "quality", "--out", str(tmp_path)])
    once = scale.read_sections(tmp_path / "scale.md")
    scale.main([*size, "--parts", "disk", "--out", str(tmp_path)])
    sections = scale.read_sections(tmp_path / "scale.md")
    assert list(sections) == ["Quality", "Tables on the disk"]
    assert sections["Quality"] == once["Quality"]
    [losses] = [line for line in sections["Quality"] if line.startswith("| tiny | 2 |")]
    assert losses.count("%") == 2
    mapped = sections["Tables on the disk"][-1]
    assert mapped.startswith("| 60 | mapped from the disk, 2 parts |")
    assert ">= 0.5" in mapped


def test_anonymous_memory_is_seen():
    with scale.watched() as seen:
        held = np.ones(1 << 26, np.uint8)  # which no freed memory holds
        time.sleep(0.1)
        held.sum()
    assert max(seen) - seen[0] > 60 << 20


# --- cpu.py -----------------------------------------------------------------


def draw_few(num_label):
    return cpu.draw_itemsets(num_label, 30)


def test_another_checkout_takes_turns_with_this_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # that it runs: no speed is looked at
    cpu_against.measure(ROOT, tmp_path, {"few items": (20, 4)}, draw_few, repeat=1)
    text = (tmp_path / "cpu_against.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["| few items, 1 thread", "| few items, 2 threads"]
    for row in rows:
        assert float(row[3]) > 0
    with pytest.raises(RuntimeError, match="holds no itembed_gpu"):
        cpu_against.measure(tmp_path, tmp_path, {"few items": (20, 4)}, draw_few, repeat=1)


def test_the_ratio_is_that_of_medians_and_above_one_where_this_checkout_is_faster():
    row = cpu_against.compare([1.0, 2.0, 4.0], [3.0, 3.0, 4.0], num_pair=6_000_000)
    assert row == ("3.00 Mpair/s", "2.00 Mpair/s", "1.500", "1.000 to 3.000")


def test_speeds_are_of_items_with_zipf_popularity():
    items, offsets = cpu.draw_itemsets(1_000, 200_000)
    assert set(np.diff(offsets)) == {cpu.ITEMSET_LENGTH}
    shares = np.sort(np.bincount(items, minlength=1_000))[::-1] / len(items)
    expected = 1 / (np.arange(1_000) + 10)
    assert shares[:50] == pytest.approx(expected[:50] / expected.sum(), rel=0.12)


# --- dense.py ---------------------------------------------------------------


def test_a_softmax_is_timed_on_every_device(tmp_path, emulated, capsys):
    command = ["--items", "60", "40", "--dims", "8", "--batches", "4", "--out", str(tmp_path)]
    for device, steps in (("cpu", "1"), ("cuda", "1"), ("cpu", "2")):
        softmax.main([*command, "--device", device, "--steps", steps])
    rows = json.loads((tmp_path / "results" / "dense.json").read_text(encoding="utf-8"))
    assert [(row["device"], row["items"], row["steps"]) for row in rows] == [
        ("cpu", 40, 2), ("cpu", 60, 2), ("cuda", 40, 1), ("cuda", 60, 1),
    ]  # fmt: skip
    for row in rows:
        assert row["speed"] * row["seconds"] == pytest.approx(row["items"] * 4)
    text = (tmp_path / "dense.md").read_text(encoding="utf-8")
    assert text.count("\n| cuda | ") == 2
    assert "- cuda: cuda of Emulated" in text
    assert "✓" not in text
    asked = {**rows[-1], **softmax.LARGEST, "speed": 3e11, "memory": 1025}
    assert softmax.show(asked)[-2:] == ("3.00e+11 (>= 2e+11 ✓)", "1,025 (<= 1024 ✗)")
    assert "✓" not in softmax.show({**asked, "device": "cpu"})[-2]


# --- partition.py -----------------------------------------------------------


def test_the_sum_over_all_items_is_timed_and_looked_at(tmp_path, ranking, monkeypatch):
    monkeypatch.setattr(partition, "online_retail", lambda folder: ranking)
    monkeypatch.setattr(partition, "TILES", ((32, 7), (64, 64)))
    size = ["--items", "50", "--itemsets", "40", "--dim", "8", "--repeat", "1", "--epochs", "1"]
    partition.main([*size, "--data", str(tmp_path), "--out", str(tmp_path)])
    text = (tmp_path / "partition.md").read_text(encoding="utf-8")
    assert text.count("\n| `log_partition(") == 2
    assert text.count("\n| softmax") == 4
    with pytest.raises(SystemExit):
        partition.main(["--parts", "losses", "--out", str(tmp_path)])


def test_products_in_tiles_and_losses_of_single_items():
    generator = np.random.default_rng(0)
    syn0, syn1 = generator.normal(size=(2, 13, 5)).astype(np.float32)
    partition.multiply(syn0, syn1, 4, 3)
    test = datasets.pack([[1, 2, 3], [4, 4]])
    total = without = 0.0
    for row in test:
        for place, item in enumerate(row):
            scores = syn1 @ syn0[np.delete(row, place)].mean(axis=0)
            total += np.log(np.exp(scores).sum()) - scores[item]
            without -= scores[item]
    expected = total / 5, without / 5
    assert partition.losses_of(test, syn0, syn1) == pytest.approx(expected, rel=1e-5)


# --- damage.py --------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_damage(tmp_path):
    """In a process of its own, as it forks."""
    subprocess.run(
        [sys.executable, "-m", "benchmarks.damage", "--count", "1", "--out", str(tmp_path)],
        check=True, cwd=ROOT, timeout=120, capture_output=True,
    )  # fmt: skip
    report = (tmp_path / "damage.md").read_text(encoding="utf-8")
    assert report.count("✓") == 11 + 6 + 3
    assert "✗" not in report


# --- csv_fuzz.py ------------------------------------------------------------


def test_made_csv_files_are_read_as_python_reads_them():
    counts = csv_fuzz.measure(60, 7)
    assert {outcome for outcome, _ in counts} == {"the same", "refused by both"}
    assert {reader for _, reader in counts} == {"read_itemsets", "pack_files"}


@pytest.mark.compiled_in
def test_glove_is_measured_beside_another_library(tmp_path, monkeypatch, capsys):
    pytest.importorskip("glove")
    # Of a size whose code other tests compile too.
    monkeypatch.setattr(glove, "SMALL", {"num_label": 40, "num_item": 300, "dim": 12})
    sizes = ["--labels", "60", "--items", "400", "--cells", "500", "--dim", "12", "--epochs", "1"]
    glove.main([*sizes, "--repeat", "1", "--threads", "1", "--out", str(tmp_path)])
    text = (tmp_path / "glove.md").read_text(encoding="utf-8")
    ratios = [float(line.split("|")[3]) for line in text.splitlines() if line.startswith("| 25 |")]
    assert len(ratios) == 2
    assert all(0.95 < ratio < 1.05 for ratio in ratios)
    assert text.count("\n| itembed_gpu | ") == 2
    assert "500 cells of 60 labels" in text

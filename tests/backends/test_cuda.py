"""The CUDA backend's own part: copies, launches, memory, and what goes wrong.

It runs on an emulated device, whose kernels are the real ones (see `emulator`). What
every backend does is in test_behaviour.py, and runs on a GPU too where there is one.
"""

import dataclasses
import gc

import numpy as np
import pytest
from samples import DIM, NUM_NEGATIVE, random_itemsets, random_tables, supervised, unsupervised

from itembed_gpu import (
    CompoundTask,
    Cuda,
    DeviceError,
    DivergenceError,
    Embeddings,
    InputError,
    UnsupervisedTask,
    available_backends,
    checks,
    do_supervised_batch,
    do_unsupervised_batch,
    initialize_syn,
    normalize,
    train,
)
from itembed_gpu.backends import devices
from itembed_gpu.backends.cuda import chips, in_flight, instances, tables, task as cuda
from itembed_gpu.objective.pairs import NEIGHBOUR
from itembed_gpu.objective.table import Table

DEVICE = Cuda(threads_per_pair=1)


def trained(task, **arguments):
    return train(task, **{"num_epoch": 2, "progress": False, **arguments})


def to_device(fake, table):
    array = fake.empty(table.shape, table.dtype)
    array.set(np.ascontiguousarray(table))
    return array


# --- copies -----------------------------------------------------------------


def test_tables_travel_once_each_way(emulated):
    task = unsupervised(device=DEVICE)
    trained(task, num_epoch=3)
    assert [e for e in emulated.told if "load" in e] == ["upload"] * 2 + ["download"] * 2
    emulated.told.clear()
    trained(CompoundTask(unsupervised(device=DEVICE, tables=(task.syn0, task.syn1)), task))
    assert [e for e in emulated.told if "load" in e] == ["upload"] * 2 + ["download"] * 2


@pytest.mark.parametrize(("side", "frozen"), [("update_left", 0), ("update_right", 1)])
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_a_frozen_table_is_not_written_back(emulated, caplog, side, frozen, optimizer):
    tables = random_tables()
    before = tables[frozen].copy()
    task = unsupervised(device=DEVICE, tables=tables, optimizer=optimizer, **{side: False})
    task.do_batch(0.1)
    # What is the caller's on the host is not written over, whatever it is meanwhile.
    tables[frozen][...] = 7
    task.synchronize()
    assert (tables[frozen] == 7).all()
    tables[frozen][...] = before
    emulated.told.clear()
    trained(task)
    number = 2 if optimizer == "adagrad" else 1
    assert emulated.told.count("upload") == 2 * number
    assert emulated.told.count("download") == number
    assert np.array_equal(tables[frozen], before)
    if optimizer == "adagrad":
        assert not task.accumulators[frozen].any()
        assert task.accumulators[1 - frozen].any()
    # Of what is left unwritten, only what was trained is told.
    task.do_batch(0.1)
    del task
    gc.collect()
    assert len(caplog.records) == number


def test_a_table_frozen_in_one_task_and_trained_in_another_is_written_back(emulated):
    frozen = unsupervised(device=DEVICE, update_right=False)
    before = frozen.syn1.copy()
    both = unsupervised(device=DEVICE, tables=(random_tables(seed=3)[0], frozen.syn1))
    trained(CompoundTask(frozen, both))
    assert emulated.told.count("download") == 3
    assert not np.array_equal(frozen.syn1, before)


def test_one_table_on_both_sides_is_one_copy(emulated):
    syn, _ = random_tables()
    trained(unsupervised(device=DEVICE, tables=(syn, syn)))
    assert emulated.told.count("upload") == emulated.told.count("download") == 1


def test_one_tile_does_what_one_thread_does(one_tile):
    results = []
    for device in ("cpu", DEVICE):
        tasks = [unsupervised(device=device), supervised(device=device)]
        trained(CompoundTask(*tasks), num_epoch=1)
        results.append((tasks[0].syn0, tasks[0].syn1, tasks[1].left_syn, tasks[1].right_syn))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_tables_that_overlap_in_part_are_refused(emulated):
    memory = np.zeros((60, DIM), dtype=np.float32)
    first = unsupervised(device=DEVICE, tables=(memory[:50], memory[:50]))
    second = unsupervised(device=DEVICE, tables=(memory[10:], memory[10:]))
    first.do_batch(0.01)
    with pytest.raises(InputError, match="shares a part of its memory"):
        second.do_batch(0.01)
    first.synchronize()
    del first
    gc.collect()
    second.do_batch(0.01)
    second.synchronize()


@pytest.mark.parametrize("on_device", [False, True])
def test_the_tables_of_a_task_are_one_or_lie_apart(emulated, on_device):
    memory = np.zeros((60, DIM), dtype=np.float32)
    if on_device:
        memory = to_device(emulated, memory)
    for pair in ((memory[:50], memory[10:]), (memory[10:], memory[:50])):
        with pytest.raises(InputError, match="syn0 and syn1 share a part of their memory"):
            unsupervised(device=DEVICE, tables=pair)
    if on_device:
        half = DIM // 2
        assert unsupervised(tables=(memory[:50, :half], memory[:50, half:]))
        assert unsupervised(tables=(memory[:50, half:], memory[:50, :half]))
        with pytest.raises(InputError, match="share a part"):
            unsupervised(tables=(memory[:50, : half + 1], memory[:50, half - 1 :]))


def test_a_compound_trains_a_table_on_one_device(emulated):
    here = unsupervised(device=DEVICE)
    there = unsupervised(tables=(here.syn0, here.syn1))
    with pytest.raises(InputError, match="one NumPy table on cuda:0 and on cpu"):
        CompoundTask(here, CompoundTask(there))
    assert CompoundTask(here, unsupervised())


def test_what_was_never_written_back_is_told(emulated, caplog):
    task = unsupervised(device=DEVICE)
    task.do_batch(0.1)
    del task
    gc.collect()
    assert len(caplog.records) == 2
    assert "never written back; call task.synchronize()" in caplog.text
    caplog.clear()
    task = unsupervised(device=DEVICE)
    task.do_batch(0.1)
    task.synchronize()
    del task
    gc.collect()
    assert not caplog.records


def test_a_table_is_in_training_on_one_device_only(emulated):
    table, _ = random_tables()
    here = tables.device_table(0, table)
    assert tables.device_table(0, table) is here
    with pytest.raises(InputError, match="on cuda:0 and cannot be on cuda:1"):
        tables.device_table(1, table)


def test_memory_is_given_back(emulated):
    before = emulated.free
    task = unsupervised(device=DEVICE)
    trained(task)
    assert emulated.free < before
    del task
    gc.collect()
    assert emulated.free == before


def test_packed_arrays_are_copied_once(emulated):
    task = unsupervised(device=DEVICE)
    trained(task)
    # Both sides of an unsupervised task are the same arrays: items, offsets, guide.
    assert len(task._bound._packed) == 3
    held = emulated.free
    trained(task)
    assert emulated.free == held


PIECES = {"MIN_BYTES": 0, "PIECE_BYTES": 100}


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize(("shape", "padded"), [((50, 12), 12), ((50, 13), 16), ((1, 999), 1000)])
def test_large_copies_go_through_pinned_memory_piece_by_piece(
    emulated, monkeypatch, shape, padded, without
):
    from emulator.fake_cupy import CUDARuntimeError

    for name, value in PIECES.items():
        monkeypatch.setattr(tables, name, value)
    values = np.random.default_rng(1).random(shape, dtype=np.float32)
    emulated.told.clear()
    if without:  # memory that can be pinned is scarce: half of the threads have none
        emulated.fail["pin"] = 1, CUDARuntimeError("injected")
    there = tables.bring(values)
    assert there.base.shape == (shape[0], padded)
    assert np.array_equal(there.get(), values)
    assert not there.base.get()[:, shape[1] :].any()
    assert np.array_equal(tables.fetch(there), values)
    assert np.array_equal(tables.to_device(values[:, 0]).get(), values[:, 0])
    pinned = [told for told in emulated.told if told.startswith("pin")]
    assert len(pinned) == 3 * tables.NUM_MOVER - without
    # As much each time, whatever is copied: CuPy keeps it by its size.
    assert len(set(pinned)) == 1


def test_a_training_copied_in_pieces_is_the_same(one_tile, monkeypatch):
    results = []
    for pieces in ({}, PIECES):
        for name, value in pieces.items():
            monkeypatch.setattr(tables, name, value)
        task = unsupervised(device=DEVICE, optimizer="adagrad")
        trained(task)
        results.append((task.syn0, task.syn1, *task.accumulators))
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_copies_to_a_device_and_back(device):
    # Of more than one piece, with rows that are padded on a GPU.
    rows = np.random.default_rng(1).random((700_000, 7), dtype=np.float32)
    assert rows.nbytes > 2 * tables.PIECE_BYTES > 2 * tables.MIN_BYTES
    backend = devices.select_backend(device)
    table = Table("syn0", rows, accumulator=rows[:, 0].copy())
    there = backend.bring(table)
    assert (there.array is rows) == (device == "cpu")
    for name, values in backend.fetch(there).arrays().items():
        assert np.array_equal(values, table.arrays()[name])


# --- tables of the device ---------------------------------------------------


def test_tables_of_the_device_are_trained_in_place(one_tile):
    syn0, syn1 = random_tables()
    expected = unsupervised(device=DEVICE, tables=(syn0.copy(), syn1.copy()))
    trained(expected)
    on_device = [to_device(one_tile, table) for table in (syn0, syn1)]
    task = UnsupervisedTask(*random_itemsets(), *on_device, num_negative=NUM_NEGATIVE, seed=1)
    assert task.device == "cuda:0"
    # The chip's default is a tile of threads: the same up to rounding.
    assert task._bound.instance.threads == 2
    trained(task)
    assert one_tile.told.count("upload") == one_tile.told.count("download") == 2
    np.testing.assert_allclose(on_device[0].get(), expected.syn0, rtol=1e-5, atol=1e-6)
    embeddings = Embeddings(list(range(50)), on_device[0], context=on_device[1])
    assert np.array_equal(embeddings.vectors, on_device[0].get())
    assert normalize(on_device[0]).shape == (50, DIM)


@pytest.mark.parametrize(("num_row", "dim"), [(1, 1), (3, 5), (50, 12), (999, 50), (4_001, 64)])
@pytest.mark.parametrize("seed", [0, 1, (1 << 64) - 1])
def test_tables_are_drawn_where_they_are_trained(device, num_row, dim, seed):
    # A few blocks draw the larger ones, each thread many times.
    found = initialize_syn(num_row, dim, seed=seed, device=device)
    draws = np.random.default_rng(seed).random((num_row, dim), dtype=np.float32)
    expected = (draws - np.float32(0.5)) / np.float32(dim)
    assert np.array_equal(checks.on_host(found), expected)


def test_new_tables_of_a_gpu_are_not_copied_there(emulated):
    initialize_syn(50, 12, seed=1, device="cuda")
    initialize_syn(50, 12, "zero", device="cuda")
    assert not [told for told in emulated.told if "load" in told or told.startswith("pin")]
    initialize_syn(50, 12, seed=1, device="cuda", dtype=np.float64)
    assert emulated.told.count("upload") == 1


@pytest.mark.parametrize(("dim", "padded"), [(1, 4), (4, 4), (13, 16), (50, 52)])
def test_rows_of_our_tables_begin_at_16_bytes(emulated, dim, padded):
    values = initialize_syn(5, dim, seed=1, device="cuda")
    assert values.shape == (5, dim)
    assert values.strides == (4 * padded, 4)
    assert np.array_equal(values.get(), initialize_syn(5, dim, seed=1))
    assert tables.DeviceTable(0, values).width == 4


def test_other_strides_are_read_in_place_and_nothing_beside_them_is_written(emulated):
    items, offsets = random_itemsets()
    host = random_tables(dim=DIM + 5)
    expected = [np.ascontiguousarray(table[:, 2 : DIM + 1]) for table in host]
    trained(UnsupervisedTask(items, offsets, *expected, num_negative=2, seed=1, device=DEVICE))
    whole = [to_device(emulated, table) for table in host]
    views = [array[:, 2 : DIM + 1] for array in whole]
    task = UnsupervisedTask(items, offsets, *views, num_negative=2, seed=1, device=DEVICE)
    assert task._bound.instance.width == 1
    trained(task)
    for array, start, table in zip(whole, host, expected, strict=True):
        np.testing.assert_allclose(array.get()[:, 2 : DIM + 1], table, rtol=1e-4, atol=1e-5)
        assert np.array_equal(array.get()[:, :2], start[:, :2])
        assert np.array_equal(array.get()[:, DIM + 1 :], start[:, DIM + 1 :])


def test_padding_that_is_not_ours_is_not_read(emulated):
    # Rows are aligned, but what stands behind them is the caller's.
    whole = to_device(emulated, np.full((50, 16), np.nan, dtype=np.float32))
    whole._values[:, :13] = random_tables(dim=13)[0]
    view = whole[:, :13]
    assert tables.DeviceTable(0, view).width == 1
    task = UnsupervisedTask(*random_itemsets(), view, view, num_negative=2, seed=1, device=DEVICE)
    trained(task)
    assert np.isfinite(view.get()).all()
    assert np.isnan(whole.get()[:, 13:]).all()


def test_a_part_of_one_of_our_tables_is_a_table_of_somebody_else(emulated):
    whole = initialize_syn(50, 16, seed=1, device="cuda")
    before = whole.get()
    view = whole[:, :14]
    assert tables.DeviceTable(0, view).width == 1
    trained(UnsupervisedTask(*random_itemsets(), view, view, num_negative=2, seed=1, device=DEVICE))
    assert np.array_equal(whole.get()[:, 14:], before[:, 14:])
    assert not np.array_equal(whole.get()[:, :14], before[:, :14])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fake, a, b: {"device": "cpu"}, "lie on cuda:0; leave it out"),
        (lambda fake, a, b: {"device": "cuda:1"}, "lie on cuda:0"),
        (lambda fake, a, b: {"tables": (a, b.get())}, "syn0 on cuda:0, syn1 in host memory"),
    ],
)
def test_tables_that_lie_elsewhere_are_refused(emulated, change, message):
    tables = tuple(to_device(emulated, table) for table in random_tables())
    with pytest.raises(InputError, match=message):
        unsupervised(**{"tables": tables, **change(emulated, *tables)})


def test_tables_with_strides_that_no_row_has_are_refused(emulated):
    table = to_device(emulated, random_tables()[0])
    with pytest.raises(InputError, match=r"syn0 has strides.*ascontiguousarray\(syn0\)"):
        unsupervised(tables=(table[:, ::2], table[:, ::2]))


def test_environment_and_auto_follow_the_tables(emulated, monkeypatch, caplog):
    tables = tuple(to_device(emulated, table) for table in random_tables())
    monkeypatch.setenv("ITEMBED_GPU_DEVICE", "cpu")
    assert unsupervised(tables=tables).device == "cuda:0"
    assert unsupervised().device == "cpu"
    monkeypatch.setenv("ITEMBED_GPU_DEVICE", "cuda")
    assert unsupervised().device == "cuda:0"
    devices._say_choice.cache_clear()
    assert unsupervised(device="auto").device == "cuda:0"
    assert caplog.messages == ["device='auto' trains on cuda:0"]
    devices._say_choice.cache_clear()


# --- launches ---------------------------------------------------------------


@pytest.mark.parametrize("sharing", [1, 8])
def test_how_work_is_cut_into_launches_does_not_matter(one_tile, monkeypatch, sharing):
    results = []
    for speed, most, fused in ((1e9, 1 << 16, True), (300.0, 1 << 16, True), (1e9, 3, False)):
        monkeypatch.setattr(cuda, "FIRST_SPEED", speed)
        monkeypatch.setattr(cuda, "SPEED_CHANGE", 1.0)
        monkeypatch.setattr(cuda, "MAX_BATCHES", most)
        task = unsupervised(device=DEVICE, batch_size=8, negative_sharing=sharing)
        one_tile.told.clear()
        rates = np.linspace(0.1, 0.01, len(task))
        if fused:
            task.do_batches(rates)
        else:
            for rate in rates:
                task.do_batch(rate)
        task.synchronize()
        results.append((task.syn0, task.syn1, task._read_tally(wait=True)))
        launches = len([entry for entry in one_tile.told if entry.startswith("launch")]) - 2
        assert (
            launches == {1e9: 1, 300.0: -(-task.num_pair // (30 // sharing * sharing))}[speed]
            or not fused
        )
    for syn0, syn1, loss in results[1:]:
        assert np.array_equal(syn0, results[0][0])
        assert np.array_equal(syn1, results[0][1])
        assert loss[1] == results[0][2][1]
        assert loss[0] == pytest.approx(results[0][2][0], rel=1e-5)


@pytest.mark.parametrize("name", ["syn0", "syn0_accumulator"])
@pytest.mark.parametrize(("value", "sound"), [(1e8, True), (-2e9, False), (np.nan, False)])
def test_a_part_is_looked_at_where_it_is(device, name, value, sound):
    rows = np.ones((40, 5), dtype=np.float32)
    table = Table("syn0", rows, accumulator=np.ones(40, np.float32))
    table.arrays()[name][-1:] = value
    backend = devices.select_backend(device)
    there = backend.bring(table)
    assert backend.is_sound(there, dict.fromkeys(table.arrays(), 1e9)) == sound
    # Of accumulators, any number that is one will do.
    bounds = {"syn0": 1e9, "syn0_accumulator": np.inf}
    expected = sound or (name == "syn0_accumulator" and not np.isnan(value))
    assert backend.is_sound(there, bounds) == expected


def test_a_call_of_one_batch_is_a_copy_a_launch_and_a_copy(emulated, monkeypatch):
    task = unsupervised(device=DEVICE)
    task.do_batch(0.1)
    task._read_tally(wait=True)
    runtime, kinds = emulated.cuda.runtime, []
    copy = runtime.memcpyAsync
    monkeypatch.setattr(runtime, "memcpyAsync", lambda *a: [kinds.append(a[3]), copy(*a)])
    monkeypatch.setattr(cuda, "epoch_order", None)  # known since the first one
    emulated.told.clear()
    for number in (1, 2, 3):
        task.do_batch(0.1)
        assert kinds == [runtime.memcpyHostToDevice, runtime.memcpyDeviceToHost] * number
        assert len(emulated.told) == number
        # Each tally begins with nothing.
        assert task._read_tally(wait=True).num_sample == -(-task.num_pair // len(task))


def test_launches_are_as_long_as_the_device_is_fast(emulated):
    task = unsupervised(device=DEVICE)
    before = task._bound.max_pairs
    slot_time = 1e-3
    trained(task, num_epoch=1)
    bound = task._bound
    for _ in range(10):
        slot = bound._slots[0]
        slot.busy, slot.num_pair = True, bound.max_pairs
        slot.began.at, slot.ended.at = 0.0, slot_time
        bound._collect(slot)
    # A thousandth of a second each: the device does a hundred times as many in a tenth.
    assert bound.max_pairs > 100 * before


@pytest.mark.parametrize("num_pair", [1, 5, 31, 1000, 100_000])
@pytest.mark.parametrize(("threads", "sharing"), [(1, 1), (16, 1), (16, 8), (4, 16)])
def test_tiles_cover_a_launch(emulated, num_pair, threads, sharing):
    task = unsupervised(device=Cuda(threads_per_pair=threads), negative_sharing=sharing)
    bound = task._bound
    bound.prepare()
    bound._plan(1e-6)
    grid, block = bound._choose_grid(num_pair)
    num_tile, take = (int(bound._work[name][0]) for name in ("num_tile", "take"))
    assert 1 <= num_tile <= bound.geometry.num_tile
    assert 1 <= take <= threads
    assert grid * block >= num_tile * threads > (grid - 1) * block
    assert block in (32, 128)
    # No tile is without work.
    assert (num_tile - 1) * max(take, sharing) < num_pair


def test_a_higher_learning_rate_is_planned_for(emulated, monkeypatch):
    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 4000)
    task = unsupervised(device=DEVICE)
    tiles = []
    for rate in (0.01, 0.02, 0.005, 0.5):
        task.do_batch(rate)
        tiles.append(task._bound.geometry.num_tile)
    assert tiles[0] > tiles[1] == tiles[2] > tiles[3] >= 1


# --- what goes wrong --------------------------------------------------------


def started(**changes):
    task = unsupervised(device=DEVICE, **changes)
    return task, (task.syn0.copy(), task.syn1.copy())


def assert_untouched(task, before):
    assert np.array_equal(task.syn0, before[0])
    assert np.array_equal(task.syn1, before[1])


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("allocate", "OutOfMemoryError", "out of memory.*Nothing was written back"),
        ("compile", "CompileException", "failed.*Nothing was written back"),
        ("compile", "NVRTCError", "failed.*Nothing was written back"),
        ("copy", "CUDARuntimeError", "failed.*Nothing was written back"),
        ("launch", "CUDADriverError", "failed.*Nothing was written back"),
        ("synchronize", "CUDARuntimeError", "failed.*Nothing was written back"),
    ],
)
@pytest.mark.parametrize("countdown", [0, 1])
def test_a_failure_leaves_the_tables_untouched(emulated, kind, error, message, countdown):
    from emulator import fake_cupy

    task, before = started()
    emulated.fail[kind] = countdown, getattr(fake_cupy, error)("injected")
    with pytest.raises(DeviceError, match=f"cuda:0.*injected.*{message.split('.*')[-1]}"):
        trained(task)
    assert_untouched(task, before)
    # It was for once, and the task is as good as new.
    emulated.fail.clear()
    trained(task)
    assert (np.abs(task.syn0 - before[0]).max(axis=1) > 0).all()
    assert np.isfinite(task.syn0).all()


def test_a_failure_with_tables_of_the_device_says_so(emulated):
    from emulator import fake_cupy

    tables = tuple(to_device(emulated, table) for table in random_tables())
    emulated.fail["launch"] = 0, fake_cupy.CUDADriverError("injected")
    with pytest.raises(DeviceError, match="CuPy tables may hold a part of an epoch"):
        trained(unsupervised(tables=tables))


def test_ctrl_c_in_mid_epoch_hands_over_what_was_trained(emulated, monkeypatch, caplog):
    monkeypatch.setattr(cuda, "FIRST_SPEED", 1000.0)
    monkeypatch.setattr(cuda, "SPEED_CHANGE", 1.0)
    task, before = started()
    emulated.fail["launch"] = 3, KeyboardInterrupt()
    history = trained(task)
    assert history.interrupted
    assert np.isfinite(task.syn0).all()
    assert np.abs(task.syn0 - before[0]).max() > 0
    assert "interrupted" in caplog.text
    changed = task.syn0.copy()
    trained(task)
    assert not np.array_equal(task.syn0, changed)


def test_numbers_that_are_not_finite_are_not_written_back(emulated):
    task, before = started()
    with pytest.raises(DivergenceError, match="Nothing was written back"):
        trained(task, initial_learning_rate=1e30)
    assert_untouched(task, before)
    for _ in range(3):
        task.do_batch(1e30)
    with pytest.raises(DivergenceError, match="Nothing was written back"):
        task.synchronize()
    assert_untouched(task, before)
    trained(task)
    assert np.isfinite(task.syn0).all()


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("dim", [DIM, DIM + 1, DIM + 3])
def test_after_a_divergence_the_same_tables_train_again(emulated, dim, on_device):
    items, offsets = random_itemsets()
    start = random_tables(dim=dim)
    tables = start
    if on_device:
        tables = [initialize_syn(50, dim, device="cuda") for _ in range(2)]
    for rate in (1e30, 0.025):
        for table, values in zip(tables, start, strict=True):
            getattr(table, "_values", table)[...] = values
        task = UnsupervisedTask(items, offsets, *tables, num_negative=2, seed=1, device=DEVICE)
        if rate > 1:
            with pytest.raises(DivergenceError):
                trained(task, initial_learning_rate=rate)
            if not on_device:
                # The very task, too.
                trained(task)
        else:
            trained(task, initial_learning_rate=rate)
    for table in tables:
        assert np.isfinite(table.get() if on_device else table).all()


def test_a_rate_that_was_too_high_does_not_slow_what_follows(emulated, monkeypatch):
    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 4000)
    task = unsupervised(device=DEVICE)
    task.do_batch(0.025)
    expected = task._bound.geometry.num_tile
    task.do_batch(1e3)
    assert task._bound.geometry.num_tile == 1
    task.do_batch(0.025)
    assert task._bound.geometry.num_tile == expected > 1


def test_no_more_pairs_are_in_flight_than_there_are(emulated, monkeypatch):
    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 4000)
    items, offsets = random_itemsets(num_itemset=10)
    for sharing in (1, 8):
        task = unsupervised(items, offsets, device=DEVICE, negative_sharing=sharing)
        task.do_batch(1e-6)
        assert task._bound.geometry.num_tile == -(-len(items) // sharing)
        # Nor are rows held back for pairs that are never in flight together.
        assert task._bound.geometry.left_caps is None
        task.synchronize()


@pytest.mark.parametrize("options", [{}, {"negative_sharing": 8}, {"pooling": "mean"}])
def test_rows_in_flight_have_room_in_the_cache(emulated, options):
    task = unsupervised(*random_itemsets(num_itemset=2_000), device=DEVICE, **options)
    bound = task._bound
    once = instances.THREADS_PER_BLOCK // bound.instance.threads
    most = -(-task.num_pair // task.negative_sharing)
    assert bound._limit_tiles(10**6) == most  # the tables fit
    # Of rows of 12 floats, the left one, the positive and 3 negatives.
    room = 3.4 * once * 5 * 12 * 4
    bound._chip = dataclasses.replace(bound._chip, cache=int(room / in_flight.CACHE_SHARE))
    bound._left.shape = (10**6, DIM)
    assert bound._limit_tiles(10**6) == (most if options else 3 * once)
    bound._chip = dataclasses.replace(bound._chip, cache=1)
    assert bound._limit_tiles(10**6) == (most if options else once)


@pytest.mark.parametrize("countdown", [0, 1])
def test_a_plan_is_in_use_as_a_whole_or_not_at_all(emulated, monkeypatch, countdown):
    from emulator import fake_cupy

    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 4000)
    items, offsets = random_itemsets()
    items[:300] = 0  # hot enough to be held back on both sides
    task = unsupervised(items, offsets, device=DEVICE)
    task.do_batch(0.001)
    bound = task._bound
    before = bound.geometry, bound._planned_rate, bound._work.copy()
    emulated.fail["allocate"] = countdown, fake_cupy.OutOfMemoryError("injected")
    with pytest.raises(DeviceError, match="injected"):
        task.do_batch(0.5)
    assert (bound.geometry, bound._planned_rate) == before[:2]
    for name in ("left_caps", "right_caps"):
        assert bound._work[name] == before[2][name]
    task.do_batch(0.5)
    assert bound.geometry.num_tile < before[0].num_tile
    assert bound._work["left_caps"] != 0
    assert bound._work["right_caps"] != 0


def test_a_copy_back_that_fails_half_way_says_so(emulated):
    from emulator import fake_cupy

    task, before = started()
    task.do_batch(0.1)
    emulated.fail["copy"] = 1, fake_cupy.CUDARuntimeError("injected")
    with pytest.raises(DeviceError, match="may hold the result in part"):
        task.synchronize()
    assert not np.array_equal(task.syn0, before[0])
    assert np.array_equal(task.syn1, before[1])
    task.synchronize()
    assert not np.array_equal(task.syn1, before[1])


def test_an_upload_that_failed_is_made_good_by_nobody_else(emulated):
    from emulator import fake_cupy

    first, _ = started()
    second = unsupervised(device=DEVICE, tables=(first.syn0, first.syn1))
    emulated.fail["copy"] = 1, fake_cupy.CUDARuntimeError("injected")
    with pytest.raises(DeviceError):
        first._bound.prepare()
    second._bound.prepare()
    first.do_batch(0.1)
    assert first._bound._work["left_syn"] == second._bound._work["left_syn"] != 0


def test_one_row_may_have_any_stride(emulated):
    table = np.arange(DIM * 3, dtype=np.float32).reshape(3, DIM) / 100
    row = table[::-1][:1]
    expected = row.copy()
    items, offsets = np.zeros(4, dtype=np.int32), np.array([0, 2, 4])
    for syn, device in ((row, DEVICE), (expected, "cpu")):
        trained(UnsupervisedTask(items, offsets, syn, syn, seed=1, num_negative=1, device=device))
    np.testing.assert_allclose(row, expected, rtol=0.1)
    assert np.array_equal(table[:2], np.arange(DIM * 2, dtype=np.float32).reshape(2, DIM) / 100)


def test_a_compound_writes_back_all_or_nothing(emulated):
    good, before = started()
    bad = unsupervised(device=DEVICE, learning_rate_scale=1e30)
    compound = CompoundTask(good, bad)
    compound.do_batches(np.full(len(compound), 0.1))
    with pytest.raises(DivergenceError):
        compound.synchronize()
    assert_untouched(good, before)
    compound.synchronize()  # there is nothing left to write
    assert_untouched(good, before)


def test_memory_is_added_up_before_the_first_copy(emulated):
    emulated.free = 550_000
    syn0, syn1 = random_tables(2000, dim=64)
    task = unsupervised(device=DEVICE, tables=(syn0, syn1))
    with pytest.raises(DeviceError) as caught:
        trained(task)
    text = str(caught.value)
    for part in ("550 kB free", "1.58 MB", "tables 1.02 MB", "packed itemsets", "fewer itemsets"):
        assert part in text
    assert emulated.told == []
    emulated.free = 1_000_000
    with pytest.raises(DeviceError, match=r"a dimension of 2\d would fit"):
        trained(task)
    emulated.free = 1_700_000
    trained(task)


# --- what is here -----------------------------------------------------------


def test_the_device_is_described(emulated):
    info = available_backends()[1]
    assert info.available
    for part in ("Emulated", "1.07 GB", "compute capability 9.0", "12.9", "14.2.0"):
        assert part in info.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"driverGetVersion": lambda: 0}, "no NVIDIA driver was found; install one"),
        ({"driverGetVersion": lambda: 11040}, r"built for CUDA 12.9.*driver knows CUDA 11.4"),
        ({"getDeviceCount": lambda: 0}, "there is no GPU number 0"),
        (
            {"getDeviceProperties": lambda n: {
                "name": b"Old", "major": 6, "minor": 1, "multiProcessorCount": 1,
                "totalGlobalMem": 1}},
            "Old has compute capability 6.1, and 7.5 is needed",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_a_cure(emulated, changes, message):
    for name, value in changes.items():
        setattr(emulated.cuda.runtime, name, value)
    with pytest.raises(DeviceError, match=message):
        unsupervised(device="cuda")
    assert not available_backends()[1].available


def test_an_old_second_card_does_not_hide_the_first(emulated):
    properties = emulated.cuda.runtime.getDeviceProperties
    emulated.cuda.runtime.getDeviceCount = lambda: 2
    emulated.cuda.runtime.getDeviceProperties = lambda n: {**properties(n), "major": 9 - 4 * n}
    info = available_backends()[1]
    assert info.available
    assert "Emulated, 1.07 GB" in info.detail
    assert "cuda:1 not usable" in info.detail


def test_a_home_that_cannot_be_written_to(monkeypatch):
    import builtins

    real = builtins.__import__

    def fail(name, *arguments, **keywords):
        if name == "cupy":
            raise PermissionError(13, "Permission denied", "/.cupy")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", fail)
    chips.cupy.cache_clear()
    chips.find_chip.cache_clear()
    with pytest.raises(DeviceError, match=r"Permission denied.*CUPY_CACHE_DIR"):
        unsupervised(device="cuda")
    assert not available_backends()[1].available


def test_a_driver_that_answers_with_an_error(emulated):
    from emulator import fake_cupy

    def fail():
        raise fake_cupy.CUDARuntimeError("cudaErrorNoDevice")

    emulated.cuda.runtime.getDeviceCount = fail
    with pytest.raises(DeviceError, match=r"cudaErrorNoDevice.*nvidia-smi"):
        unsupervised(device="cuda")


def test_cupy_that_is_not_installed(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    chips.cupy.cache_clear()
    chips.find_chip.cache_clear()
    with pytest.raises(DeviceError, match=r"CuPy cannot be imported.*itembed-gpu\[cuda12\]"):
        unsupervised(device="cuda")


def test_a_compiler_that_cannot_be_loaded(emulated):
    task, before = started()
    emulated.fail["compile"] = 0, RuntimeError("libnvrtc.so.12: cannot open shared object file")
    with pytest.raises(DeviceError, match=r"NVRTC cannot be loaded.*libnvrtc.*itembed-gpu\["):
        trained(task)
    assert_untouched(task, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": -1}, "index is -1"),
        ({"threads_per_pair": 3}, "threads_per_pair is 3; pass one of 1, 2, 4"),
    ],
)
def test_settings_of_a_device_are_checked(arguments, message):
    with pytest.raises(InputError, match=message):
        Cuda(**arguments)


# --- low-level functions ----------------------------------------------------


@pytest.mark.parametrize("all_on_device", [False, True])
def test_unsupervised_batches_of_the_low_level(emulated, monkeypatch, all_on_device):
    items, offsets = random_itemsets()
    weights = np.random.default_rng(1).random(len(items), dtype=np.float32)
    indices = np.array([5, 190, 3, 3, 77])
    expected = random_tables()
    tables = [to_device(emulated, table) for table in expected]
    tmp = np.empty(DIM, dtype=np.float32)
    arrays = [items, weights, offsets, indices]
    plans = []
    set_geometry = cuda.CudaTask._set_geometry
    monkeypatch.setattr(
        cuda.CudaTask,
        "_set_geometry",
        lambda self, *plan: [plans.append(plan), set_geometry(self, *plan)],
    )
    do_unsupervised_batch(*arrays, *expected, tmp, NUM_NEGATIVE, 0.025, 11, 2**40)
    if all_on_device:
        arrays, tmp = [to_device(emulated, a) for a in arrays], to_device(emulated, tmp)
    do_unsupervised_batch(*arrays, *tables, tmp, NUM_NEGATIVE, 0.025, 11, 2**40)
    # One plan, and no row held back.
    assert [plan[0].left_caps for plan in plans] == [None]
    for table, values in zip(tables, expected, strict=True):
        np.testing.assert_allclose(table.get(), values, rtol=1e-3, atol=2e-6)


def test_a_batch_in_order_has_few_pairs_in_flight_and_no_caps(emulated, monkeypatch):
    """Also where they are fewer than the device can hold."""
    monkeypatch.setattr(cuda.CudaTask, "_count_tiles", lambda self, kernel: 4000)
    plans, set_geometry = [], cuda.CudaTask._set_geometry
    monkeypatch.setattr(
        cuda.CudaTask,
        "_set_geometry",
        lambda self, geometry, rate: [plans.append(geometry), set_geometry(self, geometry, rate)],
    )
    items, offsets = random_itemsets()
    arrays = items, np.ones(len(items), np.float32), offsets, np.arange(len(offsets) - 1)
    tables = [to_device(emulated, table) for table in random_tables()]
    do_unsupervised_batch(*arrays, *tables, np.empty(DIM, np.float32), NUM_NEGATIVE, 0.3, 11, 0)
    (geometry,) = plans
    assert 1 < geometry.num_tile < len(items)
    assert geometry.left_caps is None
    assert geometry.right_caps is None


def test_supervised_batches_of_the_low_level(emulated):
    left, right = random_itemsets(50, 30, 0, 4, seed=1), random_itemsets(20, 30, 0, 3, seed=2)
    sides = []
    for items, offsets in (left, right):
        weights = np.random.default_rng(1).random(len(items), dtype=np.float32)
        sides += [items, weights, offsets, np.arange(25)]
    sides[7] = np.arange(25) + 2
    expected = random_tables(50, 20)
    tables = [to_device(emulated, table) for table in expected]
    tmp = np.empty(DIM, dtype=np.float32)
    do_supervised_batch(*sides, *expected, tmp, NUM_NEGATIVE, 0.01, 11, 3)
    do_supervised_batch(*sides, *tables, tmp, NUM_NEGATIVE, 0.01, 11, 3)
    for table, values in zip(tables, expected, strict=True):
        np.testing.assert_allclose(table.get(), values, rtol=1e-3, atol=2e-6)


def test_a_batch_of_nothing_changes_nothing(emulated):
    items, offsets = random_itemsets()
    tables = [to_device(emulated, table) for table in random_tables()]
    weights, none = np.ones(len(items), dtype=np.float32), np.empty(0, dtype=np.int64)
    do_unsupervised_batch(items, weights, offsets, none, *tables, None, NUM_NEGATIVE, 0.1)
    assert np.array_equal(tables[0].get(), random_tables()[0])


def test_batches_of_the_low_level_are_checked_on_the_device_too(emulated):
    items, offsets = random_itemsets()
    tables = [to_device(emulated, table) for table in random_tables()]
    weights, indices = np.ones(len(items), dtype=np.float32), np.array([len(offsets)])
    with pytest.raises(InputError, match="indices must be in"):
        do_unsupervised_batch(items, weights, offsets, indices, *tables, None, NUM_NEGATIVE, 0.1)
    items[0] = 50
    with pytest.raises(InputError, match="items has items"):
        do_unsupervised_batch(
            items, weights, offsets, np.array([0]), *tables, None, NUM_NEGATIVE, 0.1
        )


# --- instances --------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "threads", "pieces"),
    [(1, 1, 1), (8, 1, 2), (32, 4, 2), (64, 8, 2), (100, 16, 2), (128, 16, 2), (256, 32, 2),
     (512, 32, 4), (4096, 32, 32)],
)  # fmt: skip
def test_the_tile_follows_from_the_dimension(dim, threads, pieces):
    instance = instances.choose_instance(NEIGHBOUR, dim, 5, chip=90)
    assert (instance.threads, instance.pieces) == (threads, pieces)
    assert instance.threads * instance.pieces * instance.width >= dim


def test_updates_are_added_unless_they_may_be_lost():
    assert instances.choose_instance(NEIGHBOUR, 8, 5, chip=90).update == "add_vector"
    assert instances.choose_instance(NEIGHBOUR, 8, 5, chip=80).update == "add"
    assert instances.choose_instance(NEIGHBOUR, 8, 5, chip=90, width=1).update == "add"
    assert instances.choose_instance(NEIGHBOUR, 8, 5, chip=90, lossy=True).update == "store"

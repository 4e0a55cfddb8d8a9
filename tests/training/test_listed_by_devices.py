"""Pairs listed by a device: the lists that the CPU makes, to the number."""

import contextlib
import threading
import time
import weakref

import numpy as np
import pytest
from test_partitioned import KINDS, NUM_ROW, list_all, unsupervised

from itembed_gpu import Cuda, train
from itembed_gpu.backends.cpu.listing import CpuLister
from itembed_gpu.backends.cuda import chips, instances, listing
from itembed_gpu.backends.cuda.listing import CudaLister
from itembed_gpu.backends.cuda.task import CudaBackend
from itembed_gpu.backends.devices import select_backend
from itembed_gpu.backends.listing import Ranks
from itembed_gpu.training.partitioned import Blocks, PartitionedTask


@pytest.fixture(scope="module", autouse=True)
def kernels():
    from emulator import build_ahead

    build_ahead(instances.LISTING)


def list_by(device, blocks, epoch=0, slots=None):
    lister = select_backend(device).lister(blocks.problem)
    slots = slots or (0, blocks.problem.num_slot)
    return blocks.list_pairs(0, epoch, slots, lister)


def assert_same_lists(found, expected):
    for name, one, other in zip(expected._fields, found.fetch(), expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
        assert np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_those_of_the_cpu(device, kind):
    problem = KINDS[kind]()._problem
    for num_part, sweeps in ((1, 1), (4, 3)):
        blocks = Blocks(problem, num_part, sweeps=sweeps)
        for epoch in (0, 1):
            expected = list_all(blocks, epoch)
            assert_same_lists(list_by(device, blocks, epoch), expected)
    assert len(expected.left) > 0


@pytest.fixture
def little_room(emulated, monkeypatch):
    """A device with room for the pairs of some slots, and for the counts of a few ranges."""
    monkeypatch.setattr(CudaLister, "_room", lambda self, ranks: 3000)
    monkeypatch.setattr(listing, "MIN_PIECE", 32)
    monkeypatch.setattr(listing, "MAX_PLACES", 8 * 3 * 17)
    return emulated


@pytest.mark.parametrize("kind", KINDS)
def test_some_slots_at_a_time_are_the_same(little_room, kind):
    blocks = Blocks(KINDS[kind]()._problem, 4)
    found = list_by("cuda", blocks, 1)
    # To count, and once more before they are written, of each of some pieces.
    assert len([one for one in little_room.told if one.startswith("launch")]) >= 3 * 3
    assert isinstance(found.left, np.ndarray)
    assert_same_lists(found, list_all(blocks, 1))


def test_a_host_without_pinned_memory_keeps_the_list_otherwise(little_room):
    blocks = Blocks(unsupervised()._problem, 4)
    little_room.fail["pin"] = 0, little_room.cuda.runtime.CUDARuntimeError("out of memory")
    assert_same_lists(list_by("cuda", blocks), list_all(blocks))
    assert not little_room.fail


@pytest.mark.parametrize("kind", ["unsupervised", "weighted", "cells", "one table"])
def test_it_does_not_matter_where_a_list_lies(one_tile, request, kind):
    lie, results = [], []
    for fixture in (None, "little_room"):
        if fixture:
            request.getfixturevalue(fixture)
        task = KINDS[kind](partitions=4, device=Cuda(threads_per_pair=1))
        train(task, num_epoch=2, initial_learning_rate=0.1, progress=False)
        lie.append(type(task._bound._known.listed.left))
        results.append([a for table in task._problem.tables for a in table.arrays().values()])
    assert lie == [one_tile.ndarray, np.ndarray]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("free", [1 << 40, 0])
def test_a_list_has_the_room_that_parts_leave(emulated, monkeypatch, free):
    monkeypatch.setattr(listing, "MIN_ROOM", 20_000)
    problem = unsupervised()._problem
    ranks = Ranks(*[np.arange(NUM_ROW, dtype=np.int32)] * 2, 4, 1)
    lister = CudaLister(problem, chips.find_chip(0))
    # Four quarters of a table of 50 rows of 12 numbers, and what counts take.
    taken = 4 * 50 * 12 * 4 // 4 + 3 * listing.MAX_PLACES
    monkeypatch.setattr(emulated.cuda.runtime, "memGetInfo", lambda: (free, 0))
    assert lister._room(ranks) == max(20_000, int(0.95 * free) - taken)


@pytest.mark.parametrize("slots", [(0, 0), (7, 8), (33, 500)])
def test_a_share_of_the_slots(emulated, slots):
    for kind in ("supervised", "window", "listed"):
        blocks = Blocks(KINDS[kind]()._problem, 3)
        expected = blocks.list_pairs(0, 0, slots, CpuLister(blocks.problem, 1))
        assert_same_lists(list_by("cuda", blocks, slots=slots), expected)


def test_pairs_travel_once_and_lists_never(emulated, monkeypatch):
    """The itemsets come with the first epoch; what a visit trains is there already."""
    task = unsupervised(partitions=4, device=Cuda(threads_per_pair=1))
    copied = []
    for name in ("to_device", "to_device_pinned"):
        copy = getattr(listing.tables, name, None)

        def tell(array, *, copy=copy, **how):
            copied.append(array)
            return copy(array, **how)

        monkeypatch.setattr(listing.tables, name, tell, raising=False)
    num_item = len(task._problem.pairs.left_items)
    for times in (1, 0):
        train(task, num_epoch=1, progress=False)
        # Of a visit come offsets and what is drawn for each row, and never its pairs.
        assert sum(len(array) == num_item for array in copied) == 2 * times  # and the guide
        assert max(map(len, copied)) == max(NUM_ROW, times * num_item)
        copied.clear()


def test_the_next_part_comes_while_one_is_trained(emulated, monkeypatch):
    """It is on its way before the end of the visit is waited for."""
    told = []
    enter, bring = PartitionedTask._enter, PartitionedTask._bring
    monkeypatch.setattr(
        PartitionedTask, "_bring", lambda self, table: told.append("bring") or bring(self, table)
    )

    def entered(self, *place):
        before = self._place
        enter(self, *place)
        if self._place != before:
            # What was sent off for the visit after this one, before this one is run.
            told.append(f"visit, {'next' if self._ahead else 'none'} ahead")

    monkeypatch.setattr(PartitionedTask, "_enter", entered)
    task = unsupervised(partitions=2, device=Cuda(threads_per_pair=1))
    train(task, num_epoch=1, progress=False)
    visits = [one for one in told if one.startswith("visit")]
    assert visits == ["visit, next ahead"] * 3 + ["visit, none ahead"]


def test_a_part_comes_while_another_one_goes(emulated, monkeypatch):
    """Neither waits for the other, and a part that goes and comes again is as it was."""
    threads, met, both = {}, [], threading.Barrier(2)

    def trained():
        task = unsupervised(partitions=4, device=Cuda(threads_per_pair=1))
        train(task, num_epoch=2, progress=False)
        return task.syn0, task.syn1

    def meeting(name):
        copy = getattr(CudaBackend, name)

        def call(self, table):
            threads[name] = threading.current_thread().name
            if not met:
                with contextlib.suppress(threading.BrokenBarrierError):
                    both.wait(timeout=0.2)  # for the other one
                    met.append(name)
                both.reset()
            return copy(self, table)

        return call

    expected = trained()
    for name in ("bring", "fetch"):
        monkeypatch.setattr(CudaBackend, name, meeting(name))
    found = trained()
    assert met
    assert threads["bring"] != threads["fetch"]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_parts_that_go_slowly_do_not_pile_up(emulated, monkeypatch):
    """The two of a visit, the next one and the one before are on the device, and no more."""
    alive, most = weakref.WeakSet(), []
    bring, fetch = CudaBackend.bring, CudaBackend.fetch

    def brought(self, table):
        part = bring(self, table)
        if len(table) > 1:  # those of one row stand for none
            alive.add(part)
        most.append(len(alive))
        return part

    def fetched(self, table):
        time.sleep(0.05)
        return fetch(self, table)

    monkeypatch.setattr(CudaBackend, "bring", brought)
    monkeypatch.setattr(CudaBackend, "fetch", fetched)
    task = unsupervised(partitions=8, device=Cuda(threads_per_pair=1))
    train(task, num_epoch=1, progress=False)
    assert max(most) <= 4

"""Hashes are numbered as they first come, also where they share a place or a half."""

import numpy as np
import pytest

from itembed_gpu.data.loops import number_hashes, number_long_hashes


def number(keys):
    numbers = {}
    found = [numbers.setdefault(key, len(numbers)) for key in keys]
    return found, [found.index(n) for n in range(len(numbers))]


@pytest.mark.parametrize("num_key", [1, 5, 40_000])
@pytest.mark.parametrize("shift", [0, 40])
def test_hashes_are_numbered_as_they_first_come(num_key, shift):
    # Shifted, all of them have the same place in a table.
    keys = np.random.default_rng(0).integers(0, num_key, min(3 * num_key, 50_000))
    keys = keys[:3000] if shift else keys
    hashes = keys.astype(np.uint64) << np.uint64(shift)
    numbers, first_rows = number_hashes(hashes)
    assert (numbers.tolist(), first_rows.tolist()) == number(hashes.tolist())
    assert (numbers.dtype, first_rows.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("num_high", [3, 10**6])
def test_both_halves_of_long_hashes_count(num_high):
    generator = np.random.default_rng(1)
    high, low = (generator.integers(0, n, 5000).astype(np.uint64) for n in (num_high, 40))
    numbers, first_rows = number_long_hashes(high, low)
    expected = number(list(zip(high.tolist(), low.tolist(), strict=True)))
    assert (numbers.tolist(), first_rows.tolist()) == expected


def test_there_may_be_none():
    nothing = np.empty(0, np.uint64)
    for numbers, first_rows in (number_hashes(nothing), number_long_hashes(nothing, nothing)):
        assert len(numbers) == len(first_rows) == 0

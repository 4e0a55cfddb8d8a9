"""The random stream: published known answers, and values pinned for every backend."""

import numpy as np
import pytest
from numba import njit

from itembed_gpu.errors import InputError
from itembed_gpu.objective.options import resolve_seed
from itembed_gpu.objective.rng import below, fill_draws, philox, philox_words, u64

# counter, key, output: Random123's kat_vectors, "philox4x32 10".
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


# Draws 0 ... 7 of slots 0, 7 and 2**40 + 3, for the key below.
PINNED = [
    [2468824314, 153172626, 1702753870, 1783145257, 3197858156, 3974785700, 1034843633, 2962893179],
    [3509494709, 2990577636, 2909263934, 4232121615, 1878653553, 828990218, 3799525573, 4224158577],
    [2762797352, 1080114123, 256424094, 3818090759, 1198407784, 1799462109, 3990077204, 1824394786],
]


@njit
def compiled_philox(counter, key):
    c0, c1, c2, c3 = counter
    k0, k1 = key
    return philox(c0, c1, c2, c3, k0, k1)


@njit
def compiled_draws(seed, stream, epoch, slots, num_block):
    draws = np.zeros((4 * num_block, len(slots)), dtype=np.uint32)
    fill_draws(seed, stream, epoch, slots, len(slots), draws)
    return draws


@njit
def compiled_below(word, bound):
    return below(word, bound)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    words = compiled_philox(tuple(map(u64, counter)), tuple(map(u64, key)))
    assert tuple(map(int, words)) == expected
    assert philox_words(counter, key) == expected


def test_draws_of_a_slot_are_pinned():
    # Every backend has to make these, or a seed means something else on each.
    slots = np.array([0, 7, 2**40 + 3], dtype=np.uint64)
    draws = compiled_draws(u64(12345678901234567890), u64(2), u64(9), slots, 2)
    assert draws.T.tolist() == PINNED


def test_draws_follow_the_documented_layout():
    seed, stream, epoch, slot = 12345678901234567890, 2, 9, 2**40 + 3
    draws = compiled_draws(u64(seed), u64(stream), u64(epoch), np.array([slot], dtype=np.uint64), 2)
    for block in range(2):
        counter = (slot & 0xFFFFFFFF, slot >> 32, epoch, stream << 16 | block)
        words = philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32))
        assert draws[4 * block : 4 * block + 4, 0].tolist() == list(words)


def test_draws_do_not_depend_on_their_company():
    slots = np.arange(100, dtype=np.uint64)
    together = compiled_draws(u64(1), u64(0), u64(0), slots, 1)
    for slot in (0, 41, 99):
        alone = compiled_draws(u64(1), u64(0), u64(0), slots[slot : slot + 1], 1)
        assert np.array_equal(together[:, slot], alone[:, 0])


@pytest.mark.parametrize("changed", ["seed", "stream", "epoch"])
def test_every_part_of_the_key_matters(changed):
    key = {"seed": u64(3), "stream": u64(0), "epoch": u64(0)}
    slots = np.arange(64, dtype=np.uint64)
    before = compiled_draws(*key.values(), slots, 2)
    key[changed] += u64(1)
    after = compiled_draws(*key.values(), slots, 2)
    assert np.count_nonzero(before == after) == 0


def test_draws_are_uniform():
    draws = compiled_draws(u64(5), u64(0), u64(0), np.arange(1 << 16, dtype=np.uint64), 1)
    counts = np.bincount((draws.astype(np.uint64) * 64 >> 32).ravel().astype(int), minlength=64)
    expected = draws.size / 64
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert 30 < chi2 < 110  # 63 degrees of freedom: p > 1e-4 on both sides


@pytest.mark.parametrize(
    ("word", "bound", "expected"),
    [(0, 7, 0), (2**32 - 1, 7, 6), (2**31, 7, 3), (2**32 - 1, 1, 0), (2**32 - 1, 2**31, 2**31 - 1)],
)
def test_below(word, bound, expected):
    assert compiled_below(u64(word), u64(bound)) == expected


def test_seeds():
    assert resolve_seed(2**64 - 1) == 2**64 - 1
    assert resolve_seed(np.int64(5)) == 5
    drawn = {resolve_seed(None) for _ in range(5)}
    assert len(drawn) == 5
    assert max(drawn) < 2**53
    for bad in (-1, 2**64, 1.0, "1", True):
        with pytest.raises(InputError, match="seed"):
            resolve_seed(bad)

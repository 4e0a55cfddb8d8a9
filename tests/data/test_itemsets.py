"""Packing and pruning, against `itembed` and against a literal account of what they do."""

import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, deque
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import itembed
import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given, strategies as st

from itembed_gpu.data import itemsets as module
from itembed_gpu.data.itemsets import Dropped, PackedItemsets, offsets_dtype
from itembed_gpu.data.lists import pack_itemsets
from itembed_gpu.data.packing import Limits, pack_codes, prune_itemsets
from itembed_gpu.errors import InputError

# Few enough that labels repeat; 1, 1.0 and True are one label.
ITEMS = st.sampled_from([None, "a", "b", "", b"a", 0, 1, 1.0, True, -1, (1, 2), frozenset("a")])
ITEMSETS = st.lists(st.lists(ITEMS, max_size=6), max_size=12)
LIMITS = st.integers(0, 4)

# What is drawn may look like rows of 0 and 1.
pytestmark = pytest.mark.filterwarnings("ignore:each of the .* itemsets holds .* all of them 0 or")


def same(actual, expected):
    """Whether arrays have the same values and dtype."""
    return actual.dtype == expected.dtype and np.array_equal(actual, expected)


def assert_packed_as(packed, reference):
    labels, indices, offsets = packed
    # Compared with their types, so that 1 is not taken for True; but whole floats are integers.
    expected = [int(label) if type(label) is float else label for label in reference[0]]
    assert list(map(repr, labels)) == list(map(repr, expected))
    assert same(indices, reference[1])
    assert same(offsets, reference[2])


def unpack(packed):
    """Labels of each itemset."""
    labels, indices, offsets = packed
    return [[labels[index] for index in indices[start:end]] for start, end in pairwise(offsets)]


class Once:
    """An iterable that fails when it is read twice."""

    def __init__(self, values):
        self.values = values
        self.num_read = 0

    def __iter__(self):
        self.num_read += 1
        assert self.num_read == 1, "read twice"
        return iter(self.values)


class TestPackLikeItembed:
    @given(ITEMSETS, LIMITS, LIMITS)
    def test_any_itemsets(self, itemsets, min_count, min_length):
        reference = itembed.pack_itemsets(itemsets, min_count=min_count, min_length=min_length)
        assert_packed_as(
            pack_itemsets(itemsets, min_count=min_count, min_length=min_length), reference
        )
        # The same, through the path for what is not a list of lists.
        generators = ((item for item in itemset) for itemset in itemsets)
        assert_packed_as(
            pack_itemsets(generators, min_count=min_count, min_length=min_length), reference
        )

    @pytest.mark.parametrize("limits", [{}, {"min_count": 3, "min_length": 2}])
    def test_many_itemsets(self, limits):
        # More items, and more labels, than one block of counting.
        generator = np.random.default_rng(0)
        items = np.concatenate(
            [generator.zipf(1.2, 50_000) % 1000, generator.integers(0, 90_000, 150_000)]
        )
        itemsets = [
            [f"item {item}" for item in part.tolist()]
            for part in np.split(items, np.sort(generator.integers(0, len(items), 30_000)))
        ]
        assert_packed_as(
            pack_itemsets(itemsets, **limits), itembed.pack_itemsets(itemsets, **limits)
        )

    def test_limits_may_be_numpy_integers(self):
        itemsets = [["a"], ["a", "b", "c"], ["b", "a"]]
        limits = {"min_count": np.int64(2), "min_length": np.uint8(2)}
        assert_packed_as(
            pack_itemsets(itemsets, **limits),
            itembed.pack_itemsets(itemsets, min_count=2, min_length=2),
        )

    @pytest.mark.parametrize("itemsets", [["abba", "b"], [b"abba", ["b"]], "abba", [np.str_("ab")]])
    def test_strings_are_read_by_characters_with_one_warning(self, itemsets):
        with pytest.warns(UserWarning, match=r"look like strings: itemsets\[0\].*\[\[item") as seen:
            packed = pack_itemsets(itemsets)
        assert len(seen) == 1
        assert seen[0].filename == __file__
        assert_packed_as(packed, itembed.pack_itemsets(itemsets))


class TestPackIterables:
    EXPECTED = (["a", "b"], [0, 1, 0], [0, 2, 3])

    def assert_expected(self, packed):
        assert [list(part) for part in packed] == [list(part) for part in self.EXPECTED]

    @pytest.mark.parametrize(
        "itemsets",
        [
            (("a", "b"), ["a"]),
            deque([deque("ab"), deque("a")]),
            {"first": ["a", "b"], "second": ["a"]}.values(),
            [{"a": 9, "b": 0}, OrderedDict(a=0)],
            [Counter(a=1, b=5), {"a"}],
            [["a", "b"], frozenset("a")],
            np.array([["a", "b"], ["a", None]], dtype=object),
            [np.array(["a", "b"]), np.array(["a"])],
        ],
        ids=lambda itemsets: type(itemsets).__name__,
    )
    def test_any_collections(self, itemsets):
        self.assert_expected(pack_itemsets(itemsets))

    def test_a_collection_that_is_wrong_about_its_length(self):
        class Wrong(list):
            def __len__(self):
                return 9

        self.assert_expected(pack_itemsets([Wrong("ab"), ["a"]]))

    @pytest.mark.parametrize("weighted", [False, True])
    def test_everything_is_read_once(self, weighted):
        itemsets = Once([Once(["a", "b"]), Once(["a"])])
        weights = Once([Once([1, 2]), Once([3])]) if weighted else None
        self.assert_expected(pack_itemsets(itemsets, weights=weights))
        assert itemsets.num_read == 1

    def test_a_list_that_is_filled_again_for_each_itemset(self):
        def fill():
            itemset = []
            for items in ["ab", "a"]:
                itemset[:] = items
                yield itemset

        self.assert_expected(pack_itemsets(fill()))

    def test_nothing(self):
        packed = pack_itemsets(iter([]))
        assert packed.labels == []
        assert same(packed.indices, np.zeros(0, np.int32))
        assert same(packed.offsets, np.zeros(1, np.int32))
        assert same(packed.counts, np.zeros(0, np.int64))
        assert (packed.num_label, packed.num_item, packed.num_itemset) == (0, 0, 0)

    def test_errors_of_the_caller_pass_through(self):
        def fail():
            yield ["a"]
            raise TypeError("mine")

        with pytest.raises(TypeError, match=r"^mine$"):
            pack_itemsets(fail())
        with pytest.raises(TypeError, match=r"^mine$"):
            pack_itemsets([["a"], fail()])


class TestPackAccount:
    def test_example(self):
        itemsets = [["a", "b", None], ["a", "c"], [], ["b", "a", "b"]]
        packed = pack_itemsets(itemsets, min_count=2, min_length=2)
        assert unpack(packed) == [["a", "b"], ["b", "a", "b"]]
        assert packed.labels == ["a", "b"]
        assert same(packed.counts, np.array([3, 3]))
        assert packed.dropped == Dropped(
            itemsets_read=4,
            items_read=8,
            none_items=1,
            rare_labels=1,
            rare_items=1,
            short_itemsets=2,
            short_items=1,
        )

    @given(ITEMSETS, LIMITS, LIMITS)
    def test_adds_up(self, itemsets, min_count, min_length):
        packed = pack_itemsets(itemsets, min_count=min_count, min_length=min_length)
        dropped = packed.dropped
        counts = Counter(item for itemset in itemsets for item in itemset)
        num_none = counts.pop(None, 0)

        assert dropped.itemsets_read == len(itemsets)
        assert dropped.itemsets_read == packed.num_itemset + dropped.short_itemsets
        assert dropped.items_read == sum(map(len, itemsets))
        assert dropped.items_read == (
            packed.num_item + num_none + dropped.rare_items + dropped.short_items
        )
        assert dropped.none_items == num_none
        assert dropped.rare_labels == len(counts) - packed.num_label
        assert dropped.rare_items == sum(count for count in counts.values() if count < min_count)
        assert packed.counts.tolist() == [counts[label] for label in packed.labels]

    def test_in_words(self):
        assert str(Dropped()) == "0 itemsets with 0 items read; dropped nothing"
        assert str(Dropped(1, 1)) == "1 itemset with 1 item read; dropped nothing"
        assert str(Dropped(3000, 12345, 1, 2, 3, 1, 0, 2, 1)) == (
            "3,000 itemsets with 12,345 items read; dropped 1 None item, 2 rare labels (3 items), "
            "1 short itemset (0 items), 2 masked itemsets (1 item)"
        )
        assert str(
            Dropped(9, 99, zero_items=1, duplicate_items=2, long_itemsets=1, cut_items=3)
        ) == (
            "9 itemsets with 99 items read; dropped 1 zero item, 2 duplicate items, "
            "3 items of 1 long itemset"
        )


class TestPackWeights:
    @given(ITEMSETS, LIMITS, LIMITS)
    def test_go_with_their_items(self, itemsets, min_count, min_length):
        # Each weight is its item's place in the input, where the item can be looked up.
        places = iter(range(1000))
        weights = [[next(places) for _ in itemset] for itemset in itemsets]
        flat = [item for itemset in itemsets for item in itemset]
        limits = {"min_count": min_count, "min_length": min_length}

        packed = pack_itemsets(itemsets, weights=weights, **limits)
        assert_packed_as(packed, itembed.pack_itemsets(itemsets, **limits))
        assert packed.weights.dtype == np.float32
        assert len(packed.weights) == packed.num_item
        places = packed.weights.astype(int)
        assert (np.diff(places) > 0).all()
        assert [flat[place] for place in places] == [packed.labels[i] for i in packed.indices]

    def test_none_by_default(self):
        assert pack_itemsets([["a"]]).weights is None

    def test_of_any_kind(self):
        weights = (row for row in [np.array([1, 2.5]), {3: 0}.keys(), (np.float32(4),)])
        packed = pack_itemsets(["ab", {"a"}, iter("b")][1:], weights=list(weights)[1:])
        assert same(packed.weights, np.array([3, 4], np.float32))

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([[1, 1]], r"weights ends after 1 itemsets"),
            ([], r"weights ends after 0 itemsets"),
            ([[1, 1], [], [1], []], r"weights goes on after the 3 itemsets"),
            ([[1, 1], [], []], r"weights\[2\] has 0 weights, and itemsets\[2\] 1 items"),
            ([[1], [1], [1]], r"weights\[0\] has 1 weights, and itemsets\[0\] 2 items"),
            ([[1, 1], [], [np.nan]], r"weights\[2\]\[0\] is nan"),
            ([[1, np.inf], [], [1]], r"weights\[0\]\[1\] is inf"),
            ([[1, -1e39], [], [1]], r"weights\[0\]\[1\] is -inf in float32"),
            ([[1, 10**400], [], [1]], r"weights\[0\]: int too large"),
            ([[1, "1"], [], [1]], r"weights\[0\]: .*str.*pass numbers"),
            ([[1, None], [], [1]], r"weights\[0\]: .*pass numbers"),
            ([1, 2, 3], r"weights\[0\] is 1, which is not iterable"),
            (0.5, r"weights is 0.5, which is not iterable"),
        ],
    )
    def test_that_cannot_be_used(self, weights, message):
        with pytest.raises(InputError, match=message):
            pack_itemsets([["a", "b"], [], ["a"]], weights=weights)


NAN = float("nan")


class TestLabels:
    """Labels as values of Python, and what is none."""

    @pytest.mark.parametrize(
        "missing",
        [
            None, NAN, np.float32("nan"), np.datetime64("NaT"), np.timedelta64("NaT"), pandas.NA,
            pandas.NaT, Decimal("NaN"), pyarrow.scalar(None), pyarrow.scalar(NAN),
        ],
        ids=repr,
    )  # fmt: skip
    def test_what_is_missing_is_no_item(self, missing):
        packed = pack_itemsets(
            [["a", missing], [missing], ["b", "a", missing]], weights=[[1, 2], [3], [4, 5, 6]]
        )
        assert unpack(packed) == [["a"], ["b", "a"]]
        assert packed.weights.tolist() == [1, 4, 5]
        lost = packed.dropped
        assert (lost.items_read, lost.none_items, lost.short_itemsets) == (6, 3, 1)

    def test_every_nan_of_a_padded_frame_is_none(self):
        frame = pandas.DataFrame([["a", "b", NAN], ["a", NAN, float("nan")]], dtype=object)
        for itemsets in (frame.to_numpy(), frame.to_numpy().tolist()):
            packed = pack_itemsets(itemsets)
            assert (packed.labels, packed.dropped.none_items) == (["a", "b"], 3)

    @pytest.mark.parametrize(
        ("label", "expected"),
        [
            (np.str_("tea"), "tea"),
            (np.int16(3), 3),
            (np.bool_(True), True),
            (np.datetime64("2024-01-02"), date(2024, 1, 2)),
            (np.datetime64("2024-01-02T03:04:05", "ns"), datetime(2024, 1, 2, 3, 4, 5)),
            (np.timedelta64(90, "s"), timedelta(seconds=90)),
            (np.timedelta64(2000, "ns"), timedelta(microseconds=2)),
            (pandas.Timestamp("2024-01-02"), datetime(2024, 1, 2)),
            (pandas.Timedelta(seconds=90), timedelta(seconds=90)),
            (pyarrow.scalar("tea"), "tea"),
            (pyarrow.scalar(3, pyarrow.int8()), 3),
            (pyarrow.scalar(datetime(2024, 1, 2), pyarrow.timestamp("ns")), datetime(2024, 1, 2)),
            (pyarrow.array(["tea"]).dictionary_encode()[0], "tea"),
            (Decimal("3.0"), 3),
            ((np.int64(1), pyarrow.scalar("tea")), (1, "tea")),
        ],
        ids=repr,
    )
    def test_values_are_those_of_python_and_one_label(self, label, expected):
        for itemset in ([label, expected], [expected, label]):
            packed = pack_itemsets([itemset])
            assert packed.labels == [expected]
            assert repr(packed.labels[0]) == repr(expected)  # with the types within a tuple
            assert packed.counts.tolist() == [2]

    def test_known_labels_are_values_of_python_too(self):
        labels = pyarrow.array(["b", "z"])
        assert pack_itemsets([["a", "b"]], labels=labels).labels == ["b", "z", "a"]

    @pytest.mark.parametrize(
        "label", [np.datetime64(1, "ns"), pandas.Timestamp(1), pandas.Timedelta(1)], ids=repr
    )
    def test_moments_are_not_rounded(self, label):
        with pytest.raises(InputError, match="round it"):
            pack_itemsets([[label]])

    def test_what_python_has_nothing_for_stays(self):
        labels = [np.timedelta64(1, "Y"), pandas.Period("2024"), Decimal("2.5"), 1.5]
        assert pack_itemsets([labels]).labels == labels

    def test_floats_that_do_not_tell_integers_apart(self):
        with pytest.raises(InputError, match=r"9007199254740994\.0, a float.*pass integers"):
            pack_itemsets([[1.0, 2.0**53 + 2]])
        assert pack_itemsets([[1.5, 2.0**60]]).num_label == 2  # no identifiers

    def test_floats_are_integers_if_all_are_whole(self):
        packed = pack_itemsets([[2.0, NAN, "a"], [np.float32(3), 2]])
        assert repr(packed.labels) == "[2, 'a', 3]"
        assert repr(pack_itemsets([[2.0, 0.5]]).labels) == "[2.0, 0.5]"

    def test_arrays_of_moments(self):
        moments = np.array([["2024-01-02", "NaT"]], "datetime64[ns]")
        assert pack_itemsets(moments).labels == [datetime(2024, 1, 2)]


class TestSets:
    def test_items_are_sorted_and_weights_go_with_them(self):
        sets = [{"d", "b", "c"}, {"b", "a"}]
        weights = [[ord(item) for item in itemset] for itemset in sets]
        for itemsets in (sets, map(frozenset, sets)):
            packed = pack_itemsets(
                [["z", "y"], *itemsets], weights=[[122, 121], *map(list, weights)]
            )
            assert unpack(packed) == [["z", "y"], ["b", "c", "d"], ["a", "b"]]
            assert packed.labels == ["b", "z", "y", "c", "d", "a"]
            assert packed.weights.tolist() == [ord(packed.labels[i]) for i in packed.indices]

    def test_what_is_missing_from_a_set(self):
        packed = pack_itemsets([{"b", None, NAN, "a"}])
        assert (unpack(packed), packed.dropped.none_items) == ([["a", "b"]], 2)

    def test_kinds_are_sorted_apart(self):
        assert unpack(pack_itemsets([{"b", 2, "a", 1}])) == [[1, 2, "a", "b"]]

    @pytest.mark.parametrize("itemsets", [[{1j, 2j}], [{frozenset("a"), frozenset("b")}]])
    def test_what_cannot_be_sorted_is_told(self, itemsets):
        with pytest.warns(UserWarning, match="cannot be sorted.*pass lists") as seen:
            assert pack_itemsets(itemsets).num_item == 2
        assert seen[0].filename == __file__

    def test_a_set_of_itemsets_is_told(self):
        with pytest.warns(UserWarning, match="itemsets is a set, whose order"):
            pack_itemsets({("a", "b")})

    def test_results_are_the_same_in_every_process(self):
        script = """
import itembed_gpu
sets = [{f"item {(i * j) % 11}" for j in range(5)} for i in range(1, 30)]
packed = itembed_gpu.pack_itemsets(sets)
model = itembed_gpu.Item2Vec(vector_size=4, epochs=2, seed=1, device="cpu", workers=1).fit(sets)
print(packed.labels, packed.indices.tolist(), model.labels_, model.syn0_.tolist())
"""
        results = {
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in "12"
        }
        assert len(results) == 1


class TestPackErrors:
    @pytest.mark.parametrize(
        ("itemsets", "message"),
        [
            (3, r"itemsets is 3, which is not iterable; pass"),
            (None, r"itemsets is None, which is not iterable"),
            ([["a"], 7], r"itemsets\[1\] is 7, which is not iterable"),
            ([["a"], None], r"itemsets\[1\] is None"),
            ([["a"], np.array(7)], r"itemsets\[1\] is array\(7\), which is not iterable"),
            ([["a"], ["b", ["c"]]], r"itemsets\[1\]\[1\] is \['c'\], which is not hashable; pass"),
            (iter([["a"], ["b", {}]]), r"itemsets\[1\]\[1\] is {}, which is not hashable"),
            ([["a"], [("b", [])]], r"itemsets\[1\]\[0\] .* not hashable"),
            ([iter([{"c"}])], r"itemsets\[0\]\[0\] is {'c'}, which is not hashable"),
            (np.zeros((2, 2, 2)), r"itemsets has shape \(2, 2, 2\); pass two axes"),
            ({"ab": ["a", "b"]}, r"itemsets is a dict, of which the keys.*list\(itemsets.values"),
        ],
    )
    def test_itemsets(self, itemsets, message):
        with pytest.raises(InputError, match=message):
            pack_itemsets(itemsets)

    @pytest.mark.parametrize("name", ["min_count", "min_length"])
    @pytest.mark.parametrize("value", [-1, 1.0, True, np.True_, "1", None, np.int8(-3)])
    def test_limits(self, name, value):
        with pytest.raises(InputError, match=rf"^{name} is .*; pass an integer of at least 0"):
            pack_itemsets([["a"]], **{name: value})


class TestPackedItemsets:
    def test_is_like_the_tuple_of_three(self):
        packed = pack_itemsets([["a", "b"], ["a"]])
        labels, indices, offsets = packed
        assert labels is packed.labels
        assert indices is packed.indices is packed[1] is packed[-2]
        assert offsets is packed.offsets
        assert len(packed) == len(tuple(packed)) == 3
        assert packed[:2] == (labels, indices)
        with pytest.raises(IndexError):
            packed[3]
        assert (packed.num_label, packed.num_item, packed.num_itemset) == (2, 3, 2)

    def test_packs_again(self):
        packed = pack_itemsets([["a", "b"], ["a"]], weights=[[1, 2], [3]])
        again = pack_itemsets(packed, min_length=2)
        assert (again.labels, again.weights.tolist()) == (["a", "b"], [1, 2])
        with pytest.raises(InputError, match="weights are given beside itemsets"):
            pack_itemsets(packed, weights=[[1, 2], [3]])

    def test_itemsets_are_chosen_by_numbers_of_one_axis(self):
        with pytest.raises(IndexError, match="pass one axis"):
            pack_itemsets([["a"], ["b"]])[np.array([[0, 1]])]

    def test_arrays_choose_itemsets_as_if_packed_alone(self):
        itemsets = [["c", "a"], ["b", "a"], [], ["c"], ["d", "b", "b"]]
        weights = [[ord(item) for item in itemset] for itemset in itemsets]
        packed = pack_itemsets(itemsets, min_length=0, weights=weights)
        assert packed.shape == (5, 4)
        mask = [True, False, True, False, True]
        for rows in ([4, 2, 0], [0, 2, 4], [-1, 1, 1], [], [2]):
            alone = pack_itemsets(
                [itemsets[row] for row in rows],
                min_length=0,
                weights=[weights[row] for row in rows],
            )
            for chosen in (packed[rows], packed[np.array(rows, int), ...]):
                assert_packed_as(chosen, alone)
                assert same(chosen.weights, alone.weights)
                assert same(chosen.counts, alone.counts)
                assert chosen.dropped == alone.dropped
        assert_packed_as(packed[mask], packed[[0, 2, 4]])
        assert_packed_as(packed[::2, ...], packed[[0, 2, 4]])
        assert packed[1, ...].num_itemset == 1
        for wrong in ([5], [-6], mask[1:], [0.5]):
            with pytest.raises(IndexError):
                packed[wrong]

    def test_is_frozen_and_short_to_print(self):
        packed = pack_itemsets([["a", "b"], ["a"]], weights=[[1, 1], [1]])
        with pytest.raises(AttributeError):
            packed.labels = []
        assert repr(packed) == (
            "PackedItemsets(num_label=2, num_itemset=2, num_item=3, weights=yes)"
        )

    def test_survives_pickling(self):
        packed = pack_itemsets([["a", "b"], ["a"]], min_count=2)
        again = pickle.loads(pickle.dumps(packed))
        assert_packed_as(again, packed)
        assert again.dropped == packed.dropped

    def test_prune(self):
        packed = pack_itemsets(
            [["a"], ["a", "b", None], ["b"], ["c", "a"], ["a", "c"]],
            weights=[[1], [2, 3, 4], [5], [6, 7], [8, 9]],
        )
        pruned = packed.prune(mask=[True, True, False, False, True], min_length=2)
        assert isinstance(pruned, PackedItemsets)
        assert unpack(pruned) == [["a", "b"], ["a", "c"]]
        assert same(pruned.weights, np.array([2, 3, 8, 9], np.float32))
        assert pruned.labels == packed.labels
        assert same(pruned.counts, packed.counts)
        assert pruned.dropped == Dropped(
            itemsets_read=5,
            items_read=9,
            none_items=1,
            short_itemsets=1,
            short_items=1,
            masked_itemsets=2,
            masked_items=3,
        )
        # And once more: the account goes on, what was pruned stays as it was.
        last = pruned.prune(mask=[False, True])
        assert (last.dropped.masked_itemsets, last.dropped.masked_items) == (3, 5)
        assert (packed.num_itemset, packed.num_item) == (5, 8)
        assert packed.dropped.masked_itemsets == 0

    def test_prune_without_weights(self):
        pruned = pack_itemsets([["a"], ["a", "b"]]).prune(min_length=2)
        assert pruned.weights is None
        assert unpack(pruned) == [["a", "b"]]

    def test_prune_needs_a_reason(self):
        packed = pack_itemsets([["a"]])
        with pytest.raises(InputError, match="mask and min_length are both None"):
            packed.prune()
        with pytest.raises(InputError, match="mask has 2 entries for 1 itemsets"):
            packed.prune(mask=[True, False])


class TestPackCodes:
    def test_a_label_that_never_occurs_is_neither_kept_nor_dropped(self):
        packed = pack_codes(["z", "a"], np.array([1], np.int32), np.array([1]), Limits(min_count=0))
        assert packed.labels == ["a"]
        assert packed.dropped == Dropped(1, 1)

    def test_codes_of_a_column(self):
        packed = pack_codes(
            ["z", "a", "b", "c"],
            np.array([1, -1, 2, 2, 3, 1], np.int32),
            np.array([3, 0, 3]),
            Limits(min_count=2, min_length=2),
            np.arange(6, dtype=np.float32),
        )
        assert unpack(packed) == [["a", "b"], ["b", "a"]]
        assert same(packed.weights, np.array([0, 2, 3, 5], np.float32))
        assert packed.dropped == Dropped(3, 6, 1, 1, 1, 1, 0)


class TestOffsetsDtype:
    def test_is_int32_as_long_as_that_will_do(self):
        assert offsets_dtype(0) == np.int32
        assert offsets_dtype(2**31 - 1) == np.int32
        assert offsets_dtype(2**31) == np.int64

    def test_is_asked_for_the_total_and_followed(self, monkeypatch):
        totals = []

        def choose(total):
            totals.append(total)
            return np.dtype(np.int64)

        monkeypatch.setattr(module, "offsets_dtype", choose)
        packed = pack_itemsets([["a"], ["b", "a"]])
        assert same(packed.indices, np.array([0, 1, 0], np.int32))
        assert same(packed.offsets, np.array([0, 1, 3]))
        assert same(packed.prune(min_length=2).offsets, np.array([0, 2]))
        assert same(prune_itemsets(packed[1], packed[2], min_length=1)[1], packed.offsets)
        assert totals == [3, 2, 3]


@st.composite
def packed_arrays(draw):
    """Indices, offsets that may start and end anywhere within them, and a mask."""
    indices = np.array(draw(st.lists(st.integers(0, 5), max_size=20)), np.int32)
    offsets = sorted(draw(st.lists(st.integers(0, len(indices)), min_size=1, max_size=8)))
    mask = draw(st.lists(st.booleans(), min_size=len(offsets) - 1, max_size=len(offsets) - 1))
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return indices, np.array(offsets, dtype), np.array(mask, bool)


class TestPruneItemsets:
    @given(packed_arrays(), st.none() | LIMITS, st.booleans())
    def test_like_itembed(self, arrays, min_length, masked):
        indices, offsets, mask = arrays
        keep = {"mask": mask if masked or min_length is None else None, "min_length": min_length}
        reference = itembed.prune_itemsets(indices, offsets, **keep)
        places = np.arange(len(indices), dtype=np.float32)

        kept_indices, kept_offsets, kept_places = prune_itemsets(
            indices, offsets, weights=places, **keep
        )
        assert same(kept_indices, reference[0])
        assert same(kept_offsets, reference[1])
        assert same(indices[kept_places.astype(int)], kept_indices)

        without = prune_itemsets(indices, offsets, **keep)
        assert isinstance(without, tuple)
        assert len(without) == 2
        assert same(without[0], reference[0])
        assert same(without[1], reference[1])

    @pytest.mark.parametrize(
        "convert",
        [
            list,
            tuple,
            lambda values: np.repeat(values, 2)[::2],
            lambda values: np.array(values[::-1])[::-1],
            lambda values: np.array(values, np.uint64),
            lambda values: np.array(values, ">i8"),
        ],
        ids=["list", "tuple", "strided", "reversed", "uint64", "big-endian"],
    )
    def test_any_integer_vectors(self, convert):
        indices, offsets, weights = prune_itemsets(
            convert([9, 8, 7, 6, 5]),
            convert([1, 2, 4]),
            mask=[False, True],
            weights=convert([1, 2, 3, 4, 5]),
        )
        assert same(indices, np.array([7, 6], np.int32))
        assert same(offsets, np.array([0, 2], np.int32))
        assert same(weights, np.array([3, 4], np.float32))

    def test_returns_new_arrays(self):
        indices = np.arange(3, dtype=np.int32)
        offsets = np.array([0, 3], np.int32)
        weights = np.ones(3, np.float32)
        for array in prune_itemsets(indices, offsets, mask=[True], weights=weights):
            assert not any(np.shares_memory(array, given) for given in (indices, offsets, weights))
            assert array.flags.c_contiguous

    def test_empty_lists(self):
        indices, offsets, weights = prune_itemsets([], [0], mask=[], weights=[])
        assert same(indices, np.zeros(0, np.int32))
        assert same(offsets, np.zeros(1, np.int32))
        assert same(weights, np.zeros(0, np.float32))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mask": None}, "mask and min_length are both None"),
            ({"mask": [True]}, "mask has 1 entries for 2 itemsets"),
            ({"mask": [[True, False]]}, r"mask has shape \(1, 2\)"),
            ({"mask": True}, r"mask has shape \(\)"),
            ({"mask": [1, 0]}, "mask has dtype int64; pass booleans"),
            ({"min_length": -1}, "min_length is -1"),
            ({"min_length": 1.5}, "min_length is 1.5"),
            ({"offsets": [0, 2, 1]}, "offsets falls from 2 to 1 at position 2"),
            ({"offsets": [-1, 2, 3]}, "offsets goes from -1 to 3; pass offsets from 0 to 3"),
            ({"offsets": [0, 2, 4]}, "offsets goes from 0 to 4"),
            ({"offsets": np.array([0, 2, 2**64 - 1], np.uint64)}, "offsets goes from"),
            ({"offsets": [3 << 61, -(3 << 61), 0]}, "offsets goes from"),
            ({"offsets": []}, "offsets is empty"),
            ({"offsets": [0.0, 2.0, 3.0]}, "offsets has dtype float64; pass integers"),
            ({"offsets": [[0, 2, 3]]}, r"offsets has shape \(1, 3\)"),
            ({"offsets": [[0], [2, 3]]}, "offsets cannot be read"),
            ({"indices": [[0, 1, 2]]}, r"indices has shape \(1, 3\)"),
            ({"indices": [0, 1, 2.5]}, "indices has dtype float64"),
            ({"indices": [0, 1, None]}, "indices has dtype object"),
            ({"indices": [True, True, True]}, "indices has dtype bool"),
            ({"indices": [0, 1, 2**31]}, "indices goes from 0 to 2147483648; .* int32"),
            ({"indices": [0, 1, -(2**31) - 1]}, "indices goes from -2147483649 to 1; .* int32"),
            ({"weights": [1.0, 2.0]}, "weights has 2 entries for 3 items"),
            ({"weights": [[1.0, 2.0, 3.0]]}, r"weights has shape \(1, 3\)"),
            ({"weights": ["1", "2", "3"]}, "weights has dtype"),
            ({"weights": [1.0, np.nan, 3.0]}, r"weights\[1\] is nan"),
            ({"weights": [1.0, 2.0, 1e39]}, r"weights\[2\] is inf in float32"),
        ],
    )
    def test_errors(self, changes, message):
        arguments = {"indices": [0, 1, 2], "offsets": [0, 2, 3], "mask": [True, False], **changes}
        with pytest.raises(InputError, match=message):
            prune_itemsets(**arguments)


class TestOptions:
    """What is packed of an itemset, beyond counts and lengths."""

    def test_duplicates_are_dropped(self):
        packed = pack_itemsets([["a", "b", "a"], ["a"]], duplicates="drop")
        assert unpack(packed) == [["a", "b"], ["a"]]
        assert packed.counts.tolist() == [2, 1]
        assert packed.dropped == Dropped(2, 4, duplicate_items=1)

    def test_duplicates_are_summed(self):
        packed = pack_itemsets([["a", "b", "a"], ["a"]], duplicates="sum")
        assert same(packed.weights, np.array([2, 1, 1], np.float32))
        packed = pack_itemsets(
            [["a", "b", "a"], ["a"]], duplicates="sum", weights=[[1, 2, 0.5], [4]]
        )
        assert same(packed.weights, np.array([1.5, 2, 4], np.float32))

    def test_the_most_frequent_labels(self):
        packed = pack_itemsets([["a", "b"], ["c", "b"], ["b", "c"]], max_items=2)
        assert packed.labels == ["b", "c"]
        assert packed.dropped == Dropped(3, 6, rare_labels=1, rare_items=1)

    @given(ITEMSETS, st.integers(1, 4), st.integers(0, 3))
    def test_long_itemsets_are_cut(self, itemsets, most, seed):
        packed = pack_itemsets(itemsets, max_length=most, min_length=0, seed=seed)
        whole = pack_itemsets(itemsets, min_length=0)
        for cut, full in zip(unpack(packed), unpack(whole), strict=True):
            rest = iter(full)
            assert all(item in rest for item in cut)  # in their order
            assert len(cut) == min(len(full), most)
        lost = packed.dropped
        assert lost.cut_items == whole.num_item - packed.num_item
        assert (lost.long_itemsets > 0) == (lost.cut_items > 0)

    def test_every_choice_is_as_likely(self):
        packed = pack_itemsets([range(6)] * 6000, max_length=2, seed=3)
        pairs = np.sort(np.array(packed.labels)[packed.indices].reshape(-1, 2), axis=1)
        _, counts = np.unique(pairs, axis=0, return_counts=True)
        assert len(counts) == 15
        chi_square = ((counts - 400) ** 2 / 400).sum()
        assert chi_square < 36.1  # 14 degrees of freedom, 0.1 %

    def test_known_labels_keep_their_numbers(self):
        old = pack_itemsets([["a", "b"], ["a", "z"]])
        packed = pack_itemsets([["n", "b"], ["m", "n"], ["n", "q"]], labels=old.labels, min_count=2)
        assert packed.labels == ["a", "b", "z", "n"]
        assert packed.counts.tolist() == [0, 1, 0, 3]
        assert unpack(packed) == [["n", "b"], ["n"], ["n"]]
        assert packed.dropped == Dropped(3, 6, rare_labels=2, rare_items=2)

    @given(
        ITEMSETS,
        st.sampled_from(["keep", "drop", "sum"]),
        st.integers(1, 3),
        st.one_of(st.none(), st.integers(1, 3)),
        st.one_of(st.none(), st.integers(2, 4)),
        st.integers(0, 2),
    )
    def test_everything_is_accounted_for(
        self, itemsets, duplicates, min_count, max_items, max_length, min_length
    ):
        packed = pack_itemsets(
            itemsets, duplicates=duplicates, min_count=min_count, max_items=max_items,
            max_length=max_length, min_length=min_length,
        )  # fmt: skip
        lost = packed.dropped
        gone = (
            lost.none_items, lost.zero_items, lost.duplicate_items, lost.rare_items,
            lost.cut_items, lost.short_items,
        )  # fmt: skip
        assert lost.items_read == sum(map(len, itemsets)) == packed.num_item + sum(gone)
        assert lost.itemsets_read == packed.num_itemset + lost.short_itemsets

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"duplicates": "merge"}, "duplicates is 'merge'; pass one of 'keep', 'drop', 'sum'"),
            ({"max_items": 0}, "max_items is 0"),
            ({"max_length": 1, "min_length": 2}, "max_length is 1 and min_length 2"),
            ({"labels": ["a", "a"]}, "labels holds a label twice"),
            ({"labels": 3}, "labels is 3, which is not iterable"),
            ({"seed": -1}, "seed is -1"),
        ],
    )
    def test_what_cannot_be_used(self, options, message):
        with pytest.raises(InputError, match=message):
            pack_itemsets([["a"]], **options)

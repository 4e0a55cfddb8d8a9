"""Reading what lies in memory: frames of every library, columns, one-hot tables, and matrices."""

import json
from datetime import datetime
from decimal import Decimal

import numpy as np
import pandas
import polars
import pyarrow
import pytest
import scipy.sparse

from itembed_gpu.data.lists import pack_itemsets
from itembed_gpu.data.readers import read_itemsets
from itembed_gpu.errors import DataError, InputError

ORDERS = pandas.DataFrame({"order": [1, 1, 2, 2], "item": ["tea", "cup", "tea", "saw"]})
BASKETS = [["tea", "cup"], ["tea", "saw"]]
NAMED = {"itemset": "order", "item": "item"}


def assert_same(packed, other):
    assert packed.labels == other.labels
    assert list(map(type, packed.labels)) == list(map(type, other.labels))
    np.testing.assert_array_equal(packed.indices, other.indices)
    np.testing.assert_array_equal(packed.offsets, other.offsets)
    assert packed.dropped == other.dropped


UNKNOWN = object()  # a value that no library knows


class Streamed:
    """A frame that is known by the stream alone."""

    columns = ("order", "item")

    def __init__(self, table):
        self.__arrow_c_stream__ = table.__arrow_c_stream__


class Interchanged:
    """A frame that is known by the interchange protocol alone."""

    def __init__(self, frame):
        self._frame = frame

    def __dataframe__(self, **options):
        return self._frame.__dataframe__(**options)


class TestEveryLibrary:
    @pytest.mark.parametrize(
        "convert",
        [
            lambda table: table.to_batches()[0],
            lambda table: table.to_reader(),
            lambda table: table.combine_chunks(),
            Streamed,
            Interchanged,
        ],
        ids=["batch", "reader", "table", "stream", "interchange"],
    )
    def test_frames_by_protocol(self, convert):
        source = convert(pyarrow.table(ORDERS))
        assert_same(read_itemsets(source, **NAMED), pack_itemsets(BASKETS))

    def test_relations_of_duckdb(self):
        duckdb = pytest.importorskip("duckdb")
        relation = duckdb.connect().from_arrow(pyarrow.table(ORDERS))
        packed = read_itemsets(relation, **NAMED)
        assert_same(packed, pack_itemsets(BASKETS))
        assert packed.source.endswith("(itemset column 'order', item column 'item')")

    def test_frames_of_dask_are_to_be_computed(self):
        frame = pytest.importorskip("dask.dataframe").from_pandas(ORDERS, npartitions=1)
        for source in (frame, frame["item"]):
            for read in (read_itemsets, pack_itemsets):
                with pytest.raises(InputError, match=r"yet to be computed.*\.compute\(\)"):
                    read(source)
        delayed = pytest.importorskip("dask").delayed(list)(BASKETS)
        with pytest.raises(InputError, match=r"Delayed of dask.*\.compute\(\)"):
            pack_itemsets(delayed)
        assert_same(read_itemsets(frame.compute(), **NAMED), pack_itemsets(BASKETS))

    def test_frames_of_spark_are_to_be_collected(self):
        class DataFrame:
            columns = ()

            def toPandas(self):
                return ORDERS

        with pytest.raises(InputError, match=r"\.toPandas\(\)"):
            read_itemsets(DataFrame())

    def test_a_frame_of_no_known_kind(self):
        class Frame:
            columns = ("a", "b")

        with pytest.raises(InputError, match="is a frame of a kind that is not known"):
            read_itemsets(Frame())

    @pytest.mark.parametrize(
        "frame",
        [ORDERS, polars.LazyFrame(ORDERS.to_dict("list")), pyarrow.table(ORDERS)],
        ids=["pandas", "lazy", "arrow"],
    )
    def test_a_frame_is_no_iterable_of_itemsets(self, frame):
        with pytest.raises(InputError, match=r"names of the columns .* pass read_itemsets\(frame"):
            pack_itemsets(frame)


class TestColumns:
    @pytest.mark.parametrize(
        "convert",
        [
            pandas.Series,
            polars.Series,
            pyarrow.array,
            lambda lists: pyarrow.array(lists, pyarrow.list_view(pyarrow.string())),
            lambda lists: pyarrow.chunked_array([lists[:1], lists[1:]]),
        ],
        ids=["pandas", "polars", "arrow", "views", "chunks"],
    )
    def test_columns_of_lists(self, convert):
        column = convert([["tea", None, "cup"], None, ["tea"]])
        expected = pack_itemsets([["tea", None, "cup"], [], ["tea"]])
        assert_same(read_itemsets(column), expected)
        assert_same(pack_itemsets(column), expected)

    def test_brackets_that_are_nested_deep_are_no_json(self):
        frame = polars.DataFrame({"order": [1, 1], "item": ["[" * 100_000, "a"]})
        assert read_itemsets(frame).labels == ["[" * 100_000, "a"]

    def test_lists_after_a_missing_one(self):
        frame = pandas.DataFrame({"items": [pandas.NA, ["tea", "cup"]]})
        assert read_itemsets(frame).labels == ["tea", "cup"]

    def test_lists_of_groups_are_as_the_frame(self):
        for values in (["b", None, "a", "b", None, "c"], pandas.array([5, None, 7, 5, 9, 5])):
            frame = pandas.DataFrame({"order": [2, 2, 1, 1, 2, 1], "item": values})
            groups = frame.groupby("order", sort=False)["item"]
            expected = read_itemsets(frame, **NAMED)
            assert expected.dropped.none_items
            lists = groups.agg(list)
            arrays = lists.map(lambda x: np.array(x, object))
            for source in (lists, lists.tolist(), arrays, lists.map(pandas.Series)):
                assert_same(pack_itemsets(source), expected)
                assert_same(read_itemsets(source), expected)
            unique = pack_itemsets(lists.map(dict.fromkeys))
            assert_same(read_itemsets(groups.unique().reset_index(), item="item"), unique)

    def test_lists_of_python_with_weights(self):
        frame = pandas.DataFrame({"item": [{"cup", "tea"}, ["tea", pandas.NaT]]})
        frame["weight"] = [[1.0 + (x == "tea") for x in frame["item"][0]], [3.0, 4.0]]
        packed = read_itemsets(frame, item="item", weight="weight")
        assert packed.labels == ["tea", "cup"]
        assert packed.indices.tolist() == [1, 0, 0]
        assert packed.weights.tolist() == [1, 2, 3]
        assert packed.dropped.none_items == 1

    def test_a_column_of_values_is_no_column_of_lists(self):
        for column in (ORDERS["item"], polars.Series("item", ["tea"])):
            with pytest.raises(DataError, match=r"column of lists is needed.*'item'$"):
                read_itemsets(column)

    def test_lists_that_are_written_as_json(self):
        for lists in ([b'["tea", "cup"]'], ['["tea", "cup"]']):
            for frame in (pandas.DataFrame({"x": lists}), pandas.DataFrame({"o": [1], "x": lists})):
                with pytest.raises(DataError, match=r"column 'x' is .* as JSON.*json\.loads"):
                    read_itemsets(frame)
            assert read_itemsets(frame.map(lambda x: x if x == 1 else json.loads(x))).num_item == 2

    def test_columns_that_nobody_asked_for_may_be_of_any_kind(self):
        encoded = pyarrow.RunEndEncodedArray.from_arrays([2, 4], ["x", "y"])
        interval = pyarrow.array([(1, 2, 3)] * 4, pyarrow.month_day_nano_interval())
        columns = {"encoded": encoded, "interval": interval}
        table = pyarrow.table({**ORDERS.to_dict("list"), **columns})
        assert_same(read_itemsets(table, **NAMED), pack_itemsets(BASKETS))
        assert read_itemsets(table, itemset="order", item="encoded").labels == ["x", "y"]
        with pytest.raises(DataError, match=r"column 'interval' is month_day_nano.*cast it"):
            read_itemsets(table, itemset="order", item="interval")

    @pytest.mark.parametrize(
        ("items", "words"),
        [
            (np.array([1j, 2j, 1j, 1j]), "'item' cannot be read.*complex128: cast it"),
            (pandas.period_range("2020", periods=4), "'item' is .*period.*cast it to strings"),
        ],
    )
    def test_items_of_foreign_types_are_named(self, items, words):
        frame = ORDERS.assign(item=items)
        with pytest.raises(DataError, match=words) as caught:
            read_itemsets(frame, **NAMED)
        assert "\n" not in str(caught.value)

    def test_objects_that_are_no_labels(self):
        frame = polars.DataFrame({"o": [1], "i": polars.Series([{"a"}], dtype=polars.Object)})
        with pytest.raises(DataError, match="unhashable"):
            read_itemsets(frame)

    def test_maps_are_named(self):
        column = pyarrow.array([[("a", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
        with pytest.raises(DataError, match=r"item column 'm' is Map.*lists of the keys"):
            read_itemsets(pyarrow.table({"m": column}))

    @pytest.mark.parametrize("bits", [128, 256])
    def test_whole_decimals_are_integers(self, bits):
        decimals = [Decimal("1.0"), Decimal("2.0"), Decimal("1.0"), Decimal("2.5")]
        column = pyarrow.array(decimals, getattr(pyarrow, f"decimal{bits}")(38, 1))
        packed = read_itemsets(pyarrow.table({"o": [1, 1, 2, 2], "i": column}))
        assert_same(packed, pack_itemsets([decimals[:2], decimals[2:]]))
        assert list(map(type, packed.labels)) == [int, int, Decimal]

    def test_floats_that_do_not_tell_itemsets_apart(self):
        frame = ORDERS.assign(order=[2.0**53 + 2, 2.0**53 + 2, np.nan, np.nan])
        with pytest.raises(DataError, match=r"'order' is Float64 and holds 9007199254740994\.0"):
            read_itemsets(frame, **NAMED)

    def test_two_columns_of_one_name(self):
        frame = pandas.DataFrame([[1, "a", "x"]], columns=["order", "item", "item"])
        with pytest.raises(InputError, match="2 columns are called 'item'; rename them"):
            read_itemsets(frame, **NAMED)
        twice = pandas.DataFrame(np.eye(3, dtype=int), columns=["a", "b", "a"])
        with pytest.raises(InputError, match="2 columns are called 'a'; rename them"):
            read_itemsets(twice)
        frame.columns = ["order", "item", "order2"]
        assert read_itemsets(frame, **NAMED).labels == ["a"]

    @pytest.mark.parametrize(
        ("column", "type_"),
        [
            (polars.Series([[1], [1], [2]]), r"List\(Int64\)"),
            (pandas.Series([(1,), (1,), (2,)]), r"List\(Int64\)"),
            (pandas.Series([UNKNOWN] * 3), "Object"),
        ],
    )
    def test_itemsets_that_cannot_be_told_apart(self, column, type_):
        frame = (polars if isinstance(column, polars.Series) else pandas).DataFrame(
            {"order": column, "item": ["a", "b", "a"]}
        )
        with pytest.raises(DataError, match=f"itemset column 'order' is {type_}; cast it"):
            read_itemsets(frame, **NAMED)

    def test_itemsets_that_are_wide_integers(self):
        wide = polars.Series([2**100, 2**100, 5], dtype=polars.Int128)
        frame = polars.DataFrame({"order": wide, "item": ["a", "b", "a"]})
        assert_same(read_itemsets(frame, **NAMED), pack_itemsets([["a", "b"], ["a"]]))

    @pytest.mark.parametrize(
        "weights",
        [[[1.0]] * 3, [{"a": 1}] * 3, [datetime(2024, 1, 2)] * 3, [b"1"] * 3, [UNKNOWN] * 3],
    )
    def test_weights_that_are_no_numbers(self, weights):
        for library in (pandas, polars):
            frame = library.DataFrame({"order": [1, 1, 2], "item": ["a", "b", "a"], "w": weights})
            with pytest.raises(DataError, match=r"weight column 'w' is .*; weights are finite"):
                read_itemsets(frame, weight="w", **NAMED)

    def test_all_columns_of_one_name(self):
        frame = pandas.DataFrame([[1, "a"], [1, "b"]], columns=["x", "x"])
        with pytest.raises(InputError, match="2 columns are called 'x'; rename them"):
            read_itemsets(frame)


ONE_HOT = {"tea": [1, 1, 0], "cup": [1, 0, 0], "saw": [0, 1, 1]}


class TestOneHot:
    @pytest.mark.parametrize(
        "frame",
        [
            pandas.DataFrame(ONE_HOT),
            pandas.DataFrame(ONE_HOT).astype(float),
            pandas.DataFrame(ONE_HOT).astype(bool),
            pandas.DataFrame(ONE_HOT).astype("boolean"),
            pandas.DataFrame(ONE_HOT).astype(pandas.SparseDtype(int, 0)),
            polars.DataFrame(ONE_HOT),
            polars.LazyFrame(ONE_HOT).cast(polars.Boolean),
            pyarrow.table(ONE_HOT),
        ],
        ids=["int", "float", "bool", "boolean", "sparse", "polars", "lazy", "arrow"],
    )
    def test_names_of_columns_are_items(self, frame):
        packed = read_itemsets(frame)
        assert_same(packed, pack_itemsets([["tea", "cup"], ["tea", "saw"], ["saw"]]))
        assert packed.source.endswith("of 0 and 1 (the names of its columns are the items)")
        assert read_itemsets(frame, labels=["saw"]).labels == ["saw", "tea", "cup"]

    def test_a_column_beside_them_is_told(self):
        frame = pandas.DataFrame({"order": [7, 8, 9], **ONE_HOT})
        with pytest.raises(DataError, match=r"all columns but 'order'.*frame\.drop\(columns="):
            read_itemsets(frame)
        assert read_itemsets(frame, itemset="order", item="tea").labels == [1, 0]

    def test_counts_are_told(self):
        counts = {"tea": [2, 1, 0], "cup": [3, 0, 0], "saw": [0, 0, 1]}
        for frame in (pandas.DataFrame(counts), polars.DataFrame(counts)):
            with pytest.raises(DataError, match=r"most of its numbers are 0.*pass frame > 0"):
                read_itemsets(frame)
            assert read_itemsets(frame > 0).labels == ["tea", "cup", "saw"]
            assert read_itemsets(frame, itemset="tea", item="cup").labels == [0, 3]

    def test_two_columns_of_numbers_are_itemsets_and_items(self):
        assert read_itemsets(polars.DataFrame({"a": [1, 0], "b": [1, 1]})).labels == [1]


class TestMatrices:
    def test_sparse_arrays_of_one_axis_are_one_itemset(self):
        packed = read_itemsets(scipy.sparse.coo_array(np.array([0, 1, 2])))
        assert (packed.labels, packed.num_itemset) == ([1, 2], 1)
        assert packed.source == "a sparse matrix of 3"

    def test_more_axes_are_refused(self):
        with pytest.raises(InputError, match=r"shape \(2, 2, 2\)"):
            read_itemsets(scipy.sparse.coo_array(np.ones((2, 2, 2))))

    def test_what_is_missing_is_no_item(self):
        packed = read_itemsets(scipy.sparse.csr_array([[np.nan, 1.0], [2.0, 0.0]]))
        assert packed.labels == [1, 0]
        assert (packed.num_item, packed.dropped.none_items, packed.dropped.items_read) == (2, 1, 3)

    @pytest.mark.parametrize("dtype", [bool, int, float, np.uint8])
    def test_arrays_of_0_and_1_are_as_the_sparse_matrix(self, dtype):
        array = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], dtype)
        expected = read_itemsets(scipy.sparse.csr_array(array))
        assert_same(read_itemsets(array), expected)
        assert_same(pack_itemsets(array), expected)
        assert read_itemsets(array).source == "an array of 0 and 1 of 3 x 3"

    def test_arrays_of_other_kinds(self):
        array = np.array([[1, 0, 1], [0, 1, 1]])
        expected = pack_itemsets(array)
        for form in (array.astype(object), array.view(np.matrix)):
            assert_same(pack_itemsets(form), expected)
        masked = np.ma.array([[5, 6], [7, 5]], mask=[[0, 1], [0, 0]])
        assert pack_itemsets(masked).labels == [5, 7]
        assert pack_itemsets(np.empty((2, 0)), min_length=0).num_itemset == 2

    def test_arrays_of_other_libraries(self):
        class Tensor:
            def __init__(self, array):
                self.array = array

            dtype = property(lambda self: self.array.dtype)
            shape = property(lambda self: self.array.shape)

            def __array__(self, dtype=None, copy=None):
                return self.array

        array = np.array([[1, 0, 1], [0, 1, 1]])
        for read in (read_itemsets, pack_itemsets):
            assert_same(read(Tensor(array)), pack_itemsets(array))

    @pytest.mark.parametrize("convert", [list, pandas.Series, polars.Series, pyarrow.array])
    def test_rows_of_0_and_1_that_are_no_array(self, convert):
        rows = convert([[1, 0, 1], [0, 1, 1]])
        with pytest.warns(
            UserWarning, match=r"2 itemsets holds 3 items, all of them 0 or 1"
        ) as seen:
            assert pack_itemsets(rows).labels == [1, 0]
        assert [warning.filename for warning in seen] == [__file__]

    def test_itemsets_of_0_and_1_that_are_no_rows(self):
        for itemsets in ([[1, 0, 1], [0, 1]], [[1, 0], [0, 1]], [[1, 0, 1]], [[1, 0, 2]] * 2):
            pack_itemsets(itemsets)

    def test_arrays_of_numbers(self):
        assert pack_itemsets(np.array([[5, 7], [7, 9]])).labels == [7, 5, 9]
        assert pack_itemsets(np.array([[1], [0], [1]])).labels == [1, 0]  # a column of labels
        with pytest.raises(InputError, match=r"float64.*csr_matrix\(array\)"):
            pack_itemsets(np.array([[0.5, 1.0]]))
        with pytest.raises(InputError, match=r"two columns.*csr_matrix.*tolist"):
            pack_itemsets(np.array([[0, 1], [1, 0]]))
        with pytest.warns(UserWarning, match=r"most of which are 0.*csr_matrix"):
            pack_itemsets(np.array([[0, 0, 2], [3, 0, 0]]))
        with pytest.warns(UserWarning, match="most of which are 0") as told:
            read_itemsets(np.array([[0, 0, 2], [3, 0, 0]]))
        assert len(told) == 1
        pack_itemsets([[None, None, None], [None, 0, 1]])  # no rows of a matrix
        with pytest.raises(InputError, match=r"shape \(\); pass two axes"):
            pack_itemsets(np.array(3))
        with pytest.raises(InputError, match=r"array of records.*read_itemsets"):
            pack_itemsets(np.array([("a", 1)], dtype=[("x", "U1"), ("y", int)]))

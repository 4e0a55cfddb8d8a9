"""The data that come with the package: what they are, and whose."""

from collections import Counter
from importlib.resources import files

import pytest

from itembed_gpu.data.example import EXAMPLE_ITEMS, load_example, read_example
from itembed_gpu.errors import InputError

DATASETS = files("itembed_gpu.data") / "datasets"


@pytest.fixture(scope="module")
def baskets():
    return load_example()


def test_what_the_documentation_says(baskets):
    counts = Counter(product for basket in baskets for product in basket)
    assert (len(baskets), len(counts), counts.total()) == (19_773, 3_791, 517_254)
    assert baskets[0][0] == "CREAM CUPID HEARTS COAT HANGER"


def test_baskets_name_each_product_once_and_cleanly(baskets):
    assert all(len(set(basket)) == len(basket) > 0 for basket in baskets)
    products = {product for basket in baskets for product in basket}
    assert all(product == " ".join(product.split()) for product in products)


def test_products_of_one_name_stay_distinct(baskets):
    products = {product for basket in baskets for product in basket}
    assert {"BATHROOM METAL SIGN (82580)", "BATHROOM METAL SIGN (21171)"} <= products
    assert "BATHROOM METAL SIGN" not in products


def test_the_named_products_are_frequent(baskets):
    counts = Counter(product for basket in baskets for product in basket)
    assert EXAMPLE_ITEMS[0] == "REGENCY CAKESTAND 3 TIER"
    assert all(counts[product] > 300 for product in EXAMPLE_ITEMS)


def test_read_example_packs_the_same(baskets):
    packed = read_example()
    assert [packed.labels[index] for index in packed.indices[:7]] == baskets[0]
    assert (packed.num_itemset, packed.num_item) == (19_773, 517_254)
    assert packed.dropped.none_items == 0


def test_read_example_takes_limits():
    packed = read_example(min_count=5, min_length=2)
    assert packed.dropped.rare_labels == 387
    assert packed.dropped.short_itemsets == 1_510
    with pytest.raises(InputError, match="min_count"):
        read_example(min_count=-1)


def test_the_author_and_the_licence_are_named():
    readme = (DATASETS / "README.md").read_text(encoding="utf-8")
    for part in ("Chen, D. (2015)", "10.24432/C5BW33", "CC BY 4.0", "What was changed"):
        assert part in readme


def test_all_of_it_is_under_a_megabyte():
    assert sum(len(file.read_bytes()) for file in DATASETS.iterdir()) < 1_000_000

"""A real data set to try things on: the baskets of an online gift retailer."""

from __future__ import annotations

from itertools import pairwise

from .readers import ReadItemsets, read_itemsets

EXAMPLE_ITEMS = (
    "REGENCY CAKESTAND 3 TIER",
    "ALARM CLOCK BAKELIKE RED",
    "CHOCOLATE HOT WATER BOTTLE",
    "TRADITIONAL MODELLING CLAY",
    "SOLDIERS EGG CUP",
)
"""Products whose neighbours anyone can judge. Those of the first should be a tea set."""

_FILE = "online_retail.txt.xz"


def read_example(*, min_count: int = 1, min_length: int = 1) -> ReadItemsets:
    """Read and pack the example, see `load_example`.

    Parameters
    ----------
    min_count, min_length : int, optional
        As for `pack_itemsets`.

    Returns
    -------
    ReadItemsets
        Packed baskets.

    Raises
    ------
    InputError
        If a limit is not an integer of at least 0.
    DataError
        If the installed file is damaged, or the limits leave no itemset.
    """
    # It takes longer to import than most of this package.
    from importlib.resources import as_file, files

    with as_file(files(__package__) / "datasets" / _FILE) as path:
        return read_itemsets(path, separator="\t", min_count=min_count, min_length=min_length)


def load_example() -> list[list[str]]:
    """Load the baskets of a UK online gift retailer, as lists of product names.

    There are 19,773 baskets of 3,791 products, sold from December 2010 to
    December 2011. A name that stands for several products is followed by their
    stock code, so that they stay distinct. The data are *Online Retail* by D.
    Chen (2015), UCI Machine Learning Repository, https://doi.org/10.24432/C5BW33,
    licensed CC BY 4.0; ``datasets/README.md`` says how they were prepared.

    Returns
    -------
    list of list of str
        Names of the products of each basket.

    Raises
    ------
    DataError
        If the installed file is damaged.

    Examples
    --------
    >>> baskets = load_example()
    >>> len(baskets), baskets[0][0]
    (19773, 'CREAM CUPID HEARTS COAT HANGER')
    """
    labels, indices, offsets = read_example()
    names = [labels[index] for index in indices.tolist()]
    return [names[start:end] for start, end in pairwise(offsets.tolist())]

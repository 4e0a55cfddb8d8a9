"""Doubts about what was read: each sign is told, and itemsets as they are met are not doubted."""

import random
import warnings

import pytest

from itembed_gpu import pack_files, read_itemsets
from itembed_gpu.data import out_of_memory as spilling
from itembed_gpu.data.doubts import find_doubts, warn_of_doubts
from itembed_gpu.data.example import read_example
from itembed_gpu.data.lists import pack_itemsets

_RANDOM = random.Random(3)
# Few items are frequent, and half of them occur once or twice, as in most catalogs.
ORDINARY = [
    [f"p{int(_RANDOM.paretovariate(0.7))}" for _ in range(_RANDOM.randint(1, 9))]
    for _ in range(2000)
]
FREQUENT = [[f"c{_RANDOM.randrange(30)}" for _ in range(4)] for _ in range(80)]
STRANGE = {
    "every item is 'NA'": [["NA"] * 3] * 80,
    "have one item or none": [[f"c{number % 30}"] for number in range(80)],
    "hold one item several times": [[f"c{number % 30}"] * 4 for number in range(80)],
    "'-1' is in 100% of the itemsets": [["-1", *basket, "-1"] for basket in ORDINARY],
    "160 of 160 labels occur once": [[f"a{n}", f"b{n}"] for n in range(80)],
    "the first item of nearly every itemset is in no other": [
        [f"order{number}", *basket] for number, basket in enumerate(FREQUENT)
    ],
    "are of one itemset": [[f"a{n % 50}" for n in range(200)]],
}


@pytest.mark.parametrize("sign", STRANGE)
def test_a_sign_is_told(sign):
    with pytest.warns(UserWarning, match=sign) as caught:
        warn_of_doubts("sales.csv", pack_itemsets(STRANGE[sign]))
    assert len(caught) == 1
    assert str(caught[0].message).startswith("sales.csv: ")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("sign", "question"),
    [
        ("every item is 'NA'", "right one, or is this a word for what is missing?"),
        ("160 of 160 labels occur once", "is the item column the right one?"),
    ],
)
def test_what_is_no_file_has_no_separator_and_no_words_for_nulls(sign, question):
    with pytest.warns(UserWarning, match=sign) as caught:
        read_itemsets(STRANGE[sign])
    assert str(caught[0].message).endswith(question)


def test_dropped_itemsets_are_looked_at_as_well():
    itemsets = [["tea", "cup"], ["saw", "tea"], *STRANGE["have one item or none"]]
    assert "have one item or none" in next(find_doubts(pack_itemsets(itemsets, min_length=2)))


@pytest.mark.parametrize("options", [{}, {"min_length": 2}, {"min_count": 5}, {"max_items": 30}])
def test_ordinary_itemsets_are_not_doubted(options):
    assert not [*find_doubts(pack_itemsets(ORDINARY, **options))]
    assert not [*find_doubts(pack_itemsets(FREQUENT, **options))]


def test_the_example_is_not_doubted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_example()


def test_readers_tell(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("order,kind\n" + "".join(f"{n // 2},NA\n" for n in range(200)))
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"every item is 'NA'.*--null"):
            read_itemsets(path)
        with pytest.warns(UserWarning, match="every item is 'NA'") as caught:
            pack_files(path, tmp_path / "packed", memory=1 << 21)
        assert caught[0].filename == __file__
        monkeypatch.setattr(spilling, "_fits", lambda *_: False)

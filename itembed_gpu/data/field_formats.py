"""Formats that this field has: what they are called, and what specifies them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class FieldFormat(NamedTuple):
    """A format that the field has, read as one of `PLAIN_FORMATS` is, or by a parser of lines."""

    title: str
    about: str
    specification: str
    base: str
    parser: str | None = None
    writing: Mapping[str, Any] = MappingProxyType({})
    columns: tuple[int, int] | tuple[()] = ()  # itemset and item, where no header names them
    labelled: bool = False  # an example a line, with labels and features


_SINGLE = MappingProxyType({"separator": " ", "header": False})
_TABS = MappingProxyType({"separator": "\t", "header": False, "quote": ""})
_COMMAS = MappingProxyType({"separator": ",", "header": False})
_COLONS = MappingProxyType({"separator": "::", "header": False})

FIELD_FORMATS = {
    "fimi": FieldFormat(
        "FIMI",
        "numbers between spaces, an itemset a line",
        "http://fimi.uantwerpen.be/data/",
        "text",
    ),
    "spmf": FieldFormat(
        "SPMF",
        "transactions, sequences, or transactions with utilities, which are weights",
        "https://www.philippe-fournier-viger.com/spmf/",
        "text",
        "spmf",
    ),
    "basket": FieldFormat(
        "Orange's basket",
        "items between commas, item=2 where it is there twice, which is its weight",
        "https://orange3.readthedocs.io/projects/orange-data-mining-library/en/latest/reference/"
        "data.io.html",
        "text",
        "basket",
    ),
    "arules": FieldFormat(
        "arules' basket",
        "a CSV without a header, whose rows have as many fields as items",
        "https://search.r-project.org/CRAN/refmans/arules/html/read.html",
        "csv",
        "arules",
    ),
    "arules-single": FieldFormat(
        "arules' single",
        "an itemset and one of its items a line, between spaces",
        "https://search.r-project.org/CRAN/refmans/arules/html/read.html",
        "csv",
        writing=_SINGLE,
        columns=(1, 2),
    ),
    "wide": FieldFormat(
        "a wide table",
        "a CSV with a column for the first item of a row, one for the second, and so on",
        "https://search.r-project.org/CRAN/refmans/arules/html/read.html",
        "csv",
        "wide",
    ),
    "onehot": FieldFormat(
        "a one-hot table",
        "a CSV with a column an item, which holds 1 where a row has it and else 0",
        "https://rasbt.github.io/mlxtend/user_guide/preprocessing/TransactionEncoder/",
        "csv",
        "onehot",
    ),
    "list-cells": FieldFormat(
        "lists in cells",
        "a CSV with a list in a cell, as Python or JSON writes it",
        "https://docs.python.org/3/reference/expressions.html#list-displays",
        "csv",
        "list-cells",
    ),
    "lightgcn": FieldFormat(
        "LightGCN",
        "the first number of each line is the itemset",
        "https://github.com/kuandeng/LightGCN#dataset",
        "text",
        "lightgcn",
    ),
    "recbole": FieldFormat(
        "RecBole",
        "tabs between columns, whose header names their types",
        "https://recbole.io/docs/user_guide/data/atomic_files.html",
        "tsv",
        writing=MappingProxyType({"quote": ""}),
    ),
    "movielens": FieldFormat(
        "MovieLens",
        "user, item, rating and time between :: or tabs, without a header",
        "https://files.grouplens.org/datasets/movielens/ml-1m-README.txt",
        "csv",
        writing=_COLONS,
        columns=(1, 2),
    ),
    "yoochoose": FieldFormat(
        "YooChoose",
        "session, time, item and more between commas, without a header",
        "https://recsys.acm.org/recsys15/challenge/",
        "csv",
        writing=_COMMAS,
        columns=(1, 3),
    ),
    "snap-checkins": FieldFormat(
        "SNAP's check-ins",
        "user, time, latitude, longitude and place between tabs, without a header",
        "https://snap.stanford.edu/data/loc-gowalla.html",
        "csv",
        writing=_TABS,
        columns=(1, 5),
    ),
    "lastfm-360k": FieldFormat(
        "Last.fm 360K",
        "user, id of the artist, artist and plays between tabs, without a header",
        "http://ocelma.net/MusicRecommendationDataset/lastfm-360K.html",
        "csv",
        writing=_TABS,
        columns=(1, 3),
    ),
    "fasttext": FieldFormat(
        "fastText",
        "labels that begin with __label__, and words",
        "https://fasttext.cc/docs/en/supervised-tutorial.html",
        "text",
        labelled=True,
    ),
    "libsvm": FieldFormat(
        "libsvm",
        "labels between commas, then feature:value",
        "http://manikvarma.org/downloads/XC/XMLRepository.html",
        "text",
        labelled=True,
    ),
}
LABELLED = tuple(name for name, known in FIELD_FORMATS.items() if known.labelled)


def base_format(format: str) -> str:
    """Return the plain format that a format is read as."""
    return FIELD_FORMATS[format].base if format in FIELD_FORMATS else format

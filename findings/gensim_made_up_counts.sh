#!/bin/sh
# gensim 4.4.0: vectors that are loaded from a word2vec file have counts, and these are made up.
#
# The format holds no counts. load_word2vec_format gives the first of n rows the count n, the next one n - 1, and
# so on, with no sign that they are invented: get_vecattr(word, "count") answers, and so does whatever weighs or
# filters by it. save_word2vec_format writes the rows by falling count, so that a file that is saved, loaded
# and saved again keeps its order but for ever loses its counts, unless both calls are given fvocab.
# Seen: counts 5, 100 and 7 come back as 1, 3 and 2; with fvocab as they were.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check gensim==4.4.0
venv/bin/python - <<'PYTHON'
import numpy
from gensim.models import KeyedVectors

words, counts = ["tea", "cup", "saw"], [5, 100, 7]
vectors = KeyedVectors(4)
vectors.add_vectors(words, numpy.eye(3, 4, dtype="float32"))
for word, count in zip(words, counts):
    vectors.set_vecattr(word, "count", count)
vectors.save_word2vec_format("items.txt", fvocab="items.counts")


def loaded(**options):
    found = KeyedVectors.load_word2vec_format("items.txt", **options)
    return [int(found.get_vecattr(word, "count")) for word in words]


without, with_counts = loaded(), loaded(fvocab="items.counts")
print("counts", counts, "are loaded as", without, "and with fvocab as", with_counts)
if without != [1, 3, 2] or with_counts != counts:
    raise SystemExit("changed")
PYTHON

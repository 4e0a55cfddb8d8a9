#!/bin/sh
# usearch 2.26.6: a vector whose key is the largest uint64 is stored and counted, and no search ever finds it.
#
# Keys are documented as unsigned integers of 64 bits. 2**64 - 1 marks free places inside the index, but add() takes it
# without a word: the key is in the index, get() gives its vector, len() counts it, and search() leaves it
# out, exact or not. NumPy's -1, a usual id for "other" or "unknown", becomes just this key, as add() turns signed
# keys into unsigned ones unasked: -2 comes back as 2**64 - 2.
# Seen: of the keys 5, -2 and -1, a search for the vector of each finds itself, 2**64 - 2 and never the last, though
# the index has length 3; of the key 2**64 - 1 alone nothing is found.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check usearch==2.26.6
venv/bin/python - <<'PYTHON'
import numpy
from usearch.index import Index

vectors, largest = numpy.eye(3, dtype="float32"), 2**64 - 1
index = Index(ndim=3, metric="cos", dtype="f32")
index.add(numpy.array([5, -2, -1]), vectors)
found = {
    (row, exact): index.search(vectors[row], 3, exact=exact).keys.tolist()
    for row in range(3)
    for exact in (False, True)
}
print("length", len(index), "- the key is in the index:", largest in index, "-", index.get(largest))
print("found for each vector, approximately and exactly:", found)
alone = Index(ndim=3, metric="cos", dtype="f32")
alone.add(numpy.array([largest], dtype="uint64"), vectors[:1])
print("alone:", len(alone), "stored, found", alone.search(vectors[0], 1).keys.tolist())
if (
    len(index) != 3
    or largest not in index
    or any(set(keys) != {5, largest - 1} for keys in found.values())
    or (len(alone), alone.search(vectors[0], 1).keys.tolist()) != (1, [])
):
    raise SystemExit("changed")
PYTHON

#!/bin/sh
# spaCy 3.8.18: Vectors.most_similar scales the vectors that it is asked about to length 1, where they lie.
#
# It divides its batch of queries by their norms in place (`batch /= batch_norms`), and the batch is a view of what
# the caller passed. The documentation says nothing of it. An array of queries comes back changed; and asking for
# the neighbours of rows of the table itself, as vectors.data[row:row + 1], changes the table for ever: lengths are
# lost, so are inner products, and what is saved with to_disk is no longer what was loaded. A copy helps.
# Seen: a query [3, 4] is [0.6, 0.8] after the call; a row of the table of length 5 has length 1; of three
# queries that are asked with batch_size=2, all three; with a copy, nothing changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check spacy==3.8.18
venv/bin/python - <<'PYTHON'
import numpy
from spacy.vectors import Vectors

rows = numpy.array([[3, 4], [0, 2], [10, 1]], dtype="float32")
table = Vectors(data=rows.copy(), keys=["tea", "cup", "pot"])


def lengths(array):
    return numpy.linalg.norm(array, axis=1).round(4).tolist()


query = rows[:1].copy()
table.most_similar(query, n=2)
many = rows.copy()
table.most_similar(many, n=2, batch_size=2)
table.most_similar(table.data[:1].copy(), n=2)
of_a_copy = lengths(table.data)
table.most_similar(table.data[:1], n=2)
print("query", query.tolist(), "- three queries", lengths(many))
print("the table after a copy of row 0 was asked for", of_a_copy, "- after row 0 itself", lengths(table.data))
if (
    not numpy.allclose(query, [[0.6, 0.8]])
    or lengths(many) != [1, 1, 1]
    or of_a_copy != lengths(rows)
    or lengths(table.data) != [1, *lengths(rows)[1:]]
):
    raise SystemExit("changed")
PYTHON

#!/bin/sh
# gensim 4.4.0: the vectors that Word2Vec begins with are twice as long as word2vec's.
#
# The program word2vec, and gensim before 4.0, draw each number of the first vectors from -0.5 / size ... 0.5 / size.
# gensim 4 draws from -1 / size ... 1 / size (`prep_vectors`: random() * 2 - 1, over the size). Nothing in its
# documentation says so. The output layer begins at zeros in both, so that the first steps of that layer are as many
# times larger: after one epoch the two do not compare, at equal learning rates, pairs and negatives. Who compares with
# gensim has to begin with its vectors, or with as wide a range.
# Seen, with 2,000 items and 50 numbers each: the largest is 0.0200 = 1 / 50, the standard deviation that of a uniform
# range twice as wide (0.01155), and so it is for Doc2Vec's vectors of items and of documents.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check gensim==4.4.0
venv/bin/python - <<'PYTHON'
from gensim.models import Doc2Vec, Word2Vec
from gensim.models.doc2vec import TaggedDocument

SIZE = 50
texts = [[f"item{n}" for n in range(first, first + 20)] for first in range(0, 2000, 20)]
words = Word2Vec(vector_size=SIZE, min_count=1, seed=1)
words.build_vocab(texts)
documents = Doc2Vec(vector_size=SIZE, min_count=1, seed=1)
documents.build_vocab([TaggedDocument(text, [n]) for n, text in enumerate(texts)])
tables = {
    "Word2Vec": words.wv.vectors,
    "Doc2Vec, items": documents.wv.vectors,
    "Doc2Vec, documents": documents.dv.vectors,
}
word2vec = 0.5 / SIZE
changed = bool(words.syn1neg.any())
for name, rows in tables.items():
    largest, spread = float(abs(rows).max()), float(rows.std())
    print(f"{name}: largest {largest:.4f} ({largest / word2vec:.2f} of word2vec's), deviation {spread:.5f}")
    changed |= not 0.99 * 2 * word2vec < largest <= 2 * word2vec
    changed |= abs(spread - 2 / SIZE / 12**0.5) > 0.0002
if changed:
    raise SystemExit("changed")
PYTHON

#!/bin/sh
# gensim 4.4.0: of an itemset of more than 10,000 items, Word2Vec trains the first 10,000 and says nothing.
#
# The vocabulary counts all of them, and the number of raw words that train() returns does as well, but the
# compiled loop cuts each sentence at MAX_WORDS_IN_BATCH. A long history, playlist or tag list is not split
# into several: what follows keeps its random first vectors. A list shuffled once loses the same items in each
# epoch.
# Seen: 12,000 different items in one itemset; train() returns (10000, 12000); item 9,999 has moved,
# items 10,000 to 11,999 have exactly their first vectors.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check gensim==4.4.0
venv/bin/python - <<'PYTHON'
from gensim.models import Word2Vec

itemset = [f"item {n}" for n in range(12_000)]
model = Word2Vec(vector_size=8, window=2, min_count=1, sg=1, negative=5, seed=1, workers=1)
model.build_vocab([itemset])
before = model.wv.vectors.copy()
counts = model.train([itemset], total_examples=1, epochs=1)
moved = (before != model.wv.vectors).any(axis=1)
in_order = [bool(moved[model.wv.key_to_index[item]]) for item in itemset]
print("train() returns", counts, "| moved among the first 10,000:", sum(in_order[:10_000]),
      "| among the rest:", sum(in_order[10_000:]))
if counts != (10_000, 12_000) or sum(in_order[10_000:]) or not in_order[9_999]:
    raise SystemExit("changed")
PYTHON

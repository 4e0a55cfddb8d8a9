#!/bin/sh
# implicit 0.7.3: what recommend() pads its answers with looks like recommendations.
#
# Asked for more items than there are, matrix factorisation fills the answer with item 0 and the score 0, which
# outranks every item of a negative score. Items that are to be filtered out are not left out: they
# stand at the end, with the least float32 as their score. Item-kNN fills up with the filtered items
# themselves, with the score 0, although filter_already_liked_items is true by default. Code that counts
# hits in the list, or that ranks several lists together by score, is wrong without an error. similar_items
# pads the same way.
# Seen: 4 items; ALS, N=10: ids end in six times 0, scores in 0.0; ALS, N=4, filtered: the liked items 0
# and 1 last, at -3.4028235e+38; cosine kNN, N=4: the liked items 0 and 1 with 0.0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check implicit==0.7.3
venv/bin/python - <<'PYTHON'
import numpy
import scipy.sparse
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender

liked = scipy.sparse.csr_matrix(numpy.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], "float32"))
als = AlternatingLeastSquares(factors=4, iterations=2, num_threads=1, random_state=1)
als.fit(liked, show_progress=False)
many = als.recommend(0, liked[0], N=10, filter_already_liked_items=False)
filtered = als.recommend(0, liked[0], N=4)
near = CosineRecommender(K=4)
near.fit(liked, show_progress=False)
of_near = near.recommend(0, liked[0], N=4)
for name, (ids, scores) in {"ALS, N=10": many, "ALS, N=4": filtered, "kNN, N=4": of_near}.items():
    print(name, ids.tolist(), scores.tolist())
if not (
    many[0].tolist()[4:] == [0] * 6
    and many[1].tolist()[4:] == [0.0] * 6
    and set(filtered[0].tolist()[2:]) == {0, 1}
    and (filtered[1][2:] == numpy.finfo("float32").min).all()
    and {0, 1} <= set(of_near[0].tolist())
):
    raise SystemExit("changed")
PYTHON

#!/bin/sh
# scikit-learn 1.9.1: load_svmlight_file(multilabel=True) leaves out examples that have no label and no feature.
#
# In multi-label files (the XML repository's, among others) each line is an example, and one without a label
# starts with a space. A line that has neither labels nor features is skipped and not kept as an empty example, though an
# example without labels alone is kept: what is indexed by line (texts, splits, a second file) is
# out of step from there on. The repository's own first line, "examples features labels", is an error.
# Seen: 3 lines, 2 examples; with a feature in the middle line, 3 examples; with the first line, ValueError.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1
venv/bin/python - <<'PYTHON'
import io

from sklearn.datasets import load_svmlight_file


def read(text):
    found, labels = load_svmlight_file(io.BytesIO(text), multilabel=True, zero_based=True)
    return found.shape[0], labels


whole = read(b"0,2 0:1\n 1:1\n1 2:1\n")
empty = read(b"0,2 0:1\n\n1 2:1\n")
print("a line without labels:", whole, "| a line without anything:", empty)
try:
    read(b"2 3 3\n0,2 0:1\n1 2:1\n")
    raise SystemExit("changed: the first line of the repository's files is read")
except ValueError as error:
    print("with the first line: ValueError:", error)
if (whole[0], empty[0]) != (3, 2):
    raise SystemExit("changed")
PYTHON

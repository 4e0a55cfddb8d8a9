#!/bin/sh
# Orange 3.40.0: reading a .basket file adds up what stands twice, and leaves out empty baskets.
#
# The format has one basket a line, items separated by commas, with an optional amount (item=2). An item that
# is written twice in a line becomes one with the amount 2, as if it had been written so: duplicates
# cannot be told from amounts, nor found. An empty line is no empty basket but no row at all, so that the
# rows of a second file (or of a target) are out of step.
# Seen: 4 lines; 3 rows; "tea, tea, saw" is tea=2, saw=1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check orange3==3.40.0
venv/bin/python - <<'PYTHON'
import Orange

with open("shop.basket", "w") as file:
    file.write("tea, milk=2, cup\ntea, tea, saw\n\ncup\n")
table = Orange.data.Table("shop.basket")
rows = [str(row) for row in table]
print(len(table), "rows of 4 lines:", *rows)
if rows != ["[tea=1, milk=2, cup=1]", "[tea=2, saw=1]", "[cup=1]"]:
    raise SystemExit("changed")
PYTHON

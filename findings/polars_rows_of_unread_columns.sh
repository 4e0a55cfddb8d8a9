#!/bin/sh
# polars 2.1.0: which rows a CSV has depends on the columns that are selected.
#
# A field that opens with a quote and never closes it is an error where its column is read. Where it is
# not read (select, or columns=), the parser goes on to the next quote, in another row, and drops all rows
# between, with no error and no warning: of 5 rows, 3 arrive. One would guess that leaving out a column
# leaves out that column alone. Python's csv module reads the same two quotes as one long field and
# an ordinary rest, and so tells that rows were joined.
# Seen: all columns: ComputeError; two of three columns: 3 rows; the count of rows alone: 3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check polars==2.1.0
venv/bin/python - <<'PYTHON'
import polars

with open("sales.csv", "w") as file:
    file.write('order,note,item\n1,"x,nail\n2,b,saw\n2,5" y,pot\n3,c,cup\n3,c,saw\n')
scan = polars.scan_csv("sales.csv")
try:
    scan.collect()
    raise SystemExit("changed: all columns are read without an error")
except polars.exceptions.ComputeError as error:
    print("all columns:", str(error).splitlines()[0])
some = scan.select("order", "item").collect()
again = polars.read_csv("sales.csv", columns=["order", "item"])
count = scan.select(polars.len()).collect().item()
print(f"two columns: {len(some)} of 5 rows ({len(again)} by read_csv); counted: {count}")
if (len(some), len(again), count) != (3, 3, 3):
    raise SystemExit("changed")
PYTHON

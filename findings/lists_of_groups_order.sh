#!/bin/sh
# DuckDB 2.0.1 and pyarrow 26.0.1: the items of a basket, gathered by GROUP BY, are not in the order of the rows.
#
# list(item) looks as if it kept the order of the table, as DuckDB preserves the order of insertion by default,
# and on small tables it does. With several threads it does not: where baskets are adjacent, some lists
# are out of order, at the borders of what a thread takes; where they are scattered, nearly every list. What
# asks for the last item of a session, or hides it to measure a model, gets another one, and another one in
# the next run. The group_by of pyarrow does the same at its borders; list(item ORDER BY ...) and pyarrow's
# use_threads=False keep the order.
# Seen, 3 million rows, 4 threads: DuckDB, adjacent baskets: 8 to 11 lists of 428,572 out of order; scattered:
# 400,000 of 400,000; with ORDER BY: 0. pyarrow, adjacent: 0 to some; with use_threads=False: 0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import duckdb
import pyarrow

ROWS = 3_000_000
database = duckdb.connect()
database.execute("SET threads = 4")
baskets = {"adjacent": "row // 7", "scattered": "(row * 7919) % 400000"}
for name, rows in baskets.items():
    database.execute(f"CREATE TABLE {name} AS SELECT {rows} AS basket, row FROM range({ROWS}) r(row)")
found = {}
for name in baskets:
    for call in ("list(row)", "list(row ORDER BY row)"):
        answer = database.execute(f"SELECT {call} FROM {name} GROUP BY basket").fetchall()
        found[name, call] = sum(list(items) != sorted(items) for (items,) in answer)
        print(f"DuckDB, {name}, {call}: {found[name, call]:,} of {len(answer):,} lists out of order")
table = pyarrow.table({"basket": [row // 7 for row in range(ROWS)], "row": list(range(ROWS))})
for threads in (True, False):
    groups = table.group_by("basket", use_threads=threads).aggregate([("row", "list")])
    wrong = sum(items != sorted(items) for items in groups["row_list"].to_pylist())
    print(f"pyarrow, adjacent, use_threads={threads}: {wrong:,} lists out of order")
    if not threads and wrong:
        raise SystemExit("changed: without threads as well")
if not found["adjacent", "list(row)"] or not found["scattered", "list(row)"]:
    raise SystemExit("changed: lists are in the order of the rows")
if any(found[name, "list(row ORDER BY row)"] for name in baskets):
    raise SystemExit("changed: ORDER BY keeps no order")
PYTHON

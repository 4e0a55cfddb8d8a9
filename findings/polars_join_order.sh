#!/bin/sh
# polars 2.1.0: collecting the same lazy left-hand rows after an inner join gives another order each time.
#
# Since polars 2, collect() takes the streaming engine, and a join promises no order (maintain_order is
# "none"). Under polars 1 an inner join came in the order of the left frame, so that one numbered labels by
# first appearance and got the same numbers in each run. Now the first rows differ from call to call in one
# process; engine="in-memory", or join(maintain_order="left"), still gives the order of the left.
# Seen: 6 calls, more than one order, none of them sorted as the left frame is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check polars==2.1.0
venv/bin/python - <<'PYTHON'
import polars

rows = 200_000
left = polars.LazyFrame({"row": range(rows), "key": [n * 7919 % 1000 for n in range(rows)]})
right = polars.LazyFrame({"key": range(1000), "name": [f"item {n}" for n in range(1000)]})
joined = left.join(right, on="key")
orders = {tuple(joined.collect()["row"].to_list()) for _ in range(6)}
in_memory = joined.collect(engine="in-memory")["row"].is_sorted()
kept = left.join(right, on="key", maintain_order="left").collect()["row"].is_sorted()
print(f"{len(orders)} orders in 6 calls; in memory sorted: {in_memory}; maintain_order: {kept}")
if len(orders) < 2 or not in_memory or not kept:
    raise SystemExit("changed")
PYTHON

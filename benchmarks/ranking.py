"""`ranking.top_n` against plain NumPy, in one run.

    python -m benchmarks.ranking                                # some minutes
    python -m benchmarks.ranking --queries 500 --rows 100000    # seconds

Both multiply tiles of the same size with the same BLAS and threads. NumPy's takes the
best of a tile by `argpartition`, and those of two tiles in the same way; ours keeps a
heap. They take turns, and the ratio of the medians counts. Writes ``ranking.md`` beside
this file.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from benchmarks import HERE
from benchmarks.common.machine import machine
from benchmarks.common.report import make_parser, page, table, write_whole
from benchmarks.common.timing import seconds_of
from itembed_gpu.ranking import top_n as ranking


def best_of(scores: np.ndarray, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The best n scores of each line, in any order, and their rows."""
    chosen = np.argpartition(scores, -n, axis=1)[:, -n:]
    return np.take_along_axis(scores, chosen, 1), np.take_along_axis(rows, chosen, 1)


def rank_with_numpy(queries: np.ndarray, table: np.ndarray, n: int) -> np.ndarray:
    """Top n by matmul and argpartition, in tiles of the size that ours has."""
    found = np.empty((len(queries), n), dtype=np.int64)
    height, width = ranking.QUERY_TILE, ranking.ROW_TILE
    for first in range(0, len(queries), height):
        block = queries[first : first + height]
        best = np.full((len(block), n), -np.inf, dtype=np.float32)
        rows = np.full((len(block), n), -1)
        for start in range(0, len(table), width):
            scores = block @ table[start : start + width].T
            few = min(n, scores.shape[1])  # the last tile may be narrow
            columns = np.argpartition(scores, -few, axis=1)[:, -few:]
            best, rows = best_of(
                np.hstack([best, np.take_along_axis(scores, columns, 1)]),
                np.hstack([rows, columns + start]),
                n,
            )
        order = np.argsort(-best, axis=1, kind="stable")
        found[first : first + height] = np.take_along_axis(rows, order, 1)
    return found


def multiply_only(queries: np.ndarray, table: np.ndarray) -> None:
    """What both have to do at least."""
    for start in range(0, len(table), ranking.ROW_TILE):
        tile = table[start : start + ranking.ROW_TILE]
        for first in range(0, len(queries), ranking.QUERY_TILE):
            queries[first : first + ranking.QUERY_TILE] @ tile.T


def measure(arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Median seconds of each, and the share of rows that both found."""
    generator = np.random.default_rng(0)
    dim, n = arguments.dim, arguments.n
    queries = generator.standard_normal((arguments.queries, dim), dtype=np.float32)
    table = generator.standard_normal((arguments.rows, dim), dtype=np.float32)
    ranking.top_n(queries[:2], table[: n + 1], n)  # compiles
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {}
    functions = {
        "ours": lambda: found.update(ours=ranking.top_n(queries, table, n)[0]),
        "NumPy": lambda: found.update(numpy=rank_with_numpy(queries, table, n)),
        "matrix product alone": lambda: multiply_only(queries, table),
    }
    for _ in range(arguments.repeat):
        for name, function in functions.items():
            seconds.setdefault(name, []).append(seconds_of(function))
            print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
    common = [len(np.intersect1d(a, b)) for a, b in zip(found["ours"], found["numpy"], strict=True)]
    return {k: statistics.median(v) for k, v in seconds.items()}, float(np.mean(common)) / n


def main(args: list[str] | None = None) -> None:
    parser = make_parser("ranking", __doc__, HERE / "ranking.md")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, in turns")
    arguments = parser.parse_args(args)
    medians, common = measure(arguments)
    ours = medians["ours"]
    note = (
        f"`python -m benchmarks.ranking`: top {arguments.n} of {arguments.rows:,} rows for "
        f"{arguments.queries:,} queries, D = {arguments.dim}, float32, normal values; medians of "
        f"{arguments.repeat} runs of each in turns, tiles of "
        f"{ranking.QUERY_TILE:,} x {ranking.ROW_TILE:,} scores, the same BLAS and threads. Both "
        f"found {100 * common:.4f} % of the rows in common. {machine()}."
    )
    rows = [
        (name, f"{value:.2f}", f"{arguments.queries / value:,.0f}", f"{value / ours:.2f}x")
        for name, value in medians.items()
    ]
    lines = table(("what", "seconds", "queries a second", "over ours"), rows)
    write_whole(arguments.out, page("Exact top-n, against plain NumPy", note, lines))
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()

"""How many pairs a GPU should have in flight: speed over the share of those that it can hold.

    python -m benchmarks.in_flight   # one GPU: half a minute

Each cell is that of `benchmarks.gpu` with a million items and the threads a pair that are the
default. Rows are read, and some microseconds later added to: with more pairs in flight than its
L2 cache has room for, a card reads them twice. `in_flight.CACHE_SHARE` is what this shows to be
best. Writes ``in_flight.md`` beside this file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import gpu
from benchmarks.common.report import make_parser, page, table, write_whole
from itembed_gpu import DeviceError
from itembed_gpu.backends.cuda import task as cuda

DIMS = (32, 64, 128, 256, 512)
SHARES = (1.0, 0.75, 0.5, 0.35)
SCALE = dataclasses.replace(gpu.FULL_SCALE, seconds=0.15)


def measure(bench: gpu.Bench, cell: gpu.Cell, share: float) -> dict[str, Any]:
    """Speed with a share of the pairs that the card holds at once."""
    limit = cuda.CudaTask._limit_tiles
    cuda.CudaTask._limit_tiles = lambda self, num_tile: max(1, int(share * num_tile))
    try:
        speed = gpu.time_task(bench.make_task(cell), SCALE.seconds)
    finally:
        cuda.CudaTask._limit_tiles = limit
    needed = 2 * (gpu.NUM_NEGATIVE + 2) * cell.dim * 4
    return {
        "dim": cell.dim,
        "zipf": cell.zipf,
        "in_flight": speed.details["pairs_in_flight"],
        "speed": speed.median,
        "of_copy": speed.median * needed / bench.bandwidth,
    }


def make_report(rows: list[dict[str, Any]], note: str) -> str:
    """A line for each number of pairs in flight."""
    note = f"{note} In MB: the rows of all pairs in flight, {gpu.NUM_NEGATIVE + 2} each."
    measured = (f"{name}: Mpair/s, of copy" for name in ("uniform", "Zipf(1)"))
    lines = []
    pairs: dict[tuple[int, int], dict[bool, str]] = {}
    for row in rows:
        shown = f"{row['speed'] / 1e6:,.0f}, {row['of_copy']:.3f}"
        pairs.setdefault((row["dim"], row["in_flight"]), {})[row["zipf"]] = shown
    for (dim, in_flight), shown in pairs.items():
        size = in_flight * (gpu.NUM_NEGATIVE + 2) * dim * 4 / 1e6
        both = (shown.get(False, ""), shown.get(True, ""))
        lines.append((dim, f"{in_flight:,}", f"{size:.1f}", *both))
    return page("Pairs in flight", note, table(("D", "pairs in flight", "MB", *measured), lines))


def main() -> None:
    parser = make_parser("in_flight", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    options = parser.parse_args()
    try:
        device = gpu.OnGpu(options.device)
    except DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    bench = gpu.Bench(device, SCALE, None, float("inf"))
    bench.bandwidth = device.bandwidth(SCALE.copy_bytes)
    rows = []
    with device.active():
        for dim in DIMS:
            for share in SHARES:
                for zipf in (False, True):
                    rows.append(measure(bench, gpu.Cell(dim, 1_000_000, zipf), share))
                    print(rows[-1], flush=True)
    note = f"`python -m benchmarks.in_flight`: {device.description}."
    write_whole(options.out / "in_flight.md", make_report(rows, note))


if __name__ == "__main__":
    main()

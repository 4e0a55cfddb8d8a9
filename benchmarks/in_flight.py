"""How many pairs a GPU should have in flight: speed over the share of those that it can hold.

    python benchmarks/in_flight.py   # one GPU: half a minute

Each cell is that of ``gpu.py`` with a million items and the threads a pair that are the default.
Rows are read, and some microseconds later added to: with more pairs in flight than its L2 cache
has room for, a card reads them twice. `cuda.CACHE_SHARE` is what this shows to be best. Writes
``in_flight.md`` beside this file.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import gpu  # it lies beside this file

from itembed_gpu import DeviceError
from itembed_gpu.backends.cuda import task as cuda

HERE = Path(__file__).parent
DIMS = (32, 64, 128, 256, 512)
SHARES = (1.0, 0.75, 0.5, 0.35)
SCALE = dataclasses.replace(gpu.FULL_SCALE, seconds=0.15)


class NoReport:
    """Rows are made here."""

    def add(self, row: gpu.Row) -> None:
        """Forget it."""


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
    lines = [
        "# Pairs in flight",
        "",
        f"{note} In MB: the rows of all pairs in flight, {gpu.NUM_NEGATIVE + 2} each.",
        "",
        "| D | pairs in flight | MB | uniform: Mpair/s, of copy | Zipf(1): Mpair/s, of copy |",
        "|---|---|---|---|---|",
    ]
    pairs: dict[tuple[int, int], dict[bool, str]] = {}
    for row in rows:
        shown = f"{row['speed'] / 1e6:,.0f}, {row['of_copy']:.3f}"
        pairs.setdefault((row["dim"], row["in_flight"]), {})[row["zipf"]] = shown
    for (dim, in_flight), shown in pairs.items():
        size = in_flight * (gpu.NUM_NEGATIVE + 2) * dim * 4 / 1e6
        cells = (dim, f"{in_flight:,}", f"{size:.1f}", shown.get(False, ""), shown.get(True, ""))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of what is written")
    options = parser.parse_args()
    try:
        device = gpu.OnGpu(options.device)
    except DeviceError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    bench = gpu.Bench(device, SCALE, NoReport(), float("inf"))
    bench.bandwidth = device.bandwidth(SCALE.copy_bytes)
    rows = []
    with device.active():
        for dim in DIMS:
            for share in SHARES:
                for zipf in (False, True):
                    rows.append(measure(bench, gpu.Cell(dim, 1_000_000, zipf), share))
                    print(rows[-1], flush=True)
    note = f"`python benchmarks/in_flight.py`: {device.description}."
    (options.out / "in_flight.md").write_text(make_report(rows, note), encoding="utf-8")


if __name__ == "__main__":
    main()

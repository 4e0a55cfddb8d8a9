"""The picture of `benchmarks.gpu`: ratios to the copy, sharing, and short calls."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.plots import BLUE, GREEN, ORANGE, picture
from benchmarks.common.speeds import mega
from benchmarks.gpu_cells import BATCH_SIZE, NUM_NEGATIVE, both, one_at_a_time, ratio_target

if TYPE_CHECKING:
    from benchmarks.gpu import Bench
    from benchmarks.gpu_cells import Cell


def plot(bench: Bench, path: Path) -> None:
    """Draw what was measured: ratios to the copy, sharing, and short calls."""
    cells = [
        *both(bench.scale.judged),
        *both(bench.scale.pooled),
        *one_at_a_time(bench.scale),
    ]
    names = list(dict.fromkeys(cell.settings for cell in cells if cell in bench.speeds))
    with picture(path, 12, max(5.0, 0.36 * len(names) + 2)) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
        plot_ratios(figure.add_subplot(grid[:, 0]), bench, cells, names)
        plot_sharing(figure.add_subplot(grid[0, 1]), bench)
        plot_calls(figure.add_subplot(grid[1, 1]), bench)
        figure.suptitle(f"itembed_gpu on {bench.device.name}: k = {NUM_NEGATIVE}, float32")


COLORS = {True: BLUE, False: ORANGE}
NAMES = {True: "Zipf(1)", False: "uniform"}


def plot_ratios(axes: Any, bench: Bench, cells: list[Cell], names: list[str]) -> None:
    judged = list(both(bench.scale.judged))
    for cell in dict.fromkeys(cells):
        if cell not in bench.speeds:
            continue
        at = names.index(cell.settings) + (-0.2 if cell.zipf else 0.2)
        bar = axes.barh(at, bench.of_copy(cell), 0.38, color=COLORS[cell.zipf])
        axes.bar_label(bar, [mega(bench.speeds[cell].median)], padding=3, fontsize=7)
        if cell in judged and bench.scale.judge_speed:
            target = ratio_target(cell).limit
            axes.plot([target, target], [at - 0.19, at + 0.19], color="black", linewidth=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.14, y=0.02)
    axes.set_xlabel("needed bytes a second over copy bandwidth (beside: Mpair/s)")
    axes.axvline(1, color="gray", linewidth=0.8)
    handles = [axes.plot([], [], color=COLORS[zipf], linewidth=6)[0] for zipf in (True, False)]
    handles += axes.plot([], [], color="black", linewidth=2)
    labels = [*NAMES.values(), "target"]  # above the axes, where they cover nothing
    axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)


def plot_sharing(axes: Any, bench: Bench) -> None:
    for zipf in (True, False):
        cells = [
            dataclasses.replace(bench.scale.default, zipf=zipf, sharing=sharing)
            for sharing in (1, *bench.scale.sharings)
        ]
        points = [(c.sharing, bench.speeds[c].median / 1e6) for c in cells if c in bench.speeds]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=COLORS[zipf], label=NAMES[zipf])
    axes.set_xscale("log", base=2)
    sharings = (1, *bench.scale.sharings)
    axes.set_xticks(sharings, map(str, sharings))
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_xlabel("negative_sharing")
    axes.set_ylabel("Mpair/s")
    axes.set_title(bench.scale.default.settings, fontsize=9)
    if axes.has_data():
        axes.legend(loc="lower right")


def plot_calls(axes: Any, bench: Bench) -> None:
    if bench.call_times:
        axes.loglog(list(bench.call_times), list(bench.call_times.values()), "o-", color=GREEN)
    if bench.scale.default in bench.speeds:
        axes.axhline(
            1e9 / bench.speeds[bench.scale.default].median,
            color="gray",
            linestyle="--",
            label="a whole epoch a call",
        )
        axes.legend()
    axes.set_xlabel(f"batches of {BATCH_SIZE} itemsets a call")
    axes.set_ylabel("ns a pair")
    axes.set_title("Short calls", fontsize=9)

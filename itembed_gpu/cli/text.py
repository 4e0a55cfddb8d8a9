"""What the command line writes: reports as text or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..models.defaults import as_text
from .evaluation import BY_EPOCH, STOP_BY

if TYPE_CHECKING:
    from .evaluation import Measured


def as_json(report: Any) -> str:
    # Labels may also be dates or UUIDs, which are written like str() does.
    return json.dumps(report, indent=2, ensure_ascii=False, default=str)


def training_as_text(report: dict[str, Any], table: str | None) -> str:
    loss = "unknown" if report["loss"] is None else f"{report['loss']:.4f}"
    counts = [f"{name} {report[name]:,}" for name in ("items", "itemsets", "pairs", "epochs")]
    seconds = [f"{step} {duration:.2f}" for step, duration in report["seconds"].items()]
    lines = [f"from      {report['source']}", f"read      {report['read']}"]
    if unused := report["dropped"]["labels_without_itemset"]:
        lines.append(f"left out  {unused:,} item(s), as none of their itemsets is trained on")
    lines.append(f"trained   {', '.join(counts)}, loss {loss}")
    if left_out := report["pairs_left_out"]:
        lines.append(f"          {left_out:,} more pairs were left out by subsampling or dropout")
    if trials := report.get("trials"):
        lines.append(f"searched  {len(trials)} trials in {report['seconds']['tuning']:.0f} s")
    if report["chosen"]:
        lines.append(f"chosen    {as_text(report['chosen'])}")
    lines += [
        f"on        {report['device']}, with seed {report['settings']['seed']}",
        f"seconds   {', '.join(seconds)}",
    ]
    output = report["output"]
    lines.append("saved to  nothing: -o DIR keeps it" if output is None else f"saved to  {output}")
    lines += [f"drawn     {path}" for path in report.get("plots", ())]
    if table is not None:
        popularity = report["evaluation"]["popularity"]
        shown = ", ".join(f"{name} {popularity[name]:.4f}" for name in BY_EPOCH)
        lines += ["", *_held_out_as_text(report), "", table, f"popularity: {shown}"]
    if "similar" in report:
        lines = [neighbours_as_text(report["similar"], headed=True), "", *lines]
    return "\n".join(lines)


def _held_out_as_text(report: dict[str, Any]) -> list[str]:
    found = report["evaluation"]
    lines = [
        f"held out  {found['held_out_itemsets']:,} itemsets, the last ones, which were not trained "
        "on; without --evaluate, they are",
        f"asked     {found['queries']:,} of them for one item that was hidden, among all items",
    ]
    if short := found["short_itemsets"]:
        lines.append(f"left out  {short:,} of them, with less than two different known items")
    if unknown := found["unknown_items"]:
        lines.append(f"unknown   {unknown:,} of their item(s), as they were never trained on")
    if best := found["best_epoch"]:
        stopped = f", stopped after {report['epochs']}" if found["stopped"] else ""
        lines.append(f"kept      epoch {best}, the best by {STOP_BY}{stopped}")
    return lines


def evaluation_as_text(report: dict[str, Any], measured: Measured) -> str:
    lines = [f"model     {report['model']}: {report['items']:,} items"]
    for source, unknown in measured.unknown.items():
        lines += [f"from      {source}", f"unknown   {unknown}"]
    reasons = {
        "short_itemsets": "itemsets with less than two different items that are known",
        "already_in_history": "items to find that are in the history already",
        "unmatched_itemsets": "itemsets to find that have no history",
    }
    for name, reason in reasons.items():
        if number := report.get(name):
            lines.append(f"left out  {number:,} {reason}")
    if missed := report.get("unknown_to_find"):
        lines.append(f"missed    {missed:,} items to find that are unknown")
    seed = "" if report["seed"] is None else f", seed {report['seed']}"
    lines += [
        f"asked     {report['protocol']}{seed}",
        f"scores    {report['similarity']}, history exponent {report['history_exponent']:g}, "
        f"popularity {report['popularity']}",
    ]
    return "\n".join([*lines, "", str(measured.evaluation)])


def neighbours_as_text(found: list[dict[str, Any]], headed: bool = False) -> str:
    """One line a neighbour, under the item where there are many items."""
    headed = headed or len(found) > 1
    blocks = []
    for entry in found:
        lines = [f"{other['score']:.4f}\t{other['item']}" for other in entry["similar"]]
        blocks.append("\n".join([str(entry["item"]), *lines] if headed else lines))
    return ("\n\n" if headed else "").join(blocks)

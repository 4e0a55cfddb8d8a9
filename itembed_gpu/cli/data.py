"""The command line for data: ``pack`` and ``verify``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from .cluster import connected
from .options import (
    PATH,
    added,
    cluster_options,
    json_option,
    limit_options,
    only_given,
    reading_options,
    weight_option,
)


def _read_size(context: Any, parameter: Any, value: str | None) -> int | None:
    """Read a number of bytes: 1048576, 1024K, 1M or 0.5G."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    if found is None:
        raise click.BadParameter(f"{value!r} is no size; give one such as 500M or 2G")
    return int(float(found[1]) * 1024.0 ** " KMGT".index(found[2].upper() or " "))


# What of the itemsets is packed, as `read_itemsets` calls it.
_limit_options = added(
    click.option(
        "--min-count",
        type=click.IntRange(min=1),
        default=1,
        help="Drop items that occur less often [1].",
    ),
    click.option(
        "--min-length",
        type=click.IntRange(min=0),
        default=2,
        help="Drop itemsets of fewer items [2].",
    ),
    limit_options,
    click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of --max-length [0]."),
)


@click.command()
@click.argument("file", type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=PATH,
    help="Folder to save in.",
)
@reading_options
@weight_option
@_limit_options
@click.option(
    "--memory",
    callback=_read_size,
    metavar="SIZE",
    help="Memory for the data, such as 500M or 2G; what does not fit in it goes by way of the disk "
    "[half of what is free]. With workers, of each thread.",
)
@cluster_options
@json_option
def pack(
    file: str,
    output: Path,
    as_json: bool,
    scheduler: str | None,
    workers: int | None,
    **options: Any,
) -> None:
    """Pack the itemsets of FILE into DIR, from which training starts at once.

    FILE is a file, a folder or a pattern of files, as for `itembed-gpu train`, which takes DIR in
    the place of FILE. With --workers or --scheduler, workers of Dask read some of the files each,
    and DIR is the same.

    \b
    Examples:
      itembed-gpu pack sales.parquet --itemset invoice --item product -o sales.itemsets
      itembed-gpu pack "sales/2024-*.csv" -o sales.itemsets --min-count 5 --memory 1G
      itembed-gpu pack "sales/*.parquet" -o sales.itemsets --workers 8
      itembed-gpu train sales.itemsets -o model
    """
    import dataclasses

    from ..data.out_of_memory import pack_files

    with connected(scheduler, workers) as client:
        began = perf_counter()
        packed = pack_files(file, output, client=client, **only_given(options))
        seconds = perf_counter() - began
    if as_json:
        report = {
            "source": packed.source,
            "items": packed.num_label,
            "itemsets": packed.num_itemset,
            "occurrences": packed.num_item,
            "rows_without_itemset": packed.rows_without_itemset,
            "dropped": dataclasses.asdict(packed.dropped),
            "seconds": round(seconds, 3),
            "output": str(output),
        }
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"Read {packed.source}: {packed.account}.")
    click.echo(
        f"Packed {packed.num_item:,} occurrences of {packed.num_label:,} items in "
        f"{packed.num_itemset:,} itemsets, in {seconds:.1f} s: {output}"
    )


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
def verify(folder: Path) -> None:
    """Compare a saved folder with its checksums, and load it.

    DIR is a folder that `itembed-gpu train` or `pack` wrote, or one of checkpoints. If a part of
    it was altered or lost, the error says which.

    \b
    Examples:
      itembed-gpu verify sales.itemsets
      itembed-gpu verify model
    """
    from ..models.verify import verify as verify_folder

    click.echo(f"{folder}: {verify_folder(folder)}")

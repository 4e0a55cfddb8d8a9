"""The command line for people who want to see a catalog: ``map``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError
from .evaluation import load_neighbours, quiet_library
from .options import PATH

if TYPE_CHECKING:
    from ..models.embeddings import Embeddings

# From so many items on, it is told that it takes long.
_MANY = 20_000


@click.command("map")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=PATH,
    help="File to write: .html for browsers, or .png.",
)
@click.option(
    "-n",
    "number",
    type=click.IntRange(min=3),
    help="Draw so many items, the most frequent ones [100000; of a .png 200].",
)
@click.option(
    "--groups",
    metavar="FILE",
    type=PATH,
    help="Table (CSV, Parquet, NDJSON, Arrow) that says the group of each item, which is its "
    "colour; of an .html file [clusters].",
)
@click.option(
    "--item", metavar="COLUMN", help="Column of --groups with items, by name or number [the first]."
)
@click.option(
    "--group",
    metavar="COLUMN",
    help="Column of --groups with groups, by name or number [the next].",
)
def draw_map(
    folder: Path,
    output: Path,
    number: int | None,
    groups: Path | None,
    item: str | None,
    group: str | None,
) -> None:
    """Draw a map of the items of a model, on which those lie close together that are alike.

    DIR is a folder that `itembed-gpu train` saved. An .html file is opened by any browser, with no
    network: pan and zoom, search for an item, click it to see its nearest neighbours.

    \b
    Examples:
      itembed-gpu map model -o map.html
      itembed-gpu map model -o map.html --groups products.csv --item code --group department
      itembed-gpu map model -o map.png -n 300
    """
    from ..models.plots import NUM_IN_PAGE, plot_map

    if groups is None and (item is not None or group is not None):
        raise click.UsageError("--item and --group are columns of a table: give --groups FILE")
    quiet_library()
    embeddings = load_neighbours(folder)
    given = None if groups is None else _read_groups(groups, item or 1, group or 2, embeddings)
    num_item = min(len(embeddings), number or NUM_IN_PAGE)
    if output.suffix.lower() == ".html" and num_item >= _MANY:
        click.echo(f"Laying out {num_item:,} items, which takes minutes", err=True)
    drawn = plot_map(embeddings, output, number, groups=given)
    click.echo(f"Drew {len(drawn.labels):,} of {len(embeddings):,} items: {output}")


def _read_groups(
    file: Path, item: str | int, group: str | int, embeddings: Embeddings
) -> dict[Any, Any]:
    """Read the groups of items, and tell what of them is of no use."""
    import polars

    from ..data.files import open_files, scan_files
    from ..data.formats import Roles
    from ..models.groups import COLOURS

    with open_files(file, None, {}, Roles(group, item, None)) as source:
        if not source.is_table:
            raise DataError(f"{file}: is read as {source.format}, not as a table; give a CSV")
        frame = scan_files(source).collect()
    values = frame["itemset"]
    if values.dtype == polars.String and values.n_unique() > len(COLOURS):
        # Text that is all numbers, as those of a CSV, is numbers where there are many.
        numbers = values.cast(polars.Float64, strict=False)
        values = numbers if numbers.null_count() == values.null_count() else values
    written = {str(label): label for label in embeddings.labels}
    found: dict[Any, Any] = {}
    num_unknown, several = 0, set()
    for word, value in zip(frame["item"].to_list(), values.to_list(), strict=True):
        label = written.get(str(word))
        num_unknown += label is None
        if label is not None and found.setdefault(label, value) != value:
            several.add(label)
    if num_unknown:
        click.echo(f"Left out: {num_unknown:,} rows of {file}, of unknown items", err=True)
    if several:
        click.echo(f"{len(several):,} items have several groups: the first is taken", err=True)
    if not found:
        raise DataError(f"{file}: holds none of the {len(embeddings):,} items; look at --item")
    return found

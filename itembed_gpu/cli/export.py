"""The command line for other programs: ``export``."""

from __future__ import annotations

from pathlib import Path

import click

from .evaluation import load_embeddings
from .options import PATH

# Formats by the suffixes that say them.
_FORMATS = {
    ".txt": "word2vec",
    ".vec": "word2vec",
    ".bin": "word2vec-binary",
    ".parquet": "parquet",
    ".npy": "npy",
}


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("file", metavar="OUT", type=PATH)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(dict.fromkeys(_FORMATS.values()))),
    help="Format of OUT [as its suffix says: .txt and .vec are word2vec, .bin word2vec-binary].",
)
@click.option(
    "--replace-space",
    metavar="TEXT",
    help="Of word2vec, where a word ends at a space: put this in the place of those in labels "
    "[an error].",
)
@click.option(
    "--vocabulary",
    metavar="FILE",
    type=PATH,
    help="Of word2vec, which holds no counts: write them to this file, which gensim reads as its "
    "fvocab [none].",
)
def export(
    folder: Path,
    file: Path,
    name: str | None,
    replace_space: str | None,
    vocabulary: Path | None,
) -> None:
    """Write the vectors of a model as a file for other programs.

    DIR is a folder that `itembed-gpu train` saved. OUT holds the label, the vector and the count
    of each item (parquet); label and vector (word2vec, as text or binary, as gensim reads it); or
    vectors alone (npy), with the labels beside them as JSON.

    \b
    Examples:
      itembed-gpu export model items.parquet
      itembed-gpu export model items.bin --replace-space _ --vocabulary items.counts
      itembed-gpu export model items.npy
    """
    name = name or _FORMATS.get(file.suffix.lower())
    if name is None:
        raise click.UsageError(f"{file}: its suffix says no format; give --format")
    is_word2vec = name.startswith("word2vec")
    if not is_word2vec and (replace_space is not None or vocabulary is not None):
        raise click.UsageError(f"--replace-space and --vocabulary are of word2vec, not of {name}")
    embeddings = load_embeddings(folder)
    files = [file]
    if name == "parquet":
        embeddings.to_parquet(file)
    elif name == "npy":
        files.append(embeddings.to_npy(file))
    else:
        binary = name == "word2vec-binary"
        embeddings.to_word2vec(
            file, binary=binary, replace_space=replace_space, vocabulary=vocabulary
        )
        files += [] if vocabulary is None else [vocabulary]
    click.echo(
        f"Wrote {len(embeddings):,} vectors of {embeddings.dimension} as {name}: "
        f"{', '.join(map(str, files))}"
    )

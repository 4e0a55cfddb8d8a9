"""Files of object stores and other places that have a URL, by way of fsspec.

They are copied to temporary files where they are read, one after the other, so that they are read
as any other file is.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from ..errors import DataError, InputError, ItembedError, MissingExtraError
from .foreign import first_line

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_CHUNK = 1 << 22


class Url(type(Path())):  # type: ignore[misc]
    """A path with a protocol: ``s3://bucket/sales/day=1/part-0.parquet``."""

    def __str__(self) -> str:
        return str(super().__str__().replace(":/", "://", 1))


def as_path(source: str | os.PathLike[str]) -> Path:
    """Return a path, or a `Url` where there is a protocol; ``file://`` is that of a path.

    A `Path` of a URL has lost one of its slashes.
    """
    text = os.fspath(source)
    found = _URL.match(text)
    if found is None or Path(text).exists():
        return Path(text)
    if found[1].lower() in ("file", "local"):
        return Path(url2pathname("/" + text[found.end() :]))
    url: Path = Url(text)
    return url


def refuse_url(name: str, path: Path) -> None:
    """Refuse to write to a place that has a URL."""
    if isinstance(path, Url):
        raise InputError(f"{name}: {path} is no folder of a disk; save to one, and copy it there")


def list_urls(source: Path, is_wanted: Callable[[str, bool], bool]) -> list[Path]:
    """List the files of a URL: one, those of a folder and of its folders that are wanted, or those
    of a pattern, in the order of their names.
    """
    with _told(source):
        system, root = _open(source)
        if root.startswith(("http:", "https:")):
            return [source]  # there is no list of what lies there
        if glob.has_magic(root):
            found = [x for x in system.glob(root) if is_wanted(x.rpartition("/")[2], False)]
        elif system.isdir(root):
            found = [root]
        else:
            return [source]
        files = []
        for top in found:
            for name in system.find(top):
                *folders, last = name[len(top) :].strip("/").split("/")
                wanted = all(is_wanted(x, True) for x in folders) and is_wanted(last, False)
                if wanted or name == top:
                    files.append(Url(system.unstrip_protocol(name)))
    return sorted(files)


def copy_url(source: Path, target: Path) -> None:
    """Copy what a URL stands for to a file."""
    with _told(source):
        system, name = _open(source)
        with system.open(name, "rb") as remote, target.open("wb") as file:
            shutil.copyfileobj(remote, file, _CHUNK)


def url_size(source: Path) -> int:
    """Return the bytes of what a URL stands for."""
    with _told(source):
        system, name = _open(source)
        return int(system.size(name) or 0)


def _open(source: Path) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtraError(
            f'{source}: needs fsspec: pip install "itembed_gpu[cluster]"'
        ) from error
    system, name = url_to_fs(str(source))
    return system, name


@contextmanager
def _told(source: Path) -> Iterator[None]:
    """Turn the errors of fsspec, and of what it stands on, into ours."""
    try:
        yield
    except (ItembedError, MemoryError):
        raise
    except ImportError as error:  # what the protocol takes: s3fs, gcsfs, adlfs, ...
        raise MissingExtraError(f"{source}: {first_line(error)}") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{source}: cannot be read: {reason}") from error

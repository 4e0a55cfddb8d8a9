"""Opens files of text, whatever they are compressed with, come by or are encoded in.

Tables are read from plain files of UTF-8: what is none is written out as one first, into a folder
of temporary files (`tempfile.tempdir`, or TMPDIR) that goes when it has been read.
"""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import importlib
import io
import lzma
import os
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple

from ..errors import DataError, InputError, MissingExtraError
from .formats import COMPRESSIONS
from .remote import Url, copy_url, url_size

STANDARD_INPUT = Path("-")
_CHUNK = 1 << 20
# What a compressed file begins with.
_MAGIC = {
    b"\x1f\x8b": ".gz",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"BZh": ".bz2",
    b"PK\x03\x04": ".zip",
}
# Encodings that have been used where UTF-8 was not: those of many bytes for a letter come first.
_MULTIBYTE = ("big5", "gb18030", "shift_jis", "euc_kr")
_SINGLE_BYTE = ("cp1252", "latin-1")


class Opened(NamedTuple):
    """A file, as people call it, and where it lies as a plain file of UTF-8."""

    path: Path
    plain: Path


class TemporaryFiles:
    """A folder of temporary files, made when there is something to put into it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._folder: Path | None = None
        self._count = 0

    def new(self) -> Path:
        """Return the path of a file that is not there yet."""
        if self._folder is None:
            with _written():
                folder = self._stack.enter_context(TemporaryDirectory(prefix="itembed-"))
            self._folder = Path(folder)
        self._count += 1
        return self._folder / str(self._count)

    @contextmanager
    def write(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """Open a new file to write into."""
        path = self.new()
        with _written(), path.open("wb") as target:
            yield path, target


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"a temporary file cannot be written: {error.strerror or error}; set TMPDIR to a "
            "folder with room"
        ) from error


@contextmanager
def temporary_files() -> Iterator[TemporaryFiles]:
    """Have temporary files, until the end."""
    with ExitStack() as stack:
        yield TemporaryFiles(stack)


def come_in(path: Path, files: TemporaryFiles) -> Opened:
    """Copy what can be read only once, or lies elsewhere, to a file."""
    if isinstance(path, Url):
        plain = files.new().with_suffix(path.suffix)
        copy_url(path, plain)
        return Opened(path, plain)
    if not is_read_once(path):
        return Opened(path, path)
    is_input = _is_input(path)
    name = Path("standard input") if is_input else path
    with _told(name, lambda: ""), ExitStack() as stack:
        source = sys.stdin.buffer if is_input else stack.enter_context(path.open("rb"))
        plain, target = stack.enter_context(files.write())
        shutil.copyfileobj(source, target, _CHUNK)
    with plain.open("rb") as file:
        start = file.read(8)
    for magic, suffix in _MAGIC.items():
        if start.startswith(magic):
            plain = plain.rename(plain.with_suffix(suffix))
    return Opened(name, plain)


def is_elsewhere(file: Opened) -> bool:
    """Whether a file lies elsewhere, and was not copied yet."""
    return isinstance(file.plain, Url)


def size_of(file: Opened) -> int:
    """Return the bytes of a file, as far as they are known before it is read."""
    if isinstance(file.path, Url):
        return url_size(file.path)
    return file.path.stat().st_size if file.path.exists() else 0


def is_read_once(path: Path) -> bool:
    """Whether a path is the standard input, or a pipe."""
    return _is_input(path) or _is_pipe(path)


def _is_input(path: Path) -> bool:
    return path == STANDARD_INPUT and not path.exists()


def _is_pipe(path: Path) -> bool:
    with suppress(OSError):
        mode = path.stat().st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)
    return False


def as_plain(file: Opened, encoding: str, files: TemporaryFiles, marked: bool) -> Opened:
    """Write out a file that is compressed or not UTF-8 as one that is neither.

    A byte order mark stays if it may be `marked`.
    """
    chunks = read_chunks(file, encoding)
    if encoding == "utf-8" and file.plain.suffix.lower() not in COMPRESSIONS:
        if marked or not next(chunks, b"").startswith(codecs.BOM_UTF8):
            return file
        chunks = read_chunks(file, encoding)
    with files.write() as (plain, target):
        first = next(chunks, b"")
        target.write(first if marked else first.removeprefix(codecs.BOM_UTF8))
        target.writelines(chunks)
    return Opened(file.path, plain)


def read_chunks(file: Opened, encoding: str) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed, as UTF-8; errors name the line."""
    line = 1

    def place() -> str:
        return f" after line {line - 1}"

    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
    with _told(file.path, place), _open(file.plain) as source:
        while chunk := source.read1(_CHUNK):  # what there is, before what is damaged
            if decoder is not None:
                chunk = _decode(file.path, decoder, chunk, line, encoding)
            line += chunk.count(b"\n")
            yield chunk
        if decoder is not None:
            yield _decode(file.path, decoder, b"", line, encoding)


def _decode(path: Path, decoder: Any, chunk: bytes, line: int, encoding: str) -> bytes:
    """Turn bytes into UTF-8."""
    try:
        text: str = decoder.decode(chunk, not chunk)
        return text.encode()
    except UnicodeError as error:
        if not isinstance(error, UnicodeDecodeError):
            raise DataError(f"{path}, after line {line - 1}: is not {encoding}: {error}") from error
        before = error.object[: error.start].decode(encoding, "ignore")
        raise DataError(
            f"{path}, line {line + before.count(chr(10))}: byte 0x{error.object[error.start]:02x} "
            f"is not {encoding}; give the right encoding (--encoding)"
        ) from error


def read_lines(file: Opened, encoding: str = "utf-8") -> Iterator[str]:
    """Yield decoded lines; whatever is wrong with the file becomes a DataError.

    Lines end with a newline; a carriage return before it, or alone, is part of the line.
    """
    number = 0
    with ExitStack() as stack:
        stack.enter_context(_told(file.path, lambda: f" after line {number}"))
        lines: Iterator[bytes]
        if encoding == "utf-8":
            lines = iter(stack.enter_context(_open(file.plain)))
        else:
            lines = _lines_of(read_chunks(file, encoding))
        try:
            for number, line in enumerate(lines, 1):
                if b"\0" in line:
                    raise DataError(
                        f"{file.path}, line {number}: a zero byte; is it binary, damaged or "
                        f"UTF-16? Text is read as UTF-8, if no other encoding is given"
                        f"{_hint(file.plain)}"
                    )
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file.path}, line {number}: byte {error.start + 1} "
                f"(0x{error.object[error.start]:02x}) is not UTF-8; save the file as UTF-8, or "
                f"give its encoding{_hint(file.plain)}"
            ) from error
    if number == 0:
        raise DataError(f"{file.path}: the file is empty")


def _lines_of(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut chunks into lines."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _hint(plain: Path) -> str:
    """Say which encodings a file may have, by its first part with letters that are not ASCII."""
    likely: list[str] = []
    with suppress(OSError, EOFError, zlib.error, lzma.LZMAError, DataError), _open(plain) as file:
        while not likely and (sample := file.read(_CHUNK)):
            likely = likely_encodings(sample)
    return f" (--encoding): perhaps {' or '.join(likely)}" if likely else " (--encoding)"


def likely_encodings(sample: bytes) -> list[str]:
    """List encodings of what is not UTF-8, those first that are more likely."""
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["utf-16"]
    if b"\0" in sample:
        # In UTF-16, every other byte of plain letters is zero.
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if max(even, odd) > len(sample) // 8:
            return ["utf-16-le" if odd > even else "utf-16-be"]
        return []
    high = [place for place, byte in enumerate(sample) if byte > 127]
    if not high:
        return []
    beside = sum(later - place == 1 for place, later in pairwise(high))
    several = _MULTIBYTE if 3 * beside > len(high) else ()
    return [name for name in (*several, *_SINGLE_BYTE) if _decodes(sample, name)][:3]


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeError:
        return False
    return True


@contextmanager
def _told(path: Path, place: Callable[[], str]) -> Iterator[None]:
    """Turn the errors of reading into a DataError of one line."""
    damage = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile)
    try:
        yield
    except damage as error:
        raise DataError(f"{path}: damaged or cut short{place()}: {error}") from error
    except (OSError, RuntimeError) as error:  # an archive may be encrypted
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file to read what it holds, decompressed."""
    suffix = path.suffix.lower()
    openers: dict[str, Callable[[Path], Any]] = {
        ".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open, ".zst": _open_zst
    }  # fmt: skip
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_only_member(path, archive)) as file:
            yield file
        return
    opener = openers.get(suffix)
    with path.open("rb") if opener is None else opener(path) as file:
        yield file


def _only_member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/")
    ]
    if len(names) != 1:
        raise InputError(
            f"{path}: holds {len(names)} files, where one is read; unpack it, and read the folder"
        )
    return names[0]


def _open_zst(path: Path) -> Any:
    """Open a file of Zstandard, which Python knows from 3.14 on, and pyarrow always."""
    os.stat(path)  # an error of ours where it is not there
    if sys.version_info >= (3, 14):
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]

        return zstd.open(path)
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        return io.BytesIO(_lines_by_polars(path))
    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


def _lines_by_polars(path: Path) -> bytes:
    """Decompress text by polars, which forgets how its lines end: that is well but in quotes."""
    import polars

    try:
        lines = polars.scan_lines(glob.escape(str(path))).collect()["line"]
    except polars.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from error
    if lines.str.contains('"', literal=True).any():
        raise MissingExtraError(f"{path}: fields in quotes are read from .zst with pyarrow only")
    return "".join(f"{line}\n" for line in lines).encode()

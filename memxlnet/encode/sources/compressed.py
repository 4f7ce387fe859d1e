"""Compressed files as streams: what a file is compressed with is told from its first bytes."""

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from memxlnet.errors import SourceError


class _Codec(NamedTuple):
    """A way of compression: its name, the first bytes of its files, and what opens one."""

    name: str
    magic: bytes
    open: Callable[[str], Any]


def _open_zstd(path: str) -> io.BufferedReader:
    return io.BufferedReader(pa.input_stream(path, compression="zstd"))


_CODECS = {
    ".gz": _Codec("gzip", b"\x1f\x8b", gzip.open),
    ".bz2": _Codec("bzip2", b"BZh", bz2.open),
    ".xz": _Codec("xz", b"\xfd7zXZ\x00", lzma.open),
    ".zst": _Codec("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
}

COMPRESSIONS = tuple(_CODECS)
"""The suffixes of compressed files."""

_MAGIC_BYTES = max(len(codec.magic) for codec in _CODECS.values())


def uncompressed_name(path: Path) -> Path:
    """The path without the suffix of a compression."""
    return path.with_suffix("") if path.suffix.lower() in _CODECS else path


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes in order, decompressed where it is compressed.

    Raises:
        SourceError: It is not compressed as its suffix says, or what is compressed is cut off or damaged.
    """
    codec = _codec(path)
    if codec is None:
        with path.open("rb") as file:
            yield file
        return
    try:
        with codec.open(str(path)) as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be decompressed: {error}; it was cut off or is damaged") from error


@contextmanager
def seekable(path: Path) -> Iterator[Path]:
    """A file that can be mapped: the file itself, or a decompressed copy in the system's temporary directory.

    Raises:
        SourceError: As `opened`.
    """
    if _codec(path) is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="memxlnet-") as folder:
        copy = Path(folder) / uncompressed_name(path).name
        with opened(path) as file, copy.open("wb") as out:
            shutil.copyfileobj(file, out)
        yield copy


def _codec(path: Path) -> _Codec | None:
    with path.open("rb") as file:
        first = file.read(_MAGIC_BYTES)
    found = next((codec for codec in _CODECS.values() if first.startswith(codec.magic)), None)
    named = _CODECS.get(path.suffix.lower())
    if named is not None and found is not named:
        raise SourceError(
            f"{path}: expected {named.name} data, as its suffix says, found "
            f"{found.name if found else f'a file that begins with {first!r}'}; rename the file to what it is"
        )
    return found

"""Compressed files as streams: what a file is compressed with follows from its first bytes."""

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
from memxlnet.sources.source_files import HashedFile, SourceFile

_READ_BYTES = 1 << 18


class _Codec(NamedTuple):
    """A way of compression: its name, the first bytes of its files, and what opens one."""

    name: str
    magic: bytes
    open: Callable[[BinaryIO], Any]


def _open_zstd(file: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))


class _Streams(io.RawIOBase):
    """Streams of bzip2 or xz after each other; unlike `bz2.open` and `lzma.open`, with an error where another follows.

    Zeros may stand at the end, as writers of blocks leave them.
    """

    def __init__(self, file: BinaryIO, new: Callable[[], Any]):
        self._file, self._new = file, new
        self._stream = new()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream.eof:
                self._rest = self._stream.unused_data.lstrip(b"\0")
                while not self._rest and (block := self._file.read(_READ_BYTES)):
                    self._rest = block.lstrip(b"\0")
                if not self._rest:
                    return 0
                self._stream = self._new()
            elif not self._rest and self._stream.needs_input:
                self._rest = self._file.read(_READ_BYTES)
                if not self._rest:
                    raise EOFError("ended before the end of the stream")
            found = self._stream.decompress(self._rest, len(buffer))
            self._rest = b""
            if found:
                buffer[: len(found)] = found
                return len(found)


def _open_bzip2(file: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(_Streams(file, bz2.BZ2Decompressor), _READ_BYTES)


def _open_xz(file: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(_Streams(file, lzma.LZMADecompressor), _READ_BYTES)


_CODECS = {
    ".gz": _Codec("gzip", b"\x1f\x8b", gzip.open),
    ".bz2": _Codec("bzip2", b"BZh", _open_bzip2),
    ".xz": _Codec("xz", b"\xfd7zXZ\x00", _open_xz),
    ".zst": _Codec("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
}

COMPRESSIONS = tuple(_CODECS)
"""The suffixes of compressed files."""

_MAGIC_BYTES = max(len(codec.magic) for codec in _CODECS.values())


def uncompressed_name(path: Path) -> Path:
    """Return the path without the suffix of a compression."""
    return path.with_suffix("") if path.suffix.lower() in _CODECS else path


@contextmanager
def opened(file: SourceFile) -> Iterator[BinaryIO]:
    """Open a file to read its bytes in order, decompressed where it is compressed.

    Raises:
        SourceError: It is not compressed as its suffix says, or what is compressed is cut off or damaged.
    """
    with file.open() as raw:
        codec = _codec(file, raw)
        if codec is None:
            yield raw
            return
        try:
            with codec.open(raw) as plain:
                yield plain
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise SourceError(f"{file}: cannot be decompressed: {error}; it was cut off or is damaged") from error


@contextmanager
def seekable(file: SourceFile) -> Iterator[pa.NativeFile]:
    """Open a file to read from any place; what is compressed is decompressed into a temporary file first.

    Raises:
        SourceError: As `opened`.
    """
    with file.open() as raw:
        compressed = _codec(file, raw) is not None
        if not compressed and isinstance(file, HashedFile):
            with pa.memory_map(str(file.path)) as mapped:
                yield mapped
            return
        if not compressed:
            yield pa.PythonFile(raw, mode="r")
            return
    with tempfile.TemporaryDirectory(prefix="memxlnet-") as folder:
        copy = Path(folder) / uncompressed_name(file.path).name
        with opened(file) as plain, copy.open("wb") as out:
            shutil.copyfileobj(plain, out)
        with pa.memory_map(str(copy)) as mapped:
            yield mapped


def _codec(file: SourceFile, raw: BinaryIO) -> _Codec | None:
    """Return what a file is compressed with; `raw` stays at its beginning."""
    first = raw.read(_MAGIC_BYTES)
    raw.seek(0)
    found = next((codec for codec in _CODECS.values() if first.startswith(codec.magic)), None)
    named = _CODECS.get(file.path.suffix.lower())
    if named is not None and found is not named:
        raise SourceError(
            f"{file}: expected {named.name} data, as its suffix says, found "
            f"{found.name if found else f'a file that begins with {first!r}'}; rename the file to what it is"
        )
    return found

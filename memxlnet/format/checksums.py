"""The checksum of the files of a cache: xxh3, 128 bit, in hexadecimal (it tells damage, not tampering)."""

from pathlib import Path

import xxhash

_READ_BYTES = 1 << 22


def digest(content: bytes) -> str:
    """The checksum of bytes in memory."""
    return xxhash.xxh3_128_hexdigest(content)


def file_digest(path: Path) -> str:
    """The checksum of a file, read in blocks.

    Raises:
        OSError: It cannot be read.
    """
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()

"""The formats of files: which reader reads a file, by its name or its first bytes."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memxlnet.errors import SourceError
from memxlnet.sources.arrow_files import count_arrow, count_parquet, read_arrow, read_parquet
from memxlnet.sources.compressed import COMPRESSIONS, opened, uncompressed_name
from memxlnet.sources.csv_files import read_csv, read_tsv
from memxlnet.sources.json_files import read_json, read_json_lines
from memxlnet.sources.source_files import SourceFile

_COUNT_BYTES = 1 << 22
_KEY = b'"question"'


def count_json(file: SourceFile) -> int:
    """Return the number of examples of a JSON or JSON Lines file, counted by their key ``"question"`` without parsing.

    Within a text quotes are escaped, so that no text holds these bytes; a whole text ``question`` counts as one more.
    """
    count, tail = 0, b""
    with opened(file) as plain:
        while block := plain.read(_COUNT_BYTES):
            text = tail + block
            count += text.count(_KEY)
            tail = text[-len(_KEY) + 1 :]
    return count


class Format(NamedTuple):
    """A format: what reads its files, the columns that are named or all, and what counts their examples, if it can."""

    read: Callable[[SourceFile, Sequence[str] | None], Iterator[Any]]
    count_examples: Callable[[SourceFile], int] | None


FORMATS: dict[str, Format] = {
    ".json": Format(read_json, count_json),
    ".jsonl": Format(read_json_lines, count_json),
    ".ndjson": Format(read_json_lines, count_json),
    ".parquet": Format(read_parquet, count_parquet),
    ".arrow": Format(read_arrow, count_arrow),
    ".feather": Format(read_arrow, count_arrow),
    ".csv": Format(read_csv, None),
    ".tsv": Format(read_tsv, None),
}
"""The format of each suffix, which may be followed by that of a compression."""

_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"[": ".json", b"{": ".json"}
"""What the files of a format begin with, for files whose suffix says nothing."""


def has_known_suffix(path: Path) -> bool:
    """Return whether a name is one of a file that can be read."""
    return uncompressed_name(path).suffix.lower() in FORMATS


def file_stem(path: Path) -> str:
    """Return the name of a file without its suffix and that of a compression."""
    return uncompressed_name(path).stem


def several_name(first: str, count: int) -> str:
    """Return a short name of several files."""
    return first if count == 1 else f"{first}-and-{count - 1}-more"


def format_of(file: SourceFile) -> str:
    """Return the suffix of the format of a file: its own, or that of its first bytes.

    Raises:
        SourceError: Both are unknown, or the file cannot be read.
    """
    suffix = uncompressed_name(file.path).suffix.lower()
    if suffix in FORMATS:
        return suffix
    try:
        with opened(file) as plain:
            begin = plain.read(_COUNT_BYTES).removeprefix(BOM_UTF8).lstrip()[:16]
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error
    for magic, kind in _MAGIC.items():
        if begin.startswith(magic):
            return kind
    raise SourceError(
        f"{file}: expected a file that ends in {', '.join(FORMATS)} (or one of these and {', '.join(COMPRESSIONS)}), "
        f"or begins as such a file does, found {file.path.suffix!r} and {begin!r}"
    )

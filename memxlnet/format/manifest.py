"""The manifest: what a cache holds. Written last, it is the commit point; no manifest, no cache."""

import contextlib
import errno
import logging
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from arrow_schemas import ALIGNMENTS, KEPT, RESERVED, SCHEMA_VERSION, TABLES
from memxlnet.errors import CacheDamagedError, CacheError, CacheNotFoundError
from memxlnet.format.fingerprint import fingerprint_of
from memxlnet.format.paths import MANIFEST, write_durably
from memxlnet.format.row_layout import RowLayout
from memxlnet.format.sealed_json import seal, unseal
from memxlnet.settings import MAX_SEQ_LENGTH_LIMIT
from memxlnet.system_errors import OUT_OF_FILES, cache_errors

logger = logging.getLogger(__name__)

FORMAT = "memxlnet-cache"
REBUILD = "delete the cache directory to rebuild it"

SEND_AGAIN = "send the cache again"
"""The hint where the cache at the other end of a transfer is damaged."""

_MAX_DEPTH = 20
_CHECKSUM = re.compile(r"[0-9a-f]{32}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class KnownFile:
    """A file as an earlier build recorded it: while size and times are the same, so is its digest."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


FindKnown = Callable[[str], KnownFile | None]
"""Looks up a file by its absolute path among those that earlier builds recorded."""


@dataclass(frozen=True)
class FileRecord:
    """One file of a cache.

    Attributes:
        file: Its name in the cache's directory.
        bytes: Its size.
        xxh3_128: Checksum of its bytes, in hexadecimal.
    """

    file: str
    bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class ShardRecord(FileRecord):
    """One shard: the rows ``row_start`` to ``row_stop`` of its table."""

    row_start: int
    row_stop: int


@dataclass(frozen=True)
class TableRecord:
    """One table: its rows, the rows of each record batch but the last, and its shards."""

    rows: int
    batch_rows: int
    shards: tuple[ShardRecord, ...]

    def shard_of(self, row: int) -> tuple[int, int]:
        """Return the number of the shard that holds a row, and the place of the row in it; the row is in range."""
        shard = bisect_right(self._starts, row) - 1
        return shard, row - self._starts[shard]

    @cached_property
    def _starts(self) -> list[int]:
        return [shard.row_start for shard in self.shards]


@dataclass(frozen=True)
class Manifest:
    """What a cache holds.

    Attributes:
        name: Short name of the source.
        split: Split of the source.
        fingerprint: SHA-256 over `fields`, in hexadecimal.
        fields: What the cache was made from: versions, split, settings, source and tokenizer identity.
        tables: The three tables by name, and ``kept`` where something is kept.
        files: All files that are not shards.
        alignment: Documents by the outcome of their answer.
        documents_without_answer_segment: Documents with a span that no segment holds whole.
        contradictions: Documents whose labels contradicted each other in the source.
        dropped_examples: Examples that gave no document; ``dropped.jsonl`` lists them where there are any.
        vocabulary_size: Rows that a model's embedding must have.
        provenance: Where the source was found.
        kept: The kept columns by name, each with its type of Arrow as text; empty where nothing is kept.
    """

    name: str
    split: str
    fingerprint: str
    fields: dict[str, Any]
    tables: dict[str, TableRecord]
    files: tuple[FileRecord, ...]
    alignment: dict[str, int]
    documents_without_answer_segment: int
    contradictions: int
    dropped_examples: int
    vocabulary_size: int
    provenance: dict[str, Any]
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the values, by name."""
        return dict(self.fields["settings"])

    @property
    def max_seq_length(self) -> int:
        """Tokens in a row."""
        return int(self.fields["settings"]["max_seq_length"])

    @property
    def layout(self) -> RowLayout:
        """How rows are laid out."""
        return RowLayout.from_json(self.fields["tokenizer"]["layout"])

    @property
    def num_bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(record.bytes for record in self.all_files())

    def all_files(self) -> Iterator[FileRecord]:
        """Yield every file of the cache but the manifest."""
        for table in self.tables.values():
            yield from table.shards
        yield from self.files

    def encode(self) -> bytes:
        """Return the manifest's bytes: canonical JSON that holds the checksum of all other fields."""
        content = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}
        if not self.kept:
            del content["kept"]
        return seal(content)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of the system at a file that a manifest names into errors of the cache.

    Raises:
        CacheDamagedError: The file is missing, or is not a file.
        CacheOSError: It cannot be read; a `CacheDirectoryError` where access stops it.
    """
    with cache_errors(path, "read"):
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if isinstance(error, CacheError):
                raise
            found = "none" if isinstance(error, FileNotFoundError) else error.strerror
            raise CacheDamagedError(f"{path}: expected a file of the cache, found {found}", hint=REBUILD) from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest whole or not at all."""
    write_durably(directory / MANIFEST, manifest.encode())


def manifest_bytes(directory: Path) -> bytes:
    """Read the manifest of a cache.

    Raises:
        CacheNotFoundError: The directory has no manifest, so it is not a cache. The message names the caches in it.
        CacheOSError: It cannot be read; a `CacheDirectoryError` where access stops it.
    """
    path = directory / MANIFEST
    # Any other error means that something unknown is there, which must not count as a missing cache.
    with cache_errors(path, "read"):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            if os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises where a name is too long
                inside = sorted(one.parent.name for one in directory.glob(f"[!.]*/{MANIFEST}"))
                more = f", and {len(inside) - 5} more" if len(inside) > 5 else ""
                found = f"a directory of caches: {', '.join(inside[:5])}{more}; name one"
                raise CacheNotFoundError(
                    f"{directory}: expected a cache, found {found if inside else f'no {MANIFEST} in it'}"
                ) from None
            raise CacheNotFoundError(f"{directory}: expected the directory of a cache, found none") from None


def read_manifest(directory: Path) -> Manifest:
    """Read and check the manifest of a cache.

    Raises:
        CacheNotFoundError: The directory has no manifest, so it is not a cache.
        CacheMismatchError: The cache has another format version.
        CacheDamagedError: The manifest is not JSON, lacks a field, or fails its checksum.
        CacheOSError: It cannot be read; a `CacheDirectoryError` where access stops it.
    """
    return decode_manifest(manifest_bytes(directory), str(directory / MANIFEST))


def decode_manifest(raw: bytes, path: str, hint: str = REBUILD) -> Manifest:
    """Check the bytes of a manifest.

    Args:
        raw: The bytes.
        path: Where they were found, for messages.
        hint: What to do where they are damaged, for messages.

    Raises:
        CacheMismatchError: The cache has another format version.
        CacheDamagedError: They are not JSON, lack a field, or fail their checksum.
    """
    content = unseal(raw, path, "the manifest", FORMAT, ("schema_version", SCHEMA_VERSION), hint)
    try:
        return _decode(content)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CacheDamagedError(f"{path}: a field is missing or of the wrong kind: {error!r}", hint=hint) from error


def _decode(content: dict[str, Any]) -> Manifest:
    tables = {
        name: TableRecord(
            rows=_count(table["rows"]),
            batch_rows=_count(table["batch_rows"]),
            shards=tuple(ShardRecord(**_checked(record)) for record in table["shards"]),
        )
        for name, table in content.pop("tables").items()
    }
    expected = (*TABLES, KEPT) if content.get("kept") else TABLES
    if set(tables) != set(expected):
        raise ValueError(f"tables: expected {expected}, found {sorted(tables)}")
    files = tuple(FileRecord(**_checked(record)) for record in content.pop("files"))
    manifest = Manifest(tables=tables, files=files, **content)
    names = [MANIFEST, *(record.file for record in manifest.all_files())]
    if len(set(names)) != len(names):
        raise ValueError(f"files: expected each name once and no {MANIFEST} among them, found {sorted(names)[:20]}")
    _check_kinds(manifest)
    if not 1 <= manifest.max_seq_length <= MAX_SEQ_LENGTH_LIMIT or not isinstance(manifest.layout, RowLayout):
        length = manifest.max_seq_length
        raise ValueError(f"max_seq_length: expected a length from 1 to {MAX_SEQ_LENGTH_LIMIT}, found {length}")
    return manifest


def _check_kinds(manifest: Manifest) -> None:
    """Check that each field is what its name says and that the fingerprint is that of the fields."""
    kinds = {"name": str, "split": str, "fields": dict, "alignment": dict, "provenance": dict}
    for name, kind in kinds.items():
        if not isinstance(getattr(manifest, name), kind):
            raise ValueError(f"{name}: expected a {kind.__name__}, found {getattr(manifest, name)!r:.80}")
    _check_depth([manifest.fields, manifest.provenance], _MAX_DEPTH)
    for name in ("settings", "source", "tokenizer"):
        if not isinstance(manifest.fields.get(name), dict):
            raise ValueError(f"fields.{name}: expected a dict, found {manifest.fields.get(name)!r:.80}")
    if manifest.split != manifest.fields.get("split"):
        raise ValueError(f"split: expected that of the fields, found {manifest.split!r:.80}")
    if manifest.fingerprint != fingerprint_of(manifest.fields):
        raise ValueError(f"fingerprint: expected that of the fields, found {manifest.fingerprint!r:.80}")
    if set(manifest.alignment) != set(ALIGNMENTS):
        raise ValueError(f"alignment: expected {ALIGNMENTS}, found {sorted(manifest.alignment)}")
    _check_kept(manifest)
    for name in ("documents_without_answer_segment", "contradictions", "dropped_examples", "vocabulary_size"):
        _count(getattr(manifest, name))
    for count in (*manifest.alignment.values(), manifest.fields["settings"]["max_seq_length"]):
        _count(count)


def _check_kept(manifest: Manifest) -> None:
    """Check that the kept columns are those that the settings ask for, one row per document."""
    keep = manifest.fields["settings"].get("keep", [])
    if not isinstance(manifest.kept, dict) or not all(isinstance(kind, str) for kind in manifest.kept.values()):
        raise ValueError(f"kept: expected types by name, found {manifest.kept!r:.80}")
    names = sorted(manifest.kept)
    if (keep != names) if keep != "all" else bool(RESERVED.intersection(names)):
        raise ValueError(f"kept: expected the columns {keep!r:.80} (settings), found {names!r:.80}")
    if names and manifest.tables[KEPT].rows != manifest.tables["documents"].rows:
        raise ValueError(f"tables.kept.rows: expected one per document, found {manifest.tables[KEPT].rows}")


def _check_depth(value: Any, most: int) -> None:
    if not most:
        raise ValueError(f"expected at most {_MAX_DEPTH} levels, found more")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_depth(part, most - 1)


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Return a file record whose numbers are numbers and whose name stays in the directory."""
    name = record["file"]
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise ValueError(f"file: expected a plain file name, found {name!r}")
    checksum = record["xxh3_128"]
    if not isinstance(checksum, str) or not _CHECKSUM.fullmatch(checksum):
        raise ValueError(f"xxh3_128: expected 32 hexadecimal digits, found {checksum!r:.80}")
    for key in ("bytes", "row_start", "row_stop"):
        if key in record:
            _count(record[key])
    return record


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected a count, found {value!r}")
    return value


def known_files(cache_dir: Path) -> FindKnown:
    """Return what the caches of a directory recorded of source files, last; the caller compares size and times.

    Where a file changed between builds, several caches recorded it: only the last state can be that of today. The
    manifests are read once, when the first file is looked up.
    """
    recorded: dict[str, KnownFile] | None = None

    def find(path: str) -> KnownFile | None:
        nonlocal recorded
        if recorded is None:
            found = [file for _, manifest in find_caches(cache_dir) for file in _recorded(manifest)]
            recorded = {file.path: file for file in sorted(found, key=lambda file: file.ctime_ns)}
        return recorded.get(path)

    return find


def _recorded(manifest: Manifest) -> Iterator[KnownFile]:
    """Yield the source files that a manifest names with all that is needed to know them again."""
    provenance, digests = manifest.provenance, manifest.fields.get("source", {}).get("sha256")
    several = isinstance(digests, list)
    files = provenance.get("files") if several else [provenance]
    for file, sha256 in zip(files if isinstance(files, list) else [], digests if several else [digests], strict=False):
        names = ("path", "size", "mtime_ns", "ctime_ns")
        known = [*(file.get(name) if isinstance(file, dict) else None for name in names), sha256]
        if [*map(type, known)] == [str, int, int, int, str]:
            yield KnownFile(*known)


@contextlib.contextmanager
def passing_over() -> Iterator[None]:
    """Skip what is not a cache, and with a warning a cache that is damaged or cannot be read."""
    try:
        yield
    except CacheNotFoundError:
        pass
    except CacheError as error:
        if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
            raise  # it is not about this cache
        logger.warning("passed over: %s", error)


def find_caches(cache_dir: Path, prefix: str = "") -> Iterator[tuple[Path, Manifest]]:
    """Yield the published caches of a cache directory that can be read; leftovers and damaged ones are skipped.

    Args:
        cache_dir: The directory.
        prefix: What the names of their directories begin with; others are not read.

    Raises:
        CacheOSError: The directory cannot be read, or too many files are open.
    """
    with cache_errors(cache_dir, "read", "choose another cache_dir"):
        try:
            found = sorted(cache_dir.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
    for directory in found:
        if directory.name.startswith(".") or not directory.name.startswith(prefix):
            continue
        with passing_over():
            yield directory, read_manifest(directory)

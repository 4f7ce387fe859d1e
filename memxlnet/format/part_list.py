"""The list of parts: which caches, in which order, are opened as one dataset. It is replaced as a whole."""

import contextlib
import errno
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from memxlnet.errors import CacheDamagedError, CacheError, CacheMismatchError, CacheNotFoundError
from memxlnet.format.fingerprint import fingerprint_of
from memxlnet.format.manifest import Manifest, passing_over
from memxlnet.format.paths import PART_LIST, PARTS_SUFFIX, kind_and_cache, parts_directory_name
from memxlnet.format.row_layout import RowLayout
from memxlnet.format.sealed_json import seal, unseal
from memxlnet.system_errors import cache_errors

FORMAT = "memxlnet-parts"
VERSION = 1
BUILD_AGAIN = "delete this directory and build the parts again: their caches are found"

OnRepeatedIdAcrossParts = Literal["error", "newest"]
AnswersField = Literal["all", "some", "none"]


@dataclass(frozen=True)
class PartFile:
    """One file of a part: its name, counted from the directory of the files, and what stands for its bytes."""

    name: str
    mark: str


@dataclass(frozen=True)
class PartRecord:
    """One part.

    Attributes:
        cache: Name of its cache, in the directory of the list.
        fingerprint: That of the cache.
        files: The files that it was made from, in order.
        rows: Segments.
        documents: Documents.
        bytes: Size of the cache, without the manifest.
        ids: Checksum of the digests of the ids of its documents, which lie beside the list.
        form: Name of the form of its records; empty where columns were named.
        answers_field: Which of the rows of its files have the field ``answers``.
        hidden: Documents whose id a later part has, as half-open ranges; the dataset leaves them out.
    """

    cache: str
    fingerprint: str
    files: tuple[PartFile, ...]
    rows: int
    documents: int
    bytes: int
    ids: str
    form: str
    answers_field: AnswersField
    hidden: tuple[tuple[int, int], ...] = ()

    @property
    def num_hidden(self) -> int:
        """Number of documents that are left out."""
        return sum(stop - start for start, stop in self.hidden)

    def is_of(self, manifest: Manifest) -> bool:
        """Return whether a cache is the one that the list names."""
        counts = manifest.tables["features"].rows, manifest.tables["documents"].rows
        return (manifest.fingerprint, *counts) == (self.fingerprint, self.rows, self.documents)

    def check(self, directory: Path, manifest: Manifest) -> None:
        """Check that a cache is the one that the list names.

        Raises:
            CacheMismatchError: It is another one.
        """
        if not self.is_of(manifest):
            raise CacheMismatchError(
                f"{directory}: expected the cache with the fingerprint {self.fingerprint}, {self.rows} rows and "
                f"{self.documents} documents (list of parts), found {manifest.fingerprint}, "
                f"{manifest.tables['features'].rows} and {manifest.tables['documents'].rows}; build the parts again, "
                "or send them again"
            )


@dataclass(frozen=True)
class PartList:
    """Which caches are opened as one dataset.

    Attributes:
        name: Short name of the files together.
        split: Split of all parts.
        fields: What all parts share, with the place of the files: versions, split, settings, reading, tokenizer.
        source: What was built, as `open_files` takes it: a path, a pattern or a URL, or a list of these.
        files_per_part: Files of a part at most.
        on_repeated_id: What an id in two parts does.
        parts: The parts in the order of their files.
        empty: Files without examples, of which no part is made.
        former: Names of caches that this list named before and that are still on the disk.
    """

    name: str
    split: str
    fields: dict[str, Any]
    source: str | tuple[str, ...]
    files_per_part: int
    on_repeated_id: OnRepeatedIdAcrossParts
    parts: tuple[PartRecord, ...]
    empty: tuple[PartFile, ...] = ()
    former: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over `fields`, in hexadecimal."""
        return fingerprint_of(self.fields)

    @property
    def directory_name(self) -> str:
        """Name of its directory within a cache directory."""
        return parts_directory_name(self.name, self.split, self.fingerprint)

    @property
    def rows(self) -> int:
        """Segments of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def documents(self) -> int:
        """Documents of all parts, hidden ones included."""
        return sum(part.documents for part in self.parts)

    @property
    def num_hidden(self) -> int:
        """Documents that are left out."""
        return sum(part.num_hidden for part in self.parts)

    @property
    def num_bytes(self) -> int:
        """Bytes of the caches; one that is listed twice counts once."""
        return sum({part.cache: part.bytes for part in self.parts}.values())

    def encode(self) -> bytes:
        """Return the bytes of the list: JSON that holds the checksum of its other fields."""
        return seal({"format": FORMAT, "version": VERSION, "fingerprint": self.fingerprint, **asdict(self)})


def decode_part_list(raw: bytes, path: str, hint: str = BUILD_AGAIN) -> PartList:
    """Check the bytes of a list of parts.

    Args:
        raw: The bytes.
        path: Where they were found, for messages.
        hint: What to do where they are damaged, for messages.

    Raises:
        CacheMismatchError: The list has another format version.
        CacheDamagedError: They are not JSON, lack a field, or fail their checksum.
    """
    content = unseal(raw, path, "the list", FORMAT, ("version", VERSION), hint)
    try:
        return _decode(content)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CacheDamagedError(f"{path}: a field is missing or of the wrong kind: {error!r}", hint=hint) from error


def _decode(content: dict[str, Any]) -> PartList:
    fingerprint = content.pop("fingerprint")
    source = content.pop("source")
    found = PartList(
        source=source if isinstance(source, str) else tuple(map(_text, source)),
        parts=tuple(_part(part) for part in content.pop("parts")),
        empty=tuple(map(_file, content.pop("empty"))),
        former=tuple(_cache_name(name) for name in content.pop("former")),
        **content,
    )
    for name in ("name", "split"):
        _text(getattr(found, name))
    if not isinstance(found.fields, dict) or fingerprint != found.fingerprint:
        raise ValueError(f"fingerprint: expected that of the fields, found {fingerprint!r:.80}")
    if found.on_repeated_id not in ("error", "newest"):
        raise ValueError(f"on_repeated_id: expected 'error' or 'newest', found {found.on_repeated_id!r:.80}")
    if not found.parts or _count(found.files_per_part) < 1:
        raise ValueError("parts, files_per_part: expected at least one, found none")
    settings = found.fields["settings"]
    for length in (settings["max_seq_length"], settings["doc_stride"]):
        _count(length)
    RowLayout.from_json(found.fields["tokenizer"]["layout"])
    return found


def _part(content: dict[str, Any]) -> PartRecord:
    files = tuple(map(_file, content.pop("files")))
    hidden = tuple((_count(start), _count(stop)) for start, stop in content.pop("hidden"))
    part = PartRecord(files=files, hidden=hidden, **content)
    _cache_name(part.cache)
    for text in (part.fingerprint, part.ids):
        _text(text)
    if not files:
        raise ValueError("files: expected at least one of each part, found none")
    if not isinstance(part.form, str):
        raise ValueError(f"form: expected a text, found {part.form!r:.80}")
    for count in (part.rows, part.documents, part.bytes):
        _count(count)
    if part.answers_field not in ("all", "some", "none"):
        raise ValueError(f"answers_field: expected 'all', 'some' or 'none', found {part.answers_field!r:.80}")
    edges = [0, *(edge for bounds in hidden for edge in bounds), part.documents]
    if edges != sorted(edges):
        raise ValueError(f"hidden: expected ranges of {part.documents} documents in order, found {hidden!r:.80}")
    return part


def _file(content: dict[str, Any]) -> PartFile:
    file = PartFile(**content)
    _text(file.name)
    _text(file.mark)
    return file


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a text, found {value!r:.80}")
    return value


def _cache_name(value: Any) -> str:
    if kind_and_cache(Path(_text(value))) != (None, value):
        raise ValueError(f"cache: expected the name of a cache, found {value!r:.80}")
    return str(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected a count, found {value!r:.80}")
    return value


def is_part_list(directory: Path) -> bool:
    """Return whether a directory has the name of a list of parts."""
    return directory.suffix == PARTS_SUFFIX


def read_part_list(directory: Path) -> PartList:
    """Read and check the list of parts in its directory; the caches are not looked at.

    Raises:
        CacheNotFoundError: The directory holds no list of parts.
        CacheMismatchError: The list has another format version.
        CacheDamagedError: It is damaged.
        CacheOSError: It cannot be read; a `CacheDirectoryError` where access stops it.
    """
    path = directory / PART_LIST
    with cache_errors(path, "read"):
        try:
            raw = path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            is_there = os.path.isdir(directory)  # noqa: PTH112 - Path.is_dir raises where a name is too long
            found = f"no {PART_LIST} in it" if is_there else "none"
            raise CacheNotFoundError(f"{directory}: expected the directory of a list of parts, found {found}") from None
    return decode_part_list(raw, str(path))


def find_part_lists(cache_dir: Path) -> Iterator[tuple[Path, PartList]]:
    """Yield the lists of parts of a cache directory that can be read; damaged ones are passed over with a warning.

    Raises:
        CacheOSError: The directory cannot be read, or too many files are open.
    """
    for directory in _directories(cache_dir):
        with passing_over():
            yield directory, read_part_list(directory)


def listed_caches(cache_dir: Path, without: Collection[Path] = ()) -> set[str]:
    """Return the names of the caches that the lists of parts of a cache directory name: these must not be removed.

    Args:
        cache_dir: The directory.
        without: Directories of lists that do not count.

    Raises:
        CacheError: A list is damaged, of another format version or cannot be read: it may name any cache.
    """
    listed: set[str] = set()
    for directory in _directories(cache_dir):
        if directory not in without:
            try:
                with contextlib.suppress(CacheNotFoundError):  # a first build has not written its list yet
                    listed.update(part.cache for part in read_part_list(directory).parts)
            except CacheError as error:
                error.add_note("no cache is removed before this list can be read: it may name any of them")
                raise
    return listed


def _directories(cache_dir: Path) -> list[Path]:
    """Return what has the name of a list of parts, sorted; nothing where there is no such cache directory."""
    with cache_errors(cache_dir, "read", "choose another cache_dir"):
        try:
            found = sorted(path for path in cache_dir.iterdir() if path.suffix == PARTS_SUFFIX)
        except (FileNotFoundError, NotADirectoryError):
            return []
    return [path for path in found if not path.name.startswith(".")]

"""Ids that occur in several parts: an error, or the document of the latest part counts."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.examples import generated_id
from memxlnet.encode.repeated_ids import digests_of
from memxlnet.errors import ExampleError
from memxlnet.format.checksums import digest
from memxlnet.format.part_list import OnRepeatedIdAcrossParts, PartRecord
from memxlnet.format.paths import IDS_SUFFIX, make_directory, write_durably
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.system_errors import cache_errors

_DIGEST_BYTES = 16

Ranges = tuple[tuple[int, int], ...]


def open_part(directory: Path, part: PartRecord) -> PublishedCache:
    """Open the cache of a part.

    Raises:
        CacheError: It is missing, damaged, or another one than the list names.
    """
    cache = PublishedCache(directory / part.cache)
    part.check(cache.directory, cache.manifest)
    return cache


def document_rows(cache: PublishedCache) -> Ints:
    """Return int64[documents]: the row of each document among the examples of its files, dropped ones included."""
    kept = np.ones(cache.num_documents + cache.manifest.dropped_examples, np.bool_)
    kept[[example.row for example in read_dropped(cache)]] = False
    return np.flatnonzero(kept)


class IdDigests:
    """The digests of the ids of each part, kept beside the list so that adding a part reads no other cache.

    A file that is missing or damaged is made again from the cache.

    Args:
        directory: The directory of the list; the caches lie beside it.
    """

    def __init__(self, directory: Path):
        self._directory = directory

    def write(self, cache: PublishedCache) -> str:
        """Digest the ids of a cache, and return the checksum of the file that keeps them.

        Raises:
            CacheError: The cache is damaged, or the disk is full or cannot be written.
        """
        content = self._of(cache).tobytes()
        path = make_directory(self._directory) / _file_of(cache.directory.name)
        with cache_errors(path, "written"):
            write_durably(path, content)
        return digest(content)

    def read(self, part: PartRecord) -> NDArray[np.uint64]:
        """Return uint64[documents, 2]: the digest of the id of each document.

        Raises:
            CacheError: The digests are missing, and so is the cache, or it is damaged.
        """
        try:
            content = (self._directory / _file_of(part.cache)).read_bytes()
        except OSError:  # without the file the cache is read
            content = b""
        if len(content) != _DIGEST_BYTES * part.documents or digest(content) != part.ids:
            return self._of(open_part(self._directory.parent, part))
        return np.frombuffer(content, np.uint64).reshape(-1, 2)

    def keep_only(self, caches: Iterable[str]) -> None:
        """Remove the digests of other caches; what cannot be removed stays."""
        kept = {_file_of(cache) for cache in caches}
        with contextlib.suppress(OSError):
            for path in self._directory.glob(f"*{IDS_SUFFIX}"):
                if path.name not in kept:
                    path.unlink()

    def _of(self, cache: PublishedCache) -> NDArray[np.uint64]:
        found = np.empty((cache.num_documents, 2), np.uint64)
        at = 0
        for batch in cache.documents.batches():
            found[at : at + batch.num_rows] = np.column_stack(digests_of(batch["id"].to_pylist()))
            at += batch.num_rows
        return found


def _file_of(cache: str) -> str:
    return f"{cache}{IDS_SUFFIX}"


def hidden_documents(directory: Path, parts: Sequence[PartRecord], rule: OnRepeatedIdAcrossParts) -> list[Ranges]:
    """Find the documents of each part whose id a later part has.

    Ids are distinguished by digests of 128 bits: 16 bytes are held for each, and 8 to sort them.

    Args:
        directory: The directory of the list; the caches lie beside it.
        parts: The parts in their order.
        rule: ``"error"`` allows none.

    Returns:
        For each part its hidden documents, as half-open ranges in ascending order.

    Raises:
        ExampleError: There are some, and that is an error; or examples have no id of their own.
        CacheError: A part is missing or damaged.
    """
    digests = IdDigests(directory)
    bases = np.cumsum([0, *(part.documents for part in parts)])
    high, low = np.empty((2, int(bases[-1])), np.uint64)
    for part, start, stop in zip(parts, bases[:-1].tolist(), bases[1:].tolist(), strict=True):
        high[start:stop], low[start:stop] = digests.read(part).T
    order = np.argsort(high, kind="stable")
    if not (high[order[1:]] == high[order[:-1]]).any():
        return [()] * len(parts)
    order = np.lexsort((low, high))
    same = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
    # The sort is stable: of two neighbours with one id the first is of an earlier part.
    hidden, later = order[:-1][same], order[1:][same]
    _check(directory.parent, parts, bases, hidden, later, rule)
    hidden = np.sort(hidden)
    return [
        _ranges(hidden[(hidden >= start) & (hidden < stop)] - start)
        for start, stop in zip(bases[:-1].tolist(), bases[1:].tolist(), strict=True)
    ]


def _check(
    directory: Path, parts: Sequence[PartRecord], bases: Ints, hidden: Ints, later: Ints, rule: OnRepeatedIdAcrossParts
) -> None:
    if rule == "error" and len(hidden):
        first = int(np.argmin(later))
        hidden, later = hidden[first : first + 1], later[first : first + 1]
    # By the later part, so that each is opened once.
    places = np.searchsorted(bases, later, side="right") - 1
    for place in np.unique(places).tolist():
        cache = open_part(directory, parts[place])
        rows = document_rows(cache)
        within = (later[places == place] - bases[place]).tolist()
        for one, other in zip(hidden[places == place].tolist(), within, strict=True):
            identity = cache.documents.text("id", other)
            former = parts[int(np.searchsorted(bases, one, side="right")) - 1]
            shown = f"example {identity!r} of {shown_files(parts[place])}: its id is that of an example of"
            if identity == generated_id(int(rows[other])):
                raise ExampleError(
                    f"{shown} {shown_files(former)}; it is the id that an example without one has: expected ids in "
                    "the files of parts; add them, or build one cache from all files"
                )
            if rule == "error":
                raise ExampleError(
                    f"{shown} {shown_files(former)}; expected every id once: make the ids distinct, or pass "
                    "on_repeated_id='newest' so that the later file counts"
                )


def shown_files(part: PartRecord) -> str:
    """Return the files of a part in a message."""
    more = f" and {len(part.files) - 1} more" if len(part.files) > 1 else ""
    return f"{part.files[0].name}{more}"


def _ranges(documents: Ints) -> Ranges:
    """Return ascending numbers as half-open ranges."""
    if not len(documents):
        return ()
    runs = np.split(documents, np.flatnonzero(np.diff(documents) != 1) + 1)
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)

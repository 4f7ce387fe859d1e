"""Ids that occur in several parts: an error, or the document of the latest part counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memxlnet.encode.examples import generated_id
from memxlnet.encode.repeated_ids import digests_of
from memxlnet.errors import CacheMismatchError, ExampleError
from memxlnet.format.part_list import OnRepeatedIdAcrossParts, PartRecord
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.maintain.encoding_rules import read_dropped

Ranges = tuple[tuple[int, int], ...]


def open_part(directory: Path, part: PartRecord) -> PublishedCache:
    """Open the cache of a part.

    Raises:
        CacheError: It is missing, damaged, or another one than the list names.
    """
    cache = PublishedCache(directory / part.cache)
    if cache.manifest.fingerprint != part.fingerprint:
        raise CacheMismatchError(
            f"{cache.directory}: expected the cache with the fingerprint {part.fingerprint} (list of parts), found "
            f"{cache.manifest.fingerprint}; build the parts again"
        )
    return cache


def document_rows(cache: PublishedCache) -> Ints:
    """Return int64[documents]: the row of each document among the examples of its files, dropped ones included."""
    kept = np.ones(cache.num_documents + cache.manifest.dropped_examples, np.bool_)
    kept[[example.row for example in read_dropped(cache)]] = False
    return np.flatnonzero(kept)


def hidden_documents(directory: Path, parts: Sequence[PartRecord], rule: OnRepeatedIdAcrossParts) -> list[Ranges]:
    """Find the documents of each part whose id a later part has.

    Ids are distinguished by digests of 128 bits: 16 bytes are held for each, and 8 to sort them.

    Args:
        directory: Directory of the caches.
        parts: The parts in their order.
        rule: ``"error"`` allows none.

    Returns:
        For each part its hidden documents, as half-open ranges in ascending order.

    Raises:
        ExampleError: There are some, and that is an error; or examples have no id of their own.
        CacheError: A part is missing or damaged.
    """
    bases = np.cumsum([0, *(part.documents for part in parts)])
    high, low = np.empty((2, int(bases[-1])), np.uint64)
    for part, base in zip(parts, bases.tolist(), strict=False):
        at = base
        for batch in open_part(directory, part).documents.batches():
            found = digests_of(batch["id"].to_pylist())
            high[at : at + batch.num_rows], low[at : at + batch.num_rows] = found
            at += batch.num_rows
    order = np.argsort(high, kind="stable")
    if not (high[order[1:]] == high[order[:-1]]).any():
        return [()] * len(parts)
    order = np.lexsort((low, high))
    same = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
    # The sort is stable: of two neighbours with one id the first is of an earlier part.
    hidden, later = order[:-1][same], order[1:][same]
    _check(directory, parts, bases, hidden, later, rule)
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

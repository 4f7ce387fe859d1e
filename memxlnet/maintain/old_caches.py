"""Caches that a newer one supersedes: of a source that has changed, or of an older version."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from memxlnet.format.fingerprint import differing_fields, fingerprint_of
from memxlnet.format.manifest import passing_over
from memxlnet.format.part_list import listed_caches
from memxlnet.format.paths import MANIFEST, as_directory, directory_name
from memxlnet.maintain.removal import entries, is_real, num_bytes, own_manifest, remove_directory, remove_each
from memxlnet.system_errors import cache_errors


@dataclass(frozen=True)
class OldCache:
    """A published cache, the newest one that supersedes it, and how they differ: ``field: expected (newer), found``."""

    path: Path
    superseded_by: Path
    differences: tuple[str, ...]
    num_bytes: int


def find_old_caches(cache_dir: str | os.PathLike[str], *, same_tokenizer: bool = True) -> list[OldCache]:
    """Find the published caches that a newer one supersedes, the oldest first.

    A newer cache supersedes one of the same name, split and encode settings and of no later version of format and
    algorithm, if both were made from the same source content or from the same place (path of a file; name and
    configuration on the Hub). Data in memory has no place: other content is another data set. The manifest's time
    decides what is newer. Only a cache that this version can read supersedes. One that a symbolic link names, that was
    renamed by hand, has other things in it or has no intact identity is neither old nor new. One that a list of parts
    names is not old.

    Args:
        cache_dir: Directory of the caches.
        same_tokenizer: Keep caches of another tokenizer content. Without it, of two models or memory sizes that share
            a directory only the one that was built last is current.

    Raises:
        CacheError: The directory or a list of parts in it cannot be read: it may name any cache.
    """
    directory = as_directory("cache_dir", cache_dir)
    published = sorted(identified_caches(directory), key=lambda cache: cache[:2])
    listed = listed_caches(directory)
    found = []
    for index, cache in enumerate(published):
        newer = [other for other in published[index + 1 :] if _supersedes(other, cache, same_tokenizer)]
        if newer and cache.path.name not in listed:
            differences = tuple(differing_fields(newer[-1].fields, cache.fields))
            found.append(OldCache(cache.path, newer[-1].path, differences, num_bytes(cache.path)))
    return found


def remove_old_caches(cache_dir: str | os.PathLike[str], *, same_tokenizer: bool = True) -> list[OldCache]:
    """Remove what `find_old_caches` finds, and return what this call removed; one that a builder works on stays.

    Raises:
        CacheDirectoryError: The directory cannot be read, or some of the caches cannot be removed; the others are.
    """
    find = partial(find_old_caches, cache_dir, same_tokenizer=same_tokenizer)
    # Looked up again under the lock: it may have been rebuilt, or the newer one removed.
    return remove_each(find(), lambda path: remove_directory(path, lambda: path in (old.path for old in find())))


class IdentifiedCache(NamedTuple):
    """A published cache whose directory has the name that its manifest gives it.

    Attributes:
        modified_ns: When its manifest was written, in ns since the epoch.
        path: Its directory.
        readable: Whether this version can read it.
        kind: Its name, its split and its settings.
        versions: Those of its format and of the algorithm.
        place: Where its source was found, and the configuration; None where it has none.
        fields: All that its fingerprint covers.
    """

    modified_ns: int
    path: Path
    readable: bool
    kind: tuple[str, str, dict[str, Any]]
    versions: list[int]
    place: tuple[str | None, str | None]
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its source."""
        return self.kind[0]

    @property
    def split(self) -> str:
        """Its split."""
        return self.kind[1]


def identified_caches(cache_dir: Path) -> Iterator[IdentifiedCache]:
    """Yield the caches whose directories have the names that their manifests give them."""
    # Of another version any field may be missing, and the directory may go at any moment.
    nothing = (FileNotFoundError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
    for path in entries(cache_dir):
        if path.name.startswith(".") or not is_real(path, stat.S_ISDIR):
            continue
        with passing_over(), cache_errors(path, "read"), contextlib.suppress(*nothing):
            content, readable = own_manifest(path)
            name, split, fields, found = (content[key] for key in ("name", "split", "fields", "provenance"))
            place = found.get("path") or found.get("name"), fields["source"].get("config")
            kind, versions = (name, split, fields["settings"]), [content["schema_version"], fields["algorithm_version"]]
            if path.name == directory_name(name, split, fingerprint_of(fields)) and set(map(type, versions)) == {int}:
                modified_ns = (path / MANIFEST).stat().st_mtime_ns
                yield IdentifiedCache(modified_ns, path, readable, kind, versions, place, fields)


def _supersedes(newer: IdentifiedCache, older: IdentifiedCache, same_tokenizer: bool) -> bool:
    return bool(
        newer.readable
        and newer.kind == older.kind
        and ((newer.place[0] and newer.place == older.place) or newer.fields["source"] == older.fields["source"])
        and all(theirs <= ours for ours, theirs in zip(newer.versions, older.versions, strict=True))
        and not (same_tokenizer and newer.fields.get("tokenizer") != older.fields.get("tokenizer"))
    )

"""Caches that a rule of retention no longer keeps: by age, and by how many of one name there are."""

import fnmatch
import itertools
import math
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from memxlnet.errors import CacheNotFoundError, SettingsError
from memxlnet.format.part_list import listed_caches
from memxlnet.format.paths import as_directory
from memxlnet.maintain.lock import is_held, lock_path
from memxlnet.maintain.old_caches import IdentifiedCache, identified_caches
from memxlnet.maintain.removal import num_bytes, remove_directory, remove_each
from memxlnet.settings import check_text, positive_int

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DATE = re.compile(
    r"""[-_.\s]*(?<![0-9])
    (?:19|20)[0-9]{2}(?P<mark>[-_.]?)(?:0[1-9]|1[0-2])(?P=mark)(?:0[1-9]|[12][0-9]|3[01])
    (?:[T_\s-]?(?:[01][0-9]|2[0-3])[:.-]?[0-5][0-9](?:[:.-]?[0-5][0-9])?Z?)?
    (?![0-9])[-_.\s]*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class ExpiredCache:
    """A published cache that a rule of retention no longer keeps.

    Attributes:
        path: Its directory.
        name: The name of its source.
        split: Its split.
        age_seconds: Seconds since its manifest was written; 0 where that is in the future.
        num_bytes: Size of its files.
        in_use: Whether a live process holds its builder lock, or the lock file cannot be read; it is not removed then.
    """

    path: Path
    name: str
    split: str
    age_seconds: float
    num_bytes: int
    in_use: bool


@dataclass(frozen=True)
class _Rule:
    oldest_seconds: float | None
    keep: int
    pattern: str | None

    def is_about(self, cache: IdentifiedCache) -> bool:
        return self.pattern is None or fnmatch.fnmatchcase(cache.name, self.pattern)


def find_expired_caches(
    cache_dir: str | os.PathLike[str],
    *,
    older_than: str | timedelta | None = None,
    keep: int | None = None,
    pattern: str | None = None,
) -> list[ExpiredCache]:
    """Find the published caches that a rule of retention no longer keeps, the oldest first; changes nothing.

    The age of a cache is that of its manifest (its time of modification): when it was built or pulled. A cache that
    a symbolic link names, that was renamed by hand, has other things in it or has no intact identity is not found and
    does not count, and neither is one that a list of parts names.

    Args:
        cache_dir: Directory of the caches.
        older_than: Find only caches of a greater age: a number with a unit (``s``, ``m``, ``h``, ``d`` or ``w``), such
            as ``"30d"``, or a `timedelta`. None finds those of any age.
        keep: The newest caches of each name and split that are never found, whatever their age and settings. Names
            that differ only by dates count as one, such as ``docs-20250101``, ``docs-2025-01-02`` and
            ``docs_20250103T0400``. None keeps none.
        pattern: Only names of sources that match, such as ``"docs-*"`` (as in `fnmatch`, case counts). None takes all.

    Raises:
        SettingsError: An argument is wrong, or neither `older_than` nor `keep` is given.
        CacheNotFoundError: There are caches, but none has a name that matches the pattern.
        CacheError: The directory or a list of parts in it cannot be read: it may name any cache.
    """
    directory = as_directory("cache_dir", cache_dir)
    rule = _checked(older_than, keep, pattern)
    published = list(_unlisted(directory))
    if pattern is not None and published and not any(map(rule.is_about, published)):
        names = ", ".join(repr(name) for name in sorted({cache.name for cache in published})[:10])
        raise CacheNotFoundError(
            f"pattern: expected caches in {directory} whose name matches {pattern!r}, found none; there are {names}"
        )
    return _expired(published, rule)


def remove_expired_caches(
    cache_dir: str | os.PathLike[str],
    *,
    older_than: str | timedelta | None = None,
    keep: int | None = None,
    pattern: str | None = None,
) -> list[ExpiredCache]:
    """Remove what `find_expired_caches` finds, and return what this call removed; one that a builder works on stays.

    Readers keep what they have mapped.

    Args:
        cache_dir: Directory of the caches.
        older_than: Only caches of a greater age.
        keep: The newest caches of each name and split that stay.
        pattern: Only names of sources that match.

    Raises:
        SettingsError: An argument is wrong, or neither `older_than` nor `keep` is given.
        CacheNotFoundError: There are caches, but none has a name that matches the pattern.
        CacheDirectoryError: The directory cannot be read, or some of the caches cannot be removed; the others are.
    """
    found = find_expired_caches(cache_dir, older_than=older_than, keep=keep, pattern=pattern)
    rule = _checked(older_than, keep, pattern)

    def is_due(path: Path) -> bool:
        # Looked up again under the lock: it may have been rebuilt, or a newer one removed.
        return path in (each.path for each in _expired(_unlisted(path.parent), rule))

    return remove_each(found, lambda path: remove_directory(path, lambda: is_due(path)))


def _unlisted(cache_dir: Path) -> Iterator[IdentifiedCache]:
    """Yield the caches that belong to no list of parts."""
    listed = listed_caches(cache_dir)
    return (cache for cache in identified_caches(cache_dir) if cache.path.name not in listed)


def _checked(older_than: object, keep: object, pattern: object) -> _Rule:
    if older_than is None and keep is None:
        raise SettingsError("older_than: expected it or keep, found neither; without one nothing expires")
    if pattern == "":
        raise SettingsError("pattern: expected a pattern of names, found an empty one")
    return _Rule(
        None if older_than is None else _seconds(older_than),
        0 if keep is None else positive_int("keep", keep, " (or None to keep none)"),
        None if pattern is None else check_text("pattern", pattern),
    )


def _seconds(age: object) -> float:
    seconds = math.nan
    if isinstance(age, timedelta):
        seconds = age.total_seconds()
    elif isinstance(age, str) and (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", age)):
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds < math.inf:
        raise SettingsError(
            f"older_than: expected a number above 0 with a unit (s, m, h, d or w), such as '30d', found {age!r:.80}"
        )
    return seconds


def _expired(published: Iterable[IdentifiedCache], rule: _Rule) -> list[ExpiredCache]:
    now = time.time_ns()
    selected = filter(rule.is_about, published)
    newest_first = sorted(selected, key=lambda cache: (_undated(cache), cache.modified_ns, cache.path), reverse=True)
    found = []
    for _, caches in itertools.groupby(newest_first, _undated):
        for cache in itertools.islice(caches, rule.keep, None):
            age = max(0.0, (now - cache.modified_ns) / 1e9)
            if rule.oldest_seconds is None or age > rule.oldest_seconds:
                in_use = is_held(lock_path(cache.path.parent, cache.path.name))
                found.append(ExpiredCache(cache.path, cache.name, cache.split, age, num_bytes(cache.path), in_use))
    return sorted(found, key=lambda cache: (-cache.age_seconds, cache.path))


def _undated(cache: IdentifiedCache) -> tuple[str, str]:
    """Return the name of a cache without its dates, and its split."""
    return _DATE.sub("\0", cache.name), cache.split

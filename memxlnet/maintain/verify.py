"""Check a cache: its bytes, that its values can be read safely, and, by encoding again, that they are right."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from memxlnet.errors import CacheDamagedError, SettingsError, TransferError
from memxlnet.format.checksums import file_digest
from memxlnet.format.file_layout import file_identity
from memxlnet.format.joined import joined, repeated_ids
from memxlnet.format.manifest import REBUILD, FileRecord, Manifest, manifest_bytes, reading
from memxlnet.format.opened_parts import open_part, shown_documents
from memxlnet.format.part_list import BUILD_AGAIN, PartList, is_part_list, read_part_list
from memxlnet.format.paths import MANIFEST, PART_LIST, TOKENIZER, as_directory
from memxlnet.format.published import PublishedCache, while_it_stays
from memxlnet.maintain.encoding_rules import Rules, read_dropped, read_rules
from memxlnet.maintain.reencode import check_against, check_own
from memxlnet.maintain.relations import check_relations
from memxlnet.progress import Heartbeat
from memxlnet.settings import check_bool, positive_int, settings_of
from memxlnet.sources import Form, Source, SourceOptions, Transform, open_source
from memxlnet.sources.forms.form import Locate, Offsets

DEFAULT_SAMPLE = 100
"""Examples that are encoded again: little work next to reading the source, and enough to find repeated damage."""


def verify(
    directory: str | os.PathLike[str],
    *,
    deep: bool = False,
    against: Any = None,
    sample: int | None = DEFAULT_SAMPLE,
    identity: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    form: Form | str | None = None,
    columns: Mapping[str, str] | None = None,
    transform: Transform | None = None,
    locate: Locate = "first",
    offsets: Offsets = "characters",
) -> None:
    """Check every byte of a cache against its manifest, and that every value can be read safely.

    It checks the checksum and the structure of every file, then the tokenizer and the report of dropped examples, then
    the tables row by row (every row, token, character and id that a value leads to exists; ids and contexts do not
    repeat) with all counts of the manifest. Whether the values are those that the encoder gives is what `deep` or
    `against` shows. RAM is that of a block of rows, and at most 16 bytes a document.

    Of a list of parts (``NAME.parts``) it checks every part so, and that each is the one that the list names, that
    they fit together, and that the list hides the documents that a later part repeats.

    Args:
        directory: The published directory, or that of a list of parts.
        deep: Encode all documents again, as the cache holds them, with its own tokenizer, and compare every column. It
            takes about as long as a build in one process.
        against: The source that the cache was made from, as `process_and_cache_dataset` takes it: its identity is
            compared with the one in the manifest, then examples are encoded again with the cache's own tokenizer, and
            every column is compared. It is read once, as a stream. None compares with no source.
        sample: Examples that are encoded again, spread evenly from the first to the last; None encodes all of them.
        identity: For an iterable: the text that stood for its content when the cache was built.
        config_name: Configuration of a Hub dataset.
        revision: Branch, tag or commit of a Hub dataset.
        token: Credentials for the Hub; never stored.
        form: How records become examples; it and the four that follow are as when the cache was built.
        columns: Names of the fields of other records.
        transform: A function of an example that gives none, one or several mappings.
        locate: Which occurrences of answers without offsets are golds.
        offsets: What offsets of answers count.

    Raises:
        SettingsError: An argument is wrong, or `against` is given for a list of parts; raised before any file is
            read through.
        SourceError: The source is missing or cannot be read.
        CacheMismatchError: The cache was made from another source, or by another version of the encoder.
        CacheError: The cache is missing, of another version, or damaged; the message names file, row and column.
    """
    options = settings_of(SourceOptions, locals())
    path = as_directory("directory", directory)
    sample = _checked(against, sample, options)
    check_bool("deep", deep)
    with Heartbeat(lambda _: f"{path.name}: verifying it"):
        if is_part_list(path):
            _verify_parts(path, deep, against)
            return
        manifest = PublishedCache(path).manifest
        source = None if against is None else _open(against, manifest, options)
        cache, rules = _verify_cache(path, deep)
        if source is not None:
            check_against(cache, rules, source, sample)


def _verify_cache(path: Path, deep: bool) -> tuple[PublishedCache, Rules]:
    cache, rules = while_it_stays(path, lambda: _check_files(path))
    check_relations(cache, rules)
    if deep:
        check_own(cache, rules)
    return cache, rules


def _verify_parts(directory: Path, deep: bool, against: Any) -> None:
    """Check a list of parts, and every part of it.

    Raises:
        SettingsError: There is a source to compare with.
        CacheError: The list or a part is missing or damaged, or a part is another one than the list names.
    """
    if against is not None:
        raise SettingsError(
            f"against: applies to one cache, found the list of parts {directory}; verify each of its caches against "
            "the files that it was made from"
        )
    parts = read_part_list(directory)
    # What takes no time first: a part that is missing is found before another one is read through.
    caches = [open_part(directory, part, PublishedCache) for part in parts.parts]
    whole = joined(caches)
    for path in dict.fromkeys(cache.directory for cache in caches):
        _verify_cache(path, deep)
    _check_hidden(directory, parts, whole)


def _check_hidden(directory: Path, parts: PartList, whole: PublishedCache) -> None:
    """Check that the list hides each document that a later part repeats, and no other one."""
    shown = shown_documents(parts)
    hidden = np.setdiff1d(np.arange(parts.documents), np.arange(parts.documents) if shown is None else shown)
    wrong = np.setxor1d(hidden, repeated_ids(whole)[:, 0])
    if len(wrong):
        document = int(wrong[0])
        expected, found = ("shown", "hidden") if document in hidden else ("hidden", "shown")
        raise CacheDamagedError(
            f"{directory / PART_LIST}, hidden: expected document {document} "
            f"({whole.documents.text('id', document)!r:.120}) to be {expected}, found it {found}",
            hint=BUILD_AGAIN,
        )


def verify_bytes(directory: str | Path) -> None:
    """Check every byte of a cache against its manifest, and its structure; not what the values mean.

    Args:
        directory: The published directory.

    Raises:
        CacheError: The cache is missing, of another version, or damaged; the message names the file.
    """
    path = as_directory("directory", directory)
    while_it_stays(path, lambda: _check_bytes(PublishedCache(path)))


def read_manifest_bytes(cache: PublishedCache) -> bytes:
    """Return the bytes of a cache's manifest, which must be those that its content gives.

    Raises:
        CacheDamagedError: They differ.
        CacheNotFoundError: The file is missing.
        CacheOSError: The file cannot be read.
    """
    path = cache.directory / MANIFEST
    raw = manifest_bytes(cache.directory)
    if raw != cache.manifest.encode():
        raise CacheDamagedError(f"{path}: expected the bytes that its content gives, found others", hint=REBUILD)
    return raw


def check_file(directory: Path, record: FileRecord) -> None:
    """Check every byte of one file of a cache.

    Raises:
        CacheDamagedError: It has another checksum, or is missing.
        CacheOSError: It cannot be read.
    """
    path = directory / record.file
    with reading(path):
        found = file_digest(path)
    if found != record.xxh3_128:
        raise CacheDamagedError(
            f"{path}: expected the checksum {record.xxh3_128} (manifest), found {found}", hint=REBUILD
        )


def check_stayed(path: Path, identity: tuple[int, int, int] | None) -> None:
    """Check that a file that was checked and sent is still the same.

    Raises:
        TransferError: It is another one now.
    """
    if file_identity(path) != identity:
        raise TransferError(f"{path}: expected it to stay while it is sent, found another file there; send it again")


def _check_files(directory: Path) -> tuple[PublishedCache, Rules]:
    cache = PublishedCache(directory)
    _check_bytes(cache)
    rules = read_rules(cache)
    _check_examples(cache, rules)
    return cache, rules


def _checked(against: Any, sample: int | None, options: SourceOptions) -> int | None:
    sample = None if sample is None else positive_int("sample", sample, " (or None for all examples)")
    if against is None:
        given = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
        for name in (*given, *(["sample"] if sample != DEFAULT_SAMPLE else [])):
            raise SettingsError(f"{name}: belongs to a source, found it without one; pass against=... as well")
    return sample


def _open(against: Any, manifest: Manifest, options: SourceOptions) -> Source:
    try:
        most, keep = manifest.settings["max_examples"], manifest.settings.get("keep", ())
        return open_source(against, manifest.split, options, max_examples=most, keep=keep)
    except SettingsError as error:
        raise SettingsError(f"against: {error}") from error


def _check_bytes(cache: PublishedCache) -> None:
    read_manifest_bytes(cache)
    for record in cache.manifest.all_files():
        check_file(cache.directory, record)
    cache.check_messages()
    for table in filter(None, (cache.documents, cache.contexts, cache.kept)):
        table.validate()


def _check_examples(cache: PublishedCache, rules: Rules) -> None:
    """Check the report of dropped examples, and the number of examples against the settings."""
    manifest = cache.manifest
    path = cache.directory / MANIFEST
    if TOKENIZER not in {record.file for record in manifest.files}:
        raise CacheDamagedError(f"{path}, files: expected {TOKENIZER} among them, found it missing", hint=REBUILD)
    dropped = sum(1 for _ in read_dropped(cache))
    if dropped and rules.encode.on_bad_example == "error":
        raise CacheDamagedError(
            f"{path}, dropped_examples: expected 0 where bad examples are errors, found {dropped}",
            hint=REBUILD,
        )
    most = rules.encode.max_examples
    if most is not None and cache.num_documents + dropped > most:
        raise CacheDamagedError(
            f"{path}, max_examples: expected at most {most} examples, found {cache.num_documents} documents and "
            f"{dropped} dropped examples",
            hint=REBUILD,
        )

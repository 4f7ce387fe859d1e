"""Check a cache: its bytes, that its values can be read safely, and, by encoding again, that they are right."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from memxlnet.errors import CacheDamagedError, SettingsError, TransferError
from memxlnet.format.checksums import file_digest
from memxlnet.format.file_layout import file_identity
from memxlnet.format.manifest import REBUILD, FileRecord, Manifest, manifest_bytes, reading
from memxlnet.format.paths import MANIFEST, TOKENIZER, as_directory
from memxlnet.format.published import PublishedCache, while_it_stays
from memxlnet.maintain.encoding_rules import Rules, read_dropped, read_rules
from memxlnet.maintain.reencode import check_against, check_own
from memxlnet.maintain.relations import check_relations
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

    Args:
        directory: The published directory.
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
        SettingsError: An argument is wrong; raised before any file is read through.
        SourceError: The source is missing or cannot be read.
        CacheMismatchError: The cache was made from another source, or by another version of the encoder.
        CacheError: The cache is missing, of another version, or damaged; the message names file, row and column.
    """
    options = settings_of(SourceOptions, locals())
    path = as_directory("directory", directory)
    sample = _checked(against, sample, options)
    check_bool("deep", deep)
    manifest = PublishedCache(path).manifest
    source = None if against is None else _open(against, manifest, options)
    cache, rules = while_it_stays(path, lambda: _check_files(path))
    check_relations(cache, rules)
    if deep:
        check_own(cache, rules)
    if source is not None:
        check_against(cache, rules, source, sample)


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

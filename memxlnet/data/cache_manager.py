"""The cache manager of the earlier code base: publishes builds, and reads a cache in runs of rows."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.earlier_names import missing_attribute
from memxlnet.encode.cache_settings import tokenizer_fields
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import (
    AmbiguousCacheError,
    CacheMismatchError,
    CacheNotFoundError,
    RowIndexError,
    SettingsError,
    SourceNotFoundError,
)
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import Manifest, find_caches, known_files
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.remote.scratch import open_scratch
from memxlnet.settings import (
    DEFAULT_STREAMING_CHUNK_SIZE,
    EncodeSettings,
    Keep,
    check_keep,
    check_text,
    positive_int,
)
from memxlnet.sources import SourceOptions, is_file_name, open_source, source_name

WORK_SETTINGS = frozenset({"streaming_chunk_size", "chunk_size", "use_streaming", "max_memory_gb"})
"""Parameters that change no byte of a cache, so that any value of them fits."""


def find_cache(
    cache_dir: Path, dataset_name: object, split: str, params: Mapping[str, Any] | None = None
) -> tuple[Path, Manifest]:
    """Find the one cache of a source and split.

    Args:
        cache_dir: Directory of the caches.
        dataset_name: What the cache was built from. An existing file and an object are compared by their content;
            a Hub name, or a file that is gone, by its name.
        split: Its split.
        params: Settings that the cache must have; ``tokenizer`` compares the tokenizer's content.

    Raises:
        CacheNotFoundError: It is missing.
        CacheMismatchError: There are some, with another source or other settings; the message names the fields.
        AmbiguousCacheError: Several fit; the message lists them.
    """
    name = source_name(dataset_name)
    check_text("split", split)
    content = content_of(dataset_name, split, cache_dir)

    def source(manifest: Manifest) -> dict[str, Any] | None:
        if not isinstance(dataset_name, str) or is_file_name(dataset_name):
            with suppress(SourceNotFoundError):
                return content(manifest)
        return None

    of_split = [entry for entry in find_caches(cache_dir) if entry[1].split == split]
    found = [entry for entry in of_split if entry[1].fields["source"] == source(entry[1])]
    found = found or [entry for entry in of_split if entry[1].name == name]
    subject = f"{cache_dir}: cache of {name!r}, split {split!r}"
    if not found:
        raise CacheNotFoundError(f"{subject}: expected one, found none; build it with process_and_cache_dataset")
    differences = [cache_differences(manifest, source(manifest), params or {}) for _, manifest in found]
    fitting = [entry for entry, differing in zip(found, differences, strict=True) if not differing]
    if not fitting:
        fields = "; ".join(
            f"{path.name} differs in {', '.join(differing)}"
            for (path, _), differing in zip(found, differences, strict=True)
        )
        raise CacheMismatchError(f"{subject}: expected one with the settings that were asked for, found none: {fields}")
    # The same content under two names gives two caches of one fingerprint, and any of them will do.
    if len({manifest.fingerprint for _, manifest in fitting}) > 1:
        names = "; ".join(f"{path.name} ({shown_settings(manifest)})" for path, manifest in fitting)
        raise AmbiguousCacheError(
            f"{subject}: expected one, found {len(fitting)}: {names}; open one by its directory or name its settings"
        )
    return next((entry for entry in fitting if entry[1].name == name), fitting[0])


def content_of(
    dataset_name: object, split: str, cache_dir: Path, options: SourceOptions | None = None
) -> Callable[[Manifest], dict[str, Any]]:
    """Return the identity that a source has for a cache: rows are digested as far as the cache was to read them."""
    find_known = known_files(cache_dir)

    @cache
    def identity(most: int | None, keep: Keep) -> dict[str, Any]:
        source = open_source(dataset_name, split, options, max_examples=most, find_known=find_known, keep=keep)
        return source.identity()

    return lambda manifest: identity(manifest.settings["max_examples"], check_keep(manifest.settings.get("keep")))


def shown_settings(manifest: Manifest) -> str:
    """Return the settings of a cache in a message."""
    return ", ".join(f"{name}={value!r}" for name, value in manifest.settings.items())


def cache_differences(manifest: Manifest, source: dict[str, Any] | None, params: Mapping[str, Any]) -> list[str]:
    """Name the fields in which a cache differs from a source, where one is given, and from the named settings.

    Raises:
        SettingsError: A name is that of no setting.
    """
    settings = {"keep": [], **manifest.settings}
    wanted = {name: value for name, value in params.items() if name not in WORK_SETTINGS}
    if "keep" in wanted:
        wanted["keep"] = EncodeSettings(keep=wanted["keep"]).fields().get("keep", [])
    differing = differing_fields(source, manifest.fields["source"], "source.") if source is not None else []
    if (tokenizer := wanted.pop("tokenizer", None)) is not None:
        content = read_tokenizer(tokenizer, settings["insert_memory_tokens"])
        differing += differing_fields(tokenizer_fields(content), manifest.fields["tokenizer"], "tokenizer.")
    unknown = sorted(wanted.keys() - settings.keys())
    if unknown:
        expected = ", ".join([*settings, "tokenizer"])
        raise SettingsError(f"cache_params: expected the names {expected}, found {', '.join(map(repr, unknown))}")
    return [*differing, *differing_fields(wanted, {name: settings[name] for name in wanted})]


class ChunkedCacheManager(CacheWriter):
    """Publishes what a build makes, and reads caches by name and split.

    As a reader it shows a cache in runs of `chunk_size` rows: chunk i is the rows from ``i * chunk_size`` on. That is a
    view; the files know no such chunks.

    Args:
        cache_dir: Directory of the caches.
        chunk_size: Rows of a chunk that is read.
        max_shard_rows: Rows of a features file that is published at most; None for as few files as Arrow allows.
        scratch: URL of a place in a store through which the chunks of builds travel; see `process_and_cache_dataset`.
        scratch_options: Options of its file system, such as credentials; never stored or shown.

    Raises:
        SettingsError: An argument is wrong.
        MissingLibraryError: The library that serves this kind of `scratch` is not installed.
        TransferError: The store of the chunks cannot be opened.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE,
        *,
        max_shard_rows: int | None = None,
        scratch: str | None = None,
        scratch_options: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            cache_dir, max_shard_rows=max_shard_rows, scratch=open_scratch(scratch, scratch_options, cache_dir)
        )
        self.chunk_size = positive_int("chunk_size", chunk_size)
        self._opened: CacheDataset | None = None

    def cache_exists(self, dataset_name: object, split: str) -> bool:
        """Return whether there is at least one cache of this source and split."""
        try:
            find_cache(self.cache_dir, dataset_name, split)
        except (CacheNotFoundError, CacheMismatchError):
            return False
        except AmbiguousCacheError:
            return True
        return True

    def get_total_chunks(self, dataset_name: object, split: str) -> int:
        """Return the number of chunks of the one cache of this name and split.

        Raises:
            CacheError: It is missing, or there are several.
        """
        _, manifest = find_cache(self.cache_dir, dataset_name, split)
        return -(-manifest.tables["features"].rows // self.chunk_size)

    def load_chunk(self, dataset_name: object, split: str, chunk_id: int) -> list[dict[str, Any]]:
        """Return the rows of one chunk, each as ``dataset[i]`` gives it: views of the map.

        Args:
            dataset_name: What the cache was built from.
            split: Its split.
            chunk_id: Number of the chunk, from 0.

        Raises:
            RowIndexError: There is no such chunk.
            CacheError: There is no such cache, or several.
        """
        directory, manifest = self._find_chunk(dataset_name, split, chunk_id)
        opened = self._opened
        if opened is None or opened.directory != directory or opened.manifest.fingerprint != manifest.fingerprint:
            opened = self._opened = CacheDataset(directory)
        return opened[chunk_id * self.chunk_size : (chunk_id + 1) * self.chunk_size]

    def get_cache_path(self, dataset_name: object, split: str, chunk_id: int) -> str:
        """Return the features file in which a chunk begins.

        Args:
            dataset_name: What the cache was built from.
            split: Its split.
            chunk_id: Number of the chunk, from 0.

        Raises:
            RowIndexError: There is no such chunk.
            CacheError: There is no such cache, or several.
        """
        directory, manifest = self._find_chunk(dataset_name, split, chunk_id)
        row = chunk_id * self.chunk_size
        table = manifest.tables["features"]
        return str(directory / table.shards[table.shard_of(row)[0]].file)

    def _find_chunk(self, dataset_name: object, split: str, chunk_id: int) -> tuple[Path, Manifest]:
        directory, manifest = find_cache(self.cache_dir, dataset_name, split)
        total = -(-manifest.tables["features"].rows // self.chunk_size)
        if isinstance(chunk_id, bool) or not isinstance(chunk_id, int) or not 0 <= chunk_id < total:
            raise RowIndexError(f"{directory}: expected a chunk from 0 to {total - 1}, found {chunk_id!r}")
        return directory, manifest

    def __getattr__(self, name: str) -> Any:
        raise missing_attribute(self, name)

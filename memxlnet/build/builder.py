"""One build, from a source to a published cache."""

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from memxlnet.background import Prefetched
from memxlnet.build.check import check_against_transformers
from memxlnet.build.chunking import CHUNK_SHARE, read_chunks
from memxlnet.encode.encoder import Encoder, TokenizedChunk
from memxlnet.encode.examples import Example
from memxlnet.encode.layout import read_tokenizer
from memxlnet.encode.sources import KnownFile, Source, open_source
from memxlnet.errors import BuildError, CacheError, SourceError
from memxlnet.settings import MAX_EAGER_EXAMPLES, BuildSettings, EncodeSettings
from memxlnet.store.cache import Cache
from memxlnet.store.identity import CacheSettings, differing_fields
from memxlnet.store.manifest import find_caches, known_files, read_manifest
from memxlnet.store.paths import MANIFEST
from memxlnet.store.writer import BuildSummary, CacheManager, CacheWriter

logger = logging.getLogger(__name__)


class Build:
    """What is to be built: a source, a tokenizer and settings, all checked before any work.

    Args:
        dataset_name: File, Hub name, `datasets` object or iterable; see `open_source`.
        split: Split of the source.
        tokenizer: A transformers fast tokenizer.
        encode: What the rows look like.
        cache_dir: Directory of the caches that may know the source already.
        source_options: Further arguments of `open_source`.

    Raises:
        SettingsError: A setting is wrong.
        TokenizerError: The tokenizer cannot be used.
        SourceError: The source is missing or has no such split.
    """

    def __init__(
        self,
        dataset_name: Any,
        split: str,
        tokenizer: Any,
        encode: EncodeSettings,
        cache_dir: Path | None,
        source_options: Mapping[str, Any] | None = None,
    ):
        self.tokenizer = tokenizer
        content = read_tokenizer(tokenizer, encode.insert_memory_tokens)
        content.layout.check(encode)

        def find_known(path: str) -> KnownFile | None:
            return known_files(cache_dir, path) if cache_dir else None

        self.source: Source = open_source(dataset_name, split, find_known=find_known, **(source_options or {}))
        self.settings = CacheSettings(
            name=self.source.name,
            split=split,
            encode=encode,
            source=self.source.identity(),
            tokenizer=content,
            provenance=self.source.provenance(),
        )

    def find(self, cache_dir: Path) -> Path | None:
        """The published cache of these settings, or None.

        Raises:
            CacheError: The cache is there but damaged.
        """
        directory = cache_dir / self.settings.directory_name
        if (directory / MANIFEST).is_file():
            manifest = read_manifest(directory)
            if manifest.fingerprint == self.settings.fingerprint:
                return directory
        return None

    def log_others(self, cache_dir: Path) -> None:
        """Log in which fields the published caches of the same name and split differ."""
        for other, manifest in find_caches(cache_dir):
            if (manifest.name, manifest.split) == (self.settings.name, self.settings.split):
                differences = differing_fields(self.settings.fields, manifest.fields)
                logger.info("%s: not used, it differs in %s", other, "; ".join(differences) or "its name")

    def run(self, manager: CacheManager, build: BuildSettings) -> tuple[int, Any]:
        """Encode every chunk that is not finished yet, then publish.

        Args:
            manager: Where the chunks go.
            build: How the work is done.

        Returns:
            The number of features of the whole result, and the manager's summary.

        Raises:
            ExampleError: An example is bad, and bad examples are errors.
            SourceError: The source is empty, cannot be read, or changed meanwhile.
            TokenizerError: The tokenizer does not allow the encoder's strategy.
        """
        chunk_size = build.streaming_chunk_size
        if not build.use_streaming:
            chunk_size = self._eager_chunk_size(chunk_size)
        chunking = f"{chunk_size} examples, {build.max_memory_gb * CHUNK_SHARE:g} GiB"
        settings = replace(self.settings, chunking=chunking)
        content = settings.tokenizer
        encoder = Encoder(content.backend, content.layout, settings.encode)
        finished = set(manager.begin(settings))
        features = examples = 0
        receipts: list[Any] = []
        # A thread reads and tokenizes the next chunk (mostly in Rust, outside of Python's lock) while the rows of this
        # one are put together and written.
        chunks = Prefetched(self._tokenized(encoder, build, chunk_size, finished), depth=1)
        with closing(chunks), closing(_progress(self.source, settings, build)) as bar:
            for index, num_examples, chunk in chunks:
                if index == 1 and not build.use_streaming:
                    logger.info("use_streaming=False: too much for one chunk, streaming instead")
                if chunk is not None:
                    tables = encoder.assemble(chunk)
                    features += tables["features"].num_rows
                    receipts.append(manager.write_chunk(index, tables))
                examples += num_examples
                bar.update(num_examples)
        if not examples:
            raise SourceError(f"{settings.name}, split {settings.split!r}: expected at least one example, found none")
        self.source.check_unchanged()
        summary = manager.finish(receipts)
        return (_total_features(summary) if finished else features), summary

    def _tokenized(
        self, encoder: Encoder, build: BuildSettings, chunk_size: int, finished: Collection[int]
    ) -> Iterator[tuple[int, int, TokenizedChunk | None]]:
        """Each chunk's index, number of examples, and its tokens unless it is finished already.

        The first chunk is checked against transformers before.
        """
        settings = self.settings
        for index, chunk in enumerate(read_chunks(self.source, settings.encode, build, chunk_size)):
            if not index:
                examples = [example for example in chunk if isinstance(example, Example)]
                check_against_transformers(self.tokenizer, settings.tokenizer, settings.encode, examples)
            yield index, len(chunk), encoder.tokenize(chunk) if index not in finished else None

    def _eager_chunk_size(self, streaming_chunk_size: int) -> int:
        """The size of one chunk that holds everything, where that is little enough; else the streaming size."""
        known = [n for n in (self.settings.encode.max_examples, self.source.total) if n is not None]
        return streaming_chunk_size if known and min(known) > MAX_EAGER_EXAMPLES else MAX_EAGER_EXAMPLES


def _total_features(summary: Any) -> int:
    found = summary.get("features") if isinstance(summary, Mapping) else getattr(summary, "features", None)
    if isinstance(found, bool) or not isinstance(found, int):
        raise BuildError(
            "cache manager: expected a summary with the number of all features in 'features', since begin() named "
            f"finished chunks; found {type(summary).__name__}"
        )
    return found


def _progress(source: Source, settings: CacheSettings, build: BuildSettings) -> Any:
    known = [n for n in (settings.encode.max_examples, source.total) if n is not None]
    # None lets tqdm decide: it stays quiet where standard error is no terminal.
    disable = None if build.progress is None else not build.progress
    return tqdm(
        desc=f"{settings.name}/{settings.split}", total=min(known, default=None), unit="example", disable=disable
    )


def build_cache(job: Build, build: BuildSettings, writer: CacheWriter) -> BuildSummary:
    """Give the published cache of a build, building it unless it is there.

    Any number of processes may ask at once: one builds, the others wait for it.

    Args:
        job: What is to be built.
        build: How the work is done.
        writer: Where the cache is published.

    Raises:
        CacheError: The cache is there but damaged, or the directory cannot be written.
        MemxlnetError: Whatever `Build.run` raises.
    """
    found = None if build.rebuild else job.find(writer.cache_dir)
    if found is None:
        started = time.monotonic()
        with writer.lock(job.settings):
            if build.rebuild:
                writer.discard(job.settings)
            else:
                found = job.find(writer.cache_dir)
            if found is None:
                job.log_others(writer.cache_dir)
                _, summary = job.run(writer, build)
                _log_summary(summary, time.monotonic() - started)
                return _checked(summary)
    writer.discard_leftovers(job.settings)
    logger.info("%s: found, nothing to build", found)
    return _checked(BuildSummary.of(found, read_manifest(found)))


def _checked(summary: BuildSummary) -> BuildSummary:
    """Open the cache once, so that a count is never handed out for files that are not there."""
    try:
        Cache(summary.directory)
    except CacheError as error:
        error.add_note("pass rebuild=True to build it anew")
        raise
    return summary


def _log_summary(summary: BuildSummary, seconds: float) -> None:
    outcomes = ", ".join(f"{count} {status}" for status, count in _outcomes(summary))
    logger.info(
        "%s: %d features of %d documents over %d contexts, %d bytes, in %.1f s; answers: %s",
        summary.directory,
        summary.features,
        summary.documents,
        summary.contexts,
        summary.num_bytes,
        seconds,
        outcomes,
    )


def _outcomes(summary: BuildSummary) -> Iterator[tuple[str, int]]:
    yield from summary.alignment.items()
    yield "in no segment", summary.documents_without_answer_segment
    yield "examples dropped", summary.dropped_examples

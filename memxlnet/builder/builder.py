"""One build, from a source to a published cache."""

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from memxlnet.builder.cache_writer import BuildSummary, CacheManager, CacheWriter
from memxlnet.builder.deliveries import Scratch
from memxlnet.builder.loss_limits import LossLimits
from memxlnet.builder.running_build import Run
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.tokenizer_content import TokenizerContent, read_tokenizer
from memxlnet.errors import BuildError, CacheError, CacheNotFoundError, SettingsError
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import find_caches, known_files, read_manifest
from memxlnet.format.paths import directory_name
from memxlnet.format.published import PublishedCache
from memxlnet.progress import Heartbeat
from memxlnet.settings import BuildSettings, EncodeSettings, settings_of
from memxlnet.sources import Source, SourceOptions, open_source, shown_name
from memxlnet.system_errors import source_errors

logger = logging.getLogger(__name__)


class Build:
    """What is to be built: a source, a tokenizer and settings, all checked before any work.

    Args:
        dataset_name: File, Hub name, `datasets` object or iterable; see `open_source`.
        split: Split of the source.
        tokenizer: A transformers fast tokenizer.
        encode: What the rows look like.
        cache_dir: Directory of the caches that may know the source already.
        options: How the source is read.
        content: The content of the tokenizer, where it has been read before; None reads it.

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
        options: SourceOptions | None = None,
        content: TokenizerContent | None = None,
    ):
        self.tokenizer = tokenizer
        content = content or read_tokenizer(tokenizer, encode.insert_memory_tokens)
        content.layout.check(encode)

        name = shown_name(dataset_name)
        with source_errors(name), Heartbeat(lambda _: f"{name}: opening it, and reading what identifies its content"):
            self.source: Source = open_source(
                dataset_name,
                split,
                options,
                max_examples=encode.max_examples,
                find_known=known_files(cache_dir) if cache_dir else None,
                keep=encode.keep,
            )
            identity = self.source.identity()
        self.settings = CacheSettings(
            name=self.source.name,
            split=split,
            encode=encode,
            source=identity,
            tokenizer=content,
            provenance=self.source.provenance(),
        )

    def find(self, cache_dir: Path) -> Path | None:
        """Return the published cache of these settings, or None.

        Raises:
            CacheError: The cache exists but is damaged, or may not be read.
        """
        directory = cache_dir / self.settings.directory_name
        try:
            with _rebuild_noted():
                manifest = read_manifest(directory)
        except CacheNotFoundError:
            return None
        return directory if manifest.fingerprint == self.settings.fingerprint else None

    def log_others(self, cache_dir: Path) -> None:
        """Log in which fields the published caches of the same name and split differ."""
        # Only those of the same name and split are read: a directory of many parts holds many others.
        prefix = directory_name(self.settings.name, self.settings.split, "")
        for other, manifest in find_caches(cache_dir, prefix):
            if (manifest.name, manifest.split) == (self.settings.name, self.settings.split):
                differences = differing_fields(self.settings.fields, manifest.fields)
                logger.info("%s: not used, it differs in %s", other, "; ".join(differences) or "its name")

    def run(self, manager: CacheManager, build: BuildSettings, executor: Executor | None = None) -> tuple[int, Any]:
        """Encode every chunk that is not finished yet, then publish.

        Args:
            manager: Where the chunks go.
            build: How the work is done.
            executor: Encodes the chunks; None encodes them here or in the package's worker processes.

        Returns:
            The number of features of the whole result, and the manager's summary.

        Raises:
            ExampleError: An example is bad, and bad examples are errors.
            SourceError: The source is empty, cannot be read, or changed meanwhile.
            TokenizerError: The tokenizer does not allow the encoder's strategy.
            MemoryLimitError: The work does not fit within ``max_memory_gb``.
            LossLimitError: More was lost than the build allows; nothing is published, and finished chunks are kept.
            BuildError: A worker ended or failed, or the disk is full.
        """
        return Run(self.source, self.tokenizer, self.settings, build, executor, manager).run()


@contextmanager
def _rebuild_noted() -> Iterator[None]:
    try:
        yield
    except CacheError as error:
        error.add_note("or pass rebuild=True to build it again")
        raise


def refuse_unguarded_main() -> None:
    """Refuse to build in a process that `multiprocessing` is just starting: its parent waits for it, or holds the lock.

    Raises:
        BuildError: The script that started this process has no main guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise BuildError(
            "a build began while a worker process was importing the main script; expected the script's calls below "
            "`if __name__ == '__main__':`, which the processes of an executor need"
        )


def check_executor(executor: object, build: BuildSettings) -> None:
    """Check what the user gave as an executor.

    Raises:
        SettingsError: It is not one, or allows no chunks.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise SettingsError(
            f"executor: expected a concurrent.futures.Executor (of a Dask client: client.get_executor()), found "
            f"{type(executor).__name__}"
        )
    if executor is not None and build.num_workers == 0:
        raise SettingsError("num_workers: expected None or the number of chunks in work with an executor, found 0")


def find_or_build(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    arguments: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
    executor: Executor | None = None,
    scratch: Scratch | None = None,
) -> BuildSummary:
    """Return the published cache of a source; build it unless it exists.

    Args:
        dataset_name: File, Hub name, `datasets` object or iterable; see `open_source`.
        split: Split of the source.
        tokenizer: A transformers fast tokenizer.
        arguments: By name, the fields of `EncodeSettings`, `BuildSettings` and `SourceOptions`; others are left out.
        cache_dir: Directory of all caches.
        executor: Encodes the chunks; None encodes them here or in the package's worker processes.
        scratch: A store that holds the chunks until the cache is published.

    Raises:
        SettingsError: An argument is wrong; raised before any work.
        MemxlnetError: Any error of `build_cache`.
    """
    return build_cache(
        *prepare_build(dataset_name, split, tokenizer, arguments, cache_dir, executor, scratch), executor
    )


def prepare_build(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    arguments: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
    executor: Executor | None,
    scratch: Scratch | None = None,
) -> tuple[Build, BuildSettings, CacheWriter]:
    """Check the arguments of `find_or_build`; return what `build_cache` takes.

    Raises:
        MemxlnetError: As `find_or_build`.
    """
    encode, build = settings_of(EncodeSettings, arguments), settings_of(BuildSettings, arguments)
    refuse_unguarded_main()
    check_executor(executor, build)
    writer = CacheWriter(cache_dir, max_shard_rows=build.max_shard_rows, scratch=scratch)
    job = Build(dataset_name, split, tokenizer, encode, writer.cache_dir, settings_of(SourceOptions, arguments))
    return job, build, writer


def build_cache(
    job: Build, build: BuildSettings, writer: CacheWriter, executor: Executor | None = None
) -> BuildSummary:
    """Return the published cache of a build; build it unless it exists.

    Any number of processes may ask at once: one builds, the others wait for it.

    Args:
        job: What is to be built.
        build: How the work is done.
        writer: Where the cache is published.
        executor: Encodes the chunks; None encodes them here or in the package's worker processes.

    Raises:
        CacheError: The cache exists but is damaged, or the directory cannot be written.
        LossLimitError: More was lost than the build allows; a cache that exists stays.
        MemxlnetError: Any error of `Build.run`.
    """
    if not build.rebuild:
        found = job.find(writer.cache_dir)
        # It may be gone again for the moment in which another process puts a rebuilt one into its place.
        with suppress(CacheNotFoundError):
            if found is not None:
                summary = _opened(found, build)
                writer.discard_leftovers(job.settings)
                return summary
    with writer.lock(job.settings, build.progress):
        summary = build_under_lock(job, build, writer, executor)
        writer.leave_scratch(job.settings)
        return summary


def build_under_lock(
    job: Build, build: BuildSettings, writer: CacheWriter, executor: Executor | None = None
) -> BuildSummary:
    """Do what `build_cache` does, where the caller holds the lock of the writer and leaves its scratch store."""
    started = time.monotonic()
    if build.rebuild:
        writer.discard(job.settings)
    else:
        found = job.find(writer.cache_dir)
        if found is not None:
            return _opened(found, build)
    job.log_others(writer.cache_dir)
    built: BuildSummary = job.run(writer, build, executor)[1]
    _log_summary(built, time.monotonic() - started)
    return built


def _opened(found: Path, build: BuildSettings) -> BuildSummary:
    """Open a published cache once, so that no count is returned for missing files."""
    with _rebuild_noted():
        manifest = PublishedCache(found).manifest
    LossLimits.of(build).check_cache(found, manifest)
    logger.info("%s: found, nothing to build", found)
    return BuildSummary.of(found, manifest)


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
    lost = summary.alignment["dropped"]
    if lost:
        logger.warning(
            "%s: the answers of %d of %d documents do not occur in their context: they are trained on as unanswerable; "
            "'memxlnet stats' counts them, and the column 'alignment_detail' of documents says why",
            summary.directory,
            lost,
            summary.documents,
        )


def _outcomes(summary: BuildSummary) -> Iterator[tuple[str, int]]:
    yield from summary.alignment.items()
    yield "in no segment", summary.documents_without_answer_segment
    yield "contradictions", summary.contradictions
    yield "examples dropped", summary.dropped_examples

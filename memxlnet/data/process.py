"""The calls that build a cache."""

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from memxlnet.builder.builder import Build, build_cache, check_executor, find_or_build, refuse_unguarded_main
from memxlnet.builder.cache_writer import CacheManager, CacheWriter
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import SettingsError
from memxlnet.remote.scratch import Scratch, open_scratch
from memxlnet.remote.stored_builds import build_into_store, is_stored
from memxlnet.settings import (
    DEFAULT_CACHE_DIR,
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_MEMORY_GB,
    DEFAULT_MAX_SEQ_LENGTH,
    DEFAULT_STREAMING_CHUNK_SIZE,
    EARLIER_DOC_STRIDE,
    BuildSettings,
    EncodeSettings,
    Keep,
    OnBadExample,
    OnContradiction,
    OnRepeatedId,
    settings_of,
)
from memxlnet.sources import Form, SourceOptions, Transform
from memxlnet.sources.forms.form import Locate, Offsets


def process_and_cache_dataset(
    dataset_name: Any = "squad_v2",
    split: str = "train",
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    max_examples: int | None = None,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
    streaming_chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE,
    tokenizer: Any = None,
    max_n_segs: int | None = None,
    use_streaming: bool = True,
    max_memory_gb: float = DEFAULT_MAX_MEMORY_GB,
    *,
    rebuild: bool = False,
    cache_manager: CacheManager | None = None,
    on_bad_example: OnBadExample = "error",
    on_contradiction: OnContradiction = "error",
    on_repeated_id: OnRepeatedId = "error",
    keep: Keep = (),
    insert_memory_tokens: bool = True,
    max_shard_rows: int | None = None,
    name: str | None = None,
    identity: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    form: Form | str | None = None,
    columns: Mapping[str, str] | None = None,
    transform: Transform | None = None,
    locate: Locate = "first",
    offsets: Offsets = "characters",
    progress: bool | None = None,
    num_workers: int | None = None,
    executor: Executor | None = None,
    scratch: str | None = None,
    scratch_options: Mapping[str, Any] | None = None,
    max_dropped: int | float | None = None,
    max_lost_answers: int | float | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Build the cache of a dataset, or find it built.

    Args:
        dataset_name: A Hub name; a local ``.json``, ``.jsonl``, ``.ndjson``, ``.parquet``, ``.arrow``, ``.feather``,
            ``.csv`` or ``.tsv`` file, also compressed as ``.gz``, ``.bz2``, ``.xz`` or ``.zst``; a list of files, a
            glob, a directory, or a URL; a `datasets` object; a table (pyarrow, pandas, polars); or an iterable of
            mappings with ``question``, ``context``, ``answers`` and ``id``. See `memxlnet.sources.open_source`.
        split: Split of a Hub dataset or a directory of one; a label for everything else. A slice (``train[:10%]``)
            applies to every source.
        cache_dir: Directory of all caches, or the URL of one in a store, such as ``s3://bucket/caches``.
        max_examples: Read at most this many examples; None reads all.
        max_seq_length: Tokens in a row, special and memory tokens and padding included.
        doc_stride: Overlap of two consecutive segments in tokens (``stride`` in `tokenizers`), not their distance.
        streaming_chunk_size: Examples in a chunk of work; changes no byte of the result.
        tokenizer: A transformers fast tokenizer.
        max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
        use_streaming: False encodes up to 1,000 examples at once; above, streaming switches on by itself.
        max_memory_gb: Bound on the RAM of this process and its children, in GiB, pages of mapped files not counted.
            Work in flight is reduced and chunks are split to stay below it; where that does not help, an error says
            what is needed.
        rebuild: Build again even where the cache exists.
        cache_manager: Where the chunks go, instead of a cache in `cache_dir`: any object with ``begin``,
            ``write_chunk`` and ``finish``; see `memxlnet.builder.cache_writer.CacheManager`.
        on_bad_example: ``"error"``, or ``"drop"`` to count bad examples with their ids and reasons.
        on_contradiction: What to do with contradictory labels: ``"error"`` makes the example a bad one,
            ``"unanswerable"`` and ``"answers"`` count it; see `memxlnet.settings.EncodeSettings`.
        on_repeated_id: ``"error"`` treats an example as bad if an earlier one has its id; ``"number"`` makes the id
            ``ID#2``, ``ID#3``, ...: the first that no earlier example has.
        keep: Names of further fields of the examples that the cache holds as columns, or ``"all"``; their types must
            not change.
        insert_memory_tokens: False leaves the tokenizer's memory tokens out of the rows.
        max_shard_rows: Rows of a features file at most; None for as few files as Arrow allows.
        name: Short name of an object in memory, which the directory of its cache begins with; by default ``in-memory``.
        identity: For an iterable or a transform: a text that changes whenever what it gives does.
        config_name: Configuration of a Hub dataset.
        revision: Branch, tag or commit of a Hub dataset.
        token: Credentials for the Hub; never stored.
        form: How records become examples: the name of a form of public data (``memxlnet.form_names()``), or a `Form`;
            None recognises it by the first record, and the log says as what.
        columns: Names of the fields of other records: ``{"question": "query", "context": "doc.text", ...}``.
        transform: A function of an example that gives none, one or several mappings; with `identity`, or its results
            are digested in a first pass.
        locate: Which occurrences of answers without offsets are golds: ``"first"``, ``"all"`` or ``"nearest"``.
        offsets: What offsets of answers count: ``"characters"`` (code points), ``"bytes"`` or ``"utf-16"``.
        progress: Show a progress bar; None shows it where standard error is a terminal.
        num_workers: Worker processes; 0 encodes in this process, None chooses by the size of the source and the cores.
            Workers are light (no torch, no transformers), need no main guard, and change no byte of the result.
        executor: Any `concurrent.futures.Executor` that encodes the chunks instead, as of a Dask client
            (``client.get_executor()``). Workers that see the cache directory write the chunks into it, others give them
            back through their futures. `num_workers` is then the number of chunks that it is given at once. It is not
            shut down.
        scratch: URL of a place in a store, such as ``s3://bucket/tmp``, through which the chunks travel: neither a
            worker nor a builder that dies loses one, and the next build resumes, on any machine. What a build has
            there is removed when its cache is published.
        scratch_options: Options of its file system, such as credentials; never stored or shown.
        max_dropped: Examples that may be dropped: a count (int), or a share of all (float); None allows all. Where more
            are, nothing is published.
        max_lost_answers: Answers that may be lost, in the same way: those that do not occur in their context, or that
            no segment holds whole.
        work_dir: With a URL: the local directory in which the cache is built, where an interrupted build resumes, and
            where a copy stays; by default a directory of this user below that of temporary files, where none stays.
        storage_options: With a URL: options of the file system, such as credentials; never stored or shown.

    Returns:
        The number of features (segments) of the cache.

    Raises:
        SettingsError: An argument is wrong; raised before any work.
        TokenizerError: The tokenizer cannot be used.
        SourceError: The source is missing, malformed, empty, or has no such split.
        ExampleError: An example is bad, or its id repeats, and `on_bad_example` is ``"error"``.
        CacheError: The cache directory cannot be written, or the existing cache is damaged.
        MemoryLimitError: The work does not fit within `max_memory_gb`.
        LossLimitError: More was lost than `max_dropped` or `max_lost_answers` allows.
        BuildError: A worker ended or failed, or the disk is full; finished chunks are kept for the next call.
        TransferError: The store cannot be asked or written; what is built and sent is kept for the next call.
        MissingLibraryError: The library that serves this kind of URL is not installed.
    """
    arguments = locals()
    chunks = open_scratch(scratch, scratch_options, cache_dir, work_dir, storage_options)
    return _run(dataset_name, split, tokenizer, arguments, cache_dir, cache_manager, executor, chunks)


def _run(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    arguments: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
    cache_manager: CacheManager | None,
    executor: Executor | None,
    scratch: Scratch | None = None,
) -> int:
    """Return the number of features of a build, which a cache manager keeps where one is given."""
    if is_stored(cache_dir, arguments):
        if cache_manager is not None:
            raise SettingsError("cache_manager: expected none with a cache_dir in a store; leave one of them out")
        return build_into_store(
            dataset_name, split, tokenizer, arguments, str(cache_dir), executor, scratch
        ).summary.features
    if cache_manager is None:
        return find_or_build(dataset_name, split, tokenizer, arguments, cache_dir, executor, scratch).features
    if scratch is not None:
        raise SettingsError(
            "scratch: applies where no cache_manager is given; leave one out, or set it on a ChunkedCacheManager"
        )
    encode, build = settings_of(EncodeSettings, arguments), settings_of(BuildSettings, arguments)
    refuse_unguarded_main()
    check_executor(executor, build)
    if build.max_shard_rows is not None:
        raise SettingsError("max_shard_rows: applies where no cache_manager is given; set it on the cache manager")
    for name in ("max_dropped", "max_lost_answers"):
        if getattr(build, name) is not None and not isinstance(cache_manager, CacheWriter):
            raise SettingsError(f"{name}: applies to caches of this package, found a cache_manager of another kind")
    missing = [name for name in ("begin", "write_chunk", "finish") if not callable(getattr(cache_manager, name, None))]
    if missing:
        raise SettingsError(
            f"cache_manager: expected the methods begin, write_chunk and finish, found no {', '.join(missing)} on "
            f"{type(cache_manager).__name__}"
        )
    known_dir: Path | None = cache_manager.cache_dir if isinstance(cache_manager, CacheWriter) else None
    job = Build(dataset_name, split, tokenizer, encode, known_dir, settings_of(SourceOptions, arguments))
    if isinstance(cache_manager, CacheWriter):
        return build_cache(job, build, cache_manager, executor).features
    return job.run(cache_manager, build, executor)[0]


class StreamingSquadProcessor:
    """Builds caches chunk by chunk with one tokenizer and one set of row settings.

    Args:
        tokenizer: A transformers fast tokenizer.
        max_seq_length: Tokens in a row.
        doc_stride: Overlap of two consecutive segments in tokens; less by default than that of the other calls.
        streaming_chunk_size: Examples in a chunk of work.
        max_memory_gb: Bound on the RAM of the build, in GiB.
        on_bad_example: ``"error"``, or ``"drop"`` to count bad examples.
        on_contradiction: What to do with contradictory labels: ``"error"`` makes the example a bad one,
            ``"unanswerable"`` and ``"answers"`` count it; see `process_and_cache_dataset`.
        on_repeated_id: ``"error"``, or ``"number"`` to make repeated ids distinct; see `process_and_cache_dataset`.
        keep: Names of further fields that the cache holds; see `process_and_cache_dataset`.
        insert_memory_tokens: False leaves the tokenizer's memory tokens out of the rows.
        progress: Show a progress bar; None shows it where standard error is a terminal.
        num_workers: Worker processes; see `process_and_cache_dataset`.
        executor: Encodes the chunks instead; see `process_and_cache_dataset`, as for all that follow.
        scratch: URL of a place in a store through which the chunks travel, where no cache manager is given.
        scratch_options: Options of its file system; never stored or shown.
        max_dropped: Examples that may be dropped.
        max_lost_answers: Answers that may be lost.

    Raises:
        SettingsError: A setting is wrong.
        MissingLibraryError: The library that serves this kind of `scratch` is not installed.
        TransferError: The store of the chunks cannot be opened.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
        doc_stride: int = EARLIER_DOC_STRIDE,
        streaming_chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE,
        max_memory_gb: float = DEFAULT_MAX_MEMORY_GB,
        *,
        on_bad_example: OnBadExample = "error",
        on_contradiction: OnContradiction = "error",
        on_repeated_id: OnRepeatedId = "error",
        keep: Keep = (),
        insert_memory_tokens: bool = True,
        progress: bool | None = None,
        num_workers: int | None = None,
        executor: Executor | None = None,
        scratch: str | None = None,
        scratch_options: Mapping[str, Any] | None = None,
        max_dropped: int | float | None = None,
        max_lost_answers: int | float | None = None,
    ):
        self.tokenizer = tokenizer
        self.max_seq_length, self.doc_stride = max_seq_length, doc_stride
        self.streaming_chunk_size, self.max_memory_gb = streaming_chunk_size, max_memory_gb
        own = ("self", "tokenizer", "scratch", "scratch_options")
        self._settings = {name: value for name, value in locals().items() if name not in own}
        settings_of(EncodeSettings, self._settings)
        check_executor(executor, settings_of(BuildSettings, self._settings))
        self._scratch = open_scratch(scratch, scratch_options, DEFAULT_CACHE_DIR)

    @property
    def has_memory_tokens(self) -> bool:
        """Whether rows hold memory tokens."""
        return read_tokenizer(self.tokenizer, self._settings["insert_memory_tokens"]).layout.num_memory_tokens > 0

    def process_dataset_streaming(
        self,
        dataset_name: Any = "squad_v2",
        split: str = "train",
        max_examples: int | None = None,
        cache_manager: CacheManager | None = None,
        max_n_segs: int | None = None,
        *,
        rebuild: bool = False,
        max_shard_rows: int | None = None,
        name: str | None = None,
        identity: str | None = None,
        config_name: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        form: Form | str | None = None,
        columns: Mapping[str, str] | None = None,
        transform: Transform | None = None,
        locate: Locate = "first",
        offsets: Offsets = "characters",
    ) -> int:
        """Encode a dataset chunk by chunk and hand the chunks to a cache manager.

        Args:
            dataset_name: See `process_and_cache_dataset`.
            split: Split of a Hub dataset; a label for everything else.
            max_examples: Read at most this many examples; None reads all.
            cache_manager: A `ChunkedCacheManager`, or any object with ``begin``, ``write_chunk`` and ``finish``; None
                publishes into the default cache directory.
            max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
            rebuild: Build again even where the cache exists.
            max_shard_rows: Rows of a features file at most, where no cache manager is given.
            name: Short name of an object in memory.
            identity: For an iterable or a transform: a text that changes whenever what it gives does.
            config_name: Configuration of a Hub dataset.
            revision: Branch, tag or commit of a Hub dataset.
            token: Credentials for the Hub; never stored.
            form: How records become examples; see `process_and_cache_dataset`, as for all that follow.
            columns: Names of the fields of other records.
            transform: A function of an example that gives none, one or several mappings.
            locate: Which occurrences of answers without offsets are golds.
            offsets: What offsets of answers count.

        Returns:
            The number of features.

        Raises:
            MemxlnetError: As `process_and_cache_dataset`.
        """
        arguments = {**self._settings, **locals()}
        executor = self._settings["executor"]
        scratch = self._scratch
        return _run(dataset_name, split, self.tokenizer, arguments, DEFAULT_CACHE_DIR, cache_manager, executor, scratch)

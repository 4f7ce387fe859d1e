"""One handle on a published cache: built, opened, fetched, read, checked, sent and removed."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal, Self, Unpack, cast, overload

from memxlnet.encode.tokenizer_content import to_transformers
from memxlnet.errors import CacheDamagedError, SettingsError
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.data_table import DataTable
from memxlnet.evaluate.document_tables import documents_table, golds_table
from memxlnet.export.export import ExportFormat, export
from memxlnet.format.lazy_features import ShardSource
from memxlnet.format.manifest import read_manifest
from memxlnet.format.padding import Padding
from memxlnet.format.paths import as_directory
from memxlnet.format.published import PublishedCache
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.collate import Batch
from memxlnet.load.compat import Compat
from memxlnet.load.create import create_evaluation_dataloader
from memxlnet.load.devices import Device
from memxlnet.load.document_group import Group
from memxlnet.load.loader_options import EvaluationOptions, TrainingOptions, check_dataset
from memxlnet.load.option_literals import Align, Dtype, EndedLabel, Lanes, Metadata, OrderBy, Window
from memxlnet.load.segment_loader import RegularDataLoader, regular_loader
from memxlnet.load.segment_metadata import METADATA
from memxlnet.load.statistics import CacheStatistics, read_statistics
from memxlnet.load.steps import Step
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.maintain.encoding_rules import read_content
from memxlnet.maintain.removal import remove_cache
from memxlnet.maintain.verify import DEFAULT_SAMPLE, verify
from memxlnet.notebook import html_table
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.scratch import open_scratch
from memxlnet.remote.stored_builds import built_directory
from memxlnet.report.page import DEFAULT_DOCUMENTS, Predictions, write_report
from memxlnet.settings import (
    DEFAULT_CACHE_DIR,
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_MEMORY_GB,
    DEFAULT_MAX_SEQ_LENGTH,
    DEFAULT_STREAMING_CHUNK_SIZE,
    Keep,
    OnBadExample,
    OnContradiction,
    OnRepeatedId,
    check_bool,
)
from memxlnet.sources import Form, Transform
from memxlnet.sources.forms.form import Locate, Offsets


class Cache(PublishedCache):
    """A published cache, opened for reading.

    ``Cache(directory)`` opens one, as `open` does; `build` and `pull` return one as well. Pickling keeps the path
    and opens the cache again.

    Args:
        directory: The published directory.
        in_memory: Read the files into RAM instead of mapping them.

    Attributes:
        directory: The published directory.
        manifest: What the cache holds and was made from.

    Raises:
        CacheNotFoundError: There is no cache.
        CacheMismatchError: The cache has another format version.
        CacheDamagedError: A file is missing, swapped, truncated or structurally damaged.
        CacheOSError: A file cannot be opened, mapped or read; a `CacheDirectoryError` where access stops it.
    """

    def __init__(self, directory: str | os.PathLike[str], in_memory: bool = False):
        super().__init__(as_directory("directory", directory), check_bool("in_memory", in_memory))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is not None:
            return type(self)._opened, (self.directory, self.source)
        return type(self), (str(self.directory), self.in_memory)

    def __fspath__(self) -> str:
        """Return the directory, so that every call that takes the directory of a cache takes a `Cache` as well."""
        return str(self.directory)

    def _repr_html_(self) -> str:
        manifest = self.manifest
        counts = {f"answers {status}": count for status, count in manifest.alignment.items() if count}
        rows = {
            "source": f"{manifest.name}/{manifest.split}",
            "documents": self.num_documents,
            "segments": self.num_rows,
            **{name: manifest.settings[name] for name in ("max_seq_length", "doc_stride")},
            "memory slots": manifest.layout.num_memory_tokens,
            **counts,
            "size": f"{manifest.num_bytes:,} bytes",
            "directory": self.directory,
        }
        return html_table(type(self).__name__, rows)

    @classmethod
    def build(
        cls,
        source: Any,
        tokenizer: Any,
        *,
        split: str = "train",
        cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
        max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
        doc_stride: int = DEFAULT_DOC_STRIDE,
        max_n_segs: int | None = None,
        max_examples: int | None = None,
        insert_memory_tokens: bool = True,
        on_bad_example: OnBadExample = "error",
        on_contradiction: OnContradiction = "error",
        on_repeated_id: OnRepeatedId = "error",
        keep: Keep = (),
        form: Form | str | None = None,
        columns: Mapping[str, str] | None = None,
        transform: Transform | None = None,
        locate: Locate = "first",
        offsets: Offsets = "characters",
        name: str | None = None,
        identity: str | None = None,
        config_name: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        rebuild: bool = False,
        max_shard_rows: int | None = None,
        streaming_chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE,
        max_memory_gb: float = DEFAULT_MAX_MEMORY_GB,
        num_workers: int | None = None,
        executor: Executor | None = None,
        scratch: str | None = None,
        scratch_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        max_dropped: int | float | None = None,
        max_lost_answers: int | float | None = None,
        work_dir: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Build the cache of a source, or find it built, and open it.

        A cache is used only for the settings, source content and tokenizer content that it was made from. Of several
        processes that ask at once, one builds and the others wait.

        Args:
            source: A file, a list of files, a glob, a directory or a URL; a Hub name; a `datasets` object; a table
                (pyarrow, pandas, polars); or an iterable of mappings with ``question``, ``context``, ``answers`` and
                ``id``. See `memxlnet.sources.open_source`.
            tokenizer: A transformers fast tokenizer.
            split: Split of a Hub dataset or a directory of one; a label for everything else. A slice (``train[:10%]``)
                applies to every source.
            cache_dir: Directory of all caches; or the URL of one in a store, such as ``s3://bucket/caches``. There the
                cache is found, or sent as soon as it is built; what is opened is a copy in `work_dir`.
            max_seq_length: Tokens in a row, special and memory tokens and padding included.
            doc_stride: Overlap of two consecutive segments in tokens (``stride`` in `tokenizers`), not their distance.
            max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
            max_examples: Read at most this many examples; None reads all.
            insert_memory_tokens: False leaves the tokenizer's memory tokens out of the rows.
            on_bad_example: ``"error"``, or ``"drop"`` to count bad examples with their ids and reasons.
            on_contradiction: What to do with contradictory labels: ``"error"`` makes the example a bad one,
                ``"unanswerable"`` and ``"answers"`` count it; see `memxlnet.settings.EncodeSettings`.
            on_repeated_id: ``"error"`` treats an example as bad if an earlier one has its id; ``"number"`` makes the id
                ``ID#2``, ``ID#3``, ...: the first that no earlier example has.
            keep: Names of further fields of the examples that the cache holds as columns, or ``"all"``: `metadata`,
                filters, ``by=`` of splits, figures and `stats` then take them. Their types must not change.
            form: How records become examples: the name of a form of public data (``memxlnet.form_names()``), or a
                `Form`; None recognises it by the first record, and the log names it.
            columns: Names of the fields of other records: ``{"question": "query", "context": "doc.text", ...}``.
            transform: A function of an example that gives none, one or several mappings; with `identity`, or its
                results are digested in a first pass.
            locate: Which occurrences of answers without offsets are golds.
            offsets: What offsets of answers count; ``"characters"`` are code points.
            name: Short name of an object in memory, which the directory of its cache begins with; by default
                ``in-memory``.
            identity: For an iterable or a transform: a text that changes whenever what it gives does.
            config_name: Configuration of a Hub dataset.
            revision: Branch, tag or commit of a Hub dataset.
            token: Credentials for the Hub; never stored.
            rebuild: Build again even where the cache exists.
            max_shard_rows: Rows of a features file at most; None for as few files as Arrow allows.
            streaming_chunk_size: Examples in a chunk of work; changes no byte of the result.
            max_memory_gb: Bound on the RAM of this process and its children, in GiB, pages of mapped files not counted.
            num_workers: Worker processes; 0 encodes in this process, None chooses by the size of the source and the
                cores. They change no byte of the result.
            executor: Any `concurrent.futures.Executor` that encodes the chunks instead. Workers that see the cache
                directory write the chunks into it, others give them back through their futures. It is not shut down.
            scratch: URL of a place in a store, such as ``s3://bucket/tmp``, through which the chunks travel: neither a
                worker nor a builder that dies loses one, and the next build resumes, on any machine. What a build has
                there is removed when its cache is published.
            scratch_options: Options of its file system, such as credentials; never stored or shown.
            progress: Show a progress bar; None shows it where standard error is a terminal.
            max_dropped: Examples that may be dropped (``on_bad_example="drop"``): a count (int), or a share of all
                examples (float). Where more are, nothing is published; finished chunks are kept for the next call.
                None allows all.
            max_lost_answers: Answers that may be lost, in the same way: those that do not occur in their context, or
                that no segment holds whole; a share is one of the documents with such an answer.
            work_dir: With a URL: the local directory in which the cache is built, where an interrupted build resumes;
                by default a directory of this user below that of temporary files.
            storage_options: With a URL: options of the file system, such as credentials; never stored or shown.

        Raises:
            SettingsError: An argument is wrong; raised before any work.
            TokenizerError: The tokenizer cannot be used.
            SourceError: The source is missing, malformed, empty, or has no such split.
            ExampleError: An example is bad, or its id repeats, and `on_bad_example` is ``"error"``.
            CacheError: The cache directory cannot be written, or the existing cache is damaged.
            MemoryLimitError: The work does not fit within `max_memory_gb`.
            LossLimitError: More was lost than `max_dropped` or `max_lost_answers` allows.
            BuildError: A worker ended or failed, or the disk is full; finished chunks are kept for the next call.
            TransferError: The store of the cache or of the chunks cannot be asked or written; what is built and sent is
                kept for the next call.
            MissingLibraryError: The library that serves this kind of URL is not installed.
        """
        arguments = locals()
        chunks = open_scratch(scratch, scratch_options, cache_dir, work_dir, storage_options)
        return cls(built_directory(source, split, tokenizer, arguments, cache_dir, executor, chunks))

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, in_memory: bool = False) -> Self:
        """Open a published cache by its directory; needs no tokenizer.

        Args:
            directory: The published directory.
            in_memory: Read the files into RAM instead of mapping them.

        Raises:
            CacheNotFoundError: It is not a cache; of a directory of caches the message names those that lie in it.
            CacheError: The cache is damaged, or of another format version.
        """
        return cls(directory, in_memory)

    @classmethod
    def pull(
        cls,
        url: str,
        cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
        *,
        replace: bool = False,
        lazy: bool = False,
        local_limit: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Fetch a cache from a store, unless it is in the cache directory already, and open it.

        Args:
            url: The place of the cache, as `push` took it.
            cache_dir: Directory of all caches.
            replace: Fetch the cache even where it exists, and replace it, such as a damaged one.
            lazy: Open it once all but the shards of features are here, and fetch each of those when it is needed, or
                ahead of a loader; see `memxlnet.pull`.
            local_limit: Bytes of shards that may lie in the cache directory; None for no limit. Only with `lazy`.
            storage_options: Options of the file system, such as credentials; never stored or shown.
            progress: Show a progress bar; None shows it where standard error is a terminal.

        Raises:
            MemxlnetError: As `memxlnet.pull`.
        """
        if not check_bool("lazy", lazy) and local_limit is None:
            return cls(pull(url, cache_dir, replace=replace, storage_options=storage_options, progress=progress))
        options: Any = {"replace": replace, "lazy": lazy, "local_limit": local_limit}
        found = pull(url, cache_dir, storage_options=storage_options, progress=progress, **options)
        return cls._opened(found.directory, found.source)

    @classmethod
    def _opened(cls, directory: Path, source: ShardSource | None) -> Self:
        cache = cls.__new__(cls)
        PublishedCache.__init__(cache, directory, source=source)
        return cache

    def dataset(
        self,
        *,
        in_memory: bool = False,
        copies: bool = False,
        dtype: Dtype = "int64",
        compat: Compat | None = None,
        device: Device = None,
    ) -> CacheDataset:
        """Open the segments as a dataset of torch, over its own maps.

        Args:
            in_memory: Read all columns into RAM instead of mapping them.
            copies: Return copies in ``dataset[i]``; else its tensors are views of the map.
            dtype: Type of rows that are copies.
            compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.
            device: Copy all columns to it, and gather on it.

        Raises:
            SettingsError: An argument is wrong, or the device is missing.
        """
        if self.source is not None:
            if check_bool("in_memory", in_memory):
                raise SettingsError(
                    "in_memory: expected False for a lazy cache, found True; pull it without lazy=True, which reads all"
                )
            return CacheDataset.of(self, copies=copies, dtype=dtype, compat=compat, device=device)
        return CacheDataset(
            self.directory, in_memory=in_memory, copies=copies, dtype=dtype, compat=compat, device=device
        )

    @overload
    def loader(
        self,
        batch_size: int = 8,
        shuffle: bool = False,
        *,
        dataset: CacheDataset | None = None,
        max_segments: int | Sequence[int] | None = None,
        lanes: Literal["aligned"] = "aligned",
        num_workers: int = 0,
        **options: Unpack[TrainingOptions],
    ) -> TimeStepMajorDataLoader[Group]: ...

    @overload
    def loader(
        self,
        batch_size: int = 8,
        shuffle: bool = False,
        *,
        dataset: CacheDataset | None = None,
        max_segments: int | Sequence[int] | None = None,
        lanes: Literal["refilled"],
        num_workers: int = 0,
        **options: Unpack[TrainingOptions],
    ) -> TimeStepMajorDataLoader[Step]: ...

    def loader(
        self,
        batch_size: int = 8,
        shuffle: bool = False,
        *,
        dataset: CacheDataset | None = None,
        max_segments: int | Sequence[int] | None = None,
        window: Window = "first",
        lanes: Lanes = "aligned",
        align: Align = "start",
        order: OrderBy = "documents",
        group_by_length: bool = False,
        padding: Padding = "max_length",
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        evaluation: bool = False,
        dtype: Dtype = "int64",
        ended_label: EndedLabel = "ignore",
        metadata: Metadata = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        device: Device = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> TimeStepMajorDataLoader[Any]:
        """Make a loader that feeds documents segment by segment.

        Aligned lanes yield one `Group` of steps after the other, refilled ones each `Step`; see
        `TimeStepMajorDataLoader`.

        Args:
            batch_size: Lanes of a step.
            shuffle: Permute the documents; a pure function of (seed, epoch).
            dataset: The dataset to read, such as one in memory; None opens one.
            max_segments: Read a window of at most this many segments of each document; a sequence has one entry for
                each epoch, the last one for all later ones. None reads all.
            window: Which of them: ``"first"``, ``"random"``, or ``"answer"`` (random, with a segment with the answer).
            lanes: ``"aligned"`` steps through groups of documents side by side; in ``"refilled"`` lanes the next
                document begins where one ends.
            align: Where the documents of a group stand side by side.
            order: ``"documents"``, or ``"shards"``: documents are permuted within blocks of a few shards, and so are
                the blocks, which suits a lazy cache.
            group_by_length: Documents of similar length are read side by side.
            padding: ``"longest"`` cuts the rows of a step to the longest of them.
            pad_to_multiple_of: With it, round the width up to a multiple.
            seed: Seed of every random choice.
            drop_last: Leave out the last, smaller group; with refilled lanes, the end where lanes are done.
            evaluation: Every document is read exactly once across all ranks, unlabelled ones too. `max_segments` still
                cuts documents short, and a collector then misses the rows that are left out.
            dtype: Type of the model's tensors.
            ended_label: Answer positions of lanes without a segment.
            metadata: Names of what a step holds besides its tensors; True for all.
            num_workers: 0 gathers in the caller, 1 or more work ahead in one thread.
            pin_memory: Put the tensors into page-locked memory.
            device: Copy the steps to it, one ahead.
            rank: Number of this process; by default that of `torch.distributed`, or of the environment.
            world_size: Number of processes.

        Raises:
            SettingsError: An argument is wrong, or documents are unlabelled without `evaluation`.
        """
        options = _options(locals())
        return TimeStepMajorDataLoader(self._own(dataset), **options)

    def segment_loader(
        self,
        batch_size: int = 8,
        shuffle: bool = False,
        *,
        dataset: CacheDataset | None = None,
        order: OrderBy = "documents",
        group_by_length: bool = False,
        padding: Padding = "max_length",
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        evaluation: bool = False,
        dtype: Dtype = "int64",
        metadata: Metadata = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        device: Device = None,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        multiprocessing_context: Any = None,
        timeout: float = 0,
        worker_init_fn: Any = None,
    ) -> RegularDataLoader[Batch]:
        """Make a torch `DataLoader` over single segments of any document; it yields each `Batch`.

        Args:
            batch_size: Segments in a batch.
            shuffle: Permute the segments; a pure function of (seed, epoch).
            dataset: The dataset to read, such as one in memory; None opens one.
            order: ``"shards"`` permutes segments within blocks of a few shards, and the blocks, as suits a lazy cache.
            group_by_length: Segments of similar length share a batch.
            padding: ``"longest"`` cuts the rows of a batch to the longest of them.
            pad_to_multiple_of: With it, round the width up to a multiple.
            seed: Seed of every random choice.
            drop_last: Leave out the last, smaller batch.
            evaluation: Read unlabelled documents, too.
            dtype: Type of the model's tensors.
            metadata: Names of what a batch holds besides its tensors; True for all.
            num_workers: Worker processes of torch, which cost more than the gather; 0 is fastest.
            pin_memory: Put the tensors into page-locked memory.
            device: Copy the batches to it.
            persistent_workers: As in torch's `DataLoader`, as all that follow.
            prefetch_factor: Batches that a worker makes ahead.
            multiprocessing_context: How workers are started.
            timeout: Seconds that a batch may take.
            worker_init_fn: A function that a worker calls first.

        Raises:
            SettingsError: An argument is wrong, or documents are unlabelled without `evaluation`.
        """
        options = _options(locals())
        return regular_loader(self._own(dataset), **options)

    @overload
    def evaluation_loader(
        self,
        batch_size: int = 8,
        *,
        dataset: CacheDataset | None = None,
        lanes: Literal["aligned"] = "aligned",
        num_workers: int = 0,
        **options: Unpack[EvaluationOptions],
    ) -> TimeStepMajorDataLoader[Group]: ...

    @overload
    def evaluation_loader(
        self,
        batch_size: int = 8,
        *,
        dataset: CacheDataset | None = None,
        lanes: Literal["refilled"],
        num_workers: int = 0,
        **options: Unpack[EvaluationOptions],
    ) -> TimeStepMajorDataLoader[Step]: ...

    def evaluation_loader(
        self,
        batch_size: int = 8,
        *,
        dataset: CacheDataset | None = None,
        lanes: Lanes = "aligned",
        align: Align = "start",
        order: OrderBy = "documents",
        group_by_length: bool = False,
        padding: Padding = "max_length",
        pad_to_multiple_of: int | None = None,
        dtype: Dtype = "int64",
        ended_label: EndedLabel = "ignore",
        metadata: Metadata = METADATA,
        num_workers: int = 0,
        pin_memory: bool = False,
        device: Device = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> TimeStepMajorDataLoader[Any]:
        """Make a loader that reads every document exactly once, segment by segment, unlabelled ones too.

        The ``rows`` of its steps are what `AnswerCollector.add` takes. The arguments are those of `loader`.

        Args:
            batch_size: Lanes of a step.
            dataset: The dataset to read; None opens one.
            lanes: As in `loader`.
            align: As in `loader`.
            order: As in `loader`.
            group_by_length: As in `loader`.
            padding: As in `loader`.
            pad_to_multiple_of: As in `loader`.
            dtype: As in `loader`.
            ended_label: As in `loader`.
            metadata: As in `loader`; by default the texts, offsets and spans of segments, False spares reading them.
            num_workers: As in `loader`.
            pin_memory: As in `loader`.
            device: As in `loader`.
            rank: As in `loader`.
            world_size: As in `loader`.

        Raises:
            SettingsError: An argument is wrong.
        """
        options = _options(locals())
        return cast(TimeStepMajorDataLoader[Any], create_evaluation_dataloader(self._own(dataset), **options))

    def _own(self, dataset: CacheDataset | None) -> CacheDataset:
        """Return the dataset that a loader reads, which must be over this cache."""
        if dataset is None:
            return self.dataset()
        if check_dataset(dataset).manifest.fingerprint != self.manifest.fingerprint:
            raise SettingsError(f"dataset: expected one over {self.directory}, found one over {dataset.directory}")
        return dataset

    def collector(
        self,
        *,
        dataset: CacheDataset | None = None,
        n_best: int = 20,
        max_answer_length: int | None = 30,
        null_threshold: float = 0.0,
    ) -> AnswerCollector:
        """Make a collector that joins the logits of a document's segments to its answer.

        Args:
            dataset: A view, for the answers of its documents alone; None for all.
            n_best: Spans kept of a document.
            max_answer_length: Tokens of a span at most; None for any number.
            null_threshold: There is no answer where the score of no answer exceeds that of the best span by more.

        Raises:
            SettingsError: An argument is wrong.
        """
        over = self if dataset is None else self._own(dataset)
        return AnswerCollector(over, n_best=n_best, max_answer_length=max_answer_length, null_threshold=null_threshold)

    def stats(self, dataset: CacheDataset | None = None, *, by: str | None = None) -> CacheStatistics:
        """Compute segments of documents, time steps of answers and padding; reads only number columns.

        Args:
            dataset: A view, for the figures of its documents alone; None for all.
            by: A kept column: count the documents by its values.

        Raises:
            SettingsError: The dataset is over another cache, or there is no such column.
        """
        return read_statistics(self, chosen=None if dataset is None else self._own(dataset).chosen, by=by)

    def documents_table(self, dataset: CacheDataset | None = None) -> DataTable:
        """Return a table of documents, in the order of the cache.

        Args:
            dataset: A view, for its documents alone; None for all.

        Returns:
            ``id``, ``question``, ``golds`` (as given), ``alignment``, ``alignment_detail``, ``source``, ``row`` (the
            first of its segments), ``segments`` (their number), ``answer_step`` (the time step of the first that holds
            the answer whole, null where no segment does), ``has_answer_in_segment`` (a list of bools, one for each
            segment), and the kept columns; a kept column with one of these names has ``kept_`` before it.

        Raises:
            SettingsError: The dataset is over another cache.
            CacheDamagedError: A file of the cache is damaged.
        """
        return documents_table(self if dataset is None else self._own(dataset))

    def golds_table(self, dataset: CacheDataset | None = None) -> DataTable:
        """Return a table of all gold answers, each found in its context and in the segments; in the order of the cache.

        Args:
            dataset: A view, for its documents alone; None for all.

        Returns:
            ``id``, ``gold`` (its number in the document), ``text`` and ``given_start`` (as the source gives them),
            ``chosen`` (whether the labels are those of this gold), ``alignment`` (``"exact"``, ``"repaired"``, or why
            it has no place), ``char_start`` and ``char_stop`` (half-open, Unicode code points of the context), ``row``
            and ``step`` of the first segment that holds it whole, and ``has_answer_in_segment`` (a list of bools, one
            for each segment). Null where there is no such place.

        Raises:
            SettingsError: The dataset is over another cache.
            CacheDamagedError: A file of the cache is damaged.
        """
        return golds_table(self if dataset is None else self._own(dataset))

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        predictions: Predictions | None = None,
        against: Predictions | None = None,
        documents: int = DEFAULT_DOCUMENTS,
        replace: bool = False,
    ) -> Path:
        """Write one HTML file about the cache; it needs no network and opens from the disk.

        Args:
            path: The file; it appears when all of it is written.
            predictions: Answers or n-best lists by id, or a file of them as `AnswerCollector.write_predictions` or
                `write_n_best` writes it: to score and to show. Of a list the most probable entry is scored.
            against: Those of another run, to compare with.
            documents: Documents in the page at most, spread over all outcomes; the figures count all documents.
            replace: Replace a file that exists.

        Returns:
            The absolute path of the file.

        Raises:
            SettingsError: An argument is wrong, the file exists, or predictions are missing or for other ids.
            MissingLibraryError: jinja2 or matplotlib is not installed (the extra ``report``).
            CacheOSError: The file cannot be written; a `CacheDirectoryError` where access stops it.
        """
        return write_report(self, **_options(locals()))

    def tokenizer(self) -> Any:
        """Return a transformers fast tokenizer that makes the same cache again.

        Returns:
            A `transformers.PreTrainedTokenizerFast` with the tokens, memory tokens, template and padding side of the
            one that made the cache. It knows two special tokens by name, ``pad_token`` and ``cls_token``; all others,
            such as memory tokens, are found by their text (``convert_tokens_to_ids``). It names ``token_type_ids``
            among its inputs, which models such as GPT-2 must not be given.

        Raises:
            CacheNotFoundError: The cache was removed.
            CacheDamagedError: The file of the tokenizer is damaged.
        """
        try:
            return to_transformers(read_content(self))
        except CacheDamagedError:
            read_manifest(self.directory)  # raises where the whole cache is gone
            raise

    def verify(
        self,
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
        """Check every byte of the cache against its manifest, and that every value can be read safely.

        Args:
            deep: Encode all documents again, as the cache holds them, and compare every column.
            against: The source that the cache was made from: examples of it are encoded again and compared.
            sample: Examples of it that are encoded again; None encodes all of them.
            identity: As in `build`, as all that follow.
            config_name: Configuration of a Hub dataset.
            revision: Branch, tag or commit of a Hub dataset.
            token: Credentials for the Hub; never stored.
            form: How records become examples.
            columns: Names of the fields of other records.
            transform: A function of an example.
            locate: Which occurrences of answers without offsets are golds.
            offsets: What offsets of answers count.

        Raises:
            MemxlnetError: As `memxlnet.verify`.
        """
        verify(self.directory, **_options(locals()))

    def push(
        self,
        url: str,
        *,
        replace: bool = False,
        verify: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Send the cache to a store: the files first, each checked where it arrived, the manifest last.

        Args:
            url: The place of this one cache, such as ``s3://bucket/caches/squad``, ``hf://datasets/...`` or
                ``file://`` and an absolute path.
            replace: Replace one with other settings, or a damaged one.
            verify: Read back what lies in the store and compare its checksum; False compares sizes.
            storage_options: Options of the file system, such as credentials; never stored or shown.
            progress: Show a progress bar; None shows it where standard error is a terminal.

        Raises:
            MemxlnetError: As `memxlnet.push`.
        """
        push(self.directory, **_options(locals()))

    def export(
        self,
        format: ExportFormat,  # noqa: A002 - as in other libraries
        output: str | os.PathLike[str] | None = None,
        *,
        progress: bool | None = None,
    ) -> Path:
        """Write a copy of the cache for other tools; it appears when all of it was read back and compared.

        Args:
            format: ``"parquet"``, ``"jsonl"`` or ``"safetensors"``, a directory of files; or ``"squad"``, one JSON file
                in SQuAD's form.
            output: Where it is put; nothing may be there. None puts it into the working directory, under the name of
                the cache.
            progress: Show a progress bar; None shows it where standard error is a terminal.

        Returns:
            The place of the export.

        Raises:
            SettingsError: An argument is wrong, or something is at the place.
            ExportError: The format cannot hold the cache, or what was read back is something else.
            ExportOSError: The place cannot be written.
            CacheDamagedError: The cache is damaged.
        """
        return export(self, format, output, progress=progress)

    def remove(self) -> int:
        """Remove the cache from the disk, under its builder lock; what is mapped keeps its values.

        Returns:
            The bytes that it took; they are free once no process maps them.

        Raises:
            CacheNotFoundError: It is missing, or its directory holds other things too.
            CacheDirectoryError: There is no permission to remove it.
            BuildError: A builder works on it.
        """
        return remove_cache(self.directory)


def _options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method that are passed on by their names."""
    return {name: value for name, value in arguments.items() if name not in ("self", "dataset")}

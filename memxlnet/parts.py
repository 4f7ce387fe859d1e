"""One handle on files that were built as parts: a cache for each, opened as one dataset."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Self

from memxlnet.builder.compaction import compact_parts
from memxlnet.builder.part_building import build_parts
from memxlnet.cache import Cache
from memxlnet.export.export import ExportFormat, export
from memxlnet.format.joined import joined
from memxlnet.format.opened_parts import open_part, shown_documents, view_of_parts
from memxlnet.format.part_list import OnRepeatedIdAcrossParts, PartList, PartRecord, read_part_list
from memxlnet.format.paths import as_directory
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.statistics import CacheStatistics, read_statistics
from memxlnet.maintain.part_lists import prune_parts, remove_part_list
from memxlnet.maintain.verify import verify
from memxlnet.remote.part_lists import pull_parts, push_parts
from memxlnet.remote.scratch import open_scratch
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
)
from memxlnet.sources import Form, Transform
from memxlnet.sources.forms.form import Locate, Offsets


class Parts:
    """Files that were built as parts, opened through the list of them.

    The list is what it was when this object was made; `refresh` reads it again. Parts that a newer list no longer
    names stay on the disk until `prune`, and what a reader has mapped stays with it even then. Pickling keeps the path
    and reads the list again.

    Args:
        directory: The directory of the list, ``NAME--SPLIT--HASH.parts`` in the cache directory.

    Attributes:
        directory: The directory of the list.
        list: What it says: the parts in the order of their files, and what all of them share.

    Raises:
        CacheNotFoundError: There is no list of parts.
        CacheMismatchError: The list has another format version.
        CacheDamagedError: It is damaged.
        CacheOSError: It cannot be read; a `CacheDirectoryError` where access stops it.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = as_directory("directory", directory)
        self.list: PartList = read_part_list(self.directory)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.directory),)

    def __fspath__(self) -> str:
        return str(self.directory)

    def __len__(self) -> int:
        return len(self.list.parts)

    def __iter__(self) -> Iterator[PartRecord]:
        return iter(self.list.parts)

    def __repr__(self) -> str:
        found = self.list
        return f"{type(self).__name__}({str(self.directory)!r}, {len(self)} parts, {found.documents} documents)"

    @classmethod
    def build(
        cls,
        source: Any,
        tokenizer: Any,
        *,
        files_per_part: int = 1,
        on_repeated_id: OnRepeatedIdAcrossParts = "error",
        name: str | None = None,
        split: str = "train",
        cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
        max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
        doc_stride: int = DEFAULT_DOC_STRIDE,
        max_n_segs: int | None = None,
        insert_memory_tokens: bool = True,
        on_bad_example: OnBadExample = "error",
        on_contradiction: OnContradiction = "error",
        keep: Keep = (),
        form: Form | str | None = None,
        columns: Mapping[str, str] | None = None,
        transform: Transform | None = None,
        locate: Locate = "first",
        offsets: Offsets = "characters",
        identity: str | None = None,
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
    ) -> Self:
        """Build a cache for each file that has none, and open the list of all.

        A part is found again by the content of its files: a new file costs its own encoding, a changed one replaces its
        part, one that is gone drops out of the list, and a file without examples has no part. The list is replaced in
        one step at the end. It is that of the files of the latest call: name them by the same directory or pattern each
        time. Of several processes that ask at once, one builds and the others wait.

        Args:
            source: Files: a path, a list of paths, a glob, a directory or a URL of files.
            tokenizer: A transformers fast tokenizer.
            files_per_part: Files of a part at most. With more than 1, a new file is added to the last part as long as
                it has room, which is then encoded again.
            on_repeated_id: What an id does that is in several parts: ``"error"``, or ``"newest"`` so that the document
                of the last of these parts counts; the dataset leaves the others out. Within one part it is an error.
            name: Short name of the files together, for the directory of the list; None takes that of their directory,
                and then the list belongs to the place of the files.
            split: As in `Cache.build`, without a slice; as all that follow.
            cache_dir: Directory of all caches, on this machine; `push` sends the parts to a store.
            max_seq_length: Tokens in a row, special and memory tokens and padding included.
            doc_stride: Overlap of two consecutive segments in tokens.
            max_n_segs: Keep at most this many segments of a document.
            insert_memory_tokens: False leaves the tokenizer's memory tokens out of the rows.
            on_bad_example: ``"error"`` or ``"drop"``.
            on_contradiction: What to do with contradictory labels.
            keep: Names of further fields of the examples that the caches hold as columns, or ``"all"``.
            form: How records become examples.
            columns: Names of the fields of other records.
            transform: A function of an example; needs `identity`.
            locate: Which occurrences of answers without offsets are golds.
            offsets: What offsets of answers count.
            identity: With a transform: a text that changes whenever its results do.
            token: Credentials for the Hub, for ``hf://``; never stored.
            rebuild: Build every part again.
            max_shard_rows: Rows of a features file at most.
            streaming_chunk_size: Examples in a chunk of work.
            max_memory_gb: Bound on the RAM, in GiB.
            num_workers: Worker processes for each part.
            executor: Any `concurrent.futures.Executor` that encodes the chunks instead.
            scratch: URL of a place in a store through which the chunks of each part travel; see `Cache.build`.
            scratch_options: Options of its file system, such as credentials; never stored or shown.
            progress: Show progress bars.
            max_dropped: Examples of each part that may be dropped.
            max_lost_answers: Answers of each part that may be lost.

        Raises:
            SettingsError: An argument is wrong, or the source is no files; raised before any work.
            SourceError: A file is missing, malformed or read in another way than the first one, or none has examples.
            ExampleError: An example is bad, or an id is in two parts; the former list stays.
            MemxlnetError: As `Cache.build`. Parts that are finished stay, and are found by the next call.
        """
        arguments = _arguments(locals())
        return cls(build_parts(**arguments, scratch=open_scratch(scratch, scratch_options, cache_dir)).directory)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Open parts by the directory of their list; needs neither tokenizer nor files.

        Raises:
            CacheError: There is no list of parts, or it is damaged or of another format version.
        """
        return cls(directory)

    @classmethod
    def pull(
        cls,
        url: str,
        cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
        *,
        replace: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Fetch from a store the parts that are not in the cache directory, then the list, and open it.

        Args:
            url: The place of the parts, as `push` took it.
            cache_dir: Directory of all caches.
            replace: Fetch every part even where it exists, and replace it.
            storage_options: Options of the file system, such as credentials; never stored or shown.
            progress: Show progress bars.

        Raises:
            CacheNotFoundError: There is no list of parts at the place.
            MemxlnetError: As `memxlnet.pull`.
        """
        return cls(pull_parts(url, cache_dir, replace=replace, storage_options=storage_options, progress=progress))

    @property
    def caches(self) -> list[Cache]:
        """The cache of each part, opened, in the order of the files.

        Raises:
            CacheError: One is missing, damaged, or another one than the list names.
        """
        return [open_part(self.directory, part, Cache) for part in self.list.parts]

    def dataset(self) -> CacheDataset:
        """Open all parts as one dataset, in the order of the files.

        Documents whose id a later part has are left out (``on_repeated_id="newest"``): the dataset is a view then.

        Raises:
            CacheError: A part is missing, damaged, or another one than the list names.
        """
        dataset = CacheDataset.of(joined(self.caches))
        shown = shown_documents(self.list)
        return dataset if shown is None else dataset.select(shown)

    def verify(self, *, deep: bool = False) -> None:
        """Check the list as it is on the disk now, and every part: as `Cache.verify`, and which documents are hidden.

        Args:
            deep: Encode all documents again, as the caches hold them, and compare every column.

        Raises:
            SettingsError: `deep` is no bool.
            CacheError: The list or a part is missing or damaged, or a part is another one than the list names; the
                message names which.
        """
        verify(self.directory, deep=deep)

    def stats(self, *, by: str | None = None) -> CacheStatistics:
        """Compute segments of documents, time steps of answers and padding, of all documents that are not hidden.

        Args:
            by: A kept column: count the documents by its values.

        Raises:
            SettingsError: There is no such column.
            CacheError: A part is missing, damaged, or another one than the list names.
        """
        cache, chosen = view_of_parts(self.directory, self.list)
        return read_statistics(cache, chosen=chosen, by=by)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        predictions: Predictions | None = None,
        against: Predictions | None = None,
        documents: int = DEFAULT_DOCUMENTS,
        replace: bool = False,
    ) -> Path:
        """Write one HTML file about all documents that are not hidden; as `Cache.report`.

        Args:
            path: The file; it appears when all of it is written.
            predictions: Answers or n-best lists by id, or a file of them: to score and to show.
            against: Those of another run, to compare with.
            documents: Documents in the page at most; the figures count all that are not hidden.
            replace: Replace a file that exists.

        Returns:
            The absolute path of the file.

        Raises:
            CacheError: A part is missing, damaged, or another one than the list names.
            MemxlnetError: As `Cache.report`.
        """
        return write_report(
            view_of_parts(self.directory, self.list),
            path,
            predictions=predictions,
            against=against,
            documents=documents,
            replace=replace,
        )

    def export(
        self,
        format: ExportFormat,  # noqa: A002 - as in other libraries
        output: str | os.PathLike[str] | None = None,
        *,
        progress: bool | None = None,
    ) -> Path:
        """Write a copy for other tools, as `Cache.export` does of one cache of all documents that are not hidden.

        Each context is in it once, as in the cache that `compact` makes; nothing is compacted for it.

        Args:
            format: ``"parquet"``, ``"jsonl"``, ``"safetensors"`` or ``"squad"``.
            output: Where it is put; nothing may be there. None puts it into the working directory, under the name of
                the list.
            progress: Show a progress bar; None shows it where standard error is a terminal.

        Returns:
            The place of the export.

        Raises:
            CacheError: A part is missing, damaged, or another one than the list names.
            MemxlnetError: As `Cache.export`.
        """
        return export(view_of_parts(self.directory, self.list), format, output, progress=progress)

    def refresh(self) -> Self:
        """Return the parts as the list names them now; this object stays as it is.

        Raises:
            CacheError: The list is gone or damaged.
        """
        return type(self)(self.directory)

    def compact(
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        source: Any = None,
        token: str | None = None,
        max_shard_rows: int | None = None,
        progress: bool | None = None,
    ) -> Cache:
        """Join the parts into one cache whose bytes are those of a build from all files, without encoding; open it.

        The files must be there, unchanged: what identifies the cache is read from them. The parts stay.

        Args:
            cache_dir: Where the cache is published; None for the directory of the parts.
            source: The files, where they lie in another place than when they were built.
            token: Credentials for the Hub, for ``hf://``.
            max_shard_rows: Rows of a features file at most.
            progress: Show a line while another process builds the cache.

        Raises:
            SourceError: The files are no longer those of the parts, or cannot be read.
            BuildError: A build from all files would fail or give other values: an id is in two parts, an example has
                no id, or only some files have answers; or the disk is full.
            CacheError: A part is missing or damaged, or the directory cannot be written.
        """
        target = self.directory.parent if cache_dir is None else as_directory("cache_dir", cache_dir)
        summary = compact_parts(
            self.directory.parent,
            self.list,
            target,
            source=source,
            token=token,
            max_shard_rows=max_shard_rows,
            progress=progress,
        )
        return Cache(summary.directory)

    def push(
        self,
        url: str,
        *,
        replace: bool = False,
        verify: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> list[str]:
        """Send to a store the parts that the list there does not name, then the list as it is on the disk now.

        Args:
            url: The place of all parts, such as ``s3://bucket/caches/docs``; each cache lies below it.
            replace: Replace a list of other settings or a damaged one, and look at every part in the store again.
            verify: Read back what was sent, and compare its checksum.
            storage_options: Options of the file system, such as credentials; never stored or shown.
            progress: Show progress bars.

        Returns:
            The names of the caches that were sent or compared.

        Raises:
            MemxlnetError: As `memxlnet.push`.
        """
        return push_parts(self, url, replace=replace, verify=verify, storage_options=storage_options, progress=progress)

    def prune(self) -> list[Path]:
        """Remove the caches that the list no longer names, unless another list in the directory names them.

        Returns:
            The caches that were removed.

        Raises:
            CacheError: The list is gone or damaged, or the directory cannot be written.
        """
        return prune_parts(self.directory)

    def remove(self, *, caches: bool = True) -> int:
        """Remove the list, and the caches that it names or named, unless another list in the directory names them.

        Args:
            caches: False keeps the caches.

        Returns:
            The number of caches that were removed.

        Raises:
            CacheError: The list is gone or damaged, or the directory cannot be written.
        """
        return remove_part_list(self.directory, caches=caches)


def _arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Parts.build` as `build_parts` takes them."""
    own = ("source", "split", "tokenizer", "cache_dir", "executor", "files_per_part", "on_repeated_id", "name")
    found = {name: arguments[name] for name in own}
    others = {name: value for name, value in arguments.items() if name not in (*own, "cls")}
    return {**found, "arguments": others}

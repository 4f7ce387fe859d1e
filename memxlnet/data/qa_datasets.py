"""The datasets of the earlier code base, and the call that makes one from a cache."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, Literal

from memxlnet.builder.builder import check_executor, find_or_build
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.loss_limits import LossLimits
from memxlnet.data.cache_manager import ChunkedCacheManager, find_cache
from memxlnet.data.hub_caches import WITHOUT_HUB, Wanted, fetch_wanted
from memxlnet.errors import CacheDamagedError, CacheMismatchError, SettingsError, TransferError
from memxlnet.format.manifest import read_manifest
from memxlnet.format.paths import as_directory
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.compat import Compat, check_compat
from memxlnet.load.devices import Device, check_device
from memxlnet.remote.scratch import open_scratch
from memxlnet.remote.stored_builds import built_directory, is_stored
from memxlnet.settings import (
    DEFAULT_CACHE_DIR,
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_MEMORY_GB,
    DEFAULT_MAX_SEQ_LENGTH,
    DEFAULT_STREAMING_CHUNK_SIZE,
    BuildSettings,
    EncodeSettings,
    Keep,
    OnBadExample,
    OnContradiction,
    OnRepeatedId,
    check_bool,
    settings_of,
)
from memxlnet.sources import Form, SourceOptions, Transform
from memxlnet.sources.forms.form import Locate, Offsets


class LazySquadLikeQADataset(CacheDataset):
    """A dataset whose tensors are the page cache: opening reads no row, RAM does not grow with the data.

    Args:
        cache_manager: A `ChunkedCacheManager`, or the directory of the caches.
        dataset_name: What the cache was built from.
        split: Its split.
        cache_params: Settings that the cache must have, such as ``{"max_seq_length": 384}``; ``tokenizer`` compares the
            tokenizer's content. None takes the one cache there is.
        copies: Return copies in ``dataset[i]``.
        dtype: Type of rows that are copies, ``"int64"`` or ``"stored"``; see `CacheDataset`.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.

    Raises:
        CacheNotFoundError: There is no cache of this name and split.
        CacheMismatchError: The existing caches have other settings.
        AmbiguousCacheError: Several caches fit.
    """

    def __init__(
        self,
        cache_manager: CacheWriter | str | os.PathLike[str],
        dataset_name: Any,
        split: str,
        cache_params: Mapping[str, Any] | None = None,
        *,
        copies: bool = False,
        dtype: Literal["int64", "stored"] = "int64",
        compat: Compat | None = None,
    ):
        check_compat(compat)
        if isinstance(cache_manager, CacheWriter):
            cache_dir = cache_manager.cache_dir
        else:
            cache_dir = as_directory("cache_manager", cache_manager)
        if cache_params is not None and not isinstance(cache_params, Mapping):
            raise SettingsError(f"cache_params: expected a mapping of settings, found {type(cache_params).__name__}")
        directory, _ = find_cache(cache_dir, dataset_name, split, cache_params)
        super().__init__(directory, copies=copies, dtype=dtype, compat=compat)

    @property
    def cache_manager(self) -> ChunkedCacheManager:
        """A manager of the directory in which the cache lies."""
        return ChunkedCacheManager(self.directory.parent)


class SquadLikeQADataset(CacheDataset):
    """A dataset whose columns are read into RAM whole; the same interface as the lazy one.

    Constructed directly it builds what it needs: in a temporary directory that is removed with the object, or in
    `cache_dir`.

    Args:
        split: Split of the source.
        tokenizer: A transformers fast tokenizer.
        max_seq_length: Tokens in a row.
        doc_stride: Overlap of two consecutive segments in tokens.
        max_examples: Read at most this many examples; None reads all.
        dataset_name: A file, Hub name, `datasets` object or iterable; see `process_and_cache_dataset`.
        max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
        cache_dir: Directory of the caches; None for a temporary one.
        identity: For an iterable: a text that changes whenever its content does.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.
        device: Copy all columns there instead of into RAM, and gather there.

    Raises:
        MemxlnetError: As `process_and_cache_dataset`.
    """

    _in_memory = True

    def __init__(
        self,
        split: str = "train",
        tokenizer: Any = None,
        max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
        doc_stride: int = DEFAULT_DOC_STRIDE,
        max_examples: int | None = None,
        dataset_name: Any = "squad_v2",
        max_n_segs: int | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        identity: str | None = None,
        compat: Compat | None = None,
        device: Device = None,
    ):
        check_compat(compat, check_device(device))
        arguments = locals()
        settings_of(EncodeSettings, arguments)
        if cache_dir is None:
            # It lives as long as the dataset: workers that unpickle it open the files again.
            cache_dir = tempfile.mkdtemp(prefix="memxlnet-")
            weakref.finalize(self, _remove, cache_dir, os.getpid())
        directory = find_or_build(dataset_name, split, tokenizer, arguments, cache_dir).directory
        super().__init__(directory, in_memory=True, compat=compat, device=device)


def _remove(directory: str, owner: int) -> None:
    # A forked worker ends with a copy of the dataset, which is not the one that the directory goes with.
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def _asks_hub(hub_dataset_id: str | None, use_hub_dataset: bool | None, rebuild: bool) -> bool:
    if use_hub_dataset is not None:
        check_bool("use_hub_dataset", use_hub_dataset)
    asks = hub_dataset_id is not None and use_hub_dataset is not False
    if asks and rebuild:
        raise SettingsError(
            "rebuild: expected False where a cache of the Hub is asked for, found True; pass use_hub_dataset=False to "
            "build, and upload_processed_dataset_to_hub to replace the one on the Hub"
        )
    return asks


def create_dataset_from_cache(
    dataset_name: Any = "squad_v2",
    split: str = "train",
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    max_examples: int | None = None,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
    max_n_segs: int | None = None,
    tokenizer: Any = None,
    hub_dataset_id: str | None = None,
    use_hub_dataset: bool | None = None,
    hub_token: str | None = None,
    use_lazy_loading: bool = True,
    *,
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
    form: Form | str | None = None,
    columns: Mapping[str, str] | None = None,
    transform: Transform | None = None,
    locate: Locate = "first",
    offsets: Offsets = "characters",
    rebuild: bool = False,
    progress: bool | None = None,
    streaming_chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE,
    max_memory_gb: float = DEFAULT_MAX_MEMORY_GB,
    num_workers: int | None = None,
    executor: Executor | None = None,
    scratch: str | None = None,
    scratch_options: Mapping[str, Any] | None = None,
    max_dropped: int | float | None = None,
    max_lost_answers: int | float | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    compat: Compat | None = None,
    device: Device = None,
) -> CacheDataset:
    """Open the cache of a dataset: the one on the Hub where a repository is named, else the local one, else a new one.

    A cache is used only for the settings, source content and tokenizer content that it was made from. Where only others
    of the same source and split exist locally, the log names the fields that differ.

    A repository on the Hub is asked first. What fits is fetched into `cache_dir`, or found there; where its caches of
    the split all differ that is an error, and so is a Hub that cannot be reached or refuses: nothing is silently
    built instead. Only a repository without any cache of the split, which is logged as a warning, leaves the rest to
    the local cache and the build.

    Args:
        dataset_name: A file, Hub name, `datasets` object or iterable; see `process_and_cache_dataset`.
        split: Split of a Hub dataset; a label for everything else.
        cache_dir: Directory of all caches; or, where the Hub is not asked, the URL of one in a store: what is opened is
            a copy in `work_dir`.
        max_examples: Read at most this many examples; None reads all.
        max_seq_length: Tokens in a row.
        doc_stride: Overlap of two consecutive segments in tokens, not their distance.
        max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
        tokenizer: A transformers fast tokenizer. ``LazySquadLikeQADataset.open(directory)`` opens a cache without one;
            without one, a cache on the Hub fits with any tokenizer.
        hub_dataset_id: A dataset repository on the Hub that holds caches. Those are compared by the content of a file
            or object. A plain Hub name is compared by name, and fits no cache that was made of anything but a dataset
            of the Hub; `load_dataset_from_hub` opens any cache by its name.
        use_hub_dataset: False does not ask the Hub even where a repository is named; True and None ask it where one is.
        hub_token: Credentials for that repository, and for a dataset that is read from the Hub; never stored.
        use_lazy_loading: False reads all columns into RAM.
        on_bad_example: ``"error"``, or ``"drop"`` to count bad examples with their ids and reasons.
        on_contradiction: What to do with contradictory labels: ``"error"`` makes the example a bad one,
            ``"unanswerable"`` and ``"answers"`` count it; see `process_and_cache_dataset`.
        on_repeated_id: ``"error"`` treats an example as bad if an earlier one has its id; ``"number"`` makes the id
            ``ID#2``, ``ID#3``, ...: the first that no earlier example has.
        keep: Names of further fields of the examples that the cache holds as columns, or ``"all"``; their types must
            not change.
        insert_memory_tokens: False leaves the tokenizer's memory tokens out of the rows.
        max_shard_rows: Rows of a features file at most, where one is built.
        name: Short name of an object in memory, which the directory of its cache begins with; by default ``in-memory``.
        identity: For an iterable or a transform: a text that changes whenever what it gives does.
        config_name: Configuration of a Hub dataset. Where none is named, a cache on the Hub may be of any: the log
            says (at INFO) what the one that is taken was made of.
        revision: Branch, tag or commit of a Hub dataset, which is the source; `load_dataset_from_hub` takes one of the
            repository that holds the caches.
        form: How records become examples; see `process_and_cache_dataset`, as for the four that follow.
        columns: Names of the fields of other records.
        transform: A function of an example that gives none, one or several mappings.
        locate: Which occurrences of answers without offsets are golds.
        offsets: What offsets of answers count.
        rebuild: Build again even where the cache exists; not together with the Hub.
        progress: Show a progress bar; None shows it where standard error is a terminal.
        streaming_chunk_size: Examples in a chunk of work; changes no byte of the result.
        max_memory_gb: Bound on the RAM of a build; see `process_and_cache_dataset`.
        num_workers: Worker processes of a build; see `process_and_cache_dataset`.
        executor: Encodes the chunks of a build; see `process_and_cache_dataset`, as for the six that follow.
        scratch: URL of a place in a store through which the chunks of a build travel.
        scratch_options: Options of its file system; never stored or shown.
        max_dropped: Examples that may be dropped; a cache that exists, here or on the Hub, is checked as well.
        max_lost_answers: Answers that may be lost, in the same way.
        work_dir: With a URL: the local directory of the copy.
        storage_options: With a URL: options of the file system; never stored or shown.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.
        device: With ``use_lazy_loading=False``, copy all columns to this device instead of into RAM, and gather there.

    Returns:
        A `LazySquadLikeQADataset`, or a `SquadLikeQADataset` without lazy loading.

    Raises:
        CacheMismatchError: The repository has caches of the split, and all differ; the message names the fields.
        AmbiguousCacheError: Several of its caches fit.
        TransferPermissionError: The Hub refuses these credentials.
        TransferError: The Hub cannot be reached, or what arrived is wrong.
        MemxlnetError: As `process_and_cache_dataset`.
    """
    arguments = {**locals(), "token": hub_token}
    check_bool("use_lazy_loading", use_lazy_loading)
    check_compat(compat, check_device(device))
    if device is not None and use_lazy_loading:
        raise SettingsError(
            f"device: expected use_lazy_loading=False, which copies all columns there, found True with {device!r}; a "
            "lazy dataset stays in its files, and a loader takes device= for its steps"
        )
    encode = settings_of(EncodeSettings, arguments)
    build = settings_of(BuildSettings, arguments)
    check_executor(executor, build)
    is_stored(cache_dir, arguments)
    chunks = open_scratch(scratch, scratch_options, cache_dir, work_dir, storage_options)
    directory = None
    if _asks_hub(hub_dataset_id, use_hub_dataset, rebuild) and hub_dataset_id is not None:
        options = settings_of(SourceOptions, arguments)
        wanted = Wanted(dataset_name, split, as_directory("cache_dir", cache_dir), encode, tokenizer, options)
        try:
            directory = fetch_wanted(hub_dataset_id, wanted, progress)
            if directory is not None:
                LossLimits.of(build).check_cache(directory, read_manifest(directory))
        except (TransferError, CacheDamagedError, CacheMismatchError) as error:
            error.add_note(WITHOUT_HUB)
            raise
    if directory is None:
        directory = built_directory(dataset_name, split, tokenizer, arguments, cache_dir, executor, chunks)
    kind = LazySquadLikeQADataset if use_lazy_loading else SquadLikeQADataset
    return kind.open(directory, compat=compat, device=device)

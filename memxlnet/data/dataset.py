"""Datasets, loaders and the cache manager under the earlier module name, with the forms of its calls."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack, overload

from memxlnet.data import hub
from memxlnet.data.cache_manager import ChunkedCacheManager
from memxlnet.data.hub import load_dataset_from_hub
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset, create_dataset_from_cache
from memxlnet.earlier_names import missing
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.load import create
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.collate import Batch
from memxlnet.load.compat import Compat
from memxlnet.load.create import Loader
from memxlnet.load.document_group import Group
from memxlnet.load.loader_options import LoaderOptions, TrainingOptions, check_batch_size, check_dataset
from memxlnet.load.option_literals import Window
from memxlnet.load.segment_loader import RegularDataLoader
from memxlnet.load.steps import Step
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.remote.hub_errors import check_hub_id, check_token
from memxlnet.settings import DEFAULT_CACHE_DIR, DEFAULT_MAX_SEQ_LENGTH, EARLIER_DOC_STRIDE, check_bool, one_of

_WINDOWS: dict[str, Window] = {"first_n": "first", "random_continuous": "random", "answer_centered": "answer"}
"""The windows of the loader, by the names of the earlier strategies."""


@dataclass
class MemoryCollateConfig:
    """What a training loop expects of the memory tokens; a loader checks it against the cache, whose rows hold them.

    Attributes:
        enable: Whether rows hold memory tokens.
        mem_read_ids: Ids of those that read; None for any.
        mem_write_ids: Ids of those that write; None for any.
        max_seq_length: Tokens in a row.
        cls_token_id: Id of ``cls``.
        pad_token_id: Id of padding.
    """

    enable: bool
    mem_read_ids: list[int] | None
    mem_write_ids: list[int] | None
    max_seq_length: int
    cls_token_id: int
    pad_token_id: int

    def check(self, dataset: CacheDataset) -> None:
        """Check that the rows of a dataset are as expected.

        Raises:
            CacheMismatchError: They are not; the message names the field.
        """
        layout = check_dataset(dataset).manifest.layout
        found = {
            "enable": layout.num_memory_tokens > 0,
            "mem_read_ids": list(layout.memory_read_ids),
            "mem_write_ids": list(layout.memory_write_ids),
            "max_seq_length": dataset.manifest.max_seq_length,
            "cls_token_id": layout.cls_id,
            "pad_token_id": layout.pad_id,
        }
        for name, value in found.items():
            expected = getattr(self, name)
            if expected != value and not (expected is None or (name.startswith("mem_") and not self.enable)):
                raise CacheMismatchError(
                    f"memory_collate_config: {name}: expected {expected!r}, found {value!r} in {dataset.directory}; "
                    "build with the tokenizer that configure_memory_tokens changed, or with insert_memory_tokens=False"
                )


@overload
def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    memory_collate_config: MemoryCollateConfig | None = None,
    use_time_step_major: Literal[True] = True,
    *,
    segment_selection_strategy: str | None = None,
    epoch_seed: int | None = None,
    max_segments: int | Sequence[int] | None = None,
    lanes: Literal["aligned"] = "aligned",
    compat: None = None,
    **options: Unpack[TrainingOptions],
) -> TimeStepMajorDataLoader[Group]: ...


@overload
def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    memory_collate_config: MemoryCollateConfig | None = None,
    use_time_step_major: Literal[True] = True,
    *,
    segment_selection_strategy: str | None = None,
    epoch_seed: int | None = None,
    max_segments: int | Sequence[int] | None = None,
    lanes: Literal["refilled"],
    compat: None = None,
    **options: Unpack[TrainingOptions],
) -> TimeStepMajorDataLoader[Step]: ...


@overload
def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    memory_collate_config: MemoryCollateConfig | None = None,
    *,
    use_time_step_major: Literal[False],
    segment_selection_strategy: str | None = None,
    epoch_seed: int | None = None,
    **options: Unpack[LoaderOptions],
) -> RegularDataLoader[Batch]: ...


@overload
def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    memory_collate_config: MemoryCollateConfig | None = None,
    use_time_step_major: bool = True,
    *,
    segment_selection_strategy: str | None = None,
    epoch_seed: int | None = None,
    **options: Unpack[LoaderOptions],
) -> Loader: ...


def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    memory_collate_config: MemoryCollateConfig | None = None,
    use_time_step_major: bool = True,
    *,
    segment_selection_strategy: str | None = None,
    epoch_seed: int | None = None,
    **options: Unpack[LoaderOptions],
) -> Loader:
    """Make a loader.

    Args:
        dataset: A dataset over a cache.
        batch_size: Lanes of a step, or segments in a batch.
        shuffle: Permute documents, or segments; a pure function of (seed, epoch).
        num_workers: Time-step-major: 0 gathers in the caller, 1 or more works ahead in one thread. Else: worker
            processes of torch (which cost more than the gather; 0 is fastest).
        memory_collate_config: What the rows must hold of memory tokens, or None; it changes nothing.
        use_time_step_major: True for documents fed segment by segment, by a `TimeStepMajorDataLoader`; False for
            batches of segments from a torch `DataLoader`, which has ``set_epoch`` and ``epoch_size``, too.
        segment_selection_strategy: An earlier name of ``window``: ``"first_n"`` is ``"first"``,
            ``"random_continuous"`` is ``"random"``, ``"answer_centered"`` is ``"answer"``. Without ``max_segments``
            all segments are read.
        epoch_seed: An earlier name of ``seed``.
        **options: Time-step-major: those of `TimeStepMajorDataLoader`. Else ``seed``, ``drop_last``,
            ``group_by_length`` (rows of similar length share a batch, as `GroupedRows` has it), ``dtype``,
            ``metadata``, ``padding``, ``pad_to_multiple_of``, ``device``, ``compat``, ``evaluation`` and
            ``ended_label`` (which has no effect) as there, and these of torch: ``pin_memory``,
            ``persistent_workers``, ``prefetch_factor``, ``multiprocessing_context``, ``timeout``, ``worker_init_fn``.

    Raises:
        SettingsError: An argument is wrong, or documents are unlabelled without ``evaluation=True``.
        CacheMismatchError: The cache is not what `memory_collate_config` expects.
    """
    for earlier, value, name in (
        ("segment_selection_strategy", segment_selection_strategy, "window"),
        ("epoch_seed", epoch_seed, "seed"),
    ):
        if value is not None and name in options:
            raise SettingsError(f"{name}, {earlier}: expected one of both, found both; {name} is the name now")
    if segment_selection_strategy is not None:
        one_of("segment_selection_strategy", segment_selection_strategy, tuple(_WINDOWS))
        if options.get("max_segments") is not None:
            options["window"] = _WINDOWS[segment_selection_strategy]
    if epoch_seed is not None:
        options["seed"] = epoch_seed
    if memory_collate_config is not None:
        if not isinstance(memory_collate_config, MemoryCollateConfig):
            raise SettingsError(
                "memory_collate_config: expected a MemoryCollateConfig or None, found "
                f"{memory_collate_config!r:.80}; pass use_time_step_major by its name"
            )
        memory_collate_config.check(dataset)
    return create.create_dataloader(dataset, batch_size, shuffle, num_workers, use_time_step_major, **options)


@overload
def create_evaluation_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    num_workers: int = 0,
    use_time_step_major: Literal[True] = True,
    *,
    max_segments: int | Sequence[int] | None = None,
    lanes: Literal["aligned"] = "aligned",
    compat: None = None,
    **options: Unpack[TrainingOptions],
) -> TimeStepMajorDataLoader[Group]: ...


@overload
def create_evaluation_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    num_workers: int = 0,
    use_time_step_major: Literal[True] = True,
    *,
    max_segments: int | Sequence[int] | None = None,
    lanes: Literal["refilled"],
    compat: None = None,
    **options: Unpack[TrainingOptions],
) -> TimeStepMajorDataLoader[Step]: ...


@overload
def create_evaluation_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    num_workers: int = 0,
    *,
    use_time_step_major: Literal[False],
    **options: Unpack[LoaderOptions],
) -> RegularDataLoader[Batch]: ...


@overload
def create_evaluation_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    num_workers: int = 0,
    use_time_step_major: bool = True,
    **options: Unpack[LoaderOptions],
) -> Loader: ...


@overload
def create_evaluation_dataloader(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = EARLIER_DOC_STRIDE,
    batch_size: int = 8,
    max_examples: int | None = None,
    max_n_segs: int | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    use_time_step_major: Literal[True] = True,
    *,
    compat: None = None,
) -> tuple[CacheDataset, TimeStepMajorDataLoader[Group]]: ...


@overload
def create_evaluation_dataloader(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = EARLIER_DOC_STRIDE,
    batch_size: int = 8,
    max_examples: int | None = None,
    max_n_segs: int | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    use_time_step_major: bool = True,
    *,
    compat: Compat | None = None,
) -> tuple[CacheDataset, Loader]: ...


def create_evaluation_dataloader(*arguments: Any, **options: Any) -> Any:
    """Make a loader that reads every document exactly once, in order, with what belongs to its segments.

    ``create_evaluation_dataloader(dataset, batch_size=8, num_workers=0, use_time_step_major=True, **options)`` gives
    the loader. It is `create_dataloader` with ``evaluation=True``, without a shuffle, and with all the metadata of a
    segment (texts, offsets, spans) unless ``metadata`` names which; ``metadata=False`` spares the time of reading them.
    Its ``rows`` are what `AnswerCollector.add` takes. ``max_segments`` cuts documents short, so that a collector misses
    rows; ``group_by_length`` and refilled lanes read the documents in another order, each of them still once.
    Unlabelled documents are read as well, with the positions of unanswerable ones.

    ``create_evaluation_dataloader(dataset_name, split, tokenizer, max_seq_length=384, doc_stride=64, batch_size=8,
    max_examples=None, max_n_segs=None, cache_dir="./memxlnet-cache", use_time_step_major=True, *, compat=None)``
    first finds or builds the cache, as `create_dataset_from_cache` does, and gives the dataset and the loader.

    Args:
        *arguments: In the order of the two forms above.
        **options: By name, those of the form; of the first form also those of `create_dataloader`.
        dataset: A dataset over a cache.
        batch_size: Lanes of a step, or segments in a batch.
        num_workers: As in `create_dataloader`.
        use_time_step_major: True for documents fed segment by segment, dealt out over all ranks; False for batches of
            segments from a torch `DataLoader`, which knows nothing of ranks.
        dataset_name: The source of the cache; see `process_and_cache_dataset`, as for all that follow.
        split: Its split.
        tokenizer: A transformers fast tokenizer.
        max_seq_length: Tokens in a row.
        doc_stride: Overlap of two consecutive segments in tokens.
        max_examples: Read at most this many examples; None reads all.
        max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
        cache_dir: Directory of all caches.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.

    Returns:
        The loader, or the dataset and the loader: a `TimeStepMajorDataLoader`, or a `RegularDataLoader` with
        ``use_time_step_major=False``.

    Raises:
        SettingsError: An argument is wrong, or would leave something out or change the order.
        MemxlnetError: As `create_dataset_from_cache`.
    """
    by_name = "dataset_name" in options or "split" in options or isinstance(_second(arguments), str)
    return (_built_for_evaluation if by_name else create.create_evaluation_dataloader)(*arguments, **options)


def _second(arguments: tuple[Any, ...]) -> Any:
    return arguments[1] if len(arguments) > 1 else None


def _built_for_evaluation(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = EARLIER_DOC_STRIDE,
    batch_size: int = 8,
    max_examples: int | None = None,
    max_n_segs: int | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    use_time_step_major: bool = True,
    *,
    compat: Compat | None = None,
) -> tuple[CacheDataset, Loader]:
    check_batch_size(batch_size)
    check_bool("use_time_step_major", use_time_step_major)
    settings = (max_examples, max_seq_length, doc_stride, max_n_segs, tokenizer)
    dataset = create_dataset_from_cache(dataset_name, split, cache_dir, *settings, compat=compat)
    loader = create.create_evaluation_dataloader(dataset, batch_size, use_time_step_major=use_time_step_major)
    return dataset, loader


@overload
def upload_processed_dataset_to_hub(
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    dataset_name: Any = "squad_v2",
    split: str = "train",
    hub_dataset_id: str | None = None,
    hub_token: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
    cache_params: Any = None,
    revision: str | None = None,
) -> str: ...


@overload
def upload_processed_dataset_to_hub(
    dataset_name: Any,
    split: str,
    hub_dataset_id: str,
    tokenizer: Any,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = EARLIER_DOC_STRIDE,
    max_examples: int | None = None,
    max_n_segs: int | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    hub_token: str | None = None,
    private: bool = False,
) -> str: ...


def upload_processed_dataset_to_hub(*arguments: Any, **options: Any) -> str:
    """Send a cache to a dataset repository on the Hub, whose card then describes it.

    ``upload_processed_dataset_to_hub(cache_dir="./memxlnet-cache", *, hub_dataset_id, dataset_name="squad_v2",
    split="train", hub_token=None, private=False, commit_message=None, cache_params=None, revision=None)`` sends a
    published cache. A repository may hold any number of caches, each in a folder of its published name. All bytes are
    checked before any is sent. The manifest goes last, so that a transfer that ends early leaves no cache; sent again,
    files that are there are not sent twice. The manifest names the path of the source file, where there was one.

    ``upload_processed_dataset_to_hub(dataset_name, split, hub_dataset_id, tokenizer, max_seq_length=384, doc_stride=64,
    max_examples=None, max_n_segs=None, cache_dir="./memxlnet-cache", hub_token=None, private=False)`` first finds or
    builds it, as `create_dataset_from_cache` does.

    Args:
        *arguments: In the order of the two forms above.
        **options: By name, those of the form.
        cache_dir: Directory of all caches; or the directory of one published cache, which needs no name and no split.
        dataset_name: What the cache was built from.
        split: Its split.
        hub_dataset_id: The repository, such as ``"user/name"``; it is created where it is missing.
        hub_token: Credentials that may write; never stored. None takes those that `huggingface_hub` has stored.
        private: Create the repository private; refused where it exists and is public.
        commit_message: What the commits say.
        cache_params: Settings that the cache must have; ``tokenizer`` compares the tokenizer's content.
        revision: The branch of the repository, which must exist; None for the main branch.
        tokenizer: A transformers fast tokenizer, as for a build; it and the settings that follow are those of
            `create_dataset_from_cache`.
        max_seq_length: Tokens in a row.
        doc_stride: Overlap of two consecutive segments in tokens.
        max_examples: Read at most this many examples; None reads all.
        max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.

    Returns:
        The address of the cache in the repository, at the commit that made it whole
        (``https://huggingface.co/datasets/user/name/tree/<commit>/<folder>``).

    Raises:
        SettingsError: An argument is wrong.
        CacheError: There is no such cache, or several, or it is damaged or has other settings.
        TransferError: The cache could not be sent.
        MemxlnetError: As `create_dataset_from_cache`, where it is built.
    """
    if "splits" in options:
        raise SettingsError(
            f"splits: expected one split, as split=, found {options['splits']!r}; call once for each: a repository "
            "holds any number of caches"
        )
    builds = len(arguments) > 1 or "tokenizer" in options
    address: str = (_build_and_upload if builds else hub.upload_processed_dataset_to_hub)(*arguments, **options)
    return address


def _build_and_upload(
    dataset_name: Any,
    split: str,
    hub_dataset_id: str,
    tokenizer: Any,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = EARLIER_DOC_STRIDE,
    max_examples: int | None = None,
    max_n_segs: int | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    hub_token: str | None = None,
    private: bool = False,
) -> str:
    check_hub_id("hub_dataset_id", hub_dataset_id)
    check_token(hub_token)
    check_bool("private", private)
    settings = (max_examples, max_seq_length, doc_stride, max_n_segs, tokenizer)
    directory = create_dataset_from_cache(dataset_name, split, cache_dir, *settings).directory
    return hub.upload_processed_dataset_to_hub(
        directory, hub_dataset_id=hub_dataset_id, hub_token=hub_token, private=private
    )


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = [
    "ChunkedCacheManager",
    "LazySquadLikeQADataset",
    "MemoryCollateConfig",
    "SquadLikeQADataset",
    "TimeStepMajorDataLoader",
    "configure_memory_tokens",
    "create_dataloader",
    "create_dataset_from_cache",
    "create_evaluation_dataloader",
    "load_dataset_from_hub",
    "process_and_cache_dataset",
    "upload_processed_dataset_to_hub",
]

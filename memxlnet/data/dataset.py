"""Datasets, loaders and the cache manager under the earlier module name, with the forms of its calls."""

import os
from dataclasses import dataclass
from typing import Any, Unpack, overload

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
from memxlnet.load.compat import Compat
from memxlnet.load.create import Loader
from memxlnet.load.loader_options import LoaderOptions, check_batch_size, check_dataset
from memxlnet.load.option_literals import Window
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
    use_time_step_major: bool = True,
    *,
    compat: Compat | None = None,
) -> tuple[CacheDataset, Loader]: ...


def create_evaluation_dataloader(*arguments: Any, **options: Any) -> Any:
    """Make a loader that reads every document exactly once, in order, with what belongs to its segments.

    ``create_evaluation_dataloader(dataset, batch_size=8, num_workers=0, use_time_step_major=True, **options)`` gives
    the loader; see `memxlnet.load.create.create_evaluation_dataloader`.

    ``create_evaluation_dataloader(dataset_name, split, tokenizer, max_seq_length=384, doc_stride=64, batch_size=8,
    max_examples=None, max_n_segs=None, cache_dir="./memxlnet-cache", use_time_step_major=True, *, compat=None)``
    first finds or builds the cache, as `create_dataset_from_cache` does, and gives the dataset and the loader.

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

    ``upload_processed_dataset_to_hub(cache_dir, *, hub_dataset_id, dataset_name, split, ...)`` sends a published cache;
    see `memxlnet.data.hub.upload_processed_dataset_to_hub`.

    ``upload_processed_dataset_to_hub(dataset_name, split, hub_dataset_id, tokenizer, max_seq_length=384, doc_stride=64,
    max_examples=None, max_n_segs=None, cache_dir="./memxlnet-cache", hub_token=None, private=False)`` first finds or
    builds it, as `create_dataset_from_cache` does.

    Returns:
        The address of the cache in the repository, at the commit that made it whole.

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

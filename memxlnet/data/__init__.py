"""The calls that users of the earlier code base know; loaded when they are first used."""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

if TYPE_CHECKING:
    from memxlnet.build.process import StreamingSquadProcessor as StreamingSquadProcessor
    from memxlnet.build.process import process_and_cache_dataset as process_and_cache_dataset
    from memxlnet.encode.memory_tokens import configure_memory_tokens as configure_memory_tokens
    from memxlnet.load.cache_manager import ChunkedCacheManager as ChunkedCacheManager
    from memxlnet.load.create import create_dataloader as create_dataloader
    from memxlnet.load.evaluation import create_evaluation_dataloader as create_evaluation_dataloader
    from memxlnet.load.hub import load_dataset_from_hub as load_dataset_from_hub
    from memxlnet.load.hub import upload_processed_dataset_to_hub as upload_processed_dataset_to_hub
    from memxlnet.load.loader import TimeStepMajorDataLoader as TimeStepMajorDataLoader
    from memxlnet.load.qa_datasets import LazySquadLikeQADataset as LazySquadLikeQADataset
    from memxlnet.load.qa_datasets import SquadLikeQADataset as SquadLikeQADataset
    from memxlnet.load.qa_datasets import create_dataset_from_cache as create_dataset_from_cache

_NAMES = {
    "ChunkedCacheManager": "memxlnet.load.cache_manager",
    "LazySquadLikeQADataset": "memxlnet.load.qa_datasets",
    "SquadLikeQADataset": "memxlnet.load.qa_datasets",
    "StreamingSquadProcessor": "memxlnet.build.process",
    "TimeStepMajorDataLoader": "memxlnet.load.loader",
    "configure_memory_tokens": "memxlnet.encode.memory_tokens",
    "create_dataloader": "memxlnet.load.create",
    "create_dataset_from_cache": "memxlnet.load.qa_datasets",
    "create_evaluation_dataloader": "memxlnet.load.evaluation",
    "load_dataset_from_hub": "memxlnet.load.hub",
    "process_and_cache_dataset": "memxlnet.build.process",
    "upload_processed_dataset_to_hub": "memxlnet.load.hub",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    return lazy_names(__name__, _NAMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})

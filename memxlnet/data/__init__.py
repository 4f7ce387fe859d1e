"""The calls of the earlier code base, over everything below; loaded when they are first used."""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

if TYPE_CHECKING:
    from memxlnet.data.chunked_dataset import ChunkedDataset as ChunkedDataset
    from memxlnet.data.chunked_dataset import load_chunked_dataset as load_chunked_dataset
    from memxlnet.data.dataset import ChunkedCacheManager as ChunkedCacheManager
    from memxlnet.data.dataset import LazySquadLikeQADataset as LazySquadLikeQADataset
    from memxlnet.data.dataset import MemoryCollateConfig as MemoryCollateConfig
    from memxlnet.data.dataset import SquadLikeQADataset as SquadLikeQADataset
    from memxlnet.data.dataset import TimeStepMajorDataLoader as TimeStepMajorDataLoader
    from memxlnet.data.dataset import configure_memory_tokens as configure_memory_tokens
    from memxlnet.data.dataset import create_dataloader as create_dataloader
    from memxlnet.data.dataset import create_dataset_from_cache as create_dataset_from_cache
    from memxlnet.data.dataset import create_evaluation_dataloader as create_evaluation_dataloader
    from memxlnet.data.dataset import load_dataset_from_hub as load_dataset_from_hub
    from memxlnet.data.dataset import process_and_cache_dataset as process_and_cache_dataset
    from memxlnet.data.dataset import upload_processed_dataset_to_hub as upload_processed_dataset_to_hub
    from memxlnet.data.streaming import StreamingSquadProcessor as StreamingSquadProcessor
    from memxlnet.data.streaming import create_streaming_processor as create_streaming_processor
    from memxlnet.data.text_utils import normalize_unicode as normalize_unicode

_NAMES = {
    "ChunkedCacheManager": "memxlnet.data.cache_manager",
    "ChunkedDataset": "memxlnet.data.chunked_dataset",
    "LazySquadLikeQADataset": "memxlnet.data.qa_datasets",
    "MemoryCollateConfig": "memxlnet.data.dataset",
    "SquadLikeQADataset": "memxlnet.data.qa_datasets",
    "StreamingSquadProcessor": "memxlnet.data.process",
    "TimeStepMajorDataLoader": "memxlnet.load.time_step_loader",
    "configure_memory_tokens": "memxlnet.encode.memory_tokens",
    "create_dataloader": "memxlnet.data.dataset",
    "create_dataset_from_cache": "memxlnet.data.qa_datasets",
    "create_evaluation_dataloader": "memxlnet.data.dataset",
    "create_streaming_processor": "memxlnet.data.streaming",
    "load_chunked_dataset": "memxlnet.data.chunked_dataset",
    "load_dataset_from_hub": "memxlnet.data.hub",
    "normalize_unicode": "memxlnet.data.text_utils",
    "process_and_cache_dataset": "memxlnet.data.process",
    "upload_processed_dataset_to_hub": "memxlnet.data.dataset",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    return lazy_names(__name__, _NAMES, name)


def __dir__() -> list[str]:
    return sorted({*_NAMES, *(name for name in globals() if name.startswith("__"))})

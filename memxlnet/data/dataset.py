"""Datasets, loaders and the cache manager under the module name of the earlier code base."""

from memxlnet.build.process import process_and_cache_dataset
from memxlnet.earlier_names import missing
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.load.cache_manager import ChunkedCacheManager
from memxlnet.load.create import create_dataloader
from memxlnet.load.evaluation import create_evaluation_dataloader
from memxlnet.load.hub import load_dataset_from_hub, upload_processed_dataset_to_hub
from memxlnet.load.loader import TimeStepMajorDataLoader
from memxlnet.load.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset, create_dataset_from_cache


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = [
    "ChunkedCacheManager",
    "LazySquadLikeQADataset",
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

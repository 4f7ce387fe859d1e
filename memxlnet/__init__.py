"""A memory-mapped columnar feature cache on Apache Arrow for recurrent-memory models on long documents.

The names are loaded when they are first used: importing the package loads neither torch, transformers, datasets nor
pyarrow.
"""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from memxlnet.cache import Cache as Cache
    from memxlnet.data.cache_manager import ChunkedCacheManager as ChunkedCacheManager
    from memxlnet.data.dataset import create_dataloader as create_dataloader
    from memxlnet.data.dataset import create_evaluation_dataloader as create_evaluation_dataloader
    from memxlnet.data.dataset import upload_processed_dataset_to_hub as upload_processed_dataset_to_hub
    from memxlnet.data.hub import load_dataset_from_hub as load_dataset_from_hub
    from memxlnet.data.process import StreamingSquadProcessor as StreamingSquadProcessor
    from memxlnet.data.process import process_and_cache_dataset as process_and_cache_dataset
    from memxlnet.data.qa_datasets import LazySquadLikeQADataset as LazySquadLikeQADataset
    from memxlnet.data.qa_datasets import SquadLikeQADataset as SquadLikeQADataset
    from memxlnet.data.qa_datasets import create_dataset_from_cache as create_dataset_from_cache
    from memxlnet.encode.memory_tokens import configure_memory_tokens as configure_memory_tokens
    from memxlnet.errors import MemxlnetError as MemxlnetError
    from memxlnet.evaluate.ceiling import answer_ceiling as answer_ceiling
    from memxlnet.evaluate.collector import AnswerCollector as AnswerCollector
    from memxlnet.evaluate.metrics import normalize_answer as normalize_answer
    from memxlnet.evaluate.metrics import squad_metrics as squad_metrics
    from memxlnet.load.cache_dataset import CacheDataset as CacheDataset
    from memxlnet.load.carried_state import CarriedState as CarriedState
    from memxlnet.load.carried_state import loss_or_zero as loss_or_zero
    from memxlnet.load.collate import Collate as Collate
    from memxlnet.load.model_inputs import model_inputs as model_inputs
    from memxlnet.load.samplers import GroupedRows as GroupedRows
    from memxlnet.load.samplers import ShuffledRows as ShuffledRows
    from memxlnet.load.time_step_loader import TimeStepMajorDataLoader as TimeStepMajorDataLoader
    from memxlnet.maintain.old_caches import find_old_caches as find_old_caches
    from memxlnet.maintain.old_caches import remove_old_caches as remove_old_caches
    from memxlnet.maintain.removal import find_leftovers as find_leftovers
    from memxlnet.maintain.removal import remove_cache as remove_cache
    from memxlnet.maintain.removal import remove_leftovers as remove_leftovers
    from memxlnet.maintain.verify import verify as verify
    from memxlnet.remote.pull import pull as pull
    from memxlnet.remote.push import push as push
    from memxlnet.sources import Form as Form
    from memxlnet.sources import FormOptions as FormOptions
    from memxlnet.sources import form_names as form_names
    from memxlnet.sources import register_form as register_form

_NAMES = {
    "AnswerCollector": "memxlnet.evaluate.collector",
    "Cache": "memxlnet.cache",
    "CacheDataset": "memxlnet.load.cache_dataset",
    "CarriedState": "memxlnet.load.carried_state",
    "ChunkedCacheManager": "memxlnet.data.cache_manager",
    "Collate": "memxlnet.load.collate",
    "Form": "memxlnet.sources",
    "FormOptions": "memxlnet.sources",
    "GroupedRows": "memxlnet.load.samplers",
    "MemxlnetError": "memxlnet.errors",
    "LazySquadLikeQADataset": "memxlnet.data.qa_datasets",
    "ShuffledRows": "memxlnet.load.samplers",
    "SquadLikeQADataset": "memxlnet.data.qa_datasets",
    "StreamingSquadProcessor": "memxlnet.data.process",
    "TimeStepMajorDataLoader": "memxlnet.load.time_step_loader",
    "answer_ceiling": "memxlnet.evaluate.ceiling",
    "configure_memory_tokens": "memxlnet.encode.memory_tokens",
    "create_dataloader": "memxlnet.data.dataset",
    "create_dataset_from_cache": "memxlnet.data.qa_datasets",
    "create_evaluation_dataloader": "memxlnet.data.dataset",
    "find_leftovers": "memxlnet.maintain.removal",
    "find_old_caches": "memxlnet.maintain.old_caches",
    "form_names": "memxlnet.sources",
    "load_dataset_from_hub": "memxlnet.data.hub",
    "loss_or_zero": "memxlnet.load.carried_state",
    "model_inputs": "memxlnet.load.model_inputs",
    "normalize_answer": "memxlnet.evaluate.metrics",
    "process_and_cache_dataset": "memxlnet.data.process",
    "pull": "memxlnet.remote.pull",
    "push": "memxlnet.remote.push",
    "register_form": "memxlnet.sources",
    "remove_cache": "memxlnet.maintain.removal",
    "remove_leftovers": "memxlnet.maintain.removal",
    "remove_old_caches": "memxlnet.maintain.old_caches",
    "squad_metrics": "memxlnet.evaluate.metrics",
    "upload_processed_dataset_to_hub": "memxlnet.data.dataset",
    "verify": "memxlnet.maintain.verify",
}

__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    return lazy_names(__name__, _NAMES, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})

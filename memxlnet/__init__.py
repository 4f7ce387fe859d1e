"""A memory-mapped columnar feature cache on Apache Arrow for recurrent-memory models on long documents.

The names are loaded when they are first used: importing the package loads neither torch, transformers, datasets nor
pyarrow.
"""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from memxlnet.build.process import StreamingSquadProcessor as StreamingSquadProcessor
    from memxlnet.build.process import process_and_cache_dataset as process_and_cache_dataset
    from memxlnet.data.dataset import create_dataloader as create_dataloader
    from memxlnet.data.dataset import create_evaluation_dataloader as create_evaluation_dataloader
    from memxlnet.data.dataset import upload_processed_dataset_to_hub as upload_processed_dataset_to_hub
    from memxlnet.encode.memory_tokens import configure_memory_tokens as configure_memory_tokens
    from memxlnet.encode.sources import Form as Form
    from memxlnet.encode.sources import FormOptions as FormOptions
    from memxlnet.encode.sources import form_names as form_names
    from memxlnet.encode.sources import register_form as register_form
    from memxlnet.evaluate.ceiling import answer_ceiling as answer_ceiling
    from memxlnet.evaluate.collector import AnswerCollector as AnswerCollector
    from memxlnet.evaluate.metrics import normalize_answer as normalize_answer
    from memxlnet.evaluate.metrics import squad_metrics as squad_metrics
    from memxlnet.load.batches import model_inputs as model_inputs
    from memxlnet.load.cache_manager import ChunkedCacheManager as ChunkedCacheManager
    from memxlnet.load.collate import Collate as Collate
    from memxlnet.load.hub import load_dataset_from_hub as load_dataset_from_hub
    from memxlnet.load.loader import TimeStepMajorDataLoader as TimeStepMajorDataLoader
    from memxlnet.load.qa_datasets import LazySquadLikeQADataset as LazySquadLikeQADataset
    from memxlnet.load.qa_datasets import SquadLikeQADataset as SquadLikeQADataset
    from memxlnet.load.qa_datasets import create_dataset_from_cache as create_dataset_from_cache
    from memxlnet.load.recurrent import CarriedState as CarriedState
    from memxlnet.load.recurrent import loss_or_zero as loss_or_zero
    from memxlnet.load.samplers import GroupedRows as GroupedRows
    from memxlnet.load.samplers import ShuffledRows as ShuffledRows
    from memxlnet.remote.pull import pull as pull
    from memxlnet.remote.push import push as push
    from memxlnet.store.old_caches import find_old_caches as find_old_caches
    from memxlnet.store.old_caches import remove_old_caches as remove_old_caches
    from memxlnet.store.removal import find_leftovers as find_leftovers
    from memxlnet.store.removal import remove_cache as remove_cache
    from memxlnet.store.removal import remove_leftovers as remove_leftovers
    from memxlnet.store.verify import verify as verify

_NAMES = {
    "AnswerCollector": "memxlnet.evaluate.collector",
    "CarriedState": "memxlnet.load.recurrent",
    "ChunkedCacheManager": "memxlnet.load.cache_manager",
    "Collate": "memxlnet.load.collate",
    "Form": "memxlnet.encode.sources",
    "FormOptions": "memxlnet.encode.sources",
    "GroupedRows": "memxlnet.load.samplers",
    "LazySquadLikeQADataset": "memxlnet.load.qa_datasets",
    "ShuffledRows": "memxlnet.load.samplers",
    "SquadLikeQADataset": "memxlnet.load.qa_datasets",
    "StreamingSquadProcessor": "memxlnet.build.process",
    "TimeStepMajorDataLoader": "memxlnet.load.loader",
    "answer_ceiling": "memxlnet.evaluate.ceiling",
    "configure_memory_tokens": "memxlnet.encode.memory_tokens",
    "create_dataloader": "memxlnet.data.dataset",
    "create_dataset_from_cache": "memxlnet.load.qa_datasets",
    "create_evaluation_dataloader": "memxlnet.data.dataset",
    "find_leftovers": "memxlnet.store.removal",
    "find_old_caches": "memxlnet.store.old_caches",
    "form_names": "memxlnet.encode.sources",
    "load_dataset_from_hub": "memxlnet.load.hub",
    "loss_or_zero": "memxlnet.load.recurrent",
    "model_inputs": "memxlnet.load.batches",
    "normalize_answer": "memxlnet.evaluate.metrics",
    "process_and_cache_dataset": "memxlnet.build.process",
    "pull": "memxlnet.remote.pull",
    "push": "memxlnet.remote.push",
    "register_form": "memxlnet.encode.sources",
    "remove_cache": "memxlnet.store.removal",
    "remove_leftovers": "memxlnet.store.removal",
    "remove_old_caches": "memxlnet.store.old_caches",
    "squad_metrics": "memxlnet.evaluate.metrics",
    "upload_processed_dataset_to_hub": "memxlnet.data.dataset",
    "verify": "memxlnet.store.verify",
}

__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    return lazy_names(__name__, _NAMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})

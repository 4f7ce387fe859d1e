"""A memory-mapped columnar feature cache on Apache Arrow for recurrent-memory models on long documents.

The names are loaded when they are first used: importing the package loads neither torch, transformers, datasets nor
pyarrow.
"""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from memxlnet.builder.cache_writer import CacheManager as CacheManager
    from memxlnet.cache import Cache as Cache
    from memxlnet.data.cache_manager import ChunkedCacheManager as ChunkedCacheManager
    from memxlnet.data.dataset import MemoryCollateConfig as MemoryCollateConfig
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
    from memxlnet.evaluate.bootstrap import Interval as Interval
    from memxlnet.evaluate.ceiling import AnswerCeiling as AnswerCeiling
    from memxlnet.evaluate.ceiling import answer_ceiling as answer_ceiling
    from memxlnet.evaluate.collector import AnswerCollector as AnswerCollector
    from memxlnet.evaluate.comparing_texts import normalize_answer as normalize_answer
    from memxlnet.evaluate.data_table import DataTable as DataTable
    from memxlnet.evaluate.document_scores import ScoringOptions as ScoringOptions
    from memxlnet.evaluate.memory_report import MemoryFigures as MemoryFigures
    from memxlnet.evaluate.memory_report import MemoryReport as MemoryReport
    from memxlnet.evaluate.memory_report import memory_report as memory_report
    from memxlnet.evaluate.metrics import squad_metrics as squad_metrics
    from memxlnet.evaluate.no_answer import BestThreshold as BestThreshold
    from memxlnet.evaluate.no_answer import best_threshold as best_threshold
    from memxlnet.evaluate.predictions import AnswerSpan as AnswerSpan
    from memxlnet.evaluate.predictions import DocumentPrediction as DocumentPrediction
    from memxlnet.evaluate.run_comparison import RunComparison as RunComparison
    from memxlnet.evaluate.run_comparison import compare_runs as compare_runs
    from memxlnet.evaluate.run_comparison import metric_intervals as metric_intervals
    from memxlnet.evaluate.score_tables import errors_table as errors_table
    from memxlnet.format.manifest import Manifest as Manifest
    from memxlnet.load.cache_dataset import CacheDataset as CacheDataset
    from memxlnet.load.carried_state import CarriedState as CarriedState
    from memxlnet.load.carried_state import loss_or_zero as loss_or_zero
    from memxlnet.load.collate import Batch as Batch
    from memxlnet.load.collate import Collate as Collate
    from memxlnet.load.document_group import Group as Group
    from memxlnet.load.document_ids import DocumentIds as DocumentIds
    from memxlnet.load.document_ids import DocumentMap as DocumentMap
    from memxlnet.load.epoch_plan import EpochSize as EpochSize
    from memxlnet.load.joining import balance as balance
    from memxlnet.load.joining import concatenate as concatenate
    from memxlnet.load.joining import mix as mix
    from memxlnet.load.loader_options import EvaluationOptions as EvaluationOptions
    from memxlnet.load.loader_options import LoaderOptions as LoaderOptions
    from memxlnet.load.loader_options import TrainingOptions as TrainingOptions
    from memxlnet.load.mixed_dataset import MixedDataset as MixedDataset
    from memxlnet.load.model_inputs import model_inputs as model_inputs
    from memxlnet.load.samplers import GroupedRows as GroupedRows
    from memxlnet.load.samplers import ShuffledRows as ShuffledRows
    from memxlnet.load.segment_loader import RegularDataLoader as RegularDataLoader
    from memxlnet.load.segment_windows import Documents as Documents
    from memxlnet.load.statistics import CacheStatistics as CacheStatistics
    from memxlnet.load.statistics import PaddingShares as PaddingShares
    from memxlnet.load.statistics import UsefulShares as UsefulShares
    from memxlnet.load.steps import Step as Step
    from memxlnet.load.time_step_loader import TimeStepMajorDataLoader as TimeStepMajorDataLoader
    from memxlnet.load.views import TrainTestSplit as TrainTestSplit
    from memxlnet.maintain.old_caches import OldCache as OldCache
    from memxlnet.maintain.old_caches import find_old_caches as find_old_caches
    from memxlnet.maintain.old_caches import remove_old_caches as remove_old_caches
    from memxlnet.maintain.removal import Leftover as Leftover
    from memxlnet.maintain.removal import find_leftovers as find_leftovers
    from memxlnet.maintain.removal import remove_cache as remove_cache
    from memxlnet.maintain.removal import remove_leftovers as remove_leftovers
    from memxlnet.maintain.retention import ExpiredCache as ExpiredCache
    from memxlnet.maintain.retention import find_expired_caches as find_expired_caches
    from memxlnet.maintain.retention import remove_expired_caches as remove_expired_caches
    from memxlnet.maintain.verify import verify as verify
    from memxlnet.parts import Parts as Parts
    from memxlnet.remote.pull import pull as pull
    from memxlnet.remote.push import push as push
    from memxlnet.sources import Form as Form
    from memxlnet.sources import FormOptions as FormOptions
    from memxlnet.sources import form_names as form_names
    from memxlnet.sources import register_form as register_form

_NAMES = {
    "AnswerCeiling": "memxlnet.evaluate.ceiling",
    "AnswerCollector": "memxlnet.evaluate.collector",
    "AnswerSpan": "memxlnet.evaluate.predictions",
    "Batch": "memxlnet.load.collate",
    "BestThreshold": "memxlnet.evaluate.no_answer",
    "Cache": "memxlnet.cache",
    "CacheDataset": "memxlnet.load.cache_dataset",
    "CacheManager": "memxlnet.builder.cache_writer",
    "CacheStatistics": "memxlnet.load.statistics",
    "CarriedState": "memxlnet.load.carried_state",
    "ChunkedCacheManager": "memxlnet.data.cache_manager",
    "Collate": "memxlnet.load.collate",
    "DataTable": "memxlnet.evaluate.data_table",
    "DocumentIds": "memxlnet.load.document_ids",
    "DocumentMap": "memxlnet.load.document_ids",
    "DocumentPrediction": "memxlnet.evaluate.predictions",
    "Documents": "memxlnet.load.segment_windows",
    "EpochSize": "memxlnet.load.epoch_plan",
    "EvaluationOptions": "memxlnet.load.loader_options",
    "ExpiredCache": "memxlnet.maintain.retention",
    "Form": "memxlnet.sources",
    "FormOptions": "memxlnet.sources",
    "Group": "memxlnet.load.document_group",
    "GroupedRows": "memxlnet.load.samplers",
    "Interval": "memxlnet.evaluate.bootstrap",
    "LazySquadLikeQADataset": "memxlnet.data.qa_datasets",
    "Leftover": "memxlnet.maintain.removal",
    "LoaderOptions": "memxlnet.load.loader_options",
    "Manifest": "memxlnet.format.manifest",
    "MemoryCollateConfig": "memxlnet.data.dataset",
    "MemoryFigures": "memxlnet.evaluate.memory_report",
    "MemoryReport": "memxlnet.evaluate.memory_report",
    "MemxlnetError": "memxlnet.errors",
    "MixedDataset": "memxlnet.load.mixed_dataset",
    "OldCache": "memxlnet.maintain.old_caches",
    "PaddingShares": "memxlnet.load.statistics",
    "Parts": "memxlnet.parts",
    "RegularDataLoader": "memxlnet.load.segment_loader",
    "RunComparison": "memxlnet.evaluate.run_comparison",
    "ScoringOptions": "memxlnet.evaluate.document_scores",
    "ShuffledRows": "memxlnet.load.samplers",
    "SquadLikeQADataset": "memxlnet.data.qa_datasets",
    "Step": "memxlnet.load.steps",
    "StreamingSquadProcessor": "memxlnet.data.process",
    "TimeStepMajorDataLoader": "memxlnet.load.time_step_loader",
    "TrainingOptions": "memxlnet.load.loader_options",
    "TrainTestSplit": "memxlnet.load.views",
    "UsefulShares": "memxlnet.load.statistics",
    "answer_ceiling": "memxlnet.evaluate.ceiling",
    "balance": "memxlnet.load.joining",
    "best_threshold": "memxlnet.evaluate.no_answer",
    "compare_runs": "memxlnet.evaluate.run_comparison",
    "concatenate": "memxlnet.load.joining",
    "configure_memory_tokens": "memxlnet.encode.memory_tokens",
    "create_dataloader": "memxlnet.data.dataset",
    "create_dataset_from_cache": "memxlnet.data.qa_datasets",
    "create_evaluation_dataloader": "memxlnet.data.dataset",
    "errors_table": "memxlnet.evaluate.score_tables",
    "find_expired_caches": "memxlnet.maintain.retention",
    "find_leftovers": "memxlnet.maintain.removal",
    "find_old_caches": "memxlnet.maintain.old_caches",
    "form_names": "memxlnet.sources",
    "load_dataset_from_hub": "memxlnet.data.hub",
    "loss_or_zero": "memxlnet.load.carried_state",
    "memory_report": "memxlnet.evaluate.memory_report",
    "metric_intervals": "memxlnet.evaluate.run_comparison",
    "mix": "memxlnet.load.joining",
    "model_inputs": "memxlnet.load.model_inputs",
    "normalize_answer": "memxlnet.evaluate.comparing_texts",
    "process_and_cache_dataset": "memxlnet.data.process",
    "pull": "memxlnet.remote.pull",
    "push": "memxlnet.remote.push",
    "register_form": "memxlnet.sources",
    "remove_cache": "memxlnet.maintain.removal",
    "remove_expired_caches": "memxlnet.maintain.retention",
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

"""The calls that users of the earlier code base know; loaded when they are first used."""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

if TYPE_CHECKING:
    from memxlnet.build.process import process_and_cache_dataset as process_and_cache_dataset
    from memxlnet.encode.memory_tokens import configure_memory_tokens as configure_memory_tokens
    from memxlnet.load.create import create_dataloader as create_dataloader
    from memxlnet.load.qa_datasets import create_dataset_from_cache as create_dataset_from_cache

_NAMES = {
    "configure_memory_tokens": "memxlnet.encode.memory_tokens",
    "create_dataloader": "memxlnet.load.create",
    "create_dataset_from_cache": "memxlnet.load.qa_datasets",
    "process_and_cache_dataset": "memxlnet.build.process",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    return lazy_names(__name__, _NAMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})

"""The streaming processor under the module name of the earlier code base."""

from typing import Any

from memxlnet.data.process import StreamingSquadProcessor
from memxlnet.earlier_names import missing
from memxlnet.settings import (
    DEFAULT_MAX_MEMORY_GB,
    DEFAULT_MAX_SEQ_LENGTH,
    DEFAULT_STREAMING_CHUNK_SIZE,
    EARLIER_DOC_STRIDE,
)


def create_streaming_processor(
    tokenizer: Any,
    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
    doc_stride: int = EARLIER_DOC_STRIDE,
    streaming_chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE,
    max_memory_gb: float = DEFAULT_MAX_MEMORY_GB,
) -> StreamingSquadProcessor:
    """Make a `StreamingSquadProcessor`.

    Args:
        tokenizer: A transformers fast tokenizer.
        max_seq_length: Tokens in a row.
        doc_stride: Overlap of two consecutive segments in tokens; less by default than that of the other calls.
        streaming_chunk_size: Examples in a chunk of work.
        max_memory_gb: Bound on the RAM of the build, in GiB.

    Raises:
        SettingsError: A setting is wrong.
    """
    return StreamingSquadProcessor(tokenizer, max_seq_length, doc_stride, streaming_chunk_size, max_memory_gb)


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = ["StreamingSquadProcessor", "create_streaming_processor"]

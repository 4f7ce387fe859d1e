"""Cutting a source into chunks, counted in examples and in the RAM that encoding them will take."""

from collections.abc import Iterator

from memxlnet.encode.examples import BadExample, Example, bad_example, parse_example
from memxlnet.encode.sources import Source
from memxlnet.errors import ExampleError, MemoryLimitError
from memxlnet.settings import BuildSettings, EncodeSettings

Chunk = list[Example | BadExample]

# Measured on English text: the Rust encoding, its Python values and the text take some 60 bytes a character.
_TEXT_BYTES = 100
_CHARACTERS_PER_TOKEN = 3
_ROW_COPIES = 4

CHUNK_SHARE = 0.2
"""Share of the bound that one chunk may take: up to four are in work, and the process has its own needs."""


class CostModel:
    """An estimate, on the safe side, of the bytes that encoding examples takes."""

    def __init__(self, settings: EncodeSettings):
        self._length = settings.max_seq_length
        self._step = max(settings.max_seq_length - settings.doc_stride, settings.max_seq_length // 4, 1)
        self._max_segments = settings.max_n_segs
        self._row_bytes = _ROW_COPIES * 6 * settings.max_seq_length

    def example(self, example: Example, context_is_new: bool) -> int:
        """Bytes that one more example of a chunk takes."""
        segments = 1 + len(example.context) // _CHARACTERS_PER_TOKEN // self._step
        if self._max_segments is not None:
            segments = min(segments, self._max_segments)
        text = len(example.question) + (len(example.context) if context_is_new else 0)
        return _TEXT_BYTES * text + segments * self._row_bytes


def read_chunks(source: Source, encode: EncodeSettings, build: BuildSettings, chunk_size: int) -> Iterator[Chunk]:
    """Cut a source into chunks; the same source and settings always give the same ones.

    Args:
        source: Where the examples come from.
        encode: ``max_examples`` ends the reading, ``on_bad_example`` decides what a malformed row does.
        build: ``max_memory_gb`` closes a chunk early.
        chunk_size: Examples in a chunk at most.

    Raises:
        ExampleError: A row is malformed, and bad examples are errors.
        MemoryLimitError: One example alone does not fit.
        SourceError: The source cannot be read.
    """
    budget = int(build.max_memory_gb * CHUNK_SHARE * 2**30)
    model = CostModel(encode)
    chunk: Chunk = []
    cost = 0
    contexts: set[str] = set()
    for example in _read_examples(source, encode):
        added = 0
        if isinstance(example, Example):
            added = model.example(example, example.context not in contexts)
            if added > budget:
                raise MemoryLimitError(
                    f"{source.name}, example {example.id!r} (row {example.row}): encoding its context of "
                    f"{len(example.context)} characters may take {added / CHUNK_SHARE / 2**30:.2f} GiB; expected at "
                    f"most max_memory_gb {build.max_memory_gb}; raise it, or set max_n_segs"
                )
        if chunk and (len(chunk) == chunk_size or cost + added > budget):
            yield chunk
            chunk, cost, contexts = [], 0, set()
            if isinstance(example, Example):
                added = model.example(example, context_is_new=True)
        chunk.append(example)
        cost += added
        if isinstance(example, Example):
            contexts.add(example.context)
    if chunk:
        yield chunk


def _read_examples(source: Source, settings: EncodeSettings) -> Iterator[Example | BadExample]:
    if settings.max_examples == 0:
        return
    name = source.name
    for row, raw in enumerate(source.rows()):
        try:
            yield parse_example(row, raw, name)
        except ExampleError as error:
            if settings.on_bad_example == "error":
                raise
            yield bad_example(row, raw, error)
        if row + 1 == settings.max_examples:
            return

"""Caches of any size: the first copy is encoded, the others repeat its token columns with other ids."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from benchmarks.data import Data, data, long_file, rows_of, tokenizer, whole_file, work
from memxlnet import configure_memory_tokens
from memxlnet.builder.chunk_survey import ChunkSurvey
from memxlnet.builder.chunks_to_shards import Chunks, Publisher
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import parse_example
from memxlnet.encode.tokenizer_content import TokenizerContent, read_tokenizer
from memxlnet.settings import EncodeSettings

MAX_SEQ_LENGTH, DOC_STRIDE = 384, 128

MEMORY_TOKENS = 4
"""READ tokens in each row of these caches, and as many WRITE tokens."""

CHUNK_EXAMPLES = 2000

Tables = dict[str, pa.RecordBatch]


class NoSpaceError(Exception):
    """A cache does not fit on the disk."""


class _Repeated(Publisher):
    """Publishes copies of encoded chunks, which are generated on the fly, so that nothing is written twice.

    Args:
        base: The encoded chunks.
        rows: Minimum number of segments.
        own_contexts: Make the contexts of each copy distinct; else all copies share those of the first.
    """

    def __init__(self, base: Sequence[Tables], rows: int, own_contexts: bool, settings: CacheSettings, limit: Any):
        self._base = base
        self._own_contexts = own_contexts
        self._copies = _copies(base, rows)
        counts = [{name: table.num_rows for name, table in chunk.items()} for chunk in base] * self._copies
        totals = {name: sum(count[name] for count in counts) for name in counts[0]}
        super().__init__(Chunks(totals, self._copied, map(ChunkSurvey.of, self._copied()), 0), settings, limit)

    def _copied(self, _: Collection[str] = ()) -> Iterator[Tables]:
        for copy in range(self._copies):
            for chunk in self._base:
                documents = _renamed(chunk["documents"], f"{copy}-")
                contexts = _marked(chunk["contexts"], copy) if self._own_contexts else chunk["contexts"]
                yield {**chunk, "documents": documents, "contexts": contexts}


def _copies(base: Sequence[Tables], rows: int) -> int:
    return -(-rows // _rows(base))


def _rows(base: Sequence[Tables]) -> int:
    return sum(int(chunk["features"].num_rows) for chunk in base)


def _renamed(batch: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
    index = batch.schema.get_field_index("id")
    values = pa.array([prefix + value for value in batch.column(index).to_pylist()], pa.large_string())
    return batch.set_column(index, batch.schema.field(index), values)


def _marked(batch: pa.RecordBatch, copy: int) -> pa.RecordBatch:
    """Overwrite the first characters of each context with the number of the copy, so that no span moves."""
    mark = f"{copy:06d}"
    texts = pa.array([mark + text[len(mark) :] for text in batch.column(0).to_pylist()], pa.large_string())
    return batch.set_column(0, batch.schema.field(0), texts)


def question_cache(rows: int, shards: int = 1) -> Path:
    """Return a cache of the file's questions with at least `rows` segments; the contexts of each copy are distinct."""
    return _published("questions", rows, shards, MAX_SEQ_LENGTH)


def long_cache(rows: int, length: int = MAX_SEQ_LENGTH, shards: int = 1) -> Path:
    """Return a cache of long documents, one context per article, with at least `rows` segments."""
    return _published("long", rows, shards, length)


def whole_cache(rows: int) -> Path:
    """Return a cache of documents over the whole text of the file, repeated twice, with at least `rows` segments."""
    return _published("whole", rows, 1, MAX_SEQ_LENGTH)


def _published(kind: str, rows: int, shards: int, length: int) -> Path:
    content, encode = _tokenizer(), EncodeSettings(max_seq_length=length, doc_stride=length // 3)
    source = {"kind": "benchmark", "rows": rows, "shards": shards, "chunk examples": CHUNK_EXAMPLES}
    settings = CacheSettings("benchmark", kind, encode, source, content)
    final = work() / "caches" / f"{kind}-{rows}-{shards}-{length}-{settings.fingerprint[:12]}"
    if final.is_dir():
        return final
    needed = rows * (6 * length + 400)
    free = shutil.disk_usage(final.parents[1]).free
    if free < 1.2 * needed:
        raise NoSpaceError(
            f"a cache of {rows:,} segments needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        )
    base = _encoded(data(), kind, length, rows)
    actual = _copies(base, rows) * _rows(base)
    limit = -(-actual // shards) if shards > 1 else None
    staging = final.with_name(f"{final.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    _Repeated(base, rows, kind == "questions", settings, limit).publish(staging)
    return staging.rename(final)


@cache
def _encoded(_: Data, kind: str, length: int, rows: int) -> list[Tables]:
    """Encode the file, but stop at `rows` segments; for long documents at half of them, and about 5,000 at most."""
    enough = rows if kind == "questions" else min(rows // 2, 5000)
    content, encode = _tokenizer(), EncodeSettings(max_seq_length=length, doc_stride=length // 3)
    encoder = Encoder(content.backend, content.layout, encode)
    examples, size = _examples(kind)
    chunks: list[Tables] = []
    for start in range(0, len(examples), size):
        numbered = enumerate(examples[start : start + size], start)
        chunks.append(encoder.encode([parse_example(number, row, kind) for number, row in numbered]))
        if _rows(chunks) >= enough:
            break
    return chunks


def _tokenizer() -> TokenizerContent:
    with_memory = tokenizer()
    configure_memory_tokens(with_memory, MEMORY_TOKENS)
    return read_tokenizer(with_memory)


def _examples(kind: str) -> tuple[list[dict[str, Any]], int]:
    """Return the examples and the number of examples in a chunk."""
    if kind == "questions":
        return rows_of(data().file), CHUNK_EXAMPLES
    return (rows_of(long_file(10)), 10) if kind == "long" else (rows_of(whole_file(10)), 1)


def random_batches(size: int, num_rows: int, number: int = 200) -> list[Tensor]:
    """Return `number` batches of random rows, int64[size] each."""
    rows = random_rows(number * size, num_rows, seed=size)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def random_rows(count: int, num_rows: int, seed: int = 0) -> Tensor:
    """Return random rows, int64[count]."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, num_rows, count))

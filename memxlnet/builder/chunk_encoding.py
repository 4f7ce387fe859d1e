"""The work on one chunk, wherever it is done: raw examples in, a chunk file and its receipt out.

A worker loads neither transformers nor torch: the encoder comes from the files of the build's directory.
"""

import contextlib
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from arrow_schemas import DROPPED, KEPT
from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.chunk_files import CHUNK_TABLES, with_examples_digest, write_chunk
from memxlnet.builder.context_numbering import number_contexts, text_digests
from memxlnet.builder.encoding_cost import CostModel
from memxlnet.builder.reported_errors import error_fields
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import BadExample, Example
from memxlnet.format.file_layout import column_values
from memxlnet.format.ragged import Ints
from memxlnet.settings import EncodeSettings

Examples = Sequence[Example | BadExample]
Tables = Mapping[str, pa.RecordBatch]
Encoding = tuple[Encoder, EncodeSettings]

_PARALLELISM = "TOKENIZERS_PARALLELISM"
_encoders = threading.local()


def pack(examples: Examples, kept: pa.RecordBatch | None = None) -> bytes:
    """Return the examples of a chunk as JSON, column by column; a context that several share is held once.

    Args:
        examples: The examples.
        kept: The kept fields of the good ones, which JSON holds as a stream of Arrow in base64.
    """
    good = [example for example in examples if isinstance(example, Example)]
    bad = [list(example) for example in examples if isinstance(example, BadExample)]
    numbers: dict[str, int] = {}
    columns = [
        [example.row for example in good],
        [example.id for example in good],
        [example.question for example in good],
        [numbers.setdefault(example.context, len(numbers)) for example in good],
        [example.answer_texts for example in good],
        [example.answer_starts for example in good],
        [example.labelled for example in good],
        [example.answer_kind for example in good],
        [example.contradiction for example in good],
    ]
    packed = [list(numbers), columns, bad]
    return orjson.dumps(packed if kept is None else [*packed, b64encode(_as_stream(kept)).decode()])


def unpack(packed: bytes) -> list[Example | BadExample]:
    """Return the examples that `pack` packed, in order of rows: a split chunk must lose its examples in that order."""
    return unpack_with_kept(packed)[0]


def unpack_with_kept(packed: bytes) -> tuple[list[Example | BadExample], pa.RecordBatch | None]:
    """Return what `pack` packed: the examples in order of rows, and the kept fields of the good ones."""
    contexts, (rows, ids, questions, numbers, texts, starts, *labels), bad, *stream = orjson.loads(packed)
    shared = map(contexts.__getitem__, numbers)
    good = map(Example, rows, ids, questions, shared, map(tuple, texts), map(tuple, starts), *labels)
    examples: list[Example | BadExample] = list(good)
    if bad:
        examples = sorted([*examples, *(BadExample(*entry) for entry in bad)], key=itemgetter(0))
    return examples, _of_stream(b64decode(stream[0])) if stream else None


def _as_stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _of_stream(content: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(content) as reader:
        return reader.read_next_batch()


def examples_digest(packed: bytes) -> str:
    """Return a digest of a chunk's raw examples as `pack` packs them, in hexadecimal: equal examples, equal bytes."""
    return xxhash.xxh3_128_hexdigest(packed)


def encode_chunk(directory: str, index: int, packed: bytes, part_cost: int, builder: int) -> dict[str, Any]:
    """Encode one chunk and write its file. Runs in a worker.

    Args:
        directory: The build's directory.
        index: Number of the chunk.
        packed: Its examples.
        part_cost: Bytes that encoding may take at once; the chunk is split where it would take more.
        builder: Process that builds; any other one is a worker.

    Returns:
        ``receipt``, the fields of a `ChunkReceipt`; or ``error``, ``message``, ``errno`` and ``traceback`` of whatever
        was raised: no exception crosses processes, so none can fail to.
    """
    try:
        tables = encoded(partial(_encoder, directory), packed, part_cost, builder)
        build = BuildDirectory(Path(directory))
        with build.errors():
            return {"receipt": asdict(write_chunk(build.chunks, index, tables))}
    except BaseException as error:
        return error_fields(error)


def encoded(encoder_of: Callable[[], Encoding], packed: bytes, part_cost: int, builder: int) -> Tables:
    """Return the tables of a chunk, marked with the digest of its examples; arguments as of `encode_chunk`.

    Args:
        encoder_of: Gives the encoder.
        packed: The examples.
        part_cost: Bytes that encoding may take at once.
        builder: Process that builds.
    """
    with _one_thread if os.getpid() != builder else contextlib.nullcontext():
        encoder, settings = encoder_of()
        examples, kept = unpack_with_kept(packed)
        tables = with_kept(encode_in_parts(encoder, settings, examples, part_cost), examples, kept)
        return with_examples_digest(tables, examples_digest(packed))


def kept_encoder(name: str, make: Callable[[], Encoding]) -> Encoding:
    """Return an encoder by a name, one for each thread: it is not thread-safe. Only the last one is kept."""
    if getattr(_encoders, "name", None) != name:
        _encoders.found = make()
        _encoders.name = name
    found: Encoding = _encoders.found
    return found


def _encoder(directory: str) -> Encoding:
    return kept_encoder(directory, BuildDirectory(Path(directory)).read_encoder)


class _OneThread:
    """Keeps the tokenizer of a worker process to one thread while any of its threads encodes.

    The environment sets it, and is restored. A forked worker would otherwise print a warning, and workers would
    get in each other's way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: str | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = os.environ.get(_PARALLELISM)
                os.environ[_PARALLELISM] = "false"
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if self._before is None:
                os.environ.pop(_PARALLELISM, None)
            else:
                os.environ[_PARALLELISM] = self._before


_one_thread = _OneThread()


def encode_in_parts(encoder: Encoder, settings: EncodeSettings, examples: Examples, part_cost: int) -> Tables:
    """Encode a chunk in parts that each take at most `part_cost` bytes (or are one example)."""
    parts = list(CostModel(settings).cut(examples, len(examples), part_cost))
    return merge([encoder.encode(part) for part, _ in parts])


def with_kept(tables: Tables, examples: Examples, kept: pa.RecordBatch | None) -> Tables:
    """Return the tables of a chunk with the kept fields of its documents; as they are where nothing is kept.

    Args:
        tables: Its tables.
        examples: Its examples; those that encoding dropped have no row.
        kept: The kept fields of the good ones.
    """
    if kept is None:
        return tables
    if not kept.num_columns:
        return {**tables, KEPT: kept}
    lost = set(tables[DROPPED]["row"].to_pylist())
    stays = pa.array([example.row not in lost for example in examples if isinstance(example, Example)], pa.bool_())
    return {**tables, KEPT: kept.filter(stays)}


def merge(parts: Sequence[Tables]) -> Tables:
    """Return the tables of a chunk from those of its parts.

    Row numbers count from the chunk's start again, and a context that several parts share is held once.
    """
    if len(parts) == 1:
        return parts[0]
    merged = {name: _joined([tables[name] for tables in parts]) for name in CHUNK_TABLES}
    contexts = number_contexts(
        (text_digests(tables["contexts"]["text"]) for tables in parts), merged["contexts"].num_rows
    )
    firsts = np.unique(contexts, return_index=True)[1]
    if len(firsts) < len(contexts):
        merged["contexts"] = merged["contexts"].take(pa.array(firsts))
    documents = merged["documents"]
    used = contexts[column_values(documents["context"]) + _bases(parts, "documents", "contexts")]
    first_segments = column_values(documents["first_segment"]) + _bases(parts, "documents", "features")
    merged["documents"] = _replace(_replace(documents, "context", used), "first_segment", first_segments)
    of_segments = column_values(merged["features"]["document"]) + _bases(parts, "features", "documents")
    merged["features"] = _replace(merged["features"], "document", of_segments)
    return merged


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    joined = pa.Table.from_batches(batches).combine_chunks().to_batches()
    # A table without rows has no batch.
    return joined[0] if joined else batches[0]


def _bases(parts: Sequence[Tables], table: str, counted: str) -> Ints:
    """Return int64[rows of `table`]: the rows of `counted` in the parts before."""
    counts = np.array([tables[counted].num_rows for tables in parts], np.int64)
    bases: Ints = np.repeat(np.cumsum(counts) - counts, [tables[table].num_rows for tables in parts])
    return bases


def _replace(batch: pa.RecordBatch, name: str, values: Ints) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, batch.schema.field(index), pa.array(values, pa.int64()))

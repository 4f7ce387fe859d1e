"""Arbitrary content of a cache: cut into chunks of record batches, and what a cache of it must hold."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from arrow_schemas import ALIGNMENTS, DROPPED, TABLES, documents_schema, features_schema, table_schema
from memxlnet.builder.cache_writer import BuildSummary, CacheWriter
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.tokenizer_content import TokenizerContent
from memxlnet.format.published import PublishedCache
from memxlnet.format.row_layout import RowLayout
from memxlnet.format.text_table import TextTable
from memxlnet.settings import EncodeSettings

LAYOUT = RowLayout(
    context_first=True,
    prefix=(),
    middle=(4,),
    suffix=(4, 3),
    prefix_types=(),
    middle_types=(0,),
    suffix_types=(1, 2),
    first_type=0,
    second_type=1,
    pad_left=True,
    pad_id=5,
    pad_type=3,
    cls_id=3,
)


class Document(NamedTuple):
    """One document: its own columns, its context, and the columns of its segments."""

    columns: dict[str, Any]
    context: str
    segments: list[dict[str, Any]]


class Dropped(NamedTuple):
    row: int
    id: str
    reason: str


class Content(NamedTuple):
    """What a build would encode, in the order of the source."""

    length: int
    contexts: dict[str, dict[str, Any]]
    items: list[Document | Dropped]

    @property
    def documents(self) -> list[Document]:
        return [item for item in self.items if isinstance(item, Document)]

    @property
    def dropped(self) -> list[Dropped]:
        return [item for item in self.items if isinstance(item, Dropped)]


def settings(length: int = 4, **changes: Any) -> CacheSettings:
    """Settings as a build would make them, without any tokenizer."""
    made = CacheSettings(
        name="made up",
        split="test",
        encode=EncodeSettings(max_seq_length=length, doc_stride=1),
        source={"kind": "iterable", "identity": "made up"},
        tokenizer=TokenizerContent('{"model":null}', LAYOUT, 7),
        provenance={"path": "/nowhere"},
        chunking="some",
    )
    return dataclasses.replace(made, **changes)


def _integer(source: random.Random, kind: pa.DataType) -> int:
    limits = np.iinfo(kind.to_pandas_dtype())
    return source.choice([int(limits.min), -1, 0, 1, int(limits.max), source.randint(int(limits.min), int(limits.max))])


def _segment(source: random.Random, length: int) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for field in features_schema(length):
        if pa.types.is_fixed_size_list(field.type):
            columns[field.name] = [_integer(source, field.type.value_type) for _ in range(length)]
        else:
            columns[field.name] = _integer(source, field.type)
    del columns["document"]
    return columns


def _text(source: random.Random) -> str:
    return "".join(source.choice("ab \0\n\u00e9\u0301\u4e2d\U0001f600") for _ in range(source.randrange(9)))


def _numbers(source: random.Random) -> list[int]:
    return [_integer(source, pa.int32()) for _ in range(source.randrange(5))]


def _document(source: random.Random, number: int, context: str, segments: int, length: int) -> Document:
    columns: dict[str, Any] = {}
    for field in documents_schema():
        if pa.types.is_integer(field.type):
            columns[field.name] = _integer(source, field.type)
        elif pa.types.is_large_string(field.type):
            columns[field.name] = _text(source)
        elif pa.types.is_large_string(field.type.value_type):
            columns[field.name] = [_text(source) for _ in range(source.randrange(4))]
        else:
            columns[field.name] = _numbers(source)
    columns["id"] = f"{number}{columns['id']}"
    columns["alignment"] = source.choice(ALIGNMENTS)
    for derived in ("context", "first_segment", "num_segments"):
        del columns[derived]
    return Document(columns, context, [_segment(source, length) for _ in range(segments)])


def make_content(seed: int, length: int, contexts: Sequence[str], plan: Sequence[tuple[int, int] | None]) -> Content:
    """Content of random values.

    Args:
        seed: Seed of all values.
        length: Tokens in a row.
        contexts: Distinct texts.
        plan: For each example its context and number of segments, or None for one that was dropped.
    """
    source = random.Random(seed)
    columns = {
        text: {"text": text, "token_starts": _numbers(source), "token_stops": _numbers(source)} for text in contexts
    }
    items: list[Document | Dropped] = []
    for row, entry in enumerate(plan):
        if entry is None:
            items.append(Dropped(row, f"dropped {row}", _text(source)))
        else:
            items.append(_document(source, row, contexts[entry[0] % len(contexts)], entry[1], length))
    return Content(length, columns, items)


@st.composite
def contents(draw: st.DrawFn, max_documents: int = 9) -> Content:
    texts = draw(st.lists(st.text(max_size=8), min_size=1, max_size=4, unique=True))
    entry = st.tuples(st.integers(0, 3), st.integers(1, 5))
    first = draw(entry)
    others = draw(st.lists(st.none() | entry, max_size=max_documents - 1))
    plan = [*others, first]
    return make_content(draw(st.integers(0, 2**32)), draw(st.integers(1, 5)), texts, plan)


def cuts(max_size: int = 5) -> st.SearchStrategy[list[int]]:
    """Sizes of chunks, used in turn."""
    return st.lists(st.integers(1, max_size), min_size=1, max_size=4)


def chunks(content: Content, sizes: Sequence[int]) -> Iterator[dict[str, pa.RecordBatch]]:
    """The content as a build would hand it over, in chunks of `sizes` examples, taken in turn."""
    start = number = 0
    while start < len(content.items):
        size = sizes[number % len(sizes)]
        yield _chunk(content, content.items[start : start + size])
        start, number = start + size, number + 1


def _chunk(content: Content, items: Sequence[Document | Dropped]) -> dict[str, pa.RecordBatch]:
    documents = [item for item in items if isinstance(item, Document)]
    rows: dict[str, list[dict[str, Any]]] = tables_of(content, documents)
    rows[DROPPED] = [item._asdict() for item in items if isinstance(item, Dropped)]
    return {name: _sliced(values, table_schema(name, content.length)) for name, values in rows.items()}


def _sliced(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """A batch that is a slice of a larger one, as a user's code may hand it over."""
    return pa.RecordBatch.from_pylist([*rows[:1], *rows, *rows[-1:]], schema=schema).slice(min(len(rows), 1), len(rows))


def tables_of(content: Content, documents: Sequence[Document] | None = None) -> dict[str, list[dict[str, Any]]]:
    """The rows of the three tables over some documents (all without), numbered from the first of them."""
    documents = content.documents if documents is None else documents
    numbers: dict[str, int] = {}
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for row, document in enumerate(documents):
        if document.context not in numbers:
            numbers[document.context] = len(numbers)
            tables["contexts"].append(content.contexts[document.context])
        derived = {
            "context": numbers[document.context],
            "first_segment": len(tables["features"]),
            "num_segments": len(document.segments),
        }
        tables["documents"].append({**document.columns, **derived})
        tables["features"].extend({**segment, "document": row} for segment in document.segments)
    return tables


def publish(
    content: Content, cache_dir: Path, sizes: Sequence[int], max_shard_rows: int | None = None, **changes: Any
) -> BuildSummary:
    """Write the content chunk by chunk and publish it."""
    writer = CacheWriter(cache_dir, max_shard_rows=max_shard_rows)
    assert not writer.begin(settings(content.length, **changes))
    return writer.finish([writer.write_chunk(index, tables) for index, tables in enumerate(chunks(content, sizes))])


def read_features(cache: PublishedCache) -> list[dict[str, Any]]:
    """All rows of features, by the views of the map."""
    rows: list[dict[str, Any]] = []
    for shard in cache.features:
        columns = {name: values.tolist() for name, values in shard.columns.items()}
        rows.extend(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return rows


def read_texts(table: TextTable, name: str, rows: int) -> list[dict[str, Any]]:
    """All rows of documents or contexts, value by value."""
    fields = list(table_schema(name, 1))
    return [{field.name: _reader(table, field.type)(field.name, row) for field in fields} for row in range(rows)]


def _reader(table: TextTable, kind: pa.DataType) -> Callable[[str, int], Any]:
    if pa.types.is_integer(kind):
        return table.number
    if pa.types.is_large_string(kind):
        return table.text
    if pa.types.is_large_string(kind.value_type):
        return table.texts
    return lambda name, row: table.numbers(name, row).tolist()


def read_tables(cache: PublishedCache) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables through the library's own readers."""
    return {
        "features": read_features(cache),
        "documents": read_texts(cache.documents, "documents", cache.num_documents),
        "contexts": read_texts(cache.contexts, "contexts", cache.manifest.tables["contexts"].rows),
    }


def read_with_pyarrow(cache: PublishedCache) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables as pyarrow alone reads the files, with every buffer checked."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, table in cache.manifest.tables.items():
        tables[name] = []
        for record in table.shards:
            with pa.ipc.open_file(cache.directory / record.file) as reader:
                found = reader.read_all()
            found.validate(full=True)
            tables[name].extend(found.to_pylist())
    return tables


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file of a directory, by name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}

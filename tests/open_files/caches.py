"""The caches that other libraries read here, and their content as memxlnet itself reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import AutoTokenizer

from arrow_schemas import table_schema
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_file, sample_tokenizer_directory
from tests.support import build, example

TEXT_TABLES = ("documents", "contexts")

ODD_TEXTS = (
    "e\u0301 decomposed, \u00e9 composed; the cafe\u0301 is closed",
    "a family \U0001f468\u200d\U0001f469\u200d\U0001f467 and a flag \U0001f1fa\U0001f1f3 on a mast",
    "\ufeffa mark in front, zero\u200bwidth, no\u00a0break and an astral \U00010348 letter",
    "CR\r\nLF and CR\ralone, tab\there, line\u2028separator, NUL\x00inside, escape\x1b[0m",
    "\u202eright to left\u202c \u0634\u0647\u0631 \u05e2\u05d9\u05e8 \ud55c\uad6d\uc5b4 \u4e2d\u6587\u5b57",
    "quotes ' \" `` \\ and % ; -- SQL /* no */ $$ {{}} [MEM_READ_0]",
)
"""Code points, grapheme clusters, UTF-8 bytes and UTF-16 units all differ in these."""


def build_sample(cache_dir: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    configure_memory_tokens(tokenizer, 3)
    return build(sample_file(), tokenizer, cache_dir, max_seq_length=96, doc_stride=24, max_shard_rows=300).directory


def odd_examples() -> list[dict[str, Any]]:
    examples = []
    for number, text in enumerate(ODD_TEXTS):
        context = f"{text} " * (2 + 9 * (number % 3))
        last = text.split(" ")[-1]
        questions = {
            "exact": [(last, context.rindex(last)), ("", 0)],
            "moved": [(last, 10**6), (text, 3)],
            "whole": [(text, 0)],
            "empty": [("", 5)],
            "absent": [("not in there", 0), ("nor this", -7)],
            "none": [],
            "yes or no": [("yes", -1)],
            "a number": [("987,654.5", 2)],
        }
        examples += [
            example(context, f"{kind} {text}?", answers, id=f"{kind}-{number}-{text[:7]}")
            for kind, answers in questions.items()
        ]
        examples.append({**example(context, f"{text}, without labels?", id=f"unlabelled-{number}"), "answers": None})
    examples.insert(3, {"id": "without a context", "question": "?", "answers": []})
    examples.insert(9, example(ODD_TEXTS[0], 5, id="a number as question"))  # type: ignore[arg-type]
    return examples


def build_odd(cache_dir: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    return build(
        odd_examples(),
        tokenizer,
        cache_dir,
        max_seq_length=128,
        doc_stride=16,
        max_shard_rows=25,
        on_bad_example="drop",
        on_contradiction="answers",
    ).directory


def build_many(cache_dir: Path) -> Path:
    """More documents and contexts than one record batch of their tables holds, in another order than theirs."""
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    contexts = [f"Context {number} of many: \u00e9\U0001f600 {number * 7}." for number in range(130)]
    examples = []
    for number in range(1100):
        context = contexts[number if number < 130 else (number * 37) % 130]
        answer = context.split(" ")[-1]
        answers = [(answer, context.index(answer))] if number % 3 else []
        examples.append(example(context, f"Question {number}?", answers, id=f"many-{number}"))
    return build(examples, tokenizer, cache_dir, max_seq_length=64, doc_stride=8, max_shard_rows=400).directory


def shard_paths(dataset: CacheDataset, table: str) -> list[Path]:
    """The files of a table in order, as the manifest names them."""
    manifest = json.loads((dataset.directory / "manifest.json").read_text(encoding="utf-8"))
    return [dataset.directory / shard["file"] for shard in manifest["tables"][table]["shards"]]


def mapped(dataset: CacheDataset, table: str) -> pa.Table:
    """A table over memory maps of its files."""
    return pa.concat_tables(
        pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in shard_paths(dataset, table)
    )


def schema_of(dataset: CacheDataset, table: str) -> pa.Schema:
    return table_schema(table, dataset.manifest.max_seq_length)


def features_of(dataset: CacheDataset) -> dict[str, NDArray[Any]]:
    """The columns of features over all shards, as memxlnet reads them."""
    found: dict[str, NDArray[Any]] = {}
    for name in schema_of(dataset, "features").names:
        columns = dataset.column(name)
        assert isinstance(columns, list)
        found[name] = np.concatenate([column.numpy() for column in columns])
    return found


def texts_of(dataset: CacheDataset, table: str) -> list[dict[str, Any]]:
    """The rows of documents or contexts, as memxlnet reads them."""
    source = getattr(dataset.cache, table)
    rows = dataset.manifest.tables[table].rows

    def value(field: pa.Field, row: int) -> Any:
        if pa.types.is_large_list(field.type):
            if pa.types.is_large_string(field.type.value_type):
                return source.texts(field.name, row)
            return source.numbers(field.name, row).tolist()
        return source.text(field.name, row) if pa.types.is_large_string(field.type) else source.number(field.name, row)

    schema = schema_of(dataset, table)
    return [{field.name: value(field, row) for field in schema} for row in range(rows)]


def segments_of(dataset: CacheDataset) -> list[dict[str, Any]]:
    """What a join of the three tables must give for each segment, as memxlnet reads it."""
    segments = []
    for row, one in enumerate(dataset.metadata(range(len(dataset)))):
        assert one is not None
        start, stop = one["chosen_answer_char_span"]
        segments.append(
            {
                "row": row,
                "id": one["example_id"],
                "segment_index": one["segment_index"],
                "question": one["question"],
                "context": one["context"],
                "answer": one["context"][start:stop] if one["has_answer"] else "",
            }
        )
    return segments


def assert_features(found: dict[str, NDArray[Any]], dataset: CacheDataset) -> None:
    expected = features_of(dataset)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(found[name], values), name


def arrow_columns(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The columns of a table of features, [rows, length] or [rows]."""
    columns: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        parts = [chunk for chunk in table[name].chunks if len(chunk)]
        # `flatten` follows the offset of a slice, `values` does not.
        flat = [part.flatten() if pa.types.is_fixed_size_list(part.type) else part for part in parts]
        columns[name] = np.concatenate([part.to_numpy() for part in flat]).reshape(table.num_rows, -1)
        if not pa.types.is_fixed_size_list(table[name].type):
            columns[name] = columns[name][:, 0]
    return columns

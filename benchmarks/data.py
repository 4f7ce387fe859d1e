"""Data to measure with: the SQuAD file and the XLNet vocabulary, and a large cache made from them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import XLNetTokenizerFast

from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import parse_example
from memxlnet.encode.layout import read_tokenizer
from memxlnet.settings import EncodeSettings
from memxlnet.store.identity import CacheSettings
from memxlnet.store.writer import CacheWriter

DATA = Path(os.environ.get("MEMXLNET_DATA", Path(__file__).parents[2] / "shared" / "data"))
SQUAD = DATA / "squad" / "dev-v2.0.json"
WORK = Path(os.environ.get("MEMXLNET_BENCH_DIR", Path(__file__).parents[1] / "build" / "bench"))


def xlnet() -> Any:
    """The real XLNet tokenizer."""
    return XLNetTokenizerFast.from_pretrained(DATA / "xlnet-base-cased")


def squad_rows() -> list[dict[str, Any]]:
    """The questions of the SQuAD file as flat rows."""
    articles = json.loads(SQUAD.read_text(encoding="utf-8"))["data"]
    return [
        {
            "id": question["id"],
            "question": question["question"],
            "context": paragraph["context"],
            "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            },
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def large_cache(copies: int) -> Path:
    """A cache of the SQuAD file `copies` times over, with distinct ids and contexts: 6,359 segments a copy.

    The first copy is encoded; the others repeat its token columns under other ids and other context texts of the same
    length, which is what reading is measured on.
    """
    tokenizer = read_tokenizer(xlnet())
    encode = EncodeSettings()
    source = {"kind": "benchmark", "copies": copies}
    settings = CacheSettings("squad-copies", f"x{copies}", encode, source, tokenizer, chunking="copies")
    writer = CacheWriter(WORK / "caches")
    directory = writer.directory(settings)
    if directory.is_dir():
        return directory
    encoder = Encoder(tokenizer.backend, tokenizer.layout, encode)
    rows = [parse_example(number, row, "squad") for number, row in enumerate(squad_rows())]
    chunks = [encoder.encode(rows[start : start + 2000]) for start in range(0, len(rows), 2000)]
    writer.begin(settings)
    receipts: list[Any] = []
    for copy in range(copies):
        for chunk in chunks:
            tables = {
                **chunk,
                "documents": _renamed(chunk["documents"], "id", f"{copy}-"),
                "contexts": _retold(chunk["contexts"], copy),
            }
            receipts.append(writer.write_chunk(len(receipts), tables))
    writer.finish(receipts)
    return directory


def _renamed(batch: pa.RecordBatch, name: str, prefix: str) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    values = pa.array([prefix + value for value in batch.column(index).to_pylist()], pa.large_string())
    return batch.set_column(index, batch.schema.field(index), values)


def _retold(batch: pa.RecordBatch, copy: int) -> pa.RecordBatch:
    """The contexts with their first characters exchanged for the number of the copy."""
    mark = f"{copy:06d}"
    texts = pa.array([mark + text[len(mark) :] for text in batch.column(0).to_pylist()], pa.large_string())
    return batch.set_column(0, batch.schema.field(0), texts)


def random_rows(count: int, num_rows: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64[count] random rows."""
    return np.random.default_rng(seed).integers(0, num_rows, count)


def clear_work() -> None:
    """Remove everything that benchmarks made."""
    shutil.rmtree(WORK, ignore_errors=True)

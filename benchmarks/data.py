"""Data to measure with: the SQuAD file and the XLNet vocabulary, and a large cache made from them."""

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import XLNetTokenizerFast

from memxlnet import create_dataset_from_cache
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import parse_example
from memxlnet.encode.layout import read_tokenizer
from memxlnet.settings import EncodeSettings
from memxlnet.store.identity import CacheSettings
from memxlnet.store.writer import CacheWriter

DATA = Path(os.environ.get("MEMXLNET_DATA", Path(__file__).parents[2] / "shared" / "data"))
SQUAD = DATA / "squad" / "dev-v2.0.json"
WORK = Path(os.environ.get("MEMXLNET_BENCH_DIR", Path(__file__).parents[1] / "build" / "bench"))


WHOLE_QUESTIONS, ALL_QUESTIONS = 160, 10_000

SQUAD_SEGMENTS = 6359
"""Segments of the SQuAD file at length 384 with an overlap of 128."""


def xlnet() -> Any:
    """The real XLNet tokenizer."""
    return XLNetTokenizerFast.from_pretrained(DATA / "xlnet-base-cased")


def squad_rows() -> list[dict[str, Any]]:
    """The questions of the SQuAD file as flat rows."""
    return rows_of(SQUAD)


def squad_file(examples: int) -> Path:
    """The SQuAD file repeated to so many examples, in its official form, as a file in the work folder.

    Ids are distinct, and the contexts of each copy begin with a word of their own, so that none is shared by more
    questions than in SQuAD itself.
    """
    path = WORK / f"squad-{examples}.json"
    if path.is_file():
        return path
    articles = json.loads(SQUAD.read_text(encoding="utf-8"))["data"]
    copied: list[dict[str, Any]] = []
    made = 0
    for copy in itertools.count():
        for article in articles:
            paragraphs = []
            for paragraph in article["paragraphs"]:
                questions = [_moved(question, copy) for question in paragraph["qas"]][: examples - made]
                made += len(questions)
                if questions:
                    paragraphs.append({"context": f"{_mark(copy)}{paragraph['context']}", "qas": questions})
            copied.append({"title": article["title"], "paragraphs": paragraphs})
            if made == examples:
                break
        if made == examples:
            break
    return _write(path, {"version": "v2.0", "data": copied})


def _mark(copy: int) -> str:
    return f"copy{copy} "


def _moved(question: dict[str, Any], copy: int) -> dict[str, Any]:
    answers = [
        {"text": answer["text"], "answer_start": answer["answer_start"] + len(_mark(copy))}
        for answer in question["answers"]
    ]
    return {"id": f"{copy}-{question['id']}", "question": question["question"], "answers": answers}


def long_file(questions: int) -> Path:
    """SQuAD's articles, each joined into one context that all its questions share; so many questions an article."""
    path = WORK / f"long-{questions}.json"
    if path.is_file():
        return path
    joined = []
    for article in json.loads(SQUAD.read_text(encoding="utf-8"))["data"]:
        context, moved = "", []
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [
                    {"text": answer["text"], "answer_start": answer["answer_start"] + len(context)}
                    for answer in question["answers"]
                ]
                moved.append({"id": question["id"], "question": question["question"], "answers": answers})
            context += paragraph["context"] + "\n"
        joined.append({"title": article["title"], "paragraphs": [{"context": context, "qas": moved[:questions]}]})
    return _write(path, {"version": "v2.0", "data": joined})


def long_cache(whole: bool = False) -> Path:
    """A cache of long documents with at least 127,000 segments.

    Args:
        whole: Documents over all of SQuAD's text, some 1,000 segments each; else over one of its articles each.
    """
    path = WORK / f"one-context-twice-{WHOLE_QUESTIONS}.json" if whole else long_file(ALL_QUESTIONS)
    if not path.is_file():
        articles = json.loads(SQUAD.read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        text = "\n".join(paragraph["context"] for paragraph in (*paragraphs, *paragraphs, *paragraphs[:100]))
        questions = [{**question, "answers": []} for paragraph in paragraphs for question in paragraph["qas"]]
        asked = [{"context": text, "qas": questions[:WHOLE_QUESTIONS]}]
        _write(path, {"version": "v2.0", "data": [{"title": "all", "paragraphs": asked}]})
    dataset = create_dataset_from_cache(path, split="train", cache_dir=WORK / "caches-long", tokenizer=xlnet())
    return dataset.directory


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    return temporary.replace(path)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The questions of a file in SQuAD's official form as flat rows."""
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
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


def large_cache(copies: int, shards: int = 1) -> Path:
    """A cache of the SQuAD file `copies` times over, with distinct ids and contexts: 6,359 segments a copy.

    The first copy is encoded; the others repeat its token columns under other ids and other context texts of the same
    length, which is what reading is measured on.
    """
    tokenizer = read_tokenizer(xlnet())
    encode = EncodeSettings()
    source = {"kind": "benchmark", "copies": copies}
    settings = CacheSettings("squad-copies", f"x{copies}", encode, source, tokenizer, chunking="copies")
    rows = -(-SQUAD_SEGMENTS * copies // shards) if shards > 1 else None
    writer = CacheWriter(WORK / f"caches-{shards}", max_shard_rows=rows)
    directory = writer.directory(settings)
    if directory.is_dir():
        return directory
    encoder = Encoder(tokenizer.backend, tokenizer.layout, encode)
    examples = [parse_example(number, row, "squad") for number, row in enumerate(squad_rows())]
    chunks = [encoder.encode(examples[start : start + 2000]) for start in range(0, len(examples), 2000)]
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

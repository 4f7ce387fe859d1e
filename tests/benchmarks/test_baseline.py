"""The usual recipe gives the labels of the build, so that methods can be compared value by value."""

from typing import Any

import pytest

from benchmarks.baseline import usual_preprocessing
from memxlnet.encode.examples import parse_example
from memxlnet.sources import open_source
from tests.encode.oracle import encode, features
from tests.styles import shared
from tests.support import SQUAD, example, need_real_data


def assert_same_labels(tokenizer: Any, rows: list[dict[str, Any]], length: int, overlap: int) -> None:
    columns = {name: [row[name] for row in rows] for name in ("id", "question", "context", "answers")}
    called = usual_preprocessing(tokenizer, length, overlap)(columns)
    parsed = [parse_example(row, raw, "test") for row, raw in enumerate(rows)]
    built = features(encode(tokenizer, parsed, max_seq_length=length, doc_stride=overlap))
    for name in ("start_positions", "end_positions"):
        assert called[name] == [row[name] for row in built]


@pytest.mark.parametrize("style", ["xlnet", "bert-cased", "roberta"])
def test_lone_blanks_and_bytes(style: str) -> None:
    context = "the  river \u4e2d of \u3000 Paris " * 6
    rows = [
        example(context, answers=[(context[start:stop], start)], id=f"{start} {stop}")
        for start in range(0, 60, 3)
        for stop in range(start + 1, start + 20, 6)
        if context[start:stop].strip()
    ]
    assert_same_labels(shared(style), rows, 34, 12)


@pytest.mark.real_data
def test_real_texts(xlnet: Any) -> None:
    need_real_data()
    raw = [row for _, row in zip(range(300), open_source(SQUAD, "dev").rows(), strict=False)]
    rows = []
    for row in raw:
        one = parse_example(0, row, "squad")
        answers = {"text": list(one.answer_texts), "answer_start": list(one.answer_starts)}
        rows.append({"id": one.id, "question": one.question, "context": one.context, "answers": answers})
    assert_same_labels(xlnet, rows, 128, 32)

"""The data of the benchmarks: repeated and joined files have the promised content, and their offsets are right."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import data
from benchmarks.caches import long_cache, question_cache, whole_cache
from memxlnet import LazySquadLikeQADataset, verify


def check_answers(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text


def test_the_sample_is_used_without_real_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "SHARED", tmp_path)
    monkeypatch.setattr(data, "SQUAD", tmp_path / "none.json")
    found = data.data()
    assert found.file.name == "squad_sample.json"
    assert found.what == "the bundled sample, the bundled tokenizer"


def test_a_repeated_file_has_the_number_of_examples_with_distinct_ids(sample: Path) -> None:
    number = 2 * data.num_examples() + 3
    rows = data.rows_of(data.repeated_file(number))
    assert len({row["id"] for row in rows}) == len(rows) == number
    assert len({row["context"] for row in rows}) > 2 * len({row["context"] for row in data.rows_of(sample)})
    assert [row["question"] for row in rows[: data.num_examples()]] == [row["question"] for row in data.rows_of(sample)]
    check_answers(rows)


def test_articles_are_joined_and_their_answers_moved(sample: Path) -> None:
    rows = data.rows_of(data.long_file(3))
    assert len({row["context"] for row in rows}) == len(data.articles())
    assert max(len(row["context"]) for row in rows) > max(len(row["context"]) for row in data.rows_of(sample))
    assert any(row["answers"]["text"] for row in rows)
    check_answers(rows)


@pytest.mark.parametrize("make", [question_cache, long_cache, whole_cache])
def test_a_repeated_cache_is_valid(sample: Path, make: Any) -> None:
    directory = make(1500)
    verify(directory)
    dataset = LazySquadLikeQADataset.open(directory)
    assert len(dataset) >= 1500
    assert len(set(dataset.get_all_documents())) == dataset.cache.num_documents
    assert make(1500) == directory


def test_shards_hold_equal_parts(sample: Path) -> None:
    one, four = (LazySquadLikeQADataset.open(question_cache(1500, shards)) for shards in (1, 4))
    assert [len(dataset.cache.features) for dataset in (one, four)] == [1, 4]
    assert len(one) == len(four)

from pathlib import Path
from typing import Any

import pytest

from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from tests.load.helpers import LENGTH, MEMORY, OVERLAP, Built, bert_tokenizer, oracle_rows, sample_tokenizer
from tests.support import build, example


def _without_memory(item: dict[str, Any], name: str) -> list[Any]:
    places = {item[start] + slot for start in ("mem_read_start", "mem_write_start") for slot in range(MEMORY)}
    assert len(places) == 2 * MEMORY
    return [value for place, value in enumerate(item[name].tolist()) if place not in places]


def _check_rows(dataset: CacheDataset, ids: dict[str, list[int]], expected: list[dict[str, Any]]) -> None:
    assert len(dataset) == len(expected)
    for item, wanted in zip(dataset[:], expected, strict=True):
        row, read, write = item["input_ids"].tolist(), item["mem_read_start"], item["mem_write_start"]
        assert row[read : read + MEMORY] == ids["mem_read_ids"]
        assert row[write : write + MEMORY] == ids["mem_write_ids"]
        offsets = item["offset_mapping"].tolist()
        for start in (read, write):
            assert offsets[start : start + MEMORY] == [[0, 0]] * MEMORY
            assert item["attention_mask"][start : start + MEMORY].tolist() == [1] * MEMORY
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            assert _without_memory(item, name) == wanted[name]
        assert list(map(tuple, _without_memory(item, "offset_mapping"))) == wanted["offset_mapping"]


def test_rows_are_those_of_transformers_with_the_tokens_put_in(built: Built) -> None:
    tokenizer = sample_tokenizer()
    configure_memory_tokens(tokenizer, MEMORY)
    expected = oracle_rows(tokenizer, built.examples, LENGTH - 2 * MEMORY, OVERLAP)
    _check_rows(CacheDataset(built.memory), built.memory_ids, expected)


def test_question_first_layout(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer()
    ids = configure_memory_tokens(tokenizer, MEMORY)
    examples = [example("a b c d " * count, "what e", id=str(count)) for count in (1, 9, 30)]
    dataset = build(examples, tokenizer, tmp_path, max_seq_length=32, doc_stride=5)
    expected = oracle_rows(tokenizer, examples, 32 - 2 * MEMORY, 5)
    assert {item["mem_read_start"] for item in dataset[:]} == {1}
    _check_rows(dataset, ids, expected)


@pytest.mark.parametrize("make", [sample_tokenizer, bert_tokenizer])
def test_memory_tokens_in_raw_text_do_not_confuse_the_places(tmp_path: Path, make: Any) -> None:
    tokenizer = make()
    ids = configure_memory_tokens(tokenizer, MEMORY)
    text = "[MEM_READ_0] a [MEM_WRITE_2] b [MEM_READ_0][MEM_READ_1][MEM_READ_2] c <cls> [MEM_WRITE_0] d "
    examples = [
        example(text * 6, "[MEM_WRITE_0] which [MEM_READ_0]", id="both"),
        example("[MEM_WRITE_0]", "[MEM_READ_0]", id="alone"),
    ]
    dataset = build(examples, tokenizer, tmp_path, max_seq_length=40, doc_stride=8)
    first = [item["input_ids"].tolist().count(ids["mem_read_ids"][0]) for item in dataset[:]]
    assert max(first) > 2
    assert {item["cls_index"] for item in dataset[:]} == ({39} if tokenizer.padding_side == "left" else {0})
    _check_rows(dataset, ids, oracle_rows(tokenizer, examples, 40 - 2 * MEMORY, 8))


def test_steps_hold_the_places(built: Built) -> None:
    dataset = CacheDataset(built.memory)
    for group in create_dataloader(dataset, 6):
        for step in group:
            for lane in step["document_mask"].nonzero().flatten().tolist():
                ids, read, write = step["input_ids"][lane], step["mem_read_start"][lane], step["mem_write_start"][lane]
                assert ids[read : read + MEMORY].tolist() == built.memory_ids["mem_read_ids"]
                assert ids[write : write + MEMORY].tolist() == built.memory_ids["mem_write_ids"]


def test_insertion_can_be_switched_off(built: Built, tmp_path: Path) -> None:
    tokenizer = sample_tokenizer()
    ids = configure_memory_tokens(tokenizer, MEMORY)
    settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP, "insert_memory_tokens": False}
    dataset = build(built.examples, tokenizer, tmp_path, **settings)
    expected = oracle_rows(tokenizer, built.examples, LENGTH, OVERLAP)
    assert [item["input_ids"].tolist() for item in dataset[:]] == [row["input_ids"] for row in expected]
    assert {(item["mem_read_start"], item["mem_write_start"]) for item in dataset[:]} == {(-1, -1)}
    assert not set(ids["mem_read_ids"]) & set(dataset.gather(slice(None))["input_ids"].flatten().tolist())

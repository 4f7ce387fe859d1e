from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.builder import chunking
from memxlnet.builder.chunking import CHUNK_SHARE, TEXT_SHARE, Chunk, read_chunks
from memxlnet.builder.encoding_cost import CostModel
from memxlnet.encode.examples import BadExample, Example
from memxlnet.errors import ExampleError, MemoryLimitError
from memxlnet.settings import BuildSettings, EncodeSettings
from memxlnet.sources import open_source
from tests.support import example, write_json_lines


def cut(rows: Any, size: int, encode: EncodeSettings | None = None, build: BuildSettings | None = None) -> list[Chunk]:
    return list(read_chunks(open_source(rows, "x"), encode or EncodeSettings(), build or BuildSettings(), size))


def numbered(count: int, context: str = "the lamp") -> list[dict[str, Any]]:
    return [example(context, id=str(number)) for number in range(count)]


@given(st.integers(0, 30), st.integers(1, 12), st.none() | st.integers(1, 40))
def test_every_example_is_in_one_chunk_in_order(count: int, size: int, max_examples: int | None) -> None:
    chunks = cut(numbered(count), size, EncodeSettings(max_examples=max_examples))
    wanted = count if max_examples is None else min(count, max_examples)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [entry.id for chunk in chunks for entry in chunk.examples] == [str(number) for number in range(wanted)]
    assert [len(chunk.examples) for chunk in chunks[:-1]] == [size] * ((wanted - 1) // size if wanted else 0)
    assert all(chunk.examples for chunk in chunks)


@given(st.lists(st.integers(0, 6000), min_size=1, max_size=30), st.integers(1, 10))
def test_no_chunk_costs_more_than_its_share(lengths: list[int], size: int) -> None:
    rows = [example(f"{number}{'x' * length}", "", id=str(number)) for number, length in enumerate(lengths)]
    encode = EncodeSettings(max_seq_length=32, doc_stride=8)
    model = CostModel(encode)
    costs = [model.example(Example(0, "", "", row["context"], (), ()), context_is_new=True) for row in rows]
    bound = max(costs) / CHUNK_SHARE / 2**30 * 1.001
    chunks = cut(rows, size, encode, BuildSettings(max_memory_gb=bound))
    assert [entry.id for chunk in chunks for entry in chunk.examples] == [row["id"] for row in rows]
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
        seen: set[str] = set()
        cost = 0
        for entry in chunk.examples:
            assert isinstance(entry, Example)
            cost += model.example(entry, entry.context not in seen)
            seen.add(entry.context)
        assert chunk.cost == cost <= bound * CHUNK_SHARE * 2**30
        # A chunk is closed only where it is full or the next example would not fit.
        if following and len(chunk.examples) < size:
            head = following.examples[0]
            assert isinstance(head, Example)
            assert cost + model.example(head, head.context not in seen) > int(bound * CHUNK_SHARE * 2**30)


def test_a_shared_context_is_counted_once() -> None:
    rows = numbered(40, "x" * 100_000)
    encode = EncodeSettings(max_n_segs=1)
    alone = CostModel(encode).example(Example(0, "", "What is it?", rows[0]["context"], (), ()), context_is_new=True)
    bound = 1.5 * alone / CHUNK_SHARE / 2**30
    assert len(cut(rows, 1000, encode, BuildSettings(max_memory_gb=bound))) == 1
    distinct = [{**row, "context": f"{row['id']}{row['context']}"} for row in rows]
    assert len(cut(distinct, 1000, encode, BuildSettings(max_memory_gb=bound))) == 40


def test_the_questions_on_a_long_text_stay_together() -> None:
    rows = [*numbered(3), *numbered(20, "x" * 300_000), *numbered(2)]
    rows = [{**row, "id": str(number)} for number, row in enumerate(rows)]
    model = CostModel(EncodeSettings())
    costs = [model.example(Example(0, "", row["question"], row["context"], (), ()), True) for row in rows]
    # A book alone is beyond the budget of a chunk, and its questions take less than twice what its text does.
    build = BuildSettings(max_memory_gb=0.9 * costs[3] / CHUNK_SHARE / 2**30)
    chunks = cut(rows, 100, None, build)
    assert [len(chunk.examples) for chunk in chunks] == [3, 20, 2]
    assert costs[3] < chunks[1].cost <= TEXT_SHARE * build.max_memory_bytes
    # The text counts up to its share of the bound: others begin a chunk of their own.
    tight = BuildSettings(max_memory_gb=1.5 * costs[3] / 2**30)
    assert [len(chunk.examples) for chunk in cut(rows, 100, None, tight)] == [3, *[1] * 20, 2]
    assert [len(chunk.examples) for chunk in cut(rows, 7, None, build)] == [3, 7, 7, 6, 2]


def test_an_example_that_does_not_fit_is_named_before_it_is_encoded() -> None:
    rows = [*numbered(2), example("x" * 10_000_000, id="giant")]
    with pytest.raises(MemoryLimitError) as caught:
        cut(rows, 10, None, BuildSettings(max_memory_gb=0.1))
    message = str(caught.value)
    assert "example 'giant' (row 2)" in message
    assert "encoding it may take 1.7" in message
    assert "expected at most max_memory_gb 0.1 for all of the build; raise it, or set max_n_segs" in message
    # Where it fits it is a chunk of its own.
    assert [len(chunk.examples) for chunk in cut(rows, 10, None, BuildSettings(max_memory_gb=100))] == [2, 1]


def test_bad_rows_stop_or_are_counted() -> None:
    rows = [*numbered(2), {"id": "bad", "question": 5}, *numbered(1)]
    with pytest.raises(ExampleError, match="'bad'"):
        cut(rows, 2)
    chunks = cut(rows, 2, EncodeSettings(on_bad_example="drop"))
    assert [len(chunk.examples) for chunk in chunks] == [2, 2]
    bad = chunks[1].examples[0]
    assert isinstance(bad, BadExample)
    assert (bad.row, bad.id) == (2, "bad")
    assert "field 'question': expected text, found int" in bad.reason


def test_what_comes_after_the_last_example_is_never_read(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "rows.jsonl", numbered(3))
    path.write_text(path.read_text() + "{ malformed")
    assert [len(chunk.examples) for chunk in cut(path, 10, EncodeSettings(max_examples=3))] == [3]


def test_a_chunk_stays_small_whatever_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example(f"{number} {'x' * 1000}", id=str(number)) for number in range(10)]
    generous = BuildSettings(max_memory_gb=100)
    assert len(cut(rows, 100, None, generous)) == 1
    one = cut(rows[:1], 100, None, generous)[0].cost
    monkeypatch.setattr(chunking, "MAX_CHUNK_COST", 3 * one)
    assert [len(chunk.examples) for chunk in cut(rows, 100, None, generous)] == [3, 3, 3, 1]
    # One example that costs more is a chunk of its own.
    monkeypatch.setattr(chunking, "MAX_CHUNK_COST", one // 2)
    assert [len(chunk.examples) for chunk in cut(rows, 100, None, generous)] == [1] * 10


def test_a_chunk_is_shown_by_its_first_examples() -> None:
    (chunk,) = cut(numbered(5), 10)
    assert chunk.shown() == "chunk 0 (examples '0', '1', '2' and 2 more)"
    (chunk,) = cut(numbered(1), 10)
    assert chunk.shown() == "chunk 0 (examples '0')"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000)), max_size=25), st.integers(1, 9), st.integers(0, 10**6)
)
def test_parts_hold_everything_once_with_their_cost(raw: list[tuple[int, int]], most: int, budget: int) -> None:
    model = CostModel(EncodeSettings(max_seq_length=32, doc_stride=8))
    examples = [
        Example(row, str(row), "q", "\u4e2d" * size, (), ()) if kind else BadExample(row, str(row), "why")
        for row, (kind, size) in enumerate(raw)
    ]
    parts = list(model.cut(examples, most, budget))
    assert [entry for part, _ in parts for entry in part] == examples
    for part, cost in parts:
        assert 1 <= len(part) <= most
        ((again, same),) = model.cut(part, len(part), 10**12)
        assert (again, same) == (part, cost)
        assert cost <= budget or len([entry for entry in part if isinstance(entry, Example)]) == 1


def test_other_scripts_than_latin_cost_by_their_bytes() -> None:
    model = CostModel(EncodeSettings())

    def cost(context: str) -> int:
        return model.example(Example(0, "", "", context, (), ()), context_is_new=True)

    assert cost("\u4e2d" * 1000) - cost("\u4e2d" * 0) > 2.5 * (cost("x" * 1000) - cost(""))
    limited = CostModel(EncodeSettings(max_n_segs=1))
    example_of = Example(0, "", "", "x" * 100_000, (), ())
    assert limited.example(example_of, context_is_new=True) < model.example(example_of, context_is_new=True)

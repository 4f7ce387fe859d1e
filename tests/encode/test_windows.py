"""Cutting contexts into windows, and the row positions that they get."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from memxlnet.encode.token_pool import TokenPool
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.encode.windows import Windows, assemble, cut_windows, window_counts
from memxlnet.format.ragged import ragged_arange
from tests.encode.oracle import encode, features, make_example
from tests.styles import make


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Tokens and room of some documents, and an overlap that is smaller than every room."""
    overlap = draw(st.integers(0, 20))
    tokens = draw(st.lists(st.integers(0, 120), max_size=6))
    rooms = st.one_of(st.integers(overlap + 1, overlap + 4), st.integers(overlap + 1, 150))
    return tokens, draw(st.lists(rooms, min_size=len(tokens), max_size=len(tokens))), overlap


def by_document(windows: Windows, count: int) -> list[list[tuple[int, int, int]]]:
    """(segment index, first token, number of tokens) of each document's windows."""
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(count)]
    for document, *window in zip(*(column.tolist() for column in windows), strict=True):
        found[document].append((window[0], window[1], window[2]))
    return found


@given(documents())
def test_windows_cover_every_token_and_overlap_exactly(made: tuple[list[int], list[int], int]) -> None:
    tokens, rooms, overlap = made
    windows = cut_windows(ints(*tokens), ints(*rooms), overlap, None)
    assert windows.document.tolist() == sorted(windows.document.tolist())
    for total, room, cut in zip(tokens, rooms, by_document(windows, len(tokens)), strict=True):
        assert [index for index, _, _ in cut] == list(range(len(cut)))
        spans = [range(start, start + count) for _, start, count in cut]
        assert sorted({token for span in spans for token in span}) == list(range(total))
        for earlier, later in pairwise(spans):
            assert len(earlier) == room, "every window but the last is full"
            assert earlier.stop - later.start == overlap
            assert later.stop > earlier.stop, "no window repeats the one before it"
        assert 0 <= len(spans[-1]) <= room
        assert spans[-1].stop == total


@given(documents(), st.integers(1, 5))
def test_max_n_segs_keeps_the_first(made: tuple[list[int], list[int], int], kept: int) -> None:
    tokens, rooms, overlap = made
    whole = by_document(cut_windows(ints(*tokens), ints(*rooms), overlap, None), len(tokens))
    first = by_document(cut_windows(ints(*tokens), ints(*rooms), overlap, kept), len(tokens))
    assert first == [windows[:kept] for windows in whole]


WORD_TOKENIZER = Tokenizer(WordLevel({"w": 0, "?": 1}, unk_token="?"))
WORD_TOKENIZER.pre_tokenizer = WhitespaceSplit()


@given(tokens=st.integers(0, 200), overlap=st.integers(0, 30), more=st.integers(1, 40))
def test_window_counts_are_those_of_tokenizers(tokens: int, overlap: int, more: int) -> None:
    room = overlap + more
    encoding = WORD_TOKENIZER.encode("w " * tokens)
    encoding.truncate(room, stride=overlap)
    cut = [encoding, *encoding.overflowing]
    assert window_counts(ints(tokens), ints(room), overlap).tolist() == [len(cut)]
    expected = [(index, part.offsets[0][0] // 2 if len(part) else 0, len(part)) for index, part in enumerate(cut)]
    assert by_document(cut_windows(ints(tokens), ints(room), overlap, None), 1) == [expected]


def test_windows_written_out() -> None:
    windows = cut_windows(ints(0, 4, 5, 11), ints(4, 4, 4, 6), 1, None)
    assert windows.document.tolist() == [0, 1, 2, 2, 3, 3]
    assert windows.segment_index.tolist() == [0, 0, 0, 1, 0, 1]
    assert windows.token_start.tolist() == [0, 0, 0, 3, 0, 5]
    assert windows.token_count.tolist() == [0, 4, 4, 2, 6, 6]


def test_no_documents_give_no_windows() -> None:
    windows = cut_windows(ints(), ints(), 3, None)
    assert [len(column) for column in windows] == [0, 0, 0, 0]


@given(st.lists(st.integers(0, 9)))
def test_ragged_arange(counts: list[int]) -> None:
    found = ragged_arange(ints(*counts))
    assert found.dtype == np.int64
    assert found.tolist() == [number for count in counts for number in range(count)]


def test_a_row_without_its_cls_token_is_refused() -> None:
    layout = read_tokenizer(make("bert-uncased")).layout
    pool = TokenPool(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.int32), ints(0, 1))
    without = layout.__class__(**{**layout.__dict__, "prefix": (7,)})
    with pytest.raises(ValueError, match="cls"):
        assemble(without, 8, cut_windows(ints(1), ints(4), 1, None), pool, ints(0), pool, ints(0))


@given(words=st.integers(0, 60), overlap=st.integers(0, 8), kept=st.one_of(st.none(), st.integers(1, 4)))
def test_segments_of_an_encoded_document(words: int, overlap: int, kept: int | None) -> None:
    """The same through the encoder: context tokens of the rows, taken together, are those of the context."""
    tokenizer = make("roberta")
    context = " ".join("abcdefghij"[number % 10] for number in range(words))
    tables = encode(tokenizer, [make_example(context, "what")], max_seq_length=14, doc_stride=overlap, max_n_segs=kept)
    expected = tokenizer(context, add_special_tokens=False)["input_ids"]
    joined: list[int] = []
    rows = features(tables)
    for number, row in enumerate(rows):
        first, count, at = row["context_token_start"], row["context_token_count"], row["context_row_start"]
        assert row["segment_index"] == number
        assert first == len(joined) - (overlap if number else 0)
        joined[first:] = row["input_ids"][at : at + count]
    assert joined == expected[: len(joined)]
    [document] = tables["documents"].to_pylist()
    assert (document["first_segment"], document["num_segments"]) == (0, len(rows))
    if kept is None or len(rows) < kept:
        assert joined == expected
    else:
        assert len(rows) <= kept

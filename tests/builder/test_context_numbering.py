import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.builder import context_numbering
from memxlnet.builder.context_numbering import batch_rows, number_contexts, row_bytes, text_digests
from memxlnet.format.ragged import Ints
from tests.format.content import Content, chunks, contents


def digests(chunks: list[list[str]]) -> list[Ints]:
    return [text_digests(pa.array(chunk, pa.large_string())) for chunk in chunks]


@given(st.lists(st.lists(st.text(max_size=2), max_size=6)))
def test_contexts_are_numbered_in_order_of_first_use(chunks: list[list[str]]) -> None:
    seen: dict[str, int] = {}
    expected = [seen.setdefault(text, len(seen)) for chunk in chunks for text in chunk]
    assert number_contexts(digests(chunks), len(expected)).tolist() == expected


def test_the_slices_of_a_batch_are_read_as_such() -> None:
    whole = pa.array(["x", "a", "b", "a", "x"], pa.large_string())
    assert number_contexts(map(text_digests, [whole.slice(1, 3), whole.slice(3, 2)]), 5).tolist() == [0, 1, 0, 0, 2]


@given(st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]), max_size=8))
def test_digests_that_share_a_half_differ(halves: list[tuple[int, int]]) -> None:
    texts = [f"{high} {low}" for high, low in halves]

    def strong(text: Any) -> bytes:
        return np.array(str(text).split(), np.uint64).tobytes()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(context_numbering, "_strong", strong)
        seen: dict[str, int] = {}
        expected = [seen.setdefault(text, len(seen)) for text in texts]
        assert number_contexts(digests([texts]), len(texts)).tolist() == expected


def test_the_digest_is_of_the_text() -> None:
    (text,) = pa.array(["caf\u00e9"], pa.large_string())
    assert context_numbering._strong(text) == hashlib.blake2b("caf\u00e9".encode(), digest_size=16).digest()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 120))
def test_no_batch_is_too_large_unless_a_row_is(sizes: list[int], most: int) -> None:
    rows = batch_rows(np.array(sizes, np.int64), 16, most)

    def largest(count: int) -> int:
        return max(sum(sizes[start : start + count]) for start in range(0, len(sizes), count))

    assert rows in (1, 2, 4, 8, 16)
    assert rows == 1 or largest(rows) <= most
    assert rows == 16 or largest(2 * rows) > most


@given(contents())
def test_the_bytes_of_rows_are_those_of_their_texts_and_lists(content: Content) -> None:
    for tables in chunks(content, [len(content.items)]):
        for name in ("documents", "contexts"):
            batch = tables[name]
            expected = [sum(map(_size, row.values())) for row in batch.to_pylist()]
            assert row_bytes(batch).tolist() == expected
            if batch.num_rows:
                assert row_bytes(batch.slice(1)).tolist() == expected[1:]


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(8 + len(part.encode()) if isinstance(part, str) else 4 for part in value)
    return 0

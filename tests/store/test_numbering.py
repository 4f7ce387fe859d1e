import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SourceError
from memxlnet.store.numbering import check_unique, number_contexts, repeated_ids


def arrays(chunks: list[list[str]]) -> list[pa.Array]:
    return [pa.array(chunk, pa.large_string()) for chunk in chunks]


@given(st.lists(st.lists(st.text(max_size=2), max_size=6)))
def test_contexts_are_numbered_in_order_of_first_use(chunks: list[list[str]]) -> None:
    seen: dict[str, int] = {}
    expected = [seen.setdefault(text, len(seen)) for chunk in chunks for text in chunk]
    assert number_contexts(arrays(chunks)).tolist() == expected


@given(st.lists(st.lists(st.text(max_size=1), max_size=6), min_size=1))
def test_exactly_the_repeated_ids_are_named(chunks: list[list[str]]) -> None:
    flat = [name for chunk in chunks for name in chunk]
    repeated = [name for name in dict.fromkeys(flat) if flat.count(name) > 1]
    if not repeated:
        check_unique(lambda: iter(arrays(chunks)), "source")
        return
    with pytest.raises(SourceError) as caught:
        check_unique(lambda: iter(arrays(chunks)), "source")
    assert str(caught.value) == str(repeated_ids(repeated, "source"))


def test_the_slices_of_a_batch_are_read_as_such() -> None:
    whole = pa.array(["x", "a", "b", "a", "x"], pa.large_string())
    assert number_contexts([whole.slice(1, 3), whole.slice(3, 2)]).tolist() == [0, 1, 0, 0, 2]
    with pytest.raises(SourceError, match="found 'a' repeatedly"):
        check_unique(lambda: iter([whole.slice(1, 1), whole.slice(3, 1)]), "source")
    check_unique(lambda: iter([whole.slice(0, 3)]), "source")


def test_ids_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda data: 7)
    check_unique(lambda: iter(arrays([["a", "b"], ["c"]])), "source")
    with pytest.raises(SourceError, match="found 'b' repeatedly"):
        check_unique(lambda: iter(arrays([["a", "b"], ["c", "b"]])), "source")


def test_many_repeated_ids_are_counted() -> None:
    names = [f"id {number}" for number in range(8)]
    with pytest.raises(SourceError) as caught:
        check_unique(lambda: iter(arrays([names, names])), "squad")
    assert str(caught.value) == (
        "squad: expected every id once, found 'id 0', 'id 1', 'id 2', 'id 3', 'id 4' and 3 more repeatedly; "
        "make the ids distinct"
    )

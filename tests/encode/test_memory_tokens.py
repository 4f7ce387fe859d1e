"""Memory tokens: added once, found again, never half."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from memxlnet.encode.memory_tokens import configure_memory_tokens, find_memory_tokens, read_token, write_token
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import SettingsError, TokenizerError
from tests.styles import STYLES, make


def state(tokenizer: Any) -> tuple[str, list[str], int]:
    return tokenizer.backend_tokenizer.to_str(), tokenizer.all_special_tokens, len(tokenizer)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("count", [1, 16])
def test_reads_then_writes_take_the_next_ids(name: str, count: int) -> None:
    tokenizer = make(name)
    before = len(tokenizer)
    found = configure_memory_tokens(tokenizer, count)
    assert found == {
        "mem_read_ids": list(range(before, before + count)),
        "mem_write_ids": list(range(before + count, before + 2 * count)),
    }
    assert tokenizer.convert_ids_to_tokens(found["mem_read_ids"]) == [f"[MEM_READ_{slot}]" for slot in range(count)]
    assert tokenizer.convert_ids_to_tokens(found["mem_write_ids"]) == [f"[MEM_WRITE_{slot}]" for slot in range(count)]
    assert len(tokenizer) == before + 2 * count
    assert read_tokenizer(tokenizer).vocabulary_size == before + 2 * count


def test_the_count_is_16_where_none_is_given() -> None:
    assert len(configure_memory_tokens(make("xlnet"))["mem_read_ids"]) == 16


@pytest.mark.real_data
def test_the_ids_of_the_real_vocabulary(xlnet: Any) -> None:
    found = configure_memory_tokens(xlnet, 4)
    assert found == {"mem_read_ids": list(range(32000, 32004)), "mem_write_ids": list(range(32004, 32008))}


@pytest.mark.parametrize("name", STYLES)
def test_twice_is_no_change(name: str) -> None:
    tokenizer = make(name)
    found = configure_memory_tokens(tokenizer, 3)
    before = state(tokenizer)
    assert configure_memory_tokens(tokenizer, 3) == found
    assert state(tokenizer) == before


def test_twice_is_no_change_after_saving_and_loading(tmp_path: Any) -> None:
    tokenizer = make("xlnet")
    found = configure_memory_tokens(tokenizer, 3)
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert configure_memory_tokens(loaded, 3) == found
    assert len(loaded) == len(tokenizer)
    assert set(loaded.all_special_tokens) == set(tokenizer.all_special_tokens)


@pytest.mark.parametrize("name", STYLES)
def test_other_special_tokens_stay(name: str) -> None:
    tokenizer = make(name)
    tokenizer.add_special_tokens({"extra_special_tokens": ["[MINE]"]}, replace_extra_special_tokens=False)
    earlier = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    assert "[MINE]" in earlier
    configure_memory_tokens(tokenizer, 2)
    later = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    assert earlier.items() <= later.items()
    added = {"[MEM_READ_0]", "[MEM_READ_1]", "[MEM_WRITE_0]", "[MEM_WRITE_1]"}
    assert later.keys() - earlier.keys() == added
    assert tokenizer.tokenize("[MINE] [MEM_WRITE_1]")[-1] == ("]" if name == "split-special" else "[MEM_WRITE_1]")


@pytest.mark.parametrize("other", [1, 3, 16])
def test_a_conflicting_count_is_an_error_and_changes_nothing(other: int) -> None:
    tokenizer = make("xlnet", 2)
    before = state(tokenizer)
    with pytest.raises(TokenizerError, match=rf"^memory_num_tokens: .*\b2\b.*\b{other}\b"):
        configure_memory_tokens(tokenizer, other)
    assert state(tokenizer) == before


@pytest.mark.parametrize("count", [0, -1, 1.0, "2", None, True])
def test_a_wrong_count_is_an_error(count: Any) -> None:
    with pytest.raises(SettingsError, match=r"^memory_num_tokens:"):
        configure_memory_tokens(make("xlnet"), count)


@pytest.mark.parametrize(
    ("names", "reads", "writes"),
    [
        (["[MEM_READ_0]"], [0], []),
        (["[MEM_WRITE_0]"], [], [0]),
        (["[MEM_READ_0]", "[MEM_READ_1]", "[MEM_WRITE_0]"], [0, 1], [0]),
        (["[MEM_READ_1]", "[MEM_WRITE_1]"], [1], [1]),
        (["[MEM_READ_0]", "[MEM_READ_2]", "[MEM_WRITE_0]", "[MEM_WRITE_2]"], [0, 2], [0, 2]),
        (["[MEM_READ_0]", "[MEM_WRITE_1]"], [0], [1]),
    ],
)
def test_an_incomplete_set_is_an_error(names: list[str], reads: list[int], writes: list[int]) -> None:
    tokenizer = make("bert-cased")
    tokenizer.add_special_tokens({"extra_special_tokens": names}, replace_extra_special_tokens=False)
    for use in (lambda: configure_memory_tokens(tokenizer, 1), lambda: read_tokenizer(tokenizer)):
        with pytest.raises(TokenizerError) as caught:
            use()
        assert f"found reads {reads} and writes {writes}" in str(caught.value)
        assert "load the tokenizer again and call configure_memory_tokens" in str(caught.value)


@given(st.permutations([f"[MEM_{side}_{slot}]" for side in ("READ", "WRITE") for slot in range(12)]))
def test_slots_are_found_in_their_order_whatever_the_ids(names: list[str]) -> None:
    added = {name: 100 + number for number, name in enumerate(names)}
    reads, writes = find_memory_tokens({**added, "<sep>": 4, "[MEM_READ_x]": 5, "x[MEM_READ_0]": 6, "[MEM_READ_01]": 7})
    assert reads == tuple(added[read_token(slot)] for slot in range(12))
    assert writes == tuple(added[write_token(slot)] for slot in range(12))


def test_no_memory_tokens_are_two_empty_tuples() -> None:
    assert find_memory_tokens({"<sep>": 4}) == ((), ())


@pytest.mark.parametrize("value", [None, "xlnet-base-cased", 3, BertTokenizerFast, object()])
def test_what_is_no_tokenizer_is_refused(value: Any) -> None:
    with pytest.raises(TokenizerError, match=r"^tokenizer:") as caught:
        configure_memory_tokens(value, 2)
    assert "AutoTokenizer.from_pretrained" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_raw_tokenizer_is_refused_with_what_to_do() -> None:
    with pytest.raises(TokenizerError, match=r"transformers\.PreTrainedTokenizerFast"):
        configure_memory_tokens(make("xlnet").backend_tokenizer, 2)

"""Tokenizers by name or directory."""

import shutil
from pathlib import Path

import pytest
from transformers import XLNetTokenizerFast

from memxlnet.cli.tokenizers import load_tokenizer
from memxlnet.errors import SettingsError, TokenizerError
from memxlnet.sample import sample_tokenizer_directory
from tests.support import XLNET, need_real_data


def test_a_directory() -> None:
    tokenizer = load_tokenizer(str(sample_tokenizer_directory()))
    assert (len(tokenizer), tokenizer.is_fast, tokenizer.padding_side) == (2000, True, "left")


def test_memory_tokens_are_added() -> None:
    tokenizer = load_tokenizer(str(sample_tokenizer_directory()), 3)
    assert len(tokenizer) == 2006
    assert tokenizer.convert_tokens_to_ids("[MEM_WRITE_2]") == 2005
    with pytest.raises(SettingsError, match="memory_num_tokens: expected an integer of at least 0, found -1"):
        load_tokenizer(str(sample_tokenizer_directory()), -1)


def test_a_directory_without_a_class_is_told_by_its_name(tmp_path: Path) -> None:
    directory = tmp_path / "my-XLNet-copy"
    directory.mkdir()
    shutil.copy(sample_tokenizer_directory() / "tokenizer.json", directory)
    assert isinstance(load_tokenizer(str(directory)), XLNetTokenizerFast)


@pytest.mark.real_data
def test_the_real_one() -> None:
    need_real_data()
    tokenizer = load_tokenizer(str(XLNET))
    assert isinstance(tokenizer, XLNetTokenizerFast)
    assert len(tokenizer) == 32000


@pytest.mark.parametrize("name", ["xlnet-empty", "other-empty"])
def test_a_directory_without_a_vocabulary(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    message = (
        f"tokenizer: expected tokenizer.json or spiece.model or vocab.txt or vocab.json in {tmp_path / name}, found"
    )
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(str(tmp_path / name))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_damaged_vocabulary(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=rf"^tokenizer '{tmp_path}': cannot be loaded: "):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("name", ["nobody/nothing", "x" * 500])
def test_a_name_that_nobody_has(name: str) -> None:
    with pytest.raises((TokenizerError, OSError), match=name):
        load_tokenizer(name)

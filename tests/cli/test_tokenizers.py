"""Tokenizers by name or directory."""

import re
import shutil
from pathlib import Path

import pytest
from transformers import BertTokenizerFast, XLNetTokenizerFast

from memxlnet.cli.tokenizers import load_tokenizer
from memxlnet.errors import SettingsError, TokenizerError
from memxlnet.sample import sample_tokenizer_directory
from tests import styles
from tests.support import XLNET, need_real_data


def test_a_directory() -> None:
    tokenizer = load_tokenizer(str(sample_tokenizer_directory()))
    assert (len(tokenizer), tokenizer.is_fast, tokenizer.padding_side) == (2000, True, "left")


def test_memory_tokens_are_added() -> None:
    tokenizer = load_tokenizer(str(sample_tokenizer_directory()), 3)
    assert len(tokenizer) == 2006
    assert tokenizer.convert_tokens_to_ids("[MEM_WRITE_2]") == 2005
    with pytest.raises(SettingsError, match=r"^memory_num_tokens:.*-1$"):
        load_tokenizer(str(sample_tokenizer_directory()), -1)


def vocabulary_in(directory: Path) -> Path:
    """A directory of a vocabulary alone."""
    directory.mkdir(parents=True)
    shutil.copy(sample_tokenizer_directory() / "tokenizer.json", directory)
    return directory


def test_a_directory_without_a_class_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = vocabulary_in(tmp_path / "my-XLNet-copy")
    assert isinstance(load_tokenizer(str(directory)), XLNetTokenizerFast)
    (tmp_path / "link").symlink_to(directory)
    assert isinstance(load_tokenizer(str(tmp_path / "link")), XLNetTokenizerFast)
    monkeypatch.chdir(directory)
    for name in (".", "./", "../my-XLNet-copy"):
        assert isinstance(load_tokenizer(name), XLNetTokenizerFast)
    with pytest.raises(TokenizerError, match=r"^tokenizer:.*''$"):
        load_tokenizer("")


def test_a_directory_of_unknown_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = vocabulary_in(tmp_path / "xlnet" / "files")
    (tmp_path / "xlnet-link").symlink_to(directory)
    monkeypatch.chdir(directory)
    for name in (str(directory), ".", str(tmp_path / "xlnet-link")):
        with pytest.raises(TokenizerError, match=rf"^tokenizer:.*\bconfig\.json\b.*{re.escape(str(Path(name)))}"):
            load_tokenizer(name)


@pytest.mark.parametrize("name", ["bert-vs-xlnet", "bert"])
def test_a_directory_with_a_configuration_keeps_its_class(tmp_path: Path, name: str) -> None:
    saved = styles.make("bert-cased")
    saved.save_pretrained(tmp_path / name)
    tokenizer = load_tokenizer(str(tmp_path / name))
    assert isinstance(tokenizer, BertTokenizerFast)
    assert tokenizer.get_vocab() == saved.get_vocab()


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary_in(tmp_path / "xlnet")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(load_tokenizer("~/xlnet"), XLNetTokenizerFast)


@pytest.mark.parametrize("name", ["", "./none", ".none", "../none", "/none", "~/none", "~no-such-user/none", "file"])
def test_a_path_that_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    name = str(tmp_path / name) if name == "file" else name
    with pytest.raises(TokenizerError, match=f"^tokenizer:.*{re.escape(repr(name))}$"):
        load_tokenizer(name)


@pytest.mark.real_data
def test_the_real_one() -> None:
    need_real_data()
    tokenizer = load_tokenizer(str(XLNET))
    assert isinstance(tokenizer, XLNetTokenizerFast)
    assert len(tokenizer) == 32000


@pytest.mark.parametrize("name", ["xlnet-empty", "other-empty"])
def test_a_directory_without_a_vocabulary(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(TokenizerError, match=rf"^tokenizer:.*\btokenizer\.json\b.*{tmp_path / name}"):
        load_tokenizer(str(tmp_path / name))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_damaged_vocabulary(tmp_path: Path, content: str) -> None:
    directory = tmp_path / "xlnet"
    directory.mkdir()
    (directory / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=f"^tokenizer:.*'{directory}'"):
        load_tokenizer(str(directory))


@pytest.mark.parametrize("name", ["nobody/nothing", "x" * 500])
def test_a_name_that_nobody_has(name: str) -> None:
    with pytest.raises((TokenizerError, OSError), match=name):
        load_tokenizer(name)

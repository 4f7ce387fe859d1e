"""Abuses that were tried and once worked: each stays as a test."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.data.dataset import ChunkedCacheManager, LazySquadLikeQADataset, create_dataloader
from memxlnet.encode import unit_tokenizer
from memxlnet.encode.word_tokenizer import WordTokenizer, splits_into_words
from memxlnet.errors import CacheMismatchError, CacheNotFoundError, SettingsError
from memxlnet.maintain.verify import verify
from tests.support import build, example, long_examples, write_json_lines


class TestLookupByContent:
    def test_a_file_that_changed_has_no_cache(self, tmp_path: Path, tokenizer: Any) -> None:
        source = write_json_lines(tmp_path / "data.jsonl", long_examples(3))
        build(source, tokenizer, tmp_path / "caches")
        manager = ChunkedCacheManager(tmp_path / "caches")
        assert manager.cache_exists(source, "test")
        write_json_lines(source, long_examples(4))
        assert not manager.cache_exists(source, "test")
        with pytest.raises(CacheMismatchError, match=r"source\.sha256"):
            LazySquadLikeQADataset(manager, source, "test")

    def test_files_of_one_name_in_two_folders(self, tmp_path: Path, tokenizer: Any) -> None:
        for number in (2, 3):
            (tmp_path / str(number)).mkdir()
            write_json_lines(tmp_path / str(number) / "data.jsonl", long_examples(number))
        build(tmp_path / "2" / "data.jsonl", tokenizer, tmp_path / "caches")
        with pytest.raises(CacheMismatchError):
            LazySquadLikeQADataset(tmp_path / "caches", tmp_path / "3" / "data.jsonl", "test")
        build(tmp_path / "3" / "data.jsonl", tokenizer, tmp_path / "caches")
        for number in (2, 3):
            found = LazySquadLikeQADataset(tmp_path / "caches", tmp_path / str(number) / "data.jsonl", "test")
            assert found.cache.num_documents == number

    def test_lists_are_distinguished(self, tmp_path: Path, tokenizer: Any) -> None:
        build(long_examples(2), tokenizer, tmp_path)
        with pytest.raises(CacheMismatchError, match="source"):
            LazySquadLikeQADataset(tmp_path, long_examples(3), "test")

    def test_names_of_other_scripts_are_not_one_name(self, tmp_path: Path, tokenizer: Any) -> None:
        source = write_json_lines(tmp_path / "\u4e2d\u6587.jsonl", long_examples(2))
        build(source, tokenizer, tmp_path / "caches")
        with pytest.raises(CacheNotFoundError):
            LazySquadLikeQADataset(tmp_path / "caches", "\u65e5\u672c.jsonl", "test")
        gone = LazySquadLikeQADataset(tmp_path / "caches", "\u4e2d\u6587.jsonl", "test")
        assert gone.cache.num_documents == 2


def word_level(**options: Any) -> Tokenizer:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "sat": 3}, unk_token="[UNK]", **options))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


class TestWords:
    @pytest.mark.parametrize("content", [" cat", "the cat", "cat "])
    def test_added_tokens_with_blanks_rule_the_path_out(self, content: str) -> None:
        backend = word_level()
        assert splits_into_words(backend)
        backend.add_tokens([AddedToken(content, normalized=False)])
        assert not splits_into_words(backend)

    def test_byte_fallback_rules_the_path_out(self) -> None:
        vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
        backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        assert not splits_into_words(backend)

    def test_a_tokenizer_that_splits_nothing(self) -> None:
        backend = word_level()
        backend.pre_tokenizer = pre_tokenizers.Sequence([])
        assert not splits_into_words(backend)

    def test_long_words_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unit_tokenizer, "MAX_TOKENS", 50)
        tokenizer = WordTokenizer(word_level())
        for number in range(20):
            tokenizer.tokenize([" ".join(f"w{number}x{index}" for index in range(20))])
        assert len(tokenizer._known.ids) <= 50 + 20


def test_dropped_examples_keep_their_integer_ids(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{**example("x"), "id": 900, "question": None}, {**example("x"), "id": np.int64(901)}]
    dataset = build(rows, tokenizer, tmp_path, on_bad_example="drop")
    dropped = [json.loads(line) for line in (dataset.directory / "dropped.jsonl").read_text().splitlines()]
    assert [entry["id"] for entry in dropped] == ["900"]
    assert list(dataset.get_all_documents()) == ["901"]


def test_steps_can_be_saved_copied_and_sent(tmp_path: Path, tokenizer: Any) -> None:
    dataset = build(long_examples(3), tokenizer, tmp_path / "caches")
    step = next(iter(create_dataloader(dataset, 2)))[0]
    ids = ["id-0", "id-1"]
    assert pickle.loads(pickle.dumps(step))["example_ids"] == ids
    assert copy.deepcopy(step)["example_ids"] == ids
    torch.save(step, tmp_path / "step.pt")
    assert torch.load(tmp_path / "step.pt", weights_only=False)["example_ids"] == ids


@pytest.mark.parametrize("rows", [0, -1, True, "5", 2.5])
def test_a_bad_shard_size_is_an_error_at_once(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(SettingsError, match=r"^max_shard_rows:"):
        ChunkedCacheManager(tmp_path, max_shard_rows=rows)


def test_a_shard_size_beside_a_manager_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    from memxlnet import process_and_cache_dataset

    with pytest.raises(SettingsError, match=r"^max_shard_rows:.*cache_manager"):
        process_and_cache_dataset(
            [], "x", tokenizer=tokenizer, cache_manager=ChunkedCacheManager(tmp_path), max_shard_rows=5
        )


def test_numpy_integers_are_integers(tmp_path: Path, tokenizer: Any) -> None:
    plain = build(long_examples(3), tokenizer, tmp_path, max_seq_length=48, doc_stride=8)
    odd = build(
        long_examples(3), tokenizer, tmp_path, max_seq_length=np.int64(48), doc_stride=np.int32(8), max_examples=None
    )
    assert odd.directory == plain.directory
    assert len(create_dataloader(plain, np.int64(2))) == 2  # type: ignore[call-overload]


def test_what_a_builder_killed_in_its_last_step_left_is_removed(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.maintain.directory_swap.sync", killed)
        with pytest.raises(KilledError):
            build(long_examples(3), tokenizer, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert [name.startswith(".build-") for name in names] == [True, False]
    dataset = build(long_examples(3), tokenizer, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [dataset.directory]
    verify(dataset.directory)


def test_a_reader_that_meets_a_rebuild_opens_the_new_cache(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = build(long_examples(3), tokenizer, tmp_path)
    directory, hidden = dataset.directory, tmp_path / "hidden"
    directory.rename(hidden)
    moved: list[float] = []

    def come_back(seconds: float) -> None:
        if not moved:
            hidden.rename(directory)
        moved.append(seconds)

    monkeypatch.setattr("memxlnet.format.published.time.sleep", come_back)
    assert len(LazySquadLikeQADataset.open(directory)) == len(dataset)
    assert len(moved) == 1


@pytest.mark.parametrize("name", ["y" * 300, "~nobody-of-this-name/x", "\ud800"])
def test_names_that_no_file_system_takes(name: str) -> None:
    with pytest.raises((SettingsError, CacheNotFoundError)):
        LazySquadLikeQADataset.open(name)
    with pytest.raises((SettingsError, CacheNotFoundError)):
        verify(name)
    with pytest.raises(SettingsError):
        CacheWriter(None)  # type: ignore[arg-type]

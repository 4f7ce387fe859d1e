import shutil
from pathlib import Path
from typing import Any

import pytest

from memxlnet.data.cache_manager import ChunkedCacheManager, find_cache
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.errors import AmbiguousCacheError, CacheNotFoundError, RowIndexError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from tests.load.helpers import oracle_rows, plain_row, sample_tokenizer
from tests.support import long_examples, write_json_lines


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of examples and a directory with the cache of it."""
    folder = tmp_path_factory.mktemp("built")
    source = write_json_lines(folder / "questions.jsonl", long_examples(5, words=40))
    _build(source, ChunkedCacheManager(folder / "cache", 7))
    return folder


@pytest.fixture
def source(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy2(built / "questions.jsonl", tmp_path))


@pytest.fixture
def manager(built: Path, tmp_path: Path) -> ChunkedCacheManager:
    """One with a copy of the cache."""
    return ChunkedCacheManager(shutil.copytree(built / "cache", tmp_path / "cache"), 7)


def _build(source: Path, manager: ChunkedCacheManager, **options: Any) -> int:
    settings = {"max_seq_length": 64, "doc_stride": 16, **options}
    tokenizer = sample_tokenizer()
    return process_and_cache_dataset(source, "train", tokenizer=tokenizer, cache_manager=manager, **settings)


def test_cache_exists(manager: ChunkedCacheManager, source: Path) -> None:
    assert manager.cache_exists("questions", "train")
    assert manager.cache_exists(source, "train")
    assert manager.cache_exists(str(source), "train")
    assert not manager.cache_exists("questions", "test")
    assert not manager.cache_exists("others", "train")
    _build(source, manager, doc_stride=8)
    assert manager.cache_exists("questions", "train")


def test_an_empty_or_missing_directory_has_none(tmp_path: Path) -> None:
    manager = ChunkedCacheManager(tmp_path / "nowhere")
    assert not manager.cache_exists("questions", "train")
    with pytest.raises(CacheNotFoundError):
        manager.get_total_chunks("questions", "train")
    assert not (tmp_path / "nowhere").exists()


def test_chunks_are_the_rows_in_order(manager: ChunkedCacheManager, source: Path) -> None:
    expected = oracle_rows(sample_tokenizer(), long_examples(5, words=40), 64, 16)
    total = manager.get_total_chunks("questions", "train")
    assert total == -(-len(expected) // 7) > 2
    assert len(expected) % 7
    chunks = [manager.load_chunk("questions", "train", chunk) for chunk in range(total)]
    assert [len(chunk) for chunk in chunks[:-1]] == [7] * (total - 1)
    assert [plain_row(item) for chunk in chunks for item in chunk] == expected


@pytest.mark.parametrize("chunk_size", [1, 1000])
def test_chunk_size_is_a_way_of_reading(manager: ChunkedCacheManager, chunk_size: int) -> None:
    other = ChunkedCacheManager(manager.cache_dir, chunk_size)
    rows = len(oracle_rows(sample_tokenizer(), long_examples(5, words=40), 64, 16))
    assert other.get_total_chunks("questions", "train") == -(-rows // chunk_size)
    assert len(other.load_chunk("questions", "train", 0)) == min(rows, chunk_size)


def test_chunks_are_views_of_one_map(manager: ChunkedCacheManager) -> None:
    one, other = (manager.load_chunk("questions", "train", 1)[0]["input_ids"] for _ in range(2))
    assert one.data_ptr() == other.data_ptr()


def test_a_rebuilt_or_other_cache_is_opened_again(manager: ChunkedCacheManager, source: Path) -> None:
    first = manager.load_chunk("questions", "train", 0)
    assert first[0]["example_id"] == "id-0"
    write_json_lines(source, [{**one, "id": f"new-{one['id']}"} for one in long_examples(5, words=40)])
    _build(source, manager)
    with pytest.raises(AmbiguousCacheError):
        manager.load_chunk("questions", "train", 0)

    shutil.rmtree(next(path for path in manager.cache_dir.iterdir() if _first_id(path) == "id-0"))
    assert manager.load_chunk("questions", "train", 0)[0]["example_id"] == "new-id-0"


def _first_id(path: Path) -> str:
    return CacheDataset(path).get_all_documents()[0] if (path / "manifest.json").exists() else ""


@pytest.mark.parametrize("chunk", [-1, 10**6, 1.0, "0", None, True])
def test_there_is_no_such_chunk(manager: ChunkedCacheManager, chunk: Any) -> None:
    total = manager.get_total_chunks("questions", "train")
    with pytest.raises(RowIndexError, match=rf"\b{total - 1}\b.*{chunk!r}$"):
        manager.load_chunk("questions", "train", chunk)
    with pytest.raises(IndexError):
        manager.load_chunk("questions", "train", total)


def test_several_caches_are_an_error_that_lists_them(manager: ChunkedCacheManager, source: Path) -> None:
    _build(source, manager, doc_stride=8)
    for call in (manager.get_total_chunks, lambda name, split: manager.load_chunk(name, split, 0)):
        with pytest.raises(AmbiguousCacheError) as caught:
            call("questions", "train")
        assert isinstance(caught.value, LookupError)
        for stride in (8, 16):
            assert f"doc_stride={stride}" in str(caught.value)


def test_missing_caches_are_an_error(manager: ChunkedCacheManager) -> None:
    with pytest.raises(CacheNotFoundError, match=r"'others'.*'train'"):
        manager.load_chunk("others", "train", 0)


@pytest.mark.parametrize(("name", "split"), [("", "train"), ("questions", ""), ("questions", None), ("a\0b", "train")])
def test_names_are_checked(manager: ChunkedCacheManager, name: Any, split: Any) -> None:
    with pytest.raises(SettingsError):
        manager.load_chunk(name, split, 0)
    with pytest.raises(SettingsError):
        manager.cache_exists(name, split)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("cache_dir", (None,)),
        ("cache_dir", (5,)),
        *(("chunk_size", ("cache", size)) for size in (0, -1, 1.5, True, "7")),
    ],
)
def test_construction_checks_its_arguments(field: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(SettingsError, match=rf"^{field}:"):
        ChunkedCacheManager(*arguments)


def test_one_content_under_two_names_is_not_ambiguous(manager: ChunkedCacheManager, source: Path) -> None:
    copy = shutil.copy(source, source.with_name("copy.jsonl"))
    _build(Path(copy), manager)
    for name in (source, Path(copy)):
        directory, _ = find_cache(manager.cache_dir, name, "train")
        assert directory.name.startswith(f"{name.stem}--train--")

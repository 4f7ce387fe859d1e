import gc
import inspect
import logging
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.builder import Build
from memxlnet.data.cache_manager import ChunkedCacheManager
from memxlnet.data.process import StreamingSquadProcessor, process_and_cache_dataset
from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset, create_dataset_from_cache
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import (
    AmbiguousCacheError,
    CacheMismatchError,
    CacheNotFoundError,
    ExampleError,
    SettingsError,
    SourceError,
    SourceNotFoundError,
    TokenizerError,
)
from memxlnet.load.cache_dataset import CacheDataset
from tests.load.helpers import oracle_rows, plain_row, sample_tokenizer
from tests.support import example, long_examples, write_json_lines


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_json_lines(tmp_path / "questions.jsonl", long_examples(6, words=40))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a cache of the source."""
    folder = tmp_path_factory.mktemp("built")
    source = write_json_lines(folder / "questions.jsonl", long_examples(6, words=40))
    processor = StreamingSquadProcessor(sample_tokenizer(), 64, 16)
    manager = ChunkedCacheManager(folder / "cache", 10)
    assert processor.process_dataset_streaming(source, "train", None, manager) > 10
    return manager.cache_dir


@pytest.fixture
def no_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: Any) -> Any:
        raise AssertionError("nothing was to be built")

    monkeypatch.setattr(Build, "run", run)


def _rows(dataset: CacheDataset) -> list[dict[str, Any]]:
    return [plain_row(item) for item in dataset[:]]


class TestEager:
    def test_positional_arguments_of_the_earlier_code_base(self, source: Path, tokenizer: Any) -> None:
        dataset = SquadLikeQADataset("train", tokenizer, 64, 16, 4, str(source), 2)
        assert _rows(dataset) == oracle_rows(tokenizer, long_examples(6, words=40)[:4], 64, 16, max_n_segs=2)
        assert (dataset.manifest.split, dataset.manifest.name) == ("train", "questions")
        assert dataset.cache.in_memory

    def test_defaults(self) -> None:
        found = {name: p.default for name, p in inspect.signature(SquadLikeQADataset).parameters.items()}
        assert list(found)[:7] == [
            "split", "tokenizer", "max_seq_length", "doc_stride", "max_examples", "dataset_name", "max_n_segs",
        ]  # fmt: skip
        assert (found["max_seq_length"], found["doc_stride"]) == (384, 128)
        assert found["max_examples"] is found["max_n_segs"] is None

    def test_takes_rows_and_an_iterator_with_an_identity(self, tokenizer: Any) -> None:
        rows = long_examples(3, words=20)
        one = SquadLikeQADataset("train", tokenizer, 64, 16, None, rows)
        other = SquadLikeQADataset("train", tokenizer, 64, 16, None, iter(rows), identity="v1")
        assert _rows(one) == _rows(other) == oracle_rows(tokenizer, rows, 64, 16)
        with pytest.raises(SourceError, match="identity="):
            SquadLikeQADataset("train", tokenizer, 64, 16, None, iter(rows))

    def test_its_directory_goes_with_it_without_a_warning(
        self, source: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        dataset = SquadLikeQADataset("train", tokenizer, 64, 16, None, source)
        assert scratch in dataset.directory.parents
        expected = _rows(dataset)
        assert _rows(pickle.loads(pickle.dumps(dataset))) == expected
        del dataset
        gc.collect()
        assert list(scratch.iterdir()) == []
        with pytest.raises(SettingsError):
            SquadLikeQADataset("train", tokenizer, 64, 999, None, source)
        gc.collect()
        assert list(scratch.iterdir()) == []

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_a_forked_process_does_not_take_the_directory_away(self, source: Path, tokenizer: Any) -> None:
        dataset = SquadLikeQADataset("train", tokenizer, 64, 16, None, source)
        directory = dataset.directory
        child = os.fork()
        if not child:
            del dataset
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        assert directory.is_dir()
        assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)

    def test_a_cache_dir_is_used_and_kept(self, source: Path, tokenizer: Any, tmp_path: Path) -> None:
        one = SquadLikeQADataset("train", tokenizer, 64, 16, None, source, cache_dir=tmp_path / "cache")
        assert one.directory.parent == tmp_path / "cache"
        lazy = LazySquadLikeQADataset(tmp_path / "cache", source, "train")
        assert _rows(lazy) == _rows(one)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("train", None, 64, 16), TokenizerError),
            (("", "tokenizer", 64, 16), SettingsError),
            (("train", "tokenizer", 0, 16), SettingsError),
            (("train", "tokenizer", 64, -1), SettingsError),
            (("train", "tokenizer", 64, 16, 0), SettingsError),
            (("train", "tokenizer", 64, 16, None, "missing.json"), SourceNotFoundError),
            (("train", "tokenizer", 64, 16, None, [{"id": "a"}]), ExampleError),
        ],
    )
    def test_bad_arguments(self, source: Path, tokenizer: Any, arguments: tuple[Any, ...], error: type) -> None:
        options: dict[str, Any] = {} if len(arguments) > 5 else {"dataset_name": source}
        full = [tokenizer if value == "tokenizer" else value for value in arguments]
        with pytest.raises(error):
            SquadLikeQADataset(*full, **options)


class TestLazy:
    @pytest.fixture
    def manager(self, built: Path, tmp_path: Path) -> ChunkedCacheManager:
        """One with a copy of the cache."""
        return ChunkedCacheManager(shutil.copytree(built, tmp_path / "cache"), 10)

    @pytest.mark.parametrize(
        "params",
        [
            None,
            {},
            {"max_seq_length": 64},
            {"max_seq_length": 64, "doc_stride": 16, "max_n_segs": None, "max_examples": None},
            {"streaming_chunk_size": 7, "max_memory_gb": 1, "use_streaming": False, "chunk_size": 3},
            {"insert_memory_tokens": True, "on_bad_example": "error"},
        ],
    )
    def test_fitting_params(self, manager: ChunkedCacheManager, tokenizer: Any, source: Path, params: Any) -> None:
        expected = oracle_rows(tokenizer, long_examples(6, words=40), 64, 16)
        assert _rows(LazySquadLikeQADataset(manager, source, "train", params)) == expected
        with_tokenizer = {**(params or {}), "tokenizer": tokenizer}
        by_path = LazySquadLikeQADataset(manager.cache_dir, "questions", "train", with_tokenizer)
        assert len(by_path) == len(expected)
        assert not by_path.cache.in_memory

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"max_seq_length": 384}, r"max_seq_length:.*384.*64"),
            ({"doc_stride": 128, "max_n_segs": 3}, r"doc_stride:.*128.*16.*max_n_segs:.*3.*None"),
            ({"max_examples": 5}, r"max_examples:.*5.*None"),
            ({"insert_memory_tokens": False}, r"insert_memory_tokens:.*False.*True"),
        ],
    )
    def test_other_params_are_an_error_that_names_the_field(
        self, manager: ChunkedCacheManager, source: Path, params: Any, message: str
    ) -> None:
        with pytest.raises(CacheMismatchError, match=rf"'questions'.*'train'.*{message}"):
            LazySquadLikeQADataset(manager, source, "train", params)

    def test_another_tokenizer_is_an_error_that_names_the_field(
        self, manager: ChunkedCacheManager, source: Path, tokenizer: Any
    ) -> None:
        configure_memory_tokens(tokenizer, 2)
        with pytest.raises(CacheMismatchError, match=r"tokenizer\.layout\.memory_read_ids") as caught:
            LazySquadLikeQADataset(manager, source, "train", {"tokenizer": tokenizer})
        assert "tokenizer.sha256" in str(caught.value)

    @pytest.mark.parametrize("params", [{"max_len": 64}, {"max_seq_length": 64, "overlap": 3}])
    def test_unknown_params(self, manager: ChunkedCacheManager, source: Path, params: Any) -> None:
        with pytest.raises(SettingsError, match=r"^cache_params:.*'(max_len|overlap)'"):
            LazySquadLikeQADataset(manager, source, "train", params)

    @pytest.mark.parametrize("params", [[("max_seq_length", 64)], "max_seq_length", 64])
    def test_params_are_a_mapping(self, manager: ChunkedCacheManager, source: Path, params: Any) -> None:
        with pytest.raises(SettingsError, match=rf"^cache_params:.*{type(params).__name__}"):
            LazySquadLikeQADataset(manager, source, "train", params)

    @pytest.mark.parametrize("manager", [None, 5, object()])
    def test_a_manager_is_one_or_a_path(self, manager: Any) -> None:
        with pytest.raises(SettingsError, match=r"^cache_manager:"):
            LazySquadLikeQADataset(manager, "questions", "train")

    @pytest.mark.parametrize(
        ("name", "split"), [("questions", "validation"), ("others", "train"), ("squad_v2", "train")]
    )
    def test_there_is_no_such_cache(self, manager: ChunkedCacheManager, name: str, split: str) -> None:
        with pytest.raises(CacheNotFoundError, match=rf"'{name}'.*'{split}'"):
            LazySquadLikeQADataset(manager, name, split)

    def test_there_are_several_caches(self, manager: ChunkedCacheManager, source: Path, tokenizer: Any) -> None:
        StreamingSquadProcessor(tokenizer, 48, 16).process_dataset_streaming(source, "train", None, manager)
        with pytest.raises(AmbiguousCacheError) as caught:
            LazySquadLikeQADataset(manager, source, "train", {"doc_stride": 16})
        directories = [path for path in manager.cache_dir.iterdir() if (path / "manifest.json").exists()]
        assert len(directories) == 2
        assert all(path.name in str(caught.value) for path in directories)
        assert "max_seq_length=64" in str(caught.value)
        assert "max_seq_length=48" in str(caught.value)
        one = LazySquadLikeQADataset(manager, source, "train", {"max_seq_length": 48})
        assert one.manifest.max_seq_length == 48
        with pytest.raises(CacheMismatchError) as mismatch:
            LazySquadLikeQADataset(manager, source, "train", {"max_seq_length": 50})
        assert all(path.name in str(mismatch.value) for path in directories)

    def test_copies(self, manager: ChunkedCacheManager, source: Path) -> None:
        dataset = LazySquadLikeQADataset(manager, source, "train", copies=True)
        dataset[0]["input_ids"].zero_()
        assert dataset[0]["input_ids"].any()

    def test_open_needs_no_tokenizer(self, manager: ChunkedCacheManager, source: Path, tokenizer: Any) -> None:
        directory = LazySquadLikeQADataset(manager, source, "train").directory
        dataset = LazySquadLikeQADataset.open(directory)
        assert type(dataset) is LazySquadLikeQADataset
        assert _rows(dataset) == oracle_rows(tokenizer, long_examples(6, words=40), 64, 16)


class TestCreate:
    def test_positional_order(self) -> None:
        parameters = inspect.signature(create_dataset_from_cache).parameters.values()
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == [
            "dataset_name", "split", "cache_dir", "max_examples", "max_seq_length", "doc_stride", "max_n_segs",
            "tokenizer", "hub_dataset_id", "use_hub_dataset", "hub_token", "use_lazy_loading",
        ]  # fmt: skip

    @pytest.mark.parametrize(("lazy", "kind"), [(True, LazySquadLikeQADataset), (False, SquadLikeQADataset)])
    def test_every_positional_argument(
        self, source: Path, tokenizer: Any, tmp_path: Path, lazy: bool, kind: type
    ) -> None:
        dataset = create_dataset_from_cache(
            str(source), "train", tmp_path / "cache", 5, 60, 12, 3, tokenizer, None, False, "secret-token", lazy
        )
        assert type(dataset) is kind
        assert dataset.cache.in_memory is not lazy
        assert _rows(dataset) == oracle_rows(tokenizer, long_examples(6, words=40)[:5], 60, 12, max_n_segs=3)
        found = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert not any(b"secret-token" in content for content in found)

    def test_keyword_arguments(self, tokenizer: Any, tmp_path: Path) -> None:
        configure_memory_tokens(tokenizer, 2)
        rows = [*long_examples(3, words=40), {"id": "bad", "question": 5, "context": "c"}]
        options: dict[str, Any] = {"tokenizer": tokenizer, "max_seq_length": 60, "doc_stride": 12}
        options |= {"on_bad_example": "drop", "insert_memory_tokens": False, "max_shard_rows": 4, "identity": "v1"}
        dataset = create_dataset_from_cache(iter(rows), "train", tmp_path, progress=False, **options)
        assert _rows(dataset) == oracle_rows(tokenizer, rows[:3], 60, 12)
        assert len(dataset.cache.features) == -(-len(dataset) // 4)
        with pytest.raises(ExampleError, match="bad"):
            create_dataset_from_cache(
                rows, "train", tmp_path, **{**options, "on_bad_example": "error", "identity": None}
            )

    def test_opens_what_another_call_built(self, source: Path, tokenizer: Any, tmp_path: Path, no_builds: None) -> None:
        with pytest.raises(AssertionError, match="nothing was to be built"):
            create_dataset_from_cache(source, "train", tmp_path / "cache", tokenizer=tokenizer)

    def test_builds_once(self, source: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options: dict[str, Any] = {"tokenizer": tokenizer, "max_seq_length": 64, "doc_stride": 16}
        builds: list[Any] = []
        real = Build.run

        def run(*arguments: Any) -> Any:
            builds.append(arguments)
            return real(*arguments)

        monkeypatch.setattr(Build, "run", run)
        count = process_and_cache_dataset(source, "train", tmp_path / "cache", **options)
        for lazy in (True, False):
            dataset = create_dataset_from_cache(source, "train", tmp_path / "cache", use_lazy_loading=lazy, **options)
            assert len(dataset) == count
        assert len(builds) == 1
        create_dataset_from_cache(source, "train", tmp_path / "cache", rebuild=True, **options)
        assert len(builds) == 2
        create_dataset_from_cache(source, "validation", tmp_path / "cache", **options)
        create_dataset_from_cache(source, "train", tmp_path / "cache", max_examples=2, **options)
        assert len(builds) == 4

    def test_a_changed_source_is_built_again(self, source: Path, tokenizer: Any, tmp_path: Path) -> None:
        options: dict[str, Any] = {"tokenizer": tokenizer, "max_seq_length": 64, "doc_stride": 16}
        old = create_dataset_from_cache(source, "train", tmp_path / "cache", **options)
        rows = [*long_examples(6, words=40), example("one more", id="more")]
        write_json_lines(source, rows)
        new = create_dataset_from_cache(source, "train", tmp_path / "cache", **options)
        assert new.directory != old.directory
        assert new.get_all_documents()[-1] == "more"
        assert len(old.get_all_documents()) == 6

    def test_the_log_names_the_field_that_differs(
        self, source: Path, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        options: dict[str, Any] = {"tokenizer": tokenizer, "doc_stride": 16}
        create_dataset_from_cache(source, "train", tmp_path / "cache", max_seq_length=64, **options)
        with caplog.at_level(logging.INFO):
            create_dataset_from_cache(source, "train", tmp_path / "cache", max_seq_length=48, **options)
        differences = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
        assert len(differences) == 1
        assert "settings.max_seq_length: expected 48, found 64" in differences[0]
        assert "doc_stride" not in differences[0]

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"use_lazy_loading": 1}, SettingsError),
            ({"max_examples": 0}, SettingsError),
            ({"max_n_segs": 0}, SettingsError),
            ({"max_seq_length": 3}, SettingsError),
            ({"doc_stride": 61}, SettingsError),
            ({"tokenizer": None}, TokenizerError),
            ({"max_shard_rows": 0}, SettingsError),
            ({"split": ""}, SettingsError),
            ({"on_bad_example": "skip"}, SettingsError),
            ({"identity": "for a file"}, SettingsError),
            ({"cache_dir": 5}, SettingsError),
        ],
        ids=repr,
    )
    def test_bad_arguments(
        self, source: Path, tokenizer: Any, tmp_path: Path, options: dict[str, Any], error: type[Exception]
    ) -> None:
        full = {"tokenizer": tokenizer, "max_seq_length": 64, "doc_stride": 16, "cache_dir": tmp_path / "c", **options}
        with pytest.raises(error):
            create_dataset_from_cache(source, **full)
        assert not (tmp_path / "c").exists() or list((tmp_path / "c").iterdir()) == []

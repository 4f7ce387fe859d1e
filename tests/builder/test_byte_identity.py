"""How the work is done never changes a byte of the result."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from memxlnet.builder import chunk_files, chunking
from memxlnet.data import process
from memxlnet.errors import BuildError, SourceError
from memxlnet.format.manifest import read_manifest
from memxlnet.sample import sample_file, sample_tokenizer_directory
from tests.builder.processes import build, published
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import example, long_examples, slow, slow_but, write_json_lines


def built(rows: Any, tokenizer: Any, cache_dir: Path, **changes: Any) -> dict[str, bytes]:
    arguments = {"max_seq_length": 64, "doc_stride": 16, "progress": False, **changes}
    process.process_and_cache_dataset(rows, "test", cache_dir, tokenizer=tokenizer, **arguments)
    (directory,) = published(cache_dir)
    return {"": directory.name.encode(), **files_of(directory)}


WORK: list[dict[str, Any]] = [
    *({"streaming_chunk_size": size} for size in (1, 2, 7, 23, 1000)),
    {"use_streaming": False},
    {"use_streaming": False, "streaming_chunk_size": 2},
    {"rebuild": True},
    {"progress": True},
    *({"num_workers": number, "streaming_chunk_size": size} for number, size in ((0, 9), (1, 7), (2, 13), (3, 50))),
    {"num_workers": 2, "use_streaming": False},
    {"num_workers": 2, "progress": True, "streaming_chunk_size": 40},
    {"max_memory_gb": 1000},
]

THREADS: list[dict[str, Any]] = [
    {"streaming_chunk_size": 1},
    {"streaming_chunk_size": 7, "num_workers": 1},
    {"streaming_chunk_size": 30, "num_workers": 5},
    {"use_streaming": False},
]
"""What is done with an executor of threads."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, sample_tokenizer: Any) -> dict[str, bytes]:
    return built(sample_file(), sample_tokenizer, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def sample_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(sample_tokenizer_directory())


QUICK = [{"streaming_chunk_size": 7}, {"use_streaming": False}, {"num_workers": 2, "streaming_chunk_size": 13}]
QUICK += [{"rebuild": True}, {"progress": True}]


@pytest.mark.parametrize("work", slow_but(QUICK, WORK), ids=str)
def test_the_sample_gives_the_same_bytes(
    tmp_path: Path, sample_tokenizer: Any, plain: dict[str, bytes], work: dict[str, Any]
) -> None:
    assert built(sample_file(), sample_tokenizer, tmp_path, **work) == plain


@pytest.mark.parametrize("work", slow_but(THREADS[1:], THREADS), ids=str)
def test_an_executor_gives_the_same_bytes(
    tmp_path: Path, sample_tokenizer: Any, plain: dict[str, bytes], work: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(3) as executor:
        assert built(sample_file(), sample_tokenizer, tmp_path, executor=executor, **work) == plain
        assert executor.submit(int, "3").result() == 3  # it stays the user's


@pytest.mark.parametrize("work", [{}, {"use_streaming": False}, slow({"num_workers": 2})], ids=str)
def test_chunks_that_are_closed_early_give_the_same_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sample_tokenizer: Any,
    plain: dict[str, bytes],
    work: dict[str, Any],
) -> None:
    monkeypatch.setattr(chunking, "MAX_CHUNK_COST", 2_000_000)
    assert built(sample_file(), sample_tokenizer, tmp_path, **work) == plain


SMALL_SHARDS = [WORK[0], WORK[2], WORK[5], {"num_workers": 2, "streaming_chunk_size": 21}]


@pytest.mark.parametrize("work", slow_but([WORK[2]], SMALL_SHARDS), ids=str)
def test_the_sample_in_small_shards_gives_the_same_bytes(
    tmp_path: Path, sample_tokenizer: Any, plain: dict[str, bytes], work: dict[str, Any]
) -> None:
    one = built(sample_file(), sample_tokenizer, tmp_path / "one", max_shard_rows=60)
    two = built(sample_file(), sample_tokenizer, tmp_path / "two", max_shard_rows=60, **work)
    assert one == two
    assert len(one) > len(plain)
    assert one["contexts-00000.arrow"] == plain["contexts-00000.arrow"]
    assert one["documents-00000.arrow"] == plain["documents-00000.arrow"]


texts = st.text(alphabet="ab \u00e9\u4e2d\U0001f600.", max_size=40)
raw_examples = st.lists(st.tuples(st.sampled_from(["the lamp", "a", "", "x y z " * 30]) | texts, texts), min_size=1)


@pytest.mark.slow
@settings(max_examples=15)
@given(raw_examples, st.integers(1, 5), st.integers(1, 5))
def test_arbitrary_examples_give_the_same_bytes(raw: list[tuple[str, str]], one: int, two: int) -> None:
    rows = [example(context, question, id=str(number)) for number, (context, question) in enumerate(raw)]
    tokenizer = golden_tokenizer()
    work: dict[str, Any] = {"on_bad_example": "drop", "max_seq_length": 24, "doc_stride": 3}
    with tempfile.TemporaryDirectory() as folder:
        try:
            first = built(rows, tokenizer, Path(folder, "one"), streaming_chunk_size=one, **work)
        except BuildError as error:
            all_dropped = "examples were dropped" in str(error)
            assume(not all_dropped)
            raise
        assert built(rows, tokenizer, Path(folder, "two"), streaming_chunk_size=two, **work) == first
        assert built(rows, tokenizer, Path(folder, "eager"), use_streaming=False, **work) == first
        with ThreadPoolExecutor(2) as executor:
            threads = built(rows, tokenizer, Path(folder, "threads"), streaming_chunk_size=2, executor=executor, **work)
        assert threads == first


def test_a_tiny_budget_really_closes_chunks_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = chunk_sizes(monkeypatch)
    build(tmp_path / "wide", streaming_chunk_size=1000)
    assert sizes == [11]
    sizes.clear()
    monkeypatch.setattr(chunking, "MAX_CHUNK_COST", 250_000)
    build(tmp_path / "tight", streaming_chunk_size=1000)
    assert len(sizes) > 2
    assert sum(sizes) == 11
    (wide,), (tight,) = published(tmp_path / "wide"), published(tmp_path / "tight")
    assert files_of(wide) == files_of(tight)


def chunk_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of documents of each chunk that is written from here on."""
    sizes: list[int] = []
    plain_write = chunk_files.write_chunk

    def write(directory: Path, index: int, tables: Any) -> Any:
        sizes.append(tables["documents"].num_rows)
        return plain_write(directory, index, tables)

    monkeypatch.setattr("memxlnet.builder.cache_writer.write_chunk", write)
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_more_workers_than_examples_give_the_same_bytes(tmp_path: Path, count: int) -> None:
    rows = [example(f"the lamp {number}", id=str(number)) for number in range(count)]
    tokenizer = golden_tokenizer()
    expected = built(rows, tokenizer, tmp_path / "here", num_workers=0)
    work: dict[str, Any] = {"num_workers": 8, "streaming_chunk_size": 1}
    assert built(rows, tokenizer, tmp_path / "workers", **work) == expected


def test_no_example_is_the_same_error_with_workers(tmp_path: Path) -> None:
    unsized = (row for row in list[Any]())
    for rows, identity in (([], None), (unsized, "none")):
        with pytest.raises(SourceError, match=r"^in-memory/test:"):
            built(rows, golden_tokenizer(), tmp_path, num_workers=2, identity=identity)
    with ThreadPoolExecutor(2) as executor, pytest.raises(SourceError, match=r"^in-memory/test:"):
        built([], golden_tokenizer(), tmp_path, executor=executor)
    assert not list(published(tmp_path))


class Rereadable:
    """An iterable without a length that gives its rows at each reading."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


OBJECTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str | None]] = {
    "iterable": (Rereadable, None),
    "generator": (iter, "mine"),
    "dataset": (Dataset.from_list, None),
    "iterable dataset": (lambda rows: Dataset.from_list(rows).to_iterable_dataset(), "mine"),
}
"""What gives rows, and the identity that it needs."""


@pytest.mark.parametrize("kind", slow_but(["generator"], OBJECTS))
def test_every_kind_of_object_is_encoded_by_workers(tmp_path: Path, kind: str) -> None:
    rows = [{**row, "id": str(number)} for number, row in enumerate(long_examples(7, words=20))]
    made, identity = OBJECTS[kind]
    tokenizer = golden_tokenizer()
    built(rows, tokenizer, tmp_path / "rows", num_workers=0)
    here = built(made(rows), tokenizer, tmp_path / "here", num_workers=0, identity=identity)
    work: dict[str, Any] = {"num_workers": 2, "streaming_chunk_size": 2, "identity": identity}
    assert built(made(rows), tokenizer, tmp_path / "workers", **work) == here
    for table in ("features-00000.arrow", "documents-00000.arrow", "contexts-00000.arrow"):
        assert values(tmp_path / "workers", table) == values(tmp_path / "rows", table)


def values(cache_dir: Path, file: str) -> Any:
    """What a file holds but for its metadata, which name the identity."""
    (directory,) = published(cache_dir)
    with pa.ipc.open_file(directory / file) as reader:
        return reader.read_all().to_pylist()


def test_not_streaming_is_honoured_up_to_a_thousand_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = chunk_sizes(monkeypatch)
    rows = [example("the lamp", id=str(number)) for number in range(1001)]
    work: dict[str, Any] = {"max_seq_length": 16, "doc_stride": 2, "streaming_chunk_size": 400}
    built(rows[:1000], golden_tokenizer(), tmp_path / "some", use_streaming=False, **work)
    assert sizes == [1000]
    sizes.clear()
    with caplog.at_level("INFO", "memxlnet"):
        eager = built(rows, golden_tokenizer(), tmp_path / "more", use_streaming=False, **work)
    assert sizes == [400, 400, 201]
    assert "use_streaming=False" in caplog.text
    assert built(rows, golden_tokenizer(), tmp_path / "streamed", **work) == eager
    # The length of a file is unknown before it is read; its examples are still not all encoded at once.
    sizes.clear()
    source = write_json_lines(tmp_path / "rows.jsonl", rows)
    built(source, golden_tokenizer(), tmp_path / "file", use_streaming=False, **work)
    assert max(sizes) <= 1000
    assert sum(sizes) == 1001
    # The bound counts what is read, not what there is.
    sizes.clear()
    built(rows, golden_tokenizer(), tmp_path / "limited", use_streaming=False, max_examples=1000, **work)
    assert sizes == [1000]


def test_the_limit_of_a_shard_is_no_part_of_the_identity(tmp_path: Path) -> None:
    build(tmp_path / "some", max_shard_rows=5)
    build(tmp_path / "others", max_shard_rows=None)
    (some,), (others,) = published(tmp_path / "some"), published(tmp_path / "others")
    assert some.name == others.name
    assert len(read_manifest(some).tables["features"].shards) > 1
    assert len(read_manifest(others).tables["features"].shards) == 1
    assert (some / "documents-00000.arrow").read_bytes() == (others / "documents-00000.arrow").read_bytes()

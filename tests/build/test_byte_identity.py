"""How the work is done never changes a byte of the result."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from memxlnet.build import process
from memxlnet.build.chunking import CHUNK_SHARE
from memxlnet.errors import BuildError
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.store import chunk_files
from memxlnet.store.manifest import read_manifest
from tests.build.processes import build, published
from tests.golden.make_golden import golden_tokenizer
from tests.store.content import files_of
from tests.support import example, write_json_lines

TINY_GB = 0.0008  # some 200 KB a chunk


def built(rows: Any, tokenizer: Any, cache_dir: Path, **changes: Any) -> dict[str, bytes]:
    arguments = {"max_seq_length": 64, "doc_stride": 16, "progress": False, **changes}
    process.process_and_cache_dataset(rows, "test", cache_dir, tokenizer=tokenizer, **arguments)
    (directory,) = published(cache_dir)
    return {"": directory.name.encode(), **files_of(directory)}


WORK: list[dict[str, Any]] = [
    *({"streaming_chunk_size": size} for size in (1, 2, 7, 23, 1000)),
    {"use_streaming": False},
    {"use_streaming": False, "streaming_chunk_size": 2},
    {"max_memory_gb": 0.02},
    {"max_memory_gb": 0.02, "use_streaming": False},
    {"rebuild": True},
    {"progress": True},
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, sample_tokenizer: Any) -> dict[str, bytes]:
    return built(sample_file(), sample_tokenizer, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def sample_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(sample_tokenizer_directory())


@pytest.mark.parametrize("work", WORK, ids=str)
def test_the_sample_gives_the_same_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sample_tokenizer: Any,
    plain: dict[str, bytes],
    work: dict[str, Any],
) -> None:
    assert built(sample_file(), sample_tokenizer, tmp_path, **work) == plain


@pytest.mark.parametrize("work", [WORK[0], WORK[2], WORK[5], WORK[7]], ids=str)
def test_the_sample_in_small_shards_gives_the_same_bytes(
    tmp_path: Path, sample_tokenizer: Any, plain: dict[str, bytes], work: dict[str, Any]
) -> None:
    one = built(sample_file(), sample_tokenizer, tmp_path / "one", max_shard_rows=17)
    two = built(sample_file(), sample_tokenizer, tmp_path / "two", max_shard_rows=17, **work)
    assert one == two
    assert len(one) > len(plain)
    assert one["contexts-00000.arrow"] == plain["contexts-00000.arrow"]
    assert one["documents-00000.arrow"] == plain["documents-00000.arrow"]


texts = st.text(alphabet="ab \u00e9\u4e2d\U0001f600.", max_size=40)
raw_examples = st.lists(st.tuples(st.sampled_from(["the lamp", "a", "", "x y z " * 30]) | texts, texts), min_size=1)


@settings(max_examples=25)
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


def test_a_tiny_bound_really_closes_chunks_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = chunk_sizes(monkeypatch)
    build(tmp_path / "wide", streaming_chunk_size=1000)
    assert sizes == [11]
    sizes.clear()
    build(tmp_path / "tight", streaming_chunk_size=1000, max_memory_gb=TINY_GB)
    assert len(sizes) > 2
    assert sum(sizes) == 11
    assert TINY_GB * CHUNK_SHARE * 2**30 < 250_000
    (wide,), (tight,) = published(tmp_path / "wide"), published(tmp_path / "tight")
    assert files_of(wide) == files_of(tight)


def chunk_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of documents of each chunk that is written from here on."""
    sizes: list[int] = []
    plain_write = chunk_files.write_chunk

    def write(directory: Path, index: int, tables: Any) -> Any:
        sizes.append(tables["documents"].num_rows)
        return plain_write(directory, index, tables)

    monkeypatch.setattr("memxlnet.store.writer.write_chunk", write)
    return sizes


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
    # A file does not tell its length beforehand; its examples are still not all encoded at once.
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

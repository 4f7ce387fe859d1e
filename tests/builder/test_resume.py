"""A build resumes after the chunks that still hold: those whose raw examples are the same, however they were made."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from memxlnet.builder import running_build
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.chunk_files import ChunkReceipt
from memxlnet.builder.chunking import Chunk
from memxlnet.builder.in_process import LocalEncoder
from memxlnet.builder.in_workers import Dispatcher, Done
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import BuildError
from tests.builder.processes import published
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import example, long_examples, slow, slow_but

ROWS = long_examples(11, words=30)


def build(cache_dir: Path, rows: list[Any] = ROWS, **changes: Any) -> dict[str, bytes]:
    """Build in chunks of three, always under one identity, and give the files."""
    arguments = {
        "max_seq_length": 32,
        "doc_stride": 8,
        "streaming_chunk_size": 3,
        "identity": "always the same",
        "num_workers": 0,
        "on_bad_example": "drop",
        "progress": False,
        "tokenizer": golden_tokenizer(),
        **changes,
    }
    features = process_and_cache_dataset(rows, "test", cache_dir, **arguments)
    (directory,) = published(cache_dir)
    with pa.ipc.open_file(directory / "features-00000.arrow") as reader:
        assert reader.read_all().num_rows == features
    return files_of(directory)


def leave(cache_dir: Path, rows: list[Any] = ROWS, keep: Sequence[int] | None = None, **changes: Any) -> None:
    """Build up to the publication and keep the finished chunks, or some of them."""

    def fail(*_: Any) -> Any:
        raise BuildError("interrupted")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CacheWriter, "_publish", fail)
        with pytest.raises(BuildError, match="interrupted"):
            build(cache_dir, rows, **changes)
    assert not list(published(cache_dir))
    for path in cache_dir.glob(".build-*/chunks/*.chunk"):
        if keep is not None and int(path.name[:8]) not in keep:
            path.unlink()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the chunks that are encoded from here on, here or by workers."""
    found: list[int] = []

    def noted(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            found.append(chunk.index)
            yield chunk

    class Dispatching(Dispatcher):
        def run(self, chunks: Iterator[Chunk]) -> Generator[Done, None, None]:
            yield from super().run(noted(chunks))

    class Here(LocalEncoder):
        def run(self, chunks: Iterator[Chunk]) -> Any:
            yield from super().run(noted(chunks))

    monkeypatch.setattr(running_build, "Dispatcher", Dispatching)
    monkeypatch.setattr(running_build, "LocalEncoder", Here)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return build(tmp_path_factory.mktemp("undisturbed"))


def test_chunks_that_hold_are_not_made_again(tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int]) -> None:
    leave(tmp_path)
    assert encoded == [0, 1, 2, 3]
    encoded.clear()
    assert build(tmp_path) == undisturbed
    assert encoded == []


CHANGES: dict[str, dict[str, Any]] = {
    "question": {"question": "Which other word?"},
    "context": {"context": f"{ROWS[4]['context']} more"},
    "answer": {"answers": {"text": ["word4x1"], "answer_start": [0]}},
    "start": {"answers": {"text": ROWS[4]["answers"]["text"], "answer_start": [0]}},
    "no answer": {"answers": {"text": [], "answer_start": []}},
    "id": {"id": "another"},
    "bad": {"question": 5},
}


@pytest.mark.parametrize("change", slow_but(["context", "start", "bad"], CHANGES))
def test_a_chunk_of_other_examples_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encoded: list[int], change: str
) -> None:
    rows = [*ROWS[:4], {**ROWS[4], **CHANGES[change]}, *ROWS[5:]]
    leave(tmp_path / "left")
    encoded.clear()
    with caplog.at_level("INFO", "memxlnet"):
        found = build(tmp_path / "left", rows)
    assert encoded == [1]
    assert "1 chunks of an interrupted build held other examples: not used" in caplog.text
    assert found == build(tmp_path / "other", rows)


def test_examples_that_changed_places_are_made_again(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int]
) -> None:
    rows = [*ROWS[:6], ROWS[7], ROWS[6], *ROWS[8:]]
    leave(tmp_path, rows)
    encoded.clear()
    assert build(tmp_path) == undisturbed
    assert encoded == [2]


def test_bad_examples_are_known_by_their_reasons(tmp_path: Path, encoded: list[int]) -> None:
    rows = [*ROWS[:4], {"id": "bad", "question": "who"}, {"id": "worse"}, *ROWS[6:]]
    leave(tmp_path / "left", rows)
    encoded.clear()
    rows[4] = {"id": "bad", "question": 5}
    found = build(tmp_path / "left", rows)
    assert encoded == [1]
    assert found == build(tmp_path / "other", rows)
    assert b"expected text, found int" in found["dropped.jsonl"]


def test_what_changed_twice_is_the_last_content(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int]
) -> None:
    other = [*ROWS[:4], {**ROWS[4], "question": "who"}, *ROWS[5:]]
    leave(tmp_path)
    leave(tmp_path, other)
    leave(tmp_path)
    encoded.clear()
    assert build(tmp_path) == undisturbed
    assert encoded == []


@pytest.mark.parametrize(
    ("before", "now", "again"), [(11, 7, [2]), slow(11, 6, []), slow(6, 11, [2, 3]), (8, 11, [2, 3])]
)
def test_a_source_of_another_length_keeps_what_is_the_same(
    tmp_path: Path, encoded: list[int], before: int, now: int, again: list[int]
) -> None:
    leave(tmp_path / "left", ROWS[:before])
    encoded.clear()
    found = build(tmp_path / "left", ROWS[:now])
    assert encoded == again
    assert found == build(tmp_path / "other", ROWS[:now])
    assert not list(tmp_path.glob("left/.build-*/"))


@pytest.mark.parametrize(
    ("before", "now", "kept"), [(3, 4, 0), slow(4, 3, 0), slow(3, 1000, 0), slow(1000, 2, 0), (3, 3, 4)]
)
def test_other_sizes_of_chunks_give_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int], before: int, now: int, kept: int
) -> None:
    leave(tmp_path, streaming_chunk_size=before)
    encoded.clear()
    assert build(tmp_path, streaming_chunk_size=now) == undisturbed
    assert len(encoded) == -(-11 // now) - kept


def test_sizes_may_change_at_every_attempt(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    for size in (3, 4, 3, 1, 7, 3):
        leave(tmp_path, streaming_chunk_size=size, keep=[0, 1, 2])
    assert build(tmp_path) == undisturbed


def test_a_chunk_size_that_cuts_some_chunks_alike_keeps_those(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int]
) -> None:
    leave(tmp_path, ROWS[:3], streaming_chunk_size=3)
    encoded.clear()
    # All of a short source was one chunk, which a longer one begins with.
    assert build(tmp_path, use_streaming=True) == undisturbed
    assert encoded == [1, 2, 3]


@pytest.mark.parametrize("change", [{"max_memory_gb": 7.0}, {"progress": True}], ids=str)
def test_how_the_work_is_done_is_no_reason_to_do_it_again(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int], change: dict[str, Any]
) -> None:
    leave(tmp_path, keep=[0, 2, 3])
    encoded.clear()
    assert build(tmp_path, **change) == undisturbed
    assert encoded == [1]


def test_the_number_of_workers_may_change_at_every_attempt(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[int]
) -> None:
    leave(tmp_path, keep=[1], num_workers=0)
    encoded.clear()
    leave(tmp_path, keep=[0, 1], num_workers=2)
    assert encoded == [0, 2, 3]
    encoded.clear()
    with ThreadPoolExecutor(2) as executor:
        leave(tmp_path, keep=[0, 1, 3], num_workers=None, executor=executor)
    assert encoded == [2, 3]
    encoded.clear()
    assert build(tmp_path, num_workers=0) == undisturbed
    assert encoded == [2]


@pytest.mark.slow
def test_workers_make_changed_chunks_again_as_well(tmp_path: Path, encoded: list[int]) -> None:
    rows = [*ROWS[:4], {"id": "bad"}, *ROWS[5:10], example("the lamp", id="new")]
    leave(tmp_path / "left")
    encoded.clear()
    found = build(tmp_path / "left", rows, num_workers=2)
    assert encoded == [1, 3]
    assert found == build(tmp_path / "other", rows)


def test_a_build_that_is_finished_but_for_the_publication_tokenizes_nothing(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path)

    def fail(*_: Any) -> Any:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(running_build, "check_against_transformers", lambda *_: None)
    monkeypatch.setattr(Encoder, "tokenize", fail)
    assert build(tmp_path) == undisturbed


class Relaying:
    """A manager of the user's own over a `CacheWriter`; `begin` returns receipts or numbers."""

    def __init__(self, cache_dir: Path, with_receipts: bool = True):
        self.writer = CacheWriter(cache_dir)
        self.with_receipts = with_receipts
        self.written: list[int] = []

    def begin(self, settings: CacheSettings) -> Any:
        found = self.writer.begin(settings)
        return found if self.with_receipts else list(found)

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> ChunkReceipt:
        self.written.append(index)
        return self.writer.write_chunk(index, tables)

    def finish(self, receipts: Sequence[ChunkReceipt]) -> Any:
        return self.writer.finish(receipts)


@pytest.mark.parametrize("workers", [0, slow(2)])
def test_a_manager_that_returns_receipts_gets_changed_chunks_again(
    tmp_path: Path, undisturbed: dict[str, bytes], workers: int
) -> None:
    leave(tmp_path, [{**ROWS[0], "id": "another"}, *ROWS[1:]], keep=[0, 1, 3])
    manager = Relaying(tmp_path)
    assert build(tmp_path, cache_manager=manager, num_workers=workers) == undisturbed
    assert manager.written == [0, 2]


def test_a_manager_that_returns_numbers_alone_is_believed(tmp_path: Path) -> None:
    leave(tmp_path, keep=[1])
    manager = Relaying(tmp_path, with_receipts=False)
    with pytest.raises(BuildError, match=r"\[1\]"):
        build(tmp_path, cache_manager=manager)
    assert manager.written == [0, 2, 3]

"""Encoding in the builder's process: a thread ahead, held back where memory is short, ended whatever happens."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder import in_process as here
from memxlnet.builder.chunk_encoding import Tables, examples_digest, pack
from memxlnet.builder.chunk_files import write_chunk
from memxlnet.builder.chunking import Chunk
from memxlnet.builder.encoding_cost import CostModel
from memxlnet.builder.in_process import LocalEncoder
from memxlnet.builder.memory_guard import MemoryGuard
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import BadExample, Example
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import ExampleError, MemoryLimitError, SourceError
from memxlnet.settings import EncodeSettings
from tests.builder.processes import build, published
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import WAIT_SECONDS, example

SETTINGS = EncodeSettings(max_seq_length=24, doc_stride=4)
BOUND = 10**9


class Guard(MemoryGuard):
    """Measures what it is set to."""

    def __init__(self, using: int = 0, bound: int = BOUND):
        super().__init__(bound)
        self.using = using
        self.after_release: int | None = None
        self.released = 0

    @property
    def used(self) -> int:
        return self.using

    def measure(self) -> int:
        return self.using

    def release(self) -> int:
        self.released += 1
        if self.after_release is not None:
            self.using = self.after_release
        return self.using


class Recording(Encoder):
    """Notes the ids of all that is tokenized."""

    def __init__(self) -> None:
        content = read_tokenizer(golden_tokenizer(), insert_memory_tokens=True)
        super().__init__(content.backend, content.layout, SETTINGS)
        self.seen: list[list[str]] = []

    def tokenize(self, chunk: Sequence[Example | BadExample]) -> Any:
        self.seen.append([entry.id for entry in chunk])
        return super().tokenize(chunk)


def chunk(index: int, size: int = 3) -> Chunk:
    context = f"the lamp of harbour {index} was lit"
    examples: list[Example | BadExample] = [
        Example(row, f"{index}.{row}", "who", context if row % 2 else f"{context} by the keeper {row}", (), ())
        for row in range(size)
    ]
    ((_, cost),) = CostModel(SETTINGS).cut(examples, size, BOUND)
    return Chunk(index, examples, cost)


def ids(index: int, size: int = 3) -> list[str]:
    return [f"{index}.{row}" for row in range(size)]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def rows_of(tables: Tables) -> dict[str, Any]:
    return {name: batch.to_pylist() for name, batch in tables.items()}


def test_chunks_come_in_order_as_the_encoder_makes_them(tmp_path: Path) -> None:
    chunks = [chunk(index) for index in range(20)]
    found = list(LocalEncoder(Recording(), SETTINGS, Guard()).run(iter(chunks)))
    assert [entry for entry, _ in found] == chunks
    plain = Recording()
    for entry, tables in found:
        assert rows_of(tables) == rows_of(plain.encode(entry.examples))
        assert write_chunk(tmp_path, entry.index, tables).examples == examples_digest(pack(entry.examples))


def test_no_chunk_is_an_end() -> None:
    assert list(LocalEncoder(Recording(), SETTINGS, Guard()).run(iter([]))) == []


def test_the_thread_works_ahead_by_a_few_chunks() -> None:
    encoder = Recording()
    with closing(LocalEncoder(encoder, SETTINGS, Guard()).run(chunk(index) for index in range(20))) as running:
        next(running)
        until(lambda: len(encoder.seen) >= 3)
        time.sleep(0.1)
        assert len(encoder.seen) == 3


@pytest.mark.parametrize("shortage", ["near", "no room"])
def test_where_memory_is_short_the_next_chunk_waits_for_the_one_before(shortage: str) -> None:
    cost = chunk(0, 1).cost
    guard = Guard(int(0.9 * BOUND)) if shortage == "near" else Guard(int(3.2 * cost), 4 * cost)
    assert guard.is_near == (shortage == "near")
    assert (guard.room < cost) == (shortage == "no room")
    encoder = Recording()
    with closing(LocalEncoder(encoder, SETTINGS, guard).run(chunk(index, 1) for index in range(4))) as running:
        for index in range(4):
            assert next(running)[0].index == index
            time.sleep(0.05)
            assert encoder.seen == [ids(number, 1) for number in range(index + 1)]
            if index == 2:
                guard.using = 0  # there is room again
                until(lambda: len(encoder.seen) == 4)
        assert next(running, None) is None


def test_a_chunk_that_does_not_fit_is_split() -> None:
    whole = chunk(0, 7)
    encoder = Recording()
    guard = Guard(BOUND - whole.cost // 3)
    ((_, tables),) = LocalEncoder(encoder, SETTINGS, guard).run(iter([whole]))
    assert len(encoder.seen) > 2
    assert [name for part in encoder.seen for name in part] == ids(0, 7)
    assert rows_of(tables) == rows_of(Recording().encode(whole.examples))
    assert guard.released == 1


def test_memory_that_can_be_given_back_makes_a_split_needless() -> None:
    whole = chunk(0, 7)
    encoder, guard = Recording(), Guard(BOUND - whole.cost // 3)
    guard.after_release = BOUND - whole.cost
    list(LocalEncoder(encoder, SETTINGS, guard).run(iter([whole])))
    assert encoder.seen == [ids(0, 7)]


def test_a_process_beyond_the_bound_is_an_error() -> None:
    encoder = Recording()
    with pytest.raises(MemoryLimitError, match=r"^max_memory_gb:"):
        list(LocalEncoder(encoder, SETTINGS, Guard(BOUND + 1)).run(iter([chunk(0)])))
    assert encoder.seen == []


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "memxlnet-prefetch"]


@pytest.mark.parametrize("using", [0, int(0.9 * BOUND), BOUND - 1], ids=["room", "near", "no room"])
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_who_stops_early_ends_the_thread(using: int, taken: int) -> None:
    running = LocalEncoder(Recording(), SETTINGS, Guard(using)).run(chunk(index) for index in range(10))
    for _ in range(taken):
        next(running)
    running.close()
    assert threads() == []


def test_who_waits_for_a_lost_consumer_ends_with_it() -> None:
    running = LocalEncoder(Recording(), SETTINGS, Guard(int(0.9 * BOUND))).run(chunk(index) for index in range(10))
    next(running)
    assert threads()
    del running
    assert threads() == []


@pytest.mark.parametrize("using", [0, int(0.9 * BOUND)])
@pytest.mark.parametrize("error", [SourceError("torn"), ZeroDivisionError("any")])
def test_an_error_of_the_source_comes_after_the_chunks_before(using: int, error: Exception) -> None:
    def source() -> Iterator[Chunk]:
        yield chunk(0)
        yield chunk(1)
        raise error

    running = LocalEncoder(Recording(), SETTINGS, Guard(using)).run(source())
    assert [next(running)[0].index for _ in range(2)] == [0, 1]
    with pytest.raises(type(error)) as caught:
        next(running)
    assert caught.value is error
    assert threads() == []


def test_an_error_of_the_tokenizer_and_one_of_the_rows_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    no_room = Chunk(1, [Example(0, "wordy", "who " * 30, "lamp " * 60, (), ())], 10)
    running = LocalEncoder(Recording(), SETTINGS, Guard()).run(iter([chunk(0), no_room, chunk(2)]))
    assert next(running)[0].index == 0
    with pytest.raises(ExampleError, match="'wordy'"):
        next(running)
    assert threads() == []

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("mine")

    monkeypatch.setattr(Recording, "tokenize", fail)
    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        list(LocalEncoder(Recording(), SETTINGS, Guard()).run(iter([chunk(0)])))
    assert threads() == []


# --- whole builds that are short of memory


class Tight(MemoryGuard):
    """Pretends that next to nothing is left, but that the bound is not passed."""

    @property
    def used(self) -> int:
        return self.bound - 30_000

    def measure(self) -> int:
        return self.used

    def release(self) -> int:
        return self.used


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "executor"])
def test_a_build_that_splits_every_chunk_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], threaded: bool
) -> None:
    monkeypatch.setattr("memxlnet.builder.running_build.MemoryGuard", Tight)
    monkeypatch.setattr(here, "_WAIT_SECONDS", 0.001)
    parts = count_parts(monkeypatch)
    with ThreadPoolExecutor(2) as executor:
        build(tmp_path / "tight", streaming_chunk_size=1000, executor=executor if threaded else None)
    assert len(parts) > 5
    (tight,) = published(tmp_path / "tight")
    assert files_of(tight) == undisturbed


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "executor"])
def test_a_split_chunk_keeps_bad_examples_in_order_and_shared_contexts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threaded: bool
) -> None:
    shared = "the lamp of the harbour was lit in 1898 " * 3
    rows: list[dict[str, Any]] = [example(shared, "who", id=str(row)) for row in range(12)]
    rows[0] = {"id": "bad"}
    rows[5] = example(shared, "who " * 40, id="no room")
    rows[9] = {"id": "bad as well"}

    def made(cache_dir: Path, executor: Any = None) -> dict[str, bytes]:
        process_and_cache_dataset(
            rows,
            "test",
            cache_dir,
            max_seq_length=24,
            doc_stride=4,
            tokenizer=golden_tokenizer(),
            on_bad_example="drop",
            executor=executor,
        )
        (directory,) = published(cache_dir)
        return files_of(directory)

    expected = made(tmp_path / "wide")
    monkeypatch.setattr("memxlnet.builder.running_build.MemoryGuard", Tight)
    parts = count_parts(monkeypatch)
    with ThreadPoolExecutor(2) as executor:
        assert made(tmp_path / "tight", executor if threaded else None) == expected
    assert len(parts) > 3
    assert expected["dropped.jsonl"].count(b"\n") == 3


def count_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all parts that are tokenized from here on; those of the check of each build left out."""
    sizes: list[int] = []
    plain = Encoder.tokenize

    def tokenize(self: Encoder, chunk: Sequence[Example | BadExample]) -> Any:
        sizes.append(len(chunk))
        return plain(self, chunk)

    monkeypatch.setattr(Encoder, "tokenize", tokenize)
    monkeypatch.setattr("memxlnet.builder.running_build.check_against_transformers", lambda *_: None)
    return sizes

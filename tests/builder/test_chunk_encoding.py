"""The work on one chunk: what travels to a worker, what it is known by, and what comes back."""

import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arrow_schemas import DROPPED, table_schema
from memxlnet.builder import chunk_encoding as tasks
from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.builder import Build
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.chunk_encoding import (
    Examples,
    Tables,
    encode_chunk,
    encode_in_parts,
    examples_digest,
    merge,
    pack,
    unpack,
)
from memxlnet.builder.chunk_files import CHUNK_TABLES, ChunkReceipt, read_chunk
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import BadExample, Example
from memxlnet.settings import EncodeSettings
from memxlnet.sources import SourceOptions
from tests.builder.processes import published
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer

INT32 = 2**31 - 1

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "\0", "a\0b", "\u2028", '"\\', "\U0001f600e\u0301", "[1,2]"]
)
contexts = st.sampled_from(["", "shared", "shared\0", "\u4e2d\u6587"]) | texts
answers = st.lists(st.tuples(texts, st.integers(-INT32, INT32)), max_size=3)
fields = st.tuples(texts, texts, contexts, answers)


@st.composite
def examples(draw: st.DrawFn, max_size: int = 6) -> list[Example | BadExample]:
    """Examples of a chunk in order of their rows, good and bad ones mixed."""
    start = draw(st.integers(0, 10**12))
    made: list[Example | BadExample] = []
    for row, entry in enumerate(draw(st.lists(fields | st.tuples(texts, texts), max_size=max_size)), start):
        if len(entry) == 2:
            made.append(BadExample(row, *entry))
        else:
            name, question, context, golds = entry
            made.append(Example(row, name, question, context, tuple(g[0] for g in golds), tuple(g[1] for g in golds)))
    return made


# --- travelling


@given(examples())
def test_what_is_unpacked_is_what_was_packed(chunk: list[Example | BadExample]) -> None:
    found = unpack(pack(chunk))
    assert found == chunk
    assert [type(example) for example in found] == [type(example) for example in chunk]
    for example in found:
        if isinstance(example, Example):
            assert type(example.answer_texts) is tuple
            assert type(example.answer_starts) is tuple


def test_a_shared_context_travels_once() -> None:
    shared = [Example(row, str(row), "q", "x" * 10_000, (), ()) for row in range(50)]
    assert len(pack(shared)) < 13_000
    found = unpack(pack(shared))
    assert len({id(example.context) for example in found if isinstance(example, Example)}) == 1


# --- the digest


@given(examples())
def test_the_digest_is_that_of_the_values_alone(chunk: list[Example | BadExample]) -> None:
    digest = examples_digest(pack(chunk))
    assert len(digest) == 32
    assert examples_digest(pack(tuple(unpack(pack(chunk))))) == digest
    copied = [type(example)(*example) for example in chunk]
    assert examples_digest(pack(copied)) == digest


@given(examples(4), examples(4))
def test_other_examples_have_another_digest(one: list[Example | BadExample], other: list[Example | BadExample]) -> None:
    assert (examples_digest(pack(one)) == examples_digest(pack(other))) == (one == other)


@st.composite
def changed(draw: st.DrawFn) -> tuple[Examples, Examples]:
    """A chunk, and the same chunk after one small change."""
    chunk = draw(examples(5))
    assume(chunk)
    place = draw(st.integers(0, len(chunk) - 1))
    example = chunk[place]
    kind = draw(st.sampled_from(["field", "drop", "row", "bad", "move", "context", "answers"]))
    new: list[Any] = [example]
    if kind == "field":
        names = ["id", "question", "context"] if isinstance(example, Example) else ["id", "reason"]
        change: dict[str, Any] = {draw(st.sampled_from(names)): draw(texts)}
        new = [example._replace(**change)]
    elif kind == "drop":
        new = []
    elif kind == "row":
        new = [example._replace(row=example.row + draw(st.integers(1, 5)))]
    elif kind == "bad":
        new = [BadExample(example.row, example.id, "why")]
    elif isinstance(example, Example):
        if kind == "move":  # the end of one text becomes the beginning of the next
            assume(example.id)
            new = [example._replace(id=example.id[:-1], question=example.id[-1] + example.question)]
        elif kind == "context":
            new = [example._replace(context=example.context + draw(texts))]
        else:
            golds = draw(answers)
            new = [example._replace(answer_texts=tuple(g[0] for g in golds), answer_starts=tuple(g[1] for g in golds))]
    return chunk, [*chunk[:place], *new, *chunk[place + 1 :]]


@settings(max_examples=80)
@given(changed())
def test_any_change_changes_the_digest(pair: tuple[Examples, Examples]) -> None:
    before, after = pair
    assert (examples_digest(pack(before)) == examples_digest(pack(after))) == (list(before) == list(after))


def test_texts_that_move_between_fields_and_examples_change_the_digest() -> None:
    first, second = Example(0, "ab", "cd", "ef", ("gh",), (1,)), Example(1, "ij", "kl", "ef", (), ())
    chunks: list[Examples] = [
        [first, second],
        [first._replace(id="a", question="bcd"), second],
        [first._replace(question="cdg", answer_texts=("h",)), second],
        [first._replace(answer_texts=("g", "h"), answer_starts=(1, 1)), second],
        [first._replace(answer_texts=(), answer_starts=()), second._replace(answer_texts=("gh",), answer_starts=(1,))],
        [first._replace(context="ef", answer_texts=("ghi",)), second._replace(id="j")],
        [first, second._replace(context="e", question="klf")],
        [first, second._replace(context="EF")],
        [second._replace(row=0), first._replace(row=1)],
        [first, BadExample(1, "ij", "kl")],
        [first, BadExample(1, "ijk", "l")],
        [first],
        [],
    ]
    assert len({examples_digest(pack(chunk)) for chunk in chunks}) == len(chunks)


def test_rows_of_bad_examples_are_not_taken_for_other_numbers() -> None:
    # The same texts and the same numbers one after the other, in other roles.
    one: Examples = [
        BadExample(0, "", ""),
        Example(1, "", "", "a", (), ()),
        Example(2, "", "", "b", (), ()),
        BadExample(3, "", "-"),
    ]
    other: Examples = [
        Example(1, "", "", "-", (), ()),
        Example(2, "", "", "a", (), ()),
        Example(2, "", "", "b", (), ()),
    ]
    assert examples_digest(pack(one)) != examples_digest(pack(other))


# --- encoding


SETTINGS = EncodeSettings(max_seq_length=24, doc_stride=4, on_bad_example="drop")
words = st.lists(st.sampled_from(["the", "lamp", "harbour", "of", "\u4e2d", "."]), max_size=40).map(" ".join)


def prepared(folder: Path, encode: EncodeSettings = SETTINGS) -> tuple[CacheSettings, BuildDirectory]:
    """The directory of a build that is about to begin."""
    job = Build([], "test", golden_tokenizer(), encode, None, SourceOptions(identity="made up"))
    directory = BuildDirectory(folder / "build")
    directory.prepare(job.settings)
    return job.settings, directory


@st.composite
def encodable(draw: st.DrawFn) -> list[Example | BadExample]:
    """Examples over few words; some leave no room for context, and some are bad from the start."""
    shared = draw(st.lists(words, min_size=1, max_size=3))
    made: list[Example | BadExample] = []
    for row in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 4)) == 0:
            made.append(BadExample(row, f"bad {row}", "why"))
        else:
            context = draw(st.sampled_from(shared) | words)
            question = draw(st.sampled_from(["", "who", "when was the lamp", "who " * 30]))
            golds = draw(st.sampled_from([(), (("lamp", max(context.find("lamp"), 0)),), (("lamp", 0), ("keeper", 1))]))
            made.append(
                Example(row, f"id {row}", question, context, tuple(g[0] for g in golds), tuple(g[1] for g in golds))
            )
    return made


@pytest.mark.slow
@settings(max_examples=40)
@given(encodable(), st.integers(1, 60_000))
def test_parts_publish_the_same_bytes_as_the_whole(chunk: list[Example | BadExample], part_cost: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made, directory = prepared(Path(folder))
        whole = encode_in_parts(*directory.read_encoder(), chunk, 2**60)
        assume(whole["documents"].num_rows)
        split = encode_in_parts(*directory.read_encoder(), unpack(pack(chunk)), part_cost)
        written = []
        for name, tables in (("whole", whole), ("split", split)):
            for table in CHUNK_TABLES:
                assert tables[table].schema.equals(table_schema(table, SETTINGS.max_seq_length))
                tables[table].validate(full=True)
            writer = CacheWriter(Path(folder, name))
            writer.begin(made)
            writer.finish([writer.write_chunk(0, tables)])
            (found,) = published(Path(folder, name))
            written.append(files_of(found))
        assert written[0] == written[1]


def good(row: int, context: str = "the lamp of the harbour", question: str = "who") -> Example:
    return Example(row, f"id {row}", question, context, (), ())


def encoder(tmp_path: Path) -> Encoder:
    return prepared(tmp_path)[1].read_encoder()[0]


def test_one_part_is_handed_on_as_it_is(tmp_path: Path) -> None:
    tables = encoder(tmp_path).encode([good(0)])
    assert merge([tables]) is tables


NO_ROOM = "who " * 30
LONG = "lamp " * 60


@pytest.mark.parametrize(
    "parts",
    [
        [[BadExample(0, "a", "why")], [BadExample(1, "b", "why")]],
        [[BadExample(0, "a", "why")], [good(1)]],
        [[good(0)], [BadExample(1, "a", "why")], [good(2)]],
        [[good(0, LONG, NO_ROOM)], [good(1, LONG, NO_ROOM), BadExample(2, "a", "why")]],
        [[good(0), good(1)], [good(2), good(3, LONG)], [good(4)]],
        [[good(0), good(1, LONG, NO_ROOM)], [good(2, LONG), good(3)]],
        [[good(0, "a"), good(1, "b")], [good(2, "b"), good(3, "c"), good(4, "a")], [good(5, "c")]],
    ],
    ids=["all bad", "bad first", "bad between", "no room", "good", "mixed", "shared contexts"],
)
def test_merged_parts_count_from_the_start_of_the_chunk(tmp_path: Path, parts: list[Examples]) -> None:
    made = encoder(tmp_path)
    merged = merge([made.encode(part) for part in parts])
    whole = made.encode([example for part in parts for example in part])
    assert list(merged) == list(whole)
    assert rows_of(merged) == rows_of(whole)
    for table in CHUNK_TABLES:
        assert merged[table].schema.equals(whole[table].schema, check_metadata=True)
        merged[table].validate(full=True)


def rows_of(tables: Tables) -> dict[str, list[Any]]:
    return {name: batch.to_pylist() for name, batch in tables.items()}


# --- in a worker


def test_a_chunk_comes_back_as_a_receipt(tmp_path: Path) -> None:
    _, directory = prepared(tmp_path)
    chunk: Examples = [good(0), BadExample(1, "bad", "why"), good(2)]
    result = encode_chunk(str(directory.path), 5, pack(chunk), 2**30, os.getpid())
    assert list(result) == ["receipt"]
    receipt = ChunkReceipt(**json.loads(json.dumps(result))["receipt"])
    assert (receipt.index, receipt.examples) == (5, examples_digest(pack(chunk)))
    assert receipt.rows == {"features": 2, "documents": 2, "contexts": 1, DROPPED: 1}
    tables = read_chunk(directory.chunks, receipt)
    assert tables["documents"]["id"].to_pylist() == ["id 0", "id 2"]
    del tables


def failing(error: BaseException) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


class Panic(BaseException):
    """As the panic of a tokenizer, no `Exception`."""


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (MemoryError(), "MemoryError", ""),
        (OSError(28, "No space left on device"), "OSError", "[Errno 28] No space left on device"),
        (ZeroDivisionError("of the encoder"), "ZeroDivisionError", "of the encoder"),
        (UnspeakableError(), "UnspeakableError", "(its text cannot be shown)"),
        (Panic("of the Rust side"), "Panic", "of the Rust side"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (SystemExit(3), "SystemExit", "3"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_is_raised_comes_back_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, name: str, message: str
) -> None:
    _, directory = prepared(tmp_path)
    monkeypatch.setattr(tasks, "encode_in_parts", failing(error))
    result = encode_chunk(str(directory.path), 0, pack([good(0)]), 2**30, os.getpid())
    assert json.loads(json.dumps(result)) == result
    assert (result["error"], result["message"]) == (name, message)
    assert "in encode_chunk" in result["traceback"]
    assert not list(directory.chunks.iterdir())


def test_errors_of_memxlnet_keep_their_name(tmp_path: Path) -> None:
    strict = EncodeSettings(max_seq_length=24, doc_stride=4)
    _, directory = prepared(tmp_path, strict)
    packed = pack([good(0, LONG, NO_ROOM)])
    result = encode_chunk(str(directory.path), 0, packed, 2**30, os.getpid())
    assert result["error"] == "ExampleError"
    assert result["message"].startswith("example 'id 0' (row 0): its question of 30 tokens leaves room for 0 tokens")
    missing = encode_chunk(str(tmp_path / "elsewhere"), 0, packed, 2**30, os.getpid())
    assert missing["error"] == "BuildError"
    assert "expected the directory of a build" in missing["message"]


def test_each_thread_has_its_own_encoder_of_the_last_build(tmp_path: Path) -> None:
    one, two = (str(prepared(tmp_path / name)[1].path) for name in ("one", "two"))
    wide = prepared(tmp_path / "wide", EncodeSettings(max_seq_length=48, doc_stride=4))[1]
    first = tasks._encoder(one)
    assert tasks._encoder(one) is first
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(tasks._encoder, one).result()
        assert elsewhere[0] is not first[0]
        assert pool.submit(tasks._encoder, one).result() is elsewhere
    assert tasks._encoder(one) is first
    assert tasks._encoder(two)[0] is not first[0]
    assert tasks._encoder(str(wide.path))[1].max_seq_length == 48
    assert tasks._encoder(one) is not first


def test_chunks_in_many_threads_are_those_of_one(tmp_path: Path) -> None:
    _, directory = prepared(tmp_path)
    packed = [pack([good(row, f"the lamp {'of ' * row}")]) for row in range(40)]

    def encode(index: int) -> dict[str, Any]:
        return encode_chunk(str(directory.path), index, packed[index], 2**30, os.getpid())

    expected = [encode(index) for index in range(40)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(encode, range(40))) == expected


# --- one thread

PARALLELISM = "TOKENIZERS_PARALLELISM"


@pytest.mark.parametrize("before", [None, "true", "false"])
def test_the_environment_is_restored_after_the_last_user(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv(PARALLELISM, raising=False)
    else:
        monkeypatch.setenv(PARALLELISM, before)
    limited = tasks._OneThread()
    with pytest.raises(ZeroDivisionError, match=r"^false$"), limited:
        raise ZeroDivisionError(os.environ[PARALLELISM])
    assert os.environ.get(PARALLELISM) == before
    inside, leave = threading.Barrier(4, timeout=30), threading.Event()

    def use() -> None:
        with limited:
            inside.wait()
            leave.wait(30)

    threads = [threading.Thread(target=use) for _ in range(3)]
    with limited:
        for thread in threads:
            thread.start()
        inside.wait()
    # The first user has left, the others are still at work.
    assert os.environ[PARALLELISM] == "false"
    leave.set()
    for thread in threads:
        thread.join()
    assert os.environ.get(PARALLELISM) == before
    with limited:
        assert os.environ[PARALLELISM] == "false"
    assert os.environ.get(PARALLELISM) == before


@pytest.mark.parametrize(("own", "seen"), [(False, "as it was"), (True, "false")])
def test_only_a_worker_process_is_kept_to_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, seen: str
) -> None:
    _, directory = prepared(tmp_path)
    monkeypatch.setenv(PARALLELISM, "as it was")
    found: list[str] = []
    plain = encode_in_parts

    def look(*arguments: Any) -> Tables:
        found.append(os.environ[PARALLELISM])
        return plain(*arguments)

    monkeypatch.setattr(tasks, "encode_in_parts", look)
    assert "receipt" in encode_chunk(str(directory.path), 0, pack([good(0)]), 2**30, -1 if own else os.getpid())
    assert found == [seen]
    assert os.environ[PARALLELISM] == "as it was"

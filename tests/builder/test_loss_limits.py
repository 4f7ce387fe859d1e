"""Limits on dropped examples and lost answers: beyond them nothing is published, and finished chunks are kept."""

import re
from pathlib import Path
from typing import Any

import pytest

from memxlnet import Parts
from memxlnet.data.cache_manager import ChunkedCacheManager
from memxlnet.data.process import StreamingSquadProcessor, process_and_cache_dataset
from memxlnet.errors import LossLimitError, SettingsError
from memxlnet.format.manifest import read_manifest
from memxlnet.sample import sample_file
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import build, example, slow, write_json_lines

CONTEXT = " ".join(["The lamp of the harbour was lit in 1898 ."] * 4)
LONG = CONTEXT[:100]
"""Longer than the overlap: no segment holds it whole."""

SETTINGS: dict[str, Any] = {"max_seq_length": 20, "doc_stride": 4, "on_bad_example": "drop", "progress": False}

ROWS = [
    *(example(CONTEXT, "who", [("lamp", 4)], id=f"right {number}") for number in range(4)),
    *(example(CONTEXT, "who", [], id=f"unanswerable {number}") for number in range(4)),
    example(CONTEXT, "who", [("ship", 4)], id="gone 0"),
    {"id": "bad 0", "question": 5, "context": CONTEXT, "answers": None},
    example(CONTEXT, "who", [(LONG, 0)], id="cut 0"),
    {"id": "bad 1", "question": 6, "context": CONTEXT, "answers": None},
]
"""Two of twelve examples are dropped, two of six answers are lost."""


def built(rows: Any, folder: Path, **changes: Any) -> Any:
    return build(rows, golden_tokenizer(), folder, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache without limits."""
    directory: Path = built(ROWS, tmp_path_factory.mktemp("free")).directory
    return directory


def test_the_rows_are_what_they_are_said_to_be(free: Path) -> None:
    manifest = read_manifest(free)
    assert (manifest.dropped_examples, manifest.tables["documents"].rows) == (2, 10)
    assert (manifest.alignment["dropped"], manifest.documents_without_answer_segment) == (1, 1)
    assert manifest.alignment["exact"] == 5


@pytest.mark.parametrize("chunk_size", [5, slow(1), slow(1000)])
@pytest.mark.parametrize(
    "limits",
    [
        {"max_dropped": 2},
        {"max_dropped": 2 / 12},
        {"max_lost_answers": 2},
        {"max_lost_answers": 2 / 6},
        {"max_dropped": 1.0, "max_lost_answers": 1.0},
    ],
)
def test_within_the_limits_the_cache_is_the_same(
    free: Path, tmp_path: Path, limits: dict[str, Any], chunk_size: int
) -> None:
    directory = built(ROWS, tmp_path, **limits, streaming_chunk_size=chunk_size).directory
    assert files_of(directory) == files_of(free)


DROPPED = (
    r"found 2 of 12 \(16\.67%\): example 'bad 0' \(row 9\): .*found int.*; example 'bad 1' \(row 11\): .*found int"
)
LOST = r"found 2 of 6 \(33\.33%\): example 'gone 0': \S.*; example 'cut 0': in no segment whole"


@pytest.mark.parametrize("chunk_size", [5, slow(1), slow(1000)])
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_dropped": 1}, rf"^in-memory/test: max_dropped: expected at most 1 dropped examples, {DROPPED}"),
        ({"max_dropped": 0.16}, rf"max_dropped: expected at most 16% dropped examples, {DROPPED}"),
        ({"max_dropped": 0}, r"found \d of 1\d \(.*%\): example 'bad 0' \(row 9\)"),
        ({"max_lost_answers": 1}, rf"max_lost_answers: expected at most 1 lost answers, {LOST}"),
        ({"max_lost_answers": 0.3333}, rf"max_lost_answers: expected at most 33\.33% lost answers, {LOST}"),
        ({"max_dropped": 1, "max_lost_answers": 0.3333}, rf"{DROPPED}, and max_lost_answers: .*{LOST}"),
        ({"max_dropped": 9, "max_lost_answers": 0}, r"found \d of \d \(.*%\): example 'gone 0': \S"),
    ],
)
def test_beyond_a_limit_nothing_is_published_and_the_chunks_are_kept(
    free: Path, tmp_path: Path, limits: dict[str, Any], message: str, chunk_size: int
) -> None:
    with pytest.raises(LossLimitError, match=message) as caught:
        built(ROWS, tmp_path, **limits, streaming_chunk_size=chunk_size)
    assert "nothing was published; finished chunks are kept" in str(caught.value)
    assert list(tmp_path.glob("[!.]*")) == []
    chunks = {path.name: path.stat().st_ino for path in tmp_path.glob(".build-*/chunks/*.chunk")}
    assert 1 <= len(chunks) <= -(-len(ROWS) // chunk_size)
    # Another build fails in the same way, from the same chunks; with a higher limit it publishes them.
    with pytest.raises(LossLimitError, match=message):
        built(ROWS, tmp_path, **limits, streaming_chunk_size=chunk_size)
    assert {
        path.name: path.stat().st_ino for path in tmp_path.glob(".build-*/chunks/*.chunk")
    }.items() >= chunks.items()
    directory = built(ROWS, tmp_path, max_dropped=2, max_lost_answers=2, streaming_chunk_size=chunk_size).directory
    assert files_of(directory) == files_of(free)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"max_dropped": 3}, "4 of 8 "),
        ({"max_dropped": 0.03}, "4 of 8 "),  # the length of a list is known
        ({"max_dropped": 0.49}, "50 of 100 "),
        ({"max_dropped": 0.4}, "41 of 82 "),
        ({"max_dropped": 0.5, "max_lost_answers": 0}, "1 of 1 "),
        ({"max_lost_answers": 3}, "4 of 4 "),
        ({"max_lost_answers": 0.5}, "34 of 34 "),  # of the others each could still have an answer
        ({"max_dropped": 2, "max_examples": 6}, "3 of 6 "),
    ],
)
def test_a_build_stops_once_too_many_examples_are_dropped(tmp_path: Path, limits: dict[str, Any], found: str) -> None:
    rows = [{**ROWS[9 if number % 2 else 8], "id": str(number)} for number in range(100)]
    with pytest.raises(LossLimitError, match=f"found {re.escape(found)}") as caught:
        built(rows, tmp_path, streaming_chunk_size=2, num_workers=0, **limits)
    is_early = int(found.split()[2]) < limits.get("max_examples", 100)
    assert ("the build stopped early" in str(caught.value)) == is_early


def test_lost_answers_of_finished_chunks_count_from_the_start(tmp_path: Path) -> None:
    rows = [{**ROWS[8], "id": str(number)} for number in range(20)]
    for limit, workers, finished in ((3, 0, 4), (4, 0, 5), (5, 1, 6)):
        with pytest.raises(LossLimitError, match=f"found {finished} of {finished} .*; the build stopped early"):
            built(rows, tmp_path, streaming_chunk_size=1, num_workers=workers, max_lost_answers=limit)


def test_the_earlier_processor_has_the_limits(tmp_path: Path) -> None:
    settings = {**SETTINGS, "max_dropped": 1}
    processor = StreamingSquadProcessor(golden_tokenizer(), **settings)
    with pytest.raises(LossLimitError, match=DROPPED):
        processor.process_dataset_streaming(ROWS, "test", cache_manager=ChunkedCacheManager(tmp_path))


def test_many_losses_are_not_all_named(tmp_path: Path) -> None:
    rows = [ROWS[0], *({**ROWS[9], "id": f"bad {number}"} for number in range(20))]
    with pytest.raises(LossLimitError, match=r"'bad 4' .* and 15 more; nothing") as caught:
        built(rows, tmp_path, max_dropped=0.5)
    assert "'bad 5'" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, slow(1)])
def test_workers_make_no_difference(tmp_path: Path, workers: int) -> None:
    source = write_json_lines(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(LossLimitError, match=f"{DROPPED}.*{LOST}"):
        built(source, tmp_path / "caches", max_dropped=1, max_lost_answers=0, num_workers=workers)


@pytest.mark.parametrize(
    ("limits", "message"), [({"max_dropped": 1}, DROPPED), ({"max_lost_answers": 0.1}, LOST), ({"max_dropped": 2}, "")]
)
def test_a_cache_that_exists_is_held_to_the_limits_as_well(
    tmp_path: Path, limits: dict[str, Any], message: str
) -> None:
    directory = built(ROWS, tmp_path).directory
    before = files_of(directory)
    if message:
        with pytest.raises(
            LossLimitError, match=rf"^{re.escape(str(directory))}: .*{message}; the cache exists and st"
        ):
            built(ROWS, tmp_path, **limits)
    else:
        built(ROWS, tmp_path, **limits)
    assert files_of(directory) == before


def test_a_cache_that_is_rebuilt_stays_where_the_new_one_is_beyond_a_limit(tmp_path: Path) -> None:
    directory = built(ROWS, tmp_path).directory
    before = files_of(directory)
    with pytest.raises(LossLimitError):
        built(ROWS, tmp_path, rebuild=True, max_dropped=0)
    assert files_of(directory) == before


def test_each_part_is_held_to_the_limits(tmp_path: Path) -> None:
    files = [write_json_lines(tmp_path / f"{name}.jsonl", rows) for name, rows in (("a", ROWS[:8]), ("b", ROWS))]

    def parts(**limits: Any) -> Parts:
        settings = {**SETTINGS, **limits}
        return Parts.build(
            files, golden_tokenizer(), cache_dir=tmp_path / "caches", on_repeated_id="newest", **settings
        )

    with pytest.raises(LossLimitError, match=DROPPED):
        parts(max_dropped=1)
    assert len(list((tmp_path / "caches").glob("[!.]*--????????????????"))) == 1
    assert len(parts(max_dropped=2)) == 2
    with pytest.raises(LossLimitError, match=f"{DROPPED}; the cache exists"):
        parts(max_dropped=1)


def test_a_manager_of_the_package_has_the_limits_and_another_one_refuses_them(tmp_path: Path) -> None:
    class Other:
        begin = write_chunk = finish = lambda *_: None

    other: Any = Other()

    arguments: Any = {"dataset_name": sample_file(), "split": "test", "tokenizer": golden_tokenizer()}
    for name in ("max_dropped", "max_lost_answers"):
        limit: dict[str, Any] = {name: 1}
        with pytest.raises(SettingsError, match=f"^{name}: applies to caches of this package"):
            process_and_cache_dataset(**arguments, cache_manager=other, **limit)
    with pytest.raises(LossLimitError, match=DROPPED):
        process_and_cache_dataset(
            ROWS,
            "test",
            tokenizer=golden_tokenizer(),
            cache_manager=ChunkedCacheManager(tmp_path),
            max_dropped=1,
            **SETTINGS,
        )


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_dropped": 1}, r"at most 1 dropped examples, found 2 of 12 \(16\.67%\); the cache exists and stays"),
        ({"max_lost_answers": 0.1}, r"at most 10% lost answers, found 2 of 6 \(33\.33%\); the cache exists and stays"),
    ],
)
def test_a_cache_that_a_store_has_already_is_checked_too(tmp_path: Path, limits: dict[str, Any], text: str) -> None:
    options: dict[str, Any] = {**SETTINGS, "num_workers": 0, "work_dir": tmp_path / "work"}
    source = write_json_lines(tmp_path / "rows.jsonl", ROWS)
    target = (tmp_path / "store").as_uri()
    process_and_cache_dataset(source, "train", target, tokenizer=golden_tokenizer(), **options)
    with pytest.raises(LossLimitError, match=text):
        process_and_cache_dataset(source, "train", target, tokenizer=golden_tokenizer(), **{**options, **limits})

"""A cache is found for exactly what it was made from; for anything else the log names what differs."""

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from memxlnet.builder.builder import Build
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.sample import sample_tokenizer_directory
from memxlnet.settings import EncodeSettings
from memxlnet.sources import SourceOptions
from memxlnet.sources.source_files import HashedFile
from tests.builder.processes import published
from tests.golden.make_golden import golden_tokenizer
from tests.support import ROOT, long_examples, slow, write_json_lines

ENCODE = EncodeSettings(max_seq_length=32, doc_stride=8)


def load(directory: Path | None = None) -> Any:
    return AutoTokenizer.from_pretrained(directory or sample_tokenizer_directory())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_json_lines(tmp_path / "rows.jsonl", long_examples(3, words=40))


def fingerprint(
    source: Any, tokenizer: Any, encode: EncodeSettings = ENCODE, split: str = "test", **options: Any
) -> str:
    return Build(source, split, tokenizer, encode, None, SourceOptions(**options)).settings.fingerprint


def build(source: Any, cache_dir: Path, tokenizer: Any = None, split: str = "test", **changes: Any) -> int:
    arguments = {"max_seq_length": 32, "doc_stride": 8, "progress": False, **changes}
    tokenizer = tokenizer or golden_tokenizer()
    return process_and_cache_dataset(source, split, cache_dir, tokenizer=tokenizer, **arguments)


PRINT = """
import sys
from pathlib import Path
from tests.builder.test_identity import fingerprint, load
print(fingerprint(Path(sys.argv[1]), load()))
"""


@pytest.mark.slow
def test_it_is_the_same_in_processes_of_other_hash_seeds(source: Path) -> None:
    expected = fingerprint(source, load())
    done = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT, str(source)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "77")
    ]
    assert [process.communicate(timeout=100)[0].strip() for process in done] == [expected] * 2


def test_a_copy_elsewhere_is_the_same_source(source: Path, tmp_path: Path) -> None:
    expected = fingerprint(source, load())
    copied = shutil.copytree(source.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    assert fingerprint(Path(copied, source.name), load()) == expected
    assert fingerprint(source.rename(source.with_name("renamed.jsonl")), load()) == expected


def test_one_byte_of_the_source_changes_it(source: Path) -> None:
    before = fingerprint(source, load())
    content = bytearray(source.read_bytes())
    content[-3] ^= 1
    source.write_bytes(content)
    assert fingerprint(source, load()) != before
    # The same bytes read another way may be another source.
    content[-3] ^= 1
    source.with_suffix(".json").write_bytes(content)
    assert fingerprint(source.with_suffix(".json"), load()) != before


def test_a_list_is_known_by_its_content() -> None:
    rows = long_examples(3, words=10)
    tokenizer = load()
    before = fingerprint(rows, tokenizer)
    assert fingerprint([dict(reversed(row.items())) for row in rows], tokenizer) == before
    assert fingerprint([{**row, "title": "ignored"} for row in rows], tokenizer) == before
    for field, value in (
        ("id", "x"),
        ("question", "x"),
        ("context", "x"),
        ("answers", {"text": [], "answer_start": []}),
    ):
        assert fingerprint([{**rows[0], field: value}, *rows[1:]], tokenizer) != before
    assert fingerprint(list(reversed(rows)), tokenizer) != before
    assert fingerprint(rows[:2], tokenizer) != before
    without = [{name: value for name, value in row.items() if name != "id"} for row in rows]
    assert fingerprint(without, tokenizer) != before
    assert fingerprint(rows, tokenizer, identity="one") != fingerprint(rows, tokenizer, identity="two")
    assert fingerprint(rows, tokenizer, identity="one") == fingerprint(iter(()), tokenizer, identity="one")


def test_path_and_state_of_the_tokenizer_do_not_change_it(source: Path, tmp_path: Path) -> None:
    tokenizer = load()
    before = fingerprint(source, tokenizer)
    copied = shutil.copytree(sample_tokenizer_directory(), tmp_path / "elsewhere")
    assert fingerprint(source, load(Path(copied))) == before
    tokenizer("some text", "more text", truncation=True, max_length=7, padding="max_length")
    assert tokenizer.backend_tokenizer.padding is not None
    assert tokenizer.backend_tokenizer.truncation is not None
    assert fingerprint(source, tokenizer) == before
    # Reading it off leaves the state as it was.
    assert tokenizer.backend_tokenizer.padding["length"] == 7
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 7


def test_every_change_of_the_tokenizer_changes_it(source: Path) -> None:
    def changed(change: str) -> str:
        tokenizer = load()
        if change == "padding side":
            tokenizer.padding_side = "right"
        elif change == "memory tokens":
            configure_memory_tokens(tokenizer, 2)
        elif change == "more memory tokens":
            configure_memory_tokens(tokenizer, 3)
        elif change == "added token":
            tokenizer.add_tokens(["zzz"])
        elif change == "special token":
            tokenizer.add_special_tokens({"extra_special_tokens": ["[X]"]}, replace_extra_special_tokens=False)
        elif change == "pad token":
            tokenizer.pad_token = "<mask>"
        elif change == "split special tokens":
            tokenizer.split_special_tokens = True
        else:
            assert change == "nothing"
        return fingerprint(source, tokenizer)

    changes = (
        "nothing",
        "padding side",
        "memory tokens",
        "more memory tokens",
        "added token",
        "special token",
        "pad token",
        "split special tokens",
    )
    assert len({changed(change) for change in changes}) == len(changes)
    assert changed("nothing") == fingerprint(source, load())


def test_memory_tokens_that_are_left_out_are_another_identity(source: Path) -> None:
    tokenizer = golden_tokenizer()
    without = EncodeSettings(max_seq_length=32, doc_stride=8, insert_memory_tokens=False)
    assert fingerprint(source, tokenizer) != fingerprint(source, tokenizer, without)


def test_the_split_changes_it(source: Path) -> None:
    assert fingerprint(source, load(), split="train") != fingerprint(source, load(), split="validation")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"max_seq_length": 40}, "settings.max_seq_length: expected 40, found 32"),
        slow({"doc_stride": 4}, "settings.doc_stride: expected 4, found 8"),
        slow({"max_n_segs": 1}, "settings.max_n_segs: expected 1, found None"),
        slow({"max_examples": 2}, "settings.max_examples: expected 2, found None"),
        slow({"insert_memory_tokens": False}, "settings.insert_memory_tokens: expected False, found True"),
        ({"on_bad_example": "drop"}, "settings.on_bad_example: expected 'drop', found 'error'"),
    ],
)
def test_the_log_names_the_setting_that_differs(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], difference: str
) -> None:
    build(source, tmp_path / "caches")
    (first,) = published(tmp_path / "caches")
    caplog.clear()
    with caplog.at_level(logging.INFO, "memxlnet"):
        build(source, tmp_path / "caches", **changes)
    lines = [message for message in caplog.messages if "not used, it differs in" in message]
    assert len(lines) == 1  # one line for one cache
    assert lines[0].startswith(f"{first}: ")
    assert difference in lines[0]
    assert len(list(published(tmp_path / "caches"))) == 2


def test_the_log_names_source_and_tokenizer(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(source, tmp_path / "caches")
    tokenizer = golden_tokenizer()
    tokenizer.add_tokens(["zzz"])
    with caplog.at_level(logging.INFO, "memxlnet"):
        build(source, tmp_path / "caches", tokenizer)
        assert "not used, it differs in tokenizer.sha256: expected '" in caplog.text
        caplog.clear()
        source.write_bytes(source.read_bytes() + b"\n")
        build(source, tmp_path / "caches")
        assert "not used, it differs in source.sha256: expected '" in caplog.text
        caplog.clear()
        # Another split, or another source, is no candidate.
        build(source, tmp_path / "caches", split="other")
        build(write_json_lines(tmp_path / "others.jsonl", long_examples(2, words=40)), tmp_path / "caches")
        assert "not used" not in caplog.text


def test_a_cache_that_is_there_is_found(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    features = build(source, tmp_path / "caches")
    (directory,) = published(tmp_path / "caches")
    times = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    with caplog.at_level(logging.INFO, "memxlnet"):
        assert build(source, tmp_path / "caches", streaming_chunk_size=1, max_memory_gb=1.0) == features
    assert f"{directory}: found, nothing to build" in caplog.text
    assert "not used" not in caplog.text
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == times


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content is hashed from here on."""
    found: list[str] = []
    plain = HashedFile._hash

    def record(self: HashedFile, path: str) -> Any:
        found.append(path)
        return plain(self, path)

    monkeypatch.setattr(HashedFile, "_hash", record)
    return found


def test_an_unchanged_file_is_hashed_once(source: Path, tmp_path: Path, hashed: list[str]) -> None:
    build(source, tmp_path / "caches")
    assert hashed == [str(source)]
    build(source, tmp_path / "caches")
    build(source, tmp_path / "caches", doc_stride=4)
    build(str(source), tmp_path / "caches", split="other")
    assert hashed == [str(source)]
    build(source, tmp_path / "other caches")
    assert len(hashed) == 2


def test_a_touched_file_is_hashed_again(source: Path, tmp_path: Path, hashed: list[str]) -> None:
    features = build(source, tmp_path / "caches")
    time.sleep(0.02)
    source.touch()
    assert build(source, tmp_path / "caches") == features
    assert len(hashed) == 2
    assert len(list(published(tmp_path / "caches"))) == 1


def test_a_file_that_changed_is_hashed_once_more_and_not_at_every_call(
    source: Path, tmp_path: Path, hashed: list[str]
) -> None:
    contents = [source.read_bytes().replace(b"Which", word) for word in (b"Which", b"Whose", b"Where", b"Whyso")]
    for number, content in enumerate(contents, start=1):
        time.sleep(0.03)
        source.write_bytes(content)
        for _ in range(2):
            build(source, tmp_path / "caches")
        assert len(hashed) == number
    assert len(list(published(tmp_path / "caches"))) == len(contents)


def test_other_content_of_the_same_size_and_time_is_noticed(source: Path, tmp_path: Path, hashed: list[str]) -> None:
    build(source, tmp_path / "caches")
    status = source.stat()
    source.write_bytes(source.read_bytes().replace(b"Which", b"Whose"))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source.stat().st_size == status.st_size
    assert source.stat().st_mtime_ns == status.st_mtime_ns
    build(source, tmp_path / "caches")
    assert len(hashed) == 2
    assert len(list(published(tmp_path / "caches"))) == 2


@pytest.mark.parametrize("attempts", [2, slow(20)])
def test_a_change_right_after_the_build_is_noticed(source: Path, tmp_path: Path, attempts: int) -> None:
    # Within one tick of the file system's clock.
    for attempt in range(attempts):
        source.write_bytes(source.read_bytes().replace(b"Which", b"Whose"))
        build(source, tmp_path / str(attempt))
        source.write_bytes(source.read_bytes().replace(b"Whose", b"Which"))
        build(source, tmp_path / str(attempt))
        assert len(list(published(tmp_path / str(attempt)))) == 2

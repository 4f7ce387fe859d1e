"""Limits of the system, as the system sets them: too few files, too little address space."""

import errno
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest

from memxlnet.errors import CacheOSError, MemoryLimitError, SourceError
from memxlnet.format.published import PublishedCache
from memxlnet.system_errors import read_from, source_errors
from tests.golden.make_golden import CACHE, golden_tokenizer
from tests.support import build, long_examples, slow, told_by, write_json_lines

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system sets no limit of address space")


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = long_examples(8)
    return build(rows, golden_tokenizer(), tmp_path_factory.mktemp("many"), max_shard_rows=1).directory


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(tmp_path_factory.mktemp("source") / "rows.jsonl", long_examples(3))


def failure(*arguments: Any) -> tuple[str, str]:
    (found,) = told_by("tests.faults.limited", *arguments)
    return found["error"], found["message"]


@pytest.mark.parametrize(
    ("kind", "amount", "limit"),
    [
        ("files", 5, r"Too many open files; close files or raise the limit of open files \(ulimit -n, now \d+\)"),
        pytest.param(
            "memory",
            100_000,
            r"Cannot allocate memory; free memory or end processes, or raise the limit of address space \(ulimit -v, "
            r"now [\d,]+ bytes\)",
            marks=linux,
        ),
    ],
)
def test_a_cache_of_many_shards_names_the_limit_and_how_many_it_has(
    many_shards: Path, kind: str, amount: int, limit: str
) -> None:
    shards = len(list(many_shards.glob("*.arrow")))
    assert shards > 30
    error, message = failure(kind, amount, "cache", many_shards)
    assert error == "CacheOSError"
    assert re.fullmatch(
        rf"{re.escape(str(many_shards))}/[a-z]+-\d+\.arrow: cannot be read: {limit}\nor build the cache in fewer "
        rf"shards \(a larger max_shard_rows\): \d+ of its {shards} are open, which take a file each and [\d,]+ bytes "
        "of address space together",
        message,
    )


@pytest.mark.parametrize(
    ("kind", "amount"), [("files", 100), pytest.param("memory", 10**9, marks=(linux, pytest.mark.slow))]
)
def test_within_the_limit_it_opens(many_shards: Path, kind: str, amount: int) -> None:
    assert failure(kind, amount, "cache", many_shards) == ("", "")


@pytest.mark.slow
def test_a_source_names_the_limit_of_files(file: Path) -> None:
    error, message = failure("files", 0, "source", file)
    assert error == "SourceError"
    assert str(file) in message
    assert re.search(
        r"Too many open files.*; close files or raise the limit of open files \(ulimit -n, now \d+\)", message
    )


@linux
@pytest.mark.parametrize("suffix", [slow(".arrow"), ".jsonl"])
def test_a_source_names_the_limit_of_address_space(tmp_path: Path, suffix: str) -> None:
    rows = [{**row, "context": row["context"] * 2000} for row in long_examples(8)]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".arrow":
        pa.feather.write_feather(pa.Table.from_pylist(rows), path, compression="uncompressed")
    else:
        write_json_lines(path, rows)
    error, message = failure("memory", 8_000_000, "source", path)
    assert error in ("SourceError", "MemoryLimitError")
    assert "cannot be read" in message
    assert re.search(r"raise the limit of address space \(ulimit -v, now [\d,]+ bytes\)", message)


def test_a_cache_that_does_not_fit_into_memory_is_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError("Unable to allocate 9 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(np, "fromfile", fail)
        with pytest.raises(CacheOSError) as caught:
            PublishedCache(CACHE, in_memory=True)
    assert caught.value.errno == errno.ENOMEM
    monkeypatch.setattr(pa.ipc, "open_file", lambda _: (_ for _ in ()).throw(pa.ArrowMemoryError("malloc of size 9")))
    with pytest.raises(CacheOSError, match=r"\.arrow:") as caught:
        PublishedCache(CACHE)
    assert caught.value.errno == errno.ENOMEM


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (
            OSError(errno.ENFILE, "Too many open files in system", "x"),
            SourceError,
            r"^rows:.*\bulimit\b",
        ),
        (MemoryError(), MemoryLimitError, "^rows:"),
        (CacheOSError("cache"), CacheOSError, "^cache$"),
        (MemoryLimitError("memory"), MemoryLimitError, "^memory$"),
        (SourceError("malformed"), SourceError, "^malformed$"),
        (FileNotFoundError(errno.ENOENT, "gone"), FileNotFoundError, "gone"),
        (ValueError("other"), ValueError, "^other$"),
    ],
    ids=repr,
)
def test_only_limits_get_another_error(raised: Exception, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message), source_errors("rows"):
        raise raised
    with pytest.raises(kind, match=message):
        list(read_from("rows", _raising(raised)))


def _raising(error: Exception) -> Any:
    yield 1
    raise error

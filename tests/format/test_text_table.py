"""Documents and contexts: a batch is checked in full before its first value is read, and read only when it is asked."""

import shutil
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest

from memxlnet.builder import chunks_to_shards as publish_module
from memxlnet.errors import CacheDamagedError
from memxlnet.format import published as cache_module
from memxlnet.format.published import PublishedCache
from tests.format.content import make_content, publish

CONTENT = make_content(3, 1, [f"context {number}" for number in range(9)], [(number, 1) for number in range(9)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with mock.patch.object(publish_module, "CONTEXTS_BATCH_ROWS", 3):
        return publish(CONTENT, tmp_path, [4]).directory


def test_only_the_batches_that_are_asked_are_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = cache_module._GuardedReader.get_batch

    def count(self: cache_module._GuardedReader, index: int) -> pa.RecordBatch:
        read.append(index)
        return plain(self, index)

    contexts = PublishedCache(directory).contexts
    monkeypatch.setattr(cache_module._GuardedReader, "get_batch", count)
    assert contexts.text("text", 4) == "context 4"
    assert contexts.text("text", 5) == "context 5"
    assert read == [1]
    assert contexts.text("text", 8) == "context 8"
    assert read == [1, 2]


def test_damaged_text_is_found_before_it_is_read(directory: Path) -> None:
    path = directory / "contexts-00000.arrow"
    content = path.read_bytes()
    at = content.index(b"context 4")
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])  # no UTF-8
    contexts = PublishedCache(directory).contexts
    assert contexts.text("text", 0) == "context 0"
    for row in (3, 4, 5):
        with pytest.raises(CacheDamagedError, match=r"contexts-00000\.arrow.*\b1:"):
            contexts.text("text", row)
    assert contexts.text("text", 8) == "context 8"
    with pytest.raises(CacheDamagedError, match=r"\b1:"):
        contexts.validate()


@pytest.mark.parametrize("offset", [2**62, -1, 2**31])
def test_offsets_that_lead_anywhere_are_refused(directory: Path, offset: int) -> None:
    path = directory / "contexts-00000.arrow"
    content = path.read_bytes()
    offsets = b"".join(value.to_bytes(8, "little") for value in (0, 9, 18, 27))
    at = content.index(offsets)
    damaged = content[: at + 8] + offset.to_bytes(8, "little", signed=True) + content[at + 16 :]
    path.write_bytes(damaged)
    with pytest.raises(CacheDamagedError, match=r"contexts-00000\.arrow.*\b0:"):
        PublishedCache(directory).contexts.text("text", 0)


def test_batches_of_other_sizes_are_refused(directory: Path, tmp_path: Path) -> None:
    with mock.patch.object(publish_module, "CONTEXTS_BATCH_ROWS", 4):
        other = publish(CONTENT, tmp_path / "other", [4]).directory
    name = "contexts-00000.arrow"
    shutil.copy(other / name, directory / name)
    with mock.patch.object(cache_module, "_check_size"), pytest.raises(CacheDamagedError, match=name):
        PublishedCache(directory).contexts.text("text", 0)


def test_numbers_are_views_and_texts_are_copies(directory: Path) -> None:
    documents = PublishedCache(directory).documents
    expected = [document.columns["question_token_starts"] for document in CONTENT.documents]
    assert [documents.numbers("question_token_starts", row).tolist() for row in range(9)] == expected
    row = next(row for row, values in enumerate(expected) if values)
    with pytest.raises(ValueError, match="read-only"):
        documents.numbers("question_token_starts", row)[0] = 1

"""Parts that travel: what is new is sent and fetched, the list last."""

from pathlib import Path

import pytest

from memxlnet.errors import CacheDamagedError, CacheMismatchError, CacheNotFoundError, TransferError
from memxlnet.format.part_list import read_part_list
from memxlnet.remote.part_lists import is_part_list, pull_parts, push_parts
from memxlnet.remote.pull import pull
from memxlnet.remote.stores import Store
from tests.builder.parts import in_parts, rows_of, write_files
from tests.faults.processes import names
from tests.format.content import files_of
from tests.remote.s3 import Bucket, calls


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "data", {name: rows_of(name) for name in "abc"})


def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store/docs"


def test_what_is_new_travels_there_and_back(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    assert push_parts(first.directory, url(tmp_path)) == first.built
    assert push_parts(first.directory, url(tmp_path)) == []
    assert is_part_list(url(tmp_path))
    fetched = pull_parts(url(tmp_path), tmp_path / "other")
    assert read_part_list(fetched) == first.parts
    write_files(tmp_path / "data", {"bb": rows_of("bb")})
    second = in_parts(source, tmp_path / "caches")
    assert push_parts(second.directory, url(tmp_path)) == second.built
    before = {name: (tmp_path / "other" / name).stat().st_mtime_ns for name in first.built}
    assert pull_parts(url(tmp_path), tmp_path / "other") == fetched
    assert read_part_list(fetched) == second.parts
    assert {name: (tmp_path / "other" / name).stat().st_mtime_ns for name in first.built} == before
    for part in second.parts.parts:
        assert files_of(tmp_path / "other" / part.cache) == files_of(tmp_path / "caches" / part.cache)


def test_the_list_comes_last(tmp_path: Path, source: Path, bucket: Bucket) -> None:
    found = in_parts(source, tmp_path / "caches")
    with calls() as made:
        push_parts(found.directory, bucket.url, storage_options=bucket.options())
    sent = [name for what, name in made if what == "put_object"]
    assert sent[-1] == "parts.json"
    with calls() as made:
        push_parts(found.directory, bucket.url, storage_options=bucket.options())
    assert [call for call in made if call[0] == "put_object"] == []


def test_an_interrupted_push_leaves_the_former_list(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = in_parts(source, tmp_path / "caches")
    push_parts(first.directory, url(tmp_path))
    write_files(tmp_path / "data", {name: rows_of(name) for name in "de"})
    second = in_parts(source, tmp_path / "caches")
    send = Store.send
    sent: list[str] = []

    def cut(self: Store, local: Path, name: str, report: object) -> None:
        sent.append(name)
        if len(sent) > 5:
            raise TransferError("cut")
        send(self, local, name, report)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Store, "send", cut)
        with pytest.raises(TransferError):
            push_parts(second.directory, url(tmp_path))
    assert read_part_list(pull_parts(url(tmp_path), tmp_path / "other")) == first.parts
    assert push_parts(second.directory, url(tmp_path)) == second.built
    assert read_part_list(pull_parts(url(tmp_path), tmp_path / "other")).parts == second.parts.parts


def test_a_list_of_other_settings_is_replaced_on_request_only(tmp_path: Path, source: Path) -> None:
    push_parts(in_parts(source, tmp_path / "caches").directory, url(tmp_path))
    other = in_parts(source, tmp_path / "caches", doc_stride=2)
    with pytest.raises(CacheMismatchError, match=r"settings\.doc_stride: expected 2, found 3"):
        push_parts(other.directory, url(tmp_path))
    assert len(push_parts(other.directory, url(tmp_path), replace=True)) == 3
    assert read_part_list(pull_parts(url(tmp_path), tmp_path / "other")) == other.parts


def test_what_is_damaged_or_missing(tmp_path: Path, source: Path) -> None:
    found = in_parts(source, tmp_path / "caches")
    with pytest.raises(CacheNotFoundError, match=r"expected a list of parts, found no parts\.json"):
        pull_parts(url(tmp_path), tmp_path / "other")
    assert not is_part_list(url(tmp_path))
    push_parts(found.directory, url(tmp_path))
    store = tmp_path / "store" / "docs"
    with pytest.raises(CacheNotFoundError):
        pull(url(tmp_path), tmp_path / "other")
    (store / found.built[1] / "manifest.json").unlink()
    with pytest.raises(CacheNotFoundError, match=found.built[1]):
        pull_parts(url(tmp_path), tmp_path / "other")
    assert not (tmp_path / "other" / found.directory.name).exists()
    assert push_parts(found.directory, url(tmp_path), replace=True) == found.built
    (store / "parts.json").write_text("{")
    for act in (
        lambda: pull_parts(url(tmp_path), tmp_path / "other"),
        lambda: push_parts(found.directory, url(tmp_path)),
    ):
        with pytest.raises(CacheDamagedError, match=r"parts\.json: expected JSON"):
            act()
    push_parts(found.directory, url(tmp_path), replace=True)
    pull_parts(url(tmp_path), tmp_path / "other")
    (tmp_path / "caches" / found.built[0]).rename(tmp_path / "aside")
    with pytest.raises(CacheNotFoundError, match=found.built[0]):
        push_parts(found.directory, url(tmp_path), replace=True)
    assert found.directory.name in names(tmp_path / "other")

"""What a push sends, what it leaves, and what it refuses."""

import json
from pathlib import Path

import pytest

from memxlnet.errors import (
    CacheDamagedError,
    CacheError,
    CacheMismatchError,
    CacheNotFoundError,
    MemxlnetError,
    TransferError,
)
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.stores import Store
from tests.format.content import files_of, make_content, publish
from tests.format.forging import seal
from tests.remote.s3 import Bucket, calls
from tests.support import slow

WRITES = ("put_object", "delete_object", "create_multipart_upload")


def flip(content: bytes) -> bytes:
    """One bit of a value changed, which no structure shows."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def sent(cache: Path, bucket: Bucket, **options: bool) -> list[tuple[str, str]]:
    """What a push writes and removes."""
    with calls() as made:
        push(cache, bucket.url, storage_options=bucket.options(), **options)
    return [call for call in made if call[0] in WRITES]


@pytest.mark.parametrize("verify", [True, slow(False)])
def test_nothing_that_is_right_is_sent_again(cache: Path, bucket: Bucket, verify: bool) -> None:
    assert sent(cache, bucket, verify=verify)
    assert sent(cache, bucket, verify=verify) == []
    assert sent(cache, bucket, verify=verify, replace=True) == []


def test_a_changed_file_is_sent_again_while_there_is_no_manifest(cache: Path, bucket: Bucket) -> None:
    bucket.fill(cache)
    bucket.put("features-00001.arrow", flip(bucket.get("features-00001.arrow")))
    assert sent(cache, bucket, verify=False) == []  # of the same size: only reading shows it
    assert sent(cache, bucket) == [
        ("delete_object", "manifest.json"),
        ("put_object", "features-00001.arrow"),
        ("put_object", "manifest.json"),
    ]
    assert bucket.files() == files_of(cache)


@pytest.mark.parametrize("verify", [True, slow(False)])
def test_a_truncated_or_lost_file_is_sent_again(cache: Path, bucket: Bucket, verify: bool) -> None:
    bucket.fill(cache)
    bucket.put("features-00001.arrow", bucket.get("features-00001.arrow")[:-8])
    bucket.delete("tokenizer.json")
    names = [name for _, name in sent(cache, bucket, verify=verify)]
    assert sorted(names[1:-1]) == ["features-00001.arrow", "tokenizer.json"]
    assert bucket.files() == files_of(cache)


@pytest.mark.parametrize("verify", [True, False])
def test_a_rebuild_with_other_shards_sends_only_what_differs(
    cache: Path, bucket: Bucket, tmp_path: Path, verify: bool
) -> None:
    content = make_content(3, 48, [f"context {number}" for number in range(6)], [(n, 1 + n % 5) for n in range(60)])
    rebuilt = Path(publish(content, tmp_path / "rebuilt", [7], max_shard_rows=50).directory)
    bucket.fill(cache)
    before, after = files_of(cache), files_of(rebuilt)
    differing = {name for name in after if after[name] != before.get(name)}
    assert "features-00000.arrow" in differing
    assert {"documents-00000.arrow", "contexts-00000.arrow", "tokenizer.json"} <= before.keys() - differing
    written = [name for method, name in sent(rebuilt, bucket, verify=verify) if method != "delete_object"]
    assert sorted(written) == sorted(differing)
    assert bucket.files() == {**before, **after}


def test_what_was_half_sent_is_completed(cache: Path, bucket: Bucket) -> None:
    bucket.fill(cache)
    for name in ("manifest.json", "features-00000.arrow"):
        bucket.delete(name)
    assert sent(cache, bucket) == [("put_object", "features-00000.arrow"), ("put_object", "manifest.json")]
    bucket.delete("manifest.json")
    assert len(sent(cache, bucket, verify=False)) == len(files_of(cache))  # nothing names what lies there


def test_another_manifest_of_the_same_content_is_replaced(cache: Path, bucket: Bucket) -> None:
    bucket.fill(cache)
    seal(cache, lambda content: content["provenance"].update(path="/elsewhere"))
    assert sent(cache, bucket) == [("delete_object", "manifest.json"), ("put_object", "manifest.json")]
    assert bucket.files() == files_of(cache)


def test_a_cache_of_other_settings_is_not_overwritten_unasked(cache: Path, other_cache: Path, bucket: Bucket) -> None:
    bucket.fill(other_cache)
    before = bucket.files()
    with pytest.raises(CacheMismatchError, match=r"settings\.max_seq_length:.*48.*5") as raised:
        push(cache, bucket.url, storage_options=bucket.options())
    assert bucket.url in str(raised.value)
    assert bucket.files() == before


def test_replace_removes_what_the_former_manifest_named_and_nothing_else(
    cache: Path, other_cache: Path, bucket: Bucket
) -> None:
    bucket.fill(other_cache)
    bucket.put("notes.txt", b"mine")
    bucket.put("features-99999.arrow", b"mine too")
    assert "dropped.jsonl" in bucket.files()
    push(cache, bucket.url, storage_options=bucket.options(), replace=True)
    assert bucket.files() == {**files_of(cache), "notes.txt": b"mine", "features-99999.arrow": b"mine too"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        slow(b"", CacheDamagedError),
        (b"{}", CacheDamagedError),
        slow(b"\xff\xfe", CacheDamagedError),
        slow(b"[" * 100_000, CacheDamagedError),
        (b'{"format": "memxlnet-cache", "schema_version": 99}', CacheMismatchError),
    ],
)
def test_a_manifest_that_cannot_be_read_stays_unless_it_is_to_be_replaced(
    cache: Path, bucket: Bucket, content: bytes, kind: type[CacheError]
) -> None:
    bucket.put("manifest.json", content)
    with pytest.raises(kind, match="replace=True"):
        push(cache, bucket.url, storage_options=bucket.options())
    assert bucket.files() == {"manifest.json": content}
    push(cache, bucket.url, storage_options=bucket.options(), replace=True)
    assert bucket.files() == files_of(cache)


def test_a_changed_byte_never_travels_and_what_is_there_stays(cache: Path, bucket: Bucket) -> None:
    bucket.fill(cache)
    before = bucket.files()
    bucket.delete("features-00001.arrow")
    path = cache / "features-00001.arrow"
    path.write_bytes(flip(path.read_bytes()))
    with pytest.raises(CacheDamagedError, match=r"features-00001\.arrow:.*checksum"):
        push(cache, bucket.url, storage_options=bucket.options())
    del before["features-00001.arrow"]
    assert bucket.files() == before


@pytest.mark.parametrize("name", ["tokenizer.json", "features-00000.arrow", "manifest.json"])
def test_a_damaged_cache_is_refused_before_the_store_is_asked(cache: Path, bucket: Bucket, name: str) -> None:
    path = cache / name
    path.write_bytes(path.read_bytes()[:-3])
    with calls() as made, pytest.raises(CacheDamagedError):
        push(cache, bucket.url, storage_options=bucket.options())
    assert made == []


def test_a_missing_cache_fails_before_the_store_is_asked(tmp_path: Path, bucket: Bucket) -> None:
    with calls() as made, pytest.raises(CacheNotFoundError):
        push(tmp_path / "none", bucket.url, storage_options=bucket.options())
    assert made == []


def test_a_manifest_with_other_blanks_is_damaged(cache: Path, bucket: Bucket) -> None:
    path = cache / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes())))
    with pytest.raises(CacheDamagedError, match=r"manifest\.json"):
        push(cache, bucket.url, storage_options=bucket.options())


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_that_arrives_changed_gets_no_manifest(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    send = Store.send

    def alter(self: Store, local: Path, name: str, report: object) -> None:
        send(self, local, name, report)  # type: ignore[arg-type]
        if name == "features-00001.arrow":
            bucket.put(name, flip(bucket.get(name)) if verify else bucket.get(name)[1:])

    monkeypatch.setattr(Store, "send", alter)
    found = "checksum" if verify else f"{(cache / 'features-00001.arrow').stat().st_size - 1:,}"
    with pytest.raises(TransferError, match=rf"features-00001\.arrow:.*found.*{found}"):
        push(cache, bucket.url, storage_options=bucket.options(), verify=verify)
    assert "manifest.json" not in bucket.files()
    with pytest.raises(CacheNotFoundError):
        pull(bucket.url, cache.parent.parent / "here", storage_options=bucket.options())


def test_a_file_that_changes_while_it_is_sent_is_refused(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Store.send

    def alter(self: Store, local: Path, name: str, report: object) -> None:
        content = local.read_bytes()
        local.unlink()
        local.write_bytes(content)
        send(self, local, name, report)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "send", alter)
    with pytest.raises(TransferError, match=f"^{cache}/"):
        push(cache, bucket.url, storage_options=bucket.options())
    assert "manifest.json" not in bucket.files()


@pytest.mark.parametrize(
    "changes", [{"replace": 1}, {"verify": "yes"}, {"progress": 2}, {"storage_options": "x"}, {"cache": 3}, {"url": 4}]
)
def test_arguments_are_checked_first(cache: Path, changes: dict[str, object]) -> None:
    arguments: dict[str, object] = {"cache": cache, "url": "memory://nowhere/x", **changes}
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}:") as raised:
        push(**arguments)  # type: ignore[arg-type]
    assert isinstance(raised.value, MemxlnetError)

"""`memxlnet push` and `memxlnet pull`: the options reach the library, and a cache travels there and back."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memxlnet
from memxlnet import Parts
from memxlnet.cli.parameters import Bytes
from memxlnet.format.manifest import read_manifest
from tests.builder.parts import rows_of, write_files
from tests.cli.helpers import Caches, Result, change_manifest, copy_of, error, usage_error
from tests.load.helpers import sample_tokenizer

Run = Callable[..., Result]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {}),
        (["--replace"], {"replace": True}),
        (["--no-verify"], {"verify": False}),
        (["--progress"], {"progress": True}),
        (["--no-progress"], {"progress": False}),
    ],
)
def test_the_options_of_push(
    run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: dict[str, Any]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("memxlnet.cli.push.push", lambda *values, **options: asked.extend([*values, options]))
    assert run("push", caches.plain, "s3://bucket/x", *options) == (0, "", "")
    defaults = {"replace": False, "verify": True, "progress": None}
    assert asked == [caches.plain, "s3://bucket/x", {**defaults, **expected}]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {}),
        (["--replace"], {"replace": True}),
        (["--progress"], {"progress": True}),
        (["--no-progress"], {"progress": False}),
    ],
)
def test_the_options_of_pull(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: dict[str, Any]
) -> None:
    asked: list[Any] = []

    def pull(*values: Any, **options: Any) -> Path:
        asked.extend([*values, options])
        return tmp_path / "fetched"

    monkeypatch.setattr("memxlnet.cli.pull.pull", pull)
    result = run("pull", "s3://bucket/x", "--cache-dir", tmp_path, *options)
    assert result == (0, f"{tmp_path}/fetched\n", "")
    assert asked == ["s3://bucket/x", tmp_path, {"replace": False, "progress": None, **expected}]
    monkeypatch.setenv("MEMXLNET_CACHE_DIR", str(tmp_path / "other"))
    run("pull", "s3://bucket/x")
    assert asked[4] == tmp_path / "other"


def test_there_and_back(run: Run, caches: Caches, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/far"
    assert run("push", caches.sharded, url) == (0, "", "")
    assert content(tmp_path / "far") == content(caches.sharded)
    result = run("pull", url, "--cache-dir", tmp_path / "near")
    assert (result.code, result.err) == (0, "")
    fetched = tmp_path / "near" / caches.sharded.name
    assert result.out == f"{fetched}\n"
    assert content(fetched) == content(caches.sharded)
    assert run("verify", fetched, "--against", caches.source).code == 0
    assert run("push", caches.sharded, url, "--json").json == {"cache": str(caches.sharded), "url": url}
    assert run("pull", url, "--cache-dir", tmp_path / "near", "--json").json == {"cache": str(fetched)}
    # A second time there is nothing to do.
    before = {path.name: path.stat().st_ino for path in fetched.iterdir()}
    assert run("push", caches.sharded, url).code == run("pull", url, "--cache-dir", tmp_path / "near").code == 0
    assert {path.name: path.stat().st_ino for path in fetched.iterdir()} == before


def test_a_lazy_pull_prepares_what_a_program_opens(run: Run, caches: Caches, tmp_path: Path) -> None:
    url, near = f"file://{caches.sharded}", tmp_path / "near"
    directory = near / f".lazy-{caches.sharded.name}"
    shards = read_manifest(caches.sharded).tables["features"].shards
    opens = "memxlnet.pull(URL, CACHE_DIR, lazy=True) opens it"
    pulled = ("pull", url, "--cache-dir", near)
    assert run(*pulled, "--lazy") == (0, f"{directory}\n", f"0 of {len(shards)} shards are here; {opens}\n")
    assert {path.name for path in near.rglob("*.arrow")} == {
        path.name for path in caches.sharded.glob("*.arrow") if not path.name.startswith("features")
    }
    limit = sum(shard.bytes for shard in shards[:3])
    result = run(*pulled, "--lazy", "--local-limit", f"{limit / 1000}kB", "--json")
    assert result.json == {"cache": str(directory), "shards": len(shards), "shards_here": 3}
    assert {path.name for path in directory.glob("features-*")} == {shard.file for shard in shards[:3]}
    lazy = memxlnet.pull(url, near, lazy=True)
    assert lazy.directory == directory
    assert run(*pulled).out == f"{near / caches.sharded.name}\n"
    assert content(near / caches.sharded.name) == content(caches.sharded)
    assert run(*pulled, "--lazy", "--quiet") == (0, f"{near / caches.sharded.name}\n", "")


def test_errors_of_a_lazy_pull_name_options(run: Run, caches: Caches, tmp_path: Path) -> None:
    pulled = ("pull", f"file://{caches.sharded}", "--cache-dir", tmp_path / "near")
    assert error(run(*pulled, "--lazy", "--local-limit", 10)).startswith("--local-limit: expected at least the largest")
    message = "--local-limit: applies to a pull with --lazy, found it without; add --lazy"
    assert usage_error(run(*pulled, "--local-limit", "2GB")) == message
    assert usage_error(run(*pulled, "--lazy", "--local-limit", "0 GB")) == (
        "Invalid value for '--local-limit': expected a size of a byte or more, such as 2GB, found '0 GB'; "
        "leave it out for no limit"
    )
    assert error(run(*pulled, "--lazy", "--replace")).startswith("--replace: expected False with --lazy, found True")
    assert "no address" in error(run("pull", "no address", "--lazy"))
    parts = write_files(tmp_path / "data", {name: rows_of(name) for name in "ab"})
    built = Parts.build(parts, sample_tokenizer(), cache_dir=tmp_path / "caches", max_seq_length=48, doc_stride=8)
    built.push(f"file://{tmp_path}/far")
    message = usage_error(run("pull", f"file://{tmp_path}/far", "--cache-dir", tmp_path / "near", "--lazy"))
    assert message == "--lazy: applies to one cache, found a list of parts"
    assert not (tmp_path / "near").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000000", 10**6),
        ("2GB", 2 * 10**9),
        ("2 gb", 2 * 10**9),
        ("1.5kB", 1500),
        ("500MiB", 500 << 20),
        ("1T", 10**12),
        ("0.1GB", 10**8),
    ],
)
def test_a_size(text: str, expected: int) -> None:
    assert Bytes().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "2XB", "1e9", "2GB/s", "\u0662GB"])
def test_what_is_no_size(run: Run, tmp_path: Path, text: str) -> None:
    result = run("pull", "file:///x", "--cache-dir", tmp_path, "--lazy", f"--local-limit={text}")
    message = usage_error(result)
    assert message.startswith(
        "Invalid value for '--local-limit': expected a size such as 2GB, 500MiB or 1000000, found"
    )


def test_another_cache_is_replaced_on_request_only(run: Run, caches: Caches, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/far"
    assert run("push", caches.plain, url).code == 0
    message = error(run("push", caches.memory, url))
    assert "--replace" in message
    assert "replace=True" not in message
    assert content(tmp_path / "far") == content(caches.plain)
    assert run("push", caches.memory, url, "--replace").code == 0
    assert content(tmp_path / "far") == content(caches.memory)


def test_errors_of_pull_name_options(run: Run, caches: Caches, tmp_path: Path) -> None:
    near = tmp_path / "near"
    (tmp_path / "nothing").mkdir()
    assert "manifest.json" in error(run("pull", f"file://{tmp_path}/nothing", "--cache-dir", near))
    newer = copy_of(caches.plain, tmp_path)
    change_manifest(newer, schema_version=99)
    assert "found 99" in error(run("pull", f"file://{newer}", "--cache-dir", near))
    assert "expected" in error(run("pull", "/no/address", "--cache-dir", near))
    assert not near.exists()
    damaged = copy_of(caches.plain, near)
    (damaged / "tokenizer.json").unlink()
    message = error(run("pull", f"file://{caches.plain}", "--cache-dir", near))
    assert "--replace" in message
    assert run("pull", f"file://{caches.plain}", "--cache-dir", near, "--replace").code == 0
    assert content(damaged) == content(caches.plain)


@pytest.mark.parametrize("url", ["", "nonsense", "/no/address"])
def test_a_malformed_address(run: Run, caches: Caches, tmp_path: Path, url: str) -> None:
    for result in (run("push", caches.plain, url), run("pull", url, "--cache-dir", tmp_path / "near")):
        assert re.match(rf"URL:.*found {url!r}", error(result))
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage(run: Run, caches: Caches) -> None:
    assert usage_error(run("push", caches.plain)) == "Missing argument 'URL'."
    assert usage_error(run("pull")) == "Missing argument 'URL'."

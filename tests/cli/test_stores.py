"""`memxlnet build`, `ls`, `info` and `rm` with the URL of a store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.format.manifest import read_manifest
from memxlnet.maintain.removal import num_bytes
from memxlnet.sample import sample_tokenizer_directory
from tests.cli.helpers import LENGTH, OVERLAP, Caches, Result, copy_of, error, usage_error
from tests.format.content import files_of

Run = Callable[..., Result]


@pytest.fixture
def store(caches: Caches, tmp_path: Path) -> Path:
    """A store that is a directory, with two caches."""
    (tmp_path / "store").mkdir()
    for cache in (caches.plain, caches.memory):
        copy_of(cache, tmp_path / "store")
    return tmp_path / "store"


def test_ls_shows_what_it_shows_of_a_directory_with_names_and_fingerprints(run: Run, store: Path) -> None:
    rows = run("ls", f"file://{store}").lines
    assert [row[:-2] for row in rows] == run("ls", store).lines
    manifests = [read_manifest(path) for path in sorted(store.iterdir())]
    assert [row[-2:] for row in rows] == [
        ["name", "fingerprint"],
        *([manifest.name, manifest.fingerprint] for manifest in manifests),
    ]
    listed = run("ls", f"file://{store}", "--json").json
    assert [each.pop("url") for each in listed] == [f"file://{path}" for path in sorted(store.iterdir())]
    assert [[str(value) for value in each.values()] for each in listed] == rows[1:]


def test_info_shows_what_it_shows_of_a_directory(run: Run, caches: Caches, store: Path) -> None:
    path = store / caches.plain.name
    url = f"file://{path}"
    assert run("info", url).lines == [["cache", url], *run("info", path).lines[1:]]
    assert run("info", url, "--json").json == {**run("info", path, "--json").json, "cache": url}


def test_rm_lists_asks_and_removes(run: Run, caches: Caches, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store / caches.plain.name
    expected = f"file://{path}\t{num_bytes(path)}\n"
    assert run("rm", "-n", "-y", f"file://{path}") == (0, expected, "")
    monkeypatch.setattr("click.confirm", lambda *_, **__: None)
    assert path.exists()
    assert run("rm", f"file://{path}") == (0, expected, "")
    assert [each.name for each in store.iterdir()] == [caches.memory.name]


def test_where_one_is_refused_none_goes(run: Run, caches: Caches, store: Path) -> None:
    one, none = f"file://{store}/{caches.plain.name}", f"file://{store}/none"
    for urls in ([one, none], [none, one]):
        assert error(run("rm", "-y", *urls)).startswith(f"{none}: expected a cache")
    assert error(run("rm", "-y", "--keep", "1", one)).endswith("pull fetches a cache into one, and push sends it")
    assert error(run("rm", "-y", "--old", one)).startswith("CACHE_DIR: expected a local directory, found the URL")
    assert len(list(store.iterdir())) == 2


@pytest.mark.parametrize("command", ["ls", "info", "rm"])
def test_credentials_are_not_shown(run: Run, command: str) -> None:
    text = error(run(command, "s3://me:geheimnis@bucket/x"))
    assert "geheimnis" not in text
    assert text.startswith("url: expected no credentials")


@pytest.fixture
def arguments(caches: Caches) -> tuple[object, ...]:
    """A build of the cache that others find built."""
    lengths = ("--max-seq-length", LENGTH, "--doc-stride", OVERLAP)
    return ("build", caches.source, "--split", "test", "--tokenizer", sample_tokenizer_directory(), *lengths)


def test_build_sends_the_cache_and_finds_it(
    run: Run, caches: Caches, arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url, work = f"file://{tmp_path}/store", tmp_path / "work"
    place = f"{url}/{caches.plain.name}"
    shown = run(*arguments, "--cache-dir", url, "--work-dir", work).fields
    assert (shown["cache"], shown["built"]) == (place, "yes")
    assert Path(shown["copy"]) == work / caches.plain.name
    assert files_of(tmp_path / "store" / caches.plain.name) == files_of(caches.plain)
    monkeypatch.setenv("MEMXLNET_CACHE_DIR", url)
    found = run(*arguments, "--json").json
    assert (found["cache"], found["built"], "copy" in found) == (place, False, False)
    assert run("ls", "--json").json == run("ls", url, "--json").json
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "work"]
    assert run("pull", place, "--cache-dir", tmp_path / "pulled").out.strip().endswith(caches.plain.name)


@pytest.mark.parametrize(
    ("others", "text"),
    [
        (("--cache-dir", "hf://datasets/user/caches"), "expected a store that one can build into"),
        (("--cache-dir", "caches", "--work-dir", "work"), "--work-dir: applies to a --cache-dir in a store"),
        (("--cache-dir", "s5://bucket/caches"), "the nearest are s3"),
    ],
)
def test_build_refuses_what_does_not_fit(
    run: Run,
    arguments: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: tuple[str, ...],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in error(run(*arguments, *others))
    assert list(tmp_path.iterdir()) == []


def test_build_of_parts_takes_no_work_dir(run: Run, arguments: tuple[object, ...], tmp_path: Path) -> None:
    assert usage_error(run(*arguments, "--parts", "--work-dir", tmp_path)).startswith(
        "--work-dir: applies to one cache"
    )


def test_chunks_travel_through_a_scratch_store(run: Run, caches: Caches, tmp_path: Path) -> None:
    arguments = ["build", caches.source, "--tokenizer", sample_tokenizer_directory(), "--max-seq-length", LENGTH]
    arguments += ["--doc-stride", OVERLAP, "--split", "test", "--chunk-size", 3, "--cache-dir", tmp_path / "caches"]
    found = run(*arguments, "--scratch", f"file://{tmp_path}/scratch")
    assert found.code == 0
    assert files_of(Path(found.fields["cache"])) == files_of(caches.plain)
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []
    assert error(run(*arguments, "--rebuild", "--scratch", "here")).startswith("--scratch: expected an address")

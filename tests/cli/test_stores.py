"""`memxlnet ls`, `info` and `rm` with the URL of a store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.format.manifest import read_manifest
from memxlnet.maintain.removal import num_bytes
from tests.cli.helpers import Caches, Result, copy_of, error

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

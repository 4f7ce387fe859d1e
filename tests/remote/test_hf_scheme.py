"""The Hub as a store like any other: ``hf://datasets/...``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import CacheNotFoundError, TransferError, TransferPermissionError
from memxlnet.format.manifest import read_manifest
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.stored_caches import find_stored_caches, read_stored_cache
from memxlnet.remote.stored_removal import remove_stored_cache
from tests.format.content import files_of
from tests.remote.conftest import Transfer
from tests.remote.hub_server import OWNER, READER, HubServer, Repo, no_waiting, running_hub

URL = "hf://datasets/owner/caches/some/cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    no_waiting(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # the client leaves what it failed to send
    with running_hub(monkeypatch, tmp_path / "home") as server:
        repo = server.repos["owner/caches"] = Repo()
        repo.commit({"README.md": b"mine"}, "initial commit")
        yield server


def options(hub: HubServer, token: str = OWNER) -> dict[str, Any]:
    return {"token": token, "endpoint": hub.url}


def test_a_cache_travels_through_the_hub_and_back(cache: Path, hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError, match=URL):
        pull(URL, tmp_path / "here", storage_options=options(hub))
    push(cache, URL, storage_options=options(hub))
    expected = {f"some/cache/{name}": content for name, content in files_of(cache).items()}
    assert hub.repos["owner/caches"].files == {"README.md": b"mine", **expected}
    commits = len(hub.repos["owner/caches"].commits)
    push(cache, URL, storage_options=options(hub))
    assert len(hub.repos["owner/caches"].commits) == commits
    assert files_of(pull(URL, tmp_path / "here", storage_options=options(hub, READER))) == files_of(cache)


def test_a_cache_is_listed_shown_and_removed(cache: Path, hub: HubServer) -> None:
    push(cache, URL, storage_options=options(hub))
    above = URL.rpartition("/")[0]
    (found,) = find_stored_caches(above, storage_options=options(hub))
    assert (found.url, found.manifest) == (URL, read_manifest(cache))
    assert read_stored_cache(URL, storage_options=options(hub)) == found
    with pytest.raises(TransferPermissionError):
        remove_stored_cache(URL, storage_options=options(hub, READER))
    assert len(hub.repos["owner/caches"].files) == 1 + len(files_of(cache))
    remove_stored_cache(URL, storage_options=options(hub))
    assert hub.repos["owner/caches"].files == {"README.md": b"mine"}
    with pytest.raises(CacheNotFoundError, match="found none"):
        find_stored_caches(above, storage_options=options(hub))


@pytest.mark.slow
def test_a_cache_of_other_settings_is_replaced_when_asked(cache: Path, other_cache: Path, hub: HubServer) -> None:
    push(other_cache, URL, storage_options=options(hub))
    push(cache, URL, storage_options=options(hub), replace=True)
    expected = {f"some/cache/{name}": content for name, content in files_of(cache).items()}
    assert hub.repos["owner/caches"].files == {"README.md": b"mine", **expected}


def test_a_token_that_may_not_write(cache: Path, hub: HubServer) -> None:
    with pytest.raises(TransferPermissionError):
        push(cache, URL, storage_options=options(hub, READER))


@pytest.mark.parametrize("token", [OWNER, "hf_wrong"])
def test_a_missing_repository_is_no_missing_cache(transfer: Transfer, hub: HubServer, token: str) -> None:
    kind = TransferError if token == OWNER else TransferPermissionError
    with pytest.raises(TransferError) as raised:
        transfer("hf://datasets/owner/none/x", storage_options=options(hub, token))
    assert type(raised.value) is kind
    assert token not in str(raised.value)


def test_a_hub_that_fails_is_no_missing_cache(transfer: Transfer, hub: HubServer) -> None:
    hub.fail["."] = 500
    with pytest.raises(TransferError, match=r"manifest\.json"):
        transfer(URL, storage_options=options(hub))


@pytest.mark.slow
def test_a_connection_that_is_cut_resumes(cache: Path, hub: HubServer, tmp_path: Path) -> None:
    push(cache, URL, storage_options=options(hub))
    hub.cut["features-00001"] = 3000
    with pytest.raises(TransferError, match=r"features-00001\.arrow"):
        pull(URL, tmp_path / "here", storage_options=options(hub))
    hub.cut.clear()
    hub.requests.clear()
    assert files_of(pull(URL, tmp_path / "here", storage_options=options(hub))) == files_of(cache)
    assert not [line for line in hub.requests if "resolve" in line and "features-00000" in line]


def test_offline(transfer: Transfer, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TransferError, match="OfflineModeIsEnabled"):
        transfer(URL, storage_options=options(hub))

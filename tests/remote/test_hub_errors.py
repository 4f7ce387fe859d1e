"""What the Hub refuses, and credentials, which appear nowhere."""

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from memxlnet.data.hub import load_dataset_from_hub, upload_processed_dataset_to_hub
from memxlnet.errors import CacheNotFoundError, MemxlnetError, SettingsError, TransferError, TransferPermissionError
from memxlnet.remote.hub_errors import check_hub_id, check_token, hub_errors
from tests.remote.hub_server import OWNER, READER, REPO, Handler, HubServer, Repo, no_waiting, running_hub
from tests.support import build, long_examples

SECRET = "hf_secret000000000000"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with running_hub(monkeypatch, tmp_path / "home") as server:
        server.repos[REPO] = Repo()
        server.repos[REPO].commit({"README.md": b"theirs"}, "first")
        yield server


def refused(error: type[MemxlnetError], tmp_path: Path, token: str | None = None, **options: Any) -> MemxlnetError:
    with pytest.raises(error) as caught:
        load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", hub_token=token, **options)
    assert type(caught.value) is error
    assert not (tmp_path / "theirs").exists()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


def everything(error: BaseException) -> str:
    """All texts of an error and of what led to it, shown or not."""
    found, waiting = "", [error]
    while waiting:
        current = waiting.pop()
        found += f"{current} {current!r}"
        waiting += [each for each in (current.__cause__, current.__context__) if each is not None]
    return found


class TestRefusals:
    def test_a_repository_that_is_not_there(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repos.clear()
        # The Hub does not show strangers whether it exists.
        error = refused(TransferPermissionError, tmp_path)
        assert all(part in str(error) for part in (REPO, "401", "hub_token"))
        assert isinstance(error.__cause__, HfHubHTTPError)
        assert isinstance(error, PermissionError)
        assert "404" in str(refused(TransferError, tmp_path, OWNER))

    def test_a_gated_one(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repos[REPO].gated = True
        for token in (None, READER):
            assert "gated" in str(refused(TransferPermissionError, tmp_path, token))

    def test_a_wrong_token(self, hub: HubServer, tmp_path: Path) -> None:
        error = refused(TransferPermissionError, tmp_path, SECRET)
        assert "401" in str(error)
        assert SECRET not in str(error)

    def test_a_revision_that_is_not_there(self, hub: HubServer, tmp_path: Path) -> None:
        error = refused(TransferError, tmp_path, revision="other")
        assert all(part in str(error) for part in (REPO, "'other'", "branch"))

    def test_offline(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        error = refused(TransferError, tmp_path)
        assert "HF_HUB_OFFLINE" in str(error)
        assert isinstance(error.__cause__, OfflineModeIsEnabled)
        assert hub.requests == []

    def test_a_server_that_fails(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        no_waiting(monkeypatch)
        hub.fail["."] = 503
        assert "503" in str(refused(TransferError, tmp_path))

    def test_something_else_than_a_hub(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Handler, "send_json", lambda handler, value: handler.send(b"<html>"))
        assert "JSONDecodeError" in str(refused(TransferError, tmp_path))

    @pytest.mark.parametrize("answer", [{}, {"id": REPO}, {"id": REPO, "sha": "../main"}, {"id": REPO, "sha": 5}])
    def test_strange_answers(
        self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
    ) -> None:
        real = Handler.send_json
        monkeypatch.setattr(Handler, "send_json", lambda handler, value: real(handler, answer))
        refused(TransferError, tmp_path)


class TestToken:
    @pytest.mark.parametrize("status", [401, 403, 404, 400, 418])
    def test_a_server_that_repeats_it(
        self, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
    ) -> None:
        hub.fail["GET /api"] = status
        hub.echo = f"no right for {SECRET}, go away"
        # The HTTP library's own debug log shows the answers of a server.
        with caplog.at_level(logging.INFO), pytest.raises(TransferError) as caught:
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", hub_token=SECRET)
        assert SECRET not in str(caught.value)
        assert SECRET not in caplog.text
        assert SECRET not in everything(caught.value)

    @pytest.mark.parametrize("is_stored", [True, False])
    def test_one_that_was_not_passed(
        self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stored: bool
    ) -> None:
        if is_stored:
            Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
            Path(constants.HF_TOKEN_PATH).write_text(SECRET)
        else:
            monkeypatch.setenv("HF_TOKEN", SECRET)
        hub.fail["GET /api"] = 418
        hub.echo = f"no right for {SECRET}, go away"
        with pytest.raises(TransferError, match=r"\*\*\*") as caught:
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert SECRET not in everything(caught.value)

    def test_neither_logged_nor_stored(
        self, hub: HubServer, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            sent = build(long_examples(2, words=30), tokenizer, tmp_path / "local")
            address = upload_processed_dataset_to_hub(sent.directory, hub_dataset_id=REPO, hub_token=OWNER)
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", hub_token=OWNER)
        assert OWNER not in caplog.text
        assert OWNER not in address
        assert not any(OWNER.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert not any(OWNER.encode() in kept for kept in hub.repos[REPO].files.values())

    @pytest.mark.parametrize(
        "token", [f"{SECRET}\n", f" {SECRET}", f"{SECRET}\u00e9", f"a {SECRET}", "", 5, True, b"x"]
    )
    def test_what_no_header_may_hold(self, hub: HubServer, tmp_path: Path, token: Any) -> None:
        with pytest.raises(SettingsError, match=r"^hub_token:") as caught:
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", hub_token=token)
        assert SECRET not in str(caught.value)
        assert hub.requests == []

    def test_the_stored_one_is_used(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.repos[REPO].private = True
        monkeypatch.setenv("HF_TOKEN", READER)
        with pytest.raises(CacheNotFoundError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")


class TestTranslation:
    def test_errors_of_the_library_pass(self) -> None:
        with pytest.raises(SettingsError, match="unchanged"), hub_errors("hub", None):
            raise SettingsError("unchanged")

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                OSError(28, "No space left on device"),
                "hub x: OSError: [Errno 28] No space left on device; make room and try again",
            ),
            (
                IsADirectoryError(21, "Is a directory", "x"),
                "hub x: IsADirectoryError: [Errno 21] Is a directory: 'x'; remove what is in the way and try again",
            ),
            (ValueError("a\n  b"), "hub x: ValueError: a b; try again"),
            (RuntimeError("x" * 5000), f"hub x: RuntimeError: {'x' * 586}; try again"),
            (KeyError("type"), "hub x: KeyError: 'type'; try again"),
            (LocalEntryNotFoundError("not here."), "hub x: LocalEntryNotFoundError: not here; try again"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_any_other(self, error: Exception, message: str) -> None:
        with pytest.raises(TransferError) as caught, hub_errors("hub x", "secret"):
            raise error
        assert str(caught.value) == message
        assert caught.value.__cause__ is error

    def test_what_the_caller_was_at_stays_its_own(self) -> None:
        trouble = ConnectionError("the caller's own trouble")
        try:
            raise trouble
        except ConnectionError:
            with pytest.raises(TransferError) as caught, hub_errors("hub x", None):
                int("x")
        assert caught.value.__context__ is trouble

    def test_what_the_client_wraps_counts(self) -> None:
        with pytest.raises(TransferError, match="HF_HUB_OFFLINE"), hub_errors("hub x", None):
            raise LocalEntryNotFoundError("not here") from OfflineModeIsEnabled("off")

    def test_the_user_may_interrupt(self) -> None:
        with pytest.raises(KeyboardInterrupt), hub_errors("hub x", None):
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["user/name", "name", "a.b/c_d-e"])
def test_names(name: str) -> None:
    assert check_hub_id("hub_dataset_id", name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a/b/c", "a b", "-a/b", "a..b", "a--b", "a.git", "x" * 97, "a\0", None, 5, "\ud800"]
)
def test_wrong_names(name: Any) -> None:
    with pytest.raises(SettingsError, match=r"^hub_dataset_id:"):
        check_hub_id("hub_dataset_id", name)


def test_tokens() -> None:
    assert check_token(None) is None
    assert check_token(SECRET) == SECRET

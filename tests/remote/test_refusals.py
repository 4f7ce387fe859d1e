"""Stores that refuse, fail or lack what is asked for: an error of the library, with its cause and no credential."""

import errno
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as loaded_file_systems

from memxlnet.errors import (
    CacheNotFoundError,
    MemxlnetError,
    SettingsError,
    TransferError,
    TransferPermissionError,
)
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from tests.format.content import files_of
from tests.remote.conftest import Transfer
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import SECRET, Bucket


def test_credentials_that_are_refused_are_no_missing_cache(
    transfer: Transfer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    with pytest.raises(TransferPermissionError) as raised:
        transfer(bucket.url, storage_options=bucket.options())
    assert isinstance(raised.value, PermissionError)
    assert raised.value.__cause__ is not None


def test_missing_credentials_are_named(transfer: Transfer, bucket: Bucket) -> None:
    options = bucket.options()
    del options["key"], options["secret"]
    with pytest.raises(TransferPermissionError, match=r"NoCredentialsError.*storage_options"):
        transfer(bucket.url, storage_options=options)


def test_credentials_come_from_the_environment(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    push(cache, bucket.url)
    assert files_of(pull(bucket.url, tmp_path / "here")) == files_of(cache)


def test_a_missing_bucket_is_not_taken_for_a_missing_cache(transfer: Transfer, bucket: Bucket) -> None:
    with pytest.raises(TransferError, match=r"no-such-bucket.*repository") as raised:
        transfer("s3://no-such-bucket-anywhere/x", storage_options=bucket.options())
    assert not isinstance(raised.value, CacheNotFoundError)


def test_options_that_the_file_system_refuses(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, secret: str) -> None:
        raise TypeError(f"unknown: {secret}")

    monkeypatch.setattr(Refusing, "__init__", refuse)
    with pytest.raises(SettingsError, match=r"^storage_options:.*refusing://.*\*\*\*"):
        transfer("refusing://some/where", storage_options={"secret": "geheimnis"})


@pytest.mark.parametrize(("name", "wrong"), [("bogus", {"bogus": 1}), ("no_such", {"client_kwargs": {"no_such": 1}})])
def test_options_that_are_refused_when_they_are_used(
    transfer: Transfer, bucket: Bucket, name: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=f"^storage_options:.*s3://.*{name}"):
        transfer(bucket.url, storage_options=bucket.options(**wrong))


def test_other_type_errors_are_not_taken_for_wrong_options(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        raise TypeError("broken")

    push(cache, "refusing://some/where")
    with monkeypatch.context() as patched:
        patched.setattr(Refusing, "_open", fail)  # after the first use
        with pytest.raises(TransferError, match="broken"):
            pull("refusing://some/where", tmp_path, storage_options={"x": 1})
    monkeypatch.setattr(Refusing, "info", fail)
    with pytest.raises(TransferError, match="broken"):
        pull("refusing://some/where", tmp_path)


def test_a_full_disk_of_the_store(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", fail)
    with pytest.raises(TransferError, match=r"No space left.*room"):
        push(cache, f"file://{tmp_path}/place")


def test_a_file_system_that_cannot_be_opened(transfer: Transfer) -> None:
    with pytest.raises(TransferError, match=r"^zip://some/where:.*IsADirectoryError"):
        transfer("zip://some/where")


def test_a_secret_is_never_shown(
    transfer: Transfer,
    bucket: Bucket,
    proxy: CuttingProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Wherever it ends, in the library's log at any level, the message, or the whole traceback."""
    caplog.set_level(logging.DEBUG, "memxlnet")
    repeated = "repeated-by-another-library"

    def refuse(self: Any, path: str, **options: Any) -> Any:
        try:
            raise ValueError(f"the key {SECRET} and {repeated} and https://host/x?sig={repeated}")
        except ValueError as error:
            raise OSError(f"failed with {SECRET!r}") from error

    failing = [
        ("s3://no-such-bucket/x", bucket.options()),
        (bucket.url, bucket.options(endpoint_url=f"http://me:{repeated}@127.0.0.1:1")),
        (bucket.url, bucket.options(client_kwargs={"no_such": {"thing": [repeated]}})),
        (bucket.url, bucket.options(config_kwargs={"no_such": repeated})),
        (f"s3://{repeated}@bucket/x", bucket.options()),
        (f"refusing://x/{repeated}", {"secret": SECRET, "nested": {"token": repeated}}),
    ]
    proxy.cut_after(up=10)
    failing.append((bucket.url, bucket.options(endpoint_url=proxy.endpoint)))
    monkeypatch.setattr(Refusing, "info", refuse)
    for url, options in failing:
        with pytest.raises(MemxlnetError) as raised:
            transfer(url, storage_options=options)
        shown = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
        inner: BaseException | None = raised.value
        while inner is not None:
            shown += str(inner)
            inner = inner.__cause__ or inner.__context__
        assert SECRET not in shown
        assert repeated not in shown
    logged = [entry for entry in caplog.records if entry.name.startswith("memxlnet")]
    assert not any(secret in entry.getMessage() for entry in logged for secret in (SECRET, repeated))


class Refusing(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that does what a test asks."""

    protocol = "refusing"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its base has it
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("refusing://")))


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(loaded_file_systems, "refusing", Refusing)
    yield
    Refusing.store.clear()
    Refusing.pseudo_dirs[:] = [""]


class StatusError(Exception):
    """An error as HTTP libraries raise them."""

    def __init__(self, status: int):
        super().__init__(f"answered {status}")
        self.status = status


def not_found_because(reason: BaseException | None) -> FileNotFoundError:
    error = FileNotFoundError("gone")
    error.__cause__ = reason
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (not_found_because(None), CacheNotFoundError),
        (not_found_because(StatusError(404)), CacheNotFoundError),
        (not_found_because(KeyError("x")), CacheNotFoundError),
        (not_found_because(StatusError(401)), TransferPermissionError),
        (not_found_because(StatusError(403)), TransferPermissionError),
        (not_found_because(StatusError(500)), TransferError),
        (not_found_because(ConnectionResetError("cut")), TransferError),
        (not_found_because(TimeoutError()), TransferError),
        (PermissionError(13, "no"), TransferPermissionError),
        (OSError("Forbidden: https://host/x\nno"), TransferPermissionError),
        (StatusError(401), TransferPermissionError),
        (StatusError(503), TransferError),
        (TimeoutError(), TransferError),
        (RuntimeError("Loop is not running"), TransferError),
        (NotImplementedError(), TransferError),
    ],
)
def test_what_a_store_raises_is_what_it_means(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, kind: type[Exception]
) -> None:
    def fail(self: Any, path: str, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(Refusing, "info", fail)
    with pytest.raises(MemxlnetError) as raised:
        pull("refusing://some/where", tmp_path)
    assert type(raised.value) is kind
    assert "refusing://some/where" in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    if kind is not CacheNotFoundError:
        assert raised.value.__cause__ is error
        # What the caller was handling does not count.
    try:
        raise ConnectionError("the caller's own trouble")
    except ConnectionError:
        with pytest.raises(kind):
            pull("refusing://some/where", tmp_path)


def test_a_missing_repository_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class RepositoryNotFoundError(StatusError):
        pass

    def fail(self: Any, path: str, **options: Any) -> Any:
        raise not_found_because(RepositoryNotFoundError(404))

    monkeypatch.setattr(Refusing, "info", fail)
    with pytest.raises(TransferError, match="repository"):
        pull("refusing://some/where", tmp_path)


def test_a_short_read_is_never_taken_as_whole(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    push(cache, "refusing://some/where")
    opened = MemoryFileSystem._open

    def shortened(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        file = opened(self, path, mode, **options)
        if path.endswith(".arrow"):
            file = type(file)(self, path, file.getvalue()[:-7])
        return file

    monkeypatch.setattr(Refusing, "_open", shortened)
    with pytest.raises(TransferError, match=r"contexts-00000\.arrow:.*\bbyte\b"):
        pull("refusing://some/where", tmp_path / "here")
    assert not (tmp_path / "here" / cache.name).exists()


def test_a_store_without_sizes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Refusing, "info", lambda self, path, **options: {"size": None, "type": "file"})
    with pytest.raises(TransferError, match=r"manifest\.json:.*\bsize\b"):
        pull("refusing://some/where", tmp_path)


def test_a_store_that_keeps_other_bytes_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = MemoryFileSystem.pipe_file
    monkeypatch.setattr(Refusing, "pipe_file", lambda self, path, value: written(self, path, value[:-1]))
    size = (cache / "manifest.json").stat().st_size
    with pytest.raises(TransferError, match=rf"manifest\.json:.*{size:,}"):
        push(cache, "refusing://some/where")


def test_a_file_that_vanishes(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    push(cache, "refusing://some/where")

    def fail(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        if path.endswith(".arrow"):
            raise FileNotFoundError(path)
        return opened(self, path, mode, **options)

    opened = MemoryFileSystem._open
    monkeypatch.setattr(Refusing, "_open", fail)
    with pytest.raises(TransferError, match=r"contexts-00000\.arrow:.*FileNotFoundError"):
        pull("refusing://some/where", tmp_path / "here")


def test_the_end_of_memory_stays_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(self: Any, path: str, **options: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Refusing, "info", fail)
    with pytest.raises(MemoryError):
        pull("refusing://some/where", tmp_path)


def test_no_permission_for_a_directory(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(self: Any, path: str, exist_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.makedirs", refuse)
    with pytest.raises(TransferPermissionError):
        push(cache, f"file://{tmp_path}/place")

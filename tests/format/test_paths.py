import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import CacheDirectoryError, SettingsError
from memxlnet.format.paths import as_directory, directory_name, make_directory, shard_name, slug, write_durably


@given(st.text() | st.text(alphabet="./-_a \\\0~", min_size=1, max_size=100))
def test_a_slug_is_a_plain_file_name(text: str) -> None:
    made = slug(text)
    assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", made)
    assert ".." not in made
    assert slug(made) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("squad_v2", "squad_v2"),
        ("user/data set", "user-data-set"),
        ("../../etc/passwd", "etc-passwd"),
        ("/absolute", "absolute"),
        ("..", "dataset"),
        ("...a..b...", "a.b"),
        ("\u4e2d\u6587", "dataset"),
        (".hidden", "hidden"),
        ("a" * 100, "a" * 64),
        ("C:\\temp\0", "C-temp"),
    ],
)
def test_the_slug_of(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_a_cache_is_named_after_source_split_and_fingerprint() -> None:
    assert directory_name("rajpurkar/squad", "train", "0123456789abcdef" * 4) == (
        "rajpurkar-squad--train--0123456789abcdef"
    )
    assert shard_name("features", 3) == "features-00003.arrow"


@pytest.mark.parametrize("value", [None, 5, "", b"", ["x"], "a\0b"])
def test_what_is_not_a_directory_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^cache_dir:"):
        as_directory("cache_dir", value)


class Named:
    """Any object with a path."""

    def __init__(self, path: str):
        self._path = path

    def __fspath__(self) -> str:
        return self._path


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/caches",
        Path("s3://bucket/caches"),
        Named("s3://bucket/caches"),
        Path("s3://bucket/caches").absolute(),
        "./s3://bucket/caches",
        "~/s3://bucket/caches",
        Path("s3://"),
        "/s3:",
    ],
)
def test_a_url_is_no_directory_in_any_form(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^cache_dir: expected a local directory, found the URL s3://\.\.\.; pull"):
        as_directory("cache_dir", value)


@pytest.mark.parametrize("value", [Path("memory://x"), Path("own+scheme://x"), Path("/data/hf://datasets/x"), "file:"])
def test_so_is_one_of_another_scheme(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^cache_dir:.*://\.\.\."):
        as_directory("cache_dir", value)


@pytest.mark.parametrize("value", ["/mnt/nas:/caches", "a/b:c", "s3", "C:/x", "/x/12:30/y", "a://b"])
def test_a_colon_alone_makes_no_url(value: str) -> None:
    assert as_directory("cache_dir", value) == Path(value).absolute()


def test_credentials_in_a_url_are_not_shown() -> None:
    with pytest.raises(SettingsError) as raised:
        as_directory("cache_dir", Path("s3://key:geheimnis@bucket/caches"))
    assert "geheimnis" not in str(raised.value)


def test_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert as_directory("cache_dir", "~/caches") == Path("/somewhere/caches")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CacheDirectoryError, match=f"^{path}:"):
            make_directory(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CacheDirectoryError, match=str(tmp_path)):
            make_directory(tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.json"
    write_durably(path, b"old")

    def fail(*_: Any) -> None:
        raise OSError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="broken"):
            write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]

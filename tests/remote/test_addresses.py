"""Invalid addresses are refused before any request, with a better one in the message."""

import sys

import pytest
from fsspec.registry import _registry as loaded_file_systems

from memxlnet.errors import MissingLibraryError, SettingsError
from tests.remote.conftest import Transfer


@pytest.mark.parametrize(
    "url",
    [
        "/tmp/cache", "cache", "file:/tmp/cache", "", "s4://bucket/x", "S3://bucket/x", "://x", "s3:///", "s3://",
        "memory://", "file://relative/path", "file://~/x", "file://./x", "s3://bucket/x?versionId=3",
        "https://host/x?X-Amz-Signature=abc", "s3://AKIA:geheimnis@bucket/x", "https://geheimnis@host/x",
        "sftp://me:geheimnis@host/x", "s3://bucket/\0", "s3://bucket/a\nb", "s3://bucket/a\r", "memory://a\x1b[2Jb", "s3://a/\u2028b",
        "s3://key:gehei\nmnis@bucket/x", "s3://key:geheim nis@bucket/x", "s3://bucket/\ud800", "simplecache::s3://bucket/x",
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused(transfer: Transfer, url: str) -> None:
    with pytest.raises(SettingsError, match=r"^url:") as raised:
        transfer(url)
    assert not any(secret in str(raised.value) for secret in ("geheim", "nis@", "mnis"))
    assert str(raised.value).isprintable()
    assert "Signature=abc" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("file:///tmp/s3://bucket/cache", "one scheme"),
        ("local:///s3:", "one scheme"),
        ("/tmp/cache", "write file:// and an absolute path"),
        ("s5://bucket/x", "the nearest are s3"),
        ("S3://bucket/x", "the nearest are s3"),
        ("filee:///x", "the nearest are file"),
        ("qqqqqqqq://x/y", "the nearest are s3, gs, hf, file"),
    ],
)
def test_an_invalid_address_names_a_better_one(transfer: Transfer, url: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        transfer(url)


@pytest.mark.parametrize(
    ("scheme", "module", "name"),
    [
        ("s3", "s3fs", r"'memxlnet\[s3\]'"),
        ("s3a", "s3fs", r"'memxlnet\[s3\]'"),
        ("gs", "gcsfs", r"'memxlnet\[gs\]'"),
        ("gcs", "gcsfs", r"'memxlnet\[gs\]'"),
        ("hf", "huggingface_hub", "huggingface_hub"),
        ("oci", "ocifs", "ocifs"),
    ],
)
def test_a_missing_library_is_named(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, name: str
) -> None:
    monkeypatch.delitem(loaded_file_systems, scheme, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError, match=f"^{scheme}://:.*{name}"):
        transfer(f"{scheme}://some/where/x")


@pytest.mark.parametrize("options", ["geheimnis", {7: "geheimnis"}, ["geheimnis"]])
def test_invalid_options_are_refused_and_not_shown(transfer: Transfer, options: object) -> None:
    with pytest.raises(SettingsError, match=r"^storage_options:") as raised:
        transfer("memory://some/where", storage_options=options)
    assert "geheimnis" not in str(raised.value)

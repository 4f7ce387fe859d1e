"""Credentials are taken out of any text, in whatever form it repeats them."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.redaction import Redactor


@given(st.text(st.characters(exclude_characters="*"), min_size=4, max_size=30), st.text(alphabet=" .:/", max_size=5))
def test_no_form_of_a_secret_stays(secret: str, around: str) -> None:
    redact = Redactor({"deep": [{"er": (secret,)}]})
    for form in (secret, quote(secret, safe="", errors="replace"), repr(secret)[1:-1]):
        shown = redact(f"{around}{form}{around}")
        assert form not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at s3://me:pw@bucket/x", "at s3://***@bucket/x"),
        ("GET https://host/a/b?X-Amz-Signature=abc&d=e failed", "GET https://host/a/b?*** failed"),
        ("'https://host/a?token=abc', again", "'https://host/a?***', again"),
        ("what? nothing@all of it: hf://datasets/me/it@main/x", "what? nothing@all of it: hf://datasets/me/it@main/x"),
        ("memory://x/y", "memory://x/y"),
    ],
)
def test_addresses_lose_user_and_query(text: str, shown: str) -> None:
    assert Redactor({})(text) == shown


def test_bytes_and_short_values() -> None:
    redact = Redactor({"token": b"geheimnis", "n": 1234, "short": "abc", "none": None, "set": {"versteckt"}})
    assert redact("geheimnis abc 1234 versteckt") == "*** abc 1234 ***"


def test_the_environment_holds_credentials_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_geheimnis")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws/geheimnis")
    monkeypatch.setenv("SOME_PATH", "/no/secret/here")
    shown = Redactor({})("Bearer hf_geheimnis, aws/geheimnis, aws%2Fgeheimnis, /no/secret/here")
    assert shown == "Bearer ***, ***, ***, /no/secret/here"


def test_a_secret_within_a_secret() -> None:
    assert Redactor({"a": "abcd", "b": "xxabcdxx"})("xxabcdxx") == "***"


def test_the_shown_text_is_still_json() -> None:
    assert json.loads(Redactor({"a": 'qu"ote'})(json.dumps({"x": "plain"}))) == {"x": "plain"}

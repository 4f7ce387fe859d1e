import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.settings import BuildSettings, EncodeSettings, check_text, positive_int

NO_COUNTS: list[Any] = [0, -1, 1.0, 1.5, True, False, "3", "", [1], (1,), float("nan"), float("inf"), b"1", object]
NO_COUNTS_FROM_ZERO: list[Any] = [-1, 1.0, True, False, "3", [1], float("nan")]
NO_NUMBERS: list[Any] = [0, -1, True, None, "8", float("nan"), float("inf"), -float("inf"), [8], 8j]
NO_COUNTS_OR_SHARES: list[Any] = [-1, -0.1, 1.01, True, "1%", float("nan"), float("inf"), [1]]
NO_FLAGS: list[Any] = [0, 1, "", "yes", "False", [], 1.0]
NO_ACTIONS: list[Any] = ["", "Error", "ignore", None, True, ["error"], {"error"}]

SETTINGS: list[tuple[Any, str, list[Any], list[Any]]] = [
    (EncodeSettings, "max_seq_length", [1, 384], [*NO_COUNTS, None]),
    (EncodeSettings, "doc_stride", [0, 8], [*NO_COUNTS_FROM_ZERO, None]),
    (EncodeSettings, "max_n_segs", [None, 1], NO_COUNTS),
    (EncodeSettings, "max_examples", [None, 1], NO_COUNTS),
    (EncodeSettings, "insert_memory_tokens", [True, False], [*NO_FLAGS, None]),
    (EncodeSettings, "on_bad_example", ["error", "drop"], NO_ACTIONS),
    (EncodeSettings, "on_repeated_id", ["error", "number"], NO_ACTIONS),
    (EncodeSettings, "on_contradiction", ["error", "unanswerable", "answers"], [*NO_ACTIONS, "drop"]),
    (EncodeSettings, "keep", [(), ("a", "b"), "all"], ["title", "", b"a", 5, True]),
    (BuildSettings, "streaming_chunk_size", [1, 1000], [*NO_COUNTS, None]),
    (BuildSettings, "max_shard_rows", [None, 1], NO_COUNTS),
    (BuildSettings, "num_workers", [None, 0, 8], NO_COUNTS_FROM_ZERO),
    (BuildSettings, "max_memory_gb", [1, 0.25, 1e-9, 10**6], NO_NUMBERS),
    (BuildSettings, "use_streaming", [True, False], [*NO_FLAGS, None]),
    (BuildSettings, "rebuild", [True, False], [*NO_FLAGS, None]),
    (BuildSettings, "max_dropped", [None, 0, 7, 0.0, 0.01, 1.0], NO_COUNTS_OR_SHARES),
    (BuildSettings, "max_lost_answers", [None, 0, 7, 0.0, 0.01, 1.0], NO_COUNTS_OR_SHARES),
    (BuildSettings, "progress", [True, False, None], NO_FLAGS),
]
"""Kind, name, values that it takes, values that it refuses."""


def test_every_setting_is_listed_here() -> None:
    fields = [(kind, field.name) for kind in (EncodeSettings, BuildSettings) for field in dataclasses.fields(kind)]
    assert sorted(map(str, fields)) == sorted(str((kind, name)) for kind, name, _, _ in SETTINGS)


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, name, v) for kind, name, right, _ in SETTINGS for v in right]
)
def test_a_right_value_is_kept(kind: Any, name: str, value: Any) -> None:
    assert getattr(kind(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, name, v) for kind, name, _, wrong in SETTINGS for v in wrong]
)
def test_a_wrong_value_is_an_error_with_the_setting_and_the_value(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        kind(**{name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(f" {value!r}")


def test_the_error_has_what_was_expected_and_a_hint() -> None:
    with pytest.raises(SettingsError) as caught:
        EncodeSettings(max_n_segs=0)
    assert str(caught.value) == "max_n_segs: expected an integer above 0 (or None for all segments), found 0"


def test_the_defaults_are_those_of_the_published_recipes() -> None:
    assert dataclasses.asdict(EncodeSettings()) == {
        "max_seq_length": 384,
        "doc_stride": 128,
        "max_n_segs": None,
        "max_examples": None,
        "insert_memory_tokens": True,
        "on_bad_example": "error",
        "on_contradiction": "error",
        "on_repeated_id": "error",
        "keep": (),
    }
    assert dataclasses.asdict(BuildSettings()) == {
        "streaming_chunk_size": 1000,
        "max_memory_gb": 8.0,
        "use_streaming": True,
        "max_shard_rows": None,
        "progress": None,
        "rebuild": False,
        "num_workers": None,
        "max_dropped": None,
        "max_lost_answers": None,
    }


def test_settings_stay_as_they_are() -> None:
    for settings in (EncodeSettings(), BuildSettings()):
        for field in dataclasses.fields(settings):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(settings, field.name, 1)
    positional: Any = EncodeSettings
    with pytest.raises(TypeError):
        positional(384)


@given(st.integers(1))
def test_a_count_is_handed_back(value: int) -> None:
    assert positive_int("name", value) == value


@given(st.text())
def test_text_is_handed_back_or_refused(text: str) -> None:
    if not text.strip() or "\0" in text:
        with pytest.raises(SettingsError, match=r"^name:"):
            check_text("name", text)
    else:
        assert check_text("name", text) == text


@pytest.mark.parametrize("value", [None, 5, b"text", ["text"], "\ud800", "a\udfffb"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        check_text("name", value)
    assert str(caught.value).startswith("name: ")
    assert repr(value) in str(caught.value)

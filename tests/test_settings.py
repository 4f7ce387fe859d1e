import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.settings import BuildSettings, EncodeSettings, check_text, positive_int

NO_COUNTS: list[Any] = [0, -1, 1.0, 1.5, True, False, "3", "", [1], (1,), float("nan"), float("inf"), b"1", object]
NO_FLAGS: list[Any] = [0, 1, None, "", "yes", "False", [], 1.0]


@pytest.mark.parametrize("value", [*NO_COUNTS, None])
@pytest.mark.parametrize(
    ("kind", "name"), [(EncodeSettings, "max_seq_length"), (BuildSettings, "streaming_chunk_size")]
)
def test_counts_are_integers_above_zero(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        kind(**{name: value})
    assert str(caught.value) == f"{name}: expected an integer above 0, found {value!r}"


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (EncodeSettings, "max_n_segs", "or None for all segments"),
        (EncodeSettings, "max_examples", "or None for all examples"),
        (BuildSettings, "max_shard_rows", "or None for the limit of Arrow"),
    ],
)
def test_limits_are_integers_above_zero_or_none(kind: Any, name: str, hint: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        kind(**{name: value})
    assert str(caught.value) == f"{name}: expected an integer above 0 ({hint}), found {value!r}"
    assert getattr(kind(**{name: None}), name) is None
    assert getattr(kind(**{name: 1}), name) == 1


@pytest.mark.parametrize("value", [-1, 1.0, True, False, "3", None, [1], float("nan")])
def test_an_overlap_is_an_integer_of_at_least_zero(value: Any) -> None:
    with pytest.raises(SettingsError, match="doc_stride: expected an integer of at least 0, found"):
        EncodeSettings(doc_stride=value)
    assert EncodeSettings(doc_stride=0).doc_stride == 0


@pytest.mark.parametrize("value", [-1, 1.0, True, False, "3", [1], float("nan")])
def test_workers_are_counted_from_zero_or_chosen(value: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"num_workers: expected an integer of at least 0 \(or None to choose\), found"
    ):
        BuildSettings(num_workers=value)
    assert [BuildSettings(num_workers=number).num_workers for number in (None, 0, 8)] == [None, 0, 8]


@pytest.mark.parametrize("value", [0, -1, True, None, "8", float("nan"), float("inf"), -float("inf"), [8], 8j])
def test_a_bound_is_a_number_above_zero(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"max_memory_gb: expected a number above 0 \(GiB\), found"):
        BuildSettings(max_memory_gb=value)


@pytest.mark.parametrize("value", [1, 0.25, 1e-9, 10**6])
def test_any_number_above_zero_is_a_bound(value: Any) -> None:
    assert BuildSettings(max_memory_gb=value).max_memory_gb == value


@pytest.mark.parametrize("value", NO_FLAGS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(EncodeSettings, "insert_memory_tokens"), (BuildSettings, "use_streaming"), (BuildSettings, "rebuild")],
)
def test_switches_are_true_or_false(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}: expected True or False, found"):
        kind(**{name: value})


@pytest.mark.parametrize("value", [value for value in NO_FLAGS if value is not None])
def test_progress_is_true_false_or_none(value: Any) -> None:
    with pytest.raises(SettingsError, match="progress: expected True, False or None, found"):
        BuildSettings(progress=value)
    assert [BuildSettings(progress=shown).progress for shown in (True, False, None)] == [True, False, None]


@pytest.mark.parametrize("value", ["", "Error", "ignore", None, True, ["error"], {"error"}])
def test_bad_examples_stop_or_are_dropped(value: Any) -> None:
    with pytest.raises(SettingsError, match="on_bad_example: expected 'error' or 'drop', found"):
        EncodeSettings(on_bad_example=value)
    with pytest.raises(SettingsError, match="on_repeated_id: expected 'error' or 'number', found"):
        EncodeSettings(on_repeated_id=value)


@pytest.mark.parametrize("value", ["", "drop", "Error", None, True])
def test_contradictions_are_errors_or_counted(value: Any) -> None:
    with pytest.raises(SettingsError, match="on_contradiction: expected 'error' or 'unanswerable' or 'answers', found"):
        EncodeSettings(on_contradiction=value)


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
    }
    assert dataclasses.asdict(BuildSettings()) == {
        "streaming_chunk_size": 1000,
        "max_memory_gb": 8.0,
        "use_streaming": True,
        "max_shard_rows": None,
        "progress": None,
        "rebuild": False,
        "num_workers": None,
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
        with pytest.raises(SettingsError, match="name: expected a non-empty string without NUL characters"):
            check_text("name", text)
    else:
        assert check_text("name", text) == text


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_of_a_surrogate_pair_is_no_text(text: str) -> None:
    with pytest.raises(SettingsError, match="name: expected valid Unicode"):
        check_text("name", text)


@pytest.mark.parametrize("value", [None, 5, b"text", ["text"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="name: expected a string, found"):
        check_text("name", value)

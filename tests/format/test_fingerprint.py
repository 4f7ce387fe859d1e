import copy
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode import cache_settings as identity
from memxlnet.encode.tokenizer_content import TokenizerContent
from memxlnet.format.fingerprint import canonical_json, differing_fields, fingerprint_of
from memxlnet.settings import EncodeSettings
from tests.format.content import LAYOUT, settings
from tests.support import ROOT, WAIT_SECONDS, slow_but

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON))
def test_equal_values_give_equal_bytes(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(backwards) == canonical_json(value)
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)
    assert fingerprint_of(value) == hashlib.sha256(canonical_json(value)).hexdigest()


def test_the_canonical_form_is_fixed() -> None:
    assert canonical_json({"b": [1, None, True], "a": "\u00e9"}) == '{"a":"\u00e9","b":[1,null,true]}'.encode()


def test_the_fingerprint_is_fixed() -> None:
    # Another value here means that no cache that was built before is found again.
    assert settings(4).fingerprint == "188c8049e53932af2121092b6580bc6d16f3e5e0ebfc3ff805e71f817ba81908"


PRINT = "from tests.format.content import settings; print(settings(4).fingerprint)"


@pytest.mark.parametrize("seed", slow_but(["4242"], ["0", "1", "4242"]))
def test_the_fingerprint_is_the_same_in_every_process(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    assert done.stdout.strip() == settings(4).fingerprint


ENCODE: dict[str, Any] = {
    "max_seq_length": 5,
    "doc_stride": 2,
    "max_n_segs": 3,
    "max_examples": 9,
    "insert_memory_tokens": False,
    "on_bad_example": "drop",
    "on_contradiction": "answers",
    "on_repeated_id": "number",
    "keep": "all",
}


def test_every_setting_of_the_values_has_another_value_here() -> None:
    assert set(ENCODE) == {field.name for field in dataclasses.fields(EncodeSettings)}


@pytest.mark.parametrize("name", ENCODE)
def test_every_setting_of_the_values_changes_it(name: str) -> None:
    plain = settings(4)
    changed = dataclasses.replace(plain, encode=dataclasses.replace(plain.encode, **{name: ENCODE[name]}))
    assert changed.fingerprint != plain.fingerprint
    (difference,) = differing_fields(changed.fields, plain.fields)
    assert difference.startswith(f"settings.{name}: expected {ENCODE[name]!r}, found ")


LAYOUTS: dict[str, Any] = {
    field.name: (
        (9, 9)
        if isinstance(getattr(LAYOUT, field.name), tuple)
        else not getattr(LAYOUT, field.name)
        if isinstance(getattr(LAYOUT, field.name), bool)
        else 9
    )
    for field in dataclasses.fields(LAYOUT)
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_part_of_the_row_layout_changes_it(name: str) -> None:
    layout = dataclasses.replace(LAYOUT, **{name: LAYOUTS[name]})
    changed = settings(4, tokenizer=TokenizerContent('{"model":null}', layout, 7))
    assert changed.fingerprint != settings(4).fingerprint
    (difference,) = differing_fields(changed.fields, settings(4).fields)
    assert difference.startswith(f"tokenizer.layout.{name}: ")


def test_source_split_and_tokenizer_change_it() -> None:
    plain = settings(4).fingerprint
    changed = {
        settings(4, split="other").fingerprint,
        settings(4, source={"kind": "iterable", "identity": "other"}).fingerprint,
        settings(4, tokenizer=TokenizerContent('{"model":0}', LAYOUT, 7)).fingerprint,
    }
    assert len(changed | {plain}) == 4


@pytest.mark.parametrize("version", ["SCHEMA_VERSION", "ALGORITHM_VERSION"])
def test_the_versions_change_it(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    plain = settings(4).fingerprint
    monkeypatch.setattr(identity, version, getattr(identity, version) + 1)
    assert settings(4).fingerprint != plain


def test_name_place_and_chunks_do_not_change_it() -> None:
    plain = settings(4)
    assert settings(4, name="another").fingerprint == plain.fingerprint
    assert settings(4, provenance={"path": "/elsewhere"}).fingerprint == plain.fingerprint
    assert settings(4, chunking="other").fingerprint == plain.fingerprint


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.data())
def test_differences_name_exactly_what_differs(fields: dict[str, Any], data: st.DataObject) -> None:
    assert differing_fields(fields, copy.deepcopy(fields)) == []
    if fields:
        name = data.draw(st.sampled_from(sorted(fields)))
        (difference,) = differing_fields({**fields, name: "another"}, {**fields, name: "one"})
        assert difference == f"{name}: expected 'another', found 'one'"


def test_a_long_value_is_cut_in_a_difference() -> None:
    (difference,) = differing_fields({"a": {"b": "x" * 500}}, {"a": {}})
    assert difference == f"a.b: expected '{'x' * 79}, found None"

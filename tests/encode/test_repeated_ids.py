"""Ids that repeat: found whatever the parts in which they are read, against a dictionary of all of them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode import repeated_ids as module
from memxlnet.encode.examples import BadExample, Example
from memxlnet.encode.repeated_ids import Ids
from memxlnet.errors import ExampleError
from memxlnet.settings import EncodeSettings

NUMBER, DROP = EncodeSettings(on_repeated_id="number"), EncodeSettings(on_bad_example="drop")

names = st.sampled_from(["", "a", "b", "a#2", "a#3", "a#2#2", "\u00e9"]) | st.integers(0, 30).map(str)
read = st.lists(st.tuples(names, st.booleans()), max_size=40)


def place(row: int) -> tuple[str, int]:
    """Rows of files with five rows each."""
    return f"file {row // 5}", row % 5


def made(entries: list[tuple[str, bool]]) -> list[Example | BadExample]:
    return [
        BadExample(row, name, "why") if is_bad else Example(row, name, "q", "c", (), ())
        for row, (name, is_bad) in enumerate(entries)
    ]


def checked(entries: list[tuple[str, bool]], size: int, settings: EncodeSettings) -> list[Example | BadExample]:
    ids, examples = Ids(place, settings), made(entries)
    return [one for at in range(0, len(examples), size) for one in ids.check(examples[at : at + size])]


@given(read, st.integers(1, 45), st.integers(2, 9), st.sampled_from([2, 16]), st.sampled_from([1, 3, 2**64]))
def test_ids_are_those_of_a_dictionary(
    entries: list[tuple[str, bool]], size: int, run_rows: int, many: int, digests: int
) -> None:
    rows: dict[str, int] = {}
    numbered, kept = [], []
    for row, (name, is_bad) in enumerate(entries):
        number, new = 2, name
        while not is_bad and new in rows:
            new, number = f"{name}#{number}", number + 1
        if not is_bad:
            rows[new] = row
        numbered.append(new)
    first: dict[str, int] = {}
    for row, (name, is_bad) in enumerate(entries):
        kept.append(not is_bad and first.setdefault(name, row) == row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RUN_ROWS", run_rows)
        patch.setattr(module, "_MANY", many)
        plain = module.digests_of
        # Digests that share one half differ in the other.
        patch.setattr(module, "digests_of", lambda texts: shared_half(plain(texts), digests))
        assert [one.id for one in checked(entries, size, NUMBER)] == numbered
        dropped = checked(entries, size, DROP)
        assert [isinstance(one, Example) for one in dropped] == kept
        assert [one.id for one in dropped] == [name for name, _ in entries]
        if all(good or is_bad for good, (_, is_bad) in zip(kept, entries, strict=True)):
            assert checked(entries, size, EncodeSettings()) == made(entries)
        else:
            with pytest.raises(ExampleError):
                checked(entries, size, EncodeSettings())


def shared_half(found: Any, values: int) -> Any:
    return found._replace(high=found.high % np.uint64(min(values, 2**64 - 1)))


def test_both_rows_and_their_files_are_named() -> None:
    entries = [(str(row), False) for row in range(7)] + [("3", False), ("6", False)]
    reasons = [one.reason for one in checked(entries, 4, DROP) if isinstance(one, BadExample)]
    assert reasons == [
        "file 1, example '3' (row 2): its id is that of row 3 of file 0",
        "file 1, example '6' (row 3): its id is that of row 1",
    ]
    with pytest.raises(ExampleError) as caught:
        checked(entries, 4, EncodeSettings())
    assert str(caught.value) == (
        f"{reasons[0]}; expected every id once: make the ids distinct, or pass on_repeated_id='number' or "
        "on_bad_example='drop'"
    )


def test_many_examples_of_one_id_are_numbered_without_looking_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    plain = module._Seen.find

    def find(self: Any, digests: Any) -> Any:
        nonlocal looks
        looks += 1
        return plain(self, digests)

    monkeypatch.setattr(module._Seen, "find", find)
    found = checked([("x", False)] * 1000, 100, NUMBER)
    assert [one.id for one in found] == ["x", *(f"x#{number}" for number in range(2, 1001))]
    assert looks < 5000


def test_an_id_is_held_in_24_bytes() -> None:
    ids = Ids(place, EncodeSettings())
    for start in range(0, 5000, 1000):
        ids.check([Example(row, f"id {row}", "q", "c", (), ()) for row in range(start, start + 1000)])
    assert sum(array.nbytes for run in ids._seen._runs for array in run) == 24 * 5000

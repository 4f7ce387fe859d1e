"""States that a loader refuses, each with a message that names what does not fit."""

import re
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import CacheMismatchError, MemxlnetError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.time_step_loader import STATE_VERSION, TimeStepMajorDataLoader
from tests.load.helpers import LENGTH, OVERLAP, Built, assert_same_steps, sample_tokenizer, steps_of, time_major
from tests.support import build

OPTIONS: dict[str, Any] = {"shuffle": True, "seed": 3, "max_segments": [3, 5], "window": "random"}


@pytest.fixture
def loader(lazy: CacheDataset) -> TimeStepMajorDataLoader:
    return time_major(lazy, 4, **OPTIONS)


FIELDS: dict[str, Any] = {
    "version": STATE_VERSION,
    "fingerprint": None,
    "global_batch_size": 4,
    "shuffle": True,
    "seed": 3,
    "drop_last": False,
    "lanes": "aligned",
    "align": "start",
    "group_by_length": False,
    "max_segments": [3, 5],
    "window": "random",
    "evaluation": False,
    "dtype": "int64",
    "ended_label": "ignore",
    "epoch": 0,
    "step": 0,
}

CHANGED: list[tuple[str, Any]] = [
    ("version", STATE_VERSION + 1),
    ("version", 0),
    ("version", str(STATE_VERSION)),
    ("version", True),
    ("version", None),
    ("global_batch_size", 8),
    ("global_batch_size", 4.0),
    ("shuffle", False),
    ("shuffle", 1),
    ("seed", 4),
    ("seed", 3.0),
    ("seed", "3"),
    ("drop_last", True),
    ("drop_last", 0),
    ("lanes", "refilled"),
    ("lanes", None),
    ("align", "end"),
    ("align", None),
    ("group_by_length", True),
    ("group_by_length", 0),
    ("max_segments", [3]),
    ("max_segments", [3, 5, 5]),
    ("max_segments", []),
    ("max_segments", (3, 5)),
    ("max_segments", 3),
    ("max_segments", None),
    ("window", "first"),
    ("evaluation", True),
    ("dtype", "stored"),
    ("ended_label", "cls"),
    ("epoch", -1),
    ("epoch", 1.0),
    ("epoch", "0"),
    ("epoch", None),
    ("epoch", True),
    ("step", -1),
    ("step", 0.0),
    ("step", "1"),
    ("step", None),
    ("step", False),
]


def test_the_fields_are_those_that_bind_it(loader: TimeStepMajorDataLoader) -> None:
    state = loader.state_dict()
    assert list(state) == list(FIELDS)
    assert state == {**FIELDS, "fingerprint": loader.dataset.manifest.fingerprint}


@pytest.mark.parametrize(("name", "value"), CHANGED, ids=[f"{name} {value!r}" for name, value in CHANGED])
def test_each_field_must_fit_and_is_named(loader: TimeStepMajorDataLoader, name: str, value: Any) -> None:
    state = loader.state_dict()
    with pytest.raises(SettingsError, match=f"^state: {name}:.*{re.escape(repr(value))}"):
        loader.load_state_dict({**state, name: value})
    assert loader.state_dict() == state


def test_every_setting_is_among_those_that_were_changed() -> None:
    assert {name for name, _ in CHANGED} == FIELDS.keys() - {"fingerprint"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 5),
        ("shuffle", False),
        ("seed", 0),
        ("drop_last", True),
        ("lanes", "refilled"),
        ("align", "end"),
        ("group_by_length", True),
        ("max_segments", 3),
        ("window", "answer"),
        ("evaluation", True),
        ("dtype", "stored"),
        ("ended_label", "cls"),
    ],
)
def test_a_loader_with_another_option_refuses_it(lazy: CacheDataset, name: str, value: Any) -> None:
    state = time_major(lazy, **{"batch_size": 4, **OPTIONS}).state_dict()
    other = time_major(lazy, **{"batch_size": 4, **OPTIONS, name: value})
    field = "global_batch_size" if name == "batch_size" else name
    with pytest.raises(SettingsError, match=f"^state: {field}:.*{re.escape(repr(state[field]))}"):
        other.load_state_dict(state)


def test_options_that_change_no_step_may_differ(lazy: CacheDataset) -> None:
    state = {**time_major(lazy, 4, **OPTIONS).state_dict(), "step": 6}
    for options in ({"num_workers": 2}, {"metadata": True}, {"rank": 1, "world_size": 2, "batch_size": 2}):
        loader = time_major(lazy, **{"batch_size": 4, **OPTIONS, **options})
        loader.load_state_dict(state)
        assert loader.state_dict() == state


def test_other_global_batch_sizes_are_refused(lazy: CacheDataset) -> None:
    state = time_major(lazy, 4).state_dict()
    with pytest.raises(SettingsError, match=r"^state: global_batch_size:.*\b8\b.*\b4\b"):
        time_major(lazy, 4, rank=0, world_size=2).load_state_dict(state)


def test_fields_that_are_missing_or_too_many(loader: TimeStepMajorDataLoader) -> None:
    state = loader.state_dict()
    for name in FIELDS:
        short = {key: value for key, value in state.items() if key != name}
        with pytest.raises(SettingsError, match=rf"^state:.*\b{name}\b") as caught:
            loader.load_state_dict(short)
        assert name not in str(caught.value).partition("found ")[2].split("'")
    with pytest.raises(SettingsError, match=r"^state:.*'world_size'"):
        loader.load_state_dict({**state, "world_size": 1})
    assert loader.state_dict() == state


@pytest.mark.parametrize("state", [None, [], "state", 5, {}, [("epoch", 0)]])
def test_what_is_no_state(loader: TimeStepMajorDataLoader, state: Any) -> None:
    with pytest.raises(SettingsError, match=r"^state:.*\bglobal_batch_size\b"):
        loader.load_state_dict(state)


class TestSteps:
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_one_of_the_epoch_is_taken_and_others_are_refused(self, lazy: CacheDataset, lanes: str) -> None:
        loader = time_major(lazy, 4, max_segments=[2, 6], lanes=lanes)
        for epoch in (0, 1, 5):
            steps = loader.epoch_size(epoch).steps
            last = {**loader.state_dict(), "epoch": epoch, "step": steps - 1}
            loader.load_state_dict(last)
            assert len(steps_of(loader)) == 1
            for step in (steps, steps + 1, 10**30):
                with pytest.raises(SettingsError, match=rf"^state: step:.*\b{steps}\b.*\b{epoch}\b.*\b{step}$"):
                    loader.load_state_dict({**last, "step": step})

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_the_begin_of_an_epoch_without_steps_is_one(self, lazy: CacheDataset, lanes: str) -> None:
        loader = time_major(lazy, 40, drop_last=True, lanes=lanes)
        state = loader.state_dict()
        loader.load_state_dict(state)
        assert list(loader) == []
        with pytest.raises(SettingsError, match=r"^state: step:.*\b0\b.*\b0\b.*\b1$"):
            loader.load_state_dict({**state, "step": 1})

    def test_a_late_epoch(self, lazy: CacheDataset) -> None:
        loader, other = (time_major(lazy, 4, shuffle=True) for _ in range(2))
        loader.load_state_dict({**loader.state_dict(), "epoch": 2**70, "step": 3})
        other.set_epoch(2**70)
        assert_same_steps(steps_of(loader), steps_of(other)[3:])
        assert loader.epoch == 2**70 + 1


class TestOtherCaches:
    def test_have_another_fingerprint(self, built: Built, loader: TimeStepMajorDataLoader, tmp_path: Path) -> None:
        # The same documents in rows of another length; and in the same rows with memory tokens.
        other = build(built.examples, sample_tokenizer(), tmp_path, max_seq_length=LENGTH + 1, doc_stride=OVERLAP)
        for dataset in (other, CacheDataset(built.memory)):
            state = time_major(dataset, 4, **OPTIONS).state_dict()
            with pytest.raises(CacheMismatchError, match=r"^state:.*fingerprint") as caught:
                loader.load_state_dict(state)
            for part in (state["fingerprint"], loader.dataset.manifest.fingerprint, loader.dataset.directory):
                assert str(part) in str(caught.value)

    @pytest.mark.parametrize("value", ["", None, 5, "0" * 64])
    def test_any_other_fingerprint(self, loader: TimeStepMajorDataLoader, value: Any) -> None:
        with pytest.raises(CacheMismatchError, match=f"^state:.*fingerprint.*{value!r}"):
            loader.load_state_dict({**loader.state_dict(), "fingerprint": value})

    def test_the_error_is_one_of_the_package(self) -> None:
        assert issubclass(CacheMismatchError, MemxlnetError)

    def test_a_refused_state_leaves_the_loader_where_it_was(self, loader: TimeStepMajorDataLoader) -> None:
        expected = steps_of(loader)
        loader.set_epoch(0)
        place = {**loader.state_dict(), "step": 5}
        loader.load_state_dict(place)
        for wrong in ({"fingerprint": ""}, {"seed": 9}, {"epoch": -1}, {"epoch": 1, "step": 10**9}):
            with pytest.raises(MemxlnetError):
                loader.load_state_dict({**place, **wrong})
            assert loader.state_dict() == place
        assert_same_steps(steps_of(loader), expected[5:])

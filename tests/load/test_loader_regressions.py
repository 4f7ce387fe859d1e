"""What reviews of the loaders found, kept as tests."""

from typing import Any

import numpy as np
import pytest

from memxlnet.errors import SettingsError
from memxlnet.load.create import create_dataloader
from memxlnet.load.datasets import CacheDataset
from tests.load.helpers import time_major


def test_an_older_iteration_that_ends_leaves_a_resume_point_alone(lazy: CacheDataset) -> None:
    loader = time_major(lazy, 3)
    older = iter(loader)
    _ = next(older)[2]
    loader.load_state_dict(loader.state_dict())
    list(older)
    assert loader.epoch == 0
    assert next(iter(loader)).first_step == 3
    list(loader)
    assert next(iter(loader)).first_step == 0


def test_a_group_wider_than_the_cache_costs_no_ram_of_its_own(lazy: CacheDataset) -> None:
    group = next(iter(time_major(lazy, 2**20)))
    assert list(group.example_ids) == list(lazy.get_all_documents())


@pytest.mark.parametrize("options", [{"batch_size": 2**20 + 1}, {"batch_size": 2**63}, {"world_size": 2**63}])
def test_lanes_are_bounded(lazy: CacheDataset, options: dict[str, Any]) -> None:
    given = {"batch_size": 2, "rank": 0, "world_size": 1, **options}
    with pytest.raises(SettingsError, match="batch_size: expected at most 1048576 lanes over all ranks"):
        create_dataloader(lazy, **given)


def test_a_state_with_keys_of_several_types_is_refused(lazy: CacheDataset) -> None:
    loader = time_major(lazy, 3)
    with pytest.raises(SettingsError, match="state: expected the fields"):
        loader.load_state_dict({**loader.state_dict(), 1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("entries", [[True], [1.0], [1, 1]])
def test_a_schedule_of_a_state_is_compared_by_type(lazy: CacheDataset, entries: list[Any]) -> None:
    loader = time_major(lazy, 3, max_segments=1)
    with pytest.raises(SettingsError, match="state: max_segments: expected"):
        loader.load_state_dict({**loader.state_dict(), "max_segments": entries})


def test_the_state_of_an_epoch_without_steps_stays_in_it(lazy: CacheDataset) -> None:
    loader = time_major(lazy, 14, drop_last=True)
    loader.load_state_dict(loader.state_dict())
    assert (loader.state_dict()["epoch"], loader.epoch) == (0, 0)


@pytest.mark.parametrize("names", [5, "question", b"question"])
def test_names_of_metadata_are_a_sequence(lazy: CacheDataset, names: Any) -> None:
    with pytest.raises(SettingsError, match="names: expected"):
        lazy.metadata([0], names)


@pytest.mark.parametrize(
    "options", [{"timeout": -1}, {"timeout": "a"}, {"prefetch_factor": 2}, {"persistent_workers": True}]
)
def test_what_torch_refuses_is_told_as_a_setting(lazy: CacheDataset, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="torch's DataLoader refuses its options"):
        create_dataloader(lazy, use_time_step_major=False, **options)


def test_an_array_is_no_choice(lazy: CacheDataset) -> None:
    with pytest.raises(SettingsError, match="lanes: expected 'aligned' or 'refilled'"):
        create_dataloader(lazy, lanes=np.array(["a", "b"]))  # type: ignore[arg-type]

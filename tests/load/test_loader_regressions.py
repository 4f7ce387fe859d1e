"""What reviews of the loaders found, kept as tests."""

import copy
import enum
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import CarriedState, loss_or_zero
from memxlnet.load.create import create_dataloader
from memxlnet.load.option_literals import Dtype
from tests.load.helpers import made_step, time_major


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
    with pytest.raises(SettingsError, match=r"^batch_size:.*\b1048576\b"):
        create_dataloader(lazy, **given)


def test_a_state_with_keys_of_several_types_is_refused(lazy: CacheDataset) -> None:
    loader = time_major(lazy, 3)
    with pytest.raises(SettingsError, match=r"^state:.*global_batch_size"):
        loader.load_state_dict({**loader.state_dict(), 1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("entries", [[True], [1.0], [1, 1]])
def test_a_schedule_of_a_state_is_compared_by_type(lazy: CacheDataset, entries: list[Any]) -> None:
    loader = time_major(lazy, 3, max_segments=1)
    with pytest.raises(SettingsError, match=r"^state: max_segments:"):
        loader.load_state_dict({**loader.state_dict(), "max_segments": entries})


def test_the_state_of_an_epoch_without_steps_stays_in_it(lazy: CacheDataset) -> None:
    loader = time_major(lazy, 14, drop_last=True)
    loader.load_state_dict(loader.state_dict())
    assert (loader.state_dict()["epoch"], loader.epoch) == (0, 0)


@pytest.mark.parametrize("names", [5, "question", b"question"])
def test_names_of_metadata_are_a_sequence(lazy: CacheDataset, names: Any) -> None:
    with pytest.raises(SettingsError, match=r"^names:"):
        lazy.metadata([0], names)


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch_factor": 2},
        {"persistent_workers": True},
        {"num_workers": 2, "multiprocessing_context": "none"},
    ],
)
def test_what_torch_refuses_is_a_wrong_setting(lazy: CacheDataset, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="DataLoader"):
        create_dataloader(lazy, use_time_step_major=False, **options)


def test_an_array_is_no_choice(lazy: CacheDataset) -> None:
    with pytest.raises(SettingsError, match=r"^lanes:"):
        create_dataloader(lazy, lanes=np.array(["a", "b"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": "a"},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"prefetch_factor": 0, "num_workers": 1},
        {"worker_init_fn": 5},
        {"num_workers": 10**30},
        {"batch_size": 2**63},
    ],
)
def test_what_torch_finds_out_late_is_refused_at_once(lazy: CacheDataset, options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(SettingsError, match=f"^{name}:"):
        create_dataloader(lazy, use_time_step_major=False, **options)


def test_workers_are_bounded_in_time_step_major_order_too(lazy: CacheDataset) -> None:
    with pytest.raises(SettingsError, match=r"^num_workers:.*\b4096\b"):
        create_dataloader(lazy, num_workers=10**30)


class Lanes(str, enum.Enum):  # noqa: UP042 -- its str() is not its value
    REFILLED = "refilled"


@pytest.mark.parametrize("lanes", [np.str_("refilled"), Lanes.REFILLED])
def test_words_of_other_types_are_stored_as_plain_ones(lazy: CacheDataset, lanes: Any) -> None:
    state = time_major(lazy, 2, lanes=lanes).state_dict()
    assert type(state["lanes"]) is str
    time_major(lazy, 2, lanes="refilled").load_state_dict(json.loads(json.dumps(state)))


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
@pytest.mark.parametrize("dtype", ["stored", "int64"])
def test_a_default_device_moves_nothing(lazy: CacheDataset, lanes: str, dtype: Dtype) -> None:
    with torch.device("meta"):
        loader = time_major(lazy, 3, shuffle=True, lanes=lanes, dtype=dtype, metadata=True)
        steps = [step for found in loader for step in ([found] if isinstance(found, dict) else found)]
        opened = CacheDataset(lazy.directory)
        regular: Any = create_dataloader(opened, 3, use_time_step_major=False, metadata=True, dtype=dtype)
        batches = [regular.collate_fn(opened.__getitems__([0, 2]))]  # its iterator draws on the default device
        column = opened.column("input_ids")
        backwards = opened.__getitems__([0, 1, 2])[::-1]
    found = [*steps, *batches, *backwards, {"column": column[:3]}]
    tensors = [value for values in found for value in values.values() if isinstance(value, torch.Tensor)]
    assert len(tensors) > 100
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_look_under_inference_mode_leaves_no_tensor_that_training_refuses(
    lazy: CacheDataset, num_workers: int
) -> None:
    group = next(iter(time_major(lazy, 3, num_workers=num_workers)))
    with torch.inference_mode():
        assert not group[0]["input_ids"].is_inference()
    assert not any(value.is_inference() for value in group[0].values() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda group: pickle.loads(pickle.dumps(group))])
def test_a_copy_of_a_group_is_the_list_of_its_steps(lazy: CacheDataset, copied: Any) -> None:
    loader = time_major(lazy, 3)
    group = next(iter(loader))
    before = loader.state_dict()
    steps = copied(group)
    assert loader.state_dict() == before
    assert type(steps) is list
    for one, other in zip(steps, group, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])
        assert list(one["example_ids"]) == list(other["example_ids"])


class TestCarriedState:
    def test_a_reset_of_all_lanes_cuts_the_graph(self) -> None:
        weight = torch.ones(1, requires_grad=True)
        learned = torch.zeros(1, 3, requires_grad=True)
        carried = CarriedState(learned)
        begins = made_step("11", "11")
        carried.after(begins, carried.before(begins) + weight * 2)
        again = carried.before(begins)
        assert torch.equal(again, torch.zeros(2, 3))
        (grad,) = torch.autograd.grad(again.sum(), learned, retain_graph=True)
        assert torch.equal(grad, torch.full((1, 3), 2.0))
        (grad,) = torch.autograd.grad(again.sum(), weight, allow_unused=True)
        assert grad is None

    def test_the_initial_state_is_not_written_into_after_a_reset_of_all_lanes(self) -> None:
        initial = torch.zeros(1, 3)
        carried = CarriedState(initial)
        begins = made_step("11", "11")
        carried.after(begins, carried.before(begins) + 1)
        carried.before(begins).add_(5)
        assert torch.equal(initial, torch.zeros(1, 3))

    @pytest.mark.parametrize("reset", ["11", "10"])
    def test_the_type_is_that_of_the_model_once_it_gave_one(self, reset: str) -> None:
        carried = CarriedState(torch.zeros(1, 3))
        begins = made_step("11", "11")
        carried.after(begins, carried.before(begins).to(torch.bfloat16) + 1)
        assert carried.before(made_step("11", reset)).dtype == torch.bfloat16

    def test_a_numpy_dimension_is_one(self) -> None:
        carried = CarriedState(torch.zeros(4, 1, 3), batch_dim=np.int64(1))  # type: ignore[arg-type]
        assert carried.before(made_step("11", "11")).shape == (4, 2, 3)

    def test_after_without_before_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"^state:.*before\(step\)"):
            CarriedState(torch.zeros(1, 3)).after(made_step("1", "1"), torch.zeros(1, 3))

    @pytest.mark.parametrize("active", ["1", "0"])
    def test_a_model_without_labels_gives_no_loss(self, active: str) -> None:
        with pytest.raises(SettingsError, match=r"^loss:.*\bNoneType\b"):
            loss_or_zero(made_step(active, "1"), None, torch.zeros(1))  # type: ignore[arg-type]

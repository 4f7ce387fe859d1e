"""What a carried state refuses to save and to load, and how it continues in one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.load.carried_state import CarriedState

LANES = 3


def step(rows: list[int], going_on: list[bool]) -> dict[str, Any]:
    found = torch.tensor(rows)
    return {"rows": found, "document_mask": found >= 0, "reset": (found >= 0) & ~torch.tensor(going_on)}


BEGIN = step([10, 20, -1], [False, False, False])
NEXT = step([11, 21, 30], [True, True, False])
MOVED = step([30, 21, 11], [False, True, True])


def initial(dtype: torch.dtype = torch.float32, size: int = 2) -> dict[str, Any]:
    return {"h": (torch.zeros(1, 1, size, dtype=dtype), None), "n": torch.full((1, 1), 7)}


def carried(batch_size: int | None = LANES, **options: Any) -> CarriedState:
    return CarriedState(initial(**options), 1, batch_size=batch_size)


def after_begin(dtype: torch.dtype = torch.bfloat16, state: CarriedState | None = None) -> CarriedState:
    found = carried() if state is None else state
    before = found.before(BEGIN)
    h = torch.arange(6, dtype=dtype).view(1, 3, 2) + before["h"][0].to(dtype)
    found.after(BEGIN, {"n": before["n"] + 1, "h": (h, None)})
    return found


def values(state: dict[str, Any]) -> list[Any]:
    return [state["h"][0].tolist(), state["h"][0].dtype, state["h"][1], state["n"].tolist()]


class TestGoingOn:
    def test_each_lane_takes_the_memory_of_the_row_before_its_own(self, tmp_path: Path) -> None:
        torch.save(after_begin().state_dict(), tmp_path / "memory.pt")
        resumed = carried()
        resumed.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
        assert values(resumed.before(MOVED)) == [[[[0, 0], [2, 3], [0, 1]]], torch.bfloat16, None, [[7, 8, 8]]]

    def test_it_equals_an_uninterrupted_run(self) -> None:
        whole = after_begin()
        resumed = carried()
        resumed.load_state_dict(whole.state_dict())
        assert values(resumed.before(NEXT)) == values(whole.before(NEXT))

    def test_a_state_of_no_step_is_the_initial_one(self) -> None:
        resumed = carried()
        resumed.load_state_dict(carried().state_dict())
        assert values(resumed.before(BEGIN)) == [[[[0, 0]] * 3], torch.float32, None, [[7] * 3]]

    def test_what_is_loaded_is_saved_again_as_it_is(self) -> None:
        resumed = carried()
        resumed.load_state_dict(after_begin().state_dict())
        saved = after_begin().state_dict()
        resumed.load_state_dict(saved)
        for leaf in (saved["rows"], *saved["tensors"].values()):
            leaf.zero_()
        again = carried()
        again.load_state_dict(resumed.state_dict())
        assert values(again.before(NEXT)) == values(after_begin().before(NEXT))

    def test_what_is_saved_and_loaded_is_a_copy_without_a_graph(self) -> None:
        found = after_begin(torch.float32)
        weight = torch.ones((), requires_grad=True)
        found.after(BEGIN, {"n": found.state["n"], "h": (found.state["h"][0] * weight, None)})
        saved = found.state_dict()
        resumed = carried()
        resumed.load_state_dict(saved)
        for leaf in saved["tensors"].values():
            assert not leaf.requires_grad
            leaf.zero_()
        saved["rows"].zero_()
        assert values(resumed.before(NEXT)) == values(found.before(NEXT))

    def test_a_smaller_group_is_saved_in_the_shapes_of_a_full_one(self) -> None:
        found = carried()
        few = step([10, 20], [False, False])
        found.after(few, found.before(few))
        saved = found.state_dict()
        shapes = {name: leaf.shape for name, leaf in carried().state_dict()["tensors"].items()}
        assert {name: leaf.shape for name, leaf in saved["tensors"].items()} == shapes
        resumed = carried()
        resumed.load_state_dict(saved)
        continued = step([21], [True])
        assert values(resumed.before(continued)) == [[[[0, 0]]], torch.float32, None, [[7]]]


def change(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda saved: {**saved, name: value}


def change_tensor(make: Callable[[Tensor], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda saved: {**saved, "tensors": {name: make(leaf) for name, leaf in saved["tensors"].items()}}


class TestRefusals:
    @pytest.mark.parametrize(
        ("alter", "message"),
        [
            pytest.param(lambda saved: saved["tensors"], "^state:.*dtypes", id="other-fields"),
            pytest.param(lambda _: [1], r"^state:.*\bdtypes\b.*\blist$", id="no-mapping"),
            pytest.param(change("version", 0), "^state: version:.*0$", id="version"),
            pytest.param(change("version", True), "^state: version:.*True$", id="no-number"),
            pytest.param(change("rows", [1]), "^state: rows:", id="rows"),
            pytest.param(change("rows", torch.zeros(0, dtype=torch.int64)), "^state: rows:", id="no-lanes"),
            pytest.param(
                lambda saved: {**saved, "dtypes": dict.fromkeys(saved["dtypes"], "torch.int8")},
                r"^state.*torch\.float32\b.*torch\.int8\b",
                id="carried-type",
            ),
            pytest.param(change("tensors", {}), r"^state:.*\[\]$", id="other-structure"),
            pytest.param(change("dtypes", {}), r"^state:.*\[\]$", id="no-types"),
            pytest.param(change_tensor(lambda leaf: leaf[..., :1]), "shape", id="shape"),
            pytest.param(change_tensor(lambda leaf: leaf[:, :2]), "shape", id="fewer-lanes"),
            pytest.param(change_tensor(lambda leaf: leaf.double()), r"torch\.float32\b.*torch\.float64\b", id="type"),
            pytest.param(change_tensor(Tensor.tolist), r"shape\b.*\blist$", id="no-tensor"),
        ],
    )
    def test_what_is_no_state_of_this_structure(self, alter: Callable[[dict[str, Any]], Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            carried().load_state_dict(alter(after_begin().state_dict()))

    def test_a_step_of_another_place_in_the_stream(self) -> None:
        resumed = carried()
        resumed.load_state_dict(after_begin().state_dict())
        with pytest.raises(SettingsError, match=r"^state: 1\b.*\brow 41\b"):
            resumed.before(step([11, 42, 30], [True, True, False]))

    def test_a_step_without_rows(self) -> None:
        resumed = carried()
        resumed.load_state_dict(after_begin().state_dict())
        with pytest.raises(SettingsError, match=r"^step:.*'rows'"):
            resumed.before({name: NEXT[name] for name in ("document_mask", "reset")})

    @pytest.mark.parametrize("nothing", [None, [None], {}, ()])
    def test_an_initial_state_without_a_tensor(self, nothing: Any) -> None:
        state = CarriedState(nothing, batch_size=LANES)
        with pytest.raises(SettingsError, match=r"^initial:"):
            state.state_dict()
        with pytest.raises(SettingsError, match=r"^initial:"):
            state.before(BEGIN)

    def test_saving_ahead_of_the_first_step_without_a_number_of_lanes(self) -> None:
        with pytest.raises(SettingsError, match=r"batch_size=loader\.batch_size"):
            carried(batch_size=None).state_dict()

    def test_saving_a_state_that_was_set_ahead_of_its_step(self) -> None:
        found = after_begin()
        found.state = found.fresh(LANES)
        with pytest.raises(SettingsError, match=r"^state:.*after\(step\)"):
            found.state_dict()

    @pytest.mark.parametrize(("initial_type", "found"), [(torch.float16, torch.float32), (torch.bfloat16, torch.half)])
    def test_an_initial_state_that_cannot_hold_what_is_carried(self, initial_type: Any, found: Any) -> None:
        state = after_begin(found, carried(dtype=initial_type))
        with pytest.raises(SettingsError, match=rf"^state.*\b{found}$"):
            state.state_dict()

    def test_several_ranks_without_a_process_group(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(SettingsError, match="init_process_group"):
            carried().state_dict()

    @pytest.mark.parametrize("batch_size", [0, -1, True, "3"])
    def test_a_number_of_lanes_that_cannot_be(self, batch_size: Any) -> None:
        with pytest.raises(SettingsError, match="batch_size"):
            carried(batch_size=batch_size)

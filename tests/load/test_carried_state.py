"""State that travels along documents: what is carried, reset and held, and that gradients go the same ways."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_structure
from transformers import XLNetConfig, XLNetForQuestionAnsweringSimple, XLNetModel

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import CarriedState, loss_or_zero
from memxlnet.load.create import create_dataloader
from memxlnet.load.model_inputs import model_inputs
from memxlnet.load.option_literals import Align, Lanes
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import made_step


class Pair(NamedTuple):
    hidden: Tensor
    cell: Tensor


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steps_of(dataset: CacheDataset, lanes: Lanes, epochs: int = 1, **options: Any) -> list[list[dict[str, Any]]]:
    """The steps of each epoch."""
    loader = create_dataloader(dataset, 4, shuffle=True, seed=3, lanes=lanes, **options)
    assert isinstance(loader, TimeStepMajorDataLoader)
    sizes = [loader.epoch_size(epoch).steps for epoch in range(epochs)]
    stream = loader.endless() if lanes == "refilled" else itertools.chain.from_iterable(loader.endless())
    return [list(itertools.islice(stream, size)) for size in sizes]


def values(state: Any) -> list[Any]:
    return [leaf.tolist() if isinstance(leaf, Tensor) else leaf for leaf in tree_flatten(state)[0]]


def one_for_each_lane(lanes: int) -> list[Tensor]:
    return [torch.zeros(3, lanes, 2), torch.ones(1, lanes, 2)]


INITIALS: dict[str, tuple[Any, int]] = {
    "a tensor": (torch.zeros(1, 2), 0),
    "a tensor of all lanes": (torch.arange(6.0).view(3, 2), 0),
    "mems": ([torch.zeros(5, 1, 2), torch.ones(5, 1, 2)], 1),
    "mems of all lanes": ([torch.zeros(5, 3, 2), torch.ones(5, 3, 2)], 1),
    "a function": (one_for_each_lane, 1),
    "a dictionary": ({"h": (torch.zeros(1, 2), None), "c": [torch.ones(1, 4), {"d": torch.ones(1)}]}, 0),
    "a named tuple": (Pair(torch.zeros(1, 2), torch.ones(1)), 0),
    "whole numbers": ((torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.float64)), 0),
}


class TestCarriedState:
    @pytest.mark.parametrize("kind", INITIALS)
    def test_resets_carries_and_holds_any_structure(self, kind: str) -> None:
        initial, dim = INITIALS[kind]
        carried = CarriedState(initial, dim)
        fresh = carried.fresh(3)

        def mapped(state: Any, function: Callable[[Tensor], Any]) -> Any:
            return tree_map(lambda leaf: leaf if leaf is None else function(leaf), state)

        def lanes(state: Any, *raised_by: int) -> list[Any]:
            leaves = [leaf for leaf in tree_flatten(state)[0] if leaf is not None]
            return [[(leaf.select(dim, lane) + by).tolist() for leaf in leaves] for lane, by in enumerate(raised_by)]

        def none(state: Any) -> list[Any]:
            return lanes(state, 0, 0, 0)

        assert none(carried.before(made_step("110", "110"))) == none(fresh)
        # The lane without a segment holds; what the model made of its padding may be anything.
        made = mapped(fresh, lambda leaf: leaf + 7)
        mapped(made, lambda leaf: leaf.select(dim, 2).fill_(torch.nan if leaf.is_floating_point() else -99))
        carried.after(made_step("110", "110"), made)
        assert none(carried.state) == lanes(fresh, 7, 7, 0)
        # One lane continues, one begins another document, and one its first.
        assert none(carried.before(made_step("111", "011"))) == lanes(fresh, 7, 0, 0)
        carried.after(made_step("111", "011"), mapped(carried.state, lambda leaf: leaf + 1))
        assert none(carried.state) == lanes(fresh, 8, 1, 1)
        assert none(carried.before(made_step("000", "000"))) == lanes(fresh, 8, 1, 1)
        carried.after(made_step("000", "000"), mapped(carried.state, lambda leaf: leaf + 100))
        assert none(carried.state) == lanes(fresh, 8, 1, 1)
        assert tree_structure(carried.state) == tree_structure(fresh)

    def test_takes_the_tuple_that_a_model_gives_for_a_list(self) -> None:
        carried = CarriedState([torch.zeros(2, 1, 1), torch.zeros(2, 1, 1)], batch_dim=1)
        carried.before(made_step("11", "11"))
        carried.after(made_step("11", "00"), (torch.full((2, 2, 1), 3.0), torch.full((2, 2, 1), 4.0)))
        carried.before(made_step("11", "01"))
        assert values(carried.state) == [[[[3.0], [0.0]]] * 2, [[[4.0], [0.0]]] * 2]
        carried.after(made_step("10", "00"), (torch.full((2, 2, 1), 5.0), torch.full((2, 2, 1), 6.0)))
        assert values(carried.state) == [[[[5.0], [0.0]]] * 2, [[[6.0], [0.0]]] * 2]

    @pytest.mark.parametrize("going_on", ["11", "10"])
    def test_takes_another_type_under_autocast(self, going_on: str) -> None:
        linear = nn.Linear(2, 2)
        carried = CarriedState(torch.ones(1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            state = linear(carried.before(made_step("11", "11")))
            assert state.dtype == torch.bfloat16
            carried.after(made_step(going_on, "11"), state)
            found = carried.before(made_step("11", "0" + going_on[1]))
            assert torch.equal(found[0].float(), state[0].float())
            carried.after(made_step("11", "00"), linear(found))
        carried.state.float().sum().backward()
        assert linear.weight.grad is not None
        assert torch.isfinite(linear.weight.grad).all()

    def test_the_number_of_lanes_changes_between_groups(self) -> None:
        carried = CarriedState(lambda lanes: torch.zeros(lanes, 1))
        for lanes in (4, 2, 3):
            begin = made_step("1" * lanes, "1" * lanes)
            assert carried.before(begin).shape == (lanes, 1)
            carried.after(begin, carried.state + 1)
            assert carried.before(made_step("1" * lanes, "0" * lanes)).tolist() == [[1.0]] * lanes
        # Of a smaller group some lanes may have no document at all.
        assert carried.before(made_step("10", "10")).tolist() == [[0.0]] * 2

    def test_continues_with_a_state_that_was_saved(self) -> None:
        begin, next_one = made_step("11", "11"), made_step("11", "01")
        whole = CarriedState(torch.zeros(1, 1))
        whole.after(begin, whole.before(begin) + 5)
        resumed = CarriedState(torch.zeros(1, 1))
        resumed.state = whole.state.clone()
        assert torch.equal(resumed.before(next_one), whole.before(next_one))
        assert resumed.state.tolist() == [[5.0], [0.0]]

    def test_detach_keeps_values_and_cuts_the_graph(self) -> None:
        weight = torch.tensor(2.0, requires_grad=True)
        carried = CarriedState({"h": torch.ones(1, 1), "n": None})
        carried.before(made_step("11", "11"))
        carried.after(made_step("11", "11"), {"h": carried.state["h"] * weight, "n": None})
        carried.detach()
        assert not carried.state["h"].requires_grad
        assert carried.state["h"].tolist() == [[2.0], [2.0]]
        (carried.before(made_step("11", "00"))["h"] * weight).sum().backward()
        assert weight.grad is not None
        assert float(weight.grad) == 4.0


class TestRefuses:
    @pytest.mark.parametrize("dim", [-1, True, 0.5, None, "1"])
    def test_what_is_no_dimension(self, dim: Any) -> None:
        with pytest.raises(SettingsError, match=r"^batch_dim:"):
            CarriedState(torch.zeros(1), dim)

    @pytest.mark.parametrize(("shape", "dim"), [((2, 5), 0), ((3,), 1), ((), 0), ((3, 2), 1)])
    def test_an_initial_state_of_other_lanes(self, shape: tuple[int, ...], dim: int) -> None:
        with pytest.raises(SettingsError, match=rf"^initial:.*\b3\b.*\b{dim}\b.*{re.escape(str(shape))}"):
            CarriedState([torch.zeros(shape)], dim).before(made_step("111", "111"))

    def test_an_initial_state_that_holds_no_tensors(self) -> None:
        with pytest.raises(SettingsError, match=r"^initial:.*float$"):
            CarriedState([0.0]).before(made_step("1", "1"))

    def test_documents_that_continue_where_nothing_is_carried(self) -> None:
        carried = CarriedState(torch.zeros(1, 1))
        with pytest.raises(SettingsError, match=r"^state: 1\b.*\b3\b.*nothing"):
            carried.before(made_step("110", "100"))
        carried.state = carried.fresh(3)
        assert carried.before(made_step("110", "100")).shape == (3, 1)
        with pytest.raises(SettingsError, match=r"^state: 2\b.*\b2\b.*\b3\b"):
            carried.before(made_step("11", "00"))

    @pytest.mark.parametrize("mask", ["11", "10"])
    @pytest.mark.parametrize(
        "shapes", [[(2, 3), (2, 1)], [(2, 3)], [(2, 3), None], [(2, 3), (3, 2)], [(1, 3), (1, 2)], []]
    )
    def test_a_state_of_other_shapes(self, mask: str, shapes: list[Any]) -> None:
        carried = CarriedState([torch.zeros(1, 3), torch.zeros(1, 2)])
        carried.before(made_step(mask, mask))
        with pytest.raises(SettingsError, match=r"^state:"):
            carried.after(made_step(mask, mask), [shape and torch.zeros(shape) for shape in shapes])

    @pytest.mark.parametrize("mask", ["11", "10"])
    def test_a_state_of_another_structure(self, mask: str) -> None:
        carried = CarriedState({"h": torch.zeros(1, 2), "c": torch.ones(1, 2)})
        carried.before(made_step(mask, mask))
        with pytest.raises(SettingsError, match=r"^state:.*structure"):
            carried.after(made_step(mask, mask), {"h": torch.zeros(2, 2), "other": torch.zeros(2, 2)})


@pytest.mark.parametrize("step", [("10", "00"), ("11", "01")])
def test_a_dictionary_is_matched_by_its_names_not_by_their_order(step: tuple[str, str]) -> None:
    carried = CarriedState({"h": torch.zeros(1, 1), "c": torch.zeros(1, 1)})
    carried.before(made_step("11", "11"))
    carried.after(made_step("11", "11"), {"c": torch.full((2, 1), 5.0), "h": torch.full((2, 1), 6.0)})
    found = carried.before(made_step(*step))
    assert (found["c"][0].item(), found["h"][0].item()) == (5.0, 6.0)
    carried.after(made_step("10", "00"), {"h": torch.zeros(2, 1), "c": torch.zeros(2, 1)})
    kept = 0.0 if step[1] == "01" else 1.0
    assert (carried.state["c"][1].item(), carried.state["h"][1].item()) == (5.0 * kept, 6.0 * kept)


@pytest.mark.parametrize("size", [1, 2])
def test_a_model_that_works_in_place_does_not_write_into_the_initial_state(size: int) -> None:
    initial = torch.zeros(size, 1)
    carried = CarriedState(initial)
    state = carried.before(made_step("11", "11"))
    state += 1
    carried.after(made_step("11", "11"), state)
    assert initial.tolist() == [[0.0]] * size
    assert carried.before(made_step("11", "11")).tolist() == [[0.0]] * 2


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("aligned", {}),
    ("aligned", {"align": "end"}),
    ("aligned", {"align": "end", "group_by_length": True}),
    ("refilled", {}),
    ("refilled", {"group_by_length": True}),
]


def plain_states(dataset: CacheDataset) -> dict[str, float]:
    """The state after each document, from a loop over its rows."""
    found = {}
    for name in dataset.get_all_documents():
        state = torch.full((1,), 0.1)
        for row in dataset.get_document_segments(name):
            state = 0.5 * state + torch.tensor([float(row)])
        found[name] = float(state)
    return found


@pytest.mark.parametrize("in_a_dictionary", [False, True])
@pytest.mark.parametrize(("lanes", "options"), WAYS)
def test_each_document_ends_as_in_a_plain_loop(
    lazy: CacheDataset, lanes: Lanes, in_a_dictionary: bool, options: dict[str, Any]
) -> None:
    expected = plain_states(lazy)
    assert len(expected) % 4, "the last group must be smaller"
    carried = CarriedState({"s": torch.full((1, 1), 0.1)} if in_a_dictionary else torch.full((1, 1), 0.1))
    for steps in steps_of(lazy, lanes, epochs=3, **options):
        seen: Counter[str] = Counter()
        for step in steps:
            state = carried.before(step)
            old = state["s"] if in_a_dictionary else state
            new = torch.where(step["document_mask"], 0.5 * old[:, 0] + step["rows"].float(), torch.nan)[:, None]
            carried.after(step, {"s": new} if in_a_dictionary else new)
            left = carried.state["s"] if in_a_dictionary else carried.state
            for lane in step["is_last"].nonzero()[:, 0].tolist():
                name = step["example_ids"][lane]
                assert float(left[lane, 0]) == expected[name]
                seen[name] += 1
        assert seen == Counter(list(expected))


class TestGradients:
    @pytest.mark.parametrize(("lanes", "options"), WAYS)
    def test_reach_the_earlier_steps_of_the_same_document_and_lane_only(
        self, lazy: CacheDataset, lanes: Lanes, options: dict[str, Any]
    ) -> None:
        (steps,) = steps_of(lazy, lanes, **options)
        inputs = [torch.zeros(len(step["rows"]), 1, requires_grad=True) for step in steps]
        carried = CarriedState(torch.zeros(1, 1))
        losses = {}
        for step, given in zip(steps, inputs, strict=True):
            carried.after(step, 0.5 * carried.before(step) + given)
            for lane in step["is_last"].nonzero()[:, 0].tolist():
                losses[step["example_ids"][lane]] = carried.state[lane, 0]
        assert len(losses) == len(lazy.get_all_documents())
        for name, loss in losses.items():
            found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
            rows = lazy.get_document_segments(name)
            for step, gradient in zip(steps, found, strict=True):
                wanted = [0.5 ** (rows[-1] - row) if row in rows else 0.0 for row in step["rows"].tolist()]
                assert gradient[:, 0].tolist() == wanted

    @pytest.mark.parametrize("align", ["start", "end"])
    def test_of_a_group_are_cut_at_its_begin(self, lazy: CacheDataset, align: Align) -> None:
        loader = create_dataloader(lazy, 4, shuffle=True, align=align)
        carried = CarriedState(torch.zeros(1, 1))
        first = [group[0]["reset"] for group in create_dataloader(lazy, 4, shuffle=True, align=align)]
        assert all(bool(reset.all()) for reset in first[:3]) == (align == "start")
        for group in loader:
            for place, step in enumerate(group):
                state = carried.before(step)
                assert state.requires_grad == (place > 0)
                carried.after(step, state + torch.zeros(len(state), 1, requires_grad=True))

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_flow_into_a_learned_initial_state(self, lazy: CacheDataset, lanes: Lanes) -> None:
        initial = nn.Parameter(torch.ones(1, 1))
        carried = CarriedState(initial)
        (steps,) = steps_of(lazy, lanes)
        loss: Any = torch.zeros(())
        for step in steps:
            carried.after(step, 0.5 * carried.before(step))
            loss = loss + carried.state[step["is_last"]].sum()
        loss.backward()
        counts = lazy.documents.num_segments.tolist()
        assert initial.grad is not None
        assert float(initial.grad) == pytest.approx(sum(0.5**count for count in counts))

    def test_after_detach_stay_in_the_newer_steps(self, lazy: CacheDataset) -> None:
        (steps,) = steps_of(lazy, "aligned")
        inputs = [torch.zeros(4, 1, requires_grad=True) for _ in range(4)]
        carried = CarriedState(torch.zeros(1, 1))
        for number, (step, given) in enumerate(zip(steps, inputs, strict=False)):
            carried.after(step, 0.5 * carried.before(step) + given)
            if number == 1:
                carried.detach()
        carried.state.sum().backward()
        assert [given.grad is not None for given in inputs] == [False, False, True, True]


class TestLossOrZero:
    def model(self) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5))

    @pytest.mark.parametrize("infinite", [None, torch.inf, -torch.inf, torch.nan])
    def test_is_zero_with_finite_zero_gradients_where_no_lane_has_a_segment(self, infinite: float | None) -> None:
        model = self.model()
        logits = model(torch.ones(2, 3))
        if infinite is not None:
            logits = logits.index_fill(1, torch.tensor([0, 3]), infinite) + 0 * logits
        labels = torch.full((2,), 5)
        loss = nn.functional.cross_entropy(logits, labels, ignore_index=5)
        assert loss.isnan()
        zero: Any = loss_or_zero(made_step("00", "00"), loss.double(), logits[:, :2], logits[:, 2:])
        assert (zero.shape, zero.dtype, zero.item()) == (loss.shape, torch.float64, 0)
        zero.backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert not parameter.grad.any()

    def test_is_the_very_loss_otherwise(self) -> None:
        logits = self.model()(torch.ones(2, 3))
        loss = logits.sum()
        assert loss_or_zero(made_step("01", "01"), loss, logits) is loss

    @pytest.mark.parametrize("mask", ["00", "11"])
    def test_needs_an_output(self, mask: str) -> None:
        with pytest.raises(SettingsError, match=r"^outputs:"):
            loss_or_zero(made_step(mask, mask), torch.zeros(()))


def xlnet(dataset: CacheDataset, mem_len: int, layers: int) -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layer": layers, "n_head": 2, "d_inner": 32, "dropout": 0.0}
    config = XLNetConfig(vocab_size=dataset.manifest.vocabulary_size, mem_len=mem_len, **sizes)
    return XLNetForQuestionAnsweringSimple(config)


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
def test_xlnet_trains_with_its_mems(lazy: CacheDataset, lanes: Lanes) -> None:
    mem_len, layers = 12, 2
    model = xlnet(lazy, mem_len, layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    carried = CarriedState([torch.zeros(mem_len, 1, 16) for _ in range(layers)], batch_dim=1)
    (steps,) = steps_of(lazy, lanes, max_segments=5)
    used = []
    for step in steps:
        mems = carried.before(step)
        output = model(**model_inputs(step, model), mems=mems, use_mems=True)
        carried.after(step, output.mems)
        loss: Any = loss_or_zero(step, output.loss, output.start_logits, output.end_logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        carried.detach()
        used.append([float(loss.detach()), *(float(mem.abs().sum()) for mem in carried.state)])
    assert torch.isfinite(torch.tensor(used)).all()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_mems_make_a_difference_to_the_second_segment_only(lazy: CacheDataset) -> None:
    model = xlnet(lazy, 12, 1).eval()
    first, second = steps_of(lazy, "aligned")[0][:2]
    carried = CarriedState([torch.zeros(12, 1, 16)], batch_dim=1)
    with torch.no_grad():

        def logits(step: Mapping[str, Any], mems: Any) -> Tensor:
            output = model(**model_inputs(step, model), mems=mems, use_mems=True)
            carried.after(step, output.mems)
            found: Tensor = output.start_logits
            return found

        logits(first, carried.before(first))
        with_memory = logits(second, carried.before(second))
        without = logits(second, carried.fresh(len(second["rows"])))
    alive = second["document_mask"]
    assert not torch.allclose(with_memory[alive], without[alive])
    assert torch.equal(with_memory[~alive], without[~alive])


def test_the_mems_of_xlnet_are_carried_without_a_shape_by_hand() -> None:
    config = XLNetConfig(vocab_size=50, d_model=16, n_layer=3, n_head=2, d_inner=32, mem_len=5)
    model = XLNetForQuestionAnsweringSimple(config).to(torch.bfloat16)
    carried = CarriedState.for_model(model, 4)
    state = carried.fresh(4)
    assert [tuple(leaf.shape) for leaf in state] == [(5, 4, 16)] * 3
    assert {leaf.dtype for leaf in state} == {torch.bfloat16}
    assert carried.state_dict()["rows"].tolist() == [-1] * 4
    ids = torch.ones(4, 7, dtype=torch.long)
    assert [tuple(leaf.shape) for leaf in model(ids, mems=state, use_mems=True).mems] == [(5, 4, 16)] * 3


SMALL: dict[str, Any] = {"vocab_size": 5, "d_model": 4, "n_layer": 1, "n_head": 1, "d_inner": 4, "mem_len": None}


@pytest.mark.parametrize("model", [torch.nn.Linear(1, 1), XLNetModel(XLNetConfig(**SMALL))])
def test_a_model_without_mems_is_refused(model: Any) -> None:
    with pytest.raises(SettingsError, match=r"^model:.*mem_len"):
        CarriedState.for_model(model, 2)


TWO_LANES = torch.zeros(2, 1)


@pytest.mark.parametrize("given", [[], [TWO_LANES], [TWO_LANES] * 3, TWO_LANES, None, {"a": TWO_LANES}])
def test_another_number_of_tensors_is_an_error(given: Any) -> None:
    both = torch.tensor([True, True])
    step = {"reset": both, "document_mask": both, "rows": torch.tensor([0, 1])}
    carried = CarriedState([torch.zeros(1, 1)] * 2)
    carried.before(step)
    with pytest.raises(SettingsError, match=r"^state:"):
        carried.after(step, given)

"""Recurrent state that travels along documents from step to step, whatever its structure."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_structure, tree_unflatten

from memxlnet.errors import SettingsError
from memxlnet.settings import whole_number

State = Any
"""Any pytree of tensors: a tensor, or lists, tuples, dictionaries and named tuples of such; None may stand in it."""


class CarriedState:
    """Carries the state of a recurrent model from one step to the next, lane by lane.

    Where a document begins (``reset``), its lane gets the initial state; where a lane has no segment
    (``document_mask``), it holds what it had. Gradients flow through, into a learned initial state too, and the graph
    of all steps is kept, until `detach` (or, with masks on the CPU, until documents begin while none goes on: then all
    lanes get the initial state, as at the begin of a group)::

        carried = CarriedState(initial)
        for step in steps:
            loss, state = model(step, carried.before(step))
            carried.after(step, state)

    What `before` gives is what is carried, and is for the model to read, not to write into. All shapes stay constant,
    as `torch.compile` and CUDA graphs want it. Masks may lie on the CPU while the state lies elsewhere.

    Args:
        initial: The state of a lane that begins a document: a pytree of tensors whose batch dimension has size 1 or the
            number of lanes, or a function from the number of lanes to such a pytree. All leaves have the shapes that
            the model gives back.
        batch_dim: The dimension of every tensor that counts lanes: 0, or 1 for XLNet's ``mems``, a list of
            [mem_len, B, d_model].

    Attributes:
        state: What is carried, None before the first step; to be saved with the state of the loader, and set again
            before a resumed loop.

    Raises:
        SettingsError: `batch_dim` is no dimension.
    """

    def __init__(self, initial: State | Callable[[int], State], batch_dim: int = 0):
        self._initial = initial
        self._batch_dim = whole_number("batch_dim", batch_dim, 0)
        self.state: State = None

    def fresh(self, lanes: int) -> State:
        """The initial state of so many lanes."""
        # Copies: a model that works in place must not write into the initial state.
        return tree_map(lambda leaf: leaf if leaf is None else leaf.clone(), self._spread_initial(lanes))

    def before(self, step: Mapping[str, Any]) -> State:
        """The state with which a step begins: initial where a document begins, else what the last step left.

        Args:
            step: A step of the loader.

        Raises:
            SettingsError: Documents go on, but nothing is carried for them; or shapes do not fit.
        """
        reset = step["reset"]
        lanes = len(reset)
        if self.state is None or self._lanes() != lanes:
            going_on = int((step["document_mask"] & ~reset).sum())
            if going_on:
                carried = "nothing" if self.state is None else f"the state of {self._lanes()}"
                raise SettingsError(
                    f"state: {going_on} of {lanes} lanes go on with a document, but {carried} is carried; set .state "
                    "to what was saved with the loader's state, or to .fresh(lanes) to begin there without memory"
                )
            self.state = self.fresh(lanes)
        elif reset.device.type != "cpu" or bool(reset.any()):
            keep = ~reset
            if reset.device.type == "cpu" and not (step["document_mask"] & keep).any():
                # No document goes on, so that nothing which is carried is read again; some lanes may begin later.
                keep = torch.zeros_like(reset)
            self.state = self._where(keep, self.state, self._spread_initial(lanes))
        return self.state

    def after(self, step: Mapping[str, Any], state: State) -> None:
        """Take over the state that a step left; lanes without a segment hold the state that they had.

        Args:
            step: The step.
            state: What the model gave, of the structure and shapes of the initial state.

        Raises:
            SettingsError: The structure or a shape is another one.
        """
        if self.state is None:
            raise SettingsError("state: expected before(step) to be called ahead of after(step)")
        mask = step["document_mask"]
        if mask.device.type == "cpu" and bool(mask.all()):
            self._leaves(state, self.state)
            self.state = state
        else:
            self.state = self._where(mask, state, self.state)

    def detach(self) -> None:
        """Cut the graph: what is carried keeps its values, gradients end here (truncated backpropagation)."""
        self.state = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, self.state)

    def _spread_initial(self, lanes: int) -> State:
        """The initial state of so many lanes: views."""
        made = callable(self._initial) and not isinstance(self._initial, Tensor)
        found = self._initial(lanes) if made else self._initial
        return tree_map(lambda leaf: self._spread(leaf, lanes), found)

    def _spread(self, leaf: Any, lanes: int) -> Any:
        if not isinstance(leaf, Tensor):
            if leaf is None:
                return None
            raise SettingsError(f"initial: expected tensors, found {type(leaf).__name__}")
        dim = self._batch_dim
        if leaf.dim() <= dim or leaf.shape[dim] not in (1, lanes):
            raise SettingsError(
                f"initial: expected 1 or {lanes} lanes in dimension {dim}, found the shape {tuple(leaf.shape)}"
            )
        return leaf.expand(*leaf.shape[:dim], lanes, *leaf.shape[dim + 1 :])

    def _lanes(self) -> int | None:
        tensors = [leaf for leaf in tree_flatten(self.state)[0] if isinstance(leaf, Tensor)]
        return tensors[0].shape[self._batch_dim] if tensors else None

    def _leaves(self, one: State, other: State) -> tuple[list[Any], list[Any], Any]:
        """The leaves of two states that must fit, and the structure of the first."""
        ours, structure = tree_flatten(one)
        theirs = _leaves_in_order_of(one, other)
        shapes = [[tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in each] for each in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise SettingsError(f"state: expected constant shapes, found {shapes[0]} beside {shapes[1]}")
        return ours, theirs, structure

    def _where(self, mask: Tensor, chosen: State, other: State) -> State:
        """Lanes of `chosen` where the mask says, else of `other`; in the structure and types of what the model gave."""
        ours, theirs, structure = self._leaves(chosen, other)
        # Cuts the graph of the chosen, of which nothing is left.
        nothing_chosen = mask.device.type == "cpu" and not mask.any()

        def pick(one: Any, two: Any) -> Any:
            if not isinstance(one, Tensor):
                return one
            if nothing_chosen:
                return two.to(one, copy=True)
            shape = [1] * one.dim()
            shape[self._batch_dim] = len(mask)
            return torch.where(mask.to(one.device, non_blocking=True).view(shape), one, two.to(one))

        return tree_unflatten([pick(*leaves) for leaves in zip(ours, theirs, strict=True)], structure)


def _leaves_in_order_of(pattern: State, other: State) -> list[Any]:
    """The leaves of a state in the order of another one: names decide in dictionaries, lists are as good as tuples.

    Raises:
        SettingsError: The structures differ.
    """
    if isinstance(pattern, dict) and isinstance(other, dict):
        if pattern.keys() == other.keys():
            return [leaf for name in pattern for leaf in _leaves_in_order_of(pattern[name], other[name])]
    elif isinstance(pattern, list | tuple) and isinstance(other, list | tuple):
        if len(pattern) == len(other):
            return [leaf for parts in zip(pattern, other, strict=True) for leaf in _leaves_in_order_of(*parts)]
    elif tree_structure(pattern) == tree_structure(other):
        return tree_flatten(other)[0]
    raise SettingsError(
        f"state: expected one structure, found {_shown(pattern)} beside {_shown(other)}; give an initial state of the "
        "structure that the model gives back"
    )


def _shown(state: State) -> str:
    if isinstance(state, dict):
        return f"a dictionary of {', '.join(map(repr, state))}"
    return f"{len(state)} values" if isinstance(state, list | tuple) else type(state).__name__


def loss_or_zero(step: Mapping[str, Any], loss: Tensor, *outputs: Tensor) -> Tensor:
    """The loss of a step, or a zero that can be differentiated where no lane has a segment.

    A loss over no position is not a number. The zero depends on the outputs, so that ``backward()`` reaches all
    parameters, as `DistributedDataParallel` needs it of every rank.

    Args:
        step: The step.
        loss: Its loss, a scalar.
        outputs: Tensors of the model's output that depend on its parameters, such as the logits.

    Raises:
        SettingsError: There is no loss, or no output is given.
    """
    if not isinstance(loss, Tensor):
        raise SettingsError(
            f"loss: expected a tensor, found {type(loss).__name__}; a model gives one where it is given "
            "labels, such as start_positions and end_positions"
        )
    if not outputs:
        raise SettingsError("outputs: expected a tensor of the model's output, found none")
    if step["num_active"]:
        return loss
    # nan_to_num: zero times infinity is no zero.
    return torch.stack([(output.nan_to_num() * 0).sum().to(loss.dtype) for output in outputs]).sum()

"""Recurrent state carried along documents from step to step, in any structure."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_map,
    tree_structure,
    tree_unflatten,
)

from memxlnet.errors import SettingsError
from memxlnet.load.carried_lanes import CarriedLanes, loaded_lanes, saved_lanes
from memxlnet.load.loader_options import check_batch_size, find_ranks
from memxlnet.settings import whole_number

State = Any
"""Any pytree of tensors: a tensor, or lists, tuples, dictionaries and named tuples of such; None may stand in it."""


class CarriedState:
    """The state of a recurrent model, carried from one step to the next, lane by lane.

    Where a document begins (``reset``), its lane gets the initial state; where a lane has no segment
    (``document_mask``), it holds what it had. Gradients flow through, into a learned initial state too, and the graph
    of all steps is kept, until `detach` (or, with masks on the CPU, until documents begin while none continues: then
    all lanes get the initial state, as at the beginning of a group)::

        carried = CarriedState(initial)
        for step in steps:
            loss, state = model(step, carried.before(step))
            carried.after(step, state)

    What `before` returns is the carried state itself, for the model to read, not to write into. All shapes stay
    constant, as `torch.compile` and CUDA graphs need it. Masks may lie on the CPU while the state lies elsewhere.

    `state_dict` is saved with the state of the loader, by `torch.save` or, over many ranks, by
    `torch.distributed.checkpoint`; any number of ranks resumes from both, as long as all lanes together are as many::

        carried = CarriedState(initial, batch_size=loader.batch_size)
        state = {"model": model.state_dict(), "memory": carried.state_dict(), "loader": loader.state_dict()}
        dcp.save(state, checkpoint_id=directory)
        # In another run, before its first step, the state is made in the same way; then
        dcp.load(state, checkpoint_id=directory)
        carried.load_state_dict(state["memory"])
        loader.load_state_dict(state["loader"])

    Args:
        initial: The state of a lane that begins a document: a pytree of tensors whose batch dimension has size 1 or the
            number of lanes, or a function from the number of lanes to such a pytree. All leaves have the shapes that
            the model returns.
        batch_dim: The dimension of every tensor that counts lanes: 0, or 1 for XLNet's ``mems``, a list of
            [mem_len, B, d_model].
        batch_size: Lanes of this rank in a full step, as the loader has them; `state_dict` needs it before the first
            step. None takes the most lanes of a step so far.

    Raises:
        SettingsError: `batch_dim` is not a dimension, or `batch_size` not a number of lanes.
    """

    def __init__(
        self, initial: State | Callable[[int], State], batch_dim: int = 0, *, batch_size: int | None = None
    ) -> None:
        self._initial = initial
        self._batch_dim = whole_number("batch_dim", batch_dim, 0)
        self._most_lanes = 0 if batch_size is None else check_batch_size(batch_size)
        self._state: State = None
        self._rows: Tensor | None = None
        self._loaded: tuple[CarriedLanes, dict[str, Any]] | None = None

    def __repr__(self) -> str:
        tensors = [leaf for leaf in tree_flatten(self._state)[0] if isinstance(leaf, Tensor)]
        held = f"{len(tensors)} tensors of {self._lanes()} lanes" if tensors else "no step yet"
        resumed = ", loaded" if self._loaded is not None else ""
        sizes = f"batch_dim={self._batch_dim}, batch_size={self._most_lanes or None}"
        return f"{type(self).__name__}({held}{resumed}, {sizes})"

    @classmethod
    def for_model(cls, model: torch.nn.Module, batch_size: int) -> "CarriedState":
        """Carry the ``mems`` of an XLNet model: a list of zeros, [mem_len, 1, d_model] for each layer.

        Args:
            model: A transformers model whose config has ``mem_len``, ``d_model`` and ``n_layer``.
            batch_size: Lanes of this rank in a full step, as the loader has them.

        Returns:
            A state of the type and on the device of the model's parameters.

        Raises:
            SettingsError: The config has no such fields, or ``mem_len`` is not set.
        """
        config = getattr(model, "config", None)
        sizes = [getattr(config, name, None) for name in ("n_layer", "mem_len", "d_model")]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise SettingsError(
                "model: expected a config with n_layer, mem_len and d_model above 0, as XLNet has them, found "
                f"{sizes} on {type(model).__name__}; set mem_len, or pass an initial state to CarriedState"
            )
        layers, length, width = sizes
        like = next(model.parameters())
        zeros = torch.zeros(length, 1, width, dtype=like.dtype, device=like.device)  # type: ignore[arg-type]
        return cls([zeros] * layers, batch_dim=1, batch_size=batch_size)  # type: ignore[operator]

    @property
    def state(self) -> State:
        """What is carried, the lanes of this rank; None before the first step. It can be set before a resumed loop."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._rows = self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """Return what is carried after a step, or the initial state before the first one, for `load_state_dict`.

        ``tensors`` maps the place of each tensor in the state to a copy of it, without a graph, on its device, with the
        lanes of a full step and the type of the initial state: shapes and types do not depend on the step. ``rows``
        int64[lanes] has the row of the dataset that each lane read last. Under `torch.distributed` each tensor is a
        `DTensor` of all lanes, sharded over all ranks of the default group, which must be those of the loader; nothing
        is sent. ``dtypes`` and ``version`` are words and a number.

        Raises:
            SettingsError: The number of lanes is not known, the state is not of the structure and shapes of the initial
                one, which must hold its values, or there are several ranks and no process group.
        """
        if not self._most_lanes:
            raise SettingsError(
                "batch_size: expected the lanes of this rank, to save a state before the first step, found None; make "
                "CarriedState(..., batch_size=loader.batch_size)"
            )
        if self._loaded is not None:
            return self._loaded[1]
        if self._state is not None and self._rows is None:
            raise SettingsError("state: expected after(step), of a step with its rows, ahead of saving")
        pattern = self._spread_initial(self._most_lanes)
        state = pattern if self._state is None else self._state
        found = [leaf for leaf in _leaves_in_order_of(pattern, state) if isinstance(leaf, Tensor)]
        carried = dict(zip(_named(pattern), found, strict=True))
        return saved_lanes(carried, _named(pattern), self._rows, self._batch_dim, find_ranks(None, None))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what was saved, on any number of ranks; the loader's state must be of the same step.

        Under `torch.distributed` all ranks call it together, since lanes may have to move between them. Each lane takes
        its memory in the first step, by the row with which it continues.

        Args:
            state: What `state_dict` returned. Tensors of all lanes may be plain or sharded; they are copied.

        Raises:
            SettingsError: It is not such a state, or its tensors are not those of the initial state.
        """
        pattern = _named(self._spread_initial(self._most_lanes or 1))
        loaded = loaded_lanes(state, pattern, self._batch_dim, find_ranks(None, None))
        tensors = {name: leaf.clone() for name, leaf in state["tensors"].items()}
        self._loaded = loaded, {**state, "rows": state["rows"].clone(), "tensors": tensors}
        self._state = self._rows = None

    def fresh(self, lanes: int) -> State:
        """Return a copy of the initial state for this many lanes."""
        # Copies: a model that works in place must not write into the initial state.
        return tree_map(lambda leaf: leaf if leaf is None else leaf.clone(), self._spread_initial(lanes))

    def before(self, step: Mapping[str, Any]) -> State:
        """Return the state with which a step begins: initial where a document begins, else what the last step left.

        Args:
            step: A step of the loader.

        Raises:
            SettingsError: Documents continue, but nothing is carried for them; or shapes do not fit.
        """
        if not isinstance(step, Mapping) or "reset" not in step:
            raise SettingsError(f"step: expected a step of a time-step-major loader, found {type(step).__name__}")
        reset = step["reset"]
        lanes = len(reset)
        self._most_lanes = max(self._most_lanes, lanes)
        if self._loaded is not None:
            self._take_back(self._loaded[0], step)
        elif self.state is None or self._lanes() != lanes:
            continued = int((step["document_mask"] & ~reset).sum())
            if continued:
                carried = "nothing" if self.state is None else f"the state of {self._lanes()}"
                raise SettingsError(
                    f"state: {continued} of {lanes} lanes continue a document, but {carried} is carried; load the "
                    "state that was saved with the loader's, or set .state to .fresh(lanes) to begin without memory"
                )
            self._state = self.fresh(lanes)
        elif reset.device.type != "cpu" or bool(reset.any()):
            keep = ~reset
            if reset.device.type == "cpu" and not (step["document_mask"] & keep).any():
                # No document continues, so that nothing which is carried is read again; some lanes may begin later.
                keep = torch.zeros_like(reset)
            self._state = self._where(keep, self.state, self._spread_initial(lanes))
        return self.state

    def after(self, step: Mapping[str, Any], state: State) -> None:
        """Store the state that a step left; lanes without a segment keep the state that they had.

        Args:
            step: The step.
            state: What the model returned, of the structure and shapes of the initial state.

        Raises:
            SettingsError: The structure or a shape differs.
        """
        if self.state is None:
            raise SettingsError("state: expected before(step) to be called ahead of after(step)")
        mask = step["document_mask"]
        if mask.device.type == "cpu" and bool(mask.all()):
            self._leaves(state, self.state)
            self._state = state
        else:
            self._state = self._where(mask, state, self.state)
        self._rows = step.get("rows")

    def detach(self) -> None:
        """Cut the graph: what is carried keeps its values, gradients end here (truncated backpropagation)."""
        self._state = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, self.state)

    def _take_back(self, loaded: CarriedLanes, step: Mapping[str, Any]) -> None:
        """Give each lane that continues a document what was saved for it, and the others the initial state."""
        if "rows" not in step:
            raise SettingsError("step: expected 'rows', by which lanes take back what was loaded, found none")
        keep = step["document_mask"] & ~step["reset"]
        before = torch.where(keep, step["rows"] - 1, -1).cpu()
        pattern = self._spread_initial(len(before))
        found = iter(loaded.of(before, self._batch_dim).values())
        state = tree_map(lambda leaf: next(found) if isinstance(leaf, Tensor) else leaf, pattern)
        self._state = self._where(keep, state, pattern)
        self._loaded = None

    def _spread_initial(self, lanes: int) -> State:
        """Return views of the initial state for this many lanes."""
        made = callable(self._initial) and not isinstance(self._initial, Tensor)
        found = self._initial(lanes) if made else self._initial
        if all(leaf is None for leaf in tree_flatten(found)[0]):
            raise SettingsError(f"initial: expected at least one tensor, found {_shown(found)}")
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
        """Return the leaves of two states that must fit, and the structure of the first."""
        ours, structure = tree_flatten(one)
        theirs = _leaves_in_order_of(one, other)
        shapes = [[tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in each] for each in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise SettingsError(f"state: expected constant shapes, found {shapes[0]} and {shapes[1]}")
        return ours, theirs, structure

    def _where(self, mask: Tensor, chosen: State, other: State) -> State:
        """Return lanes of `chosen` where the mask is true, else of `other`; in the structure and types of `chosen`."""
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
    """Return the leaves of a state in the order of another one: dictionaries match by names, lists match tuples.

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
        f"state: expected one structure, found {_shown(pattern)} and {_shown(other)}; give an initial state of the "
        "structure that the model returns"
    )


def _shown(state: State) -> str:
    if isinstance(state, dict):
        return f"a dictionary of {', '.join(map(repr, state))}"
    return f"{len(state)} values" if isinstance(state, list | tuple) else type(state).__name__


def _named(state: State) -> dict[str, Tensor]:
    """Return the tensors of a state by their place in it."""
    return {keystr(path): leaf for path, leaf in tree_flatten_with_path(state)[0] if isinstance(leaf, Tensor)}


def loss_or_zero(step: Mapping[str, Any], loss: Tensor, *outputs: Tensor) -> Tensor:
    """Return the loss of a step, or a zero that can be differentiated where no lane has a segment.

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
            f"loss: expected a tensor, found {type(loss).__name__}; a model returns one where it gets "
            "labels, such as start_positions and end_positions"
        )
    if not outputs:
        raise SettingsError("outputs: expected a tensor of the model's output, found none")
    if step["num_active"]:
        return loss
    # nan_to_num: zero times infinity is not zero.
    return torch.stack([(output.nan_to_num() * 0).sum().to(loss.dtype) for output in outputs]).sum()

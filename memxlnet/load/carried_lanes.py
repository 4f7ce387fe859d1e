"""Carried lanes as they are saved, and as another run loads them, over the same or another number of ranks.

A lane is known by the row that it read last: the lane that continues with the row after it takes its state, on whatever
rank that is.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.load.epoch_plan import Ranks
from memxlnet.load.loader_options import check_fields

STATE_VERSION = 1

_ENDED, _UNUSED = -1, -2
"""In place of a row: the lane has no document; the step had fewer lanes than a full one."""

Named = Mapping[str, Tensor]
"""The tensors of a state by their place in it, such as ``['h'][0]``."""


class CarriedLanes(NamedTuple):
    """Loaded lanes, of this rank or of all.

    Attributes:
        tensors: Their state, in the types in which it was carried.
        rows: int64[lanes], the row that each read last.
    """

    tensors: dict[str, Tensor]
    rows: Tensor

    def of(self, rows: Tensor, dim: int) -> dict[str, Tensor]:
        """Return copies of the state of the lanes that read `rows`; of any lane for -1.

        Args:
            rows: int64[lanes].
            dim: The dimension that counts lanes.

        Raises:
            SettingsError: No lane read one of the rows.
        """
        order = self.rows.argsort()
        found = order[torch.searchsorted(self.rows[order], rows).clamp(max=len(order) - 1)]
        missing = rows[(self.rows[found] != rows) & (rows >= 0)].tolist()
        if missing:
            raise SettingsError(
                f"state: {len(missing)} of {len(rows)} lanes continue a document, and their memory was not saved: "
                f"expected a lane that had read row {missing[0]}; load the loader's state that was saved with this one"
            )
        return {name: leaf.index_select(dim, found.to(leaf.device)) for name, leaf in self.tensors.items()}


def saved_lanes(carried: Named, initial: Named, rows: Tensor | None, dim: int, ranks: Ranks) -> dict[str, Any]:
    """Return a state that can be saved: its shapes and types are those of the initial one at every step.

    Args:
        carried: The lanes of this rank, or of the initial state.
        initial: The initial state of a full step, of the same names.
        rows: int64[lanes], the rows that the lanes read last; None before the first step.
        dim: The dimension that counts lanes.
        ranks: The place of this process.

    Raises:
        SettingsError: The initial state is of other shapes, or cannot hold what is carried; or there are several ranks
            and no process group.
    """
    tensors = {}
    for name, leaf in carried.items():
        full = initial[name]
        _check_type(name, leaf.dtype, full.dtype)
        _check_shape(name, leaf, full, dim, leaf.shape[dim])
        filled = torch.zeros_like(full, memory_format=torch.contiguous_format, requires_grad=False)
        filled.narrow(dim, 0, leaf.shape[dim]).copy_(leaf.detach())
        tensors[name] = _over_ranks(filled, dim, ranks)
    device, lanes = filled.device, filled.shape[dim]
    numbers = torch.full((lanes,), _ENDED if rows is None else _UNUSED, dtype=torch.int64, device=device)
    if rows is not None:
        numbers[: len(rows)] = rows.to(device)
    dtypes = {name: str(leaf.dtype) for name, leaf in carried.items()}
    return {"version": STATE_VERSION, "rows": _over_ranks(numbers, 0, ranks), "tensors": tensors, "dtypes": dtypes}


def loaded_lanes(state: Mapping[str, Any], initial: Named, dim: int, ranks: Ranks) -> CarriedLanes:
    """Return the lanes of a saved state that this rank may need.

    Args:
        state: The state.
        initial: The initial state of any number of lanes.
        dim: The dimension that counts lanes.
        ranks: The place of this process.

    Raises:
        SettingsError: It is not such a state, or one of another structure, shape or type.
    """
    check_fields(state, dict.fromkeys(("version", "rows", "tensors", "dtypes")))
    if type(state["version"]) is not int or state["version"] != STATE_VERSION:
        raise SettingsError(f"state: version: expected {STATE_VERSION}, found {state['version']!r}")
    tensors, dtypes = state["tensors"], state["dtypes"]
    check_fields(tensors, initial)
    check_fields(dtypes, initial)
    if not isinstance(state["rows"], Tensor) or state["rows"].dim() != 1 or not len(state["rows"]):
        raise SettingsError(f"state: rows: expected int64[lanes], found {state['rows']!r:.60}")
    rows = _whole(state["rows"])
    # All lanes of full steps lie in the same order on any number of ranks.
    is_full = not bool((rows == _UNUSED).any())
    found = {}
    for name, leaf in initial.items():
        _check_shape(name, tensors[name], leaf, dim, len(rows))
        dtype = getattr(torch, str(dtypes[name]).removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype) or tensors[name].dtype != leaf.dtype:
            raise SettingsError(
                f"state{name}: expected {leaf.dtype} as in the initial state, found {tensors[name].dtype} that was "
                f"carried as {dtypes[name]!r}"
            )
        _check_type(name, dtype, leaf.dtype)
        part = _own(tensors[name], dim, ranks) if is_full else _whole(tensors[name])
        found[name] = part.detach().to(leaf.device, dtype, copy=True)
    held = _own(state["rows"], 0, ranks) if is_full else rows
    return CarriedLanes(found, held.to("cpu", copy=True))


def _check_type(name: str, carried: torch.dtype, initial: torch.dtype) -> None:
    """Check that the initial state's type has all values of the one that is carried."""
    if carried.is_floating_point != initial.is_floating_point or initial != torch.promote_types(initial, carried):
        raise SettingsError(
            f"state{name}: expected values that the initial state's {initial} holds, found {carried}; give an initial "
            f"state of {carried}"
        )


def _check_shape(name: str, found: Any, initial: Tensor, dim: int, lanes: int) -> None:
    expected = (*initial.shape[:dim], lanes, *initial.shape[dim + 1 :])
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != expected:
        raise SettingsError(f"state{name}: expected the shape {expected} as in the initial state, found {shape}")


def _over_ranks(lanes: Tensor, dim: int, ranks: Ranks) -> Tensor:
    """Return the lanes of all ranks, sharded over them; those of this rank where there is no process group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        if ranks.world_size > 1:
            raise SettingsError(
                f"state: this is rank {ranks.rank} of {ranks.world_size} in the environment, but torch.distributed is "
                "not initialized; call torch.distributed.init_process_group first"
            )
        return lanes
    # Slow to import, and only processes of a group need it.
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = DeviceMesh.from_group(torch.distributed.group.WORLD, lanes.device.type)  # type: ignore[arg-type]
    return DTensor.from_local(lanes, mesh, [Shard(dim)], run_check=False)


def _own(found: Tensor, dim: int, ranks: Ranks) -> Tensor:
    """Return the lanes of this rank: nothing is sent where the tensor is sharded as `_over_ranks` does it."""
    mesh = getattr(found, "device_mesh", None)
    is_ours = mesh is not None and mesh.ndim == 1 and (mesh.get_local_rank(), mesh.size()) == ranks
    if is_ours and found.placements[0].is_shard(dim):  # type: ignore[attr-defined]
        local: Tensor = found.to_local()  # type: ignore[attr-defined]
        return local
    return _whole(found)


def _whole(found: Tensor) -> Tensor:
    """Return a tensor itself, or all of one that is sharded, gathered by its ranks together."""
    return found.full_tensor() if hasattr(found, "full_tensor") else found

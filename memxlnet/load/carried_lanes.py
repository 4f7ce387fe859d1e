"""The carried state of the lanes of all ranks, as it is saved, and taken apart again for other ranks.

Each rank has as many slots as its batch size, and its lanes fill the first of them: all, but in a smaller last group.
Lane i of a rank is the place ``rank * lanes + i`` among all lanes, and in the slot ``rank * slots + i``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.load.options import check_fields
from memxlnet.load.plan import Ranks
from memxlnet.settings import positive_int

STATE_VERSION = 1

Named = Mapping[str, Tensor]
"""The tensors of a state by their place in it, such as ``['h'][0]``."""


class LoadedLanes(NamedTuple):
    """What was loaded.

    Attributes:
        tensors: Lanes in the types in which they were carried.
        is_own: Whether they are those of this rank in a full batch, else they are those of all ranks.
        ranks: The place of this process.
        slots: Lanes of this rank in a full batch.
        used: Lanes of all ranks that were in use.
    """

    tensors: dict[str, Tensor]
    is_own: bool
    ranks: Ranks
    slots: int
    used: int

    @property
    def lanes(self) -> int:
        """Lanes of this rank that hold all that were in use; the step that comes next may have fewer."""
        return -(-self.used // self.ranks.world_size)

    def first_unused(self, lanes: int) -> int:
        """The first of so many lanes of this rank that nothing was saved for."""
        return min(max(self.used - self.ranks.rank * lanes, 0), lanes)

    def of_rank(self, rest: Named, dim: int) -> dict[str, Tensor]:
        """Copies of the lanes of this rank; `rest` has as many, and what those hold that nothing was saved for."""
        found = {}
        for name, tensor in self.tensors.items():
            other = rest[name].detach()
            lanes, count = other.shape[dim], tensor.shape[dim]
            begin = 0 if self.is_own else min(self.ranks.rank * lanes, count)
            here = min(lanes, count - begin)
            own = tensor.narrow(dim, begin, here)
            found[name] = torch.cat([own, other.narrow(dim, here, lanes - here).to(own)], dim)
        return found


def saved_state(carried: Named, initial: Named, dim: int, slots: int, ranks: Ranks) -> dict[str, Any]:
    """A state that can be saved, in the types of the initial one.

    Args:
        carried: The lanes of this rank.
        initial: The initial state, of the same names.
        dim: The dimension that counts lanes.
        slots: Lanes of this rank in a full batch.
        ranks: The place of this process.

    Raises:
        SettingsError: The initial state is of other shapes, or cannot hold what is carried.
    """
    lanes = next(iter(carried.values())).shape[dim] if carried else 0
    if not 0 < lanes <= slots:
        raise SettingsError(f"state: expected tensors of 1 to {slots} lanes, found {lanes}")
    tensors = {}
    for name, leaf in carried.items():
        dtype = initial[name].dtype
        _check_shape(name, leaf, initial[name], dim, lanes)
        if not _holds(dtype, leaf.dtype):
            raise SettingsError(
                f"state: {name}: expected values that the initial state's {dtype} holds, found {leaf.dtype}; give an "
                f"initial state of {leaf.dtype}"
            )
        filled = leaf.new_zeros((*leaf.shape[:dim], slots, *leaf.shape[dim + 1 :]), dtype=dtype)
        filled.narrow(dim, 0, lanes).copy_(leaf.detach())
        tensors[name] = _over_ranks(filled, dim, ranks)
    dtypes = {name: str(leaf.dtype) for name, leaf in carried.items()}
    return {
        "version": STATE_VERSION,
        "world_size": ranks.world_size,
        "lanes": lanes,
        "dtypes": dtypes,
        "tensors": tensors,
    }


def loaded_lanes(
    state: Mapping[str, Any], initial: Callable[[int], Named], dim: int, batch_size: int | None, ranks: Ranks
) -> LoadedLanes:
    """Take a saved state apart for the ranks that there are now.

    Args:
        state: The state.
        initial: The initial state of so many lanes.
        dim: The dimension that counts lanes.
        batch_size: Lanes of this rank in a full batch; None for as many as the state has.
        ranks: The place of this process.

    Raises:
        SettingsError: It is no such state, or that of another structure, other shapes or types, or other lanes.
    """
    check_fields(state, dict.fromkeys(("version", "world_size", "lanes", "dtypes", "tensors")))
    if state["version"] != STATE_VERSION:
        raise SettingsError(f"state: version: expected {STATE_VERSION}, found {state['version']!r}")
    world_size, lanes = (positive_int(f"state: {name}", state[name]) for name in ("world_size", "lanes"))
    tensors, dtypes = state["tensors"], state["dtypes"]
    check_fields(dtypes, tensors)
    slots = _slots(tensors, dim, batch_size, ranks)
    total = slots * ranks.world_size
    if total % world_size or lanes * world_size > total:
        raise SettingsError(f"state: expected {total} lanes of {world_size} ranks, found {lanes} of each")
    own = initial(slots)
    if own.keys() != tensors.keys():
        raise SettingsError(
            f"state: expected {len(own)} tensors as in the initial state, found {len(tensors)}"
            f"{_difference('missing', own, tensors)}{_difference('unknown', tensors, own)}"
        )
    for name, leaf in own.items():
        _check_shape(name, tensors[name], leaf, dim, total)
        if tensors[name].dtype != leaf.dtype:
            raise SettingsError(
                f"state: {name}: expected {leaf.dtype} as in the initial state, found {tensors[name].dtype}"
            )
    types = {name: _dtype(name, dtypes[name], leaf.dtype) for name, leaf in own.items()}
    is_full = lanes * world_size == total
    found = {}
    for name, leaf in own.items():
        part = _own_slots(tensors[name], dim, ranks) if is_full else _places(tensors[name], dim, lanes, world_size)
        found[name] = part.detach().to(leaf.device, types[name], copy=True)
    return LoadedLanes(found, is_full, ranks, slots, lanes * world_size)


def _slots(tensors: Mapping[str, Any], dim: int, batch_size: int | None, ranks: Ranks) -> int:
    """The lanes of this rank in a full batch."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.dim() <= dim:
            found = f"the shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise SettingsError(f"state: {name}: expected a tensor with lanes in dimension {dim}, found {found}")
    found_lanes = {tensor.shape[dim] for tensor in tensors.values()}
    world_size = ranks.world_size
    if batch_size is not None:
        expected = {batch_size * world_size}
    else:
        expected = {lanes for lanes in found_lanes if lanes and lanes % world_size == 0}
    if len(expected) != 1 or found_lanes - expected:
        each = f"{batch_size} on each" if batch_size is not None else "as many on each"
        raise SettingsError(
            f"state: expected the lanes of {world_size} ranks, {each}, found {sorted(found_lanes)} lanes in dimension "
            f"{dim}; save and load with batch_size= of the loader, whose global batch size must be the same"
        )
    return expected.pop() // world_size


def _check_shape(name: str, found: Tensor, initial: Tensor, dim: int, lanes: int) -> None:
    expected = (*initial.shape[:dim], lanes, *initial.shape[dim + 1 :])
    if tuple(found.shape) != expected:
        raise SettingsError(
            f"state: {name}: expected the shape {expected} as in the initial state, found {tuple(found.shape)}"
        )


def _difference(word: str, some: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    names = [name for name in some if name not in others]
    more = ", ..." if len(names) > 3 else ""
    return f"; {word}: {', '.join(map(repr, names[:3]))}{more}" if names else ""


def _dtype(name: str, found: Any, initial: torch.dtype) -> torch.dtype:
    dtype = getattr(torch, found.removeprefix("torch."), None) if isinstance(found, str) else None
    if not isinstance(dtype, torch.dtype) or not _holds(initial, dtype):
        raise SettingsError(f"state: {name}: expected a type that {initial} holds, found {found!r}")
    return dtype


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether a type has all values of another one; only floats may differ, as they do under autocast."""
    if wide == narrow or not (wide.is_floating_point and narrow.is_floating_point):
        return wide == narrow
    one, other = torch.finfo(wide), torch.finfo(narrow)
    return one.eps <= other.eps and one.max >= other.max and one.tiny <= other.tiny


def _over_ranks(slots: Tensor, dim: int, ranks: Ranks) -> Tensor:
    """The slots of all ranks, sharded over them; those of this rank where there is no process group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        if ranks.world_size > 1:
            raise SettingsError(
                f"state: this is rank {ranks.rank} of {ranks.world_size} in the environment, but torch.distributed is "
                "not initialized; call torch.distributed.init_process_group first"
            )
        return slots
    # Slow to import, and only processes of a group need it.
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = DeviceMesh.from_group(torch.distributed.group.WORLD, slots.device.type)  # type: ignore[arg-type]
    return DTensor.from_local(slots, mesh, [Shard(dim)], run_check=False)


def _own_slots(found: Tensor, dim: int, ranks: Ranks) -> Tensor:
    """The slots of this rank: without communication where the tensor is sharded as `_over_ranks` does it."""
    mesh = getattr(found, "device_mesh", None)
    is_ours = mesh is not None and mesh.ndim == 1 and (mesh.get_local_rank(), mesh.size()) == ranks
    if is_ours and found.placements[0].is_shard(dim):  # type: ignore[attr-defined]
        local: Tensor = found.to_local()  # type: ignore[attr-defined]
        return local
    slots = found.shape[dim] // ranks.world_size
    return _whole(found).narrow(dim, ranks.rank * slots, slots)


def _places(found: Tensor, dim: int, lanes: int, world_size: int) -> Tensor:
    """All places, in order, in the slots of so many ranks."""
    shape = found.shape
    by_rank = _whole(found).reshape(*shape[:dim], world_size, shape[dim] // world_size, *shape[dim + 1 :])
    return by_rank.narrow(dim + 1, 0, lanes).flatten(dim, dim + 1)


def _whole(found: Tensor) -> Tensor:
    """A tensor itself, or all of one that is sharded, gathered by its ranks together."""
    return found.full_tensor() if hasattr(found, "full_tensor") else found

"""What `select` takes, as places of documents: sequences, arrays, tensors and columns of all kinds. NumPy only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memxlnet.errors import DocumentNotFoundError, RowIndexError, SettingsError
from memxlnet.load.seeded_random import Ints

_SHOWN = 10
"""Unknown ids that an error names."""


def as_places(documents: Any, total: int, find: Callable[[str], int], where: object) -> Ints:
    """Return int64[n], the places of documents, from 0 up.

    Args:
        documents: Places, ids or a mask of documents, as `select` takes them.
        total: Documents that there are.
        find: Returns the place of an id.
        where: What holds them, for messages.

    Raises:
        SettingsError: They are of another kind, or a mask has another length.
        RowIndexError: A place is out of range.
        DocumentNotFoundError: No document has an id.
    """
    if isinstance(documents, slice):
        try:
            return np.arange(total)[documents]
        except (TypeError, ValueError) as error:
            raise _refused(f"{documents!r:.80} ({error})") from None
    if isinstance(documents, range):
        # Before it becomes an array, for which it may be too long.
        for end in (documents[:1], documents[-1:]):
            _check_range(np.array(end, object), total)
    found = _as_values(documents)
    if len(found) and isinstance(found[0], str):
        return _found(found, total, find, where)
    values = _as_array(found)
    if values.dtype.kind == "b":
        if len(values) != total:
            raise SettingsError(f"documents: expected a mask of {total} documents, found one of {len(values)}")
        return np.flatnonzero(values)
    _check_range(values, total)
    places: Ints = values.astype(np.int64)
    places[places < 0] += total
    return places


def _as_values(documents: Any) -> Sequence[Any] | NDArray[Any]:
    """Return documents as an array in one dimension, a range or a list."""
    if isinstance(documents, set | frozenset):
        raise _refused(f"{type(documents).__name__}, which has no order; sort it")
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise _refused(type(documents).__name__)
    if isinstance(documents, pa.Array | pa.ChunkedArray):
        return list(documents.to_pylist())
    found: Any = documents
    if hasattr(documents, "detach"):
        try:
            found = documents.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:
            raise _refused(
                f"{type(documents).__name__} of {getattr(documents, 'dtype', 'no type')} ({error})"
            ) from None
    if isinstance(found, range):
        return found
    if not isinstance(found, np.ndarray):
        return list(found)
    if found.ndim != 1:
        raise _refused(f"{found.dtype} with the shape {found.shape}")
    # As a list, masked values are None, which is neither a place nor an id.
    return list(found.tolist()) if found.dtype.kind == "O" or isinstance(found, np.ma.MaskedArray) else found


def _as_array(found: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Return integers or bools as an array; those that no type of NumPy holds stay objects."""
    try:
        values = np.asarray(found if len(found) else np.zeros(0, np.int64))
    except ValueError as error:
        raise _refused(f"{found!r:.80} ({error})") from None
    is_list = isinstance(found, list)
    is_large = is_list and values.dtype.kind == "O" and all(type(one) is int for one in found)
    if values.ndim != 1 or not (values.dtype.kind in "iub" or is_large):
        raise _refused(f"{values.dtype} with the shape {values.shape}")
    if is_list and values.dtype.kind != "b" and any(isinstance(one, bool | np.bool_) for one in found):
        raise _refused("integers and bools in one list")
    return values


def _check_range(values: NDArray[Any], total: int) -> None:
    wrong = np.flatnonzero((values < -total) | (values >= total))
    if len(wrong):
        raise RowIndexError(f"document {values[wrong[0]]}: expected one from {-total} to {total - 1}")


def _found(names: Iterable[Any], total: int, find: Callable[[str], int], where: object) -> Ints:
    places, unknown = [], []
    for name in names:
        try:
            places.append(find(name))
        except DocumentNotFoundError:
            unknown.append(name)
    if unknown:
        shown = ", ".join(f"{name!r:.60}" for name in unknown[:_SHOWN])
        raise DocumentNotFoundError(
            f"{where}: expected ids of its {total} documents, found {len(unknown)} others: "
            f"{shown}{', ...' if unknown[_SHOWN:] else ''}"
        )
    return np.array(places, np.int64)


def _refused(found: str) -> SettingsError:
    return SettingsError(f"documents: expected places, ids or a mask of documents in one dimension, found {found}")

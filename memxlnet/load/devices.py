"""Where tensors go: the device of a loader or a dataset, and the copies to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.load.records import BatchRecord
from memxlnet.load.tensors import MODEL_COLUMNS, FeatureTensors, as_rows

Device = str | torch.device | int | None
"""A device as torch names it; None leaves tensors where they are."""


def check_device(device: Any) -> torch.device | None:
    """Check that a device exists, and return it with its number; None stays None.

    Raises:
        SettingsError: It is not one of torch's names, not on this machine, or holds no values.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
        if found.type == "meta" or isinstance(device, bool):
            raise SettingsError(f"device: expected one that holds values, found {device!r}")
        return torch.empty(0, device=found).device
    except (RuntimeError, TypeError, ValueError, AssertionError, ImportError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise SettingsError(
            f"device: expected a device of this machine, such as 'cpu', found {device!r}: {reason}"
        ) from error


class Transfer:
    """Copies tensors to a device; on CUDA from page-locked memory, on its own stream.

    A copy is begun by `send`, in any thread; `Arrival.tensors` makes the current stream wait for it, not the process.
    Elsewhere `send` copies.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def on_stream(self) -> AbstractContextManager[Any]:
        """Return where the copies run; what is computed of them there is done when they are."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def send(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Begin to copy tensors; those already on the device stay as they are."""
        if self._stream is None:
            return {name: column.to(self._device) for name, column in columns.items()}
        with self.on_stream():
            return {
                name: column if column.device == self._device else self._copy(column)
                for name, column in columns.items()
            }

    def _copy(self, column: Tensor) -> Tensor:
        return column.pin_memory().to(self._device, non_blocking=True)

    def _send_tensors(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.send({name: value for name, value in batch.items() if isinstance(value, Tensor)})

    def sent(self) -> "Arrival | None":
        """Return what waits until all that was sent so far has arrived; None where it has."""
        return None if self._stream is None else Arrival(self._stream)

    def ahead(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield batches with their tensors on the device; on CUDA the copy of the next one is then under way."""
        if self._stream is None:
            for batch in batches:
                yield BatchRecord({**batch, **self._send_tensors(batch)})
            return
        waiting: tuple[dict[str, Any], Arrival] | None = None
        for batch in batches:
            sent = BatchRecord({**batch, **self._send_tensors(batch)}), Arrival(self._stream)
            if waiting is not None:
                yield _received(*waiting)
            waiting = sent
        if waiting is not None:
            yield _received(*waiting)


class Arrival:
    """The moment at which copies on a stream are done.

    Args:
        stream: A CUDA stream.
    """

    def __init__(self, stream: torch.cuda.Stream):
        self._event = stream.record_event()

    def tensors(self, tensors: Iterable[Any]) -> None:
        """Make tensors safe to use on the current stream, which waits for the copies and keeps the memory."""
        current = torch.cuda.current_stream()
        current.wait_event(self._event)
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                tensor.record_stream(current)


def _received(batch: dict[str, Any], arrival: Arrival) -> dict[str, Any]:
    arrival.tensors(batch.values())
    return batch


class DeviceColumns:
    """All columns of features on a device, as they are stored; they are read as `FeatureTensors` is.

    Args:
        tensors: The features, which are copied shard by shard.
        device: Where to.
    """

    def __init__(self, tensors: FeatureTensors, device: torch.device):
        self._tensors = tensors
        self._device = device
        self._columns: dict[str, Tensor] = {}
        for name in tensors.names:
            shards = tensors.column(name)
            column = shards[0].new_empty((tensors.num_rows, *shards[0].shape[1:]), device=device)
            start = 0
            for shard in shards:
                column[start : start + len(shard)] = shard
                start += len(shard)
            self._columns[name] = column
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # they are read on other streams

    def column(self, name: str) -> list[Tensor]:
        """Return a whole column itself, in a list."""
        self._tensors.check_name(name)
        return [self._columns[name]]

    def row(self, row: int) -> dict[str, Tensor]:
        """Return the model's columns of one row, `row` in range: views."""
        return {name: self._columns[name][row] for name in MODEL_COLUMNS}

    def gather(self, rows: Tensor, names: Sequence[str] = MODEL_COLUMNS, width: int | None = None) -> dict[str, Tensor]:
        """Copy rows of columns into fresh tensors on the device; `rows` are in range, on any device."""
        found = {}
        places = rows.to(self._device, non_blocking=True)
        for name in names:
            column = self._columns[name]
            if width is not None and column.dim() == 2:
                column = column.narrow(1, column.shape[1] - width if self._tensors.pad_left else 0, width)
            found[name] = column.index_select(0, places)
        return found

    def gather_any(self, rows: Any, names: Sequence[str], width: int | None = None) -> dict[str, Tensor]:
        """Check and gather rows."""
        return self.gather(as_rows(rows, self._tensors.num_rows), names, width)

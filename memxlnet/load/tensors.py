"""The one place where a map becomes torch: zero-copy columns, and rows gathered into fresh tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from arrow_schemas import features_schema
from memxlnet.errors import RowIndexError, SettingsError
from memxlnet.format.file_layout import numpy_type
from memxlnet.format.padding import CONTEXT_PLACES
from memxlnet.format.published import FeatureShard, PublishedCache
from memxlnet.load.gather import stored_rows
from memxlnet.load.option_literals import Dtype

MODEL_COLUMNS = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
"""What a model takes, in the order of a model's arguments."""


TOKEN_COLUMNS = MODEL_COLUMNS[:3]
"""The columns with a value for each token, which are almost all of a cache."""

POSITION_COLUMNS = ("start_positions", "end_positions", "cls_index", "context_row_start", "question_row_start")
"""The number columns that count tokens of the whole row."""


class ModelTensors(TypedDict):
    """What every step and every batch holds: rows of W tokens."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    start_positions: Tensor
    end_positions: Tensor
    cls_index: Tensor
    segment_index: Tensor
    rows: Tensor


class FeatureTensors:
    """The features of a cache as tensors.

    Attributes:
        num_rows: Rows over all shards.
        names: Names of the columns.
        dtypes: The types of their values, by name.
        pad_left: Whether rows are padded, and cut, on the left.
    """

    def __init__(self, cache: PublishedCache):
        self.num_rows = cache.num_rows
        self._shards = cache.features
        self._place = cache.manifest.tables["features"].shard_of
        self.dtypes = feature_dtypes(cache)
        self.names = tuple(self.dtypes)
        self.pad_left = cache.manifest.layout.pad_left
        self._open(cache)

    def _open(self, cache: PublishedCache) -> None:
        self._columns = {name: [self._tensor(shard, name) for shard in cache.features] for name in self.names}
        self._model_columns = [[(name, shard.columns[name]) for name in MODEL_COLUMNS] for shard in cache.features]
        self._rows = stored_rows(cache.features, self.pad_left)

    def _tensor(self, shard: FeatureShard, name: str) -> Tensor | None:
        # Torch has no read-only tensors: over a read-only map it would warn, and a write would end the process.
        is_stored = name != "document" or not shard.document_start
        return torch.from_numpy(shard.columns[name]) if shard.writable and is_stored else None

    @property
    def token_bytes(self) -> int:
        """Bytes of the token columns in all shards."""
        return sum(shard.columns[name].nbytes for shard in self._shards for name in TOKEN_COLUMNS)

    def advise(self, option: int) -> None:
        """Advise the system how the token columns will be read (madvise)."""
        for shard in self._shards:
            for name in TOKEN_COLUMNS:
                shard.advise(option, name, 0, shard.row_stop - shard.row_start)

    def advise_rows(self, option: int, rows: Tensor) -> None:
        """Advise the system how the token columns of some rows, in range, will be read: one call per row and column."""
        for row in dict.fromkeys(rows.tolist()):
            shard, local = self._place(row)
            for name in TOKEN_COLUMNS:
                self._shards[shard].advise(option, name, local, local + 1)

    def column(self, name: str) -> list[Tensor]:
        """Return a whole column, one tensor per shard: views of the map (copies where the map is read-only)."""
        self.check_name(name)
        views = self._columns[name]
        return [
            view if view is not None else torch.from_numpy(np.array(shard.take(name, slice(None))))
            for view, shard in zip(views, self._shards, strict=True)
        ]

    def row(self, row: int) -> dict[str, Tensor]:
        """Return the model's columns of one row in range: views of the map (copies where the map is read-only)."""
        shard, local = self._place(row)
        columns = self._model_columns[shard]
        if self._shards[shard].writable:
            return {name: torch.from_numpy(column[local, ...]) for name, column in columns}
        return {name: torch.from_numpy(np.array(column[local])) for name, column in columns}

    def number(self, name: str, row: int) -> int:
        """Return one value of a number column, `row` in range."""
        shard, local = self._place(row)
        return int(self._shards[shard].take(name, local))

    def gather(self, rows: Tensor, names: Sequence[str] = MODEL_COLUMNS, width: int | None = None) -> dict[str, Tensor]:
        """Copy rows of columns into fresh tensors: one gather per column.

        Args:
            rows: int64[n] rows, in range (0 and up).
            names: The columns.
            width: Cut the rows of token columns on the padding side to this many tokens, 1 to `max_seq_length`; what is
                cut off is not read. Positions stay as they are stored: they count in the whole row.

        Returns:
            The columns by name, in their stored types: [n, width] or [n].
        """
        return self._rows.gather(rows, names, width)

    def gather_any(self, rows: Any, names: Sequence[str], width: int | None = None) -> dict[str, Tensor]:
        """Check and gather rows: any integers in one dimension, negative ones counted from the end.

        Raises:
            RowIndexError: A row is out of range.
            SettingsError: They are not integers in one dimension.
        """
        if isinstance(rows, Tensor) and rows.dtype is torch.int64 and rows.dim() == 1 and rows.is_cpu:
            try:
                # The gather checks the range; another check would cost as much as a small gather.
                return self._rows.gather(rows, names, width)
            except (IndexError, RuntimeError, TypeError):
                pass
        return self._rows.gather(as_rows(rows, self.num_rows), names, width)

    def check_name(self, name: str) -> None:
        """Check that there is a column of this name.

        Raises:
            SettingsError: There is no such column.
        """
        if not isinstance(name, str) or name not in self.dtypes:
            raise SettingsError(f"column: expected one of {', '.join(self.names)}, found {name!r}")


def feature_dtypes(cache: PublishedCache) -> dict[str, np.dtype[Any]]:
    """Return the types of the values of all columns of features, by name; no shard is read."""
    kinds = {field.name: field.type for field in features_schema(cache.manifest.max_seq_length)}
    return {
        name: np.dtype(numpy_type(kind.value_type if pa.types.is_fixed_size_list(kind) else kind))
        for name, kind in kinds.items()
    }


def as_rows(rows: Any, num_rows: int, lanes: bool = False) -> Tensor:
    """Return row indices as int64[n], negative ones counted from the end.

    Args:
        rows: A tensor, array, range, slice or sequence of integers.
        num_rows: Number of rows there are.
        lanes: They are rows of lanes: -1 is a lane without a segment and stays -1, others count from the start.

    Raises:
        RowIndexError: A row is out of range.
        SettingsError: They are not integers in one dimension.
    """
    if isinstance(rows, slice):
        rows = range(*rows.indices(num_rows))
    if isinstance(rows, Tensor) and (rows.is_meta or rows.layout is not torch.strided):
        raise SettingsError(f"rows: expected a tensor of values, found one on {rows.device} with {rows.layout}")
    if isinstance(rows, Tensor) and rows.dtype == torch.uint64:
        rows = rows.numpy(force=True)
    if isinstance(rows, Tensor):
        wanted = rows
    else:
        try:
            array = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
        except (TypeError, ValueError) as error:
            raise SettingsError(f"rows: expected a sequence of integers, found {rows!r:.80} ({error})") from None
        if array.size and array.dtype.kind not in "iu":
            raise SettingsError(f"rows: expected integers, found {array.dtype}")
        if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            # As int64 it would wrap around and count from the end.
            raise RowIndexError(f"row {array.max()}: expected a row from {-num_rows} to {num_rows - 1}")
        wanted = torch.from_numpy(np.array(array, np.int64))
    if wanted.dtype != torch.int64:
        if wanted.is_floating_point() or wanted.is_complex() or wanted.dtype == torch.bool:
            raise SettingsError(f"rows: expected integers, found {wanted.dtype}")
        wanted = wanted.to(torch.int64)
    if wanted.dim() != 1:
        raise SettingsError(f"rows: expected one dimension, found the shape {tuple(wanted.shape)}")
    if not wanted.numel():
        return wanted
    low, high = (int(value) for value in torch.aminmax(wanted))
    least = -1 if lanes else -num_rows
    if low < least or high >= num_rows:
        bad = low if low < least else high
        raise RowIndexError(f"row {bad}: expected a row from {least} to {num_rows - 1}")
    return torch.where(wanted < 0, wanted + num_rows, wanted) if low < 0 and not lanes else wanted


def as_dtype(columns: dict[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """Return the columns as int64, or as stored; gathered columns are never shared, so stored ones pass through."""
    if dtype == "stored":
        return columns
    return {name: column.to(torch.int64) for name, column in columns.items()}


def context_mask(places: Mapping[str, Tensor], width: int, shift: int = 0) -> Tensor:
    """Return bool[rows, width], the tokens of the context.

    Args:
        places: int[rows] by name, `CONTEXT_PLACES`.
        width: Tokens in a row.
        shift: Tokens that were cut off before them.
    """
    token = torch.arange(shift, shift + width, device="cpu")
    first, count = (places[name][:, None] for name in CONTEXT_PLACES)
    return (token >= first) & (token < first + count)

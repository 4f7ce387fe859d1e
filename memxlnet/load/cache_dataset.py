"""Datasets over a published cache: lazy (the page cache is the data) and eager (the files are read into RAM)."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.format.joined import opened
from memxlnet.format.lazy_features import ShardSource
from memxlnet.format.manifest import Manifest
from memxlnet.format.padding import CONTEXT_PLACES, RowWidths
from memxlnet.format.paths import as_directory
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints, bounds_of
from memxlnet.load.compat import Compat, EarlierReader, check_compat, earlier_batch
from memxlnet.load.deferred import DeferredBatch
from memxlnet.load.devices import Device, DeviceColumns, check_device
from memxlnet.load.document_ids import DocumentIds, DocumentMap, checked_index
from memxlnet.load.lazy_tensors import LazyTensors
from memxlnet.load.option_literals import Dtype
from memxlnet.load.records import Segment
from memxlnet.load.row_batch import RowBatch
from memxlnet.load.segment_metadata import SegmentReader
from memxlnet.load.segment_windows import Documents, rows_of
from memxlnet.load.tensors import MODEL_COLUMNS, POSITION_COLUMNS, FeatureTensors, as_dtype, as_rows, context_mask
from memxlnet.load.views import Viewable
from memxlnet.notebook import html_table
from memxlnet.settings import check_bool, one_of, positive_int

Kind = TypeVar("Kind", bound="CacheDataset")

BATCH_COLUMNS = (*MODEL_COLUMNS, "cls_index", "segment_index", "document")
"""The columns of `__getitems__`."""


class CacheDataset(Dataset[dict[str, Any]], Viewable):
    """The segments of a cache, in order; documents one after the other.

    ``dataset[i]`` is a dictionary of

    - ``input_ids`` int32[L], ``attention_mask`` int8[L], ``token_type_ids`` int8[L], ``start_positions`` int64[],
      ``end_positions`` int64[]: zero-copy views of the map. A write to one stays visible in this process and never
      reaches the file; with ``copies=True`` they are copies in `dtype`;
    - ``example_id``, ``segment_index``, ``total_segments`` (of the document in this cache), ``question``, ``context``;
    - ``offset_mapping`` int32[L, 2]: start and stop of each token in its text, in Unicode code points; (0, 0) for
      special, memory and padding tokens;
    - ``cls_index``, ``mem_read_start``, ``mem_write_start``: places in the row, -1 where there are no memory tokens;
    - ``has_answer`` (the document has a span), ``has_answer_in_segment`` (this segment holds it whole),
      ``chosen_answer_text`` (the gold answer as given, empty for none) and ``chosen_answer_char_span`` (half-open in
      code points of the context, (-1, -1) for none);
    - ``source``: the name of the source, one of `sources`; a kept column of this name is shown instead;
    - the kept columns of its document, where the cache has any, as Python values.

    Indices behave like those of a list: negative ones count from the end, slices and sequences of indices give lists,
    others raise `RowIndexError`, an `IndexError`, or `IndexTypeError`, a `TypeError`. Pickling carries the path and
    opens the cache again.

    `select`, `filter`, `shuffle`, `take`, `skip`, `sample`, `train_test_split` and `folds` return views: datasets over
    the same maps with some of the documents. Indices and the length count the rows of a view; ``rows`` of steps and
    batches, `gather` and `metadata` count those of the cache, so that they mean the same in all views.

    A plain ``DataLoader(dataset)``, a ``Subset`` and the Trainer of transformers read whole batches, in `dtype`.

    Args:
        directory: The published cache.
        in_memory: Read the files into RAM instead of mapping them.
        copies: Return copies in ``dataset[i]``.
        dtype: Type of rows that are copies: ``"int64"`` for any transformers model, ``"stored"`` for the types of the
            file, which BERT's embedding of segment ids does not take.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the keys and values of the earlier code base, as copies;
            `column` and `gather` read what is stored.
        device: Copy all columns there, and gather there: rows, batches and columns are on it. Texts are not.

    Raises:
        CacheError: The cache is missing, damaged, or of another format version.
        SettingsError: There is no such type, or no such device.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        in_memory: bool = False,
        copies: bool = False,
        dtype: Dtype = "int64",
        compat: Compat | None = None,
        device: Device = None,
    ):
        self._open([as_directory("directory", directory)], in_memory, copies, dtype, compat, device)

    def _open(
        self,
        directories: Sequence[str | os.PathLike[str]],
        in_memory: bool,
        copies: bool,
        dtype: str,
        compat: Compat | None,
        device: Device,
        source: ShardSource | None = None,
    ) -> None:
        check_bool("in_memory", in_memory)
        self._check_options(copies, dtype, compat, device)
        self._read(opened(directories, in_memory and self.device is None, source))

    def _check_options(self, copies: bool, dtype: str, compat: Compat | None, device: Device) -> None:
        self._copies = check_bool("copies", copies)
        self._dtype = one_of("dtype", dtype, get_args(Dtype))
        self.device = check_device(device)
        self.compat = check_compat(compat, self.device)

    def _read(self, cache: PublishedCache) -> None:
        if cache.source is not None and self.device is not None:
            raise SettingsError(
                f"device: expected None for a lazy cache, found {self.device}: a dataset on a device holds all rows; "
                "give device= to the loader, or pull the cache without lazy=True"
            )
        self.cache = cache
        self.tensors = FeatureTensors(cache) if cache.source is None else LazyTensors(cache)
        self._columns = self.tensors if self.device is None else DeviceColumns(self.tensors, self.device)
        self._num_rows = self.cache.num_rows
        self._chosen: Ints | None = None
        self._set_compat(self.compat)

    def _set_compat(self, compat: Compat | None) -> None:
        self.compat = compat
        self._segments = EarlierReader(self.cache) if compat else SegmentReader(self.cache)

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        copies: bool = False,
        dtype: Dtype = "int64",
        compat: Compat | None = None,
        device: Device = None,
    ) -> Self:
        """Open a published cache by its directory; needs no tokenizer.

        Args:
            directory: The published cache.
            copies: Return copies in ``dataset[i]``.
            dtype: Type of rows that are copies, ``"int64"`` or ``"stored"``.
            compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.
            device: Copy all columns there, and gather there.

        Raises:
            CacheError: The cache is missing, damaged, or of another format version.
            SettingsError: There is no such type, or no such device.
        """
        dataset = cls.__new__(cls)
        Dataset.__init__(dataset)
        dataset._open([as_directory("directory", directory)], cls._in_memory, copies, dtype, compat, device)
        return dataset

    @classmethod
    def of(
        cls,
        cache: PublishedCache,
        *,
        copies: bool = False,
        dtype: Dtype = "int64",
        compat: Compat | None = None,
        device: Device = None,
    ) -> Self:
        """Return a dataset over a cache that is open; the arguments are those of `open`.

        Raises:
            SettingsError: There is no such type, or no such device.
        """
        dataset = cls.__new__(cls)
        Dataset.__init__(dataset)
        dataset._check_options(copies, dtype, compat, device)
        dataset._read(cache)
        return dataset

    def at_epoch(self, epoch: int) -> "CacheDataset":
        """Return the documents that an epoch reads: this dataset, except where it is a mixture."""
        return self

    @property
    def options(self) -> dict[str, Any]:
        """How rows are read, by the names of the arguments."""
        return {
            "in_memory": self.cache.in_memory,
            "copies": self._copies,
            "dtype": self._dtype,
            "compat": self.compat,
            "device": self.device and str(self.device),
        }

    def with_compat(self, compat: Compat | None) -> Self:
        """Return this dataset, or one over the same maps whose rows and batches have another meaning.

        Args:
            compat: ``"memxlnet-0"`` for that of the earlier code base; None leaves it as it is.

        Raises:
            SettingsError: It is not a known meaning.
        """
        if check_compat(compat, self.device) in (None, self.compat):
            return self
        dataset = self._copy(type(self), self.__dict__)
        dataset._set_compat(compat)
        return dataset

    @property
    def chosen(self) -> Ints | None:
        """int64[documents], the documents of a view in their order, read-only; None for the whole cache."""
        return self._chosen

    def _view(self, documents: Ints) -> Self:
        return self._view_as(type(self), documents)

    def _view_as(self, kind: type[Kind], documents: Ints) -> Kind:
        documents.flags.writeable = False
        kept = {name: value for name, value in self.__dict__.items() if name not in ("document_map", "_starts")}
        return self._copy(kind, kept | {"_chosen": documents})

    def _copy(self, kind: type[Kind], attributes: dict[str, Any]) -> Kind:
        dataset = object.__new__(kind)
        # The first one stays alive: its temporary directory is removed with it. Those in between need not.
        dataset.__dict__ = {"_original": self, **attributes}
        return dataset

    @cached_property
    def _starts(self) -> Ints:
        """int64[documents + 1], the rows of a view before each document."""
        return bounds_of(self.documents.num_segments)

    def rows(self, places: Any = None) -> Ints:
        """Return the rows of the cache at some places of this dataset.

        Args:
            places: int64[n] tensor, array, range, slice or sequence, negative ones from the end; None for all.

        Returns:
            int64[n].

        Raises:
            RowIndexError: A place is out of range.
            SettingsError: They are not integers in one dimension.
        """
        if places is None:
            return np.arange(len(self)) if self._chosen is None else rows_of(self.documents)
        return self._rows_at(as_rows(places, len(self)).numpy(force=True))

    def _rows_at(self, places: Ints) -> Ints:
        """Return the rows of the cache at int64[n] places in range."""
        if self._chosen is None:
            return places
        document = np.searchsorted(self._starts, places, side="right") - 1
        rows: Ints = self.documents.first_segment[document] + places - self._starts[document]
        return rows

    @property
    def rows_of_view(self) -> Ints | None:
        """int64[rows], the rows of a view; None for the whole cache."""
        return None if self._chosen is None else self.rows()

    _in_memory = False

    def __getstate__(self) -> dict[str, Any]:
        directories = [str(directory) for directory in self.cache.directories]
        state = {"directories": directories, "source": self.cache.source, "chosen": self._chosen, **self.options}
        is_whole = self._chosen is None and len(directories) == 1
        return state if is_whole else state | {"fingerprint": self.manifest.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        names = ("directories", "in_memory", "copies", "dtype", "compat", "device", "source")
        self._open(*(state[name] for name in names))
        own = self.manifest.fingerprint
        if (expected := state.get("fingerprint", own)) != own:
            raise CacheMismatchError(
                f"{self.directory}: expected the cache of a view (fingerprint {expected[:16]}), found another one "
                f"(fingerprint {own[:16]}); choose its documents again"
            )
        self._chosen = state["chosen"]
        if self._chosen is not None:
            self._chosen.flags.writeable = False

    def __repr__(self) -> str:
        of = "" if self._chosen is None else f", a view of {self.cache.num_documents}"
        return f"{type(self).__name__}({str(self.directory)!r}, {len(self)} rows, {self.num_documents} documents{of})"

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._table_rows())

    def _table_rows(self) -> dict[str, object]:
        """Return what a notebook shows."""
        of = "" if self._chosen is None else f" (a view of {self.cache.num_documents:,})"
        return {
            "sources": ", ".join(self.sources),
            "documents": f"{self.num_documents:,}{of}",
            "segments": len(self),
            "tokens of a row": self.manifest.max_seq_length,
            "fields": ", ".join(self._segments.fields),
            **{name: value for name, value in self.options.items() if value},
            "directory": self.directory,
        }

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources: one, or one for each cache of a dataset over several."""
        return self.cache.sources

    @property
    def directory(self) -> Path:
        """Where the cache lies; of several, the directory that they have in common."""
        return self.cache.directory

    @property
    def manifest(self) -> Manifest:
        """What the cache holds and was made from."""
        return self.cache.manifest

    def __len__(self) -> int:
        return self._num_rows if self._chosen is None else int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor | NDArray[np.integer]) -> list[dict[str, Any]]: ...

    def __getitem__(
        self, index: int | slice | Sequence[int] | Tensor | NDArray[np.integer]
    ) -> dict[str, Any] | list[dict[str, Any]]:
        if type(index) is not int:
            if isinstance(index, slice):
                return [self[row] for row in range(*index.indices(len(self)))]
            if (isinstance(index, Sequence) and not isinstance(index, str)) or getattr(index, "ndim", 0) > 0:
                return [self[row] for row in as_rows(index, len(self)).tolist()]
        row = self._row(index)
        item = Segment(self._model_tensors(row))
        item.update(self._segments.metadata(row))
        if self.compat:
            item["token_type_ids"] = self._context_mask(torch.tensor([row], device="cpu"))[0]
            item.update({name: item[name].to(torch.int64) for name in MODEL_COLUMNS})
            return item
        item["offset_mapping"] = torch.from_numpy(item["offset_mapping"])
        return item

    def model_tensors(self, index: int) -> dict[str, Tensor]:
        """Return the model's tensors of one row without the metadata, which takes most time of ``dataset[index]``.

        Args:
            index: The row; a negative one counts from the end.

        Returns:
            What ``dataset[index]`` holds for the model: zero-copy views of the map, or copies with ``copies=True``.

        Raises:
            RowIndexError: The row is out of range.
        """
        return self._model_tensors(self._row(index))

    def _model_tensors(self, row: int) -> dict[str, Tensor]:
        found = self._columns.row(row)
        return as_dtype({name: value.clone() for name, value in found.items()}, self._dtype) if self._copies else found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def _row(self, index: Any) -> int:
        hint = f"; a whole column is dataset.column({index!r})" if isinstance(index, str) else ""
        row = checked_index("row", index, len(self), hint)
        return row if self._chosen is None else int(self._rows_at(np.array([row]))[0])

    def __getitems__(self, rows: Sequence[int] | DeferredBatch) -> Any:
        """Gather many rows at once: what torch's `DataLoader` calls.

        Args:
            rows: Row indices, negative ones from the end; or a batch of a time-step-major loader, which is read.

        Returns:
            Row dictionaries over gathered columns, in `dtype`: `BATCH_COLUMNS`, and ``rows``, the row indices.
        """
        if isinstance(rows, DeferredBatch):
            return rows.read()
        wanted = as_rows(rows, len(self))
        if self._chosen is not None:
            wanted = torch.from_numpy(self._rows_at(wanted.numpy(force=True)))
        return RowBatch(partial(self._gather_batch, wanted), wanted, self._dtype)

    def _gather_batch(self, rows: Tensor) -> dict[str, Tensor]:
        columns = self.gather_rows(rows, BATCH_COLUMNS)
        if self.compat:
            columns["token_type_ids"] = self._context_mask(rows).to(columns["token_type_ids"].dtype)
        return columns | {"rows": rows}

    def column(self, name: str) -> Tensor | list[Tensor]:
        """Return a whole column of features as one zero-copy tensor, or one per shard where there are several.

        Args:
            name: Any column of the features table.

        Returns:
            A view of the map: token columns are [rows, max_seq_length], all others [rows]. A copy where the system
            allows no private map. Of a dataset on a device, the column there.

        Raises:
            SettingsError: There is no such column.
        """
        if self._chosen is not None:
            raise SettingsError(
                f"column: expected a whole cache, found a view of {self.num_documents} of its documents; "
                f"gather(dataset.rows(), [{name!r}]) copies those of the view"
            )
        views = self._columns.column(name)
        return views[0] if len(views) == 1 else views

    def gather(self, rows: Any, columns: Sequence[str] = MODEL_COLUMNS, width: int | None = None) -> dict[str, Tensor]:
        """Copy rows into fresh tensors: one gather per column for any number of rows.

        Args:
            rows: int64[n] tensor, array, range, slice or sequence of row indices, negative ones from the end.
            columns: Columns of the features table.
            width: Tokens of a row to keep, 1 to `max_seq_length`: padding is cut off, and not read. Positions
                (`start_positions`, `end_positions`, `cls_index`, `context_row_start`, `question_row_start`) then count
                in the cut row. None keeps whole rows.

        Returns:
            The columns by name in their stored types, [n, width] or [n]; copies.

        Raises:
            RowIndexError: A row is out of range.
            SettingsError: There is no such column, the rows are not integers, or the width is out of range or would cut
                real tokens off.
        """
        if columns is not MODEL_COLUMNS:
            if isinstance(columns, str) or not isinstance(columns, Iterable):
                raise SettingsError(f"columns: expected a sequence of column names, found {columns!r}")
            columns = tuple(columns)
            for name in columns:
                self.tensors.check_name(name)
        return self._columns.gather_any(rows, columns) if width is None else self._gather_cut(rows, columns, width)

    def gather_rows(
        self, rows: Tensor, columns: Sequence[str] = MODEL_COLUMNS, width: int | None = None
    ) -> dict[str, Tensor]:
        """Gather without checks: for int64 rows from 0 up, and a width that holds them; positions stay as stored."""
        return self._columns.gather(rows, columns, width)

    def _gather_cut(self, rows: Any, columns: Sequence[str], width: int) -> dict[str, Tensor]:
        widths = self._widths
        width = positive_int("width", width, " (or None)")
        if width > widths.max_seq_length:
            raise SettingsError(f"width: expected at most max_seq_length, {widths.max_seq_length}, found {width}")
        found = self._columns.gather_any(rows, (*columns, *CONTEXT_PLACES), width)
        lengths = widths.lengths({name: found[name].numpy(force=True) for name in CONTEXT_PLACES})
        if len(lengths) and (longest := int(lengths.max())) > width:
            row = int(as_rows(rows, self._num_rows)[int(lengths.argmax())])
            raise SettingsError(
                f"width: expected at least {longest}, the real tokens of row {row}, found {width}; a width must hold "
                "every real token of the rows"
            )
        if shift := widths.shift(width):
            for name in POSITION_COLUMNS:
                if name in found:
                    found[name].sub_(shift)
        return {name: found[name] for name in columns}

    @cached_property
    def _widths(self) -> RowWidths:
        return RowWidths(self.manifest.layout, self.manifest.max_seq_length)

    def metadata(self, rows: Any, names: Iterable[str] | None = None) -> list[dict[str, Any] | None]:
        """Return everything of ``dataset[i]`` but the model's tensors, for many rows; ``offset_mapping`` is an array.

        Args:
            rows: Rows of the cache, such as the ``rows`` of a step, or ``dataset.rows(places)`` of a view; -1 is a lane
                without a segment.
            names: Fields, kept columns among them; None for all.

        Returns:
            A dictionary for each row, None for -1.

        Raises:
            RowIndexError: A row is out of range.
            SettingsError: There is no such field, or the rows are not integers.
        """
        if isinstance(names, str) or not isinstance(names, Iterable | None):
            raise SettingsError(f"names: expected a sequence of names or None, found {names!r}")
        known = self._segments.fields
        fields = known if names is None else tuple(names)
        for name in fields:
            if name not in known:
                raise SettingsError(f"names: expected names of {', '.join(known)}, found {name!r}")
        wanted = as_rows(rows, self._num_rows, lanes=True).tolist()
        kept = self._segments.kept.intersection(fields)
        found = (None if row < 0 else self._segments.metadata(row, kept) for row in wanted)
        return [one and {name: one[name] for name in fields} for one in found]

    def finished(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a step or batch as the loaders yield it: with the meaning that `compat` asks for.

        Args:
            batch: One with ``rows``, int64[B], -1 in ended lanes.
        """
        if self.compat is None:
            return batch
        rows = batch["rows"]
        mask = self._context_mask(rows.cpu().clamp(min=0)).to(rows.device)
        return earlier_batch(batch, self.metadata(rows), mask)

    def _context_mask(self, rows: Tensor) -> Tensor:
        return context_mask(self.tensors.gather(rows, CONTEXT_PLACES), self.manifest.max_seq_length)

    @property
    def features(self) -> Self:
        """The rows under their earlier name: the dataset itself, a sequence that reads them when they are asked for."""
        return self

    @property
    def dataset_name(self) -> str:
        """Name of the source."""
        return self.manifest.name

    @property
    def split(self) -> str:
        """Split of the source."""
        return self.manifest.split

    @property
    def cache_params(self) -> dict[str, Any]:
        """The settings of the cache."""
        return self.manifest.settings

    @cached_property
    def document_map(self) -> DocumentMap:
        """From a document's id to the rows of its segments: a view, read from the cache when it is asked."""
        return DocumentMap(self.cache, self._chosen)

    def get_document_segments(self, example_id: str) -> list[int]:
        """Return the rows of a document's segments, in order.

        Raises:
            DocumentNotFoundError: No document has this id.
        """
        return list(self.document_map[example_id])

    def get_all_documents(self) -> DocumentIds:
        """Return the ids of all documents, in the order of the source: a sequence that reads them when asked."""
        return self.document_map.ids

    @property
    def documents(self) -> Documents:
        """Where the segments of each document lie: first rows and counts."""
        return self.document_map.documents

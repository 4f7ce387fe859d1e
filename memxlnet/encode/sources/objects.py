"""Objects in memory as sources: `datasets` objects and iterables of mappings."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from memxlnet.encode.sources.base import HashedFile
from memxlnet.errors import SourceError, SourceNotFoundError

_BATCH_ROWS = 1000


def is_datasets_object(value: object, kind: str) -> bool:
    """Whether a value is a `datasets.{kind}`; never imports datasets: a value of it proves that it is loaded."""
    module = sys.modules.get("datasets")
    return module is not None and isinstance(value, getattr(module, kind))


class DatasetSource:
    """A `datasets.Dataset`, identified by its own fingerprint."""

    def __init__(self, dataset: Any, name: str):
        self._dataset = dataset
        self.name = name

    @property
    def total(self) -> int | None:
        """Number of rows."""
        return len(self._dataset)

    def identity(self) -> dict[str, Any]:
        """The fingerprint that `datasets` keeps over content and transforms."""
        return {"kind": "datasets.Dataset", "fingerprint": self._dataset._fingerprint}

    def provenance(self) -> dict[str, Any]:
        """Nothing: the object lies in memory."""
        return {}

    def rows(self) -> Iterator[Any]:
        """The rows, in batches through Arrow whatever format the dataset is set to."""
        for table in self._dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS):
            yield from table.to_pylist()

    def place(self, row: int) -> tuple[str, int]:
        """The source's name and the row."""
        return self.name, row

    def check_unchanged(self) -> None:
        """Datasets are immutable."""


class IterableSource:
    """Any iterable of mappings, `datasets.IterableDataset` included.

    Without an explicit identity its content is digested in a first pass. A one-shot iterator allows no second pass, so
    it needs one.
    """

    def __init__(self, items: Iterable[Any], name: str, identity: str | None):
        one_shot = iter(items) is items
        if one_shot and identity is None:
            raise SourceError(
                f"{name}: a one-shot iterator ({type(items).__name__}) cannot be read twice, so its content cannot be "
                "told beforehand; pass identity='...', a text that changes whenever the content does, or a list"
            )
        self._items = items
        self.name = name
        self._explicit = identity
        self._digest: str | None = None

    @property
    def total(self) -> int | None:
        """Number of rows where the iterable has a length."""
        try:
            return len(self._items)  # type: ignore[arg-type]
        except TypeError:
            return None

    def identity(self) -> dict[str, Any]:
        """The identity that was given, or the digest of the rows."""
        if self._explicit is not None:
            return {"kind": "iterable", "identity": self._explicit}
        if self._digest is None:
            self._digest = _digest(self.rows(), self.name)
        return {"kind": "iterable", "sha256": self._digest}

    def provenance(self) -> dict[str, Any]:
        """Nothing: the object lies in memory."""
        return {}

    def rows(self) -> Iterator[Any]:
        """The rows as the iterable gives them."""
        return iter(self._items)

    def place(self, row: int) -> tuple[str, int]:
        """The source's name and the row."""
        return self.name, row

    def check_unchanged(self) -> None:
        """Not told: a second digest would cost a third pass."""


def _digest(rows: Iterable[Any], name: str) -> str:
    """A digest of the fields that a cache is made from, row by row."""
    digest = hashlib.sha256()
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            fields: Any = {field: row.get(field, None) for field in ("id", "question", "context", "answers")}
            fields["missing"] = sorted({"id", "question", "context", "answers"} - set(row))
        else:
            fields = type(row).__name__
        try:
            line = json.dumps(fields, sort_keys=True, default=_plain)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{name}, row {number}: holds a value that cannot be digested: {error}") from error
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    # No field of an example may hold such a value; whether that is an error is decided when the row is read.
    return f"{type(value).__name__} {value!r}"


class HubSource:
    """A dataset of the Hub, or a local dataset repository, streamed through `datasets`.

    Its identity is the revision: the resolved data files of the split, which hold the commit for a Hub dataset, and
    the digests of local files.
    """

    def __init__(
        self,
        name: str,
        split: str,
        config_name: str | None,
        revision: str | None,
        token: str | None,
        hashed_file: Callable[[str], HashedFile],
    ):
        import datasets

        self.name = name
        self._split = split
        self._hashed_file = hashed_file
        self._local: list[HashedFile] = []
        try:
            self._builder = datasets.load_dataset_builder(name, config_name, revision=revision, token=token)
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{name}: no such dataset on the Hub, and no local directory: {error}") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise SourceError(
                f"{name}: cannot be opened as a dataset of the Hub or a directory of one: {error}"
            ) from error
        splits = self._splits()
        if splits and split not in splits:
            raise SourceError(f"{name}: unknown split {split!r}; expected one of {', '.join(map(repr, splits))}")

    def _splits(self) -> list[str]:
        files = self._builder.config.data_files or {}
        return sorted({*map(str, files), *map(str, self._builder.info.splits or {})})

    @property
    def total(self) -> int | None:
        """Number of rows as the dataset's card states it."""
        info = (self._builder.info.splits or {}).get(self._split)
        return info.num_examples or None if info is not None else None

    def identity(self) -> dict[str, Any]:
        """The builder, its configuration and the data files of the split."""
        files = (self._builder.config.data_files or {}).get(self._split)
        identity: dict[str, Any] = {
            "kind": "hub",
            "builder": type(self._builder).__name__,
            "config": self._builder.config.name,
        }
        if files is None:
            return {**identity, "name": self.name, "hash": self._builder.hash}
        self._local = [self._hashed_file(str(file)) for file in files if "://" not in str(file)]
        remote = [str(file) for file in files if "://" in str(file)]
        return {**identity, "files": remote + [f"sha256:{file.known().sha256}" for file in self._local]}

    def provenance(self) -> dict[str, Any]:
        """The name on the Hub."""
        return {"name": self.name}

    def rows(self) -> Iterator[Any]:
        """The rows of the split, streamed."""
        try:
            yield from self._builder.as_streaming_dataset(split=self._split)
        except ValueError as error:
            raise SourceError(f"{self.name}, split {self._split!r}: {error}") from error

    def place(self, row: int) -> tuple[str, int]:
        """The source's name and the row."""
        return self.name, row

    def check_unchanged(self) -> None:
        """Raise where a local file changed; a revision on the Hub does not."""
        for file in self._local:
            file.check_unchanged()

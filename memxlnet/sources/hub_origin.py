"""Datasets of the Hub and local dataset repositories, streamed through `datasets`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from memxlnet.errors import MemxlnetError, SourceError, SourceNotFoundError
from memxlnet.sources.origin import Part
from memxlnet.sources.source_files import HashedFile


class HubOrigin:
    """A dataset of the Hub, or a local directory that `datasets` reads.

    Its identity is the revision: the resolved data files of the split, which hold the commit for a Hub dataset, and
    the digests of local files.

    Args:
        name: Its name, or the directory.
        split: The split.
        config_name: Its configuration.
        revision: Branch, tag or commit.
        token: Credentials.
        hashed_file: Opens a local file of it.
        short_name: Its name in the cache directory and in messages; by default `name`.

    Raises:
        SourceNotFoundError: There is no such dataset.
        SourceError: It cannot be opened, or has no such split.
    """

    kind = "hub"
    columnar = False

    def __init__(
        self,
        name: str,
        split: str,
        config_name: str | None,
        revision: str | None,
        token: str | None,
        hashed_file: Callable[[Path], HashedFile],
        short_name: str = "",
    ):
        import datasets

        self.name = short_name or name
        self._split = split
        self._hashed_file = hashed_file
        self._local: list[HashedFile] = []
        try:
            self._builder = datasets.load_dataset_builder(name, config_name, revision=revision, token=token)
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{name}: no such dataset on the Hub, and no local directory: {error}") from error
        except Exception as error:  # datasets has many of its own
            raise SourceError(
                f"{name}: cannot be opened as a dataset of the Hub or a directory of one: {type(error).__name__}: "
                f"{error}"
            ) from error
        splits = self._splits()
        if splits and split not in splits:
            raise SourceError(f"{name}: unknown split {split!r}; expected one of {', '.join(map(repr, splits))}")

    def _splits(self) -> list[str]:
        files = self._builder.config.data_files or {}
        return sorted({*map(str, files), *map(str, self._builder.info.splits or {})})

    @property
    def local_files(self) -> list[Path]:
        """The local data files of the split, in order."""
        return self._local_files(self._split)

    @property
    def all_local_files(self) -> list[Path]:
        """The local data files of all splits."""
        return [path for split in self._splits() for path in self._local_files(split)]

    def _local_files(self, split: str) -> list[Path]:
        files = (self._builder.config.data_files or {}).get(split) or []
        return [Path(str(file)) for file in files if "://" not in str(file)]

    @property
    def total(self) -> int | None:
        """Number of rows as the dataset's card states it."""
        info = (self._builder.info.splits or {}).get(self._split)
        return info.num_examples or None if info is not None else None

    def identity(self) -> dict[str, Any] | None:
        """Return the builder, its configuration and the data files of the split."""
        files = (self._builder.config.data_files or {}).get(self._split)
        identity: dict[str, Any] = {
            "kind": "hub",
            "builder": type(self._builder).__name__,
            "config": self._builder.config.name,
        }
        if files is None:
            return {**identity, "name": self.name, "hash": self._builder.hash}
        self._local = [self._hashed_file(path) for path in self.local_files]
        remote = [str(file) for file in files if "://" in str(file)]
        return {**identity, "files": remote + [f"sha256:{file.known().sha256}" for file in self._local]}

    def provenance(self) -> dict[str, Any]:
        """Return the name on the Hub."""
        return {"name": self.name}

    def parts(self, columns: Sequence[str] | None) -> Iterator[Part]:
        """Yield the rows of the split, streamed."""
        yield Part(self.name, self._rows())

    def _rows(self) -> Iterator[Any]:
        try:
            yield from self._builder.as_streaming_dataset(split=self._split)
        except (MemxlnetError, MemoryError):
            raise
        except Exception as error:  # each format has errors of its own
            raise SourceError(f"{self.name}, split {self._split!r}: {type(error).__name__}: {error}") from error

    def count(self) -> int | None:
        """Return None: the number is not known without reading."""
        return None

    def check_unchanged(self) -> None:
        """Raise where a local file changed; a revision on the Hub does not."""
        for file in self._local:
            file.check_unchanged()

"""The preprocessed datasets of the earlier code base: caches, opened by the directory in which they lie."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from memxlnet.data.cache_manager import cache_differences
from memxlnet.data.qa_datasets import LazySquadLikeQADataset
from memxlnet.earlier_names import missing
from memxlnet.errors import AmbiguousCacheError, CacheNotFoundError, SettingsError
from memxlnet.format.manifest import find_caches, read_manifest
from memxlnet.format.paths import MANIFEST, as_directory
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.compat import Compat
from memxlnet.settings import one_of

MODES = ("streaming", "full", "first_n")


class ChunkedDataset(LazySquadLikeQADataset):
    """A published cache, opened by its manifest or its directory, or the one that fits in a directory of caches.

    Args:
        manifest_path: The manifest, the directory of the cache, or a directory of caches.
        mode: ``"streaming"`` maps the files, ``"full"`` reads them into RAM; ``"first_n"`` maps a cache that was built
            with ``max_examples=num_examples``.
        num_examples: For ``"first_n"``; without effect otherwise.
        chunk_indices: None: rows are not kept in chunks.
        max_n_segs: What the cache was built with; None for any.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.

    Raises:
        SettingsError: An argument is wrong, or chunks are asked for.
        CacheNotFoundError: No cache fits; the message lists the caches found and how they differ.
        AmbiguousCacheError: Several fit.
    """

    def __init__(
        self,
        manifest_path: str | os.PathLike[str],
        mode: str = "streaming",
        num_examples: int | None = None,
        chunk_indices: Sequence[int] | None = None,
        max_n_segs: int | None = None,
        *,
        compat: Compat | None = None,
    ):
        self._find_and_open(manifest_path, None, mode, num_examples, chunk_indices, max_n_segs, compat)

    @classmethod
    def from_manifest(
        cls,
        manifest_path: str | os.PathLike[str],
        split: str | None = None,
        mode: str = "streaming",
        num_examples: int | None = None,
        chunk_indices: Sequence[int] | None = None,
        max_n_segs: int | None = None,
        *,
        compat: Compat | None = None,
    ) -> Self:
        """Open the cache of a split; the other arguments and errors are those of the class.

        Args:
            manifest_path: The manifest, the directory of the cache, or a directory of caches.
            split: The split; None for any.
            mode: As in the class.
            num_examples: As in the class.
            chunk_indices: As in the class.
            max_n_segs: As in the class.
            compat: As in the class.
        """
        dataset = cls.__new__(cls)
        dataset._find_and_open(manifest_path, split, mode, num_examples, chunk_indices, max_n_segs, compat)
        return dataset

    def _find_and_open(
        self,
        path: str | os.PathLike[str],
        split: str | None,
        mode: str,
        num_examples: int | None,
        chunk_indices: Sequence[int] | None,
        max_n_segs: int | None,
        compat: Compat | None,
    ) -> None:
        if mode == "chunks" or chunk_indices is not None:
            raise SettingsError(
                f"mode, chunk_indices: expected mode {', '.join(map(repr, MODES))} and no chunk_indices, found "
                f"{mode!r} and {chunk_indices!r}; for a part of the data build with max_examples="
            )
        one_of("mode", mode, MODES)
        params: dict[str, Any] = {} if max_n_segs is None else {"max_n_segs": max_n_segs}
        if mode == "first_n":
            if num_examples is None:
                raise SettingsError("num_examples: expected a number with mode='first_n', found None")
            params["max_examples"] = num_examples
        directory = as_directory("manifest_path", path)
        if directory.name == MANIFEST:
            directory = directory.parent
        CacheDataset.__init__(self, _find(directory, split, params), in_memory=mode == "full", compat=compat)


def _find(directory: Path, split: str | None, params: Mapping[str, Any]) -> Path:
    """Return the one cache that fits among those in a directory, which may be one itself."""
    whole = os.path.exists(directory / MANIFEST)  # noqa: PTH110 - Path.exists raises where it may not be entered
    entries = [(directory, read_manifest(directory))] if whole else list(find_caches(directory))
    differing = {
        path: [
            *([f"split (expected {split!r}, found {manifest.split!r})"] if split not in (None, manifest.split) else []),
            *cache_differences(manifest, None, params),
        ]
        for path, manifest in entries
    }
    fitting = [path for path, fields in differing.items() if not fields]
    if len(fitting) > 1:
        names = ", ".join(path.name for path in fitting)
        raise AmbiguousCacheError(
            f"{directory}: expected one cache that fits, found {names}; open one by its directory"
        )
    if not fitting:
        found = "; ".join(f"{path.name}, which differs in {', '.join(fields)}" for path, fields in differing.items())
        raise CacheNotFoundError(
            f"{directory}: expected a cache of split {split!r} with {dict(params)}, found {found or 'none'}; build it "
            "with process_and_cache_dataset"
        )
    return fitting[0]


def load_chunked_dataset(
    dataset_dir: str | os.PathLike[str],
    split: str = "train",
    mode: str = "streaming",
    num_examples: int | None = None,
    chunk_indices: Sequence[int] | None = None,
    max_n_segs: int | None = None,
    *,
    compat: Compat | None = None,
) -> ChunkedDataset:
    """Open the cache of a split in a directory: `ChunkedDataset.from_manifest`, whose arguments and errors it has.

    Args:
        dataset_dir: A directory of caches, or that of one cache.
        split: The split.
        mode: As in `ChunkedDataset`.
        num_examples: As in `ChunkedDataset`.
        chunk_indices: As in `ChunkedDataset`.
        max_n_segs: As in `ChunkedDataset`.
        compat: As in `ChunkedDataset`.
    """
    settings = (mode, num_examples, chunk_indices, max_n_segs)
    return ChunkedDataset.from_manifest(dataset_dir, split, *settings, compat=compat)


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = ["ChunkedDataset", "load_chunked_dataset"]

"""Caches on the Hub: send one, and open one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memxlnet.data.cache_manager import cache_differences, find_cache
from memxlnet.data.hub_caches import choose, fields_of_source, splits_of
from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset
from memxlnet.errors import CacheMismatchError, CacheNotFoundError, SettingsError
from memxlnet.format.manifest import Manifest, read_manifest
from memxlnet.format.paths import MANIFEST, as_directory
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.compat import Compat, check_compat
from memxlnet.remote.hub import HubRepository
from memxlnet.remote.hub_errors import check_hub_id, check_token
from memxlnet.remote.hub_upload import upload_cache
from memxlnet.settings import DEFAULT_CACHE_DIR, check_bool, check_text


def upload_processed_dataset_to_hub(
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    dataset_name: Any = "squad_v2",
    split: str = "train",
    hub_dataset_id: str | None = None,
    hub_token: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
    cache_params: Mapping[str, Any] | None = None,
    revision: str | None = None,
) -> str:
    """Send a published cache to a dataset repository on the Hub, whose card then describes it.

    The arguments are those of `memxlnet.upload_processed_dataset_to_hub`, where it sends a cache that exists.

    Raises:
        SettingsError: An argument is wrong.
        CacheError: There is no such cache, or several, or it is damaged or has other settings.
        TransferPermissionError: The Hub refuses these credentials.
        TransferError: The cache could not be sent.
    """
    if hub_dataset_id is None:
        raise SettingsError("hub_dataset_id: expected the name of a dataset repository such as 'user/name', found None")
    check_hub_id("hub_dataset_id", hub_dataset_id)
    check_token(hub_token)
    check_bool("private", private)
    for name, text in (("commit_message", commit_message), ("revision", revision)):
        if text is not None:
            check_text(name, text)
    directory = _directory(as_directory("cache_dir", cache_dir), dataset_name, split, _checked(cache_params))
    return upload_cache(
        directory, hub_dataset_id, hub_token, private=private, revision=revision, commit_message=commit_message
    )


def load_dataset_from_hub(
    hub_dataset_id: str,
    split: str = "train",
    hub_token: str | None = None,
    *,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    use_lazy_loading: bool = True,
    dataset_name: Any = None,
    cache_params: Mapping[str, Any] | None = None,
    revision: str | None = None,
    progress: bool | None = None,
    compat: Compat | None = None,
) -> CacheDataset:
    """Open the one cache of a repository on the Hub that fits, fetching what is not there yet.

    The files are those of one commit, checked byte by byte, and published in `cache_dir` like a cache that was built
    there. A transfer that ended early resumes after the files that have arrived.

    Args:
        hub_dataset_id: The repository.
        split: The split.
        hub_token: Credentials; never stored. None takes those that `huggingface_hub` has stored.
        cache_dir: Directory of all caches.
        use_lazy_loading: False reads all columns into RAM.
        dataset_name: What the cache was built from: a file and an object are compared by their content, any other name
            by the name alone. None takes any. The log says (at INFO) what the one that is taken was made of.
        cache_params: Settings that the cache must have; ``tokenizer`` compares the tokenizer's content.
        revision: Branch, tag or commit of the repository; None for the main branch.
        progress: Show a progress bar; None shows it where standard error is a terminal.
        compat: ``"memxlnet-0"`` gives rows, batches and steps the meaning of the earlier code base.

    Returns:
        A `LazySquadLikeQADataset`, or a `SquadLikeQADataset` without lazy loading.

    Raises:
        SettingsError: An argument is wrong.
        SourceError: The file or object that was named is missing or cannot be read.
        CacheNotFoundError: The repository has no cache of this split; the message lists the caches found.
        CacheMismatchError: It has some, with another source or other settings; the message names the fields.
        AmbiguousCacheError: Several fit; the message lists them.
        CacheDamagedError: The manifest, or what is in `cache_dir` already, is damaged.
        TransferPermissionError: The Hub refuses these credentials.
        TransferError: The Hub cannot be reached, or what arrived is wrong.
    """
    check_bool("use_lazy_loading", use_lazy_loading)
    check_text("split", split)
    check_compat(compat)
    if progress is not None:
        check_bool("progress", progress)
    params = _checked(cache_params) or {}
    directory = as_directory("cache_dir", cache_dir)
    repository = HubRepository(hub_dataset_id, hub_token, revision)
    of_source = None if dataset_name is None else fields_of_source(dataset_name, split, directory)

    def differences(manifest: Manifest) -> list[str]:
        return [*(of_source(manifest) if of_source else ()), *cache_differences(manifest, None, params)]

    listing = repository.listing()
    cache = choose(listing, repository.subject, split, differences)
    if cache is None:
        if listing.unreadable:
            raise listing.unreadable[0]
        raise CacheNotFoundError(
            f"{repository.subject}: expected a cache of split {split!r}, found {splits_of(listing)}; send one with "
            "upload_processed_dataset_to_hub, or ask for one of these"
        )
    kind = LazySquadLikeQADataset if use_lazy_loading else SquadLikeQADataset
    return kind.open(repository.fetch(cache, directory, progress), compat=compat)


def _checked(cache_params: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if cache_params is not None and not isinstance(cache_params, Mapping):
        raise SettingsError(f"cache_params: expected a mapping of settings, found {type(cache_params).__name__}")
    return cache_params


def _directory(path: Path, dataset_name: Any, split: str, params: Mapping[str, Any] | None) -> Path:
    """Return the named cache: the directory itself where it is one, else the one in it that fits."""
    if not os.path.exists(path / MANIFEST):  # noqa: PTH110 - Path.exists raises in a directory that may not be entered
        return find_cache(path, dataset_name, split, params)[0]
    differing = cache_differences(read_manifest(path), None, params or {})
    if differing:
        raise CacheMismatchError(f"{path}: expected the settings that were asked for, found {', '.join(differing)}")
    return path

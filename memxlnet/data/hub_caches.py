"""Which cache of a repository on the Hub is the one that was asked for."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memxlnet.data.cache_manager import cache_differences, content_of, shown_settings
from memxlnet.encode.cache_settings import ALGORITHM_VERSION
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import AmbiguousCacheError, CacheMismatchError, SettingsError
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import Manifest
from memxlnet.remote.hub import HubCache, HubListing, HubRepository
from memxlnet.remote.hub_errors import check_hub_id
from memxlnet.settings import EncodeSettings, check_text
from memxlnet.sources import SourceOptions, is_file_name, open_source, source_name

logger = logging.getLogger(__name__)

WITHOUT_HUB = "or pass use_hub_dataset=False to continue without the Hub"
"""The hint for errors of a Hub that was only to be looked into first."""


def choose(
    listing: HubListing, subject: str, split: str, differences: Callable[[Manifest], list[str]]
) -> HubCache | None:
    """Return the one cache of a split that fits; None where there is no cache of that split.

    Args:
        listing: What the repository holds.
        subject: The repository in messages.
        split: The split.
        differences: In which fields a cache is not what was asked for.

    Raises:
        CacheMismatchError: There are some of that split, and all differ; the message names the fields of the closest.
        AmbiguousCacheError: Several fit; the message lists them.
    """
    of_split = [cache for cache in listing.caches if cache.manifest.split == split]
    if not of_split:
        return None
    differing = [differences(cache.manifest) for cache in of_split]
    fitting = [cache for cache, fields in zip(of_split, differing, strict=True) if not fields]
    if len(fitting) > 1:
        names = "; ".join(
            f"{cache.folder} ({cache.manifest.name!r}, {shown_settings(cache.manifest)})" for cache in fitting
        )
        raise AmbiguousCacheError(
            f"{subject}: split {split!r}: expected one cache that fits, found {len(fitting)}: {names}; name the "
            "dataset and the settings"
        )
    if not fitting:
        fields, closest = min(zip(differing, of_split, strict=True), key=lambda entry: len(entry[0]))
        others = f" (and {len(of_split) - 1} more that differ)" if of_split[1:] else ""
        raise CacheMismatchError(
            f"{subject}: split {split!r}: expected a cache of what was asked for, found {closest.folder}{others}, "
            f"which differs in {'; '.join(fields)}; ask for one that the repository has"
        )
    manifest = fitting[0].manifest
    source = ", ".join(f"{key}={value!r:.80}" for key, value in manifest.fields["source"].items())
    logger.info("%s/%s: fits; it was made of %r (%s)", subject, fitting[0].folder, manifest.name, source)
    return fitting[0]


def fields_of_source(
    dataset_name: Any, split: str, cache_dir: Path, options: SourceOptions | None = None
) -> Callable[[Manifest], list[str]]:
    """Name the fields in which a cache is of another source: by content, or by name for a plain Hub name.

    Raises:
        SettingsError: The name is not valid, or an identity is given for what is identified by its content.
        SourceError: The source is missing or cannot be read.
    """
    name = source_name(dataset_name)
    has_content = not is_hub_name(dataset_name) or (options is not None and options.identity is not None)
    if has_content:
        open_source(dataset_name, split, options)
    content = content_of(dataset_name, split, cache_dir, options)

    def differences(manifest: Manifest) -> list[str]:
        if has_content:
            return differing_fields(content(manifest), manifest.fields["source"], "source.")
        return differing_fields({"name": name}, {"name": manifest.name})

    return differences


def is_hub_name(dataset_name: Any) -> bool:
    """Return whether a source is given only as a name of the Hub, so that there is no content to compare."""
    return isinstance(dataset_name, str) and not is_file_name(dataset_name) and "://" not in dataset_name


@dataclass(frozen=True)
class Wanted:
    """What was asked of `create_dataset_from_cache`, as far as it decides which cache is the one.

    Attributes:
        dataset_name: The source.
        split: Its split.
        cache_dir: Directory of the caches.
        encode: The settings, all of which must be those of the cache.
        tokenizer: The tokenizer; None compares none.
        options: How the source is read, with the token for the Hub.
    """

    dataset_name: Any
    split: str
    cache_dir: Path
    encode: EncodeSettings
    tokenizer: Any
    options: SourceOptions

    def differences(self) -> Callable[[Manifest], list[str]]:
        """Name the fields in which a cache is not what was asked for.

        Raises:
            SettingsError: An argument is wrong.
            SourceError: The source cannot be read.
            TokenizerError: The tokenizer cannot be used.
            TransferError: The revision of the source could not be looked up.
        """
        check_text("split", self.split)
        if self.tokenizer is not None:
            read_tokenizer(self.tokenizer, self.encode.insert_memory_tokens).layout.check(self.encode)
        reading = replace(self.options, config_name=None, revision=None, token=None)
        of_source = fields_of_source(self.dataset_name, self.split, self.cache_dir, reading)
        origin = self._origin()
        params = {**vars(self.encode), "tokenizer": self.tokenizer}

        def differences(manifest: Manifest) -> list[str]:
            version = {"algorithm_version": manifest.fields.get("algorithm_version")}
            return [
                *of_source(manifest),
                *_differing_origin(manifest, origin),
                *cache_differences(manifest, None, params),
                *differing_fields({"algorithm_version": ALGORITHM_VERSION}, version),
            ]

        return differences

    def _origin(self) -> dict[str, Any]:
        """Return what a plain Hub name must match besides: a dataset of the Hub, its configuration and commit."""
        name, revision = self.dataset_name, self.options.revision
        named = {"config_name": self.options.config_name, "revision": revision}
        asked = {key: value for key, value in named.items() if value is not None}
        if not is_hub_name(name):
            for key, value in asked.items():
                raise SettingsError(f"{key}: applies to Hub datasets only, found {value!r} with another source")
            return {}
        origin = {"kind": "hub"}
        if "config_name" in asked:
            origin["config"] = asked["config_name"]
        if revision is None:
            return origin
        if not re.fullmatch(r"[0-9a-f]{40}", check_text("revision", revision)):
            check_hub_id("dataset_name", name)
            revision = HubRepository(name, self.options.token, revision).commit()
        return {**origin, "commits": [revision]}


def _differing_origin(manifest: Manifest, asked: dict[str, Any]) -> list[str]:
    source = manifest.fields["source"]
    files = [str(file) for file in source["files"]] if isinstance(source.get("files"), list) else []
    commits = sorted({commit for file in files for commit in re.findall(r"@([0-9a-f]{40})/", file)})
    found = {"kind": source.get("kind"), "config": source.get("config"), "commits": commits}
    differing = differing_fields(asked, {key: found[key] for key in asked}, "source.")
    hint = " (pass the file or object itself, or open it with load_dataset_from_hub)"
    return [f"{each}{hint}" if each.startswith("source.kind:") else each for each in differing]


def fetch_wanted(repo_id: str, wanted: Wanted, progress: bool | None) -> Path | None:
    """Return the local directory of the requested cache of a repository; fetch it where it is missing.

    Args:
        repo_id: The repository.
        wanted: What was asked for.
        progress: Show a progress bar.

    Returns:
        The directory; None where the repository has no cache of the split, which is logged as a warning.

    Raises:
        SettingsError: An argument is wrong.
        CacheMismatchError: The repository has caches of the split, and all differ.
        AmbiguousCacheError: Several fit.
        CacheError: None could be read, or the existing one is damaged.
        TransferError: The Hub cannot be reached or refuses, or what arrived is wrong.
    """
    repository = HubRepository(repo_id, wanted.options.token)
    differences = wanted.differences()
    listing = repository.listing()
    cache = choose(listing, repository.subject, wanted.split, differences)
    if cache is not None:
        return repository.fetch(cache, wanted.cache_dir, progress)
    if listing.unreadable:
        # The one that was asked for may be among them: not a reason to build it again silently.
        raise listing.unreadable[0]
    logger.warning(
        "%s: expected a cache of split %r, found %s; looking in %s, and building where one is missing",
        repository.subject,
        wanted.split,
        splits_of(listing),
        wanted.cache_dir,
    )
    return None


def splits_of(listing: HubListing) -> str:
    """Describe what a repository holds."""
    found = [f"{cache.folder} (split {cache.manifest.split!r})" for cache in listing.caches]
    found += ["manifests that cannot be read"] if listing.unreadable else []
    return ", ".join(found) or "no cache at all"

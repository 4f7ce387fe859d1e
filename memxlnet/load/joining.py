"""Several caches as one dataset: one after the other, or mixed by weights."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.format.joined import JoinedCache, numbered
from memxlnet.format.published import PublishedCache
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.mixed_dataset import MixedDataset
from memxlnet.load.mixture import Epoch, Mixture, documents_per_epoch
from memxlnet.load.seeded_random import Ints, check_seed

Joinable = CacheDataset | PublishedCache | str | os.PathLike[str]
"""A dataset or a view of one, an opened cache, or the directory of one."""

Weights = Sequence[float] | NDArray[Any] | Tensor
"""Numbers in one dimension."""


def concatenate(caches: Sequence[Joinable]) -> CacheDataset:
    """Return several caches as one dataset: their documents one after the other, over the same maps.

    Rows of the dataset count through all caches, in the order in which they are given; of views it holds the chosen
    documents. An id may occur in several caches; it then finds no document, and evaluation refuses it.

    Args:
        caches: Caches, directories of them, datasets or views, of one row layout, tokenizer and length. Datasets must
            have been opened with equal options, which the result has as well.

    Raises:
        SettingsError: The sequence is empty, an item is something else, or options differ.
        CacheMismatchError: Rows do not fit together; the message names the field, and between which caches.
        CacheError: A cache is missing or damaged.
    """
    return _joined(_datasets("caches", caches))


def mix(
    caches: Sequence[Joinable],
    weights: Weights,
    *,
    epoch: Epoch = "all",
    seed: int = 0,
) -> MixedDataset:
    """Return several caches as one dataset of which each epoch reads a share of documents.

    The share of a cache is within one document of its weight, in every epoch. A cache of which an epoch reads a part
    continues in the next one: no document is read twice before all of its cache were read once. Which documents an
    epoch reads is a pure function of (seed, epoch), so that loaders resume anywhere, over any number of ranks. Without
    a shuffle the caches take turns, evenly spread.

    Args:
        caches: What `concatenate` takes.
        weights: The weight of each, above 0; they need not sum to 1.
        epoch: Documents of an epoch: ``"all"`` reads every cache at least once, ``"shortest"`` no document twice, or a
            number, of which the largest weight gives at least one.
        seed: Seed of the choice, any integer.

    Raises:
        SettingsError: An argument is wrong.
        CacheMismatchError: Rows do not fit together; the message names the field, and between which caches.
        CacheError: A cache is missing or damaged.
    """
    datasets = _datasets("caches", caches)
    shares = _shares("weights", weights, len(datasets))
    sizes = np.array([dataset.num_documents for dataset in datasets])
    per_epoch = documents_per_epoch(sizes, shares, epoch)
    if per_epoch.max() < 1:
        raise SettingsError(
            f"epoch: expected at least {math.ceil(1 / shares.max())} documents by these weights, so that no epoch is "
            f"empty, found {epoch}"
        )
    mixture = Mixture(sizes, per_epoch, check_seed(seed))
    return MixedDataset(_joined(datasets), mixture)


def balance(
    cache: Joinable,
    by: str | Weights,
    *,
    epoch: Epoch = "all",
    seed: int = 0,
) -> MixedDataset:
    """Return a dataset of which each epoch reads documents of all classes equally often, or by their weights.

    Args:
        cache: A cache, the directory of one, a dataset or a view.
        by: ``"has_answer"``, whether a document has an answer span; a kept column, whose values are the classes; or
            float[documents], the weight of each document, above 0.
        epoch: Documents of an epoch: ``"all"`` reads every document at least once, ``"shortest"`` none twice, or a
            number.
        seed: Seed of the choice, any integer.

    Raises:
        SettingsError: An argument is wrong, or all documents are of one class.
    """
    (dataset,), seed = _datasets("cache", [cache]), check_seed(seed)
    if isinstance(by, str):
        classes = _classes(dataset.cache, by)
        groups = numbered(classes if dataset.chosen is None else classes[dataset.chosen])
        sizes = np.bincount(groups)
        if len(sizes) < 2:
            raise SettingsError(f"by: expected documents of at least two classes of {by!r}, found all in one")
        shares = np.full(len(sizes), 1 / len(sizes))
        dataset = dataset.select(np.argsort(groups, kind="stable"))
    else:
        sizes = np.ones(dataset.num_documents, np.int64)
        shares = _shares("by", by, dataset.num_documents)
    return MixedDataset(dataset, Mixture(sizes, documents_per_epoch(sizes, shares, epoch), seed))


def _classes(cache: PublishedCache, by: str) -> Ints:
    """Return int64[documents], the class of each document of a cache."""
    if by == "has_answer":
        return (cache.documents.column("chosen_answer") >= 0).astype(np.int64)
    return cache.kept_column("by", by, "has_answer").groups(by)[0]


def _datasets(name: str, caches: Any) -> list[CacheDataset]:
    """Return what was given as datasets of equal options."""
    if isinstance(caches, str | os.PathLike) or not isinstance(caches, Sequence) or not caches:
        raise SettingsError(f"{name}: expected a sequence of caches, at least one, found {caches!r:.80}")
    found = [_dataset(name, one) for one in caches]
    first = found[0]
    for other in found[1:]:
        for option, value in other.options.items():
            if value != first.options[option]:
                raise SettingsError(
                    f"{name}: expected datasets that were opened in the same way, found {option}="
                    f"{first.options[option]!r} for {first.directory} and {value!r} for {other.directory}"
                )
    return found


def _dataset(name: str, value: Any) -> CacheDataset:
    if isinstance(value, MixedDataset):
        raise SettingsError(f"{name}: expected caches or views, found a mixture; name its caches with their weights")
    if isinstance(value, CacheDataset):
        return value
    if isinstance(value, PublishedCache):
        return CacheDataset.of(value)
    if isinstance(value, str | os.PathLike):
        return CacheDataset(value)
    raise SettingsError(
        f"{name}: expected caches, directories of caches or datasets over them, found {type(value).__name__}"
    )


def _joined(datasets: list[CacheDataset]) -> CacheDataset:
    if len(datasets) == 1:
        return datasets[0]
    options = {name: value for name, value in datasets[0].options.items() if name != "in_memory"}
    joined = CacheDataset.of(JoinedCache([dataset.cache for dataset in datasets]), **options)
    if all(dataset.chosen is None for dataset in datasets):
        return joined
    starts = np.cumsum([0, *(dataset.cache.num_documents for dataset in datasets)])[:-1]
    return joined.select(np.concatenate([_documents(one) + start for one, start in zip(datasets, starts, strict=True)]))


def _documents(dataset: CacheDataset) -> Ints:
    return np.arange(dataset.cache.num_documents) if dataset.chosen is None else dataset.chosen


def _shares(name: str, weights: Any, count: int) -> NDArray[np.float64]:
    """Return float64[count], weights as shares of 1.

    Raises:
        SettingsError: They are not as many numbers above 0.
    """
    try:
        found = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name}: expected {count} numbers, found {weights!r:.80} ({error})") from None
    if found.dtype.kind not in "iuf" or found.shape != (count,):
        raise SettingsError(f"{name}: expected {count} numbers, found {found.dtype} with the shape {found.shape}")
    found = found.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(wrong):
        raise SettingsError(
            f"{name}: expected finite numbers above 0, found {found[wrong[0]]} at place {wrong[0]}; leave out what is "
            "not to be read"
        )
    # Scaled first: the sum of large weights may not be finite.
    found /= found.max()
    shares: NDArray[np.float64] = found / found.sum()
    return shares

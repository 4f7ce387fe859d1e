"""A dataset of which each epoch reads other documents: the mixture says which."""

from typing import Any, NoReturn

import numpy as np
import xxhash

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.mixture import Mixture
from memxlnet.load.seeded_random import Ints
from memxlnet.load.segment_windows import Documents, rows_of
from memxlnet.settings import whole_number


class MixedDataset(CacheDataset):
    """All documents of a mixture, source after source; loaders read of them what each epoch takes.

    Indices, `rows`, statistics and evaluation count every document once. `at_epoch` returns the documents of one epoch
    as a view. Choose documents before they are mixed: views of a mixture are refused.
    """

    def __init__(self, dataset: CacheDataset, mixture: Mixture):
        # The first one stays alive: its temporary directory is removed with it.
        self.__dict__ = {**dataset.__dict__, "_original": dataset}
        self._mixture = mixture

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, a mixture that reads {self._mixture.counts(0).sum()} in epoch 0)"

    def _table_rows(self) -> dict[str, object]:
        return super()._table_rows() | {"documents that epoch 0 reads": int(self._mixture.counts(0).sum())}

    @property
    def fingerprint(self) -> str:
        """Identity of the caches, their documents and the mixture; states of loaders are bound to it."""
        return xxhash.xxh3_128_hexdigest(super().fingerprint.encode() + self._mixture.fingerprint)

    def epoch_counts(self, epoch: int) -> Ints:
        """Return int64[sources], how many documents an epoch reads of each source, or class, or document."""
        return self._mixture.counts(whole_number("epoch", epoch, 0))

    def at_epoch(self, epoch: int) -> CacheDataset:
        """Return the documents of an epoch, a view in which one may occur several times."""
        places = self._mixture.places(whole_number("epoch", epoch, 0))
        if not len(places):
            raise SettingsError(f"epoch: expected documents in epoch {epoch}, found none; mix with a larger epoch=")
        return self._view_as(CacheDataset, places if self.chosen is None else self.chosen[places])

    def rows_at(self, epoch: int) -> Ints:
        """Return int64[rows], the rows of this dataset that an epoch reads, document after document."""
        places = self._mixture.places(whole_number("epoch", epoch, 0))
        return rows_of(Documents(self._starts[places], self.documents.num_segments[places]))

    def _view(self, documents: Ints) -> NoReturn:
        raise SettingsError(
            f"expected a dataset or view, found a mixture of {self.num_documents} documents; choose documents of its "
            "caches before they are mixed, or of at_epoch(epoch)"
        )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "sizes": self._mixture.sizes,
            "per_epoch": self._mixture.per_epoch,
            "seed": self._mixture.seed,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mixture = Mixture(np.array(state["sizes"]), np.array(state["per_epoch"]), state["seed"])

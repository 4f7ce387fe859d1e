"""Views: some documents of a cache, in an order, without any file. NumPy only.

The methods are named as in `datasets`, and each returns another view; views of views are views of the cache. All random
ones are pure functions of their seed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from memxlnet.errors import SettingsError
from memxlnet.format.file_layout import column_values
from memxlnet.format.joined import context_numbers, numbered
from memxlnet.format.published import PublishedCache
from memxlnet.load.chosen_places import as_places
from memxlnet.load.document_ids import DocumentMap
from memxlnet.load.seeded_random import VIEW, Ints, check_seed, shuffled
from memxlnet.settings import positive_int, whole_number

By = Literal["context"] | str
"""What keeps documents on one side of a split: their context, or their value of a kept column."""


class TrainTestSplit(NamedTuple):
    """Two views that have no document in common, and together all of a view."""

    train: Any
    test: Any


class Viewable(ABC):
    """What has documents that can be chosen."""

    cache: PublishedCache

    @property
    @abstractmethod
    def document_map(self) -> DocumentMap:
        """From a document's id to the rows of its segments."""

    @property
    @abstractmethod
    def chosen(self) -> Ints | None:
        """int64[documents], the documents of the cache in order; None for all of them in their own order."""

    @abstractmethod
    def _view(self, documents: Ints) -> Self:
        """Return a view of documents of the cache."""

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return self.cache.num_documents if self.chosen is None else len(self.chosen)

    @property
    def fingerprint(self) -> str:
        """Identity of the cache and of the documents in their order; states of loaders are bound to it."""
        own = self.cache.manifest.fingerprint
        if self.chosen is None:
            return own
        return xxhash.xxh3_128_hexdigest(own.encode() + self.chosen.astype("<i8").tobytes())

    def select(self, documents: Any) -> Self:
        """Return a view of some documents, in the order in which they are named.

        Args:
            documents: Their places in this view (negative ones from the end), their ids, or a mask, bool[documents]:
                a sequence, array, tensor or column of pandas or Arrow; of places also a range or slice.

        Raises:
            SettingsError: They are of another kind, no document is chosen, or a mask has another length.
            RowIndexError: A place is out of range.
            DocumentNotFoundError: No document has an id; the message names the first ten.
        """
        find = self.document_map.find
        return self._chosen_of(as_places(documents, self.num_documents, find, self.cache.directory))

    def filter(self, condition: pc.Expression | Callable[[dict[str, Any]], Any]) -> Self:
        """Return a view of the documents that meet a condition, in their order.

        Args:
            condition: An Arrow expression over columns of the documents table (``pc.field("num_segments") > 1``) and
                over kept columns, or a function of these columns of a document, a dictionary, that returns whether it
                is kept. Documents are read batch by batch.

        Raises:
            SettingsError: No document meets it, it is neither, or what the function returns has no truth value.
        """
        if not isinstance(condition, pc.Expression) and not callable(condition):
            raise SettingsError(
                f"condition: expected an Arrow expression or a function of a document, found {condition!r:.80}"
            )
        kept = np.zeros(self.cache.num_documents, np.bool_)
        first = 0
        for batch in self.cache.documents.batches():
            columns = batch if self.cache.kept is None else self.cache.kept.joined(batch, first)
            kept[first : first + batch.num_rows] = _met(condition, columns)
            first += batch.num_rows
        met = kept if self.chosen is None else kept[self.chosen]
        return self._chosen_of(np.flatnonzero(met), "condition: expected one that documents meet")

    def shuffle(self, seed: int) -> Self:
        """Return a view of all documents in a random order.

        Args:
            seed: Any integer.
        """
        return self._chosen_of(shuffled(self.num_documents, check_seed(seed), 0, VIEW))

    def take(self, count: int) -> Self:
        """Return a view of the first documents; of all where there are fewer.

        Args:
            count: At least 1.
        """
        return self._chosen_of(np.arange(min(positive_int("count", count), self.num_documents)))

    def skip(self, count: int) -> Self:
        """Return a view without the first documents.

        Args:
            count: Below the number of documents.

        Raises:
            SettingsError: No document is left.
        """
        first = min(whole_number("count", count, 0), self.num_documents)
        expected = f"count: expected below {self.num_documents}, found {count!r:.40}"
        return self._chosen_of(np.arange(first, self.num_documents), expected)

    def sample(self, size: int | float, seed: int) -> Self:
        """Return a view of some documents at random, in their order.

        Args:
            size: A number of documents, or a fraction of them between 0 and 1.
            seed: Any integer.

        Raises:
            SettingsError: The size is neither.
        """
        drawn = shuffled(self.num_documents, check_seed(seed), 0, VIEW)
        return self._chosen_of(np.sort(drawn[: self._count("size", size)]))

    def train_test_split(self, test_size: int | float, seed: int, by: By | None = None) -> TrainTestSplit:
        """Split the documents at random in two, each in their order; one that comes again stays on one side.

        Args:
            test_size: Documents of the second view, or their fraction. With `by`, and where this view holds a document
                several times, groups are added until it holds as many.
            seed: Any integer.
            by: ``"context"`` keeps all documents of one context on one side; the name of a kept column does so with
                all documents of one value, where null is a value as well.

        Raises:
            SettingsError: An argument is wrong, or a side would be empty.
        """
        groups = self._groups(by)
        count = self._count("test_size", test_size)
        turn = self._turns(groups, seed)
        # Groups come in their turn; the documents before each.
        before = np.concatenate([[0], np.cumsum(np.bincount(turn))])[:-1]
        is_test = before[turn] < count
        if is_test.all():
            raise SettingsError(
                f"test_size: expected documents on both sides, found none left beside a second view of {count} or more "
                f"of {self.num_documents} documents in {len(before)} groups (by={by!r}); choose fewer, or another by="
            )
        return TrainTestSplit(self._chosen_of(np.flatnonzero(~is_test)), self._chosen_of(np.flatnonzero(is_test)))

    def folds(self, number: int, seed: int, by: By | None = None) -> list[TrainTestSplit]:
        """Split the documents at random into folds of almost equal size; each is the second view of one split.

        A document that comes again stays in one fold.

        Args:
            number: Number of folds, at least 2.
            seed: Any integer.
            by: As in `train_test_split`.

        Raises:
            SettingsError: An argument is wrong, or there are fewer documents (or contexts) than folds.
        """
        groups = self._groups(by)
        distinct = int(groups.max()) + 1
        if not 2 <= whole_number("number", number, 2) <= distinct:
            raise SettingsError(
                f"number: expected from 2 to {distinct} folds, the number of {by or 'document'}s, found {number}"
            )
        turn = self._turns(groups, seed)
        sizes = np.bincount(turn)
        # The middle of each group decides, so that folds are of almost equal size.
        middle = np.cumsum(sizes) - sizes / 2
        fold = np.minimum((middle * number / self.num_documents).astype(np.int64), number - 1)[turn]
        if len(np.unique(fold)) < number:
            fold = (turn * number // distinct).astype(np.int64)
        return [
            TrainTestSplit(self._chosen_of(np.flatnonzero(fold != one)), self._chosen_of(np.flatnonzero(fold == one)))
            for one in range(number)
        ]

    def _chosen_of(self, places: NDArray[np.integer], expected: str = "documents: expected at least one") -> Self:
        if not len(places):
            raise SettingsError(f"{expected}; of {self.num_documents} documents, none is chosen")
        chosen: Ints = places.astype(np.int64) if self.chosen is None else self.chosen[places]
        return self._view(chosen)

    def _count(self, name: str, size: Any) -> int:
        """Return a number of documents, given as such or as a fraction."""
        total = self.num_documents
        if isinstance(size, Real) and not isinstance(size, Integral):
            share = float(size)
            if not 0 < share < 1:
                raise SettingsError(f"{name}: expected a fraction between 0 and 1, or a number, found {size!r}")
            return min(max(round(share * total), 1), total)
        count = positive_int(name, size, " (or a fraction between 0 and 1)")
        if count > total:
            raise SettingsError(f"{name}: expected at most the {total} documents, found {count}")
        return count

    def _groups(self, by: Any) -> Ints:
        """Return int64[documents], a number from 0 on for what stays together."""
        if by is None:
            return np.arange(self.num_documents) if self.chosen is None else numbered(self.chosen)
        if isinstance(by, str) and by == "context":
            contexts = np.concatenate([column_values(batch["context"]) for batch in self.cache.documents.batches()])
            values = context_numbers(self.cache)[contexts]
        else:
            values, _ = self.cache.kept_column("by", by, "context").groups(by)
        _, groups = np.unique(values if self.chosen is None else values[self.chosen], return_inverse=True)
        return groups.astype(np.int64)

    def _turns(self, groups: Ints, seed: int) -> Ints:
        """Return int64[documents], at which turn the group of each comes in a random order."""
        order = shuffled(int(groups.max()) + 1, check_seed(seed), 0, VIEW)
        turns: Ints = np.empty(len(order), np.int64)
        turns[order] = np.arange(len(order))
        return turns[groups]


def _met(condition: pc.Expression | Callable[[dict[str, Any]], Any], batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Return bool[rows], which documents meet a condition."""
    met = np.zeros(batch.num_rows, np.bool_)
    if isinstance(condition, pc.Expression):
        # Longer than any name: no column has it.
        place = "_" * (1 + max(map(len, batch.schema.names)))
        placed = pa.table(batch).append_column(place, pa.array(np.arange(batch.num_rows)))
        try:
            met[placed.filter(condition)[place].to_numpy()] = True
        except pa.ArrowException as error:
            raise SettingsError(
                f"condition: expected an expression over the columns {', '.join(batch.schema.names)}, found one that "
                f"fails: {error}"
            ) from error
        return met
    for row, document in enumerate(batch.to_pylist()):
        try:
            found = condition(document)
        except Exception as error:
            error.add_note(f"condition: failed for the document {document['id']!r:.120}")
            raise
        try:
            met[row] = bool(found)
        except (TypeError, ValueError, RuntimeError) as error:
            raise SettingsError(
                f"condition: expected true or false for the document {document['id']!r:.120}, found {found!r:.80} "
                f"({error})"
            ) from error
    return met

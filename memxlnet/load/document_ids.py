"""Documents by their id: views over the cache, no dictionary of all ids in RAM."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import xxhash
from numpy.typing import NDArray

from memxlnet.errors import CacheDamagedError, DocumentNotFoundError, IndexTypeError, RowIndexError
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache
from memxlnet.load.row_lengths import last_row_lengths
from memxlnet.load.segment_windows import Documents


def checked_index(what: str, index: Any, length: int, hint: str = "") -> int:
    """Return an index of a sequence, counted from its beginning.

    Args:
        what: What is asked for, for messages.
        index: Any integer; a negative one counts from the end.
        length: Length of the sequence.
        hint: What to do where it is not an integer.

    Raises:
        IndexTypeError: It is not an integer.
        RowIndexError: It is out of range.
    """
    try:
        place = operator.index(index)
    except TypeError:
        raise IndexTypeError(
            f"{what}: expected an integer, found {index!r:.80} ({type(index).__name__}){hint}"
        ) from None
    if not -length <= place < length:
        raise RowIndexError(f"{what} {place}: expected one from {-length} to {length - 1}")
    return place + length if place < 0 else place


class DocumentIds(Sequence[str]):
    """Ids of documents, read from the cache when they are asked for; equal to a list of the same ids.

    Args:
        cache: The cache.
        documents: int64[n], the documents, -1 for none, whose id is empty; None for all, in order.
    """

    def __new__(cls, cache: Any, documents: Any = None) -> Any:
        """Return the list itself where one is given: torch and Lightning rebuild sequences so to move a batch."""
        return cache if isinstance(cache, list) else super().__new__(cls)

    def __init__(self, cache: PublishedCache, documents: NDArray[np.int64] | None = None):
        self._cache = cache
        self._documents = documents

    def __len__(self) -> int:
        return self._cache.num_documents if self._documents is None else len(self._documents)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._read(place) for place in range(len(self))[index]]
        return self._read(checked_index("document", index, len(self)))

    def __iter__(self) -> Iterator[str]:
        return (self._read(place) for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[list[str]], tuple[list[str]]]:
        # A step may be saved or sent to another process; the cache is not part of it.
        return list, (list(self),)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:4]))
        return f"[{shown}{', ...' if len(self) > 4 else ''}]"

    def _read(self, place: int) -> str:
        document = place if self._documents is None else int(self._documents[place])
        return self._cache.documents.text("id", document) if document >= 0 else ""


class DocumentMap(Mapping[str, range]):
    """From a document's id to the rows of its segments, in order.

    The first look-up by id reads all ids once and keeps 16 bytes of each.

    Args:
        cache: The cache.
        chosen: int64[n], the documents of a view; None for all.
    """

    def __init__(self, cache: PublishedCache, chosen: NDArray[np.int64] | None = None):
        self._cache = cache
        self._chosen = chosen
        self.ids = DocumentIds(cache, chosen)

    @cached_property
    def documents(self) -> Documents:
        """Where the segments of each document lie; 12 bytes a document, read when first asked for.

        Raises:
            CacheDamagedError: The segments of the documents do not follow each other from the first row to the last.
        """
        table = self._cache.documents
        first, counts = table.columns("first_segment", "num_segments")
        stops = np.append(first[1:], self._cache.num_rows)
        wrong = np.flatnonzero((stops - first != counts) | (counts < 1))
        if len(wrong) or first[0]:
            row = int(wrong[0]) if len(wrong) else 0
            raise CacheDamagedError(
                f"{self._cache.directory}, document {row}: expected its segments to lie before those of the next one, "
                f"found {counts[row]} from row {first[row]}",
                hint=REBUILD,
            )
        if self._chosen is not None:
            return Documents(first[self._chosen], counts[self._chosen], self._chosen)
        return Documents(first, counts)

    @cached_property
    def last_tokens(self) -> NDArray[np.int32]:
        """int32[documents], the real tokens of the last segment of each; 4 bytes a document, read when first asked for.

        Raises:
            CacheDamagedError: A row cannot be as long as its columns say.
        """
        return last_row_lengths(self._cache, self.documents.first_segment, self.documents.num_segments)

    @cached_property
    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        hashes = np.fromiter((_hash(name) for name in self.ids), np.uint64, len(self.ids))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def find(self, example_id: str) -> int:
        """Return the place of the document that has an id, among those of the view.

        Raises:
            DocumentNotFoundError: None has.
        """
        if isinstance(example_id, str):
            hashes, order = self._index
            wanted = np.uint64(_hash(example_id))
            first, stop = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
            found = [place for place in order[first:stop].tolist() if self.ids[place] == example_id]
            documents = found if self._chosen is None else np.unique(self._chosen[found]).tolist()
            if len(documents) > 1:
                where = ", ".join(map(self._cache.source_of, documents[:10]))
                raise DocumentNotFoundError(
                    f"{self._cache.directory}: expected the id of one document, found {len(documents)} with "
                    f"{example_id!r:.120}, in {where}; choose documents by their places, or of one cache"
                )
            if found:
                return int(found[0])
        raise DocumentNotFoundError(
            f"{self._cache.directory}: expected the id of one of its {len(self.ids)} documents, "
            f"found {example_id!r:.120}"
        )

    def __getitem__(self, example_id: str) -> range:
        place = self.find(example_id)
        document = place if self._chosen is None else int(self._chosen[place])
        first = self._cache.documents.number("first_segment", document)
        return range(first, first + self._cache.documents.number("num_segments", document))

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))

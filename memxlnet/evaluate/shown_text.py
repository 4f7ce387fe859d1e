"""Which spans of a document's tokens have a text: a span of blanks alone, or of nothing, is no answer."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.answer_labels import non_blank_counts
from memxlnet.errors import CacheDamagedError
from memxlnet.evaluate.context_places import RowPlaces
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache

HELD_TOKENS = 1 << 20
"""Tokens of contexts that are held at most, unless one context has more: 8 MiB."""

_ALWAYS = np.iinfo(np.int32).max


class Shown(NamedTuple):
    """What decides whether the text of a span of tokens has a character that is not blank.

    The span from token i to token j has one where ``closed[j] > opened[i]``: where more such characters stand before
    the end of j than before the start of i.

    Attributes:
        opened: int32[tokens] or int32[rows, width], such characters before the start of each token.
        closed: int32[tokens] or int32[rows, width], such characters before its end.
    """

    opened: NDArray[np.int32]
    closed: NDArray[np.int32]

    @property
    def always(self) -> bool:
        """Whether every span of one context's tokens has a text."""
        return bool((self.closed > self.opened).all() and (self.closed[1:] >= self.closed[:-1]).all())


class ShownText:
    """Reads texts and offsets of contexts; RAM is one byte per document and `HELD_TOKENS`.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: PublishedCache):
        self._cache = cache
        self._always = np.zeros(cache.num_documents, np.bool_)
        self._held: OrderedDict[int, Shown] = OrderedDict()
        self._held_tokens = 0

    def of_rows(self, places: RowPlaces) -> Shown | None:
        """Return what decides it for the windows of some rows.

        Args:
            places: Where the context stands in the rows.

        Returns:
            int32[rows, width] of the tokens from the first of each window on, as wide as the widest; None where all
            spans of all rows have a text.

        Raises:
            CacheDamagedError: A value of the cache cannot be.
        """
        rows = np.flatnonzero(~self._always[places.document])
        if not rows.size:
            return None
        width = int(places.context_token_count.max(initial=0))
        shown: Shown | None = None
        for row in rows.tolist():
            found = self._of_document(int(places.document[row]))
            if found is None:
                continue
            if shown is None:
                # What holds for rows whose spans all have a text, and for what lies after a window.
                shown = Shown(*(np.full((len(places.document), width), value, np.int32) for value in (-1, _ALWAYS)))
            first, count = int(places.context_token_start[row]), int(places.context_token_count[row])
            if first + count > len(found.opened):
                context = self._cache.documents.number("context", int(places.document[row]))
                raise self._damaged(context, f"{first + count} tokens or more", f"{len(found.opened)}")
            for side, values in zip(shown, found, strict=True):
                side[row, :count] = values[first : first + count]
        return shown

    def _of_document(self, document: int) -> Shown | None:
        """Return what decides it for all tokens of a document's context, None where all spans have a text."""
        if self._always[document]:
            return None
        context = self._cache.documents.number("context", document)
        if context not in self._held:
            self._hold(context, self._read(context))
        self._held.move_to_end(context)
        found = self._held[context]
        self._always[document] = found.always
        return None if self._always[document] else found

    def _hold(self, context: int, found: Shown) -> None:
        self._held[context] = found
        self._held_tokens += len(found.opened)
        while len(self._held) > 1 and self._held_tokens > HELD_TOKENS:
            self._held_tokens -= len(self._held.popitem(last=False)[1].opened)

    def _read(self, context: int) -> Shown:
        contexts = self._cache.contexts
        most = self._cache.manifest.tables["contexts"].rows
        if not 0 <= context < most:
            raise self._damaged(context, f"one of {most} contexts", "none")
        counts = non_blank_counts(contexts.text("text", context))
        starts, stops = (contexts.numbers(name, context) for name in ("token_starts", "token_stops"))
        if len(starts) != len(stops):
            raise self._damaged(context, f"{len(starts)} token_stops, one for each of token_starts", f"{len(stops)}")
        for name, values in (("token_starts", starts), ("token_stops", stops)):
            wrong = values[(values < 0) | (values >= len(counts))]
            if wrong.size:
                raise self._damaged(context, f"{name} from 0 to {len(counts) - 1} (characters)", f"{wrong[0]}")
        return Shown(counts[starts], counts[stops])

    def _damaged(self, context: int, expected: str, found: str) -> CacheDamagedError:
        return CacheDamagedError(
            f"{self._cache.directory}, contexts, row {context}: expected {expected}, found {found}",
            hint=REBUILD,
        )

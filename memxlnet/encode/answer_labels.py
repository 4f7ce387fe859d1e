"""Where answers stand among the tokens of their contexts, and in windows of these: the labels.

The rule. The *core* of an answer is those of its characters that are not blank and that a token covers. The label of a
window is a run of the window's tokens whose text, from the first one's start to the last one's stop, holds the core
from its first to its last character: of all such runs the one with the shortest text, then with the fewest tokens, then
the earliest. Tokens whose own text is blank or empty neither begin nor end a run. A window without such a run does not
hold the answer.

So the lone blank that some tokenizers put before a word never decides anything, and where several tokens cover the same
character (bytes of it, or what it is normalized to), one of them is enough.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.token_pool import TokenPool
from memxlnet.format.ragged import Ints, bounds_of, ragged_arange

GROUP_CHARACTERS = 1 << 18
"""Characters of contexts that are looked at at once, unless one context has more: some 10 MB."""


class Labels(NamedTuple):
    """Runs of tokens, half-open and counted from the context's first token; -1 and -1 for no run.

    Attributes:
        start: int64[labels].
        stop: int64[labels].
    """

    start: Ints
    stop: Ints


class AnswerTokens:
    """The tokens of the answers of some documents.

    Texts and offsets are read once, when this is made; time and RAM follow the contexts that have an answer.

    Args:
        texts: Their contexts.
        contexts: The tokens of these and perhaps of others, the offsets within each text.
        place_of: int64[texts], the place of each text among `contexts`.
        context_of: int64[documents], the text of each document.
        starts: int64[documents], first character of its answer, -1 for none.
        stops: int64[documents], one after its last character.
    """

    def __init__(
        self,
        texts: Sequence[str],
        contexts: TokenPool,
        place_of: Ints,
        context_of: Ints,
        starts: Ints,
        stops: Ints,
    ):
        answered = np.flatnonzero(starts >= 0)
        asked, context = np.unique(context_of[answered], return_inverse=True)
        self._pool = pool = contexts.take(place_of[asked])
        texts = [texts[number] for number in asked.tolist()]
        is_candidate, core_start, core_stop = _find_cores(texts, pool, context, starts[answered], stops[answered])
        some = np.flatnonzero(core_start >= 0)
        self._context, self._core_start, self._core_stop = context[some], core_start[some], core_stop[some]
        self._is_candidate = is_candidate
        self._answer_of = np.full(len(context_of), -1, np.int64)
        self._answer_of[answered[some]] = np.arange(len(some))
        self._search(bounds_of(np.array([len(text) for text in texts], np.int64))[:-1])
        each = np.arange(len(context_of))
        counts = np.zeros(len(context_of), np.int64)
        counts[answered] = pool.counts[context]
        self.documents: Labels = self.in_windows(each, np.zeros_like(each), counts)
        """The label of each document: that of a window which holds all of its context."""

    def _search(self, bases: Ints) -> None:
        """Find the bounds of all runs that hold each core.

        For tokens in the order of their characters, these are the runs that begin at `_first` or before it and end at
        `_last` or after it, counted among `_candidates`.

        Args:
            bases: int64[texts], where each text begins on a line of all texts: one search serves all of them.
        """
        pool = self._pool
        candidates = np.flatnonzero(self._is_candidate)
        text = np.repeat(np.arange(len(bases)), pool.counts)[candidates]
        opens, closes = pool.starts[candidates] + bases[text], pool.stops[candidates] + bases[text]
        disordered = np.zeros(len(bases), np.bool_)
        disordered[text[1:][(opens[1:] < opens[:-1]) | (closes[1:] < closes[:-1])]] = True
        kept = ~disordered[text]
        self._is_disordered = disordered[self._context]
        self._candidates, self._widths = candidates[kept], (closes - opens)[kept]
        shift = bases[self._context]
        self._first = np.searchsorted(opens[kept], self._core_start + shift, side="right") - 1
        self._last = np.searchsorted(closes[kept], self._core_stop + shift, side="left")

    def in_windows(self, document: Ints, token_start: Ints, token_count: Ints) -> Labels:
        """Return the labels of windows.

        Args:
            document: int64[windows], whose context each is of.
            token_start: int64[windows], the first of the context's tokens that it holds.
            token_count: int64[windows], how many it holds.
        """
        labels = Labels(*np.full((2, len(document)), -1, np.int64))
        answer = self._answer_of[document]
        windows = np.flatnonzero(answer >= 0)
        disordered = self._is_disordered[answer[windows]]
        for window in windows[disordered].tolist():
            first = int(token_start[window])
            run = self._try_all(int(answer[window]), first, first + int(token_count[window]))
            labels.start[window], labels.stop[window] = run
        windows = windows[~disordered]
        if windows.size:
            answer = answer[windows]
            base = self._pool.bounds[self._context[answer]]
            begin = token_start[windows] + base
            start, stop = self._cut(answer, begin, begin + token_count[windows])
            labels.start[windows] = np.where(stop > 0, start - base, -1)
            labels.stop[windows] = np.where(stop > 0, stop - base, -1)
        return labels

    def _cut(self, answer: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Return the labels of windows over tokens in order, as places in the pool; -1 and -1 for no label."""
        first, last = self._first[answer], self._last[answer]
        begin_rank, end_rank = (np.searchsorted(self._candidates, side) for side in (begin, end))
        found = (begin_rank <= first) & (last < end_rank)
        # Several tokens cover the whole core, from the last back to the first: one of those in the window is enough.
        lowest, highest = np.maximum(last, begin_rank), np.minimum(first, end_rank - 1)
        crossed = np.flatnonzero(found & (last < first) & (lowest <= highest))
        found &= (last >= first) | (lowest <= highest)
        start, stop = first.copy(), last.copy()
        if crossed.size:
            counts = (highest - lowest + 1)[crossed]
            each = ragged_arange(counts) + np.repeat(lowest[crossed], counts)
            key = self._widths[each] * len(self._candidates) + each
            best = np.minimum.reduceat(key, bounds_of(counts)[:-1]) % len(self._candidates)
            start[crossed] = stop[crossed] = best
        places = np.where(found, start, 0), np.where(found, stop, 0)
        return np.where(found, self._candidates[places[0]], -1), np.where(found, self._candidates[places[1]] + 1, -1)

    def _try_all(self, answer: int, start: int, stop: int) -> tuple[int, int]:
        """Return the label of one window, for tokens that do not stand in the order of their characters."""
        pool = self._pool
        base = int(pool.bounds[self._context[answer]])
        part = slice(base + start, base + stop)
        opens, closes, is_candidate = pool.starts[part], pool.stops[part], self._is_candidate[part]
        firsts = np.flatnonzero(is_candidate & (opens <= self._core_start[answer]))
        far = np.iinfo(np.int64).max
        ends = np.where(is_candidate & (closes >= self._core_stop[answer]), closes.astype(np.int64), far)
        nearest = np.minimum.accumulate(ends[::-1])[::-1]
        firsts = firsts[nearest[firsts] < far]
        if not firsts.size:
            return -1, -1
        widths = nearest[firsts] - opens[firsts]
        firsts = firsts[widths == widths.min()]
        lasts = np.array([first + int(np.argmax(ends[first:] == nearest[first])) for first in firsts.tolist()])
        best = int(np.argmin(lasts - firsts))
        return start + int(firsts[best]), start + int(lasts[best]) + 1


def _find_cores(
    texts: Sequence[str], pool: TokenPool, context: Ints, starts: Ints, stops: Ints
) -> tuple[NDArray[np.bool_], Ints, Ints]:
    """Return what the characters decide.

    Args:
        texts: The contexts.
        pool: Their tokens.
        context: int64[answers], whose context each is in.
        starts: int64[answers], first characters.
        stops: int64[answers], one after the last characters.

    Returns:
        bool[tokens], whether a token may begin or end a run; int64[answers] and int64[answers], the first character of
        each core and one after its last, -1 and -1 where it has none.
    """
    is_candidate = np.zeros(len(pool.starts), np.bool_)
    core_start, core_stop = np.full((2, len(context)), -1, np.int64)
    for first, last in _groups(texts):
        bases = bounds_of(np.array([len(text) for text in texts[first:last]], np.int64))
        counts = non_blank_counts("".join(texts[first:last]))
        part = slice(int(pool.bounds[first]), int(pool.bounds[last]))
        shift = np.repeat(bases[:-1], pool.counts[first:last])
        opens, closes = pool.starts[part] + shift, pool.stops[part] + shift
        wanted = counts[closes] > counts[opens]
        is_candidate[part] = wanted
        opened, closed = (np.bincount(side[wanted], minlength=len(counts)) for side in (opens, closes))
        covered = np.cumsum(opened - closed)[:-1] > 0
        core = np.flatnonzero(covered & (counts[1:] > counts[:-1]))
        here = np.flatnonzero((context >= first) & (context < last))
        base = bases[context[here] - first]
        begin = np.searchsorted(core, starts[here] + base)
        end = np.searchsorted(core, stops[here] + base) - 1
        some = begin <= end
        core_start[here[some]] = core[begin[some]] - base[some]
        core_stop[here[some]] = core[end[some]] + 1 - base[some]
    return is_candidate, core_start, core_stop


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield half-open runs of neighbouring texts of `GROUP_CHARACTERS` together, or one longer text."""
    first = characters = 0
    for number, text in enumerate(texts):
        if characters and characters + len(text) > GROUP_CHARACTERS:
            yield first, number
            first, characters = number, 0
        characters += len(text)
    if first < len(texts):
        yield first, len(texts)


_AFTER_BLANKS = 0x3001
"""No code point from here on is blank."""


_IS_BLANK = np.array([chr(code).isspace() for code in range(_AFTER_BLANKS + 1)])


def non_blank_counts(text: str) -> NDArray[np.int32]:
    """Return how many of the characters before each place of a text are not blank.

    A stretch of the text is blank (or empty) where both of its ends have the same count.

    Args:
        text: Fewer than 2^31 characters.

    Returns:
        int32[characters + 1], from 0 on.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    counts = np.zeros(len(codes) + 1, np.int32)
    np.cumsum(~_IS_BLANK[np.minimum(codes, _AFTER_BLANKS)], out=counts[1:])
    return counts

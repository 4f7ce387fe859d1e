"""What is predicted of each document: its spans cut from the context, scores, and whether there is an answer at all."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import CacheDamagedError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.candidates import Candidates, PackedCandidates, no_candidates
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache


@dataclass(frozen=True)
class AnswerSpan:
    """A span of a document's context.

    Attributes:
        text: Its text, exactly as it stands in the context; never empty or blank.
        char_start: Its first character in Unicode code points of the context.
        char_stop: One after its last character.
        score: Start logit plus end logit, the best over all segments that hold the span.
        probability: Its share under a softmax over the document's n-best spans and no answer.
        row: The segment whose logits gave the score, the first of several.
        step: Its place in the document, from 0: its time step.
    """

    text: str
    char_start: int
    char_stop: int
    score: float
    probability: float
    row: int
    step: int


@dataclass(frozen=True)
class DocumentPrediction:
    """What is predicted of a document.

    Attributes:
        example_id: Its id.
        text: The answer: the text of the best span, empty for no answer, and where there is no span.
        score: Score of the best span, -inf where there is no span.
        null_score: Score of no answer: the least start plus end logit of ``cls`` over the document's segments.
        null_score_difference: `null_score` minus `score`; +inf where there is no span.
        null_probability: Share of no answer under the softmax of `AnswerSpan.probability`.
        spans: The n-best spans, best first, whether there is an answer or not.
    """

    example_id: str
    text: str
    score: float
    null_score: float
    null_score_difference: float
    null_probability: float
    spans: tuple[AnswerSpan, ...]


class CutSpan(NamedTuple):
    """A span of characters of a context, in Unicode code points, half-open, and its text."""

    start: int
    stop: int
    text: str


class SpanCutter:
    """Cuts spans of tokens from contexts; the last context stays decoded, as documents that share one follow closely.

    Args:
        cache: Where the contexts lie.
    """

    def __init__(self, cache: PublishedCache):
        self._cache = cache
        self._context = -1
        self._text = ""
        self._starts: NDArray[np.int32] = np.empty(0, np.int32)
        self._stops: NDArray[np.int32] = np.empty(0, np.int32)

    def cut(self, context: int, start: int, stop: int) -> CutSpan:
        """Cut the tokens `start` to `stop` (half-open) from a row of contexts.

        Raises:
            CacheDamagedError: There is no such context, or it has no such tokens.
        """
        if not 0 <= context < self._cache.manifest.tables["contexts"].rows:
            raise self._damaged(context, f"one of {self._cache.manifest.tables['contexts'].rows} contexts")
        if context != self._context:
            contexts = self._cache.contexts
            self._text = contexts.text("text", context)
            self._starts, self._stops = (contexts.numbers(name, context) for name in ("token_starts", "token_stops"))
            self._context = context
        if not 0 <= start < stop <= min(len(self._starts), len(self._stops)):
            raise self._damaged(context, f"the tokens {start} to {stop - 1} among {len(self._starts)}")
        first, last = int(self._starts[start]), int(self._stops[stop - 1])
        # Tokens need not stand in the order of their characters.
        last = max(first, last)
        return CutSpan(first, last, self._text[first:last])

    def _damaged(self, context: int, expected: str) -> CacheDamagedError:
        return CacheDamagedError(
            f"{self._cache.directory}, contexts, row {context}: expected {expected}, found none", hint=REBUILD
        )


class Judgement:
    """The answers of all documents at one moment.

    Args:
        cache: The cache.
        blocks: The best spans of each document, document by document, best first, in blocks of documents.
        null_scores: float64[documents], the score of no answer, +inf for a document that was never seen; kept, not
            copied.
        null_threshold: There is no answer where `null_scores` exceeds the best score by more.
    """

    def __init__(
        self, cache: PublishedCache, blocks: Sequence[PackedCandidates], null_scores: Floats, null_threshold: float
    ):
        self._cache = cache
        self._blocks = blocks
        self._null_scores = null_scores
        best = np.full(cache.num_documents, -np.inf)
        some = np.zeros(cache.num_documents, np.bool_)
        for block in blocks:
            document, first = np.unique(block.document, return_index=True)
            here = document + np.int64(block.first_document)
            best[here], some[here] = block.score[first], True
        self._best_scores: Floats = best
        # Where both are -inf, their difference would not be a number.
        self.differences: Floats = np.full(cache.num_documents, np.inf)
        np.subtract(null_scores, best, out=self.differences, where=some)
        self._answered = some & (self.differences <= null_threshold)

    def seen(self) -> Iterator[int]:
        """Return the documents of which a segment was seen, in order."""
        return iter(np.flatnonzero(self._null_scores < np.inf).tolist())

    def example_id(self, document: int) -> str:
        """Return the id of a document."""
        return self._cache.documents.text("id", document)

    def _with_spans(self) -> Iterator[tuple[int, Candidates]]:
        """Yield each document that was seen with its spans: views of one unpacked block."""
        blocks, seen = iter(self._blocks), self.seen()
        spans, start = no_candidates(), 0
        for document in seen:
            while start == len(spans.document) and (block := next(blocks, None)) is not None:
                spans, start = block.unpacked(), 0
            stop = int(np.searchsorted(spans.document, document, side="right"))
            yield document, Candidates._make(values[start:stop] for values in spans)
            start = stop

    def answers(self) -> Iterator[tuple[str, str]]:
        """Yield the id and answer of each document that was seen; one text is cut a document."""
        cutter = SpanCutter(self._cache)
        for document, spans in self._with_spans():
            text = self._cut(cutter, document, spans, 0).text if self._answered[document] else ""
            yield self.example_id(document), text

    def predictions(self) -> Iterator[DocumentPrediction]:
        """Yield everything about each document that was seen."""
        cutter = SpanCutter(self._cache)
        for document, found in self._with_spans():
            null_score = float(self._null_scores[document])
            shares = _shares([null_score, *found.score.tolist()])
            spans = self._spans(cutter, document, found, shares[1:])
            yield DocumentPrediction(
                example_id=self.example_id(document),
                text=spans[0].text if self._answered[document] else "",
                score=float(self._best_scores[document]),
                null_score=null_score,
                null_score_difference=float(self.differences[document]),
                null_probability=shares[0],
                spans=spans,
            )

    def _spans(
        self, cutter: SpanCutter, document: int, found: Candidates, shares: list[float]
    ) -> tuple[AnswerSpan, ...]:
        scores, rows = found.score.tolist(), found.row.tolist()
        cuts = [self._cut(cutter, document, found, rank) for rank in range(len(rows))]
        first = self._cache.documents.number("first_segment", document)
        return tuple(
            AnswerSpan(cut.text, cut.start, cut.stop, score, share, row, row - first)
            for cut, score, share, row in zip(cuts, scores, shares, rows, strict=True)
        )

    def _cut(self, cutter: SpanCutter, document: int, spans: Candidates, rank: int) -> CutSpan:
        start, stop = int(spans.start[rank]), int(spans.stop[rank])
        return cutter.cut(self._cache.documents.number("context", document), start, stop)


def _shares(scores: list[float]) -> list[float]:
    """Return a softmax; a lone score has all, also where it is -inf."""
    if len(scores) == 1:
        return [1.0]
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def logistic(difference: float) -> float:
    """Return the probability whose log-odds are `difference`, from 0 to 1; infinities are allowed."""
    if difference >= 0:
        return 1 / (1 + math.exp(-difference))
    odds = math.exp(difference)
    return odds / (1 + odds)


def n_best_entries(prediction: DocumentPrediction) -> list[dict[str, Any]]:
    """Return the n-best list of a document as JSON holds it: its spans and no answer, best first.

    Returns:
        ``text``, ``char_start``, ``char_stop``, ``score`` and ``probability`` of each; no answer has an empty text,
        the characters -1, and the score None where it is not finite, which JSON cannot hold.
    """
    spans = prediction.spans
    entries = [
        {
            "text": span.text,
            "char_start": span.char_start,
            "char_stop": span.char_stop,
            "score": span.score,
            "probability": span.probability,
        }
        for span in spans
    ]
    place = sum(span.score >= prediction.null_score for span in spans)
    entries.insert(place, no_answer_entry(prediction.null_score, prediction.null_probability))
    return entries


def no_answer_entry(score: float, probability: float) -> dict[str, Any]:
    """Return the entry of an n-best list for no answer."""
    shown = score if math.isfinite(score) else None
    return {"text": "", "char_start": -1, "char_stop": -1, "score": shown, "probability": probability}

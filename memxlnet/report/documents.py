"""The documents of a page: which ones, and everything about each as JSON values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from memxlnet.errors import CacheDamagedError
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.maintain.encoding_rules import read_content
from memxlnet.report.predictions import Candidate
from memxlnet.report.scores import LABELS, VERDICTS, Labelled, Run

MOST_BYTES = 16_000_000
"""Bytes of documents in a page at most: a browser opens more only slowly."""

_MARKED = 20
_SPREAD = (5**0.5 - 1) / 2
_MARGIN = 1e-9


@dataclass(frozen=True)
class PageDocuments:
    """The documents of a page.

    Attributes:
        numbers: Their numbers in the cache, in the order of `documents`.
        documents: Everything about each.
        contexts: Their distinct contexts.
        vocabulary: The tokens that their segments hold, by id.
        is_full: Whether the next document would have taken too many bytes.
    """

    numbers: list[int]
    documents: list[dict[str, Any]]
    contexts: list[str]
    vocabulary: dict[str, str]
    is_full: bool


def choose(labelled: Labelled, runs: Sequence[Run], most: int) -> Ints:
    """Choose documents so that each outcome has an equal part, as far as it has documents.

    Outcomes are those of the label and of the first run, and whether the second one is better or worse. Of each, the
    documents with the lowest F1 come first, and those with equal F1 are spread over the cache.

    Returns:
        int64[chosen], the documents, some of each outcome first; at most `most`.
    """
    outcome = labelled.label.copy()
    overlap = np.zeros(len(outcome))
    for run in runs[:1]:
        outcome = outcome * len(VERDICTS) + run.verdict
        overlap = np.nan_to_num(run.f1)
    if len(runs) > 1:
        outcome = outcome * 3 + compare(runs) + 1
    spread = (np.arange(len(outcome)) * _SPREAD) % 1
    order = np.lexsort((spread, overlap, outcome))
    order = order[labelled.shown[order]]
    _, first, counts = np.unique(outcome[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    chosen: Ints = order[np.argsort(rank, kind="stable")][:most]
    return chosen


def compare(runs: Sequence[Run]) -> Ints:
    """Return int64[documents]: 1 where the second run has a better F1, -1 where it has a worse one, else 0."""
    difference = np.nan_to_num(runs[1].f1) - np.nan_to_num(runs[0].f1)
    found: Ints = (difference > _MARGIN).astype(np.int64) - (difference < -_MARGIN)
    return found


class DocumentReader:
    """Reads documents off a cache as a page takes them.

    Args:
        cache: The cache.
        labelled: What is known of its documents.
        runs: The runs whose predictions are shown.
        n_best: Their n-best lists by id, empty where a run has none; none at all without it.
    """

    def __init__(
        self,
        cache: PublishedCache,
        labelled: Labelled,
        runs: Sequence[Run],
        n_best: Sequence[Mapping[str, Sequence[Candidate]]] = (),
    ):
        self._n_best = n_best or [{}] * len(runs)
        self._cache = cache
        self._labelled = labelled
        self._runs = runs
        self._token_ids: set[int] = set()
        self._shards = np.array([shard.row_start for shard in cache.features])

    def read(self, chosen: Ints, most_bytes: int = MOST_BYTES) -> PageDocuments:
        """Read documents until they take a number of bytes.

        Args:
            chosen: int64[documents], the documents, those that matter most first.
            most_bytes: Bytes of all as JSON; at least one document is read.

        Raises:
            CacheDamagedError: A value of the cache cannot be.
        """
        size, documents, contexts, is_full = 0, dict[int, dict[str, Any]](), dict[int, str](), False
        for number in chosen.tolist():
            try:
                row = self._cache.documents.number("context", number)
                text = contexts.get(row) or self._cache.contexts.text("text", row)
                found = self._read(number, row, text)
            except (IndexError, ValueError, OverflowError) as error:
                raise CacheDamagedError(
                    f"{self._cache.directory}, document {number}: expected values that fit together, found {error}",
                    hint=REBUILD,
                ) from error
            size += len(orjson.dumps(found)) + (0 if row in contexts else len(text.encode()))
            if is_full := bool(documents) and size > most_bytes:
                break
            documents[number], contexts[row] = found, text
        worst = self._runs[0].f1 if self._runs else np.zeros(len(self._labelled.label))
        numbers = sorted(documents, key=lambda number: (float(np.nan_to_num(worst[number], nan=2)), number))
        places = {row: place for place, row in enumerate(contexts)}
        for document in documents.values():
            document["context"] = places[document["context"]]
        ordered = [documents[number] for number in numbers]
        return PageDocuments(numbers, ordered, list(contexts.values()), self._vocabulary(), is_full)

    def _read(self, number: int, context: int, text: str) -> dict[str, Any]:
        documents = self._cache.documents
        example_id = documents.text("id", number)
        start, stop = (documents.number(name, number) for name in ("answer_char_start", "answer_char_stop"))
        golds = zip(
            documents.texts("answer_texts", number), documents.numbers("answer_starts", number).tolist(), strict=True
        )
        return {
            "number": number,
            "id": example_id,
            "question": documents.text("question", number),
            "context": context,
            # A gold answer counts as marked only where its text stands at its offset.
            "golds": [[gold, at, at >= 0 and text.startswith(gold, at)] for gold, at in golds],
            "chosen": documents.number("chosen_answer", number),
            "span": [start, stop] if start >= 0 else None,
            "label": LABELS[int(self._labelled.label[number])],
            "detail": documents.text("alignment_detail", number),
            "contradiction": documents.text("contradiction", number),
            "step": int(self._labelled.step[number]),
            "kept": self._kept(number),
            "segments": self._segments(number, context),
            "runs": [
                self._prediction(run, n_best.get(example_id, ()), number, example_id, text)
                for run, n_best in zip(self._runs, self._n_best, strict=True)
            ],
        }

    def _kept(self, number: int) -> dict[str, str]:
        """Return the kept values of a document as they are shown; null is left out."""
        names = frozenset(self._cache.manifest.kept)
        if self._cache.kept is None:
            return {}
        values = self._cache.kept.values(number, names)
        return {name: str(value) for name, value in values.items() if value is not None}

    def _prediction(
        self, run: Run, n_best: Sequence[Candidate], number: int, example_id: str, context: str
    ) -> dict[str, Any]:
        text = run.texts.get(example_id)
        score = None if np.isnan(run.f1[number]) else {"exact": float(run.exact[number]), "f1": float(run.f1[number])}
        verdict = VERDICTS[int(run.verdict[number])]
        span = n_best[0].span if n_best else None
        return {
            "text": text,
            "score": score,
            "verdict": verdict,
            "n_best": [[each.text, each.probability] for each in n_best],
            **_places(context, text or "", span),
        }

    def _segments(self, number: int, context: int) -> list[dict[str, Any]]:
        documents, contexts = self._cache.documents, self._cache.contexts
        first, count = documents.number("first_segment", number), documents.number("num_segments", number)
        starts, stops = contexts.numbers("token_starts", context), contexts.numbers("token_stops", context)
        questions = len(documents.numbers("question_token_starts", number))
        return [self._segment(row, starts, stops, questions) for row in range(first, first + count)]

    def _segment(self, row: int, starts: Any, stops: Any, questions: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._shards, row, side="right")) - 1
        shard = self._cache.features[number]
        place = row - shard.row_start
        columns = shard.columns
        real = np.flatnonzero(columns["attention_mask"][place])
        first = int(real[0])
        ids = columns["input_ids"][place][first : int(real[-1]) + 1].tolist()
        self._token_ids.update(ids)
        value = {
            name: int(columns[name][place])
            for name in (
                "context_token_start",
                "context_token_count",
                "context_row_start",
                "question_row_start",
                "start_positions",
                "end_positions",
                "has_answer_in_segment",
            )
        }
        tokens = slice(value["context_token_start"], value["context_token_start"] + value["context_token_count"])
        # Tokens need not stand in the order of their characters.
        characters = [int(starts[tokens].min()), int(stops[tokens].max())] if len(starts[tokens]) else [0, 0]
        return {
            "row": row,
            "characters": characters,
            "first": first,
            "ids": ids,
            "context": [value["context_row_start"], value["context_token_count"]],
            "question": [value["question_row_start"], questions],
            "label": [value["start_positions"], value["end_positions"]],
            "holds": bool(value["has_answer_in_segment"]),
        }

    def _vocabulary(self) -> dict[str, str]:
        tokenizer = read_content(self._cache).backend
        return {str(token): tokenizer.id_to_token(token) or "" for token in sorted(self._token_ids)}


def _places(context: str, text: str, span: tuple[int, int] | None) -> Mapping[str, Any]:
    """Return where a predicted text stands in the context: at its place, else at borders of words, else anywhere."""
    if not text:
        return {"places": [], "times": 0}
    if span is not None and context[slice(*span)] == text:
        return {"places": [list(span)], "times": 1}
    exact = re.escape(text)
    for pattern in (rf"(?<!\w){exact}(?!\w)", exact):
        found = [list(match.span()) for match in re.finditer(pattern, context)]
        if found:
            return {"places": found[:_MARKED], "times": len(found)}
    return {"places": [], "times": 0}

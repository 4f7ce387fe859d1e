"""Logits to feed, and an oracle that tries every pair of every row."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.predictions import DocumentPrediction
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader, create_evaluation_dataloader
from tests.load.helpers import steps_of
from tests.support import example

Logits = NDArray[np.float64]

FILLERS = ("the river", "e\u0301te\u0301", "\U0001f600x", "born in 1990", "Paris,", "\u4e2d\u6587", "naïve", "a  b")


def texts(words: Iterable[int]) -> list[dict[str, Any]]:
    """Examples of so many words; every third is unanswerable, the last two share a context."""
    examples: list[dict[str, Any]] = []
    for number, count in enumerate(words):
        parts = [f"{FILLERS[(number + place) % len(FILLERS)]} w{number}.{place}" for place in range(count)]
        context = " ".join(parts)
        answer = f"w{number}.{count // 2}"
        pairs = [] if number % 3 == 2 else [(answer, context.index(answer))]
        examples.append(example(context, "Who is?", pairs, id=f"ïd-{number}"))
    again = dict(examples[-1], id="again", question="What is?")
    return [*examples, again]


def random_logits(dataset: CacheDataset, seed: int = 0, values: int | None = None) -> tuple[Logits, Logits]:
    """float64[rows, L] twice; of few values, so that many spans have the same score."""
    random = np.random.default_rng(seed)
    shape = (2, len(dataset), dataset.manifest.max_seq_length)
    drawn = random.normal(size=shape) if values is None else random.integers(0, values, shape).astype(float)
    return drawn[0], drawn[1]


def balanced_logits(dataset: CacheDataset, seed: int = 0) -> tuple[Logits, Logits]:
    """As `random_logits`, with ``cls`` raised so that some documents have an answer and some have none."""
    starts, ends = random_logits(dataset, seed)
    differences = [one.null_score_difference for one in collected(dataset, starts, ends).predictions()]
    starts[np.arange(len(dataset)), dataset.gather(slice(None), ["cls_index"])["cls_index"]] -= np.median(differences)
    return starts, ends


class Place(NamedTuple):
    """The context's tokens of a row: places in the row, numbers in the context, characters."""

    document: str
    context: str
    tokens: list[int]
    first: int
    offsets: list[list[int]]
    cls_index: int


def places(dataset: CacheDataset) -> list[Place]:
    """Of all rows, as the loader gives them."""
    loader = create_dataloader(
        dataset, use_time_step_major=False, metadata=["offset_mapping", "context", "context_mask"]
    )
    found: list[Place] = []
    firsts = dataset.gather(slice(None), ["context_token_start"])["context_token_start"].tolist()
    names = list(dataset.get_all_documents())
    for batch in loader:
        for lane, row in enumerate(batch["rows"].tolist()):
            tokens = batch["context_mask"][lane].nonzero()[:, 0].tolist()
            offsets = batch["offset_mapping"][lane].tolist()
            where = names[batch["document"][lane]], batch["context"][lane]
            cls = int(batch["cls_index"][lane])
            found.append(Place(*where, tokens, firsts[row], [offsets[token] for token in tokens], cls))
    return found


class Expected(NamedTuple):
    """What must come out of a document: spans as (start, stop, text, score, row), and the score of no answer."""

    spans: list[tuple[int, int, str, float, int]]
    null_score: float


def expected_of(
    found: Iterable[Place], starts: Logits, ends: Logits, n_best: int, max_answer_length: int | None
) -> dict[str, Expected]:
    """Every pair of every row, one after the other."""
    spans: dict[str, dict[tuple[int, int], tuple[float, int, int, int, str]]] = {}
    nulls: dict[str, float] = {}
    for row, place in enumerate(found):
        null = float(starts[row, place.cls_index] + ends[row, place.cls_index])
        nulls[place.document] = min(nulls.get(place.document, math.inf), null)
        mine = spans.setdefault(place.document, {})
        for i, first in enumerate(place.tokens):
            for j in range(i, len(place.tokens)):
                score = float(starts[row, first] + ends[row, place.tokens[j]])
                if score == -math.inf or (max_answer_length is not None and j - i >= max_answer_length):
                    continue
                key = place.first + i, place.first + j + 1
                if not place.context[place.offsets[i][0] : place.offsets[j][1]].strip():
                    continue
                if key not in mine or score > mine[key][0]:
                    chars = place.offsets[i][0], place.offsets[j][1]
                    mine[key] = (score, row, *chars, place.context[slice(*chars)])
    result = {}
    for name, mine in spans.items():
        order = sorted(mine, key=lambda key: (-mine[key][0], *key))[:n_best]
        best = [(mine[key][2], mine[key][3], mine[key][4], mine[key][0], mine[key][1]) for key in order]
        result[name] = Expected(best, nulls[name])
    return result


def assert_predicted(found: Iterable[DocumentPrediction], expected: Mapping[str, Expected], threshold: float) -> None:
    """The same documents in the same order, with the same spans and scores."""
    predictions = list(found)
    assert [one.example_id for one in predictions] == list(expected)
    for one in predictions:
        wanted = expected[one.example_id]
        spans = [(span.char_start, span.char_stop, span.text, span.score, span.row) for span in one.spans]
        assert spans == wanted.spans
        best = wanted.spans[0][3] if wanted.spans else -math.inf
        difference = wanted.null_score - best if wanted.spans else math.inf
        assert (one.score, one.null_score, one.null_score_difference) == (best, wanted.null_score, difference)
        assert one.text == (wanted.spans[0][2] if wanted.spans and difference <= threshold else "")
        weights = np.exp(np.array([wanted.null_score, *(span[3] for span in wanted.spans)]) - best)
        if wanted.spans:
            shares = [one.null_probability, *(span.probability for span in one.spans)]
            np.testing.assert_allclose(shares, weights / weights.sum(), rtol=1e-12)


def collected(
    dataset: CacheDataset, starts: Logits, ends: Logits, order: Any = None, batch: int = 7, **settings: Any
) -> AnswerCollector:
    """A collector that was given all rows, or those of `order`."""
    collector = AnswerCollector(dataset, **settings)
    rows = np.arange(len(dataset)) if order is None else np.asarray(order)
    for at in range(0, len(rows), batch):
        some = rows[at : at + batch]
        collector.add(some, starts[some], ends[some])
    return collector


def perfect_logits(positions: torch.Tensor, length: int) -> torch.Tensor:
    """float32[B, L], 10 at each position; positions of ended lanes lie after the row."""
    return torch.zeros(len(positions), length + 1).scatter_(1, positions[:, None], 10)[:, :length]


def perfectly_collected(dataset: CacheDataset, **options: Any) -> AnswerCollector:
    """A collector that was given perfect logits by the loader for evaluation."""
    collector = AnswerCollector(dataset, n_best=2, max_answer_length=None)
    length = dataset.manifest.max_seq_length
    loader: Any = create_evaluation_dataloader(dataset, **options)
    for step in steps_of(loader):
        logits = (perfect_logits(step[f"{side}_positions"], length) for side in ("start", "end"))
        collector.add(step["rows"], *logits)
    return collector


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

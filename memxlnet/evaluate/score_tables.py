"""Tables of documents with their scores, and of those that are wrong."""

from typing import Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.cache_argument import CacheLike, batches_in_view
from memxlnet.evaluate.data_table import DataTable, table_of
from memxlnet.evaluate.document_scores import Answers, DocumentScores, Golds, ScoringOptions, score_documents
from memxlnet.format.answer_steps import answer_steps

SCORES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("exact", pa.float64(), nullable=False),
        pa.field("f1", pa.float64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("prediction", pa.large_string(), nullable=False),
        pa.field("golds", pa.large_list(pa.field("item", pa.large_string(), nullable=False)), nullable=False),
        pa.field("question", pa.large_string(), nullable=False),
        pa.field("segments", pa.int32(), nullable=False),
        pa.field("answer_step", pa.int32()),
    ]
)
"""Columns of the table of scores."""


def scores_table(
    scores: DocumentScores, exact: Floats, f1: Floats, emptied: NDArray[np.bool_] | None = None
) -> DataTable:
    """Return a row for each scored document, in the order of the cache.

    Args:
        scores: The scores.
        exact: float64[documents], exact match.
        f1: float64[documents], F1.
        emptied: bool[documents], which answers count as no answer; None for none of them.
    """
    held = np.zeros(scores.cache.num_documents, np.bool_)
    held[scores.documents] = True
    texts = list(scores.answers)
    for place in [] if emptied is None else np.flatnonzero(emptied).tolist():
        texts[place] = ""
    answered = np.array([bool(text) for text in texts], np.bool_)
    outcomes = _outcomes(exact, f1, scores.has_gold, answered)
    steps = answer_steps(scores.cache)[scores.documents]
    batches = []
    first = 0
    for batch in batches_in_view(scores.cache, held):
        part = slice(first, first + batch.num_rows)
        first = part.stop
        columns = [
            batch["id"],
            pa.array(exact[part]),
            pa.array(f1[part]),
            pa.array(outcomes[part]),
            pa.array(texts[part], pa.large_string()),
            batch["answer_texts"] if scores.golds is None else _lists_of(scores.golds, scores.ids[part]),
            batch["question"],
            batch["num_segments"],
            pa.array(steps[part], mask=steps[part] < 0),
        ]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=SCORES_SCHEMA))
    return table_of(SCORES_SCHEMA, batches)


def _lists_of(golds: Golds, ids: list[str]) -> pa.Array:
    return pa.array([list(golds[one]) for one in ids], SCORES_SCHEMA.field("golds").type)


def _outcomes(exact: Floats, f1: Floats, has_gold: NDArray[np.bool_], answered: NDArray[np.bool_]) -> NDArray[np.str_]:
    cases = [exact == 1, ~has_gold, ~answered, f1 > 0]
    return np.select(cases, ["right", "answered", "unanswered", "partial"], "wrong")


def errors_table(predictions: Answers, cache: CacheLike, **options: Unpack[ScoringOptions]) -> DataTable:
    """Return the documents whose answer is not an exact match, the worst first, in the order of the cache among equals.

    Args:
        predictions: Answers by id, or the collector of a run.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        options: See `ScoringOptions`.

    Returns:
        Their ``id``, ``exact`` and ``f1`` (from 0 to 1), ``outcome`` (``"right"``; ``"answered"``, though there is no
        gold answer; ``"unanswered"``, though there is one; ``"partial"``, which shares words with a gold; or
        ``"wrong"``), ``prediction``, ``golds``, ``question``, number of ``segments`` and ``answer_step``, the time step
        of the first segment that holds the answer whole, null where no segment does.

    Raises:
        SettingsError: An argument is wrong; as `squad_metrics`.
    """
    scores = score_documents(predictions, cache, **options)
    table = scores_table(scores, scores.exact, scores.f1).to_arrow()
    order = np.argsort(scores.f1, kind="stable")
    return DataTable(table.take(pa.array(order[scores.exact[order] < 1])))

"""What each document scores: the answers of a run compared with the golds of a cache, in arrays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from memxlnet.encode.answer_alignment import UNLABELLED
from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.cache_argument import CacheLike, batches_in_view, open_with_view
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.comparing_texts import Normalization, Rule, find_rule
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.settings import check_bool

Answers = Mapping[str, str] | AnswerCollector
"""The answers of a run: texts by id, or the collector of the run, over the same cache."""

Golds = Mapping[str, Sequence[str]]
"""Gold answers by id; an empty list where a document has no answer."""

_SHOWN_IDS = 5


class ScoringOptions(TypedDict, total=False):
    """How answers are compared with golds.

    Attributes:
        allow_missing: Leave documents without an answer out of every figure; else they are an error.
        allow_other: Skip answers of ids that the cache does not know, as the official scripts do; else they are an
            error. The ids of all its documents and of examples that were dropped when it was built are known.
        normalization: The official script that decides when two answers are equal: ``"squad"`` (SQuAD 2.0),
            ``"squad-v1.1"`` (XQuAD too), ``"mrqa"`` or ``"mlqa"``. All but the first need a gold of each document.
        language: For ``"mlqa"``: the language of the answers, such as ``"de"``.
        golds: Gold answers by id in place of those of the cache, for every labelled document; an unlabelled one counts
            as labelled where its id is here. Other ids are not looked at.
    """

    allow_missing: bool
    allow_other: bool
    normalization: Normalization
    language: str | None
    golds: Golds | None


@dataclass(frozen=True)
class DocumentScores:
    """The scores of labelled documents that have an answer, in the order of the cache.

    Attributes:
        cache: The cache.
        rule: How answers were compared.
        documents: int64[documents], their rows in the documents table.
        ids: Their ids.
        answers: Their answers.
        exact: float64[documents], exact match, 0 or 1.
        f1: float64[documents], F1, from 0 to 1.
        has_gold: bool[documents], whether there is a gold answer.
        unlabelled: int64[n], the unlabelled documents, which have no score.
        golds: The gold answers by id that were given; None where those of the cache count.
    """

    cache: PublishedCache
    rule: Rule
    documents: Ints
    ids: list[str]
    answers: list[str]
    exact: Floats
    f1: Floats
    has_gold: NDArray[np.bool_]
    unlabelled: Ints
    golds: Golds | None = None


def score_documents(
    answers: Answers,
    cache: CacheLike,
    name: str = "predictions",
    /,
    *,
    allow_missing: bool = False,
    allow_other: bool = False,
    normalization: Normalization = "squad",
    language: str | None = None,
    golds: Golds | None = None,
) -> DocumentScores:
    """Score the answers of a run.

    Args:
        answers: The answers.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        name: Name of the argument `answers`, for messages.
        allow_missing: See `ScoringOptions`, as for the others.
        allow_other: Skip answers of other ids.
        normalization: The official script.
        language: The language of the answers.
        golds: Gold answers in place of those of the cache.

    Raises:
        SettingsError: An argument is wrong, an answer is missing or no text, or has an id that the cache does not know,
            no document is labelled, or one has no gold where the script needs one.
        CacheMismatchError: The answers are those of a collector over another cache.
        CacheDamagedError: A file of the cache is damaged.
    """
    rule = find_rule(normalization, language)
    check_bool("allow_missing", allow_missing)
    check_bool("allow_other", allow_other)
    opened, held = open_with_view(cache)
    texts = _as_texts(name, answers, opened)
    if golds is not None and not isinstance(golds, Mapping):
        raise SettingsError(f"golds: expected a mapping of lists of texts by id, found {type(golds).__name__}")
    scores, missing = compare_answers(name, texts, opened, held, rule, golds)
    _check_missing(name, opened, missing, len(scores.documents), len(scores.unlabelled), allow_missing)
    if not allow_other:
        check_others(name, texts, opened, {*scores.ids, *missing})
    return scores


def compare_answers(
    name: str,
    texts: Mapping[str, str],
    cache: PublishedCache,
    held: NDArray[np.bool_] | None,
    rule: Rule,
    given: Golds | None = None,
) -> tuple[DocumentScores, list[str]]:
    """Compare the answers of a run with the golds.

    Args:
        name: Name of the argument `texts`, for messages.
        texts: The answers by id; those of other ids are not looked at.
        cache: The cache.
        held: bool[documents], the documents of a view; None for all.
        rule: How answers are compared.
        given: Gold answers in place of those of the cache.

    Returns:
        The scores, and the ids of labelled documents without an answer.

    Raises:
        SettingsError: An answer is no text, golds are missing or no list of texts, or a document has no gold where the
            script needs one.
        CacheDamagedError: A record batch is damaged.
    """
    documents: list[int] = []
    unlabelled: list[int] = []
    ids: list[str] = []
    found: list[str] = []
    exact: list[int] = []
    f1: list[float] = []
    has_gold: list[bool] = []
    missing: list[str] = []
    for document, example_id, golds in read_golds(cache, held, given):
        if golds is None:
            unlabelled.append(document)
        elif example_id not in texts:
            missing.append(example_id)
        else:
            text = texts[example_id]
            if not isinstance(text, str):
                raise SettingsError(f"{name}: expected a text for {example_id!r:.120}, found {text!r:.80}")
            if not golds and not rule.knows_no_answer:
                raise _without_gold(example_id, rule)
            documents.append(document)
            ids.append(example_id)
            found.append(text)
            score = rule.score(golds, text)
            exact.append(score.exact)
            f1.append(score.f1)
            has_gold.append(bool(golds))
    scores = DocumentScores(
        cache=cache,
        rule=rule,
        documents=np.array(documents, np.int64),
        ids=ids,
        answers=found,
        exact=np.array(exact, np.float64),
        f1=np.array(f1, np.float64),
        has_gold=np.array(has_gold, np.bool_),
        unlabelled=np.array(unlabelled, np.int64),
        golds=given,
    )
    return scores, missing


def _as_texts(name: str, answers: object, cache: PublishedCache) -> Mapping[str, str]:
    if isinstance(answers, Mapping):
        return answers
    if not isinstance(answers, AnswerCollector):
        raise SettingsError(
            f"{name}: expected a mapping of texts by id, or the collector of a run, found {type(answers).__name__}"
        )
    mine, theirs = cache.manifest.fingerprint, answers.cache.manifest.fingerprint
    if mine != theirs:
        raise CacheMismatchError(
            f"{name}: expected a run over {cache.directory} (fingerprint {mine[:16]}), found a collector over "
            f"{answers.cache.directory} (fingerprint {theirs[:16]}); where both have the same examples, pass its "
            "answers as a mapping: dict(collector.answers())"
        )
    return dict(answers.answers())


def read_golds(
    cache: PublishedCache, held: NDArray[np.bool_] | None, given: Golds | None = None
) -> Iterator[tuple[int, str, Sequence[str] | None]]:
    """Yield row, id and gold answers (None where unlabelled) of each document; RAM for one record batch.

    Args:
        cache: The cache.
        held: bool[documents], the documents of a view; None for all.
        given: Gold answers in place of those of the cache.

    Raises:
        SettingsError: A labelled document has none in `given`, or what it has is no list of texts.
    """
    documents = iter(range(cache.num_documents) if held is None else np.flatnonzero(held).tolist())
    for batch in batches_in_view(cache, held):
        golds, ids = batch["answer_texts"].to_pylist(), batch["id"].to_pylist()
        is_unlabelled = pc.equal(batch["alignment"], UNLABELLED).to_pylist()
        for example_id, texts, skipped in zip(ids, golds, is_unlabelled, strict=True):
            own = None if skipped else texts
            if given is not None and (example_id in given or not skipped):
                own = _given_golds(given, example_id, cache)
            yield next(documents), example_id, own


def _given_golds(given: Golds, example_id: str, cache: PublishedCache) -> Sequence[str]:
    if example_id not in given:
        raise SettingsError(
            f"golds: expected a list of texts for each labelled document of {cache.directory}, found none for "
            f"{example_id!r:.120}; give an empty list where there is no answer"
        )
    texts = given[example_id]
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise SettingsError(f"golds: expected a list of texts for {example_id!r:.120}, found {texts!r:.80}")
    return texts


def _without_gold(example_id: str, rule: Rule) -> SettingsError:
    return SettingsError(
        f"normalization: expected a gold answer of each document, as the script of {rule.name!r} has no figure for "
        f"others, found none for {example_id!r:.120}; use normalization='squad', or a view of the documents with a gold"
    )


def _check_missing(
    name: str, cache: PublishedCache, missing: list[str], scored: int, unlabelled: int, allowed: bool
) -> None:
    if not scored and not missing:
        raise SettingsError(
            f"cache: expected labelled documents, found all {unlabelled} of {cache.directory} unlabelled; their "
            f"{name} have nothing to be compared with"
        )
    if missing and not (allowed and scored):
        raise SettingsError(
            f"{name}: expected one for each of the {scored + len(missing)} labelled documents of {cache.directory}, "
            f"found none for {len(missing)} of them, the first of them {missing[0]!r:.120}; give an empty text for no "
            "answer" + ("" if allowed else ", or pass allow_missing=True")
        )


def check_others(name: str, given: Mapping[str, object], cache: PublishedCache, known: set[str]) -> None:
    """Check that the cache knows all ids."""
    others = find_others(given, cache, known)
    if others:
        shown = ", ".join(f"{example_id!r:.80}" for example_id in others[:_SHOWN_IDS])
        more = f" and {len(others) - _SHOWN_IDS} more" if len(others) > _SHOWN_IDS else ""
        raise SettingsError(
            f"{name}: expected ids of {cache.directory}, found {len(others)} others among {len(given)}: {shown}{more}; "
            "pass allow_other=True to skip them"
        )


def find_others(given: Mapping[str, object], cache: PublishedCache, known: set[str]) -> list[str]:
    """Return the ids that a cache does not know; those of documents outside a view and of dropped examples are known.

    Args:
        given: What has ids.
        cache: The cache.
        known: Ids that are known already.
    """
    if len(given) <= len(known) and known.issuperset(given):
        return []
    others = dict.fromkeys(example_id for example_id in given if example_id not in known)
    for batch in cache.documents.batches():
        for example_id in batch["id"].to_pylist():
            others.pop(example_id, None)
    for example in read_dropped(cache):
        others.pop(example.id, None)
    return list(others)

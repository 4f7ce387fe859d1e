"""SQuAD's own form: articles of paragraphs of questions in one JSON file."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from memxlnet.errors import ExportError
from memxlnet.export.exported_file import ExportedFile, document_batches
from memxlnet.export.json_lines_files import as_json, lines_file
from memxlnet.format.published import PublishedCache

_WITHOUT_FORM = ("yes_no", "number")
"""Outcomes of answers that SQuAD's form has no place for."""

TITLE = "title"
"""The kept column that names the article."""

Document = dict[str, Any]


def squad_file(cache: PublishedCache) -> ExportedFile:
    """Return the file of an export in SQuAD's form.

    Questions on one context that follow each other share a paragraph, and paragraphs of one title an article, which has
    no title where it is null or NaN. Other kept columns are fields of the questions.

    Raises:
        ExportError: Answers are no spans of text.
    """
    counts = cache.manifest.alignment
    lost = {status: counts[status] for status in _WITHOUT_FORM if counts[status]}
    if lost:
        shown = ", ".join(f"{count} {status}" for status, count in lost.items())
        raise ExportError(
            f"{cache.directory}: expected answers that are spans of text, which SQuAD's form holds, found {shown}; "
            "export to jsonl or parquet"
        )
    return lines_file(f"{cache.manifest.split}.json", cache.num_documents, partial(_lines, cache))


def _lines(cache: PublishedCache) -> Iterator[tuple[list[bytes], int]]:
    """Yield the file line by line, an article a line."""
    has_unanswerable = bool(cache.manifest.alignment["unanswerable"])
    yield [as_json({"version": "v2.0" if has_unanswerable else "1.1"})[:-1] + b',"data":['], 0
    before = b""
    # Titles are compared as JSON: NaN is null there, a missing title, and does not equal itself as a number.
    for title, documents in groupby(_documents(cache), lambda document: as_json(document[TITLE])):
        paragraphs, count = [], 0
        for context, questions in groupby(documents, itemgetter("context")):
            qas = [_question(document, cache, has_unanswerable) for document in questions]
            paragraphs.append({"context": cache.contexts.text("text", context), "qas": qas})
            count += len(qas)
        named = b"" if title == b"null" else b'"title":' + title + b","
        yield [before + b"{" + named + as_json({"paragraphs": paragraphs})[1:]], count
        before = b","
    yield [b"]}"], 0


def _documents(cache: PublishedCache) -> Iterator[Document]:
    for batch in document_batches(cache):
        for document in batch.to_pylist():
            yield {TITLE: None, **document}


def _question(document: Document, cache: PublishedCache, has_unanswerable: bool) -> Document:
    question: Document = {"id": document["id"], "question": document["question"]}
    if document["alignment"] != "unlabelled":
        pairs = zip(document["answer_texts"], document["answer_starts"], strict=True)
        question["answers"] = [{"text": text, "answer_start": start} for text, start in pairs]
        if has_unanswerable:
            question["is_impossible"] = not question["answers"]
    names = (name for name in cache.manifest.kept if name != TITLE)
    return question | {name: document[name] for name in names if document[name] is not None}

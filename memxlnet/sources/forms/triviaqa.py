"""TriviaQA: one example for each page of evidence, with the aliases of the answer looked up in it.

https://nlp.cs.washington.edu/triviaqa: as `datasets` has it (``rc``), with the text of the pages in ``entity_pages``
and ``search_results``; and as its archive has it, with the pages in files. The id of an example is that of the question
and the name of the page.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memxlnet.errors import ExampleError
from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import example, locate, unlabelled

_PAGES = (("entity_pages", "wiki_context"), ("search_results", "search_context"))
_FOLDERS = (("EntityPages", "wikipedia"), ("SearchResults", "web"))


def _example(
    identity: str, name: str, question: Any, context: str, texts: Sequence[str], options: FormOptions
) -> Record:
    if texts in ([], [""], ["<unk>"]):  # as the test set has it
        return unlabelled(f"{identity}--{name}", question, context)
    return example(f"{identity}--{name}", question, context, locate(context, texts, options))


def _examples(record: Record, options: FormOptions) -> Iterator[Record]:
    texts = [record["answer"]["value"], *record["answer"]["aliases"]]
    given = [(record[pages], text_field) for pages, text_field in _PAGES if record.get(pages) is not None]
    named = [
        (name, context, found, at)
        for found, field in given
        for at, (name, context) in enumerate(zip(found["filename"], found[field], strict=True))
    ]
    _check_pages(named)
    for name, context, found, at in named:
        columns = further(found, ("filename", "wiki_context", "search_context"), options)
        own = {field: values[at] for field, values in columns.items()}
        yield {**own, **_example(record["question_id"], name, record["question"], context, texts, options)}


def _examples_of_files(record: Record, options: FormOptions) -> Iterator[Record]:
    answer = record.get("Answer") or {}
    texts = [answer["Value"], *answer["Aliases"]] if answer else []
    given = [(listed(record[pages], "pages"), folder) for pages, folder in _FOLDERS if record.get(pages) is not None]
    _check_pages([page for found, _ in given for page in found])
    for found, folder in given:

        def read(page: Mapping[str, Any], folder: str = folder) -> Record:
            name = page["Filename"]
            context = _page(options.folder, folder, name)
            found = _example(record["QuestionId"], name, record["Question"], context, texts, options)
            return {**further(page, ("Filename",), options), **found}

        yield from each(found, read)


def _check_pages(pages: Sequence[Any]) -> None:
    """Check that a question has a page, as it gives no example without one.

    Raises:
        ExampleError: It has none.
    """
    if not pages:
        raise ExampleError("expected a page of evidence at least, found none")


def _page(folder: Path | None, kind: str, name: str) -> str:
    """Return the text of a page, in the directory ``evidence`` next to that of the questions.

    Raises:
        ExampleError: It is missing, lies elsewhere, or is not UTF-8.
    """
    if folder is None:
        raise ExampleError("expected questions in a local file, as their pages are files next to it")
    root = (folder.parent / "evidence" / kind).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ExampleError(f"page {name!r}: expected a file in {root}, found a path out of it")
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ExampleError(
            f"page {path}: missing; keep the directories 'qa' and 'evidence' side by side, as in the archive"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExampleError(f"page {path}: cannot be read: {error}") from error


TRIVIAQA = Form(
    "triviaqa",
    lambda record: {"question_id", "entity_pages", "answer"} <= record.keys(),
    _examples,
    reads=frozenset({"question_id", "answer", "entity_pages", "search_results"}),
)
"""``question_id``, ``question``, ``answer`` with ``value`` and ``aliases``, ``entity_pages``, ``search_results``."""

TRIVIAQA_FILES = Form(
    "triviaqa-files",
    lambda record: {"QuestionId", "EntityPages"} <= record.keys(),
    _examples_of_files,
    reads_files=True,
    reads=frozenset({"QuestionId", "Question", "Answer", "EntityPages", "SearchResults"}),
)
"""``QuestionId``, ``Question``, ``Answer`` with ``Value`` and ``Aliases``, ``EntityPages``, ``SearchResults``."""

"""TriviaQA: one example for each page of evidence, with the aliases of the answer looked up in it.

https://nlp.cs.washington.edu/triviaqa, as `datasets` has it (``rc``), with the text of the pages in ``entity_pages``
and ``search_results``. The id of an example is that of the question and the name of the page.
"""

from collections.abc import Iterator

from memxlnet.encode.sources.forms.form import Form, FormOptions, Record
from memxlnet.encode.sources.forms.pieces import example, locate, unlabelled

_PAGES = (("entity_pages", "wiki_context"), ("search_results", "search_context"))


def _examples(record: Record, options: FormOptions) -> Iterator[Record]:
    answer, identity = record["answer"], record["question_id"]
    texts = [answer["value"], *answer["aliases"]]
    is_labelled = texts not in ([""], ["<unk>"])  # as the test set has it
    for pages, text_field in _PAGES:
        found = record.get(pages) or {}
        for name, context in zip(found.get("filename", ()), found.get(text_field, ()), strict=True):
            if is_labelled:
                yield example(f"{identity}--{name}", record["question"], context, locate(context, texts, options))
            else:
                yield unlabelled(f"{identity}--{name}", record["question"], context)


TRIVIAQA = Form("triviaqa", lambda record: {"question_id", "entity_pages", "answer"} <= record.keys(), _examples)
"""``question_id``, ``question``, ``answer`` with ``value`` and ``aliases``, ``entity_pages``, ``search_results``."""

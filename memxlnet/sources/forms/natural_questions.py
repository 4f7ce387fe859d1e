"""Natural Questions, simplified training form: HTML tags are dropped, and the spans of tokens moved along.

https://ai.google.com/research/NaturalQuestions/download. The context is the tokens of the page that are not tags, with
one blank between two. Golds are the short answers of all annotators; where none gave one, yes or no; a question with a
long answer only has no answer here.
"""

from collections.abc import Iterator
from itertools import accumulate

from memxlnet.sources.forms.form import Form, FormOptions, Record
from memxlnet.sources.forms.shared import YES_NO, Gold, example, span, unlabelled


def _examples(record: Record, options: FormOptions) -> Iterator[Record]:
    tokens = record["document_text"].split(" ")
    kept = [not (token.startswith("<") and token.endswith(">")) for token in tokens]
    # Where each token begins among those that are kept; a dropped one, where the next one does.
    starts = [0, *accumulate((len(token) + 1) * keep for token, keep in zip(tokens, kept, strict=True))]
    context = " ".join(token for token, keep in zip(tokens, kept, strict=True) if keep)
    golds, words = [], []
    for annotation in record.get("annotations", ()):
        for short in annotation["short_answers"]:
            start, stop = starts[short["start_token"]], starts[short["end_token"]] - 1
            golds.append(span(context, start, stop))
        if annotation["yes_no_answer"] in ("YES", "NO"):
            words.append(Gold(annotation["yes_no_answer"].lower()))
    identity = str(record["example_id"])
    if "annotations" not in record:
        yield unlabelled(identity, record["question_text"], context)
    elif words and not golds:
        yield example(identity, record["question_text"], context, words, YES_NO)
    else:
        yield example(identity, record["question_text"], context, golds)


NATURAL_QUESTIONS = Form(
    "natural-questions",
    lambda record: {"document_text", "question_text"} <= record.keys(),
    _examples,
    reads=frozenset({"example_id", "document_text", "question_text", "annotations"}),
)
"""``example_id``, ``question_text``, ``document_text`` and ``annotations`` with ``short_answers`` in tokens."""

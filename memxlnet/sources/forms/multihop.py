"""Questions over several paragraphs: HotpotQA, 2WikiMultihopQA and MuSiQue.

https://hotpotqa.github.io, https://github.com/Alab-NII/2wikimultihop, https://github.com/stonybrooknlp/musique. The
paragraphs are joined to one context, each after its title. Answers have no offset: they are looked up, with
``locate="nearest"`` near the first paragraph that supports them. Yes and no are answers of a kind of their own.
"""

from collections.abc import Iterator, Mapping

from memxlnet.sources.forms.form import Form, FormOptions, Record
from memxlnet.sources.forms.shared import YES_NO, Gold, answers, example, join, locate, unlabelled, yes_no


def _hotpot_examples(record: Record, options: FormOptions) -> Iterator[Record]:
    context, facts = record["context"], record.get("supporting_facts") or []
    if isinstance(context, Mapping):  # as datasets has it: columns
        context = list(zip(context["title"], context["sentences"], strict=True))
    titles = facts["title"] if isinstance(facts, Mapping) else [title for title, _ in facts]
    passages = [(title, "".join(sentences)) for title, sentences in context]
    supporting = [number for number, (title, _) in enumerate(passages) if title in titles]
    identity = record["_id"] if "_id" in record else record["id"]
    yield _example(identity, record["question"], passages, supporting, [record.get("answer")], options)


def _musique_examples(record: Record, options: FormOptions) -> Iterator[Record]:
    paragraphs = record["paragraphs"]
    passages = [(one["title"], one["paragraph_text"]) for one in paragraphs]
    supporting = [number for number, one in enumerate(paragraphs) if one.get("is_supporting")]
    texts = [record.get("answer"), *record.get("answer_aliases", ())]
    found = _example(record["id"], record["question"], passages, supporting, texts, options)
    # The full version holds questions whose paragraphs do not answer them.
    yield found if record.get("answerable", True) else {**found, "answers": answers(())}


def _example(
    identity: object,
    question: object,
    passages: list[tuple[str, str]],
    supporting: list[int],
    texts: list[str | None],
    options: FormOptions,
) -> Record:
    context, offsets = join(passages)
    if texts[0] is None:
        return unlabelled(identity, question, context)
    given = [text for text in texts if text is not None]
    if yes_no(given[0]):
        return example(identity, question, context, [Gold(text) for text in given], YES_NO)
    near = offsets[supporting[0]] if supporting else None
    return example(identity, question, context, locate(context, given, options, near))


def _is_hotpot(record: Record) -> bool:
    context = record.get("context")
    columns = isinstance(context, Mapping) and {"title", "sentences"} <= context.keys()
    pairs = isinstance(context, list) and bool(context) and isinstance(context[0], list) and len(context[0]) == 2
    return "question" in record and (columns or pairs)


def _is_musique(record: Record) -> bool:
    paragraphs = record.get("paragraphs")
    return isinstance(paragraphs, list) and any("paragraph_text" in one for one in paragraphs[:1])


HOTPOTQA = Form("hotpotqa", _is_hotpot, _hotpot_examples, reads=frozenset({"_id", "answer"}))
"""``_id``, ``question``, ``answer``, ``supporting_facts``, and ``context`` of titles and sentences."""

MUSIQUE = Form(
    "musique", _is_musique, _musique_examples, reads=frozenset({"paragraphs", "answer", "answer_aliases", "answerable"})
)
"""``id``, ``question``, ``answer``, ``answer_aliases`` and ``paragraphs[]`` with ``title`` and ``paragraph_text``."""

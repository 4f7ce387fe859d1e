"""Forms of public question-answering data, each read into examples by a small reader of its own.

A form is recognised by the fields of the first record of a source, or named with ``form=``. `register_form` adds one.
"""

from memxlnet.sources.forms.conversations import COQA, QUAC
from memxlnet.sources.forms.drop import DROP
from memxlnet.sources.forms.form import (
    Form,
    FormOptions,
    find_form,
    form_names,
    has_own_forms,
    is_built_in,
    is_keyed,
    recognise,
    register_built_in,
    register_form,
    shows_form,
)
from memxlnet.sources.forms.korquad import KORQUAD2
from memxlnet.sources.forms.mrqa import MRQA
from memxlnet.sources.forms.multihop import HOTPOTQA, MUSIQUE
from memxlnet.sources.forms.natural_questions import NATURAL_QUESTIONS
from memxlnet.sources.forms.newsqa import NEWSQA, NEWSQA_CSV
from memxlnet.sources.forms.qasper import QASPER
from memxlnet.sources.forms.records import RECORDS
from memxlnet.sources.forms.squad import SQUAD, TYDIQA
from memxlnet.sources.forms.triviaqa import TRIVIAQA, TRIVIAQA_FILES

# The last one is tried first: the special forms before those whose fields they share.
register_built_in(
    RECORDS,
    SQUAD,
    QUAC,
    TYDIQA,
    KORQUAD2,
    MRQA,
    NEWSQA,
    NEWSQA_CSV,
    TRIVIAQA,
    TRIVIAQA_FILES,
    HOTPOTQA,
    MUSIQUE,
    NATURAL_QUESTIONS,
    COQA,
    DROP,
    QASPER,
)

__all__ = [
    "RECORDS",
    "SQUAD",
    "Form",
    "FormOptions",
    "find_form",
    "form_names",
    "has_own_forms",
    "is_built_in",
    "is_keyed",
    "recognise",
    "register_form",
    "shows_form",
]

"""Forms of public question-answering data, each read into examples by a small reader of its own.

A form is recognised by the fields of the first record of a source, or named with ``form=``. `register_form` adds one.
"""

from memxlnet.encode.sources.forms.conversations import COQA, QUAC
from memxlnet.encode.sources.forms.drop import DROP
from memxlnet.encode.sources.forms.form import (
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
    tells_form,
)
from memxlnet.encode.sources.forms.korquad import KORQUAD2
from memxlnet.encode.sources.forms.mrqa import MRQA
from memxlnet.encode.sources.forms.multihop import HOTPOTQA, MUSIQUE
from memxlnet.encode.sources.forms.natural_questions import NATURAL_QUESTIONS
from memxlnet.encode.sources.forms.newsqa import NEWSQA, NEWSQA_CSV
from memxlnet.encode.sources.forms.qasper import QASPER
from memxlnet.encode.sources.forms.records import RECORDS
from memxlnet.encode.sources.forms.squad import SQUAD, TYDIQA
from memxlnet.encode.sources.forms.triviaqa import TRIVIAQA, TRIVIAQA_FILES

# The last one is asked first: the special forms before those whose fields they share.
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
    "tells_form",
]

"""The text utilities of the earlier code base that a training loop uses; the others say what to use instead."""

import unicodedata

from memxlnet.earlier_names import missing
from memxlnet.evaluate.comparing_texts import normalize_answer


def normalize_unicode(text: str) -> str:
    """Return the text in Unicode's composed form (NFC). A build never composes: its offsets count the text as given."""
    return unicodedata.normalize("NFC", text)


def normalize_answer_for_comparison(s: str) -> str:
    """Return what `memxlnet.normalize_answer` makes of the composed form of an answer."""
    return normalize_answer(normalize_unicode(s))


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = ["normalize_answer_for_comparison", "normalize_unicode"]

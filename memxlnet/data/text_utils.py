"""The text utilities of the earlier code base: gone; the error of each name says what to use."""

from memxlnet.earlier_names import GONE


def __getattr__(name: str) -> object:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {GONE['text_utils']}")

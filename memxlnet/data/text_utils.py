"""The text utilities of the earlier code base: gone. Importing them says what to use."""

from memxlnet.earlier_names import GONE

raise ImportError(f"{__name__} is gone; {GONE['text_utils']}", name=__name__)

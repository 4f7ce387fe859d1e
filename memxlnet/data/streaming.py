"""The streaming processor under the module name of the earlier code base."""

from memxlnet.build.process import StreamingSquadProcessor
from memxlnet.earlier_names import hint


def __getattr__(name: str) -> object:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {hint(name)}")


__all__ = ["StreamingSquadProcessor"]

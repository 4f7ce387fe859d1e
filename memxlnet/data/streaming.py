"""The streaming processor under the module name of the earlier code base."""

from memxlnet.build.process import StreamingSquadProcessor
from memxlnet.earlier_names import missing


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = ["StreamingSquadProcessor"]

"""The streaming processor under the module name of the earlier code base."""

from memxlnet.build.process import StreamingSquadProcessor

__all__ = ["StreamingSquadProcessor"]

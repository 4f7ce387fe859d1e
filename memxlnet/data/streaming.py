"""The streaming processor under the module name of the earlier code base."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from memxlnet.data.process import StreamingSquadProcessor
from memxlnet.earlier_names import missing

_Arguments = ParamSpec("_Arguments")


def _as_function(kind: Callable[_Arguments, StreamingSquadProcessor]) -> Callable[_Arguments, StreamingSquadProcessor]:
    # One list of arguments: those of the class.
    @wraps(kind, assigned=("__doc__",), updated=())
    def create_streaming_processor(*values: _Arguments.args, **named: _Arguments.kwargs) -> StreamingSquadProcessor:
        return kind(*values, **named)

    return create_streaming_processor


create_streaming_processor = _as_function(StreamingSquadProcessor)


def __getattr__(name: str) -> object:
    raise missing(__name__, name)


__all__ = ["StreamingSquadProcessor", "create_streaming_processor"]

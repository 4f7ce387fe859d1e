"""Messages between a builder and its worker processes: JSON fields, then bytes."""

import json
import struct
from io import BufferedRWPair
from typing import Any

_HEADER = struct.Struct("<QQ")


def send(pipe: BufferedRWPair, fields: Any, content: bytes = b"") -> None:
    """Write one message.

    Raises:
        OSError: The other side has ended.
    """
    head = json.dumps(fields).encode()
    pipe.write(_HEADER.pack(len(head), len(content)) + head)
    pipe.write(content)
    pipe.flush()


def receive(pipe: BufferedRWPair) -> tuple[Any, bytes]:
    """Read one message.

    Raises:
        EOFError: The other side has ended.
    """
    sizes = _exactly(pipe, _HEADER.size)
    head, content = (_exactly(pipe, size) for size in _HEADER.unpack(sizes))
    return json.loads(head), content


def _exactly(pipe: BufferedRWPair, size: int) -> bytes:
    found = pipe.read(size)
    if len(found) < size:
        raise EOFError
    return found

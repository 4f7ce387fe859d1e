"""A worker process, which reads tasks from a socket and writes answers to it.

It is started as ``python -m memxlnet.builder.worker BUILDER``: no fork and no `multiprocessing` child. It loads what
encoding needs and nothing else, above all not the script that builds. It ends when its socket ends, which is when the
builder ends in any way.
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from importlib.abc import MetaPathFinder

from memxlnet.builder.chunk_encoding import encode_chunk
from memxlnet.builder.shard_filling import fill_shards
from memxlnet.builder.worker_messages import receive, send

_WATCH_SECONDS = 0.5


class _WithoutPandas(MetaPathFinder):
    """pyarrow loads pandas at the first array where it is installed: 0.3 s and 40 MB that a worker has no use for."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not loaded in workers")


def _watch(builder: int) -> None:
    """End this process when the builder is gone: it may be busy with a long document and not read its pipe."""
    while os.getppid() == builder:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def main() -> None:
    """Work until the pipe ends."""
    builder = int(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the builder decides what an interruption ends
    threading.Thread(target=_watch, args=(builder,), daemon=True).start()
    sys.meta_path.insert(0, _WithoutPandas())
    with socket.socket(fileno=os.dup(0)) as builder_socket:
        pipe = builder_socket.makefile("rwb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # A chunk is many small lists and no cycles: searching for cycles repeatedly would take a fifth of the time.
    gc.freeze()
    gc.disable()
    while True:
        try:
            fields, packed = receive(pipe)
            if fields["task"] == "fill":
                send(pipe, fill_shards(fields))
            else:
                send(pipe, encode_chunk(fields["directory"], fields["index"], packed, fields["part_cost"], builder))
            gc.collect()
        except (EOFError, OSError):
            return


if __name__ == "__main__":
    main()

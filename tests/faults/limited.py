"""Opens what it is asked to under a limit of the system, and prints the error as a JSON line.

    python -m tests.faults.limited KIND AMOUNT WHAT PATH

KIND is ``files`` or ``memory``; AMOUNT is how many more of them there may be than now, files or bytes of address space.
"""

import json
import resource
import sys
from pathlib import Path

from memxlnet.builder.chunking import read_chunks
from memxlnet.format.published import PublishedCache
from memxlnet.settings import BuildSettings, EncodeSettings
from memxlnet.sources import open_source
from memxlnet.system_errors import source_errors

_HEAP_BLOCK = 60_000
_KEPT: list[bytearray] = []


def limit(kind: str, amount: int) -> None:
    if kind == "files":
        files = len(list(Path("/dev/fd").iterdir())) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (files + amount, files + amount))
    else:
        # Room in the heap, below a block that keeps it: libraries end the process where they find none for an object.
        room = [bytearray(_HEAP_BLOCK) for _ in range(16)]
        _KEPT.append(bytearray(_HEAP_BLOCK))
        del room
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + amount
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def run(what: str, path: str) -> None:
    if what == "cache":
        PublishedCache(Path(path))
    else:
        with source_errors(path):
            source = open_source(path, "train")
        list(read_chunks(source, EncodeSettings(), BuildSettings(), 10))


def main() -> None:
    kind, amount, what, path = sys.argv[1:]
    list(read_chunks(open_source([], "train"), EncodeSettings(), BuildSettings(), 10))  # what it imports is loaded
    "".encode("utf-8-sig")
    limit(kind, int(amount))
    found = {"error": "", "message": ""}
    try:
        run(what, path)
    except Exception as error:
        message = "\n".join([str(error), *getattr(error, "__notes__", ())])
        found = {"error": type(error).__name__, "message": message}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

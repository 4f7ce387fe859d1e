"""One push or pull in a process of its own: ``python -m tests.remote.transfer push|pull ARGUMENT ARGUMENT OPTIONS``."""

import json
import logging
import sys

import s3fs

from memxlnet.remote import stores
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push


def main(what: str, first: str, second: str, options: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    stores.BLOCK_BYTES, stores.BLOCKS_AT_ONCE = 4096, 2
    s3fs.S3FileSystem.retries = 1
    if what == "push":
        push(first, second, storage_options=json.loads(options))
    else:
        sys.stdout.write(f"{pull(first, second, storage_options=json.loads(options))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

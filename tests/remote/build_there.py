"""One build into a store: ``python -m tests.remote.build_there SOURCE URL WORK_DIR OPTIONS``."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import s3fs

from memxlnet import Cache
from tests.load.helpers import sample_tokenizer

SETTINGS: dict[str, Any] = {"max_seq_length": 64, "doc_stride": 16, "streaming_chunk_size": 40, "progress": False}


def build_there(source: Path, url: str, work_dir: Path, options: dict[str, Any], num_workers: int = 0) -> Cache:
    return Cache.build(
        source,
        sample_tokenizer(),
        cache_dir=url,
        work_dir=work_dir,
        storage_options=options,
        num_workers=num_workers,
        **SETTINGS,
    )


def main(source: str, url: str, work_dir: str, options: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    s3fs.S3FileSystem.retries = 1
    cache = build_there(Path(source), url, Path(work_dir), json.loads(options), num_workers=2)
    sys.stdout.write(f"{cache.directory}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

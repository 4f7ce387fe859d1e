"""Builds by workers and by a forked executor, with TOKENIZERS_PARALLELISM unset and set; says nothing if all is well.

Usage: parallelism.py FOLDER
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from memxlnet.data.process import process_and_cache_dataset
from memxlnet.sample import sample_file, sample_tokenizer_directory

NAME = "TOKENIZERS_PARALLELISM"

tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
folder = Path(sys.argv[1])


def check(before: str | None) -> None:
    """Build in three ways and look at the environment after each."""
    if before is None:
        os.environ.pop(NAME, None)
    else:
        os.environ[NAME] = before
    tokenizer(["The lamp of the harbour."] * 500)  # in parallel, where that is not forbidden
    forked = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    with forked, ThreadPoolExecutor(2) as threads:
        ways: list[dict[str, Any]] = [{"executor": forked}, {"num_workers": 2}, {"executor": threads}]
        for number, how in enumerate(ways):
            environment = dict(os.environ)
            process_and_cache_dataset(
                sample_file(),
                "test",
                folder / f"{before}-{number}",
                tokenizer=tokenizer,
                streaming_chunk_size=10,
                max_examples=20,
                progress=False,
                **how,
            )
            if dict(os.environ) != environment:
                sys.exit(f"{NAME}={before}: the environment changed: {dict(os.environ)}")
        if forked.submit(os.getenv, NAME).result() != before:
            sys.exit(f"{NAME}={before}: the environment of the executor's processes changed")


for value in (None, "true", "false"):
    check(value)

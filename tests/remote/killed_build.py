"""A build into a store that a fork server starts in milliseconds, and that can be killed at any moment."""

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import s3fs

from memxlnet import Cache
from memxlnet.builder import chunk_encoding
from tests.load.helpers import sample_tokenizer
from tests.remote.build_there import SETTINGS


def server() -> ForkServerContext:
    """A fork server that has everything loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def note_chunks(notes: Path) -> None:
    """Note the first example of each chunk that this process or a fork of it encodes, as `Injection` does."""
    plain: Callable[..., Any] = chunk_encoding.encode_in_parts

    def encode_in_parts(encoder: Any, settings: Any, examples: Any, part_cost: int) -> Any:
        with notes.open("a") as file:
            file.write(f"{examples[0].id}\n")
        return plain(encoder, settings, examples, part_cost)

    chunk_encoding.encode_in_parts = encode_in_parts


def build_killed(folder: Path, has_executor: bool, arguments: dict[str, Any]) -> None:
    """Build in this process.

    Args:
        folder: The folder of an `Injection`, for workers of the package; the log goes there too.
        has_executor: Whether the chunks go to an executor of two forks of this process, not to own workers.
        arguments: Of `Cache.build`, besides the tokenizer and the settings.
    """
    logging.basicConfig(level=logging.INFO, filename=folder / "log", force=True)
    s3fs.S3FileSystem.retries = 1
    note_chunks(folder / "encoded")
    sys.path.insert(0, str(folder))
    try:
        with ExitStack() as stack:
            if has_executor:
                executor = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
                # The processes start here, before any thread of the store is there.
                list(executor.map(os.getpriority, [0] * 2, [0] * 2))
                arguments["executor"] = stack.enter_context(executor)
            Cache.build(tokenizer=sample_tokenizer(), num_workers=2, **arguments, **SETTINGS)
    except Exception as error:
        logging.getLogger(__name__).exception("the build failed")
        sys.exit(f"{type(error).__module__}.{type(error).__name__}: {error}")

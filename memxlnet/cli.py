"""The command line: ``memxlnet quickstart``."""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memxlnet import __version__
from memxlnet.errors import MemxlnetError, TokenizerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code: 0, or 1 where an error was told on standard error.
    """
    parser = argparse.ArgumentParser(prog="memxlnet", description="A memory-mapped feature cache on Apache Arrow.")
    parser.add_argument("--version", action="version", version=f"memxlnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    quick = commands.add_parser("quickstart", help="build, load and iterate a cache of the bundled sample, offline")
    quick.add_argument("--tokenizer", help="name or directory of a tokenizer; default: the bundled small one")
    quick.add_argument("--cache-dir", type=Path, help="directory of the cache; default: a temporary one")
    quick.add_argument("--max-seq-length", type=int, default=128, help="tokens in a row (default 128)")
    quick.add_argument("--doc-stride", type=int, default=32, help="overlap of two segments in tokens (default 32)")
    quick.add_argument("--memory-tokens", type=int, default=4, help="memory slots, 0 for none (default 4)")
    quick.add_argument("--batch-size", type=int, default=4, help="documents in a group (default 4)")
    quick.add_argument("--verbose", action="store_true", help="log what is done")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(name)s: %(message)s")
    try:
        if options.cache_dir is not None:
            quickstart(options, options.cache_dir)
        else:
            with tempfile.TemporaryDirectory(prefix="memxlnet-") as directory:
                quickstart(options, Path(directory))
    except (MemxlnetError, OSError) as error:
        print(f"memxlnet: error: {error}", file=sys.stderr)
        return 1
    return 0


_VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.txt", "vocab.json")


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer by name or directory.

    A directory of XLNet's files alone has no configuration that tells its class, so the name does.

    Args:
        name: Name on the Hub, or a directory.

    Raises:
        TokenizerError: There is none, or its files cannot be read.
    """
    from transformers import AutoTokenizer, XLNetTokenizerFast

    directory = Path(name)
    kind = XLNetTokenizerFast if "xlnet" in directory.name.lower() else AutoTokenizer
    if directory.is_dir() and not any((directory / file).is_file() for file in _VOCABULARIES):
        # Told here because transformers makes an empty XLNet vocabulary of it, in which every text is unknown.
        raise TokenizerError(f"tokenizer: expected {' or '.join(_VOCABULARIES)} in {directory}, found none")
    try:
        return kind.from_pretrained(name)
    except Exception as error:
        raise TokenizerError(f"tokenizer {name!r}: cannot be loaded: {error}") from error


def quickstart(options: argparse.Namespace, cache_dir: Path) -> None:
    """Build a cache of the bundled sample, load it lazily, iterate it, and print a summary.

    Args:
        options: The parsed options.
        cache_dir: Directory of the cache.
    """
    from memxlnet.data.dataset import configure_memory_tokens, create_dataloader, create_dataset_from_cache
    from memxlnet.sample import sample_file, sample_tokenizer_directory

    tokenizer = load_tokenizer(options.tokenizer or str(sample_tokenizer_directory()))
    if options.memory_tokens:
        configure_memory_tokens(tokenizer, options.memory_tokens)
    started = time.perf_counter()
    dataset = create_dataset_from_cache(
        sample_file(),
        "sample",
        cache_dir,
        max_seq_length=options.max_seq_length,
        doc_stride=options.doc_stride,
        tokenizer=tokenizer,
    )
    built = time.perf_counter()
    loader = create_dataloader(dataset, options.batch_size, shuffle=True, num_workers=1)
    steps = rows = 0
    for group in loader:
        for step in group:
            steps += 1
            rows += int(step["document_mask"].sum())
    iterated = time.perf_counter()
    manifest = dataset.manifest
    documents = dataset.cache.num_documents
    answers = ", ".join(f"{count} {status}" for status, count in manifest.alignment.items())
    print(f"cache      {dataset.directory}")
    print(f"built      {len(dataset)} segments of {documents} documents in {built - started:.2f} s")
    print(f"size       {manifest.num_bytes / len(dataset):.0f} bytes a segment, {manifest.num_bytes} in all")
    print(f"segments   {len(dataset) / documents:.1f} a document, at most {int(dataset.documents.num_segments.max())}")
    print(f"answers    {answers}")
    print(f"vocabulary {manifest.vocabulary_size} ids, {manifest.layout.num_memory_tokens} memory slots")
    print(f"iterated   {rows} rows in {steps} steps of {len(loader)} groups in {iterated - built:.2f} s")


if __name__ == "__main__":
    sys.exit(main())

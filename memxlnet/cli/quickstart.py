"""``memxlnet quickstart``."""

import tempfile
import time
from pathlib import Path

import click

from memxlnet.cli.output import json_option, print_fields, print_json
from memxlnet.cli.parameters import shared
from memxlnet.cli.paths import FilledPath
from memxlnet.cli.tokenizers import load_tokenizer
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.settings import positive_int


@click.command("quickstart")
@click.option("--tokenizer", help="Name or directory of a tokenizer.  [default: the bundled small one]")
@click.option("--cache-dir", type=FilledPath(), help="Directory of the cache.  [default: a temporary one]")
@click.option("--max-seq-length", type=int, default=128, show_default=True, help="Tokens in a row.")
@click.option("--doc-stride", type=int, default=32, show_default=True, help="Overlap of two segments in tokens.")
@click.option("--memory-tokens", type=int, default=4, show_default=True, help="Memory slots, 0 for none.")
@click.option("--batch-size", type=int, default=4, show_default=True, help="Lanes of a step.")
@json_option
@shared(memory_num_tokens="--memory-tokens")
def command(
    tokenizer: str | None,
    cache_dir: Path | None,
    max_seq_length: int,
    doc_stride: int,
    memory_tokens: int,
    batch_size: int,
    as_json: bool,
) -> None:
    """Build a cache of the bundled sample, load it lazily, iterate over it, and print a summary."""
    positive_int("batch_size", batch_size)
    shape = (max_seq_length, doc_stride, memory_tokens, batch_size)
    name = str(sample_tokenizer_directory()) if tokenizer is None else tokenizer
    if cache_dir is not None:
        _run(name, cache_dir, *shape, as_json)
        return
    with tempfile.TemporaryDirectory(prefix="memxlnet-") as directory:
        _run(name, Path(directory), *shape, as_json)


def _run(
    name: str,
    cache_dir: Path,
    max_seq_length: int,
    doc_stride: int,
    memory_tokens: int,
    batch_size: int,
    as_json: bool,
) -> None:
    # torch takes seconds to load, which help and wrong options do not need.
    from memxlnet.cache import Cache

    tokenizer = load_tokenizer(name, memory_tokens)
    started = time.perf_counter()
    cache = Cache.build(
        sample_file(),
        tokenizer,
        split="sample",
        cache_dir=cache_dir,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
    )
    built = time.perf_counter()
    dataset = cache.dataset()
    loader = cache.loader(
        batch_size,
        shuffle=True,
        dataset=dataset,
        lanes="refilled",
        group_by_length=True,
        padding="longest",
        num_workers=1,
    )
    steps = rows = 0
    for step in loader:
        steps += 1
        rows += int(step["document_mask"].sum())
    iterated = time.perf_counter()
    manifest, documents, longest = cache.manifest, cache.num_documents, dataset.documents.num_segments.max()
    by_default = cache.loader(batch_size, shuffle=True, dataset=dataset).epoch_size(0).useful_share
    useful = loader.epoch_size(0).useful_share
    answers = ", ".join(f"{count} {status}" for status, count in manifest.alignment.items() if count)
    tokens = "real_tokens" if as_json else "real tokens"
    print_as = print_json if as_json else print_fields
    print_as(
        {
            "cache": str(cache.directory),
            "built": f"{cache.num_rows} segments of {documents} documents in {built - started:.2f} s",
            "size": f"{manifest.num_bytes / cache.num_rows:.0f} bytes per segment, {manifest.num_bytes} in total",
            "segments": f"{cache.num_rows / documents:.1f} per document, at most {longest}",
            "answers": answers,
            "vocabulary": f"{manifest.vocabulary_size} ids, {manifest.layout.num_memory_tokens} memory slots",
            "iterated": f"{rows} rows in {steps} steps of {batch_size} lanes in {iterated - built:.2f} s",
            tokens: f"{useful:.0%} in refilled lanes, grouped by length and padded to the longest row; "
            f"{by_default:.0%} by default",
        }
    )

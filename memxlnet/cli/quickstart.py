"""``memxlnet quickstart``."""

import tempfile
import time
from pathlib import Path

import click

from memxlnet.cli.output import print_fields
from memxlnet.cli.parameters import FilledPath, shared
from memxlnet.cli.tokenizers import load_tokenizer
from memxlnet.sample import sample_file, sample_tokenizer_directory


@click.command("quickstart")
@click.option("--tokenizer", help="Name or directory of a tokenizer.  [default: the bundled small one]")
@click.option("--cache-dir", type=FilledPath(), help="Directory of the cache.  [default: a temporary one]")
@click.option("--max-seq-length", type=int, default=128, show_default=True, help="Tokens in a row.")
@click.option("--doc-stride", type=int, default=32, show_default=True, help="Overlap of two segments in tokens.")
@click.option("--memory-tokens", type=int, default=4, show_default=True, help="Memory slots, 0 for none.")
@click.option("--batch-size", type=int, default=4, show_default=True, help="Documents in a group.")
@shared(memory_num_tokens="--memory-tokens")
def command(
    tokenizer: str | None,
    cache_dir: Path | None,
    max_seq_length: int,
    doc_stride: int,
    memory_tokens: int,
    batch_size: int,
) -> None:
    """Build a cache of the bundled sample, load it lazily, iterate it, and print a summary."""
    name = str(sample_tokenizer_directory()) if tokenizer is None else tokenizer
    if cache_dir is not None:
        _run(name, cache_dir, max_seq_length, doc_stride, memory_tokens, batch_size)
        return
    with tempfile.TemporaryDirectory(prefix="memxlnet-") as directory:
        _run(name, Path(directory), max_seq_length, doc_stride, memory_tokens, batch_size)


def _run(name: str, cache_dir: Path, max_seq_length: int, doc_stride: int, memory_tokens: int, batch_size: int) -> None:
    # torch takes seconds to load: help and wrong options come without it.
    from memxlnet.data.dataset import create_dataloader, create_dataset_from_cache

    tokenizer = load_tokenizer(name, memory_tokens)
    started = time.perf_counter()
    dataset = create_dataset_from_cache(
        sample_file(),
        "sample",
        cache_dir,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
        tokenizer=tokenizer,
    )
    built = time.perf_counter()
    plain = create_dataloader(dataset, batch_size, shuffle=True)
    loader = create_dataloader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=1,
        group_by_length=True,
        padding="longest",
        pad_to_multiple_of=min(8, max_seq_length),
    )
    steps = rows = 0
    for group in loader:
        for step in group:
            steps += 1
            rows += int(step["document_mask"].sum())
    iterated = time.perf_counter()
    manifest = dataset.manifest
    documents = dataset.cache.num_documents
    useful, by_default = (each.epoch_size(0).useful_share for each in (loader, plain))
    answers = ", ".join(f"{count} {status}" for status, count in manifest.alignment.items() if count)
    print_fields(
        {
            "cache": dataset.directory,
            "built": f"{len(dataset)} segments of {documents} documents in {built - started:.2f} s",
            "size": f"{manifest.num_bytes / len(dataset):.0f} bytes a segment, {manifest.num_bytes} in all",
            "segments": f"{len(dataset) / documents:.1f} a document, at most {dataset.documents.num_segments.max()}",
            "answers": answers,
            "vocabulary": f"{manifest.vocabulary_size} ids, {manifest.layout.num_memory_tokens} memory slots",
            "iterated": f"{rows} rows in {steps} steps of {len(loader)} groups in {iterated - built:.2f} s",
            "computed on": f"{useful:.0%} real tokens, grouped by length and cut to the longest row of a step, against "
            f"{by_default:.0%} by default",
        }
    )

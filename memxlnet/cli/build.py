"""``memxlnet build``."""

import time
from pathlib import Path
from typing import Any, get_args

import click

from memxlnet.builder.builder import Build, build_cache
from memxlnet.builder.cache_writer import BuildSummary, CacheWriter
from memxlnet.builder.estimate import SizeEstimate, check_space, estimate_size, free_bytes
from memxlnet.builder.part_building import BuiltParts, build_parts
from memxlnet.cli.output import answer_counts, json_option, print_fields, print_json, shown_bytes
from memxlnet.cli.parameters import (
    CountOrShare,
    cache_dir_or_url_option,
    heartbeat_option,
    progress_option,
    reading_options,
    shared,
)
from memxlnet.cli.paths import FilledPath
from memxlnet.cli.session import session
from memxlnet.cli.tokenizers import load_tokenizer
from memxlnet.errors import BuildError
from memxlnet.remote.scratch import open_scratch
from memxlnet.remote.stored_builds import StoreDirectory, is_stored
from memxlnet.settings import (
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_MEMORY_GB,
    DEFAULT_MAX_SEQ_LENGTH,
    DEFAULT_STREAMING_CHUNK_SIZE,
    BuildSettings,
    EncodeSettings,
    OnBadExample,
    OnContradiction,
    OnRepeatedId,
    settings_of,
)
from memxlnet.sources import SourceOptions


@click.command("build")
@click.argument("source", nargs=-1, required=True)
@click.option(
    "--split",
    default="train",
    show_default=True,
    help="Split of a Hub dataset, with a slice or without; a label for a file.",
)
@click.option("--tokenizer", required=True, help="Name or directory of a transformers fast tokenizer.")
@cache_dir_or_url_option
@click.option(
    "--work-dir", type=FilledPath(), help="With a URL: where to build, and resume.  [default: a temporary one]"
)
@click.option("--max-seq-length", type=int, default=DEFAULT_MAX_SEQ_LENGTH, show_default=True, help="Tokens in a row.")
@click.option(
    "--doc-stride", type=int, default=DEFAULT_DOC_STRIDE, show_default=True, help="Overlap of two segments in tokens."
)
@click.option("--max-n-segs", type=int, help="Keep at most this many segments of a document, the first ones.")
@click.option("--max-examples", type=int, help="Read at most this many examples.")
@click.option("--memory-tokens", type=int, default=0, show_default=True, help="Memory slots to add to the tokenizer.")
@click.option(
    "--on-bad-example",
    type=click.Choice(get_args(OnBadExample)),
    default="error",
    show_default=True,
    help="Stop at a bad example, or count it with its id and reason.",
)
@click.option(
    "--on-contradiction",
    type=click.Choice(get_args(OnContradiction)),
    default="error",
    show_default=True,
    help="An example whose labels contradict each other is bad, or counted: unanswerable, or with its answers.",
)
@click.option(
    "--on-repeated-id",
    type=click.Choice([*get_args(OnRepeatedId), "newest"]),
    default="error",
    show_default=True,
    help="Treat an example whose id repeats as bad, or number it (ID#2, ID#3, ...); of parts the newest counts.",
)
@click.option("--max-dropped", type=CountOrShare(), help="Examples that may be dropped, such as 25 or 1%.")
@click.option(
    "--max-lost-answers",
    type=CountOrShare(),
    help="Answers that may be lost: not in their context, or whole in no segment. Beyond, nothing is published.",
)
@click.option("--keep", multiple=True, metavar="FIELD", help="Keep this field of the examples as a column; repeatable.")
@click.option("--keep-all", is_flag=True, help="Keep all further fields of the examples.")
@click.option("--workers", "num_workers", type=int, help="Worker processes, 0 for none.  [default: by size and cores]")
@click.option(
    "--max-memory-gb", type=float, default=DEFAULT_MAX_MEMORY_GB, show_default=True, help="Bound on the RAM, in GiB."
)
@click.option(
    "--chunk-size",
    "streaming_chunk_size",
    type=int,
    default=DEFAULT_STREAMING_CHUNK_SIZE,
    show_default=True,
    help="Examples in a chunk of work; changes no byte of the result.",
)
@click.option("--max-shard-rows", type=int, help="Rows of a features file at most.")
@click.option(
    "--scratch",
    metavar="URL",
    help="Place in a store (s3://bucket/tmp) that holds the chunks until the cache is built.",
)
@click.option("--config-name", help="Configuration of a Hub dataset.")
@click.option("--revision", help="Branch, tag or commit of a Hub dataset.")
@reading_options
@click.option("--parts", "as_parts", is_flag=True, help="Build a cache for each file, and a list that joins them.")
@click.option("--files-per-part", type=int, default=1, show_default=True, help="With --parts: files of one cache.")
@click.option("--name", help="With --parts: short name of the files together.  [default: that of their directory]")
@click.option("--rebuild", is_flag=True, help="Build again even where the cache exists.")
@click.option("--estimate", "only_estimate", is_flag=True, help="Only show how large the cache will be.")
@click.option("--no-space-check", is_flag=True, help="Begin even where the disk seems too small.")
@progress_option
@heartbeat_option
@json_option
@shared(memory_num_tokens="--memory-tokens", source="SOURCE")
def command(
    source: tuple[str, ...],
    split: str,
    tokenizer: str,
    cache_dir: Path | str,
    work_dir: Path | None,
    memory_tokens: int,
    as_parts: bool,
    files_per_part: int,
    name: str | None,
    only_estimate: bool,
    no_space_check: bool,
    scratch: str | None,
    as_json: bool,
    keep: tuple[str, ...],
    keep_all: bool,
    **settings: Any,
) -> None:
    """Build the cache of SOURCE, or find it built.

    SOURCE is a .json, .jsonl, .ndjson, .parquet, .arrow, .feather, .csv or .tsv file, also compressed (.gz, .bz2, .xz,
    .zst), several of one format, a directory or a URL of such files, or a name on the Hub. An interrupted build
    resumes after its finished chunks. Credentials come from the environment (HF_TOKEN for the Hub). With the URL of a
    store the cache is sent there as soon as it is built; a copy stays in --work-dir, where that is given.

    With --parts each file becomes a cache of its own, and only files without one are encoded; quote a pattern
    ('data/*.jsonl.gz'), so that the same list is found as files come and go.
    """
    if keep and keep_all:
        raise click.UsageError("expected --keep FIELD or --keep-all, found both")
    settings["keep"] = "all" if keep_all else keep
    chunks = open_scratch(scratch, None, cache_dir, work_dir)
    named = source[0] if len(source) == 1 else list(source)
    if as_parts:
        if only_estimate:
            raise click.UsageError("--estimate: applies to one cache, found --parts with it")
        if work_dir is not None:
            raise click.UsageError("--work-dir: applies to one cache, found --parts with it")
        options = {"files_per_part": files_per_part, "on_repeated_id": settings["on_repeated_id"], "name": name}
        loaded = load_tokenizer(tokenizer, memory_tokens)
        started = time.perf_counter()
        found = build_parts(named, split, loaded, settings, cache_dir, scratch=chunks, **options)
        _show_parts(found, time.perf_counter() - started, as_json)
        return
    if files_per_part != 1 or name is not None:
        raise click.UsageError("--files-per-part, --name: apply to parts, found no --parts with them")
    store = StoreDirectory(str(cache_dir), work_dir) if is_stored(cache_dir, {"work_dir": work_dir}) else None
    encode, build = settings_of(EncodeSettings, settings), settings_of(BuildSettings, settings)
    directory = store.work_dir if store else cache_dir
    writer = CacheWriter(directory, max_shard_rows=build.max_shard_rows, scratch=chunks)
    options_of_source = settings_of(SourceOptions, settings)
    job = Build(named, split, load_tokenizer(tokenizer, memory_tokens), encode, writer.cache_dir, options_of_source)
    builds = build.rebuild or (store.find(job) if store else job.find(writer.cache_dir)) is None
    if only_estimate or builds:
        estimate = estimate_size(job, build)
        if only_estimate:
            _show_estimate(estimate, writer.cache_dir, as_json)
            return
        if not as_json:
            session().notice(_one_line(estimate))
        if not no_space_check:
            _check_space(job, estimate, writer.cache_dir)
    started = time.perf_counter()
    if store is None:
        summary = build_cache(job, build, writer)
        places = {"cache": str(summary.directory)}
    else:
        stored = store.build(job, build, writer)
        summary = stored.summary
        places = {"cache": stored.url} | ({"copy": str(summary.directory)} if stored.has_copy else {})
    _show_summary(summary, places, builds, time.perf_counter() - started, as_json)


def _show_parts(found: BuiltParts, seconds: float, as_json: bool) -> None:
    parts = found.parts
    print_as = print_json if as_json else print_fields
    print_as(
        {
            "parts": str(found.directory),
            "caches": len(parts.parts),
            "built": len(found.built),
            "segments": parts.rows,
            "documents": parts.documents,
            "hidden": parts.num_hidden,
            "bytes": parts.num_bytes,
            "seconds": round(seconds, 2),
        }
    )


def _check_space(job: Build, estimate: SizeEstimate, cache_dir: Path) -> None:
    try:
        check_space(job, estimate, cache_dir)
    except BuildError as error:
        error.add_note("--no-space-check skips this check")
        raise


def _one_line(estimate: SizeEstimate) -> str:
    if estimate.num_bytes is None:
        return (
            f"estimate: unknown size; the source does not give its length ({estimate.sampled} examples were looked at)"
        )
    basis = "" if estimate.is_whole else f", estimated from the first {estimate.sampled:,}"
    return (
        f"estimate: {estimate.examples:,} examples, about {estimate.features:,} segments, "
        f"{shown_bytes(estimate.num_bytes)} ({shown_bytes(estimate.peak_bytes or 0)} while it is built){basis}"
    )


def _show_estimate(estimate: SizeEstimate, cache_dir: Path, as_json: bool) -> None:
    fields = {
        "sampled": estimate.sampled,
        "examples": estimate.examples,
        "features": estimate.features,
        "num_bytes": estimate.num_bytes,
        "peak_bytes": estimate.peak_bytes,
        "free_bytes": free_bytes(cache_dir),
    }
    if as_json:
        print_json(fields)
    else:
        print_fields({name: "unknown" if value is None else value for name, value in fields.items()})


def _show_summary(summary: BuildSummary, places: dict[str, str], builds: bool, seconds: float, as_json: bool) -> None:
    fields: dict[str, Any] = {
        **places,
        "built": builds if as_json else "yes" if builds else "no, it was there",
        "segments": summary.features,
        "documents": summary.documents,
        "contexts": summary.contexts,
        "bytes": summary.num_bytes,
        **answer_counts(summary),
        "seconds": round(seconds, 2),
    }
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in fields.items()})
    else:
        print_fields(fields)

"""``memxlnet verify``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import json_option, print_json
from memxlnet.cli.parameters import cache_argument, heartbeat_option, reading_options, shared
from memxlnet.format.part_list import is_part_list, read_part_list
from memxlnet.maintain.verify import DEFAULT_SAMPLE, verify
from memxlnet.sources import shown_name


@click.command("verify")
@cache_argument
@click.option("--deep", is_flag=True, help="Encode all documents again, as CACHE holds them, and compare.")
@click.option(
    "--against", metavar="SOURCE", multiple=True, help="Also encode examples of this source again and compare."
)
@click.option("--sample", type=int, help=f"Examples that are encoded again.  [default: {DEFAULT_SAMPLE}]")
@click.option("--all", "all_examples", is_flag=True, help="Encode all examples again.")
@click.option("--config-name", help="Configuration of a Hub dataset.")
@click.option("--revision", help="Branch, tag or commit of a Hub dataset.")
@reading_options
@heartbeat_option
@json_option
@shared()
def command(
    cache: Path,
    deep: bool,
    against: tuple[str, ...],
    sample: int | None,
    all_examples: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Check every byte of CACHE against its manifest, and every value against those that it must fit.

    The first thing that is wrong is an error; the exit code of a damaged cache is 5. Credentials for the Hub come from
    the environment (HF_TOKEN). CACHE may be a list of parts (NAME.parts): it is checked with every part.
    """
    if not against and (all_examples or sample is not None):
        raise click.UsageError("--all, --sample: apply to a source, found no --against SOURCE with them")
    if all_examples and sample is not None:
        raise click.UsageError("expected --all or --sample, found both")
    directory = find_directory(cache)
    number = None if all_examples else DEFAULT_SAMPLE if sample is None else sample
    source = (against[0] if len(against) == 1 else list(against)) if against else None
    verify(directory, deep=deep, against=source, sample=number, **options)
    names = [shown_name(name) for name in against]
    parts = [part.cache for part in read_part_list(directory).parts] if is_part_list(directory) else []
    if as_json:
        print_json(
            {
                "cache": str(directory),
                "verified": True,
                "deep": deep,
                "against": names[0] if len(names) == 1 else names or None,
                **({"parts": parts} if parts else {}),
            }
        )
    else:
        shown = f", as {', '.join(names)} gives them" if names else ""
        for part in parts:
            click.echo(f"{directory.parent / part}: all bytes and values are right")
        click.echo(f"{directory}: all bytes and values are right{shown}")

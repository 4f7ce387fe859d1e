"""``memxlnet pull``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.output import json_option, print_json
from memxlnet.cli.parameters import Bytes, cache_dir_option, heartbeat_option, progress_option, shared
from memxlnet.cli.session import session
from memxlnet.errors import CacheNotFoundError
from memxlnet.remote.lazy_pull import fetch_first_shards
from memxlnet.remote.part_lists import is_part_list, pull_parts
from memxlnet.remote.pull import pull


@click.command("pull")
@click.argument("url")
@cache_dir_option
@click.option("--replace", is_flag=True, help="Fetch it again even where it exists.")
@click.option(
    "--lazy", is_flag=True, help="Fetch all but the shards of features, which a program fetches when it needs them."
)
@click.option(
    "--local-limit", type=Bytes(), help="With --lazy: fetch the first shards, too, up to this size, such as 2GB."
)
@progress_option
@heartbeat_option
@json_option
@shared(url="URL")
def command(
    url: str,
    cache_dir: Path,
    replace: bool,
    lazy: bool,
    local_limit: int | None,
    progress: bool | None,
    as_json: bool,
) -> None:
    """Fetch the cache or the parts at URL into a directory of caches, and print where they lie.

    Every file is checked on arrival. What an interrupted transfer brought is not fetched again. Credentials come from
    the environment, as the store's own tools take them.

    With --lazy a cache is prepared for a program that opens it with memxlnet.pull(URL, CACHE_DIR, lazy=True,
    local_limit=BYTES): it begins at once, fetches each shard when it needs it, and keeps within its limit. Until all
    shards are there it is no cache for the other commands; a pull without --lazy fetches the rest.
    """
    if local_limit is not None and not lazy:
        raise click.UsageError("--local-limit: applies to a pull with --lazy, found it without; add --lazy")
    if lazy:
        options: Any = {"replace": replace, "lazy": lazy, "local_limit": local_limit, "progress": progress}
        _pull_lazily(url, cache_dir, options, as_json)
        return
    try:
        directory = pull(url, cache_dir, replace=replace, progress=progress)
    except CacheNotFoundError:
        if not is_part_list(url):
            raise
        directory = pull_parts(url, cache_dir, replace=replace, progress=progress)
    if as_json:
        print_json({"cache": str(directory)})
    else:
        click.echo(directory)


def _pull_lazily(url: str, cache_dir: Path, options: Any, as_json: bool) -> None:
    try:
        cache = pull(url, cache_dir, **options)
    except CacheNotFoundError:
        if is_part_list(url):
            raise click.UsageError("--lazy: applies to one cache, found a list of parts") from None
        raise
    shards = here = len(cache.features)
    if cache.source is not None:
        if options["local_limit"] is not None:
            fetch_first_shards(cache, options["local_limit"], options["progress"])
        here = sum(cache.source.path_of(number).exists() for number in range(shards))
    if as_json:
        print_json({"cache": str(cache.directory), "shards": shards, "shards_here": here})
    else:
        click.echo(cache.directory)
    if cache.source is not None:
        session().notice(f"{here} of {shards} shards are here; memxlnet.pull(URL, CACHE_DIR, lazy=True) opens it")

"""``memxlnet pull``."""

from pathlib import Path

import click

from memxlnet.cli.output import json_option, print_json
from memxlnet.cli.parameters import cache_dir_option, heartbeat_option, progress_option, shared
from memxlnet.errors import CacheNotFoundError
from memxlnet.remote.part_lists import is_part_list, pull_parts
from memxlnet.remote.pull import pull


@click.command("pull")
@click.argument("url")
@cache_dir_option
@click.option("--replace", is_flag=True, help="Fetch it again even where it exists.")
@progress_option
@heartbeat_option
@json_option
@shared(url="URL")
def command(url: str, cache_dir: Path, replace: bool, progress: bool | None, as_json: bool) -> None:
    """Fetch the cache or the parts at URL into a directory of caches, and print where they lie.

    Every file is checked on arrival. What an interrupted transfer brought is not fetched again. Credentials come from
    the environment, as the store's own tools take them.
    """
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

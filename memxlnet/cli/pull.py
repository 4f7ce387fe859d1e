"""``memxlnet pull``."""

from pathlib import Path

import click

from memxlnet.cli.parameters import cache_dir_option, shared
from memxlnet.remote.part_lists import is_part_list, pull_parts
from memxlnet.remote.pull import pull


@click.command("pull")
@click.argument("url")
@cache_dir_option
@click.option("--replace", is_flag=True, help="Fetch it again even where it exists.")
@click.option("--progress/--no-progress", default=None, help="Show a progress bar.  [default: on a terminal]")
@shared(url="URL")
def command(url: str, cache_dir: Path, replace: bool, progress: bool | None) -> None:
    """Fetch the cache or the parts at URL into a directory of caches, and print where they lie.

    Every file is checked on arrival. What an interrupted transfer brought is not fetched again. Credentials come from
    the environment, as the store's own tools take them.
    """
    fetch = pull_parts if is_part_list(url) else pull
    click.echo(fetch(url, cache_dir, replace=replace, progress=progress))

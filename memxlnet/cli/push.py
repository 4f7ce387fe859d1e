"""``memxlnet push``."""

from pathlib import Path

import click

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.parameters import cache_argument, shared
from memxlnet.remote.push import push


@click.command("push")
@cache_argument
@click.argument("url")
@click.option("--replace", is_flag=True, help="Replace another cache that lies at URL.")
@click.option("--no-verify", "verify", flag_value=False, default=True, help="Compare sizes on arrival, not checksums.")
@click.option("--progress/--no-progress", default=None, help="Show a progress bar.  [default: on a terminal]")
@shared(url="URL")
def command(cache: Path, url: str, replace: bool, verify: bool, progress: bool | None) -> None:
    """Send CACHE to URL, such as s3://bucket/name, gs://bucket/name, hf://datasets/name/repository/folder or file:///path.

    URL is the place of this one cache. What has arrived intact is not sent again; the manifest comes last. Credentials
    come from the environment, as the store's own tools take them.
    """
    push(find_directory(cache), url, replace=replace, verify=verify, progress=progress)

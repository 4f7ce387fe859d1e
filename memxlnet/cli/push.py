"""``memxlnet push``."""

from pathlib import Path

import click

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import json_option, print_json
from memxlnet.cli.parameters import cache_argument, heartbeat_option, progress_option, shared
from memxlnet.format.paths import PARTS_SUFFIX
from memxlnet.redaction import Redactor
from memxlnet.remote.part_lists import push_parts
from memxlnet.remote.push import push


@click.command("push")
@cache_argument
@click.argument("url")
@click.option("--replace", is_flag=True, help="Replace another cache that lies at URL.")
@click.option("--no-verify", is_flag=True, help="Compare sizes on arrival, not checksums.")
@progress_option
@heartbeat_option
@json_option
@shared(url="URL")
def command(cache: Path, url: str, replace: bool, no_verify: bool, progress: bool | None, as_json: bool) -> None:
    """Send CACHE to URL, such as s3://bucket/name, gs://bucket/name, hf://datasets/name/repository/folder or file:///path.

    CACHE may be a list of parts (NAME.parts). URL is the place of this one cache, or of all parts. What has arrived
    intact is not sent again, nor are parts that the list at URL names; the manifest, or the list, comes last.
    Credentials come from the environment, as the store's own tools take them.
    """
    directory = find_directory(cache)
    send = push_parts if directory.suffix == PARTS_SUFFIX else push
    send(directory, url, replace=replace, verify=not no_verify, progress=progress)
    if as_json:
        print_json({"cache": str(directory), "url": Redactor({})(url)})

"""``memxlnet rm``."""

from collections.abc import Callable
from pathlib import Path

import click

from memxlnet.cli.cache_arguments import directory_of_caches, find_directory
from memxlnet.cli.output import is_terminal, printable, shown_bytes
from memxlnet.cli.parameters import FilledPath, shared
from memxlnet.errors import CacheNotFoundError
from memxlnet.maintain.old_caches import find_old_caches, remove_old_caches
from memxlnet.maintain.removal import find_leftovers, num_bytes, own_manifest, remove_cache, remove_leftovers


@click.command("rm")
@click.argument("paths", type=FilledPath(), nargs=-1, required=True, metavar="PATH...")
@click.option("--leftovers", is_flag=True, help="PATH is a directory of caches: what dead builds and transfers left.")
@click.option("--old", is_flag=True, help="PATH is a directory of caches: those of a source that has changed since.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@shared()
def command(paths: tuple[Path, ...], leftovers: bool, old: bool, dry_run: bool, yes: bool) -> None:
    """Remove caches; readers keep what they have mapped.

    What is not a cache, or holds other files too, is refused, and so is one that is being built.
    """
    found: list[tuple[Path, int]] = []
    removals: list[tuple[Callable[[Path], object], Path]] = []
    for path in dict.fromkeys(paths):
        if leftovers or old:
            directory_of_caches(path)
        if leftovers:
            found += [(each.path, each.num_bytes) for each in find_leftovers(path) if not each.in_use]
            removals.append((remove_leftovers, path))
        if old:
            found += [(each.path, each.num_bytes) for each in find_old_caches(path)]
            removals.append((remove_old_caches, path))
        if not leftovers and not old:
            directory = find_directory(path)
            # All are checked before the first is removed.
            if directory.is_symlink():
                raise CacheNotFoundError(f"{directory}: expected a cache itself, found a symbolic link; unlink it")
            own_manifest(directory)
            found.append((directory, num_bytes(directory)))
            removals.append((remove_cache, directory))
    for path, size in found:
        click.echo(f"{printable(str(path))}\t{shown_bytes(size) if is_terminal() else size}")
    if not found:
        click.echo("nothing to remove", err=True)
        return
    if dry_run:
        return
    if not yes:
        click.confirm("Remove?", abort=True, err=True)
    for remove, path in removals:
        remove(path)

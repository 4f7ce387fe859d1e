"""``memxlnet rm``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from memxlnet.cli.cache_arguments import directory_of_caches, find_directory
from memxlnet.cli.output import is_terminal, json_option, print_json, print_table, printable, shown_bytes
from memxlnet.cli.parameters import cache_dir_option, shared
from memxlnet.cli.paths import PathOrUrl
from memxlnet.cli.session import session
from memxlnet.errors import CacheNotFoundError
from memxlnet.format.part_list import read_part_list
from memxlnet.format.paths import PARTS_SUFFIX, as_directory
from memxlnet.maintain.old_caches import find_old_caches, remove_old_caches
from memxlnet.maintain.part_lists import (
    prune_parts,
    removable_list,
    remove_part_list,
    unlisted_caches,
    unshared_caches,
)
from memxlnet.maintain.removal import find_leftovers, num_bytes, own_manifest, remove_cache, remove_leftovers
from memxlnet.maintain.retention import ExpiredCache, find_expired_caches, remove_expired_caches
from memxlnet.redaction import Redactor
from memxlnet.remote.stored_removal import remove_stored_cache

_Found = tuple[list[tuple[Path | str, int]], list[Callable[[], object]]]
"""What would be removed, each with its bytes, and the calls that remove it."""

_EXPIRED = ("cache", "name", "split", "age", "bytes")


@click.command("rm")
@click.argument("paths", type=PathOrUrl(), nargs=-1, metavar="[PATH]...")
@click.option("--leftovers", is_flag=True, help="PATH is a directory of caches: what dead builds and transfers left.")
@click.option("--old", is_flag=True, help="PATH is a directory of caches: those of a source that has changed since.")
@click.option("--unlisted", is_flag=True, help="PATH is a list of parts: caches that it named before.")
@click.option(
    "--older-than",
    metavar="AGE",
    help="PATH is a directory of caches: those of a greater age, such as 30d (s, m, h, d or w).",
)
@click.option(
    "--keep",
    type=int,
    metavar="N",
    help="PATH is a directory of caches: all but the newest N of each name and split; a date in a name does not count.",
)
@click.option("--name", "pattern", metavar="PATTERN", help="With these two: only names that match, such as 'docs-*'.")
@cache_dir_option
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@shared()
def command(
    paths: tuple[Path | str, ...],
    leftovers: bool,
    old: bool,
    unlisted: bool,
    older_than: str | None,
    keep: int | None,
    pattern: str | None,
    cache_dir: Path,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove caches; readers keep what they have mapped.

    PATH is a directory, or the URL of a cache in a store, whose manifest goes first. What is not a cache, or holds
    other files too, is refused, and so is one that is being built. A list of parts (NAME.parts) goes with the caches
    that no other list names; with --unlisted only those go that no list names any more. --older-than and --keep
    remove only what both allow, from --cache-dir where no PATH is given, nothing that a list of parts names, and
    nothing without --yes.
    """
    by_retention = older_than is not None or keep is not None
    if by_retention and (leftovers or old or unlisted):
        raise click.UsageError("--older-than and --keep cannot be combined with --leftovers, --old and --unlisted.")
    if unlisted and (leftovers or old):
        raise click.UsageError("--unlisted cannot be combined with --leftovers and --old.")
    if pattern is not None and not by_retention:
        raise click.UsageError("--name needs --older-than or --keep.")
    if by_retention:
        _remove_expired(paths or (cache_dir,), older_than, keep, pattern, yes and not dry_run, as_json)
        return
    if not paths:
        raise click.UsageError("Missing argument 'PATH...'.")
    if unlisted:
        found = _unlisted(paths)
    elif leftovers or old:
        found = _left_or_old(paths, leftovers, old)
    else:
        found = _named(paths)
    _remove(*found, dry_run, yes, as_json)


def _unlisted(paths: tuple[Path | str, ...]) -> _Found:
    directories = [find_directory(as_directory("PATH", path)) for path in dict.fromkeys(paths)]
    caches = dict.fromkeys(cache for path in directories for cache in unlisted_caches(path, read_part_list(path)))
    return [(cache, num_bytes(cache)) for cache in caches if cache.is_dir()], [
        partial(prune_parts, path) for path in directories
    ]


def _left_or_old(paths: tuple[Path | str, ...], leftovers: bool, old: bool) -> _Found:
    found: list[tuple[Path | str, int]] = []
    removals: list[Callable[[], object]] = []
    for path in map(directory_of_caches, dict.fromkeys(paths)):
        if leftovers:
            found += [(each.path, each.num_bytes) for each in find_leftovers(path) if not each.in_use]
            removals.append(partial(remove_leftovers, path))
        if old:
            found += [(each.path, each.num_bytes) for each in find_old_caches(path)]
            removals.append(partial(remove_old_caches, path))
    return found, removals


def _named(paths: tuple[Path | str, ...]) -> _Found:
    """Check all before the first is removed."""
    urls = [path for path in dict.fromkeys(paths) if isinstance(path, str)]
    found: list[tuple[Path | str, int]] = [(Redactor({})(url), remove_stored_cache(url, dry_run=True)) for url in urls]
    removals: list[Callable[[], object]] = [partial(remove_stored_cache, url) for url in urls]
    directories = dict.fromkeys(find_directory(path) for path in paths if not isinstance(path, str))
    lists = [path for path in directories if path.name.endswith(PARTS_SUFFIX)]
    with_lists = dict.fromkeys(
        cache for path in lists for cache in unshared_caches(path, removable_list(path), lists) if cache.is_dir()
    )
    found += [(path, 0) for path in lists] + [(cache, num_bytes(cache)) for cache in with_lists]
    removals += [partial(remove_part_list, path) for path in lists]
    for directory in directories:
        if directory not in lists and directory not in with_lists:
            if directory.is_symlink():
                raise CacheNotFoundError(f"{directory}: expected a cache itself, found a symbolic link; unlink it")
            own_manifest(directory)
            found.append((directory, num_bytes(directory)))
            removals.append(partial(remove_cache, directory))
    return found, removals


def _remove(
    found: list[tuple[Path | str, int]],
    removals: list[Callable[[], object]],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    if as_json:
        print_json([{"path": str(path), "bytes": size} for path, size in found])
    for path, size in found if not as_json else ():
        click.echo(f"{printable(str(path))}\t{shown_bytes(size) if is_terminal() else size}")
    if not found:
        session().notice("nothing to remove")
        return
    if dry_run:
        return
    if not yes:
        click.confirm("Remove?", abort=True, err=True)
    for remove in removals:
        remove()


def _remove_expired(
    paths: tuple[Path | str, ...],
    older_than: str | None,
    keep: int | None,
    pattern: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    directories = [directory_of_caches(path) for path in dict.fromkeys(paths)]
    rule = {"older_than": older_than, "keep": keep, "pattern": pattern}
    found = [each for path in directories for each in find_expired_caches(path, **rule)]  # type: ignore[arg-type]
    if as_json:
        print_json([_expired_fields(each) for each in found])
    if not found:
        session().notice("nothing to remove")
        return
    if not as_json:
        print_table(_EXPIRED, [_expired_row(each) for each in found], numbers=("age", "bytes"))
    if not yes:
        stay = [each.path for each in found if each.in_use]
    else:
        removed = {each.path for path in directories for each in remove_expired_caches(path, **rule)}  # type: ignore[arg-type]
        stay = [each.path for each in found if each.path not in removed and each.path.exists()]
    for path in stay:
        session().notice(f"{printable(str(path))}: skipped, a process works on it")
    if not yes:
        session().notice("nothing was removed; --yes removes them")


def _expired_fields(cache: ExpiredCache) -> dict[str, object]:
    return {
        "path": str(cache.path),
        "name": cache.name,
        "split": cache.split,
        "age_seconds": round(cache.age_seconds),
        "bytes": cache.num_bytes,
    }


def _expired_row(cache: ExpiredCache) -> tuple[object, ...]:
    """Return what is shown of a cache; its age in seconds where the output is piped."""
    if not is_terminal():
        return cache.path, cache.name, cache.split, round(cache.age_seconds), cache.num_bytes
    return cache.path, cache.name, cache.split, _shown_age(cache.age_seconds), shown_bytes(cache.num_bytes)


def _shown_age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"

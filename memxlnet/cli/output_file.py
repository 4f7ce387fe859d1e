"""The result of a command in a file: whole or not at all."""

import contextlib
import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import click

from memxlnet.format.paths import replace_file, write_file
from memxlnet.system_errors import cache_errors

STANDARD_OUTPUT = Path("-")


@contextlib.contextmanager
def into_file(path: Path | None) -> Iterator[None]:
    """Write what is printed while the context lasts into a file, at its end.

    Where the context ends with an error, the file stays as it was. That a file can be made there is seen at once.

    Args:
        path: The file; None, or ``-``, for standard output.

    Raises:
        click.UsageError: No file can stand there.
        CacheOSError: The file cannot be written; a `CacheDirectoryError` where access stops it.
    """
    if path is None or path == STANDARD_OUTPUT:
        yield
        return
    # A link stays, and the file that it leads to is replaced.
    target = Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111 - Path.expanduser raises without a user
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    if not target.parent.is_dir():
        raise click.UsageError(
            f"--output: expected a file in an existing directory, found no directory {target.parent}"
        )
    if target.is_dir() or (target.exists() and not target.is_file()):
        found = "a directory" if target.is_dir() else "a device or pipe"
        raise click.UsageError(f"--output: expected a file or a new name, found {found} at {target}")
    hint = "choose another --output"
    with cache_errors(target, "written", hint):
        write_file(temporary, b"")
        temporary.unlink()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield
    with cache_errors(target, "written", hint):
        replace_file(target, printed.getvalue().encode(errors="backslashreplace"))

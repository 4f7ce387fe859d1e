"""Paths and URLs as types of options and arguments."""

from pathlib import Path
from typing import Any

import click

from memxlnet.format.paths import is_url


class FilledPath(click.Path):
    """A path; an empty one, such as that of a variable that is not set, is refused and not the current directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of a text."""
        if value == "":
            self.fail("expected a path, found an empty one", param, ctx)
        return super().convert(value, param, ctx)


class PathOrUrl(FilledPath):
    """A path, or the URL of a store, which stays a string."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the URL of a text."""
        return value if isinstance(value, str) and is_url(value) else super().convert(value, param, ctx)

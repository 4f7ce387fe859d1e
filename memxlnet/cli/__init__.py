"""The command line: ``memxlnet``. Each command is loaded when it is called."""

from memxlnet.cli.commands import main

__all__ = ["main"]

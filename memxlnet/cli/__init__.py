"""The command line: ``memxlnet``. Each command is loaded when it is called."""

from memxlnet.cli.app import main

__all__ = ["main"]

"""Processes that do not see a directory, as those of another machine."""

import ctypes
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

_NEW_MOUNTS = 0x00020000
_PRIVATE = 0x40000 | 0x4000


def hide(directory: str) -> None:
    """In a worker: lay an empty file system over a directory, in a mount namespace of this process's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    for done in (
        libc.unshare(_NEW_MOUNTS),
        libc.mount(b"none", b"/", None, _PRIVATE, None),
        libc.mount(b"none", directory.encode(), b"tmpfs", 0, None),
    ):
        if done:
            raise OSError(ctypes.get_errno(), "cannot hide the directory")


def blind(directory: Path) -> ProcessPoolExecutor:
    """Two processes that do not see a directory; skips where the system allows no such thing."""
    if not sys.platform.startswith("linux") or os.geteuid():
        pytest.skip("needs root on Linux to hide a directory from a process")
    directory.mkdir(exist_ok=True)
    executor = ProcessPoolExecutor(2, multiprocessing.get_context("fork"), hide, (str(directory),))
    try:
        assert not any(executor.map(has_entries, [str(directory)] * 2))
    except Exception as error:
        executor.shutdown()
        pytest.skip(f"needs mount namespaces: {error}")
    return executor


def has_entries(directory: str) -> bool:
    return any(Path(directory).iterdir())

"""Code put into worker processes from outside, and what is seen of processes and chunks from here.

A worker gets the module search path of its builder, so a `sitecustomize` that is first on it runs in the worker before
anything else. The library has no hook for this.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import ROOT, WAIT_SECONDS

_PRELUDE = """
import os, pathlib, resource, signal, sys, time

if "memxlnet.builder.worker" in sys.orig_argv:
    FOLDER = pathlib.Path(__file__).parent
    CHUNKS = pathlib.Path({cache_dir!r})

    def note(name, text):
        with open(FOLDER / name, "a") as file:
            file.write(f"{{text}}\\n")

    def wait_for_chunks(count):
        while len(list(CHUNKS.glob(".build-*/chunks/*.chunk"))) < count:
            time.sleep(0.005)

    def at_work(ids):
        pass

    def loaded():
        from memxlnet.builder import chunk_encoding as tasks

        plain = tasks.encode_in_parts

        def encode_in_parts(encoder, settings, examples, part_cost):
            ids = [example.id for example in examples]
            note("encoded", ids[0])
            at_work(ids)
            return plain(encoder, settings, examples, part_cost)

        tasks.encode_in_parts = encode_in_parts

{code}

    loaded()
"""


class Injection:
    """A folder with a `sitecustomize` for workers.

    Args:
        folder: Where it is written.
        cache_dir: The caches that the build writes.
        code: Python that may define ``at_work(ids)``, called in the worker with the ids of each chunk's examples. It
            may use ``note(name, text)`` and ``wait_for_chunks(count)``.
    """

    def __init__(self, folder: Path, cache_dir: Path, code: str = ""):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        indented = "\n".join("    " + line for line in code.strip("\n").splitlines())
        (folder / "sitecustomize.py").write_text(_PRELUDE.format(cache_dir=str(cache_dir), code=indented))

    def notes(self, name: str) -> list[str]:
        """The lines that workers noted under a name."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def use(self, monkeypatch: pytest.MonkeyPatch) -> "Injection":
        """Let the workers of this process run it."""
        monkeypatch.setattr(sys, "path", [str(self.folder), *sys.path])
        return self


def chunk_files(cache_dir: Path) -> list[Path]:
    """The finished chunks of builds at work or interrupted, in order of their numbers."""
    return sorted(cache_dir.glob(".build-*/chunks/*.chunk"))


def children() -> set[int]:
    """The processes below this one."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def wait_until(reached: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Wait for something to become true, and give it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = reached()
        if found:
            return found
        time.sleep(0.005)
    return pytest.fail(f"not within {seconds:g} s: {what}")


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of a script: this one's, the repository on the module path, and changes; None unsets."""
    merged: Mapping[str, str | None] = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def run_script(
    path: Path, *arguments: object, env: dict[str, str] | None = None, options: Iterable[str] = (), cwd: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    """Run a script to its end."""
    command = [sys.executable, *options, str(path), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=env or environment(), capture_output=True, text=True, timeout=120, check=False
    )

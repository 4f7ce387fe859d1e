"""The reusable executor of loky as the executor of a build."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import BuildError
from tests.builder.processes import build, content
from tests.engines.killing import Noting


@pytest.fixture
def executor() -> Iterator[Any]:
    loky = pytest.importorskip("loky", reason="needs loky: pip install loky")
    found = loky.get_reusable_executor(2)
    yield found
    found.shutdown(kill_workers=True)


@pytest.mark.slow
def test_loky_changes_no_byte(executor: Any, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    noting = Noting(executor, tmp_path / "notes", tmp_path / "cache")
    build(tmp_path / "cache", executor=noting)
    assert content(tmp_path / "cache") == undisturbed
    assert noting.runs() == [0, 1, 2, 3]
    assert os.getpid() not in noting.processes()
    assert executor.submit(os.getpid).result(60) > 0


@pytest.mark.slow
def test_a_killed_process_of_loky_is_an_error_and_the_next_build_resumes(
    executor: Any, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    import loky

    noting = Noting(executor, tmp_path / "notes", tmp_path / "cache", killed=1)
    with pytest.raises(BuildError, match="TerminatedWorkerError"):
        build(tmp_path / "cache", executor=noting)
    again = Noting(loky.get_reusable_executor(2), tmp_path / "more", tmp_path / "cache")
    with caplog.at_level("INFO", "memxlnet"):
        build(tmp_path / "cache", executor=again)
    assert "resuming with" in caplog.text
    assert 1 <= len(again.runs()) <= 2
    assert content(tmp_path / "cache") == undisturbed

"""A Ray cluster on this machine as the executor of a build."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from memxlnet.engines import RayExecutor
from memxlnet.errors import BuildError, MissingLibraryError, SettingsError
from tests.builder.processes import build, content
from tests.builder.scripts.injected import wait_until
from tests.engines.killing import Noting


def test_without_ray_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'memxlnet\[ray\]'"):
        RayExecutor()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray", reason="needs Ray: pip install 'memxlnet[ray]'")
    with pytest.raises(SettingsError, match=r"ray\.init"):
        RayExecutor()
    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield found
    found.shutdown()


pytestmark = [
    # Of Ray's own start and of its log files.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


@pytest.mark.slow
def test_a_ray_cluster_changes_no_byte_and_stays_the_users(
    ray: Any, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    with RayExecutor() as executor:
        noting = Noting(executor, tmp_path / "notes", tmp_path / "cache")
        build(tmp_path / "cache", executor=noting)
        build(tmp_path / "other", executor=executor, num_workers=1, streaming_chunk_size=1)
        with pytest.raises(BuildError, match="max_memory_gb"):
            build(tmp_path / "third", executor=executor, max_memory_gb=1e-6)
        assert executor.submit(os.getpid).result(60) > 0
    assert content(tmp_path / "cache") == content(tmp_path / "other") == undisturbed
    assert noting.runs() == [0, 1, 2, 3]
    assert os.getpid() not in noting.processes()
    with pytest.raises(BuildError, match="shutdown"):
        build(tmp_path / "fourth", executor=executor)
    assert ray.is_initialized()


@pytest.mark.slow
def test_a_killed_worker_of_ray_loses_nothing(ray: Any, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with RayExecutor() as executor:
        noting = Noting(executor, tmp_path / "notes", tmp_path / "cache", killed=1)
        build(tmp_path / "cache", executor=noting)
    assert content(tmp_path / "cache") == undisturbed
    assert noting.runs() == [0, 1, 1, 2, 3]  # only the killed one twice


@pytest.mark.slow
def test_a_worker_that_is_lost_for_good_is_an_error_and_the_next_build_resumes(
    ray: Any, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with RayExecutor(max_retries=0) as executor:
        noting = Noting(executor, tmp_path / "notes", tmp_path / "cache", killed=1)
        with pytest.raises(BuildError, match="WorkerCrashedError"):
            build(tmp_path / "cache", executor=noting)
        with caplog.at_level("INFO", "memxlnet"):
            build(tmp_path / "cache", executor=executor)
    assert "resuming with" in caplog.text
    assert content(tmp_path / "cache") == undisturbed


@pytest.mark.slow
def test_calls_of_ray_are_cancelled_and_their_errors_are_their_own(ray: Any, tmp_path: Path) -> None:
    executor = RayExecutor(num_cpus=2)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(60)
    begun = executor.submit(_wait_for, tmp_path / "go", tmp_path / "begun")
    wait_until((tmp_path / "begun").exists, "the first call begins")
    waiting = executor.submit((tmp_path / "second").touch)
    executor.shutdown(wait=False, cancel_futures=True)
    assert begun.cancelled()
    assert waiting.cancelled()
    after = RayExecutor(num_cpus=2)
    assert after.submit(abs, -1).result(60) == 1  # both cores are free again
    assert not (tmp_path / "second").exists()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(abs, -1)
    last = after.submit(abs, -2)
    after.shutdown()
    assert wait([last], 0).done


def _wait_for(go: Path, begun: Path) -> None:
    begun.touch()
    wait_until(go.exists, "the test lets go")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"num_cpus": -1}, {"max_retries": -2}, {"colour": 1}], ids=str)
def test_options_that_ray_refuses_are_refused_at_once(ray: Any, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^RayExecutor:.*{next(iter(options))}"):
        RayExecutor(**options)


@pytest.mark.slow
def test_ray_changes_no_byte_through_a_scratch_store(ray: Any, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with RayExecutor() as executor:
        build(tmp_path / "cache", executor=executor, scratch=(tmp_path / "scratch").as_uri())
    assert content(tmp_path / "cache") == undisturbed
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]

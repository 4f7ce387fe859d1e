from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.builder.processes import kill_started, published, server
from tests.faults.acts import build_from_file
from tests.faults.processes import build, rows
from tests.format.content import files_of
from tests.support import write_json_lines


@pytest.fixture(scope="session", autouse=True)
def loaded_server() -> None:
    """Start the fork server with all that these tests need, unless tests of another folder have started it."""
    server().set_forkserver_preload(
        ["tests.builder.processes", "tests.faults.acts", "tests.faults.damage", "tests.faults.fuzz"]
    )
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def whole_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a build that nobody disturbed."""
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    build(cache_dir)
    (directory,) = published(cache_dir)
    return directory


@pytest.fixture(scope="session")
def undisturbed(whole_cache: Path) -> dict[str, bytes]:
    """The files of a build that nobody disturbed."""
    return files_of(whole_cache)


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of a few rows in five shards, made from a file, to be damaged thousands of times."""
    folder = tmp_path_factory.mktemp("small")
    source = write_json_lines(folder / "source.jsonl", rows())
    build_from_file(folder / "caches", source, {"max_examples": 12, "max_shard_rows": 7})
    (directory,) = published(folder / "caches")
    return directory


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    kill_started()

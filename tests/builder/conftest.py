from collections.abc import Iterator

import pytest

from tests.builder.processes import build, content, kill_started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a build in this process that nobody disturbed."""
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    build(cache_dir, num_workers=0)
    return content(cache_dir)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    kill_started()

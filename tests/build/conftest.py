import pytest

from tests.build.processes import build, content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a build in this process that nobody disturbed."""
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    build(cache_dir, num_workers=0)
    return content(cache_dir)

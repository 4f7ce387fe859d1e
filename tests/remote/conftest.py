import copy
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from botocore.loaders import create_loader
from transformers import AutoTokenizer

from memxlnet import Cache
from memxlnet.remote import stores
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.sample import sample_tokenizer_directory
from tests.format.content import make_content, publish
from tests.load.helpers import sample_tokenizer
from tests.remote.build_there import SETTINGS
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.hub_server import REPO, ROWS, HubServer, Repo, running_hub, upload_once
from tests.remote.s3 import Bucket, make_bucket, make_client, server
from tests.remote.stored_build import named
from tests.support import build, long_examples, write_json_lines

Transfer = Callable[..., object]


@pytest.fixture(scope="session", autouse=True)
def one_loader() -> Iterator[None]:
    """Let botocore parse its descriptions of services once, not for every client."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("botocore.session.create_loader", functools.cache(create_loader))
        yield


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Iterator[Any]:
    client = make_client(s3_endpoint)
    yield client
    client.close()


@pytest.fixture
def bucket(s3_endpoint: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, and an environment that holds no credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    return make_bucket(s3_endpoint, s3_client)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[CuttingProxy]:
    with CuttingProxy(s3_endpoint) as made:
        yield made


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that the files of these tests have many."""
    monkeypatch.setattr(stores, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(stores, "BLOCKS_AT_ONCE", 2)


@pytest.fixture(scope="session")
def made_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of several features shards, about 100 KB."""
    directory = tmp_path_factory.mktemp("made")
    content = make_content(3, 48, [f"context {number}" for number in range(6)], [(n, 1 + n % 5) for n in range(60)])
    return Path(publish(content, directory, [7], max_shard_rows=60).directory)


@pytest.fixture
def cache(made_cache: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made_cache, tmp_path / "origin" / made_cache.name))


@pytest.fixture
def other_cache(tmp_path: Path) -> Path:
    """A cache of other settings, with a file that the first has not."""
    content = make_content(4, 5, ["a", "b"], [(0, 3), None, (1, 2)])
    return Path(publish(content, tmp_path / "other", [2]).directory)


@pytest.fixture(params=["push", "pull"])
def transfer(request: pytest.FixtureRequest, cache: Path, tmp_path: Path) -> Transfer:
    """A push or a pull, given the address and options."""
    if request.param == "push":
        return lambda url, **options: push(cache, url, **options)
    return lambda url, **options: pull(url, tmp_path / "here", **options)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with running_hub(monkeypatch, tmp_path / "home") as server:
        yield server


@pytest.fixture(scope="session")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(tmp_path_factory.mktemp("source") / "long.jsonl", long_examples(400, 60))


@pytest.fixture(scope="session")
def expected(long_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a local build of it, by their paths in a directory of caches."""
    cache_dir = tmp_path_factory.mktemp("local")
    return named(Cache.build(long_source, sample_tokenizer(), cache_dir=cache_dir, num_workers=0, **SETTINGS).directory)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_json_lines(tmp_path / "questions.jsonl", ROWS)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of a file with `ROWS`."""
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    directory = tmp_path_factory.mktemp("built")
    return build(write_json_lines(directory / "questions.jsonl", ROWS), tokenizer, directory / "caches").directory


@pytest.fixture(scope="session")
def uploaded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """The repository that an upload of it makes."""
    return upload_once(built, tmp_path_factory.mktemp("home"))


@pytest.fixture
def sent(hub: HubServer, built: Path, uploaded: Repo, tmp_path: Path) -> Path:
    """A copy of the cache, which the Hub holds as well."""
    hub.repos[REPO] = copy.deepcopy(uploaded)
    return Path(shutil.copytree(built, tmp_path / "local" / built.name))

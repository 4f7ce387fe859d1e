"""Builds into a store in processes of their own: several at once, and some that are killed."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from memxlnet import Cache
from memxlnet.builder.builder import Build
from tests.format.content import files_of
from tests.load.helpers import sample_tokenizer
from tests.remote.build_there import SETTINGS, build_there
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket
from tests.support import ROOT, WAIT_SECONDS, long_examples, write_json_lines

pytestmark = pytest.mark.slow  # test_stored_builds.py ends builds within this process


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(tmp_path_factory.mktemp("source") / "long.jsonl", long_examples(400, 60))


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a local build, by their paths in a directory of caches."""
    directory = tmp_path_factory.mktemp("local")
    return named(Cache.build(source, sample_tokenizer(), cache_dir=directory, num_workers=0, **SETTINGS).directory)


def named(directory: Path) -> dict[str, bytes]:
    """The files of a cache by their paths in a directory of caches."""
    return {f"{directory.name}/{name}": content for name, content in files_of(directory).items()}


def url_of(bucket: Bucket) -> str:
    return f"s3://{bucket.name}/caches"


@contextmanager
def started(source: Path, bucket: Bucket, work_dir: Path, **changes: Any) -> Iterator[subprocess.Popen[str]]:
    arguments = (source, url_of(bucket), work_dir, json.dumps(bucket.options(**changes)))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.remote.build_there", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def there(bucket: Bucket) -> dict[str, bytes]:
    """What lies in the directory of caches, looked at without memxlnet."""
    found = bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])
    bodies = {entry["Key"]: bucket.client.get_object(Bucket=bucket.name, Key=entry["Key"])["Body"] for entry in found}
    return {key.removeprefix("caches/"): body.read() for key, body in bodies.items()}


def test_of_three_at_once_one_publishes_and_all_succeed(
    source: Path, bucket: Bucket, expected: dict[str, bytes], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        # The server of these tests may fail where several write one file at the same moment.
        retries = {"config_kwargs": {"retries": {"max_attempts": 5, "mode": "standard"}}}
        processes = [
            stack.enter_context(started(source, bucket, tmp_path / str(number), **retries)) for number in range(3)
        ]
        for process in processes:
            output, log = process.communicate(timeout=WAIT_SECONDS)
            assert process.returncode == 0, log
            assert named(Path(output.strip())) == expected
    assert there(bucket) == expected


@pytest.mark.parametrize("seed", range(6))
def test_kills_and_cuts_at_random_lose_nothing(
    source: Path,
    bucket: Bucket,
    proxy: CuttingProxy,
    expected: dict[str, bytes],
    tmp_path: Path,
    seed: int,
) -> None:
    chance = random.Random(seed)
    size = sum(map(len, expected.values()))
    finished: set[str] = set()
    for _ in range(3):
        # Held, so that a kill meets a transfer under way; cut, so that the build fails by itself.
        is_held = chance.random() < 0.5
        proxy.cut_after(up=int(chance.uniform(0.02, 0.9) * size), hold=is_held)
        with started(source, bucket, tmp_path / "work", endpoint_url=proxy.endpoint) as process:
            until = time.monotonic() + chance.uniform(3, 12)
            while process.poll() is None and time.monotonic() < until and not (is_held and proxy.reached.is_set()):
                time.sleep(0.05)
            process.kill()
            process.communicate(timeout=WAIT_SECONDS)
        proxy.heal()
        chunks = {path.name for path in (tmp_path / "work").glob(".build-*/chunks/*.chunk")}
        assert finished <= chunks or not list((tmp_path / "work").glob(".build-*/chunks"))
        finished = chunks
    cache = build_there(source, url_of(bucket), tmp_path / "work", bucket.options())
    assert named(cache.directory) == expected
    found = there(bucket)
    assert {name: content for name, content in found.items() if "-probe-" not in name} == expected


def test_one_that_is_killed_while_it_sends_resumes_with_what_is_built(
    source: Path,
    bucket: Bucket,
    proxy: CuttingProxy,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy.cut_after(up=sum(map(len, expected.values())) // 2, hold=True)
    with started(source, bucket, tmp_path / "work", endpoint_url=proxy.endpoint) as process:
        assert proxy.reached.wait(WAIT_SECONDS)
        process.kill()
    proxy.heal()
    before = there(bucket)
    assert before
    assert not any(name.endswith("manifest.json") for name in before)
    monkeypatch.setattr(Build, "run", None)  # nothing is to be built
    build_there(source, url_of(bucket), tmp_path / "work", bucket.options())
    assert there(bucket) == expected

"""Transfers in processes of their own: two at once, and some that are killed."""

import json
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from tests.format.content import files_of
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket, calls
from tests.remote.stored_build import running
from tests.support import WAIT_SECONDS

pytestmark = pytest.mark.slow  # test_interrupted.py cuts transfers within this process


started = partial(running, "tests.remote.transfer")


def test_of_two_processes_one_fetches_and_the_other_waits(
    cache: Path, bucket: Bucket, proxy: CuttingProxy, tmp_path: Path
) -> None:
    bucket.fill(cache)
    options = json.dumps(bucket.options(endpoint_url=proxy.endpoint))
    size = sum(len(content) for content in files_of(cache).values())
    proxy.cut_after(down=size // 2, hold=True)
    with started("pull", bucket.url, tmp_path, options) as first:
        assert proxy.reached.wait(WAIT_SECONDS)
        direct = json.dumps(bucket.options())
        with started("pull", bucket.url, tmp_path, direct) as second:
            assert second.stderr is not None
            lines: list[str] = []
            while not lines or "waiting for another process" not in lines[-1]:
                lines.append(second.stderr.readline())
                assert lines[-1], lines
            proxy.heal()
            for process, text in ((first, "fetched from"), (second, "exists already")):
                output, log = process.communicate(timeout=WAIT_SECONDS)
                assert process.returncode == 0, log
                assert Path(output.strip()) == tmp_path / cache.name
                assert text in log
    assert files_of(tmp_path / cache.name) == files_of(cache)


def test_a_pull_that_is_killed_leaves_no_cache_and_resumes(
    cache: Path, bucket: Bucket, proxy: CuttingProxy, tmp_path: Path
) -> None:
    bucket.fill(cache)
    size = sum(len(content) for content in files_of(cache).values())
    proxy.cut_after(down=size * 2 // 3, hold=True)
    options = json.dumps(bucket.options(endpoint_url=proxy.endpoint))
    with started("pull", bucket.url, tmp_path, options) as process:
        assert proxy.reached.wait(WAIT_SECONDS)
        kill(process)
    assert not (tmp_path / cache.name).exists()
    (staging,) = tmp_path.glob(".arriving-*")
    here = {path.name for path in staging.iterdir() if path.suffix != ".part"}
    assert here
    with calls() as made:
        assert files_of(pull(bucket.url, tmp_path, storage_options=bucket.options())) == files_of(cache)
    assert not here & {name for method, name in made}
    assert not list(tmp_path.glob(".arriving-*"))


def test_a_push_that_is_killed_leaves_no_cache_and_resumes(cache: Path, bucket: Bucket, proxy: CuttingProxy) -> None:
    size = sum(len(content) for content in files_of(cache).values())
    proxy.cut_after(up=size // 2, hold=True)
    options = json.dumps(bucket.options(endpoint_url=proxy.endpoint))
    with started("push", cache, bucket.url, options) as process:
        assert proxy.reached.wait(WAIT_SECONDS)
        kill(process)
    before = set(bucket.files())
    assert before
    assert "manifest.json" not in before
    with calls() as made:
        push(cache, bucket.url, storage_options=bucket.options())
    assert not before & {name for method, name in made if method == "put_object"}
    assert bucket.files() == files_of(cache)


def test_a_push_that_is_killed_while_it_replaces_leaves_no_manifest(
    cache: Path, bucket: Bucket, proxy: CuttingProxy
) -> None:
    bucket.fill(cache)
    bucket.delete("features-00001.arrow")
    options = json.dumps(bucket.options(endpoint_url=proxy.endpoint))
    proxy.cut_after(up=25_000, hold=True)
    with started("push", cache, bucket.url, options) as process:
        assert proxy.reached.wait(WAIT_SECONDS)
        kill(process)
    assert "manifest.json" not in bucket.files()
    push(cache, bucket.url, storage_options=bucket.options())
    assert bucket.files() == files_of(cache)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill it as the system would, some moment after it stopped for want of bytes."""
    time.sleep(0.2)
    process.kill()
    process.wait(WAIT_SECONDS)


def test_a_failure_ends_the_process_with_its_error(bucket: Bucket, tmp_path: Path) -> None:
    with started("pull", bucket.url, tmp_path, json.dumps(bucket.options())) as process:
        _, log = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 1
    assert "CacheNotFoundError" in log
    assert "ResourceWarning" not in log

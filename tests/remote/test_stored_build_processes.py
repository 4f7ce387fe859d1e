"""Builds into a store in processes of their own: several at once, and some that are killed."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.builder import Build
from tests.remote.build_there import build_there
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket
from tests.remote.stored_build import named, started, there, url_of
from tests.support import WAIT_SECONDS

pytestmark = pytest.mark.slow  # test_stored_builds.py ends builds within this process


def test_of_three_at_once_one_publishes_and_all_succeed(
    long_source: Path, bucket: Bucket, expected: dict[str, bytes], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        # The server of these tests may fail where several write one file at the same moment.
        retries: dict[str, Any] = {"config_kwargs": {"retries": {"max_attempts": 5, "mode": "standard"}}}
        processes = [
            stack.enter_context(started(long_source, bucket, tmp_path / str(number), **retries)) for number in range(3)
        ]
        for process in processes:
            output, log = process.communicate(timeout=WAIT_SECONDS)
            assert process.returncode == 0, log
            assert named(Path(output.strip())) == expected
    assert there(bucket) == expected


def test_one_that_is_killed_while_it_sends_resumes_with_what_is_built(
    long_source: Path,
    bucket: Bucket,
    proxy: CuttingProxy,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy.cut_after(up=sum(map(len, expected.values())) // 2, hold=True)
    with started(long_source, bucket, tmp_path / "work", endpoint_url=proxy.endpoint) as process:
        assert proxy.reached.wait(WAIT_SECONDS)
        process.kill()
    proxy.heal()
    before = there(bucket)
    assert before
    assert not any(name.endswith("manifest.json") for name in before)
    monkeypatch.setattr(Build, "run", None)  # nothing is to be built
    build_there(long_source, url_of(bucket), tmp_path / "work", bucket.options())
    assert there(bucket) == expected

"""A build into a store in a process of its own, and what it leaves there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.format.content import files_of
from tests.remote.s3 import Bucket
from tests.support import ROOT


def named(directory: Path) -> dict[str, bytes]:
    """The files of a cache by their paths in a directory of caches."""
    return {f"{directory.name}/{name}": content for name, content in files_of(directory).items()}


def url_of(bucket: Bucket) -> str:
    return f"s3://{bucket.name}/caches"


@contextmanager
def running(module: str, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """A module in a process of its own, which is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
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


def started(
    source: Path, bucket: Bucket, work_dir: Path, **changes: Any
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A build into the bucket, with other options of its file system."""
    options = json.dumps(bucket.options(**changes))
    return running("tests.remote.build_there", source, url_of(bucket), work_dir, options)


def there(bucket: Bucket, prefix: str = "caches/") -> dict[str, bytes]:
    """What lies in a directory of the bucket, looked at without memxlnet."""
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix).get("Contents", [])
    bodies = {entry["Key"]: bucket.client.get_object(Bucket=bucket.name, Key=entry["Key"])["Body"] for entry in found}
    return {key.removeprefix(prefix): body.read() for key, body in bodies.items()}

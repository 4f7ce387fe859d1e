"""A real S3 server on the loopback interface, and what tests ask of a bucket without memxlnet."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import s3fs
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.support import WAIT_SECONDS

SECRET = "wJalrXUtn/FEMI+K7MDENG"
ONE_ATTEMPT = {"retries": {"max_attempts": 0}, "connect_timeout": WAIT_SECONDS, "read_timeout": WAIT_SECONDS}


@contextmanager
def server() -> Iterator[str]:
    """A server; gives its address."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own on a server."""

    name: str
    endpoint: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}/some/cache"

    def options(self, **changes: Any) -> dict[str, Any]:
        return {
            "key": "AKIAEXAMPLE",
            "secret": SECRET,
            "endpoint_url": self.endpoint,
            "config_kwargs": ONE_ATTEMPT,
            **changes,
        }

    def files(self) -> dict[str, bytes]:
        """What lies at the place of the cache."""
        found = self.client.list_objects_v2(Bucket=self.name, Prefix="some/cache/").get("Contents", [])
        names = [entry["Key"].removeprefix("some/cache/") for entry in found]
        return {name: self.get(name) for name in names}

    def fill(self, directory: Path) -> None:
        """Put the files of a cache there, as a push leaves them."""
        for path in directory.iterdir():
            self.put(path.name, path.read_bytes())

    def get(self, name: str) -> bytes:
        body = self.client.get_object(Bucket=self.name, Key=f"some/cache/{name}")["Body"]
        with body:
            return bytes(body.read())

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"some/cache/{name}", Body=content)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"some/cache/{name}")


def make_client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        aws_access_key_id="admin",
        aws_secret_access_key="admin-secret",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}),
    )


def make_bucket(endpoint: str, client: Any) -> Bucket:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return Bucket(name, endpoint, client)


@contextmanager
def calls() -> Iterator[list[tuple[str, str]]]:
    """What is asked of S3 within: each request's name and the name of the file."""
    made: list[tuple[str, str]] = []
    ask = s3fs.S3FileSystem._call_s3

    async def record(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        made.append((method, str(kwargs.get("Key", "")).rpartition("/")[2]))
        return await ask(self, method, *args, **kwargs)

    s3fs.S3FileSystem._call_s3 = record
    try:
        yield made
    finally:
        s3fs.S3FileSystem._call_s3 = ask

"""An S3 server on the loopback interface in a separate process: it must not share a lock with what is measured."""

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEYS = {"key": "key", "secret": "secret"}


def _serve(answers: Any) -> None:
    """Run the server until the process is ended."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    answers.put(server.get_host_and_port()[1])
    threading.Event().wait()


@contextmanager
def s3_server(bucket: str) -> Iterator[int]:
    """Run a server with one bucket; gives its port."""
    import boto3

    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    server = context.Process(target=_serve, args=(answers,), daemon=True)
    server.start()
    try:
        port = answers.get(timeout=60)
        options = options_of(port)
        client = boto3.client(
            "s3",
            aws_access_key_id=options["key"],
            aws_secret_access_key=options["secret"],
            endpoint_url=options["endpoint_url"],
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=bucket)
        yield port
    finally:
        server.kill()
        server.join()


def options_of(port: int) -> dict[str, Any]:
    """Return the options of a file system that reaches the server at a port."""
    return {**KEYS, "endpoint_url": f"http://127.0.0.1:{port}"}

"""Web servers: those that serve parts of files are stores to pull from, all others are refused."""

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memxlnet.errors import CacheNotFoundError, SettingsError, TransferError
from memxlnet.format.manifest import read_manifest
from memxlnet.remote.pull import pull
from memxlnet.remote.stored_caches import find_stored_caches, read_stored_cache
from memxlnet.remote.stored_removal import remove_stored_cache
from tests.format.content import files_of
from tests.format.forging import seal


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.server.directory / self.path.strip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.server.serves_parts else None
        self.send_response(206 if asked else 200)
        if asked:
            start, stop = int(asked[1]), int(asked[2]) + 1
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
            content = content[start:stop]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            for start in range(0, len(content), 1 << 16):
                self.wfile.write(content[start : start + (1 << 16)])
                self.server.sent += len(content[start : start + (1 << 16)])


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory: Path, serves_parts: bool):
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        self.serves_parts = serves_parts
        self.sent = 0
        self.url = "http://{}:{}".format(*self.server_address[:2])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up early is no news."""


@contextlib.contextmanager
def serving(directory: Path, serves_parts: bool) -> Iterator[Server]:
    server = Server(directory, serves_parts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.usefixtures("small_blocks")
def test_parts_of_files_are_fetched(cache: Path, tmp_path: Path) -> None:
    with serving(cache, serves_parts=True) as server:
        assert files_of(pull(server.url, tmp_path / "here")) == files_of(cache)
        with pytest.raises(CacheNotFoundError):
            pull(f"{server.url}/none", tmp_path / "here")


def test_small_files_need_no_parts(cache: Path, tmp_path: Path) -> None:
    with serving(cache, serves_parts=False) as server:
        assert files_of(pull(server.url, tmp_path / "here")) == files_of(cache)


def test_a_server_that_answers_with_the_whole_each_time_is_refused(cache: Path, tmp_path: Path) -> None:
    (cache / "tokenizer.json").write_bytes(bytes(40 << 20))
    seal(cache)
    with serving(cache, serves_parts=False) as server:
        with pytest.raises(TransferError, match=r"tokenizer\.json:.*parts"):
            pull(server.url, tmp_path / "here")
        # What lies in the buffers of the connection, beside the other files.
        assert server.sent < 20 << 20


def test_the_rest_of_a_file_needs_parts(cache: Path, tmp_path: Path) -> None:
    staging = tmp_path / "here" / f".arriving-{cache.name}"
    staging.mkdir(parents=True)
    (staging / "tokenizer.json.part").write_bytes((cache / "tokenizer.json").read_bytes()[:5])
    with serving(cache, serves_parts=False) as server:
        with pytest.raises(TransferError, match=r"tokenizer\.json:.*parts"):
            pull(server.url, tmp_path / "here")
        server.serves_parts = True
        assert files_of(pull(server.url, tmp_path / "here")) == files_of(cache)


def test_a_cache_is_shown_but_nothing_is_listed_or_removed(cache: Path) -> None:
    with serving(cache.parent, serves_parts=True) as server:
        url = f"{server.url}/{cache.name}"
        assert read_stored_cache(url).manifest == read_manifest(cache)
        for call in (lambda: find_stored_caches(server.url), lambda: remove_stored_cache(url, dry_run=True)):
            sent = server.sent
            with pytest.raises(SettingsError, match=r"lists and changes its files, found a web server"):
                call()
            assert server.sent == sent

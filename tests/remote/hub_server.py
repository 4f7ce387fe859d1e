"""A Hub on the loopback interface: as much of its HTTP interface as the real client asks for here, kept in memory.

Written from what `huggingface_hub` sends and expects: creating a repository, its information, tree and paths, the
preupload question (every file is a "regular" one), commits as NDJSON, and files with ETag, commit and Range. Faults are
switched on by attributes.
"""

import base64
import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from memxlnet.data.hub import upload_processed_dataset_to_hub
from tests.support import long_examples

REPO = "owner/caches"
ROWS = long_examples(3, words=60)
"""The repository of the tests, and the examples of the caches in it."""

OWNER = "hf_owner0000000000000"
READER = "hf_reader000000000000"


@dataclass
class Repo:
    """A repository: every commit is the whole of its files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], message: str, branch: str = "main") -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits[sha] = files
        self.messages.append(message)
        self.branches[branch] = sha
        return sha

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]

    def change(self, path: str, content: bytes | None) -> str:
        """Commit another content of a file, or none."""
        files = {name: kept for name, kept in self.files.items() if name != path}
        return self.commit(files if content is None else {**files, path: content}, f"change {path}")


class RefusalError(Exception):
    """A status with the headers that the client reads errors from."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.code, self.message = status, code, message


class HubServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        repos: The repositories by name.
        requests: Method and path of every request, in order.
        fail: Status for every request whose method and path match a pattern.
        cut: Bytes after which the content of a file is cut off, by a pattern of its path.
        wrong: What is sent instead of a file, by its path.
        ignored: Files that the repository's .gitignore leaves out, by the end of their path.
        echo: A text that every refusal repeats.
        before_commit: Called before each commit with the repository.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        self.errors: list[BaseException | None] = []
        self.fail: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.wrong: dict[str, bytes] = {}
        self.ignored: tuple[str, ...] = ()
        self.echo = ""
        self.before_commit: Any = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what went wrong here; a client that ends early is no news."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.errors.append(error)

    def fetched(self) -> list[str]:
        """The paths of the files whose content was asked for."""
        return [line.split("/", 6)[-1] for line in self.requests if line.startswith("GET /datasets/")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The headers and the content are two writes, and the second would wait for the acknowledgement of the first.
    disable_nagle_algorithm = True
    server: HubServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        path, query = url.path, parse_qs(url.query)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        line = f"{self.command} {unquote(path)}"
        self.server.requests.append(line)
        try:
            for pattern, status in self.server.fail.items():
                if re.search(pattern, line):
                    raise RefusalError(status)
            for pattern, act in ROUTES.items():
                if match := re.fullmatch(pattern, line.replace(unquote(path), path)):
                    groups = [unquote(group) for group in match.groups() if group is not None]
                    act(self, *groups, **({"body": body} if body else {}), **_options(query))
                    return
            raise RefusalError(404, "EntryNotFound")
        except RefusalError as refusal:
            self._refuse(refusal)

    do_GET = do_HEAD = do_POST = _handle  # noqa: N815 - names of the standard library

    def _refuse(self, refusal: RefusalError) -> None:
        message = " ".join(text for text in (refusal.message, self.server.echo) if text)
        headers = {"X-Error-Code": refusal.code, "X-Error-Message": message}
        self.send(json.dumps({"error": message}).encode(), refusal.status, headers)

    def send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, value: Any) -> None:
        self.send(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def repo(self, name: str, writes: bool = False) -> Repo:
        """The repository, where the token may see it."""
        if self.token not in ("", OWNER, READER):
            raise RefusalError(401, "", "Invalid credentials in Authorization header")
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not self.token):
            raise RefusalError(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if repo.gated and self.token != OWNER:
            raise RefusalError(403, "GatedRepo", "Access to this dataset is restricted")
        if writes and self.token != OWNER:
            raise RefusalError(403 if self.token else 401, "", "You do not have write access")
        return repo

    def at(self, repo: Repo, revision: str) -> str:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        if self.token != OWNER:
            raise RefusalError(403 if self.token else 401, "", "You do not have the right to create a dataset")
        name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
        answer = json.dumps({"url": f"{self.server.url}/datasets/{name}"}).encode()
        if name in self.server.repos:
            self.send(answer, 409)
            return
        repo = self.server.repos[name] = Repo(
            private=asked.get("visibility") == "private" or bool(asked.get("private"))
        )
        repo.commit({".gitattributes": b"*.arrow filter=lfs\n"}, "initial commit")
        self.send(answer)

    def info(self, name: str, revision: str = "main") -> None:
        repo = self.repo(name)
        sha = self.at(repo, revision)
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        self.send_json({"id": name, "sha": sha, "private": repo.private, "tags": [], "siblings": siblings})

    def tree(self, name: str, revision: str, path: str = "", recursive: str = "False", **_: str) -> None:
        repo = self.repo(name)
        files = repo.commits[self.at(repo, revision)]
        prefix = f"{path.strip('/')}/" if path else ""
        entries: dict[str, Any] = {}
        for file, content in sorted(files.items()):
            if not file.startswith(prefix):
                continue
            parts = file[len(prefix) :].split("/")
            for depth in range(1, len(parts)) if recursive.lower() == "true" else range(1, min(2, len(parts))):
                folder = prefix + "/".join(parts[:depth])
                entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            if len(parts) == 1 or recursive.lower() == "true":
                entries[file] = _entry(file, content)
        if prefix and not entries:
            raise RefusalError(404, "EntryNotFound", f"{path} does not exist")
        self.send_json(list(entries.values()))

    def paths_info(self, name: str, revision: str, body: bytes) -> None:
        repo = self.repo(name)
        files = repo.commits[self.at(repo, revision)]
        asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        entries = [_entry(path, files[path]) for path in asked if path in files]
        folders = [path for path in asked if any(file.startswith(f"{path}/") for file in files)]
        folder = {"type": "directory", "oid": "0" * 40, "size": 0}
        self.send_json([*entries, *({**folder, "path": path} for path in folders)])

    def preupload(self, name: str, revision: str, body: bytes) -> None:
        repo = self.repo(name, writes=True)
        files = repo.commits[self.at(repo, revision)]
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            answer = {"path": path, "uploadMode": "regular", "shouldIgnore": path.endswith(self.server.ignored or "\0")}
            answers.append({**answer, "oid": _oid(files[path])} if path in files else answer)
        self.send_json({"files": answers})

    def commit(self, name: str, revision: str, body: bytes) -> None:
        repo = self.repo(name, writes=True)
        head = self.at(repo, revision)
        if self.server.before_commit:
            self.server.before_commit(repo)
            head = self.at(repo, revision)
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit", head) != head:
            raise RefusalError(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[head])
        for line in lines[1:]:
            path = line["value"]["path"]
            if line["key"] == "file":
                files[path] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[path]
            else:
                raise RefusalError(400, "", f"unknown operation {line['key']}")
        sha = repo.commit(files, header["summary"], revision)
        address = f"{self.server.url}/datasets/{name}/commit/{sha}"
        self.send_json({"success": True, "commitOid": sha, "commitUrl": address})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name)
        sha = self.at(repo, revision)
        if path not in repo.commits[sha]:
            raise RefusalError(404, "EntryNotFound", "Entry not found")
        content = repo.commits[sha][path]
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        content = self.server.wrong.get(path, content)
        status, start = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(content)}"
            content, status = content[start : stop + 1], 206
        cuts = [stop for pattern, stop in self.server.cut.items() if re.search(pattern, path)]
        if cuts and self.command == "GET" and len(content) > cuts[0] - start:
            self.send(content[: max(cuts[0] - start, 0)], status, {**headers, "Content-Length": str(len(content))})
            self.close_connection = True
            return
        self.send(content, status, headers)


def _options(query: dict[str, list[str]]) -> dict[str, str]:
    return {name: values[0] for name, values in query.items() if name in ("recursive", "expand")}


def _oid(content: bytes) -> str:
    """What git names a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}


_NAME = r"([^/]+/[^/]+)"
ROUTES: dict[str, Any] = {
    r"POST /api/repos/create": Handler.create,
    r"POST /api/validate-yaml": lambda handler, body: handler.send_json({"errors": [], "warnings": []}),
    rf"GET /api/datasets/{_NAME}": Handler.info,
    rf"GET /api/datasets/{_NAME}/revision/([^/]+)": Handler.info,
    rf"GET /api/datasets/{_NAME}/tree/([^/]+)(?:/(.*))?": Handler.tree,
    rf"POST /api/datasets/{_NAME}/paths-info/([^/]+)": Handler.paths_info,
    rf"POST /api/datasets/{_NAME}/preupload/([^/]+)": Handler.preupload,
    rf"POST /api/datasets/{_NAME}/commit/([^/]+)": Handler.commit,
    rf"(?:GET|HEAD) /datasets/{_NAME}/resolve/([^/]+)/(.+)": Handler.resolve,
}


@contextlib.contextmanager
def running_hub(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[HubServer]:
    """Run a Hub and point the client of this process at it, with a home of its own and no stored credentials."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # The client reads these when it is called.
    settings = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in settings.items():
        assert hasattr(constants, name)
        monkeypatch.setattr(constants, name, value)
    close_session()
    try:
        yield server
    finally:
        close_session()
        server.shutdown()
        server.server_close()
        thread.join()
    assert server.errors == []


def upload_once(directory: Path, home: Path) -> Repo:
    """Upload a cache to a Hub that runs no longer than that, and return its repository."""
    with pytest.MonkeyPatch.context() as patched, running_hub(patched, home) as server:
        upload_processed_dataset_to_hub(directory, hub_dataset_id=REPO, hub_token=OWNER)
    return server.repos[REPO]


def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client try again at once."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def api(server: HubServer, token: str = OWNER) -> Any:
    return huggingface_hub.HfApi(endpoint=server.url, token=token)

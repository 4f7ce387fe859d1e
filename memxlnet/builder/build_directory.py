"""The directory of a running build: what its workers need to encode, and the chunks that are finished."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer

from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import BuildError, BuildOSError, MemxlnetError, with_fields_of
from memxlnet.format.paths import TOKENIZER, sync, write_durably
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import EncodeSettings
from memxlnet.system_errors import described, hint_for

_STATE = "build.json"
_REMOVALS = 4


class BuildDirectory:
    """The directory of a build.

    Args:
        path: The directory; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.chunks = path / "chunks"
        self.staging = path / "cache"
        """Where caches are put together; each attempt has a directory of its own in it."""

    def prepare(self, settings: CacheSettings) -> None:
        """Create the directory and write what workers read, durably.

        Raises:
            OSError: The disk is full or cannot be written.
        """
        self.chunks.mkdir(parents=True, exist_ok=True)
        write_durably(self.path / TOKENIZER, settings.tokenizer.backend_json.encode())
        state = {
            "fingerprint": settings.fingerprint,
            "settings": settings.encode.fields(),
            "layout": settings.tokenizer.layout.to_json(),
        }
        write_durably(self.path / _STATE, json.dumps(state).encode())
        sync(self.path)

    @contextlib.contextmanager
    def errors(self, what: str = "written") -> Iterator[None]:
        """Turn an error of the system that comes up within into one of this directory; each `MemxlnetError` passes.

        Args:
            what: What is done with the directory.

        Raises:
            BuildOSError: The disk is full or failing, or the directory cannot be read or written.
        """
        try:
            yield
        except MemxlnetError:
            raise
        except OSError as error:
            message = (
                f"{self.path}: cannot be {what}: {described(error, self.path)}; what is finished is kept: "
                f"{hint_for(error)} and build again to resume"
            )
            raise with_fields_of(BuildOSError(message), error) from error

    def state(self) -> dict[str, Any]:
        """Return what `prepare` wrote; empty where it is missing or damaged.

        Raises:
            BuildOSError: It exists and cannot be read.
        """
        found = None
        with self.errors("read"), contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            found = json.loads((self.path / _STATE).read_bytes())
        return found if isinstance(found, dict) else {}

    def num_finished(self) -> int:
        """Return the number of finished chunks, by their names alone."""
        try:
            return sum(path.suffix == ".chunk" for path in self.chunks.iterdir())
        except OSError:
            return 0

    def remove_chunks(self) -> None:
        """Remove all chunks of a cache that is published, several at once: each waits for the file system.

        Raises:
            OSError: One cannot be removed.
        """
        with ThreadPoolExecutor(_REMOVALS, "memxlnet-remove") as threads:
            for _ in threads.map(partial(Path.unlink, missing_ok=True), list(self.chunks.iterdir())):
                pass

    def read_encoder(self) -> tuple[Encoder, EncodeSettings]:
        """Return the encoder of this build, from files alone: neither transformers nor the builder's memory is needed.

        Raises:
            BuildError: The directory cannot be read.
        """
        state = self._readable_state()
        try:
            backend = Tokenizer.from_file(str(self.path / TOKENIZER))
        except Exception as error:
            raise BuildError(f"{self.path / TOKENIZER}: cannot be read: {error}") from error
        return _encoder(backend, state)

    def pack_encoder(self) -> bytes:
        """Return what `unpack_encoder` makes the encoder of this build from, wherever it is sent.

        Raises:
            BuildError: The directory cannot be read.
        """
        state = self._readable_state()
        with self.errors("read"):
            tokenizer = (self.path / TOKENIZER).read_text(encoding="utf-8")
        return orjson.dumps([tokenizer, state["settings"], state["layout"]])

    def _readable_state(self) -> dict[str, Any]:
        state = self.state()
        if not state:
            raise BuildError(f"{self.path}: expected the directory of a build with {_STATE}, found none to be read")
        return state


def unpack_encoder(packed: bytes) -> tuple[Encoder, EncodeSettings]:
    """Return the encoder that `BuildDirectory.pack_encoder` packed."""
    tokenizer, settings, layout = orjson.loads(packed)
    return _encoder(Tokenizer.from_str(tokenizer), {"settings": settings, "layout": layout})


def _encoder(backend: Tokenizer, state: Mapping[str, Any]) -> tuple[Encoder, EncodeSettings]:
    settings, layout = EncodeSettings(**state["settings"]), RowLayout.from_json(state["layout"])
    backend.encode_special_tokens = layout.split_special_tokens
    return Encoder(backend, layout, settings), settings

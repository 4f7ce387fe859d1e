"""Caches in a dataset repository of the Hub: which there are, and how one of them is fetched.

A repository holds any number of caches, each in a folder of its published name. What is read is read at one commit, so
that a repository that changes meanwhile gives no mixture.
"""

import contextlib
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub

from memxlnet.errors import CacheError, CacheMismatchError, SettingsError, TransferError
from memxlnet.format.manifest import SEND_AGAIN, Manifest, decode_manifest
from memxlnet.format.paths import MANIFEST
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.progress import disabled
from memxlnet.remote.hub_errors import check_hub_id, check_token, hub_errors
from memxlnet.settings import EncodeSettings, check_text

logger = logging.getLogger(__name__)

REPO_TYPE = "dataset"

# What `directory_name` gives, and no pattern: the Hub's names become allow_patterns and a folder within the staging.
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_INBOX = ".hub"  # no name that a manifest may give a file


@dataclass(frozen=True)
class HubCache:
    """One cache of a repository.

    Attributes:
        folder: Its folder.
        raw: The bytes of its manifest.
        manifest: What they say.
        commit: The commit at which it was read.
    """

    folder: str
    raw: bytes
    manifest: Manifest
    commit: str


@dataclass(frozen=True)
class HubListing:
    """What a repository holds.

    Attributes:
        caches: Its caches by folder; of equal ones the first.
        unreadable: What was wrong with manifests that could not be read.
    """

    caches: tuple[HubCache, ...]
    unreadable: tuple[CacheError, ...]


class HubRepository:
    """A dataset repository on the Hub.

    Args:
        repo_id: Its name.
        token: Credentials; None takes those that `huggingface_hub` has stored, if any.
        revision: Branch, tag or commit; None for the main branch.

    Raises:
        SettingsError: An argument is wrong.
    """

    def __init__(self, repo_id: str, token: str | None = None, revision: str | None = None):
        self.repo_id = check_hub_id("hub_dataset_id", repo_id)
        self.revision = None if revision is None else check_text("revision", revision)
        self._token = check_token(token)
        self.api = huggingface_hub.HfApi(token=self._token)

    @property
    def subject(self) -> str:
        """The repository in messages."""
        return f"hub {self.repo_id}" + ("" if self.revision is None else f" at {self.revision!r}")

    def errors(self) -> Any:
        """Return a context in which the client's errors become those of the package; see `hub_errors`."""
        return hub_errors(self.subject, self._token)

    def commit(self) -> str:
        """Return the commit that the revision names now.

        Raises:
            TransferError: The Hub cannot be reached, or refuses.
        """
        with self.errors():
            commit = self.api.dataset_info(self.repo_id, revision=self.revision).sha
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise TransferError(f"{self.subject}: expected the id of a commit, found {commit!r}; is this a Hub?")
        return commit

    def files(self, commit: str) -> list[str]:
        """Return the paths of all files at a commit.

        Raises:
            TransferError: The Hub cannot be reached, or refuses.
        """
        with self.errors():
            return list(self.api.list_repo_files(self.repo_id, revision=commit, repo_type=REPO_TYPE))

    def listing(self) -> HubListing:
        """Return the caches of the repository; only manifests are fetched, and kept in the cache of `huggingface_hub`.

        A manifest that cannot be read is logged and skipped.

        Raises:
            TransferError: The Hub cannot be reached, or refuses.
        """
        commit = self.commit()
        folders = _folders(self.files(commit), self.subject)
        if not folders:
            return HubListing((), ())
        root = self.download([f"{folder}/{MANIFEST}" for folder in folders], commit, progress=False)
        caches: dict[str, HubCache] = {}
        unreadable = []
        for folder in folders:
            try:
                cache = self._read(root, folder, commit)
            except CacheError as error:
                logger.warning("passed over: %s", error)
                unreadable.append(error)
            else:
                caches.setdefault(cache.manifest.fingerprint, cache)
        return HubListing(tuple(caches.values()), tuple(unreadable))

    def fetch(self, cache: HubCache, cache_dir: Path, progress: bool | None = None) -> Path:
        """Return the local directory of a cache; fetch what is missing.

        A transfer that ended early resumes after the files that have arrived whole. Any number of processes may ask at
        once: one fetches, the others wait for it.

        Args:
            cache: One of `listing`.
            cache_dir: Directory of the caches.
            progress: Show a progress bar; None shows it where standard error is a terminal.

        Raises:
            TransferError: The Hub cannot be reached or refuses, what arrived is wrong, or there is no room for it.
            CacheError: What is there is damaged or no such cache, or the directory cannot be written.
        """
        arrival = Arrival(cache_dir, cache.raw, f"hub {self.repo_id}/{cache.folder}")

        def fetch() -> None:
            inbox = arrival.staging / _INBOX
            _take_waiting(arrival, inbox / cache.folder)
            _remove_parts(inbox)
            missing = arrival.missing()
            if missing:
                names = [f"{cache.folder}/{record.file}" for record in missing]
                self.download(names, cache.commit, inbox, progress)
            for record in missing:
                arrival.accept(record, inbox / cache.folder / record.file)

        return arrival.obtain(fetch)

    def download(
        self,
        files: Sequence[str],
        commit: str,
        local_dir: Path | None = None,
        progress: bool | None = None,
        force: bool = False,
    ) -> Path:
        """Fetch files of a commit.

        Args:
            files: Their paths in the repository, without characters that are patterns.
            commit: The commit.
            local_dir: Where they go, under their paths; None for the cache of `huggingface_hub`.
            progress: Show a progress bar; None shows it where standard error is a terminal.
            force: Fetch them even where they exist.

        Returns:
            The directory under which they lie.

        Raises:
            TransferError: They could not be fetched.
        """
        with self.errors():
            root = self.api.snapshot_download(
                self.repo_id,
                repo_type=REPO_TYPE,
                revision=commit,
                allow_patterns=list(files),
                local_dir=local_dir,
                tqdm_class=_bar(progress),
                force_download=force,
            )
        # Where the Hub fails after a part has arrived, the client may log that and hand the part back as the whole.
        absent = [file for file in files if not Path(root, file).is_file()]
        if absent:
            raise TransferError(
                f"{self.subject}: expected {len(files)} files of commit {commit}, found {absent[0]} missing"
                + (f" and {len(absent) - 1} more" if absent[1:] else "")
                + "; try again"
            )
        return Path(root)

    def content(self, file: str, commit: str, force: bool = False) -> bytes:
        """Return the bytes of a small file, which stays in the cache of `huggingface_hub`; `force` fetches it even so.

        Raises:
            TransferError: It could not be fetched.
        """
        root = self.download([file], commit, progress=False, force=force)
        with self.errors():
            return (root / file).read_bytes()

    def _read(self, root: Path, folder: str, commit: str) -> HubCache:
        origin = f"hub {self.repo_id}/{folder}/{MANIFEST}"
        with self.errors():
            raw = (root / folder / MANIFEST).read_bytes()
        try:
            return HubCache(folder, raw, _decoded(raw, origin), commit)
        except CacheError:
            # The client keeps what once arrived damaged: fetch it again, once.
            again = self.content(f"{folder}/{MANIFEST}", commit, force=True)
            return HubCache(folder, again, _decoded(again, origin), commit)


def _decoded(raw: bytes, origin: str) -> Manifest:
    """Decode a manifest that anyone may have written, and whose settings are about to be compared."""
    manifest = decode_manifest(raw, origin, SEND_AGAIN)
    try:
        known = EncodeSettings(**manifest.settings).fields()
    except (TypeError, SettingsError):
        known = {}
    if known != manifest.settings:
        raise CacheMismatchError(
            f"{origin}, settings: expected those that this memxlnet knows, found {manifest.settings!r:.300}; was it "
            "made by another version?"
        )
    return manifest


def _folders(files: Iterable[str], subject: str) -> list[str]:
    """Return the folders that hold a manifest, except those whose names no upload gives."""
    folders = []
    for path in sorted(files):
        folder, slash, name = path.rpartition("/")
        if not slash or name != MANIFEST:
            continue
        if _FOLDER.fullmatch(folder) and ".." not in folder:
            folders.append(folder)
        else:
            logger.warning("%s: passed over: expected a folder as an upload names it, found %r", subject, folder)
    return folders


def _take_waiting(arrival: Arrival, folder: Path) -> None:
    """Move in the files that arrived whole in a transfer that ended early, so that they need no room again."""
    for record in arrival.manifest.all_files():
        path = folder / record.file
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(TransferError):  # it is removed then, and fetched again
                arrival.accept(record, path)


def _remove_parts(inbox: Path) -> None:
    """Remove the parts of files that a killed process left: the client names them at random and never resumes them."""
    for path in inbox.rglob("*.incomplete"):
        if re.search(r"\.[0-9a-f]{8}\.incomplete$", path.name):
            path.unlink()


def _bar(progress: bool | None) -> type[Any]:
    """Return the client's progress bar, shown like the package's own."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **{**options, "disable": disabled(progress)})

    return Bar

"""A published cache sent to a dataset repository of the Hub.

The client sends a folder in as many commits as it sees fit, so its files go first, without the manifest. Manifest and
card follow in one last commit, for which the branch must be where it was when the files were counted. Without a
manifest there is no cache: no commit of the repository shows one that is not whole.
"""

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import huggingface_hub

from memxlnet.errors import CacheError, SettingsError, TransferError
from memxlnet.format.file_layout import file_identity
from memxlnet.format.manifest import SEND_AGAIN, FileRecord, Manifest, decode_manifest
from memxlnet.format.paths import MANIFEST, directory_name
from memxlnet.format.published import PublishedCache, while_it_stays
from memxlnet.maintain.verify import check_stayed, read_manifest_bytes, verify_bytes
from memxlnet.remote.hub import REPO_TYPE, HubRepository
from memxlnet.remote.hub_card import described

logger = logging.getLogger(__name__)

_CARD = "README.md"
_TRIES = 5  # other uploads to the same repository may come in between


def upload_cache(
    directory: Path,
    repo_id: str,
    token: str | None = None,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Send a published cache to a repository, which is created where it is missing.

    Args:
        directory: The published directory.
        repo_id: The repository.
        token: Credentials that may write; None takes those that `huggingface_hub` has stored.
        private: Create it private. A public one that exists is refused.
        revision: The branch; None for the main branch.
        commit_message: What the commits say.

    Returns:
        The address of the cache in the repository, at the commit that made it whole.

    Raises:
        SettingsError: An argument is wrong, or a private repository was asked for and a public one exists.
        CacheError: The cache is missing or damaged.
        TransferError: It could not be sent, or changed while it was.
    """
    HubRepository(repo_id, token, revision)  # what is wrong with the arguments is raised before anything is read
    manifest, raw, identities = while_it_stays(directory, lambda: _checked(directory))
    folder = directory_name(manifest.name, manifest.split, manifest.fingerprint)
    repository = HubRepository(_created(repo_id, token, private), token, revision)
    message = commit_message or f"Add the cache {folder}"
    head = repository.commit()
    _card(repository, head, repository.files(head), folder, manifest)  # what is wrong with it is raised before any work
    _withdraw_other(repository, folder, manifest)
    with repository.errors():
        repository.api.upload_folder(
            repo_id=repository.repo_id,
            repo_type=REPO_TYPE,
            folder_path=directory,
            path_in_repo=folder,
            allow_patterns=[record.file for record in manifest.all_files()],
            revision=revision,
            commit_message=f"{message}: files",
        )
    # What was sent does not count as a cache before the manifest has arrived.
    for path, identity in identities.items():
        check_stayed(path, identity)
    commit = _commit(repository, message, lambda head: _last_operations(repository, head, folder, manifest, raw))
    logger.info("%s: sent to %s/%s", directory, repository.subject, folder)
    return f"{repository.api.endpoint}/datasets/{repository.repo_id}/tree/{commit}/{folder}"


def _checked(directory: Path) -> tuple[Manifest, bytes, dict[Path, tuple[int, int, int] | None]]:
    """Check every byte of a cache; return its manifest, the manifest's bytes, and the identity of each file."""
    cache = PublishedCache(directory)
    files = [*(record.file for record in cache.manifest.all_files()), MANIFEST]
    identities = {directory / file: file_identity(directory / file) for file in files}
    verify_bytes(directory)
    return cache.manifest, read_manifest_bytes(cache), identities


def _created(repo_id: str, token: str | None, private: bool) -> str:
    """Create the repository unless it exists, and return its whole name."""
    repository = HubRepository(repo_id, token)
    with repository.errors():
        # None leaves a new repository to the default of its owner.
        created = repository.api.create_repo(repo_id, repo_type=REPO_TYPE, private=private or None, exist_ok=True)
        is_private = not private or repository.api.dataset_info(created.repo_id).private
    if not is_private:
        raise SettingsError(
            f"private: expected a private repository, {created.repo_id} exists and is public; make it private in its "
            "settings, choose another, or pass private=False"
        )
    return str(created.repo_id)


def _withdraw_other(repository: HubRepository, folder: str, manifest: Manifest) -> None:
    """Remove the manifest of a cache of the same name whose files are about to be replaced by others."""

    def operations(head: str) -> list[Any]:
        path = f"{folder}/{MANIFEST}"
        if path not in repository.files(head) or _records_at(repository, head, path) == set(manifest.all_files()):
            return []
        return [huggingface_hub.CommitOperationDelete(path_in_repo=path)]

    _commit(repository, f"Withdraw the cache {folder} while its files are replaced", operations)


def _records_at(repository: HubRepository, head: str, path: str) -> set[FileRecord] | None:
    raw = repository.content(path, head)
    try:
        return set(decode_manifest(raw, f"{repository.subject}/{path}", SEND_AGAIN).all_files())
    except CacheError:
        return None


def _last_operations(repository: HubRepository, head: str, folder: str, manifest: Manifest, raw: bytes) -> list[Any]:
    """Return what makes the cache whole: its manifest, what the card says of it, and nothing else in its folder."""
    there = repository.files(head)
    wanted = {f"{folder}/{record.file}" for record in manifest.all_files()}
    absent = sorted(wanted.difference(there))
    if absent:
        raise TransferError(
            f"{repository.subject}: expected {absent[0]} to be there after it was sent, found it missing; does a "
            ".gitignore of the repository leave it out?"
        )
    path = f"{folder}/{MANIFEST}"
    stale = [file for file in there if file.startswith(f"{folder}/") and file not in wanted | {path}]
    contents = {path: raw, _CARD: _card(repository, head, there, folder, manifest).encode()}
    return [
        *(huggingface_hub.CommitOperationAdd(name, content) for name, content in contents.items()),
        *(huggingface_hub.CommitOperationDelete(path_in_repo=file) for file in stale),
    ]


def _card(repository: HubRepository, head: str, there: Collection[str], folder: str, manifest: Manifest) -> str:
    """Return the card of the repository in which the cache is described."""
    card = repository.content(_CARD, head) if _CARD in there else None
    try:
        return described(None if card is None else card.decode("utf-8-sig"), repository.repo_id, folder, manifest)
    except ValueError as error:
        raise TransferError(
            f"{repository.subject}/{_CARD}: expected UTF-8 text whose metadata is a mapping in YAML, found "
            f"{' '.join(str(error).split())}; correct it, and send the cache again"
        ) from error


def _commit(repository: HubRepository, message: str, operations: Callable[[str], list[Any]]) -> str:
    """Commit on top of the commit that the operations were made for; start over where the branch has moved."""
    from huggingface_hub.errors import HfHubHTTPError

    for _ in range(_TRIES):
        head = repository.commit()
        made = operations(head)
        if not made:
            return head
        with repository.errors():
            try:
                done = repository.api.create_commit(
                    repository.repo_id,
                    made,
                    commit_message=message,
                    repo_type=REPO_TYPE,
                    revision=repository.revision,
                    parent_commit=head,
                )
            except HfHubHTTPError as error:
                if error.response.status_code != 412:
                    raise
                continue
            return str(done.oid)
    raise TransferError(f"{repository.subject}: expected to commit, found the branch moved each time; try again")

"""Caches sent to a Hub and opened from it: the real client against a Hub of our own."""

import shutil
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoTokenizer

from memxlnet import LazySquadLikeQADataset, SquadLikeQADataset, process_and_cache_dataset, verify
from memxlnet.data.hub import load_dataset_from_hub, upload_processed_dataset_to_hub
from memxlnet.errors import (
    CacheDamagedError,
    CacheMismatchError,
    CacheNotFoundError,
    SettingsError,
    TransferError,
    TransferPermissionError,
)
from memxlnet.format.checksums import digest
from memxlnet.format.manifest import decode_manifest
from memxlnet.sample import sample_tokenizer_directory
from tests.remote.hub_server import OWNER, READER, REPO, ROWS, HubServer, Repo, api, no_waiting
from tests.support import build, short


@pytest.fixture(scope="module")
def of_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of `ROWS` in memory."""
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    return build(ROWS, tokenizer, tmp_path_factory.mktemp("of_rows")).directory


@pytest.fixture
def local(of_rows: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(of_rows, tmp_path / "local" / of_rows.name))


def send(directory: Path, **options: Any) -> str:
    return upload_processed_dataset_to_hub(directory, hub_dataset_id=REPO, hub_token=OWNER, **options)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*")}


def assert_every_commit_is_whole(repo: Repo) -> None:
    """A manifest is there in no commit without the files that it names."""
    for files in repo.commits.values():
        for folder in {path.split("/")[0] for path in files if path.endswith("/manifest.json")}:
            there = {path.split("/")[1]: kept for path, kept in files.items() if path.startswith(f"{folder}/")}
            manifest = decode_manifest(there.pop("manifest.json"), folder)
            digests = {record.file: record.xxh3_128 for record in manifest.all_files()}
            assert digests.items() <= {name: digest(kept) for name, kept in there.items()}.items()


@pytest.mark.parametrize(("lazy", "kind"), [(True, LazySquadLikeQADataset), (False, SquadLikeQADataset)])
def test_what_comes_back_is_what_was_sent(hub: HubServer, local: Path, tmp_path: Path, lazy: bool, kind: type) -> None:
    address = send(local)
    repo = hub.repos[REPO]
    assert address == f"{hub.url}/datasets/{REPO}/tree/{repo.branches['main']}/{local.name}"
    dataset = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", use_lazy_loading=lazy)
    assert type(dataset) is kind
    assert dataset.directory == tmp_path / "theirs" / local.name
    assert contents(dataset.directory) == contents(local)
    verify(dataset.directory, against=ROWS)
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir() if path.is_dir()) == [local.name]
    mine = LazySquadLikeQADataset.open(local)
    everything = [loaded.gather(slice(None), ["input_ids"])["input_ids"] for loaded in (mine, dataset)]
    assert torch.equal(*everything)


def test_the_second_time_nothing_is_fetched(hub: HubServer, local: Path, tmp_path: Path) -> None:
    send(local)
    first = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
    assert len(hub.fetched()) == 1 + len(list(first.manifest.all_files()))
    hub.requests.clear()
    again = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
    assert again.directory == first.directory
    assert hub.fetched() == []
    load_dataset_from_hub(REPO, "test", cache_dir=local.parent)
    assert hub.fetched() == []


def test_several_that_ask_at_once_fetch_it_once(hub: HubServer, local: Path, tmp_path: Path) -> None:
    send(local)
    found: list[int] = []

    def ask() -> None:
        found.append(len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    shards = [path for path in hub.fetched() if path.endswith(".arrow")]
    assert len(shards) == len(set(shards))


@pytest.mark.parametrize(
    "is_xet_off", [pytest.param(True, id="one commit"), pytest.param(False, id="pipeline", marks=pytest.mark.slow)]
)
def test_no_commit_shows_a_part(
    hub: HubServer, local: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_xet_off: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", is_xet_off)
    send(local)
    # The same cache in smaller shards: the same folder, other files.
    cut = build(ROWS, tokenizer, tmp_path / "cut", max_shard_rows=7).directory
    assert cut.name == local.name
    assert len(list(cut.iterdir())) > len(list(local.iterdir()))
    for directory in (cut, local):
        send(directory)
        assert_every_commit_is_whole(hub.repos[REPO])
        files = hub.repos[REPO].files
        kept = {path.split("/")[1]: kept for path, kept in files.items() if "/" in path}
        assert kept == contents(directory)
    got = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
    assert contents(got.directory) == contents(local)


def test_an_upload_that_ended_early_is_no_cache_and_resumes(
    hub: HubServer, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)
    hub.before_commit = lambda repo: hub.fail.update({"validate-yaml": 500})
    with pytest.raises(TransferError):
        send(local)
    hub.fail.clear()
    hub.before_commit = None
    repo = hub.repos[REPO]
    assert f"{local.name}/features-00000.arrow" in repo.files
    assert f"{local.name}/manifest.json" not in repo.files
    with pytest.raises(CacheNotFoundError, match="'test'"):
        load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
    before = len(repo.commits)
    send(local)
    assert len(repo.commits) == before + 1  # the files were there
    assert len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs"))


def test_another_upload_in_between_is_kept(hub: HubServer, local: Path) -> None:
    api(hub).create_repo(REPO, repo_type="dataset")
    moves = iter(["one", "two"])

    def move(repo: Repo) -> None:
        text = next(moves, None)
        if text and "README.md" not in repo.files:
            repo.change("README.md", b"---\nlicense: mit\n---\n# Theirs\n")
        elif text:
            repo.change("other.txt", b"other")

    hub.before_commit = move
    send(local)
    files = hub.repos[REPO].files
    assert files["other.txt"] == b"other"
    card = files["README.md"].decode()
    assert "license: mit" in card
    assert "# Theirs" in card
    assert f"## {local.name}" in card


def test_a_branch_that_always_moves_is_an_error(hub: HubServer, local: Path) -> None:
    api(hub).create_repo(REPO, repo_type="dataset")
    numbers = iter(range(1000))
    hub.before_commit = lambda repo: repo.change("other.txt", str(next(numbers)).encode())
    with pytest.raises(TransferError, match="branch"):
        send(local)
    assert f"{local.name}/manifest.json" not in hub.repos[REPO].files


def test_files_that_the_repository_ignores(hub: HubServer, local: Path) -> None:
    hub.ignored = (".json",)
    with pytest.raises(TransferError, match=r"tokenizer\.json.*\.gitignore"):
        send(local)


def test_a_second_split_keeps_the_first_and_what_people_wrote(
    hub: HubServer, local: Path, tokenizer: Any, tmp_path: Path
) -> None:
    process_and_cache_dataset(
        ROWS, "validation", local.parent, tokenizer=tokenizer, max_seq_length=64, doc_stride=16, max_n_segs=2
    )
    send(local)
    repo = hub.repos[REPO]
    card = repo.files["README.md"].decode()
    written = card.replace("---\n\n#", "license: mit\n---\n\nMy words above.\n\n#", 1) + "\nMy words below.\n"
    repo.change("README.md", written.encode())
    upload_processed_dataset_to_hub(
        local.parent,
        dataset_name=ROWS,
        split="validation",
        hub_dataset_id=REPO,
        hub_token=OWNER,
        cache_params={"max_n_segs": 2},
    )
    card = hub.repos[REPO].files["README.md"].decode()
    assert card.index("My words above.") < card.index(f"## {local.name}") < card.index("## in-memory--validation--")
    assert card.endswith("\nMy words below.\n")
    assert "license: mit" in card
    parsed = huggingface_hub.DatasetCard(card)
    assert len(parsed.data["configs"]) == 2
    again = card
    send(local)
    assert hub.repos[REPO].files["README.md"].decode() == again
    for split in ("test", "validation"):
        assert load_dataset_from_hub(REPO, split, cache_dir=tmp_path / "theirs").manifest.split == split


def test_the_cache_is_chosen_by_its_settings(hub: HubServer, local: Path, tokenizer: Any, tmp_path: Path) -> None:
    build(ROWS, tokenizer, tmp_path / "local", max_seq_length=48)
    params = {"max_seq_length": 64, "tokenizer": tokenizer}
    upload_processed_dataset_to_hub(
        local.parent, dataset_name=ROWS, split="test", hub_dataset_id=REPO, hub_token=OWNER, cache_params=params
    )
    assert [path for path in hub.repos[REPO].files if path.endswith("manifest.json")] == [f"{local.name}/manifest.json"]
    with pytest.raises(CacheMismatchError, match=r"max_seq_length:.*50.*64"):
        upload_processed_dataset_to_hub(
            local, hub_dataset_id=REPO, hub_token=OWNER, cache_params={"max_seq_length": 50}
        )


def test_a_branch(hub: HubServer, local: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="'other'"):
        send(local, revision="other")
    repo = hub.repos[REPO]
    repo.branches["other"] = repo.branches["main"]
    address = send(local, revision="other", commit_message="my words")
    assert repo.branches["other"] in address
    assert repo.messages[-2:] == ["my words: files", "my words"]
    with pytest.raises(CacheNotFoundError):
        load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
    for revision in ("other", repo.branches["other"]):
        assert len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", revision=revision))


def test_a_damaged_cache_is_not_sent(hub: HubServer, local: Path) -> None:
    path = local / "features-00000.arrow"
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheDamagedError, match="checksum"):
        send(local)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["tokenizer.json", "features-00000.arrow", "manifest.json"])
def test_a_file_that_changes_while_it_is_sent(hub: HubServer, local: Path, name: str) -> None:
    def alter(repo: Repo) -> None:
        content = (local / name).read_bytes()
        (local / name).unlink()
        (local / name).write_bytes(content)

    hub.before_commit = alter
    with pytest.raises(TransferError, match=f"^{local}/{name}:"):
        send(local)
    assert f"{local.name}/manifest.json" not in hub.repos[REPO].files


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hub_dataset_id": None}, SettingsError, "hub_dataset_id"),
        ({"hub_dataset_id": "a/b/c"}, SettingsError, "hub_dataset_id"),
        ({"hub_dataset_id": "https://huggingface.co/datasets/a/b"}, SettingsError, "hub_dataset_id"),
        ({"hub_dataset_id": "../b"}, SettingsError, "hub_dataset_id"),
        ({"hub_dataset_id": ""}, SettingsError, "hub_dataset_id"),
        ({"hub_dataset_id": 5}, SettingsError, "hub_dataset_id"),
        ({"hub_token": True}, SettingsError, "hub_token:.*bool"),
        ({"hub_token": f"{OWNER}\n"}, SettingsError, "hub_token:.*ASCII"),
        ({"private": 1}, SettingsError, "private"),
        ({"commit_message": ""}, SettingsError, "commit_message"),
        ({"revision": ""}, SettingsError, "revision"),
        ({"cache_params": 5}, SettingsError, "cache_params:.*int"),
        ({"cache_params": {"length": 5}}, SettingsError, "cache_params:.*'length'"),
        ({"cache_dir": 5}, SettingsError, "cache_dir"),
        ({"cache_dir": "nowhere"}, CacheNotFoundError, "nowhere"),
    ],
    ids=short,
)
def test_wrong_arguments_fail_before_any_work(
    hub: HubServer, local: Path, options: dict[str, Any], error: type, message: str
) -> None:
    full = {"cache_dir": local, "hub_dataset_id": REPO, "hub_token": OWNER, **options}
    with pytest.raises(error, match=message) as caught:
        upload_processed_dataset_to_hub(**full)
    assert OWNER not in str(caught.value)
    assert hub.requests == []


class TestPrivate:
    def test_round_trip(self, hub: HubServer, local: Path, tmp_path: Path) -> None:
        send(local, private=True)
        assert hub.repos[REPO].private
        send(local)  # stays private
        assert hub.repos[REPO].private
        with pytest.raises(TransferPermissionError, match=f"{REPO}.*401"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert not (tmp_path / "theirs").exists()
        assert len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", hub_token=READER))

    def test_a_public_one_is_refused(self, hub: HubServer, local: Path) -> None:
        api(hub).create_repo(REPO, repo_type="dataset")
        with pytest.raises(SettingsError, match=r"^private:.*owner/caches"):
            send(local, private=True)
        assert list(hub.repos[REPO].files) == [".gitattributes"]

    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_reader_may_not_write(self, hub: HubServer, local: Path, is_there: bool) -> None:
        if is_there:
            api(hub).create_repo(REPO, repo_type="dataset")
        with pytest.raises(TransferPermissionError, match="403"):
            upload_processed_dataset_to_hub(local, hub_dataset_id=REPO, hub_token=READER)
        with pytest.raises(TransferPermissionError):
            upload_processed_dataset_to_hub(local, hub_dataset_id=REPO)

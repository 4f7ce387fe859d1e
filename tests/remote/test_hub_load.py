"""Which cache of a repository is opened, and transfers that go wrong."""

import errno
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from arrow_schemas import SCHEMA_VERSION
from memxlnet import configure_memory_tokens, verify
from memxlnet.data.hub import load_dataset_from_hub, upload_processed_dataset_to_hub
from memxlnet.errors import (
    AmbiguousCacheError,
    CacheDamagedError,
    CacheDirectoryError,
    CacheMismatchError,
    CacheNotFoundError,
    SettingsError,
    SourceError,
    SourceNotFoundError,
    TransferError,
)
from memxlnet.format.checksums import digest
from memxlnet.format.fingerprint import canonical_json, fingerprint_of
from memxlnet.remote.hub import HubRepository
from tests.remote.hub_server import OWNER, REPO, ROWS, HubServer, Repo, no_waiting
from tests.support import build, short, slow, slow_but, write_json_lines


def forged(raw: bytes, **changes: Any) -> bytes:
    """A manifest with other content, fingerprint and checksum of which fit."""
    content = json.loads(raw)
    content.pop("checksum")
    content["fields"] |= changes
    content["fingerprint"] = fingerprint_of(content["fields"])
    content["checksum"] = digest(canonical_json(content))
    return json.dumps(content).encode()


class TestChoice:
    @pytest.mark.parametrize("named", ["questions", "file", "rows", None])
    @pytest.mark.parametrize(
        "params", [slow(None), slow({"max_seq_length": 64, "doc_stride": 16}), {"tokenizer": "this"}], ids=short
    )
    def test_what_fits(
        self, sent: Path, source: Path, tokenizer: Any, tmp_path: Path, named: str | None, params: Any
    ) -> None:
        names: dict[str | None, Any] = {"file": source, "questions": "questions", None: None}
        if params and "tokenizer" in params:
            params = {"tokenizer": tokenizer}
        options = {"dataset_name": names.get(named, ROWS), "cache_params": params}
        if named == "rows":  # the same examples as an iterable are another source
            with pytest.raises(CacheMismatchError, match=r"source\.kind"):
                load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", **options)
            return
        dataset = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", **options)
        assert dataset.directory.name == sent.name

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"dataset_name": "others"}, "name:.*'others'.*'questions'"),
            ({"cache_params": {"max_seq_length": 384}}, "max_seq_length:.*384.*64"),
            ({"cache_params": {"doc_stride": 5, "max_n_segs": 1}}, "doc_stride:.*5.*16.*max_n_segs:"),
        ],
        ids=short,
    )
    def test_others_are_an_error_that_names_the_field(
        self, hub: HubServer, sent: Path, tmp_path: Path, options: Any, field: str
    ) -> None:
        with pytest.raises(CacheMismatchError, match=field) as caught:
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", **options)
        assert sent.name in str(caught.value)
        assert [path.split("/")[-1] for path in hub.fetched()] == ["manifest.json"]

    def test_another_tokenizer(self, sent: Path, tokenizer: Any, tmp_path: Path) -> None:
        configure_memory_tokens(tokenizer, 2)
        with pytest.raises(CacheMismatchError, match=r"tokenizer\.sha256"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", cache_params={"tokenizer": tokenizer})

    def test_changed_content(self, sent: Path, source: Path, tmp_path: Path) -> None:
        write_json_lines(source, ROWS[:2])
        with pytest.raises(CacheMismatchError, match=r"source\.sha256"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", dataset_name=source)

    def test_a_missing_file_is_not_taken_for_a_name(
        self, hub: HubServer, sent: Path, source: Path, tmp_path: Path
    ) -> None:
        for missing in (tmp_path / "typo" / source.name, "questions.json"):
            with pytest.raises(SourceNotFoundError):
                load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", dataset_name=missing)
        assert hub.requests == []

    def test_none_of_the_split(self, sent: Path, tmp_path: Path) -> None:
        with pytest.raises(CacheNotFoundError, match=f"'train'.*{sent.name}.*'test'"):
            load_dataset_from_hub(REPO, "train", cache_dir=tmp_path / "theirs")

    def test_several(self, sent: Path, source: Path, tokenizer: Any, tmp_path: Path) -> None:
        other = build(source, tokenizer, tmp_path / "local", max_seq_length=48).directory
        upload_processed_dataset_to_hub(other, hub_dataset_id=REPO, hub_token=OWNER)
        with pytest.raises(AmbiguousCacheError) as caught:
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert all(name in str(caught.value) for name in (sent.name, other.name, "max_seq_length=48"))
        one = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", cache_params={"max_seq_length": 48})
        assert one.directory.name == other.name
        # Of these, the one that is closest.
        with pytest.raises(CacheMismatchError, match=f"{other.name}.*doc_stride:.*7"):
            load_dataset_from_hub(
                REPO, "test", cache_dir=tmp_path / "theirs", cache_params={"max_seq_length": 48, "doc_stride": 7}
            )

    def test_the_same_cache_twice_is_one(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        repo = hub.repos[REPO]
        copies = {f"again/{path.split('/')[1]}": kept for path, kept in repo.files.items() if "/" in path}
        repo.commit({**repo.files, **copies}, "copy")
        assert load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs").directory.name == sent.name

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"hub_dataset_id": "a//b"}, SettingsError),
            ({"hub_dataset_id": None}, SettingsError),
            ({"split": ""}, SettingsError),
            ({"cache_dir": ""}, SettingsError),
            ({"hub_token": 5}, SettingsError),
            ({"use_lazy_loading": 1}, SettingsError),
            ({"cache_params": [1]}, SettingsError),
            ({"revision": ""}, SettingsError),
            ({"progress": 1}, SettingsError),
            ({"dataset_name": ""}, SettingsError),
            ({"dataset_name": 5}, SettingsError),
            ({"dataset_name": iter([])}, SourceError),
        ],
        ids=short,
    )
    def test_wrong_arguments_fail_before_any_work(
        self, hub: HubServer, tmp_path: Path, options: dict[str, Any], error: type
    ) -> None:
        with pytest.raises(error):
            load_dataset_from_hub(**{"hub_dataset_id": REPO, "cache_dir": tmp_path / "theirs", **options})
        assert hub.requests == []

    def test_an_unknown_setting(self, sent: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="'length'"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", cache_params={"length": 5})


class TestTransfers:
    def test_what_has_arrived_is_not_fetched_again(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        hub.fail["GET .*/resolve/.*features"] = 500
        with pytest.raises(TransferError, match="500") as caught:
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert caught.value.__cause__ is not None
        assert not (tmp_path / "theirs" / sent.name).exists()
        arrived = {path for path in hub.fetched() if "features" not in path}
        hub.fail.clear()
        hub.requests.clear()
        # Another commit in between: the files are the same.
        hub.repos[REPO].change("other.txt", b"other")
        dataset = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        verify(dataset.directory)
        again = {path for path in hub.fetched() if not path.endswith("manifest.json")}
        assert [Path(path).name for path in again] == ["features-00000.arrow"]
        assert len(arrived) >= 2
        assert [path.name for path in (tmp_path / "theirs").iterdir() if path.name.startswith(".arr")] == []

    def test_a_connection_that_breaks_resumes_where_it_broke(
        self, hub: HubServer, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_waiting(monkeypatch)
        hub.cut["features"] = 10_000
        with pytest.raises(TransferError, match="RemoteProtocolError"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        hub.cut.clear()
        verify(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs").directory)

    def test_wrong_bytes_are_refused(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        path = f"{sent.name}/features-00000.arrow"
        right = hub.repos[REPO].files[path]
        hub.wrong[path] = right[:-9] + b"x" + right[-8:]
        with pytest.raises(TransferError, match="checksum"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert not (tmp_path / "theirs" / sent.name).exists()
        hub.wrong.clear()
        verify(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs").directory)

    def test_wrong_bytes_that_waited_are_fetched_again(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        hub.fail["GET .*/resolve/.*features"] = 500
        with pytest.raises(TransferError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        hub.fail.clear()
        waiting = next((tmp_path / "theirs").rglob("tokenizer.json"))
        waiting.write_bytes(waiting.read_bytes()[:-1] + b"x")
        verify(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs").directory)

    def test_parts_that_a_killed_process_left_are_removed(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        hub.fail["GET .*/resolve/.*features"] = 500
        for _ in range(2):
            with pytest.raises(TransferError):
                load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
            [downloads] = (tmp_path / "theirs").rglob("download")
            assert list(downloads.rglob("*.incomplete")) == []
            (downloads / sent.name / "features.0123abcd.incomplete").write_bytes(b"part")

    def test_a_file_that_is_not_there(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        hub.repos[REPO].change(f"{sent.name}/tokenizer.json", None)
        with pytest.raises(TransferError, match=r"tokenizer\.json"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    def test_a_tree_that_fails_once_a_part_is_there(
        self, hub: HubServer, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client returns the part as if it were the whole."""
        no_waiting(monkeypatch)
        hub.fail["GET .*/resolve/.*features"] = 500
        with pytest.raises(TransferError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        hub.fail.clear()
        for tree in (tmp_path / "theirs").rglob("trees"):
            for file in tree.iterdir():
                file.unlink()
        for _ in range(2):
            hub.fail["GET .*/tree/"] = 500
            with pytest.raises(TransferError):
                load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        hub.fail.clear()
        verify(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs").directory)

    def test_no_room(self, hub: HubServer, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: usage._replace(free=1000) if ".arriving" in str(path) else usage
        )
        with pytest.raises(TransferError, match=r"\b1,000\b"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    def test_a_disk_that_becomes_full(self, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        download = HubRepository.download

        def fail(self: HubRepository, files: Any, *arguments: Any, **options: Any) -> Path:
            if len(files) > 1:
                with self.errors():
                    raise OSError(errno.ENOSPC, "No space left on device")
            return download(self, files, *arguments, **options)

        monkeypatch.setattr(HubRepository, "download", fail)
        with pytest.raises(TransferError, match=f"{REPO}:.*No space left.*room"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    def test_a_file_in_the_place_of_the_staging(self, sent: Path, tmp_path: Path) -> None:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / f".arriving-{sent.name}").write_text("a file")
        with pytest.raises(TransferError, match=rf"\.arriving-{sent.name}"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    def test_a_directory_in_the_place_of_a_file(self, sent: Path, tmp_path: Path) -> None:
        (tmp_path / "theirs" / f".arriving-{sent.name}" / "tokenizer.json" / "x").mkdir(parents=True)
        with pytest.raises(TransferError, match=r"tokenizer\.json"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    def test_what_lies_in_its_place_stays(self, sent: Path, tmp_path: Path) -> None:
        (tmp_path / "theirs" / sent.name / "mine").mkdir(parents=True)
        with pytest.raises(CacheDirectoryError, match=sent.name):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert (tmp_path / "theirs" / sent.name / "mine").is_dir()

    def test_all_files_are_of_one_commit(
        self, hub: HubServer, sent: Path, source: Path, tokenizer: Any, tmp_path: Path
    ) -> None:
        repo = hub.repos[REPO]
        first = repo.branches["main"]
        repo.commit({".gitattributes": b""}, "emptied")
        with pytest.raises(CacheNotFoundError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", revision=first))
        assert all(f"/resolve/{first}/" in line for line in hub.requests if "/resolve/" in line)

    def test_a_damaged_local_one(self, sent: Path, tmp_path: Path) -> None:
        directory = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs").directory
        (directory / "features-00000.arrow").unlink()
        with pytest.raises(CacheDamagedError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    @pytest.mark.parametrize("progress", [None, slow(False), True])
    def test_progress(self, sent: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], progress: Any) -> None:
        load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs", progress=progress)
        assert ("100%" in capfd.readouterr().err) is (progress is True)


class TestStrangeRepositories:
    def test_a_manifest_that_arrived_damaged_is_fetched_again(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        path = f"{sent.name}/manifest.json"
        hub.wrong[path] = hub.repos[REPO].files[path].replace(b"64", b"65")
        with pytest.raises(CacheDamagedError, match="checksum"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert list(Path(constants.HF_HUB_CACHE).rglob("manifest.json"))
        hub.wrong.clear()
        assert len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs"))

    def test_others_that_cannot_be_read_are_passed_over(
        self, hub: HubServer, sent: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        raw = hub.repos[REPO].files[f"{sent.name}/manifest.json"]
        newer = raw.replace(f'"schema_version": {SCHEMA_VERSION}'.encode(), b'"schema_version": 99')
        for folder, content in {"a": b"{", "b": b"", "c": newer, "z": b"\xff"}.items():
            hub.repos[REPO].change(f"{folder}/manifest.json", content)
        with caplog.at_level(logging.WARNING, "memxlnet"):
            assert len(load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs"))
        warnings = [record.getMessage() for record in caplog.records if record.name.startswith("memxlnet")]
        assert len(warnings) == 4
        assert "owner/caches/c/manifest.json: " in warnings[2]
        assert "99" in warnings[2]
        with pytest.raises(CacheDamagedError, match="owner/caches/a"):  # it may be the one
            load_dataset_from_hub(REPO, "train", cache_dir=tmp_path / "theirs")

    FOLDERS = ("..", "../x", "a/../..", "/tmp/x", "a*", "[a-z]", ".hidden", "a b", "deep/er", "a..b")

    @pytest.mark.parametrize("folder", slow_but(["../x", "/tmp/x", "a*", "deep/er"], FOLDERS))
    def test_names_that_no_upload_gives(self, hub: HubServer, sent: Path, tmp_path: Path, folder: str) -> None:
        repo = hub.repos[REPO]
        moved = {f"{folder}/{path.split('/')[1]}": kept for path, kept in repo.files.items() if "/" in path}
        repo.commit(moved, "moved")
        before = sorted(tmp_path.iterdir())
        with pytest.raises(CacheNotFoundError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert not any("/resolve/" in line for line in hub.requests)
        assert sorted(path for path in tmp_path.iterdir() if path.name != "home") == [
            path for path in before if path.name != "home"
        ]

    @pytest.mark.parametrize(
        "settings", [slow({}), {"doc_stride": "x"}, slow({"doc_stride": None}), {"more": 1}], ids=short
    )
    def test_settings_that_nobody_knows(self, hub: HubServer, sent: Path, tmp_path: Path, settings: Any) -> None:
        path = f"{sent.name}/manifest.json"
        raw = hub.repos[REPO].files[path]
        known = json.loads(raw)["fields"]["settings"] if settings else {"max_seq_length": 64}
        hub.repos[REPO].change(path, forged(raw, settings={**known, **settings}))
        with pytest.raises(CacheMismatchError, match="settings:"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    @pytest.mark.parametrize("name", ["../../evil.json", slow(".hub"), slow("/tmp/evil.json"), slow("a/b")])
    def test_files_with_strange_names(self, hub: HubServer, sent: Path, tmp_path: Path, name: str) -> None:
        path = f"{sent.name}/manifest.json"
        raw = hub.repos[REPO].files[path]
        hub.repos[REPO].change(path, forged(raw.replace(b'"tokenizer.json"', json.dumps(name).encode())))
        with pytest.raises(CacheDamagedError, match=r"Error\(.file:"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    def test_a_file_that_is_named_twice(self, hub: HubServer, sent: Path, tmp_path: Path) -> None:
        path = f"{sent.name}/manifest.json"
        content = json.loads(hub.repos[REPO].files[path])
        content["files"].append(content["files"][0])
        hub.repos[REPO].change(path, forged(json.dumps(content).encode()))
        with pytest.raises(CacheDamagedError, match=r"Error\(.files:"):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

    @pytest.mark.parametrize("files", [{}, {"train.parquet": b"x"}, {"manifest.json": b"{}"}], ids=short)
    def test_without_caches(self, hub: HubServer, tmp_path: Path, files: dict[str, bytes]) -> None:
        hub.repos[REPO] = Repo()
        hub.repos[REPO].commit(files, "theirs")
        with pytest.raises(CacheNotFoundError):
            load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")

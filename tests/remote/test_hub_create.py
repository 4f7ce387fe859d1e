"""`create_dataset_from_cache` with a repository on the Hub: what fits is fetched, and nothing is built in silence."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from memxlnet import LazySquadLikeQADataset, SquadLikeQADataset, configure_memory_tokens, create_dataset_from_cache
from memxlnet.builder.builder import Build
from memxlnet.data.hub import upload_processed_dataset_to_hub
from memxlnet.data.hub_caches import Wanted
from memxlnet.errors import (
    AmbiguousCacheError,
    CacheDamagedError,
    CacheMismatchError,
    LossLimitError,
    SettingsError,
    SourceError,
    SourceNotFoundError,
    TokenizerError,
    TransferError,
    TransferPermissionError,
)
from memxlnet.format.manifest import Manifest, read_manifest
from memxlnet.settings import EncodeSettings
from memxlnet.sources import SourceOptions
from tests.remote.hub_server import OWNER, REPO, ROWS, HubServer, Repo, no_waiting
from tests.support import build, long_examples, short, slow, write_json_lines


@pytest.fixture
def no_builds(sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Any:
        raise AssertionError("nothing was to be built")

    monkeypatch.setattr(Build, "__init__", run)
    monkeypatch.setattr(Build, "run", run)


@pytest.fixture
def options(tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    """What asks for the cache that was sent."""
    return {
        "split": "test",
        "cache_dir": tmp_path / "theirs",
        "max_seq_length": 64,
        "doc_stride": 16,
        "tokenizer": tokenizer,
        "hub_dataset_id": REPO,
    }


@pytest.mark.usefixtures("no_builds")
class TestFits:
    @pytest.mark.parametrize(("asks", "as_text"), [(None, True), (True, False), slow(None, False), slow(True, True)])
    def test_it_is_fetched_and_nothing_is_built(
        self, hub: HubServer, sent: Path, source: Path, options: Any, asks: bool | None, as_text: bool
    ) -> None:
        name = str(source) if as_text else source
        dataset = create_dataset_from_cache(name, use_hub_dataset=asks, **options)
        assert type(dataset) is LazySquadLikeQADataset
        assert dataset.directory == options["cache_dir"] / sent.name
        assert len(hub.fetched()) == 5
        hub.requests.clear()
        again = create_dataset_from_cache(name, use_hub_dataset=asks, use_lazy_loading=False, **options)
        assert type(again) is SquadLikeQADataset
        assert again.directory == dataset.directory
        assert hub.fetched() == []

    def test_a_local_one_is_not_fetched(self, hub: HubServer, sent: Path, source: Path, options: Any) -> None:
        dataset = create_dataset_from_cache(source, **{**options, "cache_dir": sent.parent})
        assert dataset.directory == sent
        assert [Path(path).name for path in hub.fetched()] == ["manifest.json"]

    def test_a_private_one(self, hub: HubServer, sent: Path, source: Path, options: Any) -> None:
        hub.repos[REPO].private = True
        with pytest.raises(TransferPermissionError, match="use_hub_dataset=False"):
            create_dataset_from_cache(source, **options)
        assert len(create_dataset_from_cache(source, hub_token=OWNER, **options))
        stored = [path.read_bytes() for path in options["cache_dir"].parent.rglob("*") if path.is_file()]
        assert not any(OWNER.encode() in content for content in stored)

    def test_without_a_tokenizer_any_fits(
        self, sent: Path, source: Path, tokenizer: Any, tmp_path: Path, options: Any
    ) -> None:
        options["tokenizer"] = None
        assert len(create_dataset_from_cache(source, **options))


def test_an_iterable_by_its_identity(hub: HubServer, tokenizer: Any, options: Any, tmp_path: Path) -> None:
    local = {**options, "cache_dir": tmp_path / "local", "hub_dataset_id": None}
    sent = create_dataset_from_cache(iter(ROWS), identity="v1", **local)
    upload_processed_dataset_to_hub(sent.directory, hub_dataset_id=REPO, hub_token=OWNER)
    assert create_dataset_from_cache(iter(()), identity="v1", **options).directory.name == sent.directory.name
    with pytest.raises(CacheMismatchError, match=r"source\.identity:.*'v2'.*'v1'"):
        create_dataset_from_cache(iter(()), identity="v2", **options)


def test_what_it_lost_is_checked(hub: HubServer, tokenizer: Any, options: Any, tmp_path: Path) -> None:
    options |= {"max_n_segs": 1, "identity": "cut"}
    rows = long_examples(3, words=200)
    sent = create_dataset_from_cache(iter(rows), **{**options, "cache_dir": tmp_path / "local", "hub_dataset_id": None})
    lost = sent.manifest.documents_without_answer_segment
    upload_processed_dataset_to_hub(sent.directory, hub_dataset_id=REPO, hub_token=OWNER)
    assert len(create_dataset_from_cache(iter(()), max_lost_answers=lost, **options))
    with pytest.raises(LossLimitError, match=rf"max_lost_answers: expected at most .* found {lost} of"):
        create_dataset_from_cache(iter(()), max_lost_answers=lost - 1, **options)


@pytest.mark.usefixtures("no_builds")
class TestMismatch:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"max_seq_length": 48}, "max_seq_length:.*48.*64"),
            slow({"doc_stride": 8}, "doc_stride:.*8.*16"),
            slow({"max_n_segs": 2}, "max_n_segs:.*2.*None"),
            slow({"max_examples": 2}, "max_examples:.*2.*None"),
            slow({"insert_memory_tokens": False}, "insert_memory_tokens:.*False.*True"),
            slow({"on_bad_example": "drop"}, "on_bad_example:.*'drop'.*'error'"),
            ({"dataset_name": "others"}, "name:.*'others'.*'questions'"),
            ({"dataset_name": "questions"}, r"source\.kind:.*'hub'.*'file'.*load_dataset_from_hub"),
            ({"dataset_name": ROWS}, r"source\.kind:.*'iterable'.*'file'"),
            slow({"dataset_name": iter(ROWS), "identity": "v1"}, r"source\.identity:.*'v1'.*None"),
            ({"dataset_name": "questions", "config_name": "de"}, r"source\.config:.*'de'.*None"),
            ({"dataset_name": "questions", "revision": "a" * 40}, r"source\.commits:.*aaaa"),
        ],
        ids=short,
    )
    def test_the_field_is_named(
        self, hub: HubServer, sent: Path, source: Path, options: Any, change: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(CacheMismatchError, match=field) as caught:
            create_dataset_from_cache(**{"dataset_name": source, **options, **change})
        assert sent.name in str(caught.value)
        assert any("use_hub_dataset=False" in note for note in caught.value.__notes__)
        assert [Path(path).name for path in hub.fetched()] == ["manifest.json"]
        assert not options["cache_dir"].exists()

    def test_content(self, sent: Path, source: Path, options: Any) -> None:
        write_json_lines(source, ROWS[:2])
        with pytest.raises(CacheMismatchError, match=r"source\.sha256:"):
            create_dataset_from_cache(source, **options)

    def test_tokenizer(self, sent: Path, source: Path, tokenizer: Any, options: Any) -> None:
        configure_memory_tokens(tokenizer, 2)
        with pytest.raises(CacheMismatchError, match=r"tokenizer\.sha256:"):
            create_dataset_from_cache(source, **options)

    def test_encoder(self, sent: Path, source: Path, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("memxlnet.data.hub_caches.ALGORITHM_VERSION", 99)
        with pytest.raises(CacheMismatchError, match=r"algorithm_version:.*99"):
            create_dataset_from_cache(source, **options)

    def test_a_damaged_manifest_may_be_the_one(self, hub: HubServer, sent: Path, source: Path, options: Any) -> None:
        hub.repos[REPO].change(f"{sent.name}/manifest.json", b"{")
        with pytest.raises(CacheDamagedError) as caught:
            create_dataset_from_cache(source, **options)
        assert any("use_hub_dataset=False" in note for note in caught.value.__notes__)


def test_several(hub: HubServer, sent: Path, source: Path, tokenizer: Any, options: Any) -> None:
    configure_memory_tokens(tokenizer, 2)
    other = build(source, tokenizer, sent.parent).directory
    upload_processed_dataset_to_hub(other, hub_dataset_id=REPO, hub_token=OWNER)
    with pytest.raises(AmbiguousCacheError, match=other.name):
        create_dataset_from_cache(source, **{**options, "tokenizer": None})
    assert create_dataset_from_cache(source, **options).directory.name == other.name


class TestOfTheHub:
    """Sources that are datasets of the Hub: their configuration and commit are compared where they were named."""

    @pytest.fixture
    def manifest(self, sent: Path) -> Manifest:
        manifest = read_manifest(sent)
        files = [f"hf://datasets/owner/questions@{'a' * 40}/train.parquet"]
        source = {"kind": "hub", "builder": "Parquet", "config": "en", "files": files}
        return dataclasses.replace(manifest, fields={**manifest.fields, "source": source})

    def wanted(self, options: Any, name: str = "questions", **named: Any) -> Wanted:
        encode = EncodeSettings(max_seq_length=64, doc_stride=16)
        return Wanted(name, "test", options["cache_dir"], encode, options["tokenizer"], SourceOptions(**named))

    def differences(self, manifest: Manifest, options: Any, name: str = "questions", **named: str) -> list[str]:
        return self.wanted(options, name, **named).differences()(manifest)

    def test_no_token_is_shown(self, options: Any) -> None:
        assert OWNER not in repr(self.wanted(options, token=OWNER))

    def test_named(self, manifest: Manifest, options: Any) -> None:
        assert self.differences(manifest, options) == []
        assert self.differences(manifest, options, config_name="en", revision="a" * 40) == []
        [other] = self.differences(manifest, options, config_name="de")
        assert other == "source.config: expected 'de', found 'en'"
        [other] = self.differences(manifest, options, revision="b" * 40)
        assert other.startswith("source.commits: expected ['bbb")

    def test_a_branch_is_looked_up(self, hub: HubServer, manifest: Manifest, options: Any) -> None:
        with pytest.raises(TransferError, match=r"questions.*'main'"):
            self.differences(manifest, options, revision="main")
        hub.repos["owner/questions"] = Repo()
        first = hub.repos["owner/questions"].commit({}, "first")
        files = [f"hf://datasets/owner/questions@{first}/train.parquet"]
        source = {**manifest.fields["source"], "files": files}
        manifest = dataclasses.replace(manifest, name="owner/questions", fields={**manifest.fields, "source": source})
        assert self.differences(manifest, options, "owner/questions", revision="main") == []
        hub.repos["owner/questions"].commit({}, "second")
        [moved] = self.differences(manifest, options, "owner/questions", revision="main")
        assert "source.commits" in moved

    def test_an_invalid_name(self, manifest: Manifest, options: Any) -> None:
        with pytest.raises(SettingsError, match=r"^dataset_name:"):
            self.differences(manifest, options, "a--b", revision="main")

    def test_what_looks_like_a_path_is_a_file_that_is_missing(self, manifest: Manifest, options: Any) -> None:
        with pytest.raises(SourceNotFoundError, match="a/b/c"):
            self.differences(manifest, options, "./a/b/c")


@pytest.mark.usefixtures("no_builds")
def test_a_missing_file_is_not_taken_for_a_name(hub: HubServer, source: Path, options: Any) -> None:
    for missing in (source.with_name("typo") / source.name, "questions.json"):
        with pytest.raises(SourceNotFoundError):
            create_dataset_from_cache(missing, **options)
    assert hub.requests == []


@pytest.mark.usefixtures("no_builds")
def test_what_is_taken_is_logged(source: Path, options: Any, caplog: pytest.LogCaptureFixture, sent: Path) -> None:
    with caplog.at_level(logging.INFO, "memxlnet"):
        create_dataset_from_cache(source, **options)
    assert f"hub {REPO}/{sent.name}: fits; it was made of 'questions' (format='jsonl', kind='file', " in caplog.text


class TestWithoutCacheOfTheSplit:
    @pytest.mark.parametrize("is_empty", [True, False])
    def test_it_is_built_with_a_warning(
        self, hub: HubServer, sent: Path, source: Path, options: Any, caplog: pytest.LogCaptureFixture, is_empty: bool
    ) -> None:
        if is_empty:
            hub.repos[REPO].commit({"README.md": b"theirs"}, "emptied")
        options["split"] = "train"
        with caplog.at_level(logging.WARNING, "memxlnet"):
            dataset = create_dataset_from_cache(source, **options)
        assert dataset.manifest.split == "train"
        [warning] = [record.getMessage() for record in caplog.records if record.name.startswith("memxlnet.data")]
        found = "no cache" if is_empty else sent.name
        assert all(part in warning for part in (REPO, "'train'", found, str(options["cache_dir"])))

    def test_the_local_one_is_taken(
        self, hub: HubServer, sent: Path, source: Path, options: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.repos[REPO].commit({}, "emptied")

        def run(*_: Any) -> Any:
            raise AssertionError("nothing was to be built")

        monkeypatch.setattr(Build, "run", run)
        assert create_dataset_from_cache(source, **{**options, "cache_dir": sent.parent}).directory == sent

    def test_the_build_needs_a_tokenizer(self, hub: HubServer, sent: Path, source: Path, options: Any) -> None:
        with pytest.raises(TokenizerError):
            create_dataset_from_cache(source, **{**options, "split": "train", "tokenizer": None})


@pytest.mark.usefixtures("no_builds")
class TestFailures:
    def test_offline(self, sent: Path, source: Path, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(TransferError, match=r"(?s)HF_HUB_OFFLINE.*use_hub_dataset=False") as caught:
            create_dataset_from_cache(source, **options)
        assert caught.value.__cause__ is not None

    def test_no_connection(
        self, hub: HubServer, sent: Path, source: Path, options: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_waiting(monkeypatch)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(TransferError, match=r"(?s)ConnectError.*use_hub_dataset=False"):
            create_dataset_from_cache(source, **options)

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, TransferPermissionError),
            slow(403, TransferPermissionError),
            slow(500, TransferError),
            slow(404, TransferError),
        ],
    )
    @pytest.mark.parametrize(
        "what", ["GET /api/datasets/owner/caches$", "/tree/", "HEAD .*/resolve/", "GET .*/resolve/"]
    )
    def test_refusals(
        self,
        hub: HubServer,
        sent: Path,
        source: Path,
        options: Any,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        error: type,
        what: str,
    ) -> None:
        no_waiting(monkeypatch)
        hub.fail[what] = status
        with pytest.raises(error, match="use_hub_dataset=False"):
            create_dataset_from_cache(source, **options)

    def test_no_such_repository(self, source: Path, options: Any) -> None:
        options["hub_dataset_id"] = "owner/none"
        with pytest.raises(TransferPermissionError, match="owner/none"):
            create_dataset_from_cache(source, **options)
        with pytest.raises(TransferError, match=r"owner/none.*404"):
            create_dataset_from_cache(source, hub_token=OWNER, **options)

    def test_wrong_bytes(self, hub: HubServer, sent: Path, source: Path, options: Any) -> None:
        hub.wrong[f"{sent.name}/tokenizer.json"] = b"{}" + hub.repos[REPO].files[f"{sent.name}/tokenizer.json"][2:]
        with pytest.raises(TransferError, match="checksum") as caught:
            create_dataset_from_cache(source, **options)
        assert any("use_hub_dataset=False" in note for note in caught.value.__notes__)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"hub_dataset_id": ""}, SettingsError),
            slow({"hub_dataset_id": 5}, SettingsError),
            slow({"hub_dataset_id": "a/../b"}, SettingsError),
            ({"use_hub_dataset": 1}, SettingsError),
            slow({"use_hub_dataset": "no"}, SettingsError),
            ({"rebuild": True}, SettingsError),
            ({"hub_token": "a b"}, SettingsError),
            slow({"split": ""}, SettingsError),
            ({"max_seq_length": 3}, SettingsError),
            slow({"doc_stride": 61}, SettingsError),
            slow({"max_examples": 0}, SettingsError),
            slow({"cache_dir": 5}, SettingsError),
            ({"tokenizer": "name"}, TokenizerError),
            ({"identity": "v1"}, SettingsError),
            slow({"dataset_name": "questions", "identity": "v1"}, SettingsError),
            ({"config_name": "en"}, SettingsError),
            ({"dataset_name": ROWS, "revision": "main"}, SettingsError),
            slow({"dataset_name": "questions", "revision": ""}, SettingsError),
            ({"dataset_name": iter(ROWS)}, SourceError),
        ],
        ids=short,
    )
    def test_wrong_arguments_fail_before_any_work(
        self, hub: HubServer, source: Path, options: Any, change: dict[str, Any], error: type
    ) -> None:
        with pytest.raises(error):
            create_dataset_from_cache(**{"dataset_name": source, **options, **change})
        assert hub.requests == []
        assert not (options["cache_dir"]).exists()


@pytest.mark.parametrize("repo_id", [REPO, "not a name"])
def test_the_hub_is_not_asked(hub: HubServer, source: Path, options: Any, repo_id: str) -> None:
    options |= {"hub_dataset_id": repo_id, "use_hub_dataset": False}
    assert len(create_dataset_from_cache(source, **options))
    assert len(create_dataset_from_cache(source, rebuild=True, **options))
    assert hub.requests == []

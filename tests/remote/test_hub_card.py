"""The card of a repository, and its files as other libraries read them."""

import copy
import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import huggingface_hub
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from memxlnet import configure_memory_tokens, verify
from memxlnet.data.hub import load_dataset_from_hub, upload_processed_dataset_to_hub
from memxlnet.errors import TransferError
from memxlnet.format.manifest import Manifest, read_manifest
from memxlnet.remote.hub_card import described
from memxlnet.sample import sample_tokenizer_directory
from tests.format.content import files_of
from tests.remote.hub_server import OWNER, REPO, ROWS, HubServer, Repo, upload_once
from tests.support import build, short

NAME = 'it\'s <!-- memxlnet: end folder --> "so" ```\n\\ {x}'
FILE = "path/of/the/file.json"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    configure_memory_tokens(tokenizer, 2)
    return build(ROWS, tokenizer, tmp_path_factory.mktemp("built")).directory


@pytest.fixture(scope="module")
def uploaded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    return upload_once(built, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def manifest(built: Path) -> Manifest:
    return read_manifest(built)


def cells(card: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|]+?) \| ([^|]*?) \|$", card, re.MULTILINE))


def code_of(card: str) -> str:
    """The code of a card, before it reads the rows."""
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(code.split("# The rows")[0])


def calls(card: str) -> tuple[str, dict[str, Any] | None]:
    """The address from which the code of a card pulls, and the arguments with which it verifies."""
    cache = mock.Mock()
    with mock.patch("memxlnet.Cache", cache):
        exec(code_of(card), {})
    [pulled], verified = cache.pull.call_args_list, cache.pull.return_value.verify.call_args
    assert not pulled.kwargs
    return pulled.args[0], verified and verified.kwargs


class TestCard:
    def test_it_states_everything(self, manifest: Manifest) -> None:
        found = cells(described(None, REPO, "folder", manifest))
        tables = {name: table.rows for name, table in manifest.tables.items()}
        assert found == {
            "---": "---",
            "source": "in-memory",
            "split": "test",
            "settings": "doc_stride=16, insert_memory_tokens=True, max_examples=None, max_n_segs=None, "
            "max_seq_length=64, on_bad_example='error', on_contradiction='error', on_repeated_id='error'",
            "fingerprint": manifest.fingerprint,
            "tokenizer, sha256": manifest.fields["tokenizer"]["sha256"],
            "vocabulary size": "2,004",
            "memory tokens": "4 (2 that read, 2 that write)",
            "rows (segments)": str(tables["features"]),
            "documents": "3",
            "contexts": "3",
            "answers": "0 dropped, 2 exact, 0 number, 0 repaired, 1 unanswerable, 0 unlabelled, 0 yes_no, "
            "0 in no segment",
            "contradictions": "0",
            "examples dropped": "0",
            "bytes": f"{manifest.num_bytes:,}",
            "schema version": "2",
        }

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ({"kind": "hub", "builder": "Squad", "config": "a'b"}, {"against": NAME, "config_name": "a'b"}),
            ({"kind": "file", "format": "json"}, {"against": FILE}),
            (
                {"kind": "file", "format": "csv", "form": "squad", "columns": {"id": "k`"}, "offsets": "bytes"},
                {"against": FILE, "form": "squad", "columns": {"id": "k`"}, "offsets": "bytes"},
            ),
            ({"kind": "file", "format": "json", "transform": "v1"}, None),
            ({"kind": "file", "format": "json", "form": "mine 3"}, None),
            ({"kind": "file", "sha256": "00"}, None),
            ({"kind": "hub", "sha256": "00"}, None),
            ({"kind": "iterable", "identity": "v1"}, None),
        ],
        ids=short,
    )
    def test_its_code_is_python(self, manifest: Manifest, source: dict[str, Any], expected: Any) -> None:
        of_name = dataclasses.replace(manifest, name=NAME, split="a'b", fields={**manifest.fields, "source": source})
        card = described(None, REPO, "folder", of_name)
        assert calls(card) == (f"hf://datasets/{REPO}/folder", expected)
        assert card.count("<!-- memxlnet: end folder -->") == 1
        assert described(card, REPO, "folder", of_name) == card

    def test_any_name_stays_in_its_cell(self, manifest: Manifest) -> None:
        name = "a | b\n| x | `y` <script>alert(1)</script> [z](http://x) *w* \\"
        card = described(None, REPO, "folder", dataclasses.replace(manifest, name=name))
        assert len(cells(card)) == 16
        [line] = [line for line in card.splitlines() if line.startswith("| source")]
        assert line.count("|") == 3
        assert not re.search(r"<script|`|\[z\]", line)

    @pytest.mark.parametrize(
        "card",
        [
            "# Theirs\n\nWords.\n",
            "---\nlicense: mit\ntags:\n- other\nlanguage: en\n---\n# Theirs\n\nWords.\n",
            "---\nlicense: mit\n---\n\n# Theirs\n\nWords.",
            "---\r\nlicense: mit\r\n---\r\n# Theirs\r\n\r\nWords.\r\n",
            "---\n---\n# Theirs\n\nWords.\n",
            "",
        ],
        ids=short,
    )
    def test_what_people_wrote_stays(self, manifest: Manifest, card: str) -> None:
        one = described(card, REPO, "one", manifest)
        both = described(one, REPO, "two", manifest)
        for text in (one, both):
            assert ("# Theirs" in text) is ("# Theirs" in card)
            assert ("Words." in text) is ("Words." in card)
            parsed = huggingface_hub.DatasetCard(text)
            assert parsed.data.get("license") == ("mit" if "mit" in card else None)
            assert parsed.data["tags"] == [*(["other"] if "other" in card else []), "memxlnet"]
        assert [config["config_name"] for config in huggingface_hub.DatasetCard(both).data["configs"]] == ["one", "two"]
        assert both.index("## one") < both.index("## two")
        begin = "<!-- memxlnet: begin two"
        edited = both.replace("## one", "words between\n\n## one").replace(begin, f"kept\n\n{begin}")
        again = described(edited, REPO, "one", manifest)
        assert "words between" not in again  # within the section
        assert f"kept\n\n{begin}" in again

    def test_a_split_that_is_not_a_name_has_no_configuration(self, manifest: Manifest) -> None:
        card = described(None, REPO, "folder", dataclasses.replace(manifest, split="a b"))
        assert "configs" not in huggingface_hub.DatasetCard(card).data

    @pytest.mark.parametrize("card", ["---\n- a\n---\n", "---\n{\n---\n"])
    def test_invalid_metadata(self, manifest: Manifest, card: str) -> None:
        with pytest.raises(ValueError, match="Error:"):
            described(card, REPO, "folder", manifest)

    @pytest.mark.parametrize("card", [b"---\n- a\n---\n", b"---\n{\n---\n", b"\xff"])
    def test_an_invalid_card_is_refused_before_anything_is_sent(self, hub: HubServer, built: Path, card: bytes) -> None:
        hub.repos[REPO] = Repo()
        hub.repos[REPO].commit({"README.md": card}, "theirs")
        with pytest.raises(TransferError, match=r"README\.md"):
            upload_processed_dataset_to_hub(built, hub_dataset_id=REPO, hub_token=OWNER)
        assert hub.repos[REPO].files == {"README.md": card}

    @pytest.mark.parametrize("value", ["foo", "[foo]"])
    def test_one_value_where_a_list_belongs(self, manifest: Manifest, value: str) -> None:
        card = described(f"---\ntags: {value}\nconfigs: {value}\n---\nx", REPO, "folder", manifest)
        data = huggingface_hub.DatasetCard(card).data
        assert data["tags"] == ["foo", "memxlnet"]
        assert [data["configs"][0], data["configs"][1]["config_name"]] == ["foo", "folder"]

    def test_a_section_without_end(self, manifest: Manifest) -> None:
        card = "<!-- memxlnet: begin folder -->\n\nWords.\n"
        once = described(card, REPO, "folder", manifest)
        assert "Words." in once
        assert described(once, REPO, "folder", manifest) == once
        both = described(once, REPO, "other", manifest)
        assert described(described(both, REPO, "folder", manifest), REPO, "other", manifest) == both
        assert "Words." in both


class TestOthers:
    """What a repository holds, without memxlnet."""

    @pytest.fixture
    def folder(self, hub: HubServer, built: Path, uploaded: Repo) -> str:
        hub.repos[REPO] = copy.deepcopy(uploaded)
        return built.name

    @pytest.fixture
    def snapshot(self, hub: HubServer, folder: str, tmp_path: Path) -> Path:
        for path, content in hub.repos[REPO].files.items():
            (tmp_path / "snapshot" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "snapshot" / path).write_bytes(content)
        return tmp_path / "snapshot"

    def test_datasets_reads_the_files(self, snapshot: Path, manifest: Manifest, tmp_path: Path) -> None:
        files = str(next(snapshot.rglob("features-*.arrow")))
        rows = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "d"))
        assert len(rows) == manifest.tables["features"].rows

    def test_datasets_reads_a_configuration(
        self, snapshot: Path, folder: str, manifest: Manifest, tmp_path: Path
    ) -> None:
        rows = datasets.load_dataset(str(snapshot), folder, split="test", cache_dir=str(tmp_path / "d"))
        assert len(rows) == manifest.tables["features"].rows

    def test_arrow_reads_it_through_fsspec(self, hub: HubServer, folder: str, manifest: Manifest) -> None:
        files = huggingface_hub.HfFileSystem(endpoint=hub.url, skip_instance_cache=True)
        names = [Path(name).name for name in files.ls(f"datasets/{REPO}/{folder}", detail=False)]
        assert sorted(names) == sorted(["manifest.json", *(record.file for record in manifest.all_files())])
        with files.open(f"datasets/{REPO}/{folder}/features-00000.arrow", "rb") as file:
            assert pa.ipc.open_file(file).read_all().num_rows == manifest.tables["features"].rows

    def test_the_code_of_the_card_opens_the_cache(
        self, hub: HubServer, folder: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        found: dict[str, Any] = {}
        exec(code_of(hub.repos[REPO].files["README.md"].decode()), found)
        assert files_of(found["cache"].directory) == files_of(built)
        assert len(found["dataset"]) == found["cache"].num_rows
        assert len(found["tokenizer"]) == found["cache"].manifest.vocabulary_size

    def test_a_plain_copy_is_a_cache(self, snapshot: Path, folder: str) -> None:
        verify(snapshot / folder, against=ROWS)

    def test_a_folder_with_a_name_of_ones_own(self, hub: HubServer, folder: str, tmp_path: Path) -> None:
        repo = hub.repos[REPO]
        repo.commit({path.replace(folder, "mine"): kept for path, kept in repo.files.items()}, "renamed")
        dataset = load_dataset_from_hub(REPO, "test", cache_dir=tmp_path / "theirs")
        assert dataset.directory.name == folder
        shutil.rmtree(dataset.directory)

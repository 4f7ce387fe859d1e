"""`verify` tells every changed byte, and damage never ends the process."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import CacheDamagedError, CacheError, CacheNotFoundError
from memxlnet.maintain.verify import verify
from tests.golden.make_golden import CACHE
from tests.support import told_by

FILES = sorted(path.name for path in CACHE.iterdir())
SEEDS = int(os.environ.get("MEMXLNET_DAMAGE_SEEDS", "400"))


@given(st.sampled_from(FILES), st.data())
def test_every_flipped_bit_is_told(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(shutil.copytree(CACHE, Path(folder, "cache")))
        verify(directory)
        content = bytearray((directory / name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (directory / name).write_bytes(content)
        with pytest.raises(CacheError) as caught:
            verify(directory)
        assert name in str(caught.value)


@pytest.mark.slow
def test_damage_never_ends_the_process(tmp_path: Path) -> None:
    directory = shutil.copytree(CACHE, tmp_path / "cache")
    told = told_by("tests.format.read_damaged", directory, 0, SEEDS)
    finished = [entry for entry in told if entry["step"] == "done"]
    assert [entry["seed"] for entry in finished] == list(range(SEEDS))
    silent = [entry for entry in finished if entry["verifying"] == "silent"]
    assert not silent
    # Damage that opening finds is told with the file's name.
    refused = [entry for entry in finished if entry["opening"] != "opened"]
    assert len(refused) > SEEDS // 10
    assert [entry for entry in refused if entry["file"] not in entry["opening"]] == []


def test_a_blank_more_in_the_manifest_is_told(tmp_path: Path) -> None:
    directory = shutil.copytree(CACHE, tmp_path / "cache")
    manifest = directory / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(CacheDamagedError, match=r"manifest\.json: expected the bytes"):
        verify(directory)


def test_it_takes_text_and_paths(tmp_path: Path) -> None:
    verify(CACHE)
    verify(str(CACHE))
    with pytest.raises(CacheNotFoundError, match="nowhere"):
        verify(tmp_path / "nowhere")

"""`verify` tells every changed byte, and damage never ends the process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import CacheDamagedError, CacheError, CacheNotFoundError
from memxlnet.store.verify import verify
from tests.golden.make_golden import CACHE

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path.name for path in CACHE.iterdir())
SEEDS = int(os.environ.get("MEMXLNET_DAMAGE_SEEDS", "1000"))


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


def test_damage_never_ends_the_process(tmp_path: Path) -> None:
    directory = shutil.copytree(CACHE, tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.read_damaged", str(directory), "0", str(SEEDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (told[-1:], done.stderr[-3000:])
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

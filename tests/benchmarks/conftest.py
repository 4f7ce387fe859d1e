"""Benchmarks on the bundled sample, in a temporary folder."""

from pathlib import Path

import pytest

from benchmarks import child
from benchmarks.data import FILE_VARIABLE, TOKENIZER_VARIABLE, WORK_VARIABLE
from memxlnet.sample import sample_file, sample_tokenizer_directory


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the benchmarks use the bundled sample; return its file."""
    monkeypatch.setattr(child, "_warm", None)  # a quick run starts its children from a process with the libraries
    monkeypatch.setenv(FILE_VARIABLE, str(sample_file()))
    monkeypatch.setenv(TOKENIZER_VARIABLE, str(sample_tokenizer_directory()))
    monkeypatch.setenv(WORK_VARIABLE, str(tmp_path / "work"))
    return sample_file()

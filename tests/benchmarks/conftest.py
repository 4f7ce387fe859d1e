"""Benchmarks on the bundled sample, in a folder of the test's own."""

from pathlib import Path

import pytest

from benchmarks import child
from benchmarks.data import FILE_VARIABLE, TOKENIZER_VARIABLE, WORK_VARIABLE
from memxlnet.sample import sample_file, sample_tokenizer_directory


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample is what is measured on; the file."""
    monkeypatch.setattr(child, "_warm", None)  # a quick run starts its children from a process with the libraries
    monkeypatch.setenv(FILE_VARIABLE, str(sample_file()))
    monkeypatch.setenv(TOKENIZER_VARIABLE, str(sample_tokenizer_directory()))
    monkeypatch.setenv(WORK_VARIABLE, str(tmp_path / "work"))
    return sample_file()

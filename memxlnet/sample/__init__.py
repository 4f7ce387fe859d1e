"""Bundled sample: a small question answering file and a tokenizer in XLNet's layout.

Both were made for this library. They let examples and tests run without a download.
"""

from pathlib import Path

__all__ = ["sample_file", "sample_tokenizer_directory"]


def sample_file() -> Path:
    """Return the path of the bundled sample in the SQuAD v2.0 file format.

    Returns:
        Path of a JSON file with 24 articles of one long document each, in several scripts.
    """
    return Path(__file__).parent / "squad_sample.json"


def sample_tokenizer_directory() -> Path:
    """Return the directory of the bundled tokenizer.

    Returns:
        Path of a directory that ``transformers.AutoTokenizer.from_pretrained`` loads without network access.
    """
    return Path(__file__).parent / "tokenizer"

"""Tokenizers by name or directory."""

import os
from pathlib import Path
from typing import Any

from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import SettingsError, TokenizerError

_VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.txt", "vocab.json")
_CONFIGURATIONS = ("tokenizer_config.json", "config.json")


def load_tokenizer(name: str, memory_tokens: int = 0) -> Any:
    """Load a tokenizer by name or directory.

    A directory of XLNet's files alone has no configuration that names its class, so its name does.

    Args:
        name: Name on the Hub, or a directory.
        memory_tokens: Memory slots that are added; 0 for none.

    Raises:
        SettingsError: The number of memory slots is negative.
        TokenizerError: It is missing, or its files cannot be read.
    """
    if memory_tokens < 0:
        raise SettingsError(f"memory_num_tokens: expected an integer of at least 0, found {memory_tokens}")
    # transformers takes seconds to load: only now is it needed.
    from transformers import AutoTokenizer, XLNetTokenizerFast

    # Path.expanduser raises where there is no such user.
    directory = Path(os.path.expanduser(name))  # noqa: PTH111
    is_directory = bool(name) and directory.is_dir()
    kind = AutoTokenizer
    if is_directory:
        if not any((directory / file).is_file() for file in _VOCABULARIES):
            # Checked here because transformers makes an empty XLNet vocabulary of it, in which every text is unknown.
            raise TokenizerError(f"tokenizer: expected {' or '.join(_VOCABULARIES)} in {directory}, found none")
        if not any((directory / file).is_file() for file in _CONFIGURATIONS):
            if "xlnet" not in directory.resolve().name.lower():
                raise TokenizerError(
                    f"tokenizer: expected {' or '.join(_CONFIGURATIONS)} in {directory}, found none; XLNet's files "
                    "alone are known by 'xlnet' in the name of their directory, others by what save_pretrained writes"
                )
            kind = XLNetTokenizerFast
    elif not name or name[0] in "./~":
        raise TokenizerError(f"tokenizer: expected a directory or a name on the Hub, found no directory {name!r}")
    try:
        tokenizer = kind.from_pretrained(directory if is_directory else name)
    except Exception as error:
        raise TokenizerError(f"tokenizer: {name!r} cannot be loaded: {error}") from error
    if memory_tokens:
        configure_memory_tokens(tokenizer, memory_tokens)
    return tokenizer

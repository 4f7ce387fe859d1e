"""Memory tokens: added to a tokenizer, and found again in one.

A model with n memory tokens reads its state at ``[MEM_READ_0] ... [MEM_READ_{n-1}]`` and writes the next one at
``[MEM_WRITE_0] ...`` (the layout of the Recurrent Memory Transformer, Bulatov et al. 2022, arXiv:2207.06881).
"""

import re
from typing import Any

from memxlnet.errors import TokenizerError
from memxlnet.settings import positive_int

_NAME = re.compile(r"\[MEM_(READ|WRITE)_(\d+)\]")


def read_token(index: int) -> str:
    """Return the text of the memory token that reads slot `index`."""
    return f"[MEM_READ_{index}]"


def write_token(index: int) -> str:
    """Return the text of the memory token that writes slot `index`."""
    return f"[MEM_WRITE_{index}]"


def configure_memory_tokens(tokenizer: Any, memory_num_tokens: int = 16) -> dict[str, list[int]]:
    """Add the memory tokens to a transformers tokenizer, in place.

    First ``[MEM_READ_i]`` for all i, then ``[MEM_WRITE_i]``; the XLNet vocabulary gives them the ids 32000 and up.
    Other special tokens stay. A second call with the same count changes nothing. Remember to resize the model's
    embeddings to the vocabulary size that the manifest of the cache records.

    Args:
        tokenizer: A transformers fast tokenizer.
        memory_num_tokens: Number of memory slots; twice as many tokens are added.

    Returns:
        ``{"mem_read_ids": [...], "mem_write_ids": [...]}``, each of `memory_num_tokens` ids in slot order.

    Raises:
        SettingsError: `memory_num_tokens` is not an integer above 0.
        TokenizerError: The tokenizer is slow, or already has another number of memory tokens.
    """
    memory_num_tokens = positive_int("memory_num_tokens", memory_num_tokens)
    check_fast(tokenizer)
    read_ids, write_ids = find_memory_tokens(tokenizer.get_added_vocab())
    if not read_ids:
        names = [read_token(i) for i in range(memory_num_tokens)] + [write_token(i) for i in range(memory_num_tokens)]
        tokenizer.add_special_tokens({"extra_special_tokens": names}, replace_extra_special_tokens=False)
        read_ids, write_ids = find_memory_tokens(tokenizer.get_added_vocab())
    if len(read_ids) != memory_num_tokens:
        raise TokenizerError(
            f"memory_num_tokens: expected {len(read_ids)}, which the tokenizer already has, found "
            f"{memory_num_tokens}; load the tokenizer again to give it another number of memory tokens"
        )
    return {"mem_read_ids": list(read_ids), "mem_write_ids": list(write_ids)}


def check_fast(tokenizer: Any) -> None:
    """Check that an object is a transformers fast tokenizer.

    Raises:
        TokenizerError: It is not, with a hint.
    """
    if isinstance(tokenizer, type) or not hasattr(tokenizer, "get_added_vocab") or not callable(tokenizer):
        raise TokenizerError(
            f"tokenizer: expected a transformers fast tokenizer, found {tokenizer!r:.200}; load one with "
            "transformers.AutoTokenizer.from_pretrained(...), or wrap a tokenizers.Tokenizer in "
            "transformers.PreTrainedTokenizerFast(tokenizer_object=...)"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise TokenizerError(
            f"tokenizer: expected a fast tokenizer (is_fast), found the slow {type(tokenizer).__name__}; load it with "
            "use_fast=True or through its tokenizer.json"
        )


def find_memory_tokens(added: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids of the memory tokens among a tokenizer's added tokens.

    Args:
        added: Text to id of the added tokens.

    Returns:
        The ids that read and the ids that write, each in slot order; both empty without memory tokens.

    Raises:
        TokenizerError: The set is incomplete: slots are missing, or reads and writes differ in number.
    """
    found: dict[str, dict[int, int]] = {"READ": {}, "WRITE": {}}
    for name, token_id in added.items():
        match = _NAME.fullmatch(name)
        if match and name == f"[MEM_{match[1]}_{int(match[2])}]":
            found[match[1]][int(match[2])] = token_id
    reads, writes = found["READ"], found["WRITE"]
    count = max(len(reads), len(writes))
    if set(reads) != set(range(count)) or set(writes) != set(range(count)):
        raise TokenizerError(
            f"tokenizer: expected memory tokens [MEM_READ_i] and [MEM_WRITE_i] for every i from 0, found reads "
            f"{sorted(reads)} and writes {sorted(writes)}; load the tokenizer again and call configure_memory_tokens"
        )
    return tuple(reads[i] for i in range(count)), tuple(writes[i] for i in range(count))

"""A task that needs memory: a fact in the first segment determines which word of the last one is the answer."""

import random
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from memxlnet import Cache, configure_memory_tokens
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_tokenizer_directory

FACT_REPEATS = 8
"""Repetitions of the fact: enough for the uniform attention of an untrained model to pick it up, so that a small model
learns in seconds with any seed."""

CODES = ("water", "river", "stone", "fire")

FILLERS = ("light", "night", "house", "north", "south", "ship", "tree", "sea")

MEMORY_TOKENS = 2

MAX_SEQ_LENGTH, OVERLAP = 48, 8


def recall_examples(count: int, seed: int) -> list[dict[str, Any]]:
    """Generate documents of two or three segments; without the fact, all codes are equally likely."""
    numbers = random.Random(seed)
    examples = []
    for number in range(count):
        code = numbers.choice(CODES)
        between = " ".join(numbers.choices(FILLERS, k=numbers.randint(36, 60)))
        fact = " ".join([f"queen {code}"] * FACT_REPEATS)
        before = f"{fact} {between} choose "
        listed = numbers.sample(CODES, len(CODES))
        start = len(before) + len(" ".join([*listed[: listed.index(code)], ""]))
        examples.append(
            {
                "id": f"{seed}-{number}",
                "question": "queen",
                "context": before + " ".join(listed),
                "answers": {"text": [code], "answer_start": [start]},
            }
        )
    return examples


def recall_dataset(count: int, seed: int, cache_dir: Path) -> CacheDataset:
    """Build a cache of the task with the bundled tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    configure_memory_tokens(tokenizer, MEMORY_TOKENS)
    cache = Cache.build(
        recall_examples(count, seed),
        tokenizer,
        split=f"recall-{seed}",
        cache_dir=cache_dir,
        max_seq_length=MAX_SEQ_LENGTH,
        doc_stride=OVERLAP,
    )
    return cache.dataset()

"""A task that needs memory: a fact in the first segment says which of several words in the last one is the answer."""

import random
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from memxlnet import Cache, configure_memory_tokens
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_tokenizer_directory

TIMES_TOLD = 8
"""How often the fact is told: so often that the even attention of a random model holds some of it. A small model then
learns in seconds, whatever its seed."""

CODES = ("water", "river", "stone", "fire")

FILLERS = ("light", "night", "house", "north", "south", "ship", "tree", "sea")

MEMORY_TOKENS = 2

MAX_SEQ_LENGTH, OVERLAP = 48, 8


def recall_examples(count: int, seed: int) -> list[dict[str, Any]]:
    """Documents of two or three segments; without the fact every code is as likely as any other."""
    numbers = random.Random(seed)
    examples = []
    for number in range(count):
        code = numbers.choice(CODES)
        between = " ".join(numbers.choices(FILLERS, k=numbers.randint(36, 60)))
        fact = " ".join([f"queen {code}"] * TIMES_TOLD)
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
    """The task as a cache, with the bundled tokenizer."""
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

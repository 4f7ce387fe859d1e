"""Makes the golden cache beside this file, which guards the format on disk.

    python -m tests.golden.make_golden

Run it again only where the format, the encoder or the schema version changes on purpose; then the literals of the test
have to follow.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.memory_tokens import configure_memory_tokens

HERE = Path(__file__).parent
CACHE = HERE / "cache"

SPECIAL = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>")
WORDS = (
    "the",
    "lamp",
    "of",
    "harbour",
    "was",
    "lit",
    "in",
    "by",
    "a",
    "keeper",
    "who",
    "when",
    "caf\u00e9",
    "1898",
    ".",
)

_HARBOUR = "The lamp of the harbour was lit in 1898 . The keeper was a keeper of the lamp ."

EXAMPLES: list[dict[str, Any]] = [
    {
        "id": "exact",
        "question": "When was the lamp lit",
        "context": _HARBOUR,
        "answers": {"text": ["1898", "in 1898"], "answer_start": [35, 32]},
    },
    {
        "id": "repaired",
        "question": "who",
        "context": "A cafe\u0301 \U0001f600 by the harbour",
        "answers": {"text": ["caf\u00e9"], "answer_start": [0]},
    },
    {"id": "unanswerable", "question": "By who", "context": _HARBOUR, "answers": {"text": [], "answer_start": []}},
    {
        "question": "when",
        "context": "the lamp",
        "answers": [{"text": "keeper", "answer_start": 4}],
    },
    {"id": "bad", "question": "who", "context": None, "answers": {"text": [], "answer_start": []}},
]

SETTINGS: dict[str, Any] = {
    "max_seq_length": 16,
    "doc_stride": 2,
    "on_bad_example": "drop",
    "identity": "golden 1",
    "progress": False,
}


def golden_tokenizer() -> Any:
    """A tokenizer of words in XLNet's layout, with one memory slot."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.post_processor = processors.TemplateProcessing(
        single="$A <sep> <cls>:2",
        pair="$A <sep> $B:1 <sep>:1 <cls>:2",
        special_tokens=[("<sep>", 4), ("<cls>", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        pad_token="<pad>",
        padding_side="left",
    )
    configure_memory_tokens(tokenizer, 1)
    return tokenizer


def build_golden(cache_dir: Path, **changes: Any) -> Path:
    """Build the golden cache in a directory of caches."""
    settings = {**SETTINGS, **changes}
    process_and_cache_dataset(EXAMPLES, "golden", cache_dir, tokenizer=golden_tokenizer(), **settings)
    (directory,) = (path for path in cache_dir.iterdir() if path.is_dir())
    return directory


if __name__ == "__main__":
    shutil.rmtree(CACHE, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(build_golden(Path(folder)), CACHE)

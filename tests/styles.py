"""Small tokenizers of every layout that the library supports, made in code: the same in every run, no download.

Each is a transformers fast tokenizer of the real class over a vocabulary of a few words and all single characters of
ASCII (byte-level BPE: all bytes), so that most texts become several tokens and some become unknown ones.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,
    CamembertTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PegasusTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizerFast,
    T5Tokenizer,
    XLMRobertaTokenizer,
    XLNetTokenizerFast,
)

from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.sample import sample_tokenizer_directory

WORDS = ("the", "a", "of", "born", "was", "in", "German", "Paris", "capital", "what", "is", "who", "river", "1990")
"""Whole words of every vocabulary here, in this order."""

ASCII = tuple(chr(code) for code in range(33, 127))

XLNET_SPECIAL = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>")
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_PATTERNS = {"llama3": _LETTERS + r"\p{N}{1,3}" + _REST, "qwen2": _LETTERS + r"\p{N}" + _REST}


def xlnet_style(**fields: Any) -> Any:
    """Unigram, ``context <sep> question <sep> <cls>``, padded on the left; segment ids 0, 1 and 2."""
    pieces = [*XLNET_SPECIAL, "▁", *(f"▁{word}" for word in WORDS), "ing", "er", "é", *ASCII]
    scores = [0.0] * len(XLNET_SPECIAL) + [-2.0 - 0.125 * index for index in range(len(pieces) - len(XLNET_SPECIAL))]
    return XLNetTokenizerFast(vocab=list(zip(pieces, scores, strict=True)), padding_side="left", **fields)


def sample_style() -> Any:
    """The bundled tokenizer: as `xlnet_style`, with a vocabulary of 2,000 pieces."""
    return AutoTokenizer.from_pretrained(sample_tokenizer_directory())


def bert_style(**fields: Any) -> Any:
    """WordPiece, ``[CLS] question [SEP] context [SEP]``, padded on the right; segment ids 0 and 1."""
    words = (*WORDS, *(word.lower() for word in WORDS))
    pieces = [*BERT_SPECIAL, *words, *ASCII, "é", "中", "##ing", "##er", *(f"##{character}" for character in ASCII)]
    return BertTokenizerFast(vocab=_numbered(pieces), **fields)


def roberta_style(**fields: Any) -> Any:
    """Byte-level BPE, ``<s> question </s></s> context </s>``, padded on the right; no segment ids."""
    pieces, merges = _byte_level(ROBERTA_SPECIAL)
    return RobertaTokenizerFast(vocab=_numbered(pieces), merges=merges, **fields)


def split_style(kind: str) -> Any:
    """Byte-level BPE over the pieces of a published pattern, ``<s> question <s> context``, padded on the right."""
    pieces, merges = _byte_level(("<s>", "<pad>"))
    backend = Tokenizer(models.BPE(_numbered(pieces), merges, ignore_merges=kind == "llama3"))
    if kind != "llama3":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind != "modernbert":
        by_pattern = pre_tokenizers.Split(Regex(SPLIT_PATTERNS[kind]), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([by_pattern, to_bytes])
    around = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 0)])
    # Published files keep a byte-level part there that changes nothing.
    unchanged = processors.ByteLevel(trim_offsets=False, add_prefix_space=True)
    backend.post_processor = processors.Sequence([unchanged, around])
    return PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="<s>", pad_token="<pad>")


def unigram_style(kind: Any, special: Iterable[str], **fields: Any) -> Any:
    """Unigram with the template of its class: no segment ids in the first window of a document."""
    pieces = [*special, "▁", *(f"▁{word}" for word in WORDS), "ing", "er", "é", *ASCII]
    scores = [0.0] * len(tuple(special)) + [-2.0 - 0.125 * index for index in range(len(pieces))]
    return kind(vocab=list(zip(pieces, scores, strict=False)), **fields)


def text_style(kind: Any, **fields: Any) -> Any:
    """Byte-level BPE of a model that generates text, as its class makes it: neither cls nor a template."""
    pieces, merges = _byte_level(("<|endoftext|>",))
    return kind(vocab=_numbered(pieces), merges=merges, **fields)


def llama_style(**fields: Any) -> Any:
    """BPE without bytes, padded on the left, as its class makes it: neither cls nor pad."""
    pieces, merges = _merged(["<unk>", "<s>", "</s>", "▁", *ASCII], "▁")
    return LlamaTokenizer(vocab=_numbered(pieces), merges=merges, **fields)


TEXT_MODELS: dict[str, Callable[[], Any]] = {
    "t5": lambda: unigram_style(T5Tokenizer, ("<pad>", "</s>", "<unk>"), extra_ids=4),
    "pegasus": lambda: unigram_style(PegasusTokenizer, ("<pad>", "</s>", "<unk>"), offset=3),
    "gpt2": lambda: text_style(GPT2Tokenizer),
    "qwen2-text": lambda: text_style(Qwen2Tokenizer),
    "llama": lambda: llama_style(),
    "llama-with-bos": lambda: llama_style(add_bos_token=True),
}
"""Tokenizers without cls, as their classes make them, by the name of the style in which eos takes its place."""


def eos_for_cls(name: str) -> Any:
    """One of `TEXT_MODELS` in which eos stands where cls is looked for."""
    tokenizer = TEXT_MODELS[name]()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if name == "llama-with-bos":
        tokenizer.add_bos_token = True
    if name not in ("t5", "pegasus"):
        tokenizer.add_eos_token = True
    tokenizer.cls_token = tokenizer.eos_token
    return tokenizer


def _byte_level(special: Iterable[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The vocabulary and the merges of the common words."""
    return _merged([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())], "Ġ")


def _merged(characters: list[str], blank: str) -> tuple[list[str], list[tuple[str, str]]]:
    pieces = [*characters]
    merges: list[tuple[str, str]] = []
    for word in (*(f"{blank}{word}" for word in WORDS), *WORDS):
        for stop in range(1, len(word)):
            merges.append((word[:stop], word[stop]))
            pieces.append(word[: stop + 1])
    return pieces, list(dict.fromkeys(merges))


def _numbered(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


@dataclass(frozen=True)
class Style:
    """A tokenizer and what is known of its rows without asking the library.

    Attributes:
        make: Makes a fresh one.
        prefix: Number of special tokens before the first text.
        middle: Number of those between the texts.
        suffix: Number of those after the second text.
        cls_from_start: Place of ``cls`` counted from the first token of a row; None where it is the last token.
        context_first: Whether the context is the first text.
    """

    make: Callable[[], Any]
    prefix: int
    middle: int
    suffix: int
    cls_from_start: int | None = 0
    context_first: bool = False

    @property
    def overhead(self) -> int:
        return self.prefix + self.middle + self.suffix


STYLES: dict[str, Style] = {
    "xlnet": Style(xlnet_style, 0, 1, 2, None, context_first=True),
    "xlnet-sample": Style(sample_style, 0, 1, 2, None, context_first=True),
    "xlnet-padded-right": Style(lambda: _set(xlnet_style(), padding_side="right"), 0, 1, 2, None),
    "xlnet-pad-type-3": Style(lambda: _set(xlnet_style(), _pad_token_type_id=3), 0, 1, 2, None, context_first=True),
    "bert-uncased": Style(bert_style, 1, 1, 1),
    "bert-cased": Style(lambda: bert_style(do_lower_case=False), 1, 1, 1),
    "bert-accents": Style(lambda: bert_style(strip_accents=False, tokenize_chinese_chars=False), 1, 1, 1),
    "bert-padded-left": Style(lambda: _set(bert_style(), padding_side="left"), 1, 1, 1, context_first=True),
    "roberta": Style(roberta_style, 1, 2, 1),
    "roberta-untrimmed": Style(lambda: roberta_style(trim_offsets=False, add_prefix_space=True), 1, 2, 1),
    "modernbert": Style(lambda: split_style("modernbert"), 1, 1, 0),
    "llama3": Style(lambda: split_style("llama3"), 1, 1, 0),
    "qwen2": Style(lambda: split_style("qwen2"), 1, 1, 0),
    "xlm-roberta": Style(lambda: unigram_style(XLMRobertaTokenizer, ROBERTA_SPECIAL), 1, 2, 1),
    "camembert": Style(lambda: unigram_style(CamembertTokenizer, ROBERTA_SPECIAL), 1, 2, 1),
    "t5": Style(lambda: eos_for_cls("t5"), 0, 1, 1, None),
    "pegasus": Style(lambda: eos_for_cls("pegasus"), 0, 0, 1, None),
    "gpt2": Style(lambda: eos_for_cls("gpt2"), 0, 1, 1, None),
    "qwen2-text": Style(lambda: eos_for_cls("qwen2-text"), 0, 1, 1, None),
    "llama": Style(lambda: eos_for_cls("llama"), 0, 1, 1, None, context_first=True),
    "llama-with-bos": Style(lambda: eos_for_cls("llama-with-bos"), 1, 2, 1, None, context_first=True),
    "split-special": Style(lambda: xlnet_style(split_special_tokens=True), 0, 1, 2, None, context_first=True),
}
"""The layouts that tests run over, by name."""


def _set(tokenizer: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(tokenizer, name, value)
    return tokenizer


def make(name: str, memory_tokens: int = 0) -> Any:
    """A fresh tokenizer of a style, with memory tokens where a number is given."""
    tokenizer = STYLES[name].make()
    if memory_tokens:
        configure_memory_tokens(tokenizer, memory_tokens)
    return tokenizer


@cache
def shared(name: str, memory_tokens: int = 0) -> Any:
    """As `make`, one tokenizer for all tests that leave it as it is."""
    return make(name, memory_tokens)

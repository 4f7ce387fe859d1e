"""Tokenizers of the common families, trained on the texts of real data: their vocabularies know four scripts."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast, RobertaTokenizerFast, XLNetTokenizerFast

from memxlnet.sources import open_source
from tests.styles import BERT_SPECIAL, ROBERTA_SPECIAL
from tests.support import XLNET, xquad

LANGUAGES = ("en", "ar", "zh", "hi")

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _texts() -> Iterator[str]:
    for language in LANGUAGES:
        rows = open_source(xquad(language), "test").rows()
        yield from list(dict.fromkeys(row["context"] for row in rows))[:40]


def _trained(backend: Tokenizer, trainer: Any) -> Tokenizer:
    backend.train_from_iterator(_texts(), trainer)
    return backend


def _byte_level_trainer() -> Any:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trainers.BpeTrainer(
        vocab_size=6000, special_tokens=list(ROBERTA_SPECIAL), initial_alphabet=alphabet, show_progress=False
    )


def _with_pairs(backend: Tokenizer, **fields: Any) -> Any:
    """In RoBERTa's layout."""
    ids = {token: backend.token_to_id(token) for token in ("<s>", "</s>")}
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=list(ids.items())
    )
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **special, **fields)


def _xlnet() -> Any:
    return XLNetTokenizerFast.from_pretrained(XLNET)


def _roberta() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained = _trained(backend, _byte_level_trainer())
    # The class reads its vocabulary from the parts.
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return RobertaTokenizerFast(vocab=model["vocab"], merges=merges)


def _llama_3() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _with_pairs(_trained(backend, _byte_level_trainer()))


def _bert(**fields: Any) -> Any:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=fields.get("do_lower_case", True),
        strip_accents=fields.get("strip_accents"),
        handle_chinese_chars=fields.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=6000, special_tokens=list(BERT_SPECIAL), show_progress=False)
    return BertTokenizerFast(vocab=_trained(backend, trainer).get_vocab(), **fields)


def _unigram(normalizer: Any, *splits: Any) -> Any:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits])
    trainer = trainers.UnigramTrainer(
        vocab_size=2500, special_tokens=list(ROBERTA_SPECIAL), unk_token="<unk>", show_progress=False
    )
    return _with_pairs(_trained(backend, trainer))


def _xlm_roberta() -> Any:
    """Split at blanks; a run of them is one."""
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    return _unigram(normalizer, pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace())


def _t5() -> Any:
    """Blanks are pieces of words, and nothing splits before them."""
    normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    return _unigram(normalizer, pre_tokenizers.Metaspace(prepend_scheme="always"))


def _decomposed() -> Any:
    """Letters and marks are pieces of their own."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.NFKD()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=2500, special_tokens=list(ROBERTA_SPECIAL), show_progress=False)
    return _with_pairs(_trained(backend, trainer))


def _byte_fallback() -> Any:
    """As Llama 2: blanks are characters of their own, rare characters become bytes."""
    special = [*ROBERTA_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=special, limit_alphabet=120, max_token_length=12, show_progress=False
    )
    trained = _trained(backend, trainer)
    trained.pre_tokenizer = None
    trained.decoder = decoders.ByteFallback()
    return _with_pairs(trained)


FAMILIES: dict[str, Callable[[], Any]] = {
    "xlnet": _xlnet,
    "roberta": _roberta,
    "llama-3": _llama_3,
    "bert-uncased": _bert,
    "bert-accents": lambda: _bert(do_lower_case=False, strip_accents=False, tokenize_chinese_chars=False),
    "xlm-roberta": _xlm_roberta,
    "t5": _t5,
    "decomposed": _decomposed,
    "llama-2": _byte_fallback,
}


@cache
def family(name: str) -> Any:
    """The tokenizer of a family, one for all tests of a process."""
    return FAMILIES[name]()

"""The pad and cls tokens of a row: which are taken, and that each refusal leads to a tokenizer that works."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from memxlnet.builder.transformers_check import check_against_transformers
from memxlnet.cli.tokenizers import load_tokenizer
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import TokenizerError
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import EncodeSettings
from tests.encode.oracle import encode, features, make_example
from tests.styles import STYLES, TEXT_MODELS, make


def _without(name: str, *tokens: str, **fields: Any) -> Any:
    tokenizer = make(name)
    for token in tokens:
        setattr(tokenizer, f"{token}_token", None)
    for field, value in fields.items():
        setattr(tokenizer, field, value)
    return tokenizer


def _bare(*names: str) -> Any:
    """A tokenizer of words without a template, that names some special tokens."""
    backend = Tokenizer(WordLevel({"<unk>": 0, "<pad>": 1, "<cls>": 2, "<eos>": 3, "a": 4}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", **{f"{name}_token": f"<{name}>" for name in names}
    )


def _of_language() -> Any:
    """As mBART has it: a language after eos, cls outside the template."""
    tokenizer = make("xlm-roberta")
    special = [("</s>", tokenizer.eos_token_id), ("<mask>", tokenizer.mask_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s> <mask>", pair="$A $B </s> <mask>", special_tokens=special
    )
    return tokenizer


REFUSED: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "t5": (TEXT_MODELS["t5"], ["cls_token = tokenizer.eos_token"]),
    "pegasus": (TEXT_MODELS["pegasus"], ["cls_token = tokenizer.eos_token"]),
    "gpt2": (
        TEXT_MODELS["gpt2"],
        ["pad_token = tokenizer.eos_token", "add_eos_token = True", "cls_token = tokenizer.eos_token"],
    ),
    "qwen2": (TEXT_MODELS["qwen2-text"], ["add_eos_token = True", "cls_token = tokenizer.eos_token"]),
    "llama": (
        TEXT_MODELS["llama"],
        ["pad_token = tokenizer.eos_token", "add_eos_token = True", "cls_token = tokenizer.eos_token"],
    ),
    "llama-with-bos": (
        TEXT_MODELS["llama-with-bos"],
        [
            "pad_token = tokenizer.eos_token",
            "add_bos_token = True",
            "add_eos_token = True",
            "cls_token = tokenizer.eos_token",
        ],
    ),
    "language": (_of_language, ["cls_token = tokenizer.eos_token"]),
    "roberta without cls": (lambda: _without("roberta", "cls"), ["cls_token = tokenizer.eos_token"]),
    "bert without cls": (lambda: _without("bert-cased", "cls"), ["cls_token to '[CLS]'"]),
    "bert with another": (lambda: _without("bert-cased", cls_token="[MASK]"), ["cls_token to '[CLS]'"]),
    "bert with an unknown": (lambda: _without("bert-cased", cls_token="[NO]"), ["cls_token to '[CLS]'"]),
    "xlnet without cls": (lambda: _without("xlnet", "cls"), ["cls_token to '<sep>'"]),
    "bert without pad": (
        lambda: _without("bert-cased", "pad"),
        ["add_special_tokens({'pad_token': '[PAD]'})"],
    ),
    "an unknown pad": (
        lambda: _without("roberta", pad_token="[NO]"),
        ["add_special_tokens({'pad_token': '[NO]'})"],
    ),
    "bare": (
        lambda: _bare(),
        [
            "add_special_tokens({'pad_token': '[PAD]'})",
            "add_special_tokens({'eos_token': '</s>'})",
            "add_eos_token = True",
            "cls_token = tokenizer.eos_token",
        ],
    ),
    "bare with eos": (
        lambda: _bare("eos", "pad"),
        ["add_eos_token = True", "cls_token = tokenizer.eos_token"],
    ),
    "bare with cls": (
        lambda: _bare("cls", "pad"),
        ["eos_token = tokenizer.cls_token", "add_eos_token = True", "cls_token = tokenizer.eos_token"],
    ),
}
"""Tokenizers that are refused, and the steps that their errors name."""

_STEP = re.compile(
    r"tokenizer\.(\w+ = [\w.]+|add_special_tokens\(\{[^}]*\}\)|cls_token to a token of the template \(('\S+') or .*)"
)


def _refusal(tokenizer: Any) -> str:
    try:
        read_tokenizer(tokenizer)
    except TokenizerError as error:
        return str(error)
    return ""


def _follow(tokenizer: Any) -> list[str]:
    """Do what the errors name, to the letter, until there is no error; returns what was done."""
    done: list[str] = []
    while message := _refusal(tokenizer):
        steps = list(_STEP.finditer(message))
        assert steps, message
        assert len(done) < 4, f"still refused after {done}: {message}"
        for step in steps:
            done.append(f"cls_token to {step[2]}" if step[2] else step[1])
            exec(f"tokenizer.cls_token = {step[2]}" if step[2] else step[0], {"tokenizer": tokenizer})
    return done


@pytest.mark.parametrize("name", REFUSED)
def test_following_the_error_to_the_letter_ends_in_a_tokenizer_that_works(name: str) -> None:
    make_one, steps = REFUSED[name]
    tokenizer = make_one()
    assert _follow(tokenizer) == steps
    settings = EncodeSettings(max_seq_length=24, doc_stride=4)
    check_against_transformers(tokenizer, read_tokenizer(tokenizer), settings, [])


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_the_steps_are_saved_with_the_tokenizer(name: str, tmp_path: Any) -> None:
    """As a directory for the command line."""
    tokenizer = TEXT_MODELS[name]()
    _follow(tokenizer)
    layout = read_tokenizer(tokenizer).layout
    assert layout == read_tokenizer(make(name)).layout
    tokenizer.save_pretrained(tmp_path)
    assert read_tokenizer(load_tokenizer(str(tmp_path))).layout == layout


def test_what_an_error_holds() -> None:
    with pytest.raises(TokenizerError) as caught:
        read_tokenizer(TEXT_MODELS["qwen2-text"]())
    assert str(caught.value) == (
        "tokenizer Qwen2Tokenizer: expected a cls token in the template of a pair, to which segments without an answer "
        "point, found none and a template with no special tokens; let eos take its place after each text: "
        "tokenizer.add_eos_token = True; tokenizer.cls_token = tokenizer.eos_token"
    )
    with pytest.raises(TokenizerError, match=r"'\[NO\]'.*'\[CLS\]', '\[SEP\]'"):
        read_tokenizer(_without("bert-cased", cls_token="[NO]"))


PER_WORD = 1  # tokens of "a"


def _with_pair(pair: str) -> Any:
    tokenizer = make("xlm-roberta")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("pair", "place", "is_last"),  # which part of the pair it is
    [
        ("<s> $A </s> $B", 0, False),
        ("$A <s> $B </s>", 1, False),
        ("$A $B <s>", 2, False),
        ("<s> $A <s> $B", 0, False),  # none after both texts: the first
        ("<s> $A <s> $B </s>", 0, False),
        ("$A <s> $B <s>", 3, True),
        ("<s> $A <s> <s> $B <s> </s> <s>", 7, True),
    ],
)
@pytest.mark.parametrize("memory_tokens", [0, 2])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_the_cls_after_both_texts_counts_else_the_first(
    pair: str, place: int, is_last: bool, memory_tokens: int, padding_side: str
) -> None:
    tokenizer = _with_pair(pair)
    tokenizer.padding_side = padding_side
    if memory_tokens:
        configure_memory_tokens(tokenizer, memory_tokens)
    layout = read_tokenizer(tokenizer).layout
    assert layout.cls_last is is_last
    examples = [make_example("", ""), make_example("a", "a"), make_example("a a a", "a a")]
    rows = features(encode(tokenizer, examples, max_seq_length=30, doc_stride=1))
    assert rows[0]["cls_index"] == layout.padded_cls_index(30)
    for row, (context, question) in zip(rows, [(0, 0), (1, 1), (3, 2)], strict=True):
        first, second = (context, question) if padding_side == "left" else (question, context)
        sizes = {"$A": first * PER_WORD + memory_tokens, "$B": second * PER_WORD + memory_tokens}
        before = sum(sizes.get(part, 1) for part in pair.split()[:place])
        assert row["cls_index"] == row["attention_mask"].index(1) + before
        assert row["input_ids"][row["cls_index"]] == layout.cls_id


@pytest.mark.parametrize("name", STYLES)
def test_only_layouts_with_the_last_of_several_write_so(name: str) -> None:
    """Fingerprints of other tokenizers stay as they were."""
    layout = read_tokenizer(make(name)).layout
    values = layout.to_json()
    assert values.get("cls_last", False) is layout.cls_last
    assert ("cls_last" in values) == (name in ("t5", "gpt2", "qwen2-text", "llama", "llama-with-bos"))
    assert RowLayout.from_json(json.loads(json.dumps(values))) == layout
